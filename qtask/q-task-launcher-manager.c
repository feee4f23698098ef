/* q-task-launcher-manager.c: the thread that looks after the processes of a QTaskLauncher
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager starts processes, reads from those that nobody else reads from, sends what did
 * not go at once, kills what does not stop, closes what idles, and reaps what has ended. It
 * does so with poll() and without a GMainContext, which would cost a descriptor that may not be
 * there. It ends when the launcher was dropped and no process is left.
 *
 * A process is taken from the list by the manager alone, once it was closed and reaped; the task
 * that it ran, if any, ends then.
 *
 * All here runs in that thread, but for q_task_launcher_core_ensure_manager().
 */

#include "config.h"

#include <errno.h>
#include <glib/gi18n-lib.h>
#include <poll.h>
#include <signal.h>

#include "q-task-process-private.h"

/* How often it looks for tasks to take over, before it sleeps */
#define NAP_ROUNDS 8

/* How long one that has no task has to end by itself, at least */
#define END_USEC G_TIME_SPAN_SECOND

/* How long it waits with another try to start a process, where that failed */
#define RETRY_USEC (100 * G_TIME_SPAN_MILLISECOND)

/* How often it looks whether a busy process has ended, while others hold its socket */
#define WATCH_USEC G_TIME_SPAN_SECOND

/* How often it looks whether one that was closed has ended: at most */
#define REAP_MAX_USEC (50 * G_TIME_SPAN_MILLISECOND)

#define NEVER G_MAXINT64

static gboolean
is_done_locked (QTaskLauncherCore *core)
{
  return core->is_dropped && core->queue.length == 0 && core->processes->len == 0;
}

static void
serve (QTaskProcess *process)
{
  QTaskProcessEnd end;
  QTask *task = q_task_process_serve (process, &end);

  if (task != NULL)
    q_task_launcher_core_finish (process->core, task, end, FALSE);
}

static gint64
earlier (gint64 a,
         gint64 b)
{
  return MIN (a, b);
}

/* Looks after a process that has none to read or run, until it has been reaped. With the lock,
 * which it drops and takes again. Returns when to look again, or NEVER if it has gone. */
static gint64
tend_gone_locked (QTaskProcess *process,
                  gint64 now)
{
  QTaskLauncherCore *core = process->core;
  QTaskProcessEnd end = { 0 };
  QTask *task;

  if (!process->is_closed)
    {
      gint64 timeout = core->kill_timeout >= 0 ? core->kill_timeout : Q_TASK_LAUNCHER_KILL_TIMEOUT;

      /* Only who waits for a task is in a hurry. */
      if (process->task == NULL)
        timeout = MAX (timeout, END_USEC);

      process->is_closed = TRUE;
      process->kill_at = q_task_add_timeout (now, timeout);
      if (process->failure != NULL)
        process->kill_at = now;

      g_mutex_unlock (&core->lock);
      q_task_process_close (process);
      g_mutex_lock (&core->lock);
    }

  q_task_process_reap_locked (process);

  /* Whoever starts its task is about to see that it has gone, and wakes the manager. */
  if (process->pid == 0 && process->is_starting)
    return NEVER;

  if (process->pid != 0)
    {
      if (now >= process->kill_at)
        {
          kill (process->pid, SIGKILL);
          process->kill_at = NEVER;
        }

      process->reap_at = now + process->reap_delay;
      process->reap_delay = MIN (process->reap_delay * 2, REAP_MAX_USEC);

      return earlier (process->reap_at, process->kill_at);
    }

  task = g_steal_pointer (&process->task);
  if (task != NULL)
    ((QTaskJob *) q_task_get_private (task)->worker_data)->process = NULL;
  g_ptr_array_remove (core->processes, q_task_process_ref (process));
  core->n_gone--;

  g_mutex_unlock (&core->lock);

  if (task != NULL)
    {
      guint word = q_task_get_word (q_task_get_private (task));

      g_mutex_lock (&process->peer.lock);
      process->sending = NULL;
      g_mutex_unlock (&process->peer.lock);

      q_task_process_read_stderr (process);
      if (process->is_killed)
        end.error = q_task_new_stop_error (word & Q_TASK_WORD_TIMED_OUT ? Q_TASK_STOP_TIMEOUT
                                                                        : Q_TASK_STOP_CANCEL);
      else
        end.error = q_task_process_new_error (process);
      q_task_launcher_core_finish (core, task, end, FALSE);
    }

  q_task_process_unref (process);

  g_mutex_lock (&core->lock);

  return NEVER;
}

/* Does for a process what its time has come for. With the lock, which it may drop and take
 * again. Returns when to look again. */
static gint64
tend_locked (QTaskProcess *process,
             gint64 now)
{
  QTaskLauncherCore *core = process->core;
  gint64 next = NEVER;

  switch (process->state)
    {
    case Q_TASK_PROCESS_BUSY:
      if (process->kill_at > 0 && now >= process->kill_at)
        {
          process->kill_at = 0;
          process->is_killed = TRUE;

          /* If somebody else has reaped it, the number may be another's by now. */
          q_task_process_reap_locked (process);
          if (process->pid != 0)
            kill (process->pid, SIGKILL);
        }
      else if (process->kill_at > 0)
        {
          next = earlier (next, process->kill_at);
        }

      if (!process->is_owned || now >= process->takeover_at)
        {
          process->is_owned = FALSE;
          process->is_taken_over = TRUE;
        }
      else
        {
          next = earlier (next, process->takeover_at);
        }

      if (process->reap_at == 0)
        {
          process->reap_at = now + WATCH_USEC;
        }
      else if (now >= process->reap_at)
        {
          process->reap_at = now + WATCH_USEC;
          q_task_process_reap_locked (process);

          /* What it said is read first. */
          if (process->pid == 0)
            {
              QTask *task = process->task;

              g_mutex_unlock (&core->lock);
              serve (process);
              g_mutex_lock (&core->lock);

              if (process->task == task && !g_atomic_int_get (&process->is_paused) &&
                  !g_atomic_int_get (&process->has_more))
                {
                  q_task_launcher_core_retire_locked (process);
                  return now;
                }
            }
        }
      return earlier (next, process->reap_at);

    case Q_TASK_PROCESS_IDLE:
      if (core->idle_timeout >= 0)
        next = q_task_add_timeout (process->idle_since, core->idle_timeout);
      if (core->is_dropped || now >= next || q_task_launcher_core_is_surplus_locked (process))
        {
          q_task_launcher_core_retire_locked (process);
          return now;
        }
      return next;

    case Q_TASK_PROCESS_GONE:
    default:
      return tend_gone_locked (process, now);
    }
}

/* No process could be started. If there are others, the queue is theirs, and another try is made
 * later; else the first task there fails. Takes @error. With the lock, which it drops and takes
 * again. */
static void
spawn_failed_locked (QTaskLauncherCore *core,
                     GError *error)
{
  QTaskProcessEnd end = { NULL, error };
  QTask *task = NULL;

  if (core->processes->len > core->n_gone)
    core->spawn_at = g_get_monotonic_time () + RETRY_USEC;
  else
    task = q_task_launcher_core_pop_locked (core);

  if (task == NULL)
    {
      g_error_free (error);
      return;
    }

  g_mutex_unlock (&core->lock);
  q_task_set_running (task);
  q_task_launcher_core_finish (core, task, end, FALSE);
  g_mutex_lock (&core->lock);
}

/* Starts a process for the first in the queue. With the lock, which it drops and takes again. */
static void
spawn_locked (QTaskLauncherCore *core)
{
  QTaskProcess *process;
  QTaskProcessSetup setup;
  GError *error = NULL;
  QTask *task;

  q_task_process_setup_copy (&setup, &core->setup);
  g_mutex_unlock (&core->lock);
  process = q_task_process_spawn (core, &setup, &error);
  q_task_process_setup_clear (&setup);
  g_mutex_lock (&core->lock);

  core->spawn_at = 0;
  if (process == NULL)
    {
      spawn_failed_locked (core, error);
      return;
    }

  g_ptr_array_add (core->processes, process);

  /* If the limit was raised meanwhile, another one is for what is in the queue. */
  if (q_task_launcher_core_outdates_locked (process))
    return;

  task = q_task_launcher_core_pop_locked (core);
  if (task == NULL)
    return;

  q_task_launcher_core_assign_locked (process, task);
  q_task_process_ref (process);

  g_mutex_unlock (&core->lock);
  if (!q_task_process_start_task (process, task))
    q_task_launcher_core_next (process);
  q_task_process_unref (process);
  g_mutex_lock (&core->lock);
}

typedef struct
{
  QTaskProcess *process; /* owned */
  gboolean is_stderr;
} Polled;

static void
add_fd (GArray *fds,
        GArray *polled,
        int fd,
        short events,
        QTaskProcess *process,
        gboolean is_stderr)
{
  struct pollfd item = { .fd = fd, .events = events };
  Polled what = { process != NULL ? q_task_process_ref (process) : NULL, is_stderr };

  g_array_append_val (fds, item);
  g_array_append_val (polled, what);
}

static void
gather_locked (QTaskLauncherCore *core,
               GArray *fds,
               GArray *polled)
{
  add_fd (fds, polled, core->wake.fds[0], POLLIN, NULL, FALSE);

  for (guint i = 0; i < core->processes->len; i++)
    {
      QTaskProcess *process = core->processes->pdata[i];
      short events = 0;

      if (process->stderr_fd >= 0)
        add_fd (fds, polled, process->stderr_fd, POLLIN, process, TRUE);

      if (process->state == Q_TASK_PROCESS_GONE)
        continue;

      if (!process->is_owned && !g_atomic_int_get (&process->is_paused) &&
          (process->state == Q_TASK_PROCESS_BUSY || process->source == NULL || process->is_taken_over))
        events |= POLLIN;
      if (g_atomic_int_get (&process->peer.is_pending))
        events |= POLLOUT;

      if (events != 0)
        add_fd (fds, polled, process->peer.in_fd, events, process, FALSE);
    }
}

static void
handle_ready (GArray *fds,
              GArray *polled)
{
  for (guint i = 0; i < fds->len; i++)
    {
      const struct pollfd *fd = &g_array_index (fds, struct pollfd, i);
      Polled *what = &g_array_index (polled, Polled, i);

      /* That without a process has woken it. */
      if (fd->revents == 0 || what->process == NULL)
        continue;

      if (what->is_stderr)
        {
          q_task_process_read_stderr (what->process);
        }
      else
        {
          if ((fd->revents & ~POLLIN) != 0 && (fd->events & POLLOUT) != 0)
            q_task_process_flush (what->process);
          if ((fd->revents & ~POLLOUT) != 0)
            serve (what->process);
        }
    }
}

static void
clear_polled (GArray *fds,
              GArray *polled)
{
  for (guint i = 0; i < polled->len; i++)
    if (g_array_index (polled, Polled, i).process != NULL)
      q_task_process_unref (g_array_index (polled, Polled, i).process);

  g_array_set_size (fds, 0);
  g_array_set_size (polled, 0);
}

/* Tends all processes. With the lock, which it may drop and take again. Returns when to look
 * again. */
static gint64
tend_all_locked (QTaskLauncherCore *core,
                 gint64 now)
{
  g_autoptr (GPtrArray) processes = NULL;
  gint64 next = NEVER;

  processes = g_ptr_array_new_with_free_func ((GDestroyNotify) q_task_process_unref);
  for (guint i = 0; i < core->processes->len; i++)
    g_ptr_array_add (processes, q_task_process_ref (core->processes->pdata[i]));

  for (guint i = 0; i < processes->len; i++)
    {
      QTaskProcess *process = processes->pdata[i];

      next = earlier (next, tend_locked (process, now));

      /* What was read already, or waits for room in a channel, nobody polls for. */
      if (process->state == Q_TASK_PROCESS_BUSY && !process->is_owned && g_atomic_int_get (&process->has_more))
        {
          g_mutex_unlock (&core->lock);
          serve (process);
          g_mutex_lock (&core->lock);
          if (g_atomic_int_get (&process->has_more))
            next = now;
        }
    }

  /* They are not to be freed with the lock held: they hold the core. */
  g_mutex_unlock (&core->lock);
  g_clear_pointer (&processes, g_ptr_array_unref);
  g_mutex_lock (&core->lock);

  return next;
}

static gboolean
has_owned_locked (QTaskLauncherCore *core)
{
  for (guint i = 0; i < core->processes->len; i++)
    if (((QTaskProcess *) core->processes->pdata[i])->is_owned)
      return TRUE;

  return FALSE;
}

static gpointer
manager_main (gpointer data)
{
  QTaskLauncherCore *core = data;
  GArray *fds = g_array_new (FALSE, FALSE, sizeof (struct pollfd));
  GArray *polled = g_array_new (FALSE, FALSE, sizeof (Polled));
  guint naps = 0;

  g_mutex_lock (&core->lock);

  while (!is_done_locked (core))
    {
      gint64 now = g_get_monotonic_time ();
      gint64 next;

      core->is_woken = FALSE;
      next = tend_all_locked (core, now);

      if (q_task_launcher_core_wants_process_locked (core) && now >= core->spawn_at)
        {
          spawn_locked (core);
          continue;
        }
      if (q_task_launcher_core_wants_process_locked (core))
        next = earlier (next, core->spawn_at);

      if (is_done_locked (core))
        break;

      /* It looks at all of them each time: one that always has more holds up no other. */
      if (core->is_woken)
        next = now;

      /* While quick tasks keep coming, waking it for each would cost more. */
      if (has_owned_locked (core))
        naps = NAP_ROUNDS;
      if (naps > 0)
        {
          naps--;
          next = earlier (next, now + Q_TASK_LAUNCHER_TAKEOVER_USEC);
        }

      gather_locked (core, fds, polled);
      core->wakes_at = next;
      g_mutex_unlock (&core->lock);

      if (next == NEVER)
        poll ((struct pollfd *) fds->data, fds->len, -1);
      else
        poll ((struct pollfd *) fds->data, fds->len,
              (int) CLAMP ((next - now + 999) / 1000, 0, G_MAXINT / 2));

      g_mutex_lock (&core->lock);
      core->wakes_at = 0;
      q_task_signal_unset (&core->wake);
      g_mutex_unlock (&core->lock);

      handle_ready (fds, polled);
      clear_polled (fds, polled);

      g_mutex_lock (&core->lock);
    }

  g_mutex_unlock (&core->lock);

  g_array_unref (fds);
  g_array_unref (polled);
  q_task_launcher_core_unref (core);

  return NULL;
}

gboolean
q_task_launcher_core_ensure_manager (QTaskLauncherCore *core,
                                     GError **error)
{
  GThread *thread;
  gboolean is_there;

  g_mutex_lock (&core->lock);
  is_there = core->manager != NULL;

  if (!is_there && q_task_signal_open (&core->wake, error))
    {
      thread = g_thread_try_new ("qtask-launcher", manager_main, q_task_launcher_core_ref (core),
                                 error);
      is_there = thread != NULL;

      if (is_there)
        {
          core->manager = thread;
          g_thread_unref (thread);
        }
      else
        {
          g_atomic_int_add (&core->ref_count, -1);
        }
    }

  if (!is_there)
    g_prefix_error (error, _("No worker process can be started: "));

  g_mutex_unlock (&core->lock);

  return is_there;
}
