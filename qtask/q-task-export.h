/* q-task-export.h: tasks as plain C functions, for callers of any language
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * To be included on its own, by the library that exports a task, and not by those who call it:
 * they need no header of GLib or QTask, and no main loop. Introspection does not see it.
 */

#pragma once

#include <qtask/qtask.h>

#ifdef __cpp_exceptions
#include <exception>
#endif

G_BEGIN_DECLS

/**
 * QTaskExportStatus:
 * @Q_TASK_EXPORT_FAILED: the task has failed; the last error of the calling thread says why
 * @Q_TASK_EXPORT_PENDING: the task is queued or runs
 * @Q_TASK_EXPORT_DONE: the task has a result
 *
 * What `PREFIX_poll ()` returns.
 *
 * Since: 1.0
 */
typedef enum {
  Q_TASK_EXPORT_FAILED = -1,
  Q_TASK_EXPORT_PENDING = 0,
  Q_TASK_EXPORT_DONE = 1
} QTaskExportStatus;

/**
 * Q_TASK_EXPORT:
 * @prefix: what the names of the functions begin with, such as `spin`
 * @Args: the type of the arguments, plain data, such as `SpinArgs`
 * @Result: the type of the result, plain data, such as `SpinResult`
 * @run_func: the work
 *
 * Defines plain C functions that run @run_func in a thread of the default pool, for callers of
 * any language: no GLib type is in their signatures, and no main loop is needed anywhere.
 *
 * ```c
 * gboolean                run_func                  (QTask *task, const Args *args,
 *                                                    Result *result, GError **error);
 *
 * struct PREFIX_handle   *PREFIX_spawn              (const Args *args);
 * Result                 *PREFIX_wait               (struct PREFIX_handle *handle);
 * int                     PREFIX_poll               (struct PREFIX_handle *handle);
 * void                    PREFIX_cancel             (struct PREFIX_handle *handle);
 * int                     PREFIX_cancelled          (struct PREFIX_handle *handle);
 * void                    PREFIX_handle_destroy     (struct PREFIX_handle *handle);
 * void                    PREFIX_result_destroy     (Result *result);
 *
 * const char             *PREFIX_last_error_message (void);
 * size_t                  PREFIX_last_error_length  (void);
 * const char             *PREFIX_last_error_domain  (void);
 * int                     PREFIX_last_error_code    (void);
 * void                    PREFIX_last_error_clear   (void);
 * ```
 *
 * All may be called from any thread. What they do:
 *
 * - `spawn` starts the task with a copy of what @args points to. Returns NULL on failure.
 * - `wait` blocks until the task has ended, and consumes the handle, in every case: it is not to
 *   be used any more. Returns the result, to be freed with `result_destroy`; NULL if the task
 *   failed or could not be waited for.
 * - `poll` never blocks and leaves the handle as it is; see #QTaskExportStatus.
 * - `cancel` asks the task to stop. One that waits for a thread has failed at once, with
 *   %G_IO_ERROR_CANCELLED; one that runs sees it in q_task_is_cancelled(), and what it then
 *   returns counts. NULL is allowed.
 * - `cancelled` tells whether the task was cancelled before it ended: 1, or 0. NULL is allowed: 0.
 * - `handle_destroy` cancels the task, and consumes the handle in the place of `wait`. It
 *   never blocks: the task may run on until it sees that, and its result is then freed by the
 *   thread that ran it. NULL is allowed.
 * - `result_destroy` frees a result. NULL is allowed.
 * - `last_error_message` is NULL if nothing failed yet in the calling thread, else what did last,
 *   in UTF-8. It belongs to the library and is good until something fails again in that
 *   thread, or `last_error_clear`. `last_error_length` is its length in bytes, without the NUL.
 *   Success does not clear it. `last_error_domain` is the name of the GError domain, NULL for
 *   none, and `last_error_code` the code in it.
 *
 * Whatever goes wrong is a last error: those of @run_func; %Q_TASK_ERROR_FAILED where that
 * returned %FALSE and did not say why, or, in C++, threw an exception; %G_IO_ERROR_INVALID_ARGUMENT
 * for a NULL that is not allowed or a handle of another prefix; %Q_TASK_ERROR_DEADLOCK and
 * %Q_TASK_ERROR_FORKED as for q_task_wait(); what q_task_pool_push() fails with.
 *
 * @run_func throws as any worker does. It finds @result filled with zeros.
 *
 * To be used at the top level of a source file, without a semicolon. A header with the prototypes
 * of these functions may be included before: the compiler then checks that it is right.
 *
 * Since: 1.0
 */
#define Q_TASK_EXPORT(prefix, Args, Result, run_func) \
  static void * \
  prefix##_export_copy_args_ (const void *args) \
  { \
    return g_memdup2 (args, sizeof (Args)); \
  } \
  \
  static int \
  prefix##_export_run_ (QTask *task, void *args, void **result, GError **error) \
  { \
    Result *value = (Result *) g_malloc0 (sizeof (Result)); \
    \
    *result = value; \
    _Q_TASK_EXPORT_RETURN (run_func (task, (Args *) args, value, error), error) \
  } \
  \
  _Q_TASK_EXPORT_FUNCTIONS (prefix, Args, Result, g_free, g_free)

/**
 * Q_TASK_EXPORT_FULL:
 * @prefix: what the names of the functions begin with
 * @Args: the type of the arguments, or `char` for a string
 * @Result: the type of the result, or `char` for a string
 * @run_func: the work
 * @args_copy: makes a deep copy of an `Args *`; NULL if it does not accept them
 * @args_free: frees such a copy; called when the task has ended, by the thread that ran it or
 *   cancelled it
 * @result_free: frees what @run_func made
 *
 * As Q_TASK_EXPORT(), for arguments and results that hold more than plain data:
 *
 * ```c
 * static gboolean
 * digest_run (QTask *task, const char *path, char **result, GError **error);
 *
 * Q_TASK_EXPORT_FULL (digest, char, char, digest_run, g_strdup, g_free, g_free)
 * ```
 *
 * Here @run_func makes the result, which is its caller's: `Result **` is the third parameter. To
 * succeed with none is a failure, %Q_TASK_ERROR_FAILED.
 *
 * Since: 1.0
 */
#define Q_TASK_EXPORT_FULL(prefix, Args, Result, run_func, args_copy, args_free, result_free) \
  static void * \
  prefix##_export_copy_args_ (const void *args) \
  { \
    return args_copy ((const Args *) args); \
  } \
  \
  static void \
  prefix##_export_free_args_ (void *args) \
  { \
    args_free ((Args *) args); \
  } \
  \
  static void \
  prefix##_export_free_result_ (void *result) \
  { \
    result_free ((Result *) result); \
  } \
  \
  static int \
  prefix##_export_make_ (QTask *task, Args *args, Result **result, GError **error) \
  { \
    _Q_TASK_EXPORT_RETURN (run_func (task, args, result, error), error) \
  } \
  \
  static int \
  prefix##_export_run_ (QTask *task, void *args, void **result, GError **error) \
  { \
    Result *made = NULL; \
    int success = prefix##_export_make_ (task, (Args *) args, &made, error); \
    \
    *result = made; \
    return success; \
  } \
  \
  _Q_TASK_EXPORT_FUNCTIONS (prefix, Args, Result, prefix##_export_free_args_, \
                            prefix##_export_free_result_)

/* What is below is for the code that the macros make. */

/* The table of one prefix. */
typedef struct
{
  const char *name;
  gpointer (* copy_args)   (gconstpointer args);
  void     (* free_args)   (gpointer      args);
  gboolean (* run)         (QTask        *task,
                            gpointer      args,
                            gpointer     *result,
                            GError      **error);
  void     (* free_result) (gpointer      result);

  /*< private >*/
  gpointer padding[3];
} QTaskExport;

Q_TASK_AVAILABLE_IN_1_0
gpointer    q_task_export_spawn              (const QTaskExport  *table,
                                              gconstpointer       args);
Q_TASK_AVAILABLE_IN_1_0
gpointer    q_task_export_wait               (const QTaskExport  *table,
                                              gpointer            handle);
Q_TASK_AVAILABLE_IN_1_0
int         q_task_export_poll               (const QTaskExport  *table,
                                              gpointer            handle);
Q_TASK_AVAILABLE_IN_1_0
void        q_task_export_cancel             (const QTaskExport  *table,
                                              gpointer            handle);
Q_TASK_AVAILABLE_IN_1_0
int         q_task_export_cancelled          (const QTaskExport  *table,
                                              gpointer            handle);
Q_TASK_AVAILABLE_IN_1_0
void        q_task_export_handle_destroy     (const QTaskExport  *table,
                                              gpointer            handle);
Q_TASK_AVAILABLE_IN_1_0
gboolean    q_task_export_threw              (const char         *what,
                                              GError            **error);

Q_TASK_AVAILABLE_IN_1_0
const char *q_task_export_last_error_message (void);
Q_TASK_AVAILABLE_IN_1_0
gsize       q_task_export_last_error_length  (void);
Q_TASK_AVAILABLE_IN_1_0
const char *q_task_export_last_error_domain  (void);
Q_TASK_AVAILABLE_IN_1_0
int         q_task_export_last_error_code    (void);
Q_TASK_AVAILABLE_IN_1_0
void        q_task_export_last_error_clear   (void);

#ifdef __cplusplus
#define _Q_TASK_EXPORT_EXTERN extern "C" __attribute__ ((visibility ("default")))
#else
#define _Q_TASK_EXPORT_EXTERN extern __attribute__ ((visibility ("default")))
#endif

/* What is thrown must not leave the worker. */
#ifdef __cpp_exceptions
#define _Q_TASK_EXPORT_RETURN(call, error) \
  try \
    { \
      return call; \
    } \
  catch (const std::exception &exception) \
    { \
      return q_task_export_threw (exception.what (), error); \
    } \
  catch (...) \
    { \
      return q_task_export_threw (NULL, error); \
    }
#else
#define _Q_TASK_EXPORT_RETURN(call, error) return call;
#endif

/* There may be prototypes in a header of the user. */
#define _Q_TASK_EXPORT_FUNCTIONS(prefix, Args, Result, free_args_func, free_result_func) \
  static const QTaskExport prefix##_export_ = { \
    #prefix, \
    prefix##_export_copy_args_, \
    free_args_func, \
    prefix##_export_run_, \
    free_result_func, \
    { NULL, NULL, NULL } \
  }; \
  \
  struct prefix##_handle; \
  \
  _Pragma ("GCC diagnostic push") \
  _Pragma ("GCC diagnostic ignored \"-Wredundant-decls\"") \
  _Q_TASK_EXPORT_EXTERN struct prefix##_handle *prefix##_spawn (const Args *args); \
  _Q_TASK_EXPORT_EXTERN Result *prefix##_wait (struct prefix##_handle *handle); \
  _Q_TASK_EXPORT_EXTERN int prefix##_poll (struct prefix##_handle *handle); \
  _Q_TASK_EXPORT_EXTERN void prefix##_cancel (struct prefix##_handle *handle); \
  _Q_TASK_EXPORT_EXTERN int prefix##_cancelled (struct prefix##_handle *handle); \
  _Q_TASK_EXPORT_EXTERN void prefix##_handle_destroy (struct prefix##_handle *handle); \
  _Q_TASK_EXPORT_EXTERN void prefix##_result_destroy (Result *result); \
  _Q_TASK_EXPORT_EXTERN const char *prefix##_last_error_message (void); \
  _Q_TASK_EXPORT_EXTERN size_t prefix##_last_error_length (void); \
  _Q_TASK_EXPORT_EXTERN const char *prefix##_last_error_domain (void); \
  _Q_TASK_EXPORT_EXTERN int prefix##_last_error_code (void); \
  _Q_TASK_EXPORT_EXTERN void prefix##_last_error_clear (void); \
  _Pragma ("GCC diagnostic pop") \
  \
  struct prefix##_handle * \
  prefix##_spawn (const Args *args) \
  { \
    return (struct prefix##_handle *) q_task_export_spawn (&prefix##_export_, args); \
  } \
  \
  Result * \
  prefix##_wait (struct prefix##_handle *handle) \
  { \
    return (Result *) q_task_export_wait (&prefix##_export_, handle); \
  } \
  \
  int \
  prefix##_poll (struct prefix##_handle *handle) \
  { \
    return q_task_export_poll (&prefix##_export_, handle); \
  } \
  \
  void \
  prefix##_cancel (struct prefix##_handle *handle) \
  { \
    q_task_export_cancel (&prefix##_export_, handle); \
  } \
  \
  int \
  prefix##_cancelled (struct prefix##_handle *handle) \
  { \
    return q_task_export_cancelled (&prefix##_export_, handle); \
  } \
  \
  void \
  prefix##_handle_destroy (struct prefix##_handle *handle) \
  { \
    q_task_export_handle_destroy (&prefix##_export_, handle); \
  } \
  \
  void \
  prefix##_result_destroy (Result *result) \
  { \
    if (result != NULL) \
      prefix##_export_.free_result (result); \
  } \
  \
  const char * \
  prefix##_last_error_message (void) \
  { \
    return q_task_export_last_error_message (); \
  } \
  \
  size_t \
  prefix##_last_error_length (void) \
  { \
    return q_task_export_last_error_length (); \
  } \
  \
  const char * \
  prefix##_last_error_domain (void) \
  { \
    return q_task_export_last_error_domain (); \
  } \
  \
  int \
  prefix##_last_error_code (void) \
  { \
    return q_task_export_last_error_code (); \
  } \
  \
  void \
  prefix##_last_error_clear (void) \
  { \
    q_task_export_last_error_clear (); \
  }

G_END_DECLS
