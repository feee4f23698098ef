/* q-task-group.c: QTaskGroup, a set of tasks with one fate
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The object is what its owner has; see q-task-group-core.c for what its tasks have, and
 * q-task-group-list.c for the list that it is. Waiting is in q-task-group-wait.c.
 */

#include "config.h"

#include "q-task-enums.h"
#include "q-task-group-private.h"

/**
 * QTaskGroup:
 *
 * A set of tasks that are awaited, cancelled and shown together.
 *
 * ```c
 * g_autoptr (QTaskGroup) group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR);
 *
 * for (guint i = 0; paths[i] != NULL; i++)
 *   {
 *     g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);
 *
 *     if (q_task_group_add (group, task, &error))
 *       q_task_run_in_thread (task, load_worker, g_strdup (paths[i]), g_free);
 *   }
 *
 * q_task_group_close (group);
 * q_task_group_wait_async (group, Q_TASK_GROUP_ALL, NULL, loaded_cb, NULL);
 * ```
 *
 * A group belongs to the thread-default main context of the moment it is made in, and takes
 * tasks of that context. Each task has its own callback and outcome as ever; the group comes on
 * top. It holds a reference to each of its tasks until they have completed.
 *
 * It is a [iface@Gio.ListModel] of its tasks, for a `GtkListView` to show: tasks come and go, one
 * by one, in the owner's main loop, a completed one after its callback, unless the group keeps
 * them with %Q_TASK_GROUP_KEEP_COMPLETED, until [method@QTask.TaskGroup.clear_completed]. The list
 * is for the owner.
 *
 * Dropping the last reference to a group cancels those of its tasks that have not completed, and
 * waits for nobody: their callbacks come as ever. Somebody who waits for the group keeps it
 * alive.
 *
 * Since: 1.0
 */

static GParamSpec *props[Q_TASK_GROUP_N_PROPS];

G_DEFINE_FINAL_TYPE_WITH_CODE (QTaskGroup, q_task_group, G_TYPE_OBJECT, G_IMPLEMENT_INTERFACE (G_TYPE_LIST_MODEL, q_task_group_list_init_model))

QTaskGroupCore *
q_task_group_get_core (QTaskGroup *group)
{
  return group->core;
}

void
q_task_group_notify (QTaskGroup *group,
                     QTaskGroupProp prop)
{
  g_object_notify_by_pspec (G_OBJECT (group), props[prop]);
}

static void
q_task_group_dispose (GObject *object)
{
  QTaskGroupCore *core = Q_TASK_GROUP (object)->core;
  QTaskOwnership ownership = Q_TASK_OWNER_ALREADY;

  if (g_atomic_int_get ((int *) &object->ref_count) == 1 &&
      q_task_dispatch_has_owner (core->dispatch))
    {
      ownership = q_task_dispatch_acquire (core->dispatch, core->thread_id);

      /* What is connected to it is released where it lives. */
      if (ownership == Q_TASK_OWNER_NOT)
        {
          q_task_group_core_drop (core);
          q_task_release_object (g_object_ref (object), core->dispatch, G_PRIORITY_DEFAULT);
          return;
        }
    }

  G_OBJECT_CLASS (q_task_group_parent_class)->dispose (object);

  if (ownership == Q_TASK_OWNER_ACQUIRED)
    q_task_dispatch_release (core->dispatch, ownership);
}

static void
q_task_group_finalize (GObject *object)
{
  QTaskGroup *group = Q_TASK_GROUP (object);
  QTaskGroupCore *core = group->core;

  q_task_group_core_drop (core);

  q_task_group_core_forget_members (core);

  g_sequence_free (group->list);

  q_task_group_list_drop_pending (core);
  q_task_group_core_unref (core);

  G_OBJECT_CLASS (q_task_group_parent_class)->finalize (object);
}

static void
q_task_group_get_property (GObject *object,
                           guint prop_id,
                           GValue *value,
                           GParamSpec *pspec)
{
  QTaskGroup *group = Q_TASK_GROUP (object);

  switch (prop_id)
    {
    case Q_TASK_GROUP_PROP_FLAGS:
      g_value_set_flags (value, q_task_group_get_flags (group));
      break;

    case Q_TASK_GROUP_PROP_PROGRESS:
      g_value_set_double (value, q_task_group_get_progress (group));
      break;

    case Q_TASK_GROUP_PROP_IS_CLOSED:
      g_value_set_boolean (value, q_task_group_is_closed (group));
      break;

    case Q_TASK_GROUP_PROP_IS_CANCELLED:
      g_value_set_boolean (value, q_task_group_is_cancelled (group));
      break;

    case Q_TASK_GROUP_PROP_N_ITEMS:
      g_value_set_uint (value, (guint) g_sequence_get_length (group->list));
      break;

    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
    }
}

static void
q_task_group_set_property (GObject *object,
                           guint prop_id,
                           const GValue *value,
                           GParamSpec *pspec)
{
  QTaskGroup *group = Q_TASK_GROUP (object);

  switch (prop_id)
    {
    case Q_TASK_GROUP_PROP_FLAGS:
      group->core->flags = g_value_get_flags (value);
      break;

    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
    }
}

static void
q_task_group_class_init (QTaskGroupClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  object_class->dispose = q_task_group_dispose;
  object_class->finalize = q_task_group_finalize;
  object_class->get_property = q_task_group_get_property;
  object_class->set_property = q_task_group_set_property;

  /* Sees to what is done once. */
  g_type_class_unref (g_type_class_ref (Q_TYPE_TASK));
  q_task_member_funcs = &q_task_group_member_funcs;

  /**
   * QTaskGroup:flags:
   *
   * How the group behaves.
   *
   * Since: 1.0
   */
  props[Q_TASK_GROUP_PROP_FLAGS] =
    g_param_spec_flags ("flags", NULL, NULL, Q_TYPE_TASK_GROUP_FLAGS, Q_TASK_GROUP_DEFAULT,
                        G_PARAM_READWRITE | G_PARAM_CONSTRUCT_ONLY | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskGroup:progress: (getter get_progress)
   *
   * How far the tasks of the group are, from 0 to 1: the mean over all that were ever added, of
   * which those that have completed count 1. There is at most one notification in 16 ms, but
   * for one at the end.
   *
   * Since: 1.0
   */
  props[Q_TASK_GROUP_PROP_PROGRESS] =
    g_param_spec_double ("progress", NULL, NULL, 0.0, 1.0, 0.0,
                         G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskGroup:is-closed: (getter is_closed)
   *
   * Whether the group takes no more tasks.
   *
   * Since: 1.0
   */
  props[Q_TASK_GROUP_PROP_IS_CLOSED] =
    g_param_spec_boolean ("is-closed", NULL, NULL, FALSE,
                          G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskGroup:is-cancelled: (getter is_cancelled)
   *
   * Whether the group was cancelled, by [method@QTask.TaskGroup.cancel] or by an error of one of
   * its tasks.
   *
   * Since: 1.0
   */
  props[Q_TASK_GROUP_PROP_IS_CANCELLED] =
    g_param_spec_boolean ("is-cancelled", NULL, NULL, FALSE,
                          G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskGroup:n-items:
   *
   * The number of tasks in the list; see g_list_model_get_n_items().
   *
   * Since: 1.0
   */
  props[Q_TASK_GROUP_PROP_N_ITEMS] =
    g_param_spec_uint ("n-items", NULL, NULL, 0, G_MAXUINT, 0,
                       G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  g_object_class_install_properties (object_class, Q_TASK_GROUP_N_PROPS, props);
}

static void
q_task_group_init (QTaskGroup *group)
{
  group->core = q_task_group_core_new (group);
  group->list = q_task_group_list_new ();
}

/**
 * q_task_group_new:
 * @flags: how the group behaves
 *
 * Makes a group of tasks of the thread-default main context of the moment, with no task in it.
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a new group
 *
 * Since: 1.0
 */
QTaskGroup *
q_task_group_new (QTaskGroupFlags flags)
{
  return g_object_new (Q_TYPE_TASK_GROUP, "flags", flags, NULL);
}

/**
 * q_task_group_get_flags: (get-property flags)
 * @group: a group
 *
 * Gets how the group behaves.
 *
 * May be called from any thread.
 *
 * Returns: the flags
 *
 * Since: 1.0
 */
QTaskGroupFlags
q_task_group_get_flags (QTaskGroup *group)
{
  g_return_val_if_fail (Q_IS_TASK_GROUP (group), Q_TASK_GROUP_DEFAULT);

  return group->core->flags;
}

/**
 * q_task_group_get_progress: (get-property progress)
 * @group: a group
 *
 * Gets how far the tasks of the group are: the mean of the
 * [property@QTask.Task:progress] of all that were ever added, as their owner has heard of it; one
 * that has completed counts 1, whatever its outcome.
 *
 * May be called from any thread.
 *
 * Returns: how far they are, from 0 to 1; 0 if there was no task yet
 *
 * Since: 1.0
 */
double
q_task_group_get_progress (QTaskGroup *group)
{
  QTaskGroupCore *core;
  double progress = 0.0;

  g_return_val_if_fail (Q_IS_TASK_GROUP (group), 0.0);

  core = group->core;

  g_mutex_lock (&core->lock);
  if (core->n_added > 0)
    progress = ((double) core->n_completed + core->progress) / (double) core->n_added;
  g_mutex_unlock (&core->lock);

  return CLAMP (progress, 0.0, 1.0);
}

/**
 * q_task_group_is_closed: (get-property is-closed)
 * @group: a group
 *
 * Gets whether the group takes no more tasks.
 *
 * May be called from any thread.
 *
 * Returns: whether it was closed
 *
 * Since: 1.0
 */
gboolean
q_task_group_is_closed (QTaskGroup *group)
{
  gboolean is_closed;

  g_return_val_if_fail (Q_IS_TASK_GROUP (group), TRUE);

  g_mutex_lock (&group->core->lock);
  is_closed = group->core->is_closed;
  g_mutex_unlock (&group->core->lock);

  return is_closed;
}

/**
 * q_task_group_is_cancelled: (get-property is-cancelled)
 * @group: a group
 *
 * Gets whether the group was cancelled, by [method@QTask.TaskGroup.cancel] or by an error of one
 * of its tasks.
 *
 * May be called from any thread.
 *
 * Returns: whether it was
 *
 * Since: 1.0
 */
gboolean
q_task_group_is_cancelled (QTaskGroup *group)
{
  gboolean is_cancelled;

  g_return_val_if_fail (Q_IS_TASK_GROUP (group), TRUE);

  g_mutex_lock (&group->core->lock);
  is_cancelled = group->core->is_cancelled;
  g_mutex_unlock (&group->core->lock);

  return is_cancelled;
}

/**
 * q_task_group_cancel:
 * @group: a group
 *
 * Asks all tasks of the group to stop, as [method@QTask.Task.cancel] does, and those that are
 * added later as well. No cancellable that was given is cancelled.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_group_cancel (QTaskGroup *group)
{
  g_return_if_fail (Q_IS_TASK_GROUP (group));

  if (q_task_is_forked (NULL))
    return;

  g_object_ref (group);
  q_task_group_core_cancel (group->core, NULL);
  g_object_unref (group);
}

/**
 * q_task_group_close:
 * @group: a group
 *
 * Closes the group to new tasks. Those it has go on.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_group_close (QTaskGroup *group)
{
  g_autoptr (QTaskGroup) hold = NULL;
  QTaskGroupCore *core;
  QTaskOwnership ownership;
  gboolean was_closed;

  g_return_if_fail (Q_IS_TASK_GROUP (group));

  if (q_task_is_forked (NULL))
    return;

  hold = g_object_ref (group);
  core = group->core;

  g_mutex_lock (&core->lock);
  was_closed = core->is_closed;
  core->is_closed = TRUE;
  core->tells_closed |= !was_closed;
  g_mutex_unlock (&core->lock);

  if (was_closed)
    return;

  ownership = q_task_dispatch_acquire (core->dispatch, core->thread_id);

  if (ownership != Q_TASK_OWNER_NOT)
    {
      q_task_group_core_serve (core);
      q_task_group_core_tell (core);
      q_task_dispatch_release (core->dispatch, ownership);
    }
  else
    {
      q_task_group_core_tell_owner (core);
    }
}

/**
 * q_task_group_clear_completed:
 * @group: a group
 *
 * Takes the tasks that have completed off the list, where %Q_TASK_GROUP_KEEP_COMPLETED keeps
 * them, and drops what the group has of them: for a button that clears what is finished. A task
 * whose callback runs has not completed yet.
 *
 * Nothing else changes: what has completed counts for the progress as before, which so never
 * goes back, and an error of it still is that of the group.
 *
 * Called by another thread than the owner, it takes off what has completed by then when the
 * owner's main loop comes to that.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_group_clear_completed (QTaskGroup *group)
{
  g_autoptr (QTaskGroup) hold = NULL;
  QTaskGroupCore *core;

  g_return_if_fail (Q_IS_TASK_GROUP (group));

  if (q_task_is_forked (NULL))
    return;

  hold = g_object_ref (group);
  core = group->core;

  g_mutex_lock (&core->lock);
  core->clears = TRUE;
  g_mutex_unlock (&core->lock);

  q_task_group_core_serve_soon (core);
}
