/* q-task-channel-source.c: sources that tell a context of a channel
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A QTaskChannelSource is what q_task_channel_create_source() returns, and what asynchronous
 * calls wait with. Its functions run in the thread that iterates the context; it has no state
 * but what GLib protects. Over descriptors it also polls them. What cancels it wakes a watch, in
 * place of a source of GCancellable, which is leaked or worse if it goes while another thread
 * cancels.
 */

#include "config.h"

#include "q-task-channel-link-private.h"

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
  gulong handler; /* on it, from the first prepare on */
  QTaskChannelSourceSide sides[2];
  int n_sides;
} QTaskChannelSource;

static gboolean
look (QTaskChannelSource *self)
{
  gboolean ready = FALSE;

  if (self->pending != NULL &&
      self->link->funcs->get_pending (self->link, self->pending) != Q_TASK_LINK_PENDING)
    return TRUE;

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

static void
source_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                     gpointer data)
{
  q_task_watch_wake (data);
}

static void
watch_closure_notify (gpointer data,
                      GClosure *closure G_GNUC_UNUSED)
{
  q_task_watch_unref (data);
}

static void
watch_cancellable (QTaskChannelSource *self)
{
  QTaskWatch *watch = self->pending != NULL ? self->pending->watch : self->sides[0].watch;

  if (self->cancellable == NULL || self->handler != 0)
    return;

  self->handler = g_signal_connect_data (self->cancellable, "cancelled",
                                         G_CALLBACK (source_cancelled_cb),
                                         q_task_watch_ref (watch), watch_closure_notify, 0);
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

  watch_cancellable (self);

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

  if (self->handler != 0)
    g_signal_handler_disconnect (self->cancellable, self->handler);

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
    self->cancellable = g_object_ref (cancellable);

  return source;
}

/* The callback has a reference to @watch. */
void
q_task_channel_source_set_quiet (GSource *source,
                                 QTaskWatch *watch)
{
  ((QTaskChannelSource *) source)->quiet = watch;
}
