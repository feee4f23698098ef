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
 *     tsan-race unref    two threads drop their references at once
 *     tsan-race slice    GLib frees a page that other threads had a part of
 *
 * The first two make sure that the worker writes after the start and before the
 * owner does, by atomic accesses that order nothing else: no lock that is taken
 * meanwhile orders the two, and the race is found each time.
 */

#include <pthread.h>

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

/* The last reference: whoever drops it frees what the other one has read. */

#define N_OBJECTS 150000

static GObject *shared;
static int n_dropped;

/* Without delay where there are two processors, so that both drop theirs at once */
static void
spin (int *n)
{
  if (++*n % 1000 == 0)
    g_thread_yield ();
}

static void
read_and_unref (GObject *object)
{
  g_assert_cmpint (*(int *) g_object_get_data (object, "datum"), ==, 1);
  g_object_unref (object);
}

static void *
drop_thread (void *data)
{
  for (int i = 1; i <= N_OBJECTS; i++)
    {
      GObject *object;
      int n = 0;

      while ((object = __atomic_exchange_n (&shared, NULL, __ATOMIC_ACQUIRE)) == NULL)
        spin (&n);
      read_and_unref (object);
      __atomic_store_n (&n_dropped, i, __ATOMIC_RELAXED);
    }

  return NULL;
}

static void
drop_references (void)
{
  pthread_t thread;

  pthread_create (&thread, NULL, drop_thread, NULL);

  for (int i = 1; i <= N_OBJECTS; i++)
    {
      GObject *object = g_object_new (G_TYPE_OBJECT, NULL);
      int *datum = g_new (int, 1);
      int n = 0;

      *datum = 1;
      g_object_set_data_full (object, "datum", datum, g_free);
      __atomic_store_n (&shared, g_object_ref (object), __ATOMIC_RELEASE);
      while (__atomic_load_n (&shared, __ATOMIC_RELAXED) != NULL)
        spin (&n);
      read_and_unref (object);
      while (__atomic_load_n (&n_dropped, __ATOMIC_RELAXED) < i)
        spin (&n);
    }

  pthread_join (thread, NULL);
}

/* Slices: GLib puts few errors as large as these into a page, and frees that when the last of
 * the threads that had one has ended. It knows of the end of the other by relaxed accesses
 * alone.
 */

static GError *handed_over;
static int reader_has_ended;

static void
error_init (GError *error)
{
}

static void
error_copy (const GError *src_error,
            GError *dest_error)
{
}

static void *
read_error_thread (void *data)
{
  GError *error;

  while ((error = __atomic_load_n (&handed_over, __ATOMIC_ACQUIRE)) == NULL)
    g_thread_yield ();
  g_assert_nonnull (error->message);
  g_error_free (error);

  return NULL;
}

static void *
make_error_thread (void *data)
{
  GQuark domain = g_error_domain_register ("large", 400, error_init, error_copy, error_init);
  GError *error = g_error_new_literal (domain, 0, "Handed over");
  GError *own = g_error_new_literal (domain, 0, "Kept");

  __atomic_store_n (&handed_over, error, __ATOMIC_RELEASE);
  while (!__atomic_load_n (&reader_has_ended, __ATOMIC_RELAXED))
    g_usleep (1000);
  g_error_free (own);

  return NULL;
}

static void
share_page (void)
{
  pthread_t reader, maker;

  pthread_create (&reader, NULL, read_error_thread, NULL);
  pthread_create (&maker, NULL, make_error_thread, NULL);
  pthread_join (reader, NULL);
  __atomic_store_n (&reader_has_ended, 1, __ATOMIC_RELAXED);
  pthread_join (maker, NULL);
}

int
main (int argc,
      char **argv)
{
  const char *kind = argc == 2 ? argv[1] : "";
  gboolean ready = FALSE;
  QTask *task;

  if (g_str_equal (kind, "unref"))
    {
      drop_references ();
      return 0;
    }
  if (g_str_equal (kind, "slice"))
    {
      share_page ();
      return 0;
    }

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
      g_printerr ("usage: tsan-race race|mutex|result|start|unref|slice\n");
      return 2;
    }

  while (!ready)
    g_main_context_iteration (NULL, TRUE);

  g_object_unref (task);
  g_print ("%d\n", counter);

  return 0;
}
