/* q-task-process-read.c: what a worker process says, from the side of its parent
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading is done by whoever has something to read: the source of an owner, or the manager of the
 * launcher; read_lock keeps them apart, and is not held while code of the user runs.
 *
 * The bytes of a process are not to be trusted. What is wrong with them ends the process and the
 * task that it runs, and nothing else. What it sends takes memory up to the capacity of the
 * channel of its task, and one frame; then nobody reads any more until there is room, which
 * tests/models/full-channel.pml goes through.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-process-private.h"

/* How many frames are read before others have their turn */
#define SERVE_FRAMES 64

/* How much of what is no hello a message quotes */
#define QUOTED_SIZE 40

/* All here is called with the read lock held, but for what is at the end. */

/* The process is of no use any more. Takes @failure, if that is not NULL what it did wrong. */
static void
fail (QTaskProcess *process,
      GError *failure)
{
  process->is_over = TRUE;
  q_task_process_failed (process, failure);
}

static gboolean
set_unexpected (GError **error,
                const char *what)
{
  g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
               _("The peer sent what it may not send now: %s"), what);

  return FALSE;
}

typedef enum
{
  FRAME_TAKEN,
  FRAME_STALLED,
  FRAME_OVER,
  FRAME_BAD
} FrameResult;

/* There is room in the channel, or the message is of no use any more. In any thread, and with any lock
 * but that of the core. */
static void
room_cb (gpointer data,
         gboolean lost G_GNUC_UNUSED)
{
  QTaskProcess *process = data;

  g_atomic_int_set (&process->has_more, TRUE);
  q_task_launcher_core_wake (process->core);
}

/* With the lock to read */
void
q_task_process_drop_stalled_locked (QTaskProcess *process)
{
  QTaskLink *link = g_steal_pointer (&process->stalled_link);

  if (link == NULL)
    return;

  g_atomic_int_set (&process->is_paused, FALSE);
  link->funcs->stop_pending (link, &process->stalled);
  q_task_watch_unref (g_steal_pointer (&process->stalled.watch));
  q_task_link_unref (link);
}

/* Has @message wait until there is room for it; until then nobody reads, and the process is the
 * manager's. */
static FrameResult
stall (QTaskProcess *process,
       QTaskLink *link,
       GBytes *message)
{
  QTaskLauncherCore *core = process->core;
  QTaskWatch *watch = q_task_watch_new (q_task_dispatch_get_ownerless ());

  watch->woken = room_cb;
  watch->data = q_task_process_ref (process);
  watch->destroy = (GDestroyNotify) q_task_process_unref;

  process->stalled = (QTaskPending){ .watch = watch, .bytes = message };
  process->stalled_link = q_task_link_ref (link);

  if (link->funcs->write_pending (link, &process->stalled) != Q_TASK_LINK_PENDING)
    {
      q_task_process_drop_stalled_locked (process);
      return FRAME_TAKEN;
    }

  g_atomic_int_set (&process->is_paused, TRUE);

  g_mutex_lock (&core->lock);
  process->takeover_at = 0;
  g_mutex_unlock (&core->lock);

  q_task_launcher_core_wake (core);

  return FRAME_STALLED;
}

/* There is no room for a message of @size. If the task is to end, its result must come through; but not
 * for any price. */
static FrameResult
make_room (QTaskProcess *process,
           QTask *task,
           QTaskLink *link,
           gsize size,
           GError **error)
{
  if ((q_task_get_word (q_task_get_private (task)) & Q_TASK_WORD_STOP) == 0)
    return FRAME_STALLED;

  process->overflow += size;
  if (process->overflow > process->max_message_size)
    return set_unexpected (error, "messages, and not the end"), FRAME_BAD;

  q_task_link_set_capacity (link, 0);

  return FRAME_TAKEN;
}

/* Hands @message to the owner. If that has closed its end the message is lost, as it is in a thread. */
static FrameResult
take_message (QTaskProcess *process,
              QTask *task,
              GBytes *message,
              GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  QTaskLink *link = q_task_channel_get_link (channel);
  g_autoptr (GError) write_error = NULL;
  FrameResult result;

  if (q_task_channel_try_write (channel, message, &write_error) ||
      !g_error_matches (write_error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
    return FRAME_TAKEN;

  result = make_room (process, task, link, g_bytes_get_size (message), error);
  if (result == FRAME_STALLED)
    return stall (process, link, message);

  if (result == FRAME_TAKEN)
    q_task_channel_try_write (channel, message, NULL);

  return result;
}

/* Looks whether reading can go on. */
static FrameResult
unstall (QTaskProcess *process,
         QTask *task,
         GError **error)
{
  QTaskLink *link = process->stalled_link;
  FrameResult result = FRAME_TAKEN;

  if (link->funcs->get_pending (link, &process->stalled) == Q_TASK_LINK_PENDING)
    result = make_room (process, task, link, process->stalled.weight, error);

  if (result == FRAME_TAKEN)
    q_task_process_drop_stalled_locked (process);

  return result;
}

/* The task that the process was sent, and has not ended yet, or NULL. It stays while the lock to read is
 * held; what was received is for it, since it is set before an answer can come. */
static QTask *
get_task (QTaskProcess *process)
{
  QTask *task;

  g_mutex_lock (&process->peer.lock);
  task = process->sending;
  g_mutex_unlock (&process->peer.lock);

  return task;
}

/* The task is over. Returns it with the reference of its run. */
static QTask *
end_task (QTaskProcess *process)
{
  QTask *task;

  g_mutex_lock (&process->peer.lock);
  task = g_steal_pointer (&process->sending);
  g_mutex_unlock (&process->peer.lock);

  process->overflow = 0;

  g_mutex_lock (&process->core->lock);
  q_task_process_take_task_locked (process, task);
  process->n_tasks++;
  g_mutex_unlock (&process->core->lock);

  return task;
}

static FrameResult
handle_frame (QTaskProcess *process,
              const QTaskWireFrame *frame,
              QTaskProcessEnd *end,
              GError **error)
{
  QTask *task = get_task (process);

  if (frame->type == Q_TASK_FRAME_HELLO)
    {
      QTaskHello hello;

      if (process->has_hello)
        return set_unexpected (error, "hello"), FRAME_BAD;
      if (!q_task_protocol_get_hello (frame->data, frame->size, &hello, error))
        return FRAME_BAD;

      process->has_hello = TRUE;
      return FRAME_TAKEN;
    }

  if (!process->has_hello)
    return set_unexpected (error, "no hello"), FRAME_BAD;
  if (task == NULL)
    return set_unexpected (error, "there is no task"), FRAME_BAD;

  switch (frame->type)
    {
    case Q_TASK_FRAME_PROGRESS:
      {
        g_autofree char *text = NULL;
        double fraction;

        if (!q_task_protocol_get_progress (frame->data, frame->size, &fraction, &text, error))
          return FRAME_BAD;

        q_task_set_progress (task, fraction, text);
        return FRAME_TAKEN;
      }

    case Q_TASK_FRAME_CREDIT:
      {
        guint32 credit;
        gboolean is_right;

        if (!q_task_protocol_get_credit (frame->data, frame->size, &credit, error))
          return FRAME_BAD;

        g_mutex_lock (&process->peer.lock);
        is_right = credit <= process->window;
        if (is_right)
          process->window -= credit;
        g_mutex_unlock (&process->peer.lock);

        if (!is_right)
          return set_unexpected (error, "credit"), FRAME_BAD;

        q_task_process_pump (process);
        return FRAME_TAKEN;
      }

    case Q_TASK_FRAME_END:
      if (q_task_get_worker_channel (task) == NULL)
        return set_unexpected (error, "the task has no channel"), FRAME_BAD;

      q_task_close_worker_channel (task);
      return FRAME_TAKEN;

    case Q_TASK_FRAME_RESULT:
      if (!q_task_protocol_get_result (frame->data, frame->size, &end->result, error))
        return FRAME_BAD;

      return FRAME_OVER;

    case Q_TASK_FRAME_ERROR:
      if (!q_task_protocol_get_error (frame->data, frame->size, &end->error, error))
        return FRAME_BAD;

      return FRAME_OVER;

    default:
      return set_unexpected (error, "an unknown frame"), FRAME_BAD;
    }
}

static FrameResult
handle_message (QTaskProcess *process,
                GBytes *message,
                GError **error)
{
  QTask *task = get_task (process);

  if (!process->has_hello)
    return set_unexpected (error, "no hello"), FRAME_BAD;
  if (task == NULL)
    return set_unexpected (error, "there is no task"), FRAME_BAD;
  if (q_task_get_worker_channel (task) == NULL)
    return set_unexpected (error, "the task has no channel"), FRAME_BAD;
  if (g_bytes_get_size (message) > process->max_message_size)
    return set_unexpected (error, "a message over the limit"), FRAME_BAD;

  return take_message (process, task, message, error);
}

/* Adds to @error what came in the place of a hello: a login message, perhaps. */
static void
quote_beginning (QTaskProcess *process,
                 GError **error)
{
  const QTaskWireDecoder *decoder = &process->peer.decoder;
  g_autofree char *text = NULL;
  g_autofree char *quoted = NULL;
  g_autofree char *message = g_steal_pointer (&(*error)->message);

  text = g_strndup ((const char *) decoder->buffer + decoder->start,
                    MIN (decoder->end - decoder->start, QUOTED_SIZE));
  quoted = g_strescape (text, NULL);
  (*error)->message = g_strdup_printf (_("%s. It began with “%s”, and is no worker, or something "
                                         "else writes to its output"),
                                          message, quoted);
}

static FrameResult
serve_one (QTaskProcess *process,
           QTaskProcessEnd *end,
           GError **error)
{
  QTaskWireFrame frame;
  FrameResult result;

  if (process->stalled_link != NULL)
    return unstall (process, get_task (process), error);

  for (;;)
    switch (q_task_wire_decoder_peek (&process->peer.decoder, &frame, error))
      {
      case Q_TASK_WIRE_FRAME:
        if (frame.type == Q_TASK_FRAME_MESSAGE)
          {
            g_autoptr (GBytes) message = q_task_wire_decoder_pop (&process->peer.decoder, TRUE);

            result = handle_message (process, message, error);
          }
        else
          {
            result = handle_frame (process, &frame, end, error);
            q_task_wire_decoder_pop (&process->peer.decoder, FALSE);
          }
        return result;

      case Q_TASK_WIRE_MORE:
        switch (q_task_peer_receive (&process->peer, FALSE))
          {
          case Q_TASK_PEER_DATA:
            continue;

          case Q_TASK_PEER_AGAIN:
            return FRAME_STALLED;

          case Q_TASK_PEER_EOF:
          default:
            return FRAME_BAD;
          }

      case Q_TASK_WIRE_BAD:
      default:
        if (!process->has_hello)
          quote_beginning (process, error);
        return FRAME_BAD;
      }
}

/* Whether more was read than was asked for. */
static gboolean
has_rest (QTaskProcess *process)
{
  const QTaskWireDecoder *decoder = &process->peer.decoder;

  return decoder->in_payload || decoder->start != decoder->end;
}

/* Reads what there is. If that ends the task, returns it with the reference of its run, and with its
 * outcome, which is for q_task_launcher_core_finish(); the process has the next task then, or
 * none. To be called with no lock held. */
QTask *
q_task_process_serve (QTaskProcess *process,
                      QTaskProcessEnd *end)
{
  QTask *over = NULL;
  int i;

  end->result = NULL;
  end->error = NULL;

  g_mutex_lock (&process->read_lock);

  /* What comes to be served from here on is told again. */
  g_atomic_int_set (&process->has_more, FALSE);

  for (i = 0; i < SERVE_FRAMES && !process->is_over && over == NULL; i++)
    {
      GError *error = NULL;
      FrameResult result = serve_one (process, end, &error);

      if (result == FRAME_OVER)
        {
          over = end_task (process);

          /* Nothing that is left is for the next one. */
          if (has_rest (process))
            {
              set_unexpected (&error, "more than the result");
              fail (process, error);
            }
        }
      else if (result == FRAME_BAD)
        {
          fail (process, error);
        }
      else if (result == FRAME_STALLED)
        {
          break;
        }
    }

  if (i == SERVE_FRAMES && over == NULL)
    g_atomic_int_set (&process->has_more, TRUE);

  g_mutex_unlock (&process->read_lock);

  if (over != NULL)
    q_task_launcher_core_next (process);

  return over;
}

/* Whether an idle process, which the caller has made busy, can be given a task: not if it has
 * ended, or said something that nobody asked for. */
gboolean
q_task_process_is_usable (QTaskProcess *process)
{
  QTaskProcessEnd end = { 0 };
  GError *error = NULL;
  FrameResult result = FRAME_BAD;

  g_mutex_lock (&process->read_lock);

  /* There is no task, so anything but a late hello is bad. */
  if (!process->is_over)
    {
      do
        result = serve_one (process, &end, &error);
      while (result == FRAME_TAKEN);

      if (result != FRAME_STALLED)
        fail (process, error);
    }

  g_mutex_unlock (&process->read_lock);

  return result == FRAME_STALLED;
}
