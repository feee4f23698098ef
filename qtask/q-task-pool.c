/* q-task-pool.c: QTaskPool, the threads that run tasks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The object is a handle on its core, which does the work and outlives it; see
 * q-task-pool-core.c. Waiting is in q-task-pool-wait.c.
 */

#include "config.h"

#include "q-task-enums.h"
#include "q-task-pool-private.h"

/**
 * QTaskPool:
 *
 * A pool of threads that run tasks, with a queue in order of priority.
 *
 * Threads are made when there is work, and leave when there has been none for 15 seconds. Of
 * tasks with the same priority the first that was pushed is the first to run. A pool with a
 * limit to its queue refuses what is beyond it, and
 * [method@QTask.TaskPool.wait_for_space] tells when to try again.
 *
 * ```c
 * g_autoptr (QTaskPool) pool = q_task_pool_new ("thumbnails", 4, 1000);
 *
 * if (!q_task_pool_push (pool, task, thumbnail_worker, path, g_free, &error))
 *   {
 *     g_free (path);
 *     q_task_return_error (task, error);
 *   }
 * ```
 *
 * Dropping the last reference to a pool, from any thread, one of its own included, waits for
 * nobody: what is queued is still run. To end its tasks, use
 * [method@QTask.TaskPool.close].
 *
 * All functions of a pool may be called from any thread.
 *
 * Since: 1.0
 */
struct _QTaskPool
{
  GObject parent_instance;

  QTaskPoolCore *core;
};

G_DEFINE_FINAL_TYPE (QTaskPool, q_task_pool, G_TYPE_OBJECT)

G_DEFINE_BOXED_TYPE (QTaskPoolStats, q_task_pool_stats, q_task_pool_stats_copy, q_task_pool_stats_free)

#define DEFAULT_MAX_THREADS 10

static void
q_task_pool_finalize (GObject *object)
{
  QTaskPool *pool = Q_TASK_POOL (object);

  q_task_pool_core_drop (pool->core);

  G_OBJECT_CLASS (q_task_pool_parent_class)->finalize (object);
}

static void
q_task_pool_class_init (QTaskPoolClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = q_task_pool_finalize;

  /* Sees to what is done once, such as telling forks. */
  g_type_ensure (Q_TYPE_TASK);
  g_type_class_unref (g_type_class_ref (Q_TYPE_TASK));
}

/* For g_object_new(): without a name and limits. */
static void
q_task_pool_init (QTaskPool *pool)
{
  pool->core = q_task_pool_core_new (NULL, 0, 0, FALSE, FALSE);
}

QTaskPoolCore *
q_task_pool_get_core (QTaskPool *pool)
{
  return pool->core;
}

static QTaskPool *
pool_new (const char *name,
          guint max_threads,
          guint max_queued,
          gboolean is_serial,
          gboolean grows)
{
  QTaskPool *pool = g_object_new (Q_TYPE_TASK_POOL, NULL);

  q_task_pool_core_drop (pool->core);
  pool->core = q_task_pool_core_new (name, max_threads, max_queued, is_serial, grows);

  return pool;
}

/**
 * q_task_pool_new:
 * @name: (nullable): what the pool is for, for people; its threads have the first 15 bytes as
 *   their name
 * @max_threads: how many workers may run at once, or 0 for any number
 * @max_queued: how many tasks may wait in the queue, or 0 for any number
 *
 * Makes a pool. It has no thread until there is work.
 *
 * Workers that wait for other tasks do not count for @max_threads meanwhile.
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a new pool
 *
 * Since: 1.0
 */
QTaskPool *
q_task_pool_new (const char *name,
                 guint max_threads,
                 guint max_queued)
{
  return pool_new (name, max_threads, max_queued, FALSE, FALSE);
}

/**
 * q_task_pool_new_serial:
 * @name: (nullable): what the pool is for, for people
 *
 * Makes a pool that runs one task at a time, whatever happens: what its workers share needs
 * no lock. Its queue has no limit until [method@QTask.TaskPool.set_max_queued] sets one.
 *
 * A worker of such a pool that waits for a task in its queue gets %Q_TASK_ERROR_DEADLOCK.
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a new pool
 *
 * Since: 1.0
 */
QTaskPool *
q_task_pool_new_serial (const char *name)
{
  return pool_new (name, 1, 0, TRUE, FALSE);
}

/**
 * q_task_pool_get_default:
 *
 * Gets the pool that [method@QTask.Task.run_in_thread] uses. It has up to 10 threads, and
 * grows slowly, as that of #GTask does, while all of them are busy and tasks wait: by one
 * after 100 ms, the next after 1.03 times as long, up to 330. It cannot be closed.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none): the default pool
 *
 * Since: 1.0
 */
QTaskPool *
q_task_pool_get_default (void)
{
  static QTaskPool *default_pool;

  if (g_once_init_enter (&default_pool))
    g_once_init_leave (&default_pool, pool_new ("qtask", DEFAULT_MAX_THREADS, 0, FALSE, TRUE));

  return default_pool;
}

/**
 * q_task_pool_get_name:
 * @pool: a pool
 *
 * Gets the name of the pool.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable): the name
 *
 * Since: 1.0
 */
const char *
q_task_pool_get_name (QTaskPool *pool)
{
  g_return_val_if_fail (Q_IS_TASK_POOL (pool), NULL);

  return pool->core->name;
}

/**
 * q_task_pool_is_serial:
 * @pool: a pool
 *
 * Gets whether the pool was made with [ctor@QTask.TaskPool.new_serial].
 *
 * May be called from any thread.
 *
 * Returns: whether it runs one task at a time
 *
 * Since: 1.0
 */
gboolean
q_task_pool_is_serial (QTaskPool *pool)
{
  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);

  return pool->core->runner.is_serial;
}

/**
 * q_task_pool_get_max_threads:
 * @pool: a pool
 *
 * Gets how many workers may run at once.
 *
 * May be called from any thread.
 *
 * Returns: the number, or 0 for any number
 *
 * Since: 1.0
 */
guint
q_task_pool_get_max_threads (QTaskPool *pool)
{
  guint max_threads;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), 0);

  g_mutex_lock (&pool->core->lock);
  max_threads = pool->core->max_threads;
  g_mutex_unlock (&pool->core->lock);

  return max_threads != G_MAXUINT ? max_threads : 0;
}

/**
 * q_task_pool_set_max_threads:
 * @pool: a pool that is not serial
 * @max_threads: how many workers may run at once, or 0 for any number
 *
 * Sets how many workers may run at once. Those that run go on; if there are too many, no
 * more are started until there are less.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_pool_set_max_threads (QTaskPool *pool,
                             guint max_threads)
{
  g_return_if_fail (Q_IS_TASK_POOL (pool));

  if (pool->core->runner.is_serial)
    {
      g_critical ("A serial pool runs one task at a time; call q_task_pool_set_max_threads() on a "
                  "pool of q_task_pool_new()");
      return;
    }

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&pool->core->lock);
  pool->core->max_threads = max_threads > 0 ? max_threads : G_MAXUINT;
  g_mutex_unlock (&pool->core->lock);

  /* With nothing queued too: who pushes later may have to see to a thread now. */
  q_task_pool_core_wake (pool->core);
}

/**
 * q_task_pool_get_max_queued:
 * @pool: a pool
 *
 * Gets how many tasks may wait in the queue.
 *
 * May be called from any thread.
 *
 * Returns: the number, or 0 for any number
 *
 * Since: 1.0
 */
guint
q_task_pool_get_max_queued (QTaskPool *pool)
{
  guint max_queued;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), 0);

  g_mutex_lock (&pool->core->lock);
  max_queued = pool->core->max_queued;
  g_mutex_unlock (&pool->core->lock);

  return max_queued != G_MAXUINT ? max_queued : 0;
}

/**
 * q_task_pool_set_max_queued:
 * @pool: a pool
 * @max_queued: how many tasks may wait in the queue, or 0 for any number
 *
 * Sets how many tasks may wait in the queue. Those that are there stay.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_pool_set_max_queued (QTaskPool *pool,
                            guint max_queued)
{
  GQueue told = G_QUEUE_INIT;

  g_return_if_fail (Q_IS_TASK_POOL (pool));

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&pool->core->lock);
  pool->core->max_queued = max_queued > 0 ? max_queued : G_MAXUINT;
  q_task_pool_core_set_open_locked (pool->core);
  q_task_pool_core_changed_locked (pool->core, &told);
  g_mutex_unlock (&pool->core->lock);

  q_task_pool_core_tell (&told);
}

/**
 * q_task_pool_set_thread_funcs: (skip)
 * @pool: a pool that was not used yet
 * @initializer: (nullable): called in each thread before its first task
 * @finalizer: (nullable): called in each thread that was initialized, after its last task
 * @user_data: data for both
 * @destroy: (nullable): frees @user_data, in the main context that is thread-default now,
 *   when the pool and its threads have gone
 *
 * Sets what each thread of the pool does first and last.
 *
 * May be called from any thread, before the first task is pushed.
 *
 * Since: 1.0
 */
void
q_task_pool_set_thread_funcs (QTaskPool *pool,
                              QTaskPoolThreadFunc initializer,
                              QTaskPoolThreadFunc finalizer,
                              gpointer user_data,
                              GDestroyNotify destroy)
{
  QTaskPoolThreadFuncs old;
  gboolean is_used;

  g_return_if_fail (Q_IS_TASK_POOL (pool));

  g_mutex_lock (&pool->core->lock);
  is_used = pool->core->n_threads + pool->core->n_starting > 0 || pool->core->n_taken > 0;
  g_mutex_unlock (&pool->core->lock);

  if (is_used)
    {
      g_critical ("The pool has threads by now; set the functions of its threads before the first "
                  "task is pushed");
      return;
    }

  old = pool->core->thread_funcs;
  pool->core->thread_funcs = (QTaskPoolThreadFuncs){
    .initializer = initializer,
    .finalizer = finalizer,
    .user_data = user_data,
    .destroy = destroy,
    .dispatch = q_task_dispatch_ref_for_context (g_main_context_get_thread_default ()),
    .thread_id = q_task_dispatch_get_thread_id (),
  };

  q_task_pool_core_free_funcs (&old);
}

/**
 * q_task_pool_set_thread_initializer:
 * @pool: a pool that was not used yet
 * @initializer: (nullable) (scope notified) (closure user_data) (destroy destroy): called in
 *   each thread before its first task
 * @user_data: (nullable): data for @initializer
 * @destroy: (nullable): frees @user_data, in the main context that is thread-default now,
 *   when the pool and its threads have gone
 *
 * Sets what each thread of the pool does first. This is for bindings; it takes the place of
 * both functions of q_task_pool_set_thread_funcs().
 *
 * May be called from any thread, before the first task is pushed.
 *
 * Since: 1.0
 */
void
q_task_pool_set_thread_initializer (QTaskPool *pool,
                                    QTaskPoolThreadFunc initializer,
                                    gpointer user_data,
                                    GDestroyNotify destroy)
{
  q_task_pool_set_thread_funcs (pool, initializer, NULL, user_data, destroy);
}

/**
 * q_task_pool_push: (skip)
 * @pool: a pool
 * @task: a task that has not been started
 * @worker: (nullable) (scope notified) (closure opaque) (destroy destroy): the work, or %NULL
 *   for the one that the class of @task has
 * @opaque: (nullable): data for @worker
 * @destroy: (nullable): frees @opaque; called by the owner of @task when @worker has ended
 * @error: return location for an error
 *
 * Queues the task to be run in a thread of the pool. The pool holds a reference to it until it
 * has completed.
 *
 * A task that has been cancelled, and does not run when cancelled, completes without being
 * queued, which is a success here.
 *
 * Errors: %Q_TASK_ERROR_QUEUE_FULL and %Q_TASK_ERROR_CLOSED; %G_IO_ERROR_PENDING if the task
 * was started or completed before; those of g_thread_pool_push() if there is no thread and
 * none could be made; %Q_TASK_ERROR_FORKED in a forked child. On any of these the task is as
 * it was, and @opaque still the caller's: it can be pushed again.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if the task will complete
 *
 * Since: 1.0
 */
gboolean
q_task_pool_push (QTaskPool *pool,
                  QTask *task,
                  QTaskWorker worker,
                  gpointer opaque,
                  GDestroyNotify destroy,
                  GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (!q_task_check_worker (task, worker))
    return FALSE;

  if (q_task_is_forked (error))
    return FALSE;

  return q_task_pool_core_push (pool->core, task, G_CALLBACK (worker), opaque, destroy, 0, error);
}

/**
 * q_task_pool_push_closure: (rename-to q_task_pool_push)
 * @pool: a pool
 * @task: a task that has not been started
 * @worker: (nullable) (scope notified) (closure opaque) (destroy destroy): the work, or %NULL
 *   for the one that the class of @task has
 * @opaque: (nullable): data for @worker
 * @destroy: (nullable): frees @opaque; called by the owner of @task when @worker has ended or
 *   could not be queued
 * @error: return location for an error
 *
 * Queues the task to be run in a thread of the pool, as q_task_pool_push() does, and frees
 * @opaque also if that fails, as bindings need it.
 *
 * Errors: %Q_TASK_ERROR_QUEUE_FULL and %Q_TASK_ERROR_CLOSED; %G_IO_ERROR_PENDING if the task
 * was started or completed before; those of g_thread_pool_push() if there is no thread and
 * none could be made; %Q_TASK_ERROR_FORKED in a forked child. On any of these the task is as
 * it was: it can be pushed again.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if the task will complete
 *
 * Since: 1.0
 */
gboolean
q_task_pool_push_closure (QTaskPool *pool,
                          QTask *task,
                          QTaskWorker worker,
                          gpointer opaque,
                          GDestroyNotify destroy,
                          GError **error)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  if (q_task_pool_push (pool, task, worker, opaque, destroy, error))
    return TRUE;

  if (!q_task_is_forked (NULL))
    q_task_release_data (q_task_get_private (task), opaque, destroy);

  return FALSE;
}

/**
 * q_task_pool_push_steps: (skip)
 * @pool: a pool
 * @task: a task that has not been started
 * @worker: (scope notified) (closure opaque) (destroy destroy): a step of the work
 * @opaque: (nullable): data for @worker
 * @destroy: (nullable): frees @opaque; called by the owner of @task when the task is over
 * @error: return location for an error
 *
 * As q_task_pool_push(), with a worker that does a step of the work each time it is called;
 * see [callback@QTask.TaskStepWorker]. Between steps the pool runs what is more urgent, unless
 * it is serial. While the task syncs it holds no thread, unless the pool is serial, and counts
 * as running and parked.
 *
 * Errors: those of q_task_pool_push().
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if the task will complete
 *
 * Since: 1.0
 */
gboolean
q_task_pool_push_steps (QTaskPool *pool,
                        QTask *task,
                        QTaskStepWorker worker,
                        gpointer opaque,
                        GDestroyNotify destroy,
                        GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (worker != NULL, FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  return q_task_pool_core_push (pool->core, task, G_CALLBACK (worker), opaque, destroy,
                                Q_TASK_WORD_STEPS, error);
}

/**
 * q_task_pool_push_steps_closure: (rename-to q_task_pool_push_steps)
 * @pool: a pool
 * @task: a task that has not been started
 * @worker: (scope notified) (closure opaque) (destroy destroy): a step of the work
 * @opaque: (nullable): data for @worker
 * @destroy: (nullable): frees @opaque; called by the owner of @task when the task is over or
 *   could not be queued
 * @error: return location for an error
 *
 * As [method@QTask.TaskPool.push], with a worker that does a step of the work each time it is
 * called; see [callback@QTask.TaskStepWorker]. Between steps the pool runs what is more urgent,
 * unless it is serial. While the task syncs it holds no thread, unless the pool is serial, and
 * counts as running and parked.
 *
 * Errors: those of [method@QTask.TaskPool.push].
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if the task will complete
 *
 * Since: 1.0
 */
gboolean
q_task_pool_push_steps_closure (QTaskPool *pool,
                                QTask *task,
                                QTaskStepWorker worker,
                                gpointer opaque,
                                GDestroyNotify destroy,
                                GError **error)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  if (q_task_pool_push_steps (pool, task, worker, opaque, destroy, error))
    return TRUE;

  if (!q_task_is_forked (NULL))
    q_task_release_data (q_task_get_private (task), opaque, destroy);

  return FALSE;
}

/**
 * q_task_pool_get_timing:
 * @pool: a pool
 *
 * Gets whether the pool takes times; see [method@QTask.TaskPool.set_timing].
 *
 * May be called from any thread.
 *
 * Returns: whether it does
 *
 * Since: 1.0
 */
gboolean
q_task_pool_get_timing (QTaskPool *pool)
{
  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);

  return g_atomic_int_get (&pool->core->has_timing);
}

/**
 * q_task_pool_set_timing:
 * @pool: a pool
 * @timing: whether the pool takes times
 *
 * Sets whether the pool adds up how long tasks wait and run, for
 * [method@QTask.TaskPool.get_stats]. That costs something, so it is off at first.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_pool_set_timing (QTaskPool *pool,
                        gboolean timing)
{
  g_return_if_fail (Q_IS_TASK_POOL (pool));

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&pool->core->lock);
  g_atomic_int_set (&pool->core->has_timing, timing != FALSE);
  g_mutex_unlock (&pool->core->lock);
}

/**
 * q_task_pool_get_stats:
 * @pool: a pool
 * @stats: (out caller-allocates): return location for the statistics
 *
 * Gets what the pool does and did. A task is counted as ended before its outcome can be seen.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_pool_get_stats (QTaskPool *pool,
                       QTaskPoolStats *stats)
{
  QTaskPoolCore *core;

  g_return_if_fail (Q_IS_TASK_POOL (pool));
  g_return_if_fail (stats != NULL);

  core = pool->core;

  g_mutex_lock (&core->lock);
  *stats = (QTaskPoolStats){
    .threads = core->n_threads,
    .running = core->n_running + core->syncing.length,
    .queued = q_task_pool_core_get_length_locked (core),
    .parked = core->n_parked + core->syncing.length,
    .finished = core->n_finished,
    .failed = core->n_failed,
    .stopped = core->n_stopped,
    .wait_time = core->wait_time,
    .run_time = core->run_time,
  };
  g_mutex_unlock (&core->lock);
}

/**
 * q_task_pool_stats_copy:
 * @stats: statistics
 *
 * Copies statistics.
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a copy
 *
 * Since: 1.0
 */
QTaskPoolStats *
q_task_pool_stats_copy (const QTaskPoolStats *stats)
{
  g_return_val_if_fail (stats != NULL, NULL);

  return g_memdup2 (stats, sizeof *stats);
}

/**
 * q_task_pool_stats_free:
 * @stats: (transfer full): statistics
 *
 * Frees statistics that were copied.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_pool_stats_free (QTaskPoolStats *stats)
{
  g_free (stats);
}

static int
compare_tasks (gconstpointer a,
               gconstpointer b)
{
  int priority_a = q_task_get_priority (*(QTask *const *) a);
  int priority_b = q_task_get_priority (*(QTask *const *) b);

  return (priority_a > priority_b) - (priority_a < priority_b);
}

/**
 * q_task_pool_list_tasks:
 * @pool: a pool
 *
 * Lists the tasks that run and those that are queued: the running ones first, then the queued
 * ones by priority.
 *
 * May be called from any thread.
 *
 * Returns: (transfer container) (element-type QTask.Task): the tasks; the array frees its
 *   references to them
 *
 * Since: 1.0
 */
GPtrArray *
q_task_pool_list_tasks (QTaskPool *pool)
{
  GPtrArray *tasks;
  guint n_running;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), NULL);

  tasks = q_task_pool_core_list_tasks (pool->core, &n_running);
  if (tasks->len > n_running)
    qsort (tasks->pdata + n_running, tasks->len - n_running, sizeof (gpointer), compare_tasks);

  return tasks;
}

/**
 * q_task_pool_dump:
 * @pool: a pool
 *
 * Describes the pool in a few lines of text, with a line for each of its tasks: what it does,
 * its priority, its progress, its name. For people who debug; its form may change.
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): the text
 *
 * Since: 1.0
 */
char *
q_task_pool_dump (QTaskPool *pool)
{
  g_autoptr (GPtrArray) tasks = NULL;
  g_autoptr (GEnumClass) states = NULL;
  QTaskPoolStats stats;
  GString *text;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), NULL);

  tasks = q_task_pool_list_tasks (pool);
  q_task_pool_get_stats (pool, &stats);
  states = g_type_class_ref (Q_TYPE_TASK_STATE);

  text = g_string_new (NULL);
  g_string_append_printf (text,
                          "pool %s: %u threads, %u running (%u parked), %u queued; "
                          "%" G_GUINT64_FORMAT " finished, %" G_GUINT64_FORMAT " failed, "
                          "%" G_GUINT64_FORMAT " stopped\n",
                          pool->core->name != NULL ? pool->core->name : "(unnamed)",
                          stats.threads, stats.running, stats.parked, stats.queued,
                          stats.finished, stats.failed, stats.stopped);

  for (guint i = 0; i < tasks->len; i++)
    {
      QTask *task = tasks->pdata[i];
      const char *name = q_task_get_name (task);
      GEnumValue *state = g_enum_get_value (states, (int) q_task_poll (task));

      g_string_append_printf (text, "  %p %s, priority %d, progress %.0f %%: %s\n",
                              (void *) task, state->value_nick, q_task_get_priority (task),
                              q_task_get_progress (task) * 100,
                              name != NULL ? name : "(unnamed)");
    }

  return g_string_free (text, FALSE);
}

/**
 * q_task_pool_is_closed:
 * @pool: a pool
 *
 * Gets whether the pool takes no more tasks.
 *
 * May be called from any thread.
 *
 * Returns: whether it was closed
 *
 * Since: 1.0
 */
gboolean
q_task_pool_is_closed (QTaskPool *pool)
{
  gboolean is_closed;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), TRUE);

  g_mutex_lock (&pool->core->lock);
  is_closed = pool->core->is_closed;
  g_mutex_unlock (&pool->core->lock);

  return is_closed;
}
