/* test-util.h: what the test programs share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <pthread.h>

#include <qtask/qtask.h>

G_BEGIN_DECLS

/* Nothing here waits for ever: after this many seconds a wait aborts the
 * program and says what it waited for. Generous, for sanitizers and valgrind.
 */
#define TEST_TIME_LIMIT 30

/* Whether threads or addresses are watched, which takes many times longer; also for #if */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_IS_SANITIZED 1
#endif
#endif
#ifndef TEST_IS_SANITIZED
#define TEST_IS_SANITIZED 0
#endif

/* The log domain of the library */
#define TEST_LOG_DOMAIN "QTask"

/* The end time of a wait that begins now, monotonic, in microseconds */
gint64 test_end_time (void);

/* Counts up from 1, to tell what came before what */
int test_next_serial (void);

/* Has the calling thread run on the processor of this number, as far as there are so many, so
 * that threads which race do not take turns on one.
 */
void test_pin_thread (int number);

/* Has threads go on at the same moment: returns when it has been called @n times in all
 * with the same @n_there. Spins, so it is for those that are about to come.
 */
void test_meet (int *n_there,
                int  n);

/* TestGate: holds threads at a point until it has been opened, or until it
 * has been opened so many times. Starts as TEST_GATE_INIT; needs no clearing.
 * Made of pthread calls and not of GMutex and GCond, since thread sanitizer
 * sees through those only.
 */
typedef struct
{
  pthread_mutex_t mutex;
  pthread_cond_t  cond;
  int             count;
} TestGate;

#define TEST_GATE_INIT { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 }

void test_gate_open         (TestGate   *gate);
void test_gate_close        (TestGate   *gate);
int  test_gate_get_count    (TestGate   *gate);
void test_gate_wait_for_at  (TestGate   *gate,
                             int         count,
                             const char *what,
                             const char *file,
                             int         line);

/* Blocks until @gate has been opened @n times in all */
#define test_gate_wait_for(gate, n) \
  test_gate_wait_for_at (gate, n, #gate, __FILE__, __LINE__)
#define test_gate_wait(gate) test_gate_wait_for (gate, 1)

/* TestFate: whether, how often, in which thread and in what order something
 * was destroyed. Lives with the caller; starts as TEST_FATE_INIT. May be used
 * in all threads.
 */
typedef struct
{
  TestGate  gate;
  GThread  *thread;
  int       serial;
} TestFate;

#define TEST_FATE_INIT { TEST_GATE_INIT, NULL, 0 }

/* Records a destruction, here and now. A GDestroyNotify. */
void test_fate_notify (gpointer fate);

/* Records when, and where, @object is disposed */
void test_fate_watch (TestFate *fate,
                      gpointer  object);

int      test_fate_get_count  (TestFate *fate);
GThread *test_fate_get_thread (TestFate *fate);
int      test_fate_get_serial (TestFate *fate);

/* Blocks until it was destroyed */
#define test_fate_wait(fate) test_gate_wait (&(fate)->gate)

#define test_assert_alive(fate) g_assert_cmpint (test_fate_get_count (fate), ==, 0)
#define test_assert_destroyed_in(fate, where) \
  G_STMT_START { \
    g_assert_cmpint (test_fate_get_count (fate), ==, 1); \
    g_assert_true (test_fate_get_thread (fate) == (where)); \
  } G_STMT_END
#define test_assert_destroyed_here(fate) test_assert_destroyed_in (fate, g_thread_self ())

/* TestProbe: an object that records its finalization in a TestFate */
#define TEST_TYPE_PROBE (test_probe_get_type ())
G_DECLARE_FINAL_TYPE (TestProbe, test_probe, TEST, PROBE, GObject)

GObject *test_probe_new (TestFate *fate);

/* A GCancellable that records its finalization in a TestFate */
GCancellable *test_cancellable_new (TestFate *fate);

/* TestHold: for workers that say that they run and then wait to be released */
typedef struct
{
  TestGate entered;
  TestGate release;
} TestHold;

#define TEST_HOLD_INIT { TEST_GATE_INIT, TEST_GATE_INIT }

/* A QTaskWorker: opens `entered`, waits for `release`, succeeds. Its opaque is
 * a TestHold, which several tasks may share.
 */
gboolean test_hold_worker (QTask    *task,
                           gpointer  hold,
                           GError  **error);

/* A QTaskWorker: opens `entered`, waits until its task is asked to stop, fails
 * as cancelled. Its opaque is a TestHold.
 */
gboolean test_stoppable_worker (QTask    *task,
                                gpointer  hold,
                                GError  **error);

/* A QTaskWorker that does nothing and succeeds */
gboolean test_empty_worker (QTask    *task,
                            gpointer  opaque,
                            GError  **error);

/* A QTaskWorker that counts, atomically, and succeeds; opaque is an int */
gboolean test_count_worker (QTask    *task,
                            gpointer  count,
                            GError  **error);

/* A QTaskWorker that waits for another task, and returns what that comes to */
gboolean test_wait_worker  (QTask    *task,
                            gpointer  awaited,
                            GError  **error);

/* TestReport: what a completion callback saw. Starts as TEST_REPORT_INIT. */
typedef struct
{
  int           called;
  GThread      *thread;
  gboolean      was_completed; /* what get_completed said in the callback */
  GError       *error;         /* what propagate_error said */
  QTask        *task;          /* no reference */
  GObject      *source;        /* of test_report_async_cb; no reference */
  int           serial;        /* which one of all reports this was, from 1 */
} TestReport;

#define TEST_REPORT_INIT { 0, NULL, FALSE, NULL, NULL, NULL, 0 }

/* A QTaskFunc, and a GAsyncReadyCallback for tasks; opaque is a TestReport */
void test_report_cb       (QTask        *task,
                           gpointer      report);
void test_report_async_cb (GObject      *source,
                           GAsyncResult *result,
                           gpointer      report);
void test_report_clear    (TestReport   *report);

/* Whether the report was made, readable from all threads */
gboolean test_report_is_called (TestReport *report);

/* Iterates @context until @condition holds. Only for conditions that a source
 * of @context makes true, or that come with a wake-up of it.
 */
#define test_run_until(context, condition) \
  G_STMT_START { \
    GSource *test_watchdog_ = test_watchdog_new (context, #condition, __FILE__, __LINE__); \
    while (!(condition)) \
      g_main_context_iteration (context, TRUE); \
    test_watchdog_free (test_watchdog_); \
  } G_STMT_END

GSource *test_watchdog_new  (GMainContext *context,
                             const char   *what,
                             const char   *file,
                             int           line);
void     test_watchdog_free (GSource      *watchdog);

/* Iterates @context, without blocking, until nothing is left to dispatch */
void test_run_pending (GMainContext *context);

/* Runs @loop until it is quit */
void test_main_loop_run (GMainLoop *loop);

/* TestLoop: a thread that holds a GMainContext, thread-default in it, and
 * iterates it until the TestLoop is freed
 */
typedef struct _TestLoop TestLoop;

TestLoop     *test_loop_new         (const char *name);
GMainContext *test_loop_get_context (TestLoop   *loop);
GThread      *test_loop_get_thread  (TestLoop   *loop);

/* Calls @func in the thread of @loop, and returns when it has returned */
void          test_loop_call        (TestLoop   *loop,
                                     GFunc       func,
                                     gpointer    data);

/* Ends and joins the thread, without iterating the context further */
void          test_loop_free        (TestLoop   *loop);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (TestLoop, test_loop_free)

/* Calls @func in a new thread that has no context, and joins it */
void test_in_thread (GFunc    func,
                     gpointer data);

/* Expects a critical warning of the library from a statement, and what it is to say to be of help */
#define test_critical_says(pattern, ...) \
  G_STMT_START { \
    g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, pattern); \
    __VA_ARGS__; \
    g_test_assert_expected_messages (); \
  } G_STMT_END

/* ... that is about a type or a range, say, where the condition is enough */
#define test_critical(statement) test_critical_says ("*", statement)

/* Whether the program runs where all takes many times longer (valgrind) */
gboolean test_is_slow (void);

/* How many of @n, where it may take less than a second or two: fewer under
 * valgrind and sanitizers
 */
int test_scaled (int n);

/* Gives the program a seed if its arguments name none, so that what is random is the same in each
 * run. To be called before g_test_init().
 */
void test_add_seed (int    *argc,
                    char ***argv);

/* A number at random, of the numbers of one thread or record, where g_test_rand_int() is not
 * to be had; @state is not 0 at first. And whether something happens in so many cases of 100.
 */
guint32  test_next_random (guint32 *state);
gboolean test_chance      (guint32 *state,
                           guint32  percent);

/* How long the calling thread has waited for a processor, in microseconds, since it began; 0
 * where the system does not tell
 */
gint64 test_get_run_delay (void);

/* Polls what changes in other threads and wakes nobody */
#define test_poll_until(condition) \
  G_STMT_START { \
    gint64 test_end_time_ = test_end_time (); \
    while (!(condition)) \
      { \
        if (g_get_monotonic_time () > test_end_time_) \
          g_error ("%s:%d: not so in time: %s", __FILE__, __LINE__, #condition); \
        g_usleep (200); \
      } \
  } G_STMT_END

/* Pushes, which must succeed */
void           test_pool_push       (QTaskPool       *pool,
                                     QTask           *task,
                                     QTaskWorker      worker,
                                     gpointer         opaque,
                                     GDestroyNotify   destroy);
void           test_pool_push_steps (QTaskPool       *pool,
                                     QTask           *task,
                                     QTaskStepWorker  worker,
                                     gpointer         opaque,
                                     GDestroyNotify   destroy);

/* Pushes a task without a callback */
QTask         *test_pool_push_new   (QTaskPool       *pool,
                                     QTaskWorker      worker,
                                     gpointer         opaque);

/* ... whose worker is held, and returns when it is */
QTask         *test_pool_push_hold  (QTaskPool       *pool,
                                     TestHold        *hold);

/* Iterates the default context until @task has completed; takes the last reference */
void           test_finish          (QTask           *task);

/* The same for one that is held, which it releases first */
void           test_release         (QTask           *task,
                                     TestHold        *hold);

/* Drops a pool, and blocks until it has gone */
void           test_pool_drop       (QTaskPool       *pool);
QTaskPoolStats test_pool_stats      (QTaskPool       *pool);

/* How many descriptors the process has open */
guint test_count_descriptors     (void);

/* Takes all descriptors there are, after having seen to it that they are few,
 * and gives them back. For a process of its own.
 */
void  test_take_descriptors      (void);
void  test_give_descriptors_back (void);

/* TestContext: a context that goes. Thread-default from begin to pop; end drops
 * what must be the last reference.
 */
typedef struct
{
  GMainContext *context;
  TestFate      fate;
  gboolean      is_default;
} TestContext;

void test_context_begin (TestContext *self);
void test_context_pop   (TestContext *self);
void test_context_end   (TestContext *self);

/* Drops a reference and runs the default context until the object is gone, which another thread
 * may hold for a moment. */
#define test_finalize_soon(object) \
  G_STMT_START \
  { \
    gpointer test_weak = (object); \
\
    g_object_add_weak_pointer (test_weak, &test_weak); \
    g_object_unref (test_weak); \
    test_run_until (NULL, test_weak == NULL); \
  } \
  G_STMT_END

G_END_DECLS
