/* q-task-wait-graph.c: who waits for whom
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A task whose worker waits points to the awaited one (waits_for), and so does one whose sync
 * function waits; one that is queued in a serial pool waits for the one that runs there. A task
 * that runs a loop in several threads waits for all that they wait for, and one that waits for a
 * group for all of it, or any. A wait that would close a ring is refused.
 *
 * All edges change with the lock of the graph held, which is taken before that of a pool or a
 * group, and never by the worker of a task that nobody waits in.
 */

#include "config.h"

#include "q-task-private.h"

/* More than any ring can have; and how many of them, at most, wait for several. */
#define MAX_RING 100000
#define MAX_DEPTH 1000

static GMutex graph_lock;

/* What @task is a part of, as it is one thread of a loop that another task runs; or NULL */
static QTask *
get_whole (QTask *task)
{
  QTaskExtra *extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL ? extra->part_of : NULL;
}

static gboolean
is_in_graph (QTaskExtra *extra)
{
  return extra->waits_for != NULL || extra->waits_for_group != NULL;
}

/* The task has begun to wait, or ended that; a task whose loop it is a thread of is to know. */
static void
tell_wholes_locked (QTask *task,
                    gboolean waited)
{
  QTaskExtra *extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  if (waited == is_in_graph (extra))
    return;

  for (QTask *whole = get_whole (task); whole != NULL; whole = get_whole (whole))
    {
      QTaskExtra *whole_extra = g_atomic_pointer_get (&q_task_get_private (whole)->extra);

      if (waited)
        whole_extra->waiting_parts = g_slist_remove (whole_extra->waiting_parts, task);
      else
        whole_extra->waiting_parts = g_slist_prepend (whole_extra->waiting_parts, task);
    }
}

static void
set_task_waits_for_locked (QTask *task,
                           QTask *waits_for)
{
  QTaskExtra *extra = q_task_ensure_extra (q_task_get_private (task));
  gboolean waited = is_in_graph (extra);

  extra->waits_for = waits_for;
  tell_wholes_locked (task, waited);
}

static void
set_task_waits_for_group_locked (QTask *task,
                                 QTaskGroupCore *core,
                                 gboolean for_any)
{
  QTaskExtra *extra = q_task_ensure_extra (q_task_get_private (task));
  gboolean waited = is_in_graph (extra);

  extra->waits_for_group = core;
  extra->waits_for_any = for_any;
  tell_wholes_locked (task, waited);
}

/* Whether @task cannot go on before the worker or the sync function does that the caller is
 * in. */
static gboolean
is_waiting (QTaskFrame *frame,
            QTaskHold *hold,
            QTask *task)
{
  for (QTask *self = frame != NULL ? frame->task : NULL; self != NULL; self = get_whole (self))
    if (self == task)
      return TRUE;

  for (; hold != NULL; hold = hold->outer)
    if (hold->task == task)
      return TRUE;

  return FALSE;
}

/* A search for the caller, through the graph. What would not live as long as that does not change
 * is held. */
typedef struct
{
  QTaskFrame *frame;
  QTaskHold *hold;
  GPtrArray *held;  /* tasks */
  GHashTable *seen; /* those that wait for several: whether they lead to the caller; or NULL */
  guint depth;      /* how many of these it is behind */
} QTaskSearch;

static gboolean leads_to_locked (QTaskSearch *search,
                                 QTask *task);

static void
search_init (QTaskSearch *search)
{
  *search = (QTaskSearch){
    .frame = q_task_get_current_frame (),
    .hold = q_task_get_current_hold (),
    .held = g_ptr_array_new_with_free_func (g_object_unref),
  };
}

/* With no lock held. */
static void
search_clear (QTaskSearch *search)
{
  g_clear_pointer (&search->seen, g_hash_table_unref);
  g_ptr_array_unref (search->held);
}

/* Whether @task waits for more than one. */
static gboolean
waits_for_several (QTask *task)
{
  QTaskExtra *extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);

  return extra != NULL && (extra->waiting_parts != NULL || extra->waits_for_group != NULL);
}

/* Whether the wait for a group cannot end before the caller goes on. */
static gboolean
group_leads_to_locked (QTaskSearch *search,
                       QTaskGroupCore *core,
                       gboolean for_any)
{
  guint begin = search->held->len;
  guint n_leading = 0;
  guint end;

  q_task_member_funcs->list (core, for_any, search->held);
  end = search->held->len;

  for (guint i = begin; i < end; i++)
    {
      gboolean leads = leads_to_locked (search, search->held->pdata[i]);

      n_leading += leads ? 1 : 0;
      if (leads != for_any)
        break;
    }

  return for_any ? n_leading > 0 && n_leading == end - begin : n_leading > 0;
}

/* Of a task that does: it can end only after all of them, or one where it waits for any. */
static gboolean
several_lead_to_locked (QTaskSearch *search,
                        QTask *task)
{
  QTaskExtra *extra = g_atomic_pointer_get (&q_task_get_private (task)->extra);
  gpointer known;
  gboolean leads;

  if (search->seen == NULL)
    search->seen = g_hash_table_new (NULL, NULL);

  if (g_hash_table_lookup_extended (search->seen, task, NULL, &known))
    return GPOINTER_TO_INT (known);
  if (search->depth >= MAX_DEPTH)
    return FALSE;

  g_hash_table_insert (search->seen, task, GINT_TO_POINTER (FALSE));
  search->depth++;

  leads = extra->waits_for != NULL && leads_to_locked (search, extra->waits_for);
  for (GSList *part = extra->waiting_parts; !leads && part != NULL; part = part->next)
    leads = leads_to_locked (search, part->data);
  if (!leads && extra->waits_for_group != NULL)
    leads = group_leads_to_locked (search, extra->waits_for_group, extra->waits_for_any);

  search->depth--;
  g_hash_table_insert (search->seen, task, GINT_TO_POINTER (leads));

  return leads;
}

/* The only one that has to end before @task can, or NULL. */
static QTask *
get_next_in_graph (QTaskSearch *search,
                   QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  QTaskRunner *runner = NULL;
  QTask *blocker = NULL;

  if (extra != NULL && extra->waits_for != NULL)
    return extra->waits_for;

  g_mutex_lock (&priv->lock);
  if (q_task_word_get_state (q_task_get_word (priv)) == Q_TASK_STATE_QUEUED)
    {
      runner = priv->runner;
      runner->funcs->ref (runner);
    }
  g_mutex_unlock (&priv->lock);

  if (runner == NULL)
    return NULL;

  if (runner->funcs->ref_blocker != NULL)
    blocker = runner->funcs->ref_blocker (runner);
  runner->funcs->unref (runner);
  if (blocker != NULL)
    g_ptr_array_add (search->held, blocker);

  return blocker;
}

/* Whether @task cannot end before the caller goes on. */
static gboolean
leads_to_locked (QTaskSearch *search,
                 QTask *task)
{
  for (int i = 0; task != NULL && i < MAX_RING; i++)
    {
      if (is_waiting (search->frame, search->hold, task))
        return TRUE;
      if (waits_for_several (task))
        return several_lead_to_locked (search, task);

      task = get_next_in_graph (search, task);
    }

  return FALSE;
}

/* Sets whom the tasks wait for that cannot go on before the caller does. */
static void
set_waits_for_locked (QTask *task)
{
  QTaskFrame *frame = q_task_get_current_frame ();

  if (frame != NULL)
    set_task_waits_for_locked (frame->task, task);

  for (QTaskHold *hold = q_task_get_current_hold (); hold != NULL; hold = hold->outer)
    set_task_waits_for_locked (hold->task, task);
}

/* The same, for all or one of a group. */
static void
set_waits_for_group_locked (QTaskGroupCore *core,
                            gboolean for_any)
{
  QTaskFrame *frame = q_task_get_current_frame ();

  if (frame != NULL)
    set_task_waits_for_group_locked (frame->task, core, for_any);

  for (QTaskHold *hold = q_task_get_current_hold (); hold != NULL; hold = hold->outer)
    set_task_waits_for_group_locked (hold->task, core, for_any);
}

/* Notes that the caller, in a worker or a sync function, waits for @task, unless that would close a
 * ring. */
gboolean
q_task_wait_graph_enter (QTask *task)
{
  QTaskSearch search;
  gboolean is_ring;

  search_init (&search);

  g_mutex_lock (&graph_lock);
  is_ring = leads_to_locked (&search, task);
  set_waits_for_locked (is_ring ? NULL : task);
  g_mutex_unlock (&graph_lock);

  search_clear (&search);

  return !is_ring;
}

/* Notes that it waits no more. */
void
q_task_wait_graph_leave (void)
{
  g_mutex_lock (&graph_lock);
  set_waits_for_locked (NULL);
  g_mutex_unlock (&graph_lock);
}

/* The same for all of a group, or with @for_any for one of it. */
gboolean
q_task_wait_graph_enter_group (QTaskGroupCore *core,
                               gboolean for_any)
{
  QTaskSearch search;
  gboolean is_ring;

  search_init (&search);

  g_mutex_lock (&graph_lock);
  is_ring = group_leads_to_locked (&search, core, for_any);
  set_waits_for_group_locked (is_ring ? NULL : core, for_any);
  g_mutex_unlock (&graph_lock);

  search_clear (&search);

  return !is_ring;
}

void
q_task_wait_graph_leave_group (void)
{
  g_mutex_lock (&graph_lock);
  set_waits_for_group_locked (NULL, FALSE);
  g_mutex_unlock (&graph_lock);
}
