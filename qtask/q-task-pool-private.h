/* q-task-pool-private.h: the threads and the queue of a QTaskPool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-pool.h"
#include "q-task-private.h"

G_BEGIN_DECLS

typedef struct _QTaskPoolCore    QTaskPoolCore;
typedef struct _QTaskPoolThread  QTaskPoolThread;
typedef struct _QTaskPoolRunning QTaskPoolRunning;

/* What the threads of a pool initialize and finalize with. */
typedef struct
{
  QTaskPoolThreadFunc initializer;
  QTaskPoolThreadFunc finalizer;
  gpointer            user_data;
  GDestroyNotify      destroy;
  QTaskDispatch      *dispatch; /* owned; where user_data is destroyed */
  guint               thread_id;
} QTaskPoolThreadFuncs;

/* A worker that runs, on the stack of its thread. */
struct _QTaskPoolRunning
{
  QTaskPoolRunning *next;
  QTaskPoolRunning *prev;
  QTask            *task;  /* lives as long as this is listed */
  gint64            since; /* monotonic, while the pool takes times */
};

/* What outlives the pool: its threads, and tasks that were pushed. All but the constant
 * fields is protected by the lock. */
struct _QTaskPoolCore
{
  QTaskRunner          runner;
  int                  ref_count;     /* atomic */
  char                *name;          /* constant */
  gboolean             grows;         /* constant; as GTask's pool */
  gboolean             may_spin;      /* constant */
  GThreadPool         *threads;       /* constant */
  GMutex               lock;
  QTaskNode           *inbox;         /* linked by next, latest first; atomic, any thread */
  int                  n_pushing;     /* to the inbox; atomic, any thread */
  int                  armed;         /* who pushes shall see to a thread; atomic */
  int                  is_open;       /* neither closed nor bounded; also read atomically
                                       * without */
  QTaskQueue           queue;
  int                  available;     /* whether it has any; also read atomically without */
  guint                max_threads;   /* at least 1; G_MAXUINT if not bounded */
  guint                max_queued;    /* G_MAXUINT if not bounded */
  gboolean             is_closed;
  gboolean             is_stopped;    /* what is queued is cancelled */
  gboolean             is_dropped;    /* nobody holds the pool */
  int                  has_timing;    /* also read atomically without */

  /* Threads: idle ones wait on their condition; parked ones are in a worker that waits. */
  guint                n_threads;
  guint                n_starting;    /* asked for, and not here yet */
  guint                n_given;       /* to GThreadPool, and not here yet; those beyond
                                       * n_starting are without a thread */
  guint                n_idle;
  guint                n_signalled;   /* no longer idle, and not awake yet */
  guint                n_parked;
  guint                n_extra;       /* threads beyond the maximum, as the pool grew */
  gboolean             is_spinning;   /* one of them looks at `available` */
  gboolean             wants_watcher; /* the next idle one shall watch */
  gboolean             has_watcher;   /* an idle one looks now and then */
  QTaskPoolThread     *idle;          /* last in, first out */
  QTaskPoolThread     *spare;         /* to be used again */
  QTaskPoolThreadFuncs thread_funcs;

  /* Work */
  QTaskPoolRunning    *running;
  guint                n_running;
  QTaskQueue           syncing;       /* tasks whose step worker waits for their owner */
  guint                n_ending;      /* whose completion is being sent */
  guint64              n_taken;       /* out of the queue to run, ever */
  gint64               run_average;   /* nanoseconds, of late */
  gint64               gap_average;   /* nanoseconds without work, of late */
  guint64              n_finished;
  guint64              n_failed;
  guint64              n_stopped;
  gint64               wait_time;
  gint64               run_time;

  /* Who waits for space or the end: on the condition, or results of asynchronous calls */
  GCond                changed;
  guint                n_blocked;
  GQueue               space_waiters;
  GQueue               close_waiters;
};

/* How often the lock is tried, which takes about 2 µs in all. */
#define Q_TASK_POOL_LOCK_TRIES 50

/* Takes the lock where it is taken for each task. It is never held for long, so it is
 * worth to look at it a few times before going to sleep. */
static inline void
q_task_pool_core_lock (QTaskPoolCore *core)
{
  if (core->may_spin)
    for (int i = 0; i < Q_TASK_POOL_LOCK_TRIES; i++)
      {
        if (g_mutex_trylock (&core->lock))
          return;

        q_task_pause ();
      }

  g_mutex_lock (&core->lock);
}

QTaskPoolCore *q_task_pool_core_new           (const char           *name,
                                               guint                 max_threads,
                                               guint                 max_queued,
                                               gboolean              is_serial,
                                               gboolean              grows);
QTaskPoolCore *q_task_pool_core_ref           (QTaskPoolCore        *core);
void           q_task_pool_core_unref         (QTaskPoolCore        *core);
void           q_task_pool_core_drop          (QTaskPoolCore        *core);
gboolean       q_task_pool_core_push          (QTaskPoolCore        *core,
                                               QTask                *task,
                                               GCallback             worker,
                                               gpointer              worker_data,
                                               GDestroyNotify        destroy,
                                               guint                 flags,
                                               GError              **error);
gboolean       q_task_pool_core_check_closed  (QTaskPoolCore        *core,
                                               GError              **error);

/* q-task-pool-queue.c */
gboolean       q_task_pool_core_post          (QTaskPoolCore        *core,
                                               QTask                *task,
                                               gint64                key);
gint64         q_task_pool_core_get_key       (QTaskPrivate         *priv);
GPtrArray     *q_task_pool_core_list_tasks    (QTaskPoolCore        *core,
                                               guint                *n_running);

/* The same, with the lock of the core */
void           q_task_pool_core_set_open_locked (QTaskPoolCore      *core);
void           q_task_pool_core_sort_inbox_locked (QTaskPoolCore    *core);
guint          q_task_pool_core_get_length_locked (QTaskPoolCore    *core);
gboolean       q_task_pool_core_is_drained_locked (QTaskPoolCore    *core);
gboolean       q_task_pool_core_is_queued_locked (QTaskPoolCore     *core,
                                               QTask                *task);
void           q_task_pool_core_enqueue_locked (QTaskPoolCore       *core,
                                               QTask                *task,
                                               gint64                key);
void           q_task_pool_core_enqueue_again_locked (QTaskPoolCore *core,
                                               QTask                *task);
void           q_task_pool_core_dequeue_locked (QTaskPoolCore       *core,
                                               QTask                *task);
void           q_task_pool_core_take_locked   (QTaskPoolCore        *core,
                                               QTask                *task,
                                               QTaskPoolRunning     *running);
void           q_task_pool_core_set_aside_locked (QTaskPoolCore     *core,
                                               QTask                *task,
                                               QTaskPoolRunning     *running,
                                               QTaskState            state);
void           q_task_pool_core_close_books_locked (QTaskPoolCore   *core,
                                               QTaskPoolRunning     *running,
                                               QTaskState            state,
                                               gboolean              failed);

/* q-task-pool-threads.c */
void           q_task_pool_core_init_threads  (QTaskPoolCore        *core);
void           q_task_pool_core_release_threads (QTaskPoolCore      *core);
void           q_task_pool_core_free_threads  (QTaskPoolCore        *core);
void           q_task_pool_core_free_funcs    (QTaskPoolThreadFuncs *funcs);
gboolean       q_task_pool_core_is_crowded_locked (QTaskPoolCore    *core);
gboolean       q_task_pool_core_wake          (QTaskPoolCore        *core);
gboolean       q_task_pool_core_wake_and_unlock (QTaskPoolCore      *core,
                                               GError              **error);

/* q-task-pool-wait.c */
typedef enum {
  Q_TASK_POOL_WAIT_SPACE,
  Q_TASK_POOL_WAIT_DRAINED
} QTaskPoolWaitMode;

void           q_task_pool_core_changed_locked (QTaskPoolCore       *core,
                                               GQueue               *told);
void           q_task_pool_core_tell          (GQueue               *told);

/* q-task-pool.c */
QTaskPoolCore *q_task_pool_get_core           (QTaskPool            *pool);

G_END_DECLS
