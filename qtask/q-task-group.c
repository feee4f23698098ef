/* q-task-group.c: QTaskGroup, a set of tasks with one fate
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The object is the list that its owner sees. The core is what its tasks refer to: it counts
 * them, keeps the first error, and outlives the object, so that tasks do not keep the group
 * alive and the group can be dropped anywhere.
 *
 * A task has its member, as `member` in its extra part, until it has completed, and tells it
 * through the functions of q_task_member_funcs. Its lock is taken before that of the core. No lock
 * is held while code of the user runs, and cancelling does.
 *
 * The list belongs to the owner alone: what other threads add is pending until it comes to
 * that. It is a balanced tree, so whatever leaves it is found in O(log n).
 *
 * Waiting is in q-task-group-wait.c.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-enums.h"
#include "q-task-group-private.h"

/* The least time between notifications of progress. */
#define PROGRESS_USEC (16 * G_TIME_SPAN_MILLISECOND)

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
 * them with %Q_TASK_GROUP_KEEP_COMPLETED. The list is for the owner.
 *
 * Dropping the last reference to a group cancels those of its tasks that have not completed, and
 * waits for nobody: their callbacks come as ever. Somebody who waits for the group keeps it
 * alive.
 *
 * Since: 1.0
 */
struct _QTaskGroup
{
  GObject parent_instance;

  QTaskGroupCore *core;
  GSequence *list; /* of members; by the owner */
};

typedef enum
{
  PROP_0,
  PROP_FLAGS,
  PROP_PROGRESS,
  PROP_IS_CLOSED,
  PROP_N_ITEMS,
  N_PROPS
} QTaskGroupProp;

static GParamSpec *props[N_PROPS];

static void q_task_group_list_model_init (GListModelInterface *iface);

G_DEFINE_FINAL_TYPE_WITH_CODE (QTaskGroup, q_task_group, G_TYPE_OBJECT, G_IMPLEMENT_INTERFACE (G_TYPE_LIST_MODEL, q_task_group_list_model_init))

QTaskGroupCore *
q_task_group_get_core (QTaskGroup *group)
{
  return group->core;
}

QTaskGroupCore *
q_task_group_core_ref (QTaskGroupCore *core)
{
  g_atomic_int_inc (&core->ref_count);

  return core;
}

void
q_task_group_core_unref (QTaskGroupCore *core)
{
  if (!g_atomic_int_dec_and_test (&core->ref_count))
    return;

  g_assert (core->first == NULL);
  g_assert (core->pending == NULL);
  g_assert (core->woken == NULL);
  g_assert (core->timed.length == 0);
  g_assert (g_queue_is_empty (&core->waiters));

  g_weak_ref_clear (&core->group);
  q_task_dispatch_unref (core->dispatch);
  g_clear_error (&core->error);
  g_clear_error (&core->first_fixed);
  g_clear_error (&core->first_completed);
  g_cond_clear (&core->cond);
  g_mutex_clear (&core->lock);
  g_free (core);
}

QTaskMember *
q_task_member_ref (QTaskMember *member)
{
  return g_atomic_rc_box_acquire (member);
}

static void
member_clear (gpointer data)
{
  QTaskMember *member = data;

  g_clear_error (&member->error);
  g_object_unref (member->task);
  q_task_group_core_unref (member->core);
}

void
q_task_member_unref (QTaskMember *member)
{
  g_atomic_rc_box_release_full (member, member_clear);
}

static void
member_unref_notify (gpointer member)
{
  q_task_member_unref (member);
}

/* The list; all by the owner */

static void
list_changed (QTaskGroup *group,
              guint position,
              guint n_removed,
              guint n_added)
{
  g_list_model_items_changed (G_LIST_MODEL (group), position, n_removed, n_added);
  g_object_notify_by_pspec (G_OBJECT (group), props[PROP_N_ITEMS]);
}

/* Whether the member is, or is to be, in the list. */
static gboolean
is_to_list (QTaskMember *member)
{
  return (member->core->flags & Q_TASK_GROUP_KEEP_COMPLETED) != 0 ||
         !g_atomic_int_get (&member->is_completed);
}

static void
unlist (QTaskGroup *group,
        QTaskMember *member)
{
  GSequenceIter *iter = g_steal_pointer (&member->iter);
  guint position;

  if (iter == NULL)
    return;

  position = (guint) g_sequence_iter_get_position (iter);
  g_sequence_remove (iter);
  list_changed (group, position, 1, 0);
}

/* The first of those that are pending, with its reference, or NULL */
static QTaskMember *
pop_pending (QTaskGroupCore *core)
{
  QTaskMember *member;

  g_mutex_lock (&core->lock);
  member = core->pending;
  if (member != NULL)
    {
      core->pending = member->next_pending;
      if (core->pending == NULL)
        core->pending_last = NULL;
      member->is_pending = FALSE;
    }
  g_mutex_unlock (&core->lock);

  return member;
}

/* Brings the list up to date. */
static void
update_list (QTaskGroup *group)
{
  guint position = (guint) g_sequence_get_length (group->list);
  guint n_added = 0;
  GPtrArray *others = NULL;
  QTaskMember *member;

  while ((member = pop_pending (group->core)) != NULL)
    {
      /* An owner who waits is to hear of it. */
      if (group->core->n_owner_waits > 0)
        q_task_member_watch (member);

      if (member->iter == NULL && is_to_list (member))
        {
          member->iter = g_sequence_append (group->list, member);
          n_added++;
          continue;
        }

      /* Not dropped before what was added is told of: that may run code of the user. */
      if (others == NULL)
        others = g_ptr_array_new_with_free_func (member_unref_notify);
      g_ptr_array_add (others, member);
    }

  if (n_added > 0)
    list_changed (group, position, 0, n_added);

  for (guint i = 0; others != NULL && i < others->len; i++)
    if (!is_to_list (others->pdata[i]))
      unlist (group, others->pdata[i]);
  g_clear_pointer (&others, g_ptr_array_unref);
}

static void
drop_pending (QTaskGroupCore *core)
{
  QTaskMember *member;

  while ((member = pop_pending (core)) != NULL)
    q_task_member_unref (member);
}

/* With the lock held; takes a reference. */
static void
add_pending_locked (QTaskMember *member)
{
  QTaskGroupCore *core = member->core;

  if (member->is_pending)
    return;

  member->is_pending = TRUE;
  member->next_pending = NULL;
  q_task_member_ref (member);
  if (core->pending_last != NULL)
    core->pending_last->next_pending = member;
  else
    core->pending = member;
  core->pending_last = member;
}

static void progress_changed (QTaskGroupCore *core);

/* Does what other threads left for the owner. */
void
q_task_group_core_serve (QTaskGroupCore *core)
{
  g_autoptr (QTaskGroup) group = NULL;
  gboolean has_pending;
  gboolean tells_closed;

  g_mutex_lock (&core->lock);
  has_pending = core->pending != NULL;
  tells_closed = core->tells_closed;
  core->tells_closed = FALSE;
  g_mutex_unlock (&core->lock);

  if (!has_pending && !tells_closed)
    return;

  group = g_weak_ref_get (&core->group);
  if (group == NULL)
    {
      drop_pending (core);
      return;
    }

  if (has_pending)
    {
      update_list (group);
      progress_changed (core);
    }
  if (tells_closed)
    g_object_notify_by_pspec (G_OBJECT (group), props[PROP_IS_CLOSED]);
}

static void
told (QTaskDelivery *delivery,
      gboolean lost)
{
  QTaskGroupCore *core = (QTaskGroupCore *) ((char *) delivery -
                                             G_STRUCT_OFFSET (QTaskGroupCore, delivery));

  g_mutex_lock (&core->lock);
  core->is_told = FALSE;
  g_mutex_unlock (&core->lock);

  if (lost)
    drop_pending (core);
  else
    q_task_group_core_serve (core);
  q_task_group_core_tell (core);

  q_task_group_core_unref (core);
}

/* Has the owner look, as soon as it comes to that, and at once if it waits. */
static void
tell_owner (QTaskGroupCore *core)
{
  gboolean deliver;

  g_mutex_lock (&core->lock);
  deliver = !core->is_told;
  core->is_told = TRUE;
  if (core->n_blocked > 0)
    g_cond_broadcast (&core->cond);
  g_mutex_unlock (&core->lock);

  if (!deliver)
    return;

  q_task_group_core_ref (core);
  core->delivery.func = told;
  q_task_dispatch_deliver (core->dispatch, &core->delivery.node, G_PRIORITY_DEFAULT);
}

/* Progress; all by the owner */

static void
notify_progress (QTaskGroupCore *core)
{
  g_autoptr (QTaskGroup) group = g_weak_ref_get (&core->group);

  if (group != NULL)
    g_object_notify_by_pspec (G_OBJECT (group), props[PROP_PROGRESS]);
}

static void
progress_due (QTaskDelivery *delivery,
              gboolean lost)
{
  QTaskGroupCore *core = (QTaskGroupCore *) ((char *) delivery -
                                             G_STRUCT_OFFSET (QTaskGroupCore, timer));

  g_mutex_lock (&core->lock);
  core->is_timed = FALSE;
  core->notified_at = g_get_monotonic_time ();
  g_mutex_unlock (&core->lock);

  if (!lost)
    notify_progress (core);

  q_task_group_core_unref (core);
}

/* The progress has changed: notifies of it now, or when it is time. */
static void
progress_changed (QTaskGroupCore *core)
{
  gboolean notify = FALSE;
  gint64 now;

  g_mutex_lock (&core->lock);

  if (!core->is_timed)
    {
      now = g_get_monotonic_time ();
      notify = core->notified_at + PROGRESS_USEC <= now;

      if (notify)
        {
          core->notified_at = now;
        }
      else
        {
          core->timer.func = progress_due;
          core->is_timed = q_task_dispatch_set_timer (core->dispatch, &core->timer,
                                                      core->notified_at + PROGRESS_USEC);
          if (core->is_timed)
            q_task_group_core_ref (core);
        }
    }

  g_mutex_unlock (&core->lock);

  if (notify)
    notify_progress (core);
}

/* When a notification is due, or -1. */
gint64
q_task_group_core_get_due (QTaskGroupCore *core)
{
  gint64 due;

  g_mutex_lock (&core->lock);
  due = core->is_timed ? core->notified_at + PROGRESS_USEC : -1;
  g_mutex_unlock (&core->lock);

  return due;
}

/* Notifies now of what is to be notified. */
void
q_task_group_core_flush_progress (QTaskGroupCore *core)
{
  gboolean taken;

  g_mutex_lock (&core->lock);
  taken = core->is_timed && q_task_dispatch_clear_timer (core->dispatch, &core->timer);
  if (taken)
    {
      core->is_timed = FALSE;
      core->notified_at = g_get_monotonic_time ();
    }
  g_mutex_unlock (&core->lock);

  if (!taken)
    return;

  notify_progress (core);

  /* That of the timer, and not the last one, since the caller has another. */
  g_atomic_int_add (&core->ref_count, -1);
}

/* Members */

/* The tasks that have not completed, with a reference each, in the order they came; or only those
 * that have no outcome yet. */
GPtrArray *
q_task_group_core_list (QTaskGroupCore *core,
                        gboolean with_fixed)
{
  GPtrArray *members = g_ptr_array_new_with_free_func (member_unref_notify);

  g_mutex_lock (&core->lock);
  for (QTaskMember *member = core->first; member != NULL; member = member->next)
    if (with_fixed || !member->is_fixed)
      g_ptr_array_add (members, q_task_member_ref (member));
  g_mutex_unlock (&core->lock);

  return members;
}

/* Cancels all that have no outcome, but for @failed, which is the reason of it. */
static void
cancel (QTaskGroupCore *core,
        QTask *failed)
{
  g_autoptr (GPtrArray) members = NULL;
  gboolean was_cancelled;

  g_mutex_lock (&core->lock);
  was_cancelled = core->is_cancelled;
  core->is_cancelled = TRUE;
  g_mutex_unlock (&core->lock);

  if (was_cancelled)
    return;

  members = q_task_group_core_list (core, FALSE);

  /* Those in a queue first: else they would get the threads of those that end. */
  for (guint i = 0; i < members->len; i++)
    {
      QTask *task = ((QTaskMember *) members->pdata[i])->task;

      if (q_task_poll (task) == Q_TASK_STATE_QUEUED)
        q_task_cancel (task);
    }

  for (guint i = 0; i < members->len; i++)
    {
      QTask *task = ((QTaskMember *) members->pdata[i])->task;

      if (task != failed)
        q_task_cancel (task);
    }
}

/* Cancels the others, if @failed, or another one, has failed and they are to be. */
static void
cancel_on_error (QTaskGroupCore *core,
                 QTask *failed)
{
  gboolean is_wanted;

  if ((core->flags & Q_TASK_GROUP_CANCEL_ON_ERROR) == 0)
    return;

  g_mutex_lock (&core->lock);
  is_wanted = core->error != NULL && !core->is_cancelled;
  core->is_failed |= is_wanted;
  g_mutex_unlock (&core->lock);

  if (is_wanted)
    cancel (core, failed);
}

/* The error that the outcome of the task reads as, with its lock held. */
static GError *
copy_error (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  if (priv->error != NULL)
    return g_error_copy (priv->error);

  if (q_task_reads_as_cancelled (priv))
    return q_task_new_stop_error (Q_TASK_STOP_CANCEL);

  return NULL;
}

/* With both locks held. Takes @error. */
static void
fix_locked (QTaskMember *member,
            GError *error)
{
  QTaskGroupCore *core = member->core;

  member->is_fixed = TRUE;
  core->n_fixed++;

  if (error != NULL && core->n_fixed == 1)
    core->first_fixed = g_error_copy (error);
  if (error != NULL && core->error == NULL)
    core->error = g_error_copy (error);
  if (core->n_completed == 0)
    member->error = g_steal_pointer (&error);
  g_clear_error (&error);

  if (core->n_blocked > 0)
    g_cond_broadcast (&core->cond);
}

static void
member_fixed (QTaskMember *member)
{
  GError *error = copy_error (member->task);

  g_mutex_lock (&member->core->lock);
  fix_locked (member, error);
  g_mutex_unlock (&member->core->lock);
}

static void
member_wake (QTaskMember *member)
{
  g_mutex_lock (&member->core->lock);
  if (member->is_watched)
    q_task_member_wake_locked (member);
  g_mutex_unlock (&member->core->lock);
}

/* A new reference to the member of the task, or NULL */
static QTaskMember *
ref_member (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskMember *member;

  g_mutex_lock (&priv->lock);
  member = q_task_get_member (priv);
  if (member != NULL)
    q_task_member_ref (member);
  g_mutex_unlock (&priv->lock);

  return member;
}

/* Before the outcome is fixed, since then the thread has no part in the task any more. So the
 * others end first, and the error is noted here. */
static void
member_ending (QTask *task,
               const GError *error)
{
  QTaskMember *member = ref_member (task);
  QTaskGroupCore *core;
  GError *own_error = NULL;

  if (member == NULL)
    return;

  core = member->core;

  if ((core->flags & Q_TASK_GROUP_CANCEL_ON_ERROR) != 0)
    {
      QTaskPrivate *priv = q_task_get_private (task);

      /* What comes after the outcome counts no more. */
      g_mutex_lock (&priv->lock);
      if ((q_task_get_word (priv) & Q_TASK_WORD_FIXED) == 0)
        {
          own_error = copy_error (task);
          if (own_error == NULL && error != NULL)
            own_error = g_error_copy (error);
        }
      g_mutex_unlock (&priv->lock);

      g_mutex_lock (&core->lock);
      if (core->error == NULL)
        core->error = g_steal_pointer (&own_error);
      g_mutex_unlock (&core->lock);

      g_clear_error (&own_error);
      cancel_on_error (core, task);
    }

  q_task_member_unref (member);
}

static void
member_failed (QTask *task)
{
  QTaskMember *member = ref_member (task);

  if (member == NULL)
    return;

  cancel_on_error (member->core, task);
  q_task_member_unref (member);
}

static void
member_progress (QTask *task)
{
  QTaskMember *member = ref_member (task);
  double progress;

  if (member == NULL)
    return;

  progress = q_task_get_progress (task);

  g_mutex_lock (&member->core->lock);
  if (!member->is_completed)
    {
      member->core->progress += progress - member->progress;
      member->progress = progress;
    }
  g_mutex_unlock (&member->core->lock);

  progress_changed (member->core);
  q_task_member_unref (member);
}

/* Takes the member out of those that have not completed. */
static void
unlink_locked (QTaskMember *member)
{
  QTaskGroupCore *core = member->core;

  if (member->prev != NULL)
    member->prev->next = member->next;
  else
    core->first = member->next;
  if (member->next != NULL)
    member->next->prev = member->prev;
  else
    core->last = member->prev;
  member->prev = member->next = NULL;

  core->n_running--;
  core->progress = core->n_running > 0 ? core->progress - member->progress : 0;

  if (member->is_unstarted)
    core->n_unstarted--;
  if (member->is_over)
    core->n_over--;
  member->is_unstarted = member->is_over = FALSE;

  if (q_task_node_is_queued (&member->timed))
    q_task_queue_remove (&core->timed, &member->timed);
}

/* Whoever takes the member from its task has the reference. */
static QTaskMember *
steal_member (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskMember *member;

  g_mutex_lock (&priv->lock);
  member = q_task_get_member (priv);
  if (member != NULL)
    g_atomic_pointer_set (&priv->extra->member, NULL);
  g_mutex_unlock (&priv->lock);

  return member;
}

static void
member_completed (QTask *task,
                  gboolean elsewhere)
{
  QTaskMember *member = steal_member (task);
  g_autoptr (QTaskGroup) group = NULL;
  QTaskGroupCore *core;
  gboolean is_end;

  if (member == NULL)
    return;

  core = member->core;

  g_mutex_lock (&core->lock);
  g_atomic_int_set (&member->is_completed, TRUE);
  unlink_locked (member);
  if (core->n_completed == 0)
    core->first_completed = g_steal_pointer (&member->error);
  core->n_completed++;
  is_end = core->n_running == 0 &&
           (core->is_closed || core->n_owner_waits > 0 || core->waiters.length > 0);
  if (elsewhere)
    add_pending_locked (member);
  if (core->n_blocked > 0)
    g_cond_broadcast (&core->cond);
  g_mutex_unlock (&core->lock);

  q_task_member_unwatch (member);
  cancel_on_error (core, NULL);

  if (elsewhere)
    {
      tell_owner (core);
    }
  else
    {
      group = g_weak_ref_get (&core->group);

      if (group != NULL)
        {
          update_list (group);
          if (!is_to_list (member))
            unlist (group, member);
          progress_changed (core);
          if (is_end)
            q_task_group_core_flush_progress (core);
          q_task_group_core_tell (core);
        }
    }

  /* That of the core, and that of the task */
  q_task_member_unref (member);
  q_task_member_unref (member);
}

static void
list_tasks (QTaskGroupCore *core,
            gboolean for_any,
            GPtrArray *tasks)
{
  g_mutex_lock (&core->lock);
  if (!for_any || core->n_fixed == 0)
    for (QTaskMember *member = core->first; member != NULL; member = member->next)
      if (!member->is_fixed)
        g_ptr_array_add (tasks, g_object_ref (member->task));
  g_mutex_unlock (&core->lock);
}

static const QTaskMemberFuncs member_funcs = {
  .fixed = member_fixed,
  .wake = member_wake,
  .ending = member_ending,
  .failed = member_failed,
  .progress = member_progress,
  .completed = member_completed,
  .list = list_tasks,
};

/* The object */

static void
drop (QTaskGroupCore *core)
{
  g_mutex_lock (&core->lock);
  core->is_closed = TRUE;
  g_mutex_unlock (&core->lock);

  if (!q_task_is_forked (NULL))
    cancel (core, NULL);
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
          drop (core);
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
  g_autoptr (GPtrArray) members = NULL;

  drop (core);

  /* Nobody is interested in those that go on. */
  members = q_task_group_core_list (core, TRUE);
  for (guint i = 0; i < members->len; i++)
    {
      QTaskMember *member = members->pdata[i];

      if (steal_member (member->task) == NULL)
        continue;

      g_mutex_lock (&core->lock);
      unlink_locked (member);
      g_mutex_unlock (&core->lock);

      q_task_member_unref (member);
      q_task_member_unref (member);
    }

  g_sequence_free (group->list);

  drop_pending (core);
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
    case PROP_FLAGS:
      g_value_set_flags (value, q_task_group_get_flags (group));
      break;

    case PROP_PROGRESS:
      g_value_set_double (value, q_task_group_get_progress (group));
      break;

    case PROP_IS_CLOSED:
      g_value_set_boolean (value, q_task_group_is_closed (group));
      break;

    case PROP_N_ITEMS:
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
    case PROP_FLAGS:
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
  q_task_member_funcs = &member_funcs;

  /**
   * QTaskGroup:flags:
   *
   * How the group behaves.
   *
   * Since: 1.0
   */
  props[PROP_FLAGS] =
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
  props[PROP_PROGRESS] =
    g_param_spec_double ("progress", NULL, NULL, 0.0, 1.0, 0.0,
                         G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskGroup:is-closed: (getter is_closed)
   *
   * Whether the group takes no more tasks.
   *
   * Since: 1.0
   */
  props[PROP_IS_CLOSED] =
    g_param_spec_boolean ("is-closed", NULL, NULL, FALSE,
                          G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskGroup:n-items:
   *
   * The number of tasks in the list; see g_list_model_get_n_items().
   *
   * Since: 1.0
   */
  props[PROP_N_ITEMS] =
    g_param_spec_uint ("n-items", NULL, NULL, 0, G_MAXUINT, 0,
                       G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  g_object_class_install_properties (object_class, N_PROPS, props);
}

static void
q_task_group_init (QTaskGroup *group)
{
  QTaskGroupCore *core = g_new0 (QTaskGroupCore, 1);

  group->core = core;
  group->list = g_sequence_new (member_unref_notify);

  core->ref_count = 1;
  core->dispatch = q_task_dispatch_ref_for_context (g_main_context_get_thread_default ());
  core->thread_id = q_task_dispatch_get_thread_id ();
  core->notified_at = G_MININT64 / 2;
  g_weak_ref_init (&core->group, group);
  g_mutex_init (&core->lock);
  g_cond_init (&core->cond);
  g_queue_init (&core->waiters);
}

static GType
q_task_group_get_item_type (GListModel *model G_GNUC_UNUSED)
{
  return Q_TYPE_TASK;
}

static guint
q_task_group_get_n_items (GListModel *model)
{
  return (guint) g_sequence_get_length (Q_TASK_GROUP (model)->list);
}

static gpointer
q_task_group_get_item (GListModel *model,
                       guint position)
{
  GSequence *list = Q_TASK_GROUP (model)->list;
  QTaskMember *member;

  if (position >= (guint) g_sequence_get_length (list))
    return NULL;

  member = g_sequence_get (g_sequence_get_iter_at_pos (list, (int) position));

  return g_object_ref (member->task);
}

static void
q_task_group_list_model_init (GListModelInterface *iface)
{
  iface->get_item_type = q_task_group_get_item_type;
  iface->get_n_items = q_task_group_get_n_items;
  iface->get_item = q_task_group_get_item;
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
 * q_task_group_is_cancelled:
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

/* Links a new member, with both locks held. */
static void
link_locked (QTaskMember *member,
             GError *error)
{
  QTaskGroupCore *core = member->core;

  member->prev = core->last;
  if (core->last != NULL)
    core->last->next = member;
  else
    core->first = member;
  core->last = q_task_member_ref (member);

  core->n_added++;
  core->n_running++;
  member->progress = q_task_get_progress (member->task);
  core->progress += member->progress;
  add_pending_locked (member);

  if (q_task_get_word (q_task_get_private (member->task)) & Q_TASK_WORD_FIXED)
    fix_locked (member, error);

  g_atomic_pointer_set (&q_task_get_private (member->task)->extra->member,
                        q_task_member_ref (member));
}

static QTaskMember *
member_new (QTaskGroupCore *core,
            QTask *task)
{
  QTaskMember *member = g_atomic_rc_box_new0 (QTaskMember);

  member->core = q_task_group_core_ref (core);
  member->task = g_object_ref (task);

  return member;
}

/**
 * q_task_group_add:
 * @group: a group
 * @task: a task of the context of @group
 * @error: return location for an error
 *
 * Adds a task to the group, best before it is started. If the group was cancelled, so is the
 * task. A task is in one group at most; a group never takes a task twice.
 *
 * The group holds a reference to the task until it has completed: one that is never started
 * stays.
 *
 * Called by another thread than the owner, it lists the task when the owner's main loop comes
 * to that.
 *
 * Errors: %Q_TASK_ERROR_CLOSED if the group was closed; %G_IO_ERROR_EXISTS if the task is in this
 * or another group; %G_IO_ERROR_INVALID_ARGUMENT if it has another context;
 * %G_IO_ERROR_PENDING if it has completed or, when another thread than the owner calls, has its
 * outcome; %Q_TASK_ERROR_FORKED in a forked child.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if the task was added
 *
 * Since: 1.0
 */
gboolean
q_task_group_add (QTaskGroup *group,
                  QTask *task,
                  GError **error)
{
  g_autoptr (QTaskGroup) hold = NULL;
  QTaskGroupCore *core;
  QTaskPrivate *priv;
  QTaskMember *member = NULL;
  GError *outcome = NULL;
  QTaskOwnership ownership;
  gboolean is_closed;
  gboolean is_cancelled;
  gboolean is_other;
  gboolean is_late;
  gboolean is_taken;
  guint late;

  g_return_val_if_fail (Q_IS_TASK_GROUP (group), FALSE);
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  hold = g_object_ref (group);
  core = group->core;
  priv = q_task_get_private (task);
  q_task_ensure_extra (priv);
  member = member_new (core, task);

  ownership = q_task_dispatch_acquire (core->dispatch, core->thread_id);
  late = ownership != Q_TASK_OWNER_NOT ? Q_TASK_WORD_COMPLETING : Q_TASK_WORD_FIXED;
  if (ownership == Q_TASK_OWNER_NOT)
    member->start_time = g_get_monotonic_time () + Q_TASK_RETRY_USEC;

  g_mutex_lock (&priv->lock);

  is_other = priv->dispatch != core->dispatch;
  is_late = (q_task_get_word (priv) & late) != 0;
  is_taken = priv->extra->member != NULL;
  if (!is_other && !is_late && !is_taken && (q_task_get_word (priv) & Q_TASK_WORD_FIXED) != 0)
    outcome = copy_error (task);

  g_mutex_lock (&core->lock);
  is_closed = core->is_closed;
  is_cancelled = core->is_cancelled;
  if (!is_closed && !is_other && !is_late && !is_taken)
    link_locked (member, g_steal_pointer (&outcome));
  g_mutex_unlock (&core->lock);

  g_mutex_unlock (&priv->lock);

  g_clear_error (&outcome);

  if (is_closed || is_other || is_late || is_taken)
    {
      g_autofree char *description = q_task_describe (task);

      if (is_closed)
        g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED,
                             _("The group is closed and takes no more tasks"));
      else if (is_other)
        g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                     _("The task %s has another main context than the group; make both where "
                       "the same context is thread-default"),
                        description);
      else if (is_taken)
        g_set_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS, _("The task %s is in a group already"), description);
      else
        g_set_error (error, G_IO_ERROR, G_IO_ERROR_PENDING,
                     _("The task %s has completed; add a task before it is started"),
                        description);

      q_task_dispatch_release (core->dispatch, ownership);
      q_task_member_unref (member);
      return FALSE;
    }

  if (is_cancelled)
    q_task_cancel (task);
  else
    cancel_on_error (core, NULL);

  if (ownership != Q_TASK_OWNER_NOT)
    {
      update_list (group);
      progress_changed (core);
    }
  else
    {
      tell_owner (core);
    }

  q_task_dispatch_release (core->dispatch, ownership);
  q_task_member_unref (member);

  return TRUE;
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
  cancel (group->core, NULL);
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
      tell_owner (core);
    }
}
