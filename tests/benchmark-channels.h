/* benchmark-channels.h: what messages cost
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "benchmark-workloads.h"

G_BEGIN_DECLS

/* The names of what they measure begin so; see benchmark-channels.c. */
void bench_channel_run         (const char      *workload,
                                const BenchPeer *peer,
                                gsize            n,
                                double          *metrics);
void bench_sync_round_trip_run (const BenchPeer *peer,
                                gsize            n,
                                double          *metrics);

G_END_DECLS
