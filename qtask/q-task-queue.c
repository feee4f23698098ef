/* q-task-queue.c: an intrusive priority queue, FIFO among equals
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A pairing heap of leaders, each with a ring of followers that have the key
 * of their leader and came after it. Inserting beside an equal key that is
 * among the recent ones, and popping one of many equals, are O(1); everything
 * else is O(log n) amortized. Nothing is allocated, and nothing recurses: a
 * heap may be as deep as it has nodes.
 *
 * What is inserted is first melded into trees of 2ⁿ nodes, as one adds to a binary number,
 * and those into the heap when something is removed: were each melded into the heap, the
 * root would have all of them as its children, and its removal would have to go through
 * them.
 *
 * FIFO among equals: followers are only ever added to the newest leader of
 * their key, and leaders of equal keys are ordered by when they came, so
 * whoever came earlier is before.
 *
 * Keys are compared, never subtracted: they may be any number.
 *
 * The owner of a queue protects it; functions here take no lock.
 *
 * Pairing heaps: Fredman, Sedgewick, Sleator, Tarjan, "The pairing heap: a new
 * form of self-adjusting heap", Algorithmica 1 (1986).
 */

#include "config.h"

#include "q-task-queue-private.h"

static inline QTaskNode **
recent_slot (QTaskQueue *queue,
             gint64 key)
{
  return &queue->recent[(guint64) key % Q_TASK_QUEUE_RECENT];
}

static inline gboolean
is_before (const QTaskNode *a,
           const QTaskNode *b)
{
  return a->key != b->key ? a->key < b->key : a->order < b->order;
}

/* Makes one heap of two; both are roots without siblings. */
static QTaskNode *
meld (QTaskNode *x,
      QTaskNode *y)
{
  if (x == NULL)
    return y;

  if (y == NULL)
    return x;

  if (is_before (y, x))
    {
      QTaskNode *swap = x;

      x = y;
      y = swap;
    }

  y->prev = x;
  y->next = x->a;
  if (x->a != NULL)
    x->a->prev = y;
  x->a = y;

  return x;
}

/* Makes one heap of a list of siblings: melds pairs from the left, then all of
 * those from the right. */
static QTaskNode *
meld_siblings (QTaskNode *first)
{
  QTaskNode *pairs = NULL;
  QTaskNode *root = NULL;

  while (first != NULL)
    {
      QTaskNode *x = first;
      QTaskNode *y = x->next;

      first = y != NULL ? y->next : NULL;

      x->prev = x->next = NULL;
      if (y != NULL)
        y->prev = y->next = NULL;

      x = meld (x, y);
      x->next = pairs;
      pairs = x;
    }

  while (pairs != NULL)
    {
      QTaskNode *x = pairs;

      pairs = x->next;
      x->next = NULL;
      root = meld (root, x);
    }

  return root;
}

/* Melds the trees into the heap; its root is the first then. */
static void
meld_trees (QTaskQueue *queue)
{
  for (int i = 0; queue->has_tree != 0; i++)
    {
      guint32 bit = (guint32) 1 << i;

      if ((queue->has_tree & bit) == 0)
        continue;

      queue->root = meld (queue->root, queue->trees[i]);
      queue->has_tree &= ~bit;
    }
}

/* Takes @with, which has no place yet, in where @node was. */
static void
replace_in_heap (QTaskQueue *queue,
                 QTaskNode *node,
                 QTaskNode *with)
{
  with->a = node->a;
  with->next = node->next;
  with->prev = node->prev;

  if (with->a != NULL)
    with->a->prev = with;

  if (with->next != NULL)
    with->next->prev = with;

  if (with->prev == NULL)
    queue->root = with;
  else if (with->prev->a == node)
    with->prev->a = with;
  else
    with->prev->next = with;
}

/* Takes a leader that is not the root, with all below it, out of the heap. */
static void
cut (QTaskNode *node)
{
  if (node->prev->a == node)
    node->prev->a = node->next;
  else
    node->prev->next = node->next;

  if (node->next != NULL)
    node->next->prev = node->prev;

  node->prev = node->next = NULL;
}

static void
ring_append (QTaskNode *leader,
             QTaskNode *node)
{
  QTaskNode *last = leader->last;

  if (last == NULL)
    {
      node->next = node->prev = node;
    }
  else
    {
      node->next = last->next;
      node->prev = last;
      last->next->prev = node;
      last->next = node;
      last->a = NULL;
    }

  node->a = leader;
  node->last = NULL;
  node->role = Q_TASK_NODE_FOLLOWER;
  leader->last = node;
}

static void
ring_remove (QTaskNode *node)
{
  QTaskNode *leader = node->a;

  node->next->prev = node->prev;
  node->prev->next = node->next;

  if (leader != NULL)
    {
      QTaskNode *last = node->prev != node ? node->prev : NULL;

      leader->last = last;
      if (last != NULL)
        last->a = leader;
    }
}

/* The first follower of @leader takes its place. */
static void
promote_follower (QTaskQueue *queue,
                  QTaskNode *leader)
{
  QTaskNode *node = leader->last->next;
  QTaskNode **recent = recent_slot (queue, leader->key);

  ring_remove (node);

  node->role = Q_TASK_NODE_LEADER;
  node->order = leader->order;
  node->last = leader->last;
  if (node->last != NULL)
    node->last->a = node;

  replace_in_heap (queue, leader, node);

  if (*recent == leader)
    *recent = node;
}

void
q_task_queue_insert (QTaskQueue *queue,
                     QTaskNode *node,
                     gint64 key)
{
  QTaskNode **recent = recent_slot (queue, key);

  g_assert (!q_task_node_is_queued (node));

  node->key = key;
  queue->length++;

  if (*recent != NULL && (*recent)->key == key)
    {
      ring_append (*recent, node);
      return;
    }

  node->a = node->next = node->prev = node->last = NULL;
  node->order = queue->order++;
  node->role = Q_TASK_NODE_LEADER;

  *recent = node;

  if (queue->first == NULL || is_before (node, queue->first))
    queue->first = node;

  for (int i = 0;; i++)
    {
      guint32 bit = (guint32) 1 << i;

      if ((queue->has_tree & bit) == 0)
        {
          queue->trees[i] = node;
          queue->has_tree |= bit;
          return;
        }

      node = meld (node, queue->trees[i]);
      queue->has_tree &= ~bit;
    }
}

/* Appends the list from @first to @last, linked as followers are, to those of @leader. */
static void
ring_append_list (QTaskNode *leader,
                  QTaskNode *first,
                  QTaskNode *last)
{
  QTaskNode *old_last = leader->last;

  if (old_last == NULL)
    {
      first->prev = last;
      last->next = first;
    }
  else
    {
      last->next = old_last->next;
      old_last->next->prev = last;
      old_last->next = first;
      first->prev = old_last;
      old_last->a = NULL;
    }

  last->a = leader;
  leader->last = last;
}

/* Inserts a list that is linked by next, what came last being first in it, with the keys that
 * its nodes have. Usually these are all the same: then each node is touched once, since it is
 * likely to come from the cache of another processor. */
void
q_task_queue_insert_stack (QTaskQueue *queue,
                           QTaskNode *stack)
{
  QTaskNode *last = stack;
  QTaskNode *first = NULL;
  gint64 key = stack->key;
  gboolean same_key = TRUE;
  guint n = 0;

  /* From the last to the first, making followers of them. */
  while (stack != NULL)
    {
      QTaskNode *node = stack;

      stack = node->next;
      same_key &= node->key == key;
      node->next = first;
      node->prev = stack;
      node->a = NULL;
      node->last = NULL;
      node->role = Q_TASK_NODE_FOLLOWER;
      first = node;
      n++;
    }

  if (same_key)
    {
      QTaskNode *leader = *recent_slot (queue, key);

      if (leader == NULL || leader->key != key)
        {
          leader = first;
          first = first->next;
          n--;
          leader->role = Q_TASK_NODE_OUT;
          q_task_queue_insert (queue, leader, key);
        }

      if (first != NULL)
        ring_append_list (leader, first, last);

      queue->length += n;
      return;
    }

  while (first != NULL)
    {
      QTaskNode *node = first;

      first = node->next;
      node->role = Q_TASK_NODE_OUT;
      q_task_queue_insert (queue, node, node->key);
    }
}

void
q_task_queue_remove (QTaskQueue *queue,
                     QTaskNode *node)
{
  g_assert (q_task_node_is_queued (node));

  queue->length--;

  if (node->role == Q_TASK_NODE_LEADER)
    meld_trees (queue);

  if (node->role == Q_TASK_NODE_FOLLOWER)
    {
      ring_remove (node);
    }
  else if (node->last != NULL)
    {
      promote_follower (queue, node);
    }
  else
    {
      QTaskNode **recent = recent_slot (queue, node->key);

      if (*recent == node)
        *recent = NULL;

      if (node == queue->root)
        {
          queue->root = meld_siblings (node->a);
        }
      else
        {
          cut (node);
          queue->root = meld (queue->root, meld_siblings (node->a));
        }
    }

  if (node->role == Q_TASK_NODE_LEADER)
    queue->first = queue->root;

  node->a = node->next = node->prev = node->last = NULL;
  node->role = Q_TASK_NODE_OUT;
}

QTaskNode *
q_task_queue_pop (QTaskQueue *queue)
{
  QTaskNode *node = queue->first;

  if (node != NULL)
    q_task_queue_remove (queue, node);

  return node;
}

/* Calls @func for each node, in no particular order. It may not change the
 * queue. */
void
q_task_queue_foreach (QTaskQueue *queue,
                      QTaskQueueFunc func,
                      gpointer user_data)
{
  QTaskNode *node;

  meld_trees (queue);
  node = queue->root;

  while (node != NULL)
    {
      if (node->last != NULL)
        {
          QTaskNode *follower = node->last;

          do
            {
              follower = follower->next;
              func (follower, user_data);
            }
          while (follower != node->last);
        }

      func (node, user_data);

      if (node->a != NULL)
        {
          node = node->a;
          continue;
        }

      /* Up to the first ancestor with a sibling to its right. */
      while (node != NULL && node->next == NULL)
        {
          while (node->prev != NULL && node->prev->a != node)
            node = node->prev;
          node = node->prev;
        }

      if (node != NULL)
        node = node->next;
    }
}
