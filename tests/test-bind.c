/* test-bind.c: tasks that are bound to objects, and to callbacks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The main thread is the owner, of the default context, unless told otherwise.
 */

#include <malloc.h>
#include <string.h>
#include <time.h>

#include "test-util.h"

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 33)
#define HAVE_MALLINFO2
#endif
#endif

/* Bound: one task with all that is dropped, or released, when its object goes */
typedef struct
{
  TestHold hold;
  TestFate object;
  TestFate opaque;
  TestFate sync_data;
  TestFate bind_data;
  TestFate message_data;
  TestFate worker_data;
  TestFate result;
  GThread *owner;
  int n_called;
  int n_synced;
  int n_bound;    /* messages that came to the bound callback */
  int n_ends;     /* NULLs that did */
  int n_messages; /* that came to the message function */
  int was_asked;  /* by the worker: whether it was asked to stop */
  GError *error;
} Bound;

#define BOUND_INIT \
  { \
    .hold = TEST_HOLD_INIT, .object = TEST_FATE_INIT, .opaque = TEST_FATE_INIT, \
    .sync_data = TEST_FATE_INIT, .bind_data = TEST_FATE_INIT, .message_data = TEST_FATE_INIT, \
    .worker_data = TEST_FATE_INIT, .result = TEST_FATE_INIT, .owner = g_thread_self (), \
    .was_asked = -1 \
  }

static void
opaque_destroy (gpointer data)
{
  test_fate_notify (&((Bound *) data)->opaque);
}

static void
sync_data_destroy (gpointer data)
{
  test_fate_notify (&((Bound *) data)->sync_data);
}

static void
bind_data_destroy (gpointer data)
{
  test_fate_notify (&((Bound *) data)->bind_data);
}

static void
worker_data_destroy (gpointer data)
{
  test_fate_notify (&((Bound *) data)->worker_data);
}

static void
completed_cb (QTask *task,
              gpointer data)
{
  Bound *bound = data;

  g_assert_true (g_thread_self () == bound->owner);
  g_assert_cmpint (bound->n_called, ==, 0);
  bound->n_called++;
  q_task_propagate_error (task, &bound->error);
}

static void
resume_cb (QTask *task,
           gpointer data)
{
  Bound *bound = data;

  g_assert_true (g_thread_self () == bound->owner);
  bound->n_synced++;
  g_assert_true (q_task_resume (task, FALSE));
}

static void
leave_cb (QTask *task,
          gpointer data)
{
  Bound *bound = data;

  g_assert_true (g_thread_self () == bound->owner);
  bound->n_synced++;
}

static void
bound_cb (QTask *task,
          GBytes *message,
          gpointer data)
{
  Bound *bound = data;

  g_assert_true (g_thread_self () == bound->owner);
  g_assert_cmpint (bound->n_called, ==, 0);
  g_assert_cmpint (bound->n_ends, ==, 0);
  test_assert_alive (&bound->bind_data);

  if (message == NULL)
    bound->n_ends++;
  else
    g_assert_cmpint (*(const int *) g_bytes_get_data (message, NULL), ==, bound->n_bound++);
}

static QTask *
bound_new (Bound *bound,
           QTaskSyncFunc sync)
{
  QTask *task = q_task_new (NULL, completed_cb, bound, opaque_destroy);

  q_task_set_sync_func (task, sync, bound, sync_data_destroy);
  g_assert_true (q_task_open_channel (task, NULL));
  q_task_bind_callback (task, bound_cb, bound, bind_data_destroy);

  return task;
}

/* Enters, waits to be released, writes, and tells whether it was asked to stop. */
static gboolean
bound_worker (QTask *task,
              gpointer data,
              GError **error)
{
  g_autoptr (GError) write_error = NULL;
  Bound *bound = data;
  int message = 0;

  test_gate_open (&bound->hold.entered);
  test_gate_wait (&bound->hold.release);
  q_task_channel_write (q_task_get_worker_channel (task), &message, sizeof message, NULL, &write_error);
  if (write_error != NULL)
    g_assert_true (g_error_matches (write_error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE) ||
                   g_error_matches (write_error, G_IO_ERROR, G_IO_ERROR_CLOSED));
  q_task_set_result_pointer (task, &bound->result, test_fate_notify);
  bound->was_asked = q_task_is_cancelled (task);

  return TRUE;
}

static void
bound_start (Bound *bound,
             QTaskPool *pool,
             QTask *task)
{
  test_pool_push (pool, task, bound_worker, bound, worker_data_destroy);
}

/* Whatever was given has been released by the owner. */
static void
bound_end (Bound *bound,
           QTask *task)
{
  test_run_until (NULL, test_fate_get_count (&bound->opaque) &&
                          test_fate_get_count (&bound->worker_data) && q_task_get_completed (task));
  test_run_pending (NULL);
  test_assert_destroyed_here (&bound->sync_data);
  test_assert_destroyed_here (&bound->bind_data);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  test_assert_destroyed_here (&bound->opaque);
  test_assert_destroyed_here (&bound->sync_data);
  test_assert_destroyed_here (&bound->bind_data);
  test_assert_destroyed_here (&bound->worker_data);
  if (test_fate_get_count (&bound->result) > 0)
    test_assert_destroyed_here (&bound->result);
  g_clear_error (&bound->error);
}

static void
assert_not_called (Bound *bound)
{
  g_assert_cmpint (bound->n_called, ==, 0);
  g_assert_cmpint (bound->n_bound, ==, 0);
  g_assert_cmpint (bound->n_ends, ==, 0);
}

/* How the object goes */

typedef enum
{
  BY_UNREF,
  BY_DISPOSE,   /* it stays alive */
  BY_OTHER,     /* the last reference is dropped in another thread */
  BY_OTHER_RUN, /* and it is disposed in another thread, and stays alive */
  N_BYS
} By;

static const char *const by_names[N_BYS] = {
  "unref", "run-dispose", "unref-elsewhere", "run-dispose-elsewhere"
};

static void
unref_func (gpointer object,
            gpointer data)
{
  g_object_unref (object);
}

static void
dispose_func (gpointer object,
              gpointer data)
{
  g_object_run_dispose (object);
}

/* The object has gone, and is unreferenced later by object_drop(). */
static void
object_go (GObject *object,
           By by)
{
  switch (by)
    {
    case BY_UNREF:
      g_object_unref (object);
      break;
    case BY_DISPOSE:
      g_object_run_dispose (object);
      break;
    case BY_OTHER:
      test_in_thread (unref_func, object);
      break;
    case BY_OTHER_RUN:
      test_in_thread (dispose_func, object);
      break;
    default:
      g_assert_not_reached ();
    }
}

static void
object_drop (GObject *object,
             By by)
{
  if (by == BY_DISPOSE || by == BY_OTHER_RUN)
    g_assert_finalize_object (object);
}

static gboolean
by_owner (By by)
{
  return by == BY_UNREF || by == BY_DISPOSE;
}

/* When it goes */

typedef enum
{
  WHEN_NEW,
  WHEN_QUEUED,
  WHEN_RUNNING,
  WHEN_ENDED, /* the worker has, the owner does not know yet */
  WHEN_COMPLETED,
  N_WHENS
} When;

static const char *const when_names[N_WHENS] = {
  "before-the-start", "while-queued", "while-running", "when-ended", "when-completed"
};

#define GOES(when, by, outlive) GINT_TO_POINTER ((when) *100 + (by) *10 + (outlive))

static void
test_goes (gconstpointer data)
{
  When when = (When) (GPOINTER_TO_INT (data) / 100);
  By by = (By) (GPOINTER_TO_INT (data) / 10 % 10);
  gboolean outlives = GPOINTER_TO_INT (data) % 10;
  QTaskPool *pool = q_task_pool_new ("goes", 1, 0);
  Bound bound = BOUND_INIT;
  TestHold hold = TEST_HOLD_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = bound_new (&bound, resume_cb);
  gboolean runs;

  q_task_bind_object (task, object, outlives ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);

  if (when != WHEN_NEW)
    bound_start (&bound, pool, task);
  if (when >= WHEN_RUNNING)
    {
      test_gate_open (&hold.release);
      test_gate_wait (&bound.hold.entered);
    }
  if (when >= WHEN_ENDED)
    {
      test_gate_open (&bound.hold.release);
      test_poll_until (q_task_poll (task) == Q_TASK_STATE_FINISHED);
    }
  if (when == WHEN_COMPLETED)
    test_run_until (NULL, bound.n_called);

  object_go (object, by);

  /* The owner asks it to stop at once; so it does when it hears of it. */
  if (!by_owner (by))
    {
      /* Nothing was called, or released, in that thread. */
      if (when != WHEN_COMPLETED)
        {
          assert_not_called (&bound);
          test_assert_alive (&bound.opaque);
          test_assert_alive (&bound.worker_data);
        }
      test_run_pending (NULL);
    }
  if (when < WHEN_ENDED)
    g_assert_cmpint (q_task_is_cancelled (task), ==, !outlives);
  else
    g_assert_false (when == WHEN_COMPLETED && q_task_is_cancelled (task));

  if (when == WHEN_NEW)
    bound_start (&bound, pool, task);
  test_gate_open (&hold.release);
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.worker_data));

  runs = when >= WHEN_RUNNING || outlives;
  g_assert_cmpint (test_gate_get_count (&bound.hold.entered), ==, runs);
  if (runs)
    g_assert_cmpint (bound.was_asked, ==, when <= WHEN_RUNNING && !outlives);

  if (when == WHEN_COMPLETED)
    {
      g_assert_cmpint (bound.n_called, ==, 1);
      g_assert_cmpint (bound.n_bound, ==, 1);
      g_assert_cmpint (bound.n_ends, ==, 1);
      g_assert_no_error (bound.error);
    }
  else
    {
      assert_not_called (&bound);
    }
  g_assert_cmpint (bound.n_synced, ==, 0);
  bound_end (&bound, task);
  object_drop (object, by);
  g_assert_cmpint (test_fate_get_count (&bound.object), ==, 1);
  test_finish (held);
  test_pool_drop (pool);
}

/* The outcome of one that runs on can be read by whoever keeps it. */
static void
test_outcome (gconstpointer outlives)
{
  QTaskPool *pool = q_task_pool_new ("outcome", 1, 0);
  g_autoptr (GError) error = NULL;
  TestHold hold = TEST_HOLD_INIT;
  GObject *object = test_probe_new (NULL);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_bind_object (task, object, outlives ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, outlives ? test_hold_worker : test_stoppable_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  g_object_unref (object);
  test_gate_open (&hold.release);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_assert_cmpint (q_task_poll (task), ==, outlives ? Q_TASK_STATE_FINISHED : Q_TASK_STATE_STOPPED);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  if (outlives)
    {
      g_assert_false (q_task_had_error (task));
    }
  else
    {
      g_assert_true (q_task_propagate_error (task, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* A bound task keeps no reference to its object, and the object none to the task. */
static void
test_no_references (void)
{
  TestFate fate = TEST_FATE_INIT;
  GObject *object = test_probe_new (&fate);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  g_assert_cmpuint (object->ref_count, ==, 1);
  g_assert_cmpuint (G_OBJECT (task)->ref_count, ==, 1);
  q_task_complete (task);
  g_assert_finalize_object (task);
  g_assert_finalize_object (object);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
}

/* Bound when it runs already */
static void
test_bound_while_running (gconstpointer queued)
{
  QTaskPool *pool = q_task_pool_new ("late", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Bound bound = BOUND_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = bound_new (&bound, resume_cb);

  if (queued)
    {
      test_pool_push (pool, held, test_hold_worker, &hold, NULL);
      test_gate_wait (&hold.entered);
      bound_start (&bound, pool, task);
    }
  else
    {
      q_task_complete (held);
      bound_start (&bound, pool, task);
      test_gate_wait (&bound.hold.entered);
    }
  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  g_object_unref (object);
  g_assert_true (q_task_is_cancelled (task));
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  assert_not_called (&bound);
  bound_end (&bound, task);
  test_gate_open (&hold.release);
  test_finish (held);
  test_pool_drop (pool);
}

/* While it syncs: one that is asked to stop does, one that outlives goes on. */
static gboolean
sync_worker (QTask *task,
             gpointer data,
             GError **error)
{
  Bound *bound = data;

  for (int i = 0; i < 3; i++)
    {
      test_gate_open (&bound->hold.entered);
      if (!q_task_sync (task, error))
        {
          bound->was_asked = TRUE;
          return FALSE;
        }
    }
  bound->was_asked = FALSE;

  return TRUE;
}

static QTaskStep
sync_step (QTask *task,
           gpointer data,
           GError **error)
{
  Bound *bound = data;

  if (q_task_is_cancelled (task))
    {
      bound->was_asked = TRUE;
      return Q_TASK_STEP_STOPPED;
    }
  test_gate_open (&bound->hold.entered);
  if (test_gate_get_count (&bound->hold.entered) < 3)
    return Q_TASK_STEP_SYNC;
  bound->was_asked = FALSE;

  return Q_TASK_STEP_FINISHED;
}

#define SYNCING(steps, by, outlive) GINT_TO_POINTER ((steps) *100 + (by) *10 + (outlive))

static void
test_goes_while_syncing (gconstpointer data)
{
  gboolean steps = GPOINTER_TO_INT (data) / 100;
  By by = (By) (GPOINTER_TO_INT (data) / 10 % 10);
  gboolean outlives = GPOINTER_TO_INT (data) % 10;
  QTaskPool *pool = q_task_pool_new ("syncing", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *task = bound_new (&bound, leave_cb);

  q_task_bind_object (task, object, outlives ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
  if (steps)
    test_pool_push_steps (pool, task, sync_step, &bound, worker_data_destroy);
  else
    test_pool_push (pool, task, sync_worker, &bound, worker_data_destroy);
  test_run_until (NULL, bound.n_synced == 1);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  object_go (object, by);
  test_run_until (NULL, test_fate_get_count (&bound.opaque) &&
                          test_fate_get_count (&bound.worker_data));
  g_assert_cmpint (bound.n_synced, ==, 1);
  g_assert_cmpint (bound.was_asked, ==, !outlives);
  g_assert_cmpint (q_task_poll (task), ==,
                   outlives ? Q_TASK_STATE_FINISHED : Q_TASK_STATE_STOPPED);
  assert_not_called (&bound);
  bound_end (&bound, task);
  object_drop (object, by);
  test_pool_drop (pool);
}

/* Nobody reads what a worker writes then: it is not blocked for ever by that. */
static gboolean
write_many_worker (QTask *task,
                   gpointer data,
                   GError **error)
{
  Bound *bound = data;
  gboolean success = TRUE;

  test_gate_open (&bound->hold.entered);
  for (int i = 0; i < 100 && success; i++)
    {
      g_autoptr (GError) write_error = NULL;

      success = q_task_channel_write (q_task_get_worker_channel (task), &i, sizeof i, NULL, &write_error);
      if (!success)
        g_assert_true (g_error_matches (write_error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE) ||
                       g_error_matches (write_error, G_IO_ERROR, G_IO_ERROR_CLOSED));
    }
  bound->was_asked = q_task_is_cancelled (task);

  return TRUE;
}

static void
test_goes_while_writing (gconstpointer outlives)
{
  QTaskPool *pool = q_task_pool_new ("writing", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *task = bound_new (&bound, leave_cb);

  q_task_channel_set_capacity (q_task_get_worker_channel (task), 1);
  q_task_bind_object (task, object, outlives ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, write_many_worker, &bound, worker_data_destroy);
  test_gate_wait (&bound.hold.entered);
  g_object_unref (object);
  test_run_until (NULL, test_fate_get_count (&bound.opaque) &&
                          test_fate_get_count (&bound.worker_data));
  g_assert_cmpint (bound.was_asked, ==, !outlives);
  assert_not_called (&bound);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* The message function of the user is not called any more, and a worker that writes on is told
 * that nobody reads. */
typedef struct
{
  int n_messages;
  gboolean has_gone;
  GError *write_error;
} Unread;

static void
unread_cb (QTaskChannel *channel,
           GBytes *message,
           gpointer data)
{
  Unread *unread = data;

  g_assert_false (unread->has_gone);
  unread->n_messages++;
}

static gboolean
write_until_refused_worker (QTask *task,
                            gpointer data,
                            GError **error)
{
  Unread *unread = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);

  while (q_task_channel_write (channel, "unread", 6, NULL, &unread->write_error))
    ;

  return TRUE;
}

static void
test_goes_while_messages_are_read (void)
{
  QTaskPool *pool = q_task_pool_new ("unread", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  Unread unread = { 0 };
  GObject *object = test_probe_new (&fate);
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 20);
  q_task_channel_set_message_func (q_task_get_channel (task), unread_cb, &unread, NULL);
  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, write_until_refused_worker, &unread, NULL);
  test_run_until (NULL, unread.n_messages > 10);
  g_object_unref (object);
  unread.has_gone = TRUE;
  test_finish (task);
  g_assert_error (unread.write_error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  g_assert_cmpint (report.called, ==, 0);
  g_clear_error (&unread.write_error);
  test_report_clear (&report);
  test_pool_drop (pool);
}

/* In another thread, that is only posted to the owner. What is set then comes too late. */
static void
cancelled_here_cb (GCancellable *cancellable,
                   gpointer owner)
{
  g_assert_true (g_thread_self () == owner);
}

static void
dispose_elsewhere_cb (gpointer object,
                      gpointer unused)
{
  g_object_run_dispose (object);
}

static void
test_goes_elsewhere (gconstpointer outlives)
{
  QTaskPool *pool = q_task_pool_new ("elsewhere", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *task = bound_new (&bound, resume_cb);

  g_signal_connect (q_task_get_stop_cancellable (task), "cancelled", G_CALLBACK (cancelled_here_cb),
                    bound.owner);
  q_task_bind_object (task, object, outlives ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
  bound_start (&bound, pool, task);
  test_gate_wait (&bound.hold.entered);
  test_in_thread (dispose_elsewhere_cb, object);
  g_assert_false (q_task_is_cancelled (task));
  q_task_set_outlive (task, !outlives);
  test_run_pending (NULL);
  g_assert_cmpint (q_task_is_cancelled (task), ==, !outlives);
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  g_assert_cmpint (bound.was_asked, ==, !outlives);
  assert_not_called (&bound);
  g_object_unref (object);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* In its own sync function, the object goes. */
static GObject *goes_in_func;

static void
unref_in_sync_cb (QTask *task,
                  gpointer data)
{
  Bound *bound = data;

  bound->n_synced++;
  g_clear_object (&goes_in_func);
  test_assert_alive (&bound->sync_data);
}

static void
test_goes_in_sync_func (gconstpointer outlives)
{
  QTaskPool *pool = q_task_pool_new ("syncing", 1, 0);
  Bound bound = BOUND_INIT;
  QTask *task = bound_new (&bound, unref_in_sync_cb);

  goes_in_func = test_probe_new (&bound.object);
  q_task_bind_object (task, goes_in_func, outlives ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, sync_worker, &bound, worker_data_destroy);
  test_run_until (NULL, test_fate_get_count (&bound.opaque) &&
                          test_fate_get_count (&bound.worker_data));
  g_assert_cmpint (bound.n_synced, ==, 1);
  g_assert_cmpint (bound.was_asked, ==, !outlives);
  assert_not_called (&bound);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* In the completion callback, and in the bound one */
static void
unref_in_completed_cb (QTask *task,
                       gpointer data)
{
  Bound *bound = data;

  g_clear_object (&goes_in_func);
  test_assert_alive (&bound->opaque);
  completed_cb (task, data);
}

static void
unref_in_bound_cb (QTask *task,
                   GBytes *message,
                   gpointer data)
{
  Bound *bound = data;

  bound_cb (task, message, data);
  g_clear_object (&goes_in_func);
  test_assert_alive (&bound->bind_data);
}

static void
test_goes_in_callback (gconstpointer in_bound)
{
  QTaskPool *pool = q_task_pool_new ("callback", 1, 0);
  Bound bound = BOUND_INIT;
  QTask *task = bound_new (&bound, resume_cb);

  goes_in_func = test_probe_new (&bound.object);
  if (in_bound)
    {
      q_task_bind_callback (task, unref_in_bound_cb, &bound, bind_data_destroy);
      test_assert_destroyed_here (&bound.bind_data);
      bound.bind_data = (TestFate) TEST_FATE_INIT;
    }
  else
    {
      q_task_set_func (task, unref_in_completed_cb, &bound, opaque_destroy);
      test_assert_destroyed_here (&bound.opaque);
      bound.opaque = (TestFate) TEST_FATE_INIT;
    }
  q_task_bind_object (task, goes_in_func, Q_TASK_BIND_DEFAULT);
  bound_start (&bound, pool, task);
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  g_assert_cmpint (bound.n_bound, ==, 1);
  g_assert_cmpint (bound.n_called, ==, in_bound ? 0 : 1);
  g_assert_cmpint (bound.n_ends, ==, in_bound ? 0 : 1);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* Outlive */

static void
test_outlive_property (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  gboolean outlive;

  g_assert_false (q_task_get_outlive (task));
  q_task_set_outlive (task, TRUE);
  g_assert_true (q_task_get_outlive (task));
  g_object_get (task, "outlive", &outlive, NULL);
  g_assert_true (outlive);
  g_object_set (task, "outlive", FALSE, NULL);
  g_assert_false (q_task_get_outlive (task));
  q_task_complete (task);
  g_assert_finalize_object (task);
}

/* Set by the worker, before the object goes or after */
static gboolean
outlive_worker (QTask *task,
                gpointer data,
                GError **error)
{
  q_task_set_outlive (task, TRUE);

  return bound_worker (task, data, error);
}

static void
test_outlive_by_worker (gconstpointer taken_back)
{
  QTaskPool *pool = q_task_pool_new ("outlive", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *task = bound_new (&bound, resume_cb);

  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, outlive_worker, &bound, worker_data_destroy);
  test_gate_wait (&bound.hold.entered);
  g_assert_true (q_task_get_outlive (task));
  if (taken_back)
    q_task_set_outlive (task, FALSE);
  g_object_unref (object);
  g_assert_cmpint (q_task_is_cancelled (task), ==, taken_back != NULL);
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  g_assert_cmpint (bound.was_asked, ==, taken_back != NULL);
  assert_not_called (&bound);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

static void
test_outlive_too_late (void)
{
  QTaskPool *pool = q_task_pool_new ("outlive", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *task = bound_new (&bound, resume_cb);

  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  bound_start (&bound, pool, task);
  test_gate_wait (&bound.hold.entered);
  g_object_unref (object);
  g_assert_true (q_task_is_cancelled (task));
  q_task_set_outlive (task, TRUE);
  g_assert_true (q_task_is_cancelled (task));
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  g_assert_true (bound.was_asked);
  assert_not_called (&bound);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* Without an object it changes nothing; the context that goes stops it all the same. */
static void
test_outlive_is_of_objects (void)
{
  QTaskPool *pool = q_task_pool_new ("outlive", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  TestContext context;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  q_task_set_outlive (task, TRUE);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  test_report_clear (&report);
  test_finish (task);

  test_context_begin (&context);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  q_task_set_outlive (task, TRUE);
  test_fate_watch (&fate, task);
  test_pool_push (pool, task, test_stoppable_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  g_object_unref (task);
  test_context_end (&context);
  test_fate_wait (&fate);
  g_assert_cmpint (report.called, ==, 0);
  test_pool_drop (pool);
}

/* Several */

static void
test_several_objects (gconstpointer first)
{
  QTaskPool *pool = q_task_pool_new ("several", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *objects[3];
  QTask *task = bound_new (&bound, resume_cb);

  for (int i = 0; i < 3; i++)
    {
      objects[i] = test_probe_new (NULL);
      q_task_bind_object (task, objects[i], Q_TASK_BIND_DEFAULT);
    }
  bound_start (&bound, pool, task);
  test_gate_wait (&bound.hold.entered);
  g_clear_object (&objects[GPOINTER_TO_INT (first)]);
  g_assert_true (q_task_is_cancelled (task));
  g_clear_object (&objects[(GPOINTER_TO_INT (first) + 1) % 3]);
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  assert_not_called (&bound);
  bound_end (&bound, task);
  g_assert_finalize_object (objects[(GPOINTER_TO_INT (first) + 2) % 3]);
  test_pool_drop (pool);
}

/* One whose going it survives, and one whose going it does not */
static void
test_several_flags (void)
{
  QTaskPool *pool = q_task_pool_new ("several", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *outlived = test_probe_new (NULL);
  GObject *needed = test_probe_new (NULL);
  QTask *task = bound_new (&bound, resume_cb);

  q_task_bind_object (task, outlived, Q_TASK_BIND_OUTLIVE);
  q_task_bind_object (task, needed, Q_TASK_BIND_DEFAULT);
  bound_start (&bound, pool, task);
  test_gate_wait (&bound.hold.entered);
  g_object_unref (outlived);
  g_assert_false (q_task_is_cancelled (task));
  g_object_unref (needed);
  g_assert_true (q_task_is_cancelled (task));
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  assert_not_called (&bound);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* Twice to the same, and to its source */
static void
test_same_object_twice (void)
{
  QTaskPool *pool = q_task_pool_new ("twice", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  GObject *object = test_probe_new (NULL);
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, test_stoppable_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  g_object_unref (object);
  g_assert_true (q_task_is_cancelled (task));
  g_assert_true (q_task_wait (task, NULL, NULL));
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* Bound to its own source, which it keeps: only a dispose tells. */
static void
test_own_source (void)
{
  QTaskPool *pool = q_task_pool_new ("source", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestFate fate = TEST_FATE_INIT;
  TestHold hold = TEST_HOLD_INIT;
  GObject *object = test_probe_new (&fate);
  QTask *task = q_task_new (object, test_report_cb, &report, NULL);

  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, test_stoppable_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  g_object_run_dispose (object);
  g_assert_true (q_task_is_cancelled (task));
  g_object_unref (object);
  test_assert_alive (&fate);
  g_assert_true (q_task_wait (task, NULL, NULL));
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&fate);
  test_pool_drop (pool);
}

/* Disposed before, but alive: that is as if it went now. */
static void
test_disposed_before (void)
{
  QTaskPool *pool = q_task_pool_new ("disposed", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  GObject *object = test_probe_new (NULL);
  QTask *first = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  q_task_bind_object (first, object, Q_TASK_BIND_DEFAULT);
  g_object_run_dispose (object);
  g_assert_true (q_task_is_cancelled (first));
  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  g_assert_true (q_task_is_cancelled (task));
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  g_assert_true (q_task_wait (task, NULL, NULL));
  test_run_pending (NULL);
  g_assert_cmpint (report.called, ==, 0);
  q_task_complete (first);
  g_assert_finalize_object (first);
  g_assert_finalize_object (task);
  g_assert_finalize_object (object);
  test_pool_drop (pool);
}

/* One object, and many tasks at once: it goes, or they end. */
typedef struct
{
  int n_called;
  int n_released;
  GThread *owner;
} Counts;

static void
counts_called_cb (QTask *task,
                  gpointer counts)
{
  ((Counts *) counts)->n_called++;
}

static void
counts_released (gpointer data)
{
  Counts *counts = data;

  g_assert_true (g_thread_self () == counts->owner);
  counts->n_released++;
}

static void
test_many_tasks_object_goes (gconstpointer by)
{
  QTaskPool *pool = q_task_pool_new ("many", 2, 0);
  TestHold hold = TEST_HOLD_INIT;
  Counts counts = { .owner = g_thread_self () };
  int n = test_scaled (5000);
  GObject *object = test_probe_new (NULL);
  QTask *held[2];

  for (int i = 0; i < 2; i++)
    {
      held[i] = q_task_new (NULL, NULL, NULL, NULL);
      test_pool_push (pool, held[i], test_hold_worker, &hold, NULL);
    }
  test_gate_wait_for (&hold.entered, 2);
  for (int i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, counts_called_cb, &counts, counts_released);

      q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
      test_pool_push (pool, task, test_empty_worker, NULL, NULL);
    }
  object_go (object, (By) GPOINTER_TO_INT (by));
  test_run_until (NULL, counts.n_released == n);
  g_assert_cmpint (counts.n_called, ==, 0);
  g_assert_cmpuint (test_pool_stats (pool).queued, ==, 0);
  object_drop (object, (By) GPOINTER_TO_INT (by));
  test_gate_open (&hold.release);
  for (int i = 0; i < 2; i++)
    test_finish (held[i]);
  test_pool_drop (pool);
}

/* A task that has completed leaves nothing behind on its object, */
static void
bind_and_complete (GObject *object,
                   int n)
{
  for (int i = 0; i < n; i++)
    {
      QTask *task = q_task_new (NULL, NULL, NULL, NULL);

      q_task_bind_object (task, object, i % 2 == 0 ? Q_TASK_BIND_DEFAULT : Q_TASK_BIND_OUTLIVE);
      q_task_complete (task);
      if (i % 1000 == 0)
        g_assert_finalize_object (task);
      else
        g_object_unref (task);
    }
}

static gsize
count_allocated (void)
{
#ifdef HAVE_MALLINFO2
  return mallinfo2 ().uordblks;
#else
  return 0;
#endif
}

static void
test_nothing_left (void)
{
  int n = test_scaled (100000);
  GObject *object = test_probe_new (NULL);
  gsize before, after;

  bind_and_complete (object, 100);
  before = count_allocated ();
  bind_and_complete (object, n);
  after = count_allocated ();

  g_test_message ("%d bytes more", (int) (after - before));
  g_assert_cmpuint (after, <, before + 10000);
  g_assert_cmpuint (object->ref_count, ==, 1);
  g_assert_finalize_object (object);
}

/* also if it is still kept, or never ran. */
static void
test_unbound_when_completed (gconstpointer withdrawn)
{
  QTaskPool *pool = q_task_pool_new ("unbound", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  GObject *object = test_probe_new (NULL);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);
  g_autoptr (GCancellable) stop = NULL;

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  stop = g_object_ref (q_task_get_stop_cancellable (task));
  if (withdrawn)
    q_task_cancel (task);
  test_gate_open (&hold.release);
  test_run_until (NULL, report.called);
  g_assert_cmpint (g_cancellable_is_cancelled (stop), ==, withdrawn != NULL);

  /* It hears no more of it. */
  g_assert_finalize_object (object);
  test_run_pending (NULL);
  g_assert_cmpint (g_cancellable_is_cancelled (stop), ==, withdrawn != NULL);
  g_assert_cmpint (report.called, ==, 1);
  test_report_clear (&report);
  test_finish (task);
  test_finish (held);
  test_pool_drop (pool);
}

/* What the calling thread has had of the processor, in microseconds */
static gint64
get_thread_time (void)
{
  struct timespec time;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &time);

  return time.tv_sec * G_USEC_PER_SEC + time.tv_nsec / 1000;
}

/* The cost of binding does not grow with the number of tasks that are bound. */
static double
time_bound (int n)
{
  GObject *object = test_probe_new (NULL);
  g_autoptr (GPtrArray) tasks = g_ptr_array_new_with_free_func (g_object_unref);
  gint64 begin;
  double took;

  for (int i = 0; i < n; i++)
    g_ptr_array_add (tasks, q_task_new (NULL, NULL, NULL, NULL));

  begin = get_thread_time ();
  for (int i = 0; i < n; i++)
    q_task_bind_object (tasks->pdata[i], object, Q_TASK_BIND_DEFAULT);
  for (int i = n - 1; i >= 0; i--)
    q_task_complete (tasks->pdata[i]);
  took = (double) (get_thread_time () - begin) / n;

  g_assert_finalize_object (object);

  return took;
}

static void
test_flat_cost (void)
{
  double few = G_MAXDOUBLE, many = G_MAXDOUBLE;

  for (int i = 0; i < 3; i++)
    {
      few = MIN (few, time_bound (test_scaled (2000)));
      many = MIN (many, time_bound (test_scaled (40000)));
    }

  g_test_message ("%.2f us each of a few, %.2f us each of many", few, many);
  g_assert_cmpfloat (many, <, few * 5 + 1);
}

/* The context goes before the object, and then the object, in whichever thread */
static void
test_context_goes_first (gconstpointer by)
{
  QTaskPool *pool = q_task_pool_new ("first", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  TestFate fate = TEST_FATE_INIT;
  TestContext context;
  GObject *object = test_probe_new (NULL);
  QTask *task;

  test_context_begin (&context);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_fate_watch (&fate, task);
  q_task_bind_object (task, object, Q_TASK_BIND_OUTLIVE);
  test_pool_push (pool, task, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  g_object_unref (task);
  test_context_end (&context);
  object_go (object, (By) GPOINTER_TO_INT (by));
  test_gate_open (&hold.release);
  test_fate_wait (&fate);
  g_assert_cmpint (report.called, ==, 0);
  object_drop (object, (By) GPOINTER_TO_INT (by));
  test_pool_drop (pool);
}

/* And it goes while the other thread's dispose is on its way. */
static void
test_context_goes_after_post (gconstpointer by)
{
  QTaskPool *pool = q_task_pool_new ("post", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestHold hold = TEST_HOLD_INIT;
  TestFate fate = TEST_FATE_INIT;
  TestContext context;
  GObject *object = test_probe_new (NULL);
  QTask *task;

  test_context_begin (&context);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_fate_watch (&fate, task);
  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, test_stoppable_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  object_go (object, (By) GPOINTER_TO_INT (by));
  g_object_unref (task);
  test_context_end (&context);
  test_fate_wait (&fate);
  g_assert_cmpint (report.called, ==, 0);
  object_drop (object, (By) GPOINTER_TO_INT (by));
  test_pool_drop (pool);
}

/* The object goes in another thread while the task ends. */
static gpointer
unref_thread (gpointer object)
{
  g_object_unref (object);

  return NULL;
}

static void
test_race (void)
{
  QTaskPool *pool = q_task_pool_new ("race", 2, 0);
  int n = test_scaled (2000);
  Counts counts = { .owner = g_thread_self () };

  for (int i = 0; i < n; i++)
    {
      GObject *object = test_probe_new (NULL);
      QTask *task = q_task_new (NULL, counts_called_cb, &counts, counts_released);
      GThread *thread;

      q_task_bind_object (task, object, i % 2 == 0 ? Q_TASK_BIND_DEFAULT : Q_TASK_BIND_OUTLIVE);
      test_pool_push (pool, task, test_empty_worker, NULL, NULL);
      thread = g_thread_new ("unref", unref_thread, object);
      test_run_until (NULL, counts.n_released == i + 1);
      g_thread_join (thread);
      /* What it posted holds no reference for long. */
      test_run_pending (NULL);
      g_assert_finalize_object (task);
    }

  g_test_message ("%d of %d callbacks came", counts.n_called, n);
  test_pool_drop (pool);
}

/* Waits for, and waits by */
static void
test_owner_waits (gconstpointer outlives)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Bound bound = BOUND_INIT;
  g_autoptr (GError) error = NULL;
  GObject *object = test_probe_new (&bound.object);
  QTask *task = bound_new (&bound, leave_cb);

  q_task_bind_object (task, object, outlives ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, sync_worker, &bound, worker_data_destroy);
  test_gate_wait (&bound.hold.entered);
  g_object_unref (object);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  test_run_until (NULL, test_fate_get_count (&bound.worker_data));
  g_assert_cmpint (bound.was_asked, ==, !outlives);
  assert_not_called (&bound);
  g_assert_cmpint (bound.n_synced, ==, 0);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* An owner that waits hears of another thread's dispose. */
static gpointer
unref_when_entered_thread (gpointer data)
{
  Bound *bound = data;

  test_gate_wait (&bound->hold.entered);
  g_object_unref (goes_in_func);

  return NULL;
}

static void
test_goes_while_owner_waits (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Bound bound = BOUND_INIT;
  QTask *task = bound_new (&bound, leave_cb);
  GThread *thread;

  goes_in_func = test_probe_new (&bound.object);
  q_task_bind_object (task, goes_in_func, Q_TASK_BIND_DEFAULT);
  test_pool_push (pool, task, sync_worker, &bound, worker_data_destroy);
  thread = g_thread_new ("unref", unref_when_entered_thread, &bound);
  g_assert_true (q_task_wait (task, NULL, NULL));
  g_thread_join (thread);
  goes_in_func = NULL;
  test_run_until (NULL, test_fate_get_count (&bound.worker_data));
  g_assert_true (bound.was_asked);
  assert_not_called (&bound);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* Somebody waits with wait_async(): this is not dropped. */
static void
waited_cb (GObject *source,
           GAsyncResult *result,
           gpointer count)
{
  g_assert_true (q_task_wait_finish (Q_TASK (source), result, NULL));
  (*(int *) count)++;
}

static void
test_wait_async (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Bound bound = BOUND_INIT;
  GObject *object = test_probe_new (&bound.object);
  QTask *task = bound_new (&bound, resume_cb);
  int n_waited = 0;

  q_task_bind_object (task, object, Q_TASK_BIND_DEFAULT);
  bound_start (&bound, pool, task);
  q_task_wait_async (task, NULL, waited_cb, &n_waited);
  test_gate_wait (&bound.hold.entered);
  g_object_unref (object);
  test_gate_open (&bound.hold.release);
  test_run_until (NULL, n_waited);
  test_run_until (NULL, test_fate_get_count (&bound.opaque));
  assert_not_called (&bound);
  test_run_pending (NULL);
  bound_end (&bound, task);
  test_pool_drop (pool);
}

/* bind_callback() */

typedef struct
{
  int n_to_write;
  int n_messages;
  int n_ends;
  int n_called;
  gboolean fails;
  GThread *owner;
  TestFate fate;
} Told;

#define TOLD_INIT(n) \
  { \
    .n_to_write = (n), .owner = g_thread_self (), .fate = TEST_FATE_INIT \
  }

static gboolean
write_worker (QTask *task,
              gpointer data,
              GError **error)
{
  Told *told = data;

  for (int i = 0; i < told->n_to_write; i++)
    if (!q_task_channel_write (q_task_get_worker_channel (task), &i, sizeof i, NULL, error))
      return FALSE;

  if (told->fails)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");

  return !told->fails;
}

static void
told_cb (QTask *task,
         GBytes *message,
         gpointer data)
{
  Told *told = data;

  g_assert_true (g_thread_self () == told->owner);
  g_assert_cmpint (told->n_called, ==, 0);
  g_assert_cmpint (told->n_ends, ==, 0);
  test_assert_alive (&told->fate);

  if (message == NULL)
    {
      told->n_ends++;
      g_assert_cmpint (told->n_messages, ==, told->n_to_write);
      /* The outcome can be read. */
      g_assert_cmpint (q_task_had_error (task), ==, told->fails);
    }
  else
    {
      g_assert_cmpuint (g_bytes_get_size (message), ==, sizeof (int));
      g_assert_cmpint (*(const int *) g_bytes_get_data (message, NULL), ==, told->n_messages++);
    }
}

static void
told_completed_cb (QTask *task,
                   gpointer data)
{
  Told *told = data;

  g_assert_true (g_thread_self () == told->owner);
  g_assert_cmpint (told->n_ends, ==, 1);
  told->n_called++;
}

static void
told_destroy (gpointer data)
{
  test_fate_notify (&((Told *) data)->fate);
}

#define TELL(channel_first, fails, waits) GINT_TO_POINTER ((channel_first) *4 + (fails) *2 + (waits))

static void
test_callback (gconstpointer data)
{
  gboolean channel_first = GPOINTER_TO_INT (data) & 4;
  gboolean waits = GPOINTER_TO_INT (data) & 1;
  QTaskPool *pool = q_task_pool_new ("callback", 1, 0);
  Told told = TOLD_INIT (test_scaled (5000));
  QTask *task = q_task_new (NULL, told_completed_cb, &told, NULL);

  told.fails = (GPOINTER_TO_INT (data) & 2) != 0;
  if (channel_first)
    g_assert_true (q_task_open_channel (task, NULL));
  q_task_bind_callback (task, told_cb, &told, told_destroy);
  if (!channel_first)
    g_assert_true (q_task_open_channel (task, NULL));
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 1000);
  q_task_set_completion_priority (task, G_PRIORITY_HIGH);
  test_pool_push (pool, task, write_worker, &told, NULL);
  if (waits)
    g_assert_true (q_task_wait (task, NULL, NULL));
  test_run_until (NULL, told.n_called);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  g_assert_cmpint (told.n_ends, ==, 1);
  test_assert_destroyed_here (&told.fate);
  test_pool_drop (pool);
}

/* Without a completion callback, and with nothing written */
static void
test_callback_alone (void)
{
  QTaskPool *pool = q_task_pool_new ("callback", 1, 0);
  Told told = TOLD_INIT (0);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_bind_callback (task, told_cb, &told, told_destroy);
  test_pool_push (pool, task, write_worker, &told, NULL);
  test_run_until (NULL, told.n_ends);
  test_finish (task);
  test_run_pending (NULL);
  g_assert_cmpint (told.n_ends, ==, 1);
  test_assert_destroyed_here (&told.fate);
  test_pool_drop (pool);
}

/* Withdrawn, it is told all the same. */
static void
test_callback_withdrawn (void)
{
  QTaskPool *pool = q_task_pool_new ("callback", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Told told = TOLD_INIT (0);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = q_task_new (NULL, told_completed_cb, &told, NULL);

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  told.fails = TRUE;
  g_assert_true (q_task_open_channel (task, NULL));
  q_task_bind_callback (task, told_cb, &told, told_destroy);
  test_pool_push (pool, task, test_empty_worker, NULL, NULL);
  q_task_cancel (task);
  test_run_until (NULL, told.n_called);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  test_assert_destroyed_here (&told.fate);
  test_gate_open (&hold.release);
  test_finish (held);
  test_pool_drop (pool);
}

/* Completed by other code, in place */
static void
test_callback_in_place (void)
{
  Told told = TOLD_INIT (3);
  QTask *task = q_task_new (NULL, told_completed_cb, &told, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_bind_callback (task, told_cb, &told, told_destroy);
  for (int i = 0; i < 3; i++)
    g_assert_true (q_task_channel_write (q_task_get_worker_channel (task), &i, sizeof i, NULL, NULL));
  q_task_complete (task);
  g_assert_cmpint (told.n_called, ==, 1);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  test_assert_destroyed_here (&told.fate);
}

/* The owner is who owns it when it starts. */
static void
test_callback_other_context (gconstpointer opened_first)
{
  QTaskPool *pool = q_task_pool_new ("callback", 1, 0);
  TestLoop *loop = test_loop_new ("owner");
  Told told = TOLD_INIT (1000);
  QTask *task = q_task_new (NULL, told_completed_cb, &told, NULL);
  TestFate fate = TEST_FATE_INIT;

  told.owner = test_loop_get_thread (loop);
  test_fate_watch (&fate, task);
  if (opened_first)
    {
      g_assert_true (q_task_open_channel (task, NULL));
      q_task_bind_callback (task, told_cb, &told, told_destroy);
      q_task_set_context (task, test_loop_get_context (loop));
    }
  else
    {
      q_task_set_context (task, test_loop_get_context (loop));
      g_assert_true (q_task_open_channel (task, NULL));
      q_task_bind_callback (task, told_cb, &told, told_destroy);
    }
  test_pool_push (pool, task, write_worker, &told, NULL);
  g_object_unref (task);
  test_fate_wait (&fate);
  test_fate_wait (&told.fate);
  test_assert_destroyed_in (&told.fate, test_loop_get_thread (loop));
  test_loop_free (loop);
  g_assert_cmpint (told.n_called, ==, 1);
  g_assert_cmpint (told.n_ends, ==, 1);
  test_pool_drop (pool);
}

/* Replaced */
static void
never_bound_cb (QTask *task,
                GBytes *message,
                gpointer data)
{
  g_assert_not_reached ();
}

static void
test_callback_replaced (void)
{
  QTaskPool *pool = q_task_pool_new ("callback", 1, 0);
  TestFate fate = TEST_FATE_INIT;
  Told told = TOLD_INIT (10);
  QTask *task = q_task_new (NULL, told_completed_cb, &told, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_bind_callback (task, never_bound_cb, &fate, test_fate_notify);
  q_task_bind_callback (task, told_cb, &told, told_destroy);
  test_assert_destroyed_here (&fate);
  test_pool_push (pool, task, write_worker, &told, NULL);
  test_run_until (NULL, told.n_called);
  g_assert_cmpint (told.n_messages, ==, 10);
  g_assert_cmpint (told.n_ends, ==, 1);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  test_assert_destroyed_here (&told.fate);
  test_pool_drop (pool);
}

#define add(path, func) g_test_add_func ("/bind/" path, func)
#define add_data(path, data, func) g_test_add_data_func ("/bind/" path, GINT_TO_POINTER (data), func)

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  for (int when = 0; when < N_WHENS; when++)
    for (int by = 0; by < N_BYS; by++)
      for (int outlives = 0; outlives < 2; outlives++)
        {
          g_autofree char *path = g_strdup_printf ("/bind/goes/%s/%s/%s", when_names[when],
                                                   by_names[by], outlives ? "outlive" : "stop");

          g_test_add_data_func (path, GOES (when, by, outlives), test_goes);
        }
  for (int steps = 0; steps < 2; steps++)
    for (int by = 0; by < N_BYS; by++)
      for (int outlives = 0; outlives < 2; outlives++)
        {
          g_autofree char *path = g_strdup_printf ("/bind/goes/while-%s/%s/%s",
                                                   steps ? "a-step-syncs" : "syncing", by_names[by],
                                                   outlives ? "outlive" : "stop");

          g_test_add_data_func (path, SYNCING (steps, by, outlives), test_goes_while_syncing);
        }
  add_data ("goes/while-writing/stop", FALSE, test_goes_while_writing);
  add_data ("goes/while-writing/outlive", TRUE, test_goes_while_writing);
  add ("goes/while-messages-are-read", test_goes_while_messages_are_read);
  add_data ("goes/elsewhere/stop", FALSE, test_goes_elsewhere);
  add_data ("goes/elsewhere/outlive", TRUE, test_goes_elsewhere);
  add_data ("goes/in-sync-function/stop", FALSE, test_goes_in_sync_func);
  add_data ("goes/in-sync-function/outlive", TRUE, test_goes_in_sync_func);
  add_data ("goes/in-callback", FALSE, test_goes_in_callback);
  add_data ("goes/in-bound-callback", TRUE, test_goes_in_callback);
  add_data ("outcome/stop", FALSE, test_outcome);
  add_data ("outcome/outlive", TRUE, test_outcome);
  add ("no-references", test_no_references);
  add_data ("late/queued", TRUE, test_bound_while_running);
  add_data ("late/running", FALSE, test_bound_while_running);

  add ("outlive/property", test_outlive_property);
  add_data ("outlive/by-worker", FALSE, test_outlive_by_worker);
  add_data ("outlive/taken-back", TRUE, test_outlive_by_worker);
  add ("outlive/too-late", test_outlive_too_late);
  add ("outlive/of-objects-only", test_outlive_is_of_objects);

  add_data ("several/first-goes", 0, test_several_objects);
  add_data ("several/second-goes", 1, test_several_objects);
  add_data ("several/third-goes", 2, test_several_objects);
  add ("several/with-different-flags", test_several_flags);
  add ("several/the-same-twice", test_same_object_twice);
  add ("own-source", test_own_source);

  add ("disposed-before", test_disposed_before);

  for (int by = 0; by < N_BYS; by++)
    {
      g_autofree char *path = g_strdup_printf ("/bind/many-tasks/%s", by_names[by]);

      g_test_add_data_func (path, GINT_TO_POINTER (by), test_many_tasks_object_goes);
    }
  add ("many-tasks/nothing-left", test_nothing_left);
  add ("many-tasks/flat-cost", test_flat_cost);
  add_data ("unbound/finished", FALSE, test_unbound_when_completed);
  add_data ("unbound/withdrawn", TRUE, test_unbound_when_completed);

  add_data ("context-goes-first/unref", BY_UNREF, test_context_goes_first);
  add_data ("context-goes-first/unref-elsewhere", BY_OTHER, test_context_goes_first);
  add_data ("context-goes-first/run-dispose-elsewhere", BY_OTHER_RUN, test_context_goes_first);
  add_data ("context-goes-next/unref", BY_UNREF, test_context_goes_after_post);
  add_data ("context-goes-next/unref-elsewhere", BY_OTHER, test_context_goes_after_post);
  add_data ("context-goes-next/run-dispose-elsewhere", BY_OTHER_RUN, test_context_goes_after_post);
  add ("race", test_race);

  add_data ("owner-waits/stop", FALSE, test_owner_waits);
  add_data ("owner-waits/outlive", TRUE, test_owner_waits);
  add ("owner-waits/goes-meanwhile", test_goes_while_owner_waits);
  add ("wait-async", test_wait_async);

  for (int i = 0; i < 8; i++)
    {
      g_autofree char *path = g_strdup_printf ("/bind/callback/%s/%s/%s",
                                               i & 4 ? "channel-first" : "callback-first",
                                               i & 2 ? "fails" : "succeeds",
                                               i & 1 ? "owner-waits" : "iterated");

      g_test_add_data_func (path, GINT_TO_POINTER (i), test_callback);
    }
  add ("callback/alone", test_callback_alone);
  add ("callback/withdrawn", test_callback_withdrawn);
  add ("callback/in-place", test_callback_in_place);
  add_data ("callback/context-set-before", FALSE, test_callback_other_context);
  add_data ("callback/context-set-after", TRUE, test_callback_other_context);
  add ("callback/replaced", test_callback_replaced);

  return g_test_run ();
}
