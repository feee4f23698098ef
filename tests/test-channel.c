/* test-channel.c: QTaskChannel, in memory and over descriptors
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is the same for all kinds of channel is run with each: in memory, over a socket,
 * and over two pipes. Frames are in test-channel-frames.c.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test-channel-util.h"

#define KIND ((ChannelKind) GPOINTER_TO_UINT (kind))

static gboolean
is_slow (void)
{
  return TEST_IS_SANITIZED || test_is_slow ();
}

/* Making */

static void
test_new (gconstpointer kind)
{
  QTaskChannel *ends[2];

  channel_pair_new (KIND, &ends[0], &ends[1]);

  for (int i = 0; i < 2; i++)
    {
      guint64 capacity, max_message_size;

      g_assert_false (q_task_channel_is_closed (ends[i]));
      g_assert_cmpuint (q_task_channel_get_capacity (ends[i]), ==, 1024 * 1024);
      g_assert_cmpuint (q_task_channel_get_max_message_size (ends[i]), ==, 64 * 1024 * 1024);
      g_object_get (ends[i], "capacity", &capacity, "max-message-size", &max_message_size, NULL);
      g_assert_cmpuint (capacity, ==, 1024 * 1024);
      g_assert_cmpuint (max_message_size, ==, 64 * 1024 * 1024);

      g_object_set (ends[i], "capacity", (guint64) 100, "max-message-size", (guint64) 50, NULL);
      g_assert_cmpuint (q_task_channel_get_capacity (ends[i]), ==, 100);
      g_assert_cmpuint (q_task_channel_get_max_message_size (ends[i]), ==, 50);
      q_task_channel_set_capacity (ends[i], 0);
      q_task_channel_set_max_message_size (ends[i], G_MAXUINT32);
      g_assert_cmpuint (q_task_channel_get_capacity (ends[i]), ==, 0);
      g_assert_cmpuint (q_task_channel_get_max_message_size (ends[i]), ==, G_MAXUINT32);
      test_critical (q_task_channel_set_max_message_size (ends[i], 0));
      g_assert_cmpuint (q_task_channel_get_max_message_size (ends[i]), ==, G_MAXUINT32);
    }

  finalize_channel (ends[0]);
  finalize_channel (ends[1]);
}

static void
test_new_leaves_nothing (gconstpointer kind)
{
  guint before;

  for (int i = 0; i < 3; i++)
    {
      QTaskChannel *a, *b;

      if (i == 1)
        before = count_descriptors ();
      channel_pair_new (KIND, &a, &b);
      write_string (a, "left");
      finalize_channel (a);
      finalize_channel (b);
      if (i >= 1)
        g_assert_cmpuint (count_descriptors (), ==, before);
    }
}

static void
test_new_from_bad (void)
{
  g_autoptr (GSocket) datagrams = NULL;
  g_autoptr (GError) error = NULL;
  int fds[2];

  g_assert_null (q_task_channel_new_from_fds (-1, -1, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_clear_error (&error);

  /* What could not be made leaves the caller all. */
  g_assert_cmpint (pipe2 (fds, O_CLOEXEC), ==, 0);
  g_assert_null (q_task_channel_new_from_fds (fds[0], -1, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_clear_error (&error);
  g_assert_null (q_task_channel_new_from_fds (-1, fds[1], &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_clear_error (&error);
  g_assert_cmpint (fcntl (fds[0], F_GETFD), ==, FD_CLOEXEC);
  g_assert_cmpint (fcntl (fds[1], F_GETFD), ==, FD_CLOEXEC);
  close (fds[0]);
  close (fds[1]);

  /* These are not open. */
  g_assert_null (q_task_channel_new_from_fds (fds[0], fds[1], &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_clear_error (&error);

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  datagrams = g_socket_new_from_fd (fds[0], &error);
  g_assert_no_error (error);
  g_assert_null (q_task_channel_new_from_socket (datagrams, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_assert_false (g_socket_is_closed (datagrams));
  close (fds[1]);
}

/* Taken over: made fit for use, and closed with the channel. */
static void
test_new_from_fds (void)
{
  g_autoptr (GError) error = NULL;
  QTaskChannel *a, *b;
  int there[2], back[2];

  g_assert_cmpint (pipe (there), ==, 0);
  g_assert_cmpint (pipe (back), ==, 0);
  a = q_task_channel_new_from_fds (back[0], there[1], &error);
  g_assert_no_error (error);
  b = q_task_channel_new_from_fds (there[0], back[1], &error);
  g_assert_no_error (error);

  for (int i = 0; i < 2; i++)
    {
      g_assert_true (fcntl (there[i], F_GETFL) & O_NONBLOCK);
      g_assert_true (fcntl (back[i], F_GETFL) & O_NONBLOCK);
      g_assert_true (fcntl (there[i], F_GETFD) & FD_CLOEXEC);
      g_assert_true (fcntl (back[i], F_GETFD) & FD_CLOEXEC);
    }

  write_string (a, "there");
  write_string (b, "back");
  assert_read (a, "back");
  q_task_channel_close (a);
  g_assert_cmpint (fcntl (back[0], F_GETFD), ==, -1);
  g_assert_cmpint (fcntl (there[1], F_GETFD), ==, -1);
  assert_read (b, "there");
  assert_end (b);
  finalize_channel (b);
  g_assert_cmpint (fcntl (there[0], F_GETFD), ==, -1);
  g_assert_cmpint (fcntl (back[1], F_GETFD), ==, -1);
  finalize_channel (a);
}

static void
test_new_from_one_fd (void)
{
  g_autoptr (GError) error = NULL;
  QTaskChannel *ends[2];
  int fds[2];

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
  for (int i = 0; i < 2; i++)
    {
      ends[i] = q_task_channel_new_from_fds (fds[i], fds[i], &error);
      g_assert_no_error (error);
    }

  write_string (ends[0], "there");
  assert_read (ends[1], "there");
  write_string (ends[1], "back");
  assert_read (ends[0], "back");
  finalize_channel (ends[0]);
  g_assert_cmpint (fcntl (fds[0], F_GETFD), ==, -1);
  assert_end (ends[1]);
  finalize_channel (ends[1]);
  g_assert_cmpint (fcntl (fds[1], F_GETFD), ==, -1);
}

static void
test_new_from_socket (void)
{
  g_autoptr (GError) error = NULL;
  TestFate fate = TEST_FATE_INIT;
  QTaskChannel *channel;
  GSocket *socket;
  int fds[2];

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  socket = g_socket_new_from_fd (fds[0], &error);
  g_assert_no_error (error);
  test_fate_watch (&fate, socket);
  channel = q_task_channel_new_from_socket (socket, &error);
  g_assert_no_error (error);
  g_assert_false (g_socket_is_closed (socket));
  q_task_channel_close (channel);
  g_assert_true (g_socket_is_closed (socket));
  g_object_unref (socket);
  finalize_channel (channel);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
  close (fds[1]);
}

/* Messages */

static void
test_both_directions (gconstpointer kind)
{
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  write_string (a, "one");
  write_string (b, "eins");
  write_string (a, "two");
  write_string (b, "zwei");
  assert_read (a, "eins");
  assert_read (b, "one");
  assert_read (b, "two");
  assert_read (a, "zwei");
  assert_would_block (a);
  assert_would_block (b);
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_empty_messages (gconstpointer kind)
{
  g_autoptr (GBytes) empty = g_bytes_new (NULL, 0);
  g_autoptr (GError) error = NULL;
  QTaskChannel *a, *b;
  gsize message_size;

  channel_pair_new (KIND, &a, &b);

  g_assert_true (q_task_channel_write (a, NULL, 0, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_channel_write_bytes (a, empty, NULL, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_channel_try_write (a, empty, &error));
  g_assert_no_error (error);
  g_assert_true (q_task_channel_write (a, "", 0, NULL, &error));
  g_assert_no_error (error);
  write_string (a, "full");

  assert_read (b, "");
  message_size = 99;
  g_assert_true (q_task_channel_read_into (b, NULL, 0, &message_size, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (message_size, ==, 0);
  {
    g_autoptr (GBytes) message = q_task_channel_try_read (b, &error);

    g_assert_no_error (error);
    g_assert_nonnull (message);
    g_assert_cmpuint (g_bytes_get_size (message), ==, 0);
  }
  {
    Reply reply = { 0 };

    q_task_channel_read_async (b, NULL, read_cb, &reply);
    test_run_until (NULL, reply.called);
    g_assert_no_error (reply.error);
    g_assert_nonnull (reply.message);
    g_assert_cmpuint (g_bytes_get_size (reply.message), ==, 0);
    reply_clear (&reply);
  }
  assert_read (b, "full");
  assert_would_block (b);
  finalize_channel (a);
  finalize_channel (b);
}

static const gsize sizes[] = {
  0, 1, 2, 3, 4, 5, 6, 63, 64, 65, 1000, 4091, 4095, 4096, 4097, 8187, 16384, 65530, 65531, 65535,
  65536, 65537, 70000, 131072, 262144, 1048571, 1048576, 1048577, 1300000, 3000001
};

static gpointer
write_sizes_thread (gpointer channel)
{
  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, sizes[i]);
      g_autoptr (GError) error = NULL;

      if (i % 2 == 0)
        q_task_channel_write_bytes (channel, message, NULL, &error);
      else
        q_task_channel_write (channel, g_bytes_get_data (message, NULL), sizes[i], NULL, &error);
      g_assert_no_error (error);
    }

  return NULL;
}

/* Of all sizes: also larger than what a pipe, a buffer or the channel holds. */
static void
test_sizes (gconstpointer kind)
{
  g_autofree guint8 *buffer = g_malloc (3000001);
  QTaskChannel *a, *b;
  GThread *thread;

  channel_pair_new (KIND, &a, &b);

  for (int pass = 0; pass < 2; pass++)
    {
      thread = g_thread_new ("write-sizes", write_sizes_thread, a);

      for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
        {
          g_autoptr (GBytes) message = NULL;
          g_autoptr (GError) error = NULL;

          if (pass == 0)
            message = q_task_channel_read (b, NULL, &error);
          else
            {
              gsize size = 0;

              g_assert_true (q_task_channel_read_into (b, buffer, 3000001, &size, NULL, &error));
              message = g_bytes_new (buffer, size);
            }
          g_assert_no_error (error);
          channel_message_check (message, i, sizes[i]);
        }

      g_thread_join (thread);
    }

  assert_would_block (b);
  finalize_channel (a);
  finalize_channel (b);
}

/* What passes through memory is not copied. */
static void
test_no_copy (void)
{
  GBytes *message = g_bytes_new_take (g_malloc0 (1024 * 1024), 1024 * 1024);
  g_autoptr (GBytes) small = g_bytes_new ("small", 5);
  g_autoptr (GError) error = NULL;
  QTaskChannel *a, *b;

  q_task_channel_new_pair (&a, &b);

  for (int i = 0; i < 3; i++)
    {
      g_autoptr (GBytes) arrived = NULL;
      Reply reply = { 0 };

      switch (i)
        {
        case 0:
          g_assert_true (q_task_channel_write_bytes (a, message, NULL, &error));
          arrived = q_task_channel_read (b, NULL, &error);
          break;
        case 1:
          g_assert_true (q_task_channel_try_write (a, message, &error));
          arrived = q_task_channel_try_read (b, &error);
          break;
        default:
          q_task_channel_write_async (a, message, NULL, write_cb, &reply);
          test_run_until (NULL, reply.called);
          g_assert_no_error (reply.error);
          arrived = q_task_channel_read (b, NULL, &error);
          break;
        }
      g_assert_no_error (error);
      g_assert_true (g_bytes_get_data (arrived, NULL) == g_bytes_get_data (message, NULL));
    }

  /* What is with us is with us alone again. */
  {
    gsize size;
    gconstpointer data = g_bytes_get_data (message, NULL);
    g_autofree gpointer taken = g_bytes_unref_to_data (message, &size);

    g_assert_true (taken == data);
  }

  g_assert_true (q_task_channel_write_bytes (a, small, NULL, &error));
  assert_read (b, "small");
  finalize_channel (a);
  finalize_channel (b);
}

static void
count_freed_cb (gpointer count)
{
  g_atomic_int_inc ((int *) count);
}

/* What is not read is released with the channel, each once. */
static void
test_unread_is_released (gconstpointer kind)
{
  for (int how = 0; how < 3; how++)
    {
      QTaskChannel *a, *b;
      int n_freed = 0;

      channel_pair_new (KIND, &a, &b);
      for (int i = 0; i < 10; i++)
        {
          g_autoptr (GBytes) message = g_bytes_new_with_free_func ("x", 1, count_freed_cb, &n_freed);

          g_assert_true (q_task_channel_write_bytes (a, message, NULL, NULL));
        }
      if (how == 1)
        q_task_channel_close (b);
      if (how == 2)
        finalize_channel (a);
      finalize_channel (b);
      if (how != 2)
        finalize_channel (a);
      g_assert_cmpint (g_atomic_int_get (&n_freed), ==, 10);
    }
}

/* The rule of truncation: it tells the original size, and the next one is in step. */
static void
test_read_into (gconstpointer kind)
{
  g_autoptr (GError) error = NULL;
  QTaskChannel *a, *b;
  guint8 buffer[16];
  gsize message_size;
  Blocker blocker = { .size = 200000 };

  channel_pair_new (KIND, &a, &b);

  for (gsize size = 0; size <= sizeof buffer; size++)
    {
      memset (buffer, '#', sizeof buffer);
      write_string (a, "0123456789");
      write_string (a, "next");
      message_size = 99;
      g_assert_true (q_task_channel_read_into (b, size == 0 ? NULL : buffer, size, &message_size,
                                               NULL, &error));
      g_assert_no_error (error);
      g_assert_cmpuint (message_size, ==, 10);
      g_assert_cmpmem (buffer, MIN (size, 10), "0123456789", MIN (size, 10));
      for (gsize i = MIN (size, 10); i < sizeof buffer; i++)
        g_assert_cmpint (buffer[i], ==, '#');
      assert_read (b, "next");
    }

  /* Nobody needs to be told the size. */
  write_string (a, "untold");
  g_assert_true (q_task_channel_read_into (b, buffer, sizeof buffer, NULL, NULL, &error));
  g_assert_cmpmem (buffer, 6, "untold", 6);

  /* The rest of a large one is dropped, wherever it is. */
  blocker_start (&blocker, a, CALL_WRITE, NULL);
  g_assert_true (q_task_channel_read_into (b, buffer, 4, &message_size, NULL, &error));
  g_assert_cmpuint (message_size, ==, 200000);
  g_assert_cmpint (buffer[0], ==, 7);
  blocker_join (&blocker);
  g_assert_no_error (blocker.error);
  blocker_clear (&blocker);
  write_string (a, "in step");
  assert_read (b, "in step");
  assert_would_block (b);

  finalize_channel (a);
  finalize_channel (b);
}

/* Capacity */

/* In memory it is exact. */
static void
test_capacity_is_exact (void)
{
  static const gsize capacities[] = { 1, 2, 3, 7, 100, 1000 };
  static const gsize message_sizes[] = { 0, 1, 2, 3, 50, 100 };

  for (guint i = 0; i < G_N_ELEMENTS (capacities); i++)
    for (guint j = 0; j < G_N_ELEMENTS (message_sizes); j++)
      {
        gsize capacity = capacities[i], size = message_sizes[j];
        guint n = (guint) MAX (capacity / MAX (size, 1), 1);
        g_autoptr (GError) error = NULL;
        QTaskChannel *a, *b;

        q_task_channel_new_pair (&a, &b);
        q_task_channel_set_capacity (a, capacity);
        g_assert_cmpuint (channel_fill (a, 0, size), ==, n);

        /* One is read, one is written. */
        for (guint k = 0; k < 20; k++)
          {
            g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

            channel_message_check (message, k, size);
            g_assert_cmpuint (channel_fill (a, n + k, size), ==, 1);
          }

        for (guint k = 20; k < 20 + n; k++)
          {
            g_autoptr (GBytes) message = q_task_channel_try_read (b, &error);

            channel_message_check (message, k, size);
          }
        assert_would_block (b);
        g_assert_cmpuint (channel_fill (a, 0, size), ==, n);

        finalize_channel (a);
        finalize_channel (b);
      }
}

/* It is that of what is written at this end, and not at the other. */
static void
test_capacity_of_each_direction (void)
{
  QTaskChannel *a, *b;

  q_task_channel_new_pair (&a, &b);
  q_task_channel_set_capacity (a, 2);
  q_task_channel_set_capacity (b, 5);
  g_assert_cmpuint (channel_fill (a, 0, 1), ==, 2);
  g_assert_cmpuint (channel_fill (b, 0, 1), ==, 5);
  g_bytes_unref (q_task_channel_read (a, NULL, NULL));
  g_assert_cmpuint (channel_fill (b, 0, 1), ==, 1);
  g_assert_cmpuint (channel_fill (a, 0, 1), ==, 0);
  finalize_channel (a);
  finalize_channel (b);
}

static gpointer
write_many_thread (gpointer channel)
{
  for (guint i = 0; i < 500; i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, i % 9);
      g_autoptr (GError) error = NULL;

      q_task_channel_write_bytes (channel, message, NULL, &error);
      g_assert_no_error (error);
    }

  return NULL;
}

static void
test_capacity_1 (gconstpointer kind)
{
  QTaskChannel *a, *b;
  GThread *thread;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 1);
  thread = g_thread_new ("write-many", write_many_thread, a);

  for (guint i = 0; i < 500; i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

      g_assert_no_error (error);
      channel_message_check (message, i, i % 9);
    }

  g_thread_join (thread);
  assert_would_block (b);
  finalize_channel (a);
  finalize_channel (b);
}

/* What was accepted arrives with no further call at the end that wrote it. */
static void
test_fill_and_empty (gconstpointer kind)
{
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 5000);

  for (int pass = 0; pass < 3; pass++)
    {
      guint n = channel_fill (a, 0, 100);

      g_assert_cmpuint (n, >=, 50);
      if (KIND == CHANNEL_MEMORY)
        g_assert_cmpuint (n, ==, 50);
      else
        g_assert_cmpuint (n, <, 10000);

      for (guint i = 0; i < n; i++)
        {
          g_autoptr (GBytes) message = channel_read_iterating (b);

          channel_message_check (message, i, 100);
        }
      assert_would_block (b);
    }

  finalize_channel (a);
  finalize_channel (b);
}

/* All of it, also what the kernel had no room for: "what was written before the close". */
static void
test_fill_and_close (gconstpointer kind)
{
  for (int how = 0; how < 2; how++)
    {
      QTaskChannel *a, *b;
      guint n;

      channel_pair_new (KIND, &a, &b);
      n = channel_fill (a, 0, 1000);
      g_assert_cmpuint (n, >=, 1024);
      if (how == 0)
        q_task_channel_close (a);
      else
        g_object_unref (a);

      for (guint i = 0; i < n; i++)
        {
          g_autoptr (GBytes) message = channel_read_iterating (b);

          channel_message_check (message, i, 1000);
        }
      assert_end (b);
      if (how == 0)
        finalize_channel (a);
      finalize_channel (b);
    }
}

static void
test_no_capacity (gconstpointer kind)
{
  QTaskChannel *a, *b;
  g_autoptr (GError) error = NULL;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 0);

  for (guint i = 0; i < 4000; i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, 1000);

      q_task_channel_try_write (a, message, &error);
      g_assert_no_error (error);
    }

  for (guint i = 0; i < 4000; i++)
    {
      g_autoptr (GBytes) message = channel_read_iterating (b);

      channel_message_check (message, i, 1000);
    }

  finalize_channel (a);
  finalize_channel (b);
}

/* One that is larger than all of it goes alone. */
static void
test_larger_than_capacity (void)
{
  g_autoptr (GBytes) large = channel_message_new (1, 1000);
  g_autoptr (GBytes) small = channel_message_new (2, 1);
  g_autoptr (GError) error = NULL;
  QTaskChannel *a, *b;

  q_task_channel_new_pair (&a, &b);
  q_task_channel_set_capacity (a, 10);

  for (int i = 0; i < 3; i++)
    {
      g_autoptr (GBytes) first = NULL, second = NULL;

      g_assert_true (q_task_channel_try_write (a, large, &error));
      g_assert_no_error (error);
      g_assert_false (q_task_channel_try_write (a, small, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
      g_clear_error (&error);
      first = q_task_channel_read (b, NULL, &error);
      channel_message_check (first, 1, 1000);

      g_assert_true (q_task_channel_try_write (a, small, &error));
      g_assert_no_error (error);
      g_assert_false (q_task_channel_try_write (a, large, &error));
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
      g_clear_error (&error);
      second = q_task_channel_read (b, NULL, &error);
      channel_message_check (second, 2, 1);
    }

  finalize_channel (a);
  finalize_channel (b);
}

/* A writer that waits goes on when there is more room. (Over descriptors one that blocks waits for
 * the kernel.) */
static void
test_capacity_grows (gconstpointer kind)
{
  Blocker blocker = { 0 };
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 100);
  channel_fill (a, 0, 1);
  blocker_start (&blocker, a, CALL_WRITE, NULL);
  g_assert_cmpint (test_gate_get_count (&blocker.done), ==, 0);
  q_task_channel_set_capacity (a, 1000);
  blocker_join (&blocker);
  g_assert_no_error (blocker.error);
  g_assert_true (blocker.success);
  blocker_clear (&blocker);
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_max_message_size (gconstpointer kind)
{
  g_autoptr (GBytes) large = channel_message_new (1, 101);
  g_autoptr (GBytes) fits = channel_message_new (2, 100);
  g_autoptr (GError) error = NULL;
  QTaskChannel *a, *b;
  Reply reply = { 0 };

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_max_message_size (a, 100);

  g_assert_false (q_task_channel_write (a, g_bytes_get_data (large, NULL), 101, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  g_clear_error (&error);
  g_assert_false (q_task_channel_write_bytes (a, large, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  g_clear_error (&error);
  g_assert_false (q_task_channel_try_write (a, large, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  g_clear_error (&error);
  q_task_channel_write_async (a, large, NULL, write_cb, &reply);
  test_run_until (NULL, reply.called);
  g_assert_error (reply.error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE);
  reply_clear (&reply);
  assert_would_block (b);

  /* The channel goes on, and the limit is that of what is written here. */
  g_assert_true (q_task_channel_write_bytes (a, fits, NULL, &error));
  g_assert_no_error (error);
  {
    g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

    channel_message_check (message, 2, 100);
  }
  q_task_channel_set_max_message_size (a, 101);
  g_assert_true (q_task_channel_write_bytes (a, large, NULL, &error));
  {
    g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

    channel_message_check (message, 1, 101);
  }

  finalize_channel (a);
  finalize_channel (b);
}

/* Closing */

static gpointer
close_thread (gpointer channel)
{
  q_task_channel_close (channel);

  return NULL;
}

static void
test_close (gconstpointer kind)
{
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  write_string (a, "one");
  write_string (b, "dropped");
  write_string (a, "");
  write_string (a, "two");
  g_thread_join (g_thread_new ("close", close_thread, a));
  g_assert_true (q_task_channel_is_closed (a));
  g_assert_false (q_task_channel_is_closed (b));
  q_task_channel_close (a);
  q_task_channel_close (a);

  /* Here all is over, also what was not read. */
  assert_reads_fail (a, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_writes_fail (a, G_IO_ERROR, G_IO_ERROR_CLOSED);

  /* There what was written can be read, and nothing be written. */
  assert_writes_fail (b, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  assert_read (b, "one");
  assert_read (b, "");
  assert_writes_fail (b, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  assert_read (b, "two");
  assert_end (b);
  assert_writes_fail (b, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  g_assert_false (q_task_channel_is_closed (b));

  q_task_channel_close (b);
  g_assert_true (q_task_channel_is_closed (b));
  assert_reads_fail (b, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_writes_fail (b, G_IO_ERROR, G_IO_ERROR_CLOSED);
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_last_reference_closes (gconstpointer kind)
{
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  write_string (a, "one");
  write_string (b, "never read");
  finalize_channel (a);
  assert_read (b, "one");
  assert_end (b);
  assert_writes_fail (b, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  finalize_channel (b);
}

/* Both ends close, of what is full in both directions. */
static void
test_close_both_full (gconstpointer kind)
{
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 10000);
  q_task_channel_set_capacity (b, 10000);
  channel_fill (a, 0, 1000);
  channel_fill (b, 0, 1000);
  q_task_channel_close (a);
  q_task_channel_close (b);
  assert_reads_fail (a, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_reads_fail (b, G_IO_ERROR, G_IO_ERROR_CLOSED);
  finalize_channel (a);
  finalize_channel (b);
}

/* Who blocks in a call at an end that is closed, or whose peer is, is told. */
static void
test_close_wakes (gconstpointer kind)
{
  for (Call call = 0; call < N_CALLS; call++)
    for (int how = 0; how < 4; how++)
      {
        int n_blockers = 1 + how / 2;
        gboolean peer = how % 2;
        Blocker blockers[2] = { { 0 } };
        QTaskChannel *a, *b;

        channel_pair_new (KIND, &a, &b);
        q_task_channel_set_capacity (a, 1);
        if (!call_is_read (call))
          channel_fill (a, 0, 100);
        for (int i = 0; i < n_blockers; i++)
          {
            blocker_start (&blockers[i], a, call, NULL);
            g_assert_cmpint (test_gate_get_count (&blockers[i].done), ==, 0);
          }

        q_task_channel_close (peer ? b : a);

        for (int i = 0; i < n_blockers; i++)
          {
            blocker_join (&blockers[i]);
            g_assert_false (blockers[i].success);
            if (!peer)
              g_assert_error (blockers[i].error, G_IO_ERROR, G_IO_ERROR_CLOSED);
            else if (!call_is_read (call))
              g_assert_error (blockers[i].error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
            else
              {
                g_assert_no_error (blockers[i].error);
                g_assert_cmpuint (blockers[i].message_size, ==, 0);
              }
            blocker_clear (&blockers[i]);
          }

        finalize_channel (a);
        finalize_channel (b);
      }
}

/* A reader and a writer at one end, and a reader and a writer at the other */
static void
test_close_wakes_all (gconstpointer kind)
{
  Blocker blockers[4] = { { 0 } };
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 1);
  channel_fill (a, 0, 100);
  blocker_start (&blockers[0], a, CALL_READ, NULL);
  blocker_start (&blockers[1], a, CALL_WRITE, NULL);
  blocker_start (&blockers[2], a, CALL_READ_INTO, NULL);
  blocker_start (&blockers[3], a, CALL_WRITE_BYTES, NULL);
  q_task_channel_close (a);
  for (int i = 0; i < 4; i++)
    {
      blocker_join (&blockers[i]);
      g_assert_error (blockers[i].error, G_IO_ERROR, G_IO_ERROR_CLOSED);
      blocker_clear (&blockers[i]);
    }
  finalize_channel (a);
  finalize_channel (b);
}

/* Who blocks is woken by what it waits for. */
static void
test_blocked_goes_on (gconstpointer kind)
{
  for (Call call = 0; call < N_CALLS; call++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Blocker blocker = { 0 };
      QTaskChannel *a, *b;
      guint n = 0;

      channel_pair_new (KIND, &a, &b);
      q_task_channel_set_capacity (a, 1);
      if (!call_is_read (call))
        n = channel_fill (a, 0, 100);
      blocker_start (&blocker, a, call, cancellable);
      g_assert_cmpint (test_gate_get_count (&blocker.done), ==, 0);

      if (call_is_read (call))
        write_string (b, "woken");
      else
        for (guint i = 0; i < n; i++)
          {
            g_autoptr (GBytes) message = q_task_channel_read (b, NULL, NULL);

            channel_message_check (message, i, 100);
          }

      blocker_join (&blocker);
      g_assert_no_error (blocker.error);
      g_assert_true (blocker.success);
      if (call == CALL_READ)
        assert_bytes (blocker.message, "woken");
      if (call == CALL_READ_INTO)
        g_assert_cmpuint (blocker.message_size, ==, 5);
      if (!call_is_read (call))
        {
          g_autoptr (GBytes) message = q_task_channel_read (b, NULL, NULL);

          channel_message_check (message, 7, 100);
        }
      blocker_clear (&blocker);
      finalize_channel (a);
      finalize_channel (b);
    }
}

/* Cancelling */

static void
test_cancelled_before (gconstpointer kind)
{
  TestFate fate = TEST_FATE_INIT;
  GCancellable *cancellable = test_cancellable_new (&fate);
  g_autoptr (GBytes) message = channel_message_new (1, 10);
  g_autoptr (GError) error = NULL;
  Reply replies[2] = { { 0 } };
  QTaskChannel *a, *b;
  gsize message_size;
  guint8 buffer[10];

  channel_pair_new (KIND, &a, &b);
  g_cancellable_cancel (cancellable);
  write_string (b, "stays");

  g_assert_null (q_task_channel_read (a, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&error);
  g_assert_false (q_task_channel_read_into (a, buffer, 10, &message_size, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&error);
  g_assert_false (q_task_channel_write (a, "x", 1, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&error);
  g_assert_false (q_task_channel_write_bytes (a, message, cancellable, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  q_task_channel_read_async (a, cancellable, read_cb, &replies[0]);
  q_task_channel_write_async (a, message, cancellable, write_cb, &replies[1]);
  for (int i = 0; i < 2; i++)
    {
      test_run_until (NULL, replies[i].called);
      g_assert_false (replies[i].success);
      g_assert_error (replies[i].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      reply_clear (&replies[i]);
    }

  /* Nothing was taken, and nothing sent. */
  assert_read (a, "stays");
  assert_would_block (b);
  g_object_unref (cancellable);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
  finalize_channel (a);
  finalize_channel (b);
}

static void
wait_for_done_cb (GCancellable *cancellable,
                  gpointer gate)
{
  test_gate_wait (gate);
}

/* One that is told of the cancelling waits for the one that blocks, and was told before. */
static void
test_cancelled_handler_waits (gconstpointer kind)
{
  for (Call call = 0; call < N_CALLS; call++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Blocker blocker = { 0 };
      QTaskChannel *a, *b;

      channel_pair_new (KIND, &a, &b);
      q_task_channel_set_capacity (a, 1);
      if (!call_is_read (call))
        channel_fill (a, 0, 100);
      blocker_start (&blocker, a, call, cancellable);
      g_signal_connect (cancellable, "cancelled", G_CALLBACK (wait_for_done_cb), &blocker.done);
      g_cancellable_cancel (cancellable);
      blocker_join (&blocker);
      g_assert_error (blocker.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      blocker_clear (&blocker);
      finalize_channel (a);
      finalize_channel (b);
    }
}

static void
test_cancelled_while_blocked (gconstpointer kind)
{
  for (Call call = 0; call < N_CALLS; call++)
    {
      TestFate fate = TEST_FATE_INIT;
      GCancellable *cancellable = test_cancellable_new (&fate);
      Blocker blocker = { 0 }, other = { 0 };
      QTaskChannel *a, *b;
      guint n = 0;

      channel_pair_new (KIND, &a, &b);
      q_task_channel_set_capacity (a, 1);
      if (!call_is_read (call))
        n = channel_fill (a, 0, 100);
      blocker_start (&blocker, a, call, cancellable);
      blocker_start (&other, a, call, NULL);
      g_assert_cmpint (test_gate_get_count (&blocker.done), ==, 0);
      g_cancellable_cancel (cancellable);
      blocker_join (&blocker);
      g_assert_false (blocker.success);
      g_assert_error (blocker.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpint (test_gate_get_count (&other.done), ==, 0);
      g_object_unref (cancellable);
      g_assert_cmpint (test_fate_get_count (&fate), ==, 1);

      /* Nothing was sent, or taken, and the other one goes on. */
      if (call_is_read (call))
        write_string (b, "to the other");
      else
        for (guint i = 0; i < n + 1; i++)
          {
            g_autoptr (GBytes) message = q_task_channel_read (b, NULL, NULL);

            channel_message_check (message, i == n ? 7 : i, 100);
          }
      blocker_join (&other);
      g_assert_no_error (other.error);
      g_assert_true (other.success);
      assert_would_block (a);
      assert_would_block (b);

      blocker_clear (&blocker);
      blocker_clear (&other);
      finalize_channel (a);
      finalize_channel (b);
    }
}

/* Cancelled or not, at the same moment as what it waits for: each message is read once. */
typedef struct
{
  QTaskChannel *channel;
  GCancellable *cancellable;
  TestGate start;
} Canceller;

static gpointer
cancel_thread (gpointer data)
{
  Canceller *canceller = data;

  test_gate_wait (&canceller->start);
  g_cancellable_cancel (canceller->cancellable);

  return NULL;
}

static gpointer
write_one_thread (gpointer data)
{
  Canceller *canceller = data;

  test_gate_wait (&canceller->start);
  write_string (canceller->channel, "raced");

  return NULL;
}

static void
test_cancel_races (gconstpointer kind)
{
  QTaskChannel *a, *b;
  int n_read = 0;

  channel_pair_new (KIND, &a, &b);

  for (int i = 0; i < (is_slow () ? 50 : 300); i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Canceller canceller = { a, cancellable, TEST_GATE_INIT };
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = NULL;
      GThread *threads[2];

      threads[0] = g_thread_new ("cancel", cancel_thread, &canceller);
      threads[1] = g_thread_new ("write", write_one_thread, &canceller);
      test_gate_open (&canceller.start);
      message = q_task_channel_read (b, cancellable, &error);
      g_thread_join (threads[0]);
      g_thread_join (threads[1]);
      if (message != NULL)
        {
          n_read++;
          g_assert_no_error (error);
          assert_bytes (message, "raced");
        }
      else
        {
          g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          assert_read (b, "raced");
        }
      assert_would_block (b);
    }

  g_test_message ("%d were read before", n_read);
  finalize_channel (a);
  finalize_channel (b);
}

/* Asynchronous calls */

static void
test_read_async (gconstpointer kind)
{
  Reply replies[5] = { { 0 } };
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);

  /* What is there already: the callback does not come inside of the call. */
  write_string (a, "early");
  q_task_channel_read_async (b, NULL, read_cb, &replies[0]);
  g_assert_cmpint (replies[0].called, ==, 0);
  test_run_until (NULL, replies[0].called);
  assert_bytes (replies[0].message, "early");

  /* Several wait; the first that asked is the first to get one. */
  for (int i = 1; i < 5; i++)
    q_task_channel_read_async (b, NULL, read_cb, &replies[i]);
  test_run_pending (NULL);
  for (int i = 1; i < 5; i++)
    g_assert_cmpint (replies[i].called, ==, 0);
  write_string (a, "1");
  test_run_until (NULL, replies[1].called);
  assert_bytes (replies[1].message, "1");
  test_run_pending (NULL);
  g_assert_cmpint (replies[2].called, ==, 0);
  write_string (a, "2");
  write_string (a, "3");
  q_task_channel_close (a);
  test_run_until (NULL, replies[4].called);
  assert_bytes (replies[2].message, "2");
  assert_bytes (replies[3].message, "3");
  g_assert_null (replies[4].message);
  g_assert_no_error (replies[4].error);
  g_assert_cmpint (replies[2].serial, <, replies[3].serial);
  g_assert_cmpint (replies[3].serial, <, replies[4].serial);

  for (int i = 0; i < 5; i++)
    {
      g_assert_true (replies[i].thread == g_thread_self ());
      reply_clear (&replies[i]);
    }
  finalize_channel (a);
  finalize_channel (b);
}

/* An asynchronous call keeps the channel, and ends when it is closed. */
static void
test_async_and_close (gconstpointer kind)
{
  g_autoptr (GBytes) message = channel_message_new (1, 100);
  Reply replies[4] = { { 0 } };
  TestFate fate = TEST_FATE_INIT;
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 1);
  channel_fill (a, 0, 100);
  for (int i = 0; i < 2; i++)
    {
      q_task_channel_read_async (a, NULL, read_cb, &replies[i]);
      q_task_channel_write_async (a, message, NULL, write_cb, &replies[2 + i]);
    }
  q_task_channel_close (a);
  for (int i = 0; i < 4; i++)
    {
      test_run_until (NULL, replies[i].called);
      g_assert_false (replies[i].success);
      g_assert_error (replies[i].error, G_IO_ERROR, G_IO_ERROR_CLOSED);
      reply_clear (&replies[i]);
    }
  test_run_pending (NULL);
  finalize_channel (a);
  finalize_channel (b);

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 1);
  channel_fill (a, 0, 100);
  q_task_channel_write_async (a, message, NULL, write_cb, &replies[0]);
  q_task_channel_write_async (a, message, NULL, write_cb, &replies[1]);
  test_fate_watch (&fate, a);
  g_object_unref (a);
  test_run_pending (NULL);
  test_assert_alive (&fate);
  finalize_channel (b);
  for (int i = 0; i < 2; i++)
    {
      test_run_until (NULL, replies[i].called);
      g_assert_error (replies[i].error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
      reply_clear (&replies[i]);
    }
  test_run_pending (NULL);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
}

static void
test_write_async (gconstpointer kind)
{
  Reply replies[20] = { { 0 } };
  g_autoptr (GBytes) extra = channel_message_new (0, 100);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  QTaskChannel *a, *b;
  guint n;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 100);

  /* While there is room it is accepted at once, but told later. */
  q_task_channel_write_async (a, extra, NULL, write_cb, &replies[0]);
  g_assert_cmpint (replies[0].called, ==, 0);
  test_run_until (NULL, replies[0].called);
  g_assert_true (replies[0].success);
  reply_clear (&replies[0]);
  n = channel_fill (a, 1, 100) + 1;

  /* Then they wait, in order; the third is cancelled. */
  for (guint i = 0; i < G_N_ELEMENTS (replies); i++)
    {
      g_autoptr (GBytes) message = channel_message_new (n + i, 100);

      q_task_channel_write_async (a, message, i == 2 ? cancellable : NULL, write_cb, &replies[i]);
    }
  test_run_pending (NULL);
  for (guint i = 0; i < G_N_ELEMENTS (replies); i++)
    g_assert_cmpint (replies[i].called, ==, 0);
  g_cancellable_cancel (cancellable);
  test_run_until (NULL, replies[2].called);
  g_assert_error (replies[2].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (replies[0].called, ==, 0);

  for (guint i = 0; i < n + G_N_ELEMENTS (replies); i++)
    {
      g_autoptr (GBytes) message = NULL;

      if (i == n + 2)
        continue;

      /* Nothing overtakes those that wait. (What the kernel has taken does not wait.) */
      if (i == 0 || (KIND == CHANNEL_MEMORY && i < n + 10))
        {
          g_assert_false (q_task_channel_try_write (a, extra, &error));
          g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
          g_clear_error (&error);
        }
      message = channel_read_iterating (b);
      channel_message_check (message, i, 100);
    }

  for (guint i = 0; i < G_N_ELEMENTS (replies); i++)
    {
      test_run_until (NULL, replies[i].called);
      g_assert_true (replies[i].thread == g_thread_self ());
      if (i != 2)
        g_assert_no_error (replies[i].error);
      if (i > 0 && i != 2 && i != 3)
        g_assert_cmpint (replies[i - 1].serial, <, replies[i].serial);
    }
  for (guint i = 0; i < G_N_ELEMENTS (replies); i++)
    reply_clear (&replies[i]);
  assert_would_block (b);
  finalize_channel (a);
  finalize_channel (b);
}

/* A blocking writer that comes after asynchronous ones writes after them. */
static void
test_write_after_write_async (gconstpointer kind)
{
  g_autoptr (GBytes) message = channel_message_new (1000, 100);
  Blocker blocker = { 0 };
  Reply reply = { 0 };
  QTaskChannel *a, *b;
  guint n;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 100);
  n = channel_fill (a, 0, 100);
  q_task_channel_write_async (a, message, NULL, write_cb, &reply);
  blocker_start (&blocker, a, CALL_WRITE, NULL);

  for (guint i = 0; i < n + 2; i++)
    {
      g_autoptr (GBytes) arrived = channel_read_iterating (b);

      channel_message_check (arrived, i < n ? i : i == n ? 1000
                                                         : 7,
                             100);
    }
  blocker_join (&blocker);
  g_assert_no_error (blocker.error);
  blocker_clear (&blocker);
  test_run_until (NULL, reply.called);
  g_assert_no_error (reply.error);
  reply_clear (&reply);
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_async_cancelled (gconstpointer kind)
{
  TestFate fate = TEST_FATE_INIT;
  GCancellable *cancellable = test_cancellable_new (&fate);
  Reply replies[2] = { { 0 } };
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_read_async (a, cancellable, read_cb, &replies[0]);
  q_task_channel_read_async (a, NULL, read_cb, &replies[1]);
  test_run_pending (NULL);
  g_cancellable_cancel (cancellable);
  g_assert_cmpint (replies[0].called, ==, 0);
  test_run_until (NULL, replies[0].called);
  g_assert_error (replies[0].error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (replies[1].called, ==, 0);
  write_string (b, "kept");
  test_run_until (NULL, replies[1].called);
  assert_bytes (replies[1].message, "kept");
  reply_clear (&replies[0]);
  reply_clear (&replies[1]);
  test_run_pending (NULL);
  g_object_unref (cancellable);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
  finalize_channel (a);
  finalize_channel (b);
}

/* The callback comes in the context that was thread-default at the call. */
typedef struct
{
  QTaskChannel *channel;
  Reply reply;
  TestGate done;
} ElsewhereRead;

static void
elsewhere_cb (GObject *source,
              GAsyncResult *result,
              gpointer data)
{
  ElsewhereRead *elsewhere = data;

  read_cb (source, result, &elsewhere->reply);
  test_gate_open (&elsewhere->done);
}

static void
read_elsewhere (gpointer data,
                gpointer unused)
{
  ElsewhereRead *elsewhere = data;

  q_task_channel_read_async (elsewhere->channel, NULL, elsewhere_cb, elsewhere);
}

static void
test_async_elsewhere (gconstpointer kind)
{
  ElsewhereRead elsewhere = { .done = TEST_GATE_INIT };
  TestLoop *loop = test_loop_new ("elsewhere");
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  elsewhere.channel = a;
  test_loop_call (loop, read_elsewhere, &elsewhere);
  write_string (b, "elsewhere");
  test_gate_wait (&elsewhere.done);
  g_assert_true (elsewhere.reply.thread == test_loop_get_thread (loop));
  assert_bytes (elsewhere.reply.message, "elsewhere");
  test_loop_free (loop);
  reply_clear (&elsewhere.reply);
  finalize_channel (a);
  finalize_channel (b);
}

/* Sources */

typedef struct
{
  QTaskChannel *channel;
  int n_called;
  GThread *thread;
  gboolean result;
  TestFate fate;
} Watch;

static gboolean
watch_cb (QTaskChannel *channel,
          gpointer data)
{
  Watch *watch = data;

  if (watch->channel != NULL)
    g_assert_true (channel == watch->channel);
  watch->thread = g_thread_self ();
  g_atomic_int_inc (&watch->n_called);

  return watch->result;
}

static void
watch_gone_cb (gpointer data)
{
  test_fate_notify (&((Watch *) data)->fate);
}

static GSource *
watch_start (Watch *watch,
             QTaskChannel *channel,
             GIOCondition condition,
             GCancellable *cancellable,
             GMainContext *context)
{
  GSource *source = q_task_channel_create_source (channel, condition, cancellable);

  *watch = (Watch){ channel, 0, NULL, G_SOURCE_CONTINUE, TEST_FATE_INIT };
  g_source_set_callback (source, G_SOURCE_FUNC (watch_cb), watch, watch_gone_cb);
  g_source_attach (source, context);

  return source;
}

/* Iterates, and tells whether the source was dispatched */
static gboolean
watch_is_ready (Watch *watch)
{
  watch->n_called = 0;
  for (int i = 0; i < 5; i++)
    g_main_context_iteration (NULL, FALSE);

  return watch->n_called > 0;
}

static void
watch_stop (GSource *source)
{
  g_source_destroy (source);
  g_source_unref (source);
}

static void
test_source_in (gconstpointer kind)
{
  QTaskChannel *a, *b;
  GSource *source;
  Watch watch;

  channel_pair_new (KIND, &a, &b);
  source = watch_start (&watch, a, G_IO_IN, NULL, NULL);
  g_assert_false (watch_is_ready (&watch));

  for (int i = 0; i < 3; i++)
    {
      write_string (b, "one");
      write_string (b, "");
      g_assert_true (watch_is_ready (&watch));
      assert_read (a, "one");
      g_assert_true (watch_is_ready (&watch));
      assert_read (a, "");
      g_assert_false (watch_is_ready (&watch));
    }

  /* The end is something to read, again and again. */
  write_string (b, "last");
  q_task_channel_close (b);
  g_assert_true (watch_is_ready (&watch));
  assert_read (a, "last");
  g_assert_true (watch_is_ready (&watch));
  assert_end (a);
  g_assert_true (watch_is_ready (&watch));
  q_task_channel_close (a);
  g_assert_true (watch_is_ready (&watch));
  watch_stop (source);
  g_assert_cmpint (test_fate_get_count (&watch.fate), ==, 1);
  finalize_channel (a);
  finalize_channel (b);
}

/* It sleeps until there is something, and a write of another thread wakes it. */
static gpointer
write_late_thread (gpointer channel)
{
  g_usleep (2000);
  write_string (channel, "late");

  return NULL;
}

static void
test_source_is_woken (gconstpointer kind)
{
  QTaskChannel *a, *b;
  GSource *source;
  Watch watch;

  channel_pair_new (KIND, &a, &b);
  source = watch_start (&watch, a, G_IO_IN, NULL, NULL);
  for (int i = 0; i < 20; i++)
    {
      GThread *thread = g_thread_new ("write-late", write_late_thread, b);

      watch.n_called = 0;
      test_run_until (NULL, watch.n_called);
      g_thread_join (thread);
      assert_read (a, "late");
    }
  watch.n_called = 0;
  {
    GThread *thread = g_thread_new ("close", close_thread, b);

    test_run_until (NULL, watch.n_called);
    g_thread_join (thread);
  }
  assert_end (a);
  watch_stop (source);
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_source_out (gconstpointer kind)
{
  QTaskChannel *a, *b;
  GSource *source;
  Watch watch;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 300);
  source = watch_start (&watch, a, G_IO_OUT, NULL, NULL);
  g_assert_true (watch_is_ready (&watch));

  for (int pass = 0; pass < 3; pass++)
    {
      guint n = channel_fill (a, 0, 100);

      channel_fill (a, 0, 1);
      g_assert_false (watch_is_ready (&watch));
      for (guint i = 0; i < n; i++)
        g_bytes_unref (channel_read_iterating (b));
      test_run_until (NULL, watch.n_called);
      g_assert_true (watch_is_ready (&watch));
      while (watch_is_ready (&watch))
        {
          GBytes *rest = q_task_channel_try_read (b, NULL);

          if (rest == NULL)
            break;
          g_bytes_unref (rest);
        }
    }

  channel_fill (a, 0, 100);
  channel_fill (a, 0, 1);
  g_assert_false (watch_is_ready (&watch));
  q_task_channel_close (b);
  test_run_until (NULL, watch.n_called);
  q_task_channel_close (a);
  g_assert_true (watch_is_ready (&watch));
  watch_stop (source);
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_source_cancellable (gconstpointer kind)
{
  TestFate fate = TEST_FATE_INIT;
  GCancellable *cancellable = test_cancellable_new (&fate);
  QTaskChannel *a, *b;
  GSource *source;
  Watch watch;

  channel_pair_new (KIND, &a, &b);
  source = watch_start (&watch, a, G_IO_IN, cancellable, NULL);
  g_assert_false (watch_is_ready (&watch));
  g_cancellable_cancel (cancellable);
  g_assert_true (watch_is_ready (&watch));
  watch.result = G_SOURCE_REMOVE;
  g_assert_true (watch_is_ready (&watch));
  g_assert_cmpint (watch.n_called, ==, 1);
  g_assert_cmpint (test_fate_get_count (&watch.fate), ==, 1);
  g_assert_false (watch_is_ready (&watch));
  g_source_unref (source);
  g_object_unref (cancellable);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
  finalize_channel (a);
  finalize_channel (b);
}

/* Cancelled by another thread while the context sleeps */
static TestGate asleep = TEST_GATE_INIT;

static int
telling_poll (GPollFD *fds,
              guint n_fds,
              int timeout)
{
  if (timeout != 0)
    test_gate_open (&asleep);

  return g_poll (fds, n_fds, timeout);
}

static gpointer
cancel_asleep_thread (gpointer cancellable)
{
  test_gate_wait (&asleep);
  g_cancellable_cancel (cancellable);

  return NULL;
}

static void
test_cancelled_asleep (gconstpointer kind)
{
  GPollFunc old_poll = g_main_context_get_poll_func (NULL);

  for (int i = 0; i < 3 * test_scaled (50); i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      GSource *source = NULL;
      Reply reply = { 0 };
      QTaskChannel *a, *b;
      GThread *thread;
      Watch watch = { 0 };

      channel_pair_new (KIND, &a, &b);
      q_task_channel_set_capacity (a, 1);
      if (i % 3 == 0)
        q_task_channel_read_async (a, cancellable, read_cb, &reply);
      else if (i % 3 == 1)
        {
          g_autoptr (GBytes) message = channel_message_new (1, 1);

          channel_fill (a, 0, 100);
          q_task_channel_write_async (a, message, cancellable, write_cb, &reply);
        }
      else
        {
          source = watch_start (&watch, a, G_IO_IN, cancellable, NULL);
          watch.result = G_SOURCE_REMOVE;
        }

      test_gate_close (&asleep);
      g_main_context_set_poll_func (NULL, telling_poll);
      thread = g_thread_new ("cancel", cancel_asleep_thread, cancellable);
      test_run_until (NULL, reply.called + watch.n_called);
      g_main_context_set_poll_func (NULL, old_poll);
      g_thread_join (thread);
      if (source == NULL)
        g_assert_error (reply.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      else
        g_source_unref (source);
      reply_clear (&reply);
      finalize_channel (a);
      finalize_channel (b);
    }
}

/* It holds the channel. */
static void
test_source_outlives (gconstpointer kind)
{
  TestFate fate = TEST_FATE_INIT;
  QTaskChannel *a, *b;
  GSource *source;
  Watch watch;

  channel_pair_new (KIND, &a, &b);
  test_fate_watch (&fate, a);
  source = watch_start (&watch, a, G_IO_IN, NULL, NULL);
  g_object_unref (a);
  test_assert_alive (&fate);
  g_assert_false (watch_is_ready (&watch));
  write_string (b, "heard");
  g_assert_true (watch_is_ready (&watch));
  g_assert_true (watch.channel == a);
  assert_read (a, "heard");
  watch_stop (source);
  g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
  assert_end (b);
  finalize_channel (b);
}

static void
test_source_context_goes (gconstpointer kind)
{
  for (int n_messages = 0; n_messages < 2; n_messages++)
    {
      GMainContext *context = g_main_context_new ();
      QTaskChannel *a, *b;
      GSource *sources[2];
      Watch watches[2];

      channel_pair_new (KIND, &a, &b);
      sources[0] = watch_start (&watches[0], a, G_IO_IN, NULL, context);
      sources[1] = watch_start (&watches[1], a, G_IO_OUT, NULL, context);
      g_main_context_iteration (context, FALSE);
      if (n_messages > 0)
        write_string (b, "for nobody");
      g_main_context_unref (context);
      for (int i = 0; i < 2; i++)
        {
          g_assert_cmpint (test_fate_get_count (&watches[i].fate), ==, 1);
          g_assert_true (g_source_is_destroyed (sources[i]));
        }
      write_string (b, "for nobody");
      write_string (a, "for nobody");
      for (int i = 0; i < 2; i++)
        g_source_unref (sources[i]);
      finalize_channel (a);
      finalize_channel (b);
    }
}

/* Another thread may attach a source while the context polls, as this does in between: it is then
 * checked without having been prepared. */
static void
test_source_attached_in_poll (gconstpointer kind)
{
  GMainContext *context = g_main_context_new ();
  QTaskChannel *a, *b;
  GSource *sources[2];
  Watch watches[2];
  GPollFD fds[8];
  int timeout;
  int priority;
  int n_fds;

  channel_pair_new (KIND, &a, &b);
  write_string (b, "1");

  g_assert_true (g_main_context_acquire (context));
  g_main_context_prepare (context, &priority);
  n_fds = g_main_context_query (context, priority, &timeout, fds, G_N_ELEMENTS (fds));
  g_assert_cmpint (n_fds, <=, (int) G_N_ELEMENTS (fds));
  sources[0] = watch_start (&watches[0], a, G_IO_IN, NULL, context);
  sources[1] = watch_start (&watches[1], a, G_IO_OUT, NULL, context);
  if (g_main_context_check (context, priority, fds, n_fds))
    g_main_context_dispatch (context);
  g_main_context_release (context);

  while (watches[0].n_called == 0 || watches[1].n_called == 0)
    g_main_context_iteration (context, TRUE);

  for (int i = 0; i < 2; i++)
    {
      g_source_destroy (sources[i]);
      g_source_unref (sources[i]);
    }
  finalize_channel (a);
  finalize_channel (b);
  g_main_context_unref (context);
}

/* One that never was in a context, and several at once in two contexts */
static void
test_sources (gconstpointer kind)
{
  GMainContext *context = g_main_context_new ();
  QTaskChannel *a, *b;
  GSource *sources[3];
  Watch watches[3];

  channel_pair_new (KIND, &a, &b);
  g_source_unref (q_task_channel_create_source (a, G_IO_IN, NULL));
  g_source_unref (q_task_channel_create_source (a, G_IO_OUT, NULL));
  sources[0] = watch_start (&watches[0], a, G_IO_IN, NULL, NULL);
  sources[1] = watch_start (&watches[1], a, G_IO_IN, NULL, context);
  sources[2] = watch_start (&watches[2], b, G_IO_IN | G_IO_OUT, NULL, NULL);
  g_assert_true (watch_is_ready (&watches[2]));
  g_assert_cmpint (watches[0].n_called, ==, 0);
  write_string (b, "to all");
  test_run_until (NULL, watches[0].n_called);
  test_run_until (context, watches[1].n_called);
  assert_read (a, "to all");
  for (int i = 0; i < 3; i++)
    watch_stop (sources[i]);
  g_main_context_unref (context);
  finalize_channel (a);
  finalize_channel (b);
}

/* Message functions */

typedef struct
{
  QTaskChannel *channel;
  GPtrArray *messages;
  int n_ends;
  int n_called;
  GThread *thread;
  TestFate fate;
  TestGate ended;
  void (*then) (QTaskChannel *channel, gpointer listener); /* called with each message */
} Listener;

#define LISTENER_INIT \
  { \
    .fate = TEST_FATE_INIT, .ended = TEST_GATE_INIT \
  }

static void
message_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer data)
{
  Listener *listener = data;

  if (listener->channel != NULL)
    g_assert_true (channel == listener->channel);
  g_assert_cmpint (listener->n_ends, ==, 0);
  test_assert_alive (&listener->fate);
  listener->thread = g_thread_self ();
  listener->n_called++;
  if (message == NULL)
    {
      listener->n_ends++;
      test_gate_open (&listener->ended);
    }
  else
    {
      if (listener->messages == NULL)
        listener->messages = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
      g_ptr_array_add (listener->messages, g_bytes_ref (message));
    }
  if (listener->then != NULL)
    listener->then (channel, listener);
}

static void
listener_gone_cb (gpointer data)
{
  test_fate_notify (&((Listener *) data)->fate);
}

static guint
listener_get_n (Listener *listener)
{
  return listener->messages != NULL ? listener->messages->len : 0;
}

static void
listener_clear (Listener *listener)
{
  g_clear_pointer (&listener->messages, g_ptr_array_unref);
}

static void
hear (QTaskChannel *channel,
      Listener *listener)
{
  q_task_channel_set_message_func (channel, message_cb, listener, listener_gone_cb);
}

#define assert_heard(listener, i, string) \
  assert_bytes (g_ptr_array_index ((listener)->messages, i), string)

static void
test_message_func (gconstpointer kind)
{
  Listener listener = LISTENER_INIT;
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  listener.channel = a;

  /* What was there before, what comes later, and the end, once. */
  write_string (b, "before");
  write_string (b, "");
  hear (a, &listener);
  g_assert_cmpint (listener.n_called, ==, 0);
  test_run_until (NULL, listener_get_n (&listener) == 2);
  write_string (b, "after");
  test_run_until (NULL, listener_get_n (&listener) == 3);
  test_run_pending (NULL);
  g_assert_cmpint (listener.n_called, ==, 3);
  write_string (b, "last");
  q_task_channel_close (b);
  test_run_until (NULL, listener.n_ends == 1);
  test_run_pending (NULL);
  g_assert_cmpint (listener.n_called, ==, 5);
  assert_heard (&listener, 0, "before");
  assert_heard (&listener, 1, "");
  assert_heard (&listener, 2, "after");
  assert_heard (&listener, 3, "last");
  g_assert_true (listener.thread == g_thread_self ());

  /* It is over, and reads go on to say so. */
  assert_end (a);
  g_assert_cmpint (listener.n_called, ==, 5);
  finalize_channel (a);
  test_run_pending (NULL);
  test_assert_destroyed_here (&listener.fate);
  finalize_channel (b);
  listener_clear (&listener);
}

/* Set when all is over: it is told at once, but not inside of the call. */
static void
test_message_func_at_the_end (gconstpointer kind)
{
  Listener listener = LISTENER_INIT;
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  finalize_channel (b);
  assert_end (a);
  hear (a, &listener);
  g_assert_cmpint (listener.n_called, ==, 0);
  test_run_until (NULL, listener.n_ends == 1);
  g_assert_cmpint (listener.n_called, ==, 1);
  finalize_channel (a);
  test_run_pending (NULL);
  test_assert_destroyed_here (&listener.fate);
  listener_clear (&listener);
}

static void
test_message_func_order (gconstpointer kind)
{
  Listener listener = LISTENER_INIT;
  QTaskChannel *a, *b;
  GThread *thread;

  channel_pair_new (KIND, &a, &b);
  hear (b, &listener);
  thread = g_thread_new ("write-sizes", write_sizes_thread, a);
  test_run_until (NULL, listener_get_n (&listener) == G_N_ELEMENTS (sizes));
  g_thread_join (thread);
  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    channel_message_check (g_ptr_array_index (listener.messages, i), i, sizes[i]);
  finalize_channel (a);
  test_run_until (NULL, listener.n_ends == 1);
  finalize_channel (b);
  test_run_pending (NULL);
  test_assert_destroyed_here (&listener.fate);
  listener_clear (&listener);
}

/* Removed, it is called no more, and what it did not take is read by others. */
static void
test_message_func_removed (gconstpointer kind)
{
  Listener listener = LISTENER_INIT, second = LISTENER_INIT;
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  hear (a, &listener);
  write_string (b, "one");
  test_run_until (NULL, listener_get_n (&listener) == 1);
  q_task_channel_set_message_func (a, NULL, NULL, NULL);
  test_run_pending (NULL);
  test_assert_destroyed_here (&listener.fate);
  write_string (b, "two");
  test_run_pending (NULL);
  g_assert_cmpint (listener.n_called, ==, 1);
  assert_read (a, "two");

  /* Removed before it could take what is there */
  listener.fate = (TestFate) TEST_FATE_INIT;
  hear (a, &listener);
  write_string (b, "three");
  q_task_channel_set_message_func (a, NULL, NULL, NULL);
  test_run_pending (NULL);
  test_assert_destroyed_here (&listener.fate);
  g_assert_cmpint (listener.n_called, ==, 1);
  assert_read (a, "three");
  q_task_channel_set_message_func (a, NULL, NULL, NULL);

  /* Replaced */
  listener.fate = (TestFate) TEST_FATE_INIT;
  hear (a, &listener);
  write_string (b, "four");
  hear (a, &second);
  test_run_until (NULL, listener_get_n (&second) == 1);
  test_assert_destroyed_here (&listener.fate);
  test_assert_alive (&second.fate);
  g_assert_cmpint (listener.n_called, ==, 1);
  assert_heard (&second, 0, "four");

  finalize_channel (a);
  test_run_pending (NULL);
  test_assert_destroyed_here (&second.fate);
  g_assert_cmpint (second.n_ends, ==, 0);
  finalize_channel (b);
  listener_clear (&listener);
  listener_clear (&second);
}

typedef struct
{
  QTaskChannel *channel;
  Listener *listener;
} Setting;

static void
listen_here (gpointer data,
             gpointer unused)
{
  Setting *setting = data;

  if (setting->listener != NULL)
    hear (setting->channel, setting->listener);
  else
    q_task_channel_set_message_func (setting->channel, NULL, NULL, NULL);
}

/* When it is called, what was dispatched before has returned. */
static void
nothing_here (gpointer data,
              gpointer unused)
{
}

/* In the context of who set it; released there, whoever replaces it or drops the channel. */
static void
test_message_func_elsewhere (gconstpointer kind)
{
  for (int how = 0; how < 4; how++)
    {
      TestLoop *loop = test_loop_new ("listener");
      GThread *owner = test_loop_get_thread (loop);
      Listener listener = LISTENER_INIT, second = LISTENER_INIT;
      Setting setting = { NULL, &listener };
      QTaskChannel *a, *b;

      channel_pair_new (KIND, &a, &b);
      setting.channel = a;
      test_loop_call (loop, listen_here, &setting);
      write_string (b, "one");

      switch (how)
        {
        case 0:
          q_task_channel_set_message_func (a, NULL, NULL, NULL);
          test_fate_wait (&listener.fate);
          test_loop_call (loop, nothing_here, NULL);
          finalize_channel (a);
          break;
        case 1:
          hear (a, &second);
          test_fate_wait (&listener.fate);
          test_loop_call (loop, nothing_here, NULL);
          finalize_channel (a);
          test_run_pending (NULL);
          test_assert_destroyed_here (&second.fate);
          break;
        case 2:
          q_task_channel_close (b);
          test_gate_wait (&listener.ended);
          g_object_unref (a);
          test_fate_wait (&listener.fate);
          break;
        default:
          /* The function may be in a call, with the channel. */
          g_object_unref (a);
          test_fate_wait (&listener.fate);
          break;
        }

      test_assert_destroyed_in (&listener.fate, owner);
      if (listener.thread != NULL)
        g_assert_true (listener.thread == owner);
      test_loop_free (loop);
      finalize_channel (b);
      listener_clear (&listener);
      listener_clear (&second);
    }
}

/* The context goes first: what was given is released, and messages stay for others. */
static void
test_message_func_context_goes (gconstpointer kind)
{
  for (int n_messages = 0; n_messages < 2; n_messages++)
    {
      GMainContext *context = g_main_context_new ();
      Listener listener = LISTENER_INIT;
      QTaskChannel *a, *b;

      channel_pair_new (KIND, &a, &b);
      g_main_context_push_thread_default (context);
      hear (a, &listener);
      g_main_context_pop_thread_default (context);
      if (n_messages > 0)
        write_string (b, "one");
      g_main_context_unref (context);
      write_string (b, "two");
      q_task_channel_close (b);
      if (n_messages > 0)
        assert_read (a, "one");
      assert_read (a, "two");
      assert_end (a);
      finalize_channel (a);
      finalize_channel (b);
      test_run_pending (NULL);
      g_assert_cmpint (listener.n_called, ==, 0);
      g_assert_cmpint (test_fate_get_count (&listener.fate), ==, 1);
    }
}

static void
then_close (QTaskChannel *channel,
            gpointer data)
{
  q_task_channel_close (channel);
}

static void
then_unset (QTaskChannel *channel,
            gpointer data)
{
  Listener *listener = data;

  q_task_channel_set_message_func (channel, NULL, NULL, NULL);
  /* It is not released while it is called. */
  g_assert_cmpint (listener->n_called, ==, 1);
}

static void
then_unref (QTaskChannel *channel,
            gpointer data)
{
  Listener *listener = data;

  if (listener->n_called == 1)
    g_object_unref (channel);
}

static Listener *next_listener;

static void
then_replace (QTaskChannel *channel,
              gpointer data)
{
  hear (channel, next_listener);
}

/* The function does away with itself, at the first of several messages. */
static void
test_message_func_recursion (gconstpointer kind)
{
  static void (*const thens[]) (QTaskChannel *, gpointer) = {
    then_close, then_unset, then_unref, then_replace
  };

  for (guint i = 0; i < G_N_ELEMENTS (thens); i++)
    {
      Listener listener = LISTENER_INIT, next = LISTENER_INIT;
      TestFate fate = TEST_FATE_INIT;
      QTaskChannel *a, *b;

      channel_pair_new (KIND, &a, &b);
      test_fate_watch (&fate, a);
      write_string (b, "one");
      write_string (b, "two");
      write_string (b, "three");
      next_listener = &next;
      listener.then = thens[i];
      hear (a, &listener);
      test_run_until (NULL, listener_get_n (&listener) == 1);
      test_run_pending (NULL);
      assert_heard (&listener, 0, "one");
      g_assert_cmpuint (listener_get_n (&listener), ==, 1);

      if (thens[i] == then_close)
        {
          /* Whether it is told of an end that it made is open; once at most. */
          g_assert_cmpint (listener.n_ends, <=, 1);
          assert_reads_fail (a, G_IO_ERROR, G_IO_ERROR_CLOSED);
          assert_writes_fail (b, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
        }
      else if (thens[i] == then_unset)
        {
          g_assert_cmpint (listener.n_called, ==, 1);
          assert_read (a, "two");
          assert_read (a, "three");
          assert_would_block (a);
        }
      else if (thens[i] == then_unref)
        {
          g_assert_cmpint (test_fate_get_count (&fate), ==, 1);
          assert_end (b);
        }
      else
        {
          test_run_until (NULL, listener_get_n (&next) == 2);
          g_assert_cmpint (listener.n_called, ==, 1);
          assert_heard (&next, 0, "two");
          assert_heard (&next, 1, "three");
        }

      if (thens[i] != then_unref)
        finalize_channel (a);
      finalize_channel (b);
      test_run_pending (NULL);
      test_assert_destroyed_here (&listener.fate);
      listener_clear (&listener);
      listener_clear (&next);
    }
}

/* The channel is closed before its function heard all: it hears no more of it. */
static void
test_message_func_and_close (gconstpointer kind)
{
  Listener listener = LISTENER_INIT;
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  hear (a, &listener);
  for (int i = 0; i < 10; i++)
    write_string (b, "dropped");
  q_task_channel_close (a);
  test_run_pending (NULL);
  g_assert_cmpuint (listener_get_n (&listener), ==, 0);
  g_assert_cmpint (listener.n_ends, <=, 1);
  finalize_channel (a);
  test_run_pending (NULL);
  test_assert_destroyed_here (&listener.fate);
  finalize_channel (b);
}

/* A loop inside of the function goes on to receive. */
static int depth;

static void
then_nest (QTaskChannel *channel,
           gpointer data)
{
  Listener *listener = data;

  if (listener->n_called < 5)
    {
      int n = listener->n_called;

      depth++;
      test_run_until (NULL, listener->n_called > n);
      depth--;
    }
}

static void
test_message_func_nested (gconstpointer kind)
{
  Listener listener = LISTENER_INIT;
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  listener.then = then_nest;
  hear (a, &listener);
  for (int i = 0; i < 10; i++)
    {
      g_autofree char *string = g_strdup_printf ("%d", i);

      write_string (b, string);
    }
  q_task_channel_close (b);
  test_run_until (NULL, listener.n_ends == 1);
  g_assert_cmpint (depth, ==, 0);
  g_assert_cmpuint (listener_get_n (&listener), ==, 10);
  for (int i = 0; i < 10; i++)
    {
      g_autofree char *string = g_strdup_printf ("%d", i);

      assert_heard (&listener, i, string);
    }
  finalize_channel (a);
  finalize_channel (b);
  test_run_pending (NULL);
  test_assert_destroyed_here (&listener.fate);
  listener_clear (&listener);
}

/* Both ends have functions: they talk to each other. */
#define N_ECHOES 1000

static void
then_echo (QTaskChannel *channel,
           gpointer data)
{
  Listener *listener = data;
  guint n = listener_get_n (listener);
  g_autoptr (GError) error = NULL;

  if (listener->n_ends > 0)
    return;

  if (n == N_ECHOES)
    q_task_channel_close (channel);
  else
    {
      g_autoptr (GBytes) message = channel_message_new (n, n % 300);

      g_assert_true (q_task_channel_try_write (channel, message, &error));
      g_assert_no_error (error);
    }
}

static void
test_message_func_echo (gconstpointer kind)
{
  Listener listeners[2] = { LISTENER_INIT, LISTENER_INIT };
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  listeners[0].then = listeners[1].then = then_echo;
  hear (a, &listeners[0]);
  hear (b, &listeners[1]);
  write_string (a, "");
  test_run_until (NULL, listeners[0].n_ends == 1);
  g_assert_cmpuint (listener_get_n (&listeners[0]), ==, N_ECHOES - 1);
  g_assert_cmpuint (listener_get_n (&listeners[1]), ==, N_ECHOES);
  for (guint i = 1; i < N_ECHOES - 1; i++)
    channel_message_check (g_ptr_array_index (listeners[0].messages, i - 1), i, i % 300);
  finalize_channel (a);
  finalize_channel (b);
  test_run_pending (NULL);
  for (int i = 0; i < 2; i++)
    {
      test_assert_destroyed_here (&listeners[i].fate);
      listener_clear (&listeners[i]);
    }
}

/* Guarantee 5: a flood of messages for a second, and timers that are in time.
 *
 * For how long the thread waited for a processor, since others had it, does not count. */
#define TIMER_INTERVAL 16

typedef struct
{
  gint64 last;
  gint64 run_delay;
  gint64 latest;
  int n_late;
  int n_called;
} Lateness;

static gboolean
lateness_cb (gpointer data)
{
  Lateness *lateness = data;
  gint64 now = g_get_monotonic_time ();
  gint64 run_delay = test_get_run_delay ();
  gint64 late = now - lateness->last - (run_delay - lateness->run_delay) - TIMER_INTERVAL * 1000;

  lateness->latest = MAX (lateness->latest, late);
  lateness->n_late += late > 8000;
  lateness->last = now;
  lateness->run_delay = run_delay;
  lateness->n_called++;

  return G_SOURCE_CONTINUE;
}

static GSource *
lateness_source_new (Lateness *lateness,
                     int priority)
{
  GSource *source = g_timeout_source_new (TIMER_INTERVAL);

  *lateness = (Lateness){ .last = g_get_monotonic_time (), .run_delay = test_get_run_delay () };
  g_source_set_priority (source, priority);
  g_source_set_callback (source, lateness_cb, lateness, NULL);
  g_source_attach (source, NULL);

  return source;
}

typedef struct
{
  QTaskChannel *channel;
  gint64 end_time;
  int n_called;
  int is_over;
} Flood;

static gpointer
flood_thread (gpointer data)
{
  Flood *flood = data;
  g_autoptr (GBytes) message = channel_message_new (1, 64);

  while (!g_atomic_int_get (&flood->is_over))
    if (!q_task_channel_write_bytes (flood->channel, message, NULL, NULL))
      break;
  q_task_channel_close (flood->channel);

  return NULL;
}

static void
flood_cb (QTaskChannel *channel,
          GBytes *message,
          gpointer data)
{
  Flood *flood = data;
  gint64 begin = g_get_monotonic_time ();

  if (message == NULL)
    {
      g_assert_cmpint (g_atomic_int_get (&flood->is_over), ==, 1);
      flood->end_time = 0;
      return;
    }

  if (begin >= flood->end_time)
    {
      g_atomic_int_set (&flood->is_over, 1);
      return;
    }

  while (g_get_monotonic_time () < begin + 20)
    ;
  flood->n_called++;
}

static void
test_responsive (gconstpointer kind)
{
  int n_tries = 5;
  int n_late = 0;

  /* A virtual processor may be taken away for a while; hardly each time. */
  do
    {
      Flood flood = { 0 };
      QTaskChannel *a, *b;
      Lateness input, paint;
      GSource *sources[2];
      GThread *thread;

      channel_pair_new (KIND, &a, &b);
      q_task_channel_set_message_func (b, flood_cb, &flood, NULL);
      flood.channel = a;
      flood.end_time = g_get_monotonic_time () + G_TIME_SPAN_SECOND;
      sources[0] = lateness_source_new (&input, 0);
      sources[1] = lateness_source_new (&paint, 120);
      thread = g_thread_new ("flood", flood_thread, &flood);
      test_run_until (NULL, g_atomic_int_get (&flood.is_over));
      for (int i = 0; i < 2; i++)
        {
          lateness_cb (i == 0 ? &input : &paint);
          g_source_destroy (sources[i]);
          g_source_unref (sources[i]);
        }
      test_run_until (NULL, flood.end_time == 0);
      g_thread_join (thread);
      finalize_channel (a);
      finalize_channel (b);

      n_late = input.n_late + paint.n_late;
      g_test_message ("%d messages; a timer at priority 0 was called %d times, %d us late at worst, "
                      "one at 120 %d times and %d us",
                      flood.n_called, input.n_called, (int) input.latest, paint.n_called,
                      (int) paint.latest);

      /* Without slices both would be a second late, each time. */
      if (is_slow ())
        {
          g_assert_cmpint (input.latest, <, 300 * 1000);
          g_assert_cmpint (paint.latest, <, 300 * 1000);
          n_late = 0;
        }
      g_assert_cmpint (flood.n_called, >, is_slow () ? 100 : 2000);
    }
  while (n_late > 0 && --n_tries > 0);

  g_assert_cmpint (n_late, ==, 0);
}

/* Several that read from one end: each message comes to one of them. */
typedef struct
{
  QTaskChannel *channel;
  int n_seen[2000];
} Readers;

static gpointer
reader_thread (gpointer data)
{
  Readers *readers = data;
  int last = -1;

  for (;;)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (readers->channel, NULL, &error);
      guint number;

      g_assert_no_error (error);
      if (message == NULL)
        return NULL;
      g_assert_cmpuint (g_bytes_get_size (message), ==, sizeof number);
      memcpy (&number, g_bytes_get_data (message, NULL), sizeof number);
      g_assert_cmpuint (number, <, G_N_ELEMENTS (readers->n_seen));
      g_assert_cmpint ((int) number, >, last);
      last = (int) number;
      g_atomic_int_inc (&readers->n_seen[number]);
    }
}

static void
test_several_readers (gconstpointer kind)
{
  g_autofree Readers *readers = g_new0 (Readers, 1);
  GThread *threads[4];
  QTaskChannel *a, *b;

  channel_pair_new (KIND, &a, &b);
  readers->channel = b;
  for (int i = 0; i < 4; i++)
    threads[i] = g_thread_new ("reader", reader_thread, readers);
  for (guint i = 0; i < G_N_ELEMENTS (readers->n_seen); i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, sizeof i);
      g_autoptr (GError) error = NULL;

      q_task_channel_write_bytes (a, message, NULL, &error);
      g_assert_no_error (error);
    }
  q_task_channel_close (a);
  for (int i = 0; i < 4; i++)
    g_thread_join (threads[i]);
  for (guint i = 0; i < G_N_ELEMENTS (readers->n_seen); i++)
    g_assert_cmpint (readers->n_seen[i], ==, 1);
  finalize_channel (a);
  finalize_channel (b);
}

/* Descriptors */

static int
get_fd (QTaskChannel *channel)
{
  g_autoptr (GError) error = NULL;
  int fd = q_task_channel_get_fd (channel, &error);

  g_assert_no_error (error);
  g_assert_cmpint (fd, >=, 0);

  return fd;
}

static void
test_get_fd (gconstpointer kind)
{
  for (int early = 0; early < 2; early++)
    {
      g_autoptr (GError) error = NULL;
      QTaskChannel *a, *b;
      int fd = -1;

      channel_pair_new (KIND, &a, &b);
      if (early)
        fd = get_fd (b);
      else
        {
          write_string (a, "before");
          fd = get_fd (b);
          g_assert_true (fd_is_readable (fd));
          assert_read (b, "before");
        }
      g_assert_true (fcntl (fd, F_GETFD) & FD_CLOEXEC);
      g_assert_false (fd_is_readable (fd));

      for (int i = 0; i < 5; i++)
        {
          write_string (a, "one");
          g_assert_true (fd_is_readable (fd));
          assert_read (b, "one");
          g_assert_false (fd_is_readable (fd));

          /* Several, an empty one among them: until the last was read. */
          write_string (a, "one");
          write_string (a, "");
          write_string (a, "three");
          g_assert_true (fd_is_readable (fd));
          assert_read (b, "one");
          g_assert_true (fd_is_readable (fd));
          assert_read (b, "");
          g_assert_true (fd_is_readable (fd));
          g_assert_true (fd_is_readable (fd));
          assert_read (b, "three");
          g_assert_false (fd_is_readable (fd));
          assert_would_block (b);
          g_assert_false (fd_is_readable (fd));
        }

      /* What others read is gone, too. */
      {
        gsize message_size;
        Reply reply = { 0 };

        write_string (a, "one");
        q_task_channel_read_async (b, NULL, read_cb, &reply);
        test_run_until (NULL, reply.called);
        reply_clear (&reply);
        g_assert_false (fd_is_readable (fd));
        write_string (a, "two");
        g_assert_true (fd_is_readable (fd));
        g_assert_true (q_task_channel_read_into (b, NULL, 0, &message_size, NULL, &error));
        g_assert_false (fd_is_readable (fd));
      }

      /* Writing at this end has nothing to do with it. */
      write_string (b, "other direction");
      g_assert_false (fd_is_readable (fd));

      /* The end is readable for good. */
      write_string (a, "last");
      q_task_channel_close (a);
      g_assert_true (fd_is_readable (fd));
      assert_read (b, "last");
      g_assert_true (fd_is_readable (fd));
      assert_end (b);
      g_assert_true (fd_is_readable (fd));
      g_assert_cmpint (get_fd (b), ==, fd);

      /* Closed with this end */
      q_task_channel_close (b);
      g_assert_cmpint (fcntl (fd, F_GETFD), ==, -1);
      g_assert_cmpint (errno, ==, EBADF);
      g_assert_cmpint (q_task_channel_get_fd (b, &error), ==, -1);
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CLOSED);
      finalize_channel (a);
      finalize_channel (b);
    }
}

/* Polled by another thread, that makes no call of the library before it is readable */
static gpointer
poll_thread (gpointer data)
{
  QTaskChannel *channel = data;
  struct pollfd poll_fd = { get_fd (channel), POLLIN, 0 };
  guint n = 0;

  for (;;)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = NULL;
      int ready;

      poll_fd.revents = 0;
      ready = poll (&poll_fd, 1, TEST_TIME_LIMIT * 1000);
      g_assert_cmpint (ready, ==, 1);
      message = q_task_channel_try_read (channel, &error);
      if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        continue; /* a part of one */
      g_assert_no_error (error);
      if (message == NULL)
        return GUINT_TO_POINTER (n);
      channel_message_check (message, n, n % 200);
      n++;
    }
}

static void
test_get_fd_in_threads (gconstpointer kind)
{
  QTaskChannel *a, *b;
  GThread *thread;

  channel_pair_new (KIND, &a, &b);
  thread = g_thread_new ("poll", poll_thread, b);
  for (guint i = 0; i < 3000; i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, i % 200);
      g_autoptr (GError) error = NULL;

      q_task_channel_write_bytes (a, message, NULL, &error);
      g_assert_no_error (error);
      if (i % 100 == 0)
        g_usleep (500);
    }
  q_task_channel_close (a);
  g_assert_cmpuint (GPOINTER_TO_UINT (g_thread_join (thread)), ==, 3000);
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_get_fd_with_message_func (gconstpointer kind)
{
  Listener listener = LISTENER_INIT;
  QTaskChannel *a, *b;
  int fd;

  channel_pair_new (KIND, &a, &b);
  fd = get_fd (b);
  hear (b, &listener);
  for (int i = 0; i < 10; i++)
    write_string (a, "message");
  test_run_until (NULL, listener_get_n (&listener) == 10);
  g_assert_false (fd_is_readable (fd));
  finalize_channel (a);
  test_run_until (NULL, listener.n_ends == 1);
  g_assert_true (fd_is_readable (fd));
  finalize_channel (b);
  listener_clear (&listener);
}

/* In memory they cost none before one is asked for, and then a pair at most. */
static void
test_memory_costs_no_descriptor (void)
{
  QTaskChannel *pairs[1000][2];
  Listener listener = LISTENER_INIT;
  guint before, n_each = 0;

  /* What GLib makes once */
  test_run_pending (NULL);
  before = count_descriptors ();

  for (guint i = 0; i < G_N_ELEMENTS (pairs); i++)
    {
      Blocker blocker = { 0 };
      GSource *source;
      Watch watch;

      q_task_channel_new_pair (&pairs[i][0], &pairs[i][1]);
      write_string (pairs[i][0], "message");
      assert_read (pairs[i][1], "message");
      assert_would_block (pairs[i][1]);
      source = watch_start (&watch, pairs[i][0], G_IO_IN, NULL, NULL);
      g_assert_false (watch_is_ready (&watch));
      watch_stop (source);
      if (i % 100 == 0)
        {
          blocker_start (&blocker, pairs[i][0], CALL_READ, NULL);
          write_string (pairs[i][1], "back");
          blocker_join (&blocker);
          blocker_clear (&blocker);
        }
    }
  hear (pairs[0][0], &listener);
  write_string (pairs[0][1], "heard");
  test_run_until (NULL, listener_get_n (&listener) == 1);
  g_assert_cmpuint (count_descriptors (), ==, before);

  for (guint i = 0; i < 100; i++)
    {
      int fd = get_fd (pairs[i][0]);

      g_assert_cmpint (get_fd (pairs[i][0]), ==, fd);
      if (i == 0)
        n_each = count_descriptors () - before;
      g_assert_cmpuint (n_each, >=, 1);
      g_assert_cmpuint (n_each, <=, 2);
      g_assert_cmpuint (count_descriptors (), ==, before + n_each * (i + 1));
    }

  for (guint i = 0; i < 50; i++)
    q_task_channel_close (pairs[i][0]);
  g_assert_cmpuint (count_descriptors (), ==, before + n_each * 50);

  for (guint i = 0; i < G_N_ELEMENTS (pairs); i++)
    {
      finalize_channel (pairs[i][0]);
      finalize_channel (pairs[i][1]);
    }
  test_run_pending (NULL);
  g_assert_cmpuint (count_descriptors (), ==, before);
  listener_clear (&listener);
}

/* With no descriptor left only what asks for one fails. */
static void
test_no_descriptor_left (void)
{
  struct rlimit limit, old;
  g_autoptr (GError) error = NULL;
  g_autoptr (GArray) taken = g_array_new (FALSE, FALSE, sizeof (int));
  Listener listener = LISTENER_INIT;
  Blocker blocker = { 0 };
  Reply reply = { 0 };
  QTaskChannel *a, *b;
  int fd;

  /* In a process of its own, where nobody else has made yet what GLib makes once. */
  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }

  /* What the tests make once */
  q_task_channel_new_pair (&a, &b);
  get_fd (a);
  finalize_channel (a);
  finalize_channel (b);
  test_run_pending (NULL);

  q_task_channel_new_pair (&a, &b);
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &old), ==, 0);
  limit = old;
  limit.rlim_cur = MIN (limit.rlim_cur, 200);
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &limit), ==, 0);
  while ((fd = open ("/dev/null", O_RDONLY | O_CLOEXEC)) != -1)
    g_array_append_val (taken, fd);
  g_assert_cmpint (errno, ==, EMFILE);

  for (int i = 0; i < 3; i++)
    {
      g_assert_cmpint (q_task_channel_get_fd (a, &error), ==, -1);
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES);
      g_clear_error (&error);
    }

  /* All goes on, in this and in others. */
  for (int pass = 0; pass < 2; pass++)
    {
      QTaskChannel *c, *d;

      q_task_channel_new_pair (&c, &d);
      write_string (c, "one");
      assert_read (d, "one");
      q_task_channel_read_async (d, NULL, read_cb, &reply);
      write_string (c, "two");
      test_run_until (NULL, reply.called);
      assert_bytes (reply.message, "two");
      reply_clear (&reply);
      hear (d, &listener);
      write_string (c, "three");
      test_run_until (NULL, listener_get_n (&listener) == 1);
      finalize_channel (c);
      finalize_channel (d);
      test_run_pending (NULL);
      test_assert_destroyed_here (&listener.fate);
      listener_clear (&listener);
      listener = (Listener) LISTENER_INIT;
    }
  blocker_start (&blocker, a, CALL_READ, NULL);
  write_string (b, "woken");
  blocker_join (&blocker);
  assert_bytes (blocker.message, "woken");
  blocker_clear (&blocker);

  /* When there are some again, there is one for it. */
  for (guint i = 0; i < taken->len; i++)
    close (g_array_index (taken, int, i));
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &old), ==, 0);
  write_string (b, "waits");
  g_assert_true (fd_is_readable (get_fd (a)));
  assert_read (a, "waits");
  g_assert_false (fd_is_readable (get_fd (a)));
  finalize_channel (a);
  finalize_channel (b);
}

static void
test_two_in_one_thread (gconstpointer kind)
{
  Reply read = { 0 }, written = { 0 };
  g_autoptr (GBytes) message = channel_message_new (3, 1000000);
  QTaskChannel *a, *b;

  /* One thread that reads and writes a message larger than all buffers, with a loop */
  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 10);
  q_task_channel_write_async (a, message, NULL, write_cb, &written);
  q_task_channel_read_async (b, NULL, read_cb, &read);
  test_run_until (NULL, read.called && written.called);
  g_assert_no_error (written.error);
  channel_message_check (read.message, 3, 1000000);
  reply_clear (&read);
  reply_clear (&written);
  finalize_channel (a);
  finalize_channel (b);
}

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  channel_test_add_all ("new", test_new);
  channel_test_add_all ("leaves-nothing", test_new_leaves_nothing);
  channel_test_add_one ("/channel/new-from-bad", test_new_from_bad);
  channel_test_add_one ("/channel/new-from-fds", test_new_from_fds);
  channel_test_add_one ("/channel/new-from-one-fd", test_new_from_one_fd);
  channel_test_add_one ("/channel/new-from-socket", test_new_from_socket);

  channel_test_add_all ("both-directions", test_both_directions);
  channel_test_add_all ("empty-messages", test_empty_messages);
  channel_test_add_all ("sizes", test_sizes);
  channel_test_add_one ("/channel/memory/no-copy", test_no_copy);
  channel_test_add_all ("unread-is-released", test_unread_is_released);
  channel_test_add_all ("read-into", test_read_into);

  channel_test_add_one ("/channel/memory/capacity-is-exact", test_capacity_is_exact);
  channel_test_add_one ("/channel/memory/capacity-of-each-direction", test_capacity_of_each_direction);
  channel_test_add_all ("capacity-1", test_capacity_1);
  channel_test_add_all ("fill-and-empty", test_fill_and_empty);
  channel_test_add_all ("fill-and-close", test_fill_and_close);
  channel_test_add_all ("no-capacity", test_no_capacity);
  channel_test_add_one ("/channel/memory/larger-than-capacity", test_larger_than_capacity);
  channel_test_add ("capacity-grows", CHANNEL_MEMORY, test_capacity_grows);
  channel_test_add_all ("max-message-size", test_max_message_size);

  channel_test_add_all ("close", test_close);
  channel_test_add_all ("last-reference-closes", test_last_reference_closes);
  channel_test_add_all ("close-both-full", test_close_both_full);
  channel_test_add_all ("close-wakes", test_close_wakes);
  channel_test_add_all ("close-wakes-all", test_close_wakes_all);
  channel_test_add_all ("blocked-goes-on", test_blocked_goes_on);

  channel_test_add_all ("cancelled-before", test_cancelled_before);
  channel_test_add_all ("cancelled-while-blocked", test_cancelled_while_blocked);
  channel_test_add_all ("cancelled-handler-waits", test_cancelled_handler_waits);
  channel_test_add_all ("cancel-races", test_cancel_races);

  channel_test_add_all ("read-async", test_read_async);
  channel_test_add_all ("write-async", test_write_async);
  channel_test_add_all ("write-after-write-async", test_write_after_write_async);
  channel_test_add_all ("async-cancelled", test_async_cancelled);
  channel_test_add_all ("async-and-close", test_async_and_close);
  channel_test_add_all ("async-elsewhere", test_async_elsewhere);
  channel_test_add_all ("async-in-one-thread", test_two_in_one_thread);

  channel_test_add_all ("source-in", test_source_in);
  channel_test_add_all ("source-is-woken", test_source_is_woken);
  channel_test_add_all ("source-out", test_source_out);
  channel_test_add_all ("source-cancellable", test_source_cancellable);
  channel_test_add_all ("cancelled-asleep", test_cancelled_asleep);
  channel_test_add_all ("source-outlives", test_source_outlives);
  channel_test_add_all ("source-context-goes", test_source_context_goes);
  channel_test_add_all ("source-attached-in-poll", test_source_attached_in_poll);
  channel_test_add_all ("sources", test_sources);

  channel_test_add_all ("message-func", test_message_func);
  channel_test_add_all ("message-func-at-the-end", test_message_func_at_the_end);
  channel_test_add_all ("message-func-order", test_message_func_order);
  channel_test_add_all ("message-func-removed", test_message_func_removed);
  channel_test_add_all ("message-func-elsewhere", test_message_func_elsewhere);
  channel_test_add_all ("message-func-context-goes", test_message_func_context_goes);
  channel_test_add_all ("message-func-recursion", test_message_func_recursion);
  channel_test_add_all ("message-func-and-close", test_message_func_and_close);
  channel_test_add_all ("message-func-nested", test_message_func_nested);
  channel_test_add_all ("message-func-echo", test_message_func_echo);
  channel_test_add_all ("responsive", test_responsive);
  channel_test_add_all ("several-readers", test_several_readers);

  channel_test_add_all ("get-fd", test_get_fd);
  channel_test_add_all ("get-fd-in-threads", test_get_fd_in_threads);
  channel_test_add_all ("get-fd-with-message-func", test_get_fd_with_message_func);
  channel_test_add_one ("/channel/memory/costs-no-descriptor", test_memory_costs_no_descriptor);
  channel_test_add_one ("/channel/memory/no-descriptor-left", test_no_descriptor_left);

  return g_test_run ();
}
