/* benchmark-peers.c: one way to put a request to QTask and to each of its peers
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Each request is made, run and released as an application does it: a QTask or
 * GTask is made with its callback, run in a thread of the default pool and
 * unreffed, and its outcome is read in the callback; where the peer leaves it
 * to the caller to allocate the request (GThreadPool, a thread, libuv), it is
 * allocated one by one.
 *
 * Threads: GTask's and QTask's default pools have ten, so the GThreadPool and
 * libdex's pool are given ten; libuv has its own default, four.
 *
 * All functions run in the main thread, except the workers. The workers share
 * nothing but bench_work, which does not change while they run.
 */

#include "benchmark-peers.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <qtask/qtask.h>

#ifdef HAVE_LIBUV
#include <uv.h>
#endif

#ifdef HAVE_LIBDEX
#include <libdex.h>
#endif

#define POOL_THREADS 10

void (*bench_work) (void);
void (*bench_completed) (void);

static gint64
clock_now (clockid_t clock_id)
{
  struct timespec now;

  clock_gettime (clock_id, &now);

  return (gint64) now.tv_sec * 1000000000 + now.tv_nsec;
}

gint64
bench_now (void)
{
  return clock_now (CLOCK_MONOTONIC);
}

gint64
bench_cpu_now (void)
{
  return clock_now (CLOCK_PROCESS_CPUTIME_ID);
}

void
bench_fail (const char *format,
            ...)
{
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);

  g_printerr ("benchmark: %s\n", message);
  _exit (1);
}

static void
fail_on_error (const char *peer,
               const GError *error)
{
  if (error != NULL)
    bench_fail ("%s: %s", peer, error->message);
}

static void
iterate_main_context (void)
{
  g_main_context_iteration (NULL, TRUE);
}

/* QTask */

static QTaskPool *qtask_single_pool;

static gboolean
qtask_worker (QTask *task,
              gpointer opaque,
              GError **error)
{
  bench_work ();
  return TRUE;
}

static void
qtask_done_cb (QTask *task,
               gpointer opaque)
{
  g_autoptr (GError) error = NULL;

  if (q_task_propagate_error (task, &error))
    fail_on_error ("qtask", error);

  bench_completed ();
}

static void
qtask_submit (int priority)
{
  g_autoptr (QTask) task = q_task_new (NULL, qtask_done_cb, NULL, NULL);

  if (priority != 0)
    q_task_set_priority (task, priority);
  q_task_run_in_thread (task, qtask_worker, NULL, NULL);
}

static void
qtask_cancelled_cb (QTask *task,
                    gpointer opaque)
{
  if (!q_task_propagate_error (task, NULL))
    bench_fail ("qtask: a cancelled task has succeeded");

  bench_completed ();
}

static gpointer
qtask_submit_cancellable (int priority)
{
  QTask *task = q_task_new (NULL, qtask_cancelled_cb, NULL, NULL);

  if (priority != 0)
    q_task_set_priority (task, priority);
  q_task_run_in_thread (task, qtask_worker, NULL, NULL);

  return task;
}

static void
qtask_cancel (gpointer request)
{
  g_autoptr (QTask) task = request;

  q_task_cancel (task);
}

static gboolean
qtask_nested_worker (QTask *task,
                     gpointer depth,
                     GError **error)
{
  g_autoptr (QTask) inner = NULL;

  if (depth == NULL)
    return TRUE;

  inner = q_task_new (NULL, NULL, NULL, NULL);

  return q_task_pool_push (qtask_single_pool, inner, qtask_nested_worker,
                           GUINT_TO_POINTER (GPOINTER_TO_UINT (depth) - 1), NULL, error) &&
         q_task_wait (inner, NULL, error);
}

/* In a pool of one thread, where a wait that did not help itself would hang. */
static void
qtask_submit_nested (guint depth)
{
  g_autoptr (QTask) task = q_task_new (NULL, qtask_done_cb, NULL, NULL);
  g_autoptr (GError) error = NULL;

  if (qtask_single_pool == NULL)
    qtask_single_pool = q_task_pool_new ("nested", 1, 0);

  q_task_pool_push (qtask_single_pool, task, qtask_nested_worker, GUINT_TO_POINTER (depth), NULL, &error);
  fail_on_error ("qtask", error);
}

/* GTask */

static void
gtask_worker (GTask *task,
              gpointer source_object,
              gpointer task_data,
              GCancellable *cancellable)
{
  bench_work ();
  g_task_return_boolean (task, TRUE);
}

static void
gtask_done_cb (GObject *source_object,
               GAsyncResult *result,
               gpointer user_data)
{
  g_autoptr (GError) error = NULL;

  if (!g_task_propagate_boolean (G_TASK (result), &error))
    fail_on_error ("gtask", error);

  bench_completed ();
}

static void
gtask_submit (int priority)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, gtask_done_cb, NULL);

  if (priority != 0)
    g_task_set_priority (task, priority);
  g_task_run_in_thread (task, gtask_worker);
}

static void
gtask_cancelled_cb (GObject *source_object,
                    GAsyncResult *result,
                    gpointer user_data)
{
  if (g_task_propagate_boolean (G_TASK (result), NULL))
    bench_fail ("gtask: a cancelled task has succeeded");

  bench_completed ();
}

static gpointer
gtask_submit_cancellable (int priority)
{
  GCancellable *cancellable = g_cancellable_new ();
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, gtask_cancelled_cb, NULL);

  if (priority != 0)
    g_task_set_priority (task, priority);
  g_task_run_in_thread (task, gtask_worker);

  return cancellable;
}

static void
gtask_cancel (gpointer request)
{
  g_autoptr (GCancellable) cancellable = request;

  g_cancellable_cancel (cancellable);
}

static void
gtask_nested_worker (GTask *task,
                     gpointer source_object,
                     gpointer depth,
                     GCancellable *cancellable)
{
  if (depth != NULL)
    {
      g_autoptr (GTask) inner = g_task_new (NULL, NULL, NULL, NULL);

      g_task_set_task_data (inner, GUINT_TO_POINTER (GPOINTER_TO_UINT (depth) - 1), NULL);
      g_task_run_in_thread_sync (inner, gtask_nested_worker);
    }

  g_task_return_boolean (task, TRUE);
}

/* In its one pool, which has a thread for each of a few that wait. */
static void
gtask_submit_nested (guint depth)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, gtask_done_cb, NULL);

  g_task_set_task_data (task, GUINT_TO_POINTER (depth), NULL);
  g_task_run_in_thread (task, gtask_nested_worker);
}

/* GThreadPool and g_main_context_invoke(), and a thread for each request */

typedef struct
{
  GSourceFunc callback;
  gpointer user_data;
} InvokeRequest;

static GThreadPool *invoke_pool;

static gboolean
invoke_done_cb (gpointer user_data)
{
  g_free (user_data);
  bench_completed ();

  return G_SOURCE_REMOVE;
}

static InvokeRequest *
invoke_request_new (void)
{
  InvokeRequest *request = g_new (InvokeRequest, 1);

  request->callback = invoke_done_cb;
  request->user_data = request;

  return request;
}

static void
invoke_worker (gpointer data,
               gpointer user_data)
{
  InvokeRequest *request = data;

  bench_work ();
  g_main_context_invoke (NULL, request->callback, request->user_data);
}

static void
invoke_start (void)
{
  invoke_pool = g_thread_pool_new (invoke_worker, NULL, POOL_THREADS, FALSE, NULL);
}

static void
invoke_submit (int priority)
{
  g_thread_pool_push (invoke_pool, invoke_request_new (), NULL);
}

static gpointer
thread_worker (gpointer data)
{
  invoke_worker (data, NULL);
  return NULL;
}

static void
thread_submit (int priority)
{
  InvokeRequest *request = invoke_request_new ();
  GThread *thread;

  /* No thread to be had: the running ones have to end first. */
  while ((thread = g_thread_try_new (NULL, thread_worker, request, NULL)) == NULL)
    g_thread_yield ();

  g_thread_unref (thread);
}

/* libuv */

#ifdef HAVE_LIBUV
static void
uv_worker (uv_work_t *request)
{
  bench_work ();
}

static void
uv_done_cb (uv_work_t *request,
            int status)
{
  free (request);
  bench_completed ();
}

static void
uv_start (void)
{
  g_unsetenv ("UV_THREADPOOL_SIZE");
}

static gpointer
uv_submit_cancellable (int priority)
{
  uv_work_t *request = malloc (sizeof *request);

  if (uv_queue_work (uv_default_loop (), request, uv_worker, uv_done_cb) != 0)
    bench_fail ("libuv: uv_queue_work failed");

  return request;
}

static void
uv_submit (int priority)
{
  uv_submit_cancellable (priority);
}

static void
uv_cancel_request (gpointer request)
{
  uv_cancel (request);
}

static void
uv_iterate (void)
{
  uv_run (uv_default_loop (), UV_RUN_ONCE);
}
#endif

/* libdex */

#ifdef HAVE_LIBDEX
/* The pool is younger than the library: before it, blocking work went to the
 * thread pool scheduler, as a fiber.
 */
#ifdef DEX_AVAILABLE_IN_1_2
static DexThreadPool *dex_pool;
#else
static DexScheduler *dex_pool;
#endif

static void
dex_start (void)
{
  dex_init ();
#ifdef DEX_AVAILABLE_IN_1_2
  dex_pool = dex_thread_pool_new (POOL_THREADS);
#else
  dex_pool = dex_thread_pool_scheduler_get_default ();
#endif
}

static DexFuture *
dex_worker (gpointer user_data)
{
  bench_work ();

  return dex_future_new_for_boolean (TRUE);
}

static DexFuture *
dex_done_cb (DexFuture *future,
             gpointer user_data)
{
  g_autoptr (GError) error = NULL;

  if (dex_future_get_value (future, &error) == NULL)
    fail_on_error ("libdex", error);

  bench_completed ();

  return NULL;
}

static void
dex_submit (int priority)
{
  DexFuture *future;

#ifdef DEX_AVAILABLE_IN_1_2
  future = dex_thread_pool_submit (dex_pool, NULL, dex_worker, NULL, NULL);
#else
  future = dex_scheduler_spawn (dex_pool, 0, dex_worker, NULL, NULL);
#endif
  dex_future_disown (dex_future_finally (future, dex_done_cb, NULL, NULL));
}
#endif

const BenchPeer bench_peers[] = {
  {
    .name = "qtask",
    .n_threads = POOL_THREADS,
    .submit = qtask_submit,
    .iterate = iterate_main_context,
    .submit_cancellable = qtask_submit_cancellable,
    .cancel = qtask_cancel,
    .submit_nested = qtask_submit_nested,
  },
  {
    .name = "gtask",
    .n_threads = POOL_THREADS,
    .submit = gtask_submit,
    .iterate = iterate_main_context,
    .submit_cancellable = gtask_submit_cancellable,
    .cancel = gtask_cancel,
    .submit_nested = gtask_submit_nested,
  },
  {
    .name = "gthreadpool-invoke",
    .n_threads = POOL_THREADS,
    .start = invoke_start,
    .submit = invoke_submit,
    .iterate = iterate_main_context,
  },
  {
    .name = "thread-per-task",
    .submit = thread_submit,
    .iterate = iterate_main_context,
  },
#ifdef HAVE_LIBUV
  {
    .name = "libuv",
    .n_threads = 4,
    .start = uv_start,
    .submit = uv_submit,
    .iterate = uv_iterate,
    .submit_cancellable = uv_submit_cancellable,
    .cancel = uv_cancel_request,
  },
#endif
#ifdef HAVE_LIBDEX
  {
    .name = "libdex",
    .n_threads = POOL_THREADS,
    .start = dex_start,
    .submit = dex_submit,
    .iterate = iterate_main_context,
  },
#endif
  /* Ways to pass messages; see benchmark-channels.c. */
  { .name = "kore" },
  { .name = "bulk-read" },
  { .name = "gasyncqueue" },
  /* Ways to run loops, and sets of tasks; see benchmark-groups.c. */
  { .name = "plain" },
  { .name = "gthreadpool" },
#ifdef HAVE_OPENMP
  { .name = "openmp" },
#endif
  { .name = "qtask-no-group" },
  /* Ways to have another process do it; see benchmark-processes.c. */
  { .name = "echo" },
  { .name = "echo-blocking" },
#ifdef BENCHMARK_PYTHON
  { .name = "qtask-python" },
#endif
#ifdef BENCHMARK_GJS
  { .name = "qtask-gjs" },
#endif
  { NULL },
};

const BenchPeer *
bench_peer_find (const char *name)
{
  for (const BenchPeer *peer = bench_peers; peer->name != NULL; peer++)
    {
      if (g_str_equal (peer->name, name))
        return peer;
    }

  return NULL;
}
