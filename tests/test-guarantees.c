/* test-guarantees.c: what users are promised, and what they shall not suffer
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * /guarantee/… has what the manual guarantees, by number; those that speak of
 * forks and of a lack of threads and descriptors have programs of their own.
 * /pain/… has what users of other libraries reported, by name.
 *
 * The main thread is the owner, of the default context, unless told otherwise.
 */

#include <string.h>
#include <time.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test-util.h"

static void
count_cb (QTask *task,
          gpointer count)
{
  g_atomic_int_inc ((int *) count);
}

static gpointer
unref_thread (gpointer object)
{
  g_object_unref (object);

  return NULL;
}

/* Drops a reference in a thread that has no context. */
static void
unref_elsewhere (gpointer object)
{
  g_thread_join (g_thread_new ("unref", unref_thread, object));
}

/* 1. Exactly one outcome */

static gboolean
two_errors_worker (QTask *task,
                   gpointer opaque,
                   GError **error)
{
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "First");
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_EXISTS, "Second");
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "Third");

  return FALSE;
}

static void
test_first_error_wins (void)
{
  QTaskPool *pool = q_task_pool_new ("errors", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  test_pool_push (pool, task, two_errors_worker, NULL, NULL);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  g_assert_cmpstr (report.error->message, ==, "First");
  test_report_clear (&report);
  test_finish (task);
  test_pool_drop (pool);
}

typedef struct
{
  TestFate result;
  gboolean error_first;
} ErrorAndResult;

static gboolean
error_and_result_worker (QTask *task,
                         gpointer data,
                         GError **error)
{
  ErrorAndResult *both = data;

  if (both->error_first)
    q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");

  q_task_set_result_pointer (task, &both->result, test_fate_notify);

  if (!both->error_first)
    q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");

  return TRUE;
}

static void
test_error_beats_result (void)
{
  QTaskPool *pool = q_task_pool_new ("errors", 1, 0);

  for (int i = 0; i < 2; i++)
    {
      ErrorAndResult both = { TEST_FATE_INIT, i == 0 };
      g_autoptr (GError) error = NULL;
      QTask *task = test_pool_push_new (pool, error_and_result_worker, &both);

      test_run_until (NULL, q_task_get_completed (task));
      g_assert_true (q_task_had_error (task));
      g_assert_null (q_task_propagate_pointer (task, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
      test_finish (task);
      g_assert_cmpint (test_fate_get_count (&both.result), ==, 1);
    }

  test_pool_drop (pool);
}

static void
test_nothing_set_is_success (void)
{
  QTaskPool *pool = q_task_pool_new ("nothing", 1, 0);
  g_autoptr (GError) error = NULL;
  QTask *by_hand = q_task_new (NULL, NULL, NULL, NULL);
  QTask *by_worker = test_pool_push_new (pool, test_empty_worker, NULL);

  q_task_complete (by_hand);
  g_assert_true (q_task_get_completed (by_hand));
  g_assert_false (q_task_had_error (by_hand));
  g_assert_false (q_task_propagate_error (by_hand, &error));
  g_assert_no_error (error);
  test_finish (by_hand);

  test_run_until (NULL, q_task_get_completed (by_worker));
  g_assert_false (q_task_had_error (by_worker));
  g_assert_false (q_task_propagate_error (by_worker, &error));
  g_assert_no_error (error);
  test_finish (by_worker);
  test_pool_drop (pool);
}

static gboolean
false_worker (QTask *task,
              gpointer fate,
              GError **error)
{
  q_task_set_result_pointer (task, fate, test_fate_notify);

  return FALSE;
}

static void
test_false_is_failed (void)
{
  QTaskPool *pool = q_task_pool_new ("false", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  test_pool_push (pool, task, false_worker, &fate, NULL);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
  g_assert_cmpuint (strlen (report.error->message), >, 0);
  test_report_clear (&report);
  test_finish (task);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
  test_pool_drop (pool);
}

/* What is set after the outcome was fixed changes nothing. */
static void
test_fixed_is_fixed (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GError) error = NULL;

  q_task_set_result_int (task, 1);
  q_task_complete (task);
  test_critical_says ("The task * already has its outcome*set it before*", q_task_set_result_int (task, 2));
  test_critical_says ("The task * already has its outcome*set it before*",
                      q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_FAILED, "Too late"));
  g_assert_false (q_task_had_error (task));
  g_assert_cmpint (q_task_propagate_int (task, &error), ==, 1);
  g_assert_no_error (error);
  test_finish (task);
}

/* Expects to be told that this return is a second one */
#define second_return(statement) \
  G_STMT_START \
  { \
    g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*this second time is ignored*"); \
    statement; \
    g_test_assert_expected_messages (); \
  } \
  G_STMT_END

static void
test_second_return_is_critical (void)
{
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new_async (NULL, NULL, test_report_async_cb, &report);

  q_task_return_boolean (task, TRUE);
  second_return (q_task_return_boolean (task, FALSE));
  second_return (q_task_return_pointer (task, &fate, test_fate_notify));
  second_return (q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_FAILED, "Too late"));
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);

  /* And after the callback */
  second_return (q_task_return_boolean (task, FALSE));
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 1);
  g_assert_true (q_task_propagate_boolean (task, &error));
  g_assert_no_error (error);
  test_finish (task);
}

/* Two threads that return the same task at the same time, to within a few instructions: now
 * the one is a little earlier, now the other.
 */
#define N_RACED 50

typedef struct
{
  pthread_barrier_t begin;
  pthread_barrier_t end;
  QTask *tasks[N_RACED];
  int delays[N_RACED];
  int n_rounds;
  int n_there;
} ReturnRace;

typedef struct
{
  ReturnRace *race;
  int number;
} ReturnRacer;

static gpointer
return_racer_thread (gpointer data)
{
  ReturnRacer *racer = data;
  ReturnRace *race = racer->race;

  test_pin_thread (racer->number);
  for (int i = 0; i < race->n_rounds; i++)
    {
      pthread_barrier_wait (&race->begin);
      for (int j = 0; j < N_RACED; j++)
        {
          int delay = race->delays[j];

          test_meet (&race->n_there, 2 * (i * N_RACED + j + 1));
          for (volatile int k = racer->number == 1 ? delay : -delay; k > 0; k--)
            continue;
          q_task_return_int (race->tasks[j], racer->number);
        }
      pthread_barrier_wait (&race->end);
    }

  return NULL;
}

static void
test_two_returns_racing (void)
{
  ReturnRace race = { .n_rounds = test_scaled (20000) / N_RACED + 1 };
  ReturnRacer racers[2] = { { &race, 1 }, { &race, 2 } };
  GThread *threads[2];
  int n_won[3] = { 0 };

  pthread_barrier_init (&race.begin, NULL, 3);
  pthread_barrier_init (&race.end, NULL, 3);
  for (int i = 0; i < 2; i++)
    threads[i] = g_thread_new ("racer", return_racer_thread, &racers[i]);

  for (int i = 0; i < race.n_rounds; i++)
    {
      TestReport reports[N_RACED];

      for (int j = 0; j < N_RACED; j++)
        {
          reports[j] = (TestReport) TEST_REPORT_INIT;
          race.tasks[j] = q_task_new_async (NULL, NULL, test_report_async_cb, &reports[j]);
          race.delays[j] = g_test_rand_int_range (-20, 21);
          g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL,
                                 "*this second time is ignored*");
        }

      pthread_barrier_wait (&race.begin);
      pthread_barrier_wait (&race.end);
      g_test_assert_expected_messages ();

      for (int j = 0; j < N_RACED; j++)
        {
          g_autoptr (GError) error = NULL;
          gssize result;

          test_run_until (NULL, reports[j].called);
          test_run_pending (NULL);
          g_assert_cmpint (reports[j].called, ==, 1);
          g_assert_true (reports[j].thread == g_thread_self ());
          result = q_task_propagate_int (race.tasks[j], &error);
          g_assert_no_error (error);
          g_assert_true (result == 1 || result == 2);
          n_won[result]++;
          test_finish (race.tasks[j]);
        }
    }

  for (int i = 0; i < 2; i++)
    g_thread_join (threads[i]);
  pthread_barrier_destroy (&race.begin);
  pthread_barrier_destroy (&race.end);
  g_test_message ("The first won %d times, the second %d times", n_won[1], n_won[2]);
}

/* What the worker reports when the outcome was fixed early */
typedef struct
{
  TestHold hold;
  TestFate result;
  gboolean fails;
} LateReport;

static gboolean
late_report_worker (QTask *task,
                    gpointer data,
                    GError **error)
{
  LateReport *late = data;

  test_hold_worker (task, &late->hold, NULL);

  q_task_set_result_pointer (task, &late->result, test_fate_notify);
  if (late->fails)
    {
      q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Too late");
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "Too late, too");
    }

  return !late->fails;
}

static void
test_late_report_is_freed (gconstpointer fails)
{
  QTaskPool *pool = q_task_pool_new ("late", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  LateReport late = { TEST_HOLD_INIT, TEST_FATE_INIT, fails != NULL };
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  g_assert_true (q_task_set_return_on_cancel (task, TRUE));
  test_pool_push (pool, task, late_report_worker, &late, NULL);
  test_gate_wait (&late.hold.entered);
  q_task_cancel (task);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);

  test_gate_open (&late.hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);
  g_assert_error (q_task_get_error (task), G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_finish (task);
  g_assert_cmpint (test_fate_get_count (&late.result), ==, 1);
  test_pool_drop (pool);
}

/* Nor does what comes late take the place of the error that the callback took. */
static void
test_late_report_stays_out (gconstpointer fails)
{
  QTaskPool *pool = q_task_pool_new ("late", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  LateReport late = { TEST_HOLD_INIT, TEST_FATE_INIT, fails != NULL };
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  g_assert_true (q_task_set_return_on_cancel (task, TRUE));
  test_pool_push (pool, task, late_report_worker, &late, NULL);
  test_gate_wait (&late.hold.entered);
  q_task_set_timeout (task, 1);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  test_report_clear (&report);
  g_assert_null (q_task_get_error (task));

  test_gate_open (&late.hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_run_pending (NULL);
  g_assert_null (q_task_get_error (task));
  g_assert_true (q_task_had_error (task));
  g_assert_false (q_task_propagate_error (task, NULL));
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_finish (task);
  g_assert_cmpint (test_fate_get_count (&late.result), ==, 1);
  test_pool_drop (pool);
}

/* A task that nobody returns */
static void
bound_to_nothing_cb (QTask *task,
                     GBytes *message,
                     gpointer report)
{
  g_assert_null (message);
  test_report_cb (task, report);
}

/* Somebody whom a function is bound for waits, too. */
static void
test_never_returned_bound (void)
{
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_bind_callback (task, bound_to_nothing_cb, &report, NULL);

  g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*without ever returning*");
  g_object_unref (task);

  test_run_until (NULL, report.called);
  g_test_assert_expected_messages ();
  g_assert_error (report.error, Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED);
  test_report_clear (&report);
}

static void
test_never_returned (gconstpointer elsewhere)
{
  TestReport report = TEST_REPORT_INIT;
  TestFate source_fate = TEST_FATE_INIT, data_fate = TEST_FATE_INIT;
  GObject *source = test_probe_new (&source_fate);
  QTask *task = q_task_new_async (source, NULL, test_report_async_cb, &report);

  g_object_unref (source);
  q_task_set_task_data (task, &data_fate, test_fate_notify);

  g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*without ever returning*");
  if (elsewhere)
    unref_elsewhere (task);
  else
    g_object_unref (task);

  test_run_until (NULL, report.called);
  g_test_assert_expected_messages ();
  g_assert_error (report.error, Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED);
  g_assert_true (report.thread == g_thread_self ());
  test_report_clear (&report);

  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);
  test_assert_destroyed_here (&source_fate);
  test_assert_destroyed_here (&data_fate);
}

/* 2. Exactly one callback, by the owner */

/* The default context is idle, as long as no loop runs. Whoever completes a
 * task could hold it, and must not.
 */
static void
test_no_loop_yet (void)
{
  QTaskPool *pool = q_task_pool_new ("early", 1, 0);
  TestReport reports[10];
  TestFate fates[10], data_fates[10];
  QTask *tasks[10];

  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    {
      reports[i] = (TestReport) TEST_REPORT_INIT;
      fates[i] = (TestFate) TEST_FATE_INIT;
      data_fates[i] = (TestFate) TEST_FATE_INIT;
      tasks[i] = q_task_new (NULL, test_report_cb, &reports[i], NULL);
      q_task_set_task_data (tasks[i], &data_fates[i], test_fate_notify);
      test_pool_push (pool, tasks[i], test_empty_worker, &fates[i], test_fate_notify);
    }

  /* All that the worker does is done. */
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    {
      g_assert_cmpint (reports[i].called, ==, 0);
      g_assert_false (q_task_get_completed (tasks[i]));
      test_assert_alive (&fates[i]);
      test_assert_alive (&data_fates[i]);
    }

  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    {
      test_run_until (NULL, reports[i].called);
      g_assert_true (reports[i].thread == g_thread_self ());
      test_finish (tasks[i]);
      test_assert_destroyed_here (&fates[i]);
      test_assert_destroyed_here (&data_fates[i]);
    }

  test_pool_drop (pool);
}

static void
complete_elsewhere (gpointer task,
                    gpointer user_data)
{
  q_task_complete (task);
}

static void
return_elsewhere (gpointer task,
                  gpointer user_data)
{
  q_task_return_boolean (task, TRUE);
}

/* The same for code that completes by hand, in a thread without a context */
static void
test_completed_elsewhere (gconstpointer returns)
{
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  test_in_thread (returns != NULL ? return_elsewhere : complete_elsewhere, task);
  g_assert_cmpint (report.called, ==, 0);
  g_assert_false (q_task_get_completed (task));

  test_run_until (NULL, report.called);
  g_assert_true (report.thread == g_thread_self ());
  test_finish (task);
}

/* A worker that makes tasks is not their owner, although the default context is the
 * thread-default one there and nobody holds it: it does not call callbacks, and it does
 * not take the context away from those who are about to iterate it.
 */
typedef struct
{
  QTaskPool *other;
  TestHold hold;
  TestReport completed;
  TestReport waited;
} WorkerMakes;

static gboolean
worker_makes_worker (QTask *task,
                     gpointer data,
                     GError **error)
{
  WorkerMakes *makes = data;
  g_autoptr (QTask) completed = q_task_new (NULL, test_report_cb, &makes->completed, NULL);
  g_autoptr (QTask) waited = q_task_new (NULL, test_report_cb, &makes->waited, NULL);

  q_task_complete (completed);

  if (!q_task_pool_push (makes->other, waited, test_hold_worker, &makes->hold, NULL, error))
    return FALSE;

  return q_task_wait (waited, NULL, error);
}

static void
test_worker_is_no_owner (void)
{
  QTaskPool *pool = q_task_pool_new ("makes", 1, 0);
  WorkerMakes makes = { NULL, TEST_HOLD_INIT, TEST_REPORT_INIT, TEST_REPORT_INIT };
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  makes.other = q_task_pool_new ("other", 1, 0);
  test_pool_push (pool, task, worker_makes_worker, &makes, NULL);
  test_poll_until (test_pool_stats (pool).parked == 1);
  g_assert_true (g_main_context_acquire (NULL));
  g_main_context_release (NULL);
  test_gate_open (&makes.hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_assert_false (test_report_is_called (&makes.completed));
  g_assert_false (test_report_is_called (&makes.waited));

  test_run_until (NULL, makes.completed.called && makes.waited.called && report.called);
  g_assert_true (makes.completed.thread == g_thread_self ());
  g_assert_true (makes.waited.thread == g_thread_self ());
  g_assert_no_error (makes.waited.error);
  g_assert_no_error (report.error);
  test_finish (task);
  test_pool_drop (pool);
  test_pool_drop (makes.other);
}

/* The owner completes in place: as the holder of the context, and as the thread
 * that made the task and has the context as its default one.
 */
static void
test_completed_by_owner (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  TestReport report = TEST_REPORT_INIT;
  QTask *task;

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_complete (task);
  g_assert_cmpint (report.called, ==, 1);
  test_report_clear (&report);
  test_finish (task);

  g_main_context_push_thread_default (context);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  g_assert_true (q_task_get_context (task) == context);
  q_task_complete (task);
  g_assert_cmpint (report.called, ==, 1);
  test_report_clear (&report);
  g_assert_finalize_object (task);
  g_main_context_pop_thread_default (context);

  /* Not thread-default any more: it is handed over. */
  g_main_context_push_thread_default (context);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  g_main_context_pop_thread_default (context);
  q_task_complete (task);
  g_assert_cmpint (report.called, ==, 0);
  test_run_until (context, report.called);
  g_assert_true (report.thread == g_thread_self ());

  g_main_context_push_thread_default (context);
  g_assert_finalize_object (task);
  g_main_context_pop_thread_default (context);
}

/* A thread may make tasks for a context that another one holds. */
static void
test_context_of_another_thread (void)
{
  QTaskPool *pool = q_task_pool_new ("other", 1, 0);
  g_autoptr (TestLoop) loop = test_loop_new ("owner");
  TestReport report = TEST_REPORT_INIT;
  TestFate fates[4] = { TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT };
  GObject *source = test_probe_new (&fates[0]);
  QTask *task = q_task_new (source, test_report_cb, &report, NULL);

  g_object_unref (source);
  q_task_set_context (task, test_loop_get_context (loop));
  q_task_set_task_data (task, &fates[1], test_fate_notify);
  q_task_set_result_pointer (task, &fates[2], test_fate_notify);
  test_pool_push (pool, task, test_empty_worker, &fates[3], test_fate_notify);

  test_poll_until (test_report_is_called (&report) && q_task_get_completed (task));
  g_assert_true (report.thread == test_loop_get_thread (loop));
  test_fate_wait (&fates[3]);
  g_object_unref (task);

  for (guint i = 0; i < G_N_ELEMENTS (fates); i++)
    {
      test_fate_wait (&fates[i]);
      test_assert_destroyed_in (&fates[i], test_loop_get_thread (loop));
    }

  test_pool_drop (pool);
}

static void
test_each_called_once (void)
{
  int n = test_scaled (20000);
  QTaskPool *pool = q_task_pool_new ("many", 4, 0);
  g_autofree int *n_called = g_new0 (int, n);

  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called[i], NULL);

      q_task_set_priority (task, i % 7);
      test_pool_push (pool, task, test_empty_worker, NULL, NULL);
    }

  for (int i = 0; i < n; i++)
    test_run_until (NULL, n_called[i]);
  test_run_pending (NULL);
  for (int i = 0; i < n; i++)
    g_assert_cmpint (n_called[i], ==, 1);
  test_pool_drop (pool);
}

/* 3. What the caller gave is released where the caller lives */

/* All that a caller can hand over, and what became of it */
typedef struct
{
  TestFate source;
  TestFate cancellable;
  TestFate opaque;
  TestFate worker_data;
  TestFate task_data;
  TestFate result;
  TestFate closure;

  TestHold hold;
  GCancellable *given;
  QTask *task;
  gboolean drops_in_callback;
  gboolean opaque_alive_in_callback;
  gboolean context_goes;
  GThread *owner;
  int called;
  GError *error;
} Handed;

#define N_HANDED 7

static Handed *
handed_new (void)
{
  Handed *handed = g_new0 (Handed, 1);
  TestFate *fates = &handed->source;

  G_STATIC_ASSERT (G_STRUCT_OFFSET (Handed, closure) == (N_HANDED - 1) * sizeof (TestFate));

  for (int i = 0; i < N_HANDED; i++)
    fates[i] = (TestFate) TEST_FATE_INIT;
  handed->hold = (TestHold) TEST_HOLD_INIT;

  return handed;
}

static gboolean
handed_is_released (Handed *handed)
{
  TestFate *fates = &handed->source;

  for (int i = 0; i < N_HANDED; i++)
    if (test_fate_get_count (&fates[i]) == 0)
      return FALSE;

  return TRUE;
}

static gboolean
handed_is_called (Handed *handed)
{
  return g_atomic_int_get (&handed->called) > 0;
}

static void
handed_free (Handed *handed)
{
  g_clear_error (&handed->error);
  g_free (handed);
}

static void
handed_assert_released_in (Handed *handed,
                           GThread *thread)
{
  test_assert_destroyed_in (&handed->source, thread);
  test_assert_destroyed_in (&handed->cancellable, thread);
  test_assert_destroyed_in (&handed->opaque, thread);
  test_assert_destroyed_in (&handed->worker_data, thread);
  test_assert_destroyed_in (&handed->task_data, thread);
  test_assert_destroyed_in (&handed->result, thread);
  test_assert_destroyed_in (&handed->closure, thread);
}

static void
handed_cb (QTask *task,
           gpointer data)
{
  Handed *handed = data;

  g_assert_cmpint (handed->called, ==, 0);
  handed->owner = g_thread_self ();
  handed->opaque_alive_in_callback = test_fate_get_count (&handed->opaque) == 0;
  q_task_propagate_error (task, &handed->error);
  if (handed->drops_in_callback)
    g_object_unref (task);
  g_atomic_int_inc (&handed->called);
}

static void
handed_opaque_destroy (gpointer data)
{
  Handed *handed = data;

  g_assert_cmpint (handed->called, ==, handed->context_goes ? 0 : 1);
  test_fate_notify (&handed->opaque);
}

static void
handed_worker_data_destroy (gpointer data)
{
  Handed *handed = data;

  test_fate_notify (&handed->worker_data);
}

static void
handed_closure_destroy (gpointer fate,
                        GClosure *closure)
{
  test_fate_notify (fate);
}

static void
notify_nothing_cb (void)
{
}

/* To be called by the owner; returns the task, with a reference */
static QTask *
handed_make (Handed *handed)
{
  g_autoptr (GObject) source = test_probe_new (&handed->source);
  QTask *task;

  handed->given = test_cancellable_new (&handed->cancellable);
  task = g_object_new (Q_TYPE_TASK, "source-object", source, "cancellable", handed->given, NULL);
  q_task_set_func (task, handed_cb, handed, handed_opaque_destroy);
  q_task_set_task_data (task, &handed->task_data, test_fate_notify);
  g_signal_connect_data (task, "notify::completed", G_CALLBACK (notify_nothing_cb),
                         &handed->closure, handed_closure_destroy, 0);
  handed->task = task;

  return task;
}

/* Enters, waits for its release, sets a result, and succeeds or fails. */
static gboolean
handed_worker (QTask *task,
               gpointer data,
               GError **error)
{
  Handed *handed = data;
  g_autoptr (GObject) replaced = g_object_new (G_TYPE_OBJECT, NULL);

  test_hold_worker (task, &handed->hold, NULL);
  q_task_set_result_object (task, replaced);
  q_task_set_result_pointer (task, &handed->result, test_fate_notify);

  return !g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error);
}

typedef enum
{
  END_SUCCESS,
  END_STOPPED,
  END_WITHDRAWN,
  END_RETURN_ON_CANCEL,
  END_TIMED_OUT
} End;

typedef enum
{
  DROP_AT_ONCE,
  DROP_IN_CALLBACK,
  DROP_ELSEWHERE,
  DROP_BY_OWNER
} Drop;

#define ENDS_AND_DROPS(end, drop) GINT_TO_POINTER ((end) *16 + (drop))

static void
test_handed_over (gconstpointer data)
{
  End end = GPOINTER_TO_INT (data) / 16;
  Drop drop = GPOINTER_TO_INT (data) % 16;
  QTaskPool *pool = q_task_pool_new ("handed", 1, 0);
  Handed *handed = handed_new ();
  TestHold hold = TEST_HOLD_INIT;
  QTask *held = NULL, *task;

  if (end == END_WITHDRAWN)
    held = test_pool_push_hold (pool, &hold);

  task = handed_make (handed);
  handed->drops_in_callback = drop == DROP_IN_CALLBACK;
  if (end == END_RETURN_ON_CANCEL)
    q_task_set_return_on_cancel (task, TRUE);
  if (end == END_TIMED_OUT)
    q_task_set_timeout (task, 1);

  /* A result that was there before is released as well. */
  if (end == END_WITHDRAWN)
    q_task_set_result_pointer (task, &handed->result, test_fate_notify);

  test_pool_push (pool, task, handed_worker, handed, handed_worker_data_destroy);
  if (drop == DROP_AT_ONCE)
    g_object_unref (task);

  if (end != END_WITHDRAWN)
    test_gate_wait (&handed->hold.entered);

  switch (end)
    {
    case END_WITHDRAWN:
    case END_STOPPED:
      g_cancellable_cancel (handed->given);
      break;

    case END_RETURN_ON_CANCEL:
      g_cancellable_cancel (handed->given);
      test_run_until (NULL, handed_is_called (handed));
      /* Still in use */
      test_run_pending (NULL);
      test_assert_alive (&handed->worker_data);
      break;

    case END_TIMED_OUT:
      test_run_until (NULL, q_task_is_cancelled (handed->task));
      test_assert_alive (&handed->worker_data);
      break;

    case END_SUCCESS:
    default:
      break;
    }

  g_clear_object (&handed->given);
  test_gate_open (&handed->hold.release);
  test_run_until (NULL, handed_is_called (handed));
  g_assert_true (handed->owner == g_thread_self ());
  g_assert_true (handed->opaque_alive_in_callback);
  test_assert_destroyed_here (&handed->opaque);

  /* The worker is at its end, and holds nothing back. */
  if (held != NULL)
    test_release (held, &hold);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));

  if (drop == DROP_ELSEWHERE)
    {
      test_run_pending (NULL);
      unref_elsewhere (task);
      test_assert_alive (&handed->source);
      test_assert_alive (&handed->cancellable);
      test_assert_alive (&handed->task_data);
      test_assert_alive (&handed->closure);
    }
  else if (drop == DROP_BY_OWNER)
    {
      g_object_unref (task);
    }

  test_run_until (NULL, handed_is_released (handed));
  handed_assert_released_in (handed, g_thread_self ());

  switch (end)
    {
    case END_SUCCESS:
      g_assert_no_error (handed->error);
      break;
    case END_TIMED_OUT:
      g_assert_error (handed->error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      break;
    case END_STOPPED:
    case END_WITHDRAWN:
    case END_RETURN_ON_CANCEL:
    default:
      g_assert_error (handed->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }

  g_assert_cmpint (handed->called, ==, 1);
  handed_free (handed);
  test_pool_drop (pool);
}

/* The same where the owner is another thread than the one that looks on */
static void
handed_push_in_loop (gpointer data,
                     gpointer user_data)
{
  gpointer *both = data;
  Handed *handed = both[0];
  QTask *task = handed_make (handed);

  test_pool_push (both[1], task, handed_worker, handed, handed_worker_data_destroy);
  g_object_unref (task);
  g_clear_object (&handed->given);
}

static void
test_handed_over_in_loop (void)
{
  QTaskPool *pool = q_task_pool_new ("handed", 1, 0);
  g_autoptr (TestLoop) loop = test_loop_new ("owner");

  for (int i = 0; i < test_scaled (200); i++)
    {
      Handed *handed = handed_new ();
      gpointer both[2] = { handed, pool };

      test_loop_call (loop, handed_push_in_loop, both);
      test_gate_wait (&handed->hold.entered);
      test_gate_open (&handed->hold.release);

      test_fate_wait (&handed->source);
      test_fate_wait (&handed->cancellable);
      test_fate_wait (&handed->opaque);
      test_fate_wait (&handed->worker_data);
      test_fate_wait (&handed->task_data);
      test_fate_wait (&handed->result);
      test_fate_wait (&handed->closure);
      g_assert_true (handed->owner == test_loop_get_thread (loop));
      handed_assert_released_in (handed, test_loop_get_thread (loop));
      handed_free (handed);
    }

  test_pool_drop (pool);
}

static gboolean
unref_worker (QTask *task,
              gpointer data,
              GError **error)
{
  Handed *handed = data;

  test_hold_worker (task, &handed->hold, NULL);
  q_task_set_result_pointer (task, &handed->result, test_fate_notify);

  /* The caller's reference, given to the worker */
  g_object_unref (task);

  return TRUE;
}

static void
test_last_unref_by_worker (void)
{
  QTaskPool *pool = q_task_pool_new ("unref", 1, 0);

  for (int i = 0; i < test_scaled (500); i++)
    {
      Handed *handed = handed_new ();
      QTask *task = handed_make (handed);

      test_pool_push (pool, task, unref_worker, handed, handed_worker_data_destroy);
      g_clear_object (&handed->given);
      test_gate_wait (&handed->hold.entered);
      test_gate_open (&handed->hold.release);
      test_run_until (NULL, handed_is_released (handed));
      handed_assert_released_in (handed, g_thread_self ());
      g_assert_cmpint (handed->called, ==, 1);
      handed_free (handed);
    }

  test_pool_drop (pool);
}

/* The last reference goes in a handler of the cancellable: before the push it
 * was connected, or after; and the cancel comes from the owner or from elsewhere.
 */
static void
unref_cancelled_cb (GCancellable *cancellable,
                    gpointer task)
{
  g_object_unref (task);
}

static gpointer
cancel_thread (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);

  return NULL;
}

static void
test_last_unref_in_handler (gconstpointer data)
{
  gboolean connect_first = (GPOINTER_TO_INT (data) & 1) != 0;
  gboolean cancel_elsewhere = (GPOINTER_TO_INT (data) & 2) != 0;
  gboolean own = (GPOINTER_TO_INT (data) & 4) != 0;
  gboolean running = (GPOINTER_TO_INT (data) & 8) != 0;
  QTaskPool *pool = q_task_pool_new ("handler", 1, 0);
  Handed *handed = handed_new ();
  TestHold hold = TEST_HOLD_INIT;
  GCancellable *cancellable;
  QTask *held = NULL, *task;

  if (!running)
    held = test_pool_push_hold (pool, &hold);

  task = handed_make (handed);
  cancellable = g_object_ref (own ? q_task_get_stop_cancellable (task) : handed->given);
  if (connect_first)
    g_cancellable_connect (cancellable, G_CALLBACK (unref_cancelled_cb), task, NULL);
  q_task_set_result_pointer (task, &handed->result, test_fate_notify);
  test_pool_push (pool, task, test_stoppable_worker, &handed->hold, NULL);
  if (running)
    test_gate_wait (&handed->hold.entered);
  if (!connect_first)
    g_cancellable_connect (cancellable, G_CALLBACK (unref_cancelled_cb), task, NULL);

  if (cancel_elsewhere)
    g_thread_join (g_thread_new ("cancel", cancel_thread, handed->given));
  else
    g_cancellable_cancel (handed->given);

  g_object_unref (cancellable);
  g_clear_object (&handed->given);
  test_fate_notify (&handed->worker_data);
  test_run_until (NULL, handed_is_released (handed));
  handed_assert_released_in (handed, g_thread_self ());
  g_assert_error (handed->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  handed_free (handed);

  if (held != NULL)
    test_release (held, &hold);
  test_pool_drop (pool);
}

/* The callback, the release of its data and the notification are one dispatch. */
typedef struct
{
  TestFate opaque;
  int serial_of_notify;
  gboolean completed_in_notify;
} OneDispatch;

static void
one_dispatch_notify_cb (QTask *task,
                        GParamSpec *pspec,
                        gpointer data)
{
  OneDispatch *one = data;

  g_assert_cmpint (one->serial_of_notify, ==, 0);
  one->serial_of_notify = test_next_serial ();
  one->completed_in_notify = q_task_get_completed (task);
}

static int serial_of_callback;

static void
serial_cb (QTask *task,
           gpointer data)
{
  serial_of_callback = test_next_serial ();
  g_assert_false (q_task_get_completed (task));
}

static void
test_opaque_directly_after_callback (void)
{
  QTaskPool *pool = q_task_pool_new ("directly", 1, 0);
  OneDispatch one = { TEST_FATE_INIT, 0, FALSE };
  QTask *task = q_task_new (NULL, serial_cb, &one.opaque, test_fate_notify);

  g_signal_connect (task, "notify::completed", G_CALLBACK (one_dispatch_notify_cb), &one);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, one.serial_of_notify != 0);
  test_assert_destroyed_here (&one.opaque);
  g_assert_cmpint (serial_of_callback, <, test_fate_get_serial (&one.opaque));
  g_assert_cmpint (test_fate_get_serial (&one.opaque), <, one.serial_of_notify);
  g_assert_true (one.completed_in_notify);
  test_finish (task);
  test_pool_drop (pool);
}

static gboolean
replace_data_worker (QTask *task,
                     gpointer data,
                     GError **error)
{
  TestFate *fates = data;

  q_task_set_task_data (task, &fates[1], test_fate_notify);
  g_assert_cmpint (test_fate_get_count (&fates[0]), ==, 1);
  q_task_set_result_pointer (task, &fates[2], test_fate_notify);
  q_task_set_result_pointer (task, &fates[3], test_fate_notify);

  return TRUE;
}

static void
test_replaced_task_data (void)
{
  QTaskPool *pool = q_task_pool_new ("replaced", 1, 0);
  TestFate fates[4] = { TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT };
  TestFate first = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_task_data (task, &first, test_fate_notify);
  q_task_set_task_data (task, &fates[0], test_fate_notify);
  test_assert_destroyed_here (&first);

  test_pool_push (pool, task, replace_data_worker, fates, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  test_assert_alive (&fates[1]);
  test_finish (task);
  test_assert_destroyed_here (&fates[1]);
  g_assert_cmpint (test_fate_get_count (&fates[2]), ==, 1);
  test_assert_destroyed_here (&fates[3]);
  test_pool_drop (pool);
}

/* Worker data waits for the end of the worker, and then for its owner. */
static void
test_worker_data_by_owner (void)
{
  QTaskPool *pool = q_task_pool_new ("data", 1, 0);
  Handed *handed = handed_new ();
  QTask *task = handed_make (handed);

  test_pool_push (pool, task, handed_worker, handed, handed_worker_data_destroy);
  test_gate_open (&handed->hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_assert_alive (&handed->worker_data);
  test_assert_alive (&handed->opaque);
  test_run_until (NULL, handed_is_called (handed));
  test_assert_destroyed_here (&handed->opaque);
  test_assert_destroyed_here (&handed->worker_data);
  g_clear_object (&handed->given);
  test_finish (task);
  handed_assert_released_in (handed, g_thread_self ());
  handed_free (handed);
  test_pool_drop (pool);
}

/* A task that is held at the end of its dispose, in the first thread that gets there: the
 * reference that goes there is not gone yet.
 */
typedef struct
{
  QTask parent_instance;
  TestHold *hold;
} SlowTask;

typedef QTaskClass SlowTaskClass;

static GType slow_task_get_type (void);

G_DEFINE_TYPE (SlowTask, slow_task, q_task_get_type ())

static void
slow_task_dispose (GObject *object)
{
  TestHold *hold = g_steal_pointer (&((SlowTask *) object)->hold);

  G_OBJECT_CLASS (slow_task_parent_class)->dispose (object);

  if (hold != NULL)
    test_hold_worker (NULL, hold, NULL);
}

static void
slow_task_class_init (SlowTaskClass *klass)
{
  G_OBJECT_CLASS (klass)->dispose = slow_task_dispose;
}

static void
slow_task_init (SlowTask *self)
{
}

static QTask *
slow_task_new (TestHold *hold,
               TestFate *fate)
{
  QTask *task = g_object_new (slow_task_get_type (), NULL);

  ((SlowTask *) task)->hold = hold;
  q_task_set_task_data (task, fate, test_fate_notify);

  return task;
}

/* The owner comes to what was handed over while the other thread is not out of
 * g_object_unref() yet.
 */
static void
test_unref_is_slow (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestFate fate = TEST_FATE_INIT;
  GThread *thread;

  thread = g_thread_new ("unref", unref_thread, slow_task_new (&hold, &fate));
  test_gate_wait (&hold.entered);
  test_run_pending (NULL);
  test_assert_alive (&fate);

  test_gate_open (&hold.release);
  g_thread_join (thread);
  test_run_until (NULL, test_fate_get_count (&fate) > 0);
  test_assert_destroyed_here (&fate);
}

typedef struct
{
  TestHold *hold;
  TestFate *fate;
  TestGate is_out;
  GThread *thread;
} NextOwner;

/* Becomes the owner while the other thread, which was, is in dispose. */
static gpointer
next_owner_thread (gpointer data)
{
  NextOwner *next = data;

  next->thread = g_thread_self ();
  test_gate_wait (&next->hold->entered);
  g_assert_true (g_main_context_acquire (NULL));
  test_run_pending (NULL);
  test_gate_open (&next->hold->release);
  test_gate_wait (&next->is_out);
  test_run_until (NULL, test_fate_get_count (next->fate) > 0);
  g_main_context_release (NULL);

  return NULL;
}

/* The same for a task that is abandoned by the owner, when that is another one a moment
 * later.
 */
static void
test_abandoned_is_slow (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestFate fate = TEST_FATE_INIT;
  NextOwner next = { &hold, &fate, TEST_GATE_INIT, NULL };
  TestReport report = TEST_REPORT_INIT;
  GThread *thread;
  QTask *task;

  thread = g_thread_new ("owner", next_owner_thread, &next);
  task = slow_task_new (&hold, &fate);
  q_task_set_func (task, test_report_cb, &report, NULL);
  test_critical (g_object_unref (task));
  test_gate_open (&next.is_out);
  g_thread_join (thread);

  test_assert_destroyed_in (&fate, next.thread);
  g_assert_cmpint (report.called, ==, 1);
  g_assert_true (report.thread == next.thread);
  g_assert_error (report.error, Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED);
  test_report_clear (&report);
}

typedef struct
{
  QTask *task;
  TestFate worker_data;
} SyncElsewhere;

static void
run_sync_cb (gpointer data,
             gpointer unused)
{
  SyncElsewhere *sync = data;

  q_task_run_in_thread_sync (sync->task, test_empty_worker, &sync->worker_data,
                             test_fate_notify);
}

/* Who runs a task synchronously need not be its owner. */
static void
test_sync_run_elsewhere (void)
{
  SyncElsewhere sync = { NULL, TEST_FATE_INIT };
  TestFate opaque = TEST_FATE_INIT;

  sync.task = q_task_new (NULL, NULL, &opaque, test_fate_notify);
  test_in_thread (run_sync_cb, &sync);
  g_assert_true (q_task_get_completed (sync.task));
  test_run_until (NULL, test_fate_get_count (&opaque) > 0 &&
                          test_fate_get_count (&sync.worker_data) > 0);
  test_assert_destroyed_here (&opaque);
  test_assert_destroyed_here (&sync.worker_data);
  g_assert_finalize_object (sync.task);
}

/* 4. Order */

typedef struct
{
  int n_notified;
  double fraction;
  GThread *thread;
  gboolean after_callback;
  int called;
} ProgressLog;

static void
progress_notify_cb (QTask *task,
                    GParamSpec *pspec,
                    gpointer data)
{
  ProgressLog *log = data;

  log->n_notified++;
  log->fraction = q_task_get_progress (task);
  log->thread = g_thread_self ();
  if (log->called)
    log->after_callback = TRUE;
}

static void
progress_done_cb (QTask *task,
                  gpointer data)
{
  ProgressLog *log = data;

  log->called++;
}

static gboolean
progress_worker (QTask *task,
                 gpointer n,
                 GError **error)
{
  for (int i = 1; i <= GPOINTER_TO_INT (n); i++)
    q_task_set_progress (task, i / (double) GPOINTER_TO_INT (n), i % 2 ? "odd" : "even");

  return TRUE;
}

/* The last progress comes before the callback, however urgent the latter is and
 * however rare the former.
 */
static void
test_progress_before_callback (gconstpointer data)
{
  QTaskPool *pool = q_task_pool_new ("order", 1, 0);
  g_autofree char *text = NULL;
  ProgressLog log = { 0 };
  QTask *task = q_task_new (NULL, progress_done_cb, &log, NULL);

  q_task_set_completion_priority (task, GPOINTER_TO_INT (data));
  q_task_set_progress_interval (task, G_TIME_SPAN_HOUR);
  g_signal_connect (task, "notify::progress", G_CALLBACK (progress_notify_cb), &log);
  test_pool_push (pool, task, progress_worker, GINT_TO_POINTER (100), NULL);
  test_run_until (NULL, log.called);
  g_assert_cmpint (log.n_notified, >=, 1);
  g_assert_cmpfloat (log.fraction, ==, 1.0);
  g_assert_true (log.thread == g_thread_self ());
  text = q_task_dup_progress_text (task);
  g_assert_cmpstr (text, ==, "even");

  test_run_pending (NULL);
  g_assert_false (log.after_callback);
  g_assert_cmpint (log.called, ==, 1);
  test_finish (task);
  test_pool_drop (pool);
}

/* 5. The owner's loop stays responsive */

/* How late a timer is, at worst */
typedef struct
{
  gint64 last;
  gint64 latest;
  int n_called;
} Lateness;

#define TIMER_INTERVAL 16

static gboolean
lateness_cb (gpointer data)
{
  Lateness *lateness = data;
  gint64 now = g_get_monotonic_time ();

  lateness->latest = MAX (lateness->latest, now - lateness->last - TIMER_INTERVAL * 1000);
  lateness->last = now;
  lateness->n_called++;

  return G_SOURCE_CONTINUE;
}

static GSource *
lateness_source_new (Lateness *lateness,
                     int priority)
{
  GSource *source = g_timeout_source_new (TIMER_INTERVAL);

  lateness->last = g_get_monotonic_time ();
  g_source_set_priority (source, priority);
  g_source_set_callback (source, lateness_cb, lateness, NULL);
  g_source_attach (source, NULL);

  return source;
}

static gint64 callback_usec;

static void
busy_cb (QTask *task,
         gpointer count)
{
  gint64 begin = g_get_monotonic_time ();

  while (g_get_monotonic_time () < begin + callback_usec)
    ;

  (*(int *) count)++;
}

/* A second of callbacks is queued. A timer that had to wait for them would be a
 * second late; the machine may be busy with other things, but not that much.
 */
static void
test_responsive (void)
{
  QTaskPool *pool = q_task_pool_new ("busy", 2, 0);
  Lateness paint = { 0 }, input = { 0 };
  GSource *sources[2];
  int n, n_called = 0;
  gint64 begin, total;

  callback_usec = test_is_slow () || TEST_IS_SANITIZED ? 1000 : 20;
  n = (int) (1000000 / callback_usec);

  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, busy_cb, &n_called, NULL);

      test_pool_push (pool, task, test_empty_worker, NULL, NULL);
    }
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));

  begin = g_get_monotonic_time ();
  sources[0] = lateness_source_new (&input, 0);
  sources[1] = lateness_source_new (&paint, 120);
  test_run_until (NULL, n_called == n);
  total = g_get_monotonic_time () - begin;

  for (int i = 0; i < 2; i++)
    {
      g_source_destroy (sources[i]);
      g_source_unref (sources[i]);
    }

  /* The last interval counts, too. */
  lateness_cb (&input);
  lateness_cb (&paint);
  g_test_message ("In %d ms: a timer at priority 0 was called %d times and %d us late at worst, "
                  "one at 120 %d times and %d us",
                  (int) (total / 1000), input.n_called, (int) input.latest,
                  paint.n_called, (int) paint.latest);
  g_assert_cmpint (input.latest, <, total / 3);
  g_assert_cmpint (paint.latest, <, total / 3);
  test_pool_drop (pool);
}

static void
count_called_cb (QTask *task,
                 gpointer count)
{
  (*(int *) count)++;
}

static gint64
get_thread_usec (void)
{
  struct timespec time;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &time);

  return (gint64) time.tv_sec * G_USEC_PER_SEC + time.tv_nsec / 1000;
}

/* However many have completed while the owner did something else, it takes no time to find them:
 * at its best, since the machine may be busy with other things. */
static void
test_many_at_once (void)
{
  const int n = test_scaled (500000);
  gint64 best = G_MAXINT64;

  for (int round = 0; round < 5 && best > 5000; round++)
    {
      QTaskPool *pool = q_task_pool_new ("many", 2, 0);
      int n_called = 0;
      gint64 begin;

      for (int i = 0; i < n; i++)
        {
          g_autoptr (QTask) task = q_task_new (NULL, count_called_cb, &n_called, NULL);

          test_pool_push (pool, task, test_empty_worker, NULL, NULL);
        }
      g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
      g_assert_cmpint (n_called, ==, 0);

      begin = get_thread_usec ();
      g_assert_true (g_main_context_iteration (NULL, FALSE));
      best = MIN (best, get_thread_usec () - begin);

      test_run_until (NULL, n_called == n);
      test_pool_drop (pool);
    }

  g_test_message ("The first iteration took %d us", (int) best);
  if (!test_is_slow () && !TEST_IS_SANITIZED)
    g_assert_cmpint (best, <=, 5000);
}

/* How long the default context would sleep now, in milliseconds, or -1 */
static int
get_sleep (void)
{
  GMainContext *context = g_main_context_default ();
  int max_priority, timeout;

  g_assert_true (g_main_context_acquire (context));
  g_assert_false (g_main_context_prepare (context, &max_priority));
  g_main_context_query (context, G_MAXINT, &timeout, NULL, 0);
  g_main_context_release (context);

  return timeout;
}

/* A timeout or a late notification that has become needless leaves no trace: the loop
 * sleeps as before, also when its time has come.
 */
static void
test_loop_sleeps (void)
{
  QTaskPool *pool = q_task_pool_new ("sleeps", 2, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *tasks[3];
  gint64 begin;

  tasks[0] = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_timeout (tasks[0], 20 * 1000);
  test_pool_push (pool, tasks[0], test_hold_worker, &hold, NULL);
  tasks[1] = test_pool_push_new (pool, test_hold_worker, &hold);
  q_task_set_progress_interval (tasks[1], 20 * 1000);
  q_task_set_progress (tasks[1], 0.1, NULL);
  test_run_pending (NULL);
  q_task_set_progress (tasks[1], 0.2, NULL);
  test_run_pending (NULL);
  tasks[2] = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_timeout (tasks[2], 20 * 1000);
  test_pool_push (pool, tasks[2], test_hold_worker, &hold, NULL);
  q_task_set_timeout (tasks[2], 0);
  begin = g_get_monotonic_time ();

  test_gate_open (&hold.release);
  for (int i = 0; i < 3; i++)
    test_finish (tasks[i]);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));

  while (g_get_monotonic_time () < begin + 25 * 1000)
    g_usleep (1000);
  g_main_context_iteration (NULL, FALSE);
  for (int i = 0; i < 100; i++)
    g_assert_false (g_main_context_iteration (NULL, FALSE));
  g_assert_true (get_sleep () == -1 || get_sleep () > 60 * 60 * 1000);
  test_pool_drop (pool);
}

/* A callback runs a main loop, in which the other completions come. */
typedef struct
{
  QTask *others[10];
  int depth;
  int called;
} Nested;

static void
nested_cb (QTask *task,
           gpointer data)
{
  Nested *nested = data;

  nested->depth++;
  for (guint i = 0; i < G_N_ELEMENTS (nested->others); i++)
    test_run_until (NULL, q_task_get_completed (nested->others[i]));
  nested->called++;
}

static void
test_nested_loop (gconstpointer data)
{
  QTaskPool *pool = q_task_pool_new ("nested", 1, 0);
  Nested nested = { { NULL } };
  QTask *task = q_task_new (NULL, nested_cb, &nested, NULL);
  TestHold hold = TEST_HOLD_INIT;
  gboolean at_once = data != NULL;
  QTask *held;

  /* Either all are there in one burst, or they come while the nested loop runs. */
  held = test_pool_push_hold (pool, &hold);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (nested.others); i++)
    nested.others[i] = test_pool_push_new (pool, test_empty_worker, NULL);
  test_gate_open (&hold.release);
  if (at_once)
    g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));

  test_run_until (NULL, nested.called);
  test_finish (held);
  test_finish (task);
  for (guint i = 0; i < G_N_ELEMENTS (nested.others); i++)
    test_finish (nested.others[i]);
  test_pool_drop (pool);
}

/* Each callback runs a main loop of its own, and so on. */
typedef struct
{
  QTaskPool *pool;
  int n_left;
  int depth;
  int depth_most;
} Deep;

static void
deep_cb (QTask *task,
         gpointer data)
{
  Deep *deep = data;
  QTask *inner;

  deep->depth++;
  deep->depth_most = MAX (deep->depth_most, deep->depth);
  if (deep->n_left-- > 0)
    {
      inner = q_task_new (NULL, deep_cb, deep, NULL);
      test_pool_push (deep->pool, inner, test_empty_worker, NULL, NULL);
      test_run_until (NULL, q_task_get_completed (inner));
      g_assert_finalize_object (inner);
    }
  deep->depth--;
}

static void
test_nested_deep (void)
{
  QTaskPool *pool = q_task_pool_new ("nested", 1, 0);
  Deep deep = { pool, 20, 0, 0 };
  QTask *task = q_task_new (NULL, deep_cb, &deep, NULL);

  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  test_finish (task);
  g_assert_cmpint (deep.depth_most, ==, 21);
  test_pool_drop (pool);
}

/* 6. Waiting never deadlocks silently */

typedef struct
{
  QTaskPool *pool;
  int n_left;
  int n_ran;
  guint threads_at_end;
  GThread *first;
  GThread *last;
} Chain;

/* Pushes the next one and waits for it, and so on. */
static gboolean
chain_worker (QTask *task,
              gpointer data,
              GError **error)
{
  Chain *chain = data;
  g_autoptr (QTask) next = NULL;

  if (chain->first == NULL)
    chain->first = g_thread_self ();
  chain->n_ran++;

  if (chain->n_left-- == 0)
    {
      QTaskPoolStats stats = { 0 };

      q_task_pool_get_stats (chain->pool, &stats);
      chain->threads_at_end = stats.threads;
      chain->last = g_thread_self ();

      return TRUE;
    }

  next = q_task_new (NULL, NULL, NULL, NULL);
  if (!q_task_pool_push (chain->pool, next, chain_worker, chain, NULL, error))
    return FALSE;

  return q_task_wait (next, NULL, error);
}

static void
test_wait_in_worker (gconstpointer depth)
{
  QTaskPool *pool = q_task_pool_new ("chain", 1, 0);
  Chain chain = { pool, GPOINTER_TO_INT (depth), 0, 0, NULL, NULL };
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  test_pool_push (pool, task, chain_worker, &chain, NULL);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  g_assert_cmpint (chain.n_ran, ==, GPOINTER_TO_INT (depth) + 1);

  /* In its own slot, as long as it is not too deep */
  if (GPOINTER_TO_INT (depth) < 16)
    {
      g_assert_cmpuint (chain.threads_at_end, ==, 1);
      g_assert_true (chain.first == chain.last);
    }
  else
    {
      g_assert_cmpuint (chain.threads_at_end, ==, GPOINTER_TO_INT (depth) / 16 + 1);
      g_assert_true (chain.first != chain.last);
    }

  test_finish (task);

  /* And the pool is as good as before. */
  test_finish (test_pool_push_new (pool, test_empty_worker, NULL));
  test_pool_drop (pool);
}

static gboolean
thread_worker (QTask *task,
               gpointer thread,
               GError **error)
{
  g_atomic_pointer_set ((gpointer *) thread, g_thread_self ());

  return TRUE;
}

typedef struct
{
  QTask *awaited;
  gpointer thread;
} ThreadWaiter;

static gboolean
thread_wait_worker (QTask *task,
                    gpointer data,
                    GError **error)
{
  ThreadWaiter *waiter = data;

  g_atomic_pointer_set (&waiter->thread, g_thread_self ());

  return q_task_wait (waiter->awaited, NULL, error);
}

/* Whoever is no thread of the pool does not do its work. */
static void
test_only_own_threads_help (void)
{
  QTaskPool *pool = q_task_pool_new ("helped", 1, 0);
  QTaskPool *other = q_task_pool_new ("waits", 1, 0);
  g_autoptr (GError) error = NULL;
  ThreadWaiter waiter = { NULL, NULL };
  gpointer thread = NULL;
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *task, *waiting;

  held = test_pool_push_hold (pool, &hold);
  task = test_pool_push_new (pool, thread_worker, &thread);
  waiter.awaited = task;
  waiting = test_pool_push_new (other, thread_wait_worker, &waiter);
  test_poll_until (test_pool_stats (other).parked == 1);
  g_assert_null (g_atomic_pointer_get (&thread));

  test_gate_open (&hold.release);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (g_atomic_pointer_get (&thread) != g_thread_self ());
  g_assert_true (g_atomic_pointer_get (&thread) != g_atomic_pointer_get (&waiter.thread));
  test_finish (waiting);
  test_finish (task);
  test_finish (held);
  test_pool_drop (pool);
  test_pool_drop (other);
}

/* A parked worker does not count: what else is queued goes on. */
static void
test_compensated (void)
{
  QTaskPool *pool = q_task_pool_new ("one", 1, 0);
  QTaskPool *other = q_task_pool_new ("other", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *waiting, *tasks[20];

  held = test_pool_push_hold (other, &hold);
  waiting = test_pool_push_new (pool, test_wait_worker, held);
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    tasks[i] = test_pool_push_new (pool, test_empty_worker, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    test_finish (tasks[i]);

  g_assert_cmpint (q_task_poll (waiting), ==, Q_TASK_STATE_RUNNING);
  test_gate_open (&hold.release);
  test_finish (waiting);
  test_finish (held);
  test_pool_drop (pool);
  test_pool_drop (other);
}

/* One after another, all of a pool are parked. */
static void
test_all_parked (void)
{
  QTaskPool *pool = q_task_pool_new ("three", 3, 0);
  QTaskPool *other = q_task_pool_new ("other", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *waiting[30];

  held = test_pool_push_hold (other, &hold);
  for (guint i = 0; i < G_N_ELEMENTS (waiting); i++)
    waiting[i] = test_pool_push_new (pool, test_wait_worker, held);
  test_poll_until (test_pool_stats (pool).parked == G_N_ELEMENTS (waiting));
  test_finish (test_pool_push_new (pool, test_empty_worker, NULL));

  test_gate_open (&hold.release);
  for (guint i = 0; i < G_N_ELEMENTS (waiting); i++)
    test_finish (waiting[i]);
  test_finish (held);
  test_pool_drop (pool);
  test_pool_drop (other);
}

static gboolean
wait_self_worker (QTask *task,
                  gpointer opaque,
                  GError **error)
{
  return q_task_wait (task, NULL, error);
}

static void
test_wait_for_oneself (gconstpointer serial)
{
  QTaskPool *pool = serial ? q_task_pool_new_serial ("self") : q_task_pool_new ("self", 2, 0);
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  test_pool_push (pool, task, wait_self_worker, NULL, NULL);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  test_report_clear (&report);
  test_finish (task);
  test_pool_drop (pool);
}

/* RingItem: one that waits for the next one, once all run */
typedef struct
{
  TestGate *running;
  int n_running;
  QTask *awaited;
  GError *error;
} RingItem;

static gboolean
ring_worker (QTask *task,
             gpointer data,
             GError **error)
{
  RingItem *item = data;

  test_gate_open (item->running);
  test_gate_wait_for (item->running, item->n_running);
  q_task_wait (item->awaited, NULL, &item->error);

  return TRUE;
}

static void
run_ring (QTaskPool **pools,
          int n)
{
  TestGate running = TEST_GATE_INIT;
  g_autofree RingItem *items = g_new0 (RingItem, n);
  g_autofree QTask **tasks = g_new0 (QTask *, n);
  int n_deadlocks = 0;

  for (int i = 0; i < n; i++)
    tasks[i] = q_task_new (NULL, NULL, NULL, NULL);
  for (int i = 0; i < n; i++)
    {
      items[i] = (RingItem){ &running, n, tasks[(i + 1) % n], NULL };
      test_pool_push (pools[i], tasks[i], ring_worker, &items[i], NULL);
    }
  for (int i = 0; i < n; i++)
    test_run_until (NULL, q_task_get_completed (tasks[i]));

  for (int i = 0; i < n; i++)
    {
      if (items[i].error != NULL)
        {
          g_assert_error (items[i].error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
          n_deadlocks++;
        }
      g_clear_error (&items[i].error);
    }

  /* Who closes the ring is told; the others can go on then. */
  g_assert_cmpint (n_deadlocks, ==, 1);
  for (int i = 0; i < n; i++)
    test_finish (tasks[i]);
}

static void
test_ring (gconstpointer data)
{
  int n = GPOINTER_TO_INT (data);
  QTaskPool *pool = q_task_pool_new ("ring", (guint) n, 0);
  g_autofree QTaskPool **pools = g_new0 (QTaskPool *, n);

  for (int i = 0; i < n; i++)
    pools[i] = pool;
  for (int round = 0; round < test_scaled (200); round++)
    run_ring (pools, n);
  test_pool_drop (pool);
}

static void
test_ring_of_serial_pools (void)
{
  QTaskPool *pools[2] = { q_task_pool_new_serial ("left"), q_task_pool_new_serial ("right") };

  for (int round = 0; round < test_scaled (200); round++)
    run_ring (pools, 2);
  test_pool_drop (pools[0]);
  test_pool_drop (pools[1]);
}

/* GateWaiter: waits for a gate, and then for a task */
typedef struct
{
  TestHold hold;
  QTask *awaited;
  GError *error;
} GateWaiter;

static gboolean
gate_waiter_worker (QTask *task,
                    gpointer data,
                    GError **error)
{
  GateWaiter *waiter = data;

  test_hold_worker (task, &waiter->hold, NULL);
  q_task_wait (waiter->awaited, NULL, &waiter->error);

  return TRUE;
}

/* One in the left pool waits for one in the right pool, which waits for one that
 * is queued in the left pool: it could never come to its turn. Both are tried as
 * the one who closes the ring.
 */
static void
test_ring_through_queue (gconstpointer data)
{
  int first = GPOINTER_TO_INT (data);
  QTaskPool *pools[2] = { q_task_pool_new_serial ("left"), q_task_pool_new_serial ("right") };
  GateWaiter waiters[2];
  QTask *tasks[2], *queued;

  for (int i = 0; i < 2; i++)
    {
      waiters[i] = (GateWaiter){ TEST_HOLD_INIT, NULL, NULL };
      tasks[i] = test_pool_push_new (pools[i], gate_waiter_worker, &waiters[i]);
      test_gate_wait (&waiters[i].hold.entered);
    }
  queued = test_pool_push_new (pools[0], test_empty_worker, NULL);
  waiters[0].awaited = tasks[1];
  waiters[1].awaited = queued;

  test_gate_open (&waiters[first].hold.release);
  test_poll_until (test_pool_stats (pools[first]).parked == 1);
  test_gate_open (&waiters[!first].hold.release);

  test_finish (tasks[0]);
  test_finish (tasks[1]);
  test_finish (queued);
  g_assert_no_error (waiters[first].error);
  g_assert_error (waiters[!first].error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_clear_error (&waiters[!first].error);
  test_pool_drop (pools[0]);
  test_pool_drop (pools[1]);
}

/* The same, but the awaited one is pushed when both wait already. Whoever is told,
 * all must end.
 */
static void
test_ring_closed_by_push (void)
{
  QTaskPool *pools[2] = { q_task_pool_new_serial ("left"), q_task_pool_new_serial ("right") };
  g_autoptr (GError) error = NULL;
  GateWaiter waiters[2];
  QTask *tasks[2], *late;
  gint64 end_time;

  late = q_task_new (NULL, NULL, NULL, NULL);
  for (int i = 0; i < 2; i++)
    {
      waiters[i] = (GateWaiter){ TEST_HOLD_INIT, NULL, NULL };
      tasks[i] = test_pool_push_new (pools[i], gate_waiter_worker, &waiters[i]);
      test_gate_wait (&waiters[i].hold.entered);
    }
  waiters[0].awaited = tasks[1];
  waiters[1].awaited = late;
  for (int i = 0; i < 2; i++)
    {
      test_gate_open (&waiters[i].hold.release);
      test_poll_until (test_pool_stats (pools[i]).parked == 1);
    }

  if (!q_task_pool_push (pools[0], late, test_empty_worker, NULL, NULL, &error))
    {
      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
      q_task_complete (late);
    }

  /* This one frees itself if nobody is told. */
  end_time = g_get_monotonic_time () + 5 * G_TIME_SPAN_SECOND;
  while (!q_task_get_completed (tasks[1]) && g_get_monotonic_time () < end_time)
    {
      g_main_context_iteration (NULL, FALSE);
      g_usleep (1000);
    }
  if (!q_task_get_completed (tasks[1]))
    {
      g_test_fail_printf ("A push closed a ring of waits, and nobody was told");
      q_task_cancel (late);
    }

  test_finish (tasks[0]);
  test_finish (tasks[1]);
  test_finish (late);
  g_clear_error (&waiters[0].error);
  g_clear_error (&waiters[1].error);
  test_pool_drop (pools[0]);
  test_pool_drop (pools[1]);
}

/* One that is helped waits for its helper. */
static void
test_wait_for_helper (void)
{
  QTaskPool *pool = q_task_pool_new ("helper", 1, 0);
  g_autoptr (GError) error = NULL;
  QTask *outer, *inner;

  outer = q_task_new (NULL, NULL, NULL, NULL);
  inner = q_task_new (NULL, NULL, NULL, NULL);

  {
    TestHold hold = TEST_HOLD_INIT;
    QTask *held = test_pool_push_hold (pool, &hold);

    test_pool_push (pool, outer, test_wait_worker, inner, NULL);
    test_pool_push (pool, inner, test_wait_worker, outer, NULL);
    test_release (held, &hold);
  }

  test_run_until (NULL, q_task_get_completed (outer) && q_task_get_completed (inner));
  g_assert_true (q_task_propagate_error (inner, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_clear_error (&error);
  g_assert_false (q_task_propagate_error (outer, &error));
  g_assert_no_error (error);
  test_finish (outer);
  test_finish (inner);
  test_pool_drop (pool);
}

static gboolean
push_and_wait_worker (QTask *task,
                      gpointer pool,
                      GError **error)
{
  g_autoptr (QTask) next = q_task_new (NULL, NULL, NULL, NULL);

  if (!q_task_pool_push (pool, next, test_empty_worker, NULL, NULL, error))
    return FALSE;

  return q_task_wait (next, NULL, error);
}

static void
test_wait_in_serial_pool (void)
{
  QTaskPool *pool = q_task_pool_new_serial ("serial");
  TestReport report = TEST_REPORT_INIT;
  QTask *task, *done, *waiting;

  done = test_pool_push_new (pool, test_empty_worker, NULL);
  test_run_until (NULL, q_task_get_completed (done));

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_pool_push (pool, task, push_and_wait_worker, pool, NULL);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  test_report_clear (&report);
  test_finish (task);

  /* One that is over is no deadlock, and goes on. */
  waiting = q_task_new (NULL, test_report_cb, &report, NULL);
  test_pool_push (pool, waiting, test_wait_worker, done, NULL);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_finish (waiting);
  test_finish (done);
  test_pool_drop (pool);
}

/* Also two pools further */
static void
test_wait_in_serial_pool_for_other (void)
{
  QTaskPool *pool = q_task_pool_new_serial ("serial");
  QTaskPool *other = q_task_pool_new ("other", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  test_pool_push (pool, task, push_and_wait_worker, other, NULL);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_finish (task);
  test_pool_drop (pool);
  test_pool_drop (other);
}

static void
test_owner_waits_for_never_started (void)
{
  TestReport report = TEST_REPORT_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  g_assert_false (q_task_wait (task, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_clear_error (&error);
  g_assert_cmpint (report.called, ==, 0);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);

  q_task_complete (task);
  g_assert_cmpint (report.called, ==, 1);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  test_finish (task);
}

/* The owner that waits hears of the progress, and is what the worker waits for. */
static void
open_at_progress_cb (QTask *task,
                     GParamSpec *pspec,
                     gpointer gate)
{
  g_assert_cmpfloat (q_task_get_progress (task), ==, 0.5);
  test_gate_open (gate);
}

static gboolean
progress_and_wait_worker (QTask *task,
                          gpointer gate,
                          GError **error)
{
  q_task_set_progress (task, 0.5, NULL);
  test_gate_wait (gate);

  return TRUE;
}

static void
test_owner_waits_and_serves (void)
{
  QTaskPool *pool = q_task_pool_new ("serves", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestGate gate = TEST_GATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  g_signal_connect (task, "notify::progress", G_CALLBACK (open_at_progress_cb), &gate);
  test_pool_push (pool, task, progress_and_wait_worker, &gate, NULL);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (report.called, ==, 1);
  g_assert_no_error (report.error);
  g_assert_true (q_task_get_completed (task));
  test_finish (task);
  test_pool_drop (pool);
}

/* A queue that is full, and the only one who could make space asks for some: it
 * has space, or an error, but does not stay.
 */
static gboolean
wait_for_space_worker (QTask *task,
                       gpointer pool,
                       GError **error)
{
  return q_task_pool_wait_for_space (pool, NULL, error);
}

static void
test_wait_for_space_in_worker (gconstpointer serial)
{
  QTaskPool *pool = serial ? q_task_pool_new_serial ("space") : q_task_pool_new ("space", 1, 1);
  g_autoptr (GError) error = NULL;
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *task, *queued;
  gint64 end_time;

  q_task_pool_set_max_queued (pool, 2);
  held = test_pool_push_hold (pool, &hold);
  task = test_pool_push_new (pool, wait_for_space_worker, pool);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);
  q_task_pool_set_max_queued (pool, 1);
  test_release (held, &hold);

  end_time = g_get_monotonic_time () + 5 * G_TIME_SPAN_SECOND;
  while (!q_task_get_completed (task) && g_get_monotonic_time () < end_time)
    {
      g_main_context_iteration (NULL, FALSE);
      g_usleep (1000);
    }
  if (!q_task_get_completed (task))
    {
      g_test_fail_printf ("A worker that waits for space in its own pool stays for ever");
      q_task_pool_set_max_queued (pool, 0);
    }

  test_run_until (NULL, q_task_get_completed (task));
  if (q_task_propagate_error (task, &error))
    g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  test_finish (task);
  test_finish (queued);
  test_pool_drop (pool);
}

/* A wait in a worker can be given up. */
typedef struct
{
  QTask *awaited;
  GCancellable *cancellable;
  gint64 end_time;
} GivenUp;

static gboolean
given_up_worker (QTask *task,
                 gpointer data,
                 GError **error)
{
  GivenUp *given_up = data;

  return q_task_wait_until (given_up->awaited, given_up->end_time, given_up->cancellable, error);
}

static void
test_wait_in_worker_given_up (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  QTaskPool *other = q_task_pool_new ("other", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  GivenUp given_up = { NULL, cancellable, G_MAXINT64 };
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *task;

  held = test_pool_push_hold (other, &hold);
  given_up.awaited = held;
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_pool_push (pool, task, given_up_worker, &given_up, NULL);
  test_poll_until (test_pool_stats (pool).parked == 1);
  g_cancellable_cancel (cancellable);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  test_finish (task);

  given_up.cancellable = NULL;
  given_up.end_time = g_get_monotonic_time () + 1000;
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_pool_push (pool, task, given_up_worker, &given_up, NULL);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  test_report_clear (&report);
  test_finish (task);

  test_release (held, &hold);
  test_pool_drop (pool);
  test_pool_drop (other);
}

/* A serial pool stays so while its worker waits. */
static void
test_serial_pool_waits_alone (void)
{
  QTaskPool *pool = q_task_pool_new_serial ("serial");
  QTaskPool *other = q_task_pool_new ("other", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *waiting, *next;
  gint64 end_time;

  held = test_pool_push_hold (other, &hold);
  waiting = test_pool_push_new (pool, test_wait_worker, held);
  test_poll_until (test_pool_stats (pool).parked == 1);
  next = test_pool_push_new (pool, test_empty_worker, NULL);

  end_time = g_get_monotonic_time () + 50 * 1000;
  while (g_get_monotonic_time () < end_time)
    {
      g_assert_cmpint (q_task_poll (next), ==, Q_TASK_STATE_QUEUED);
      g_usleep (500);
    }

  test_gate_open (&hold.release);
  test_finish (next);
  test_finish (waiting);
  test_finish (held);
  test_pool_drop (pool);
  test_pool_drop (other);
}

/* One who waited for what was not started yet helps once it is, and then works again: its
 * pool counts it so.
 */
static void
test_helper_is_not_parked (void)
{
  QTaskPool *pool = q_task_pool_new ("helper", 1, 0);
  TestHold hold = TEST_HOLD_INIT, other_hold = TEST_HOLD_INIT;
  QTask *waiting, *other, *task;

  task = q_task_new (NULL, NULL, NULL, NULL);
  waiting = test_pool_push_new (pool, test_wait_worker, task);
  test_poll_until (test_pool_stats (pool).parked == 1);
  other = test_pool_push_hold (pool, &other_hold);

  /* The start wakes who waits, perhaps before there is something to help with; so does this. */
  test_pool_push (pool, task, test_hold_worker, &hold, NULL);
  q_task_set_timeout (task, G_TIME_SPAN_HOUR);
  test_gate_wait (&hold.entered);
  g_assert_cmpuint (test_pool_stats (pool).parked, ==, 0);

  test_gate_open (&hold.release);
  test_finish (waiting);
  test_finish (task);
  test_release (other, &other_hold);
  test_pool_drop (pool);
}

/* One that has helped is still a worker: it is told that it would wait for itself. */
static gboolean
wait_twice_worker (QTask *task,
                   gpointer awaited,
                   GError **error)
{
  if (!q_task_wait_until (awaited, test_end_time (), NULL, error))
    return FALSE;

  return q_task_wait_until (task, test_end_time (), NULL, error);
}

static void
test_oneself_after_helping (void)
{
  QTaskPool *pool = q_task_pool_new ("helped", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *held, *waiting, *awaited;

  held = test_pool_push_hold (pool, &hold);
  awaited = q_task_new (NULL, NULL, NULL, NULL);
  waiting = test_pool_push_new (pool, wait_twice_worker, awaited);
  test_pool_push (pool, awaited, test_empty_worker, NULL, NULL);
  test_release (held, &hold);

  test_run_until (NULL, q_task_get_completed (waiting) && q_task_get_completed (awaited));
  g_assert_true (q_task_propagate_error (waiting, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  test_finish (waiting);
  test_finish (awaited);
  test_pool_drop (pool);
}

/* What other code drives wakes who waits for it as what a worker does */
static void
test_wait_for_driven (void)
{
  QTaskPool *pool = q_task_pool_new ("driven", 1, 0);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  QTask *waiting = test_pool_push_new (pool, test_wait_worker, task);

  test_poll_until (test_pool_stats (pool).parked == 1);
  q_task_complete (task);
  test_run_until (NULL, q_task_get_completed (waiting));
  g_assert_false (q_task_had_error (waiting));
  test_finish (waiting);
  test_finish (task);
  test_pool_drop (pool);
}

/* A worker with a context of its own, that waits for a task which it owns: what is called
 * meanwhile may wait, too, so the worker does not count as parked in there.
 */
typedef struct
{
  QTaskPool *pool;
  QTaskPool *other_pool;
  TestGate seen;
  int n_notified;
  guint n_parked;
} OwnerInWorker;

static gboolean
progress_until_seen_worker (QTask *task,
                            gpointer data,
                            GError **error)
{
  OwnerInWorker *self = data;

  /* By then it is parked. */
  test_poll_until (test_pool_stats (self->pool).parked == 1);
  q_task_set_progress (task, 0.5, NULL);
  test_gate_wait (&self->seen);

  return TRUE;
}

static void
note_parked_cb (QTask *task,
                GParamSpec *pspec,
                gpointer data)
{
  OwnerInWorker *self = data;

  self->n_notified++;
  self->n_parked = MAX (self->n_parked, test_pool_stats (self->pool).parked);
  test_gate_open (&self->seen);
}

static gboolean
owner_worker (QTask *task,
              gpointer data,
              GError **error)
{
  OwnerInWorker *self = data;
  g_autoptr (GMainContext) context = g_main_context_new ();
  QTask *owned;
  gboolean waited;

  g_assert_true (g_main_context_acquire (context));
  g_main_context_push_thread_default (context);
  owned = q_task_new (NULL, NULL, NULL, NULL);
  g_signal_connect (owned, "notify::progress", G_CALLBACK (note_parked_cb), self);
  test_pool_push (self->other_pool, owned, progress_until_seen_worker, self, NULL);
  waited = q_task_wait_until (owned, test_end_time (), NULL, error);
  g_assert_true (q_task_get_completed (owned));
  g_assert_finalize_object (owned);
  g_main_context_pop_thread_default (context);
  g_main_context_release (context);

  return waited;
}

static void
test_owner_in_worker_is_not_parked (void)
{
  OwnerInWorker self = {
    q_task_pool_new ("owner", 1, 0), q_task_pool_new ("other", 1, 0), TEST_GATE_INIT, 0, 0
  };
  QTask *task = test_pool_push_new (self.pool, owner_worker, &self);
  g_autoptr (GError) error = NULL;

  test_run_until (NULL, q_task_get_completed (task));
  q_task_propagate_error (task, &error);
  g_assert_no_error (error);
  g_assert_cmpint (self.n_notified, >=, 1);
  g_assert_cmpuint (self.n_parked, ==, 0);
  test_finish (task);
  test_pool_drop (self.pool);
  test_pool_drop (self.other_pool);
}

/* A ring in which one waits by a synchronous run: whichever of the two comes last is told, and
 * there is an outcome in any case.
 */
static gboolean
sync_ring_inner_worker (QTask *task,
                        gpointer outer,
                        GError **error)
{
  return q_task_wait_until (outer, test_end_time (), NULL, error);
}

static gboolean
sync_ring_outer_worker (QTask *task,
                        gpointer data,
                        GError **error)
{
  QTask *inner = q_task_new (NULL, NULL, NULL, NULL);

  q_task_run_in_thread_sync (inner, sync_ring_inner_worker, task, NULL);
  g_assert_true (q_task_get_completed (inner));
  q_task_propagate_error (inner, error);
  g_object_unref (inner);

  return FALSE;
}

static void
test_ring_of_sync_run (void)
{
  int n = test_scaled (500);

  for (int i = 0; i < n; i++)
    {
      g_autoptr (GError) error = NULL;
      QTask *task = q_task_new (NULL, NULL, NULL, NULL);

      q_task_run_in_thread (task, sync_ring_outer_worker, NULL, NULL);
      test_run_until (NULL, q_task_get_completed (task));
      g_assert_true (q_task_propagate_error (task, &error));
      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);

      /* The worker of the other one may go on for a moment, and waits for this one. */
      test_finalize_soon (task);
    }
}

typedef struct
{
  QTask *other;
  TestHold hold;
} FormerWaiter;

/* Waits for the other one in vain, and then does something else. */
static gboolean
former_waiter_worker (QTask *task,
                      gpointer data,
                      GError **error)
{
  FormerWaiter *former = data;
  g_autoptr (GError) wait_error = NULL;

  g_assert_false (q_task_wait_until (former->other, g_get_monotonic_time () + 1000, NULL,
                                     &wait_error));
  g_assert_error (wait_error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);

  return test_hold_worker (task, &former->hold, error);
}

/* A wait that is over makes no ring. */
static void
test_no_ring_with_former_wait (void)
{
  QTaskPool *pool = q_task_pool_new ("former", 2, 0);
  FormerWaiter former = { NULL, TEST_HOLD_INIT };
  TestReport report = TEST_REPORT_INIT;
  QTask *task;

  former.other = q_task_new (NULL, test_report_cb, &report, NULL);
  task = test_pool_push_new (pool, former_waiter_worker, &former);
  test_gate_wait (&former.hold.entered);

  test_pool_push (pool, former.other, test_wait_worker, task, NULL);
  test_poll_until (test_pool_stats (pool).parked == 1 || q_task_poll (former.other) >= Q_TASK_STATE_FINISHED);
  test_gate_open (&former.hold.release);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_finish (former.other);
  test_finish (task);
  test_pool_drop (pool);
}

/* 7. Cancelling is prompt and safe */

/* Without a thread: the only one is held all the time. */
static void
test_withdrawn (gconstpointer given)
{
  QTaskPool *pool = q_task_pool_new ("withdrawn", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  TestFate fate = TEST_FATE_INIT;
  QTaskPoolStats stats = { 0 };
  QTask *held, *task;

  held = test_pool_push_hold (pool, &hold);
  task = g_object_new (Q_TYPE_TASK, "cancellable", given ? cancellable : NULL, NULL);
  q_task_set_func (task, test_report_cb, &report, NULL);
  test_pool_push (pool, task, test_hold_worker, &fate, test_fate_notify);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_QUEUED);

  if (given)
    g_cancellable_cancel (cancellable);
  else
    q_task_cancel (task);

  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.queued, ==, 0);
  g_assert_cmpuint (stats.stopped, ==, 1);

  /* In an iteration, never in place */
  g_assert_cmpint (report.called, ==, 0);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  test_assert_destroyed_here (&fate);
  test_finish (task);
  test_release (held, &hold);
  test_pool_drop (pool);
}

/* A loop that sleeps is woken by a withdrawal in another thread. */
static gpointer
cancel_later_thread (gpointer data)
{
  gpointer *both = data;

  test_gate_wait (both[1]);
  q_task_cancel (both[0]);

  return NULL;
}

static gboolean
open_gate_once_cb (gpointer gate)
{
  test_gate_open (gate);

  return G_SOURCE_REMOVE;
}

static void
test_withdrawal_wakes (void)
{
  QTaskPool *pool = q_task_pool_new ("wakes", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  TestGate gate = TEST_GATE_INIT;
  QTask *held, *task;
  GThread *thread;

  held = test_pool_push_hold (pool, &hold);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);

  {
    gpointer both[2] = { task, &gate };

    thread = g_thread_new ("cancel", cancel_later_thread, both);
    /* The last thing before the loop has nothing to do */
    g_idle_add_full (G_PRIORITY_LOW, open_gate_once_cb, &gate, NULL);
    test_run_until (NULL, report.called);
    g_thread_join (thread);
  }

  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  test_finish (task);
  test_release (held, &hold);
  test_pool_drop (pool);
}

typedef struct
{
  pthread_mutex_t mutex;
  int n;
  int numbers[10];
  int next;
} Sequence;

#define SEQUENCE_INIT \
  { \
    PTHREAD_MUTEX_INITIALIZER, 0, { 0 }, 0 \
  }

static gboolean
sequence_worker (QTask *task,
                 gpointer data,
                 GError **error)
{
  Sequence *sequence = data;

  pthread_mutex_lock (&sequence->mutex);
  sequence->numbers[sequence->n++] = GPOINTER_TO_INT (q_task_get_task_data (task));
  pthread_mutex_unlock (&sequence->mutex);

  return TRUE;
}

/* One that wants to run although it was cancelled comes first, and reads as
 * cancelled all the same.
 */
static void
test_run_cancelled (gconstpointer async)
{
  QTaskPool *pool = q_task_pool_new ("front", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  Sequence sequence = SEQUENCE_INIT;
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *tasks[5];

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < 5; i++)
    {
      if (async != NULL)
        tasks[i] = q_task_new_async (NULL, i == 3 ? cancellable : NULL, NULL, NULL);
      else
        {
          tasks[i] = q_task_new (NULL, NULL, NULL, NULL);
          q_task_set_run_cancelled (tasks[i], TRUE);
        }
      g_assert_true (q_task_get_run_cancelled (tasks[i]));
      q_task_set_priority (tasks[i], i);
      q_task_set_task_data (tasks[i], GINT_TO_POINTER (i), NULL);
      test_pool_push (pool, tasks[i], sequence_worker, &sequence, NULL);
    }

  if (async != NULL)
    g_cancellable_cancel (cancellable);
  else
    q_task_cancel (tasks[3]);
  g_assert_cmpint (q_task_poll (tasks[3]), ==, Q_TASK_STATE_QUEUED);

  test_release (held, &hold);
  for (int i = 0; i < 5; i++)
    test_run_until (NULL, q_task_get_completed (tasks[i]));
  g_assert_cmpint (sequence.n, ==, 5);
  g_assert_cmpint (sequence.numbers[0], ==, 3);
  g_assert_cmpint (sequence.numbers[1], ==, 0);
  g_assert_cmpint (sequence.numbers[4], ==, 4);
  g_assert_true (q_task_propagate_error (tasks[3], &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  for (int i = 0; i < 5; i++)
    test_finish (tasks[i]);
  test_pool_drop (pool);
}

/* A worker that runs is told by its cancellable, whoever cancelled. */
static void
test_running_is_told (gconstpointer given)
{
  QTaskPool *pool = q_task_pool_new ("told", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  QTask *task;

  task = g_object_new (Q_TYPE_TASK, "cancellable", given ? cancellable : NULL, NULL);
  q_task_set_func (task, test_report_cb, &report, NULL);
  test_pool_push (pool, task, test_stoppable_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_RUNNING);
  g_assert_false (q_task_is_cancelled (task));

  if (given)
    g_cancellable_cancel (cancellable);
  else
    q_task_cancel (task);

  g_assert_true (q_task_is_cancelled (task));
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_finish (task);
  test_pool_drop (pool);
}

/* What others share is not cancelled by a task that stops on its own. */
static void
test_shared_cancellable (gconstpointer data)
{
  gboolean by_timeout = data != NULL;
  QTaskPool *pool = q_task_pool_new ("shared", 3, 0);
  g_autoptr (GCancellable) shared = g_cancellable_new ();
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT, stopping = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task, *other;

  other = q_task_new_async (NULL, shared, NULL, NULL);
  test_pool_push (pool, other, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);

  task = q_task_new_async (NULL, shared, test_report_async_cb, &report);
  if (by_timeout)
    q_task_set_timeout (task, 1000);
  test_pool_push (pool, task, test_stoppable_worker, &stopping, NULL);
  test_gate_wait (&stopping.entered);
  if (!by_timeout)
    q_task_cancel (task);

  test_run_until (NULL, report.called);
  if (by_timeout)
    g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  else
    g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  g_assert_false (g_cancellable_is_cancelled (shared));
  g_assert_true (q_task_get_cancellable (task) == shared);
  g_assert_true (g_cancellable_is_cancelled (q_task_get_stop_cancellable (task)));
  g_assert_false (q_task_is_cancelled (other));
  test_finish (task);

  test_gate_open (&hold.release);
  test_run_until (NULL, q_task_get_completed (other));
  g_assert_false (q_task_propagate_error (other, &error));
  g_assert_no_error (error);
  test_finish (other);
  test_pool_drop (pool);
}

/* Cancelling in places where a lock might be held */
typedef struct
{
  QTask *task;
  int n_cancelled;
} CancelInside;

static void
cancel_inside_handler_cb (GCancellable *cancellable,
                          gpointer data)
{
  CancelInside *inside = data;

  inside->n_cancelled++;
  q_task_cancel (inside->task);
  g_assert_true (q_task_is_cancelled (inside->task));
  g_cancellable_cancel (cancellable);
  g_cancellable_is_cancelled (q_task_get_stop_cancellable (inside->task));
  q_task_set_timeout (inside->task, 0);
  q_task_poll (inside->task);
}

static void
test_cancel_in_handler (gconstpointer data)
{
  gboolean running = (GPOINTER_TO_INT (data) & 1) != 0;
  gboolean returns = (GPOINTER_TO_INT (data) & 2) != 0;
  QTaskPool *pool = q_task_pool_new ("inside", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestHold hold = TEST_HOLD_INIT, stopping = TEST_HOLD_INIT;
  CancelInside given = { NULL, 0 }, own = { NULL, 0 };
  TestReport report = TEST_REPORT_INIT;
  QTask *held = NULL, *task;

  if (!running)
    held = test_pool_push_hold (pool, &hold);

  task = g_object_new (Q_TYPE_TASK, "cancellable", cancellable, NULL);
  given.task = own.task = task;
  q_task_set_func (task, test_report_cb, &report, NULL);
  q_task_set_return_on_cancel (task, returns);
  g_cancellable_connect (cancellable, G_CALLBACK (cancel_inside_handler_cb), &given, NULL);
  g_cancellable_connect (q_task_get_stop_cancellable (task), G_CALLBACK (cancel_inside_handler_cb), &own, NULL);
  test_pool_push (pool, task, test_stoppable_worker, &stopping, NULL);
  if (running)
    test_gate_wait (&stopping.entered);

  g_cancellable_cancel (cancellable);
  g_assert_cmpint (given.n_cancelled, ==, 1);
  g_assert_cmpint (own.n_cancelled, ==, 1);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  if (held != NULL)
    test_release (held, &hold);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_run_pending (NULL);
  test_finish (task);
  test_pool_drop (pool);
}

static void
cancel_inside_cb (QTask *task,
                  gpointer data)
{
  CancelInside *inside = data;

  q_task_cancel (task);
  if (q_task_get_cancellable (task) != NULL)
    g_cancellable_cancel (q_task_get_cancellable (task));
  inside->n_cancelled++;
}

static void
test_cancel_in_callback (void)
{
  QTaskPool *pool = q_task_pool_new ("inside", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  CancelInside inside = { NULL, 0 };
  QTask *task;

  task = g_object_new (Q_TYPE_TASK, "cancellable", cancellable, NULL);
  q_task_set_func (task, cancel_inside_cb, &inside, NULL);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, inside.n_cancelled);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_FINISHED);
  test_run_pending (NULL);
  g_assert_cmpint (inside.n_cancelled, ==, 1);
  test_finish (task);
  test_pool_drop (pool);
}

/* A handler that is at work in another thread, and waits for the owner, does not
 * hold up the completion: the owner does not wait for handlers.
 */
typedef struct
{
  TestGate entered;
  TestGate go_on;
} SlowHandler;

static void
slow_handler_cb (GCancellable *cancellable,
                 gpointer data)
{
  SlowHandler *slow = data;

  test_gate_open (&slow->entered);
  test_gate_wait (&slow->go_on);
}

static void
test_no_wait_for_handlers (void)
{
  QTaskPool *pool = q_task_pool_new ("slow", 1, 0);
  GCancellable *cancellable = g_cancellable_new ();
  SlowHandler slow = { TEST_GATE_INIT, TEST_GATE_INIT };
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  GThread *thread;
  QTask *task;

  /* Connected before the task does, so that it is called before */
  g_cancellable_connect (cancellable, G_CALLBACK (slow_handler_cb), &slow, NULL);
  task = g_object_new (Q_TYPE_TASK, "cancellable", cancellable, NULL);
  q_task_set_func (task, test_report_cb, &report, NULL);
  test_pool_push (pool, task, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);

  thread = g_thread_new ("cancel", cancel_thread, cancellable);
  test_gate_wait (&slow.entered);
  test_gate_open (&hold.release);
  test_run_until (NULL, report.called);
  test_report_clear (&report);
  test_gate_open (&slow.go_on);
  g_thread_join (thread);
  test_finish (task);
  g_assert_finalize_object (cancellable);
  test_pool_drop (pool);
}

/* One that runs though it was cancelled, before it was pushed, is the first to run, too. */
static void
test_run_cancelled_before (void)
{
  QTaskPool *pool = q_task_pool_new ("first", 1, 0);
  TestReport reports[2] = { TEST_REPORT_INIT, TEST_REPORT_INIT };
  TestHold hold = TEST_HOLD_INIT;
  QTask *tasks[2], *held;
  int n_ran = 0;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < 2; i++)
    {
      tasks[i] = q_task_new (NULL, test_report_cb, &reports[i], NULL);
      q_task_set_run_cancelled (tasks[i], TRUE);
      if (i == 1)
        q_task_cancel (tasks[i]);
      test_pool_push (pool, tasks[i], test_count_worker, &n_ran, NULL);
    }
  test_release (held, &hold);
  test_run_until (NULL, reports[0].called && reports[1].called);
  g_assert_cmpint (n_ran, ==, 2);
  g_assert_cmpint (reports[1].serial, <, reports[0].serial);
  g_assert_error (reports[1].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  for (int i = 0; i < 2; i++)
    {
      test_report_clear (&reports[i]);
      test_finish (tasks[i]);
    }
  test_pool_drop (pool);
}

/* Hammered: a cancel at each edge of the life of a task, by its own means or the
 * given ones, with each way to behave.
 */
typedef struct
{
  pthread_barrier_t begin;
  pthread_barrier_t end;
  QTask *task;
  GCancellable *cancellable;
  int n_rounds;
  int spin;
  volatile int sink;
} CancelRace;

static gpointer
cancel_racer_thread (gpointer data)
{
  CancelRace *race = data;

  for (int i = 0; i < race->n_rounds; i++)
    {
      pthread_barrier_wait (&race->begin);
      for (int j = 0; j < race->spin; j++)
        race->sink = j;
      if (race->cancellable != NULL)
        g_cancellable_cancel (race->cancellable);
      else
        q_task_cancel (race->task);
      pthread_barrier_wait (&race->end);
    }

  return NULL;
}

static gboolean
check_worker (QTask *task,
              gpointer n_ran,
              GError **error)
{
  QTaskState state = q_task_poll (task);

  /* One that was withdrawn never gets here. */
  g_assert_true (state == Q_TASK_STATE_RUNNING || state == Q_TASK_STATE_STOPPING);
  g_atomic_int_inc ((int *) n_ran);

  return !g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error);
}

static void
test_cancel_hammered (gconstpointer data)
{
  int how = GPOINTER_TO_INT (data);
  gboolean given = (how & 1) != 0, run_cancelled = (how & 2) != 0, returns = (how & 4) != 0;
  QTaskPool *pool = q_task_pool_new ("hammered", 1, 0);
  CancelRace race = { .n_rounds = test_scaled (3000) };
  int n_cancelled = 0, n_run = 0;
  GThread *thread;

  pthread_barrier_init (&race.begin, NULL, 2);
  pthread_barrier_init (&race.end, NULL, 2);
  thread = g_thread_new ("cancel", cancel_racer_thread, &race);

  for (int i = 0; i < race.n_rounds; i++)
    {
      g_autoptr (GCancellable) cancellable = given ? g_cancellable_new () : NULL;
      TestReport report = TEST_REPORT_INIT;
      TestFate fate = TEST_FATE_INIT;
      int n_ran = 0, when = i % 3;

      race.cancellable = cancellable;
      race.spin = g_test_rand_int_range (0, 3000);
      race.task = g_object_new (Q_TYPE_TASK, "cancellable", cancellable, NULL);
      q_task_set_func (race.task, test_report_cb, &report, NULL);
      q_task_set_run_cancelled (race.task, run_cancelled);
      q_task_set_return_on_cancel (race.task, returns);
      q_task_set_task_data (race.task, &fate, test_fate_notify);

      /* While it is pushed, while it is queued and begins, while it completes */
      if (when == 0)
        pthread_barrier_wait (&race.begin);
      test_pool_push (pool, race.task, check_worker, &n_ran, NULL);
      if (when == 1)
        pthread_barrier_wait (&race.begin);
      if (when == 2)
        {
          test_poll_until (q_task_poll (race.task) != Q_TASK_STATE_QUEUED);
          pthread_barrier_wait (&race.begin);
        }

      test_run_until (NULL, report.called);
      pthread_barrier_wait (&race.end);

      g_assert_cmpint (report.called, ==, 1);
      g_assert_true (report.thread == g_thread_self ());
      if (report.error != NULL)
        {
          g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          n_cancelled++;
        }
      else
        g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 1);
      test_report_clear (&report);

      /* With return-on-cancel the worker may be at it yet. */
      test_run_until (NULL, q_task_poll (race.task) >= Q_TASK_STATE_FINISHED ||
                              (g_thread_yield (), g_main_context_wakeup (NULL), FALSE));
      test_run_pending (NULL);
      n_run += g_atomic_int_get (&n_ran);
      g_assert_cmpint (report.called, ==, 0);
      g_object_unref (race.task);
      test_run_until (NULL, test_fate_get_count (&fate) == 1);
      test_assert_destroyed_here (&fate);
    }

  g_thread_join (thread);
  pthread_barrier_destroy (&race.begin);
  pthread_barrier_destroy (&race.end);
  g_test_message ("Of %d, %d ran and %d were cancelled", race.n_rounds, n_run, n_cancelled);
  if (run_cancelled && !returns)
    g_assert_cmpint (n_run, ==, race.n_rounds);
  test_pool_drop (pool);
}

/* A cancel while the task is being pushed to a pool whose one thread is at work: it never runs,
 * and does not stay in the queue, whichever comes first.
 */
typedef struct
{
  pthread_barrier_t begin;
  pthread_barrier_t end;
  QTaskPool *pool;
  QTask *tasks[N_RACED];
  int delays[N_RACED];
  int n_rounds;
  int n_there;
  int n_ran;
} PushRace;

static gpointer
pushing_thread (gpointer data)
{
  PushRace *race = data;

  test_pin_thread (0);
  for (int i = 0; i < race->n_rounds; i++)
    {
      pthread_barrier_wait (&race->begin);
      for (int j = 0; j < N_RACED; j++)
        {
          test_meet (&race->n_there, 2 * (i * N_RACED + j + 1));
          test_pool_push (race->pool, race->tasks[j], check_worker, &race->n_ran, NULL);
        }
      pthread_barrier_wait (&race->end);
    }

  return NULL;
}

static gpointer
cancelling_thread (gpointer data)
{
  PushRace *race = data;

  test_pin_thread (1);
  for (int i = 0; i < race->n_rounds; i++)
    {
      pthread_barrier_wait (&race->begin);
      for (int j = 0; j < N_RACED; j++)
        {
          int delay = race->delays[j];

          test_meet (&race->n_there, 2 * (i * N_RACED + j + 1));
          for (volatile int k = delay; k > 0; k--)
            continue;
          q_task_cancel (race->tasks[j]);
        }
      pthread_barrier_wait (&race->end);
    }

  return NULL;
}

static void
test_cancel_while_pushed (void)
{
  PushRace race = {
    .pool = q_task_pool_new ("pushed", 1, 0), .n_rounds = test_scaled (20000) / N_RACED + 1
  };
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0;
  GThread *threads[2];
  QTask *held;

  held = test_pool_push_hold (race.pool, &hold);
  pthread_barrier_init (&race.begin, NULL, 3);
  pthread_barrier_init (&race.end, NULL, 3);
  threads[0] = g_thread_new ("push", pushing_thread, &race);
  threads[1] = g_thread_new ("cancel", cancelling_thread, &race);

  for (int i = 0; i < race.n_rounds; i++)
    {
      QTaskPoolStats stats = { 0 };

      for (int j = 0; j < N_RACED; j++)
        {
          race.tasks[j] = q_task_new (NULL, count_cb, &n_called, NULL);
          race.delays[j] = g_test_rand_int_range (0, 500);
        }
      pthread_barrier_wait (&race.begin);
      pthread_barrier_wait (&race.end);

      q_task_pool_get_stats (race.pool, &stats);
      g_assert_cmpuint (stats.queued, ==, 0);
      test_run_until (NULL, n_called == (i + 1) * N_RACED);
      for (int j = 0; j < N_RACED; j++)
        {
          g_assert_cmpint (q_task_poll (race.tasks[j]), ==, Q_TASK_STATE_STOPPED);
          test_finish (race.tasks[j]);
        }
    }

  for (int i = 0; i < 2; i++)
    g_thread_join (threads[i]);
  pthread_barrier_destroy (&race.begin);
  pthread_barrier_destroy (&race.end);
  test_release (held, &hold);
  g_assert_cmpint (race.n_ran, ==, 0);
  test_pool_drop (race.pool);
}

/* A cancel while the pool takes the task out of its queue: it runs, or it does not and is stopped.
 * The one before it tells when its turn is near.
 */
typedef struct
{
  pthread_barrier_t begin;
  pthread_barrier_t end;
  QTask *tasks[N_RACED];
  int delays[N_RACED];
  int n_rounds;
  int n_there;
  int n_met;
} TakeRace;

static void
pin_second (gpointer unused)
{
  test_pin_thread (1);
}

static gboolean
meeting_worker (QTask *task,
                gpointer data,
                GError **error)
{
  TakeRace *race = data;

  test_meet (&race->n_there, 2 * ++race->n_met);

  return TRUE;
}

static gpointer
cancelling_taken_thread (gpointer data)
{
  TakeRace *race = data;

  test_pin_thread (0);
  for (int i = 0; i < race->n_rounds; i++)
    {
      pthread_barrier_wait (&race->begin);
      for (int j = 0; j < N_RACED; j++)
        {
          int delay = race->delays[j];

          test_meet (&race->n_there, 2 * (i * N_RACED + j + 1));
          for (volatile int k = delay; k > 0; k--)
            continue;
          q_task_cancel (race->tasks[j]);
        }
      pthread_barrier_wait (&race->end);
    }

  return NULL;
}

static void
test_cancel_while_taken (void)
{
  QTaskPool *pool = q_task_pool_new ("taken", 1, 0);
  TakeRace race = { .n_rounds = test_scaled (3000) / N_RACED + 1 };
  int n_called = 0, n_ran = 0, n_stopped = 0;
  GThread *thread;

  q_task_pool_set_thread_funcs (pool, pin_second, NULL, NULL, NULL);
  pthread_barrier_init (&race.begin, NULL, 2);
  pthread_barrier_init (&race.end, NULL, 2);
  thread = g_thread_new ("cancel", cancelling_taken_thread, &race);

  for (int i = 0; i < race.n_rounds; i++)
    {
      TestHold hold = TEST_HOLD_INIT;
      QTask *held = test_pool_push_hold (pool, &hold);

      for (int j = 0; j < N_RACED; j++)
        {
          g_autoptr (QTask) before = q_task_new (NULL, count_cb, &n_called, NULL);

          test_pool_push (pool, before, meeting_worker, &race, NULL);
          race.tasks[j] = q_task_new (NULL, count_cb, &n_called, NULL);
          race.delays[j] = g_test_rand_int_range (0, 1000);
          test_pool_push (pool, race.tasks[j], check_worker, &n_ran, NULL);
        }
      pthread_barrier_wait (&race.begin);
      test_release (held, &hold);
      pthread_barrier_wait (&race.end);

      test_run_until (NULL, n_called == (i + 1) * 2 * N_RACED);
      for (int j = 0; j < N_RACED; j++)
        {
          n_stopped += q_task_poll (race.tasks[j]) == Q_TASK_STATE_STOPPED;
          test_finish (race.tasks[j]);
        }
    }

  g_thread_join (thread);
  pthread_barrier_destroy (&race.begin);
  pthread_barrier_destroy (&race.end);
  g_test_message ("Of %d, %d ran and %d were stopped", race.n_rounds * N_RACED, n_ran, n_stopped);
  test_pool_drop (pool);
}

/* The owner waits, and somebody cancels: the wait ends, with the callback called, while
 * the task is still in the queue, or about to leave it.
 */
static void
test_cancel_while_owner_waits (gconstpointer data)
{
  gboolean run_cancelled = (GPOINTER_TO_INT (data) & 1) != 0;
  gboolean returns = (GPOINTER_TO_INT (data) & 2) != 0;
  QTaskPool *pool = q_task_pool_new ("waited", 1, 0);
  CancelRace race = { .n_rounds = test_scaled (3000) };
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0, n_run = 0;
  QTask *held = NULL;
  GThread *thread;

  /* Those that run although they were cancelled stay in the queue all the time. */
  if (!run_cancelled || returns)
    held = test_pool_push_hold (pool, &hold);

  pthread_barrier_init (&race.begin, NULL, 2);
  pthread_barrier_init (&race.end, NULL, 2);
  thread = g_thread_new ("cancel", cancel_racer_thread, &race);

  for (int i = 0; i < race.n_rounds; i++)
    {
      g_autoptr (GError) error = NULL;

      race.spin = g_test_rand_int_range (0, 3000);
      race.task = q_task_new (NULL, count_cb, &n_called, NULL);
      q_task_set_priority (race.task, g_test_rand_int_range (-5, 5));
      q_task_set_run_cancelled (race.task, run_cancelled);
      q_task_set_return_on_cancel (race.task, returns);
      test_pool_push (pool, race.task, check_worker, &n_run, NULL);
      pthread_barrier_wait (&race.begin);
      g_assert_true (q_task_wait (race.task, NULL, &error));
      g_assert_no_error (error);
      g_assert_cmpint (n_called, ==, i + 1);
      g_assert_true (q_task_get_completed (race.task));
      pthread_barrier_wait (&race.end);
      g_object_unref (race.task);
    }

  g_thread_join (thread);
  pthread_barrier_destroy (&race.begin);
  pthread_barrier_destroy (&race.end);
  if (held != NULL)
    test_release (held, &hold);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_run_pending (NULL);
  g_assert_cmpint (n_called, ==, race.n_rounds);
  test_pool_drop (pool);
}

/* Many queued ones, cancelled in another order than they came in */
static void
test_cancel_many_queued (void)
{
  int n = test_scaled (50000);
  QTaskPool *pool = q_task_pool_new ("many", 1, 0);
  g_autofree QTask **tasks = g_new0 (QTask *, n);
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0, n_ran = 0;
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < n; i++)
    {
      tasks[i] = q_task_new (NULL, count_cb, &n_called, NULL);
      q_task_set_priority (tasks[i], (int) ((guint) i * 2654435761u));
      test_pool_push (pool, tasks[i], test_count_worker, &n_ran, NULL);
    }
  for (int i = n - 1; i > 0; i--)
    {
      int j = g_test_rand_int_range (0, i + 1);
      QTask *task = tasks[i];

      tasks[i] = tasks[j];
      tasks[j] = task;
    }

  for (int i = 0; i < n; i++)
    {
      q_task_cancel (tasks[i]);
      g_assert_cmpint (q_task_poll (tasks[i]), ==, Q_TASK_STATE_STOPPED);
      g_object_unref (tasks[i]);
    }
  test_run_until (NULL, n_called == n);
  g_assert_cmpint (n_ran, ==, 0);
  test_release (held, &hold);
  test_pool_drop (pool);
}

/* Cancelling a task that is over, or never began, is nothing special. */
static void
test_cancel_before_and_after (void)
{
  QTaskPool *pool = q_task_pool_new ("edges", 1, 0);
  g_autoptr (GCancellable) given = g_cancellable_new ();
  TestReport report = TEST_REPORT_INIT;
  int n_ran = 0;
  QTask *task;

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_cancel (task);
  q_task_cancel (task);
  test_pool_push (pool, task, test_count_worker, &n_ran, NULL);
  g_assert_cmpint (report.called, ==, 0);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 0);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_finish (task);

  /* By the given one, whose handlers are not called any more */
  task = g_object_new (Q_TYPE_TASK, "cancellable", given, NULL);
  q_task_set_func (task, test_report_cb, &report, NULL);
  g_cancellable_cancel (given);
  test_pool_push (pool, task, test_count_worker, &n_ran, NULL);
  g_assert_cmpint (report.called, ==, 0);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_report_clear (&report);
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 0);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_finish (task);

  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_pool_push (pool, task, test_count_worker, &n_ran, NULL);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  q_task_cancel (task);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_FINISHED);
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 1);
  test_finish (task);
  test_pool_drop (pool);
}

/* 8. Can be bounded */

static void
test_no_descriptors (void)
{
  enum
  {
    N_THREADS = 20
  };
  QTaskPool *pool = q_task_pool_new ("frugal", N_THREADS, 0);
  g_autoptr (GError) error = NULL;
  TestHold hold = TEST_HOLD_INIT;
  QTask *tasks[N_THREADS * 2];
  int n_before;

  /* The context of the owner has one. */
  g_main_context_iteration (NULL, FALSE);
  n_before = test_count_descriptors ();

  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    tasks[i] = test_pool_push_new (pool, test_hold_worker, &hold);
  test_gate_wait_for (&hold.entered, N_THREADS);
  g_assert_cmpint (test_count_descriptors (), ==, n_before);

  q_task_cancel (tasks[0]);
  q_task_set_timeout (tasks[1], G_TIME_SPAN_HOUR);
  q_task_set_progress (tasks[2], 0.3, "Three tenths");
  g_assert_nonnull (q_task_get_stop_cancellable (tasks[3]));
  g_assert_false (q_task_wait_until (tasks[4], g_get_monotonic_time () + 100, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (test_count_descriptors (), ==, n_before);

  test_gate_open (&hold.release);
  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    test_finish (tasks[i]);
  g_assert_cmpint (test_count_descriptors (), ==, n_before);
  test_pool_drop (pool);
}

/* A full queue refuses, and loses nothing. */
static void
test_bounded_queue (void)
{
  QTaskPool *pool = q_task_pool_new ("bounded", 1, 10);
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0, n_refused = 0, n_ran = 0, n_destroyed = 0;
  QTask *held;

  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < 100; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);
      g_autoptr (GError) error = NULL;

      if (!q_task_pool_push (pool, task, test_count_worker, &n_ran, NULL, &error))
        {
          g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
          n_refused++;
          q_task_complete (task);
        }
    }

  g_assert_cmpint (n_refused, ==, 90);
  test_release (held, &hold);
  test_run_until (NULL, n_called == 100);
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 10);
  g_assert_cmpint (n_destroyed, ==, 0);
  test_pool_drop (pool);
}

/* A million of different priorities, over all of their range */
static int last_priority;
static int n_out_of_order;

static gboolean
in_order_worker (QTask *task,
                 gpointer n_ran,
                 GError **error)
{
  int priority = q_task_get_priority (task);

  if (g_atomic_int_add ((int *) n_ran, 1) > 0 && priority <= g_atomic_int_get (&last_priority))
    g_atomic_int_inc (&n_out_of_order);
  g_atomic_int_set (&last_priority, priority);

  return TRUE;
}

static void
test_million_priorities (void)
{
  int n = test_scaled (1000000);
  QTaskPool *pool = q_task_pool_new ("million", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0, n_ran = 0;
  gint64 begin = g_get_monotonic_time ();
  QTask *held;

  n_out_of_order = 0;
  held = test_pool_push_hold (pool, &hold);
  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

      /* Odd, so no two are the same */
      q_task_set_priority (task, (int) ((guint) i * 2654435761u));
      test_pool_push (pool, task, in_order_worker, &n_ran, NULL);
    }
  g_test_message ("%d were queued in %d ms", n, (int) ((g_get_monotonic_time () - begin) / 1000));

  test_release (held, &hold);
  test_run_until (NULL, n_called == n);
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, n);
  g_assert_cmpint (g_atomic_int_get (&n_out_of_order), ==, 0);
  g_test_message ("and had completed after %d ms", (int) ((g_get_monotonic_time () - begin) / 1000));
  test_pool_drop (pool);
}

/* 11. A context may go first */

typedef struct
{
  GMainContext *context;
  TestFate fate;
} ShortContext;

static gboolean
never_cb (gpointer data)
{
  return G_SOURCE_CONTINUE;
}

static void
short_context_init (ShortContext *self)
{
  g_autoptr (GSource) source = g_timeout_source_new_seconds (G_MAXINT / 2);

  self->fate = (TestFate) TEST_FATE_INIT;
  self->context = g_main_context_new ();
  g_source_set_callback (source, never_cb, &self->fate, test_fate_notify);
  g_source_attach (source, self->context);
  g_main_context_push_thread_default (self->context);
}

/* Nothing but this thread may hold the context. */
static void
short_context_end (ShortContext *self,
                   Handed *handed)
{
  test_assert_alive (&self->fate);
  if (handed != NULL)
    handed->context_goes = TRUE;
  g_main_context_unref (self->context);
  test_assert_destroyed_here (&self->fate);
}

static void
handed_assert_released_once (Handed *handed)
{
  TestFate *fates = &handed->source;

  for (int i = 0; i < N_HANDED; i++)
    {
      test_fate_wait (&fates[i]);
      g_assert_cmpint (test_fate_get_count (&fates[i]), ==, 1);
    }
}

static void
test_context_goes_while_queued (gconstpointer keeps)
{
  QTaskPool *pool = q_task_pool_new ("gone", 1, 0);
  Handed *handed = handed_new ();
  TestHold hold = TEST_HOLD_INIT;
  QTaskPoolStats stats = { 0 };
  ShortContext context;
  QTask *held, *task;

  held = test_pool_push_hold (pool, &hold);

  short_context_init (&context);
  task = handed_make (handed);
  g_assert_true (q_task_get_context (task) == context.context);
  q_task_set_result_pointer (task, &handed->result, test_fate_notify);
  test_pool_push (pool, task, handed_worker, handed, handed_worker_data_destroy);
  g_clear_object (&handed->given);
  g_main_context_pop_thread_default (context.context);
  if (!keeps)
    g_object_unref (task);
  test_assert_alive (&handed->source);
  short_context_end (&context, handed);

  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.queued, ==, 0);
  g_assert_cmpuint (stats.stopped, ==, 1);

  if (keeps)
    {
      g_autoptr (GError) error = NULL;

      g_assert_null (q_task_get_context (task));
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
      g_assert_true (q_task_wait (task, NULL, &error));
      g_assert_no_error (error);
      g_assert_true (q_task_propagate_error (task, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_object_unref (task);
    }

  handed_assert_released_once (handed);
  g_assert_cmpint (handed->called, ==, 0);
  g_assert_cmpint (test_gate_get_count (&handed->hold.entered), ==, 0);
  handed_free (handed);
  test_release (held, &hold);
  test_pool_drop (pool);
}

/* Nor does one run that would run though it was cancelled */
static void
test_context_goes_while_queued_to_run (void)
{
  QTaskPool *pool = q_task_pool_new ("gone", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  ShortContext context;
  int n_ran = 0;
  QTask *held, *task;

  held = test_pool_push_hold (pool, &hold);

  short_context_init (&context);
  task = q_task_new_async (NULL, NULL, test_report_async_cb, &report);
  g_assert_true (q_task_get_run_cancelled (task));
  test_pool_push (pool, task, test_count_worker, &n_ran, NULL);
  g_main_context_pop_thread_default (context.context);
  short_context_end (&context, NULL);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  g_assert_finalize_object (task);

  test_release (held, &hold);
  test_pool_drop (pool);
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 0);
  g_assert_cmpint (report.called, ==, 0);
}

/* What was made elsewhere goes on. */
static void
test_context_goes_alone (void)
{
  QTaskPool *pool = q_task_pool_new ("gone", 1, 0);
  TestReport reports[2] = { TEST_REPORT_INIT, TEST_REPORT_INIT };
  TestHold hold = TEST_HOLD_INIT;
  ShortContext context;
  QTask *tasks[2], *task;

  for (int i = 0; i < 2; i++)
    tasks[i] = q_task_new (NULL, test_report_cb, &reports[i], NULL);
  test_pool_push (pool, tasks[0], test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_pool_push (pool, tasks[1], test_empty_worker, NULL, NULL);

  short_context_init (&context);
  task = test_pool_push_new (pool, test_empty_worker, NULL);
  g_main_context_pop_thread_default (context.context);
  short_context_end (&context, NULL);
  g_assert_finalize_object (task);
  g_assert_cmpint (q_task_poll (tasks[0]), ==, Q_TASK_STATE_RUNNING);
  g_assert_cmpint (q_task_poll (tasks[1]), ==, Q_TASK_STATE_QUEUED);

  test_gate_open (&hold.release);
  for (int i = 0; i < 2; i++)
    {
      test_run_until (NULL, reports[i].called);
      g_assert_no_error (reports[i].error);
      test_finish (tasks[i]);
    }
  test_pool_drop (pool);
}

/* A notification that waits for its time holds the task no longer. */
static void
test_context_goes_before_progress (void)
{
  ShortContext context;
  QTask *task;

  short_context_init (&context);
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_progress_interval (task, G_TIME_SPAN_MINUTE);
  for (int i = 1; i < 3; i++)
    {
      q_task_set_progress (task, i / 4.0, NULL);
      test_run_pending (context.context);
    }
  g_main_context_pop_thread_default (context.context);
  short_context_end (&context, NULL);
  g_assert_finalize_object (task);
}

/* Asked to stop, and what the worker still uses stays until it has ended. */
static gboolean
handed_stoppable_worker (QTask *task,
                         gpointer data,
                         GError **error)
{
  Handed *handed = data;
  gboolean ok = test_stoppable_worker (task, &handed->hold, error);

  test_assert_alive (&handed->worker_data);
  test_assert_alive (&handed->source);
  g_assert_null (q_task_get_context (task));
  q_task_set_result_pointer (task, &handed->result, test_fate_notify);
  q_task_set_progress (task, 0.9, "Nobody listens");
  test_gate_wait (&handed->hold.release);
  test_assert_alive (&handed->worker_data);

  return ok;
}

static void
test_context_goes_while_running (gconstpointer keeps)
{
  QTaskPool *pool = q_task_pool_new ("gone", 1, 0);
  Handed *handed = handed_new ();
  ShortContext context;
  QTask *task;

  short_context_init (&context);
  task = handed_make (handed);
  test_pool_push (pool, task, handed_stoppable_worker, handed, handed_worker_data_destroy);
  g_clear_object (&handed->given);
  g_main_context_pop_thread_default (context.context);
  if (!keeps)
    g_object_unref (task);
  test_gate_wait (&handed->hold.entered);
  short_context_end (&context, handed);
  test_assert_alive (&handed->worker_data);

  if (keeps)
    {
      g_autoptr (GError) error = NULL;

      /* The outcome is fixed, whatever the worker does. */
      g_assert_true (q_task_wait (task, NULL, &error));
      g_assert_no_error (error);
      g_assert_true (q_task_propagate_error (task, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPING);
    }

  test_gate_open (&handed->hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  if (keeps)
    {
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
      g_object_unref (task);
    }

  handed_assert_released_once (handed);
  g_assert_cmpint (handed->called, ==, 0);
  handed_free (handed);
  test_pool_drop (pool);
}

/* The worker was at its end, and its completion on its way. */
typedef struct
{
  TestHold hold;
  TestFate fate;
} HoldAndFate;

/* A thread that asks for another context forgets the one before. */
static void
make_task_and_notify (gpointer data)
{
  g_object_unref (q_task_new (NULL, NULL, NULL, NULL));
  test_fate_notify (&((HoldAndFate *) data)->fate);
}

/* What is released in place, when there is no owner any more, has nobody remember the context
 * that has gone.
 */
static void
test_context_goes_and_is_forgotten (void)
{
  QTaskPool *pool = q_task_pool_new ("forgotten", 1, 0);
  HoldAndFate data = { TEST_HOLD_INIT, TEST_FATE_INIT };
  TestReport report = TEST_REPORT_INIT;
  ShortContext context;
  QTask *task;

  short_context_init (&context);
  task = q_task_new (NULL, NULL, NULL, NULL);
  test_pool_push (pool, task, test_hold_worker, &data, make_task_and_notify);
  test_gate_wait (&data.hold.entered);
  g_main_context_pop_thread_default (context.context);
  g_object_unref (task);
  short_context_end (&context, NULL);
  g_object_unref (q_task_new (NULL, NULL, NULL, NULL));

  test_gate_open (&data.hold.release);
  test_fate_wait (&data.fate);
  g_assert_cmpint (test_fate_get_count (&data.fate), ==, 1);

  /* The thread goes on. */
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, report.called);
  g_object_unref (task);
  test_pool_drop (pool);
  test_run_pending (NULL);
}

static void
test_context_goes_before_callback (gconstpointer keeps)
{
  QTaskPool *pool = q_task_pool_new ("gone", 1, 0);
  Handed *handed = handed_new ();
  ShortContext context;
  QTask *task;

  short_context_init (&context);
  task = handed_make (handed);
  test_pool_push (pool, task, handed_worker, handed, handed_worker_data_destroy);
  g_clear_object (&handed->given);
  g_main_context_pop_thread_default (context.context);
  if (!keeps)
    g_object_unref (task);
  test_gate_open (&handed->hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_assert_alive (&handed->opaque);
  short_context_end (&context, handed);

  if (keeps)
    g_object_unref (task);
  handed_assert_released_once (handed);
  g_assert_cmpint (handed->called, ==, 0);
  handed_free (handed);
  test_pool_drop (pool);
}

/* The last reference was on its way to an owner that went. */
static void
test_context_goes_with_reference (void)
{
  Handed *handed = handed_new ();
  ShortContext context;
  QTask *task;

  short_context_init (&context);
  task = handed_make (handed);
  q_task_set_result_pointer (task, &handed->result, test_fate_notify);
  q_task_complete (task);
  g_assert_cmpint (handed->called, ==, 1);
  g_clear_object (&handed->given);
  g_main_context_pop_thread_default (context.context);
  unref_elsewhere (task);
  test_assert_alive (&handed->source);
  short_context_end (&context, NULL);

  test_fate_notify (&handed->worker_data);
  handed_assert_released_once (handed);
  handed_free (handed);
}

/* A task that did not begin before its context went */
static void
test_context_goes_before_start (void)
{
  QTaskPool *pool = q_task_pool_new ("gone", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestFate fates[2] = { TEST_FATE_INIT, TEST_FATE_INIT };
  g_autoptr (GError) error = NULL;
  ShortContext context;
  QTask *task;

  short_context_init (&context);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_set_task_data (task, &fates[0], test_fate_notify);
  g_main_context_pop_thread_default (context.context);
  short_context_end (&context, NULL);
  g_assert_null (q_task_get_context (task));
  g_assert_true (q_task_is_cancelled (task));
  g_assert_true (g_cancellable_is_cancelled (q_task_get_stop_cancellable (task)));

  test_pool_push (pool, task, test_empty_worker, &fates[1], test_fate_notify);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_object_unref (task);
  test_fate_wait (&fates[0]);
  test_fate_wait (&fates[1]);
  g_assert_cmpint (report.called, ==, 0);
  test_pool_drop (pool);
}

/* A context that lives, but that nobody iterates, keeps what it has. */
static void
test_idle_context_keeps (void)
{
  QTaskPool *pool = q_task_pool_new ("idle", 1, 0);
  Handed *handed = handed_new ();
  g_autoptr (GMainContext) context = g_main_context_new ();
  QTask *task;

  g_main_context_push_thread_default (context);
  task = handed_make (handed);
  g_main_context_pop_thread_default (context);
  test_pool_push (pool, task, handed_worker, handed, handed_worker_data_destroy);
  g_clear_object (&handed->given);
  test_gate_open (&handed->hold.release);
  unref_elsewhere (task);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));

  test_run_pending (NULL);
  test_assert_alive (&handed->source);
  test_assert_alive (&handed->cancellable);
  test_assert_alive (&handed->opaque);
  test_assert_alive (&handed->worker_data);
  test_assert_alive (&handed->task_data);
  test_assert_alive (&handed->result);
  test_assert_alive (&handed->closure);
  g_assert_cmpint (handed->called, ==, 0);

  test_run_until (context, handed_is_released (handed));
  handed_assert_released_in (handed, g_thread_self ());
  g_assert_cmpint (handed->called, ==, 1);
  handed_free (handed);
  test_pool_drop (pool);
}

/* Others that wait for the task hear of it. */
static gpointer
wait_thread (gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_wait (data, NULL, &error));
  g_assert_no_error (error);

  return NULL;
}

static void
waited_cb (GObject *source,
           GAsyncResult *result,
           gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_wait_finish (Q_TASK (source), result, &error));
  g_assert_no_error (error);
  (*(int *) data)++;
}

static void
test_context_goes_while_waited_for (void)
{
  QTaskPool *pool = q_task_pool_new ("gone", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  ShortContext context;
  int n_waited = 0;
  GThread *thread;
  QTask *task;

  short_context_init (&context);
  task = q_task_new (NULL, NULL, NULL, NULL);
  g_main_context_pop_thread_default (context.context);
  test_pool_push (pool, task, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);

  thread = g_thread_new ("waits", wait_thread, task);
  q_task_wait_async (task, NULL, waited_cb, &n_waited);
  test_run_pending (NULL);
  g_assert_cmpint (n_waited, ==, 0);

  short_context_end (&context, NULL);
  g_thread_join (thread);
  test_run_until (NULL, n_waited);

  test_gate_open (&hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_object_unref (task);
  test_pool_drop (pool);
}

/* Pains */

static void
test_pain_worker_closure (void)
{
  QTaskPool *pool = q_task_pool_new ("closure", 1, 0);
  TestFate fate = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  ErrorAndResult both = { TEST_FATE_INIT, FALSE };

  /* A function, its data, and how to release them: nothing goes through the task. */
  test_pool_push (pool, task, test_empty_worker, &fate, test_fate_notify);
  test_finish (task);
  test_assert_destroyed_here (&fate);

  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_run_in_thread (task, test_empty_worker, &both.result, test_fate_notify);
  test_finish (task);
  test_assert_destroyed_here (&both.result);
  test_pool_drop (pool);
}

/* Strangers fill the shared pool; a pool of one's own is not concerned. */
static void
test_pain_strangers (void)
{
  QTaskPool *pool = q_task_pool_new ("own", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *strangers[10];

  for (guint i = 0; i < G_N_ELEMENTS (strangers); i++)
    {
      strangers[i] = q_task_new (NULL, NULL, NULL, NULL);
      q_task_run_in_thread (strangers[i], test_hold_worker, &hold, NULL);
    }
  test_gate_wait_for (&hold.entered, (int) G_N_ELEMENTS (strangers));

  for (int i = 0; i < 100; i++)
    test_finish (test_pool_push_new (pool, test_empty_worker, NULL));

  test_gate_open (&hold.release);
  for (guint i = 0; i < G_N_ELEMENTS (strangers); i++)
    test_finish (strangers[i]);
  test_pool_drop (pool);
}

/* A pool that is closed, dropped and at work, again and again */
static gboolean
unref_pool_worker (QTask *task,
                   gpointer pool,
                   GError **error)
{
  g_object_unref (pool);

  return TRUE;
}

static void
test_pain_shutdown (void)
{
  for (int i = 0; i < test_scaled (200); i++)
    {
      QTaskPool *pool = q_task_pool_new ("short", 3, 0);
      TestFate fate = TEST_FATE_INIT;
      g_autoptr (GError) error = NULL;
      int n_called = 0;

      test_fate_watch (&fate, pool);
      for (int j = 0; j < 20; j++)
        {
          g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

          test_pool_push (pool, task, test_empty_worker, NULL, NULL);
        }

      switch (i % 4)
        {
        case 0:
          g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
          g_assert_no_error (error);
          g_object_unref (pool);
          break;

        case 1:
          g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, &error));
          g_assert_no_error (error);
          g_object_unref (pool);
          break;

        case 2:
          g_object_unref (pool);
          break;

        default:
          {
            g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);

            g_object_ref (pool);
            test_pool_push (pool, task, unref_pool_worker, pool, NULL);
            g_object_unref (pool);
          }
        }

      test_run_until (NULL, n_called == 20);
      test_fate_wait (&fate);
    }
}

/* A flood of progress: a few notifications, the last of them included */
static void
test_pain_progress_flood (void)
{
  int n = test_scaled (200000);
  QTaskPool *pool = q_task_pool_new ("flood", 1, 0);
  ProgressLog log = { 0 };
  QTask *task = q_task_new (NULL, progress_done_cb, &log, NULL);
  gint64 begin = g_get_monotonic_time (), n_most;

  g_signal_connect (task, "notify::progress", G_CALLBACK (progress_notify_cb), &log);
  test_pool_push (pool, task, progress_worker, GINT_TO_POINTER (n), NULL);
  test_run_until (NULL, log.called);
  n_most = (g_get_monotonic_time () - begin) / 16000 + 2;
  g_test_message ("%d notifications of %d", log.n_notified, n);
  g_assert_cmpint (log.n_notified, >=, 1);
  g_assert_cmpint (log.n_notified, <=, n_most);
  g_assert_cmpfloat (log.fraction, ==, 1.0);
  g_assert_false (log.after_callback);
  test_finish (task);
  test_pool_drop (pool);
}

/* A pool that is stopped tells each of its tasks, at once. */
static void
test_pain_stop_loses (void)
{
  int n = test_scaled (5000);
  QTaskPool *pool = q_task_pool_new ("stopped", 2, 0);
  TestHold hold = TEST_HOLD_INIT;
  int n_called = 0, n_ran = 0;
  QTask *running[2];

  for (int i = 0; i < 2; i++)
    running[i] = test_pool_push_new (pool, test_stoppable_worker, &hold);
  test_gate_wait_for (&hold.entered, 2);
  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

      test_pool_push (pool, task, test_count_worker, &n_ran, NULL);
    }

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, NULL));
  test_finish (running[0]);
  test_finish (running[1]);
  test_run_until (NULL, n_called == n);
  g_assert_cmpint (g_atomic_int_get (&n_ran), ==, 0);
  test_pool_drop (pool);
}

static void
test_pain_invisible (void)
{
  QTaskPool *pool = q_task_pool_new ("in plain view", 1, 0);
  g_autoptr (GPtrArray) list = NULL;
  g_autofree char *dump = NULL;
  QTaskPoolStats stats = { 0 };
  TestHold hold = TEST_HOLD_INIT;
  QTask *held, *queued;

  held = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_name (held, "at work");
  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  queued = test_pool_push_new (pool, test_empty_worker, NULL);

  q_task_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.running, ==, 1);
  g_assert_cmpuint (stats.queued, ==, 1);
  list = q_task_pool_list_tasks (pool);
  g_assert_cmpuint (list->len, ==, 2);
  g_assert_cmpstr (q_task_pool_get_name (pool), ==, "in plain view");
  dump = q_task_pool_dump (pool);
  g_assert_nonnull (strstr (dump, "in plain view"));
  g_assert_nonnull (strstr (dump, "at work"));
  g_clear_pointer (&list, g_ptr_array_unref);

  test_release (held, &hold);
  test_finish (queued);
  test_pool_drop (pool);
}

/* A thread has the niceness of the process, and not that of who pushed. */
static int
own_niceness (void)
{
  return getpriority (PRIO_PROCESS, (id_t) syscall (SYS_gettid));
}

static gboolean
niceness_worker (QTask *task,
                 gpointer hold,
                 GError **error)
{
  test_hold_worker (task, hold, NULL);
  q_task_set_result_int (task, own_niceness ());

  return TRUE;
}

static gpointer
nice_thread (gpointer data)
{
  gpointer *all = data;
  QTask **tasks = all[1];

  g_assert_cmpint (setpriority (PRIO_PROCESS, (id_t) syscall (SYS_gettid), own_niceness () + 3), ==, 0);
  for (int i = 0; i < 4; i++)
    test_pool_push (all[0], tasks[i], niceness_worker, all[2], NULL);

  return NULL;
}

static void
test_pain_inherited_priority (void)
{
  QTaskPool *pool = q_task_pool_new ("not so nice", 4, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *tasks[4];
  gpointer all[3] = { pool, tasks, &hold };

  if (own_niceness () > 15)
    {
      g_test_skip ("The process is too nice already");
      g_object_unref (pool);
      return;
    }

  for (int i = 0; i < 4; i++)
    tasks[i] = q_task_new (NULL, NULL, NULL, NULL);
  g_thread_join (g_thread_new ("nice", nice_thread, all));
  test_gate_wait_for (&hold.entered, 4);
  test_gate_open (&hold.release);

  for (int i = 0; i < 4; i++)
    {
      g_autoptr (GError) error = NULL;

      test_run_until (NULL, q_task_get_completed (tasks[i]));
      g_assert_cmpint (q_task_propagate_int (tasks[i], &error), ==, own_niceness ());
      g_assert_no_error (error);
      test_finish (tasks[i]);
    }

  test_pool_drop (pool);
}

#define add(path, func) g_test_add_func (path, func)
#define add_data(path, data, func) g_test_add_data_func (path, GINT_TO_POINTER (data), func)

#define G1 "/guarantee/1-exactly-one-outcome"
#define G2 "/guarantee/2-exactly-one-callback-by-the-owner"
#define G3 "/guarantee/3-released-where-the-caller-lives"
#define G4 "/guarantee/4-order"
#define G5 "/guarantee/5-responsive"
#define G6 "/guarantee/6-waiting-never-deadlocks-silently"
#define G7 "/guarantee/7-cancelling-is-prompt-and-safe"
#define G8 "/guarantee/8-can-be-bounded"
#define G11 "/guarantee/11-a-context-may-go-first"

static void
add_handed_over (void)
{
  static const struct
  {
    End end;
    const char *name;
  } ends[] = {
    { END_SUCCESS, "success" },
    { END_STOPPED, "stopped" },
    { END_WITHDRAWN, "withdrawn" },
    { END_RETURN_ON_CANCEL, "return-on-cancel" },
    { END_TIMED_OUT, "timed-out" },
  };
  static const struct
  {
    Drop drop;
    const char *name;
  } drops[] = {
    { DROP_AT_ONCE, "unref-at-once" },
    { DROP_IN_CALLBACK, "unref-in-callback" },
    { DROP_ELSEWHERE, "unref-elsewhere" },
    { DROP_BY_OWNER, "unref-by-owner" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (ends); i++)
    for (guint j = 0; j < G_N_ELEMENTS (drops); j++)
      {
        g_autofree char *path = g_strdup_printf (G3 "/%s/%s", ends[i].name, drops[j].name);

        g_test_add_data_func (path, ENDS_AND_DROPS (ends[i].end, drops[j].drop), test_handed_over);
      }

  for (int i = 0; i < 16; i++)
    {
      g_autofree char *path = NULL;

      path = g_strdup_printf (G3 "/unref-in-cancelled-handler/%s-%s-%s-%s",
                              (i & 8) ? "running" : "queued",
                              (i & 4) ? "own" : "given",
                              (i & 2) ? "elsewhere" : "here",
                              (i & 1) ? "before" : "after");
      g_test_add_data_func (path, GINT_TO_POINTER (i), test_last_unref_in_handler);
    }
}

static void
add_cancel_hammered (void)
{
  for (int i = 0; i < 8; i++)
    {
      g_autofree char *path = NULL;

      path = g_strdup_printf (G7 "/hammered/%s%s%s",
                              (i & 1) ? "given" : "own",
                              (i & 2) ? "-run-cancelled" : "",
                              (i & 4) ? "-return-on-cancel" : "");
      g_test_add_data_func (path, GINT_TO_POINTER (i), test_cancel_hammered);
    }
}

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  add (G1 "/first-error-wins", test_first_error_wins);
  add (G1 "/error-beats-result", test_error_beats_result);
  add (G1 "/nothing-set-is-success", test_nothing_set_is_success);
  add (G1 "/false-without-error-is-failed", test_false_is_failed);
  add (G1 "/fixed-is-fixed", test_fixed_is_fixed);
  add (G1 "/second-return-is-critical", test_second_return_is_critical);
  add (G1 "/two-returns-racing", test_two_returns_racing);
  add_data (G1 "/late-result-is-freed", FALSE, test_late_report_is_freed);
  add_data (G1 "/late-error-is-freed", TRUE, test_late_report_is_freed);
  add_data (G1 "/late-result-stays-out", FALSE, test_late_report_stays_out);
  add_data (G1 "/late-error-stays-out", TRUE, test_late_report_stays_out);
  add_data (G1 "/never-returned", FALSE, test_never_returned);
  add_data (G1 "/never-returned-elsewhere", TRUE, test_never_returned);
  add (G1 "/never-returned-bound", test_never_returned_bound);

  add (G2 "/no-loop-runs-yet", test_no_loop_yet);
  add_data (G2 "/completed-elsewhere", FALSE, test_completed_elsewhere);
  add_data (G2 "/returned-elsewhere", TRUE, test_completed_elsewhere);
  add (G2 "/completed-by-owner", test_completed_by_owner);
  add (G2 "/worker-is-no-owner", test_worker_is_no_owner);
  add (G2 "/context-of-another-thread", test_context_of_another_thread);
  add (G2 "/each-of-many", test_each_called_once);

  add_handed_over ();
  add (G3 "/owner-in-a-loop", test_handed_over_in_loop);
  add (G3 "/unref-by-worker", test_last_unref_by_worker);
  add (G3 "/opaque-directly-after-callback", test_opaque_directly_after_callback);
  add (G3 "/replaced-task-data", test_replaced_task_data);
  add (G3 "/unref-is-slow", test_unref_is_slow);
  add (G3 "/abandoned-is-slow", test_abandoned_is_slow);
  add (G3 "/sync-run-elsewhere", test_sync_run_elsewhere);
  add (G3 "/worker-data-by-owner", test_worker_data_by_owner);

  add_data (G4 "/progress-before-callback", G_PRIORITY_DEFAULT, test_progress_before_callback);
  add_data (G4 "/progress-before-urgent-callback", G_PRIORITY_HIGH, test_progress_before_callback);
  add_data (G4 "/progress-before-lazy-callback", G_PRIORITY_LOW, test_progress_before_callback);

  add (G5 "/timers-in-time", test_responsive);
  add (G5 "/many-at-once", test_many_at_once);
  add (G5 "/loop-sleeps", test_loop_sleeps);
  add_data (G5 "/nested-loop", FALSE, test_nested_loop);
  add_data (G5 "/nested-loop-in-a-burst", TRUE, test_nested_loop);
  add (G5 "/nested-loops-twenty-deep", test_nested_deep);

  add_data (G6 "/pool-of-one", 1, test_wait_in_worker);
  add_data (G6 "/pool-of-one-fifteen-deep", 15, test_wait_in_worker);
  add_data (G6 "/pool-of-one-sixteen-deep", 16, test_wait_in_worker);
  add_data (G6 "/pool-of-one-forty-deep", 40, test_wait_in_worker);
  add_data (G6 "/pool-of-one-hundred-deep", 100, test_wait_in_worker);
  add (G6 "/only-own-threads-help", test_only_own_threads_help);
  add (G6 "/compensated", test_compensated);
  add (G6 "/all-parked", test_all_parked);
  add_data (G6 "/oneself", FALSE, test_wait_for_oneself);
  add_data (G6 "/oneself-in-serial-pool", TRUE, test_wait_for_oneself);
  add_data (G6 "/ring-of-two", 2, test_ring);
  add_data (G6 "/ring-of-three", 3, test_ring);
  add (G6 "/ring-of-two-serial-pools", test_ring_of_serial_pools);
  add_data (G6 "/ring-through-a-queue/left-first", 0, test_ring_through_queue);
  add_data (G6 "/ring-through-a-queue/right-first", 1, test_ring_through_queue);
  add (G6 "/ring-closed-by-a-push", test_ring_closed_by_push);
  add (G6 "/one-helped-waits-for-its-helper", test_wait_for_helper);
  add (G6 "/serial-pool", test_wait_in_serial_pool);
  add (G6 "/serial-pool-for-another", test_wait_in_serial_pool_for_other);
  add (G6 "/serial-pool-waits-alone", test_serial_pool_waits_alone);
  add (G6 "/helper-is-not-parked", test_helper_is_not_parked);
  add (G6 "/oneself-after-helping", test_oneself_after_helping);
  add (G6 "/driven-by-other-code", test_wait_for_driven);
  add (G6 "/owner-in-a-worker-is-not-parked", test_owner_in_worker_is_not_parked);
  add (G6 "/ring-of-a-synchronous-run", test_ring_of_sync_run);
  add (G6 "/no-ring-with-former-wait", test_no_ring_with_former_wait);
  add (G6 "/owner-and-never-started", test_owner_waits_for_never_started);
  add (G6 "/owner-serves-progress", test_owner_waits_and_serves);
  add_data (G6 "/space-in-own-pool", FALSE, test_wait_for_space_in_worker);
  add_data (G6 "/space-in-own-serial-pool", TRUE, test_wait_for_space_in_worker);
  add (G6 "/given-up-in-worker", test_wait_in_worker_given_up);

  add_data (G7 "/withdrawn", FALSE, test_withdrawn);
  add_data (G7 "/withdrawn-by-given", TRUE, test_withdrawn);
  add (G7 "/withdrawal-wakes", test_withdrawal_wakes);
  add_data (G7 "/run-cancelled", FALSE, test_run_cancelled);
  add_data (G7 "/run-cancelled-async", TRUE, test_run_cancelled);
  add_data (G7 "/running", FALSE, test_running_is_told);
  add_data (G7 "/running-by-given", TRUE, test_running_is_told);
  add_data (G7 "/cancel-spares-shared", FALSE, test_shared_cancellable);
  add_data (G7 "/timeout-spares-shared", TRUE, test_shared_cancellable);
  add_data (G7 "/in-handler/queued", 0, test_cancel_in_handler);
  add_data (G7 "/in-handler/running", 1, test_cancel_in_handler);
  add_data (G7 "/in-handler/queued-return-on-cancel", 2, test_cancel_in_handler);
  add_data (G7 "/in-handler/running-return-on-cancel", 3, test_cancel_in_handler);
  add (G7 "/in-callback", test_cancel_in_callback);
  add (G7 "/no-wait-for-handlers", test_no_wait_for_handlers);
  add (G7 "/before-and-after", test_cancel_before_and_after);
  add (G7 "/many-queued", test_cancel_many_queued);
  add_cancel_hammered ();
  add (G7 "/run-cancelled-before", test_run_cancelled_before);
  add (G7 "/while-pushed", test_cancel_while_pushed);
  add (G7 "/while-taken", test_cancel_while_taken);
  add_data (G7 "/owner-waits/own", 0, test_cancel_while_owner_waits);
  add_data (G7 "/owner-waits/run-cancelled", 1, test_cancel_while_owner_waits);
  add_data (G7 "/owner-waits/return-on-cancel", 2, test_cancel_while_owner_waits);
  add_data (G7 "/owner-waits/run-cancelled-return-on-cancel", 3, test_cancel_while_owner_waits);

  add (G8 "/queue", test_bounded_queue);
  add (G8 "/no-descriptors", test_no_descriptors);

  add_data (G11 "/queued", FALSE, test_context_goes_while_queued);
  add_data (G11 "/queued-and-kept", TRUE, test_context_goes_while_queued);
  add (G11 "/queued-run-cancelled", test_context_goes_while_queued_to_run);
  add (G11 "/alone", test_context_goes_alone);
  add (G11 "/before-progress", test_context_goes_before_progress);
  add_data (G11 "/running", FALSE, test_context_goes_while_running);
  add_data (G11 "/running-and-kept", TRUE, test_context_goes_while_running);
  add (G11 "/running-and-forgotten", test_context_goes_and_is_forgotten);
  add_data (G11 "/before-callback", FALSE, test_context_goes_before_callback);
  add_data (G11 "/before-callback-and-kept", TRUE, test_context_goes_before_callback);
  add (G11 "/with-the-last-reference", test_context_goes_with_reference);
  add (G11 "/before-start", test_context_goes_before_start);
  add (G11 "/waited-for", test_context_goes_while_waited_for);
  add (G11 "/idle-context-keeps", test_idle_context_keeps);

  /* By the numbers of the pains, less those of bindings, processes, channels and
   * sync points; 11 is in test-fork.c */
  add ("/pain/01-last-unref-on-worker", test_last_unref_by_worker);
  add_data ("/pain/02-nested-waits-exhaust-the-pool", 40, test_wait_in_worker);
  add ("/pain/03-worker-without-closure", test_pain_worker_closure);
  add_data ("/pain/05-double-callback", 5, test_cancel_hammered);
  add_data ("/pain/05-callback-inside-cancel", FALSE, test_withdrawn);
  add_data ("/pain/05-deadlock-in-handler", 14, test_last_unref_in_handler);
  add ("/pain/05-double-return", test_two_returns_racing);
  g_test_add_data_func ("/pain/06-return-on-cancel-uses-freed-data",
                        ENDS_AND_DROPS (END_RETURN_ON_CANCEL, DROP_AT_ONCE), test_handed_over);
  add_data ("/pain/07-running-cannot-be-stopped", FALSE, test_running_is_told);
  add_data ("/pain/07-queued-cannot-be-withdrawn", TRUE, test_withdrawn);
  add ("/pain/07-withdrawal-does-not-wake", test_withdrawal_wakes);
  add_data ("/pain/08-loop-goes-first", FALSE, test_context_goes_while_running);
  add ("/pain/09-strangers-starve-the-pool", test_pain_strangers);
  add ("/pain/10-shutdown-hangs", test_pain_shutdown);
  add ("/pain/14-progress-floods-the-loop", test_pain_progress_flood);
  add ("/pain/15-completions-outrank-painting", test_responsive);
  add ("/pain/16-queue-grows-unbounded", test_bounded_queue);
  add ("/pain/17-priorities-scan-and-overflow", test_million_priorities);
  add ("/pain/18-stop-loses-tasks", test_pain_stop_loses);
  add ("/pain/19-pool-is-invisible", test_pain_invisible);
  add ("/pain/20-thread-inherits-priority", test_pain_inherited_priority);
  add_data ("/pain/21-never-returned", TRUE, test_never_returned);

  return g_test_run ();
}
