/* q-task-launcher-private.h: what is behind a QTaskLauncher
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-launcher.h"

#include "q-task-channel-link-private.h"
#include "q-task-private.h"

G_BEGIN_DECLS

typedef struct _QTaskLauncherCore QTaskLauncherCore;
typedef struct _QTaskProcess      QTaskProcess;

/* How long the source of an owner is the one to read */
#define Q_TASK_LAUNCHER_TAKEOVER_USEC (5 * G_TIME_SPAN_MILLISECOND)

/* At first, and where there is none for a process that was closed */
#define Q_TASK_LAUNCHER_KILL_TIMEOUT (5 * G_TIME_SPAN_SECOND)

/* How processes are started; a copy for each start. */
typedef struct
{
  char           **argv;
  char           **environment;  /* or NULL, to inherit */
  char            *directory;    /* or NULL, to inherit */
  QTaskTransport   transport;
  gboolean         capture_stderr;
  gsize            max_message_size;
} QTaskProcessSetup;

/* What a task has come to. */
typedef struct
{
  GVariant *result;
  GError   *error;
} QTaskProcessEnd;

/* What outlives the launcher: the queue, the processes, and the thread that manages them. All
 * that is not constant is protected by the lock. */
struct _QTaskLauncherCore
{
  QTaskRunner       runner;
  int               ref_count;    /* atomic */
  GMutex            lock;
  QTaskProcessSetup setup;
  guint             max_processes;
  guint             max_tasks;    /* of a process, or 0 */
  gint64            idle_timeout; /* or -1 */
  gint64            kill_timeout; /* or -1 */
  gboolean          is_dropped;
  QTaskQueue        queue;
  GPtrArray        *processes;    /* owned; those used last are last */
  guint             n_gone;       /* of these */
  gint64            spawn_at;     /* not before, if one could not be started; or 0 */
  GThread          *manager;      /* once there is one; detached */
  QTaskSignal       wake;         /* set when it is to look, while it sleeps */
  gboolean          is_woken;
  gint64            wakes_at;     /* when it looks next; 0 while it does not sleep */
};

QTaskLauncherCore *q_task_launcher_get_core     (QTaskLauncher           *launcher);

/* q-task-launcher-core.c */
QTaskLauncherCore *q_task_launcher_core_new     (void);
QTaskLauncherCore *q_task_launcher_core_ref     (QTaskLauncherCore       *core);
void               q_task_launcher_core_unref   (QTaskLauncherCore       *core);
void               q_task_launcher_core_drop    (QTaskLauncherCore       *core);
gboolean           q_task_launcher_core_push    (QTaskLauncherCore       *core,
                                                 QTask                   *task,
                                                 GVariant                *request,
                                                 GError                 **error);
void               q_task_launcher_core_finish  (QTaskLauncherCore       *core,
                                                 QTask                   *task,
                                                 QTaskProcessEnd          end,
                                                 gboolean                 is_here);
void               q_task_launcher_core_requeue (QTaskLauncherCore       *core,
                                                 QTask                   *task);
void               q_task_launcher_core_next    (QTaskProcess            *process);
void               q_task_launcher_core_wake    (QTaskLauncherCore       *core);

/* The same, with the lock of the core */
void               q_task_launcher_core_wake_locked (QTaskLauncherCore   *core);
gboolean           q_task_launcher_core_wants_process_locked
                                                (QTaskLauncherCore       *core);
gboolean           q_task_launcher_core_outdates_locked
                                                (QTaskProcess            *process);
gboolean           q_task_launcher_core_is_surplus_locked
                                                (QTaskProcess            *process);
void               q_task_launcher_core_retire_locked
                                                (QTaskProcess            *process);
QTask             *q_task_launcher_core_pop_locked (QTaskLauncherCore    *core);
QTask             *q_task_launcher_core_assign_locked
                                                (QTaskProcess            *process,
                                                 QTask                   *task);

/* q-task-launcher-manager.c */
gboolean           q_task_launcher_core_ensure_manager
                                                (QTaskLauncherCore       *core,
                                                 GError                 **error);

G_END_DECLS
