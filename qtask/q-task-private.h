/* q-task-private.h: what the parts of QTask, and whatever runs tasks, share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task.h"

#include "q-task-channel-private.h"
#include "q-task-dispatch-private.h"

G_BEGIN_DECLS

typedef struct _QTaskRunner   QTaskRunner;
typedef struct _QTaskExtra    QTaskExtra;
typedef struct _QTaskProgress QTaskProgress;
typedef struct _QTaskWaiter   QTaskWaiter;
typedef struct _QTaskFrame    QTaskFrame;
typedef struct _QTaskHold     QTaskHold;
typedef struct _QTaskBlock    QTaskBlock;
typedef struct _QTaskHandler  QTaskHandler;
typedef struct _QTaskSync     QTaskSync;
typedef struct _QTaskBinding  QTaskBinding;
typedef struct _QTaskMember   QTaskMember;
typedef struct _QTaskGroupCore QTaskGroupCore;

/* The word of a task: the state in the low bits, and flags. Changed by q_task_change()
 * alone, read atomically. Those marked L change with the lock held only. */
enum {
  Q_TASK_WORD_STATE             = 7 << 0,  /* QTaskState, never STOPPING; L */
  Q_TASK_WORD_FIXED             = 1 << 3,  /* the outcome does not change any more; L */
  Q_TASK_WORD_SENT              = 1 << 4,  /* the completion is on its way; L */
  Q_TASK_WORD_SENT_EARLY        = 1 << 16, /* ... before the worker ended; L */
  Q_TASK_WORD_COMPLETING        = 1 << 5,  /* the callback runs or has run; by the owner */
  Q_TASK_WORD_COMPLETED         = 1 << 6,  /* ... has run; by the owner */
  Q_TASK_WORD_STOP              = 1 << 7,  /* asked to stop; L */
  Q_TASK_WORD_CANCELLED         = 1 << 8,  /* ... by a cancel: reads as cancelled; L */
  Q_TASK_WORD_TIMED_OUT         = 1 << 9,  /* ... by its timeout; L */
  Q_TASK_WORD_RETURNED          = 1 << 10, /* completed or returned by the user */
  Q_TASK_WORD_RESULT            = 1 << 11, /* a result is set; L */
  Q_TASK_WORD_VALUE             = 1 << 12, /* ... and is a GValue; L */
  Q_TASK_WORD_HAD_ERROR         = 1 << 13, /* the error was propagated */
  Q_TASK_WORD_SYNCHRONOUS       = 1 << 14, /* run_in_thread_sync() waits for it */
  Q_TASK_WORD_EARLY             = 1 << 15, /* fixed by the library, before the worker ended; L */
  Q_TASK_WORD_CHECK_CANCELLABLE = 1 << 17,
  Q_TASK_WORD_RETURN_ON_CANCEL  = 1 << 18, /* L once started */
  Q_TASK_WORD_RUN_CANCELLED     = 1 << 19,
  Q_TASK_WORD_ASYNC             = 1 << 20, /* the callback is a GAsyncReadyCallback */
  Q_TASK_WORD_OWN_PRIORITY      = 1 << 21, /* the completion priority was set */
  Q_TASK_WORD_ABANDONED         = 1 << 22, /* nobody holds it any more */
  Q_TASK_WORD_DETACHED          = 1 << 23, /* a bound object has gone, or there never was an
                                            * owner: no callback */
  Q_TASK_WORD_WAITED            = 1 << 24, /* somebody blocks on the condition; L */
  Q_TASK_WORD_OWNER_WAITS       = 1 << 25, /* ... and it is the owner; L */
  Q_TASK_WORD_TAKEN             = 1 << 26, /* the result was propagated */
  Q_TASK_WORD_HANDED            = 1 << 27, /* the completion and the reference of the
                                            * worker are left to who waits; L */
  Q_TASK_WORD_STEPS             = 1 << 28, /* the worker is a QTaskStepWorker; L */
  Q_TASK_WORD_BEGUN             = 1 << 29, /* ... and has done a step; L */
  Q_TASK_WORD_OUTLIVE           = 1 << 30, /* a bound object that goes does not stop it */
  Q_TASK_WORD_ALONE             = 1u << 31, /* ... and has gone: there is no owner to sync with */
};

/* What a start may set. */
#define Q_TASK_WORD_START (Q_TASK_WORD_STEPS | Q_TASK_WORD_SYNCHRONOUS)

/* Protected by the lock of the task unless told otherwise. What a worker writes comes first,
 * close together, since that goes from one processor to another. */
typedef struct
{
  QTaskNode       node;         /* of the pool's queue, then of the dispatch; before the start
                                 * its key is when the task was made */
  guint           word;         /* atomic */
  guint           is_queued;    /* by the runner; with the lock of that */
  GMutex          lock;
  GError         *error;        /* also read atomically without */
  gpointer        result;       /* or a number */
  GDestroyNotify  result_destroy;
  QTaskExtra     *extra;        /* atomic, made on first use */
  QTaskDispatch  *dispatch;     /* set before the start */
  QTaskRunner    *runner;       /* set at the start */
  GCallback       worker;       /* set at the start, used by the worker */
  gpointer        worker_data;
  GDestroyNotify  worker_data_destroy;
  GCallback       callback;     /* set before the start, used by the owner */
  gpointer        opaque;
  GDestroyNotify  opaque_destroy;
  GObject        *source_object;
  guint           thread_id;    /* that made it */
  int             priority;     /* atomic */
} QTaskPrivate;

/* What most tasks never use. */
struct _QTaskExtra
{
  const char     *name;
  gboolean        name_is_static;
  gpointer        source_tag;
  gpointer        task_data;
  GDestroyNotify  task_data_destroy;
  int             completion_priority;
  GCancellable   *cancellable;    /* the given one; set before the start */
  GCancellable   *stop;           /* the own cancellable; with the lock */
  gulong          stop_handler;
  gulong          follow_handler; /* on the given cancellable, weak */
  gulong          cancel_handler; /* on the given cancellable while it is started, strong */
  QTaskDelivery   early;          /* the completion, when the worker is not at its end */
  QTask          *early_task;     /* owned while that is on its way */
  QTaskProgress  *progress;       /* atomic, made on first use */
  gint64          timeout;        /* microseconds, or 0 */
  gint64          deadline;       /* monotonic, once started; with the lock */
  QTaskDelivery   timer;
  QTask          *timer_task;     /* owned while it is set */
  gboolean        timer_is_set;   /* with the lock */
  GCond           cond;           /* the outcome is fixed, and the like */
  guint           n_waiting;      /* with the lock */
  guint           wakes;          /* how often it was signalled; with the lock */
  QTaskWaiter    *waiters;        /* with the lock */
  QTask          *waits_for;      /* with the lock of the wait graph */
  QTaskGroupCore *waits_for_group; /* ... and for one or all of it */
  gboolean        waits_for_any;
  gint64          queued_at;      /* monotonic, when the pool takes times */
  QTaskChannel   *channel;        /* the owner's end; set before the start, with the lock */
  QTaskChannel   *worker_channel;
  QTaskSync      *sync;           /* atomic, made on first use */
  QTaskHandler   *bound;          /* of q_task_bind_callback(); with the lock */
  QTaskBinding   *bindings;       /* to objects; with the lock of bindings */
  QTask          *part_of;        /* that runs the loop this is a thread of; set at the start */
  GSList         *waiting_parts;  /* ... and wait; with the lock of the graph */
  QTaskMember    *member;         /* of a group, until it has completed; with the lock */
};

/* A function of the user, and its data, which the owner destroys. */
struct _QTaskHandler
{
  int            ref_count; /* atomic */
  GCallback      func;
  gpointer       opaque;
  GDestroyNotify destroy;
};

/* What a group does when something becomes of a task in it. */
typedef struct
{
  /* With the lock of the task held: the outcome was fixed; who waits is to look again. */
  void         (*fixed)     (QTaskMember  *member);
  void         (*wake)      (QTaskMember  *member);
  /* With no lock held, before the outcome of a worker that has ended is fixed */
  void         (*ending)    (QTask        *task,
                             const GError *error);
  /* ... and after one that is not a worker's was fixed, which may be an error */
  void         (*failed)    (QTask        *task);
  /* By the owner, or with @elsewhere TRUE by who stands for it */
  void         (*progress)  (QTask        *task);
  void         (*completed) (QTask        *task,
                             gboolean      elsewhere);
  /* Adds those that have no outcome yet, with a reference each; with @for_any TRUE only if all are
   * so */
  void         (*list)      (QTaskGroupCore *core,
                             gboolean      for_any,
                             GPtrArray    *tasks);
} QTaskMemberFuncs;

/* Set before the first task is in a group. */
extern const QTaskMemberFuncs *q_task_member_funcs;

/* Whatever runs tasks. Each function may be called from any thread with no lock held. */
typedef struct
{
  void     (*ref)           (QTaskRunner *runner);
  void     (*unref)         (QTaskRunner *runner);
  /* Takes the task out of the queue; TRUE hands its reference to the caller. */
  gboolean (*withdraw)      (QTaskRunner *runner,
                             QTask       *task);
  /* Makes the task the next to run, if it is queued. */
  void     (*move_to_front) (QTaskRunner *runner,
                             QTask       *task);

  /* Of those that call q_task_run_worker(); NULL where workers run elsewhere. Runs the task in
   * the calling thread, if it is queued. */
  gboolean (*help)          (QTaskRunner *runner,
                             QTask       *task);
  /* Queues a task again that it has, and whose worker holds no thread; takes over the
   * reference that it has to it. */
  void     (*requeue)       (QTaskRunner *runner,
                             QTask       *task);
  /* Whether the worker of the task is to make room for something more urgent. */
  gboolean (*is_pressed)    (QTaskRunner *runner,
                             QTask       *task);
  /* The calling worker is about to block, or goes on. */
  void     (*park)          (QTaskRunner *runner);
  void     (*unpark)        (QTaskRunner *runner);
  /* Gets threads for what is queued while workers are parked; FALSE if there is none to be
   * had. */
  gboolean (*compensate)    (QTaskRunner *runner);

  /* Where not NULL: the task, which runs, was asked to stop; somebody blocks until it is over;
   * it has new progress, and TRUE tells that q_task_take_progress() follows. */
  void     (*stop)          (QTaskRunner *runner,
                             QTask       *task);
  void     (*waited)        (QTaskRunner *runner,
                             QTask       *task);
  gboolean (*progress)      (QTaskRunner *runner,
                             QTask       *task);
  /* A new reference to the task that all of the queue waits for, or NULL; called with the lock
   * of the wait graph held. Not there where another thread can always be had. */
  QTask   *(*ref_blocker)   (QTaskRunner *runner);
  /* Adds new references to the tasks that run or are queued; called with the lock of
   * q-task-runner.c held. Of those that are listed there. */
  void     (*list_tasks)    (QTaskRunner *runner,
                             GPtrArray   *tasks);
} QTaskRunnerFuncs;

struct _QTaskRunner
{
  const QTaskRunnerFuncs *funcs;
  gboolean                is_serial; /* one task at a time, from its start to its end */
  gboolean                is_remote; /* the owner is another process: results are variants */
};

/* A worker on the stack of the calling thread. */
struct _QTaskFrame
{
  QTask       *task;
  QTaskRunner *runner;
  QTaskFrame  *outer;
  QTaskBlock  *helps; /* the wait in which it runs what it waits for, or NULL */
  guint        depth;
};

/* A syncing task whose worker does not go on before the calling thread has left its sync
 * function, or the like. */
struct _QTaskHold
{
  QTask     *task;
  QTaskHold *outer;
};

/* How many workers of one thread may be inside one another. */
#define Q_TASK_MAX_DEPTH 16

/* How often who waits tries again to get a thread, where there was none to be had. */
#define Q_TASK_RETRY_USEC (100 * G_TIME_SPAN_MILLISECOND)

typedef enum {
  Q_TASK_STOP_CANCEL,
  Q_TASK_STOP_TIMEOUT,
  Q_TASK_STOP_LOST
} QTaskStopReason;

typedef enum {
  Q_TASK_PROP_0,
  Q_TASK_PROP_SOURCE_OBJECT,
  Q_TASK_PROP_CANCELLABLE,
  Q_TASK_PROP_NAME,
  Q_TASK_PROP_PRIORITY,
  Q_TASK_PROP_COMPLETION_PRIORITY,
  Q_TASK_PROP_CHECK_CANCELLABLE,
  Q_TASK_PROP_RETURN_ON_CANCEL,
  Q_TASK_PROP_RUN_CANCELLED,
  Q_TASK_PROP_TIMEOUT,
  Q_TASK_PROP_OUTLIVE,
  Q_TASK_PROP_PROGRESS,
  Q_TASK_PROP_PROGRESS_TEXT,
  Q_TASK_PROP_COMPLETED,
  Q_TASK_N_PROPS
} QTaskProp;

extern GParamSpec *q_task_props[Q_TASK_N_PROPS];

extern int q_task_private_offset;

static inline QTaskPrivate *
q_task_get_private (QTask *task)
{
  return G_STRUCT_MEMBER_P (task, q_task_private_offset);
}

static inline QTask *
q_task_from_private (QTaskPrivate *priv)
{
  return G_STRUCT_MEMBER_P (priv, -q_task_private_offset);
}

/* The node is the first member. */
static inline QTask *
q_task_from_node (QTaskNode *node)
{
  return q_task_from_private ((QTaskPrivate *) node);
}

static inline guint
q_task_get_word (QTaskPrivate *priv)
{
  return (guint) g_atomic_int_get ((int *) &priv->word);
}

static inline QTaskState
q_task_word_get_state (guint word)
{
  return (QTaskState) (word & Q_TASK_WORD_STATE);
}

/* When a timeout has passed, which may be as long as there are numbers. */
static inline gint64
q_task_add_timeout (gint64 now,
                    gint64 timeout)
{
  return timeout < G_MAXINT64 - now ? now + timeout : G_MAXINT64;
}

/* Whether a worker that has run to @state is over, and not only done with a step. */
static inline gboolean
q_task_state_is_over (QTaskState state)
{
  return state == Q_TASK_STATE_FINISHED || state == Q_TASK_STATE_STOPPED;
}

/* Read with the lock of the task held, or only compared. */
static inline QTaskMember *
q_task_get_member (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  return extra != NULL ? g_atomic_pointer_get (&extra->member) : NULL;
}

/* Whether all of it is to be done yet. */
static inline gboolean
q_task_is_new (QTask *task)
{
  guint word = q_task_get_word (q_task_get_private (task));

  return q_task_word_get_state (word) == Q_TASK_STATE_NEW &&
         (word & (Q_TASK_WORD_RETURNED | Q_TASK_WORD_FIXED)) == 0;
}

static inline gboolean
q_task_is_set (QTask *task,
               guint  flag)
{
  return (q_task_get_word (q_task_get_private (task)) & flag) != 0;
}

/* q-task.c */
guint       q_task_change               (QTaskPrivate   *priv,
                                         guint           clear,
                                         guint           set);
QTask      *q_task_new_ownerless        (void);
QTaskExtra *q_task_ensure_extra         (QTaskPrivate   *priv);
int         q_task_get_delivery_priority (QTaskPrivate  *priv);
void        q_task_release_data         (QTaskPrivate   *priv,
                                         gpointer        data,
                                         GDestroyNotify  destroy);
void        q_task_release              (QTask          *task);
void        q_task_release_object       (GObject        *object,
                                         QTaskDispatch  *dispatch,
                                         int             priority);
gboolean    q_task_is_forked            (GError        **error);
char       *q_task_describe             (QTask          *task);
void        q_task_warn                 (QTask          *task,
                                         const char     *format,
                                         ...) G_GNUC_PRINTF (2, 3);
gboolean    q_task_check_new            (QTask          *task,
                                         const char     *function);
void        q_task_notify               (QTask          *task,
                                         QTaskProp       prop);

/* q-task-outcome.c */
gboolean    q_task_fix_locked           (QTask          *task,
                                         GError         *error,
                                         guint           flags);
gboolean    q_task_reads_as_cancelled   (QTaskPrivate   *priv);
GError     *q_task_new_stop_error       (QTaskStopReason reason);

/* The cancellable that the caller gave, or NULL. */
static inline GCancellable *
q_task_get_given (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  return extra != NULL ? extra->cancellable : NULL;
}

/* q-task-complete.c */
void        q_task_delivered            (QTaskNode      *node,
                                         gboolean        lost);
void        q_task_complete_now         (QTask          *task,
                                         gboolean        lost,
                                         gboolean        worker_ended);
void        q_task_send_completion      (QTask          *task);
void        q_task_send_early           (QTask          *task,
                                         QTaskStopReason reason);
void        q_task_end_run              (QTask          *task,
                                         GError         *error,
                                         QTaskState      state);
void        q_task_end_run_here         (QTask          *task,
                                         GError         *error,
                                         QTaskState      state);
gboolean    q_task_take_completion      (QTask          *task);
void        q_task_complete_synchronous (QTask          *task,
                                         gboolean        worker_ended);

/* q-task-worker.c */
gboolean    q_task_start                (QTask          *task,
                                         QTaskRunner    *runner,
                                         GCallback       worker,
                                         gpointer        worker_data,
                                         GDestroyNotify  worker_data_destroy,
                                         guint           flags,
                                         GError        **error);
gboolean    q_task_unstart              (QTask          *task);
void        q_task_set_queued           (QTask          *task);
gboolean    q_task_set_running          (QTask          *task);
gboolean    q_task_check_worker         (QTask          *task,
                                         QTaskWorker     worker);
QTaskFrame *q_task_get_current_frame    (void);
QTaskState  q_task_run_worker           (QTask          *task,
                                         QTaskRunner    *runner,
                                         gboolean       *failed,
                                         GError        **error);

/* q-task-runner.c */
void        q_task_runner_add           (QTaskRunner    *runner);
void        q_task_runner_remove        (QTaskRunner    *runner);
void        q_task_runner_list_queue    (QTaskQueue     *queue,
                                         GPtrArray      *tasks);
void        q_task_runner_context_lost  (QTaskDispatch  *dispatch);

/* q-task-cancel.c */
void        q_task_request_stop         (QTask          *task,
                                         QTaskStopReason reason);
void        q_task_watch_stop           (QTask          *task);
void        q_task_unwatch_stop         (QTask          *task);
void        q_task_clear_timeout        (QTask          *task);
void        q_task_free_cancel          (QTaskPrivate   *priv);

/* q-task-messages.c */
QTaskHandler *q_task_handler_new        (GCallback       func,
                                         gpointer        opaque,
                                         GDestroyNotify  destroy);
QTaskHandler *q_task_handler_ref        (QTaskHandler   *handler);
void        q_task_handler_unref        (QTaskHandler   *handler,
                                         QTaskPrivate   *priv);
void        q_task_flush_messages       (QTask          *task);
gboolean    q_task_serve_messages       (QTask          *task);
void        q_task_watch_messages       (QTask          *task,
                                         gboolean        watch);
void        q_task_detach_channel       (QTask          *task,
                                         gboolean        runs_on);
void        q_task_drop_messages        (QTask          *task);
void        q_task_close_channel        (QTask          *task);
void        q_task_close_worker_channel (QTask          *task);
void        q_task_free_messages        (QTaskPrivate   *priv);

/* q-task-sync.c */
QTaskHold  *q_task_get_current_hold     (void);
gboolean    q_task_has_sync_func        (QTask          *task);
gboolean    q_task_sync_steps           (QTask          *task);
gboolean    q_task_end_sync_locked      (QTask          *task);
void        q_task_end_sync             (QTask          *task);
void        q_task_serve_sync           (QTask          *task);
void        q_task_drop_sync            (QTask          *task,
                                         gboolean        is_owner);
void        q_task_free_sync            (QTaskPrivate   *priv);

/* q-task-bind.c */
void        q_task_tell_bound           (QTask          *task);
void        q_task_watch_bound          (QTask          *task);
void        q_task_serve_bindings       (QTask          *task);
void        q_task_drop_bindings        (QTask          *task);

/* q-task-progress.c */
void        q_task_flush_progress       (QTask          *task,
                                         gboolean        lost);
gint64      q_task_serve_progress       (QTask          *task);
gboolean    q_task_take_progress        (QTask          *task,
                                         double         *fraction,
                                         char          **text);
void        q_task_free_progress        (QTaskPrivate   *priv);

/* q-task-wait.c */
typedef enum {
  Q_TASK_WAIT_OUTCOME,     /* for the outcome, and the callback if called by the owner */
  Q_TASK_WAIT_SYNCHRONOUS  /* for the completion, which is left to the caller */
} QTaskWaitMode;

void          q_task_wake_waiters_locked  (QTaskPrivate   *priv);
void          q_task_begin_wait_locked    (QTaskPrivate   *priv,
                                           guint           flags);
void          q_task_end_wait_locked      (QTaskPrivate   *priv,
                                           guint           flags);
QTaskWaiter  *q_task_steal_waiters_locked (QTaskPrivate   *priv,
                                           gboolean        completed);
void          q_task_return_waiters       (QTaskWaiter    *waiters);
void          q_task_tell_runner          (QTask          *task);
gint64        q_task_look                 (QTask          *task,
                                           gboolean       *again);
gboolean      q_task_block_is_due         (QTaskBlock     *block);
gboolean      q_task_block                (QTask          *task,
                                           QTaskWaitMode   mode,
                                           gint64          end_time,
                                           GCancellable   *cancellable,
                                           GError        **error);

/* q-task-wait-graph.c */
gboolean      q_task_wait_graph_enter     (QTask          *task);
void          q_task_wait_graph_leave     (void);
gboolean      q_task_wait_graph_enter_group (QTaskGroupCore *core,
                                             gboolean      for_any);
void          q_task_wait_graph_leave_group (void);

G_END_DECLS
