/* q-task.h: QTask, a background task
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <gio/gio.h>

#include <qtask/q-task-channel.h>
#include <qtask/q-task-error.h>
#include <qtask/q-task-version.h>

G_BEGIN_DECLS

/**
 * QTaskState:
 * @Q_TASK_STATE_NEW: not started
 * @Q_TASK_STATE_QUEUED: in the queue of a pool, waiting for a thread
 * @Q_TASK_STATE_RUNNING: its worker is running
 * @Q_TASK_STATE_SYNCING: its worker waits for its owner; see
 *   [method@QTask.Task.sync]
 * @Q_TASK_STATE_STOPPING: its worker is running, or syncing, and has been
 *   asked to stop
 * @Q_TASK_STATE_FINISHED: over
 * @Q_TASK_STATE_STOPPED: over because it was stopped: withdrawn from the
 *   queue, or asked to stop and ended with an error
 *
 * What the worker of a task does. The outcome may be fixed earlier: a task
 * with `return-on-cancel` has its outcome when it is cancelled, while its
 * worker is still `STOPPING`. Whether the callback has run is
 * [method@QTask.Task.get_completed].
 *
 * Since: 1.0
 */
typedef enum {
  Q_TASK_STATE_NEW,
  Q_TASK_STATE_QUEUED,
  Q_TASK_STATE_RUNNING,
  Q_TASK_STATE_SYNCING,
  Q_TASK_STATE_STOPPING,
  Q_TASK_STATE_FINISHED,
  Q_TASK_STATE_STOPPED
} QTaskState;

#define Q_TYPE_TASK (q_task_get_type ())

Q_TASK_AVAILABLE_IN_1_0
G_DECLARE_DERIVABLE_TYPE (QTask, q_task, Q, TASK, GObject)

/**
 * QTaskFunc:
 * @task: the task that completed
 * @opaque: (closure): what was given along with the function
 *
 * Called once, by the owner of @task, when @task has completed. The outcome
 * is read with [method@QTask.Task.propagate_error],
 * [method@QTask.Task.propagate_object] and the like.
 *
 * Since: 1.0
 */
typedef void (*QTaskFunc) (QTask    *task,
                           gpointer  opaque);

/**
 * QTaskWorker:
 * @task: the task that runs
 * @opaque: (closure): what was given along with the function
 * @error: return location for a #GError
 *
 * The work of a task, called in a thread of a pool.
 *
 * To succeed, optionally set a result with
 * [method@QTask.Task.set_result_object] and the like, and return %TRUE. To
 * fail, set @error and return %FALSE. A worker that returns %FALSE with no
 * error gives %Q_TASK_ERROR_FAILED, whatever it set before. (In Python both
 * an exception and a forgotten `return True` arrive so.)
 *
 * A worker that may take long looks at [method@QTask.Task.is_cancelled]
 * now and then, or passes on [method@QTask.Task.get_stop_cancellable].
 *
 * Returns: %TRUE for success, %FALSE for failure
 *
 * Since: 1.0
 */
typedef gboolean (*QTaskWorker) (QTask     *task,
                                 gpointer   opaque,
                                 GError   **error);

/**
 * QTaskStep:
 * @Q_TASK_STEP_FAILED: the task has failed; it is over
 * @Q_TASK_STEP_CHECK_IN: there is more to do: call the worker again
 * @Q_TASK_STEP_SYNC: as `CHECK_IN`, after the owner was told and has called
 *   [method@QTask.Task.resume]
 * @Q_TASK_STEP_FINISHED: the task has succeeded; it is over
 * @Q_TASK_STEP_STOPPED: the task gave up, since it was asked to or not; it
 *   is over, and reads as cancelled unless an error was set
 *
 * What a [callback@QTask.TaskStepWorker] returns.
 *
 * Since: 1.0
 */
typedef enum {
  Q_TASK_STEP_FAILED,
  Q_TASK_STEP_CHECK_IN,
  Q_TASK_STEP_SYNC,
  Q_TASK_STEP_FINISHED,
  Q_TASK_STEP_STOPPED
} QTaskStep;

/**
 * QTaskStepWorker:
 * @task: the task that runs
 * @opaque: (closure): what was given along with the function
 * @error: return location for a #GError
 *
 * A step of the work of a task, called in a thread of a pool, and again and
 * again until it says that the task is over, not always in the same thread.
 * What it keeps from step to step is in @opaque.
 *
 * Between steps the pool may run something more urgent. A step that returns
 * %Q_TASK_STEP_SYNC holds no thread until the owner has resumed it.
 *
 * When the task has been asked to stop, the worker is called once more: it
 * sees [method@QTask.Task.is_cancelled], and may wind up. If then it does
 * not say that the task is over, the task is stopped all the same, unless it
 * is [property@QTask.Task:run-cancelled].
 *
 * A step that sets @error ends the task with it, whatever it returns. One
 * that returns %Q_TASK_STEP_FAILED with no error gives
 * %Q_TASK_ERROR_FAILED.
 *
 * Returns: what to do next
 *
 * Since: 1.0
 */
typedef QTaskStep (*QTaskStepWorker) (QTask     *task,
                                      gpointer   opaque,
                                      GError   **error);

/**
 * QTaskSyncFunc:
 * @task: a task that syncs
 * @opaque: (closure): what was given along with the function
 *
 * Called by the owner of @task when its worker has come to a sync point. The
 * worker does not run meanwhile; it goes on after
 * [method@QTask.Task.resume], which may be called here, and then takes
 * effect when this returns, or at any time later.
 *
 * Since: 1.0
 */
typedef void (*QTaskSyncFunc) (QTask    *task,
                               gpointer  opaque);

/**
 * QTaskClass::run:
 * @task: a task
 * @error: return location for a #GError
 *
 * The work of the task, called in a thread of a pool when the task was started with no worker
 * of its own. It succeeds and fails as a [callback@QTask.TaskWorker] does.
 *
 * Called from a thread of a pool.
 *
 * Returns: %TRUE for success, %FALSE for failure
 *
 * Since: 1.0
 */

/**
 * QTaskClass:
 * @parent_class: the parent class
 * @run: the work, called in a thread of a pool when the task was started with
 *   no worker of its own; fails as [callback@QTask.TaskWorker] does
 *
 * The class structure of [class@QTask.Task].
 *
 * Since: 1.0
 */
struct _QTaskClass
{
  GObjectClass parent_class;

  gboolean (*run) (QTask   *task,
                   GError **error);

  /*< private >*/
  gpointer padding[8];
};

/* Make */

Q_TASK_AVAILABLE_IN_1_0
QTask        *q_task_new                      (GObject              *source_object,
                                               QTaskFunc             func,
                                               gpointer              opaque,
                                               GDestroyNotify        destroy);
Q_TASK_AVAILABLE_IN_1_0
QTask        *q_task_new_async                (gpointer              source_object,
                                               GCancellable         *cancellable,
                                               GAsyncReadyCallback   callback,
                                               gpointer              user_data);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_func                 (QTask                *task,
                                               QTaskFunc             func,
                                               gpointer              opaque,
                                               GDestroyNotify        destroy);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_report_error             (gpointer              source_object,
                                               GAsyncReadyCallback   callback,
                                               gpointer              user_data,
                                               gpointer              source_tag,
                                               GError               *error);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_report_new_error         (gpointer              source_object,
                                               GAsyncReadyCallback   callback,
                                               gpointer              user_data,
                                               gpointer              source_tag,
                                               GQuark                domain,
                                               int                   code,
                                               const char           *format,
                                               ...) G_GNUC_PRINTF (7, 8);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_is_valid                 (gpointer              result,
                                               gpointer              source_object);

/* Describe */

Q_TASK_AVAILABLE_IN_1_0
GObject      *q_task_get_source               (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gpointer      q_task_get_source_object        (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
const char   *q_task_get_name                 (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_name                 (QTask                *task,
                                               const char           *name);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_static_name          (QTask                *task,
                                               const char           *name);
Q_TASK_AVAILABLE_IN_1_0
int           q_task_get_priority             (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_priority             (QTask                *task,
                                               int                   priority);
Q_TASK_AVAILABLE_IN_1_0
int           q_task_get_completion_priority  (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_completion_priority  (QTask                *task,
                                               int                   priority);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_get_check_cancellable    (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_check_cancellable    (QTask                *task,
                                               gboolean              check_cancellable);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_get_return_on_cancel     (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_set_return_on_cancel     (QTask                *task,
                                               gboolean              return_on_cancel);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_get_run_cancelled        (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_run_cancelled        (QTask                *task,
                                               gboolean              run_cancelled);
Q_TASK_AVAILABLE_IN_1_0
gpointer      q_task_get_source_tag           (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_source_tag           (QTask                *task,
                                               gpointer              source_tag);
Q_TASK_AVAILABLE_IN_1_0
gpointer      q_task_get_task_data            (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_task_data            (QTask                *task,
                                               gpointer              task_data,
                                               GDestroyNotify        task_data_destroy);
Q_TASK_AVAILABLE_IN_1_0
GMainContext *q_task_get_context              (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_context              (QTask                *task,
                                               GMainContext         *context);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_attach_source            (QTask                *task,
                                               GSource              *source,
                                               GSourceFunc           callback);

/* Outcome */

Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_error                (QTask                *task,
                                               GError               *error);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_new_error            (QTask                *task,
                                               GQuark                domain,
                                               int                   code,
                                               const char           *format,
                                               ...) G_GNUC_PRINTF (4, 5);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_set_error_if_cancelled   (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_result_pointer       (QTask                *task,
                                               gpointer              result,
                                               GDestroyNotify        result_destroy);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_result_int           (QTask                *task,
                                               gssize                result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_result_boolean       (QTask                *task,
                                               gboolean              result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_result_value         (QTask                *task,
                                               const GValue         *result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_result_variant       (QTask                *task,
                                               GVariant             *result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_result_object        (QTask                *task,
                                               GObject              *result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_result_bytes         (QTask                *task,
                                               GBytes               *result);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_had_error                (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
const GError *q_task_get_error                (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gpointer      q_task_get_result_pointer       (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_propagate_error          (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gpointer      q_task_propagate_pointer        (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gssize        q_task_propagate_int            (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_propagate_boolean        (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_propagate_value          (QTask                *task,
                                               GValue               *value,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
GValue       *q_task_propagate_boxed_value    (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
GVariant     *q_task_propagate_variant        (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
GObject      *q_task_propagate_object         (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
GBytes       *q_task_propagate_bytes          (QTask                *task,
                                               GError              **error);

/* Complete */

Q_TASK_AVAILABLE_IN_1_0
void          q_task_complete                 (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_get_completed            (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_pointer           (QTask                *task,
                                               gpointer              result,
                                               GDestroyNotify        result_destroy);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_int               (QTask                *task,
                                               gssize                result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_boolean           (QTask                *task,
                                               gboolean              result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_value             (QTask                *task,
                                               GValue               *result);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_error             (QTask                *task,
                                               GError               *error);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_new_error         (QTask                *task,
                                               GQuark                domain,
                                               int                   code,
                                               const char           *format,
                                               ...) G_GNUC_PRINTF (4, 5);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_new_error_literal (QTask                *task,
                                               GQuark                domain,
                                               int                   code,
                                               const char           *message);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_return_prefixed_error    (QTask                *task,
                                               GError               *error,
                                               const char           *format,
                                               ...) G_GNUC_PRINTF (3, 4);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_return_error_if_cancelled (QTask               *task);

/* Cancel */

Q_TASK_AVAILABLE_IN_1_0
GCancellable *q_task_get_cancellable          (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
GCancellable *q_task_get_stop_cancellable     (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_cancel                   (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_is_cancelled             (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gint64        q_task_get_timeout              (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_timeout              (QTask                *task,
                                               gint64                timeout);

/* Progress */

Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_progress             (QTask                *task,
                                               double                fraction,
                                               const char           *text);
Q_TASK_AVAILABLE_IN_1_0
double        q_task_get_progress             (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
char         *q_task_dup_progress_text        (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gint64        q_task_get_progress_interval    (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_progress_interval    (QTask                *task,
                                               gint64                interval);

/* Talk: the channel of the task, and sync points */

Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_open_channel             (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
QTaskChannel *q_task_get_channel              (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
QTaskChannel *q_task_get_worker_channel       (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_sync_func            (QTask                *task,
                                               QTaskSyncFunc         func,
                                               gpointer              opaque,
                                               GDestroyNotify        destroy);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_sync                     (QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_resume                   (QTask                *task,
                                               gboolean              stop);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_get_outlive              (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_set_outlive              (QTask                *task,
                                               gboolean              outlive);

/* Wait */

Q_TASK_AVAILABLE_IN_1_0
QTaskState    q_task_poll                     (QTask                *task);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_wait                     (QTask                *task,
                                               GCancellable         *cancellable,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_wait_until               (QTask                *task,
                                               gint64                end_time,
                                               GCancellable         *cancellable,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_wait_async               (QTask                *task,
                                               GCancellable         *cancellable,
                                               GAsyncReadyCallback   callback,
                                               gpointer              user_data);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_wait_finish              (QTask                *task,
                                               GAsyncResult         *result,
                                               GError              **error);

G_END_DECLS
