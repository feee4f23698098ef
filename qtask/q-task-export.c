/* q-task-export.c: tasks as plain C functions, for callers of any language
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the functions do that Q_TASK_EXPORT() defines. A handle is a reference to an ownerless
 * task, whose source tag is the table of its prefix. All functions run in any thread.
 *
 * The last error of a thread belongs to that thread.
 */

#include "config.h"

#include <string.h>

#include <glib/gi18n-lib.h>

#include "q-task-export.h"

#include "q-task-private.h"

/* The last error */

static void
free_error_notify (gpointer error)
{
  g_error_free (error);
}

static GPrivate last_error = G_PRIVATE_INIT (free_error_notify);

/* Takes @error. */
static void
set_last_error (GError *error)
{
  g_private_replace (&last_error, error);
}

/* What failed last in the calling thread, or NULL. */
const char *
q_task_export_last_error_message (void)
{
  GError *error = g_private_get (&last_error);

  return error != NULL ? error->message : NULL;
}

/* The length of that in bytes, or 0. */
gsize
q_task_export_last_error_length (void)
{
  GError *error = g_private_get (&last_error);

  return error != NULL ? strlen (error->message) : 0;
}

/* The name of its domain, or NULL. */
const char *
q_task_export_last_error_domain (void)
{
  GError *error = g_private_get (&last_error);

  return error != NULL ? g_quark_to_string (error->domain) : NULL;
}

/* Its code, or 0. */
int
q_task_export_last_error_code (void)
{
  GError *error = g_private_get (&last_error);

  return error != NULL ? error->code : 0;
}

/* Forgets it. */
void
q_task_export_last_error_clear (void)
{
  set_last_error (NULL);
}

/* Handles */

/* The task of a handle; NULL, with a last error, for what is none of this prefix. */
static QTask *
get_task (const QTaskExport *table,
          gpointer handle)
{
  QTask *task = handle;

  if (task != NULL && Q_IS_TASK (task) && q_task_get_source_tag (task) == (gpointer) table)
    return task;

  set_last_error (g_error_new (G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                               task == NULL ? _("A handle of “%s” is needed, and not NULL")
                                            : _("This is not a handle of “%s”"),
                                                 table->name));
  return NULL;
}

static gboolean
has_outcome (QTask *task)
{
  return (q_task_get_word (q_task_get_private (task)) & Q_TASK_WORD_FIXED) != 0;
}

/* A QTaskWorker. */
static gboolean
export_worker (QTask *task,
               gpointer args,
               GError **error)
{
  const QTaskExport *table = q_task_get_source_tag (task);
  gpointer result = NULL;
  GError *run_error = NULL;
  gboolean success = table->run (task, args, &result, &run_error);

  if (success && result != NULL && run_error == NULL)
    {
      q_task_set_result_pointer (task, result, table->free_result);
      return TRUE;
    }

  if (result != NULL)
    table->free_result (result);

  if (success && run_error == NULL)
    g_set_error (&run_error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED,
                 _("The task “%s” succeeded without a result"), table->name);
  else if (run_error == NULL && q_task_is_cancelled (task))
    run_error = q_task_new_stop_error (Q_TASK_STOP_CANCEL);

  if (run_error != NULL)
    g_propagate_error (error, run_error);

  return FALSE;
}

/* Starts a task with a copy of @args. Returns its handle, or NULL. */
gpointer
q_task_export_spawn (const QTaskExport *table,
                     gconstpointer args)
{
  g_autoptr (QTask) task = NULL;
  gpointer copy;
  GError *error = NULL;

  if (args == NULL)
    {
      set_last_error (g_error_new (G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                                   _("Arguments for “%s” are needed, and not NULL"),
                                      table->name));
      return NULL;
    }

  if (q_task_is_forked (&error))
    {
      set_last_error (error);
      return NULL;
    }

  copy = table->copy_args (args);
  if (copy == NULL)
    {
      set_last_error (g_error_new (G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                                   _("“%s” does not accept these arguments"), table->name));
      return NULL;
    }

  task = q_task_new_ownerless ();
  q_task_set_static_name (task, table->name);
  q_task_set_source_tag (task, (gpointer) table);
  q_task_set_check_cancellable (task, FALSE);

  if (!q_task_pool_push (q_task_pool_get_default (), task, export_worker, copy,
                         table->free_args, &error))
    {
      table->free_args (copy);
      set_last_error (error);
      return NULL;
    }

  return g_steal_pointer (&task);
}

/* Blocks until the task has ended, and consumes @handle. Returns the result, or NULL. */
gpointer
q_task_export_wait (const QTaskExport *table,
                    gpointer handle)
{
  QTask *task = get_task (table, handle);
  gpointer result = NULL;
  GError *error = NULL;

  if (task == NULL)
    return NULL;

  /* A forked child may have what was there before. */
  if (has_outcome (task) || q_task_wait (task, NULL, &error))
    result = q_task_propagate_pointer (task, &error);

  if (error != NULL)
    set_last_error (error);

  q_task_export_handle_destroy (table, handle);

  return result;
}

/* Returns a QTaskExportStatus. */
int
q_task_export_poll (const QTaskExport *table,
                    gpointer handle)
{
  QTask *task = get_task (table, handle);
  GError *error = NULL;

  if (task == NULL)
    return Q_TASK_EXPORT_FAILED;

  if (!has_outcome (task))
    {
      if (!q_task_is_forked (&error))
        return Q_TASK_EXPORT_PENDING;

      set_last_error (error);
      return Q_TASK_EXPORT_FAILED;
    }

  if (q_task_get_error (task) == NULL)
    return Q_TASK_EXPORT_DONE;

  set_last_error (g_error_copy (q_task_get_error (task)));

  return Q_TASK_EXPORT_FAILED;
}

/* Asks the task to stop. */
void
q_task_export_cancel (const QTaskExport *table,
                      gpointer handle)
{
  QTask *task = handle != NULL ? get_task (table, handle) : NULL;

  if (task != NULL)
    q_task_cancel (task);
}

/* Whether the task was asked to stop before it ended. */
int
q_task_export_cancelled (const QTaskExport *table,
                         gpointer handle)
{
  QTask *task = handle != NULL ? get_task (table, handle) : NULL;

  return task != NULL && q_task_is_cancelled (task);
}

/* Asks the task to stop and consumes @handle, without waiting. */
void
q_task_export_handle_destroy (const QTaskExport *table,
                              gpointer handle)
{
  QTask *task = handle != NULL ? get_task (table, handle) : NULL;

  if (task == NULL)
    return;

  q_task_cancel (task);
  g_object_unref (task);
}

/* What @what says, or NULL, was thrown in a worker in C++. Returns FALSE. */
gboolean
q_task_export_threw (const char *what,
                     GError **error)
{
  g_clear_error (error);

  if (what != NULL)
    g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED,
                 _("The worker threw an exception: %s"), what);
  else
    g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED,
                         _("The worker threw something that is not an exception"));

  return FALSE;
}
