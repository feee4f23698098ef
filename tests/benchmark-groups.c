/* benchmark-groups.c: what parallel loops and groups of tasks cost, beside other ways
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An index of a loop writes to its own place, and takes some tens of nanoseconds, or about a
 * microsecond in a tiny loop. A looper is one way to run the loop:
 *
 *   qtask         q_task_pool_parallel_for() on the default pool
 *   plain         a for loop, in the calling thread
 *   gthreadpool   a push to a GThreadPool for each chunk, and a wait for the last one
 *   openmp        a parallel for with schedule (dynamic, grain)
 *
 * A group of tasks is beside the same tasks, which are counted in their callbacks.
 */

#include "benchmark-groups.h"

#include <string.h>

#include <qtask/qtask.h>

#ifdef HAVE_OPENMP
#include <omp.h>
#endif

/* A measurement takes at least as long; all of it is warm then. */
#define LEAST_NSEC (100 * 1000 * 1000)

/* Loops */

typedef struct
{
  gsize n; /* in each loop */
  gsize grain;
  guint64 *results;

  GThreadPool *pool;
  GMutex lock;
  GCond cond;
  gsize n_left; /* chunks; atomic */
} Loop;

#define ROUNDS 16
#define TINY_ROUNDS 500

static int n_rounds;

static inline guint64
get_result (guint64 i,
            int rounds)
{
  for (int round = 0; round < rounds; round++)
    {
      i ^= i << 13;
      i ^= i >> 7;
      i ^= i << 17;
    }

  return i;
}

/* Not to be inlined, so that the body of the loop is the same everywhere. */
static G_GNUC_NO_INLINE gboolean
run_indexes (gsize begin,
             gsize end,
             gpointer data,
             GError **error G_GNUC_UNUSED)
{
  guint64 *results = data;
  int rounds = n_rounds;

  for (gsize i = begin; i < end; i++)
    results[i] = get_result (i, rounds);

  return TRUE;
}

static void
qtask_loop (Loop *loop)
{
  g_autoptr (GError) error = NULL;

  if (!q_task_pool_parallel_for (q_task_pool_get_default (), loop->n, loop->grain, run_indexes,
                                 loop->results, NULL, &error))
    bench_fail ("%s", error->message);
}

static void
plain_loop (Loop *loop)
{
  run_indexes (0, loop->n, loop->results, NULL);
}

static void
gthreadpool_worker (gpointer data,
                    gpointer user_data)
{
  Loop *loop = user_data;
  gsize begin = (GPOINTER_TO_SIZE (data) - 1) * loop->grain;

  run_indexes (begin, MIN (begin + loop->grain, loop->n), loop->results, NULL);

  if (g_atomic_pointer_add (&loop->n_left, -1) == 1)
    {
      g_mutex_lock (&loop->lock);
      g_cond_signal (&loop->cond);
      g_mutex_unlock (&loop->lock);
    }
}

static void
gthreadpool_loop (Loop *loop)
{
  gsize n_chunks = (loop->n + loop->grain - 1) / loop->grain;

  if (loop->pool == NULL)
    loop->pool = g_thread_pool_new (gthreadpool_worker, loop, (int) g_get_num_processors (), FALSE, NULL);

  g_atomic_pointer_set (&loop->n_left, n_chunks);
  for (gsize chunk = 0; chunk < n_chunks; chunk++)
    g_thread_pool_push (loop->pool, GSIZE_TO_POINTER (chunk + 1), NULL);

  g_mutex_lock (&loop->lock);
  while (g_atomic_pointer_get (&loop->n_left) != 0)
    g_cond_wait (&loop->cond, &loop->lock);
  g_mutex_unlock (&loop->lock);
}

#ifdef HAVE_OPENMP
static void
openmp_loop (Loop *loop)
{
  guint64 *results = loop->results;
  gsize n = loop->n;
  int grain = (int) loop->grain;
  int rounds = n_rounds;

#pragma omp parallel for schedule(dynamic, grain)
  for (gsize i = 0; i < n; i++)
    results[i] = get_result (i, rounds);
}
#endif

static const struct
{
  const char *peer;
  void (*run) (Loop *loop);
} loopers[] = {
  { "qtask", qtask_loop },
  { "plain", plain_loop },
  { "gthreadpool", gthreadpool_loop },
#ifdef HAVE_OPENMP
  { "openmp", openmp_loop },
#endif
};

static void
check_results (Loop *loop)
{
  for (gsize i = 0; i < loop->n; i++)
    if (loop->results[i] != get_result (i, n_rounds))
      bench_fail ("index %" G_GSIZE_FORMAT " was not run", i);
}

/* @workload is parallel-for-GRAIN, a loop of @n indexes at a time, or parallel-for-tiny. */
void
bench_parallel_for_run (const char *workload,
                        const BenchPeer *peer,
                        gsize n,
                        double *metrics)
{
  gboolean is_tiny = g_str_has_suffix (workload, "-tiny");
  const char *grain = workload + strlen ("parallel-for-");
  Loop loop = { .n = n, .grain = is_tiny ? 1 : g_ascii_strtoull (grain, NULL, 10) };
  void (*run) (Loop * loop) = NULL;
  gsize n_loops = 0;
  gint64 start;
  gint64 cpu_start;
  gint64 now;

  for (guint i = 0; i < G_N_ELEMENTS (loopers); i++)
    if (g_str_equal (loopers[i].peer, peer->name))
      run = loopers[i].run;

  if (run == NULL)
    bench_fail ("%s runs no loops", peer->name);

  loop.results = g_new0 (guint64, n);
  n_rounds = is_tiny ? TINY_ROUNDS : ROUNDS;
  run (&loop);
  check_results (&loop);

  start = bench_now ();
  while (bench_now () - start < LEAST_NSEC / 4)
    run (&loop);

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  do
    {
      for (int i = 0; i < (is_tiny ? 1000 : 1); i++)
        run (&loop);
      n_loops += is_tiny ? 1000 : 1;
      now = bench_now ();
    }
  while (now - start < LEAST_NSEC);

  /* A tiny loop as a whole, or an index */
  metrics[BENCH_NS_PER_OP] = (double) (now - start) / n_loops / (is_tiny ? 1 : n);
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n_loops / (is_tiny ? 1 : n);
}

/* Groups */

static gboolean
empty_worker (QTask *task G_GNUC_UNUSED,
              gpointer data G_GNUC_UNUSED,
              GError **error G_GNUC_UNUSED)
{
  return TRUE;
}

static void
count_cb (QTask *task G_GNUC_UNUSED,
          gpointer n_left)
{
  (*(gsize *) n_left)--;
}

static void
waited_cb (GObject *source,
           GAsyncResult *result,
           gpointer n_left)
{
  g_autoptr (GError) error = NULL;

  if (!q_task_group_wait_finish (Q_TASK_GROUP (source), result, &error))
    bench_fail ("%s", error->message);
  *(gsize *) n_left = 0;
}

static void
run_tasks (gboolean with_group,
           gsize n)
{
  g_autoptr (QTaskGroup) group = with_group ? q_task_group_new (Q_TASK_GROUP_DEFAULT) : NULL;
  gsize n_left = n;

  for (gsize i = 0; i < n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, with_group ? NULL : count_cb, &n_left, NULL);

      if (with_group && !q_task_group_add (group, task, NULL))
        bench_fail ("a task was not added");
      q_task_run_in_thread (task, empty_worker, NULL, NULL);
    }

  if (with_group)
    q_task_group_wait_async (group, Q_TASK_GROUP_ALL, NULL, waited_cb, &n_left);

  while (n_left > 0)
    g_main_context_iteration (NULL, TRUE);
}

/* The tasks of a group; per task. */
void
bench_group_run (const char *workload G_GNUC_UNUSED,
                 const BenchPeer *peer,
                 gsize n,
                 double *metrics)
{
  gboolean with_group = g_str_equal (peer->name, "qtask");
  gint64 start;
  gint64 cpu_start;

  run_tasks (with_group, n / 20 + 1);

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  run_tasks (with_group, n);
  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n;
}
