/* q-task-bind.c: binding a QTask to objects, and to a function for its messages
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An object that tasks are bound to has one QTaskBound, as long as it lives: a list of
 * bindings, and a weak reference that empties the list when the object is disposed, in whatever
 * thread that is. A task takes its bindings out of those lists when it has completed. Both
 * happen with the lock of bindings held, so it does not matter who comes first.
 *
 * A dispose in the owner's thread detaches the task at once; one in another thread marks it as
 * detached, and posts the rest to the owner.
 *
 *   list, gone, link, next_of_task, delivered_task
 *                with the lock of bindings, which is never held while code of the user runs
 *   outlives     by the thread that disposes, and then by the owner
 */

#include "config.h"

#include "q-task-run.h"

#include "q-task-private.h"

typedef struct
{
  int ref_count;          /* atomic; of the object, its weak reference, and each binding */
  QTaskBinding *bindings; /* linked by next */
  gboolean gone;
} QTaskBound;

struct _QTaskBinding
{
  int ref_count; /* atomic; of the task, and of a delivery */
  QTaskDelivery delivery;
  QTask *delivered_task; /* owned while the delivery is on its way */
  QTaskBound *bound;
  QTaskBinding *next;
  QTaskBinding **link; /* to this one in the list, or NULL */
  QTaskBinding *next_of_task;
  GWeakRef task;
  QTaskBindFlags flags;
  gboolean outlives; /* the task, when the object went */
};

static GMutex bindings_lock;

static GQuark
get_quark (void)
{
  return g_quark_from_static_string ("q-task-bound");
}

static QTaskBound *
bound_ref (QTaskBound *bound)
{
  g_atomic_int_inc (&bound->ref_count);

  return bound;
}

static void
bound_unref (gpointer data)
{
  QTaskBound *bound = data;

  if (g_atomic_int_dec_and_test (&bound->ref_count))
    {
      g_assert (bound->bindings == NULL);
      g_free (bound);
    }
}

static void
binding_unref (QTaskBinding *binding)
{
  if (!g_atomic_int_dec_and_test (&binding->ref_count))
    return;

  g_weak_ref_clear (&binding->task);
  bound_unref (binding->bound);
  g_free (binding);
}

static void
unlink_locked (QTaskBinding *binding)
{
  if (binding->link == NULL)
    return;

  *binding->link = binding->next;
  if (binding->next != NULL)
    binding->next->link = binding->link;

  binding->link = NULL;
  binding->next = NULL;
}

/* The object has gone. Called by the owner, or with @lost TRUE when there is none. */
static void
detach (QTask *task,
        gboolean outlives,
        gboolean lost)
{
  /* First, so that the worker finds itself asked. */
  if (!outlives)
    q_task_request_stop (task, Q_TASK_STOP_CANCEL);

  if (!lost)
    q_task_detach_channel (task, outlives);

  q_task_end_sync (task);
}

static void
detach_delivered (QTaskDelivery *delivery,
                  gboolean lost)
{
  QTaskBinding *binding =
    (QTaskBinding *) ((char *) delivery - G_STRUCT_OFFSET (QTaskBinding, delivery));
  g_autoptr (QTask) task = NULL;

  g_mutex_lock (&bindings_lock);
  task = g_steal_pointer (&binding->delivered_task);
  g_mutex_unlock (&bindings_lock);

  detach (task, binding->outlives, lost);
  binding_unref (binding);
}

/* Takes the reference to @binding. */
static void
object_gone (QTaskBinding *binding,
             QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskOwnership ownership;

  binding->outlives = (binding->flags & Q_TASK_BIND_OUTLIVE) != 0 ||
                      q_task_is_set (task, Q_TASK_WORD_OUTLIVE);
  q_task_change (priv, 0,
                 Q_TASK_WORD_DETACHED | (binding->outlives ? Q_TASK_WORD_ALONE : 0));

  ownership = q_task_dispatch_acquire (priv->dispatch, priv->thread_id);

  if (ownership != Q_TASK_OWNER_NOT)
    {
      detach (task, binding->outlives, FALSE);
      q_task_dispatch_release (priv->dispatch, ownership);
      binding_unref (binding);
      return;
    }

  g_mutex_lock (&bindings_lock);
  binding->delivered_task = g_object_ref (task);
  g_mutex_unlock (&bindings_lock);

  binding->delivery.func = detach_delivered;
  q_task_dispatch_deliver (priv->dispatch, &binding->delivery.node,
                           q_task_get_delivery_priority (priv));

  /* The owner may wait for the task. */
  g_mutex_lock (&priv->lock);
  q_task_wake_waiters_locked (priv);
  g_mutex_unlock (&priv->lock);
}

/* Does for an owner who waits what its main loop would do when a bound object has gone in
 * another thread. */
void
q_task_serve_bindings (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskBinding *binding;

  if (!q_task_is_set (task, Q_TASK_WORD_DETACHED))
    return;

  g_mutex_lock (&bindings_lock);
  binding = extra->bindings;
  while (binding != NULL && binding->delivered_task == NULL)
    binding = binding->next_of_task;
  g_mutex_unlock (&bindings_lock);

  if (binding != NULL && q_task_dispatch_take (priv->dispatch, &binding->delivery.node))
    detach_delivered (&binding->delivery, FALSE);
}

/* The weak notification of an object. */
static void
object_disposed (gpointer data,
                 GObject *object G_GNUC_UNUSED)
{
  QTaskBound *bound = data;
  GPtrArray *gone = g_ptr_array_new ();

  g_mutex_lock (&bindings_lock);

  bound->gone = TRUE;

  while (bound->bindings != NULL)
    {
      QTaskBinding *binding = bound->bindings;

      unlink_locked (binding);
      g_atomic_int_inc (&binding->ref_count);
      g_ptr_array_add (gone, binding);
    }

  g_mutex_unlock (&bindings_lock);

  for (guint i = 0; i < gone->len; i++)
    {
      QTaskBinding *binding = gone->pdata[i];
      g_autoptr (QTask) task = g_weak_ref_get (&binding->task);

      /* Else it is being finalized. */
      if (task != NULL)
        object_gone (binding, task);
      else
        binding_unref (binding);
    }

  g_ptr_array_unref (gone);
  bound_unref (bound);
}

/* Gets what is bound to @object, made on first use. With the lock held. */
static QTaskBound *
ensure_bound_locked (GObject *object)
{
  QTaskBound *bound = g_object_get_qdata (object, get_quark ());

  if (bound != NULL)
    return bound;

  bound = g_new0 (QTaskBound, 1);
  bound->ref_count = 1;
  g_object_set_qdata_full (object, get_quark (), bound, bound_unref);
  g_object_weak_ref (object, object_disposed, bound_ref (bound));

  return bound;
}

/* The task has completed, or is finalized: nothing bound to it matters any more. */
void
q_task_drop_bindings (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskBinding *bindings;
  QTaskHandler *handler;

  g_mutex_lock (&bindings_lock);
  bindings = g_steal_pointer (&extra->bindings);
  for (QTaskBinding *binding = bindings; binding != NULL; binding = binding->next_of_task)
    unlink_locked (binding);
  g_mutex_unlock (&bindings_lock);

  while (bindings != NULL)
    {
      QTaskBinding *next = bindings->next_of_task;

      binding_unref (bindings);
      bindings = next;
    }

  g_mutex_lock (&priv->lock);
  handler = g_steal_pointer (&extra->bound);
  g_mutex_unlock (&priv->lock);

  q_task_handler_unref (handler, priv);
}

/**
 * q_task_bind_object:
 * @task: a task
 * @object: an object, a widget say, to which no reference is kept
 * @flags: what is to happen when @object goes
 *
 * Ties the task to the life of @object. When that is disposed, the callback of the task, and
 * its functions for messages and syncs, are not called any more, and the task is asked to stop,
 * as [method@QTask.Task.cancel] does; with %Q_TASK_BIND_OUTLIVE, or
 * [method@QTask.Task.set_outlive], it runs on, detached. What the callback and the worker were
 * given is still released by the owner when the task has completed.
 *
 * @object may be disposed in any thread: what has to be done is then posted to the owner.
 * A task can be bound to several objects; the first that goes counts. When the task has
 * completed it leaves nothing behind. If @object was disposed before, that is as if it went now.
 *
 * May be called from the owner, before or after the start.
 *
 * Since: 1.0
 */
void
q_task_bind_object (QTask *task,
                    GObject *object,
                    QTaskBindFlags flags)
{
  QTaskPrivate *priv;
  QTaskExtra *extra;
  QTaskBinding *binding;
  gboolean gone;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (G_IS_OBJECT (object));

  priv = q_task_get_private (task);

  if (q_task_is_forked (NULL) || (q_task_get_word (priv) & Q_TASK_WORD_COMPLETING) != 0)
    return;

  extra = q_task_ensure_extra (priv);

  binding = g_new0 (QTaskBinding, 1);
  binding->ref_count = 1;
  binding->flags = flags;
  g_weak_ref_init (&binding->task, task);

  g_mutex_lock (&bindings_lock);

  binding->bound = bound_ref (ensure_bound_locked (object));
  binding->next_of_task = extra->bindings;
  extra->bindings = binding;

  gone = binding->bound->gone;
  if (!gone)
    {
      binding->next = binding->bound->bindings;
      if (binding->next != NULL)
        binding->next->link = &binding->next;
      binding->link = &binding->bound->bindings;
      binding->bound->bindings = binding;
    }
  else
    {
      g_atomic_int_inc (&binding->ref_count);
    }

  g_mutex_unlock (&bindings_lock);

  if (gone)
    object_gone (binding, task);
}

/* Messages */

static QTaskHandler *
ref_handler (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskHandler *handler = NULL;

  if (extra == NULL || (q_task_get_word (priv) & Q_TASK_WORD_DETACHED) != 0)
    return NULL;

  g_mutex_lock (&priv->lock);
  if (extra->bound != NULL)
    handler = q_task_handler_ref (extra->bound);
  g_mutex_unlock (&priv->lock);

  return handler;
}

static void
call_bound (QTask *task,
            GBytes *message)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskHandler *handler = ref_handler (priv);

  if (handler == NULL)
    return;

  ((QTaskBindFunc) handler->func) (task, message, handler->opaque);
  q_task_handler_unref (handler, priv);
}

/* Of the owner's end, which the task outlives or takes this from. */
static void
message_cb (QTaskChannel *channel G_GNUC_UNUSED,
            GBytes *message,
            gpointer data)
{
  g_autoptr (QTask) task = g_object_ref (data);

  if (message != NULL)
    call_bound (task, message);
}

/* Has the messages of the channel given to the bound function, once there are both, by the
 * owner of the moment: the task may be given another context before its start. */
void
q_task_watch_bound (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskChannel *channel;
  gboolean is_bound;

  g_mutex_lock (&priv->lock);
  channel = extra->channel;
  is_bound = extra->bound != NULL;
  g_mutex_unlock (&priv->lock);

  if (channel != NULL && is_bound)
    q_task_channel_set_owner_func (channel, priv->dispatch, priv->thread_id, message_cb, task);
}

/* Tells the bound function that the task has completed. Called by the owner. */
void
q_task_tell_bound (QTask *task)
{
  call_bound (task, NULL);
}

/**
 * q_task_bind_callback:
 * @task: a task that has not completed
 * @func: (scope notified) (closure opaque) (destroy destroy): called by the owner for each
 *   message of the worker, and when the task has completed
 * @opaque: (nullable): data for @func
 * @destroy: (nullable): frees @opaque; called by the owner when the function is replaced, or
 *   dropped after the callback
 *
 * Has @func called for each message that the worker writes to the channel of the task, which is
 * opened with [method@QTask.Task.open_channel], before or after this; and a last time, with
 * %NULL, when the task has completed, directly before its callback. It takes the place of the
 * message function of [method@QTask.Task.get_channel].
 *
 * May be called from the owner.
 *
 * Since: 1.0
 */
void
q_task_bind_callback (QTask *task,
                      QTaskBindFunc func,
                      gpointer opaque,
                      GDestroyNotify destroy)
{
  QTaskPrivate *priv;
  QTaskExtra *extra;
  QTaskHandler *handler;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (func != NULL);

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);
  extra = q_task_ensure_extra (priv);
  handler = q_task_handler_new (G_CALLBACK (func), opaque, destroy);

  if ((q_task_get_word (priv) & Q_TASK_WORD_COMPLETED) == 0)
    {
      QTaskHandler *old;

      g_mutex_lock (&priv->lock);
      old = extra->bound;
      extra->bound = handler;
      g_mutex_unlock (&priv->lock);

      handler = old;
      q_task_watch_bound (task);
    }

  q_task_handler_unref (handler, priv);
}
