/* q-task-group-private.h: what a QTaskGroup, its tasks and those who wait for it share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-group.h"
#include "q-task-private.h"

G_BEGIN_DECLS

/* A task in a group. Who has it holds a reference: its task until that has completed, the core
 * likewise, the list, and the queue of those to be looked at. With the lock of the core, unless
 * told otherwise. */
struct _QTaskMember
{
  QTaskNode       timed;         /* when a waiting owner is to look at it */
  QTaskMember    *prev;          /* of those that have not completed; in the order they came */
  QTaskMember    *next;
  QTaskMember    *next_pending;  /* of those to be listed */
  QTaskMember    *next_woken;    /* of those that a waiting owner is to look at */
  QTaskGroupCore *core;          /* owned, constant */
  QTask          *task;          /* owned, constant */
  GSequenceIter  *iter;          /* in the list, or NULL; by the owner */
  double          progress;      /* as last heard of */
  GError         *error;         /* of the outcome, while none has completed */
  gboolean        is_fixed;      /* it has its outcome */
  gboolean        is_completed;  /* read atomically */
  gboolean        is_cleared;    /* off the list for good; by the owner */
  gboolean        is_pending;
  gboolean        is_woken;
  gboolean        is_watched;    /* its owner waits for it here */
  gboolean        is_handed;     /* ... and nobody else does */
  gboolean        is_unstarted;  /* as last seen by its owner, who waits */
  gint64          start_time;    /* until when others who added it may start it; constant */
  gboolean        is_over;       /* its callback runs, and in it its owner waits */
};

struct _QTaskGroup
{
  GObject         parent_instance;

  QTaskGroupCore *core;          /* owned, constant */
  GSequence      *list;          /* of members; by the owner */
};

typedef enum {
  Q_TASK_GROUP_PROP_0,
  Q_TASK_GROUP_PROP_FLAGS,
  Q_TASK_GROUP_PROP_PROGRESS,
  Q_TASK_GROUP_PROP_IS_CLOSED,
  Q_TASK_GROUP_PROP_IS_CANCELLED,
  Q_TASK_GROUP_PROP_N_ITEMS,
  Q_TASK_GROUP_N_PROPS
} QTaskGroupProp;

/* What outlives the group: its tasks refer to it. */
struct _QTaskGroupCore
{
  int             ref_count;     /* atomic */
  GWeakRef        group;
  QTaskDispatch  *dispatch;      /* owned, constant */
  guint           thread_id;     /* constant; that made it */
  QTaskGroupFlags flags;         /* constant */
  GMutex          lock;
  GCond           cond;          /* something has changed */
  gboolean        is_closed;
  gboolean        is_cancelled;
  gboolean        is_failed;     /* ... by the error of a task */
  QTaskMember    *first;         /* of those that have not completed */
  QTaskMember    *last;
  guint           n_running;     /* ... and how many they are */
  gsize           n_added;
  gsize           n_completed;
  gsize           n_fixed;
  double          progress;      /* the sum over those that have not completed */
  GError         *error;         /* the first */
  GError         *first_fixed;   /* error of the first that had its outcome */
  GError         *first_completed; /* error of the first that completed */

  /* For the owner, who is told by a delivery, or by a timer, which have a reference each */
  QTaskMember    *pending;       /* to be listed */
  QTaskMember    *pending_last;
  gboolean        tells_closed;
  gboolean        tells_cancelled;
  gboolean        clears;        /* what has completed off the list */
  gboolean        is_told;       /* the delivery is on its way */
  QTaskDelivery   delivery;
  gboolean        is_timed;      /* the timer is set */
  gint64          notified_at;   /* of progress */
  QTaskDelivery   timer;

  /* Waiting */
  guint           n_blocked;     /* on the condition */
  guint           n_owner_waits; /* inside of one another */
  QTaskQueue      timed;
  QTaskMember    *woken;
  QTaskMember    *woken_last;
  guint           n_unstarted;
  guint           n_over;
  GQueue          waiters;       /* results of asynchronous calls */
};

/* q-task-group-core.c */
QTaskGroupCore *q_task_group_core_new       (QTaskGroup         *group);
QTaskGroupCore *q_task_group_core_ref       (QTaskGroupCore     *core);
void            q_task_group_core_unref     (QTaskGroupCore     *core);
GPtrArray      *q_task_group_core_list      (QTaskGroupCore     *core,
                                             gboolean            with_fixed);
void            q_task_group_core_cancel    (QTaskGroupCore     *core,
                                             QTask              *failed);
void            q_task_group_core_drop      (QTaskGroupCore     *core);
void            q_task_group_core_cancel_on_error (QTaskGroupCore *core,
                                             QTask              *failed);
QTaskMember    *q_task_member_new           (QTaskGroupCore     *core,
                                             QTask              *task);
QTaskMember    *q_task_member_ref           (QTaskMember        *member);
void            q_task_member_unref         (QTaskMember        *member);

/* q-task-group-list.c */
GSequence      *q_task_group_list_new       (void);
void            q_task_group_list_init_model (GListModelInterface *iface);
void            q_task_group_list_update    (QTaskGroup         *group);
void            q_task_group_list_remove    (QTaskGroup         *group,
                                             QTaskMember        *member);
void            q_task_group_list_add_pending_locked (QTaskMember *member);
void            q_task_group_list_drop_pending (QTaskGroupCore  *core);
void            q_task_group_core_serve     (QTaskGroupCore     *core);
gboolean        q_task_group_core_is_to_serve_locked (QTaskGroupCore *core);
void            q_task_group_core_tell_owner (QTaskGroupCore    *core);
void            q_task_group_core_serve_soon (QTaskGroupCore    *core);
void            q_task_group_core_progress_changed (QTaskGroupCore *core);
gint64          q_task_group_core_get_due   (QTaskGroupCore     *core);
void            q_task_group_core_flush_progress (QTaskGroupCore *core);

/* q-task-group-wait.c */
void            q_task_member_watch         (QTaskMember        *member);
void            q_task_member_unwatch       (QTaskMember        *member);
void            q_task_member_wake_locked   (QTaskMember        *member);
void            q_task_member_ignore_locked (QTaskMember        *member);
void            q_task_group_core_tell      (QTaskGroupCore     *core);

/* q-task-group-member.c */
extern const QTaskMemberFuncs q_task_group_member_funcs;

void            q_task_group_core_forget_members (QTaskGroupCore *core);

/* q-task-group.c */
QTaskGroupCore *q_task_group_get_core       (QTaskGroup         *group);
void            q_task_group_notify         (QTaskGroup         *group,
                                             QTaskGroupProp      prop);

G_END_DECLS
