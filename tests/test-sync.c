/* test-sync.c: sync points
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A worker that syncs stands still until its owner resumes it, or somebody stops it. What
 * worker and sync function share here is plain memory: thread sanitizer tells when they run
 * at once, and so do assertions.
 *
 * The main thread is the owner, of the default context, unless told otherwise.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <string.h>
#include <sys/resource.h>

#include "test-util.h"

/* Meeting: one task whose worker syncs, and what its owner does then. What has no comment is
 * plain, and touched by the worker and by the sync function in turn.
 */
typedef struct
{
  int n_syncs;      /* how many the worker wants; does not change */
  TestGate begin;   /* the worker is about to sync */
  TestGate let;     /* it may, when this was opened; of use with `is_held` */
  gboolean is_held; /* does not change */
  TestGate met;     /* the function was called; opened as it ends */
  TestFate opaque;
  TestFate sync_data;
  TestFate worker_data;
  GThread *owner;

  guint turns;
  gboolean in_func;
  int n_funcs;
  int n_went_on;
  gboolean has_stopped;
  GError *stop_error;

  int called; /* by the completion */
  GError *error;
} Meeting;

#define MEETING_INIT(n) \
  { \
    .n_syncs = (n), .begin = TEST_GATE_INIT, .let = TEST_GATE_INIT, .met = TEST_GATE_INIT, \
    .opaque = TEST_FATE_INIT, .sync_data = TEST_FATE_INIT, .worker_data = TEST_FATE_INIT, \
    .owner = g_thread_self () \
  }

static void
meeting_opaque_destroy (gpointer data)
{
  test_fate_notify (&((Meeting *) data)->opaque);
}

static void
meeting_sync_data_destroy (gpointer data)
{
  test_fate_notify (&((Meeting *) data)->sync_data);
}

static void
meeting_worker_data_destroy (gpointer data)
{
  test_fate_notify (&((Meeting *) data)->worker_data);
}

static void
meeting_completed_cb (QTask *task,
                      gpointer data)
{
  Meeting *meeting = data;

  g_assert_true (g_thread_self () == meeting->owner);
  g_assert_cmpint (meeting->called, ==, 0);
  meeting->called++;
  q_task_propagate_error (task, &meeting->error);
}

static gboolean
meeting_worker (QTask *task,
                gpointer data,
                GError **error)
{
  Meeting *meeting = data;

  for (int i = 0; i < meeting->n_syncs; i++)
    {
      g_autoptr (GError) sync_error = NULL;
      guint turns = ++meeting->turns;

      test_gate_open (&meeting->begin);
      if (meeting->is_held)
        test_gate_wait_for (&meeting->let, i + 1);

      if (!q_task_sync (task, &sync_error))
        {
          g_assert_false (meeting->in_func);
          g_assert_nonnull (sync_error);
          g_assert_true (q_task_is_cancelled (task));
          meeting->turns++;
          meeting->has_stopped = TRUE;
          meeting->stop_error = g_error_copy (sync_error);

          /* Once it has been asked to stop, each one says so. */
          g_clear_error (&sync_error);
          g_assert_false (q_task_sync (task, &sync_error));
          g_assert_error (sync_error, meeting->stop_error->domain, meeting->stop_error->code);

          g_propagate_error (error, g_steal_pointer (&sync_error));
          return FALSE;
        }

      g_assert_no_error (sync_error);
      g_assert_false (meeting->in_func);
      g_assert_cmpuint (meeting->turns, >=, turns);
      meeting->turns++;
      meeting->n_went_on++;
    }

  return TRUE;
}

/* The beginning and end of each sync function */
static Meeting *
meeting_enter (QTask *task,
               gpointer data)
{
  Meeting *meeting = data;

  g_assert_true (g_thread_self () == meeting->owner);
  g_assert_false (meeting->in_func);
  g_assert_cmpint (meeting->called, ==, 0);
  g_assert_false (meeting->has_stopped);
  test_assert_alive (&meeting->sync_data);
  meeting->in_func = TRUE;
  meeting->turns++;
  meeting->n_funcs++;
  /* Not more than once for each sync */
  g_assert_cmpint (meeting->n_funcs, <=, test_gate_get_count (&meeting->begin));

  return meeting;
}

static void
meeting_leave (Meeting *meeting)
{
  guint turns = meeting->turns;

  /* Time to be caught */
  g_thread_yield ();
  g_assert_cmpuint (meeting->turns, ==, turns);
  meeting->turns++;
  meeting->in_func = FALSE;
  test_gate_open (&meeting->met);
}

static QTask *
meeting_new (Meeting *meeting,
             QTaskSyncFunc func)
{
  QTask *task = q_task_new (NULL, meeting_completed_cb, meeting, meeting_opaque_destroy);

  if (func != NULL)
    q_task_set_sync_func (task, func, meeting, meeting_sync_data_destroy);

  return task;
}

static void
meeting_start (Meeting *meeting,
               QTaskPool *pool,
               QTask *task)
{
  test_pool_push (pool, task, meeting_worker, meeting, meeting_worker_data_destroy);
}

/* It is over, as expected, and all was released by the owner. */
static void
meeting_end (Meeting *meeting,
             QTask *task,
             int stop_code) /* -1: it was not stopped */
{
  test_run_until (NULL, meeting->called);
  g_assert_cmpint (q_task_poll (task), ==,
                   stop_code == -1 ? Q_TASK_STATE_FINISHED : Q_TASK_STATE_STOPPED);
  g_assert_false (q_task_resume (task, FALSE));
  g_assert_false (q_task_resume (task, TRUE));
  test_finalize_soon (task);
  test_run_pending (NULL);

  if (stop_code == -1)
    {
      g_assert_no_error (meeting->error);
      g_assert_false (meeting->has_stopped);
      g_assert_cmpint (meeting->n_went_on, ==, meeting->n_syncs);
    }
  else
    {
      g_assert_error (meeting->error, G_IO_ERROR, stop_code);
      if (test_gate_get_count (&meeting->begin) > 0)
        {
          g_assert_true (meeting->has_stopped);
          g_assert_error (meeting->stop_error, G_IO_ERROR, stop_code);
        }
    }

  g_assert_cmpint (meeting->called, ==, 1);
  test_assert_destroyed_here (&meeting->opaque);
  test_assert_destroyed_here (&meeting->worker_data);
  if (test_fate_get_count (&meeting->sync_data) > 0)
    test_assert_destroyed_here (&meeting->sync_data);
  g_clear_error (&meeting->error);
  g_clear_error (&meeting->stop_error);
}

static void
wait_for_state (QTask *task,
                QTaskState state)
{
  test_poll_until (q_task_poll (task) == state);
}

/* In the sync function */

static void
resume_inside_cb (QTask *task,
                  gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);

  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  g_assert_true (q_task_resume (task, FALSE));
  meeting_leave (meeting);
}

static void
test_resumed_inside (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (test_scaled (1000));
  QTask *task = meeting_new (&meeting, resume_inside_cb);

  meeting_start (&meeting, pool, task);
  test_run_until (NULL, meeting.called);
  g_assert_cmpint (meeting.n_funcs, ==, meeting.n_syncs);
  meeting_end (&meeting, task, -1);
  test_assert_destroyed_here (&meeting.sync_data);
  test_pool_drop (pool);
}

static void
resume_twice_inside_cb (QTask *task,
                        gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);

  g_assert_true (q_task_resume (task, FALSE));
  g_assert_false (q_task_resume (task, FALSE));
  g_assert_false (q_task_resume (task, TRUE));
  g_assert_false (q_task_is_cancelled (task));
  meeting_leave (meeting);
}

static void
test_resumed_twice_inside (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (100);
  QTask *task = meeting_new (&meeting, resume_twice_inside_cb);

  meeting_start (&meeting, pool, task);
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 100);
  test_pool_drop (pool);
}

static gpointer
resume_thread (gpointer task)
{
  g_assert_true (q_task_resume (task, FALSE));

  return NULL;
}

static gpointer
resume_twice_thread (gpointer task)
{
  g_assert_true (q_task_resume (task, FALSE));
  g_assert_false (q_task_resume (task, FALSE));

  return NULL;
}

static gpointer
resume_stop_thread (gpointer task)
{
  g_assert_true (q_task_resume (task, TRUE));
  g_assert_false (q_task_resume (task, FALSE));

  return NULL;
}

/* Another thread resumes while the function runs: it has run to its end first. */
static void
resume_elsewhere_inside_cb (QTask *task,
                            gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);

  g_thread_join (g_thread_new ("resume", resume_twice_thread, task));
  /* It would have had the time. */
  g_usleep (1000);
  meeting_leave (meeting);
}

static void
test_resumed_elsewhere_inside (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (50);
  QTask *task = meeting_new (&meeting, resume_elsewhere_inside_cb);

  meeting_start (&meeting, pool, task);
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 50);
  test_pool_drop (pool);
}

/* Later */

static gboolean
resume_idle_cb (gpointer data)
{
  QTask *task = data;

  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  g_assert_true (q_task_resume (task, FALSE));

  return G_SOURCE_REMOVE;
}

static void
resume_later_cb (QTask *task,
                 gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);

  g_idle_add (resume_idle_cb, task);
  meeting_leave (meeting);
}

static void
test_resumed_later (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (100);
  QTask *task = meeting_new (&meeting, resume_later_cb);

  meeting_start (&meeting, pool, task);
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 100);
  test_pool_drop (pool);
}

static void
leave_cb (QTask *task,
          gpointer data)
{
  meeting_leave (meeting_enter (task, data));
}

static void
test_resumed_elsewhere (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (20);
  QTask *task = meeting_new (&meeting, leave_cb);

  meeting_start (&meeting, pool, task);
  for (int i = 0; i < 20; i++)
    {
      test_run_until (NULL, meeting.n_funcs == i + 1);
      /* The worker must not go on by itself. */
      test_run_pending (NULL);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
      g_assert_cmpint (meeting.n_went_on, ==, i);
      g_thread_join (g_thread_new ("resume", resume_thread, task));
    }
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 20);
  test_pool_drop (pool);
}

/* Nobody is told; the owner sees it. */
static void
test_without_function (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (20);
  QTask *task = meeting_new (&meeting, NULL);

  meeting.is_held = TRUE;
  meeting_start (&meeting, pool, task);
  for (int i = 0; i < 20; i++)
    {
      test_gate_wait_for (&meeting.begin, i + 1);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_RUNNING);
      g_assert_false (q_task_resume (task, FALSE));
      test_gate_open (&meeting.let);
      wait_for_state (task, Q_TASK_STATE_SYNCING);
      g_assert_true (q_task_resume (task, FALSE));
    }
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 0);
  test_pool_drop (pool);
}

/* Resumed before its owner, who does not iterate, was told: the function, for a sync that is
 * over, must not run beside the worker.
 */
static void
test_resumed_before_told (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, leave_cb);

  meeting_start (&meeting, pool, task);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  g_thread_join (g_thread_new ("resume", resume_thread, task));
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 0);
  test_pool_drop (pool);
}

/* The function is set, changed, and taken away while the task runs. */
static void
test_function_changes (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (4);
  TestFate other_data = TEST_FATE_INIT;
  QTask *task = meeting_new (&meeting, NULL);

  meeting.is_held = TRUE;
  meeting_start (&meeting, pool, task);

  /* Set */
  test_gate_wait_for (&meeting.begin, 1);
  q_task_set_sync_func (task, leave_cb, &meeting, meeting_sync_data_destroy);
  test_gate_open (&meeting.let);
  test_run_until (NULL, meeting.n_funcs == 1);

  /* Changed while it syncs: the new one is for the next. Replaced data goes at once. */
  test_assert_alive (&meeting.sync_data);
  q_task_set_sync_func (task, resume_inside_cb, &meeting, NULL);
  test_assert_destroyed_here (&meeting.sync_data);
  meeting.sync_data = (TestFate) TEST_FATE_INIT;
  test_run_pending (NULL);
  g_assert_cmpint (meeting.n_funcs, ==, 1);
  g_assert_true (q_task_resume (task, FALSE));

  test_gate_wait_for (&meeting.begin, 2);
  test_gate_open (&meeting.let);
  test_gate_wait_for (&meeting.begin, 2);
  test_run_until (NULL, meeting.n_funcs == 2);

  /* Taken away */
  test_gate_wait_for (&meeting.begin, 3);
  q_task_set_sync_func (task, NULL, NULL, NULL);
  test_gate_open (&meeting.let);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  test_run_pending (NULL);
  g_assert_cmpint (meeting.n_funcs, ==, 2);
  g_assert_true (q_task_resume (task, FALSE));

  test_gate_wait_for (&meeting.begin, 4);
  q_task_set_sync_func (task, NULL, &other_data, test_fate_notify);
  test_gate_open (&meeting.let);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  g_assert_true (q_task_resume (task, FALSE));

  meeting_end (&meeting, task, -1);
  test_assert_destroyed_here (&other_data);
  test_pool_drop (pool);
}

/* Replaced by the function itself, which still runs */
static void
replace_inside_cb (QTask *task,
                   gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);

  q_task_set_sync_func (task, NULL, NULL, NULL);
  g_assert_true (q_task_resume (task, FALSE));
  meeting_leave (meeting);
}

static void
test_function_replaces_itself (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, replace_inside_cb);

  meeting_start (&meeting, pool, task);
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 1);
  test_assert_destroyed_here (&meeting.sync_data);
  test_pool_drop (pool);
}

/* Refused */

static void
assert_refused (QTask *task,
                QTaskState state)
{
  g_assert_cmpint (q_task_poll (task), ==, state);
  g_assert_false (q_task_resume (task, FALSE));
  g_assert_false (q_task_resume (task, TRUE));
  g_assert_cmpint (q_task_poll (task), ==, state);
  g_assert_false (q_task_is_cancelled (task));
}

static void
test_refused (void)
{
  QTaskPool *pool = q_task_pool_new ("refused", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Meeting meeting = MEETING_INIT (1);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = meeting_new (&meeting, leave_cb);

  meeting.is_held = TRUE;
  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);

  assert_refused (task, Q_TASK_STATE_NEW);
  meeting_start (&meeting, pool, task);
  assert_refused (task, Q_TASK_STATE_QUEUED);
  test_gate_open (&hold.release);
  test_gate_wait (&meeting.begin);
  assert_refused (task, Q_TASK_STATE_RUNNING);
  test_gate_open (&meeting.let);

  /* None of these was kept for the sync that now comes. */
  test_run_until (NULL, meeting.n_funcs);
  test_run_pending (NULL);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  g_assert_true (q_task_resume (task, FALSE));
  test_run_until (NULL, meeting.called);
  assert_refused (task, Q_TASK_STATE_FINISHED);
  meeting_end (&meeting, task, -1);
  test_finish (held);
  test_pool_drop (pool);
}

/* A task that is driven by other code has no worker that could sync. */
static void
test_refused_without_worker (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  assert_refused (task, Q_TASK_STATE_NEW);
  q_task_return_boolean (task, TRUE);
  g_assert_false (q_task_resume (task, TRUE));
  test_run_until (NULL, q_task_get_completed (task));
  assert_refused (task, Q_TASK_STATE_FINISHED);
  g_assert_true (q_task_propagate_boolean (task, NULL));
  g_assert_finalize_object (task);
}

/* Only the worker syncs, not its owner and not the worker of another task. */
static gboolean
sync_of_other_worker (QTask *task,
                      gpointer other,
                      GError **error)
{
  test_critical_says ("*cannot sync here; call q_task_sync() in its worker*",
                      g_assert_false (q_task_sync (other, NULL)));

  return TRUE;
}

static void
test_only_worker_syncs (void)
{
  QTaskPool *pool = q_task_pool_new ("critical", 2, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  QTask *other = q_task_new (NULL, NULL, NULL, NULL);

  test_critical_says ("The task * cannot sync here; call q_task_sync() in its worker*",
                      g_assert_false (q_task_sync (task, NULL)));
  test_pool_push (pool, task, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_critical_says ("*cannot sync here; call q_task_sync() in its worker*",
                      g_assert_false (q_task_sync (task, NULL)));

  test_pool_push (pool, other, sync_of_other_worker, task, NULL);
  test_finish (other);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_RUNNING);

  test_gate_open (&hold.release);
  test_finish (task);
  test_pool_drop (pool);
}

/* Stopped */

typedef enum
{
  STOP_RESUME, /* not before the task syncs */
  STOP_RESUME_ELSEWHERE,
  STOP_CANCEL,
  STOP_CANCEL_ELSEWHERE,
  STOP_GIVEN,
  STOP_TIMEOUT,
  STOP_POOL,
  N_STOPS
} Stop;

static const char *const stop_names[N_STOPS] = {
  "resume", "resume-elsewhere", "cancel", "cancel-elsewhere", "given-cancellable", "timeout", "pool-stopped"
};

typedef struct
{
  Meeting meeting;
  Stop stop;
  QTaskPool *pool;
  GCancellable *given;
} Stopping;

static gpointer
cancel_thread (gpointer task)
{
  q_task_cancel (task);

  return NULL;
}

static gpointer
close_thread (gpointer pool)
{
  q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, NULL);

  return NULL;
}

static GThread *closing;

static void
stopping_stop (Stopping *stopping,
               QTask *task)
{
  switch (stopping->stop)
    {
    case STOP_RESUME:
      g_assert_true (q_task_resume (task, TRUE));
      g_assert_false (q_task_resume (task, FALSE));
      break;
    case STOP_RESUME_ELSEWHERE:
      g_thread_join (g_thread_new ("stop", resume_stop_thread, task));
      break;
    case STOP_CANCEL:
      q_task_cancel (task);
      break;
    case STOP_CANCEL_ELSEWHERE:
      g_thread_join (g_thread_new ("cancel", cancel_thread, task));
      break;
    case STOP_GIVEN:
      g_cancellable_cancel (stopping->given);
      break;
    case STOP_TIMEOUT:
      q_task_set_timeout (task, 1);
      return;
    case STOP_POOL:
      /* Blocks until it has stopped */
      closing = g_thread_new ("close", close_thread, stopping->pool);
      test_poll_until (q_task_is_cancelled (task));
      break;
    default:
      g_assert_not_reached ();
    }

  g_assert_true (q_task_is_cancelled (task));
}

static int
stopping_get_code (Stopping *stopping)
{
  return stopping->stop == STOP_TIMEOUT ? G_IO_ERROR_TIMED_OUT : G_IO_ERROR_CANCELLED;
}

static QTask *
stopping_start (Stopping *stopping,
                Stop stop,
                QTaskSyncFunc func)
{
  QTask *task;

  *stopping = (Stopping){ .meeting = MEETING_INIT (3), .stop = stop };
  stopping->pool = q_task_pool_new ("stopping", 1, 0);
  stopping->given = g_cancellable_new ();
  task = g_object_new (Q_TYPE_TASK, "cancellable", stopping->given, NULL);
  q_task_set_func (task, meeting_completed_cb, stopping, meeting_opaque_destroy);
  if (func != NULL)
    q_task_set_sync_func (task, func, stopping, meeting_sync_data_destroy);
  stopping->meeting.is_held = TRUE;
  test_pool_push (stopping->pool, task, meeting_worker, stopping, meeting_worker_data_destroy);
  test_gate_wait (&stopping->meeting.begin);

  return task;
}

static void
stopping_end (Stopping *stopping,
              QTask *task)
{
  meeting_end (&stopping->meeting, task, stopping_get_code (stopping));
  g_clear_pointer (&closing, g_thread_join);
  g_clear_object (&stopping->given);
  test_pool_drop (stopping->pool);
}

static void
never_sync_cb (QTask *task,
               gpointer data)
{
  g_assert_not_reached ();
}

/* Before the sync, which then says so at once and is not told of */
static void
test_stopped_before (gconstpointer stop)
{
  Stopping stopping;
  QTask *task = stopping_start (&stopping, (Stop) GPOINTER_TO_INT (stop), never_sync_cb);

  stopping_stop (&stopping, task);
  test_run_until (NULL, q_task_is_cancelled (task));
  test_gate_open (&stopping.meeting.let);
  stopping_end (&stopping, task);
}

/* While the owner is still to be told: what says so here is not the owner's loop. */
static void
test_stopped_before_told (gconstpointer stop)
{
  Stopping stopping;
  QTask *task = stopping_start (&stopping, (Stop) GPOINTER_TO_INT (stop), never_sync_cb);

  test_gate_open (&stopping.meeting.let);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  stopping_stop (&stopping, task);
  /* The worker needs no loop to be woken. */
  test_poll_until (q_task_poll (task) == Q_TASK_STATE_STOPPED);
  stopping_end (&stopping, task);
}

/* The time is up when the owner is to be told: either comes first. */
static void
test_timeout_before_told (void)
{
  Stopping stopping;
  QTask *task = stopping_start (&stopping, STOP_TIMEOUT, leave_cb);

  test_gate_open (&stopping.meeting.let);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  stopping_stop (&stopping, task);
  stopping_end (&stopping, task);
  g_assert_cmpint (stopping.meeting.n_funcs, <=, 1);
}

/* While the function runs: it has run to its end first. */
static void
stop_inside_cb (QTask *task,
                gpointer data)
{
  Stopping *stopping = data;
  Meeting *meeting = meeting_enter (task, &stopping->meeting);

  stopping_stop (stopping, task);
  if (stopping->stop != STOP_TIMEOUT)
    {
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPING);
      /* Resumed or not, it stops. */
      q_task_resume (task, FALSE);
      g_assert_false (q_task_resume (task, FALSE));
    }
  /* It would have had the time. */
  g_usleep (5000);
  meeting_leave (meeting);
}

static void
test_stopped_inside (gconstpointer stop)
{
  Stopping stopping;
  QTask *task = stopping_start (&stopping, (Stop) GPOINTER_TO_INT (stop), stop_inside_cb);

  test_gate_open (&stopping.meeting.let);
  stopping_end (&stopping, task);
  g_assert_cmpint (stopping.meeting.n_funcs, ==, 1);
}

/* Cancelled inside after it was resumed: stopped all the same. */
static void
resume_and_cancel_cb (QTask *task,
                      gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);

  g_assert_true (q_task_resume (task, FALSE));
  q_task_cancel (task);
  g_assert_false (q_task_resume (task, FALSE));
  meeting_leave (meeting);
}

static void
test_resumed_and_cancelled_inside (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (3);
  QTask *task = meeting_new (&meeting, resume_and_cancel_cb);

  meeting_start (&meeting, pool, task);
  meeting_end (&meeting, task, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (meeting.n_funcs, ==, 1);
  g_assert_cmpint (meeting.n_went_on, <=, 1);
  test_pool_drop (pool);
}

/* What is to stop is not resumed. */
static void
cancel_and_resume_cb (QTask *task,
                      gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);

  q_task_cancel (task);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPING);
  g_assert_false (q_task_resume (task, FALSE));
  g_assert_false (q_task_resume (task, TRUE));
  meeting_leave (meeting);
}

static void
test_cancelled_and_resumed_inside (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (3);
  QTask *task = meeting_new (&meeting, cancel_and_resume_cb);

  meeting_start (&meeting, pool, task);
  meeting_end (&meeting, task, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (meeting.n_funcs, ==, 1);
  g_assert_cmpint (meeting.n_went_on, ==, 0);
  test_pool_drop (pool);
}

/* After the function */
static void
test_stopped_after (gconstpointer stop)
{
  Stopping stopping;
  QTask *task = stopping_start (&stopping, (Stop) GPOINTER_TO_INT (stop), leave_cb);

  test_gate_open (&stopping.meeting.let);
  test_run_until (NULL, stopping.meeting.n_funcs);
  test_run_pending (NULL);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  stopping_stop (&stopping, task);
  stopping_end (&stopping, task);
  g_assert_cmpint (stopping.meeting.n_funcs, ==, 1);
}

/* Without a function, and with an owner that never looks */
static void
test_stopped_without_function (gconstpointer stop)
{
  Stopping stopping;
  QTask *task = stopping_start (&stopping, (Stop) GPOINTER_TO_INT (stop), NULL);

  test_gate_open (&stopping.meeting.let);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  stopping_stop (&stopping, task);
  stopping_end (&stopping, task);
}

/* A task that is run although it is cancelled syncs, and is stopped there. */
static void
test_return_on_cancel (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, leave_cb);

  q_task_set_return_on_cancel (task, TRUE);
  meeting_start (&meeting, pool, task);
  test_run_until (NULL, meeting.n_funcs);
  q_task_cancel (task);
  test_run_until (NULL, meeting.called);
  g_assert_error (meeting.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_run_until (NULL, test_fate_get_count (&meeting.worker_data));
  meeting_end (&meeting, task, G_IO_ERROR_CANCELLED);
  test_pool_drop (pool);
}

/* The context goes */

typedef enum
{
  GOES_BEFORE,      /* the task syncs */
  GOES_BEFORE_TOLD, /* its owner is told */
  GOES_AFTER        /* the function was called */
} Goes;

static void
test_context_goes (gconstpointer when)
{
  QTaskPool *pool = q_task_pool_new ("goes", 1, 0);
  Meeting meeting = MEETING_INIT (3);
  TestFate fate = TEST_FATE_INIT;
  TestContext context;
  QTask *task;

  test_context_begin (&context);
  task = meeting_new (&meeting, leave_cb);
  test_fate_watch (&fate, task);
  meeting.is_held = GPOINTER_TO_INT (when) == GOES_BEFORE;
  meeting_start (&meeting, pool, task);
  test_gate_wait (&meeting.begin);

  if (GPOINTER_TO_INT (when) != GOES_BEFORE)
    wait_for_state (task, Q_TASK_STATE_SYNCING);
  if (GPOINTER_TO_INT (when) == GOES_AFTER)
    {
      test_run_until (context.context, meeting.n_funcs);
      test_run_pending (context.context);
    }
  g_object_unref (task);
  test_context_end (&context);
  test_gate_open (&meeting.let);

  test_fate_wait (&fate);
  test_fate_wait (&meeting.opaque);
  test_fate_wait (&meeting.sync_data);
  test_fate_wait (&meeting.worker_data);
  g_assert_true (meeting.has_stopped);
  g_assert_error (meeting.stop_error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (meeting.n_funcs, ==, GPOINTER_TO_INT (when) == GOES_AFTER);
  g_assert_cmpint (meeting.called, ==, 0);
  g_clear_error (&meeting.stop_error);
  test_pool_drop (pool);
}

/* Detached: nobody is to be asked */

static void
test_detached (gconstpointer syncing)
{
  QTaskPool *pool = q_task_pool_new ("detached", 1, 0);
  Meeting meeting = MEETING_INIT (5);
  TestFate object_fate = TEST_FATE_INIT;
  GObject *object = test_probe_new (&object_fate);
  QTask *task = meeting_new (&meeting, syncing ? leave_cb : never_sync_cb);

  meeting.is_held = TRUE;
  q_task_bind_object (task, object, Q_TASK_BIND_OUTLIVE);
  meeting_start (&meeting, pool, task);
  test_gate_wait (&meeting.begin);
  if (syncing)
    {
      test_gate_open (&meeting.let);
      test_run_until (NULL, meeting.n_funcs);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
    }
  g_object_unref (object);
  g_assert_cmpint (test_fate_get_count (&object_fate), ==, 1);
  g_assert_false (q_task_is_cancelled (task));
  for (int i = 0; i < 5; i++)
    test_gate_open (&meeting.let);

  /* Nobody iterates. */
  wait_for_state (task, Q_TASK_STATE_FINISHED);
  test_run_until (NULL, test_fate_get_count (&meeting.opaque) &&
                          test_fate_get_count (&meeting.worker_data));
  g_assert_finalize_object (task);
  g_assert_cmpint (meeting.n_went_on, ==, 5);
  g_assert_cmpint (meeting.n_funcs, ==, syncing ? 1 : 0);
  g_assert_cmpint (meeting.called, ==, 0);
  test_assert_destroyed_here (&meeting.opaque);
  test_assert_destroyed_here (&meeting.worker_data);
  test_assert_destroyed_here (&meeting.sync_data);
  test_pool_drop (pool);
}

/* Parked */

static void
count_cb (QTask *task,
          gpointer count)
{
  (*(int *) count)++;
}

static void
test_pool_of_one_goes_on (void)
{
  QTaskPool *pool = q_task_pool_new ("one", 1, 0);
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, leave_cb);
  QTaskPoolStats stats;
  int n_called = 0;

  meeting_start (&meeting, pool, task);
  test_run_until (NULL, meeting.n_funcs);
  test_poll_until (test_pool_stats (pool).parked == 1);
  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.parked, ==, 1);
  g_assert_cmpuint (stats.running, ==, 1);

  for (int i = 0; i < 50; i++)
    {
      g_autoptr (QTask) other = q_task_new (NULL, count_cb, &n_called, NULL);

      test_pool_push (pool, other, test_empty_worker, NULL, NULL);
    }
  test_run_until (NULL, n_called == 50);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  test_poll_until (test_pool_stats (pool).parked == 1);

  g_assert_true (q_task_resume (task, FALSE));
  meeting_end (&meeting, task, -1);
  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.parked, ==, 0);
  g_assert_cmpuint (stats.finished, ==, 51);
  test_pool_drop (pool);
}

static void
test_many_parked (void)
{
  enum
  {
    N_TASKS = 30
  };
  QTaskPool *pool = q_task_pool_new ("many", 1, 0);
  Meeting meetings[N_TASKS];
  QTask *tasks[N_TASKS];
  g_autoptr (GPtrArray) listed = NULL;
  g_autofree char *dump = NULL;
  QTaskPoolStats stats;

  for (int i = 0; i < N_TASKS; i++)
    {
      meetings[i] = (Meeting) MEETING_INIT (1);
      tasks[i] = meeting_new (&meetings[i], leave_cb);
      q_task_set_name (tasks[i], "that syncs");
      meeting_start (&meetings[i], pool, tasks[i]);
    }
  for (int i = 0; i < N_TASKS; i++)
    test_run_until (NULL, meetings[i].n_funcs);

  /* The owner may be told before the thread is parked. */
  test_poll_until (test_pool_stats (pool).parked == N_TASKS);
  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.running, ==, N_TASKS);
  g_assert_cmpuint (stats.queued, ==, 0);
  listed = q_task_pool_list_tasks (pool);
  g_assert_cmpuint (listed->len, ==, N_TASKS);
  dump = q_task_pool_dump (pool);
  g_assert_nonnull (strstr (dump, "syncing"));
  g_assert_nonnull (strstr (dump, "that syncs"));

  for (int i = 0; i < N_TASKS; i++)
    {
      if (i % 3 == 0)
        g_assert_true (q_task_resume (tasks[i], TRUE));
      else if (i % 3 == 1)
        q_task_cancel (tasks[i]);
      else
        g_assert_true (q_task_resume (tasks[i], FALSE));
    }
  g_clear_pointer (&listed, g_ptr_array_unref);
  for (int i = 0; i < N_TASKS; i++)
    meeting_end (&meetings[i], tasks[i], i % 3 == 2 ? -1 : G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (test_pool_stats (pool).parked, ==, 0);
  test_pool_drop (pool);
}

/* In a serial pool, the others wait. */
static void
test_serial_pool_waits (void)
{
  QTaskPool *pool = q_task_pool_new_serial ("serial");
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, leave_cb);
  QTask *next = q_task_new (NULL, NULL, NULL, NULL);

  meeting_start (&meeting, pool, task);
  test_run_until (NULL, meeting.n_funcs);
  test_pool_push (pool, next, test_empty_worker, NULL, NULL);
  g_assert_cmpint (q_task_poll (next), ==, Q_TASK_STATE_QUEUED);
  g_usleep (20000);
  g_assert_cmpint (q_task_poll (next), ==, Q_TASK_STATE_QUEUED);
  g_assert_true (q_task_resume (task, FALSE));
  meeting_end (&meeting, task, -1);
  test_finish (next);
  test_pool_drop (pool);
}

/* The thread sleeps until it is woken, and looks at nothing meanwhile. */
typedef struct
{
  long n_switches;
  gint64 cpu;
} Usage;

static Usage
usage_of_thread (void)
{
  struct rusage rusage;

  g_assert_cmpint (getrusage (RUSAGE_THREAD, &rusage), ==, 0);

  return (Usage){
    rusage.ru_nvcsw,
    (rusage.ru_utime.tv_sec + rusage.ru_stime.tv_sec) * G_USEC_PER_SEC +
      rusage.ru_utime.tv_usec + rusage.ru_stime.tv_usec
  };
}

static gboolean
usage_worker (QTask *task,
              gpointer data,
              GError **error)
{
  Usage before = usage_of_thread ();
  Usage *usage = data;
  Usage after;

  if (!q_task_sync (task, error))
    return FALSE;

  after = usage_of_thread ();
  usage->n_switches = after.n_switches - before.n_switches;
  usage->cpu = after.cpu - before.cpu;

  return TRUE;
}

static gboolean
set_true_cb (gpointer flag)
{
  *(gboolean *) flag = TRUE;

  return G_SOURCE_REMOVE;
}

static void
test_no_poll_timer (void)
{
  QTaskPool *pool = q_task_pool_new ("sleeps", 1, 0);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  gboolean is_time = FALSE;
  int n_iterations = 0;
  Usage usage = { 0 };

  test_pool_push (pool, task, usage_worker, &usage, NULL);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  test_run_pending (NULL);

  g_timeout_add (700, set_true_cb, &is_time);
  while (!is_time)
    {
      g_main_context_iteration (NULL, TRUE);
      n_iterations++;
    }
  g_assert_true (q_task_resume (task, FALSE));
  test_finish (task);

  g_test_message ("%ld switches, %d us; %d iterations", usage.n_switches, (int) usage.cpu, n_iterations);
  g_assert_cmpint ((int) usage.n_switches, <=, 6);
  g_assert_cmpint (n_iterations, <=, 5);
  if (!test_is_slow ())
    g_assert_cmpint ((int) usage.cpu, <, 20000);
  test_pool_drop (pool);
}

/* Waiting */

static void
test_owner_waits (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Meeting meeting = MEETING_INIT (test_scaled (300));
  g_autoptr (GError) error = NULL;
  QTask *task = meeting_new (&meeting, resume_inside_cb);

  meeting_start (&meeting, pool, task);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (meeting.called, ==, 1);
  g_assert_cmpint (meeting.n_funcs, ==, meeting.n_syncs);
  meeting_end (&meeting, task, -1);
  test_pool_drop (pool);
}

/* It had been told to come before the wait began. */
static void
test_owner_waits_late (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, resume_inside_cb);

  meeting_start (&meeting, pool, task);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  g_assert_true (q_task_wait (task, NULL, NULL));
  g_assert_cmpint (meeting.called, ==, 1);
  g_assert_cmpint (meeting.n_funcs, ==, 1);
  meeting_end (&meeting, task, -1);
  test_pool_drop (pool);
}

static gpointer
resume_each_thread (gpointer data)
{
  QTask *task = data;
  Meeting *meeting = g_object_get_data (G_OBJECT (task), "meeting");

  for (int i = 0; i < meeting->n_syncs; i++)
    {
      test_gate_wait_for (&meeting->met, i + 1);
      g_assert_true (q_task_resume (task, FALSE));
    }

  return NULL;
}

/* The owner waits, and another thread resumes. */
static void
test_owner_waits_resumed_elsewhere (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Meeting meeting = MEETING_INIT (100);
  QTask *task = meeting_new (&meeting, leave_cb);
  GThread *thread;

  g_object_set_data (G_OBJECT (task), "meeting", &meeting);
  thread = g_thread_new ("resume", resume_each_thread, task);
  meeting_start (&meeting, pool, task);
  g_assert_true (q_task_wait (task, NULL, NULL));
  g_thread_join (thread);
  g_assert_cmpint (meeting.called, ==, 1);
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 100);
  test_pool_drop (pool);
}

/* It waits for a while only, and the task syncs on. */
static void
test_owner_waits_in_vain (gconstpointer cancels)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, leave_cb);

  meeting_start (&meeting, pool, task);
  if (cancels)
    {
      wait_for_state (task, Q_TASK_STATE_SYNCING);
      g_cancellable_cancel (cancellable);
      g_assert_false (q_task_wait (task, cancellable, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }
  else
    {
      gint64 end_time = g_get_monotonic_time () + 100 * G_TIME_SPAN_MILLISECOND;

      g_assert_false (q_task_wait_until (task, end_time, NULL, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_cmpint (g_get_monotonic_time (), >=, end_time);
      g_assert_cmpint (meeting.n_funcs, ==, 1);
    }

  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  test_run_until (NULL, meeting.n_funcs == 1);
  test_run_pending (NULL);
  g_assert_true (q_task_resume (task, FALSE));
  meeting_end (&meeting, task, -1);
  test_pool_drop (pool);
}

/* The timeout of the task, which the wait counts down */
static void
test_timeout_while_owner_waits (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, leave_cb);

  q_task_set_timeout (task, 500 * G_TIME_SPAN_MILLISECOND);
  meeting_start (&meeting, pool, task);
  g_assert_true (q_task_wait (task, NULL, NULL));
  g_assert_cmpint (meeting.called, ==, 1);
  meeting_end (&meeting, task, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (meeting.n_funcs, ==, 1);
  test_pool_drop (pool);
}

/* Progress, messages and sync points of one task, to an owner that waits for it */
typedef struct
{
  Meeting meeting;
  guint32 n_messages;
  int n_ends;
  double progress;
  int n_notified;
} All;

static void
all_message_cb (QTaskChannel *channel,
                GBytes *message,
                gpointer data)
{
  All *all = data;

  g_assert_true (g_thread_self () == all->meeting.owner);
  g_assert_false (all->meeting.in_func);
  g_assert_cmpint (all->meeting.called, ==, 0);
  if (message == NULL)
    all->n_ends++;
  else
    g_assert_cmpuint (*(const guint32 *) g_bytes_get_data (message, NULL), ==, all->n_messages++);
}

static void
all_progress_cb (QTask *task,
                 GParamSpec *pspec,
                 gpointer data)
{
  All *all = data;

  g_assert_true (g_thread_self () == all->meeting.owner);
  g_assert_cmpint (all->meeting.called, ==, 0);
  g_assert_cmpfloat (q_task_get_progress (task), >=, all->progress);
  all->progress = q_task_get_progress (task);
  all->n_notified++;
}

static gboolean
all_worker (QTask *task,
            gpointer data,
            GError **error)
{
  Meeting *meeting = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);

  for (guint32 i = 0; i < (guint32) meeting->n_syncs; i++)
    {
      if (!q_task_channel_write (channel, &i, sizeof i, NULL, error))
        return FALSE;
      q_task_set_progress (task, (double) (i + 1) / meeting->n_syncs, i % 2 == 0 ? "Even" : NULL);
      meeting->turns++;
      test_gate_open (&meeting->begin);
      if (!q_task_sync (task, error))
        return FALSE;
      g_assert_false (meeting->in_func);
      meeting->turns++;
      meeting->n_went_on++;
    }

  return TRUE;
}

static void
all_sync_cb (QTask *task,
             gpointer data)
{
  All *all = data;

  /* All that was written before comes before. */
  g_assert_cmpint ((int) all->n_messages, ==, all->meeting.n_funcs + 1);
  resume_inside_cb (task, data);
}

static void
test_all_together (gconstpointer waits)
{
  QTaskPool *pool = q_task_pool_new ("all", 1, 0);
  All all = { .meeting = MEETING_INIT (test_scaled (500)) };
  g_autoptr (GError) error = NULL;
  QTask *task = meeting_new (&all.meeting, all_sync_cb);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 10);
  q_task_channel_set_message_func (q_task_get_channel (task), all_message_cb, &all, NULL);
  q_task_set_completion_priority (task, G_PRIORITY_HIGH);
  g_signal_connect (task, "notify::progress", G_CALLBACK (all_progress_cb), &all);
  test_pool_push (pool, task, all_worker, &all, meeting_worker_data_destroy);
  if (waits)
    {
      g_assert_true (q_task_wait (task, NULL, &error));
      g_assert_no_error (error);
      g_assert_cmpint (all.meeting.called, ==, 1);
    }
  test_run_until (NULL, all.meeting.called);
  g_assert_cmpuint (all.n_messages, ==, (guint) all.meeting.n_syncs);
  g_assert_cmpint (all.n_ends, ==, 1);
  g_assert_cmpfloat (all.progress, ==, 1);
  g_assert_cmpint (all.n_notified, >, 0);
  g_assert_cmpint (all.meeting.n_funcs, ==, all.meeting.n_syncs);
  meeting_end (&all.meeting, task, -1);
  test_pool_drop (pool);
}

/* In the sync function, the owner cannot wait for what cannot go on before that returns. */
static void
wait_inside_cb (QTask *task,
                gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);
  g_autoptr (GError) error = NULL;
  gboolean resumes = meeting->n_funcs == 2;

  if (resumes)
    g_assert_true (q_task_resume (task, FALSE));
  g_assert_false (q_task_wait_until (task, g_get_monotonic_time () + 5 * G_TIME_SPAN_SECOND, NULL,
                                     &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  if (!resumes)
    g_assert_true (q_task_resume (task, FALSE));
  meeting_leave (meeting);
}

static void
test_owner_waits_in_function (gconstpointer waits)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Meeting meeting = MEETING_INIT (2);
  QTask *task = meeting_new (&meeting, wait_inside_cb);

  meeting_start (&meeting, pool, task);
  if (waits)
    g_assert_true (q_task_wait (task, NULL, NULL));
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 2);
  test_pool_drop (pool);
}

/* Nor for the end of its pool. */
static void
close_inside_cb (QTask *task,
                 gpointer data)
{
  Meeting *meeting = meeting_enter (task, data);
  QTaskPool *pool = g_object_get_data (G_OBJECT (task), "pool");
  g_autoptr (GError) error = NULL;

  g_assert_false (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_assert_true (q_task_resume (task, FALSE));
  meeting_leave (meeting);
}

static void
test_owner_closes_pool_in_function (void)
{
  QTaskPool *pool = q_task_pool_new ("closes", 1, 0);
  Meeting meeting = MEETING_INIT (2);
  QTask *task = meeting_new (&meeting, close_inside_cb);

  g_object_set_data (G_OBJECT (task), "pool", pool);
  meeting_start (&meeting, pool, task);
  meeting_end (&meeting, task, -1);
  test_pool_drop (pool);
}

/* Tasks that sync while others wait for them */
typedef struct
{
  Meeting meeting;
  QTask *other;
  int n_deadlocks;
} Ring;

static gboolean
ring_worker (QTask *task,
             gpointer data,
             GError **error)
{
  Ring *ring = data;
  g_autoptr (GError) wait_error = NULL;

  if (!q_task_wait_until (ring->other, test_end_time (), NULL, &wait_error))
    {
      g_assert_error (wait_error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
      g_atomic_int_inc (&ring->n_deadlocks);
    }

  return TRUE;
}

static void
ring_inside_cb (QTask *task,
                gpointer data)
{
  Ring *ring = data;
  Meeting *meeting = meeting_enter (task, &ring->meeting);
  g_autoptr (GError) error = NULL;

  if (!q_task_wait_until (ring->other, test_end_time (), NULL, &error))
    {
      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
      g_atomic_int_inc (&ring->n_deadlocks);
    }
  g_assert_true (q_task_resume (task, FALSE));
  meeting_leave (meeting);
}

/* The owner waits in the function of the one for the other, which waits for the one. */
static void
test_owner_waits_in_function_for_waiter (void)
{
  QTaskPool *pool = q_task_pool_new ("ring", 2, 0);

  for (int i = 0; i < test_scaled (200); i++)
    {
      Ring ring = { .meeting = MEETING_INIT (1) };
      Ring waiting = { .meeting = MEETING_INIT (0) };
      QTask *task = meeting_new (&ring.meeting, NULL);
      QTask *other = q_task_new (NULL, NULL, NULL, NULL);

      ring.other = other;
      waiting.other = task;
      q_task_set_sync_func (task, ring_inside_cb, &ring, meeting_sync_data_destroy);
      meeting_start (&ring.meeting, pool, task);
      test_pool_push (pool, other, ring_worker, &waiting, NULL);
      meeting_end (&ring.meeting, task, -1);
      test_finish (other);
      g_assert_cmpint (ring.n_deadlocks + waiting.n_deadlocks, ==, 1);
    }

  test_pool_drop (pool);
}

static void
nest_inside_cb (QTask *task,
                gpointer data)
{
  Ring *ring = data;
  Meeting *meeting = meeting_enter (task, &ring->meeting);

  test_run_until (NULL, q_task_get_completed (ring->other));
  g_assert_true (q_task_resume (task, FALSE));
  meeting_leave (meeting);
}

/* In the function of the one a loop runs, which calls that of the other, which waits for the
 * one. */
static void
test_owner_waits_in_nested_function (void)
{
  QTaskPool *pool = q_task_pool_new ("nested", 2, 0);
  Ring outer = { .meeting = MEETING_INIT (1) };
  Ring inner = { .meeting = MEETING_INIT (1) };
  QTask *task = meeting_new (&outer.meeting, NULL);
  QTask *other = meeting_new (&inner.meeting, NULL);

  outer.other = other;
  inner.other = task;
  q_task_set_sync_func (task, nest_inside_cb, &outer, meeting_sync_data_destroy);
  q_task_set_sync_func (other, ring_inside_cb, &inner, meeting_sync_data_destroy);
  /* The other syncs when the first one's function runs the loop. */
  meeting_start (&outer.meeting, pool, task);
  wait_for_state (task, Q_TASK_STATE_SYNCING);
  meeting_start (&inner.meeting, pool, other);
  meeting_end (&outer.meeting, task, -1);
  meeting_end (&inner.meeting, other, -1);
  g_assert_cmpint (inner.n_deadlocks, ==, 1);
  test_pool_drop (pool);
}

/* A worker that is an owner itself, and waits in a pool of one for what needs its owner. */
static gboolean
owner_worker (QTask *task,
              gpointer pool,
              GError **error)
{
  GMainContext *context = g_main_context_new ();
  All all = { .meeting = MEETING_INIT (3) };
  QTask *inner;

  g_main_context_push_thread_default (context);
  inner = meeting_new (&all.meeting, resume_inside_cb);
  g_assert_true (q_task_open_channel (inner, NULL));
  q_task_channel_set_capacity (q_task_get_worker_channel (inner), 1);
  q_task_channel_set_message_func (q_task_get_channel (inner), all_message_cb, &all, NULL);
  test_pool_push (pool, inner, all_worker, &all, meeting_worker_data_destroy);
  g_assert_true (q_task_wait_until (inner, test_end_time (), NULL, NULL));
  g_assert_cmpint (all.meeting.called, ==, 1);
  g_assert_cmpuint (all.n_messages, ==, 3);
  g_assert_cmpint (all.meeting.n_funcs, ==, 3);
  while (g_main_context_iteration (context, FALSE))
    ;
  g_assert_finalize_object (inner);
  g_main_context_pop_thread_default (context);
  g_main_context_unref (context);

  return TRUE;
}

static void
test_owner_is_worker (void)
{
  QTaskPool *pool = q_task_pool_new ("owner", 1, 0);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  test_pool_push (pool, task, owner_worker, pool, NULL);
  test_finish (task);
  test_pool_drop (pool);
}

/* Called by the owner, it serves as a wait does. */
static void
test_run_in_thread_sync (void)
{
  Meeting meeting = MEETING_INIT (10);
  g_autoptr (GError) error = NULL;
  QTask *task = meeting_new (&meeting, resume_inside_cb);

  q_task_run_in_thread_sync (task, meeting_worker, &meeting, meeting_worker_data_destroy);
  g_assert_false (q_task_propagate_error (task, &error));
  g_assert_no_error (error);
  g_assert_cmpint (meeting.n_funcs, ==, 10);
  g_assert_cmpint (meeting.n_went_on, ==, 10);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  test_assert_destroyed_here (&meeting.worker_data);
  test_assert_destroyed_here (&meeting.sync_data);
}

/* A worker that waits for a task that syncs */

static void
test_worker_waits (gconstpointer helps)
{
  QTaskPool *pool = q_task_pool_new ("nested", 1, 0);
  Meeting meeting = MEETING_INIT (20);
  QTask *task = meeting_new (&meeting, resume_later_cb);
  QTask *waits = q_task_new (NULL, NULL, NULL, NULL);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  TestHold hold = TEST_HOLD_INIT;
  QTaskPoolStats stats;

  /* In a pool of one: it runs the other itself, if that is still queued. */
  if (helps)
    {
      test_pool_push (pool, held, test_hold_worker, &hold, NULL);
      test_gate_wait (&hold.entered);
      q_task_set_priority (waits, -1);
      test_pool_push (pool, waits, test_wait_worker, task, NULL);
      meeting_start (&meeting, pool, task);
      test_gate_open (&hold.release);
    }
  else
    {
      q_task_complete (held);
      meeting_start (&meeting, pool, task);
      wait_for_state (task, Q_TASK_STATE_SYNCING);
      test_pool_push (pool, waits, test_wait_worker, task, NULL);
    }

  test_run_until (NULL, meeting.called && q_task_get_completed (waits));
  g_assert_false (q_task_had_error (waits));
  g_assert_finalize_object (waits);
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 20);
  test_finish (held);
  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.running, ==, 0);
  g_assert_cmpuint (stats.parked, ==, 0);
  test_pool_drop (pool);
}

/* While a helped task syncs, the pool of one runs others. */
static void
test_helped_syncs_and_pool_goes_on (void)
{
  QTaskPool *pool = q_task_pool_new ("nested", 1, 0);
  Meeting meeting = MEETING_INIT (1);
  QTask *task = meeting_new (&meeting, leave_cb);
  QTask *waits = q_task_new (NULL, NULL, NULL, NULL);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *other = q_task_new (NULL, NULL, NULL, NULL);
  TestHold hold = TEST_HOLD_INIT;

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_pool_push (pool, waits, test_wait_worker, task, NULL);
  meeting_start (&meeting, pool, task);
  test_gate_open (&hold.release);
  test_run_until (NULL, meeting.n_funcs);
  test_pool_push (pool, other, test_empty_worker, NULL, NULL);
  test_finish (other);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  g_assert_cmpint (q_task_poll (waits), ==, Q_TASK_STATE_RUNNING);
  g_assert_true (q_task_resume (task, FALSE));
  meeting_end (&meeting, task, -1);
  test_finish (waits);
  test_finish (held);
  test_pool_drop (pool);
}

/* References and pools that go */

static void
test_nobody_keeps_task (void)
{
  QTaskPool *pool = q_task_pool_new ("unref", 1, 0);
  Meeting meeting = MEETING_INIT (10);
  TestFate fate = TEST_FATE_INIT;
  QTask *task = meeting_new (&meeting, resume_later_cb);

  test_fate_watch (&fate, task);
  meeting_start (&meeting, pool, task);
  g_object_unref (task);
  test_run_until (NULL, test_fate_get_count (&fate));
  test_run_pending (NULL);
  test_assert_destroyed_here (&fate);
  test_assert_destroyed_here (&meeting.opaque);
  test_assert_destroyed_here (&meeting.sync_data);
  test_assert_destroyed_here (&meeting.worker_data);
  g_assert_cmpint (meeting.called, ==, 1);
  g_assert_cmpint (meeting.n_went_on, ==, 10);
  test_pool_drop (pool);
}

static void
test_pool_goes (void)
{
  QTaskPool *pool = q_task_pool_new ("goes", 1, 0);
  Meeting meeting = MEETING_INIT (10);
  QTask *task = meeting_new (&meeting, resume_later_cb);

  meeting_start (&meeting, pool, task);
  test_run_until (NULL, meeting.n_funcs == 2);
  g_object_unref (pool);
  meeting_end (&meeting, task, -1);
  g_assert_cmpint (meeting.n_funcs, ==, 10);
}

static gpointer
drain_thread (gpointer pool)
{
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));

  return NULL;
}

static void
test_pool_drains (void)
{
  QTaskPool *pool = q_task_pool_new ("drains", 1, 0);
  Meeting meeting = MEETING_INIT (10);
  QTask *task = meeting_new (&meeting, resume_later_cb);
  GThread *thread;

  meeting_start (&meeting, pool, task);
  test_run_until (NULL, meeting.n_funcs == 2);
  thread = g_thread_new ("drain", drain_thread, pool);
  test_poll_until (q_task_pool_is_closed (pool));
  meeting_end (&meeting, task, -1);
  g_thread_join (thread);
  g_assert_cmpint (meeting.n_funcs, ==, 10);
  test_pool_drop (pool);
}

/* Races */

/* However many resume it: one does, each time. */
typedef struct
{
  QTask *task;
  int n_resumed;
  int is_over;
} Hammer;

static gpointer
hammer_thread (gpointer data)
{
  Hammer *hammer = data;

  while (!g_atomic_int_get (&hammer->is_over))
    {
      if (q_task_resume (hammer->task, FALSE))
        g_atomic_int_inc (&hammer->n_resumed);
      g_thread_yield ();
    }

  return NULL;
}

static void
test_resume_hammered (gconstpointer with_func)
{
  QTaskPool *pool = q_task_pool_new ("hammer", 1, 0);
  Meeting meeting = MEETING_INIT (test_scaled (2000));
  QTask *task = meeting_new (&meeting, NULL);
  Hammer hammer = { task, 0, FALSE };
  GThread *threads[3];

  /* Whether it is called or not, it does not run beside the worker. */
  if (with_func)
    q_task_set_sync_func (task, leave_cb, &meeting, meeting_sync_data_destroy);
  for (int i = 0; i < 3; i++)
    threads[i] = g_thread_new ("hammer", hammer_thread, &hammer);
  meeting_start (&meeting, pool, task);
  test_run_until (NULL, meeting.called);
  g_atomic_int_set (&hammer.is_over, TRUE);
  for (int i = 0; i < 3; i++)
    g_thread_join (threads[i]);
  g_assert_cmpint (hammer.n_resumed, ==, meeting.n_syncs);
  meeting_end (&meeting, task, -1);
  test_pool_drop (pool);
}

/* Cancelled and resumed at the same time: it goes on, or stops, once. */
static void
test_resume_and_cancel_race (void)
{
  QTaskPool *pool = q_task_pool_new ("race", 1, 0);
  int n = test_scaled (300), n_stopped = 0;

  for (int i = 0; i < n; i++)
    {
      Meeting meeting = MEETING_INIT (1);
      QTask *task = meeting_new (&meeting, i % 2 == 0 ? leave_cb : NULL);
      GThread *thread;

      meeting_start (&meeting, pool, task);
      if (i % 2 == 0)
        test_run_until (NULL, meeting.n_funcs);
      else
        wait_for_state (task, Q_TASK_STATE_SYNCING);
      thread = g_thread_new ("cancel", cancel_thread, task);
      q_task_resume (task, FALSE);
      test_run_until (NULL, meeting.called);
      g_thread_join (thread);
      g_assert_true (meeting.has_stopped != (meeting.n_went_on == 1));
      n_stopped += meeting.has_stopped;
      g_assert_finalize_object (task);
      g_clear_error (&meeting.error);
      g_clear_error (&meeting.stop_error);
      test_assert_destroyed_here (&meeting.opaque);
      test_assert_destroyed_here (&meeting.worker_data);
    }

  g_test_message ("%d of %d were stopped", n_stopped, n);
  test_pool_drop (pool);
}

/* Owners of several contexts, each with tasks that sync with it */
typedef struct
{
  QTaskPool *pool;
  int n_called;
  int n_wanted;
} Owner;

static gboolean
sync_worker (QTask *task,
             gpointer data,
             GError **error)
{
  int *plain = data;

  for (int i = 0; i < 20; i++)
    {
      (*plain)++;
      if (!q_task_sync (task, error))
        return FALSE;
      g_assert_cmpint (*plain, ==, 2 * i + 2);
    }

  return TRUE;
}

static void
owner_sync_cb (QTask *task,
               gpointer data)
{
  int *plain = data;

  g_assert_true (q_task_resume (task, FALSE));
  (*plain)++;
}

static void
owner_completed_cb (QTask *task,
                    gpointer data)
{
  g_autoptr (GError) error = NULL;

  q_task_propagate_error (task, &error);
  g_assert_no_error (error);
  ((Owner *) data)->n_called++;
}

static gpointer
owner_thread (gpointer data)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  Owner *owner = data;

  g_main_context_push_thread_default (context);
  for (int i = 0; i < owner->n_wanted; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, owner_completed_cb, owner, NULL);
      int *plain = g_new0 (int, 1);

      q_task_set_sync_func (task, owner_sync_cb, plain, NULL);
      test_pool_push (owner->pool, task, sync_worker, plain, g_free);
    }
  test_run_until (context, owner->n_called == owner->n_wanted);
  g_main_context_pop_thread_default (context);

  return NULL;
}

static void
test_several_owners (void)
{
  QTaskPool *pool = q_task_pool_new ("owners", 3, 0);
  Owner owners[3];
  GThread *threads[3];

  for (int i = 0; i < 3; i++)
    {
      owners[i] = (Owner){ pool, 0, test_scaled (100) };
      threads[i] = g_thread_new ("owner", owner_thread, &owners[i]);
    }
  for (int i = 0; i < 3; i++)
    g_thread_join (threads[i]);
  test_pool_drop (pool);
}

#define add(path, func) g_test_add_func ("/sync/" path, func)
#define add_data(path, data, func) g_test_add_data_func ("/sync/" path, GINT_TO_POINTER (data), func)

static void
add_stops (const char *where,
           GTestDataFunc func,
           guint without)
{
  for (int i = 0; i < N_STOPS; i++)
    if ((without & 1u << i) == 0)
      {
        g_autofree char *path = g_strdup_printf ("/sync/stopped-%s/%s", where, stop_names[i]);

        g_test_add_data_func (path, GINT_TO_POINTER (i), func);
      }
}

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  add ("resumed-in-function", test_resumed_inside);
  add ("resumed-twice-in-function", test_resumed_twice_inside);
  add ("resumed-elsewhere-in-function", test_resumed_elsewhere_inside);
  add ("resumed-later", test_resumed_later);
  add ("resumed-elsewhere", test_resumed_elsewhere);
  add ("without-function", test_without_function);
  add ("resumed-before-owner-is-told", test_resumed_before_told);
  add ("function-changes", test_function_changes);
  add ("function-replaces-itself", test_function_replaces_itself);
  add ("resume-is-refused", test_refused);
  add ("resume-is-refused-without-worker", test_refused_without_worker);
  add ("only-the-worker-syncs", test_only_worker_syncs);

  add_stops ("before", test_stopped_before, 1u << STOP_RESUME | 1u << STOP_RESUME_ELSEWHERE);
  add_stops ("before-owner-is-told", test_stopped_before_told, 1u << STOP_TIMEOUT);
  add ("stopped-before-owner-is-told/timeout", test_timeout_before_told);
  add_stops ("in-function", test_stopped_inside, 0);
  add_stops ("after-function", test_stopped_after, 0);
  add_stops ("without-function", test_stopped_without_function, 0);
  add ("resumed-and-cancelled-in-function", test_resumed_and_cancelled_inside);
  add ("cancelled-and-resumed-in-function", test_cancelled_and_resumed_inside);
  add ("return-on-cancel", test_return_on_cancel);
  add_data ("context-goes-before", GOES_BEFORE, test_context_goes);
  add_data ("context-goes-before-owner-is-told", GOES_BEFORE_TOLD, test_context_goes);
  add_data ("context-goes-after-function", GOES_AFTER, test_context_goes);
  add_data ("detached", FALSE, test_detached);
  add_data ("detached-while-syncing", TRUE, test_detached);

  add ("pool-of-one-goes-on", test_pool_of_one_goes_on);
  add ("many-parked", test_many_parked);
  add ("serial-pool-waits", test_serial_pool_waits);
  g_test_add_func ("/pain/18-sync-point-polls", test_no_poll_timer);

  add ("owner-waits", test_owner_waits);
  add ("owner-waits-late", test_owner_waits_late);
  add ("owner-waits-resumed-elsewhere", test_owner_waits_resumed_elsewhere);
  add_data ("owner-waits-for-a-while", FALSE, test_owner_waits_in_vain);
  add_data ("owner-waits-and-gives-up", TRUE, test_owner_waits_in_vain);
  add_data ("owner-waits-in-function", FALSE, test_owner_waits_in_function);
  add_data ("owner-waits-in-function-of-a-wait", TRUE, test_owner_waits_in_function);
  add ("owner-waits-in-function-for-waiter", test_owner_waits_in_function_for_waiter);
  add ("owner-waits-in-nested-function", test_owner_waits_in_nested_function);
  add ("owner-closes-pool-in-function", test_owner_closes_pool_in_function);
  add ("owner-is-worker", test_owner_is_worker);
  add ("owner-waits-timeout", test_timeout_while_owner_waits);
  add_data ("messages-and-progress", FALSE, test_all_together);
  add_data ("messages-and-progress-owner-waits", TRUE, test_all_together);
  add ("run-in-thread-sync", test_run_in_thread_sync);
  add_data ("worker-waits", FALSE, test_worker_waits);
  add_data ("worker-waits-and-helps", TRUE, test_worker_waits);
  add ("worker-waits-and-pool-goes-on", test_helped_syncs_and_pool_goes_on);

  add ("nobody-keeps-the-task", test_nobody_keeps_task);
  add ("pool-goes", test_pool_goes);
  add ("pool-drains", test_pool_drains);
  add_data ("resume-hammered", FALSE, test_resume_hammered);
  add_data ("resume-hammered-with-function", TRUE, test_resume_hammered);
  add ("resume-and-cancel-race", test_resume_and_cancel_race);
  add ("several-owners", test_several_owners);

  return g_test_run ();
}
