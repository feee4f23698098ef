/* test-channel-util.c: what the tests of channels share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A test may block in a call of the library, so each has a time limit by SIGALRM.
 */

#include "test-channel-util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONG_TIME_LIMIT (4 * TEST_TIME_LIMIT)

const char *const channel_kind_names[N_CHANNEL_KINDS] = { "memory", "socket", "pipe" };

static QTaskChannel *
channel_new_for_socket (int fd)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, &error);
  QTaskChannel *channel;

  g_assert_no_error (error);
  channel = q_task_channel_new_from_socket (socket, &error);
  g_assert_no_error (error);

  return channel;
}

void
channel_pair_new (ChannelKind kind,
                  QTaskChannel **first,
                  QTaskChannel **second)
{
  g_autoptr (GError) error = NULL;
  int there[2], back[2];

  switch (kind)
    {
    case CHANNEL_MEMORY:
      q_task_channel_new_pair (first, second);
      break;

    case CHANNEL_SOCKET:
      g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, there), ==, 0);
      for (int i = 0; i < 2; i++)
        {
          int size = 16 * 1024;

          g_assert_cmpint (setsockopt (there[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), ==, 0);
        }
      *first = channel_new_for_socket (there[0]);
      *second = channel_new_for_socket (there[1]);
      break;

    case CHANNEL_PIPE:
      g_assert_cmpint (pipe (there), ==, 0);
      g_assert_cmpint (pipe (back), ==, 0);
      *first = q_task_channel_new_from_fds (back[0], there[1], &error);
      g_assert_no_error (error);
      *second = q_task_channel_new_from_fds (there[0], back[1], &error);
      g_assert_no_error (error);
      break;

    case N_CHANNEL_KINDS:
    default:
      g_assert_not_reached ();
    }

  g_assert_true (Q_IS_TASK_CHANNEL (*first));
  g_assert_true (Q_IS_TASK_CHANNEL (*second));
}

/* Adding */

typedef struct
{
  GTestDataFunc func;
  GTestFunc func_of_one;
  gconstpointer data;
} Case;

static void
alarm_cb (int number)
{
  static const char text[] = "The test took too long: it is likely that a call of the library blocks.\n";

  if (write (STDERR_FILENO, text, sizeof text - 1) >= 0)
    abort ();
}

static void
run_case (gconstpointer data)
{
  const Case *one = data;

  signal (SIGALRM, alarm_cb);
  alarm (LONG_TIME_LIMIT);
  if (one->func != NULL)
    one->func (one->data);
  else
    one->func_of_one ();
  alarm (0);
}

static void
add (const char *path,
     GTestDataFunc func,
     GTestFunc func_of_one,
     gconstpointer data)
{
  static Case cases[400];
  static guint n_cases;
  Case *one;

  g_assert_cmpuint (n_cases, <, G_N_ELEMENTS (cases));
  one = &cases[n_cases++];
  one->func = func;
  one->func_of_one = func_of_one;
  one->data = data;
  g_test_add_data_func (path, one, run_case);
}

void
channel_test_add (const char *name,
                  ChannelKind kind,
                  GTestDataFunc func)
{
  g_autofree char *path = g_strdup_printf ("/channel/%s/%s", channel_kind_names[kind], name);

  add (path, func, NULL, GUINT_TO_POINTER (kind));
}

void
channel_test_add_all (const char *name,
                      GTestDataFunc func)
{
  for (ChannelKind kind = 0; kind < N_CHANNEL_KINDS; kind++)
    channel_test_add (name, kind, func);
}

void
channel_test_add_one (const char *path,
                      GTestFunc func)
{
  add (path, NULL, func, NULL);
}

/* Messages */

GBytes *
channel_message_new (guint number,
                     gsize size)
{
  guint8 *data = g_malloc (MAX (size, 1));

  for (gsize i = 0; i < size; i++)
    data[i] = (guint8) (i < sizeof number ? number >> (8 * i) : number * 31 + i * 7);

  return g_bytes_new_take (data, size);
}

void
channel_message_check (GBytes *message,
                       guint number,
                       gsize size)
{
  g_autoptr (GBytes) expected = channel_message_new (number, size);

  g_assert_nonnull (message);
  g_assert_cmpuint (g_bytes_get_size (message), ==, size);
  if (!g_bytes_equal (message, expected))
    {
      guint found = 0;

      memcpy (&found, g_bytes_get_data (message, NULL), MIN (sizeof found, size));
      g_error ("Message %u is not as it was written; it begins as message %u", number, found);
    }
}

guint
channel_fill (QTaskChannel *channel,
              guint number,
              gsize size)
{
  for (guint n = 0;; n++)
    {
      g_autoptr (GBytes) message = channel_message_new (number + n, size);
      g_autoptr (GError) error = NULL;

      if (q_task_channel_try_write (channel, message, &error))
        {
          g_assert_no_error (error);
          continue;
        }

      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
      return n;
    }
}

/* Descriptors */

guint
count_descriptors (void)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  guint n = 0;

  g_assert_nonnull (dir);
  while (g_dir_read_name (dir) != NULL)
    n++;

  return n - 1; /* that of the directory */
}

gboolean
fd_is_readable (int fd)
{
  struct pollfd poll_fd = { fd, POLLIN, 0 };
  int n;

  do
    n = poll (&poll_fd, 1, 0);
  while (n == -1 && errno == EINTR);
  g_assert_cmpint (n, >=, 0);
  g_assert_cmpint (poll_fd.revents & POLLNVAL, ==, 0);

  return n == 1;
}

/* Blocker */

static gpointer
blocker_thread (gpointer data)
{
  Blocker *blocker = data;
  g_autoptr (GBytes) message = channel_message_new (7, blocker->size);
  guint8 buffer[16];

  blocker->tid = gettid ();
  test_gate_open (&blocker->entered);

  switch (blocker->call)
    {
    case CALL_READ:
      blocker->message = q_task_channel_read (blocker->channel, blocker->cancellable, &blocker->error);
      blocker->success = blocker->message != NULL;
      break;
    case CALL_READ_INTO:
      blocker->message_size = 99;
      blocker->success = q_task_channel_read_into (blocker->channel, buffer, sizeof buffer,
                                                   &blocker->message_size, blocker->cancellable,
                                                   &blocker->error);
      break;
    case CALL_WRITE:
      blocker->success = q_task_channel_write (blocker->channel, g_bytes_get_data (message, NULL),
                                               blocker->size, blocker->cancellable, &blocker->error);
      break;
    case CALL_WRITE_BYTES:
      blocker->success = q_task_channel_write_bytes (blocker->channel, message, blocker->cancellable,
                                                     &blocker->error);
      break;
    case N_CALLS:
    default:
      g_assert_not_reached ();
    }

  test_gate_open (&blocker->done);

  return NULL;
}

static gboolean
thread_sleeps (pid_t tid)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/task/%d/stat", (int) tid);
  g_autofree char *stat = NULL;
  const char *end;

  if (!g_file_get_contents (path, &stat, NULL, NULL))
    return FALSE;
  end = strrchr (stat, ')');

  return end != NULL && end[1] == ' ' && end[2] == 'S';
}

/* Size is to be set before, else it is 100. */
void
blocker_start (Blocker *blocker,
               QTaskChannel *channel,
               Call call,
               GCancellable *cancellable)
{
  gint64 give_up = g_get_monotonic_time () + G_TIME_SPAN_SECOND;
  gsize size = blocker->size;
  int n_asleep = 0;

  *blocker = (Blocker){ 0 };
  blocker->entered = (TestGate) TEST_GATE_INIT;
  blocker->done = (TestGate) TEST_GATE_INIT;
  blocker->channel = channel;
  blocker->call = call;
  blocker->cancellable = cancellable;
  blocker->size = size != 0 ? size : 100;
  blocker->thread = g_thread_new ("blocker", blocker_thread, blocker);
  test_gate_wait (&blocker->entered);

  /* If it is not asleep, what is tested comes a little earlier than meant, and is as right. */
  while (n_asleep < 4 && g_get_monotonic_time () < give_up)
    {
      n_asleep = thread_sleeps (blocker->tid) ? n_asleep + 1 : 0;
      g_usleep (500);
    }
}

void
blocker_join (Blocker *blocker)
{
  test_gate_wait (&blocker->done);
  g_thread_join (g_steal_pointer (&blocker->thread));
}

void
blocker_clear (Blocker *blocker)
{
  g_assert_null (blocker->thread);
  g_clear_pointer (&blocker->message, g_bytes_unref);
  g_clear_error (&blocker->error);
  blocker->size = 0;
}

/* Reply */

static void
reply_fill (Reply *reply)
{
  g_assert_cmpint (reply->called, ==, 0);
  reply->thread = g_thread_self ();
  reply->serial = test_next_serial ();
  g_atomic_int_inc (&reply->called);
}

void
read_cb (GObject *source,
         GAsyncResult *result,
         gpointer data)
{
  Reply *reply = data;

  reply->message = q_task_channel_read_finish (Q_TASK_CHANNEL (source), result, &reply->error);
  reply->success = reply->message != NULL;
  reply_fill (reply);
}

void
write_cb (GObject *source,
          GAsyncResult *result,
          gpointer data)
{
  Reply *reply = data;

  reply->success = q_task_channel_write_finish (Q_TASK_CHANNEL (source), result, &reply->error);
  g_assert_true (reply->success == (reply->error == NULL));
  reply_fill (reply);
}

void
reply_clear (Reply *reply)
{
  g_clear_pointer (&reply->message, g_bytes_unref);
  g_clear_error (&reply->error);
  *reply = (Reply){ 0 };
}

GBytes *
channel_read_iterating (QTaskChannel *channel)
{
  Reply reply = { 0 };
  GBytes *message;

  q_task_channel_read_async (channel, NULL, read_cb, &reply);
  test_run_until (NULL, reply.called);
  g_assert_no_error (reply.error);
  message = g_steal_pointer (&reply.message);
  reply_clear (&reply);

  return message;
}

/* What all calls say */

void
assert_end (QTaskChannel *channel)
{
  g_autoptr (GError) error = NULL;

  for (int i = 0; i < 2; i++)
    {
      gsize message_size = 99;
      Reply reply = { 0 };
      guint8 byte;

      g_assert_null (q_task_channel_read (channel, NULL, &error));
      g_assert_no_error (error);
      g_assert_null (q_task_channel_try_read (channel, &error));
      g_assert_no_error (error);
      g_assert_false (q_task_channel_read_into (channel, &byte, 1, &message_size, NULL, &error));
      g_assert_no_error (error);
      g_assert_cmpuint (message_size, ==, 0);

      q_task_channel_read_async (channel, NULL, read_cb, &reply);
      g_assert_cmpint (reply.called, ==, 0);
      test_run_until (NULL, reply.called);
      g_assert_null (reply.message);
      g_assert_no_error (reply.error);
      reply_clear (&reply);
    }
}

static gboolean freed;

static void
freed_cb (gpointer data)
{
  g_assert_false (freed);
  freed = TRUE;
}

void
assert_writes_fail (QTaskChannel *channel,
                    GQuark domain,
                    int code)
{
  GBytes *message = g_bytes_new_with_free_func ("whole", 5, freed_cb, NULL);
  g_autoptr (GError) error = NULL;
  Reply reply = { 0 };

  freed = FALSE;
  g_assert_false (q_task_channel_write (channel, "whole", 5, NULL, &error));
  g_assert_error (error, domain, code);
  g_clear_error (&error);
  g_assert_false (q_task_channel_write_bytes (channel, message, NULL, &error));
  g_assert_error (error, domain, code);
  g_clear_error (&error);
  g_assert_false (q_task_channel_try_write (channel, message, &error));
  g_assert_error (error, domain, code);
  g_clear_error (&error);

  q_task_channel_write_async (channel, message, NULL, write_cb, &reply);
  g_assert_cmpint (reply.called, ==, 0);
  test_run_until (NULL, reply.called);
  g_assert_false (reply.success);
  g_assert_error (reply.error, domain, code);
  reply_clear (&reply);

  /* It is still the caller's, and only the caller's. */
  assert_bytes (message, "whole");
  g_assert_false (freed);
  g_bytes_unref (message);
  test_run_pending (NULL);
  g_assert_true (freed);
}

void
assert_reads_fail (QTaskChannel *channel,
                   GQuark domain,
                   int code)
{
  g_autoptr (GError) error = NULL;
  gsize message_size = 99;
  Reply reply = { 0 };
  guint8 byte;

  g_assert_null (q_task_channel_read (channel, NULL, &error));
  g_assert_error (error, domain, code);
  g_clear_error (&error);
  g_assert_null (q_task_channel_try_read (channel, &error));
  g_assert_error (error, domain, code);
  g_clear_error (&error);
  g_assert_false (q_task_channel_read_into (channel, &byte, 1, &message_size, NULL, &error));
  g_assert_error (error, domain, code);

  q_task_channel_read_async (channel, NULL, read_cb, &reply);
  test_run_until (NULL, reply.called);
  g_assert_null (reply.message);
  g_assert_error (reply.error, domain, code);
  reply_clear (&reply);
}
