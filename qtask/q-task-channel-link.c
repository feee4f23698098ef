/* q-task-channel-link.c: what links of all kinds have in common
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A link is one end of a channel below its object; see QTaskLinkFuncs.
 *
 * A QTaskWatch wakes a context, from any thread, as the QTaskDispatch of that context does: the
 * context may be on its way out in another thread, and only the dispatch knows how to wake it
 * then. A watch is armed by whoever found that there is nothing to do, under the lock of a link;
 * whoever changes that takes all armed watches out of the list under that lock, and delivers
 * them when it has let go of it. While a delivery is on its way the context will iterate
 * once more, so another one is not needed: in_flight is cleared by the owner before it looks
 * at the link again.
 *
 * A QTaskSignal does the same for whoever polls a descriptor.
 */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#if __has_include(<sys/eventfd.h>)
#include <sys/eventfd.h>
#define HAVE_EVENTFD 1
#endif

#include <glib/gi18n-lib.h>

#include "q-task-channel-link-private.h"

/* Links */

void
q_task_link_init (QTaskLink *link,
                  const QTaskLinkFuncs *funcs)
{
  link->funcs = funcs;
  link->ref_count = 1;
  link->capacity = Q_TASK_CHANNEL_DEFAULT_CAPACITY;
  link->max_message_size = Q_TASK_CHANNEL_DEFAULT_MAX_MESSAGE_SIZE;
}

QTaskLink *
q_task_link_ref (QTaskLink *link)
{
  g_atomic_int_inc (&link->ref_count);

  return link;
}

void
q_task_link_unref (QTaskLink *link)
{
  if (g_atomic_int_dec_and_test (&link->ref_count))
    link->funcs->free (link);
}

gsize
q_task_link_get_capacity (QTaskLink *link)
{
  return (gsize) g_atomic_pointer_get (&link->capacity);
}

gsize
q_task_link_get_max_message_size (QTaskLink *link)
{
  return (gsize) g_atomic_pointer_get (&link->max_message_size);
}

/* Both return whether that is a change. */

gboolean
q_task_link_set_capacity (QTaskLink *link,
                          gsize capacity)
{
  if (q_task_link_get_capacity (link) == capacity)
    return FALSE;

  g_atomic_pointer_set (&link->capacity, capacity);
  link->funcs->limits_changed (link);

  return TRUE;
}

gboolean
q_task_link_set_max_message_size (QTaskLink *link,
                                  gsize max_message_size)
{
  if (q_task_link_get_max_message_size (link) == max_message_size)
    return FALSE;

  g_atomic_pointer_set (&link->max_message_size, max_message_size);
  link->funcs->limits_changed (link);

  return TRUE;
}

/* Calls; the link is NULL where there never was one, which is as good as closed. */

/* Sets @error where the result of a call is one. */
void
q_task_link_set_error (GError **error,
                       QTaskLinkResult result)
{
  switch (result)
    {
    case Q_TASK_LINK_WOULD_BLOCK:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, _ ("The channel is not ready"));
      break;

    case Q_TASK_LINK_CANCELLED:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, _ ("Operation was cancelled"));
      break;

    case Q_TASK_LINK_BROKEN:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE, _ ("The other end of the channel is closed"));
      break;

    case Q_TASK_LINK_CLOSED:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, _ ("The channel is closed"));
      break;

    case Q_TASK_LINK_DONE:
    case Q_TASK_LINK_END:
    case Q_TASK_LINK_FAILED:
      break;

    case Q_TASK_LINK_PENDING:
    default:
      g_assert_not_reached ();
    }
}

QTaskLinkResult
q_task_link_read (QTaskLink *link,
                  QTaskReceiver *receiver,
                  QTaskLinkMode mode,
                  GCancellable *cancellable,
                  GError **error)
{
  QTaskLinkResult result;

  if (g_cancellable_is_cancelled (cancellable))
    result = Q_TASK_LINK_CANCELLED;
  else if (link == NULL)
    result = Q_TASK_LINK_CLOSED;
  else
    result = link->funcs->read (link, receiver, mode, cancellable, error);

  q_task_link_set_error (error, result);

  return result;
}

/* Whether the channel takes messages of that size. */
static gboolean
check_size (QTaskLink *link,
            gsize size,
            GError **error)
{
  gsize max;

  if (link == NULL)
    return TRUE;

  max = q_task_link_get_max_message_size (link);
  if (size <= max)
    return TRUE;

  g_set_error (error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
               _ ("A message of %" G_GSIZE_FORMAT " bytes is larger than the limit of %" G_GSIZE_FORMAT),
                  size, max);
  return FALSE;
}

gboolean
q_task_link_write (QTaskLink *link,
                   QTaskOutgoing *outgoing,
                   QTaskLinkMode mode,
                   GCancellable *cancellable,
                   GError **error)
{
  QTaskLinkResult result;

  if (!check_size (link, outgoing->size, error))
    return FALSE;

  if (g_cancellable_is_cancelled (cancellable))
    result = Q_TASK_LINK_CANCELLED;
  else if (link == NULL)
    result = Q_TASK_LINK_CLOSED;
  else
    result = link->funcs->write (link, outgoing, mode, cancellable, error);

  q_task_link_set_error (error, result);

  return result == Q_TASK_LINK_DONE;
}

/* Watches */

static void
watch_delivered (QTaskDelivery *delivery,
                 gboolean lost)
{
  QTaskWatch *watch = (QTaskWatch *) ((char *) delivery - G_STRUCT_OFFSET (QTaskWatch, delivery));

  g_atomic_int_set (&watch->in_flight, FALSE);

  if (watch->woken != NULL)
    watch->woken (watch->data, lost);

  q_task_watch_unref (watch);
}

QTaskWatch *
q_task_watch_new (QTaskDispatch *dispatch)
{
  QTaskWatch *watch = g_new0 (QTaskWatch, 1);

  watch->ref_count = 1;
  watch->delivery.func = watch_delivered;
  watch->link.data = watch;
  watch->dispatch = q_task_dispatch_ref (dispatch);

  return watch;
}

/* Whoever calls this keeps @context alive meanwhile. */
QTaskWatch *
q_task_watch_new_for_context (GMainContext *context)
{
  QTaskDispatch *dispatch = q_task_dispatch_ref_for_context (context);
  QTaskWatch *watch = q_task_watch_new (dispatch);

  q_task_dispatch_unref (dispatch);

  return watch;
}

QTaskWatch *
q_task_watch_ref (QTaskWatch *watch)
{
  g_atomic_int_inc (&watch->ref_count);

  return watch;
}

void
q_task_watch_unref (QTaskWatch *watch)
{
  if (!g_atomic_int_dec_and_test (&watch->ref_count))
    return;

  g_assert (!watch->is_armed);

  if (watch->destroy != NULL)
    watch->destroy (watch->data);

  q_task_dispatch_unref (watch->dispatch);
  g_free (watch);
}

void
q_task_watch_arm (QTaskWatch *watch,
                  GQueue *list)
{
  if (watch->is_armed)
    return;

  watch->is_armed = TRUE;
  g_queue_push_tail_link (list, &watch->link);
}

void
q_task_watch_disarm (QTaskWatch *watch,
                     GQueue *list)
{
  if (!watch->is_armed)
    return;

  watch->is_armed = FALSE;
  g_queue_unlink (list, &watch->link);
}

/* Puts @watch on the list of those to be woken without the lock, unless it is being woken. */
void
q_task_watch_collect (QTaskWatch *watch,
                      QTaskWatch **woken)
{
  if (!g_atomic_int_compare_and_exchange (&watch->in_flight, FALSE, TRUE))
    return;

  watch->next_woken = *woken;
  *woken = q_task_watch_ref (watch);
}

void
q_task_watch_collect_all (GQueue *list,
                          QTaskWatch **woken)
{
  GList *link;

  while ((link = g_queue_pop_head_link (list)) != NULL)
    {
      QTaskWatch *watch = link->data;

      watch->is_armed = FALSE;
      q_task_watch_collect (watch, woken);
    }
}

void
q_task_watch_wake_all (QTaskWatch *woken)
{
  while (woken != NULL)
    {
      QTaskWatch *watch = woken;

      /* May be woken again at once, and be in another list then. */
      woken = g_steal_pointer (&watch->next_woken);
      q_task_dispatch_deliver (watch->dispatch, &watch->delivery.node, G_PRIORITY_DEFAULT);
    }
}

void
q_task_watch_wake (QTaskWatch *watch)
{
  QTaskWatch *woken = NULL;

  q_task_watch_collect (watch, &woken);
  q_task_watch_wake_all (woken);
}

/* Interrupts */

struct _QTaskInterrupt
{
  int ref_count; /* atomic */
  GMutex mutex;
  GCancellable *cancellable; /* owned by the caller */
  gulong handler;
  void (*func) (gpointer data); /* with the mutex; NULL once it was ended */
  gpointer data;
};

static void
interrupt_unref_notify (gpointer data,
                        GClosure *closure G_GNUC_UNUSED)
{
  QTaskInterrupt *self = data;

  if (!g_atomic_int_dec_and_test (&self->ref_count))
    return;

  g_mutex_clear (&self->mutex);
  g_free (self);
}

static void
interrupt_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                        gpointer data)
{
  QTaskInterrupt *self = data;

  g_mutex_lock (&self->mutex);
  if (self->func != NULL)
    self->func (self->data);
  g_mutex_unlock (&self->mutex);
}

/* Returns NULL if there is no @cancellable. With no lock that @func takes. */
QTaskInterrupt *
q_task_interrupt_begin (GCancellable *cancellable,
                        void (*func) (gpointer data),
                        gpointer data)
{
  QTaskInterrupt *self;

  if (cancellable == NULL)
    return NULL;

  self = g_new0 (QTaskInterrupt, 1);
  self->ref_count = 2;
  g_mutex_init (&self->mutex);
  self->cancellable = cancellable;
  self->func = func;
  self->data = data;
  self->handler = g_signal_connect_data (cancellable, "cancelled", G_CALLBACK (interrupt_cancelled_cb),
                                         self, interrupt_unref_notify, 0);

  if (g_cancellable_is_cancelled (cancellable))
    interrupt_cancelled_cb (cancellable, self);

  return self;
}

/* The function does not run any more when this returns. */
void
q_task_interrupt_end (QTaskInterrupt *self)
{
  if (self == NULL)
    return;

  g_mutex_lock (&self->mutex);
  self->func = NULL;
  g_mutex_unlock (&self->mutex);

  g_signal_handler_disconnect (self->cancellable, self->handler);
  interrupt_unref_notify (self, NULL);
}

/* Signals */

/* Fails when there are no descriptors left. */
gboolean
q_task_signal_open (QTaskSignal *signal,
                    GError **error)
{
  gboolean opened;

  if (signal->fds[0] >= 0)
    return TRUE;

#ifdef HAVE_EVENTFD
  signal->fds[0] = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  signal->fds[1] = signal->fds[0];
  opened = signal->fds[0] >= 0;
#else
  opened = pipe (signal->fds) == 0;
  if (opened)
    for (int i = 0; i < 2; i++)
      {
        fcntl (signal->fds[i], F_SETFD, FD_CLOEXEC);
        fcntl (signal->fds[i], F_SETFL, O_NONBLOCK);
      }
#endif

  if (!opened)
    {
      int saved_errno = errno;

      signal->fds[0] = signal->fds[1] = -1;
      g_set_error_literal (error, G_IO_ERROR, g_io_error_from_errno (saved_errno), g_strerror (saved_errno));
      return FALSE;
    }

  if (signal->is_set)
    {
      signal->is_set = FALSE;
      q_task_signal_set (signal);
    }

  return TRUE;
}

/* Each call with the lock of whoever has the signal; also while it has no descriptor. */
void
q_task_signal_set (QTaskSignal *signal)
{
  guint64 one = 1;

  if (signal->is_set)
    return;

  signal->is_set = TRUE;
  if (signal->fds[1] >= 0)
    while (write (signal->fds[1], &one, sizeof one) < 0 && errno == EINTR)
      ;
}

void
q_task_signal_unset (QTaskSignal *signal)
{
  guint64 count;

  if (!signal->is_set)
    return;

  signal->is_set = FALSE;
  if (signal->fds[0] >= 0)
    while (read (signal->fds[0], &count, sizeof count) < 0 && errno == EINTR)
      ;
}

void
q_task_signal_close (QTaskSignal *signal)
{
  if (signal->fds[0] < 0)
    return;

  close (signal->fds[0]);
  if (signal->fds[1] != signal->fds[0])
    close (signal->fds[1]);

  signal->fds[0] = signal->fds[1] = -1;
}
