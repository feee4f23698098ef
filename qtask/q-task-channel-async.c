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
  QTaskChannelCall *call;
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
  g_object_unref (self->call);
  g_free (self);
}

static void
return_write_result (QTaskChannelCall *call,
                     QTaskLinkResult result,
                     gboolean dispatched)
{
  GError *error = NULL;

  q_task_link_set_error (&error, result);
  q_task_channel_call_return (call, NULL, error, dispatched);
}

static gboolean
async_write_ready_cb (gpointer data)
{
  QTaskAsyncWrite *self = data;

  return_write_result (self->call, self->link->funcs->stop_pending (self->link, &self->pending),
                       TRUE);

  return G_SOURCE_REMOVE;
}

static void
async_write_start (QTaskLink *link,
                   QTaskChannelCall *call,
                   GBytes *message)
{
  QTaskAsyncWrite *self = g_new0 (QTaskAsyncWrite, 1);
  QTaskLinkResult result;
  GSource *source;

  self->call = g_object_ref (call);
  self->link = q_task_link_ref (link);
  self->pending.bytes = g_bytes_ref (message);
  self->pending.watch = q_task_watch_new_for_context (q_task_channel_call_get_context (call));

  result = self->link->funcs->write_pending (self->link, &self->pending);

  if (result != Q_TASK_LINK_PENDING)
    {
      return_write_result (call, result, FALSE);
      async_write_free (self);
      return;
    }

  source = q_task_channel_source_new (self->link, NULL, 0, &self->pending,
                                      q_task_channel_call_get_cancellable (call));
  g_source_set_callback (source, async_write_ready_cb, self, async_write_free);
  g_source_attach (source, q_task_channel_call_get_context (call));
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
  g_autoptr (QTaskChannelCall) call = NULL;
  QTaskOutgoing outgoing = { .bytes = message };
  QTaskLink *link;
  GError *error = NULL;

  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));
  g_return_if_fail (message != NULL);
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  link = q_task_channel_get_link (channel);
  call = q_task_channel_call_new (channel, cancellable, callback, user_data,
                                  q_task_channel_write_async);
  outgoing.data = g_bytes_get_data (message, &outgoing.size);

  if (g_cancellable_is_cancelled (cancellable))
    return_write_result (call, Q_TASK_LINK_CANCELLED, FALSE);
  else if (q_task_link_write (link, &outgoing, Q_TASK_LINK_TRY, NULL, &error))
    q_task_channel_call_return (call, NULL, NULL, FALSE);
  else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
    {
      g_error_free (error);
      async_write_start (link, call, message);
    }
  else
    q_task_channel_call_return (call, NULL, error, FALSE);
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
  g_return_val_if_fail (q_task_channel_call_is_valid (result, channel, q_task_channel_write_async),
                        FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  return q_task_channel_call_propagate (Q_TASK_CHANNEL_CALL (result), NULL, error);
}

/* Reading */

/* Reads if there is something, and then returns it. */
static gboolean
try_read_for_call (QTaskChannelCall *call,
                   gboolean dispatched)
{
  QTaskLink *link = q_task_channel_get_link (q_task_channel_call_get_channel (call));
  QTaskReceiver receiver = { 0 };
  GError *error = NULL;
  QTaskLinkResult result;

  result = q_task_link_read (link, &receiver, Q_TASK_LINK_TRY,
                             q_task_channel_call_get_cancellable (call), &error);

  if (result == Q_TASK_LINK_WOULD_BLOCK)
    {
      g_error_free (error);
      return FALSE;
    }

  if (link != NULL)
    g_atomic_int_dec_and_test (&link->n_reads);
  q_task_channel_call_return (call, receiver.bytes, error, dispatched);

  return TRUE;
}

static gboolean
async_read_ready_cb (gpointer data)
{
  return !try_read_for_call (data, TRUE);
}

/* Its context may have gone before there was a message. */
static void
async_read_free (gpointer data)
{
  QTaskChannelCall *call = data;

  if (!q_task_channel_call_is_returned (call))
    g_atomic_int_dec_and_test (&q_task_channel_get_link (q_task_channel_call_get_channel (call))->n_reads);

  g_object_unref (call);
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
  g_autoptr (QTaskChannelCall) call = NULL;
  QTaskLink *link;
  GSource *source;

  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  link = q_task_channel_get_link (channel);
  call = q_task_channel_call_new (channel, cancellable, callback, user_data,
                                  q_task_channel_read_async);

  /* Not ahead of one that waits already. */
  if (link == NULL || g_atomic_int_add (&link->n_reads, 1) == 0)
    if (try_read_for_call (call, FALSE))
      return;

  source = q_task_channel_source_new (link, NULL, G_IO_IN, NULL, cancellable);
  g_source_set_callback (source, async_read_ready_cb, g_object_ref (call), async_read_free);
  g_source_attach (source, q_task_channel_call_get_context (call));
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
  GBytes *message = NULL;

  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), NULL);
  g_return_val_if_fail (q_task_channel_call_is_valid (result, channel, q_task_channel_read_async),
                        NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  q_task_channel_call_propagate (Q_TASK_CHANNEL_CALL (result), &message, error);

  return message;
}
