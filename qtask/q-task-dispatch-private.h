/* q-task-dispatch-private.h: delivery to the owner of a GMainContext
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

#include "q-task-queue-private.h"

G_BEGIN_DECLS

typedef struct _QTaskDispatch QTaskDispatch;
typedef struct _QTaskDelivery QTaskDelivery;

/* Called once for each delivery: by the owner, or with @lost TRUE in some thread
 * when there is none: the context has gone, or there never was one. */
typedef void (*QTaskDeliveryFunc) (QTaskDelivery *delivery,
                                   gboolean       lost);

/* The same for the nodes of tasks, which have no room for a function. */
typedef void (*QTaskNodeFunc)     (QTaskNode     *node,
                                   gboolean       lost);

/* Called when a context has gone, before its deliveries are lost. */
typedef void (*QTaskLostFunc)     (QTaskDispatch *dispatch);

struct _QTaskDelivery
{
  QTaskNode         node;
  QTaskDeliveryFunc func;
};

/* How the calling thread came to own a context. */
typedef enum {
  Q_TASK_OWNER_NOT,
  Q_TASK_OWNER_ALREADY,
  Q_TASK_OWNER_ACQUIRED
} QTaskOwnership;

QTaskDispatch *q_task_dispatch_ref_for_context (GMainContext  *context);
QTaskDispatch *q_task_dispatch_get_ownerless   (void);
QTaskDispatch *q_task_dispatch_ref             (QTaskDispatch *dispatch);
void           q_task_dispatch_unref           (QTaskDispatch *dispatch);

GMainContext  *q_task_dispatch_get_context     (QTaskDispatch *dispatch);
gboolean       q_task_dispatch_has_owner       (QTaskDispatch *dispatch);
gboolean       q_task_dispatch_is_lost         (QTaskDispatch *dispatch);

guint          q_task_dispatch_get_thread_id   (void);
QTaskOwnership q_task_dispatch_acquire         (QTaskDispatch *dispatch,
                                                guint          thread_id);
gboolean       q_task_dispatch_is_next_owner   (QTaskDispatch *dispatch,
                                                guint          thread_id);
void           q_task_dispatch_release         (QTaskDispatch *dispatch,
                                                QTaskOwnership ownership);

void           q_task_dispatch_set_task_func   (QTaskNodeFunc  func);
void           q_task_dispatch_set_lost_func   (QTaskLostFunc  func);
void           q_task_dispatch_deliver         (QTaskDispatch *dispatch,
                                                QTaskNode     *node,
                                                int            priority);
gboolean       q_task_dispatch_take            (QTaskDispatch *dispatch,
                                                QTaskNode     *node);
void           q_task_dispatch_destroy_data    (QTaskDispatch *dispatch,
                                                guint          thread_id,
                                                gpointer       data,
                                                GDestroyNotify destroy);

gboolean       q_task_dispatch_set_timer       (QTaskDispatch *dispatch,
                                                QTaskDelivery *timer,
                                                gint64         when);
gboolean       q_task_dispatch_clear_timer     (QTaskDispatch *dispatch,
                                                QTaskDelivery *timer);

void           q_task_dispatch_set_is_worker   (gboolean       value);

gboolean       q_task_may_spin                 (void);
void           q_task_pause                    (void);
void           q_task_spin_briefly             (void);

G_END_DECLS
