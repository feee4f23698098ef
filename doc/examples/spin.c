/* spin.c: a task as plain C functions, in a shared library
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/q-task-export.h>

#include "spin.h"

#define MAX_SPINS (G_GUINT64_CONSTANT (1) << 40)

/* Counts up to what it was asked for. If it is cancelled before, what it has is a result, where
 * there was no end to come to, and an error, where there was. */
static gboolean
spin_run (QTask *task,
          const SpinArgs *args,
          SpinResult *result,
          GError **error)
{
  gint64 start = g_get_monotonic_time ();

  if (args->max_spins > MAX_SPINS)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                   "Nobody will live to see %" G_GUINT64_FORMAT " spins", args->max_spins);
      return FALSE;
    }

  while (args->max_spins == 0 || result->n_spins < args->max_spins)
    {
      if (q_task_is_cancelled (task))
        break;

      result->n_spins++;
    }

  result->seconds = (double) (g_get_monotonic_time () - start) / G_USEC_PER_SEC;

  return args->max_spins == 0 || result->n_spins == args->max_spins;
}

Q_TASK_EXPORT (spin, SpinArgs, SpinResult, spin_run)
