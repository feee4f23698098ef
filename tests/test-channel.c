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

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

#define KIND ((ChannelKind) GPOINTER_TO_UINT (kind))

static gboolean
is_slow (void)
{
  return IS_SANITIZED || test_is_slow ();
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
  g_autoptr (GBytes) large = channel_message_new (1, 200000);
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
  assert_read (a, "\0");
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

/* What was accepted arrives with nothing more done at the end that wrote it. */
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
          g_autoptr (GError) error = NULL;
          g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

          g_assert_no_error (error);
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
          g_autoptr (GError) error = NULL;
          g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

          g_assert_no_error (error);
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
      g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

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

/* A writer that waits goes on when there is more room. */
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
    for (int peer = 0; peer < 2; peer++)
      {
        Blocker blockers[2] = { { 0 } };
        QTaskChannel *a, *b;

        channel_pair_new (KIND, &a, &b);
        q_task_channel_set_capacity (a, 1);
        if (!call_is_read (call))
          channel_fill (a, 0, 100);
        for (int i = 0; i < 2; i++)
          {
            blocker_start (&blockers[i], a, call, NULL);
            g_assert_cmpint (test_gate_get_count (&blockers[i].done), ==, 0);
          }

        q_task_channel_close (peer ? b : a);

        for (int i = 0; i < 2; i++)
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

      /* Nothing overtakes those that wait. */
      if (i < n + 10)
        {
          g_assert_false (q_task_channel_try_write (a, extra, &error));
          g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
          g_clear_error (&error);
        }
      message = q_task_channel_read (b, NULL, &error);
      g_assert_no_error (error);
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
      g_autoptr (GBytes) arrived = q_task_channel_read (b, NULL, NULL);

      channel_message_check (arrived, i < n ? i : i == n ? 1000 : 7, 100);
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
        g_bytes_unref (q_task_channel_read (b, NULL, NULL));
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
  g_source_set_priority (sources[0], 10);
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
