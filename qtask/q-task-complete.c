/* q-task-complete.c: the completion of a QTask, and its way to the owner
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whoever sets SENT, under the lock and once, sees to the completion:
 *
 *   - q_task_complete() and q_task_return_…(), for a task driven by other code;
 *   - q_task_end_run(), when the worker has ended or the task was withdrawn: the
 *     reference of the queue or the worker travels with the completion, or both are
 *     handed to the owner if that waits;
 *   - q_task_send_early(), for a task with return-on-cancel whose worker goes on: then the
 *     end of the worker follows on its own.
 *
 * Once its completion is sent or handed over, a worker does not touch the task any more.
 */

#include "config.h"

#include "q-task-private.h"

const QTaskMemberFuncs *q_task_member_funcs;

/* The functions beside the callback are not called any more. */
static void
drop_functions (QTask *task,
                gboolean is_owner,
                gboolean worker_ended)
{
  if (is_owner && !worker_ended)
    q_task_detach_channel (task, TRUE);
  else if (is_owner)
    q_task_drop_messages (task);

  q_task_drop_sync (task, is_owner);
  q_task_drop_bindings (task);
}

/* Calls the callback and releases what came with it, and with the worker if that has
 * ended. Called by the owner, or with @lost TRUE when there is none any more. */
void
q_task_complete_now (QTask *task,
                     gboolean lost,
                     gboolean worker_ended)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  GMainContext *context = NULL;
  guint word;

  word = q_task_change (priv, 0, Q_TASK_WORD_COMPLETING);

  if (extra != NULL)
    {
      q_task_clear_timeout (task);
      q_task_flush_progress (task, lost);
    }

  if (!lost)
    {
      GMainContext *thread_default = g_main_context_get_thread_default ();

      context = q_task_dispatch_get_context (priv->dispatch);
      if (context == (thread_default != NULL ? thread_default : g_main_context_default ()))
        context = NULL;
    }

  if (context != NULL)
    g_main_context_push_thread_default (context);

  if (!lost && g_atomic_pointer_get (&priv->extra) != NULL)
    {
      q_task_flush_messages (task);
      q_task_tell_bound (task);
    }

  /* A bound object may go until the last moment. */
  if (priv->callback != NULL && !lost && !q_task_is_set (task, Q_TASK_WORD_DETACHED))
    {
      if (word & Q_TASK_WORD_ASYNC)
        ((GAsyncReadyCallback) priv->callback) (priv->source_object, G_ASYNC_RESULT (task),
                                                priv->opaque);
      else
        ((QTaskFunc) priv->callback) (task, priv->opaque);
    }

  if (priv->opaque_destroy != NULL)
    {
      GDestroyNotify destroy = g_steal_pointer (&priv->opaque_destroy);

      destroy (g_steal_pointer (&priv->opaque));
    }

  if (worker_ended && priv->worker_data_destroy != NULL)
    {
      GDestroyNotify destroy = g_steal_pointer (&priv->worker_data_destroy);

      destroy (g_steal_pointer (&priv->worker_data));
    }

  q_task_change (priv, 0, Q_TASK_WORD_COMPLETED);

  /* The callback may have made the extra part. */
  if (g_atomic_pointer_get (&priv->extra) != NULL)
    drop_functions (task, !lost, worker_ended);

  if (!lost)
    g_object_notify_by_pspec (G_OBJECT (task), q_task_props[Q_TASK_PROP_COMPLETED]);

  if (context != NULL)
    g_main_context_pop_thread_default (context);

  if (g_atomic_pointer_get (&priv->extra) != NULL)
    {
      QTaskWaiter *waiters;

      g_mutex_lock (&priv->lock);
      waiters = q_task_steal_waiters_locked (priv, TRUE);
      g_mutex_unlock (&priv->lock);

      q_task_return_waiters (waiters);

      if (q_task_get_member (priv) != NULL)
        q_task_member_funcs->completed (task, lost);
    }
}

static void
completion_delivered (QTask *task,
                      gboolean lost)
{
  q_task_complete_now (task, lost, TRUE);

  /* An abandoned task may still be in dispose, in another thread. */
  if (G_UNLIKELY (q_task_get_word (q_task_get_private (task)) & Q_TASK_WORD_ABANDONED) &&
      q_task_get_private (task)->thread_id != q_task_dispatch_get_thread_id ())
    q_task_release (task);
  else
    g_object_unref (task);
}

/* The worker has ended, and the completion was sent before. */
static void
end_delivered (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  if (priv->worker_data_destroy != NULL)
    {
      GDestroyNotify destroy = g_steal_pointer (&priv->worker_data_destroy);

      destroy (g_steal_pointer (&priv->worker_data));
    }

  g_object_unref (task);
}

static void
early_delivered (QTaskDelivery *delivery,
                 gboolean lost)
{
  QTaskExtra *extra = (QTaskExtra *) ((char *) delivery - G_STRUCT_OFFSET (QTaskExtra, early));
  QTask *task = extra->early_task;

  q_task_complete_now (task, lost, FALSE);
  g_object_unref (task);
}

/* Of the node of a task. Takes the reference that travels along. */
void
q_task_delivered (QTaskNode *node,
                  gboolean lost)
{
  QTask *task = q_task_from_node (node);

  if (q_task_get_word (q_task_get_private (task)) & Q_TASK_WORD_SENT_EARLY)
    end_delivered (task);
  else
    completion_delivered (task, lost);
}

/* Hands the completion over, or the end of the worker if that was sent before, and with it a
 * reference. */
void
q_task_send_completion (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  q_task_dispatch_deliver (priv->dispatch, &priv->node, q_task_get_delivery_priority (priv));
}

/* Completes a task with return-on-cancel that is to stop, while its worker goes on or has
 * yet to start. */
void
q_task_send_early (QTask *task,
                   QTaskStopReason reason)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = q_task_ensure_extra (priv);
  QTaskWaiter *waiters;
  guint word;

  g_mutex_lock (&priv->lock);
  q_task_fix_locked (task, q_task_new_stop_error (reason), Q_TASK_WORD_EARLY);
  word = q_task_get_word (priv);
  if ((word & Q_TASK_WORD_SENT) == 0)
    {
      q_task_change (priv, 0, Q_TASK_WORD_SENT | Q_TASK_WORD_SENT_EARLY);
      q_task_wake_waiters_locked (priv);
    }
  waiters = q_task_steal_waiters_locked (priv, FALSE);
  g_mutex_unlock (&priv->lock);

  /* Who runs it synchronously completes it. */
  if ((word & (Q_TASK_WORD_SENT | Q_TASK_WORD_SYNCHRONOUS)) == 0)
    {
      extra->early_task = g_object_ref (task);
      extra->early.func = early_delivered;
      q_task_dispatch_deliver (priv->dispatch, &extra->early.node,
                               q_task_get_delivery_priority (priv));
    }

  q_task_return_waiters (waiters);
}

typedef enum
{
  END_COMPLETES, /* the completion is to follow */
  END_FOLLOWS,   /* it was sent early, and this tells of the end of the worker */
  END_HANDED     /* both are left to who waits */
} EndResult;

/* Fixes the outcome of a task whose worker has ended. Takes @error. Gives the waiters that are to
 * be returned afterwards. */
static inline EndResult
fix_end (QTask *task,
         GError *error,
         QTaskState state,
         QTaskWaiter **waiters)
{
  QTaskPrivate *priv = q_task_get_private (task);
  gboolean handed = FALSE;
  guint flags = state | Q_TASK_WORD_SENT;
  guint word;

  if (g_atomic_pointer_get (&priv->extra) != NULL)
    q_task_close_worker_channel (task);

  if (q_task_get_member (priv) != NULL)
    q_task_member_funcs->ending (task, error);

  g_mutex_lock (&priv->lock);

  word = q_task_get_word (priv);

  if ((word & Q_TASK_WORD_SENT) == 0 &&
      (word & (Q_TASK_WORD_SYNCHRONOUS | Q_TASK_WORD_OWNER_WAITS)) != 0)
    {
      flags |= Q_TASK_WORD_HANDED;
      handed = TRUE;
    }

  if (!q_task_fix_locked (task, error, flags))
    q_task_change (priv, Q_TASK_WORD_STATE, flags);

  if (g_atomic_pointer_get (&priv->extra) != NULL)
    {
      q_task_wake_waiters_locked (priv);
      *waiters = q_task_steal_waiters_locked (priv, FALSE);
    }

  g_mutex_unlock (&priv->lock);

  if (handed)
    return END_HANDED;

  return word & Q_TASK_WORD_SENT ? END_FOLLOWS : END_COMPLETES;
}

/* The worker has ended in @state and with @error, if not %NULL, or the task was
 * withdrawn. Takes the reference of the worker or the queue, and @error. */
void
q_task_end_run (QTask *task,
                GError *error,
                QTaskState state)
{
  QTaskWaiter *waiters = NULL;

  if (fix_end (task, error, state, &waiters) != END_HANDED)
    q_task_send_completion (task);

  q_task_return_waiters (waiters);
}

/* The same, called by the owner while the context of the task is dispatched: the callback is called
 * in place. */
void
q_task_end_run_here (QTask *task,
                     GError *error,
                     QTaskState state)
{
  QTaskWaiter *waiters = NULL;

  switch (fix_end (task, error, state, &waiters))
    {
    case END_COMPLETES:
      completion_delivered (task, FALSE);
      break;

    case END_FOLLOWS:
      q_task_send_completion (task);
      break;

    case END_HANDED:
    default:
      break;
    }

  q_task_return_waiters (waiters);
}

/* Takes a completion that was sent back from the dispatch, and runs it now. Called by the
 * owner, who waits for it. */
gboolean
q_task_take_completion (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  if (extra != NULL && q_task_dispatch_take (priv->dispatch, &extra->early.node))
    {
      early_delivered (&extra->early, FALSE);
      return TRUE;
    }

  /* With an early completion on its way, the node may still be in the queue of the pool. */
  if ((q_task_get_word (priv) & Q_TASK_WORD_SENT_EARLY) == 0 &&
      q_task_dispatch_take (priv->dispatch, &priv->node))
    {
      q_task_delivered (&priv->node, FALSE);
      return TRUE;
    }

  return FALSE;
}

/* Ends a synchronous run, in the thread that waited for it, without the callback. */
void
q_task_complete_synchronous (QTask *task,
                             gboolean worker_ended)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskOwnership ownership = q_task_dispatch_acquire (priv->dispatch, priv->thread_id);

  q_task_change (priv, 0, Q_TASK_WORD_COMPLETING);
  q_task_clear_timeout (task);

  if (ownership != Q_TASK_OWNER_NOT)
    {
      q_task_flush_progress (task, FALSE);
      q_task_flush_messages (task);
      q_task_tell_bound (task);
    }

  q_task_release_data (priv, g_steal_pointer (&priv->opaque),
                       g_steal_pointer (&priv->opaque_destroy));
  if (worker_ended)
    q_task_release_data (priv, g_steal_pointer (&priv->worker_data),
                         g_steal_pointer (&priv->worker_data_destroy));

  q_task_change (priv, 0, Q_TASK_WORD_COMPLETED);

  if (g_atomic_pointer_get (&priv->extra) != NULL)
    drop_functions (task, ownership != Q_TASK_OWNER_NOT, worker_ended);

  g_object_notify_by_pspec (G_OBJECT (task), q_task_props[Q_TASK_PROP_COMPLETED]);

  if (g_atomic_pointer_get (&priv->extra) != NULL)
    {
      QTaskWaiter *waiters;

      g_mutex_lock (&priv->lock);
      waiters = q_task_steal_waiters_locked (priv, TRUE);
      g_mutex_unlock (&priv->lock);

      q_task_return_waiters (waiters);

      if (q_task_get_member (priv) != NULL)
        q_task_member_funcs->completed (task, ownership == Q_TASK_OWNER_NOT);
    }

  q_task_dispatch_release (priv->dispatch, ownership);
}

/* Whether the caller is the first to complete the task. */
static gboolean
claim_return (QTask *task)
{
  guint word = q_task_change (q_task_get_private (task), 0, Q_TASK_WORD_RETURNED);

  if (word & Q_TASK_WORD_RETURNED)
    {
      q_task_warn (task, "was completed or returned before; this second time is ignored: complete "
                         "or return it once");
      return FALSE;
    }

  return TRUE;
}

/* Fixes the outcome of a task that is driven by other code, and claims its completion. In a
 * thread run the end of the worker does so. */
static gboolean
fix_and_claim_completion (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskWaiter *waiters = NULL;
  gboolean claimed = FALSE;

  g_mutex_lock (&priv->lock);

  if (q_task_word_get_state (q_task_get_word (priv)) == Q_TASK_STATE_NEW)
    claimed = q_task_fix_locked (task, NULL, Q_TASK_WORD_SENT);

  if (claimed && g_atomic_pointer_get (&priv->extra) != NULL)
    waiters = q_task_steal_waiters_locked (priv, FALSE);

  g_mutex_unlock (&priv->lock);

  if (claimed)
    q_task_close_worker_channel (task);
  if (claimed && q_task_get_member (priv) != NULL)
    q_task_member_funcs->failed (task);

  q_task_return_waiters (waiters);

  return claimed;
}

/* Whether GTask would call the callback in place: while the context of the task is
 * dispatched, in a later iteration than that in which the task was made, and not cancelled,
 * since this may be a handler of that very cancellation. */
static gboolean
may_return_now (QTaskPrivate *priv)
{
  GSource *source = g_main_current_source ();
  GMainContext *context = q_task_dispatch_get_context (priv->dispatch);

  if (source == NULL || context == NULL || g_source_get_context (source) != context)
    return FALSE;

  if (g_source_get_time (source) <= priv->node.key)
    return FALSE;

  return (q_task_get_word (priv) & Q_TASK_WORD_CANCELLED) == 0 &&
         !g_cancellable_is_cancelled (q_task_get_given (priv));
}

/* Completes a task that was claimed for return and has what it returns. */
static void
return_claimed (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  if (!fix_and_claim_completion (task))
    return;

  g_object_ref (task);

  if (may_return_now (priv))
    {
      q_task_complete_now (task, FALSE, TRUE);
      g_object_unref (task);
    }
  else
    {
      q_task_send_completion (task);
    }
}

/**
 * q_task_complete:
 * @task: a task
 *
 * Completes a task that is driven by other code, with the error or the result that was set
 * before; with nothing set it has succeeded.
 *
 * Called by the owner, it calls the callback before it returns; called by others, it hands
 * the completion to the owner. Called by a worker, it takes effect when the worker returns.
 *
 * Where the callback is not to come before the function has returned that makes the task, as in
 * one whose name ends in `_async`, use q_task_return_pointer() and its siblings.
 *
 * Completing or returning a second time is a critical warning.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_complete (QTask *task)
{
  QTaskPrivate *priv;
  QTaskOwnership ownership;

  g_return_if_fail (Q_IS_TASK (task));

  priv = q_task_get_private (task);

  if (q_task_is_forked (NULL))
    return;

  if (!claim_return (task) || !fix_and_claim_completion (task))
    return;

  g_object_ref (task);
  ownership = q_task_dispatch_acquire (priv->dispatch, priv->thread_id);

  if (ownership == Q_TASK_OWNER_NOT)
    {
      q_task_send_completion (task);
      return;
    }

  q_task_complete_now (task, FALSE, TRUE);
  q_task_dispatch_release (priv->dispatch, ownership);
  g_object_unref (task);
}

/**
 * q_task_return_pointer: (skip)
 * @task: a task
 * @result: (nullable) (transfer full): the result
 * @result_destroy: (nullable): frees @result, if nobody takes it
 *
 * Sets the result and completes the task, as g_task_return_pointer() does: the callback
 * is called in place if the context of the task is being dispatched, in a later iteration
 * than that in which the task was made, and the task has not been cancelled; otherwise in
 * the next iteration. In a thread run the completion comes when the worker returns.
 *
 * Completing or returning a second time is a critical warning.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_pointer (QTask *task,
                       gpointer result,
                       GDestroyNotify result_destroy)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (!claim_return (task))
    {
      q_task_release_data (q_task_get_private (task), result,
                           result != NULL ? result_destroy : NULL);
      return;
    }

  q_task_set_result_pointer (task, result, result_destroy);
  return_claimed (task);
}

/**
 * q_task_return_int:
 * @task: a task
 * @result: the result
 *
 * Sets the result and completes the task, as g_task_return_int() does; see
 * q_task_return_pointer().
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_int (QTask *task,
                   gssize result)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (!claim_return (task))
    return;

  q_task_set_result_int (task, result);
  return_claimed (task);
}

/**
 * q_task_return_boolean:
 * @task: a task
 * @result: the result
 *
 * Sets the result and completes the task, as g_task_return_boolean() does; see
 * q_task_return_pointer().
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_boolean (QTask *task,
                       gboolean result)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (!claim_return (task))
    return;

  q_task_set_result_boolean (task, result);
  return_claimed (task);
}

/**
 * q_task_return_value:
 * @task: a task
 * @result: (nullable) (transfer none): the result, or %NULL for a %NULL pointer
 *
 * Sets the result to a copy of @result and completes the task, as g_task_return_value()
 * does; see q_task_return_pointer().
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_value (QTask *task,
                     GValue *result)
{
  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (result == NULL || G_IS_VALUE (result));

  if (!claim_return (task))
    return;

  q_task_set_result_value (task, result);
  return_claimed (task);
}

/**
 * q_task_return_error:
 * @task: a task
 * @error: (transfer full): the error
 *
 * Sets the error and completes the task, as g_task_return_error() does; see
 * q_task_return_pointer().
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_error (QTask *task,
                     GError *error)
{
  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (error != NULL);

  if (!claim_return (task))
    {
      g_error_free (error);
      return;
    }

  q_task_set_error (task, error);
  return_claimed (task);
}

/**
 * q_task_return_new_error: (skip)
 * @task: a task
 * @domain: the error domain
 * @code: the error code
 * @format: a printf() format for the message
 * @...: what @format names
 *
 * As q_task_return_error(), with an error made here.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_new_error (QTask *task,
                         GQuark domain,
                         int code,
                         const char *format,
                         ...)
{
  va_list args;
  GError *error;

  g_return_if_fail (Q_IS_TASK (task));

  va_start (args, format);
  error = g_error_new_valist (domain, code, format, args);
  va_end (args);

  q_task_return_error (task, error);
}

/**
 * q_task_return_new_error_literal:
 * @task: a task
 * @domain: the error domain
 * @code: the error code
 * @message: the message
 *
 * As [method@QTask.Task.return_error], with an error made here.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_new_error_literal (QTask *task,
                                 GQuark domain,
                                 int code,
                                 const char *message)
{
  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (message != NULL);

  q_task_return_error (task, g_error_new_literal (domain, code, message));
}

/**
 * q_task_return_prefixed_error: (skip)
 * @task: a task
 * @error: (transfer full): the error
 * @format: a printf() format for what is put before its message
 * @...: what @format names
 *
 * As q_task_return_error(), with a prefix.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_return_prefixed_error (QTask *task,
                              GError *error,
                              const char *format,
                              ...)
{
  g_autofree char *prefix = NULL;
  va_list args;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (error != NULL);

  va_start (args, format);
  prefix = g_strdup_vprintf (format, args);
  va_end (args);

  g_prefix_error (&error, "%s", prefix);
  q_task_return_error (task, error);
}

/**
 * q_task_return_error_if_cancelled:
 * @task: a task
 *
 * If the task has been cancelled, completes it with %G_IO_ERROR_CANCELLED, whether or not
 * it checks its cancellable; if it has timed out, with %G_IO_ERROR_TIMED_OUT.
 *
 * May be called from any thread.
 *
 * Returns: whether it has
 *
 * Since: 1.0
 */
gboolean
q_task_return_error_if_cancelled (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  if (!q_task_is_cancelled (task))
    return FALSE;

  if (!claim_return (task))
    return FALSE;

  q_task_set_error_if_cancelled (task);
  return_claimed (task);

  return TRUE;
}
