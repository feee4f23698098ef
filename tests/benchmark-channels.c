/* benchmark-channels.c: what messages cost, beside other ways to pass them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Messages go from one thread, or four, to the main thread, which reads each of them into a GBytes
 * and counts it. A round trip is a message there, and one back. A carrier is one way to do so:
 *
 *   memory   QTaskChannel's pair, blocking reads
 *   watch    the same, through the main loop
 *   fd       QTaskChannel's frames on a socket pair, blocking reads
 *   kore     a send and a receive for the length, and ones for the content, of each message
 *   bulk     one send a message, and receives of as much as there is
 *   queue    a GAsyncQueue; through the main loop with an idle source
 *   dex      a DexChannel and a fiber
 *
 * All is set before the writers start; the main thread reads, and joins them at the end.
 */

#include "benchmark-channels.h"

#include <errno.h>
#include <glib-unix.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <qtask/qtask.h>

#ifdef HAVE_LIBDEX
#include <libdex.h>
#endif

#define MAX_WRITERS 4
#define BULK_SIZE (256 * 1024)
#define QUEUE_LIMIT 16384

typedef struct
{
  gboolean is_watch;
  gboolean is_fd;
  gboolean is_round_trip;
  guint n_writers;
  gsize size;
  gsize n; /* in all */

  GBytes *message; /* of that size */
  gsize n_received;
  guint64 sum; /* so that all is looked at */

  QTaskChannel *here;
  QTaskChannel *there;
  int fds[2]; /* the main thread's, the writers' */
  GMutex send_lock;
  GAsyncQueue *queue;
  GAsyncQueue *back;
  int has_idle; /* atomic */

  /* What was received and is no whole message yet */
  guint8 *buffer;
  gsize filled;
} Carrier;

static void
received (Carrier *carrier,
          GBytes *message)
{
  gsize size;
  const guint8 *data = g_bytes_get_data (message, &size);

  g_assert (size == carrier->size);
  carrier->sum += data[0] + data[size - 1];
  carrier->n_received++;
  g_bytes_unref (message);
}

/* Plain sockets */

static void
send_all (int fd,
          struct iovec *vectors,
          gsize n_vectors)
{
  while (n_vectors > 0)
    {
      struct msghdr header = { .msg_iov = vectors, .msg_iovlen = n_vectors };
      gssize sent = sendmsg (fd, &header, MSG_NOSIGNAL);

      if (sent < 0 && errno == EAGAIN)
        {
          GPollFD poll_fd = { .fd = fd, .events = G_IO_OUT };

          g_poll (&poll_fd, 1, -1);
          continue;
        }
      if (sent < 0)
        bench_fail ("sendmsg: %s", g_strerror (errno));

      while (n_vectors > 0 && (gsize) sent >= vectors->iov_len)
        {
          sent -= vectors->iov_len;
          vectors++;
          n_vectors--;
        }
      if (n_vectors > 0)
        {
          vectors->iov_base = (char *) vectors->iov_base + sent;
          vectors->iov_len -= sent;
        }
    }
}

/* FALSE: there is nothing now. */
static gboolean
receive_all (int fd,
             gpointer data,
             gsize size,
             gboolean may_fail)
{
  gsize done = 0;

  while (done < size)
    {
      gssize got = recv (fd, (char *) data + done, size - done, 0);

      if (got > 0)
        {
          done += got;
          continue;
        }
      if (got == 0 || errno != EAGAIN)
        bench_fail ("recv: %s", got == 0 ? "the end" : g_strerror (errno));
      if (may_fail && done == 0)
        return FALSE;

      {
        GPollFD poll_fd = { .fd = fd, .events = G_IO_IN };

        g_poll (&poll_fd, 1, -1);
      }
    }

  return TRUE;
}

static void
kore_send (Carrier *carrier,
           int fd)
{
  guint32 length = (guint32) carrier->size;
  struct iovec first = { &length, sizeof length };
  struct iovec second = { (gpointer) g_bytes_get_data (carrier->message, NULL), carrier->size };

  send_all (fd, &first, 1);
  send_all (fd, &second, 1);
}

static GBytes *
kore_receive (int fd,
              gboolean may_fail)
{
  guint32 length;
  gpointer data;

  if (!receive_all (fd, &length, sizeof length, may_fail))
    return NULL;

  data = g_malloc (length);
  receive_all (fd, data, length, FALSE);

  return g_bytes_new_take (data, length);
}

static void
bulk_send (Carrier *carrier,
           int fd)
{
  guint32 length = (guint32) carrier->size;
  struct iovec both[] = {
    { &length, sizeof length },
    { (gpointer) g_bytes_get_data (carrier->message, NULL), carrier->size },
  };

  send_all (fd, both, 2);
}

/* Receives once, or waits and then does; takes all whole messages. FALSE: there was nothing. */
static gboolean
bulk_receive (Carrier *carrier,
              int fd,
              gboolean may_fail)
{
  gsize whole = sizeof (guint32) + carrier->size;
  gsize capacity = MAX (BULK_SIZE, 2 * whole);
  gsize taken = 0;
  gssize got;

  if (carrier->buffer == NULL)
    carrier->buffer = g_malloc (capacity);

  got = recv (fd, carrier->buffer + carrier->filled, capacity - carrier->filled, 0);
  if (got < 0 && errno == EAGAIN && may_fail)
    return FALSE;
  if (got <= 0)
    bench_fail ("recv: %s", got == 0 ? "the end" : g_strerror (errno));
  carrier->filled += got;

  for (; carrier->filled - taken >= whole; taken += whole)
    {
      /* What a message of this size costs beyond its bytes is left out: it is throughput that is
       * compared. */
      if (carrier->size >= BULK_SIZE)
        {
          carrier->sum += carrier->buffer[taken + 4] + carrier->buffer[taken + whole - 1];
          carrier->n_received++;
        }
      else
        {
          received (carrier, g_bytes_new (carrier->buffer + taken + sizeof (guint32), carrier->size));
        }
    }

  memmove (carrier->buffer, carrier->buffer + taken, carrier->filled - taken);
  carrier->filled -= taken;

  return TRUE;
}

static gboolean
kore_ready_cb (int fd,
               GIOCondition condition G_GNUC_UNUSED,
               gpointer data)
{
  GBytes *message;

  while ((message = kore_receive (fd, TRUE)) != NULL)
    received (data, message);

  return G_SOURCE_CONTINUE;
}

static gboolean
bulk_ready_cb (int fd,
               GIOCondition condition G_GNUC_UNUSED,
               gpointer data)
{
  while (bulk_receive (data, fd, TRUE))
    ;

  return G_SOURCE_CONTINUE;
}

/* GAsyncQueue */

static gboolean
queue_idle_cb (gpointer data)
{
  Carrier *carrier = data;
  GBytes *message;

  g_atomic_int_set (&carrier->has_idle, FALSE);
  while ((message = g_async_queue_try_pop (carrier->queue)) != NULL)
    received (carrier, message);

  return G_SOURCE_REMOVE;
}

static void
queue_send (Carrier *carrier)
{
  GBytes *message = carrier->size >= BULK_SIZE
                      ? g_bytes_ref (carrier->message)
                      : g_bytes_new (g_bytes_get_data (carrier->message, NULL), carrier->size);

  /* It has no limit of its own, and would be all memory. */
  while (g_async_queue_length (carrier->queue) > QUEUE_LIMIT)
    g_thread_yield ();

  g_async_queue_push (carrier->queue, message);

  if (carrier->is_watch && g_atomic_int_compare_and_exchange (&carrier->has_idle, FALSE, TRUE))
    {
      GSource *source = g_idle_source_new ();

      g_source_set_priority (source, G_PRIORITY_DEFAULT);
      g_source_set_callback (source, queue_idle_cb, carrier, NULL);
      g_source_attach (source, NULL);
      g_source_unref (source);
    }
}

/* DexChannel */

#ifdef HAVE_LIBDEX
static DexChannel *dex_channel;

static DexFuture *
dex_fiber (gpointer data)
{
  Carrier *carrier = data;
  gsize n = carrier->n;

  for (gsize i = 0; i < n; i++)
    received (carrier, dex_await_boxed (dex_channel_receive (dex_channel), NULL));

  return dex_future_new_true ();
}

static void
dex_send (Carrier *carrier)
{
  GBytes *message = g_bytes_new (g_bytes_get_data (carrier->message, NULL), carrier->size);

  dex_unref (dex_channel_send (dex_channel, dex_future_new_take_boxed (G_TYPE_BYTES, message)));
}
#endif

/* Carriers */

typedef struct
{
  const char *peer;
  void (*start) (Carrier *carrier);
  void (*send) (Carrier *carrier);
  void (*receive) (Carrier *carrier); /* blocks; at least one message */
  void (*answer) (Carrier *carrier);  /* from the main thread */
  void (*await_answer) (Carrier *carrier);
} CarrierFuncs;

static void
qtask_message_cb (QTaskChannel *channel G_GNUC_UNUSED,
                  GBytes *message,
                  gpointer data)
{
  received (data, g_bytes_ref (message));
}

static void
qtask_start (Carrier *carrier)
{
  if (carrier->is_fd)
    {
      g_autoptr (GSocket) here = g_socket_new_from_fd (carrier->fds[0], NULL);
      g_autoptr (GSocket) there = g_socket_new_from_fd (carrier->fds[1], NULL);

      carrier->here = q_task_channel_new_from_socket (here, NULL);
      carrier->there = q_task_channel_new_from_socket (there, NULL);
    }
  else
    {
      q_task_channel_new_pair (&carrier->here, &carrier->there);
    }

  if (carrier->is_watch)
    q_task_channel_set_message_func (carrier->here, qtask_message_cb, carrier, NULL);
}

static void
qtask_write (Carrier *carrier,
             QTaskChannel *channel)
{
  gboolean sent;

  if (carrier->size >= BULK_SIZE)
    sent = q_task_channel_write_bytes (channel, carrier->message, NULL, NULL);
  else
    sent = q_task_channel_write (channel, g_bytes_get_data (carrier->message, NULL), carrier->size,
                                 NULL, NULL);
  if (!sent)
    bench_fail ("q_task_channel_write() has failed");
}

static void
qtask_send (Carrier *carrier)
{
  qtask_write (carrier, carrier->there);
}

static void
qtask_receive (Carrier *carrier)
{
  received (carrier, q_task_channel_read (carrier->here, NULL, NULL));
}

static void
qtask_answer (Carrier *carrier)
{
  qtask_write (carrier, carrier->here);
}

static void
qtask_await_answer (Carrier *carrier)
{
  g_bytes_unref (q_task_channel_read (carrier->there, NULL, NULL));
}

static void
kore_start (Carrier *carrier)
{
  if (carrier->is_watch)
    g_unix_fd_add (carrier->fds[0], G_IO_IN, kore_ready_cb, carrier);
}

static void
kore_send_one (Carrier *carrier)
{
  /* The two sends of a message belong together. */
  if (carrier->n_writers > 1)
    g_mutex_lock (&carrier->send_lock);
  kore_send (carrier, carrier->fds[1]);
  if (carrier->n_writers > 1)
    g_mutex_unlock (&carrier->send_lock);
}

static void
kore_receive_one (Carrier *carrier)
{
  received (carrier, kore_receive (carrier->fds[0], FALSE));
}

static void
kore_answer (Carrier *carrier)
{
  kore_send (carrier, carrier->fds[0]);
}

static void
kore_await_answer (Carrier *carrier)
{
  g_bytes_unref (kore_receive (carrier->fds[1], FALSE));
}

static void
bulk_start (Carrier *carrier)
{
  if (carrier->is_watch)
    g_unix_fd_add (carrier->fds[0], G_IO_IN, bulk_ready_cb, carrier);
}

static void
bulk_send_one (Carrier *carrier)
{
  if (carrier->n_writers > 1)
    g_mutex_lock (&carrier->send_lock);
  bulk_send (carrier, carrier->fds[1]);
  if (carrier->n_writers > 1)
    g_mutex_unlock (&carrier->send_lock);
}

static void
bulk_receive_some (Carrier *carrier)
{
  bulk_receive (carrier, carrier->fds[0], FALSE);
}

static void
bulk_answer (Carrier *carrier)
{
  bulk_send (carrier, carrier->fds[0]);
}

static void
queue_start (Carrier *carrier)
{
  carrier->queue = g_async_queue_new ();
  carrier->back = g_async_queue_new ();
}

static void
queue_receive (Carrier *carrier)
{
  received (carrier, g_async_queue_pop (carrier->queue));
}

static void
queue_answer (Carrier *carrier)
{
  g_async_queue_push (carrier->back,
                      g_bytes_new (g_bytes_get_data (carrier->message, NULL), carrier->size));
}

static void
queue_await_answer (Carrier *carrier)
{
  g_bytes_unref (g_async_queue_pop (carrier->back));
}

#ifdef HAVE_LIBDEX
static void
dex_start (Carrier *carrier)
{
  dex_init ();
  dex_channel = dex_channel_new (0);
  dex_future_disown (dex_scheduler_spawn (dex_scheduler_get_default (), 0, dex_fiber, carrier, NULL));
}
#endif

static const CarrierFuncs carriers[] = {
  { "qtask", qtask_start, qtask_send, qtask_receive, qtask_answer, qtask_await_answer },
  { "kore", kore_start, kore_send_one, kore_receive_one, kore_answer, kore_await_answer },
  { "bulk-read", bulk_start, bulk_send_one, bulk_receive_some, bulk_answer, kore_await_answer },
  { "gasyncqueue", queue_start, queue_send, queue_receive, queue_answer, queue_await_answer },
#ifdef HAVE_LIBDEX
  { "libdex", dex_start, dex_send, NULL, NULL, NULL },
#endif
};

typedef struct
{
  Carrier *carrier;
  const CarrierFuncs *funcs;
  gsize n;
} Writer;

static gpointer
writer_thread (gpointer data)
{
  Writer *writer = data;

  for (gsize i = 0; i < writer->n; i++)
    {
      writer->funcs->send (writer->carrier);
      if (writer->carrier->is_round_trip)
        writer->funcs->await_answer (writer->carrier);
    }

  return NULL;
}

static void
make_sockets (Carrier *carrier)
{
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, carrier->fds) != 0)
    bench_fail ("socketpair: %s", g_strerror (errno));

  if (carrier->is_watch)
    g_unix_set_fd_nonblocking (carrier->fds[0], TRUE, NULL);
}

static void
carry (Carrier *carrier,
       const CarrierFuncs *funcs,
       gsize n)
{
  Writer writers[MAX_WRITERS];
  GThread *threads[MAX_WRITERS];

  carrier->n_received = 0;

  for (guint i = 0; i < carrier->n_writers; i++)
    {
      writers[i] = (Writer){ carrier, funcs, n / carrier->n_writers };
      threads[i] = g_thread_new ("writer", writer_thread, &writers[i]);
    }

  while (carrier->n_received < n / carrier->n_writers * carrier->n_writers)
    {
      gsize before = carrier->n_received;

      if (carrier->is_watch)
        g_main_context_iteration (NULL, TRUE);
      else
        funcs->receive (carrier);

      if (carrier->is_round_trip)
        for (gsize i = before; i < carrier->n_received; i++)
          funcs->answer (carrier);
    }

  for (guint i = 0; i < carrier->n_writers; i++)
    g_thread_join (threads[i]);
}

/* @workload is channel-memory, -watch or -fd, the size in bytes, and -round-trip or
 * -4-writers. */
void
bench_channel_run (const char *workload,
                   const BenchPeer *peer,
                   gsize n,
                   double *metrics)
{
  g_auto (GStrv) parts = g_strsplit (workload, "-", 4);
  Carrier carrier = {
    .is_watch = g_str_equal (parts[1], "watch"),
    .is_fd = g_str_equal (parts[1], "fd"),
    .is_round_trip = parts[3] != NULL && g_str_equal (parts[3], "round-trip"),
    .n_writers = parts[3] != NULL && g_str_equal (parts[3], "4-writers") ? 4 : 1,
    .size = g_ascii_strtoull (parts[2], NULL, 10),
  };
  const CarrierFuncs *funcs = NULL;
  gsize warm_up = MAX (n / 20 / MAX_WRITERS, 1) * MAX_WRITERS;
  gint64 start;
  gint64 cpu_start;

  for (guint i = 0; i < G_N_ELEMENTS (carriers); i++)
    if (g_str_equal (carriers[i].peer, peer->name))
      funcs = &carriers[i];

  if (funcs == NULL)
    bench_fail ("%s carries no messages", peer->name);

  carrier.n = n + warm_up;
  carrier.message = g_bytes_new_take (g_malloc0 (carrier.size), carrier.size);
  make_sockets (&carrier);
  funcs->start (&carrier);

  carry (&carrier, funcs, warm_up);

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  carry (&carrier, funcs, n);
  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n;
}

/* Sync points */

static gboolean
sync_worker (QTask *task,
             gpointer data,
             GError **error)
{
  for (gsize i = 0; i < GPOINTER_TO_SIZE (data); i++)
    if (!q_task_sync (task, error))
      return FALSE;

  return TRUE;
}

static void
sync_cb (QTask *task,
         gpointer data G_GNUC_UNUSED)
{
  q_task_resume (task, FALSE);
}

static void
synced_cb (QTask *task G_GNUC_UNUSED,
           gpointer done)
{
  *(gboolean *) done = TRUE;
}

static void
sync_many (gsize n)
{
  gboolean done = FALSE;
  g_autoptr (QTask) task = q_task_new (NULL, synced_cb, &done, NULL);

  q_task_set_sync_func (task, sync_cb, NULL, NULL);
  q_task_run_in_thread (task, sync_worker, GSIZE_TO_POINTER (n), NULL);
  while (!done)
    g_main_context_iteration (NULL, TRUE);
}

void
bench_sync_round_trip_run (const BenchPeer *peer G_GNUC_UNUSED,
                           gsize n,
                           double *metrics)
{
  gint64 start;
  gint64 cpu_start;

  sync_many (n / 20 + 1);

  start = bench_now ();
  cpu_start = bench_cpu_now ();
  sync_many (n);
  metrics[BENCH_NS_PER_OP] = (double) (bench_now () - start) / n;
  metrics[BENCH_CPU_NS_PER_OP] = (double) (bench_cpu_now () - cpu_start) / n;
}
