/* q-task-run.h: the verbs that join tasks and pools
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <qtask/q-task-pool.h>

G_BEGIN_DECLS

Q_TASK_AVAILABLE_IN_1_0
void q_task_run_in_thread      (QTask          *task,
                                QTaskWorker     worker,
                                gpointer        opaque,
                                GDestroyNotify  destroy);
Q_TASK_AVAILABLE_IN_1_0
void q_task_run_in_thread_sync (QTask          *task,
                                QTaskWorker     worker,
                                gpointer        opaque,
                                GDestroyNotify  destroy);

G_END_DECLS
