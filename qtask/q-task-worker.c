/* q-task-worker.c: starting a QTask, and running its worker
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A runner, such as a pool, starts a task, queues it with a reference, and then either
 * executes it in one of its threads or withdraws it: whoever takes it out of the queue has
 * that reference.
 */

#include "config.h"

#include <pthread.h>

#include <glib/gi18n-lib.h>

#include "q-task-private.h"

/* What Linux gives a thread's name, with its end. */
#define THREAD_NAME_SIZE 16

static _Thread_local QTaskFrame *current_frame;

/* The innermost worker that the calling thread runs, or NULL. */
QTaskFrame *
q_task_get_current_frame (void)
{
  return current_frame;
}

/* Readies @task to be queued by @runner, of which it takes a reference, with @worker or, if
 * NULL, its own run(). @flags are of Q_TASK_WORD_START. On failure everything is as it was. */
gboolean
q_task_start (QTask *task,
              QTaskRunner *runner,
              GCallback worker,
              gpointer worker_data,
              GDestroyNotify worker_data_destroy,
              guint flags,
              GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  gboolean started = FALSE;
  guint word;

  g_mutex_lock (&priv->lock);

  word = q_task_get_word (priv);

  if (q_task_word_get_state (word) == Q_TASK_STATE_NEW &&
      (word & (Q_TASK_WORD_FIXED | Q_TASK_WORD_RETURNED)) == 0)
    {
      started = TRUE;
      priv->runner = runner;
      priv->worker = worker;
      priv->worker_data = worker_data;
      priv->worker_data_destroy = worker_data_destroy;
      q_task_change (priv, Q_TASK_WORD_STATE, Q_TASK_STATE_QUEUED | flags);
    }

  g_mutex_unlock (&priv->lock);

  if (!started)
    {
      g_autofree char *description = q_task_describe (task);

      g_set_error (error, G_IO_ERROR, G_IO_ERROR_PENDING,
                   _("The task %s was started or completed before; make a new one for each run"),
                      description);
      return FALSE;
    }

  return TRUE;
}

/* Undoes a start, for a task that is in no queue. Returns FALSE if it got its outcome
 * meanwhile. */
gboolean
q_task_unstart (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  gboolean undone;

  q_task_unwatch_stop (task);
  q_task_clear_timeout (task);

  g_mutex_lock (&priv->lock);

  undone = (q_task_get_word (priv) & Q_TASK_WORD_FIXED) == 0;
  if (undone)
    {
      priv->runner = NULL;
      priv->worker = NULL;
      priv->worker_data = NULL;
      priv->worker_data_destroy = NULL;
      q_task_change (priv, Q_TASK_WORD_STATE | Q_TASK_WORD_START, Q_TASK_STATE_NEW);
    }

  g_mutex_unlock (&priv->lock);

  return undone;
}

/* A step worker is to be called again; its runner is about to queue it. */
void
q_task_set_queued (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  g_mutex_lock (&priv->lock);
  q_task_change (priv, Q_TASK_WORD_STATE, Q_TASK_STATE_QUEUED);
  g_mutex_unlock (&priv->lock);
}

/* A task that was taken out of the queue runs now. Returns FALSE if it was stopped on its way
 * here. */
gboolean
q_task_set_running (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  guint word;

  g_mutex_lock (&priv->lock);
  word = q_task_get_word (priv);
  if (q_task_word_get_state (word) == Q_TASK_STATE_QUEUED)
    q_task_change (priv, Q_TASK_WORD_STATE,
                   Q_TASK_STATE_RUNNING | (word & Q_TASK_WORD_STEPS ? Q_TASK_WORD_BEGUN : 0));
  g_mutex_unlock (&priv->lock);

  return q_task_word_get_state (word) == Q_TASK_STATE_QUEUED;
}

/* Whether there is something to run. */
gboolean
q_task_check_worker (QTask *task,
                     QTaskWorker worker)
{
  if (worker != NULL || Q_TASK_GET_CLASS (task)->run != NULL)
    return TRUE;

  q_task_warn (task, "has no work to do; give it a worker, or make it of a class that implements "
                     "run()");

  return FALSE;
}

static GError *
new_failed_error (QTask *task)
{
  g_autofree char *description = q_task_describe (task);

  return g_error_new (Q_TASK_ERROR, Q_TASK_ERROR_FAILED,
                      _("The worker of the task %s returned FALSE and did not say why: it did "
                        "not set an error, raised an exception, or did not return TRUE at "
                        "its end"),
                         description);
}

static QTaskStep
call_function (QTask *task,
               GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  gboolean success;

  if (q_task_get_word (priv) & Q_TASK_WORD_STEPS)
    return ((QTaskStepWorker) priv->worker) (task, priv->worker_data, error);

  if (priv->worker != NULL)
    success = ((QTaskWorker) priv->worker) (task, priv->worker_data, error);
  else
    success = Q_TASK_GET_CLASS (task)->run (task, error);

  return success ? Q_TASK_STEP_FINISHED : Q_TASK_STEP_FAILED;
}

/* Whether a step worker is to be called again, having returned @step; else its task is over.
 * @was_asked tells whether it was asked to stop before that call, which then was its last. */
static gboolean
goes_on (QTask *task,
         QTaskStep step,
         gboolean was_asked,
         GError *error)
{
  QTaskPrivate *priv = q_task_get_private (task);

  if (step != Q_TASK_STEP_CHECK_IN && step != Q_TASK_STEP_SYNC)
    return FALSE;

  if (error != NULL)
    return FALSE;

  return !was_asked || (q_task_get_word (priv) & Q_TASK_WORD_RUN_CANCELLED) != 0;
}

/* Whether the thread has something else to do than the next step of @task. */
static gboolean
makes_room (QTask *task,
            QTaskRunner *runner)
{
  QTaskFrame *helper = current_frame->outer;

  if (helper != NULL && helper->helps != NULL && q_task_block_is_due (helper->helps))
    return TRUE;

  return runner->funcs->is_pressed (runner, task);
}

/* Calls the worker; a step worker again and again, until it syncs, is over, or makes room for
 * something else. */
static QTaskStep
call_steps (QTask *task,
            QTaskRunner *runner,
            GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);

  if ((q_task_get_word (priv) & Q_TASK_WORD_STEPS) == 0)
    return call_function (task, error);

  for (;;)
    {
      gboolean was_asked = q_task_is_cancelled (task);
      QTaskStep step = call_function (task, error);

      if (!goes_on (task, step, was_asked, *error))
        {
          if (step != Q_TASK_STEP_CHECK_IN && step != Q_TASK_STEP_SYNC)
            return step;

          return *error != NULL ? Q_TASK_STEP_FAILED : Q_TASK_STEP_STOPPED;
        }

      /* In a serial pool nothing else may run before the task is over. */
      if (step == Q_TASK_STEP_SYNC && runner->is_serial)
        q_task_sync (task, NULL);
      else if (step == Q_TASK_STEP_SYNC || makes_room (task, runner))
        return step;
    }
}

static QTaskStep
call_worker (QTask *task,
             QTaskRunner *runner,
             GError **error)
{
  const char *name = q_task_get_name (task);
  char old_name[THREAD_NAME_SIZE];
  gboolean renamed = FALSE;
  QTaskStep step;

  if (name != NULL && pthread_getname_np (pthread_self (), old_name, sizeof old_name) == 0)
    {
      char new_name[THREAD_NAME_SIZE];

      g_strlcpy (new_name, name, sizeof new_name);
      renamed = pthread_setname_np (pthread_self (), new_name) == 0;
    }

  step = call_steps (task, runner, error);

  if (renamed)
    pthread_setname_np (pthread_self (), old_name);

  return step;
}

/* Runs the worker of a task that was taken out of the queue. If the task is over, what this
 * returns and gives is for q_task_end_run(), which is to follow. A step worker may have more to
 * do: Q_TASK_STATE_QUEUED tells the runner to queue it again, and Q_TASK_STATE_SYNCING to keep
 * it and call q_task_sync_steps(). */
QTaskState
q_task_run_worker (QTask *task,
                   QTaskRunner *runner,
                   gboolean *failed,
                   GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskFrame frame = { .task = task, .runner = runner, .outer = current_frame };
  QTaskStep step;
  gboolean has_error;
  guint word;

  frame.depth = frame.outer != NULL ? frame.outer->depth + 1 : 0;

  if (G_UNLIKELY (q_task_dispatch_is_lost (priv->dispatch)))
    q_task_request_stop (task, Q_TASK_STOP_LOST);

  if (!q_task_set_running (task))
    {
      q_task_unwatch_stop (task);
      *failed = TRUE;
      return Q_TASK_STATE_STOPPED;
    }

  current_frame = &frame;
  step = call_worker (task, runner, error);
  current_frame = frame.outer;

  if (step == Q_TASK_STEP_CHECK_IN)
    return Q_TASK_STATE_QUEUED;
  if (step == Q_TASK_STEP_SYNC)
    return Q_TASK_STATE_SYNCING;

  q_task_unwatch_stop (task);

  /* With return-on-cancel the callback may have taken the error already. */
  has_error = g_atomic_pointer_get (&priv->error) != NULL;
  word = q_task_get_word (priv);
  has_error |= (word & Q_TASK_WORD_HAD_ERROR) != 0;

  if (step == Q_TASK_STEP_STOPPED && *error == NULL)
    *error = q_task_new_stop_error (word & Q_TASK_WORD_TIMED_OUT ? Q_TASK_STOP_TIMEOUT
                                                                 : Q_TASK_STOP_CANCEL);
  else if (step != Q_TASK_STEP_FINISHED && *error == NULL && !has_error)
    *error = new_failed_error (task);
  *failed = *error != NULL || has_error;

  if (step == Q_TASK_STEP_STOPPED || (*failed && (word & Q_TASK_WORD_STOP) != 0))
    return Q_TASK_STATE_STOPPED;

  return Q_TASK_STATE_FINISHED;
}
