/* q-task-pool-core.c: what outlives a QTaskPool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The core is what threads and tasks hold, so that a pool can be dropped anywhere, by one
 * of its own threads too, and nobody is joined. Its lock is never held while a lock of a task
 * is taken or code of the user runs.
 *
 * Here it is made and freed, takes tasks, and is the runner of those it has. Its queue is in
 * q-task-pool-queue.c, its threads are in q-task-pool-threads.c, and who waits for it is in
 * q-task-pool-wait.c.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-pool-private.h"

/* Takes back a task that could not be queued after all. Takes the reference of the queue.
 * Returns FALSE if the task has been stopped meanwhile, which then is its outcome. */
static gboolean
take_back (QTaskPoolCore *core,
           QTask *task)
{
  if (q_task_unstart (task))
    {
      g_object_unref (task);
      q_task_pool_core_unref (core);
      return TRUE;
    }

  q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);

  return FALSE;
}

/* No thread could be started. If there is none at all, nobody would ever run what is queued:
 * @task, if not NULL, is taken back, and @error is the outcome of others, who counted on that
 * thread. */
static gboolean
give_up (QTaskPoolCore *core,
         QTask *task,
         gint64 made_at,
         const GError *error)
{
  g_autoptr (GPtrArray) others = g_ptr_array_new ();
  gboolean given_up = FALSE;

  g_mutex_lock (&core->lock);

  if (core->n_threads + core->n_starting == 0)
    {
      QTaskNode *node;

      given_up = task != NULL && q_task_pool_core_is_queued_locked (core, task);
      if (given_up)
        {
          q_task_pool_core_dequeue_locked (core, task);
          q_task_get_private (task)->node.key = made_at;
        }

      q_task_pool_core_sort_inbox_locked (core);
      while ((node = q_task_queue_peek (&core->queue)) != NULL)
        {
          g_ptr_array_add (others, q_task_from_node (node));
          q_task_pool_core_dequeue_locked (core, q_task_from_node (node));
          core->n_failed++;
        }
    }

  g_mutex_unlock (&core->lock);

  for (guint i = 0; i < others->len; i++)
    {
      q_task_unwatch_stop (others->pdata[i]);
      q_task_end_run (others->pdata[i], g_error_copy (error), Q_TASK_STATE_FINISHED);
    }

  return given_up && take_back (core, task);
}

/* Runner */

static QTaskPoolCore *
core_from_runner (QTaskRunner *runner)
{
  return (QTaskPoolCore *) runner;
}

static gboolean
core_withdraw (QTaskRunner *runner,
               QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  GQueue told = G_QUEUE_INIT;
  gboolean withdrawn;

  g_mutex_lock (&core->lock);
  withdrawn = q_task_pool_core_is_queued_locked (core, task);
  if (withdrawn)
    {
      q_task_pool_core_dequeue_locked (core, task);
      core->n_stopped++;
      q_task_pool_core_changed_locked (core, &told);
    }
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  return withdrawn;
}

static void
core_move_to_front (QTaskRunner *runner,
                    QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);
  if (q_task_pool_core_is_queued_locked (core, task))
    {
      q_task_pool_core_dequeue_locked (core, task);
      q_task_pool_core_enqueue_locked (core, task, G_MININT64);
    }
  g_mutex_unlock (&core->lock);
}

static gboolean
core_help (QTaskRunner *runner,
           QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  QTaskPoolRunning running;
  GQueue told = G_QUEUE_INIT;
  GError *error = NULL;
  QTaskState state;
  gboolean failed;
  gboolean helps;

  g_mutex_lock (&core->lock);
  helps = !core->runner.is_serial && q_task_pool_core_is_queued_locked (core, task);
  if (helps)
    {
      q_task_pool_core_take_locked (core, task, &running);
      q_task_pool_core_changed_locked (core, &told);
    }
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  if (!helps)
    return FALSE;

  state = q_task_run_worker (task, runner, &failed, &error);

  if (!q_task_state_is_over (state))
    {
      q_task_pool_core_lock (core);
      q_task_pool_core_set_aside_locked (core, task, &running, state);
      g_mutex_unlock (&core->lock);

      /* The caller may have something else to do now. */
      q_task_pool_core_wake (core);
      return TRUE;
    }

  g_mutex_lock (&core->lock);
  q_task_pool_core_close_books_locked (core, &running, state, failed);
  g_mutex_unlock (&core->lock);

  q_task_end_run (task, error, state);

  g_mutex_lock (&core->lock);
  core->n_ending--;
  q_task_pool_core_changed_locked (core, &told);
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  return TRUE;
}

static void
core_requeue (QTaskRunner *runner,
              QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  g_autoptr (GError) error = NULL;

  q_task_pool_core_lock (core);
  q_task_queue_remove (&core->syncing, &q_task_get_private (task)->node);
  q_task_pool_core_enqueue_again_locked (core, task);

  if (!q_task_pool_core_wake_and_unlock (core, &error))
    give_up (core, NULL, 0, error);

  /* Asked to stop while it was not in the queue. */
  if (q_task_get_word (q_task_get_private (task)) & Q_TASK_WORD_STOP)
    core_move_to_front (runner, task);
}

static gboolean
core_is_pressed (QTaskRunner *runner,
                 QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  QTaskNode *node;
  gboolean pressed;

  if (core->runner.is_serial)
    return FALSE;

  q_task_pool_core_lock (core);
  q_task_pool_core_sort_inbox_locked (core);
  node = q_task_queue_peek (&core->queue);
  pressed = node != NULL && (node->key < q_task_pool_core_get_key (q_task_get_private (task)) ||
                             q_task_pool_core_is_crowded_locked (core));
  g_mutex_unlock (&core->lock);

  return pressed;
}

static void
core_park (QTaskRunner *runner)
{
  QTaskPoolCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);
  core->n_parked++;
  g_mutex_unlock (&core->lock);
}

static void
core_unpark (QTaskRunner *runner)
{
  QTaskPoolCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);
  core->n_parked--;
  g_mutex_unlock (&core->lock);
}

static gboolean
core_compensate (QTaskRunner *runner)
{
  return q_task_pool_core_wake (core_from_runner (runner));
}

static QTask *
core_ref_blocker (QTaskRunner *runner)
{
  QTaskPoolCore *core = core_from_runner (runner);
  QTask *blocker = NULL;

  g_mutex_lock (&core->lock);
  if (core->runner.is_serial && core->running != NULL)
    blocker = g_object_ref (core->running->task);
  g_mutex_unlock (&core->lock);

  return blocker;
}

static void
core_list_tasks (QTaskRunner *runner,
                 GPtrArray *tasks)
{
  g_ptr_array_extend_and_steal (tasks,
                                q_task_pool_core_list_tasks (core_from_runner (runner), NULL));
}

static void
core_runner_ref (QTaskRunner *runner)
{
  q_task_pool_core_ref (core_from_runner (runner));
}

static void
core_runner_unref (QTaskRunner *runner)
{
  q_task_pool_core_unref (core_from_runner (runner));
}

static const QTaskRunnerFuncs runner_funcs = {
  .withdraw = core_withdraw,
  .move_to_front = core_move_to_front,
  .help = core_help,
  .requeue = core_requeue,
  .is_pressed = core_is_pressed,
  .park = core_park,
  .unpark = core_unpark,
  .compensate = core_compensate,
  .ref_blocker = core_ref_blocker,
  .list_tasks = core_list_tasks,
  .ref = core_runner_ref,
  .unref = core_runner_unref,
};

/* Making and freeing */

QTaskPoolCore *
q_task_pool_core_new (const char *name,
                      guint max_threads,
                      guint max_queued,
                      gboolean is_serial,
                      gboolean grows)
{
  QTaskPoolCore *core = g_new0 (QTaskPoolCore, 1);

  core->runner.funcs = &runner_funcs;
  core->runner.is_serial = is_serial;
  core->ref_count = 1;
  core->name = g_strdup (name);
  core->grows = grows;
  core->max_threads = max_threads > 0 ? max_threads : G_MAXUINT;
  core->max_queued = max_queued > 0 ? max_queued : G_MAXUINT;
  q_task_pool_core_set_open_locked (core);
  g_mutex_init (&core->lock);
  g_cond_init (&core->changed);
  g_queue_init (&core->space_waiters);
  g_queue_init (&core->close_waiters);
  q_task_pool_core_init_threads (core);

  q_task_runner_add (&core->runner);

  return core;
}

QTaskPoolCore *
q_task_pool_core_ref (QTaskPoolCore *core)
{
  g_atomic_int_inc (&core->ref_count);

  return core;
}

void
q_task_pool_core_unref (QTaskPoolCore *core)
{
  if (!g_atomic_int_dec_and_test (&core->ref_count))
    return;

  q_task_runner_remove (&core->runner);

  g_assert (core->inbox == NULL);
  g_assert (core->queue.length == 0);
  g_assert (core->syncing.length == 0);
  g_assert (g_queue_is_empty (&core->space_waiters));
  g_assert (g_queue_is_empty (&core->close_waiters));

  q_task_pool_core_free_threads (core);
  g_cond_clear (&core->changed);
  g_mutex_clear (&core->lock);
  g_free (core->name);
  g_free (core);
}

/* Nobody holds the pool any more: what is queued is still run, and then its threads
 * leave. Takes a reference. */
void
q_task_pool_core_drop (QTaskPoolCore *core)
{
  q_task_pool_core_release_threads (core);
  q_task_pool_core_unref (core);
}

/* Pushing */

/* To be called with the lock held. */
static gboolean
check_closed (QTaskPoolCore *core,
              GError **error)
{
  if (!core->is_closed)
    return TRUE;

  g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED,
               _("The pool “%s” is closed and takes no more tasks"),
                  core->name != NULL ? core->name : _("unnamed"));
  return FALSE;
}

/* The same without the lock. */
gboolean
q_task_pool_core_check_closed (QTaskPoolCore *core,
                               GError **error)
{
  gboolean is_open;

  if (G_LIKELY (g_atomic_int_get (&core->is_open)))
    return TRUE;

  g_mutex_lock (&core->lock);
  is_open = check_closed (core, error);
  g_mutex_unlock (&core->lock);

  return is_open;
}

static gboolean
check_open (QTaskPoolCore *core,
            GError **error)
{
  const char *name = core->name != NULL ? core->name : _("unnamed");

  if (!check_closed (core, error))
    return FALSE;

  if (q_task_pool_core_get_length_locked (core) >= core->max_queued)
    {
      g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL,
                   _("The queue of the pool “%s” is full with %u tasks; wait for space and "
                     "push again"),
                      name, core->queue.length);
      return FALSE;
    }

  return TRUE;
}

static gboolean
is_stopped (QTask *task)
{
  guint word = q_task_get_word (q_task_get_private (task));

  return q_task_word_get_state (word) == Q_TASK_STATE_STOPPED;
}

/* Queues @task to be run with @worker; on failure all is as it was. */
gboolean
q_task_pool_core_push (QTaskPoolCore *core,
                       QTask *task,
                       GCallback worker,
                       gpointer worker_data,
                       GDestroyNotify destroy,
                       guint flags,
                       GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  GError *local_error = NULL;
  gint64 made_at;
  gboolean is_open;
  gint64 key;
  guint word;

  if (!q_task_start (task, &core->runner, worker, worker_data, destroy, flags, error))
    return FALSE;

  made_at = priv->node.key;
  q_task_pool_core_ref (core);
  g_object_ref (task);

  word = q_task_get_word (priv);
  if (g_atomic_pointer_get (&priv->extra) != NULL ||
      (word & Q_TASK_WORD_STOP) != 0)
    {
      q_task_watch_stop (task);
      word = q_task_get_word (priv);
    }

  if (q_task_word_get_state (word) == Q_TASK_STATE_STOPPED)
    {
      g_mutex_lock (&core->lock);
      core->n_stopped++;
      g_mutex_unlock (&core->lock);

      q_task_unwatch_stop (task);
      q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);
      return TRUE;
    }

  key = (word & Q_TASK_WORD_STOP) != 0 ? G_MININT64 : g_atomic_int_get (&priv->priority);

  is_open = q_task_pool_core_post (core, task, key);
  if (is_open && !g_atomic_int_get (&core->armed))
    goto pushed;

  q_task_pool_core_lock (core);

  if (!is_open && !check_open (core, &local_error))
    {
      g_mutex_unlock (&core->lock);

      if (take_back (core, task))
        {
          g_propagate_error (error, local_error);
          return FALSE;
        }

      g_error_free (local_error);
      return TRUE;
    }

  if (!is_open)
    q_task_pool_core_enqueue_locked (core, task, key);

  if (!q_task_pool_core_wake_and_unlock (core, &local_error))
    {
      if (give_up (core, task, made_at, local_error))
        {
          g_propagate_prefixed_error (error, local_error,
                                      _("The task could not be started for lack of a thread: "));
          return FALSE;
        }

      g_clear_error (&local_error);
    }

pushed:
  /* Who waits for it looks again at how it comes to run, and may help. */
  if (G_UNLIKELY (q_task_get_word (priv) & Q_TASK_WORD_WAITED))
    {
      g_mutex_lock (&priv->lock);
      q_task_wake_waiters_locked (priv);
      g_mutex_unlock (&priv->lock);
    }

  /* Stopped while it was not in the queue yet. The caller has a reference. */
  if (G_UNLIKELY (is_stopped (task)) && core_withdraw (&core->runner, task))
    {
      q_task_unwatch_stop (task);
      q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);
    }

  return TRUE;
}
