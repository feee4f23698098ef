/* test-launcher-util.h: what the tests of worker processes share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "test-util.h"

G_BEGIN_DECLS

/* Instead of g_test_init() */
void           launcher_test_init       (int            *argc,
                                         char         ***argv);

/* Adds a test, after which this process has no more children and descriptors than before, and what
 * looks after memory and locks in its children has found nothing. */
void           launcher_test_add        (const char     *path,
                                         GTestFunc       func);
void           launcher_test_add_data   (const char     *path,
                                         gconstpointer   data,
                                         GTestDataFunc   func);

/* A folder that lasts as long as the program; one that does not exit in order removes it itself */
const char    *launcher_test_get_folder (void);
void           launcher_test_remove_folder (void);

/* The whole path of a program that is built beside this one */
char          *launcher_test_get_program (const char    *name);

/* launcher-worker, up to two processes of it */
QTaskLauncher *launcher_new             (void);

/* launcher-fake, which does these steps */
QTaskLauncher *launcher_new_fake        (const char     *step,
                                         ...) G_GNUC_NULL_TERMINATED;
QTaskLauncher *launcher_new_fake_v      (GPtrArray      *steps);

/* What is asked of launcher-worker; @with may be NULL for what needs nothing */
GVariant      *launcher_request         (const char     *what,
                                         GVariant       *with);

/* Answer: a task in a worker process, and what came out. Starts as ANSWER_INIT. */
typedef struct
{
  QTask     *task;
  int        called;
  GThread   *thread;
  int        serial;
  GVariant  *result;
  GError    *error;
  TestFate   fate;     /* of what the task was made with */
} Answer;

#define ANSWER_INIT { NULL, 0, NULL, 0, NULL, NULL, TEST_FATE_INIT }

/* Makes the task, which may still be changed, and runs it */
QTask         *answer_prepare           (Answer         *answer);
void           answer_run               (Answer         *answer,
                                         QTaskLauncher  *launcher,
                                         const char     *what,
                                         GVariant       *with);
void           answer_start             (Answer         *answer,
                                         QTaskLauncher  *launcher,
                                         const char     *what,
                                         GVariant       *with);

/* Iterates the default context until its callback was called, or until it has told that it runs */
void           answer_wait              (Answer         *answer);
void           answer_wait_running      (Answer         *answer);

/* Drops the task, which must be the last reference */
void           answer_clear             (Answer         *answer);

/* All at once; what comes out must be no error */
GVariant      *launcher_call            (QTaskLauncher  *launcher,
                                         const char     *what,
                                         GVariant       *with);
int            launcher_call_pid        (QTaskLauncher  *launcher);

/* The error that must come out */
GError        *launcher_call_error      (QTaskLauncher  *launcher,
                                         const char     *what,
                                         GVariant       *with);

#define assert_call_fails(launcher, what, with, domain, code, text) \
  G_STMT_START { \
    GError *error_ = launcher_call_error (launcher, what, with); \
    g_assert_error (error_, domain, code); \
    assert_contains (error_->message, text); \
    g_error_free (error_); \
  } G_STMT_END

#define assert_contains(text, part) \
  G_STMT_START { \
    if (strstr (text, part) == NULL) \
      g_error ("%s:%d: there is no “%s” in “%s”", __FILE__, __LINE__, part, text); \
  } G_STMT_END

#define assert_variant(variant, format) \
  G_STMT_START { \
    g_autofree char *printed_ = g_variant_print (variant, TRUE); \
    g_assert_cmpstr (printed_, ==, format); \
  } G_STMT_END

/* Processes that this one has started: those that run, or all, with those not reaped */
guint          count_running_children   (void);
guint          count_children           (void);
guint          list_children            (int            *pids,
                                         guint           n_pids);

/* Whether there is no such process, reaped and all */
gboolean       process_is_gone          (int             pid);

/* The steps of launcher-fake that send frames */
char          *fake_hello               (void);
char          *fake_result              (const char     *text);
char          *fake_error               (GQuark          domain,
                                         int             code,
                                         const char     *message);
char          *fake_progress            (double          fraction,
                                         const char     *text);
char          *fake_frame               (guint8          type,
                                         gconstpointer   data,
                                         gsize           size);
char          *fake_bytes               (gconstpointer   data,
                                         gsize           size);

G_END_DECLS
