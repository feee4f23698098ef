/* q-task-pool.h: QTaskPool, the threads that run tasks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <qtask/q-task.h>

G_BEGIN_DECLS

#define Q_TYPE_TASK_POOL (q_task_pool_get_type ())

Q_TASK_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (QTaskPool, q_task_pool, Q, TASK_POOL, GObject)

/**
 * QTaskPoolCloseMode:
 * @Q_TASK_POOL_CLOSE_DRAIN: run what is queued
 * @Q_TASK_POOL_CLOSE_STOP: cancel what is queued and what is running
 *
 * What becomes of the tasks of a pool that is closed.
 *
 * Since: 1.0
 */
typedef enum {
  Q_TASK_POOL_CLOSE_DRAIN,
  Q_TASK_POOL_CLOSE_STOP
} QTaskPoolCloseMode;

/**
 * QTaskPoolThreadFunc:
 * @user_data: (closure): what was given along with the function
 *
 * Called in each thread of a pool, before its first task or after its last one, which may be
 * when the pool itself has gone.
 *
 * Since: 1.0
 */
typedef void (*QTaskPoolThreadFunc) (gpointer user_data);

/**
 * QTaskPoolForFunc:
 * @begin: the first index
 * @end: the one after the last
 * @user_data: (closure): what was given along with the function
 * @error: return location for an error
 *
 * A part of a loop: called by [method@QTask.TaskPool.parallel_for], in several threads at once,
 * for the indexes from @begin to @end, without @end. It reports an error as any GLib function
 * does.
 *
 * Returns: %TRUE to go on, %FALSE with @error set to end the loop
 *
 * Since: 1.0
 */
typedef gboolean (*QTaskPoolForFunc) (gsize     begin,
                                      gsize     end,
                                      gpointer  user_data,
                                      GError  **error);

#define Q_TYPE_TASK_POOL_STATS (q_task_pool_stats_get_type ())

typedef struct _QTaskPoolStats QTaskPoolStats;

/**
 * QTaskPoolStats:
 * @threads: threads that the pool has now, idle ones included
 * @running: tasks whose worker is running now, parked and syncing ones included
 * @queued: tasks in the queue now
 * @parked: of the running ones, those that wait now: for another task, or for
 *   their owner
 * @finished: tasks that ended well, since the pool was made
 * @failed: tasks that ended with an error and had not been asked to stop
 * @stopped: tasks that were withdrawn from the queue, or asked to stop and
 *   ended with an error
 * @wait_time: microseconds that tasks spent in the queue, added up, while
 *   timing was on
 * @run_time: microseconds that workers ran, added up, while timing was on
 *
 * What [method@QTask.TaskPool.get_stats] tells about a pool.
 *
 * Since: 1.0
 */
struct _QTaskPoolStats
{
  guint   threads;
  guint   running;
  guint   queued;
  guint   parked;
  guint64 finished;
  guint64 failed;
  guint64 stopped;
  gint64  wait_time;
  gint64  run_time;

  /*< private >*/
  guint64 padding[4];
};

Q_TASK_AVAILABLE_IN_1_0
GType           q_task_pool_stats_get_type         (void);
Q_TASK_AVAILABLE_IN_1_0
QTaskPoolStats *q_task_pool_stats_copy             (const QTaskPoolStats *stats);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_stats_free             (QTaskPoolStats       *stats);

Q_TASK_AVAILABLE_IN_1_0
QTaskPool      *q_task_pool_new                    (const char           *name,
                                                    guint                 max_threads,
                                                    guint                 max_queued);
Q_TASK_AVAILABLE_IN_1_0
QTaskPool      *q_task_pool_new_serial             (const char           *name);
Q_TASK_AVAILABLE_IN_1_0
QTaskPool      *q_task_pool_get_default            (void);

Q_TASK_AVAILABLE_IN_1_0
const char     *q_task_pool_get_name               (QTaskPool            *pool);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_is_serial              (QTaskPool            *pool);
Q_TASK_AVAILABLE_IN_1_0
guint           q_task_pool_get_max_threads        (QTaskPool            *pool);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_set_max_threads        (QTaskPool            *pool,
                                                    guint                 max_threads);
Q_TASK_AVAILABLE_IN_1_0
guint           q_task_pool_get_max_queued         (QTaskPool            *pool);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_set_max_queued         (QTaskPool            *pool,
                                                    guint                 max_queued);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_set_thread_funcs       (QTaskPool            *pool,
                                                    QTaskPoolThreadFunc   initializer,
                                                    QTaskPoolThreadFunc   finalizer,
                                                    gpointer              user_data,
                                                    GDestroyNotify        destroy);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_set_thread_initializer (QTaskPool            *pool,
                                                    QTaskPoolThreadFunc   initializer,
                                                    gpointer              user_data,
                                                    GDestroyNotify        destroy);

Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_push                   (QTaskPool            *pool,
                                                    QTask                *task,
                                                    QTaskWorker           worker,
                                                    gpointer              opaque,
                                                    GDestroyNotify        destroy,
                                                    GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_push_closure           (QTaskPool            *pool,
                                                    QTask                *task,
                                                    QTaskWorker           worker,
                                                    gpointer              opaque,
                                                    GDestroyNotify        destroy,
                                                    GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_push_steps             (QTaskPool            *pool,
                                                    QTask                *task,
                                                    QTaskStepWorker       worker,
                                                    gpointer              opaque,
                                                    GDestroyNotify        destroy,
                                                    GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_push_steps_closure     (QTaskPool            *pool,
                                                    QTask                *task,
                                                    QTaskStepWorker       worker,
                                                    gpointer              opaque,
                                                    GDestroyNotify        destroy,
                                                    GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_wait_for_space         (QTaskPool            *pool,
                                                    GCancellable         *cancellable,
                                                    GError              **error);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_wait_for_space_async   (QTaskPool            *pool,
                                                    GCancellable         *cancellable,
                                                    GAsyncReadyCallback   callback,
                                                    gpointer              user_data);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_wait_for_space_finish  (QTaskPool            *pool,
                                                    GAsyncResult         *result,
                                                    GError              **error);

Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_parallel_for           (QTaskPool            *pool,
                                                    gsize                 n,
                                                    gsize                 grain,
                                                    QTaskPoolForFunc      func,
                                                    gpointer              user_data,
                                                    GCancellable         *cancellable,
                                                    GError              **error);

Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_get_timing             (QTaskPool            *pool);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_set_timing             (QTaskPool            *pool,
                                                    gboolean              timing);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_get_stats              (QTaskPool            *pool,
                                                    QTaskPoolStats       *stats);
Q_TASK_AVAILABLE_IN_1_0
char           *q_task_pool_dump                   (QTaskPool            *pool);
Q_TASK_AVAILABLE_IN_1_0
GPtrArray      *q_task_pool_list_tasks             (QTaskPool            *pool);

Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_close                  (QTaskPool            *pool,
                                                    QTaskPoolCloseMode    mode,
                                                    GCancellable         *cancellable,
                                                    GError              **error);
Q_TASK_AVAILABLE_IN_1_0
void            q_task_pool_close_async            (QTaskPool            *pool,
                                                    QTaskPoolCloseMode    mode,
                                                    GCancellable         *cancellable,
                                                    GAsyncReadyCallback   callback,
                                                    gpointer              user_data);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_close_finish           (QTaskPool            *pool,
                                                    GAsyncResult         *result,
                                                    GError              **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean        q_task_pool_is_closed              (QTaskPool            *pool);

G_END_DECLS
