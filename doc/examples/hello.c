/* hello.c: a task that runs in a thread
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

/* Called in a thread of a pool. */
static gboolean
greet_worker (QTask *task,
              gpointer name,
              GError **error)
{
  q_task_set_result_pointer (task, g_strdup_printf ("Hello, %s!", (char *) name), g_free);
  return TRUE;
}

/* Called by the main loop when the worker has ended. */
static void
greeted_cb (QTask *task,
            gpointer loop)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *greeting = q_task_propagate_pointer (task, &error);

  if (greeting != NULL)
    g_print ("%s\n", greeting);
  else
    g_printerr ("No greeting: %s\n", error->message);

  g_main_loop_quit (loop);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (QTask) task = q_task_new (NULL, greeted_cb, loop, NULL);

  q_task_run_in_thread (task, greet_worker, g_strdup ("world"), g_free);
  g_main_loop_run (loop);

  return 0;
}
