/* test-talk-stress.c: channels, sync points, steps and binding, at random
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Owners, in contexts that come and go, start tasks that write, sync, check in and are bound to
 * objects that go; others meddle. Each task has a Record. Whatever happens, each callback
 * comes once, by the owner, after all the messages; each datum is released once, by the owner
 * while there is one; and a worker never runs beside the sync function. What is not so aborts at
 * once; what never comes does so at the time limit.
 *
 * The seed is the same each time, unless --seed is given; the threads make it random enough. It
 * takes a few seconds, and a minute with -m thorough.
 */

#include <stdlib.h>
#include <string.h>

#include "test-util.h"

#define N_OWNERS 2
#define N_MEDDLERS 2
#define N_POOLS 4
#define N_SHOWN 60
#define N_OUTSTANDING 100
#define N_ANCHORS 6

typedef struct
{
  gint64 end_time;
  QTaskPool *pools[N_POOLS];
  pthread_mutex_t mutex;
  QTask *shown[N_SHOWN]; /* what others may meddle with */
  int n_live;            /* records, atomic */
  int n_made;
  int n_called;
  int n_silent; /* had no callback, as it must be */
  int n_messages;
  int n_synced;
  int is_over;
} Stress;

/* Life: one context of an owner. Counted, since records outlive it. */
typedef struct
{
  int ref_count;
  Stress *stress;
  GThread *owner;
  GMainContext *context;
  int is_gone;
  int n_outstanding; /* of the owner only, while there is one */
  guint32 random;
  GObject *anchors[N_ANCHORS];
  int *anchors_gone[N_ANCHORS]; /* atomics, in counted boxes */
} Life;

/* Sync functions, and what they do then */
typedef enum
{
  RESUME_INSIDE,
  RESUME_LATER,
  RESUME_STOP,
  RESUME_NEVER, /* a meddler does, or the timeout */
  N_RESUMES
} Resume;

typedef struct
{
  Stress *stress;
  Life *life;
  int n_held;    /* atomic: what is still to be released */
  int *is_loose; /* atomic: the object that it is bound to has gone, or goes; or NULL */
  guint32 random;
  int n_turns; /* of worker and sync function; plain */
  gboolean in_func;
  gboolean has_channel;
  gboolean has_early_outcome; /* may have one before the worker ends */
  gboolean has_sync;
  Resume resume;
  int n_ops;
  int n_done;
  int n_written;
  int n_messages;
  int n_ends;
  int called; /* atomic */
} Record;

static Life *
life_ref (Life *life)
{
  g_atomic_int_inc (&life->ref_count);

  return life;
}

static void
life_unref (Life *life)
{
  if (g_atomic_int_dec_and_test (&life->ref_count))
    g_free (life);
}

static gboolean
record_is_loose (Record *record)
{
  return record->is_loose != NULL && g_atomic_int_get (record->is_loose);
}

static void
record_assert_owner (Record *record)
{
  g_assert_true (g_thread_self () == record->life->owner);
  g_assert_false (g_atomic_int_get (&record->life->is_gone));
}

static void
record_release (gpointer data)
{
  Record *record = data;

  if (!g_atomic_int_get (&record->life->is_gone))
    g_assert_true (g_thread_self () == record->life->owner);

  g_assert_cmpint (g_atomic_int_get (&record->n_held), >, 0);
  if (!g_atomic_int_dec_and_test (&record->n_held))
    return;

  if (g_atomic_int_get (&record->called) == 0)
    {
      g_assert_true (g_atomic_int_get (&record->life->is_gone) || record_is_loose (record));
      g_atomic_int_inc (&record->stress->n_silent);
    }
  else
    {
      g_atomic_int_inc (&record->stress->n_called);
    }

  if (!g_atomic_int_get (&record->life->is_gone))
    record->life->n_outstanding--;
  g_atomic_int_add (&record->stress->n_messages, record->n_messages);
  g_clear_pointer (&record->is_loose, g_atomic_rc_box_release);
  g_atomic_int_add (&record->stress->n_live, -1);
  life_unref (record->life);
  g_free (record);
}

static Record *
record_hold (Record *record)
{
  g_atomic_int_inc (&record->n_held);

  return record;
}

/* Owners */

static void
record_message (Record *record,
                GBytes *message)
{
  record_assert_owner (record);
  g_assert_cmpint (record->called, ==, 0);
  g_assert_cmpint (record->n_ends, ==, 0);

  if (message == NULL)
    {
      record->n_ends++;
      return;
    }

  g_assert_cmpuint (g_bytes_get_size (message), >=, sizeof (int));
  g_assert_cmpint (*(const int *) g_bytes_get_data (message, NULL), ==, record->n_messages++);
}

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Record *record = data;

  record_message (record, message);

  if (message != NULL && record->n_messages % 4 == 0)
    {
      g_autoptr (GError) error = NULL;

      q_task_channel_try_write (channel, message, &error);
    }
}

static void
bound_cb (QTask *task,
          GBytes *message,
          gpointer data)
{
  record_message (data, message);
}

static void
called_cb (QTask *task,
           gpointer data)
{
  g_autoptr (GError) error = NULL;
  Record *record = data;

  record_assert_owner (record);
  g_assert_true (record->has_early_outcome || !record->in_func);
  g_assert_cmpint (g_atomic_int_add (&record->called, 1), ==, 0);

  if (record->has_channel && !record->has_early_outcome)
    {
      g_assert_cmpint (record->n_messages, ==, record->n_written);
      g_assert_cmpint (record->n_ends, ==, 1);
    }

  if (q_task_propagate_error (task, &error))
    {
      if (error->domain == G_IO_ERROR)
        g_assert_true (error->code == G_IO_ERROR_CANCELLED || error->code == G_IO_ERROR_TIMED_OUT ||
                       error->code == G_IO_ERROR_BROKEN_PIPE || error->code == G_IO_ERROR_CLOSED ||
                       error->code == G_IO_ERROR_NOT_FOUND);
      else
        g_assert_true (g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED) ||
                       g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL));
    }
}

static gboolean
resume_idle_cb (gpointer task)
{
  /* Somebody else may have done so. */
  q_task_resume (task, FALSE);

  return G_SOURCE_REMOVE;
}

static void
sync_cb (QTask *task,
         gpointer data)
{
  Record *record = data;

  record_assert_owner (record);
  g_assert_false (record->in_func);
  record->in_func = TRUE;
  record->n_turns++;
  g_atomic_int_inc (&record->stress->n_synced);

  switch (record->resume)
    {
    case RESUME_INSIDE:
      q_task_resume (task, FALSE);
      break;
    case RESUME_STOP:
      q_task_resume (task, record->n_turns % 3 == 0);
      break;
    case RESUME_LATER:
      {
        g_autoptr (GSource) source = g_idle_source_new ();

        g_source_set_callback (source, resume_idle_cb, g_object_ref (task), g_object_unref);
        g_source_attach (source, record->life->context);
        break;
      }
    default:
      break;
    }

  record->n_turns++;
  record->in_func = FALSE;
}

/* Workers */

/* One thing that a worker does; FALSE to end */
static gboolean
record_work (Record *record,
             QTask *task,
             gboolean *syncs,
             GError **error)
{
  guint32 what = test_next_random (&record->random) % 100;

  g_assert_false (record->in_func);
  record->n_turns++;
  *syncs = FALSE;

  if (what < 50 && record->has_channel)
    {
      QTaskChannel *channel = q_task_get_worker_channel (task);
      int message[8] = { record->n_written };

      if (!q_task_channel_write (channel, message, what < 5 ? sizeof message : sizeof (int),
                                 what % 2 == 0 ? q_task_get_stop_cancellable (task) : NULL, error))
        return FALSE;
      record->n_written++;

      if (what < 10)
        {
          GBytes *back = q_task_channel_try_read (channel, NULL);

          g_clear_pointer (&back, g_bytes_unref);
        }
    }
  else if (what < 75 && record->has_sync)
    {
      *syncs = TRUE;
    }
  else if (what < 85)
    {
      q_task_set_progress (task, (double) record->n_done / record->n_ops, what % 2 == 0 ? "Some" : NULL);
    }
  else if (what < 88)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "Not here");
      return FALSE;
    }
  else if (what < 90)
    {
      q_task_set_outlive (task, what % 2 == 0);
    }

  return TRUE;
}

static gboolean
worker (QTask *task,
        gpointer data,
        GError **error)
{
  Record *record = data;

  for (; record->n_done < record->n_ops; record->n_done++)
    {
      gboolean syncs;

      if (q_task_is_cancelled (task) && record->n_done % 3 == 0)
        return !g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error);
      if (!record_work (record, task, &syncs, error))
        return FALSE;
      if (syncs && !q_task_sync (task, error))
        return FALSE;
      g_assert_false (record->in_func);
      record->n_turns++;
    }

  return TRUE;
}

static QTaskStep
step (QTask *task,
      gpointer data,
      GError **error)
{
  Record *record = data;
  gboolean syncs;

  if (record->n_done++ >= record->n_ops)
    return Q_TASK_STEP_FINISHED;
  if (q_task_is_cancelled (task) && record->n_done % 3 == 0)
    return Q_TASK_STEP_STOPPED;
  if (!record_work (record, task, &syncs, error))
    return Q_TASK_STEP_FAILED;
  record->n_turns++;

  return syncs ? Q_TASK_STEP_SYNC : Q_TASK_STEP_CHECK_IN;
}

/* Lives */

static void
life_show (Life *life,
           QTask *task)
{
  guint slot = test_next_random (&life->random) % N_SHOWN;
  QTask *old;

  pthread_mutex_lock (&life->stress->mutex);
  old = life->stress->shown[slot];
  life->stress->shown[slot] = g_object_ref (task);
  pthread_mutex_unlock (&life->stress->mutex);

  g_clear_object (&old);
}

static gpointer
unref_thread (gpointer object)
{
  g_object_unref (object);

  return NULL;
}

static void
life_drop_anchor (Life *life,
                  guint i)
{
  GObject *anchor = g_steal_pointer (&life->anchors[i]);

  if (anchor == NULL)
    return;

  g_atomic_int_set (life->anchors_gone[i], TRUE);
  g_clear_pointer (&life->anchors_gone[i], g_atomic_rc_box_release);

  switch (test_next_random (&life->random) % 4)
    {
    case 0:
      g_thread_unref (g_thread_new ("unref", unref_thread, anchor));
      break;
    case 1:
      g_object_run_dispose (anchor);
      g_object_unref (anchor);
      break;
    default:
      g_object_unref (anchor);
    }
}

static void
life_start_task (Life *life)
{
  Stress *stress = life->stress;
  Record *record = g_new0 (Record, 1);
  guint32 *random = &life->random;
  g_autoptr (GError) error = NULL;
  g_autoptr (QTask) task = NULL;
  gboolean has_steps, pushed;

  g_atomic_int_inc (&stress->n_live);
  g_atomic_int_inc (&stress->n_made);
  life->n_outstanding++;
  record->stress = stress;
  record->life = life_ref (life);
  record->random = test_next_random (random);
  record->n_ops = (int) (test_next_random (random) % 30);
  record->resume = test_next_random (random) % N_RESUMES;

  task = q_task_new (NULL, called_cb, record_hold (record), record_release);
  q_task_set_task_data (task, record_hold (record), record_release);
  q_task_set_priority (task, (int) (test_next_random (random) % 5) - 2);
  if (test_chance (random, 30))
    q_task_set_completion_priority (task, test_chance (random, 50) ? G_PRIORITY_HIGH : G_PRIORITY_LOW);

  record->has_channel = test_chance (random, 60);
  if (record->has_channel)
    {
      g_assert_true (q_task_open_channel (task, NULL));
      if (test_chance (random, 50))
        q_task_channel_set_capacity (q_task_get_worker_channel (task), test_next_random (random) % 20);
      if (test_chance (random, 50))
        q_task_bind_callback (task, bound_cb, record_hold (record), record_release);
      else
        q_task_channel_set_message_func (q_task_get_channel (task), message_cb, record_hold (record),
                                         record_release);
    }
  else if (test_chance (random, 10))
    {
      q_task_bind_callback (task, bound_cb, record_hold (record), record_release);
    }

  record->has_sync = test_chance (random, 60);
  if (record->has_sync)
    {
      q_task_set_sync_func (task, sync_cb, record_hold (record), record_release);
      if (record->resume == RESUME_NEVER)
        q_task_set_timeout (task, 20 * G_TIME_SPAN_MILLISECOND);
    }
  if (test_chance (random, 10))
    {
      record->has_early_outcome = TRUE;
      q_task_set_return_on_cancel (task, TRUE);
    }
  if (test_chance (random, 20))
    q_task_set_timeout (task, 1 + test_next_random (random) % 20000);

  if (test_chance (random, 40))
    {
      guint i = test_next_random (random) % N_ANCHORS;

      if (life->anchors[i] == NULL)
        {
          life->anchors[i] = test_probe_new (NULL);
          life->anchors_gone[i] = g_atomic_rc_box_new0 (int);
        }
      record->is_loose = g_atomic_rc_box_acquire (life->anchors_gone[i]);
      q_task_bind_object (task, life->anchors[i],
                          test_chance (random, 50) ? Q_TASK_BIND_OUTLIVE : Q_TASK_BIND_DEFAULT);
    }

  if (test_chance (random, 50))
    life_show (life, task);

  has_steps = test_chance (random, 50);
  record_hold (record);
  if (test_chance (random, 10))
    {
      if (has_steps)
        q_task_run_steps_in_thread (task, step, record, record_release);
      else
        q_task_run_in_thread (task, worker, record, record_release);
      return;
    }

  if (has_steps)
    pushed = q_task_pool_push_steps (stress->pools[test_next_random (random) % N_POOLS], task, step, record,
                                     record_release, &error);
  else
    pushed = q_task_pool_push (stress->pools[test_next_random (random) % N_POOLS], task, worker, record,
                               record_release, &error);
  if (!pushed)
    {
      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL);
      record_release (record);
      q_task_return_error (task, g_steal_pointer (&error));
    }
}

static Life *
life_new (Stress *stress,
          guint32 seed)
{
  Life *life = g_new0 (Life, 1);

  life->ref_count = 1;
  life->stress = stress;
  life->owner = g_thread_self ();
  life->context = g_main_context_new ();
  life->random = seed | 1;
  g_main_context_push_thread_default (life->context);

  return life;
}

static void
life_end (Life *life)
{
  for (guint i = 0; i < N_ANCHORS; i++)
    life_drop_anchor (life, i);
  g_main_context_pop_thread_default (life->context);
  g_atomic_int_set (&life->is_gone, TRUE);
  g_clear_pointer (&life->context, g_main_context_unref);
  life_unref (life);
}

typedef struct
{
  Stress *stress;
  guint32 seed;
} Start;

/* Some of the contexts are iterated until all is over, others go when they like to. */
static gpointer
owner_thread (gpointer data)
{
  Start *start = data;
  guint32 random = start->seed;

  while (g_get_monotonic_time () < start->stress->end_time)
    {
      Life *life = life_new (start->stress, test_next_random (&random));
      gint64 until = MIN (start->stress->end_time, g_get_monotonic_time () + 20000 + test_next_random (&random) % 300000);
      gboolean goes_early = test_chance (&random, 50);

      while (g_get_monotonic_time () < until)
        {
          if (life->n_outstanding < N_OUTSTANDING)
            life_start_task (life);
          if (test_chance (&random, 2))
            life_drop_anchor (life, test_next_random (&random) % N_ANCHORS);
          if (test_chance (&random, 1))
            g_usleep (2000);
          g_main_context_iteration (life->context, life->n_outstanding >= N_OUTSTANDING);
        }
      if (!goes_early)
        test_run_until (life->context, life->n_outstanding == 0);
      life_end (life);
    }

  return NULL;
}

/* Meddlers */

static gpointer
meddler_thread (gpointer data)
{
  Start *start = data;
  Stress *stress = start->stress;
  guint32 random = start->seed;

  while (!g_atomic_int_get (&stress->is_over))
    {
      guint slot = test_next_random (&random) % N_SHOWN;
      g_autoptr (GError) error = NULL;
      QTask *task;

      pthread_mutex_lock (&stress->mutex);
      task = stress->shown[slot];
      if (task != NULL && test_chance (&random, 90))
        g_object_ref (task);
      else
        stress->shown[slot] = NULL;
      pthread_mutex_unlock (&stress->mutex);

      if (task == NULL)
        {
          g_usleep (100);
          continue;
        }

      switch (test_next_random (&random) % 10)
        {
        case 0:
          q_task_cancel (task);
          break;
        case 1:
          q_task_resume (task, TRUE);
          break;
        case 2:
        case 3:
        case 4:
          q_task_resume (task, FALSE);
          break;
        case 5:
          q_task_poll (task);
          q_task_get_progress (task);
          break;
        case 6:
          q_task_wait_until (task, g_get_monotonic_time () + 500, NULL, &error);
          break;
        case 7:
          q_task_set_outlive (task, test_chance (&random, 50));
          break;
        default:
          g_thread_yield ();
        }

      g_object_unref (task);
      if (test_chance (&random, 10))
        g_usleep (200);
    }

  return NULL;
}

static void
test_random (void)
{
  Stress stress = { .mutex = PTHREAD_MUTEX_INITIALIZER };
  Start starts[N_OWNERS + N_MEDDLERS];
  GThread *threads[N_OWNERS + N_MEDDLERS];
  gint64 usec = 4 * G_TIME_SPAN_SECOND;

  /* A class that threads use first is made by GLib, unseen by the sanitizer. */
  g_type_class_unref (g_type_class_ref (Q_TYPE_TASK_CHANNEL));

  stress.pools[0] = q_task_pool_new ("one", 1, 0);
  stress.pools[1] = q_task_pool_new ("three", 3, 0);
  stress.pools[2] = q_task_pool_new ("bounded", 2, 10);
  stress.pools[3] = q_task_pool_new_serial ("serial");
  stress.end_time = g_get_monotonic_time () + (g_test_thorough () ? usec * 12 : usec);

  for (int i = 0; i < N_OWNERS + N_MEDDLERS; i++)
    {
      starts[i] = (Start){ &stress, (guint32) g_test_rand_int () | 1 };
      threads[i] = g_thread_new (i < N_OWNERS ? "owner" : "meddler",
                                 i < N_OWNERS ? owner_thread : meddler_thread, &starts[i]);
    }
  for (int i = 0; i < N_OWNERS; i++)
    g_thread_join (threads[i]);
  g_atomic_int_set (&stress.is_over, TRUE);
  for (int i = N_OWNERS; i < N_OWNERS + N_MEDDLERS; i++)
    g_thread_join (threads[i]);
  for (int i = 0; i < N_SHOWN; i++)
    g_clear_object (&stress.shown[i]);

  /* Those whose context went end by themselves, and all is released. */
  test_poll_until (g_atomic_int_get (&stress.n_live) == 0);
  g_assert_cmpint (stress.n_called + stress.n_silent, ==, stress.n_made);
  g_test_message ("%d tasks: %d callbacks, %d without; %d messages, %d sync points", stress.n_made,
                  stress.n_called, stress.n_silent, stress.n_messages, stress.n_synced);

  for (int i = 0; i < N_POOLS; i++)
    {
      g_assert_true (q_task_pool_close (stress.pools[i], Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
      test_pool_drop (stress.pools[i]);
    }
}

int
main (int argc,
      char *argv[])
{
  test_add_seed (&argc, &argv);
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/talk-stress/random", test_random);

  return g_test_run ();
}
