/* test-launcher-util.c: what the tests of worker processes share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "test-launcher-util.h"

#include <dirent.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qtask/q-task-protocol-private.h"

static char *folder;
static GPid folder_owner;

/* Children that have something to report write it into the folder: their standard error may be
 * somewhere else. */
static void
add_option (const char *name,
            const char *option)
{
  const char *old = g_getenv (name);
  g_autofree char *options = g_strconcat (old != NULL ? old : "", ":", option, NULL);

  g_setenv (name, options, TRUE);
}

void
launcher_test_remove_folder (void)
{
  g_autoptr (GDir) dir = NULL;
  const char *name;

  if (folder == NULL || folder_owner != getpid ())
    return;

  dir = g_dir_open (folder, 0, NULL);
  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, NULL);

      g_unlink (path);
    }
  g_rmdir (folder);
  g_clear_pointer (&folder, g_free);
}

void
launcher_test_init (int *argc,
                    char ***argv)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *log_path = NULL;
  g_autoptr (GVariant) result = NULL;
  QTaskLauncher *launcher;

  g_test_init (argc, argv, NULL);

  folder = g_dir_make_tmp ("qtask-launcher-XXXXXX", &error);
  g_assert_no_error (error);
  folder_owner = getpid ();
  atexit (launcher_test_remove_folder);

  log_path = g_strdup_printf ("log_path=%s/report", folder);
  add_option ("ASAN_OPTIONS", log_path);
  add_option ("TSAN_OPTIONS", log_path);
  add_option ("UBSAN_OPTIONS", log_path);

  /* What is made once is made now, and counted; a type of GIO's has a thread with a context. */
  g_type_ensure (G_TYPE_TASK);
  g_type_class_unref (g_type_class_ref (Q_TYPE_TASK_CHANNEL));
  g_assert_nonnull (g_strsignal (SIGKILL));
  launcher = launcher_new ();
  result = launcher_call (launcher, "nothing", NULL);
  g_assert_null (result);
  g_object_unref (launcher);
  test_poll_until (count_children () == 0);
}

const char *
launcher_test_get_folder (void)
{
  return folder;
}

/* Processes */

/* Those that have not ended, or all; the numbers of the first @n_pids are written to @pids. */
static guint
list_of_state (gboolean with_zombies,
               int *pids,
               guint n_pids)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc", 0, NULL);
  const char *name;
  guint n = 0;

  while ((name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = NULL;
      g_autofree char *stat = NULL;
      const char *end;
      char state;
      int parent;

      if (!g_ascii_isdigit (name[0]))
        continue;

      path = g_build_filename ("/proc", name, "stat", NULL);
      if (!g_file_get_contents (path, &stat, NULL, NULL))
        continue;

      end = strrchr (stat, ')');
      if (end == NULL || sscanf (end + 1, " %c %d", &state, &parent) != 2 || parent != getpid () ||
          (!with_zombies && state == 'Z'))
        continue;

      if (n < n_pids)
        pids[n] = atoi (name);
      n++;
    }

  return n;
}

guint
list_children (int *pids,
               guint n_pids)
{
  return MIN (list_of_state (FALSE, pids, n_pids), n_pids);
}

guint
count_running_children (void)
{
  return list_of_state (FALSE, NULL, 0);
}

guint
count_children (void)
{
  return list_of_state (TRUE, NULL, 0);
}

gboolean
process_is_gone (int pid)
{
  return kill (pid, 0) < 0 && errno == ESRCH;
}

/* Tests */

typedef struct
{
  GTestFunc func;
  GTestDataFunc data_func;
  gconstpointer data;
} Test;

static Test tests[64];
static guint n_tests;

/* What the leak sanitizer says of a process that is killed while it looks is no report. */
static gboolean
is_report (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);

  for (guint i = 0; lines[i] != NULL; i++)
    if (lines[i][0] != '\0' && strstr (lines[i], "Unable to get registers from thread") == NULL)
      return TRUE;

  return FALSE;
}

static void
assert_no_reports (void)
{
  g_autoptr (GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, NULL);
      g_autofree char *text = NULL;

      if (!g_str_has_prefix (name, "report") || !g_file_get_contents (path, &text, NULL, NULL) ||
          !is_report (text))
        continue;

      g_error ("A child has reported:\n%s", text);
    }
}

static char *
list_descriptors (void)
{
  GString *list = g_string_new (NULL);
  const struct dirent *entry;
  DIR *dir = opendir ("/proc/self/fd");

  while ((entry = readdir (dir)) != NULL)
    {
      g_autofree char *path = g_strconcat ("/proc/self/fd/", entry->d_name, NULL);
      g_autofree char *target = g_file_read_link (path, NULL);

      if (target != NULL)
        g_string_append_printf (list, " %s: %s", entry->d_name, target);
    }
  closedir (dir);

  return g_string_free (list, FALSE);
}

static void
assert_descriptors (guint n_before)
{
  gint64 end_time = test_end_time ();

  while (test_count_descriptors () > n_before)
    {
      g_autofree char *list = NULL;

      /* A context that reads from a process lets go of it when it is iterated. */
      g_main_context_iteration (NULL, FALSE);
      g_usleep (200);
      if (g_get_monotonic_time () < end_time)
        continue;

      list = list_descriptors ();
      g_error ("There were %u descriptors, and now there are:%s", n_before, list);
    }
}

/* What holds a launcher may be released by this context only. */
static void
await_no_children (void)
{
  gint64 end_time = test_end_time ();

  test_run_pending (NULL);
  while (count_children () > 0)
    {
      if (g_get_monotonic_time () > end_time)
        g_error ("There are %u children in the end", count_children ());
      g_usleep (200);
      test_run_pending (NULL);
    }
}

static void
run_test (gconstpointer data)
{
  const Test *test = data;
  guint n_descriptors;

  test_run_pending (NULL);
  n_descriptors = test_count_descriptors ();

  if (test->func != NULL)
    test->func ();
  else
    test->data_func (test->data);

  await_no_children ();
  assert_descriptors (n_descriptors);
  assert_no_reports ();
}

static void
add_test (const char *path,
          Test test)
{
  /* What is not run is not freed by GLib. */
  g_assert_cmpuint (n_tests, <, G_N_ELEMENTS (tests));
  tests[n_tests] = test;
  g_test_add_data_func (path, &tests[n_tests++], run_test);
}

void
launcher_test_add (const char *path,
                   GTestFunc func)
{
  add_test (path, (Test){ func, NULL, NULL });
}

void
launcher_test_add_data (const char *path,
                        gconstpointer data,
                        GTestDataFunc func)
{
  add_test (path, (Test){ NULL, func, data });
}

/* Launchers */

char *
launcher_test_get_program (const char *name)
{
  g_autofree char *path = g_test_build_filename (G_TEST_BUILT, name, NULL);

  return g_canonicalize_filename (path, NULL);
}

QTaskLauncher *
launcher_new (void)
{
  const char *wrapper = g_getenv ("LAUNCHER_TEST_WRAPPER");
  g_auto (GStrv) words = wrapper != NULL ? g_strsplit (wrapper, " ", -1) : NULL;
  g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
  QTaskLauncher *launcher;

  for (guint i = 0; words != NULL && words[i] != NULL; i++)
    g_ptr_array_add (argv, g_strdup (words[i]));
  if (words != NULL)
    g_ptr_array_add (argv, g_strdup_printf ("--log-file=%s/report.%%p", folder));
  g_ptr_array_add (argv, launcher_test_get_program ("launcher-worker"));
  g_ptr_array_add (argv, NULL);

  launcher = q_task_launcher_new ((const char *const *) argv->pdata);
  q_task_launcher_set_max_processes (launcher, 2);

  return launcher;
}

/* Takes the steps. */
QTaskLauncher *
launcher_new_fake_v (GPtrArray *steps)
{
  QTaskLauncher *launcher;

  g_ptr_array_insert (steps, 0, launcher_test_get_program ("launcher-fake"));
  g_ptr_array_add (steps, NULL);
  launcher = q_task_launcher_new ((const char *const *) steps->pdata);
  q_task_launcher_set_max_processes (launcher, 1);
  q_task_launcher_set_kill_timeout (launcher, 20 * G_TIME_SPAN_MILLISECOND);
  g_ptr_array_unref (steps);

  return launcher;
}

QTaskLauncher *
launcher_new_fake (const char *step,
                   ...)
{
  GPtrArray *steps = g_ptr_array_new_with_free_func (g_free);
  va_list list;

  va_start (list, step);
  for (; step != NULL; step = va_arg (list, const char *))
    g_ptr_array_add (steps, g_strdup (step));
  va_end (list);

  return launcher_new_fake_v (steps);
}

GVariant *
launcher_request (const char *what,
                  GVariant *with)
{
  return g_variant_new ("(sv)", what, with != NULL ? with : g_variant_new_tuple (NULL, 0));
}

/* Answers */

static void
answered_cb (QTask *task,
             gpointer data)
{
  Answer *answer = data;

  g_assert_true (task == answer->task);
  g_assert_cmpint (g_atomic_int_get (&answer->called), ==, 0);
  answer->thread = g_thread_self ();
  answer->serial = test_next_serial ();
  answer->result = q_task_propagate_variant (task, &answer->error);
  g_assert_true (answer->result == NULL || answer->error == NULL);
  g_atomic_int_inc (&answer->called);
}

static void
answer_data_freed (gpointer data)
{
  test_fate_notify (&((Answer *) data)->fate);
}

QTask *
answer_prepare (Answer *answer)
{
  answer->task = q_task_new (NULL, answered_cb, answer, answer_data_freed);

  return answer->task;
}

void
answer_run (Answer *answer,
            QTaskLauncher *launcher,
            const char *what,
            GVariant *with)
{
  q_task_run_in_process (answer->task, launcher, launcher_request (what, with));
}

void
answer_start (Answer *answer,
              QTaskLauncher *launcher,
              const char *what,
              GVariant *with)
{
  answer_prepare (answer);
  answer_run (answer, launcher, what, with);
}

void
answer_wait (Answer *answer)
{
  test_run_until (NULL, g_atomic_int_get (&answer->called));
}

void
answer_wait_running (Answer *answer)
{
  test_run_until (NULL, q_task_get_progress (answer->task) > 0);
}

void
answer_clear (Answer *answer)
{
  TestFate gone = TEST_FATE_INIT;

  if (answer->task != NULL)
    {
      test_fate_watch (&gone, answer->task);
      g_object_unref (answer->task);
      test_run_until (NULL, test_fate_get_count (&gone) == 1);
      g_assert_cmpint (test_fate_get_count (&answer->fate), ==, 1);
    }

  g_clear_pointer (&answer->result, g_variant_unref);
  g_clear_error (&answer->error);
  *answer = (Answer) ANSWER_INIT;
}

GVariant *
launcher_call (QTaskLauncher *launcher,
               const char *what,
               GVariant *with)
{
  Answer answer = ANSWER_INIT;
  GVariant *result;

  answer_start (&answer, launcher, what, with);
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  result = g_steal_pointer (&answer.result);
  answer_clear (&answer);

  return result;
}

int
launcher_call_pid (QTaskLauncher *launcher)
{
  g_autoptr (GVariant) pid = launcher_call (launcher, "pid", NULL);

  return g_variant_get_int32 (pid);
}

GError *
launcher_call_error (QTaskLauncher *launcher,
                     const char *what,
                     GVariant *with)
{
  Answer answer = ANSWER_INIT;
  GError *error;

  answer_start (&answer, launcher, what, with);
  answer_wait (&answer);
  g_assert_null (answer.result);
  g_assert_nonnull (answer.error);
  error = g_steal_pointer (&answer.error);
  answer_clear (&answer);

  return error;
}

/* Frames */

char *
fake_bytes (gconstpointer data,
            gsize size)
{
  GString *hex = g_string_new (NULL);

  for (gsize i = 0; i < size; i++)
    g_string_append_printf (hex, "%02x", ((const guint8 *) data)[i]);

  return g_string_free (hex, FALSE);
}

char *
fake_frame (guint8 type,
            gconstpointer data,
            gsize size)
{
  guint8 header[Q_TASK_WIRE_HEADER_SIZE] = { size, size >> 8, size >> 16, size >> 24, type };
  g_autofree char *head = fake_bytes (header, sizeof header);
  g_autofree char *payload = fake_bytes (data, size);

  return g_strconcat (head, payload, NULL);
}

static char *
fake_payload (guint8 type,
              GByteArray *payload)
{
  char *hex = fake_frame (type, payload->data, payload->len);

  g_byte_array_unref (payload);

  return hex;
}

char *
fake_hello (void)
{
  GByteArray *payload = g_byte_array_new ();

  q_task_protocol_put_hello (payload, 64 * 1024 * 1024);

  return fake_payload (Q_TASK_FRAME_HELLO, payload);
}

/* @text: of a variant; NULL for none */
char *
fake_result (const char *text)
{
  GByteArray *payload = g_byte_array_new ();
  g_autoptr (GVariant) result = NULL;

  if (text != NULL)
    {
      result = g_variant_parse (NULL, text, NULL, NULL, NULL);
      g_assert_nonnull (result);
    }
  q_task_protocol_put_result (payload, result);
  if (result != NULL)
    g_byte_array_append (payload, g_variant_get_data (result), (guint) g_variant_get_size (result));

  return fake_payload (Q_TASK_FRAME_RESULT, payload);
}

char *
fake_error (GQuark domain,
            int code,
            const char *message)
{
  GByteArray *payload = g_byte_array_new ();
  g_autoptr (GError) error = g_error_new_literal (domain, code, message);

  q_task_protocol_put_error (payload, error);

  return fake_payload (Q_TASK_FRAME_ERROR, payload);
}

char *
fake_progress (double fraction,
               const char *text)
{
  GByteArray *payload = g_byte_array_new ();

  q_task_protocol_put_progress (payload, fraction, text);

  return fake_payload (Q_TASK_FRAME_PROGRESS, payload);
}
