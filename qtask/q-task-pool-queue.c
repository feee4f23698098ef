/* q-task-pool-queue.c: the queue of a QTaskPool, and the books of what became of its tasks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who pushes to a pool that is open and has no limit puts the task into the inbox, with no lock.
 * Whoever looks at the queue sorts the inbox into it first. All but the inbox is protected by the
 * lock of the core.
 *
 * A task is in the inbox, in the queue, in the list of those that run, or with those that sync; and
 * until its completion is sent it counts as ending.
 */

#include "config.h"

#include "q-task-pool-private.h"

/* The inbox */

static void
note_queued (QTaskPoolCore *core,
             QTask *task)
{
  if (G_UNLIKELY (g_atomic_int_get (&core->has_timing)))
    q_task_ensure_extra (q_task_get_private (task))->queued_at = g_get_monotonic_time ();
}

static void
push_to_inbox (QTaskPoolCore *core,
               QTaskNode *node,
               gint64 key)
{
  QTaskNode *head;

  node->key = key;

  do
    {
      head = g_atomic_pointer_get (&core->inbox);
      node->next = head;
    }
  while (!g_atomic_pointer_compare_and_exchange (&core->inbox, head, node));
}

/* Queues @task by the inbox, if that may be used, and returns whether it was. Called with no lock
 * held. */
gboolean
q_task_pool_core_post (QTaskPoolCore *core,
                       QTask *task,
                       gint64 key)
{
  gboolean is_open;

  note_queued (core, task);

  g_atomic_int_inc (&core->n_pushing);
  is_open = g_atomic_int_get (&core->is_open);
  if (is_open)
    push_to_inbox (core, &q_task_get_private (task)->node, key);
  g_atomic_int_add (&core->n_pushing, -1);

  return is_open;
}

/* Moves the inbox into the queue. */
void
q_task_pool_core_sort_inbox_locked (QTaskPoolCore *core)
{
  QTaskNode *stack;

  if (g_atomic_pointer_get (&core->inbox) == NULL)
    return;

  stack = g_atomic_pointer_exchange (&core->inbox, NULL);

  for (QTaskNode *node = stack; node != NULL; node = node->next)
    q_task_get_private (q_task_from_node (node))->is_queued = TRUE;

  q_task_queue_insert_stack (&core->queue, stack);
}

/* Sets whether the inbox may be used. When it has been closed, those who have seen it open come
 * to an end in a few instructions. */
void
q_task_pool_core_set_open_locked (QTaskPoolCore *core)
{
  g_atomic_int_set (&core->is_open, !core->is_closed && core->max_queued == G_MAXUINT);
}

/* The queue */

/* How many are queued. */
guint
q_task_pool_core_get_length_locked (QTaskPoolCore *core)
{
  q_task_pool_core_sort_inbox_locked (core);

  return core->queue.length;
}

gboolean
q_task_pool_core_is_queued_locked (QTaskPoolCore *core,
                                   QTask *task)
{
  q_task_pool_core_sort_inbox_locked (core);

  return q_task_get_private (task)->is_queued;
}

/* For the thread that spins, which needs no order. */
static inline void
show_available (QTaskPoolCore *core)
{
  __atomic_store_n (&core->available, (int) (core->queue.length > 0), __ATOMIC_RELAXED);
}

void
q_task_pool_core_enqueue_locked (QTaskPoolCore *core,
                                 QTask *task,
                                 gint64 key)
{
  QTaskPrivate *priv = q_task_get_private (task);

  priv->is_queued = TRUE;
  q_task_queue_insert (&core->queue, &priv->node, key);
  show_available (core);
}

void
q_task_pool_core_dequeue_locked (QTaskPoolCore *core,
                                 QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  q_task_queue_remove (&core->queue, &priv->node);
  priv->is_queued = FALSE;
  show_available (core);
}

/* What a task that was started before is queued with. */
gint64
q_task_pool_core_get_key (QTaskPrivate *priv)
{
  if (q_task_get_word (priv) & Q_TASK_WORD_STOP)
    return G_MININT64;

  return g_atomic_int_get (&priv->priority);
}

/* Queues @task again, which the caller has taken out of wherever it was. The reference of the
 * worker is that of the queue now. */
void
q_task_pool_core_enqueue_again_locked (QTaskPoolCore *core,
                                       QTask *task)
{
  note_queued (core, task);
  q_task_pool_core_enqueue_locked (core, task, q_task_pool_core_get_key (q_task_get_private (task)));
}

/* The books */

gboolean
q_task_pool_core_is_drained_locked (QTaskPoolCore *core)
{
  return q_task_pool_core_get_length_locked (core) == 0 && core->n_running == 0 &&
         core->n_ending == 0 && core->syncing.length == 0;
}

/* Takes @task out of the queue, to run it. */
void
q_task_pool_core_take_locked (QTaskPoolCore *core,
                              QTask *task,
                              QTaskPoolRunning *running)
{
  q_task_pool_core_dequeue_locked (core, task);

  running->task = task;
  running->prev = NULL;
  running->next = core->running;
  if (core->running != NULL)
    core->running->prev = running;
  core->running = running;
  core->n_running++;
  core->n_taken++;

  if (G_UNLIKELY (core->has_timing))
    {
      QTaskExtra *extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

      running->since = g_get_monotonic_time ();
      if (extra != NULL && extra->queued_at > 0)
        core->wait_time += running->since - extra->queued_at;
    }
  else
    {
      running->since = 0;
    }
}

/* The worker does not run any more. */
static void
leave (QTaskPoolCore *core,
       QTaskPoolRunning *running)
{
  if (running->next != NULL)
    running->next->prev = running->prev;
  if (running->prev != NULL)
    running->prev->next = running->next;
  else
    core->running = running->next;

  core->n_running--;

  if (running->since > 0)
    core->run_time += g_get_monotonic_time () - running->since;
}

/* The worker is over; its completion follows. */
void
q_task_pool_core_close_books_locked (QTaskPoolCore *core,
                                     QTaskPoolRunning *running,
                                     QTaskState state,
                                     gboolean failed)
{
  leave (core, running);
  core->n_ending++;

  if (state == Q_TASK_STATE_STOPPED)
    core->n_stopped++;
  else if (failed)
    core->n_failed++;
  else
    core->n_finished++;

  /* Those that came on top run one task each. */
  if (core->n_extra > 0)
    core->n_extra--;
}

/* A step worker has more to do: queues it again, or keeps it while it syncs. With the lock
 * held, which it drops in between. */
void
q_task_pool_core_set_aside_locked (QTaskPoolCore *core,
                                   QTask *task,
                                   QTaskPoolRunning *running,
                                   QTaskState state)
{
  if (state == Q_TASK_STATE_SYNCING)
    {
      /* First, since it may be resumed as soon as it syncs, and be over. */
      leave (core, running);
      q_task_queue_insert (&core->syncing, &q_task_get_private (task)->node, 0);
      g_object_ref (task);
      g_mutex_unlock (&core->lock);

      if (!q_task_sync_steps (task))
        core->runner.funcs->requeue (&core->runner, task);
      g_object_unref (task);

      q_task_pool_core_lock (core);
      return;
    }

  g_mutex_unlock (&core->lock);
  q_task_set_queued (task);
  q_task_pool_core_lock (core);

  leave (core, running);
  q_task_pool_core_enqueue_again_locked (core, task);
}

/* The tasks that run or sync, and how many they are, and then those in the queue in no
 * order. */
GPtrArray *
q_task_pool_core_list_tasks (QTaskPoolCore *core,
                             guint *n_running)
{
  GPtrArray *tasks = g_ptr_array_new_with_free_func (g_object_unref);

  g_mutex_lock (&core->lock);

  for (QTaskPoolRunning *running = core->running; running != NULL; running = running->next)
    g_ptr_array_add (tasks, g_object_ref (running->task));

  q_task_runner_list_queue (&core->syncing, tasks);

  if (n_running != NULL)
    *n_running = tasks->len;

  q_task_pool_core_sort_inbox_locked (core);
  q_task_runner_list_queue (&core->queue, tasks);

  g_mutex_unlock (&core->lock);

  return tasks;
}
