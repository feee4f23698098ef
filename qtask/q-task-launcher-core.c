/* q-task-launcher-core.c: the queue and the processes of a QTaskLauncher
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The core is what processes and tasks hold, so that a launcher can be dropped anywhere. Its
 * thread, the manager, is in q-task-launcher-manager.c.
 *
 * A task that finds an idle process is sent to it by the thread that starts it; if that is its
 * owner, the answer is read in its own main loop too, which saves two switches of threads. That
 * is for quick answers to those who iterate their loop: after a few milliseconds the manager
 * takes over, and at once if somebody blocks. All other tasks are the manager's. So what the
 * owner's loop does is of no import to whether a task ends.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-process-private.h"

/* How soon the manager looks whether a process that was closed has ended */
#define REAP_USEC 500

#define DEFAULT_IDLE_TIMEOUT (30 * G_TIME_SPAN_SECOND)
#define DEFAULT_MAX_MESSAGE_SIZE (64 * 1024 * 1024)

#define NEVER G_MAXINT64

static QTaskLauncherCore *
core_from_runner (QTaskRunner *runner)
{
  return (QTaskLauncherCore *) runner;
}

static QTaskJob *
get_job (QTask *task)
{
  return q_task_get_private (task)->worker_data;
}

static void
job_free (gpointer data)
{
  QTaskJob *job = data;

  g_variant_unref (job->request);
  g_free (job);
}

/* The manager's sleep */

void
q_task_launcher_core_wake_locked (QTaskLauncherCore *core)
{
  core->is_woken = TRUE;
  if (core->wakes_at != 0)
    q_task_signal_set (&core->wake);
}

/* Sees to it that the manager is awake at @when. */
static void
wake_by_locked (QTaskLauncherCore *core,
                gint64 when)
{
  if (core->wakes_at == 0 || core->wakes_at > when)
    q_task_launcher_core_wake_locked (core);
}

void
q_task_launcher_core_wake (QTaskLauncherCore *core)
{
  g_mutex_lock (&core->lock);
  q_task_launcher_core_wake_locked (core);
  g_mutex_unlock (&core->lock);
}

/* Tasks */

/* A task is over, and no process has it. Takes what @end has, and the reference of the run. @is_here
 * tells that the caller is the owner, who dispatches the context. To be called with no lock
 * held. */
void
q_task_launcher_core_finish (QTaskLauncherCore *core G_GNUC_UNUSED,
                             QTask *task,
                             QTaskProcessEnd end,
                             gboolean is_here)
{
  QTaskPrivate *priv = q_task_get_private (task);
  guint word = q_task_get_word (priv);
  QTaskState state = Q_TASK_STATE_FINISHED;

  if (q_task_word_get_state (word) == Q_TASK_STATE_STOPPED ||
      (end.error != NULL && (word & Q_TASK_WORD_STOP) != 0))
    state = Q_TASK_STATE_STOPPED;

  q_task_process_unwatch_channel (task);

  if (end.result != NULL)
    q_task_set_result_variant (task, end.result);
  g_clear_pointer (&end.result, g_variant_unref);

  q_task_unwatch_stop (task);
  if (is_here)
    q_task_end_run_here (task, end.error, state);
  else
    q_task_end_run (task, end.error, state);
}

static gboolean
is_queued (QTask *task)
{
  return q_task_get_private (task)->is_queued;
}

static void
enqueue_locked (QTaskLauncherCore *core,
                QTask *task,
                gint64 key)
{
  QTaskPrivate *priv = q_task_get_private (task);

  q_task_queue_insert (&core->queue, &priv->node, key);
  priv->is_queued = TRUE;
}

static void
dequeue_locked (QTaskLauncherCore *core,
                QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  q_task_queue_remove (&core->queue, &priv->node);
  priv->is_queued = FALSE;
}

QTask *
q_task_launcher_core_pop_locked (QTaskLauncherCore *core)
{
  QTaskNode *node = q_task_queue_peek (&core->queue);
  QTask *task;

  if (node == NULL)
    return NULL;

  task = q_task_from_node (node);
  dequeue_locked (core, task);

  return task;
}

/* Makes the process that of the task, with the reference of its run. Returns another one, for
 * q_task_process_start_task(), which is to follow. */
QTask *
q_task_launcher_core_assign_locked (QTaskProcess *process,
                                    QTask *task)
{
  g_assert (process->task == NULL);

  process->state = Q_TASK_PROCESS_BUSY;
  process->task = task;
  process->is_starting = TRUE;
  process->is_owned = FALSE;
  process->is_asked = FALSE;
  process->kill_at = 0;
  process->reap_at = 0;
  get_job (task)->process = process;

  return g_object_ref (task);
}

/* The process is not to have another task. */
void
q_task_launcher_core_retire_locked (QTaskProcess *process)
{
  QTaskLauncherCore *core = process->core;

  if (process->state == Q_TASK_PROCESS_GONE)
    return;

  process->state = Q_TASK_PROCESS_GONE;
  process->is_owned = FALSE;
  process->kill_at = 0;
  process->reap_at = 0;
  process->reap_delay = REAP_USEC;
  core->n_gone++;
  q_task_launcher_core_wake_locked (core);
}

/* It has ended, or, with @failure, is of no use any more. Takes @failure. */
void
q_task_process_failed (QTaskProcess *process,
                       GError *failure)
{
  QTaskLauncherCore *core = process->core;

  g_mutex_lock (&core->lock);

  if (process->failure == NULL && process->state != Q_TASK_PROCESS_GONE)
    process->failure = g_steal_pointer (&failure);
  q_task_launcher_core_retire_locked (process);

  g_mutex_unlock (&core->lock);

  g_clear_error (&failure);
}

/* Whether the process has a smaller limit than the launcher by now. */
gboolean
q_task_launcher_core_outdates_locked (QTaskProcess *process)
{
  return process->max_message_size < process->core->setup.max_message_size;
}

/* Whether the launcher has no use for the process, by now: not with that limit, or not with so
 * many. */
gboolean
q_task_launcher_core_is_surplus_locked (QTaskProcess *process)
{
  QTaskLauncherCore *core = process->core;

  return q_task_launcher_core_outdates_locked (process) ||
         core->processes->len - core->n_gone > core->max_processes;
}

/* How many processes are to go and take their time. One that was killed does so as soon as it can. */
static guint
count_leaving_locked (QTaskLauncherCore *core)
{
  guint n = 0;

  for (guint i = 0; i < core->processes->len && core->n_gone > 0; i++)
    {
      QTaskProcess *process = core->processes->pdata[i];

      if (process->state == Q_TASK_PROCESS_GONE && process->kill_at != NEVER)
        n++;
    }

  return n;
}

/* Whether there is a task, and a process may be started for it. */
gboolean
q_task_launcher_core_wants_process_locked (QTaskLauncherCore *core)
{
  return core->queue.length > 0 && core->processes->len - core->n_gone < core->max_processes &&
         count_leaving_locked (core) < core->max_processes;
}

/* Takes the next task from the queue for the process, which has none any more, or has it idle or go.
 * Returns the task as q_task_launcher_core_assign_locked() does, or NULL. */
static QTask *
next_task_locked (QTaskProcess *process)
{
  QTaskLauncherCore *core = process->core;
  QTask *task;

  if (process->state == Q_TASK_PROCESS_GONE)
    return NULL;

  g_assert (process->state == Q_TASK_PROCESS_BUSY && process->task == NULL);

  /* One that has ended may look alive, while others hold its socket. */
  q_task_process_reap_locked (process);

  if (process->pid == 0 || process->is_killed || q_task_launcher_core_is_surplus_locked (process) ||
      (core->max_tasks > 0 && process->n_tasks >= core->max_tasks))
    {
      q_task_launcher_core_retire_locked (process);
      return NULL;
    }

  task = q_task_launcher_core_pop_locked (core);
  if (task != NULL)
    {
      q_task_launcher_core_wake_locked (core);
      return q_task_launcher_core_assign_locked (process, task);
    }

  process->state = Q_TASK_PROCESS_IDLE;
  process->is_owned = FALSE;
  process->idle_since = g_get_monotonic_time ();

  if (core->is_dropped)
    q_task_launcher_core_retire_locked (process);
  else if (process->source == NULL || process->is_taken_over)
    q_task_launcher_core_wake_locked (core);
  else if (core->idle_timeout >= 0)
    wake_by_locked (core, q_task_add_timeout (process->idle_since, core->idle_timeout));

  return NULL;
}

/* The process has no task any more: gives it another one, or lets it idle. To be called with no lock
 * held. */
void
q_task_launcher_core_next (QTaskProcess *process)
{
  QTaskLauncherCore *core = process->core;
  QTask *task;

  do
    {
      g_mutex_lock (&core->lock);
      task = next_task_locked (process);
      g_mutex_unlock (&core->lock);
    }
  while (task != NULL && !q_task_process_start_task (process, task));
}

/* The runner */

static gboolean
core_withdraw (QTaskRunner *runner,
               QTask *task)
{
  QTaskLauncherCore *core = core_from_runner (runner);
  gboolean withdrawn;

  g_mutex_lock (&core->lock);
  withdrawn = is_queued (task);
  if (withdrawn)
    dequeue_locked (core, task);
  if (core->is_dropped)
    q_task_launcher_core_wake_locked (core);
  g_mutex_unlock (&core->lock);

  if (withdrawn)
    q_task_process_unwatch_channel (task);

  return withdrawn;
}

static void
core_move_to_front (QTaskRunner *runner,
                    QTask *task)
{
  QTaskLauncherCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);
  if (is_queued (task))
    {
      dequeue_locked (core, task);
      enqueue_locked (core, task, G_MININT64);
    }
  g_mutex_unlock (&core->lock);
}

/* The task may be over already: it is only compared. */
static QTaskProcess *
find_process_locked (QTaskLauncherCore *core,
                     QTask *task)
{
  for (guint i = 0; i < core->processes->len; i++)
    {
      QTaskProcess *process = core->processes->pdata[i];

      if (process->task == task)
        return process;
    }

  return NULL;
}

static void
core_stop (QTaskRunner *runner,
           QTask *task)
{
  QTaskLauncherCore *core = core_from_runner (runner);
  QTaskProcess *process;

  g_mutex_lock (&core->lock);
  process = find_process_locked (core, task);
  if (process != NULL)
    q_task_process_ref (process);
  g_mutex_unlock (&core->lock);

  if (process == NULL)
    return;

  q_task_process_cancel_task (process, task);
  q_task_process_unref (process);
}

/* Who blocks does not iterate the context of the task. */
static void
core_waited (QTaskRunner *runner,
             QTask *task)
{
  QTaskLauncherCore *core = core_from_runner (runner);
  QTaskProcess *process;

  g_mutex_lock (&core->lock);
  process = find_process_locked (core, task);
  if (process != NULL && process->is_owned)
    {
      process->takeover_at = 0;
      q_task_launcher_core_wake_locked (core);
    }
  g_mutex_unlock (&core->lock);
}

static void
core_list_tasks (QTaskRunner *runner,
                 GPtrArray *tasks)
{
  QTaskLauncherCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);

  q_task_runner_list_queue (&core->queue, tasks);

  for (guint i = 0; i < core->processes->len; i++)
    {
      QTaskProcess *process = core->processes->pdata[i];

      if (process->task != NULL)
        g_ptr_array_add (tasks, g_object_ref (process->task));
    }

  g_mutex_unlock (&core->lock);
}

static void
core_runner_ref (QTaskRunner *runner)
{
  q_task_launcher_core_ref (core_from_runner (runner));
}

static void
core_runner_unref (QTaskRunner *runner)
{
  q_task_launcher_core_unref (core_from_runner (runner));
}

static const QTaskRunnerFuncs runner_funcs = {
  .ref = core_runner_ref,
  .unref = core_runner_unref,
  .withdraw = core_withdraw,
  .move_to_front = core_move_to_front,
  .stop = core_stop,
  .waited = core_waited,
  .list_tasks = core_list_tasks,
};

/* The source of an owner
 *
 * Only the thread that iterates its context destroys it, when it finds that it is not to read any
 * more: to destroy it in another one while the context goes leaks it, or worse. And its context has the
 * only reference: to drop another one, too, takes the lock of a context that may be going. */

typedef struct
{
  GSource source;
  QTaskProcess *process;
} OwnerSource;

static gboolean
owner_source_dispatch (GSource *source,
                       GSourceFunc callback G_GNUC_UNUSED,
                       gpointer data G_GNUC_UNUSED)
{
  OwnerSource *self = (OwnerSource *) source;
  QTaskProcess *process = self->process;
  QTaskProcessEnd end;
  gboolean is_current;
  QTask *task;

  /* What a forked child reads, its parent does not get. */
  if (q_task_is_forked (NULL))
    return G_SOURCE_REMOVE;

  g_mutex_lock (&process->core->lock);
  is_current = process->source == source && !process->is_taken_over;
  if (!is_current && process->source == source)
    process->source = NULL;
  g_mutex_unlock (&process->core->lock);

  if (!is_current)
    return G_SOURCE_REMOVE;

  q_task_process_ref (process);

  /* A callback may iterate the context. */
  g_source_ref (source);

  if (g_source_get_ready_time (source) != -1)
    g_source_set_ready_time (source, -1);

  task = q_task_process_serve (process, &end);

  if (task == NULL && g_atomic_int_get (&process->has_more))
    g_source_set_ready_time (source, 0);

  if (task != NULL)
    {
      QTaskDispatch *dispatch = q_task_get_private (task)->dispatch;
      gboolean is_here = q_task_dispatch_get_context (dispatch) == g_source_get_context (source);

      q_task_launcher_core_finish (process->core, task, end, is_here);
    }

  q_task_process_unref (process);
  g_source_unref (source);

  return G_SOURCE_CONTINUE;
}

static void
owner_source_finalize (GSource *source)
{
  QTaskProcess *process = ((OwnerSource *) source)->process;

  /* The lock may be held for ever there. */
  if (q_task_is_forked (NULL))
    return;

  /* The context has gone. */
  g_mutex_lock (&process->core->lock);
  if (process->source == source)
    {
      process->source = NULL;
      q_task_launcher_core_wake_locked (process->core);
    }
  g_mutex_unlock (&process->core->lock);

  q_task_process_unref (process);
}

static GSourceFuncs owner_source_funcs = {
  .dispatch = owner_source_dispatch,
  .finalize = owner_source_finalize,
};

static GSource *
owner_source_new (QTaskProcess *process,
                  int priority)
{
  GSource *source = g_source_new (&owner_source_funcs, sizeof (OwnerSource));

  ((OwnerSource *) source)->process = q_task_process_ref (process);
  g_source_add_unix_fd (source, process->peer.in_fd, G_IO_IN);
  g_source_set_static_name (source, "[qtask] worker process");
  g_source_set_can_recurse (source, TRUE);
  g_source_set_priority (source, priority);

  return source;
}

/* Has the answer to @task, which was just assigned, read in the context of its owner, who is the
 * caller. The source stays for further tasks, also where the manager has taken over: so there is never
 * more than one for each context, however long that is not iterated. */
static void
attach_to_owner (QTaskProcess *process,
                 QTask *task)
{
  QTaskLauncherCore *core = process->core;
  QTaskPrivate *priv = q_task_get_private (task);
  GMainContext *context = q_task_dispatch_get_context (priv->dispatch);
  int priority = q_task_get_delivery_priority (priv);

  g_mutex_lock (&core->lock);

  if (process->state == Q_TASK_PROCESS_BUSY)
    {
      process->is_owned = TRUE;
      process->takeover_at = g_get_monotonic_time () + Q_TASK_LAUNCHER_TAKEOVER_USEC;
      wake_by_locked (core, process->takeover_at);

      if (process->source == NULL || process->source_context != context ||
          g_source_is_destroyed (process->source))
        {
          process->source = owner_source_new (process, priority);
          process->source_context = context;
          g_source_attach (process->source, context);
          g_source_unref (process->source);
        }
      else if (g_source_get_priority (process->source) != priority)
        {
          g_source_set_priority (process->source, priority);
        }

      process->is_taken_over = FALSE;
    }

  g_mutex_unlock (&core->lock);
}

/* Making and freeing */

QTaskLauncherCore *
q_task_launcher_core_new (void)
{
  QTaskLauncherCore *core = g_new0 (QTaskLauncherCore, 1);

  core->runner.funcs = &runner_funcs;
  core->ref_count = 1;
  core->setup.max_message_size = DEFAULT_MAX_MESSAGE_SIZE;
  core->max_processes = g_get_num_processors ();
  core->idle_timeout = DEFAULT_IDLE_TIMEOUT;
  core->kill_timeout = Q_TASK_LAUNCHER_KILL_TIMEOUT;
  core->processes = g_ptr_array_new_with_free_func ((GDestroyNotify) q_task_process_unref);
  core->wake = (QTaskSignal) Q_TASK_SIGNAL_INIT;
  g_mutex_init (&core->lock);

  q_task_runner_add (&core->runner);

  return core;
}

QTaskLauncherCore *
q_task_launcher_core_ref (QTaskLauncherCore *core)
{
  g_atomic_int_inc (&core->ref_count);

  return core;
}

void
q_task_launcher_core_unref (QTaskLauncherCore *core)
{
  if (!g_atomic_int_dec_and_test (&core->ref_count))
    return;

  q_task_runner_remove (&core->runner);

  g_assert (core->queue.length == 0);
  g_assert (core->processes->len == 0);

  q_task_signal_close (&core->wake);
  g_ptr_array_unref (core->processes);
  q_task_process_setup_clear (&core->setup);
  g_mutex_clear (&core->lock);
  g_free (core);
}

/* Nobody holds the launcher any more: what was started is still run, and then the processes
 * are closed. Takes a reference. */
void
q_task_launcher_core_drop (QTaskLauncherCore *core)
{
  /* In a forked child the lock may be held for ever; nothing is released there. */
  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&core->lock);
  core->is_dropped = TRUE;
  if (core->manager != NULL)
    q_task_launcher_core_wake_locked (core);
  g_mutex_unlock (&core->lock);

  q_task_launcher_core_unref (core);
}

/* Starting tasks */

/* Takes an idle process, the one that was used last, for a task; NULL if there is none. */
static QTaskProcess *
take_idle (QTaskLauncherCore *core,
           QTask *task,
           gint64 key)
{
  for (;;)
    {
      QTaskProcess *process = NULL;

      g_mutex_lock (&core->lock);

      for (guint i = core->processes->len; i > 0 && core->queue.length == 0; i--)
        {
          QTaskProcess *candidate = core->processes->pdata[i - 1];

          if (candidate->state == Q_TASK_PROCESS_IDLE && !q_task_launcher_core_outdates_locked (candidate) &&
              (process == NULL || candidate->idle_since > process->idle_since))
            process = candidate;
        }

      if (process == NULL)
        {
          enqueue_locked (core, task, key);
          if (q_task_launcher_core_wants_process_locked (core))
            q_task_launcher_core_wake_locked (core);
        }
      else
        {
          process->state = Q_TASK_PROCESS_BUSY;
          process->is_owned = TRUE; /* so nobody else reads; but not for long */
          process->takeover_at = NEVER;
          q_task_process_ref (process);
        }

      g_mutex_unlock (&core->lock);

      if (process == NULL || q_task_process_is_usable (process))
        return process;

      q_task_process_unref (process);
    }
}

/* Gives a process that take_idle() has taken the task, and returns whether it could be. Takes the
 * reference of the process. */
static gboolean
give (QTaskProcess *process,
      QTask *task,
      gboolean is_owner)
{
  QTaskLauncherCore *core = process->core;
  gboolean given;

  g_mutex_lock (&core->lock);

  /* It may have ended since, or before, while others hold its socket. */
  q_task_process_reap_locked (process);
  if (process->pid == 0)
    q_task_launcher_core_retire_locked (process);

  given = process->state == Q_TASK_PROCESS_BUSY;
  if (given)
    {
      q_task_launcher_core_assign_locked (process, task);
      process->is_owned = is_owner;
      process->takeover_at = NEVER;
      if (!is_owner)
        q_task_launcher_core_wake_locked (core);
    }

  g_mutex_unlock (&core->lock);

  if (given)
    {
      if (is_owner)
        attach_to_owner (process, task);

      if (!q_task_process_start_task (process, task))
        q_task_launcher_core_next (process);
    }

  q_task_process_unref (process);

  return given;
}

static void
finish_stopped (QTaskLauncherCore *core,
                QTask *task)
{
  guint word = q_task_get_word (q_task_get_private (task));
  QTaskProcessEnd end = { 0 };

  end.error = q_task_new_stop_error (word & Q_TASK_WORD_TIMED_OUT ? Q_TASK_STOP_TIMEOUT
                                                                  : Q_TASK_STOP_CANCEL);
  q_task_launcher_core_finish (core, task, end, FALSE);
}

/* Starts a task that runs, and that no process has, again, before others. Takes the reference of
 * its run. To be called with no lock held. */
void
q_task_launcher_core_requeue (QTaskLauncherCore *core,
                              QTask *given_task)
{
  g_autoptr (QTask) task = g_object_ref (given_task);
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskProcess *process;

  if ((q_task_get_word (priv) & Q_TASK_WORD_STOP) != 0)
    {
      finish_stopped (core, task);
      return;
    }

  q_task_set_queued (task);

  /* The queue is for those that no idle process could have. */
  do
    process = take_idle (core, task, G_MININT64);
  while (process != NULL && !give (process, task, FALSE));

  /* Asked to stop while it seemed to run. */
  if ((q_task_get_word (priv) & Q_TASK_WORD_STOP) != 0 && core_withdraw (&core->runner, task))
    finish_stopped (core, task);
}

/* Queues @task, or sends it to an idle process. On failure all is as it was. */
gboolean
q_task_launcher_core_push (QTaskLauncherCore *core,
                           QTask *task,
                           GVariant *request,
                           GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  g_autoptr (GVariant) wire = NULL;
  QTaskOwnership ownership;
  QTaskProcess *process;
  gboolean is_iterating;
  QTaskJob *job;
  gsize max_message_size;
  gint64 key;
  guint word;

  if (core->setup.argv == NULL)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                           _("The launcher was made without the name of a program"));
      return FALSE;
    }

  g_mutex_lock (&core->lock);
  max_message_size = core->setup.max_message_size;
  g_mutex_unlock (&core->lock);

  wire = q_task_protocol_to_wire (request);
  if (!q_task_protocol_check_variant (wire, max_message_size, error) ||
      !q_task_launcher_core_ensure_manager (core, error))
    return FALSE;

  job = g_new0 (QTaskJob, 1);
  job->request = g_steal_pointer (&wire);

  if (!q_task_start (task, &core->runner, NULL, job, job_free, 0, error))
    {
      job_free (job);
      return FALSE;
    }

  q_task_launcher_core_ref (core);
  g_object_ref (task);

  word = q_task_get_word (priv);
  if (g_atomic_pointer_get (&priv->extra) != NULL || (word & Q_TASK_WORD_STOP) != 0)
    {
      q_task_watch_stop (task);
      word = q_task_get_word (priv);
    }

  if (q_task_word_get_state (word) == Q_TASK_STATE_STOPPED)
    {
      q_task_unwatch_stop (task);
      q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);
      return TRUE;
    }

  q_task_process_watch_channel (task);

  key = (word & Q_TASK_WORD_STOP) != 0 ? G_MININT64 : g_atomic_int_get (&priv->priority);
  ownership = q_task_dispatch_acquire (priv->dispatch, priv->thread_id);

  /* Who calls in no callback may never iterate the context, or let go of a source in it. */
  is_iterating = ownership != Q_TASK_OWNER_NOT && g_main_depth () > 0;

  do
    process = take_idle (core, task, key);
  while (process != NULL && !give (process, task, is_iterating));

  q_task_dispatch_release (priv->dispatch, ownership);

  /* Who waits for it looks again. */
  if (G_UNLIKELY (q_task_get_word (priv) & Q_TASK_WORD_WAITED))
    {
      g_mutex_lock (&priv->lock);
      q_task_wake_waiters_locked (priv);
      g_mutex_unlock (&priv->lock);
    }

  /* Stopped while it was not in the queue yet. The caller has a reference. */
  if (G_UNLIKELY (q_task_word_get_state (q_task_get_word (priv)) == Q_TASK_STATE_STOPPED) &&
      core_withdraw (&core->runner, task))
    {
      q_task_unwatch_stop (task);
      q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);
    }

  return TRUE;
}
