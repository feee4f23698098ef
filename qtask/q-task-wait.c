/* q-task-wait.c: waiting for a QTask
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whoever blocks does so on the condition of the task, woken whenever what it looks at
 * changes; `wakes` counts that, so that nothing is missed while the lock is not held.
 *
 * A worker that waits first helps: it runs the awaited task itself if that is queued in its
 * own pool, and does not need its owner where that is the one who waits. Between steps it
 * looks after its wait. Else it parks, and its pool may start another thread meanwhile.
 *
 * An owner that waits does for the task what its main loop would do: it serves its progress,
 * and runs its callback.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-private.h"

/* Somebody to be told when there is an outcome. */
struct _QTaskWaiter
{
  QTaskWaiter *next;
  QTask *result;  /* owned; its source is the awaited task */
  gulong handler; /* on the cancellable of the result, or 0 */
};

/* Blocking */

/* Wakes all that block on the task, to look again. */
void
q_task_wake_waiters_locked (QTaskPrivate *priv)
{
  QTaskExtra *extra;

  if ((q_task_get_word (priv) & Q_TASK_WORD_WAITED) == 0)
    return;

  extra = g_atomic_pointer_get (&priv->extra);
  extra->wakes++;
  g_cond_broadcast (&extra->cond);

  if (extra->member != NULL)
    q_task_member_funcs->wake (extra->member);
}

/* The caller is about to block on the condition, and @flags tell more of it; or it is not any
 * more. */
void
q_task_begin_wait_locked (QTaskPrivate *priv,
                          guint flags)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  extra->n_waiting++;
  q_task_change (priv, 0, Q_TASK_WORD_WAITED | flags);
}

void
q_task_end_wait_locked (QTaskPrivate *priv,
                        guint flags)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  extra->n_waiting--;
  q_task_change (priv, (extra->n_waiting == 0 ? Q_TASK_WORD_WAITED : 0) | flags, 0);
}

static void
wait_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                   gpointer data)
{
  QTaskPrivate *priv = q_task_get_private (data);

  g_mutex_lock (&priv->lock);
  q_task_wake_waiters_locked (priv);
  g_mutex_unlock (&priv->lock);
}

static void
unref_task_notify (gpointer task,
                   GClosure *closure G_GNUC_UNUSED)
{
  g_object_unref (task);
}

/* One who blocks. */
struct _QTaskBlock
{
  QTask *task;
  QTaskWaitMode mode;
  gint64 end_time; /* or -1 */
  GCancellable *cancellable;
  QTaskFrame *frame;  /* of the worker that waits, or NULL */
  QTaskHold *hold;    /* of what waits with the caller, or NULL */
  gboolean is_owner;  /* and is to call the callback */
  gboolean may_serve; /* is the owner */
  gboolean is_in_graph;
  gboolean is_parked;
  gint64 retry_time; /* or 0 */
  guint wakes;       /* when it last looked */
  gint64 wake_time;  /* when to look again, or -1 */
};

/* Whether one who helps is to look again. Called by its thread. */
gboolean
q_task_block_is_due (QTaskBlock *block)
{
  QTaskPrivate *priv = q_task_get_private (block->task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  gboolean woken;

  g_mutex_lock (&priv->lock);
  woken = block->wakes != extra->wakes;
  g_mutex_unlock (&priv->lock);

  return woken || (block->wake_time != -1 && g_get_monotonic_time () >= block->wake_time);
}

static void
unpark (QTaskBlock *block)
{
  if (block->is_parked)
    block->frame->runner->funcs->unpark (block->frame->runner);

  block->is_parked = FALSE;
}

/* Runs what was handed to who waits, with its reference. */
static void
finish_handed (QTaskBlock *block)
{
  unpark (block);

  if (block->mode == Q_TASK_WAIT_SYNCHRONOUS)
    q_task_complete_synchronous (block->task, TRUE);
  else
    q_task_complete_now (block->task, FALSE, TRUE);

  g_object_unref (block->task);
}

/* The earlier of two times, either of which may be -1 for never. */
static gint64
earlier (gint64 a,
         gint64 b)
{
  if (a == -1 || b == -1)
    return MAX (a, b);

  return MIN (a, b);
}

/* Does for an owner who waits what its main loop would do, but for the callback. Returns when
 * to come again, or -1; sets @again if that is at once. */
static gint64
serve (QTask *task,
       gboolean *again)
{
  if (q_task_serve_messages (task))
    *again = TRUE;
  q_task_serve_sync (task);
  q_task_serve_bindings (task);

  return q_task_serve_progress (task);
}

/* Looks once whether there is nothing more to wait for, and takes a step towards that where
 * there is one that can be taken here. Called with the lock held, which it may drop and take
 * again. Returns when to look again at the latest, or -1; sets @done at the end, @again when
 * to look again at once. */
static gint64
look_once (QTaskBlock *block,
           gboolean *done,
           gboolean *again,
           GError **error)
{
  QTask *task = block->task;
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  guint word = q_task_get_word (priv);
  gint64 wake_time = block->end_time;
  gint64 now;

  if ((word & Q_TASK_WORD_HANDED) != 0 &&
      (block->is_owner || block->mode == Q_TASK_WAIT_SYNCHRONOUS))
    {
      q_task_change (priv, Q_TASK_WORD_HANDED, 0);
      g_mutex_unlock (&priv->lock);
      finish_handed (block);
      g_mutex_lock (&priv->lock);
      *done = TRUE;
      return -1;
    }

  if (block->mode == Q_TASK_WAIT_SYNCHRONOUS)
    {
      gint64 progress_time = -1;

      g_mutex_unlock (&priv->lock);

      if ((word & Q_TASK_WORD_SENT) != 0 || block->may_serve)
        unpark (block); /* code of the user may wait, too */

      if (word & Q_TASK_WORD_SENT)
        {
          q_task_complete_synchronous (task, FALSE);
          *done = TRUE;
        }
      else if (block->may_serve)
        {
          progress_time = serve (task, again);
        }

      g_mutex_lock (&priv->lock);

      if (*done)
        return -1;

      wake_time = earlier (wake_time, progress_time);
    }
  else if (!block->is_owner)
    {
      gint64 progress_time;

      if (word & Q_TASK_WORD_FIXED)
        {
          *done = TRUE;
          return -1;
        }

      /* Another thread runs it synchronously. */
      if (block->may_serve)
        {
          g_mutex_unlock (&priv->lock);
          unpark (block); /* code of the user may wait, too */
          progress_time = serve (task, again);
          g_mutex_lock (&priv->lock);

          wake_time = earlier (wake_time, progress_time);
        }
    }
  else if (word & Q_TASK_WORD_COMPLETING)
    {
      *done = TRUE;
      return -1;
    }
  else
    {
      gint64 progress_time;
      gboolean taken;

      g_mutex_unlock (&priv->lock);
      unpark (block); /* code of the user may wait, too */
      progress_time = serve (task, again);
      taken = (word & Q_TASK_WORD_SENT) != 0 && q_task_take_completion (task);
      if ((word & Q_TASK_WORD_SENT) != 0 && !taken)
        g_thread_yield (); /* it is being sent right now */
      g_mutex_lock (&priv->lock);

      wake_time = earlier (wake_time, progress_time);

      /* It may have been handed over meanwhile. */
      if ((q_task_get_word (priv) & Q_TASK_WORD_SENT) != 0)
        {
          *again = TRUE;
          return -1;
        }
    }

  if (block->cancellable != NULL && g_cancellable_is_cancelled (block->cancellable))
    {
      g_propagate_error (error, q_task_new_stop_error (Q_TASK_STOP_CANCEL));
      *done = TRUE;
      return -1;
    }

  now = g_get_monotonic_time ();

  if (block->end_time != -1 && now >= block->end_time)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                           _("The time to wait for the task has passed"));
      *done = TRUE;
      return -1;
    }

  if (extra->deadline > 0 && (q_task_get_word (priv) & Q_TASK_WORD_FIXED) == 0)
    {
      if (now >= extra->deadline)
        {
          g_mutex_unlock (&priv->lock);
          q_task_request_stop (task, Q_TASK_STOP_TIMEOUT);
          g_mutex_lock (&priv->lock);
          *again = TRUE;
          return -1;
        }

      wake_time = earlier (wake_time, extra->deadline);
    }

  return wake_time;
}

/* Does what an owner who waits for several tasks does for one of them, each time that it is
 * woken: serves it, and completes it if it can be, unless another thread runs it synchronously and
 * does so. Returns when to look again, or -1; sets @again when at once. */
gint64
q_task_look (QTask *task,
             gboolean *again)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskBlock block = {
    .task = task,
    .mode = Q_TASK_WAIT_OUTCOME,
    .end_time = -1,
    .is_owner = !q_task_is_set (task, Q_TASK_WORD_SYNCHRONOUS),
    .may_serve = TRUE,
  };
  gboolean done = FALSE;
  gint64 wake_time;

  g_mutex_lock (&priv->lock);
  wake_time = look_once (&block, &done, again, NULL);
  g_mutex_unlock (&priv->lock);

  return wake_time;
}

/* Whether the caller may run the task itself, were it to be had. */
static gboolean
may_help (QTaskBlock *block)
{
  QTask *task = block->task;
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskRunner *runner = block->frame->runner;
  guint word;

  if (block->frame->depth + 1 >= Q_TASK_MAX_DEPTH)
    return FALSE;

  /* It could wait for its owner, who is below it on the stack. */
  if (block->may_serve && (extra->channel != NULL || q_task_has_sync_func (task)))
    return FALSE;

  /* Between steps others may be first, if there are threads for them. */
  word = q_task_get_word (priv);
  return (word & Q_TASK_WORD_BEGUN) == 0 || block->retry_time > 0 ||
         !runner->funcs->is_pressed (runner, task);
}

/* Lets a worker that waits be of use, or its pool go on without it. Called with no lock
 * held. */
static void
prepare_worker (QTaskBlock *block,
                gboolean *again)
{
  QTask *task = block->task;
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskFrame *frame = block->frame;
  QTaskRunner *runner = NULL;

  g_mutex_lock (&priv->lock);
  if (q_task_word_get_state (q_task_get_word (priv)) == Q_TASK_STATE_QUEUED)
    {
      runner = priv->runner;
      runner->funcs->ref (runner);
    }
  g_mutex_unlock (&priv->lock);

  /* If it is the own one, the calling thread has a reference. */
  if (runner != NULL)
    runner->funcs->unref (runner);

  if (runner != NULL && runner == frame->runner && may_help (block))
    {
      gboolean helped;

      /* A thread that helps works, and what it runs may park it in turn. */
      unpark (block);

      frame->helps = block;
      helped = runner->funcs->help (runner, task);
      frame->helps = NULL;

      if (helped)
        {
          *again = TRUE;
          return;
        }
    }

  if (!block->is_parked)
    frame->runner->funcs->park (frame->runner);
  block->is_parked = TRUE;

  block->retry_time = 0;
  if (!frame->runner->funcs->compensate (frame->runner))
    block->retry_time = g_get_monotonic_time () + Q_TASK_RETRY_USEC;
}

/* Sees to it that the caller can sleep. Returns FALSE if that would be for ever. Called with
 * no lock held. */
static gboolean
prepare (QTaskBlock *block,
         gboolean *again,
         GError **error)
{
  /* Anew each time: the task may have been started meanwhile. */
  block->is_in_graph = q_task_wait_graph_enter (block->task);
  if (!block->is_in_graph)
    {
      g_autofree char *description = q_task_describe (block->task);

      g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK,
                   _("Waiting for the task %s would never end, since that cannot end before the "
                     "one that waits"),
                      description);
      return FALSE;
    }

  if (block->frame != NULL)
    prepare_worker (block, again);

  return TRUE;
}

static gboolean
block_until_done (QTaskBlock *block,
                  GError **error)
{
  QTask *task = block->task;
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = q_task_ensure_extra (priv);
  GError *wait_error = NULL;
  gboolean is_first_owner;
  gboolean watches;
  gboolean done = FALSE;

  g_mutex_lock (&priv->lock);

  is_first_owner = block->is_owner &&
                   (q_task_get_word (priv) & Q_TASK_WORD_OWNER_WAITS) == 0;
  q_task_begin_wait_locked (priv, is_first_owner ? Q_TASK_WORD_OWNER_WAITS : 0);

  watches = is_first_owner || (block->may_serve && block->mode == Q_TASK_WAIT_SYNCHRONOUS);
  if (watches)
    {
      g_mutex_unlock (&priv->lock);
      q_task_watch_messages (task, TRUE);
      g_mutex_lock (&priv->lock);
    }

  while (!done)
    {
      gboolean again = FALSE;

      block->wakes = extra->wakes;
      block->wake_time = look_once (block, &done, &again, &wait_error);

      if (done || again)
        continue;

      if (block->frame != NULL || block->hold != NULL)
        {
          g_mutex_unlock (&priv->lock);
          done = !prepare (block, &again, &wait_error);
          g_mutex_lock (&priv->lock);

          if (done && block->mode == Q_TASK_WAIT_SYNCHRONOUS)
            {
              /* The caller wants an outcome; the worker, if it runs, ends on its own. */
              if ((q_task_get_word (priv) & Q_TASK_WORD_SENT) == 0)
                {
                  q_task_fix_locked (task, g_steal_pointer (&wait_error), Q_TASK_WORD_EARLY);
                  q_task_change (priv, 0, Q_TASK_WORD_SENT | Q_TASK_WORD_SENT_EARLY);
                }
              g_clear_error (&wait_error);
              done = FALSE;
              again = TRUE;
            }
          else if (done && is_first_owner &&
                   (q_task_get_word (priv) & Q_TASK_WORD_HANDED) != 0)
            {
              /* It ended meanwhile, and nobody else will complete it. */
              g_clear_error (&wait_error);
              done = FALSE;
              again = TRUE;
            }

          if (done || again)
            continue;

          if (block->retry_time > 0)
            block->wake_time = earlier (block->wake_time, block->retry_time);
        }

      if (block->wakes != extra->wakes)
        continue;

      if (block->wake_time == -1)
        g_cond_wait (&extra->cond, &priv->lock);
      else
        g_cond_wait_until (&extra->cond, &priv->lock, block->wake_time);
    }

  q_task_end_wait_locked (priv, is_first_owner ? Q_TASK_WORD_OWNER_WAITS : 0);

  g_mutex_unlock (&priv->lock);

  if (watches)
    q_task_watch_messages (task, FALSE);

  if (wait_error == NULL)
    return TRUE;

  g_propagate_error (error, wait_error);

  return FALSE;
}

/* Whatever runs the task is not to count on the caller, who blocks. */
void
q_task_tell_runner (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskRunner *runner = NULL;

  g_mutex_lock (&priv->lock);
  if (priv->runner != NULL && priv->runner->funcs->waited != NULL)
    {
      runner = priv->runner;
      runner->funcs->ref (runner);
    }
  g_mutex_unlock (&priv->lock);

  if (runner == NULL)
    return;

  runner->funcs->waited (runner, task);
  runner->funcs->unref (runner);
}

/* Blocks until there is nothing more to wait for, or, with @is_turn set to TRUE, for as long as
 * who waits may as well be the owner. */
static gboolean
block_for_turn (QTask *task,
                QTaskWaitMode mode,
                gint64 end_time,
                GCancellable *cancellable,
                gboolean *is_turn,
                GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskBlock block = {
    .task = task,
    .mode = mode,
    .end_time = end_time,
    .cancellable = cancellable,
    .frame = q_task_get_current_frame (),
    .hold = q_task_get_current_hold (),
  };
  QTaskOwnership ownership = Q_TASK_OWNER_NOT;
  gulong handler = 0;
  gboolean success;
  guint word;

  ownership = q_task_dispatch_acquire (priv->dispatch, priv->thread_id);
  word = q_task_get_word (priv);

  block.may_serve = ownership != Q_TASK_OWNER_NOT;

  if (!block.may_serve && q_task_dispatch_is_next_owner (priv->dispatch, priv->thread_id))
    {
      gint64 turn_end = g_get_monotonic_time () + Q_TASK_RETRY_USEC;

      *is_turn = end_time == -1 || turn_end < end_time;
      if (*is_turn)
        block.end_time = turn_end;
    }

  /* Who runs it synchronously completes it, without the callback. */
  block.is_owner = block.may_serve && (word & Q_TASK_WORD_SYNCHRONOUS) == 0;

  if (block.is_owner && q_task_word_get_state (word) == Q_TASK_STATE_NEW)
    {
      g_autofree char *description = q_task_describe (task);

      g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK,
                   _("Waiting for the task %s would never end: it was not started, and its "
                     "owner, who waits, could not do so"),
                      description);
      q_task_dispatch_release (priv->dispatch, ownership);
      return FALSE;
    }

  g_object_ref (task);
  q_task_tell_runner (task);

  if (cancellable != NULL)
    handler = g_signal_connect_data (cancellable, "cancelled", G_CALLBACK (wait_cancelled_cb),
                                     g_object_ref (task), unref_task_notify, 0);

  success = block_until_done (&block, error);

  if (handler != 0)
    g_signal_handler_disconnect (cancellable, handler);

  if (block.is_in_graph)
    q_task_wait_graph_leave ();
  unpark (&block);

  q_task_dispatch_release (priv->dispatch, ownership);
  g_object_unref (task);

  return success;
}

/* Blocks until there is nothing more to wait for; see QTaskWaitMode. Another thread may hold the
 * context for a while, and then it is the caller who is to do what the owner does. */
gboolean
q_task_block (QTask *task,
              QTaskWaitMode mode,
              gint64 end_time,
              GCancellable *cancellable,
              GError **error)
{
  for (;;)
    {
      gboolean is_turn = FALSE;
      GError *local_error = NULL;

      if (block_for_turn (task, mode, end_time, cancellable, &is_turn, &local_error))
        return TRUE;

      if (!is_turn || !g_error_matches (local_error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
        {
          g_propagate_error (error, local_error);
          return FALSE;
        }

      g_error_free (local_error);
    }
}

/**
 * q_task_wait:
 * @task: a task
 * @cancellable: (nullable): stops the waiting; the task goes on
 * @error: return location for an error
 *
 * Blocks until the task has its outcome. Called by the owner, it also calls the callback
 * before it returns, and shows progress meanwhile.
 *
 * Waiting in a worker is safe in a pool of any size: if the awaited task is queued in the
 * same pool, the calling thread runs it itself; else the pool starts another thread while
 * this one waits. What could never end is an error.
 *
 * Errors: %G_IO_ERROR_CANCELLED if @cancellable was cancelled; %Q_TASK_ERROR_DEADLOCK if the
 * task waits for the caller, directly or through others, as it does for its sync function, if
 * it was not started and the caller is its owner, or if it is queued in the serial pool of the
 * calling worker;
 * %Q_TASK_ERROR_FORKED in a forked child. The error of the task itself is none of these; read
 * it with [method@QTask.Task.propagate_error].
 *
 * May be called from any thread.
 *
 * Returns: %TRUE once the task has its outcome
 *
 * Since: 1.0
 */
gboolean
q_task_wait (QTask *task,
             GCancellable *cancellable,
             GError **error)
{
  return q_task_wait_until (task, -1, cancellable, error);
}

/**
 * q_task_wait_until:
 * @task: a task
 * @end_time: the monotonic time to give up at, in microseconds, as of
 *   g_get_monotonic_time(), or -1 for never
 * @cancellable: (nullable): stops the waiting; the task goes on
 * @error: return location for an error
 *
 * As [method@QTask.Task.wait], until @end_time at the latest.
 *
 * Errors: those of [method@QTask.Task.wait], and %G_IO_ERROR_TIMED_OUT if @end_time has
 * passed.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE once the task has its outcome
 *
 * Since: 1.0
 */
gboolean
q_task_wait_until (QTask *task,
                   gint64 end_time,
                   GCancellable *cancellable,
                   GError **error)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  if (q_task_get_word (q_task_get_private (task)) & Q_TASK_WORD_COMPLETING)
    return TRUE;

  return q_task_block (task, Q_TASK_WAIT_OUTCOME, end_time, cancellable, error);
}

/* Waiting without blocking */

/* Takes those out who are to be told now, first those who came first: all once the task has
 * @completed, else those in other contexts than its own. */
QTaskWaiter *
q_task_steal_waiters_locked (QTaskPrivate *priv,
                             gboolean completed)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskWaiter *stolen = NULL;
  QTaskWaiter **link;

  if (extra == NULL)
    return NULL;

  link = &extra->waiters;

  while (*link != NULL)
    {
      QTaskWaiter *waiter = *link;

      if (completed || q_task_get_private (waiter->result)->dispatch != priv->dispatch)
        {
          *link = waiter->next;
          waiter->next = stolen;
          stolen = waiter;
        }
      else
        {
          link = &waiter->next;
        }
    }

  return stolen;
}

static void
free_waiter (QTaskWaiter *waiter)
{
  QTask *result = waiter->result;

  if (waiter->handler != 0)
    g_signal_handler_disconnect (q_task_get_given (q_task_get_private (result)), waiter->handler);

  g_free (waiter);
  g_object_unref (result);
}

/* Tells those who were taken out, in the order they came. */
void
q_task_return_waiters (QTaskWaiter *waiters)
{
  while (waiters != NULL)
    {
      QTaskWaiter *next = waiters->next;

      q_task_return_boolean (waiters->result, TRUE);
      free_waiter (waiters);
      waiters = next;
    }
}

static void
async_wait_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                         gpointer data)
{
  QTask *result = data;
  QTaskPrivate *priv = q_task_get_private (Q_TASK (q_task_get_source (result)));
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskWaiter *waiter = NULL;

  g_mutex_lock (&priv->lock);
  for (QTaskWaiter **link = &extra->waiters; *link != NULL; link = &(*link)->next)
    if ((*link)->result == result)
      {
        waiter = *link;
        *link = waiter->next;
        break;
      }
  g_mutex_unlock (&priv->lock);

  if (waiter == NULL)
    return;

  q_task_return_error_if_cancelled (waiter->result);
  free_waiter (waiter);
}

/**
 * q_task_wait_async:
 * @task: a task
 * @cancellable: (nullable): stops the waiting; the task goes on
 * @callback: (nullable) (scope async) (closure user_data): called in the thread-default main
 *   context of the moment
 * @user_data: data for @callback
 *
 * Waits until the task has its outcome and, in its own context, its callback has been called.
 * Any number may wait for one task. One that was not started is waited for as long as it takes.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_wait_async (QTask *task,
                   GCancellable *cancellable,
                   GAsyncReadyCallback callback,
                   gpointer user_data)
{
  g_autoptr (QTask) result = NULL;
  QTaskPrivate *priv;
  QTaskPrivate *result_priv;
  QTaskExtra *extra;
  gulong handler = 0;
  gboolean done;
  guint flag;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);
  extra = q_task_ensure_extra (priv);

  result = q_task_new_async (task, cancellable, callback, user_data);
  result_priv = q_task_get_private (result);
  q_task_set_source_tag (result, q_task_wait_async);

  flag = result_priv->dispatch == priv->dispatch ? Q_TASK_WORD_COMPLETED : Q_TASK_WORD_FIXED;

  if (cancellable != NULL)
    handler = g_signal_connect_data (cancellable, "cancelled",
                                     G_CALLBACK (async_wait_cancelled_cb),
                                     g_object_ref (result), unref_task_notify, 0);

  g_mutex_lock (&priv->lock);
  done = (q_task_get_word (priv) & flag) != 0;
  if (!done)
    {
      QTaskWaiter *waiter = g_new0 (QTaskWaiter, 1);

      waiter->result = g_object_ref (result);
      waiter->handler = handler;
      waiter->next = extra->waiters;
      extra->waiters = waiter;
    }
  g_mutex_unlock (&priv->lock);

  if (done)
    {
      if (handler != 0)
        g_signal_handler_disconnect (cancellable, handler);
      q_task_return_boolean (result, TRUE);
    }
  else if (cancellable != NULL && g_cancellable_is_cancelled (cancellable))
    {
      async_wait_cancelled_cb (cancellable, result);
    }
}

/**
 * q_task_wait_finish:
 * @task: a task
 * @result: what the callback was given
 * @error: return location for an error
 *
 * Ends [method@QTask.Task.wait_async]. The error of the task itself is not reported; read it
 * with [method@QTask.Task.propagate_error].
 *
 * Errors: %G_IO_ERROR_CANCELLED if the cancellable of the waiting was cancelled.
 *
 * May be called from the callback.
 *
 * Returns: %TRUE if the task has its outcome
 *
 * Since: 1.0
 */
gboolean
q_task_wait_finish (QTask *task,
                    GAsyncResult *result,
                    GError **error)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (q_task_is_valid (result, task), FALSE);
  g_return_val_if_fail (g_async_result_is_tagged (result, q_task_wait_async), FALSE);

  return q_task_propagate_boolean (Q_TASK (result), error);
}
