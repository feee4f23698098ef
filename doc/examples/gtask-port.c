/* gtask-port.c: an _async and _finish pair, as it is written with GTask
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is not commented is what it was, but for the q in the names.
 */

#include <qtask/qtask.h>

/* With GTask: static void find_words_worker (GTask *task, gpointer source_object,
 * gpointer task_data, GCancellable *cancellable) */
static gboolean
find_words_worker (QTask *task,
                   gpointer unused,
                   GError **error)
{
  const char *text = q_task_get_task_data (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);

  /* With GTask: g_task_return_error (task, error); return; */
  if (g_cancellable_set_error_if_cancelled (stop, error))
    return FALSE;

  /* With GTask: g_task_return_pointer (task, …); */
  q_task_set_result_pointer (task, g_strsplit (text, " ", -1), (GDestroyNotify) g_strfreev);
  return TRUE;
}

static void
find_words_async (const char *text,
                  GCancellable *cancellable,
                  GAsyncReadyCallback callback,
                  gpointer user_data)
{
  /* With GTask: g_task_new (…) */
  g_autoptr (QTask) task = q_task_new_async (NULL, cancellable, callback, user_data);

  q_task_set_source_tag (task, find_words_async);
  q_task_set_task_data (task, g_strdup (text), g_free);

  /* With GTask: g_task_run_in_thread (task, find_words_worker); */
  q_task_run_in_thread (task, find_words_worker, NULL, NULL);
}

static char **
find_words_finish (GAsyncResult *result,
                   GError **error)
{
  g_return_val_if_fail (q_task_is_valid (result, NULL), NULL);

  return q_task_propagate_pointer (Q_TASK (result), error);
}

static void
words_found_cb (GObject *source,
                GAsyncResult *result,
                gpointer loop)
{
  g_autoptr (GError) error = NULL;
  g_auto (GStrv) words = find_words_finish (result, &error);

  if (words != NULL)
    g_print ("%u words\n", g_strv_length (words));
  else
    g_print ("%s\n", error->message);

  g_main_loop_quit (loop);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();

  find_words_async ("no line of the caller changes", cancellable, words_found_cb, loop);
  g_main_loop_run (loop);

  g_cancellable_cancel (cancellable);
  find_words_async ("not this one", cancellable, words_found_cb, loop);
  g_main_loop_run (loop);

  return 0;
}
