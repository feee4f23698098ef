/* test-stress.c: everything at once, at random
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whatever happens, each task has one callback, by its owner, and each datum is
 * released once, there. Each has a Record, which counts that; what is not so
 * aborts at once, what never comes does so at the time limit.
 *
 * The seed is the same each time, unless --seed is given; the threads make it
 * random enough. It takes a few seconds, and a minute with -m thorough.
 */

#include <stdlib.h>
#include <string.h>

#include "test-util.h"

#define N_OWNERS 3
#define N_MEDDLERS 3
#define N_POOLS 5
#define N_SHOWN 200
#define N_OUTSTANDING 400
#define N_KEPT 5000

/* For how long, in microseconds: @share is that of the quick run, in tenths of a
 * second.
 */
static gint64
duration (int share)
{
  gint64 usec = (gint64) share * 100 * 1000;

  return g_test_thorough () ? usec * 12 : usec;
}

static void
assert_expected_error (const GError *error)
{
  if (error->domain == Q_TASK_ERROR)
    g_assert_true (error->code == Q_TASK_ERROR_FAILED || error->code == Q_TASK_ERROR_CLOSED ||
                   error->code == Q_TASK_ERROR_QUEUE_FULL || error->code == Q_TASK_ERROR_DEADLOCK);
  else
    g_assert_true (error->domain == G_IO_ERROR &&
                   (error->code == G_IO_ERROR_CANCELLED || error->code == G_IO_ERROR_TIMED_OUT ||
                    error->code == G_IO_ERROR_NOT_FOUND));
}

/* Record: what became of one task, and of all that was handed over with it */
typedef enum
{
  ITEM_SOURCE,
  ITEM_OPAQUE,
  ITEM_WORKER_DATA,
  ITEM_TASK_DATA,
  ITEM_RESULT,
  N_ITEMS
} Item;

typedef struct _Stress Stress;

typedef struct
{
  Stress *stress;
  GThread *owner;
  int n_held;            /* what is still to be released */
  int released[N_ITEMS]; /* how often each was */
  int called;
  int context_gone;
  gboolean has_no_callback; /* ran synchronously */
  guint32 random;
} Record;

static void
record_hold (Record *record,
             Item item)
{
  g_atomic_int_inc (&record->n_held);
}

static void
record_release (Record *record,
                Item item)
{
  g_assert_cmpint (g_atomic_int_add (&record->released[item], 1), ==, 0);

  /* Once its context has gone, a task has no owner. */
  if (!g_atomic_int_get (&record->context_gone))
    g_assert_true (g_thread_self () == record->owner);

  g_assert_cmpint (g_atomic_int_add (&record->n_held, -1), >, 0);
}

static void
opaque_released (gpointer record)
{
  record_release (record, ITEM_OPAQUE);
}

static void
worker_data_released (gpointer record)
{
  record_release (record, ITEM_WORKER_DATA);
}

static void
task_data_released (gpointer record)
{
  record_release (record, ITEM_TASK_DATA);
}

static void
result_released (gpointer record)
{
  record_release (record, ITEM_RESULT);
}

#define TEST_TYPE_SOURCE (test_source_get_type ())
G_DECLARE_FINAL_TYPE (TestSource, test_source, TEST, SOURCE, GObject)

struct _TestSource
{
  GObject parent_instance;

  Record *record;
};

G_DEFINE_FINAL_TYPE (TestSource, test_source, G_TYPE_OBJECT)

static void
test_source_finalize (GObject *object)
{
  record_release (TEST_SOURCE (object)->record, ITEM_SOURCE);
  G_OBJECT_CLASS (test_source_parent_class)->finalize (object);
}

static void
test_source_class_init (TestSourceClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = test_source_finalize;
}

static void
test_source_init (TestSource *self)
{
}

static gboolean
record_is_over (Record *record)
{
  return g_atomic_int_get (&record->n_held) == 0 &&
         (g_atomic_int_get (&record->called) || g_atomic_int_get (&record->context_gone) ||
          record->has_no_callback);
}

static void
record_free (Record *record)
{
  /* Nothing came after its end. */
  g_assert_cmpint (g_atomic_int_get (&record->n_held), ==, 0);
  g_assert_cmpint (g_atomic_int_get (&record->called), <=, 1);
  if (record->has_no_callback)
    g_assert_cmpint (g_atomic_int_get (&record->called), ==, 0);
  else if (!g_atomic_int_get (&record->context_gone))
    g_assert_cmpint (g_atomic_int_get (&record->called), ==, 1);

  g_free (record);
}

/* Stress: all that is going on */
struct _Stress
{
  pthread_mutex_t mutex; /* of pools and shown */
  QTaskPool *pools[N_POOLS];
  QTask *shown[N_SHOWN]; /* for everybody to meddle with */
  GCancellable *shared;

  int is_over;
  int n_waiting; /* workers that wait without a limit */
  int n_created;
  int n_called;
  int n_ran;
  int n_refused;
  int n_gone;
  int n_deadlocks;
  int n_pools;
};

static guint32
random_below (GRand *rand,
              guint32 n)
{
  return (guint32) g_rand_int_range (rand, 0, (gint32) n);
}

static gboolean
one_in (GRand *rand,
        guint32 n)
{
  return random_below (rand, n) == 0;
}

static GRand *
rand_new (void)
{
  return g_rand_new_with_seed ((guint32) g_test_rand_int ());
}

static QTaskPool *
some_pool (Stress *stress,
           GRand *rand)
{
  QTaskPool *pool;

  if (one_in (rand, 12))
    return g_object_ref (q_task_pool_get_default ());

  pthread_mutex_lock (&stress->mutex);
  pool = g_object_ref (stress->pools[random_below (rand, N_POOLS)]);
  pthread_mutex_unlock (&stress->mutex);

  return pool;
}

static QTask *
some_task (Stress *stress,
           GRand *rand)
{
  QTask *task;

  pthread_mutex_lock (&stress->mutex);
  task = stress->shown[random_below (rand, N_SHOWN)];
  if (task != NULL)
    g_object_ref (task);
  pthread_mutex_unlock (&stress->mutex);

  return task;
}

/* Takes the reference of the caller, and drops that of another task. */
static void
show_task (Stress *stress,
           GRand *rand,
           QTask *task)
{
  guint32 i = random_below (rand, N_SHOWN);
  QTask *old;

  pthread_mutex_lock (&stress->mutex);
  old = stress->shown[i];
  stress->shown[i] = task;
  pthread_mutex_unlock (&stress->mutex);

  g_clear_object (&old);
}

static QTaskPool *
pool_new (Stress *stress,
          GRand *rand)
{
  QTaskPool *pool;

  g_atomic_int_inc (&stress->n_pools);

  switch (random_below (rand, 4))
    {
    case 0:
      return q_task_pool_new_serial ("serial");
    case 1:
      return q_task_pool_new ("bounded", 1 + random_below (rand, 3), 1 + random_below (rand, 20));
    case 2:
      pool = q_task_pool_new ("timed", 2, 0);
      q_task_pool_set_timing (pool, TRUE);
      return pool;
    default:
      return q_task_pool_new ("plain", 1 + random_below (rand, 4), 0);
    }
}

/* What workers do */

static gboolean
random_worker (QTask *task,
               gpointer data,
               GError **error)
{
  Record *record = data;
  Stress *stress = record->stress;
  GRand *rand = g_rand_new_with_seed (record->random);
  gboolean success = TRUE;

  g_atomic_int_inc (&stress->n_ran);
  g_assert_cmpint (g_atomic_int_get (&record->released[ITEM_WORKER_DATA]), ==, 0);
  g_assert_true (q_task_get_task_data (task) == record);

  switch (random_below (rand, 12))
    {
    case 0:
      success = FALSE;
      break;

    case 1:
      success = FALSE;
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");
      break;

    case 2:
      q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Nor here");
      break;

    case 3:
      for (int i = 0; i < 50; i++)
        q_task_set_progress (task, i / 50.0, i % 10 == 0 ? "on its way" : NULL);
      break;

    case 4:
      /* Until it is stopped, or tires of it */
      for (int i = 0; i < 200 && !q_task_is_cancelled (task); i++)
        g_thread_yield ();
      success = !g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error);
      break;

    case 5:
    case 6:
      {
        g_autoptr (QTask) other = some_task (stress, rand);
        gboolean without_limit;

        if (other == NULL)
          break;

        without_limit = g_atomic_int_add (&stress->n_waiting, 1) < 10;
        success = q_task_wait_until (other,
                                     without_limit ? -1 : g_get_monotonic_time () + random_below (rand, 500),
                                     one_in (rand, 2) ? q_task_get_stop_cancellable (task) : NULL,
                                     error);
        g_atomic_int_add (&stress->n_waiting, -1);
      }
      break;

    case 7:
      {
        g_autoptr (QTask) next = q_task_new (NULL, NULL, NULL, NULL);
        g_autoptr (QTaskPool) pool = some_pool (stress, rand);

        if (q_task_pool_push (pool, next, test_empty_worker, NULL, NULL, error))
          success = q_task_wait_until (next, g_get_monotonic_time () + 20000, NULL, error);
        else
          success = FALSE;
      }
      break;

    default:
      break;
    }

  if (one_in (rand, 2))
    {
      record_hold (record, ITEM_RESULT);
      q_task_set_result_pointer (task, record, result_released);
    }

  g_assert_cmpint (g_atomic_int_get (&record->released[ITEM_WORKER_DATA]), ==, 0);
  g_rand_free (rand);

  return success;
}

static void
random_cb (QTask *task,
           gpointer data)
{
  Record *record = data;
  g_autoptr (GError) error = NULL;
  gpointer result;

  g_assert_cmpint (g_atomic_int_add (&record->called, 1), ==, 0);
  g_assert_true (g_thread_self () == record->owner);
  g_assert_false (g_atomic_int_get (&record->context_gone));
  g_assert_cmpint (g_atomic_int_get (&record->released[ITEM_OPAQUE]), ==, 0);
  g_assert_cmpint (g_atomic_int_get (&record->released[ITEM_SOURCE]), ==, 0);
  g_assert_cmpint (g_atomic_int_get (&record->released[ITEM_TASK_DATA]), ==, 0);
  g_atomic_int_inc (&record->stress->n_called);

  result = q_task_propagate_pointer (task, &error);
  if (error != NULL)
    {
      assert_expected_error (error);
      if (g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK))
        g_atomic_int_inc (&record->stress->n_deadlocks);
      g_assert_null (result);
    }
  else if (result != NULL)
    {
      g_assert_true (result == record);
      result_released (record);
    }
}

/* Owners: each has a context, and now and then another one for a while. */
typedef struct
{
  Stress *stress;
  GRand *rand;
  GThread *thread;
  GPtrArray *records;
  GQueue *old_records;
  TestGate ready;
  TestGate stopped; /* makes no more tasks */
} Owner;

static void
notify_cb (QTask *task,
           GParamSpec *pspec,
           gpointer record)
{
  if (!g_atomic_int_get (&((Record *) record)->context_gone))
    g_assert_true (g_thread_self () == ((Record *) record)->owner);
}

static Record *
owner_make (Owner *owner)
{
  Stress *stress = owner->stress;
  GRand *rand = owner->rand;
  Record *record = g_new0 (Record, 1);
  g_autoptr (TestSource) source = g_object_new (TEST_TYPE_SOURCE, NULL);
  g_autoptr (GCancellable) cancellable = NULL;
  g_autoptr (QTaskPool) pool = some_pool (stress, rand);
  g_autoptr (GError) error = NULL;
  QTask *task;

  g_atomic_int_inc (&stress->n_created);
  record->stress = stress;
  record->owner = g_thread_self ();
  record->random = g_rand_int (rand);
  g_ptr_array_add (owner->records, record);

  record_hold (record, ITEM_SOURCE);
  record_hold (record, ITEM_OPAQUE);
  record_hold (record, ITEM_TASK_DATA);
  source->record = record;

  switch (random_below (rand, 4))
    {
    case 0:
      cancellable = g_cancellable_new ();
      break;
    case 1:
      pthread_mutex_lock (&stress->mutex);
      cancellable = g_object_ref (stress->shared);
      pthread_mutex_unlock (&stress->mutex);
      break;
    default:
      break;
    }

  task = g_object_new (Q_TYPE_TASK, "source-object", source, "cancellable", cancellable, NULL);
  q_task_set_func (task, random_cb, record, opaque_released);
  q_task_set_task_data (task, record, task_data_released);

  if (one_in (rand, 8))
    q_task_set_name (task, "at random");
  if (one_in (rand, 3))
    q_task_set_priority (task, g_rand_int_range (rand, -5, 5));
  if (one_in (rand, 8))
    q_task_set_timeout (task, 1 + random_below (rand, 3000));
  if (one_in (rand, 4))
    q_task_set_check_cancellable (task, FALSE);
  else if (one_in (rand, 4))
    q_task_set_return_on_cancel (task, TRUE);
  if (one_in (rand, 4))
    q_task_set_run_cancelled (task, TRUE);
  if (one_in (rand, 4))
    g_signal_connect (task, "notify", G_CALLBACK (notify_cb), record);
  if (one_in (rand, 30))
    q_task_cancel (task);

  if (one_in (rand, 50))
    {
      /* By hand, with no thread */
      if (one_in (rand, 2))
        q_task_complete (task);
      else
        q_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "By hand");
    }
  else if (one_in (rand, 100))
    {
      record->has_no_callback = TRUE;
      record_hold (record, ITEM_WORKER_DATA);
      q_task_run_in_thread_sync (task, random_worker, record, worker_data_released);
    }
  else
    {
      record_hold (record, ITEM_WORKER_DATA);
      if (!q_task_pool_push (pool, task, random_worker, record, worker_data_released, &error))
        {
          /* The data are still the caller's. */
          worker_data_released (record);
          g_atomic_int_inc (&stress->n_refused);
          assert_expected_error (error);
          q_task_return_error (task, g_steal_pointer (&error));
        }
    }

  switch (random_below (rand, 20))
    {
    case 0:
      q_task_cancel (task);
      break;
    case 1:
      if (cancellable != NULL)
        g_cancellable_cancel (cancellable);
      break;
    case 2:
      q_task_set_timeout (task, random_below (rand, 1000));
      break;
    case 3:
      {
        g_autoptr (GError) wait_error = NULL;

        if (!q_task_wait_until (task, g_get_monotonic_time () + random_below (rand, 2000), NULL, &wait_error))
          g_assert_error (wait_error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      }
      break;
    default:
      break;
    }

  if (one_in (rand, 3))
    g_object_unref (task);
  else
    show_task (stress, rand, task);

  return record;
}

static void
owner_sweep (Owner *owner)
{
  for (guint i = owner->records->len; i-- > 0;)
    {
      Record *record = g_ptr_array_index (owner->records, i);

      if (record_is_over (record))
        {
          g_ptr_array_remove_index_fast (owner->records, i);
          g_queue_push_tail (owner->old_records, record);
        }
    }

  /* They stay for a while: for what comes too late */
  while (owner->old_records->length > N_KEPT)
    record_free (g_queue_pop_head (owner->old_records));
}

/* A context that goes, whatever is still to come to it */
static void
owner_make_in_short_context (Owner *owner)
{
  GMainContext *context = g_main_context_new ();
  Record *records[20];
  guint n = random_below (owner->rand, G_N_ELEMENTS (records));

  g_main_context_push_thread_default (context);
  for (guint i = 0; i < n; i++)
    records[i] = owner_make (owner);
  for (guint i = random_below (owner->rand, 20); i > 0; i--)
    g_main_context_iteration (context, FALSE);
  g_main_context_pop_thread_default (context);

  for (guint i = 0; i < n; i++)
    g_atomic_int_set (&records[i]->context_gone, TRUE);
  g_atomic_int_add (&owner->stress->n_gone, (int) n);
  g_main_context_unref (context);
}

static gboolean
wake_cb (gpointer data)
{
  return G_SOURCE_CONTINUE;
}

static gpointer
owner_thread (gpointer data)
{
  Owner *owner = data;
  Stress *stress = owner->stress;
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (GSource) source = g_timeout_source_new (5);
  gint64 end_time;

  g_main_context_push_thread_default (context);
  g_source_set_callback (source, wake_cb, NULL, NULL);
  g_source_attach (source, context);
  test_gate_open (&owner->ready);

  while (!g_atomic_int_get (&stress->is_over))
    {
      if (owner->records->len < N_OUTSTANDING)
        for (guint i = random_below (owner->rand, 30); i > 0; i--)
          owner_make (owner);
      else
        g_main_context_iteration (context, TRUE);

      if (one_in (owner->rand, 20))
        owner_make_in_short_context (owner);

      for (guint i = random_below (owner->rand, 40); i > 0; i--)
        if (!g_main_context_iteration (context, FALSE))
          break;

      owner_sweep (owner);
    }

  test_gate_open (&owner->stopped);

  end_time = test_end_time ();
  while (owner->records->len > 0)
    {
      g_main_context_iteration (context, TRUE);
      owner_sweep (owner);

      if (g_get_monotonic_time () > end_time)
        {
          Record *record = g_ptr_array_index (owner->records, 0);

          g_error ("%u tasks are not over; the first was called %d times, "
                   "released source %d, opaque %d, worker data %d, task data %d, result %d, and has %d to go",
                   owner->records->len, record->called, record->released[ITEM_SOURCE],
                   record->released[ITEM_OPAQUE], record->released[ITEM_WORKER_DATA],
                   record->released[ITEM_TASK_DATA], record->released[ITEM_RESULT], record->n_held);
        }
    }

  while (owner->old_records->length > 0)
    record_free (g_queue_pop_head (owner->old_records));

  g_source_destroy (source);
  g_main_context_pop_thread_default (context);

  return NULL;
}

/* Meddlers: they know the tasks of others. */
typedef struct
{
  Stress *stress;
  GRand *rand;
  GThread *thread;
  gint64 end_time;
} Meddler;

static void
waited_cb (GObject *source,
           GAsyncResult *result,
           gpointer n_left)
{
  g_autoptr (GError) error = NULL;

  if (!q_task_wait_finish (Q_TASK (source), result, &error))
    g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  (*(int *) n_left)--;
}

static gpointer
meddler_thread (gpointer data)
{
  Meddler *meddler = data;
  Stress *stress = meddler->stress;
  GRand *rand = meddler->rand;
  g_autoptr (GMainContext) context = g_main_context_new ();
  int n_waited_for = 0;

  g_main_context_push_thread_default (context);

  while (!g_atomic_int_get (&stress->is_over))
    {
      g_autoptr (QTask) task = some_task (stress, rand);
      g_autoptr (GError) error = NULL;

      while (g_main_context_iteration (context, FALSE))
        ;

      if (task == NULL)
        {
          g_thread_yield ();
          continue;
        }

      switch (random_below (rand, 20))
        {
        case 0:
          q_task_cancel (task);
          break;

        case 1:
          if (one_in (rand, 4))
            g_cancellable_cancel (q_task_get_cancellable (task));
          break;

        case 2:
          q_task_get_stop_cancellable (task);
          break;

        case 3:
          q_task_set_priority (task, g_rand_int_range (rand, -5, 5));
          break;

        case 4:
          q_task_set_completion_priority (task, g_rand_int_range (rand, -5, 5));
          break;

        case 5:
        case 6:
          /* One does not go without the other. */
          if (q_task_get_check_cancellable (task))
            q_task_set_return_on_cancel (task, one_in (rand, 2));
          break;

        case 7:
          q_task_set_progress (task, g_rand_double (rand), one_in (rand, 2) ? "meddled" : NULL);
          break;

        case 8:
          {

            g_assert_cmpfloat (q_task_get_progress (task), <=, 1.0);
          }
          break;

        case 9:
          if (!q_task_wait_until (task, g_get_monotonic_time () + random_below (rand, 1000), NULL, &error))
            g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
          break;

        case 10:
          {
            g_autoptr (GCancellable) cancellable = g_cancellable_new ();

            g_cancellable_cancel (cancellable);
            if (!q_task_wait (task, cancellable, &error))
              g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          }
          break;

        case 11:
          {
            g_autoptr (GCancellable) cancellable = g_cancellable_new ();

            n_waited_for++;
            q_task_wait_async (task, cancellable, waited_cb, &n_waited_for);
            if (one_in (rand, 2))
              g_cancellable_cancel (cancellable);
          }
          break;

        case 12:
          {
            g_autoptr (QTaskPool) pool = some_pool (stress, rand);
            g_autofree char *dump = q_task_pool_dump (pool);
            QTaskPoolStats stats = { 0 };

            g_assert_nonnull (dump);
            q_task_pool_get_stats (pool, &stats);
            g_assert_cmpuint (stats.parked, <=, stats.running);
          }
          break;

        case 13:
          {
            g_autoptr (QTaskPool) pool = some_pool (stress, rand);
            g_autoptr (GPtrArray) list = q_task_pool_list_tasks (pool);

            if (list->len > 0)
              q_task_cancel (g_ptr_array_index (list, random_below (rand, list->len)));
          }
          break;

        case 14:
          {
            g_autoptr (QTaskPool) pool = some_pool (stress, rand);

            if (!q_task_pool_is_serial (pool) && pool != q_task_pool_get_default ())
              q_task_pool_set_max_threads (pool, 1 + random_below (rand, 4));
          }
          break;

        case 15:
          {
            g_autoptr (QTaskPool) pool = some_pool (stress, rand);
            g_autoptr (GCancellable) cancellable = g_cancellable_new ();

            if (one_in (rand, 2))
              g_cancellable_cancel (cancellable);
            if (!q_task_pool_wait_for_space (pool, cancellable, &error) &&
                !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
              g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
          }
          break;

        default:
          q_task_poll (task);
          q_task_is_cancelled (task);
          q_task_get_completed (task);
          show_task (stress, rand, g_object_ref (task));
        }
    }

  /* Each wait has its answer, in time. */
  meddler->end_time = test_end_time ();
  while (n_waited_for > 0)
    {
      g_main_context_iteration (context, FALSE);
      g_usleep (100);
      if (g_get_monotonic_time () > meddler->end_time)
        g_error ("%d waits have had no answer", n_waited_for);
    }

  g_main_context_pop_thread_default (context);

  return NULL;
}

/* One that replaces pools, whatever they do */
static gpointer
pool_killer_thread (gpointer data)
{
  Meddler *killer = data;
  Stress *stress = killer->stress;
  GRand *rand = killer->rand;

  while (!g_atomic_int_get (&stress->is_over))
    {
      guint32 i = random_below (rand, N_POOLS);
      QTaskPool *pool, *old;
      g_autoptr (GError) error = NULL;

      g_usleep (random_below (rand, 20000));

      pool = pool_new (stress, rand);
      pthread_mutex_lock (&stress->mutex);
      old = stress->pools[i];
      stress->pools[i] = pool;
      pthread_mutex_unlock (&stress->mutex);

      switch (random_below (rand, 4))
        {
        case 0:
          q_task_pool_close (old, Q_TASK_POOL_CLOSE_DRAIN, NULL, &error);
          g_assert_no_error (error);
          break;

        case 1:
          q_task_pool_close (old, Q_TASK_POOL_CLOSE_STOP, NULL, &error);
          g_assert_no_error (error);
          break;

        case 2:
          {
            g_autoptr (GCancellable) cancellable = g_cancellable_new ();

            g_cancellable_cancel (cancellable);
            if (!q_task_pool_close (old, Q_TASK_POOL_CLOSE_DRAIN, cancellable, &error))
              g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          }
          break;

        default:
          break;
        }

      g_object_unref (old);

      /* A cancellable is used once. */
      {
        GCancellable *shared = g_cancellable_new (), *old_shared;

        pthread_mutex_lock (&stress->mutex);
        old_shared = stress->shared;
        stress->shared = shared;
        pthread_mutex_unlock (&stress->mutex);
        g_cancellable_cancel (old_shared);
        g_object_unref (old_shared);
      }
    }

  return NULL;
}

static void
test_random (void)
{
  Stress *stress = g_new0 (Stress, 1);
  g_autoptr (GRand) rand = rand_new ();
  Owner owners[N_OWNERS];
  Meddler meddlers[N_MEDDLERS];
  gint64 begin = g_get_monotonic_time ();

  pthread_mutex_init (&stress->mutex, NULL);
  stress->shared = g_cancellable_new ();
  for (int i = 0; i < N_POOLS; i++)
    stress->pools[i] = pool_new (stress, rand);

  for (int i = 0; i < N_OWNERS; i++)
    {
      owners[i] = (Owner){ stress, rand_new (), NULL, g_ptr_array_new (), g_queue_new (), TEST_GATE_INIT, TEST_GATE_INIT };
      owners[i].thread = g_thread_new ("owner", owner_thread, &owners[i]);
      test_gate_wait (&owners[i].ready);
    }
  for (int i = 0; i < N_MEDDLERS; i++)
    {
      meddlers[i] = (Meddler){ stress, rand_new (), NULL, 0 };
      meddlers[i].thread = g_thread_new (i == 0 ? "killer" : "meddler",
                                         i == 0 ? pool_killer_thread : meddler_thread,
                                         &meddlers[i]);
    }

  /* The default context belongs to nobody else: workers make tasks in it. */
  while (g_get_monotonic_time () < begin + duration (25))
    {
      test_run_pending (NULL);
      g_usleep (1000);
    }
  g_atomic_int_set (&stress->is_over, TRUE);

  for (int i = 0; i < N_MEDDLERS; i++)
    g_thread_join (meddlers[i].thread);
  for (int i = 0; i < N_OWNERS; i++)
    test_gate_wait (&owners[i].stopped);

  /* Nobody else has a reference now. */
  for (int i = 0; i < N_SHOWN; i++)
    {
      QTask *task;

      pthread_mutex_lock (&stress->mutex);
      task = g_steal_pointer (&stress->shown[i]);
      pthread_mutex_unlock (&stress->mutex);
      g_clear_object (&task);
    }

  for (int i = 0; i < N_OWNERS; i++)
    {
      g_thread_join (owners[i].thread);
      g_ptr_array_unref (owners[i].records);
      g_queue_free (owners[i].old_records);
      g_rand_free (owners[i].rand);
    }
  for (int i = 0; i < N_MEDDLERS; i++)
    g_rand_free (meddlers[i].rand);

  for (int i = 0; i < N_POOLS; i++)
    {
      g_autoptr (GError) error = NULL;

      g_assert_true (q_task_pool_close (stress->pools[i], Q_TASK_POOL_CLOSE_DRAIN, NULL, &error));
      g_assert_no_error (error);
      g_object_unref (stress->pools[i]);
    }
  test_run_pending (NULL);

  g_test_message ("%d tasks in %d pools: %d ran, %d were refused, %d had their context go, %d callbacks, %d deadlocks told",
                  stress->n_created, stress->n_pools, stress->n_ran, stress->n_refused,
                  stress->n_gone, stress->n_called, stress->n_deadlocks);
  g_object_unref (stress->shared);
  pthread_mutex_destroy (&stress->mutex);
  g_free (stress);
}

/* Last references: several threads drop theirs at once, while it completes. */
typedef struct
{
  pthread_barrier_t barrier;
  QTask *task;
  gboolean is_over;
} Droppers;

static gpointer
dropper_thread (gpointer data)
{
  Droppers *droppers = data;

  for (;;)
    {
      pthread_barrier_wait (&droppers->barrier);
      if (droppers->is_over)
        return NULL;
      g_object_unref (droppers->task);
      pthread_barrier_wait (&droppers->barrier);
    }
}

static void
test_last_references (void)
{
  enum
  {
    N_DROPPERS = 3
  };
  QTaskPool *pool = q_task_pool_new ("dropped", 2, 0);
  Droppers droppers = { .task = NULL };
  GThread *threads[N_DROPPERS];
  gint64 end = g_get_monotonic_time () + duration (5);
  int n = 0;

  pthread_barrier_init (&droppers.barrier, NULL, N_DROPPERS + 1);
  for (int i = 0; i < N_DROPPERS; i++)
    threads[i] = g_thread_new ("dropper", dropper_thread, &droppers);

  for (; g_get_monotonic_time () < end; n++)
    {
      TestFate fates[3] = { TEST_FATE_INIT, TEST_FATE_INIT, TEST_FATE_INIT };
      TestReport report = TEST_REPORT_INIT;
      g_autoptr (GObject) source = test_probe_new (&fates[0]);
      QTask *task = q_task_new (source, test_report_cb, &report, NULL);

      g_clear_object (&source);
      q_task_set_task_data (task, &fates[1], test_fate_notify);
      for (int i = 0; i < N_DROPPERS; i++)
        g_object_ref (task);
      droppers.task = task;
      g_assert_true (q_task_pool_push (pool, task, test_empty_worker, &fates[2], test_fate_notify, NULL));

      /* At its beginning, or when all is over but the last reference */
      if (n % 2 == 1)
        test_run_until (NULL, report.called);
      pthread_barrier_wait (&droppers.barrier);
      g_object_unref (task);
      pthread_barrier_wait (&droppers.barrier);

      test_run_until (NULL, report.called && test_fate_get_count (&fates[0]) == 1 &&
                              test_fate_get_count (&fates[1]) == 1 && test_fate_get_count (&fates[2]) == 1);
      for (int i = 0; i < 3; i++)
        test_assert_destroyed_here (&fates[i]);
    }

  droppers.is_over = TRUE;
  pthread_barrier_wait (&droppers.barrier);
  for (int i = 0; i < N_DROPPERS; i++)
    g_thread_join (threads[i]);
  pthread_barrier_destroy (&droppers.barrier);
  g_test_message ("%d tasks", n);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_object_unref (pool);
}

/* Waits: tasks that wait for each other at random, with no limit. All end. */
typedef struct
{
  QTask **tasks;
  int n_tasks;
  int n_awaited;
  guint32 random;
  int *n_deadlocks;
} RandomWaits;

static gboolean
random_waits_worker (QTask *task,
                     gpointer data,
                     GError **error)
{
  RandomWaits *waits = data;
  g_autoptr (GRand) rand = g_rand_new_with_seed (waits->random);

  for (int i = 0; i < waits->n_awaited; i++)
    {
      g_autoptr (GError) wait_error = NULL;

      if (!q_task_wait (waits->tasks[random_below (rand, (guint32) waits->n_tasks)], NULL, &wait_error))
        {
          g_assert_error (wait_error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
          g_atomic_int_inc (waits->n_deadlocks);
        }
    }

  return TRUE;
}

static void
test_random_waits (void)
{
  enum
  {
    N_WAITING = 30
  };
  gint64 end = g_get_monotonic_time () + duration (8);
  int n_rounds = 0, n_deadlocks = 0;

  for (; g_get_monotonic_time () < end; n_rounds++)
    {
      QTaskPool *pools[4];
      QTask *tasks[N_WAITING];
      RandomWaits waits[N_WAITING];

      pools[0] = q_task_pool_new ("one", 1, 0);
      pools[1] = q_task_pool_new_serial ("serial");
      pools[2] = q_task_pool_new_serial ("serial, too");
      pools[3] = q_task_pool_new ("three", 3, 0);

      for (int i = 0; i < N_WAITING; i++)
        tasks[i] = q_task_new (NULL, NULL, NULL, NULL);
      for (int i = 0; i < N_WAITING; i++)
        {
          waits[i] = (RandomWaits){ tasks, N_WAITING, g_test_rand_int_range (0, 3),
                                    (guint32) g_test_rand_int (), &n_deadlocks };
          g_assert_true (q_task_pool_push (pools[g_test_rand_int_range (0, 4)], tasks[i],
                                           random_waits_worker, &waits[i], NULL, NULL));
        }
      for (int i = 0; i < N_WAITING; i++)
        test_run_until (NULL, q_task_get_completed (tasks[i]));
      for (int i = 0; i < 4; i++)
        {
          g_assert_true (q_task_pool_close (pools[i], Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
          g_object_unref (pools[i]);
        }
      test_run_pending (NULL);
      for (int i = 0; i < N_WAITING; i++)
        g_object_unref (tasks[i]);
    }

  g_test_message ("%d rounds, %d deadlocks told", n_rounds, n_deadlocks);
}

/* Contexts: one goes while its workers are about to end. */
static void
test_contexts (void)
{
  QTaskPool *pool = q_task_pool_new ("contexts", 2, 0);
  gint64 end = g_get_monotonic_time () + duration (6);
  int n = 0;

  for (; g_get_monotonic_time () < end; n++)
    {
      GMainContext *context = g_main_context_new ();
      TestFate fates[4][2];
      TestReport reports[4];

      g_main_context_push_thread_default (context);
      for (int i = 0; i < 4; i++)
        {
          g_autoptr (QTask) task = NULL;

          reports[i] = (TestReport) TEST_REPORT_INIT;
          fates[i][0] = (TestFate) TEST_FATE_INIT;
          fates[i][1] = (TestFate) TEST_FATE_INIT;
          task = q_task_new (NULL, test_report_cb, &reports[i], NULL);
          q_task_set_task_data (task, &fates[i][0], test_fate_notify);
          g_assert_true (q_task_pool_push (pool, task, test_empty_worker, &fates[i][1], test_fate_notify, NULL));
        }
      for (int i = g_test_rand_int_range (0, 6); i > 0; i--)
        g_main_context_iteration (context, FALSE);
      g_main_context_pop_thread_default (context);
      g_main_context_unref (context);

      for (int i = 0; i < 4; i++)
        {
          int called = g_atomic_int_get (&reports[i].called);

          test_fate_wait (&fates[i][0]);
          test_fate_wait (&fates[i][1]);
          g_assert_cmpint (test_fate_get_count (&fates[i][0]), ==, 1);
          g_assert_cmpint (test_fate_get_count (&fates[i][1]), ==, 1);
          g_assert_cmpint (g_atomic_int_get (&reports[i].called), ==, called);
          test_report_clear (&reports[i]);
        }
    }

  g_test_message ("%d contexts", n);
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_object_unref (pool);
}

/* A context that goes and a task that is dropped elsewhere, at the same time */
static void
test_contexts_and_references (void)
{
  Droppers droppers = { .task = NULL };
  gint64 end = g_get_monotonic_time () + duration (4);
  GThread *thread;
  int n = 0;

  pthread_barrier_init (&droppers.barrier, NULL, 2);
  thread = g_thread_new ("dropper", dropper_thread, &droppers);

  for (; g_get_monotonic_time () < end; n++)
    {
      GMainContext *context = g_main_context_new ();
      TestFate fate = TEST_FATE_INIT;

      g_main_context_push_thread_default (context);
      droppers.task = q_task_new (NULL, NULL, NULL, NULL);
      q_task_set_task_data (droppers.task, &fate, test_fate_notify);
      if (n % 2)
        q_task_complete (droppers.task);
      g_main_context_pop_thread_default (context);

      pthread_barrier_wait (&droppers.barrier);
      g_main_context_unref (context);
      pthread_barrier_wait (&droppers.barrier);
      test_fate_wait (&fate);
      g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
    }

  droppers.is_over = TRUE;
  pthread_barrier_wait (&droppers.barrier);
  g_thread_join (thread);
  pthread_barrier_destroy (&droppers.barrier);
  g_test_message ("%d contexts", n);
}

/* Pools: made, used and dropped by workers of others */
static gboolean
make_pool_worker (QTask *task,
                  gpointer n_run,
                  GError **error)
{
  g_autoptr (QTaskPool) pool = q_task_pool_new ("inner", 2, 0);
  QTask *tasks[5]; /* and no array of GLib: its slices are not followed by thread sanitizer */
  gboolean success = TRUE;

  for (int i = 0; i < 5; i++)
    {
      tasks[i] = q_task_new (NULL, NULL, NULL, NULL);
      if (success)
        success = q_task_pool_push (pool, tasks[i], test_empty_worker, NULL, NULL, error);
    }

  for (int i = 0; i < 5; i++)
    {
      if (success)
        success = q_task_wait (tasks[i], NULL, error);
      g_object_unref (tasks[i]);
    }

  g_atomic_int_add ((int *) n_run, success ? 1 : 0);

  return success;
}

static void
count_cb (QTask *task,
          gpointer count)
{
  g_autoptr (GError) error = NULL;

  q_task_propagate_error (task, &error);
  g_assert_no_error (error);
  (*(int *) count)++;
}

static void
test_pools_in_workers (void)
{
  gint64 end = g_get_monotonic_time () + duration (5);
  int n = 0;

  for (; g_get_monotonic_time () < end; n++)
    {
      QTaskPool *pool = q_task_pool_new ("outer", 3, 0);
      int n_called = 0, n_run = 0;

      for (int i = 0; i < 10; i++)
        {
          g_autoptr (QTask) task = q_task_new (NULL, count_cb, &n_called, NULL);

          g_assert_true (q_task_pool_push (pool, task, make_pool_worker, &n_run, NULL, NULL));
        }
      g_object_unref (pool);
      test_run_until (NULL, n_called == 10);
      g_assert_cmpint (g_atomic_int_get (&n_run), ==, 10);
      test_run_pending (NULL);
    }

  g_test_message ("%d pools of ten", n);
}

int
main (int argc,
      char *argv[])
{
  test_add_seed (&argc, &argv);
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/stress/random", test_random);
  g_test_add_func ("/stress/random-waits", test_random_waits);
  g_test_add_func ("/stress/last-references", test_last_references);
  g_test_add_func ("/stress/contexts", test_contexts);
  g_test_add_func ("/stress/contexts-and-references", test_contexts_and_references);
  g_test_add_func ("/stress/pools-in-workers", test_pools_in_workers);

  return g_test_run ();
}
