/* test-launcher-workers.c: the workers of doc/examples, with a parent in C
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * usage: test-launcher-workers [OPTION…] NAME=COMMAND…
 */

#include <signal.h>
#include <string.h>

#include "test-launcher-util.h"

static QTaskLauncher *
new_worker (gconstpointer command)
{
  g_auto (GStrv) argv = NULL;
  g_autoptr (GError) error = NULL;
  QTaskLauncher *launcher;

  g_shell_parse_argv (command, NULL, &argv, &error);
  g_assert_no_error (error);
  launcher = q_task_launcher_new ((const char *const *) argv);
  q_task_launcher_set_max_processes (launcher, 1);

  return launcher;
}

static void
test_echo (gconstpointer command)
{
  QTaskLauncher *launcher = new_worker (command);

  for (int transport = 0; transport < 2; transport++)
    {
      g_autoptr (GVariant) value = g_variant_ref_sink (g_variant_new_parsed ("{'a': <1>, 'b': <['x', 'y']>}"));

      for (int i = 0; i < 5; i++)
        {
          g_autoptr (GVariant) result = launcher_call (launcher, "echo", value);

          g_assert_cmpvariant (result, value);
        }
      g_object_unref (launcher);
      launcher = new_worker (command);
      q_task_launcher_set_transport (launcher, Q_TASK_TRANSPORT_STDIO);
    }

  g_assert_finalize_object (launcher);
}

static void
test_progress (gconstpointer command)
{
  QTaskLauncher *launcher = new_worker (command);
  Answer answer = ANSWER_INIT;

  answer_start (&answer, launcher, "count-primes", g_variant_new_uint32 (20000));
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  assert_variant (answer.result, "uint32 2262");
  g_assert_cmpfloat (q_task_get_progress (answer.task), ==, 0.95);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

typedef struct
{
  GString *text;
  int n;
} Inbox;

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Inbox *inbox = data;

  if (message == NULL)
    return;

  g_string_append_len (inbox->text, g_bytes_get_data (message, NULL), (gssize) g_bytes_get_size (message));
  g_string_append_c (inbox->text, ' ');
  if (++inbox->n == 3)
    q_task_channel_close (channel);
}

static void
test_messages (gconstpointer command)
{
  const char *texts[] = { "one", "two", "three" };
  QTaskLauncher *launcher = new_worker (command);
  Answer answer = ANSWER_INIT;
  Inbox inbox = { g_string_new (NULL), 0 };
  QTaskChannel *channel;

  g_assert_true (q_task_open_channel (answer_prepare (&answer), NULL));
  channel = q_task_get_channel (answer.task);
  q_task_channel_set_message_func (channel, message_cb, &inbox, NULL);
  answer_run (&answer, launcher, "shout", NULL);
  for (guint i = 0; i < G_N_ELEMENTS (texts); i++)
    g_assert_true (q_task_channel_write (channel, texts[i], strlen (texts[i]), NULL, NULL));
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  assert_variant (answer.result, "uint32 3");
  g_assert_cmpstr (inbox.text->str, ==, "ONE TWO THREE ");
  g_string_free (inbox.text, TRUE);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_error (gconstpointer command)
{
  QTaskLauncher *launcher = new_worker (command);
  g_autoptr (GVariant) result = NULL;

  assert_call_fails (launcher, "dance", NULL, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "It is not known how to dance");
  result = launcher_call (launcher, "echo", g_variant_new_string ("text"));
  assert_variant (result, "'text'");
  g_assert_finalize_object (launcher);
}

static void
test_cancel (gconstpointer command)
{
  QTaskLauncher *launcher = new_worker (command);
  Answer answer = ANSWER_INIT;
  g_autoptr (GVariant) result = NULL;
  int pids[2];
  int pid;

  q_task_launcher_set_kill_timeout (launcher, -1);
  answer_start (&answer, launcher, "count-primes", g_variant_new_uint32 (2000000000));
  answer_wait_running (&answer);
  g_assert_cmpuint (list_children (pids, 2), ==, 1);
  pid = pids[0];
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);

  /* It has stopped by itself. */
  result = launcher_call (launcher, "echo", g_variant_new_string ("text"));
  assert_variant (result, "'text'");
  g_assert_cmpuint (list_children (pids, 2), ==, 1);
  g_assert_cmpint (pids[0], ==, pid);
  g_assert_finalize_object (launcher);
}

static void
test_killed (gconstpointer command)
{
  QTaskLauncher *launcher = new_worker (command);
  Answer answer = ANSWER_INIT;
  g_autoptr (GVariant) result = NULL;
  int pids[2];

  answer_start (&answer, launcher, "count-primes", g_variant_new_uint32 (2000000000));
  answer_wait_running (&answer);
  g_assert_cmpuint (list_children (pids, 2), ==, 1);
  kill (pids[0], SIGKILL);
  answer_wait (&answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  answer_clear (&answer);
  result = launcher_call (launcher, "echo", g_variant_new_string ("text"));
  assert_variant (result, "'text'");
  g_assert_finalize_object (launcher);
}

int
main (int argc,
      char **argv)
{
  const struct
  {
    const char *name;
    GTestDataFunc func;
  } tests[] = {
    { "echo", test_echo },
    { "progress-and-result", test_progress },
    { "messages", test_messages },
    { "error", test_error },
    { "cancel", test_cancel },
    { "killed", test_killed },
  };

  launcher_test_init (&argc, &argv);

  for (int i = 1; i < argc; i++)
    {
      const char *command = strchr (argv[i], '=');

      if (command == NULL)
        continue;

      for (guint j = 0; j < G_N_ELEMENTS (tests); j++)
        {
          g_autofree char *path = g_strdup_printf ("/launcher/workers/%.*s/%s", (int) (command - argv[i]), argv[i],
                                                   tests[j].name);

          launcher_test_add_data (path, command + 1, tests[j].func);
        }
    }

  return g_test_run ();
}
