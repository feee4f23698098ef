/* test-export.c: exported tasks, called from plain C
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * This file includes nothing of GLib or QTask, and there is no main loop anywhere. What is called
 * is in doc/examples/spin.c and in export-jobs.c.
 *
 * usage: test-export [--fork]
 */

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../doc/examples/spin.h"
#include "export-jobs.h"

/* Nothing here takes longer, in seconds, not even under valgrind. */
#define TIME_LIMIT 600

/* Of GIOErrorEnum and QTaskError, as a caller of another language knows them */
#define IO_ERROR "g-io-error-quark"
#define IO_ERROR_NOT_FOUND 1
#define IO_ERROR_INVALID_ARGUMENT 13
#define IO_ERROR_CANCELLED 19
#define TASK_ERROR "q-task-error-quark"
#define TASK_ERROR_FAILED 0
#define TASK_ERROR_DEADLOCK 4
#define TASK_ERROR_FORKED 7

#define check(condition) \
  do \
    { \
      if (!(condition)) \
        { \
          printf ("Bail out! %s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
          fflush (stdout); \
          _exit (1); \
        } \
    } \
  while (0)

#define check_error(prefix, domain, code) \
  do \
    { \
      check (prefix##_last_error_message () != NULL); \
      check (prefix##_last_error_length () == strlen (prefix##_last_error_message ())); \
      check (strcmp (prefix##_last_error_domain (), domain) == 0); \
      check (prefix##_last_error_code () == (code)); \
    } \
  while (0)

static struct job_handle *
spawn (int kind,
       int number,
       const char *text)
{
  JobArgs args = { kind, number, text };
  struct job_handle *handle = job_spawn (&args);

  check (handle != NULL);

  return handle;
}

static void
check_result (JobResult *result,
              int number)
{
  check (result != NULL);
  check (result->is_alive);
  check (result->number == number);
  job_result_destroy (result);
}

static void
test_spin (void)
{
  SpinArgs args = { 1000 };
  SpinResult *result = spin_wait (spin_spawn (&args));

  check (result != NULL);
  check (result->n_spins == 1000);
  check (result->seconds >= 0.0);
  spin_result_destroy (result);

  args.max_spins = UINT64_MAX;
  check (spin_wait (spin_spawn (&args)) == NULL);
  check_error (spin, IO_ERROR, IO_ERROR_INVALID_ARGUMENT);
  check (strstr (spin_last_error_message (), "18446744073709551615") != NULL);
}

/* Spins until it is told to stop, which is how it succeeds; or fails, if there was an end. */
static void
test_spin_cancelled (void)
{
  SpinArgs args = { 0 };
  SpinHandle *handle = spin_spawn (&args);

  check (spin_poll (handle) == SPIN_PENDING);
  check (!spin_cancelled (handle));
  spin_cancel (handle);
  check (spin_cancelled (handle));
  spin_result_destroy (spin_wait (handle)); /* none, where it was cancelled before it ran */

  args.max_spins = (uint64_t) 1 << 40;
  handle = spin_spawn (&args);
  spin_cancel (handle);
  check (spin_wait (handle) == NULL);
  check_error (spin, IO_ERROR, IO_ERROR_CANCELLED);
}

static void
test_wait (void)
{
  check_result (job_wait (spawn (JOB_SUCCEED, 42, NULL)), 42);
  job_wait_until_quiet (0);
}

static void
test_string (void)
{
  char text[] = "Grüße";
  struct echo_handle *handle = echo_spawn (text);
  char *result;

  memset (text, 'x', strlen (text)); /* it has a copy */
  result = echo_wait (handle);
  check (result != NULL && strcmp (result, "Grüße") == 0);
  echo_result_destroy (result);

  check (echo_wait (echo_spawn ("!Nein")) == NULL);
  check (strcmp (echo_last_error_message (), "Nein") == 0);
}

static void
test_error (void)
{
  job_last_error_clear ();
  check (job_last_error_message () == NULL);
  check (job_last_error_length () == 0);
  check (job_last_error_domain () == NULL);
  check (job_last_error_code () == 0);

  check (job_wait (spawn (JOB_FAIL, 0, "It is not here")) == NULL);
  check_error (job, IO_ERROR, IO_ERROR_NOT_FOUND);
  check (strcmp (job_last_error_message (), "It is not here") == 0);

  /* Success does not clear it. */
  check_result (job_wait (spawn (JOB_SUCCEED, 1, NULL)), 1);
  check_error (job, IO_ERROR, IO_ERROR_NOT_FOUND);

  check (job_wait (spawn (JOB_FAIL_BY_TASK, 0, "Nor there")) == NULL);
  check_error (job, IO_ERROR, IO_ERROR_NOT_FOUND);
  check (strcmp (job_last_error_message (), "Nor there") == 0);
  job_wait_until_quiet (0);
}

static void
test_error_unsaid (void)
{
  check (job_wait (spawn (JOB_FAIL_SILENTLY, 0, NULL)) == NULL);
  check_error (job, TASK_ERROR, TASK_ERROR_FAILED);
  check (strstr (job_last_error_message (), "job") != NULL);

  job_last_error_clear ();
  check (job_wait (spawn (JOB_FAIL_WITH_RESULT, 3, NULL)) == NULL);
  check_error (job, TASK_ERROR, TASK_ERROR_FAILED);

  job_last_error_clear ();
  check (job_wait (spawn (JOB_NO_RESULT, 0, NULL)) == NULL);
  check_error (job, TASK_ERROR, TASK_ERROR_FAILED);
  job_wait_until_quiet (0);
}

static void
test_null (void)
{
  JobArgs args = { -1, 0, NULL };

  job_last_error_clear ();
  job_handle_destroy (NULL);
  job_result_destroy (NULL);
  job_cancel (NULL);
  check (!job_cancelled (NULL));
  check (job_last_error_message () == NULL);

  check (job_spawn (NULL) == NULL);
  check_error (job, IO_ERROR, IO_ERROR_INVALID_ARGUMENT);
  job_last_error_clear ();
  check (job_wait (NULL) == NULL);
  check_error (job, IO_ERROR, IO_ERROR_INVALID_ARGUMENT);
  job_last_error_clear ();
  check (job_poll (NULL) == SPIN_FAILED);
  check_error (job, IO_ERROR, IO_ERROR_INVALID_ARGUMENT);

  /* What the copying refuses */
  job_last_error_clear ();
  check (job_spawn (&args) == NULL);
  check_error (job, IO_ERROR, IO_ERROR_INVALID_ARGUMENT);
}

/* A language without types may well mix them up. */
static void
test_other_prefix (void)
{
  struct job_handle *handle = spawn (JOB_SUCCEED, 5, NULL);

  check (echo_wait ((struct echo_handle *) (void *) handle) == NULL);
  check (strstr (echo_last_error_message (), "echo") != NULL);
  echo_handle_destroy ((struct echo_handle *) (void *) handle);
  check_result (job_wait (handle), 5);
}

/* Polls until that says something else. */
static int
poll_until_ended (struct job_handle *handle)
{
  int status;

  while ((status = job_poll (handle)) == SPIN_PENDING)
    usleep (100);

  return status;
}

static void
test_poll (void)
{
  int n_entered = job_get_entered ();
  struct job_handle *handle = spawn (JOB_WAIT_FOR_CANCEL, 0, NULL);

  job_last_error_clear ();
  check (job_poll (handle) == SPIN_PENDING);
  job_wait_for_entered (n_entered + 1);
  check (job_poll (handle) == SPIN_PENDING);
  check (job_last_error_message () == NULL);
  job_cancel (handle);
  check (poll_until_ended (handle) == SPIN_FAILED);
  check_error (job, IO_ERROR, IO_ERROR_CANCELLED);
  job_last_error_clear ();
  check (job_poll (handle) == SPIN_FAILED);
  check_error (job, IO_ERROR, IO_ERROR_CANCELLED);
  check (job_wait (handle) == NULL);

  /* The result stays where it is. */
  job_last_error_clear ();
  handle = spawn (JOB_SUCCEED, 7, NULL);
  check (poll_until_ended (handle) == SPIN_DONE);
  check (job_poll (handle) == SPIN_DONE);
  check (job_last_error_message () == NULL);
  check_result (job_wait (handle), 7);
  job_wait_until_quiet (0);
}

static void
test_cancel (void)
{
  int n_entered = job_get_entered ();
  struct job_handle *handle = spawn (JOB_WAIT_FOR_CANCEL, 0, NULL);

  job_wait_for_entered (n_entered + 1);
  check (!job_cancelled (handle));
  job_cancel (handle);
  job_cancel (handle);
  check (job_cancelled (handle));
  check (job_wait (handle) == NULL);
  check_error (job, IO_ERROR, IO_ERROR_CANCELLED);

  /* What a worker returns counts. */
  handle = spawn (JOB_IGNORE_CANCEL, 8, NULL);
  job_wait_for_entered (n_entered + 2);
  job_cancel (handle);
  check_result (job_wait (handle), 8);

  /* Too late */
  handle = spawn (JOB_SUCCEED, 9, NULL);
  check (poll_until_ended (handle) == SPIN_DONE);
  job_cancel (handle);
  check (!job_cancelled (handle));
  check_result (job_wait (handle), 9);
  job_wait_until_quiet (0);
}

static void
test_destroy_running (void)
{
  int n_entered = job_get_entered ();
  int n_made = job_get_n_results_made ();
  struct job_handle *handle = spawn (JOB_IGNORE_CANCEL, 1, NULL);

  job_wait_for_entered (n_entered + 1);
  job_handle_destroy (handle);
  job_wait_until_quiet (0);
  check (job_get_n_results_made () == n_made + 1);

  /* It does not wait for one that goes on. */
  job_hold ();
  handle = spawn (JOB_HOLD, 2, NULL);
  job_wait_for_entered (n_entered + 2);
  job_handle_destroy (handle);
  check (job_get_n_tasks () == 1);
  job_release ();
  job_wait_until_quiet (0);
  check (job_get_n_results_made () == n_made + 2);
}

static void
test_destroy_ended (void)
{
  struct job_handle *handle = spawn (JOB_SUCCEED, 1, NULL);

  check (poll_until_ended (handle) == SPIN_DONE);
  check (job_get_n_results () == 1);
  job_handle_destroy (handle);
  job_wait_until_quiet (0);

  handle = spawn (JOB_FAIL, 1, "Nobody will know");
  check (poll_until_ended (handle) == SPIN_FAILED);
  job_handle_destroy (handle);
  job_wait_until_quiet (0);
}

/* More than there are threads: what waits for one leaves at once, and never ran. */
static void
test_destroy_queued (void)
{
  struct job_handle *handles[500];
  int n_entered = job_get_entered ();

  for (int i = 0; i < 500; i++)
    handles[i] = spawn (JOB_WAIT_FOR_CANCEL, i, NULL);
  for (int i = 499; i >= 0; i--)
    job_handle_destroy (handles[i]);

  job_wait_until_quiet (0);
  check (job_get_entered () - n_entered < 500);
}

static void
test_nested (void)
{
  struct job_handle *handles[50];

  for (int i = 0; i < 50; i++)
    handles[i] = spawn (JOB_NEST, i, NULL);
  for (int i = 0; i < 50; i++)
    check_result (job_wait (handles[i]), i + 1);
  job_wait_until_quiet (0);
}

static void
test_wait_for_itself (void)
{
  job_set_itself (spawn (JOB_WAIT_FOR_ITSELF, 0, NULL));
  job_wait_until_quiet (0);
  check (job_get_seen_code () == TASK_ERROR_DEADLOCK);
}

/* Threads */

static void *
last_error_thread (void *data)
{
  check (job_last_error_message () == NULL);
  check (job_wait (spawn (JOB_FAIL, 0, data)) == NULL);
  check (strcmp (job_last_error_message (), data) == 0);

  return NULL;
}

static void
test_last_error_of_a_thread (void)
{
  pthread_t threads[4];
  char texts[4][16];

  check (job_wait (spawn (JOB_FAIL, 0, "mine")) == NULL);

  for (int i = 0; i < 4; i++)
    {
      snprintf (texts[i], sizeof texts[i], "thread %d", i);
      check (pthread_create (&threads[i], NULL, last_error_thread, texts[i]) == 0);
    }
  for (int i = 0; i < 4; i++)
    check (pthread_join (threads[i], NULL) == 0);

  check (strcmp (job_last_error_message (), "mine") == 0);
  job_wait_until_quiet (0);
}

static void *
many_thread (void *data)
{
  int first = *(int *) data;
  struct job_handle *handles[250];

  for (int i = 0; i < 250; i++)
    handles[i] = spawn (i % 5 == 4 ? JOB_FAIL : JOB_SUCCEED, first + i, "As was told");

  for (int i = 0; i < 250; i++)
    {
      JobResult *result;

      switch (i % 5)
        {
        case 0:
          check_result (job_wait (handles[i]), first + i);
          break;

        case 1:
          job_handle_destroy (handles[i]);
          break;

        case 2:
          job_cancel (handles[i]);
          result = job_wait (handles[i]);
          check (result == NULL || result->number == first + i);
          job_result_destroy (result);
          break;

        case 3:
          check (poll_until_ended (handles[i]) == SPIN_DONE);
          check_result (job_wait (handles[i]), first + i);
          break;

        default:
          check (job_wait (handles[i]) == NULL);
          check_error (job, IO_ERROR, IO_ERROR_NOT_FOUND);
          break;
        }
    }

  return NULL;
}

static void
test_many (void)
{
  pthread_t threads[4];
  int firsts[4];

  for (int i = 0; i < 4; i++)
    {
      firsts[i] = 1000 * i;
      check (pthread_create (&threads[i], NULL, many_thread, &firsts[i]) == 0);
    }
  for (int i = 0; i < 4; i++)
    check (pthread_join (threads[i], NULL) == 0);

  job_wait_until_quiet (0);
}

/* Waited for in another thread than it was spawned in, which is not there any more */
static void *
spawn_thread (void *data)
{
  return spawn (JOB_SUCCEED, 11, NULL);
}

static void
test_other_thread (void)
{
  pthread_t thread;
  void *handle;

  check (pthread_create (&thread, NULL, spawn_thread, NULL) == 0);
  check (pthread_join (thread, &handle) == 0);
  check_result (job_wait (handle), 11);
  job_wait_until_quiet (0);
}

static int
count_descriptors (void)
{
  DIR *directory = opendir ("/proc/self/fd");
  int n = 0;

  if (directory == NULL)
    return -1;

  while (readdir (directory) != NULL)
    n++;
  closedir (directory);

  return n;
}

/* Comes first: there is no main context, not even the default one, and so no descriptor. */
static void
test_no_descriptor (void)
{
  int n = count_descriptors ();
  struct job_handle *handle = spawn (JOB_SUCCEED, 1, NULL);

  check (poll_until_ended (handle) == SPIN_DONE);
  check_result (job_wait (handle), 1);
  job_wait_until_quiet (0);
  check (count_descriptors () == n);
}

static void
use_in_context (void *data)
{
  struct job_handle **held = data;
  int n_entered;

  check_result (job_wait (spawn (JOB_SUCCEED, 1, NULL)), 1);
  job_handle_destroy (spawn (JOB_SUCCEED, 2, NULL));
  check (job_wait (spawn (JOB_FAIL, 3, "Still")) == NULL);
  job_wait_until_quiet (0);

  n_entered = job_get_entered ();
  *held = spawn (JOB_HOLD, 4, NULL);
  job_wait_for_entered (n_entered + 1);
}

/* Nothing waits for somebody to iterate it, and its going stops nothing. */
static void
test_context (void)
{
  struct job_handle *held = NULL;

  job_hold ();
  job_call_in_context (use_in_context, &held);
  check (!job_cancelled (held));
  check (job_poll (held) == SPIN_PENDING);
  job_release ();
  check_result (job_wait (held), 4);
  job_wait_until_quiet (0);
}

static void
test_use_task (void)
{
  check_result (job_wait (spawn (JOB_USE_TASK, 12, NULL)), 12);
  job_wait_until_quiet (0);
}

/* Forks */

static void
test_fork (void)
{
  int n_entered = job_get_entered ();
  struct job_handle *ended = spawn (JOB_SUCCEED, 1, NULL);
  struct job_handle *failed = spawn (JOB_FAIL, 1, "before");
  struct job_handle *held;
  struct job_handle *also_held;
  pid_t pid;
  int status;

  check (poll_until_ended (ended) == SPIN_DONE);
  check (poll_until_ended (failed) == SPIN_FAILED);
  job_hold ();
  held = spawn (JOB_HOLD, 2, NULL);
  also_held = spawn (JOB_HOLD, 3, NULL);
  job_wait_for_entered (n_entered + 4);

  fflush (stdout);
  pid = fork ();
  check (pid >= 0);

  if (pid == 0)
    {
      JobArgs args = { JOB_SUCCEED, 1, NULL };

      alarm (TIME_LIMIT / 10);
      job_last_error_clear ();
      check (job_spawn (&args) == NULL);
      check_error (job, TASK_ERROR, TASK_ERROR_FORKED);

      job_last_error_clear ();
      check (job_poll (held) == SPIN_FAILED);
      check_error (job, TASK_ERROR, TASK_ERROR_FORKED);

      job_last_error_clear ();
      job_cancel (held);
      check (job_wait (held) == NULL);
      check_error (job, TASK_ERROR, TASK_ERROR_FORKED);
      job_handle_destroy (also_held);

      /* What was there before can be had. */
      check (job_poll (ended) == SPIN_DONE);
      check_result (job_wait (ended), 1);
      check (job_poll (failed) == SPIN_FAILED);
      check (strcmp (job_last_error_message (), "before") == 0);
      job_handle_destroy (failed);
      _exit (0);
    }

  check (waitpid (pid, &status, 0) == pid);
  check (WIFEXITED (status) && WEXITSTATUS (status) == 0);

  /* The parent goes on as if nothing had been. */
  job_release ();
  check_result (job_wait (held), 2);
  check_result (job_wait (also_held), 3);
  check_result (job_wait (ended), 1);
  job_handle_destroy (failed);
  job_wait_until_quiet (0);
}

typedef struct
{
  const char *name;
  void (*func) (void);
} Test;

static const Test tests[] = {
  { "/export/no-descriptor-and-no-context", test_no_descriptor },
  { "/export/spin", test_spin },
  { "/export/spin-cancelled", test_spin_cancelled },
  { "/export/wait", test_wait },
  { "/export/string", test_string },
  { "/export/error", test_error },
  { "/export/error-that-was-not-said", test_error_unsaid },
  { "/export/null", test_null },
  { "/export/handle-of-another-prefix", test_other_prefix },
  { "/export/poll", test_poll },
  { "/export/cancel", test_cancel },
  { "/export/destroy-while-it-runs", test_destroy_running },
  { "/export/destroy-when-it-has-ended", test_destroy_ended },
  { "/export/destroy-while-queued", test_destroy_queued },
  { "/export/worker-that-uses-its-task", test_use_task },
  { "/guarantee/11-a-context-may-go-first/exported-task", test_context },
  { "/export/wait-in-a-worker", test_nested },
  { "/export/wait-for-itself", test_wait_for_itself },
  { "/export/last-error-of-a-thread", test_last_error_of_a_thread },
  { "/export/wait-in-another-thread", test_other_thread },
  { "/export/a-thousand-in-several-threads", test_many },
};

static const Test fork_tests[] = {
  { "/export/fork", test_fork },
};

int
main (int argc,
      char *argv[])
{
  int forks = argc > 1 && strcmp (argv[1], "--fork") == 0;
  const Test *list = forks ? fork_tests : tests;
  int n = (int) (forks ? sizeof fork_tests : sizeof tests) / (int) sizeof (Test);

  alarm (TIME_LIMIT);

  printf ("1..%d\n", n);
  for (int i = 0; i < n; i++)
    {
      list[i].func ();
      printf ("ok %d - %s\n", i + 1, list[i].name);
      fflush (stdout);
    }

  return 0;
}
