/* q-task-progress.c: the progress of a QTask
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A value is stored, and if no notification is on its way, one is sent: most calls of
 * q_task_set_progress() are one store and one load. The owner notifies at most once an
 * interval: what comes earlier waits in a timer of the dispatch.
 *
 * The value is stored before `scheduled` is looked at, and the owner clears `scheduled`
 * before it reads the value, all sequentially consistent: so the last value is always
 * notified of.
 *
 *   value, scheduled    atomic, any thread
 *   text, text_changed  with the lock of the task
 *   interval            atomic, any thread
 *   notified_at, is_timed, owned by the owner
 *
 * While a notification is on its way, or waits, it holds a reference to the task. The
 * completion takes it along, so it comes before the callback whatever the priorities.
 */

#include "config.h"

#include <math.h>
#include <string.h>

#include "q-task-private.h"

#define DEFAULT_INTERVAL (16 * G_TIME_SPAN_MILLISECOND)

struct _QTaskProgress
{
  QTaskDelivery delivery;
  QTask *task;             /* owned while scheduled */
  QTaskDispatch *dispatch; /* that it was delivered to; only compared; atomic */
  guint64 value;           /* the bits of a double */
  int scheduled;
  int interval;       /* microseconds */
  gint64 notified_at; /* monotonic */
  gboolean is_timed;  /* the delivery waits in a timer */
  char *text;
  gboolean text_changed;
};

static inline QTaskProgress *
get_progress (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  return extra != NULL ? g_atomic_pointer_get (&extra->progress) : NULL;
}

static QTaskProgress *
ensure_progress (QTaskPrivate *priv)
{
  QTaskProgress *progress = get_progress (priv);
  QTaskExtra *extra;

  if (G_LIKELY (progress != NULL))
    return progress;

  extra = q_task_ensure_extra (priv);
  progress = g_new0 (QTaskProgress, 1);
  progress->interval = DEFAULT_INTERVAL;
  progress->notified_at = G_MININT64 / 2;

  if (!g_atomic_pointer_compare_and_exchange (&extra->progress, NULL, progress))
    {
      g_free (progress);
      progress = g_atomic_pointer_get (&extra->progress);
    }

  return progress;
}

/* Called when the task is finalized. */
void
q_task_free_progress (QTaskPrivate *priv)
{
  QTaskProgress *progress = get_progress (priv);

  if (progress == NULL)
    return;

  g_assert (!progress->scheduled);
  g_free (progress->text);
  g_free (progress);
}

static void
notify_progress (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskProgress *progress = get_progress (priv);
  gboolean text_changed;

  progress->notified_at = g_get_monotonic_time ();

  g_mutex_lock (&priv->lock);
  text_changed = progress->text_changed;
  progress->text_changed = FALSE;
  g_mutex_unlock (&priv->lock);

  g_object_notify_by_pspec (G_OBJECT (task), q_task_props[Q_TASK_PROP_PROGRESS]);
  if (text_changed)
    g_object_notify_by_pspec (G_OBJECT (task), q_task_props[Q_TASK_PROP_PROGRESS_TEXT]);

  if (q_task_get_member (priv) != NULL)
    q_task_member_funcs->progress (task);
}

static void
send_notification (QTask *task,
                   QTaskProgress *progress)
{
  QTaskPrivate *priv = q_task_get_private (task);

  g_atomic_pointer_set (&progress->dispatch, priv->dispatch);
  q_task_dispatch_deliver (priv->dispatch, &progress->delivery.node,
                           q_task_get_delivery_priority (priv));
}

/* Of the dispatch, and then of its timer. */
static void
progress_delivered (QTaskDelivery *delivery,
                    gboolean lost)
{
  QTaskProgress *progress = (QTaskProgress *) delivery;
  QTask *task = progress->task;
  QTaskPrivate *priv = q_task_get_private (task);

  progress->is_timed = FALSE;

  /* The task was given another context meanwhile. */
  if (!lost && g_atomic_pointer_get (&progress->dispatch) != priv->dispatch)
    {
      send_notification (task, progress);
      return;
    }

  if (!lost && (q_task_get_word (priv) & Q_TASK_WORD_COMPLETING) == 0)
    {
      gint64 due = progress->notified_at + g_atomic_int_get (&progress->interval);

      if (due > g_get_monotonic_time ())
        {
          progress->is_timed = TRUE;
          if (q_task_dispatch_set_timer (priv->dispatch, delivery, due))
            return;
          progress->is_timed = FALSE;
        }

      g_atomic_int_set (&progress->scheduled, FALSE);
      notify_progress (task);
    }
  else
    {
      g_atomic_int_set (&progress->scheduled, FALSE);
    }

  g_object_unref (task);
}

/* Takes a notification that is on its way, or waits for its time. Called by the owner. */
static gboolean
take_delivery (QTaskPrivate *priv,
               QTaskProgress *progress)
{
  if (!g_atomic_int_get (&progress->scheduled) ||
      g_atomic_pointer_get (&progress->dispatch) != priv->dispatch)
    return FALSE;

  if (!progress->is_timed)
    return q_task_dispatch_take (priv->dispatch, &progress->delivery.node);

  if (!q_task_dispatch_clear_timer (priv->dispatch, &progress->delivery))
    return FALSE;

  progress->is_timed = FALSE;

  return TRUE;
}

/* Notifies of the last value before the task completes. Called by the owner, or with @lost
 * TRUE when there is none any more. */
void
q_task_flush_progress (QTask *task,
                       gboolean lost)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskProgress *progress = get_progress (priv);

  /* If the context has gone, all deliveries are being lost, this one too. */
  if (progress == NULL || lost || !take_delivery (priv, progress))
    return;

  g_atomic_int_set (&progress->scheduled, FALSE);
  notify_progress (task);
  g_object_unref (task);
}

/* Does for an owner who waits what its main loop would do. Returns when to come again, or
 * -1. */
gint64
q_task_serve_progress (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskProgress *progress = get_progress (priv);

  if (progress == NULL)
    return -1;

  if (progress->is_timed && g_atomic_pointer_get (&progress->dispatch) == priv->dispatch)
    {
      gint64 due = progress->notified_at + g_atomic_int_get (&progress->interval);

      if (due > g_get_monotonic_time ())
        return due;
    }

  if (!take_delivery (priv, progress))
    return -1;

  progress_delivered (&progress->delivery, FALSE);

  return progress->is_timed
           ? progress->notified_at + g_atomic_int_get (&progress->interval)
           : -1;
}

/* Takes what the runner was told of; FALSE if there is nothing new. The text, if it is new, is
 * to be freed. */
gboolean
q_task_take_progress (QTask *task,
                      double *fraction,
                      char **text)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskProgress *progress = get_progress (priv);

  *text = NULL;

  if (progress == NULL || !g_atomic_int_compare_and_exchange (&progress->scheduled, TRUE, FALSE))
    return FALSE;

  *fraction = q_task_get_progress (task);

  g_mutex_lock (&priv->lock);
  if (progress->text_changed)
    *text = g_strdup (progress->text);
  progress->text_changed = FALSE;
  g_mutex_unlock (&priv->lock);

  return TRUE;
}

static void
schedule (QTask *task,
          QTaskProgress *progress)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskRunner *runner = priv->runner;

  /* In a worker process the owner is another process. */
  if (runner != NULL && runner->funcs->progress != NULL && runner->funcs->progress (runner, task))
    return;

  progress->task = g_object_ref (task);
  progress->delivery.func = progress_delivered;
  send_notification (task, progress);

  if (q_task_get_word (priv) & Q_TASK_WORD_OWNER_WAITS)
    {
      g_mutex_lock (&priv->lock);
      q_task_wake_waiters_locked (priv);
      g_mutex_unlock (&priv->lock);
    }
}

/**
 * q_task_set_progress:
 * @task: a task
 * @fraction: how far the task is, from 0 to 1; what is outside is taken as the nearer end
 * @text: (nullable): what the task is doing, in words for the user, or %NULL to leave that
 *   as it is
 *
 * Reports how far the task is. The properties [property@QTask.Task:progress] and
 * [property@QTask.Task:progress-text] follow in the owner's main loop: the latest value
 * wins, there is at most one notification in an interval, and the last one comes before the
 * callback. Once the task has its outcome, there are none.
 *
 * Calling this often costs next to nothing: without a text it never blocks.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_set_progress (QTask *task,
                     double fraction,
                     const char *text)
{
  QTaskPrivate *priv;
  QTaskProgress *progress;
  guint64 bits;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (!isnan (fraction));

  priv = q_task_get_private (task);

  if (q_task_is_forked (NULL) || (q_task_get_word (priv) & Q_TASK_WORD_FIXED) != 0)
    return;

  progress = ensure_progress (priv);
  fraction = CLAMP (fraction, 0.0, 1.0);
  memcpy (&bits, &fraction, sizeof bits);
  __atomic_store_n (&progress->value, bits, __ATOMIC_SEQ_CST);

  if (text != NULL)
    {
      char *old = NULL;

      g_mutex_lock (&priv->lock);
      if (g_strcmp0 (progress->text, text) != 0)
        {
          old = progress->text;
          progress->text = g_strdup (text);
          progress->text_changed = TRUE;
        }
      g_mutex_unlock (&priv->lock);

      g_free (old);
    }

  if (!g_atomic_int_get (&progress->scheduled) &&
      g_atomic_int_compare_and_exchange (&progress->scheduled, FALSE, TRUE))
    schedule (task, progress);
}

/**
 * q_task_get_progress: (get-property progress)
 * @task: a task
 *
 * Gets how far the task is; see [method@QTask.Task.set_progress].
 *
 * May be called from any thread.
 *
 * Returns: how far it is, from 0 to 1
 *
 * Since: 1.0
 */
double
q_task_get_progress (QTask *task)
{
  QTaskProgress *progress;
  guint64 bits;
  double fraction;

  g_return_val_if_fail (Q_IS_TASK (task), 0.0);

  progress = get_progress (q_task_get_private (task));
  if (progress == NULL)
    return 0.0;

  bits = __atomic_load_n (&progress->value, __ATOMIC_SEQ_CST);
  memcpy (&fraction, &bits, sizeof bits);

  return fraction;
}

/**
 * q_task_dup_progress_text: (get-property progress-text)
 * @task: a task
 *
 * Gets what the task is doing, in words; see [method@QTask.Task.set_progress].
 *
 * May be called from any thread.
 *
 * Returns: (transfer full) (nullable): the text
 *
 * Since: 1.0
 */
char *
q_task_dup_progress_text (QTask *task)
{
  QTaskPrivate *priv;
  QTaskProgress *progress;
  char *text;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  priv = q_task_get_private (task);
  progress = get_progress (priv);
  if (progress == NULL)
    return NULL;

  g_mutex_lock (&priv->lock);
  text = g_strdup (progress->text);
  g_mutex_unlock (&priv->lock);

  return text;
}

/**
 * q_task_get_progress_interval:
 * @task: a task
 *
 * Gets the least time between notifications of progress.
 *
 * May be called from any thread.
 *
 * Returns: the interval in microseconds
 *
 * Since: 1.0
 */
gint64
q_task_get_progress_interval (QTask *task)
{
  QTaskProgress *progress;

  g_return_val_if_fail (Q_IS_TASK (task), 0);

  progress = get_progress (q_task_get_private (task));

  return progress != NULL ? g_atomic_int_get (&progress->interval) : DEFAULT_INTERVAL;
}

/**
 * q_task_set_progress_interval:
 * @task: a task
 * @interval: the least time between notifications, in microseconds; 0 to notify whenever
 *   the main loop comes to it
 *
 * Sets the least time between notifications of progress, at first 16 ms, which is about a
 * frame of a display.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_set_progress_interval (QTask *task,
                              gint64 interval)
{
  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (interval >= 0);

  if (q_task_is_forked (NULL))
    return;

  g_atomic_int_set (&ensure_progress (q_task_get_private (task))->interval,
                    (int) MIN (interval, G_MAXINT));
}
