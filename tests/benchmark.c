/* benchmark.c: what QTask costs, beside its peers
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Each measurement is a process of its own: this program starts itself again
 * with --one WORKLOAD PEER N, so that no peer meets the idle threads, the
 * fragmented heap or the warm caches of another.  A round measures each
 * workload with each peer in turn, beginning with another one each time; what
 * is shown is the median over the rounds, and ratios of medians.
 *
 * The peers are in benchmark-peers.c, the workloads in benchmark-workloads.c.
 * This file has what is run with which n, what must come out, and the report.
 * It has one thread.
 */

#include "benchmark-processes.h"
#include "benchmark-workloads.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A measurement that takes longer than this, in seconds, hangs. */
#define TIME_LIMIT 300

#define ALL "qtask gtask gthreadpool-invoke thread-per-task libuv libdex"
#define LOOPERS "qtask plain gthreadpool openmp"
#define POOLS "qtask gtask gthreadpool-invoke libuv libdex"

/* What is run; quick_n 0 is left out of a quick run, max_rounds 0 is no limit.
 * Where the scheduler decides much, on which processor a thread wakes up, a
 * row is measured several times in each round. */
typedef struct
{
  const char *workload;
  gsize n;
  gsize quick_n;
  const char *peers;
  guint max_rounds;
  guint times;
} Plan;

static const Plan plans[] = {
  { "burst", 10000, 10000, ALL, 0, 1 },
  { "burst", 100000, 0, ALL, 0, 1 },
  { "burst", 1000000, 0, POOLS, 0, 1 },
  { "window-64", 20000, 10000, ALL, 0, 2 },
  { "ping-pong", 4000, 2000, ALL, 0, 3 },
  { "ping-pong-20us", 3000, 1000, ALL, 0, 3 },
  { "priority-submit", 10000, 10000, "qtask gtask", 0, 1 },
  { "priority-submit", 100000, 0, "qtask gtask", 0, 1 },
  { "priority-submit", 1000000, 0, "qtask gtask", 3, 1 },
  { "priority-drain", 10000, 10000, "qtask gtask", 0, 1 },
  { "priority-drain", 1000000, 0, "qtask", 3, 1 },
  { "cancel-queued", 10000, 2000, "qtask gtask libuv", 0, 1 },
  { "cancel-queued", 1000000, 0, "qtask libuv", 3, 1 },
  { "cancel-queued-priorities", 1000000, 10000, "qtask", 3, 1 },
  { "heap-per-task", 100000, 10000, POOLS, 3, 1 },
  { "heap-per-task-malloc", 100000, 0, POOLS, 3, 1 },
  { "set-progress", 10000000, 1000000, "qtask", 0, 1 },
  { "nested-wait", 5000, 2000, "qtask gtask", 0, 2 },
  { "nested-wait-16", 2000, 200, "qtask", 0, 1 },
  { "responsiveness", 500000, 25000, "qtask", 2, 1 },
  { "responsiveness", 100000, 0, "gtask gthreadpool-invoke libdex", 2, 1 },
  { "channel-memory-64", 200000, 20000, "qtask kore bulk-read gasyncqueue", 0, 1 },
  { "channel-memory-4096", 50000, 5000, "qtask kore bulk-read gasyncqueue", 0, 1 },
  { "channel-memory-1048576", 1000, 100, "qtask kore bulk-read gasyncqueue", 0, 1 },
  { "channel-memory-64-round-trip", 20000, 2000, "qtask kore gasyncqueue", 0, 1 },
  { "channel-memory-4096-round-trip", 5000, 500, "qtask kore gasyncqueue", 0, 1 },
  { "channel-memory-1048576-round-trip", 100, 10, "qtask kore gasyncqueue", 0, 1 },
  { "channel-memory-64-4-writers", 200000, 20000, "qtask kore bulk-read gasyncqueue", 0, 1 },
  { "channel-watch-64", 200000, 20000, "qtask kore bulk-read gasyncqueue libdex", 0, 1 },
  { "channel-watch-4096", 50000, 5000, "qtask kore bulk-read gasyncqueue libdex", 0, 1 },
  { "channel-watch-1048576", 1000, 100, "qtask kore bulk-read gasyncqueue libdex", 0, 1 },
  { "channel-watch-64-round-trip", 20000, 2000, "qtask kore gasyncqueue", 0, 1 },
  { "channel-watch-64-4-writers", 200000, 20000, "qtask kore bulk-read gasyncqueue libdex", 0, 1 },
  { "channel-fd-64", 200000, 20000, "qtask kore bulk-read", 0, 1 },
  { "channel-fd-4096", 50000, 5000, "qtask kore bulk-read", 0, 1 },
  { "channel-fd-1048576", 1000, 100, "qtask kore bulk-read", 0, 1 },
  { "channel-fd-64-round-trip", 20000, 2000, "qtask kore bulk-read", 0, 1 },
  { "channel-fd-4096-round-trip", 5000, 500, "qtask kore bulk-read", 0, 1 },
  { "channel-fd-1048576-round-trip", 100, 10, "qtask kore bulk-read", 0, 1 },
  { "channel-fd-64-4-writers", 200000, 20000, "qtask kore bulk-read", 0, 1 },
  { "sync-round-trip", 20000, 2000, "qtask", 0, 1 },
  { "process-start", 20, 3, "qtask qtask-python qtask-gjs echo", 0, 1 },
  { "process-request-0", 20000, 2000, "qtask qtask-python qtask-gjs echo echo-blocking", 0, 3 },
  { "process-request-65536", 3000, 300, "qtask qtask-python qtask-gjs echo echo-blocking", 0, 1 },
  { "parallel-for-1", 10000, 10000, LOOPERS, 0, 1 },
  { "parallel-for-1", 1000000, 0, LOOPERS, 0, 1 },
  { "parallel-for-1000", 100000, 100000, LOOPERS, 0, 1 },
  { "parallel-for-1000", 1000000, 0, LOOPERS, 0, 1 },
  { "parallel-for-1000", 10000000, 0, LOOPERS, 0, 1 },
  { "parallel-for-tiny", 1, 1, LOOPERS, 0, 1 },
  { "parallel-for-tiny", 4, 4, LOOPERS, 0, 1 },
  { "parallel-for-tiny", 30, 0, LOOPERS, 0, 1 },
  { "group", 100000, 10000, "qtask qtask-no-group", 0, 1 },
};

/* What must come out: a bound of qtask's metric or, with a peer, of its ratio
 * to the peer's; with a base_n, of its ratio to itself at that n.  An n of 0 is
 * any, an aim of 0 is none. */
typedef struct
{
  const char *workload;
  gsize n;
  BenchMetric metric;
  const char *peer;
  gsize base_n;
  double must;
  double aim;
} Requirement;

static const Requirement requirements[] = {
  { "burst", 0, BENCH_NS_PER_OP, "gtask", 0, 0.5, 0.35 },
  { "burst", 0, BENCH_NS_PER_OP, "libuv", 0, 2, 1.2 },
  { "burst", 1000000, BENCH_NS_PER_OP, "qtask", 10000, 1.5, 0 },
  { "window-64", 0, BENCH_NS_PER_OP, "gtask", 0, 0.25, 0.15 },
  { "window-64", 0, BENCH_NS_PER_OP, "libuv", 0, 1.3, 1.0 },
  { "ping-pong", 0, BENCH_NS_PER_OP, "gtask", 0, 0.5, 0.2 },
  { "ping-pong-20us", 0, BENCH_NS_PER_OP, "gtask", 0, 0.5, 0 },
  { "ping-pong-20us", 0, BENCH_CPU_NS_PER_OP, "gtask", 0, 1, 0 },
  { "priority-submit", 0, BENCH_NS_PER_OP, NULL, 0, 1000, 0 },
  { "priority-submit", 1000000, BENCH_NS_PER_OP, "qtask", 10000, 2, 0 },
  { "heap-per-task", 0, BENCH_BYTES_PER_TASK, NULL, 0, 242, 0 },
  { "heap-per-task", 0, BENCH_BYTES_PER_TASK, "gtask", 0, 1, 0 },
  { "set-progress", 0, BENCH_NS_PER_OP, NULL, 0, 25, 0 },
  { "responsiveness", 0, BENCH_MAX_US, NULL, 0, 8000, 0 },
  { "channel-watch-64", 0, BENCH_NS_PER_OP, NULL, 0, 300, 0 },
  { "channel-watch-64", 0, BENCH_NS_PER_OP, "kore", 0, 0.2, 0 },
  { "channel-fd-64", 0, BENCH_NS_PER_OP, "kore", 0, 0.6, 0 },
  { "channel-fd-1048576", 0, BENCH_NS_PER_OP, "bulk-read", 0, 1.25, 0 },
  { "process-request-0", 0, BENCH_NS_PER_OP, "echo", 0, 1.3, 0 },
  { "parallel-for-1000", 0, BENCH_NS_PER_OP, "openmp", 0, 1.1, 0 },
  { "parallel-for-tiny", 0, BENCH_NS_PER_OP, "plain", 0, 1.05, 0 },
};

/* Where the table names a metric. */
static const char *const metric_titles[BENCH_N_METRICS] = {
  [BENCH_NS_PER_OP] = "time, ns",
  [BENCH_CPU_NS_PER_OP] = "CPU time",
  [BENCH_CALL_NS_PER_OP] = "the call alone, ns",
  [BENCH_BYTES_PER_TASK] = "bytes",
  [BENCH_P99_US] = "late, 99 %, µs",
  [BENCH_MAX_US] = "late at most, µs",
  [BENCH_P99_US_AT_0] = "timer at 0: late, 99 %, µs",
  [BENCH_MAX_US_AT_0] = "at most, µs",
  [BENCH_P99_US_AT_120] = "timer at 120: late, 99 %, µs",
  [BENCH_MAX_US_AT_120] = "at most, µs",
  [BENCH_PAUSE_US] = "without the processor at most, µs",
};

static char **opt_workloads;
static char **opt_peers;
static char *opt_json;
static int opt_rounds = 5;
static gboolean opt_quick;

/* Measured values of one peer in one plan, a GArray of double for each metric. */
typedef struct
{
  const Plan *plan;
  const BenchPeer *peer;
  gsize n;
  GArray *values[BENCH_N_METRICS];
} Row;

static Row *
row_new (const Plan *plan,
         const BenchPeer *peer)
{
  Row *row = g_new0 (Row, 1);

  row->plan = plan;
  row->peer = peer;
  row->n = opt_quick ? plan->quick_n : plan->n;
  for (guint i = 0; i < BENCH_N_METRICS; i++)
    row->values[i] = g_array_new (FALSE, FALSE, sizeof (double));

  return row;
}

static void
row_free (gpointer data)
{
  Row *row = data;

  for (guint i = 0; i < BENCH_N_METRICS; i++)
    g_array_unref (row->values[i]);
  g_free (row);
}

static int
compare_doubles (gconstpointer a,
                 gconstpointer b)
{
  double value_a = *(const double *) a;
  double value_b = *(const double *) b;

  return (value_a > value_b) - (value_a < value_b);
}

/* The value of which the given part, 0 to 1, are smaller; NAN without values. */
static double
row_quantile (Row *row,
              BenchMetric metric,
              double part)
{
  GArray *values = row->values[metric];
  double position;
  guint i;

  if (values->len == 0)
    return NAN;

  g_array_sort (values, compare_doubles);
  position = (values->len - 1) * part;
  i = (guint) position;
  if (i + 1 == values->len)
    return g_array_index (values, double, i);

  return g_array_index (values, double, i) * (i + 1 - position) +
         g_array_index (values, double, i + 1) * (position - i);
}

/* The figure of a row: the median of the rounds, but the worst where the
 * metric is itself a worst case. */
static double
row_figure (Row *row,
            BenchMetric metric)
{
  gboolean worst = metric == BENCH_MAX_US || metric == BENCH_MAX_US_AT_0 || metric == BENCH_MAX_US_AT_120 ||
                   metric == BENCH_PAUSE_US;

  return row_quantile (row, metric, worst ? 1.0 : 0.5);
}

static Row *
find_row (GPtrArray *rows,
          const char *workload,
          const char *peer,
          gsize n)
{
  for (guint i = 0; i < rows->len; i++)
    {
      Row *row = rows->pdata[i];

      if (g_str_equal (row->plan->workload, workload) && g_str_equal (row->peer->name, peer) && row->n == n)
        return row;
    }

  return NULL;
}

/* Measures in this process. */
static int
run_one (const char *workload_name,
         const char *peer_name,
         const char *n_text)
{
  const BenchWorkload *workload = bench_workload_find (workload_name);
  const BenchPeer *peer = bench_peer_find (peer_name);
  double metrics[BENCH_N_METRICS];
  guint64 n;

  if (workload == NULL || peer == NULL || !g_ascii_string_to_unsigned (n_text, 10, 1, G_MAXINT32 / 4, &n, NULL))
    {
      g_printerr ("usage: benchmark --one WORKLOAD PEER N\n");
      return 2;
    }

  alarm (TIME_LIMIT);
  for (guint i = 0; i < BENCH_N_METRICS; i++)
    metrics[i] = NAN;

  /* As in a callback of a running loop: without an owner of the context,
   * g_main_context_invoke() would call the function in the worker. */
  g_main_context_acquire (NULL);
  if (peer->start != NULL)
    peer->start ();
  if (workload->run_named != NULL)
    workload->run_named (workload_name, peer, n, metrics);
  else
    workload->run (peer, n, metrics);

  for (guint i = 0; i < BENCH_N_METRICS; i++)
    {
      if (!isnan (metrics[i]))
        printf ("%s=%.3f\n", bench_metric_names[i], metrics[i]);
    }
  fflush (stdout);

  /* Whatever is still queued or waits at the gate ends here. */
  _exit (0);
}

/* Measures once more, in a process of its own, and adds the values. */
static gboolean
row_measure (Row *row,
             const char *program)
{
  g_autofree char *n = g_strdup_printf ("%" G_GSIZE_FORMAT, row->n);
  const char *argv[] = { program, "--one", row->plan->workload, row->peer->name, n, NULL };
  g_auto (GStrv) environment = g_get_environ ();
  g_auto (GStrv) lines = NULL;
  g_autofree char *output = NULL;
  g_autoptr (GError) error = NULL;
  int status;

  environment = g_environ_unsetenv (environment, "G_SLICE");
  if (g_str_equal (row->plan->workload, "heap-per-task-malloc"))
    environment = g_environ_setenv (environment, "G_SLICE", "always-malloc", TRUE);

  if (!g_spawn_sync (NULL, (char **) argv, environment, G_SPAWN_SEARCH_PATH,
                     NULL, NULL, &output, NULL, &status, &error) ||
      !g_spawn_check_wait_status (status, &error))
    {
      g_printerr ("benchmark: %s, %s, %s: %s\n", row->plan->workload, row->peer->name, n, error->message);
      return FALSE;
    }

  lines = g_strsplit (output, "\n", -1);
  for (guint i = 0; lines[i] != NULL; i++)
    {
      char *separator = strchr (lines[i], '=');

      if (separator == NULL)
        continue;

      for (guint metric = 0; metric < BENCH_N_METRICS; metric++)
        {
          if (strncmp (lines[i], bench_metric_names[metric], separator - lines[i]) == 0 &&
              bench_metric_names[metric][separator - lines[i]] == '\0')
            {
              double value = g_ascii_strtod (separator + 1, NULL);

              g_array_append_val (row->values[metric], value);
            }
        }
    }

  return TRUE;
}

/* All measurements; returns how many have failed. */
static guint
measure (GPtrArray *rows,
         const char *program)
{
  gboolean show_progress = isatty (STDERR_FILENO);
  guint n_failed = 0;

  for (int round = 0; round < opt_rounds; round++)
    {
      for (guint first = 0, end; first < rows->len; first = end)
        {
          const Plan *plan = ((Row *) rows->pdata[first])->plan;

          for (end = first; end < rows->len && ((Row *) rows->pdata[end])->plan == plan; end++)
            ;

          if (plan->max_rounds != 0 && round >= (int) plan->max_rounds)
            continue;

          for (guint i = 0; i < (opt_quick ? 1 : plan->times) * (end - first); i++)
            {
              Row *row = rows->pdata[first + (i + round) % (end - first)];

              if (show_progress)
                g_printerr ("\r\033[Kround %d of %d: %s, %s", round + 1, opt_rounds, plan->workload, row->peer->name);
              if (!row_measure (row, program))
                n_failed++;
            }
        }
    }

  if (show_progress)
    g_printerr ("\r\033[K");

  return n_failed;
}

static gboolean
name_is_wanted (char **wanted,
                const char *name)
{
  return wanted == NULL || g_strv_contains ((const char *const *) wanted, name);
}

static GPtrArray *
make_rows (void)
{
  GPtrArray *rows = g_ptr_array_new_with_free_func (row_free);

  for (guint i = 0; i < G_N_ELEMENTS (plans); i++)
    {
      const Plan *plan = &plans[i];
      g_auto (GStrv) peers = g_strsplit (plan->peers, " ", -1);

      if (!name_is_wanted (opt_workloads, plan->workload) || (opt_quick && plan->quick_n == 0))
        continue;

      for (guint j = 0; peers[j] != NULL; j++)
        {
          const BenchPeer *peer = bench_peer_find (peers[j]);

          if (peer != NULL && name_is_wanted (opt_peers, peers[j]))
            g_ptr_array_add (rows, row_new (plan, peer));
        }
    }

  return rows;
}

/* Prints what must come out of a row of qtask's, and counts it. */
static void
print_requirements (GPtrArray *rows,
                    Row *row,
                    guint *n_met,
                    guint *n_not_met)
{
  for (guint i = 0; i < G_N_ELEMENTS (requirements); i++)
    {
      const Requirement *required = &requirements[i];
      double figure;
      g_autofree char *subject = NULL;

      if (!g_str_equal (required->workload, row->plan->workload) || (required->n != 0 && required->n != row->n))
        continue;

      figure = row_figure (row, required->metric);
      if (required->peer == NULL)
        {
          subject = g_strdup (metric_titles[required->metric]);
        }
      else
        {
          gsize n = required->base_n != 0 ? required->base_n : row->n;
          Row *peer_row = find_row (rows, required->workload, required->peer, n);

          if (peer_row == NULL)
            continue;

          figure /= row_figure (peer_row, required->metric);
          if (required->base_n != 0)
            subject = g_strdup_printf ("flat: ratio to %" G_GSIZE_FORMAT, required->base_n);
          else
            subject = g_strdup_printf ("%sratio to %s",
                                       required->metric == BENCH_CPU_NS_PER_OP ? "CPU time, " : "", required->peer);
        }

      if (isnan (figure))
        continue;

      if (figure <= required->must)
        (*n_met)++;
      else
        (*n_not_met)++;

      printf ("  must: %-32s %9.2f  <= %g %s", subject, figure, required->must,
              figure <= required->must ? "met" : "NOT MET");
      if (required->aim != 0)
        printf (", aim <= %g %s", required->aim, figure <= required->aim ? "met" : "not met");
      printf ("\n");
    }
}

static void
print_row (GPtrArray *rows,
           Row *row)
{
  Row *qtask_row = find_row (rows, row->plan->workload, "qtask", row->n);
  double figure = row_figure (row, BENCH_NS_PER_OP);

  printf ("  %-20s %10.3f  (%.3f .. %.3f)", row->peer->name, figure / 1000,
          row_quantile (row, BENCH_NS_PER_OP, 0) / 1000, row_quantile (row, BENCH_NS_PER_OP, 1) / 1000);
  if (row->values[BENCH_CPU_NS_PER_OP]->len > 0)
    printf ("  CPU %.3f", row_figure (row, BENCH_CPU_NS_PER_OP) / 1000);
  if (qtask_row != NULL && qtask_row != row)
    printf ("  qtask is %.2f of it", row_figure (qtask_row, BENCH_NS_PER_OP) / figure);
  printf ("\n");

  for (guint i = BENCH_CPU_NS_PER_OP + 1; i < BENCH_N_METRICS; i++)
    {
      if (row->values[i]->len > 0 && i != BENCH_P99_US && i != BENCH_MAX_US)
        printf ("  %20s %10.0f  %s\n", "", row_figure (row, i), metric_titles[i]);
    }
}

static void
print_table (GPtrArray *rows,
             double load)
{
  guint n_met = 0;
  guint n_not_met = 0;

  printf ("Microseconds, the median over %d rounds (least .. most), and CPU time of the whole process.\n", opt_rounds);
  if (load >= 0.5)
    printf ("The machine was busy when this began (load average %.1f): do not rely on the figures.\n", load);
  if (opt_quick)
    printf ("A quick run: too short for figures to be relied on.\n");

  for (guint i = 0; i < rows->len; i++)
    {
      Row *row = rows->pdata[i];
      Row *last = i > 0 ? rows->pdata[i - 1] : NULL;
      Row *next = i + 1 < rows->len ? rows->pdata[i + 1] : NULL;

      if (last == NULL || last->plan != row->plan)
        printf ("\n%s, n = %" G_GSIZE_FORMAT ": %s\n", row->plan->workload, row->n,
                bench_workload_find (row->plan->workload)->description);

      print_row (rows, row);

      if (next == NULL || next->plan != row->plan)
        {
          Row *qtask_row = find_row (rows, row->plan->workload, "qtask", row->n);

          if (qtask_row != NULL)
            print_requirements (rows, qtask_row, &n_met, &n_not_met);
        }
    }

  if (n_met + n_not_met > 0)
    printf ("\nOf %u requirements, %u are met and %u are not.\n", n_met + n_not_met, n_met, n_not_met);
}

static gboolean
write_json (GPtrArray *rows,
            const char *path,
            GError **error)
{
  g_autoptr (GString) json = g_string_new ("[\n");

  for (guint i = 0; i < rows->len; i++)
    {
      Row *row = rows->pdata[i];

      if (row->values[BENCH_NS_PER_OP]->len == 0)
        continue;

      if (json->len > 2)
        g_string_append (json, ",\n");
      g_string_append_printf (json, "  {\"workload\": \"%s\", \"peer\": \"%s\", \"n\": %" G_GSIZE_FORMAT ", \"measurements\": %u",
                              row->plan->workload, row->peer->name, row->n, row->values[BENCH_NS_PER_OP]->len);
      for (guint metric = 0; metric < BENCH_N_METRICS; metric++)
        {
          if (row->values[metric]->len > 0)
            g_string_append_printf (json, ", \"%s\": %.3f", bench_metric_names[metric], row_figure (row, metric));
        }
      g_string_append_printf (json, ", \"ns_per_op_min\": %.3f, \"ns_per_op_max\": %.3f}",
                              row_quantile (row, BENCH_NS_PER_OP, 0), row_quantile (row, BENCH_NS_PER_OP, 1));
    }
  g_string_append (json, "\n]\n");

  return g_file_set_contents (path, json->str, json->len, error);
}

/* A file that cannot be written is better known now than in three minutes. */
static gboolean
json_is_writable (const char *path)
{
  FILE *file = g_fopen (path, "a");

  if (file == NULL)
    {
      g_printerr ("benchmark: %s: %s\n", path, g_strerror (errno));
      return FALSE;
    }
  fclose (file);

  return TRUE;
}

static gboolean
check_options (int argc,
               GError **error)
{
  if (argc > 1)
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "No arguments are expected");
  else if (opt_rounds < 1)
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--rounds must be 1 or more");

  for (guint i = 0; opt_workloads != NULL && opt_workloads[i] != NULL && *error == NULL; i++)
    {
      if (bench_workload_find (opt_workloads[i]) == NULL)
        g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "There is no workload '%s'", opt_workloads[i]);
    }

  for (guint i = 0; opt_peers != NULL && opt_peers[i] != NULL && *error == NULL; i++)
    {
      if (bench_peer_find (opt_peers[i]) == NULL)
        g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "There is no peer '%s' in this build", opt_peers[i]);
    }

  return *error == NULL;
}

static char *
make_description (void)
{
  GString *text = g_string_new ("Workloads:\n");

  for (const BenchWorkload *workload = bench_workloads; workload->name != NULL; workload++)
    g_string_append_printf (text, "  %-25s %s\n", workload->name, workload->description);

  g_string_append (text, "\nPeers:\n ");
  for (const BenchPeer *peer = bench_peers; peer->name != NULL; peer++)
    g_string_append_printf (text, " %s", peer->name);

  g_string_append (text, "\n\nFor a profiler, --one WORKLOAD PEER N measures once, in its own process.\n");

  return g_string_free (text, FALSE);
}

static gboolean
parse_options (int *argc,
               char ***argv)
{
  const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_FILENAME, &opt_json, "Also write the figures to FILE", "FILE" },
    { "workload", 0, 0, G_OPTION_ARG_STRING_ARRAY, &opt_workloads, "Only this workload; may be repeated", "NAME" },
    { "peer", 0, 0, G_OPTION_ARG_STRING_ARRAY, &opt_peers, "Only this peer; may be repeated", "NAME" },
    { "rounds", 0, 0, G_OPTION_ARG_INT, &opt_rounds, "How often all is repeated (default: 5)", "N" },
    { "quick", 0, 0, G_OPTION_ARG_NONE, &opt_quick, "One short round, to see that it works", NULL },
    { NULL }
  };
  g_autoptr (GOptionContext) context = g_option_context_new ("- what QTask costs, beside its peers");
  g_autoptr (GError) error = NULL;
  g_autofree char *description = make_description ();

  g_option_context_add_main_entries (context, entries, NULL);
  g_option_context_set_description (context, description);

  if (!g_option_context_parse (context, argc, argv, &error) || !check_options (*argc, &error))
    {
      g_autofree char *help = g_option_context_get_help (context, TRUE, NULL);

      g_printerr ("benchmark: %s\n\n%s", error->message, help);
      return FALSE;
    }

  return TRUE;
}

int
main (int argc,
      char *argv[])
{
  g_autoptr (GPtrArray) rows = NULL;
  g_autoptr (GError) error = NULL;
  const char *program = argv[0];
  double load = 0;
  guint n_failed;
  int status;

  if (bench_process_is_child (argc, argv, &status))
    return status;
  if (argc == 5 && g_str_equal (argv[1], "--one"))
    return run_one (argv[2], argv[3], argv[4]);

  if (!parse_options (&argc, &argv))
    return 2;

  if (opt_quick)
    opt_rounds = 1;
  if (opt_json != NULL && !json_is_writable (opt_json))
    return 1;

  rows = make_rows ();
  if (rows->len == 0)
    {
      g_printerr ("benchmark: these workloads are not measured with these peers\n");
      return 2;
    }

  getloadavg (&load, 1);
  n_failed = measure (rows, program);
  print_table (rows, load);

  if (opt_json != NULL && !write_json (rows, opt_json, &error))
    {
      g_printerr ("benchmark: %s\n", error->message);
      return 1;
    }

  return n_failed == 0 ? 0 : 1;
}
