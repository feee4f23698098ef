/* q-task-pool-core.c: the threads and the queue of a QTaskPool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The core is what threads and tasks hold, so that a pool can be dropped anywhere, by one
 * of its own threads too, and nobody is joined. Its lock is never held while a lock of a task
 * is taken or code of the user runs.
 *
 * Threads come from a GThreadPool without limit. Each one that enters thread_main() works
 * off the queue, then spins for a moment if work has been coming quickly, then idles on its
 * condition, and leaves when it has idled for long.
 *
 * How many work is decided here, whenever a task is queued or taken, by wants_thread(): none
 * more while another is on its way (it asks again when it is there), and none more where those
 * that work will be done with the queue in less time than it takes to wake one. The latter
 * is a guess from how long workers took of late. So one idle thread watches: it looks every
 * millisecond whether anything was taken, and if not, it takes over. In a pool that grows, it
 * is also the watcher that adds a thread when all are busy for long.
 *
 * A completion is sent after the books are closed on the task, so that who sees the outcome
 * sees the books right; until it is sent, the task counts as ending.
 */

#include "config.h"

#include <pthread.h>

#include <glib/gi18n-lib.h>

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

/* The inbox */

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

/* How many are queued. To be called with the lock held. */
guint
q_task_pool_core_get_length_locked (QTaskPoolCore *core)
{
  q_task_pool_core_sort_inbox_locked (core);

  return core->queue.length;
}

/* Sets whether the inbox may be used. To be called with the lock held; when it has been
 * closed, those who have seen it open come to an end in a few instructions. */
void
q_task_pool_core_set_open_locked (QTaskPoolCore *core)
{
  g_atomic_int_set (&core->is_open, !core->is_closed && core->max_queued == G_MAXUINT);
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

/* Whether more work than may. To be called with the lock held. */
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

/* The queue and the books; all with the lock held */

/* For the thread that spins, which needs no order. */
static inline void
show_available (QTaskPoolCore *core)
{
  __atomic_store_n (&core->available, (int) (core->queue.length > 0), __ATOMIC_RELAXED);
}

static inline gboolean
is_available (QTaskPoolCore *core)
{
  return __atomic_load_n (&core->available, __ATOMIC_RELAXED) ||
         __atomic_load_n (&core->inbox, __ATOMIC_RELAXED) != NULL;
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

gboolean
q_task_pool_core_is_queued_locked (QTaskPoolCore *core,
                                   QTask *task)
{
  q_task_pool_core_sort_inbox_locked (core);

  return q_task_get_private (task)->is_queued;
}

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

/* What a task that was started before is queued with. */
gint64
q_task_pool_core_get_key (QTaskPrivate *priv)
{
  if (q_task_get_word (priv) & Q_TASK_WORD_STOP)
    return G_MININT64;

  return g_atomic_int_get (&priv->priority);
}

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

/* Queues @task again, which the caller has taken out of wherever it was. The reference of the
 * worker is that of the queue now. */
void
q_task_pool_core_enqueue_again_locked (QTaskPoolCore *core,
                                       QTask *task)
{
  note_queued (core, task);
  q_task_pool_core_enqueue_locked (core, task, q_task_pool_core_get_key (q_task_get_private (task)));
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

/* Runner */

static gboolean give_up (QTaskPoolCore *core,
                         QTask *task,
                         gint64 made_at,
                         const GError *error);

static QTaskPoolCore *
core_from_runner (QTaskRunner *runner)
{
  return (QTaskPoolCore *) runner;
}

static gboolean
core_withdraw (QTaskRunner *runner,
               QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  GQueue told = G_QUEUE_INIT;
  gboolean withdrawn;

  g_mutex_lock (&core->lock);
  withdrawn = q_task_pool_core_is_queued_locked (core, task);
  if (withdrawn)
    {
      q_task_pool_core_dequeue_locked (core, task);
      core->n_stopped++;
      q_task_pool_core_changed_locked (core, &told);
    }
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  return withdrawn;
}

static void
core_move_to_front (QTaskRunner *runner,
                    QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);
  if (q_task_pool_core_is_queued_locked (core, task))
    {
      q_task_pool_core_dequeue_locked (core, task);
      q_task_pool_core_enqueue_locked (core, task, G_MININT64);
    }
  g_mutex_unlock (&core->lock);
}

static gboolean
core_help (QTaskRunner *runner,
           QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  QTaskPoolRunning running;
  GQueue told = G_QUEUE_INIT;
  GError *error = NULL;
  QTaskState state;
  gboolean failed;
  gboolean helps;

  g_mutex_lock (&core->lock);
  helps = !core->runner.is_serial && q_task_pool_core_is_queued_locked (core, task);
  if (helps)
    {
      q_task_pool_core_take_locked (core, task, &running);
      q_task_pool_core_changed_locked (core, &told);
    }
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  if (!helps)
    return FALSE;

  state = q_task_run_worker (task, runner, &failed, &error);

  if (!q_task_state_is_over (state))
    {
      q_task_pool_core_lock (core);
      q_task_pool_core_set_aside_locked (core, task, &running, state);
      g_mutex_unlock (&core->lock);

      /* The caller may have something else to do now. */
      q_task_pool_core_wake (core);
      return TRUE;
    }

  g_mutex_lock (&core->lock);
  q_task_pool_core_close_books_locked (core, &running, state, failed);
  g_mutex_unlock (&core->lock);

  q_task_end_run (task, error, state);

  g_mutex_lock (&core->lock);
  core->n_ending--;
  q_task_pool_core_changed_locked (core, &told);
  g_mutex_unlock (&core->lock);

  q_task_pool_core_tell (&told);

  return TRUE;
}

static void
core_requeue (QTaskRunner *runner,
              QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  g_autoptr (GError) error = NULL;

  q_task_pool_core_lock (core);
  q_task_queue_remove (&core->syncing, &q_task_get_private (task)->node);
  q_task_pool_core_enqueue_again_locked (core, task);

  if (!q_task_pool_core_wake_and_unlock (core, &error))
    give_up (core, NULL, 0, error);

  /* Asked to stop while it was not in the queue. */
  if (q_task_get_word (q_task_get_private (task)) & Q_TASK_WORD_STOP)
    core_move_to_front (runner, task);
}

static gboolean
core_is_pressed (QTaskRunner *runner,
                 QTask *task)
{
  QTaskPoolCore *core = core_from_runner (runner);
  QTaskNode *node;
  gboolean pressed;

  if (core->runner.is_serial)
    return FALSE;

  q_task_pool_core_lock (core);
  q_task_pool_core_sort_inbox_locked (core);
  node = q_task_queue_peek (&core->queue);
  pressed = node != NULL && (node->key < q_task_pool_core_get_key (q_task_get_private (task)) ||
                             q_task_pool_core_is_crowded_locked (core));
  g_mutex_unlock (&core->lock);

  return pressed;
}

static void
core_park (QTaskRunner *runner)
{
  QTaskPoolCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);
  core->n_parked++;
  g_mutex_unlock (&core->lock);
}

static void
core_unpark (QTaskRunner *runner)
{
  QTaskPoolCore *core = core_from_runner (runner);

  g_mutex_lock (&core->lock);
  core->n_parked--;
  g_mutex_unlock (&core->lock);
}

static gboolean
core_compensate (QTaskRunner *runner)
{
  return q_task_pool_core_wake (core_from_runner (runner));
}

static QTask *
core_ref_blocker (QTaskRunner *runner)
{
  QTaskPoolCore *core = core_from_runner (runner);
  QTask *blocker = NULL;

  g_mutex_lock (&core->lock);
  if (core->runner.is_serial && core->running != NULL)
    blocker = g_object_ref (core->running->task);
  g_mutex_unlock (&core->lock);

  return blocker;
}

static void
core_list_tasks (QTaskRunner *runner,
                 GPtrArray *tasks)
{
  g_ptr_array_extend_and_steal (tasks,
                                q_task_pool_core_list_tasks (core_from_runner (runner), NULL));
}

static void
core_runner_ref (QTaskRunner *runner)
{
  q_task_pool_core_ref (core_from_runner (runner));
}

static void
core_runner_unref (QTaskRunner *runner)
{
  q_task_pool_core_unref (core_from_runner (runner));
}

static const QTaskRunnerFuncs runner_funcs = {
  .withdraw = core_withdraw,
  .move_to_front = core_move_to_front,
  .help = core_help,
  .requeue = core_requeue,
  .is_pressed = core_is_pressed,
  .park = core_park,
  .unpark = core_unpark,
  .compensate = core_compensate,
  .ref_blocker = core_ref_blocker,
  .list_tasks = core_list_tasks,
  .ref = core_runner_ref,
  .unref = core_runner_unref,
};

/* Threads */

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

/* Making and freeing */

QTaskPoolCore *
q_task_pool_core_new (const char *name,
                      guint max_threads,
                      guint max_queued,
                      gboolean is_serial,
                      gboolean grows)
{
  QTaskPoolCore *core = g_new0 (QTaskPoolCore, 1);

  core->runner.funcs = &runner_funcs;
  core->runner.is_serial = is_serial;
  core->ref_count = 1;
  core->name = g_strdup (name);
  core->grows = grows;
  core->max_threads = max_threads > 0 ? max_threads : G_MAXUINT;
  core->max_queued = max_queued > 0 ? max_queued : G_MAXUINT;
  q_task_pool_core_set_open_locked (core);
  g_mutex_init (&core->lock);
  g_cond_init (&core->changed);
  g_queue_init (&core->space_waiters);
  g_queue_init (&core->close_waiters);
  q_task_pool_core_init_threads (core);

  q_task_runner_add (&core->runner);

  return core;
}

QTaskPoolCore *
q_task_pool_core_ref (QTaskPoolCore *core)
{
  g_atomic_int_inc (&core->ref_count);

  return core;
}

void
q_task_pool_core_unref (QTaskPoolCore *core)
{
  if (!g_atomic_int_dec_and_test (&core->ref_count))
    return;

  q_task_runner_remove (&core->runner);

  g_assert (core->inbox == NULL);
  g_assert (core->queue.length == 0);
  g_assert (core->syncing.length == 0);
  g_assert (g_queue_is_empty (&core->space_waiters));
  g_assert (g_queue_is_empty (&core->close_waiters));

  q_task_pool_core_free_threads (core);
  g_cond_clear (&core->changed);
  g_mutex_clear (&core->lock);
  g_free (core->name);
  g_free (core);
}

/* Nobody holds the pool any more: what is queued is still run, and then its threads
 * leave. Takes a reference. */
void
q_task_pool_core_drop (QTaskPoolCore *core)
{
  q_task_pool_core_release_threads (core);
  q_task_pool_core_unref (core);
}

/* Pushing and listing */

/* To be called with the lock held. */
static gboolean
check_closed (QTaskPoolCore *core,
              GError **error)
{
  if (!core->is_closed)
    return TRUE;

  g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED,
               _("The pool “%s” is closed and takes no more tasks"),
                  core->name != NULL ? core->name : _("unnamed"));
  return FALSE;
}

/* The same without the lock. */
gboolean
q_task_pool_core_check_closed (QTaskPoolCore *core,
                               GError **error)
{
  gboolean is_open;

  if (G_LIKELY (g_atomic_int_get (&core->is_open)))
    return TRUE;

  g_mutex_lock (&core->lock);
  is_open = check_closed (core, error);
  g_mutex_unlock (&core->lock);

  return is_open;
}

static gboolean
check_open (QTaskPoolCore *core,
            GError **error)
{
  const char *name = core->name != NULL ? core->name : _("unnamed");

  if (!check_closed (core, error))
    return FALSE;

  if (q_task_pool_core_get_length_locked (core) >= core->max_queued)
    {
      g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL,
                   _("The queue of the pool “%s” is full with %u tasks; wait for space and "
                     "push again"),
                      name, core->queue.length);
      return FALSE;
    }

  return TRUE;
}

/* Takes back a task that could not be queued after all. Takes the reference of the queue.
 * Returns FALSE if the task has been stopped meanwhile, which then is its outcome. */
static gboolean
take_back (QTaskPoolCore *core,
           QTask *task)
{
  if (q_task_unstart (task))
    {
      g_object_unref (task);
      q_task_pool_core_unref (core);
      return TRUE;
    }

  q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);

  return FALSE;
}

static gboolean
is_stopped (QTask *task)
{
  guint word = q_task_get_word (q_task_get_private (task));

  return q_task_word_get_state (word) == Q_TASK_STATE_STOPPED;
}

/* No thread could be started. If there is none at all, nobody would ever run what is queued:
 * @task, if not NULL, is taken back, and @error is the outcome of others, who counted on that
 * thread. */
static gboolean
give_up (QTaskPoolCore *core,
         QTask *task,
         gint64 made_at,
         const GError *error)
{
  g_autoptr (GPtrArray) others = g_ptr_array_new ();
  gboolean given_up = FALSE;

  g_mutex_lock (&core->lock);

  if (core->n_threads + core->n_starting == 0)
    {
      QTaskNode *node;

      given_up = task != NULL && q_task_pool_core_is_queued_locked (core, task);
      if (given_up)
        {
          q_task_pool_core_dequeue_locked (core, task);
          q_task_get_private (task)->node.key = made_at;
        }

      q_task_pool_core_sort_inbox_locked (core);
      while ((node = q_task_queue_peek (&core->queue)) != NULL)
        {
          g_ptr_array_add (others, q_task_from_node (node));
          q_task_pool_core_dequeue_locked (core, q_task_from_node (node));
          core->n_failed++;
        }
    }

  g_mutex_unlock (&core->lock);

  for (guint i = 0; i < others->len; i++)
    {
      q_task_unwatch_stop (others->pdata[i]);
      q_task_end_run (others->pdata[i], g_error_copy (error), Q_TASK_STATE_FINISHED);
    }

  return given_up && take_back (core, task);
}

/* Queues @task to be run with @worker; on failure all is as it was. */
gboolean
q_task_pool_core_push (QTaskPoolCore *core,
                       QTask *task,
                       GCallback worker,
                       gpointer worker_data,
                       GDestroyNotify destroy,
                       guint flags,
                       GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  GError *local_error = NULL;
  gint64 made_at;
  gboolean is_open;
  gint64 key;
  guint word;

  if (!q_task_start (task, &core->runner, worker, worker_data, destroy, flags, error))
    return FALSE;

  made_at = priv->node.key;
  q_task_pool_core_ref (core);
  g_object_ref (task);

  word = q_task_get_word (priv);
  if (g_atomic_pointer_get (&priv->extra) != NULL ||
      (word & Q_TASK_WORD_STOP) != 0)
    {
      q_task_watch_stop (task);
      word = q_task_get_word (priv);
    }

  if (q_task_word_get_state (word) == Q_TASK_STATE_STOPPED)
    {
      g_mutex_lock (&core->lock);
      core->n_stopped++;
      g_mutex_unlock (&core->lock);

      q_task_unwatch_stop (task);
      q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);
      return TRUE;
    }

  key = (word & Q_TASK_WORD_STOP) != 0 ? G_MININT64 : g_atomic_int_get (&priv->priority);

  is_open = q_task_pool_core_post (core, task, key);
  if (is_open && !g_atomic_int_get (&core->armed))
    goto pushed;

  q_task_pool_core_lock (core);

  if (!is_open && !check_open (core, &local_error))
    {
      g_mutex_unlock (&core->lock);

      if (take_back (core, task))
        {
          g_propagate_error (error, local_error);
          return FALSE;
        }

      g_error_free (local_error);
      return TRUE;
    }

  if (!is_open)
    q_task_pool_core_enqueue_locked (core, task, key);

  if (!q_task_pool_core_wake_and_unlock (core, &local_error))
    {
      if (give_up (core, task, made_at, local_error))
        {
          g_propagate_prefixed_error (error, local_error,
                                      _("The task could not be started for lack of a thread: "));
          return FALSE;
        }

      g_clear_error (&local_error);
    }

pushed:
  /* Who waits for it looks again at how it comes to run, and may help. */
  if (G_UNLIKELY (q_task_get_word (priv) & Q_TASK_WORD_WAITED))
    {
      g_mutex_lock (&priv->lock);
      q_task_wake_waiters_locked (priv);
      g_mutex_unlock (&priv->lock);
    }

  /* Stopped while it was not in the queue yet. The caller has a reference. */
  if (G_UNLIKELY (is_stopped (task)) && core_withdraw (&core->runner, task))
    {
      q_task_unwatch_stop (task);
      q_task_end_run (task, NULL, Q_TASK_STATE_STOPPED);
    }

  return TRUE;
}

static void
add_queued_task (QTaskNode *node,
                 gpointer tasks)
{
  g_ptr_array_add (tasks, g_object_ref (q_task_from_node (node)));
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

  q_task_queue_foreach (&core->syncing, add_queued_task, tasks);

  if (n_running != NULL)
    *n_running = tasks->len;

  q_task_pool_core_sort_inbox_locked (core);
  q_task_queue_foreach (&core->queue, add_queued_task, tasks);

  g_mutex_unlock (&core->lock);

  return tasks;
}
