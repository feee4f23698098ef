/* q-task-runner.c: what there is that runs tasks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Pools and launchers are listed from when they are made until just before they are freed, so that
 * their tasks can be stopped when a context goes. The list has a lock of its own, which is taken
 * before that of a runner, and has no reference: who is listed may be about to go, and then has
 * no task.
 */

#include "config.h"

#include "q-task-private.h"

static GMutex runners_lock;
static GSList *runners;

/* Lists a runner whose functions have `list_tasks`. May be called from any thread. */
void
q_task_runner_add (QTaskRunner *runner)
{
  g_mutex_lock (&runners_lock);
  runners = g_slist_prepend (runners, runner);
  g_mutex_unlock (&runners_lock);
}

/* To be called when nobody has a reference any more, with no lock held. */
void
q_task_runner_remove (QTaskRunner *runner)
{
  g_mutex_lock (&runners_lock);
  runners = g_slist_remove (runners, runner);
  g_mutex_unlock (&runners_lock);
}

static void
add_task (QTaskNode *node,
          gpointer tasks)
{
  g_ptr_array_add (tasks, g_object_ref (q_task_from_node (node)));
}

/* Adds new references to the tasks in a queue, in no order. */
void
q_task_runner_list_queue (QTaskQueue *queue,
                          GPtrArray *tasks)
{
  q_task_queue_foreach (queue, add_task, tasks);
}

/* The context of @dispatch has gone: what was made in it stops. Called by whoever let go of the
 * context. */
void
q_task_runner_context_lost (QTaskDispatch *dispatch)
{
  g_autoptr (GPtrArray) tasks = g_ptr_array_new_with_free_func (g_object_unref);

  g_mutex_lock (&runners_lock);
  for (GSList *link = runners; link != NULL; link = link->next)
    {
      QTaskRunner *runner = link->data;

      runner->funcs->list_tasks (runner, tasks);
    }
  g_mutex_unlock (&runners_lock);

  for (guint i = 0; i < tasks->len; i++)
    if (q_task_get_private (tasks->pdata[i])->dispatch == dispatch)
      q_task_request_stop (tasks->pdata[i], Q_TASK_STOP_LOST);
}
