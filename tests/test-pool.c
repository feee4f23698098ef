/* test-pool.c: pools of threads
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The main thread owns the default context and iterates it by hand. Workers
 * are held by gates where the order of things matters.
 */

#include <string.h>
#include <sys/prctl.h>

#include "test-util.h"

#define N_MANY 10000

static guint
many (void)
{
  return test_is_slow () ? N_MANY / 20 : N_MANY;
}

/* What a callback counts, and what a destroy notify counts */
static void
count_cb (QTask *task,
          gpointer count)
{
  (*(int *) count)++;
}

static void
count_destroy (gpointer count)
{
  g_atomic_int_inc ((int *) count);
}

/* RunLog: which workers ran, in which order, and how many of them at once */
typedef struct
{
  pthread_mutex_t mutex;
  int n_ran;
  int n_now;
  int n_now_most;
  int numbers[N_MANY];
} RunLog;

typedef struct
{
  RunLog *log;
  int number;
} LogItem;

static RunLog *
run_log_new (void)
{
  RunLog *log = g_new0 (RunLog, 1);

  pthread_mutex_init (&log->mutex, NULL);

  return log;
}

static void
run_log_free (RunLog *log)
{
  pthread_mutex_destroy (&log->mutex);
  g_free (log);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (RunLog, run_log_free)

static LogItem *
log_item_new (RunLog *log,
              int number)
{
  LogItem *item = g_new (LogItem, 1);

  item->log = log;
  item->number = number;

  return item;
}

static gboolean
log_worker (QTask *task,
            gpointer opaque,
            GError **error)
{
  LogItem *item = opaque;
  RunLog *log = item->log;

  pthread_mutex_lock (&log->mutex);
  log->n_now++;
  log->n_now_most = MAX (log->n_now_most, log->n_now);
  log->numbers[log->n_ran++] = item->number;
  pthread_mutex_unlock (&log->mutex);

  /* Somebody else may come meanwhile, if somebody else may. */
  g_thread_yield ();

  pthread_mutex_lock (&log->mutex);
  log->n_now--;
  pthread_mutex_unlock (&log->mutex);

  return TRUE;
}

static int
run_log_n_ran (RunLog *log)
{
  int n_ran;

  pthread_mutex_lock (&log->mutex);
  n_ran = log->n_ran;
  pthread_mutex_unlock (&log->mutex);

  return n_ran;
}

/* A task that logs @number, with @priority; @n_called counts its callback */
static void
push_logged (QTaskPool *pool,
             RunLog *log,
             int number,
             int priority,
             int *n_called)
{
  g_autoptr (QTask) task = q_task_new (NULL, count_cb, n_called, NULL);
  g_autoptr (GError) error = NULL;
  gboolean pushed;

  q_task_set_priority (task, priority);
  pushed = q_task_pool_push (pool, task, log_worker, log_item_new (log, number), g_free, &error);
  g_assert_no_error (error);
  g_assert_true (pushed);
}

/* A worker that runs until it is asked to stop, and then throws; its opaque is
 * a gate that it opens when it runs.
 */
static void
open_gate_cb (GCancellable *cancellable,
              gpointer gate)
{
  test_gate_open (gate);
}

static gboolean
until_stopped_worker (QTask *task,
                      gpointer entered,
                      GError **error)
{
  GCancellable *cancellable = q_task_get_stop_cancellable (task);
  TestGate stop = TEST_GATE_INIT;
  gulong id;

  test_gate_open (entered);

  id = g_cancellable_connect (cancellable, G_CALLBACK (open_gate_cb), &stop, NULL);
  test_gate_wait (&stop);
  g_cancellable_disconnect (cancellable, id);

  return !g_cancellable_set_error_if_cancelled (cancellable, error);
}

static gboolean
failing_worker (QTask *task,
                gpointer opaque,
                GError **error)
{
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");

  return FALSE;
}

/* What a GAsyncReadyCallback of a pool saw */
typedef struct
{
  int called;
  GThread *thread;
  gboolean result;
  GError *error;
} AsyncReport;

static void
space_cb (GObject *source,
          GAsyncResult *result,
          gpointer data)
{
  AsyncReport *report = data;

  report->called++;
  report->thread = g_thread_self ();
  report->result = q_task_pool_wait_for_space_finish (Q_TASK_POOL (source), result, &report->error);
}

static void
close_cb (GObject *source,
          GAsyncResult *result,
          gpointer data)
{
  AsyncReport *report = data;

  report->called++;
  report->thread = g_thread_self ();
  report->result = q_task_pool_close_finish (Q_TASK_POOL (source), result, &report->error);
}

/* Making and looking */

static void
test_new (void)
{
  QTaskPool *pool = q_task_pool_new ("grinder", 3, 17);
  QTaskPoolStats stats = { 0 };
  g_autoptr (GPtrArray) tasks = q_task_pool_list_tasks (pool);

  g_assert_cmpstr (q_task_pool_get_name (pool), ==, "grinder");
  g_assert_cmpuint (q_task_pool_get_max_threads (pool), ==, 3);
  g_assert_cmpuint (q_task_pool_get_max_queued (pool), ==, 17);
  g_assert_false (q_task_pool_is_serial (pool));
  g_assert_false (q_task_pool_get_timing (pool));
  g_assert_false (q_task_pool_is_closed (pool));
  g_assert_cmpuint (tasks->len, ==, 0);

  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.threads, ==, 0);
  g_assert_cmpuint (stats.running, ==, 0);
  g_assert_cmpuint (stats.queued, ==, 0);
  g_assert_cmpuint (stats.parked, ==, 0);
  g_assert_cmpuint (stats.finished, ==, 0);
  g_assert_cmpuint (stats.failed, ==, 0);
  g_assert_cmpuint (stats.stopped, ==, 0);

  g_assert_finalize_object (pool);

  pool = q_task_pool_new_serial ("one by one");
  g_assert_true (q_task_pool_is_serial (pool));
  g_assert_cmpuint (q_task_pool_get_max_threads (pool), ==, 1);
  g_assert_finalize_object (pool);
}

static void
test_run (void)
{
  QTaskPool *pool = q_task_pool_new ("run", 2, 0);
  TestReport report = TEST_REPORT_INIT;
  TestFate opaque_fate = TEST_FATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task;

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  g_assert_true (q_task_pool_push (pool, task, test_empty_worker, &opaque_fate, test_fate_notify, &error));
  g_assert_no_error (error);

  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  g_assert_true (report.thread == g_thread_self ());
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_FINISHED);
  test_assert_destroyed_here (&opaque_fate);
  test_finish (task);

  test_pool_drop (pool);
}

/* Nobody else needs to hold a pushed task. */
static void
test_keeps_its_tasks (void)
{
  QTaskPool *pool = q_task_pool_new ("keeps", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0;
  QTask *held;

  held = test_pool_push_hold (pool, &hold);

  for (int i = 0; i < 10; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

      g_assert_true (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
    }

  test_release (held, &hold);
  test_run_until (NULL, n_called == 10);
  test_pool_drop (pool);
}

static gboolean
push_more_worker (QTask *task,
                  gpointer pool,
                  GError **error)
{
  for (int i = 0; i < 10; i++)
    {
      g_autoptr (QTask) more = q_task_new (NULL, count_cb, q_task_get_task_data (task), NULL);

      if (!q_task_pool_push (pool, more, test_empty_worker, NULL, NULL, error))
        return FALSE;
    }

  return TRUE;
}

static void
test_push_in_worker (void)
{
  QTaskPool *pool = q_task_pool_new ("pushes", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  int n_called = 0;
  QTask *task;

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_set_task_data (task, &n_called, NULL);
  g_assert_true (q_task_pool_push (pool, task, push_more_worker, pool, NULL, NULL));

  test_run_until (NULL, n_called == 10);
  g_assert_cmpint (report.called, ==, 1);
  g_assert_no_error (report.error);
  test_finish (task);
  test_pool_drop (pool);
}

static void
test_second_push (void)
{
  QTaskPool *pool = q_task_pool_new ("first", 1, 0);
  QTaskPool *other = q_task_pool_new ("second", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  TestFate fate = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  g_assert_true (q_task_pool_push (pool, task, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);

  for (int i = 0; i < 3; i++)
    {
      g_autoptr (GError) error = NULL;

      /* While it runs, in the same pool and in another one, and afterwards */
      if (i == 2)
        {
          test_gate_open (&hold.release);
          test_run_until (NULL, report.called);
        }

      g_assert_false (q_task_pool_push (i == 0 ? pool : other, task, test_empty_worker,
                                        &fate, test_fate_notify, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_PENDING);
      test_assert_alive (&fate);
    }

  g_assert_cmpint (report.called, ==, 1);
  g_assert_no_error (report.error);
  g_assert_cmpint (test_gate_get_count (&hold.entered), ==, 1);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_FINISHED);
  test_finish (task);
  test_pool_drop (pool);
  test_pool_drop (other);
}

static void
test_push_cancelled (void)
{
  QTaskPool *pool = q_task_pool_new ("cancelled", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);
  QTask *held;

  held = test_pool_push_hold (pool, &hold);

  q_task_cancel (task);
  q_task_set_task_data (task, &hold, NULL);
  g_assert_true (q_task_pool_push (pool, task, test_hold_worker, &fate, test_fate_notify, &error));
  g_assert_no_error (error);
  g_assert_cmpint (report.called, ==, 0);

  /* The one thread is still held. */
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_assert_destroyed_here (&fate);
  g_assert_cmpint (test_gate_get_count (&hold.entered), ==, 1);
  test_report_clear (&report);

  test_release (held, &hold);
  test_finish (task);
  test_pool_drop (pool);
}

/* A subclass that has a run function of its own */
#define TEST_TYPE_RUNNER (test_runner_get_type ())
G_DECLARE_FINAL_TYPE (TestRunner, test_runner, TEST, RUNNER, QTask)

struct _TestRunner
{
  QTask parent_instance;
};

G_DEFINE_FINAL_TYPE (TestRunner, test_runner, Q_TYPE_TASK)

static gboolean
test_runner_run (QTask *task,
                 GError **error)
{
  q_task_set_result_int (task, 42);

  return TRUE;
}

static void
test_runner_class_init (TestRunnerClass *klass)
{
  Q_TASK_CLASS (klass)->run = test_runner_run;
}

static void
test_runner_init (TestRunner *self)
{
}

static void
test_push_subclass (void)
{
  QTaskPool *pool = q_task_pool_new ("subclass", 1, 0);
  QTask *task = g_object_new (TEST_TYPE_RUNNER, NULL);
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_pool_push (pool, task, NULL, NULL, NULL, &error));
  g_assert_no_error (error);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_cmpint (q_task_propagate_int (task, &error), ==, 42);
  g_assert_no_error (error);
  test_finish (task);
  test_pool_drop (pool);
}

/* Order */

static void
assert_order (RunLog *log,
              const int *numbers,
              int n_numbers)
{
  g_assert_cmpint (run_log_n_ran (log), ==, n_numbers);

  for (int i = 0; i < n_numbers; i++)
    g_assert_cmpint (log->numbers[i], ==, numbers[i]);
}

static void
test_priority_order (void)
{
  static const int priorities[] = { 0, 300, -100, 0, 200, -100, 300, -1, 1, 0 };
  static const int order[] = { 2, 5, 7, 0, 3, 9, 8, 4, 1, 6 };
  QTaskPool *pool = q_task_pool_new ("priorities", 1, 0);
  g_autoptr (RunLog) log = run_log_new ();
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0;
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (guint i = 0; i < G_N_ELEMENTS (priorities); i++)
    push_logged (pool, log, (int) i, priorities[i], &n_called);
  test_release (held, &hold);

  test_run_until (NULL, n_called == G_N_ELEMENTS (priorities));
  assert_order (log, order, G_N_ELEMENTS (order));
  test_pool_drop (pool);
}

static void
test_extreme_priorities (void)
{
  static const int priorities[] = {
    G_MAXINT, 0, G_MININT, G_MAXINT - 1, -1, G_MININT + 1, 1, G_MININT, G_MAXINT
  };
  static const int order[] = { 2, 7, 5, 4, 1, 6, 3, 0, 8 };
  QTaskPool *pool = q_task_pool_new ("extremes", 1, 0);
  g_autoptr (RunLog) log = run_log_new ();
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0;
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (guint i = 0; i < G_N_ELEMENTS (priorities); i++)
    push_logged (pool, log, (int) i, priorities[i], &n_called);
  test_release (held, &hold);

  test_run_until (NULL, n_called == G_N_ELEMENTS (priorities));
  assert_order (log, order, G_N_ELEMENTS (order));
  test_pool_drop (pool);
}

static void
test_first_in_first_out (void)
{
  QTaskPool *pool = q_task_pool_new ("equals", 1, 0);
  g_autoptr (RunLog) log = run_log_new ();
  TestHold hold = TEST_HOLD_INIT;
  int n = (int) many () / 10, n_called = 0;
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < n; i++)
    push_logged (pool, log, i, -7, &n_called);
  test_release (held, &hold);

  test_run_until (NULL, n_called == n);
  for (int i = 0; i < n; i++)
    g_assert_cmpint (log->numbers[i], ==, i);
  test_pool_drop (pool);
}

/* Many of few priorities: by priority, and in their order among equals */
static void
test_many_priorities (void)
{
  QTaskPool *pool = q_task_pool_new ("many", 1, 0);
  g_autoptr (RunLog) log = run_log_new ();
  TestHold hold = TEST_HOLD_INIT;
  int n = (int) many (), n_called = 0;
  g_autofree int *priorities = g_new (int, n);
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < n; i++)
    {
      priorities[i] = g_test_rand_int_range (-50, 50);
      push_logged (pool, log, i, priorities[i], &n_called);
    }
  test_release (held, &hold);

  test_run_until (NULL, n_called == n);
  for (int i = 1; i < n; i++)
    {
      int before = log->numbers[i - 1], after = log->numbers[i];

      g_assert_cmpint (priorities[before], <=, priorities[after]);
      if (priorities[before] == priorities[after])
        g_assert_cmpint (before, <, after);
    }
  test_pool_drop (pool);
}

/* What is urgent goes before all that wait, and never before what runs. */
static void
test_urgent_overtakes (void)
{
  static const int order[] = { 3, 0, 1, 2 };
  QTaskPool *pool = q_task_pool_new ("urgent", 1, 0);
  g_autoptr (RunLog) log = run_log_new ();
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0;
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < 3; i++)
    push_logged (pool, log, i, G_PRIORITY_DEFAULT, &n_called);
  push_logged (pool, log, 3, G_PRIORITY_HIGH, &n_called);
  g_assert_cmpint (run_log_n_ran (log), ==, 0);
  test_release (held, &hold);

  test_run_until (NULL, n_called == 4);
  assert_order (log, order, 4);
  test_pool_drop (pool);
}

static void
test_serial_order (void)
{
  QTaskPool *pool = q_task_pool_new_serial ("serial");
  g_autoptr (RunLog) log = run_log_new ();
  int n = (int) many () / 5, n_called = 0;

  for (int i = 0; i < n; i++)
    push_logged (pool, log, i, G_PRIORITY_DEFAULT, &n_called);

  test_run_until (NULL, n_called == n);
  g_assert_cmpint (log->n_now_most, ==, 1);
  for (int i = 0; i < n; i++)
    g_assert_cmpint (log->numbers[i], ==, i);
  test_pool_drop (pool);
}

/* Two serial pools run beside each other. */
static void
test_serial_beside_serial (void)
{
  QTaskPool *pools[2] = { q_task_pool_new_serial ("left"), q_task_pool_new_serial ("right") };
  TestHold holds[2] = { TEST_HOLD_INIT, TEST_HOLD_INIT };
  QTask *tasks[2];

  for (int i = 0; i < 2; i++)
    tasks[i] = test_pool_push_hold (pools[i], &holds[i]);

  for (int i = 0; i < 2; i++)
    {
      test_release (tasks[i], &holds[i]);
      test_pool_drop (pools[i]);
    }
}

/* Limits */

static void
test_queue_full (void)
{
  QTaskPool *pool = q_task_pool_new ("full", 1, 2);
  TestReport report = TEST_REPORT_INIT;
  TestFate opaque_fate = TEST_FATE_INIT, worker_fate = TEST_FATE_INIT;
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued[2], *task;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < 2; i++)
    queued[i] = test_pool_push_new (pool, test_empty_worker, NULL);

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_set_task_data (task, &opaque_fate, test_fate_notify);
  g_assert_false (q_task_pool_push (pool, task, test_empty_worker, &worker_fate, test_fate_notify, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
  g_clear_error (&error);

  /* Nobody needs to be told why. */
  g_assert_false (q_task_pool_push (pool, task, test_empty_worker, &worker_fate, test_fate_notify, NULL));

  test_run_pending (NULL);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);
  g_assert_false (q_task_get_completed (task));
  g_assert_cmpint (report.called, ==, 0);
  test_assert_alive (&opaque_fate);
  test_assert_alive (&worker_fate);

  test_release (held, &hold);
  test_finish (queued[0]);
  test_finish (queued[1]);

  /* And now it goes. */
  g_assert_true (q_task_pool_push (pool, task, test_empty_worker, &worker_fate, test_fate_notify, &error));
  g_assert_no_error (error);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_assert_destroyed_here (&worker_fate);
  test_finish (task);
  test_assert_destroyed_here (&opaque_fate);
  test_pool_drop (pool);
}

/* The bindings' form always takes what it was given. */
/* Nothing watches a task that was refused: it is not started, so neither its cancellable nor its
 * timeout holds it, nor stops it.
 */
static void
test_queue_full_watches_nothing (void)
{
  QTaskPool *pool = q_task_pool_new ("full", 1, 1);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued, *task;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  for (int i = 0; i < 2; i++)
    {
      task = g_object_new (Q_TYPE_TASK, "cancellable", i == 0 ? cancellable : NULL, NULL);
      q_task_set_timeout (task, i == 0 ? 0 : 1);
      g_assert_false (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, &error));
      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
      g_clear_error (&error);

      g_usleep (2000);
      test_run_pending (NULL);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);
      g_assert_false (q_task_is_cancelled (task));
      g_assert_finalize_object (task);
    }

  /* And what is not watched can be cancelled. */
  g_cancellable_cancel (cancellable);
  test_release (held, &hold);
  test_finish (queued);
  test_pool_drop (pool);
}

static void
test_queue_full_closure (void)
{
  QTaskPool *pool = q_task_pool_new ("full", 1, 1);
  TestFate fates[2] = { TEST_FATE_INIT, TEST_FATE_INIT };
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued, *task;

  held = test_pool_push_hold (pool, &hold);

  queued = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push_closure (pool, queued, test_empty_worker,
                                           &fates[0], test_fate_notify, &error));
  g_assert_no_error (error);
  test_assert_alive (&fates[0]);

  task = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_false (q_task_pool_push_closure (pool, task, test_empty_worker,
                                            &fates[1], test_fate_notify, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
  test_assert_destroyed_here (&fates[1]);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);

  q_task_complete (task);
  test_finish (task);
  test_release (held, &hold);
  test_finish (queued);
  test_assert_destroyed_here (&fates[0]);
  test_pool_drop (pool);
}

static void
test_set_max_queued (void)
{
  QTaskPool *pool = q_task_pool_new ("limits", 1, 1);
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  g_autoptr (QTask) refused = q_task_new (NULL, NULL, NULL, NULL);
  QTask *held, *queued[4];

  held = test_pool_push_hold (pool, &hold);
  queued[0] = test_pool_push_new (pool, test_empty_worker, NULL);
  g_assert_false (q_task_pool_push (pool, refused, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
  g_clear_error (&error);

  q_task_pool_set_max_queued (pool, 2);
  g_assert_cmpuint (q_task_pool_get_max_queued (pool), ==, 2);
  queued[1] = test_pool_push_new (pool, test_empty_worker, NULL);
  g_assert_false (q_task_pool_push (pool, refused, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
  g_clear_error (&error);

  q_task_pool_set_max_queued (pool, 0);
  queued[2] = test_pool_push_new (pool, test_empty_worker, NULL);
  queued[3] = test_pool_push_new (pool, test_empty_worker, NULL);

  /* A lower limit loses nothing. */
  q_task_pool_set_max_queued (pool, 1);
  g_assert_false (q_task_pool_push (pool, refused, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);

  test_release (held, &hold);
  for (guint i = 0; i < G_N_ELEMENTS (queued); i++)
    test_finish (queued[i]);

  q_task_complete (refused);
  test_pool_drop (pool);
}

/* And a pool that had none can get one. */
static void
test_set_first_max_queued (void)
{
  QTaskPool *pool = q_task_pool_new ("limits", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  g_autoptr (QTask) refused = q_task_new (NULL, NULL, NULL, NULL);
  QTask *held, *queued;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  q_task_pool_set_max_queued (pool, 1);
  g_assert_false (q_task_pool_push (pool, refused, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);

  test_release (held, &hold);
  test_finish (queued);
  q_task_complete (refused);
  test_pool_drop (pool);
}

/* Waiter: a thread that waits for space */
typedef struct
{
  QTaskPool *pool;
  GCancellable *cancellable;
  TestGate entered;
  TestGate done;
  gboolean result;
  GError *error;
  GThread *thread;
} Waiter;

static gpointer
waiter_thread (gpointer data)
{
  Waiter *waiter = data;

  test_gate_open (&waiter->entered);
  waiter->result = q_task_pool_wait_for_space (waiter->pool, waiter->cancellable, &waiter->error);
  test_gate_open (&waiter->done);

  return NULL;
}

static Waiter *
waiter_start (QTaskPool *pool,
              GCancellable *cancellable)
{
  Waiter *waiter = g_new0 (Waiter, 1);

  waiter->pool = pool;
  waiter->cancellable = cancellable;
  waiter->entered = (TestGate) TEST_GATE_INIT;
  waiter->done = (TestGate) TEST_GATE_INIT;
  waiter->thread = g_thread_new ("waiter", waiter_thread, waiter);
  test_gate_wait (&waiter->entered);

  return waiter;
}

static gboolean
waiter_finish (Waiter *waiter,
               GError **error)
{
  gboolean result;

  test_gate_wait (&waiter->done);
  g_thread_join (waiter->thread);
  result = waiter->result;
  if (waiter->error != NULL)
    g_propagate_error (error, waiter->error);
  g_free (waiter);

  return result;
}

static void
test_wait_for_space (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued;
  Waiter *waiter;

  /* There is some. */
  g_assert_true (q_task_pool_wait_for_space (pool, NULL, &error));
  g_assert_no_error (error);

  held = test_pool_push_hold (pool, &hold);
  g_assert_true (q_task_pool_wait_for_space (pool, NULL, &error));
  g_assert_no_error (error);

  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  waiter = waiter_start (pool, NULL);
  g_assert_cmpint (test_gate_get_count (&waiter->done), ==, 0);

  test_release (held, &hold);
  g_assert_true (waiter_finish (waiter, &error));
  g_assert_no_error (error);
  test_finish (queued);

  g_assert_true (q_task_pool_wait_for_space (pool, NULL, &error));
  g_assert_no_error (error);
  test_pool_drop (pool);
}

/* A task that leaves the queue makes space, too. So does a higher limit. */
static void
test_wait_for_space_otherwise (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued;
  Waiter *waiter;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  waiter = waiter_start (pool, NULL);
  q_task_cancel (queued);
  g_assert_true (waiter_finish (waiter, &error));
  g_assert_no_error (error);
  test_finish (queued);

  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  waiter = waiter_start (pool, NULL);
  q_task_pool_set_max_queued (pool, 2);
  g_assert_true (waiter_finish (waiter, &error));
  g_assert_no_error (error);

  test_release (held, &hold);
  test_finish (queued);
  test_pool_drop (pool);
}

static void
test_wait_for_space_cancelled (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued;
  Waiter *waiter;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  waiter = waiter_start (pool, cancellable);
  g_cancellable_cancel (cancellable);
  g_assert_false (waiter_finish (waiter, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&error);

  /* It was cancelled before. */
  g_assert_false (q_task_pool_wait_for_space (pool, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  test_release (held, &hold);
  test_finish (queued);
  test_pool_drop (pool);
}

/* A task that is withdrawn makes space, of which those who wait are told at once. */
static void
test_wait_for_space_withdrawn (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  TestHold hold = TEST_HOLD_INIT;
  AsyncReport report = { 0 };
  QTask *held, *queued;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  q_task_pool_wait_for_space_async (pool, NULL, space_cb, &report);
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);

  q_task_cancel (queued);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  g_assert_true (report.result);

  test_finish (queued);
  test_release (held, &hold);
  test_pool_drop (pool);
}

static void
test_wait_for_space_closed (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  AsyncReport space_report = { 0 }, close_report = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued;
  Waiter *waiter;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  waiter = waiter_start (pool, NULL);
  q_task_pool_wait_for_space_async (pool, NULL, space_cb, &space_report);

  q_task_pool_close_async (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, close_cb, &close_report);

  /* There will be no space, ever. */
  g_assert_false (waiter_finish (waiter, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_clear_error (&error);
  g_assert_false (q_task_pool_wait_for_space (pool, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  test_run_until (NULL, space_report.called);
  g_assert_false (space_report.result);
  g_assert_error (space_report.error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_clear_error (&space_report.error);

  test_release (held, &hold);
  test_finish (queued);
  test_run_until (NULL, close_report.called);
  g_assert_no_error (close_report.error);
  g_assert_true (close_report.result);
  test_pool_drop (pool);
}

/* Told at once, not when all that is queued has run */
static void
test_wait_for_space_told_early (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 2);
  AsyncReport report = { 0 };
  TestHold holds[2] = { TEST_HOLD_INIT, TEST_HOLD_INIT };
  QTask *held[2], *queued;

  held[0] = test_pool_push_hold (pool, &holds[0]);
  held[1] = test_pool_push_new (pool, test_hold_worker, &holds[1]);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  q_task_pool_wait_for_space_async (pool, NULL, space_cb, &report);
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);

  test_release (held[0], &holds[0]);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);

  /* Whoever told is about to run the next one. */
  test_gate_wait (&holds[1].entered);
  g_assert_cmpint (q_task_poll (held[1]), ==, Q_TASK_STATE_RUNNING);
  g_assert_cmpint (q_task_poll (queued), ==, Q_TASK_STATE_QUEUED);

  test_release (held[1], &holds[1]);
  test_finish (queued);
  test_run_pending (NULL);
  test_pool_drop (pool);
}

static gpointer
blocking_close_thread (gpointer pool)
{
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));

  return NULL;
}

/* By one who blocks until all has run, too */
static void
test_wait_for_space_closed_by_another (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  AsyncReport report = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued;
  GThread *thread;
  Waiter *waiter;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  waiter = waiter_start (pool, NULL);
  q_task_pool_wait_for_space_async (pool, NULL, space_cb, &report);

  thread = g_thread_new ("close", blocking_close_thread, pool);
  g_assert_false (waiter_finish (waiter, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_clear_error (&report.error);

  test_release (held, &hold);
  g_thread_join (thread);
  test_finish (queued);

  /* What the other one held last of what was waited with, and of the pool with that */
  test_run_pending (NULL);
  test_pool_drop (pool);
}

static void
test_wait_for_space_async (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  TestHold hold = TEST_HOLD_INIT;
  AsyncReport reports[5] = { { 0 } };
  QTask *held, *queued;

  /* There is some: and still not in place. */
  q_task_pool_wait_for_space_async (pool, NULL, space_cb, &reports[0]);
  g_assert_cmpint (reports[0].called, ==, 0);
  test_run_until (NULL, reports[0].called);
  g_assert_no_error (reports[0].error);
  g_assert_true (reports[0].result);

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  for (guint i = 1; i < G_N_ELEMENTS (reports); i++)
    q_task_pool_wait_for_space_async (pool, NULL, space_cb, &reports[i]);

  test_run_pending (NULL);
  for (guint i = 1; i < G_N_ELEMENTS (reports); i++)
    g_assert_cmpint (reports[i].called, ==, 0);

  test_release (held, &hold);
  for (guint i = 1; i < G_N_ELEMENTS (reports); i++)
    {
      test_run_until (NULL, reports[i].called);
      g_assert_no_error (reports[i].error);
      g_assert_true (reports[i].result);
      g_assert_true (reports[i].thread == g_thread_self ());
    }

  test_finish (queued);
  test_run_pending (NULL);
  for (guint i = 0; i < G_N_ELEMENTS (reports); i++)
    g_assert_cmpint (reports[i].called, ==, 1);
  test_pool_drop (pool);
}

static void
test_wait_for_space_async_cancelled (void)
{
  QTaskPool *pool = q_task_pool_new ("space", 1, 1);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  AsyncReport before = { 0 }, after = { 0 }, other = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *queued;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  q_task_pool_wait_for_space_async (pool, cancellable, space_cb, &before);
  q_task_pool_wait_for_space_async (pool, NULL, space_cb, &other);
  g_cancellable_cancel (cancellable);
  q_task_pool_wait_for_space_async (pool, cancellable, space_cb, &after);
  g_assert_cmpint (before.called, ==, 0);
  g_assert_cmpint (after.called, ==, 0);

  test_run_until (NULL, before.called && after.called);
  g_assert_false (before.result);
  g_assert_error (before.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_false (after.result);
  g_assert_error (after.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (other.called, ==, 0);
  g_clear_error (&before.error);
  g_clear_error (&after.error);

  test_release (held, &hold);
  test_finish (queued);
  test_run_until (NULL, other.called);
  g_assert_no_error (other.error);
  g_assert_true (other.result);
  test_pool_drop (pool);
}

/* Several threads push into a small queue, and wait whenever it is full. */
typedef struct
{
  QTaskPool *pool;
  int n_left;
  int *n_run;
  int *n_called;
} Producer;

static gpointer
producer_thread (gpointer data)
{
  Producer *producer = data;

  while (producer->n_left > 0)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, producer->n_called, NULL);

      while (!q_task_pool_push (producer->pool, task, test_count_worker, producer->n_run, NULL, &error))
        {
          gboolean waited;

          g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
          g_clear_error (&error);
          waited = q_task_pool_wait_for_space (producer->pool, NULL, &error);
          g_assert_no_error (error);
          g_assert_true (waited);
        }

      producer->n_left--;
    }

  return NULL;
}

static void
test_producers (void)
{
  enum
  {
    N_THREADS = 4
  };
  QTaskPool *pool = q_task_pool_new ("producers", 2, 3);
  int n_each = (int) many () / 20, n_run = 0, n_called = 0;
  Producer producers[N_THREADS];
  GThread *threads[N_THREADS];

  for (int i = 0; i < N_THREADS; i++)
    {
      producers[i] = (Producer){ pool, n_each, &n_run, &n_called };
      threads[i] = g_thread_new ("producer", producer_thread, &producers[i]);
    }

  test_run_until (NULL, n_called == n_each * N_THREADS);
  for (int i = 0; i < N_THREADS; i++)
    g_thread_join (threads[i]);
  g_assert_cmpint (g_atomic_int_get (&n_run), ==, n_each * N_THREADS);
  test_pool_drop (pool);
}

/* Threads */

/* All threads work at once, also when a flood of tiny tasks came before. */
static void
test_all_threads_work (void)
{
  enum
  {
    N_THREADS = 4
  };
  QTaskPool *pool = q_task_pool_new ("wide", N_THREADS, 0);
  int n = (int) many (), n_called = 0;

  for (int round = 0; round < 5; round++)
    {
      TestHold hold = TEST_HOLD_INIT;
      QTask *tasks[N_THREADS];

      for (int i = 0; i < n / 10; i++)
        {
          g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

          g_assert_true (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
        }

      for (int i = 0; i < N_THREADS; i++)
        tasks[i] = test_pool_push_new (pool, test_hold_worker, &hold);

      test_gate_wait_for (&hold.entered, N_THREADS);
      test_gate_open (&hold.release);

      for (int i = 0; i < N_THREADS; i++)
        test_finish (tasks[i]);
    }

  test_run_until (NULL, n_called == n / 10 * 5);
  g_assert_cmpuint (test_pool_stats (pool).threads, <=, N_THREADS);
  test_pool_drop (pool);
}

static void
test_unbounded (void)
{
  enum
  {
    N_TASKS = 40
  };
  QTaskPool *pool = q_task_pool_new ("unbounded", 0, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *tasks[N_TASKS];

  for (int i = 0; i < N_TASKS; i++)
    tasks[i] = test_pool_push_new (pool, test_hold_worker, &hold);

  test_gate_wait_for (&hold.entered, N_TASKS);
  test_gate_open (&hold.release);
  for (int i = 0; i < N_TASKS; i++)
    test_finish (tasks[i]);
  test_pool_drop (pool);
}

static void
test_never_more_threads (void)
{
  QTaskPool *pool = q_task_pool_new ("narrow", 3, 0);
  g_autoptr (RunLog) log = run_log_new ();
  int n = (int) many (), n_called = 0;

  for (int i = 0; i < n; i++)
    push_logged (pool, log, i, G_PRIORITY_DEFAULT, &n_called);

  test_run_until (NULL, n_called == n);
  g_assert_cmpint (log->n_now_most, <=, 3);
  g_assert_cmpuint (test_pool_stats (pool).threads, <=, 3);
  test_pool_drop (pool);
}

static void
test_set_max_threads (void)
{
  QTaskPool *pool = q_task_pool_new ("sizes", 1, 0);
  g_autoptr (RunLog) log = run_log_new ();
  TestHold hold = TEST_HOLD_INIT;
  int n = (int) many () / 10, n_called = 0;
  QTask *tasks[4];

  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    tasks[i] = test_pool_push_new (pool, test_hold_worker, &hold);
  test_gate_wait_for (&hold.entered, 1);

  /* Up: what waits begins. */
  q_task_pool_set_max_threads (pool, 3);
  g_assert_cmpuint (q_task_pool_get_max_threads (pool), ==, 3);
  test_gate_wait_for (&hold.entered, 3);
  g_assert_cmpint (q_task_poll (tasks[3]), ==, Q_TASK_STATE_QUEUED);

  /* Without limit */
  q_task_pool_set_max_threads (pool, 0);
  test_gate_wait_for (&hold.entered, 4);

  /* Down: what runs goes on, and then it is one at a time. */
  q_task_pool_set_max_threads (pool, 1);
  for (int i = 0; i < n; i++)
    push_logged (pool, log, i, G_PRIORITY_DEFAULT, &n_called);
  g_assert_cmpint (run_log_n_ran (log), ==, 0);

  test_gate_open (&hold.release);
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    test_finish (tasks[i]);
  test_run_until (NULL, n_called == n);
  g_assert_cmpint (log->n_now_most, ==, 1);
  for (int i = 0; i < n; i++)
    g_assert_cmpint (log->numbers[i], ==, i);
  test_pool_drop (pool);
}

/* ThreadFuncs: what the functions of threads saw */
typedef struct
{
  TestGate initialized;
  TestGate finalized;
  TestFate destroyed;
} ThreadFuncs;

#define THREAD_FUNCS_INIT \
  { \
    TEST_GATE_INIT, TEST_GATE_INIT, TEST_FATE_INIT \
  }

static _Thread_local int thread_is_ready;

static void
thread_initializer (gpointer data)
{
  ThreadFuncs *funcs = data;

  g_assert_cmpint (thread_is_ready, ==, 0);
  thread_is_ready = 1;
  test_gate_open (&funcs->initialized);
}

static void
thread_finalizer (gpointer data)
{
  ThreadFuncs *funcs = data;

  /* It may outlive the pool. */
  g_assert_cmpint (thread_is_ready, ==, 1);
  test_assert_alive (&funcs->destroyed);
  thread_is_ready = 0;
  test_gate_open (&funcs->finalized);
}

static void
thread_funcs_destroy (gpointer data)
{
  ThreadFuncs *funcs = data;

  test_fate_notify (&funcs->destroyed);
}

/* Their data are released by who set them. */
static void
thread_funcs_end (ThreadFuncs *funcs)
{
  test_run_until (NULL, test_fate_get_count (&funcs->destroyed) > 0);
  test_assert_destroyed_here (&funcs->destroyed);
  g_assert_cmpint (test_gate_get_count (&funcs->finalized), ==,
                   test_gate_get_count (&funcs->initialized));
}

static gboolean
ready_hold_worker (QTask *task,
                   gpointer hold,
                   GError **error)
{
  g_assert_cmpint (thread_is_ready, ==, 1);

  return test_hold_worker (task, hold, error);
}

static void
test_thread_funcs (void)
{
  enum
  {
    N_THREADS = 3
  };
  QTaskPool *pool = q_task_pool_new ("functions", N_THREADS, 0);
  ThreadFuncs funcs = THREAD_FUNCS_INIT;
  QTask *tasks[N_THREADS];

  q_task_pool_set_thread_funcs (pool, thread_initializer, thread_finalizer, &funcs, thread_funcs_destroy);

  for (int round = 0; round < 3; round++)
    {
      TestHold hold = TEST_HOLD_INIT;

      for (int i = 0; i < N_THREADS; i++)
        tasks[i] = test_pool_push_new (pool, ready_hold_worker, &hold);
      test_gate_wait_for (&hold.entered, N_THREADS);
      test_gate_open (&hold.release);
      for (int i = 0; i < N_THREADS; i++)
        test_finish (tasks[i]);
    }

  g_assert_cmpint (test_gate_get_count (&funcs.initialized), >=, N_THREADS);
  test_assert_alive (&funcs.destroyed);

  /* Each thread that began also ends, and then the data is released. */
  g_object_unref (pool);
  thread_funcs_end (&funcs);
}

/* The bindings' form has one function, since it can have one only. Nothing undoes it, and
 * the thread may serve another pool later.
 */
static void
open_initialized (gpointer data)
{
  ThreadFuncs *funcs = data;

  test_gate_open (&funcs->initialized);
}

static void
test_thread_initializer (void)
{
  QTaskPool *pool = q_task_pool_new ("initializer", 1, 0);
  ThreadFuncs funcs = THREAD_FUNCS_INIT;

  q_task_pool_set_thread_initializer (pool, open_initialized, &funcs, thread_funcs_destroy);

  test_finish (test_pool_push_new (pool, test_empty_worker, NULL));
  g_assert_cmpint (test_gate_get_count (&funcs.initialized), ==, 1);

  g_object_unref (pool);
  test_run_until (NULL, test_fate_get_count (&funcs.destroyed) > 0);
  test_assert_destroyed_here (&funcs.destroyed);
  g_assert_cmpint (test_gate_get_count (&funcs.initialized), ==, 1);
}

/* Functions that no thread was told of are replaced at once. */
static void
test_thread_funcs_replaced (void)
{
  QTaskPool *pool = q_task_pool_new ("replaced", 1, 0);
  ThreadFuncs first = THREAD_FUNCS_INIT, second = THREAD_FUNCS_INIT;
  TestHold hold = TEST_HOLD_INIT;
  QTask *task;

  q_task_pool_set_thread_funcs (pool, thread_initializer, thread_finalizer, &first, thread_funcs_destroy);
  q_task_pool_set_thread_funcs (pool, thread_initializer, thread_finalizer, &second, thread_funcs_destroy);
  test_run_until (NULL, test_fate_get_count (&first.destroyed) > 0);
  test_assert_destroyed_here (&first.destroyed);

  test_gate_open (&hold.release);
  task = test_pool_push_new (pool, ready_hold_worker, &hold);
  test_finish (task);

  g_object_unref (pool);
  thread_funcs_end (&second);
  g_assert_cmpint (test_gate_get_count (&first.initialized), ==, 0);
  g_assert_cmpint (test_gate_get_count (&second.initialized), ==, 1);
}

static gboolean
thread_name_worker (QTask *task,
                    gpointer opaque,
                    GError **error)
{
  char name[17] = { 0 };

  prctl (PR_GET_NAME, name, 0, 0, 0);
  q_task_set_result_pointer (task, g_strdup (name), g_free);

  return TRUE;
}

static char *
thread_name_in_task (QTaskPool *pool,
                     const char *name)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GError) error = NULL;
  char *thread_name;

  if (name != NULL)
    q_task_set_name (task, name);
  g_assert_true (q_task_pool_push (pool, task, thread_name_worker, NULL, NULL, NULL));
  test_run_until (NULL, q_task_get_completed (task));
  thread_name = q_task_propagate_pointer (task, &error);
  g_assert_no_error (error);
  g_assert_finalize_object (task);

  return thread_name;
}

static void
test_thread_names (void)
{
  QTaskPool *pool = q_task_pool_new ("names", 1, 0);
  g_autofree char *before = thread_name_in_task (pool, NULL);
  g_autofree char *named = thread_name_in_task (pool, "decode");
  g_autofree char *between = thread_name_in_task (pool, NULL);
  g_autofree char *long_named = thread_name_in_task (pool, "a name of more than fifteen bytes");
  g_autofree char *after = thread_name_in_task (pool, NULL);

  g_assert_cmpstr (named, ==, "decode");
  g_assert_cmpstr (long_named, ==, "a name of more ");
  g_assert_cmpstr (before, !=, "decode");
  g_assert_cmpstr (between, ==, before);
  g_assert_cmpstr (after, ==, before);
  test_pool_drop (pool);
}

/* Statistics */

static void
test_stats (void)
{
  QTaskPool *pool = q_task_pool_new ("counted", 2, 0);
  QTaskPoolStats stats = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  TestGate entered = TEST_GATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *stoppable, *queued[3];

  held = test_pool_push_hold (pool, &hold);
  stoppable = test_pool_push_new (pool, until_stopped_worker, &entered);
  test_gate_wait (&entered);
  for (int i = 0; i < 2; i++)
    queued[i] = test_pool_push_new (pool, test_empty_worker, NULL);
  queued[2] = test_pool_push_new (pool, failing_worker, NULL);

  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.threads, ==, 2);
  g_assert_cmpuint (stats.running, ==, 2);
  g_assert_cmpuint (stats.queued, ==, 3);
  g_assert_cmpuint (stats.parked, ==, 0);
  g_assert_cmpuint (stats.finished, ==, 0);
  g_assert_cmpuint (stats.failed, ==, 0);
  g_assert_cmpuint (stats.stopped, ==, 0);

  /* A withdrawal is counted as soon as it is done. */
  q_task_cancel (queued[0]);
  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.running, ==, 2);
  g_assert_cmpuint (stats.queued, ==, 2);
  g_assert_cmpuint (stats.stopped, ==, 1);

  q_task_cancel (stoppable);
  test_gate_open (&hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);

  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.running, ==, 0);
  g_assert_cmpuint (stats.queued, ==, 0);
  g_assert_cmpuint (stats.parked, ==, 0);
  g_assert_cmpuint (stats.finished, ==, 2); /* held, queued[1] */
  g_assert_cmpuint (stats.failed, ==, 1);   /* queued[2] */
  g_assert_cmpuint (stats.stopped, ==, 2);  /* queued[0], stoppable */
  g_assert_cmpint (stats.wait_time, ==, 0);
  g_assert_cmpint (stats.run_time, ==, 0);

  test_finish (held);
  test_finish (stoppable);
  for (guint i = 0; i < G_N_ELEMENTS (queued); i++)
    test_finish (queued[i]);
  test_pool_drop (pool);
}

static void
test_stats_boxed (void)
{
  QTaskPoolStats stats = { 0 };
  QTaskPoolStats *copy;

  stats.threads = 5;
  stats.run_time = 77;
  copy = q_task_pool_stats_copy (&stats);
  g_assert_cmpuint (copy->threads, ==, 5);
  g_assert_cmpint (copy->run_time, ==, 77);
  q_task_pool_stats_free (copy);

  g_assert_true (g_type_is_a (Q_TYPE_TASK_POOL_STATS, G_TYPE_BOXED));
}

/* One that waits for another pool is parked, and another thread works. */
static void
test_stats_parked (void)
{
  QTaskPool *pool = q_task_pool_new ("parked", 1, 0);
  QTaskPool *other = q_task_pool_new ("other", 1, 0);
  QTaskPoolStats stats = { 0 };
  TestHold hold = TEST_HOLD_INIT, second = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *parked, *task;

  held = test_pool_push_hold (other, &hold);
  parked = test_pool_push_new (pool, test_wait_worker, held);
  test_poll_until (test_pool_stats (pool).parked == 1);

  task = test_pool_push_hold (pool, &second);
  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.running, ==, 2);
  g_assert_cmpuint (stats.parked, ==, 1);
  g_assert_cmpuint (stats.threads, ==, 2);

  test_gate_open (&hold.release);
  test_run_until (NULL, q_task_get_completed (parked));
  g_assert_false (q_task_propagate_error (parked, &error));
  g_assert_no_error (error);
  test_finish (held);
  test_finish (parked);
  test_release (task, &second);
  g_assert_cmpuint (test_pool_stats (pool).parked, ==, 0);
  test_pool_drop (pool);
  test_pool_drop (other);
}

static gboolean
busy_worker (QTask *task,
             gpointer opaque,
             GError **error)
{
  gint64 begin = g_get_monotonic_time ();

  while (g_get_monotonic_time () < begin + 3000)
    g_thread_yield ();

  return TRUE;
}

static void
test_timing (void)
{
  QTaskPool *pool = q_task_pool_new ("timed", 1, 0);
  QTaskPoolStats stats = { 0 };
  g_autoptr (GError) error = NULL;
  QTask *tasks[3];

  test_finish (test_pool_push_new (pool, busy_worker, NULL));
  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpint (stats.run_time, ==, 0);
  g_assert_cmpint (stats.wait_time, ==, 0);

  q_task_pool_set_timing (pool, TRUE);
  g_assert_true (q_task_pool_get_timing (pool));

  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    tasks[i] = test_pool_push_new (pool, busy_worker, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    test_finish (tasks[i]);

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
  q_task_pool_get_stats (pool, &stats);

  /* The second waited for one, and the third for two; less what the first had
   * done before the others came. */
  g_assert_cmpint (stats.run_time, >=, 3 * 3000);
  g_assert_cmpint (stats.run_time, <, test_end_time ());
  g_assert_cmpint (stats.wait_time, >=, 3000 - 100);
  g_assert_cmpint (stats.wait_time, <, test_end_time ());
  test_pool_drop (pool);
}

static void
assert_mentions (const char *text,
                 const char *what)
{
  g_autofree char *folded = g_ascii_strdown (text, -1);

  if (strstr (folded, what) == NULL)
    g_error ("\"%s\" is not mentioned: %s", what, text);
}

static void
test_dump (void)
{
  QTaskPool *pool = q_task_pool_new ("visible pool", 2, 0);
  g_autofree char *dump = NULL, *empty = q_task_pool_dump (pool);
  TestHold hold = TEST_HOLD_INIT, stopping_hold = TEST_HOLD_INIT;
  QTask *running, *stopping, *queued;

  assert_mentions (empty, "visible pool");

  running = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_name (running, "first job");
  g_assert_true (q_task_pool_push (pool, running, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);

  stopping = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_name (stopping, "second job");
  g_assert_true (q_task_pool_push (pool, stopping, test_hold_worker, &stopping_hold, NULL, NULL));
  test_gate_wait (&stopping_hold.entered);
  q_task_cancel (stopping);

  queued = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_static_name (queued, "third job");
  g_assert_true (q_task_pool_push (pool, queued, test_empty_worker, NULL, NULL, NULL));

  dump = q_task_pool_dump (pool);
  assert_mentions (dump, "visible pool");
  assert_mentions (dump, "first job");
  assert_mentions (dump, "running");
  assert_mentions (dump, "second job");
  assert_mentions (dump, "stopping");
  assert_mentions (dump, "third job");
  assert_mentions (dump, "queued");

  test_gate_open (&stopping_hold.release);
  test_release (running, &hold);
  test_finish (stopping);
  test_finish (queued);
  test_pool_drop (pool);
}

static void
test_list_tasks (void)
{
  QTaskPool *pool = q_task_pool_new ("listed", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  GPtrArray *list;
  QTask *tasks[3];

  tasks[0] = test_pool_push_hold (pool, &hold);
  tasks[1] = test_pool_push_new (pool, test_empty_worker, NULL);
  tasks[2] = test_pool_push_new (pool, test_empty_worker, NULL);

  list = q_task_pool_list_tasks (pool);
  g_assert_cmpuint (list->len, ==, 3);
  for (guint i = 0; i < 3; i++)
    g_assert_true (g_ptr_array_find (list, tasks[i], NULL));
  g_ptr_array_unref (list);

  test_release (tasks[0], &hold);
  test_finish (tasks[1]);
  test_finish (tasks[2]);

  /* What ended is not listed, and the list held no task back. */
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  list = q_task_pool_list_tasks (pool);
  g_assert_cmpuint (list->len, ==, 0);
  g_ptr_array_unref (list);
  test_pool_drop (pool);
}

/* The end */

static void
test_close_drain (void)
{
  QTaskPool *pool = q_task_pool_new ("drained", 2, 0);
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  TestHold hold = TEST_HOLD_INIT;
  int n = (int) many (), n_run = 0, n_called = 0;
  g_autoptr (GError) error = NULL;
  g_autoptr (QTask) late = q_task_new (NULL, test_report_cb, &report, NULL);
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

      g_assert_true (q_task_pool_push (pool, task, test_count_worker, &n_run, NULL, NULL));
    }
  test_gate_open (&hold.release);

  g_assert_false (q_task_pool_is_closed (pool));
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_pool_is_closed (pool));
  g_assert_cmpint (g_atomic_int_get (&n_run), ==, n);

  g_assert_false (q_task_pool_push (pool, late, test_empty_worker, &fate, test_fate_notify, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_assert_cmpint (q_task_poll (late), ==, Q_TASK_STATE_NEW);
  test_assert_alive (&fate);

  test_run_until (NULL, n_called == n);
  test_run_pending (NULL);
  g_assert_cmpint (n_called, ==, n);
  g_assert_cmpint (report.called, ==, 0);
  test_finish (held);
  q_task_complete (late);
  test_pool_drop (pool);
}

static void
stopped_cb (QTask *task,
            gpointer count)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  (*(int *) count)++;
}

typedef struct
{
  QTaskPool *pool;
  TestHold hold;
  int is_released;
} SlowClose;

/* Lets the worker end a while after the closing has begun. */
static gpointer
slow_close_thread (gpointer data)
{
  SlowClose *slow = data;

  test_poll_until (q_task_pool_is_closed (slow->pool));
  g_usleep (20 * 1000);
  g_atomic_int_set (&slow->is_released, TRUE);
  test_gate_open (&slow->hold.release);

  return NULL;
}

/* Nothing is queued, and one runs. */
static void
test_close_while_running (gconstpointer mode)
{
  SlowClose slow = { q_task_pool_new ("closed", 1, 0), TEST_HOLD_INIT, FALSE };
  g_autoptr (GError) error = NULL;
  QTaskPoolStats stats = { 0 };
  GThread *thread;
  QTask *held;

  held = test_pool_push_hold (slow.pool, &slow.hold);
  thread = g_thread_new ("slow", slow_close_thread, &slow);
  g_assert_true (q_task_pool_close (slow.pool, GPOINTER_TO_INT (mode), NULL, &error));
  g_assert_no_error (error);
  g_assert_true (g_atomic_int_get (&slow.is_released));
  q_task_pool_get_stats (slow.pool, &stats);
  g_assert_cmpuint (stats.running, ==, 0);
  g_assert_cmpint (q_task_poll (held), >=, Q_TASK_STATE_FINISHED);

  g_thread_join (thread);
  test_finish (held);
  test_pool_drop (slow.pool);
}

/* When a pool is closed, its tasks have their outcomes. */
static void
test_close_after_outcomes (void)
{
  for (guint i = 0; i < many () / 20; i++)
    {
      QTaskPool *pool = q_task_pool_new ("closed", 1, 0);
      QTask *task = test_pool_push_new (pool, test_empty_worker, NULL);

      g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_FINISHED);
      test_finish (task);
      test_pool_drop (pool);
    }
}

static void
test_close_stop (void)
{
  QTaskPool *pool = q_task_pool_new ("stopped", 2, 0);
  TestGate entered = TEST_GATE_INIT;
  int n = (int) many (), n_run = 0, n_called = 0, n_destroyed = 0;
  g_autoptr (GError) error = NULL;
  QTask *running[2];

  for (int i = 0; i < 2; i++)
    running[i] = test_pool_push_new (pool, until_stopped_worker, &entered);
  test_gate_wait_for (&entered, 2);

  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, stopped_cb, &n_called, NULL);

      g_assert_true (q_task_pool_push (pool, task, test_count_worker, &n_run, NULL, NULL));
      q_task_set_task_data (task, &n_destroyed, count_destroy);
    }

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (g_atomic_int_get (&n_run), ==, 0);

  for (int i = 0; i < 2; i++)
    {
      test_run_until (NULL, q_task_get_completed (running[i]));
      g_assert_cmpint (q_task_poll (running[i]), ==, Q_TASK_STATE_STOPPED);
      g_assert_true (q_task_propagate_error (running[i], &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_clear_error (&error);
      test_finish (running[i]);
    }

  test_run_until (NULL, n_called == n);
  test_run_pending (NULL);
  g_assert_cmpint (n_called, ==, n);
  g_assert_cmpint (g_atomic_int_get (&n_destroyed), ==, n);
  test_pool_drop (pool);
}

/* What is queued need not wait for a thread to be told so. */
static void
test_close_stop_empties_the_queue (void)
{
  QTaskPool *pool = q_task_pool_new ("stopped", 1, 0);
  AsyncReport report = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  int n_run = 0, n_called = 0;
  QTask *held, *queued[3];

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < 3; i++)
    {
      queued[i] = q_task_new (NULL, stopped_cb, &n_called, NULL);
      g_assert_true (q_task_pool_push (pool, queued[i], test_count_worker, &n_run, NULL, NULL));
    }

  q_task_pool_close_async (pool, Q_TASK_POOL_CLOSE_STOP, NULL, close_cb, &report);
  test_run_until (NULL, n_called == 3);
  for (int i = 0; i < 3; i++)
    {
      g_assert_cmpint (q_task_poll (queued[i]), ==, Q_TASK_STATE_STOPPED);
      test_finish (queued[i]);
    }
  g_assert_cmpint (q_task_poll (held), ==, Q_TASK_STATE_STOPPING);
  g_assert_cmpint (report.called, ==, 0);

  test_gate_open (&hold.release);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_finish (held);
  g_assert_cmpint (g_atomic_int_get (&n_run), ==, 0);
  test_pool_drop (pool);
}

static void
test_close_empty (void)
{
  QTaskPool *pool = q_task_pool_new ("empty", 2, 0);
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);

  /* Once more is no harm. */
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_pool_is_closed (pool));
  test_pool_drop (pool);
}

static void
test_close_async (void)
{
  QTaskPool *pool = q_task_pool_new ("closed later", 1, 0);
  AsyncReport report = { 0 }, again = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  g_autoptr (QTask) late = q_task_new (NULL, NULL, NULL, NULL);
  QTask *held, *queued;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  q_task_pool_close_async (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, close_cb, &report);
  q_task_pool_close_async (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, close_cb, &again);
  g_assert_true (q_task_pool_is_closed (pool));
  g_assert_false (q_task_pool_push (pool, late, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  q_task_complete (late);

  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);

  test_release (held, &hold);
  test_run_until (NULL, report.called && again.called);
  g_assert_no_error (report.error);
  g_assert_true (report.result);
  g_assert_true (report.thread == g_thread_self ());
  g_assert_no_error (again.error);
  g_assert_true (again.result);
  g_assert_cmpint (q_task_poll (queued), ==, Q_TASK_STATE_FINISHED);
  test_finish (queued);
  test_pool_drop (pool);
}

static void
test_close_async_empty (void)
{
  QTaskPool *pool = q_task_pool_new ("closed later", 1, 0);
  AsyncReport report = { 0 };

  q_task_pool_close_async (pool, Q_TASK_POOL_CLOSE_STOP, NULL, close_cb, &report);
  g_assert_cmpint (report.called, ==, 0);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  g_assert_true (report.result);
  test_pool_drop (pool);
}

static void
test_close_async_cancelled (void)
{
  QTaskPool *pool = q_task_pool_new ("closed later", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  AsyncReport report = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *queued;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  q_task_pool_close_async (pool, Q_TASK_POOL_CLOSE_DRAIN, cancellable, close_cb, &report);
  g_cancellable_cancel (cancellable);
  test_run_until (NULL, report.called);
  g_assert_false (report.result);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&report.error);
  g_assert_true (q_task_pool_is_closed (pool));
  g_assert_cmpint (q_task_poll (queued), ==, Q_TASK_STATE_QUEUED);

  test_release (held, &hold);
  test_run_until (NULL, q_task_get_completed (queued));
  g_assert_false (q_task_propagate_error (queued, &error));
  g_assert_no_error (error);
  test_finish (queued);
  test_pool_drop (pool);
}

static gboolean
close_worker (QTask *task,
              gpointer pool,
              GError **error)
{
  return q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, error);
}

static void
test_close_in_own_worker (void)
{
  QTaskPool *pool = q_task_pool_new ("closes itself", 2, 0);
  g_autoptr (GError) error = NULL;
  QTask *task = test_pool_push_new (pool, close_worker, pool);

  test_run_until (NULL, q_task_get_completed (task));
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_clear_error (&error);
  test_finish (task);

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
  test_pool_drop (pool);
}

static void
test_close_in_other_worker (void)
{
  QTaskPool *pool = q_task_pool_new ("closed", 1, 0);
  QTaskPool *other = q_task_pool_new ("closes", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *task;

  held = test_pool_push_hold (pool, &hold);
  task = test_pool_push_new (other, close_worker, pool);
  test_poll_until (q_task_pool_is_closed (pool));
  test_release (held, &hold);

  test_run_until (NULL, q_task_get_completed (task));
  g_assert_false (q_task_propagate_error (task, &error));
  g_assert_no_error (error);
  test_finish (task);
  test_pool_drop (pool);
  test_pool_drop (other);
}

/* Closer: a thread that closes a pool */
typedef struct
{
  QTaskPool *pool;
  QTaskPoolCloseMode mode;
  GCancellable *cancellable;
  gboolean result;
  GError *error;
} Closer;

static gpointer
closer_thread (gpointer data)
{
  Closer *closer = data;

  closer->result = q_task_pool_close (closer->pool, closer->mode, closer->cancellable, &closer->error);

  return NULL;
}

static void
test_close_cancelled (void)
{
  QTaskPool *pool = q_task_pool_new ("closing", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Closer closer = { pool, Q_TASK_POOL_CLOSE_DRAIN, cancellable, FALSE, NULL };
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  g_autoptr (QTask) late = q_task_new (NULL, NULL, NULL, NULL);
  QTask *held, *queued;
  GThread *thread;

  held = test_pool_push_hold (pool, &hold);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  thread = g_thread_new ("closer", closer_thread, &closer);
  test_poll_until (q_task_pool_is_closed (pool));
  g_cancellable_cancel (cancellable);
  g_thread_join (thread);
  g_assert_false (closer.result);
  g_assert_error (closer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&closer.error);

  /* It goes on closing; only the wait was given up. */
  g_assert_true (q_task_pool_is_closed (pool));
  g_assert_false (q_task_pool_push (pool, late, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_clear_error (&error);
  q_task_complete (late);
  g_assert_cmpint (q_task_poll (queued), ==, Q_TASK_STATE_QUEUED);

  test_release (held, &hold);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (q_task_poll (queued), ==, Q_TASK_STATE_FINISHED);
  test_finish (queued);
  test_pool_drop (pool);
}

/* A pool that is being drained can still be stopped. */
static void
test_close_stop_after_drain (void)
{
  QTaskPool *pool = q_task_pool_new ("closing", 1, 0);
  Closer closer = { pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, FALSE, NULL };
  TestGate entered = TEST_GATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *running, *queued;
  GThread *thread;

  running = test_pool_push_new (pool, until_stopped_worker, &entered);
  test_gate_wait (&entered);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  thread = g_thread_new ("closer", closer_thread, &closer);
  test_poll_until (q_task_pool_is_closed (pool));
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, &error));
  g_assert_no_error (error);
  g_thread_join (thread);
  g_assert_no_error (closer.error);
  g_assert_true (closer.result);

  g_assert_cmpint (q_task_poll (running), ==, Q_TASK_STATE_STOPPED);
  g_assert_cmpint (q_task_poll (queued), ==, Q_TASK_STATE_STOPPED);
  test_finish (running);
  test_finish (queued);
  test_pool_drop (pool);
}

/* What workers wait for in a pool that is closed still comes. */
static gboolean
wait_for_closing_worker (QTask *task,
                         gpointer awaited,
                         GError **error)
{
  TestHold *hold = q_task_get_task_data (task);

  test_gate_open (&hold->entered);
  test_gate_wait (&hold->release);

  return q_task_wait (awaited, NULL, error);
}

static void
test_close_drain_with_waits (void)
{
  QTaskPool *pool = q_task_pool_new ("drained", 1, 0);
  Closer closer = { pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, FALSE, NULL };
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task, *awaited;
  GThread *thread;

  awaited = q_task_new (NULL, NULL, NULL, NULL);
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_task_data (task, &hold, NULL);
  g_assert_true (q_task_pool_push (pool, task, wait_for_closing_worker, awaited, NULL, NULL));
  test_gate_wait (&hold.entered);
  g_assert_true (q_task_pool_push (pool, awaited, test_empty_worker, NULL, NULL, NULL));

  thread = g_thread_new ("closer", closer_thread, &closer);
  test_poll_until (q_task_pool_is_closed (pool));
  test_gate_open (&hold.release);
  g_thread_join (thread);
  g_assert_no_error (closer.error);
  g_assert_true (closer.result);

  test_run_until (NULL, q_task_get_completed (task));
  g_assert_false (q_task_propagate_error (task, &error));
  g_assert_no_error (error);
  test_finish (task);
  test_finish (awaited);
  test_pool_drop (pool);
}

/* The callbacks of a pool may close it: all that runs there is over. */
static void
close_pool_cb (QTask *task,
               gpointer pool)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_no_error (error);
}

static void
test_close_in_callback (void)
{
  QTaskPool *pool = q_task_pool_new ("closed", 1, 0);
  QTask *task = q_task_new (NULL, close_pool_cb, pool, NULL);

  g_assert_true (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
  test_finish (task);
  g_assert_true (q_task_pool_is_closed (pool));
  test_pool_drop (pool);
}

static void
test_dropped_with_queued (void)
{
  QTaskPool *pool = q_task_pool_new ("dropped", 2, 0);
  TestHold hold = TEST_HOLD_INIT;
  TestFate gone = TEST_FATE_INIT;
  int n = (int) many (), n_run = 0, n_called = 0;
  QTask *held[2];

  for (int i = 0; i < 2; i++)
    held[i] = test_pool_push_new (pool, test_hold_worker, &hold);
  test_gate_wait_for (&hold.entered, 2);
  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

      g_assert_true (q_task_pool_push (pool, task, test_count_worker, &n_run, NULL, NULL));
    }

  test_fate_watch (&gone, pool);
  g_object_unref (pool);
  test_gate_open (&hold.release);

  for (int i = 0; i < 2; i++)
    test_finish (held[i]);
  test_run_until (NULL, n_called == n);
  g_assert_cmpint (g_atomic_int_get (&n_run), ==, n);
  test_fate_wait (&gone);
}

static gboolean
drop_worker (QTask *task,
             gpointer data,
             GError **error)
{
  TestGate *go_on = q_task_get_task_data (task);

  test_gate_wait (go_on);
  g_object_unref (data);

  return TRUE;
}

static void
test_dropped_on_own_thread (void)
{
  QTaskPool *pool = q_task_pool_new ("dropped", 1, 0);
  TestFate gone = TEST_FATE_INIT;
  TestGate go_on = TEST_GATE_INIT;
  int n_called = 0;
  QTask *task;

  test_fate_watch (&gone, pool);
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_task_data (task, &go_on, NULL);
  g_assert_true (q_task_pool_push (pool, task, drop_worker, pool, NULL, NULL));

  /* Also with something left to do */
  for (int i = 0; i < 5; i++)
    {
      g_autoptr (QTask) more = q_task_new (NULL, count_cb, &n_called, NULL);

      g_assert_true (q_task_pool_push (pool, more, test_empty_worker, NULL, NULL, NULL));
    }

  test_gate_open (&go_on);
  test_fate_wait (&gone);
  test_run_until (NULL, n_called == 5);
  test_finish (task);
}

/* A pool that is dropped lets its threads go, finalizers included. */
static void
test_dropped_with_thread_funcs (void)
{
  QTaskPool *pool = q_task_pool_new ("dropped", 2, 0);
  ThreadFuncs funcs = THREAD_FUNCS_INIT;
  TestHold hold = TEST_HOLD_INIT;
  QTask *tasks[2];

  q_task_pool_set_thread_funcs (pool, thread_initializer, thread_finalizer, &funcs, thread_funcs_destroy);
  for (int i = 0; i < 2; i++)
    tasks[i] = test_pool_push_new (pool, ready_hold_worker, &hold);
  test_gate_wait_for (&hold.entered, 2);
  g_object_unref (pool);
  g_assert_cmpint (test_gate_get_count (&funcs.finalized), ==, 0);

  test_gate_open (&hold.release);
  for (int i = 0; i < 2; i++)
    test_finish (tasks[i]);
  thread_funcs_end (&funcs);
  g_assert_cmpint (test_gate_get_count (&funcs.finalized), ==, 2);
}

/* The default pool */

static void
test_default_is_one (void)
{
  QTaskPool *pool = q_task_pool_get_default ();

  g_assert_true (Q_IS_TASK_POOL (pool));
  g_assert_true (q_task_pool_get_default () == pool);
  g_assert_false (q_task_pool_is_serial (pool));
}

static void
test_default_cannot_be_closed (void)
{
  QTaskPool *pool = q_task_pool_get_default ();
  AsyncReport report = { 0 };
  g_autoptr (GError) error = NULL;

  g_assert_false (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
  g_assert_false (q_task_pool_is_closed (pool));

  q_task_pool_close_async (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, close_cb, &report);
  test_run_until (NULL, report.called);
  g_assert_false (report.result);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
  g_clear_error (&report.error);
  g_assert_false (q_task_pool_is_closed (pool));

  test_finish (test_pool_push_new (pool, test_empty_worker, NULL));
}

/* Ten threads that stay busy: an eleventh comes, but not at once. */
static void
test_default_grows (void)
{
  enum
  {
    N_THREADS = 10,
    N_MORE = 3
  };
  TestHold hold = TEST_HOLD_INIT;
  QTask *tasks[N_THREADS + N_MORE];
  gint64 begin, end;

  begin = g_get_monotonic_time ();
  for (int i = 0; i < N_THREADS + N_MORE; i++)
    {
      tasks[i] = q_task_new (NULL, NULL, NULL, NULL);
      q_task_run_in_thread (tasks[i], test_hold_worker, &hold, NULL);
    }

  test_gate_wait_for (&hold.entered, N_THREADS);
  test_gate_wait_for (&hold.entered, N_THREADS + 1);
  end = g_get_monotonic_time ();
  g_test_message ("The eleventh began after %" G_GINT64_FORMAT " ms", (end - begin) / 1000);
  g_assert_cmpint (end - begin, >=, 90 * 1000);

  test_gate_wait_for (&hold.entered, N_THREADS + N_MORE);
  end = g_get_monotonic_time ();
  g_test_message ("The thirteenth began after %" G_GINT64_FORMAT " ms", (end - begin) / 1000);
  g_assert_cmpint (end - begin, >=, 280 * 1000);

  test_gate_open (&hold.release);
  for (int i = 0; i < N_THREADS + N_MORE; i++)
    test_finish (tasks[i]);
}

/* Ten that run and go: nobody waits for the growth. */
static void
test_default_takes_what_comes (void)
{
  TestHold hold = TEST_HOLD_INIT;
  int n = (int) many (), n_called = 0;
  QTask *held[9];

  for (guint i = 0; i < G_N_ELEMENTS (held); i++)
    {
      held[i] = q_task_new (NULL, NULL, NULL, NULL);
      q_task_run_in_thread (held[i], test_hold_worker, &hold, NULL);
    }
  test_gate_wait_for (&hold.entered, (int) G_N_ELEMENTS (held));

  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

      q_task_run_in_thread (task, test_empty_worker, NULL, NULL);
    }
  test_run_until (NULL, n_called == n);

  test_gate_open (&hold.release);
  for (guint i = 0; i < G_N_ELEMENTS (held); i++)
    test_finish (held[i]);
}

/* What a pool cannot do it says, and what can. */
static void
test_refused (void)
{
  QTaskPool *serial = q_task_pool_new_serial ("serial");
  QTaskPool *used = q_task_pool_new ("used", 1, 0);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  test_critical_says ("A serial pool runs one task at a time*q_task_pool_new()",
                      q_task_pool_set_max_threads (serial, 3));
  g_assert_cmpuint (q_task_pool_get_max_threads (serial), ==, 1);

  g_assert_true (q_task_pool_push (used, task, test_empty_worker, NULL, NULL, NULL));
  test_critical_says ("*threads*before the first task is pushed",
                      q_task_pool_set_thread_funcs (used, NULL, NULL, NULL, NULL));
  test_finish (task);
  test_pool_drop (used);
  test_pool_drop (serial);
}

/* Wrong arguments change nothing. */
static void
test_wrong_arguments (void)
{
  QTaskPool *pool = q_task_pool_new ("careful", 1, 0);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  TestFate fate = TEST_FATE_INIT;
  QTaskPoolStats stats = { 0 };

  test_critical (q_task_pool_push (NULL, task, test_empty_worker, &fate, test_fate_notify, NULL));
  test_critical (q_task_pool_push (pool, NULL, test_empty_worker, &fate, test_fate_notify, NULL));
  test_critical (q_task_pool_push ((QTaskPool *) task, task, test_empty_worker, &fate, test_fate_notify, NULL));
  test_critical (q_task_pool_push (pool, (QTask *) pool, test_empty_worker, &fate, test_fate_notify, NULL));
  test_assert_alive (&fate);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);

  test_critical (q_task_pool_get_name (NULL));
  test_critical (q_task_pool_is_serial (NULL));
  test_critical (q_task_pool_get_max_threads (NULL));
  test_critical (q_task_pool_set_max_threads (NULL, 3));
  test_critical (q_task_pool_get_max_queued (NULL));
  test_critical (q_task_pool_set_max_queued (NULL, 3));
  test_critical (q_task_pool_set_thread_funcs (NULL, NULL, NULL, NULL, NULL));
  test_critical (q_task_pool_wait_for_space (NULL, NULL, NULL));
  test_critical (q_task_pool_wait_for_space_async (NULL, NULL, NULL, NULL));
  test_critical (q_task_pool_get_timing (NULL));
  test_critical (q_task_pool_set_timing (NULL, TRUE));
  test_critical (q_task_pool_get_stats (NULL, &stats));
  test_critical (q_task_pool_get_stats (pool, NULL));
  test_critical (q_task_pool_dump (NULL));
  test_critical (q_task_pool_list_tasks (NULL));
  test_critical (q_task_pool_close (NULL, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_critical (q_task_pool_close_async (NULL, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL, NULL));
  test_critical (q_task_pool_is_closed (NULL));
  g_assert_cmpuint (q_task_pool_get_max_threads (pool), ==, 1);
  g_assert_false (q_task_pool_is_closed (pool));

  g_assert_true (q_task_pool_push (pool, task, test_empty_worker, &fate, test_fate_notify, NULL));
  test_finish (task);
  test_assert_destroyed_here (&fate);
  test_pool_drop (pool);
}

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  /* First, while the default pool has its first size */
  g_test_add_func ("/pool/default/is-one", test_default_is_one);
  g_test_add_func ("/pool/default/grows", test_default_grows);
  g_test_add_func ("/pool/default/takes-what-comes", test_default_takes_what_comes);
  g_test_add_func ("/pool/default/cannot-be-closed", test_default_cannot_be_closed);

  g_test_add_func ("/pool/new", test_new);
  g_test_add_func ("/pool/run", test_run);
  g_test_add_func ("/pool/keeps-its-tasks", test_keeps_its_tasks);
  g_test_add_func ("/pool/push/in-a-worker", test_push_in_worker);
  g_test_add_func ("/pool/push/twice", test_second_push);
  g_test_add_func ("/pool/push/cancelled-before", test_push_cancelled);
  g_test_add_func ("/pool/push/subclass-that-runs", test_push_subclass);
  g_test_add_func ("/pool/refused", test_refused);
  g_test_add_func ("/pool/wrong-arguments", test_wrong_arguments);

  g_test_add_func ("/pool/order/by-priority", test_priority_order);
  g_test_add_func ("/pool/order/extreme-priorities", test_extreme_priorities);
  g_test_add_func ("/pool/order/first-in-first-out", test_first_in_first_out);
  g_test_add_func ("/pool/order/many-priorities", test_many_priorities);
  g_test_add_func ("/pool/order/urgent-overtakes", test_urgent_overtakes);
  g_test_add_func ("/pool/serial/in-order", test_serial_order);
  g_test_add_func ("/pool/serial/beside-another", test_serial_beside_serial);

  g_test_add_func ("/pool/queue/full", test_queue_full);
  g_test_add_func ("/pool/queue/full-watches-nothing", test_queue_full_watches_nothing);
  g_test_add_func ("/pool/queue/full-closure", test_queue_full_closure);
  g_test_add_func ("/pool/queue/limit-changes", test_set_max_queued);
  g_test_add_func ("/pool/queue/first-limit", test_set_first_max_queued);
  g_test_add_func ("/pool/space/wait", test_wait_for_space);
  g_test_add_func ("/pool/space/comes-otherwise", test_wait_for_space_otherwise);
  g_test_add_func ("/pool/space/comes-by-withdrawal", test_wait_for_space_withdrawn);
  g_test_add_func ("/pool/space/wait-cancelled", test_wait_for_space_cancelled);
  g_test_add_func ("/pool/space/wait-closed", test_wait_for_space_closed);
  g_test_add_func ("/pool/space/wait-closed-by-another", test_wait_for_space_closed_by_another);
  g_test_add_func ("/pool/space/told-early", test_wait_for_space_told_early);
  g_test_add_func ("/pool/space/wait-async", test_wait_for_space_async);
  g_test_add_func ("/pool/space/wait-async-cancelled", test_wait_for_space_async_cancelled);
  g_test_add_func ("/pool/space/producers", test_producers);

  g_test_add_func ("/pool/threads/all-work", test_all_threads_work);
  g_test_add_func ("/pool/threads/unbounded", test_unbounded);
  g_test_add_func ("/pool/threads/never-more", test_never_more_threads);
  g_test_add_func ("/pool/threads/up-and-down", test_set_max_threads);
  g_test_add_func ("/pool/threads/functions", test_thread_funcs);
  g_test_add_func ("/pool/threads/initializer", test_thread_initializer);
  g_test_add_func ("/pool/threads/functions-replaced", test_thread_funcs_replaced);
  g_test_add_func ("/pool/threads/named-as-the-task", test_thread_names);

  g_test_add_func ("/pool/stats/each-state", test_stats);
  g_test_add_func ("/pool/stats/boxed", test_stats_boxed);
  g_test_add_func ("/pool/stats/parked", test_stats_parked);
  g_test_add_func ("/pool/stats/timing", test_timing);
  g_test_add_func ("/pool/dump", test_dump);
  g_test_add_func ("/pool/list-tasks", test_list_tasks);

  g_test_add_func ("/pool/close/drain", test_close_drain);
  g_test_add_func ("/pool/close/after-outcomes", test_close_after_outcomes);
  g_test_add_func ("/pool/close/stop", test_close_stop);
  g_test_add_func ("/pool/close/stop-empties-the-queue", test_close_stop_empties_the_queue);
  g_test_add_data_func ("/pool/close/drain-while-running",
                        GINT_TO_POINTER (Q_TASK_POOL_CLOSE_DRAIN), test_close_while_running);
  g_test_add_data_func ("/pool/close/stop-while-running",
                        GINT_TO_POINTER (Q_TASK_POOL_CLOSE_STOP), test_close_while_running);
  g_test_add_func ("/pool/close/empty", test_close_empty);
  g_test_add_func ("/pool/close/async", test_close_async);
  g_test_add_func ("/pool/close/async-empty", test_close_async_empty);
  g_test_add_func ("/pool/close/async-cancelled", test_close_async_cancelled);
  g_test_add_func ("/pool/close/in-own-worker", test_close_in_own_worker);
  g_test_add_func ("/pool/close/in-other-worker", test_close_in_other_worker);
  g_test_add_func ("/pool/close/in-callback", test_close_in_callback);
  g_test_add_func ("/pool/close/cancelled-wait", test_close_cancelled);
  g_test_add_func ("/pool/close/stop-after-drain", test_close_stop_after_drain);
  g_test_add_func ("/pool/close/drain-with-waits", test_close_drain_with_waits);
  g_test_add_func ("/pool/dropped/with-queued", test_dropped_with_queued);
  g_test_add_func ("/pool/dropped/on-own-thread", test_dropped_on_own_thread);
  g_test_add_func ("/pool/dropped/with-thread-functions", test_dropped_with_thread_funcs);

  return g_test_run ();
}
