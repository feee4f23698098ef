/* q-task-pool-wait.c: waiting for space in a pool, and for its end
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Those who block do so on the condition of the core; those who do not are results in one of
 * its two lists, from which they are moved to `told` with the lock held, and told without.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-pool-private.h"

static gboolean
has_space (QTaskPoolCore *core)
{
  return q_task_pool_core_get_length_locked (core) < core->max_queued;
}

static gboolean
is_over (QTaskPoolCore *core,
         QTaskPoolWaitMode mode)
{
  if (mode == Q_TASK_POOL_WAIT_DRAINED)
    return q_task_pool_core_is_drained_locked (core);

  return core->is_closed || has_space (core);
}

/* To be called with the lock held whenever something has left the pool; `told` is for
 * q_task_pool_core_tell(). */
void
q_task_pool_core_changed_locked (QTaskPoolCore *core,
                                 GQueue *told)
{
  if (core->n_blocked > 0)
    g_cond_broadcast (&core->changed);

  if (core->space_waiters.length > 0 && is_over (core, Q_TASK_POOL_WAIT_SPACE))
    while (core->space_waiters.length > 0)
      g_queue_push_tail (told, g_queue_pop_head (&core->space_waiters));

  if (core->close_waiters.length > 0 && q_task_pool_core_is_drained_locked (core))
    while (core->close_waiters.length > 0)
      g_queue_push_tail (told, g_queue_pop_head (&core->close_waiters));
}

static void
set_closed_error (QTaskPoolCore *core,
                  GError **error)
{
  g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED,
               _("The pool “%s” is closed and takes no more tasks"),
                  core->name != NULL ? core->name : _("unnamed"));
}

static gulong *
get_handler (QTask *result)
{
  return q_task_get_task_data (result);
}

static void
tell (QTask *result)
{
  gulong handler = *get_handler (result);

  if (handler != 0)
    g_signal_handler_disconnect (q_task_get_given (q_task_get_private (result)), handler);

  if (q_task_get_source_tag (result) == q_task_pool_wait_for_space_async)
    {
      QTaskPoolCore *core = q_task_pool_get_core (Q_TASK_POOL (q_task_get_source (result)));
      gboolean is_closed;

      g_mutex_lock (&core->lock);
      is_closed = core->is_closed;
      g_mutex_unlock (&core->lock);

      if (is_closed)
        {
          GError *error = NULL;

          set_closed_error (core, &error);
          q_task_return_error (result, error);
          g_object_unref (result);
          return;
        }
    }

  q_task_return_boolean (result, TRUE);
  g_object_unref (result);
}

/* With no lock held. */
void
q_task_pool_core_tell (GQueue *told)
{
  QTask *result;

  while ((result = g_queue_pop_head (told)) != NULL)
    tell (result);
}

static void
wait_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                   gpointer data)
{
  QTaskPoolCore *core = data;

  g_mutex_lock (&core->lock);
  g_cond_broadcast (&core->changed);
  g_mutex_unlock (&core->lock);
}

static void
unref_core_notify (gpointer core,
                   GClosure *closure G_GNUC_UNUSED)
{
  q_task_pool_core_unref (core);
}

/* Whether the calling thread runs a task of this pool, or its sync function, so that it cannot
 * end. */
static gboolean
is_in_worker (QTaskPoolCore *core)
{
  for (QTaskFrame *frame = q_task_get_current_frame (); frame != NULL; frame = frame->outer)
    if (frame->runner == &core->runner)
      return TRUE;

  for (QTaskHold *hold = q_task_get_current_hold (); hold != NULL; hold = hold->outer)
    if (q_task_get_private (hold->task)->runner == &core->runner)
      return TRUE;

  return FALSE;
}

static gboolean
check_deadlock (QTaskPoolCore *core,
                QTaskPoolWaitMode mode,
                GError **error)
{
  if (!is_in_worker (core) || (mode == Q_TASK_POOL_WAIT_SPACE && !core->runner.is_serial))
    return TRUE;

  g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK,
               mode == Q_TASK_POOL_WAIT_SPACE
               ? _("Waiting for space in the serial pool “%s” would never end in one of its own tasks")
               : _("Waiting for the end of the pool “%s” would never end in one of its own tasks"),
                    core->name != NULL ? core->name : _("unnamed"));
  return FALSE;
}

static gboolean
block (QTaskPoolCore *core,
       QTaskPoolWaitMode mode,
       GCancellable *cancellable,
       GError **error)
{
  QTaskFrame *frame = q_task_get_current_frame ();
  gulong handler = 0;
  gboolean is_short = FALSE; /* of a thread in the place of this worker */
  gboolean over;

  if (!check_deadlock (core, mode, error))
    return FALSE;

  g_mutex_lock (&core->lock);
  over = is_over (core, mode);
  g_mutex_unlock (&core->lock);

  if (over)
    return TRUE;

  if (cancellable != NULL)
    handler = g_signal_connect_data (cancellable, "cancelled", G_CALLBACK (wait_cancelled_cb),
                                     q_task_pool_core_ref (core), unref_core_notify, 0);
  if (frame != NULL)
    {
      frame->runner->funcs->park (frame->runner);
      is_short = !frame->runner->funcs->compensate (frame->runner);
    }

  g_mutex_lock (&core->lock);
  core->n_blocked++;
  while (!(over = is_over (core, mode)) &&
         !(cancellable != NULL && g_cancellable_is_cancelled (cancellable)))
    {
      if (!is_short)
        {
          g_cond_wait (&core->changed, &core->lock);
        }
      else
        {
          g_cond_wait_until (&core->changed, &core->lock,
                             g_get_monotonic_time () + Q_TASK_RETRY_USEC);
          g_mutex_unlock (&core->lock);
          is_short = !frame->runner->funcs->compensate (frame->runner);
          g_mutex_lock (&core->lock);
        }
    }
  core->n_blocked--;
  g_mutex_unlock (&core->lock);

  if (frame != NULL)
    frame->runner->funcs->unpark (frame->runner);
  if (handler != 0)
    g_signal_handler_disconnect (cancellable, handler);

  if (!over)
    g_propagate_error (error, q_task_new_stop_error (Q_TASK_STOP_CANCEL));

  return over;
}

static void
async_wait_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                         gpointer data)
{
  QTask *result = data;
  QTaskPoolCore *core = q_task_pool_get_core (Q_TASK_POOL (q_task_get_source (result)));
  gboolean found;

  g_mutex_lock (&core->lock);
  found = g_queue_remove (&core->space_waiters, result) ||
          g_queue_remove (&core->close_waiters, result);
  g_mutex_unlock (&core->lock);

  if (!found)
    return;

  g_signal_handler_disconnect (cancellable, *get_handler (result));
  q_task_return_error_if_cancelled (result);
  g_object_unref (result);
}

static void
unref_result_notify (gpointer result,
                     GClosure *closure G_GNUC_UNUSED)
{
  g_object_unref (result);
}

static void
wait_async (QTaskPool *pool,
            QTaskPoolWaitMode mode,
            GCancellable *cancellable,
            GAsyncReadyCallback callback,
            gpointer user_data,
            gpointer source_tag)
{
  QTaskPoolCore *core = q_task_pool_get_core (pool);
  QTask *result = q_task_new_async (pool, cancellable, callback, user_data);
  GQueue told = G_QUEUE_INIT;

  q_task_set_source_tag (result, source_tag);
  q_task_set_task_data (result, g_new0 (gulong, 1), g_free);

  if (cancellable != NULL)
    *get_handler (result) =
      g_signal_connect_data (cancellable, "cancelled", G_CALLBACK (async_wait_cancelled_cb),
                             g_object_ref (result), unref_result_notify, 0);

  g_object_ref (result);

  g_mutex_lock (&core->lock);
  g_queue_push_tail (mode == Q_TASK_POOL_WAIT_SPACE ? &core->space_waiters
                                                    : &core->close_waiters,
                     result);
  q_task_pool_core_changed_locked (core, &told);
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  if (cancellable != NULL && g_cancellable_is_cancelled (cancellable))
    async_wait_cancelled_cb (cancellable, result);

  g_object_unref (result);
}

static gboolean
wait_finish (QTaskPool *pool,
             GAsyncResult *result,
             gpointer source_tag,
             GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);
  g_return_val_if_fail (q_task_is_valid (result, pool), FALSE);
  g_return_val_if_fail (g_async_result_is_tagged (result, source_tag), FALSE);

  return q_task_propagate_boolean (Q_TASK (result), error);
}

/**
 * q_task_pool_wait_for_space:
 * @pool: a pool
 * @cancellable: (nullable): stops the waiting
 * @error: return location for an error
 *
 * Blocks until there is space in the queue. Where others push too, it may be gone again when
 * this returns.
 *
 * Errors: %G_IO_ERROR_CANCELLED; %Q_TASK_ERROR_CLOSED if the pool is closed;
 * %Q_TASK_ERROR_DEADLOCK in a worker of this pool, if it is serial; %Q_TASK_ERROR_FORKED in a
 * forked child.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if there is space
 *
 * Since: 1.0
 */
gboolean
q_task_pool_wait_for_space (QTaskPool *pool,
                            GCancellable *cancellable,
                            GError **error)
{
  QTaskPoolCore *core;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  core = q_task_pool_get_core (pool);

  if (g_cancellable_set_error_if_cancelled (cancellable, error) ||
      !block (core, Q_TASK_POOL_WAIT_SPACE, cancellable, error))
    return FALSE;

  if (q_task_pool_is_closed (pool))
    {
      set_closed_error (core, error);
      return FALSE;
    }

  return TRUE;
}

/**
 * q_task_pool_wait_for_space_async:
 * @pool: a pool
 * @cancellable: (nullable): stops the waiting
 * @callback: (nullable) (scope async) (closure user_data): called in the thread-default main
 *   context of the moment
 * @user_data: data for @callback
 *
 * Waits until there is space in the queue. All who wait are told, and the first to push get it.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_pool_wait_for_space_async (QTaskPool *pool,
                                  GCancellable *cancellable,
                                  GAsyncReadyCallback callback,
                                  gpointer user_data)
{
  g_return_if_fail (Q_IS_TASK_POOL (pool));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  if (q_task_is_forked (NULL))
    return;

  wait_async (pool, Q_TASK_POOL_WAIT_SPACE, cancellable, callback, user_data,
              q_task_pool_wait_for_space_async);
}

/**
 * q_task_pool_wait_for_space_finish:
 * @pool: a pool
 * @result: what the callback was given
 * @error: return location for an error
 *
 * Ends [method@QTask.TaskPool.wait_for_space_async].
 *
 * Errors: %G_IO_ERROR_CANCELLED; %Q_TASK_ERROR_CLOSED if the pool is closed.
 *
 * May be called from the callback.
 *
 * Returns: %TRUE if there is space
 *
 * Since: 1.0
 */
gboolean
q_task_pool_wait_for_space_finish (QTaskPool *pool,
                                   GAsyncResult *result,
                                   GError **error)
{
  return wait_finish (pool, result, q_task_pool_wait_for_space_async, error);
}

/* Closes the pool to new tasks, and with STOP cancels those it has. */
static void
start_closing (QTaskPoolCore *core,
               QTaskPoolCloseMode mode)
{
  GQueue told = G_QUEUE_INIT;

  g_mutex_lock (&core->lock);
  core->is_closed = TRUE;
  q_task_pool_core_set_open_locked (core);
  core->is_stopped |= mode == Q_TASK_POOL_CLOSE_STOP;
  g_cond_broadcast (&core->changed);
  q_task_pool_core_changed_locked (core, &told);
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  /* Who found it open is about to have pushed. */
  while (g_atomic_int_get (&core->n_pushing) > 0)
    g_thread_yield ();

  if (mode == Q_TASK_POOL_CLOSE_STOP)
    {
      g_autoptr (GPtrArray) tasks = q_task_pool_core_list_tasks (core, NULL);

      for (guint i = 0; i < tasks->len; i++)
        q_task_cancel (tasks->pdata[i]);
    }
}

static gboolean
check_closable (QTaskPoolCore *core,
                GError **error)
{
  if (!core->grows)
    return TRUE;

  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                       _("The default pool cannot be closed, since others use it too; make "
                         "a pool of your own for tasks that end together"));
  return FALSE;
}

/**
 * q_task_pool_close:
 * @pool: a pool
 * @mode: what becomes of its tasks
 * @cancellable: (nullable): stops the waiting; the pool stays closed
 * @error: return location for an error
 *
 * Closes the pool to new tasks, and blocks until those it has have ended. With
 * %Q_TASK_POOL_CLOSE_STOP they are cancelled first, as [method@QTask.Task.cancel] does.
 *
 * It can be done again: with %Q_TASK_POOL_CLOSE_STOP after %Q_TASK_POOL_CLOSE_DRAIN, say.
 *
 * Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_NOT_SUPPORTED for the default pool;
 * %Q_TASK_ERROR_DEADLOCK in a worker of this pool, or in a sync function of one;
 * %Q_TASK_ERROR_FORKED in a forked child.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE when all tasks have ended
 *
 * Since: 1.0
 */
gboolean
q_task_pool_close (QTaskPool *pool,
                   QTaskPoolCloseMode mode,
                   GCancellable *cancellable,
                   GError **error)
{
  QTaskPoolCore *core;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  core = q_task_pool_get_core (pool);

  if (!check_closable (core, error) || !check_deadlock (core, Q_TASK_POOL_WAIT_DRAINED, error))
    return FALSE;

  start_closing (core, mode);

  return block (core, Q_TASK_POOL_WAIT_DRAINED, cancellable, error);
}

/**
 * q_task_pool_close_async:
 * @pool: a pool
 * @mode: what becomes of its tasks
 * @cancellable: (nullable): stops the waiting; the pool stays closed
 * @callback: (nullable) (scope async) (closure user_data): called in the thread-default main
 *   context of the moment
 * @user_data: data for @callback
 *
 * Closes the pool to new tasks at once, and waits until those it has have ended; see
 * [method@QTask.TaskPool.close].
 *
 * May be called from any thread, a worker of this pool included.
 *
 * Since: 1.0
 */
void
q_task_pool_close_async (QTaskPool *pool,
                         QTaskPoolCloseMode mode,
                         GCancellable *cancellable,
                         GAsyncReadyCallback callback,
                         gpointer user_data)
{
  QTaskPoolCore *core;
  GError *error = NULL;

  g_return_if_fail (Q_IS_TASK_POOL (pool));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  if (q_task_is_forked (NULL))
    return;

  core = q_task_pool_get_core (pool);

  if (!check_closable (core, &error))
    {
      q_task_report_error (pool, callback, user_data, q_task_pool_close_async, error);
      return;
    }

  start_closing (core, mode);
  wait_async (pool, Q_TASK_POOL_WAIT_DRAINED, cancellable, callback, user_data,
              q_task_pool_close_async);
}

/**
 * q_task_pool_close_finish:
 * @pool: a pool
 * @result: what the callback was given
 * @error: return location for an error
 *
 * Ends [method@QTask.TaskPool.close_async].
 *
 * Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_NOT_SUPPORTED for the default pool.
 *
 * May be called from the callback.
 *
 * Returns: %TRUE when all tasks have ended
 *
 * Since: 1.0
 */
gboolean
q_task_pool_close_finish (QTaskPool *pool,
                          GAsyncResult *result,
                          GError **error)
{
  return wait_finish (pool, result, q_task_pool_close_async, error);
}
