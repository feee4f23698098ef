/* q-task-channel.c: QTaskChannel, one end of a pipe of messages
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The object is a handle on its link, which carries the messages and has the locks: in memory
 * (q-task-channel-pipe.c) or over descriptors (q-task-channel-stream.c). Here are the calls of
 * the API, but for the asynchronous ones (q-task-channel-async.c), and who has the message
 * function. All functions run in any thread.
 *
 *   link      never changes
 *   messages  with the lock, which is not held while anything else is called
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-channel-link-private.h"

/**
 * QTaskChannel:
 *
 * One end of a pipe of messages: what is written at one end is read at the other, in both
 * directions at once.
 *
 * A message is a [struct@GLib.Bytes] of any content, the empty one included, and arrives whole or
 * not at all. A pair made with [func@QTask.TaskChannel.new_pair] passes messages in memory, by
 * reference; [ctor@QTask.TaskChannel.new_from_socket] and
 * [ctor@QTask.TaskChannel.new_from_fds] make an end whose peer is on the other side of a socket
 * or of pipes, such as another process. To the user they are the same.
 *
 * ```c
 * QTaskChannel *here;
 * QTaskChannel *there;
 *
 * q_task_channel_new_pair (&here, &there);
 * q_task_channel_set_message_func (here, line_read_cb, view, NULL);
 * start_reader_thread (there);
 * ```
 *
 * There are four ways to use an end, and they can be mixed:
 *
 * - Calls that block, for threads: [method@QTask.TaskChannel.write],
 *   [method@QTask.TaskChannel.read].
 * - Calls that say %G_IO_ERROR_WOULD_BLOCK instead: [method@QTask.TaskChannel.try_write],
 *   [method@QTask.TaskChannel.try_read], along with [method@QTask.TaskChannel.create_source] or
 *   [method@QTask.TaskChannel.get_fd].
 * - Asynchronous calls: [method@QTask.TaskChannel.write_async],
 *   [method@QTask.TaskChannel.read_async].
 * - A function that is called for each message:
 *   [method@QTask.TaskChannel.set_message_func].
 *
 * A writer that is faster than its reader is held up, once as much as
 * [property@QTask.TaskChannel:capacity] is under way.
 *
 * Closing an end, which dropping the last reference to it does too, tells the other one: it
 * reads what was written before, and then the end.
 *
 * Over descriptors a message is a frame: the length of what follows the type as 32 bits,
 * little-endian; the type, 8 bits, which is 1; and the content. A peer that sends anything else
 * is not trusted any further: that is %Q_TASK_ERROR_PROTOCOL, and the channel is closed. No
 * memory is allocated for what a peer only claims to send. `SIGPIPE` is never
 * raised.
 *
 * No thread is kept to send what the kernel does not take at once. Messages that
 * [method@QTask.TaskChannel.try_write] and [method@QTask.TaskChannel.write_async] accepted leave
 * only while the context is iterated that was thread-default when the channel was made, or while
 * calls are made on this end; the peer does not see the end before they have left. Where no loop
 * runs, use calls that block, or make the channel in a context that is iterated.
 *
 * All functions of a channel may be called from any thread. Several threads may write to one
 * end, and several may read from one: each message is read once.
 *
 * Since: 1.0
 */
struct _QTaskChannel
{
  GObject parent_instance;

  QTaskLink *link; /* NULL if made with g_object_new(), which is as good as closed */
  GMutex lock;
  QTaskMessages *messages;
};

enum
{
  PROP_0,
  PROP_CAPACITY,
  PROP_MAX_MESSAGE_SIZE,
  N_PROPS
};

static GParamSpec *properties[N_PROPS];

G_DEFINE_FINAL_TYPE (QTaskChannel, q_task_channel, G_TYPE_OBJECT)

/* How long an owner that waits is kept from looking at what it waits for */
#define SERVE_SLICE_USEC 2000

QTaskLink *
q_task_channel_get_link (QTaskChannel *channel)
{
  return channel->link;
}

/* The message function */

/* Drops @messages if it is still that of the channel, or for NULL whatever that has. */
void
q_task_channel_drop_messages (QTaskChannel *channel,
                              QTaskMessages *messages)
{
  QTaskMessages *dropped = NULL;

  g_mutex_lock (&channel->lock);
  if (messages == NULL || channel->messages == messages)
    dropped = g_steal_pointer (&channel->messages);
  g_mutex_unlock (&channel->lock);

  if (dropped == NULL)
    return;

  q_task_messages_stop (dropped);
  q_task_messages_unref (dropped);
}

static gboolean
serve_messages (QTaskChannel *channel,
                QTaskDispatch *dispatch,
                gint64 slice)
{
  QTaskMessages *messages = NULL;
  gboolean called;

  g_mutex_lock (&channel->lock);
  if (channel->messages != NULL)
    messages = q_task_messages_ref (channel->messages);
  g_mutex_unlock (&channel->lock);

  if (messages == NULL)
    return FALSE;

  g_object_ref (channel);
  called = q_task_messages_serve (messages, channel, dispatch, slice);
  q_task_messages_unref (messages);
  g_object_unref (channel);

  return called;
}

void
q_task_channel_flush_messages (QTaskChannel *channel,
                               QTaskDispatch *dispatch)
{
  serve_messages (channel, dispatch, 0);
}

gboolean
q_task_channel_serve_messages (QTaskChannel *channel,
                               QTaskDispatch *dispatch)
{
  return serve_messages (channel, dispatch, SERVE_SLICE_USEC);
}

/* Has @messages in the place of those that there were. */
static void
set_messages (QTaskChannel *channel,
              QTaskMessages *messages)
{
  QTaskMessages *dropped;
  QTaskWatch *watch = q_task_messages_ref_watch (messages);

  g_mutex_lock (&channel->lock);
  dropped = channel->messages;
  channel->messages = messages;
  g_mutex_unlock (&channel->lock);

  if (dropped != NULL)
    {
      q_task_messages_stop (dropped);
      q_task_messages_unref (dropped);
    }

  if (channel->link->funcs->is_closed (channel->link))
    q_task_channel_drop_messages (channel, messages);
  else
    q_task_watch_wake (watch);

  q_task_watch_unref (watch);
}

void
q_task_channel_set_owner_func (QTaskChannel *channel,
                               QTaskDispatch *dispatch,
                               guint thread_id,
                               QTaskChannelMessageFunc func,
                               gpointer opaque)
{
  set_messages (channel, q_task_messages_new (channel, channel->link, dispatch, thread_id, NULL,
                                              func, opaque, NULL));
}

gboolean
q_task_channel_drop_message_func (QTaskChannel *channel,
                                  QTaskDispatch *dispatch)
{
  QTaskMessages *dropped = NULL;

  g_mutex_lock (&channel->lock);
  if (channel->messages != NULL && q_task_messages_is_of (channel->messages, dispatch))
    dropped = g_steal_pointer (&channel->messages);
  g_mutex_unlock (&channel->lock);

  if (dropped == NULL)
    return FALSE;

  q_task_messages_stop (dropped);
  q_task_messages_unref (dropped);

  return TRUE;
}

void
q_task_channel_set_notify (QTaskChannel *channel,
                           void (*func) (gpointer data),
                           gpointer data)
{
  g_return_if_fail (channel->link != NULL && channel->link->funcs->set_notify != NULL);

  channel->link->funcs->set_notify (channel->link, func, data);
}

/* The object */

static void
q_task_channel_finalize (GObject *object)
{
  QTaskChannel *channel = Q_TASK_CHANNEL (object);

  q_task_channel_drop_messages (channel, NULL);

  if (channel->link != NULL)
    {
      channel->link->funcs->close (channel->link);
      q_task_link_unref (channel->link);
    }

  g_mutex_clear (&channel->lock);

  G_OBJECT_CLASS (q_task_channel_parent_class)->finalize (object);
}

static void
q_task_channel_get_property (GObject *object,
                             guint prop_id,
                             GValue *value,
                             GParamSpec *pspec)
{
  QTaskChannel *channel = Q_TASK_CHANNEL (object);

  switch (prop_id)
    {
    case PROP_CAPACITY:
      g_value_set_uint64 (value, q_task_channel_get_capacity (channel));
      break;

    case PROP_MAX_MESSAGE_SIZE:
      g_value_set_uint64 (value, q_task_channel_get_max_message_size (channel));
      break;

    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
    }
}

static void
q_task_channel_set_property (GObject *object,
                             guint prop_id,
                             const GValue *value,
                             GParamSpec *pspec)
{
  QTaskChannel *channel = Q_TASK_CHANNEL (object);

  switch (prop_id)
    {
    case PROP_CAPACITY:
      q_task_channel_set_capacity (channel, (gsize) g_value_get_uint64 (value));
      break;

    case PROP_MAX_MESSAGE_SIZE:
      q_task_channel_set_max_message_size (channel, (gsize) g_value_get_uint64 (value));
      break;

    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
    }
}

static void
q_task_channel_class_init (QTaskChannelClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  object_class->finalize = q_task_channel_finalize;
  object_class->get_property = q_task_channel_get_property;
  object_class->set_property = q_task_channel_set_property;

  /**
   * QTaskChannel:capacity: (getter get_capacity) (setter set_capacity)
   *
   * How many bytes that were written at this end may be under way, or 0 for any number.
   *
   * Since: 1.0
   */
  properties[PROP_CAPACITY] =
    g_param_spec_uint64 ("capacity", NULL, NULL,
                         0, G_MAXSIZE, Q_TASK_CHANNEL_DEFAULT_CAPACITY,
                         G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskChannel:max-message-size: (getter get_max_message_size) (setter set_max_message_size)
   *
   * How many bytes a message may have that is written at this end or, over descriptors, is
   * read there.
   *
   * Since: 1.0
   */
  properties[PROP_MAX_MESSAGE_SIZE] =
    g_param_spec_uint64 ("max-message-size", NULL, NULL,
                         1, G_MAXUINT32, Q_TASK_CHANNEL_DEFAULT_MAX_MESSAGE_SIZE,
                         G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  g_object_class_install_properties (object_class, N_PROPS, properties);
}

static void
q_task_channel_init (QTaskChannel *channel)
{
  g_mutex_init (&channel->lock);
}

/* Takes @link over. */
static QTaskChannel *
channel_new (QTaskLink *link)
{
  QTaskChannel *channel = g_object_new (Q_TYPE_TASK_CHANNEL, NULL);

  channel->link = link;

  return channel;
}

/**
 * q_task_channel_new_pair:
 * @first: (out) (transfer full): the one end
 * @second: (out) (transfer full): the other end
 *
 * Makes a pipe of messages in memory, for the threads of this process.
 *
 * It takes no file descriptor. It is of no use to a forked child.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_channel_new_pair (QTaskChannel **first,
                         QTaskChannel **second)
{
  QTaskLink *links[2];

  g_return_if_fail (first != NULL);
  g_return_if_fail (second != NULL);

  q_task_link_new_pair (&links[0], &links[1]);
  *first = channel_new (links[0]);
  *second = channel_new (links[1]);
}

/**
 * q_task_channel_new_from_socket:
 * @socket: a connected stream socket
 * @error: return location for an error
 *
 * Makes an end whose messages go over a socket.
 *
 * The channel keeps a reference to @socket, and closes it when it is closed itself. Nothing else
 * may read from it or write to it meanwhile.
 *
 * Errors: %G_IO_ERROR_INVALID_ARGUMENT if @socket is closed or is not a stream; what the system
 * says of the descriptor.
 *
 * May be called from any thread. What [method@QTask.TaskChannel.try_write] and
 * [method@QTask.TaskChannel.write_async] accept, and the kernel does not take at once, leaves
 * only while the thread-default context of the caller is iterated, or while calls are made on
 * the channel.
 *
 * Returns: (transfer full): a new channel, or %NULL with @error set
 *
 * Since: 1.0
 */
QTaskChannel *
q_task_channel_new_from_socket (GSocket *socket,
                                GError **error)
{
  QTaskLink *link;

  g_return_val_if_fail (G_IS_SOCKET (socket), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  if (g_socket_is_closed (socket) || g_socket_get_socket_type (socket) != G_SOCKET_TYPE_STREAM)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                           _ ("A channel needs an open stream socket"));
      return NULL;
    }

  link = q_task_link_new_stream (socket, g_socket_get_fd (socket), g_socket_get_fd (socket), error);

  return link != NULL ? channel_new (link) : NULL;
}

/**
 * q_task_channel_new_from_fds:
 * @in_fd: a descriptor to read from
 * @out_fd: a descriptor to write to; may be the same
 * @error: return location for an error
 *
 * Makes an end whose messages go over file descriptors: stream sockets, pipes, or terminals.
 *
 * The channel takes both over: it makes them non-blocking and close-on-exec, and closes them when
 * it is closed itself. If it cannot be made, they are left as they were.
 *
 * Errors: %G_IO_ERROR_INVALID_ARGUMENT if a descriptor is not open, is not for reading or for
 * writing as it must be, or is a socket that is not a stream.
 *
 * May be called from any thread. What [method@QTask.TaskChannel.try_write] and
 * [method@QTask.TaskChannel.write_async] accept, and the kernel does not take at once, leaves
 * only while the thread-default context of the caller is iterated, or while calls are made on
 * the channel.
 *
 * Returns: (transfer full): a new channel, or %NULL with @error set
 *
 * Since: 1.0
 */
QTaskChannel *
q_task_channel_new_from_fds (int in_fd,
                             int out_fd,
                             GError **error)
{
  QTaskLink *link;

  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  link = q_task_link_new_stream (NULL, in_fd, out_fd, error);

  return link != NULL ? channel_new (link) : NULL;
}

/**
 * q_task_channel_get_capacity:
 * @channel: a channel
 *
 * Gets how many bytes that were written at this end may be under way.
 *
 * May be called from any thread.
 *
 * Returns: the number of bytes, or 0 for any number
 *
 * Since: 1.0
 */
gsize
q_task_channel_get_capacity (QTaskChannel *channel)
{
  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), 0);

  return channel->link != NULL ? q_task_link_get_capacity (channel->link) : Q_TASK_CHANNEL_DEFAULT_CAPACITY;
}

/**
 * q_task_channel_set_capacity:
 * @channel: a channel
 * @capacity: the number of bytes, or 0 for any number
 *
 * Sets how many bytes that were written at this end may be under way, which is to say not read
 * at the other one; 1 MiB unless set.
 *
 * A message that does not fit waits, or is refused with %G_IO_ERROR_WOULD_BLOCK; one that is
 * larger than @capacity fits when nothing else is under way. Each counts with at least one byte.
 * Over descriptors this is about what the kernel has not taken yet, and its own
 * buffer comes on top.
 *
 * May be called from any thread, at any time.
 *
 * Since: 1.0
 */
void
q_task_channel_set_capacity (QTaskChannel *channel,
                             gsize capacity)
{
  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));

  if (channel->link != NULL && q_task_link_set_capacity (channel->link, capacity))
    g_object_notify_by_pspec (G_OBJECT (channel), properties[PROP_CAPACITY]);
}

/**
 * q_task_channel_get_max_message_size:
 * @channel: a channel
 *
 * Gets how many bytes a message may have.
 *
 * May be called from any thread.
 *
 * Returns: the number of bytes
 *
 * Since: 1.0
 */
gsize
q_task_channel_get_max_message_size (QTaskChannel *channel)
{
  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), 0);

  return channel->link != NULL
           ? q_task_link_get_max_message_size (channel->link)
           : Q_TASK_CHANNEL_DEFAULT_MAX_MESSAGE_SIZE;
}

/**
 * q_task_channel_set_max_message_size:
 * @channel: a channel
 * @max_message_size: the number of bytes, from 1 to %G_MAXUINT32
 *
 * Sets how many bytes a message may have; 64 MiB unless set.
 *
 * Writing a larger one at this end is %G_IO_ERROR_MESSAGE_TOO_LARGE, and nothing is sent. Over
 * descriptors, a peer that sends a larger one breaks the protocol.
 *
 * May be called from any thread, at any time.
 *
 * Since: 1.0
 */
void
q_task_channel_set_max_message_size (QTaskChannel *channel,
                                     gsize max_message_size)
{
  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));
  g_return_if_fail (max_message_size > 0 && max_message_size <= G_MAXUINT32);

  if (channel->link != NULL && q_task_link_set_max_message_size (channel->link, max_message_size))
    g_object_notify_by_pspec (G_OBJECT (channel), properties[PROP_MAX_MESSAGE_SIZE]);
}

/**
 * q_task_channel_write:
 * @channel: a channel
 * @data: (array length=size) (element-type guint8): the message
 * @size: its size in bytes; 0 is allowed
 * @cancellable: (nullable): a cancellable, or %NULL
 * @error: return location for an error
 *
 * Writes a message, of which the channel takes a copy, and blocks while there is no room for it.
 *
 * Over descriptors it blocks until the kernel has taken all of the message. One of which a part
 * has gone when the call is cancelled is not cut off: it counts as written, and the rest
 * follows.
 *
 * Errors: %G_IO_ERROR_BROKEN_PIPE if the other end is closed; %G_IO_ERROR_CLOSED if this end is;
 * %G_IO_ERROR_MESSAGE_TOO_LARGE if @size is more than
 * [property@QTask.TaskChannel:max-message-size]; %G_IO_ERROR_CANCELLED if @cancellable was
 * cancelled; over descriptors also what the system says. The message was not sent then.
 *
 * May be called from any thread, by several at once.
 *
 * Returns: whether the message was written
 *
 * Since: 1.0
 */
gboolean
q_task_channel_write (QTaskChannel *channel,
                      gconstpointer data,
                      gsize size,
                      GCancellable *cancellable,
                      GError **error)
{
  QTaskOutgoing outgoing = { .data = data, .size = size };

  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), FALSE);
  g_return_val_if_fail (data != NULL || size == 0, FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  return q_task_link_write (channel->link, &outgoing, Q_TASK_LINK_WAIT, cancellable, error);
}

/**
 * q_task_channel_write_bytes:
 * @channel: a channel
 * @message: the message
 * @cancellable: (nullable): a cancellable, or %NULL
 * @error: return location for an error
 *
 * Writes a message, as [method@QTask.TaskChannel.write] does, but without a copy: in memory, the
 * other end reads this very @message.
 *
 * Errors: as those of [method@QTask.TaskChannel.write].
 *
 * May be called from any thread, by several at once.
 *
 * Returns: whether the message was written
 *
 * Since: 1.0
 */
gboolean
q_task_channel_write_bytes (QTaskChannel *channel,
                            GBytes *message,
                            GCancellable *cancellable,
                            GError **error)
{
  QTaskOutgoing outgoing = { .bytes = message };

  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), FALSE);
  g_return_val_if_fail (message != NULL, FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  outgoing.data = g_bytes_get_data (message, &outgoing.size);

  return q_task_link_write (channel->link, &outgoing, Q_TASK_LINK_WAIT, cancellable, error);
}

/**
 * q_task_channel_try_write:
 * @channel: a channel
 * @message: the message
 * @error: return location for an error
 *
 * Writes a message if there is room for it, and does not block.
 *
 * Errors: %G_IO_ERROR_WOULD_BLOCK if there is no room, or if other messages wait for room;
 * %G_IO_ERROR_BROKEN_PIPE if the other end is closed; %G_IO_ERROR_CLOSED if this end is;
 * %G_IO_ERROR_MESSAGE_TOO_LARGE if it is larger than
 * [property@QTask.TaskChannel:max-message-size]; over descriptors also what the system says. The
 * message was not sent then.
 *
 * May be called from any thread.
 *
 * Returns: whether the message was written
 *
 * Since: 1.0
 */
gboolean
q_task_channel_try_write (QTaskChannel *channel,
                          GBytes *message,
                          GError **error)
{
  QTaskOutgoing outgoing = { .bytes = message };

  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), FALSE);
  g_return_val_if_fail (message != NULL, FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  outgoing.data = g_bytes_get_data (message, &outgoing.size);

  return q_task_link_write (channel->link, &outgoing, Q_TASK_LINK_TRY, NULL, error);
}

/**
 * q_task_channel_read:
 * @channel: a channel
 * @cancellable: (nullable): a cancellable, or %NULL
 * @error: return location for an error
 *
 * Reads a message, and blocks until there is one.
 *
 * When the other end has been closed and all that it wrote was read, that is the end: %NULL
 * without an error, now and each time.
 *
 * Errors: %G_IO_ERROR_CLOSED if this end is closed; %G_IO_ERROR_CANCELLED if @cancellable was
 * cancelled; over descriptors %Q_TASK_ERROR_PROTOCOL, once, if what the peer sent is not a frame
 * or was cut off, and what the system says.
 *
 * May be called from any thread, by several at once.
 *
 * Returns: (transfer full) (nullable): the message; or %NULL at the end, or with @error set
 *
 * Since: 1.0
 */
GBytes *
q_task_channel_read (QTaskChannel *channel,
                     GCancellable *cancellable,
                     GError **error)
{
  QTaskReceiver receiver = { 0 };

  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), NULL);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  q_task_link_read (channel->link, &receiver, Q_TASK_LINK_WAIT, cancellable, error);

  return receiver.bytes;
}

/**
 * q_task_channel_read_into: (skip)
 * @channel: a channel
 * @buffer: where the message goes
 * @size: how many bytes @buffer has
 * @message_size: (out) (optional): how many the message has
 * @cancellable: (nullable): a cancellable, or %NULL
 * @error: return location for an error
 *
 * Reads a message into a buffer, and blocks until there is one.
 *
 * Of a message that is larger than @buffer the rest is dropped, which @message_size tells: it is
 * the size that was written. What is read next is the next message.
 *
 * At the end, when the other end has been closed and all was read, the result is %FALSE without
 * an error.
 *
 * Errors: as those of [method@QTask.TaskChannel.read].
 *
 * May be called from any thread, by several at once.
 *
 * Returns: whether there was a message
 *
 * Since: 1.0
 */
gboolean
q_task_channel_read_into (QTaskChannel *channel,
                          gpointer buffer,
                          gsize size,
                          gsize *message_size,
                          GCancellable *cancellable,
                          GError **error)
{
  QTaskReceiver receiver = { .buffer = buffer, .size = size, .into_buffer = TRUE };
  QTaskLinkResult result;

  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), FALSE);
  g_return_val_if_fail (buffer != NULL || size == 0, FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  result = q_task_link_read (channel->link, &receiver, Q_TASK_LINK_WAIT, cancellable, error);

  if (message_size != NULL)
    *message_size = receiver.message_size;

  return result == Q_TASK_LINK_DONE;
}

/**
 * q_task_channel_try_read:
 * @channel: a channel
 * @error: return location for an error
 *
 * Reads a message if there is one, and does not block.
 *
 * Errors: %G_IO_ERROR_WOULD_BLOCK if there is none yet, and those of
 * [method@QTask.TaskChannel.read].
 *
 * May be called from any thread.
 *
 * Returns: (transfer full) (nullable): the message; or %NULL at the end, or with @error set
 *
 * Since: 1.0
 */
GBytes *
q_task_channel_try_read (QTaskChannel *channel,
                         GError **error)
{
  QTaskReceiver receiver = { 0 };

  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  q_task_link_read (channel->link, &receiver, Q_TASK_LINK_TRY, NULL, error);

  return receiver.bytes;
}

/**
 * q_task_channel_create_source:
 * @channel: a channel
 * @condition: %G_IO_IN, %G_IO_OUT, or both
 * @cancellable: (nullable): a cancellable, or %NULL
 *
 * Makes a source that is dispatched when the channel is ready.
 *
 * For %G_IO_IN that is while a read would not block: there is a message, or the end, or an
 * error. For %G_IO_OUT it is while a message of one byte could be written, or writing would
 * fail. It is also dispatched when @cancellable is cancelled.
 *
 * The callback is a [callback@QTask.TaskChannelSourceFunc]. The source holds a reference to
 * the channel until it is destroyed and its last reference is dropped.
 *
 * May be called from any thread. The source may be attached to any context.
 *
 * Returns: (transfer full): a new source
 *
 * Since: 1.0
 */
GSource *
q_task_channel_create_source (QTaskChannel *channel,
                              GIOCondition condition,
                              GCancellable *cancellable)
{
  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), NULL);
  g_return_val_if_fail (channel->link != NULL, NULL);
  g_return_val_if_fail (condition != 0 && (condition & ~(G_IO_IN | G_IO_OUT)) == 0, NULL);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), NULL);

  return q_task_channel_source_new (channel->link, channel, condition, NULL, cancellable);
}

/**
 * q_task_channel_set_message_func:
 * @channel: a channel
 * @func: (nullable) (scope notified) (closure opaque) (destroy destroy): called for each message
 * @opaque: what @func gets
 * @destroy: (nullable): releases @opaque
 *
 * Has the thread-default context of the caller read all messages, and call a function for each,
 * in order.
 *
 * The function is called a last time, with %NULL, when the other end has been closed, or has
 * broken the protocol: then the next read tells so. It is not called any more once this end is
 * closed. It may close the channel, set another function, or drop its last reference.
 *
 * Messages are delivered in slices of at most 2 ms: what else the context has, of any priority,
 * gets its turn in between. They go on coming in a main loop that is run by
 * @func.
 *
 * The function that was set before is not called any more, and what it had is released by the
 * thread of its context, as is @opaque when this end is closed or finalized.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_channel_set_message_func (QTaskChannel *channel,
                                 QTaskChannelMessageFunc func,
                                 gpointer opaque,
                                 GDestroyNotify destroy)
{
  g_autoptr (GMainContext) context = NULL;
  QTaskDispatch *dispatch;

  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));
  g_return_if_fail (channel->link != NULL);

  if (func == NULL)
    {
      q_task_channel_drop_messages (channel, NULL);
      if (destroy != NULL)
        destroy (opaque);
      return;
    }

  context = g_main_context_ref_thread_default ();
  dispatch = q_task_dispatch_ref_for_context (context);
  set_messages (channel, q_task_messages_new (channel, channel->link, dispatch,
                                              q_task_dispatch_get_thread_id (), context, func,
                                              opaque, destroy));
  q_task_dispatch_unref (dispatch);
}

/**
 * q_task_channel_get_fd:
 * @channel: a channel
 * @error: return location for an error
 *
 * Gets a descriptor for the main loop of another library to poll for reading: it is readable
 * while a read would not block, which includes the end.
 *
 * It is made by the first call, is the channel's, and closed along with this end; nothing may be
 * read from it. Over descriptors it may also be readable for a part of a message, which
 * [method@QTask.TaskChannel.try_read] then takes in, and says %G_IO_ERROR_WOULD_BLOCK.
 *
 * Errors: %G_IO_ERROR_TOO_MANY_OPEN_FILES, or what else the system says, if there is no
 * descriptor to be had; %G_IO_ERROR_CLOSED if this end is closed.
 *
 * May be called from any thread.
 *
 * Returns: the descriptor, or -1 with @error set
 *
 * Since: 1.0
 */
int
q_task_channel_get_fd (QTaskChannel *channel,
                       GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), -1);
  g_return_val_if_fail (error == NULL || *error == NULL, -1);

  if (channel->link == NULL)
    {
      q_task_link_set_error (error, Q_TASK_LINK_CLOSED);
      return -1;
    }

  return channel->link->funcs->get_fd (channel->link, error);
}

/**
 * q_task_channel_close:
 * @channel: a channel
 *
 * Closes this end. What was written here before can still be read at the other one, which then
 * reads the end; what was written there and not read is dropped.
 *
 * Whoever blocks in a call on this end gets %G_IO_ERROR_CLOSED; who writes at the other one,
 * %G_IO_ERROR_BROKEN_PIPE. Over descriptors, messages that were accepted and not sent yet are
 * sent by the context that was thread-default when the channel was made, for at most ten
 * seconds.
 *
 * Closing an end that is closed has no effect.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_channel_close (QTaskChannel *channel)
{
  g_return_if_fail (Q_IS_TASK_CHANNEL (channel));

  if (channel->link != NULL)
    channel->link->funcs->close (channel->link);

  q_task_channel_drop_messages (channel, NULL);
}

/**
 * q_task_channel_is_closed:
 * @channel: a channel
 *
 * Tells whether this end is closed: by [method@QTask.TaskChannel.close], or because the peer
 * broke the protocol.
 *
 * May be called from any thread.
 *
 * Returns: whether it is closed
 *
 * Since: 1.0
 */
gboolean
q_task_channel_is_closed (QTaskChannel *channel)
{
  g_return_val_if_fail (Q_IS_TASK_CHANNEL (channel), FALSE);

  return channel->link == NULL || channel->link->funcs->is_closed (channel->link);
}
