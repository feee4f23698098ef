/* q-task-channel-stream-write.c: what channels over file descriptors send
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Writing makes one call for a frame if nothing waits. Else frames are in a list, in order: those
 * of blocked writers, on their stacks, until the kernel has them; those that were accepted;
 * and those of asynchronous writes that have to wait until they are, which are not sent before.
 * Any call on the link sends what it can; so does a source in the context where the link
 * was made, which is there while there is something to send. After a close that source has
 * 10 seconds. A frame that has begun is never cut off by this end.
 *
 * Of the threads that block one polls, the others sleep. All that is here is protected by the
 * out lock of the link (see q-task-channel-stream.c), but flush_source, which is the owner's.
 */

#include "config.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "q-task-channel-stream-private.h"

#define MAX_FRAMES_A_CALL 16

/* System calls */

/* As writev(), with no SIGPIPE: where the system has no flag for it, it is blocked meanwhile, and
 * taken away if it was raised. */
gssize
q_task_stream_write_to_pipe (int fd,
                             const struct iovec *vectors,
                             int n_vectors)
{
  sigset_t pipe_set;
  sigset_t old_set;
  sigset_t pending_set;
  gboolean was_pending;
  gssize n;
  int saved_errno;

  sigemptyset (&pipe_set);
  sigaddset (&pipe_set, SIGPIPE);
  pthread_sigmask (SIG_BLOCK, &pipe_set, &old_set);
  sigpending (&pending_set);
  was_pending = sigismember (&pending_set, SIGPIPE) == 1;

  do
    n = writev (fd, vectors, n_vectors);
  while (n < 0 && errno == EINTR);

  saved_errno = errno;
  if (n < 0 && errno == EPIPE && !was_pending)
    {
      struct timespec now = { 0, 0 };

      while (sigtimedwait (&pipe_set, NULL, &now) < 0 && errno == EINTR)
        ;
    }

  pthread_sigmask (SIG_SETMASK, &old_set, NULL);
  errno = saved_errno;

  return n;
}

static gssize
write_vectors (QTaskStreamLink *self,
               struct iovec *vectors,
               int n_vectors)
{
  struct msghdr message = { .msg_iov = vectors, .msg_iovlen = n_vectors };
  gssize n;

  if (!self->out_is_socket)
    return q_task_stream_write_to_pipe (self->out_fd, vectors, n_vectors);

  do
    n = sendmsg (self->out_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);

  return n;
}

/* Writing; all with the out lock */

static void
frame_free (QTaskOutFrame *frame)
{
  g_bytes_unref (frame->bytes);
  g_free (frame);
}

/* The first frame that is not accepted is at @next or after it. */
static void
advance_pending_locked (QTaskStreamLink *self,
                        GList *next)
{
  for (; next != NULL; next = next->next)
    {
      QTaskOutFrame *frame = next->data;

      if (frame->pending != NULL)
        break;

      if (frame->is_behind)
        self->behind -= q_task_link_weigh (frame->size);
      frame->is_behind = FALSE;
    }

  self->first_pending = next;
}

/* Takes @frame out of the list, and tells whose it is. */
void
q_task_stream_end_frame_locked (QTaskStreamLink *self,
                                QTaskOutFrame *frame,
                                QTaskLinkResult result,
                                QTaskWatch **woken)
{
  if (self->first_pending == &frame->link)
    advance_pending_locked (self, frame->link.next);

  g_queue_unlink (&self->frames, &frame->link);
  g_atomic_int_set (&self->has_frames, self->frames.head != NULL);

  if (frame->pending != NULL)
    {
      self->n_pending--;
      frame->pending->result = result;
      frame->pending->message = NULL;
      q_task_watch_collect (frame->pending->watch, woken);
    }
  else
    {
      self->under_way -= q_task_link_weigh (frame->size);
      if (frame->is_behind)
        self->behind -= q_task_link_weigh (frame->size);
    }

  frame->result = result;
  if (frame->sleeper != NULL)
    q_task_stream_wake_sleeper (frame->sleeper, &self->out_signal);
  else
    frame_free (frame);
}

static void
append_frame_locked (QTaskStreamLink *self,
                     QTaskOutFrame *frame)
{
  frame->link.data = frame;
  g_queue_push_tail_link (&self->frames, &frame->link);
  g_atomic_int_set (&self->has_frames, TRUE);

  if (frame->pending != NULL)
    {
      self->n_pending++;
      if (self->first_pending == NULL)
        self->first_pending = &frame->link;
    }
  else
    {
      self->under_way += q_task_link_weigh (frame->size);
      frame->is_behind = self->first_pending != NULL;
      if (frame->is_behind)
        self->behind += q_task_link_weigh (frame->size);
    }
}

/* What is needed of it when the stack it is on goes. */
static QTaskOutFrame *
frame_copy_rest (QTaskOutFrame *frame)
{
  QTaskOutFrame *copy = g_new (QTaskOutFrame, 1);

  *copy = *frame;
  copy->sleeper = NULL;
  copy->link.data = copy;
  copy->bytes = frame->bytes != NULL ? g_bytes_ref (frame->bytes) : g_bytes_new (frame->data, frame->size);
  copy->data = g_bytes_get_data (copy->bytes, NULL);

  return copy;
}

/* A frame that has begun has to end: leaves a copy in its place. */
void
q_task_stream_orphan_frame_locked (QTaskStreamLink *self,
                                   QTaskOutFrame *frame)
{
  QTaskOutFrame *copy = frame_copy_rest (frame);

  g_queue_unlink (&self->frames, &frame->link);
  copy->link.prev = copy->link.next = NULL;
  g_queue_push_head_link (&self->frames, &copy->link);
}

/* Accepts what fits now. What is behind a frame does not keep it from being accepted; so the
 * first in the list always is. */
void
q_task_stream_admit_locked (QTaskStreamLink *self,
                            QTaskWatch **woken)
{
  gsize capacity = q_task_link_get_capacity (&self->link);

  while (self->first_pending != NULL)
    {
      QTaskOutFrame *frame = self->first_pending->data;
      gsize weight = q_task_link_weigh (frame->size);

      if (!q_task_link_fits (self->under_way - self->behind, weight, capacity))
        break;

      self->under_way += weight;
      self->n_pending--;
      frame->pending->result = Q_TASK_LINK_DONE;
      frame->pending->message = NULL;
      q_task_watch_collect (frame->pending->watch, woken);
      frame->pending = NULL;
      advance_pending_locked (self, self->first_pending);
    }

  if (self->is_broken || (self->n_pending == 0 && q_task_link_fits (self->under_way, 1, capacity)))
    q_task_watch_collect_all (&self->room_watches, woken);
}

void
q_task_stream_break_locked (QTaskStreamLink *self,
                            QTaskWatch **woken)
{
  self->is_broken = TRUE;

  while (self->frames.head != NULL)
    q_task_stream_end_frame_locked (self, self->frames.head->data, Q_TASK_LINK_BROKEN, woken);

  q_task_watch_collect_all (&self->room_watches, woken);
}

/* Adds what is left of @frame to @vectors, and returns how many these are now. */
static int
frame_get_vectors (QTaskOutFrame *frame,
                   struct iovec *vectors,
                   int n_vectors)
{
  gsize data_sent = frame->sent > Q_TASK_WIRE_HEADER_SIZE ? frame->sent - Q_TASK_WIRE_HEADER_SIZE : 0;

  if (frame->sent < Q_TASK_WIRE_HEADER_SIZE)
    {
      vectors[n_vectors].iov_base = frame->header + frame->sent;
      vectors[n_vectors++].iov_len = Q_TASK_WIRE_HEADER_SIZE - frame->sent;
    }

  if (frame->size > data_sent)
    {
      vectors[n_vectors].iov_base = (guint8 *) frame->data + data_sent;
      vectors[n_vectors++].iov_len = frame->size - data_sent;
    }

  return n_vectors;
}

static inline gboolean
frame_is_sent (QTaskOutFrame *frame)
{
  return frame->sent == Q_TASK_WIRE_HEADER_SIZE + frame->size;
}

/* Sends a frame that nothing is ahead of, as far as the kernel takes it. */
static void
send_frame_locked (QTaskStreamLink *self,
                   QTaskOutFrame *frame,
                   QTaskWatch **woken)
{
  while (!frame_is_sent (frame))
    {
      struct iovec vectors[2];
      gssize n = write_vectors (self, vectors, frame_get_vectors (frame, vectors, 0));

      if (n < 0)
        {
          if (errno != EAGAIN && errno != EWOULDBLOCK)
            q_task_stream_break_locked (self, woken);
          return;
        }

      frame->sent += n;
    }
}

/* Sends what waits, as far as the kernel takes it. */
void
q_task_stream_flush_locked (QTaskStreamLink *self,
                            QTaskWatch **woken)
{
  while (self->frames.head != NULL && self->out_fd >= 0)
    {
      struct iovec vectors[2 * MAX_FRAMES_A_CALL];
      int n_vectors = 0;
      int n_frames = 0;
      gssize n;

      for (GList *l = self->frames.head; l != NULL && n_frames < MAX_FRAMES_A_CALL; l = l->next, n_frames++)
        {
          QTaskOutFrame *frame = l->data;

          if (frame->pending != NULL)
            break;

          n_vectors = frame_get_vectors (frame, vectors, n_vectors);
        }

      if (n_vectors == 0)
        break;

      n = write_vectors (self, vectors, n_vectors);
      if (n < 0)
        {
          if (errno != EAGAIN && errno != EWOULDBLOCK)
            q_task_stream_break_locked (self, woken);
          break;
        }

      while (n > 0)
        {
          QTaskOutFrame *frame = self->frames.head->data;
          gsize rest = Q_TASK_WIRE_HEADER_SIZE + frame->size - frame->sent;

          if ((gsize) n < rest)
            {
              frame->sent += n;
              break;
            }

          n -= rest;
          frame->sent += rest;
          q_task_stream_end_frame_locked (self, frame, Q_TASK_LINK_DONE, woken);
        }

      q_task_stream_admit_locked (self, woken);
    }
}

/* The source that sends what waits, in the context where the link was made */

static gboolean
flush_ready_cb (int fd G_GNUC_UNUSED,
                GIOCondition condition G_GNUC_UNUSED,
                gpointer data)
{
  QTaskStreamLink *self = data;
  QTaskWatch *woken = NULL;
  gboolean goes_on;

  g_mutex_lock (&self->out_lock);

  q_task_stream_flush_locked (self, &woken);

  if (self->is_closed && g_get_monotonic_time () >= self->linger_end)
    q_task_stream_break_locked (self, &woken);

  goes_on = self->frames.head != NULL;
  if (goes_on && self->is_closed)
    g_source_set_ready_time (self->flush_source, self->linger_end);
  if (!goes_on)
    {
      self->flush_is_scheduled = FALSE;
      self->flush_source = NULL;
    }

  g_mutex_unlock (&self->out_lock);

  q_task_watch_wake_all (woken);
  if (!goes_on && g_atomic_int_get (&self->is_closed))
    q_task_stream_close_fds (self);

  return goes_on ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void
link_unref_notify (gpointer data)
{
  q_task_link_unref (data);
}

void
q_task_stream_flush_delivered (QTaskDelivery *delivery,
                               gboolean lost)
{
  QTaskStreamLink *self = (QTaskStreamLink *) ((char *) delivery - G_STRUCT_OFFSET (QTaskStreamLink, flush));
  QTaskWatch *woken = NULL;
  GSource *source = NULL;

  g_mutex_lock (&self->out_lock);

  q_task_stream_flush_locked (self, &woken);
  if (lost && self->is_closed)
    q_task_stream_break_locked (self, &woken);

  if (!lost && self->frames.head != NULL)
    {
      source = g_unix_fd_source_new (self->out_fd, G_IO_OUT);
      g_source_set_static_name (source, "[qtask] channel flush");
      g_source_set_callback (source, (GSourceFunc) flush_ready_cb, self, link_unref_notify);
      if (self->is_closed)
        g_source_set_ready_time (source, self->linger_end);
      self->flush_source = source;
    }
  else
    self->flush_is_scheduled = FALSE;

  g_mutex_unlock (&self->out_lock);

  q_task_watch_wake_all (woken);

  if (source != NULL)
    {
      g_source_attach (source, q_task_dispatch_get_context (self->dispatch));
      g_source_unref (source);
      return;
    }

  if (g_atomic_int_get (&self->is_closed))
    q_task_stream_close_fds (self);
  q_task_link_unref (&self->link);
}

/* With the out lock: whether flush has to be delivered, with no lock. */
gboolean
q_task_stream_must_schedule_flush_locked (QTaskStreamLink *self)
{
  if (self->frames.head == NULL || self->flush_is_scheduled)
    return FALSE;

  self->flush_is_scheduled = TRUE;
  q_task_link_ref (&self->link);

  return TRUE;
}

/* With no lock: has what waits be sent, by the source and by whoever polls anyway. */
static void
schedule_flush (QTaskStreamLink *self)
{
  q_task_dispatch_deliver (self->dispatch, &self->flush.node, G_PRIORITY_DEFAULT);

  if (g_atomic_pointer_get (&self->in_poller) != NULL)
    {
      g_mutex_lock (&self->in_lock);
      if (self->in_poller != NULL)
        q_task_signal_set (&self->in_signal);
      g_mutex_unlock (&self->in_lock);
    }
}

/* By the owner, after a close: the source would go on to poll a number. */
void
q_task_stream_drop_flush_source (gpointer data)
{
  QTaskStreamLink *self = data;
  GSource *source = NULL;

  g_mutex_lock (&self->out_lock);
  if (self->frames.head == NULL && self->flush_source != NULL)
    {
      source = g_steal_pointer (&self->flush_source);
      self->flush_is_scheduled = FALSE;
    }
  g_mutex_unlock (&self->out_lock);

  if (source != NULL && !q_task_dispatch_is_lost (self->dispatch))
    g_source_destroy (source);

  q_task_link_unref (&self->link);
}

/* One of the writers that block has to poll. */
static void
wake_next_writer_locked (QTaskStreamLink *self)
{
  if (self->out_poller != NULL)
    return;

  for (GList *l = self->frames.head; l != NULL; l = l->next)
    {
      QTaskOutFrame *frame = l->data;

      if (frame->sleeper != NULL)
        {
          q_task_stream_wake_sleeper (frame->sleeper, &self->out_signal);
          return;
        }
    }
}

/* Between two looks, about a microsecond: without a system call, since a frame that is being taken
 * has room made for it all the time */
static void
look_away (void)
{
  for (int i = 0; i < 24; i++)
    q_task_pause ();
}

/* With the lock, which is let go of; @frame is in the list. */
static QTaskLinkResult
write_blocking (QTaskStreamLink *self,
                QTaskOutFrame *frame,
                GCancellable *cancellable,
                QTaskWatch **woken)
{
  QTaskSleeper *sleeper = frame->sleeper;
  QTaskStreamCancel cancel = { &self->out_lock, sleeper, &self->out_signal };
  gboolean deliver = FALSE;
  QTaskInterrupt *interrupt = NULL;

  if (cancellable != NULL)
    {
      g_mutex_unlock (&self->out_lock);
      interrupt = q_task_interrupt_begin (cancellable, q_task_stream_cancelled, &cancel);
      g_mutex_lock (&self->out_lock);
    }

  while (frame->result == Q_TASK_LINK_PENDING)
    {
      if (sleeper->is_cancelled)
        {
          if (frame->sent == 0)
            q_task_stream_end_frame_locked (self, frame, Q_TASK_LINK_CANCELLED, woken);
          else
            {
              q_task_stream_orphan_frame_locked (self, frame);
              frame->result = Q_TASK_LINK_DONE;
              deliver = q_task_stream_must_schedule_flush_locked (self);
            }
          q_task_stream_admit_locked (self, woken);
          break;
        }

      if (*woken != NULL)
        {
          QTaskWatch *list = g_steal_pointer (woken);

          g_mutex_unlock (&self->out_lock);
          q_task_watch_wake_all (list);
          g_mutex_lock (&self->out_lock);
        }
      else if (self->out_poller == NULL && q_task_stream_may_look (&self->n_looks_to_skip_out))
        {
          gsize sent = frame->sent;

          for (int i = 0; i < Q_TASK_STREAM_LOOK_ROUNDS && frame->result == Q_TASK_LINK_PENDING && frame->sent == sent; i++)
            {
              g_mutex_unlock (&self->out_lock);
              look_away ();
              g_mutex_lock (&self->out_lock);

              q_task_stream_flush_locked (self, woken);
            }

          q_task_stream_has_looked (frame->sent == sent && frame->result == Q_TASK_LINK_PENDING,
                                    &self->n_vain_looks_out, &self->n_looks_to_skip_out);
        }
      else if (self->out_poller == NULL)
        {
          struct pollfd fds[2] = { { .fd = self->out_fd, .events = POLLOUT } };

          self->out_poller = sleeper;
          sleeper->is_polling = TRUE;
          q_task_stream_poll (&self->out_lock, &self->out_signal, fds, 1);
          sleeper->is_polling = FALSE;
          self->out_poller = NULL;

          q_task_stream_flush_locked (self, woken);
        }
      else
        {
          sleeper->is_woken = FALSE;
          sleeper->is_waiting = TRUE;
          while (!sleeper->is_woken && !sleeper->is_cancelled)
            g_cond_wait (&sleeper->cond, &self->out_lock);
          sleeper->is_waiting = FALSE;
        }
    }

  wake_next_writer_locked (self);

  g_mutex_unlock (&self->out_lock);

  if (g_atomic_int_get (&self->is_closed))
    q_task_stream_close_fds (self);
  if (deliver)
    schedule_flush (self);
  q_task_interrupt_end (interrupt);

  return frame->result;
}

/* Whether the link takes anything, with the lock. */
QTaskLinkResult
q_task_stream_may_write_locked (QTaskStreamLink *self)
{
  return self->is_closed ? Q_TASK_LINK_CLOSED : self->is_broken ? Q_TASK_LINK_BROKEN
                                                                : Q_TASK_LINK_DONE;
}

QTaskLinkResult
q_task_stream_write (QTaskLink *link,
                     QTaskOutgoing *outgoing,
                     QTaskLinkMode mode,
                     GCancellable *cancellable,
                     GError **error G_GNUC_UNUSED)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskOutFrame frame = { .data = outgoing->data, .size = outgoing->size, .result = Q_TASK_LINK_PENDING };
  QTaskWatch *woken = NULL;
  QTaskLinkResult result;
  gboolean deliver = FALSE;

  q_task_wire_encode_header (frame.header, frame.size, Q_TASK_WIRE_MESSAGE);

  g_mutex_lock (&self->out_lock);

  result = q_task_stream_may_write_locked (self);

  if (result == Q_TASK_LINK_DONE)
    {
      q_task_stream_flush_locked (self, &woken);
      if (self->frames.head == NULL && !self->is_broken)
        send_frame_locked (self, &frame, &woken);

      if (self->is_broken)
        result = Q_TASK_LINK_BROKEN;
      else if (frame_is_sent (&frame))
        result = Q_TASK_LINK_DONE;
      else if (mode == Q_TASK_LINK_WAIT)
        {
          QTaskSleeper sleeper = { 0 };

          g_cond_init (&sleeper.cond);
          frame.sleeper = &sleeper;
          frame.bytes = outgoing->bytes;
          append_frame_locked (self, &frame);
          result = write_blocking (self, &frame, cancellable, &woken);
          g_cond_clear (&sleeper.cond);

          q_task_watch_wake_all (woken);
          return result;
        }
      else if (self->n_pending > 0 ||
               (frame.sent == 0 && !q_task_link_fits (self->under_way, q_task_link_weigh (frame.size), q_task_link_get_capacity (link))))
        result = Q_TASK_LINK_WOULD_BLOCK;
      else
        {
          frame.bytes = outgoing->bytes;
          append_frame_locked (self, frame_copy_rest (&frame));
          deliver = q_task_stream_must_schedule_flush_locked (self);
        }
    }

  g_mutex_unlock (&self->out_lock);

  q_task_watch_wake_all (woken);
  if (deliver)
    schedule_flush (self);

  return result;
}

QTaskLinkResult
q_task_stream_write_pending (QTaskLink *link,
                             QTaskPending *pending)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;
  gboolean deliver = FALSE;

  g_mutex_lock (&self->out_lock);

  pending->result = q_task_stream_may_write_locked (self);

  if (pending->result == Q_TASK_LINK_DONE)
    {
      QTaskOutFrame *frame = g_new0 (QTaskOutFrame, 1);

      frame->bytes = g_bytes_ref (pending->bytes);
      frame->data = g_bytes_get_data (frame->bytes, &frame->size);
      frame->pending = pending;
      q_task_wire_encode_header (frame->header, frame->size, Q_TASK_WIRE_MESSAGE);

      pending->result = Q_TASK_LINK_PENDING;
      pending->message = frame;
      append_frame_locked (self, frame);
      q_task_stream_admit_locked (self, &woken);
      q_task_stream_flush_locked (self, &woken);
      deliver = q_task_stream_must_schedule_flush_locked (self);
    }

  {
    QTaskLinkResult result = pending->result;

    g_mutex_unlock (&self->out_lock);

    q_task_watch_wake_all (woken);
    if (deliver)
      schedule_flush (self);

    return result;
  }
}

QTaskLinkResult
q_task_stream_stop_pending (QTaskLink *link,
                            QTaskPending *pending)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;
  QTaskLinkResult result;

  g_mutex_lock (&self->out_lock);

  if (pending->result == Q_TASK_LINK_PENDING)
    {
      q_task_stream_end_frame_locked (self, pending->message, Q_TASK_LINK_CANCELLED, &woken);
      q_task_stream_admit_locked (self, &woken);
    }
  result = pending->result;

  g_mutex_unlock (&self->out_lock);

  q_task_watch_wake_all (woken);

  return result;
}

QTaskLinkResult
q_task_stream_get_pending (QTaskLink *link,
                           QTaskPending *pending)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskLinkResult result;

  g_mutex_lock (&self->out_lock);
  result = pending->result;
  g_mutex_unlock (&self->out_lock);

  return result;
}
