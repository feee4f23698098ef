/* test-launcher-ssh.c: a worker process that ssh starts
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * usage: test-launcher-ssh [OPTION…] CONFIG
 *
 * CONFIG is a configuration of ssh with the hosts "loopback" and "nobody"; test-ssh.py makes it, and
 * the server.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test-launcher-util.h"

static const char *config;

static QTaskLauncher *
new_of_host (const char *host,
             const char *program)
{
  const char *argv[] = { "ssh", "-T", "-F", config, host, program, NULL };
  QTaskLauncher *launcher = q_task_launcher_new (argv);

  q_task_launcher_set_transport (launcher, Q_TASK_TRANSPORT_STDIO);
  q_task_launcher_set_capture_stderr (launcher, TRUE);
  q_task_launcher_set_max_processes (launcher, 2);

  return launcher;
}

static QTaskLauncher *
new_remote (void)
{
  g_autofree char *program = launcher_test_get_program ("launcher-worker");

  return new_of_host ("loopback", program);
}

static void
test_results (void)
{
  QTaskLauncher *launcher = new_remote ();
  Answer answers[20];
  int pid;

  for (int i = 0; i < 20; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launcher, "echo", g_variant_new_int32 (i));
    }
  for (int i = 0; i < 20; i++)
    {
      answer_wait (&answers[i]);
      g_assert_no_error (answers[i].error);
      g_assert_cmpint (g_variant_get_int32 (answers[i].result), ==, i);
      answer_clear (&answers[i]);
    }
  g_assert_cmpuint (count_children (), <=, 2);

  /* The connections are kept; when they are closed, the workers end. */
  pid = launcher_call_pid (launcher);
  g_assert_false (process_is_gone (pid));
  g_assert_finalize_object (launcher);
  test_poll_until (process_is_gone (pid));
}

static void
test_large (void)
{
  QTaskLauncher *launcher = new_remote ();
  const gsize size = 5000000;
  guint8 *data = g_malloc (size);
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (GVariant) result = NULL;

  for (gsize i = 0; i < size; i++)
    data[i] = (guint8) (i * 7 + i / 256);
  bytes = g_bytes_new_take (data, size);
  result = launcher_call (launcher, "echo", g_variant_new_from_bytes (G_VARIANT_TYPE ("ay"), bytes, TRUE));
  g_assert_cmpmem (g_variant_get_data (result), g_variant_get_size (result), data, size);
  g_assert_finalize_object (launcher);
}

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  guint32 *n = data;
  guint32 number;

  if (message == NULL)
    return;

  memcpy (&number, g_bytes_get_data (message, NULL), sizeof number);
  g_assert_cmpuint (number, ==, *n);
  (*n)++;
}

static void
test_progress_and_messages (void)
{
  QTaskLauncher *launcher = new_remote ();
  Answer answer = ANSWER_INIT;
  guint32 n = 0;

  g_assert_true (q_task_open_channel (answer_prepare (&answer), NULL));
  q_task_channel_set_message_func (q_task_get_channel (answer.task), message_cb, &n, NULL);
  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", 1000, 1000));
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  g_assert_cmpuint (n, ==, 1000);
  answer_clear (&answer);

  answer_start (&answer, launcher, "progress", g_variant_new_uint32 (100));
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  g_assert_cmpfloat (q_task_get_progress (answer.task), ==, 1.0);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_stray_print (void)
{
  QTaskLauncher *launcher = new_remote ();
  g_autoptr (GVariant) result = launcher_call (launcher, "print", g_variant_new_string ("stray text"));

  assert_variant (result, "int64 0");
  g_assert_finalize_object (launcher);
}

static void
test_cancel (void)
{
  QTaskLauncher *launcher = new_remote ();
  Answer answer = ANSWER_INIT;
  int pid = launcher_call_pid (launcher);

  q_task_launcher_set_kill_timeout (launcher, -1);
  answer_start (&answer, launcher, "sleep", NULL);
  answer_wait_running (&answer);
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

/* The connection is cut, and the worker notices. */
static void
test_cancel_ignored (void)
{
  QTaskLauncher *launcher = new_remote ();
  Answer answer = ANSWER_INIT;
  int pid = launcher_call_pid (launcher);

  q_task_launcher_set_kill_timeout (launcher, 10 * G_TIME_SPAN_MILLISECOND);
  answer_start (&answer, launcher, "ignore", NULL);
  answer_wait_running (&answer);
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  test_poll_until (process_is_gone (pid));
  g_assert_cmpint (launcher_call_pid (launcher), !=, pid);
  g_assert_finalize_object (launcher);
}

static gboolean
get_stat (int pid,
          char *name,
          int *parent)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", pid);
  g_autofree char *stat = NULL;
  const char *end;

  if (!g_file_get_contents (path, &stat, NULL, NULL))
    return FALSE;

  end = strrchr (stat, ')');

  return sscanf (stat, "%*d (%31[^)])", name) == 1 && sscanf (end + 1, " %*c %d", parent) == 1;
}

/* The server of this connection is the next above the worker. */
static void
kill_server_of (int pid)
{
  char name[32] = "";

  while (!g_str_has_prefix (name, "sshd"))
    {
      int parent;

      g_assert_true (get_stat (pid, name, &parent));
      if (g_str_has_prefix (name, "sshd"))
        break;
      pid = parent;
      g_assert_cmpint (pid, >, 1);
    }

  g_assert_cmpint (kill (pid, SIGKILL), ==, 0);
}

static void
test_killed_connections (gconstpointer at_server)
{
  QTaskLauncher *launcher = new_remote ();

  q_task_launcher_set_max_processes (launcher, 1);
  for (int i = 0; i < 2; i++)
    {
      int pid = launcher_call_pid (launcher);
      Answer answer = ANSWER_INIT;
      int ssh;

      answer_start (&answer, launcher, "sleep", NULL);
      answer_wait_running (&answer);
      if (at_server)
        {
          kill_server_of (pid);
        }
      else
        {
          g_assert_cmpuint (list_children (&ssh, 1), ==, 1);
          g_assert_cmpint (kill (ssh, SIGKILL), ==, 0);
        }
      answer_wait (&answer);
      g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
      assert_contains (answer.error->message, at_server ? "255" : "9");
      answer_clear (&answer);
      test_poll_until (process_is_gone (pid));

      /* An idle one costs nobody anything. */
      if (i == 0)
        {
          launcher_call_pid (launcher);
          g_assert_cmpuint (list_children (&ssh, 1), ==, 1);
          g_assert_cmpint (kill (ssh, SIGKILL), ==, 0);
          test_poll_until (process_is_gone (ssh));
        }
    }

  g_assert_finalize_object (launcher);
}

static void
test_crash (void)
{
  QTaskLauncher *launcher = new_remote ();

  assert_call_fails (launcher, "exit", g_variant_new ("(is)", 3, "last words\n"), Q_TASK_ERROR,
                     Q_TASK_ERROR_CRASHED, "last words");
  assert_call_fails (launcher, "exit", g_variant_new ("(is)", 3, "last words\n"), Q_TASK_ERROR,
                     Q_TASK_ERROR_CRASHED, "status 3");
  g_assert_finalize_object (launcher);
}

static void
test_no_such_program (void)
{
  QTaskLauncher *launcher = new_of_host ("loopback", "/no/such/program");

  assert_call_fails (launcher, "", NULL, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED, "/no/such/program");
  assert_call_fails (launcher, "", NULL, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED, "status 127");
  g_assert_finalize_object (launcher);
}

static void
test_no_such_host (void)
{
  QTaskLauncher *launcher = new_of_host ("nobody", "true");

  assert_call_fails (launcher, "", NULL, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED, "refused");
  assert_call_fails (launcher, "", NULL, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED, "status 255");
  g_assert_finalize_object (launcher);
}

int
main (int argc,
      char **argv)
{
  launcher_test_init (&argc, &argv);

  if (argc != 2)
    {
      g_printerr ("usage: %s [OPTION…] CONFIG\n", argv[0]);
      return 2;
    }
  config = argv[1];

  launcher_test_add ("/launcher/ssh/results", test_results);
  launcher_test_add ("/launcher/ssh/large", test_large);
  launcher_test_add ("/launcher/ssh/progress-and-messages", test_progress_and_messages);
  launcher_test_add ("/launcher/ssh/stray-print-corrupts-nothing", test_stray_print);
  launcher_test_add ("/launcher/ssh/cancel", test_cancel);
  launcher_test_add ("/launcher/ssh/cancel-ignored", test_cancel_ignored);
  launcher_test_add_data ("/launcher/ssh/killed-here", GINT_TO_POINTER (FALSE), test_killed_connections);
  launcher_test_add_data ("/launcher/ssh/killed-there", GINT_TO_POINTER (TRUE), test_killed_connections);
  launcher_test_add ("/launcher/ssh/crash", test_crash);
  launcher_test_add ("/launcher/ssh/no-such-program", test_no_such_program);
  launcher_test_add ("/launcher/ssh/no-such-host", test_no_such_host);

  return g_test_run ();
}
