/* q-task-pool-threads.c: the threads of a QTaskPool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Threads come from a GThreadPool without limit. Each one that enters thread_main() works
 * off the queue, then spins for a moment if work has been coming quickly, then idles on its
 * condition, and leaves when it has idled for long.
 *
 * How many work is decided here, whenever a task is queued or taken, by wake_if_needed(): none
 * more while another is on its way (it asks again when it is there), and none more where those
 * that work will be done with the queue in less time than it takes to wake one. The latter
 * is a guess from how long workers took of late. So one idle thread watches: it looks every
 * millisecond whether anything was taken, and if not, it takes over. In a pool that grows, it
 * is also the watcher that adds a thread when all are busy for long.
 *
 * Pushing takes the lock only where the pool is armed, which it is when nobody would look into
 * the inbox unasked; whoever arms it looks into the inbox once more. tests/models/pool.pml goes
 * through all the ways in which that can happen.
 *
 * A completion is sent after the books are closed on the task, so that who sees the outcome
 * sees the books right; until it is sent, the task counts as ending.
 *
 * All is protected by the lock of the core; it is dropped while a thread runs a task, spins or
 * idles.
 */

#include "config.h"

#include <pthread.h>

#include "q-task-pool-private.h"

/* How long a thread idles before it leaves. */
#define IDLE_USEC (15 * G_TIME_SPAN_SECOND)

/* How often the watcher looks, and how often in vain before it idles. */
#define WATCH_USEC 1000
#define WATCH_ROUNDS 8

/* About what it costs to wake a thread, and what a guess is worth. */
#define WAKE_NSEC (50 * 1000)

/* Workers that take less are no reason to wake another thread. */
#define QUICK_NSEC (10 * 1000)

/* How many quick ones are taken before the inbox is looked into again. */
#define SORT_EVERY 16

/* How long a thread spins before it idles, if work came as quickly of late. */
#define SPIN_NSEC (50 * 1000)

/* How GTask's pool grows: by a thread after 100 ms, and by a hundredth longer each time. */
#define GROW_USEC (100 * G_TIME_SPAN_MILLISECOND)
#define GROW_FACTOR 1.03
#define GROW_MAX_EXTRA 320

/* A thread in thread_main(); kept with the core when it has left. */
struct _QTaskPoolThread
{
  QTaskPoolThread *next;
  GCond cond;
  gboolean is_signalled;
  gint64 signalled_at; /* when there was work for it, not when it came to that */
};

static gint64
get_nanoseconds (void)
{
  return g_get_monotonic_time () * 1000;
}

/* Counting and waking; all with the lock held */

/* Threads that others may take the place of. */
static guint
count_replaceable (QTaskPoolCore *core)
{
  return core->runner.is_serial ? 0 : core->n_parked;
}

/* Threads that work, or are awake to do so. */
static guint
count_active (QTaskPoolCore *core)
{
  return core->n_threads - core->n_idle - count_replaceable (core);
}

static guint
get_max_active (QTaskPoolCore *core)
{
  return core->max_threads > G_MAXUINT - core->n_extra ? G_MAXUINT
                                                       : core->max_threads + core->n_extra;
}

/* Whether more work than may. */
gboolean
q_task_pool_core_is_crowded_locked (QTaskPoolCore *core)
{
  return count_active (core) > get_max_active (core);
}

static guint
count_coming (QTaskPoolCore *core)
{
  return core->n_signalled + core->n_starting;
}

/* What to do once the lock is released. */
typedef struct
{
  QTaskPoolThread *signal;
  gboolean start;
} QTaskPoolWake;

/* Gets one more thread, if one can be had. */
static void
call_thread (QTaskPoolCore *core,
             guint max_threads,
             QTaskPoolWake *wake)
{
  QTaskPoolThread *thread = core->idle;

  if (thread != NULL)
    {
      core->idle = thread->next;
      core->n_idle--;
      core->n_signalled++;
      thread->is_signalled = TRUE;
      thread->signalled_at = get_nanoseconds ();
      wake->signal = thread;
    }
  else if (core->n_threads - count_replaceable (core) + core->n_starting < max_threads)
    {
      core->n_starting++;
      wake->start = TRUE;
    }
}

/* Sees to it that somebody looks now and then. */
static void
call_watcher (QTaskPoolCore *core,
              QTaskPoolWake *wake)
{
  guint max_threads = get_max_active (core);

  if (core->has_watcher || core->wants_watcher)
    return;

  /* The one that watches a pool that grows comes on top. */
  if (core->grows && max_threads < G_MAXUINT)
    max_threads++;

  call_thread (core, max_threads, wake);
  core->wants_watcher = wake->signal != NULL || wake->start;
}

/* The queue is not empty: gets another thread, if it takes one. */
static void
wake_if_needed (QTaskPoolCore *core,
                QTaskPoolWake *wake)
{
  guint active = count_active (core) - core->n_signalled;

  if (q_task_pool_core_get_length_locked (core) == 0 || core->is_spinning)
    return;

  if (active + count_coming (core) >= get_max_active (core))
    {
      if (core->grows && core->n_extra < GROW_MAX_EXTRA)
        call_watcher (core, wake);
      return;
    }

  if (count_coming (core) > (core->wants_watcher ? 1 : 0))
    return;

  if (active > 0 && core->run_average * core->queue.length < WAKE_NSEC * (gint64) active)
    call_watcher (core, wake);
  else
    call_thread (core, get_max_active (core), wake);
}

/* Whether somebody will look into the inbox soon, without being woken. */
static gboolean
is_covered (QTaskPoolCore *core)
{
  guint active = count_active (core) - core->n_signalled;
  gboolean is_watched = core->has_watcher || core->wants_watcher;

  if (core->is_spinning || count_coming (core) > (core->wants_watcher ? 1 : 0))
    return TRUE;

  if (active + count_coming (core) >= get_max_active (core))
    return is_watched || !core->grows;

  return active > 0 && is_watched && core->run_average < QUICK_NSEC;
}

/* Sees to it that what is pushed from now on is not overlooked: either somebody will look, or
 * who pushes wakes one. Called last before the lock is released. */
static void
arm (QTaskPoolCore *core,
     QTaskPoolWake *wake)
{
  gboolean armed = !is_covered (core);

  if (armed == core->armed)
    return;

  g_atomic_int_set (&core->armed, armed);

  /* What came just before. Whoever comes now sees that it is armed. */
  if (armed && g_atomic_pointer_get (&core->inbox) != NULL && wake->signal == NULL &&
      !wake->start)
    wake_if_needed (core, wake);
}

/* With no lock held. Returns FALSE if a thread was to be started and there is none to be had. */
static gboolean
wake_up (QTaskPoolCore *core,
         QTaskPoolWake *wake,
         GError **error)
{
  gboolean started;

  if (wake->signal != NULL)
    g_cond_signal (&wake->signal->cond);

  if (!wake->start)
    return TRUE;

  /* GThreadPool keeps what it was given even if it has no thread for it, and setting its
   * limit makes it try again. */
  g_mutex_lock (&core->lock);
  started = core->n_given > 0 && core->n_given >= core->n_starting;
  if (!started)
    core->n_given++;
  g_mutex_unlock (&core->lock);

  if (started)
    {
      started = g_thread_pool_set_max_threads (core->threads, -1, error);
    }
  else
    {
      q_task_pool_core_ref (core);
      started = g_thread_pool_push (core->threads, core, error);
    }

  if (!started)
    {
      g_mutex_lock (&core->lock);
      core->n_starting = core->n_starting > 0 ? core->n_starting - 1 : 0;
      core->wants_watcher = FALSE;
      g_atomic_int_set (&core->armed, TRUE);
      g_mutex_unlock (&core->lock);
    }

  return started;
}

/* Looks whether the queue takes more threads now, with the lock held, and releases it. Returns
 * FALSE if there is none to be had. */
gboolean
q_task_pool_core_wake_and_unlock (QTaskPoolCore *core,
                                  GError **error)
{
  QTaskPoolWake wake = { NULL, FALSE };

  wake_if_needed (core, &wake);
  arm (core, &wake);
  g_mutex_unlock (&core->lock);

  return wake_up (core, &wake, error);
}

gboolean
q_task_pool_core_wake (QTaskPoolCore *core)
{
  g_mutex_lock (&core->lock);

  return q_task_pool_core_wake_and_unlock (core, NULL);
}

/* Working */

static QTask *
take_next (QTaskPoolCore *core,
           QTaskPoolRunning *running)
{
  QTaskNode *node;
  QTask *task;

  /* What comes quickly is sorted a few at a time, since each look at the inbox takes it from
   * the processor that pushes. */
  if (core->queue.length == 0 || core->run_average > QUICK_NSEC / 2 ||
      core->n_taken % SORT_EVERY == 0)
    q_task_pool_core_sort_inbox_locked (core);

  node = q_task_queue_peek (&core->queue);

  if (node == NULL || q_task_pool_core_is_crowded_locked (core))
    return NULL;

  task = q_task_from_node (node);
  q_task_pool_core_take_locked (core, task, running);

  return task;
}

static inline gboolean
is_available (QTaskPoolCore *core)
{
  return __atomic_load_n (&core->available, __ATOMIC_RELAXED) ||
         __atomic_load_n (&core->inbox, __ATOMIC_RELAXED) != NULL;
}

/* Looks for work for a moment, without the lock. At most one thread of a pool does. */
static void
spin (QTaskPoolCore *core)
{
  gint64 end = get_nanoseconds () + SPIN_NSEC;

  core->is_spinning = TRUE;
  g_atomic_int_set (&core->armed, FALSE);
  g_mutex_unlock (&core->lock);

  do
    q_task_spin_briefly ();
  while (!is_available (core) && get_nanoseconds () < end);

  q_task_pool_core_lock (core);
  core->is_spinning = FALSE;
}

/* The watcher found that nothing was taken for a while, with tasks in the queue. */
static void
note_stall (QTaskPoolCore *core)
{
  core->run_average = MAX (core->run_average, WAKE_NSEC);

  if (core->grows && q_task_pool_core_is_crowded_locked (core) &&
      core->n_extra < GROW_MAX_EXTRA)
    core->n_extra++;
}

static gint64
get_watch_interval (QTaskPoolCore *core)
{
  double interval = GROW_USEC;

  /* Its own count does not go into this. */
  if (!core->grows || !q_task_pool_core_is_crowded_locked (core))
    return WATCH_USEC;

  for (guint i = 0; i < core->n_extra; i++)
    interval *= GROW_FACTOR;

  return (gint64) interval;
}

/* Idles, with the lock held but while it waits, until there may be work. Returns FALSE if it
 * has been idle for long. */
static gboolean
idle (QTaskPoolCore *core,
      QTaskPoolThread *thread)
{
  guint rounds = 0;

  for (;;)
    {
      gboolean watches = core->wants_watcher || rounds > 0;
      guint64 n_taken = core->n_taken;
      gint64 end = g_get_monotonic_time () +
                   (watches ? get_watch_interval (core) : IDLE_USEC);

      core->has_watcher |= watches;
      core->wants_watcher = FALSE;

      thread->is_signalled = FALSE;
      thread->next = core->idle;
      core->idle = thread;
      core->n_idle++;

      /* Who pushes from now on sees that it is armed; who pushed before is seen here. */
      g_atomic_int_set (&core->armed, TRUE);
      if (g_atomic_pointer_get (&core->inbox) != NULL && !is_covered (core))
        end = 0;

      while (!thread->is_signalled && end > 0)
        if (!g_cond_wait_until (&thread->cond, &core->lock, end))
          break;

      if (watches)
        core->has_watcher = FALSE;

      if (thread->is_signalled)
        {
          core->n_signalled--;

          if (core->wants_watcher)
            {
              rounds = 1;
              continue;
            }

          return TRUE;
        }

      for (QTaskPoolThread **link = &core->idle; *link != NULL; link = &(*link)->next)
        if (*link == thread)
          {
            *link = thread->next;
            break;
          }
      core->n_idle--;

      if (end == 0)
        return TRUE;

      if (!watches)
        return q_task_pool_core_get_length_locked (core) > 0;

      if (q_task_pool_core_get_length_locked (core) > 0 && core->n_taken == n_taken)
        {
          note_stall (core);
          return TRUE;
        }

      /* All is well; after a while without work, idle. */
      rounds = core->n_taken != n_taken ? 1 : rounds + 1;
      if (rounds > WATCH_ROUNDS)
        rounds = 0;
    }
}

/* Runs tasks, with the lock held but while it does, until there is none to take. */
static void
work (QTaskPoolCore *core)
{
  QTaskRunner *runner = &core->runner;
  QTaskPoolRunning running;
  QTask *task = take_next (core, &running);
  QTask *over = NULL;
  GError *error = NULL;
  GQueue told = G_QUEUE_INIT;
  QTaskState state = Q_TASK_STATE_FINISHED;
  gint64 start = get_nanoseconds ();

  while (task != NULL || over != NULL)
    {
      QTaskPoolWake wake = { NULL, FALSE };
      gboolean was_over = over != NULL;
      gboolean is_stopped = core->is_stopped;
      gboolean failed;
      gint64 end;

      wake_if_needed (core, &wake);
      q_task_pool_core_changed_locked (core, &told);
      arm (core, &wake);
      g_mutex_unlock (&core->lock);

      if (over != NULL)
        q_task_end_run (g_steal_pointer (&over), g_steal_pointer (&error), state);

      wake_up (core, &wake, NULL);
      q_task_pool_core_tell (&told);

      if (task == NULL)
        {
          q_task_pool_core_lock (core);
          core->n_ending--;
        }
      else
        {
          if (is_stopped)
            q_task_request_stop (task, Q_TASK_STOP_CANCEL);
          state = q_task_run_worker (task, runner, &failed, &error);
          end = get_nanoseconds ();

          q_task_pool_core_lock (core);
          if (was_over)
            core->n_ending--;

          if (G_LIKELY (q_task_state_is_over (state)))
            {
              over = task;
              q_task_pool_core_close_books_locked (core, &running, state, failed);
            }
          else
            {
              q_task_pool_core_set_aside_locked (core, task, &running, state);
            }
          core->run_average += (end - start - core->run_average) / 8;
          start = end;
        }

      task = take_next (core, &running);
    }

  q_task_pool_core_changed_locked (core, &told);

  if (told.length > 0)
    {
      g_mutex_unlock (&core->lock);
      q_task_pool_core_tell (&told);
      q_task_pool_core_lock (core);
    }
}

static QTaskPoolThread *
enter_thread (QTaskPoolCore *core)
{
  QTaskPoolThread *thread = core->spare;

  if (core->n_starting > 0)
    core->n_starting--;
  core->n_given--;
  core->n_threads++;

  if (thread != NULL)
    {
      core->spare = thread->next;
      return thread;
    }

  thread = g_new0 (QTaskPoolThread, 1);
  g_cond_init (&thread->cond);

  return thread;
}

/* Of GThreadPool. @data is the core, with a reference. */
static void
thread_main (gpointer data,
             gpointer user_data G_GNUC_UNUSED)
{
  QTaskPoolCore *core = data;
  QTaskPoolThreadFuncs funcs = core->thread_funcs;
  QTaskPoolThread *thread;
  char old_name[16] = "";
  guint64 n_taken;

  pthread_getname_np (pthread_self (), old_name, sizeof old_name);
  if (core->name != NULL)
    {
      char name[16];

      g_strlcpy (name, core->name, sizeof name);
      pthread_setname_np (pthread_self (), name);
    }

  q_task_dispatch_set_is_worker (TRUE);

  if (funcs.initializer != NULL)
    funcs.initializer (funcs.user_data);

  g_mutex_lock (&core->lock);
  thread = enter_thread (core);

  for (;;)
    {
      gint64 start;
      gint64 came = 0;

      n_taken = core->n_taken;
      if (!core->wants_watcher)
        work (core);

      if (core->is_dropped && q_task_pool_core_get_length_locked (core) == 0)
        break;

      start = get_nanoseconds ();

      if (core->may_spin && !core->is_spinning && core->gap_average < SPIN_NSEC &&
          n_taken != core->n_taken && q_task_pool_core_get_length_locked (core) == 0 &&
          core->n_signalled == 0)
        spin (core);

      if (q_task_pool_core_get_length_locked (core) == 0 || core->wants_watcher ||
          q_task_pool_core_is_crowded_locked (core))
        {
          if (!idle (core, thread))
            break;
          came = thread->signalled_at;
        }

      if (q_task_pool_core_get_length_locked (core) > 0)
        core->gap_average += ((came > start ? came : get_nanoseconds ()) - start - core->gap_average) / 4;
    }

  core->n_threads--;
  thread->next = core->spare;
  core->spare = thread;
  g_mutex_unlock (&core->lock);

  if (funcs.finalizer != NULL)
    funcs.finalizer (funcs.user_data);

  q_task_dispatch_set_is_worker (FALSE);

  if (core->name != NULL)
    pthread_setname_np (pthread_self (), old_name);

  q_task_pool_core_unref (core);
}

void
q_task_pool_core_init_threads (QTaskPoolCore *core)
{
  core->may_spin = q_task_may_spin ();
  core->armed = TRUE;
  core->run_average = 1000 * 1000;
  core->gap_average = 1000 * 1000;
  core->threads = g_thread_pool_new (thread_main, NULL, -1, FALSE, NULL);
}

/* The threads leave when nothing is queued. */
void
q_task_pool_core_release_threads (QTaskPoolCore *core)
{
  guint n_stale = 0;

  g_mutex_lock (&core->lock);

  core->is_dropped = TRUE;

  while (core->idle != NULL)
    {
      QTaskPoolWake wake = { NULL, FALSE };

      call_thread (core, 0, &wake);
      g_cond_signal (&wake.signal->cond);
    }

  /* What GThreadPool was given and has no thread for. */
  if (core->n_threads == 0 && core->n_starting == 0)
    {
      n_stale = core->n_given;
      core->n_given = 0;
    }

  g_mutex_unlock (&core->lock);

  if (n_stale > 0)
    {
      GThreadPool *threads = core->threads;

      core->threads = g_thread_pool_new (thread_main, NULL, -1, FALSE, NULL);
      g_thread_pool_free (threads, TRUE, FALSE);
      while (n_stale-- > 0)
        q_task_pool_core_unref (core);
    }
}

void
q_task_pool_core_free_funcs (QTaskPoolThreadFuncs *funcs)
{
  if (funcs->dispatch == NULL)
    return;

  q_task_dispatch_destroy_data (funcs->dispatch, funcs->thread_id, funcs->user_data,
                                funcs->destroy);
  q_task_dispatch_unref (funcs->dispatch);
}

void
q_task_pool_core_free_threads (QTaskPoolCore *core)
{
  g_assert (core->n_threads == 0);

  /* Without joining anybody: this may be one of its threads. */
  g_thread_pool_free (core->threads, FALSE, FALSE);

  while (core->spare != NULL)
    {
      QTaskPoolThread *thread = core->spare;

      core->spare = thread->next;
      g_cond_clear (&thread->cond);
      g_free (thread);
    }

  q_task_pool_core_free_funcs (&core->thread_funcs);
}
