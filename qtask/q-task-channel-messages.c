/* q-task-channel-messages.c: the message function of a channel
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Messages are delivered as completions are, by the QTaskDispatch of the context: a watch, armed
 * while there is nothing to read, is delivered when there is, and its function, called by the
 * owner, reads for a while and is delivered again. So messages, and those of any number of
 * channels along with completions, share the slices and rests of the dispatch, and none of them
 * makes what is less urgent wait.
 *
 * Before the first function of a slice is called the next slice is on its way already, for a
 * nested main loop in that function.
 *
 * Over descriptors a source in the context polls, and wakes the watch; it is still while the
 * watch is on its way.
 *
 * Any thread may set another function: stopped is set, and then the watch is disarmed, by that
 * thread; the owner, which may be arming it, does so before it looks at stopped. All else is used
 * by the owner alone. A QTaskMessages holds no reference to its channel. What the user gave
 * is destroyed, by the owner, with its last reference: the channel has one, the watch (as long
 * as it lives: until it is stopped, and its last delivery has been made) and a running function
 * others.
 */

#include "config.h"

#include "q-task-channel-link-private.h"

/* Of the 2 ms of the dispatch */
#define SLICE_USEC 1000

/* So many functions are called between two looks at the clock, if they are quick. */
#define MAX_UNTIMED 16
#define QUICK_USEC 20

struct _QTaskMessages
{
  int ref_count;  /* atomic */
  int stopped;    /* atomic: no more calls */
  gboolean ended; /* the end was told */
  guint n_holds;  /* references to the channel that run_functions() has, once for each nested one */
  GWeakRef channel;
  QTaskLink *link; /* owned */
  QTaskDispatch *dispatch;
  QTaskWatch *watch; /* owned until stopped; owns this */
  GSource *source;   /* over descriptors, until the end */
  guint thread_id;
  QTaskChannelMessageFunc func;
  gpointer opaque;
  GDestroyNotify destroy;
};

QTaskMessages *
q_task_messages_ref (QTaskMessages *messages)
{
  g_atomic_int_inc (&messages->ref_count);

  return messages;
}

void
q_task_messages_unref (QTaskMessages *messages)
{
  if (!g_atomic_int_dec_and_test (&messages->ref_count))
    return;

  q_task_dispatch_destroy_data (messages->dispatch, messages->thread_id,
                                messages->opaque, messages->destroy);

  if (messages->source != NULL)
    g_source_unref (messages->source);
  g_weak_ref_clear (&messages->channel);
  q_task_link_unref (messages->link);
  q_task_dispatch_unref (messages->dispatch);
  g_free (messages);
}

/* Whether the user still has the channel: a function may drop the last reference. */
static gboolean
is_held (QTaskMessages *messages,
         QTaskChannel *channel)
{
  return (guint) g_atomic_int_get ((int *) &G_OBJECT (channel)->ref_count) > messages->n_holds;
}

/* Reads, and calls the function, until there is nothing more or the @slice has passed (0: however
 * long it takes). Returns whether it was called. The caller has a reference to @channel. */
static gboolean
run_functions (QTaskMessages *messages,
               QTaskChannel *channel,
               gint64 slice)
{
  gint64 start = slice > 0 ? g_get_monotonic_time () : 0;
  gint64 last = start;
  guint n_untimed = 0;
  guint n_until_look = 1;
  gboolean called = FALSE;

  messages->n_holds++;

  while (!g_atomic_int_get (&messages->stopped) && !messages->ended && is_held (messages, channel))
    {
      QTaskReceiver receiver = { .keep_error = TRUE };
      QTaskLinkResult result;

      if (slice > 0 && ++n_untimed > n_until_look)
        {
          gint64 now = g_get_monotonic_time ();

          if (now - start >= slice)
            break;

          n_until_look = now - last < QUICK_USEC ? MIN (2 * n_until_look, MAX_UNTIMED) : 1;
          last = now;
          n_untimed = 1;
        }

      result = messages->link->funcs->read (messages->link, &receiver, Q_TASK_LINK_TRY, NULL, NULL);

      if (result == Q_TASK_LINK_DONE)
        {
          called = TRUE;
          messages->func (channel, receiver.bytes, messages->opaque);
          g_bytes_unref (receiver.bytes);
        }
      else if (result == Q_TASK_LINK_END || result == Q_TASK_LINK_FAILED)
        {
          called = TRUE;
          messages->ended = TRUE;
          messages->func (channel, NULL, messages->opaque);
        }
      else
        {
          if (result == Q_TASK_LINK_CLOSED)
            messages->ended = TRUE;
          break;
        }
    }

  messages->n_holds--;

  return called;
}

/* By the owner, when there will be no more. */
static void
drop_source (QTaskMessages *messages)
{
  if (messages->source == NULL)
    return;

  /* A context that goes destroys its sources itself. */
  if (!q_task_dispatch_is_lost (messages->dispatch))
    g_source_destroy (messages->source);

  g_clear_pointer (&messages->source, g_source_unref);
}

static void
drop_source_and_unref (gpointer data)
{
  QTaskMessages *messages = data;

  drop_source (messages);
  q_task_messages_unref (messages);
}

/* By the owner, or with @lost in any thread: there may be something to read, or this is what
 * follows a slice. */
static void
messages_woken (gpointer data,
                gboolean lost)
{
  QTaskMessages *messages = data;
  QTaskWatch *watch = messages->watch; /* lives as long as this function runs */
  QTaskChannel *channel;

  if (g_atomic_int_get (&messages->stopped))
    return;

  channel = g_weak_ref_get (&messages->channel);
  if (channel == NULL)
    return;

  if (lost)
    {
      q_task_channel_drop_messages (channel, messages);
    }
  else if (messages->ended)
    {
      drop_source (messages);
    }
  else if (messages->link->funcs->check (messages->link, G_IO_IN, watch))
    {
      q_task_watch_wake (watch);
      run_functions (messages, channel, SLICE_USEC);
    }
  else if (g_atomic_int_get (&messages->stopped))
    {
      messages->link->funcs->disarm (messages->link, G_IO_IN, watch);
    }

  g_object_unref (channel);
}

static void
messages_unref_notify (gpointer data)
{
  q_task_messages_unref (data);
}

static gboolean
never_called_cb (gpointer data G_GNUC_UNUSED)
{
  return G_SOURCE_CONTINUE;
}

static void
watch_unref_notify (gpointer data)
{
  q_task_watch_unref (data);
}

/* For the owner of @dispatch, or the thread @thread_id; see q_task_dispatch_acquire(). @context
 * is its context, which a link in memory does without. */
QTaskMessages *
q_task_messages_new (QTaskChannel *channel,
                     QTaskLink *link,
                     QTaskDispatch *dispatch,
                     guint thread_id,
                     GMainContext *context,
                     QTaskChannelMessageFunc func,
                     gpointer opaque,
                     GDestroyNotify destroy)
{
  QTaskMessages *messages = g_new0 (QTaskMessages, 1);

  messages->ref_count = 2;
  messages->link = q_task_link_ref (link);
  messages->thread_id = thread_id;
  messages->func = func;
  messages->opaque = opaque;
  messages->destroy = destroy;
  g_weak_ref_init (&messages->channel, channel);

  messages->watch = q_task_watch_new (dispatch);
  messages->watch->woken = messages_woken;
  messages->watch->data = messages;
  messages->watch->destroy = messages_unref_notify;
  messages->dispatch = q_task_dispatch_ref (dispatch);

  if (link->funcs->get_poll_fd != NULL)
    {
      messages->source = q_task_channel_source_new (link, NULL, G_IO_IN, NULL, NULL);
      q_task_channel_source_set_quiet (messages->source, messages->watch);
      g_source_set_callback (messages->source, never_called_cb,
                             q_task_watch_ref (messages->watch), watch_unref_notify);
      g_source_attach (messages->source, context);
    }

  return messages;
}

/* To be woken once the function can be called: there may be something to read already. */
QTaskWatch *
q_task_messages_ref_watch (QTaskMessages *messages)
{
  return q_task_watch_ref (messages->watch);
}

/* Once, by whoever took it away from the channel; any thread. */
void
q_task_messages_stop (QTaskMessages *messages)
{
  g_atomic_int_set (&messages->stopped, TRUE);
  messages->link->funcs->disarm (messages->link, G_IO_IN, messages->watch);

  if (messages->link->funcs->get_poll_fd != NULL)
    q_task_dispatch_destroy_data (messages->dispatch, messages->thread_id,
                                  q_task_messages_ref (messages), drop_source_and_unref);

  q_task_watch_unref (messages->watch);
}

gboolean
q_task_messages_is_of (QTaskMessages *messages,
                       QTaskDispatch *dispatch)
{
  return messages->dispatch == dispatch;
}

/* By the owner; see q_task_channel_serve_messages(). */
gboolean
q_task_messages_serve (QTaskMessages *messages,
                       QTaskChannel *channel,
                       QTaskDispatch *dispatch,
                       gint64 slice)
{
  return messages->dispatch == dispatch && run_functions (messages, channel, slice);
}
