/* q-task-soup.h: tasks that answer HTTP requests and feed WebSockets
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <libsoup/soup.h>
#include <qtask/qtask.h>

G_BEGIN_DECLS

/**
 * QTaskSoupRequestFunc:
 * @task: the task
 * @request: the request that @task answers
 * @message: (nullable): a message that the worker wrote to its channel, or %NULL when @task has
 *   completed
 * @opaque: (closure): what was given along with the function
 *
 * Called by the owner of @task for each message of the worker, and a last time with %NULL when
 * the task has completed, directly before its callback. It may set the status of the response,
 * and add to its headers and to its body.
 *
 * It is not called any more when the client has left.
 *
 * Since: 1.0
 */
typedef void (*QTaskSoupRequestFunc) (QTask             *task,
                                      SoupServerMessage *request,
                                      GBytes            *message,
                                      gpointer           opaque);

Q_TASK_AVAILABLE_IN_1_0
void q_task_soup_bind_request   (QTask                   *task,
                                 SoupServerMessage       *request,
                                 QTaskBindFlags           flags,
                                 QTaskSoupRequestFunc     func,
                                 gpointer                 opaque,
                                 GDestroyNotify           destroy);
Q_TASK_AVAILABLE_IN_1_0
void q_task_soup_bind_websocket (QTask                   *task,
                                 SoupWebsocketConnection *connection,
                                 SoupWebsocketDataType    type,
                                 QTaskBindFlags           flags);

G_END_DECLS
