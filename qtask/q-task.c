/* q-task.c: QTask, its making, description and end
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A task owns its source, its cancellables, what its callback and its worker were
 * given, its data and its result; all of that is released by its owner. It does not
 * own its context: it refers to the dispatch of it. An ownerless task, which the library makes
 * for those who have no main loop, has no context: its last user releases all that.
 *
 * Who holds references: the user; the queue of a pool, and then its worker, whose
 * reference travels on with the completion to the owner; a handler on a given
 * cancellable while the task is started; a timer; a wait.
 *
 * What protects what is written beside the fields in q-task-private.h. The other parts
 * of QTask: q-task-describe.c, q-task-outcome.c, q-task-complete.c, q-task-worker.c,
 * q-task-cancel.c, q-task-progress.c, q-task-messages.c, q-task-sync.c, q-task-bind.c,
 * q-task-wait.c.
 */

#include "config.h"

#include <pthread.h>

#include <glib/gi18n-lib.h>

#include "q-task.h"

#include "q-task-private.h"

/**
 * QTask:
 *
 * A background task: work that is done elsewhere, and its outcome, which comes
 * back to the main context it was made in.
 *
 * A task is made by its *owner*: the thread that holds the thread-default main
 * context of that moment, which is the context of the task. It is then run in a
 * thread with [method@QTask.Task.run_in_thread] or
 * [method@QTask.TaskPool.push], or driven by any other code that sets an outcome
 * and calls [method@QTask.Task.complete]. Its callback is called exactly once, by
 * the owner, and whatever the caller handed over is released there.
 *
 * A worker throws as any GLib function does:
 *
 * ```c
 * static gboolean
 * count_worker (QTask *task, gpointer path, GError **error)
 * {
 *   g_autofree char *contents = NULL;
 *   gsize length;
 *
 *   if (!g_file_get_contents (path, &contents, &length, error))
 *     return FALSE;
 *
 *   q_task_set_result_int (task, length);
 *   return TRUE;
 * }
 *
 * static void
 * counted_cb (QTask *task, gpointer data)
 * {
 *   g_autoptr (GError) error = NULL;
 *   gssize length = q_task_propagate_int (task, &error);
 *
 *   if (error != NULL)
 *     g_printerr ("%s\n", error->message);
 *   else
 *     g_print ("%" G_GSSIZE_FORMAT " bytes\n", length);
 * }
 *
 * g_autoptr (QTask) task = q_task_new (NULL, counted_cb, NULL, NULL);
 * q_task_run_in_thread (task, count_worker, g_strdup ("/etc/hosts"), g_free);
 * ```
 *
 * For an `_async` and `_finish` pair, make the task with
 * [ctor@QTask.Task.new_async]: it is a [iface@Gio.AsyncResult], and whatever
 * `g_task_…()` does, some `q_task_…()` of the same name does.
 *
 * A subclass may implement the work as [vfunc@QTask.Task.run].
 *
 * Since: 1.0
 */

GParamSpec *q_task_props[Q_TASK_N_PROPS];

int q_task_private_offset;

static void q_task_async_result_iface_init (GAsyncResultIface *iface);

G_DEFINE_TYPE_WITH_CODE (QTask, q_task, G_TYPE_OBJECT, G_ADD_PRIVATE (QTask) G_IMPLEMENT_INTERFACE (G_TYPE_ASYNC_RESULT, q_task_async_result_iface_init))

/* Forks */

static int is_forked;

static void
forked_in_child (void)
{
  g_atomic_int_set (&is_forked, TRUE);
}

/* Whether this is a forked child of the process that used tasks. */
gboolean
q_task_is_forked (GError **error)
{
  if (G_LIKELY (!g_atomic_int_get (&is_forked)))
    return FALSE;

  /* For nobody, nothing is translated: that takes locks which may be held for ever here. */
  if (error != NULL)
    g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_FORKED,
                         _("Tasks cannot be used in a forked child process, which does not "
                           "have the threads of its parent; use them before the fork, or "
                           "start a new program in the child"));
  return TRUE;
}

/* The word */

/* The one function that changes a word. Returns what it was. */
guint
q_task_change (QTaskPrivate *priv,
               guint clear,
               guint set)
{
  guint old;

  do
    old = q_task_get_word (priv);
  while (!g_atomic_int_compare_and_exchange ((int *) &priv->word, (int) old,
                                             (int) ((old & ~clear) | set)));

  return old;
}

/* Gets the extra part, made on first use. May be called from any thread. */
QTaskExtra *
q_task_ensure_extra (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);

  if (extra != NULL)
    return extra;

  extra = g_new0 (QTaskExtra, 1);
  g_cond_init (&extra->cond);

  if (!g_atomic_pointer_compare_and_exchange (&priv->extra, NULL, extra))
    {
      g_cond_clear (&extra->cond);
      g_free (extra);
      extra = g_atomic_pointer_get (&priv->extra);
    }

  return extra;
}

/* Owners */

/* Destroys @data by the owner: in place where that is the calling thread. */
void
q_task_release_data (QTaskPrivate *priv,
                     gpointer data,
                     GDestroyNotify destroy)
{
  q_task_dispatch_destroy_data (priv->dispatch, priv->thread_id, data, destroy);
}

typedef struct
{
  QTaskDelivery delivery;
  QTask *task;
  GParamSpec *pspec;
} QTaskNotifyDelivery;

static void
notify_delivered (QTaskDelivery *delivery,
                  gboolean lost)
{
  QTaskNotifyDelivery *self = (QTaskNotifyDelivery *) delivery;

  if (!lost)
    g_object_notify_by_pspec (G_OBJECT (self->task), self->pspec);

  g_object_unref (self->task);
  g_free (self);
}

/* Notifies by the owner. */
void
q_task_notify (QTask *task,
               QTaskProp prop)
{
  GParamSpec *pspec = q_task_props[prop];
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskOwnership ownership;
  QTaskNotifyDelivery *self;

  if (!q_task_dispatch_has_owner (priv->dispatch))
    return;

  ownership = q_task_dispatch_acquire (priv->dispatch, priv->thread_id);

  if (ownership != Q_TASK_OWNER_NOT)
    {
      g_object_notify_by_pspec (G_OBJECT (task), pspec);
      q_task_dispatch_release (priv->dispatch, ownership);
      return;
    }

  self = g_new0 (QTaskNotifyDelivery, 1);
  self->delivery.func = notify_delivered;
  self->task = g_object_ref (task);
  self->pspec = pspec;
  q_task_dispatch_deliver (priv->dispatch, &self->delivery.node,
                           q_task_get_delivery_priority (priv));
}

typedef struct
{
  QTaskDelivery delivery;
  GObject *object;
  QTaskDispatch *dispatch; /* owned */
  guint thread_id;         /* that is in dispose */
  guint n_tries;
} QTaskReleaseDelivery;

static GQuark notify_queue_quark;

#define RELEASE_YIELDS 100
#define LOST_YIELDS 10000
#define RELEASE_INTERVAL (10 * G_TIME_SPAN_MILLISECOND)
#define RELEASE_TRIES 100

/* Whether another thread may still be inside of the g_object_unref() that called dispose. It
 * holds its own reference until after dispose and, before GLib 2.78, thaws the notifications
 * after that; g_object_notify_queue_thaw() takes their queue away as the last thing it does
 * with the object (see gobject.c). */
static gboolean
is_in_unref (QTaskReleaseDelivery *self)
{
  GObject *object = self->object;

  if (g_atomic_int_get ((int *) &object->ref_count) > 1)
    return TRUE;

  /* Unless it is there to stay, since somebody froze them for good. */
  return self->n_tries < RELEASE_TRIES && g_object_get_qdata (object, notify_queue_quark) != NULL;
}

/* Drops a reference that was taken in dispose. The thread that is in dispose would finalize
 * the object itself if this one went before its own: wait for that, which takes a few
 * instructions. Whoever took another meanwhile, through a weak reference, may keep it for
 * long: then look again now and then. */
static void
release_delivered (QTaskDelivery *delivery,
                   gboolean lost)
{
  QTaskReleaseDelivery *self = (QTaskReleaseDelivery *) delivery;
  GObject *object = self->object;

  for (int i = 0; is_in_unref (self); i++)
    {
      /* When there is no owner any more, it may be this thread itself that is in there. */
      if (lost && self->thread_id == q_task_dispatch_get_thread_id ())
        break;

      if (i < (lost ? LOST_YIELDS : RELEASE_YIELDS))
        {
          g_thread_yield ();
          continue;
        }

      self->n_tries++;

      if (lost)
        {
          /* Whoever has another reference drops it some time. */
          if (g_atomic_int_get ((int *) &object->ref_count) > 1)
            break;

          /* The thread in there lost its processor at a bad moment, and gets it back. */
          g_usleep (RELEASE_INTERVAL);
          continue;
        }

      if (q_task_dispatch_set_timer (self->dispatch, delivery,
                                     g_get_monotonic_time () + RELEASE_INTERVAL))
        return;
    }

  g_object_unref (object);
  q_task_dispatch_unref (self->dispatch);
  g_free (self);
}

/* Hands a reference to the owner, who drops it when it is the last one. */
void
q_task_release_object (GObject *object,
                       QTaskDispatch *dispatch,
                       int priority)
{
  QTaskReleaseDelivery *self = g_new0 (QTaskReleaseDelivery, 1);

  self->delivery.func = release_delivered;
  self->object = object;
  self->dispatch = q_task_dispatch_ref (dispatch);
  self->thread_id = q_task_dispatch_get_thread_id ();
  q_task_dispatch_deliver (dispatch, &self->delivery.node, priority);
}

void
q_task_release (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);

  q_task_release_object (G_OBJECT (task), priv->dispatch, q_task_get_delivery_priority (priv));
}

/* How the task is called in messages. */
char *
q_task_describe (QTask *task)
{
  const char *name = q_task_get_name (task);

  if (name != NULL)
    return g_strdup_printf ("“%s”", name);

  return g_strdup_printf ("%s %p", G_OBJECT_TYPE_NAME (task), (void *) task);
}

/* A critical warning of what the program did with a task and should not have: what is the matter
 * with the task, and what to do. */
void
q_task_warn (QTask *task,
             const char *format,
             ...)
{
  g_autofree char *description = q_task_describe (task);
  g_autofree char *what = NULL;
  va_list args;

  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);

  g_critical ("The task %s %s", description, what);
}

/* Whether @function, which sets the task up, is not too late. */
gboolean
q_task_check_new (QTask *task,
                  const char *function)
{
  if (G_LIKELY (q_task_is_new (task)))
    return TRUE;

  q_task_warn (task, "was started or completed before; call %s() before the start", function);

  return FALSE;
}

/* The owner let go of a task that nobody will complete: tell its caller. */
static void
abandon (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  g_autofree char *description = q_task_describe (task);

  g_critical ("%s (source object: %p, source tag: %p) finalized without ever returning "
              "(using q_task_return_*() or q_task_complete()). This potentially indicates "
              "a bug in the program.",
              description, (void *) priv->source_object, q_task_get_source_tag (task));

  q_task_change (priv, 0, Q_TASK_WORD_RETURNED | Q_TASK_WORD_ABANDONED);
  priv->thread_id = q_task_dispatch_get_thread_id ();

  g_mutex_lock (&priv->lock);
  q_task_fix_locked (task,
                     g_error_new (Q_TASK_ERROR, Q_TASK_ERROR_ABANDONED,
                                  _("The task %s was abandoned: its last reference was "
                                    "dropped before it had an outcome"),
                                     description),
                                  Q_TASK_WORD_SENT);
  g_mutex_unlock (&priv->lock);

  q_task_send_completion (g_object_ref (task));
}

/* Whether anybody is to be told of the outcome. */
static gboolean
has_listener (QTaskPrivate *priv)
{
  QTaskExtra *extra = g_atomic_pointer_get (&priv->extra);
  gboolean is_bound;

  if (priv->callback != NULL)
    return TRUE;
  if (extra == NULL)
    return FALSE;

  g_mutex_lock (&priv->lock);
  is_bound = extra->bound != NULL;
  g_mutex_unlock (&priv->lock);

  return is_bound;
}

static void
q_task_dispose (GObject *object)
{
  QTask *task = Q_TASK (object);
  QTaskPrivate *priv = q_task_get_private (task);
  guint word = q_task_get_word (priv);
  QTaskOwnership ownership = Q_TASK_OWNER_ALREADY;

  if (g_atomic_int_get ((int *) &object->ref_count) == 1 &&
      q_task_dispatch_has_owner (priv->dispatch))
    {
      ownership = q_task_dispatch_acquire (priv->dispatch, priv->thread_id);

      if (ownership == Q_TASK_OWNER_NOT)
        {
          q_task_release (g_object_ref (task));
          return;
        }

      if (q_task_word_get_state (word) == Q_TASK_STATE_NEW &&
          (word & Q_TASK_WORD_FIXED) == 0 && has_listener (priv))
        {
          abandon (task);
          q_task_dispatch_release (priv->dispatch, ownership);
          return;
        }
    }

  /* What GObject does here it does again when this was the last reference, and it takes a
   * sixth of what dropping that costs. */
  if (g_atomic_int_get ((int *) &object->ref_count) > 1)
    G_OBJECT_CLASS (q_task_parent_class)->dispose (object);

  if (ownership == Q_TASK_OWNER_ACQUIRED)
    q_task_dispatch_release (priv->dispatch, ownership);
}

static void
q_task_finalize (GObject *object)
{
  QTask *task = Q_TASK (object);
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskExtra *extra = priv->extra;

  if (priv->opaque_destroy != NULL)
    priv->opaque_destroy (priv->opaque);

  if (priv->worker_data_destroy != NULL)
    priv->worker_data_destroy (priv->worker_data);

  if (priv->result_destroy != NULL)
    priv->result_destroy (priv->result);

  g_clear_error (&priv->error);

  if (extra != NULL)
    {
      g_assert (extra->n_waiting == 0);
      g_assert (extra->waiters == NULL);
      g_assert (!extra->timer_is_set);

      if (extra->task_data_destroy != NULL)
        extra->task_data_destroy (extra->task_data);

      if (!extra->name_is_static)
        g_free ((char *) extra->name);

      q_task_drop_bindings (task);
      q_task_free_sync (priv);
      q_task_free_messages (priv);
      q_task_free_cancel (priv);
      q_task_free_progress (priv);
      g_cond_clear (&extra->cond);
      g_free (extra);
    }

  g_clear_object (&priv->source_object);

  if (priv->runner != NULL)
    priv->runner->funcs->unref (priv->runner);

  q_task_dispatch_unref (priv->dispatch);

  g_mutex_clear (&priv->lock);

  G_OBJECT_CLASS (q_task_parent_class)->finalize (object);
}

static void
q_task_get_property (GObject *object,
                     guint prop_id,
                     GValue *value,
                     GParamSpec *pspec)
{
  QTask *task = Q_TASK (object);

  switch (prop_id)
    {
    case Q_TASK_PROP_SOURCE_OBJECT:
      g_value_set_object (value, q_task_get_source (task));
      break;

    case Q_TASK_PROP_CANCELLABLE:
      g_value_set_object (value, q_task_get_given (q_task_get_private (task)));
      break;

    case Q_TASK_PROP_NAME:
      g_value_set_string (value, q_task_get_name (task));
      break;

    case Q_TASK_PROP_PRIORITY:
      g_value_set_int (value, q_task_get_priority (task));
      break;

    case Q_TASK_PROP_COMPLETION_PRIORITY:
      g_value_set_int (value, q_task_get_completion_priority (task));
      break;

    case Q_TASK_PROP_CHECK_CANCELLABLE:
      g_value_set_boolean (value, q_task_get_check_cancellable (task));
      break;

    case Q_TASK_PROP_RETURN_ON_CANCEL:
      g_value_set_boolean (value, q_task_get_return_on_cancel (task));
      break;

    case Q_TASK_PROP_RUN_CANCELLED:
      g_value_set_boolean (value, q_task_get_run_cancelled (task));
      break;

    case Q_TASK_PROP_TIMEOUT:
      g_value_set_int64 (value, q_task_get_timeout (task));
      break;

    case Q_TASK_PROP_OUTLIVE:
      g_value_set_boolean (value, q_task_get_outlive (task));
      break;

    case Q_TASK_PROP_PROGRESS:
      g_value_set_double (value, q_task_get_progress (task));
      break;

    case Q_TASK_PROP_PROGRESS_TEXT:
      g_value_take_string (value, q_task_dup_progress_text (task));
      break;

    case Q_TASK_PROP_COMPLETED:
      g_value_set_boolean (value, q_task_get_completed (task));
      break;

    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
    }
}

static void
q_task_set_property (GObject *object,
                     guint prop_id,
                     const GValue *value,
                     GParamSpec *pspec)
{
  QTask *task = Q_TASK (object);
  QTaskPrivate *priv = q_task_get_private (task);

  switch (prop_id)
    {
    /* Not construct-only, since that would cost every task two property changes. */
    case Q_TASK_PROP_SOURCE_OBJECT:
      if (g_value_get_object (value) == NULL)
        break;
      if (priv->source_object != NULL || !q_task_is_new (task))
        {
          q_task_warn (task, "has a source object, or was started before; set it once, before the "
                             "start");
          break;
        }
      priv->source_object = g_value_dup_object (value);
      break;

    case Q_TASK_PROP_CANCELLABLE:
      if (g_value_get_object (value) == NULL)
        break;
      if (q_task_get_given (priv) != NULL || !q_task_is_new (task))
        {
          q_task_warn (task, "has a cancellable, or was started before; set it once, before the start");
          break;
        }
      q_task_ensure_extra (priv)->cancellable = g_value_dup_object (value);
      break;

    case Q_TASK_PROP_NAME:
      q_task_set_name (task, g_value_get_string (value));
      break;

    case Q_TASK_PROP_PRIORITY:
      q_task_set_priority (task, g_value_get_int (value));
      break;

    case Q_TASK_PROP_COMPLETION_PRIORITY:
      q_task_set_completion_priority (task, g_value_get_int (value));
      break;

    case Q_TASK_PROP_CHECK_CANCELLABLE:
      q_task_set_check_cancellable (task, g_value_get_boolean (value));
      break;

    case Q_TASK_PROP_RETURN_ON_CANCEL:
      q_task_set_return_on_cancel (task, g_value_get_boolean (value));
      break;

    case Q_TASK_PROP_RUN_CANCELLED:
      q_task_set_run_cancelled (task, g_value_get_boolean (value));
      break;

    case Q_TASK_PROP_TIMEOUT:
      q_task_set_timeout (task, g_value_get_int64 (value));
      break;

    case Q_TASK_PROP_OUTLIVE:
      q_task_set_outlive (task, g_value_get_boolean (value));
      break;

    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
    }
}

static void
q_task_class_init (QTaskClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  q_task_dispatch_set_task_func (q_task_delivered);
  q_task_dispatch_set_lost_func (q_task_runner_context_lost);
  q_task_private_offset = g_type_class_get_instance_private_offset (klass);
  pthread_atfork (NULL, NULL, forked_in_child);
  notify_queue_quark = g_quark_from_static_string ("GObject-notify-queue");

  object_class->dispose = q_task_dispose;
  object_class->finalize = q_task_finalize;
  object_class->get_property = q_task_get_property;
  object_class->set_property = q_task_set_property;

  /**
   * QTask:source-object:
   *
   * The object that the task acts on. It can be given when the task is made.
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_SOURCE_OBJECT] =
    g_param_spec_object ("source-object", NULL, NULL, G_TYPE_OBJECT,
                         G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:cancellable:
   *
   * The cancellable that the caller gave, if any. It can be given when the task is made.
   * QTask never cancels it.
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_CANCELLABLE] =
    g_param_spec_object ("cancellable", NULL, NULL, G_TYPE_CANCELLABLE,
                         G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:name:
   *
   * The name of the task, for people who debug or profile; see
   * [method@QTask.Task.set_name].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_NAME] =
    g_param_spec_string ("name", NULL, NULL, NULL,
                         G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:priority:
   *
   * The priority of the task; see [method@QTask.Task.set_priority].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_PRIORITY] =
    g_param_spec_int ("priority", NULL, NULL, G_MININT, G_MAXINT, G_PRIORITY_DEFAULT,
                      G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:completion-priority:
   *
   * The priority that the callback is called with; see
   * [method@QTask.Task.set_completion_priority].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_COMPLETION_PRIORITY] =
    g_param_spec_int ("completion-priority", NULL, NULL, G_MININT, G_MAXINT,
                      G_PRIORITY_DEFAULT,
                      G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:check-cancellable:
   *
   * Whether a cancelled task reads as cancelled, whatever its outcome; see
   * [method@QTask.Task.set_check_cancellable].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_CHECK_CANCELLABLE] =
    g_param_spec_boolean ("check-cancellable", NULL, NULL, TRUE,
                          G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:return-on-cancel:
   *
   * Whether the task completes as soon as it is cancelled, while its worker goes on; see
   * [method@QTask.Task.set_return_on_cancel].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_RETURN_ON_CANCEL] =
    g_param_spec_boolean ("return-on-cancel", NULL, NULL, FALSE,
                          G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:run-cancelled:
   *
   * Whether the worker runs even if the task was cancelled before; see
   * [method@QTask.Task.set_run_cancelled].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_RUN_CANCELLED] =
    g_param_spec_boolean ("run-cancelled", NULL, NULL, FALSE,
                          G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:timeout:
   *
   * How long the task may take, in microseconds, or 0 for as long as it likes; see
   * [method@QTask.Task.set_timeout].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_TIMEOUT] =
    g_param_spec_int64 ("timeout", NULL, NULL, 0, G_MAXINT64, 0,
                        G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:outlive:
   *
   * Whether the task runs on when an object goes that it is bound to; see
   * [method@QTask.Task.set_outlive].
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_OUTLIVE] =
    g_param_spec_boolean ("outlive", NULL, NULL, FALSE,
                          G_PARAM_READWRITE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:progress:
   *
   * How far the task is, from 0 to 1. Its notifications are emitted by the owner, at
   * most one in [method@QTask.Task.get_progress_interval], and the last one before the
   * callback.
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_PROGRESS] =
    g_param_spec_double ("progress", NULL, NULL, 0.0, 1.0, 0.0,
                         G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:progress-text:
   *
   * What the task is doing, in words for the user. Notified as
   * [property@QTask.Task:progress] is.
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_PROGRESS_TEXT] =
    g_param_spec_string ("progress-text", NULL, NULL, NULL,
                         G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  /**
   * QTask:completed:
   *
   * Whether the callback has been called. Changes once, to %TRUE; the owner notifies of
   * that directly after the callback.
   *
   * Since: 1.0
   */
  q_task_props[Q_TASK_PROP_COMPLETED] =
    g_param_spec_boolean ("completed", NULL, NULL, FALSE,
                          G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);

  g_object_class_install_properties (object_class, Q_TASK_N_PROPS, q_task_props);
}

/* Whether the task that the calling thread makes next is ownerless. */
static _Thread_local gboolean makes_ownerless;

static void
q_task_init (QTask *task)
{
  QTaskPrivate *priv = q_task_get_private (task);
  GSource *source = g_main_current_source ();

  g_mutex_init (&priv->lock);
  priv->word = Q_TASK_STATE_NEW | Q_TASK_WORD_CHECK_CANCELLABLE;
  priv->node.is_task = TRUE;
  priv->thread_id = q_task_dispatch_get_thread_id ();

  if (makes_ownerless)
    {
      makes_ownerless = FALSE;
      priv->word |= Q_TASK_WORD_DETACHED | Q_TASK_WORD_ALONE;
      priv->dispatch = q_task_dispatch_get_ownerless ();
      return;
    }

  priv->dispatch = q_task_dispatch_ref_for_context (g_main_context_get_thread_default ());

  if (source != NULL)
    priv->node.key = g_source_get_time (source);
}

/* Makes a task with no owner, no context and no callback: no main loop is needed, what it holds
 * is released by whoever has the last reference, and its worker is not asked to stop for want
 * of a context. */
QTask *
q_task_new_ownerless (void)
{
  makes_ownerless = TRUE;

  return g_object_new (Q_TYPE_TASK, NULL);
}

static gpointer
q_task_async_result_get_user_data (GAsyncResult *result)
{
  return q_task_get_private (Q_TASK (result))->opaque;
}

static GObject *
q_task_async_result_ref_source_object (GAsyncResult *result)
{
  QTaskPrivate *priv = q_task_get_private (Q_TASK (result));

  return priv->source_object != NULL ? g_object_ref (priv->source_object) : NULL;
}

static gboolean
q_task_async_result_is_tagged (GAsyncResult *result,
                               gpointer source_tag)
{
  return q_task_get_source_tag (Q_TASK (result)) == source_tag;
}

static void
q_task_async_result_iface_init (GAsyncResultIface *iface)
{
  iface->get_user_data = q_task_async_result_get_user_data;
  iface->get_source_object = q_task_async_result_ref_source_object;
  iface->is_tagged = q_task_async_result_is_tagged;
}

/* Make */

/**
 * q_task_new:
 * @source_object: (nullable): the object that the task acts on; the task holds a reference
 * @func: (nullable) (scope notified) (closure opaque) (destroy destroy): called by the
 *   owner when the task has completed
 * @opaque: (nullable): data for @func
 * @destroy: (nullable): frees @opaque; called by the owner, directly after @func
 *
 * Makes a task. Its context is the thread-default main context of the moment.
 *
 * If the task is cancelled before it starts, or while it is queued, its worker is never
 * called.
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a new task
 *
 * Since: 1.0
 */
QTask *
q_task_new (GObject *source_object,
            QTaskFunc func,
            gpointer opaque,
            GDestroyNotify destroy)
{
  QTask *task;
  QTaskPrivate *priv;

  g_return_val_if_fail (source_object == NULL || G_IS_OBJECT (source_object), NULL);

  task = g_object_new (Q_TYPE_TASK, NULL);
  priv = q_task_get_private (task);

  priv->source_object = source_object != NULL ? g_object_ref (source_object) : NULL;
  priv->callback = G_CALLBACK (func);
  priv->opaque = opaque;
  priv->opaque_destroy = destroy;

  return task;
}

/**
 * q_task_new_async:
 * @source_object: (nullable) (type GObject): the object that the task acts on; the task
 *   holds a reference
 * @cancellable: (nullable): a cancellable, which may be shared
 * @callback: (nullable) (scope async) (closure user_data): called by the owner when the
 *   task has completed
 * @user_data: data for @callback
 *
 * Makes a task for an asynchronous function, which has a `_finish` function for its outcome,
 * as g_task_new() does. Its context is the thread-default main context of the moment.
 *
 * The worker of such a task is called even if @cancellable is cancelled before; see
 * [method@QTask.Task.set_run_cancelled].
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a new task
 *
 * Since: 1.0
 */
QTask *
q_task_new_async (gpointer source_object,
                  GCancellable *cancellable,
                  GAsyncReadyCallback callback,
                  gpointer user_data)
{
  QTask *task;
  QTaskPrivate *priv;

  g_return_val_if_fail (source_object == NULL || G_IS_OBJECT (source_object), NULL);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), NULL);

  task = g_object_new (Q_TYPE_TASK, NULL);
  priv = q_task_get_private (task);

  priv->source_object = source_object != NULL ? g_object_ref (source_object) : NULL;
  if (cancellable != NULL)
    q_task_ensure_extra (priv)->cancellable = g_object_ref (cancellable);
  priv->callback = G_CALLBACK (callback);
  priv->opaque = user_data;
  q_task_change (priv, 0, Q_TASK_WORD_ASYNC | Q_TASK_WORD_RUN_CANCELLED);

  return task;
}

/**
 * q_task_set_func:
 * @task: a task that has not been started
 * @func: (nullable) (scope notified) (closure opaque) (destroy destroy): called by the
 *   owner when the task has completed
 * @opaque: (nullable): data for @func
 * @destroy: (nullable): frees @opaque; called by the owner, directly after @func
 *
 * Sets what is called when the task has completed, for a task made with g_object_new().
 * What was set before is freed.
 *
 * May be called from the thread that made the task, before the start.
 *
 * Since: 1.0
 */
void
q_task_set_func (QTask *task,
                 QTaskFunc func,
                 gpointer opaque,
                 GDestroyNotify destroy)
{
  QTaskPrivate *priv;
  gpointer old_opaque;
  GDestroyNotify old_destroy;

  g_return_if_fail (Q_IS_TASK (task));

  if (!q_task_check_new (task, G_STRFUNC))
    return;

  if (q_task_is_forked (NULL))
    return;

  priv = q_task_get_private (task);
  old_opaque = priv->opaque;
  old_destroy = priv->opaque_destroy;

  q_task_change (priv, Q_TASK_WORD_ASYNC, 0);
  priv->callback = G_CALLBACK (func);
  priv->opaque = opaque;
  priv->opaque_destroy = destroy;

  q_task_release_data (priv, old_opaque, old_destroy);
}

/**
 * q_task_report_error: (skip)
 * @source_object: (nullable) (type GObject): the object that the call acts on
 * @callback: (nullable) (scope async) (closure user_data): called in the thread-default
 *   main context, in a later iteration
 * @user_data: data for @callback
 * @source_tag: (nullable): a pointer that tells where the error comes from
 * @error: (transfer full): the error
 *
 * Makes a task and returns @error from it at once: for an asynchronous function that fails
 * before it does anything. Its `_finish` function can tell with
 * g_async_result_is_tagged().
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_report_error (gpointer source_object,
                     GAsyncReadyCallback callback,
                     gpointer user_data,
                     gpointer source_tag,
                     GError *error)
{
  g_autoptr (QTask) task = NULL;

  g_return_if_fail (source_object == NULL || G_IS_OBJECT (source_object));
  g_return_if_fail (error != NULL);

  task = q_task_new_async (source_object, NULL, callback, user_data);
  q_task_set_source_tag (task, source_tag);
  q_task_set_static_name (task, "q_task_report_error");
  q_task_return_error (task, error);
}

/**
 * q_task_report_new_error: (skip)
 * @source_object: (nullable) (type GObject): the object that the call acts on
 * @callback: (nullable) (scope async) (closure user_data): called in the thread-default
 *   main context, in a later iteration
 * @user_data: data for @callback
 * @source_tag: (nullable): a pointer that tells where the error comes from
 * @domain: the error domain
 * @code: the error code
 * @format: a printf() format for the message
 * @...: what @format names
 *
 * As q_task_report_error(), with an error made here.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_report_new_error (gpointer source_object,
                         GAsyncReadyCallback callback,
                         gpointer user_data,
                         gpointer source_tag,
                         GQuark domain,
                         int code,
                         const char *format,
                         ...)
{
  va_list args;
  GError *error;

  va_start (args, format);
  error = g_error_new_valist (domain, code, format, args);
  va_end (args);

  q_task_report_error (source_object, callback, user_data, source_tag, error);
}

/**
 * q_task_is_valid:
 * @result: (type Gio.AsyncResult): a #GAsyncResult
 * @source_object: (nullable) (type GObject): the source object that is expected
 *
 * Whether @result is a task, and its source object is @source_object; for use in
 * g_return_if_fail().
 *
 * May be called from any thread.
 *
 * Returns: whether both are so
 *
 * Since: 1.0
 */
gboolean
q_task_is_valid (gpointer result,
                 gpointer source_object)
{
  if (!Q_IS_TASK (result))
    return FALSE;

  return (gpointer) q_task_get_private (result)->source_object == source_object;
}

/**
 * q_task_get_completed: (get-property completed)
 * @task: a task
 *
 * Gets whether the callback has been called; it is %FALSE in the callback itself.
 *
 * May be called from any thread.
 *
 * Returns: whether the task has completed
 *
 * Since: 1.0
 */
gboolean
q_task_get_completed (QTask *task)
{
  g_return_val_if_fail (Q_IS_TASK (task), FALSE);

  return q_task_is_set (task, Q_TASK_WORD_COMPLETED);
}

/**
 * q_task_poll:
 * @task: a task
 *
 * Gets what the worker of the task does. Never blocks.
 *
 * May be called from any thread.
 *
 * Returns: the state
 *
 * Since: 1.0
 */
QTaskState
q_task_poll (QTask *task)
{
  guint word;
  QTaskState state;

  g_return_val_if_fail (Q_IS_TASK (task), Q_TASK_STATE_NEW);

  word = q_task_get_word (q_task_get_private (task));
  state = q_task_word_get_state (word);

  /* Between two steps */
  if (state == Q_TASK_STATE_QUEUED && (word & Q_TASK_WORD_BEGUN) != 0)
    state = Q_TASK_STATE_RUNNING;

  if ((state == Q_TASK_STATE_RUNNING || state == Q_TASK_STATE_SYNCING) &&
      q_task_is_cancelled (task))
    state = Q_TASK_STATE_STOPPING;

  return state;
}
