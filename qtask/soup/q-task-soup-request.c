/* q-task-soup-request.c: tasks that answer HTTP requests
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A Binding joins a task and a SoupServerMessage. libsoup pauses a message of which it has sent
 * all there is, and has to be told when there is more; it does not look at the socket of one
 * that is paused, so this does.
 *
 * A binding has its request until the task has completed or the client has left, whichever
 * comes first. After that it leaves the request alone; libsoup finishes it.
 *
 * All functions run in the owner's thread, which is that of the server; only binding_let_go()
 * and binding_unref() may be called elsewhere, when there is no owner any more.
 */

#include "config.h"

#include "q-task-soup-private.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <glib-unix.h>

/* With more than this not yet sent to the client, no messages are read from the channel. */
#define MAX_UNSENT (256 * 1024)

/* What a poll of the socket has to look for. Where poll() cannot tell that the peer has shut
 * down its side, it is found by reading, for which there must be no other input. */
#ifdef POLLRDHUP
#define WATCH_CONDITION ((GIOCondition) POLLRDHUP)
#else
#define WATCH_CONDITION G_IO_IN
#endif

/* The task has a reference, and the message function. */
typedef struct
{
  GThread *thread;            /* of the owner */
  QTask *task;                /* has this; NULL when it has let go of it */
  SoupServerMessage *request; /* or NULL; see above */
  GSource *watch;             /* of the socket, or NULL where there is none */
  QTaskBindFlags flags;
  gboolean is_sending; /* the head of the response is, or may be, on its way */
  gboolean is_held;    /* no messages are read */
  goffset n_sent;      /* bytes of the body */
  QTaskSoupRequestFunc func;
  gpointer opaque;
  GDestroyNotify destroy;
} Binding;

static void
binding_clear (gpointer data)
{
  Binding *self = data;

  g_assert (self->request == NULL);

  if (self->destroy != NULL)
    self->destroy (self->opaque);
}

static void
binding_unref (gpointer self)
{
  g_atomic_rc_box_release_full (self, binding_clear);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Binding, binding_unref)

static SoupServerMessage *
steal_request (Binding *self)
{
  q_task_soup_clear_source (&self->watch);
  g_signal_handlers_disconnect_by_data (self->request, self);

  return g_steal_pointer (&self->request);
}

static gboolean
is_http2 (SoupServerMessage *request)
{
  return soup_server_message_get_http_version (request) == SOUP_HTTP_2_0;
}

static gboolean
is_body_complete (SoupServerMessage *request)
{
  SoupMessageBody *body = soup_server_message_get_response_body (request);
  g_autoptr (GBytes) end = soup_message_body_get_chunk (body, body->length);

  return end != NULL;
}

/* Makes libsoup find a broken connection, and do what it does then. Nothing that is added to
 * the body here can reach anybody. */
static void
break_off (SoupServerMessage *request)
{
  GSocket *socket = soup_server_message_get_socket (request);

  /* Other requests may use the connection; and libsoup does not finish this one. */
  if (is_http2 (request))
    return;

  if (socket != NULL)
    {
      g_socket_shutdown (socket, TRUE, TRUE, NULL);
      soup_message_body_append (soup_server_message_get_response_body (request),
                                SOUP_MEMORY_STATIC, "\n", 1);
      soup_server_message_unpause (request);
    }
  else
    {
      g_autoptr (GIOStream) stream = soup_server_message_steal_connection (request);

      if (stream != NULL)
        g_io_stream_close_async (stream, G_PRIORITY_DEFAULT, NULL, NULL, NULL);
    }
}

static void
client_left (Binding *self,
             gboolean is_paused)
{
  g_autoptr (Binding) binding G_GNUC_UNUSED = g_atomic_rc_box_acquire (self);
  g_autoptr (SoupServerMessage) request = steal_request (self);

  if (is_paused)
    break_off (request);

  q_task_soup_remove_client (self->task, self->flags);
}

/* There will be no more of the response, or it was the last. */
static void
request_over_cb (Binding *self)
{
  client_left (self, FALSE);
}

static void watch_socket (Binding *self,
                          GIOCondition condition);

static gboolean
socket_ready_cb (int fd,
                 GIOCondition condition,
                 gpointer data)
{
  Binding *self = data;

#ifndef POLLRDHUP
  if ((condition & (G_IO_HUP | G_IO_ERR)) == 0)
    {
      char byte;
      ssize_t n = recv (fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

      if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return G_SOURCE_CONTINUE;

      /* The next request is here already, and hides what comes behind it. */
      if (n > 0)
        {
          q_task_soup_clear_source (&self->watch);
          watch_socket (self, 0);
          return G_SOURCE_REMOVE;
        }
    }
#endif

  client_left (self, TRUE);

  return G_SOURCE_REMOVE;
}

static void
watch_socket (Binding *self,
              GIOCondition condition)
{
  GSocket *socket = soup_server_message_get_socket (self->request);
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();

  if (socket == NULL)
    return;

  self->watch = g_unix_fd_source_new (g_socket_get_fd (socket), condition | G_IO_HUP | G_IO_ERR);
  g_source_set_static_name (self->watch, "q_task_soup_bind_request");
  g_source_set_callback (self->watch, G_SOURCE_FUNC (socket_ready_cb), self, NULL);
  g_source_attach (self->watch, context);
}

/* Whether what there is of the response can be sent before the rest is known */
static gboolean
can_send_part (SoupServerMessage *request)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (request);
  SoupMessageBody *body = soup_server_message_get_response_body (request);
  guint status = soup_server_message_get_status (request);

  /* For HTTP/2, libsoup takes what there is for all. */
  if (is_http2 (request) || SOUP_STATUS_IS_INFORMATIONAL (status))
    return FALSE;

  if (status == SOUP_STATUS_NONE && body->length == 0)
    return FALSE;

  switch (soup_message_headers_get_encoding (headers))
    {
    case SOUP_ENCODING_CHUNKED:
    case SOUP_ENCODING_EOF:
      return TRUE;

    case SOUP_ENCODING_CONTENT_LENGTH:
      return soup_message_headers_get_content_length (headers) > 0 || is_body_complete (request);

    default:
      return FALSE;
    }
}

/* From here on libsoup may send the head of the response. */
static void
start_sending (Binding *self,
               guint default_status)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (self->request);
  SoupMessageBody *body = soup_server_message_get_response_body (self->request);

  self->is_sending = TRUE;

  if (soup_server_message_get_status (self->request) == SOUP_STATUS_NONE)
    soup_server_message_set_status (self->request, default_status, NULL);

  if (soup_message_headers_get_encoding (headers) == SOUP_ENCODING_CHUNKED &&
      soup_server_message_get_http_version (self->request) == SOUP_HTTP_1_0)
    soup_message_headers_set_encoding (headers, SOUP_ENCODING_EOF);

  /* What was sent is not needed any more; a range of it can only be sent if all is here. */
  if (!is_body_complete (self->request))
    soup_message_body_set_accumulate (body, FALSE);
}

static gboolean
has_much_unsent (Binding *self,
                 goffset limit)
{
  SoupMessageBody *body = soup_server_message_get_response_body (self->request);

  return body->length - self->n_sent > limit;
}

/* Calls the function, which may do anything, and have the client leave meanwhile. Returns
 * whether it did not. */
static gboolean
call (Binding *self,
      GBytes *message)
{
  g_autoptr (SoupServerMessage) request = g_object_ref (self->request);

  self->func (self->task, request, message, self->opaque);

  return self->request != NULL;
}

static void
deliver (Binding *self,
         GBytes *message)
{
  g_autoptr (Binding) binding G_GNUC_UNUSED = g_atomic_rc_box_acquire (self);

  if (self->request == NULL || !call (self, message))
    return;

  if (!self->is_sending)
    {
      if (!can_send_part (self->request))
        return;

      start_sending (self, SOUP_STATUS_OK);
    }

  /* Pauses again by itself after the last chunk. */
  soup_server_message_unpause (self->request);
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

  if (is_held)
    q_task_channel_set_message_func (channel, NULL, NULL, NULL);
  else
    q_task_channel_set_message_func (channel, message_cb, g_atomic_rc_box_acquire (self), binding_unref);
}

static void
hold_if_needed (Binding *self)
{
  if (self->request != NULL && !self->is_held && self->is_sending &&
      has_much_unsent (self, MAX_UNSENT))
    set_held (self, TRUE);
}

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Binding *self = data;

  if (message == NULL)
    return;

  deliver (self, message);
  hold_if_needed (self);
}

static void
body_data_sent_cb (SoupServerMessage *request,
                   guint n_bytes,
                   gpointer data)
{
  Binding *self = data;

  self->n_sent += n_bytes;

  if (self->is_held && !has_much_unsent (self, MAX_UNSENT / 2))
    set_held (self, FALSE);
}

static guint
get_status_of_outcome (QTask *task)
{
  const GError *error = q_task_get_error (task);

  if (error == NULL)
    return SOUP_STATUS_OK;

  if (g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL) ||
      g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED))
    return SOUP_STATUS_SERVICE_UNAVAILABLE;

  return SOUP_STATUS_INTERNAL_SERVER_ERROR;
}

/* The task has completed. */
static void
complete (Binding *self)
{
  guint status = get_status_of_outcome (self->task);
  QTaskChannel *channel = q_task_get_channel (self->task);
  g_autoptr (SoupServerMessage) request = NULL;

  /* What was left when no messages were read */
  while (self->request != NULL && channel != NULL)
    {
      g_autoptr (GBytes) message = q_task_channel_try_read (channel, NULL);

      if (message == NULL)
        break;

      deliver (self, message);
    }

  if (self->request == NULL || !call (self, NULL))
    return;

  if (self->is_sending && status != SOUP_STATUS_OK && !is_body_complete (self->request))
    {
      request = steal_request (self);
      break_off (request);
      return;
    }

  if (!is_body_complete (self->request))
    soup_message_body_complete (soup_server_message_get_response_body (self->request));

  if (!self->is_sending)
    start_sending (self, status);

  request = steal_request (self);
  soup_server_message_unpause (request);
}

static void
bound_cb (QTask *task,
          GBytes *message,
          gpointer data)
{
  Binding *self = data;
  g_autoptr (Binding) binding G_GNUC_UNUSED = g_atomic_rc_box_acquire (self);

  if (message != NULL)
    {
      deliver (self, message);
      hold_if_needed (self);
    }
  else
    {
      complete (self);
    }
}

/* The task has completed, or has been bound to another function, or there is no owner. */
static void
binding_let_go (gpointer data)
{
  Binding *self = data;

  if (self->request != NULL)
    {
      g_autoptr (SoupServerMessage) request = steal_request (self);

      if (self->thread == g_thread_self ())
        break_off (request);
    }

  self->task = NULL;
  binding_unref (self);
}

/**
 * q_task_soup_bind_request:
 * @task: a task that has not completed
 * @request: a request that @task is to answer
 * @flags: what is to become of @task when the client leaves
 * @func: (scope notified) (closure opaque) (destroy destroy): makes the response
 * @opaque: (nullable): data for @func
 * @destroy: (nullable): frees @opaque; called by the owner when the task has completed
 *
 * Puts @request to sleep until @task has something to say, in a handler of a
 * [class@Soup.Server].
 *
 * @func is called for each message that the worker writes to the channel of the task, which is
 * opened with [method@QTask.Task.open_channel], and a last time when the task has completed. It
 * makes the response, piece by piece or all at once. If it has not set a status when the task
 * has completed, that is 200 if the task succeeded, 503 if its pool refused it
 * (%Q_TASK_ERROR_QUEUE_FULL or %Q_TASK_ERROR_CLOSED), and otherwise 500. It need not call
 * [method@Soup.MessageBody.complete].
 *
 * The response is sent when the task has completed. For it to be sent piece by piece, set the
 * encoding of its headers to %SOUP_ENCODING_CHUNKED, or set its length beforehand: then
 * what @func adds is sent when it returns, with a status of 200 if none was set. While the client
 * does not keep up, no messages are read, so a worker that is faster is held by the capacity of
 * its channel. Should the task then fail, with a part of the response sent and @func not having
 * completed the body, the connection is broken off, lest the client take the part for the
 * whole.
 *
 * The client counts as a bound object, as in [method@QTask.Task.bind_object]. If it leaves
 * before the task has completed, the task is asked to stop, and neither @func nor the callback of
 * the task is called any more; with %Q_TASK_BIND_OUTLIVE, or [method@QTask.Task.set_outlive], the
 * task runs on, detached, and what it writes to its channel is dropped. Without, its channel is
 * closed. A client leaves when it closes or shuts down its side of the connection, when the
 * server disconnects it, and when the response is over: @func may complete it early.
 *
 * A client that vanishes with no sign is not noticed; [method@QTask.Task.set_timeout] bounds
 * how long it is served. Over HTTP/2 libsoup sends no response in pieces, and only the end of the
 * whole connection is noticed. With [method@Soup.Server.accept_iostream] there is no socket to
 * look at.
 *
 * A task can be bound to one request or connection. Do not pause or unpause @request yourself, and
 * do not call [method@QTask.Task.bind_callback] as well.
 *
 * May be called from the owner, whose context is that of the server, before or after the start.
 *
 * Since: 1.0
 */
void
q_task_soup_bind_request (QTask *task,
                          SoupServerMessage *request,
                          QTaskBindFlags flags,
                          QTaskSoupRequestFunc func,
                          gpointer opaque,
                          GDestroyNotify destroy)
{
  Binding *self;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (SOUP_IS_SERVER_MESSAGE (request));
  g_return_if_fail (func != NULL);

  if (!q_task_soup_add_client (task, flags))
    return;

  self = g_atomic_rc_box_new0 (Binding);
  self->thread = g_thread_self ();
  self->task = task;
  self->request = g_object_ref (request);
  self->flags = flags;
  self->func = func;
  self->opaque = opaque;
  self->destroy = destroy;

  g_signal_connect (request, "wrote-body-data", G_CALLBACK (body_data_sent_cb), self);
  g_signal_connect_swapped (request, "finished", G_CALLBACK (request_over_cb), self);
  g_signal_connect_swapped (request, "disconnected", G_CALLBACK (request_over_cb), self);
  watch_socket (self, WATCH_CONDITION);

  soup_server_message_pause (request);
  q_task_bind_callback (task, bound_cb, self, binding_let_go);
}
