/* q-task-messages.c: the channel of a QTask
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A channel between the owner and the worker is made before the start, so both ends are read
 * without the lock after that, and released with the task. The end of the worker is closed
 * when that has ended, before the completion is sent: so all messages, and then the end, are
 * there when the owner completes the task, who reads them first.
 *
 * The functions of the user that come with a task, besides its callback, are kept in handlers:
 * they can be replaced while they run.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-private.h"

/* Handlers */

QTaskHandler *
q_task_handler_new (GCallback func,
                    gpointer opaque,
                    GDestroyNotify destroy)
{
  QTaskHandler *handler = g_new (QTaskHandler, 1);

  handler->ref_count = 1;
  handler->func = func;
  handler->opaque = opaque;
  handler->destroy = destroy;

  return handler;
}

QTaskHandler *
q_task_handler_ref (QTaskHandler *handler)
{
  g_atomic_int_inc (&handler->ref_count);

  return handler;
}

/* The owner of the task destroys the data. */
void
q_task_handler_unref (QTaskHandler *handler,
                      QTaskPrivate *priv)
{
  if (handler == NULL || !g_atomic_int_dec_and_test (&handler->ref_count))
    return;

  q_task_release_data (priv, handler->opaque, handler->destroy);
  g_free (handler);
}

/* Messages */

static QTaskChannel *
get_channel (QTask *task)
{
  QTaskExtra *extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL ? extra->channel : NULL;
}

/* Hands all messages that there are to the function of the owner's end, before the task
 * completes. Called by the owner. */
void
q_task_flush_messages (QTask *task)
{
  QTaskChannel *channel = get_channel (task);

  if (channel != NULL)
    q_task_channel_flush_messages (channel, q_task_get_private (task)->dispatch);
}

/* The same for an owner that waits, but not for longer than a moment. Returns whether the function
 * was called: then there may be more; else q_task_watch_messages() tells when there is. */
gboolean
q_task_serve_messages (QTask *task)
{
  QTaskChannel *channel = get_channel (task);

  return channel != NULL &&
         q_task_channel_serve_messages (channel, q_task_get_private (task)->dispatch);
}

static void
channel_readable_cb (gpointer data)
{
  QTaskPrivate *priv = q_task_get_private (data);

  g_mutex_lock (&priv->lock);
  q_task_wake_waiters_locked (priv);
  g_mutex_unlock (&priv->lock);
}

/* Has who waits for @task woken when there is a message, or no longer. Called by the owner,
 * who waits. */
void
q_task_watch_messages (QTask *task,
                       gboolean watch)
{
  QTaskChannel *channel = get_channel (task);

  if (channel != NULL)
    q_task_channel_set_notify (channel, watch ? channel_readable_cb : NULL, task);
}

static void
discard_cb (QTaskChannel *channel G_GNUC_UNUSED,
            GBytes *message G_GNUC_UNUSED,
            gpointer data G_GNUC_UNUSED)
{
}

/* A bound object has gone, or the task completed before its worker ended. The worker is not to
 * wait for a reader that does not come: if it runs on, its messages are read all the same, by
 * nobody; else its channel is closed. Called by the owner. */
void
q_task_detach_channel (QTask *task,
                       gboolean runs_on)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskChannel *channel = get_channel (task);

  if (channel == NULL)
    return;

  if (!runs_on)
    {
      q_task_channel_close (channel);
    }
  else if (q_task_channel_drop_message_func (channel, priv->dispatch))
    {
      q_task_channel_set_owner_func (channel, priv->dispatch, priv->thread_id, discard_cb, NULL);
    }
}

/* The task has completed: its function is not called any more. */
void
q_task_drop_messages (QTask *task)
{
  QTaskChannel *channel = get_channel (task);

  if (channel != NULL)
    q_task_channel_drop_message_func (channel, q_task_get_private (task)->dispatch);
}

/* Nobody will read or write at the owner's end any more. */
void
q_task_close_channel (QTask *task)
{
  QTaskChannel *channel = get_channel (task);

  if (channel != NULL)
    q_task_channel_close (channel);
}

void
q_task_close_worker_channel (QTask *task)
{
  QTaskExtra *extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  if (extra != NULL && extra->worker_channel != NULL)
    q_task_channel_close (extra->worker_channel);
}

/* Called when the task is finalized. */
void
q_task_free_messages (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  if (extra->channel != NULL)
    {
      q_task_channel_close (extra->channel);
      q_task_channel_close (extra->worker_channel);
    }

  g_clear_object (&extra->channel);
  g_clear_object (&extra->worker_channel);
  q_task_handler_unref (g_steal_pointer (&extra->bound), priv);
}

/**
 * q_task_open_channel:
 * @task: a task that has not been started
 * @error: return location for an error
 *
 * Opens a channel between the owner and the worker of the task, on which both can send
 * messages while the worker runs: the owner at the end that
 * [method@QTask.Task.get_channel] gives, the worker at that of
 * [method@QTask.Task.get_worker_channel]. It costs no descriptor until one is asked for with
 * [method@QTask.TaskChannel.get_fd].
 *
 * When the worker has ended, its end is closed; what it wrote can still be read. All its
 * messages go to the function that was set on the owner's end with
 * [method@QTask.TaskChannel.set_message_func], or with [method@QTask.Task.bind_callback], before
 * the callback of the task; after that the function is dropped. When the context of the task
 * goes, or the task is finalized, the owner's end is closed too.
 *
 * Errors: %G_IO_ERROR_PENDING if the task was started or completed before, or has a channel;
 * %Q_TASK_ERROR_FORKED in a forked child.
 *
 * May be called from any thread, before the start.
 *
 * Returns: %TRUE if it was opened
 *
 * Since: 1.0
 */
gboolean
q_task_open_channel (QTask *task,
                     GError **error)
{
  g_autoptr (QTaskChannel) channel = NULL;
  g_autoptr (QTaskChannel) worker_channel = NULL;
  QTaskPrivate *priv;
  QTaskExtra *extra;
  gboolean opened = FALSE;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  priv = q_task_get_private (task);
  extra = q_task_ensure_extra (priv);
  q_task_channel_new_pair (&channel, &worker_channel);

  g_mutex_lock (&priv->lock);
  if (q_task_is_new (task) && extra->channel == NULL)
    {
      opened = TRUE;
      extra->channel = g_steal_pointer (&channel);
      extra->worker_channel = g_steal_pointer (&worker_channel);
    }
  g_mutex_unlock (&priv->lock);

  if (!opened)
    {
      g_autofree char *description = q_task_describe (task);

      g_set_error (error, G_IO_ERROR, G_IO_ERROR_PENDING,
                   _("The task %s cannot open a channel: it has one, or was started or "
                     "completed before; open it once, before the start"),
                      description);
      return FALSE;
    }

  q_task_watch_bound (task);

  return TRUE;
}

/**
 * q_task_get_channel:
 * @task: a task
 *
 * Gets the owner's end of the channel that was opened with
 * [method@QTask.Task.open_channel].
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable): the end, or %NULL if there is no channel
 *
 * Since: 1.0
 */
QTaskChannel *
q_task_get_channel (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  return get_channel (task);
}

/**
 * q_task_get_worker_channel:
 * @task: a task
 *
 * Gets the worker's end of the channel that was opened with
 * [method@QTask.Task.open_channel]. A worker that blocks there passes
 * [method@QTask.Task.get_stop_cancellable], so that it hears when it is to stop.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable): the end, or %NULL if there is no channel
 *
 * Since: 1.0
 */
QTaskChannel *
q_task_get_worker_channel (QTask *task)
{
  QTaskExtra *extra;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL ? extra->worker_channel : NULL;
}
