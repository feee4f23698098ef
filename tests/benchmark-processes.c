/* benchmark-processes.c: what worker processes cost
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A process is sent so many bytes, and sends them back. The peer "echo" is the least that a GLib
 * application can have: a child at the other end of a socket pair that reads and writes, and a parent
 * that writes, and waits for the answer in its main loop. That of "echo-blocking" blocks instead. The
 * other peers are a QTaskLauncher and its workers, in C, Python and JavaScript: there a task is made
 * for each request, and its callback called in the main loop. What answers to one request sends
 * the next, as an application does that has one after the other.
 *
 * The child is this program too; see bench_process_is_child().
 */

#include "benchmark-processes.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <qtask/qtask.h>

#define WARM_UP 500

/* Of the child */
#define ECHO_FD 3

typedef struct
{
  QTaskLauncher *launcher;
  GBytes *bytes;
  gsize n_left; /* requests that have no answer yet */

  /* Of the echo */
  int fd;
  GPid pid;
  gboolean is_loop;
  guint8 *buffer;
  gsize filled;
} Parent;

/* Blocks. */

static gboolean
read_all (int fd,
          guint8 *data,
          gsize size)
{
  while (size > 0)
    {
      gssize n = read (fd, data, size);

      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return FALSE;
      data += n;
      size -= (gsize) n;
    }

  return TRUE;
}

static gboolean
write_all (int fd,
           const guint8 *data,
           gsize size)
{
  while (size > 0)
    {
      gssize n = send (fd, data, size, MSG_NOSIGNAL);

      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return FALSE;
      data += n;
      size -= (gsize) n;
    }

  return TRUE;
}

/* Children */

/* A message is its length and so many bytes. */
static int
echo_main (void)
{
  guint8 *data = g_malloc (sizeof (guint32));
  guint32 size;

  while (read_all (ECHO_FD, (guint8 *) &size, sizeof size))
    {
      data = g_realloc (data, sizeof size + size);
      memcpy (data, &size, sizeof size);
      if (!read_all (ECHO_FD, data + sizeof size, size) ||
          !write_all (ECHO_FD, data, sizeof size + size))
        break;
    }
  g_free (data);

  return 0;
}

static gboolean
serve (QTask *task,
       GVariant *request,
       gpointer unused G_GNUC_UNUSED,
       GError **error G_GNUC_UNUSED)
{
  q_task_set_result_variant (task, request);

  return TRUE;
}

gboolean
bench_process_is_child (int argc,
                        char **argv,
                        int *status)
{
  if (argc != 2)
    return FALSE;

  if (g_str_equal (argv[1], "--echo"))
    *status = echo_main ();
  else if (g_str_equal (argv[1], "--serve"))
    *status = q_task_serve (serve, NULL, NULL);
  else
    return FALSE;

  return TRUE;
}

static char *
get_program (void)
{
  g_autoptr (GError) error = NULL;
  char *program = g_file_read_link ("/proc/self/exe", &error);

  if (program == NULL)
    bench_fail ("%s", error->message);

  return program;
}

/* The echo */

static void
echo_start (Parent *parent)
{
  g_autofree char *program = get_program ();
  const char *argv[] = { program, "--echo", NULL };
  g_autoptr (GError) error = NULL;
  int target = ECHO_FD;
  int fds[2];

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    bench_fail ("socketpair: %s", g_strerror (errno));
  if (!g_spawn_async_with_pipes_and_fds (NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, -1, -1, -1,
                                         &fds[1], &target, 1, &parent->pid, NULL, NULL, NULL, &error))
    bench_fail ("%s", error->message);
  close (fds[1]);
  parent->fd = fds[0];
}

static void
echo_end (Parent *parent)
{
  close (parent->fd);
  while (waitpid (parent->pid, NULL, 0) < 0 && errno == EINTR)
    ;
}

static void
echo_request (Parent *parent)
{
  gsize whole = sizeof (guint32) + g_bytes_get_size (parent->bytes);

  *(guint32 *) parent->buffer = (guint32) g_bytes_get_size (parent->bytes);
  memcpy (parent->buffer + sizeof (guint32), g_bytes_get_data (parent->bytes, NULL), whole - sizeof (guint32));
  parent->filled = 0;

  if (!write_all (parent->fd, parent->buffer, whole) ||
      (!parent->is_loop && !read_all (parent->fd, parent->buffer, whole)))
    bench_fail ("the echo has gone");
}

static gboolean
echo_ready_cb (int fd,
               GIOCondition condition G_GNUC_UNUSED,
               gpointer data)
{
  Parent *parent = data;
  gsize whole = sizeof (guint32) + g_bytes_get_size (parent->bytes);
  gssize n = recv (fd, parent->buffer + parent->filled, whole - parent->filled, MSG_DONTWAIT);

  if (n == 0 || (n < 0 && errno != EAGAIN))
    bench_fail ("recv: %s", n == 0 ? "the end" : g_strerror (errno));

  parent->filled += n > 0 ? (gsize) n : 0;
  if (parent->filled == whole && --parent->n_left > 0)
    echo_request (parent);

  return G_SOURCE_CONTINUE;
}

/* The launcher */

/* Of a worker of this program, or in another language */
static QTaskLauncher *
launcher_new (const char *peer)
{
#ifdef BENCHMARK_PYTHON
  const char *python_argv[] = { BENCHMARK_PYTHON, BENCHMARK_DIR "/benchmark-worker.py", NULL };
#endif
#ifdef BENCHMARK_GJS
  const char *gjs_argv[] = { BENCHMARK_GJS, "-m", BENCHMARK_DIR "/benchmark-worker.js", NULL };
#endif
  g_autofree char *program = get_program ();
  const char *c_argv[] = { program, "--serve", NULL };

#ifdef BENCHMARK_PYTHON
  if (g_str_equal (peer, "qtask-python"))
    return q_task_launcher_new (python_argv);
#endif
#ifdef BENCHMARK_GJS
  if (g_str_equal (peer, "qtask-gjs"))
    return q_task_launcher_new (gjs_argv);
#endif

  return q_task_launcher_new (c_argv);
}

static void
launcher_make (Parent *parent,
               const char *peer)
{
#ifdef BENCHMARK_TYPELIB_DIR
  g_setenv ("GI_TYPELIB_PATH", BENCHMARK_TYPELIB_DIR, TRUE);
  g_setenv ("LD_LIBRARY_PATH", BENCHMARK_TYPELIB_DIR, TRUE);
#endif

  parent->launcher = launcher_new (peer);
  q_task_launcher_set_max_processes (parent->launcher, 1);
}

static void launcher_request (Parent *parent);

static void
answered_cb (QTask *task,
             gpointer data)
{
  Parent *parent = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) result = q_task_propagate_variant (task, &error);

  if (result == NULL)
    bench_fail ("%s", error != NULL ? error->message : "there is no result");
  if (g_variant_get_size (result) != g_bytes_get_size (parent->bytes))
    bench_fail ("the result has another size");
  if (--parent->n_left > 0)
    launcher_request (parent);
}

static void
launcher_request (Parent *parent)
{
  g_autoptr (QTask) task = q_task_new (NULL, answered_cb, parent, NULL);

  q_task_run_in_process (task, parent->launcher,
                         g_variant_new_from_bytes (G_VARIANT_TYPE_BYTESTRING, parent->bytes, TRUE));
}

/* Measuring */

static gboolean
first_request_cb (gpointer data)
{
  Parent *parent = data;

  if (parent->launcher != NULL)
    launcher_request (parent);
  else
    echo_request (parent);

  return G_SOURCE_REMOVE;
}

static void
run_requests (Parent *parent,
              gsize n)
{
  if (parent->launcher == NULL && !parent->is_loop)
    {
      for (gsize i = 0; i < n; i++)
        echo_request (parent);
      return;
    }

  parent->n_left = n;
  g_idle_add (first_request_cb, parent);
  while (parent->n_left > 0)
    g_main_context_iteration (NULL, TRUE);
}

/* From the start of a process until it has answered for the first time; its end is not counted. */
static void
run_starts (Parent *parent,
            gsize n,
            const char *peer,
            double *metrics)
{
  gint64 total = 0;

  for (gsize i = 0; i < n + 1; i++)
    {
      gint64 start = bench_now ();

      if (g_str_equal (peer, "echo"))
        echo_start (parent);
      else
        launcher_make (parent, peer);
      run_requests (parent, 1);

      /* The first one finds nothing in the caches. */
      if (i > 0)
        total += bench_now () - start;

      if (parent->launcher != NULL)
        g_clear_object (&parent->launcher);
      else
        echo_end (parent);
    }

  metrics[BENCH_NS_PER_OP] = (double) total / n;
}

void
bench_process_run (const char *workload,
                   const BenchPeer *peer,
                   gsize n,
                   double *metrics)
{
  gboolean is_start = g_str_equal (workload, "process-start");
  gsize size = is_start ? 0 : g_ascii_strtoull (strrchr (workload, '-') + 1, NULL, 10);
  Parent parent = {
    .bytes = g_bytes_new_take (g_malloc0 (size + 1), size),
    .buffer = g_malloc0 (sizeof (guint32) + size),
    .is_loop = !is_start && g_str_equal (peer->name, "echo"),
  };
  gint64 start;
  gint64 cpu_start;

  if (is_start)
    {
      run_starts (&parent, n, peer->name, metrics);
      return;
    }

  if (g_str_has_prefix (peer->name, "qtask"))
    launcher_make (&parent, peer->name);
  else
    echo_start (&parent);
  if (parent.is_loop)
    g_unix_fd_add (parent.fd, G_IO_IN, echo_ready_cb, &parent);

  run_requests (&parent, MIN (n, WARM_UP));

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  run_requests (&parent, n);
  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n;
}
