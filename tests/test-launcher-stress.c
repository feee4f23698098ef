/* test-launcher-stress.c: worker processes that are killed at random, under load
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Owners, in contexts that come and go, keep tasks of all kinds in worker processes; a killer kills
 * whatever process there is. Each task has a Record: its callback comes once, by the owner, with the
 * right result or an error that is due, after all its messages; its data is released once. In the end
 * there is no process, no zombie and no descriptor left. What is not so aborts at once; what
 * never comes does so at the time limit.
 *
 * The seed is the same each time, unless --seed is given; processes and threads make it random
 * enough. It takes a few seconds, and a minute with -m thorough.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test-launcher-util.h"

#define N_OWNERS 2
#define N_OUTSTANDING 12

typedef struct
{
  QTaskLauncher *launcher; /* of all */
  gint64 end_time;
  int is_over;
  int n_live; /* records */
  int n_contexts;
  int n_made;
  int n_done;
  int n_succeeded;
  int n_crashed;
  int n_stopped;
  int n_silent;
  int n_kills;
} Stress;

typedef struct
{
  Stress *stress;
  GThread *owner;
  GMainContext *context;
  int ref_count;
  int is_gone;
  int n_outstanding; /* of the owner, while there is one */
  guint32 random;
  QTaskLauncher *launcher;
} Life;

typedef enum
{
  KIND_ECHO,
  KIND_BIG,
  KIND_PROGRESS,
  KIND_WRITE,
  KIND_TALK,
  KIND_SPIN,
  KIND_SLEEP,
  KIND_IGNORE,
  KIND_CRASH,
  N_KINDS
} Kind;

typedef struct
{
  Stress *stress;
  Life *life;
  Kind kind;
  guint32 number;
  guint n_messages;
  gboolean may_stop;
  int called;
} Record;

static void
life_unref (Life *life)
{
  if (g_atomic_int_dec_and_test (&life->ref_count))
    g_free (life);
}

static void
record_free (gpointer data)
{
  Record *record = data;

  /* Where the owner lives, while there is one */
  if (!g_atomic_int_get (&record->life->is_gone))
    {
      g_assert_true (g_thread_self () == record->life->owner);
      record->life->n_outstanding--;
    }
  else if (!g_atomic_int_get (&record->called))
    {
      g_atomic_int_inc (&record->stress->n_silent);
    }
  g_atomic_int_add (&record->stress->n_live, -1);
  life_unref (record->life);
  g_free (record);
}

static void
check_result (Record *record,
              GVariant *result)
{
  switch (record->kind)
    {
    case KIND_ECHO:
      g_assert_cmpuint (g_variant_get_uint32 (result), ==, record->number);
      break;

    case KIND_BIG:
      g_assert_cmpuint (g_variant_get_size (result), ==, record->number);
      break;

    case KIND_WRITE:
      g_assert_null (result);
      g_assert_cmpuint (record->n_messages, ==, record->number);
      break;

    case KIND_TALK:
      g_assert_cmpuint (g_variant_get_uint32 (result), ==, record->number);
      g_assert_cmpuint (record->n_messages, ==, record->number);
      break;

    case KIND_PROGRESS:
    case KIND_SPIN:
      g_assert_null (result);
      break;

    case KIND_SLEEP:
    case KIND_IGNORE:
    case KIND_CRASH:
    case N_KINDS:
    default:
      g_assert_not_reached ();
    }
}

static void
done_cb (QTask *task,
         gpointer data)
{
  Record *record = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) result = q_task_propagate_variant (task, &error);

  g_assert_cmpint (g_atomic_int_add (&record->called, 1), ==, 0);
  g_assert_true (g_thread_self () == record->life->owner);
  g_assert_false (g_atomic_int_get (&record->life->is_gone));
  g_atomic_int_inc (&record->stress->n_done);

  if (error == NULL)
    {
      check_result (record, result);
      g_atomic_int_inc (&record->stress->n_succeeded);
    }
  else if (g_error_matches (error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED))
    {
      g_atomic_int_inc (&record->stress->n_crashed);
    }
  else
    {
      if (!record->may_stop || (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) &&
                                !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)))
        g_error ("An error that is not due, kind %d: %s", record->kind, error->message);
      g_atomic_int_inc (&record->stress->n_stopped);
    }
}

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Record *record = data;
  guint32 number;

  g_assert_false (g_atomic_int_get (&record->called));
  g_assert_true (g_thread_self () == record->life->owner);
  if (message == NULL)
    return;

  g_assert_cmpuint (g_bytes_get_size (message), >=, sizeof number);
  memcpy (&number, g_bytes_get_data (message, NULL), sizeof number);
  g_assert_cmpuint (number, ==, record->n_messages);
  record->n_messages++;
}

static GVariant *
new_request (Record *record)
{
  switch (record->kind)
    {
    case KIND_ECHO:
      return launcher_request ("echo", g_variant_new_uint32 (record->number));
    case KIND_BIG:
      return launcher_request ("big", g_variant_new_uint64 (record->number));
    case KIND_PROGRESS:
      return launcher_request ("progress", g_variant_new_uint32 (100));
    case KIND_WRITE:
      return launcher_request ("write", g_variant_new ("(uu)", record->number, record->number * 100));
    case KIND_TALK:
      return launcher_request ("talk", NULL);
    case KIND_SPIN:
      return launcher_request ("spin", g_variant_new_uint64 (record->number % 3000));
    case KIND_SLEEP:
      return launcher_request ("sleep", NULL);
    case KIND_IGNORE:
      return launcher_request ("ignore", NULL);
    case KIND_CRASH:
    case N_KINDS:
    default:
      return launcher_request ("crash", g_variant_new_int32 (SIGKILL));
    }
}

static void
write_all (Record *record,
           QTaskChannel *channel)
{
  for (guint32 i = 0; i <= record->number; i++)
    {
      g_autoptr (GBytes) message = i == record->number ? g_bytes_new_static ("", 0) : g_bytes_new (&i, sizeof i);

      /* Asynchronous writes would hold the context. */
      g_assert_true (q_task_channel_try_write (channel, message, NULL));
    }
}

static void
start_task (Life *life)
{
  guint32 *random = &life->random;
  Record *record = g_new0 (Record, 1);
  g_autoptr (QTask) task = NULL;
  guint32 what = test_next_random (random) % 100;

  record->stress = life->stress;
  record->life = life;
  g_atomic_int_inc (&life->ref_count);
  g_atomic_int_inc (&life->stress->n_live);
  g_atomic_int_inc (&life->stress->n_made);
  life->n_outstanding++;

  record->kind = what < 40 ? KIND_ECHO : what < 45 ? KIND_BIG
                                       : what < 55 ? KIND_PROGRESS
                                       : what < 65 ? KIND_WRITE
                                       : what < 80 ? KIND_TALK
                                       : what < 90 ? KIND_SPIN
                                       : what < 96 ? KIND_SLEEP
                                       : what < 98 ? KIND_IGNORE
                                                   : KIND_CRASH;
  record->number = record->kind == KIND_BIG ? 1 + test_next_random (random) % 500000 : 1 + test_next_random (random) % 50;

  task = q_task_new (NULL, done_cb, record, record_free);
  q_task_set_priority (task, (int) (test_next_random (random) % 3) * 100 - 100);
  if (record->kind == KIND_WRITE || record->kind == KIND_TALK)
    {
      g_assert_true (q_task_open_channel (task, NULL));
      if (test_chance (random, 30))
        q_task_channel_set_capacity (q_task_get_worker_channel (task), 1000);
      q_task_channel_set_message_func (q_task_get_channel (task), message_cb, record, NULL);
    }
  if (record->kind == KIND_SLEEP || record->kind == KIND_IGNORE || test_chance (random, 5))
    {
      record->may_stop = TRUE;
      q_task_set_timeout (task, 1 + test_next_random (random) % 5000);
      q_task_set_return_on_cancel (task, test_chance (random, 30));
    }

  if (record->kind == KIND_TALK)
    write_all (record, q_task_get_channel (task));
  q_task_run_in_process (task, test_chance (random, 70) ? life->stress->launcher : life->launcher, new_request (record));

  if (test_chance (random, 5))
    {
      record->may_stop = TRUE;
      q_task_cancel (task);
    }
  /* Whoever waits is served meanwhile; the context may dispatch others later. Not for ever: all
   * processes may be busy with tasks whose messages the waiting owner does not read. */
  if (test_chance (random, 3))
    q_task_wait_until (task, g_get_monotonic_time () + 20000, NULL, NULL);
}

static gboolean
never_cb (gpointer stress)
{
  return G_SOURCE_CONTINUE;
}

static void
context_gone_cb (gpointer data)
{
  g_atomic_int_add (&((Stress *) data)->n_contexts, -1);
}

/* Counts it, as long as it lives. */
static GMainContext *
new_context (Stress *stress)
{
  GMainContext *context = g_main_context_new ();
  g_autoptr (GSource) source = g_timeout_source_new_seconds (G_MAXINT / 2);

  g_atomic_int_inc (&stress->n_contexts);
  g_source_set_callback (source, never_cb, stress, context_gone_cb);
  g_source_attach (source, context);

  return context;
}

static void
live (Stress *stress,
      guint32 *random)
{
  Life *life = g_new0 (Life, 1);
  gint64 end = g_get_monotonic_time () + 50000 + test_next_random (random) % 400000;
  gboolean finish = test_chance (random, 50);

  life->stress = stress;
  life->owner = g_thread_self ();
  life->context = new_context (stress);
  life->ref_count = 1;
  life->random = test_next_random (random);
  life->launcher = launcher_new ();
  q_task_launcher_set_kill_timeout (life->launcher, 2000);
  q_task_launcher_set_max_tasks_per_process (life->launcher, test_next_random (random) % 4);
  q_task_launcher_set_idle_timeout (life->launcher, test_next_random (random) % 10000);
  q_task_launcher_set_transport (life->launcher, test_next_random (random) % 2);
  q_task_launcher_set_capture_stderr (life->launcher, test_next_random (random) % 2);
  g_main_context_push_thread_default (life->context);

  while (g_get_monotonic_time () < end && !g_atomic_int_get (&stress->is_over))
    {
      while (life->n_outstanding < N_OUTSTANDING)
        start_task (life);
      g_main_context_iteration (life->context, TRUE);
    }

  if (test_chance (random, 50))
    g_clear_object (&life->launcher);
  if (finish)
    test_run_until (life->context, life->n_outstanding == 0);

  /* With tasks in it, or without */
  g_main_context_pop_thread_default (life->context);
  g_atomic_int_set (&life->is_gone, TRUE);
  g_main_context_unref (life->context);
  g_clear_object (&life->launcher);
  life_unref (life);
}

typedef struct
{
  Stress *stress;
  guint32 random;
} ThreadData;

static gpointer
owner_thread (gpointer data)
{
  ThreadData *owner = data;

  while (!g_atomic_int_get (&owner->stress->is_over))
    live (owner->stress, &owner->random);

  return NULL;
}

static gpointer
killer_thread (gpointer data)
{
  ThreadData *killer = data;
  guint32 max_usec = test_is_slow () ? 100000 : 10000; /* they are to live long enough to do something */

  while (!g_atomic_int_get (&killer->stress->is_over))
    {
      int pids[64];
      guint n = list_children (pids, G_N_ELEMENTS (pids));

      if (n > 0 && kill (pids[test_next_random (&killer->random) % n], SIGKILL) == 0)
        g_atomic_int_inc (&killer->stress->n_kills);
      g_usleep (test_next_random (&killer->random) % max_usec);
    }

  return NULL;
}

static void
test_killed_at_random (void)
{
  Stress stress = { 0 };
  ThreadData owners[N_OWNERS];
  ThreadData killer = { &stress, (guint32) g_test_rand_int () | 1 };
  GThread *threads[N_OWNERS + 1];
  gint64 usec = G_TIME_SPAN_SECOND;

  if (g_test_thorough ())
    usec *= 60;

  stress.launcher = launcher_new ();
  q_task_launcher_set_max_processes (stress.launcher, 3);
  q_task_launcher_set_kill_timeout (stress.launcher, 2000);

  for (int i = 0; i < N_OWNERS; i++)
    {
      owners[i] = (ThreadData){ &stress, (guint32) g_test_rand_int () | 1 };
      threads[i] = g_thread_new ("owner", owner_thread, &owners[i]);
    }
  threads[N_OWNERS] = g_thread_new ("killer", killer_thread, &killer);

  g_usleep ((gulong) usec);
  test_poll_until (g_atomic_int_get (&stress.n_crashed) > 0 && g_atomic_int_get (&stress.n_succeeded) > 0);
  g_atomic_int_set (&stress.is_over, TRUE);
  for (int i = 0; i <= N_OWNERS; i++)
    g_thread_join (threads[i]);

  /* It serves on. */
  g_assert_cmpint (launcher_call_pid (stress.launcher), >, 0);
  g_object_unref (stress.launcher);
  test_poll_until (g_atomic_int_get (&stress.n_live) == 0);

  g_test_message ("%d tasks: %d have completed, of them %d crashed and %d stopped; %d lost their context; %d kills",
                  stress.n_made, stress.n_done, stress.n_crashed, stress.n_stopped, stress.n_silent, stress.n_kills);
  test_poll_until (g_atomic_int_get (&stress.n_contexts) == 0);
  g_assert_cmpint (stress.n_done + stress.n_silent, ==, stress.n_made);
}

int
main (int argc,
      char **argv)
{
  test_add_seed (&argc, &argv);
  launcher_test_init (&argc, &argv);

  launcher_test_add ("/launcher/stress/killed-at-random", test_killed_at_random);

  return g_test_run ();
}
