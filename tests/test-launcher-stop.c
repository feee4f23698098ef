/* test-launcher-stop.c: how tasks in worker processes are stopped and waited for, and how the
 * processes end
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-launcher-util.h"

/* What is late by more than this was not on time. The machine may be busy. */
#define LATE (3 * G_TIME_SPAN_SECOND)

static gint64
since (gint64 start)
{
  return g_get_monotonic_time () - start;
}

/* Before the start */

static void
test_cancel_before_start (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;

  q_task_cancel (answer_prepare (&answer));
  answer_run (&answer, launcher, "nothing", NULL);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (q_task_poll (answer.task), ==, Q_TASK_STATE_STOPPED);
  g_assert_cmpuint (count_children (), ==, 0);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_given_cancellable_before_start (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  QTaskLauncher *launcher = launcher_new ();
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new_async (NULL, cancellable, test_report_async_cb, &report);

  g_cancellable_cancel (cancellable);
  q_task_set_run_cancelled (task, FALSE);
  q_task_run_in_process (task, launcher, launcher_request ("nothing", NULL));
  test_run_until (NULL, test_report_is_called (&report));
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (count_children (), ==, 0);
  test_report_clear (&report);
  test_finish (task);
  g_assert_finalize_object (launcher);
}

static void
test_cancel_queued (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer busy = ANSWER_INIT;
  Answer queued[20];
  g_autoptr (GVariant) count = NULL;

  q_task_launcher_set_max_processes (launcher, 1);
  answer_start (&busy, launcher, "finish-when-asked", NULL);
  answer_wait_running (&busy);

  for (int i = 0; i < 20; i++)
    {
      queued[i] = (Answer) ANSWER_INIT;
      answer_start (&queued[i], launcher, "nothing", NULL);
    }
  for (int i = 19; i >= 0; i--)
    {
      q_task_cancel (queued[i].task);
      g_assert_cmpint (q_task_poll (queued[i].task), ==, Q_TASK_STATE_STOPPED);
    }
  for (int i = 0; i < 20; i++)
    {
      answer_wait (&queued[i]);
      g_assert_error (queued[i].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      answer_clear (&queued[i]);
    }

  g_assert_cmpuint (count_children (), ==, 1);
  q_task_cancel (busy.task);
  answer_wait (&busy);
  answer_clear (&busy);

  /* It has served that one, and this one. */
  count = launcher_call (launcher, "count", NULL);
  assert_variant (count, "uint32 2");
  g_assert_finalize_object (launcher);
}

/* While it runs */

static void
test_cancel_running (gconstpointer what)
{
  QTaskLauncher *launcher = launcher_new ();
  int pid;

  q_task_launcher_set_kill_timeout (launcher, -1);
  pid = launcher_call_pid (launcher);

  for (int i = 0; i < 10; i++)
    {
      Answer answer = ANSWER_INIT;

      answer_start (&answer, launcher, what, NULL);
      if (i % 2 == 0)
        answer_wait_running (&answer);
      q_task_cancel (answer.task);
      answer_wait (&answer);
      g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpint (q_task_poll (answer.task), ==, Q_TASK_STATE_STOPPED);
      answer_clear (&answer);
    }

  /* It has done as it was told, and lives. */
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

static void
test_result_after_cancel (void)
{
  QTaskLauncher *launcher = launcher_new ();

  for (int check = 0; check < 2; check++)
    {
      Answer answer = ANSWER_INIT;

      q_task_set_check_cancellable (answer_prepare (&answer), check);
      answer_run (&answer, launcher, "finish-when-asked", NULL);
      answer_wait_running (&answer);
      q_task_cancel (answer.task);
      answer_wait (&answer);
      if (check)
        {
          g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
        }
      else
        {
          g_assert_no_error (answer.error);
          assert_variant (answer.result, "'done'");
        }
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

static void
test_kill (gconstpointer is_frozen)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  int pid = launcher_call_pid (launcher);
  gint64 start;

  q_task_launcher_set_kill_timeout (launcher, 50 * G_TIME_SPAN_MILLISECOND);
  answer_start (&answer, launcher, "ignore", NULL);
  answer_wait_running (&answer);
  if (is_frozen)
    kill (pid, SIGSTOP);
  start = g_get_monotonic_time ();
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_cmpint (since (start), >=, 50 * G_TIME_SPAN_MILLISECOND);
  g_assert_cmpint (since (start), <, 50 * G_TIME_SPAN_MILLISECOND + LATE);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);

  g_assert_cmpint (launcher_call_pid (launcher), >, 0);
  g_assert_finalize_object (launcher);
}

static void
test_return_on_cancel (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  int first = launcher_call_pid (launcher);
  int pid;

  /* It comes now, though the process goes on. */
  q_task_launcher_set_kill_timeout (launcher, -1);
  q_task_set_return_on_cancel (answer_prepare (&answer), TRUE);
  answer_run (&answer, launcher, "ignore", NULL);
  answer_wait_running (&answer);
  q_task_cancel (answer.task);
  answer_wait (&answer);
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (count_running_children (), ==, 1);

  /* Others have their processes meanwhile; and it would stay for ever. */
  pid = launcher_call_pid (launcher);
  g_assert_cmpint (pid, !=, first);
  kill (first, SIGKILL);
  answer_clear (&answer);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

static void
test_timeout (void)
{
  QTaskLauncher *launcher = launcher_new ();
  const char *kinds[] = { "sleep", "ignore", "finish-when-asked" };

  q_task_launcher_set_kill_timeout (launcher, 50 * G_TIME_SPAN_MILLISECOND);

  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    {
      Answer answer = ANSWER_INIT;
      gint64 start = g_get_monotonic_time ();

      q_task_set_timeout (answer_prepare (&answer), 50 * G_TIME_SPAN_MILLISECOND);
      answer_run (&answer, launcher, kinds[i], NULL);
      answer_wait (&answer);
      g_assert_cmpint (since (start), >=, 50 * G_TIME_SPAN_MILLISECOND);
      g_assert_cmpint (since (start), <, 100 * G_TIME_SPAN_MILLISECOND + LATE);
      g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

/* Of one that waits for a process */
static void
test_timeout_queued (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer busy = ANSWER_INIT;
  Answer queued = ANSWER_INIT;

  q_task_launcher_set_max_processes (launcher, 1);
  answer_start (&busy, launcher, "sleep", NULL);
  answer_wait_running (&busy);
  q_task_set_timeout (answer_prepare (&queued), 10 * G_TIME_SPAN_MILLISECOND);
  answer_run (&queued, launcher, "nothing", NULL);
  answer_wait (&queued);
  g_assert_error (queued.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  q_task_cancel (busy.task);
  answer_wait (&busy);
  answer_clear (&busy);
  answer_clear (&queued);
  g_assert_finalize_object (launcher);
}

static void
cancel_others (QTask *task,
               gpointer data)
{
  Answer *answers = data;

  /* Some may be over. */
  for (int i = 0; i < 4; i++)
    if (answers[i].task != NULL)
      q_task_cancel (answers[i].task);
}

static void
cancelled_cb (GCancellable *cancellable,
              gpointer data)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  /* No lock is held: the launcher can be used. */
  q_task_run_in_process (task, data, launcher_request ("nothing", NULL));
  g_object_unref (task);
}

static void
test_cancel_anywhere (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answers[4];
  QTask *trigger = q_task_new (NULL, cancel_others, answers, NULL);

  for (int i = 0; i < 4; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launcher, "sleep", NULL);
      g_cancellable_connect (q_task_get_stop_cancellable (answers[i].task), G_CALLBACK (cancelled_cb), launcher,
                             NULL);
    }

  q_task_set_priority (trigger, -1);
  q_task_run_in_process (trigger, launcher, launcher_request ("nothing", NULL));
  answer_wait_running (&answers[0]);
  q_task_cancel (answers[0].task);

  for (int i = 0; i < 4; i++)
    {
      answer_wait (&answers[i]);
      g_assert_error (answers[i].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      answer_clear (&answers[i]);
    }
  test_finish (trigger);
  test_finalize_soon (launcher);
}

static void
test_bound_object (void)
{
  QTaskLauncher *launcher = launcher_new ();
  TestFate fate = TEST_FATE_INIT;
  GObject *object = test_probe_new (NULL);
  Answer answer = ANSWER_INIT;
  int pid = launcher_call_pid (launcher);

  q_task_bind_object (answer_prepare (&answer), object, Q_TASK_BIND_DEFAULT);
  answer_run (&answer, launcher, "sleep", NULL);
  answer_wait_running (&answer);
  g_object_unref (object);
  test_fate_watch (&fate, answer.task);
  g_object_unref (answer.task);
  test_run_until (NULL, test_fate_get_count (&fate) == 1);
  g_assert_cmpint (answer.called, ==, 0);
  g_assert_cmpint (test_fate_get_count (&answer.fate), ==, 1);
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  g_assert_finalize_object (launcher);
}

/* Waiting */

static void
test_wait (void)
{
  QTaskLauncher *launcher = launcher_new ();

  for (int i = 0; i < 20; i++)
    {
      Answer answer = ANSWER_INIT;
      g_autoptr (GError) error = NULL;

      answer_start (&answer, launcher, "echo", g_variant_new_int32 (i));
      g_assert_true (q_task_wait (answer.task, NULL, &error));
      g_assert_no_error (error);
      g_assert_cmpint (answer.called, ==, 1);
      g_assert_true (answer.thread == g_thread_self ());
      g_assert_cmpint (g_variant_get_int32 (answer.result), ==, i);
      answer_clear (&answer);
    }

  g_assert_finalize_object (launcher);
}

/* It waits for one that is behind others, of which nobody iterates for. */
static void
test_wait_for_last (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answers[10];

  for (int i = 0; i < 10; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      answer_start (&answers[i], launcher, "spin", g_variant_new_uint64 (2000));
    }
  g_assert_true (q_task_wait (answers[9].task, NULL, NULL));
  g_assert_cmpint (answers[9].called, ==, 1);

  for (int i = 0; i < 10; i++)
    {
      answer_wait (&answers[i]);
      g_assert_no_error (answers[i].error);
      answer_clear (&answers[i]);
    }
  g_assert_finalize_object (launcher);
}

static void
test_wait_until (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  g_autoptr (GError) error = NULL;

  answer_start (&answer, launcher, "sleep", NULL);
  g_assert_false (q_task_wait_until (answer.task, g_get_monotonic_time () + 5000, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  q_task_cancel (answer.task);
  g_assert_true (q_task_wait (answer.task, NULL, NULL));
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

static void
test_wait_for_a_crash (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;

  answer_start (&answer, launcher, "crash", g_variant_new_int32 (SIGKILL));
  g_assert_true (q_task_wait (answer.task, NULL, NULL));
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED);
  answer_clear (&answer);

  q_task_launcher_set_kill_timeout (launcher, 1000);
  answer_start (&answer, launcher, "ignore", NULL);
  test_poll_until (q_task_poll (answer.task) == Q_TASK_STATE_RUNNING);
  q_task_cancel (answer.task);
  g_assert_true (q_task_wait (answer.task, NULL, NULL));
  g_assert_error (answer.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* A task of a thread with a context that nobody ever iterates but by waiting; and others wait for
 * that of the main thread. */
static void
wait_in_thread (gpointer data,
                gpointer unused)
{
  QTaskLauncher *launcher = data;
  g_autoptr (GMainContext) context = g_main_context_new ();

  g_main_context_push_thread_default (context);
  for (int i = 0; i < 10; i++)
    {
      Answer answer = ANSWER_INIT;

      answer_start (&answer, launcher, "echo", g_variant_new_int32 (i));
      g_assert_true (q_task_wait (answer.task, NULL, NULL));
      g_assert_cmpint (answer.called, ==, 1);
      g_assert_cmpint (g_variant_get_int32 (answer.result), ==, i);
      g_assert_finalize_object (answer.task);
      g_variant_unref (answer.result);
    }
  g_main_context_pop_thread_default (context);
}

static void
test_wait_in_thread (void)
{
  QTaskLauncher *launcher = launcher_new ();

  test_in_thread (wait_in_thread, launcher);
  test_finalize_soon (launcher);
}

/* In a callback: who blocks there reads no answers, and that is seen at once, not when time has
 * passed. */
typedef struct
{
  QTaskLauncher *launcher;
  int n_late;
  int n_rounds;
} WaitInside;

#define N_WAITS 40

static gboolean
wait_inside_cb (gpointer data)
{
  WaitInside *self = data;

  self->n_late = 0;
  for (int i = 0; i < N_WAITS; i++)
    {
      g_autoptr (QTaskGroup) group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      Answer answer = ANSWER_INIT;
      gint64 start;

      g_assert_true (q_task_group_add (group, answer_prepare (&answer), NULL));
      start = g_get_monotonic_time ();
      answer_run (&answer, self->launcher, "echo", g_variant_new_int32 (i));
      g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, NULL));
      self->n_late += g_get_monotonic_time () - start > 4500 ? 1 : 0;
      g_assert_cmpint (answer.called, ==, 1);
      answer_clear (&answer);
    }

  /* The processors may be busy with something else for a while. */
  if (self->n_late >= N_WAITS / 2 && ++self->n_rounds < 5)
    return G_SOURCE_CONTINUE;

  self->launcher = NULL;

  return G_SOURCE_REMOVE;
}

static void
test_wait_for_group_inside (void)
{
  QTaskLauncher *launcher = launcher_new ();
  WaitInside self = { launcher, 0, 0 };

  g_idle_add (wait_inside_cb, &self);
  test_run_until (NULL, self.launcher == NULL);
  if (!test_is_slow ())
    g_assert_cmpint (self.n_late, <, N_WAITS / 2);
  test_finalize_soon (launcher);
}

static gpointer
foreign_wait (gpointer task)
{
  g_assert_true (q_task_wait (task, NULL, NULL));

  return NULL;
}

static void
test_wait_from_other_thread (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;
  GThread *thread;

  answer_start (&answer, launcher, "spin", g_variant_new_uint64 (10000));
  thread = g_thread_new ("waits", foreign_wait, answer.task);
  /* The owner does not iterate. */
  g_thread_join (thread);
  g_assert_cmpint (answer.called, ==, 0);
  answer_wait (&answer);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* An owner that neither waits nor iterates: the process is free for others all the same. */
static void
test_idle_owner_holds_nobody_up (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer answer = ANSWER_INIT;

  q_task_launcher_set_max_processes (launcher, 1);
  g_assert_cmpint (launcher_call_pid (launcher), >, 0);
  answer_start (&answer, launcher, "nothing", NULL);
  test_in_thread (wait_in_thread, launcher);
  g_assert_cmpint (answer.called, ==, 0);
  answer_wait (&answer);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* Owners in several threads */

#define N_OWNERS 4

typedef struct
{
  QTaskLauncher *launcher;
  int n;
  int n_done;
} Owner;

static void
owner_start_next (Owner *owner);

static void
owner_cb (GObject *source,
          GAsyncResult *result,
          gpointer data)
{
  Owner *owner = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) value = q_task_launcher_run_finish (owner->launcher, result, &error);

  g_assert_no_error (error);
  g_assert_cmpint (g_variant_get_int32 (value), ==, owner->n);
  if (--owner->n > 0)
    owner_start_next (owner);
}

static void
owner_start_next (Owner *owner)
{
  q_task_launcher_run_async (owner->launcher, launcher_request ("echo", g_variant_new_int32 (owner->n)), NULL,
                             owner_cb, owner);
}

static gpointer
owner_thread (gpointer data)
{
  Owner *owner = data;
  g_autoptr (GMainContext) context = g_main_context_new ();

  g_main_context_push_thread_default (context);
  owner_start_next (owner);
  test_run_until (context, owner->n == 0);
  g_main_context_pop_thread_default (context);

  return NULL;
}

static void
test_many_owners (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Owner owners[N_OWNERS];
  GThread *threads[N_OWNERS];

  for (int i = 0; i < N_OWNERS; i++)
    {
      owners[i] = (Owner){ launcher, test_scaled (1000), 0 };
      threads[i] = g_thread_new ("owner", owner_thread, &owners[i]);
    }
  for (int i = 0; i < N_OWNERS; i++)
    g_thread_join (threads[i]);

  g_assert_cmpuint (count_children (), <=, 2);
  test_finalize_soon (launcher);
}

/* Launchers and contexts that go */

static void
test_dropped_while_busy (void)
{
  QTaskLauncher *launcher = launcher_new ();
  Answer running = ANSWER_INIT;
  Answer queued[5];

  q_task_launcher_set_max_processes (launcher, 1);
  answer_start (&running, launcher, "finish-when-asked", NULL);
  q_task_set_check_cancellable (running.task, FALSE);
  answer_wait_running (&running);
  for (int i = 0; i < 5; i++)
    {
      queued[i] = (Answer) ANSWER_INIT;
      answer_start (&queued[i], launcher, "echo", g_variant_new_int32 (i));
    }
  g_assert_finalize_object (launcher);

  q_task_cancel (running.task);
  answer_wait (&running);
  g_assert_no_error (running.error);
  answer_clear (&running);
  for (int i = 0; i < 5; i++)
    {
      answer_wait (&queued[i]);
      g_assert_no_error (queued[i].error);
      g_assert_cmpint (g_variant_get_int32 (queued[i].result), ==, i);
      answer_clear (&queued[i]);
    }
}

static void
drop_cb (GObject *source,
         GAsyncResult *result,
         gpointer data)
{
  g_autoptr (GVariant) value = q_task_launcher_run_finish (Q_TASK_LAUNCHER (source), result, NULL);

  g_assert_nonnull (value);
  g_object_unref (source);
  *(gboolean *) data = TRUE;
}

static void
drop_in_thread (gpointer data,
                gpointer unused)
{
  g_object_unref (data);
}

static void
test_dropped_anywhere (void)
{
  QTaskLauncher *launcher = launcher_new ();
  gboolean done = FALSE;
  Answer answer = ANSWER_INIT;

  q_task_launcher_run_async (launcher, launcher_request ("pid", NULL), NULL, drop_cb, &done);
  test_run_until (NULL, done);

  launcher = launcher_new ();
  answer_start (&answer, launcher, "pid", NULL);
  test_in_thread (drop_in_thread, launcher);
  answer_wait (&answer);
  g_assert_no_error (answer.error);
  answer_clear (&answer);

  /* Idle, and never used */
  launcher = launcher_new ();
  g_assert_cmpint (launcher_call_pid (launcher), >, 0);
  test_in_thread (drop_in_thread, launcher);
  test_in_thread (drop_in_thread, launcher_new ());
}

/* One that was dropped, and whose worker does not end, is waited for by nobody. */
static void
test_dropped_while_process_lingers (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *result = fake_result ("'done'");
  QTaskLauncher *launcher = launcher_new_fake (hello, "request", result, "deaf", NULL);
  g_autoptr (GVariant) value = launcher_call (launcher, "", NULL);

  assert_variant (value, "'done'");
  g_assert_finalize_object (launcher);
}

static void
test_context_lost (void)
{
  QTaskLauncher *launcher = launcher_new ();
  int pid = launcher_call_pid (launcher);
  TestContext context;
  Answer running = ANSWER_INIT;
  Answer queued = ANSWER_INIT;

  q_task_launcher_set_max_processes (launcher, 1);
  test_context_begin (&context);
  answer_start (&running, launcher, "sleep", NULL);
  answer_start (&queued, launcher, "sleep", NULL);
  test_run_until (context.context, q_task_get_progress (running.task) > 0);
  test_context_end (&context);

  test_poll_until (q_task_poll (running.task) == Q_TASK_STATE_STOPPED);
  g_assert_cmpint (q_task_poll (queued.task), ==, Q_TASK_STATE_STOPPED);
  test_poll_until (test_fate_get_count (&running.fate) == 1 && test_fate_get_count (&queued.fate) == 1);
  g_assert_cmpint (running.called, ==, 0);
  g_assert_cmpint (queued.called, ==, 0);
  g_object_unref (running.task);
  g_object_unref (queued.task);

  /* It was asked, and lives. */
  g_assert_cmpint (launcher_call_pid (launcher), ==, pid);
  test_finalize_soon (launcher);
}

/* The same while an answer is on its way to a source of that context */
static void
test_context_lost_with_answers (void)
{
  QTaskLauncher *launcher = launcher_new ();

  for (int i = 0; i < test_scaled (200); i++)
    {
      TestContext context;
      Answer answer = ANSWER_INIT;

      test_context_begin (&context);
      answer_start (&answer, launcher, "nothing", NULL);
      if (i % 3 == 0)
        g_usleep (100);
      if (i % 3 == 1)
        g_main_context_iteration (context.context, FALSE);
      test_context_end (&context);
      test_poll_until (test_fate_get_count (&answer.fate) == 1);
      g_object_unref (answer.task);
    }

  g_assert_cmpint (launcher_call_pid (launcher), >, 0);
  test_finalize_soon (launcher);
}

/* The parent leaves */

static void
print_pid (QTaskLauncher *launcher,
           const char *what)
{
  Answer answer = ANSWER_INIT;

  printf ("pid %d\n", launcher_call_pid (launcher));
  if (what == NULL)
    return;

  answer_start (&answer, launcher, what, NULL);
  answer_wait_running (&answer);
}

static void
test_parent_leaves (gconstpointer data)
{
  const char *how = data;
  g_autofree char *path = launcher_test_get_program ("test-launcher-stop");
  const char *argv[] = { path, "--leave", how, NULL };
  g_autofree char *output = NULL;
  g_autoptr (GError) error = NULL;
  g_auto (GStrv) lines = NULL;
  int n_pids = 0;
  int status;

  /* What it leaves behind comes to this process. */
  g_assert_cmpint (prctl (PR_SET_CHILD_SUBREAPER, 1), ==, 0);
  g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, NULL, &status, &error);
  g_assert_no_error (error);
  g_assert_true (g_str_equal (how, "killed") ? WIFSIGNALED (status) : status == 0);

  lines = g_strsplit (output, "\n", -1);
  for (int i = 0; lines[i] != NULL; i++)
    {
      int pid;

      if (sscanf (lines[i], "pid %d", &pid) != 1)
        continue;
      n_pids++;
      test_poll_until (waitpid (pid, &status, WNOHANG) != 0);
      g_assert_true (process_is_gone (pid));
      g_assert_true (WIFEXITED (status));
    }
  g_assert_cmpint (n_pids, ==, g_str_equal (how, "killed") ? 4 : 3);
  prctl (PR_SET_CHILD_SUBREAPER, 0);
}

/* That parent */
static int
leave (const char *how)
{
  const char *kinds[] = { NULL, "sleep", "look", "ignore" };

  /* One takes some seconds: the time that it is given. */
  for (guint i = 0; i < (g_str_equal (how, "killed") ? 4 : 3); i++)
    {
      QTaskLauncher *launcher = launcher_new ();

      q_task_launcher_set_max_processes (launcher, 1);
      if (i % 2 == 1)
        q_task_launcher_set_transport (launcher, Q_TASK_TRANSPORT_STDIO);
      print_pid (launcher, kinds[i]);
    }

  fflush (stdout);
  launcher_test_remove_folder ();
  if (g_str_equal (how, "killed"))
    kill (getpid (), SIGKILL);
  _exit (0);
}

/* The sources of that name in the default context */
static guint
count_sources (const char *name)
{
  g_autoptr (GSource) last = g_timeout_source_new (0);
  guint last_id = g_source_attach (last, NULL);
  guint n = 0;

  for (guint id = 1; id < last_id; id++)
    {
      GSource *source = g_main_context_find_source_by_id (NULL, id);

      if (source != NULL && g_strcmp0 (g_source_get_name (source), name) == 0)
        n++;
    }
  g_source_destroy (last);

  return n;
}

static gboolean
run_many_cb (gpointer launcher)
{
  for (int i = 0; i < 100; i++)
    {
      Answer answer = ANSWER_INIT;

      answer_start (&answer, launcher, "nothing", NULL);
      g_assert_true (q_task_wait (answer.task, NULL, NULL));
      g_assert_no_error (answer.error);
      answer_clear (&answer);
    }
  g_assert_cmpuint (count_sources ("[qtask] worker process"), <=, 2);
  g_object_unref (launcher);

  return G_SOURCE_REMOVE;
}

/* A context that is not iterated, since its owner waits in a callback, does not fill with sources. */
static void
test_many_in_one_callback (void)
{
  QTaskLauncher *launcher = launcher_new ();

  launcher_call_pid (launcher);
  g_idle_add (run_many_cb, g_object_ref (launcher));
  test_run_pending (NULL);
  g_assert_finalize_object (launcher);
}

/* A forked child */

typedef struct
{
  QTaskLauncher *launcher;
  Answer answer;
  int child;
} Forked;

/* The child looks while the answer comes, and before its parent does. */
static gboolean
start_and_fork_cb (gpointer data)
{
  Forked *forked = data;
  gint64 end_time;

  answer_start (&forked->answer, forked->launcher, "", NULL);

  forked->child = fork ();
  if (forked->child == 0)
    {
      end_time = g_get_monotonic_time () + 10 * G_TIME_SPAN_MILLISECOND;
      while (g_get_monotonic_time () < end_time)
        g_main_context_iteration (NULL, FALSE);
      _exit (0);
    }

  g_assert_cmpint (forked->child, >, 0);
  g_usleep (10 * G_TIME_SPAN_MILLISECOND);

  return G_SOURCE_REMOVE;
}

/* What is read there is not there for its parent. */
static void
test_forked_child_reads_nothing (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *result = fake_result ("1");

  if (test_is_slow ())
    {
      g_test_skip ("A forked child has lost what its parent's threads held");
      return;
    }

  for (int i = 0; i < 10; i++)
    {
      Forked forked = { NULL, ANSWER_INIT, 0 };
      int status;

      forked.launcher = launcher_new_fake (hello, "request", result, "request", "usleep=2000", result, "eof", NULL);
      g_variant_unref (launcher_call (forked.launcher, "", NULL));
      test_poll_until (count_running_children () == 1);
      g_idle_add (start_and_fork_cb, &forked);
      test_run_until (NULL, forked.child != 0);
      answer_wait (&forked.answer);
      g_assert_no_error (forked.answer.error);
      g_assert_cmpint (waitpid (forked.child, &status, 0), ==, forked.child);
      g_assert_cmpint (status, ==, 0);
      answer_clear (&forked.answer);
      g_assert_finalize_object (forked.launcher);
    }
}

int
main (int argc,
      char **argv)
{
  const char *how = argc == 3 && g_str_equal (argv[1], "--leave") ? argv[2] : NULL;

  /* What is left behind outlives its reports. */
  if (how != NULL)
    {
      argc = 1;
      g_unsetenv ("LAUNCHER_TEST_WRAPPER");
    }

  launcher_test_init (&argc, &argv);
  if (how != NULL)
    return leave (how);

  launcher_test_add ("/launcher/cancel/before-start-starts-no-process", test_cancel_before_start);
  launcher_test_add ("/launcher/cancel/given-cancellable-before-start", test_given_cancellable_before_start);
  launcher_test_add ("/launcher/cancel/queued-starts-nowhere", test_cancel_queued);
  launcher_test_add_data ("/launcher/cancel/running-is-told", "sleep", test_cancel_running);
  launcher_test_add_data ("/launcher/cancel/running-sees-it", "look", test_cancel_running);
  launcher_test_add ("/launcher/cancel/result-that-came-nevertheless", test_result_after_cancel);
  launcher_test_add_data ("/launcher/cancel/ignored-is-killed", GINT_TO_POINTER (FALSE), test_kill);
  launcher_test_add_data ("/launcher/cancel/frozen-is-killed", GINT_TO_POINTER (TRUE), test_kill);
  launcher_test_add ("/launcher/cancel/returns-at-once", test_return_on_cancel);
  launcher_test_add ("/launcher/cancel/anywhere", test_cancel_anywhere);
  launcher_test_add ("/launcher/timeout/running", test_timeout);
  launcher_test_add ("/launcher/timeout/queued", test_timeout_queued);
  launcher_test_add ("/launcher/bound-object-goes", test_bound_object);
  launcher_test_add ("/launcher/wait/runs-the-callback", test_wait);
  launcher_test_add ("/launcher/wait/for-the-last-of-many", test_wait_for_last);
  launcher_test_add ("/launcher/wait/until", test_wait_until);
  launcher_test_add ("/launcher/wait/for-one-that-crashes", test_wait_for_a_crash);
  launcher_test_add ("/launcher/wait/in-a-thread", test_wait_in_thread);
  launcher_test_add ("/launcher/wait/for-a-group-in-a-callback", test_wait_for_group_inside);
  launcher_test_add ("/launcher/wait/in-another-thread", test_wait_from_other_thread);
  launcher_test_add ("/launcher/owner/that-idles-holds-nobody-up", test_idle_owner_holds_nobody_up);
  launcher_test_add ("/launcher/owner/many-in-one-callback", test_many_in_one_callback);
  launcher_test_add ("/launcher/owner/many-in-several-threads", test_many_owners);
  launcher_test_add ("/launcher/dropped/while-busy", test_dropped_while_busy);
  launcher_test_add ("/launcher/dropped/anywhere", test_dropped_anywhere);
  launcher_test_add ("/launcher/dropped/while-a-process-lingers", test_dropped_while_process_lingers);
  launcher_test_add ("/launcher/context-lost", test_context_lost);
  launcher_test_add ("/launcher/context-lost/with-answers", test_context_lost_with_answers);
  launcher_test_add ("/launcher/forked-child-reads-nothing", test_forked_child_reads_nothing);
  launcher_test_add_data ("/launcher/parent/exits", "exited", test_parent_leaves);
  launcher_test_add_data ("/launcher/parent/is-killed", "killed", test_parent_leaves);

  return g_test_run ();
}
