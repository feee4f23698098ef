/* test-process.c: the way of a task through a worker process
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * This program is parent and worker: with an argument it serves, or says something that no worker
 * should.
 */

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-util.h"

static const char *program;

/* The worker */

static gboolean
serve_cat (QTask *task,
           GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  guint64 n = 0;

  for (;;)
    {
      g_autoptr (GBytes) message = NULL;
      GError *read_error = NULL;

      message = q_task_channel_read (channel, q_task_get_stop_cancellable (task), &read_error);
      if (message == NULL)
        {
          if (read_error != NULL)
            {
              g_propagate_error (error, read_error);
              return FALSE;
            }
          q_task_set_result_variant (task, g_variant_new_uint64 (n));
          return TRUE;
        }
      n++;
      if (!q_task_channel_write_bytes (channel, message, NULL, error))
        return FALSE;
    }
}

static gboolean
serve_one (QTask *task,
           GVariant *request,
           gpointer opaque G_GNUC_UNUSED,
           GError **error)
{
  g_autoptr (GVariant) arg = NULL;
  const char *command;

  g_variant_get (request, "(&sv)", &command, &arg);

  if (g_str_equal (command, "echo"))
    {
      q_task_set_result_variant (task, arg);
    }
  else if (g_str_equal (command, "none"))
    {
    }
  else if (g_str_equal (command, "fail"))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no such thing");
      return FALSE;
    }
  else if (g_str_equal (command, "fail-foreign"))
    {
      g_set_error (error, g_quark_from_static_string ("a-foreign-error"), 42, "strange");
      return FALSE;
    }
  else if (g_str_equal (command, "forget"))
    {
      return FALSE;
    }
  else if (g_str_equal (command, "pid"))
    {
      q_task_set_result_int (task, getpid ());
    }
  else if (g_str_equal (command, "boolean"))
    {
      q_task_set_result_boolean (task, TRUE);
    }
  else if (g_str_equal (command, "bytes"))
    {
      g_autoptr (GBytes) bytes = g_bytes_new ("abc", 3);

      q_task_set_result_bytes (task, bytes);
    }
  else if (g_str_equal (command, "pointer"))
    {
      q_task_set_result_pointer (task, g_strdup ("x"), g_free);
    }
  else if (g_str_equal (command, "big"))
    {
      gsize size = g_variant_get_uint64 (arg);

      gpointer data = g_malloc0 (size);

      q_task_set_result_variant (task, g_variant_new_from_data (G_VARIANT_TYPE_BYTESTRING, data, size,
                                                                TRUE, g_free, data));
    }
  else if (g_str_equal (command, "progress"))
    {
      for (int i = 0; i <= 100; i++)
        {
          q_task_set_progress (task, i / 100.0, i == 50 ? "half" : NULL);
          g_usleep (1000);
        }
    }
  else if (g_str_equal (command, "stoppable"))
    {
      while (!q_task_is_cancelled (task))
        g_usleep (500);
      q_task_set_error_if_cancelled (task);
      return FALSE;
    }
  else if (g_str_equal (command, "stubborn"))
    {
      for (;;)
        pause ();
    }
  else if (g_str_equal (command, "die"))
    {
      raise (g_variant_get_int32 (arg));
    }
  else if (g_str_equal (command, "exit"))
    {
      fprintf (stderr, "first line\nlast line\n");
      _exit (g_variant_get_int32 (arg));
    }
  else if (g_str_equal (command, "cat"))
    {
      return serve_cat (task, error);
    }
  else if (g_str_equal (command, "getenv"))
    {
      q_task_set_result_variant (task, g_variant_new_string (g_getenv (g_variant_get_string (arg, NULL))));
    }
  else if (g_str_equal (command, "cwd"))
    {
      g_autofree char *directory = g_get_current_dir ();

      q_task_set_result_variant (task, g_variant_new_string (directory));
    }
  else if (g_str_equal (command, "print"))
    {
      printf ("a stray print\n");
      fflush (stdout);
    }
  else if (g_str_equal (command, "sync"))
    {
      if (!q_task_sync (task, error))
        return FALSE;
    }
  else
    {
      g_assert_not_reached ();
    }

  return TRUE;
}

static int
say (const char *what)
{
  int fd = atoi (g_getenv ("QTASK_FD"));
  guint8 hello[25] = { 20, 0, 0, 0, 2, 'Q', 'T', 'A', 'S', 'K', '\r', '\n', 26, 1 };

  if (g_str_equal (what, "version"))
    hello[13] = 77;
  else if (g_str_equal (what, "garbage"))
    memset (hello, 0xff, sizeof hello);

  if (write (fd, hello, sizeof hello) != sizeof hello)
    return 1;

  if (g_str_equal (what, "hostile"))
    {
      static const guint8 frame[] = { 255, 255, 255, 3, 1, 0 };
      static const guint8 result[] = { 3, 0, 0, 0, 7, 9, 9, 9 };

      (void) frame;
      if (write (fd, result, sizeof result) != sizeof result)
        return 1;
    }
  else if (g_str_equal (what, "half"))
    {
      if (write (fd, "\x05\0", 2) != 2)
        return 1;
      return 0;
    }

  pause ();

  return 0;
}

/* The parent */

typedef struct
{
  gboolean is_done;
  GVariant *result;
  GError *error;
} Answer;

static QTaskLauncher *
launcher_new (const char *how)
{
  const char *argv[] = { program, how, NULL };

  return q_task_launcher_new (argv);
}

static GVariant *
request (const char *command,
         GVariant *arg)
{
  return g_variant_new ("(sv)", command, arg != NULL ? arg : g_variant_new_string (""));
}

static void
answer_clear (Answer *answer)
{
  g_clear_pointer (&answer->result, g_variant_unref);
  g_clear_error (&answer->error);
}

static void
task_cb (QTask *task,
         gpointer data)
{
  Answer *answer = data;

  answer->result = q_task_propagate_variant (task, &answer->error);
  answer->is_done = TRUE;
}

static gboolean
timeout_cb (gpointer what)
{
  g_error ("timed out: %s", (const char *) what);

  return G_SOURCE_REMOVE;
}

static void
iterate_until (gboolean *flag)
{
  guint id = g_timeout_add_seconds (TEST_TIME_LIMIT, timeout_cb, (gpointer) "answer");

  while (!*flag)
    g_main_context_iteration (NULL, TRUE);

  g_source_remove (id);
}

static void
ask (QTaskLauncher *launcher,
     const char *command,
     GVariant *arg,
     Answer *answer)
{
  g_autoptr (QTask) task = q_task_new (NULL, task_cb, answer, NULL);

  memset (answer, 0, sizeof *answer);
  q_task_run_in_process (task, launcher, request (command, arg));
  iterate_until (&answer->is_done);
}

static gint64
ask_pid (QTaskLauncher *launcher)
{
  Answer answer;
  gint64 pid;

  ask (launcher, "pid", NULL, &answer);
  g_assert_no_error (answer.error);
  pid = g_variant_get_int64 (answer.result);
  answer_clear (&answer);

  return pid;
}

static void
drop (QTaskLauncher *launcher)
{
  g_assert_finalize_object (launcher);

  /* No zombie */
  for (int i = 0; i < 3000; i++)
    {
      siginfo_t info;

      if (waitid (P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
        return;
      g_usleep (10000);
    }

  g_error ("a worker process is left");
}

static void
test_results (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer;

  for (int i = 0; i < 100; i++)
    {
      ask (launcher, "echo", g_variant_new_int32 (i), &answer);
      g_assert_no_error (answer.error);
      g_assert_cmpint (g_variant_get_int32 (answer.result), ==, i);
      answer_clear (&answer);
    }

  ask (launcher, "none", NULL, &answer);
  g_assert_no_error (answer.error);
  g_assert_null (answer.result);

  ask (launcher, "boolean", NULL, &answer);
  g_assert_no_error (answer.error);
  g_assert_true (g_variant_get_boolean (answer.result));
  answer_clear (&answer);

  ask (launcher, "bytes", NULL, &answer);
  g_assert_no_error (answer.error);
  g_assert_cmpmem (g_variant_get_data (answer.result), g_variant_get_size (answer.result), "abc", 3);
  answer_clear (&answer);

  ask (launcher, "pointer", NULL, &answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
  answer_clear (&answer);

  ask (launcher, "sync", NULL, &answer);
  g_assert_no_error (answer.error);
  answer_clear (&answer);

  g_assert_cmpint (ask_pid (launcher), ==, ask_pid (launcher));

  ask (launcher, "big", g_variant_new_uint64 (20 * 1024 * 1024), &answer);
  g_assert_no_error (answer.error);
  g_assert_cmpuint (g_variant_get_size (answer.result), ==, 20 * 1024 * 1024);
  answer_clear (&answer);

  drop (launcher);
}

static void
test_errors (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer;

  ask (launcher, "fail", NULL, &answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  g_assert_cmpstr (answer.error->message, ==, "no such thing");
  answer_clear (&answer);

  ask (launcher, "fail-foreign", NULL, &answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
  g_test_message ("%s", answer.error->message);
  g_assert_nonnull (strstr (answer.error->message, "a-foreign-error"));
  answer_clear (&answer);

  ask (launcher, "forget", NULL, &answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
  answer_clear (&answer);

  drop (launcher);
}

static void
test_crashes (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer;

  ask (launcher, "die", g_variant_new_int32 (SIGKILL), &answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  g_test_message ("%s", answer.error->message);
  answer_clear (&answer);

  q_task_launcher_set_capture_stderr (launcher, TRUE);
  ask (launcher, "exit", g_variant_new_int32 (7), &answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  g_test_message ("%s", answer.error->message);
  g_assert_nonnull (strstr (answer.error->message, "last line"));
  g_assert_nonnull (strstr (answer.error->message, "7"));
  answer_clear (&answer);

  ask_pid (launcher);
  drop (launcher);
}

static void
test_dead_idle (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");

  for (int i = 0; i < 50; i++)
    {
      gint64 pid = ask_pid (launcher);

      kill (pid, SIGKILL);
      if (i % 2)
        {
          siginfo_t info;

          waitid (P_PID, pid, &info, WEXITED | WNOWAIT);
        }
      /* It may go while it has the task: then that has crashed, which is right. */
      if (i % 2)
        g_assert_cmpint (ask_pid (launcher), !=, pid);
      else
        {
          Answer answer;

          ask (launcher, "none", NULL, &answer);
          if (answer.error != NULL)
            g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
          answer_clear (&answer);
        }
    }

  drop (launcher);
}

static void
test_no_program (void)
{
  const char *argv[] = { "/nowhere/at-all", NULL };
  QTaskLauncher *launcher = q_task_launcher_new (argv);
  Answer answer;

  ask (launcher, "none", NULL, &answer);
  g_assert_error (answer.error, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT);
  g_test_message ("%s", answer.error->message);
  g_assert_nonnull (strstr (answer.error->message, "/nowhere/at-all"));
  answer_clear (&answer);
  drop (launcher);

  argv[0] = "/etc/passwd";
  launcher = q_task_launcher_new (argv);
  ask (launcher, "none", NULL, &answer);
  g_assert_error (answer.error, G_SPAWN_ERROR, G_SPAWN_ERROR_ACCES);
  g_test_message ("%s", answer.error->message);
  answer_clear (&answer);
  drop (launcher);
}

static void
test_exits_at_once (void)
{
  const char *argv[] = { "/bin/sh", "-c", "echo so sorry >&2; exit 9", NULL };
  QTaskLauncher *launcher = q_task_launcher_new (argv);
  Answer answer;

  q_task_launcher_set_capture_stderr (launcher, TRUE);
  ask (launcher, "none", NULL, &answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  g_test_message ("%s", answer.error->message);
  g_assert_nonnull (strstr (answer.error->message, "/bin/sh"));
  g_assert_nonnull (strstr (answer.error->message, "so sorry"));
  g_assert_nonnull (strstr (answer.error->message, "9"));
  answer_clear (&answer);
  drop (launcher);
}

static void
test_hostile (void)
{
  static const char *const how[] = { "version", "garbage", "hostile", "half" };
  Answer answer;

  for (guint i = 0; i < G_N_ELEMENTS (how); i++)
    {
      QTaskLauncher *launcher = launcher_new (how[i]);

      ask (launcher, "none", NULL, &answer);
      g_test_message ("%s: %s", how[i], answer.error->message);
      if (i == 3)
        g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
      else
        g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
      answer_clear (&answer);
      drop (launcher);
    }
}

static void
test_cancel (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (QTask) task = NULL;
  Answer answer = { 0 };
  gint64 pid = ask_pid (launcher);
  gint64 start;

  task = q_task_new (NULL, task_cb, &answer, NULL);
  q_task_run_in_process (task, launcher, request ("stoppable", NULL));
  start = g_get_monotonic_time ();
  while (g_get_monotonic_time () < start + 20000)
    g_main_context_iteration (NULL, FALSE);
  q_task_cancel (task);
  start = g_get_monotonic_time ();
  iterate_until (&answer.is_done);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_test_message ("stopped after %d us", (int) (g_get_monotonic_time () - start));
  answer_clear (&answer);
  g_clear_object (&task);

  g_assert_cmpint (ask_pid (launcher), ==, pid);

  /* At once */
  answer.is_done = FALSE;
  task = q_task_new (NULL, task_cb, &answer, NULL);
  q_task_run_in_process (task, launcher, request ("stoppable", NULL));
  q_task_cancel (task);
  iterate_until (&answer.is_done);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  g_clear_object (&task);
  g_assert_cmpint (ask_pid (launcher), ==, pid);

  q_task_launcher_set_kill_timeout (launcher, 50000);
  answer.is_done = FALSE;
  task = q_task_new (NULL, task_cb, &answer, NULL);
  q_task_set_timeout (task, 20000);
  q_task_run_in_process (task, launcher, request ("stubborn", NULL));
  start = g_get_monotonic_time ();
  iterate_until (&answer.is_done);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_test_message ("killed after %d us", (int) (g_get_monotonic_time () - start));
  answer_clear (&answer);
  g_clear_object (&task);
  g_assert_cmpint (ask_pid (launcher), !=, pid);

  drop (launcher);
}

static void
test_wait (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  g_autoptr (GError) error = NULL;

  for (int i = 0; i < 20; i++)
    {
      Answer answer = { 0 };
      g_autoptr (QTask) task = q_task_new (NULL, task_cb, &answer, NULL);

      q_task_run_in_process (task, launcher, request ("pid", NULL));
      g_assert_true (q_task_wait (task, NULL, &error));
      g_assert_no_error (error);
      g_assert_true (answer.is_done);
      g_assert_no_error (answer.error);
      answer_clear (&answer);
    }

  drop (launcher);
}

static void
count_progress_cb (QTask *task,
                   GParamSpec *pspec G_GNUC_UNUSED,
                   int *n)
{
  (void) task;
  (*n)++;
}

static void
test_progress (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer = { 0 };
  g_autoptr (QTask) task = q_task_new (NULL, task_cb, &answer, NULL);
  g_autofree char *text = NULL;
  int n = 0;

  g_signal_connect (task, "notify::progress", G_CALLBACK (count_progress_cb), &n);
  q_task_run_in_process (task, launcher, request ("progress", NULL));
  iterate_until (&answer.is_done);
  g_assert_no_error (answer.error);
  g_test_message ("%d notifications", n);
  g_assert_cmpint (n, >, 1);
  g_assert_cmpfloat (q_task_get_progress (task), ==, 1.0);
  text = q_task_dup_progress_text (task);
  g_assert_cmpstr (text, ==, "half");

  drop (launcher);
}

typedef struct
{
  int n_messages;
  gsize n_bytes;
} Heard;

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Heard *heard = data;

  (void) channel;
  if (message == NULL)
    return;
  heard->n_messages++;
  heard->n_bytes += g_bytes_get_size (message);
}

static gpointer
writer_thread (gpointer data)
{
  QTaskChannel *channel = data;
  g_autofree char *buffer = g_malloc0 (4096);

  for (int i = 0; i < 5000; i++)
    g_assert_true (q_task_channel_write (channel, buffer, 4096, NULL, NULL));
  q_task_channel_close (channel);

  return NULL;
}

static void
test_messages (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer = { 0 };
  g_autoptr (QTask) task = q_task_new (NULL, task_cb, &answer, NULL);
  Heard heard = { 0 };
  QTaskChannel *channel;

  g_assert_true (q_task_open_channel (task, NULL));
  channel = q_task_get_channel (task);
  q_task_channel_set_message_func (channel, message_cb, &heard, NULL);
  q_task_run_in_process (task, launcher, request ("cat", NULL));

  for (int i = 0; i < 10; i++)
    g_assert_true (q_task_channel_write (channel, "hello", 5, NULL, NULL));

  while (heard.n_messages < 10)
    g_main_context_iteration (NULL, TRUE);

  g_assert_cmpint (heard.n_bytes, ==, 50);
  q_task_channel_close (channel);
  iterate_until (&answer.is_done);
  if (answer.error == NULL)
    g_assert_cmpint (g_variant_get_uint64 (answer.result), ==, 10);
  answer_clear (&answer);

  drop (launcher);
}

static gboolean
set_flag_cb (gpointer flag)
{
  *(gboolean *) flag = TRUE;

  return G_SOURCE_REMOVE;
}

static void
test_flood (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer = { 0 };
  g_autoptr (QTask) task = q_task_new (NULL, task_cb, &answer, NULL);
  QTaskChannel *channel;
  GThread *thread;
  gboolean flag = FALSE;
  int n = 0;

  g_assert_true (q_task_open_channel (task, NULL));
  channel = q_task_get_channel (task);
  q_task_run_in_process (task, launcher, request ("cat", NULL));
  g_timeout_add (100, set_flag_cb, &flag);

  thread = g_thread_new ("writer", writer_thread, channel);

  /* Nobody reads for a while: all stand still. */
  while (!flag)
    g_main_context_iteration (NULL, TRUE);

  for (;;)
    {
      g_autoptr (GBytes) message = q_task_channel_read (channel, NULL, NULL);

      if (message == NULL)
        break;
      n++;
    }

  g_thread_join (thread);
  iterate_until (&answer.is_done);
  g_test_message ("%d messages, %s", n, answer.error != NULL ? answer.error->message : "no error");
  answer_clear (&answer);

  drop (launcher);
}

static void
test_limits (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer;
  g_autofree gpointer data = g_malloc0 (20000);
  gint64 pid;

  q_task_launcher_set_max_message_size (launcher, 10000);
  pid = ask_pid (launcher);

  ask (launcher, "echo", g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, data, 20000, 1), &answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  answer_clear (&answer);

  ask (launcher, "big", g_variant_new_uint64 (10001), &answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  g_test_message ("%s", answer.error->message);
  answer_clear (&answer);

  ask (launcher, "big", g_variant_new_uint64 (10000), &answer);
  g_assert_no_error (answer.error);
  answer_clear (&answer);

  g_assert_cmpint (ask_pid (launcher), ==, pid);
  drop (launcher);
}

static void
test_lifetimes (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  gint64 pid = ask_pid (launcher);
  gint64 start;

  q_task_launcher_set_max_tasks_per_process (launcher, 2);
  g_assert_cmpint (ask_pid (launcher), ==, pid);
  g_assert_cmpint (ask_pid (launcher), !=, pid);

  q_task_launcher_set_max_tasks_per_process (launcher, 0);
  q_task_launcher_set_idle_timeout (launcher, 20000);
  pid = ask_pid (launcher);
  start = g_get_monotonic_time ();
  while (kill (pid, 0) == 0)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, start + 30 * G_TIME_SPAN_SECOND);
      g_usleep (1000);
    }
  g_test_message ("gone after %d us", (int) (g_get_monotonic_time () - start));
  drop (launcher);
}

static void
test_setup (void)
{
  static const char *const environment[] = { "PATH=/bin:/usr/bin", "FLAVOUR=salty", NULL };
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer;

  q_task_launcher_set_environment (launcher, environment);
  q_task_launcher_set_directory (launcher, "/usr");

  ask (launcher, "getenv", g_variant_new_string ("FLAVOUR"), &answer);
  g_assert_no_error (answer.error);
  g_assert_cmpstr (g_variant_get_string (answer.result, NULL), ==, "salty");
  answer_clear (&answer);

  ask (launcher, "cwd", NULL, &answer);
  g_assert_no_error (answer.error);
  g_assert_cmpstr (g_variant_get_string (answer.result, NULL), ==, "/usr");
  answer_clear (&answer);

  drop (launcher);
}

static void
test_stdio (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  Answer answer;

  q_task_launcher_set_transport (launcher, Q_TASK_TRANSPORT_STDIO);
  q_task_launcher_set_capture_stderr (launcher, TRUE);

  ask (launcher, "print", NULL, &answer);
  g_assert_no_error (answer.error);
  answer_clear (&answer);
  ask (launcher, "big", g_variant_new_uint64 (3000000), &answer);
  g_assert_no_error (answer.error);
  answer_clear (&answer);
  ask_pid (launcher);
  drop (launcher);
}

static void
count_cb (QTask *task,
          gpointer data)
{
  g_autoptr (GVariant) result = q_task_propagate_variant (task, NULL);

  (*(int *) data)++;
}

static void
test_many (void)
{
  QTaskLauncher *launcher = launcher_new ("serve");
  int n = 0;

  for (int i = 0; i < 2000; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n, NULL);

      q_task_run_in_process (task, launcher, request ("pid", NULL));
    }

  while (n < 2000)
    g_main_context_iteration (NULL, TRUE);

  drop (launcher);
}

static void
test_cancel_before (void)
{
  const char *argv[] = { "/nowhere", NULL };
  QTaskLauncher *launcher = q_task_launcher_new (argv);
  Answer answer = { 0 };
  g_autoptr (QTask) task = q_task_new (NULL, task_cb, &answer, NULL);

  q_task_cancel (task);
  q_task_run_in_process (task, launcher, request ("none", NULL));
  iterate_until (&answer.is_done);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);

  drop (launcher);
}

int
main (int argc,
      char *argv[])
{
  program = g_canonicalize_filename (argv[0], NULL);

  if (argc > 1 && g_str_equal (argv[1], "serve"))
    return q_task_serve (serve_one, NULL, NULL);
  if (argc > 1 && argv[1][0] != '-')
    return say (argv[1]);

  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/process/results-come-back", test_results);
  g_test_add_func ("/process/errors-come-back", test_errors);
  g_test_add_func ("/process/a-crash-is-told", test_crashes);
  g_test_add_func ("/process/a-dead-idle-process-is-replaced", test_dead_idle);
  g_test_add_func ("/process/no-program-is-named", test_no_program);
  g_test_add_func ("/process/one-that-exits-at-once-is-quoted", test_exits_at_once);
  g_test_add_func ("/process/hostile-bytes-fail-the-task", test_hostile);
  g_test_add_func ("/process/cancel-asks-and-then-kills", test_cancel);
  g_test_add_func ("/process/an-owner-may-block", test_wait);
  g_test_add_func ("/process/progress-comes", test_progress);
  g_test_add_func ("/process/messages-go-both-ways", test_messages);
  g_test_add_func ("/process/a-flood-is-held-back", test_flood);
  g_test_add_func ("/process/sizes-are-limited", test_limits);
  g_test_add_func ("/process/a-process-has-its-time", test_lifetimes);
  g_test_add_func ("/process/environment-and-directory", test_setup);
  g_test_add_func ("/process/standard-input-and-output", test_stdio);
  g_test_add_func ("/process/many-tasks", test_many);
  g_test_add_func ("/process/cancelled-before-it-starts-no-process", test_cancel_before);

  return g_test_run ();
}
