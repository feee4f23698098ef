/* test-faults.c: no threads to be had, and no descriptors left
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Guarantee 9: no abort on what the world does. The tests are processes of their
 * own, so that each begins without a thread of a pool.
 *
 * The pthread_create() of this program comes before that of the C library, also
 * for GLib, and fails when it is told to.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "test-util.h"

#if defined(__clang__) && defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
/* Those have a pthread_create() in the program already. */
#define NO_INTERPOSITION
#endif
#endif

#define SUBPROCESS_TIME_LIMIT (TEST_TIME_LIMIT * G_TIME_SPAN_SECOND)

/* How many of the next calls fail: 0 for none, -1 for all, -2 for every second */
static int n_failing;
static int n_failed;

/* Called once, in the thread that gets none, before it is told so */
static GCallback when_failing;

#ifndef NO_INTERPOSITION
static gboolean
thread_fails (void)
{
  static int n_calls;
  int n;

  do
    {
      n = g_atomic_int_get (&n_failing);
      if (n == 0)
        return FALSE;
      if (n == -1)
        break;
      if (n == -2)
        {
          if (g_atomic_int_add (&n_calls, 1) % 2 == 1)
            return FALSE;
          break;
        }
    }
  while (!g_atomic_int_compare_and_exchange (&n_failing, n, n - 1));

  g_atomic_int_inc (&n_failed);

  if (when_failing != NULL)
    g_steal_pointer (&when_failing) ();

  return TRUE;
}

int
pthread_create (pthread_t *thread,
                const pthread_attr_t *attributes,
                void *(*func) (void *),
                void *data)
{
  int (*next) (pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);

  if (thread_fails ())
    return EAGAIN;

  *(void **) &next = dlsym (RTLD_NEXT, "pthread_create");

  return next (thread, attributes, func, data);
}
#endif

static void
let_threads_fail (int n)
{
  g_atomic_int_set (&n_failed, 0);
  g_atomic_int_set (&n_failing, n);
}

static gpointer
nothing_thread (gpointer data)
{
  return NULL;
}

/* Whether what fails here also fails for GLib */
static gboolean
threads_can_fail (void)
{
  g_autoptr (GError) error = NULL;
  GThread *thread;

  let_threads_fail (1);
  thread = g_thread_try_new ("fails", nothing_thread, NULL, &error);
  let_threads_fail (0);

  if (thread == NULL)
    return TRUE;

  g_thread_join (thread);
  g_test_skip ("The creation of threads cannot be made to fail here");

  return FALSE;
}

/* Runs the test in a process of its own. TRUE in that process. */
static gboolean
in_subprocess (void)
{
  if (g_test_subprocess ())
    return TRUE;

  if (threads_can_fail ())
    {
      g_test_trap_subprocess (NULL, SUBPROCESS_TIME_LIMIT,
                              G_TEST_SUBPROCESS_INHERIT_STDOUT | G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
    }

  return FALSE;
}

static gboolean
stop_iterating_cb (gpointer flag)
{
  *(gboolean *) flag = TRUE;

  return G_SOURCE_REMOVE;
}

/* Iterates for a moment, since the fault may be reported later */
static void
iterate_for (guint milliseconds)
{
  gboolean is_over = FALSE;

  g_timeout_add (milliseconds, stop_iterating_cb, &is_over);
  while (!is_over)
    g_main_context_iteration (NULL, TRUE);
}

/* Either it is told, or it runs later; the callback comes once in any case. */
static void
assert_told_or_run (TestReport *report,
                    int n_ran)
{
  g_assert_cmpint (report->called, ==, 1);
  g_assert_true (report->thread == g_thread_self ());
  if (report->error != NULL)
    g_assert_cmpint (n_ran, ==, 0);
  else
    g_assert_cmpint (n_ran, ==, 1);
  g_test_message ("%s", report->error != NULL ? report->error->message : "It ran later");
}

static void
test_run_without_threads (gconstpointer for_good)
{
  TestReport report = TEST_REPORT_INIT;
  TestFate fates[2] = { TEST_FATE_INIT, TEST_FATE_INIT };
  int n_ran = 0;
  QTask *task;

  if (!in_subprocess ())
    return;

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_set_task_data (task, &fates[0], test_fate_notify);

  let_threads_fail (for_good ? -1 : 1);
  q_task_run_in_thread (task, test_count_worker, &n_ran, NULL);
  g_assert_cmpint (report.called, ==, 0);
  g_assert_cmpint (g_atomic_int_get (&n_failed), >=, 1);

  /* If threads come back, nobody has to push anything for it to run. */
  iterate_for (100);
  if (!report.called)
    let_threads_fail (0);
  test_run_until (NULL, report.called);
  assert_told_or_run (&report, g_atomic_int_get (&n_ran));
  test_report_clear (&report);
  test_finish (task);
  test_assert_destroyed_here (&fates[0]);

  /* And then all is as it was. */
  let_threads_fail (0);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_run_in_thread (task, test_count_worker, &n_ran, NULL);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_finish (task);
}

static void
test_push_without_threads (gconstpointer for_good)
{
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  g_autoptr (GError) error = NULL;
  QTaskPool *pool;
  int n_ran = 0;
  QTask *task;

  if (!in_subprocess ())
    return;

  pool = q_task_pool_new ("threadless", 3, 0);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_set_task_data (task, &fate, test_fate_notify);
  let_threads_fail (for_good ? -1 : 1);

  if (!q_task_pool_push (pool, task, test_count_worker, &n_ran, NULL, &error))
    {
      /* Told at once, and all is as it was */
      g_assert_nonnull (error);
      iterate_for (100);
      g_assert_cmpint (report.called, ==, 0);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);
      let_threads_fail (0);
      g_assert_true (q_task_pool_push (pool, task, test_count_worker, &n_ran, NULL, NULL));
    }

  iterate_for (100);
  if (!report.called)
    let_threads_fail (0);
  test_run_until (NULL, report.called);
  assert_told_or_run (&report, g_atomic_int_get (&n_ran));
  test_report_clear (&report);
  test_finish (task);
  test_assert_destroyed_here (&fate);
  let_threads_fail (0);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_object_unref (pool);
}

/* One that counted on the thread of another, which was about to be there, is told when there is
 * none after all.
 */
static QTaskPool *counted_on_pool;
static QTask *counting_task;
static int n_counting_ran;

static void
count_on_thread (void)
{
  g_assert_true (q_task_pool_push (counted_on_pool, counting_task, test_count_worker, &n_counting_ran,
                                   NULL, NULL));
}

static void
test_counted_on_thread (void)
{
  TestReport report = TEST_REPORT_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task;

  if (!in_subprocess ())
    return;

  counted_on_pool = q_task_pool_new ("threadless", 3, 0);
  counting_task = q_task_new (NULL, test_report_cb, &report, NULL);
  task = q_task_new (NULL, NULL, NULL, NULL);
  let_threads_fail (-1);
  when_failing = count_on_thread;
  g_assert_false (q_task_pool_push (counted_on_pool, task, test_count_worker, &n_counting_ran, NULL,
                                    &error));
  g_assert_nonnull (error);
  g_assert_null (when_failing);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);
  g_assert_finalize_object (task);

  test_run_until (NULL, report.called);
  g_assert_true (g_error_matches (report.error, error->domain, error->code));
  test_report_clear (&report);
  test_finish (counting_task);
  g_assert_cmpint (n_counting_ran, ==, 0);

  let_threads_fail (0);
  g_assert_true (q_task_pool_close (counted_on_pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_object_unref (counted_on_pool);
}

/* The owner waits for it at once. */
static void
test_wait_without_threads (gconstpointer for_good)
{
  TestReport report = TEST_REPORT_INIT;
  g_autoptr (GError) error = NULL;
  int n_ran = 0;
  QTask *task;

  if (!in_subprocess ())
    return;

  let_threads_fail (for_good ? -1 : 2);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_run_in_thread (task, test_count_worker, &n_ran, NULL);

  if (!q_task_wait_until (task, g_get_monotonic_time () + 10 * G_TIME_SPAN_SECOND, NULL, &error))
    {
      /* With threads for no one, ever, that is what a limit is for. */
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_true (for_good != NULL);
      let_threads_fail (0);
      test_run_until (NULL, report.called);
    }

  assert_told_or_run (&report, g_atomic_int_get (&n_ran));
  test_report_clear (&report);
  test_finish (task);
}

/* One thread is there, and does it all. */
static void
test_one_thread_only (void)
{
  TestReport reports[100];
  QTask *tasks[G_N_ELEMENTS (reports)];
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTaskPool *pool;
  int n_ran = 0;
  QTask *held;

  if (!in_subprocess ())
    return;

  pool = q_task_pool_new ("one", 4, 0);
  held = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (pool, held, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);

  let_threads_fail (-1);
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    {
      gboolean pushed;

      reports[i] = (TestReport) TEST_REPORT_INIT;
      tasks[i] = q_task_new (NULL, test_report_cb, &reports[i], NULL);
      pushed = q_task_pool_push (pool, tasks[i], test_count_worker, &n_ran, NULL, &error);
      g_assert_no_error (error);
      g_assert_true (pushed);
    }

  test_gate_open (&hold.release);
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    {
      test_run_until (NULL, reports[i].called);
      g_assert_no_error (reports[i].error);
      test_finish (tasks[i]);
    }
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, G_N_ELEMENTS (tasks));
  test_finish (held);

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
  g_object_unref (pool);
}

/* A worker that waits would have a thread in its place, and there is none: what is
 * queued runs later.
 */
static void
test_no_thread_to_compensate (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestReport reports[3] = { TEST_REPORT_INIT, TEST_REPORT_INIT, TEST_REPORT_INIT };
  QTaskPoolStats stats = { 0 };
  QTaskPool *pool, *other;
  QTask *held, *tasks[3];
  int n_ran = 0;

  if (!in_subprocess ())
    return;

  pool = q_task_pool_new ("one", 1, 0);
  other = q_task_pool_new ("other", 1, 0);
  held = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (other, held, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);

  /* A thread of its own, before there are no more */
  tasks[0] = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (pool, tasks[0], test_empty_worker, NULL, NULL, NULL));
  for (int i = 0; i < 3; i++)
    {
      if (i == 0)
        test_finish (tasks[0]);
      tasks[i] = q_task_new (NULL, test_report_cb, &reports[i], NULL);
      g_assert_true (q_task_pool_push (pool, tasks[i],
                                       i == 0 ? test_wait_worker : test_count_worker,
                                       i == 0 ? (gpointer) held : (gpointer) &n_ran,
                                       NULL, NULL));
      if (i == 0)
        {
          do
            q_task_pool_get_stats (pool, &stats);
          while (stats.running < 1);
          let_threads_fail (-1);
        }
    }

  test_poll_until ((q_task_pool_get_stats (pool, &stats), stats.parked == 1));
  test_gate_open (&hold.release);
  for (int i = 0; i < 3; i++)
    {
      test_run_until (NULL, reports[i].called);
      g_assert_no_error (reports[i].error);
      test_finish (tasks[i]);
    }
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 2);
  test_finish (held);
  g_object_unref (pool);
  g_object_unref (other);
}

/* The same for a worker that waits for the last chunk of a loop, in which what is queued behind
 * it is waited for: when threads come back, it gets one.
 */
typedef struct
{
  QTaskPool *helpers;
  QTask *queued;
  GThread *caller;
  TestGate meet;
  TestGate pushed;
} Loop;

static gboolean
loop_chunk (gsize begin,
            gsize end,
            gpointer data,
            GError **error)
{
  Loop *self = data;

  test_gate_open (&self->meet);
  test_gate_wait_for (&self->meet, 2);

  return g_thread_self () == self->caller || q_task_wait (self->queued, NULL, error);
}

static gboolean
loop_worker (QTask *task,
             gpointer data,
             GError **error)
{
  Loop *self = data;

  self->caller = g_thread_self ();
  test_gate_wait (&self->pushed);

  return q_task_pool_parallel_for (self->helpers, 2, 1, loop_chunk, self, NULL, error);
}

static void
test_no_thread_beside_loop (void)
{
  Loop self = { .meet = TEST_GATE_INIT, .pushed = TEST_GATE_INIT };
  QTaskPoolStats stats = { 0 };
  QTaskPool *pool;
  QTask *task;
  int n_ran = 0;

  if (!in_subprocess ())
    return;

  /* Each has its thread before there are no more. */
  pool = q_task_pool_new ("one", 1, 0);
  self.helpers = q_task_pool_new ("helpers", 1, 0);
  task = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (self.helpers, task, test_empty_worker, NULL, NULL, NULL));
  test_finish (task);

  task = q_task_new (NULL, NULL, NULL, NULL);
  self.queued = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (pool, task, loop_worker, &self, NULL, NULL));
  test_poll_until ((q_task_pool_get_stats (pool, &stats), stats.running == 1));
  g_assert_true (q_task_pool_push (pool, self.queued, test_count_worker, &n_ran, NULL, NULL));
  let_threads_fail (-1);
  test_gate_open (&self.pushed);

  test_poll_until ((q_task_pool_get_stats (pool, &stats), stats.parked == 1));
  test_poll_until (g_atomic_int_get (&n_failed) > 0);
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 0);
  let_threads_fail (0);

  test_run_until (NULL, q_task_get_completed (task) && q_task_get_completed (self.queued));
  g_assert_no_error (q_task_get_error (task));
  test_finish (self.queued);
  test_finish (task);
  g_object_unref (pool);
  g_object_unref (self.helpers);
}

/* Deeper than one thread goes, and no second one */
typedef struct
{
  QTaskPool *pool;
  int n_left;
} Chain;

static gboolean
chain_worker (QTask *task,
              gpointer data,
              GError **error)
{
  Chain *chain = data;
  g_autoptr (QTask) next = NULL;

  if (g_atomic_int_add (&chain->n_left, -1) == 0)
    return TRUE;

  next = q_task_new (NULL, NULL, NULL, NULL);
  if (!q_task_pool_push (chain->pool, next, chain_worker, chain, NULL, error) ||
      !q_task_wait (next, NULL, error))
    return FALSE;

  return !q_task_propagate_error (next, error);
}

static void
test_deep_without_threads (gconstpointer depth)
{
  TestReport report = TEST_REPORT_INIT;
  QTaskPool *pool;
  Chain chain;
  QTask *task;

  if (!in_subprocess ())
    return;

  pool = q_task_pool_new ("chain", 1, 0);
  chain = (Chain){ pool, GPOINTER_TO_INT (depth) };

  task = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
  test_finish (task);

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  g_assert_true (q_task_pool_push (pool, task, chain_worker, &chain, NULL, NULL));

  /* It may have begun, or not: with the one thread that is there. */
  let_threads_fail (-1);
  iterate_for (300);

  /* Up to sixteen it needs none. Else it is told or waits for better times. */
  if (GPOINTER_TO_INT (depth) < 16)
    g_assert_cmpint (report.called, ==, 1);
  g_test_message ("%s", report.called ? report.error ? report.error->message : "success" : "later");
  let_threads_fail (0);
  test_run_until (NULL, report.called);
  if (report.error != NULL)
    g_assert_true (report.error->domain == Q_TASK_ERROR || report.error->domain == G_THREAD_ERROR);
  test_report_clear (&report);
  test_finish (task);
  g_object_unref (pool);
}

/* The default pool cannot grow. */
static void
test_default_cannot_grow (void)
{
  enum
  {
    N_TASKS = 14
  };
  TestHold hold = TEST_HOLD_INIT;
  TestReport reports[N_TASKS];
  QTask *tasks[N_TASKS];

  if (!in_subprocess ())
    return;

  for (int i = 0; i < N_TASKS; i++)
    {
      reports[i] = (TestReport) TEST_REPORT_INIT;
      tasks[i] = q_task_new (NULL, test_report_cb, &reports[i], NULL);
      q_task_run_in_thread (tasks[i], test_hold_worker, &hold, NULL);
      if (i == 9)
        {
          test_gate_wait_for (&hold.entered, 10);
          let_threads_fail (-1);
        }
    }

  /* It tries, and tries again. */
  test_poll_until (g_atomic_int_get (&n_failed) >= 1 || test_gate_get_count (&hold.entered) > 10);
  g_assert_cmpint (test_gate_get_count (&hold.entered), ==, 10);

  test_gate_open (&hold.release);
  for (int i = 0; i < N_TASKS; i++)
    {
      test_run_until (NULL, reports[i].called);
      g_assert_no_error (reports[i].error);
      test_finish (tasks[i]);
    }
}

/* A pool that is closed, or dropped, where none of its tasks got a thread */
static void
test_end_without_threads (gconstpointer data)
{
  enum
  {
    N_TASKS = 20
  };
  int how = GPOINTER_TO_INT (data);
  TestFate fate = TEST_FATE_INIT;
  TestReport reports[N_TASKS];
  QTask *tasks[N_TASKS];
  gboolean pushed[N_TASKS];
  QTaskPool *pool;
  int n_ran = 0;

  if (!in_subprocess ())
    return;

  pool = q_task_pool_new ("threadless", 4, 0);
  q_task_pool_set_thread_funcs (pool, NULL, NULL, &fate, test_fate_notify);
  let_threads_fail (-1);
  for (int i = 0; i < N_TASKS; i++)
    {
      g_autoptr (GError) error = NULL;

      reports[i] = (TestReport) TEST_REPORT_INIT;
      tasks[i] = q_task_new (NULL, test_report_cb, &reports[i], NULL);
      pushed[i] = q_task_pool_push (pool, tasks[i], test_count_worker, &n_ran, NULL, &error);
      g_assert_true (pushed[i] == (error == NULL));
      if (!pushed[i])
        q_task_complete (tasks[i]);
    }

  if (how == 0)
    {
      g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, NULL));
    }
  else if (how == 1)
    {
      let_threads_fail (0);
      g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
    }

  g_object_unref (pool);
  iterate_for (100);
  let_threads_fail (0);
  for (int i = 0; i < N_TASKS; i++)
    {
      test_run_until (NULL, reports[i].called);
      test_report_clear (&reports[i]);
      test_finish (tasks[i]);
    }

  /* Nothing of the pool is left behind. */
  test_run_until (NULL, test_fate_get_count (&fate) > 0);
  test_assert_destroyed_here (&fate);
}

/* Every second thread fails, and nobody is forgotten. */
static void
test_threads_fail_now_and_then (void)
{
  enum
  {
    N_POOLS = 40,
    N_TASKS = 30
  };
  int n_called = 0, n_ran = 0, n_failures = 0;

  if (!in_subprocess ())
    return;

  let_threads_fail (-2);
  for (int i = 0; i < N_POOLS; i++)
    {
      QTaskPool *pool = i % 3 == 0 ? q_task_pool_new_serial ("now and then")
                                   : q_task_pool_new ("now and then", 5, 0);
      TestReport reports[N_TASKS];
      QTask *tasks[N_TASKS];

      for (int j = 0; j < N_TASKS; j++)
        {
          g_autoptr (GError) error = NULL;

          reports[j] = (TestReport) TEST_REPORT_INIT;
          tasks[j] = q_task_new (NULL, test_report_cb, &reports[j], NULL);
          if (!q_task_pool_push (pool, tasks[j], test_count_worker, &n_ran, NULL, &error))
            {
              g_assert_nonnull (error);
              q_task_return_error (tasks[j], g_steal_pointer (&error));
            }
        }

      g_object_unref (pool);
      for (int j = 0; j < N_TASKS; j++)
        {
          test_run_until (NULL, reports[j].called);
          n_called++;
          if (reports[j].error != NULL)
            n_failures++;
          test_report_clear (&reports[j]);
          test_finish (tasks[j]);
        }
    }

  g_test_message ("%d threads failed, and %d of %d tasks", g_atomic_int_get (&n_failed), n_failures, n_called);
  g_assert_cmpint (g_atomic_int_get (&n_ran) + n_failures, ==, n_called);
}

/* Descriptors */

static gboolean
diverse_worker (QTask *task,
                gpointer count,
                GError **error)
{
  GCancellable *cancellable = q_task_get_stop_cancellable (task);

  q_task_set_progress (task, 0.5, "Half of it");
  g_atomic_int_inc ((int *) count);

  return !g_cancellable_set_error_if_cancelled (cancellable, error);
}

static gboolean
nested_worker (QTask *task,
               gpointer pool,
               GError **error)
{
  g_autoptr (QTask) next = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();

  if (!q_task_pool_push (pool, next, test_empty_worker, NULL, NULL, error))
    return FALSE;

  return q_task_wait (next, cancellable, error);
}

static void
count_cb (QTask *task,
          gpointer count)
{
  (*(int *) count)++;
}

static void
waited_cb (GObject *source,
           GAsyncResult *result,
           gpointer count)
{
  g_autoptr (GError) error = NULL;

  q_task_wait_finish (Q_TASK (source), result, &error);
  g_assert_no_error (error);
  (*(int *) count)++;
}

static void
test_no_descriptors (void)
{
  enum
  {
    N_TASKS = 1000
  };
  g_autoptr (GError) error = NULL;
  QTaskPool *pool, *serial;
  int n_called = 0, n_waited = 0, n_ran = 0;
  QTask *task;

  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, SUBPROCESS_TIME_LIMIT,
                              G_TEST_SUBPROCESS_INHERIT_STDOUT | G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }

  /* A main loop has a descriptor; there is one before they are gone. */
  g_main_context_iteration (NULL, FALSE);
  test_take_descriptors ();

  pool = q_task_pool_new ("many", 6, 0);
  serial = q_task_pool_new_serial ("serial");
  for (int i = 0; i < N_TASKS; i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      g_autoptr (QTask) each = NULL;

      each = g_object_new (Q_TYPE_TASK, "cancellable", cancellable, NULL);
      q_task_set_func (each, count_cb, &n_called, NULL);
      q_task_set_name (each, "without descriptors");

      switch (i % 7)
        {
        case 0:
          q_task_set_timeout (each, G_TIME_SPAN_HOUR);
          break;
        case 1:
          q_task_set_return_on_cancel (each, TRUE);
          break;
        default:
          break;
        }

      switch (i % 4)
        {
        case 0:
          q_task_run_in_thread (each, diverse_worker, &n_ran, NULL);
          break;
        case 1:
          g_assert_true (q_task_pool_push (pool, each, nested_worker, pool, NULL, NULL));
          break;
        case 2:
          g_assert_true (q_task_pool_push (serial, each, diverse_worker, &n_ran, NULL, NULL));
          break;
        default:
          g_assert_true (q_task_pool_push (pool, each, diverse_worker, &n_ran, NULL, NULL));
        }

      if (i % 5 == 0)
        g_cancellable_cancel (cancellable);
      if (i % 11 == 0)
        q_task_wait_async (each, NULL, waited_cb, &n_waited);
      if (i % 13 == 0)
        {
          g_assert_true (q_task_wait (each, cancellable, &error) || g_cancellable_is_cancelled (cancellable));
          g_clear_error (&error);
        }
    }

  test_run_until (NULL, n_called == N_TASKS && n_waited == (N_TASKS + 10) / 11);

  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_run_in_thread_sync (task, test_count_worker, &n_ran, NULL);
  g_assert_finalize_object (task);

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_pool_close (serial, Q_TASK_POOL_CLOSE_STOP, NULL, &error));
  g_assert_no_error (error);
  g_object_unref (pool);
  g_object_unref (serial);

  /* They were gone all the time. */
  g_assert_cmpint (open ("/dev/null", O_RDONLY | O_CLOEXEC), ==, -1);
  test_give_descriptors_back ();
}

/* The same for a worker that waits for a pool to be drained, which takes a task that is
 * queued behind it: once there is a thread again, that runs.
 */
typedef struct
{
  TestHold hold;
  QTaskPool *closed;
} Closer;

static gboolean
close_worker (QTask *task,
              gpointer data,
              GError **error)
{
  Closer *closer = data;

  test_gate_open (&closer->hold.entered);
  test_gate_wait (&closer->hold.release);

  return q_task_pool_close (closer->closed, Q_TASK_POOL_CLOSE_DRAIN, NULL, error);
}

static gboolean
open_worker (QTask *task,
             gpointer gate,
             GError **error)
{
  test_gate_open (gate);

  return TRUE;
}

static void
test_no_thread_while_closing (void)
{
  Closer closer = { TEST_HOLD_INIT, NULL };
  TestHold hold = TEST_HOLD_INIT;
  TestReport report = TEST_REPORT_INIT;
  QTaskPool *pool;
  QTask *held, *closing, *opening;

  if (!in_subprocess ())
    return;

  pool = q_task_pool_new ("one", 1, 0);
  closer.closed = q_task_pool_new ("closed", 1, 0);
  held = q_task_new (NULL, NULL, NULL, NULL);
  closing = q_task_new (NULL, test_report_cb, &report, NULL);
  opening = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (closer.closed, held, test_hold_worker, &hold, NULL, NULL));
  g_assert_true (q_task_pool_push (pool, closing, close_worker, &closer, NULL, NULL));
  test_gate_wait (&hold.entered);
  test_gate_wait (&closer.hold.entered);

  let_threads_fail (-1);
  g_assert_true (q_task_pool_push (pool, opening, open_worker, &hold.release, NULL, NULL));
  test_gate_open (&closer.hold.release);
  test_poll_until (g_atomic_int_get (&n_failed) > 0);
  g_assert_cmpint (test_gate_get_count (&hold.release), ==, 0);

  let_threads_fail (0);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_finish (opening);
  test_finish (closing);
  test_finish (held);
  g_object_unref (closer.closed);
  g_object_unref (pool);
}

/* A thread that loses its processor inside of g_object_unref(): before GLib 2.78, that thaws
 * the notifications of an object it has dropped its reference to.
 */

#if !defined(NO_INTERPOSITION) && !defined(__SANITIZE_THREAD__)

#define TEST_TYPE_SLOW_TASK (test_slow_task_get_type ())
G_DECLARE_FINAL_TYPE (TestSlowTask, test_slow_task, TEST, SLOW_TASK, QTask)

struct _TestSlowTask
{
  QTask parent_instance;
};

G_DEFINE_FINAL_TYPE (TestSlowTask, test_slow_task, Q_TYPE_TASK)

/* In the slow thread: the task that it has disposed of and is about to drop */
static _Thread_local gboolean is_slow;
static _Thread_local GObject *dropping;

static TestGate has_dropped;

static void
test_slow_task_dispose (GObject *object)
{
  G_OBJECT_CLASS (test_slow_task_parent_class)->dispose (object);
  if (is_slow)
    dropping = object;
}

static void
test_slow_task_class_init (TestSlowTaskClass *klass)
{
  G_OBJECT_CLASS (klass)->dispose = test_slow_task_dispose;
}

static void
test_slow_task_init (TestSlowTask *self)
{
}

void
g_mutex_lock (GMutex *mutex)
{
  static void (*next) (GMutex *);

  if (next == NULL)
    *(void **) &next = dlsym (RTLD_NEXT, "g_mutex_lock");

  if (dropping != NULL && g_atomic_int_get ((int *) &dropping->ref_count) == 1)
    {
      dropping = NULL;
      test_gate_open (&has_dropped);
      g_usleep (500 * G_TIME_SPAN_MILLISECOND);
    }

  next (mutex);
}

/* Returns when it was out of there. */
static gpointer
drop_slowly_thread (gpointer task)
{
  int serial;

  is_slow = TRUE;
  g_object_unref (task);
  serial = test_next_serial ();
  test_gate_open (&has_dropped);

  return GINT_TO_POINTER (serial);
}

static void
test_context_goes_while_thread_is_slow (void)
{
  GMainContext *context = g_main_context_new ();
  TestFate fate = TEST_FATE_INIT;
  GThread *thread;
  QTask *task;
  int serial;

  has_dropped = (TestGate) TEST_GATE_INIT;
  g_main_context_push_thread_default (context);
  task = g_object_new (TEST_TYPE_SLOW_TASK, NULL);
  q_task_set_task_data (task, &fate, test_fate_notify);
  g_main_context_pop_thread_default (context);

  thread = g_thread_new ("slow", drop_slowly_thread, task);
  test_gate_wait (&has_dropped);
  g_main_context_unref (context);
  serial = GPOINTER_TO_INT (g_thread_join (thread));
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
  g_assert_cmpint (test_fate_get_serial (&fate), >, serial);
}

#endif

#define G9 "/guarantee/9-no-abort-on-what-the-world-does"

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_data_func (G9 "/no-threads/run", GINT_TO_POINTER (FALSE), test_run_without_threads);
  g_test_add_data_func (G9 "/no-threads/run-for-good", GINT_TO_POINTER (TRUE), test_run_without_threads);
  g_test_add_data_func (G9 "/no-threads/push", GINT_TO_POINTER (FALSE), test_push_without_threads);
  g_test_add_data_func (G9 "/no-threads/push-for-good", GINT_TO_POINTER (TRUE), test_push_without_threads);
  g_test_add_data_func (G9 "/no-threads/wait", GINT_TO_POINTER (FALSE), test_wait_without_threads);
  g_test_add_data_func (G9 "/no-threads/wait-for-good", GINT_TO_POINTER (TRUE), test_wait_without_threads);
  g_test_add_func (G9 "/no-threads/one-does-it-all", test_one_thread_only);
  g_test_add_func (G9 "/no-threads/none-to-compensate", test_no_thread_to_compensate);
  g_test_add_func (G9 "/no-threads/none-beside-a-loop", test_no_thread_beside_loop);
  g_test_add_func (G9 "/no-threads/none-while-closing", test_no_thread_while_closing);
  g_test_add_data_func (G9 "/no-threads/ten-deep", GINT_TO_POINTER (10), test_deep_without_threads);
  g_test_add_data_func (G9 "/no-threads/forty-deep", GINT_TO_POINTER (40), test_deep_without_threads);
  g_test_add_func (G9 "/no-threads/default-pool-cannot-grow", test_default_cannot_grow);
  g_test_add_data_func (G9 "/no-threads/pool-stopped", GINT_TO_POINTER (0), test_end_without_threads);
  g_test_add_data_func (G9 "/no-threads/pool-drained", GINT_TO_POINTER (1), test_end_without_threads);
  g_test_add_data_func (G9 "/no-threads/pool-dropped", GINT_TO_POINTER (2), test_end_without_threads);
  g_test_add_func (G9 "/no-threads/counted-on-anothers", test_counted_on_thread);
  g_test_add_func (G9 "/no-threads/now-and-then", test_threads_fail_now_and_then);
  g_test_add_func (G9 "/no-descriptors", test_no_descriptors);
#if !defined(NO_INTERPOSITION) && !defined(__SANITIZE_THREAD__)
  g_test_add_func (G9 "/no-processor", test_context_goes_while_thread_is_slow);
#endif

  return g_test_run ();
}
