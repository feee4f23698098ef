/* main.c: a program that uses the library from outside of its tree
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

static gboolean
worker (QTask *task,
        gpointer number,
        GError **error)
{
  q_task_set_result_int (task, GPOINTER_TO_INT (number) + 1);

  return TRUE;
}

int
main (void)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);
  GError *error = NULL;
  gssize result;

  q_task_run_in_thread (task, worker, GINT_TO_POINTER (41), NULL);

  if (!q_task_wait (task, NULL, &error))
    g_error ("%s", error->message);

  result = q_task_propagate_int (task, &error);
  g_assert_no_error (error);
  g_object_unref (task);

  g_print ("%d with version %s\n", (int) result, Q_TASK_VERSION_S);

  return result == 42 ? 0 : 1;
}
