/* q-task-error.h: QTaskError
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <glib-object.h>

#include <qtask/q-task-version.h>

G_BEGIN_DECLS

/**
 * Q_TASK_ERROR:
 *
 * The error domain of QTask; its codes are [error@QTask.TaskError].
 *
 * What GIO has a code for (cancelled, timed out, would block, pending, …)
 * is reported as `G_IO_ERROR` instead.
 *
 * Since: 1.0
 */
#define Q_TASK_ERROR (q_task_error_quark ())

/**
 * QTaskError:
 * @Q_TASK_ERROR_FAILED: a worker said that it failed, and not why
 * @Q_TASK_ERROR_ABANDONED: the last reference to a task was dropped before
 *   it had an outcome
 * @Q_TASK_ERROR_QUEUE_FULL: the queue of a pool is at its limit
 * @Q_TASK_ERROR_CLOSED: the pool or channel has been closed
 * @Q_TASK_ERROR_DEADLOCK: waiting could never have ended
 * @Q_TASK_ERROR_CRASHED: a worker process died
 * @Q_TASK_ERROR_PROTOCOL: the bytes from a peer are not what they must be
 * @Q_TASK_ERROR_FORKED: the call was made in a forked child, where the
 *   threads of its parent do not exist
 *
 * The errors of QTask.
 *
 * Since: 1.0
 */
typedef enum {
  Q_TASK_ERROR_FAILED,
  Q_TASK_ERROR_ABANDONED,
  Q_TASK_ERROR_QUEUE_FULL,
  Q_TASK_ERROR_CLOSED,
  Q_TASK_ERROR_DEADLOCK,
  Q_TASK_ERROR_CRASHED,
  Q_TASK_ERROR_PROTOCOL,
  Q_TASK_ERROR_FORKED
} QTaskError;

Q_TASK_AVAILABLE_IN_1_0
GQuark q_task_error_quark (void);

G_END_DECLS
