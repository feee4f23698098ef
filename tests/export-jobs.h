/* export-jobs.h: exported tasks of all kinds, for test-export.c
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * As a header for callers of any language should be: it includes nothing of GLib or QTask.
 */

#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C"
{
#endif

/* What a job does. */
enum
{
  JOB_SUCCEED,      /* its result is the number of its arguments */
  JOB_HOLD,         /* ... once job_release() has been called */
  JOB_FAIL,         /* G_IO_ERROR_NOT_FOUND, with the text of its arguments */
  JOB_FAIL_BY_TASK, /* the same, set on the task */
  JOB_FAIL_SILENTLY,
  JOB_FAIL_WITH_RESULT,
  JOB_NO_RESULT,
  JOB_WAIT_FOR_CANCEL, /* and fails, silently */
  JOB_IGNORE_CANCEL,   /* waits for it, and succeeds */
  JOB_NEST,            /* spawns another, waits for it, adds 1 to what that results in */
  JOB_USE_TASK,        /* does with its task what there is no owner for */
  JOB_WAIT_FOR_ITSELF  /* what became of that is in job_get_seen_code() */
};

typedef struct
{
  int kind;
  int number;
  const char *text;
} JobArgs;

typedef struct
{
  int number;
  int is_alive;
} JobResult;

struct job_handle;

struct job_handle *job_spawn (const JobArgs *args);
JobResult *job_wait (struct job_handle *handle);
int job_poll (struct job_handle *handle);
void job_cancel (struct job_handle *handle);
int job_cancelled (struct job_handle *handle);
void job_handle_destroy (struct job_handle *handle);
void job_result_destroy (JobResult *result);
const char *job_last_error_message (void);
size_t job_last_error_length (void);
const char *job_last_error_domain (void);
int job_last_error_code (void);
void job_last_error_clear (void);

/* Gives back the text it is given, or fails with it if that begins with an exclamation mark. */
struct echo_handle;

struct echo_handle *echo_spawn (const char *text);
char *echo_wait (struct echo_handle *handle);
void echo_handle_destroy (struct echo_handle *handle);
void echo_result_destroy (char *result);
const char *echo_last_error_message (void);

/* Waits until so many jobs have entered their worker, in all. */
void job_wait_for_entered (int n);
int job_get_entered (void);
void job_hold (void);
void job_release (void);
void job_set_itself (struct job_handle *handle);
int job_get_seen_code (void);

/* Calls @func with a main context that is thread-default, which nobody iterates, and which goes
 * when it returns. */
void job_call_in_context (void (*func) (void *data),
                          void *data);

/* What there is of copies of arguments, of results, and of tasks that have run. */
int job_get_n_args (void);
int job_get_n_results (void);
int job_get_n_tasks (void);
int job_get_n_results_made (void);

/* Waits until there are no arguments and no tasks, and @n_results. */
void job_wait_until_quiet (int n_results);

#ifdef __cplusplus
}
#endif
