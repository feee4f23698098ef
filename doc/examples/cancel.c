/* cancel.c: how tasks are stopped
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

/* Works until it is stopped. It looks now and then, as here; one that calls
 * functions of GIO passes on q_task_get_stop_cancellable() to them instead. */
static gboolean
endless_worker (QTask *task,
                gpointer unused,
                GError **error)
{
  q_task_set_progress (task, 0.5, NULL);

  while (!q_task_is_cancelled (task))
    g_usleep (1000);

  return !g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error);
}

static void
ended_cb (QTask *task,
          gpointer unused)
{
  g_autoptr (GError) error = NULL;

  if (q_task_propagate_error (task, &error))
    g_print ("%s: %s\n", q_task_get_name (task), error->message);
  else
    g_print ("%s: done\n", q_task_get_name (task));
}

static QTask *
start (QTaskPool *pool,
       const char *name,
       gint64 timeout)
{
  QTask *task = q_task_new (NULL, ended_cb, NULL, NULL);

  q_task_set_name (task, name);
  q_task_set_timeout (task, timeout);
  q_task_pool_push (pool, task, endless_worker, NULL, NULL, NULL);

  return task;
}

static void
finish (QTask *task)
{
  while (!q_task_get_completed (task))
    g_main_context_iteration (NULL, TRUE);

  g_object_unref (task);
}

int
main (void)
{
  g_autoptr (QTaskPool) pool = q_task_pool_new ("one", 1, 0);
  QTask *running = start (pool, "running", 0);
  QTask *queued = start (pool, "queued", 0);

  /* Wait until the worker runs: so the other task waits for its thread. */
  while (q_task_get_progress (running) == 0.0)
    g_main_context_iteration (NULL, TRUE);

  /* This one leaves the queue; its worker is never called. */
  q_task_cancel (queued);
  finish (queued);

  /* This one is asked to stop. Its callback comes when its worker has ended. */
  q_task_cancel (running);
  finish (running);

  /* A timeout asks as well. The error tells the two apart. */
  finish (start (pool, "late", 10 * G_TIME_SPAN_MILLISECOND));

  return 0;
}
