/* benchmark-groups.h: what parallel loops and groups of tasks cost
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "benchmark-workloads.h"

G_BEGIN_DECLS

/* The names of what they measure begin so; see benchmark-groups.c. */
void bench_parallel_for_run (const char      *workload,
                             const BenchPeer *peer,
                             gsize            n,
                             double          *metrics);
void bench_group_run        (const char      *workload,
                             const BenchPeer *peer,
                             gsize            n,
                             double          *metrics);

G_END_DECLS
