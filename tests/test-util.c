/* test-util.c: what the test programs share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Everything here may be used in all threads. What one thread hands to
 * another goes through pthread calls or atomics of this file, and never
 * through GLib's locks alone, so that thread sanitizer can follow it.
 */

#include "test-util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

gint64
test_end_time (void)
{
  return g_get_monotonic_time () + TEST_TIME_LIMIT * G_TIME_SPAN_SECOND;
}

gboolean
test_is_slow (void)
{
  const char *preload = g_getenv ("LD_PRELOAD");

  return preload != NULL && strstr (preload, "vgpreload") != NULL;
}

int
test_scaled (int n)
{
  if (test_is_slow ())
    return MAX (n / 50, 10);

  return TEST_IS_SANITIZED ? MAX (n / 10, 10) : n;
}

void
test_add_seed (int *argc,
               char ***argv)
{
  static char option[] = "--seed";
  static char seed[] = "R02S5ce1a9b15ce1a9b15ce1a9b15ce1a9b1";
  static char *arguments[32];
  int n = *argc;

  for (int i = 1; i < n; i++)
    if (g_str_has_prefix ((*argv)[i], option))
      return;

  g_assert_cmpint (n + 3, <=, (int) G_N_ELEMENTS (arguments));
  for (int i = 0; i < n; i++)
    arguments[i] = (*argv)[i];
  arguments[n] = option;
  arguments[n + 1] = seed;

  *argc = n + 2;
  *argv = arguments;
}

guint32
test_next_random (guint32 *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;

  return *state;
}

gboolean
test_chance (guint32 *state,
             guint32 percent)
{
  return test_next_random (state) % 100 < percent;
}

static int last_serial;

int
test_next_serial (void)
{
  return g_atomic_int_add (&last_serial, 1) + 1;
}

void
test_pin_thread (int number)
{
#ifdef __linux__
  cpu_set_t all, one;

  if (sched_getaffinity (0, sizeof all, &all) != 0)
    return;

  number %= CPU_COUNT (&all);
  CPU_ZERO (&one);
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET (i, &all) && number-- == 0)
      CPU_SET (i, &one);
  sched_setaffinity (0, sizeof one, &one);
#endif
}

void
test_meet (int *n_there,
           int n)
{
  g_atomic_int_inc (n_there);

  for (int i = 1; g_atomic_int_get (n_there) < n; i++)
    if (i % 10000 == 0)
      g_thread_yield ();
}

/* TestFate */

void
test_fate_notify (gpointer data)
{
  TestFate *fate = data;

  pthread_mutex_lock (&fate->gate.mutex);
  fate->thread = g_thread_self ();
  fate->serial = test_next_serial ();
  fate->gate.count++;
  pthread_cond_broadcast (&fate->gate.cond);
  pthread_mutex_unlock (&fate->gate.mutex);
}

static void
object_gone_cb (gpointer fate,
                GObject *where_it_was)
{
  test_fate_notify (fate);
}

void
test_fate_watch (TestFate *fate,
                 gpointer object)
{
  g_object_weak_ref (object, object_gone_cb, fate);
}

int
test_fate_get_count (TestFate *fate)
{
  return test_gate_get_count (&fate->gate);
}

GThread *
test_fate_get_thread (TestFate *fate)
{
  GThread *thread;

  pthread_mutex_lock (&fate->gate.mutex);
  thread = fate->thread;
  pthread_mutex_unlock (&fate->gate.mutex);

  return thread;
}

int
test_fate_get_serial (TestFate *fate)
{
  int serial;

  pthread_mutex_lock (&fate->gate.mutex);
  serial = fate->serial;
  pthread_mutex_unlock (&fate->gate.mutex);

  return serial;
}

/* TestProbe */

struct _TestProbe
{
  GObject parent_instance;

  TestFate *fate;
};

G_DEFINE_FINAL_TYPE (TestProbe, test_probe, G_TYPE_OBJECT)

static void
test_probe_finalize (GObject *object)
{
  TestProbe *self = TEST_PROBE (object);

  if (self->fate != NULL)
    test_fate_notify (self->fate);

  G_OBJECT_CLASS (test_probe_parent_class)->finalize (object);
}

static void
test_probe_class_init (TestProbeClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = test_probe_finalize;
}

static void
test_probe_init (TestProbe *self)
{
}

GObject *
test_probe_new (TestFate *fate)
{
  TestProbe *self = g_object_new (TEST_TYPE_PROBE, NULL);

  self->fate = fate;

  return G_OBJECT (self);
}

GCancellable *
test_cancellable_new (TestFate *fate)
{
  GCancellable *cancellable = g_cancellable_new ();

  test_fate_watch (fate, cancellable);

  return cancellable;
}

/* TestGate */

void
test_gate_open (TestGate *gate)
{
  pthread_mutex_lock (&gate->mutex);
  gate->count++;
  pthread_cond_broadcast (&gate->cond);
  pthread_mutex_unlock (&gate->mutex);
}

void
test_gate_close (TestGate *gate)
{
  pthread_mutex_lock (&gate->mutex);
  gate->count = 0;
  pthread_mutex_unlock (&gate->mutex);
}

int
test_gate_get_count (TestGate *gate)
{
  int count;

  pthread_mutex_lock (&gate->mutex);
  count = gate->count;
  pthread_mutex_unlock (&gate->mutex);

  return count;
}

void
test_gate_wait_for_at (TestGate *gate,
                       int count,
                       const char *what,
                       const char *file,
                       int line)
{
  gint64 end_time = test_end_time ();

  pthread_mutex_lock (&gate->mutex);

  while (gate->count < count)
    {
      struct timespec until;

      /* Wakes every second, since the wall clock may be set meanwhile */
      clock_gettime (CLOCK_REALTIME, &until);
      until.tv_sec++;
      pthread_cond_timedwait (&gate->cond, &gate->mutex, &until);

      if (gate->count < count && g_get_monotonic_time () > end_time)
        g_error ("%s:%d: %s was opened %d times and not %d times in %d s",
                 file, line, what, gate->count, count, TEST_TIME_LIMIT);
    }

  pthread_mutex_unlock (&gate->mutex);
}

/* Workers */

gboolean
test_hold_worker (QTask *task,
                  gpointer opaque,
                  GError **error)
{
  TestHold *hold = opaque;

  test_gate_open (&hold->entered);
  test_gate_wait (&hold->release);

  return TRUE;
}

static void
stopped_cb (GCancellable *stop,
            gpointer gate)
{
  test_gate_open (gate);
}

gboolean
test_stoppable_worker (QTask *task,
                       gpointer opaque,
                       GError **error)
{
  GCancellable *stop = q_task_get_stop_cancellable (task);
  TestHold *hold = opaque;
  TestGate stopped = TEST_GATE_INIT;
  gulong id;

  test_gate_open (&hold->entered);

  id = g_cancellable_connect (stop, G_CALLBACK (stopped_cb), &stopped, NULL);
  test_gate_wait (&stopped);
  g_cancellable_disconnect (stop, id);

  return !g_cancellable_set_error_if_cancelled (stop, error);
}

gboolean
test_empty_worker (QTask *task,
                   gpointer opaque,
                   GError **error)
{
  return TRUE;
}

gboolean
test_count_worker (QTask *task,
                   gpointer count,
                   GError **error)
{
  g_atomic_int_inc ((int *) count);

  return TRUE;
}

gboolean
test_wait_worker (QTask *task,
                  gpointer awaited,
                  GError **error)
{
  return q_task_wait (awaited, NULL, error);
}

/* TestReport */

void
test_report_cb (QTask *task,
                gpointer data)
{
  TestReport *report = data;

  g_assert_cmpint (report->called, ==, 0);

  report->thread = g_thread_self ();
  report->was_completed = q_task_get_completed (task);
  report->task = task;
  report->serial = test_next_serial ();
  q_task_propagate_error (task, &report->error);
  g_atomic_int_inc (&report->called);
}

void
test_report_async_cb (GObject *source,
                      GAsyncResult *result,
                      gpointer data)
{
  TestReport *report = data;

  g_assert_true (q_task_is_valid (result, source));
  report->source = source;
  test_report_cb (Q_TASK (result), report);
}

gboolean
test_report_is_called (TestReport *report)
{
  return g_atomic_int_get (&report->called) > 0;
}

void
test_report_clear (TestReport *report)
{
  g_clear_error (&report->error);
  *report = (TestReport) TEST_REPORT_INIT;
}

/* Iterating */

typedef struct
{
  const char *what;
  const char *file;
  int line;
} Watchdog;

static gboolean
watchdog_cb (gpointer data)
{
  Watchdog *watchdog = data;

  g_error ("%s:%d: not so in %d s: %s",
           watchdog->file, watchdog->line, TEST_TIME_LIMIT, watchdog->what);

  return G_SOURCE_REMOVE;
}

GSource *
test_watchdog_new (GMainContext *context,
                   const char *what,
                   const char *file,
                   int line)
{
  GSource *source = g_timeout_source_new_seconds (TEST_TIME_LIMIT);
  Watchdog *watchdog = g_new (Watchdog, 1);

  watchdog->what = what;
  watchdog->file = file;
  watchdog->line = line;

  g_source_set_priority (source, G_PRIORITY_HIGH);
  g_source_set_callback (source, watchdog_cb, watchdog, g_free);
  g_source_attach (source, context);

  return source;
}

void
test_watchdog_free (GSource *watchdog)
{
  g_source_destroy (watchdog);
  g_source_unref (watchdog);
}

void
test_run_pending (GMainContext *context)
{
  gint64 end_time = test_end_time ();
  int n_quiet = 0;

  /* A source may be unready for one iteration and have more */
  while (n_quiet < 3)
    {
      if (g_main_context_iteration (context, FALSE))
        n_quiet = 0;
      else
        n_quiet++;

      if (g_get_monotonic_time () > end_time)
        g_error ("there was something to dispatch for %d s", TEST_TIME_LIMIT);
    }
}

void
test_main_loop_run (GMainLoop *loop)
{
  GSource *watchdog;

  watchdog = test_watchdog_new (g_main_loop_get_context (loop),
                                "a main loop was quit", __FILE__, __LINE__);
  g_main_loop_run (loop);
  test_watchdog_free (watchdog);
}

/* TestLoop */

struct _TestLoop
{
  GMainContext *context;
  GThread *thread;
  TestGate running;
  int quit;
};

static gpointer
loop_thread (gpointer data)
{
  TestLoop *loop = data;

  g_main_context_push_thread_default (loop->context);
  test_gate_open (&loop->running);

  while (!g_atomic_int_get (&loop->quit))
    g_main_context_iteration (loop->context, TRUE);

  g_main_context_pop_thread_default (loop->context);

  return NULL;
}

TestLoop *
test_loop_new (const char *name)
{
  TestLoop *loop = g_new0 (TestLoop, 1);

  loop->context = g_main_context_new ();
  loop->running = (TestGate) TEST_GATE_INIT;
  loop->thread = g_thread_new (name, loop_thread, loop);
  test_gate_wait (&loop->running);

  return loop;
}

GMainContext *
test_loop_get_context (TestLoop *loop)
{
  return loop->context;
}

GThread *
test_loop_get_thread (TestLoop *loop)
{
  return loop->thread;
}

typedef struct
{
  GFunc func;
  gpointer data;
  int ready;
  TestGate done;
} Call;

static gboolean
call_cb (gpointer data)
{
  Call *call = data;

  g_assert_cmpint (g_atomic_int_get (&call->ready), ==, 1);
  call->func (call->data, NULL);
  test_gate_open (&call->done);

  return G_SOURCE_REMOVE;
}

void
test_loop_call (TestLoop *loop,
                GFunc func,
                gpointer data)
{
  Call call = { func, data, 0, TEST_GATE_INIT };
  g_autoptr (GSource) source = g_idle_source_new ();

  g_source_set_priority (source, G_PRIORITY_DEFAULT);
  g_source_set_callback (source, call_cb, &call, NULL);
  g_atomic_int_set (&call.ready, 1);
  g_source_attach (source, loop->context);
  test_gate_wait (&call.done);
}

void
test_loop_free (TestLoop *loop)
{
  g_atomic_int_set (&loop->quit, 1);
  g_main_context_wakeup (loop->context);
  g_thread_join (loop->thread);
  g_main_context_unref (loop->context);
  g_free (loop);
}

/* Threads */

static gpointer
in_thread (gpointer data)
{
  Call *call = data;

  call->func (call->data, NULL);

  return NULL;
}

void
test_in_thread (GFunc func,
                gpointer data)
{
  Call call = { func, data, 0, TEST_GATE_INIT };

  g_thread_join (g_thread_new ("test-in-thread", in_thread, &call));
}

gint64
test_get_run_delay (void)
{
  g_autofree char *contents = NULL;
  guint64 delay = 0;

  if (g_file_get_contents ("/proc/thread-self/schedstat", &contents, NULL, NULL))
    sscanf (contents, "%*u %" G_GUINT64_FORMAT, &delay);

  return (gint64) (delay / 1000);
}

/* Pools */

void
test_pool_push (QTaskPool *pool,
                QTask *task,
                QTaskWorker worker,
                gpointer opaque,
                GDestroyNotify destroy)
{
  g_autoptr (GError) error = NULL;
  gboolean pushed;

  pushed = q_task_pool_push (pool, task, worker, opaque, destroy, &error);
  g_assert_no_error (error);
  g_assert_true (pushed);
}

void
test_pool_push_steps (QTaskPool *pool,
                      QTask *task,
                      QTaskStepWorker worker,
                      gpointer opaque,
                      GDestroyNotify destroy)
{
  g_autoptr (GError) error = NULL;
  gboolean pushed;

  pushed = q_task_pool_push_steps (pool, task, worker, opaque, destroy, &error);
  g_assert_no_error (error);
  g_assert_true (pushed);
}

QTask *
test_pool_push_new (QTaskPool *pool,
                    QTaskWorker worker,
                    gpointer opaque)
{
  QTask *task = q_task_new (NULL, NULL, NULL, NULL);

  test_pool_push (pool, task, worker, opaque, NULL);

  return task;
}

QTask *
test_pool_push_hold (QTaskPool *pool,
                     TestHold *hold)
{
  QTask *task = test_pool_push_new (pool, test_hold_worker, hold);

  test_gate_wait (&hold->entered);

  return task;
}

void
test_finish (QTask *task)
{
  test_run_until (NULL, q_task_get_completed (task));
  g_assert_finalize_object (task);
}

void
test_release (QTask *task,
              TestHold *hold)
{
  test_gate_open (&hold->release);
  test_finish (task);
}

void
test_pool_drop (QTaskPool *pool)
{
  TestFate fate = TEST_FATE_INIT;

  test_fate_watch (&fate, pool);
  g_object_unref (pool);
  test_fate_wait (&fate);
}

QTaskPoolStats
test_pool_stats (QTaskPool *pool)
{
  QTaskPoolStats stats = { 0 };

  q_task_pool_get_stats (pool, &stats);

  return stats;
}

/* Descriptors */

guint
test_count_descriptors (void)
{
  guint n = 0;
  DIR *dir = opendir ("/proc/self/fd");

  g_assert_nonnull (dir);
  while (readdir (dir) != NULL)
    n++;
  closedir (dir);

  return n;
}

static GArray *taken;

void
test_take_descriptors (void)
{
  struct rlimit limit;
  int fd;

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &limit), ==, 0);
  limit.rlim_cur = MIN (limit.rlim_cur, 200);
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &limit), ==, 0);

  taken = g_array_new (FALSE, FALSE, sizeof fd);
  while ((fd = open ("/dev/null", O_RDONLY | O_CLOEXEC)) != -1)
    g_array_append_val (taken, fd);
  g_assert_cmpint (errno, ==, EMFILE);
}

void
test_give_descriptors_back (void)
{
  for (guint i = 0; i < taken->len; i++)
    close (g_array_index (taken, int, i));
  g_clear_pointer (&taken, g_array_unref);
}

/* TestContext */

static gboolean
context_never_cb (gpointer data)
{
  return G_SOURCE_CONTINUE;
}

void
test_context_begin (TestContext *self)
{
  g_autoptr (GSource) source = g_timeout_source_new_seconds (G_MAXINT / 2);

  self->fate = (TestFate) TEST_FATE_INIT;
  self->context = g_main_context_new ();
  self->is_default = TRUE;
  g_source_set_callback (source, context_never_cb, &self->fate, test_fate_notify);
  g_source_attach (source, self->context);
  g_main_context_push_thread_default (self->context);
}

void
test_context_pop (TestContext *self)
{
  if (self->is_default)
    g_main_context_pop_thread_default (self->context);
  self->is_default = FALSE;
}

void
test_context_end (TestContext *self)
{
  test_context_pop (self);
  test_assert_alive (&self->fate);
  g_main_context_unref (self->context);
  test_assert_destroyed_here (&self->fate);
}
