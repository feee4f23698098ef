/* test-launcher-talk.c: progress and messages of tasks in worker processes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <string.h>

#include "test-launcher-util.h"

/* Progress */

typedef struct
{
  int n;
  double last;
  GThread *thread;
  Answer *answer;
} Seen;

static void
progress_cb (QTask *task,
             GParamSpec *pspec,
             gpointer data)
{
  Seen *seen = data;

  g_assert_cmpint (g_atomic_int_get (&seen->answer->called), ==, 0);
  g_assert_true (g_thread_self () == seen->thread);
  g_assert_cmpfloat (q_task_get_progress (task), >=, seen->last);
  seen->last = q_task_get_progress (task);
  seen->n++;
}

static void
test_progress (void)
{
  QTaskLauncher *launcher = launcher_new ();

  for (guint n = 1; n <= 10000; n *= 10)
    {
      Answer answer = ANSWER_INIT;
      Seen seen = { 0, 0, g_thread_self (), &answer };
      g_autofree char *text = NULL;
      g_autofree char *last = g_strdup_printf ("%u of %u", n, n);

      g_signal_connect (answer_prepare (&answer), "notify::progress", G_CALLBACK (progress_cb), &seen);
      answer_run (&answer, launcher, "progress", g_variant_new_uint32 (n));
      answer_wait (&answer);
      g_assert_no_error (answer.error);

      /* The last always arrives, and the others not all. */
      g_assert_cmpint (seen.n, >=, 1);
      g_assert_cmpfloat (seen.last, ==, 1.0);
      text = q_task_dup_progress_text (answer.task);
      g_assert_cmpstr (text, ==, last);
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

/* Before the end of the task, that is */
static void
test_progress_is_prompt (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;

  answer_start (&answer, launcher, "finish-when-asked", NULL);
  answer_wait_running (&answer);
  g_assert_cmpfloat (q_task_get_progress (answer.task), ==, 0.5);
  g_assert_cmpint (q_task_poll (answer.task), ==, Q_TASK_STATE_RUNNING);
  q_task_cancel (answer.task);
  answer_wait (&answer);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* Messages */

typedef struct
{
  guint n;
  guint n_ends;
  gsize size;
  gboolean is_numbered;
  Answer *answer;
  QTaskChannel *channel;
} Inbox;

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Inbox *inbox = data;
  gsize size;
  const guint8 *bytes;
  guint32 number;

  /* All messages come before the completion. */
  g_assert_cmpint (g_atomic_int_get (&inbox->answer->called), ==, 0);
  g_assert_cmpuint (inbox->n_ends, ==, 0);

  if (message == NULL)
    {
      inbox->n_ends++;
      return;
    }

  bytes = g_bytes_get_data (message, &size);
  if (inbox->is_numbered)
    {
      g_assert_cmpuint (size, >=, sizeof number);
      memcpy (&number, bytes, sizeof number);
      g_assert_cmpuint (number, ==, inbox->n);
    }
  inbox->n++;
  inbox->size += size;
}

static QTaskChannel *
open_channel (Answer *answer)
{
  g_autoptr (GError) error = NULL;
  gboolean opened;

  answer_prepare (answer);
  opened = q_task_open_channel (answer->task, &error);
  g_assert_no_error (error);
  g_assert_true (opened);

  return q_task_get_channel (answer->task);
}

static void
test_no_channel (void)
{
  QTaskLauncher *launcher = launcher_new ();
  g_autoptr (GVariant) without = launcher_call (launcher, "has-channel", NULL);
  Answer answer = ANSWER_INIT;

  assert_variant (without, "false");
  open_channel (&answer);
  answer_run (&answer, launcher, "has-channel", NULL);
  answer_wait (&answer);
  assert_variant (answer.result, "true");
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_messages_come_before_completion (gconstpointer data)
{
  QTaskLauncher *launcher = launcher_new ();
  const struct
  {
    guint32 n;
    guint32 size;
  } floods[] = { { 1, 4 }, { 1000, 4 }, { 100, 65536 }, { 5, 4000000 }, { 3, 20000000 } };

  q_task_launcher_set_transport (launcher, GPOINTER_TO_INT (data));

  for (guint i = 0; i < G_N_ELEMENTS (floods); i++)
    {
      Answer answer = ANSWER_INIT;
      Inbox inbox = { .is_numbered = TRUE, .answer = &answer };

      q_task_channel_set_message_func (open_channel (&answer), message_cb, &inbox, NULL);
      answer_run (&answer, launcher, "write", g_variant_new ("(uu)", floods[i].n, floods[i].size));
      answer_wait (&answer);
      g_assert_no_error (answer.error);
      g_assert_cmpuint (inbox.n, ==, floods[i].n);
      g_assert_cmpuint (inbox.size, ==, (gsize) floods[i].n * floods[i].size);
      g_assert_cmpuint (inbox.n_ends, ==, 1);
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

static void
test_messages_are_read_later (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  QTaskChannel *channel = open_channel (&answer);
  g_autoptr (GError) error = NULL;

  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", 10, 100));
  answer_wait (&answer);
  g_assert_no_error (answer.error);

  for (int i = 0; i < 10; i++)
    {
      g_autoptr (GBytes) message = q_task_channel_try_read (channel, &error);

      g_assert_no_error (error);
      g_assert_cmpuint (g_bytes_get_size (message), ==, 100);
    }
  g_assert_null (q_task_channel_try_read (channel, &error));
  g_assert_no_error (error);

  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
bound_cb (QTask *task,
          GBytes *message,
          gpointer data)
{
  Inbox *inbox = data;

  g_assert_cmpint (g_atomic_int_get (&inbox->answer->called), ==, 0);
  if (message == NULL)
    inbox->n_ends++;
  else
    inbox->n++;
}

static void
test_bound_callback (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .answer = &answer };

  q_task_bind_callback (answer_prepare (&answer), bound_cb, &inbox, NULL);
  g_assert_true (q_task_open_channel (answer.task, NULL));
  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", 100, 10));
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  g_assert_cmpuint (inbox.n, ==, 100);
  g_assert_cmpuint (inbox.n_ends, ==, 1);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* Sends one message for each that comes back. */
static void
ping_cb (QTaskChannel *channel,
         GBytes *message,
         gpointer data)
{
  Inbox *inbox = data;

  if (message == NULL)
    {
      inbox->n_ends++;
      return;
    }

  g_assert_cmpuint (g_bytes_get_size (message), ==, inbox->n + 1);
  if (++inbox->n == 50)
    q_task_channel_close (channel);
  else
    {
      g_autofree char *text = g_strnfill (inbox->n + 1, 'p');
      g_autoptr (GBytes) next = g_bytes_new (text, inbox->n + 1);

      g_assert_true (q_task_channel_try_write (channel, next, NULL));
    }
}

static void
test_messages_there_and_back (gconstpointer data)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .answer = &answer };
  g_autoptr (GBytes) first = g_bytes_new ("p", 1);
  QTaskChannel *channel = open_channel (&answer);

  q_task_launcher_set_transport (launcher, GPOINTER_TO_INT (data));
  q_task_channel_set_message_func (channel, ping_cb, &inbox, NULL);
  /* Before it runs; it waits there. */
  g_assert_true (q_task_channel_try_write (channel, first, NULL));
  answer_run (&answer, launcher, "talk", NULL);
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  assert_variant (answer.result, "uint32 50");
  g_assert_cmpuint (inbox.n, ==, 50);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
written_cb (GObject *source,
            GAsyncResult *result,
            gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_channel_write_finish (Q_TASK_CHANNEL (source), result, &error));
  g_assert_no_error (error);
  (*(guint *) data)++;
}

/* Much more than fits anywhere: each side waits for the other, and all arrives. */
static void
test_many_messages_there_and_back (gconstpointer data)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .is_numbered = TRUE, .answer = &answer };
  QTaskChannel *channel = open_channel (&answer);
  const guint n = test_scaled (2000);
  guint n_written = 0;

  q_task_launcher_set_transport (launcher, GPOINTER_TO_INT (data));
  q_task_channel_set_message_func (channel, message_cb, &inbox, NULL);
  answer_run (&answer, launcher, "talk", NULL);

  for (guint32 i = 0; i <= n; i++)
    {
      gsize size = i == n ? 0 : sizeof i + i % 40000;
      guint8 *bytes = g_malloc0 (size + 1);
      g_autoptr (GBytes) message = NULL;

      if (size > 0)
        memcpy (bytes, &i, sizeof i);
      message = g_bytes_new_take (bytes, size);
      q_task_channel_write_async (channel, message, NULL, written_cb, &n_written);
    }

  answer_wait (&answer);
  g_assert_no_error (answer.error);
  g_assert_cmpuint (g_variant_get_uint32 (answer.result), ==, n);
  g_assert_cmpuint (inbox.n, ==, n);
  test_run_until (NULL, n_written == n + 1);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* An owner that does not read holds the worker up, and memory stays as it is; then it goes on. */
static void
test_full_channel_blocks_worker (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .is_numbered = TRUE, .answer = &answer };
  QTaskChannel *channel = open_channel (&answer);
  const guint32 n = 300;
  int quiet = 0;
  guint i;

  q_task_channel_set_capacity (q_task_get_worker_channel (answer.task), 100000);
  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", n, 100000));
  /* It cannot be done, whatever the time. */
  for (i = 0; i < 30; i++)
    {
      g_main_context_iteration (NULL, FALSE);
      g_usleep (1000);
      quiet += q_task_poll (answer.task) == Q_TASK_STATE_RUNNING;
    }
  g_assert_cmpint (quiet, >, 0);
  g_assert_cmpint (answer.called, ==, 0);

  /* While one is held up, others run. */
  g_assert_cmpint (launcher_call_pid (launcher), >, 0);

  q_task_channel_set_message_func (channel, message_cb, &inbox, NULL);
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  g_assert_cmpuint (inbox.n, ==, n);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* How often the threads of that name have run, or -1 where that cannot be told. */
static int
count_switches (const char *name)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/task", 0, NULL);
  const char *id;
  int n = 0;

  while (dir != NULL && (id = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename ("/proc/self/task", id, "status", NULL);
      g_autofree char *status = NULL;
      g_autofree char *start = g_strdup_printf ("Name:\t%s\n", name);
      const char *count;

      if (!g_file_get_contents (path, &status, NULL, NULL) || !g_str_has_prefix (status, start))
        continue;

      count = strstr (status, "\nvoluntary_ctxt_switches:");
      if (count == NULL)
        return -1;
      n += atoi (strchr (count, ':') + 1);
    }

  return dir != NULL ? n : -1;
}

/* However long the owner does not read, nobody is busy with it. */
static void
test_full_channel_costs_nothing (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .is_numbered = TRUE, .answer = &answer };
  QTaskChannel *channel = open_channel (&answer);
  const guint32 n = 1000;
  g_autoptr (GBytes) first = NULL;
  gint64 end = test_end_time ();
  int before;
  int after;

  q_task_channel_set_capacity (q_task_get_worker_channel (answer.task), 1000);
  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", n, 10000));
  test_poll_until ((first = q_task_channel_try_read (channel, NULL)) != NULL);

  do
    {
      g_assert_cmpint (g_get_monotonic_time (), <, end);
      before = count_switches ("qtask-launcher");
      g_usleep (300000);
      after = count_switches ("qtask-launcher");
      g_test_message ("It has run %d times", after - before);
    }
  while (after - before > 20); /* it may not be full at once */

  inbox.n = 1;
  q_task_channel_set_message_func (channel, message_cb, &inbox, NULL);
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  g_assert_cmpuint (inbox.n, ==, n);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* A worker that does not read holds the owner up. */
static void
test_full_channel_blocks_owner (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  QTaskChannel *channel = open_channel (&answer);
  g_autoptr (GBytes) message = g_bytes_new_take (g_malloc0 (100000), 100000);
  g_autoptr (GError) error = NULL;
  gsize total = 0;
  int n_full = 0;

  q_task_channel_set_capacity (channel, 200000);
  answer_run (&answer, launcher, "finish-when-asked", NULL);
  answer_wait_running (&answer);

  /* Until it has stayed full for a while */
  while (n_full < 30)
    {
      if (q_task_channel_try_write (channel, message, &error))
        {
          total += 100000;
          n_full = 0;
          g_assert_cmpuint (total, <, 20000000);
          continue;
        }
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
      g_clear_error (&error);
      g_main_context_iteration (NULL, FALSE);
      g_usleep (1000);
      n_full++;
    }

  /* What was never read does no harm to the end of this task, nor to the next one. */
  q_task_cancel (answer.task);
  answer_wait (&answer);
  answer_clear (&answer);
  g_assert_cmpint (launcher_call_pid (launcher), ==, launcher_call_pid (launcher));
  g_assert_finalize_object (launcher);
}

static void
test_message_over_the_limit (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  QTaskChannel *channel = open_channel (&answer);
  g_autoptr (GBytes) large = g_bytes_new_take (g_malloc0 (10001), 10001);
  g_autoptr (GBytes) small = g_bytes_new_take (g_malloc0 (10000), 10000);
  g_autoptr (GError) error = NULL;

  q_task_launcher_set_max_message_size (launcher, 10000);
  answer_run (&answer, launcher, "read", g_variant_new_uint32 (1));
  test_poll_until (q_task_poll (answer.task) == Q_TASK_STATE_RUNNING);
  g_assert_false (q_task_channel_try_write (channel, large, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  g_clear_error (&error);
  g_assert_true (q_task_channel_try_write (channel, small, &error));
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  assert_variant (answer.result, "uint64 10000");
  answer_clear (&answer);

  /* The worker is told in the same way. */
  channel = open_channel (&answer);
  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", 1, 10001));
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  answer_clear (&answer);

  g_assert_finalize_object (launcher);
}

/* What the owner wrote before the start is too large for the process: nothing is lost unseen. */
static void
test_early_message_over_the_limit (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  QTaskChannel *channel = open_channel (&answer);
  g_autoptr (GBytes) large = g_bytes_new_take (g_malloc0 (10001), 10001);

  q_task_launcher_set_max_message_size (launcher, 10000);
  g_assert_true (q_task_channel_try_write (channel, large, NULL));
  q_task_channel_close (channel);
  answer_run (&answer, launcher, "read", g_variant_new_uint32 (1));
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_owner_closes (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  QTaskChannel *channel = open_channel (&answer);

  q_task_channel_write (channel, "1", 1, NULL, NULL);
  q_task_channel_write (channel, "2", 1, NULL, NULL);
  q_task_channel_close (channel);
  answer_run (&answer, launcher, "read", g_variant_new_uint32 (2));
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  assert_variant (answer.result, "uint64 2");
  answer_clear (&answer);

  /* A worker that writes to nobody goes on or hears of it, but the task ends. */
  channel = open_channel (&answer);
  q_task_channel_close (channel);
  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", 1000, 10000));
  answer_wait (&answer);
  if (answer.error != NULL)
    g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_worker_closes (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .answer = &answer };

  q_task_channel_set_message_func (open_channel (&answer), message_cb, &inbox, NULL);
  answer_run (&answer, launcher, "close", NULL);
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  g_assert_cmpuint (inbox.n, ==, 1);
  g_assert_cmpuint (inbox.n_ends, ==, 1);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* Messages of one task are never those of the next. */
static void
test_late_messages_are_dropped (void)
{
  QTaskLauncher *launcher = launcher_new ();

  q_task_launcher_set_max_processes (launcher, 1);

  for (int i = 0; i < 50; i++)
    {
      Answer first = ANSWER_INIT;
      Answer second = ANSWER_INIT;
      QTaskChannel *channel = open_channel (&first);
      QTaskChannel *next = open_channel (&second);

      answer_run (&first, launcher, "talk", NULL);
      answer_run (&second, launcher, "talk", NULL);
      q_task_channel_write (channel, "", 0, NULL, NULL);
      for (int j = 0; j < 5; j++)
        q_task_channel_write (channel, "late", 4, NULL, NULL);
      q_task_channel_write (next, "x", 1, NULL, NULL);
      q_task_channel_write (next, "", 0, NULL, NULL);

      answer_wait (&first);
      answer_wait (&second);
      g_assert_no_error (first.error);
      g_assert_no_error (second.error);
      assert_variant (first.result, "uint32 0");
      assert_variant (second.result, "uint32 1");
      answer_clear (&first);
      answer_clear (&second);
    }

  g_assert_finalize_object (launcher);
}

/* A crash does not take what was said before. */
static void
test_messages_before_a_crash (void)
{
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .answer = &answer };
  g_autofree char *hello = fake_hello ();
  g_autofree char *message = fake_frame (1, "text", 4);
  g_autofree char *progress = fake_progress (0.25, "a quarter");
  QTaskLauncher *launcher = launcher_new_fake (hello, "request", message, message, progress, message, "signal=9",
                                               NULL);

  q_task_channel_set_message_func (open_channel (&answer), message_cb, &inbox, NULL);
  answer_run (&answer, launcher, "", NULL);
  answer_wait (&answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  g_assert_cmpuint (inbox.n, ==, 3);
  g_assert_cmpuint (inbox.n_ends, ==, 1);
  g_assert_cmpfloat (q_task_get_progress (answer.task), ==, 0.25);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* What is asked of the owner while it waits: its functions are called. */
static void
test_waiting_owner_is_served (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  Inbox inbox = { .is_numbered = TRUE, .answer = &answer };
  Seen seen = { 0, 0, g_thread_self (), &answer };
  g_autoptr (GError) error = NULL;
  gboolean waited;

  q_task_channel_set_message_func (open_channel (&answer), message_cb, &inbox, NULL);
  g_signal_connect (answer.task, "notify::progress", G_CALLBACK (progress_cb), &seen);
  answer_run (&answer, launcher, "write", g_variant_new ("(uu)", 500, 100000));
  waited = q_task_wait (answer.task, NULL, &error);
  g_assert_no_error (error);
  g_assert_true (waited);
  g_assert_cmpint (answer.called, ==, 1);
  g_assert_cmpuint (inbox.n, ==, 500);
  answer_clear (&answer);

  answer_prepare (&answer);
  g_signal_connect (answer.task, "notify::progress", G_CALLBACK (progress_cb), &seen);
  answer_run (&answer, launcher, "progress", g_variant_new_uint32 (100));
  g_assert_true (q_task_wait (answer.task, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (seen.n, >=, 1);
  answer_clear (&answer);

  g_assert_finalize_object (launcher);
}

int
main (int argc,
      char **argv)
{
  launcher_test_init (&argc, &argv);

  launcher_test_add ("/launcher/progress/last-comes-before-completion", test_progress);
  launcher_test_add ("/launcher/progress/comes-while-it-runs", test_progress_is_prompt);
  launcher_test_add ("/launcher/channel/only-where-it-was-opened", test_no_channel);
  launcher_test_add_data ("/launcher/channel/messages-come-before-completion",
                          GINT_TO_POINTER (Q_TASK_TRANSPORT_INHERITED_FD), test_messages_come_before_completion);
  launcher_test_add_data ("/launcher/channel/messages-come-before-completion-stdio",
                          GINT_TO_POINTER (Q_TASK_TRANSPORT_STDIO), test_messages_come_before_completion);
  launcher_test_add ("/launcher/channel/messages-are-read-later", test_messages_are_read_later);
  launcher_test_add ("/launcher/channel/bound-callback", test_bound_callback);
  launcher_test_add_data ("/launcher/channel/there-and-back", GINT_TO_POINTER (Q_TASK_TRANSPORT_INHERITED_FD),
                          test_messages_there_and_back);
  launcher_test_add_data ("/launcher/channel/there-and-back-stdio", GINT_TO_POINTER (Q_TASK_TRANSPORT_STDIO),
                          test_messages_there_and_back);
  launcher_test_add_data ("/launcher/channel/many-there-and-back", GINT_TO_POINTER (Q_TASK_TRANSPORT_INHERITED_FD),
                          test_many_messages_there_and_back);
  launcher_test_add_data ("/launcher/channel/many-there-and-back-stdio", GINT_TO_POINTER (Q_TASK_TRANSPORT_STDIO),
                          test_many_messages_there_and_back);
  launcher_test_add ("/launcher/channel/full-blocks-the-worker", test_full_channel_blocks_worker);
  launcher_test_add ("/launcher/channel/full-costs-nothing", test_full_channel_costs_nothing);
  launcher_test_add ("/launcher/channel/full-blocks-the-owner", test_full_channel_blocks_owner);
  launcher_test_add ("/launcher/channel/message-over-the-limit", test_message_over_the_limit);
  launcher_test_add ("/launcher/channel/early-message-over-the-limit", test_early_message_over_the_limit);
  launcher_test_add ("/launcher/channel/owner-closes", test_owner_closes);
  launcher_test_add ("/launcher/channel/worker-closes", test_worker_closes);
  launcher_test_add ("/launcher/channel/late-messages-are-dropped", test_late_messages_are_dropped);
  launcher_test_add ("/launcher/channel/messages-before-a-crash-arrive", test_messages_before_a_crash);
  launcher_test_add ("/launcher/wait-serves-progress-and-messages", test_waiting_owner_is_served);

  return g_test_run ();
}
