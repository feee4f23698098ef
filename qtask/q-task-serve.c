/* q-task-serve.c: a worker process, from its own side
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The thread that called q_task_serve() reads requests and calls the function for each, with no
 * other thread in between. While the function runs, somebody else must hear of a cancel, of
 * messages, and of the end of the parent: the watcher, a thread that takes over the reading when
 * a function runs for longer than a moment, or at once if the task has a channel. When the
 * function has returned, the reading is taken back.
 *
 * To wake the watcher for each task would cost as much as a small task. While tasks keep coming
 * it naps, and looks whether it finds the same one twice; when none has come for some naps it
 * sleeps until it is woken.
 *
 * Who reads has `peer.decoder`, `inbox`, `has_end`, `is_gone` and the like to itself: the watcher from
 * when it sets `is_watching`, under the lock, until it clears it; else the serving thread. What is
 * sent is serialized by the lock of the peer. The task is kept by the serving thread, which
 * lets it go only when nobody watches, so that the last reference is dropped there.
 */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n-lib.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "q-task-launcher.h"

#include "q-task-private.h"
#include "q-task-protocol-private.h"

/* How long the watcher naps, and after how many naps with no task it sleeps */
#define NAP_USEC (1 * G_TIME_SPAN_MILLISECOND)
#define QUIET_NAPS 16

/* How often it looks whether there is room in the channel */
#define ROOM_USEC (2 * G_TIME_SPAN_MILLISECOND)

/* How long a function has to return when the parent has gone */
#define GRACE_USEC (3 * G_TIME_SPAN_SECOND)

/* Before the hello of the parent tells */
#define HELLO_SIZE 1024

typedef struct
{
  QTaskRunner runner;
  int ref_count; /* atomic: a task that somebody keeps has one */
  QTaskServeFunc func;
  gpointer opaque;
  int wake_fd; /* that the watcher polls */

  /* By who reads */
  gboolean has_hello;
  gboolean is_gone;       /* the parent has, or it is not to be understood */
  gboolean is_failed;     /* ... the latter */
  gsize max_message_size; /* of the parent */
  GQueue inbox;           /* of messages that the channel has no room for */
  gboolean has_end;       /* the owner has closed its end */
  gint64 exit_at;         /* or 0 */
  gint64 progressed_at;

  /* With the lock of the peer */
  QTaskPeer peer;
  QTaskChannel *channel; /* the owner's end; of the task, or NULL */
  gboolean sent_end;
  int n_pumps; /* atomic, any thread */

  GMutex lock;
  GCond cond; /* any of these has changed */
  QTask *task;
  guint64 n_tasks; /* begun */
  gboolean is_hurried;
  gboolean is_watching;
  gboolean is_asleep;
  gboolean wants_back;
  gboolean wants_progress;
  gboolean is_ending;
} Server;

static void
server_unref (Server *server)
{
  if (!g_atomic_int_dec_and_test (&server->ref_count))
    return;

  g_mutex_clear (&server->lock);
  g_cond_clear (&server->cond);
  g_free (server);
}

static void
wake_watcher (Server *server)
{
  guint64 one = 1;

  while (write (server->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
    ;
}

/* The runner */

static gboolean
server_withdraw (QTaskRunner *runner G_GNUC_UNUSED,
                 QTask *task G_GNUC_UNUSED)
{
  return FALSE;
}

static void
server_queue (QTaskRunner *runner G_GNUC_UNUSED,
              QTask *task G_GNUC_UNUSED)
{
}

/* It is sent by the watcher, or at the end of the task. */
static gboolean
server_progress (QTaskRunner *runner,
                 QTask *task)
{
  Server *server = (Server *) runner;
  g_autofree char *text = NULL;
  double fraction;
  gboolean is_running;

  g_mutex_lock (&server->lock);
  is_running = server->task == task;
  if (is_running)
    {
      server->wants_progress = TRUE;
      if (server->is_watching)
        wake_watcher (server);
    }
  g_mutex_unlock (&server->lock);

  if (!is_running)
    q_task_take_progress (task, &fraction, &text);

  return TRUE;
}

static void
server_park (QTaskRunner *runner G_GNUC_UNUSED)
{
}

static gboolean
server_compensate (QTaskRunner *runner G_GNUC_UNUSED)
{
  return TRUE;
}

static QTask *
server_ref_blocker (QTaskRunner *runner G_GNUC_UNUSED)
{
  return NULL;
}

static void
server_runner_ref (QTaskRunner *runner)
{
  g_atomic_int_inc (&((Server *) runner)->ref_count);
}

static void
server_runner_unref (QTaskRunner *runner)
{
  server_unref ((Server *) runner);
}

static const QTaskRunnerFuncs runner_funcs = {
  .withdraw = server_withdraw,
  .move_to_front = server_queue,
  .help = server_withdraw,
  .requeue = server_queue,
  .is_pressed = server_withdraw,
  .progress = server_progress,
  .park = server_park,
  .unpark = server_park,
  .compensate = server_compensate,
  .ref_blocker = server_ref_blocker,
  .ref = server_runner_ref,
  .unref = server_runner_unref,
};

/* Sending */

static void
send_frame (Server *server,
            guint8 type,
            GByteArray *head,
            gconstpointer data,
            gsize size)
{
  g_mutex_lock (&server->peer.lock);
  q_task_peer_send_locked (&server->peer, type, head != NULL ? head->data : NULL,
                           head != NULL ? head->len : 0, data, size);
  g_mutex_unlock (&server->peer.lock);
}

static void
flush (Server *server)
{
  g_mutex_lock (&server->peer.lock);
  q_task_peer_flush_locked (&server->peer);
  g_mutex_unlock (&server->peer.lock);
}

static gboolean
is_pending (Server *server)
{
  return g_atomic_int_get (&server->peer.is_pending);
}

/* Blocks until all has been sent, or the parent has gone. */
static void
flush_all (Server *server)
{
  while (is_pending (server))
    {
      struct pollfd fd = { .fd = server->peer.out_fd, .events = POLLOUT };

      poll (&fd, 1, -1);
      flush (server);
    }
}

/* Sends what the worker has written, as far as it goes. May be called from any thread, and while
 * it is being called. */
static void
pump (Server *server)
{
  QTaskPeer *peer = &server->peer;
  int n_pumps;

  /* Reading from a channel may tell of more to read. */
  if (g_atomic_int_add (&server->n_pumps, 1) > 0)
    return;

  do
    {
      n_pumps = g_atomic_int_get (&server->n_pumps);

      g_mutex_lock (&peer->lock);

      while (server->channel != NULL && !server->sent_end && !is_pending (server))
        {
          g_autoptr (GError) error = NULL;
          g_autoptr (GBytes) message = q_task_channel_try_read (server->channel, &error);
          gconstpointer data;
          gsize size;

          if (message == NULL)
            {
              /* The worker has closed its end. If this end is closed, it is not to be heard. */
              if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                {
                  q_task_peer_send_locked (peer, Q_TASK_FRAME_END, NULL, 0, NULL, 0);
                  server->sent_end = TRUE;
                }
              break;
            }

          data = g_bytes_get_data (message, &size);
          q_task_peer_send_locked (peer, Q_TASK_FRAME_MESSAGE, NULL, 0, data, size);
        }

      g_mutex_unlock (&peer->lock);
    }
  while (!g_atomic_int_compare_and_exchange (&server->n_pumps, n_pumps, 0));
}

static void
channel_readable_cb (gpointer data)
{
  Server *server = data;

  pump (server);

  /* The rest is sent by the watcher. */
  if (is_pending (server))
    wake_watcher (server);
}

static void
send_progress (Server *server,
               QTask *task)
{
  g_autoptr (GByteArray) head = NULL;
  g_autofree char *text = NULL;
  double fraction;

  if (!q_task_take_progress (task, &fraction, &text))
    return;

  head = g_byte_array_new ();
  q_task_protocol_put_progress (head, fraction, text);
  send_frame (server, Q_TASK_FRAME_PROGRESS, head, NULL, 0);
}

static void
send_error (Server *server,
            const GError *error)
{
  g_autoptr (GByteArray) head = g_byte_array_new ();

  q_task_protocol_put_error (head, error);
  send_frame (server, Q_TASK_FRAME_ERROR, head, NULL, 0);
}

/* Results */

/* What a result is as a variant, or NULL with @error set, or without for none. */
static GVariant *
ref_result (QTask *task,
            GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  guint word = q_task_get_word (priv);

  if ((word & Q_TASK_WORD_RESULT) == 0)
    return NULL;

  if (word & Q_TASK_WORD_VALUE)
    {
      const GValue *value = priv->result;
      GVariant *variant = NULL;

      switch (G_TYPE_FUNDAMENTAL (G_VALUE_TYPE (value)))
        {
        case G_TYPE_BOOLEAN:
          variant = g_variant_new_boolean (g_value_get_boolean (value));
          break;
        case G_TYPE_INT:
          variant = g_variant_new_int32 (g_value_get_int (value));
          break;
        case G_TYPE_UINT:
          variant = g_variant_new_uint32 (g_value_get_uint (value));
          break;
        case G_TYPE_LONG:
          variant = g_variant_new_int64 (g_value_get_long (value));
          break;
        case G_TYPE_ULONG:
          variant = g_variant_new_uint64 (g_value_get_ulong (value));
          break;
        case G_TYPE_INT64:
          variant = g_variant_new_int64 (g_value_get_int64 (value));
          break;
        case G_TYPE_UINT64:
          variant = g_variant_new_uint64 (g_value_get_uint64 (value));
          break;
        case G_TYPE_FLOAT:
          variant = g_variant_new_double (g_value_get_float (value));
          break;
        case G_TYPE_DOUBLE:
          variant = g_variant_new_double (g_value_get_double (value));
          break;
        case G_TYPE_STRING:
          if (g_value_get_string (value) != NULL &&
              g_utf8_validate (g_value_get_string (value), -1, NULL))
            variant = g_variant_new_string (g_value_get_string (value));
          break;
        case G_TYPE_VARIANT:
          variant = g_value_dup_variant (value);
          break;
        default:
          if (G_VALUE_HOLDS (value, G_TYPE_STRV) && g_value_get_boxed (value) != NULL)
            variant = g_variant_new_strv (g_value_get_boxed (value), -1);
        }

      if (variant != NULL)
        return g_variant_take_ref (variant);
    }
  else if (priv->result == NULL)
    {
      return NULL;
    }
  else if (priv->result_destroy == (GDestroyNotify) g_variant_unref)
    {
      return g_variant_ref (priv->result);
    }
  else if (priv->result_destroy == (GDestroyNotify) g_bytes_unref)
    {
      return g_variant_ref_sink (g_variant_new_from_bytes (G_VARIANT_TYPE_BYTESTRING, priv->result,
                                                           TRUE));
    }

  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                       _("The result of the worker is of a type that cannot be sent to another "
                         "process; set it with q_task_set_result_variant()"));

  return NULL;
}

/* The outcome of @task, which is over. */
static void
send_outcome (Server *server,
              QTask *task)
{
  const GError *task_error = q_task_get_error (task);
  g_autoptr (GVariant) result = NULL;
  g_autoptr (GByteArray) head = NULL;
  g_autoptr (GError) error = NULL;
  gsize size;

  if (task_error == NULL)
    result = ref_result (task, &error);

  if (task_error == NULL && error == NULL)
    q_task_protocol_check_variant (result, server->max_message_size, &error);

  if (task_error != NULL || error != NULL)
    {
      send_error (server, task_error != NULL ? task_error : error);
      return;
    }

  head = g_byte_array_sized_new (32);
  q_task_protocol_put_result (head, result);
  size = result != NULL ? g_variant_get_size (result) : 0;
  send_frame (server, Q_TASK_FRAME_RESULT, head, size > 0 ? g_variant_get_data (result) : NULL, size);
}

/* Reading */

/* The parent is not to be understood. Takes @error. */
static void
fail (Server *server,
      GError *error)
{
  g_printerr ("%s: %s\n", g_get_prgname () != NULL ? g_get_prgname () : "qtask", error->message);
  g_error_free (error);

  server->is_gone = TRUE;
  server->is_failed = TRUE;
}

static gboolean
take_hello (Server *server,
            const QTaskWireFrame *frame,
            GError **error)
{
  QTaskHello hello;

  if (!q_task_protocol_get_hello (frame->data, frame->size, &hello, error))
    return FALSE;

  server->has_hello = TRUE;
  server->max_message_size = MIN (hello.max_message_size, G_MAXUINT32 - Q_TASK_PROTOCOL_OVERHEAD);
  q_task_wire_decoder_set_max_size (&server->peer.decoder,
                                    server->max_message_size + Q_TASK_PROTOCOL_OVERHEAD);

  return TRUE;
}

/* Reads a frame, if there is one; waits for it if @wait is TRUE. Returns FALSE if there is none,
 * or the parent has gone. Whoever gets one pops it. */
static gboolean
read_frame (Server *server,
            gboolean wait,
            QTaskWireFrame *frame)
{
  GError *error = NULL;

  while (!server->is_gone)
    switch (q_task_wire_decoder_peek (&server->peer.decoder, frame, &error))
      {
      case Q_TASK_WIRE_FRAME:
        if (server->has_hello != (frame->type == Q_TASK_FRAME_HELLO))
          {
            if (server->has_hello)
              return TRUE;

            if (take_hello (server, frame, &error))
              {
                q_task_wire_decoder_pop (&server->peer.decoder, FALSE);
                continue;
              }
          }
        else
          {
            g_set_error_literal (&error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
                                 _("The hello of the parent did not come first, or came twice"));
          }
        fail (server, error);
        break;

      case Q_TASK_WIRE_MORE:
        switch (q_task_peer_receive (&server->peer, wait))
          {
          case Q_TASK_PEER_DATA:
            break;

          case Q_TASK_PEER_AGAIN:
            if (wait)
              {
                struct pollfd fd = { .fd = server->peer.in_fd, .events = POLLIN };

                poll (&fd, 1, -1);
                break;
              }
            return FALSE;

          case Q_TASK_PEER_EOF:
          default:
            server->is_gone = TRUE;
          }
        break;

      case Q_TASK_WIRE_BAD:
      default:
        fail (server, error);
      }

  return FALSE;
}

/* Gives the worker the messages that there is room for, and the parent credit for them. */
static void
deliver_messages (Server *server)
{
  guint64 credit = 0;
  GBytes *message;

  while ((message = g_queue_peek_head (&server->inbox)) != NULL)
    {
      g_autoptr (GError) error = NULL;

      if (!q_task_channel_try_write (server->channel, message, &error) &&
          g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        break;

      credit += g_bytes_get_size (message) + 1;
      g_bytes_unref (g_queue_pop_head (&server->inbox));
    }

  if (credit > 0)
    {
      g_autoptr (GByteArray) head = g_byte_array_new ();

      q_task_protocol_put_credit (head, credit);
      send_frame (server, Q_TASK_FRAME_CREDIT, head, NULL, 0);
    }

  if (server->has_end && server->inbox.length == 0)
    q_task_channel_close (server->channel);
}

static void
handle_frame (Server *server,
              QTask *task,
              const QTaskWireFrame *frame)
{
  switch (frame->type)
    {
    case Q_TASK_FRAME_CANCEL:
      q_task_wire_decoder_pop (&server->peer.decoder, FALSE);
      q_task_cancel (task);
      break;

    case Q_TASK_FRAME_MESSAGE:
      {
        GBytes *message = q_task_wire_decoder_pop (&server->peer.decoder, TRUE);

        if (server->channel != NULL && !server->has_end)
          g_queue_push_tail (&server->inbox, message);
        else
          g_bytes_unref (message);
      }
      break;

    case Q_TASK_FRAME_END:
      q_task_wire_decoder_pop (&server->peer.decoder, FALSE);
      server->has_end = server->channel != NULL;
      break;

    default:
      fail (server, g_error_new_literal (Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
                                         _("The parent sent a request during a task")));
    }
}

/* The watcher */

static int
get_poll_timeout (gint64 now,
                  gint64 until)
{
  return until == G_MAXINT64 ? -1 : (int) CLAMP ((until - now + 999) / 1000, 0, G_MAXINT / 2);
}

/* Reads for @task until that is over. */
static void
watch (Server *server,
       QTask *task)
{
  gint64 interval = q_task_get_progress_interval (task);
  gboolean has_looked = FALSE;

  for (;;)
    {
      struct pollfd fds[3] = {
        { .fd = server->wake_fd, .events = POLLIN },
        { .fd = server->is_gone ? -1 : server->peer.in_fd, .events = POLLIN },
        { .fd = is_pending (server) ? server->peer.out_fd : -1, .events = POLLOUT },
      };
      gint64 now = g_get_monotonic_time ();
      gint64 until = G_MAXINT64;
      gboolean wants_progress;
      QTaskWireFrame frame;

      g_mutex_lock (&server->lock);
      if (server->wants_back)
        {
          g_mutex_unlock (&server->lock);
          return;
        }
      wants_progress = server->wants_progress;
      if (wants_progress && now >= server->progressed_at + interval)
        server->wants_progress = FALSE;
      g_mutex_unlock (&server->lock);

      if (wants_progress && now >= server->progressed_at + interval)
        {
          server->progressed_at = now;
          send_progress (server, task);
          continue;
        }

      if (wants_progress)
        until = MIN (until, server->progressed_at + interval);
      if (server->inbox.length > 0)
        until = MIN (until, now + ROOM_USEC);
      if (server->exit_at > 0)
        until = MIN (until, server->exit_at);

      /* Some of it may have come along with the request. */
      if (!has_looked)
        until = now;

      poll (fds, G_N_ELEMENTS (fds), get_poll_timeout (now, until));

      if (fds[0].revents != 0)
        {
          guint64 count;

          while (read (server->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
            ;
        }

      if (fds[1].revents != 0 || !has_looked)
        while (read_frame (server, FALSE, &frame))
          handle_frame (server, task, &frame);
      has_looked = TRUE;

      if (server->channel != NULL && (server->inbox.length > 0 || server->has_end))
        deliver_messages (server);

      if (fds[2].revents != 0)
        flush (server);
      if (server->channel != NULL)
        pump (server);

      /* The function is asked to return, and does not keep the process for ever. */
      if (server->is_gone && server->exit_at == 0)
        {
          server->exit_at = now + GRACE_USEC;
          q_task_cancel (task);
        }
      else if (server->exit_at > 0 && g_get_monotonic_time () >= server->exit_at)
        {
          _exit (EXIT_FAILURE);
        }
    }
}

static gpointer
watcher_main (gpointer data)
{
  Server *server = data;
  guint quiet = 0;

  g_mutex_lock (&server->lock);

  while (!server->is_ending)
    {
      guint64 n_tasks = server->n_tasks;
      gboolean was_running = server->task != NULL;

      if (!server->is_hurried)
        {
          if (!was_running && quiet >= QUIET_NAPS)
            {
              server->is_asleep = TRUE;
              while (server->task == NULL && !server->is_ending)
                g_cond_wait (&server->cond, &server->lock);
              server->is_asleep = FALSE;
              quiet = 0;
              continue;
            }

          g_cond_wait_until (&server->cond, &server->lock, g_get_monotonic_time () + NAP_USEC);
        }

      if (server->n_tasks != n_tasks || was_running)
        quiet = 0;
      else
        quiet++;

      if (server->task != NULL && !server->wants_back &&
          (server->is_hurried || (was_running && server->n_tasks == n_tasks)))
        {
          QTask *task = server->task;

          server->is_watching = TRUE;
          g_mutex_unlock (&server->lock);

          watch (server, task);

          g_mutex_lock (&server->lock);
          server->is_watching = FALSE;
          server->is_hurried = FALSE;
          g_cond_broadcast (&server->cond);
        }
    }

  g_mutex_unlock (&server->lock);

  return NULL;
}

/* The serving thread */

static gboolean
call_func (QTask *task,
           gpointer request,
           GError **error)
{
  Server *server = (Server *) q_task_get_private (task)->runner;

  return server->func (task, request, server->opaque, error);
}

static void
open_channel (Server *server,
              QTask *task)
{
  QTaskChannel *channel;

  q_task_open_channel (task, NULL);
  channel = q_task_get_channel (task);

  q_task_channel_set_max_message_size (channel, server->max_message_size);
  q_task_channel_set_max_message_size (q_task_get_worker_channel (task), server->max_message_size);

  g_mutex_lock (&server->peer.lock);
  server->channel = channel;
  server->sent_end = FALSE;
  g_mutex_unlock (&server->peer.lock);

  q_task_channel_set_notify (channel, channel_readable_cb, server);
}

/* All that the worker has sent, and the end, is sent. */
static void
close_channel (Server *server)
{
  for (;;)
    {
      gboolean is_done;

      flush_all (server);
      pump (server);

      g_mutex_lock (&server->peer.lock);
      is_done = server->sent_end || server->peer.is_broken;
      g_mutex_unlock (&server->peer.lock);

      if (is_done)
        break;
    }

  q_task_channel_set_notify (server->channel, NULL, NULL);

  g_mutex_lock (&server->peer.lock);
  server->channel = NULL;
  g_mutex_unlock (&server->peer.lock);
}

static void
begin_watch (Server *server,
             QTask *task)
{
  g_mutex_lock (&server->lock);
  server->task = task;
  server->n_tasks++;
  server->wants_progress = FALSE;
  server->is_hurried = server->channel != NULL;
  if (server->is_asleep || server->is_hurried)
    g_cond_broadcast (&server->cond);
  g_mutex_unlock (&server->lock);
}

static void
end_watch (Server *server)
{
  g_mutex_lock (&server->lock);
  server->wants_back = TRUE;
  if (server->is_watching)
    {
      wake_watcher (server);
      while (server->is_watching)
        g_cond_wait (&server->cond, &server->lock);
    }
  server->wants_back = FALSE;
  server->is_hurried = FALSE;
  server->task = NULL;
  g_mutex_unlock (&server->lock);
}

/* Runs the task that @frame asks for, and pops that. */
static void
run_task (Server *server,
          const QTaskWireFrame *frame)
{
  g_autoptr (QTask) task = NULL;
  g_autofree char *name = NULL;
  GVariant *request = NULL;
  GError *error = NULL;
  QTaskState state;
  gboolean failed;
  guint flags;

  if (!q_task_protocol_get_request (frame->data, frame->size, &flags, &name, &request, &error))
    {
      fail (server, error);
      return;
    }

  q_task_wire_decoder_pop (&server->peer.decoder, FALSE);

  /* Whether a cancel turns a result into an error is for the other side to say. */
  task = q_task_new_ownerless ();
  q_task_set_check_cancellable (task, FALSE);
  if (name != NULL)
    q_task_set_name (task, name);
  if (flags & Q_TASK_REQUEST_HAS_CHANNEL)
    open_channel (server, task);

  q_task_start (task, &server->runner, (GCallback) call_func, request,
                (GDestroyNotify) g_variant_unref, 0, NULL);
  server_runner_ref (&server->runner);

  begin_watch (server, task);
  state = q_task_run_worker (task, &server->runner, &failed, &error);
  end_watch (server);

  q_task_end_run (g_object_ref (task), error, state);

  if (server->channel != NULL)
    close_channel (server);
  send_progress (server, task);
  send_outcome (server, task);
  flush_all (server);

  g_queue_clear_full (&server->inbox, (GDestroyNotify) g_bytes_unref);
  server->has_end = FALSE;
  server->progressed_at = 0;
  server->exit_at = 0;
}

static void
serve (Server *server)
{
  g_autoptr (GByteArray) hello = g_byte_array_new ();
  QTaskWireFrame frame;

  q_task_protocol_put_hello (hello, G_MAXUINT32 - Q_TASK_PROTOCOL_OVERHEAD);
  send_frame (server, Q_TASK_FRAME_HELLO, hello, NULL, 0);

  while (read_frame (server, TRUE, &frame))
    {
      /* All else came too late for a task. */
      if (frame.type == Q_TASK_FRAME_REQUEST)
        run_task (server, &frame);
      else
        q_task_wire_decoder_pop (&server->peer.decoder, FALSE);
    }
}

/* The descriptors */

static gboolean
take_inherited_fd (const char *text,
                   int *fd)
{
  guint64 number;

  if (!g_ascii_string_to_unsigned (text, 10, 0, G_MAXINT, &number, NULL))
    return FALSE;

  *fd = (int) number;
  g_unsetenv (Q_TASK_PROTOCOL_VARIABLE);

  return fcntl (*fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* Takes over the standard input and output: what is printed goes to the standard error from
 * now on, and what is read is empty. */
static gboolean
take_stdio (int *in_fd,
            int *out_fd)
{
  int null_fd;
  int flags;

  *in_fd = fcntl (STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  *out_fd = fcntl (STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  null_fd = open ("/dev/null", O_RDWR | O_CLOEXEC);

  if (*in_fd < 0 || *out_fd < 0 || null_fd < 0)
    return FALSE;

  dup2 (null_fd, STDIN_FILENO);
  if (fcntl (STDERR_FILENO, F_GETFD) < 0)
    dup2 (null_fd, STDERR_FILENO);
  dup2 (STDERR_FILENO, STDOUT_FILENO);
  if (null_fd > STDERR_FILENO)
    close (null_fd);

  flags = fcntl (*in_fd, F_GETFL);
  fcntl (*in_fd, F_SETFL, flags | O_NONBLOCK);
  flags = fcntl (*out_fd, F_GETFL);
  fcntl (*out_fd, F_SETFL, flags | O_NONBLOCK);

  return TRUE;
}

static gboolean
take_fds (int *in_fd,
          int *out_fd)
{
  const char *text = g_getenv (Q_TASK_PROTOCOL_VARIABLE);
  const char *name = g_get_prgname () != NULL ? g_get_prgname () : "qtask";

  if (q_task_is_forked (NULL))
    {
      g_printerr (_("%s: a forked child cannot serve\n"), name);
      return FALSE;
    }

  if (text == NULL)
    {
      if (isatty (STDIN_FILENO))
        {
          g_printerr (_("%s: this is a worker, which another program starts\n"), name);
          return FALSE;
        }

      if (take_stdio (in_fd, out_fd))
        return TRUE;
    }
  else if (take_inherited_fd (text, in_fd))
    {
      *out_fd = *in_fd;
      return TRUE;
    }

  g_printerr (_("%s: the connection to the parent cannot be used: %s\n"), name, g_strerror (errno));

  return FALSE;
}

static gboolean
run_server (Server *server,
            int in_fd,
            int out_fd)
{
  g_autoptr (GError) error = NULL;
  GThread *watcher;

  server->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (server->wake_fd < 0)
    {
      g_printerr ("qtask: %s\n", g_strerror (errno));
      return FALSE;
    }

  watcher = g_thread_try_new ("qtask-watcher", watcher_main, server, &error);
  if (watcher == NULL)
    {
      g_printerr ("qtask: %s\n", error->message);
      close (server->wake_fd);
      return FALSE;
    }

  q_task_peer_init (&server->peer, in_fd, out_fd, Q_TASK_FRAMES_TO_WORKER, HELLO_SIZE);

  serve (server);

  g_mutex_lock (&server->lock);
  server->is_ending = TRUE;
  g_cond_broadcast (&server->cond);
  g_mutex_unlock (&server->lock);
  g_thread_join (watcher);

  q_task_peer_clear (&server->peer);
  close (server->wake_fd);

  return !server->is_failed;
}

/**
 * q_task_serve:
 * @func: (scope notified) (closure opaque) (destroy destroy): does the work of a task
 * @opaque: (nullable): data for @func
 * @destroy: (nullable): frees @opaque, before this returns
 *
 * Serves the launcher that has started this process: calls @func for each of its requests, one
 * after the other, in the calling thread, until the launcher has no more or has gone. This is the
 * main loop of a worker program, which calls it once:
 *
 * ```c
 * static gboolean
 * worker (QTask *task, GVariant *request, gpointer opaque, GError **error)
 * {
 *   q_task_set_result_variant (task, g_variant_new_int64 (g_variant_n_children (request)));
 *   return TRUE;
 * }
 *
 * int
 * main (void)
 * {
 *   return q_task_serve (worker, NULL, NULL);
 * }
 * ```
 *
 * The task that @func is given stands for the one of the launcher. It sets a result, with
 * [method@QTask.Task.set_result_variant] or any that makes a variant (of a boolean, a number, bytes
 * or a value of a simple type), or an error; [method@QTask.Task.set_progress] and the messages
 * of [method@QTask.Task.get_worker_channel], if the task has a channel, go there at once; and
 * [method@QTask.Task.is_cancelled] and [method@QTask.Task.get_stop_cancellable] tell when it is
 * to stop. Handlers of that cancellable are called in another thread.
 *
 * When the launcher goes away while @func runs, the task is asked to stop, and if @func has not
 * returned some seconds later, the process exits.
 *
 * With [enum@QTask.TaskTransport] `STDIO`, standard input and output are the connection, so what
 * the program prints from now on goes to the standard error.
 *
 * May be called from any thread, once.
 *
 * Returns: an exit status: 0 if the launcher has ended the conversation, 1 if there was none, or
 *   it is not to be understood
 *
 * Since: 1.0
 */
int
q_task_serve (QTaskServeFunc func,
              gpointer opaque,
              GDestroyNotify destroy)
{
  int status = EXIT_FAILURE;
  Server *server;
  int in_fd;
  int out_fd;

  g_return_val_if_fail (func != NULL, EXIT_FAILURE);

  g_type_class_unref (g_type_class_ref (Q_TYPE_TASK));

  server = g_new0 (Server, 1);
  server->runner.funcs = &runner_funcs;
  server->runner.is_remote = TRUE;
  server->ref_count = 1;
  server->func = func;
  server->opaque = opaque;
  g_queue_init (&server->inbox);
  g_mutex_init (&server->lock);
  g_cond_init (&server->cond);

  if (take_fds (&in_fd, &out_fd) && run_server (server, in_fd, out_fd))
    status = EXIT_SUCCESS;

  if (destroy != NULL)
    destroy (opaque);

  server_unref (server);

  return status;
}
