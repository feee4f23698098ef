/* test-group.c: groups of tasks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "test-util.h"

static gboolean
fail_worker (QTask *task G_GNUC_UNUSED,
             gpointer message,
             GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, message);
  return FALSE;
}

/* Waits for the gate, then fails. */
static gboolean
fail_when_open_worker (QTask *task G_GNUC_UNUSED,
                       gpointer gate,
                       GError **error)
{
  test_gate_wait ((TestGate *) gate);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "late");
  return FALSE;
}

static QTask *
add_new (QTaskGroup *group,
         QTaskFunc func,
         gpointer opaque)
{
  g_autoptr (GError) error = NULL;
  QTask *task = q_task_new (NULL, func, opaque, NULL);

  g_assert_true (q_task_group_add (group, task, &error));
  g_assert_no_error (error);

  return task;
}

static QTask *
add_pushed (QTaskGroup *group,
            QTaskPool *pool,
            QTaskWorker worker,
            gpointer data)
{
  g_autoptr (GError) error = NULL;
  QTask *task = add_new (group, NULL, NULL);

  g_assert_true (q_task_pool_push (pool, task, worker, data, NULL, &error));
  g_assert_no_error (error);

  return task;
}

static void
close_pool (QTaskPool *pool)
{
  g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
  g_object_unref (pool);
}

/* A copy of the list that is kept by its signals alone, in the thread that made it. */
typedef struct
{
  GListModel *model;
  GPtrArray *items;
  GThread *thread;
  guint n_signals;
  guint n_notifies;
} Mirror;

static void
mirror_changed_cb (GListModel *model,
                   guint position,
                   guint removed,
                   guint added,
                   gpointer data)
{
  Mirror *mirror = data;

  g_assert_true (g_thread_self () == mirror->thread);
  g_assert_cmpuint (position + removed, <=, mirror->items->len);
  mirror->n_signals++;
  if (removed > 0)
    g_ptr_array_remove_range (mirror->items, position, removed);
  for (guint i = 0; i < added; i++)
    g_ptr_array_insert (mirror->items, (int) (position + i),
                        g_list_model_get_item (model, position + i));
}

static void
mirror_notify_cb (GObject *object,
                  GParamSpec *pspec G_GNUC_UNUSED,
                  gpointer data)
{
  Mirror *mirror = data;
  guint n_items;

  mirror->n_notifies++;
  g_object_get (object, "n-items", &n_items, NULL);
  g_assert_cmpuint (n_items, ==, mirror->items->len);
}

static void
mirror_init (Mirror *mirror,
             QTaskGroup *group)
{
  *mirror = (Mirror){
    .model = G_LIST_MODEL (group),
    .items = g_ptr_array_new_with_free_func (g_object_unref),
    .thread = g_thread_self (),
  };
  g_signal_connect (group, "items-changed", G_CALLBACK (mirror_changed_cb), mirror);
  g_signal_connect (group, "notify::n-items", G_CALLBACK (mirror_notify_cb), mirror);
}

static void
mirror_check (Mirror *mirror)
{
  g_assert_cmpuint (mirror->items->len, ==, g_list_model_get_n_items (mirror->model));
  for (guint i = 0; i < mirror->items->len; i++)
    {
      g_autoptr (QTask) task = g_list_model_get_item (mirror->model, i);

      g_assert_true (task == mirror->items->pdata[i]);
    }
  g_assert_null (g_list_model_get_item (mirror->model, mirror->items->len));
  g_assert_cmpuint (mirror->n_signals, ==, mirror->n_notifies);
}

static void
mirror_clear (Mirror *mirror)
{
  mirror_check (mirror);
  g_ptr_array_unref (mirror->items);
}

/* The list */

static void
in_list_cb (QTask *task,
            gpointer data)
{
  Mirror *mirror = data;

  /* It leaves after its callback. */
  g_assert_true (g_ptr_array_find (mirror->items, task, NULL));
}

static void
test_list (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  Mirror mirror;
  QTask *tasks[5];

  g_assert_true (g_list_model_get_item_type (G_LIST_MODEL (group)) == Q_TYPE_TASK);
  mirror_init (&mirror, group);

  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    {
      tasks[i] = add_new (group, in_list_cb, &mirror);
      g_assert_cmpuint (mirror.items->len, ==, i + 1);
      g_assert_true (mirror.items->pdata[i] == tasks[i]);
    }

  q_task_complete (tasks[1]);
  g_assert_cmpuint (mirror.items->len, ==, 4);
  g_assert_true (mirror.items->pdata[1] == tasks[2]);
  mirror_check (&mirror);
  q_task_complete (tasks[4]);
  q_task_complete (tasks[0]);
  g_assert_cmpuint (mirror.items->len, ==, 2);
  g_assert_true (mirror.items->pdata[0] == tasks[2]);
  q_task_complete (tasks[2]);
  q_task_complete (tasks[3]);
  g_assert_cmpuint (mirror.items->len, ==, 0);
  g_assert_cmpuint (mirror.n_signals, ==, 10);
  mirror_clear (&mirror);

  for (guint i = 0; i < G_N_ELEMENTS (tasks); i++)
    g_assert_finalize_object (tasks[i]);
  g_assert_finalize_object (group);
}

static void
test_list_random (void)
{
  const guint n = 2000;
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_autoptr (GPtrArray) tasks = g_ptr_array_new ();
  Mirror mirror;
  guint n_added = 0;

  mirror_init (&mirror, group);

  while (n_added < n || tasks->len > 0)
    {
      if (n_added < n && (tasks->len == 0 || g_test_rand_bit ()))
        {
          g_ptr_array_add (tasks, add_new (group, NULL, NULL));
          n_added++;
        }
      else
        {
          guint i = (guint) g_test_rand_int_range (0, (int) tasks->len);
          QTask *task = g_ptr_array_steal_index_fast (tasks, i);

          q_task_complete (task);
          g_assert_false (g_ptr_array_find (mirror.items, task, NULL));
          g_object_unref (task);
        }

      g_assert_cmpuint (mirror.items->len, ==, tasks->len);
    }

  mirror_clear (&mirror);
  g_assert_finalize_object (group);
}

static void
test_keep_completed (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  QTask *first = add_new (group, NULL, NULL);
  QTask *second = add_new (group, NULL, NULL);
  Mirror mirror;

  mirror_init (&mirror, group);
  g_ptr_array_add (mirror.items, g_object_ref (first));
  g_ptr_array_add (mirror.items, g_object_ref (second));

  q_task_complete (first);
  q_task_complete (second);
  g_assert_cmpuint (mirror.n_signals, ==, 0);
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 2);
  mirror_clear (&mirror);

  /* The group holds them as long as it lists them. */
  g_object_add_weak_pointer (G_OBJECT (first), (gpointer *) &first);
  g_object_unref (first);
  g_assert_nonnull (first);
  g_assert_finalize_object (group);
  g_assert_null (first);
  g_assert_finalize_object (second);
}

/* Completes those tasks whose letter is x, and checks that the list has the others. */
static void
check_cleared (const char *pattern,
               guint n_signals)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  gsize n = strlen (pattern);
  g_autoptr (GPtrArray) tasks = g_ptr_array_new_with_free_func (g_object_unref);
  gsize n_left = 0;
  Mirror mirror;

  mirror_init (&mirror, group);
  for (gsize i = 0; i < n; i++)
    {
      g_ptr_array_add (tasks, add_new (group, NULL, NULL));
      if (pattern[i] == 'x')
        q_task_complete (tasks->pdata[i]);
    }
  g_assert_cmpuint (mirror.items->len, ==, n);
  mirror.n_signals = mirror.n_notifies = 0;

  q_task_group_clear_completed (group);
  g_assert_cmpuint (mirror.n_signals, ==, n_signals);
  mirror_check (&mirror);

  for (gsize i = 0; i < n; i++)
    if (pattern[i] != 'x')
      g_assert_true (mirror.items->pdata[n_left++] == tasks->pdata[i]);
  g_assert_cmpuint (mirror.items->len, ==, n_left);

  q_task_group_clear_completed (group);
  g_assert_cmpuint (mirror.n_signals, ==, n_signals);

  mirror_clear (&mirror);
  g_assert_finalize_object (group);
}

static void
test_clear_completed (void)
{
  check_cleared ("", 0);
  check_cleared ("..", 0);
  check_cleared ("xxx", 1);
  check_cleared ("x..", 1);
  check_cleared ("..x", 1);
  check_cleared ("xx.x.xxx", 3);
  check_cleared (".x.x.", 2);
}

/* It is only the list that changes. */
static void
test_clear_is_of_the_list (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  QTask *failed = add_new (group, NULL, NULL);
  QTask *other = add_new (group, NULL, NULL);
  g_autoptr (GError) error = NULL;
  int n_progress = 0;

  q_task_set_new_error (failed, G_IO_ERROR, G_IO_ERROR_BUSY, "first");
  q_task_complete (failed);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 0.5);

  test_run_pending (NULL);
  g_signal_connect_swapped (group, "notify::progress", G_CALLBACK (g_atomic_int_inc), &n_progress);
  q_task_group_clear_completed (group);
  g_assert_finalize_object (failed);
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 1);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 0.5);
  g_assert_cmpint (n_progress, ==, 0);

  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ANY, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&error);

  q_task_complete (other);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 1.0);
  q_task_group_clear_completed (group);
  g_assert_finalize_object (other);

  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_finalize_object (group);
}

static void
clear_cb (QTask *task G_GNUC_UNUSED,
          gpointer group)
{
  q_task_group_clear_completed (group);
}

static void
clear_elsewhere (gpointer group,
                 gpointer user_data G_GNUC_UNUSED)
{
  q_task_group_clear_completed (group);
}

/* On each change: completes what is left, clears it, and adds one, up to a number. */
typedef struct
{
  GPtrArray *tasks;
  guint n_to_add;
} Meddler;

static void
meddle_cb (QTaskGroup *group,
           guint position G_GNUC_UNUSED,
           guint n_removed,
           guint n_added G_GNUC_UNUSED,
           gpointer data)
{
  Meddler *meddler = data;

  if (n_removed == 0 || meddler->n_to_add == 0)
    return;

  meddler->n_to_add--;
  for (guint i = 0; i < meddler->tasks->len; i++)
    if (q_task_poll (meddler->tasks->pdata[i]) == Q_TASK_STATE_NEW)
      {
        q_task_complete (meddler->tasks->pdata[i]);
        break;
      }
  g_ptr_array_add (meddler->tasks, add_new (group, NULL, NULL));
  q_task_group_clear_completed (group);
}

static void
test_clear_in_callbacks (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  QTask *task = add_new (group, clear_cb, group);
  Meddler meddler = { g_ptr_array_new_with_free_func (g_object_unref), 3 };
  Mirror mirror;

  mirror_init (&mirror, group);
  g_ptr_array_add (mirror.items, g_object_ref (task));

  /* Whose callback runs has not completed. */
  q_task_complete (task);
  g_assert_cmpuint (mirror.items->len, ==, 1);
  q_task_group_clear_completed (group);
  g_assert_cmpuint (mirror.items->len, ==, 0);
  g_assert_finalize_object (task);

  /* While it lists, after the mirror has seen it */
  for (guint i = 0; i < 8; i++)
    {
      g_ptr_array_add (meddler.tasks, add_new (group, NULL, NULL));
      if (i % 2 == 0)
        q_task_complete (meddler.tasks->pdata[i]);
    }
  g_signal_connect (group, "items-changed", G_CALLBACK (meddle_cb), &meddler);
  q_task_group_clear_completed (group);

  /* Of 11 there were completed 4 before, 3 meanwhile. */
  g_assert_cmpuint (meddler.n_to_add, ==, 0);
  g_assert_cmpuint (mirror.items->len, ==, 4);
  for (guint i = 0; i < mirror.items->len; i++)
    g_assert_cmpint (q_task_poll (mirror.items->pdata[i]), ==, Q_TASK_STATE_NEW);

  mirror_clear (&mirror);
  g_assert_finalize_object (group);
  g_ptr_array_unref (meddler.tasks);
}

static void
test_clear_elsewhere (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  QTask *tasks[] = { add_new (group, NULL, NULL), add_new (group, NULL, NULL) };
  Mirror mirror;

  mirror_init (&mirror, group);
  g_ptr_array_add (mirror.items, g_object_ref (tasks[0]));
  g_ptr_array_add (mirror.items, g_object_ref (tasks[1]));

  q_task_complete (tasks[0]);
  test_in_thread (clear_elsewhere, group);
  g_assert_cmpuint (mirror.items->len, ==, 2);
  q_task_complete (tasks[1]);
  test_run_until (NULL, mirror.items->len == 0);
  g_assert_cmpuint (mirror.n_signals, ==, 1);
  g_assert_finalize_object (tasks[0]);
  g_assert_finalize_object (tasks[1]);

  mirror_clear (&mirror);
  g_assert_finalize_object (group);
}

/* What another thread completes is noted for the owner to look at. */
static void
run_sync_elsewhere (gpointer task,
                    gpointer user_data G_GNUC_UNUSED)
{
  q_task_run_in_thread_sync (task, test_empty_worker, NULL, NULL);
}

static void
test_clear_completed_elsewhere (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  QTask *task = add_new (group, NULL, NULL);
  Mirror mirror;

  mirror_init (&mirror, group);
  g_ptr_array_add (mirror.items, g_object_ref (task));

  test_in_thread (run_sync_elsewhere, task);
  g_assert_true (q_task_get_completed (task));
  q_task_group_clear_completed (group);
  g_assert_cmpuint (mirror.items->len, ==, 0);
  test_run_pending (NULL);
  g_assert_cmpuint (mirror.items->len, ==, 0);
  g_assert_cmpuint (mirror.n_signals, ==, 1);
  g_assert_finalize_object (task);

  mirror_clear (&mirror);
  g_assert_finalize_object (group);
}

static void
test_properties (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR | Q_TASK_GROUP_KEEP_COMPLETED);
  QTaskGroupFlags flags;
  double progress;
  gboolean is_closed;
  gboolean is_cancelled;
  guint n_items;
  int n_notifies = 0;
  int n_cancelled = 0;

  g_signal_connect_swapped (group, "notify::is-closed", G_CALLBACK (g_atomic_int_inc), &n_notifies);
  g_signal_connect_swapped (group, "notify::is-cancelled", G_CALLBACK (g_atomic_int_inc), &n_cancelled);
  g_object_get (group, "flags", &flags, "progress", &progress, "is-closed", &is_closed,
                "is-cancelled", &is_cancelled, "n-items", &n_items, NULL);
  g_assert_cmpint (flags, ==, Q_TASK_GROUP_CANCEL_ON_ERROR | Q_TASK_GROUP_KEEP_COMPLETED);
  g_assert_cmpint (q_task_group_get_flags (group), ==, flags);
  g_assert_cmpfloat (progress, ==, 0.0);
  g_assert_false (is_closed);
  g_assert_cmpuint (n_items, ==, 0);
  g_assert_false (q_task_group_is_cancelled (group));
  g_assert_false (is_cancelled);

  q_task_group_close (group);
  q_task_group_close (group);
  g_object_get (group, "is-closed", &is_closed, NULL);
  g_assert_true (is_closed);
  g_assert_cmpint (n_notifies, ==, 1);
  g_assert_cmpint (n_cancelled, ==, 0);

  q_task_group_cancel (group);
  q_task_group_cancel (group);
  g_object_get (group, "is-cancelled", &is_cancelled, NULL);
  g_assert_true (is_cancelled);
  g_assert_cmpint (n_notifies, ==, 1);
  g_assert_cmpint (n_cancelled, ==, 1);
  g_assert_finalize_object (group);
}

/* Counts, in the thread it was made in, and looks whether what it tells is so. */
typedef struct
{
  GThread *thread;
  int n;
} CancelNotify;

static void
cancel_notify_cb (GObject *group,
                  GParamSpec *pspec G_GNUC_UNUSED,
                  gpointer data)
{
  CancelNotify *notify = data;

  g_assert_true (g_thread_self () == notify->thread);
  g_assert_true (q_task_group_is_cancelled (Q_TASK_GROUP (group)));
  notify->n++;
}

static void
cancel_elsewhere (gpointer group,
                  gpointer user_data G_GNUC_UNUSED)
{
  q_task_group_cancel (group);
}

static gboolean
cancel_group_worker (QTask *task G_GNUC_UNUSED,
                     gpointer group,
                     GError **error G_GNUC_UNUSED)
{
  q_task_group_cancel (group);
  return TRUE;
}

/* The owner hears of it, in its thread, whoever does it. */
static void
test_notify_cancelled (void)
{
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  CancelNotify notify = { .thread = g_thread_self () };
  TestHold hold = TEST_HOLD_INIT;
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *tasks[2];

  /* Another thread */
  g_signal_connect (group, "notify::is-cancelled", G_CALLBACK (cancel_notify_cb), &notify);
  test_in_thread (cancel_elsewhere, group);
  g_assert_true (q_task_group_is_cancelled (group));
  g_assert_cmpint (notify.n, ==, 0);
  test_run_until (NULL, notify.n == 1);
  g_assert_finalize_object (group);

  /* A worker, while the owner waits */
  group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_signal_connect (group, "notify::is-cancelled", G_CALLBACK (cancel_notify_cb), &notify);
  tasks[0] = add_pushed (group, pool, test_stoppable_worker, &hold);
  tasks[1] = add_new (group, NULL, NULL);
  g_assert_true (q_task_pool_push (pool, tasks[1], cancel_group_worker, group, NULL, NULL));
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, NULL));
  test_run_until (NULL, notify.n == 2);
  g_assert_finalize_object (tasks[0]);
  g_assert_finalize_object (tasks[1]);
  g_assert_finalize_object (group);

  /* An error in a worker */
  group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR);
  g_signal_connect (group, "notify::is-cancelled", G_CALLBACK (cancel_notify_cb), &notify);
  tasks[0] = add_pushed (group, pool, fail_worker, (char *) "first");
  test_run_until (NULL, notify.n == 3);
  test_run_until (NULL, q_task_get_completed (tasks[0]));
  g_assert_finalize_object (tasks[0]);

  /* ... and of it once */
  q_task_group_cancel (group);
  test_run_pending (NULL);
  g_assert_cmpint (notify.n, ==, 3);
  g_assert_finalize_object (group);

  /* An error that the owner sets */
  group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR);
  g_signal_connect (group, "notify::is-cancelled", G_CALLBACK (cancel_notify_cb), &notify);
  tasks[0] = add_new (group, NULL, NULL);
  q_task_set_new_error (tasks[0], G_IO_ERROR, G_IO_ERROR_BUSY, "first");
  q_task_complete (tasks[0]);
  g_assert_cmpint (notify.n, ==, 4);
  g_assert_finalize_object (tasks[0]);

  /* To drop it is not to cancel it. */
  g_assert_finalize_object (group);
  group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_signal_connect (group, "notify::is-cancelled", G_CALLBACK (cancel_notify_cb), &notify);
  g_assert_finalize_object (group);
  test_run_pending (NULL);
  g_assert_cmpint (notify.n, ==, 4);

  close_pool (pool);
}

/* Adding */

static void
make_task_cb (gpointer context G_GNUC_UNUSED,
              gpointer data)
{
  *(QTask **) data = q_task_new (NULL, NULL, NULL, NULL);
}

#define assert_refused(group, task, domain, code) \
  G_STMT_START \
  { \
    g_autoptr (GError) error_ = NULL; \
    g_assert_false (q_task_group_add (group, task, &error_)); \
    g_assert_error (error_, domain, code); \
  } \
  G_STMT_END

static void
call_make_task (gpointer data,
                gpointer user_data G_GNUC_UNUSED)
{
  make_task_cb (NULL, data);
}

static void
test_add_refused (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  QTaskGroup *other = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_autoptr (TestLoop) loop = test_loop_new ("other");
  QTask *task = add_new (group, NULL, NULL);
  QTask *completed = q_task_new (NULL, NULL, NULL, NULL);
  QTask *fresh = q_task_new (NULL, NULL, NULL, NULL);
  QTask *foreign = NULL;

  assert_refused (group, task, G_IO_ERROR, G_IO_ERROR_EXISTS);
  assert_refused (other, task, G_IO_ERROR, G_IO_ERROR_EXISTS);

  q_task_complete (completed);
  assert_refused (group, completed, G_IO_ERROR, G_IO_ERROR_PENDING);

  test_loop_call (loop, call_make_task, &foreign);
  assert_refused (group, foreign, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);

  q_task_complete (task);
  assert_refused (group, task, G_IO_ERROR, G_IO_ERROR_PENDING);
  assert_refused (other, task, G_IO_ERROR, G_IO_ERROR_PENDING);

  q_task_group_close (group);
  assert_refused (group, fresh, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 1);
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (other)), ==, 0);

  /* What was refused can go elsewhere. */
  g_assert_true (q_task_group_add (other, fresh, NULL));
  q_task_complete (fresh);

  g_assert_finalize_object (group);
  g_assert_finalize_object (other);
  g_assert_finalize_object (task);
  g_assert_finalize_object (completed);
  g_assert_finalize_object (fresh);
  g_object_unref (foreign);
}

/* A task that has its outcome, but not its callback, is added by the owner as any other. */
static void
test_add_ended (void)
{
  g_autoptr (GError) error = NULL;
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  gint64 end_time = test_end_time ();

  g_assert_true (q_task_pool_push (pool, task, fail_worker, (gpointer) "ended", NULL, NULL));
  while (q_task_poll (task) != Q_TASK_STATE_FINISHED)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, end_time);
      g_thread_yield ();
    }

  g_assert_true (q_task_group_add (group, task, &error));
  g_assert_no_error (error);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_true (q_task_get_completed (task));
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 0);

  g_assert_finalize_object (task);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* The list is in the context of the group, and so its tasks stay there. */
static void
test_context_stays (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = add_new (group, NULL, NULL);
  GMainContext *context = g_main_context_new ();

  test_critical_says ("The task * is in a group*call q_task_set_context() before*",
                      q_task_set_context (task, context));
  g_assert_true (q_task_get_context (task) == g_main_context_default ());

  q_task_complete (task);
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 0);
  g_main_context_unref (context);
  g_assert_finalize_object (task);
  g_assert_finalize_object (group);
}

typedef struct
{
  QTaskGroup *group;
  QTaskPool *pool;
  TestGate added;
  TestGate go_on;
  gboolean add_ok;
  gboolean wait_ok;
  GError *error;
  QTaskGroupWaitMode mode;
  QTaskWorker worker;
  gpointer data;
  guint n;
} Elsewhere;

static void
add_elsewhere (gpointer data,
               gpointer user_data G_GNUC_UNUSED)
{
  Elsewhere *self = data;

  for (guint i = 0; i < self->n; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);

      g_assert_true (q_task_group_add (self->group, task, NULL));
      g_assert_true (q_task_pool_push (self->pool, task, self->worker, self->data, NULL, NULL));
    }

  q_task_group_close (self->group);
}

static void
test_add_elsewhere (void)
{
  TestHold hold = TEST_HOLD_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  Elsewhere self = { .group = group, .pool = pool, .n = 3, .worker = test_hold_worker, .data = &hold };
  gboolean is_closed = FALSE;
  Mirror mirror;

  mirror_init (&mirror, group);
  g_signal_connect_swapped (group, "notify::is-closed", G_CALLBACK (g_atomic_int_inc), &is_closed);

  /* The list changes in the owner's thread, when that comes to it. */
  test_in_thread ((GFunc) add_elsewhere, &self);
  g_assert_cmpuint (mirror.items->len, ==, 0);
  g_assert_true (q_task_group_is_closed (group));
  test_run_until (NULL, mirror.items->len == 3);
  g_assert_cmpuint (mirror.n_signals, ==, 1);
  test_run_until (NULL, is_closed);

  test_gate_open (&hold.release);
  test_run_until (NULL, mirror.items->len == 0);
  g_assert_cmpuint (mirror.n_signals, ==, 4);

  mirror_clear (&mirror);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* What goes while the list is brought up to date, before it was listed, may add to the group. */
typedef struct
{
  QTaskGroup *group;
  QTask *first;
  QTask *late;
} Adds;

static void
add_late_notify (gpointer data)
{
  Adds *self = data;

  g_assert_true (q_task_group_add (self->group, self->late, NULL));
}

static void
add_and_end_elsewhere (gpointer data,
                       gpointer user_data G_GNUC_UNUSED)
{
  Adds *self = data;
  g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);

  self->first = add_new (self->group, NULL, NULL);
  g_assert_true (q_task_group_add (self->group, task, NULL));
  q_task_set_task_data (task, self, add_late_notify);
  q_task_run_in_thread_sync (task, test_empty_worker, NULL, NULL);
}

static void
test_add_while_listing (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  Adds self = { group, NULL, q_task_new (NULL, NULL, NULL, NULL) };
  Mirror mirror;

  mirror_init (&mirror, group);
  g_main_context_acquire (NULL);
  test_in_thread ((GFunc) add_and_end_elsewhere, &self);
  g_main_context_release (NULL);
  g_assert_cmpuint (mirror.items->len, ==, 0);

  test_run_until (NULL, mirror.items->len == 2);
  g_assert_true (mirror.items->pdata[0] == self.first);
  g_assert_true (mirror.items->pdata[1] == self.late);

  q_task_complete (self.late);
  q_task_complete (self.first);
  test_run_until (NULL, mirror.items->len == 0);
  mirror_clear (&mirror);
  test_finalize_soon (self.first);
  g_assert_finalize_object (self.late);
  g_assert_finalize_object (group);
}

/* Cancelling */

static void
test_cancel (void)
{
  TestHold hold = TEST_HOLD_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  TestReport reports[3] = { TEST_REPORT_INIT, TEST_REPORT_INIT, TEST_REPORT_INIT };
  QTask *running = add_new (group, test_report_cb, &reports[0]);
  QTask *queued = add_new (group, test_report_cb, &reports[1]);
  QTask *late = q_task_new (NULL, test_report_cb, &reports[2], NULL);
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_pool_push (pool, running, test_stoppable_worker, &hold, NULL, NULL));
  g_assert_true (q_task_pool_push (pool, queued, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);

  q_task_group_cancel (group);
  g_assert_true (q_task_group_is_cancelled (group));
  g_assert_true (q_task_is_cancelled (running));

  /* What is added later is cancelled as well. */
  g_assert_true (q_task_group_add (group, late, NULL));
  g_assert_true (q_task_is_cancelled (late));
  g_assert_true (q_task_pool_push (pool, late, test_hold_worker, &hold, NULL, NULL));

  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  for (guint i = 0; i < 3; i++)
    {
      g_assert_cmpint (reports[i].called, ==, 1);
      g_assert_error (reports[i].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      test_report_clear (&reports[i]);
    }
  g_assert_cmpint (test_gate_get_count (&hold.entered), ==, 1);

  g_assert_finalize_object (running);
  g_assert_finalize_object (queued);
  g_assert_finalize_object (late);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* Others may share a cancellable that was given. */
static void
test_cancel_given (void)
{
  g_autoptr (GCancellable) given = g_cancellable_new ();
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = q_task_new_async (NULL, given, NULL, NULL);

  g_assert_true (q_task_group_add (group, task, NULL));
  q_task_group_cancel (group);
  g_assert_true (q_task_is_cancelled (task));
  g_assert_false (g_cancellable_is_cancelled (given));

  q_task_return_boolean (task, TRUE);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_finalize_object (task);
  g_assert_finalize_object (group);
}

/* The others hear of it at once, also while the owner does something else. */
static void
test_cancel_on_error (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestGate gate = TEST_GATE_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR);
  QTask *running = add_pushed (group, pool, test_stoppable_worker, &hold);
  QTask *failing = add_pushed (group, pool, fail_when_open_worker, &gate);
  QTask *queued = add_pushed (group, pool, test_hold_worker, &hold);
  g_autoptr (GError) error = NULL;

  test_gate_wait (&hold.entered);
  g_assert_false (q_task_group_is_cancelled (group));
  test_gate_open (&gate);

  /* Waits for this one alone. */
  g_assert_true (q_task_wait_until (running, test_end_time (), NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_group_is_cancelled (group));
  g_assert_true (q_task_is_cancelled (queued));

  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpint (test_gate_get_count (&hold.entered), ==, 1);

  g_assert_finalize_object (running);
  g_assert_finalize_object (failing);
  g_assert_finalize_object (queued);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* Likewise when the error is there before the worker ends, or there is none. */
static void
test_cancel_on_timeout (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestHold stubborn = TEST_HOLD_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR);
  QTask *running = add_pushed (group, pool, test_stoppable_worker, &hold);
  QTask *late = add_new (group, NULL, NULL);
  g_autoptr (GError) error = NULL;

  q_task_set_timeout (late, 1000);
  g_assert_true (q_task_pool_push (pool, late, test_hold_worker, &stubborn, NULL, NULL));
  test_gate_wait (&hold.entered);
  test_gate_wait (&stubborn.entered);

  /* The worker of the late one does not mind. */
  test_run_until (NULL, q_task_get_completed (running));
  g_assert_cmpint (q_task_poll (late), ==, Q_TASK_STATE_STOPPING);
  g_assert_true (q_task_is_cancelled (running));
  test_gate_open (&stubborn.release);

  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);

  g_assert_finalize_object (running);
  g_assert_finalize_object (late);
  g_assert_finalize_object (group);
  close_pool (pool);
}

static void
return_error (gpointer task,
              gpointer user_data G_GNUC_UNUSED)
{
  q_task_return_new_error_literal (task, G_IO_ERROR, G_IO_ERROR_BUSY, "busy");
}

static void
test_cancel_on_return (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR);
  QTask *failing = add_new (group, NULL, NULL);
  QTask *other = add_new (group, NULL, NULL);

  /* While nobody iterates the context */
  test_in_thread ((GFunc) return_error, failing);
  g_assert_false (q_task_get_completed (failing));
  g_assert_true (q_task_is_cancelled (other));
  g_assert_true (q_task_group_is_cancelled (group));

  q_task_complete (other);
  test_run_until (NULL, q_task_get_completed (failing));
  g_assert_finalize_object (other);
  g_assert_finalize_object (failing);
  g_assert_finalize_object (group);
}

static void
test_no_cancel_on_error (void)
{
  TestHold hold = TEST_HOLD_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *running = add_pushed (group, pool, test_hold_worker, &hold);
  QTask *failing = add_pushed (group, pool, fail_worker, (gpointer) "first");
  g_autoptr (GError) error = NULL;

  test_run_until (NULL, q_task_get_completed (failing));
  g_assert_false (q_task_is_cancelled (running));
  test_gate_open (&hold.release);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (error->message, ==, "first");
  g_assert_false (q_task_had_error (running));

  g_assert_finalize_object (running);
  g_assert_finalize_object (failing);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* Waiting by the owner */

static void
count_cb (QTask *task,
          gpointer count)
{
  g_autoptr (GError) error = NULL;

  /* What is taken here is not lost to the group. */
  q_task_propagate_error (task, &error);
  ++*(int *) count;
}

static void
test_wait_all (void)
{
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_autoptr (GError) error = NULL;
  int count = 0;

  /* Nothing to wait for */
  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_no_error (error);

  for (int i = 0; i < 100; i++)
    {
      QTask *task = add_new (group, count_cb, &count);

      g_assert_true (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
      g_object_unref (task);
    }

  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpint (count, ==, 100);
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 0);

  for (int i = 0; i < 3; i++)
    {
      static const char *const messages[] = { "first", "second", "third" };
      QTask *task = add_new (group, count_cb, &count);

      g_assert_true (q_task_pool_push (pool, task, fail_worker, (gpointer) messages[i], NULL, NULL));
      if (i == 0)
        g_assert_true (q_task_wait (task, NULL, NULL));
      g_object_unref (task);
    }

  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (error->message, ==, "first");
  g_assert_cmpint (count, ==, 103);

  g_assert_finalize_object (group);
  close_pool (pool);
}

static void
test_wait_any (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestGate gate = TEST_GATE_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 3, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *held = add_pushed (group, pool, test_hold_worker, &hold);
  QTask *quick = add_pushed (group, pool, fail_when_open_worker, &gate);
  g_autoptr (GError) error = NULL;

  test_gate_wait (&hold.entered);
  test_gate_open (&gate);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ANY, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&error);
  g_assert_true (q_task_get_completed (quick));
  g_assert_false (q_task_get_completed (held));
  g_assert_cmpint (q_task_poll (held), ==, Q_TASK_STATE_RUNNING);

  /* The one that was first stays that. */
  test_gate_open (&hold.release);
  test_run_until (NULL, q_task_get_completed (held));
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ANY, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);

  g_assert_finalize_object (held);
  g_assert_finalize_object (quick);
  g_assert_finalize_object (group);
  close_pool (pool);
}

static void
test_wait_any_success (void)
{
  TestGate gate = TEST_GATE_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *slow = add_pushed (group, pool, fail_when_open_worker, &gate);
  QTask *quick = add_pushed (group, pool, test_empty_worker, NULL);
  g_autoptr (GError) error = NULL;

  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ANY, NULL, &error));
  g_assert_no_error (error);
  g_assert_false (q_task_get_completed (slow));
  test_gate_open (&gate);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);

  g_assert_finalize_object (slow);
  g_assert_finalize_object (quick);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* An owner who waits serves all tasks of the group, whichever it is that needs it. */
typedef struct
{
  int n_syncs;
  int n_messages;
  int n_progress;
  int n_group_progress;
} Served;

static void
served_sync_cb (QTask *task,
                gpointer data)
{
  ((Served *) data)->n_syncs++;
  q_task_resume (task, FALSE);
}

static void
served_message_cb (QTask *task G_GNUC_UNUSED,
                   GBytes *message,
                   gpointer data)
{
  if (message != NULL)
    ((Served *) data)->n_messages++;
}

static gboolean
needy_worker (QTask *task,
              gpointer gate,
              GError **error)
{
  for (int i = 0; i < 5; i++)
    {
      q_task_set_progress (task, (i + 1) / 10.0, NULL);
      if (!q_task_sync (task, error) ||
          !q_task_channel_write (q_task_get_worker_channel (task), "x", 1, NULL, error))
        return FALSE;
    }

  test_gate_open (gate);
  test_gate_wait_for ((TestGate *) gate, 3);

  return TRUE;
}

static void
test_wait_serves (void)
{
  TestGate gate = TEST_GATE_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 3, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  Served served[3] = { { 0 } };
  QTask *tasks[3];
  g_autoptr (GError) error = NULL;

  for (int i = 0; i < 3; i++)
    {
      tasks[i] = add_new (group, NULL, NULL);
      g_assert_true (q_task_open_channel (tasks[i], NULL));
      q_task_bind_callback (tasks[i], served_message_cb, &served[i], NULL);
      q_task_set_sync_func (tasks[i], served_sync_cb, &served[i], NULL);
      q_task_set_progress_interval (tasks[i], 0);
      g_signal_connect_swapped (tasks[i], "notify::progress", G_CALLBACK (g_atomic_int_inc),
                                &served[i].n_progress);
      g_assert_true (q_task_pool_push (pool, tasks[i], needy_worker, &gate, NULL, NULL));
    }
  g_signal_connect_swapped (group, "notify::progress", G_CALLBACK (g_atomic_int_inc),
                            &served[0].n_group_progress);

  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_no_error (error);

  for (int i = 0; i < 3; i++)
    {
      g_assert_cmpint (served[i].n_syncs, ==, 5);
      g_assert_cmpint (served[i].n_messages, ==, 5);
      g_assert_cmpint (served[i].n_progress, >=, 1);
      g_assert_finalize_object (tasks[i]);
    }
  g_assert_cmpint (served[0].n_group_progress, >=, 1);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 1.0);

  g_assert_finalize_object (group);
  close_pool (pool);
}

/* ... and those that another thread adds meanwhile. */
static void
add_needy (gpointer data,
           gpointer user_data G_GNUC_UNUSED)
{
  Elsewhere *self = data;
  QTask *task = self->data;

  test_gate_wait (&self->added);
  g_assert_true (q_task_group_add (self->group, task, NULL));
  g_assert_true (q_task_pool_push (self->pool, task, needy_worker, &self->go_on, NULL, NULL));
}

static gpointer
add_needy_thread (gpointer data)
{
  add_needy (data, NULL);
  return NULL;
}

static void
test_wait_serves_what_others_add (void)
{
  TestGate gate = TEST_GATE_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *held = add_pushed (group, pool, fail_when_open_worker, &gate);
  QTask *needy = q_task_new (NULL, NULL, NULL, NULL);
  Elsewhere self = { .group = group, .pool = pool, .data = needy };
  Served served = { 0 };
  GError *error = NULL;
  GThread *thread;

  g_assert_true (q_task_open_channel (needy, NULL));
  q_task_bind_callback (needy, served_message_cb, &served, NULL);
  q_task_set_sync_func (needy, served_sync_cb, &served, NULL);
  self.go_on.count = 2; /* the worker does not wait for others */

  /* The first one goes on until the other has completed, in a wait that has begun. */
  thread = g_thread_new ("adder", add_needy_thread, &self);
  g_signal_connect_swapped (needy, "notify::completed", G_CALLBACK (test_gate_open), &gate);
  test_gate_open (&self.added);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&error);
  g_thread_join (thread);

  g_assert_true (q_task_get_completed (needy));
  g_assert_cmpint (served.n_syncs, ==, 5);
  g_assert_cmpint (served.n_messages, ==, 5);

  g_assert_finalize_object (held);
  g_assert_finalize_object (needy);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* What a callback starts is waited for as well. */
static void
start_next_cb (QTask *task,
               gpointer data)
{
  Elsewhere *self = data;

  if (self->n-- > 0)
    {
      g_autoptr (QTask) next = q_task_new (NULL, start_next_cb, data, NULL);

      g_assert_true (q_task_group_add (self->group, next, NULL));
      g_assert_true (q_task_pool_push (self->pool, next, test_empty_worker, NULL, NULL, NULL));
    }
}

static void
test_wait_chain (void)
{
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  Elsewhere self = { .group = group, .pool = pool, .n = 50 };
  QTask *task = add_new (group, start_next_cb, &self);
  QTask *waiting[3];
  g_autoptr (GError) error = NULL;

  /* Not started until a callback does so. */
  for (int i = 0; i < 3; i++)
    waiting[i] = add_new (group, NULL, NULL);
  for (int i = 0; i < 3; i++)
    g_signal_connect_data (i == 0 ? task : waiting[i - 1], "notify::completed",
                           G_CALLBACK (q_task_complete), waiting[i], NULL,
                           G_CONNECT_SWAPPED);

  g_assert_true (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (self.n, ==, G_MAXUINT);
  g_assert_true (q_task_get_completed (waiting[2]));

  g_assert_finalize_object (task);
  for (int i = 0; i < 3; i++)
    g_object_unref (waiting[i]);
  g_assert_finalize_object (group);
  close_pool (pool);
}

static gboolean
wait_for_gate_worker (QTask *task G_GNUC_UNUSED,
                      gpointer gate,
                      GError **error G_GNUC_UNUSED)
{
  test_gate_wait ((TestGate *) gate);
  return TRUE;
}

static void
wait_again_cb (QTask *task G_GNUC_UNUSED,
               gpointer data)
{
  Elsewhere *self = data;

  test_gate_open (&self->go_on);
  self->wait_ok = q_task_group_wait (self->group, self->mode, NULL, &self->error);
  self->n++;
}

/* The callback of a task of the group waits for the group in turn: its own task counts as over
 * there, as it does for q_task_wait(). The others complete in there. */
static void
test_wait_nested (void)
{
  for (int i = 0; i < 4; i++)
    {
      QTaskPool *pool = q_task_pool_new ("group", 2, 0);
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      Elsewhere self = {
        .group = group,
        .go_on = TEST_GATE_INIT,
        .mode = i < 2 ? Q_TASK_GROUP_ALL : Q_TASK_GROUP_ANY,
      };
      QTask *task = add_new (group, wait_again_cb, &self);
      QTask *other = add_pushed (group, pool, wait_for_gate_worker, &self.go_on);
      g_autoptr (GError) error = NULL;

      g_assert_true (q_task_pool_push (pool, task, test_empty_worker, NULL, NULL, NULL));
      if (i % 2)
        g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
      else
        test_run_until (NULL, self.n == 1 && q_task_get_completed (other));
      g_assert_no_error (error);
      g_assert_cmpuint (self.n, ==, 1);
      g_assert_true (self.wait_ok);
      g_assert_no_error (self.error);
      g_assert_true (q_task_get_completed (other));

      g_assert_finalize_object (task);
      g_assert_finalize_object (other);
      g_assert_finalize_object (group);
      close_pool (pool);
    }
}

static void
test_wait_cancelled (void)
{
  TestHold hold = TEST_HOLD_INIT;
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = add_pushed (group, pool, test_hold_worker, &hold);
  g_autoptr (GThread) canceller = NULL;
  g_autoptr (GError) error = NULL;

  test_gate_wait (&hold.entered);
  canceller = g_thread_new ("cancel", (GThreadFunc) g_cancellable_cancel, cancellable);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_thread_join (g_steal_pointer (&canceller));
  g_assert_false (q_task_is_cancelled (task));

  /* Its completion comes in the main loop again. */
  test_gate_open (&hold.release);
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_finalize_object (task);
  g_assert_finalize_object (group);
  close_pool (pool);
}

static void
test_wait_timeout (void)
{
  TestHold hold = TEST_HOLD_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = add_new (group, NULL, NULL);
  g_autoptr (GError) error = NULL;

  /* The owner who waits counts down the timeouts. */
  q_task_set_timeout (task, 1000);
  g_assert_true (q_task_pool_push (pool, task, test_stoppable_worker, &hold, NULL, NULL));
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);

  g_assert_finalize_object (task);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* Deadlocks */

static void
test_wait_not_started (void)
{
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *started = add_pushed (group, pool, test_empty_worker, NULL);
  QTask *fresh = add_new (group, NULL, NULL);
  g_autoptr (GError) error = NULL;

  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_clear_error (&error);
  g_assert_true (q_task_get_completed (started));
  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ANY, NULL, &error));

  q_task_complete (fresh);
  g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_no_error (error);

  g_assert_finalize_object (started);
  g_assert_finalize_object (fresh);
  g_assert_finalize_object (group);

  group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ANY, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
  g_clear_error (&error);
  q_task_group_close (group);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ANY, NULL, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_assert_finalize_object (group);
  close_pool (pool);
}

/* Another thread adds a task, and only then starts it, as it should. */
static gpointer
add_and_push_thread (gpointer data)
{
  Elsewhere *self = data;
  g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_group_add (self->group, task, NULL));
  test_gate_open (&self->added);
  if (self->pool == NULL)
    return NULL;

  g_usleep (5000); /* or else the owner might come too late to be wrong */
  test_pool_push (self->pool, task, test_empty_worker, NULL, NULL);

  return NULL;
}

static void
test_wait_just_added (void)
{
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);

  g_main_context_acquire (NULL);

  for (int is_started = 0; is_started < 2; is_started++)
    {
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      Elsewhere self = { .group = group, .pool = is_started ? pool : NULL, .added = TEST_GATE_INIT };
      GThread *thread = g_thread_new ("adds", add_and_push_thread, &self);
      g_autoptr (GError) error = NULL;

      test_gate_wait (&self.added);
      g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error) == is_started);
      if (is_started)
        g_assert_no_error (error);
      else
        g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);

      g_thread_join (thread);
      g_assert_finalize_object (group);
    }

  g_main_context_release (NULL);
  close_pool (pool);
}

/* A worker waits for a group. */
static gboolean
wait_worker (QTask *task G_GNUC_UNUSED,
             gpointer data,
             GError **error)
{
  Elsewhere *self = data;

  test_gate_open (&self->added);

  return q_task_group_wait (self->group, self->mode, NULL, error);
}

static void
test_wait_ring (void)
{
  for (QTaskGroupWaitMode mode = Q_TASK_GROUP_ALL; mode <= Q_TASK_GROUP_ANY; mode++)
    {
      QTaskPool *pool = q_task_pool_new ("group", 2, 0);
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      Elsewhere self = { .group = group, .mode = mode, .added = TEST_GATE_INIT };
      QTask *task = add_pushed (group, pool, wait_worker, &self);

      test_run_until (NULL, q_task_get_completed (task));
      g_assert_error (q_task_get_error (task), Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);

      g_assert_finalize_object (task);
      g_assert_finalize_object (group);
      close_pool (pool);
    }
}

/* Two workers that wait for one another, by way of groups. */
typedef struct
{
  QTaskPool *pool;
  QTaskGroup *group; /* where the wait is for any of it */
  QTask *task;
  TestGate *meet;
} Ring;

static gboolean
wait_in_ring_worker (QTask *task G_GNUC_UNUSED,
                     gpointer data,
                     GError **error)
{
  Ring *self = data;

  return q_task_wait (self->task, NULL, error);
}

static gboolean
ring_worker (QTask *task G_GNUC_UNUSED,
             gpointer data,
             GError **error)
{
  Ring *self = data;
  g_autoptr (GMainContext) context = NULL;
  g_autoptr (QTaskGroup) group = NULL;
  g_autoptr (QTask) part = NULL;
  gboolean success;

  test_gate_open (self->meet);
  test_gate_wait_for (self->meet, 2);

  if (self->group != NULL)
    return q_task_group_wait (self->group, Q_TASK_GROUP_ANY, NULL, error);

  /* It is the owner of a task that waits for the other. */
  context = g_main_context_new ();
  g_main_context_push_thread_default (context);
  group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  part = add_new (group, NULL, NULL);
  success = q_task_pool_push (self->pool, part, wait_in_ring_worker, self, NULL, error) &&
            q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, error);
  g_main_context_pop_thread_default (context);

  return success;
}

static void
test_wait_ring_of_two (void)
{
  for (int is_owner = 0; is_owner < 2; is_owner++)
    {
      QTaskPool *pool = q_task_pool_new ("group", 4, 0);
      TestGate meet = TEST_GATE_INIT;
      QTaskGroup *groups[2];
      QTask *tasks[2];
      Ring rings[2];

      for (int i = 0; i < 2; i++)
        {
          groups[i] = q_task_group_new (Q_TASK_GROUP_DEFAULT);
          tasks[i] = add_new (groups[i], NULL, NULL);
        }

      for (int i = 0; i < 2; i++)
        {
          rings[i] = (Ring){ pool, is_owner ? NULL : groups[1 - i], tasks[1 - i], &meet };
          test_pool_push (pool, tasks[i], ring_worker, &rings[i], NULL);
        }

      for (int i = 0; i < 2; i++)
        test_run_until (NULL, q_task_get_completed (tasks[i]));
      g_assert_true (g_error_matches (q_task_get_error (tasks[0]), Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK) ||
                     g_error_matches (q_task_get_error (tasks[1]), Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK));

      close_pool (pool);
      for (int i = 0; i < 2; i++)
        {
          test_finalize_soon (tasks[i]);
          test_finalize_soon (groups[i]);
        }
    }
}

static gboolean
hold_or_wait_worker (QTask *task G_GNUC_UNUSED,
                     gpointer data,
                     GError **error)
{
  Ring *self = data;

  test_gate_open (self->meet);

  return q_task_group_wait (self->group, Q_TASK_GROUP_ANY, NULL, error);
}

/* Who waits for any of a group goes on when one has ended, whatever the others wait for. */
static void
test_wait_any_is_no_ring (void)
{
  for (int i = 0; i < test_scaled (200); i++)
    {
      QTaskPool *pool = q_task_pool_new ("group", 4, 0);
      TestGate entered = TEST_GATE_INIT;
      TestHold hold = TEST_HOLD_INIT;
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      QTask *held = add_pushed (group, pool, test_hold_worker, &hold);
      QTask *waiter = q_task_new (NULL, NULL, NULL, NULL);
      Ring any = { .group = group, .meet = &entered };
      Ring back = { .task = waiter };
      QTask *other;

      test_pool_push (pool, waiter, hold_or_wait_worker, &any, NULL);
      test_gate_wait (&entered);
      other = add_pushed (group, pool, wait_in_ring_worker, &back);
      test_gate_open (&hold.release);

      test_run_until (NULL, q_task_get_completed (waiter) && q_task_get_completed (other) &&
                              q_task_get_completed (held));
      g_assert_no_error (q_task_get_error (waiter));
      g_assert_no_error (q_task_get_error (other));

      close_pool (pool);
      test_finalize_soon (held);
      test_finalize_soon (waiter);
      test_finalize_soon (other);
      test_finalize_soon (group);
    }
}

static void
test_wait_in_serial (void)
{
  for (QTaskGroupWaitMode mode = Q_TASK_GROUP_ALL; mode <= Q_TASK_GROUP_ANY; mode++)
    {
      TestHold hold = TEST_HOLD_INIT;
      QTaskPool *pool = q_task_pool_new_serial ("serial");
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      Elsewhere self = { .group = group, .mode = mode, .added = TEST_GATE_INIT };
      QTask *waiter = q_task_new (NULL, NULL, NULL, NULL);
      QTask *held = q_task_new (NULL, NULL, NULL, NULL);
      QTask *first;
      QTask *second;

      g_assert_true (q_task_pool_push (pool, held, test_hold_worker, &hold, NULL, NULL));
      g_assert_true (q_task_pool_push (pool, waiter, wait_worker, &self, NULL, NULL));
      first = add_pushed (group, pool, test_empty_worker, NULL);
      second = add_pushed (group, pool, test_empty_worker, NULL);
      test_gate_open (&hold.release);

      test_run_until (NULL, q_task_get_completed (waiter) && q_task_get_completed (second));
      g_assert_error (q_task_get_error (waiter), Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);

      g_assert_finalize_object (held);
      g_assert_finalize_object (waiter);
      g_assert_finalize_object (first);
      g_assert_finalize_object (second);
      g_assert_finalize_object (group);
      close_pool (pool);
    }
}

/* In a pool of one thread, with tasks that wait in its queue. */
static gboolean
spread_worker (QTask *task G_GNUC_UNUSED,
               gpointer data,
               GError **error)
{
  Elsewhere *self = data;
  g_autoptr (QTaskGroup) group = q_task_group_new (Q_TASK_GROUP_DEFAULT);

  for (guint i = 0; i < self->n; i++)
    {
      g_autoptr (QTask) part = q_task_new (NULL, NULL, NULL, NULL);

      if (!q_task_group_add (group, part, error) ||
          !q_task_pool_push (self->pool, part, self->worker, self->data, NULL, error))
        return FALSE;
    }

  return q_task_group_wait (group, self->mode, NULL, error);
}

static void
test_wait_in_worker (void)
{
  for (QTaskGroupWaitMode mode = Q_TASK_GROUP_ALL; mode <= Q_TASK_GROUP_ANY; mode++)
    {
      QTaskPool *pool = q_task_pool_new ("one", 1, 0);
      Elsewhere self = { .pool = pool, .mode = mode, .n = 20, .worker = test_empty_worker };
      QTask *task = q_task_new (NULL, NULL, NULL, NULL);

      g_assert_true (q_task_pool_push (pool, task, spread_worker, &self, NULL, NULL));
      test_run_until (NULL, q_task_get_completed (task));
      g_assert_no_error (q_task_get_error (task));

      g_object_unref (task);
      g_assert_true (q_task_pool_close (pool, Q_TASK_POOL_CLOSE_DRAIN, NULL, NULL));
      test_run_pending (NULL);
      g_object_unref (pool);
    }
}

/* ... also when the worker is the owner of them, and is needed meanwhile. */
static gboolean
own_worker (QTask *task G_GNUC_UNUSED,
            gpointer data,
            GError **error)
{
  Elsewhere *self = data;
  GMainContext *context = g_main_context_new ();
  Served served = { 0 };
  TestGate gate = TEST_GATE_INIT;
  QTaskGroup *group;
  gboolean success = TRUE;

  g_main_context_push_thread_default (context);
  group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  gate.count = 3;

  for (guint i = 0; success && i < self->n; i++)
    {
      g_autoptr (QTask) part = q_task_new (NULL, NULL, NULL, NULL);

      q_task_set_sync_func (part, served_sync_cb, &served, NULL);
      q_task_bind_callback (part, served_message_cb, &served, NULL);
      success = q_task_open_channel (part, error) && q_task_group_add (group, part, error) &&
                q_task_pool_push (self->pool, part, needy_worker, &gate, NULL, error);
    }

  success = success && q_task_group_wait (group, self->mode, NULL, error);
  if (self->mode == Q_TASK_GROUP_ALL)
    g_assert_cmpint (served.n_syncs, ==, 5 * self->n);
  else
    success = success && q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, error);

  g_object_unref (group);
  g_main_context_pop_thread_default (context);
  g_main_context_unref (context);

  return success;
}

static void
test_wait_in_worker_that_owns (void)
{
  for (QTaskGroupWaitMode mode = Q_TASK_GROUP_ALL; mode <= Q_TASK_GROUP_ANY; mode++)
    {
      QTaskPool *pool = q_task_pool_new ("one", 1, 0);
      Elsewhere self = { .pool = pool, .mode = mode, .n = 5 };
      QTask *task = q_task_new (NULL, NULL, NULL, NULL);

      test_pool_push (pool, task, own_worker, &self, NULL);
      test_run_until (NULL, q_task_get_completed (task));
      g_assert_no_error (q_task_get_error (task));

      g_object_unref (task);
      close_pool (pool);
    }
}

/* What syncs goes on only when its sync function has ended. */
static void
wait_in_sync_cb (QTask *task,
                 gpointer data)
{
  Elsewhere *self = data;

  self->wait_ok = q_task_group_wait (self->group, self->mode, NULL, &self->error);
  q_task_resume (task, FALSE);
}

static gboolean
sync_worker (QTask *task,
             gpointer data G_GNUC_UNUSED,
             GError **error)
{
  return q_task_sync (task, error);
}

static void
test_wait_in_sync (void)
{
  for (QTaskGroupWaitMode mode = Q_TASK_GROUP_ALL; mode <= Q_TASK_GROUP_ANY; mode++)
    {
      QTaskPool *pool = q_task_pool_new ("group", 1, 0);
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      Elsewhere self = { .group = group, .mode = mode };
      QTask *task = add_new (group, NULL, NULL);

      q_task_set_sync_func (task, wait_in_sync_cb, &self, NULL);
      test_pool_push (pool, task, sync_worker, NULL, NULL);
      test_run_until (NULL, q_task_get_completed (task));
      g_assert_false (self.wait_ok);
      g_assert_error (self.error, Q_TASK_ERROR, Q_TASK_ERROR_DEADLOCK);
      g_error_free (self.error);

      g_assert_finalize_object (task);
      g_assert_finalize_object (group);
      close_pool (pool);
    }
}

static void
test_wait_in_worker_error (void)
{
  QTaskPool *pool = q_task_pool_new ("one", 1, 0);
  Elsewhere self = { .pool = pool, .n = 3, .worker = fail_worker, .data = (gpointer) "part" };
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  g_assert_true (q_task_pool_push (pool, task, spread_worker, &self, NULL, NULL));
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_error (q_task_get_error (task), G_IO_ERROR, G_IO_ERROR_BUSY);

  g_object_unref (task);
  close_pool (pool);
  test_run_pending (NULL);
}

/* A thread that is no owner hears of outcomes while nobody iterates the context. */
static void
wait_thread (gpointer data,
             gpointer user_data G_GNUC_UNUSED)
{
  Elsewhere *self = data;

  self->wait_ok = q_task_group_wait (self->group, self->mode, NULL, &self->error);
}

static void
test_wait_elsewhere (void)
{
  for (QTaskGroupWaitMode mode = Q_TASK_GROUP_ALL; mode <= Q_TASK_GROUP_ANY; mode++)
    {
      QTaskPool *pool = q_task_pool_new ("group", 2, 0);
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      Elsewhere self = { .group = group, .mode = mode };
      QTask *first = add_pushed (group, pool, fail_worker, (gpointer) "first");
      QTask *second = add_pushed (group, pool, fail_worker, (gpointer) "first");

      test_in_thread ((GFunc) wait_thread, &self);
      g_assert_false (self.wait_ok);
      g_assert_error (self.error, G_IO_ERROR, G_IO_ERROR_BUSY);
      g_error_free (self.error);
      g_assert_false (q_task_get_completed (first));

      g_assert_true (q_task_wait (first, NULL, NULL));
      g_assert_true (q_task_wait (second, NULL, NULL));
      g_assert_finalize_object (first);
      g_assert_finalize_object (second);
      g_assert_finalize_object (group);
      close_pool (pool);
    }
}

/* Waiting without blocking */

typedef struct
{
  QTaskGroup *group;
  int called;
  gboolean ok;
  GError *error;
} Finished;

static void
finished_cb (GObject *source,
             GAsyncResult *result,
             gpointer data)
{
  Finished *finished = data;

  finished->called++;
  finished->ok = q_task_group_wait_finish (Q_TASK_GROUP (source), result, &finished->error);
}

static void
test_wait_async (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestGate gate = TEST_GATE_INIT;
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  QTaskPool *pool = q_task_pool_new ("group", 2, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  Finished empty = { 0 };
  Finished all = { 0 };
  Finished any = { 0 };
  Finished later = { 0 };
  Finished cancelled = { 0 };
  QTask *held;
  QTask *failing;

  q_task_group_wait_async (group, Q_TASK_GROUP_ALL, NULL, finished_cb, &empty);
  test_run_until (NULL, empty.called);
  g_assert_true (empty.ok);

  q_task_group_wait_async (group, Q_TASK_GROUP_ANY, NULL, finished_cb, &any);
  held = add_pushed (group, pool, test_hold_worker, &hold);
  failing = add_pushed (group, pool, fail_when_open_worker, &gate);
  q_task_group_wait_async (group, Q_TASK_GROUP_ALL, NULL, finished_cb, &all);
  q_task_group_wait_async (group, Q_TASK_GROUP_ALL, cancellable, finished_cb, &cancelled);

  test_run_pending (NULL);
  g_assert_cmpint (all.called + any.called + cancelled.called, ==, 0);

  g_cancellable_cancel (cancellable);
  test_run_until (NULL, cancelled.called);
  g_assert_error (cancelled.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  test_gate_open (&gate);
  test_run_until (NULL, any.called);
  g_assert_false (any.ok);
  g_assert_error (any.error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpint (all.called, ==, 0);

  test_gate_open (&hold.release);
  test_run_until (NULL, all.called);
  g_assert_false (all.ok);
  g_assert_error (all.error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_true (q_task_get_completed (held));

  q_task_group_wait_async (group, Q_TASK_GROUP_ANY, NULL, finished_cb, &later);
  test_run_until (NULL, later.called);
  g_assert_error (later.error, G_IO_ERROR, G_IO_ERROR_BUSY);

  g_error_free (all.error);
  g_error_free (any.error);
  g_error_free (later.error);
  g_error_free (cancelled.error);
  g_assert_finalize_object (held);
  g_assert_finalize_object (failing);
  g_assert_finalize_object (group);
  close_pool (pool);
}

static void
test_wait_async_closed (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  Finished finished = { 0 };

  q_task_group_wait_async (group, Q_TASK_GROUP_ANY, NULL, finished_cb, &finished);
  test_run_pending (NULL);
  g_assert_cmpint (finished.called, ==, 0);
  q_task_group_close (group);
  test_run_until (NULL, finished.called);
  g_assert_error (finished.error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  g_error_free (finished.error);
  g_assert_finalize_object (group);
}

/* A task that was not started is waited for as any other: it may be yet. To cancel it is no
 * start, and nor is to drop it, since the group has it. */
static void
test_wait_async_not_started (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = add_new (group, NULL, NULL);
  Finished given_up = { 0 };
  Finished finished = { 0 };

  q_task_group_wait_async (group, Q_TASK_GROUP_ALL, NULL, finished_cb, &finished);
  q_task_group_wait_async (group, Q_TASK_GROUP_ALL, cancellable, finished_cb, &given_up);
  q_task_group_close (group);
  q_task_group_cancel (group);
  g_object_unref (task);
  test_run_pending (NULL);
  g_assert_cmpint (finished.called + given_up.called, ==, 0);
  g_assert_cmpint (q_task_poll (task), ==, Q_TASK_STATE_NEW);

  g_cancellable_cancel (cancellable);
  test_run_until (NULL, given_up.called);
  g_assert_error (given_up.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (finished.called, ==, 0);

  q_task_run_in_thread (task, test_empty_worker, NULL, NULL);
  test_run_until (NULL, finished.called);
  g_assert_error (finished.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  g_error_free (given_up.error);
  g_error_free (finished.error);
  g_assert_finalize_object (group);
}

/* Progress */

static void
test_progress (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *tasks[4];
  int n_notifies = 0;
  gint64 start;
  gint64 elapsed;

  for (int i = 0; i < 4; i++)
    {
      tasks[i] = add_new (group, NULL, NULL);
      q_task_set_progress_interval (tasks[i], 0);
    }

  g_signal_connect_swapped (group, "notify::progress", G_CALLBACK (g_atomic_int_inc), &n_notifies);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 0.0);

  start = g_get_monotonic_time ();
  for (int i = 1; i <= 1000; i++)
    {
      q_task_set_progress (tasks[0], i / 2000.0, NULL);
      test_run_pending (NULL);
    }
  test_run_until (NULL, n_notifies > 0);
  elapsed = g_get_monotonic_time () - start;
  g_assert_cmpfloat_with_epsilon (q_task_group_get_progress (group), 0.125, 1e-9);
  g_assert_cmpint (n_notifies, <=, elapsed / 16000 + 2);

  /* One that has completed counts 1, whatever it reported. */
  q_task_complete (tasks[0]);
  g_assert_cmpfloat_with_epsilon (q_task_group_get_progress (group), 0.25, 1e-9);
  q_task_return_new_error_literal (tasks[1], G_IO_ERROR, G_IO_ERROR_BUSY, "busy");
  test_run_until (NULL, q_task_get_completed (tasks[1]));
  g_assert_cmpfloat_with_epsilon (q_task_group_get_progress (group), 0.5, 1e-9);
  q_task_complete (tasks[2]);

  /* The last one always comes. */
  n_notifies = 0;
  q_task_complete (tasks[3]);
  test_run_until (NULL, n_notifies > 0);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 1.0);

  for (int i = 0; i < 4; i++)
    g_assert_finalize_object (tasks[i]);
  g_assert_finalize_object (group);
}

/* What it reported before is not forgotten. */
static void
test_progress_before (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *begun = q_task_new (NULL, NULL, NULL, NULL);
  QTask *fresh = add_new (group, NULL, NULL);

  q_task_set_progress (begun, 0.5, NULL);
  g_assert_true (q_task_group_add (group, begun, NULL));
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 0.25);
  q_task_set_progress (begun, 0.75, NULL);
  test_run_until (NULL, q_task_group_get_progress (group) > 0.25);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 0.375);

  q_task_complete (begun);
  g_assert_cmpfloat (q_task_group_get_progress (group), ==, 0.5);
  q_task_complete (fresh);
  g_assert_finalize_object (begun);
  g_assert_finalize_object (fresh);
  g_assert_finalize_object (group);
}

/* Ends */

static void
test_dropped (void)
{
  TestHold hold = TEST_HOLD_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  TestReport reports[2] = { TEST_REPORT_INIT, TEST_REPORT_INIT };
  QTask *running = add_new (group, test_report_cb, &reports[0]);
  QTask *queued = add_new (group, test_report_cb, &reports[1]);

  g_assert_true (q_task_pool_push (pool, running, test_stoppable_worker, &hold, NULL, NULL));
  g_assert_true (q_task_pool_push (pool, queued, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);

  /* Blocks for nobody, though a worker runs that is only now asked to stop. */
  g_assert_finalize_object (group);
  g_assert_cmpint (reports[0].called, ==, 0);

  for (int i = 0; i < 2; i++)
    {
      test_run_until (NULL, reports[i].called);
      g_assert_error (reports[i].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      test_report_clear (&reports[i]);
    }

  g_assert_finalize_object (running);
  g_assert_finalize_object (queued);
  close_pool (pool);
}

/* A callback or handler that this brings about drops the last reference of the user. */
static void
drop_cb (gpointer group)
{
  g_clear_object ((QTaskGroup **) group);
}

static void
drop_waited_cb (GObject *source,
                GAsyncResult *result,
                gpointer group)
{
  g_autoptr (GError) error = NULL;

  g_assert_false (q_task_group_wait_finish (Q_TASK_GROUP (source), result, &error));
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_CLOSED);
  drop_cb (group);
}

static gboolean
close_cb (gpointer group)
{
  q_task_group_close (*(QTaskGroup **) group);

  return G_SOURCE_REMOVE;
}

static void
test_dropped_inside (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  gpointer weak = group;

  /* While a task is added, and cancelled at once */
  g_object_add_weak_pointer (weak, &weak);
  q_task_group_cancel (group);
  g_signal_connect_swapped (q_task_get_stop_cancellable (task), "cancelled", G_CALLBACK (drop_cb),
                            &group);
  g_assert_true (q_task_group_add (group, task, NULL));
  g_assert_null (group);
  g_assert_null (weak);
  q_task_complete (task);
  g_assert_finalize_object (task);

  /* While it is closed, which ends a wait, in a later iteration than that began in */
  weak = group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_object_add_weak_pointer (weak, &weak);
  q_task_group_wait_async (group, Q_TASK_GROUP_ANY, NULL, drop_waited_cb, &group);
  g_timeout_add (1, close_cb, &group);
  test_run_until (NULL, group == NULL);
  test_run_pending (NULL);
  g_assert_null (weak);

  /* ... and of which it tells */
  weak = group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_object_add_weak_pointer (weak, &weak);
  g_signal_connect_swapped (group, "notify::is-closed", G_CALLBACK (drop_cb), &group);
  q_task_group_close (group);
  g_assert_null (group);
  g_assert_null (weak);

  weak = group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  g_object_add_weak_pointer (weak, &weak);
  g_signal_connect_swapped (group, "notify::is-cancelled", G_CALLBACK (drop_cb), &group);
  q_task_group_cancel (group);
  g_assert_null (group);
  g_assert_null (weak);
}

static void
unref_thread (gpointer data,
              gpointer user_data G_GNUC_UNUSED)
{
  g_object_unref (data);
}

static void
test_dropped_elsewhere (void)
{
  TestHold hold = TEST_HOLD_INIT;
  TestFate fate = TEST_FATE_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_KEEP_COMPLETED);
  QTask *completed = q_task_new (NULL, NULL, test_probe_new (&fate), g_object_unref);
  QTask *running = add_pushed (group, pool, test_stoppable_worker, &hold);
  QTask *fresh = add_new (group, NULL, NULL);

  g_assert_true (q_task_group_add (group, completed, NULL));
  q_task_set_task_data (completed, test_probe_new (&fate), g_object_unref);
  q_task_complete (completed);
  g_object_unref (completed);
  test_gate_wait (&hold.entered);

  test_in_thread ((GFunc) unref_thread, group);
  test_run_until (NULL, q_task_get_completed (running));
  test_run_until (NULL, test_fate_get_count (&fate) == 2);
  g_assert_true (test_fate_get_thread (&fate) == g_thread_self ());

  g_assert_finalize_object (running);
  g_assert_finalize_object (fresh);
  close_pool (pool);
}

/* A closure of JavaScript must not be freed anywhere else. */
static void
fate_closure_notify (gpointer fate,
                     GClosure *closure G_GNUC_UNUSED)
{
  test_fate_notify (fate);
}

static void
test_dropped_elsewhere_closures (void)
{
  TestFate fate = TEST_FATE_INIT;
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = add_new (group, NULL, NULL);
  gpointer weak = group;

  g_signal_connect_data (group, "items-changed", G_CALLBACK (mirror_changed_cb), &fate,
                         fate_closure_notify, 0);
  g_object_add_weak_pointer (weak, &weak);

  test_in_thread ((GFunc) unref_thread, group);

  /* Its tasks are cancelled at once. */
  g_assert_true (q_task_is_cancelled (task));
  test_run_until (NULL, test_fate_get_count (&fate) > 0);
  test_assert_destroyed_here (&fate);
  g_assert_null (weak);

  q_task_complete (task);
  g_assert_finalize_object (task);
}

/* Drops a reference, and waits until others have dropped theirs, which wakes nobody. */
static void
finalize_elsewhere (gpointer object)
{
  gpointer weak = object;

  g_object_add_weak_pointer (object, &weak);
  g_object_unref (object);
  test_poll_until (g_atomic_pointer_get (&weak) == NULL);
}

/* The context goes: whoever waits elsewhere is told. */
static void
test_lost (void)
{
  GMainContext *context = g_main_context_new ();
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  TestHold hold = TEST_HOLD_INIT;
  Elsewhere self = { .mode = Q_TASK_GROUP_ALL };
  Finished finished = { 0 };
  QTaskGroup *group;
  QTask *running;
  QTask *queued;

  g_main_context_push_thread_default (context);
  group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  running = add_pushed (group, pool, test_stoppable_worker, &hold);
  queued = add_pushed (group, pool, test_empty_worker, NULL);
  test_gate_wait (&hold.entered);
  g_main_context_pop_thread_default (context);

  q_task_group_wait_async (group, Q_TASK_GROUP_ALL, NULL, finished_cb, &finished);
  g_main_context_unref (context);
  test_run_until (NULL, finished.called);
  g_assert_error (finished.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_error_free (finished.error);

  self.group = group;
  test_in_thread ((GFunc) wait_thread, &self);
  g_assert_error (self.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_error_free (self.error);

  /* The list has no owner any more, and stays. */
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 2);
  close_pool (pool);

  /* A worker's thread may hold them for a moment yet. */
  test_finalize_soon (group);
  finalize_elsewhere (running);
  finalize_elsewhere (queued);
}

/* Return-on-cancel: a task leaves when it completes, though its worker goes on. */
static void
test_return_on_cancel (void)
{
  TestHold hold = TEST_HOLD_INIT;
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = add_new (group, NULL, NULL);
  g_autoptr (GError) error = NULL;

  q_task_set_return_on_cancel (task, TRUE);
  g_assert_true (q_task_pool_push (pool, task, test_hold_worker, &hold, NULL, NULL));
  test_gate_wait (&hold.entered);
  q_task_group_cancel (group);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (q_task_get_completed (task));
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 0);

  test_gate_open (&hold.release);
  close_pool (pool);
  test_run_pending (NULL);
  g_assert_finalize_object (task);
  g_assert_finalize_object (group);
}

static void
test_run_sync (void)
{
  QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
  QTask *task = add_new (group, NULL, NULL);
  g_autoptr (GError) error = NULL;

  q_task_run_in_thread_sync (task, fail_worker, (gpointer) "sync", NULL);
  g_assert_false (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 0);
  g_assert_finalize_object (task);
  g_assert_finalize_object (group);
}

/* Another thread runs a task synchronously while its owner waits: the callback is not called, and
 * the task completes once, in that thread. The owner serves the sync points of its worker. */
typedef struct
{
  QTask *task;
  TestGate go_on;
  int n_callbacks;
  int n_completed;
  int n_syncs;
  GThread *thread;
} SyncElsewhere;

static gboolean
sync_when_open_worker (QTask *task,
                       gpointer data,
                       GError **error)
{
  SyncElsewhere *self = data;

  test_gate_wait (&self->go_on);

  return q_task_sync (task, error);
}

static gpointer
run_sync_thread (gpointer data)
{
  SyncElsewhere *self = data;

  q_task_run_in_thread_sync (self->task, sync_when_open_worker, self, NULL);
  g_assert_true (q_task_get_completed (self->task));

  return NULL;
}

static void
sync_elsewhere_func (QTask *task,
                     gpointer data)
{
  SyncElsewhere *self = data;

  g_assert_true (g_thread_self () == self->thread);
  self->n_syncs++;
  q_task_resume (task, FALSE);
}

/* By then the owner waits. */
static void
open_when_synced_func (QTask *task,
                       gpointer data)
{
  test_gate_open (&((SyncElsewhere *) data)->go_on);
  q_task_resume (task, FALSE);
}

static gboolean
sync_once_worker (QTask *task,
                  gpointer data G_GNUC_UNUSED,
                  GError **error)
{
  return q_task_sync (task, error);
}

static void
count_callback_cb (QTask *task G_GNUC_UNUSED,
                   gpointer data)
{
  g_atomic_int_inc (&((SyncElsewhere *) data)->n_callbacks);
}

static void
test_run_sync_elsewhere (void)
{
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);

  for (int i = 0; i < test_scaled (50); i++)
    {
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      SyncElsewhere self = { .go_on = TEST_GATE_INIT, .thread = g_thread_self () };
      QTask *other = add_new (group, NULL, NULL);
      g_autoptr (GError) error = NULL;
      GThread *thread;

      self.task = add_new (group, count_callback_cb, &self);
      q_task_set_sync_func (self.task, sync_elsewhere_func, &self, NULL);
      g_signal_connect_swapped (self.task, "notify::completed", G_CALLBACK (g_atomic_int_inc),
                                &self.n_completed);
      q_task_set_sync_func (other, open_when_synced_func, &self, NULL);

      thread = g_thread_new ("sync", run_sync_thread, &self);
      test_poll_until (q_task_poll (self.task) == Q_TASK_STATE_RUNNING);
      test_pool_push (pool, other, sync_once_worker, NULL, NULL);

      g_assert_true (q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, &error));
      g_assert_no_error (error);
      g_thread_join (thread);
      g_assert_cmpint (self.n_syncs, ==, 1);
      g_assert_cmpint (self.n_completed, ==, 1);
      g_assert_cmpint (self.n_callbacks, ==, 0);

      test_run_pending (NULL);
      g_assert_finalize_object (self.task);
      test_finalize_soon (other);
      g_assert_finalize_object (group);
    }

  close_pool (pool);
}

/* Another thread holds the context for a while: then it is the one who waits who serves. */
typedef struct
{
  TestGate holds;
  QTask *task;
  int n_syncs;
} Held;

static gpointer
hold_context_thread (gpointer data)
{
  Held *self = data;

  g_assert_true (g_main_context_acquire (NULL));
  test_gate_open (&self->holds);
  test_poll_until (q_task_poll (self->task) == Q_TASK_STATE_SYNCING);
  g_main_context_release (NULL);

  return NULL;
}

static void
count_and_resume_func (QTask *task,
                       gpointer data)
{
  ((Held *) data)->n_syncs++;
  q_task_resume (task, FALSE);
}

static void
test_wait_serves_later (void)
{
  QTaskPool *pool = q_task_pool_new ("group", 1, 0);

  for (int way = 0; way < 3; way++)
    {
      TestReport report = TEST_REPORT_INIT;
      QTaskGroup *group = q_task_group_new (Q_TASK_GROUP_DEFAULT);
      QTask *task = add_new (group, test_report_cb, &report);
      Held self = { TEST_GATE_INIT, task, 0 };
      GThread *thread;

      q_task_set_sync_func (task, count_and_resume_func, &self, NULL);
      thread = g_thread_new ("holds", hold_context_thread, &self);
      test_gate_wait (&self.holds);
      test_pool_push (pool, task, sync_once_worker, NULL, NULL);

      if (way == 2)
        g_assert_true (q_task_wait_until (task, test_end_time (), NULL, NULL));
      else
        g_assert_true (q_task_group_wait (group, (QTaskGroupWaitMode) way, NULL, NULL));
      g_assert_cmpint (self.n_syncs, ==, 1);
      g_assert_cmpint (report.called, ==, 1);

      g_thread_join (thread);
      test_report_clear (&report);
      test_run_pending (NULL);
      test_finalize_soon (task);
      g_assert_finalize_object (group);
    }

  close_pool (pool);
}

/* Many threads at once */

static gboolean
random_worker (QTask *task,
               gpointer group,
               GError **error)
{
  guint32 dice = g_random_int_range (0, 100);

  q_task_set_progress (task, 0.5, NULL);

  if (dice == 0)
    q_task_group_cancel (group);
  else if (dice < 5)
    return fail_worker (task, (gpointer) "dice", error);
  else if (dice < 10)
    q_task_group_clear_completed (group);
  else if (dice < 20)
    {
      g_autoptr (QTask) part = q_task_new (NULL, NULL, NULL, NULL);

      if (q_task_group_add (group, part, NULL))
        q_task_run_in_thread (part, test_empty_worker, NULL, NULL);
    }

  return TRUE;
}

static void
count_completed_cb (QTask *task G_GNUC_UNUSED,
                    gpointer count)
{
  ++*(guint *) count;
}

static void
test_storm (void)
{
  const guint n_rounds = test_is_slow () ? 3 : 30;
  QTaskPool *pool = q_task_pool_new ("group", 3, 0);

  for (guint round = 0; round < n_rounds; round++)
    {
      QTaskGroup *group = q_task_group_new ((round % 2 ? Q_TASK_GROUP_CANCEL_ON_ERROR : 0) |
                                            (round % 5 ? 0 : Q_TASK_GROUP_KEEP_COMPLETED));
      guint n_completed = 0;
      Mirror mirror;
      GThread *waiter = NULL;
      Elsewhere self = { .group = group, .mode = round % 3 ? Q_TASK_GROUP_ALL : Q_TASK_GROUP_ANY };

      mirror_init (&mirror, group);
      for (guint i = 0; i < 200; i++)
        {
          g_autoptr (QTask) task = q_task_new (NULL, count_completed_cb, &n_completed, NULL);

          g_assert_true (q_task_group_add (group, task, NULL));
          g_assert_true (q_task_pool_push (pool, task, random_worker, group, NULL, NULL));
        }

      if (round % 4 < 2)
        waiter = g_thread_new ("waiter", (GThreadFunc) wait_thread, &self);

      if (round % 2)
        q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, NULL);
      else
        test_run_until (NULL, n_completed == 200);

      g_assert_cmpuint (n_completed, ==, 200);
      if (waiter != NULL)
        g_thread_join (waiter);
      g_clear_error (&self.error);
      q_task_group_wait (group, Q_TASK_GROUP_ALL, NULL, NULL);
      test_run_pending (NULL);
      q_task_group_clear_completed (group);
      g_assert_cmpuint (g_list_model_get_n_items (G_LIST_MODEL (group)), ==, 0);
      mirror_clear (&mirror);
      g_object_unref (group);
    }

  close_pool (pool);
  test_run_pending (NULL);
}

int
main (int argc,
      char **argv)
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/group/lists-tasks-as-they-come-and-go", test_list);
  g_test_add_func ("/group/list-and-signals-agree", test_list_random);
  g_test_add_func ("/group/keeps-completed-tasks-if-asked-to", test_keep_completed);
  g_test_add_func ("/group/clears-completed-tasks", test_clear_completed);
  g_test_add_func ("/group/clears-the-list-alone", test_clear_is_of_the_list);
  g_test_add_func ("/group/clears-in-callbacks", test_clear_in_callbacks);
  g_test_add_func ("/group/clears-in-its-thread-what-others-ask-for", test_clear_elsewhere);
  g_test_add_func ("/group/clears-what-completed-elsewhere", test_clear_completed_elsewhere);
  g_test_add_func ("/group/has-properties", test_properties);
  g_test_add_func ("/group/tells-its-owner-that-it-was-cancelled", test_notify_cancelled);
  g_test_add_func ("/group/refuses-what-it-cannot-take", test_add_refused);
  g_test_add_func ("/group/takes-a-task-that-has-ended", test_add_ended);
  g_test_add_func ("/group/keeps-its-tasks-in-its-context", test_context_stays);
  g_test_add_func ("/group/lists-in-its-thread-what-others-add", test_add_elsewhere);
  g_test_add_func ("/group/lists-what-is-added-while-it-lists", test_add_while_listing);
  g_test_add_func ("/group/cancels-all-and-what-comes-later", test_cancel);
  g_test_add_func ("/group/never-cancels-what-the-caller-gave", test_cancel_given);
  g_test_add_func ("/group/cancels-the-rest-on-error-at-once", test_cancel_on_error);
  g_test_add_func ("/group/cancels-the-rest-on-a-timeout", test_cancel_on_timeout);
  g_test_add_func ("/group/cancels-the-rest-on-an-error-that-is-returned", test_cancel_on_return);
  g_test_add_func ("/group/leaves-the-rest-alone-on-error", test_no_cancel_on_error);
  g_test_add_func ("/group/wait-for-all-calls-all-callbacks", test_wait_all);
  g_test_add_func ("/group/wait-for-any-ends-with-the-first", test_wait_any);
  g_test_add_func ("/group/wait-for-any-does-not-mind-later-errors", test_wait_any_success);
  g_test_add_func ("/group/wait-serves-every-task", test_wait_serves);
  g_test_add_func ("/group/wait-serves-what-others-add", test_wait_serves_what_others_add);
  g_test_add_func ("/group/wait-serves-once-the-context-is-free", test_wait_serves_later);
  g_test_add_func ("/group/wait-includes-what-callbacks-start", test_wait_chain);
  g_test_add_func ("/group/wait-in-a-callback", test_wait_nested);
  g_test_add_func ("/group/wait-can-be-cancelled", test_wait_cancelled);
  g_test_add_func ("/group/wait-counts-down-timeouts", test_wait_timeout);
  g_test_add_func ("/group/wait-for-what-was-not-started-is-a-deadlock", test_wait_not_started);
  g_test_add_func ("/group/wait-for-what-was-just-added-by-another-thread", test_wait_just_added);
  g_test_add_func ("/group/wait-for-oneself-is-a-deadlock", test_wait_ring);
  g_test_add_func ("/group/wait-for-one-another-is-a-deadlock", test_wait_ring_of_two);
  g_test_add_func ("/group/wait-for-any-is-no-deadlock-while-one-goes-on", test_wait_any_is_no_ring);
  g_test_add_func ("/group/wait-in-a-serial-pool-is-a-deadlock", test_wait_in_serial);
  g_test_add_func ("/group/wait-in-a-sync-function-is-a-deadlock", test_wait_in_sync);
  g_test_add_func ("/group/wait-in-a-worker-of-a-pool-of-one", test_wait_in_worker);
  g_test_add_func ("/group/wait-in-a-worker-that-is-the-owner", test_wait_in_worker_that_owns);
  g_test_add_func ("/group/wait-in-a-worker-gets-the-error", test_wait_in_worker_error);
  g_test_add_func ("/group/wait-elsewhere-needs-no-main-loop", test_wait_elsewhere);
  g_test_add_func ("/group/wait-async", test_wait_async);
  g_test_add_func ("/group/wait-async-ends-when-closed-without-a-task", test_wait_async_closed);
  g_test_add_func ("/group/wait-async-for-what-was-not-started-goes-on", test_wait_async_not_started);
  g_test_add_func ("/group/progress-is-the-mean", test_progress);
  g_test_add_func ("/group/progress-counts-what-was-before", test_progress_before);
  g_test_add_func ("/group/dropping-it-cancels-and-waits-for-nobody", test_dropped);
  g_test_add_func ("/group/dropping-it-in-what-it-calls", test_dropped_inside);
  g_test_add_func ("/group/dropping-it-elsewhere-releases-where-tasks-live", test_dropped_elsewhere);
  g_test_add_func ("/group/dropping-it-elsewhere-frees-closures-where-it-lives", test_dropped_elsewhere_closures);
  g_test_add_func ("/group/context-may-go-first", test_lost);
  g_test_add_func ("/group/return-on-cancel", test_return_on_cancel);
  g_test_add_func ("/group/run-in-thread-sync", test_run_sync);
  g_test_add_func ("/group/run-in-thread-sync-elsewhere", test_run_sync_elsewhere);
  g_test_add_func ("/group/storm", test_storm);

  return g_test_run ();
}
