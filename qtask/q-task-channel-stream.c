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
 * Writing makes one call for a frame if nothing waits. Else frames are in a list, in order: those
 * of blocked writers, on their stacks, until the kernel has them; those that were accepted;
 * and, at the end, those of asynchronous writes that have to wait until they are. Any call on the
 * link sends what it can; so does a source in the context where the link was made, which is
 * there while there is something to send. After a close that source has 10 seconds.
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
#include <glib-unix.h>
#include <glib/gi18n-lib.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#if __has_include(<sys/epoll.h>)
#include <sys/epoll.h>
#define HAVE_EPOLL 1
#endif

#include "q-task-channel-link-private.h"
#include "q-task-wire-private.h"

#define MAX_FRAMES_A_CALL 16

/* How often a thread looks at a descriptor before it sleeps on it: with a peer at work this costs
 * less. When it was in vain it is done more seldom. */
#define LOOK_ROUNDS 16

/* How long a closed link may go on to send */
#define LINGER_USEC (10 * G_USEC_PER_SEC)

/* How often a thread that blocks looks whether it is to go on, where there is no descriptor
 * left to tell it */
#define POLL_MSEC 10

/* A frame to be sent */
typedef struct
{
  GList link;
  guint8 header[Q_TASK_WIRE_HEADER_SIZE];
  const guint8 *data;
  gsize size;
  gsize sent;            /* of the header and the data */
  GBytes *bytes;         /* owned; NULL if the frame is on the stack of a writer */
  QTaskSleeper *sleeper; /* that writer */
  QTaskPending *pending; /* not accepted yet */
  QTaskLinkResult result;
} QTaskOutFrame;

typedef struct
{
  QTaskLink link;
  QTaskDispatch *dispatch; /* of the context where it was made */
  GSocket *socket;         /* or NULL */
  gboolean in_is_socket;
  gboolean out_is_socket;
  int is_closed; /* also read atomically without a lock */
  int in_fd;
  int out_fd;

  GMutex in_lock;
  QTaskWireDecoder decoder;
  gboolean at_end;
  gboolean is_drained; /* the last read took all there was */
  guint n_vain_looks;
  guint n_looks_to_skip;
  GError *error;           /* of the peer, for the next read */
  GQueue readers;          /* QTaskSleeper */
  QTaskSleeper *in_poller; /* also read atomically without */
  QTaskSignal in_signal;   /* wakes that */
  GQueue message_watches;
  int poll_fd;             /* for get_fd, readable when in_fd or poll_signal is */
  QTaskSignal poll_signal; /* set while the decoder has a frame */

  GMutex out_lock;
  GQueue frames;   /* QTaskOutFrame */
  int has_frames;  /* also read atomically without */
  gsize under_way; /* weight of what was accepted and is not sent */
  guint n_pending;
  gboolean is_broken;
  guint n_vain_looks_out;
  guint n_looks_to_skip_out;
  QTaskSleeper *out_poller;
  QTaskSignal out_signal;
  GQueue room_watches;
  gboolean flush_is_scheduled;
  QTaskDelivery flush;   /* holds a reference while it is under way */
  GSource *flush_source; /* by the owner */
  gint64 linger_end;
} QTaskStreamLink;

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

/* As writev(), with no SIGPIPE: where the system has no flag for it, it is blocked meanwhile, and
 * taken away if it was raised. */
static gssize
write_to_pipe (int fd,
               struct iovec *vectors,
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
    return write_to_pipe (self->out_fd, vectors, n_vectors);

  do
    n = sendmsg (self->out_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);

  return n;
}

/* Sleepers and signals */

static void
wake_sleeper (QTaskSleeper *sleeper,
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
  wake_sleeper (first->data, &self->in_signal);
}

/* Whether it is worth to look a few times before sleeping. */
static gboolean
may_look (guint *n_looks_to_skip)
{
  if (!q_task_may_spin ())
    return FALSE;

  if (*n_looks_to_skip == 0)
    return TRUE;

  (*n_looks_to_skip)--;
  return FALSE;
}

/* Between two looks, about a microsecond */
static void
look_away (void)
{
  for (int i = 0; i < 24; i++)
    q_task_pause ();
}

static void
has_looked (gboolean in_vain,
            guint *n_vain_looks,
            guint *n_looks_to_skip)
{
  *n_vain_looks = in_vain ? *n_vain_looks + 1 : 0;
  *n_looks_to_skip = in_vain ? 1u << MIN (*n_vain_looks, 8) : 0;
}

/* Blocks until a descriptor is ready or @signal is set, without the lock. */
static void
poll_unlocked (GMutex *mutex,
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

static void
close_fds (QTaskStreamLink *self)
{
  g_mutex_lock (&self->in_lock);
  g_mutex_lock (&self->out_lock);
  close_fds_locked (self);
  g_mutex_unlock (&self->out_lock);
  g_mutex_unlock (&self->in_lock);
}

/* Writing; all with the out lock */

static void
frame_free (QTaskOutFrame *frame)
{
  g_bytes_unref (frame->bytes);
  g_free (frame);
}

/* Takes @frame out of the list, and tells whose it is. */
static void
end_frame_locked (QTaskStreamLink *self,
                  QTaskOutFrame *frame,
                  QTaskLinkResult result,
                  QTaskWatch **woken)
{
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
    self->under_way -= q_task_link_weigh (frame->size);

  frame->result = result;
  if (frame->sleeper != NULL)
    wake_sleeper (frame->sleeper, &self->out_signal);
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
    self->n_pending++;
  else
    self->under_way += q_task_link_weigh (frame->size);
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
static void
orphan_frame_locked (QTaskStreamLink *self,
                     QTaskOutFrame *frame)
{
  QTaskOutFrame *copy = frame_copy_rest (frame);

  g_queue_unlink (&self->frames, &frame->link);
  copy->link.prev = copy->link.next = NULL;
  g_queue_push_head_link (&self->frames, &copy->link);
}

/* Accepts what fits now. */
static void
admit_locked (QTaskStreamLink *self,
              QTaskWatch **woken)
{
  gsize capacity = q_task_link_get_capacity (&self->link);

  if (self->n_pending > 0)
    for (GList *l = self->frames.head; l != NULL; l = l->next)
      {
        QTaskOutFrame *frame = l->data;
        gsize weight = q_task_link_weigh (frame->size);

        if (frame->pending == NULL)
          continue;

        if (!q_task_link_fits (self->under_way, weight, capacity))
          break;

        self->under_way += weight;
        self->n_pending--;
        frame->pending->result = Q_TASK_LINK_DONE;
        frame->pending->message = NULL;
        q_task_watch_collect (frame->pending->watch, woken);
        frame->pending = NULL;
      }

  if (self->is_broken || (self->n_pending == 0 && q_task_link_fits (self->under_way, 1, capacity)))
    q_task_watch_collect_all (&self->room_watches, woken);
}

static void
break_locked (QTaskStreamLink *self,
              QTaskWatch **woken)
{
  self->is_broken = TRUE;

  while (self->frames.head != NULL)
    end_frame_locked (self, self->frames.head->data, Q_TASK_LINK_BROKEN, woken);

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
            break_locked (self, woken);
          return;
        }

      frame->sent += n;
    }
}

/* Sends what waits, as far as the kernel takes it. */
static void
flush_locked (QTaskStreamLink *self,
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

      n = write_vectors (self, vectors, n_vectors);
      if (n < 0)
        {
          if (errno != EAGAIN && errno != EWOULDBLOCK)
            break_locked (self, woken);
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
          end_frame_locked (self, frame, Q_TASK_LINK_DONE, woken);
        }

      admit_locked (self, woken);
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

  flush_locked (self, &woken);

  if (self->is_closed && g_get_monotonic_time () >= self->linger_end)
    break_locked (self, &woken);

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
    close_fds (self);

  return goes_on ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void
link_unref_notify (gpointer data)
{
  q_task_link_unref (data);
}

static void
flush_delivered (QTaskDelivery *delivery,
                 gboolean lost)
{
  QTaskStreamLink *self = (QTaskStreamLink *) ((char *) delivery - G_STRUCT_OFFSET (QTaskStreamLink, flush));
  QTaskWatch *woken = NULL;
  GSource *source = NULL;

  g_mutex_lock (&self->out_lock);

  flush_locked (self, &woken);
  if (lost && self->is_closed)
    break_locked (self, &woken);

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
    close_fds (self);
  q_task_link_unref (&self->link);
}

/* With the out lock: whether flush has to be delivered, with no lock. */
static gboolean
must_schedule_flush_locked (QTaskStreamLink *self)
{
  if (self->frames.head == NULL || self->flush_is_scheduled)
    return FALSE;

  self->flush_is_scheduled = TRUE;
  q_task_link_ref (&self->link);

  return TRUE;
}

/* With no lock: has what waits be sent, by the source and by whoever polls anyway. */
static void
schedule_flush (QTaskStreamLink *self,
                gboolean deliver)
{
  if (deliver)
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
static void
drop_flush_source (gpointer data)
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

typedef struct
{
  GMutex *mutex;
  QTaskSleeper *sleeper;
  QTaskSignal *signal;
} QTaskStreamCancel;

static void
stream_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                     gpointer data)
{
  QTaskStreamCancel *cancel = data;

  g_mutex_lock (cancel->mutex);
  cancel->sleeper->is_cancelled = TRUE;
  if (cancel->sleeper->is_polling)
    q_task_signal_set (cancel->signal);
  g_cond_signal (&cancel->sleeper->cond);
  g_mutex_unlock (cancel->mutex);
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
          wake_sleeper (frame->sleeper, &self->out_signal);
          return;
        }
    }
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
  gulong handler = 0;

  if (cancellable != NULL)
    {
      g_mutex_unlock (&self->out_lock);
      handler = g_cancellable_connect (cancellable, G_CALLBACK (stream_cancelled_cb), &cancel, NULL);
      g_mutex_lock (&self->out_lock);
    }

  while (frame->result == Q_TASK_LINK_PENDING)
    {
      if (sleeper->is_cancelled)
        {
          if (frame->sent == 0)
            end_frame_locked (self, frame, Q_TASK_LINK_CANCELLED, woken);
          else
            {
              orphan_frame_locked (self, frame);
              frame->result = Q_TASK_LINK_DONE;
              deliver = must_schedule_flush_locked (self);
            }
          admit_locked (self, woken);
          break;
        }

      if (*woken != NULL)
        {
          QTaskWatch *list = g_steal_pointer (woken);

          g_mutex_unlock (&self->out_lock);
          q_task_watch_wake_all (list);
          g_mutex_lock (&self->out_lock);
        }
      else if (self->out_poller == NULL && may_look (&self->n_looks_to_skip_out))
        {
          gsize sent = frame->sent;

          for (int i = 0; i < LOOK_ROUNDS && frame->result == Q_TASK_LINK_PENDING && frame->sent == sent; i++)
            {
              g_mutex_unlock (&self->out_lock);
              look_away ();
              g_mutex_lock (&self->out_lock);

              flush_locked (self, woken);
            }

          has_looked (frame->sent == sent && frame->result == Q_TASK_LINK_PENDING,
                      &self->n_vain_looks_out, &self->n_looks_to_skip_out);
        }
      else if (self->out_poller == NULL)
        {
          struct pollfd fds[2] = { { .fd = self->out_fd, .events = POLLOUT } };

          self->out_poller = sleeper;
          sleeper->is_polling = TRUE;
          poll_unlocked (&self->out_lock, &self->out_signal, fds, 1);
          sleeper->is_polling = FALSE;
          self->out_poller = NULL;

          flush_locked (self, woken);
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

  if (self->is_closed)
    close_fds (self);
  schedule_flush (self, deliver);
  g_cancellable_disconnect (cancellable, handler);

  return frame->result;
}

/* Whether the link takes anything, with the lock. */
static inline QTaskLinkResult
may_write_locked (QTaskStreamLink *self)
{
  return self->is_closed ? Q_TASK_LINK_CLOSED : self->is_broken ? Q_TASK_LINK_BROKEN
                                                                : Q_TASK_LINK_DONE;
}

static QTaskLinkResult
stream_write (QTaskLink *link,
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

  result = may_write_locked (self);

  if (result == Q_TASK_LINK_DONE)
    {
      flush_locked (self, &woken);
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
          deliver = must_schedule_flush_locked (self);
        }
    }

  g_mutex_unlock (&self->out_lock);

  q_task_watch_wake_all (woken);
  if (deliver)
    schedule_flush (self, TRUE);

  return result;
}

static QTaskLinkResult
stream_write_pending (QTaskLink *link,
                      QTaskPending *pending)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;
  gboolean deliver = FALSE;

  g_mutex_lock (&self->out_lock);

  pending->result = may_write_locked (self);

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
      admit_locked (self, &woken);
      flush_locked (self, &woken);
      deliver = must_schedule_flush_locked (self);
    }

  {
    QTaskLinkResult result = pending->result;

    g_mutex_unlock (&self->out_lock);

    q_task_watch_wake_all (woken);
    if (deliver)
      schedule_flush (self, TRUE);

    return result;
  }
}

static QTaskLinkResult
stream_stop_pending (QTaskLink *link,
                     QTaskPending *pending)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskWatch *woken = NULL;
  QTaskLinkResult result;

  g_mutex_lock (&self->out_lock);

  if (pending->result == Q_TASK_LINK_PENDING)
    {
      end_frame_locked (self, pending->message, Q_TASK_LINK_CANCELLED, &woken);
      admit_locked (self, &woken);
    }
  result = pending->result;

  g_mutex_unlock (&self->out_lock);

  q_task_watch_wake_all (woken);

  return result;
}

static QTaskLinkResult
stream_get_pending (QTaskLink *link,
                    QTaskPending *pending)
{
  QTaskStreamLink *self = (QTaskStreamLink *) link;
  QTaskLinkResult result;

  g_mutex_lock (&self->out_lock);
  result = pending->result;
  g_mutex_unlock (&self->out_lock);

  return result;
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
  gulong handler = 0;

  g_cond_init (&sleeper.cond);
  sleeper.link.data = &sleeper;

  if (cancellable != NULL)
    handler = g_cancellable_connect (cancellable, G_CALLBACK (stream_cancelled_cb), &cancel, NULL);

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

      if (self->in_poller == NULL && may_look (&self->n_looks_to_skip))
        {
          for (int i = 0; i < LOOK_ROUNDS && result == Q_TASK_LINK_WOULD_BLOCK; i++)
            {
              g_mutex_unlock (&self->in_lock);
              look_away ();
              g_mutex_lock (&self->in_lock);

              result = try_read_locked (self, receiver, TRUE, &woken, error);
            }

          has_looked (result == Q_TASK_LINK_WOULD_BLOCK, &self->n_vain_looks, &self->n_looks_to_skip);
          if (result != Q_TASK_LINK_WOULD_BLOCK)
            break;
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

          poll_unlocked (&self->in_lock, &self->in_signal, fds, 2);

          sleeper.is_polling = FALSE;
          g_atomic_pointer_set (&self->in_poller, NULL);
          self->is_drained = FALSE;

          if (fds[1].revents != 0)
            {
              g_mutex_lock (&self->out_lock);
              flush_locked (self, &woken);
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
    close_fds (self);

  g_cancellable_disconnect (cancellable, handler);
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
      flush_locked (self, &woken);
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

  ready = may_write_locked (self) != Q_TASK_LINK_DONE ||
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
      flush_locked (self, &woken);
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
  admit_locked (self, &woken);
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
          orphan_frame_locked (self, frame);
          frame->result = Q_TASK_LINK_CLOSED;
          wake_sleeper (frame->sleeper, &self->out_signal);
        }
      else if (frame->sleeper != NULL || frame->pending != NULL)
        end_frame_locked (self, frame, Q_TASK_LINK_CLOSED, woken);
    }

  if (self->out_poller != NULL)
    q_task_signal_set (&self->out_signal);
  q_task_watch_collect_all (&self->room_watches, woken);

  self->linger_end = g_get_monotonic_time () + LINGER_USEC;
  flush_locked (self, woken);
  if (q_task_dispatch_is_lost (self->dispatch))
    break_locked (self, woken);

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
      deliver = must_schedule_flush_locked (self);
    }

  g_mutex_unlock (&self->out_lock);
  g_mutex_unlock (&self->in_lock);

  q_task_watch_wake_all (woken);

  if (deliver)
    q_task_dispatch_deliver (self->dispatch, &self->flush.node, G_PRIORITY_DEFAULT);
  if (drop)
    q_task_dispatch_destroy_data (self->dispatch, 0, q_task_link_ref (link), drop_flush_source);
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
  break_locked (self, &woken);
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
  .write = stream_write,
  .write_pending = stream_write_pending,
  .stop_pending = stream_stop_pending,
  .get_pending = stream_get_pending,
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
  self->flush.func = flush_delivered;
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
