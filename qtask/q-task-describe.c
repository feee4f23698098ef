/* q-task-describe.c: what a QTask is told about itself, and tells
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Most of it is set before the start and only read after that. What may change later is
 * atomic: the flags of the word, and the priority.
 */

#include "config.h"

#include "q-task-private.h"

static gboolean
change_flag (QTask *task,
             guint flag,
             gboolean value)
{
  QTaskPrivate *priv = q_task_get_private (task);
  guint old = q_task_change (priv, value ? 0 : flag, value ? flag : 0);

  return ((old & flag) != 0) != (value != 0);
}

/**
 * q_task_get_source:
 * @task: a task
 *
 * Gets the object that the task acts on.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable): the source object
 *
 * Since: 1.0
 */
GObject *
q_task_get_source (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  return q_task_get_private (task)->source_object;
}

/**
 * q_task_get_source_object: (skip)
 * @task: a task
 *
 * Gets the object that the task acts on, as q_task_get_source() does; unlike
 * g_async_result_get_source_object(), no reference is taken.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable) (type GObject): the source object
 *
 * Since: 1.0
 */
gpointer
q_task_get_source_object (QTask *task)
{
  return q_task_get_source (task);
}

/**
 * q_task_get_name:
 * @task: a task
 *
 * Gets the name of the task; see [method@QTask.Task.set_name].
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable): the name
 *
 * Since: 1.0
 */
const char *
q_task_get_name (QTask *task)
{
  QTaskExtra *extra;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL ? extra->name : NULL;
}

static void
set_name (QTask *task,
          const char *name,
          gboolean is_static)
{
  QTaskExtra *extra;

  if (q_task_is_forked (NULL))
    return;

  extra = q_task_ensure_extra (q_task_get_private (task));

  if (!extra->name_is_static)
    g_free ((char *) extra->name);

  extra->name = name;
  extra->name_is_static = is_static;

  q_task_notify (task, Q_TASK_PROP_NAME);
}

/**
 * q_task_set_name:
 * @task: a task that has not been started
 * @name: (nullable): what the task does, in a few words for people
 *
 * Sets the name of the task, for people who debug or profile: the thread that runs it has
 * the first 15 bytes as its name meanwhile, and the lists of its pool show it.
 *
 * May be called from the thread that made the task, before the start.
 *
 * Since: 1.0
 */
void
q_task_set_name (QTask *task,
                 const char *name)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (!q_task_check_new (task, G_STRFUNC))
    return;

  if (g_strcmp0 (name, q_task_get_name (task)) == 0)
    return;

  set_name (task, g_strdup (name), FALSE);
}

/**
 * q_task_set_static_name: (skip)
 * @task: a task that has not been started
 * @name: (nullable): what the task does, a string literal
 *
 * As q_task_set_name(), without a copy of @name.
 *
 * May be called from the thread that made the task, before the start.
 *
 * Since: 1.0
 */
void
q_task_set_static_name (QTask *task,
                        const char *name)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_check_new (task, G_STRFUNC))
    set_name (task, name, TRUE);
}

/**
 * q_task_get_priority:
 * @task: a task
 *
 * Gets the priority of the task; see [method@QTask.Task.set_priority].
 *
 * May be called from any thread.
 *
 * Returns: the priority
 *
 * Since: 1.0
 */
int
q_task_get_priority (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), G_PRIORITY_DEFAULT);

  return g_atomic_int_get (&q_task_get_private (task)->priority);
}

/**
 * q_task_set_priority:
 * @task: a task
 * @priority: a priority as of a #GSource, lower being more urgent
 *
 * Sets the priority of the task, at first %G_PRIORITY_DEFAULT: where it stands in the queue
 * of its pool, the priority of sources attached with [method@QTask.Task.attach_source],
 * and that of its callback unless [method@QTask.Task.set_completion_priority] set it.
 *
 * Its place in a queue is that of the moment when it was pushed.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_set_priority (QTask *task,
                     int priority)
{
  QTaskPrivate *priv;

  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);

  if (g_atomic_int_get (&priv->priority) == priority)
    return;

  g_atomic_int_set (&priv->priority, priority);
  q_task_notify (task, Q_TASK_PROP_PRIORITY);
}

/* What the completion, and what is to come before it, is delivered with. */
int
q_task_get_delivery_priority (QTaskPrivate *priv)
{
  if (q_task_get_word (priv) & Q_TASK_WORD_OWN_PRIORITY)
    return g_atomic_int_get (&q_task_ensure_extra (priv)->completion_priority);

  return g_atomic_int_get (&priv->priority);
}

/**
 * q_task_get_completion_priority:
 * @task: a task
 *
 * Gets the priority of the callback: what was set, else that of the task.
 *
 * May be called from any thread.
 *
 * Returns: the priority
 *
 * Since: 1.0
 */
int
q_task_get_completion_priority (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), G_PRIORITY_DEFAULT);

  return q_task_get_delivery_priority (q_task_get_private (task));
}

/**
 * q_task_set_completion_priority:
 * @task: a task
 * @priority: a priority as of a #GSource, lower being more urgent
 *
 * Sets the priority with which the callback is called by the main loop. A task that is
 * urgent may have a callback that must not come before drawing, say.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_set_completion_priority (QTask *task,
                                int priority)
{
  QTaskPrivate *priv;

  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);

  g_atomic_int_set (&q_task_ensure_extra (priv)->completion_priority, priority);
  q_task_change (priv, 0, Q_TASK_WORD_OWN_PRIORITY);
  q_task_notify (task, Q_TASK_PROP_COMPLETION_PRIORITY);
}

/**
 * q_task_get_check_cancellable:
 * @task: a task
 *
 * Gets whether a cancelled task reads as cancelled; see
 * [method@QTask.Task.set_check_cancellable].
 *
 * May be called from any thread.
 *
 * Returns: whether it does
 *
 * Since: 1.0
 */
gboolean
q_task_get_check_cancellable (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  return q_task_is_set (task, Q_TASK_WORD_CHECK_CANCELLABLE);
}

/**
 * q_task_set_check_cancellable:
 * @task: a task without return-on-cancel
 * @check_cancellable: whether a cancelled task reads as cancelled
 *
 * Sets whether the functions that read the outcome, such as
 * [method@QTask.Task.propagate_error], give %G_IO_ERROR_CANCELLED for a task that was
 * cancelled, whatever its worker made of it. It is so unless set, as with #GTask: whoever
 * cancels need not expect a result.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_set_check_cancellable (QTask *task,
                              gboolean check_cancellable)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (!check_cancellable && q_task_get_return_on_cancel (task))
    {
      q_task_warn (task, "returns on cancel, and has to read as cancelled then; switch "
                         "return-on-cancel off first");
      return;
    }

  if (q_task_is_forked (NULL))
    return;

  if (change_flag (task, Q_TASK_WORD_CHECK_CANCELLABLE, check_cancellable))
    q_task_notify (task, Q_TASK_PROP_CHECK_CANCELLABLE);
}

/**
 * q_task_get_return_on_cancel:
 * @task: a task
 *
 * Gets whether the task completes as soon as it is cancelled; see
 * [method@QTask.Task.set_return_on_cancel].
 *
 * May be called from any thread.
 *
 * Returns: whether it does
 *
 * Since: 1.0
 */
gboolean
q_task_get_return_on_cancel (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  return q_task_is_set (task, Q_TASK_WORD_RETURN_ON_CANCEL);
}

/**
 * q_task_set_return_on_cancel:
 * @task: a task with check-cancellable
 * @return_on_cancel: whether the task completes as soon as it is cancelled
 *
 * Sets whether the task, while its worker runs, completes as soon as it is cancelled or has
 * timed out. The worker goes on to its end; what it was given lives as long, and what it
 * still reports is freed.
 *
 * A worker that is about to do what others see switches this off first: if that returns
 * %FALSE, the task has already been cancelled, and the worker leaves it be. Switching it
 * on in a task that has been cancelled completes it.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if it was set, %FALSE if the task has already been cancelled
 *
 * Since: 1.0
 */
gboolean
q_task_set_return_on_cancel (QTask *task,
                             gboolean return_on_cancel)
{
  QTaskPrivate *priv;
  QTaskState state;
  gboolean stopped;
  guint word;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  if (return_on_cancel && !q_task_get_check_cancellable (task))
    {
      q_task_warn (task, "does not read as cancelled, and cannot return on cancel; switch "
                         "check-cancellable on first");
      return FALSE;
    }

  if (q_task_is_forked (NULL))
    return FALSE;

  priv = q_task_get_private (task);

  g_mutex_lock (&priv->lock);
  word = q_task_get_word (priv);
  state = q_task_word_get_state (word);
  stopped = state != Q_TASK_STATE_NEW && (word & Q_TASK_WORD_STOP) != 0;
  if (!stopped)
    q_task_change (priv, Q_TASK_WORD_RETURN_ON_CANCEL,
                   return_on_cancel ? Q_TASK_WORD_RETURN_ON_CANCEL : 0);
  g_mutex_unlock (&priv->lock);

  if (!stopped)
    {
      if (((word & Q_TASK_WORD_RETURN_ON_CANCEL) != 0) != (return_on_cancel != 0))
        q_task_notify (task, Q_TASK_PROP_RETURN_ON_CANCEL);
      return TRUE;
    }

  if (return_on_cancel)
    q_task_send_early (task, (word & Q_TASK_WORD_TIMED_OUT) != 0 ? Q_TASK_STOP_TIMEOUT
                                                                 : Q_TASK_STOP_CANCEL);

  return FALSE;
}

/**
 * q_task_get_run_cancelled:
 * @task: a task
 *
 * Gets whether the worker runs even if the task was cancelled before; see
 * [method@QTask.Task.set_run_cancelled].
 *
 * May be called from any thread.
 *
 * Returns: whether it does
 *
 * Since: 1.0
 */
gboolean
q_task_get_run_cancelled (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  return q_task_is_set (task, Q_TASK_WORD_RUN_CANCELLED);
}

/**
 * q_task_set_run_cancelled:
 * @task: a task that has not been started
 * @run_cancelled: whether the worker runs even if the task was cancelled before
 *
 * Sets what becomes of a task that is cancelled before its worker runs. At first it leaves
 * the queue and completes as cancelled. With this, as with #GTask and with
 * [ctor@QTask.Task.new_async], it moves to the front of the queue, and its worker runs.
 *
 * May be called from the thread that made the task, before the start.
 *
 * Since: 1.0
 */
void
q_task_set_run_cancelled (QTask *task,
                          gboolean run_cancelled)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (!q_task_check_new (task, G_STRFUNC))
    return;

  if (q_task_is_forked (NULL))
    return;

  if (change_flag (task, Q_TASK_WORD_RUN_CANCELLED, run_cancelled))
    q_task_notify (task, Q_TASK_PROP_RUN_CANCELLED);
}

/**
 * q_task_get_source_tag: (skip)
 * @task: a task
 *
 * Gets the source tag; see q_task_set_source_tag().
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable): the tag
 *
 * Since: 1.0
 */
gpointer
q_task_get_source_tag (QTask *task)
{
  QTaskExtra *extra;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL ? extra->source_tag : NULL;
}

/**
 * q_task_set_source_tag: (skip)
 * @task: a task
 * @source_tag: (nullable): a pointer, usually to the function that makes the task
 *
 * Sets a tag that a `_finish` function can check with g_async_result_is_tagged(). It does
 * not set the name.
 *
 * May be called from the thread that made the task.
 *
 * Since: 1.0
 */
void
q_task_set_source_tag (QTask *task,
                       gpointer source_tag)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_is_forked (NULL))
    return;

  q_task_ensure_extra (q_task_get_private (task))->source_tag = source_tag;
}

/**
 * q_task_get_task_data: (skip)
 * @task: a task
 *
 * Gets the data set with q_task_set_task_data().
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable): the data
 *
 * Since: 1.0
 */
gpointer
q_task_get_task_data (QTask *task)
{
  QTaskExtra *extra;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL ? extra->task_data : NULL;
}

/**
 * q_task_set_task_data: (skip)
 * @task: a task
 * @task_data: (nullable): data
 * @task_data_destroy: (nullable): frees @task_data
 *
 * Sets data that lives as long as the task. What was set before is freed at once.
 *
 * May be called from any thread, by one at a time.
 *
 * Since: 1.0
 */
void
q_task_set_task_data (QTask *task,
                      gpointer task_data,
                      GDestroyNotify task_data_destroy)
{
  QTaskExtra *extra;
  gpointer old_data;
  GDestroyNotify old_destroy;

  g_return_if_fail (Q_IS_TASK (task));

  if (q_task_is_forked (NULL))
    return;

  extra = q_task_ensure_extra (q_task_get_private (task));
  old_data = extra->task_data;
  old_destroy = extra->task_data_destroy;

  extra->task_data = task_data;
  extra->task_data_destroy = task_data_destroy;

  if (old_destroy != NULL)
    old_destroy (old_data);
}

/**
 * q_task_get_context:
 * @task: a task
 *
 * Gets the main context that the callback is called in. A task does not keep it alive.
 *
 * May be called from whoever knows that the context lives, such as the owner.
 *
 * Returns: (transfer none) (nullable): the context, or %NULL if it has gone
 *
 * Since: 1.0
 */
GMainContext *
q_task_get_context (QTask *task)
{
  QTaskPrivate *priv;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  priv = q_task_get_private (task);

  return q_task_dispatch_get_context (priv->dispatch);
}

/**
 * q_task_set_context:
 * @task: a task that has not been started, and is in no group
 * @context: (nullable): a main context, or %NULL for the default one
 *
 * Sets the main context that the callback is called in: whoever holds that is the owner.
 *
 * May be called from the thread that made the task, before the start.
 *
 * Since: 1.0
 */
void
q_task_set_context (QTask *task,
                    GMainContext *context)
{
  QTaskPrivate *priv;
  QTaskDispatch *old;

  g_return_if_fail (Q_IS_TASK (task));

  if (!q_task_check_new (task, G_STRFUNC))
    return;

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);
  if (q_task_get_member (priv) != NULL)
    {
      q_task_warn (task, "is in a group, which has one context for all; call %s() before the task "
                         "is added",
                   G_STRFUNC);
      return;
    }

  old = priv->dispatch;
  priv->dispatch = q_task_dispatch_ref_for_context (context);

  if (g_atomic_pointer_get (&priv->extra) != NULL)
    q_task_watch_bound (task);

  q_task_dispatch_unref (old);
}

/**
 * q_task_attach_source: (skip)
 * @task: a task
 * @source: a source that is not attached
 * @callback: (scope async): called when @source is ready, with @task as its data
 *
 * Attaches @source to the context of the task with the priority and, if it has none, the
 * name of the task. The source holds a reference to the task until it is destroyed.
 *
 * If the context has gone, @source is destroyed.
 *
 * May be called from the owner.
 *
 * Since: 1.0
 */
void
q_task_attach_source (QTask *task,
                      GSource *source,
                      GSourceFunc callback)
{
  GMainContext *context;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (source != NULL);

  context = q_task_get_context (task);
  if (context == NULL)
    {
      g_source_destroy (source);
      return;
    }

  g_source_set_callback (source, callback, g_object_ref (task), g_object_unref);
  g_source_set_priority (source, q_task_get_priority (task));
  if (q_task_get_name (task) != NULL && g_source_get_name (source) == NULL)
    g_source_set_name (source, q_task_get_name (task));

  g_source_attach (source, context);
}
