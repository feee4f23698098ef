/* q-task-channel.h: QTaskChannel, one end of a pipe of messages
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#if !defined (__QTASK_INSIDE__) && !defined (QTASK_COMPILATION)
#error "Only <qtask/qtask.h> can be included directly."
#endif

#include <gio/gio.h>

#include <qtask/q-task-error.h>
#include <qtask/q-task-version.h>

G_BEGIN_DECLS

#define Q_TYPE_TASK_CHANNEL (q_task_channel_get_type ())

Q_TASK_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (QTaskChannel, q_task_channel, Q, TASK_CHANNEL, GObject)

/**
 * QTaskChannelMessageFunc:
 * @channel: the channel
 * @message: (nullable): a message that was read, or %NULL when there are no more
 * @opaque: (closure): what was given along with the function
 *
 * Called for each message that arrives at an end, in order, and a last time with %NULL when the
 * other end has been closed and all messages were read, or the peer broke the protocol.
 *
 * Since: 1.0
 */
typedef void (*QTaskChannelMessageFunc) (QTaskChannel *channel,
                                         GBytes       *message,
                                         gpointer      opaque);

/**
 * QTaskChannelSourceFunc:
 * @channel: the channel
 * @user_data: (closure): what was given to g_source_set_callback()
 *
 * The callback of a source made with [method@QTask.TaskChannel.create_source].
 *
 * Returns: %G_SOURCE_CONTINUE or %G_SOURCE_REMOVE
 *
 * Since: 1.0
 */
typedef gboolean (*QTaskChannelSourceFunc) (QTaskChannel *channel,
                                            gpointer      user_data);

/* Make */

Q_TASK_AVAILABLE_IN_1_0
void          q_task_channel_new_pair             (QTaskChannel            **first,
                                                   QTaskChannel            **second);
Q_TASK_AVAILABLE_IN_1_0
QTaskChannel *q_task_channel_new_from_socket      (GSocket                  *socket,
                                                   GError                  **error);
Q_TASK_AVAILABLE_IN_1_0
QTaskChannel *q_task_channel_new_from_fds         (int                       in_fd,
                                                   int                       out_fd,
                                                   GError                  **error);

/* Limits */

Q_TASK_AVAILABLE_IN_1_0
gsize         q_task_channel_get_capacity         (QTaskChannel             *channel);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_channel_set_capacity         (QTaskChannel             *channel,
                                                   gsize                     capacity);
Q_TASK_AVAILABLE_IN_1_0
gsize         q_task_channel_get_max_message_size (QTaskChannel             *channel);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_channel_set_max_message_size (QTaskChannel             *channel,
                                                   gsize                     max_message_size);

/* Write */

Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_channel_write                (QTaskChannel             *channel,
                                                   gconstpointer             data,
                                                   gsize                     size,
                                                   GCancellable             *cancellable,
                                                   GError                  **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_channel_write_bytes          (QTaskChannel             *channel,
                                                   GBytes                   *message,
                                                   GCancellable             *cancellable,
                                                   GError                  **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_channel_try_write            (QTaskChannel             *channel,
                                                   GBytes                   *message,
                                                   GError                  **error);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_channel_write_async          (QTaskChannel             *channel,
                                                   GBytes                   *message,
                                                   GCancellable             *cancellable,
                                                   GAsyncReadyCallback       callback,
                                                   gpointer                  user_data);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_channel_write_finish         (QTaskChannel             *channel,
                                                   GAsyncResult             *result,
                                                   GError                  **error);

/* Read */

Q_TASK_AVAILABLE_IN_1_0
GBytes       *q_task_channel_read                 (QTaskChannel             *channel,
                                                   GCancellable             *cancellable,
                                                   GError                  **error);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_channel_read_into            (QTaskChannel             *channel,
                                                   gpointer                  buffer,
                                                   gsize                     size,
                                                   gsize                    *message_size,
                                                   GCancellable             *cancellable,
                                                   GError                  **error);
Q_TASK_AVAILABLE_IN_1_0
GBytes       *q_task_channel_try_read             (QTaskChannel             *channel,
                                                   GError                  **error);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_channel_read_async           (QTaskChannel             *channel,
                                                   GCancellable             *cancellable,
                                                   GAsyncReadyCallback       callback,
                                                   gpointer                  user_data);
Q_TASK_AVAILABLE_IN_1_0
GBytes       *q_task_channel_read_finish          (QTaskChannel             *channel,
                                                   GAsyncResult             *result,
                                                   GError                  **error);

/* Watch */

Q_TASK_AVAILABLE_IN_1_0
GSource      *q_task_channel_create_source        (QTaskChannel             *channel,
                                                   GIOCondition              condition,
                                                   GCancellable             *cancellable);
Q_TASK_AVAILABLE_IN_1_0
void          q_task_channel_set_message_func     (QTaskChannel             *channel,
                                                   QTaskChannelMessageFunc   func,
                                                   gpointer                  opaque,
                                                   GDestroyNotify            destroy);
Q_TASK_AVAILABLE_IN_1_0
int           q_task_channel_get_fd               (QTaskChannel             *channel,
                                                   GError                  **error);

/* Close */

Q_TASK_AVAILABLE_IN_1_0
void          q_task_channel_close                (QTaskChannel             *channel);
Q_TASK_AVAILABLE_IN_1_0
gboolean      q_task_channel_is_closed            (QTaskChannel             *channel);

G_END_DECLS
