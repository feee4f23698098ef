/* q-task-soup-websocket.c: tasks that feed WebSockets
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libsoup queues what it cannot send at once, without limit, and tells nobody when it has sent
 * it. But as long as its queue is not empty it has a source that waits for the stream of the
 * connection to become writable; each time, it writes one frame, or as much of it as the stream
 * takes. So this has a source of the same kind, of the same priority, on the same stream, and
 * counts how often that was ready: each time is a turn of libsoup. After one turn for each
 * message, and one more for each TURN_SIZE bytes of it, the queue must be empty. TURN_SIZE is
 * less than a writable socket takes, and than a record of TLS holds.
 *
 * All functions run in the owner's thread, which is that of the connection; only
 * binding_let_go() and binding_unref() may be called elsewhere, when there is no owner any more.
 */

#include "config.h"

#include "q-task-soup-private.h"

#define TURN_SIZE (4 * 1024)

/* With so many turns to go, no messages are read from the channel. */
#define MAX_TURNS 64

/* The functions of the task have a reference each, the message function has, and the close. */
typedef struct
{
  QTask *task;                         /* has this; NULL when it has let go of it */
  SoupWebsocketConnection *connection; /* NULL when it closes */
  SoupWebsocketDataType type;
  QTaskBindFlags flags;
  GSource *source; /* that counts turns; NULL if there are none to wait for */
  gsize n_turns;
  gboolean is_held;    /* no messages are read, except by advance() */
  gboolean is_syncing; /* the worker waits */
  gushort close_code;  /* 0 until the task has completed */
} Binding;

static void
binding_clear (gpointer self)
{
  g_assert (((Binding *) self)->connection == NULL);
}

static void
binding_unref (gpointer self)
{
  g_atomic_rc_box_release_full (self, binding_clear);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Binding, binding_unref)

static SoupWebsocketConnection *
steal_connection (Binding *self)
{
  q_task_soup_clear_source (&self->source);
  g_signal_handlers_disconnect_by_data (self->connection, self);

  return g_steal_pointer (&self->connection);
}

static gboolean
is_open (SoupWebsocketConnection *connection)
{
  return soup_websocket_connection_get_state (connection) == SOUP_WEBSOCKET_STATE_OPEN;
}

static void
close_connection (SoupWebsocketConnection *connection,
                  gushort code)
{
  if (is_open (connection))
    soup_websocket_connection_close (connection, code, NULL);
}

static void advance (Binding *self);

static gboolean
turn_cb (GObject *stream,
         gpointer data)
{
  Binding *self = data;

  if (--self->n_turns == 0)
    q_task_soup_clear_source (&self->source);

  advance (self);

  return G_SOURCE_CONTINUE;
}

static void
add_turns (Binding *self,
           gsize n_turns)
{
  GIOStream *stream = soup_websocket_connection_get_io_stream (self->connection);
  GOutputStream *output = g_io_stream_get_output_stream (stream);
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();

  self->n_turns += n_turns;

  if (self->source != NULL)
    return;

  self->source = g_pollable_output_stream_create_source (G_POLLABLE_OUTPUT_STREAM (output), NULL);
  g_source_set_static_name (self->source, "q_task_soup_bind_websocket");
  g_source_set_callback (self->source, G_SOURCE_FUNC (turn_cb), self, NULL);
  g_source_attach (self->source, context);
}

static void
send (Binding *self,
      GBytes *message)
{
  if (self->connection == NULL || !is_open (self->connection))
    return;

  soup_websocket_connection_send_message (self->connection, self->type, message);

  /* Unless that found it broken */
  if (self->connection != NULL)
    add_turns (self, 1 + g_bytes_get_size (message) / TURN_SIZE);
}

static GBytes *
try_read (Binding *self)
{
  QTaskChannel *channel = q_task_get_channel (self->task);

  return channel != NULL ? q_task_channel_try_read (channel, NULL) : NULL;
}

static void message_cb (QTaskChannel *channel,
                        GBytes *message,
                        gpointer data);

static void
set_held (Binding *self,
          gboolean is_held)
{
  QTaskChannel *channel = q_task_get_channel (self->task);

  self->is_held = is_held;

  if (channel == NULL)
    return;

  if (is_held)
    q_task_channel_set_message_func (channel, NULL, NULL, NULL);
  else
    q_task_channel_set_message_func (channel, message_cb, g_atomic_rc_box_acquire (self), binding_unref);
}

/* By the message function: reads on until there is too much to send. */
static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Binding *self = data;

  if (message == NULL || self->connection == NULL)
    return;

  send (self, message);

  if (self->n_turns >= MAX_TURNS && !self->is_held)
    set_held (self, TRUE);
}

/* Whatever has to wait for the client, and need not any more */
static void
advance (Binding *self)
{
  g_autoptr (Binding) binding G_GNUC_UNUSED = g_atomic_rc_box_acquire (self);
  gboolean is_empty = !self->is_held;

  while (self->is_held && self->connection != NULL && self->n_turns < MAX_TURNS && !is_empty)
    {
      g_autoptr (GBytes) message = try_read (self);

      if (message != NULL)
        send (self, message);
      else
        is_empty = TRUE;
    }

  if (self->connection == NULL || !is_empty)
    return;

  if (self->close_code != 0)
    {
      if (self->n_turns == 0)
        {
          g_autoptr (SoupWebsocketConnection) connection = steal_connection (self);

          close_connection (connection, self->close_code);
          binding_unref (self);
        }
    }
  else if (!self->is_syncing)
    {
      if (self->is_held)
        set_held (self, FALSE);
    }
  else if (self->n_turns == 0)
    {
      self->is_syncing = FALSE;
      set_held (self, FALSE);
      q_task_resume (self->task, FALSE);
    }
}

static void
sync_cb (QTask *task,
         gpointer data)
{
  Binding *self = data;

  if (self->connection == NULL)
    return;

  self->is_syncing = TRUE;
  if (!self->is_held)
    set_held (self, TRUE);

  advance (self);
}

static gushort
get_close_code (QTask *task,
                SoupWebsocketConnection *connection)
{
  const GError *error = q_task_get_error (task);

  if (error == NULL)
    return SOUP_WEBSOCKET_CLOSE_NORMAL;

  /* A client that closes has no code for what went wrong. */
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
      soup_websocket_connection_get_connection_type (connection) != SOUP_WEBSOCKET_CONNECTION_SERVER)
    return SOUP_WEBSOCKET_CLOSE_GOING_AWAY;

  return SOUP_WEBSOCKET_CLOSE_SERVER_ERROR;
}

static void
bound_cb (QTask *task,
          GBytes *message,
          gpointer data)
{
  Binding *self = data;

  if (message != NULL)
    {
      message_cb (NULL, message, self);
      return;
    }

  if (self->connection == NULL)
    return;

  /* What is left goes to libsoup's queue; the channel may not be there for much longer. */
  while (self->connection != NULL)
    {
      g_autoptr (GBytes) rest = try_read (self);

      if (rest == NULL)
        break;

      send (self, rest);
    }

  if (self->connection == NULL)
    return;

  self->is_held = FALSE;
  self->close_code = get_close_code (task, self->connection);
  g_atomic_rc_box_acquire (self);
  advance (self);
}

static void
connection_over_cb (Binding *self)
{
  g_autoptr (Binding) binding G_GNUC_UNUSED = g_atomic_rc_box_acquire (self);
  g_autoptr (SoupWebsocketConnection) connection G_GNUC_UNUSED = steal_connection (self);

  if (self->close_code != 0)
    binding_unref (self);
  else
    q_task_soup_remove_client (self->task, self->flags);
}

/* The task has completed, or has been bound to another function, or there is no owner. */
static void
binding_let_go (gpointer data)
{
  Binding *self = data;

  if (self->connection != NULL && self->close_code == 0)
    g_object_unref (steal_connection (self));

  self->task = NULL;
  binding_unref (self);
}

/**
 * q_task_soup_bind_websocket:
 * @task: a task that has not completed
 * @connection: a connection that @task is to feed
 * @type: whether messages are sent as text, and then are UTF-8, or as binary
 * @flags: what is to become of @task when @connection is closed
 *
 * Sends each message that the worker writes to the channel of the task, which is opened with
 * [method@QTask.Task.open_channel], as a message of @connection, and paces the worker by the
 * client:
 *
 * - A worker that calls [method@QTask.Task.sync], or a step that returns %Q_TASK_STEP_SYNC,
 *   goes on when all that it wrote before was handed to the network. What a slow client has not
 *   taken yet is then no more than the buffers of the system hold.
 * - A worker that does not is held by the capacity of its channel, of which no messages are
 *   read while more than about 256 KiB wait to be sent.
 *
 * When the task has completed and the rest was sent, the connection is closed: with
 * %SOUP_WEBSOCKET_CLOSE_NORMAL if the task succeeded, %SOUP_WEBSOCKET_CLOSE_GOING_AWAY if it was
 * cancelled, and otherwise %SOUP_WEBSOCKET_CLOSE_SERVER_ERROR (or `GOING_AWAY` if @connection is
 * the client's side). Until it is closed a reference to it is kept.
 *
 * The client counts as a bound object, as in [method@QTask.Task.bind_object]. If @connection
 * closes before the task has completed, whichever side began, the task is asked to stop and its
 * callback is not called any more; with %Q_TASK_BIND_OUTLIVE, or
 * [method@QTask.Task.set_outlive], the task runs on, detached, and what it writes to its channel
 * is dropped. Without, its channel is closed.
 *
 * What the client sends comes as [signal@Soup.WebsocketConnection::message], as always; a
 * handler may pass it on to the worker with [method@QTask.TaskChannel.try_write]. A client that
 * vanishes with no sign is noticed if the connection has a
 * [property@Soup.WebsocketConnection:keepalive-interval], when the system gives it up.
 *
 * A task can be bound to one request or connection. Do not call [method@QTask.Task.bind_callback] or
 * [method@QTask.Task.set_sync_func] as well, and do not wait for the task in the thread of its
 * owner.
 *
 * May be called from the owner, whose context is that of the connection, before or after the
 * start.
 *
 * Since: 1.0
 */
void
q_task_soup_bind_websocket (QTask *task,
                            SoupWebsocketConnection *connection,
                            SoupWebsocketDataType type,
                            QTaskBindFlags flags)
{
  Binding *self;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (SOUP_IS_WEBSOCKET_CONNECTION (connection));
  g_return_if_fail (type == SOUP_WEBSOCKET_DATA_TEXT || type == SOUP_WEBSOCKET_DATA_BINARY);

  if (!q_task_soup_add_client (task, flags))
    return;

  if (!is_open (connection))
    {
      q_task_soup_remove_client (task, flags);
      return;
    }

  self = g_atomic_rc_box_new0 (Binding);
  self->task = task;
  self->connection = g_object_ref (connection);
  self->type = type;
  self->flags = flags;

  /* Until then it has something to send, and libsoup itself keeps no reference. */
  g_signal_connect (g_object_ref (connection), "closed", G_CALLBACK (g_object_unref), NULL);

  g_signal_connect_swapped (connection, "closing", G_CALLBACK (connection_over_cb), self);
  g_signal_connect_swapped (connection, "closed", G_CALLBACK (connection_over_cb), self);

  q_task_bind_callback (task, bound_cb, self, binding_let_go);
  q_task_set_sync_func (task, sync_cb, g_atomic_rc_box_acquire (self), binding_unref);
}
