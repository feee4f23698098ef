/* test-fork.c: forked children
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Guarantee 10: a forked child is told. It has no threads but the one that
 * forked, so whatever needs others is refused, promptly, while the parent goes on.
 *
 * A child says by its exit status what it saw; it runs nothing of GTest.
 */

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-util.h"

/* In a child: what is not so is its exit status. */
#define child_check(condition) \
  G_STMT_START \
  { \
    if (!(condition)) \
      { \
        g_printerr ("%s:%d: in the child: not so: %s\n", __FILE__, __LINE__, #condition); \
        _exit (1); \
      } \
  } \
  G_STMT_END

#define child_check_forked(error) \
  G_STMT_START \
  { \
    child_check ((error) != NULL); \
    child_check (g_error_matches ((error), Q_TASK_ERROR, Q_TASK_ERROR_FORKED)); \
    g_clear_error (&(error)); \
  } \
  G_STMT_END

/* Waits for a child, which must end well, and soon. */
static void
wait_for_child (pid_t pid)
{
  gint64 end_time = test_end_time ();
  int status;

  g_assert_cmpint (pid, >, 0);

  for (;;)
    {
      pid_t ended = waitpid (pid, &status, WNOHANG);

      g_assert_cmpint (ended, !=, -1);
      if (ended == pid)
        break;

      if (g_get_monotonic_time () > end_time)
        {
          kill (pid, SIGKILL);
          waitpid (pid, &status, 0);
          g_error ("The forked child hangs");
        }

      g_usleep (1000);
    }

  g_assert_true (WIFEXITED (status));
  g_assert_cmpint (WEXITSTATUS (status), ==, 0);
}

/* A hang is a hang of the child alone. */
static void
child_begin (void)
{
  signal (SIGALRM, SIG_DFL);
  alarm (TEST_TIME_LIMIT / 2);
}

/* Everything a child needs is made before the fork: what is promised is the answer,
 * and not that GLib works there.
 */
typedef struct
{
  QTaskPool *pool;
  TestHold hold;
  QTask *held;
  QTask *queued;
  QTask *fresh;
  QTask *completed;
  TestFate fate;
  TestReport report;
} Family;

static void
family_init (Family *family)
{
  g_autoptr (GError) error = NULL;

  family->pool = q_task_pool_new ("family", 1, 0);
  family->hold = (TestHold) TEST_HOLD_INIT;
  family->fate = (TestFate) TEST_FATE_INIT;
  family->report = (TestReport) TEST_REPORT_INIT;

  family->completed = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_result_int (family->completed, 42);
  q_task_complete (family->completed);

  family->held = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_name (family->held, "held");
  g_assert_true (q_task_pool_push (family->pool, family->held, test_hold_worker, &family->hold, NULL, &error));
  g_assert_no_error (error);
  test_gate_wait (&family->hold.entered);

  family->queued = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_pool_push (family->pool, family->queued, test_empty_worker, NULL, NULL, &error));
  g_assert_no_error (error);

  family->fresh = q_task_new (NULL, test_report_cb, &family->report, NULL);
}

/* The parent goes on as if nothing had been. */
static void
family_clear (Family *family)
{
  test_gate_open (&family->hold.release);
  test_run_until (NULL, q_task_get_completed (family->held));
  test_run_until (NULL, q_task_get_completed (family->queued));
  g_assert_finalize_object (family->held);
  g_assert_finalize_object (family->queued);

  g_assert_cmpint (family->report.called, ==, 0);
  g_assert_cmpint (q_task_poll (family->fresh), ==, Q_TASK_STATE_NEW);
  q_task_run_in_thread (family->fresh, test_empty_worker, &family->fate, test_fate_notify);
  test_run_until (NULL, family->report.called);
  g_assert_no_error (family->report.error);
  test_assert_destroyed_here (&family->fate);
  g_assert_finalize_object (family->fresh);
  g_assert_finalize_object (family->completed);

  g_assert_true (q_task_pool_close (family->pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_object_unref (family->pool);
}

/* In the child nothing is released any more. */
static void
never_destroyed (gpointer data)
{
  child_check (!"released");
}

static void
test_push_forked (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;

      child_begin ();
      child_check (!q_task_pool_push (family.pool, family.fresh, test_empty_worker,
                                      &family.fate, test_fate_notify, &error));
      child_check_forked (error);
      child_check (test_fate_get_count (&family.fate) == 0);
      child_check (q_task_poll (family.fresh) == Q_TASK_STATE_NEW);

      /* Nobody needs to be told why. */
      child_check (!q_task_pool_push (family.pool, family.fresh, test_empty_worker,
                                      &family.fate, test_fate_notify, NULL));

      /* Nor is another pool better, not even the default one. */
      child_check (!q_task_pool_push (q_task_pool_get_default (), family.fresh, test_empty_worker,
                                      &family.fate, test_fate_notify, &error));
      child_check_forked (error);
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

static void
test_wait (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      QTask *tasks[3] = { family.held, family.queued, family.fresh };
      GError *error = NULL;

      child_begin ();
      for (int i = 0; i < 3; i++)
        {
          child_check (!q_task_wait (tasks[i], NULL, &error));
          child_check_forked (error);
          child_check (!q_task_wait_until (tasks[i], G_MAXINT64, NULL, &error));
          child_check_forked (error);
          child_check (!q_task_wait (tasks[i], NULL, NULL));
        }
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

static gboolean
never_called (gsize begin G_GNUC_UNUSED,
              gsize end G_GNUC_UNUSED,
              gpointer data G_GNUC_UNUSED,
              GError **error G_GNUC_UNUSED)
{
  child_check (FALSE);
  return TRUE;
}

static void
test_group (void)
{
  Family family;
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  pid_t pid;

  family_init (&family);
  g_assert_true (q_task_group_add (group, family.held, NULL));
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;

      child_begin ();
      child_check (!q_task_group_add (group, family.fresh, &error));
      child_check_forked (error);
      for (QTaskGroupWaitMode mode = Q_TASK_GROUP_ALL; mode <= Q_TASK_GROUP_ANY; mode++)
        {
          child_check (!q_task_group_wait (group, mode, NULL, &error));
          child_check_forked (error);
        }
      q_task_group_close (group);
      child_check (!q_task_group_is_closed (group));
      q_task_group_clear_completed (group);
      q_task_group_cancel (group);
      child_check (!q_task_group_is_cancelled (group));
      child_check (!q_task_pool_parallel_for (family.pool, 10, 1, never_called, NULL, NULL, &error));
      child_check_forked (error);
      _exit (0);
    }

  wait_for_child (pid);
  g_assert_false (q_task_is_cancelled (family.held));
  test_gate_open (&family.hold.release);
  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, NULL));
  g_assert_finalize_object (group);
  family_clear (&family);
}

static void
test_run (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;

      child_begin ();
      q_task_run_in_thread (family.fresh, test_empty_worker, &family.fate, test_fate_notify);
      child_check (q_task_propagate_error (family.fresh, &error));
      child_check_forked (error);
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

static void
test_run_sync (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;

      child_begin ();
      q_task_run_in_thread_sync (family.fresh, test_empty_worker, &family.fate, test_fate_notify);
      child_check (q_task_propagate_error (family.fresh, &error));
      child_check_forked (error);
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

/* Setters do nothing, and cancelling ends; what can be read can be read. */
static void
test_setters (void)
{
  Family family;
  GMainContext *context = g_main_context_new ();
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      QTask *tasks[3] = { family.held, family.queued, family.fresh };

      child_begin ();
      child_check (q_task_propagate_int (family.completed, NULL) == 42);
      child_check (q_task_get_completed (family.completed));
      child_check (g_strcmp0 (q_task_get_name (family.held), "held") == 0);
      child_check (q_task_poll (family.completed) == Q_TASK_STATE_FINISHED);

      for (int i = 0; i < 3; i++)
        {
          q_task_set_priority (tasks[i], 17);
          child_check (q_task_get_priority (tasks[i]) == 0);
          q_task_set_completion_priority (tasks[i], 17);
          child_check (q_task_get_completion_priority (tasks[i]) == 0);
          q_task_set_progress (tasks[i], 0.5, "half");
          child_check (q_task_get_progress (tasks[i]) == 0.0);
          q_task_set_timeout (tasks[i], 1);
          child_check (q_task_get_timeout (tasks[i]) == 0);
          q_task_set_check_cancellable (tasks[i], FALSE);
          child_check (q_task_get_check_cancellable (tasks[i]));
          q_task_set_return_on_cancel (tasks[i], TRUE);
          child_check (!q_task_get_return_on_cancel (tasks[i]));
          q_task_cancel (tasks[i]);
        }

      q_task_set_name (family.fresh, "renamed");
      child_check (q_task_get_name (family.fresh) == NULL);
      q_task_set_run_cancelled (family.fresh, TRUE);
      child_check (!q_task_get_run_cancelled (family.fresh));
      q_task_set_error (family.fresh, NULL);
      q_task_set_new_error (family.fresh, G_IO_ERROR, G_IO_ERROR_FAILED, "Nobody cares");
      child_check (q_task_get_error (family.fresh) == NULL);
      q_task_set_result_pointer (family.fresh, &family, never_destroyed);
      q_task_set_result_int (family.fresh, 3);
      q_task_complete (family.fresh);
      child_check (!q_task_get_completed (family.fresh));
      q_task_set_func (family.fresh, NULL, NULL, NULL);
      child_check (g_async_result_get_user_data (G_ASYNC_RESULT (family.fresh)) == &family.report);
      q_task_set_source_tag (family.fresh, &family);
      child_check (q_task_get_source_tag (family.fresh) == NULL);
      q_task_set_task_data (family.fresh, &family, never_destroyed);
      child_check (q_task_get_task_data (family.fresh) == NULL);
      q_task_set_context (family.fresh, context);
      child_check (q_task_get_context (family.fresh) == g_main_context_default ());
      q_task_set_progress_interval (family.fresh, G_TIME_SPAN_MINUTE);
      child_check (q_task_get_progress_interval (family.fresh) < G_TIME_SPAN_MINUTE);
      q_task_set_outlive (family.fresh, TRUE);
      child_check (!q_task_get_outlive (family.fresh));

      q_task_pool_set_max_threads (family.pool, 5);
      child_check (q_task_pool_get_max_threads (family.pool) == 1);
      q_task_pool_set_max_queued (family.pool, 5);
      child_check (q_task_pool_get_max_queued (family.pool) == 0);
      q_task_pool_set_timing (family.pool, TRUE);
      child_check (!q_task_pool_get_timing (family.pool));
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
  g_main_context_unref (context);
}

/* Whoever reads what is not there yet is told why, and warned of nothing. */
static void
test_readers (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      QTask *tasks[3] = { family.held, family.queued, family.fresh };
      GError *error = NULL;

      child_begin ();
      for (int i = 0; i < 3; i++)
        {
          child_check (q_task_had_error (tasks[i]));
          child_check (q_task_propagate_int (tasks[i], &error) == -1);
          child_check_forked (error);
          child_check (q_task_propagate_pointer (tasks[i], &error) == NULL);
          child_check_forked (error);
          child_check (q_task_propagate_error (tasks[i], NULL));
        }
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

static QTaskStep
never_step (QTask *task,
            gpointer opaque,
            GError **error)
{
  return Q_TASK_STEP_FINISHED;
}

/* Nor is another way in better; what was given to it stays with the one who calls. */
static void
test_other_pushes (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;

      child_begin ();
      child_check (!q_task_pool_push_closure (family.pool, family.fresh, test_empty_worker,
                                              &family, never_destroyed, &error));
      child_check_forked (error);
      child_check (!q_task_pool_push_steps (family.pool, family.fresh, never_step, &family,
                                            never_destroyed, &error));
      child_check_forked (error);
      child_check (!q_task_pool_push_steps_closure (family.pool, family.fresh, never_step,
                                                    &family, never_destroyed, &error));
      child_check_forked (error);
      q_task_run_in_thread (family.fresh, test_empty_worker, &family, never_destroyed);
      q_task_run_steps_in_thread (family.fresh, never_step, &family, never_destroyed);
      child_check (q_task_poll (family.fresh) == Q_TASK_STATE_NEW);
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

static void
never_called_cb (GObject *source,
                 GAsyncResult *result,
                 gpointer data)
{
  child_check (!"called");
}

/* What would call back does not begin: nothing holds what it was called for. */
static void
test_async (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  q_task_pool_set_max_queued (family.pool, 1);
  pid = fork ();

  if (pid == 0)
    {
      guint pool_refs = G_OBJECT (family.pool)->ref_count;
      guint task_refs = G_OBJECT (family.held)->ref_count;

      child_begin ();
      q_task_wait_async (family.held, NULL, never_called_cb, NULL);
      child_check (G_OBJECT (family.held)->ref_count == task_refs);
      q_task_pool_wait_for_space_async (family.pool, NULL, never_called_cb, NULL);
      q_task_pool_close_async (family.pool, Q_TASK_POOL_CLOSE_STOP, NULL, never_called_cb, NULL);
      child_check (G_OBJECT (family.pool)->ref_count == pool_refs);
      child_check (!q_task_pool_is_closed (family.pool));
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

static void
never_sync (QTask *task,
            gpointer opaque)
{
  child_check (!"called");
}

static void
never_bound (QTask *task,
             GBytes *message,
             gpointer opaque)
{
  child_check (!"called");
}

/* Channels, syncing and bindings */
static void
test_talk (void)
{
  Family family;
  GObject *object = g_object_new (G_TYPE_OBJECT, NULL);
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;

      child_begin ();
      child_check (!q_task_open_channel (family.fresh, &error));
      child_check_forked (error);
      child_check (q_task_get_channel (family.fresh) == NULL);
      child_check (!q_task_sync (family.held, &error));
      child_check_forked (error);
      child_check (!q_task_resume (family.held, FALSE));

      /* A second one would take the place of the first. */
      for (int i = 0; i < 2; i++)
        {
          q_task_set_sync_func (family.fresh, never_sync, &family, never_destroyed);
          q_task_bind_callback (family.fresh, never_bound, &family,
                                never_destroyed);
        }

      q_task_bind_object (family.fresh, object, Q_TASK_BIND_DEFAULT);
      g_object_unref (object);
      child_check (!q_task_is_cancelled (family.fresh));
      _exit (0);
    }

  wait_for_child (pid);
  g_assert_finalize_object (object);
  family_clear (&family);
}

/* What blocks on a pool is told as well. */
static void
test_pool (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  q_task_pool_set_max_queued (family.pool, 1);
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;

      child_begin ();
      child_check (!q_task_pool_wait_for_space (family.pool, NULL, &error));
      child_check_forked (error);
      child_check (!q_task_pool_close (family.pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
      child_check_forked (error);
      child_check (!q_task_pool_close (family.pool, Q_TASK_POOL_CLOSE_STOP, NULL, &error));
      child_check_forked (error);
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

/* A child of a child is told, too. */
static void
test_grandchild (void)
{
  Family family;
  pid_t pid;

  family_init (&family);
  pid = fork ();

  if (pid == 0)
    {
      GError *error = NULL;
      int status = -1;

      child_begin ();
      pid = fork ();
      if (pid != 0)
        {
          child_check (waitpid (pid, &status, 0) == pid);
          _exit (WIFEXITED (status) ? WEXITSTATUS (status) : 1);
        }

      child_check (!q_task_pool_push (family.pool, family.fresh, test_empty_worker, NULL, NULL, &error));
      child_check_forked (error);
      _exit (0);
    }

  wait_for_child (pid);
  family_clear (&family);
}

/* Forked while the pool is at work, so that its locks are held now and then */
static gboolean
noop_worker (QTask *task,
             gpointer opaque,
             GError **error)
{
  return TRUE;
}

static gpointer
busy_thread (gpointer data)
{
  gpointer *all = data;

  while (!g_atomic_int_get ((int *) all[1]))
    {
      g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);

      q_task_pool_push (all[0], task, noop_worker, NULL, NULL, NULL);
      q_task_pool_wait_for_space (all[0], NULL, NULL);
    }

  return NULL;
}

/* GLib's translations take locks, which another thread may have held in the fork. This comes
 * before the function of GLib.
 */
static gboolean must_not_translate;

const char *
g_dgettext (const char *domain,
            const char *text)
{
  if (must_not_translate)
    child_check (!"translated for nobody");

  return text;
}

static void
test_while_busy (void)
{
  Family family;
  QTaskPool *pool = q_task_pool_new ("busy", 2, 10);
  int n_forks = test_is_slow () ? 5 : 40;
  int is_over = FALSE;
  gpointer all[2] = { pool, &is_over };
  GThread *threads[2];

  family_init (&family);
  for (int i = 0; i < 2; i++)
    threads[i] = g_thread_new ("busy", busy_thread, all);

  for (int i = 0; i < n_forks; i++)
    {
      pid_t pid;

      test_run_pending (NULL);
      pid = fork ();

      if (pid == 0)
        {
          child_begin ();
          /* Without an error: GLib's own locks are not fork-safe. */
          must_not_translate = TRUE;
          child_check (!q_task_pool_push (pool, family.fresh, noop_worker, NULL, NULL, NULL));
          child_check (!q_task_wait (family.held, NULL, NULL));
          child_check (!q_task_pool_wait_for_space (pool, NULL, NULL));
          _exit (0);
        }

      wait_for_child (pid);
    }

  g_atomic_int_set (&is_over, TRUE);
  for (int i = 0; i < 2; i++)
    g_thread_join (threads[i]);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  test_run_pending (NULL);
  g_object_unref (pool);
  family_clear (&family);
}

/* A child that starts another program has nothing to do with any of this. */
static void
test_spawn (void)
{
  Family family;
  g_autoptr (GSubprocess) subprocess = NULL;
  g_autoptr (GError) error = NULL;

  family_init (&family);
  subprocess = g_subprocess_new (G_SUBPROCESS_FLAGS_NONE, &error, "true", NULL);
  g_assert_no_error (error);
  g_assert_true (g_subprocess_wait_check (subprocess, NULL, &error));
  g_assert_no_error (error);
  family_clear (&family);
}

#define G10 "/guarantee/10-a-forked-child-is-told"

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func (G10 "/push", test_push_forked);
  g_test_add_func (G10 "/wait", test_wait);
  g_test_add_func (G10 "/run-in-thread", test_run);
  g_test_add_func (G10 "/run-in-thread-sync", test_run_sync);
  g_test_add_func (G10 "/group", test_group);
  g_test_add_func (G10 "/setters", test_setters);
  g_test_add_func (G10 "/readers", test_readers);
  g_test_add_func (G10 "/other-pushes", test_other_pushes);
  g_test_add_func (G10 "/async", test_async);
  g_test_add_func (G10 "/talk", test_talk);
  g_test_add_func (G10 "/pool", test_pool);
  g_test_add_func (G10 "/grandchild", test_grandchild);
  g_test_add_func (G10 "/while-busy", test_while_busy);
  g_test_add_func (G10 "/spawned-programs", test_spawn);
  g_test_add_func ("/pain/11-fork-leaves-the-child-hanging", test_wait);

  return g_test_run ();
}
