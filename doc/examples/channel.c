/* channel.c: a task that is talked to while it runs
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

/* Called in a thread of a pool. Each message is a line of text; the answer to it is what words it
 * has that no line before had. An empty message is the last one. */
static gboolean
new_words_worker (QTask *task,
                  gpointer unused,
                  GError **error)
{
  g_autoptr (GHashTable) known = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);

  for (;;)
    {
      /* Blocks until there is a message. When the task is to stop, this is an error. */
      g_autoptr (GBytes) message = q_task_channel_read (channel, stop, error);
      g_autoptr (GString) answer = g_string_new (NULL);
      g_autofree char *line = NULL;
      g_auto (GStrv) words = NULL;

      if (message == NULL && *error != NULL)
        return FALSE;
      if (message == NULL || g_bytes_get_size (message) == 0)
        break;

      line = g_strndup (g_bytes_get_data (message, NULL), g_bytes_get_size (message));
      words = g_strsplit (line, " ", -1);
      for (guint i = 0; words[i] != NULL; i++)
        if (g_hash_table_add (known, g_strdup (words[i])))
          g_string_append_printf (answer, " %s", words[i]);

      /* Blocks while the owner is so far behind that the channel is full. */
      if (!q_task_channel_write (channel, answer->str, answer->len, stop, error))
        return FALSE;
    }

  q_task_set_result_int (task, g_hash_table_size (known));
  return TRUE;
}

/* Called by the main loop for each answer, and a last time when there are no more. */
static void
answered_cb (QTaskChannel *channel,
             GBytes *message,
             gpointer unused)
{
  if (message != NULL)
    g_print ("New:%.*s\n", (int) g_bytes_get_size (message),
             (const char *) g_bytes_get_data (message, NULL));
  else
    g_print ("No more answers\n");
}

/* Called after all of them. */
static void
counted_cb (QTask *task,
            gpointer loop)
{
  g_print ("%d words\n", (int) q_task_propagate_int (task, NULL));
  g_main_loop_quit (loop);
}

int
main (void)
{
  const char *lines[] = { "to be or not to be", "that is the question", "to sleep", "" };
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (QTask) task = q_task_new (NULL, counted_cb, loop, NULL);
  g_autoptr (GError) error = NULL;
  QTaskChannel *channel;

  if (!q_task_open_channel (task, &error))
    g_error ("No channel: %s", error->message);

  channel = q_task_get_channel (task);
  q_task_channel_set_message_func (channel, answered_cb, NULL, NULL);

  /* The worker's answers wait for a slow owner, up to so many bytes. */
  q_task_channel_set_capacity (q_task_get_worker_channel (task), 64 * 1024);

  q_task_run_in_thread (task, new_words_worker, NULL, NULL);

  /* A main loop must not block: it tries, or writes asynchronously, as here. */
  for (guint i = 0; i < G_N_ELEMENTS (lines); i++)
    {
      g_autoptr (GBytes) message = g_bytes_new_static (lines[i], strlen (lines[i]));

      q_task_channel_write_async (channel, message, NULL, NULL, NULL);
    }

  g_main_loop_run (loop);

  return 0;
}
