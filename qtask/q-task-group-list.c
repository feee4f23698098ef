/* q-task-group-list.c: what the owner of a QTaskGroup sees of it
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The list belongs to the owner alone: what other threads add is pending until it comes to
 * that, with the lock of the core, and a delivery has the owner look. It is a balanced tree, so
 * whatever leaves it is found in O(log n).
 *
 * Of the progress the owner is notified now and then, by a timer.
 */

#include "config.h"

#include "q-task-group-private.h"

/* The least time between notifications of progress. */
#define PROGRESS_USEC (16 * G_TIME_SPAN_MILLISECOND)

GSequence *
q_task_group_list_new (void)
{
  return g_sequence_new ((GDestroyNotify) q_task_member_unref);
}

static void
list_changed (QTaskGroup *group,
              guint position,
              guint n_removed,
              guint n_added)
{
  g_list_model_items_changed (G_LIST_MODEL (group), position, n_removed, n_added);
  q_task_group_notify (group, Q_TASK_GROUP_PROP_N_ITEMS);
}

/* Whether the member is, or is to be, in the list. */
static gboolean
is_to_list (QTaskMember *member)
{
  if ((member->core->flags & Q_TASK_GROUP_KEEP_COMPLETED) != 0)
    return !member->is_cleared;

  return !g_atomic_int_get (&member->is_completed);
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

/* Takes a member that has completed out of the list, unless it is kept there. */
void
q_task_group_list_remove (QTaskGroup *group,
                          QTaskMember *member)
{
  if (!is_to_list (member))
    unlist (group, member);
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
void
q_task_group_list_update (QTaskGroup *group)
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
        others = g_ptr_array_new_with_free_func ((GDestroyNotify) q_task_member_unref);
      g_ptr_array_add (others, member);
    }

  if (n_added > 0)
    list_changed (group, position, 0, n_added);

  for (guint i = 0; others != NULL && i < others->len; i++)
    q_task_group_list_remove (group, others->pdata[i]);
  g_clear_pointer (&others, g_ptr_array_unref);
}

/* Whether the task before @iter has completed. */
static gboolean
is_completed_before (GSequenceIter *iter)
{
  QTaskMember *member = g_sequence_get (g_sequence_iter_prev (iter));

  return g_atomic_int_get (&member->is_completed);
}

/* Takes what has completed off the list, a range at a time. What handlers do meanwhile is behind:
 * they may add, and clear, too. */
static void
clear_completed (QTaskGroup *group)
{
  guint position = G_MAXUINT;

  do
    {
      g_autoptr (GPtrArray) members = g_ptr_array_new_with_free_func ((GDestroyNotify) q_task_member_unref);
      GSequenceIter *begin;
      GSequenceIter *end;

      position = MIN (position, (guint) g_sequence_get_length (group->list));
      end = g_sequence_get_iter_at_pos (group->list, (int) position);
      while (position > 0 && !is_completed_before (end))
        {
          end = g_sequence_iter_prev (end);
          position--;
        }

      begin = end;
      while (position > 0 && is_completed_before (begin))
        {
          QTaskMember *member;

          begin = g_sequence_iter_prev (begin);
          position--;
          member = g_sequence_get (begin);
          member->iter = NULL;
          member->is_cleared = TRUE;
          /* Dropped last: that may run code of the user. */
          g_ptr_array_add (members, q_task_member_ref (member));
        }

      if (members->len > 0)
        {
          g_sequence_remove_range (begin, end);
          list_changed (group, position, members->len, 0);
        }
    }
  while (position > 0);
}

void
q_task_group_list_drop_pending (QTaskGroupCore *core)
{
  QTaskMember *member;

  while ((member = pop_pending (core)) != NULL)
    q_task_member_unref (member);
}

/* With the lock held; takes a reference. */
void
q_task_group_list_add_pending_locked (QTaskMember *member)
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

/* The list model */

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

void
q_task_group_list_init_model (GListModelInterface *iface)
{
  iface->get_item_type = q_task_group_get_item_type;
  iface->get_n_items = q_task_group_get_n_items;
  iface->get_item = q_task_group_get_item;
}

/* Progress; all by the owner */

static void
notify_progress (QTaskGroupCore *core)
{
  g_autoptr (QTaskGroup) group = g_weak_ref_get (&core->group);

  if (group != NULL)
    q_task_group_notify (group, Q_TASK_GROUP_PROP_PROGRESS);
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
void
q_task_group_core_progress_changed (QTaskGroupCore *core)
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

/* What other threads leave for the owner */

/* With the lock held: whether there is something. */
gboolean
q_task_group_core_is_to_serve_locked (QTaskGroupCore *core)
{
  return core->pending != NULL || core->tells_closed || core->tells_cancelled || core->clears;
}

/* Does what other threads left for the owner. */
void
q_task_group_core_serve (QTaskGroupCore *core)
{
  g_autoptr (QTaskGroup) group = NULL;
  gboolean is_to_serve;
  gboolean has_pending;
  gboolean tells_closed;
  gboolean tells_cancelled;
  gboolean clears;

  g_mutex_lock (&core->lock);
  is_to_serve = q_task_group_core_is_to_serve_locked (core);
  has_pending = core->pending != NULL;
  tells_closed = core->tells_closed;
  tells_cancelled = core->tells_cancelled;
  clears = core->clears;
  core->tells_closed = core->tells_cancelled = core->clears = FALSE;
  g_mutex_unlock (&core->lock);

  if (!is_to_serve)
    return;

  group = g_weak_ref_get (&core->group);
  if (group == NULL)
    {
      q_task_group_list_drop_pending (core);
      return;
    }

  if (has_pending)
    {
      q_task_group_list_update (group);
      q_task_group_core_progress_changed (core);
    }
  if (clears)
    clear_completed (group);
  if (tells_closed)
    q_task_group_notify (group, Q_TASK_GROUP_PROP_IS_CLOSED);
  if (tells_cancelled)
    q_task_group_notify (group, Q_TASK_GROUP_PROP_IS_CANCELLED);
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
    q_task_group_list_drop_pending (core);
  else
    q_task_group_core_serve (core);
  q_task_group_core_tell (core);

  q_task_group_core_unref (core);
}

/* Has the owner look, as soon as it comes to that, and at once if it waits. */
void
q_task_group_core_tell_owner (QTaskGroupCore *core)
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

/* Has what the caller has left for the owner done, here if that is who calls. */
void
q_task_group_core_serve_soon (QTaskGroupCore *core)
{
  QTaskOwnership ownership = q_task_dispatch_acquire (core->dispatch, core->thread_id);

  if (ownership == Q_TASK_OWNER_NOT)
    {
      q_task_group_core_tell_owner (core);
      return;
    }

  q_task_group_core_serve (core);
  q_task_dispatch_release (core->dispatch, ownership);
}
