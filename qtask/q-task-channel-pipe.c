/* q-task-channel-pipe.c: channels in memory
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A pair of links shares two pipes, one for each direction. A pipe is a list of messages that
 * is in two parts: writers append to the inbox, under the lock; readers, under the read lock,
 * take from the list that was taken, and when that is empty steal the inbox as a whole. So writer
 * and reader meet once a burst, and a message costs its writer one allocation (none but a
 * node where it is a GBytes) and no copy but the one that makes it.
 *
 * What is under way is written - consumed: the former counts the writers under the lock, the latter the
 * readers, atomically. Both wrap around.
 *
 *   read_lock   taken; the only writer of consumed
 *   lock        all else. Is taken after read_lock, and is the only one to be held when
 *               threads and contexts are told.
 *
 * Waking a reader: readers find the inbox empty under the lock, and put themselves into a list
 * under the same; a writer that appends sees them there, and takes them out, so
 * that a burst wakes once. There is at most one wake-up for each message: a sleeper that does
 * not use its own hands it on.
 *
 * Waking a writer: readers do not take the lock to consume. A writer that finds no room sets
 * writers_wait and then looks at consumed once more; a reader changes consumed and then looks at
 * writers_wait. Both are sequentially consistent, so one of them sees the other. Whoever makes
 * room moves the messages that wait for it into the inbox itself, in their order,
 * and then tells whose they were: so they are accepted or not, and nothing overtakes them.
 *
 * tests/models/pipe.pml goes through all the ways in which that can happen.
 */

#include "config.h"

#include <glib/gi18n-lib.h>
#include <string.h>

#include "q-task-channel-link-private.h"

/* How often to look at the lock, or for a message, before going to sleep */
#define LOCK_TRIES 40
#define LOOK_ROUNDS 20

typedef struct _QTaskMessage QTaskMessage;
typedef struct _QTaskPipe QTaskPipe;
typedef struct _QTaskMemoryLink QTaskMemoryLink;

struct _QTaskMessage
{
  QTaskMessage *next;
  gsize size;
  GBytes *bytes; /* or NULL, and the payload is behind */
};

struct _QTaskPipe
{
  int ref_count; /* atomic */

  /* Writers */
  GMutex lock;
  QTaskMessage *inbox; /* also read atomically without */
  QTaskMessage *last;
  gsize written;
  gsize seen_consumed; /* what consumed was when it was last looked at */
  gsize capacity;
  gboolean reader_closed;
  gboolean writer_closed; /* also read atomically without */
  GQueue pending;         /* of QTaskPending */
  GQueue room_watches;
  GQueue sleepers; /* readers */
  GQueue message_watches;
  QTaskSignal signal; /* readable while there is something to read */
  int has_signal;     /* also read atomically without */
  void (*notify) (gpointer data);
  gpointer notify_data;
  int n_notifying;
  GCond notified;

  /* Readers; far from what writers change */
  char padding[64];
  GMutex read_lock;
  QTaskMessage *taken;
  gsize consumed;
  int writers_wait;
};

struct _QTaskMemoryLink
{
  QTaskLink link;
  QTaskPipe *in;
  QTaskPipe *out;
};

/* What is to be told once the lock is released */
typedef struct
{
  QTaskWatch *woken;
  gboolean notify;
} QTaskTold;

static inline void
lock (GMutex *mutex)
{
  if (g_mutex_trylock (mutex))
    return;

  if (q_task_may_spin ())
    for (int i = 0; i < LOCK_TRIES; i++)
      {
        q_task_pause ();
        if (g_mutex_trylock (mutex))
          return;
      }

  g_mutex_lock (mutex);
}

/* Messages */

static inline gpointer
message_payload (QTaskMessage *message)
{
  return message + 1;
}

static QTaskMessage *
message_new (QTaskOutgoing *outgoing)
{
  QTaskMessage *message;

  message = g_malloc (sizeof (QTaskMessage) + (outgoing->bytes != NULL ? 0 : outgoing->size));
  message->next = NULL;
  message->size = outgoing->size;
  message->bytes = outgoing->bytes;

  if (outgoing->bytes != NULL)
    g_bytes_ref (outgoing->bytes);
  else if (outgoing->data != NULL)
    memcpy (message_payload (message), outgoing->data, outgoing->size);

  return message;
}

static void
message_free (QTaskMessage *message)
{
  g_clear_pointer (&message->bytes, g_bytes_unref);
  g_free (message);
}

static void
message_free_all (QTaskMessage *message)
{
  while (message != NULL)
    {
      QTaskMessage *next = message->next;

      message_free (message);
      message = next;
    }
}

static void
message_receive (QTaskMessage *message,
                 QTaskReceiver *receiver)
{
  receiver->message_size = message->size;

  if (receiver->into_buffer)
    {
      gsize size = MIN (message->size, receiver->size);

      if (size > 0)
        memcpy (receiver->buffer,
                message->bytes != NULL ? g_bytes_get_data (message->bytes, NULL) : message_payload (message),
                size);
      message_free (message);
    }
  else if (message->bytes != NULL)
    {
      receiver->bytes = message->bytes;
      g_free (message);
    }
  else
    {
      receiver->bytes = g_bytes_new_with_free_func (message_payload (message), message->size,
                                                    g_free, message);
    }
}

/* The pipe */

static QTaskPipe *
pipe_new (void)
{
  QTaskPipe *pipe = g_new0 (QTaskPipe, 1);

  pipe->ref_count = 2;
  pipe->capacity = Q_TASK_CHANNEL_DEFAULT_CAPACITY;
  pipe->signal = (QTaskSignal) Q_TASK_SIGNAL_INIT;
  g_mutex_init (&pipe->lock);
  g_mutex_init (&pipe->read_lock);
  g_cond_init (&pipe->notified);

  return pipe;
}

static void
pipe_unref (QTaskPipe *pipe)
{
  if (!g_atomic_int_dec_and_test (&pipe->ref_count))
    return;

  g_assert (pipe->pending.length == 0);
  g_assert (pipe->sleepers.length == 0);
  g_assert (pipe->message_watches.length == 0);
  g_assert (pipe->room_watches.length == 0);

  message_free_all (pipe->inbox);
  message_free_all (pipe->taken);
  q_task_signal_close (&pipe->signal);
  g_mutex_clear (&pipe->lock);
  g_mutex_clear (&pipe->read_lock);
  g_cond_clear (&pipe->notified);
  g_free (pipe);
}

/* Lets go of the lock, and tells. */
static void
unlock_and_tell (QTaskPipe *pipe,
                 QTaskTold *told)
{
  void (*notify) (gpointer data) = NULL;
  gpointer data = NULL;

  if (told->notify && pipe->notify != NULL)
    {
      notify = pipe->notify;
      data = pipe->notify_data;
      pipe->n_notifying++;
    }

  g_mutex_unlock (&pipe->lock);

  q_task_watch_wake_all (told->woken);

  if (notify != NULL)
    {
      notify (data);

      g_mutex_lock (&pipe->lock);
      pipe->n_notifying--;
      g_cond_broadcast (&pipe->notified);
      g_mutex_unlock (&pipe->lock);
    }
}

static void
wake_sleeper_locked (QTaskPipe *pipe)
{
  GList *link = g_queue_pop_head_link (&pipe->sleepers);
  QTaskSleeper *sleeper;

  if (link == NULL)
    return;

  sleeper = link->data;
  sleeper->is_listed = FALSE;
  sleeper->is_woken = TRUE;
  g_cond_signal (&sleeper->cond);
}

static void
append_locked (QTaskPipe *pipe,
               QTaskMessage *message,
               QTaskTold *told)
{
  if (pipe->inbox == NULL)
    {
      g_atomic_pointer_set (&pipe->inbox, message);
      told->notify = TRUE;

      if (G_UNLIKELY (pipe->has_signal))
        q_task_signal_set (&pipe->signal);
    }
  else
    pipe->last->next = message;

  pipe->last = message;
  pipe->written += q_task_link_weigh (message->size);

  if (pipe->sleepers.head != NULL)
    wake_sleeper_locked (pipe);
  if (pipe->message_watches.head != NULL)
    q_task_watch_collect_all (&pipe->message_watches, &told->woken);
}

static gboolean
fits_locked (QTaskPipe *pipe,
             gsize weight)
{
  if (q_task_link_fits (pipe->written - pipe->seen_consumed, weight, pipe->capacity))
    return TRUE;

  pipe->seen_consumed = (gsize) g_atomic_pointer_get (&pipe->consumed);

  return q_task_link_fits (pipe->written - pipe->seen_consumed, weight, pipe->capacity);
}

static void
decide_pending_locked (QTaskPipe *pipe,
                       QTaskPending *pending,
                       QTaskLinkResult result,
                       QTaskTold *told)
{
  g_queue_unlink (&pipe->pending, &pending->link);
  pending->result = result;

  if (pending->watch != NULL)
    q_task_watch_collect (pending->watch, &told->woken);
  else
    {
      QTaskSleeper *sleeper = pending->link.data;

      sleeper->is_woken = TRUE;
      g_cond_signal (&sleeper->cond);
    }
}

/* Accepts what fits now of what waits. */
static void
admit_locked (QTaskPipe *pipe,
              QTaskTold *told)
{
  while (pipe->pending.head != NULL)
    {
      QTaskPending *pending = (QTaskPending *) pipe->pending.head; /* its first member */

      if (!fits_locked (pipe, pending->weight))
        break;

      append_locked (pipe, g_steal_pointer (&pending->message), told);
      decide_pending_locked (pipe, pending, Q_TASK_LINK_DONE, told);
    }

  if (pipe->room_watches.head != NULL && pipe->pending.head == NULL && fits_locked (pipe, 1))
    q_task_watch_collect_all (&pipe->room_watches, &told->woken);

  g_atomic_int_set (&pipe->writers_wait,
                    pipe->pending.head != NULL || pipe->room_watches.head != NULL);
}

static void
limits_changed (QTaskLink *link)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->out;
  QTaskTold told = { 0 };

  g_mutex_lock (&pipe->lock);
  pipe->capacity = q_task_link_get_capacity (link);
  admit_locked (pipe, &told);
  unlock_and_tell (pipe, &told);
}

/* Reading */

/* With the read lock: takes a message, if there is one. */
static QTaskMessage *
pop_read_locked (QTaskPipe *pipe)
{
  QTaskMessage *message = pipe->taken;

  pipe->taken = message->next;
  if (pipe->taken != NULL)
    __builtin_prefetch (pipe->taken);

  g_atomic_pointer_set (&pipe->consumed, pipe->consumed + q_task_link_weigh (message->size));

  return message;
}

/* With both locks: moves the inbox. */
static void
take_inbox_locked (QTaskPipe *pipe)
{
  pipe->taken = pipe->inbox;
  g_atomic_pointer_set (&pipe->inbox, NULL);
  pipe->last = NULL;
}

/* With both locks: the descriptor is readable while something is. */
static void
update_signal_locked (QTaskPipe *pipe)
{
  if (!pipe->has_signal)
    return;

  if (pipe->taken != NULL || pipe->inbox != NULL || pipe->writer_closed)
    q_task_signal_set (&pipe->signal);
  else
    q_task_signal_unset (&pipe->signal);
}

/* After a message was taken. */
static void
after_pop (QTaskPipe *pipe)
{
  QTaskTold told = { 0 };

  if (G_LIKELY (!g_atomic_int_get (&pipe->writers_wait)))
    return;

  lock (&pipe->lock);
  admit_locked (pipe, &told);
  unlock_and_tell (pipe, &told);
}

static QTaskLinkResult
pipe_try_read (QTaskPipe *pipe,
               QTaskReceiver *receiver,
               QTaskSleeper *sleeper)
{
  QTaskMessage *message = NULL;
  QTaskLinkResult result = Q_TASK_LINK_DONE;

  lock (&pipe->read_lock);

  if (pipe->taken == NULL)
    {
      lock (&pipe->lock);

      take_inbox_locked (pipe);

      if (pipe->taken == NULL)
        {
          if (pipe->reader_closed)
            result = Q_TASK_LINK_CLOSED;
          else if (pipe->writer_closed)
            result = Q_TASK_LINK_END;
          else
            {
              result = Q_TASK_LINK_WOULD_BLOCK;

              if (sleeper != NULL && !sleeper->is_cancelled)
                {
                  sleeper->is_listed = TRUE;
                  g_queue_push_tail_link (&pipe->sleepers, &sleeper->link);
                }
            }
        }

      g_mutex_unlock (&pipe->lock);
    }

  if (result == Q_TASK_LINK_DONE)
    {
      message = pop_read_locked (pipe);

      if (G_UNLIKELY (pipe->taken == NULL && g_atomic_int_get (&pipe->has_signal)))
        {
          lock (&pipe->lock);
          update_signal_locked (pipe);
          g_mutex_unlock (&pipe->lock);
        }
    }

  g_mutex_unlock (&pipe->read_lock);

  if (message != NULL)
    {
      after_pop (pipe);
      message_receive (message, receiver);
    }

  return result;
}

typedef struct
{
  QTaskPipe *pipe;
  QTaskSleeper *sleeper;
} QTaskCancelClosure;

static void
sleeper_cancelled (gpointer data)
{
  QTaskCancelClosure *closure = data;

  g_mutex_lock (&closure->pipe->lock);
  closure->sleeper->is_cancelled = TRUE;
  g_cond_signal (&closure->sleeper->cond);
  g_mutex_unlock (&closure->pipe->lock);
}

static QTaskLinkResult
pipe_read_blocking (QTaskPipe *pipe,
                    QTaskReceiver *receiver,
                    GCancellable *cancellable)
{
  QTaskSleeper sleeper = { 0 };
  QTaskCancelClosure closure = { pipe, &sleeper };
  QTaskLinkResult result;
  QTaskInterrupt *interrupt;

  sleeper.link.data = &sleeper;
  g_cond_init (&sleeper.cond);

  interrupt = q_task_interrupt_begin (cancellable, sleeper_cancelled, &closure);

  for (;;)
    {
      if (q_task_may_spin ())
        for (int i = 0; i < LOOK_ROUNDS && g_atomic_pointer_get (&pipe->inbox) == NULL && !g_atomic_int_get (&pipe->writer_closed); i++)
          q_task_spin_briefly ();

      result = pipe_try_read (pipe, receiver, &sleeper);
      if (result != Q_TASK_LINK_WOULD_BLOCK)
        break;

      g_mutex_lock (&pipe->lock);

      while (!sleeper.is_woken && !sleeper.is_cancelled)
        g_cond_wait (&sleeper.cond, &pipe->lock);

      if (sleeper.is_cancelled)
        {
          if (sleeper.is_listed)
            g_queue_unlink (&pipe->sleepers, &sleeper.link);
          else if (sleeper.is_woken)
            wake_sleeper_locked (pipe);

          result = Q_TASK_LINK_CANCELLED;
        }

      sleeper.is_listed = FALSE;
      sleeper.is_woken = FALSE;

      g_mutex_unlock (&pipe->lock);

      if (result == Q_TASK_LINK_CANCELLED)
        break;
    }

  q_task_interrupt_end (interrupt);
  g_cond_clear (&sleeper.cond);

  return result;
}

static QTaskLinkResult
memory_read (QTaskLink *link,
             QTaskReceiver *receiver,
             QTaskLinkMode mode,
             GCancellable *cancellable,
             GError **error G_GNUC_UNUSED)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->in;
  QTaskLinkResult result = pipe_try_read (pipe, receiver, NULL);

  if (result == Q_TASK_LINK_WOULD_BLOCK && mode == Q_TASK_LINK_WAIT)
    result = pipe_read_blocking (pipe, receiver, cancellable);

  return result;
}

/* Writing */

/* Whether a message may be appended now, with the lock. */
static QTaskLinkResult
may_write_locked (QTaskPipe *pipe,
                  gsize weight)
{
  if (G_UNLIKELY (pipe->writer_closed))
    return Q_TASK_LINK_CLOSED;

  if (G_UNLIKELY (pipe->reader_closed))
    return Q_TASK_LINK_BROKEN;

  if (pipe->pending.head != NULL || !fits_locked (pipe, weight))
    return Q_TASK_LINK_WOULD_BLOCK;

  return Q_TASK_LINK_DONE;
}

/* With the lock; to be followed by admit_locked(), which looks once more. */
static void
add_pending_locked (QTaskPipe *pipe,
                    QTaskPending *pending)
{
  pending->result = Q_TASK_LINK_PENDING;
  g_queue_push_tail_link (&pipe->pending, &pending->link);
  g_atomic_int_set (&pipe->writers_wait, TRUE);
}

static QTaskLinkResult
pipe_write_blocking (QTaskPipe *pipe,
                     QTaskMessage *message,
                     GCancellable *cancellable)
{
  QTaskSleeper sleeper = { 0 };
  QTaskCancelClosure closure = { pipe, &sleeper };
  QTaskPending pending = { 0 };
  QTaskTold told = { 0 };
  QTaskLinkResult result;
  QTaskInterrupt *interrupt;

  g_cond_init (&sleeper.cond);
  pending.link.data = &sleeper;
  pending.message = message;
  pending.weight = q_task_link_weigh (message->size);

  interrupt = q_task_interrupt_begin (cancellable, sleeper_cancelled, &closure);

  g_mutex_lock (&pipe->lock);

  result = may_write_locked (pipe, pending.weight);
  if (result == Q_TASK_LINK_DONE || result == Q_TASK_LINK_WOULD_BLOCK)
    {
      add_pending_locked (pipe, &pending);
      admit_locked (pipe, &told);

      if (pending.result == Q_TASK_LINK_PENDING)
        {
          /* What admit_locked() collected is told before this thread sleeps. */
          unlock_and_tell (pipe, &told);
          memset (&told, 0, sizeof told);
          g_mutex_lock (&pipe->lock);
        }

      while (pending.result == Q_TASK_LINK_PENDING && !sleeper.is_cancelled)
        g_cond_wait (&sleeper.cond, &pipe->lock);

      if (pending.result == Q_TASK_LINK_PENDING)
        {
          g_queue_unlink (&pipe->pending, &pending.link);
          pending.result = Q_TASK_LINK_CANCELLED;
          admit_locked (pipe, &told); /* a smaller one may be next */
        }

      result = pending.result;
    }

  unlock_and_tell (pipe, &told);

  q_task_interrupt_end (interrupt);
  g_cond_clear (&sleeper.cond);

  if (pending.message != NULL)
    message_free (pending.message);

  return result;
}

static QTaskLinkResult
memory_write (QTaskLink *link,
              QTaskOutgoing *outgoing,
              QTaskLinkMode mode,
              GCancellable *cancellable,
              GError **error G_GNUC_UNUSED)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->out;
  QTaskMessage *message = message_new (outgoing);
  QTaskTold told = { 0 };
  QTaskLinkResult result;

  lock (&pipe->lock);
  result = may_write_locked (pipe, q_task_link_weigh (message->size));
  if (result == Q_TASK_LINK_DONE)
    append_locked (pipe, message, &told);
  unlock_and_tell (pipe, &told);

  if (result == Q_TASK_LINK_DONE)
    return result;

  if (result == Q_TASK_LINK_WOULD_BLOCK && mode == Q_TASK_LINK_WAIT)
    return pipe_write_blocking (pipe, message, cancellable);

  message_free (message);

  return result;
}

static QTaskLinkResult
memory_write_pending (QTaskLink *link,
                      QTaskPending *pending)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->out;
  QTaskOutgoing outgoing = { .bytes = pending->bytes };
  QTaskTold told = { 0 };
  QTaskMessage *unsent = NULL;
  QTaskLinkResult result;

  outgoing.data = g_bytes_get_data (pending->bytes, &outgoing.size);
  pending->weight = q_task_link_weigh (outgoing.size);
  pending->message = message_new (&outgoing);

  lock (&pipe->lock);

  pending->result = may_write_locked (pipe, pending->weight);
  if (pending->result == Q_TASK_LINK_DONE)
    append_locked (pipe, g_steal_pointer (&pending->message), &told);
  else if (pending->result == Q_TASK_LINK_WOULD_BLOCK)
    {
      add_pending_locked (pipe, pending);
      admit_locked (pipe, &told);
    }
  else
    unsent = g_steal_pointer (&pending->message);

  result = pending->result;

  unlock_and_tell (pipe, &told);

  if (unsent != NULL)
    message_free (unsent);

  return result;
}

static QTaskLinkResult
memory_stop_pending (QTaskLink *link,
                     QTaskPending *pending)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->out;
  QTaskMessage *unsent;
  QTaskTold told = { 0 };
  QTaskLinkResult result;

  lock (&pipe->lock);

  if (pending->result == Q_TASK_LINK_PENDING)
    {
      g_queue_unlink (&pipe->pending, &pending->link);
      pending->result = Q_TASK_LINK_CANCELLED;
      admit_locked (pipe, &told);
    }

  unsent = g_steal_pointer (&pending->message);
  result = pending->result;

  unlock_and_tell (pipe, &told);

  if (unsent != NULL)
    message_free (unsent);

  return result;
}

static QTaskLinkResult
memory_get_pending (QTaskLink *link,
                    QTaskPending *pending)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->out;
  QTaskLinkResult result;

  lock (&pipe->lock);
  result = pending->result;
  g_mutex_unlock (&pipe->lock);

  return result;
}

/* Watching */

static gboolean
check_read (QTaskPipe *pipe,
            QTaskWatch *watch)
{
  gboolean ready;

  lock (&pipe->read_lock);
  lock (&pipe->lock);

  ready = pipe->taken != NULL || pipe->inbox != NULL || pipe->reader_closed || pipe->writer_closed;
  if (ready)
    q_task_watch_disarm (watch, &pipe->message_watches);
  else
    q_task_watch_arm (watch, &pipe->message_watches);

  g_mutex_unlock (&pipe->lock);
  g_mutex_unlock (&pipe->read_lock);

  return ready;
}

static gboolean
check_write (QTaskPipe *pipe,
             QTaskWatch *watch)
{
  gboolean ready;

  lock (&pipe->lock);

  ready = may_write_locked (pipe, 1) != Q_TASK_LINK_WOULD_BLOCK;
  if (!ready)
    {
      q_task_watch_arm (watch, &pipe->room_watches);
      g_atomic_int_set (&pipe->writers_wait, TRUE);
      ready = may_write_locked (pipe, 1) != Q_TASK_LINK_WOULD_BLOCK;
    }
  if (ready)
    q_task_watch_disarm (watch, &pipe->room_watches);

  g_mutex_unlock (&pipe->lock);

  return ready;
}

static gboolean
memory_check (QTaskLink *link,
              GIOCondition condition,
              QTaskWatch *watch)
{
  QTaskMemoryLink *self = (QTaskMemoryLink *) link;

  return condition == G_IO_IN ? check_read (self->in, watch) : check_write (self->out, watch);
}

static void
memory_disarm (QTaskLink *link,
               GIOCondition condition,
               QTaskWatch *watch)
{
  QTaskMemoryLink *self = (QTaskMemoryLink *) link;
  QTaskPipe *pipe = condition == G_IO_IN ? self->in : self->out;

  g_mutex_lock (&pipe->lock);
  q_task_watch_disarm (watch, condition == G_IO_IN ? &pipe->message_watches : &pipe->room_watches);
  g_mutex_unlock (&pipe->lock);
}

static int
memory_get_fd (QTaskLink *link,
               GError **error)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->in;
  int fd = -1;

  g_mutex_lock (&pipe->read_lock);
  g_mutex_lock (&pipe->lock);

  if (pipe->reader_closed)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, _ ("The channel is closed"));
    }
  else if (q_task_signal_open (&pipe->signal, error))
    {
      g_atomic_int_set (&pipe->has_signal, TRUE);
      update_signal_locked (pipe);
      fd = pipe->signal.fds[0];
    }

  g_mutex_unlock (&pipe->lock);
  g_mutex_unlock (&pipe->read_lock);

  return fd;
}

static void
memory_set_notify (QTaskLink *link,
                   void (*func) (gpointer data),
                   gpointer data)
{
  QTaskPipe *pipe = ((QTaskMemoryLink *) link)->in;

  g_mutex_lock (&pipe->lock);

  pipe->notify = NULL;
  while (pipe->n_notifying > 0)
    g_cond_wait (&pipe->notified, &pipe->lock);

  pipe->notify = func;
  pipe->notify_data = data;

  g_mutex_unlock (&pipe->lock);
}

/* Closing */

/* Everybody who waits is told. */
static void
wake_all_locked (QTaskPipe *pipe,
                 QTaskLinkResult writers_result,
                 QTaskTold *told)
{
  while (pipe->pending.head != NULL)
    decide_pending_locked (pipe, (QTaskPending *) pipe->pending.head, writers_result, told);
  while (pipe->sleepers.head != NULL)
    wake_sleeper_locked (pipe);

  q_task_watch_collect_all (&pipe->room_watches, &told->woken);
  q_task_watch_collect_all (&pipe->message_watches, &told->woken);
  g_atomic_int_set (&pipe->writers_wait, FALSE);
  told->notify = TRUE;
}

static void
close_reader (QTaskPipe *pipe)
{
  QTaskMessage *unread[2] = { NULL, NULL };
  QTaskTold told = { 0 };

  g_mutex_lock (&pipe->read_lock);
  g_mutex_lock (&pipe->lock);

  if (!pipe->reader_closed)
    {
      pipe->reader_closed = TRUE;
      unread[0] = g_steal_pointer (&pipe->taken);
      unread[1] = pipe->inbox;
      g_atomic_pointer_set (&pipe->inbox, NULL);
      pipe->last = NULL;
      g_atomic_int_set (&pipe->has_signal, FALSE);
      q_task_signal_close (&pipe->signal);
      wake_all_locked (pipe, Q_TASK_LINK_BROKEN, &told);
    }

  g_mutex_unlock (&pipe->read_lock);
  unlock_and_tell (pipe, &told);

  message_free_all (unread[0]);
  message_free_all (unread[1]);
}

static void
close_writer (QTaskPipe *pipe)
{
  QTaskTold told = { 0 };

  g_mutex_lock (&pipe->lock);

  if (!pipe->writer_closed)
    {
      g_atomic_int_set (&pipe->writer_closed, TRUE);
      if (pipe->has_signal)
        q_task_signal_set (&pipe->signal);
      wake_all_locked (pipe, Q_TASK_LINK_CLOSED, &told);
    }

  unlock_and_tell (pipe, &told);
}

static void
memory_close (QTaskLink *link)
{
  QTaskMemoryLink *self = (QTaskMemoryLink *) link;

  close_writer (self->out);
  close_reader (self->in);
}

static gboolean
memory_is_closed (QTaskLink *link)
{
  return g_atomic_int_get (&((QTaskMemoryLink *) link)->out->writer_closed);
}

static void
memory_free (QTaskLink *link)
{
  QTaskMemoryLink *self = (QTaskMemoryLink *) link;

  memory_close (link);
  pipe_unref (self->in);
  pipe_unref (self->out);
  g_free (self);
}

static const QTaskLinkFuncs memory_link_funcs = {
  .read = memory_read,
  .write = memory_write,
  .write_pending = memory_write_pending,
  .stop_pending = memory_stop_pending,
  .get_pending = memory_get_pending,
  .check = memory_check,
  .disarm = memory_disarm,
  .get_fd = memory_get_fd,
  .limits_changed = limits_changed,
  .close = memory_close,
  .is_closed = memory_is_closed,
  .set_notify = memory_set_notify,
  .free = memory_free,
};

static QTaskLink *
memory_link_new (QTaskPipe *in,
                 QTaskPipe *out)
{
  QTaskMemoryLink *self = g_new0 (QTaskMemoryLink, 1);

  q_task_link_init (&self->link, &memory_link_funcs);
  self->in = in;
  self->out = out;

  return &self->link;
}

void
q_task_link_new_pair (QTaskLink **first,
                      QTaskLink **second)
{
  QTaskPipe *there = pipe_new ();
  QTaskPipe *back = pipe_new ();

  *first = memory_link_new (back, there);
  *second = memory_link_new (there, back);
}
