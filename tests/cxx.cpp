/* cxx.cpp: the headers in C++
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

static gboolean
worker (QTask *task, gpointer, GError **)
{
  q_task_set_result_int (task, 42);
  return TRUE;
}

static void
ready_cb (QTask *task, gpointer opaque)
{
  *static_cast<gssize *> (opaque) = q_task_propagate_int (task, nullptr);
}

int
main ()
{
  gssize result = 0;
  g_autoptr (QTask) task = q_task_new (nullptr, ready_cb, &result, nullptr);

  q_task_run_in_thread (task, worker, nullptr, nullptr);
  bool waited = q_task_wait (task, nullptr, nullptr);

  g_print ("1..3\n");
  g_print ("%s 1 - /cxx/task\n", waited && result == 42 ? "ok" : "not ok");
  g_print ("%s 2 - /cxx/type-macros\n", Q_IS_TASK (task) && !Q_IS_TASK_POOL (task) ? "ok" : "not ok");
  g_print ("%s 3 - /cxx/version\n", Q_TASK_CHECK_VERSION (1, 0, 0) ? "ok" : "not ok");

  return 0;
}
