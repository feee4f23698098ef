/* q-task-server-private.h: a worker process, from its own side
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-launcher.h"

#include "q-task-channel-link-private.h"
#include "q-task-peer-private.h"
#include "q-task-private.h"
#include "q-task-protocol-private.h"

G_BEGIN_DECLS

typedef struct
{
  QTaskRunner     runner;
  int             ref_count; /* atomic: a task that somebody keeps has one */
  QTaskServeFunc  func;
  gpointer        opaque;
  GThread        *watcher;

  /* By who reads */
  gboolean        has_hello;
  gboolean        is_gone;          /* the parent has, or it is not to be understood */
  gboolean        is_failed;        /* ... the latter */
  gsize           max_message_size; /* of the parent */
  GQueue          inbox;            /* of messages that the channel has no room for */
  gboolean        has_end;          /* the owner has closed its end */
  gint64          exit_at;          /* or 0 */
  gint64          progressed_at;

  /* With the lock of the peer; but for the decoder, which is of who reads */
  QTaskPeer       peer;
  QTaskChannel   *channel;  /* the owner's end; of the task, or NULL. Set by the serving thread */
  gboolean        sent_end;
  int             n_pumps;  /* atomic, any thread */

  GMutex          lock;
  GCond           cond;     /* any of these has changed */
  QTaskSignal     wake;     /* that the watcher polls */
  QTask          *task;     /* that runs, or NULL */
  guint64         n_tasks;  /* begun */
  gboolean        is_hurried;
  gboolean        is_watching;
  gboolean        is_asleep;
  gboolean        wants_back;
  gboolean        wants_progress;
  gboolean        is_ending;
} QTaskServer;

QTaskServer *q_task_server_new           (QTaskServeFunc        func,
                                          gpointer              opaque);
void         q_task_server_unref         (QTaskServer          *server);
gboolean     q_task_server_open          (QTaskServer          *server,
                                          int                   in_fd,
                                          int                   out_fd,
                                          GError              **error);
void         q_task_server_close         (QTaskServer          *server);

/* By the serving thread, while no task runs */
gboolean     q_task_server_read          (QTaskServer          *server,
                                          gboolean              wait,
                                          QTaskWireFrame       *frame);
void         q_task_server_fail          (QTaskServer          *server,
                                          GError               *error);
void         q_task_server_send          (QTaskServer          *server,
                                          guint8                type,
                                          GByteArray           *head,
                                          gconstpointer         data,
                                          gsize                 size);
void         q_task_server_send_progress (QTaskServer          *server,
                                          QTask                *task);
void         q_task_server_flush         (QTaskServer          *server);
void         q_task_server_open_channel  (QTaskServer          *server,
                                          QTask                *task);
void         q_task_server_close_channel (QTaskServer          *server);

/* Around the run of a task */
void         q_task_server_begin         (QTaskServer          *server,
                                          QTask                *task);
void         q_task_server_end           (QTaskServer          *server);

G_END_DECLS
