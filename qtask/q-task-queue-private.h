/* q-task-queue-private.h: an intrusive priority queue, FIFO among equals
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* What a node is to its queue. */
typedef enum {
  Q_TASK_NODE_OUT,      /* in no queue: the links are free for other use */
  Q_TASK_NODE_LEADER,   /* in the heap */
  Q_TASK_NODE_FOLLOWER  /* in the ring of the leader of its key */
} QTaskNodeRole;

typedef struct _QTaskNode QTaskNode;

/* Embedded in whatever is queued; zero-filled is a valid node in no queue.
 *
 *              leader                        follower
 *   a          first child in the heap       leader, in the last of the ring only
 *   next       next sibling in the heap      next in the ring (circular)
 *   prev       previous sibling, or parent   previous in the ring (circular)
 *   last       last follower, or NULL        unused
 */
struct _QTaskNode
{
  QTaskNode *a;
  QTaskNode *next;
  QTaskNode *prev;
  QTaskNode *last;
  gint64     key;        /* lowest first; not to be changed while queued */
  guint64    order : 61; /* of leaders: which of equal keys came first */
  guint64    role : 2;   /* QTaskNodeRole */
  guint64    is_task : 1; /* of a task, and not of a delivery; set before it is used */
};

#define Q_TASK_QUEUE_RECENT 4
#define Q_TASK_QUEUE_TREES  32

/* Zero-filled is an empty queue. */
typedef struct
{
  QTaskNode *first;
  QTaskNode *root;                      /* of the heap, without the trees */
  QTaskNode *trees[Q_TASK_QUEUE_TREES]; /* of 2ⁿ leaders each, since the last removal */
  guint32    has_tree;                  /* a bit for each */
  QTaskNode *recent[Q_TASK_QUEUE_RECENT]; /* newest leader of a key, by key */
  guint64    order;
  guint      length;
} QTaskQueue;

static inline QTaskNode *
q_task_queue_peek (QTaskQueue *queue)
{
  return queue->first;
}

static inline gboolean
q_task_node_is_queued (const QTaskNode *node)
{
  return node->role != Q_TASK_NODE_OUT;
}

typedef void (*QTaskQueueFunc) (QTaskNode *node,
                                gpointer   user_data);

void       q_task_queue_insert  (QTaskQueue     *queue,
                                 QTaskNode      *node,
                                 gint64          key);
void       q_task_queue_insert_stack (QTaskQueue *queue,
                                 QTaskNode      *stack);
QTaskNode *q_task_queue_pop     (QTaskQueue     *queue);
void       q_task_queue_remove  (QTaskQueue     *queue,
                                 QTaskNode      *node);
void       q_task_queue_foreach (QTaskQueue     *queue,
                                 QTaskQueueFunc  func,
                                 gpointer        user_data);

G_END_DECLS
