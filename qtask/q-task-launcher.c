/* q-task-launcher.c: QTaskLauncher, worker processes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The object is a handle on its core, which does the work and outlives it; see
 * q-task-launcher-core.c. What is set here holds for processes that are started later, but for
 * the limits, which hold at once.
 */

#include "config.h"

#include <glib/gi18n-lib.h>

#include "q-task-enums.h"
#include "q-task-process-private.h"
#include "q-task-run.h"

/**
 * QTaskLauncher:
 *
 * Runs tasks in worker processes: safe from crashes, killable, free of Python's interpreter
 * lock, and the only way to run JavaScript beside the main loop.
 *
 * A worker is a program that calls [func@QTask.Task.serve]. The launcher starts it when there
 * is a task for it, keeps it for further tasks, one at a time, and starts another one while
 * all are busy, up to [property@QTask.TaskLauncher:max-processes]. Request and result are
 * variants; progress, the messages of the task's channel, errors and cancellation cross over.
 *
 * ```c
 * const char *argv[] = { "./worker", NULL };
 * g_autoptr (QTaskLauncher) launcher = q_task_launcher_new (argv);
 *
 * q_task_launcher_run_async (launcher, g_variant_new_string ("/etc/os-release"), NULL,
 *                            worker_ready_cb, NULL);
 * ```
 *
 * A process that dies fails the task that it runs with %Q_TASK_ERROR_CRASHED, and one that does
 * not speak the protocol with %Q_TASK_ERROR_PROTOCOL; other tasks do not notice. A task that is
 * cancelled is asked to stop, and its process is killed if it has not done so after
 * [property@QTask.TaskLauncher:kill-timeout].
 *
 * Dropping the last reference to a launcher, from any thread, waits for nobody: what was started
 * is still run, and then the processes are closed. They also end when the parent does.
 *
 * The launcher reaps its own processes. Where the application reaps all of its children, with
 * `waitpid (-1, …)` or by ignoring `SIGCHLD`, a task whose process died still fails as it should,
 * but its message cannot give the exit status.
 *
 * All functions of a launcher may be called from any thread.
 *
 * Since: 1.0
 */
struct _QTaskLauncher
{
  GObject parent_instance;

  QTaskLauncherCore *core;
};

G_DEFINE_FINAL_TYPE (QTaskLauncher, q_task_launcher, G_TYPE_OBJECT)

typedef enum
{
  PROP_0,
  PROP_ARGV,
  PROP_ENVIRONMENT,
  PROP_DIRECTORY,
  PROP_TRANSPORT,
  PROP_CAPTURE_STDERR,
  PROP_MAX_PROCESSES,
  PROP_MAX_TASKS_PER_PROCESS,
  PROP_MAX_MESSAGE_SIZE,
  PROP_IDLE_TIMEOUT,
  PROP_KILL_TIMEOUT,
  N_PROPS
} LauncherProp;

static GParamSpec *props[N_PROPS];

QTaskLauncherCore *
q_task_launcher_get_core (QTaskLauncher *launcher)
{
  return launcher->core;
}

static void
q_task_launcher_finalize (GObject *object)
{
  QTaskLauncher *launcher = Q_TASK_LAUNCHER (object);

  q_task_launcher_core_drop (launcher->core);

  G_OBJECT_CLASS (q_task_launcher_parent_class)->finalize (object);
}

static void
set_argv (QTaskLauncher *launcher,
          const char *const *argv)
{
  if (argv == NULL || argv[0] == NULL)
    {
      g_critical ("A launcher needs the name of a program");
      return;
    }

  launcher->core->setup.argv = g_strdupv ((char **) argv);
}

static void
q_task_launcher_get_property (GObject *object,
                              guint id,
                              GValue *value,
                              GParamSpec *pspec)
{
  QTaskLauncher *launcher = Q_TASK_LAUNCHER (object);

  switch ((LauncherProp) id)
    {
    case PROP_ARGV:
      g_value_set_boxed (value, q_task_launcher_get_argv (launcher));
      break;
    case PROP_ENVIRONMENT:
      g_value_set_boxed (value, q_task_launcher_get_environment (launcher));
      break;
    case PROP_DIRECTORY:
      g_value_set_string (value, q_task_launcher_get_directory (launcher));
      break;
    case PROP_TRANSPORT:
      g_value_set_enum (value, q_task_launcher_get_transport (launcher));
      break;
    case PROP_CAPTURE_STDERR:
      g_value_set_boolean (value, q_task_launcher_get_capture_stderr (launcher));
      break;
    case PROP_MAX_PROCESSES:
      g_value_set_uint (value, q_task_launcher_get_max_processes (launcher));
      break;
    case PROP_MAX_TASKS_PER_PROCESS:
      g_value_set_uint (value, q_task_launcher_get_max_tasks_per_process (launcher));
      break;
    case PROP_MAX_MESSAGE_SIZE:
      g_value_set_uint64 (value, q_task_launcher_get_max_message_size (launcher));
      break;
    case PROP_IDLE_TIMEOUT:
      g_value_set_int64 (value, q_task_launcher_get_idle_timeout (launcher));
      break;
    case PROP_KILL_TIMEOUT:
      g_value_set_int64 (value, q_task_launcher_get_kill_timeout (launcher));
      break;
    case PROP_0:
    case N_PROPS:
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
    }
}

static void
q_task_launcher_set_property (GObject *object,
                              guint id,
                              const GValue *value,
                              GParamSpec *pspec)
{
  QTaskLauncher *launcher = Q_TASK_LAUNCHER (object);

  switch ((LauncherProp) id)
    {
    case PROP_ARGV:
      set_argv (launcher, g_value_get_boxed (value));
      break;
    case PROP_ENVIRONMENT:
      q_task_launcher_set_environment (launcher, g_value_get_boxed (value));
      break;
    case PROP_DIRECTORY:
      q_task_launcher_set_directory (launcher, g_value_get_string (value));
      break;
    case PROP_TRANSPORT:
      q_task_launcher_set_transport (launcher, g_value_get_enum (value));
      break;
    case PROP_CAPTURE_STDERR:
      q_task_launcher_set_capture_stderr (launcher, g_value_get_boolean (value));
      break;
    case PROP_MAX_PROCESSES:
      q_task_launcher_set_max_processes (launcher, g_value_get_uint (value));
      break;
    case PROP_MAX_TASKS_PER_PROCESS:
      q_task_launcher_set_max_tasks_per_process (launcher, g_value_get_uint (value));
      break;
    case PROP_MAX_MESSAGE_SIZE:
      q_task_launcher_set_max_message_size (launcher, g_value_get_uint64 (value));
      break;
    case PROP_IDLE_TIMEOUT:
      q_task_launcher_set_idle_timeout (launcher, g_value_get_int64 (value));
      break;
    case PROP_KILL_TIMEOUT:
      q_task_launcher_set_kill_timeout (launcher, g_value_get_int64 (value));
      break;
    case PROP_0:
    case N_PROPS:
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
    }
}

static void
q_task_launcher_class_init (QTaskLauncherClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  const GParamFlags flags = G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | G_PARAM_EXPLICIT_NOTIFY;

  object_class->finalize = q_task_launcher_finalize;
  object_class->get_property = q_task_launcher_get_property;
  object_class->set_property = q_task_launcher_set_property;

  /* Sees to what is done once, such as telling forks. */
  g_type_ensure (Q_TYPE_TASK);
  g_type_class_unref (g_type_class_ref (Q_TYPE_TASK));

  /**
   * QTaskLauncher:argv: (getter get_argv)
   *
   * The program that serves, and its arguments.
   *
   * Since: 1.0
   */
  props[PROP_ARGV] =
    g_param_spec_boxed ("argv", NULL, NULL, G_TYPE_STRV,
                        G_PARAM_READWRITE | G_PARAM_CONSTRUCT_ONLY | G_PARAM_STATIC_STRINGS);

  /**
   * QTaskLauncher:environment: (getter get_environment) (setter set_environment)
   *
   * The environment of worker processes, or %NULL for that of this process.
   *
   * Since: 1.0
   */
  props[PROP_ENVIRONMENT] = g_param_spec_boxed ("environment", NULL, NULL, G_TYPE_STRV, flags);

  /**
   * QTaskLauncher:directory: (getter get_directory) (setter set_directory)
   *
   * The directory that worker processes start in, or %NULL for that of this process.
   *
   * Since: 1.0
   */
  props[PROP_DIRECTORY] = g_param_spec_string ("directory", NULL, NULL, NULL, flags);

  /**
   * QTaskLauncher:transport: (getter get_transport) (setter set_transport)
   *
   * How this process and its workers talk.
   *
   * Since: 1.0
   */
  props[PROP_TRANSPORT] = g_param_spec_enum ("transport", NULL, NULL, Q_TYPE_TASK_TRANSPORT,
                                             Q_TASK_TRANSPORT_INHERITED_FD, flags);

  /**
   * QTaskLauncher:capture-stderr: (getter get_capture_stderr) (setter set_capture_stderr)
   *
   * Whether what workers write to their standard error is kept, and its last lines go into
   * the error of a task whose process died. Else they write to that of this process.
   *
   * Since: 1.0
   */
  props[PROP_CAPTURE_STDERR] = g_param_spec_boolean ("capture-stderr", NULL, NULL, FALSE, flags);

  /**
   * QTaskLauncher:max-processes: (getter get_max_processes) (setter set_max_processes)
   *
   * How many processes there may be at once, besides at most as many that were closed and are about
   * to end. By default as many as there are processors.
   *
   * Since: 1.0
   */
  props[PROP_MAX_PROCESSES] = g_param_spec_uint ("max-processes", NULL, NULL, 1, G_MAXUINT,
                                                 g_get_num_processors (), flags);

  /**
   * QTaskLauncher:max-tasks-per-process: (getter get_max_tasks_per_process) (setter set_max_tasks_per_process)
   *
   * After how many tasks a process is closed, and another one started for the next; or 0 for
   * no limit.
   *
   * Since: 1.0
   */
  props[PROP_MAX_TASKS_PER_PROCESS] = g_param_spec_uint ("max-tasks-per-process", NULL, NULL,
                                                         0, G_MAXUINT, 0, flags);

  /**
   * QTaskLauncher:max-message-size: (getter get_max_message_size) (setter set_max_message_size)
   *
   * The limit to the size of a request, a result or a message, in bytes.
   *
   * Since: 1.0
   */
  props[PROP_MAX_MESSAGE_SIZE] = g_param_spec_uint64 ("max-message-size", NULL, NULL,
                                                      1, G_MAXUINT32 - Q_TASK_PROTOCOL_OVERHEAD,
                                                      64 * 1024 * 1024, flags);

  /**
   * QTaskLauncher:idle-timeout: (getter get_idle_timeout) (setter set_idle_timeout)
   *
   * After how long without a task a process is closed, in microseconds; or -1 for never.
   *
   * Since: 1.0
   */
  props[PROP_IDLE_TIMEOUT] = g_param_spec_int64 ("idle-timeout", NULL, NULL, -1, G_MAXINT64,
                                                 30 * G_TIME_SPAN_SECOND, flags);

  /**
   * QTaskLauncher:kill-timeout: (getter get_kill_timeout) (setter set_kill_timeout)
   *
   * How long a task that was asked to stop has to do so, before its process is killed, in
   * microseconds; or -1 for ever. A process that is closed, since it is of no more use, has a second
   * to end, or this time if it is longer (5 seconds for -1).
   *
   * Since: 1.0
   */
  props[PROP_KILL_TIMEOUT] = g_param_spec_int64 ("kill-timeout", NULL, NULL, -1, G_MAXINT64,
                                                 5 * G_TIME_SPAN_SECOND, flags);

  g_object_class_install_properties (object_class, N_PROPS, props);
}

static void
q_task_launcher_init (QTaskLauncher *launcher)
{
  launcher->core = q_task_launcher_core_new ();
}

/**
 * q_task_launcher_new:
 * @argv: (array zero-terminated=1): the program that serves, and its arguments; a name without
 *   a slash is looked for in `PATH`, and a relative path from
 *   [property@QTask.TaskLauncher:directory]
 *
 * Makes a launcher. It starts no process until there is a task.
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a new launcher
 *
 * Since: 1.0
 */
QTaskLauncher *
q_task_launcher_new (const char *const *argv)
{
  g_return_val_if_fail (argv != NULL && argv[0] != NULL, NULL);

  return g_object_new (Q_TYPE_TASK_LAUNCHER, "argv", argv, NULL);
}

/**
 * q_task_launcher_get_argv: (get-property argv)
 * @launcher: a launcher
 *
 * Gets the program that serves, and its arguments.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (array zero-terminated=1): the arguments
 *
 * Since: 1.0
 */
const char *const *
q_task_launcher_get_argv (QTaskLauncher *launcher)
{
  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), NULL);

  return (const char *const *) launcher->core->setup.argv;
}

/**
 * q_task_launcher_get_environment: (get-property environment)
 * @launcher: a launcher
 *
 * Gets the environment of worker processes.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable) (array zero-terminated=1): the environment, as `NAME=value`, or %NULL for that of this process
 *
 * Since: 1.0
 */
const char *const *
q_task_launcher_get_environment (QTaskLauncher *launcher)
{
  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), NULL);

  return (const char *const *) launcher->core->setup.environment;
}

/**
 * q_task_launcher_set_environment: (set-property environment)
 * @launcher: a launcher
 * @environment: (nullable) (array zero-terminated=1): the environment, as
 *   `NAME=value`, or %NULL for that of this process
 *
 * Sets the environment of worker processes that are started from now on.
 *
 * May be called from any thread, while nobody else uses what the getter returned.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_environment (QTaskLauncher *launcher,
                                 const char *const *environment)
{
  char **old;

  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  old = launcher->core->setup.environment;
  launcher->core->setup.environment = g_strdupv ((char **) environment);
  g_mutex_unlock (&launcher->core->lock);

  g_strfreev (old);
  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_ENVIRONMENT]);
}

/**
 * q_task_launcher_get_directory: (get-property directory)
 * @launcher: a launcher
 *
 * Gets the directory that worker processes start in.
 *
 * May be called from any thread.
 *
 * Returns: (transfer none) (nullable) (type filename): the directory, or %NULL for that of this process
 *
 * Since: 1.0
 */
const char *
q_task_launcher_get_directory (QTaskLauncher *launcher)
{
  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), NULL);

  return launcher->core->setup.directory;
}

/**
 * q_task_launcher_set_directory: (set-property directory)
 * @launcher: a launcher
 * @directory: (nullable) (type filename): a directory, or %NULL for that of this process
 *
 * Sets the directory that worker processes start in from now on.
 *
 * May be called from any thread, while nobody else uses what the getter returned.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_directory (QTaskLauncher *launcher,
                               const char *directory)
{
  char *old;

  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  old = launcher->core->setup.directory;
  launcher->core->setup.directory = g_strdup (directory);
  g_mutex_unlock (&launcher->core->lock);

  g_free (old);
  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_DIRECTORY]);
}

/**
 * q_task_launcher_get_transport: (get-property transport)
 * @launcher: a launcher
 *
 * Gets how this process and its workers talk.
 *
 * May be called from any thread.
 *
 * Returns: the transport
 *
 * Since: 1.0
 */
QTaskTransport
q_task_launcher_get_transport (QTaskLauncher *launcher)
{
  QTaskTransport value;

  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), Q_TASK_TRANSPORT_INHERITED_FD);

  g_mutex_lock (&launcher->core->lock);
  value = launcher->core->setup.transport;
  g_mutex_unlock (&launcher->core->lock);

  return value;
}

/**
 * q_task_launcher_set_transport: (set-property transport)
 * @launcher: a launcher
 * @transport: a transport
 *
 * Sets how this process and workers that are started from now on talk.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_transport (QTaskLauncher *launcher,
                               QTaskTransport transport)
{
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));
  g_return_if_fail (transport == Q_TASK_TRANSPORT_INHERITED_FD || transport == Q_TASK_TRANSPORT_STDIO);

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  launcher->core->setup.transport = transport;
  g_mutex_unlock (&launcher->core->lock);

  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_TRANSPORT]);
}

/**
 * q_task_launcher_get_capture_stderr: (get-property capture-stderr)
 * @launcher: a launcher
 *
 * Gets whether the standard error of workers is kept.
 *
 * May be called from any thread.
 *
 * Returns: whether it is
 *
 * Since: 1.0
 */
gboolean
q_task_launcher_get_capture_stderr (QTaskLauncher *launcher)
{
  gboolean value;

  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), FALSE);

  g_mutex_lock (&launcher->core->lock);
  value = launcher->core->setup.capture_stderr;
  g_mutex_unlock (&launcher->core->lock);

  return value;
}

/**
 * q_task_launcher_set_capture_stderr: (set-property capture-stderr)
 * @launcher: a launcher
 * @capture_stderr: whether to keep it
 *
 * Sets whether the standard error of workers that are started from now on is kept.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_capture_stderr (QTaskLauncher *launcher,
                                    gboolean capture_stderr)
{
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  launcher->core->setup.capture_stderr = capture_stderr;
  g_mutex_unlock (&launcher->core->lock);

  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_CAPTURE_STDERR]);
}

/**
 * q_task_launcher_get_max_processes: (get-property max-processes)
 * @launcher: a launcher
 *
 * Gets how many processes there may be at once.
 *
 * May be called from any thread.
 *
 * Returns: the limit
 *
 * Since: 1.0
 */
guint
q_task_launcher_get_max_processes (QTaskLauncher *launcher)
{
  guint value;

  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), 0);

  g_mutex_lock (&launcher->core->lock);
  value = launcher->core->max_processes;
  g_mutex_unlock (&launcher->core->lock);

  return value;
}

/**
 * q_task_launcher_set_max_processes: (set-property max-processes)
 * @launcher: a launcher
 * @max_processes: the limit, at least 1
 *
 * Sets how many processes there may be at once. If there are more, idle ones are
 * closed, and others when they have done their task.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_max_processes (QTaskLauncher *launcher,
                                   guint max_processes)
{
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));
  g_return_if_fail (max_processes > 0);

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  launcher->core->max_processes = max_processes;
  q_task_launcher_core_wake_locked (launcher->core);
  g_mutex_unlock (&launcher->core->lock);

  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_MAX_PROCESSES]);
}

/**
 * q_task_launcher_get_max_tasks_per_process: (get-property max-tasks-per-process)
 * @launcher: a launcher
 *
 * Gets after how many tasks a process is closed.
 *
 * May be called from any thread.
 *
 * Returns: the limit, or 0 for none
 *
 * Since: 1.0
 */
guint
q_task_launcher_get_max_tasks_per_process (QTaskLauncher *launcher)
{
  guint value;

  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), 0);

  g_mutex_lock (&launcher->core->lock);
  value = launcher->core->max_tasks;
  g_mutex_unlock (&launcher->core->lock);

  return value;
}

/**
 * q_task_launcher_set_max_tasks_per_process: (set-property max-tasks-per-process)
 * @launcher: a launcher
 * @max_tasks: the limit, or 0 for none
 *
 * Sets after how many tasks a process is closed.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_max_tasks_per_process (QTaskLauncher *launcher,
                                           guint max_tasks)
{
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  launcher->core->max_tasks = max_tasks;
  g_mutex_unlock (&launcher->core->lock);

  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_MAX_TASKS_PER_PROCESS]);
}

/**
 * q_task_launcher_get_max_message_size: (get-property max-message-size)
 * @launcher: a launcher
 *
 * Gets the limit to the size of a request, a result or a message.
 *
 * May be called from any thread.
 *
 * Returns: the limit, in bytes
 *
 * Since: 1.0
 */
gsize
q_task_launcher_get_max_message_size (QTaskLauncher *launcher)
{
  gsize value;

  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), 0);

  g_mutex_lock (&launcher->core->lock);
  value = launcher->core->setup.max_message_size;
  g_mutex_unlock (&launcher->core->lock);

  return value;
}

/**
 * q_task_launcher_set_max_message_size: (set-property max-message-size)
 * @launcher: a launcher
 * @max_message_size: the limit, in bytes; at least 1 and less than 4 GiB
 *
 * Sets the limit to the size of a request, a result or a message. A higher one holds at once; a lower
 * one for results and messages of processes that are started from now on.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_max_message_size (QTaskLauncher *launcher,
                                      gsize max_message_size)
{
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));
  g_return_if_fail (max_message_size > 0 && max_message_size <= G_MAXUINT32 - Q_TASK_PROTOCOL_OVERHEAD);

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  launcher->core->setup.max_message_size = max_message_size;
  q_task_launcher_core_wake_locked (launcher->core);
  g_mutex_unlock (&launcher->core->lock);

  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_MAX_MESSAGE_SIZE]);
}

/**
 * q_task_launcher_get_idle_timeout: (get-property idle-timeout)
 * @launcher: a launcher
 *
 * Gets after how long without a task a process is closed.
 *
 * May be called from any thread.
 *
 * Returns: the time in microseconds, or -1 for never
 *
 * Since: 1.0
 */
gint64
q_task_launcher_get_idle_timeout (QTaskLauncher *launcher)
{
  gint64 value;

  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), 0);

  g_mutex_lock (&launcher->core->lock);
  value = launcher->core->idle_timeout;
  g_mutex_unlock (&launcher->core->lock);

  return value;
}

/**
 * q_task_launcher_set_idle_timeout: (set-property idle-timeout)
 * @launcher: a launcher
 * @idle_timeout: the time in microseconds, or -1 for never
 *
 * Sets after how long without a task a process is closed.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_idle_timeout (QTaskLauncher *launcher,
                                  gint64 idle_timeout)
{
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));
  g_return_if_fail (idle_timeout >= -1);

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  launcher->core->idle_timeout = idle_timeout;
  q_task_launcher_core_wake_locked (launcher->core);
  g_mutex_unlock (&launcher->core->lock);

  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_IDLE_TIMEOUT]);
}

/**
 * q_task_launcher_get_kill_timeout: (get-property kill-timeout)
 * @launcher: a launcher
 *
 * Gets how long a task that was asked to stop has to do so.
 *
 * May be called from any thread.
 *
 * Returns: the time in microseconds, or -1 for ever
 *
 * Since: 1.0
 */
gint64
q_task_launcher_get_kill_timeout (QTaskLauncher *launcher)
{
  gint64 value;

  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), 0);

  g_mutex_lock (&launcher->core->lock);
  value = launcher->core->kill_timeout;
  g_mutex_unlock (&launcher->core->lock);

  return value;
}

/**
 * q_task_launcher_set_kill_timeout: (set-property kill-timeout)
 * @launcher: a launcher
 * @kill_timeout: the time in microseconds, or -1 for ever
 *
 * Sets how long a task that is asked to stop has to do so, before its process is
 * killed.
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_set_kill_timeout (QTaskLauncher *launcher,
                                  gint64 kill_timeout)
{
  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));
  g_return_if_fail (kill_timeout >= -1);

  if (q_task_is_forked (NULL))
    return;

  g_mutex_lock (&launcher->core->lock);
  launcher->core->kill_timeout = kill_timeout;
  g_mutex_unlock (&launcher->core->lock);

  g_object_notify_by_pspec (G_OBJECT (launcher), props[PROP_KILL_TIMEOUT]);
}

/**
 * q_task_launcher_run_async:
 * @launcher: a launcher
 * @request: what is asked for; if it is floating, it is sunk
 * @cancellable: (nullable): asks the task to stop
 * @callback: (nullable) (scope async) (closure user_data): called in the thread-default main
 *   context of the moment
 * @user_data: data for @callback
 *
 * Runs a task in a worker process, and gives its result to @callback. For progress or messages
 * make a [class@QTask.Task], and use [method@QTask.Task.run_in_process].
 *
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
q_task_launcher_run_async (QTaskLauncher *launcher,
                           GVariant *request,
                           GCancellable *cancellable,
                           GAsyncReadyCallback callback,
                           gpointer user_data)
{
  g_autoptr (QTask) task = NULL;

  g_return_if_fail (Q_IS_TASK_LAUNCHER (launcher));
  g_return_if_fail (request != NULL);
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = q_task_new_async (launcher, cancellable, callback, user_data);
  q_task_set_source_tag (task, q_task_launcher_run_async);
  q_task_set_run_cancelled (task, FALSE);
  q_task_run_in_process (task, launcher, request);
}

/**
 * q_task_launcher_run_finish:
 * @launcher: a launcher
 * @result: what the callback was given
 * @error: return location for an error
 *
 * Ends [method@QTask.TaskLauncher.run_async].
 *
 * Errors: that of the worker, if it has one; %G_IO_ERROR_CANCELLED if the cancellable was
 * cancelled; %Q_TASK_ERROR_CRASHED if the process died; %Q_TASK_ERROR_PROTOCOL if it does not
 * speak the protocol, or another version of it; %G_IO_ERROR_MESSAGE_TOO_LARGE if the request or
 * the result is over the limit; those of `G_SPAWN_ERROR`, or of `G_IO_ERROR`, if no process
 * could be started.
 *
 * May be called from the callback.
 *
 * Returns: (transfer full) (nullable): the result, or %NULL with @error set, or if the worker
 *   has set none
 *
 * Since: 1.0
 */
GVariant *
q_task_launcher_run_finish (QTaskLauncher *launcher,
                            GAsyncResult *result,
                            GError **error)
{
  g_return_val_if_fail (Q_IS_TASK_LAUNCHER (launcher), NULL);
  g_return_val_if_fail (q_task_is_valid (result, launcher), NULL);
  g_return_val_if_fail (g_async_result_is_tagged (result, q_task_launcher_run_async), NULL);

  return q_task_propagate_variant (Q_TASK (result), error);
}
