/* q-task-dispatch.c: delivery to the owner of a GMainContext
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One QTaskDispatch for each GMainContext that has tasks, made when it is first
 * asked for. It has standing sources in that context, and it outlives it: tasks
 * refer to the dispatch and never to the context.
 *
 * A delivery goes through the inbox, a lock-free stack that any thread pushes to,
 * into the queue, which the owner works off in order of priority, in a recursive
 * source that has the priority of the head of the queue. After a slice of 2 ms it
 * rests for one iteration, so that what is less urgent gets its turn. Who delivers much empties
 * the inbox itself now and then, or all that the owner finds there could take it longer than a
 * slice.
 *
 * Another source, which comes first of all and is never ready, sorts the inbox and
 * sets that priority: a source cannot change its own while GLib looks at it, nor can
 * another thread, since GLib's place in its list of sources goes if that was the only
 * one of its priority (g_source_iter_next() in gmain.c).
 *
 * Waking: the first source arms the dispatch when it finds nothing to do, and looks
 * into the inbox once more; whoever pushes and finds it armed disarms it and wakes the
 * context. Both sides write before they read, sequentially consistent, so a
 * delivery is seen by one of them; and a burst wakes once. tests/models/dispatch.pml goes
 * through all the ways in which that can happen.
 *
 * g_main_context_wakeup() may not be called while the context is being freed in
 * another thread, so a wake-up is a change of the source's ready time, made with the
 * lock held: the source cannot be freed before context_gone() has had that lock.
 *
 * The ownerless dispatch is for what has no owner from the start, and is to be released by its
 * last user. It has no context, no lock and no references, and whatever is delivered to it is
 * run in place.
 *
 *   context, source     written with the lock held; the context is also read
 *                       atomically without
 *   inbox, armed        atomic, any thread
 *   queue, timers, and all else
 *                       with the lock held
 *
 * No lock is held while a delivery runs.
 */

#include "config.h"

#include "q-task-dispatch-private.h"

/* How long callbacks run before what else the context has gets its turn. */
#define SLICE_USEC 2000

/* Where deliveries come so soon after there was none that sleeping costs more: how soon, and
 * how long to look for one before the context sleeps. */
#define SOON_USEC 100
#define LOOK_USEC 50

/* How many deliveries a thread makes between sorting them itself: to sort all that have come while
 * the owner was busy would keep it for longer than a slice. */
#define SORT_EVERY 256

/* A ready time that never comes; even, and far from overflowing. */
#define NEVER (G_MAXINT64 / 2 - 1)

typedef struct
{
  GSource source;
  QTaskDispatch *dispatch; /* owned */
} QTaskDispatchSource;

struct _QTaskDispatch
{
  int ref_count; /* atomic */
  GMutex lock;
  GMainContext *context; /* NULL once gone */
  GSource *source;       /* NULL once gone */
  QTaskNode *inbox;      /* linked by next, latest first */
  int armed;
  int source_priority;
  QTaskQueue queue;   /* by priority */
  QTaskQueue timers;  /* by monotonic time */
  gint64 ready_time;  /* of the source */
  gint64 empty_since; /* monotonic, or 0 while there is something to do */
  gint64 gap_average; /* microseconds without a delivery, of late */
  guint n_vain_looks; /* in a row */
  guint n_looks_to_skip;
  guint resting : 1;
  guint flip : 1;
};

static void dispatch_unref_notify (gpointer data);

static QTaskDispatch ownerless;

/* The dispatches of living contexts, without a reference. */
static GMutex registry_lock;
static GHashTable *registry;

/* The dispatch that the thread asked for last. */
static GPrivate recent_dispatch = G_PRIVATE_INIT (dispatch_unref_notify);

/* The dispatch whose source the thread is dispatching. */
static _Thread_local QTaskDispatch *dispatching;

/* Whether the thread is one that runs workers. */
static _Thread_local gboolean is_worker;

static QTaskNodeFunc task_func;

static QTaskLostFunc lost_func; /* atomic */

/* Gets the dispatch of whatever has no owner. There is one, and it needs no reference. */
QTaskDispatch *
q_task_dispatch_get_ownerless (void)
{
  return &ownerless;
}

QTaskDispatch *
q_task_dispatch_ref (QTaskDispatch *dispatch)
{
  if (dispatch != &ownerless)
    g_atomic_int_inc (&dispatch->ref_count);

  return dispatch;
}

void
q_task_dispatch_unref (QTaskDispatch *dispatch)
{
  if (dispatch == &ownerless || !g_atomic_int_dec_and_test (&dispatch->ref_count))
    return;

  g_assert (dispatch->inbox == NULL);
  g_assert (dispatch->queue.length == 0);
  g_assert (dispatch->timers.length == 0);

  g_mutex_clear (&dispatch->lock);
  g_free (dispatch);
}

static void
dispatch_unref_notify (gpointer data)
{
  q_task_dispatch_unref (data);
}

/* A number that no other thread has or had, unlike its GThread. */
guint
q_task_dispatch_get_thread_id (void)
{
  static int last_id;
  static _Thread_local guint id;

  if (G_UNLIKELY (id == 0))
    id = (guint) g_atomic_int_add (&last_id, 1) + 1;

  return id;
}

/* Sets what is called for the nodes of tasks; to be done before there is one. */
void
q_task_dispatch_set_task_func (QTaskNodeFunc func)
{
  task_func = func;
}

/* Sets what is told when a context has gone; to be done before there is a task. */
void
q_task_dispatch_set_lost_func (QTaskLostFunc func)
{
  g_atomic_pointer_set (&lost_func, func);
}

static inline void
run_delivery (QTaskNode *node,
              gboolean lost)
{
  QTaskDelivery *delivery = (QTaskDelivery *) node;

  if (node->is_task)
    task_func (node, lost);
  else
    delivery->func (delivery, lost);
}

/* Spinning makes sense if what is waited for can run meanwhile. */
gboolean
q_task_may_spin (void)
{
  static int n_processors;

  if (G_UNLIKELY (g_atomic_int_get (&n_processors) == 0))
    g_atomic_int_set (&n_processors, (int) g_get_num_processors ());

  return g_atomic_int_get (&n_processors) > 1;
}

/* Tells the processor that the thread spins. */
void
q_task_pause (void)
{
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause ();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

/* A round of a spinning thread, about a microsecond. Whoever it waits for may wait for this
 * very processor. */
void
q_task_spin_briefly (void)
{
  for (int i = 0; i < 16; i++)
    q_task_pause ();

  g_thread_yield ();
}

/* Tells that the calling thread is, or is no longer, one that runs workers. */
void
q_task_dispatch_set_is_worker (gboolean value)
{
  is_worker = value;
}

/* Wakes the context, or lets it sleep no longer than to the next timer: any change of
 * the ready time does. */
static void
update_ready_time_locked (QTaskDispatch *dispatch)
{
  QTaskNode *timer = q_task_queue_peek (&dispatch->timers);
  gint64 when = timer != NULL ? MIN (timer->key, NEVER) : NEVER;

  if (dispatch->source == NULL)
    return;

  dispatch->flip = !dispatch->flip;
  dispatch->ready_time = (when & ~(gint64) 1) | dispatch->flip;
  g_source_set_ready_time (dispatch->source, dispatch->ready_time);
}

static void
set_source_priority_locked (QTaskDispatch *dispatch,
                            int priority)
{
  if (dispatch->source == NULL || dispatch->source_priority == priority)
    return;

  dispatch->source_priority = priority;
  g_source_set_priority (dispatch->source, priority);
}

/* Moves the inbox into the queue. */
static inline void
empty_inbox_locked (QTaskDispatch *dispatch)
{
  if (g_atomic_pointer_get (&dispatch->inbox) != NULL)
    q_task_queue_insert_stack (&dispatch->queue,
                               g_atomic_pointer_exchange (&dispatch->inbox, NULL));
}

/* Does so for the owner, and gives the source the priority of the head of the queue. */
static void
sort_inbox_locked (QTaskDispatch *dispatch)
{
  QTaskNode *node;

  empty_inbox_locked (dispatch);

  node = q_task_queue_peek (&dispatch->queue);
  if (node == NULL)
    return;

  set_source_priority_locked (dispatch, (int) node->key);

  if (dispatch->empty_since > 0)
    {
      gint64 gap = g_get_monotonic_time () - dispatch->empty_since;

      dispatch->gap_average += (MIN (gap, 10 * SOON_USEC) - dispatch->gap_average) / 4;
      dispatch->empty_since = 0;
    }
}

/* Looks for a delivery for a moment before the context goes to sleep, if they have been coming
 * soon of late: a thread that sleeps takes longer to wake up than a short worker takes. When
 * it was in vain it is tried ever more seldom, so that it costs next to nothing where it is of
 * no use. With the lock held, but while it looks. */
static void
look_for_delivery_locked (QTaskDispatch *dispatch)
{
  gint64 now = g_get_monotonic_time ();
  gint64 end = now + LOOK_USEC;

  if (dispatch->empty_since == 0)
    dispatch->empty_since = now;

  if (dispatch->gap_average > SOON_USEC || !q_task_may_spin ())
    return;

  if (dispatch->n_looks_to_skip > 0)
    {
      dispatch->n_looks_to_skip--;
      return;
    }

  g_mutex_unlock (&dispatch->lock);

  do
    q_task_spin_briefly ();
  while (g_atomic_pointer_get (&dispatch->inbox) == NULL && g_get_monotonic_time () < end);

  g_mutex_lock (&dispatch->lock);

  if (g_atomic_pointer_get (&dispatch->inbox) != NULL)
    dispatch->n_vain_looks = 0;
  else
    {
      dispatch->n_vain_looks++;
      dispatch->n_looks_to_skip = 1u << MIN (dispatch->n_vain_looks, 10);
    }
}

/* Sorts before any other source is looked at, and gives the completions their priority. They
 * cannot do so themselves: GLib loses its place among the sources when the one it looks at
 * changes its priority. */
static gboolean
order_source_prepare (GSource *source,
                      int *timeout)
{
  QTaskDispatch *dispatch = ((QTaskDispatchSource *) source)->dispatch;

  *timeout = -1;

  g_mutex_lock (&dispatch->lock);

  sort_inbox_locked (dispatch);

  if (dispatch->queue.length == 0)
    {
      look_for_delivery_locked (dispatch);
      sort_inbox_locked (dispatch);
    }

  if (dispatch->queue.length == 0)
    {
      g_atomic_int_set (&dispatch->armed, TRUE);
      sort_inbox_locked (dispatch);
    }

  g_mutex_unlock (&dispatch->lock);

  return FALSE;
}

static gboolean
order_source_check (GSource *source)
{
  QTaskDispatch *dispatch = ((QTaskDispatchSource *) source)->dispatch;

  g_mutex_lock (&dispatch->lock);
  sort_inbox_locked (dispatch);
  g_mutex_unlock (&dispatch->lock);

  return FALSE;
}

static gboolean
dispatch_source_prepare (GSource *source,
                         int *timeout)
{
  QTaskDispatch *dispatch = ((QTaskDispatchSource *) source)->dispatch;
  gboolean ready = FALSE;

  *timeout = -1;

  g_mutex_lock (&dispatch->lock);
  if (dispatch->resting)
    *timeout = 0;
  else
    ready = dispatch->queue.length > 0;
  g_mutex_unlock (&dispatch->lock);

  return ready;
}

static gboolean
dispatch_source_check (GSource *source)
{
  QTaskDispatch *dispatch = ((QTaskDispatchSource *) source)->dispatch;
  gboolean ready = FALSE;

  g_mutex_lock (&dispatch->lock);
  if (dispatch->resting)
    dispatch->resting = FALSE;
  else
    ready = dispatch->queue.length > 0;
  g_mutex_unlock (&dispatch->lock);

  return ready;
}

static void
run_timers (QTaskDispatch *dispatch,
            gint64 now)
{
  for (;;)
    {
      QTaskNode *node;

      g_mutex_lock (&dispatch->lock);
      node = q_task_queue_peek (&dispatch->timers);
      if (node != NULL && node->key > now)
        node = NULL;
      if (node != NULL)
        q_task_queue_remove (&dispatch->timers, node);
      else
        update_ready_time_locked (dispatch);
      g_mutex_unlock (&dispatch->lock);

      if (node == NULL)
        return;

      run_delivery (node, FALSE);
    }
}

/* What is behind a node is likely to be in the cache of another processor still. */
static inline void
prefetch (QTaskNode *node)
{
  if (node == NULL)
    return;

  for (int i = 1; i < 4; i++)
    __builtin_prefetch ((char *) node + 64 * i);
}

/* Each round leaves everything as a nested main loop in a callback needs it. */
static void
run_queue (QTaskDispatch *dispatch,
           gint64 start)
{
  int first_priority = G_MAXINT;
  gboolean first = TRUE;

  for (;;)
    {
      QTaskNode *node;

      g_mutex_lock (&dispatch->lock);

      sort_inbox_locked (dispatch);
      node = q_task_queue_peek (&dispatch->queue);

      if (node != NULL && !first)
        {
          if ((int) node->key > first_priority)
            node = NULL;
          else if (g_get_monotonic_time () - start >= SLICE_USEC)
            {
              dispatch->resting = TRUE;
              node = NULL;
            }
        }

      if (node != NULL)
        {
          q_task_queue_remove (&dispatch->queue, node);
          prefetch (q_task_queue_peek (&dispatch->queue));
        }

      g_mutex_unlock (&dispatch->lock);

      if (node == NULL)
        return;

      if (first)
        first_priority = (int) node->key;
      first = FALSE;

      run_delivery (node, FALSE);
    }
}

static gboolean
dispatch_source_dispatch (GSource *source,
                          GSourceFunc callback G_GNUC_UNUSED,
                          gpointer user_data G_GNUC_UNUSED)
{
  QTaskDispatch *dispatch = ((QTaskDispatchSource *) source)->dispatch;
  QTaskDispatch *outer = dispatching;
  GMainContext *context = dispatch->context;
  GMainContext *thread_default = g_main_context_get_thread_default ();
  gint64 start = g_get_monotonic_time ();
  gboolean is_time;
  gboolean resting;
  gboolean pushed = FALSE;

  if (thread_default == NULL)
    thread_default = g_main_context_default ();

  if (thread_default != context)
    {
      g_main_context_push_thread_default (context);
      pushed = TRUE;
    }

  dispatching = dispatch;

  g_mutex_lock (&dispatch->lock);
  is_time = dispatch->ready_time <= start; /* though the timer may have been cleared */
  resting = dispatch->resting;             /* and here for a timer */
  dispatch->resting = FALSE;
  g_mutex_unlock (&dispatch->lock);

  if (is_time)
    run_timers (dispatch, start);

  if (!resting)
    run_queue (dispatch, start);

  dispatching = outer;

  if (pushed)
    g_main_context_pop_thread_default (context);

  return G_SOURCE_CONTINUE;
}

static void
dispatch_source_finalize (GSource *source)
{
  q_task_dispatch_unref (((QTaskDispatchSource *) source)->dispatch);
}

static GSourceFuncs dispatch_source_funcs = {
  .prepare = dispatch_source_prepare,
  .check = dispatch_source_check,
  .dispatch = dispatch_source_dispatch,
  .finalize = dispatch_source_finalize,
};

static GSourceFuncs order_source_funcs = {
  .prepare = order_source_prepare,
  .check = order_source_check,
  .finalize = dispatch_source_finalize,
};

/* What is run here may drop all other references to the dispatch. */
static void
lose_all (QTaskDispatch *dispatch)
{
  q_task_dispatch_ref (dispatch);

  for (;;)
    {
      QTaskNode *node;

      g_mutex_lock (&dispatch->lock);
      sort_inbox_locked (dispatch);
      node = q_task_queue_pop (&dispatch->queue);
      if (node == NULL)
        node = q_task_queue_pop (&dispatch->timers);
      g_mutex_unlock (&dispatch->lock);

      if (node == NULL)
        break;

      run_delivery (node, TRUE);
    }

  q_task_dispatch_unref (dispatch);
}

/* Called by GLib while it frees the context, with no lock held. */
static void
context_gone (gpointer data)
{
  QTaskDispatch *dispatch = q_task_dispatch_ref (data);
  QTaskLostFunc func;

  g_mutex_lock (&registry_lock);
  g_hash_table_remove (registry, dispatch->context);
  g_mutex_unlock (&registry_lock);

  g_mutex_lock (&dispatch->lock);
  g_atomic_pointer_set (&dispatch->context, NULL);
  dispatch->source = NULL;
  g_mutex_unlock (&dispatch->lock);

  func = g_atomic_pointer_get (&lost_func);
  if (func != NULL)
    func (dispatch);

  lose_all (dispatch);

  q_task_dispatch_unref (dispatch);
}

static gboolean
never_called_cb (gpointer data G_GNUC_UNUSED)
{
  return G_SOURCE_CONTINUE;
}

static QTaskDispatch *
dispatch_new (GMainContext *context)
{
  QTaskDispatch *dispatch = g_new0 (QTaskDispatch, 1);
  QTaskDispatchSource *source;
  QTaskDispatchSource *order;

  source = (QTaskDispatchSource *) g_source_new (&dispatch_source_funcs,
                                                 sizeof (QTaskDispatchSource));

  g_mutex_init (&dispatch->lock);
  dispatch->ref_count = 1;
  dispatch->context = context;
  dispatch->source = (GSource *) source;
  dispatch->armed = TRUE;
  dispatch->ready_time = NEVER;
  dispatch->gap_average = 10 * SOON_USEC;
  dispatch->source_priority = G_PRIORITY_DEFAULT;

  source->dispatch = dispatch;

  g_source_set_static_name (dispatch->source, "[qtask] completions");
  g_source_set_can_recurse (dispatch->source, TRUE);
  g_source_set_callback (dispatch->source, never_called_cb, dispatch, context_gone);
  g_source_attach (dispatch->source, context);
  g_source_unref (dispatch->source);

  order = (QTaskDispatchSource *) g_source_new (&order_source_funcs, sizeof (QTaskDispatchSource));
  order->dispatch = q_task_dispatch_ref (dispatch);
  g_source_set_static_name ((GSource *) order, "[qtask] order");
  g_source_set_priority ((GSource *) order, G_MININT);
  g_source_attach ((GSource *) order, context);
  g_source_unref ((GSource *) order);

  return dispatch;
}

/* Gets the dispatch of @context, or of the default context for NULL. The caller keeps
 * the context alive meanwhile. */
QTaskDispatch *
q_task_dispatch_ref_for_context (GMainContext *context)
{
  QTaskDispatch *dispatch = g_private_get (&recent_dispatch);

  if (context == NULL)
    context = g_main_context_default ();

  if (dispatch != NULL && g_atomic_pointer_get (&dispatch->context) == context)
    return q_task_dispatch_ref (dispatch);

  g_mutex_lock (&registry_lock);

  if (registry == NULL)
    registry = g_hash_table_new (NULL, NULL);

  dispatch = g_hash_table_lookup (registry, context);
  if (dispatch == NULL)
    {
      dispatch = dispatch_new (context);
      g_hash_table_insert (registry, context, dispatch);
    }
  q_task_dispatch_ref (dispatch);

  g_mutex_unlock (&registry_lock);

  g_private_replace (&recent_dispatch, q_task_dispatch_ref (dispatch));

  return dispatch;
}

/* Not a reference: only whoever keeps the context alive may use it. */
GMainContext *
q_task_dispatch_get_context (QTaskDispatch *dispatch)
{
  return g_atomic_pointer_get (&dispatch->context);
}

/* Whether there is somebody to deliver to. */
gboolean
q_task_dispatch_has_owner (QTaskDispatch *dispatch)
{
  return g_atomic_pointer_get (&dispatch->context) != NULL;
}

/* Whether the context has gone, which stops what was made in it. */
gboolean
q_task_dispatch_is_lost (QTaskDispatch *dispatch)
{
  return g_atomic_pointer_get (&dispatch->context) == NULL && dispatch != &ownerless;
}

/* Whether the calling thread is the owner: it holds the context, or it is the thread
 * @thread_id and does not run workers, nobody else holds the context and it is thread-default
 * here. In the latter case the context is acquired. A thread that is an owner knows that the context lives:
 * it is being iterated, or is thread-default. */
QTaskOwnership
q_task_dispatch_acquire (QTaskDispatch *dispatch,
                         guint thread_id)
{
  QTaskOwnership ownership = Q_TASK_OWNER_NOT;
  GMainContext *context;

  if (dispatching == dispatch)
    return Q_TASK_OWNER_ALREADY;

  if (dispatch == &ownerless)
    return Q_TASK_OWNER_NOT;

  g_mutex_lock (&dispatch->lock);

  context = dispatch->context;

  if (context != NULL)
    {
      if (g_main_context_is_owner (context))
        {
          ownership = Q_TASK_OWNER_ALREADY;
        }
      else if (!is_worker && thread_id == q_task_dispatch_get_thread_id ())
        {
          GMainContext *thread_default = g_main_context_get_thread_default ();

          if (thread_default == NULL)
            thread_default = g_main_context_default ();

          if (thread_default == context && g_main_context_acquire (context))
            ownership = Q_TASK_OWNER_ACQUIRED;
        }
    }

  g_mutex_unlock (&dispatch->lock);

  return ownership;
}

/* Whether the calling thread would be the owner if nobody else held the context, which may be for
 * a moment only. */
gboolean
q_task_dispatch_is_next_owner (QTaskDispatch *dispatch,
                               guint thread_id)
{
  GMainContext *thread_default;

  if (dispatch == &ownerless || is_worker || thread_id != q_task_dispatch_get_thread_id ())
    return FALSE;

  thread_default = g_main_context_get_thread_default ();
  if (thread_default == NULL)
    thread_default = g_main_context_default ();

  return g_atomic_pointer_get (&dispatch->context) == thread_default;
}

void
q_task_dispatch_release (QTaskDispatch *dispatch,
                         QTaskOwnership ownership)
{
  if (ownership == Q_TASK_OWNER_ACQUIRED)
    g_main_context_release (dispatch->context);
}

/* Hands @node over: its function is called by the owner, after those delivered before
 * at the same priority. May be called from any thread; may call the function in place if
 * the context has gone, and does so if there never was one. */
void
q_task_dispatch_deliver (QTaskDispatch *dispatch,
                         QTaskNode *node,
                         int priority)
{
  static _Thread_local guint n_delivered;
  QTaskNode *head;

  if (dispatch == &ownerless)
    {
      run_delivery (node, TRUE);
      return;
    }

  /* Whoever takes the delivery may drop the last other reference to the dispatch. */
  if (g_private_get (&recent_dispatch) != dispatch)
    g_private_replace (&recent_dispatch, q_task_dispatch_ref (dispatch));

  node->key = priority;

  do
    {
      head = g_atomic_pointer_get (&dispatch->inbox);
      node->next = head;
    }
  while (!g_atomic_pointer_compare_and_exchange (&dispatch->inbox, head, node));

  if (g_atomic_int_get (&dispatch->armed) &&
      g_atomic_int_compare_and_exchange (&dispatch->armed, TRUE, FALSE))
    {
      g_mutex_lock (&dispatch->lock);
      update_ready_time_locked (dispatch);
      g_mutex_unlock (&dispatch->lock);
    }

  if (G_UNLIKELY (++n_delivered % SORT_EVERY == 0))
    {
      g_mutex_lock (&dispatch->lock);
      empty_inbox_locked (dispatch);
      g_mutex_unlock (&dispatch->lock);
    }

  if (G_UNLIKELY (q_task_dispatch_is_lost (dispatch)))
    lose_all (dispatch);
}

/* Takes @node back, for the owner to run it ahead of its turn. */
gboolean
q_task_dispatch_take (QTaskDispatch *dispatch,
                      QTaskNode *node)
{
  gboolean taken;

  if (dispatch == &ownerless)
    return FALSE;

  g_mutex_lock (&dispatch->lock);

  sort_inbox_locked (dispatch);
  taken = q_task_node_is_queued (node);
  if (taken)
    q_task_queue_remove (&dispatch->queue, node);

  g_mutex_unlock (&dispatch->lock);

  return taken;
}

typedef struct
{
  QTaskDelivery delivery;
  gpointer data;
  GDestroyNotify destroy;
} QTaskDestroyDelivery;

static void
destroy_data_delivered (QTaskDelivery *delivery,
                        gboolean lost G_GNUC_UNUSED)
{
  QTaskDestroyDelivery *self = (QTaskDestroyDelivery *) delivery;

  self->destroy (self->data);
  g_free (self);
}

/* Has the owner destroy @data: in place where that is the calling thread, or where there is
 * none any more. @thread_id is as for q_task_dispatch_acquire(). */
void
q_task_dispatch_destroy_data (QTaskDispatch *dispatch,
                              guint thread_id,
                              gpointer data,
                              GDestroyNotify destroy)
{
  QTaskDestroyDelivery *self;
  QTaskOwnership ownership;

  if (destroy == NULL)
    return;

  ownership = q_task_dispatch_acquire (dispatch, thread_id);

  if (ownership != Q_TASK_OWNER_NOT || dispatch == &ownerless)
    {
      destroy (data);
      q_task_dispatch_release (dispatch, ownership);
      return;
    }

  self = g_new0 (QTaskDestroyDelivery, 1);
  self->delivery.func = destroy_data_delivered;
  self->data = data;
  self->destroy = destroy;

  q_task_dispatch_deliver (dispatch, &self->delivery.node, G_PRIORITY_DEFAULT);
}

/* Has the owner call the function of @timer at the monotonic time @when. Returns FALSE if
 * there is no owner; if the context goes later, the function is called
 * with lost TRUE. */
gboolean
q_task_dispatch_set_timer (QTaskDispatch *dispatch,
                           QTaskDelivery *timer,
                           gint64 when)
{
  gboolean lives;

  if (dispatch == &ownerless)
    return FALSE;

  g_mutex_lock (&dispatch->lock);

  lives = dispatch->context != NULL;

  if (lives)
    {
      q_task_queue_insert (&dispatch->timers, &timer->node, when);
      if (q_task_queue_peek (&dispatch->timers) == &timer->node)
        update_ready_time_locked (dispatch);
    }

  g_mutex_unlock (&dispatch->lock);

  return lives;
}

/* Returns whether @timer was set; its function is then not called any more. */
gboolean
q_task_dispatch_clear_timer (QTaskDispatch *dispatch,
                             QTaskDelivery *timer)
{
  gboolean cleared;

  if (dispatch == &ownerless)
    return FALSE;

  g_mutex_lock (&dispatch->lock);

  cleared = q_task_node_is_queued (&timer->node);
  if (cleared)
    q_task_queue_remove (&dispatch->timers, &timer->node);

  g_mutex_unlock (&dispatch->lock);

  return cleared;
}
