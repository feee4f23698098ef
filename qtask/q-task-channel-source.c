/* q-task-channel-source.c: what tells a context, or a descriptor, of a channel
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A QTaskWatch wakes a context, from any thread, as the QTaskDispatch of that context does: the
 * context may be on its way out in another thread, and only the dispatch knows how to wake it
 * then. A watch is armed by whoever found that there is nothing to do, under the lock of a link;
 * whoever changes that takes all armed watches out of the list under that lock, and delivers
 * them when it has let go of it. While a delivery is on its way the context will iterate
 * once more, so another one is not needed: in_flight is cleared by the owner before it looks
 * at the link again.
 *
 * A QTaskChannelSource is what q_task_channel_create_source() returns, and what asynchronous
 * calls wait with. Its functions run in the thread that iterates the context; it has no state
 * but what GLib protects. Over descriptors it also polls them.
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

#include "q-task-channel-link-private.h"

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

/* Whoever calls this keeps @context alive meanwhile. */
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

/* Sources */

typedef struct
{
  GIOCondition condition;
  QTaskWatch *watch; /* made in the first prepare */
  GPollFD poll;      /* added to the source if it is open; without events while it is of no
                      * interest */
} QTaskChannelSourceSide;

typedef struct
{
  GSource source;
  QTaskLink *link;       /* owned */
  QTaskChannel *channel; /* owned, or NULL */
  QTaskPending *pending; /* of an asynchronous write, whose owner stops it */
  QTaskWatch *quiet;     /* of a message function: is woken in place of a
                          * dispatch, and nothing is looked at while it is on its way; not owned */
  GCancellable *cancellable;
  QTaskChannelSourceSide sides[2];
  int n_sides;
} QTaskChannelSource;

static gboolean
look (QTaskChannelSource *self)
{
  gboolean ready = FALSE;

  if (self->pending != NULL)
    return self->link->funcs->get_pending (self->link, self->pending) != Q_TASK_LINK_PENDING;

  for (int i = 0; i < self->n_sides; i++)
    {
      QTaskChannelSourceSide *side = &self->sides[i];

      if (self->link->funcs->check (self->link, side->condition, side->watch))
        ready = TRUE;
    }

  return ready || g_cancellable_is_cancelled (self->cancellable);
}

/* Polls the descriptor of the link where there is one, while this side waits for it. Not as a
 * descriptor of which GLib knows more, since it would dispatch the source for a part of a frame. */
static void
poll_descriptor (QTaskChannelSource *self,
                 QTaskChannelSourceSide *side,
                 gboolean is_waiting)
{
  int fd = is_waiting ? self->link->funcs->get_poll_fd (self->link, side->condition) : -1;

  side->poll.events = fd >= 0 ? side->condition : 0;

  if (!is_waiting || side->poll.fd == fd)
    return;

  if (side->poll.fd >= 0)
    g_source_remove_poll ((GSource *) self, &side->poll);

  side->poll.fd = fd;
  side->poll.revents = 0;

  if (fd >= 0)
    g_source_add_poll ((GSource *) self, &side->poll);
}

/* Whether to dispatch. A message function is called by the dispatch of the context: its source
 * has that done, and takes nobody's turn. */
static gboolean
look_and_wake (QTaskChannelSource *self)
{
  if (!look (self))
    return FALSE;

  if (self->quiet == NULL)
    return TRUE;

  q_task_watch_wake (self->quiet);
  return FALSE;
}

static inline gboolean
is_quiet (QTaskChannelSource *self)
{
  return self->quiet != NULL && g_atomic_int_get (&self->quiet->in_flight);
}

static gboolean
channel_source_prepare (GSource *source,
                        int *timeout)
{
  QTaskChannelSource *self = (QTaskChannelSource *) source;

  *timeout = -1;

  for (int i = 0; i < self->n_sides; i++)
    if (self->sides[i].watch == NULL)
      self->sides[i].watch = q_task_watch_new_for_context (g_source_get_context (source));

  if (!is_quiet (self) && look_and_wake (self))
    return TRUE;

  if (self->link->funcs->get_poll_fd != NULL)
    for (int i = 0; i < self->n_sides; i++)
      poll_descriptor (self, &self->sides[i], !is_quiet (self));

  return FALSE;
}

static gboolean
channel_source_check (GSource *source)
{
  QTaskChannelSource *self = (QTaskChannelSource *) source;

  if (is_quiet (self))
    return FALSE;

  for (int i = 0; i < self->n_sides; i++)
    {
      QTaskChannelSourceSide *side = &self->sides[i];

      /* Attached while the context polled, it was not prepared. */
      if (side->watch == NULL)
        return FALSE;

      if (side->poll.fd >= 0 && side->poll.revents != 0)
        self->link->funcs->ready (self->link, side->condition);
    }

  return look_and_wake (self);
}

static gboolean
channel_source_dispatch (GSource *source,
                         GSourceFunc callback,
                         gpointer user_data)
{
  QTaskChannelSource *self = (QTaskChannelSource *) source;

  if (callback == NULL)
    return G_SOURCE_REMOVE;

  if (self->channel == NULL)
    return callback (user_data);

  return ((QTaskChannelSourceFunc) callback) (self->channel, user_data);
}

static void
channel_source_finalize (GSource *source)
{
  QTaskChannelSource *self = (QTaskChannelSource *) source;

  for (int i = 0; i < self->n_sides; i++)
    if (self->sides[i].watch != NULL)
      {
        self->link->funcs->disarm (self->link, self->sides[i].condition, self->sides[i].watch);
        q_task_watch_unref (self->sides[i].watch);
      }

  g_clear_object (&self->cancellable);
  g_clear_object (&self->channel);
  q_task_link_unref (self->link);
}

static gboolean
channel_source_closure_cb (QTaskChannel *channel,
                           gpointer data)
{
  GClosure *closure = data;
  GValue parameter = G_VALUE_INIT;
  GValue result = G_VALUE_INIT;
  gboolean goes_on;

  g_value_init (&result, G_TYPE_BOOLEAN);
  g_value_init (&parameter, Q_TYPE_TASK_CHANNEL);
  g_value_set_object (&parameter, channel);

  g_closure_invoke (closure, &result, 1, &parameter, NULL);

  goes_on = g_value_get_boolean (&result);
  g_value_unset (&parameter);
  g_value_unset (&result);

  return goes_on;
}

static GSourceFuncs channel_source_funcs = {
  .prepare = channel_source_prepare,
  .check = channel_source_check,
  .dispatch = channel_source_dispatch,
  .finalize = channel_source_finalize,
  .closure_callback = (GSourceFunc) channel_source_closure_cb,
};

/* A source for @condition, or for @pending: one whose callback gets @channel, or without that
 * a plain one. */
GSource *
q_task_channel_source_new (QTaskLink *link,
                           QTaskChannel *channel,
                           GIOCondition condition,
                           QTaskPending *pending,
                           GCancellable *cancellable)
{
  GSource *source = g_source_new (&channel_source_funcs, sizeof (QTaskChannelSource));
  QTaskChannelSource *self = (QTaskChannelSource *) source;

  g_source_set_static_name (source, "[qtask] channel");

  self->link = q_task_link_ref (link);
  self->pending = pending;
  if (channel != NULL)
    self->channel = g_object_ref (channel);

  if (condition & G_IO_IN)
    self->sides[self->n_sides++].condition = G_IO_IN;
  if (condition & G_IO_OUT)
    self->sides[self->n_sides++].condition = G_IO_OUT;
  for (int i = 0; i < self->n_sides; i++)
    self->sides[i].poll.fd = -1;

  if (cancellable != NULL)
    {
      GSource *child = g_cancellable_source_new (cancellable);

      self->cancellable = g_object_ref (cancellable);
      g_source_set_dummy_callback (child);
      g_source_add_child_source (source, child);
      g_source_unref (child);
    }

  return source;
}

/* The callback has a reference to @watch. */
void
q_task_channel_source_set_quiet (GSource *source,
                                 QTaskWatch *watch)
{
  ((QTaskChannelSource *) source)->quiet = watch;
}
