/* tsan-race.c: a race on purpose
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Only for the build with thread sanitizer, run by test-tsan.sh: what goes
 * through tsan-glib.c and the library must not hide a race in the data of a
 * program from the sanitizer, and must hide no order that there is.
 *
 *     tsan-race race     a worker and its owner write without any order
 *     tsan-race mutex    the same, each holding a GMutex
 *     tsan-race result   the owner writes when it has been told of the end
 *     tsan-race start    the worker writes what the owner wrote before the start
 *
 * The first two make sure that the worker writes after the start and before the
 * owner does, by atomic accesses that order nothing else: no lock that is taken
 * meanwhile orders the two, and the race is found each time.
 */

#include <qtask/qtask.h>

static int counter;
static int owner_is_waiting;
static int worker_is_done;
static gboolean must_wait;
static GMutex mutex;

static gboolean
worker (QTask *task,
        gpointer use_mutex,
        GError **error)
{
  while (must_wait && !__atomic_load_n (&owner_is_waiting, __ATOMIC_RELAXED))
    g_usleep (1000);

  if (use_mutex)
    g_mutex_lock (&mutex);

  counter++;

  if (use_mutex)
    g_mutex_unlock (&mutex);

  __atomic_store_n (&worker_is_done, 1, __ATOMIC_RELAXED);

  return TRUE;
}

static void
ready_cb (QTask *task,
          gpointer opaque)
{
  *(gboolean *) opaque = TRUE;
}

static void
wait_without_order (void)
{
  __atomic_store_n (&owner_is_waiting, 1, __ATOMIC_RELAXED);

  while (!__atomic_load_n (&worker_is_done, __ATOMIC_RELAXED))
    g_usleep (1000);
}

int
main (int argc,
      char **argv)
{
  const char *kind = argc == 2 ? argv[1] : "";
  gboolean ready = FALSE;
  QTask *task;

  must_wait = g_str_equal (kind, "race") || g_str_equal (kind, "mutex");
  task = q_task_new (NULL, ready_cb, &ready, NULL);

  if (g_str_equal (kind, "race"))
    {
      q_task_run_in_thread (task, worker, NULL, NULL);
      wait_without_order ();
      counter++;
    }
  else if (g_str_equal (kind, "mutex"))
    {
      q_task_run_in_thread (task, worker, GINT_TO_POINTER (TRUE), NULL);
      wait_without_order ();
      g_mutex_lock (&mutex);
      counter++;
      g_mutex_unlock (&mutex);
    }
  else if (g_str_equal (kind, "result"))
    {
      q_task_run_in_thread (task, worker, NULL, NULL);
      while (!ready)
        g_main_context_iteration (NULL, TRUE);
      counter++;
    }
  else if (g_str_equal (kind, "start"))
    {
      counter++;
      q_task_run_in_thread (task, worker, NULL, NULL);
    }
  else
    {
      g_printerr ("usage: tsan-race race|mutex|result|start\n");
      return 2;
    }

  while (!ready)
    g_main_context_iteration (NULL, TRUE);

  g_object_unref (task);
  g_print ("%d\n", counter);

  return 0;
}
