/* launcher-worker.c: a worker process that behaves, and one that does not
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A request is (sv): what to do, and with what. All is done by what the task in the worker
 * process has, as a worker in a thread would.
 */

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <qtask/qtask.h>

typedef gboolean (*Kind) (QTask *task,
                          GVariant *with,
                          GError **error);

static guint n_served;

static gboolean
do_echo (QTask *task,
         GVariant *with,
         GError **error)
{
  q_task_set_result_variant (task, with);

  return TRUE;
}

static gboolean
do_pid (QTask *task,
        GVariant *with,
        GError **error)
{
  q_task_set_result_variant (task, g_variant_new_int32 (getpid ()));

  return TRUE;
}

static gboolean
do_count (QTask *task,
          GVariant *with,
          GError **error)
{
  q_task_set_result_variant (task, g_variant_new_uint32 (n_served));

  return TRUE;
}

static gboolean
do_name (QTask *task,
         GVariant *with,
         GError **error)
{
  q_task_set_result_variant (task, g_variant_new_string (q_task_get_name (task) != NULL ? q_task_get_name (task) : ""));

  return TRUE;
}

static gboolean
do_environment (QTask *task,
                GVariant *with,
                GError **error)
{
  const char *value = g_getenv (g_variant_get_string (with, NULL));

  q_task_set_result_variant (task, g_variant_new_string (value != NULL ? value : ""));

  return TRUE;
}

static gboolean
do_directory (QTask *task,
              GVariant *with,
              GError **error)
{
  g_autofree char *directory = g_get_current_dir ();

  q_task_set_result_variant (task, g_variant_new_string (directory));

  return TRUE;
}

/* What it has open beyond the three, and closes at an exec if it starts a program */
static gboolean
do_descriptors (QTask *task,
                GVariant *with,
                GError **error)
{
  GVariantBuilder builder;
  const struct dirent *entry;
  DIR *dir = opendir ("/proc/self/fd");

  g_variant_builder_init (&builder, G_VARIANT_TYPE ("as"));
  while ((entry = readdir (dir)) != NULL)
    {
      g_autofree char *path = g_strconcat ("/proc/self/fd/", entry->d_name, NULL);
      g_autofree char *target = g_file_read_link (path, NULL);

      if (target != NULL && atoi (entry->d_name) > 2 && atoi (entry->d_name) != dirfd (dir))
        g_variant_builder_add (&builder, "s", target);
    }
  closedir (dir);
  q_task_set_result_variant (task, g_variant_builder_end (&builder));

  return TRUE;
}

/* (u) times, from nothing to all */
static gboolean
do_progress (QTask *task,
             GVariant *with,
             GError **error)
{
  guint32 n = g_variant_get_uint32 (with);

  for (guint32 i = 1; i <= n; i++)
    {
      g_autofree char *text = g_strdup_printf ("%u of %u", i, n);

      q_task_set_progress (task, (double) i / n, text);
    }

  return TRUE;
}

/* Sends back what comes, until the end; the result is how much that was. An empty message ends it
 * too, and what comes later is not read. */
static gboolean
do_talk (QTask *task,
         GVariant *with,
         GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);
  guint32 n = 0;

  for (;;)
    {
      GError *read_error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (channel, stop, &read_error);

      if (read_error != NULL)
        {
          g_propagate_error (error, read_error);
          return FALSE;
        }
      if (message == NULL || g_bytes_get_size (message) == 0)
        break;
      if (!q_task_channel_write_bytes (channel, message, stop, error))
        return FALSE;
      n++;
    }

  q_task_set_result_variant (task, g_variant_new_uint32 (n));

  return TRUE;
}

/* (uu): how many messages of which size it writes. Each begins with its number. */
static gboolean
do_write (QTask *task,
          GVariant *with,
          GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);
  guint32 n;
  guint32 size;

  g_variant_get (with, "(uu)", &n, &size);
  size = MAX (size, sizeof n);

  for (guint32 i = 0; i < n; i++)
    {
      g_autofree guint8 *data = g_malloc0 (size);

      memcpy (data, &i, sizeof i);
      if (!q_task_channel_write (channel, data, size, stop, error))
        return FALSE;
    }

  return TRUE;
}

/* Reads (u) messages, and is done */
static gboolean
do_read (QTask *task,
         GVariant *with,
         GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  gsize size = 0;

  for (guint32 i = 0; i < g_variant_get_uint32 (with); i++)
    {
      g_autoptr (GBytes) message = q_task_channel_read (channel, q_task_get_stop_cancellable (task), error);

      if (message == NULL)
        return FALSE;
      size += g_bytes_get_size (message);
    }

  q_task_set_result_variant (task, g_variant_new_uint64 (size));

  return TRUE;
}

/* Closes its end, and goes on until the owner has closed the other */
static gboolean
do_close (QTask *task,
          GVariant *with,
          GError **error)
{
  q_task_channel_write (q_task_get_worker_channel (task), "last", 4, NULL, NULL);
  q_task_channel_close (q_task_get_worker_channel (task));
  q_task_set_progress (task, 0.5, NULL);

  return TRUE;
}

static gboolean
do_has_channel (QTask *task,
                GVariant *with,
                GError **error)
{
  q_task_set_result_variant (task, g_variant_new_boolean (q_task_get_worker_channel (task) != NULL));

  return TRUE;
}

/* (sis): domain, code and message */
static gboolean
do_fail (QTask *task,
         GVariant *with,
         GError **error)
{
  const char *domain;
  const char *message;
  int code;

  g_variant_get (with, "(&si&s)", &domain, &code, &message);
  g_set_error_literal (error, g_quark_from_string (domain), code, message);

  return FALSE;
}

/* The same, on the task, and then it says that all went well */
static gboolean
do_set_error (QTask *task,
              GVariant *with,
              GError **error)
{
  q_task_set_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_EMPTY, "%s", g_variant_get_string (with, NULL));

  return TRUE;
}

static gboolean
do_false (QTask *task,
          GVariant *with,
          GError **error)
{
  q_task_set_result_variant (task, g_variant_new_string ("not to be seen"));

  return FALSE;
}

static gboolean
do_nothing (QTask *task,
            GVariant *with,
            GError **error)
{
  return TRUE;
}

/* (s): a kind of result that is no variant */
static gboolean
do_result (QTask *task,
           GVariant *with,
           GError **error)
{
  const char *type = g_variant_get_string (with, NULL);
  g_auto (GValue) value = G_VALUE_INIT;
  g_autoptr (GBytes) bytes = g_bytes_new ("\0\1\2", 3);
  g_autoptr (GObject) object = NULL;

  if (g_str_equal (type, "int"))
    {
      q_task_set_result_int (task, -42);
    }
  else if (g_str_equal (type, "boolean"))
    {
      q_task_set_result_boolean (task, TRUE);
    }
  else if (g_str_equal (type, "zero"))
    {
      q_task_set_result_int (task, 0);
    }
  else if (g_str_equal (type, "no"))
    {
      q_task_set_result_boolean (task, FALSE);
    }
  else if (g_str_equal (type, "bytes"))
    {
      q_task_set_result_bytes (task, bytes);
    }
  else if (g_str_equal (type, "string-value"))
    {
      g_value_init (&value, G_TYPE_STRING);
      g_value_set_string (&value, "text");
      q_task_set_result_value (task, &value);
    }
  else if (g_str_equal (type, "double-value"))
    {
      g_value_init (&value, G_TYPE_DOUBLE);
      g_value_set_double (&value, 0.25);
      q_task_set_result_value (task, &value);
    }
  else if (g_str_equal (type, "object"))
    {
      object = g_object_new (G_TYPE_OBJECT, NULL);
      q_task_set_result_object (task, object);
    }
  else if (g_str_equal (type, "pointer"))
    {
      q_task_set_result_pointer (task, g_strdup ("text"), g_free);
    }

  return TRUE;
}

/* (t): so many bytes */
static gboolean
do_big (QTask *task,
        GVariant *with,
        GError **error)
{
  gsize size = g_variant_get_uint64 (with);
  g_autoptr (GBytes) bytes = g_bytes_new_take (g_malloc0 (size), size);

  q_task_set_result_variant (task, g_variant_new_from_bytes (G_VARIANT_TYPE ("ay"), bytes, TRUE));

  return TRUE;
}

/* Says by its progress that it runs, and stops when it is asked to */
static gboolean
do_sleep (QTask *task,
          GVariant *with,
          GError **error)
{
  GCancellable *stop = q_task_get_stop_cancellable (task);
  GPollFD fd;

  q_task_set_progress (task, 0.5, NULL);

  if (g_cancellable_make_pollfd (stop, &fd))
    {
      while (!g_cancellable_is_cancelled (stop))
        g_poll (&fd, 1, -1);
      g_cancellable_release_fd (stop);
    }

  return !g_cancellable_set_error_if_cancelled (stop, error);
}

/* The same by looking now and then */
static gboolean
do_look (QTask *task,
         GVariant *with,
         GError **error)
{
  q_task_set_progress (task, 0.5, NULL);

  while (!q_task_is_cancelled (task))
    g_usleep (500);

  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "It was seen by looking");

  return FALSE;
}

/* Stops when it is asked to, and has a result nevertheless */
static gboolean
do_finish_when_asked (QTask *task,
                      GVariant *with,
                      GError **error)
{
  q_task_set_progress (task, 0.5, NULL);

  while (!q_task_is_cancelled (task))
    g_usleep (500);

  q_task_set_result_variant (task, g_variant_new_string ("done"));

  return TRUE;
}

static gboolean
do_ignore (QTask *task,
           GVariant *with,
           GError **error)
{
  q_task_set_progress (task, 0.5, NULL);

  for (;;)
    pause ();

  return TRUE;
}

/* (t): microseconds of a processor */
static gboolean
do_spin (QTask *task,
         GVariant *with,
         GError **error)
{
  gint64 end = g_get_monotonic_time () + (gint64) g_variant_get_uint64 (with);

  while (g_get_monotonic_time () < end)
    if (g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error))
      return FALSE;

  return TRUE;
}

/* (i): dies of a signal */
static gboolean
do_crash (QTask *task,
          GVariant *with,
          GError **error)
{
  int number = g_variant_get_int32 (with);

  /* Sanitizers handle some of them. */
  signal (number, SIG_DFL);
  raise (number);

  return TRUE;
}

/* (is): exits with a status, and says why */
static gboolean
do_exit (QTask *task,
         GVariant *with,
         GError **error)
{
  const char *text;
  int status;

  g_variant_get (with, "(i&s)", &status, &text);
  fputs (text, stderr);
  fflush (stderr);
  _exit (status);
}

/* (s): to what others think is the standard output, by all ways; and what is to be read there */
static gboolean
do_print (QTask *task,
          GVariant *with,
          GError **error)
{
  const char *text = g_variant_get_string (with, NULL);
  char buffer[16];
  gssize n;

  printf ("%s\n", text);
  fflush (stdout);
  g_print ("%s\n", text);
  if (write (STDOUT_FILENO, text, strlen (text)) < 0)
    abort ();
  n = read (STDIN_FILENO, buffer, sizeof buffer);
  q_task_set_result_variant (task, g_variant_new_int64 (n));

  return TRUE;
}

/* Starts a program that outlives it, tells the number of that, and dies */
static gboolean
do_orphan (QTask *task,
           GVariant *with,
           GError **error)
{
  const char *argv[] = { "sleep", "60", NULL };
  g_autofree char *text = NULL;
  GPid pid;

  if (!g_spawn_async (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                      NULL, &pid, error))
    return FALSE;

  text = g_strdup_printf ("%d", (int) pid);
  q_task_set_progress (task, 0.5, text);
  g_usleep (20 * G_TIME_SPAN_MILLISECOND);
  _exit (7);
}

static const struct
{
  const char *name;
  Kind kind;
} kinds[] = {
  { "big", do_big },
  { "close", do_close },
  { "count", do_count },
  { "crash", do_crash },
  { "descriptors", do_descriptors },
  { "directory", do_directory },
  { "echo", do_echo },
  { "environment", do_environment },
  { "exit", do_exit },
  { "fail", do_fail },
  { "false", do_false },
  { "finish-when-asked", do_finish_when_asked },
  { "has-channel", do_has_channel },
  { "ignore", do_ignore },
  { "look", do_look },
  { "name", do_name },
  { "nothing", do_nothing },
  { "orphan", do_orphan },
  { "pid", do_pid },
  { "print", do_print },
  { "progress", do_progress },
  { "read", do_read },
  { "result", do_result },
  { "set-error", do_set_error },
  { "sleep", do_sleep },
  { "spin", do_spin },
  { "talk", do_talk },
  { "write", do_write },
};

static gboolean
serve (QTask *task,
       GVariant *request,
       gpointer data,
       GError **error)
{
  g_autofree char *name = NULL;
  g_autoptr (GVariant) with = NULL;

  g_assert (data == kinds);
  n_served++;

  if (!g_variant_is_of_type (request, G_VARIANT_TYPE ("(sv)")))
    {
      q_task_set_result_variant (task, request);
      return TRUE;
    }

  g_variant_get (request, "(sv)", &name, &with);
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (g_str_equal (name, kinds[i].name))
      return kinds[i].kind (task, with, error);

  g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "Unknown: %s", name);

  return FALSE;
}

static void
destroy_cb (gpointer data)
{
  const char *path = g_getenv ("LAUNCHER_WORKER_ENDS");

  g_assert (data == kinds);
  if (path != NULL)
    g_file_set_contents (path, "destroyed", -1, NULL);
}

int
main (int argc,
      char **argv)
{
  return q_task_serve (serve, (gpointer) kinds, destroy_cb);
}
