/* export-jobs.c: exported tasks of all kinds, for test-export.c
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/q-task-export.h>

#include "export-jobs.h"
#include "test-util.h"

static TestGate entered = TEST_GATE_INIT;
static TestGate released = TEST_GATE_INIT;
static TestGate itself = TEST_GATE_INIT;
static struct job_handle *own_handle;
static int seen_code = -1;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int n_args;
static int n_results;
static int n_results_made;
static int n_tasks;

static void
count (int *counter,
       int change)
{
  pthread_mutex_lock (&mutex);
  *counter += change;
  g_assert_cmpint (*counter, >=, 0);
  if (counter == &n_results && change > 0)
    n_results_made++;
  pthread_cond_broadcast (&cond);
  pthread_mutex_unlock (&mutex);
}

static int
read_counter (int *counter)
{
  int value;

  pthread_mutex_lock (&mutex);
  value = *counter;
  pthread_mutex_unlock (&mutex);

  return value;
}

static JobArgs *
job_args_copy (const JobArgs *args)
{
  JobArgs *copy;

  if (args->kind < JOB_SUCCEED || args->kind > JOB_WAIT_FOR_ITSELF)
    return NULL;

  copy = g_new (JobArgs, 1);
  *copy = *args;
  copy->text = g_strdup (args->text);
  count (&n_args, 1);

  return copy;
}

static void
job_args_free (JobArgs *args)
{
  g_free ((char *) args->text);
  g_free (args);
  count (&n_args, -1);
}

static JobResult *
job_result_new (int number)
{
  JobResult *result = g_new (JobResult, 1);

  result->number = number;
  result->is_alive = TRUE;
  count (&n_results, 1);

  return result;
}

static void
job_result_free (JobResult *result)
{
  g_assert_true (result->is_alive);
  result->is_alive = FALSE;
  g_free (result);
  count (&n_results, -1);
}

static void
task_gone (gpointer data G_GNUC_UNUSED,
           GObject *task G_GNUC_UNUSED)
{
  count (&n_tasks, -1);
}

static void
wait_for_cancel (QTask *task)
{
  GPollFD fd;

  /* As a worker does that waits for something else, too. */
  g_assert_true (g_cancellable_make_pollfd (q_task_get_stop_cancellable (task), &fd));
  while (!q_task_is_cancelled (task))
    g_assert_cmpint (g_poll (&fd, 1, TEST_TIME_LIMIT * 1000), >, 0);
  g_cancellable_release_fd (q_task_get_stop_cancellable (task));
}

/* There is nobody to hear of it, and so nobody to wait for. */
static void
use_task (QTask *task)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (q_task_get_context (task));
  g_assert_false (q_task_is_cancelled (task));
  g_assert_false (g_cancellable_is_cancelled (q_task_get_stop_cancellable (task)));
  q_task_set_progress (task, 0.5, "Halfway");
  g_assert_cmpfloat (q_task_get_progress (task), ==, 0.5);
  g_assert_true (q_task_sync (task, &error));
  g_assert_no_error (error);
  q_task_set_task_data (task, g_strdup ("data"), g_free);
}

static gboolean
job_run (QTask *task,
         const JobArgs *args,
         JobResult **result,
         GError **error)
{
  count (&n_tasks, 1);
  g_object_weak_ref (G_OBJECT (task), task_gone, NULL);
  test_gate_open (&entered);

  switch (args->kind)
    {
    case JOB_HOLD:
      test_gate_wait (&released);
      break;

    case JOB_FAIL:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, args->text);
      return FALSE;

    case JOB_FAIL_BY_TASK:
      q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "%s", args->text);
      return FALSE;

    case JOB_FAIL_SILENTLY:
      return FALSE;

    case JOB_FAIL_WITH_RESULT:
      *result = job_result_new (args->number);
      return FALSE;

    case JOB_NO_RESULT:
      return TRUE;

    case JOB_WAIT_FOR_CANCEL:
      wait_for_cancel (task);
      return FALSE;

    case JOB_IGNORE_CANCEL:
      wait_for_cancel (task);
      break;

    case JOB_NEST:
      {
        JobArgs inner_args = { JOB_SUCCEED, args->number, NULL };

        *result = job_wait (job_spawn (&inner_args));
        g_assert_nonnull (*result);
        (*result)->number++;
        return TRUE;
      }

    case JOB_USE_TASK:
      use_task (task);
      break;

    case JOB_WAIT_FOR_ITSELF:
      test_gate_wait (&itself);
      g_assert_null (job_wait (own_handle));
      g_assert_cmpstr (job_last_error_domain (), ==, g_quark_to_string (Q_TASK_ERROR));
      pthread_mutex_lock (&mutex);
      seen_code = job_last_error_code ();
      pthread_mutex_unlock (&mutex);
      break;

    case JOB_SUCCEED:
    default:
      break;
    }

  *result = job_result_new (args->number);

  return TRUE;
}

Q_TASK_EXPORT_FULL (job, JobArgs, JobResult, job_run, job_args_copy, job_args_free, job_result_free)

static gboolean
echo_run (QTask *task,
          const char *text,
          char **result,
          GError **error)
{
  if (text[0] == '!')
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, text + 1);
      return FALSE;
    }

  *result = g_strdup (text);

  return TRUE;
}

Q_TASK_EXPORT_FULL (echo, char, char, echo_run, g_strdup, g_free, g_free)

void
job_wait_for_entered (int n)
{
  test_gate_wait_for (&entered, n);
}

int
job_get_entered (void)
{
  return test_gate_get_count (&entered);
}

void
job_hold (void)
{
  test_gate_close (&released);
}

void
job_release (void)
{
  test_gate_open (&released);
}

void
job_set_itself (struct job_handle *handle)
{
  own_handle = handle;
  test_gate_open (&itself);
}

int
job_get_seen_code (void)
{
  return read_counter (&seen_code);
}

void
job_call_in_context (void (*func) (void *data),
                     void *data)
{
  GMainContext *context = g_main_context_new ();

  g_main_context_push_thread_default (context);
  func (data);
  g_assert_false (g_main_context_pending (context));
  g_main_context_pop_thread_default (context);
  g_main_context_unref (context);
}

int
job_get_n_args (void)
{
  return read_counter (&n_args);
}

int
job_get_n_results (void)
{
  return read_counter (&n_results);
}

int
job_get_n_tasks (void)
{
  return read_counter (&n_tasks);
}

int
job_get_n_results_made (void)
{
  return read_counter (&n_results_made);
}

void
job_wait_until_quiet (int n)
{
  struct timespec end;

  clock_gettime (CLOCK_REALTIME, &end);
  end.tv_sec += TEST_TIME_LIMIT;

  pthread_mutex_lock (&mutex);
  while (n_args != 0 || n_tasks != 0 || n_results != n)
    if (pthread_cond_timedwait (&cond, &mutex, &end) != 0)
      g_error ("There still are %d copies of arguments, %d tasks, and %d results in the place of %d",
               n_args, n_tasks, n_results, n);
  pthread_mutex_unlock (&mutex);
}
