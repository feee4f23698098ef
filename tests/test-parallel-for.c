/* test-parallel-for.c: loops on all threads of a pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "test-util.h"

static void
assert_drained (QTaskPool *pool)
{
  QTaskPoolStats stats;

  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.queued, ==, 0);
}

/* Closes, and sees to it that nothing of the loops holds the pool or is left in it. */
static void
close_pool (QTaskPool *pool)
{
  assert_drained (pool);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_assert_finalize_object (pool);
}

/* Which indexes there were, and how often */
typedef struct
{
  gsize n;
  gsize grain;
  int n_chunks;
  guint8 *seen;
} Seen;

static gboolean
see (gsize begin,
     gsize end,
     gpointer data,
     GError **error)
{
  Seen *seen = data;

  g_assert_cmpuint (begin, <, end);
  g_assert_cmpuint (end, <=, seen->n);
  if (seen->grain > 0)
    {
      g_assert_cmpuint (begin % seen->grain, ==, 0);
      g_assert_true (end - begin == seen->grain || end == seen->n);
    }
  g_assert_nonnull (error);
  g_assert_no_error (*error);

  g_atomic_int_inc (&seen->n_chunks);
  for (gsize i = begin; seen->seen != NULL && i < end; i++)
    seen->seen[i]++;

  return TRUE;
}

static void
check_all_seen (QTaskPool *pool,
                gsize n,
                gsize grain)
{
  g_autofree guint8 *array = g_malloc0 (n + 1);
  Seen seen = { n, grain, 0, array };
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_pool_parallel_for (pool, n, grain, see, &seen, NULL, &error));
  g_assert_no_error (error);
  for (gsize i = 0; i < n; i++)
    g_assert_cmpuint (array[i], ==, 1);
  if (grain > 0)
    g_assert_cmpint (seen.n_chunks, ==, (int) (n > 0 ? (n - 1) / grain + 1 : 0));
}

static void
test_every_index (void)
{
  static const gsize ns[] = { 0, 1, 2, 3, 10, 100, 1000, 4097, 100000 };
  static const gsize grains[] = { 0, 1, 2, 3, 7, 64, 1000, 99999, 100000, 100001, G_MAXSIZE };

  for (guint threads = 0; threads < 4; threads++)
    {
      QTaskPool *pool = q_task_pool_new ("for", threads, 0);

      for (guint i = 0; i < G_N_ELEMENTS (ns); i++)
        for (guint k = 0; k < G_N_ELEMENTS (grains); k++)
          check_all_seen (pool, ns[i], grains[k]);

      close_pool (pool);
    }
}

static void
test_largest (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);
  const gsize grain = G_MAXSIZE / 1000;
  Seen seen = { G_MAXSIZE, grain, 0, NULL };

  g_assert_true (q_task_pool_parallel_for (pool, G_MAXSIZE, grain, see, &seen, NULL, NULL));
  g_assert_cmpint (seen.n_chunks, ==, 1001);
  close_pool (pool);
}

/* A pool whose limit is as good as none, and a loop that could have a thread for each index */
static gboolean
fail_at_once (gsize begin G_GNUC_UNUSED,
              gsize end G_GNUC_UNUSED,
              gpointer data G_GNUC_UNUSED,
              GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "at once");

  return FALSE;
}

static void
test_most_threads (void)
{
  static const guint limits[] = { G_MAXINT, (guint) G_MAXINT + 1, G_MAXUINT - 1 };

  for (guint i = 0; i < G_N_ELEMENTS (limits); i++)
    {
      QTaskPool *pool = q_task_pool_new ("for", limits[i], 0);
      g_autoptr (GError) error = NULL;

      g_assert_false (q_task_pool_parallel_for (pool, G_MAXSIZE, 1, fail_at_once, NULL, NULL, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
      close_pool (pool);
    }
}

/* All of so many threads are in there at once, or the test does not end. */
typedef struct
{
  TestGate gate;
  int n_threads;
  int n_inside;
  int max_inside;
} Meeting;

static gboolean
meet (gsize begin G_GNUC_UNUSED,
      gsize end G_GNUC_UNUSED,
      gpointer data,
      GError **error G_GNUC_UNUSED)
{
  Meeting *meeting = data;
  int n_inside = g_atomic_int_add (&meeting->n_inside, 1) + 1;
  int max_inside;

  do
    max_inside = g_atomic_int_get (&meeting->max_inside);
  while (n_inside > max_inside &&
         !g_atomic_int_compare_and_exchange (&meeting->max_inside, max_inside, n_inside));

  test_gate_open (&meeting->gate);
  test_gate_wait_for (&meeting->gate, meeting->n_threads);
  g_usleep (100); /* or the next loop would be taken for a short one */
  g_atomic_int_add (&meeting->n_inside, -1);

  return TRUE;
}

static void
test_threads (void)
{
  for (guint threads = 1; threads < 6; threads++)
    {
      QTaskPool *pool = q_task_pool_new ("for", threads, 0);
      Meeting meeting = { TEST_GATE_INIT, (int) threads + 1, 0, 0 };

      /* Those of the pool, and the caller; no more. */
      g_assert_true (q_task_pool_parallel_for (pool, 20, 1, meet, &meeting, NULL, NULL));
      g_assert_cmpint (meeting.max_inside, ==, (int) threads + 1);
      close_pool (pool);
    }
}

/* What was short may be long the next time: then the others join before long. */
typedef struct
{
  Meeting meeting;
  gboolean is_long;
  int n_chunks;
} Surprise;

static gboolean
surprise (gsize begin,
          gsize end,
          gpointer data,
          GError **error)
{
  Surprise *self = data;

  /* The first few are run alone. */
  if (!self->is_long)
    return TRUE;

  if (g_atomic_int_add (&self->n_chunks, 1) < 4)
    {
      g_usleep (1000);
      return TRUE;
    }

  return meet (begin, end, &self->meeting, error);
}

static void
test_surprise (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 1, 0);

  for (int round = 0; round < 5; round++)
    {
      Surprise self = { { TEST_GATE_INIT, 2, 0, 0 }, FALSE, 0 };

      for (int i = 0; i < 10; i++)
        g_assert_true (q_task_pool_parallel_for (pool, 100, 1, surprise, &self, NULL, NULL));

      self.is_long = TRUE;
      g_assert_true (q_task_pool_parallel_for (pool, 100, 1, surprise, &self, NULL, NULL));
      g_assert_cmpint (self.meeting.max_inside, ==, 2);
    }

  close_pool (pool);
}

/* A loop that is known to be short wakes nobody. */
static void
test_short (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);
  QTaskPoolStats before;
  QTaskPoolStats after;
  guint n_alone = 0;

  check_all_seen (pool, 4, 1);

  for (int i = 0; i < 100; i++)
    {
      q_task_pool_get_stats (pool, &before);
      check_all_seen (pool, 4, 1);
      q_task_pool_get_stats (pool, &after);
      n_alone += before.finished + before.stopped == after.finished + after.stopped ? 1 : 0;
    }

  /* But for those that were interrupted; nothing is short here under valgrind. */
  if (!test_is_slow ())
    g_assert_cmpuint (n_alone, >=, 50);

  close_pool (pool);

  /* A single chunk never does. */
  pool = q_task_pool_new ("for", 2, 0);
  check_all_seen (pool, 1000, 1000);
  q_task_pool_get_stats (pool, &after);
  g_assert_cmpuint (after.threads, ==, 0);
  close_pool (pool);
}

/* Errors */

typedef struct
{
  gsize failing;
  gboolean with_error;
  GCancellable *cancelled;
  int n_chunks;
} Failing;

static gboolean
fail_at (gsize begin,
         gsize end G_GNUC_UNUSED,
         gpointer data,
         GError **error)
{
  Failing *failing = data;

  g_atomic_int_inc (&failing->n_chunks);

  if (begin < failing->failing)
    return TRUE;

  if (failing->cancelled != NULL)
    {
      g_cancellable_cancel (failing->cancelled);
      return TRUE;
    }

  if (failing->with_error)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "busy");

  return FALSE;
}

static void
test_error (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);

  for (gsize n = 1; n <= 100000; n *= 10)
    for (int with_error = 0; with_error < 2; with_error++)
      {
        Failing failing = { n / 2, with_error, NULL, 0 };
        g_autoptr (GError) error = NULL;

        g_assert_false (q_task_pool_parallel_for (pool, n, 1, fail_at, &failing, NULL, &error));
        if (with_error)
          g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
        else
          g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
        g_assert_cmpint (failing.n_chunks, <=, (int) n);
        assert_drained (pool);

        /* And without anybody who wants to know. */
        g_assert_false (q_task_pool_parallel_for (pool, n, 1, fail_at, &failing, NULL, NULL));
      }

  close_pool (pool);
}

/* The first error stops the rest: with two threads, each can be in one more chunk. */
static gboolean
fail_first (gsize begin,
            gsize end G_GNUC_UNUSED,
            gpointer data,
            GError **error)
{
  Meeting *meeting = data;

  g_atomic_int_inc (&meeting->n_inside);
  test_gate_open (&meeting->gate);
  test_gate_wait_for (&meeting->gate, 2);
  g_usleep (1000);

  if (begin > 0)
    return TRUE;

  g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "%" G_GSIZE_FORMAT, begin);
  return FALSE;
}

static void
test_error_stops (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 1, 0);
  Meeting meeting = { TEST_GATE_INIT, 2, 0, 0 };
  g_autoptr (GError) error = NULL;

  /* The other one may be a few chunks ahead. */
  g_assert_false (q_task_pool_parallel_for (pool, 1000, 1, fail_first, &meeting, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (error->message, ==, "0");
  g_assert_cmpint (meeting.n_inside, <, 500);
  close_pool (pool);
}

static void
test_cancelled (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);

  for (gsize n = 10; n <= 100000; n *= 10)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Failing failing = { n / 2, FALSE, cancellable, 0 };
      g_autoptr (GError) error = NULL;

      g_assert_false (q_task_pool_parallel_for (pool, n, 1, fail_at, &failing, cancellable, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpint (failing.n_chunks, <, (int) n);
      g_clear_error (&error);

      failing.n_chunks = 0;
      g_assert_false (q_task_pool_parallel_for (pool, n, n, fail_at, &failing, cancellable, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpint (failing.n_chunks, ==, 0);
    }

  close_pool (pool);
}

static void
test_closed (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);
  Seen seen = { 10, 1, 0, NULL };
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_assert_false (q_task_pool_parallel_for (pool, 10, 1, see, &seen, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_assert_cmpint (seen.n_chunks, ==, 0);
  g_clear_error (&error);
  g_assert_false (q_task_pool_parallel_for (pool, 0, 1, see, &seen, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_assert_finalize_object (pool);
}

/* Inside of workers */

static gboolean
loop_worker (QTask *task G_GNUC_UNUSED,
             gpointer data,
             GError **error)
{
  QTaskPool *pool = data;
  const gsize n = 20000;
  g_autofree guint8 *array = g_malloc0 (n);
  Seen seen = { n, 1, 0, array };

  if (!q_task_pool_parallel_for (pool, n, 1, see, &seen, NULL, error))
    return FALSE;

  for (gsize i = 0; i < n; i++)
    g_assert_cmpuint (array[i], ==, 1);

  return TRUE;
}

static void
run_loop_workers (QTaskPool *pool,
                  guint n)
{
  g_autoptr (GPtrArray) tasks = g_ptr_array_new_with_free_func (g_object_unref);

  for (guint i = 0; i < n; i++)
    {
      QTask *task = q_task_new (NULL, NULL, NULL, NULL);

      g_ptr_array_add (tasks, task);
      g_assert_true (q_task_pool_push (pool, task, loop_worker, pool, NULL, NULL));
    }

  for (guint i = 0; i < n; i++)
    {
      g_assert_true (q_task_wait (tasks->pdata[i], NULL, NULL));
      g_assert_no_error (q_task_get_error (tasks->pdata[i]));
    }
}

static void
test_in_worker (void)
{
  QTaskPool *pool = q_task_pool_new ("one", 1, 0);

  run_loop_workers (pool, 5);
  close_pool (pool);

  pool = q_task_pool_new_serial ("serial");
  run_loop_workers (pool, 5);
  close_pool (pool);

  pool = q_task_pool_new ("three", 3, 0);
  run_loop_workers (pool, 20);
  close_pool (pool);

  /* The default pool */
  run_loop_workers (q_task_pool_get_default (), 20);
}

/* A loop in the chunks of a loop */
static gboolean
nest (gsize begin G_GNUC_UNUSED,
      gsize end G_GNUC_UNUSED,
      gpointer data,
      GError **error)
{
  return loop_worker (NULL, data, error);
}

static void
test_nested (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);

  for (int i = 0; i < 3; i++)
    g_assert_true (q_task_pool_parallel_for (pool, 10, 1, nest, pool, NULL, NULL));
  close_pool (pool);
}

/* In every thread of the loop: what waits for the task that runs it could never end. */
typedef struct
{
  QTaskPool *pool;
  QTask *task;    /* that runs the loop */
  QTask *awaited; /* ... or one that waits for it */
  TestGate gate;
  TestGate waits;
  int n_deadlocks;
} Ring;

static gboolean
wait_in_ring (gsize begin G_GNUC_UNUSED,
              gsize end G_GNUC_UNUSED,
              gpointer data,
              GError **error G_GNUC_UNUSED)
{
  Ring *ring = data;
  g_autoptr (GError) ring_error = NULL;

  test_gate_open (&ring->gate);
  test_gate_wait_for (&ring->gate, 2);

  if (!q_task_wait_until (ring->awaited, test_end_time (), NULL, &ring_error) &&
      g_error_matches (ring_error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK))
    g_atomic_int_inc (&ring->n_deadlocks);

  return TRUE;
}

static gboolean
ring_worker (QTask *task G_GNUC_UNUSED,
             gpointer data,
             GError **error)
{
  Ring *ring = data;

  if (ring->awaited != ring->task)
    test_gate_wait (&ring->waits);

  return q_task_pool_parallel_for (ring->pool, 2, 1, wait_in_ring, ring, NULL, error);
}

static gboolean
wait_for_ring_worker (QTask *task G_GNUC_UNUSED,
                      gpointer data,
                      GError **error)
{
  Ring *ring = data;

  test_gate_open (&ring->waits);
  return q_task_wait (ring->task, NULL, error);
}

static void
test_ring (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 4, 0);

  for (int is_long = 0; is_long < 2; is_long++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);
      g_autoptr (QTask) other = q_task_new (NULL, NULL, NULL, NULL);
      Ring ring = { pool, task, is_long ? other : task, TEST_GATE_INIT, TEST_GATE_INIT, 0 };

      if (is_long)
        test_pool_push (pool, other, wait_for_ring_worker, &ring, NULL);
      test_pool_push (pool, task, ring_worker, &ring, NULL);
      test_run_until (NULL, q_task_get_completed (task));
      if (is_long)
        {
          test_run_until (NULL, q_task_get_completed (other));
          /* Who closes the ring is told. */
          g_assert_cmpint (ring.n_deadlocks + (q_task_had_error (other) ? 2 : 0), >=, 2);
        }
      else
        {
          g_assert_cmpint (ring.n_deadlocks, ==, 2);
        }
      g_assert_no_error (q_task_get_error (task));
    }

  close_pool (pool);
}

/* The same in a sync function: until that returns, the worker of its task does not go on. */
static void
ring_sync_func (QTask *task,
                gpointer data)
{
  Ring *ring = data;
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_pool_parallel_for (ring->pool, 2, 1, wait_in_ring, ring, NULL, &error));
  g_assert_no_error (error);
  q_task_resume (task, FALSE);
}

static gboolean
sync_worker (QTask *task,
             gpointer data G_GNUC_UNUSED,
             GError **error)
{
  return q_task_sync (task, error);
}

static void
test_ring_in_sync (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  Ring ring = { pool, task, task, TEST_GATE_INIT, TEST_GATE_INIT, 0 };

  q_task_set_sync_func (task, ring_sync_func, &ring, NULL);
  test_pool_push (pool, task, sync_worker, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_no_error (q_task_get_error (task));
  g_assert_cmpint (ring.n_deadlocks, ==, 2);
  g_assert_finalize_object (task);
  close_pool (pool);
}

/* A loop whose threads wait for different tasks: it waits for all of them. */
typedef struct
{
  QTaskPool *pool;
  GThread *thread; /* that runs the loop */
  QTask *task;
  QTask *other;
  TestGate meet;
  TestGate goes_on;
  TestHold hold;
} Fork;

static gboolean
wait_in_fork (gsize begin G_GNUC_UNUSED,
              gsize end G_GNUC_UNUSED,
              gpointer data,
              GError **error)
{
  Fork *self = data;

  test_gate_open (&self->meet);
  test_gate_wait_for (&self->meet, 2);

  return q_task_wait_until (g_thread_self () == self->thread ? self->task : self->other,
                            test_end_time (), NULL, error);
}

static gboolean
fork_worker (QTask *task G_GNUC_UNUSED,
             gpointer data,
             GError **error)
{
  Fork *self = data;

  self->thread = g_thread_self ();

  return q_task_pool_parallel_for (self->pool, 2, 1, wait_in_fork, self, NULL, error);
}

typedef struct
{
  Fork *fork;
  QTask *awaited;
} WaitForFork;

static gboolean
wait_for_fork_worker (QTask *task G_GNUC_UNUSED,
                      gpointer data,
                      GError **error)
{
  WaitForFork *self = data;

  test_gate_wait (&self->fork->goes_on);

  return q_task_wait_until (self->awaited, test_end_time (), NULL, error);
}

static void
test_ring_of_many (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 4, 0);

  for (int in_caller = 0; in_caller < 2; in_caller++)
    {
      g_autoptr (QTask) loop = q_task_new (NULL, NULL, NULL, NULL);
      g_autoptr (QTask) held = q_task_new (NULL, NULL, NULL, NULL);
      g_autoptr (QTask) ring = q_task_new (NULL, NULL, NULL, NULL);
      Fork self = { .pool = pool, .meet = TEST_GATE_INIT, .goes_on = TEST_GATE_INIT, .hold = TEST_HOLD_INIT };
      WaitForFork wait = { &self, loop };

      self.task = in_caller ? ring : held;
      self.other = in_caller ? held : ring;
      test_pool_push (pool, held, test_hold_worker, &self.hold, NULL);
      test_pool_push (pool, ring, wait_for_fork_worker, &wait, NULL);
      test_pool_push (pool, loop, fork_worker, &self, NULL);

      /* Both threads of the loop wait. */
      test_poll_until (test_pool_stats (pool).parked == 2);
      test_gate_open (&self.goes_on);
      test_run_until (NULL, q_task_get_completed (ring));
      g_assert_error (q_task_get_error (ring), Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);

      test_gate_open (&self.hold.release);
      test_run_until (NULL, q_task_get_completed (loop));
      g_assert_no_error (q_task_get_error (loop));
      test_run_until (NULL, q_task_get_completed (held));
    }

  close_pool (pool);
}

/* The caller never waits for the queue: here nobody comes to help. */
static void
test_busy (void)
{
  QTaskPool *pool = q_task_pool_new ("one", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_pool_push (pool, task, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);
  for (int i = 0; i < 20; i++)
    {
      check_all_seen (pool, 100000, 1);
      assert_drained (pool);
    }
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_RUNNING);

  test_gate_open (&hold.release);
  g_assert_true (q_task_wait (task, NULL, NULL));
  g_assert_finalize_object (task);
  close_pool (pool);
}

/* Nor does a full queue stop it. */
static void
test_full (void)
{
  QTaskPool *pool = q_task_pool_new ("one", 1, 1);
  TestHold hold = TEST_HOLD_INIT;
  QTask *running = q_task_new (NULL, NULL, NULL, NULL);
  QTask *queued = q_task_new (NULL, NULL, NULL, NULL);
  Seen seen = { 100000, 1, 0, NULL };

  g_assert_true (q_task_pool_push (pool, running, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);
  g_assert_true (q_task_pool_push (pool, queued, test_empty_worker, NULL, NULL, NULL));
  for (int i = 0; i < 5; i++)
    g_assert_true (q_task_pool_parallel_for (pool, 100000, 1, see, &seen, NULL, NULL));
  g_assert_cmpint (seen.n_chunks, ==, 500000);

  test_gate_open (&hold.release);
  g_assert_true (q_task_wait (queued, NULL, NULL));
  g_assert_true (q_task_wait (running, NULL, NULL));
  g_assert_finalize_object (running);
  g_assert_finalize_object (queued);
  close_pool (pool);
}

/* A helper may still be in a chunk when the caller has none left. */
typedef struct
{
  GThread *caller;
  TestGate entered;
  int n_chunks;
} Late;

static gboolean
be_late (gsize begin G_GNUC_UNUSED,
         gsize end G_GNUC_UNUSED,
         gpointer data,
         GError **error G_GNUC_UNUSED)
{
  Late *late = data;

  if (g_thread_self () == late->caller)
    {
      test_gate_wait (&late->entered);
      g_usleep (100); /* or the next loop would be taken for a short one */
    }
  else
    {
      test_gate_open (&late->entered);
      g_usleep (20000);
    }

  g_atomic_int_inc (&late->n_chunks);

  return TRUE;
}

static void
test_waits_for_chunks (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 1, 0);

  for (int i = 0; i < 10; i++)
    {
      Late late = { g_thread_self (), TEST_GATE_INIT, 0 };

      g_assert_true (q_task_pool_parallel_for (pool, 3, 1, be_late, &late, NULL, NULL));
      g_assert_cmpint (g_atomic_int_get (&late.n_chunks), ==, 3);
      assert_drained (pool);
    }
  close_pool (pool);
}

/* In a thread that has no context, which no task comes back to. */
static void
loop_thread (gpointer data,
             gpointer user_data G_GNUC_UNUSED)
{
  for (int i = 0; i < 50; i++)
    check_all_seen (data, 5000, 1);
}

static void
test_no_owner (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 2, 0);

  test_in_thread ((GFunc) loop_thread, pool);
  g_assert_false (g_main_context_pending (NULL));
  close_pool (pool);
}

static void
test_storm (void)
{
  QTaskPool *pool = q_task_pool_new ("for", 3, 0);
  GThread *threads[4];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("loop", (GThreadFunc) loop_thread, pool);
  run_loop_workers (pool, 10);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
  close_pool (pool);
}

int
main (int argc,
      char **argv)
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/parallel-for/calls-for-every-index-once", test_every_index);
  g_test_add_func ("/parallel-for/counts-as-far-as-there-are-numbers", test_largest);
  g_test_add_func ("/parallel-for/of-a-pool-of-as-many-threads-as-there-are-numbers", test_most_threads);
  g_test_add_func ("/parallel-for/all-threads-of-the-pool-join", test_threads);
  g_test_add_func ("/parallel-for/short-loops-wake-nobody", test_short);
  g_test_add_func ("/parallel-for/loops-that-were-short-are-noticed", test_surprise);
  g_test_add_func ("/parallel-for/fails-as-its-function-does", test_error);
  g_test_add_func ("/parallel-for/first-error-stops-the-rest", test_error_stops);
  g_test_add_func ("/parallel-for/can-be-cancelled", test_cancelled);
  g_test_add_func ("/parallel-for/closed-pool-refuses", test_closed);
  g_test_add_func ("/parallel-for/works-in-a-worker", test_in_worker);
  g_test_add_func ("/parallel-for/works-in-itself", test_nested);
  g_test_add_func ("/parallel-for/waiting-for-who-runs-it-is-a-deadlock", test_ring);
  g_test_add_func ("/parallel-for/waiting-for-who-syncs-is-a-deadlock", test_ring_in_sync);
  g_test_add_func ("/parallel-for/waiting-for-who-runs-many-waits-is-a-deadlock", test_ring_of_many);
  g_test_add_func ("/parallel-for/does-not-wait-for-the-queue", test_busy);
  g_test_add_func ("/parallel-for/does-not-mind-a-full-queue", test_full);
  g_test_add_func ("/parallel-for/waits-for-what-others-have-begun", test_waits_for_chunks);
  g_test_add_func ("/parallel-for/needs-no-owner", test_no_owner);
  g_test_add_func ("/parallel-for/storm", test_storm);

  return g_test_run ();
}
