/* cxx.cpp: the headers in C++
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <stdexcept>
#include <string>

#include <qtask/q-task-export.h>

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

// Exported tasks: a result, an exception, and something else that is thrown

static gboolean
half_run (QTask *, const int *number, int *result, GError **)
{
  if (*number % 2 != 0)
    throw std::runtime_error ("An odd number");

  *result = *number / 2;
  return TRUE;
}

Q_TASK_EXPORT (half, int, int, half_run)

static gboolean
name_run (QTask *, std::string *name, std::string **result, GError **)
{
  if (name->empty ())
    throw 0;

  *result = new std::string ("Hello, " + *name);
  return TRUE;
}

static std::string *
string_copy (const std::string *string)
{
  return new std::string (*string);
}

static void
string_free (std::string *string)
{
  delete string;
}

Q_TASK_EXPORT_FULL (name, std::string, std::string, name_run, string_copy, string_free, string_free)

static bool
check_result ()
{
  int number = 42;
  int *result = half_wait (half_spawn (&number));
  bool right = result != nullptr && *result == 21;

  half_result_destroy (result);
  return right;
}

static bool
check_full ()
{
  std::string name = "world";
  std::string *result = name_wait (name_spawn (&name));
  bool right = result != nullptr && *result == "Hello, world";

  name_result_destroy (result);
  return right;
}

static bool
check_exceptions ()
{
  int number = 43;
  std::string name;

  return half_wait (half_spawn (&number)) == nullptr &&
         half_last_error_code () == Q_TASK_ERROR_FAILED &&
         std::string (half_last_error_message ()).find ("An odd number") != std::string::npos &&
         name_wait (name_spawn (&name)) == nullptr &&
         name_last_error_code () == Q_TASK_ERROR_FAILED;
}

int
main ()
{
  gssize result = 0;
  g_autoptr (QTask) task = q_task_new (nullptr, ready_cb, &result, nullptr);

  q_task_run_in_thread (task, worker, nullptr, nullptr);
  bool waited = q_task_wait (task, nullptr, nullptr);

  g_print ("1..6\n");
  g_print ("%s 1 - /cxx/task\n", waited && result == 42 ? "ok" : "not ok");
  g_print ("%s 2 - /cxx/type-macros\n", Q_IS_TASK (task) && !Q_IS_TASK_POOL (task) ? "ok" : "not ok");
  g_print ("%s 3 - /cxx/version\n", Q_TASK_CHECK_VERSION (1, 0, 0) ? "ok" : "not ok");

  g_print ("%s 4 - /cxx/export\n", check_result () ? "ok" : "not ok");
  g_print ("%s 5 - /cxx/export-full\n", check_full () ? "ok" : "not ok");
  g_print ("%s 6 - /cxx/exceptions-are-errors\n", check_exceptions () ? "ok" : "not ok");

  return 0;
}
