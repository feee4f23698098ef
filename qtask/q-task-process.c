/* q-task-process.c: one worker process, from the side of its parent
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The parent end of a socket, and what is said there. Sending is done by whoever has something to
 * send, without blocking; what does not go at once is left to the manager. Reading is in
 * q-task-process-read.c.
 */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n-lib.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "q-task-process-private.h"

/* The number of the socket in the process */
#define CHILD_FD 3

/* How much of the standard error a message quotes */
#define STDERR_LINES 10

/* Setups */

void
q_task_process_setup_copy (QTaskProcessSetup *copy,
                           const QTaskProcessSetup *setup)
{
  *copy = *setup;
  copy->argv = g_strdupv (setup->argv);
  copy->environment = g_strdupv (setup->environment);
  copy->directory = g_strdup (setup->directory);
}

void
q_task_process_setup_clear (QTaskProcessSetup *setup)
{
  g_strfreev (setup->argv);
  g_strfreev (setup->environment);
  g_free (setup->directory);
}

/* Making and freeing */

QTaskProcess *
q_task_process_ref (QTaskProcess *process)
{
  g_atomic_int_inc (&process->ref_count);

  return process;
}

void
q_task_process_unref (QTaskProcess *process)
{
  if (!g_atomic_int_dec_and_test (&process->ref_count))
    return;

  g_assert (process->task == NULL);
  g_assert (process->source == NULL);
  g_assert (process->stalled_link == NULL);

  q_task_peer_clear (&process->peer);
  g_byte_array_unref (process->head);
  if (process->stderr_fd >= 0)
    close (process->stderr_fd);
  if (process->stderr_text != NULL)
    g_string_free (process->stderr_text, TRUE);
  g_clear_error (&process->failure);
  g_mutex_clear (&process->read_lock);
  g_free (process->name);
  q_task_launcher_core_unref (process->core);
  g_free (process);
}

static void
close_fd (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

/* Starts a process. Blocks for as long as the system takes to make one. */
QTaskProcess *
q_task_process_spawn (QTaskLauncherCore *core,
                      const QTaskProcessSetup *setup,
                      GError **error)
{
  g_auto (GStrv) environment = NULL;
  QTaskProcess *process;
  gboolean is_stdio = setup->transport == Q_TASK_TRANSPORT_STDIO;
  int fds[2] = { -1, -1 };
  int out_fd = -1;
  int stderr_fd = -1;
  int target_fd = CHILD_FD;
  gboolean spawned;
  GPid pid;

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
      (is_stdio && (out_fd = fcntl (fds[1], F_DUPFD_CLOEXEC, 3)) < 0))
    {
      int saved_errno = errno;

      close_fd (&fds[0]);
      close_fd (&fds[1]);
      g_set_error (error, G_IO_ERROR, g_io_error_from_errno (saved_errno),
                   _("No socket could be made for the worker process “%s”: %s"), setup->argv[0],
                      g_strerror (saved_errno));
      return NULL;
    }

  environment = setup->environment != NULL ? g_strdupv (setup->environment) : g_get_environ ();
  if (is_stdio)
    environment = g_environ_unsetenv (environment, Q_TASK_PROTOCOL_VARIABLE);
  else
    environment = g_environ_setenv (environment, Q_TASK_PROTOCOL_VARIABLE, G_STRINGIFY (CHILD_FD), TRUE);

  spawned = g_spawn_async_with_pipes_and_fds (setup->directory,
                                              (const char *const *) setup->argv,
                                              (const char *const *) environment,
                                              G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                                                G_SPAWN_CLOEXEC_PIPES,
                                              NULL, NULL,
                                              is_stdio ? fds[1] : -1,
                                              is_stdio ? out_fd : -1,
                                              -1,
                                              &fds[1], &target_fd, is_stdio ? 0 : 1,
                                              &pid, NULL, NULL,
                                              setup->capture_stderr ? &stderr_fd : NULL,
                                              error);
  close_fd (&fds[1]);
  close_fd (&out_fd);

  if (!spawned)
    {
      close_fd (&fds[0]);
      g_prefix_error (error, _("The worker process “%s” could not be started: "), setup->argv[0]);
      return NULL;
    }

  if (stderr_fd >= 0)
    fcntl (stderr_fd, F_SETFL, O_NONBLOCK);

  process = g_new0 (QTaskProcess, 1);
  process->ref_count = 1;
  process->core = q_task_launcher_core_ref (core);
  process->name = g_strdup (setup->argv[0]);
  process->max_message_size = setup->max_message_size;
  process->pid = pid;
  process->stderr_fd = stderr_fd;
  process->state = Q_TASK_PROCESS_IDLE;
  process->idle_since = g_get_monotonic_time ();
  process->head = g_byte_array_sized_new (128);
  g_mutex_init (&process->read_lock);
  q_task_peer_init (&process->peer, fds[0], fds[0], Q_TASK_FRAMES_FROM_WORKER,
                    setup->max_message_size + Q_TASK_PROTOCOL_OVERHEAD);

  return process;
}

/* Ends the connection; the socket is closed when no context polls it any more. To be called by the
 * manager, with no lock held. */
void
q_task_process_close (QTaskProcess *process)
{
  g_mutex_lock (&process->core->lock);
  process->source = NULL;
  process->is_owned = FALSE;
  g_mutex_unlock (&process->core->lock);

  /* Which the context sees that polls it, so that it lets go of its source. */
  g_mutex_lock (&process->read_lock);
  process->is_over = TRUE;
  q_task_process_drop_stalled_locked (process);
  q_task_peer_shut_down (&process->peer);
  g_mutex_unlock (&process->read_lock);
}

/* Looks whether it has ended: then its pid is 0. With the lock of the core. */
void
q_task_process_reap_locked (QTaskProcess *process)
{
  pid_t pid;

  if (process->pid == 0)
    return;

  do
    pid = waitpid (process->pid, &process->status, WNOHANG);
  while (pid < 0 && errno == EINTR);

  process->has_status = pid > 0;
  if (pid != 0)
    process->pid = 0;
}

/* Why it is gone */

/* Reads what there is, and keeps the end. To be called by the manager. */
void
q_task_process_read_stderr (QTaskProcess *process)
{
  char buffer[Q_TASK_PROCESS_STDERR_SIZE];
  GString *text;

  if (process->stderr_fd < 0)
    return;

  if (process->stderr_text == NULL)
    process->stderr_text = g_string_new (NULL);
  text = process->stderr_text;

  /* Not for ever, from one that writes faster than this reads. */
  for (int i = 0; i < 64; i++)
    {
      gssize n = read (process->stderr_fd, buffer, sizeof buffer);

      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
      if (n <= 0)
        {
          close_fd (&process->stderr_fd);
          return;
        }

      g_string_append_len (text, buffer, n);
      if (text->len > Q_TASK_PROCESS_STDERR_SIZE)
        g_string_erase (text, 0, text->len - Q_TASK_PROCESS_STDERR_SIZE);
    }
}

static char *
dup_last_lines (QTaskProcess *process)
{
  g_autofree char *text = NULL;
  char *start;

  if (process->stderr_text == NULL)
    return NULL;

  text = g_utf8_make_valid (process->stderr_text->str, process->stderr_text->len);
  g_strchomp (text);

  start = text + strlen (text);
  for (int n = 0; start > text; start--)
    if (start[-1] == '\n' && ++n == STDERR_LINES)
      break;

  return *start != '\0' ? g_strdup (start) : NULL;
}

/* To be called when it was reaped, and its standard error was read. */
GError *
q_task_process_new_error (QTaskProcess *process)
{
  g_autofree char *lines = dup_last_lines (process);
  g_autofree char *what = NULL;
  int status = process->status;
  GError *error;

  if (process->failure != NULL)
    {
      error = g_error_copy (process->failure);
      g_prefix_error (&error, _("The worker process “%s”: "), process->name);
    }
  else
    {
      if (!process->has_status)
        what = g_strdup (_("has ended, and somebody else has taken its exit status"));
      else if (WIFSIGNALED (status))
        what = g_strdup_printf (_("was killed by signal %d (%s)"), WTERMSIG (status),
                                   g_strsignal (WTERMSIG (status)));
      else if (process->has_hello)
        what = g_strdup_printf (_("exited with status %d during the task"), WEXITSTATUS (status));
      else
        what = g_strdup_printf (_("exited with status %d before it served any task"),
                                   WEXITSTATUS (status));

      error = g_error_new (Q_TASK_ERROR, Q_TASK_ERROR_CRASHED, _("The worker process “%s” %s"), process->name, what);
    }

  if (lines != NULL)
    {
      g_autofree char *message = g_steal_pointer (&error->message);

      error->message = g_strdup_printf (_("%s; it said:\n%s"), message, lines);
    }

  return error;
}

/* Sending */

/* The channel from which more may be sent now, or NULL. */
static QTaskChannel *
ref_open_channel_locked (QTaskProcess *process)
{
  QTaskChannel *channel;

  if (process->sending == NULL || process->sent_end || process->peer.is_broken ||
      g_atomic_int_get (&process->peer.is_pending) || process->window >= Q_TASK_PROTOCOL_WINDOW)
    return NULL;

  channel = q_task_get_worker_channel (process->sending);

  return channel != NULL ? g_object_ref (channel) : NULL;
}

/* Sends @message, or with NULL that the owner has closed its end. */
static void
send_message_locked (QTaskProcess *process,
                     GBytes *message)
{
  gconstpointer data;
  gsize size;

  if (message == NULL)
    {
      q_task_peer_send_locked (&process->peer, Q_TASK_FRAME_END, NULL, 0, NULL, 0);
      process->sent_end = TRUE;
      return;
    }

  /* The limit of the launcher was lowered after it was written. */
  data = g_bytes_get_data (message, &size);
  if (size > process->max_message_size)
    {
      q_task_set_new_error (process->sending, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
                            _("A message is larger than the limit of the launcher"));
      return;
    }

  process->window += size + 1;
  q_task_peer_send_locked (&process->peer, Q_TASK_FRAME_MESSAGE, NULL, 0, data, size);
}

/* Sends a message that the owner has written, or the end, if it can be. Returns whether it has. Who
 * reads from a channel makes room in it, and so may run what others wait with: no lock is held. */
static gboolean
pump_one (QTaskProcess *process)
{
  QTaskPeer *peer = &process->peer;
  g_autoptr (QTaskChannel) channel = NULL;
  g_autoptr (GBytes) message = NULL;
  g_autoptr (GError) error = NULL;

  g_mutex_lock (&peer->lock);
  channel = ref_open_channel_locked (process);
  g_mutex_unlock (&peer->lock);

  if (channel == NULL)
    return FALSE;

  message = q_task_channel_try_read (channel, &error);
  if (message == NULL && error != NULL)
    return FALSE;

  /* Its task may have ended meanwhile. */
  g_mutex_lock (&peer->lock);
  if (process->sending != NULL && q_task_get_worker_channel (process->sending) == channel)
    send_message_locked (process, message);
  g_mutex_unlock (&peer->lock);

  return TRUE;
}

/* Sends what the owner has written, as far as the process takes it in. May be called with no
 * lock held, from any thread, and while it is being called. */
void
q_task_process_pump (QTaskProcess *process)
{
  int n_pumps;

  /* Reading from a channel may tell of more to read. */
  if (g_atomic_int_add (&process->n_pumps, 1) > 0)
    return;

  do
    {
      n_pumps = g_atomic_int_get (&process->n_pumps);
      while (pump_one (process))
        ;
    }
  while (!g_atomic_int_compare_and_exchange (&process->n_pumps, n_pumps, 0));

  if (g_atomic_int_get (&process->peer.is_pending))
    q_task_launcher_core_wake (process->core);
}

/* There is something to read on the channel of @task. */
static void
channel_readable_cb (gpointer task)
{
  QTaskJob *job = q_task_get_private (task)->worker_data;
  QTaskLauncherCore *core = (QTaskLauncherCore *) q_task_get_private (task)->runner;
  QTaskProcess *process;

  g_mutex_lock (&core->lock);
  process = job->process != NULL ? q_task_process_ref (job->process) : NULL;
  g_mutex_unlock (&core->lock);

  if (process == NULL)
    return;

  q_task_process_pump (process);
  q_task_process_unref (process);
}

/* Sends what could not be sent before. */
void
q_task_process_flush (QTaskProcess *process)
{
  g_mutex_lock (&process->peer.lock);
  q_task_peer_flush_locked (&process->peer);
  g_mutex_unlock (&process->peer.lock);

  if (!g_atomic_int_get (&process->peer.is_pending))
    q_task_process_pump (process);
}

/* Has what the owner writes sent, once the task runs. */
void
q_task_process_watch_channel (QTask *task)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);

  if (channel != NULL)
    q_task_channel_set_notify (channel, channel_readable_cb, task);
}

void
q_task_process_unwatch_channel (QTask *task)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);

  if (channel != NULL)
    q_task_channel_set_notify (channel, NULL, NULL);
}

/* What the owner writes must fit into a frame, and what the worker writes fits anyway. Nobody is
 * notified of it: this may be any thread. */
static void
limit_channel (QTaskProcess *process,
               QTask *task,
               QTaskChannel *worker_channel)
{
  QTaskLink *link = q_task_channel_get_link (q_task_get_channel (task));
  QTaskLink *worker_link = q_task_channel_get_link (worker_channel);

  if (q_task_link_get_max_message_size (link) > process->max_message_size)
    q_task_link_set_max_message_size (link, process->max_message_size);
  if (q_task_link_get_max_message_size (worker_link) < process->max_message_size)
    q_task_link_set_max_message_size (worker_link, process->max_message_size);
}

/* The process does not have the task any more, whose run the caller has now. */
void
q_task_process_take_task_locked (QTaskProcess *process,
                                 QTask *task)
{
  g_assert (process->task == task);

  ((QTaskJob *) q_task_get_private (task)->worker_data)->process = NULL;
  process->task = NULL;
  process->is_asked = FALSE;

  /* One that is to go has its time for that. */
  if (process->state != Q_TASK_PROCESS_GONE)
    process->kill_at = 0;
}

/* Sends the request of @task. Returns whether that went, in whole or in part, or waits to; if not,
 * the process has ended. */
static gboolean
send_request (QTaskProcess *process,
              QTask *task,
              GVariant *request)
{
  QTaskPeer *peer = &process->peer;
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GByteArray *head = process->head;
  gsize size = g_variant_get_size (request);
  gboolean is_sent;

  if (channel != NULL)
    limit_channel (process, task, channel);

  g_mutex_lock (&peer->lock);

  g_byte_array_set_size (head, 0);

  if (!process->sent_hello)
    {
      q_task_protocol_put_hello (head, process->max_message_size);
      q_task_peer_send_locked (peer, Q_TASK_FRAME_HELLO, head->data, head->len, NULL, 0);
      g_byte_array_set_size (head, 0);
      process->sent_hello = TRUE;
    }

  q_task_protocol_put_request (head, channel != NULL ? Q_TASK_REQUEST_HAS_CHANNEL : 0,
                               q_task_get_name (task), request);

  is_sent = q_task_peer_send_locked (peer, Q_TASK_FRAME_REQUEST, head->data, head->len,
                                     size > 0 ? g_variant_get_data (request) : NULL, size);
  if (is_sent)
    process->sending = task;
  process->window = 0;
  process->sent_end = FALSE;

  g_mutex_unlock (&peer->lock);

  return is_sent;
}

typedef enum
{
  START_SENT,
  START_OVER, /* stopped on its way here, or no request for this process */
  START_LOST  /* the process has ended before it heard of the task */
} StartResult;

static StartResult
start_task (QTaskProcess *process,
            QTask *task,
            QTaskProcessEnd *end)
{
  QTaskPrivate *priv = q_task_get_private (task);
  GVariant *request = ((QTaskJob *) priv->worker_data)->request;

  if (!q_task_set_running (task))
    return START_OVER;

  /* The limit of the launcher may have been lowered before the process was started. */
  if (!q_task_protocol_check_variant (request, process->max_message_size, &end->error))
    return START_OVER;

  if (!send_request (process, task, request))
    return START_LOST;

  return START_SENT;
}

/* Starts @task, which the process was given. Takes a reference to it, besides that of the run. If it
 * returns FALSE, the process does not have it any more. To be called with no lock held. */
gboolean
q_task_process_start_task (QTaskProcess *process,
                           QTask *given_task)
{
  QTaskLauncherCore *core = process->core;
  g_autoptr (QTask) task = given_task;
  QTaskPrivate *priv = q_task_get_private (task);
  QTaskProcessEnd end = { 0 };
  StartResult result = start_task (process, task, &end);

  g_mutex_lock (&core->lock);

  /* One that served before, and died while it idled, costs nobody an outcome; any other may not
   * be able to start at all. */
  if (result == START_LOST && process->n_tasks == 0)
    result = START_SENT;

  /* What was sent may have been answered already, and the process have another task, which somebody
   * else is starting. */
  if (result != START_LOST && (process->task == task || process->task == NULL))
    process->is_starting = FALSE;
  if (result != START_SENT)
    q_task_process_take_task_locked (process, task);
  if (process->state == Q_TASK_PROCESS_GONE)
    q_task_launcher_core_wake_locked (core);

  g_mutex_unlock (&core->lock);

  switch (result)
    {
    case START_OVER:
      q_task_launcher_core_finish (core, task, end, FALSE);
      return FALSE;

    case START_LOST:
      /* The process stays until the task is in the queue: with neither, the manager of a launcher that
       * was dropped ends. */
      q_task_launcher_core_requeue (core, task);
      g_mutex_lock (&core->lock);
      q_task_launcher_core_retire_locked (process);
      process->is_starting = FALSE;
      q_task_launcher_core_wake_locked (core);
      g_mutex_unlock (&core->lock);
      return FALSE;

    case START_SENT:
    default:
      break;
    }

  if (q_task_get_worker_channel (task) != NULL)
    q_task_process_pump (process);

  if (g_atomic_int_get (&process->peer.is_pending))
    q_task_launcher_core_wake (core);

  if (G_UNLIKELY (q_task_dispatch_is_lost (priv->dispatch)))
    q_task_request_stop (task, Q_TASK_STOP_LOST);

  /* Asked to stop before it could be told. */
  if (q_task_get_word (priv) & Q_TASK_WORD_STOP)
    q_task_process_cancel_task (process, task);

  return TRUE;
}

/* Asks the task to stop, if the process has it; the manager kills the process when that does
 * not help. */
void
q_task_process_cancel_task (QTaskProcess *process,
                            QTask *task)
{
  QTaskLauncherCore *core = process->core;
  QTaskPeer *peer = &process->peer;
  gboolean is_asked = FALSE;

  g_mutex_lock (&core->lock);
  if (process->task == task && process->state == Q_TASK_PROCESS_BUSY)
    {
      if (!process->is_asked && core->kill_timeout >= 0)
        process->kill_at = q_task_add_timeout (g_get_monotonic_time (), core->kill_timeout);
      process->is_asked = is_asked = TRUE;
    }
  g_mutex_unlock (&core->lock);

  if (!is_asked)
    return;

  /* Its channel is not to hold it up any more. */
  g_atomic_int_set (&process->has_more, TRUE);

  g_mutex_lock (&peer->lock);
  if (process->sending == task)
    q_task_peer_send_locked (peer, Q_TASK_FRAME_CANCEL, NULL, 0, NULL, 0);
  g_mutex_unlock (&peer->lock);

  q_task_launcher_core_wake (core);
}
