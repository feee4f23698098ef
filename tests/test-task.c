/* test-task.c: QTask, by noun
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The main thread is the owner, unless a test says otherwise. Workers are held
 * by gates; what a thread tells another goes through gates, fates and reports.
 */

#include "test-util.h"

#include <math.h>
#include <string.h>
#include <sys/prctl.h>

/* Job: what most tests need, in one place. As its report comes first, it can
 * be the opaque of test_report_cb.
 */
typedef struct
{
  TestReport report;  /* of the completion */
  TestFate opaque;    /* of the data of the callback */
  TestFate work;      /* of the data of the worker */
  TestFate task_gone; /* of the task */
  TestHold hold;
  QTask *task;            /* no reference */
  gboolean was_completed; /* when the data of the callback was destroyed */
  int notified;           /* serial of notify::completed */
  int n_ran;              /* how often the worker ran; atomic */
  GThread *ran_in;
} Job;

#define JOB_INIT \
  { \
    TEST_REPORT_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_HOLD_INIT \
  }

static void
job_opaque_free (gpointer data)
{
  Job *job = data;

  job->was_completed = job->task != NULL && q_task_get_completed (job->task);
  test_fate_notify (&job->opaque);
}

static void
job_work_free (gpointer data)
{
  Job *job = data;

  test_fate_notify (&job->work);
}

static void
job_notify_completed_cb (QTask *task,
                         GParamSpec *pspec,
                         gpointer data)
{
  Job *job = data;

  g_assert_cmpint (job->notified, ==, 0);
  g_assert_true (q_task_get_completed (task));
  job->notified = test_next_serial ();
}

/* A task whose callback, data and end are recorded in @job */
static QTask *
job_task_new (Job *job,
              GObject *source)
{
  QTask *task = q_task_new (source, test_report_cb, job, job_opaque_free);

  job->task = task;
  test_fate_watch (&job->task_gone, task);
  g_signal_connect (task, "notify::completed",
                    G_CALLBACK (job_notify_completed_cb), job);

  return task;
}

static gboolean
job_is_called (Job *job)
{
  return test_report_is_called (&job->report);
}

static gboolean
job_is_gone (Job *job)
{
  return test_fate_get_count (&job->task_gone) > 0;
}

/* The callback came once, here, and said @job succeeded */
#define assert_succeeded(job) \
  G_STMT_START \
  { \
    g_assert_cmpint ((job)->report.called, ==, 1); \
    g_assert_true ((job)->report.thread == g_thread_self ()); \
    g_assert_false ((job)->report.was_completed); \
    g_assert_no_error ((job)->report.error); \
  } \
  G_STMT_END

/* The callback came once, here, and said @job failed so; clears the error */
#define assert_failed(job, domain, code) \
  G_STMT_START \
  { \
    g_assert_cmpint ((job)->report.called, ==, 1); \
    g_assert_true ((job)->report.thread == g_thread_self ()); \
    g_assert_false ((job)->report.was_completed); \
    g_assert_error ((job)->report.error, domain, code); \
    g_clear_error (&(job)->report.error); \
  } \
  G_STMT_END

#define assert_state(task, state) \
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_##state)

static gboolean
job_empty_worker (QTask *task,
                  gpointer data,
                  GError **error)
{
  Job *job = data;

  job->ran_in = g_thread_self ();
  g_atomic_int_inc (&job->n_ran);

  return TRUE;
}

static gboolean
job_hold_worker (QTask *task,
                 gpointer data,
                 GError **error)
{
  Job *job = data;

  g_atomic_int_inc (&job->n_ran);

  return test_hold_worker (task, &job->hold, error);
}

static gboolean
job_stoppable_worker (QTask *task,
                      gpointer data,
                      GError **error)
{
  Job *job = data;

  g_atomic_int_inc (&job->n_ran);

  return test_stoppable_worker (task, &job->hold, error);
}

/* Starts @job on @pool, NULL for the default pool */
static void
job_start (Job *job,
           QTaskPool *pool,
           QTaskWorker worker)
{
  g_autoptr (GError) error = NULL;

  if (pool == NULL)
    {
      q_task_run_in_thread (job->task, worker, job, job_work_free);
      return;
    }

  q_task_pool_push (pool, job->task, worker, job, job_work_free, &error);
  g_assert_no_error (error);
}

/* Completes a task that is needed no more, and sees it finalized */
static void
discard (QTask *task)
{
  q_task_complete (task);
  g_assert_finalize_object (task);
}

/* Busy: a pool of one thread, that a task keeps busy */
typedef struct
{
  QTaskPool *pool;
  QTask *task;
  TestHold hold;
} Busy;

#define BUSY_INIT \
  { \
    NULL, NULL, TEST_HOLD_INIT \
  }

static void
busy_start (Busy *busy)
{
  g_autoptr (GError) error = NULL;

  busy->pool = q_task_pool_new ("busy", 1, 0);
  busy->task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_pool_push (busy->pool, busy->task, test_hold_worker, &busy->hold, NULL, &error);
  g_assert_no_error (error);
  test_gate_wait (&busy->hold.entered);
}

static void
busy_end (Busy *busy)
{
  test_gate_open (&busy->hold.release);
  test_run_until (NULL, q_task_get_completed (busy->task));
  g_clear_object (&busy->task);
  g_clear_object (&busy->pool);
}

static void
wait_cb (gpointer task,
         gpointer unused)
{
  g_autoptr (GError) error = NULL;

  q_task_wait_until (task, test_end_time (), NULL, &error);
  g_assert_no_error (error);
}

/* Blocks until the outcome of @task is fixed, and iterates nothing */
static void
wait_elsewhere (QTask *task)
{
  test_in_thread (wait_cb, task);
}

static void
unref_cb (gpointer object,
          gpointer unused)
{
  g_object_unref (object);
}

/* Make */

static void
test_make_new (void)
{
  Job job = JOB_INIT;
  TestFate source_gone = TEST_FATE_INIT;
  GObject *source = test_probe_new (&source_gone);
  QTask *task = job_task_new (&job, source);

  g_assert_true (q_task_get_source (task) == source);
  g_assert_true (q_task_get_source_object (task) == source);
  g_assert_false (q_task_get_run_cancelled (task));
  g_assert_false (q_task_get_completed (task));
  g_assert_false (q_task_had_error (task));
  assert_state (task, NEW);

  g_object_unref (source);
  test_assert_alive (&source_gone);

  q_task_complete (task);
  assert_succeeded (&job);
  g_assert_true (job.report.task == task);
  assert_state (task, FINISHED);
  test_assert_destroyed_here (&job.opaque);
  test_assert_alive (&source_gone);

  g_assert_finalize_object (task);
  test_assert_destroyed_here (&source_gone);
}

static void
test_make_new_of_nothing (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (Q_IS_TASK (task));
  g_assert_null (q_task_get_source (task));
  g_assert_null (q_task_get_source_object (task));

  q_task_complete (task);
  g_assert_true (q_task_get_completed (task));
  g_assert_finalize_object (task);
}

static void
test_make_new_async (void)
{
  TestReport report = TEST_REPORT_INIT;
  TestFate source_gone = TEST_FATE_INIT, cancellable_gone = TEST_FATE_INIT;
  GObject *source = test_probe_new (&source_gone);
  GCancellable *cancellable = test_cancellable_new (&cancellable_gone);
  QTask *task = q_task_new_async (source, cancellable, test_report_async_cb, &report);

  g_assert_true (q_task_get_source (task) == source);
  g_assert_true (q_task_get_cancellable (task) == cancellable);
  g_assert_true (q_task_get_run_cancelled (task));

  g_object_unref (source);
  g_object_unref (cancellable);
  test_assert_alive (&source_gone);
  test_assert_alive (&cancellable_gone);

  q_task_complete (task);
  g_assert_cmpint (report.called, ==, 1);
  g_assert_true (report.source == source);
  g_assert_no_error (report.error);

  g_assert_finalize_object (task);
  test_assert_destroyed_here (&source_gone);
  test_assert_destroyed_here (&cancellable_gone);
}

static void
test_make_set_func (void)
{
  Job first = JOB_INIT, second = JOB_INIT;
  QTask *task = job_task_new (&first, NULL);

  second.task = task;
  q_task_set_func (task, test_report_cb, &second, job_opaque_free);
  test_assert_destroyed_here (&first.opaque);

  q_task_complete (task);
  g_assert_cmpint (first.report.called, ==, 0);
  assert_succeeded (&second);
  test_assert_destroyed_here (&second.opaque);

  g_assert_finalize_object (task);
  test_assert_destroyed_here (&first.opaque);
}

static void
context_cb (QTask *task,
            gpointer context)
{
  *(GMainContext **) context = g_main_context_ref_thread_default ();
}

static void
test_make_context_is_the_thread_default (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (GMainContext) seen = NULL;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_get_context (task) == g_main_context_default ());
  discard (task);

  g_main_context_push_thread_default (context);
  task = q_task_new (NULL, context_cb, &seen, NULL);
  g_main_context_pop_thread_default (context);
  g_assert_true (q_task_get_context (task) == context);

  /* Nobody holds the context, and it is not the default of this thread */
  q_task_complete (task);
  g_assert_null (seen);
  test_run_pending (NULL);
  g_assert_null (seen);

  /* While the callback runs it is */
  test_run_until (context, q_task_get_completed (task));
  g_assert_true (seen == context);
  g_object_unref (task);
  test_run_pending (context);
}

static void
test_make_set_context (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (TestLoop) loop = test_loop_new ("owner");
  Job job = JOB_INIT, other = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_context (task, test_loop_get_context (loop));
  g_assert_true (q_task_get_context (task) == test_loop_get_context (loop));

  q_task_complete (task);
  test_fate_wait (&job.opaque);
  test_assert_destroyed_in (&job.opaque, test_loop_get_thread (loop));
  g_assert_true (job.report.thread == test_loop_get_thread (loop));

  /* Whose last reference is dropped here, is finalized there */
  g_object_unref (task);
  test_fate_wait (&job.task_gone);
  test_assert_destroyed_in (&job.task_gone, test_loop_get_thread (loop));

  /* NULL is the default context */
  g_main_context_push_thread_default (context);
  task = job_task_new (&other, NULL);
  g_main_context_pop_thread_default (context);
  g_assert_true (q_task_get_context (task) == context);
  q_task_set_context (task, NULL);
  g_assert_true (q_task_get_context (task) == g_main_context_default ());
  q_task_complete (task);
  assert_succeeded (&other);
  g_assert_finalize_object (task);
}

/* TestRunner: a subclass that brings its work along */

#define TEST_TYPE_RUNNER (test_runner_get_type ())
G_DECLARE_FINAL_TYPE (TestRunner, test_runner, TEST, RUNNER, QTask)

struct _TestRunner
{
  QTask parent_instance;

  gboolean fails;
};

G_DEFINE_FINAL_TYPE (TestRunner, test_runner, Q_TYPE_TASK)

static gboolean
test_runner_run (QTask *task,
                 GError **error)
{
  if (TEST_RUNNER (task)->fails)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_HOST_NOT_FOUND, "not there");
      return FALSE;
    }

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
test_make_subclass (void)
{
  Job job = JOB_INIT;
  TestFate source_gone = TEST_FATE_INIT, cancellable_gone = TEST_FATE_INIT;
  GObject *source = test_probe_new (&source_gone);
  GCancellable *cancellable = test_cancellable_new (&cancellable_gone);
  GObject *same_source = NULL;
  GCancellable *same_cancellable = NULL;
  QTask *task;

  task = g_object_new (TEST_TYPE_RUNNER,
                       "source-object", source,
                       "cancellable", cancellable,
                       NULL);
  g_object_unref (source);
  g_object_unref (cancellable);
  g_assert_true (q_task_get_source (task) == source);
  g_assert_true (q_task_get_cancellable (task) == cancellable);
  g_assert_true (q_task_get_context (task) == g_main_context_default ());

  /* Given once and for all */
  test_critical_says ("The task TestRunner*has a source object*set it once, before the start",
                      g_object_set (task, "source-object", task, NULL));
  test_critical_says ("The task TestRunner*has a cancellable*set it once, before the start",
                      g_object_set (task, "cancellable", q_task_get_stop_cancellable (task), NULL));
  g_object_get (task, "source-object", &same_source, "cancellable", &same_cancellable, NULL);
  g_assert_true (same_source == source);
  g_assert_true (same_cancellable == cancellable);
  g_clear_object (&same_source);
  g_clear_object (&same_cancellable);

  job.task = task;
  q_task_set_func (task, test_report_cb, &job, job_opaque_free);
  q_task_run_in_thread (task, NULL, NULL, NULL);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 42);
  test_assert_destroyed_here (&job.opaque);

  g_assert_finalize_object (task);
  test_assert_destroyed_here (&source_gone);
  test_assert_destroyed_here (&cancellable_gone);
}

static void
test_make_subclass_that_fails (void)
{
  Job job = JOB_INIT;
  QTask *task = g_object_new (TEST_TYPE_RUNNER, NULL);

  TEST_RUNNER (task)->fails = TRUE;
  q_task_set_func (task, test_report_cb, &job, NULL);
  q_task_run_in_thread (task, NULL, NULL, NULL);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_HOST_NOT_FOUND);
  g_assert_finalize_object (task);
}

static void
test_make_subclass_with_a_worker (void)
{
  Job job = JOB_INIT;
  QTask *task = g_object_new (TEST_TYPE_RUNNER, NULL);

  /* The worker goes before the method */
  TEST_RUNNER (task)->fails = TRUE;
  job.task = task;
  q_task_set_func (task, test_report_cb, &job, NULL);
  job_start (&job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 1);
  g_assert_finalize_object (task);
}

/* Describe */

typedef struct
{
  int n;
  GThread *thread;
} Notified;

static void
notified_cb (QTask *task,
             GParamSpec *pspec,
             gpointer data)
{
  Notified *notified = data;

  notified->n++;
  notified->thread = g_thread_self ();
}

typedef struct
{
  const char *property;
  gboolean (*get) (QTask *task);
  void (*set) (QTask *task,
               gboolean value);
  gboolean at_first;
} Flag;

static void
set_return_on_cancel (QTask *task,
                      gboolean value)
{
  g_assert_true (q_task_set_return_on_cancel (task, value));
}

static const Flag flags[] = {
  { "check-cancellable", q_task_get_check_cancellable, q_task_set_check_cancellable, TRUE },
  { "return-on-cancel", q_task_get_return_on_cancel, set_return_on_cancel, FALSE },
  { "run-cancelled", q_task_get_run_cancelled, q_task_set_run_cancelled, FALSE },
};

static void
test_describe_flags (void)
{
  gsize i;

  for (i = 0; i < G_N_ELEMENTS (flags); i++)
    {
      const Flag *flag = &flags[i];
      QTask *task = q_task_new (NULL, NULL, NULL, NULL);
      g_autofree char *signal = g_strconcat ("notify::", flag->property, NULL);
      Notified notified = { 0, NULL };
      gboolean value;

      g_signal_connect (task, signal, G_CALLBACK (notified_cb), &notified);
      g_assert_cmpint (flag->get (task), ==, flag->at_first);
      g_object_get (task, flag->property, &value, NULL);
      g_assert_cmpint (value, ==, flag->at_first);

      flag->set (task, !flag->at_first);
      g_assert_cmpint (flag->get (task), ==, !flag->at_first);
      g_object_get (task, flag->property, &value, NULL);
      g_assert_cmpint (value, ==, !flag->at_first);
      g_assert_cmpint (notified.n, ==, 1);

      g_object_set (task, flag->property, flag->at_first, NULL);
      g_assert_cmpint (flag->get (task), ==, flag->at_first);
      g_assert_cmpint (notified.n, ==, 2);

      discard (task);
    }
}

static void
test_describe_name (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  const char *still = "stays where it is";
  Notified notified = { 0, NULL };
  g_autofree char *name = NULL;
  char buffer[] = "copied";

  g_signal_connect (task, "notify::name", G_CALLBACK (notified_cb), &notified);
  g_assert_null (q_task_get_name (task));

  q_task_set_name (task, buffer);
  buffer[0] = 'X';
  g_assert_cmpstr (q_task_get_name (task), ==, "copied");
  g_assert_cmpint (notified.n, ==, 1);

  g_object_get (task, "name", &name, NULL);
  g_assert_cmpstr (name, ==, "copied");

  g_object_set (task, "name", "other", NULL);
  g_assert_cmpstr (q_task_get_name (task), ==, "other");
  g_assert_cmpint (notified.n, ==, 2);

  /* From itself */
  q_task_set_name (task, q_task_get_name (task));
  g_assert_cmpstr (q_task_get_name (task), ==, "other");

  q_task_set_static_name (task, still);
  g_assert_true (q_task_get_name (task) == still);

  q_task_set_name (task, NULL);
  g_assert_null (q_task_get_name (task));

  discard (task);
}

static gboolean
thread_name_worker (QTask *task,
                    gpointer name,
                    GError **error)
{
  prctl (PR_GET_NAME, name);

  return TRUE;
}

static void
test_describe_name_names_the_thread (void)
{
  g_autoptr (QTaskPool) pool = q_task_pool_new ("pool", 1, 0);
  char named[17] = "", unnamed[17] = "";
  QTask *task;

  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_name (task, "twenty letters long!");
  q_task_pool_push (pool, task, thread_name_worker, named, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_cmpstr (named, ==, "twenty letters ");
  g_assert_finalize_object (task);

  /* Only while it runs */
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_pool_push (pool, task, thread_name_worker, unnamed, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_cmpstr (unnamed, !=, "twenty letters ");
  g_assert_cmpstr (unnamed, !=, "");
  g_assert_finalize_object (task);
}

static void
test_describe_priority (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  Notified notified = { 0, NULL }, completion_notified = { 0, NULL };
  int priority, completion_priority;

  g_signal_connect (task, "notify::priority", G_CALLBACK (notified_cb), &notified);
  g_assert_cmpint (q_task_get_priority (task), ==, G_PRIORITY_DEFAULT);
  g_assert_cmpint (q_task_get_completion_priority (task), ==, G_PRIORITY_DEFAULT);

  q_task_set_priority (task, G_PRIORITY_LOW);
  g_assert_cmpint (q_task_get_priority (task), ==, G_PRIORITY_LOW);
  g_assert_cmpint (notified.n, ==, 1);

  /* The one follows the other, until it has been set */
  g_assert_cmpint (q_task_get_completion_priority (task), ==, G_PRIORITY_LOW);

  g_signal_connect (task, "notify::completion-priority", G_CALLBACK (notified_cb), &completion_notified);
  q_task_set_completion_priority (task, -7);
  g_assert_cmpint (completion_notified.n, ==, 1);
  g_assert_cmpint (q_task_get_completion_priority (task), ==, -7);
  g_assert_cmpint (q_task_get_priority (task), ==, G_PRIORITY_LOW);
  q_task_set_priority (task, 12);
  g_assert_cmpint (q_task_get_completion_priority (task), ==, -7);

  g_object_get (task,
                "priority", &priority,
                "completion-priority", &completion_priority,
                NULL);
  g_assert_cmpint (priority, ==, 12);
  g_assert_cmpint (completion_priority, ==, -7);

  g_object_set (task, "priority", 3, "completion-priority", 4, NULL);
  g_assert_cmpint (q_task_get_priority (task), ==, 3);
  g_assert_cmpint (q_task_get_completion_priority (task), ==, 4);

  q_task_set_priority (task, G_MININT);
  g_assert_cmpint (q_task_get_priority (task), ==, G_MININT);
  q_task_set_priority (task, G_MAXINT);
  g_assert_cmpint (q_task_get_priority (task), ==, G_MAXINT);

  discard (task);
}

static void
test_describe_completion_priority_orders_callbacks (void)
{
  const int priorities[] = { G_PRIORITY_DEFAULT, G_PRIORITY_HIGH, G_PRIORITY_LOW, G_PRIORITY_HIGH };
  QTask *tasks[4];
  Job jobs[4] = { JOB_INIT, JOB_INIT, JOB_INIT, JOB_INIT };
  int i;

  for (i = 0; i < 4; i++)
    {
      tasks[i] = job_task_new (&jobs[i], NULL);
      q_task_set_priority (tasks[i], -priorities[i]);
      q_task_set_completion_priority (tasks[i], priorities[i]);
      q_task_return_boolean (tasks[i], TRUE);
    }

  test_run_until (NULL, job_is_called (&jobs[2]));

  g_assert_cmpint (jobs[1].report.serial, <, jobs[3].report.serial);
  g_assert_cmpint (jobs[3].report.serial, <, jobs[0].report.serial);
  g_assert_cmpint (jobs[0].report.serial, <, jobs[2].report.serial);

  for (i = 0; i < 4; i++)
    g_assert_finalize_object (tasks[i]);
}

static void
complete_elsewhere_cb (gpointer task,
                       gpointer unused)
{
  q_task_set_result_int (task, 23);
  q_task_complete (task);
}

static gboolean
serial_cb (gpointer serial)
{
  *(int *) serial = test_next_serial ();

  return G_SOURCE_REMOVE;
}

static void
attach_serial (GMainContext *context,
               int priority,
               int *serial)
{
  g_autoptr (GSource) source = g_idle_source_new ();

  g_source_set_priority (source, priority);
  g_source_set_callback (source, serial_cb, serial, NULL);
  g_source_attach (source, context);
}

static void
test_describe_completion_priority_among_other_sources (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  Job jobs[3] = { JOB_INIT, JOB_INIT, JOB_INIT };
  int others[2] = { 0 };
  int i;

  /* The only sources at their priorities, in a context of their own; set in the order in
   * which they are not to be called
   */
  g_main_context_push_thread_default (context);
  for (i = 2; i >= 0; i--)
    {
      QTask *task = job_task_new (&jobs[i], NULL);

      if (i < 2)
        attach_serial (context, 100 * i + 50, &others[i]);
      q_task_set_completion_priority (task, 100 * i);
      q_task_return_boolean (task, TRUE);
      g_object_unref (task);
    }
  g_main_context_pop_thread_default (context);

  test_run_until (context, job_is_gone (&jobs[2]));
  g_assert_cmpint (jobs[0].report.serial, >, 0);
  g_assert_cmpint (jobs[0].report.serial, <, others[0]);
  g_assert_cmpint (others[0], <, jobs[1].report.serial);
  g_assert_cmpint (jobs[1].report.serial, <, others[1]);
  g_assert_cmpint (others[1], <, jobs[2].report.serial);
}

static void
test_describe_completion_priority_alone (void)
{
  const int priorities[] = { 17, 300, -5, 1000, 0, 1, G_MAXINT, G_MININT, 20 };
  g_autoptr (GMainContext) context = g_main_context_new ();
  gsize i;

  /* There is nothing else in the context at the old nor at the new priority: GLib, that
   * walks its sources, must not lose the ground under its feet
   */
  g_main_context_push_thread_default (context);
  for (i = 0; i < G_N_ELEMENTS (priorities); i++)
    {
      Job job = JOB_INIT;
      QTask *task = job_task_new (&job, NULL);

      q_task_set_completion_priority (task, priorities[i]);
      q_task_return_boolean (task, TRUE);
      while (!job_is_called (&job))
        g_main_context_iteration (context, TRUE);
      g_assert_finalize_object (task);
    }
  g_main_context_pop_thread_default (context);
}

static gboolean
busy_cb (gpointer data)
{
  Job *job = data;

  /* Never lets anything of a lower priority come in, until told */
  return job_is_called (job) ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void
test_describe_completion_priority_overtakes (void)
{
  Job low = JOB_INIT, high = JOB_INIT;
  QTask *first = job_task_new (&low, NULL);
  QTask *second = job_task_new (&high, NULL);

  /* What waits behind a busy source does not hold back what goes before it */
  q_task_set_completion_priority (first, 300);
  q_task_set_completion_priority (second, -50);
  g_idle_add_full (100, busy_cb, &high, NULL);
  q_task_return_boolean (first, TRUE);
  g_main_context_iteration (NULL, FALSE);
  g_main_context_iteration (NULL, FALSE);
  g_assert_cmpint (low.report.called, ==, 0);
  test_in_thread (complete_elsewhere_cb, second);
  test_run_until (NULL, job_is_called (&high));
  g_assert_cmpint (low.report.called, ==, 0);
  test_run_until (NULL, job_is_called (&low));
  g_assert_finalize_object (first);
  g_assert_finalize_object (second);
}

static void
complete_many_cb (gpointer data,
                  gpointer unused)
{
  QTask **tasks = data;
  gsize i;

  for (i = 0; tasks[i] != NULL; i++)
    q_task_complete (tasks[i]);
}

static void
count_completed_cb (QTask *task,
                    gpointer n)
{
  ++*(int *) n;
}

static gpointer
complete_many_thread (gpointer tasks)
{
  complete_many_cb (tasks, NULL);

  return NULL;
}

static void
test_describe_completion_priority_while_iterating (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  QTask *tasks[501] = { NULL };
  GThread *thread;
  int n_completed = 0;
  gsize i;

  /* Another thread hands over at ever other priorities, in both directions, while the
   * owner looks for what is ready
   */
  g_main_context_push_thread_default (context);
  for (i = 0; i < 500; i++)
    {
      tasks[i] = q_task_new (NULL, count_completed_cb, &n_completed, NULL);
      q_task_set_completion_priority (tasks[i], (int) ((i * 7919) % 1000));
    }

  thread = g_thread_new ("completer", complete_many_thread, tasks);
  test_run_until (context, n_completed == 500);
  g_thread_join (thread);
  for (i = 0; i < 500; i++)
    g_assert_finalize_object (tasks[i]);
  g_main_context_pop_thread_default (context);
}

static void
test_describe_source_tag (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_null (q_task_get_source_tag (task));
  q_task_set_source_tag (task, test_describe_source_tag);
  g_assert_true (q_task_get_source_tag (task) == test_describe_source_tag);
  g_assert_null (q_task_get_name (task));

  discard (task);
}

static void
test_describe_task_data (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  TestFate first = TEST_FATE_INIT, second = TEST_FATE_INIT;

  g_assert_null (q_task_get_task_data (task));
  q_task_set_task_data (task, &first, test_fate_notify);
  g_assert_true (q_task_get_task_data (task) == &first);
  test_assert_alive (&first);

  q_task_set_task_data (task, &second, test_fate_notify);
  test_assert_destroyed_here (&first);
  g_assert_true (q_task_get_task_data (task) == &second);

  /* It stays until the task goes */
  q_task_complete (task);
  test_assert_alive (&second);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&second);
  test_assert_destroyed_here (&first);
}

static void
test_describe_completed (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  Notified notified = { 0, NULL };
  gboolean completed = TRUE;

  g_signal_connect (task, "notify::completed", G_CALLBACK (notified_cb), &notified);
  g_object_get (task, "completed", &completed, NULL);
  g_assert_false (completed);

  q_task_complete (task);
  g_object_get (task, "completed", &completed, NULL);
  g_assert_true (completed);
  g_assert_true (q_task_get_completed (task));
  g_assert_cmpint (notified.n, ==, 1);
  g_assert_finalize_object (task);
}

static gboolean
describe_worker (QTask *task,
                 gpointer opaque,
                 GError **error)
{
  q_task_set_priority (task, 5);
  q_task_set_completion_priority (task, 6);
  g_assert_true (q_task_set_return_on_cancel (task, FALSE));
  q_task_set_progress (task, 0.5, "half");

  return TRUE;
}

static void
test_describe_notifies_the_owner (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  Notified notified = { 0, NULL };

  /* Whatever a worker sets, no handler runs in its thread */
  q_task_set_return_on_cancel (task, TRUE);
  g_signal_connect (task, "notify", G_CALLBACK (notified_cb), &notified);
  q_task_run_in_thread (task, describe_worker, NULL, NULL);
  wait_elsewhere (task);
  g_assert_cmpint (notified.n, ==, 0);

  test_run_until (NULL, q_task_get_completed (task));
  g_assert_true (notified.thread == g_thread_self ());
  g_assert_cmpint (q_task_get_priority (task), ==, 5);
  g_assert_cmpint (q_task_get_completion_priority (task), ==, 6);
  g_assert_finalize_object (task);
}

static void
test_describe_async_result (void)
{
  TestFate source_gone = TEST_FATE_INIT;
  GObject *source = test_probe_new (&source_gone);
  QTask *task = q_task_new_async (source, NULL, NULL, &source_gone);
  GAsyncResult *result = G_ASYNC_RESULT (task);
  g_autoptr (GObject) same = NULL;

  g_assert_true (g_async_result_get_user_data (result) == &source_gone);
  same = g_async_result_get_source_object (result);
  g_assert_true (same == source);
  g_assert_false (g_async_result_is_tagged (result, test_describe_async_result));
  q_task_set_source_tag (task, test_describe_async_result);
  g_assert_true (g_async_result_is_tagged (result, test_describe_async_result));
  g_assert_false (g_async_result_legacy_propagate_error (result, NULL));

  g_assert_true (q_task_is_valid (task, source));
  g_assert_false (q_task_is_valid (task, NULL));
  g_assert_false (q_task_is_valid (source, source));

  g_clear_object (&same);
  g_object_unref (source);
  discard (task);
  test_assert_destroyed_here (&source_gone);

  task = q_task_new_async (NULL, NULL, NULL, NULL);
  g_assert_null (g_async_result_get_source_object (G_ASYNC_RESULT (task)));
  g_assert_true (q_task_is_valid (task, NULL));
  discard (task);
}

/* Outcome */

static void
test_outcome_of_nothing_is_success (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_complete (task);
  assert_succeeded (&job);
  g_assert_false (q_task_had_error (task));
  g_assert_null (q_task_get_error (task));
  g_assert_null (q_task_get_result_pointer (task));
  g_assert_finalize_object (task);
}

static void
test_outcome_of_a_worker_is_success (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  assert_state (task, FINISHED);
  g_assert_true (job.ran_in != g_thread_self ());
  g_assert_finalize_object (task);
}

static void
test_outcome_error (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s number %d", "error", 7);
  q_task_complete (task);

  g_assert_true (q_task_had_error (task));
  g_assert_cmpstr (job.report.error->message, ==, "error number 7");
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_FAILED);
  assert_state (task, FINISHED);
  g_assert_finalize_object (task);
}

static void
borrow_error_cb (QTask *task,
                 gpointer called)
{
  const GError *error = q_task_get_error (task);

  g_assert_true (q_task_had_error (task));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_true (q_task_get_error (task) == error);
  *(gboolean *) called = TRUE;
}

static void
test_outcome_error_is_borrowed (void)
{
  gboolean called = FALSE;
  QTask *task = q_task_new (NULL, borrow_error_cb, &called, NULL);
  g_autoptr (GError) error = NULL;

  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_FAILED, "borrowed");
  q_task_complete (task);
  g_assert_true (called);

  /* And is still there to be taken */
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (error->message, ==, "borrowed");

  /* Once; the task goes on having failed */
  g_clear_error (&error);
  g_assert_false (q_task_propagate_error (task, &error));
  g_assert_no_error (error);
  g_assert_null (q_task_get_error (task));
  g_assert_true (q_task_had_error (task));
  g_assert_finalize_object (task);
}

static void
test_outcome_error_may_be_ignored (void)
{
  Job job = JOB_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_FAILED, "unread"));
  q_task_complete (task);
  g_assert_true (q_task_propagate_error (task, NULL));
  g_assert_finalize_object (task);

  task = job_task_new (&job, NULL);
  q_task_set_func (task, NULL, NULL, NULL);
  q_task_set_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_FAILED, "unread"));
  q_task_complete (task);
  g_assert_finalize_object (task);
}

static void
test_outcome_first_error_wins (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "first"));
  q_task_set_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, "second"));
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "third");
  q_task_complete (task);
  g_assert_cmpstr (job.report.error->message, ==, "first");
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  g_assert_finalize_object (task);
}

static void
test_outcome_null_error_is_none (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_error (task, NULL);
  q_task_set_result_int (task, 3);
  q_task_complete (task);
  assert_succeeded (&job);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 3);
  g_assert_finalize_object (task);
}

static void
test_outcome_error_beats_result (void)
{
  int error_first;

  for (error_first = 0; error_first < 2; error_first++)
    {
      Job job = JOB_INIT;
      TestFate result = TEST_FATE_INIT;
      QTask *task = job_task_new (&job, NULL);

      if (error_first)
        q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no");
      q_task_set_result_pointer (task, &result, test_fate_notify);
      if (!error_first)
        q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no");

      q_task_complete (task);
      g_assert_null (q_task_get_result_pointer (task));
      assert_failed (&job, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
      g_assert_finalize_object (task);
      test_assert_destroyed_here (&result);
    }
}

static void
test_outcome_error_if_cancelled (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  /* Cancelled through its own, though nobody checks */
  g_assert_false (q_task_set_error_if_cancelled (task));
  q_task_set_check_cancellable (task, FALSE);
  q_task_cancel (task);
  g_assert_true (q_task_set_error_if_cancelled (task));
  q_task_complete (task);
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&error);
  g_assert_finalize_object (task);

  /* Through the given one */
  task = q_task_new_async (NULL, cancellable, NULL, NULL);
  q_task_set_check_cancellable (task, FALSE);
  g_assert_false (q_task_set_error_if_cancelled (task));
  g_cancellable_cancel (cancellable);
  g_assert_true (q_task_set_error_if_cancelled (task));
  g_cancellable_reset (cancellable);
  q_task_complete (task);
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

static void
test_outcome_pointer (void)
{
  g_autoptr (GError) error = NULL;
  TestFate result = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  /* Looked at, and left to the task */
  q_task_set_result_pointer (task, &result, test_fate_notify);
  q_task_complete (task);
  g_assert_true (q_task_get_result_pointer (task) == &result);
  test_assert_alive (&result);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&result);

  /* Taken */
  result = (TestFate) TEST_FATE_INIT;
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_pointer (task, &result, test_fate_notify);
  q_task_complete (task);
  g_assert_true (q_task_propagate_pointer (task, &error) == &result);
  g_assert_no_error (error);
  g_assert_finalize_object (task);
  test_assert_alive (&result);

  /* With nobody to free it */
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_pointer (task, &result, NULL);
  q_task_complete (task);
  g_assert_finalize_object (task);
  test_assert_alive (&result);

  /* NULL is a result too */
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_pointer (task, NULL, test_fate_notify);
  q_task_complete (task);
  g_assert_null (q_task_propagate_pointer (task, &error));
  g_assert_no_error (error);
  g_assert_finalize_object (task);
}

static void
test_outcome_result_is_replaced (void)
{
  TestFate first = TEST_FATE_INIT, second = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_result_pointer (task, &first, test_fate_notify);
  q_task_set_result_pointer (task, &second, test_fate_notify);
  test_assert_destroyed_here (&first);
  q_task_set_result_int (task, 5);
  test_assert_destroyed_here (&second);

  q_task_complete (task);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 5);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&first);
  test_assert_destroyed_here (&second);
}

static void
test_outcome_int_and_boolean (void)
{
  const gssize ints[] = { 0, -1, 42, G_MAXSSIZE, G_MINSSIZE };
  g_autoptr (GError) error = NULL;
  QTask *task;
  gsize i;

  for (i = 0; i < G_N_ELEMENTS (ints); i++)
    {
      task = q_task_new (NULL, NULL, NULL, NULL);
      q_task_set_result_int (task, ints[i]);
      q_task_complete (task);
      g_assert_cmpint (q_task_propagate_int (task, &error), ==, ints[i]);
      g_assert_no_error (error);
      g_assert_finalize_object (task);
    }

  for (i = 0; i < 2; i++)
    {
      task = q_task_new (NULL, NULL, NULL, NULL);
      q_task_set_result_boolean (task, i == 1);
      q_task_complete (task);
      g_assert_cmpint (q_task_propagate_boolean (task, &error), ==, i == 1);
      g_assert_no_error (error);
      g_assert_finalize_object (task);
    }
}

static void
test_outcome_value (void)
{
  g_auto (GValue) given = G_VALUE_INIT, taken = G_VALUE_INIT;
  g_autoptr (GError) error = NULL;
  TestFate gone = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  GValue *boxed;

  g_value_init (&given, G_TYPE_STRING);
  g_value_set_string (&given, "copied");
  q_task_set_result_value (task, &given);
  g_value_set_string (&given, "changed");
  q_task_complete (task);
  g_assert_true (q_task_propagate_value (task, &taken, &error));
  g_assert_no_error (error);
  g_assert_true (G_VALUE_HOLDS_STRING (&taken));
  g_assert_cmpstr (g_value_get_string (&taken), ==, "copied");
  g_assert_finalize_object (task);

  /* As bindings take it */
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_value (task, &given);
  q_task_complete (task);
  boxed = q_task_propagate_boxed_value (task, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (g_value_get_string (boxed), ==, "changed");
  g_boxed_free (G_TYPE_VALUE, boxed);
  g_assert_finalize_object (task);

  /* Not taken */
  g_value_unset (&given);
  g_value_init (&given, G_TYPE_OBJECT);
  g_value_take_object (&given, test_probe_new (&gone));
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_value (task, &given);
  g_value_unset (&given);
  q_task_complete (task);
  test_assert_alive (&gone);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&gone);
}

static void
test_outcome_variant (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) taken = NULL;
  GVariant *variant = g_variant_new_string ("floating");
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_result_variant (task, variant);
  g_assert_false (g_variant_is_floating (variant));
  q_task_complete (task);
  taken = q_task_propagate_variant (task, &error);
  g_assert_no_error (error);
  g_assert_true (taken == variant);
  g_assert_finalize_object (task);
  g_assert_cmpstr (g_variant_get_string (taken, NULL), ==, "floating");
}

static void
test_outcome_object (void)
{
  g_autoptr (GError) error = NULL;
  TestFate gone = TEST_FATE_INIT;
  GObject *object = test_probe_new (&gone);
  GObject *taken;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_result_object (task, object);
  q_task_complete (task);
  g_object_unref (object);
  test_assert_alive (&gone);
  taken = q_task_propagate_object (task, &error);
  g_assert_no_error (error);
  g_assert_true (taken == object);
  g_assert_finalize_object (task);
  test_assert_alive (&gone);
  g_object_unref (taken);
  test_assert_destroyed_here (&gone);

  /* Not taken */
  gone = (TestFate) TEST_FATE_INIT;
  object = test_probe_new (&gone);
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_object (task, object);
  g_object_unref (object);
  q_task_complete (task);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&gone);
}

static void
test_outcome_bytes (void)
{
  g_autoptr (GError) error = NULL;
  TestFate gone = TEST_FATE_INIT;
  GBytes *bytes = g_bytes_new_with_free_func ("bytes", 5, test_fate_notify, &gone);
  GBytes *taken;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_result_bytes (task, bytes);
  q_task_complete (task);
  g_bytes_unref (bytes);
  taken = q_task_propagate_bytes (task, &error);
  g_assert_no_error (error);
  g_assert_true (taken == bytes);
  g_assert_finalize_object (task);
  test_assert_alive (&gone);
  g_bytes_unref (taken);
  test_assert_destroyed_here (&gone);
}

static QTask *
failed_task_new (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no");
  q_task_complete (task);

  return task;
}

#define assert_propagates(propagate, nothing) \
  G_STMT_START \
  { \
    QTask *task = failed_task_new (); \
    g_autoptr (GError) error = NULL; \
    g_assert_true (propagate == nothing); \
    g_assert_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND); \
    g_assert_finalize_object (task); \
  } \
  G_STMT_END

static void
test_outcome_error_is_read_by_all (void)
{
  GValue value = G_VALUE_INIT;

  assert_propagates (q_task_propagate_pointer (task, &error), NULL);
  assert_propagates (q_task_propagate_int (task, &error), -1);
  assert_propagates (q_task_propagate_boolean (task, &error), FALSE);
  assert_propagates (q_task_propagate_value (task, &value, &error), FALSE);
  assert_propagates (q_task_propagate_boxed_value (task, &error), NULL);
  assert_propagates (q_task_propagate_variant (task, &error), NULL);
  assert_propagates (q_task_propagate_object (task, &error), NULL);
  assert_propagates (q_task_propagate_bytes (task, &error), NULL);
  assert_propagates (q_task_propagate_error (task, &error), TRUE);
  g_assert_false (G_IS_VALUE (&value));
}

static gboolean
result_worker (QTask *task,
               gpointer result,
               GError **error)
{
  q_task_set_result_pointer (task, result, test_fate_notify);

  return TRUE;
}

static gboolean
result_and_false_worker (QTask *task,
                         gpointer result,
                         GError **error)
{
  q_task_set_result_pointer (task, result, test_fate_notify);

  return FALSE;
}

static gboolean
throwing_worker (QTask *task,
                 gpointer result,
                 GError **error)
{
  q_task_set_result_pointer (task, result, test_fate_notify);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "thrown");

  return FALSE;
}

static gboolean
setting_worker (QTask *task,
                gpointer result,
                GError **error)
{
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "set");
  q_task_set_result_pointer (task, result, test_fate_notify);

  return TRUE;
}

static gboolean
setting_and_false_worker (QTask *task,
                          gpointer result,
                          GError **error)
{
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "set");
  q_task_set_result_pointer (task, result, test_fate_notify);

  return FALSE;
}

static gboolean
setting_and_throwing_worker (QTask *task,
                             gpointer result,
                             GError **error)
{
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "set");
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "thrown");
  q_task_set_result_pointer (task, result, test_fate_notify);

  return FALSE;
}

static void
test_outcome_of_workers (void)
{
  static const struct
  {
    QTaskWorker worker;
    int code; /* in G_IO_ERROR; -1: success, -2: Q_TASK_ERROR_FAILED */
  } cases[] = {
    { result_worker, -1 },
    { result_and_false_worker, -2 },
    { throwing_worker, G_IO_ERROR_NOT_FOUND },
    { setting_worker, G_IO_ERROR_BUSY },
    { setting_and_false_worker, G_IO_ERROR_BUSY },
    { setting_and_throwing_worker, G_IO_ERROR_BUSY },
  };
  gsize i;

  for (i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      Job job = JOB_INIT;
      TestFate result = TEST_FATE_INIT;
      QTask *task = job_task_new (&job, NULL);

      q_task_run_in_thread (task, cases[i].worker, &result, NULL);
      test_run_until (NULL, job_is_called (&job));

      if (cases[i].code == -1)
        assert_succeeded (&job);
      else if (cases[i].code == -2)
        assert_failed (&job, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
      else
        assert_failed (&job, G_IO_ERROR, cases[i].code);

      /* Nobody took the result, and who failed has none to give */
      assert_state (task, FINISHED);
      g_assert_cmpint (q_task_had_error (task), ==, cases[i].code != -1);
      g_assert_true (q_task_get_result_pointer (task) == (cases[i].code == -1 ? &result : NULL));
      g_assert_finalize_object (task);
      g_assert_cmpint (test_fate_get_count (&result), ==, 1);
    }
}

static gboolean
late_worker (QTask *task,
             gpointer data,
             GError **error)
{
  Job *job = data;

  test_gate_open (&job->hold.entered);
  test_gate_wait (&job->hold.release);

  /* All of these come too late */
  q_task_set_result_pointer (task, &job->opaque, test_fate_notify);
  q_task_set_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_BUSY, "late"));
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "late");
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "late");

  return FALSE;
}

static void
test_outcome_too_late_is_freed (void)
{
  Job job = JOB_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &job, NULL);
  g_autoptr (GError) error = NULL;

  job.task = task;
  test_fate_watch (&job.task_gone, task);
  q_task_set_return_on_cancel (task, TRUE);
  job_start (&job, NULL, late_worker);
  test_gate_wait (&job.hold.entered);
  q_task_cancel (task);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  test_gate_open (&job.hold.release);
  test_run_until (NULL, test_fate_get_count (&job.work) == 1);
  g_assert_cmpint (job.report.called, ==, 1);
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_null (q_task_get_result_pointer (task));
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
  g_assert_cmpint (test_fate_get_count (&job.opaque), ==, 1);
}

static void
test_outcome_is_not_read_before_it_is (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  GError *error = NULL;

  q_task_set_result_int (task, 8);
  test_critical_says ("The task * has no outcome yet; call q_task_propagate_int() in its callback*q_task_wait()*",
                      g_assert_cmpint (q_task_propagate_int (task, &error), ==, -1));
  g_assert_no_error (error);
  test_critical_says ("*no outcome yet; call q_task_propagate_error() in its callback*",
                      q_task_propagate_error (task, &error));
  g_assert_no_error (error);
  test_critical_says ("*no outcome yet; call q_task_propagate_bytes() in its callback*",
                      g_assert_null (q_task_propagate_bytes (task, &error)));
  g_assert_no_error (error);
  test_critical_says ("*no outcome yet; call q_task_propagate_value() in its callback*",
                      g_assert_null (q_task_propagate_boxed_value (task, &error)));
  g_assert_no_error (error);

  q_task_complete (task);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 8);
  g_assert_finalize_object (task);
}

static void
test_outcome_is_taken_once (void)
{
  TestFate result = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  GError *error = NULL;

  q_task_set_result_pointer (task, &result, test_fate_notify);
  q_task_complete (task);
  g_assert_true (q_task_propagate_pointer (task, &error) == &result);
  test_critical_says ("The task * gave its result or error away before; call q_task_propagate_pointer()*once*",
                      g_assert_null (q_task_propagate_pointer (task, &error)));
  g_assert_no_error (error);
  g_assert_null (q_task_get_result_pointer (task));
  g_assert_finalize_object (task);
  test_assert_alive (&result);
}

/* Complete */

static void
test_complete_in_place_by_the_owner (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_complete (task);
  assert_succeeded (&job);
  test_assert_destroyed_here (&job.opaque);

  /* The callback, then its data, and then the notification */
  g_assert_false (job.was_completed);
  g_assert_cmpint (job.report.serial, <, test_fate_get_serial (&job.opaque));
  g_assert_cmpint (test_fate_get_serial (&job.opaque), <, job.notified);
  g_assert_finalize_object (task);
}

static gboolean
complete_cb (gpointer task)
{
  q_task_complete (task);
  g_assert_true (q_task_get_completed (task));

  return G_SOURCE_REMOVE;
}

static void
test_complete_in_place_in_the_loop (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  g_idle_add (complete_cb, task);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
complete_in_new_iteration_cb (gpointer data,
                              gpointer unused)
{
  Job *job = data;
  QTask *task = job_task_new (job, NULL);

  /* QIOTask's rule, unlike GTask's, has no regard for when it was made */
  q_task_complete (task);
  assert_succeeded (job);
  g_assert_finalize_object (task);
}

static void
test_complete_in_place_as_soon_as_made (void)
{
  g_autoptr (TestLoop) loop = test_loop_new ("owner");
  Job job = JOB_INIT;

  test_loop_call (loop, complete_in_new_iteration_cb, &job);
  g_assert_true (job.report.thread == test_loop_get_thread (loop));
}

static void
test_complete_elsewhere (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  /* Nobody iterates the context: it is tempting to run the callback there */
  test_in_thread (complete_elsewhere_cb, task);
  g_assert_cmpint (job.report.called, ==, 0);
  g_assert_false (q_task_get_completed (task));
  test_assert_alive (&job.opaque);

  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  test_assert_destroyed_here (&job.opaque);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 23);
  g_assert_finalize_object (task);
}

static void
test_complete_elsewhere_while_iterating (void)
{
  g_autoptr (TestLoop) loop = test_loop_new ("owner");
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_context (task, test_loop_get_context (loop));
  test_in_thread (complete_elsewhere_cb, task);
  test_fate_wait (&job.opaque);
  g_assert_true (job.report.thread == test_loop_get_thread (loop));
  test_assert_destroyed_in (&job.opaque, test_loop_get_thread (loop));
  g_object_unref (task);
  test_fate_wait (&job.task_gone);
}

static void
test_complete_with_nobody_iterating (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_empty_worker);
  wait_elsewhere (task);
  assert_state (task, FINISHED);
  g_assert_cmpint (job.report.called, ==, 0);
  g_assert_false (q_task_get_completed (task));
  test_assert_alive (&job.opaque);
  test_assert_alive (&job.work);

  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
test_complete_releases_in_one_dispatch (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_empty_worker);
  while (!job_is_called (&job))
    g_main_context_iteration (NULL, TRUE);

  /* Callback, its data, the worker's data */
  assert_succeeded (&job);
  test_assert_destroyed_here (&job.opaque);
  test_assert_destroyed_here (&job.work);
  g_assert_false (job.was_completed);
  g_assert_cmpint (job.report.serial, <, test_fate_get_serial (&job.opaque));
  g_assert_cmpint (test_fate_get_serial (&job.opaque), <, test_fate_get_serial (&job.work));
  g_assert_cmpint (test_fate_get_serial (&job.opaque), <, job.notified);
  g_assert_finalize_object (task);
}

static void
test_complete_in_place_has_its_context_as_thread_default (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (GMainContext) seen = NULL;
  g_autoptr (GSource) source = g_idle_source_new ();
  QTask *task;

  g_main_context_push_thread_default (context);
  task = q_task_new (NULL, context_cb, &seen, NULL);
  g_main_context_pop_thread_default (context);

  /* In the dispatch of another source of a context that this thread only iterates */
  g_source_set_callback (source, complete_cb, task, NULL);
  g_source_attach (source, context);
  test_run_until (context, q_task_get_completed (task));
  g_assert_true (seen == context);
  g_assert_null (g_main_context_get_thread_default ());
  g_object_unref (task);
  test_run_pending (context);
}

static void
test_complete_twice (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_complete (task);
  test_critical_says ("The task * was completed or returned before*complete or return it once",
                      q_task_complete (task));
  test_critical_says ("*was completed or returned before*once", q_task_return_int (task, 4));
  test_run_pending (NULL);
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
complete_in_callback_cb (QTask *task,
                         gpointer other)
{
  q_task_complete (other);
}

static void
test_complete_in_a_callback (void)
{
  Job job = JOB_INIT;
  QTask *other = job_task_new (&job, NULL);
  QTask *task = q_task_new (NULL, complete_in_callback_cb, other, NULL);

  q_task_complete (task);
  assert_succeeded (&job);
  g_assert_finalize_object (task);
  g_assert_finalize_object (other);
}

static void
nested_loop_cb (QTask *task,
                gpointer data)
{
  Job *job = data;

  job_start (job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (job));
}

static void
test_complete_in_a_nested_loop (void)
{
  Job job = JOB_INIT;
  QTask *other = job_task_new (&job, NULL);
  QTask *task = q_task_new (NULL, nested_loop_cb, &job, NULL);

  q_task_run_in_thread (task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
  g_assert_finalize_object (other);
}

/* Return */

static gboolean
return_cb (gpointer data)
{
  Job *job = data;

  q_task_return_int (job->task, 6);
  g_assert_true (job_is_called (job));

  return G_SOURCE_REMOVE;
}

static void
test_return_in_a_later_iteration (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  g_idle_add (return_cb, &job);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 6);
  g_assert_finalize_object (task);
}

static void
test_return_at_once (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_return_int (task, 6);
  g_assert_cmpint (job.report.called, ==, 0);
  g_assert_false (q_task_get_completed (task));

  /* The outcome is fixed, and can be read */
  assert_state (task, FINISHED);
  g_assert_false (q_task_had_error (task));

  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  test_assert_destroyed_here (&job.opaque);
  g_assert_finalize_object (task);
}

static gboolean
returning_worker (QTask *task,
                  gpointer hold,
                  GError **error)
{
  q_task_return_int (task, 77);

  return test_hold_worker (task, hold, error);
}

static void
test_return_by_a_worker (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  /* The task completes when its worker is through, not when it returns */
  q_task_run_in_thread (task, returning_worker, &job.hold, NULL);
  test_gate_wait (&job.hold.entered);
  test_run_pending (NULL);
  g_assert_cmpint (job.report.called, ==, 0);
  assert_state (task, RUNNING);

  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 77);
  g_assert_finalize_object (task);
}

/* Cancel */

static void
test_cancel_own_cancellable (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  GCancellable *stop = q_task_get_stop_cancellable (task);

  g_assert_true (G_IS_CANCELLABLE (stop));
  g_assert_true (q_task_get_stop_cancellable (task) == stop);
  g_assert_true (q_task_get_cancellable (task) == stop);
  g_assert_false (g_cancellable_is_cancelled (stop));
  g_assert_false (q_task_is_cancelled (task));

  q_task_cancel (task);
  g_assert_true (g_cancellable_is_cancelled (stop));
  g_assert_true (q_task_is_cancelled (task));
  discard (task);

  /* Made on first use, even when that comes after the cancelling */
  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_cancel (task);
  g_assert_true (q_task_is_cancelled (task));
  g_assert_true (g_cancellable_is_cancelled (q_task_get_stop_cancellable (task)));
  discard (task);
}

static void
test_cancel_own_cancellable_directly (void)
{
  Busy busy = BUSY_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  GCancellable *own = q_task_get_cancellable (task);

  busy_start (&busy);
  job_start (&job, busy.pool, job_empty_worker);
  g_cancellable_cancel (own);
  g_assert_true (q_task_is_cancelled (task));
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_state (task, STOPPED);
  g_assert_finalize_object (task);
  busy_end (&busy);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 0);
}

static void
test_cancel_stop_cancellable_follows_the_given (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  QTask *task = q_task_new_async (NULL, given, NULL, NULL);
  GCancellable *stop = q_task_get_stop_cancellable (task);

  g_assert_true (q_task_get_cancellable (task) == given);
  g_assert_true (stop != given);
  g_assert_false (g_cancellable_is_cancelled (stop));

  g_cancellable_cancel (given);
  g_assert_true (q_task_is_cancelled (task));
  g_assert_true (g_cancellable_is_cancelled (stop));
  discard (task);

  /* Also when it is made afterwards */
  task = q_task_new_async (NULL, given, NULL, NULL);
  g_assert_true (q_task_is_cancelled (task));
  g_assert_true (g_cancellable_is_cancelled (q_task_get_stop_cancellable (task)));
  discard (task);
}

static void
test_cancel_never_cancels_the_given (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  QTask *task = q_task_new_async (NULL, given, NULL, NULL);
  QTask *other = q_task_new_async (NULL, given, NULL, NULL);
  g_autoptr (GError) error = NULL;

  q_task_cancel (task);
  g_assert_true (q_task_is_cancelled (task));
  g_assert_true (g_cancellable_is_cancelled (q_task_get_stop_cancellable (task)));
  g_assert_false (g_cancellable_is_cancelled (given));
  g_assert_true (q_task_get_cancellable (task) == given);
  g_assert_false (q_task_is_cancelled (other));
  g_assert_false (g_cancellable_is_cancelled (q_task_get_stop_cancellable (other)));

  /* It reads as cancelled all the same */
  q_task_complete (task);
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&error);
  q_task_complete (other);
  g_assert_false (q_task_propagate_error (other, &error));

  g_assert_finalize_object (task);
  g_assert_finalize_object (other);
}

static void
test_cancel_before_start (void)
{
  Busy busy = BUSY_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  /* It takes no thread, so the busy pool is no matter */
  busy_start (&busy);
  q_task_cancel (task);
  assert_state (task, NEW);
  job_start (&job, busy.pool, job_empty_worker);
  g_assert_cmpint (job.report.called, ==, 0);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_state (task, STOPPED);
  test_assert_destroyed_here (&job.opaque);
  test_assert_destroyed_here (&job.work);
  g_assert_finalize_object (task);

  busy_end (&busy);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 0);
}

static void
test_cancel_before_start_in_thread (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_cancel (task);
  job_start (&job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_state (task, STOPPED);
  test_assert_destroyed_here (&job.work);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 0);
  g_assert_finalize_object (task);
}

static void
test_cancel_of_what_other_code_drives (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_cancel (task);
  g_assert_true (q_task_return_error_if_cancelled (task));
  assert_state (task, STOPPED);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);

  /* It may finish all the same */
  job = (Job) JOB_INIT;
  task = job_task_new (&job, NULL);
  q_task_cancel (task);
  q_task_complete (task);
  assert_state (task, FINISHED);
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

static void
test_cancel_before_start_run_cancelled (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_run_cancelled (task, TRUE);
  q_task_cancel (task);
  job_start (&job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 1);
  g_assert_finalize_object (task);
}

static void
test_cancel_while_queued (void)
{
  Busy busy = BUSY_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  busy_start (&busy);
  job_start (&job, busy.pool, job_empty_worker);
  assert_state (task, QUEUED);
  q_task_cancel (task);
  assert_state (task, STOPPED);
  g_assert_cmpint (job.report.called, ==, 0);

  /* While the only thread of the pool is still busy */
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_assert_destroyed_here (&job.opaque);
  test_assert_destroyed_here (&job.work);
  g_assert_finalize_object (task);

  busy_end (&busy);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 0);
}

static void
cancel_cb (gpointer task,
           gpointer unused)
{
  q_task_cancel (task);
}

static void
test_cancel_while_queued_elsewhere (void)
{
  Busy busy = BUSY_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  busy_start (&busy);
  job_start (&job, busy.pool, job_empty_worker);
  test_in_thread (cancel_cb, task);
  assert_state (task, STOPPED);
  g_assert_cmpint (job.report.called, ==, 0);
  test_assert_alive (&job.opaque);
  test_assert_alive (&job.work);

  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_assert_destroyed_here (&job.opaque);
  test_assert_destroyed_here (&job.work);
  g_assert_finalize_object (task);
  busy_end (&busy);
}

static void
test_cancel_while_queued_run_cancelled (void)
{
  Busy busy = BUSY_INIT;
  Job before = JOB_INIT, job = JOB_INIT;
  QTask *first = job_task_new (&before, NULL);
  QTask *task = job_task_new (&job, NULL);

  /* It is run, and before the others */
  busy_start (&busy);
  q_task_set_run_cancelled (task, TRUE);
  job_start (&before, busy.pool, job_hold_worker);
  job_start (&job, busy.pool, job_empty_worker);
  q_task_cancel (task);
  assert_state (task, QUEUED);
  test_gate_open (&busy.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 1);
  g_assert_cmpint (before.report.called, ==, 0);

  test_gate_open (&before.hold.release);
  test_run_until (NULL, job_is_called (&before));
  assert_succeeded (&before);
  g_assert_finalize_object (task);
  g_assert_finalize_object (first);
  busy_end (&busy);
}

static void
test_cancel_while_running (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_stoppable_worker);
  test_gate_wait (&job.hold.entered);
  assert_state (task, RUNNING);
  q_task_cancel (task);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_state (task, STOPPED);
  g_assert_finalize_object (task);
}

static void
test_cancel_while_running_and_it_goes_on (void)
{
  int check;

  /* A worker that does not listen, and succeeds */
  for (check = 0; check < 2; check++)
    {
      Job job = JOB_INIT;
      QTask *task = job_task_new (&job, NULL);

      q_task_set_check_cancellable (task, check);
      job_start (&job, NULL, job_hold_worker);
      test_gate_wait (&job.hold.entered);
      q_task_cancel (task);
      assert_state (task, STOPPING);
      g_assert_true (q_task_is_cancelled (task));
      test_run_pending (NULL);
      g_assert_cmpint (job.report.called, ==, 0);

      test_gate_open (&job.hold.release);
      test_run_until (NULL, job_is_called (&job));
      if (check)
        {
          assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          g_assert_true (q_task_had_error (task));
          g_assert_error (q_task_get_error (task), G_IO_ERROR, G_IO_ERROR_CANCELLED);
        }
      else
        {
          assert_succeeded (&job);
          g_assert_false (q_task_had_error (task));
          g_assert_null (q_task_get_error (task));
          assert_state (task, FINISHED);
        }
      g_assert_finalize_object (task);
    }
}

static gboolean
polling_worker (QTask *task,
                gpointer data,
                GError **error)
{
  Job *job = data;

  test_gate_open (&job->hold.entered);
  while (!q_task_is_cancelled (task))
    g_thread_yield ();

  return !q_task_set_error_if_cancelled (task);
}

static void
test_cancel_is_polled (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  Job job = JOB_INIT, given_job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  QTask *async = q_task_new_async (NULL, given, test_report_async_cb, &given_job);

  given_job.task = async;
  job_start (&job, NULL, polling_worker);
  job_start (&given_job, NULL, polling_worker);
  test_gate_wait (&job.hold.entered);
  test_gate_wait (&given_job.hold.entered);
  q_task_cancel (task);
  g_cancellable_cancel (given);
  test_run_until (NULL, job_is_called (&job) && job_is_called (&given_job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_failed (&given_job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
  g_assert_finalize_object (async);
}

static void
test_cancel_while_running_through_the_given (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  Job job = JOB_INIT;
  QTask *task = q_task_new_async (NULL, given, test_report_async_cb, &job);

  job.task = task;
  job_start (&job, NULL, job_stoppable_worker);
  test_gate_wait (&job.hold.entered);
  g_cancellable_cancel (given);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_state (task, STOPPED);
  g_assert_finalize_object (task);
}

static void
test_cancel_after_the_outcome (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_empty_worker);
  wait_elsewhere (task);

  /* Its callback has not yet run */
  q_task_cancel (task);
  assert_state (task, FINISHED);
  g_assert_false (q_task_is_cancelled (task));
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
test_cancel_after_the_callback (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_complete (task);
  q_task_cancel (task);
  assert_state (task, FINISHED);
  g_assert_false (q_task_had_error (task));
  test_run_pending (NULL);
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
test_cancel_twice (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_stoppable_worker);
  test_gate_wait (&job.hold.entered);
  q_task_cancel (task);
  q_task_cancel (task);
  test_run_until (NULL, job_is_called (&job));
  q_task_cancel (task);
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

static void
cancel_in_callback_cb (QTask *task,
                       gpointer report)
{
  test_report_cb (task, report);
  g_cancellable_cancel (q_task_get_cancellable (task));
  q_task_cancel (task);
  q_task_cancel (task);
}

static void
test_cancel_in_the_callback (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  Job job = JOB_INIT;
  QTask *task = g_object_new (Q_TYPE_TASK, "cancellable", given, NULL);

  q_task_set_func (task, cancel_in_callback_cb, &job, NULL);
  q_task_get_stop_cancellable (task);
  q_task_run_in_thread (task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
cancelled_handler_cb (GCancellable *cancellable,
                      gpointer task)
{
  q_task_cancel (task);
  g_assert_true (q_task_is_cancelled (task));
}

static void
test_cancel_in_a_cancelled_handler (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  Job job = JOB_INIT;
  QTask *task = q_task_new_async (NULL, given, test_report_async_cb, &job);

  job.task = task;
  job_start (&job, NULL, job_stoppable_worker);
  test_gate_wait (&job.hold.entered);

  /* In the handler of the one, and in that of the other, in turn */
  g_signal_connect (given, "cancelled", G_CALLBACK (cancelled_handler_cb), task);
  g_signal_connect (q_task_get_stop_cancellable (task), "cancelled",
                    G_CALLBACK (cancelled_handler_cb), task);
  g_cancellable_cancel (given);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_signal_handlers_disconnect_by_data (given, task);
  g_assert_finalize_object (task);
}

static void
test_cancel_with_return_on_cancel (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_return_on_cancel (task, TRUE);
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  q_task_cancel (task);
  assert_state (task, STOPPING);
  g_assert_cmpint (job.report.called, ==, 0);

  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (q_task_get_completed (task));
  assert_state (task, STOPPING);
  test_assert_destroyed_here (&job.opaque);

  /* The worker may still use what it was given, and its task */
  test_run_pending (NULL);
  test_assert_alive (&job.work);
  g_object_unref (task);
  test_run_pending (NULL);
  test_assert_alive (&job.work);
  test_assert_alive (&job.task_gone);

  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_gone (&job));
  test_assert_destroyed_here (&job.work);
  test_assert_destroyed_here (&job.task_gone);
  g_assert_cmpint (job.report.called, ==, 1);
}

static void
test_cancel_with_return_on_cancel_and_the_task_kept (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_return_on_cancel (task, TRUE);
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  q_task_cancel (task);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  test_gate_open (&job.hold.release);
  test_run_until (NULL, test_fate_get_count (&job.work) == 1);
  test_assert_destroyed_here (&job.work);
  assert_state (task, STOPPED);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

/* Timeout */

static void
test_timeout_is_described (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  gint64 timeout = -1;

  g_assert_cmpint (q_task_get_timeout (task), ==, 0);
  q_task_set_timeout (task, 5 * G_TIME_SPAN_SECOND);
  g_assert_cmpint (q_task_get_timeout (task), ==, 5 * G_TIME_SPAN_SECOND);
  q_task_set_timeout (task, 0);
  g_assert_cmpint (q_task_get_timeout (task), ==, 0);

  g_object_set (task, "timeout", G_TIME_SPAN_MINUTE, NULL);
  g_assert_cmpint (q_task_get_timeout (task), ==, G_TIME_SPAN_MINUTE);
  g_object_get (task, "timeout", &timeout, NULL);
  g_assert_cmpint (timeout, ==, G_TIME_SPAN_MINUTE);

  /* Nothing runs down before the start */
  q_task_set_timeout (task, 1);
  test_run_pending (NULL);
  g_assert_false (q_task_is_cancelled (task));
  discard (task);
}

static void
test_timeout_asks_to_stop (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  Job job = JOB_INIT;
  QTask *task = q_task_new_async (NULL, given, test_report_async_cb, &job);
  QTask *other = q_task_new_async (NULL, given, NULL, NULL);

  job.task = task;
  q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
  job_start (&job, NULL, job_stoppable_worker);
  test_gate_wait (&job.hold.entered);
  test_run_until (NULL, job_is_called (&job));

  /* The worker said that it was cancelled; it was not */
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_state (task, STOPPED);
  g_assert_true (g_cancellable_is_cancelled (q_task_get_stop_cancellable (task)));
  g_assert_false (g_cancellable_is_cancelled (given));
  g_assert_false (q_task_is_cancelled (other));
  g_assert_true (q_task_had_error (task));

  g_assert_finalize_object (task);
  discard (other);
}

/* A timeout that is not needed any more does not keep the loop busy when its time comes */
static void
test_timeout_that_is_over_wakes_nobody (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  gint64 timeout = 20 * G_TIME_SPAN_MILLISECOND;
  gint64 end;

  q_task_set_timeout (task, timeout);
  end = g_get_monotonic_time () + timeout;
  job_start (&job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  g_assert_finalize_object (task);

  while (g_get_monotonic_time () <= end + G_TIME_SPAN_MILLISECOND)
    g_thread_yield ();
  for (int i = 0; i < 3; i++)
    g_main_context_iteration (NULL, FALSE);
  g_assert_false (g_main_context_pending (NULL));
}

static void
test_timeout_waits_for_the_worker (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  TestGate stopped = TEST_GATE_INIT;

  g_signal_connect_swapped (q_task_get_stop_cancellable (task), "cancelled",
                            G_CALLBACK (test_gate_open), &stopped);
  q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  test_run_until (NULL, test_gate_get_count (&stopped) == 1);

  /* The outcome is fixed at once, the callback comes later */
  test_run_pending (NULL);
  g_assert_cmpint (job.report.called, ==, 0);
  test_assert_alive (&job.opaque);
  wait_elsewhere (task);
  g_assert_true (q_task_is_cancelled (task));
  g_assert_error (q_task_get_error (task), G_IO_ERROR, G_IO_ERROR_TIMED_OUT);

  /* What the worker says does not count any more */
  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_state (task, STOPPED);
  g_assert_finalize_object (task);
}

static void
test_timeout_with_return_on_cancel (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_return_on_cancel (task, TRUE);
  q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_state (task, STOPPING);
  test_assert_destroyed_here (&job.opaque);
  test_assert_alive (&job.work);

  /* The callback has taken the error, and still there was one. */
  test_gate_open (&job.hold.release);
  test_run_until (NULL, test_fate_get_count (&job.work) == 1);
  test_assert_destroyed_here (&job.work);
  assert_state (task, STOPPED);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

static void
test_timeout_set_while_running (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_stoppable_worker);
  test_gate_wait (&job.hold.entered);
  q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_finalize_object (task);
}

static void
test_timeout_taken_back (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_timeout (task, G_TIME_SPAN_HOUR);
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  q_task_set_timeout (task, 0);
  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);

  /* Nothing is left that waits for the hour to pass */
  g_assert_finalize_object (task);
}

static void
test_timeout_not_reached (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_timeout (task, G_TIME_SPAN_HOUR);
  job_start (&job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  assert_state (task, FINISHED);
  g_assert_false (q_task_is_cancelled (task));
  g_assert_finalize_object (task);
}

static void
test_timeout_while_queued (void)
{
  Busy busy = BUSY_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  busy_start (&busy);
  q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
  job_start (&job, busy.pool, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_state (task, STOPPED);
  test_assert_destroyed_here (&job.work);
  g_assert_finalize_object (task);
  busy_end (&busy);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 0);
}

static void
test_timeout_counted_by_an_owner_that_waits (void)
{
  g_autoptr (GError) error = NULL;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
  job_start (&job, NULL, job_stoppable_worker);
  g_assert_true (q_task_wait_until (task, test_end_time (), NULL, &error));
  g_assert_no_error (error);
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_finalize_object (task);
}

static void
test_timeout_counted_by_others_that_wait (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  /* The owner is held up all the time */
  q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  wait_elsewhere (task);
  g_assert_cmpint (job.report.called, ==, 0);
  g_assert_true (q_task_is_cancelled (task));

  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_finalize_object (task);
}

/* Progress */

typedef struct
{
  Job job;
  int n;       /* of notifications */
  double seen; /* by the last of them */
  int serial;  /* of the last of them */
  int n_text;
  char *text;
  gssize n_reports;
  TestGate first, second;
} Progress;

#define PROGRESS_INIT \
  { \
    JOB_INIT, 0, 0.0, 0, 0, NULL, 0, TEST_GATE_INIT, TEST_GATE_INIT \
  }

static void
progress_cb (QTask *task,
             GParamSpec *pspec,
             gpointer data)
{
  Progress *progress = data;

  g_assert_true (g_main_context_is_owner (q_task_get_context (task)));
  g_assert_false (job_is_called (&progress->job));
  progress->n++;
  progress->seen = q_task_get_progress (task);
  progress->serial = test_next_serial ();
}

static void
progress_text_cb (QTask *task,
                  GParamSpec *pspec,
                  gpointer data)
{
  Progress *progress = data;

  g_assert_false (job_is_called (&progress->job));
  progress->n_text++;
  g_free (progress->text);
  progress->text = q_task_dup_progress_text (task);
}

static QTask *
progress_task_new (Progress *progress)
{
  QTask *task = job_task_new (&progress->job, NULL);

  g_signal_connect (task, "notify::progress", G_CALLBACK (progress_cb), progress);
  g_signal_connect (task, "notify::progress-text", G_CALLBACK (progress_text_cb), progress);

  return task;
}

static gboolean
progress_worker (QTask *task,
                 gpointer data,
                 GError **error)
{
  Progress *progress = data;
  int i;

  for (i = 1; i <= 1000; i++)
    {
      g_autofree char *text = g_strdup_printf ("%d of 1000", i);

      q_task_set_progress (task, i / 1000.0, text);
    }
  q_task_set_progress (task, 1.0, NULL);
  progress->n_reports = i;

  return TRUE;
}

static void
test_progress_at_first (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  double fraction = -1;
  char *text = NULL;

  g_assert_cmpfloat (q_task_get_progress (task), ==, 0.0);
  g_assert_null (q_task_dup_progress_text (task));
  g_assert_cmpint (q_task_get_progress_interval (task), ==, 16 * G_TIME_SPAN_MILLISECOND);
  g_object_get (task, "progress", &fraction, "progress-text", &text, NULL);
  g_assert_cmpfloat (fraction, ==, 0.0);
  g_assert_null (text);

  q_task_set_progress_interval (task, G_TIME_SPAN_SECOND);
  g_assert_cmpint (q_task_get_progress_interval (task), ==, G_TIME_SPAN_SECOND);
  discard (task);
}

static void
test_progress_is_coalesced (void)
{
  Progress progress = PROGRESS_INIT;
  QTask *task = progress_task_new (&progress);
  g_autofree char *text = NULL;
  double fraction;

  q_task_set_progress_interval (task, G_TIME_SPAN_HOUR);
  q_task_run_in_thread (task, progress_worker, &progress, NULL);
  wait_elsewhere (task);
  g_assert_cmpint (progress.n, ==, 0);

  test_run_until (NULL, job_is_called (&progress.job));
  assert_succeeded (&progress.job);
  g_assert_cmpint (progress.n_reports, ==, 1001);
  g_assert_cmpint (progress.n, >=, 1);
  g_assert_cmpint (progress.n, <=, 2);
  g_assert_cmpint (progress.n_text, >=, 1);
  g_assert_cmpint (progress.n_text, <=, 2);

  /* The last of all came, and before the callback */
  g_assert_cmpfloat (progress.seen, ==, 1.0);
  g_assert_cmpstr (progress.text, ==, "1000 of 1000");
  g_assert_cmpint (progress.serial, <, progress.job.report.serial);

  g_object_get (task, "progress", &fraction, "progress-text", &text, NULL);
  g_assert_cmpfloat (fraction, ==, 1.0);
  g_assert_cmpstr (text, ==, "1000 of 1000");
  g_free (progress.text);
  g_assert_finalize_object (task);
}

static gboolean
two_steps_worker (QTask *task,
                  gpointer data,
                  GError **error)
{
  Progress *progress = data;

  q_task_set_progress (task, 0.25, "a quarter");
  test_gate_wait (&progress->first);
  q_task_set_progress (task, 0.5, NULL);
  test_gate_open (&progress->job.hold.entered);
  test_gate_wait (&progress->second);

  return TRUE;
}

static void
test_progress_is_limited (void)
{
  Progress progress = PROGRESS_INIT;
  QTask *task = progress_task_new (&progress);

  q_task_set_progress_interval (task, G_TIME_SPAN_HOUR);
  q_task_run_in_thread (task, two_steps_worker, &progress, NULL);
  test_run_until (NULL, progress.n == 1 && progress.n_text == 1);
  g_assert_cmpfloat (progress.seen, ==, 0.25);
  g_assert_cmpstr (progress.text, ==, "a quarter");

  /* The next one would be due in an hour */
  test_gate_open (&progress.first);
  test_gate_wait (&progress.job.hold.entered);
  test_run_pending (NULL);
  g_assert_cmpint (progress.n, ==, 1);

  /* But the end does not wait for that */
  test_gate_open (&progress.second);
  test_run_until (NULL, job_is_called (&progress.job));
  g_assert_cmpint (progress.n, ==, 2);
  g_assert_cmpfloat (progress.seen, ==, 0.5);

  /* No text was no change of the text */
  g_assert_cmpstr (progress.text, ==, "a quarter");
  g_free (progress.text);
  g_assert_finalize_object (task);
}

static void
test_progress_arrives_while_it_runs (void)
{
  Progress progress = PROGRESS_INIT;
  QTask *task = progress_task_new (&progress);

  /* At the usual interval both are seen before the worker ends */
  q_task_run_in_thread (task, two_steps_worker, &progress, NULL);
  test_run_until (NULL, progress.seen == 0.25);
  test_gate_open (&progress.first);
  test_run_until (NULL, progress.seen == 0.5);
  g_assert_cmpint (progress.job.report.called, ==, 0);
  test_gate_open (&progress.second);
  test_run_until (NULL, job_is_called (&progress.job));
  g_assert_cmpint (progress.n, ==, 2);
  g_free (progress.text);
  g_assert_finalize_object (task);
}

static gboolean
answered_worker (QTask *task,
                 gpointer data,
                 GError **error)
{
  Progress *progress = data;

  q_task_set_progress (task, 0.5, NULL);
  test_gate_wait (&progress->first);

  return TRUE;
}

static void
answer_cb (QTask *task,
           GParamSpec *pspec,
           gpointer data)
{
  Progress *progress = data;

  test_gate_open (&progress->first);
}

static void
test_progress_arrives_in_a_wait (void)
{
  Progress progress = PROGRESS_INIT;
  QTask *task = progress_task_new (&progress);
  g_autoptr (GError) error = NULL;

  /* Whose worker waits until the owner, that waits, has heard of it */
  g_signal_connect (task, "notify::progress", G_CALLBACK (answer_cb), &progress);
  q_task_run_in_thread (task, answered_worker, &progress, NULL);
  g_assert_true (q_task_wait_until (task, test_end_time (), NULL, &error));
  g_assert_no_error (error);
  assert_succeeded (&progress.job);
  g_assert_cmpint (progress.n, >=, 1);
  g_assert_finalize_object (task);
}

/* Reports more, while it is being notified of what was reported */
static void
report_more_cb (QTask *task,
                GParamSpec *pspec,
                gpointer data)
{
  if (q_task_get_progress (task) < 1.0)
    q_task_set_progress (task, q_task_get_progress (task) * 2, NULL);
}

static void
test_progress_reported_while_notified (void)
{
  Progress progress = PROGRESS_INIT;
  QTask *task = progress_task_new (&progress);

  /* The last value comes, too, though a notification was under way */
  g_signal_connect (task, "notify::progress", G_CALLBACK (report_more_cb), NULL);
  q_task_set_progress_interval (task, 0);
  q_task_set_progress (task, 0.25, NULL);
  test_run_until (NULL, progress.seen == 1.0);
  g_assert_cmpint (progress.n, ==, 3);

  /* Before the callback, if there is no time for more */
  q_task_set_progress_interval (task, G_TIME_SPAN_HOUR);
  q_task_set_progress (task, 0.5, NULL);
  test_run_pending (NULL);
  g_assert_cmpint (progress.n, ==, 3);
  q_task_complete (task);
  assert_succeeded (&progress.job);
  g_assert_cmpint (progress.n, ==, 4);
  g_assert_cmpfloat (progress.seen, ==, 0.5);
  g_assert_finalize_object (task);
}

static void
test_progress_by_the_owner (void)
{
  Progress progress = PROGRESS_INIT;
  QTask *task = progress_task_new (&progress);

  /* A task that other code drives */
  q_task_set_progress (task, 0.75, "by hand");
  g_assert_cmpfloat (q_task_get_progress (task), ==, 0.75);
  test_run_until (NULL, progress.n == 1 && progress.n_text == 1);
  q_task_complete (task);
  assert_succeeded (&progress.job);
  g_assert_cmpstr (progress.text, ==, "by hand");
  g_free (progress.text);
  g_assert_finalize_object (task);
}

static void
test_progress_before_a_completion_in_place (void)
{
  Progress progress = PROGRESS_INIT;
  QTask *task = progress_task_new (&progress);

  q_task_set_progress (task, 0.5, NULL);
  q_task_complete (task);
  assert_succeeded (&progress.job);
  g_assert_cmpint (progress.n, ==, 1);
  g_assert_cmpfloat (progress.seen, ==, 0.5);
  g_assert_cmpint (progress.serial, <, progress.job.report.serial);
  g_assert_finalize_object (task);
}

static void
test_progress_is_clamped (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_progress (task, 2.0, NULL);
  g_assert_cmpfloat (q_task_get_progress (task), ==, 1.0);
  q_task_set_progress (task, -1.0, NULL);
  g_assert_cmpfloat (q_task_get_progress (task), ==, 0.0);
  q_task_set_progress (task, INFINITY, NULL);
  g_assert_cmpfloat (q_task_get_progress (task), ==, 1.0);
  test_critical (q_task_set_progress (task, NAN, "not a number"));
  g_assert_cmpfloat (q_task_get_progress (task), ==, 1.0);
  g_assert_null (q_task_dup_progress_text (task));
  discard (task);
}

/* Wait */

static void
test_wait_by_the_owner (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  g_autoptr (GError) error = NULL;

  job_start (&job, NULL, job_empty_worker);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);

  /* The callback came within */
  assert_succeeded (&job);
  g_assert_true (q_task_get_completed (task));
  test_assert_destroyed_here (&job.opaque);

  /* And there is nothing to wait for any more */
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  test_run_pending (NULL);
  g_assert_cmpint (job.report.called, ==, 1);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
  test_assert_destroyed_here (&job.work);
}

static void
test_wait_by_the_owner_of_a_failing_task (void)
{
  Job job = JOB_INIT;
  TestFate result = TEST_FATE_INIT;
  QTask *task = job_task_new (&job, NULL);
  g_autoptr (GError) error = NULL;

  /* The error of the task is not one of the waiting */
  q_task_run_in_thread (task, throwing_worker, &result, NULL);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

static void
test_wait_by_the_owner_after_the_outcome (void)
{
  Job job = JOB_INIT, returned = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  g_autoptr (GError) error = NULL;

  /* Fixed elsewhere, with the callback on its way */
  job_start (&job, NULL, job_empty_worker);
  wait_elsewhere (task);
  g_assert_cmpint (job.report.called, ==, 0);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  assert_succeeded (&job);
  test_run_pending (NULL);
  g_assert_finalize_object (task);

  /* Fixed here, for the next iteration */
  task = job_task_new (&returned, NULL);
  q_task_return_boolean (task, TRUE);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  assert_succeeded (&returned);
  test_run_pending (NULL);
  g_assert_cmpint (returned.report.called, ==, 1);
  g_assert_finalize_object (task);
}

static gboolean
count_cb (gpointer n)
{
  ++*(int *) n;

  return G_SOURCE_REMOVE;
}

static void
test_wait_by_the_owner_runs_nothing_else (void)
{
  Job job = JOB_INIT, other_job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  QTask *other = job_task_new (&other_job, NULL);
  int n_dispatched = 0;

  g_idle_add_full (G_PRIORITY_HIGH, count_cb, &n_dispatched, NULL);
  q_task_return_boolean (other, TRUE);
  job_start (&job, NULL, job_empty_worker);
  g_assert_true (q_task_wait (task, NULL, NULL));
  assert_succeeded (&job);
  g_assert_cmpint (n_dispatched, ==, 0);
  g_assert_cmpint (other_job.report.called, ==, 0);

  test_run_until (NULL, n_dispatched == 1 && job_is_called (&other_job));
  g_assert_finalize_object (other);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

static void
test_wait_by_another (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_empty_worker);
  wait_elsewhere (task);
  g_assert_cmpint (job.report.called, ==, 0);
  wait_elsewhere (task);
  test_run_until (NULL, job_is_called (&job));
  wait_elsewhere (task);
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static gpointer
wait_thread (gpointer task)
{
  wait_cb (task, NULL);

  return NULL;
}

static void
test_wait_by_many (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  GThread *threads[5];
  gsize i;

  /* Some of them begin to wait before the start of the task */
  for (i = 0; i < G_N_ELEMENTS (threads); i++)
    {
      threads[i] = g_thread_new ("waiter", wait_thread, task);
      if (i == 2)
        {
          job_start (&job, NULL, job_hold_worker);
          test_gate_wait (&job.hold.entered);
        }
    }
  test_gate_open (&job.hold.release);

  for (i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);

  g_assert_cmpint (job.report.called, ==, 0);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
test_wait_until (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  g_autoptr (GError) error = NULL;

  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);

  /* Past, and about to be */
  g_assert_false (q_task_wait_until (task, g_get_monotonic_time () - 1, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&error);
  g_assert_false (q_task_wait_until (task, g_get_monotonic_time () + 2000, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&error);

  /* The task knows nothing of it */
  assert_state (task, RUNNING);
  g_assert_false (q_task_is_cancelled (task));
  test_gate_open (&job.hold.release);
  g_assert_true (q_task_wait_until (task, test_end_time (), NULL, &error));
  g_assert_no_error (error);
  assert_succeeded (&job);

  /* What is over is over, at whatever time */
  g_assert_true (q_task_wait_until (task, g_get_monotonic_time () - 1, NULL, &error));
  g_assert_no_error (error);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

static gpointer
cancel_when_entered_thread (gpointer data)
{
  gpointer *both = data;
  Job *job = both[0];

  test_gate_wait (&job->hold.entered);

  /* By then the other one blocks, most likely. */
  g_usleep (20 * G_TIME_SPAN_MILLISECOND);
  g_cancellable_cancel (both[1]);

  return NULL;
}

static void
test_wait_cancelled (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  gpointer both[] = { &job, cancellable };
  GThread *thread;

  thread = g_thread_new ("canceller", cancel_when_entered_thread, both);
  job_start (&job, NULL, job_hold_worker);
  g_assert_false (q_task_wait (task, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&error);
  g_thread_join (thread);

  /* At once, when it is cancelled already */
  g_assert_false (q_task_wait (task, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  /* The waiting was cancelled, the task was not */
  assert_state (task, RUNNING);
  g_assert_false (q_task_is_cancelled (task));
  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

static void
test_wait_for_a_cancelled_task (void)
{
  Busy busy = BUSY_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  g_autoptr (GError) error = NULL;

  busy_start (&busy);
  job_start (&job, busy.pool, job_empty_worker);
  q_task_cancel (task);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  assert_failed (&job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
  test_assert_destroyed_here (&job.work);
  busy_end (&busy);
}

static void
test_wait_for_what_was_never_started (void)
{
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_false (q_task_wait (task, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_clear_error (&error);
  g_assert_false (q_task_wait_until (task, test_end_time (), NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  assert_state (task, NEW);

  /* It can still be started */
  q_task_run_in_thread (task, test_empty_worker, NULL, NULL);
  g_clear_error (&error);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
}

static gboolean
waiting_for_itself_worker (QTask *task,
                           gpointer opaque,
                           GError **error)
{
  return q_task_wait_until (task, test_end_time (), NULL, error);
}

static void
test_wait_for_oneself (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_run_in_thread (task, waiting_for_itself_worker, NULL, NULL);
  test_run_until (NULL, job_is_called (&job));
  assert_failed (&job, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_assert_finalize_object (task);
}

static void
wait_in_callback_cb (QTask *task,
                     gpointer data)
{
  Job *job = data;
  g_autoptr (GError) error = NULL;

  job_start (job, NULL, job_empty_worker);
  g_assert_true (q_task_wait_until (job->task, test_end_time (), NULL, &error));
  g_assert_no_error (error);
  assert_succeeded (job);
}

static void
test_wait_in_a_callback (void)
{
  Job job = JOB_INIT;
  QTask *other = job_task_new (&job, NULL);
  QTask *task = q_task_new (NULL, wait_in_callback_cb, &job, NULL);

  q_task_run_in_thread (task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_cmpint (job.report.called, ==, 1);
  g_assert_finalize_object (task);
  g_object_unref (other);
  test_run_until (NULL, job_is_gone (&job));
}

static void
wait_own_callback_cb (QTask *task,
                      gpointer called)
{
  g_autoptr (GError) error = NULL;

  /* Which may succeed or not, but must not hang */
  if (!q_task_wait_until (task, test_end_time (), NULL, &error))
    g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  *(gboolean *) called = TRUE;
}

static void
test_wait_in_its_own_callback (void)
{
  gboolean called = FALSE;
  QTask *task = q_task_new (NULL, wait_own_callback_cb, &called, NULL);

  q_task_run_in_thread (task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_true (called);
  g_assert_finalize_object (task);
}

typedef struct
{
  QTask *task;
  GCancellable *cancellable;
  TestGate called;
  GThread *thread;
  GError *error;
  int serial;
} Waiter;

#define WAITER_INIT \
  { \
    NULL, NULL, TEST_GATE_INIT, NULL, NULL, 0 \
  }

static void
waiter_cb (GObject *source,
           GAsyncResult *result,
           gpointer data)
{
  Waiter *waiter = data;
  gboolean ended;

  g_assert_true (source == G_OBJECT (waiter->task));
  ended = q_task_wait_finish (waiter->task, result, &waiter->error);
  g_assert_cmpint (ended, ==, waiter->error == NULL);
  waiter->thread = g_thread_self ();
  waiter->serial = test_next_serial ();
  test_gate_open (&waiter->called);
}

static void
waiter_start_cb (gpointer data,
                 gpointer unused)
{
  Waiter *waiter = data;

  q_task_wait_async (waiter->task, waiter->cancellable, waiter_cb, waiter);
}

static void
waiter_start (Waiter *waiter,
              QTask *task,
              TestLoop *loop)
{
  waiter->task = task;
  if (loop != NULL)
    test_loop_call (loop, waiter_start_cb, waiter);
  else
    waiter_start_cb (waiter, NULL);
}

static void
test_wait_async (void)
{
  g_autoptr (TestLoop) here = test_loop_new ("here");
  g_autoptr (TestLoop) there = test_loop_new ("there");
  TestLoop *loops[] = { NULL, here, there, NULL, here, there, NULL };
  Waiter waiters[7] = { WAITER_INIT, WAITER_INIT, WAITER_INIT, WAITER_INIT, WAITER_INIT, WAITER_INIT, WAITER_INIT };
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  gsize i;

  /* Before the start, and while it runs */
  for (i = 0; i < 3; i++)
    waiter_start (&waiters[i], task, loops[i]);
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  for (i = 3; i < 6; i++)
    waiter_start (&waiters[i], task, loops[i]);
  test_run_pending (NULL);
  for (i = 0; i < 6; i++)
    g_assert_cmpint (test_gate_get_count (&waiters[i].called), ==, 0);

  test_gate_open (&job.hold.release);
  test_run_until (NULL, test_gate_get_count (&waiters[0].called) == 1 &&
                          test_gate_get_count (&waiters[3].called) == 1);
  assert_succeeded (&job);

  /* And when it is over */
  waiter_start (&waiters[6], task, loops[6]);
  g_assert_cmpint (test_gate_get_count (&waiters[6].called), ==, 0);
  test_run_until (NULL, test_gate_get_count (&waiters[6].called) == 1);

  for (i = 0; i < 7; i++)
    {
      test_gate_wait (&waiters[i].called);
      g_assert_no_error (waiters[i].error);
      g_assert_true (waiters[i].thread == (loops[i] != NULL ? test_loop_get_thread (loops[i]) : g_thread_self ()));
      if (loops[i] == NULL)
        g_assert_cmpint (job.report.serial, <, waiters[i].serial);
    }

  g_clear_pointer (&here, test_loop_free);
  g_clear_pointer (&there, test_loop_free);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

/* In the context of the task the callback comes first, also when it can wait */
static void
test_wait_async_after_a_lazy_callback (void)
{
  Waiter waiters[2] = { WAITER_INIT, WAITER_INIT };
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  q_task_set_completion_priority (task, G_PRIORITY_LOW);
  waiter_start (&waiters[0], task, NULL);
  job_start (&job, NULL, job_empty_worker);
  wait_elsewhere (task);

  /* Before the callback, and after the outcome */
  waiter_start (&waiters[1], task, NULL);
  test_run_until (NULL, test_gate_get_count (&waiters[0].called) == 1 &&
                          test_gate_get_count (&waiters[1].called) == 1);
  assert_succeeded (&job);
  for (int i = 0; i < 2; i++)
    {
      g_assert_no_error (waiters[i].error);
      g_assert_cmpint (job.report.serial, <, waiters[i].serial);
    }
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

static void
test_wait_async_by_another_alone (void)
{
  g_autoptr (TestLoop) there = test_loop_new ("there");
  Waiter waiter = WAITER_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  /* The owner does not iterate, and holds up nobody */
  waiter_start (&waiter, task, there);
  job_start (&job, NULL, job_empty_worker);
  test_gate_wait (&waiter.called);
  g_assert_no_error (waiter.error);
  g_assert_true (waiter.thread == test_loop_get_thread (there));
  g_assert_cmpint (job.report.called, ==, 0);

  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_clear_pointer (&there, test_loop_free);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

static void
test_wait_async_cancelled (void)
{
  g_autoptr (TestLoop) there = test_loop_new ("there");
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Waiter before = WAITER_INIT, mine = WAITER_INIT, theirs = WAITER_INIT, patient = WAITER_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);
  mine.cancellable = theirs.cancellable = before.cancellable = cancellable;
  waiter_start (&mine, task, NULL);
  waiter_start (&theirs, task, there);
  waiter_start (&patient, task, NULL);
  g_cancellable_cancel (cancellable);
  waiter_start (&before, task, NULL);

  /* Not in the midst of the cancelling */
  g_assert_cmpint (test_gate_get_count (&mine.called), ==, 0);
  test_run_until (NULL, test_gate_get_count (&mine.called) == 1 &&
                          test_gate_get_count (&before.called) == 1);
  g_assert_error (mine.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_error (before.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_gate_wait (&theirs.called);
  g_assert_error (theirs.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (theirs.thread == test_loop_get_thread (there));
  assert_state (task, RUNNING);
  g_assert_false (q_task_is_cancelled (task));

  test_gate_open (&job.hold.release);
  test_run_until (NULL, test_gate_get_count (&patient.called) == 1);
  g_assert_no_error (patient.error);
  assert_succeeded (&job);
  g_clear_error (&mine.error);
  g_clear_error (&before.error);
  g_clear_error (&theirs.error);
  g_clear_pointer (&there, test_loop_free);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
}

/* Release: what the caller gave is released where the caller lives */

typedef struct
{
  Job job;
  TestFate source, cancellable, task_data, result, closure, stop;
} Belongings;

#define BELONGINGS_INIT \
  { \
    JOB_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT \
  }

static void
closure_gone_cb (gpointer data,
                 GClosure *closure)
{
  test_fate_notify (data);
}

static void
closure_cb (QTask *task,
            GParamSpec *pspec,
            gpointer data)
{
}

/* A task to which all was given that can be given */
static QTask *
belongings_task_new (Belongings *all)
{
  g_autoptr (GObject) source = test_probe_new (&all->source);
  g_autoptr (GCancellable) cancellable = test_cancellable_new (&all->cancellable);
  QTask *task;

  task = g_object_new (Q_TYPE_TASK,
                       "source-object", source,
                       "cancellable", cancellable,
                       NULL);
  all->job.task = task;
  q_task_set_func (task, test_report_cb, all, job_opaque_free);
  q_task_set_task_data (task, &all->task_data, test_fate_notify);
  g_signal_connect_data (task, "notify::completed",
                         G_CALLBACK (closure_cb), &all->closure, closure_gone_cb, 0);
  test_fate_watch (&all->job.task_gone, task);
  test_fate_watch (&all->stop, q_task_get_stop_cancellable (task));

  return task;
}

static gboolean
belongings_worker (QTask *task,
                   gpointer data,
                   GError **error)
{
  Belongings *all = data;

  q_task_set_result_pointer (task, &all->result, test_fate_notify);

  return TRUE;
}

static void
belongings_start (Belongings *all)
{
  q_task_run_in_thread (all->job.task, belongings_worker, all, job_work_free);
}

static void
belongings_assert_alive (Belongings *all)
{
  test_assert_alive (&all->source);
  test_assert_alive (&all->cancellable);
  test_assert_alive (&all->task_data);
  test_assert_alive (&all->result);
  test_assert_alive (&all->closure);
  test_assert_alive (&all->stop);
  test_assert_alive (&all->job.task_gone);
}

static void
belongings_assert_destroyed_in (Belongings *all,
                                GThread *thread)
{
  test_assert_destroyed_in (&all->job.opaque, thread);
  test_assert_destroyed_in (&all->job.work, thread);
  test_assert_destroyed_in (&all->source, thread);
  test_assert_destroyed_in (&all->cancellable, thread);
  test_assert_destroyed_in (&all->task_data, thread);
  test_assert_destroyed_in (&all->result, thread);
  test_assert_destroyed_in (&all->closure, thread);
  test_assert_destroyed_in (&all->stop, thread);
  test_assert_destroyed_in (&all->job.task_gone, thread);
}

static void
test_release_by_the_owner (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  belongings_start (&all);
  test_run_until (NULL, job_is_called (&all.job));
  assert_succeeded (&all.job);
  test_assert_destroyed_here (&all.job.opaque);
  test_assert_destroyed_here (&all.job.work);
  belongings_assert_alive (&all);

  g_assert_finalize_object (task);
  belongings_assert_destroyed_in (&all, g_thread_self ());
}

static void
test_release_by_nobody_but_the_task (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  /* The task lives for its worker and its completion alone */
  belongings_start (&all);
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&all.job));
  assert_succeeded (&all.job);
  belongings_assert_destroyed_in (&all, g_thread_self ());
}

static void
test_release_elsewhere (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  belongings_start (&all);
  test_run_until (NULL, job_is_called (&all.job));
  test_in_thread (unref_cb, task);
  belongings_assert_alive (&all);
  test_run_until (NULL, job_is_gone (&all.job));
  belongings_assert_destroyed_in (&all, g_thread_self ());
}

static void
test_release_elsewhere_before_the_callback (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  belongings_start (&all);
  wait_elsewhere (task);
  test_in_thread (unref_cb, task);
  belongings_assert_alive (&all);
  g_assert_cmpint (all.job.report.called, ==, 0);
  test_run_until (NULL, job_is_gone (&all.job));
  assert_succeeded (&all.job);
  belongings_assert_destroyed_in (&all, g_thread_self ());
}

static gboolean
unref_worker (QTask *task,
              gpointer object,
              GError **error)
{
  g_object_unref (object);

  return TRUE;
}

static void
test_release_in_a_worker (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);
  QTask *other = q_task_new (NULL, NULL, NULL, NULL);

  belongings_start (&all);
  test_run_until (NULL, job_is_called (&all.job));
  q_task_run_in_thread (other, unref_worker, task, NULL);
  wait_elsewhere (other);
  belongings_assert_alive (&all);
  test_run_until (NULL, job_is_gone (&all.job));
  belongings_assert_destroyed_in (&all, g_thread_self ());
  test_run_until (NULL, q_task_get_completed (other));
  g_assert_finalize_object (other);
}

static gboolean
own_unref_worker (QTask *task,
                  gpointer data,
                  GError **error)
{
  /* The reference of its caller */
  g_object_unref (task);

  return belongings_worker (task, data, error);
}

static void
test_release_in_its_own_worker (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  q_task_run_in_thread (task, own_unref_worker, &all, job_work_free);
  test_run_until (NULL, job_is_gone (&all.job));
  assert_succeeded (&all.job);
  belongings_assert_destroyed_in (&all, g_thread_self ());
}

static void
unref_in_callback_cb (QTask *task,
                      gpointer data)
{
  Belongings *all = data;

  test_report_cb (task, &all->job.report);
  g_object_unref (task);
  test_assert_alive (&all->job.task_gone);
}

static void
test_release_in_the_callback (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  /* In an iteration */
  q_task_set_func (task, unref_in_callback_cb, &all, NULL);
  all.job.opaque = (TestFate) TEST_FATE_INIT;
  q_task_set_func (task, unref_in_callback_cb, &all, job_opaque_free);
  belongings_start (&all);
  test_run_until (NULL, job_is_gone (&all.job));
  assert_succeeded (&all.job);
  belongings_assert_destroyed_in (&all, g_thread_self ());

  /* In place */
  all = (Belongings) BELONGINGS_INIT;
  task = belongings_task_new (&all);
  q_task_set_func (task, unref_in_callback_cb, &all, NULL);
  q_task_set_result_pointer (task, &all.result, test_fate_notify);
  q_task_complete (task);
  test_run_until (NULL, job_is_gone (&all.job));
  assert_succeeded (&all.job);
  test_assert_destroyed_here (&all.source);
  test_assert_destroyed_here (&all.result);
}

static void
unref_in_handler_cb (GCancellable *cancellable,
                     gpointer task)
{
  g_object_unref (task);
}

static void
test_release_in_a_cancelled_handler (void)
{
  int in_stop, late;

  /* Of the given cancellable, and of the one that follows it; of a task that
   * is over, and of one that just runs
   */
  for (in_stop = 0; in_stop < 2; in_stop++)
    for (late = 0; late < 2; late++)
      {
        Belongings all = BELONGINGS_INIT;
        QTask *task = belongings_task_new (&all);
        g_autoptr (GCancellable) given = g_object_ref (q_task_get_cancellable (task));
        g_autoptr (GCancellable) stop = g_object_ref (q_task_get_stop_cancellable (task));

        if (late)
          {
            belongings_start (&all);
            test_run_until (NULL, job_is_called (&all.job));
            assert_succeeded (&all.job);
          }
        else
          {
            q_task_run_in_thread (task, test_stoppable_worker, &all.job.hold, NULL);
            test_gate_wait (&all.job.hold.entered);
          }

        g_signal_connect (in_stop ? stop : given, "cancelled",
                          G_CALLBACK (unref_in_handler_cb), task);
        if (in_stop && late)
          g_cancellable_cancel (stop);
        else
          g_cancellable_cancel (given);
        test_run_until (NULL, job_is_gone (&all.job));
        test_assert_destroyed_here (&all.job.task_gone);
        test_assert_destroyed_here (&all.source);
        if (!late)
          assert_failed (&all.job, G_IO_ERROR, G_IO_ERROR_CANCELLED);

        /* Nobody else looks at these */
        g_clear_object (&given);
        g_clear_object (&stop);
        test_assert_destroyed_here (&all.cancellable);
        test_assert_destroyed_here (&all.stop);
      }
}

static gpointer
cancel_thread (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);

  return NULL;
}

static void
test_release_in_a_cancelled_handler_elsewhere (void)
{
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);
  g_autoptr (GCancellable) given = g_object_ref (q_task_get_cancellable (task));

  belongings_start (&all);
  test_run_until (NULL, job_is_called (&all.job));
  g_signal_connect (given, "cancelled", G_CALLBACK (unref_in_handler_cb), task);
  g_thread_join (g_thread_new ("canceller", cancel_thread, given));
  test_assert_alive (&all.job.task_gone);
  test_assert_alive (&all.source);
  test_run_until (NULL, job_is_gone (&all.job));
  g_clear_object (&given);
  belongings_assert_destroyed_in (&all, g_thread_self ());
}

static void
test_release_of_what_was_withdrawn (void)
{
  Busy busy = BUSY_INIT;
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  busy_start (&busy);
  q_task_set_result_pointer (task, &all.result, test_fate_notify);
  job_start (&all.job, busy.pool, job_empty_worker);
  test_in_thread (cancel_cb, task);
  test_in_thread (unref_cb, task);
  test_assert_alive (&all.source);
  test_assert_alive (&all.job.opaque);
  test_assert_alive (&all.job.work);
  test_run_until (NULL, job_is_gone (&all.job));
  assert_failed (&all.job, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_assert_destroyed_here (&all.job.opaque);
  test_assert_destroyed_here (&all.job.work);
  test_assert_destroyed_here (&all.source);
  test_assert_destroyed_here (&all.cancellable);
  test_assert_destroyed_here (&all.task_data);
  busy_end (&busy);
}

static void
test_release_by_another_owner (void)
{
  g_autoptr (TestLoop) loop = test_loop_new ("owner");
  Belongings all = BELONGINGS_INIT;
  QTask *task = belongings_task_new (&all);

  /* All that was made here goes there */
  q_task_set_context (task, test_loop_get_context (loop));
  belongings_start (&all);
  test_fate_wait (&all.job.work);
  g_object_unref (task);
  test_fate_wait (&all.job.task_gone);
  test_fate_wait (&all.source);
  test_fate_wait (&all.cancellable);
  test_fate_wait (&all.task_data);
  test_fate_wait (&all.result);
  test_fate_wait (&all.closure);
  test_fate_wait (&all.stop);
  belongings_assert_destroyed_in (&all, test_loop_get_thread (loop));
  g_assert_true (all.job.report.thread == test_loop_get_thread (loop));
}

/* Abandoned */

static void
test_abandoned_by_the_owner (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*");
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
  g_test_assert_expected_messages ();
  assert_failed (&job, Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED);
  test_assert_destroyed_here (&job.opaque);
  test_assert_destroyed_here (&job.task_gone);
}

static void
test_abandoned_elsewhere (void)
{
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*");
  test_in_thread (unref_cb, task);
  g_assert_cmpint (job.report.called, ==, 0);
  test_assert_alive (&job.opaque);
  test_run_until (NULL, job_is_gone (&job));
  g_test_assert_expected_messages ();
  assert_failed (&job, Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED);
  test_assert_destroyed_here (&job.opaque);
  test_assert_destroyed_here (&job.task_gone);
}

static void
test_abandoned_with_a_result (void)
{
  Job job = JOB_INIT;
  TestFate result = TEST_FATE_INIT;
  QTask *task = job_task_new (&job, NULL);

  /* Set, and never completed */
  q_task_set_result_pointer (task, &result, test_fate_notify);
  g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*");
  g_object_unref (task);
  test_run_until (NULL, job_is_gone (&job));
  g_test_assert_expected_messages ();
  assert_failed (&job, Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED);
  test_assert_destroyed_here (&result);
}

static void
keep_cb (QTask *task,
         gpointer kept)
{
  g_autoptr (GError) error = NULL;

  *(QTask **) kept = g_object_ref (task);
  g_assert_true (q_task_propagate_error (task, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED);
}

static void
test_abandoned_and_kept (void)
{
  QTask *kept = NULL;
  TestFate gone = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, keep_cb, &kept, NULL);

  test_fate_watch (&gone, task);
  g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*");
  g_object_unref (task);
  test_run_until (NULL, kept != NULL);
  g_test_assert_expected_messages ();
  g_assert_true (kept == task);
  g_assert_true (q_task_get_completed (task));
  g_assert_true (q_task_had_error (task));

  /* As long as one likes, and then it goes without a further word */
  test_run_pending (NULL);
  test_assert_alive (&gone);
  g_object_unref (task);
  test_run_until (NULL, test_fate_get_count (&gone) == 1);
  test_assert_destroyed_here (&gone);
}

/* Start */

static void
test_start_twice (void)
{
  Job job = JOB_INIT, again = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  g_autoptr (GError) error = NULL;

  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);

  /* The data stays with the caller, when the caller is told */
  g_assert_false (q_task_pool_push (q_task_pool_get_default (), task,
                                    job_empty_worker, &again, job_work_free, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_PENDING);
  test_assert_alive (&again.work);

  /* Else it is released, and here */
  test_critical_says ("The task * was started or completed before; make a new one for each run",
                      q_task_run_in_thread (task, job_empty_worker, &again, job_work_free));
  test_run_until (NULL, test_fate_get_count (&again.work) == 1);
  test_assert_destroyed_here (&again.work);
  test_assert_alive (&job.work);
  assert_state (task, RUNNING);

  /* The first goes on */
  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_cmpint (g_atomic_int_get (&again.n_ran), ==, 0);
  g_assert_cmpint (g_atomic_int_get (&job.n_ran), ==, 1);

  /* Nor can it be started when it is over */
  g_clear_error (&error);
  g_assert_false (q_task_pool_push (q_task_pool_get_default (), task,
                                    job_empty_worker, &again, job_work_free, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_PENDING);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&again.work);
}

static void
test_start_states (void)
{
  Busy busy = BUSY_INIT;
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);

  busy_start (&busy);
  assert_state (task, NEW);
  job_start (&job, busy.pool, job_hold_worker);
  assert_state (task, QUEUED);
  test_gate_open (&busy.hold.release);
  test_gate_wait (&job.hold.entered);
  assert_state (task, RUNNING);
  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_state (task, FINISHED);
  g_assert_finalize_object (task);
  busy_end (&busy);
}

/* Bad input */

#define critical_returns(call, what) test_critical (g_assert_true (call == what))
#define critical_says(pattern, call, what) test_critical_says (pattern, g_assert_true (call == what))

static void
test_bad_input_is_no_task (gconstpointer data)
{
  TestFate gone = TEST_FATE_INIT;
  GObject *probe = test_probe_new (&gone);
  gboolean wrong_type = GPOINTER_TO_INT (data);
  QTask *task = wrong_type ? (QTask *) probe : NULL;
  GValue value = G_VALUE_INIT;
  GError *error = NULL;
  GError *given = g_error_new_literal (G_IO_ERROR, G_IO_ERROR_FAILED, "given");
  g_autoptr (GSource) source = g_idle_source_new ();
  g_autoptr (GMainContext) context = g_main_context_new ();

  test_critical (q_task_set_func (task, NULL, NULL, NULL));

  critical_returns (q_task_get_source (task), NULL);
  critical_returns (q_task_get_source_object (task), NULL);
  critical_returns (q_task_get_name (task), NULL);
  test_critical (q_task_set_name (task, "name"));
  test_critical (q_task_set_static_name (task, "name"));
  test_critical (q_task_get_priority (task));
  test_critical (q_task_set_priority (task, 1));
  test_critical (q_task_get_completion_priority (task));
  test_critical (q_task_set_completion_priority (task, 1));
  critical_returns (q_task_get_check_cancellable (task), FALSE);
  test_critical (q_task_set_check_cancellable (task, FALSE));
  critical_returns (q_task_get_return_on_cancel (task), FALSE);
  critical_returns (q_task_set_return_on_cancel (task, TRUE), FALSE);
  critical_returns (q_task_get_run_cancelled (task), FALSE);
  test_critical (q_task_set_run_cancelled (task, TRUE));
  critical_returns (q_task_get_source_tag (task), NULL);
  test_critical (q_task_set_source_tag (task, NULL));
  critical_returns (q_task_get_task_data (task), NULL);
  test_critical (q_task_set_task_data (task, NULL, NULL));
  critical_returns (q_task_get_context (task), NULL);
  test_critical (q_task_set_context (task, context));
  test_critical (q_task_attach_source (task, source, G_SOURCE_FUNC (count_cb)));
  g_assert_null (g_source_get_context (source));

  test_critical (q_task_set_error (task, given));
  test_critical (q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_FAILED, "new"));
  critical_returns (q_task_set_error_if_cancelled (task), FALSE);
  test_critical (q_task_set_result_pointer (task, &gone, test_fate_notify));
  test_critical (q_task_set_result_int (task, 1));
  test_critical (q_task_set_result_boolean (task, TRUE));
  g_value_init (&value, G_TYPE_INT);
  test_critical (q_task_set_result_value (task, &value));
  g_value_unset (&value);
  test_critical (q_task_set_result_variant (task, NULL));
  test_critical (q_task_set_result_object (task, probe));
  test_critical (q_task_set_result_bytes (task, NULL));
  critical_returns (q_task_had_error (task), FALSE);
  critical_returns (q_task_get_error (task), NULL);
  critical_returns (q_task_get_result_pointer (task), NULL);
  test_critical (q_task_propagate_error (task, &error));
  critical_returns (q_task_propagate_pointer (task, &error), NULL);
  critical_returns (q_task_propagate_int (task, &error), -1);
  critical_returns (q_task_propagate_boolean (task, &error), FALSE);
  critical_returns (q_task_propagate_value (task, &value, &error), FALSE);
  critical_returns (q_task_propagate_boxed_value (task, &error), NULL);
  critical_returns (q_task_propagate_variant (task, &error), NULL);
  critical_returns (q_task_propagate_object (task, &error), NULL);
  critical_returns (q_task_propagate_bytes (task, &error), NULL);

  test_critical (q_task_complete (task));
  critical_returns (q_task_get_completed (task), FALSE);
  test_critical (q_task_return_pointer (task, &gone, test_fate_notify));
  test_critical (q_task_return_int (task, 1));
  test_critical (q_task_return_boolean (task, TRUE));
  test_critical (q_task_return_value (task, NULL));
  test_critical (q_task_return_error (task, given));
  test_critical (q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_FAILED, "new"));
  test_critical (q_task_return_new_error_literal (task, G_IO_ERROR, G_IO_ERROR_FAILED, "new"));
  test_critical (q_task_return_prefixed_error (task, given, "prefix: "));
  critical_returns (q_task_return_error_if_cancelled (task), FALSE);

  critical_returns (q_task_get_cancellable (task), NULL);
  critical_returns (q_task_get_stop_cancellable (task), NULL);
  test_critical (q_task_cancel (task));
  critical_returns (q_task_is_cancelled (task), FALSE);
  critical_returns (q_task_get_timeout (task), 0);
  test_critical (q_task_set_timeout (task, 1));

  test_critical (q_task_set_progress (task, 0.5, "half"));
  critical_returns (q_task_get_progress (task), 0.0);
  critical_returns (q_task_dup_progress_text (task), NULL);
  test_critical (q_task_get_progress_interval (task));
  test_critical (q_task_set_progress_interval (task, 1));

  test_critical (q_task_poll (task));
  critical_returns (q_task_wait (task, NULL, &error), FALSE);
  critical_returns (q_task_wait_until (task, 0, NULL, &error), FALSE);
  test_critical (q_task_wait_async (task, NULL, NULL, NULL));
  critical_returns (q_task_wait_finish (task, NULL, &error), FALSE);

  test_critical (q_task_run_in_thread (task, job_empty_worker, &gone, test_fate_notify));
  test_critical (q_task_run_in_thread_sync (task, job_empty_worker, &gone, test_fate_notify));
  critical_returns (q_task_pool_push (q_task_pool_get_default (), task,
                                      job_empty_worker, &gone, test_fate_notify, &error),
                    FALSE);

  /* Nothing was taken, and nothing was told */
  g_assert_no_error (error);
  g_assert_cmpstr (given->message, ==, "given");
  g_error_free (given);
  test_run_pending (NULL);
  test_assert_alive (&gone);
  g_assert_finalize_object (probe);
}

static void
test_bad_input_at_making (void)
{
  TestFate gone = TEST_FATE_INIT;
  GObject *probe = test_probe_new (&gone);
  GParamSpec *pspec = g_param_spec_ref_sink (g_param_spec_boolean ("no-object", NULL, NULL, FALSE, 0));

  critical_returns (q_task_new ((GObject *) pspec, NULL, NULL, NULL), NULL);
  critical_returns (q_task_new_async (pspec, NULL, NULL, NULL), NULL);
  critical_returns (q_task_new_async (NULL, (GCancellable *) probe, NULL, NULL), NULL);
  test_critical (q_task_report_error (NULL, test_report_async_cb, NULL, NULL, NULL));
  g_assert_false (q_task_is_valid (NULL, NULL));
  g_assert_false (q_task_is_valid (probe, probe));
  test_run_pending (NULL);

  g_param_spec_unref (pspec);
  g_assert_finalize_object (probe);
}

static void
test_bad_input_to_a_task (void)
{
  Job job = JOB_INIT;
  TestFate gone = TEST_FATE_INIT;
  GObject *probe = test_probe_new (&gone);
  QTask *task = job_task_new (&job, NULL);
  QTask *other = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GSource) source = g_idle_source_new ();
  g_autoptr (GError) error = NULL;

  /* Wrong types */
  critical_returns (q_task_wait (task, (GCancellable *) probe, &error), FALSE);
  critical_returns (q_task_wait_until (task, 0, (GCancellable *) probe, &error), FALSE);
  test_critical (q_task_wait_async (task, (GCancellable *) probe, NULL, NULL));
  critical_returns (q_task_wait_finish (task, G_ASYNC_RESULT (other), &error), FALSE);
  critical_returns (q_task_wait_finish (task, (GAsyncResult *) probe, &error), FALSE);
  test_critical (q_task_set_result_object (task, (GObject *) source));

  /* NULL where something must be */
  test_critical (q_task_attach_source (task, NULL, G_SOURCE_FUNC (count_cb)));
  critical_returns (q_task_wait_finish (task, NULL, &error), FALSE);
  test_critical (q_task_return_error (task, NULL));
  test_critical (q_task_return_prefixed_error (task, NULL, "prefix: "));

  /* No work: the base class brings none */
  test_critical_says ("The task QTask * has no work to do; give it a worker*run()",
                      q_task_run_in_thread (task, NULL, &gone, test_fate_notify));
  test_critical_says ("*has no work to do; give it a worker*",
                      q_task_run_in_thread_sync (task, NULL, &gone, test_fate_notify));
  critical_says ("*has no work to do; give it a worker*",
                 q_task_pool_push (q_task_pool_get_default (), task,
                                   NULL, &gone, test_fate_notify, &error),
                 FALSE);
  critical_returns (q_task_pool_push (NULL, task, job_empty_worker, &gone, test_fate_notify, &error), FALSE);
  critical_returns (q_task_pool_push ((QTaskPool *) probe, task,
                                      job_empty_worker, &gone, test_fate_notify, &error),
                    FALSE);

  /* What does not go together */
  q_task_set_return_on_cancel (task, TRUE);
  test_critical_says ("The task * returns on cancel*switch return-on-cancel off first",
                      q_task_set_check_cancellable (task, FALSE));
  g_assert_true (q_task_get_check_cancellable (task));
  q_task_set_return_on_cancel (task, FALSE);
  q_task_set_check_cancellable (task, FALSE);
  critical_says ("The task * cannot return on cancel; switch check-cancellable on first",
                 q_task_set_return_on_cancel (task, TRUE), FALSE);
  g_assert_false (q_task_get_return_on_cancel (task));
  q_task_set_check_cancellable (task, TRUE);

  /* Out of range */
  test_critical (q_task_set_timeout (task, -1));
  g_assert_cmpint (q_task_get_timeout (task), ==, 0);
  test_critical (q_task_set_progress_interval (task, -1));
  g_assert_cmpint (q_task_get_progress_interval (task), ==, 16 * G_TIME_SPAN_MILLISECOND);

  /* The task is as new */
  g_assert_no_error (error);
  assert_state (task, NEW);
  test_run_pending (NULL);
  test_assert_alive (&gone);
  job_start (&job, NULL, job_empty_worker);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);

  critical_returns (q_task_propagate_value (task, NULL, &error), FALSE);
  g_assert_no_error (error);
  g_assert_finalize_object (task);
  discard (other);
  g_assert_finalize_object (probe);
}

static void
test_bad_input_once_started (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  Job job = JOB_INIT;
  QTask *task = job_task_new (&job, NULL);
  g_autoptr (GObject) source = g_object_new (G_TYPE_OBJECT, NULL);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();

  q_task_set_name (task, "thumbnail");
  job_start (&job, NULL, job_hold_worker);
  test_gate_wait (&job.hold.entered);

#define late_says(function, call) \
  test_critical_says ("The task “thumbnail” was started or completed before; call " function \
                      "() before the start", \
                      call)

  late_says ("q_task_set_context", q_task_set_context (task, context));
  late_says ("q_task_set_name", q_task_set_name (task, "late"));
  late_says ("q_task_set_static_name", q_task_set_static_name (task, "late"));
  late_says ("q_task_set_func", q_task_set_func (task, NULL, NULL, NULL));
  late_says ("q_task_set_run_cancelled", q_task_set_run_cancelled (task, TRUE));
  test_critical_says ("The task “thumbnail” *was started before*", g_object_set (task, "source-object", source, NULL));
  test_critical_says ("The task “thumbnail” *was started before*",
                      g_object_set (task, "cancellable", cancellable, NULL));

  /* None of it was done. */
  g_assert_true (q_task_get_context (task) == g_main_context_default ());
  g_assert_cmpstr (q_task_get_name (task), ==, "thumbnail");
  g_assert_false (q_task_get_run_cancelled (task));
  g_assert_null (q_task_get_source (task));
  g_assert_true (q_task_get_cancellable (task) != cancellable);
  test_gate_open (&job.hold.release);
  test_run_until (NULL, job_is_called (&job));
  assert_succeeded (&job);
  g_assert_finalize_object (task);
}

/* A result of one kind is not read as another, which would be a crash in a binding. */
static void
test_misuse_result_of_another_kind (void)
{
  g_autoptr (QTask) number = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (QTask) variant = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GVariant) taken = NULL;
  GError *error = NULL;

  q_task_set_result_int (number, 7);
  q_task_complete (number);
  critical_says ("The task * has no result for q_task_propagate_variant(); read it with q_task_propagate_int()*",
                 q_task_propagate_variant (number, &error), NULL);
  critical_says ("*no result for q_task_propagate_object()*", q_task_propagate_object (number, &error), NULL);
  critical_says ("*no result for q_task_propagate_bytes()*", q_task_propagate_bytes (number, &error), NULL);
  critical_says ("*no result for q_task_propagate_value()*", q_task_propagate_boxed_value (number, &error), NULL);
  g_assert_cmpint (q_task_propagate_int (number, &error), ==, 7);

  q_task_set_result_variant (variant, g_variant_new_string ("result"));
  q_task_complete (variant);
  critical_says ("*no result for q_task_propagate_int(); read it with q_task_propagate_variant()",
                 q_task_propagate_int (variant, &error), -1);
  critical_says ("*no result for q_task_propagate_boolean(); read it with q_task_propagate_variant()",
                 q_task_propagate_boolean (variant, &error), FALSE);
  critical_says ("*no result for q_task_propagate_bytes(); read it with q_task_propagate_variant()",
                 q_task_propagate_bytes (variant, &error), NULL);
  taken = q_task_propagate_variant (variant, &error);
  g_assert_cmpstr (g_variant_get_string (taken, NULL), ==, "result");
  g_assert_no_error (error);
}

static void
assert_says_what_reads (QTask *task,
                        const char *pattern)
{
  q_task_complete (task);
  critical_says (pattern, q_task_propagate_int (task, NULL), -1);
  g_assert_finalize_object (task);
}

static void
test_misuse_is_told_what_reads_the_result (void)
{
  g_auto (GValue) value = G_VALUE_INIT;
  g_autoptr (GBytes) bytes = g_bytes_new_static ("bytes", 5);
  g_autoptr (GObject) object = g_object_new (G_TYPE_OBJECT, NULL);
  TestFate fate = TEST_FATE_INIT;
  QTask *task;

  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_bytes (task, bytes);
  assert_says_what_reads (task, "*no result for q_task_propagate_int(); read it with q_task_propagate_bytes()");

  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_object (task, object);
  assert_says_what_reads (task, "*read it with q_task_propagate_object()");

  task = q_task_new (NULL, NULL, NULL, NULL);
  g_value_init (&value, G_TYPE_INT);
  q_task_set_result_value (task, &value);
  assert_says_what_reads (task, "*read it with q_task_propagate_value()");

  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_pointer (task, &fate, test_fate_notify);
  assert_says_what_reads (task, "*read it with q_task_propagate_pointer()");
}

int
main (int argc,
      char **argv)
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/task/make/new", test_make_new);
  g_test_add_func ("/task/make/new-of-nothing", test_make_new_of_nothing);
  g_test_add_func ("/task/make/new-async", test_make_new_async);
  g_test_add_func ("/task/make/set-func", test_make_set_func);
  g_test_add_func ("/task/make/context-is-the-thread-default", test_make_context_is_the_thread_default);
  g_test_add_func ("/task/make/set-context", test_make_set_context);
  g_test_add_func ("/task/make/subclass", test_make_subclass);
  g_test_add_func ("/task/make/subclass-that-fails", test_make_subclass_that_fails);
  g_test_add_func ("/task/make/subclass-with-a-worker", test_make_subclass_with_a_worker);
  g_test_add_func ("/task/describe/flags", test_describe_flags);
  g_test_add_func ("/task/describe/name", test_describe_name);
  g_test_add_func ("/task/describe/name-names-the-thread", test_describe_name_names_the_thread);
  g_test_add_func ("/task/describe/priority", test_describe_priority);
  g_test_add_func ("/task/describe/completion-priority-orders-callbacks", test_describe_completion_priority_orders_callbacks);
  g_test_add_func ("/task/describe/completion-priority-alone", test_describe_completion_priority_alone);
  g_test_add_func ("/task/describe/completion-priority-among-other-sources", test_describe_completion_priority_among_other_sources);
  g_test_add_func ("/task/describe/completion-priority-overtakes", test_describe_completion_priority_overtakes);
  g_test_add_func ("/task/describe/completion-priority-while-iterating", test_describe_completion_priority_while_iterating);
  g_test_add_func ("/task/describe/source-tag", test_describe_source_tag);
  g_test_add_func ("/task/describe/task-data", test_describe_task_data);
  g_test_add_func ("/task/describe/completed", test_describe_completed);
  g_test_add_func ("/task/describe/notifies-the-owner", test_describe_notifies_the_owner);
  g_test_add_func ("/task/describe/async-result", test_describe_async_result);
  g_test_add_func ("/task/outcome/of-nothing-is-success", test_outcome_of_nothing_is_success);
  g_test_add_func ("/task/outcome/of-a-worker-is-success", test_outcome_of_a_worker_is_success);
  g_test_add_func ("/task/outcome/error", test_outcome_error);
  g_test_add_func ("/task/outcome/error-is-borrowed", test_outcome_error_is_borrowed);
  g_test_add_func ("/task/outcome/error-may-be-ignored", test_outcome_error_may_be_ignored);
  g_test_add_func ("/task/outcome/first-error-wins", test_outcome_first_error_wins);
  g_test_add_func ("/task/outcome/null-error-is-none", test_outcome_null_error_is_none);
  g_test_add_func ("/task/outcome/error-beats-result", test_outcome_error_beats_result);
  g_test_add_func ("/task/outcome/error-if-cancelled", test_outcome_error_if_cancelled);
  g_test_add_func ("/task/outcome/pointer", test_outcome_pointer);
  g_test_add_func ("/task/outcome/result-is-replaced", test_outcome_result_is_replaced);
  g_test_add_func ("/task/outcome/int-and-boolean", test_outcome_int_and_boolean);
  g_test_add_func ("/task/outcome/value", test_outcome_value);
  g_test_add_func ("/task/outcome/variant", test_outcome_variant);
  g_test_add_func ("/task/outcome/object", test_outcome_object);
  g_test_add_func ("/task/outcome/bytes", test_outcome_bytes);
  g_test_add_func ("/task/outcome/error-is-read-by-all", test_outcome_error_is_read_by_all);
  g_test_add_func ("/task/outcome/of-workers", test_outcome_of_workers);
  g_test_add_func ("/task/outcome/too-late-is-freed", test_outcome_too_late_is_freed);
  g_test_add_func ("/task/outcome/is-not-read-before-it-is", test_outcome_is_not_read_before_it_is);
  g_test_add_func ("/task/outcome/is-taken-once", test_outcome_is_taken_once);
  g_test_add_func ("/task/complete/in-place-by-the-owner", test_complete_in_place_by_the_owner);
  g_test_add_func ("/task/complete/in-place-in-the-loop", test_complete_in_place_in_the_loop);
  g_test_add_func ("/task/complete/in-place-as-soon-as-made", test_complete_in_place_as_soon_as_made);
  g_test_add_func ("/task/complete/elsewhere", test_complete_elsewhere);
  g_test_add_func ("/task/complete/elsewhere-while-iterating", test_complete_elsewhere_while_iterating);
  g_test_add_func ("/task/complete/with-nobody-iterating", test_complete_with_nobody_iterating);
  g_test_add_func ("/task/complete/releases-in-one-dispatch", test_complete_releases_in_one_dispatch);
  g_test_add_func ("/task/complete/in-place-has-its-context-as-thread-default", test_complete_in_place_has_its_context_as_thread_default);
  g_test_add_func ("/task/complete/twice", test_complete_twice);
  g_test_add_func ("/task/complete/in-a-callback", test_complete_in_a_callback);
  g_test_add_func ("/task/complete/in-a-nested-loop", test_complete_in_a_nested_loop);
  g_test_add_func ("/task/return/in-a-later-iteration", test_return_in_a_later_iteration);
  g_test_add_func ("/task/return/at-once", test_return_at_once);
  g_test_add_func ("/task/return/by-a-worker", test_return_by_a_worker);
  g_test_add_func ("/task/cancel/own-cancellable", test_cancel_own_cancellable);
  g_test_add_func ("/task/cancel/own-cancellable-directly", test_cancel_own_cancellable_directly);
  g_test_add_func ("/task/cancel/stop-cancellable-follows-the-given", test_cancel_stop_cancellable_follows_the_given);
  g_test_add_func ("/task/cancel/never-cancels-the-given", test_cancel_never_cancels_the_given);
  g_test_add_func ("/task/cancel/before-start", test_cancel_before_start);
  g_test_add_func ("/task/cancel/before-start-in-thread", test_cancel_before_start_in_thread);
  g_test_add_func ("/task/cancel/of-what-other-code-drives", test_cancel_of_what_other_code_drives);
  g_test_add_func ("/task/cancel/before-start-run-cancelled", test_cancel_before_start_run_cancelled);
  g_test_add_func ("/task/cancel/while-queued", test_cancel_while_queued);
  g_test_add_func ("/task/cancel/while-queued-elsewhere", test_cancel_while_queued_elsewhere);
  g_test_add_func ("/task/cancel/while-queued-run-cancelled", test_cancel_while_queued_run_cancelled);
  g_test_add_func ("/task/cancel/while-running", test_cancel_while_running);
  g_test_add_func ("/task/cancel/while-running-and-it-goes-on", test_cancel_while_running_and_it_goes_on);
  g_test_add_func ("/task/cancel/is-polled", test_cancel_is_polled);
  g_test_add_func ("/task/cancel/while-running-through-the-given", test_cancel_while_running_through_the_given);
  g_test_add_func ("/task/cancel/after-the-outcome", test_cancel_after_the_outcome);
  g_test_add_func ("/task/cancel/after-the-callback", test_cancel_after_the_callback);
  g_test_add_func ("/task/cancel/twice", test_cancel_twice);
  g_test_add_func ("/task/cancel/in-the-callback", test_cancel_in_the_callback);
  g_test_add_func ("/task/cancel/in-a-cancelled-handler", test_cancel_in_a_cancelled_handler);
  g_test_add_func ("/task/cancel/with-return-on-cancel", test_cancel_with_return_on_cancel);
  g_test_add_func ("/task/cancel/with-return-on-cancel-and-the-task-kept", test_cancel_with_return_on_cancel_and_the_task_kept);
  g_test_add_func ("/task/timeout/is-described", test_timeout_is_described);
  g_test_add_func ("/task/timeout/asks-to-stop", test_timeout_asks_to_stop);
  g_test_add_func ("/task/timeout/that-is-over-wakes-nobody", test_timeout_that_is_over_wakes_nobody);
  g_test_add_func ("/task/timeout/waits-for-the-worker", test_timeout_waits_for_the_worker);
  g_test_add_func ("/task/timeout/with-return-on-cancel", test_timeout_with_return_on_cancel);
  g_test_add_func ("/task/timeout/set-while-running", test_timeout_set_while_running);
  g_test_add_func ("/task/timeout/taken-back", test_timeout_taken_back);
  g_test_add_func ("/task/timeout/not-reached", test_timeout_not_reached);
  g_test_add_func ("/task/timeout/while-queued", test_timeout_while_queued);
  g_test_add_func ("/task/timeout/counted-by-an-owner-that-waits", test_timeout_counted_by_an_owner_that_waits);
  g_test_add_func ("/task/timeout/counted-by-others-that-wait", test_timeout_counted_by_others_that_wait);
  g_test_add_func ("/task/progress/at-first", test_progress_at_first);
  g_test_add_func ("/task/progress/is-coalesced", test_progress_is_coalesced);
  g_test_add_func ("/task/progress/is-limited", test_progress_is_limited);
  g_test_add_func ("/task/progress/arrives-while-it-runs", test_progress_arrives_while_it_runs);
  g_test_add_func ("/task/progress/arrives-in-a-wait", test_progress_arrives_in_a_wait);
  g_test_add_func ("/task/progress/reported-while-notified", test_progress_reported_while_notified);
  g_test_add_func ("/task/progress/by-the-owner", test_progress_by_the_owner);
  g_test_add_func ("/task/progress/before-a-completion-in-place", test_progress_before_a_completion_in_place);
  g_test_add_func ("/task/progress/is-clamped", test_progress_is_clamped);
  g_test_add_func ("/task/wait/by-the-owner", test_wait_by_the_owner);
  g_test_add_func ("/task/wait/by-the-owner-of-a-failing-task", test_wait_by_the_owner_of_a_failing_task);
  g_test_add_func ("/task/wait/by-the-owner-after-the-outcome", test_wait_by_the_owner_after_the_outcome);
  g_test_add_func ("/task/wait/by-the-owner-runs-nothing-else", test_wait_by_the_owner_runs_nothing_else);
  g_test_add_func ("/task/wait/by-another", test_wait_by_another);
  g_test_add_func ("/task/wait/by-many", test_wait_by_many);
  g_test_add_func ("/task/wait/until", test_wait_until);
  g_test_add_func ("/task/wait/cancelled", test_wait_cancelled);
  g_test_add_func ("/task/wait/for-a-cancelled-task", test_wait_for_a_cancelled_task);
  g_test_add_func ("/task/wait/for-what-was-never-started", test_wait_for_what_was_never_started);
  g_test_add_func ("/task/wait/for-oneself", test_wait_for_oneself);
  g_test_add_func ("/task/wait/in-a-callback", test_wait_in_a_callback);
  g_test_add_func ("/task/wait/in-its-own-callback", test_wait_in_its_own_callback);
  g_test_add_func ("/task/wait/async", test_wait_async);
  g_test_add_func ("/task/wait/async-after-a-lazy-callback", test_wait_async_after_a_lazy_callback);
  g_test_add_func ("/task/wait/async-by-another-alone", test_wait_async_by_another_alone);
  g_test_add_func ("/task/wait/async-cancelled", test_wait_async_cancelled);
  g_test_add_func ("/task/release/by-the-owner", test_release_by_the_owner);
  g_test_add_func ("/task/release/by-nobody-but-the-task", test_release_by_nobody_but_the_task);
  g_test_add_func ("/task/release/elsewhere", test_release_elsewhere);
  g_test_add_func ("/task/release/elsewhere-before-the-callback", test_release_elsewhere_before_the_callback);
  g_test_add_func ("/task/release/in-a-worker", test_release_in_a_worker);
  g_test_add_func ("/task/release/in-its-own-worker", test_release_in_its_own_worker);
  g_test_add_func ("/task/release/in-the-callback", test_release_in_the_callback);
  g_test_add_func ("/task/release/in-a-cancelled-handler", test_release_in_a_cancelled_handler);
  g_test_add_func ("/task/release/in-a-cancelled-handler-elsewhere", test_release_in_a_cancelled_handler_elsewhere);
  g_test_add_func ("/task/release/of-what-was-withdrawn", test_release_of_what_was_withdrawn);
  g_test_add_func ("/task/release/by-another-owner", test_release_by_another_owner);
  g_test_add_func ("/task/abandoned/by-the-owner", test_abandoned_by_the_owner);
  g_test_add_func ("/task/abandoned/elsewhere", test_abandoned_elsewhere);
  g_test_add_func ("/task/abandoned/with-a-result", test_abandoned_with_a_result);
  g_test_add_func ("/task/abandoned/and-kept", test_abandoned_and_kept);
  g_test_add_func ("/task/start/twice", test_start_twice);
  g_test_add_func ("/task/start/states", test_start_states);
  g_test_add_func ("/task/bad-input/at-making", test_bad_input_at_making);
  g_test_add_func ("/task/bad-input/to-a-task", test_bad_input_to_a_task);
  g_test_add_func ("/task/bad-input/once-started", test_bad_input_once_started);
  g_test_add_data_func ("/task/bad-input/is-null", GINT_TO_POINTER (FALSE), test_bad_input_is_no_task);
  g_test_add_data_func ("/task/bad-input/is-of-another-type", GINT_TO_POINTER (TRUE), test_bad_input_is_no_task);
  g_test_add_func ("/task/misuse/result-of-another-kind", test_misuse_result_of_another_kind);
  g_test_add_func ("/task/misuse/is-told-what-reads-the-result", test_misuse_is_told_what_reads_the_result);

  return g_test_run ();
}
