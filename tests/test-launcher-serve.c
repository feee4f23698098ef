/* test-launcher-serve.c: a worker process, and a parent that is not what it should be
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Here the program is at the other end of the bytes: it starts launcher-worker, and sends them. The
 * worker answers, or ends with a status; it never crashes, and never stays.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-launcher-util.h"

#include "qtask/q-task-protocol-private.h"

enum
{
  MESSAGE = 1,
  HELLO = 2,
  REQUEST = 3,
  CANCEL = 4,
  CREDIT = 5,
  PROGRESS = 6,
  RESULT = 7,
  ERROR = 8,
  END = 9
};

typedef struct
{
  GPid pid;
  int in_fd; /* what it says */
  int out_fd;
} Worker;

static void
start_worker (Worker *worker,
              QTaskTransport transport)
{
  g_autofree char *path = launcher_test_get_program ("launcher-worker");
  const char *argv[] = { path, NULL };
  g_auto (GStrv) environment = g_get_environ ();
  g_autoptr (GError) error = NULL;
  int target = 7;
  int fds[2];

  if (transport == Q_TASK_TRANSPORT_STDIO)
    {
      g_spawn_async_with_pipes_and_fds (NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL,
                                        NULL, NULL, -1, -1, -1, NULL, NULL, 0, &worker->pid, &worker->out_fd,
                                        &worker->in_fd, NULL, &error);
      g_assert_no_error (error);
      return;
    }

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  environment = g_environ_setenv (environment, "QTASK_FD", "7", TRUE);
  g_spawn_async_with_pipes_and_fds (NULL, argv, (const char *const *) environment,
                                    G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, -1, -1, -1,
                                    &fds[1], &target, 1, &worker->pid, NULL, NULL, NULL, &error);
  g_assert_no_error (error);
  close (fds[1]);
  worker->in_fd = worker->out_fd = fds[0];
}

/* It may have gone. */
static void
send_bytes (Worker *worker,
            gconstpointer data,
            gsize size)
{
  const guint8 *bytes = data;

  while (size > 0)
    {
      gssize n = write (worker->out_fd, bytes, size);

      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return;
      bytes += n;
      size -= (gsize) n;
    }
}

static void
send_frame (Worker *worker,
            guint8 type,
            gconstpointer data,
            gsize size)
{
  const guint8 header[] = { size, size >> 8, size >> 16, size >> 24, type };

  send_bytes (worker, header, sizeof header);
  send_bytes (worker, data, size);
}

static GByteArray *
new_request (const char *what,
             GVariant *with,
             guint flags)
{
  GByteArray *payload = g_byte_array_new ();
  g_autoptr (GVariant) request = g_variant_ref_sink (launcher_request (what, with));

  q_task_protocol_put_request (payload, flags, "name", request);
  g_byte_array_append (payload, g_variant_get_data (request), (guint) g_variant_get_size (request));

  return payload;
}

static void
send_request (Worker *worker,
              const char *what,
              guint flags)
{
  GByteArray *payload = new_request (what, NULL, flags);

  send_frame (worker, REQUEST, payload->data, payload->len);
  g_byte_array_unref (payload);
}

static void
send_hello (Worker *worker)
{
  g_autoptr (GByteArray) payload = g_byte_array_new ();

  q_task_protocol_put_hello (payload, 1000000);
  send_frame (worker, HELLO, payload->data, payload->len);
}

static gboolean
receive_bytes (Worker *worker,
               gpointer data,
               gsize size)
{
  guint8 *bytes = data;
  gint64 end_time = test_end_time ();

  while (size > 0)
    {
      struct pollfd fd = { .fd = worker->in_fd, .events = POLLIN };
      gssize n;

      if (poll (&fd, 1, 1000) <= 0)
        {
          g_assert_cmpint (g_get_monotonic_time (), <, end_time);
          continue;
        }
      n = read (worker->in_fd, bytes, size);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return FALSE;
      bytes += n;
      size -= (gsize) n;
    }

  return TRUE;
}

/* The next frame: 0 at the end */
static guint8
receive_frame (Worker *worker)
{
  guint8 header[5];
  g_autofree guint8 *payload = NULL;
  gsize size;

  if (!receive_bytes (worker, header, sizeof header))
    return 0;

  size = header[0] | (gsize) header[1] << 8 | (gsize) header[2] << 16 | (gsize) header[3] << 24;
  g_assert_cmpuint (size, <, 100000000);
  payload = g_malloc (size + 1);
  if (!receive_bytes (worker, payload, size))
    return 0;

  return header[4];
}

/* Closes the connection, and has the status; -1 for a signal */
static int
end_worker (Worker *worker)
{
  int status;

  close (worker->in_fd);
  if (worker->out_fd != worker->in_fd)
    close (worker->out_fd);
  test_poll_until (waitpid (worker->pid, &status, WNOHANG) == worker->pid);

  return WIFEXITED (status) ? WEXITSTATUS (status) : -1;
}

static void
test_serves (gconstpointer transport)
{
  Worker worker;

  start_worker (&worker, GPOINTER_TO_INT (transport));
  /* Neither waits for the other. */
  g_assert_cmpint (receive_frame (&worker), ==, HELLO);
  send_hello (&worker);
  send_request (&worker, "pid", 0);
  g_assert_cmpint (receive_frame (&worker), ==, RESULT);
  send_request (&worker, "false", 0);
  g_assert_cmpint (receive_frame (&worker), ==, ERROR);
  send_request (&worker, "talk", Q_TASK_REQUEST_HAS_CHANNEL);
  send_frame (&worker, MESSAGE, "text", 4);
  g_assert_cmpint (receive_frame (&worker), ==, CREDIT);
  g_assert_cmpint (receive_frame (&worker), ==, MESSAGE);
  send_frame (&worker, MESSAGE, "", 0);
  g_assert_cmpint (receive_frame (&worker), ==, CREDIT);
  g_assert_cmpint (receive_frame (&worker), ==, END);
  g_assert_cmpint (receive_frame (&worker), ==, RESULT);
  g_assert_cmpint (end_worker (&worker), ==, 0);
}

/* What is late for one task is nothing to the next. */
static void
test_late_frames (gconstpointer transport)
{
  Worker worker;

  start_worker (&worker, GPOINTER_TO_INT (transport));
  send_hello (&worker);
  g_assert_cmpint (receive_frame (&worker), ==, HELLO);
  for (int i = 0; i < 3; i++)
    {
      send_request (&worker, "pid", 0);
      g_assert_cmpint (receive_frame (&worker), ==, RESULT);
      send_frame (&worker, CANCEL, NULL, 0);
      send_frame (&worker, CANCEL, NULL, 0);
      send_frame (&worker, MESSAGE, "late", 4);
      send_frame (&worker, END, NULL, 0);
    }
  g_assert_cmpint (end_worker (&worker), ==, 0);
}

static void
test_parent_goes (gconstpointer transport)
{
  const char *kinds[] = { "sleep", "look" };

  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    {
      Worker worker;

      start_worker (&worker, GPOINTER_TO_INT (transport));
      send_hello (&worker);
      send_request (&worker, kinds[i], 0);
      g_assert_cmpint (receive_frame (&worker), ==, HELLO);
      g_assert_cmpint (receive_frame (&worker), ==, PROGRESS);
      g_assert_cmpint (end_worker (&worker), >=, 0);
    }
}

/* It reads nothing, and then it goes: a worker that has much to say does not stay. */
static void
test_parent_does_not_read (gconstpointer transport)
{
  Worker worker;
  GByteArray *payload = new_request ("big", g_variant_new_uint64 (900000), 0);
  GByteArray *other = new_request ("write", g_variant_new ("(uu)", 10000, 1000), Q_TASK_REQUEST_HAS_CHANNEL);

  for (int i = 0; i < 2; i++)
    {
      GByteArray *request = i == 0 ? payload : other;

      start_worker (&worker, GPOINTER_TO_INT (transport));
      send_hello (&worker);
      send_frame (&worker, REQUEST, request->data, request->len);
      g_assert_cmpint (receive_frame (&worker), ==, HELLO);
      g_usleep (10 * G_TIME_SPAN_MILLISECOND);
      g_assert_cmpint (end_worker (&worker), >=, 0);
    }

  g_byte_array_unref (payload);
  g_byte_array_unref (other);
}

static void
test_cut (gconstpointer transport)
{
  g_autoptr (GByteArray) all = g_byte_array_new ();
  g_autoptr (GByteArray) hello = g_byte_array_new ();
  g_autoptr (GByteArray) request = new_request ("pid", NULL, Q_TASK_REQUEST_HAS_CHANNEL);
  const guint8 hello_header[] = { 20, 0, 0, 0, HELLO };
  const guint8 request_header[] = { (guint8) request->len, 0, 0, 0, REQUEST };

  q_task_protocol_put_hello (hello, 1000000);
  g_byte_array_append (all, hello_header, 5);
  g_byte_array_append (all, hello->data, hello->len);
  g_byte_array_append (all, request_header, 5);
  g_byte_array_append (all, request->data, request->len);

  for (guint i = 0; i < all->len; i += test_scaled (1000) < 1000 ? 11 : 2)
    {
      Worker worker;

      start_worker (&worker, GPOINTER_TO_INT (transport));
      send_bytes (&worker, all->data, i);
      if (transport == GINT_TO_POINTER (Q_TASK_TRANSPORT_INHERITED_FD))
        shutdown (worker.out_fd, SHUT_WR);
      else
        {
          close (worker.out_fd);
          worker.out_fd = worker.in_fd;
        }
      g_assert_cmpint (receive_frame (&worker), ==, HELLO);
      g_assert_cmpint (receive_frame (&worker), ==, 0);
      g_assert_cmpint (end_worker (&worker), >=, 0);
    }
}

static void
test_other_version (void)
{
  const guint8 hello[] = "QTASK\r\n\032\2\0\0\0\0\0\0\4\0\0\0\0";
  Worker worker;

  start_worker (&worker, Q_TASK_TRANSPORT_INHERITED_FD);
  send_frame (&worker, HELLO, hello, 20);
  g_assert_cmpint (receive_frame (&worker), ==, HELLO);
  g_assert_cmpint (receive_frame (&worker), ==, 0);
  g_assert_cmpint (end_worker (&worker), ==, 1);
}

/* The parent sends what it must not; the worker ends with a status, and says why. */
static void
test_bad_frames (void)
{
  const struct
  {
    guint8 type;
    const char *data;
    gsize size;
  } frames[] = {
    { 0, "", 0 },
    { 200, "", 0 },
    { HELLO, "", 0 },
    { HELLO, "QTASK\r\n\032\1\0\0\0\0\0\0\4\0\0\0\0", 20 },
    { RESULT, "\0", 1 },
    { PROGRESS, "\0\0\0\0\0\0\0\0\0", 9 },
    { CREDIT, "\0\0\0\0", 4 },
    { REQUEST, "", 0 },
    { REQUEST, "\0\0\0\0\377\377\377\377", 8 },
    { REQUEST, "\0\0\0\0\0\0\0\0\1\0\0\0z", 13 },
    { REQUEST, "\0\0\0\0\0\0\0\0\1\0\0\0b\2", 14 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (frames); i++)
    {
      Worker worker;

      start_worker (&worker, Q_TASK_TRANSPORT_INHERITED_FD);
      send_hello (&worker);
      g_assert_cmpint (receive_frame (&worker), ==, HELLO);
      send_frame (&worker, frames[i].type, frames[i].data, frames[i].size);
      g_assert_cmpint (receive_frame (&worker), ==, 0);
      g_assert_cmpint (end_worker (&worker), ==, 1);
    }
}

/* A request comes while there is one already: it is told to stop, and goes. */
static void
test_request_during_a_task (void)
{
  Worker worker;
  guint8 type;

  start_worker (&worker, Q_TASK_TRANSPORT_INHERITED_FD);
  send_hello (&worker);
  send_request (&worker, "sleep", 0);
  g_assert_cmpint (receive_frame (&worker), ==, HELLO);
  g_assert_cmpint (receive_frame (&worker), ==, PROGRESS);
  send_request (&worker, "pid", 0);
  while ((type = receive_frame (&worker)) != 0)
    g_assert_cmpint (type, !=, RESULT);
  g_assert_cmpint (end_worker (&worker), ==, 1);
}

static void
test_oversize (void)
{
  const guint8 header[] = { 0xff, 0xff, 0xff, 0xff, REQUEST };
  Worker worker;

  /* Before the hello, and after it */
  for (int i = 0; i < 2; i++)
    {
      start_worker (&worker, Q_TASK_TRANSPORT_INHERITED_FD);
      if (i == 1)
        send_hello (&worker);
      send_bytes (&worker, header, sizeof header);
      g_assert_cmpint (receive_frame (&worker), ==, HELLO);
      g_assert_cmpint (receive_frame (&worker), ==, 0);
      g_assert_cmpint (end_worker (&worker), ==, 1);
    }
}

static void
test_garbage (void)
{
  for (int i = 0; i < MIN (test_scaled (60), 60); i++)
    {
      guint8 bytes[100];
      guint size = (guint) g_test_rand_int_range (1, sizeof bytes);
      Worker worker;

      for (guint j = 0; j < size; j++)
        bytes[j] = (guint8) g_test_rand_int ();
      if (i % 2 == 0)
        {
          bytes[0] = (guint8) (size / 3);
          bytes[1] = bytes[2] = bytes[3] = 0;
          bytes[4] = (guint8) g_test_rand_int_range (1, 10);
        }

      start_worker (&worker, i % 2);
      if (i % 3 > 0)
        send_hello (&worker);
      if (i % 3 > 1)
        send_request (&worker, "sleep", Q_TASK_REQUEST_HAS_CHANNEL);
      send_bytes (&worker, bytes, size);
      g_assert_cmpint (end_worker (&worker), >=, 0);
    }
}

/* What the variable says is no socket, or is none at all. */
static void
test_bad_variable (void)
{
  g_autofree char *path = launcher_test_get_program ("launcher-worker");
  const char *argv[] = { path, NULL };
  const char *values[] = { "", "x", "-1", "99", "4294967299", "3x" };

  for (guint i = 0; i < G_N_ELEMENTS (values); i++)
    {
      g_auto (GStrv) environment = g_environ_setenv (g_get_environ (), "QTASK_FD", values[i], TRUE);
      g_autofree char *said = NULL;
      g_autoptr (GError) error = NULL;
      int status;

      g_spawn_sync (NULL, (char **) argv, environment, G_SPAWN_DEFAULT, NULL, NULL, NULL, &said, &status, &error);
      g_assert_no_error (error);
      g_assert_true (WIFEXITED (status));
      g_assert_cmpint (WEXITSTATUS (status), ==, 1);
      g_assert_cmpstr (said, !=, "");
    }
}

int
main (int argc,
      char **argv)
{
  const struct
  {
    const char *name;
    GTestDataFunc func;
  } tests[] = {
    { "serves", test_serves },
    { "late-frames", test_late_frames },
    { "parent-goes", test_parent_goes },
    { "parent-does-not-read", test_parent_does_not_read },
    { "cut", test_cut },
  };

  signal (SIGPIPE, SIG_IGN);
  launcher_test_init (&argc, &argv);

  for (guint i = 0; i < G_N_ELEMENTS (tests); i++)
    {
      g_autofree char *path = g_strconcat ("/launcher/serve/", tests[i].name, NULL);
      g_autofree char *stdio_path = g_strconcat (path, "-stdio", NULL);

      launcher_test_add_data (path, GINT_TO_POINTER (Q_TASK_TRANSPORT_INHERITED_FD), tests[i].func);
      launcher_test_add_data (stdio_path, GINT_TO_POINTER (Q_TASK_TRANSPORT_STDIO), tests[i].func);
    }
  launcher_test_add ("/launcher/serve/other-version", test_other_version);
  launcher_test_add ("/launcher/serve/bad-frames", test_bad_frames);
  launcher_test_add ("/launcher/serve/request-during-a-task", test_request_during_a_task);
  launcher_test_add ("/launcher/serve/oversize", test_oversize);
  launcher_test_add ("/launcher/serve/garbage", test_garbage);
  launcher_test_add ("/launcher/serve/bad-variable", test_bad_variable);

  return g_test_run ();
}
