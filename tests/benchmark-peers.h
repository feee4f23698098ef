/* benchmark-peers.h: one way to put a request to QTask and to each of its peers
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/* What the worker of every request calls, and what every completion callback
 * calls in the main loop. Set both before the first request.
 */
extern void (*bench_work) (void);
extern void (*bench_completed) (void);

typedef struct
{
  const char *name;

  /* How many requests can run at a time: as many must be blocked for the next
   * one to stay queued. */
  guint n_threads;

  /* Called once, in the main thread, before anything else. */
  void (*start) (void);

  /* Makes a request, puts it in the queue and forgets it. A priority other
   * than 0 is set where the peer knows priorities. */
  void (*submit) (int priority);

  /* One iteration of the loop that delivers; blocks while nothing is ready. */
  void (*iterate) (void);

  /* The same as submit, for a request that may be cancelled once, while it is
   * queued. NULL where a peer cannot. */
  gpointer (*submit_cancellable) (int priority);
  void (*cancel) (gpointer request);

  /* A request whose worker waits for a request, whose worker waits…, to this
   * depth. NULL where a peer cannot. */
  void (*submit_nested) (guint depth);
} BenchPeer;

/* Sorted as they are shown, ends with a peer without a name. */
extern const BenchPeer bench_peers[];

const BenchPeer *bench_peer_find (const char *name);

/* Nanoseconds of the monotonic clock, and of CPU time of the whole process. */
gint64           bench_now       (void);
gint64           bench_cpu_now   (void);

/* Ends the process with a message: there is nothing to be measured. */
void             bench_fail      (const char *format,
                                  ...) G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN;

G_END_DECLS
