/* q-task-outcome.c: the outcome of a QTask: an error or a result
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Until the outcome is fixed, an error beats a result and the first error wins. It is
 * fixed once, by q_task_fix_locked(), under the lock of the task, and after that read
 * without it: the flag is written last and read first.
 *
 * Whoever sets something sees under the lock whether it is too late. If the library
 * fixed the outcome early, while the worker goes on, that is no fault of the worker, and
 * what it set is freed; else it is a mistake and a critical warning.
 *
 * Whatever is freed here is freed by the owner, except errors, which have no other ties.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-private.h"

static inline gboolean
is_fixed (QTaskPrivate *priv)
{
  return (q_task_get_word (priv) & Q_TASK_WORD_FIXED) != 0;
}

/* The error of a task that the library stops. */
GError *
q_task_new_stop_error (QTaskStopReason reason)
{
  switch (reason)
    {
    case Q_TASK_STOP_TIMEOUT:
      return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                                  _("The task took longer than its timeout"));

    case Q_TASK_STOP_LOST:
      return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED,
                                  _("The task was stopped since the main context of its "
                                    "owner has gone"));

    case Q_TASK_STOP_CANCEL:
    default:
      return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED,
                                  _("Operation was cancelled"));
    }
}

/* Fixes the outcome, with @error unless there is one already. @flags are set along with
 * it. Returns FALSE, having changed nothing, if it was fixed before. */
gboolean
q_task_fix_locked (QTask *task,
                   GError *error,
                   guint flags)
{
  QTaskPrivate *priv = q_task_get_private (task);
  guint word = q_task_get_word (priv);
  guint set = Q_TASK_WORD_FIXED | flags;
  guint clear = 0;

  if (word & Q_TASK_WORD_FIXED)
    {
      g_clear_error (&error);
      return FALSE;
    }

  if (error != NULL && priv->error == NULL)
    g_atomic_pointer_set (&priv->error, g_steal_pointer (&error));
  g_clear_error (&error);

  if (set & Q_TASK_WORD_STATE)
    {
      clear = Q_TASK_WORD_STATE;
    }
  else if (q_task_word_get_state (word) == Q_TASK_STATE_NEW)
    {
      /* Driven by other code: this is also the end of it. */
      if ((word & Q_TASK_WORD_STOP) != 0 && priv->error != NULL)
        set |= Q_TASK_STATE_STOPPED;
      else
        set |= Q_TASK_STATE_FINISHED;
    }

  q_task_change (priv, clear, set);
  if (G_UNLIKELY (q_task_get_member (priv) != NULL))
    q_task_member_funcs->fixed (q_task_get_member (priv));
  q_task_wake_waiters_locked (priv);

  return TRUE;
}

/* Whether the task reads as cancelled, whatever its outcome. */
gboolean
q_task_reads_as_cancelled (QTaskPrivate *priv)
{
  guint word = q_task_get_word (priv);

  if ((word & Q_TASK_WORD_CHECK_CANCELLABLE) == 0)
    return FALSE;

  return (word & Q_TASK_WORD_CANCELLED) != 0 ||
         g_cancellable_is_cancelled (q_task_get_given (priv));
}

static GError *
peek_error (QTaskPrivate *priv)
{
  return g_atomic_pointer_get (&priv->error);
}

static void
warn_too_late (QTask *task)
{
  q_task_warn (task, "already has its outcome; what is set now is lost: set it before the worker "
                     "returns, or before the task is completed");
}

/* Sets the result, whose type @flags tell. Takes ownership. */
static void
set_result (QTask *task,
            gpointer result,
            GDestroyNotify destroy,
            guint flags)
{
  QTaskPrivate *priv = q_task_get_private (task);
  gpointer old = result;
  GDestroyNotify old_destroy = destroy;
  guint word;

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&priv->lock);
  word = q_task_get_word (priv);
  if ((word & Q_TASK_WORD_FIXED) == 0)
    {
      old = priv->result;
      old_destroy = priv->result_destroy;
      priv->result = result;
      priv->result_destroy = destroy;
      q_task_change (priv, Q_TASK_WORD_VALUE, Q_TASK_WORD_RESULT | flags);
    }
  g_mutex_unlock (&priv->lock);

  if ((word & Q_TASK_WORD_FIXED) != 0 && (word & Q_TASK_WORD_EARLY) == 0)
    warn_too_late (task);

  if (old_destroy != NULL)
    q_task_release_data (priv, old, old_destroy);
}

/* Whether the result goes to another process, so that its type must be told. */
static gboolean
is_remote (QTask *task)
{
  QTaskRunner *runner = q_task_get_private (task)->runner;

  return runner != NULL && runner->is_remote;
}

static void
value_free (gpointer data)
{
  GValue *value = data;

  g_value_unset (value);
  g_free (value);
}

static GValue *
value_dup (const GValue *value)
{
  GValue *copy = g_new0 (GValue, 1);

  if (value == NULL)
    {
      g_value_init (copy, G_TYPE_POINTER);
    }
  else
    {
      g_value_init (copy, G_VALUE_TYPE (value));
      g_value_copy (value, copy);
    }

  return copy;
}

/**
 * q_task_set_error:
 * @task: a task
 * @error: (nullable) (transfer full): an error, or %NULL for no effect
 *
 * Sets the error of the task, unless it has one: the first error wins, and beats a result.
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_error (QTask *task,
                  GError *error)
{
  QTaskPrivate *priv;
  guint word;

  g_return_if_fail (Q_IS_TASK (task));

  if (error == NULL)
    return;

  priv = q_task_get_private (task);

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&priv->lock);
  word = q_task_get_word (priv);
  if ((word & Q_TASK_WORD_FIXED) == 0 && priv->error == NULL)
    g_atomic_pointer_set (&priv->error, g_steal_pointer (&error));
  g_mutex_unlock (&priv->lock);

  if ((word & Q_TASK_WORD_FIXED) != 0 && (word & Q_TASK_WORD_EARLY) == 0)
    warn_too_late (task);

  g_clear_error (&error);
}

/**
 * q_task_set_new_error: (skip)
 * @task: a task
 * @domain: the error domain
 * @code: the error code
 * @format: a printf() format for the message
 * @...: what @format names
 *
 * As q_task_set_error(), with an error made here.
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_new_error (QTask *task,
                      GQuark domain,
                      int code,
                      const char *format,
                      ...)
{
  va_list args;
  GError *error;

  g_return_if_fail (Q_IS_TASK (task));

  va_start (args, format);
  error = g_error_new_valist (domain, code, format, args);
  va_end (args);

  q_task_set_error (task, error);
}

/**
 * q_task_set_error_if_cancelled:
 * @task: a task
 *
 * If the task has been cancelled, sets its error to %G_IO_ERROR_CANCELLED; if it has timed
 * out, to %G_IO_ERROR_TIMED_OUT. For a worker that then returns.
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Returns: whether it has
 *
 * Since: 1.0
 */
gboolean
q_task_set_error_if_cancelled (QTask *task)
{
  QTaskPrivate *priv;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  if (!q_task_is_cancelled (task))
    return FALSE;

  priv = q_task_get_private (task);
  q_task_set_error (task,
                    q_task_new_stop_error (q_task_get_word (priv) & Q_TASK_WORD_TIMED_OUT
                                             ? Q_TASK_STOP_TIMEOUT
                                             : Q_TASK_STOP_CANCEL));
  return TRUE;
}

/**
 * q_task_set_result_pointer: (skip)
 * @task: a task
 * @result: (nullable) (transfer full): the result
 * @result_destroy: (nullable): frees @result, if nobody takes it
 *
 * Sets the result of the task, in the place of one set before. An error, whenever it is set,
 * beats it.
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_result_pointer (QTask *task,
                           gpointer result,
                           GDestroyNotify result_destroy)
{
  g_return_if_fail (Q_IS_TASK (task));

  set_result (task, result, result != NULL ? result_destroy : NULL, 0);
}

/**
 * q_task_set_result_int:
 * @task: a task
 * @result: the result
 *
 * Sets the result of the task to a number; see q_task_set_result_pointer().
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_result_int (QTask *task,
                       gssize result)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (is_remote (task))
    q_task_set_result_variant (task, g_variant_new_int64 (result));
  else
    set_result (task, (gpointer) result, NULL, 0);
}

/**
 * q_task_set_result_boolean:
 * @task: a task
 * @result: the result
 *
 * Sets the result of the task to a truth value; see q_task_set_result_pointer().
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_result_boolean (QTask *task,
                           gboolean result)
{
  g_return_if_fail (Q_IS_TASK (task));

  if (is_remote (task))
    q_task_set_result_variant (task, g_variant_new_boolean (result != FALSE));
  else
    set_result (task, (gpointer) (gssize) result, NULL, 0);
}

/**
 * q_task_set_result_value:
 * @task: a task
 * @result: (nullable): the result, or %NULL for a %NULL pointer
 *
 * Sets the result of the task to a copy of @result; see q_task_set_result_pointer().
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_result_value (QTask *task,
                         const GValue *result)
{
  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (result == NULL || G_IS_VALUE (result));

  set_result (task, value_dup (result), value_free, Q_TASK_WORD_VALUE);
}

/**
 * q_task_set_result_variant:
 * @task: a task
 * @result: (nullable): the result; a floating reference is taken
 *
 * Sets the result of the task; see q_task_set_result_pointer().
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_result_variant (QTask *task,
                           GVariant *result)
{
  g_return_if_fail (Q_IS_TASK (task));

  set_result (task, result != NULL ? g_variant_ref_sink (result) : NULL,
              result != NULL ? (GDestroyNotify) g_variant_unref : NULL, 0);
}

/**
 * q_task_set_result_object:
 * @task: a task
 * @result: (nullable): the result; the task takes a reference of its own
 *
 * Sets the result of the task; see q_task_set_result_pointer().
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_result_object (QTask *task,
                          GObject *result)
{
  g_return_if_fail (Q_IS_TASK (task));
  g_return_if_fail (result == NULL || G_IS_OBJECT (result));

  set_result (task, result != NULL ? g_object_ref (result) : NULL,
              result != NULL ? g_object_unref : NULL, 0);
}

/**
 * q_task_set_result_bytes:
 * @task: a task
 * @result: (nullable): the result; the task takes a reference of its own
 *
 * Sets the result of the task; see q_task_set_result_pointer().
 *
 * May be called from any thread, before the task has its outcome.
 *
 * Since: 1.0
 */
void
q_task_set_result_bytes (QTask *task,
                         GBytes *result)
{
  g_return_if_fail (Q_IS_TASK (task));

  set_result (task, result != NULL ? g_bytes_ref (result) : NULL,
              result != NULL ? (GDestroyNotify) g_bytes_unref : NULL, 0);
}

/**
 * q_task_had_error:
 * @task: a task
 *
 * Whether the task has failed, as [method@QTask.Task.propagate_error] would tell.
 *
 * May be called from any thread.
 *
 * Returns: whether there is, or was, an error
 *
 * Since: 1.0
 */
gboolean
q_task_had_error (QTask *task)
{
  QTaskPrivate *priv;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  priv = q_task_get_private (task);

  if (q_task_is_forked (NULL) && !is_fixed (priv))
    return TRUE;

  return peek_error (priv) != NULL ||
         (q_task_get_word (priv) & Q_TASK_WORD_HAD_ERROR) != 0 ||
         q_task_reads_as_cancelled (priv);
}

/**
 * q_task_get_error:
 * @task: a task
 *
 * Gets the error of the task, and leaves it there. Agrees with
 * [method@QTask.Task.had_error], unless the error has been propagated: then it is gone.
 *
 * May be called from any thread once the task has its outcome, in which nobody propagates
 * the error meanwhile.
 *
 * Returns: (transfer none) (nullable): the error
 *
 * Since: 1.0
 */
const GError *
q_task_get_error (QTask *task)
{
  static gsize cancelled_once;
  static GError *cancelled;
  QTaskPrivate *priv;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  priv = q_task_get_private (task);

  if (q_task_reads_as_cancelled (priv))
    {
      if (g_once_init_enter (&cancelled_once))
        {
          cancelled = q_task_new_stop_error (Q_TASK_STOP_CANCEL);
          g_once_init_leave (&cancelled_once, TRUE);
        }
      return cancelled;
    }

  return peek_error (priv);
}

/**
 * q_task_get_result_pointer: (skip)
 * @task: a task
 *
 * Gets the result of the task, and leaves it there.
 *
 * May be called from any thread once the task has its outcome, in which nobody takes the
 * result meanwhile.
 *
 * Returns: (transfer none) (nullable): the result, or %NULL if there is none or the task
 *   failed
 *
 * Since: 1.0
 */
gpointer
q_task_get_result_pointer (QTask *task)
{
  QTaskPrivate *priv;
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);

  if (q_task_had_error (task))
    return NULL;

  priv = q_task_get_private (task);

  g_mutex_lock (&priv->lock);
  result = priv->result;
  g_mutex_unlock (&priv->lock);

  return result;
}

/* Whether the outcome is an error; moves that to @error. */
static gboolean
take_error (QTask *task,
            GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  GError *own;

  if (!is_fixed (priv))
    return q_task_is_forked (error);

  if (q_task_reads_as_cancelled (priv))
    {
      g_propagate_error (error, q_task_new_stop_error (Q_TASK_STOP_CANCEL));
      return TRUE;
    }

  own = peek_error (priv);
  if (own == NULL)
    return FALSE;

  /* In this order: the worker may still run, and asks at its end. */
  q_task_change (priv, 0, Q_TASK_WORD_HAD_ERROR);
  g_atomic_pointer_set (&priv->error, NULL);
  g_propagate_error (error, own);

  return TRUE;
}

/* Whether @function, which reads the outcome, is not too early. In a forked child it never is. */
static gboolean
check_fixed (QTask *task,
             const char *function)
{
  if (is_fixed (q_task_get_private (task)) || q_task_is_forked (NULL))
    return TRUE;

  q_task_warn (task, "has no outcome yet; call %s() in its callback, or when q_task_wait() has "
                     "returned",
               function);

  return FALSE;
}

/* What reads the result that a task has. */
static const char *
get_reader (QTaskPrivate *priv)
{
  if ((q_task_get_word (priv) & Q_TASK_WORD_VALUE) != 0)
    return "q_task_propagate_value()";
  if (priv->result_destroy == (GDestroyNotify) g_variant_unref)
    return "q_task_propagate_variant()";
  if (priv->result_destroy == (GDestroyNotify) g_object_unref)
    return "q_task_propagate_object()";
  if (priv->result_destroy == (GDestroyNotify) g_bytes_unref)
    return "q_task_propagate_bytes()";
  if (priv->result_destroy != NULL)
    return "q_task_propagate_pointer()";

  return "q_task_propagate_int(), …_boolean() or …_pointer(), as it was set";
}

static void
warn_of_another_kind (QTask *task,
                      const char *function)
{
  q_task_warn (task, "has no result for %s(); read it with %s", function,
               get_reader (q_task_get_private (task)));
}

/* Moves the result out, for @function. Success that nobody set a result for gives @none. */
static gboolean
take_result (QTask *task,
             const char *function,
             gpointer none,
             gpointer *result,
             GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  guint word;

  if (!check_fixed (task, function))
    return FALSE;

  if (take_error (task, error))
    return FALSE;

  word = q_task_change (priv, Q_TASK_WORD_RESULT, Q_TASK_WORD_TAKEN);

  if ((word & (Q_TASK_WORD_HAD_ERROR | Q_TASK_WORD_TAKEN)) != 0)
    {
      q_task_warn (task, "gave its result or error away before; call %s() and its like once, and "
                         "keep what it gave",
                   function);
      return FALSE;
    }

  *result = (word & Q_TASK_WORD_RESULT) != 0 ? priv->result : none;
  priv->result_destroy = NULL;
  priv->result = NULL;

  return TRUE;
}

/* Likewise one of the kind that is freed with @destroy: another one may not be read as that. */
static gboolean
take_result_of (QTask *task,
                const char *function,
                GDestroyNotify destroy,
                gpointer none,
                gpointer *result,
                GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);

  if (is_fixed (priv) && !q_task_had_error (task) && priv->result != NULL &&
      priv->result_destroy != destroy)
    {
      warn_of_another_kind (task, function);
      return FALSE;
    }

  return take_result (task, function, none, result, error);
}

/**
 * q_task_propagate_error:
 * @task: a task that has its outcome
 * @error: return location for the error
 *
 * Tells whether the task failed, and moves its error to @error. A task with
 * [property@QTask.Task:check-cancellable] that was cancelled gives
 * %G_IO_ERROR_CANCELLED; in a forked child one that has no outcome
 * gives %Q_TASK_ERROR_FORKED.
 *
 * An error of the task itself can be moved once, as with #GTask: a second time there is none,
 * and this returns %FALSE, while [method@QTask.Task.had_error] still tells that it failed.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: %TRUE if the task failed and @error is set, %FALSE if it succeeded or its error
 *   was moved before
 *
 * Since: 1.0
 */
gboolean
q_task_propagate_error (QTask *task,
                        GError **error)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (!check_fixed (task, G_STRFUNC))
    return FALSE;

  return take_error (task, error);
}

/**
 * q_task_propagate_pointer: (skip)
 * @task: a task that has its outcome
 * @error: return location for an error
 *
 * Moves the result of the task to the caller, or its error to @error; see
 * q_task_propagate_error(). It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: (transfer full) (nullable): the result, or %NULL on error
 *
 * Since: 1.0
 */
gpointer
q_task_propagate_pointer (QTask *task,
                          GError **error)
{
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return take_result (task, G_STRFUNC, NULL, &result, error) ? result : NULL;
}

/**
 * q_task_propagate_int:
 * @task: a task that has its outcome
 * @error: return location for an error
 *
 * Moves the result of the task to the caller, or its error to @error; see
 * [method@QTask.Task.propagate_error]. It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: the result, 0 if the task succeeded with none, or -1 on error
 *
 * Since: 1.0
 */
gssize
q_task_propagate_int (QTask *task,
                      GError **error)
{
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), -1);
  g_return_val_if_fail (error == NULL || *error == NULL, -1);

  return take_result_of (task, G_STRFUNC, NULL, NULL, &result, error) ? (gssize) result : -1;
}

/**
 * q_task_propagate_boolean:
 * @task: a task that has its outcome
 * @error: return location for an error
 *
 * Moves the result of the task to the caller, or its error to @error; see
 * [method@QTask.Task.propagate_error]. It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: the result, %TRUE if the task succeeded with none, or %FALSE on error
 *
 * Since: 1.0
 */
gboolean
q_task_propagate_boolean (QTask *task,
                          GError **error)
{
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  return take_result_of (task, G_STRFUNC, NULL, GINT_TO_POINTER (TRUE), &result, error) && result != NULL;
}

/**
 * q_task_propagate_value: (skip)
 * @task: a task that has its outcome, made with q_task_set_result_value() or
 *   q_task_return_value()
 * @value: (out caller-allocates): an unset #GValue for the result
 * @error: return location for an error
 *
 * Moves the result of the task to @value, or its error to @error; see
 * q_task_propagate_error(). It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: %TRUE if the task succeeded
 *
 * Since: 1.0
 */
gboolean
q_task_propagate_value (QTask *task,
                        GValue *value,
                        GError **error)
{
  GValue *result;

  g_return_val_if_fail (Q_IS_TASK (task), FALSE);
  g_return_val_if_fail (value != NULL, FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  result = q_task_propagate_boxed_value (task, error);
  if (result == NULL)
    return FALSE;

  *value = *result;
  g_free (result);

  return TRUE;
}

/**
 * q_task_propagate_boxed_value: (rename-to q_task_propagate_value)
 * @task: a task that has its outcome, made with [method@QTask.Task.set_result_value] or
 *   [method@QTask.Task.return_value]
 * @error: return location for an error
 *
 * Moves the result of the task to the caller, or its error to @error; see
 * [method@QTask.Task.propagate_error]. It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: (transfer full) (nullable): the result, or %NULL on error
 *
 * Since: 1.0
 */
GValue *
q_task_propagate_boxed_value (QTask *task,
                              GError **error)
{
  QTaskPrivate *priv;
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  priv = q_task_get_private (task);
  if (is_fixed (priv) && !q_task_had_error (task) && (q_task_get_word (priv) & Q_TASK_WORD_VALUE) == 0)
    {
      warn_of_another_kind (task, "q_task_propagate_value");
      return NULL;
    }

  return take_result (task, "q_task_propagate_value", NULL, &result, error) ? result : NULL;
}

/**
 * q_task_propagate_variant:
 * @task: a task that has its outcome, made with [method@QTask.Task.set_result_variant]
 * @error: return location for an error
 *
 * Moves the result of the task to the caller, or its error to @error; see
 * [method@QTask.Task.propagate_error]. It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: (transfer full) (nullable): the result, or %NULL on error
 *
 * Since: 1.0
 */
GVariant *
q_task_propagate_variant (QTask *task,
                          GError **error)
{
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return take_result_of (task, G_STRFUNC, (GDestroyNotify) g_variant_unref, NULL, &result, error) ? result : NULL;
}

/**
 * q_task_propagate_object:
 * @task: a task that has its outcome, made with [method@QTask.Task.set_result_object]
 * @error: return location for an error
 *
 * Moves the result of the task to the caller, or its error to @error; see
 * [method@QTask.Task.propagate_error]. It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: (transfer full) (nullable): the result, or %NULL on error
 *
 * Since: 1.0
 */
GObject *
q_task_propagate_object (QTask *task,
                         GError **error)
{
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return take_result_of (task, G_STRFUNC, (GDestroyNotify) g_object_unref, NULL, &result, error) ? result : NULL;
}

/**
 * q_task_propagate_bytes:
 * @task: a task that has its outcome, made with [method@QTask.Task.set_result_bytes]
 * @error: return location for an error
 *
 * Moves the result of the task to the caller, or its error to @error; see
 * [method@QTask.Task.propagate_error]. It can be done once.
 *
 * May be called from any thread, by one at a time; from the callback, usually.
 *
 * Returns: (transfer full) (nullable): the result, or %NULL on error
 *
 * Since: 1.0
 */
GBytes *
q_task_propagate_bytes (QTask *task,
                        GError **error)
{
  gpointer result;

  g_return_val_if_fail (Q_IS_TASK (task), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return take_result_of (task, G_STRFUNC, (GDestroyNotify) g_bytes_unref, NULL, &result, error) ? result : NULL;
}
