/* wait.c: how to wait for a task
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

static gboolean
square_worker (QTask *task,
               gpointer n,
               GError **error)
{
  q_task_set_result_int (task, GPOINTER_TO_INT (n) * GPOINTER_TO_INT (n));
  return TRUE;
}

/* Needs another task, and waits for it: in a pool of one thread, which the waiting
 * worker has. It runs the other task itself, so this ends, too. */
static gboolean
sum_worker (QTask *task,
            gpointer pool,
            GError **error)
{
  g_autoptr (QTask) nine = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (QTask) sixteen = q_task_new (NULL, NULL, NULL, NULL);

  if (!q_task_pool_push (pool, nine, square_worker, GINT_TO_POINTER (3), NULL, error) ||
      !q_task_pool_push (pool, sixteen, square_worker, GINT_TO_POINTER (4), NULL, error) ||
      !q_task_wait (nine, NULL, error) ||
      !q_task_wait (sixteen, NULL, error))
    return FALSE;

  q_task_set_result_int (task, q_task_propagate_int (nine, NULL) + q_task_propagate_int (sixteen, NULL));
  return TRUE;
}

static void
waited_cb (GObject *task,
           GAsyncResult *result,
           gpointer loop)
{
  if (q_task_wait_finish (Q_TASK (task), result, NULL))
    g_print ("Waited without blocking\n");

  g_main_loop_quit (loop);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (QTaskPool) pool = q_task_pool_new ("one", 1, 0);
  g_autoptr (QTask) sum = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (QTask) another = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (QTask) forgotten = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GError) error = NULL;

  /* Blocking, here and in a worker. */
  q_task_pool_push (pool, sum, sum_worker, pool, NULL, NULL);
  if (q_task_wait (sum, NULL, NULL))
    g_print ("The sum is %d\n", (int) q_task_propagate_int (sum, NULL));

  /* Not blocking: any number of others may wait so, beside the owner. */
  q_task_pool_push (pool, another, square_worker, GINT_TO_POINTER (5), NULL, NULL);
  q_task_wait_async (another, NULL, waited_cb, loop);
  g_main_loop_run (loop);

  /* What would never end says so at once. */
  if (!q_task_wait (forgotten, NULL, &error) && g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK))
    g_print ("Nobody will ever run this one\n");

  /* Every task needs an outcome before it goes. */
  q_task_complete (forgotten);

  return 0;
}
