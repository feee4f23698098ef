/* test-gtask-contract.c: GTask's contract, function by function
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whatever the reference manual of GIO says of g_task_foo () is tested of
 * q_task_foo () here, as it would be used by code that was ported by renaming.
 * Where QTask differs by design (a worker returns whether it succeeded; a task
 * is made with q_task_new_async (); last references are handed over to the
 * owner) it is QTask's rule that is tested.
 */

#include "test-util.h"

#include <string.h>

#define MAGIC 1234567

/* What an operation of a caller saw. The callback checks what holds of every
 * callback.
 */
typedef struct
{
  GObject *source;
  gpointer tag;
  int called;
  gssize number;
  GError *error;
  int serial;
  int notified; /* serial of notify::completed, 0: none yet */
  TestFate gone;
} Operation;

#define OPERATION_INIT \
  { \
    NULL, NULL, 0, 0, NULL, 0, 0, TEST_FATE_INIT \
  }

static void
operation_cb (GObject *source,
              GAsyncResult *result,
              gpointer data)
{
  Operation *op = data;
  QTask *task = Q_TASK (result);
  gboolean had_error = q_task_had_error (task);

  g_assert_true (source == op->source);
  g_assert_true (q_task_is_valid (result, op->source));
  g_assert_true (g_async_result_get_user_data (result) == data);
  g_assert_true (g_async_result_is_tagged (result, op->tag));
  g_assert_true (q_task_get_source_tag (task) == op->tag);
  g_assert_false (q_task_get_completed (task));
  g_assert_cmpint (op->called, ==, 0);

  op->number = q_task_propagate_int (task, &op->error);
  g_assert_cmpint (had_error, ==, op->error != NULL);
  if (op->error != NULL)
    g_assert_cmpint (op->number, ==, -1);

  /* Reading it makes no difference */
  g_assert_cmpint (q_task_had_error (task), ==, had_error);

  op->serial = test_next_serial ();
  g_atomic_int_set (&op->called, 1);
}

static gboolean
operation_is_called (Operation *op)
{
  return g_atomic_int_get (&op->called) != 0;
}

static void
operation_notify_cb (QTask *task,
                     GParamSpec *pspec,
                     gpointer data)
{
  Operation *op = data;

  /* Once, and when the callback is over */
  g_assert_cmpint (op->notified, ==, 0);
  g_assert_cmpint (op->called, ==, 1);
  g_assert_true (q_task_get_completed (task));
  g_assert_true (g_main_context_is_owner (q_task_get_context (task)));
  op->notified = test_next_serial ();
}

static QTask *
operation_task_new (Operation *op,
                    GCancellable *cancellable)
{
  QTask *task = q_task_new_async (op->source, cancellable, operation_cb, op);

  if (op->tag != NULL)
    q_task_set_source_tag (task, op->tag);
  g_signal_connect (task, "notify::completed", G_CALLBACK (operation_notify_cb), op);
  test_fate_watch (&op->gone, task);

  return task;
}

static void
operation_run (Operation *op)
{
  test_run_until (NULL, operation_is_called (op));
  g_assert_cmpint (op->notified, >, op->serial);
}

#define assert_number(op, n) \
  G_STMT_START \
  { \
    g_assert_cmpint ((op)->called, ==, 1); \
    g_assert_no_error ((op)->error); \
    g_assert_cmpint ((op)->number, ==, n); \
  } \
  G_STMT_END

#define assert_io_error(op, code) \
  G_STMT_START \
  { \
    g_assert_cmpint ((op)->called, ==, 1); \
    g_assert_error ((op)->error, G_IO_ERROR, code); \
    g_clear_error (&(op)->error); \
  } \
  G_STMT_END

/* A pending completion holds the task; when it is over nobody does */
static void
assert_released (Operation *op)
{
  test_run_until (NULL, test_fate_get_count (&op->gone) > 0);
  test_assert_destroyed_here (&op->gone);
}

static void
wait_cb (gpointer task,
         gpointer unused)
{
  g_autoptr (GError) error = NULL;

  q_task_wait_until (task, test_end_time (), NULL, &error);
  g_assert_no_error (error);
}

/* new */

static void
test_new_has_defaults (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  g_assert_null (q_task_get_source_object (task));
  g_assert_true (q_task_get_context (task) == g_main_context_default ());
  g_assert_cmpint (q_task_get_priority (task), ==, G_PRIORITY_DEFAULT);
  g_assert_true (q_task_get_check_cancellable (task));
  g_assert_false (q_task_get_return_on_cancel (task));
  g_assert_null (q_task_get_name (task));
  g_assert_null (q_task_get_source_tag (task));
  g_assert_null (q_task_get_task_data (task));
  g_assert_false (q_task_get_completed (task));
  g_assert_false (q_task_had_error (task));

  q_task_return_int (task, MAGIC);
  g_object_unref (task);
  operation_run (&op);
  assert_number (&op, MAGIC);
  assert_released (&op);
}

static void
test_new_keeps_source (void)
{
  Operation op = OPERATION_INIT;
  TestFate gone = TEST_FATE_INIT;
  QTask *task;

  op.source = test_probe_new (&gone);
  task = operation_task_new (&op, NULL);
  g_object_unref (op.source);
  test_assert_alive (&gone);
  q_task_return_int (task, MAGIC);
  g_object_unref (task);
  test_assert_alive (&gone);
  operation_run (&op);
  assert_number (&op, MAGIC);
  assert_released (&op);
  test_assert_destroyed_here (&gone);
}

static void
test_new_keeps_cancellable (void)
{
  Operation op = OPERATION_INIT;
  TestFate gone = TEST_FATE_INIT;
  GCancellable *cancellable = test_cancellable_new (&gone);
  QTask *task = operation_task_new (&op, cancellable);

  g_object_unref (cancellable);
  test_assert_alive (&gone);
  g_assert_true (q_task_get_cancellable (task) == cancellable);
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  test_assert_alive (&gone);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&gone);
}

static void
test_new_with_no_cancellable_has_its_own (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  /* Where GTask has none */
  g_assert_true (G_IS_CANCELLABLE (q_task_get_cancellable (task)));
  g_cancellable_cancel (q_task_get_cancellable (task));
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  assert_io_error (&op, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

static void
test_new_without_callback (void)
{
  TestFate gone = TEST_FATE_INIT;
  QTask *task = q_task_new_async (NULL, NULL, NULL, NULL);

  /* It completes all the same, and no sooner */
  test_fate_watch (&gone, task);
  q_task_return_boolean (task, TRUE);
  g_assert_false (q_task_get_completed (task));
  test_run_until (NULL, q_task_get_completed (task));
  g_object_unref (task);
  test_run_until (NULL, test_fate_get_count (&gone) == 1);
}

typedef struct
{
  Operation op;
  QTask *task;
  GMainContext *expected;
} InLoop;

static void
in_loop_start_cb (gpointer data,
                  gpointer unused)
{
  InLoop *in_loop = data;

  in_loop->task = operation_task_new (&in_loop->op, NULL);
  g_assert_true (q_task_get_context (in_loop->task) == in_loop->expected);
}

static void
test_new_keeps_thread_default_context (void)
{
  g_autoptr (TestLoop) loop = test_loop_new ("owner");
  InLoop in_loop = { OPERATION_INIT, NULL, test_loop_get_context (loop) };

  /* Returned here, it completes there */
  test_loop_call (loop, in_loop_start_cb, &in_loop);
  q_task_return_int (in_loop.task, MAGIC);
  g_object_unref (in_loop.task);
  test_fate_wait (&in_loop.op.gone);
  test_assert_destroyed_in (&in_loop.op.gone, test_loop_get_thread (loop));
  assert_number (&in_loop.op, MAGIC);
}

/* report_error, report_new_error */

static void
test_report_error (void)
{
  Operation op = OPERATION_INIT;
  TestFate gone = TEST_FATE_INIT;

  op.source = test_probe_new (&gone);
  op.tag = test_report_error;
  q_task_report_error (op.source, operation_cb, &op, op.tag,
                       g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, "as it is: %s"));
  g_assert_cmpint (op.called, ==, 0);
  test_run_until (NULL, operation_is_called (&op));
  g_assert_cmpstr (op.error->message, ==, "as it is: %s");
  assert_io_error (&op, G_IO_ERROR_EXISTS);
  g_assert_finalize_object (op.source);
}

static gboolean
report_new_error_cb (gpointer data)
{
  Operation *op = data;

  q_task_report_new_error (NULL, operation_cb, op, op->tag,
                           G_IO_ERROR, G_IO_ERROR_FAILED, "made of %s and %d", "text", 4);
  g_assert_cmpint (op->called, ==, 0);

  return G_SOURCE_REMOVE;
}

static void
test_report_new_error (void)
{
  Operation op = OPERATION_INIT;

  /* In the next iteration, also when in an iteration */
  op.tag = test_report_new_error;
  g_idle_add (report_new_error_cb, &op);
  test_run_until (NULL, operation_is_called (&op));
  g_assert_cmpstr (op.error->message, ==, "made of text and 4");
  assert_io_error (&op, G_IO_ERROR_FAILED);
}

static void
test_report_error_to_nobody (void)
{
  q_task_report_new_error (NULL, NULL, NULL, NULL, G_IO_ERROR, G_IO_ERROR_FAILED, "unheard");
  test_run_pending (NULL);
}

/* set_task_data, get_task_data */

static void
test_task_data_is_freed_with_the_task (void)
{
  Operation op = OPERATION_INIT;
  TestFate data = TEST_FATE_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_set_task_data (task, &data, test_fate_notify);
  q_task_return_int (task, MAGIC);
  g_object_unref (task);
  operation_run (&op);
  assert_released (&op);
  test_assert_destroyed_here (&data);
}

static void
test_task_data_replaced_is_freed_at_once (void)
{
  Operation op = OPERATION_INIT;
  TestFate first = TEST_FATE_INIT, second = TEST_FATE_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_set_task_data (task, &first, test_fate_notify);
  q_task_set_task_data (task, &second, test_fate_notify);
  test_assert_destroyed_here (&first);
  test_assert_alive (&second);
  q_task_set_task_data (task, NULL, NULL);
  test_assert_destroyed_here (&second);
  g_assert_null (q_task_get_task_data (task));

  /* Without a function, nothing is freed */
  q_task_set_task_data (task, &first, NULL);
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  g_assert_true (q_task_get_task_data (task) == &first);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&first);
}

static gboolean
replace_data_worker (QTask *task,
                     gpointer second,
                     GError **error)
{
  q_task_set_task_data (task, second, test_fate_notify);
  q_task_return_int (task, MAGIC);

  return TRUE;
}

static void
test_task_data_replaced_in_a_worker (void)
{
  Operation op = OPERATION_INIT;
  TestFate first = TEST_FATE_INIT, second = TEST_FATE_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_set_task_data (task, &first, test_fate_notify);
  q_task_run_in_thread (task, replace_data_worker, &second, NULL);
  test_in_thread (wait_cb, task);
  g_assert_cmpint (test_fate_get_count (&first), ==, 1);
  g_assert_true (test_fate_get_thread (&first) != g_thread_self ());
  test_assert_alive (&second);
  operation_run (&op);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&second);
}

/* set_priority, get_priority */

static void
test_priority_orders_completions (void)
{
  Operation normal = OPERATION_INIT, high = OPERATION_INIT, low = OPERATION_INIT;
  QTask *tasks[] = {
    operation_task_new (&normal, NULL),
    operation_task_new (&high, NULL),
    operation_task_new (&low, NULL)
  };
  gsize i;

  q_task_set_priority (tasks[1], G_PRIORITY_HIGH);
  q_task_set_priority (tasks[2], G_PRIORITY_LOW);
  for (i = 0; i < G_N_ELEMENTS (tasks); i++)
    q_task_return_int (tasks[i], MAGIC);

  operation_run (&low);
  g_assert_cmpint (high.serial, <, normal.serial);
  g_assert_cmpint (normal.serial, <, low.serial);
  for (i = 0; i < G_N_ELEMENTS (tasks); i++)
    g_assert_finalize_object (tasks[i]);
}

static gboolean
serial_worker (QTask *task,
               gpointer serial,
               GError **error)
{
  *(int *) serial = test_next_serial ();

  return TRUE;
}

static void
test_priority_orders_workers (void)
{
  g_autoptr (QTaskPool) pool = q_task_pool_new ("one", 1, 0);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestHold hold = TEST_HOLD_INIT;
  QTask *holder = q_task_new (NULL, NULL, NULL, NULL);
  Operation ops[4] = { OPERATION_INIT, OPERATION_INIT, OPERATION_INIT, OPERATION_INIT };
  int serials[4] = { 0 };
  QTask *tasks[4];
  gsize i;

  g_assert_true (q_task_pool_push (pool, holder, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);

  for (i = 0; i < 4; i++)
    tasks[i] = operation_task_new (&ops[i], i == 3 ? cancellable : NULL);
  q_task_set_priority (tasks[1], G_PRIORITY_LOW);
  q_task_set_priority (tasks[2], G_PRIORITY_HIGH);
  for (i = 0; i < 4; i++)
    g_assert_true (q_task_pool_push (pool, tasks[i], serial_worker, &serials[i], NULL, NULL));

  /* One that has been cancelled is let through first */
  g_cancellable_cancel (cancellable);
  test_gate_open (&hold.release);
  test_run_until (NULL, operation_is_called (&ops[0]) && operation_is_called (&ops[1]) &&
                          operation_is_called (&ops[2]) && operation_is_called (&ops[3]));
  g_assert_cmpint (serials[3], >, 0);
  g_assert_cmpint (serials[3], <, serials[2]);
  g_assert_cmpint (serials[2], <, serials[0]);
  g_assert_cmpint (serials[0], <, serials[1]);
  assert_io_error (&ops[3], G_IO_ERROR_CANCELLED);

  for (i = 0; i < 4; i++)
    g_assert_finalize_object (tasks[i]);
  test_run_until (NULL, q_task_get_completed (holder));
  g_object_unref (holder);
}

/* set_check_cancellable, get_check_cancellable */

static void
test_check_cancellable (void)
{
  int check, before, after;

  for (check = 0; check < 2; check++)
    for (before = 0; before < 2; before++)
      for (after = 0; after < 2; after++)
        {
          g_autoptr (GCancellable) cancellable = g_cancellable_new ();
          Operation op = OPERATION_INIT;
          QTask *task = operation_task_new (&op, cancellable);

          q_task_set_check_cancellable (task, check);
          g_assert_cmpint (q_task_get_check_cancellable (task), ==, check);
          if (before)
            g_cancellable_cancel (cancellable);
          q_task_return_int (task, MAGIC);
          g_assert_cmpint (q_task_had_error (task), ==, check && before);
          if (after)
            g_cancellable_cancel (cancellable);
          g_assert_cmpint (q_task_had_error (task), ==, check && (before || after));
          operation_run (&op);

          if (check && (before || after))
            assert_io_error (&op, G_IO_ERROR_CANCELLED);
          else
            assert_number (&op, MAGIC);
          g_assert_finalize_object (task);
        }
}

static void
test_check_cancellable_beats_an_error (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, cancellable);

  q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_EXISTS, "other");
  g_cancellable_cancel (cancellable);
  operation_run (&op);
  assert_io_error (&op, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

static void
test_check_cancellable_keeps_the_result_to_free (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestFate result = TEST_FATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new_async (NULL, cancellable, NULL, NULL);

  q_task_return_pointer (task, &result, test_fate_notify);
  g_cancellable_cancel (cancellable);
  g_assert_null (q_task_propagate_pointer (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  test_assert_alive (&result);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&result);
}

/* set_return_on_cancel, get_return_on_cancel */

typedef struct
{
  Operation op;
  TestHold hold;
  TestGate off, enable, enabled, ended;
  int disabled; /* what set_return_on_cancel () said; atomic */
  int enabled_again;
  int enabled_last;
} Switch;

#define SWITCH_INIT \
  { \
    OPERATION_INIT, TEST_HOLD_INIT, TEST_GATE_INIT, TEST_GATE_INIT, TEST_GATE_INIT, TEST_GATE_INIT, -1, -1, -1 \
  }

static gboolean
returning_worker (QTask *task,
                  gpointer data,
                  GError **error)
{
  Switch *sw = data;

  test_gate_open (&sw->hold.entered);
  test_gate_wait (&sw->hold.release);

  /* As the reference has it: only who is not cancelled may go on */
  if (!q_task_get_return_on_cancel (task) || q_task_set_return_on_cancel (task, FALSE))
    {
      g_atomic_int_set (&sw->disabled, TRUE);
      q_task_return_int (task, MAGIC);
    }
  else
    g_atomic_int_set (&sw->disabled, FALSE);

  test_gate_open (&sw->ended);

  return TRUE;
}

static void
test_return_on_cancel_off (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Switch sw = SWITCH_INIT;
  QTask *task = operation_task_new (&sw.op, cancellable);

  q_task_run_in_thread (task, returning_worker, &sw, NULL);
  g_object_unref (task);
  test_gate_wait (&sw.hold.entered);
  g_cancellable_cancel (cancellable);
  test_run_pending (NULL);
  g_assert_cmpint (sw.op.called, ==, 0);

  test_gate_open (&sw.hold.release);
  operation_run (&sw.op);
  assert_io_error (&sw.op, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (g_atomic_int_get (&sw.disabled), ==, TRUE);
  assert_released (&sw.op);
}

static void
test_return_on_cancel_on (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Switch sw = SWITCH_INIT;
  QTask *task = operation_task_new (&sw.op, cancellable);

  g_assert_true (q_task_set_return_on_cancel (task, TRUE));
  g_assert_true (q_task_get_return_on_cancel (task));
  q_task_run_in_thread (task, returning_worker, &sw, NULL);
  g_object_unref (task);
  test_gate_wait (&sw.hold.entered);
  g_cancellable_cancel (cancellable);
  operation_run (&sw.op);
  assert_io_error (&sw.op, G_IO_ERROR_CANCELLED);

  /* While the worker still runs, and has the task */
  g_assert_cmpint (test_gate_get_count (&sw.ended), ==, 0);
  test_run_pending (NULL);
  test_assert_alive (&sw.op.gone);
  test_gate_open (&sw.hold.release);
  test_gate_wait (&sw.ended);
  g_assert_cmpint (g_atomic_int_get (&sw.disabled), ==, FALSE);
  assert_released (&sw.op);
}

static void
test_return_on_cancel_on_and_not_cancelled (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Switch sw = SWITCH_INIT;
  QTask *task = operation_task_new (&sw.op, cancellable);

  q_task_set_return_on_cancel (task, TRUE);
  q_task_run_in_thread (task, returning_worker, &sw, NULL);
  test_gate_open (&sw.hold.release);
  operation_run (&sw.op);
  assert_number (&sw.op, MAGIC);
  g_assert_cmpint (g_atomic_int_get (&sw.disabled), ==, TRUE);
  g_assert_false (q_task_get_return_on_cancel (task));
  g_assert_finalize_object (task);
}

static void
test_return_on_cancel_cancelled_before (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Switch sw = SWITCH_INIT;
  QTask *task = operation_task_new (&sw.op, cancellable);

  /* It returns at once; the worker is run all the same */
  q_task_set_return_on_cancel (task, TRUE);
  g_cancellable_cancel (cancellable);
  q_task_run_in_thread (task, returning_worker, &sw, NULL);
  g_object_unref (task);
  g_assert_cmpint (sw.op.called, ==, 0);
  operation_run (&sw.op);
  assert_io_error (&sw.op, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (test_gate_get_count (&sw.ended), ==, 0);

  test_gate_wait (&sw.hold.entered);
  test_gate_open (&sw.hold.release);
  test_gate_wait (&sw.ended);
  g_assert_cmpint (g_atomic_int_get (&sw.disabled), ==, FALSE);
  assert_released (&sw.op);
}

static void
test_return_on_cancel_before_the_start (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, cancellable);

  /* Meaningless then, and thus always possible */
  g_cancellable_cancel (cancellable);
  g_assert_true (q_task_set_return_on_cancel (task, TRUE));
  g_assert_true (q_task_set_return_on_cancel (task, FALSE));
  g_assert_true (q_task_set_return_on_cancel (task, TRUE));
  test_run_pending (NULL);
  g_assert_cmpint (op.called, ==, 0);
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  assert_io_error (&op, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

static gboolean
switching_worker (QTask *task,
                  gpointer data,
                  GError **error)
{
  Switch *sw = data;

  test_gate_wait (&sw->hold.release);
  g_atomic_int_set (&sw->disabled, q_task_set_return_on_cancel (task, FALSE));
  test_gate_open (&sw->off);
  test_gate_wait (&sw->enable);
  g_atomic_int_set (&sw->enabled_again, q_task_set_return_on_cancel (task, TRUE));
  test_gate_open (&sw->enabled);
  test_gate_wait_for (&sw->enable, 2);
  g_atomic_int_set (&sw->enabled_last, q_task_set_return_on_cancel (task, TRUE));
  q_task_return_int (task, MAGIC);
  test_gate_open (&sw->ended);

  return TRUE;
}

static void
test_return_on_cancel_switched (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Switch sw = SWITCH_INIT;
  QTask *task = operation_task_new (&sw.op, cancellable);

  /* As often as one likes, as long as it is not cancelled */
  q_task_set_return_on_cancel (task, TRUE);
  q_task_run_in_thread (task, switching_worker, &sw, NULL);
  test_gate_open (&sw.hold.release);
  test_gate_wait (&sw.off);
  g_assert_false (q_task_get_return_on_cancel (task));
  test_gate_open (&sw.enable);
  test_gate_wait (&sw.enabled);
  g_assert_true (q_task_get_return_on_cancel (task));
  test_gate_open (&sw.enable);
  operation_run (&sw.op);
  assert_number (&sw.op, MAGIC);
  g_assert_cmpint (g_atomic_int_get (&sw.disabled), ==, TRUE);
  g_assert_cmpint (g_atomic_int_get (&sw.enabled_again), ==, TRUE);
  g_assert_cmpint (g_atomic_int_get (&sw.enabled_last), ==, TRUE);
  g_assert_finalize_object (task);
}

static void
test_return_on_cancel_cancelled_while_off (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Switch sw = SWITCH_INIT;
  QTask *task = operation_task_new (&sw.op, cancellable);

  q_task_set_return_on_cancel (task, TRUE);
  q_task_run_in_thread (task, switching_worker, &sw, NULL);
  test_gate_open (&sw.hold.release);
  test_gate_wait (&sw.off);
  g_cancellable_cancel (cancellable);
  test_run_pending (NULL);
  g_assert_cmpint (sw.op.called, ==, 0);

  /* Switched on again, it is cancelled at that point */
  test_gate_open (&sw.enable);
  test_gate_wait (&sw.enabled);
  g_assert_cmpint (g_atomic_int_get (&sw.enabled_again), ==, FALSE);
  operation_run (&sw.op);
  assert_io_error (&sw.op, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (test_gate_get_count (&sw.ended), ==, 0);
  g_assert_false (q_task_get_return_on_cancel (task));

  test_gate_open (&sw.enable);
  test_gate_wait (&sw.ended);
  g_assert_cmpint (g_atomic_int_get (&sw.enabled_last), ==, FALSE);
  g_object_unref (task);
  assert_released (&sw.op);
}

static void
test_return_on_cancel_cancelled_while_on (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Switch sw = SWITCH_INIT;
  QTask *task = operation_task_new (&sw.op, cancellable);

  q_task_set_return_on_cancel (task, TRUE);
  q_task_run_in_thread (task, switching_worker, &sw, NULL);
  g_cancellable_cancel (cancellable);
  test_gate_open (&sw.hold.release);
  test_gate_wait (&sw.off);
  g_assert_cmpint (g_atomic_int_get (&sw.disabled), ==, FALSE);
  operation_run (&sw.op);
  assert_io_error (&sw.op, G_IO_ERROR_CANCELLED);
  test_gate_open (&sw.enable);
  test_gate_open (&sw.enable);
  test_gate_wait (&sw.ended);
  g_object_unref (task);
  assert_released (&sw.op);
}

typedef struct
{
  Operation op;
  TestGate ended;
  int touched; /* what must not change once the callback ran; atomic */
} Race;

static gboolean
racing_worker (QTask *task,
               gpointer data,
               GError **error)
{
  Race *race = data;

  if (q_task_set_return_on_cancel (task, FALSE))
    g_atomic_int_set (&race->touched, 1);
  test_gate_open (&race->ended);

  return TRUE;
}

static void
test_return_on_cancel_races (void)
{
  int i, n_touched = 0;
  const int n = test_is_slow () ? 40 : 400;

  for (i = 0; i < n; i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Race race = { OPERATION_INIT, TEST_GATE_INIT, 0 };
      QTask *task = operation_task_new (&race.op, cancellable);
      int touched, spin;

      q_task_set_return_on_cancel (task, TRUE);
      q_task_run_in_thread (task, racing_worker, &race, NULL);
      for (spin = 0; spin < (i % 40) * 50; spin++)
        g_atomic_int_get (&race.touched);
      g_cancellable_cancel (cancellable);
      operation_run (&race.op);
      touched = g_atomic_int_get (&race.touched);

      /* Whoever was first: what the callback saw stays so */
      test_gate_wait (&race.ended);
      g_assert_cmpint (g_atomic_int_get (&race.touched), ==, touched);
      assert_io_error (&race.op, G_IO_ERROR_CANCELLED);
      n_touched += touched;
      g_object_unref (task);
      assert_released (&race.op);
    }

  g_test_message ("the worker was first in %d of %d", n_touched, n);
}

/* set_source_tag, get_source_tag, set_name, get_name */

static void
test_source_tag_sets_no_name (void)
{
  Operation op = OPERATION_INIT;
  QTask *task;

  op.tag = test_source_tag_sets_no_name;
  task = operation_task_new (&op, NULL);
  g_assert_null (q_task_get_name (task));
  g_assert_false (g_async_result_is_tagged (G_ASYNC_RESULT (task), &op));
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  g_assert_finalize_object (task);
}

static gboolean
name_worker (QTask *task,
             gpointer name,
             GError **error)
{
  g_assert_cmpstr (q_task_get_name (task), ==, name);
  q_task_return_int (task, MAGIC);

  return TRUE;
}

static void
test_name_is_kept (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_set_name (task, "some task");
  q_task_run_in_thread (task, name_worker, (gpointer) "some task", NULL);
  operation_run (&op);
  assert_number (&op, MAGIC);
  g_assert_cmpstr (q_task_get_name (task), ==, "some task");
  g_assert_finalize_object (task);
}

static void
test_name_static_is_not_copied (void)
{
  static const char name[] = "static";
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  /* Since 2.76 */
  q_task_set_name (task, "copied");
  q_task_set_static_name (task, name);
  g_assert_true (q_task_get_name (task) == name);
  q_task_set_name (task, "copied");
  g_assert_cmpstr (q_task_get_name (task), ==, "copied");
  q_task_set_static_name (task, NULL);
  g_assert_null (q_task_get_name (task));
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  g_assert_finalize_object (task);
}

/* get_source_object */

static void
test_source_object_is_borrowed_or_referenced (void)
{
  Operation op = OPERATION_INIT;
  TestFate gone = TEST_FATE_INIT;
  GObject *same;
  QTask *task;
  guint n_refs;

  op.source = test_probe_new (&gone);
  task = operation_task_new (&op, NULL);
  n_refs = op.source->ref_count;
  g_assert_true (q_task_get_source_object (task) == op.source);
  g_assert_cmpuint (op.source->ref_count, ==, n_refs);
  same = g_async_result_get_source_object (G_ASYNC_RESULT (task));
  g_assert_true (same == op.source);
  g_assert_cmpuint (op.source->ref_count, ==, n_refs + 1);
  g_object_unref (same);
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  g_assert_finalize_object (task);
  g_assert_finalize_object (op.source);
}

/* attach_source */

static gboolean
attached_cb (gpointer task)
{
  g_assert_true (Q_IS_TASK (task));
  q_task_return_int (task, MAGIC);

  return G_SOURCE_REMOVE;
}

static gboolean
ready_dispatch (GSource *source,
                GSourceFunc callback,
                gpointer data)
{
  return callback (data);
}

static void
test_attach_source (void)
{
  GSourceFuncs ready_funcs = { .dispatch = ready_dispatch };
  g_autoptr (GMainContext) context = g_main_context_new ();
  Operation op = OPERATION_INIT;
  g_autoptr (GSource) source = g_source_new (&ready_funcs, sizeof (GSource));
  QTask *task;

  g_source_set_ready_time (source, 0);
  g_main_context_push_thread_default (context);
  task = operation_task_new (&op, NULL);
  g_main_context_pop_thread_default (context);
  q_task_set_priority (task, 17);
  q_task_set_name (task, "named");
  q_task_attach_source (task, source, attached_cb);

  g_assert_true (g_source_get_context (source) == context);
  g_assert_cmpint (g_source_get_priority (source), ==, 17);
  g_assert_cmpstr (g_source_get_name (source), ==, "named");

  /* The source has a reference of its own */
  g_object_unref (task);
  test_assert_alive (&op.gone);
  test_run_until (context, operation_is_called (&op));
  assert_number (&op, MAGIC);
  test_run_until (context, test_fate_get_count (&op.gone) == 1);
  g_assert_true (g_source_is_destroyed (source));
}

static void
test_attach_source_keeps_its_name (void)
{
  Operation op = OPERATION_INIT;
  g_autoptr (GSource) source = g_idle_source_new ();
  QTask *task = operation_task_new (&op, NULL);

  /* Since 2.76 a source that has a name is not renamed */
  q_task_set_name (task, "named");
  g_source_set_name (source, "its own");
  q_task_attach_source (task, source, attached_cb);
  g_assert_cmpstr (g_source_get_name (source), ==, "its own");
  g_assert_cmpint (g_source_get_priority (source), ==, G_PRIORITY_DEFAULT);

  /* Destroyed without being dispatched, it gives the reference back */
  g_source_destroy (source);
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  g_assert_finalize_object (task);
}

/* return_*: when the callback is called */

typedef struct
{
  Operation op;
  QTask *task;
  GCancellable *cancellable;
  gboolean in_place; /* what is expected */
} Return;

static gboolean
return_cb (gpointer data)
{
  Return *ret = data;

  if (ret->task == NULL)
    ret->task = operation_task_new (&ret->op, NULL);
  q_task_return_int (ret->task, MAGIC);
  g_assert_cmpint (ret->op.called, ==, ret->in_place);
  g_assert_cmpint (q_task_get_completed (ret->task), ==, ret->in_place);
  g_clear_object (&ret->task);

  return G_SOURCE_REMOVE;
}

static void
test_return_in_the_same_iteration (void)
{
  Return ret = { OPERATION_INIT, NULL, NULL, FALSE };

  g_idle_add (return_cb, &ret);
  operation_run (&ret.op);
  assert_number (&ret.op, MAGIC);
  assert_released (&ret.op);
}

static gboolean
make_cb (gpointer data)
{
  Return *ret = data;

  ret->task = operation_task_new (&ret->op, NULL);
  g_idle_add (return_cb, ret);

  return G_SOURCE_REMOVE;
}

static void
test_return_in_a_later_iteration (void)
{
  Return ret = { OPERATION_INIT, NULL, NULL, TRUE };

  g_idle_add (make_cb, &ret);
  operation_run (&ret.op);
  assert_number (&ret.op, MAGIC);
  assert_released (&ret.op);
}

static gboolean
make_and_iterate_cb (gpointer data)
{
  Return *ret = data;

  /* Nested, but later */
  ret->task = operation_task_new (&ret->op, NULL);
  g_idle_add (return_cb, ret);
  test_run_until (NULL, operation_is_called (&ret->op));

  return G_SOURCE_REMOVE;
}

static void
test_return_in_a_nested_iteration (void)
{
  Return ret = { OPERATION_INIT, NULL, NULL, TRUE };

  g_idle_add (make_and_iterate_cb, &ret);
  operation_run (&ret.op);
  assert_number (&ret.op, MAGIC);
  assert_released (&ret.op);
}

static void
test_return_in_no_iteration (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_return_int (task, MAGIC);
  g_object_unref (task);
  g_assert_cmpint (op.called, ==, 0);
  test_assert_alive (&op.gone);
  operation_run (&op);
  assert_number (&op, MAGIC);
  assert_released (&op);
}

static void
test_return_made_in_no_iteration (void)
{
  Return ret = { OPERATION_INIT, NULL, NULL, TRUE };

  ret.task = operation_task_new (&ret.op, NULL);
  g_idle_add (return_cb, &ret);
  operation_run (&ret.op);
  assert_number (&ret.op, MAGIC);
  assert_released (&ret.op);
}

static void
test_return_while_another_context_dispatches (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  Return ret = { OPERATION_INIT, NULL, NULL, FALSE };
  g_autoptr (GSource) source = g_idle_source_new ();

  /* The task belongs to the default context */
  ret.task = operation_task_new (&ret.op, NULL);
  g_source_set_callback (source, return_cb, &ret, NULL);
  g_source_attach (source, context);
  test_run_until (context, ret.task == NULL);
  test_run_pending (context);
  g_assert_cmpint (ret.op.called, ==, 0);
  operation_run (&ret.op);
  assert_number (&ret.op, MAGIC);
  assert_released (&ret.op);
}

static gboolean
return_cancelled_cb (gpointer data)
{
  Return *ret = data;

  g_cancellable_cancel (ret->cancellable);

  return return_cb (data);
}

static void
test_return_when_cancelled (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Return ret = { OPERATION_INIT, NULL, cancellable, FALSE };

  ret.task = operation_task_new (&ret.op, cancellable);
  g_idle_add (return_cancelled_cb, &ret);
  operation_run (&ret.op);
  assert_io_error (&ret.op, G_IO_ERROR_CANCELLED);
  assert_released (&ret.op);
}

static void
return_in_handler_cb (GCancellable *cancellable,
                      gpointer data)
{
  return_cb (data);
}

static gboolean
cancel_cb (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);

  return G_SOURCE_REMOVE;
}

static void
test_return_in_a_cancelled_handler (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Return ret = { OPERATION_INIT, NULL, NULL, FALSE };

  ret.task = operation_task_new (&ret.op, cancellable);
  g_cancellable_connect (cancellable, G_CALLBACK (return_in_handler_cb), &ret, NULL);
  g_idle_add (cancel_cb, cancellable);
  operation_run (&ret.op);
  assert_io_error (&ret.op, G_IO_ERROR_CANCELLED);
  assert_released (&ret.op);
}

static void
return_elsewhere_cb (gpointer task,
                     gpointer unused)
{
  q_task_return_int (task, MAGIC);
  g_object_unref (task);
}

static void
test_return_in_a_thread_without_context (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  /* With nobody to hold the context of the task */
  test_in_thread (return_elsewhere_cb, task);
  g_assert_cmpint (op.called, ==, 0);
  test_assert_alive (&op.gone);
  operation_run (&op);
  assert_number (&op, MAGIC);
  assert_released (&op);
}

static void
test_return_in_a_thread_with_another_context (void)
{
  g_autoptr (TestLoop) loop = test_loop_new ("other");
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  test_loop_call (loop, return_elsewhere_cb, task);
  g_assert_cmpint (op.called, ==, 0);
  operation_run (&op);
  assert_number (&op, MAGIC);
  assert_released (&op);
}

/* return_pointer, propagate_pointer and so on */

static QTask *
task_new (void)
{
  return q_task_new_async (NULL, NULL, NULL, NULL);
}

static void
test_return_pointer (void)
{
  TestFate unread = TEST_FATE_INIT, taken = TEST_FATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  q_task_return_pointer (task, &unread, test_fate_notify);
  test_assert_alive (&unread);
  test_finish (task);
  test_assert_destroyed_here (&unread);

  task = task_new ();
  q_task_return_pointer (task, &taken, test_fate_notify);
  g_assert_true (q_task_propagate_pointer (task, &error) == &taken);
  g_assert_no_error (error);
  test_finish (task);
  test_assert_alive (&taken);

  task = task_new ();
  q_task_return_pointer (task, NULL, test_fate_notify);
  g_assert_null (q_task_propagate_pointer (task, &error));
  g_assert_no_error (error);
  test_finish (task);
}

static void
test_return_int_and_boolean (void)
{
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  q_task_return_int (task, G_MINSSIZE);
  g_assert_cmpint (q_task_propagate_int (task, &error), ==, G_MINSSIZE);
  g_assert_no_error (error);
  test_finish (task);

  task = task_new ();
  q_task_return_boolean (task, TRUE);
  g_assert_true (q_task_propagate_boolean (task, &error));
  g_assert_no_error (error);
  test_finish (task);

  /* FALSE is no error */
  task = task_new ();
  q_task_return_boolean (task, FALSE);
  g_assert_false (q_task_propagate_boolean (task, &error));
  g_assert_no_error (error);
  g_assert_false (q_task_had_error (task));
  test_finish (task);
}

static void
test_return_value (void)
{
  g_auto (GValue) value = G_VALUE_INIT, taken = G_VALUE_INIT;
  TestFate gone = TEST_FATE_INIT;
  GObject *probe = test_probe_new (&gone);
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  /* A copy, that is handed on */
  g_value_init (&value, G_TYPE_OBJECT);
  g_value_set_object (&value, probe);
  g_assert_cmpuint (probe->ref_count, ==, 2);
  q_task_return_value (task, &value);
  g_assert_cmpuint (probe->ref_count, ==, 3);
  g_assert_true (q_task_propagate_value (task, &taken, &error));
  g_assert_no_error (error);
  g_assert_true (g_value_get_object (&taken) == probe);
  g_assert_cmpuint (probe->ref_count, ==, 3);
  test_finish (task);
  g_assert_cmpuint (probe->ref_count, ==, 3);
  g_value_unset (&taken);

  /* A copy, that is not read */
  task = task_new ();
  q_task_return_value (task, &value);
  test_finish (task);
  g_assert_cmpuint (probe->ref_count, ==, 2);
  g_value_unset (&value);
  g_assert_finalize_object (probe);
}

static void
test_return_value_null (void)
{
  g_auto (GValue) taken = G_VALUE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  q_task_return_value (task, NULL);
  g_assert_true (q_task_propagate_value (task, &taken, &error));
  g_assert_no_error (error);
  g_assert_true (G_VALUE_HOLDS_POINTER (&taken));
  g_assert_null (g_value_get_pointer (&taken));
  test_finish (task);
}

static void
test_return_error (void)
{
  g_autoptr (GError) error = NULL;
  GError *given = g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, "given");
  QTask *task = task_new ();

  /* Which is not copied */
  q_task_return_error (task, given);
  g_assert_true (q_task_had_error (task));
  g_assert_null (q_task_propagate_pointer (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_assert_cmpstr (error->message, ==, "given");
  g_assert_true (q_task_had_error (task));
  test_finish (task);

  /* Not read */
  task = task_new ();
  q_task_return_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, "given"));
  test_finish (task);

  /* Read by one who does not care */
  task = task_new ();
  q_task_return_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, "given"));
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, -1);
  test_finish (task);
}

static void
test_return_new_error (void)
{
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "%d%%: %s", 100, "busy");
  g_assert_false (q_task_propagate_boolean (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (error->message, ==, "100%: busy");
  test_finish (task);
}

static void
test_return_new_error_literal (void)
{
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  /* Since 2.80 */
  q_task_return_new_error_literal (task, G_IO_ERROR, G_IO_ERROR_BUSY, "100%s");
  g_assert_false (q_task_propagate_boolean (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (error->message, ==, "100%s");
  test_finish (task);
}

static void
test_return_prefixed_error (void)
{
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  /* Since 2.80 */
  q_task_return_prefixed_error (task,
                                g_error_new_literal (G_IO_ERROR, G_IO_ERROR_BUSY, "busy: %s"),
                                "file %d: ", 3);
  g_assert_false (q_task_propagate_boolean (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (error->message, ==, "file 3: busy: %s");
  test_finish (task);
}

static void
test_return_error_if_cancelled (void)
{
  int check;

  for (check = 0; check < 2; check++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Operation op = OPERATION_INIT;
      QTask *task = operation_task_new (&op, cancellable);

      q_task_set_check_cancellable (task, check);
      g_assert_false (q_task_return_error_if_cancelled (task));
      g_cancellable_cancel (cancellable);
      g_assert_true (q_task_return_error_if_cancelled (task));
      g_assert_cmpint (op.called, ==, 0);

      /* The error was set, whatever becomes of the cancellable */
      g_cancellable_reset (cancellable);
      g_assert_true (q_task_had_error (task));
      operation_run (&op);
      assert_io_error (&op, G_IO_ERROR_CANCELLED);
      g_assert_finalize_object (task);
    }
}

static void
test_return_error_if_cancelled_not (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  /* Nothing has been returned then */
  g_assert_false (q_task_return_error_if_cancelled (task));
  test_run_pending (NULL);
  g_assert_cmpint (op.called, ==, 0);
  q_task_return_int (task, MAGIC);
  operation_run (&op);
  assert_number (&op, MAGIC);
  g_assert_finalize_object (task);
}

static gboolean
check_worker (QTask *task,
              gpointer hold,
              GError **error)
{
  g_autoptr (GError) none = NULL;

  g_assert_true (test_hold_worker (task, hold, &none));
  if (!q_task_return_error_if_cancelled (task))
    q_task_return_int (task, MAGIC);

  return TRUE;
}

static void
test_return_error_if_cancelled_in_a_worker (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestHold hold = TEST_HOLD_INIT;
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, cancellable);

  q_task_set_check_cancellable (task, FALSE);
  q_task_run_in_thread (task, check_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  g_cancellable_cancel (cancellable);
  test_gate_open (&hold.release);
  operation_run (&op);
  assert_io_error (&op, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

/* return_* twice */

static void
return_one (QTask *task,
            gboolean error)
{
  if (error)
    q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_UNKNOWN, "oh no");
  else
    q_task_return_int (task, MAGIC);
}

typedef struct
{
  Operation op;
  QTask *task;
  gboolean error_first;
} Twice;

static gboolean
return_twice_cb (gpointer data)
{
  Twice *twice = data;

  return_one (twice->task, twice->error_first);
  test_critical (return_one (twice->task, !twice->error_first));

  return G_SOURCE_REMOVE;
}

static void
test_return_twice (void)
{
  int error_first, in_idle;

  for (error_first = 0; error_first < 2; error_first++)
    for (in_idle = 0; in_idle < 2; in_idle++)
      {
        Twice twice = { OPERATION_INIT, NULL, error_first };

        twice.task = operation_task_new (&twice.op, NULL);
        if (in_idle)
          g_idle_add (return_twice_cb, &twice);
        else
          return_twice_cb (&twice);
        operation_run (&twice.op);
        test_run_pending (NULL);

        /* The first of them counts */
        if (error_first)
          assert_io_error (&twice.op, G_IO_ERROR_UNKNOWN);
        else
          assert_number (&twice.op, MAGIC);
        g_assert_finalize_object (twice.task);
      }
}

static void
test_return_twice_frees_the_second (void)
{
  TestFate first = TEST_FATE_INIT, second = TEST_FATE_INIT;
  QTask *task = task_new ();

  /* Where GTask loses it: returning gives what is returned away */
  q_task_return_pointer (task, &first, test_fate_notify);
  test_critical (q_task_return_pointer (task, &second, test_fate_notify));
  test_assert_destroyed_here (&second);
  test_critical (q_task_return_error (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_BUSY, "busy")));
  g_assert_false (q_task_return_error_if_cancelled (task));
  g_assert_true (q_task_propagate_pointer (task, NULL) == &first);
  test_finish (task);
  test_assert_alive (&first);
}

static gboolean
return_twice_worker (QTask *task,
                     gpointer error_first,
                     GError **error)
{
  return_one (task, GPOINTER_TO_INT (error_first));
  return_one (task, !GPOINTER_TO_INT (error_first));

  return TRUE;
}

static void
test_return_twice_in_a_worker (void)
{
  int error_first;

  for (error_first = 0; error_first < 2; error_first++)
    {
      Operation op = OPERATION_INIT;
      QTask *task = operation_task_new (&op, NULL);

      g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*");
      q_task_run_in_thread (task, return_twice_worker, GINT_TO_POINTER (error_first), NULL);
      operation_run (&op);
      g_test_assert_expected_messages ();
      if (error_first)
        assert_io_error (&op, G_IO_ERROR_UNKNOWN);
      else
        assert_number (&op, MAGIC);
      g_assert_finalize_object (task);
    }
}

/* propagate_* twice */

static void
test_propagate_twice (void)
{
  g_auto (GValue) value = G_VALUE_INIT;
  TestFate result = TEST_FATE_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = task_new ();

  q_task_return_int (task, MAGIC);
  g_assert_cmpint (q_task_propagate_int (task, &error), ==, MAGIC);
  test_critical (g_assert_cmpint (q_task_propagate_int (task, &error), ==, -1));
  g_assert_no_error (error);
  test_finish (task);

  task = task_new ();
  q_task_return_boolean (task, TRUE);
  g_assert_true (q_task_propagate_boolean (task, &error));
  test_critical (g_assert_false (q_task_propagate_boolean (task, &error)));
  test_finish (task);

  task = task_new ();
  q_task_return_pointer (task, &result, test_fate_notify);
  g_assert_true (q_task_propagate_pointer (task, &error) == &result);
  test_critical (g_assert_null (q_task_propagate_pointer (task, &error)));
  test_finish (task);
  test_assert_alive (&result);

  task = task_new ();
  q_task_return_value (task, NULL);
  g_assert_true (q_task_propagate_value (task, &value, &error));
  g_value_unset (&value);
  test_critical (g_assert_false (q_task_propagate_value (task, &value, &error)));
  test_finish (task);
  g_assert_no_error (error);
}

static void
test_propagate_before_return (void)
{
  GError *error = NULL;
  QTask *task = task_new ();

  test_critical (g_assert_cmpint (q_task_propagate_int (task, &error), ==, -1));
  g_assert_no_error (error);
  q_task_return_int (task, MAGIC);
  g_assert_cmpint (q_task_propagate_int (task, &error), ==, MAGIC);
  test_finish (task);
}

/* had_error */

static void
test_had_error (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  QTask *task = task_new ();

  g_assert_false (q_task_had_error (task));
  q_task_return_int (task, MAGIC);
  g_assert_false (q_task_had_error (task));
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, MAGIC);
  g_assert_false (q_task_had_error (task));
  test_finish (task);

  task = task_new ();
  q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "busy");
  g_assert_true (q_task_had_error (task));
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, -1);
  g_assert_true (q_task_had_error (task));
  test_finish (task);

  task = q_task_new_async (NULL, cancellable, NULL, NULL);
  g_cancellable_cancel (cancellable);
  g_assert_true (q_task_had_error (task));
  q_task_return_int (task, MAGIC);
  test_finish (task);
}

/* get_completed */

static void
count_notified_cb (QTask *task,
                   GParamSpec *pspec,
                   gpointer n)
{
  ++*(int *) n;
}

static void
test_completed (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);
  gboolean completed = TRUE;
  int n_notified = 0;

  g_signal_connect (task, "notify::completed", G_CALLBACK (count_notified_cb), &n_notified);
  q_task_return_int (task, MAGIC);
  g_assert_false (q_task_get_completed (task));
  g_object_get (task, "completed", &completed, NULL);
  g_assert_false (completed);
  g_assert_cmpint (n_notified, ==, 0);

  operation_run (&op);
  g_assert_true (q_task_get_completed (task));
  g_object_get (task, "completed", &completed, NULL);
  g_assert_true (completed);
  test_run_pending (NULL);
  g_assert_cmpint (n_notified, ==, 1);
  g_assert_finalize_object (task);
}

/* is_valid */

static void
test_is_valid (void)
{
  TestFate gone = TEST_FATE_INIT;
  GObject *source = test_probe_new (&gone);
  g_autoptr (GTask) foreign = g_task_new (source, NULL, NULL, NULL);
  QTask *with = q_task_new_async (source, NULL, NULL, NULL);
  QTask *without = task_new ();

  g_assert_true (q_task_is_valid (with, source));
  g_assert_false (q_task_is_valid (with, NULL));
  g_assert_false (q_task_is_valid (with, without));
  g_assert_true (q_task_is_valid (without, NULL));
  g_assert_false (q_task_is_valid (without, source));
  g_assert_false (q_task_is_valid (foreign, source));
  g_assert_false (q_task_is_valid (source, NULL));
  g_assert_false (q_task_is_valid (NULL, NULL));

  q_task_return_boolean (with, TRUE);
  q_task_return_boolean (without, TRUE);
  test_finish (with);
  test_finish (without);
  g_task_return_boolean (foreign, TRUE);
  test_run_pending (NULL);
  g_clear_object (&foreign);
  g_assert_finalize_object (source);
}

/* run_in_thread */

typedef struct
{
  Operation op;
  TestFate data;
  TestHold hold;
  GCancellable *cancellable;
  GThread *thread;
} Run;

#define RUN_INIT \
  { \
    OPERATION_INIT, TEST_FATE_INIT, TEST_HOLD_INIT, NULL, NULL \
  }

static gboolean
run_worker (QTask *task,
            gpointer data,
            GError **error)
{
  Run *run = data;

  /* All that a GTaskThreadFunc is told */
  g_assert_true (q_task_get_source_object (task) == run->op.source);
  g_assert_true (q_task_get_task_data (task) == run);
  g_assert_true (q_task_get_cancellable (task) == run->cancellable);
  g_assert_true (q_task_get_source_tag (task) == run->op.tag);
  g_assert_cmpstr (q_task_get_name (task), ==, "run");
  g_assert_false (q_task_get_completed (task));
  run->thread = g_thread_self ();

  q_task_return_int (task, MAGIC);

  return test_hold_worker (task, &run->hold, error);
}

static QTask *
run_task_new (Run *run,
              GCancellable *cancellable)
{
  QTask *task = operation_task_new (&run->op, cancellable);

  run->cancellable = cancellable;
  q_task_set_name (task, "run");
  q_task_set_task_data (task, run, NULL);

  return task;
}

static void
test_run_in_thread (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestFate gone = TEST_FATE_INIT;
  Run run = RUN_INIT;
  QTask *task;

  run.op.source = test_probe_new (&gone);
  run.op.tag = test_run_in_thread;
  task = run_task_new (&run, cancellable);
  q_task_run_in_thread (task, run_worker, &run, NULL);

  /* It holds a reference */
  g_object_unref (task);
  g_object_unref (run.op.source);
  test_gate_wait (&run.hold.entered);
  test_run_pending (NULL);

  /* What was returned is kept until the worker is through */
  g_assert_cmpint (run.op.called, ==, 0);
  test_assert_alive (&run.op.gone);
  test_gate_open (&run.hold.release);
  operation_run (&run.op);
  assert_number (&run.op, MAGIC);
  g_assert_true (run.thread != g_thread_self ());
  assert_released (&run.op);
  test_assert_destroyed_here (&gone);
}

static void
test_run_in_thread_though_cancelled (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Run run = RUN_INIT;
  QTask *task = run_task_new (&run, cancellable);

  /* The worker is always run */
  g_cancellable_cancel (cancellable);
  q_task_run_in_thread (task, run_worker, &run, NULL);
  test_gate_wait (&run.hold.entered);
  test_gate_open (&run.hold.release);
  operation_run (&run.op);
  assert_io_error (&run.op, G_IO_ERROR_CANCELLED);
  g_assert_finalize_object (task);
}

static gboolean
return_error_worker (QTask *task,
                     gpointer data,
                     GError **error)
{
  q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "busy");

  return TRUE;
}

static gboolean
return_then_fail_worker (QTask *task,
                         gpointer result,
                         GError **error)
{
  q_task_return_pointer (task, result, test_fate_notify);

  return FALSE;
}

static gboolean
throw_worker (QTask *task,
              gpointer data,
              GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "busy");

  return FALSE;
}

static void
test_run_in_thread_to_an_error (void)
{
  Operation op = OPERATION_INIT, thrown = OPERATION_INIT, failed = OPERATION_INIT;
  TestFate result = TEST_FATE_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_run_in_thread (task, return_error_worker, NULL, NULL);
  operation_run (&op);
  assert_io_error (&op, G_IO_ERROR_BUSY);
  g_assert_finalize_object (task);

  /* The way of QTask */
  task = operation_task_new (&thrown, NULL);
  q_task_run_in_thread (task, throw_worker, NULL, NULL);
  operation_run (&thrown);
  assert_io_error (&thrown, G_IO_ERROR_BUSY);
  g_assert_finalize_object (task);

  /* A worker that says that it failed, has failed */
  task = operation_task_new (&failed, NULL);
  q_task_run_in_thread (task, return_then_fail_worker, &result, NULL);
  operation_run (&failed);
  g_assert_error (failed.error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
  g_clear_error (&failed.error);
  g_assert_finalize_object (task);
  g_assert_cmpint (test_fate_get_count (&result), ==, 1);
}

/* run_in_thread_sync */

static void
never_cb (GObject *source,
          GAsyncResult *result,
          gpointer data)
{
  g_assert_not_reached ();
}

typedef struct
{
  QTask *task;
  TestHold hold;
  int n_notified;
  GThread *notified_in;
  TestFate data;
} Sync;

#define SYNC_INIT \
  { \
    NULL, TEST_HOLD_INIT, 0, NULL, TEST_FATE_INIT \
  }

static void
sync_notified_cb (QTask *task,
                  GParamSpec *pspec,
                  gpointer data)
{
  Sync *sync = data;

  sync->n_notified++;
  sync->notified_in = g_thread_self ();
}

static QTask *
sync_task_new (Sync *sync,
               GCancellable *cancellable)
{
  sync->task = q_task_new_async (NULL, cancellable, never_cb, NULL);
  g_signal_connect (sync->task, "notify::completed", G_CALLBACK (sync_notified_cb), sync);

  return sync->task;
}

static gboolean
sync_worker (QTask *task,
             gpointer data,
             GError **error)
{
  Sync *sync = data;

  g_assert_true (!q_task_get_completed (task) || q_task_get_return_on_cancel (task));
  test_gate_open (&sync->hold.entered);
  test_gate_wait (&sync->hold.release);
  q_task_return_int (task, MAGIC);

  return TRUE;
}

static void
sync_data_free (gpointer data)
{
  Sync *sync = data;

  test_fate_notify (&sync->data);
}

static void
test_run_in_thread_sync (void)
{
  Sync sync = SYNC_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = sync_task_new (&sync, NULL);

  test_gate_open (&sync.hold.release);
  q_task_run_in_thread_sync (task, sync_worker, &sync, sync_data_free);
  g_assert_cmpint (test_gate_get_count (&sync.hold.entered), ==, 1);
  g_assert_true (q_task_get_completed (task));
  g_assert_false (q_task_had_error (task));
  g_assert_cmpint (sync.n_notified, ==, 1);
  g_assert_true (sync.notified_in == g_thread_self ());
  g_assert_cmpint (q_task_propagate_int (task, &error), ==, MAGIC);
  g_assert_no_error (error);
  test_run_until (NULL, test_fate_get_count (&sync.data) == 1);
  test_assert_destroyed_here (&sync.data);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
}

static void
never_func (QTask *task,
            gpointer opaque)
{
  g_assert_not_reached ();
}

static void
test_run_in_thread_sync_releases_what_was_for_the_callback (void)
{
  TestFate opaque = TEST_FATE_INIT;
  QTask *task = q_task_new (NULL, never_func, &opaque, test_fate_notify);

  q_task_run_in_thread_sync (task, test_empty_worker, NULL, NULL);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
  test_assert_destroyed_here (&opaque);
}

static void
sync_run_cb (gpointer data,
             gpointer unused)
{
  Sync *sync = data;

  q_task_run_in_thread_sync (sync->task, sync_worker, sync, NULL);
  g_assert_true (q_task_get_completed (sync->task));
  g_assert_true (sync->notified_in == g_thread_self ());
}

static void
test_run_in_thread_sync_elsewhere (void)
{
  Sync sync = SYNC_INIT;
  QTask *task = sync_task_new (&sync, NULL);

  /* Its caller is told, wherever that is, with nobody iterating */
  test_gate_open (&sync.hold.release);
  test_in_thread (sync_run_cb, &sync);
  g_assert_cmpint (sync.n_notified, ==, 1);
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, MAGIC);
  test_run_pending (NULL);
  g_assert_cmpint (sync.n_notified, ==, 1);
  g_assert_finalize_object (task);
}

static gboolean
sync_throw_worker (QTask *task,
                   gpointer data,
                   GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "busy");

  return FALSE;
}

static void
test_run_in_thread_sync_to_an_error (void)
{
  Sync sync = SYNC_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task = sync_task_new (&sync, NULL);

  q_task_run_in_thread_sync (task, sync_throw_worker, &sync, NULL);
  g_assert_true (q_task_had_error (task));
  g_assert_cmpint (q_task_propagate_int (task, &error), ==, -1);
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
}

static gpointer
sync_thread (gpointer data)
{
  sync_run_cb (data, NULL);

  return NULL;
}

static void
assert_sync_cancelled (Sync *sync)
{
  g_autoptr (GError) error = NULL;

  g_assert_cmpint (sync->n_notified, ==, 1);
  g_assert_cmpint (q_task_propagate_int (sync->task, &error), ==, -1);
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
}

static void
test_run_in_thread_sync_cancelled (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Sync sync = SYNC_INIT;
  QTask *task = sync_task_new (&sync, cancellable);
  GThread *thread;

  /* Without return-on-cancel it waits for the worker */
  thread = g_thread_new ("caller", sync_thread, &sync);
  test_gate_wait (&sync.hold.entered);
  g_cancellable_cancel (cancellable);
  g_assert_false (q_task_get_completed (task));
  test_gate_open (&sync.hold.release);
  g_thread_join (thread);
  assert_sync_cancelled (&sync);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
}

static void
test_run_in_thread_sync_return_on_cancel (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Sync sync = SYNC_INIT;
  TestFate gone = TEST_FATE_INIT;
  QTask *task = sync_task_new (&sync, cancellable);
  GThread *thread;

  /* With it, it does not */
  test_fate_watch (&gone, task);
  q_task_set_return_on_cancel (task, TRUE);
  thread = g_thread_new ("caller", sync_thread, &sync);
  test_gate_wait (&sync.hold.entered);
  g_cancellable_cancel (cancellable);
  g_thread_join (thread);
  assert_sync_cancelled (&sync);
  g_object_unref (task);
  test_run_pending (NULL);
  test_assert_alive (&gone);

  test_gate_open (&sync.hold.release);
  test_run_until (NULL, test_fate_get_count (&gone) == 1);
  test_assert_destroyed_here (&gone);
}

/* Two threads start it at once. The one that comes too late is told, and changes nothing. */
typedef struct
{
  QTask *task;
  TestReport report;
  TestFate worker_data[2];
  int n_here;      /* atomic */
  int n_criticals; /* atomic */
} Starts;

static void
starts_critical_cb (const char *domain,
                    GLogLevelFlags level,
                    const char *message,
                    gpointer data)
{
  Starts *starts = data;

  g_atomic_int_inc (&starts->n_criticals);
}

static gboolean
is_no_critical_cb (const char *domain,
                   GLogLevelFlags level,
                   const char *message,
                   gpointer data)
{
  return (level & G_LOG_LEVEL_CRITICAL) == 0;
}

static void
starts_meet (Starts *starts)
{
  g_atomic_int_inc (&starts->n_here);
  while (g_atomic_int_get (&starts->n_here) < 2)
    g_thread_yield ();
}

static gpointer
starts_sync_thread (gpointer data)
{
  Starts *starts = data;

  starts_meet (starts);
  q_task_run_in_thread_sync (starts->task, test_empty_worker, &starts->worker_data[0],
                             test_fate_notify);

  return NULL;
}

static void
test_run_in_thread_sync_too_late (void)
{
  guint handler;

  g_test_log_set_fatal_handler (is_no_critical_cb, NULL);

  for (int i = 0; i < test_scaled (2000); i++)
    {
      Starts starts = {
        .report = TEST_REPORT_INIT,
        .worker_data = { TEST_FATE_INIT, TEST_FATE_INIT },
      };
      GThread *thread;

      handler = g_log_set_handler (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL | G_LOG_FLAG_FATAL,
                                   starts_critical_cb, &starts);
      starts.task = q_task_new (NULL, test_report_cb, &starts.report, NULL);
      thread = g_thread_new ("sync", starts_sync_thread, &starts);
      starts_meet (&starts);
      for (volatile int j = i % 200; j > 0; j--)
        ;
      q_task_run_in_thread (starts.task, test_empty_worker, &starts.worker_data[1],
                            test_fate_notify);
      g_thread_join (thread);
      test_run_until (NULL, q_task_get_completed (starts.task));
      test_run_until (NULL, test_fate_get_count (&starts.worker_data[0]) == 1 &&
                              test_fate_get_count (&starts.worker_data[1]) == 1);
      test_finalize_soon (starts.task);
      g_log_remove_handler (TEST_LOG_DOMAIN, handler);
      g_assert_cmpint (starts.n_criticals, ==, 1);
      g_assert_cmpint (starts.report.called, <=, 1);
      test_assert_destroyed_here (&starts.worker_data[0]);
      test_assert_destroyed_here (&starts.worker_data[1]);
      test_report_clear (&starts.report);
    }

  g_test_log_set_fatal_handler (NULL, NULL);
}

static void
test_run_in_thread_sync_cancelled_before (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Sync sync = SYNC_INIT;
  TestFate gone = TEST_FATE_INIT;
  QTask *task = sync_task_new (&sync, cancellable);

  /* It returns at once; the worker is run all the same */
  test_fate_watch (&gone, task);
  q_task_set_return_on_cancel (task, TRUE);
  g_cancellable_cancel (cancellable);
  sync_run_cb (&sync, NULL);
  assert_sync_cancelled (&sync);

  test_gate_wait (&sync.hold.entered);
  test_gate_open (&sync.hold.release);
  g_object_unref (task);
  test_run_until (NULL, test_fate_get_count (&gone) == 1);
  test_assert_destroyed_here (&gone);
}

/* Tasks within tasks */

static gboolean
nested_sync_worker (QTask *task,
                    gpointer depth,
                    GError **error)
{
  gssize below = 0;

  /* No thread of the pool may be left in the end, were these to block */
  if (GPOINTER_TO_INT (depth) > 0)
    {
      g_autoptr (QTask) nested = q_task_new_async (NULL, NULL, NULL, NULL);

      q_task_run_in_thread_sync (nested, nested_sync_worker,
                                 GINT_TO_POINTER (GPOINTER_TO_INT (depth) - 1), NULL);
      below = q_task_propagate_int (nested, error);
      if (below < 0)
        return FALSE;
    }

  q_task_return_int (task, below + 1);

  return TRUE;
}

static void
test_nested_sync (void)
{
  Operation op = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_run_in_thread (task, nested_sync_worker, GINT_TO_POINTER (12), NULL);
  operation_run (&op);
  assert_number (&op, 13);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
}

static gboolean
nested_async_worker (QTask *task,
                     gpointer nested_op,
                     GError **error)
{
  QTask *nested = operation_task_new (nested_op, NULL);

  /* Made in a thread without a context: it is of the default context */
  g_assert_true (q_task_get_context (nested) == g_main_context_default ());
  q_task_run_in_thread (nested, name_worker, NULL, NULL);
  g_object_unref (nested);
  q_task_return_int (task, MAGIC);

  return TRUE;
}

static void
test_nested_async (void)
{
  Operation op = OPERATION_INIT, nested = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  q_task_run_in_thread (task, nested_async_worker, &nested, NULL);
  operation_run (&op);
  operation_run (&nested);
  assert_number (&op, MAGIC);
  assert_number (&nested, MAGIC);
  assert_released (&nested);
  g_assert_finalize_object (task);
}

static gboolean
nested_returned_worker (QTask *task,
                        gpointer nested_op,
                        GError **error)
{
  QTask *nested = operation_task_new (nested_op, NULL);

  q_task_return_int (nested, MAGIC);
  g_assert_cmpint (((Operation *) nested_op)->called, ==, 0);
  g_object_unref (nested);
  q_task_return_int (task, MAGIC);

  return TRUE;
}

static void
test_nested_returned (void)
{
  Operation op = OPERATION_INIT, nested = OPERATION_INIT;
  QTask *task = operation_task_new (&op, NULL);

  /* Nobody iterates the default context while the worker returns it */
  q_task_run_in_thread (task, nested_returned_worker, &nested, NULL);
  test_in_thread (wait_cb, task);
  g_assert_cmpint (nested.called, ==, 0);
  operation_run (&nested);
  assert_number (&nested, MAGIC);
  assert_released (&nested);
  test_run_until (NULL, operation_is_called (&op));
  g_assert_finalize_object (task);
}

/* The pair of an _async () and a _finish () function, as the manual has it */

typedef struct
{
  char *text;
  gsize times;
} RepeatData;

static void
repeat_data_free (gpointer data)
{
  RepeatData *repeat = data;

  g_free (repeat->text);
  g_free (repeat);
}

static gboolean
repeat_worker (QTask *task,
               gpointer opaque,
               GError **error)
{
  RepeatData *repeat = q_task_get_task_data (task);
  GString *string = g_string_new (NULL);
  gsize i;

  for (i = 0; i < repeat->times; i++)
    g_string_append (string, repeat->text);
  q_task_return_pointer (task, g_string_free (string, FALSE), g_free);

  return TRUE;
}

static void
repeat_async (GObject *self,
              const char *text,
              gsize times,
              GCancellable *cancellable,
              GAsyncReadyCallback callback,
              gpointer user_data)
{
  g_autoptr (QTask) task = NULL;
  RepeatData *repeat;

  if (times == 0)
    {
      q_task_report_new_error (self, callback, user_data, repeat_async,
                               G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "no times");
      return;
    }

  task = q_task_new_async (self, cancellable, callback, user_data);
  q_task_set_source_tag (task, repeat_async);
  repeat = g_new (RepeatData, 1);
  repeat->text = g_strdup (text);
  repeat->times = times;
  q_task_set_task_data (task, repeat, repeat_data_free);
  q_task_run_in_thread (task, repeat_worker, NULL, NULL);
}

static char *
repeat_finish (GObject *self,
               GAsyncResult *result,
               GError **error)
{
  g_return_val_if_fail (q_task_is_valid (result, self), NULL);
  g_return_val_if_fail (g_async_result_is_tagged (result, repeat_async), NULL);

  return q_task_propagate_pointer (Q_TASK (result), error);
}

typedef struct
{
  gboolean called;
  char *text;
  GError *error;
} Repeated;

static void
repeated_cb (GObject *source,
             GAsyncResult *result,
             gpointer data)
{
  Repeated *repeated = data;

  repeated->text = repeat_finish (source, result, &repeated->error);
  repeated->called = TRUE;
}

static void
test_async_and_finish (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  TestFate gone = TEST_FATE_INIT;
  GObject *source = test_probe_new (&gone);
  Repeated repeated = { FALSE, NULL, NULL };

  repeat_async (source, "ab", 3, NULL, repeated_cb, &repeated);
  test_run_until (NULL, repeated.called);
  g_assert_no_error (repeated.error);
  g_assert_cmpstr (repeated.text, ==, "ababab");
  g_clear_pointer (&repeated.text, g_free);

  repeated.called = FALSE;
  repeat_async (source, "ab", 0, NULL, repeated_cb, &repeated);
  test_run_until (NULL, repeated.called);
  g_assert_error (repeated.error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_assert_null (repeated.text);
  g_clear_error (&repeated.error);

  repeated.called = FALSE;
  g_cancellable_cancel (cancellable);
  repeat_async (source, "ab", 3, cancellable, repeated_cb, &repeated);
  test_run_until (NULL, repeated.called);
  g_assert_error (repeated.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_null (repeated.text);
  g_clear_error (&repeated.error);

  test_run_until (NULL, source->ref_count == 1);
  g_assert_finalize_object (source);
}

int
main (int argc,
      char **argv)
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/gtask-contract/new/has-defaults", test_new_has_defaults);
  g_test_add_func ("/gtask-contract/new/keeps-source", test_new_keeps_source);
  g_test_add_func ("/gtask-contract/new/keeps-cancellable", test_new_keeps_cancellable);
  g_test_add_func ("/gtask-contract/new/with-no-cancellable-has-its-own", test_new_with_no_cancellable_has_its_own);
  g_test_add_func ("/gtask-contract/new/without-callback", test_new_without_callback);
  g_test_add_func ("/gtask-contract/new/keeps-thread-default-context", test_new_keeps_thread_default_context);
  g_test_add_func ("/gtask-contract/report/error", test_report_error);
  g_test_add_func ("/gtask-contract/report/new-error", test_report_new_error);
  g_test_add_func ("/gtask-contract/report/error-to-nobody", test_report_error_to_nobody);
  g_test_add_func ("/gtask-contract/task-data/is-freed-with-the-task", test_task_data_is_freed_with_the_task);
  g_test_add_func ("/gtask-contract/task-data/replaced-is-freed-at-once", test_task_data_replaced_is_freed_at_once);
  g_test_add_func ("/gtask-contract/task-data/replaced-in-a-worker", test_task_data_replaced_in_a_worker);
  g_test_add_func ("/gtask-contract/priority/orders-completions", test_priority_orders_completions);
  g_test_add_func ("/gtask-contract/priority/orders-workers", test_priority_orders_workers);
  g_test_add_func ("/gtask-contract/check-cancellable/works", test_check_cancellable);
  g_test_add_func ("/gtask-contract/check-cancellable/beats-an-error", test_check_cancellable_beats_an_error);
  g_test_add_func ("/gtask-contract/check-cancellable/keeps-the-result-to-free", test_check_cancellable_keeps_the_result_to_free);
  g_test_add_func ("/gtask-contract/return-on-cancel/off", test_return_on_cancel_off);
  g_test_add_func ("/gtask-contract/return-on-cancel/on", test_return_on_cancel_on);
  g_test_add_func ("/gtask-contract/return-on-cancel/on-and-not-cancelled", test_return_on_cancel_on_and_not_cancelled);
  g_test_add_func ("/gtask-contract/return-on-cancel/cancelled-before", test_return_on_cancel_cancelled_before);
  g_test_add_func ("/gtask-contract/return-on-cancel/before-the-start", test_return_on_cancel_before_the_start);
  g_test_add_func ("/gtask-contract/return-on-cancel/switched", test_return_on_cancel_switched);
  g_test_add_func ("/gtask-contract/return-on-cancel/cancelled-while-off", test_return_on_cancel_cancelled_while_off);
  g_test_add_func ("/gtask-contract/return-on-cancel/cancelled-while-on", test_return_on_cancel_cancelled_while_on);
  g_test_add_func ("/gtask-contract/return-on-cancel/races", test_return_on_cancel_races);
  g_test_add_func ("/gtask-contract/source-tag/sets-no-name", test_source_tag_sets_no_name);
  g_test_add_func ("/gtask-contract/name/is-kept", test_name_is_kept);
  g_test_add_func ("/gtask-contract/name/static-is-not-copied", test_name_static_is_not_copied);
  g_test_add_func ("/gtask-contract/source-object/is-borrowed-or-referenced", test_source_object_is_borrowed_or_referenced);
  g_test_add_func ("/gtask-contract/attach-source/works", test_attach_source);
  g_test_add_func ("/gtask-contract/attach-source/keeps-its-name", test_attach_source_keeps_its_name);
  g_test_add_func ("/gtask-contract/return/in-the-same-iteration", test_return_in_the_same_iteration);
  g_test_add_func ("/gtask-contract/return/in-a-later-iteration", test_return_in_a_later_iteration);
  g_test_add_func ("/gtask-contract/return/in-a-nested-iteration", test_return_in_a_nested_iteration);
  g_test_add_func ("/gtask-contract/return/in-no-iteration", test_return_in_no_iteration);
  g_test_add_func ("/gtask-contract/return/made-in-no-iteration", test_return_made_in_no_iteration);
  g_test_add_func ("/gtask-contract/return/while-another-context-dispatches", test_return_while_another_context_dispatches);
  g_test_add_func ("/gtask-contract/return/when-cancelled", test_return_when_cancelled);
  g_test_add_func ("/gtask-contract/return/in-a-cancelled-handler", test_return_in_a_cancelled_handler);
  g_test_add_func ("/gtask-contract/return/in-a-thread-without-context", test_return_in_a_thread_without_context);
  g_test_add_func ("/gtask-contract/return/in-a-thread-with-another-context", test_return_in_a_thread_with_another_context);
  g_test_add_func ("/gtask-contract/return/pointer", test_return_pointer);
  g_test_add_func ("/gtask-contract/return/int-and-boolean", test_return_int_and_boolean);
  g_test_add_func ("/gtask-contract/return/value", test_return_value);
  g_test_add_func ("/gtask-contract/return/value-null", test_return_value_null);
  g_test_add_func ("/gtask-contract/return/error", test_return_error);
  g_test_add_func ("/gtask-contract/return/new-error", test_return_new_error);
  g_test_add_func ("/gtask-contract/return/new-error-literal", test_return_new_error_literal);
  g_test_add_func ("/gtask-contract/return/prefixed-error", test_return_prefixed_error);
  g_test_add_func ("/gtask-contract/return/error-if-cancelled", test_return_error_if_cancelled);
  g_test_add_func ("/gtask-contract/return/error-if-cancelled-not", test_return_error_if_cancelled_not);
  g_test_add_func ("/gtask-contract/return/error-if-cancelled-in-a-worker", test_return_error_if_cancelled_in_a_worker);
  g_test_add_func ("/gtask-contract/return/twice", test_return_twice);
  g_test_add_func ("/gtask-contract/return/twice-frees-the-second", test_return_twice_frees_the_second);
  g_test_add_func ("/gtask-contract/return/twice-in-a-worker", test_return_twice_in_a_worker);
  g_test_add_func ("/gtask-contract/propagate/twice", test_propagate_twice);
  g_test_add_func ("/gtask-contract/propagate/before-return", test_propagate_before_return);
  g_test_add_func ("/gtask-contract/had-error/works", test_had_error);
  g_test_add_func ("/gtask-contract/completed/works", test_completed);
  g_test_add_func ("/gtask-contract/is-valid/works", test_is_valid);
  g_test_add_func ("/gtask-contract/run-in-thread/works", test_run_in_thread);
  g_test_add_func ("/gtask-contract/run-in-thread/though-cancelled", test_run_in_thread_though_cancelled);
  g_test_add_func ("/gtask-contract/run-in-thread/to-an-error", test_run_in_thread_to_an_error);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/works", test_run_in_thread_sync);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/releases-what-was-for-the-callback", test_run_in_thread_sync_releases_what_was_for_the_callback);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/elsewhere", test_run_in_thread_sync_elsewhere);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/to-an-error", test_run_in_thread_sync_to_an_error);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/cancelled", test_run_in_thread_sync_cancelled);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/return-on-cancel", test_run_in_thread_sync_return_on_cancel);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/too-late", test_run_in_thread_sync_too_late);
  g_test_add_func ("/gtask-contract/run-in-thread-sync/cancelled-before", test_run_in_thread_sync_cancelled_before);
  g_test_add_func ("/gtask-contract/nested/sync", test_nested_sync);
  g_test_add_func ("/gtask-contract/nested/async", test_nested_async);
  g_test_add_func ("/gtask-contract/nested/returned", test_nested_returned);
  g_test_add_func ("/gtask-contract/async/and-finish", test_async_and_finish);

  return g_test_run ();
}
