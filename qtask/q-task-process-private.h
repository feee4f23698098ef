/* q-task-process-private.h: worker processes, from the side of their parent
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-launcher-private.h"
#include "q-task-peer-private.h"
#include "q-task-protocol-private.h"

G_BEGIN_DECLS

/* How much of the standard error of a process is kept */
#define Q_TASK_PROCESS_STDERR_SIZE 4096

/* What a task has while it is a launcher's: its worker data, which its owner frees. */
typedef struct
{
  GVariant     *request; /* as it is sent */
  QTaskProcess *process; /* that runs it, or NULL; with the lock of the core */
} QTaskJob;

typedef enum {
  Q_TASK_PROCESS_IDLE,
  Q_TASK_PROCESS_BUSY,
  Q_TASK_PROCESS_GONE  /* no more tasks; the manager closes and reaps it, and then, if there is
                        * one, ends its task */
} QTaskProcessState;

/* Locks: what a thread takes, it takes in this order: read_lock, that of peer, that of the core.
 * While it holds that of the core it calls no function of a task. */
struct _QTaskProcess
{
  int                ref_count;  /* atomic */
  QTaskLauncherCore *core;       /* owned */
  char              *name;       /* argv[0] */
  gsize              max_message_size;

  /* With the lock of the core */
  QTaskProcessState  state;
  GPid               pid;        /* 0 once it was reaped */
  int                status;     /* of waitpid(), then */
  gboolean           has_status; /* nobody else has reaped it */
  QTask             *task;       /* owned: the reference of the run */
  gboolean           is_starting; /* somebody sends its request, and until then has it too */
  guint              n_tasks;    /* that it has done */
  gboolean           is_owned;   /* its source is to read; else the manager does */
  gint64             takeover_at;
  gint64             idle_since;
  gint64             kill_at;    /* or 0 */
  gint64             reap_at;    /* when to look again */
  gint64             reap_delay;
  gboolean           is_asked;   /* the task was asked to stop */
  gboolean           is_killed;  /* ... and when that did not help, it was killed */
  gboolean           is_closed;
  GError            *failure;    /* why it is gone, if it was not that it ended */
  GSource           *source;     /* owned; in the context of an owner */
  GMainContext      *source_context; /* only compared */

  /* With read_lock */
  GMutex             read_lock;
  gboolean           has_hello;
  QTaskPending       stalled;    /* a message that did not fit into the channel of the task */
  QTaskLink         *stalled_link; /* of that channel, while there is one; owned */
  int                is_paused;  /* likewise; also read atomically without */
  gsize              overflow;   /* what came beyond that, from a task that is to stop */
  gboolean           is_over;    /* of no use any more */

  int                has_more;   /* to serve that was read already, or may be; atomic, any thread */

  /* With the lock of the peer */
  QTaskPeer          peer;
  QTask             *sending;    /* the task, once its request is sent; no reference */
  GByteArray        *head;       /* to write what is before a request */
  guint64            window;     /* bytes on their way to it */
  gboolean           sent_hello;
  gboolean           sent_end;
  int                n_pumps;    /* wanted; atomic, any thread */

  /* By the manager */
  int                stderr_fd;
  GString           *stderr_text;
};

/* q-task-process.c */
void          q_task_process_setup_copy   (QTaskProcessSetup       *copy,
                                           const QTaskProcessSetup *setup);
void          q_task_process_setup_clear  (QTaskProcessSetup       *setup);

QTaskProcess *q_task_process_spawn        (QTaskLauncherCore       *core,
                                           const QTaskProcessSetup *setup,
                                           GError                 **error);
QTaskProcess *q_task_process_ref          (QTaskProcess            *process);
void          q_task_process_unref        (QTaskProcess            *process);

void          q_task_process_watch_channel (QTask                *task);
void          q_task_process_unwatch_channel (QTask              *task);
gboolean      q_task_process_start_task   (QTaskProcess            *process,
                                           QTask                   *task);
void          q_task_process_cancel_task  (QTaskProcess            *process,
                                           QTask                   *task);
void          q_task_process_take_task_locked (QTaskProcess         *process,
                                               QTask                *task);
void          q_task_process_pump         (QTaskProcess            *process);
void          q_task_process_flush        (QTaskProcess            *process);
void          q_task_process_read_stderr  (QTaskProcess            *process);
void          q_task_process_close        (QTaskProcess            *process);
GError       *q_task_process_new_error    (QTaskProcess            *process);

/* q-task-process-read.c */
void          q_task_process_drop_stalled_locked (QTaskProcess      *process);
gboolean      q_task_process_is_usable    (QTaskProcess            *process);
QTask        *q_task_process_serve        (QTaskProcess            *process,
                                           QTaskProcessEnd         *end);

/* q-task-launcher-core.c */
void          q_task_process_failed       (QTaskProcess            *process,
                                           GError                  *failure);

G_END_DECLS
