/* test-queue.c: the priority queue inside of a pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Everything happens in one thread: whoever owns a queue protects it.
 */

#include <glib.h>

#include "qtask/q-task-queue-private.h"

#include "test-util.h"

/* Something queued: which one it is, and where the model has it */
typedef struct
{
  QTaskNode node;
  guint64 number;
  gboolean visited;
} Item;

static Item *
item_of (QTaskNode *node)
{
  return node != NULL ? (Item *) ((char *) node - G_STRUCT_OFFSET (Item, node)) : NULL;
}

static void
insert (QTaskQueue *queue,
        Item *item,
        gint64 key)
{
  g_assert_false (q_task_node_is_queued (&item->node));
  q_task_queue_insert (queue, &item->node, key);
  g_assert_true (q_task_node_is_queued (&item->node));
}

/* Pops @item, and says so where something else comes */
static void
assert_pops (QTaskQueue *queue,
             Item *item)
{
  QTaskNode *node;

  g_assert_true (q_task_queue_peek (queue) == &item->node);
  node = q_task_queue_pop (queue);
  g_assert_true (node == &item->node);
  g_assert_false (q_task_node_is_queued (node));
}

static void
assert_empty (QTaskQueue *queue)
{
  g_assert_cmpuint (queue->length, ==, 0);
  g_assert_null (q_task_queue_peek (queue));
  g_assert_null (q_task_queue_pop (queue));
}

static guint
size_of_test (guint size)
{
  return test_is_slow () ? size / 100 : size;
}

/* A permutation of 0 … n - 1 */
static guint32 *
permutation (guint n)
{
  guint32 *numbers = g_new (guint32, n);

  for (guint i = 0; i < n; i++)
    {
      guint j = (guint) g_test_rand_int_range (0, (gint32) i + 1);

      numbers[i] = numbers[j];
      numbers[j] = i;
    }

  return numbers;
}

static void
test_empty (void)
{
  QTaskQueue queue = { NULL };

  assert_empty (&queue);
}

static void
test_single (void)
{
  QTaskQueue queue = { NULL };
  Item item = { { NULL } };

  /* Again and again: a node that was queued can be queued anew. */
  for (int i = 0; i < 3; i++)
    {
      insert (&queue, &item, 7);
      g_assert_cmpuint (queue.length, ==, 1);
      assert_pops (&queue, &item);
      assert_empty (&queue);

      insert (&queue, &item, 7);
      q_task_queue_remove (&queue, &item.node);
      g_assert_false (q_task_node_is_queued (&item.node));
      assert_empty (&queue);
    }
}

static void
test_lowest_key_first (void)
{
  static const gint64 keys[] = { 5, 3, 8, 1, 9, 2, 7, 0, 6, 4 };
  QTaskQueue queue = { NULL };
  Item items[G_N_ELEMENTS (keys)] = { { { NULL } } };
  Item *by_key[G_N_ELEMENTS (keys)];

  for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
    {
      insert (&queue, &items[i], keys[i]);
      by_key[keys[i]] = &items[i];
    }

  for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
    assert_pops (&queue, by_key[i]);

  assert_empty (&queue);
}

static void
test_first_in_first_out (void)
{
  QTaskQueue queue = { NULL };
  Item items[100] = { { { NULL } } };

  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    insert (&queue, &items[i], -20);

  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    assert_pops (&queue, &items[i]);

  assert_empty (&queue);
}

/* However many other keys come between */
static void
test_first_in_first_out_among_others (void)
{
  enum
  {
    N_KEYS = 23,
    N_ITEMS = N_KEYS * 40
  };

  for (gint64 stride = 1; stride <= 8; stride++)
    {
      QTaskQueue queue = { NULL };
      g_autofree Item *items = g_new0 (Item, N_ITEMS);

      for (guint i = 0; i < N_ITEMS; i++)
        insert (&queue, &items[i], stride * (i % N_KEYS));

      for (guint key = 0; key < N_KEYS; key++)
        for (guint i = key; i < N_ITEMS; i += N_KEYS)
          assert_pops (&queue, &items[i]);

      assert_empty (&queue);
    }
}

/* The order is that of the insertions, also when equals leave meanwhile. */
static void
test_first_in_first_out_while_popping (void)
{
  QTaskQueue queue = { NULL };
  Item items[300] = { { { NULL } } };
  guint n_in = 0, n_out = 0;

  while (n_out < G_N_ELEMENTS (items))
    {
      guint n = (guint) g_test_rand_int_range (0, 5);

      for (; n > 0 && n_in < G_N_ELEMENTS (items); n--)
        insert (&queue, &items[n_in++], 1);

      n = (guint) g_test_rand_int_range (0, 5);
      for (; n > 0 && n_out < n_in; n--)
        assert_pops (&queue, &items[n_out++]);
    }

  assert_empty (&queue);
}

static void
test_extreme_keys (void)
{
  static const gint64 keys[] = {
    G_MININT64, G_MININT64 + 1, (gint64) G_MININT - 1, G_MININT, -1, 0, 1,
    G_MAXINT, (gint64) G_MAXINT + 1, G_MAXINT64 - 1, G_MAXINT64
  };
  QTaskQueue queue = { NULL };
  Item items[G_N_ELEMENTS (keys)] = { { { NULL } } };
  guint n = G_N_ELEMENTS (keys);

  /* From each end, and from both at once */
  for (guint i = 0; i < n; i++)
    insert (&queue, &items[i], keys[i]);
  for (guint i = 0; i < n; i++)
    assert_pops (&queue, &items[i]);

  for (guint i = n; i-- > 0;)
    insert (&queue, &items[i], keys[i]);
  for (guint i = 0; i < n; i++)
    assert_pops (&queue, &items[i]);

  for (guint i = 0; i < n; i++)
    {
      guint j = i % 2 == 0 ? i / 2 : n - 1 - i / 2;

      insert (&queue, &items[j], keys[j]);
    }
  for (guint i = 0; i < n; i++)
    assert_pops (&queue, &items[i]);

  assert_empty (&queue);
}

/* Of seven equals between two others, each one can leave, at any time. */
static void
test_remove_one_of_equals (void)
{
  enum
  {
    N = 7
  };

  for (guint n_popped = 0; n_popped < N; n_popped++)
    for (guint removed = n_popped; removed < N; removed++)
      {
        QTaskQueue queue = { NULL };
        Item items[N] = { { { NULL } } };
        Item above = { { NULL } }, below = { { NULL } }, late = { { NULL } };

        insert (&queue, &below, 2);
        for (guint i = 0; i < N; i++)
          insert (&queue, &items[i], 1);
        insert (&queue, &above, 0);

        assert_pops (&queue, &above);
        for (guint i = 0; i < n_popped; i++)
          assert_pops (&queue, &items[i]);

        q_task_queue_remove (&queue, &items[removed].node);
        insert (&queue, &late, 1);

        for (guint i = n_popped; i < N; i++)
          if (i != removed)
            assert_pops (&queue, &items[i]);

        assert_pops (&queue, &late);
        assert_pops (&queue, &below);
        assert_empty (&queue);
      }
}

/* What is removed and comes again is the last of its equals. */
static void
test_insert_again (void)
{
  QTaskQueue queue = { NULL };
  Item items[3] = { { { NULL } } };

  for (guint i = 0; i < 3; i++)
    insert (&queue, &items[i], 4);

  q_task_queue_remove (&queue, &items[0].node);
  insert (&queue, &items[0], 4);

  assert_pops (&queue, &items[1]);
  assert_pops (&queue, &items[2]);
  assert_pops (&queue, &items[0]);
  assert_empty (&queue);
}

static void
visit_cb (QTaskNode *node,
          gpointer n_visited)
{
  Item *item = item_of (node);

  g_assert_false (item->visited);
  item->visited = TRUE;
  (*(guint *) n_visited)++;
}

static void
assert_visits_all (QTaskQueue *queue,
                   Item *items,
                   guint n_items)
{
  guint n_visited = 0;

  for (guint i = 0; i < n_items; i++)
    items[i].visited = FALSE;

  q_task_queue_foreach (queue, visit_cb, &n_visited);
  g_assert_cmpuint (n_visited, ==, queue->length);

  for (guint i = 0; i < n_items; i++)
    g_assert_cmpint (items[i].visited, ==, q_task_node_is_queued (&items[i].node));
}

static void
test_foreach (void)
{
  QTaskQueue queue = { NULL };
  Item items[200] = { { { NULL } } };

  assert_visits_all (&queue, items, G_N_ELEMENTS (items));

  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    {
      insert (&queue, &items[i], g_test_rand_int_range (0, 40));
      assert_visits_all (&queue, items, G_N_ELEMENTS (items));
    }

  while (q_task_queue_pop (&queue) != NULL)
    assert_visits_all (&queue, items, G_N_ELEMENTS (items));
}

/* What must come next, found the slow way */
static Item *
model_first (Item *items,
             guint n_items)
{
  Item *first = NULL;

  for (guint i = 0; i < n_items; i++)
    {
      Item *item = &items[i];

      if (!q_task_node_is_queued (&item->node))
        continue;

      if (first == NULL || item->node.key < first->node.key ||
          (item->node.key == first->node.key && item->number < first->number))
        first = item;
    }

  return first;
}

/* Random operations, compared with the model after each of them. @data is the
 * number of different keys.
 */
static void
test_random (gconstpointer data)
{
  enum
  {
    N_ITEMS = 120
  };
  gint32 n_keys = GPOINTER_TO_INT (data);
  guint n_rounds = size_of_test (60000);
  QTaskQueue queue = { NULL };
  g_autofree Item *items = g_new0 (Item, N_ITEMS);
  guint64 n_inserted = 0;
  guint length = 0;
  int bias = 0;

  for (guint round = 0; round < n_rounds; round++)
    {
      Item *item = &items[g_test_rand_int_range (0, N_ITEMS)];
      int what = g_test_rand_int_range (0, 10) + bias;

      /* Fills up, then empties, and so on */
      if (round % 500 == 0)
        bias = g_test_rand_int_range (-3, 4);

      if (q_task_node_is_queued (&item->node))
        {
          if (what < 4)
            continue;

          q_task_queue_remove (&queue, &item->node);
          length--;
        }
      else if (what < 7)
        {
          item->number = n_inserted++;
          insert (&queue, item, g_test_rand_int_range (0, n_keys));
          length++;
        }
      else
        {
          Item *first = model_first (items, N_ITEMS);

          g_assert_true (item_of (q_task_queue_pop (&queue)) == first);
          if (first != NULL)
            {
              g_assert_false (q_task_node_is_queued (&first->node));
              length--;
            }
        }

      g_assert_cmpuint (queue.length, ==, length);
      g_assert_true (item_of (q_task_queue_peek (&queue)) == model_first (items, N_ITEMS));

      if (round % 97 == 0)
        assert_visits_all (&queue, items, N_ITEMS);
    }

  while (length-- > 0)
    {
      Item *first = model_first (items, N_ITEMS);

      assert_pops (&queue, first);
    }

  assert_empty (&queue);
}

static void
assert_pops_in_order (QTaskQueue *queue,
                      guint n)
{
  gint64 last = G_MININT64;

  for (guint i = 0; i < n; i++)
    {
      QTaskNode *node = q_task_queue_pop (queue);

      g_assert_nonnull (node);
      g_assert_cmpint (node->key, >, last);
      last = node->key;
    }

  assert_empty (queue);
}

/* A heap that is as deep, or as wide, as it has nodes */
static void
test_million_sorted (gconstpointer data)
{
  gboolean descending = GPOINTER_TO_INT (data);
  guint n = size_of_test (1000000);
  QTaskQueue queue = { NULL };
  g_autofree Item *items = g_new0 (Item, n);
  guint n_visited = 0;

  for (guint i = 0; i < n; i++)
    insert (&queue, &items[i], descending ? (gint64) n - i : (gint64) i);

  q_task_queue_foreach (&queue, visit_cb, &n_visited);
  g_assert_cmpuint (n_visited, ==, n);

  assert_pops_in_order (&queue, n);
}

static void
test_million_shuffled (void)
{
  guint n = size_of_test (1000000);
  QTaskQueue queue = { NULL };
  g_autofree Item *items = g_new0 (Item, n);
  g_autofree guint32 *keys = permutation (n);

  for (guint i = 0; i < n; i++)
    insert (&queue, &items[i], (gint64) keys[i] - n / 2);

  g_assert_cmpuint (queue.length, ==, n);
  assert_pops_in_order (&queue, n);
}

/* A million that leave in another order than they came in, every second one
 * by removal and between pops
 */
static void
test_million_removed (void)
{
  guint n = size_of_test (1000000);
  QTaskQueue queue = { NULL };
  g_autofree Item *items = g_new0 (Item, n);
  g_autofree guint32 *keys = permutation (n);
  g_autofree guint32 *order = permutation (n);
  guint length = n;

  for (guint i = 0; i < n; i++)
    insert (&queue, &items[i], keys[i]);

  for (guint i = 0; i < n; i++)
    {
      Item *item = &items[order[i]];

      if (q_task_node_is_queued (&item->node))
        {
          q_task_queue_remove (&queue, &item->node);
          length--;
        }

      if (i % 4 == 0 && q_task_queue_pop (&queue) != NULL)
        length--;

      g_assert_cmpuint (queue.length, ==, length);
    }

  assert_empty (&queue);
}

/* A million of few keys, in turns, so that none is a recent one for long */
static void
test_million_equal (void)
{
  guint n = size_of_test (1000000);
  QTaskQueue queue = { NULL };
  g_autofree Item *items = g_new0 (Item, n);
  gint64 last_key = -1;
  guint64 last_number = 0;

  for (guint i = 0; i < n; i++)
    {
      items[i].number = i;
      insert (&queue, &items[i], (i * 4) % 52);
    }

  for (guint i = 0; i < n; i++)
    {
      Item *item = item_of (q_task_queue_pop (&queue));

      g_assert_nonnull (item);
      g_assert_cmpint (item->node.key, >=, last_key);
      if (item->node.key == last_key)
        g_assert_cmpuint (item->number, >, last_number);

      last_key = item->node.key;
      last_number = item->number;
    }

  assert_empty (&queue);
}

static guint
count_children (QTaskQueue *queue)
{
  guint n = 0;

  for (QTaskNode *node = queue->root->a; node != NULL; node = node->next)
    n++;

  return n;
}

/* Were all that are inserted children of the root, its removal would go through all of them:
 * there are few, whatever the order is in which they come, and while they go.
 */
static void
test_insertions_leave_few_children (gconstpointer data)
{
  enum
  {
    N_NODES = 100000
  };
  int factor = GPOINTER_TO_INT (data);
  QTaskQueue queue = { 0 };
  QTaskNode *nodes = g_new0 (QTaskNode, N_NODES + 1);
  guint n_most = 0;
  gint64 last = -1;

  for (int i = 0; i < N_NODES; i++)
    q_task_queue_insert (&queue, &nodes[i], (gint64) i * factor % N_NODES + (factor < 0 ? N_NODES : 0));

  /* A removal of another leaves the heap as the first removal would find it. */
  q_task_queue_insert (&queue, &nodes[N_NODES], 2 * N_NODES);
  q_task_queue_remove (&queue, &nodes[N_NODES]);
  g_assert_cmpuint (count_children (&queue), <=, 40);

  for (int i = 0; i < N_NODES; i++)
    {
      QTaskNode *node;

      if (i % 100 == 0)
        n_most = MAX (n_most, count_children (&queue));
      node = q_task_queue_pop (&queue);
      g_assert_cmpint (node->key, >, last);
      last = node->key;
    }
  g_assert_null (q_task_queue_pop (&queue));
  g_test_message ("The root had %u children at most", n_most);
  g_assert_cmpuint (n_most, <=, 60);
  g_free (nodes);
}

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/queue/empty", test_empty);
  g_test_add_func ("/queue/single", test_single);
  g_test_add_func ("/queue/lowest-key-first", test_lowest_key_first);
  g_test_add_func ("/queue/first-in-first-out", test_first_in_first_out);
  g_test_add_func ("/queue/first-in-first-out-among-others", test_first_in_first_out_among_others);
  g_test_add_func ("/queue/first-in-first-out-while-popping", test_first_in_first_out_while_popping);
  g_test_add_func ("/queue/extreme-keys", test_extreme_keys);
  g_test_add_func ("/queue/remove-one-of-equals", test_remove_one_of_equals);
  g_test_add_func ("/queue/insert-again", test_insert_again);
  g_test_add_func ("/queue/foreach-visits-each-once", test_foreach);
  g_test_add_data_func ("/queue/random/one-key", GINT_TO_POINTER (1), test_random);
  g_test_add_data_func ("/queue/random/few-keys", GINT_TO_POINTER (7), test_random);
  g_test_add_data_func ("/queue/random/many-keys", GINT_TO_POINTER (100000), test_random);
  g_test_add_data_func ("/queue/million/ascending", GINT_TO_POINTER (FALSE), test_million_sorted);
  g_test_add_data_func ("/queue/million/descending", GINT_TO_POINTER (TRUE), test_million_sorted);
  g_test_add_func ("/queue/million/shuffled", test_million_shuffled);
  g_test_add_func ("/queue/million/removed-at-random", test_million_removed);
  g_test_add_func ("/queue/million/of-few-keys", test_million_equal);

  g_test_add_data_func ("/queue/insertions-leave-few-children/ascending", GINT_TO_POINTER (1),
                        test_insertions_leave_few_children);
  g_test_add_data_func ("/queue/insertions-leave-few-children/descending", GINT_TO_POINTER (-1),
                        test_insertions_leave_few_children);
  g_test_add_data_func ("/queue/insertions-leave-few-children/mixed", GINT_TO_POINTER (7919),
                        test_insertions_leave_few_children);

  return g_test_run ();
}
