/* q-task-run.c: the verbs that join tasks and pools
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "config.h"

#include "q-task-run.h"

#include "q-task-pool-private.h"
#include "q-task-process-private.h"

/* Whether @error is that of a second start, which is a mistake and leaves the first be. */
static gboolean
warn_if_second (GError *error)
{
  if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_PENDING))
    return FALSE;

  g_critical ("%s", error->message);
  g_error_free (error);

  return TRUE;
}

/* What kept it from starting becomes its error. */
static void
not_started (QTask *task,
             GError *error)
{
  /* In a forked child every task without an outcome reads so. */
  if (q_task_is_forked (NULL))
    g_error_free (error);
  else if (!warn_if_second (error))
    q_task_return_error (task, error);
}

/**
 * q_task_run_in_thread:
 * @task: a task that has not been started
 * @worker: (nullable) (scope notified) (closure opaque) (destroy destroy): the work, or %NULL
 *   for the one that the class of @task has
 * @opaque: (nullable): data for @worker
 * @destroy: (nullable): frees @opaque; called by the owner when @worker has ended
 *
 * Runs the task in a thread of the default pool; see [func@QTask.TaskPool.get_default]. What
 * keeps it from starting becomes its error.
 *
 * Running a task a second time is a critical warning, and the first run goes on.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_run_in_thread (QTask *task,
                      QTaskWorker worker,
                      gpointer opaque,
                      GDestroyNotify destroy)
{
  GError *error = NULL;

  g_return_if_fail (Q_IS_TASK (task));

  if (!q_task_check_worker (task, worker))
    return;

  if (!q_task_pool_push_closure (q_task_pool_get_default (), task, worker, opaque, destroy,
                                 &error))
    not_started (task, error);
}

/**
 * q_task_run_steps_in_thread:
 * @task: a task that has not been started
 * @worker: (scope notified) (closure opaque) (destroy destroy): a step of the work
 * @opaque: (nullable): data for @worker
 * @destroy: (nullable): frees @opaque; called by the owner when the task is over
 *
 * As [method@QTask.Task.run_in_thread], with a worker that does a step of the work each time it
 * is called; see [callback@QTask.TaskStepWorker].
 *
 * Running a task a second time is a critical warning, and the first run goes on.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_run_steps_in_thread (QTask *task,
                            QTaskStepWorker worker,
                            gpointer opaque,
                            GDestroyNotify destroy)
{
  GError *error = NULL;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (worker != NULL);

  if (!q_task_pool_push_steps_closure (q_task_pool_get_default (), task, worker, opaque, destroy,
                                       &error))
    not_started (task, error);
}

/**
 * q_task_run_in_thread_sync:
 * @task: a task that has not been started
 * @worker: (nullable) (scope notified) (closure opaque) (destroy destroy): the work, or %NULL
 *   for the one that the class of @task has
 * @opaque: (nullable): data for @worker
 * @destroy: (nullable): frees @opaque; called by the owner when @worker has ended
 *
 * Runs the task in a thread of the default pool, and blocks until it has its outcome, which
 * is then read as in a callback. The callback itself is not called;
 * [property@QTask.Task:completed] is notified of in the calling thread.
 *
 * With [property@QTask.Task:return-on-cancel] this makes a function that cannot be cancelled
 * into one that can.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_run_in_thread_sync (QTask *task,
                           QTaskWorker worker,
                           gpointer opaque,
                           GDestroyNotify destroy)
{
  QTaskPrivate *priv;
  QTaskPoolCore *core;
  GError *error = NULL;

  g_return_if_fail (Q_IS_TASK (task));

  if (!q_task_check_worker (task, worker) || q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);
  core = q_task_pool_get_core (q_task_pool_get_default ());

  if (q_task_pool_core_push (core, task, G_CALLBACK (worker), opaque, destroy,
                             Q_TASK_WORD_SYNCHRONOUS, &error))
    {
      q_task_block (task, Q_TASK_WAIT_SYNCHRONOUS, -1, NULL, NULL);
      return;
    }

  q_task_release_data (priv, opaque, destroy);

  if (warn_if_second (error))
    return;

  g_mutex_lock (&priv->lock);
  q_task_fix_locked (task, error, Q_TASK_WORD_RETURNED | Q_TASK_WORD_SENT);
  g_mutex_unlock (&priv->lock);

  q_task_complete_synchronous (task, TRUE);
}

/**
 * q_task_run_in_process:
 * @task: a task that has not been started
 * @launcher: a launcher
 * @request: what is asked for; if it is floating, it is sunk
 *
 * Runs the task in a worker process of @launcher: what that serves with is called there with
 * @request. Its result is a variant, to be read with
 * [method@QTask.Task.propagate_variant]. Its progress, and, if the task has a channel, its messages
 * come here; what asks this task to stop asks it there too, and ends the process if that does
 * not help.
 *
 * Until a process is free the task waits in a queue, in order of
 * [property@QTask.Task:priority]; one that is cancelled there starts no process. What keeps it
 * from starting becomes its error; [method@QTask.TaskLauncher.run_finish] tells what that, and what
 * goes wrong later, may be.
 *
 * [method@QTask.Task.sync] in the worker process waits for nobody.
 *
 * Running a task a second time is a critical warning, and the first run goes on.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_run_in_process (QTask *task,
                       QTaskLauncher *launcher,
                       GVariant *request)
{
  g_autoptr (GVariant) sunk = NULL;
  GError *error = NULL;

  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));
  g_return_if_fail (request != NULL);

  sunk = g_variant_ref_sink (request);

  if (q_task_is_forked (NULL))
    return;

  if (!q_task_launcher_core_push (q_task_launcher_get_core (launcher), task, sunk, &error))
    not_started (task, error);
}
