/* bind.c: tasks that belong to an object, as to a window that can be closed
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

/* Finds numbers until it is stopped, and tells each. */
static gboolean
search_worker (QTask *task,
               gpointer unused,
               GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);

  for (int n = 1;; n++)
    {
      g_autofree char *found = g_strdup_printf ("%d", n * n);

      /* When the task is stopped, this is an error, and the search ends. */
      if (!q_task_channel_write (channel, found, strlen (found), stop, error))
        return FALSE;
    }
}

/* Must not be cut off because a window closes. */
static gboolean
save_worker (QTask *task,
             gpointer text,
             GError **error)
{
  g_string_append (text, ", and saved");
  return TRUE;
}

/* Called by the main loop for each number, as long as there is a window. */
static void
found_cb (QTask *task,
          GBytes *message,
          gpointer data)
{
  GObject **window = data;

  if (message == NULL)
    {
      g_print ("All found\n"); /* not reached: the window closes before */
      return;
    }

  g_print ("Found %.*s\n", (int) g_bytes_get_size (message),
           (const char *) g_bytes_get_data (message, NULL));

  /* The user has seen enough, and closes the window. */
  if (g_bytes_get_size (message) > 1)
    {
      g_print ("The window closes\n");
      g_clear_object (window);
    }
}

/* Neither is called: the window has gone. */
static void
never_cb (QTask *task,
          gpointer data)
{
  g_print ("Nobody is there to see this\n");
}

/* But what the tasks were given is released, here as ever by the owner. */
static void
search_released (gpointer data)
{
  g_print ("The search has ended\n");
}

static void
text_released (gpointer data)
{
  g_print ("%s\n", ((GString *) data)->str);
  g_string_free (data, TRUE);
}

int
main (void)
{
  g_autoptr (QTaskPool) pool = q_task_pool_new_serial ("one after the other");
  g_autoptr (QTask) search = q_task_new (NULL, never_cb, NULL, search_released);
  g_autoptr (QTask) save = q_task_new (NULL, never_cb, NULL, NULL);

  /* In an application, this is a GtkWindow. No task keeps it alive. */
  GObject *window = g_object_new (G_TYPE_OBJECT, NULL);

  q_task_bind_object (search, window, Q_TASK_BIND_DEFAULT); /* it goes: the search is stopped */
  q_task_bind_object (save, window, Q_TASK_BIND_OUTLIVE);   /* it goes: the saving goes on */

  q_task_open_channel (search, NULL);
  q_task_bind_callback (search, found_cb, &window, NULL);

  q_task_pool_push (pool, search, search_worker, NULL, NULL, NULL);
  q_task_pool_push (pool, save, save_worker, g_string_new ("Written"), text_released, NULL);

  while (!q_task_get_completed (search) || !q_task_get_completed (save))
    g_main_context_iteration (NULL, TRUE);

  return 0;
}
