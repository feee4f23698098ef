/* q-task-launcher.h: QTaskLauncher, worker processes, and their serving side
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <qtask/q-task.h>

G_BEGIN_DECLS

#define Q_TYPE_TASK_LAUNCHER (q_task_launcher_get_type ())

Q_TASK_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (QTaskLauncher, q_task_launcher, Q, TASK_LAUNCHER, GObject)

/**
 * QTaskTransport:
 * @Q_TASK_TRANSPORT_INHERITED_FD: through a socket that the worker process inherits; its
 *   number is in the environment variable `QTASK_FD`
 * @Q_TASK_TRANSPORT_STDIO: through the standard input and output of the worker process, for
 *   `ssh` and the like
 *
 * How a launcher and its worker processes talk.
 *
 * Since: 1.0
 */
typedef enum {
  Q_TASK_TRANSPORT_INHERITED_FD,
  Q_TASK_TRANSPORT_STDIO
} QTaskTransport;

/**
 * QTaskServeFunc:
 * @task: the task, on this side: to report progress, to set the result, to hear of its
 *   cancellation, and its channel
 * @request: what was asked for
 * @opaque: (closure): what was given along with the function
 * @error: return location for an error
 *
 * Does the work of a task in a worker process; see [func@QTask.Task.serve].
 *
 * Returns: %TRUE on success, %FALSE with @error set otherwise
 *
 * Since: 1.0
 */
typedef gboolean (*QTaskServeFunc) (QTask     *task,
                                    GVariant  *request,
                                    gpointer   opaque,
                                    GError   **error);

Q_TASK_AVAILABLE_IN_1_0
QTaskLauncher      *q_task_launcher_new                       (const char * const   *argv);
Q_TASK_AVAILABLE_IN_1_0
const char * const *q_task_launcher_get_argv                  (QTaskLauncher        *launcher);

/* How processes are started */

Q_TASK_AVAILABLE_IN_1_0
const char * const *q_task_launcher_get_environment           (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_environment           (QTaskLauncher        *launcher,
                                                               const char * const   *environment);
Q_TASK_AVAILABLE_IN_1_0
const char         *q_task_launcher_get_directory             (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_directory             (QTaskLauncher        *launcher,
                                                               const char           *directory);
Q_TASK_AVAILABLE_IN_1_0
QTaskTransport      q_task_launcher_get_transport             (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_transport             (QTaskLauncher        *launcher,
                                                               QTaskTransport        transport);
Q_TASK_AVAILABLE_IN_1_0
gboolean            q_task_launcher_get_capture_stderr        (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_capture_stderr        (QTaskLauncher        *launcher,
                                                               gboolean              capture_stderr);

/* Limits */

Q_TASK_AVAILABLE_IN_1_0
guint               q_task_launcher_get_max_processes         (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_max_processes         (QTaskLauncher        *launcher,
                                                               guint                 max_processes);
Q_TASK_AVAILABLE_IN_1_0
guint               q_task_launcher_get_max_tasks_per_process (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_max_tasks_per_process (QTaskLauncher        *launcher,
                                                               guint                 max_tasks);
Q_TASK_AVAILABLE_IN_1_0
gsize               q_task_launcher_get_max_message_size      (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_max_message_size      (QTaskLauncher        *launcher,
                                                               gsize                 max_message_size);
Q_TASK_AVAILABLE_IN_1_0
gint64              q_task_launcher_get_idle_timeout          (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_idle_timeout          (QTaskLauncher        *launcher,
                                                               gint64                idle_timeout);
Q_TASK_AVAILABLE_IN_1_0
gint64              q_task_launcher_get_kill_timeout          (QTaskLauncher        *launcher);
Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_set_kill_timeout          (QTaskLauncher        *launcher,
                                                               gint64                kill_timeout);

/* Run */

Q_TASK_AVAILABLE_IN_1_0
void                q_task_launcher_run_async                 (QTaskLauncher        *launcher,
                                                               GVariant             *request,
                                                               GCancellable         *cancellable,
                                                               GAsyncReadyCallback   callback,
                                                               gpointer              user_data);
Q_TASK_AVAILABLE_IN_1_0
GVariant           *q_task_launcher_run_finish                (QTaskLauncher        *launcher,
                                                               GAsyncResult         *result,
                                                               GError              **error);

/* In a worker process */

Q_TASK_AVAILABLE_IN_1_0
int                 q_task_serve                              (QTaskServeFunc        func,
                                                               gpointer              opaque,
                                                               GDestroyNotify        destroy);

G_END_DECLS
