/* q-task-group-wait.c: waiting for a QTaskGroup
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An owner who blocks is, for each task, one who waits for it: whatever would wake it up there
 * puts the member in a queue here, and it looks at those. So it serves all of them as
 * q_task_wait() does for one, and a wake-up costs the same however many they are.
 *
 * Others wait for all by waiting for one after the other, which helps, parks and tells of
 * deadlocks; and for any on the condition of the core, where deadlocks are looked for now and
 * then.
 *
 * Those who do not block are results in a queue.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-group-private.h"

/* How often one who waits in a worker looks for deadlocks, and for a thread. */
#define RETRY_USEC (100 * G_TIME_SPAN_MILLISECOND)

/* What became of a wait */
typedef enum
{
  WAIT_ON,
  WAIT_DONE,
  WAIT_NEVER /* there is no task to come */
} WaitState;

/* With the lock held. For the owner a task is over when it has completed, for others when it has
 * its outcome. */
static WaitState
get_state (QTaskGroupCore *core,
           QTaskGroupWaitMode mode,
           gboolean is_owner)
{
  if (mode == Q_TASK_GROUP_ALL)
    return core->n_running == 0 || (!is_owner && core->n_fixed == core->n_added) ? WAIT_DONE
                                                                                 : WAIT_ON;

  if (core->n_completed > 0 || (!is_owner && core->n_fixed > 0))
    return WAIT_DONE;

  return core->is_closed && core->n_running == 0 ? WAIT_NEVER : WAIT_ON;
}

/* The result of a wait that has ended. */
static gboolean
get_result (QTaskGroupCore *core,
            QTaskGroupWaitMode mode,
            WaitState state,
            GError **error)
{
  GError *outcome;

  if (state == WAIT_NEVER)
    {
      g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED,
                           _("The group was closed without a task, so none will complete"));
      return FALSE;
    }

  g_mutex_lock (&core->lock);
  if (mode == Q_TASK_GROUP_ALL)
    outcome = core->error;
  else
    outcome = core->n_completed > 0 ? core->first_completed : core->first_fixed;
  if (outcome != NULL)
    outcome = g_error_copy (core->is_failed ? core->error : outcome);
  g_mutex_unlock (&core->lock);

  if (outcome == NULL)
    return TRUE;

  g_propagate_error (error, outcome);

  return FALSE;
}

/* Members that are watched by an owner who waits */

/* With the lock held. */
void
q_task_member_wake_locked (QTaskMember *member)
{
  QTaskGroupCore *core = member->core;

  if (member->is_woken)
    return;

  member->is_woken = TRUE;
  member->next_woken = NULL;
  q_task_member_ref (member);
  if (core->woken_last != NULL)
    core->woken_last->next_woken = member;
  else
    core->woken = member;
  core->woken_last = member;

  if (core->n_blocked > 0)
    g_cond_broadcast (&core->cond);
}

/* With the lock held: what an owner who waits has seen of it does not count any more. */
void
q_task_member_ignore_locked (QTaskMember *member)
{
  QTaskGroupCore *core = member->core;

  if (member->is_unstarted)
    core->n_unstarted--;
  if (member->is_over)
    core->n_over--;
  member->is_unstarted = member->is_over = FALSE;

  if (q_task_node_is_queued (&member->timed))
    q_task_queue_remove (&core->timed, &member->timed);
}

/* With the lock held; the reference is the caller's. */
static QTaskMember *
pop_woken_locked (QTaskGroupCore *core)
{
  QTaskMember *member = core->woken;

  if (member == NULL)
    return NULL;

  core->woken = member->next_woken;
  if (core->woken == NULL)
    core->woken_last = NULL;
  member->is_woken = FALSE;

  return member;
}

/* Has the owner, who calls this, hear of the task if it waits. */
void
q_task_member_watch (QTaskMember *member)
{
  QTaskGroupCore *core = member->core;
  QTaskPrivate *priv = q_task_get_private (member->task);
  gboolean watches;

  g_mutex_lock (&priv->lock);
  g_mutex_lock (&core->lock);

  watches = core->n_owner_waits > 0 && !member->is_completed && !member->is_watched;

  /* In a wait inside of a wait, or to see whether its callback runs */
  if (member->is_watched)
    q_task_member_wake_locked (member);

  if (watches)
    {
      guint word = q_task_get_word (priv);

      member->is_watched = TRUE;
      member->is_handed = (word & Q_TASK_WORD_OWNER_WAITS) == 0;
      member->is_unstarted = q_task_word_get_state (word) == Q_TASK_STATE_NEW;
      core->n_unstarted += member->is_unstarted ? 1 : 0;
      q_task_begin_wait_locked (priv, member->is_handed ? Q_TASK_WORD_OWNER_WAITS : 0);
      q_task_member_wake_locked (member);
    }

  g_mutex_unlock (&core->lock);
  g_mutex_unlock (&priv->lock);

  if (!watches)
    return;

  q_task_tell_runner (member->task);
  q_task_watch_messages (member->task, TRUE);

  /* A synchronous run in another thread may have ended meanwhile. */
  g_mutex_lock (&core->lock);
  watches = member->is_watched;
  g_mutex_unlock (&core->lock);

  if (!watches)
    q_task_watch_messages (member->task, FALSE);
}

void
q_task_member_unwatch (QTaskMember *member)
{
  QTaskGroupCore *core = member->core;
  QTaskPrivate *priv = q_task_get_private (member->task);
  gboolean was_watched;

  g_mutex_lock (&priv->lock);

  /* The worker has left its completion to this wait, and to nobody who runs it synchronously. */
  while (member->is_watched && member->is_handed &&
         (q_task_get_word (priv) & (Q_TASK_WORD_HANDED | Q_TASK_WORD_SYNCHRONOUS)) == Q_TASK_WORD_HANDED)
    {
      gboolean again = FALSE;

      g_mutex_unlock (&priv->lock);
      q_task_look (member->task, &again);
      g_mutex_lock (&priv->lock);
    }

  g_mutex_lock (&core->lock);

  was_watched = member->is_watched;
  if (was_watched)
    {
      q_task_end_wait_locked (priv, member->is_handed ? Q_TASK_WORD_OWNER_WAITS : 0);
      member->is_watched = FALSE;
      q_task_member_ignore_locked (member);
    }

  g_mutex_unlock (&core->lock);
  g_mutex_unlock (&priv->lock);

  if (was_watched)
    q_task_watch_messages (member->task, FALSE);
}

/* Blocking */

typedef struct
{
  QTaskGroupCore *core;
  QTaskGroupWaitMode mode;
  GCancellable *cancellable;
  gint64 end_time; /* of this turn, or -1 */
  gboolean is_turn_over;
  QTaskFrame *frame; /* of the worker that waits, or NULL */
  gboolean is_owner;
  gboolean is_parked;
  gboolean is_in_graph;
  gint64 retry_time; /* when to look for deadlocks again */
  gint64 start_time; /* when an owner is to look whether something was started, or -1 */
} GroupBlock;

/* With the lock held. In the callback of a task, that counts as over. */
static WaitState
get_block_state (GroupBlock *block)
{
  QTaskGroupCore *core = block->core;

  if (block->is_owner && core->n_over > 0 &&
      (block->mode == Q_TASK_GROUP_ANY || core->n_over == core->n_running))
    return WAIT_DONE;

  return get_state (core, block->mode, block->is_owner);
}

static void
cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
              gpointer data)
{
  QTaskGroupCore *core = data;

  g_mutex_lock (&core->lock);
  g_cond_broadcast (&core->cond);
  g_mutex_unlock (&core->lock);
}

static void
unref_core_notify (gpointer core,
                   GClosure *closure G_GNUC_UNUSED)
{
  q_task_group_core_unref (core);
}

static void
unpark (GroupBlock *block)
{
  QTaskFrame *frame = block->frame;

  if (frame != NULL && block->is_parked)
    frame->runner->funcs->unpark (frame->runner);

  block->is_parked = FALSE;
}

static void
begin_watching (QTaskGroupCore *core)
{
  g_autoptr (GPtrArray) members = NULL;

  g_mutex_lock (&core->lock);
  core->n_owner_waits++;
  g_mutex_unlock (&core->lock);

  members = q_task_group_core_list (core, TRUE);
  for (guint i = 0; i < members->len; i++)
    q_task_member_watch (members->pdata[i]);
}

static void
end_watching (QTaskGroupCore *core)
{
  g_autoptr (GPtrArray) members = NULL;
  QTaskMember *member;
  gboolean is_last;

  g_mutex_lock (&core->lock);
  core->n_owner_waits--;
  is_last = core->n_owner_waits == 0;
  g_mutex_unlock (&core->lock);

  if (!is_last)
    return;

  members = q_task_group_core_list (core, TRUE);
  for (guint i = 0; i < members->len; i++)
    q_task_member_unwatch (members->pdata[i]);

  g_mutex_lock (&core->lock);
  while (core->n_owner_waits == 0 && (member = pop_woken_locked (core)) != NULL)
    {
      g_mutex_unlock (&core->lock);
      q_task_member_unref (member);
      g_mutex_lock (&core->lock);
    }
  g_mutex_unlock (&core->lock);
}

/* Looks at the members that were woken, or whose time has come, until there is none or the wait
 * is over. */
static void
serve (GroupBlock *block)
{
  QTaskGroupCore *core = block->core;
  QTaskMember *member;
  QTaskNode *node;
  gint64 now = g_get_monotonic_time ();
  gint64 due = q_task_group_core_get_due (core);

  if (due != -1 && due <= now)
    q_task_group_core_flush_progress (core);

  q_task_group_core_serve (core);

  g_mutex_lock (&core->lock);

  while ((node = q_task_queue_peek (&core->timed)) != NULL && node->key <= now)
    {
      q_task_queue_remove (&core->timed, node);
      q_task_member_wake_locked ((QTaskMember *) node);
    }

  while (get_block_state (block) == WAIT_ON &&
         (member = pop_woken_locked (core)) != NULL)
    {
      gboolean again = FALSE;
      gint64 when;

      g_mutex_unlock (&core->lock);
      when = q_task_look (member->task, &again);
      g_mutex_lock (&core->lock);

      if (member->is_watched)
        {
          if (q_task_node_is_queued (&member->timed))
            q_task_queue_remove (&core->timed, &member->timed);
          if (again)
            q_task_member_wake_locked (member);
          else if (when != -1)
            q_task_queue_insert (&core->timed, &member->timed, when);

          if (member->is_unstarted && q_task_poll (member->task) != Q_TASK_STATE_NEW)
            {
              member->is_unstarted = FALSE;
              core->n_unstarted--;
            }

          if (!member->is_over && q_task_is_set (member->task, Q_TASK_WORD_COMPLETING))
            {
              member->is_over = TRUE;
              core->n_over++;
            }
        }

      g_mutex_unlock (&core->lock);
      q_task_member_unref (member);
      g_mutex_lock (&core->lock);
    }

  g_mutex_unlock (&core->lock);
}

/* Whether nothing that was started is left, so that an owner who waits would do so for ever. */
static gboolean
check_started (GroupBlock *block,
               GError **error)
{
  QTaskGroupCore *core = block->core;
  g_autoptr (GPtrArray) members = NULL;
  gint64 now = g_get_monotonic_time ();
  gboolean is_stuck;

  block->start_time = -1;

  g_mutex_lock (&core->lock);
  is_stuck = core->n_unstarted + core->n_over == core->n_running && core->woken == NULL &&
             get_block_state (block) == WAIT_ON;
  g_mutex_unlock (&core->lock);

  if (!is_stuck)
    return TRUE;

  /* Whoever starts a task wakes the one who waits, but not before it is started. */
  members = q_task_group_core_list (core, TRUE);
  for (guint i = 0; i < members->len; i++)
    {
      QTaskMember *member = members->pdata[i];

      if (member->is_over)
        continue;

      if (q_task_poll (member->task) == Q_TASK_STATE_NEW)
        {
          if (member->start_time > now &&
              (block->start_time == -1 || member->start_time < block->start_time))
            block->start_time = member->start_time;
          continue;
        }

      g_mutex_lock (&core->lock);
      if (member->is_unstarted)
        core->n_unstarted--;
      member->is_unstarted = FALSE;
      g_mutex_unlock (&core->lock);

      return TRUE;
    }

  /* Another thread has just added one, and is about to start it. */
  if (block->start_time != -1)
    return TRUE;

  g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK,
                       _("Waiting for the group would never end: none of its tasks was started, "
                         "and its owner, who waits, could not do so"));
  return FALSE;
}

/* Whether what the caller waits for, in a worker or in a sync function, can end. */
static gboolean
check_ring (GroupBlock *block,
            GError **error)
{
  block->is_in_graph = q_task_wait_graph_enter_group (block->core, block->mode == Q_TASK_GROUP_ANY);

  if (block->is_in_graph)
    return TRUE;

  g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK,
                       _("Waiting for the group would never end, since a task of it cannot end "
                         "before the one that waits"));
  return FALSE;
}

/* There is no thread to be had: runs one of the tasks here, if there is one in the queue. */
static gboolean
help (GroupBlock *block)
{
  QTaskRunner *runner = block->frame->runner;
  g_autoptr (GPtrArray) members = NULL;

  if (block->frame->depth + 1 >= Q_TASK_MAX_DEPTH)
    return FALSE;

  members = q_task_group_core_list (block->core, FALSE);
  for (guint i = 0; i < members->len; i++)
    {
      QTask *task = ((QTaskMember *) members->pdata[i])->task;

      /* It could wait for its owner, who is below it on the stack. */
      if (block->is_owner &&
          (q_task_get_private (task)->extra->channel != NULL || q_task_has_sync_func (task)))
        continue;

      if (q_task_get_private (task)->runner == runner && runner->funcs->help (runner, task))
        return TRUE;
    }

  return FALSE;
}

/* Lets a worker that waits get out of the way. Returns whether to look again at once. */
static gboolean
prepare_worker (GroupBlock *block,
                gboolean *is_ring,
                GError **error)
{
  QTaskRunner *runner = block->frame->runner;

  if (block->retry_time > g_get_monotonic_time ())
    {
      if (!block->is_parked)
        runner->funcs->park (runner);
      block->is_parked = TRUE;
      runner->funcs->compensate (runner);
      return FALSE;
    }

  *is_ring = !check_ring (block, error);
  if (*is_ring)
    return FALSE;

  block->retry_time = g_get_monotonic_time () + RETRY_USEC;

  if (!block->is_parked)
    runner->funcs->park (runner);
  block->is_parked = TRUE;

  if (runner->funcs->compensate (runner))
    return FALSE;

  unpark (block);

  return help (block);
}

/* Blocks on the condition of the core. */
static gboolean
block_until_over (GroupBlock *block,
                  GError **error)
{
  QTaskGroupCore *core = block->core;

  for (;;)
    {
      WaitState state;
      gint64 wake_time;
      QTaskNode *node;
      gboolean again;

      if (block->is_owner)
        {
          unpark (block); /* code of the user may wait, too */
          serve (block);
        }

      g_mutex_lock (&core->lock);
      state = get_block_state (block);
      g_mutex_unlock (&core->lock);

      if (state != WAIT_ON)
        return get_result (core, block->mode, state, error);

      if (g_cancellable_is_cancelled (block->cancellable))
        {
          g_propagate_error (error, q_task_new_stop_error (Q_TASK_STOP_CANCEL));
          return FALSE;
        }

      if (block->end_time != -1 && g_get_monotonic_time () >= block->end_time)
        {
          block->is_turn_over = TRUE;
          return FALSE;
        }

      if (block->is_owner && !check_started (block, error))
        return FALSE;

      if (block->frame == NULL && q_task_get_current_hold () != NULL && !check_ring (block, error))
        return FALSE;

      if (block->frame != NULL)
        {
          gboolean is_ring = FALSE;

          again = prepare_worker (block, &is_ring, error);
          if (is_ring)
            return FALSE;
          if (again)
            continue;
        }

      wake_time = block->frame != NULL ? block->retry_time : block->end_time;

      if (block->is_owner)
        {
          gint64 due = q_task_group_core_get_due (core);

          if (due != -1 && (wake_time == -1 || due < wake_time))
            wake_time = due;
          if (block->start_time != -1 && (wake_time == -1 || block->start_time < wake_time))
            wake_time = block->start_time;
        }

      g_mutex_lock (&core->lock);

      node = q_task_queue_peek (&core->timed);
      if (block->is_owner && node != NULL && (wake_time == -1 || node->key < wake_time))
        wake_time = node->key;

      /* What has come meanwhile is not missed. */
      again = get_block_state (block) != WAIT_ON ||
              g_cancellable_is_cancelled (block->cancellable) ||
              (block->is_owner &&
               (core->woken != NULL || q_task_group_core_is_to_serve_locked (core)));

      if (!again)
        {
          core->n_blocked++;
          if (wake_time == -1)
            g_cond_wait (&core->cond, &core->lock);
          else
            g_cond_wait_until (&core->cond, &core->lock, wake_time);
          core->n_blocked--;
        }

      g_mutex_unlock (&core->lock);
    }
}

/* Waits for all tasks, one after the other. */
static gboolean
wait_for_each (GroupBlock *block,
               GError **error)
{
  for (;;)
    {
      g_autoptr (GPtrArray) members = q_task_group_core_list (block->core, FALSE);

      if (members->len == 0)
        return get_result (block->core, Q_TASK_GROUP_ALL, WAIT_DONE, error);

      for (guint i = 0; i < members->len; i++)
        {
          GError *local_error = NULL;

          if (q_task_wait_until (((QTaskMember *) members->pdata[i])->task, block->end_time,
                                 block->cancellable, &local_error))
            continue;

          block->is_turn_over = g_error_matches (local_error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
          g_propagate_error (error, local_error);
          return FALSE;
        }
    }
}

/* Blocks until the wait is over, or for as long as who waits may as well be the owner. */
static gboolean
wait_for_turn (GroupBlock *block,
               GError **error)
{
  QTaskGroupCore *core = block->core;
  QTaskOwnership ownership = q_task_dispatch_acquire (core->dispatch, core->thread_id);
  gulong handler = 0;
  gboolean success;

  *block = (GroupBlock){
    .core = core,
    .mode = block->mode,
    .cancellable = block->cancellable,
    .end_time = -1,
    .is_owner = ownership != Q_TASK_OWNER_NOT,
  };
  if (!block->is_owner && q_task_dispatch_is_next_owner (core->dispatch, core->thread_id))
    block->end_time = g_get_monotonic_time () + Q_TASK_RETRY_USEC;

  if (!block->is_owner && block->mode == Q_TASK_GROUP_ALL)
    return wait_for_each (block, error);

  block->frame = q_task_get_current_frame ();

  if (block->cancellable != NULL)
    handler = g_signal_connect_data (block->cancellable, "cancelled", G_CALLBACK (cancelled_cb),
                                     q_task_group_core_ref (core), unref_core_notify, 0);

  if (block->is_owner)
    begin_watching (core);

  success = block_until_over (block, error);

  if (block->is_in_graph)
    q_task_wait_graph_leave_group ();
  unpark (block);

  if (block->is_owner)
    end_watching (core);

  if (handler != 0)
    g_signal_handler_disconnect (block->cancellable, handler);

  q_task_dispatch_release (core->dispatch, ownership);

  return success;
}

/**
 * q_task_group_wait:
 * @group: a group
 * @mode: what to wait for
 * @cancellable: (nullable): stops the waiting; the tasks go on
 * @error: return location for an error
 *
 * Blocks until all tasks of the group have completed, those that are added meanwhile as well, or
 * with %Q_TASK_GROUP_ANY until one has, which may have been before the call.
 *
 * Called by the owner, it does for all tasks what their main loop would do: it calls their
 * callbacks, and serves their messages, their progress and their sync functions. Called by
 * others, it returns when the tasks have their outcomes, the callbacks of which may be yet to
 * come.
 *
 * Waiting in a worker is safe in a pool of any size, as with [method@QTask.Task.wait]. What could
 * never end is an error.
 *
 * A task that was not started is waited for as well. While there is another one left that was, the
 * owner waits on, since its callback may start the rest; with none, nobody could, and that is an
 * error. Others than the owner wait until somebody starts it.
 *
 * Errors: with %Q_TASK_GROUP_ALL the first error of a task, with %Q_TASK_GROUP_ANY the error of
 * the task that was first; %G_IO_ERROR_CANCELLED if @cancellable was cancelled;
 * %Q_TASK_ERROR_DEADLOCK if a task waits for the caller, directly or through others, or if the
 * caller is the owner and none of the tasks that are left was started, nor has just been added by
 * another thread; %Q_TASK_ERROR_CLOSED if the group was closed without a task, with
 * %Q_TASK_GROUP_ANY; %Q_TASK_ERROR_FORKED in a forked child.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if all tasks went well, or with %Q_TASK_GROUP_ANY the one that was first
 *
 * Since: 1.0
 */
gboolean
q_task_group_wait (QTaskGroup *group,
                   QTaskGroupWaitMode mode,
                   GCancellable *cancellable,
                   GError **error)
{
  GroupBlock block = { .mode = mode, .cancellable = cancellable };
  GError *local_error = NULL;
  gboolean success;

  g_return_val_if_fail (Q_IS_TASK_GROUP (group), FALSE);
  g_return_val_if_fail (mode == Q_TASK_GROUP_ALL || mode == Q_TASK_GROUP_ANY, FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  g_object_ref (group);
  block.core = q_task_group_get_core (group);

  do
    {
      g_clear_error (&local_error);
      success = wait_for_turn (&block, &local_error);
    }
  while (block.is_turn_over);

  if (local_error != NULL)
    g_propagate_error (error, local_error);
  g_object_unref (group);

  return success;
}

/* Waiting without blocking */

typedef struct
{
  QTaskGroupWaitMode mode;
  gulong handler; /* on the cancellable of the result, or 0 */
} GroupWaiter;

static void
free_result (QTask *result)
{
  GroupWaiter *waiter = q_task_get_task_data (result);

  if (waiter->handler != 0)
    g_signal_handler_disconnect (q_task_get_given (q_task_get_private (result)), waiter->handler);

  g_object_unref (result);
}

/* Tells those whose wait has ended, in the order they came. By the owner. */
void
q_task_group_core_tell (QTaskGroupCore *core)
{
  GQueue told = G_QUEUE_INIT;
  GList *link;
  QTask *result;

  g_mutex_lock (&core->lock);
  for (link = core->waiters.head; link != NULL;)
    {
      GroupWaiter *waiter = q_task_get_task_data (link->data);
      GList *next = link->next;

      if (get_state (core, waiter->mode, TRUE) != WAIT_ON)
        {
          g_queue_unlink (&core->waiters, link);
          g_queue_push_tail_link (&told, link);
        }
      link = next;
    }
  g_mutex_unlock (&core->lock);

  while ((result = g_queue_pop_head (&told)) != NULL)
    {
      GroupWaiter *waiter = q_task_get_task_data (result);
      GError *error = NULL;
      WaitState state;

      g_mutex_lock (&core->lock);
      state = get_state (core, waiter->mode, TRUE);
      g_mutex_unlock (&core->lock);

      if (get_result (core, waiter->mode, state, &error))
        q_task_return_boolean (result, TRUE);
      else
        q_task_return_error (result, error);
      free_result (result);
    }
}

static void
async_cancelled_cb (GCancellable *cancellable G_GNUC_UNUSED,
                    gpointer data)
{
  QTask *result = data;
  QTaskGroupCore *core = q_task_group_get_core (Q_TASK_GROUP (q_task_get_source (result)));
  gboolean found;

  g_mutex_lock (&core->lock);
  found = g_queue_remove (&core->waiters, result);
  g_mutex_unlock (&core->lock);

  if (!found)
    return;

  q_task_return_error_if_cancelled (result);
  free_result (result);
}

static void
unref_result_notify (gpointer result,
                     GClosure *closure G_GNUC_UNUSED)
{
  g_object_unref (result);
}

/**
 * q_task_group_wait_async:
 * @group: a group
 * @mode: what to wait for
 * @cancellable: (nullable): stops the waiting; the tasks go on
 * @callback: (nullable) (scope async) (closure user_data): called in the thread-default main
 *   context of the moment
 * @user_data: data for @callback
 *
 * Waits until all tasks of the group have completed, their callbacks included, those that are
 * added meanwhile as well; or with %Q_TASK_GROUP_ANY until one has, which may have been before the
 * call. Any number may wait for one group.
 *
 * A task that was not started is waited for as well, for as long as it takes: somebody may start
 * it yet. To cancel such a task, or the group, does not end the wait, nor does dropping it, since
 * the group has a reference: start it, and it completes as cancelled; or complete it, with
 * [method@QTask.Task.complete]; or cancel @cancellable.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_group_wait_async (QTaskGroup *group,
                         QTaskGroupWaitMode mode,
                         GCancellable *cancellable,
                         GAsyncReadyCallback callback,
                         gpointer user_data)
{
  g_autoptr (QTask) result = NULL;
  QTaskGroupCore *core;
  GroupWaiter *waiter;
  gboolean is_over;

  g_return_if_fail (Q_IS_TASK_GROUP (group));
  g_return_if_fail (mode == Q_TASK_GROUP_ALL || mode == Q_TASK_GROUP_ANY);
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  if (q_task_is_forked (NULL))
    return;

  core = q_task_group_get_core (group);
  waiter = g_new0 (GroupWaiter, 1);
  waiter->mode = mode;

  result = q_task_new_async (group, cancellable, callback, user_data);
  q_task_set_source_tag (result, q_task_group_wait_async);
  q_task_set_task_data (result, waiter, g_free);

  if (cancellable != NULL)
    waiter->handler = g_signal_connect_data (cancellable, "cancelled",
                                             G_CALLBACK (async_cancelled_cb),
                                             g_object_ref (result), unref_result_notify, 0);

  g_mutex_lock (&core->lock);
  g_queue_push_tail (&core->waiters, g_object_ref (result));
  is_over = get_state (core, mode, TRUE) != WAIT_ON;
  g_mutex_unlock (&core->lock);

  if (is_over)
    q_task_group_core_tell (core);
  else if (cancellable != NULL && g_cancellable_is_cancelled (cancellable))
    async_cancelled_cb (cancellable, result);
}

/**
 * q_task_group_wait_finish:
 * @group: a group
 * @result: what the callback was given
 * @error: return location for an error
 *
 * Ends [method@QTask.TaskGroup.wait_async].
 *
 * Errors: with %Q_TASK_GROUP_ALL the first error of a task, with %Q_TASK_GROUP_ANY the error of
 * the task that was first; %G_IO_ERROR_CANCELLED if the cancellable of the waiting was cancelled;
 * %Q_TASK_ERROR_CLOSED if the group was closed without a task, with %Q_TASK_GROUP_ANY.
 *
 * May be called from the callback.
 *
 * Returns: %TRUE if all tasks went well, or with %Q_TASK_GROUP_ANY the one that was first
 *
 * Since: 1.0
 */
gboolean
q_task_group_wait_finish (QTaskGroup *group,
                          GAsyncResult *result,
                          GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_GROUP (group), FALSE);
  g_return_val_if_fail (q_task_is_valid (result, group), FALSE);
  g_return_val_if_fail (g_async_result_is_tagged (result, q_task_group_wait_async), FALSE);

  return q_task_propagate_boolean (Q_TASK (result), error);
}
