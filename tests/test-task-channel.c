/* test-task-channel.c: the channel of a task
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the ends of a channel do is tested in test-channel.c. Here: what a task makes of
 * them, and above all that what a worker wrote comes before the completion callback.
 *
 * The main thread is the owner, of the default context, unless told otherwise.
 */

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "test-util.h"

#define SUBPROCESS_TIME_LIMIT (5 * 60 * G_TIME_SPAN_SECOND)

static GBytes *
number_new (guint32 number)
{
  return g_bytes_new (&number, sizeof number);
}

static guint32
number_get (GBytes *message)
{
  guint32 number;

  g_assert_nonnull (message);
  g_assert_cmpuint (g_bytes_get_size (message), ==, sizeof number);
  memcpy (&number, g_bytes_get_data (message, NULL), sizeof number);

  return number;
}

static void
write_number (QTaskChannel *channel,
              guint32 number)
{
  g_autoptr (GError) error = NULL;

  q_task_channel_write (channel, &number, sizeof number, NULL, &error);
  g_assert_no_error (error);
}

/* Reads the number that must be there */
static void
assert_next (QTaskChannel *channel,
             guint32 number)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) message = q_task_channel_try_read (channel, &error);

  g_assert_no_error (error);
  g_assert_cmpuint (number_get (message), ==, number);
}

static void
assert_end (QTaskChannel *channel)
{
  g_autoptr (GError) error = NULL;

  /* Again and again */
  for (int i = 0; i < 3; i++)
    {
      g_assert_null (q_task_channel_try_read (channel, &error));
      g_assert_no_error (error);
    }
}

/* Talk: what the owner's end and the completion callback of one task saw */
typedef struct
{
  guint32 n_to_write; /* what the worker does */
  guint64 capacity;
  gboolean fails;
  TestHold hold;
  TestFate opaque;
  TestFate worker_data;
  TestFate message_data;

  GThread *owner; /* what came */
  guint32 n_messages;
  int n_ends;
  int n_called;
  GError *error;
  gboolean lets_end_be_late;
} Talk;

#define TALK_INIT \
  { \
    .capacity = 0, .hold = TEST_HOLD_INIT, .opaque = TEST_FATE_INIT, .worker_data = TEST_FATE_INIT, \
    .message_data = TEST_FATE_INIT, .owner = g_thread_self () \
  }

static void
talk_message_cb (QTaskChannel *channel,
                 GBytes *message,
                 gpointer data)
{
  Talk *talk = data;

  g_assert_true (g_thread_self () == talk->owner);
  g_assert_cmpint (talk->n_called, ==, 0);
  g_assert_cmpint (talk->n_ends, ==, 0);
  test_assert_alive (&talk->message_data);

  if (message == NULL)
    talk->n_ends++;
  else
    g_assert_cmpuint (number_get (message), ==, talk->n_messages++);
}

static void
talk_completed_cb (QTask *task,
                   gpointer data)
{
  Talk *talk = data;

  g_assert_true (g_thread_self () == talk->owner);
  g_assert_cmpint (talk->n_called, ==, 0);
  g_assert_cmpuint (talk->n_messages, ==, talk->n_to_write);
  if (!talk->lets_end_be_late)
    g_assert_cmpint (talk->n_ends, ==, 1);
  q_task_propagate_error (task, &talk->error);
  talk->n_called++;
}

static void
talk_opaque_destroy (gpointer data)
{
  test_fate_notify (&((Talk *) data)->opaque);
}

static void
talk_worker_data_destroy (gpointer data)
{
  test_fate_notify (&((Talk *) data)->worker_data);
}

static void
talk_message_data_destroy (gpointer data)
{
  test_fate_notify (&((Talk *) data)->message_data);
}

static void
talk_open (QTask *task,
           Talk *talk)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_open_channel (task, &error));
  g_assert_no_error (error);
  q_task_channel_set_capacity (q_task_get_worker_channel (task), talk->capacity);
}

static QTask *
talk_new (Talk *talk)
{
  QTask *task = q_task_new (NULL, talk_completed_cb, talk, talk_opaque_destroy);

  talk_open (task, talk);
  q_task_channel_set_message_func (q_task_get_channel (task), talk_message_cb, talk,
                                   talk_message_data_destroy);

  return task;
}

/* Writes, and tells by `entered` that it has written all. */
static gboolean
talk_worker (QTask *task,
             gpointer data,
             GError **error)
{
  Talk *talk = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);

  for (guint32 i = 0; i < talk->n_to_write; i++)
    write_number (channel, i);

  test_gate_open (&talk->hold.entered);

  if (talk->fails)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");

  return !talk->fails;
}

/* What it was is over, and released by its owner. */
static void
talk_end (Talk *talk,
          QTask *task)
{
  test_run_until (NULL, talk->n_called);
  g_assert_cmpuint (talk->n_messages, ==, talk->n_to_write);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  g_assert_cmpint (talk->n_called, ==, 1);
  g_assert_cmpint (talk->n_ends, ==, 1);
  test_assert_destroyed_here (&talk->opaque);
  test_assert_destroyed_here (&talk->message_data);
  g_clear_error (&talk->error);
}

/* Open */

static void
test_not_open (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_null (q_task_get_channel (task));
  g_assert_null (q_task_get_worker_channel (task));
  q_task_complete (task);
  g_assert_null (q_task_get_channel (task));
  g_assert_null (q_task_get_worker_channel (task));
  g_assert_finalize_object (task);
}

static void
test_open (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GError) error = NULL;
  g_autoptr (QTaskChannel) ours = NULL;
  g_autoptr (QTaskChannel) workers = NULL;

  g_assert_true (q_task_open_channel (task, &error));
  g_assert_no_error (error);
  g_set_object (&ours, q_task_get_channel (task));
  g_set_object (&workers, q_task_get_worker_channel (task));
  g_assert_true (Q_IS_TASK_CHANNEL (ours));
  g_assert_true (Q_IS_TASK_CHANNEL (workers));
  g_assert_true (ours != workers);
  g_assert_false (q_task_channel_is_closed (ours));
  g_assert_false (q_task_channel_is_closed (workers));
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);

  /* They are the two ends of one. */
  write_number (ours, 1);
  assert_next (workers, 1);
  write_number (workers, 2);
  assert_next (ours, 2);

  q_task_complete (task);
  g_assert_true (q_task_channel_is_closed (workers));
  g_assert_finalize_object (task);
  g_assert_true (q_task_channel_is_closed (ours));
}

static void
test_open_twice (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GError) error = NULL;
  QTaskChannel *ours, *workers;

  g_assert_true (q_task_open_channel (task, NULL));
  ours = q_task_get_channel (task);
  workers = q_task_get_worker_channel (task);

  g_assert_false (q_task_open_channel (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_PENDING);
  g_assert_cmpuint (strlen (error->message), >, 0);
  g_assert_false (q_task_open_channel (task, NULL));

  g_assert_true (q_task_get_channel (task) == ours);
  g_assert_true (q_task_get_worker_channel (task) == workers);
  g_assert_false (q_task_channel_is_closed (ours));
  g_assert_false (q_task_channel_is_closed (workers));

  q_task_complete (task);
  g_assert_finalize_object (task);
}

static gboolean
open_worker (QTask *task,
             gpointer hold,
             GError **error)
{
  g_autoptr (GError) open_error = NULL;

  g_assert_false (q_task_open_channel (task, &open_error));
  g_assert_error (open_error, G_IO_ERROR, G_IO_ERROR_PENDING);

  return test_hold_worker (task, hold, error);
}

static void
assert_opens_too_late (QTask *task)
{
  g_autoptr (GError) error = NULL;

  g_assert_false (q_task_open_channel (task, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_PENDING);
  g_assert_null (q_task_get_channel (task));
  g_assert_null (q_task_get_worker_channel (task));
}

static void
test_open_after_start (void)
{
  QTaskPool *pool = q_task_pool_new ("late", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  QTask *running = q_task_new (NULL, NULL, NULL, NULL);
  QTask *queued = q_task_new (NULL, NULL, NULL, NULL);

  test_pool_push (pool, running, open_worker, &hold, NULL);
  test_gate_wait (&hold.entered);
  test_pool_push (pool, queued, test_empty_worker, NULL, NULL);
  assert_opens_too_late (running);
  assert_opens_too_late (queued);

  test_gate_open (&hold.release);
  test_run_until (NULL, q_task_get_completed (running) && q_task_get_completed (queued));
  assert_opens_too_late (running);
  g_assert_finalize_object (running);
  g_assert_finalize_object (queued);
  test_pool_drop (pool);
}

/* A push that failed was no start. */
static void
test_open_after_failed_push (void)
{
  QTaskPool *pool = q_task_pool_new ("closed", 1, 0);
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_assert_false (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_clear_error (&error);

  g_assert_true (q_task_open_channel (task, &error));
  g_assert_no_error (error);
  g_assert_false (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
  g_assert_false (q_task_channel_is_closed (q_task_get_channel (task)));
  g_assert_false (q_task_channel_is_closed (q_task_get_worker_channel (task)));

  q_task_complete (task);
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* Before the completion callback */

typedef enum
{
  ORDER_ITERATED,    /* the owner iterates all the time */
  ORDER_FLOOD,       /* it does when the worker has ended */
  ORDER_WAITED,      /* it waits for the task */
  ORDER_WAITED_LATE, /* it waits when the worker has ended */
  N_ORDERS
} Order;

typedef struct
{
  Order order;
  int completion_priority;
  int priority;
  guint32 n;
  guint64 capacity;
  gboolean fails;
} OrderCase;

static void
run_order (const OrderCase *how)
{
  QTaskPool *pool = q_task_pool_new ("order", 1, 0);
  Talk talk = TALK_INIT;
  g_autoptr (GError) error = NULL;
  QTask *task;

  talk.n_to_write = how->n;
  talk.capacity = how->capacity;
  talk.fails = how->fails;
  task = talk_new (&talk);
  q_task_set_priority (task, how->priority);
  q_task_set_completion_priority (task, how->completion_priority);
  test_pool_push (pool, task, talk_worker, &talk, talk_worker_data_destroy);

  if (how->order == ORDER_FLOOD || how->order == ORDER_WAITED_LATE)
    {
      test_gate_wait (&talk.hold.entered);
      g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
    }

  if (how->order == ORDER_WAITED || how->order == ORDER_WAITED_LATE)
    {
      g_assert_true (q_task_wait (task, NULL, &error));
      g_assert_no_error (error);
      g_assert_cmpint (talk.n_called, ==, 1);
    }
  else
    {
      test_run_until (NULL, talk.n_called);
    }

  if (how->fails)
    g_assert_error (talk.error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  else
    g_assert_no_error (talk.error);
  test_assert_destroyed_here (&talk.worker_data);
  talk_end (&talk, task);
  test_pool_drop (pool);
}

static void
test_before_callback (gconstpointer order)
{
  static const int priorities[] = { G_PRIORITY_HIGH, G_PRIORITY_DEFAULT, G_PRIORITY_LOW };
  OrderCase how = { .order = (Order) GPOINTER_TO_INT (order) };

  for (guint i = 0; i < G_N_ELEMENTS (priorities); i++)
    for (guint j = 0; j < G_N_ELEMENTS (priorities); j++)
      for (guint fails = 0; fails < 2; fails++)
        {
          static const guint32 numbers[] = { 0, 1, 3000 };

          for (guint k = 0; k < G_N_ELEMENTS (numbers); k++)
            {
              how.completion_priority = priorities[i];
              how.priority = priorities[j];
              how.fails = fails;
              how.n = numbers[k];
              run_order (&how);
            }
        }
}

/* More than a slice of time holds, and more than the channel does by default */
static void
test_flood (gconstpointer order)
{
  OrderCase how = {
    .order = (Order) GPOINTER_TO_INT (order),
    .completion_priority = G_PRIORITY_HIGH,
    .n = (guint32) test_scaled (500000),
  };

  run_order (&how);
}

/* The writer is held up by what the reader has not read yet. */
static void
test_capacity_of_one (gconstpointer order)
{
  OrderCase how = {
    .order = (Order) GPOINTER_TO_INT (order),
    .completion_priority = G_PRIORITY_HIGH,
    .n = (guint32) test_scaled (5000),
    .capacity = 1,
  };

  run_order (&how);
}

/* Several tasks: each has its messages before its own callback. */
static void
test_many_tasks (void)
{
  enum
  {
    N_TASKS = 200
  };
  QTaskPool *pool = q_task_pool_new ("many", 4, 0);
  Talk talks[N_TASKS];
  QTask *tasks[N_TASKS];

  for (int i = 0; i < N_TASKS; i++)
    {
      talks[i] = (Talk) TALK_INIT;
      talks[i].n_to_write = (guint32) (i * 7) % 50;
      talks[i].fails = i % 3 == 0;
      tasks[i] = talk_new (&talks[i]);
      q_task_set_completion_priority (tasks[i], i % 5 - 2);
      test_pool_push (pool, tasks[i], talk_worker, &talks[i], talk_worker_data_destroy);
    }

  for (int i = 0; i < N_TASKS; i++)
    {
      test_run_until (NULL, talks[i].n_called);
      talk_end (&talks[i], tasks[i]);
    }
  test_pool_drop (pool);
}

/* The function is set when the worker has written, or has ended. */
static void
test_message_func_late (gconstpointer over)
{
  QTaskPool *pool = q_task_pool_new ("late", 1, 0);
  Talk talk = TALK_INIT;
  QTask *task = q_task_new (NULL, talk_completed_cb, &talk, talk_opaque_destroy);

  talk.n_to_write = 100;
  talk_open (task, &talk);
  test_pool_push (pool, task, talk_worker, &talk, talk_worker_data_destroy);
  test_gate_wait (&talk.hold.entered);
  if (over)
    g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_assert_cmpint (talk.n_messages, ==, 0);
  q_task_channel_set_message_func (q_task_get_channel (task), talk_message_cb, &talk,
                                   talk_message_data_destroy);
  talk_end (&talk, task);
  test_pool_drop (pool);
}

/* What a removed function did not get can be read. */
static void
stop_at_tenth_cb (QTaskChannel *channel,
                  GBytes *message,
                  gpointer count)
{
  g_assert_cmpuint (number_get (message), ==, (guint32) (*(int *) count)++);
  if (*(int *) count == 10)
    q_task_channel_set_message_func (channel, NULL, NULL, NULL);
}

static void
test_message_func_removed (void)
{
  QTaskPool *pool = q_task_pool_new ("removed", 1, 0);
  Talk talk = TALK_INIT;
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);
  int count = 0;

  talk.n_to_write = 20;
  talk_open (task, &talk);
  q_task_channel_set_message_func (q_task_get_channel (task), stop_at_tenth_cb, &count, NULL);
  test_pool_push (pool, task, talk_worker, &talk, NULL);
  test_run_until (NULL, report.called);
  g_assert_cmpint (count, ==, 10);
  for (guint32 i = 10; i < 20; i++)
    assert_next (q_task_get_channel (task), i);
  assert_end (q_task_get_channel (task));
  g_assert_finalize_object (task);
  test_report_clear (&report);
  test_pool_drop (pool);
}

/* Written by a task that has been asked to stop, and goes on to write */
typedef enum
{
  STOP_CANCEL,
  STOP_GIVEN,
  STOP_TIMEOUT,
  N_STOPS
} Stop;

static gboolean
write_when_stopped_worker (QTask *task,
                           gpointer data,
                           GError **error)
{
  Talk *talk = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);

  for (guint32 i = 0; i < talk->n_to_write / 2; i++)
    write_number (channel, i);
  test_stoppable_worker (task, &talk->hold, error);
  for (guint32 i = talk->n_to_write / 2; i < talk->n_to_write; i++)
    write_number (channel, i);

  return FALSE;
}

static void
test_written_when_stopped (gconstpointer stop)
{
  QTaskPool *pool = q_task_pool_new ("stopped", 1, 0);
  g_autoptr (GCancellable) given = g_cancellable_new ();
  Talk talk = TALK_INIT;
  QTask *task = g_object_new (Q_TYPE_TASK, "cancellable", given, NULL);

  talk.n_to_write = 1000;
  q_task_set_func (task, talk_completed_cb, &talk, talk_opaque_destroy);
  q_task_set_completion_priority (task, G_PRIORITY_HIGH);
  talk_open (task, &talk);
  q_task_channel_set_message_func (q_task_get_channel (task), talk_message_cb, &talk,
                                   talk_message_data_destroy);
  test_pool_push (pool, task, write_when_stopped_worker, &talk, talk_worker_data_destroy);
  test_gate_wait (&talk.hold.entered);

  switch ((Stop) GPOINTER_TO_INT (stop))
    {
    case STOP_CANCEL:
      q_task_cancel (task);
      break;
    case STOP_GIVEN:
      g_cancellable_cancel (given);
      break;
    default:
      q_task_set_timeout (task, G_TIME_SPAN_MILLISECOND);
    }

  test_run_until (NULL, talk.n_called);
  if (GPOINTER_TO_INT (stop) == STOP_TIMEOUT)
    g_assert_error (talk.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  else
    g_assert_error (talk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  talk_end (&talk, task);
  test_pool_drop (pool);
}

/* With return-on-cancel the callback comes while the worker runs: after what was written
 * until then, and then nothing more comes.
 */
static gboolean
write_after_return_worker (QTask *task,
                           gpointer data,
                           GError **error)
{
  Talk *talk = data;
  g_autoptr (QTaskChannel) channel = g_object_ref (q_task_get_worker_channel (task));
  g_autoptr (GError) late_error = NULL;
  guint32 more = 12345;

  for (guint32 i = 0; i < talk->n_to_write; i++)
    write_number (channel, i);
  test_gate_open (&talk->hold.entered);
  test_gate_wait (&talk->hold.release);

  /* Refused or not, it is neither a crash nor a block for ever, although nobody reads. */
  for (int i = 0; i < 10 && late_error == NULL; i++)
    if (!q_task_channel_write (channel, &more, sizeof more, NULL, &late_error))
      g_assert_true (g_error_matches (late_error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE) ||
                     g_error_matches (late_error, G_IO_ERROR, G_IO_ERROR_CLOSED));

  return TRUE;
}

static void
test_return_on_cancel (gconstpointer waited)
{
  QTaskPool *pool = q_task_pool_new ("returns", 1, 0);
  Talk talk = TALK_INIT;
  QTask *task;

  talk.n_to_write = 5000;
  talk.lets_end_be_late = TRUE;
  task = talk_new (&talk);
  q_task_set_return_on_cancel (task, TRUE);
  q_task_set_completion_priority (task, G_PRIORITY_HIGH);
  test_pool_push (pool, task, write_after_return_worker, &talk, talk_worker_data_destroy);
  test_gate_wait (&talk.hold.entered);
  q_task_cancel (task);

  if (waited)
    {
      g_assert_true (q_task_wait (task, NULL, NULL));
      g_assert_cmpint (talk.n_called, ==, 1);
    }
  test_run_until (NULL, talk.n_called);
  g_assert_error (talk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPING);
  g_clear_error (&talk.error);

  /* talk_message_cb() asserts that nothing comes now. */
  test_run_pending (NULL);
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 1);
  test_gate_open (&talk.hold.release);
  test_run_until (NULL, test_fate_get_count (&talk.worker_data));
  test_assert_destroyed_here (&talk.worker_data);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
  test_run_pending (NULL);
  test_assert_destroyed_here (&talk.message_data);
  test_assert_destroyed_here (&talk.opaque);
  test_pool_drop (pool);
}

/* What somebody wrote to the worker's end of a task that never runs */
static void
test_withdrawn (gconstpointer waited)
{
  QTaskPool *pool = q_task_pool_new ("withdrawn", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Talk talk = TALK_INIT;
  QTask *held = q_task_new (NULL, NULL, NULL, NULL);
  QTask *task = talk_new (&talk);
  g_autoptr (QTaskChannel) workers = g_object_ref (q_task_get_worker_channel (task));

  test_pool_push (pool, held, test_hold_worker, &hold, NULL);
  test_gate_wait (&hold.entered);

  talk.n_to_write = 3;
  for (guint32 i = 0; i < 3; i++)
    write_number (workers, i);
  q_task_set_completion_priority (task, G_PRIORITY_HIGH);
  test_pool_push (pool, task, talk_worker, &talk, talk_worker_data_destroy);
  g_assert_false (q_task_channel_is_closed (workers));
  q_task_cancel (task);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  if (waited)
    g_assert_true (q_task_wait (task, NULL, NULL));
  test_run_until (NULL, talk.n_called);
  g_assert_true (q_task_channel_is_closed (workers));
  g_assert_error (talk.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (test_gate_get_count (&talk.hold.entered), ==, 0);
  talk_end (&talk, task);

  test_gate_open (&hold.release);
  test_finish (held);
  test_pool_drop (pool);
}

/* Driven by other code: completed in place, the messages come in place. */
static void
test_completed_in_place (void)
{
  Talk talk = TALK_INIT;
  QTask *task = talk_new (&talk);

  talk.n_to_write = 10;
  for (guint32 i = 0; i < 10; i++)
    write_number (q_task_get_worker_channel (task), i);
  q_task_complete (task);
  g_assert_cmpint (talk.n_called, ==, 1);
  g_assert_true (q_task_channel_is_closed (q_task_get_worker_channel (task)));
  talk_end (&talk, task);
}

static gpointer
return_thread (gpointer task)
{
  for (guint32 i = 0; i < 10; i++)
    write_number (q_task_get_worker_channel (task), i);
  q_task_return_boolean (task, TRUE);

  return NULL;
}

static void
test_returned_elsewhere (void)
{
  Talk talk = TALK_INIT;
  QTask *task = talk_new (&talk);

  talk.n_to_write = 10;
  q_task_set_completion_priority (task, G_PRIORITY_HIGH);
  g_thread_join (g_thread_new ("return", return_thread, task));
  talk_end (&talk, task);
}

/* A main loop that is run by a message function goes on with what comes next. */
typedef struct
{
  Talk talk;
  gboolean is_nested;
} NestedTalk;

static void
nested_message_cb (QTaskChannel *channel,
                   GBytes *message,
                   gpointer data)
{
  NestedTalk *nested = data;

  talk_message_cb (channel, message, &nested->talk);

  if (message != NULL && number_get (message) == 10)
    {
      nested->is_nested = TRUE;
      test_run_until (NULL, nested->talk.n_called);
      nested->is_nested = FALSE;
    }
}

static void
test_nested_loop (void)
{
  QTaskPool *pool = q_task_pool_new ("nested", 1, 0);
  NestedTalk nested = { TALK_INIT, FALSE };
  QTask *task = q_task_new (NULL, talk_completed_cb, &nested.talk, talk_opaque_destroy);

  nested.talk.n_to_write = 5000;
  talk_open (task, &nested.talk);
  q_task_channel_set_message_func (q_task_get_channel (task), nested_message_cb, &nested,
                                   (GDestroyNotify) talk_message_data_destroy);
  test_pool_push (pool, task, talk_worker, &nested.talk, NULL);
  test_run_until (NULL, nested.talk.n_called);
  g_assert_false (nested.is_nested);
  talk_end (&nested.talk, task);
  test_pool_drop (pool);
}

/* The owner waits for the task in a message function of its own. */
static void
waiting_message_cb (QTaskChannel *channel,
                    GBytes *message,
                    gpointer data)
{
  QTask *task = g_object_get_data (G_OBJECT (channel), "task");
  Talk *talk = data;

  talk_message_cb (channel, message, talk);

  if (message != NULL && number_get (message) == 10)
    {
      g_assert_true (q_task_wait (task, NULL, NULL));
      g_assert_cmpint (talk->n_called, ==, 1);
    }
}

static void
test_wait_in_message_func (void)
{
  QTaskPool *pool = q_task_pool_new ("waits", 1, 0);
  Talk talk = TALK_INIT;
  QTask *task = q_task_new (NULL, talk_completed_cb, &talk, talk_opaque_destroy);

  talk.n_to_write = 5000;
  talk.capacity = 400;
  talk_open (task, &talk);
  g_object_set_data (G_OBJECT (q_task_get_channel (task)), "task", task);
  q_task_channel_set_message_func (q_task_get_channel (task), waiting_message_cb, &talk,
                                   talk_message_data_destroy);
  test_pool_push (pool, task, talk_worker, &talk, NULL);
  talk_end (&talk, task);
  test_pool_drop (pool);
}

/* The caller's reference is dropped at once. */
static void
test_nobody_keeps_task (void)
{
  QTaskPool *pool = q_task_pool_new ("unref", 1, 0);
  TestFate fate = TEST_FATE_INIT;
  Talk talk = TALK_INIT;
  QTask *task = talk_new (&talk);

  talk.n_to_write = 2000;
  test_fate_watch (&fate, task);
  test_pool_push (pool, task, talk_worker, &talk, talk_worker_data_destroy);
  g_object_unref (task);
  test_run_until (NULL, talk.n_called && test_fate_get_count (&fate));
  test_run_pending (NULL);
  test_assert_destroyed_here (&fate);
  test_assert_destroyed_here (&talk.opaque);
  test_assert_destroyed_here (&talk.worker_data);
  test_assert_destroyed_here (&talk.message_data);
  g_assert_cmpint (talk.n_ends, ==, 1);
  test_pool_drop (pool);
}

/* The ends */

/* What was written stays readable. */
static void
test_readable_after_end (void)
{
  QTaskPool *pool = q_task_pool_new ("ends", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  Talk talk = TALK_INIT;
  g_autoptr (QTaskChannel) ours = NULL;
  g_autoptr (QTaskChannel) workers = NULL;
  g_autoptr (GError) error = NULL;
  guint32 number = 0;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  talk.n_to_write = 50;
  talk_open (task, &talk);
  ours = g_object_ref (q_task_get_channel (task));
  workers = g_object_ref (q_task_get_worker_channel (task));
  test_pool_push (pool, task, talk_worker, &talk, NULL);
  test_run_until (NULL, report.called);

  g_assert_true (q_task_channel_is_closed (workers));
  g_assert_false (q_task_channel_write (workers, &number, sizeof number, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_clear_error (&error);
  g_assert_false (q_task_channel_write (ours, &number, sizeof number, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  g_clear_error (&error);

  g_assert_false (q_task_channel_is_closed (ours));
  for (guint32 i = 0; i < 50; i++)
    assert_next (ours, i);
  assert_end (ours);

  /* With the task goes the owner's end. */
  g_assert_finalize_object (task);
  g_assert_true (q_task_channel_is_closed (ours));
  g_assert_null (q_task_channel_try_read (ours, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  test_report_clear (&report);
  test_pool_drop (pool);
}

/* An owner that reads for itself, in a blocking way, while the worker runs */
static void
test_owner_reads (void)
{
  QTaskPool *pool = q_task_pool_new ("reads", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  Talk talk = TALK_INIT;
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) end = NULL;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  talk.n_to_write = (guint32) test_scaled (20000);
  talk.capacity = 100;
  talk_open (task, &talk);
  test_pool_push (pool, task, talk_worker, &talk, NULL);

  for (guint32 i = 0; i < talk.n_to_write; i++)
    {
      g_autoptr (GBytes) message = q_task_channel_read (q_task_get_channel (task), NULL, &error);

      g_assert_no_error (error);
      g_assert_cmpuint (number_get (message), ==, i);
    }
  end = q_task_channel_read (q_task_get_channel (task), NULL, &error);
  g_assert_no_error (error);
  g_assert_null (end);

  g_assert_cmpint (report.called, ==, 0);
  test_finish (task);
  g_assert_cmpint (report.called, ==, 1);
  test_report_clear (&report);
  test_pool_drop (pool);
}

/* What the owner wrote before the start, and after its end was closed */
static gboolean
count_to_end_worker (QTask *task,
                     gpointer data,
                     GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  guint32 n = 0;

  while (TRUE)
    {
      g_autoptr (GError) read_error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (channel, NULL, &read_error);

      g_assert_no_error (read_error);
      if (message == NULL)
        break;
      g_assert_cmpuint (number_get (message), ==, n++);
      test_gate_open (data);
    }

  q_task_set_result_int (task, n);

  return TRUE;
}

static void
test_owner_closes (gconstpointer started)
{
  QTaskPool *pool = q_task_pool_new ("closes", 1, 0);
  TestGate gate = TEST_GATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  for (guint32 i = 0; i < 10; i++)
    write_number (q_task_get_channel (task), i);
  if (started)
    {
      test_pool_push (pool, task, count_to_end_worker, &gate, NULL);
      test_gate_wait_for (&gate, 10);
    }
  q_task_channel_close (q_task_get_channel (task));
  if (!started)
    test_pool_push (pool, task, count_to_end_worker, &gate, NULL);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_cmpint (q_task_propagate_int (task, NULL), ==, 10);
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* Blocked in a write that nobody reads */
static gboolean
write_until_broken_worker (QTask *task,
                           gpointer gate,
                           GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  g_autoptr (GError) write_error = NULL;
  guint32 number = 0;

  while (q_task_channel_write (channel, &number, sizeof number, NULL, &write_error))
    test_gate_open (gate);
  g_assert_error (write_error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  test_gate_open (gate);

  return TRUE;
}

static void
test_owner_closes_on_writer (void)
{
  QTaskPool *pool = q_task_pool_new ("closes", 1, 0);
  TestGate gate = TEST_GATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 1);
  test_pool_push (pool, task, write_until_broken_worker, &gate, NULL);
  test_gate_wait (&gate);
  q_task_channel_close (q_task_get_channel (task));
  test_finish (task);
  g_assert_cmpint (test_gate_get_count (&gate), ==, 2);
  test_pool_drop (pool);
}

static void
never_message_cb (QTaskChannel *channel,
                  GBytes *message,
                  gpointer opaque)
{
  g_assert_not_reached ();
}

/* The context goes, and with it the owner's end, while the worker blocks. */
static void
test_context_goes (gconstpointer writes)
{
  QTaskPool *pool = q_task_pool_new ("goes", 1, 0);
  g_autoptr (QTaskChannel) ours = NULL;
  TestReport report = TEST_REPORT_INIT;
  TestFate message_data = TEST_FATE_INIT;
  TestGate gate = TEST_GATE_INIT;
  TestFate fate = TEST_FATE_INIT;
  TestContext context;
  QTask *task;

  test_context_begin (&context);
  task = q_task_new (NULL, test_report_cb, &report, NULL);
  test_fate_watch (&fate, task);
  g_assert_true (q_task_open_channel (task, NULL));
  ours = g_object_ref (q_task_get_channel (task));
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 1);
  q_task_channel_set_message_func (ours, never_message_cb, &message_data, test_fate_notify);
  if (writes)
    {
      test_pool_push (pool, task, write_until_broken_worker, &gate, NULL);
    }
  else
    {
      write_number (ours, 0);
      test_pool_push (pool, task, count_to_end_worker, &gate, NULL);
    }
  test_gate_wait (&gate);
  g_object_unref (task);
  test_context_end (&context);

  test_fate_wait (&fate);
  test_fate_wait (&message_data);
  g_assert_cmpint (test_fate_get_count (&message_data), ==, 1);
  g_assert_cmpint (report.called, ==, 0);
  g_assert_true (q_task_channel_is_closed (ours));
  test_pool_drop (pool);
}

/* A worker that blocks passes on what stops it. */
static gboolean
read_stoppably_worker (QTask *task,
                       gpointer gate,
                       GError **error)
{
  g_autoptr (GBytes) message = NULL;

  test_gate_open (gate);
  message = q_task_channel_read (q_task_get_worker_channel (task),
                                 q_task_get_stop_cancellable (task), error);
  g_assert_null (message);
  g_assert_true (error == NULL || *error != NULL);

  return FALSE;
}

static gboolean
write_stoppably_worker (QTask *task,
                        gpointer gate,
                        GError **error)
{
  guint32 number = 0;

  while (q_task_channel_write (q_task_get_worker_channel (task), &number, sizeof number,
                               q_task_get_stop_cancellable (task), error))
    test_gate_open (gate);

  return FALSE;
}

static void
test_cancel_blocked (gconstpointer writes)
{
  QTaskPool *pool = q_task_pool_new ("blocked", 1, 0);
  TestReport report = TEST_REPORT_INIT;
  TestGate gate = TEST_GATE_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 1);
  test_pool_push (pool, task, writes ? write_stoppably_worker : read_stoppably_worker, &gate, NULL);
  test_gate_wait (&gate);
  q_task_cancel (task);
  test_run_until (NULL, report.called);
  g_assert_error (report.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_STOPPED);
  test_report_clear (&report);
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* Both directions at once */

typedef struct
{
  guint32 n;
  guint32 n_sent;
  guint32 n_back;
  gboolean has_ended;
  gboolean was_closed;
} Echo;

static gboolean
echo_worker (QTask *task,
             gpointer data,
             GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);

  while (TRUE)
    {
      g_autoptr (GBytes) message = q_task_channel_read (channel, NULL, error);

      if (message == NULL)
        return error == NULL || *error == NULL;
      if (!q_task_channel_write_bytes (channel, message, NULL, error))
        return FALSE;
      if (number_get (message) == ((Echo *) data)->n - 1)
        return TRUE;
    }
}

static void
echo_message_cb (QTaskChannel *channel,
                 GBytes *message,
                 gpointer data)
{
  Echo *echo = data;

  if (message == NULL)
    echo->has_ended = TRUE;
  else
    g_assert_cmpuint (number_get (message), ==, echo->n_back++);
}

static void
echo_send (Echo *echo,
           QTaskChannel *channel);

static void
echo_sent_cb (GObject *channel,
              GAsyncResult *result,
              gpointer data)
{
  g_autoptr (GError) error = NULL;

  q_task_channel_write_finish (Q_TASK_CHANNEL (channel), result, &error);
  g_assert_no_error (error);
  echo_send (data, Q_TASK_CHANNEL (channel));
}

static void
echo_send (Echo *echo,
           QTaskChannel *channel)
{
  if (echo->n_sent < echo->n)
    {
      g_autoptr (GBytes) message = number_new (echo->n_sent++);

      q_task_channel_write_async (channel, message, NULL, echo_sent_cb, echo);
    }
}

static void
test_both_directions (gconstpointer capacity)
{
  QTaskPool *pool = q_task_pool_new ("both", 1, 0);
  Echo echo = { .n = (guint32) test_scaled (10000) };
  TestReport report = TEST_REPORT_INIT;
  QTask *task = q_task_new (NULL, test_report_cb, &report, NULL);
  QTaskChannel *ours;

  g_assert_true (q_task_open_channel (task, NULL));
  ours = q_task_get_channel (task);
  q_task_channel_set_capacity (ours, GPOINTER_TO_SIZE (capacity));
  q_task_channel_set_capacity (q_task_get_worker_channel (task), GPOINTER_TO_SIZE (capacity));
  q_task_channel_set_message_func (ours, echo_message_cb, &echo, NULL);
  test_pool_push (pool, task, echo_worker, &echo, NULL);
  /* Four on their way at a time */
  for (int i = 0; i < 4; i++)
    echo_send (&echo, ours);
  test_run_until (NULL, report.called);
  g_assert_no_error (report.error);
  g_assert_cmpuint (echo.n_back, ==, echo.n);
  g_assert_true (echo.has_ended);
  test_report_clear (&report);
  /* The last write may be told after the task has ended. */
  test_run_pending (NULL);
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* Two threads of a task: one reads, one writes */
typedef struct
{
  QTaskChannel *channel;
  guint32 n;
} Reader;

static gpointer
reader_thread (gpointer data)
{
  Reader *reader = data;

  for (guint32 i = 0; i < reader->n; i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (reader->channel, NULL, &error);

      g_assert_no_error (error);
      g_assert_cmpuint (number_get (message), ==, i);
    }

  return NULL;
}

static gboolean
both_worker (QTask *task,
             gpointer data,
             GError **error)
{
  guint32 *n = data;
  Reader reader = { q_task_get_worker_channel (task), *n };
  GThread *thread = g_thread_new ("reader", reader_thread, &reader);

  for (guint32 i = 0; i < *n; i++)
    write_number (reader.channel, i);
  g_thread_join (thread);

  return TRUE;
}

static void
test_both_at_once (void)
{
  QTaskPool *pool = q_task_pool_new ("both", 1, 0);
  guint32 n = (guint32) test_scaled (20000);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  Reader reader;
  GThread *thread;

  g_assert_true (q_task_open_channel (task, NULL));
  q_task_channel_set_capacity (q_task_get_channel (task), 40);
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 40);
  test_pool_push (pool, task, both_worker, &n, NULL);
  reader = (Reader){ q_task_get_channel (task), n };
  thread = g_thread_new ("reader", reader_thread, &reader);
  for (guint32 i = 0; i < n; i++)
    write_number (q_task_get_channel (task), i);
  g_thread_join (thread);
  test_finish (task);
  test_pool_drop (pool);
}

/* Subclasses */

#define TEST_TYPE_WRITER (test_writer_get_type ())
G_DECLARE_FINAL_TYPE (TestWriter, test_writer, TEST, WRITER, QTask)

struct _TestWriter
{
  QTask parent_instance;
};

G_DEFINE_FINAL_TYPE (TestWriter, test_writer, Q_TYPE_TASK)

static gboolean
test_writer_run (QTask *task,
                 GError **error)
{
  for (guint32 i = 0; i < 100; i++)
    write_number (q_task_get_worker_channel (task), i);

  return TRUE;
}

static void
test_writer_class_init (TestWriterClass *klass)
{
  Q_TASK_CLASS (klass)->run = test_writer_run;
}

static void
test_writer_init (TestWriter *self)
{
}

static void
test_subclass (void)
{
  Talk talk = TALK_INIT;
  QTask *task = g_object_new (TEST_TYPE_WRITER, NULL);

  talk.n_to_write = 100;
  q_task_set_func (task, talk_completed_cb, &talk, talk_opaque_destroy);
  talk_open (task, &talk);
  q_task_channel_set_message_func (q_task_get_channel (task), talk_message_cb, &talk,
                                   talk_message_data_destroy);
  q_task_run_in_thread (task, NULL, NULL, NULL);
  talk_end (&talk, task);
}

/* Descriptors */

static int
get_fd (QTaskChannel *channel)
{
  g_autoptr (GError) error = NULL;
  int fd = q_task_channel_get_fd (channel, &error);

  g_assert_no_error (error);
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (q_task_channel_get_fd (channel, NULL), ==, fd);

  return fd;
}

static gboolean
is_readable (int fd)
{
  struct pollfd pollfd = { .fd = fd, .events = POLLIN };

  return poll (&pollfd, 1, 0) == 1;
}

/* A thousand tasks with channels, and descriptors of those only that were asked for one, and
 * only while their channels are open
 */
static void
test_descriptors (void)
{
  enum
  {
    N_TASKS = 1000,
    N_ASKED = 10
  };
  QTaskPool *pool = q_task_pool_new ("thousand", 4, 0);
  g_autofree Talk *talks = g_new0 (Talk, N_TASKS);
  QTask *tasks[N_TASKS];
  guint n_before, n_asked;
  int fds[N_ASKED];

  test_run_pending (NULL);
  n_before = test_count_descriptors ();

  for (int i = 0; i < N_TASKS; i++)
    {
      talks[i] = (Talk) TALK_INIT;
      talks[i].n_to_write = 20;
      tasks[i] = talk_new (&talks[i]);
      if (i < N_ASKED)
        q_task_channel_set_message_func (q_task_get_channel (tasks[i]), NULL, NULL, NULL);
    }
  g_assert_cmpuint (test_count_descriptors (), ==, n_before);

  for (int i = N_ASKED; i < N_TASKS; i++)
    test_pool_push (pool, tasks[i], talk_worker, &talks[i], NULL);
  test_gate_wait (&talks[N_ASKED].hold.entered);
  g_assert_cmpuint (test_count_descriptors (), ==, n_before);
  for (int i = N_ASKED; i < N_TASKS; i++)
    {
      test_run_until (NULL, talks[i].n_called);
      g_assert_cmpuint (talks[i].n_messages, ==, 20);
    }
  g_assert_cmpuint (test_count_descriptors (), ==, n_before);

  for (int i = 0; i < N_ASKED; i++)
    fds[i] = get_fd (q_task_get_channel (tasks[i]));
  n_asked = test_count_descriptors ();
  g_assert_cmpuint (n_asked, >=, n_before + N_ASKED);
  g_assert_cmpuint (n_asked, <=, n_before + 2 * N_ASKED);

  for (int i = 0; i < N_ASKED; i++)
    {
      QTaskChannel *channel = q_task_get_channel (tasks[i]);

      g_assert_false (is_readable (fds[i]));
      q_task_set_func (tasks[i], NULL, NULL, NULL);
      test_pool_push (pool, tasks[i], talk_worker, &talks[i], NULL);
      test_run_until (NULL, q_task_get_completed (tasks[i]));
      for (guint32 j = 0; j < 20; j++)
        {
          g_assert_true (is_readable (fds[i]));
          assert_next (channel, j);
        }
      /* The end can be read. */
      g_assert_true (is_readable (fds[i]));
      assert_end (channel);
      g_assert_true (is_readable (fds[i]));
    }

  for (int i = 0; i < N_TASKS; i++)
    g_assert_finalize_object (tasks[i]);
  g_assert_cmpuint (test_count_descriptors (), ==, n_before);
  test_pool_drop (pool);
}

/* The worker asks for one, which is closed with its end. */
static gboolean
ask_worker (QTask *task,
            gpointer gate,
            GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  int fd = get_fd (channel);
  struct pollfd pollfd = { .fd = fd, .events = POLLIN };

  g_assert_false (is_readable (fd));
  test_gate_open (gate);
  g_assert_cmpint (poll (&pollfd, 1, TEST_TIME_LIMIT * 1000), ==, 1);
  assert_next (channel, 7);
  g_assert_false (is_readable (fd));
  test_gate_open (gate);
  g_assert_cmpint (poll (&pollfd, 1, TEST_TIME_LIMIT * 1000), ==, 1);
  assert_end (channel);
  g_assert_true (is_readable (fd));

  return TRUE;
}

static void
test_descriptor_of_worker (void)
{
  QTaskPool *pool = q_task_pool_new ("asks", 1, 0);
  TestGate gate = TEST_GATE_INIT;
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  guint n_before;

  test_run_pending (NULL);
  n_before = test_count_descriptors ();
  g_assert_true (q_task_open_channel (task, NULL));
  test_pool_push (pool, task, ask_worker, &gate, NULL);
  test_gate_wait (&gate);
  write_number (q_task_get_channel (task), 7);
  test_gate_wait_for (&gate, 2);
  q_task_channel_close (q_task_get_channel (task));
  test_run_until (NULL, q_task_get_completed (task));
  /* Its end was closed, although the task lives. */
  g_assert_cmpuint (test_count_descriptors (), ==, n_before);
  g_assert_finalize_object (task);
  test_pool_drop (pool);
}

/* The owner's end by hand; with the other one the descriptors go. */
static void
test_descriptor_closed_by_owner (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  guint n_before;

  test_run_pending (NULL);
  n_before = test_count_descriptors ();
  g_assert_true (q_task_open_channel (task, NULL));
  get_fd (q_task_get_channel (task));
  g_assert_cmpuint (test_count_descriptors (), >, n_before);
  q_task_channel_close (q_task_get_channel (task));
  g_assert_cmpuint (test_count_descriptors (), ==, n_before);
  q_task_complete (task);
  g_assert_finalize_object (task);
}

/* Reads with a cancellable: GCancellable would like a descriptor. */
static gboolean
without_descriptors_worker (QTask *task,
                            gpointer data,
                            GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);
  g_autoptr (GBytes) message = q_task_channel_read (channel, stop, error);

  if (message == NULL)
    return FALSE;

  if (number_get (message) % 10 == 0)
    {
      g_autoptr (GError) fd_error = NULL;

      g_assert_cmpint (q_task_channel_get_fd (channel, &fd_error), ==, -1);
      g_assert_error (fd_error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES);
      /* It is the error of the task that asked. */
      g_propagate_error (error, g_steal_pointer (&fd_error));
      return FALSE;
    }

  return q_task_channel_write_bytes (channel, message, stop, error);
}

typedef struct
{
  int n_messages;
  int n_completed;
  int n_failed;
} Counts;

static void
counting_message_cb (QTaskChannel *channel,
                     GBytes *message,
                     gpointer counts)
{
  if (message != NULL)
    ((Counts *) counts)->n_messages++;
}

static void
counting_completed_cb (QTask *task,
                       gpointer data)
{
  g_autoptr (GError) error = NULL;
  Counts *counts = data;

  counts->n_completed++;
  if (q_task_propagate_error (task, &error))
    {
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES);
      counts->n_failed++;
    }
}

static void
test_no_descriptors (void)
{
  enum
  {
    N_TASKS = 1000
  };
  QTaskPool *pool;
  Counts counts = { 0 };
  g_autoptr (GError) error = NULL;
  QTask *asks, *tasks[N_TASKS];
  QTaskChannel *channel;

  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, SUBPROCESS_TIME_LIMIT,
                              G_TEST_SUBPROCESS_INHERIT_STDOUT | G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }

  /* A main loop has a descriptor; there is one before they are gone. */
  g_main_context_iteration (NULL, FALSE);
  test_take_descriptors ();

  pool = q_task_pool_new ("without", 4, 0);
  asks = q_task_new (NULL, NULL, NULL, NULL);
  g_assert_true (q_task_open_channel (asks, &error));
  g_assert_no_error (error);
  channel = q_task_get_channel (asks);
  g_assert_cmpint (q_task_channel_get_fd (channel, &error), ==, -1);
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES);
  g_clear_error (&error);
  g_assert_cmpint (q_task_channel_get_fd (channel, NULL), ==, -1);

  for (int i = 0; i < N_TASKS; i++)
    {
      tasks[i] = q_task_new (NULL, counting_completed_cb, &counts, NULL);
      g_assert_true (q_task_open_channel (tasks[i], &error));
      g_assert_no_error (error);
      q_task_channel_set_message_func (q_task_get_channel (tasks[i]), counting_message_cb, &counts,
                                       NULL);
      test_pool_push (pool, tasks[i], without_descriptors_worker, NULL, NULL);
      if (i % 2 == 0)
        q_task_get_stop_cancellable (tasks[i]);
      write_number (q_task_get_channel (tasks[i]), (guint32) i);
    }
  test_run_until (NULL, counts.n_completed == N_TASKS);
  g_assert_cmpint (counts.n_failed, ==, N_TASKS / 10);
  g_assert_cmpint (counts.n_messages, ==, N_TASKS - N_TASKS / 10);

  /* It blocks, and cancels, without one. */
  test_pool_push (pool, asks, without_descriptors_worker, NULL, NULL);
  test_poll_until (q_task_poll (asks) == Q_TASK_STATE_RUNNING);
  q_task_cancel (asks);
  g_assert_true (q_task_wait (asks, NULL, &error));
  g_assert_no_error (error);

  test_give_descriptors_back ();

  /* The channel that got none has one now: its end can be read. */
  g_assert_true (is_readable (get_fd (channel)));
  g_assert_finalize_object (asks);
  for (int i = 0; i < N_TASKS; i++)
    g_assert_finalize_object (tasks[i]);
  test_pool_drop (pool);
}

#define G4 "/guarantee/4-order"
#define G9 "/guarantee/9-no-abort-on-what-the-world-does"

/* Run synchronously by the owner, all of them come before that returns. */
static void
completed_notify_cb (QTask *task,
                     GParamSpec *pspec,
                     gpointer data)
{
  Talk *talk = data;

  g_assert_cmpuint (talk->n_messages, ==, talk->n_to_write);
  g_assert_cmpint (talk->n_ends, ==, 1);
  talk->n_called++;
}

static void
test_run_in_thread_sync (gconstpointer capacity)
{
  for (int i = 0; i < test_scaled (100); i++)
    {
      Talk talk = TALK_INIT;
      QTask *task;

      talk.n_to_write = 100;
      talk.capacity = GPOINTER_TO_UINT (capacity);
      task = talk_new (&talk);
      g_signal_connect (task, "notify::completed", G_CALLBACK (completed_notify_cb), &talk);
      q_task_run_in_thread_sync (task, talk_worker, &talk, talk_worker_data_destroy);
      g_assert_cmpint (talk.n_called, ==, 1);
      g_assert_cmpuint (talk.n_messages, ==, 100);
      talk_end (&talk, task);
      test_assert_destroyed_here (&talk.worker_data);
    }
}

#define add_data(path, data, func) g_test_add_data_func (path, GINT_TO_POINTER (data), func)

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  add_data (G4 "/messages/iterated", ORDER_ITERATED, test_before_callback);
  add_data (G4 "/messages/of-an-ended-worker", ORDER_FLOOD, test_before_callback);
  add_data (G4 "/messages/owner-waits", ORDER_WAITED, test_before_callback);
  add_data (G4 "/messages/owner-waits-late", ORDER_WAITED_LATE, test_before_callback);
  add_data (G4 "/messages/flood-iterated", ORDER_ITERATED, test_flood);
  add_data (G4 "/messages/flood-of-an-ended-worker", ORDER_FLOOD, test_flood);
  add_data (G4 "/messages/flood-owner-waits", ORDER_WAITED, test_flood);
  add_data (G4 "/messages/flood-owner-waits-late", ORDER_WAITED_LATE, test_flood);
  add_data (G4 "/messages/capacity-of-one", ORDER_ITERATED, test_capacity_of_one);
  add_data (G4 "/messages/capacity-of-one-owner-waits", ORDER_WAITED, test_capacity_of_one);
  add_data (G4 "/messages/run-in-thread-sync", 0, test_run_in_thread_sync);
  add_data (G4 "/messages/run-in-thread-sync-capacity-of-one", 1, test_run_in_thread_sync);
  g_test_add_func (G4 "/messages/many-tasks", test_many_tasks);
  add_data (G4 "/messages/function-set-late", FALSE, test_message_func_late);
  add_data (G4 "/messages/function-set-when-over", TRUE, test_message_func_late);
  add_data (G4 "/messages/cancelled", STOP_CANCEL, test_written_when_stopped);
  add_data (G4 "/messages/given-cancellable-cancelled", STOP_GIVEN, test_written_when_stopped);
  add_data (G4 "/messages/timed-out", STOP_TIMEOUT, test_written_when_stopped);
  add_data (G4 "/messages/return-on-cancel", FALSE, test_return_on_cancel);
  add_data (G4 "/messages/return-on-cancel-owner-waits", TRUE, test_return_on_cancel);
  add_data (G4 "/messages/withdrawn", FALSE, test_withdrawn);
  add_data (G4 "/messages/withdrawn-owner-waits", TRUE, test_withdrawn);
  g_test_add_func (G4 "/messages/completed-in-place", test_completed_in_place);
  g_test_add_func (G4 "/messages/returned-elsewhere", test_returned_elsewhere);
  g_test_add_func (G4 "/messages/nested-loop", test_nested_loop);
  g_test_add_func (G4 "/messages/owner-waits-in-message-function", test_wait_in_message_func);
  g_test_add_func (G4 "/messages/nobody-keeps-the-task", test_nobody_keeps_task);
  g_test_add_func (G4 "/messages/subclass", test_subclass);

  g_test_add_func ("/task-channel/not-open", test_not_open);
  g_test_add_func ("/task-channel/open", test_open);
  g_test_add_func ("/task-channel/open-twice", test_open_twice);
  g_test_add_func ("/task-channel/open-after-start", test_open_after_start);
  g_test_add_func ("/task-channel/open-after-failed-push", test_open_after_failed_push);
  g_test_add_func ("/task-channel/removed-function-leaves-the-rest", test_message_func_removed);
  g_test_add_func ("/task-channel/readable-after-the-end", test_readable_after_end);
  g_test_add_func ("/task-channel/owner-reads", test_owner_reads);
  add_data ("/task-channel/owner-closes-before-start", FALSE, test_owner_closes);
  add_data ("/task-channel/owner-closes-while-worker-reads", TRUE, test_owner_closes);
  g_test_add_func ("/task-channel/owner-closes-while-worker-writes", test_owner_closes_on_writer);
  add_data ("/task-channel/context-goes-while-worker-reads", FALSE, test_context_goes);
  add_data ("/task-channel/context-goes-while-worker-writes", TRUE, test_context_goes);
  add_data ("/task-channel/cancel-while-worker-reads", FALSE, test_cancel_blocked);
  add_data ("/task-channel/cancel-while-worker-writes", TRUE, test_cancel_blocked);
  add_data ("/task-channel/both-directions", 0, test_both_directions);
  add_data ("/task-channel/both-directions-capacity-of-one", 1, test_both_directions);
  g_test_add_func ("/task-channel/both-directions-four-threads", test_both_at_once);

  g_test_add_func ("/guarantee/8-can-be-bounded/descriptors-only-when-asked", test_descriptors);
  g_test_add_func ("/guarantee/8-can-be-bounded/descriptor-of-the-worker", test_descriptor_of_worker);
  g_test_add_func ("/guarantee/8-can-be-bounded/descriptor-goes-when-closed",
                   test_descriptor_closed_by_owner);
  g_test_add_func (G9 "/no-descriptors-for-a-channel", test_no_descriptors);

  return g_test_run ();
}
