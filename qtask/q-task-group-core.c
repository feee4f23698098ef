/* q-task-group-core.c: what outlives a QTaskGroup
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The core is what the tasks of a group refer to, each through its member: it counts them, keeps
 * the first error, and outlives the object, so that tasks do not keep the group alive and the
 * group can be dropped anywhere. Its lock protects all that is not constant, and is taken after
 * that of a task. No lock is held while code of the user runs, and cancelling does.
 *
 * How a task joins and leaves is in q-task-group-member.c.
 */

#include "config.h"

#include "q-task-group-private.h"

/* Of the context that is thread-default in the caller. */
QTaskGroupCore *
q_task_group_core_new (QTaskGroup *group)
{
  QTaskGroupCore *core = g_new0 (QTaskGroupCore, 1);

  core->ref_count = 1;
  core->dispatch = q_task_dispatch_ref_for_context (g_main_context_get_thread_default ());
  core->thread_id = q_task_dispatch_get_thread_id ();
  core->notified_at = G_MININT64 / 2;
  g_weak_ref_init (&core->group, group);
  g_mutex_init (&core->lock);
  g_cond_init (&core->cond);
  g_queue_init (&core->waiters);

  return core;
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

/* Members */

QTaskMember *
q_task_member_new (QTaskGroupCore *core,
                   QTask *task)
{
  QTaskMember *member = g_atomic_rc_box_new0 (QTaskMember);

  member->core = q_task_group_core_ref (core);
  member->task = g_object_ref (task);

  return member;
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

/* The tasks that have not completed, with a reference each, in the order they came; or only those
 * that have no outcome yet. */
GPtrArray *
q_task_group_core_list (QTaskGroupCore *core,
                        gboolean with_fixed)
{
  GPtrArray *members = g_ptr_array_new_with_free_func ((GDestroyNotify) q_task_member_unref);

  g_mutex_lock (&core->lock);
  for (QTaskMember *member = core->first; member != NULL; member = member->next)
    if (with_fixed || !member->is_fixed)
      g_ptr_array_add (members, q_task_member_ref (member));
  g_mutex_unlock (&core->lock);

  return members;
}

/* Cancelling */

/* Cancels all that have no outcome, but for @failed. */
static void
cancel_members (QTaskGroupCore *core,
                QTask *failed)
{
  g_autoptr (GPtrArray) members = q_task_group_core_list (core, FALSE);

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

/* Cancels the group, but for @failed, which is the reason of it, and has the owner told. */
void
q_task_group_core_cancel (QTaskGroupCore *core,
                          QTask *failed)
{
  gboolean was_cancelled;

  g_mutex_lock (&core->lock);
  was_cancelled = core->is_cancelled;
  core->is_cancelled = TRUE;
  core->tells_cancelled |= !was_cancelled;
  g_mutex_unlock (&core->lock);

  if (was_cancelled)
    return;

  cancel_members (core, failed);
  q_task_group_core_serve_soon (core);
}

/* The group goes: there is nobody to be told. */
void
q_task_group_core_drop (QTaskGroupCore *core)
{
  gboolean was_cancelled;

  g_mutex_lock (&core->lock);
  was_cancelled = core->is_cancelled;
  core->is_closed = core->is_cancelled = TRUE;
  g_mutex_unlock (&core->lock);

  if (!was_cancelled && !q_task_is_forked (NULL))
    cancel_members (core, NULL);
}

/* Cancels the others, if @failed, or another one, has failed and they are to be. */
void
q_task_group_core_cancel_on_error (QTaskGroupCore *core,
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
    q_task_group_core_cancel (core, failed);
}
