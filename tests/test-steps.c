/* test-steps.c: workers that are called step by step
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The main thread is the owner, of the default context, unless told otherwise.
 */

#include <string.h>

#include "test-util.h"

/* Walk: one task, whose steps do what a script says, one letter for each:
 *   f failed, F failed with an error, c check in, s sync, e finished, x stopped;
 *   C, S, E, X: the same, with an error set.
 * The last one is repeated. What the steps touch is plain memory: thread sanitizer tells if
 * two of them, or a step and a function of the owner, run at once.
 */
typedef struct
{
  const char *script;
  const char *when_stopped; /* what the step does that sees it; or NULL, to give up */
  TestGate stepped;         /* opened when a step begins */
  TestGate let;
  int n_held; /* so many steps wait for `let` to be opened as often */
  TestFate opaque;
  TestFate worker_data;
  TestFate sync_data;
  GThread *owner;

  int *n_urgent; /* atomic */
  gboolean in_step;
  gboolean in_func;
  guint turns;
  int n_steps;
  int n_funcs;
  int n_stop_steps; /* how many saw that the task was asked to stop */
  TestGate met;

  int called;
  GError *error;
} Walk;

#define WALK_INIT(steps) \
  { \
    .script = (steps), .stepped = TEST_GATE_INIT, .let = TEST_GATE_INIT, .met = TEST_GATE_INIT, \
    .opaque = TEST_FATE_INIT, .worker_data = TEST_FATE_INIT, .sync_data = TEST_FATE_INIT, \
    .owner = g_thread_self () \
  }

static void
walk_opaque_destroy (gpointer data)
{
  test_fate_notify (&((Walk *) data)->opaque);
}

static void
walk_worker_data_destroy (gpointer data)
{
  test_fate_notify (&((Walk *) data)->worker_data);
}

static void
walk_sync_data_destroy (gpointer data)
{
  test_fate_notify (&((Walk *) data)->sync_data);
}

static QTaskStep
letter_to_step (char letter,
                GError **error)
{
  if (g_ascii_isupper (letter))
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");

  switch (g_ascii_tolower (letter))
    {
    case 'f':
      return Q_TASK_STEP_FAILED;
    case 'c':
      return Q_TASK_STEP_CHECK_IN;
    case 's':
      return Q_TASK_STEP_SYNC;
    case 'e':
      return Q_TASK_STEP_FINISHED;
    case 'x':
      return Q_TASK_STEP_STOPPED;
    default:
      g_assert_not_reached ();
    }
}

static QTaskStep
walk_step (QTask *task,
           gpointer data,
           GError **error)
{
  Walk *walk = data;
  QTaskStep step;

  g_assert_true (g_thread_self () != walk->owner);
  g_assert_false (walk->in_step);
  g_assert_false (walk->in_func);
  test_assert_alive (&walk->worker_data);
  walk->in_step = TRUE;
  walk->turns++;
  test_gate_open (&walk->stepped);
  if (walk->n_steps < walk->n_held)
    test_gate_wait_for (&walk->let, walk->n_steps + 1);

  if (q_task_is_cancelled (task))
    walk->n_stop_steps++;

  if (walk->n_stop_steps > 0 && walk->when_stopped != NULL)
    step = letter_to_step (walk->when_stopped[MIN (walk->n_stop_steps,
                                                   (int) strlen (walk->when_stopped)) -
                                              1],
                           error);
  else if (walk->n_stop_steps > 0)
    step = Q_TASK_STEP_STOPPED;
  else
    step = letter_to_step (walk->script[MIN (walk->n_steps, (int) strlen (walk->script) - 1)], error);

  walk->n_steps++;
  walk->turns++;
  walk->in_step = FALSE;

  return step;
}

static void
walk_completed_cb (QTask *task,
                   gpointer data)
{
  Walk *walk = data;

  g_assert_true (g_thread_self () == walk->owner);
  g_assert_cmpint (walk->called, ==, 0);
  walk->called++;
  q_task_propagate_error (task, &walk->error);
}

static Walk *
walk_enter (QTask *task,
            gpointer data)
{
  Walk *walk = data;

  g_assert_true (g_thread_self () == walk->owner);
  g_assert_false (walk->in_step);
  g_assert_cmpint (walk->called, ==, 0);
  walk->in_func = TRUE;
  walk->n_funcs++;
  walk->turns++;

  return walk;
}

static void
walk_leave (Walk *walk)
{
  guint turns = walk->turns;

  g_thread_yield ();
  g_assert_cmpuint (walk->turns, ==, turns);
  walk->in_func = FALSE;
  test_gate_open (&walk->met);
}

static void
leave_cb (QTask *task,
          gpointer data)
{
  walk_leave (walk_enter (task, data));
}

static void
resume_cb (QTask *task,
           gpointer data)
{
  Walk *walk = walk_enter (task, data);

  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  g_assert_true (q_task_resume (task, FALSE));
  g_assert_false (q_task_resume (task, TRUE));
  walk_leave (walk);
}

static QTask *
walk_new (Walk *walk,
          QTaskSyncFunc func)
{
  QTask *task = q_task_new (NULL, walk_completed_cb, walk, walk_opaque_destroy);

  if (func != NULL)
    q_task_set_sync_func (task, func, walk, walk_sync_data_destroy);

  return task;
}

static void
walk_start (Walk *walk,
            QTaskPool *pool,
            QTask *task)
{
  test_pool_push_steps (pool, task, walk_step, walk, walk_worker_data_destroy);
}

static void
walk_end (Walk *walk,
          QTask *task)
{
  test_run_until (NULL, walk->called && test_fate_get_count (&walk->worker_data));
  g_assert_false (q_task_resume (task, FALSE));
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  g_assert_cmpint (walk->called, ==, 1);
  test_assert_destroyed_here (&walk->opaque);
  test_assert_destroyed_here (&walk->worker_data);
  if (test_fate_get_count (&walk->sync_data) > 0)
    test_assert_destroyed_here (&walk->sync_data);
  g_clear_error (&walk->error);
}

static void
wait_for_state (QTask *task,
                QTaskState state)
{
  test_poll_until (q_task_poll (task) == state);
}

/* Returns */

typedef struct
{
  const char *script;
  int n_steps;
  QTaskState state;
  gboolean fails;
  gboolean in_task; /* the error is of QTask, not of GIO */
  int code;
} Return;

static void
test_return (gconstpointer data)
{
  const Return *expected = data;
  QTaskPool *pool = q_task_pool_new ("return", 1, 0);
  Walk walk = WALK_INIT (expected->script);
  QTaskPoolStats stats;
  QTask *task = walk_new (&walk, resume_cb);

  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.called);
  g_assert_cmpint (q_task_poll (task), ==, expected->state);
  g_assert_cmpint (walk.n_steps, ==, expected->n_steps);
  if (!expected->fails)
    g_assert_no_error (walk.error);
  else if (expected->in_task)
    g_assert_error (walk.error, Q_TASK_ERROR, expected->code);
  else
    g_assert_error (walk.error, G_IO_ERROR, expected->code);
  if (expected->fails)
    g_assert_cmpuint (strlen (walk.error->message), >, 0);

  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.running, ==, 0);
  g_assert_cmpuint (stats.parked, ==, 0);
  g_assert_cmpuint (stats.queued, ==, 0);
  g_assert_cmpuint (stats.finished, ==, !expected->fails);
  g_assert_cmpuint (stats.finished + stats.failed + stats.stopped, ==, 1);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

#define SUCCESS Q_TASK_STATE_FINISHED, FALSE, FALSE, 0
#define FAILURE Q_TASK_STATE_FINISHED, TRUE, TRUE, Q_TASK_ERROR_FAILED
#define AN_ERROR Q_TASK_STATE_FINISHED, TRUE, FALSE, G_IO_ERROR_NOT_FOUND

static const Return returns[] = {
  { "e", 1, SUCCESS },
  { "cccce", 5, SUCCESS },
  { "sssse", 5, SUCCESS },
  { "cscsscce", 8, SUCCESS },
  { "f", 1, FAILURE },
  { "ccf", 3, FAILURE },
  { "sf", 2, FAILURE },
  { "F", 1, AN_ERROR },
  { "sF", 2, AN_ERROR },
  { "E", 1, AN_ERROR },
  { "C", 1, AN_ERROR },
  { "cS", 2, AN_ERROR },
  { "x", 1, Q_TASK_STATE_STOPPED, TRUE, FALSE, G_IO_ERROR_CANCELLED },
  { "csx", 3, Q_TASK_STATE_STOPPED, TRUE, FALSE, G_IO_ERROR_CANCELLED },
  { "X", 1, Q_TASK_STATE_STOPPED, TRUE, FALSE, G_IO_ERROR_NOT_FOUND },
};

/* Setting the error, or the result, of the task works as well. */
static QTaskStep
set_error_step (QTask *task,
                gpointer count,
                GError **error)
{
  if (++(*(int *) count) < 3)
    return Q_TASK_STEP_CHECK_IN;

  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_EXISTS, "There is one");

  return Q_TASK_STEP_FINISHED;
}

static QTaskStep
set_result_step (QTask *task,
                 gpointer count,
                 GError **error)
{
  if (++(*(int *) count) < 3)
    return Q_TASK_STEP_CHECK_IN;

  q_task_set_result_int (task, *(int *) count);

  return Q_TASK_STEP_FINISHED;
}

static void
test_set_outcome (void)
{
  g_autoptr (GError) error = NULL;
  QTask *fails = q_task_new (NULL, NULL, NULL, NULL);
  QTask *succeeds = q_task_new (NULL, NULL, NULL, NULL);
  int n_fails = 0, n_succeeds = 0;

  q_task_run_steps_in_thread (fails, set_error_step, &n_fails, NULL);
  q_task_run_steps_in_thread (succeeds, set_result_step, &n_succeeds, NULL);
  test_run_until (NULL, q_task_get_completed (fails) && q_task_get_completed (succeeds));
  g_assert_cmpint (q_task_propagate_int (succeeds, &error), ==, 3);
  g_assert_no_error (error);
  g_assert_true (q_task_propagate_error (fails, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_assert_finalize_object (fails);
  g_assert_finalize_object (succeeds);
}

/* Start */

static void
test_run_steps_in_thread (void)
{
  Walk walk = WALK_INIT ("ccscse");
  QTask *task = walk_new (&walk, resume_cb);

  q_task_run_steps_in_thread (task, walk_step, &walk, walk_worker_data_destroy);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_steps, ==, 6);
  g_assert_cmpint (walk.n_funcs, ==, 2);
  walk_end (&walk, task);
}

/* Refused, it leaves all to the caller. */
static void
test_push_refused (void)
{
  QTaskPool *pool = q_task_pool_new ("refused", 1, 1);
  QTaskPool *closed = q_task_pool_new ("closed", 1, 0);
  g_autoptr (GError) error = NULL;
  TestHold hold = TEST_HOLD_INIT;
  Walk walk = WALK_INIT ("ce");
  QTask *task = walk_new (&walk, NULL);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *queued = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_pool_close (closed, Q_TASK_POOL_CLOSE_STOP, NULL, NULL));
  g_assert_false (q_task_pool_push_steps (closed, task, walk_step, &walk, walk_worker_data_destroy,
                                          &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_clear_error (&error);

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_pool_push (pool, queued, test_empty_worker, NULL, NULL);
  g_assert_false (q_task_pool_push_steps (pool, task, walk_step, &walk, walk_worker_data_destroy,
                                          &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
  g_clear_error (&error);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);
  test_assert_alive (&walk.worker_data);

  test_gate_open (&hold.release);
  test_finish (held);
  test_finish (queued);
  walk.n_held = 1;
  walk_start (&walk, pool, task);

  /* And started it is refused as well. */
  g_assert_false (q_task_pool_push_steps (pool, task, walk_step, NULL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_PENDING);
  g_clear_error (&error);
  g_assert_false (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_PENDING);
  test_gate_open (&walk.let);
  walk_end (&walk, task);
  test_pool_drop (pool);
  test_pool_drop (closed);
}

/* The form for bindings frees the data also when it is refused. */
static void
test_push_closure (void)
{
  QTaskPool *pool = q_task_pool_new ("closure", 1, 0);
  g_autoptr (GError) error = NULL;
  Walk walk = WALK_INIT ("cse");
  QTask *task = walk_new (&walk, resume_cb);

  g_assert_true (q_task_pool_push_steps_closure (pool, task, walk_step, &walk,
                                                 walk_worker_data_destroy, &error));
  g_assert_no_error (error);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  walk_end (&walk, task);

  walk = (Walk) WALK_INIT ("e");
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, NULL));
  task = walk_new (&walk, NULL);
  g_assert_false (q_task_pool_push_steps_closure (pool, task, walk_step, &walk,
                                                  walk_worker_data_destroy, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  test_assert_destroyed_here (&walk.worker_data);
  q_task_complete (task);
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* Given steps, the work of the class is not used. */
#define TEST_TYPE_WALKER (test_walker_get_type ())
G_DECLARE_FINAL_TYPE (TestWalker, test_walker, TEST, WALKER, QTask)

struct _TestWalker
{
  QTask parent_instance;
};

G_DEFINE_FINAL_TYPE (TestWalker, test_walker, Q_TYPE_TASK)

static gboolean
test_walker_run (QTask *task,
                 GError **error)
{
  g_assert_not_reached ();
}

static void
test_walker_class_init (TestWalkerClass *klass)
{
  Q_TASK_CLASS (klass)->run = test_walker_run;
}

static void
test_walker_init (TestWalker *self)
{
}

static void
test_subclass (void)
{
  QTaskPool *pool = q_task_pool_new ("subclass", 1, 0);
  Walk walk = WALK_INIT ("cscse");
  QTask *task = g_object_new (TEST_TYPE_WALKER, NULL);

  q_task_set_func (task, walk_completed_cb, &walk, walk_opaque_destroy);
  q_task_set_sync_func (task, resume_cb, &walk, walk_sync_data_destroy);
  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_steps, ==, 5);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* A step may block in a sync point as any worker. */
static QTaskStep
blocking_step (QTask *task,
               gpointer data,
               GError **error)
{
  Walk *walk = data;

  walk->turns++;
  if (!q_task_sync (task, error))
    return Q_TASK_STEP_STOPPED;
  walk->turns++;

  return ++walk->n_steps == 3 ? Q_TASK_STEP_FINISHED : Q_TASK_STEP_SYNC;
}

static void
test_sync_in_step (void)
{
  QTaskPool *pool = q_task_pool_new ("blocks", 1, 0);
  Walk walk = WALK_INIT ("");
  QTask *task = walk_new (&walk, resume_cb);

  test_pool_push_steps (pool, task, blocking_step, &walk, walk_worker_data_destroy);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_funcs, ==, 5);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* Checking in */

static QTaskStep
urgent_ran_step (QTask *task,
                 gpointer data,
                 GError **error)
{
  Walk *walk = data;

  if (walk->n_steps++ == 0)
    {
      test_gate_open (&walk->stepped);
      test_gate_wait (&walk->let);
      g_assert_cmpint (g_atomic_int_get (walk->n_urgent), ==, 0);
      return Q_TASK_STEP_CHECK_IN;
    }

  g_assert_cmpint (g_atomic_int_get (walk->n_urgent), ==, 10);

  return Q_TASK_STEP_FINISHED;
}

static void
test_urgent_between_steps (gconstpointer priority)
{
  QTaskPool *pool = q_task_pool_new ("urgent", 1, 0);
  Walk walk = WALK_INIT (NULL);
  int n_ran = 0;
  QTask *task = walk_new (&walk, NULL);
  QTask *urgent[10];

  walk.n_urgent = &n_ran;
  q_task_set_priority (task, GPOINTER_TO_INT (priority));
  test_pool_push_steps (pool, task, urgent_ran_step, &walk, walk_worker_data_destroy);
  test_gate_wait (&walk.stepped);
  for (int i = 0; i < 10; i++)
    {
      urgent[i] = q_task_new (NULL, NULL, NULL, NULL);
      q_task_set_priority (urgent[i], GPOINTER_TO_INT (priority) - 1 - i % 2);
      test_pool_push (pool, urgent[i], test_count_worker, &n_ran, NULL);
    }
  test_gate_open (&walk.let);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  walk_end (&walk, task);
  for (int i = 0; i < 10; i++)
    test_finish (urgent[i]);
  test_pool_drop (pool);
}

/* Asked to stop while something more urgent runs between two of its steps */
static void
test_stopped_between_steps (void)
{
  QTaskPool *pool = q_task_pool_new ("ever", 1, 0);
  Walk walk = WALK_INIT ("c");
  QTask *task = walk_new (&walk, NULL);
  QTask *urgent = q_task_new (NULL, NULL, NULL, NULL);
  TestHold hold = TEST_HOLD_INIT;

  walk_start (&walk, pool, task);
  test_gate_wait_for (&walk.stepped, 100);

  /* Between two steps, something more urgent runs; meanwhile it is cancelled. */
  q_task_set_priority (urgent, -1);
  test_pool_push (pool, urgent, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  q_task_cancel (task);
  /* It is not withdrawn. */
  g_assert_cmpint (q_task_poll (task), !=, Q_TASK_STATE_STOPPED);
  test_gate_open (&hold.release);
  test_run_until (NULL, walk.called);
  g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (walk.n_stop_steps, ==, 1);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  walk_end (&walk, task);
  test_finish (urgent);
  test_pool_drop (pool);
}

/* Several of them, and threads that change */
static void
test_many_check_in (void)
{
  enum
  {
    N_TASKS = 50
  };
  QTaskPool *pool = q_task_pool_new ("many", 3, 0);
  g_autofree char *script = g_strnfill (201, 'c');
  Walk walks[N_TASKS];
  QTask *tasks[N_TASKS];

  script[200] = 'e';
  for (int i = 0; i < N_TASKS; i++)
    {
      walks[i] = (Walk) WALK_INIT (script);
      tasks[i] = walk_new (&walks[i], NULL);
      q_task_set_priority (tasks[i], i % 3);
      walk_start (&walks[i], pool, tasks[i]);
    }
  for (int i = 0; i < N_TASKS; i++)
    {
      test_run_until (NULL, walks[i].called);
      g_assert_no_error (walks[i].error);
      g_assert_cmpint (walks[i].n_steps, ==, 201);
      walk_end (&walks[i], tasks[i]);
    }
  g_assert_cmpuint (test_pool_stats (pool).finished, ==, N_TASKS);
  test_pool_drop (pool);
}

/* A queued one that is cancelled never takes a step. */
static void
test_withdrawn (void)
{
  QTaskPool *pool = q_task_pool_new ("withdrawn", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Walk walk = WALK_INIT ("c");
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = walk_new (&walk, NULL);

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  walk_start (&walk, pool, task);
  q_task_cancel (task);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_run_until (NULL, walk.called);
  g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (walk.n_steps, ==, 0);
  walk_end (&walk, task);
  test_gate_open (&hold.release);
  test_finish (held);
  test_pool_drop (pool);
}

/* Asked to stop while a step runs */
typedef struct
{
  const char *when_stopped;
  gboolean timeout;
  int n_stop_steps;
  int code; /* -1: it ends well */
} StopInStep;

static void
test_stopped_in_step (gconstpointer data)
{
  const StopInStep *how = data;
  QTaskPool *pool = q_task_pool_new ("stopped", 1, 0);
  Walk walk = WALK_INIT ("c");
  QTask *task = walk_new (&walk, leave_cb);

  walk.when_stopped = how->when_stopped;
  walk.n_held = 1;
  walk_start (&walk, pool, task);
  test_gate_wait (&walk.stepped);
  if (how->timeout)
    q_task_set_timeout (task, 1);
  else
    q_task_cancel (task);
  test_run_until (NULL, q_task_is_cancelled (task));
  test_gate_open (&walk.let);
  test_run_until (NULL, walk.called);
  /* With check-cancellable, a success reads as cancelled, too. */
  g_assert_error (walk.error, G_IO_ERROR, how->code);
  g_assert_cmpint (walk.n_stop_steps, ==, how->n_stop_steps);
  g_assert_cmpint (walk.n_funcs, ==, 0);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* The step that runs sees it, and has its say; if it goes on, it is not called for ever. */
static const StopInStep stops_in_step[] = {
  { "x", FALSE, 1, G_IO_ERROR_CANCELLED },
  { "e", FALSE, 1, G_IO_ERROR_CANCELLED },
  { "f", FALSE, 1, G_IO_ERROR_CANCELLED },
  { "x", TRUE, 1, G_IO_ERROR_TIMED_OUT },
  { "e", TRUE, 1, G_IO_ERROR_TIMED_OUT },
};

/* It does not say that it is over: it is called once more, and then no more. */
static void
test_never_gives_up (gconstpointer script)
{
  QTaskPool *pool = q_task_pool_new ("never", 1, 0);
  Walk walk = WALK_INIT (script);
  QTask *task = walk_new (&walk, leave_cb);
  gboolean syncs = *(const char *) script == 's';

  walk.when_stopped = script;
  if (syncs)
    {
      walk_start (&walk, pool, task);
      test_run_until (NULL, walk.n_funcs);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
      q_task_cancel (task);
    }
  else
    {
      walk_start (&walk, pool, task);
      test_gate_wait_for (&walk.stepped, 10);
      q_task_cancel (task);
    }
  test_run_until (NULL, walk.called);
  g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  /* The one during which it was asked may have seen it already. */
  g_assert_cmpint (walk.n_stop_steps, >=, 1);
  g_assert_cmpint (walk.n_stop_steps, <=, syncs ? 1 : 2);
  g_assert_cmpint (walk.n_funcs, ==, syncs ? 1 : 0);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* Unless it is to run although it is cancelled */
static void
test_run_cancelled (gconstpointer script)
{
  QTaskPool *pool = q_task_pool_new ("cancelled", 1, 0);
  Walk walk = WALK_INIT (script);
  QTask *task = walk_new (&walk, leave_cb);

  walk.when_stopped = "cccce";
  q_task_set_run_cancelled (task, TRUE);
  q_task_set_check_cancellable (task, FALSE);
  walk_start (&walk, pool, task);
  if (*(const char *) script == 's')
    test_run_until (NULL, walk.n_funcs);
  else
    test_gate_wait_for (&walk.stepped, 10);
  q_task_cancel (task);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_stop_steps, ==, 5);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_FINISHED);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* Syncing */

static void
test_sync (void)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Walk walk = WALK_INIT ("sse");
  g_autoptr (GPtrArray) listed = NULL;
  g_autofree char *dump = NULL;
  QTaskPoolStats stats;
  QTask *task = walk_new (&walk, leave_cb);
  QTask *other = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_name (task, "that syncs");
  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.n_funcs == 1);
  test_run_pending (NULL);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.running, ==, 1);
  g_assert_cmpuint (stats.parked, ==, 1);
  g_assert_cmpuint (stats.queued, ==, 0);
  g_assert_cmpuint (stats.finished, ==, 0);
  g_assert_cmpuint (stats.threads, <=, 1);
  listed = q_task_pool_list_tasks (pool);
  g_assert_cmpuint (listed->len, ==, 1);
  g_assert_true (listed->pdata[0] == task);
  dump = q_task_pool_dump (pool);
  g_assert_nonnull (strstr (dump, "syncing"));
  g_assert_nonnull (strstr (dump, "that syncs"));

  /* The thread is free. */
  test_pool_push (pool, other, test_empty_worker, NULL, NULL);
  test_finish (other);
  g_assert_cmpuint (test_pool_stats (pool).threads, ==, 1);
  g_assert_cmpint (walk.n_steps, ==, 1);

  g_assert_true (q_task_resume (task, FALSE));
  test_run_until (NULL, walk.n_funcs == 2);
  g_assert_cmpint (walk.n_steps, ==, 2);
  g_assert_true (q_task_resume (task, FALSE));
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.running, ==, 0);
  g_assert_cmpuint (stats.parked, ==, 0);
  g_assert_cmpuint (stats.finished, ==, 2);
  g_clear_pointer (&listed, g_ptr_array_unref);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

static gpointer
resume_thread (gpointer task)
{
  g_assert_true (q_task_resume (task, FALSE));

  return NULL;
}

static void
resume_elsewhere_cb (QTask *task,
                     gpointer data)
{
  Walk *walk = walk_enter (task, data);

  g_thread_join (g_thread_new ("resume", resume_thread, task));
  /* A step would have had the time. */
  g_usleep (1000);
  walk_leave (walk);
}

/* Resumed in the function, by whomever, the next step comes after its end. */
static void
test_resumed_in_function (gconstpointer elsewhere)
{
  QTaskPool *pool = q_task_pool_new ("sync", 2, 0);
  g_autofree char *script = g_strnfill (101, 's');
  Walk walk = WALK_INIT (script);
  QTask *task = walk_new (&walk, elsewhere ? resume_elsewhere_cb : resume_cb);

  script[100] = 'e';
  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_steps, ==, 101);
  g_assert_cmpint (walk.n_funcs, ==, 100);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* Without a function, and before the owner was told */
static void
test_resumed_untold (gconstpointer with_func)
{
  QTaskPool *pool = q_task_pool_new ("sync", 1, 0);
  Walk walk = WALK_INIT ("sse");
  QTask *task = walk_new (&walk, with_func ? leave_cb : NULL);

  walk_start (&walk, pool, task);
  for (int i = 0; i < 2; i++)
    {
      test_gate_wait_for (&walk.stepped, i + 1);
      wait_for_state (task, Q_TASK_STATE_SYNCING);
      g_assert_true (q_task_resume (task, FALSE));
    }
  wait_for_state (task, Q_TASK_STATE_FINISHED);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_funcs, ==, 0);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

typedef enum
{
  STOP_RESUME,
  STOP_RESUME_INSIDE,
  STOP_CANCEL,
  STOP_CANCEL_INSIDE,
  STOP_CANCEL_UNTOLD,
  STOP_GIVEN,
  STOP_TIMEOUT,
  N_STOPS
} Stop;

static void
stop_inside_cb (QTask *task,
                gpointer data)
{
  Walk *walk = walk_enter (task, data);

  g_assert_true (q_task_resume (task, TRUE));
  g_assert_true (q_task_is_cancelled (task));
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPING);
  /* A step would have had the time. */
  g_usleep (1000);
  walk_leave (walk);
}

static void
cancel_inside_cb (QTask *task,
                  gpointer data)
{
  Walk *walk = walk_enter (task, data);

  q_task_cancel (task);
  /* Resumed or not, it stops. */
  q_task_resume (task, FALSE);
  g_usleep (1000);
  walk_leave (walk);
}

/* It is called once more, and then it is over. */
static void
test_stopped_while_syncing (gconstpointer data)
{
  Stop stop = (Stop) GPOINTER_TO_INT (data);
  QTaskPool *pool = q_task_pool_new ("stopped", 1, 0);
  g_autoptr (GCancellable) given = g_cancellable_new ();
  Walk walk = WALK_INIT ("s");
  QTask *task = g_object_new (Q_TYPE_TASK, "cancellable", given, NULL);

  q_task_set_func (task, walk_completed_cb, &walk, walk_opaque_destroy);
  q_task_set_sync_func (task,
                        stop == STOP_RESUME_INSIDE   ? stop_inside_cb
                        : stop == STOP_CANCEL_INSIDE ? cancel_inside_cb
                                                     : leave_cb,
                        &walk, walk_sync_data_destroy);
  walk_start (&walk, pool, task);
  if (stop == STOP_CANCEL_UNTOLD)
    wait_for_state (task, Q_TASK_STATE_SYNCING);
  else
    test_run_until (NULL, walk.n_funcs);

  switch (stop)
    {
    case STOP_RESUME:
      g_assert_true (q_task_resume (task, TRUE));
      break;
    case STOP_CANCEL:
    case STOP_CANCEL_UNTOLD:
      q_task_cancel (task);
      break;
    case STOP_GIVEN:
      g_cancellable_cancel (given);
      break;
    case STOP_TIMEOUT:
      q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
      break;
    default:
      break;
    }

  /* The owner is not needed for it. */
  if (stop == STOP_CANCEL_UNTOLD)
    wait_for_state (task, Q_TASK_STATE_STOPPED);
  test_run_until (NULL, walk.called);
  if (stop == STOP_TIMEOUT)
    g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  else
    g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (walk.n_steps, ==, 2);
  g_assert_cmpint (walk.n_stop_steps, ==, 1);
  g_assert_cmpint (walk.n_funcs, ==, stop == STOP_CANCEL_UNTOLD ? 0 : 1);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  g_assert_cmpuint (test_pool_stats (pool).stopped, ==, 1);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* The callback comes at once, the last step later. */
static void
test_return_on_cancel (void)
{
  QTaskPool *pool = q_task_pool_new ("returns", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Walk walk = WALK_INIT ("s");
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = walk_new (&walk, leave_cb);

  q_task_set_return_on_cancel (task, TRUE);
  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.n_funcs);
  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  q_task_cancel (task);
  test_run_until (NULL, walk.called);
  g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_assert_alive (&walk.worker_data);
  test_gate_open (&hold.release);
  test_run_until (NULL, test_fate_get_count (&walk.worker_data));
  g_assert_cmpint (walk.n_stop_steps, ==, 1);
  walk_end (&walk, task);
  test_finish (held);
  test_pool_drop (pool);
}

/* The context goes while it syncs: it is called once more, and all is released. */
static void
test_context_goes (gconstpointer told)
{
  QTaskPool *pool = q_task_pool_new ("goes", 1, 0);
  Walk walk = WALK_INIT ("s");
  TestFate fate = TEST_FATE_INIT;
  TestContext context;
  QTask *task;

  test_context_begin (&context);
  task = walk_new (&walk, leave_cb);
  test_fate_watch (&fate, task);
  walk_start (&walk, pool, task);
  if (told)
    test_run_until (context.context, walk.n_funcs);
  else
    wait_for_state (task, Q_TASK_STATE_SYNCING);
  g_object_unref (task);
  test_context_end (&context);

  test_fate_wait (&fate);
  test_fate_wait (&walk.opaque);
  test_fate_wait (&walk.worker_data);
  test_fate_wait (&walk.sync_data);
  g_assert_cmpint (walk.n_steps, ==, 2);
  g_assert_cmpint (walk.n_stop_steps, ==, 1);
  g_assert_cmpint (walk.called, ==, 0);
  g_assert_cmpint (test_fate_get_count (&walk.opaque), ==, 1);
  g_assert_cmpint (test_fate_get_count (&walk.worker_data), ==, 1);
  test_poll_until (test_pool_stats (pool).running == 0);
  test_pool_drop (pool);
}

static gboolean
resume_idle_cb (gpointer task)
{
  g_assert_true (q_task_resume (task, FALSE));

  return G_SOURCE_REMOVE;
}

static void
resume_later_cb (QTask *task,
                 gpointer data)
{
  g_idle_add (resume_idle_cb, task);
  walk_leave (walk_enter (task, data));
}

/* Nobody but the library holds the task while it syncs. */
static void
test_nobody_keeps_task (void)
{
  QTaskPool *pool = q_task_pool_new ("unref", 1, 0);
  Walk walk = WALK_INIT ("ssssse");
  TestFate fate = TEST_FATE_INIT;
  QTask *task = walk_new (&walk, resume_later_cb);

  test_fate_watch (&fate, task);
  walk_start (&walk, pool, task);
  g_object_unref (task);
  test_run_until (NULL, test_fate_get_count (&fate));
  test_run_pending (NULL);
  g_assert_cmpint (walk.n_steps, ==, 6);
  g_assert_no_error (walk.error);
  test_assert_destroyed_here (&fate);
  test_assert_destroyed_here (&walk.opaque);
  test_assert_destroyed_here (&walk.worker_data);
  test_assert_destroyed_here (&walk.sync_data);
  test_pool_drop (pool);
}

/* The pool is dropped while all of its tasks sync. */
static void
test_pool_goes (gconstpointer stops)
{
  QTaskPool *pool = q_task_pool_new ("goes", 1, 0);
  Walk walk = WALK_INIT ("ssse");
  QTask *task = walk_new (&walk, stops ? leave_cb : resume_later_cb);

  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.n_funcs == 1);
  g_object_unref (pool);
  if (stops)
    {
      test_run_pending (NULL);
      g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
      q_task_cancel (task);
    }
  test_run_until (NULL, walk.called);
  if (stops)
    g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  else
    g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_steps, ==, stops ? 2 : 4);
  walk_end (&walk, task);
}

/* A full queue has room for what comes back. */
static void
test_full_queue (gconstpointer check_in)
{
  QTaskPool *pool = q_task_pool_new ("full", 1, 1);
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GError) error = NULL;
  Walk walk = WALK_INIT (check_in ? "ce" : "se");
  QTask *task = walk_new (&walk, leave_cb);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *queued = q_task_new (NULL, NULL, NULL, NULL);
  QTask *refused = q_task_new (NULL, NULL, NULL, NULL);

  q_task_set_priority (held, -1);
  q_task_set_priority (queued, -1);
  if (check_in)
    {
      walk.n_held = 1;
      walk_start (&walk, pool, task);
      test_gate_wait (&walk.stepped);
      /* What it lets pass, and what fills the queue behind that */
      test_pool_push (pool, held, test_hold_worker, &hold, NULL);
      test_gate_open (&walk.let);
      test_gate_wait (&hold.entered);
    }
  else
    {
      walk_start (&walk, pool, task);
      test_run_until (NULL, walk.n_funcs);
      test_pool_push (pool, held, test_hold_worker, &hold, NULL);
      test_gate_wait (&hold.entered);
    }

  if (!check_in)
    {
      test_pool_push (pool, queued, test_empty_worker, NULL, NULL);
      g_assert_false (q_task_pool_push (pool, refused, test_empty_worker, NULL, NULL, &error));
      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
      g_assert_true (q_task_resume (task, FALSE));
    }
  else
    {
      q_task_complete (queued);
    }
  test_gate_open (&hold.release);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  walk_end (&walk, task);
  test_finish (held);
  test_finish (queued);
  q_task_complete (refused);
  g_assert_finalize_object (refused);
  test_pool_drop (pool);
}

/* All threads of the pool have gone home. */
static void
test_threads_have_left (void)
{
  QTaskPool *pool = q_task_pool_new ("left", 2, 0);
  Walk walk = WALK_INIT ("se");
  QTask *task;

  if (!g_test_slow ())
    {
      g_test_skip ("It takes the time that threads stay");
      test_pool_drop (pool);
      return;
    }

  task = walk_new (&walk, leave_cb);
  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.n_funcs);
  test_poll_until (test_pool_stats (pool).threads == 0);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_SYNCING);
  g_assert_true (q_task_resume (task, FALSE));
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* Waiting */

static void
test_owner_waits (gconstpointer script)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Walk walk = WALK_INIT (script);
  g_autoptr (GError) error = NULL;
  QTask *task = walk_new (&walk, resume_cb);

  walk_start (&walk, pool, task);
  g_assert_true (q_task_wait (task, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (walk.called, ==, 1);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_steps, ==, (int) strlen (script));
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* While it syncs, somebody else's wait does not end; the owner's ends with the timeout. */
static void
test_owner_waits_timeout (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Walk walk = WALK_INIT ("s");
  QTask *task = walk_new (&walk, leave_cb);

  q_task_set_timeout (task, 50 * G_TIME_SPAN_MILLISECOND);
  walk_start (&walk, pool, task);
  g_assert_true (q_task_wait (task, NULL, NULL));
  g_assert_cmpint (walk.called, ==, 1);
  g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (walk.n_funcs, ==, 1);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* In a pool of one: the task is queued behind its waiter, which runs its steps. */
static void
test_worker_waits (gconstpointer script)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Walk walk = WALK_INIT (script);
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *waits = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = walk_new (&walk, resume_later_cb);
  QTaskPoolStats stats;

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_pool_push (pool, waits, test_wait_worker, task, NULL);
  walk_start (&walk, pool, task);
  test_gate_open (&hold.release);
  test_run_until (NULL, walk.called && q_task_get_completed (waits));
  g_assert_no_error (walk.error);
  g_assert_false (q_task_had_error (waits));
  g_assert_cmpint (walk.n_steps, ==, (int) strlen (script));
  walk_end (&walk, task);
  test_finish (waits);
  test_finish (held);
  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.running, ==, 0);
  g_assert_cmpuint (stats.parked, ==, 0);
  g_assert_cmpuint (stats.finished, ==, 3);
  test_pool_drop (pool);
}

/* Who runs the steps of what it waits for gives up between two of them. */
static gboolean
wait_a_moment_worker (QTask *task,
                      gpointer awaited,
                      GError **error)
{
  g_autoptr (GError) wait_error = NULL;

  g_assert_false (q_task_wait_until (awaited, g_get_monotonic_time () + 50 * G_TIME_SPAN_MILLISECOND,
                                     NULL, &wait_error));
  g_assert_error (wait_error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);

  return TRUE;
}

static gboolean
wait_stoppably_worker (QTask *task,
                       gpointer awaited,
                       GError **error)
{
  return q_task_wait (awaited, q_task_get_stop_cancellable (task), error);
}

static void
test_worker_gives_up (gconstpointer cancels)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Walk walk = WALK_INIT ("c");
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *waits = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = walk_new (&walk, NULL);

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_pool_push (pool, waits, cancels ? wait_stoppably_worker : wait_a_moment_worker, task, NULL);
  walk_start (&walk, pool, task);
  test_gate_open (&hold.release);
  test_gate_wait_for (&walk.stepped, 10);
  if (cancels)
    q_task_cancel (waits);
  test_run_until (NULL, q_task_get_completed (waits));
  g_assert_cmpint (q_task_had_error (waits), ==, cancels != NULL);
  g_assert_finalize_object (waits);

  /* And somebody else goes on with them. */
  test_gate_wait_for (&walk.stepped, test_gate_get_count (&walk.stepped) + 10);
  q_task_cancel (task);
  walk_end (&walk, task);
  test_finish (held);
  test_pool_drop (pool);
}

/* Who runs the steps of what it waits for lets others be first between two of them. */
static void
test_worker_lets_urgent_pass (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Walk walk = WALK_INIT ("c");
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *waits = q_task_new (NULL, NULL, NULL, NULL);
  QTask *urgent = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = walk_new (&walk, NULL);

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_pool_push (pool, waits, test_wait_worker, task, NULL);
  walk_start (&walk, pool, task);
  test_gate_open (&hold.release);
  test_gate_wait_for (&walk.stepped, 10);
  q_task_set_priority (urgent, G_PRIORITY_HIGH);
  test_pool_push (pool, urgent, test_empty_worker, NULL, NULL);
  test_run_until (NULL, q_task_get_completed (urgent));
  g_assert_false (q_task_get_completed (waits));

  test_gate_wait_for (&walk.stepped, test_gate_get_count (&walk.stepped) + 10);
  q_task_cancel (task);
  test_finish (waits);
  walk_end (&walk, task);
  test_finish (urgent);
  test_finish (held);
  test_pool_drop (pool);
}

/* Waited for while it syncs already: the waiter parks, and a step needs a thread. */
static void
test_worker_waits_for_syncing (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Walk walk = WALK_INIT ("sscsse");
  QTask *waits = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = walk_new (&walk, leave_cb);

  walk_start (&walk, pool, task);
  test_run_until (NULL, walk.n_funcs == 1);
  test_pool_push (pool, waits, test_wait_worker, task, NULL);
  test_poll_until (test_pool_stats (pool).parked == 2);
  for (int i = 1; i <= 4; i++)
    {
      test_run_until (NULL, walk.n_funcs == i);
      g_assert_true (q_task_resume (task, FALSE));
    }
  test_run_until (NULL, walk.called && q_task_get_completed (waits));
  g_assert_no_error (walk.error);
  walk_end (&walk, task);
  test_finish (waits);
  test_pool_drop (pool);
}

static void
waited_cb (GObject *source,
           GAsyncResult *result,
           gpointer count)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_wait_finish (Q_TASK (source), result, &error));
  g_assert_no_error (error);
  (*(int *) count)++;
}

static void
test_wait_async (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Walk walk = WALK_INIT ("csscse");
  QTask *task = walk_new (&walk, resume_later_cb);
  int n_waited = 0;

  walk_start (&walk, pool, task);
  for (int i = 0; i < 10; i++)
    q_task_wait_async (task, NULL, waited_cb, &n_waited);
  test_run_until (NULL, n_waited == 10 && walk.called);
  g_assert_no_error (walk.error);
  test_run_pending (NULL);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* Ten thousand */

typedef enum
{
  END_RESUME,
  END_RESUME_AND_STOP,
  END_CANCEL,
  END_STOP_POOL,
  END_DRAIN_POOL,
  END_CONTEXT,
  N_ENDS
} End;

typedef struct
{
  int n_syncing; /* counted by the sync function */
  int n_steps;   /* atomic */
  int n_stop_steps;
  int n_released;
  int n_called;
  int n_succeeded;
  gboolean has_owner;
  GThread *owner;
} Crowd;

static QTaskStep
crowd_step (QTask *task,
            gpointer data,
            GError **error)
{
  Crowd *crowd = data;

  g_atomic_int_inc (&crowd->n_steps);
  if (q_task_is_cancelled (task))
    {
      g_atomic_int_inc (&crowd->n_stop_steps);
      return Q_TASK_STEP_STOPPED;
    }

  /* The first one syncs. */
  if (q_task_get_task_data (task) == NULL)
    {
      q_task_set_task_data (task, crowd, NULL);
      return Q_TASK_STEP_SYNC;
    }

  return Q_TASK_STEP_FINISHED;
}

static void
crowd_sync_cb (QTask *task,
               gpointer data)
{
  ((Crowd *) data)->n_syncing++;
}

static void
crowd_completed_cb (QTask *task,
                    gpointer data)
{
  g_autoptr (GError) error = NULL;
  Crowd *crowd = data;

  g_assert_true (g_thread_self () == crowd->owner);
  crowd->n_called++;
  if (q_task_propagate_error (task, &error))
    g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  else
    crowd->n_succeeded++;
}

static void
crowd_released (gpointer data)
{
  Crowd *crowd = data;

  if (crowd->has_owner)
    g_assert_true (g_thread_self () == crowd->owner);
  g_atomic_int_inc (&crowd->n_released);
}

typedef struct
{
  QTaskPool *pool;
  QTaskPoolCloseMode mode;
} Closing;

static gpointer
close_thread (gpointer data)
{
  Closing *closing = data;

  g_assert_true (q_task_pool_close (closing->pool, closing->mode, NULL, NULL));

  return NULL;
}

static void
test_ten_thousand (gconstpointer data)
{
  End end = (End) GPOINTER_TO_INT (data);
  QTaskPool *pool = q_task_pool_new ("thousands", 2, 0);
  int n = test_scaled (10000);
  g_autoptr (GPtrArray) tasks = g_ptr_array_new_full ((guint) n, g_object_unref);
  Crowd crowd = { .has_owner = end != END_CONTEXT, .owner = g_thread_self () };
  GThread *closer = NULL;
  Closing closing = { pool, end == END_STOP_POOL ? Q_TASK_POOL_CLOSE_STOP : Q_TASK_POOL_CLOSE_DRAIN };
  TestContext context;
  QTaskPoolStats stats;
  gint64 begin = g_get_monotonic_time ();
  QTask *other;

  test_context_begin (&context);
  for (int i = 0; i < n; i++)
    {
      QTask *task = q_task_new (NULL, crowd_completed_cb, &crowd, crowd_released);

      q_task_set_sync_func (task, crowd_sync_cb, &crowd, NULL);
      test_pool_push_steps (pool, task, crowd_step, &crowd, crowd_released);
      g_ptr_array_add (tasks, task);
    }
  test_run_until (context.context, crowd.n_syncing == n);

  stats = test_pool_stats (pool);
  g_assert_cmpuint (stats.running, ==, (guint) n);
  g_assert_cmpuint (stats.parked, ==, (guint) n);
  g_assert_cmpuint (stats.queued, ==, 0);
  g_assert_cmpuint (stats.threads, <=, 2);
  g_assert_cmpint (g_atomic_int_get (&crowd.n_steps), ==, n);
  g_test_message ("all sync after %d ms", (int) ((g_get_monotonic_time () - begin) / 1000));

  /* The pool is as good as idle. */
  other = q_task_new (NULL, NULL, NULL, NULL);
  test_pool_push (pool, other, test_empty_worker, NULL, NULL);
  test_run_until (context.context, q_task_get_completed (other));
  g_assert_finalize_object (other);
  g_assert_cmpuint (test_pool_stats (pool).threads, <=, 2);

  switch (end)
    {
    case END_RESUME:
    case END_RESUME_AND_STOP:
      for (int i = 0; i < n; i++)
        g_assert_true (q_task_resume (tasks->pdata[i], end == END_RESUME_AND_STOP && i % 2 == 1));
      break;
    case END_CANCEL:
      for (int i = 0; i < n; i++)
        q_task_cancel (tasks->pdata[n - i - 1]);
      break;
    case END_STOP_POOL:
      g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, NULL));
      break;
    case END_DRAIN_POOL:
      closer = g_thread_new ("close", close_thread, &closing);
      test_poll_until (q_task_pool_is_closed (pool));
      for (int i = 0; i < n; i++)
        g_assert_true (q_task_resume (tasks->pdata[i], FALSE));
      break;
    case END_CONTEXT:
      g_ptr_array_set_size (tasks, 0);
      test_context_end (&context);
      test_poll_until (g_atomic_int_get (&crowd.n_released) == 2 * n);
      g_assert_cmpint (crowd.n_called, ==, 0);
      g_assert_cmpint (g_atomic_int_get (&crowd.n_stop_steps), ==, n);
      break;
    default:
      g_assert_not_reached ();
    }

  if (end != END_CONTEXT)
    {
      test_run_until (context.context, crowd.n_called == n && g_atomic_int_get (&crowd.n_released) == 2 * n);
      g_clear_pointer (&closer, g_thread_join);
      if (end == END_RESUME_AND_STOP)
        g_assert_cmpint (crowd.n_succeeded, ==, (n + 1) / 2);
      else
        g_assert_cmpint (crowd.n_succeeded, ==, end == END_RESUME || end == END_DRAIN_POOL ? n : 0);
      g_assert_cmpint (g_atomic_int_get (&crowd.n_stop_steps), ==, n - crowd.n_succeeded);
      g_ptr_array_set_size (tasks, 0);
      test_context_end (&context);
    }

  g_assert_cmpint (g_atomic_int_get (&crowd.n_steps), ==, 2 * n);
  g_test_message ("all is over after %d ms", (int) ((g_get_monotonic_time () - begin) / 1000));
  test_poll_until (test_pool_stats (pool).running == 0);
  g_assert_cmpuint (test_pool_stats (pool).parked, ==, 0);
  test_pool_drop (pool);
}

/* The end of a pool */

static void
test_pool_drains (gconstpointer waits)
{
  QTaskPool *pool = q_task_pool_new ("drains", 1, 0);
  Walk walk = WALK_INIT ("ccsccssce");
  QTask *task = walk_new (&walk, resume_later_cb);
  Closing closing = { pool, Q_TASK_POOL_CLOSE_DRAIN };
  GThread *closer;

  walk.n_held = waits ? 0 : 1;
  walk_start (&walk, pool, task);
  if (waits)
    test_run_until (NULL, walk.n_funcs == 1);
  else
    test_gate_wait (&walk.stepped);
  closer = g_thread_new ("close", close_thread, &closing);
  test_poll_until (q_task_pool_is_closed (pool));
  test_gate_open (&walk.let);
  test_run_until (NULL, walk.called);
  g_assert_no_error (walk.error);
  g_assert_cmpint (walk.n_steps, ==, 9);
  g_thread_join (closer);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

static void
test_pool_stops (gconstpointer script)
{
  QTaskPool *pool = q_task_pool_new ("stops", 1, 0);
  Walk walk = WALK_INIT (script);
  QTask *task = walk_new (&walk, leave_cb);

  walk_start (&walk, pool, task);
  if (*(const char *) script == 's')
    test_run_until (NULL, walk.n_funcs == 1);
  else
    test_gate_wait_for (&walk.stepped, 10);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_STOP, NULL, NULL));
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_run_until (NULL, walk.called);
  g_assert_error (walk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (walk.n_stop_steps, ==, 1);
  walk_end (&walk, task);
  test_pool_drop (pool);
}

/* With a channel: what all the steps wrote comes before the callback. */
typedef struct
{
  int n_steps;
  int n_messages;
  int n_ends;
} Writes;

static QTaskStep
write_step (QTask *task,
            gpointer data,
            GError **error)
{
  Writes *writes = data;

  if (!q_task_channel_write (q_task_get_worker_channel (task), &writes->n_steps, sizeof (int), NULL, error))
    return Q_TASK_STEP_FAILED;
  if (++writes->n_steps == 100)
    return Q_TASK_STEP_FINISHED;

  return writes->n_steps % 10 == 0 ? Q_TASK_STEP_SYNC : Q_TASK_STEP_CHECK_IN;
}

static void
written_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Writes *writes = data;

  if (message == NULL)
    writes->n_ends++;
  else
    g_assert_cmpint (*(const int *) g_bytes_get_data (message, NULL), ==, writes->n_messages++);
}

static void
resume_only_cb (QTask *task,
                gpointer data)
{
  g_assert_true (q_task_resume (task, FALSE));
}

static void
all_written_cb (QTask *task,
                gpointer data)
{
  Writes *writes = data;

  g_assert_false (q_task_had_error (task));
  g_assert_cmpint (writes->n_messages, ==, 100);
  g_assert_cmpint (writes->n_ends, ==, 1);
}

static void
test_with_channel (void)
{
  QTaskPool *pool = q_task_pool_new ("channel", 1, 0);
  Writes writes = { 0 };
  QTask *task = q_task_new (NULL, all_written_cb, &writes, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_channel_set_message_func (q_task_get_channel (task), written_cb, &writes, NULL);
  q_task_set_sync_func (task, resume_only_cb, NULL, NULL);
  q_task_set_completion_priority (task, G_PRIORITY_HIGH);
  test_pool_push_steps (pool, task, write_step, &writes, NULL);
  test_finish (task);
  g_assert_cmpint (writes.n_ends, ==, 1);
  test_pool_drop (pool);
}

#define add(path, func) g_test_add_func ("/steps/" path, func)
#define add_data(path, data, func) g_test_add_data_func ("/steps/" path, data, func)
#define add_int(path, data, func) add_data (path, GINT_TO_POINTER (data), func)

int
main (int argc,
      char *argv[])
{
  static const char *const stop_names[N_STOPS] = {
    "resume", "resume-in-function", "cancel", "cancel-in-function", "cancel-before-owner-is-told",
    "given-cancellable", "timeout"
  };
  static const char *const end_names[N_ENDS] = {
    "resumed", "resumed-and-stopped", "cancelled", "pool-stopped", "pool-drained", "context-goes"
  };

  g_test_init (&argc, &argv, NULL);

  for (guint i = 0; i < G_N_ELEMENTS (returns); i++)
    {
      /* Capitals are errors; not all runners tell them from small ones. */
      g_autofree char *path = g_strdup_printf ("/steps/return/%u-%s", i, returns[i].script);

      g_test_add_data_func (path, &returns[i], test_return);
    }
  add ("return/set-outcome", test_set_outcome);

  add ("run-in-thread", test_run_steps_in_thread);
  add ("push-refused", test_push_refused);
  add ("push-closure", test_push_closure);
  add ("subclass", test_subclass);
  add ("sync-in-a-step", test_sync_in_step);
  add ("with-channel", test_with_channel);

  add_int ("urgent-between-steps", 0, test_urgent_between_steps);
  add_int ("urgent-between-urgent-steps", -100, test_urgent_between_steps);
  add ("many-check-in", test_many_check_in);
  add ("withdrawn", test_withdrawn);
  add ("stopped-between-steps", test_stopped_between_steps);
  for (guint i = 0; i < G_N_ELEMENTS (stops_in_step); i++)
    {
      g_autofree char *path = g_strdup_printf ("/steps/stopped-in-step/%s-%s",
                                               stops_in_step[i].timeout ? "timeout" : "cancel",
                                               stops_in_step[i].when_stopped);

      g_test_add_data_func (path, &stops_in_step[i], test_stopped_in_step);
    }
  add_data ("never-gives-up/check-in", "c", test_never_gives_up);
  add_data ("never-gives-up/sync", "s", test_never_gives_up);
  add_data ("run-cancelled/check-in", "c", test_run_cancelled);
  add_data ("run-cancelled/sync", "s", test_run_cancelled);

  add ("sync", test_sync);
  add_int ("sync/resumed-in-function", FALSE, test_resumed_in_function);
  add_int ("sync/resumed-elsewhere-in-function", TRUE, test_resumed_in_function);
  add_int ("sync/without-function", FALSE, test_resumed_untold);
  add_int ("sync/resumed-before-owner-is-told", TRUE, test_resumed_untold);
  for (int i = 0; i < N_STOPS; i++)
    {
      g_autofree char *path = g_strdup_printf ("/steps/sync/stopped/%s", stop_names[i]);

      g_test_add_data_func (path, GINT_TO_POINTER (i), test_stopped_while_syncing);
    }
  add ("sync/return-on-cancel", test_return_on_cancel);
  add_int ("sync/context-goes", TRUE, test_context_goes);
  add_int ("sync/context-goes-before-owner-is-told", FALSE, test_context_goes);
  add ("sync/nobody-keeps-the-task", test_nobody_keeps_task);
  add_int ("sync/pool-goes", FALSE, test_pool_goes);
  add_int ("sync/pool-goes-and-cancelled", TRUE, test_pool_goes);
  add_int ("full-queue/sync", FALSE, test_full_queue);
  add_int ("full-queue/check-in", TRUE, test_full_queue);
  add ("sync/threads-have-left", test_threads_have_left);

  add_data ("owner-waits/check-in", "cccce", test_owner_waits);
  add_data ("owner-waits/sync", "scsscse", test_owner_waits);
  add ("owner-waits/timeout", test_owner_waits_timeout);
  add_data ("worker-waits/one-step", "e", test_worker_waits);
  add_data ("worker-waits/check-in", "cccce", test_worker_waits);
  add_data ("worker-waits/sync", "scsscse", test_worker_waits);
  add_int ("worker-waits/gives-up", FALSE, test_worker_gives_up);
  add_int ("worker-waits/cancelled", TRUE, test_worker_gives_up);
  add ("worker-waits/lets-urgent-pass", test_worker_lets_urgent_pass);
  add ("worker-waits/for-syncing", test_worker_waits_for_syncing);
  add ("wait-async", test_wait_async);

  add_int ("pool-drains/in-step", FALSE, test_pool_drains);
  add_int ("pool-drains/syncing", TRUE, test_pool_drains);
  add_data ("pool-stops/check-in", "c", test_pool_stops);
  add_data ("pool-stops/syncing", "s", test_pool_stops);
  for (int i = 0; i < N_ENDS; i++)
    {
      g_autofree char *path = g_strdup_printf ("/steps/ten-thousand/%s", end_names[i]);

      g_test_add_data_func (path, GINT_TO_POINTER (i), test_ten_thousand);
    }

  return g_test_run ();
}
