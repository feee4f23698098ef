/* group.c: tasks that are shown, awaited and stopped together
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

/* Called in threads of a pool. */
static gboolean
count_words_worker (QTask *task,
                    gpointer text,
                    GError **error)
{
  g_auto (GStrv) words = g_strsplit (text, " ", -1);

  if (*(char *) text == '\0')
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "One of them is empty");
      return FALSE;
    }

  q_task_set_result_int (task, g_strv_length (words));
  return TRUE;
}

/* Goes on until it is stopped. */
static gboolean
endless_worker (QTask *task,
                gpointer unused,
                GError **error)
{
  while (!q_task_is_cancelled (task))
    g_usleep (1000);

  return !g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error);
}

typedef struct
{
  int n_words;
  int n_stopped;
} Total;

/* Each task has its own callback, as ever. */
static void
counted_cb (QTask *task,
            gpointer data)
{
  g_autoptr (GError) error = NULL;
  Total *total = data;
  gssize n = q_task_propagate_int (task, &error);

  if (error == NULL)
    total->n_words += (int) n;
  else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    total->n_stopped++;
}

/* The group is a GListModel: a GtkListView shows it with no such function. */
static void
changed_cb (GListModel *group,
            guint position,
            guint n_removed,
            guint n_added,
            gpointer unused)
{
  g_print ("%u in the list\n", g_list_model_get_n_items (group));
}

static void
ended_cb (GObject *group,
          GAsyncResult *result,
          gpointer loop)
{
  g_autoptr (GError) error = NULL;

  if (q_task_group_wait_finish (Q_TASK_GROUP (group), result, &error))
    g_print ("All is well: %g %%\n", 100 * q_task_group_get_progress (Q_TASK_GROUP (group)));
  else
    g_print ("The first error: %s\n", error->message);

  g_main_loop_quit (loop);
}

/* Counts the words of some texts, all at once. */
static void
count_words (const char *const *texts,
             gboolean with_endless)
{
  g_autoptr (QTaskGroup) group = q_task_group_new (Q_TASK_GROUP_CANCEL_ON_ERROR);
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  Total total = { 0, 0 };

  g_signal_connect (group, "items-changed", G_CALLBACK (changed_cb), NULL);

  if (with_endless)
    {
      g_autoptr (QTask) task = q_task_new (NULL, counted_cb, &total, NULL);

      q_task_group_add (group, task, NULL);
      q_task_run_in_thread (task, endless_worker, NULL, NULL);
    }

  for (guint i = 0; texts[i] != NULL; i++)
    {
      g_autoptr (QTask) task = q_task_new (NULL, counted_cb, &total, NULL);

      /* First into the group, so that it cannot fail unseen; then run, by whatever means. */
      q_task_group_add (group, task, NULL);
      q_task_run_in_thread (task, count_words_worker, g_strdup (texts[i]), g_free);
    }

  /* Nothing can be added from here on. */
  q_task_group_close (group);
  q_task_group_wait_async (group, Q_TASK_GROUP_ALL, NULL, ended_cb, loop);
  g_main_loop_run (loop);

  g_print ("%d words, %d stopped\n", total.n_words, total.n_stopped);
}

int
main (void)
{
  const char *good[] = { "to be or not to be", "that is the question", NULL };
  const char *bad[] = { "", NULL };

  count_words (good, FALSE);
  count_words (bad, TRUE);

  return 0;
}
