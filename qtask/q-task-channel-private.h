/* q-task-channel-private.h: what a task does with its channel
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-channel.h"
#include "q-task-dispatch-private.h"

G_BEGIN_DECLS

/* Called by the owner: calls the message function for each message there is, and for the
 * end if that is reached. Has no effect where none is set, or for another dispatch. */
void     q_task_channel_flush_messages (QTaskChannel  *channel,
                                        QTaskDispatch *dispatch);

/* The same for an owner that waits: goes on for no longer than a slice, and returns whether any
 * function was called. */
gboolean q_task_channel_serve_messages (QTaskChannel  *channel,
                                        QTaskDispatch *dispatch);

/* Ends in memory only: sets the message function for the owner of @dispatch, or the thread
 * @thread_id; see q_task_dispatch_acquire(). */
void     q_task_channel_set_owner_func (QTaskChannel            *channel,
                                        QTaskDispatch           *dispatch,
                                        guint                    thread_id,
                                        QTaskChannelMessageFunc  func,
                                        gpointer                 opaque);

/* Called by the owner: the message function, if it is of @dispatch, is not called any more. Returns
 * whether there was one. */
gboolean q_task_channel_drop_message_func (QTaskChannel  *channel,
                                           QTaskDispatch *dispatch);

/* Ends in memory only: @func is called, in any thread and with no lock of the channel held,
 * at least each time that this end comes to have something to read, the end included. What
 * is there already is not told: look after setting it. Setting another one, or NULL, waits
 * for a call that goes on in another thread: hold no lock that @func takes. */
void     q_task_channel_set_notify     (QTaskChannel  *channel,
                                        void         (*func) (gpointer data),
                                        gpointer       data);

G_END_DECLS
