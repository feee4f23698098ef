/* q-task-soup-private.h: what requests and WebSockets have in common
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-soup.h"

G_BEGIN_DECLS

/* Binds @task to an object that stands for its client, and that the task keeps. Returns FALSE
 * if it has a client already, which is a mistake. */
gboolean q_task_soup_add_client    (QTask          *task,
                                    QTaskBindFlags  flags);

/* The client has left before the task has completed: stops the task, unless it is to outlive
 * its client. Called by the owner. */
void     q_task_soup_remove_client (QTask          *task,
                                    QTaskBindFlags  flags);

/* Destroys the source, if there is one. Called by the owner. */
void     q_task_soup_clear_source  (GSource       **source);

G_END_DECLS
