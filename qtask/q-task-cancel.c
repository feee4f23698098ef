/* q-task-cancel.c: asking a QTask to stop
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * All that stops a task comes to q_task_request_stop(): q_task_cancel(), a handler on a
 * cancellable, the timeout, the loss of the context. It decides under the lock of the
 * task, and acts with no lock held: cancelling the own cancellable runs handlers of the
 * user.
 *
 * A given cancellable is followed in two ways: by a handler with a reference to the task
 * while it is started, which is cheap and goes when it ends, and by a handler with a weak
 * reference from when the own cancellable is asked for. Handlers are disconnected without
 * waiting for one that runs, since it may be the one that disconnects.
 */

#include "config.h"

#include "q-task-private.h"

/* Asks the task to stop. Has no effect once the outcome is fixed. */
void
q_task_request_stop (QTask *task,
                     QTaskStopReason reason)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra;
  g_autoptr (GCancellable) stop = NULL;
  QTaskWaiter *waiters = NULL;
  QTaskRunner *runner = NULL;
  gboolean to_front = FALSE;
  gboolean withdraw = FALSE;
  gboolean early = FALSE;
  gboolean requeue = FALSE;
  gboolean tell = FALSE;
  guint flags = Q_TASK_WORD_STOP;
  guint word;

  if (reason == Q_TASK_STOP_CANCEL)
    flags |= Q_TASK_WORD_CANCELLED;
  else if (reason == Q_TASK_STOP_TIMEOUT)
    flags |= Q_TASK_WORD_TIMED_OUT;

  g_mutex_lock (&priv->lock);

  word = q_task_get_word (priv);

  if ((word & Q_TASK_WORD_FIXED) == 0)
    {
      q_task_change (priv, 0, flags);

      switch (q_task_word_get_state (word))
        {
        case Q_TASK_STATE_QUEUED:
          if ((word & Q_TASK_WORD_BEGUN) == 0 &&
              ((word & Q_TASK_WORD_RUN_CANCELLED) == 0 || reason == Q_TASK_STOP_LOST))
            {
              q_task_fix_locked (task, q_task_new_stop_error (reason), Q_TASK_STATE_STOPPED);
              withdraw = TRUE;
              break;
            }

          to_front = TRUE;
          G_GNUC_FALLTHROUGH;

        case Q_TASK_STATE_RUNNING:
        case Q_TASK_STATE_SYNCING:
          early = reason != Q_TASK_STOP_LOST && (word & Q_TASK_WORD_RETURN_ON_CANCEL) != 0;
          if (early || reason != Q_TASK_STOP_CANCEL)
            q_task_fix_locked (task, q_task_new_stop_error (reason), Q_TASK_WORD_EARLY);
          break;

        case Q_TASK_STATE_NEW:
        case Q_TASK_STATE_STOPPING:
        case Q_TASK_STATE_FINISHED:
        case Q_TASK_STATE_STOPPED:
        default:
          break;
        }

      requeue = q_task_end_sync_locked (task);

      extra = g_atomic_pointer_get (&priv->extra);
      if (extra != NULL)
        {
          if (extra->stop != NULL)
            stop = g_object_ref (extra->stop);

          if (q_task_get_word (priv) & Q_TASK_WORD_FIXED)
            waiters = q_task_steal_waiters_locked (priv, FALSE);
        }

      tell = (q_task_word_get_state (word) == Q_TASK_STATE_RUNNING ||
              q_task_word_get_state (word) == Q_TASK_STATE_SYNCING) &&
             priv->runner->funcs->stop != NULL;

      /* The start may be undone meanwhile. */
      if (to_front || withdraw || tell)
        {
          runner = priv->runner;
          runner->funcs->ref (runner);
        }
    }

  g_mutex_unlock (&priv->lock);

  if (to_front)
    runner->funcs->move_to_front (runner, task);

  if (requeue)
    priv->runner->funcs->requeue (priv->runner, task);

  if (tell)
    runner->funcs->stop (runner, task);

  if (early)
    q_task_send_early (task, reason);

  /* Else it is not in the queue yet, or not any more, and whoever has it will see. */
  if (withdraw && runner->funcs->withdraw (runner, task))
    {
      q_task_unwatch_stop (task);
      q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);
    }

  if (runner != NULL)
    runner->funcs->unref (runner);

  if (reason == Q_TASK_STOP_LOST)
    q_task_close_channel (task);

  if (q_task_get_member (priv) != NULL && (q_task_get_word (priv) & Q_TASK_WORD_FIXED) != 0)
    q_task_member_funcs->failed (task);

  /* Last, since these run code of the user, who may wait for the task. */
  if (stop != NULL)
    g_cancellable_cancel (stop);

  q_task_return_waiters (waiters);
}

/* Cancellables */

static void
given_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                    gpointer task)
{
  q_task_request_stop (task, Q_TASK_STOP_CANCEL);
}

static void
unref_task_notify (gpointer task,
                   GClosure *closure G_GNUC_UNUSED)
{
  g_object_unref (task);
}

static void
weak_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                   gpointer data)
{
  g_autoptr (QTask) task = g_weak_ref_get (data);

  if (task != NULL)
    q_task_request_stop (task, Q_TASK_STOP_CANCEL);
}

static void
free_weak_notify (gpointer data,
                  GClosure *closure G_GNUC_UNUSED)
{
  g_weak_ref_clear (data);
  g_free (data);
}

/* Has the task cancelled along with @cancellable, without keeping it alive. */
static gulong
follow_weakly (QTask *task,
               GCancellable *cancellable)
{
  GWeakRef *weak = g_new0 (GWeakRef, 1);

  g_weak_ref_init (weak, task);

  return g_signal_connect_data (cancellable, "cancelled", G_CALLBACK (weak_cancelled_cb), weak,
                                free_weak_notify, 0);
}

static void
timer_delivered (QTaskDelivery *delivery,
                 gboolean lost)
{
  QTaskExtra *extra = (QTaskExtra *) ((char *) delivery - G_STRUCT_OFFSET (QTaskExtra, timer));
  g_autoptr (QTask) task = extra->timer_task;
  QTaskPrivate *priv = q_task_get_private (task);
  gboolean is_due;

  g_mutex_lock (&priv->lock);

  /* It may have been cleared, or set anew, on its way here. */
  is_due = !lost && extra->deadline > 0;
  if (is_due && extra->deadline > g_get_monotonic_time () &&
      q_task_dispatch_set_timer (priv->dispatch, &extra->timer, extra->deadline))
    {
      g_steal_pointer (&task);
      g_mutex_unlock (&priv->lock);
      return;
    }

  extra->timer_task = NULL;
  extra->timer_is_set = FALSE;

  g_mutex_unlock (&priv->lock);

  if (is_due)
    q_task_request_stop (task, Q_TASK_STOP_TIMEOUT);
}

/* Sets the timer of a started task, if it has a timeout. The owner may do so while another
 * thread starts the task, and may be at the timer as soon as that is set. */
static void
start_timeout (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  gint64 now = g_get_monotonic_time ();

  g_mutex_lock (&priv->lock);

  if (extra->timeout > 0 && (q_task_get_word (priv) & Q_TASK_WORD_FIXED) == 0)
    {
      gboolean was_set = extra->timer_is_set;

      extra->deadline = q_task_add_timeout (now, extra->timeout);

      /* One that cannot be cleared is on its way, and looks at the deadline. */
      if (!was_set || q_task_dispatch_clear_timer (priv->dispatch, &extra->timer))
        {
          if (!was_set)
            extra->timer_task = g_object_ref (task);
          extra->timer.func = timer_delivered;
          extra->timer_is_set = TRUE;

          if (!q_task_dispatch_set_timer (priv->dispatch, &extra->timer, extra->deadline))
            {
              /* The context has gone; the caller has another reference. */
              extra->timer_is_set = FALSE;
              g_object_unref (g_steal_pointer (&extra->timer_task));
            }
        }

      q_task_wake_waiters_locked (priv);
    }

  g_mutex_unlock (&priv->lock);
}

/* Drops the timer, unless its function is about to be called. */
void
q_task_clear_timeout (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  g_autoptr (QTask) timer_task = NULL;

  if (extra == NULL)
    return;

  g_mutex_lock (&priv->lock);
  extra->deadline = 0;
  if (extra->timer_is_set && q_task_dispatch_clear_timer (priv->dispatch, &extra->timer))
    {
      extra->timer_is_set = FALSE;
      timer_task = g_steal_pointer (&extra->timer_task);
    }
  g_mutex_unlock (&priv->lock);
}

/* Watches for what stops a task that is being started: its cancellable and its timeout. */
void
q_task_watch_stop (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  if (extra != NULL && extra->cancellable != NULL)
    {
      gulong handler;

      handler = g_signal_connect_data (extra->cancellable, "cancelled",
                                       G_CALLBACK (given_cancelled_cb), g_object_ref (task),
                                       unref_task_notify, 0);

      g_mutex_lock (&priv->lock);
      extra->cancel_handler = handler;
      g_mutex_unlock (&priv->lock);

      if (g_cancellable_is_cancelled (extra->cancellable))
        q_task_request_stop (task, Q_TASK_STOP_CANCEL);
    }

  if (q_task_get_word (priv) & Q_TASK_WORD_STOP)
    q_task_request_stop (task, Q_TASK_STOP_CANCEL);

  if (extra != NULL)
    start_timeout (task);
}

/* Drops the handler on the given cancellable. */
void
q_task_unwatch_stop (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra;
  gulong handler;

  extra = g_atomic_pointer_get (&priv->extra);
  if (extra == NULL || extra->cancellable == NULL)
    return;

  g_mutex_lock (&priv->lock);
  handler = extra->cancel_handler;
  extra->cancel_handler = 0;
  g_mutex_unlock (&priv->lock);

  if (handler != 0)
    g_signal_handler_disconnect (extra->cancellable, handler);
}

/* Called when the task is finalized. */
void
q_task_free_cancel (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  if (extra->cancel_handler != 0)
    g_signal_handler_disconnect (extra->cancellable, extra->cancel_handler);

  if (extra->follow_handler != 0)
    g_signal_handler_disconnect (extra->cancellable, extra->follow_handler);

  g_clear_object (&extra->cancellable);

  if (extra->stop != NULL)
    {
      g_signal_handler_disconnect (extra->stop, extra->stop_handler);
      g_object_unref (extra->stop);
    }
}

/**
 * q_task_get_cancellable:
 * @task: a task
 *
 * Gets the cancellable that the caller gave or, if there is none, the task's own. To cancel
 * the task alone, use [method@QTask.Task.cancel]: others may share a given one.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none): the cancellable
 *
 * Since: 1.0
 */
GCancellable *
q_task_get_cancellable (QTask *task)
{
  GCancellable *given;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  given = q_task_get_given (q_task_get_private (task));

  return given != NULL ? given : q_task_get_stop_cancellable (task);
}

/**
 * q_task_get_stop_cancellable:
 * @task: a task
 *
 * Gets the task's own cancellable, made when it is first asked for. It is cancelled when the
 * task is asked to stop for whatever reason: it was cancelled, the given cancellable was,
 * its timeout has passed, its context has gone. A worker passes it on to whatever it calls.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none): the own cancellable
 *
 * Since: 1.0
 */
GCancellable *
q_task_get_stop_cancellable (QTask *task)
{
  QTaskPrivate *priv;
  QTaskExtra *extra;
  GCancellable *stop;
  GCancellable *created;
  gulong stop_handler;
  gulong follow_handler = 0;
  gboolean stopped;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  priv = q_task_get_private (task);
  extra = q_task_ensure_extra (priv);

  g_mutex_lock (&priv->lock);
  stop = extra->stop;
  g_mutex_unlock (&priv->lock);

  if (stop != NULL)
    return stop;

  created = g_cancellable_new ();
  stop_handler = follow_weakly (task, created);
  if (extra->cancellable != NULL)
    follow_handler = follow_weakly (task, extra->cancellable);

  g_mutex_lock (&priv->lock);
  if (extra->stop == NULL)
    {
      extra->stop = g_object_ref (created);
      extra->stop_handler = stop_handler;
      extra->follow_handler = follow_handler;
      stop_handler = follow_handler = 0;
    }
  stop = extra->stop;
  stopped = (q_task_get_word (priv) & Q_TASK_WORD_STOP) != 0;
  g_mutex_unlock (&priv->lock);

  if (stop_handler != 0)
    g_signal_handler_disconnect (created, stop_handler);
  if (follow_handler != 0)
    g_signal_handler_disconnect (extra->cancellable, follow_handler);
  g_object_unref (created);

  if (stopped || q_task_dispatch_is_lost (priv->dispatch))
    g_cancellable_cancel (stop);
  else if (g_cancellable_is_cancelled (extra->cancellable))
    q_task_request_stop (task, Q_TASK_STOP_CANCEL);

  return stop;
}

/**
 * q_task_cancel:
 * @task: a task
 *
 * Asks the task to stop. A queued task leaves the queue and completes as cancelled (with
 * [property@QTask.Task:run-cancelled] it moves to the front instead); a running one learns
 * through [method@QTask.Task.is_cancelled] and
 * [method@QTask.Task.get_stop_cancellable]; one that has yet to start will not. A given
 * cancellable is not cancelled. A task that already has its outcome keeps it.
 *
 * May be called from any thread, and from anywhere, handlers of
 * [signal@Gio.Cancellable::cancelled] included.
 *
 * Since: 1.0
 */
void
q_task_cancel (QTask *task)
{
  g_autoptr (QTask) hold = NULL;

  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_is_forked (NULL))
    return;

  hold = g_object_ref (task);
  q_task_request_stop (task, Q_TASK_STOP_CANCEL);
}

/**
 * q_task_is_cancelled:
 * @task: a task
 *
 * Whether the task has been asked to stop: it was cancelled, the given cancellable was, its
 * timeout has passed, or its context has gone. Cheap enough for an inner loop.
 *
 * May be called from any thread.
 *
 * Returns: whether it has
 *
 * Since: 1.0
 */
gboolean
q_task_is_cancelled (QTask *task)
{
  QTaskPrivate *priv;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  priv = q_task_get_private (task);

  return (q_task_get_word (priv) & Q_TASK_WORD_STOP) != 0 ||
         g_cancellable_is_cancelled (q_task_get_given (priv)) ||
         q_task_dispatch_is_lost (priv->dispatch);
}

/**
 * q_task_get_timeout:
 * @task: a task
 *
 * Gets how long the task may take; see [method@QTask.Task.set_timeout].
 *
 * May be called from any thread.
 *
 * Returns: the timeout in microseconds, or 0 for none
 *
 * Since: 1.0
 */
gint64
q_task_get_timeout (QTask *task)
{
  QTaskExtra *extra;

  g_return_val_if_fail (Q_IS_TASK (task), 0);

  extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL ? extra->timeout : 0;
}

/**
 * q_task_set_timeout:
 * @task: a task
 * @timeout: how long the task may take, in microseconds, or 0 for as long as it likes
 *
 * Sets how long the task may take from its start, the time in the queue included, or from
 * now if it has been started. When that has passed, the task is asked to stop, and its
 * outcome is %G_IO_ERROR_TIMED_OUT at once; the callback comes when the worker has ended, or
 * at once with [property@QTask.Task:return-on-cancel]. No cancellable that was given is
 * cancelled, and the outcome does not read as cancelled, though [method@QTask.Task.is_cancelled]
 * tells the worker to stop.
 *
 * The time is counted in the main loop of the owner, and in [method@QTask.Task.wait].
 *
 * May be called from the owner.
 *
 * Since: 1.0
 */
void
q_task_set_timeout (QTask *task,
                    gint64 timeout)
{
  QTaskPrivate *priv;
  QTaskExtra *extra;
  QTaskState state;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (timeout >= 0);

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);
  extra = q_task_ensure_extra (priv);

  if (extra->timeout == timeout)
    return;

  q_task_clear_timeout (task);

  g_mutex_lock (&priv->lock);
  extra->timeout = timeout;
  g_mutex_unlock (&priv->lock);

  state = q_task_word_get_state (q_task_get_word (priv));
  if (timeout > 0 && (state == Q_TASK_STATE_QUEUED || state == Q_TASK_STATE_RUNNING ||
                      state == Q_TASK_STATE_SYNCING))
    start_timeout (task);

  q_task_notify (task, Q_TASK_PROP_TIMEOUT);
}
