/* q-task-sync.c: sync points, where the worker of a QTask waits for its owner
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A worker syncs by setting the state to SYNCING and delivering a node to the owner, who calls
 * the sync function. The sync is over when the task was resumed, asked to stop or detached,
 * and the function does not run: whoever brings that about, under the lock, sets the state
 * back with q_task_end_sync_locked(). A worker that blocks in its thread then goes on; a step
 * worker, which holds no thread, is queued again, without the lock, by the one who ended the
 * sync.
 *
 * All of QTaskSync is protected by the lock of the task. While its delivery is on its way it
 * holds a reference to the task. One that comes late, since somebody who waited served the
 * sync before, finds nothing to do, or serves the next sync.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-private.h"

/* How often to try again to get a thread, where there was none to be had. */
#define RETRY_USEC (100 * G_TIME_SPAN_MILLISECOND)

struct _QTaskSync
{
  QTaskDelivery delivery;
  QTask *task; /* owned while the delivery is on its way */
  QTaskHandler *handler;
  gboolean is_told; /* the function was called for this sync */
  guint n_holds;    /* it runs, or the like: the worker does not */
  gboolean is_resumed;
  gboolean has_thread; /* the worker blocks */
};

static QTaskSync *
ensure_sync (QTaskPrivate *priv)
{
  QTaskExtra *extra = q_task_ensure_extra (priv);
  QTaskSync *sync = g_atomic_pointer_get (&extra->sync);

  if (sync != NULL)
    return sync;

  sync = g_new0 (QTaskSync, 1);

  if (!g_atomic_pointer_compare_and_exchange (&extra->sync, NULL, sync))
    {
      g_free (sync);
      sync = g_atomic_pointer_get (&extra->sync);
    }

  return sync;
}

static QTaskSync *
get_sync (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  return extra != NULL ? g_atomic_pointer_get (&extra->sync) : NULL;
}

/* Holds */

static _Thread_local QTaskHold *current_hold;

/* The innermost hold of the calling thread, or NULL. */
QTaskHold *
q_task_get_current_hold (void)
{
  return current_hold;
}

static void
begin_hold (QTaskHold *hold,
            QTask *task)
{
  hold->task = task;
  hold->outer = current_hold;
  current_hold = hold;
}

/* The worker may go on. */
static void
end_hold (QTaskHold *hold)
{
  QTaskPrivate *priv = q_task_get_private (hold->task);

  current_hold = hold->outer;

  g_mutex_lock (&priv->lock);
  get_sync (priv)->n_holds--;
  g_mutex_unlock (&priv->lock);
}

/* Syncing */

/* Whether the task is to stop, or runs on without an owner. */
static gboolean
needs_no_owner (guint word)
{
  return (word & (Q_TASK_WORD_STOP | Q_TASK_WORD_ALONE)) != 0;
}

/* Ends the sync, if there is one and nothing keeps it. Returns whether the caller is to queue
 * the task again, with requeue() of its runner, once it has released the lock. */
gboolean
q_task_end_sync_locked (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskSync *sync = get_sync (priv);
  guint word = q_task_get_word (priv);

  if (q_task_word_get_state (word) != Q_TASK_STATE_SYNCING || sync->n_holds > 0)
    return FALSE;

  if (!sync->is_resumed && !needs_no_owner (word))
    return FALSE;

  q_task_change (priv, Q_TASK_WORD_STATE,
                 sync->has_thread ? Q_TASK_STATE_RUNNING : Q_TASK_STATE_QUEUED);
  q_task_wake_waiters_locked (priv);

  return !sync->has_thread;
}

/* The same, with no lock held. */
void
q_task_end_sync (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  gboolean requeue;

  g_mutex_lock (&priv->lock);
  requeue = q_task_end_sync_locked (task);
  g_mutex_unlock (&priv->lock);

  if (requeue)
    priv->runner->funcs->requeue (priv->runner, task);
}

gboolean
q_task_has_sync_func (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskSync *sync = get_sync (priv);
  gboolean has_func;

  if (sync == NULL)
    return FALSE;

  g_mutex_lock (&priv->lock);
  has_func = sync->handler != NULL;
  g_mutex_unlock (&priv->lock);

  return has_func;
}

/* Calls the sync function, if the task syncs and it was not called yet. Called by the
 * owner. */
void
q_task_serve_sync (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskSync *sync = get_sync (priv);
  QTaskHandler *handler = NULL;
  QTaskHold hold;
  guint word;

  if (sync == NULL)
    return;

  g_mutex_lock (&priv->lock);
  word = q_task_get_word (priv);
  if (q_task_word_get_state (word) == Q_TASK_STATE_SYNCING && sync->handler != NULL &&
      !sync->is_told && !sync->is_resumed)
    {
      handler = q_task_handler_ref (sync->handler);
      sync->is_told = TRUE;
      sync->n_holds++;
    }
  g_mutex_unlock (&priv->lock);

  if (handler == NULL)
    return;

  begin_hold (&hold, task);

  /* What it wrote before it came here. */
  q_task_flush_messages (task);

  ((QTaskSyncFunc) handler->func) (task, handler->opaque);

  end_hold (&hold);

  q_task_handler_unref (handler, priv);
  q_task_end_sync (task);
}

static void
sync_delivered (QTaskDelivery *delivery,
                gboolean lost)
{
  QTaskSync *sync = (QTaskSync *) delivery;
  QTask *task = sync->task;
  QTaskPrivate *priv = q_task_get_private (task);

  g_mutex_lock (&priv->lock);
  sync->task = NULL;
  g_mutex_unlock (&priv->lock);

  /* A task that has no owner any more is asked to stop, and that ends the sync. */
  if (!lost)
    q_task_serve_sync (task);

  g_object_unref (task);
}

/* Prepares to tell the owner. Returns whether to deliver, once the lock is released. */
static gboolean
schedule_locked (QTask *task,
                 QTaskSync *sync)
{
  if (sync->task != NULL || sync->handler == NULL)
    return FALSE;

  sync->task = g_object_ref (task);
  sync->delivery.func = sync_delivered;

  return TRUE;
}

static void
deliver (QTaskPrivate *priv,
         QTaskSync *sync)
{
  q_task_dispatch_deliver (priv->dispatch, &sync->delivery.node,
                           q_task_get_delivery_priority (priv));
}

/* Begins a sync. Returns FALSE, with nothing changed, where the task is to stop, or has nobody
 * to sync with. With the lock held; sets @schedule if the delivery is to follow. */
static gboolean
begin_locked (QTask *task,
              QTaskSync *sync,
              gboolean has_thread,
              gboolean *schedule)
{
  QTaskPrivate *priv = q_task_get_private (task);

  *schedule = FALSE;

  if (needs_no_owner (q_task_get_word (priv)))
    return FALSE;

  sync->is_told = FALSE;
  sync->is_resumed = FALSE;
  sync->has_thread = has_thread;
  q_task_change (priv, Q_TASK_WORD_STATE, Q_TASK_STATE_SYNCING);
  *schedule = schedule_locked (task, sync);
  q_task_wake_waiters_locked (priv);

  return TRUE;
}

/* Lets a task sync whose step worker said so, and which holds no thread: its runner has it and
 * queues it again when the sync has ended. If there is nothing to sync with, that is now,
 * and FALSE is returned. The caller has a reference of its own. */
gboolean
q_task_sync_steps (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskSync *sync = ensure_sync (priv);
  gboolean schedule;
  gboolean syncing;

  g_mutex_lock (&priv->lock);
  syncing = begin_locked (task, sync, FALSE, &schedule);
  if (!syncing)
    q_task_change (priv, Q_TASK_WORD_STATE, Q_TASK_STATE_QUEUED);
  g_mutex_unlock (&priv->lock);

  if (schedule)
    deliver (priv, sync);

  /* What stopped it meanwhile may have done so without a word here. */
  if (syncing && q_task_dispatch_is_lost (priv->dispatch))
    q_task_request_stop (task, Q_TASK_STOP_LOST);

  return syncing;
}

/* The task has completed: the function is not called any more. */
void
q_task_drop_sync (QTask *task,
                  gboolean is_owner)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskSync *sync = get_sync (priv);
  QTaskHandler *handler;
  gboolean taken;

  if (sync == NULL)
    return;

  g_mutex_lock (&priv->lock);
  handler = g_steal_pointer (&sync->handler);
  taken = is_owner && sync->task != NULL &&
          q_task_dispatch_take (priv->dispatch, &sync->delivery.node);
  if (taken)
    sync->task = NULL;
  g_mutex_unlock (&priv->lock);

  q_task_handler_unref (handler, priv);
  if (taken)
    g_object_unref (task);
}

/* Called when the task is finalized. */
void
q_task_free_sync (QTaskPrivate *priv)
{
  QTaskSync *sync = get_sync (priv);

  if (sync == NULL)
    return;

  g_assert (sync->task == NULL);
  q_task_handler_unref (g_steal_pointer (&sync->handler), priv);
  g_free (sync);
}

/* Blocks until the sync has ended. */
static void
block (QTask *task,
       QTaskFrame *frame)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskRunner *runner = frame->runner;
  gboolean has_threads;

  runner->funcs->park (runner);
  has_threads = runner->funcs->compensate (runner);

  g_mutex_lock (&priv->lock);
  q_task_begin_wait_locked (priv, 0);

  while (q_task_word_get_state (q_task_get_word (priv)) == Q_TASK_STATE_SYNCING)
    {
      if (has_threads)
        {
          g_cond_wait (&extra->cond, &priv->lock);
        }
      else if (!g_cond_wait_until (&extra->cond, &priv->lock,
                                   g_get_monotonic_time () + RETRY_USEC))
        {
          g_mutex_unlock (&priv->lock);
          has_threads = runner->funcs->compensate (runner);
          g_mutex_lock (&priv->lock);
        }
    }

  q_task_end_wait_locked (priv, 0);
  g_mutex_unlock (&priv->lock);

  runner->funcs->unpark (runner);
}

static gboolean
set_stop_error (QTask *task,
                GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskStopReason reason = Q_TASK_STOP_CANCEL;

  if (!q_task_is_cancelled (task))
    return FALSE;

  if (q_task_get_word (priv) & Q_TASK_WORD_TIMED_OUT)
    reason = Q_TASK_STOP_TIMEOUT;
  else if (q_task_dispatch_is_lost (priv->dispatch))
    reason = Q_TASK_STOP_LOST;

  g_propagate_error (error, q_task_new_stop_error (reason));

  return TRUE;
}

/**
 * q_task_sync:
 * @task: the task whose worker is the caller
 * @error: return location for an error
 *
 * Waits for the owner: it is told by the function that was set with
 * [method@QTask.Task.set_sync_func], after all messages that the worker wrote before, and the
 * worker goes on when it calls [method@QTask.Task.resume]. The worker never runs while that
 * function does.
 *
 * Meanwhile the thread does not count among those of its pool, which goes on with other tasks.
 * What asks the task to stop also ends the waiting: a cancel, the timeout, the loss of the
 * context. A task that was detached from a bound object, and outlives it, has nobody to wait
 * for, and goes on at once.
 *
 * A step worker returns %Q_TASK_STEP_SYNC instead, which holds no thread.
 *
 * Errors: %G_IO_ERROR_CANCELLED if the task has been asked to stop, %G_IO_ERROR_TIMED_OUT if
 * that was by its timeout; %Q_TASK_ERROR_FORKED in a forked child.
 *
 * May be called from the worker of @task.
 *
 * Returns: %TRUE to go on, %FALSE to stop
 *
 * Since: 1.0
 */
gboolean
q_task_sync (QTask *task,
             GError **error)
{
  QTaskFrame *frame = q_task_get_current_frame ();
  QTaskPrivate *priv;
  QTaskSync *sync;
  gboolean schedule;
  gboolean syncing;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  if (frame == NULL || frame->task != task)
    {
      q_task_warn (task, "cannot sync here; call q_task_sync() in its worker, with the task that "
                         "the worker is given");
      return FALSE;
    }

  if (set_stop_error (task, error))
    return FALSE;

  priv = q_task_get_private (task);
  sync = ensure_sync (priv);

  g_mutex_lock (&priv->lock);
  syncing = begin_locked (task, sync, TRUE, &schedule);
  g_mutex_unlock (&priv->lock);

  if (schedule)
    deliver (priv, sync);

  if (syncing)
    {
      /* What came just before the sync began did not end it. */
      if (q_task_dispatch_is_lost (priv->dispatch))
        q_task_request_stop (task, Q_TASK_STOP_LOST);

      block (task, frame);
    }

  return !set_stop_error (task, error);
}

/**
 * q_task_set_sync_func:
 * @task: a task
 * @func: (nullable) (scope notified) (closure opaque) (destroy destroy): called by the owner
 *   when the worker has come to a sync point, or %NULL for none
 * @opaque: (nullable): data for @func
 * @destroy: (nullable): frees @opaque; called by the owner when the function is replaced, or
 *   dropped after the callback
 *
 * Sets the function that is told when the worker syncs; see [method@QTask.Task.sync]. It is
 * called once for each sync. With none, the owner can see %Q_TASK_STATE_SYNCING in
 * [method@QTask.Task.poll].
 *
 * May be called from the owner.
 *
 * Since: 1.0
 */
void
q_task_set_sync_func (QTask *task,
                      QTaskSyncFunc func,
                      gpointer opaque,
                      GDestroyNotify destroy)
{
  QTaskPrivate *priv;
  QTaskSync *sync;
  QTaskHandler *handler = NULL;
  QTaskHandler *old;
  gboolean schedule = FALSE;

  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);
  sync = ensure_sync (priv);

  if (func != NULL)
    handler = q_task_handler_new (G_CALLBACK (func), opaque, destroy);
  else
    q_task_release_data (priv, opaque, destroy);

  g_mutex_lock (&priv->lock);
  old = sync->handler;
  sync->handler = handler;
  if (q_task_word_get_state (q_task_get_word (priv)) == Q_TASK_STATE_SYNCING && !sync->is_told)
    schedule = schedule_locked (task, sync);
  g_mutex_unlock (&priv->lock);

  if (schedule)
    deliver (priv, sync);

  q_task_handler_unref (old, priv);
}

/**
 * q_task_resume:
 * @task: a task
 * @stop: whether the worker is to stop
 *
 * Lets the worker go on from its sync point; see [method@QTask.Task.sync]. With @stop, the
 * task is asked to stop as well, as [method@QTask.Task.cancel] does. Called in the sync
 * function, it takes effect when that returns.
 *
 * If the task does not sync, was resumed before, or is to stop anyway, nothing happens.
 *
 * May be called from any thread.
 *
 * Returns: whether the task was syncing
 *
 * Since: 1.0
 */
gboolean
q_task_resume (QTask *task,
               gboolean stop)
{
  g_autoptr (QTask) self = NULL;
  QTaskPrivate *priv;
  QTaskSync *sync;
  QTaskHold hold;
  gboolean resumed;
  guint word;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  if (q_task_is_forked (NULL))
    return FALSE;

  priv = q_task_get_private (task);
  sync = get_sync (priv);
  if (sync == NULL)
    return FALSE;

  self = g_object_ref (task);

  g_mutex_lock (&priv->lock);
  word = q_task_get_word (priv);
  resumed = q_task_word_get_state (word) == Q_TASK_STATE_SYNCING && !sync->is_resumed &&
            !needs_no_owner (word);
  if (resumed)
    {
      sync->is_resumed = TRUE;
      sync->n_holds++;
    }
  g_mutex_unlock (&priv->lock);

  if (!resumed)
    return FALSE;

  begin_hold (&hold, task);

  /* First, so that the worker finds itself asked. */
  if (stop)
    q_task_request_stop (task, Q_TASK_STOP_CANCEL);

  end_hold (&hold);

  q_task_end_sync (task);

  return TRUE;
}

/**
 * q_task_get_outlive: (get-property outlive)
 * @task: a task
 *
 * Gets whether the task runs on when an object goes that it is bound to; see
 * [method@QTask.Task.set_outlive].
 *
 * May be called from any thread.
 *
 * Returns: whether it does
 *
 * Since: 1.0
 */
gboolean
q_task_get_outlive (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  return q_task_is_set (task, Q_TASK_WORD_OUTLIVE);
}

/**
 * q_task_set_outlive: (set-property outlive)
 * @task: a task
 * @outlive: whether the task runs on
 *
 * Sets whether the task runs on, detached, when an object goes that it is bound to with
 * [method@QTask.Task.bind_object], as with %Q_TASK_BIND_OUTLIVE. A worker that has come to where
 * it is to be brought to an end sets it. When the object has gone before, it is too late.
 *
 * May be called from any thread, the worker included.
 *
 * Since: 1.0
 */
void
q_task_set_outlive (QTask *task,
                    gboolean outlive)
{
  guint old;

  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_is_forked (NULL))
    return;

  old = q_task_change (q_task_get_private (task), outlive ? 0 : Q_TASK_WORD_OUTLIVE,
                       outlive ? Q_TASK_WORD_OUTLIVE : 0);

  if (((old & Q_TASK_WORD_OUTLIVE) != 0) != (outlive != FALSE))
    q_task_notify (task, Q_TASK_PROP_OUTLIVE);
}
