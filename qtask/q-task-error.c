/* q-task-error.c: QTaskError
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "config.h"

#include "q-task-error.h"

/**
 * q_task_error_quark:
 *
 * Gets the error domain of QTask; see [error@QTask.TaskError].
 *
 * May be called from any thread.
 *
 * Returns: the error domain
 *
 * Since: 1.0
 */
GQuark
q_task_error_quark (void)
{
  return g_quark_from_static_string ("q-task-error-quark");
}
