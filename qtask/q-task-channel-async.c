/* q-task-channel-async.c: reads and writes of a QTaskChannel that do not block
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What can be done at once is; else a source waits for it in the context of the caller. A write
 * that waits has its place among the others in a list of the link.
 */

#include "config.h"

#include "q-task-channel-link-private.h"

/* Writing */

typedef struct
{
  QTaskPending pending;
  GTask *task;
  QTaskLink *link;
} QTaskAsyncWrite;

static void
async_write_free (gpointer data)
{
  QTaskAsyncWrite *self = data;

  self->link->funcs->stop_pending (self->link, &self->pending);

  q_task_watch_unref (self->pending.watch);
  g_bytes_unref (self->pending.bytes);
  q_task_link_unref (self->link);
  g_object_unref (self->task);
  g_free (self);
}

static void
return_write_result (GTask *task,
                     QTaskLinkResult result)
{
  GError *error = NULL;

  q_task_link_set_error (&error, result);

  if (error != NULL)
    g_task_return_error (task, error);
  else
    g_task_return_boolean (task, TRUE);
}

static gboolean
async_write_ready_cb (gpointer data)
{
  QTaskAsyncWrite *self = data;

  return_write_result (self->task, self->link->funcs->stop_pending (self->link, &self->pending));

  return G_SOURCE_REMOVE;
}

static void
async_write_start (QTaskLink *link,
                   GTask *task,
                   GBytes *message)
{
  QTaskAsyncWrite *self = g_new0 (QTaskAsyncWrite, 1);
  QTaskLinkResult result;
  GSource *source;

  self->task = g_object_ref (task);
  self->link = q_task_link_ref (link);
  self->pending.bytes = g_bytes_ref (message);
  self->pending.watch = q_task_watch_new_for_context (g_task_get_context (task));

  result = self->link->funcs->write_pending (self->link, &self->pending);

  if (result != Q_TASK_LINK_PENDING)
    {
      return_write_result (task, result);
      async_write_free (self);
      return;
    }

  source = q_task_channel_source_new (self->link, NULL, 0, &self->pending, g_task_get_cancellable (task));
  g_source_set_callback (source, async_write_ready_cb, self, async_write_free);
  g_source_attach (source, g_task_get_context (task));
  g_source_unref (source);
}

/**
 * q_task_channel_write_async:
 * @channel: a channel
 * @message: the message
 * @cancellable: (nullable): a cancellable, or %NULL
 * @callback: (scope async) (nullable): called when the message was accepted
 * @user_data: (closure): what @callback gets
 *
 * Writes a message when there is room for it, and does not block.
 *
 * Messages are sent in the order of the calls.
 *
 * May be called from any thread; @callback is called in the thread-default context of the
 * caller.
 *
 * Since: 1.0
 */
void
q_task_channel_write_async (QTaskChannel *channel,
                            GBytes *message,
                            GCancellable *cancellable,
                            GAsyncReadyCallback callback,
                            gpointer user_data)
{
  g_autoptr (GTask) task = NULL;
  QTaskOutgoing outgoing = { .bytes = message };
  QTaskLink *link;
  GError *error = NULL;

  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));
  g_return_if_fail (message != NULL);
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  link = q_task_channel_get_link (channel);
  task = g_task_new (channel, cancellable, callback, user_data);
  g_task_set_source_tag (task, q_task_channel_write_async);
  g_task_set_check_cancellable (task, FALSE); /* what was sent was sent */

  outgoing.data = g_bytes_get_data (message, &outgoing.size);

  if (g_cancellable_is_cancelled (cancellable))
    return_write_result (task, Q_TASK_LINK_CANCELLED);
  else if (q_task_link_write (link, &outgoing, Q_TASK_LINK_TRY, NULL, &error))
    g_task_return_boolean (task, TRUE);
  else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
    {
      g_error_free (error);
      async_write_start (link, task, message);
    }
  else
    g_task_return_error (task, error);
}

/**
 * q_task_channel_write_finish:
 * @channel: a channel
 * @result: what the callback got
 * @error: return location for an error
 *
 * Gets the result of [method@QTask.TaskChannel.write_async].
 *
 * Errors: as those of [method@QTask.TaskChannel.write].
 *
 * May be called from any thread.
 *
 * Returns: whether the message was accepted
 *
 * Since: 1.0
 */
gboolean
q_task_channel_write_finish (QTaskChannel *channel,
                             GAsyncResult *result,
                             GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), FALSE);
  g_return_val_if_fail (g_task_is_valid (result, channel), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  return g_task_propagate_boolean (G_TASK (result), error);
}

/* Reading */

static void
bytes_unref_notify (gpointer data)
{
  g_bytes_unref (data);
}

/* Reads if there is something, and then returns it with @task. */
static gboolean
try_read_for_task (QTaskLink *link,
                   GTask *task)
{
  QTaskReceiver receiver = { 0 };
  GError *error = NULL;
  QTaskLinkResult result;

  result = q_task_link_read (link, &receiver, Q_TASK_LINK_TRY, g_task_get_cancellable (task), &error);

  if (result == Q_TASK_LINK_WOULD_BLOCK)
    {
      g_error_free (error);
      return FALSE;
    }

  if (link != NULL)
    g_atomic_int_dec_and_test (&link->n_reads);

  if (error != NULL)
    g_task_return_error (task, error);
  else
    g_task_return_pointer (task, receiver.bytes, bytes_unref_notify);

  return TRUE;
}

static gboolean
async_read_ready_cb (gpointer data)
{
  GTask *task = data;

  return !try_read_for_task (q_task_channel_get_link (g_task_get_source_object (task)), task);
}

/**
 * q_task_channel_read_async:
 * @channel: a channel
 * @cancellable: (nullable): a cancellable, or %NULL
 * @callback: (scope async) (nullable): called when there is a message, or the end
 * @user_data: (closure): what @callback gets
 *
 * Reads a message when there is one, and does not block.
 *
 * Calls that are made in one thread get their messages in the order of the calls.
 *
 * May be called from any thread; @callback is called in the thread-default context of the
 * caller.
 *
 * Since: 1.0
 */
void
q_task_channel_read_async (QTaskChannel *channel,
                           GCancellable *cancellable,
                           GAsyncReadyCallback callback,
                           gpointer user_data)
{
  g_autoptr (GTask) task = NULL;
  QTaskLink *link;
  GSource *source;

  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  link = q_task_channel_get_link (channel);
  task = g_task_new (channel, cancellable, callback, user_data);
  g_task_set_source_tag (task, q_task_channel_read_async);
  g_task_set_check_cancellable (task, FALSE); /* a message that was read is not lost */

  /* Not ahead of one that waits already. */
  if (link == NULL || g_atomic_int_add (&link->n_reads, 1) == 0)
    if (try_read_for_task (link, task))
      return;

  source = q_task_channel_source_new (link, NULL, G_IO_IN, NULL, cancellable);
  g_source_set_callback (source, async_read_ready_cb, g_object_ref (task), g_object_unref);
  g_source_attach (source, g_task_get_context (task));
  g_source_unref (source);
}

/**
 * q_task_channel_read_finish:
 * @channel: a channel
 * @result: what the callback got
 * @error: return location for an error
 *
 * Gets the result of [method@QTask.TaskChannel.read_async].
 *
 * Errors: as those of [method@QTask.TaskChannel.read].
 *
 * May be called from any thread.
 *
 * Returns: (transfer full) (nullable): the message; or %NULL at the end, or with @error set
 *
 * Since: 1.0
 */
GBytes *
q_task_channel_read_finish (QTaskChannel *channel,
                            GAsyncResult *result,
                            GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), NULL);
  g_return_val_if_fail (g_task_is_valid (result, channel), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return g_task_propagate_pointer (G_TASK (result), error);
}
