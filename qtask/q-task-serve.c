/* q-task-serve.c: the main loop of a worker process
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Takes requests, calls the function for each, and sends what came of it. All of it runs in the
 * thread that called q_task_serve(); what goes on meanwhile is in q-task-server.c.
 */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n-lib.h>
#include <stdlib.h>
#include <unistd.h>

#include "q-task-server-private.h"

static void
send_error (QTaskServer *server,
            const GError *error)
{
  g_autoptr (GByteArray) head = g_byte_array_new ();

  q_task_protocol_put_error (head, error);
  q_task_server_send (server, Q_TASK_FRAME_ERROR, head, NULL, 0);
}

/* Results */

/* What a result is as a variant, or NULL with @error set, or without for none. */
static GVariant *
ref_result (QTask *task,
            GError **error)
{
  QTaskPrivate *priv = q_task_get_private (task);
  guint word = q_task_get_word (priv);

  if ((word & Q_TASK_WORD_RESULT) == 0)
    return NULL;

  if (word & Q_TASK_WORD_VALUE)
    {
      const GValue *value = priv->result;
      GVariant *variant = NULL;

      switch (G_TYPE_FUNDAMENTAL (G_VALUE_TYPE (value)))
        {
        case G_TYPE_BOOLEAN:
          variant = g_variant_new_boolean (g_value_get_boolean (value));
          break;
        case G_TYPE_INT:
          variant = g_variant_new_int32 (g_value_get_int (value));
          break;
        case G_TYPE_UINT:
          variant = g_variant_new_uint32 (g_value_get_uint (value));
          break;
        case G_TYPE_LONG:
          variant = g_variant_new_int64 (g_value_get_long (value));
          break;
        case G_TYPE_ULONG:
          variant = g_variant_new_uint64 (g_value_get_ulong (value));
          break;
        case G_TYPE_INT64:
          variant = g_variant_new_int64 (g_value_get_int64 (value));
          break;
        case G_TYPE_UINT64:
          variant = g_variant_new_uint64 (g_value_get_uint64 (value));
          break;
        case G_TYPE_FLOAT:
          variant = g_variant_new_double (g_value_get_float (value));
          break;
        case G_TYPE_DOUBLE:
          variant = g_variant_new_double (g_value_get_double (value));
          break;
        case G_TYPE_STRING:
          if (g_value_get_string (value) != NULL &&
              g_utf8_validate (g_value_get_string (value), -1, NULL))
            variant = g_variant_new_string (g_value_get_string (value));
          break;
        case G_TYPE_VARIANT:
          variant = g_value_dup_variant (value);
          break;
        default:
          if (G_VALUE_HOLDS (value, G_TYPE_STRV) && g_value_get_boxed (value) != NULL)
            variant = g_variant_new_strv (g_value_get_boxed (value), -1);
        }

      if (variant != NULL)
        return g_variant_take_ref (variant);
    }
  else if (priv->result == NULL)
    {
      return NULL;
    }
  else if (priv->result_destroy == (GDestroyNotify) g_variant_unref)
    {
      return g_variant_ref (priv->result);
    }
  else if (priv->result_destroy == (GDestroyNotify) g_bytes_unref)
    {
      return g_variant_ref_sink (g_variant_new_from_bytes (G_VARIANT_TYPE_BYTESTRING, priv->result,
                                                           TRUE));
    }

  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                       _("The result of the worker is of a type that cannot be sent to another "
                         "process; set it with q_task_set_result_variant()"));

  return NULL;
}

/* The outcome of @task, which is over. */
static void
send_outcome (QTaskServer *server,
              QTask *task)
{
  const GError *task_error = q_task_get_error (task);
  g_autoptr (GVariant) result = NULL;
  g_autoptr (GByteArray) head = NULL;
  g_autoptr (GError) error = NULL;
  gsize size;

  if (task_error == NULL)
    result = ref_result (task, &error);

  if (result != NULL)
    {
      g_autoptr (GVariant) given = g_steal_pointer (&result);

      result = q_task_protocol_to_wire (given);
    }

  if (task_error == NULL && error == NULL)
    q_task_protocol_check_variant (result, server->max_message_size, &error);

  if (task_error != NULL || error != NULL)
    {
      send_error (server, task_error != NULL ? task_error : error);
      return;
    }

  head = g_byte_array_sized_new (32);
  q_task_protocol_put_result (head, result);
  size = result != NULL ? g_variant_get_size (result) : 0;
  q_task_server_send (server, Q_TASK_FRAME_RESULT, head, size > 0 ? g_variant_get_data (result) : NULL, size);
}

/* The serving thread */

static gboolean
call_func (QTask *task,
           gpointer request,
           GError **error)
{
  QTaskServer *server = (QTaskServer *) q_task_get_private (task)->runner;

  return server->func (task, request, server->opaque, error);
}

/* Runs the task that @frame asks for, and pops that. */
static void
run_task (QTaskServer *server,
          const QTaskWireFrame *frame)
{
  g_autoptr (QTask) task = NULL;
  g_autofree char *name = NULL;
  GVariant *request = NULL;
  GError *error = NULL;
  QTaskState state;
  gboolean failed;
  guint flags;

  if (!q_task_protocol_get_request (frame->data, frame->size, &flags, &name, &request, &error))
    {
      q_task_server_fail (server, error);
      return;
    }

  q_task_wire_decoder_pop (&server->peer.decoder, FALSE);

  /* Whether a cancel turns a result into an error is for the other side to say. */
  task = q_task_new_ownerless ();
  q_task_set_check_cancellable (task, FALSE);
  if (name != NULL)
    q_task_set_name (task, name);
  if (flags & Q_TASK_REQUEST_HAS_CHANNEL)
    q_task_server_open_channel (server, task);

  q_task_start (task, &server->runner, (GCallback) call_func, request,
                (GDestroyNotify) g_variant_unref, 0, NULL);
  server->runner.funcs->ref (&server->runner);

  q_task_server_begin (server, task);
  state = q_task_run_worker (task, &server->runner, &failed, &error);
  q_task_server_end (server);

  q_task_end_run (g_object_ref (task), error, state);

  if (server->channel != NULL)
    q_task_server_close_channel (server);
  q_task_server_send_progress (server, task);
  send_outcome (server, task);
  q_task_server_flush (server);
}

static void
serve (QTaskServer *server)
{
  g_autoptr (GByteArray) hello = g_byte_array_new ();
  QTaskWireFrame frame;

  q_task_protocol_put_hello (hello, G_MAXUINT32 - Q_TASK_PROTOCOL_OVERHEAD);
  q_task_server_send (server, Q_TASK_FRAME_HELLO, hello, NULL, 0);

  while (q_task_server_read (server, TRUE, &frame))
    {
      /* All else came too late for a task. */
      if (frame.type == Q_TASK_FRAME_REQUEST)
        run_task (server, &frame);
      else
        q_task_wire_decoder_pop (&server->peer.decoder, FALSE);
    }
}

/* The descriptors */

static const char *
get_program_name (void)
{
  return g_get_prgname () != NULL ? g_get_prgname () : "qtask";
}

static gboolean
take_inherited_fd (const char *text,
                   int *fd)
{
  guint64 number;

  if (!g_ascii_string_to_unsigned (text, 10, 0, G_MAXINT, &number, NULL))
    return FALSE;

  *fd = (int) number;
  g_unsetenv (Q_TASK_PROTOCOL_VARIABLE);

  return fcntl (*fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* Takes over the standard input and output: what is printed goes to the standard error from
 * now on, and what is read is empty. */
static gboolean
take_stdio (int *in_fd,
            int *out_fd)
{
  int null_fd;
  int flags;

  *in_fd = fcntl (STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  *out_fd = fcntl (STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  null_fd = open ("/dev/null", O_RDWR | O_CLOEXEC);

  if (*in_fd < 0 || *out_fd < 0 || null_fd < 0)
    return FALSE;

  dup2 (null_fd, STDIN_FILENO);
  if (fcntl (STDERR_FILENO, F_GETFD) < 0)
    dup2 (null_fd, STDERR_FILENO);
  dup2 (STDERR_FILENO, STDOUT_FILENO);
  if (null_fd > STDERR_FILENO)
    close (null_fd);

  flags = fcntl (*in_fd, F_GETFL);
  fcntl (*in_fd, F_SETFL, flags | O_NONBLOCK);
  flags = fcntl (*out_fd, F_GETFL);
  fcntl (*out_fd, F_SETFL, flags | O_NONBLOCK);

  return TRUE;
}

static gboolean
take_fds (int *in_fd,
          int *out_fd)
{
  const char *text = g_getenv (Q_TASK_PROTOCOL_VARIABLE);
  const char *name = get_program_name ();

  if (q_task_is_forked (NULL))
    {
      g_printerr (_("%s: a forked child cannot serve\n"), name);
      return FALSE;
    }

  if (text == NULL)
    {
      if (isatty (STDIN_FILENO))
        {
          g_printerr (_("%s: this is a worker, which another program starts\n"), name);
          return FALSE;
        }

      if (take_stdio (in_fd, out_fd))
        return TRUE;
    }
  else if (take_inherited_fd (text, in_fd))
    {
      *out_fd = *in_fd;
      return TRUE;
    }

  g_printerr (_("%s: the connection to the parent cannot be used: %s\n"), name, g_strerror (errno));

  return FALSE;
}

/**
 * q_task_serve:
 * @func: (scope notified) (closure opaque) (destroy destroy): does the work of a task
 * @opaque: (nullable): data for @func
 * @destroy: (nullable): frees @opaque, before this returns
 *
 * Serves the launcher that has started this process: calls @func for each of its requests, one
 * after the other, in the calling thread, until the launcher has no more or has gone. This is the
 * main loop of a worker program, which calls it once:
 *
 * ```c
 * static gboolean
 * worker (QTask *task, GVariant *request, gpointer opaque, GError **error)
 * {
 *   const char *path = g_variant_get_string (request, NULL);
 *   g_autofree char *contents = NULL;
 *
 *   if (!g_file_get_contents (path, &contents, NULL, error))
 *     return FALSE;
 *
 *   q_task_set_result_variant (task, g_variant_new_string (contents));
 *   return TRUE;
 * }
 *
 * int
 * main (void)
 * {
 *   return q_task_serve (worker, NULL, NULL);
 * }
 * ```
 *
 * The task that @func is given stands for the one of the launcher. It sets a result, with
 * [method@QTask.Task.set_result_variant] or any that makes a variant (of a boolean, a number, bytes
 * or a value of a simple type), or an error; [method@QTask.Task.set_progress] and the messages
 * of [method@QTask.Task.get_worker_channel], if the task has a channel, go there at once; and
 * [method@QTask.Task.is_cancelled] and [method@QTask.Task.get_stop_cancellable] tell when it is
 * to stop. Handlers of that cancellable are called in another thread.
 *
 * When the launcher goes away while @func runs, the task is asked to stop, and if @func has not
 * returned some seconds later, the process exits.
 *
 * With [enum@QTask.TaskTransport] `STDIO`, standard input and output are the connection, so what
 * the program prints from now on goes to the standard error.
 *
 * May be called from any thread, once.
 *
 * Returns: an exit status: 0 if the launcher has ended the conversation, 1 if there was none, or
 *   it is not to be understood
 *
 * Since: 1.0
 */
int
q_task_serve (QTaskServeFunc func,
              gpointer opaque,
              GDestroyNotify destroy)
{
  int status = EXIT_FAILURE;
  g_autoptr (GError) error = NULL;
  QTaskServer *server;
  int in_fd;
  int out_fd;

  g_return_val_if_fail (func != NULL, EXIT_FAILURE);

  g_type_class_unref (g_type_class_ref (Q_TYPE_TASK));

  server = q_task_server_new (func, opaque);

  if (take_fds (&in_fd, &out_fd))
    {
      if (q_task_server_open (server, in_fd, out_fd, &error))
        {
          serve (server);
          q_task_server_close (server);
          status = server->is_failed ? EXIT_FAILURE : EXIT_SUCCESS;
        }
      else
        {
          g_printerr ("%s: %s\n", get_program_name (), error->message);
        }
    }

  if (destroy != NULL)
    destroy (opaque);

  q_task_server_unref (server);

  return status;
}
