/* q-task-group.h: QTaskGroup, a set of tasks with one fate
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <qtask/q-task.h>

G_BEGIN_DECLS

#define Q_TYPE_TASK_GROUP (q_task_group_get_type ())

Q_TASK_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (QTaskGroup, q_task_group, Q, TASK_GROUP, GObject)

/**
 * QTaskGroupFlags:
 * @Q_TASK_GROUP_DEFAULT: a task that fails leaves the others alone, and a task that has
 *   completed leaves the list
 * @Q_TASK_GROUP_CANCEL_ON_ERROR: the first task that ends with an error has the group
 *   cancelled
 * @Q_TASK_GROUP_KEEP_COMPLETED: tasks stay in the list when they have completed, until
 *   [method@QTask.TaskGroup.clear_completed]
 *
 * How a group behaves.
 *
 * Since: 1.0
 */
typedef enum /*< flags >*/ {
  Q_TASK_GROUP_DEFAULT         = 0,
  Q_TASK_GROUP_CANCEL_ON_ERROR = 1 << 0,
  Q_TASK_GROUP_KEEP_COMPLETED  = 1 << 1
} QTaskGroupFlags;

/**
 * QTaskGroupWaitMode:
 * @Q_TASK_GROUP_ALL: until no task is left that has not completed
 * @Q_TASK_GROUP_ANY: until one task has completed
 *
 * What [method@QTask.TaskGroup.wait] waits for.
 *
 * Since: 1.0
 */
typedef enum {
  Q_TASK_GROUP_ALL,
  Q_TASK_GROUP_ANY
} QTaskGroupWaitMode;

Q_TASK_AVAILABLE_IN_1_0
QTaskGroup      *q_task_group_new             (QTaskGroupFlags       flags);

Q_TASK_AVAILABLE_IN_1_0
QTaskGroupFlags  q_task_group_get_flags       (QTaskGroup           *group);
Q_TASK_AVAILABLE_IN_1_0
double           q_task_group_get_progress    (QTaskGroup           *group);
Q_TASK_AVAILABLE_IN_1_0
gboolean         q_task_group_is_closed       (QTaskGroup           *group);
Q_TASK_AVAILABLE_IN_1_0
gboolean         q_task_group_is_cancelled    (QTaskGroup           *group);

Q_TASK_AVAILABLE_IN_1_0
gboolean         q_task_group_add             (QTaskGroup           *group,
                                               QTask                *task,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
void             q_task_group_cancel          (QTaskGroup           *group);
Q_TASK_AVAILABLE_IN_1_0
void             q_task_group_close           (QTaskGroup           *group);
Q_TASK_AVAILABLE_IN_1_0
void             q_task_group_clear_completed (QTaskGroup           *group);

Q_TASK_AVAILABLE_IN_1_0
gboolean         q_task_group_wait            (QTaskGroup           *group,
                                               QTaskGroupWaitMode    mode,
                                               GCancellable         *cancellable,
                                               GError              **error);
Q_TASK_AVAILABLE_IN_1_0
void             q_task_group_wait_async      (QTaskGroup           *group,
                                               QTaskGroupWaitMode    mode,
                                               GCancellable         *cancellable,
                                               GAsyncReadyCallback   callback,
                                               gpointer              user_data);
Q_TASK_AVAILABLE_IN_1_0
gboolean         q_task_group_wait_finish     (QTaskGroup           *group,
                                               GAsyncResult         *result,
                                               GError              **error);

G_END_DECLS
