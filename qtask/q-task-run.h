/* q-task-run.h: the verbs that join tasks with pools, objects and channels
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <qtask/q-task-launcher.h>
#include <qtask/q-task-pool.h>

G_BEGIN_DECLS

/**
 * QTaskBindFlags:
 * @Q_TASK_BIND_DEFAULT: when the object goes, the task is asked to stop
 * @Q_TASK_BIND_OUTLIVE: when the object goes, the task runs on, detached
 *
 * How a task is bound.
 *
 * Since: 1.0
 */
typedef enum /*< flags >*/ {
  Q_TASK_BIND_DEFAULT = 0,
  Q_TASK_BIND_OUTLIVE = 1 << 0
} QTaskBindFlags;

/**
 * QTaskBindFunc:
 * @task: the task
 * @message: (nullable): a message that the worker wrote to its channel, or %NULL when the task
 *   has completed
 * @opaque: (closure): what was given along with the function
 *
 * Called by the owner of @task for each message, and a last time with %NULL when the task has
 * completed, directly before its callback.
 *
 * Since: 1.0
 */
typedef void (*QTaskBindFunc) (QTask    *task,
                               GBytes   *message,
                               gpointer  opaque);

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
Q_TASK_AVAILABLE_IN_1_0
void q_task_run_steps_in_thread (QTask          *task,
                                 QTaskStepWorker worker,
                                 gpointer        opaque,
                                 GDestroyNotify  destroy);
Q_TASK_AVAILABLE_IN_1_0
void q_task_run_in_process     (QTask          *task,
                                QTaskLauncher  *launcher,
                                GVariant       *request);
Q_TASK_AVAILABLE_IN_1_0
void q_task_bind_object        (QTask          *task,
                                GObject        *object,
                                QTaskBindFlags  flags);
Q_TASK_AVAILABLE_IN_1_0
void q_task_bind_callback      (QTask          *task,
                                QTaskBindFunc   func,
                                gpointer        opaque,
                                GDestroyNotify  destroy);

G_END_DECLS
