/* q-task-server.c: a worker process, from its own side
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

#include <glib/gi18n-lib.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "q-task-server-private.h"

/* How long the watcher naps, and after how many naps with no task it sleeps */
#define NAP_USEC (1 * G_TIME_SPAN_MILLISECOND)
#define QUIET_NAPS 16

/* How often it looks whether there is room in the channel */
#define ROOM_USEC (2 * G_TIME_SPAN_MILLISECOND)

/* How long a function has to return when the parent has gone */
#define GRACE_USEC (3 * G_TIME_SPAN_SECOND)

/* Before the hello of the parent tells */
#define HELLO_SIZE 1024

void
q_task_server_unref (QTaskServer *server)
{
  if (!g_atomic_int_dec_and_test (&server->ref_count))
    return;

  q_task_signal_close (&server->wake);
  g_mutex_clear (&server->lock);
  g_cond_clear (&server->cond);
  g_free (server);
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
  QTaskServer *server = (QTaskServer *) runner;
  g_autofree char *text = NULL;
  double fraction;
  gboolean is_running;

  g_mutex_lock (&server->lock);
  is_running = server->task == task;
  if (is_running)
    {
      server->wants_progress = TRUE;
      q_task_signal_set (&server->wake);
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

static void
server_runner_ref (QTaskRunner *runner)
{
  g_atomic_int_inc (&((QTaskServer *) runner)->ref_count);
}

static void
server_runner_unref (QTaskRunner *runner)
{
  q_task_server_unref ((QTaskServer *) runner);
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
  .ref = server_runner_ref,
  .unref = server_runner_unref,
};

/* Sending */

void
q_task_server_send (QTaskServer *server,
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
flush (QTaskServer *server)
{
  g_mutex_lock (&server->peer.lock);
  q_task_peer_flush_locked (&server->peer);
  g_mutex_unlock (&server->peer.lock);
}

static gboolean
is_pending (QTaskServer *server)
{
  return g_atomic_int_get (&server->peer.is_pending);
}

/* Blocks until all has been sent, or the parent has gone. */
void
q_task_server_flush (QTaskServer *server)
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
pump (QTaskServer *server)
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
  QTaskServer *server = data;

  pump (server);

  /* The rest is sent by the watcher. */
  if (is_pending (server))
    {
      g_mutex_lock (&server->lock);
      q_task_signal_set (&server->wake);
      g_mutex_unlock (&server->lock);
    }
}

void
q_task_server_send_progress (QTaskServer *server,
                             QTask *task)
{
  g_autoptr (GByteArray) head = NULL;
  g_autofree char *text = NULL;
  double fraction;

  if (!q_task_take_progress (task, &fraction, &text))
    return;

  head = g_byte_array_new ();
  q_task_protocol_put_progress (head, fraction, text);
  q_task_server_send (server, Q_TASK_FRAME_PROGRESS, head, NULL, 0);
}

/* Reading */

/* The parent is not to be understood. Takes @error. */
void
q_task_server_fail (QTaskServer *server,
                    GError *error)
{
  g_printerr ("%s: %s\n", g_get_prgname () != NULL ? g_get_prgname () : "qtask", error->message);
  g_error_free (error);

  server->is_gone = TRUE;
  server->is_failed = TRUE;
}

static gboolean
take_hello (QTaskServer *server,
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
gboolean
q_task_server_read (QTaskServer *server,
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
        q_task_server_fail (server, error);
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
        q_task_server_fail (server, error);
      }

  return FALSE;
}

/* Gives the worker the messages that there is room for, and the parent credit for them. */
static void
deliver_messages (QTaskServer *server)
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
      q_task_server_send (server, Q_TASK_FRAME_CREDIT, head, NULL, 0);
    }

  if (server->has_end && server->inbox.length == 0)
    q_task_channel_close (server->channel);
}

static void
handle_frame (QTaskServer *server,
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
      q_task_server_fail (server, g_error_new_literal (Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
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
watch (QTaskServer *server,
       QTask *task)
{
  gint64 interval = q_task_get_progress_interval (task);
  gboolean has_looked = FALSE;

  for (;;)
    {
      struct pollfd fds[3] = {
        { .fd = server->wake.fds[0], .events = POLLIN },
        { .fd = server->is_gone ? -1 : server->peer.in_fd, .events = POLLIN },
        { .fd = is_pending (server) ? server->peer.out_fd : -1, .events = POLLOUT },
      };
      gint64 now = g_get_monotonic_time ();
      gint64 until = G_MAXINT64;
      gboolean wants_progress;
      QTaskWireFrame frame;

      g_mutex_lock (&server->lock);
      q_task_signal_unset (&server->wake);
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
          q_task_server_send_progress (server, task);
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

      if (fds[1].revents != 0 || !has_looked)
        while (q_task_server_read (server, FALSE, &frame))
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
  QTaskServer *server = data;
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

/* Around a task */

void
q_task_server_open_channel (QTaskServer *server,
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
void
q_task_server_close_channel (QTaskServer *server)
{
  for (;;)
    {
      gboolean is_done;

      q_task_server_flush (server);
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

  g_queue_clear_full (&server->inbox, (GDestroyNotify) g_bytes_unref);
  server->has_end = FALSE;
}

void
q_task_server_begin (QTaskServer *server,
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

void
q_task_server_end (QTaskServer *server)
{
  g_mutex_lock (&server->lock);
  server->wants_back = TRUE;
  if (server->is_watching)
    {
      q_task_signal_set (&server->wake);
      while (server->is_watching)
        g_cond_wait (&server->cond, &server->lock);
    }
  server->wants_back = FALSE;
  server->is_hurried = FALSE;
  server->task = NULL;
  g_mutex_unlock (&server->lock);

  server->exit_at = 0;
  server->progressed_at = 0;
}

/* Making and freeing */

QTaskServer *
q_task_server_new (QTaskServeFunc func,
                   gpointer opaque)
{
  QTaskServer *server = g_new0 (QTaskServer, 1);

  server->runner.funcs = &runner_funcs;
  server->runner.is_remote = TRUE;
  server->ref_count = 1;
  server->func = func;
  server->opaque = opaque;
  server->wake = (QTaskSignal) Q_TASK_SIGNAL_INIT;
  g_queue_init (&server->inbox);
  g_mutex_init (&server->lock);
  g_cond_init (&server->cond);

  return server;
}

/* Talks through the descriptors from now on, which it takes over. */
gboolean
q_task_server_open (QTaskServer *server,
                    int in_fd,
                    int out_fd,
                    GError **error)
{
  if (!q_task_signal_open (&server->wake, error))
    return FALSE;

  q_task_peer_init (&server->peer, in_fd, out_fd, Q_TASK_FRAMES_TO_WORKER, HELLO_SIZE);

  server->watcher = g_thread_try_new ("qtask-watcher", watcher_main, server, error);
  if (server->watcher != NULL)
    return TRUE;

  q_task_peer_clear (&server->peer);

  return FALSE;
}

void
q_task_server_close (QTaskServer *server)
{
  g_mutex_lock (&server->lock);
  server->is_ending = TRUE;
  g_cond_broadcast (&server->cond);
  g_mutex_unlock (&server->lock);

  g_thread_join (server->watcher);
  q_task_peer_clear (&server->peer);
}
