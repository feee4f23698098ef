/* q-task-pool-for.c: a loop on all threads of a QTaskPool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The indexes are dealt out in chunks of the grain, by a counter that every thread adds to; where
 * chunks take less time than that, several of them at once, but fewer towards the end.
 *
 * To have another thread at work takes longer than many a loop does. How long an index takes is
 * known from when the thread last ran the same function: if the whole loop is expected to be over
 * sooner, the caller runs it alone, and looks now and then whether that was wrong, first of all
 * after one chunk. Else, and the first time, it recruits helpers at once, and each of these recruits
 * more as soon as it is at work: so no more are woken than find something to do.
 *
 * A helper is a task of the pool without an owner: it is released by the thread that
 * runs it, or by the caller who withdraws it when the loop is over. The caller waits only for
 * chunks that another thread has begun, never for the queue of the pool: so a loop in a worker
 * ends in a pool of one, too.
 *
 *   next, is_stopped     atomic
 *   n_working            atomic; changed with the lock held
 *   all else             with the lock held, or constant
 *
 * A helper may look at the loop after that is over, so it has a reference; but `func` is called
 * only by one that counts as working, and none does once the loop is over.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-pool-private.h"

/* How long what is to be done must take for another thread to be worth it: about twice of what it
 * takes to wake one; and how long a caller who works alone does so before it looks again. */
#define ALONE_NSEC 60000
#define LOOK_NSEC 20000

/* About how long what is taken at once may take: far longer than the counter does when it goes
 * from one processor to another. */
#define BATCH_NSEC 2000

/* After how many short loops a long one is taken for an interruption, once. */
#define SHORT_LOOPS 3

/* How many functions each thread remembers. */
#define N_COSTS 8

/* How long the caller spins for the last chunks of others before it sleeps. */
#define SPIN_USEC 50

/* How many helpers each participant gets; all of them in a few steps. */
#define RECRUITS 2

/* How many there are at most: more than there are processors anywhere, where a pool has a limit
 * that is none. */
#define MAX_HELPERS 4096

/* With no grain given: how many chunks for each thread. */
#define CHUNKS_PER_THREAD 16

typedef struct
{
  /* What every thread writes to is in a line of its own. */
  gsize next; /* chunk */
  char padding[64 - sizeof (gsize)];

  int ref_count;
  int is_stopped;
  int n_working; /* helpers */
  gsize n;
  gsize grain;
  gsize n_chunks;
  QTaskPoolForFunc func;
  gpointer user_data;
  GCancellable *cancellable; /* lives as long as the loop is not over */
  QTaskPoolCore *core;       /* owned */
  QTask *caller;             /* whose worker or sync function runs the loop, or NULL; lives as long, too */
  int priority;
  GMutex lock;
  GCond cond;
  gboolean is_over;
  gboolean is_waiting; /* the caller */
  GError *error;       /* the first */
  guint max_helpers;
  guint n_helpers;
  QTask *helpers[]; /* owned */
} QTaskLoop;

static QTaskLoop *
loop_ref (QTaskLoop *loop)
{
  g_atomic_int_inc (&loop->ref_count);

  return loop;
}

static void
loop_unref (gpointer data)
{
  QTaskLoop *loop = data;

  if (!g_atomic_int_dec_and_test (&loop->ref_count))
    return;

  g_assert (loop->n_helpers == 0);

  g_clear_error (&loop->error);
  q_task_pool_core_unref (loop->core);
  g_cond_clear (&loop->cond);
  g_mutex_clear (&loop->lock);
  g_free (loop);
}

/* Nanoseconds, or something within a factor of two of them, where that is read in far less time
 * than the clock. */
static inline gint64
get_about_nsec (void)
{
#if defined(__x86_64__) || defined(__i386__)
  return (gint64) (__builtin_ia32_rdtsc () / 2);
#else
  return g_get_monotonic_time () * 1000;
#endif
}

/* What so many indexes took, in nanoseconds. No quotient is kept, since a division takes as long
 * as some short loops do. */
typedef struct
{
  double elapsed;
  double n;
} QTaskLoopTime;

/* ... the last two times that this thread ran the function */
typedef struct
{
  QTaskPoolForFunc func;
  QTaskLoopTime last;
  QTaskLoopTime before;
  guint n_short; /* how many loops were, one after the other */
} QTaskLoopCost;

static _Thread_local QTaskLoopCost costs[N_COSTS];

static inline QTaskLoopCost *
get_cost (QTaskPoolForFunc func)
{
  return &costs[((gsize) func >> 4) % N_COSTS];
}

/* Whether @n indexes are over before another thread would be at work, if they take what others
 * took. */
static inline gboolean
is_short (double elapsed,
          double n_done,
          double n)
{
  return elapsed * n <= ALONE_NSEC * n_done;
}

/* The same, as it was lately. One that took long does so again now and then: both must be
 * short. */
static inline gboolean
was_short (QTaskLoopCost *cost,
           QTaskPoolForFunc func,
           gsize n)
{
  return cost->func == func && is_short (cost->last.elapsed, cost->last.n, (double) n) &&
         is_short (cost->before.elapsed, cost->before.n, (double) n);
}

static inline void
note_cost (QTaskLoopCost *cost,
           QTaskPoolForFunc func,
           gint64 elapsed,
           gsize n)
{
  gboolean is_long = elapsed > ALONE_NSEC;

  if (cost->func != func)
    *cost = (QTaskLoopCost){ .func = func, .last = { 0, 1 } };

  /* After some that were short, it was interrupted, or is of another kind: then the next one tells. */
  if (is_long && cost->n_short >= SHORT_LOOPS)
    {
      cost->n_short = 0;
      return;
    }

  cost->n_short = is_long ? 0 : MIN (cost->n_short + 1, SHORT_LOOPS);
  cost->before = cost->last;
  cost->last = (QTaskLoopTime){ (double) elapsed, (double) n };
}

static void
set_func_error (GError **error)
{
  g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED,
                       _("The function of a parallel loop returned FALSE and did not say why: it "
                         "did not set an error, raised an exception, or did not return TRUE at "
                         "its end"));
}

/* Calls the function for one chunk. */
static inline gboolean
call_chunk (QTaskPoolForFunc func,
            gpointer user_data,
            gsize n,
            gsize grain,
            gsize chunk,
            GError **error)
{
  gsize begin = chunk * grain;
  gsize end = n - begin > grain ? begin + grain : n;
  GError *local_error = NULL;

  if (G_LIKELY (func (begin, end, user_data, &local_error) && local_error == NULL))
    return TRUE;

  if (local_error == NULL)
    set_func_error (&local_error);
  g_propagate_error (error, local_error);

  return FALSE;
}

static void
stop (QTaskLoop *loop,
      GError *error)
{
  g_mutex_lock (&loop->lock);
  if (loop->error == NULL)
    loop->error = g_steal_pointer (&error);
  g_atomic_int_set (&loop->is_stopped, TRUE);
  g_mutex_unlock (&loop->lock);

  g_clear_error (&error);
}

/* Runs one chunk, unless the loop is to stop. */
static inline gboolean
run_chunk (QTaskLoop *loop,
           gsize chunk)
{
  GError *error = NULL;

  if (__atomic_load_n (&loop->is_stopped, __ATOMIC_RELAXED))
    return FALSE;

  if (loop->cancellable != NULL && g_cancellable_is_cancelled (loop->cancellable))
    stop (loop, q_task_new_stop_error (Q_TASK_STOP_CANCEL));
  else if (G_UNLIKELY (!call_chunk (loop->func, loop->user_data, loop->n, loop->grain, chunk,
                                    &error)))
    stop (loop, error);
  else
    return TRUE;

  return FALSE;
}

/* Takes chunks until there is none left, or the loop is to stop: one at first, and more at once
 * if they are short. Returns how many it ran. */
static gsize
take_chunks (QTaskLoop *loop)
{
  gsize n_chunks = loop->n_chunks;
  gsize n_run = 0;
  gsize batch = 1;
  gsize first;

  while ((first = __atomic_load_n (&loop->next, __ATOMIC_RELAXED)) < n_chunks)
    {
      gint64 start = get_about_nsec ();
      gint64 elapsed;

      /* The others may take some in between, which only makes this one a bit too large. */
      batch = CLAMP ((n_chunks - first) / (2 * (loop->max_helpers + 1)), 1, batch);

      first = __atomic_fetch_add (&loop->next, batch, __ATOMIC_RELAXED);
      if (first >= n_chunks)
        break;

      batch = MIN (batch, n_chunks - first);
      for (gsize chunk = first; chunk < first + batch; chunk++)
        if (!run_chunk (loop, chunk))
          return n_run;

      n_run += batch;
      elapsed = get_about_nsec () - start;
      if (elapsed < BATCH_NSEC / 2)
        batch *= 2;
      else if (elapsed > BATCH_NSEC * 2)
        batch = MAX (batch / 4, 1);
    }

  return n_run;
}

static gboolean
has_chunks (QTaskLoop *loop)
{
  return !__atomic_load_n (&loop->is_stopped, __ATOMIC_RELAXED) &&
         __atomic_load_n (&loop->next, __ATOMIC_RELAXED) < loop->n_chunks;
}

static gboolean help_worker (QTask *task,
                             gpointer data,
                             GError **error);

/* Gets more helpers, if there is work for them. Where the pool does not take one, the loop goes
 * on with those it has. */
static void
recruit (QTaskLoop *loop)
{
  for (int i = 0; i < RECRUITS && has_chunks (loop); i++)
    {
      g_autoptr (QTask) task = NULL;
      gboolean is_wanted;

      g_mutex_lock (&loop->lock);
      is_wanted = !loop->is_over && loop->n_helpers < loop->max_helpers;
      if (is_wanted)
        {
          task = q_task_new_ownerless ();
          loop->helpers[loop->n_helpers++] = g_object_ref (task);
        }
      g_mutex_unlock (&loop->lock);

      if (!is_wanted)
        return;

      q_task_set_priority (task, loop->priority);
      if (loop->caller != NULL)
        {
          q_task_ensure_extra (q_task_get_private (loop->caller));
          q_task_ensure_extra (q_task_get_private (task))->part_of = loop->caller;
        }
      if (!q_task_pool_core_push (loop->core, task, G_CALLBACK (help_worker), loop_ref (loop),
                                  loop_unref, 0, NULL))
        {
          /* A task that could not be pushed stays in the list, which does no harm. The reference
           * is not the last one, since the caller has another. */
          g_atomic_int_add (&loop->ref_count, -1);
          return;
        }
    }
}

/* A QTaskWorker */
static gboolean
help_worker (QTask *task G_GNUC_UNUSED,
             gpointer data,
             GError **error G_GNUC_UNUSED)
{
  QTaskLoop *loop = data;
  gboolean may_work;

  g_mutex_lock (&loop->lock);
  may_work = !loop->is_over;
  if (may_work)
    loop->n_working++;
  g_mutex_unlock (&loop->lock);

  if (!may_work)
    return TRUE;

  recruit (loop);
  take_chunks (loop);

  g_mutex_lock (&loop->lock);
  g_atomic_int_add (&loop->n_working, -1);
  if (loop->n_working == 0 && loop->is_waiting)
    g_cond_signal (&loop->cond);
  g_mutex_unlock (&loop->lock);

  return TRUE;
}

/* Ends the loop: those who have begun a chunk are waited for, the others withdrawn. */
static void
finish (QTaskLoop *loop)
{
  QTaskFrame *frame = q_task_get_current_frame ();
  gboolean is_short = FALSE; /* of a thread in the place of this worker */
  gint64 end;

  g_mutex_lock (&loop->lock);
  loop->is_over = TRUE;
  g_mutex_unlock (&loop->lock);

  for (guint i = 0; i < loop->n_helpers; i++)
    {
      q_task_cancel (loop->helpers[i]);
      g_object_unref (loop->helpers[i]);
    }
  loop->n_helpers = 0;

  if (q_task_may_spin ())
    {
      end = g_get_monotonic_time () + SPIN_USEC;
      while (g_atomic_int_get (&loop->n_working) > 0 && g_get_monotonic_time () < end)
        q_task_spin_briefly ();
    }

  g_mutex_lock (&loop->lock);

  if (loop->n_working > 0)
    {
      if (frame != NULL)
        {
          g_mutex_unlock (&loop->lock);
          frame->runner->funcs->park (frame->runner);
          is_short = !frame->runner->funcs->compensate (frame->runner);
          g_mutex_lock (&loop->lock);
        }

      loop->is_waiting = TRUE;
      while (loop->n_working > 0)
        {
          if (!is_short)
            {
              g_cond_wait (&loop->cond, &loop->lock);
            }
          else if (!g_cond_wait_until (&loop->cond, &loop->lock,
                                       g_get_monotonic_time () + Q_TASK_RETRY_USEC))
            {
              g_mutex_unlock (&loop->lock);
              is_short = !frame->runner->funcs->compensate (frame->runner);
              g_mutex_lock (&loop->lock);
            }
        }

      if (frame != NULL)
        {
          g_mutex_unlock (&loop->lock);
          frame->runner->funcs->unpark (frame->runner);
          g_mutex_lock (&loop->lock);
        }
    }

  g_mutex_unlock (&loop->lock);
}

/* How many helpers the caller may get. */
static guint
get_max_helpers (QTaskPoolCore *core,
                 gsize n_chunks)
{
  guint n_processors = g_get_num_processors ();
  guint max_threads;
  guint max_helpers;

  g_mutex_lock (&core->lock);
  max_threads = core->max_threads;
  g_mutex_unlock (&core->lock);

  /* A pool that says nothing of how many threads are good for this. */
  if (max_threads == G_MAXUINT || core->grows)
    max_helpers = MIN (max_threads, n_processors) - 1;
  else
    max_helpers = max_threads;

  /* One of the threads is the caller. */
  if (max_helpers == max_threads)
    for (QTaskFrame *frame = q_task_get_current_frame (); frame != NULL; frame = frame->outer)
      if (frame->runner == &core->runner)
        {
          max_helpers--;
          break;
        }

  max_helpers = MIN (max_helpers, MAX_HELPERS);

  return (guint) MIN (max_helpers, n_chunks - 1);
}

/* The rest of the loop, from @chunk on, on several threads. */
static gboolean
run_together (QTaskPoolCore *core,
              gsize n,
              gsize grain,
              gsize n_chunks,
              gsize chunk,
              guint max_helpers,
              QTaskPoolForFunc func,
              gpointer user_data,
              GCancellable *cancellable,
              GError **error)
{
  QTaskFrame *frame = q_task_get_current_frame ();
  QTaskHold *hold = q_task_get_current_hold ();
  QTaskLoop *loop;
  gboolean success;
  gint64 start;
  gsize n_run;

  loop = g_malloc0 (sizeof (QTaskLoop) + max_helpers * sizeof (QTask *));
  loop->ref_count = 1;
  loop->next = chunk;
  loop->n = n;
  loop->grain = grain;
  loop->n_chunks = n_chunks;
  loop->func = func;
  loop->user_data = user_data;
  loop->cancellable = cancellable;
  loop->core = q_task_pool_core_ref (core);
  if (frame != NULL)
    loop->caller = frame->task;
  else if (hold != NULL)
    loop->caller = hold->task;
  loop->priority = frame != NULL ? q_task_get_priority (frame->task) : G_PRIORITY_DEFAULT;
  loop->max_helpers = max_helpers;
  g_mutex_init (&loop->lock);
  g_cond_init (&loop->cond);

  recruit (loop);

  start = get_about_nsec ();
  n_run = take_chunks (loop);
  if (n_run > 0)
    note_cost (get_cost (func), func, get_about_nsec () - start, n_run * grain);

  finish (loop);

  success = loop->error == NULL;
  if (!success)
    g_propagate_error (error, g_steal_pointer (&loop->error));

  loop_unref (loop);

  return success;
}

/* Runs chunks in the calling thread, from @chunk to @end. */
static inline gboolean
run_chunks (gsize n,
            gsize grain,
            gsize chunk,
            gsize end,
            QTaskPoolForFunc func,
            gpointer user_data,
            GCancellable *cancellable,
            GError **error)
{
  for (; chunk < end; chunk++)
    {
      if (cancellable != NULL && g_cancellable_is_cancelled (cancellable))
        {
          g_propagate_error (error, q_task_new_stop_error (Q_TASK_STOP_CANCEL));
          return FALSE;
        }

      if (G_UNLIKELY (!call_chunk (func, user_data, n, grain, chunk, error)))
        return FALSE;
    }

  return TRUE;
}

/* A loop of more than one chunk */
static gboolean
run (QTaskPoolCore *core,
     gsize n,
     gsize grain,
     gsize n_chunks,
     QTaskPoolForFunc func,
     gpointer user_data,
     GCancellable *cancellable,
     GError **error)
{
  QTaskLoopCost *cost = get_cost (func);
  gboolean is_alone = was_short (cost, func, n);
  gint64 start = get_about_nsec ();
  gint64 elapsed = 0;
  gsize batch = 1;
  gsize chunk = 0;

  while (chunk < n_chunks)
    {
      gsize end = n_chunks;

      if (!is_alone)
        {
          guint max_helpers = get_max_helpers (core, n_chunks - chunk);

          if (max_helpers > 0)
            return run_together (core, n, grain, n_chunks, chunk, max_helpers, func, user_data,
                                 cancellable, error);
        }
      else if (n_chunks - chunk > batch)
        {
          end = chunk + batch;
        }

      /* Alone to the end, if there is nobody to help. */
      if (!run_chunks (n, grain, chunk, end, func, user_data, cancellable, error))
        return FALSE;
      chunk = end;

      /* The second of two has nobody to learn from it. */
      if (n_chunks == 2 && chunk == 2 && elapsed > 0)
        {
          note_cost (cost, func, elapsed, grain);
          return TRUE;
        }

      elapsed = get_about_nsec () - start;
      if (chunk == n_chunks)
        break;

      /* A few chunks that were interrupted tell nothing of the rest. */
      is_alone = elapsed < ALONE_NSEC / 2 ||
                 is_short ((double) elapsed, (double) chunk, (double) (n_chunks - chunk));

      /* What takes longer now than it ever did is to be noticed before it has taken four times
       * as long as it must. */
      batch = 3 * chunk;
      while (batch > 1 && (double) elapsed * (double) batch > LOOK_NSEC * (double) chunk)
        batch /= 2;
    }

  note_cost (cost, func, elapsed, n);

  return TRUE;
}

/**
 * q_task_pool_parallel_for:
 * @pool: a pool
 * @n: how many indexes there are
 * @grain: how many indexes make a chunk, for which @func is called once; 0 for a choice that
 *   suits loops whose indexes all take about as long
 * @func: (scope call) (closure user_data): called for each chunk
 * @user_data: (nullable): data for @func
 * @cancellable: (nullable): stops the loop
 * @error: return location for an error
 *
 * Calls @func for the indexes from 0 to @n, without @n, in chunks, in the calling thread and in
 * threads of the pool at once, and returns when all is done. The order of the chunks is not
 * defined.
 *
 * The caller takes part; as many threads as the pool may have join in, or one for each processor
 * where the pool is not limited or is the default one. A loop that is known from an earlier call to
 * take less time than it takes to wake another thread is run by the caller alone. @grain is best
 * chosen so that a chunk takes a microsecond or more, and that there are many chunks for each
 * thread; shorter chunks are dealt out several at once.
 *
 * If @func returns %FALSE, no more chunks are begun, and the first error is returned; likewise when
 * @cancellable is cancelled.
 *
 * It blocks: where there is a user interface, call it in a worker. @func is called in other threads
 * than the caller's, and must not wait there for what needs the caller's main loop, such as a task
 * that syncs with it.
 *
 * A worker may call this, also with its own pool, which may have one thread only. The helpers
 * are tasks of the pool, with the priority of the calling task: they count in its statistics, and
 * wait in its queue behind what is more urgent; the caller then does the work meanwhile, and
 * never waits for the queue.
 *
 * ```c
 * static gboolean
 * blur_rows (gsize begin, gsize end, gpointer image, GError **error)
 * {
 *   for (gsize row = begin; row < end; row++)
 *     blur_row (image, row);
 *
 *   return TRUE;
 * }
 *
 * q_task_pool_parallel_for (pool, height, 16, blur_rows, image, cancellable, &error);
 * ```
 *
 * Errors: those of @func, or %Q_TASK_ERROR_FAILED if it returned %FALSE with no error;
 * %G_IO_ERROR_CANCELLED; %Q_TASK_ERROR_CLOSED; %Q_TASK_ERROR_FORKED in a forked child.
 *
 * May be called from any thread.
 *
 * Returns: %TRUE if @func was called for all indexes, and all went well
 *
 * Since: 1.0
 */
gboolean
q_task_pool_parallel_for (QTaskPool *pool,
                          gsize n,
                          gsize grain,
                          QTaskPoolForFunc func,
                          gpointer user_data,
                          GCancellable *cancellable,
                          GError **error)
{
  QTaskPoolCore *core;
  gsize n_chunks;

  g_return_val_if_fail (Q_IS_TASK_POOL (pool), FALSE);
  g_return_val_if_fail (func != NULL, FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (q_task_is_forked (error))
    return FALSE;

  core = q_task_pool_get_core (pool);

  if (!q_task_pool_core_check_closed (core, error))
    return FALSE;

  if (n == 0)
    return TRUE;

  if (grain == 0)
    grain = MAX (n / (CHUNKS_PER_THREAD * g_get_num_processors ()), 1);

  if (n <= grain)
    return run_chunks (n, grain, 0, 1, func, user_data, cancellable, error);

  n_chunks = (n - 1) / grain + 1;

  return run (core, n, grain, n_chunks, func, user_data, cancellable, error);
}
