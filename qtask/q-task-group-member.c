/* q-task-group-member.c: how a task joins a QTaskGroup, what becomes of it there, and how it leaves
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A task has its member, as `member` in its extra part, until it has completed, and tells it
 * through the functions of q_task_member_funcs, in whatever thread that happens. Its lock is
 * taken before that of the core, which protects the members.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-group-private.h"

/* The outcome */

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

/* Joining and leaving */

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
  q_task_group_list_add_pending_locked (member);

  if (q_task_get_word (q_task_get_private (member->task)) & Q_TASK_WORD_FIXED)
    fix_locked (member, error);

  g_atomic_pointer_set (&q_task_get_private (member->task)->extra->member,
                        q_task_member_ref (member));
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

  q_task_member_ignore_locked (member);
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

/* Nobody is interested in those that go on. */
void
q_task_group_core_forget_members (QTaskGroupCore *core)
{
  g_autoptr (GPtrArray) members = q_task_group_core_list (core, TRUE);

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
}

/* What a task tells */

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
      q_task_group_core_cancel_on_error (core, task);
    }

  q_task_member_unref (member);
}

static void
member_failed (QTask *task)
{
  QTaskMember *member = ref_member (task);

  if (member == NULL)
    return;

  q_task_group_core_cancel_on_error (member->core, task);
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

  q_task_group_core_progress_changed (member->core);
  q_task_member_unref (member);
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
    q_task_group_list_add_pending_locked (member);
  if (core->n_blocked > 0)
    g_cond_broadcast (&core->cond);
  g_mutex_unlock (&core->lock);

  q_task_member_unwatch (member);
  q_task_group_core_cancel_on_error (core, NULL);

  if (elsewhere)
    {
      q_task_group_core_tell_owner (core);
    }
  else
    {
      group = g_weak_ref_get (&core->group);

      if (group != NULL)
        {
          q_task_group_list_update (group);
          q_task_group_list_remove (group, member);
          q_task_group_core_progress_changed (core);
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

const QTaskMemberFuncs q_task_group_member_funcs = {
  .fixed = member_fixed,
  .wake = member_wake,
  .ending = member_ending,
  .failed = member_failed,
  .progress = member_progress,
  .completed = member_completed,
  .list = list_tasks,
};

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
  member = q_task_member_new (core, task);

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
    q_task_group_core_cancel_on_error (core, NULL);

  if (ownership != Q_TASK_OWNER_NOT)
    {
      q_task_group_list_update (group);
      q_task_group_core_progress_changed (core);
    }
  else
    {
      q_task_group_core_tell_owner (core);
    }

  q_task_dispatch_release (core->dispatch, ownership);
  q_task_member_unref (member);

  return TRUE;
}
