/* benchmark-workloads.c: what is measured
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Every time includes delivery: it ends when the last completion callback has
 * run in the main loop.  The exceptions say so.  Work starts after a small run
 * that has made the threads.  A process runs one workload once, so what is
 * still queued when it has been measured is left to the process's end.
 *
 * All functions run in the main thread, which owns the default context, except
 * those that stand for work.  What both sides touch is the gate, protected by
 * its mutex.
 */

#include "benchmark-workloads.h"

#include "benchmark-channels.h"
#include "benchmark-groups.h"
#include "benchmark-processes.h"

#include <malloc.h>
#include <math.h>

#include <qtask/qtask.h>

#define WARM_UP 2000
#define WORK_NS (20 * 1000)
#define TIMER_MS 16

const char *const bench_metric_names[BENCH_N_METRICS] = {
  [BENCH_NS_PER_OP] = "ns_per_op",
  [BENCH_CPU_NS_PER_OP] = "cpu_ns_per_op",
  [BENCH_CALL_NS_PER_OP] = "call_ns_per_op",
  [BENCH_BYTES_PER_TASK] = "bytes_per_task",
  [BENCH_P99_US] = "p99_us",
  [BENCH_MAX_US] = "max_us",
  [BENCH_P99_US_AT_0] = "p99_us_at_0",
  [BENCH_MAX_US_AT_0] = "max_us_at_0",
  [BENCH_P99_US_AT_120] = "p99_us_at_120",
  [BENCH_MAX_US_AT_120] = "max_us_at_120",
  [BENCH_PAUSE_US] = "pause_us",
};

static void
work_nothing (void)
{
}

static void
work_20us (void)
{
  gint64 end = bench_now () + WORK_NS;

  while (bench_now () < end)
    ;
}

/* The requests of one run: so many are still to be submitted, each when one of
 * the earlier ones completes. */
static struct
{
  const BenchPeer *peer;
  gsize n_unsubmitted;
  gsize n_completed;
  guint depth;
} flow;

static void
count_completed (void)
{
  flow.n_completed++;
}

static void
submit_next (void)
{
  flow.n_completed++;

  if (flow.n_unsubmitted > 0)
    {
      flow.n_unsubmitted--;
      if (flow.depth > 0)
        flow.peer->submit_nested (flow.depth);
      else
        flow.peer->submit (0);
    }
}

static void
iterate_until (gsize n_completed)
{
  while (flow.n_completed < n_completed)
    flow.peer->iterate ();
}

/* n requests, of which so many as the window are in flight. */
static void
run_flow (const BenchPeer *peer,
          gsize n,
          gsize window,
          guint depth)
{
  flow.peer = peer;
  flow.n_unsubmitted = n;
  flow.n_completed = 0;
  flow.depth = depth;
  bench_completed = submit_next;

  for (gsize i = 0; i < MIN (window, n); i++)
    {
      flow.n_unsubmitted--;
      if (depth > 0)
        peer->submit_nested (depth);
      else
        peer->submit (0);
    }

  iterate_until (n);
}

static void
measure_flow (const BenchPeer *peer,
              gsize n,
              gsize window,
              guint depth,
              guint repeat,
              double *metrics)
{
  gint64 start, cpu_start;

  run_flow (peer, MIN (n, depth > 0 || peer->n_threads == 0 ? WARM_UP / 10 : WARM_UP), window, depth);

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  for (guint i = 0; i < repeat; i++)
    run_flow (peer, n, window, depth);

  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n / repeat;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n / repeat;
}

static void
run_burst (const BenchPeer *peer,
           gsize n,
           double *metrics)
{
  /* A small burst is over too soon to be told from noise; threads are not. */
  guint repeat = peer->n_threads == 0 ? 1 : CLAMP (200000 / n, 1, 20);

  bench_work = work_nothing;
  measure_flow (peer, n, n, 0, repeat, metrics);
}

static void
run_window_64 (const BenchPeer *peer,
               gsize n,
               double *metrics)
{
  bench_work = work_nothing;
  measure_flow (peer, n, 64, 0, 1, metrics);
}

static void
run_ping_pong (const BenchPeer *peer,
               gsize n,
               double *metrics)
{
  bench_work = work_nothing;
  measure_flow (peer, n, 1, 0, 1, metrics);
}

static void
run_ping_pong_20us (const BenchPeer *peer,
                    gsize n,
                    double *metrics)
{
  bench_work = work_20us;
  measure_flow (peer, n, 1, 0, 1, metrics);
  metrics[BENCH_NS_PER_OP] -= WORK_NS;
}

static void
run_nested_wait (const BenchPeer *peer,
                 gsize n,
                 double *metrics)
{
  bench_work = work_nothing;
  measure_flow (peer, n, 1, 1, 1, metrics);
}

static void
run_nested_wait_16 (const BenchPeer *peer,
                    gsize n,
                    double *metrics)
{
  bench_work = work_nothing;
  measure_flow (peer, n, 1, 16, 1, metrics);
}

/* A gate: while it is closed, workers wait at it. */
static struct
{
  GMutex mutex;
  GCond changed;
  gboolean closed;
  guint n_waiting;
} gate;

static void
work_pass_gate (void)
{
  g_mutex_lock (&gate.mutex);
  gate.n_waiting++;
  g_cond_broadcast (&gate.changed);
  while (gate.closed)
    g_cond_wait (&gate.changed, &gate.mutex);
  gate.n_waiting--;
  g_mutex_unlock (&gate.mutex);
}

/* Afterwards all threads of the peer wait at the gate. */
static void
gate_close (const BenchPeer *peer)
{
  gint64 end_time = g_get_monotonic_time () + 10 * G_TIME_SPAN_SECOND;
  guint n_waiting;

  flow.peer = peer;
  flow.n_completed = 0;
  bench_completed = count_completed;
  bench_work = work_pass_gate;
  gate.closed = TRUE;

  for (guint i = 0; i < peer->n_threads; i++)
    peer->submit (0);

  g_mutex_lock (&gate.mutex);
  while (gate.n_waiting < peer->n_threads &&
         g_cond_wait_until (&gate.changed, &gate.mutex, end_time))
    ;
  n_waiting = gate.n_waiting;
  g_mutex_unlock (&gate.mutex);

  if (n_waiting < peer->n_threads)
    bench_fail ("%s: of %u blocking requests only %u have started",
                peer->name, peer->n_threads, n_waiting);
}

static void
gate_open (void)
{
  g_mutex_lock (&gate.mutex);
  gate.closed = FALSE;
  g_cond_broadcast (&gate.changed);
  g_mutex_unlock (&gate.mutex);
}

static guint32 *
make_permutation (gsize n)
{
  g_autoptr (GRand) random = g_rand_new_with_seed (1);
  guint32 *permutation = g_new (guint32, n);

  for (gsize i = 0; i < n; i++)
    {
      gsize j = g_rand_int_range (random, 0, i + 1);

      permutation[i] = permutation[j];
      permutation[j] = i;
    }

  return permutation;
}

/* Queues n requests with even priorities, all different. GLib's sorted insert
 * scans the queue: its tasks are given in the one order in which it finds the
 * place at once, all others in random order. */
static void
submit_priorities (const BenchPeer *peer,
                   gsize n)
{
  g_autofree guint32 *permutation = make_permutation (n);
  gboolean in_order = g_str_equal (peer->name, "gtask");

  for (gsize i = 0; i < n; i++)
    peer->submit (2 * (1 + (in_order ? i : permutation[i])));
}

/* The cost of one more submit, without its delivery. */
static void
run_priority_submit (const BenchPeer *peer,
                     gsize n,
                     double *metrics)
{
  g_autofree guint32 *permutation = make_permutation (n);
  gsize n_submitted;
  gint64 start, end, cpu_start;

  gate_close (peer);
  submit_priorities (peer, n);

  start = end = bench_now ();
  cpu_start = bench_cpu_now ();
  for (n_submitted = 0; n_submitted < n / 10; n_submitted++)
    {
      /* Half a second is enough of a peer that takes milliseconds for one. */
      if (n_submitted % 16 == 0 && bench_now () - start > G_USEC_PER_SEC / 2 * 1000)
        break;
      peer->submit (2 * permutation[n_submitted] + 1);
    }
  end = bench_now ();

  metrics[BENCH_NS_PER_OP] = (double) (end - start) / n_submitted;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n_submitted;
}

/* The whole life of tasks that have to be sorted. */
static void
run_priority_drain (const BenchPeer *peer,
                    gsize n,
                    double *metrics)
{
  gint64 start, cpu_start;

  gate_close (peer);

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  submit_priorities (peer, n);
  gate_open ();
  iterate_until (n + peer->n_threads);

  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n;
}

static void
measure_cancel (const BenchPeer *peer,
                gsize n,
                gboolean different_priorities,
                double *metrics)
{
  g_autofree guint32 *permutation = make_permutation (n);
  g_autofree gpointer *requests = g_new (gpointer, n);
  gint64 start, cpu_start;

  gate_close (peer);
  for (gsize i = 0; i < n; i++)
    requests[i] = peer->submit_cancellable (different_priorities ? 1 + permutation[n - 1 - i] : 0);

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  for (gsize i = 0; i < n; i++)
    peer->cancel (requests[permutation[i]]);
  metrics[BENCH_CALL_NS_PER_OP] = (double) (bench_now () - start) / n;

  gate_open ();
  iterate_until (n + peer->n_threads);

  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n;
}

static void
run_cancel_queued (const BenchPeer *peer,
                   gsize n,
                   double *metrics)
{
  measure_cancel (peer, n, FALSE, metrics);
}

static void
run_cancel_queued_priorities (const BenchPeer *peer,
                              gsize n,
                              double *metrics)
{
  measure_cancel (peer, n, TRUE, metrics);
}

static double
heap_in_use (void)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
  struct mallinfo2 info = mallinfo2 ();

  return (double) info.uordblks + (double) info.hblkhd;
#else
  return NAN;
#endif
}

/* What malloc() has given, with its own overhead: the request and the nodes of
 * the queue. ns_per_op is the cost of one submit. */
static void
run_heap_per_task (const BenchPeer *peer,
                   gsize n,
                   double *metrics)
{
  double heap;
  gint64 start;

  gate_close (peer);
  for (guint i = 0; i < WARM_UP; i++)
    peer->submit (0);

  heap = heap_in_use ();
  start = bench_now ();
  for (gsize i = 0; i < n; i++)
    peer->submit (0);

  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_BYTES_PER_TASK] = (heap_in_use () - heap) / n;
}

static gboolean
progress_worker (QTask *task,
                 gpointer opaque,
                 GError **error)
{
  gint64 *result = opaque;
  gint64 n = *result;
  double step = 1.0 / n;
  gint64 start = bench_now ();

  for (gint64 i = 0; i < n; i++)
    q_task_set_progress (task, i * step, NULL);

  *result = bench_now () - start;

  return TRUE;
}

static void
progress_done_cb (QTask *task,
                  gpointer opaque)
{
  bench_completed ();
}

static void
progress_notify_cb (GObject *object,
                    GParamSpec *pspec,
                    gpointer n_notifications)
{
  (*(guint *) n_notifications)++;
}

/* In a loop of the worker, while the main loop shows it: the time of one call,
 * without the delivery, which comes 60 times in a second. */
static void
run_set_progress (const BenchPeer *peer,
                  gsize n,
                  double *metrics)
{
  g_autoptr (QTask) task = q_task_new (NULL, progress_done_cb, NULL, NULL);
  gint64 result = n;
  guint n_notifications = 0;

  flow.peer = peer;
  flow.n_completed = 0;
  bench_completed = count_completed;

  g_signal_connect (task, "notify::progress", G_CALLBACK (progress_notify_cb), &n_notifications);
  q_task_run_in_thread (task, progress_worker, &result, NULL);
  iterate_until (1);

  if (n_notifications == 0)
    bench_fail ("qtask: no notification of the progress");

  metrics[BENCH_NS_PER_OP] = (double) result / n;
}

typedef struct
{
  GSource *source;
  GArray *late; /* of gint64, microseconds */
} LateTimer;

static gboolean
late_timer_cb (gpointer user_data)
{
  LateTimer *timer = user_data;
  gint64 late = g_get_monotonic_time () - g_source_get_ready_time (timer->source);

  g_array_append_val (timer->late, late);

  return G_SOURCE_CONTINUE;
}

static void
late_timer_start (LateTimer *timer,
                  int priority)
{
  timer->late = g_array_new (FALSE, FALSE, sizeof (gint64));
  timer->source = g_timeout_source_new (TIMER_MS);
  g_source_set_priority (timer->source, priority);
  g_source_set_callback (timer->source, late_timer_cb, timer, NULL);
  g_source_attach (timer->source, NULL);
}

static int
compare_late (gconstpointer a,
              gconstpointer b)
{
  gint64 late_a = *(const gint64 *) a;
  gint64 late_b = *(const gint64 *) b;

  return (late_a > late_b) - (late_a < late_b);
}

static void
late_timer_stop (LateTimer *timer,
                 double *p99,
                 double *max)
{
  /* One that is late now counts, or one that never came would go unseen. */
  if (g_get_monotonic_time () > g_source_get_ready_time (timer->source))
    late_timer_cb (timer);

  g_source_destroy (timer->source);
  g_source_unref (timer->source);

  g_array_sort (timer->late, compare_late);
  if (timer->late->len > 0)
    {
      *p99 = g_array_index (timer->late, gint64, (timer->late->len - 1) * 99 / 100);
      *max = g_array_index (timer->late, gint64, timer->late->len - 1);
    }
  g_array_unref (timer->late);
}

/* How long the longest of these took: more than its 20 us is time that somebody
 * else had the processor, and no fault of the peer. */
static gint64 longest_completed;

static void
completed_20us (void)
{
  gint64 start = bench_now ();
  gint64 duration;

  work_20us ();
  flow.n_completed++;

  duration = bench_now () - start;
  longest_completed = MAX (longest_completed, duration);
}

/* How late timers are while the loop has much more to deliver than it can. */
static void
run_responsiveness (const BenchPeer *peer,
                    gsize n,
                    double *metrics)
{
  LateTimer timer_0, timer_120;
  gint64 start, cpu_start;

  bench_work = work_nothing;
  run_flow (peer, WARM_UP, WARM_UP, 0);

  flow.n_completed = 0;
  bench_completed = completed_20us;

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  for (gsize i = 0; i < n; i++)
    peer->submit (0);

  late_timer_start (&timer_0, G_PRIORITY_DEFAULT);
  late_timer_start (&timer_120, G_PRIORITY_HIGH_IDLE + 20);
  iterate_until (n);
  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n;

  late_timer_stop (&timer_0, &metrics[BENCH_P99_US_AT_0], &metrics[BENCH_MAX_US_AT_0]);
  late_timer_stop (&timer_120, &metrics[BENCH_P99_US_AT_120], &metrics[BENCH_MAX_US_AT_120]);
  metrics[BENCH_PAUSE_US] = longest_completed / 1000.0;
  metrics[BENCH_P99_US] = fmax (metrics[BENCH_P99_US_AT_0], metrics[BENCH_P99_US_AT_120]);
  metrics[BENCH_MAX_US] = fmax (metrics[BENCH_MAX_US_AT_0], metrics[BENCH_MAX_US_AT_120]);
}

const BenchWorkload bench_workloads[] = {
  { "burst", "n no-ops submitted, then awaited; per task", run_burst },
  { "window-64", "64 no-ops in flight; per task", run_window_64 },
  { "ping-pong", "1 no-op in flight; per task", run_ping_pong },
  { "ping-pong-20us", "1 task of 20 microseconds in flight; per task, beyond these", run_ping_pong_20us },
  { "priority-submit", "a submit while n are queued, all priorities different; per submit", run_priority_submit },
  { "priority-drain", "n no-ops with different priorities: queued, run, delivered; per task", run_priority_drain },
  { "cancel-queued", "n queued tasks cancelled in random order; per task", run_cancel_queued },
  { "cancel-queued-priorities", "the same, all priorities different; per task", run_cancel_queued_priorities },
  { "heap-per-task", "heap of a queued task; time is that of a submit", run_heap_per_task },
  { "heap-per-task-malloc", "the same with G_SLICE=always-malloc", run_heap_per_task },
  { "set-progress", "q_task_set_progress without text, in a worker; per call", run_set_progress },
  { "nested-wait", "a worker that waits for a task of its pool, for qtask a pool of one thread; per pair", run_nested_wait },
  { "nested-wait-16", "the same, 16 deep; per 17 tasks", run_nested_wait_16 },
  { "responsiveness", "callbacks of 20 microseconds queue: how late 16 ms timers are; per task", run_responsiveness },
  { "channel-memory-64", "a message through memory, blocking reads; per message", NULL, bench_channel_run },
  { "channel-memory-4096", "a message through memory, blocking reads; per message", NULL, bench_channel_run },
  { "channel-memory-1048576", "a message through memory, blocking reads; per message", NULL, bench_channel_run },
  { "channel-memory-64-round-trip", "a message through memory, blocking reads, there and back", NULL, bench_channel_run },
  { "channel-memory-4096-round-trip", "a message through memory, blocking reads, there and back", NULL, bench_channel_run },
  { "channel-memory-1048576-round-trip", "a message through memory, blocking reads, there and back", NULL, bench_channel_run },
  { "channel-memory-64-4-writers", "a message through memory, blocking reads, from four threads; per message", NULL, bench_channel_run },
  { "channel-watch-64", "a message through memory to the main loop; per message", NULL, bench_channel_run },
  { "channel-watch-4096", "a message through memory to the main loop; per message", NULL, bench_channel_run },
  { "channel-watch-1048576", "a message through memory to the main loop; per message", NULL, bench_channel_run },
  { "channel-watch-64-round-trip", "a message through memory to the main loop, there and back", NULL, bench_channel_run },
  { "channel-watch-64-4-writers", "a message through memory to the main loop, from four threads; per message", NULL, bench_channel_run },
  { "channel-fd-64", "a message over a socket pair, blocking reads; per message", NULL, bench_channel_run },
  { "channel-fd-4096", "a message over a socket pair, blocking reads; per message", NULL, bench_channel_run },
  { "channel-fd-1048576", "a message over a socket pair, blocking reads; per message", NULL, bench_channel_run },
  { "channel-fd-64-round-trip", "a message over a socket pair, blocking reads, there and back", NULL, bench_channel_run },
  { "channel-fd-4096-round-trip", "a message over a socket pair, blocking reads, there and back", NULL, bench_channel_run },
  { "channel-fd-1048576-round-trip", "a message over a socket pair, blocking reads, there and back", NULL, bench_channel_run },
  { "channel-fd-64-4-writers", "a message over a socket pair, blocking reads, from four threads; per message", NULL, bench_channel_run },
  { "process-start", "a worker process, from its start to its first answer", NULL, bench_process_run },
  { "process-request-0", "an empty request to a worker process, there and back", NULL, bench_process_run },
  { "process-request-65536", "a request of 64 KiB to a worker process, there and back", NULL, bench_process_run },
  { "sync-round-trip", "a sync point: the owner told, and the worker resumed; per sync", bench_sync_round_trip_run },
  { "parallel-for-1", "a loop of n indexes in chunks of 1; per index", NULL, bench_parallel_for_run },
  { "parallel-for-1000", "a loop of n indexes in chunks of 1000; per index", NULL, bench_parallel_for_run },
  { "parallel-for-tiny", "a loop of n indexes of a microsecond each, in chunks of 1; per loop", NULL, bench_parallel_for_run },
  { "group", "n no-ops in a group, which is awaited; per task", NULL, bench_group_run },
  { NULL },
};

const BenchWorkload *
bench_workload_find (const char *name)
{
  for (const BenchWorkload *workload = bench_workloads; workload->name != NULL; workload++)
    {
      if (g_str_equal (workload->name, name))
        return workload;
    }

  return NULL;
}
