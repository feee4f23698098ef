/* test-launcher.c: tasks in worker processes, what comes out of them, and the processes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How they stop is in test-launcher-stop.c, what they say meanwhile in test-launcher-talk.c, and
 * what happens when a process is not what it should be in test-launcher-faults.c.
 */

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-launcher-util.h"

/* Results */

static void
test_result (void)
{
  const char *texts[] = {
    "'text'", "''", "true", "byte 0x2a", "int16 -1", "uint64 18446744073709551615", "1.5", "()", "@as []",
    "@a{sv} {}", "{'key': <1>, 'other': <('a', @mi nothing)>}", "@ay []", "b'bytes'", "<<<'deep'>>>",
    "[(1, 'a'), (2, 'bc')]", "objectpath '/a/b'", "signature 'a{sv}'", "@mms just nothing", "handle 3"
  };
  QTaskLauncher *launcher = launcher_new ();

  for (guint i = 0; i < G_N_ELEMENTS (texts); i++)
    {
      g_autoptr (GVariant) value = g_variant_parse (NULL, texts[i], NULL, NULL, NULL);
      g_autoptr (GVariant) wrapped = NULL;
      g_autoptr (GVariant) result = NULL;
      Answer answer = ANSWER_INIT;

      g_assert_nonnull (value);
      wrapped = g_variant_ref_sink (g_variant_new_variant (value));
      result = launcher_call (launcher, "echo", wrapped);
      g_assert_cmpvariant (result, wrapped);
      g_clear_pointer (&result, g_variant_unref);

      /* A request of any type */
      answer_prepare (&answer);
      q_task_run_in_process (answer.task, launcher, value);
      answer_wait (&answer);
      g_assert_no_error (answer.error);
      g_assert_cmpvariant (answer.result, value);
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

static void
test_large (void)
{
  const gsize sizes[] = { 1, 4095, 65535, 65536, 65537, 1000000, 5000000 };
  QTaskLauncher *launcher = launcher_new ();

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      gsize size = sizes[i];
      guint8 *data = g_malloc (size);
      g_autoptr (GBytes) bytes = NULL;
      g_autoptr (GVariant) result = NULL;

      for (gsize j = 0; j < size; j++)
        data[j] = (guint8) (j * 7 + j / 256);
      bytes = g_bytes_new_take (data, size);
      result = launcher_call (launcher, "echo", g_variant_new_from_bytes (G_VARIANT_TYPE ("ay"), bytes, TRUE));
      g_assert_cmpmem (g_variant_get_data (result), g_variant_get_size (result), data, size);
    }

  g_assert_finalize_object (launcher);
}

static void
test_no_result (void)
{
  QTaskLauncher *launcher = launcher_new ();

  g_assert_null (launcher_call (launcher, "nothing", NULL));
  g_assert_finalize_object (launcher);
}

static void
test_request_is_sunk (void)
{
  QTaskLauncher *launcher = launcher_new ();
  GVariant *floating = g_variant_new_string ("floating");
  GVariant *owned = g_variant_ref_sink (g_variant_new_string ("owned"));
  GVariant *requests[] = { floating, owned };

  g_variant_ref (floating);
  g_assert_true (g_variant_is_floating (floating));

  for (guint i = 0; i < 2; i++)
    {
      Answer answer = ANSWER_INIT;

      answer_prepare (&answer);
      q_task_run_in_process (answer.task, launcher, requests[i]);
      g_assert_false (g_variant_is_floating (requests[i]));
      answer_wait (&answer);
      g_assert_cmpvariant (answer.result, requests[i]);
      answer_clear (&answer);
      /* The last reference of this test, else sanitizers tell. */
      g_variant_unref (requests[i]);
    }

  g_assert_finalize_object (launcher);
}

/* What came from a file, say, and was not made here: it is sent as what it says. */
static void
test_request_not_normal (void)
{
  QTaskLauncher *launcher = launcher_new ();
  const struct
  {
    const char *type;
    const char *data;
    gsize size;
  } requests[] = { { "s", "x\0y", 3 }, { "b", "\2", 1 }, { "u", "\0\0\0", 3 }, { "as", "ab\0\5", 4 }, { "(su)", "a\0\0\0", 4 } };

  for (guint i = 0; i < G_N_ELEMENTS (requests); i++)
    {
      g_autoptr (GVariant) request =
        g_variant_ref_sink (g_variant_new_from_data (G_VARIANT_TYPE (requests[i].type), requests[i].data,
                                                     requests[i].size, FALSE, NULL, NULL));
      Answer answer = ANSWER_INIT;

      answer_prepare (&answer);
      q_task_run_in_process (answer.task, launcher, request);
      answer_wait (&answer);
      g_assert_no_error (answer.error);
      g_assert_cmpvariant (answer.result, request);
      g_assert_true (g_variant_is_normal_form (answer.result));
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

static void
test_other_results (void)
{
  QTaskLauncher *launcher = launcher_new ();
  const struct
  {
    const char *kind;
    const char *text;
  } mapped[] = {
    { "int", "int64 -42" },
    { "boolean", "true" },
    { "zero", "int64 0" },
    { "no", "false" },
    { "bytes", "[byte 0x00, 0x01, 0x02]" },
    { "string-value", "'text'" },
    { "double-value", "0.25" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (mapped); i++)
    {
      g_autoptr (GVariant) result = launcher_call (launcher, "result", g_variant_new_string (mapped[i].kind));
      g_autofree char *text = g_variant_print (result, TRUE);

      g_assert_cmpstr (text, ==, mapped[i].text);
    }

  g_assert_finalize_object (launcher);
}

/* Pointers mean nothing in another process; that is no silent success. */
static void
test_result_that_cannot_cross (void)
{
  QTaskLauncher *launcher = launcher_new ();

  assert_call_fails (launcher, "result", g_variant_new_string ("object"), G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                     "q_task_set_result_variant");
  assert_call_fails (launcher, "result", g_variant_new_string ("pointer"), G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                     "q_task_set_result_variant");
  g_assert_finalize_object (launcher);
}

/* Errors */

static void
test_error_keeps_domain (void)
{
  QTaskLauncher *launcher = launcher_new ();
  const struct
  {
    GQuark domain;
    int code;
  } errors[] = {
    { G_IO_ERROR, G_IO_ERROR_NOT_FOUND },
    { G_FILE_ERROR, G_FILE_ERROR_PERM },
    { G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_PARSE },
    { Q_TASK_ERROR, Q_TASK_ERROR_CLOSED },
    { g_quark_from_static_string ("a-domain-of-this-test"), -5 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (errors); i++)
    {
      g_autoptr (GError) error =
        launcher_call_error (launcher, "fail",
                             g_variant_new ("(sis)", g_quark_to_string (errors[i].domain), errors[i].code,
                                            "Nothing – and “why”"));

      g_assert_error (error, errors[i].domain, errors[i].code);
      g_assert_cmpstr (error->message, ==, "Nothing – and “why”");
    }

  g_assert_finalize_object (launcher);
}

static void
test_error_of_unknown_domain (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autoptr (GError) error = launcher_call_error (launcher, "fail",
                                                  g_variant_new ("(sis)", "nobody-here-knows", 17, "the text"));

  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
  assert_contains (error->message, "nobody-here-knows");
  assert_contains (error->message, "17");
  assert_contains (error->message, "the text");
  g_assert_cmpuint (g_quark_try_string ("nobody-here-knows"), ==, 0);

  g_assert_finalize_object (launcher);
}

static void
test_error_on_task (void)
{
  QTaskLauncher *launcher = launcher_new ();

  assert_call_fails (launcher, "set-error", g_variant_new_string ("it is"), G_IO_ERROR, G_IO_ERROR_NOT_EMPTY,
                     "it is");
  g_assert_finalize_object (launcher);
}

static void
test_false_without_error (void)
{
  QTaskLauncher *launcher = launcher_new ();

  assert_call_fails (launcher, "false", NULL, Q_TASK_ERROR, Q_TASK_ERROR_FAILED, "");
  /* The process is none the worse. */
  g_assert_cmpint (launcher_call_pid (launcher), ==, launcher_call_pid (launcher));
  g_assert_finalize_object (launcher);
}

/* Running */

static void
ran_cb (GObject *source,
        GAsyncResult *result,
        gpointer data)
{
  Answer *answer = data;

  g_assert_true (Q_IS_TASK_LAUNCHER (source));
  answer->thread = g_thread_self ();
  answer->result = q_task_launcher_run_finish (Q_TASK_LAUNCHER (source), result, &answer->error);
  g_atomic_int_inc (&answer->called);
}

static void
test_run_async (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;

  q_task_launcher_run_async (launcher, launcher_request ("echo", g_variant_new_string ("text")), NULL, ran_cb,
                             &answer);
  g_assert_cmpint (answer.called, ==, 0);
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  assert_variant (answer.result, "'text'");
  g_assert_true (answer.thread == g_thread_self ());
  answer_clear (&answer);

  q_task_launcher_run_async (launcher, launcher_request ("crash", g_variant_new_int32 (SIGKILL)), NULL, ran_cb,
                             &answer);
  answer_wait (&answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  g_assert_null (answer.result);
  answer_clear (&answer);

  /* Nobody cares. */
  q_task_launcher_run_async (launcher, launcher_request ("nothing", NULL), NULL, NULL, NULL);

  /* The task holds its source. */
  q_task_launcher_run_async (launcher, launcher_request ("echo", NULL), NULL, ran_cb, &answer);
  g_object_unref (launcher);
  answer_wait (&answer);
  assert_variant (answer.result, "()");
  answer_clear (&answer);
}

static void
test_run_async_cancelled (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;

  q_task_launcher_run_async (launcher, launcher_request ("sleep", NULL), cancellable, ran_cb, &answer);
  test_poll_until (count_children () == 1);
  g_cancellable_cancel (cancellable);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  g_clear_object (&launcher);
  test_poll_until (count_children () == 0);

  launcher = launcher_new ();
  q_task_launcher_run_async (launcher, launcher_request ("nothing", NULL), cancellable, ran_cb, &answer);
  g_assert_cmpint (answer.called, ==, 0);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (count_children (), ==, 0);
  answer_clear (&answer);
  g_object_unref (launcher);
}

static void
test_second_run (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;

  answer_start (&answer, launcher, "echo", g_variant_new_string ("first"));
  test_critical (q_task_run_in_process (answer.task, launcher, launcher_request ("echo", NULL)));
  test_critical (q_task_run_in_thread (answer.task, test_empty_worker, NULL, NULL));
  answer_wait (&answer);
  assert_variant (answer.result, "'first'");
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_name (void)
{
  QTaskLauncher *launcher = launcher_new ();
  const char *names[] = { "a task", "", NULL, "Prüfung" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      Answer answer = ANSWER_INIT;

      q_task_set_name (answer_prepare (&answer), names[i]);
      answer_run (&answer, launcher, "name", NULL);
      answer_wait (&answer);
      g_assert_no_error (answer.error);
      g_assert_cmpstr (g_variant_get_string (answer.result, NULL), ==, names[i] != NULL ? names[i] : "");
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

static void
test_priority (void)
{
  const int priorities[] = { 0, 200, -100, 100, -100, 0 };
  const int order[] = { 2, 4, 0, 5, 3, 1 };
  QTaskLauncher *launcher = launcher_new ();
  Answer busy = ANSWER_INIT;
  Answer answers[6];
  int last = 0;

  q_task_launcher_set_max_processes (launcher, 1);
  answer_start (&busy, launcher, "finish-when-asked", NULL);
  answer_wait_running (&busy);

  for (int i = 0; i < 6; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      q_task_set_priority (answer_prepare (&answers[i]), priorities[i]);
      /* Not in which order they are delivered, but run */
      q_task_set_completion_priority (answers[i].task, 0);
      answer_run (&answers[i], launcher, "count", NULL);
      g_assert_cmpint (q_task_poll (answers[i].task), ==, Q_TASK_STATE_QUEUED);
    }

  q_task_cancel (busy.task);
  answer_wait (&busy);

  for (int i = 0; i < 6; i++)
    {
      Answer *answer = &answers[order[i]];
      int count;

      answer_wait (answer);
      g_assert_no_error (answer->error);
      count = (int) g_variant_get_uint32 (answer->result);
      g_assert_cmpint (count, >, last);
      last = count;
    }

  for (int i = 0; i < 6; i++)
    answer_clear (&answers[i]);
  answer_clear (&busy);
  g_assert_finalize_object (launcher);
}

/* Processes */

static void
test_reuse (void)
{
  QTaskLauncher *launcher = launcher_new ();
  int pid = launcher_call_pid (launcher);

  for (int i = 0; i < 20; i++)
    g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_cmpuint (count_children (), ==, 1);

  g_assert_finalize_object (launcher);
}

static void
test_max_processes (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answers[6];

  g_assert_cmpuint (q_task_launcher_get_max_processes (launcher), ==, 2);

  for (int i = 0; i < 6; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launcher, "finish-when-asked", NULL);
    }

  answer_wait_running (&answers[0]);
  answer_wait_running (&answers[1]);
  g_assert_cmpuint (count_children (), ==, 2);
  for (int i = 0; i < 6; i++)
    g_assert_cmpint (q_task_poll (answers[i].task), ==, i < 2 ? Q_TASK_STATE_RUNNING : Q_TASK_STATE_QUEUED);

  /* More are allowed: more are started. */
  q_task_launcher_set_max_processes (launcher, 4);
  answer_wait_running (&answers[2]);
  answer_wait_running (&answers[3]);
  g_assert_cmpuint (count_children (), ==, 4);
  g_assert_cmpint (q_task_poll (answers[4].task), ==, Q_TASK_STATE_QUEUED);

  /* Fewer are: those that are free end. */
  q_task_launcher_set_max_processes (launcher, 1);
  for (int i = 0; i < 6; i++)
    {
      if (i >= 4)
        answer_wait_running (&answers[i]);
      q_task_cancel (answers[i].task);
      answer_wait (&answers[i]);
      answer_clear (&answers[i]);
    }
  test_poll_until (count_children () <= 1);

  g_assert_finalize_object (launcher);
}

/* Those that take their time to end are not ever more. */
static void
test_processes_that_linger (void)
{
  g_autofree char *program = launcher_test_get_program ("launcher-worker");
  const char *argv[] = { "sh", "-c", "\"$0\"; sleep 0.2", program, NULL };
  QTaskLauncher *launcher = q_task_launcher_new (argv);
  Answer answers[10];

  q_task_launcher_set_max_processes (launcher, 2);
  q_task_launcher_set_max_tasks_per_process (launcher, 1);
  for (int i = 0; i < 10; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launcher, "nothing", NULL);
    }
  for (int i = 0; i < 10; i++)
    {
      answer_wait (&answers[i]);
      g_assert_no_error (answers[i].error);
      g_assert_cmpuint (count_children (), <=, 4);
      answer_clear (&answers[i]);
    }
  g_assert_finalize_object (launcher);
}

/* Those that are too many end when they have done their task, and not when there is no other. */
static void
test_fewer_processes (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer busy[2] = { ANSWER_INIT, ANSWER_INIT };
  Answer queued[10];
  int pids[2];

  for (int i = 0; i < 2; i++)
    {
      answer_start (&busy[i], launcher, "finish-when-asked", NULL);
      answer_wait_running (&busy[i]);
    }
  g_assert_cmpuint (list_children (pids, 2), ==, 2);
  for (int i = 0; i < 10; i++)
    {
      queued[i] = (Answer) ANSWER_INIT;
      answer_start (&queued[i], launcher, "pid", NULL);
    }

  q_task_launcher_set_max_processes (launcher, 1);
  q_task_cancel (busy[0].task);
  answer_wait (&busy[0]);
  test_poll_until (count_children () == 1);
  g_assert_cmpuint (list_children (pids, 1), ==, 1);
  for (int i = 0; i < 10; i++)
    g_assert_cmpint (q_task_poll (queued[i].task), ==, Q_TASK_STATE_QUEUED);

  q_task_cancel (busy[1].task);
  answer_wait (&busy[1]);
  for (int i = 0; i < 10; i++)
    {
      answer_wait (&queued[i]);
      g_assert_no_error (queued[i].error);
      g_assert_cmpint (g_variant_get_int32 (queued[i].result), ==, pids[0]);
      answer_clear (&queued[i]);
    }
  answer_clear (&busy[0]);
  answer_clear (&busy[1]);
  g_assert_finalize_object (launcher);
}

static void
test_max_tasks (void)
{
  QTaskLauncher *launcher = launcher_new ();
  int last = 0;

  q_task_launcher_set_max_tasks_per_process (launcher, 3);

  for (int i = 0; i < 9; i++)
    {
      int pid = launcher_call_pid (launcher);

      if (i % 3 == 0)
        g_assert_cmpint (pid, !=, last);
      else
        g_assert_cmpint (pid, ==, last);
      last = pid;
    }

  g_assert_finalize_object (launcher);
}

static void
test_idle_timeout (void)
{
  QTaskLauncher *launcher = launcher_new ();
  int pid;

  q_task_launcher_set_idle_timeout (launcher, 10 * G_TIME_SPAN_MILLISECOND);
  pid = launcher_call_pid (launcher);
  test_poll_until (count_children () == 0);
  g_assert_true (process_is_gone (pid));

  g_assert_cmpint (launcher_call_pid (launcher), >, 0);
  test_poll_until (count_children () == 0);

  /* What idles already hears of it. */
  q_task_launcher_set_idle_timeout (launcher, -1);
  pid = launcher_call_pid (launcher);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  q_task_launcher_set_idle_timeout (launcher, 0);
  test_poll_until (count_children () == 0);

  g_assert_finalize_object (launcher);
}

/* The largest timeouts are long ones. */
static void
test_largest_timeouts (void)
{
  g_autofree char *program = launcher_test_get_program ("launcher-worker");
  const char *argv[] = { "sh", "-c", "\"$0\"; sleep 0.2; echo late > \"$1\"", program, NULL, NULL };
  g_autofree char *path = g_build_filename (launcher_test_get_folder (), "late", NULL);
  QTaskLauncher *launcher;
  int pid;

  argv[4] = path;
  launcher = q_task_launcher_new (argv);
  q_task_launcher_set_idle_timeout (launcher, G_MAXINT64);
  q_task_launcher_set_kill_timeout (launcher, G_MAXINT64);
  pid = launcher_call_pid (launcher);
  g_usleep (20 * G_TIME_SPAN_MILLISECOND);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);

  /* It is not killed while it takes its time to end. */
  g_assert_finalize_object (launcher);
  test_poll_until (count_children () == 0);
  g_assert_true (g_file_test (path, G_FILE_TEST_EXISTS));
}

static void
test_environment (void)
{
  const char *environment[] = { "LAUNCHER_TEST=here", "PATH=/usr/bin:/bin", "ASAN_OPTIONS=detect_leaks=0", NULL };
  QTaskLauncher *launcher = launcher_new ();
  g_autoptr (GVariant) first = NULL;
  g_autoptr (GVariant) second = NULL;

  g_setenv ("LAUNCHER_TEST", "inherited", TRUE);
  first = launcher_call (launcher, "environment", g_variant_new_string ("LAUNCHER_TEST"));
  assert_variant (first, "'inherited'");
  g_object_unref (launcher);

  launcher = launcher_new ();
  q_task_launcher_set_environment (launcher, environment);
  g_assert_cmpstrv (q_task_launcher_get_environment (launcher), environment);
  second = launcher_call (launcher, "environment", g_variant_new_string ("LAUNCHER_TEST"));
  assert_variant (second, "'here'");
  g_unsetenv ("LAUNCHER_TEST");

  g_assert_finalize_object (launcher);
}

/* The number of the socket is nobody else's business. */
static void
test_variable_is_not_passed_on (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autoptr (GVariant) value = launcher_call (launcher, "environment", g_variant_new_string ("QTASK_FD"));

  assert_variant (value, "''");
  g_assert_finalize_object (launcher);
}

static void
test_directory (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autoptr (GVariant) result = NULL;
  g_autofree char *real = realpath (launcher_test_get_folder (), NULL);

  q_task_launcher_set_directory (launcher, launcher_test_get_folder ());
  g_assert_cmpstr (q_task_launcher_get_directory (launcher), ==, launcher_test_get_folder ());
  result = launcher_call (launcher, "directory", NULL);
  g_assert_cmpstr (g_variant_get_string (result, NULL), ==, real);

  g_assert_finalize_object (launcher);
}

static void
test_descriptors_of_worker (void)
{
  int fd = open ("/dev/null", O_RDONLY);
  QTaskLauncher *launcher = launcher_new ();
  Answer other = ANSWER_INIT;
  g_autoptr (GVariant) result = NULL;
  g_autofree const char **targets = NULL;
  gsize n;
  guint n_sockets = 0;

  /* Nor do those of its siblings reach it. */
  answer_start (&other, launcher, "finish-when-asked", NULL);
  answer_wait_running (&other);
  result = launcher_call (launcher, "descriptors", NULL);
  targets = g_variant_get_strv (result, &n);
  for (gsize i = 0; i < n; i++)
    {
      g_assert_cmpstr (targets[i], !=, "/dev/null");
      n_sockets += g_str_has_prefix (targets[i], "socket:");
    }
  g_assert_cmpuint (n_sockets, ==, 1);

  q_task_cancel (other.task);
  answer_wait (&other);
  answer_clear (&other);
  close (fd);
  g_assert_finalize_object (launcher);
}

static void
test_properties (void)
{
  const char *argv[] = { "program", "argument", NULL };
  const char *environment[] = { "A=B", NULL };
  g_auto (GStrv) got_argv = NULL;
  g_auto (GStrv) got_environment = NULL;
  g_autofree char *directory = NULL;
  QTaskLauncher *launcher;
  QTaskTransport transport;
  gboolean capture_stderr;
  guint max_processes;
  guint max_tasks;
  guint64 max_message_size;
  gint64 idle_timeout;
  gint64 kill_timeout;

  launcher = g_object_new (Q_TYPE_TASK_LAUNCHER, "argv", argv, NULL);
  g_assert_cmpstrv (q_task_launcher_get_argv (launcher), argv);
  g_assert_null (q_task_launcher_get_environment (launcher));
  g_assert_null (q_task_launcher_get_directory (launcher));
  g_assert_cmpint (q_task_launcher_get_transport (launcher), ==, Q_TASK_TRANSPORT_INHERITED_FD);
  g_assert_false (q_task_launcher_get_capture_stderr (launcher));
  g_assert_cmpuint (q_task_launcher_get_max_processes (launcher), ==, g_get_num_processors ());
  g_assert_cmpuint (q_task_launcher_get_max_tasks_per_process (launcher), ==, 0);
  g_assert_cmpuint (q_task_launcher_get_max_message_size (launcher), ==, 64 * 1024 * 1024);
  g_assert_cmpint (q_task_launcher_get_idle_timeout (launcher), ==, 30 * G_TIME_SPAN_SECOND);
  g_assert_cmpint (q_task_launcher_get_kill_timeout (launcher), ==, 5 * G_TIME_SPAN_SECOND);

  g_object_set (launcher,
                "environment", environment,
                "directory", "/tmp",
                "transport", Q_TASK_TRANSPORT_STDIO,
                "capture-stderr", TRUE,
                "max-processes", 7,
                "max-tasks-per-process", 8,
                "max-message-size", (guint64) 9000,
                "idle-timeout", (gint64) 10,
                "kill-timeout", (gint64) 11,
                NULL);
  g_object_get (launcher,
                "argv", &got_argv,
                "environment", &got_environment,
                "directory", &directory,
                "transport", &transport,
                "capture-stderr", &capture_stderr,
                "max-processes", &max_processes,
                "max-tasks-per-process", &max_tasks,
                "max-message-size", &max_message_size,
                "idle-timeout", &idle_timeout,
                "kill-timeout", &kill_timeout,
                NULL);
  g_assert_cmpstrv (got_argv, argv);
  g_assert_cmpstrv (got_environment, environment);
  g_assert_cmpstr (directory, ==, "/tmp");
  g_assert_cmpint (transport, ==, Q_TASK_TRANSPORT_STDIO);
  g_assert_true (capture_stderr);
  g_assert_cmpuint (max_processes, ==, 7);
  g_assert_cmpuint (max_tasks, ==, 8);
  g_assert_cmpuint (max_message_size, ==, 9000);
  g_assert_cmpint (idle_timeout, ==, 10);
  g_assert_cmpint (kill_timeout, ==, 11);
  g_assert_finalize_object (launcher);
}

/* One that has never been used costs nothing, and nor does one whose processes have gone. */
static void
test_unused (void)
{
  guint n_descriptors = test_count_descriptors ();
  QTaskLauncher *launcher = launcher_new ();

  g_assert_cmpuint (test_count_descriptors (), ==, n_descriptors);
  g_assert_cmpuint (count_children (), ==, 0);
  g_assert_finalize_object (launcher);
}

/* Many launchers at once do not close or inherit what is another's. */
static void
test_several_launchers (void)
{
  QTaskLauncher *launchers[5];
  Answer answers[5];

  for (int i = 0; i < 5; i++)
    {
      launchers[i] = launcher_new ();
      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launchers[i], "pid", NULL);
    }

  for (int i = 0; i < 5; i++)
    {
      guint left = 4 - i;

      answer_wait (&answers[i]);
      g_assert_no_error (answers[i].error);
      for (int j = i + 1; j < 5; j++)
        answer_wait (&answers[j]);
      g_assert_finalize_object (launchers[i]);
      /* It sees its end though those that were started later go on. */
      test_poll_until (count_children () == left);
      answer_clear (&answers[i]);
    }
}

/* Standard streams */

static void
test_transport_stdio (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autoptr (GVariant) result = NULL;
  int pid;

  q_task_launcher_set_transport (launcher, Q_TASK_TRANSPORT_STDIO);
  result = launcher_call (launcher, "echo", g_variant_new_string ("text"));
  assert_variant (result, "'text'");
  pid = launcher_call_pid (launcher);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

/* What is printed goes to standard error, and nothing is to be read. */
static void
test_stray_print (void)
{
  if (g_test_subprocess ())
    {
      QTaskLauncher *launcher = launcher_new ();

      q_task_launcher_set_transport (launcher, Q_TASK_TRANSPORT_STDIO);
      for (int i = 0; i < 2; i++)
        {
          g_autoptr (GVariant) result = launcher_call (launcher, "print", g_variant_new_string ("stray text"));

          assert_variant (result, "int64 0");
        }
      g_object_unref (launcher);
      return;
    }

  g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDIN);
  g_test_trap_assert_passed ();
  g_test_trap_assert_stdout_unmatched ("*stray*");
  g_test_trap_assert_stderr ("*stray text*stray text*stray text*stray text*stray text*stray text*");
}

/* Its worker ends at once, and loses what it had. */
static QTaskLauncher *
launcher_new_plain (void)
{
  g_unsetenv ("LAUNCHER_TEST_WRAPPER");

  return launcher_new ();
}

static void
test_stderr_is_passed_through (void)
{
  if (g_test_subprocess ())
    {
      QTaskLauncher *launcher = launcher_new_plain ();

      assert_call_fails (launcher, "exit", g_variant_new ("(is)", 3, "last words\n"), Q_TASK_ERROR,
                         Q_TASK_ERROR_CRASHED, "3");
      g_object_unref (launcher);
      return;
    }

  g_test_trap_subprocess (NULL, 0, 0);
  g_test_trap_assert_passed ();
  g_test_trap_assert_stderr ("*last words*");
}

static void
test_stderr_is_captured (void)
{
  if (g_test_subprocess ())
    {
      QTaskLauncher *launcher = launcher_new_plain ();
      g_autoptr (GError) error = NULL;
      g_autoptr (GError) next = NULL;

      q_task_launcher_set_capture_stderr (launcher, TRUE);
      error = launcher_call_error (launcher, "exit", g_variant_new ("(is)", 3, "some\nlast words\n"));
      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
      assert_contains (error->message, "some\nlast words");
      assert_contains (error->message, "3");

      /* Nothing of it is left for the next one. */
      next = launcher_call_error (launcher, "exit", g_variant_new ("(is)", 4, "other\n"));
      assert_contains (next->message, "other");
      g_assert_null (strstr (next->message, "last words"));
      g_object_unref (launcher);
      return;
    }

  g_test_trap_subprocess (NULL, 0, 0);
  g_test_trap_assert_passed ();
  g_test_trap_assert_stderr_unmatched ("*last words*");
}

/* Nobody reads it while all goes well, but it does not fill up, nor all memory. */
static void
test_stderr_of_a_chatterer (void)
{
  g_autofree char *junk = g_strnfill (100000, 'x');
  g_autofree char *text = g_strdup_printf ("first words\n%s\nlast \xff words\n", junk);
  g_autofree char *step = g_strdup_printf ("stderr=%s", text);
  g_autofree char *hello = fake_hello ();
  g_autofree char *result = fake_result ("'done'");
  QTaskLauncher *launcher = launcher_new_fake (step, step, hello, "request", step, step, step, result, "request",
                                               step, "exit=9", NULL);
  g_autoptr (GVariant) first = NULL;
  g_autoptr (GError) error = NULL;

  q_task_launcher_set_capture_stderr (launcher, TRUE);
  first = launcher_call (launcher, "", NULL);
  assert_variant (first, "'done'");
  error = launcher_call_error (launcher, "", NULL);
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  g_assert_true (g_utf8_validate (error->message, -1, NULL));
  assert_contains (error->message, " words");
  g_assert_cmpuint (strlen (error->message), <, 20000);
  g_assert_finalize_object (launcher);
}

/* In a program that has closed them, new descriptors have their numbers. */
static void
test_closed_standard_streams (void)
{
  if (g_test_subprocess ())
    {
      for (int transport = 0; transport < 2; transport++)
        {
          QTaskLauncher *launcher;
          g_autoptr (GVariant) result = NULL;

          close (0);
          close (1);
          close (2);
          launcher = launcher_new ();
          q_task_launcher_set_transport (launcher, transport);
          q_task_launcher_set_capture_stderr (launcher, transport);
          result = launcher_call (launcher, "echo", g_variant_new_string ("text"));
          assert_variant (result, "'text'");
          g_object_unref (launcher);
          test_poll_until (count_children () == 0);
        }
      launcher_test_remove_folder ();
      _exit (0);
    }

  g_test_trap_subprocess (NULL, 0, 0);
  g_test_trap_assert_passed ();
}

/* Others may wait for children, or have the system do it. */
static void
test_sigchld_ignored (void)
{
  if (g_test_subprocess ())
    {
      QTaskLauncher *launcher = launcher_new ();
      int pid;

      signal (SIGCHLD, SIG_IGN);
      pid = launcher_call_pid (launcher);
      g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
      assert_call_fails (launcher, "crash", g_variant_new_int32 (SIGKILL), Q_TASK_ERROR, Q_TASK_ERROR_CRASHED, "");
      g_assert_cmpint (launcher_call_pid (launcher), !=, pid);
      g_object_unref (launcher);
      test_poll_until (count_children () == 0);
      return;
    }

  g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
  g_test_trap_assert_passed ();
}

static void
test_forked_child (void)
{
  QTaskLauncher *launcher;
  pid_t child;
  int status;
  int pid;

  if (test_is_slow ())
    {
      g_test_skip ("A forked child has lost what its parent's threads held");
      return;
    }

  launcher = launcher_new ();
  pid = launcher_call_pid (launcher);

  child = fork ();
  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      QTask *task = q_task_new (NULL, NULL, NULL, NULL);

      GError *error = NULL;

      q_task_run_in_process (task, launcher, g_variant_new_tuple (NULL, 0));
      q_task_propagate_error (task, &error);
      _exit (g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_FORKED) ? 0 : 1);
    }

  test_poll_until (waitpid (child, &status, WNOHANG) == child);
  g_assert_cmpint (status, ==, 0);

  /* The parent's are its own. */
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

static void
test_function_data_is_destroyed (void)
{
  g_autofree char *path = g_build_filename (launcher_test_get_folder (), "ends", NULL);
  QTaskLauncher *launcher = launcher_new ();

  /* However soon it would be killed if it did not stop */
  q_task_launcher_set_kill_timeout (launcher, 0);
  g_setenv ("LAUNCHER_WORKER_ENDS", path, TRUE);
  g_assert_cmpint (launcher_call_pid (launcher), >, 0);
  g_unsetenv ("LAUNCHER_WORKER_ENDS");
  g_assert_false (g_file_test (path, G_FILE_TEST_EXISTS));
  g_object_unref (launcher);
  test_poll_until (count_children () == 0);
  g_assert_true (g_file_test (path, G_FILE_TEST_EXISTS));
  g_unlink (path);
}

/* A worker program that is started by hand says what it is, and does not wait for ever. */
static void
test_started_by_hand (void)
{
  g_autofree char *path = launcher_test_get_program ("launcher-worker");
  const char *argv[] = { path, NULL };
  g_autofree char *error_text = NULL;
  g_autoptr (GError) error = NULL;
  int status;

  g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &error_text, &status,
                &error);
  g_assert_no_error (error);
  g_assert_true (WIFEXITED (status));
}

/* Limits of size */

static void
test_request_over_the_limit (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autofree char *text = g_strnfill (10000, 'x');
  g_autoptr (GVariant) result = NULL;
  int pid;

  q_task_launcher_set_max_message_size (launcher, 5000);
  pid = launcher_call_pid (launcher);
  assert_call_fails (launcher, "echo", g_variant_new_string (text), G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
                     "5000");
  text[3000] = '\0';
  result = launcher_call (launcher, "echo", g_variant_new_string (text));
  g_assert_cmpstr (g_variant_get_string (result, NULL), ==, text);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

/* A higher limit holds at once, also while a process is being started with the lower one. */
static void
test_request_under_a_raised_limit (void)
{
  for (int i = 0; i < 20; i++)
    {
      QTaskLauncher *launcher = launcher_new ();
      Answer first = ANSWER_INIT;
      Answer second = ANSWER_INIT;

      q_task_launcher_set_max_processes (launcher, 1);
      q_task_launcher_set_max_message_size (launcher, 1000);
      answer_start (&first, launcher, "nothing", NULL);
      g_usleep (i * 20);
      q_task_launcher_set_max_message_size (launcher, 100000);
      q_task_set_priority (answer_prepare (&second), G_PRIORITY_HIGH);
      answer_run (&second, launcher, "echo", g_variant_new_take_string (g_strnfill (50000, 'x')));
      answer_wait (&second);
      g_assert_no_error (second.error);
      answer_wait (&first);
      g_assert_no_error (first.error);
      answer_clear (&first);
      answer_clear (&second);
      g_assert_finalize_object (launcher);
    }
}

/* Requests that were queued before the limit was lowered are refused by the process that gets them, one
 * after another; those count for nothing, and it goes on with the rest. */
static void
test_request_over_a_lowered_limit (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autofree char *text = g_strnfill (10000, 'x');
  Answer first = ANSWER_INIT;
  Answer answers[6];

  q_task_launcher_set_max_processes (launcher, 1);
  q_task_launcher_set_max_tasks_per_process (launcher, 2);
  answer_start (&first, launcher, "sleep", NULL);
  answer_wait_running (&first);

  for (guint i = 0; i < G_N_ELEMENTS (answers); i++)
    {
      gboolean is_large = i >= 1 && i <= 3;

      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launcher, is_large ? "echo" : "pid", is_large ? g_variant_new_string (text) : NULL);
    }

  q_task_launcher_set_max_message_size (launcher, 5000);
  q_task_cancel (first.task);
  answer_wait (&first);
  g_assert_error (first.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  for (guint i = 0; i < G_N_ELEMENTS (answers); i++)
    {
      answer_wait (&answers[i]);
      if (i >= 1 && i <= 3)
        g_assert_error (answers[i].error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
      else
        g_assert_no_error (answers[i].error);
    }

  g_assert_false (g_variant_equal (answers[0].result, answers[4].result));
  g_assert_true (g_variant_equal (answers[4].result, answers[5].result));

  answer_clear (&first);
  for (guint i = 0; i < G_N_ELEMENTS (answers); i++)
    answer_clear (&answers[i]);
  g_assert_finalize_object (launcher);
}

static void
test_result_over_the_limit (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autoptr (GVariant) result = NULL;
  int pid;

  q_task_launcher_set_max_message_size (launcher, 100000);
  pid = launcher_call_pid (launcher);
  assert_call_fails (launcher, "big", g_variant_new_uint64 (100001), G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
                     "100000");
  assert_call_fails (launcher, "big", g_variant_new_uint64 (10000000), G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
                     "100000");
  result = launcher_call (launcher, "big", g_variant_new_uint64 (100000));
  g_assert_cmpuint (g_variant_get_size (result), ==, 100000);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

int
main (int argc,
      char **argv)
{
  launcher_test_init (&argc, &argv);

  launcher_test_add ("/launcher/result/any-variant", test_result);
  launcher_test_add ("/launcher/result/large", test_large);
  launcher_test_add ("/launcher/result/none", test_no_result);
  launcher_test_add ("/launcher/result/of-other-kinds-is-a-variant", test_other_results);
  launcher_test_add ("/launcher/result/that-cannot-cross-is-an-error", test_result_that_cannot_cross);
  launcher_test_add ("/launcher/result/over-the-limit", test_result_over_the_limit);
  launcher_test_add ("/launcher/request/is-sunk", test_request_is_sunk);
  launcher_test_add ("/launcher/request/not-normal", test_request_not_normal);
  launcher_test_add ("/launcher/request/over-the-limit", test_request_over_the_limit);
  launcher_test_add ("/launcher/request/under-a-raised-limit", test_request_under_a_raised_limit);
  launcher_test_add ("/launcher/request/over-a-lowered-limit", test_request_over_a_lowered_limit);
  launcher_test_add ("/launcher/error/keeps-its-domain", test_error_keeps_domain);
  launcher_test_add ("/launcher/error/of-unknown-domain-is-readable", test_error_of_unknown_domain);
  launcher_test_add ("/launcher/error/set-on-the-task", test_error_on_task);
  launcher_test_add ("/launcher/error/false-without-one", test_false_without_error);
  launcher_test_add ("/launcher/run-async", test_run_async);
  launcher_test_add ("/launcher/run-async/cancelled", test_run_async_cancelled);
  launcher_test_add ("/launcher/second-run-is-refused", test_second_run);
  launcher_test_add ("/launcher/name-crosses", test_name);
  launcher_test_add ("/launcher/priority-orders-the-queue", test_priority);
  launcher_test_add ("/launcher/process/is-reused", test_reuse);
  launcher_test_add ("/launcher/process/at-most-so-many", test_max_processes);
  launcher_test_add ("/launcher/process/fewer-while-tasks-are-queued", test_fewer_processes);
  launcher_test_add ("/launcher/process/lingering-are-as-many", test_processes_that_linger);
  launcher_test_add ("/launcher/process/for-so-many-tasks", test_max_tasks);
  launcher_test_add ("/launcher/process/idle-is-closed", test_idle_timeout);
  launcher_test_add ("/launcher/process/largest-timeouts", test_largest_timeouts);
  launcher_test_add ("/launcher/process/environment", test_environment);
  launcher_test_add ("/launcher/process/does-not-pass-on-its-variable", test_variable_is_not_passed_on);
  launcher_test_add ("/launcher/process/directory", test_directory);
  launcher_test_add ("/launcher/process/inherits-no-descriptors", test_descriptors_of_worker);
  launcher_test_add ("/launcher/process/of-several-launchers", test_several_launchers);
  launcher_test_add ("/launcher/process/destroys-what-it-serves-with", test_function_data_is_destroyed);
  launcher_test_add ("/launcher/process/started-by-hand", test_started_by_hand);
  launcher_test_add ("/launcher/properties", test_properties);
  launcher_test_add ("/launcher/unused-costs-nothing", test_unused);
  launcher_test_add ("/launcher/stdio", test_transport_stdio);
  launcher_test_add ("/launcher/stdio/stray-print-corrupts-nothing", test_stray_print);
  launcher_test_add ("/launcher/stderr/is-passed-through", test_stderr_is_passed_through);
  launcher_test_add ("/launcher/stderr/is-captured", test_stderr_is_captured);
  launcher_test_add ("/launcher/stderr/of-a-chatterer", test_stderr_of_a_chatterer);
  launcher_test_add ("/launcher/closed-standard-streams", test_closed_standard_streams);
  launcher_test_add ("/launcher/sigchld-ignored", test_sigchld_ignored);
  launcher_test_add ("/launcher/forked-child-is-told", test_forked_child);

  return g_test_run ();
}
