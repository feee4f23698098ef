/* benchmark-processes.h: what worker processes cost
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "benchmark-workloads.h"

G_BEGIN_DECLS

/* What they measure is named process-start, and process-request- with the size in bytes. */
void     bench_process_run      (const char      *workload,
                                 const BenchPeer *peer,
                                 gsize            n,
                                 double          *metrics);

/* Whether this program was started as one of the processes; then it has been one. */
gboolean bench_process_is_child (int              argc,
                                 char           **argv,
                                 int             *status);

G_END_DECLS
