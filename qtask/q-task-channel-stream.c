/* q-task-channel-stream.c: channels over file descriptors
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Messages as frames (see q-task-wire.c) on a stream socket or two pipes, which do not block. What
 * comes is untrusted: the decoder holds it to the limits, and what it refuses closes the link.
 *
 * Reading takes as many bytes as there are into the decoder, and then one frame after the
 * other out of it. So the descriptor does not tell all: whoever leaves frames in the decoder
 * tells those who wait for the descriptor. Of the threads that block one polls, the others
 * sleep until they are woken to take a frame, or to poll in turn.
 *
 * Writing is in q-task-channel-stream-write.c.
 *
 *   in_lock    what is read, the decoder, and who waits for it
 *   out_lock   what is written, and who waits for that. Is taken after in_lock.
 *   is_closed  changes with both; each of them is enough to read it
 *   in_fd, out_fd
 *              change with both; they are closed when no thread polls them any more
 *
 * Contexts are told with no lock held.
 */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n-lib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#if __has_include(<sys/epoll.h>)
#include <sys/epoll.h>
#define HAVE_EPOLL 1
#endif

#include "q-task-channel-stream-private.h"

/* How often a thread that blocks looks whether it is to go on, where there is no descriptor
 * left to tell it */
#define POLL_MSEC 10

static void stream_close_locked (QTaskStreamLink *self,
                                 QTaskWatch **woken);

/* System calls */

/* The number of bytes; 0 at the end; or -1 with errno, which is not EINTR. */
static gssize
read_bytes (QTaskStreamLink *self,
            guint8 *space,
            gsize size)
{
  gssize n;

  do
    n = self->in_is_socket ? recv (self->in_fd, space, size, MSG_DONTWAIT) : read (self->in_fd, space, size);
  while (n < 0 && errno == EINTR);

  return n;
}

/* Sleepers and signals */

void
q_task_stream_wake_sleeper (QTaskSleeper *sleeper,
                            QTaskSignal *signal)
{
  sleeper->is_woken = TRUE;
  if (sleeper->is_polling)
    q_task_signal_set (signal);
  else if (sleeper->is_waiting)
    g_cond_signal (&sleeper->cond);
}

static void
wake_first_reader_locked (QTaskStreamLink *self)
{
  GList *first = g_queue_pop_head_link (&self->readers);

  if (first == NULL)
    return;

  ((QTaskSleeper *) first->data)->is_listed = FALSE;
  q_task_stream_wake_sleeper (first->data, &self->in_signal);
}

/* Whether it is worth to look a few times before sleeping. */
gboolean
q_task_stream_may_look (guint *n_looks_to_skip)
{
  if (!q_task_may_spin ())
    return FALSE;

  if (*n_looks_to_skip == 0)
    return TRUE;

  (*n_looks_to_skip)--;
  return FALSE;
}

void
q_task_stream_has_looked (gboolean in_vain,
                          guint *n_vain_looks,
                          guint *n_looks_to_skip)
{
  *n_vain_looks = in_vain ? *n_vain_looks + 1 : 0;
  *n_looks_to_skip = in_vain ? 1u << MIN (*n_vain_looks, 8) : 0;
}

void
q_task_stream_cancelled (gpointer data)
{
  QTaskStreamCancel *cancel = data;

  g_mutex_lock (cancel->mutex);
  cancel->sleeper->is_cancelled = TRUE;
  if (cancel->sleeper->is_polling)
    q_task_signal_set (cancel->signal);
  g_cond_signal (&cancel->sleeper->cond);
  g_mutex_unlock (cancel->mutex);
}

/* Blocks until a descriptor is ready or @signal is set, without the lock. */
void
q_task_stream_poll (GMutex *mutex,
                    QTaskSignal *signal,
                    struct pollfd *fds,
                    int n_fds)
{
  gboolean can_be_told = q_task_signal_open (signal, NULL);

  fds[n_fds].fd = signal->fds[0];
  fds[n_fds].events = POLLIN;
  fds[n_fds].revents = 0;

  g_mutex_unlock (mutex);
  if (poll (fds, n_fds + 1, can_be_told ? -1 : POLL_MSEC) < 0)
    for (int i = 0; i < n_fds; i++)
      fds[i].revents = 0;
  g_mutex_lock (mutex);

  q_task_signal_unset (signal);
}

/* With both locks: what nobody uses any more. */
static void
close_fds_locked (QTaskStreamLink *self)
{
  if (!self->is_closed || self->in_poller != NULL || self->out_poller != NULL || self->out_fd < 0)
    return;

  if (self->in_fd >= 0 && self->in_fd != self->out_fd)
    close (self->in_fd);
  self->in_fd = -1;

  if (self->frames.head != NULL)
    return;

  if (self->socket != NULL)
    g_socket_close (self->socket, NULL);
  else
    close (self->out_fd);
  self->out_fd = -1;
}

void
q_task_stream_close_fds (QTaskStreamLink *self)
{
  g_mutex_lock (&self->in_lock);
  g_mutex_lock (&self->out_lock);
  close_fds_locked (self);
  g_mutex_unlock (&self->out_lock);
  g_mutex_unlock (&self->in_lock);
}

/* Reading; all with the in lock */

/* The peer cannot be trusted, or the descriptor is of no use. */
static void
fail_locked (QTaskStreamLink *self,
             GError *error,
             QTaskWatch **woken)
{
  self->error = error;

  g_mutex_lock (&self->out_lock);
  stream_close_locked (self, woken);
  q_task_stream_break_locked (self, woken);
  close_fds_locked (self);
  g_mutex_unlock (&self->out_lock);
}

/* Whether the decoder has a frame. */
static gboolean
has_frame_locked (QTaskStreamLink *self,
                  QTaskWireFrame *frame,
                  QTaskWatch **woken)
{
  GError *error = NULL;

  if (self->is_closed)
    return FALSE;

  switch (q_task_wire_decoder_peek (&self->decoder, frame, &error))
    {
    case Q_TASK_WIRE_FRAME:
      return TRUE;

    case Q_TASK_WIRE_BAD:
      fail_locked (self, error, woken);
      return FALSE;

    case Q_TASK_WIRE_MORE:
    default:
      return FALSE;
    }
}

/* Reads once. Returns FALSE if there is nothing to read now. */
static gboolean
read_more_locked (QTaskStreamLink *self,
                  QTaskWatch **woken)
{
  GError *error = NULL;
  guint8 *space;
  gsize size = q_task_wire_decoder_get_space (&self->decoder, &space);
  gssize n = read_bytes (self, space, size);
  int saved_errno = errno;

  if (n > 0)
    {
      q_task_wire_decoder_advance (&self->decoder, n);
      self->is_drained = (gsize) n < size;
      return TRUE;
    }

  if (n < 0 && (saved_errno == EAGAIN || saved_errno == EWOULDBLOCK))
    {
      self->is_drained = TRUE;
      return FALSE;
    }

  /* A peer that has gone is at its end, however it went. */
  if (n == 0 || saved_errno == ECONNRESET || saved_errno == EPIPE || saved_errno == EIO)
    {
      if (q_task_wire_decoder_finish (&self->decoder, &error))
        self->at_end = TRUE;
    }
  else
    error = g_error_new_literal (G_IO_ERROR, g_io_error_from_errno (saved_errno), g_strerror (saved_errno));

  if (error != NULL)
    fail_locked (self, error, woken);

  return TRUE;
}

/* Takes a message if there is one. With @look FALSE the descriptor is not looked at if all that
 * was there is known to have been read. */
static QTaskLinkResult
try_read_locked (QTaskStreamLink *self,
                 QTaskReceiver *receiver,
                 gboolean look,
                 QTaskWatch **woken,
                 GError **error)
{
  for (;;)
    {
      QTaskWireFrame frame;

      if (self->error != NULL)
        {
          if (!receiver->keep_error)
            g_propagate_error (error, g_steal_pointer (&self->error));
          return Q_TASK_LINK_FAILED;
        }

      if (self->is_closed)
        return Q_TASK_LINK_CLOSED;

      if (has_frame_locked (self, &frame, woken))
        {
          receiver->message_size = frame.size;
          if (receiver->into_buffer)
            {
              if (frame.size > 0 && receiver->size > 0)
                memcpy (receiver->buffer, frame.data, MIN (frame.size, receiver->size));
              q_task_wire_decoder_pop (&self->decoder, FALSE);
            }
          else
            receiver->bytes = q_task_wire_decoder_pop (&self->decoder, TRUE);

          return Q_TASK_LINK_DONE;
        }

      if (self->error != NULL)
        continue;

      if (self->at_end)
        return Q_TASK_LINK_END;

      if ((!look && self->is_drained) || !read_more_locked (self, woken))
        return Q_TASK_LINK_WOULD_BLOCK;
    }
}

/* After reading: tells who else waits, if there is something for them. */
static void
tell_readers_locked (QTaskStreamLink *self,
                     QTaskWatch **woken)
{
  QTaskWireFrame frame;
  gboolean ready;

  if (self->readers.head == NULL && self->in_poller == NULL && self->message_watches.head == NULL && self->poll_fd < 0)
    return;

  ready = has_frame_locked (self, &frame, woken) || self->at_end || self->is_closed;

  if (ready)
    {
      if (self->in_poller != NULL)
        q_task_signal_set (&self->in_signal);
      q_task_watch_collect_all (&self->message_watches, woken);
    }

  if (ready || self->in_poller == NULL)
    wake_first_reader_locked (self);

  if (self->poll_fd >= 0)
    {
      if (ready)
        q_task_signal_set (&self->poll_signal);
      else
        q_task_signal_unset (&self->poll_signal);
    }
}

static QTaskLinkResult
read_blocking (QTaskStreamLink *self,
               QTaskReceiver *receiver,
               GCancellable *cancellable,
               GError **error)
{
  QTaskSleeper sleeper = { 0 };
  QTaskStreamCancel cancel = { &self->in_lock, &sleeper, &self->in_signal };
  QTaskWatch *woken = NULL;
  QTaskLinkResult result;
  QTaskInterrupt *interrupt;

  g_cond_init (&sleeper.cond);
  sleeper.link.data = &sleeper;
  interrupt = q_task_interrupt_begin (cancellable, q_task_stream_cancelled, &cancel);

  g_mutex_lock (&self->in_lock);

  for (;;)
    {
      result = try_read_locked (self, receiver, FALSE, &woken, error);
      if (result != Q_TASK_LINK_WOULD_BLOCK)
        break;

      if (sleeper.is_cancelled)
        {
          result = Q_TASK_LINK_CANCELLED;
          break;
        }

      if (self->in_poller == NULL && q_task_stream_may_look (&self->n_looks_to_skip))
        {
          for (int i = 0; i < Q_TASK_STREAM_LOOK_ROUNDS && result == Q_TASK_LINK_WOULD_BLOCK; i++)
            {
              g_mutex_unlock (&self->in_lock);
              q_task_spin_briefly ();
              g_mutex_lock (&self->in_lock);

              result = try_read_locked (self, receiver, TRUE, &woken, error);
            }

          q_task_stream_has_looked (result == Q_TASK_LINK_WOULD_BLOCK, &self->n_vain_looks, &self->n_looks_to_skip);
          if (result != Q_TASK_LINK_WOULD_BLOCK)
            break;

          /* The lock was let go of. */
          if (sleeper.is_cancelled)
            continue;
        }

      if (self->in_poller == NULL)
        {
          struct pollfd fds[3] = { { .fd = self->in_fd, .events = POLLIN },
                                   { .fd = -1, .events = POLLOUT } };

          g_atomic_pointer_set (&self->in_poller, &sleeper);
          sleeper.is_polling = TRUE;

          /* A peer may wait for what this end has to send before it answers. */
          if (g_atomic_int_get (&self->has_frames))
            fds[1].fd = self->out_fd;

          q_task_stream_poll (&self->in_lock, &self->in_signal, fds, 2);

          sleeper.is_polling = FALSE;
          g_atomic_pointer_set (&self->in_poller, NULL);
          self->is_drained = FALSE;

          if (fds[1].revents != 0)
            {
              g_mutex_lock (&self->out_lock);
              q_task_stream_flush_locked (self, &woken);
              g_mutex_unlock (&self->out_lock);
            }
        }
      else
        {
          sleeper.is_listed = TRUE;
          sleeper.is_woken = FALSE;
          g_queue_push_tail_link (&self->readers, &sleeper.link);

          sleeper.is_waiting = TRUE;
          while (!sleeper.is_woken && !sleeper.is_cancelled)
            g_cond_wait (&sleeper.cond, &self->in_lock);
          sleeper.is_waiting = FALSE;

          if (sleeper.is_listed)
            g_queue_unlink (&self->readers, &sleeper.link);
          sleeper.is_listed = FALSE;
        }

      if (woken != NULL)
        {
          QTaskWatch *list = g_steal_pointer (&woken);

          g_mutex_unlock (&self->in_lock);
          q_task_watch_wake_all (list);
          g_mutex_lock (&self->in_lock);
        }
    }

  tell_readers_locked (self, &woken);

  g_mutex_unlock (&self->in_lock);

  q_task_watch_wake_all (woken);
  if (g_atomic_int_get (&self->is_closed))
    q_task_stream_close_fds (self);

  q_task_interrupt_end (interrupt);
  g_cond_clear (&sleeper.cond);

  return result;
}

static QTaskLinkResult
stream_read (QTaskLink *link,
             QTaskReceiver *receiver,
             QTaskLinkMode mode,
             GCancellable *cancellable,
             GError **error)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;
  QTaskLinkResult result;

  if (G_UNLIKELY (g_atomic_int_get (&self->has_frames)))
    {
      g_mutex_lock (&self->out_lock);
      q_task_stream_flush_locked (self, &woken);
      g_mutex_unlock (&self->out_lock);
    }

  g_mutex_lock (&self->in_lock);
  result = try_read_locked (self, receiver, mode == Q_TASK_LINK_TRY, &woken, error);
  if (result == Q_TASK_LINK_DONE || self->poll_fd >= 0)
    tell_readers_locked (self, &woken);
  g_mutex_unlock (&self->in_lock);

  q_task_watch_wake_all (woken);

  if (result == Q_TASK_LINK_WOULD_BLOCK && mode == Q_TASK_LINK_WAIT)
    result = read_blocking (self, receiver, cancellable, error);

  return result;
}

/* Watching */

static gboolean
check_read (QTaskStreamLink *self,
            QTaskWatch *watch)
{
  QTaskWatch *woken = NULL;
  QTaskWireFrame frame;
  gboolean ready;

  g_mutex_lock (&self->in_lock);

  ready = has_frame_locked (self, &frame, &woken) || self->is_closed || self->at_end || self->error != NULL;
  if (ready)
    q_task_watch_disarm (watch, &self->message_watches);
  else
    q_task_watch_arm (watch, &self->message_watches);

  g_mutex_unlock (&self->in_lock);

  q_task_watch_wake_all (woken);

  return ready;
}

static gboolean
check_write (QTaskStreamLink *self,
             QTaskWatch *watch)
{
  gboolean ready;

  g_mutex_lock (&self->out_lock);

  ready = q_task_stream_may_write_locked (self) != Q_TASK_LINK_DONE ||
          (self->n_pending == 0 && q_task_link_fits (self->under_way, 1, q_task_link_get_capacity (&self->link)));
  if (ready)
    q_task_watch_disarm (watch, &self->room_watches);
  else
    q_task_watch_arm (watch, &self->room_watches);

  g_mutex_unlock (&self->out_lock);

  return ready;
}

static gboolean
stream_check (QTaskLink *link,
              GIOCondition condition,
              QTaskWatch *watch)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;

  return condition == G_IO_IN ? check_read (self, watch) : check_write (self, watch);
}

static void
stream_disarm (QTaskLink *link,
               GIOCondition condition,
               QTaskWatch *watch)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  gboolean is_in = condition == G_IO_IN;
  GMutex *mutex = is_in ? &self->in_lock : &self->out_lock;

  g_mutex_lock (mutex);
  q_task_watch_disarm (watch, is_in ? &self->message_watches : &self->room_watches);
  g_mutex_unlock (mutex);
}

static int
stream_get_poll_fd (QTaskLink *link,
                    GIOCondition condition)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  int fd;

  if (condition == G_IO_IN)
    {
      g_mutex_lock (&self->in_lock);
      fd = self->in_fd;
      g_mutex_unlock (&self->in_lock);
    }
  else
    {
      g_mutex_lock (&self->out_lock);
      fd = self->frames.head != NULL ? self->out_fd : -1;
      g_mutex_unlock (&self->out_lock);
    }

  return fd;
}

static void
stream_ready (QTaskLink *link,
              GIOCondition condition)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;

  if (condition == G_IO_IN)
    {
      QTaskWireFrame frame;

      g_mutex_lock (&self->in_lock);
      while (!has_frame_locked (self, &frame, &woken) && !self->is_closed && !self->at_end)
        if (!read_more_locked (self, &woken))
          break;
      tell_readers_locked (self, &woken);
      g_mutex_unlock (&self->in_lock);
    }
  else
    {
      g_mutex_lock (&self->out_lock);
      q_task_stream_flush_locked (self, &woken);
      g_mutex_unlock (&self->out_lock);
    }

  q_task_watch_wake_all (woken);
}

static int
stream_get_fd (QTaskLink *link,
               GError **error)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;
  int fd = -1;

  g_mutex_lock (&self->in_lock);

  if (self->is_closed)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, _ ("The channel is closed"));
    }
  else if (self->poll_fd >= 0)
    {
      fd = self->poll_fd;
    }
  else
    {
#ifdef HAVE_EPOLL
      struct epoll_event event = { .events = EPOLLIN };

      if (q_task_signal_open (&self->poll_signal, error))
        {
          fd = epoll_create1 (EPOLL_CLOEXEC);
          if (fd < 0 ||
              epoll_ctl (fd, EPOLL_CTL_ADD, self->poll_signal.fds[0], &event) < 0 ||
              epoll_ctl (fd, EPOLL_CTL_ADD, self->in_fd, &event) < 0)
            {
              int saved_errno = errno;

              g_set_error_literal (error, G_IO_ERROR, g_io_error_from_errno (saved_errno), g_strerror (saved_errno));
              if (fd >= 0)
                close (fd);
              fd = -1;
              q_task_signal_close (&self->poll_signal);
            }
        }

      self->poll_fd = fd;
      tell_readers_locked (self, &woken);
#else
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                           _ ("This system has no descriptor that tells of others"));
#endif
    }

  g_mutex_unlock (&self->in_lock);

  q_task_watch_wake_all (woken);

  return fd;
}

static void
stream_limits_changed (QTaskLink *link)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;

  g_mutex_lock (&self->in_lock);
  q_task_wire_decoder_set_max_size (&self->decoder, q_task_link_get_max_message_size (link));
  g_mutex_unlock (&self->in_lock);

  g_mutex_lock (&self->out_lock);
  q_task_stream_admit_locked (self, &woken);
  g_mutex_unlock (&self->out_lock);

  q_task_watch_wake_all (woken);
}

/* Closing */

/* With both locks: all but the descriptors, if they are in use. What was accepted is still to
 * be sent. */
static void
stream_close_locked (QTaskStreamLink *self,
                     QTaskWatch **woken)
{
  GList *next;

  if (self->is_closed)
    return;

  g_atomic_int_set (&self->is_closed, TRUE);
  q_task_wire_decoder_clear (&self->decoder);

  while (self->readers.head != NULL)
    wake_first_reader_locked (self);
  if (self->in_poller != NULL)
    q_task_signal_set (&self->in_signal);
  q_task_watch_collect_all (&self->message_watches, woken);

  if (self->poll_fd >= 0)
    close (self->poll_fd);
  self->poll_fd = -1;
  q_task_signal_close (&self->poll_signal);

  for (GList *l = self->frames.head; l != NULL; l = next)
    {
      QTaskOutFrame *frame = l->data;

      next = l->next;

      if (frame->sleeper != NULL && frame->sent > 0)
        {
          q_task_stream_orphan_frame_locked (self, frame);
          frame->result = Q_TASK_LINK_CLOSED;
          q_task_stream_wake_sleeper (frame->sleeper, &self->out_signal);
        }
      else if (frame->sleeper != NULL || frame->pending != NULL)
        q_task_stream_end_frame_locked (self, frame, Q_TASK_LINK_CLOSED, woken);
    }

  if (self->out_poller != NULL)
    q_task_signal_set (&self->out_signal);
  q_task_watch_collect_all (&self->room_watches, woken);

  self->linger_end = g_get_monotonic_time () + Q_TASK_STREAM_LINGER_USEC;
  q_task_stream_flush_locked (self, woken);
  if (q_task_dispatch_is_lost (self->dispatch))
    q_task_stream_break_locked (self, woken);

  close_fds_locked (self);
}

static void
stream_close (QTaskLink *link)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;
  gboolean deliver = FALSE;
  gboolean drop = FALSE;

  g_mutex_lock (&self->in_lock);
  g_clear_error (&self->error);
  g_mutex_lock (&self->out_lock);

  if (!self->is_closed)
    {
      stream_close_locked (self, &woken);
      drop = self->flush_is_scheduled;
      deliver = q_task_stream_must_schedule_flush_locked (self);
    }

  g_mutex_unlock (&self->out_lock);
  g_mutex_unlock (&self->in_lock);

  q_task_watch_wake_all (woken);

  if (deliver)
    q_task_dispatch_deliver (self->dispatch, &self->flush.node, G_PRIORITY_DEFAULT);
  if (drop)
    q_task_dispatch_destroy_data (self->dispatch, 0, q_task_link_ref (link), q_task_stream_drop_flush_source);
}

static gboolean
stream_is_closed (QTaskLink *link)
{
  return g_atomic_int_get (&((QTaskStreamLink *) link)->is_closed);
}

static void
stream_free (QTaskLink *link)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;

  g_mutex_lock (&self->in_lock);
  g_mutex_lock (&self->out_lock);
  stream_close_locked (self, &woken);
  q_task_stream_break_locked (self, &woken);
  close_fds_locked (self);
  g_mutex_unlock (&self->out_lock);
  g_mutex_unlock (&self->in_lock);

  q_task_watch_wake_all (woken);

  g_assert (self->message_watches.length == 0);
  g_assert (self->room_watches.length == 0);

  q_task_signal_close (&self->in_signal);
  q_task_signal_close (&self->out_signal);
  g_clear_error (&self->error);
  g_clear_object (&self->socket);
  q_task_dispatch_unref (self->dispatch);
  g_mutex_clear (&self->in_lock);
  g_mutex_clear (&self->out_lock);
  g_free (self);
}

static const QTaskLinkFuncs stream_link_funcs = {
  .read = stream_read,
  .write = q_task_stream_write,
  .write_pending = q_task_stream_write_pending,
  .stop_pending = q_task_stream_stop_pending,
  .get_pending = q_task_stream_get_pending,
  .check = stream_check,
  .disarm = stream_disarm,
  .get_poll_fd = stream_get_poll_fd,
  .ready = stream_ready,
  .get_fd = stream_get_fd,
  .limits_changed = stream_limits_changed,
  .close = stream_close,
  .is_closed = stream_is_closed,
  .free = stream_free,
};

/* Whether @fd can be read from, or written to. */
static gboolean
check_fd (int fd,
          int access_mode,
          gboolean *is_socket,
          GError **error)
{
  int flags = fd >= 0 ? fcntl (fd, F_GETFL) : -1;
  socklen_t size = sizeof (int);
  struct stat status;
  int type;

  if (flags < 0 || fstat (fd, &status) < 0 || S_ISDIR (status.st_mode) ||
      ((flags & O_ACCMODE) != O_RDWR && (flags & O_ACCMODE) != access_mode))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                   access_mode == O_RDONLY ? _ ("Descriptor %d cannot be read from") : _ ("Descriptor %d cannot be written to"), fd);
      return FALSE;
    }

  *is_socket = S_ISSOCK (status.st_mode);
  if (*is_socket && (getsockopt (fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                   _ ("Descriptor %d is a socket, but not a stream"), fd);
      return FALSE;
    }

  return TRUE;
}

static gboolean
prepare_fd (int fd,
            GError **error)
{
  int flags = fcntl (fd, F_GETFL);
  int descriptor_flags = fcntl (fd, F_GETFD);

  if (fcntl (fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl (fd, F_SETFD, descriptor_flags | FD_CLOEXEC) < 0)
    {
      int saved_errno = errno;

      g_set_error_literal (error, G_IO_ERROR, g_io_error_from_errno (saved_errno), g_strerror (saved_errno));
      return FALSE;
    }

  return TRUE;
}

/* For the thread-default context of the caller. */
QTaskLink *
q_task_link_new_stream (GSocket *socket,
                        int in_fd,
                        int out_fd,
                        GError **error)
{
  QTaskStreamLink *self;
  GMainContext *context;
  gboolean in_is_socket;
  gboolean out_is_socket;

  if (!check_fd (in_fd, O_RDONLY, &in_is_socket, error) ||
      !check_fd (out_fd, O_WRONLY, &out_is_socket, error) ||
      !prepare_fd (in_fd, error) ||
      !prepare_fd (out_fd, error))
    return NULL;

  self = g_new0 (QTaskStreamLink, 1);
  q_task_link_init (&self->link, &stream_link_funcs);
  self->in_is_socket = in_is_socket;
  self->out_is_socket = out_is_socket;
  self->in_fd = in_fd;
  self->out_fd = out_fd;
  self->poll_fd = -1;
  self->in_signal = (QTaskSignal) Q_TASK_SIGNAL_INIT;
  self->out_signal = (QTaskSignal) Q_TASK_SIGNAL_INIT;
  self->poll_signal = (QTaskSignal) Q_TASK_SIGNAL_INIT;
  self->flush.func = q_task_stream_flush_delivered;
  if (socket != NULL)
    self->socket = g_object_ref (socket);

  g_mutex_init (&self->in_lock);
  g_mutex_init (&self->out_lock);
  q_task_wire_decoder_init (&self->decoder, Q_TASK_WIRE_TYPE_BIT (Q_TASK_WIRE_MESSAGE),
                            q_task_link_get_max_message_size (&self->link));

  context = g_main_context_ref_thread_default ();
  self->dispatch = q_task_dispatch_ref_for_context (context);
  g_main_context_unref (context);

  return &self->link;
}
