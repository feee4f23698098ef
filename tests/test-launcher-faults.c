/* test-launcher-faults.c: worker processes that die, or are not what they should be
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whatever a process does, its own task has an error, and the launcher serves on. What it sends
 * is in test-launcher-bytes.c.
 */

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-launcher-util.h"

#define N_FLOODS 8
#define LATE (3 * G_TIME_SPAN_SECOND)

/* Programs that cannot be started */

static QTaskLauncher *
new_of_program (const char *program)
{
  const char *argv[] = { program, NULL };

  return q_task_launcher_new (argv);
}

static void
test_no_such_program (void)
{
  const char *programs[] = { "/no/such/program", "no-such-program-anywhere", "./no-such-program" };

  for (guint i = 0; i < G_N_ELEMENTS (programs); i++)
    {
      QTaskLauncher *launcher = new_of_program (programs[i]);
      g_autoptr (GError) error = launcher_call_error (launcher, "", NULL);

      g_assert_error (error, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT);
      assert_contains (error->message, programs[i]);
      /* And again */
      assert_call_fails (launcher, "", NULL, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT, programs[i]);
      g_assert_finalize_object (launcher);
    }
}

static void
test_not_executable (void)
{
  g_autofree char *path = g_build_filename (launcher_test_get_folder (), "not-executable", NULL);
  QTaskLauncher *launcher;

  g_assert_true (g_file_set_contents (path, "#!/bin/sh\n", -1, NULL));
  launcher = new_of_program (path);
  assert_call_fails (launcher, "", NULL, G_SPAWN_ERROR, G_SPAWN_ERROR_ACCES, path);
  g_assert_finalize_object (launcher);

  launcher = new_of_program (launcher_test_get_folder ());
  assert_call_fails (launcher, "", NULL, G_SPAWN_ERROR, G_SPAWN_ERROR_ACCES, launcher_test_get_folder ());
  g_assert_finalize_object (launcher);
  g_unlink (path);
}

static void
test_no_such_directory (void)
{
  QTaskLauncher *launcher = launcher_new ();

  q_task_launcher_set_directory (launcher, "/no/such/directory");
  assert_call_fails (launcher, "", NULL, G_SPAWN_ERROR, G_SPAWN_ERROR_CHDIR, "/no/such/directory");
  q_task_launcher_set_directory (launcher, NULL);
  g_assert_cmpint (launcher_call_pid (launcher), >, 0);
  g_assert_finalize_object (launcher);
}

/* Each that waits for a process hears of it; they do not wait for ever for one that never comes. */
static void
test_failures_reach_all (void)
{
  QTaskLauncher *launcher = new_of_program ("/no/such/program");
  Answer answers[10];

  for (int i = 0; i < 10; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launcher, "", NULL);
    }
  g_assert_finalize_object (launcher);
  for (int i = 0; i < 10; i++)
    {
      answer_wait (&answers[i]);
      g_assert_error (answers[i].error, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT);
      answer_clear (&answers[i]);
    }
}

static void
test_exits_at_once (void)
{
  const struct
  {
    const char *program;
    const char *how;
  } programs[] = { { "/bin/false", "status 1" }, { "/bin/true", "status 0" } };

  for (guint i = 0; i < G_N_ELEMENTS (programs); i++)
    for (int transport = 0; transport < 2; transport++)
      {
        QTaskLauncher *launcher = new_of_program (programs[i].program);
        g_autoptr (GError) error = NULL;

        q_task_launcher_set_transport (launcher, transport);
        error = launcher_call_error (launcher, "", NULL);
        g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
        assert_contains (error->message, programs[i].program);
        assert_contains (error->message, programs[i].how);
        g_assert_finalize_object (launcher);
      }
}

static void
test_exits_at_once_with_words (void)
{
  QTaskLauncher *launcher = launcher_new_fake ("stderr=cannot open the frobnicator\nsecond line\n", "exit=42", NULL);
  g_autoptr (GError) error = NULL;

  q_task_launcher_set_capture_stderr (launcher, TRUE);
  error = launcher_call_error (launcher, "", NULL);
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  assert_contains (error->message, "launcher-fake");
  assert_contains (error->message, "42");
  assert_contains (error->message, "cannot open the frobnicator\nsecond line");
  g_assert_finalize_object (launcher);
}

/* A program that is no worker, and prints */
static void
test_not_a_worker (void)
{
  const char *argv[] = { "echo", "Hello, world! This is no frame.", NULL };
  QTaskLauncher *launcher = q_task_launcher_new (argv);
  g_autoptr (GError) error = NULL;

  q_task_launcher_set_transport (launcher, Q_TASK_TRANSPORT_STDIO);
  error = launcher_call_error (launcher, "", NULL);
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
  assert_contains (error->message, "echo");
  g_assert_finalize_object (launcher);
}

static void
test_no_descriptors (void)
{
  if (g_test_subprocess ())
    {
      QTaskLauncher *idle = launcher_new ();
      QTaskLauncher *launcher;
      g_autoptr (GError) error = NULL;
      int pid = launcher_call_pid (idle);

      launcher = launcher_new ();
      test_take_descriptors ();
      error = launcher_call_error (launcher, "pid", NULL);
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES);
      /* What is there already does not need any. */
      g_assert_cmpint (launcher_call_pid (idle), ==, pid);
      test_give_descriptors_back ();

      g_assert_cmpint (launcher_call_pid (launcher), >, 0);

      /* With some left, at each step */
      for (int left = 1; left < 12; left++)
        {
          int fds[16];
          Answer answer = ANSWER_INIT;

          g_object_unref (launcher);
          test_poll_until (count_children () == 1);
          launcher = launcher_new ();
          for (int i = 0; i < left; i++)
            fds[i] = open ("/dev/null", O_RDONLY | O_CLOEXEC);
          test_take_descriptors ();
          for (int i = 0; i < left; i++)
            close (fds[i]);
          q_task_launcher_set_capture_stderr (launcher, left % 2);
          answer_start (&answer, launcher, "nothing", NULL);
          answer_wait (&answer);
          test_give_descriptors_back ();
          if (answer.error != NULL)
            g_test_message ("%d left: %s", left, answer.error->message);
          answer_clear (&answer);
          g_variant_unref (launcher_call (launcher, "pid", NULL));
        }

      g_object_unref (launcher);
      g_object_unref (idle);
      return;
    }

  g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
  g_test_trap_assert_passed ();
}

/* Processes that die */

static void
test_crash (void)
{
  QTaskLauncher *launcher = launcher_new ();
  const int signals[] = { SIGKILL, SIGTERM, SIGSEGV, SIGABRT };
  int last = 0;

  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    {
      g_autoptr (GError) error = launcher_call_error (launcher, "crash", g_variant_new_int32 (signals[i]));
      g_autofree char *number = g_strdup_printf ("%d", signals[i]);
      int pid;

      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
      assert_contains (error->message, number);
      assert_contains (error->message, g_strsignal (signals[i]));
      assert_contains (error->message, q_task_launcher_get_argv (launcher)[0]);
      pid = launcher_call_pid (launcher);
      g_assert_cmpint (pid, !=, last);
      last = pid;
    }

  g_assert_finalize_object (launcher);
}

static void
test_exit (void)
{
  QTaskLauncher *launcher = launcher_new ();
  const int statuses[] = { 0, 1, 3, 255 };

  for (guint i = 0; i < G_N_ELEMENTS (statuses); i++)
    {
      g_autofree char *status = g_strdup_printf ("status %d", statuses[i]);

      assert_call_fails (launcher, "exit", g_variant_new ("(is)", statuses[i], ""), Q_TASK_ERROR,
                         Q_TASK_ERROR_CRASHED, status);
    }

  g_assert_finalize_object (launcher);
}

static void
test_crash_is_for_one_alone (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer other = ANSWER_INIT;
  Answer crashes[5];

  q_task_set_check_cancellable (answer_prepare (&other), FALSE);
  answer_run (&other, launcher, "finish-when-asked", NULL);
  answer_wait_running (&other);
  for (int i = 0; i < 5; i++)
    {
      crashes[i] = (Answer) ANSWER_INIT;
      answer_start (&crashes[i], launcher, i % 2 == 0 ? "crash" : "pid", g_variant_new_int32 (SIGKILL));
    }
  for (int i = 0; i < 5; i++)
    {
      answer_wait (&crashes[i]);
      if (i % 2 == 0)
        g_assert_error (crashes[i].error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
      else
        g_assert_no_error (crashes[i].error);
      answer_clear (&crashes[i]);
    }
  g_assert_cmpint (other.called, ==, 0);
  q_task_cancel (other.task);
  answer_wait (&other);
  assert_variant (other.result, "'done'");
  answer_clear (&other);
  g_assert_finalize_object (launcher);
}

/* Its first thread may be a zombie while another one still holds the descriptors. */
static gboolean
is_zombie_or_gone (int pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", pid);
  g_autofree char *tasks = g_strdup_printf ("/proc/%d/task", pid);
  g_autofree char *stat = NULL;
  g_autoptr (GDir) dir = NULL;
  const char *end;
  guint n = 0;

  dir = g_dir_open (tasks, 0, NULL);
  if (dir == NULL || !g_file_get_contents (path, &stat, NULL, NULL))
    return TRUE;

  while (g_dir_read_name (dir) != NULL)
    n++;
  end = strrchr (stat, ')');

  return end == NULL || (end[2] == 'Z' && n <= 1);
}

static void
test_idle_dies (void)
{
  QTaskLauncher *launcher = launcher_new ();
  int n = MIN (test_scaled (50), 50);

  for (int i = 0; i < n; i++)
    {
      int pid = launcher_call_pid (launcher);

      kill (pid, SIGKILL);
      test_poll_until (is_zombie_or_gone (pid));
      /* It costs nobody anything. */
      g_assert_cmpint (launcher_call_pid (launcher), !=, pid);
    }

  g_assert_finalize_object (launcher);
}

/* That one of them died does not stay unnoticed until it is needed. */
static void
test_idle_dead_is_reaped (void)
{
  QTaskLauncher *launcher = launcher_new ();
  int pid = launcher_call_pid (launcher);

  kill (pid, SIGKILL);
  test_poll_until (process_is_gone (pid));
  g_assert_cmpuint (count_children (), ==, 0);
  g_assert_finalize_object (launcher);
}

/* Somebody else has a copy of all that the process had open. */
static void
test_orphan (gconstpointer captures)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  g_autofree char *text = NULL;
  gint64 start = g_get_monotonic_time ();
  int status;
  int pid;

  g_assert_cmpint (prctl (PR_SET_CHILD_SUBREAPER, 1), ==, 0);
  q_task_launcher_set_capture_stderr (launcher, GPOINTER_TO_INT (captures));
  answer_start (&answer, launcher, "orphan", NULL);
  answer_wait (&answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  assert_contains (answer.error->message, "7");
  g_assert_cmpint (g_get_monotonic_time () - start, <, LATE);

  text = q_task_dup_progress_text (answer.task);
  pid = atoi (text);
  g_assert_cmpint (pid, >, 1);
  g_assert_cmpint (kill (pid, SIGKILL), ==, 0);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
  test_poll_until (waitpid (pid, &status, WNOHANG) != 0);
  prctl (PR_SET_CHILD_SUBREAPER, 0);
}

/* Processes that do not do much */

static void
test_never_says_hello (void)
{
  QTaskLauncher *launcher = launcher_new_fake ("deaf", NULL);
  Answer answer = ANSWER_INIT;

  answer_start (&answer, launcher, "", NULL);
  test_poll_until (q_task_poll (answer.task) == Q_TASK_STATE_RUNNING);
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* A request that does not fit into any buffer, and nobody reads it */
static void
test_never_reads (void)
{
  g_autofree char *hello = fake_hello ();
  QTaskLauncher *launcher = launcher_new_fake (hello, "hang", NULL);
  g_autoptr (GBytes) bytes = g_bytes_new_take (g_malloc0 (20000000), 20000000);
  Answer answer = ANSWER_INIT;
  gint64 start = g_get_monotonic_time ();

  answer_start (&answer, launcher, "", g_variant_new_from_bytes (G_VARIANT_TYPE ("ay"), bytes, TRUE));
  g_assert_cmpint (g_get_monotonic_time () - start, <, LATE);
  test_poll_until (q_task_poll (answer.task) == Q_TASK_STATE_RUNNING);
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_answers_before_all_was_read (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *result = fake_result ("'early'");
  QTaskLauncher *launcher = launcher_new_fake (hello, result, "hang", NULL);
  g_autoptr (GBytes) bytes = g_bytes_new_take (g_malloc0 (20000000), 20000000);
  g_autoptr (GVariant) first = NULL;

  q_task_launcher_set_max_processes (launcher, 1);
  first = launcher_call (launcher, "", g_variant_new_from_bytes (G_VARIANT_TYPE ("ay"), bytes, TRUE));
  assert_variant (first, "'early'");
  /* Until that has gone out, the process is of no use to others; and it never will. */
  g_assert_finalize_object (launcher);
}

static void
test_slow (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *progress = fake_progress (0.5, "half");
  g_autofree char *result = fake_result ("('text', [1, 2, 3])");
  g_autofree char *all = g_strconcat ("slow=", hello, progress, result, NULL);
  g_autofree char *later = g_strconcat ("slow=", result, NULL);
  QTaskLauncher *launcher = launcher_new_fake (all, "request", "request", later, "eof", NULL);

  for (int i = 0; i < 2; i++)
    {
      g_autoptr (GVariant) value = launcher_call (launcher, "", NULL);

      assert_variant (value, "('text', [1, 2, 3])");
    }

  g_assert_finalize_object (launcher);
}

static void
test_closes_and_lingers (void)
{
  const char *ways[] = { "close", "shut" };

  for (guint i = 0; i < G_N_ELEMENTS (ways); i++)
    {
      g_autofree char *hello = fake_hello ();
      QTaskLauncher *launcher = launcher_new_fake (hello, "request", ways[i], "deaf", NULL);

      /* There is nothing to wait for. */
      assert_call_fails (launcher, "", NULL, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED, "launcher-fake");
      g_assert_finalize_object (launcher);
    }
}

static void
test_ends_after_its_result (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *result = fake_result ("'done'");
  const char *ends[] = { "exit=0", "exit=5", "signal=9", "close" };

  for (guint i = 0; i < G_N_ELEMENTS (ends); i++)
    {
      QTaskLauncher *launcher = launcher_new_fake (hello, "request", result, ends[i], "hang", NULL);

      for (int j = 0; j < 3; j++)
        {
          g_autoptr (GVariant) value = launcher_call (launcher, "", NULL);

          assert_variant (value, "'done'");
          /* Else the next one may be on its way to it. */
          test_poll_until (count_running_children () == 0);
        }
      g_assert_finalize_object (launcher);
    }
}

/* Processes that do too much */

static gboolean
tick_cb (gpointer n)
{
  (*(int *) n)++;

  return G_SOURCE_CONTINUE;
}

static gsize
get_resident_size (void)
{
  g_autofree char *text = NULL;
  long unused;
  long pages;

  g_assert_true (g_file_get_contents ("/proc/self/statm", &text, NULL, NULL));
  g_assert_cmpint (sscanf (text, "%ld %ld", &unused, &pages), ==, 2);

  return (gsize) pages * (gsize) sysconf (_SC_PAGESIZE);
}

static void
test_endless (gconstpointer data)
{
  const char *what = data;
  g_autofree char *hello = fake_hello ();
  g_autofree char *junk = g_strnfill (1000, 'x');
  g_autofree char *frame = NULL;
  g_autofree char *endless = NULL;
  QTaskLauncher *launcher;
  Answer answer = ANSWER_INIT;
  gsize size = get_resident_size ();
  guint id;
  int n_ticks = 0;
  gint64 start;

  if (g_str_equal (what, "progress"))
    frame = fake_progress (0.5, "text");
  else
    frame = fake_frame (1, junk, 1000);
  endless = g_strconcat ("endless=", frame, NULL);
  launcher = launcher_new_fake (hello, "request", endless, NULL);

  answer_prepare (&answer);
  if (!g_str_equal (what, "progress"))
    g_assert_true (q_task_open_channel (answer.task, NULL));
  answer_run (&answer, launcher, "", NULL);

  /* The owner's loop goes on. */
  id = g_timeout_add (5, tick_cb, &n_ticks);
  start = g_get_monotonic_time ();
  test_run_until (NULL, n_ticks >= 40);
  g_test_message ("40 ticks of 5 ms in %d ms", (int) ((g_get_monotonic_time () - start) / 1000));
  g_assert_cmpint (g_get_monotonic_time () - start, <, LATE);
  g_assert_cmpint (answer.called, ==, 0);
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_source_remove (id);
  answer_clear (&answer);

  /* What nobody takes is not read. */
  g_test_message ("%d more bytes", (int) (get_resident_size () - size));
  g_assert_cmpuint (get_resident_size (), <, size + 150000000);
  g_assert_finalize_object (launcher);
}

/* Those that flood hold up no other, though there is always more to read from one of them; the other is
 * slow enough for the manager to read from it. */
static void
test_endless_is_for_one_alone (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *frame = fake_progress (0.5, "text");
  g_autoptr (GString) endless = g_string_new ("endless=");
  GPtrArray *steps = g_ptr_array_new_with_free_func (g_free);
  QTaskLauncher *launcher;
  Answer floods[N_FLOODS];
  Answer other = ANSWER_INIT;
  int n_tries = 0;
  gint64 took;

  /* Many in one write, or it is slower than who reads */
  for (int i = 0; i < 1000; i++)
    g_string_append (endless, frame);

  for (int i = 0; i < N_FLOODS; i++)
    {
      g_ptr_array_add (steps, g_strdup_printf ("first=%s/flood-%d", launcher_test_get_folder (), i));
      g_ptr_array_add (steps, g_strdup (hello));
      g_ptr_array_add (steps, g_strdup ("request"));
      g_ptr_array_add (steps, g_strdup (endless->str));
      g_ptr_array_add (steps, g_strdup ("then"));
    }
  g_ptr_array_add (steps, g_strdup (hello));
  g_ptr_array_add (steps, g_strdup ("request"));
  g_ptr_array_add (steps, g_strdup ("usleep=30000"));
  g_ptr_array_add (steps, fake_result ("'done'"));

  launcher = launcher_new_fake_v (steps);
  q_task_launcher_set_max_processes (launcher, N_FLOODS + 1);

  for (int i = 0; i < N_FLOODS; i++)
    {
      floods[i] = (Answer) ANSWER_INIT;
      answer_start (&floods[i], launcher, "", NULL);
      answer_wait_running (&floods[i]);
    }

  /* At its best: the machine may be busy with something else. */
  do
    {
      gint64 start = g_get_monotonic_time ();

      g_assert_cmpint (n_tries++, <, test_scaled (5));
      answer_start (&other, launcher, "", NULL);
      answer_wait (&other);
      g_assert_no_error (other.error);
      answer_clear (&other);
      took = g_get_monotonic_time () - start;
      g_test_message ("It took %d ms", (int) (took / 1000));
    }
  while (took > 150 * G_TIME_SPAN_MILLISECOND && !test_is_slow ());

  for (int i = 0; i < N_FLOODS; i++)
    {
      g_autofree char *path = g_strdup_printf ("%s/flood-%d", launcher_test_get_folder (), i);

      g_unlink (path);
      g_assert_cmpint (floods[i].called, ==, 0);
      q_task_cancel (floods[i].task);
      answer_wait (&floods[i]);
      g_assert_error (floods[i].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      answer_clear (&floods[i]);
    }
  g_assert_finalize_object (launcher);
}

/* Waiting for one that floods, too */
static void
test_endless_while_waiting (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *frame = fake_progress (0.5, "text");
  g_autofree char *endless = g_strconcat ("endless=", frame, NULL);
  QTaskLauncher *launcher = launcher_new_fake (hello, "request", endless, NULL);
  Answer answer = ANSWER_INIT;

  q_task_set_timeout (answer_prepare (&answer), 50 * G_TIME_SPAN_MILLISECOND);
  answer_run (&answer, launcher, "", NULL);
  g_assert_true (q_task_wait (answer.task, NULL, NULL));
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

int
main (int argc,
      char **argv)
{
  /* What ends at once loses what it had. */
  g_unsetenv ("LAUNCHER_TEST_WRAPPER");
  launcher_test_init (&argc, &argv);

  launcher_test_add ("/launcher/start/no-such-program", test_no_such_program);
  launcher_test_add ("/launcher/start/not-executable", test_not_executable);
  launcher_test_add ("/launcher/start/no-such-directory", test_no_such_directory);
  launcher_test_add ("/launcher/start/failure-reaches-all", test_failures_reach_all);
  launcher_test_add ("/launcher/start/exits-at-once", test_exits_at_once);
  launcher_test_add ("/launcher/start/exits-at-once-with-words", test_exits_at_once_with_words);
  launcher_test_add ("/launcher/start/is-no-worker", test_not_a_worker);
  launcher_test_add ("/launcher/start/no-descriptors-left", test_no_descriptors);
  launcher_test_add ("/launcher/crash/tells-the-signal", test_crash);
  launcher_test_add ("/launcher/crash/tells-the-status", test_exit);
  launcher_test_add ("/launcher/crash/is-for-one-alone", test_crash_is_for_one_alone);
  launcher_test_add ("/launcher/crash/of-an-idle-one-costs-nothing", test_idle_dies);
  launcher_test_add ("/launcher/crash/of-an-idle-one-is-noticed", test_idle_dead_is_reaped);
  launcher_test_add_data ("/launcher/crash/leaves-an-orphan", GINT_TO_POINTER (FALSE), test_orphan);
  launcher_test_add_data ("/launcher/crash/leaves-an-orphan-captured", GINT_TO_POINTER (TRUE), test_orphan);
  launcher_test_add ("/launcher/process/never-says-hello", test_never_says_hello);
  launcher_test_add ("/launcher/process/never-reads", test_never_reads);
  launcher_test_add ("/launcher/process/answers-before-all-was-read", test_answers_before_all_was_read);
  launcher_test_add ("/launcher/process/is-slow", test_slow);
  launcher_test_add ("/launcher/process/closes-and-lingers", test_closes_and_lingers);
  launcher_test_add ("/launcher/process/ends-after-its-result", test_ends_after_its_result);
  launcher_test_add_data ("/launcher/process/endless-progress", "progress", test_endless);
  launcher_test_add_data ("/launcher/process/endless-messages", "messages", test_endless);
  launcher_test_add ("/launcher/process/endless-is-for-one-alone", test_endless_is_for_one_alone);
  launcher_test_add ("/launcher/process/endless-while-the-owner-waits", test_endless_while_waiting);

  return g_test_run ();
}
