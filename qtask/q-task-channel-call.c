/* q-task-channel-call.c: the result of an asynchronous call on a channel
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Not a GTask: the first one of a process takes descriptors, and aborts the process if there are
 * none left. Used by the thread that makes it, and then by the one that iterates its context.
 */

#include "config.h"

#include "q-task-channel-link-private.h"

struct _QTaskChannelCall
{
  GObject parent_instance;

  QTaskChannel *channel; /* owned */
  GMainContext *context; /* owned */
  GCancellable *cancellable;
  GAsyncReadyCallback callback;
  gpointer user_data;
  gpointer tag;
  gboolean is_returned;
  GBytes *message;
  GError *error;
};

static void q_task_channel_call_async_result_iface_init (GAsyncResultIface *iface);

G_DEFINE_TYPE_WITH_CODE (QTaskChannelCall, q_task_channel_call, G_TYPE_OBJECT, G_IMPLEMENT_INTERFACE (G_TYPE_ASYNC_RESULT, q_task_channel_call_async_result_iface_init))

static void
q_task_channel_call_finalize (GObject *object)
{
  QTaskChannelCall *self = Q_TASK_CHANNEL_CALL (object);

  g_clear_object (&self->channel);
  g_clear_object (&self->cancellable);
  g_clear_pointer (&self->context, g_main_context_unref);
  g_clear_pointer (&self->message, g_bytes_unref);
  g_clear_error (&self->error);

  G_OBJECT_CLASS (q_task_channel_call_parent_class)->finalize (object);
}

static void
q_task_channel_call_class_init (QTaskChannelCallClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = q_task_channel_call_finalize;
}

static void
q_task_channel_call_init (QTaskChannelCall *self)
{
  self->context = g_main_context_ref_thread_default ();
}

static gpointer
q_task_channel_call_get_user_data (GAsyncResult *result)
{
  return Q_TASK_CHANNEL_CALL (result)->user_data;
}

static GObject *
q_task_channel_call_ref_source_object (GAsyncResult *result)
{
  return g_object_ref (G_OBJECT (Q_TASK_CHANNEL_CALL (result)->channel));
}

static gboolean
q_task_channel_call_is_tagged (GAsyncResult *result,
                               gpointer tag)
{
  return Q_TASK_CHANNEL_CALL (result)->tag == tag;
}

static void
q_task_channel_call_async_result_iface_init (GAsyncResultIface *iface)
{
  iface->get_user_data = q_task_channel_call_get_user_data;
  iface->get_source_object = q_task_channel_call_ref_source_object;
  iface->is_tagged = q_task_channel_call_is_tagged;
}

QTaskChannelCall *
q_task_channel_call_new (QTaskChannel *channel,
                         GCancellable *cancellable,
                         GAsyncReadyCallback callback,
                         gpointer user_data,
                         gpointer tag)
{
  QTaskChannelCall *self = g_object_new (Q_TYPE_TASK_CHANNEL_CALL, NULL);

  self->channel = g_object_ref (channel);
  self->cancellable = cancellable != NULL ? g_object_ref (cancellable) : NULL;
  self->callback = callback;
  self->user_data = user_data;
  self->tag = tag;

  return self;
}

QTaskChannel *
q_task_channel_call_get_channel (QTaskChannelCall *self)
{
  return self->channel;
}

GMainContext *
q_task_channel_call_get_context (QTaskChannelCall *self)
{
  return self->context;
}

GCancellable *
q_task_channel_call_get_cancellable (QTaskChannelCall *self)
{
  return self->cancellable;
}

gboolean
q_task_channel_call_is_returned (QTaskChannelCall *self)
{
  return self->is_returned;
}

static gboolean
call_back_cb (gpointer data)
{
  QTaskChannelCall *self = data;

  if (self->callback != NULL)
    self->callback (G_OBJECT (self->channel), G_ASYNC_RESULT (self), self->user_data);

  return G_SOURCE_REMOVE;
}

/* Takes @message and @error. @dispatched tells whether a source of the context calls; else the
 * callback is called in its next iteration. */
void
q_task_channel_call_return (QTaskChannelCall *self,
                            GBytes *message,
                            GError *error,
                            gboolean dispatched)
{
  GSource *source;

  self->is_returned = TRUE;
  self->message = message;
  self->error = error;

  if (dispatched)
    {
      call_back_cb (self);
      return;
    }

  source = g_idle_source_new ();
  g_source_set_priority (source, G_PRIORITY_DEFAULT);
  g_source_set_static_name (source, "[qtask] channel call");
  g_source_set_callback (source, call_back_cb, g_object_ref (self), g_object_unref);
  g_source_attach (source, self->context);
  g_source_unref (source);
}

gboolean
q_task_channel_call_is_valid (gpointer result,
                              QTaskChannel *channel,
                              gpointer tag)
{
  QTaskChannelCall *self = result;

  return Q_IS_TASK_CHANNEL_CALL (result) && self->is_returned && self->channel == channel &&
         self->tag == tag;
}

/* Once; returns FALSE with an error. */
gboolean
q_task_channel_call_propagate (QTaskChannelCall *self,
                               GBytes **message,
                               GError **error)
{
  if (self->error != NULL)
    {
      g_propagate_error (error, g_steal_pointer (&self->error));
      return FALSE;
    }

  if (message != NULL)
    *message = g_steal_pointer (&self->message);

  return TRUE;
}
