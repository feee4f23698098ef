/* pool.c: a pool whose queue has a limit
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

#define N_TASKS 1000

static gboolean
empty_worker (QTask *task,
              gpointer unused,
              GError **error)
{
  return TRUE;
}

static void
count_cb (QTask *task,
          gpointer n_done)
{
  ++*(int *) n_done;
}

int
main (void)
{
  g_autoptr (QTaskPool) pool = q_task_pool_new ("bounded", 2, 16);
  g_autoptr (GError) error = NULL;
  QTaskPoolStats stats;
  int n_done = 0;

  for (int i = 0; i < N_TASKS; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_done, NULL);

      /* A full queue is an error, and the task is as it was: try again, or give up. */
      while (!q_task_pool_push (pool, task, empty_worker, NULL, NULL, &error))
        {
          g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
          g_clear_error (&error);

          /* In a main loop, it is q_task_pool_wait_for_space_async(). */
          q_task_pool_wait_for_space (pool, NULL, NULL);
        }
    }

  /* Blocks until all have ended. Nothing can be pushed from here on. */
  q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL);
  q_task_pool_get_stats (pool, &stats);
  g_print ("%" G_GUINT64_FORMAT " ran\n", stats.finished);

  /* What has ended still has to be told: callbacks come when the context iterates. */
  g_print ("%d heard of\n", n_done);
  while (n_done < N_TASKS)
    g_main_context_iteration (NULL, TRUE);
  g_print ("%d heard of\n", n_done);

  return 0;
}
