/* benchmark-workloads.h: what is measured
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "benchmark-peers.h"

G_BEGIN_DECLS

typedef enum {
  BENCH_NS_PER_OP,
  BENCH_CPU_NS_PER_OP,
  BENCH_CALL_NS_PER_OP,
  BENCH_BYTES_PER_TASK,
  BENCH_P99_US,
  BENCH_MAX_US,
  BENCH_P99_US_AT_0,
  BENCH_MAX_US_AT_0,
  BENCH_P99_US_AT_120,
  BENCH_MAX_US_AT_120,
  BENCH_PAUSE_US,
  BENCH_N_METRICS
} BenchMetric;

/* The key of each metric in the JSON file. */
extern const char *const bench_metric_names[BENCH_N_METRICS];

typedef struct
{
  const char *name;

  /* One line: what is measured, and per what. */
  const char *description;

  /* Measures once, with n requests to peer. Sets the metrics that apply, the
   * others are NAN. */
  void (*run) (const BenchPeer *peer,
               gsize            n,
               double          *metrics);

  /* The same where its name tells what to measure. */
  void (*run_named) (const char      *name,
                     const BenchPeer *peer,
                     gsize            n,
                     double          *metrics);
} BenchWorkload;

/* Sorted as they are shown, ends with a workload without a name. */
extern const BenchWorkload bench_workloads[];

const BenchWorkload *bench_workload_find (const char *name);

G_END_DECLS
