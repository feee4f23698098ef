/* test-channel-frames.c: QTaskChannel and the bytes on its descriptors
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The peer is the test, which reads and writes raw bytes. A frame is: the length of the
 * payload, 32 bits, little-endian; its type, 8 bits, 1 for a message; the payload.
 *
 * SIGPIPE has its default disposition in this program: one that is raised ends it.
 */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test-channel-util.h"

#define KIND ((ChannelKind) GPOINTER_TO_UINT (kind))
#define HEADER 5

/* The calls of the library come here, and every other one is interrupted while a test wants
 * that: the kernel itself hardly does so with what does not block. Not where a sanitizer has to
 * see them. */
#if defined(__linux__) && defined(__LP64__) && !TEST_IS_SANITIZED
#define CAN_INTERRUPT 1

static int wants_interrupts;
static int n_interruptible;

static gboolean
is_interrupted (void)
{
  if (!g_atomic_int_get (&wants_interrupts) || g_atomic_int_add (&n_interruptible, 1) % 2 != 0)
    return FALSE;

  errno = EINTR;
  return TRUE;
}

ssize_t
recv (int fd,
      void *buffer,
      size_t size,
      int flags)
{
  return is_interrupted () ? -1 : syscall (SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
}

ssize_t
read (int fd,
      void *buffer,
      size_t size)
{
  return is_interrupted () ? -1 : syscall (SYS_read, fd, buffer, size);
}

ssize_t
sendmsg (int fd,
         const struct msghdr *message,
         int flags)
{
  return is_interrupted () ? -1 : syscall (SYS_sendmsg, fd, message, flags);
}

ssize_t
writev (int fd,
        const struct iovec *vectors,
        int n_vectors)
{
  return is_interrupted () ? -1 : syscall (SYS_writev, fd, vectors, n_vectors);
}

int
poll (struct pollfd *fds,
      nfds_t n_fds,
      int timeout)
{
  struct timespec time = { timeout / 1000, (long) (timeout % 1000) * 1000000 };

  return is_interrupted () ? -1 : (int) syscall (SYS_ppoll, fds, n_fds, timeout >= 0 ? &time : NULL, NULL, 0);
}
#endif

/* The raw side */
typedef struct
{
  int in;
  int out; /* the same for a socket */
} Raw;

static QTaskChannel *
raw_new (ChannelKind kind,
         Raw *raw)
{
  g_autoptr (GError) error = NULL;
  QTaskChannel *channel;
  int there[2], back[2];

  if (kind == CHANNEL_SOCKET)
    {
      g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, there), ==, 0);
      channel = q_task_channel_new_from_fds (there[0], there[0], &error);
      *raw = (Raw){ there[1], there[1] };
    }
  else
    {
      g_assert_cmpint (pipe2 (there, O_CLOEXEC), ==, 0);
      g_assert_cmpint (pipe2 (back, O_CLOEXEC), ==, 0);
      channel = q_task_channel_new_from_fds (there[0], back[1], &error);
      *raw = (Raw){ back[0], there[1] };
    }
  g_assert_no_error (error);

  return channel;
}

static void
raw_shut (Raw *raw)
{
  if (raw->out == -1)
    return;
  if (raw->in == raw->out)
    g_assert_cmpint (shutdown (raw->out, SHUT_WR), ==, 0);
  else
    close (raw->out);
  if (raw->in != raw->out)
    raw->out = -1;
}

static void
raw_close (Raw *raw)
{
  if (raw->in != -1)
    close (raw->in);
  if (raw->out != -1 && raw->out != raw->in)
    close (raw->out);
  *raw = (Raw){ -1, -1 };
}

static void
raw_write (Raw *raw,
           gconstpointer data,
           gsize size)
{
  const guint8 *bytes = data;

  while (size > 0)
    {
      gssize n = write (raw->out, bytes, size);

      if (n == -1 && errno == EINTR)
        continue;
      g_assert_cmpint (n, >, 0);
      bytes += n;
      size -= (gsize) n;
    }
}

static gsize
raw_read (Raw *raw,
          gpointer buffer,
          gsize size)
{
  gsize done = 0;

  while (done < size)
    {
      gssize n = read (raw->in, (guint8 *) buffer + done, size - done);

      if (n == -1 && errno == EINTR)
        continue;
      if (n <= 0)
        break;
      done += (gsize) n;
    }

  return done;
}

/* The peer sees that the channel is closed: end of file, or a reset where it was closed
 * with something unread. */
static void
assert_raw_end (Raw *raw)
{
  struct pollfd poll_fd = { raw->in, POLLIN, 0 };
  guint8 byte;
  gssize n;

  g_assert_cmpint (poll (&poll_fd, 1, TEST_TIME_LIMIT * 1000), ==, 1);
  n = read (raw->in, &byte, 1);
  g_assert_true (n == 0 || (n == -1 && errno == ECONNRESET));
}

static void
header_fill (guint8 *header,
             guint32 size,
             guint8 type)
{
  for (int i = 0; i < 4; i++)
    header[i] = (guint8) (size >> (8 * i));
  header[4] = type;
}

static void
frame_append (GByteArray *array,
              gconstpointer data,
              gsize size)
{
  guint8 header[HEADER];

  header_fill (header, (guint32) size, 1);
  g_byte_array_append (array, header, HEADER);
  if (size > 0)
    g_byte_array_append (array, data, (guint) size);
}

static void
raw_write_string (Raw *raw,
                  const char *string)
{
  g_autoptr (GByteArray) array = g_byte_array_new ();

  frame_append (array, string, strlen (string));
  raw_write (raw, array->data, array->len);
}

/* It is told once; the channel is closed then, and the peer sees that. */
static void
assert_protocol_error (QTaskChannel *channel,
                       Raw *raw)
{
  assert_read_fails (channel, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
  g_assert_true (q_task_channel_is_closed (channel));
  q_task_channel_set_max_message_size (channel, 100);
  assert_reads_fail (channel, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_CLOSED);
  if (raw->in != -1)
    assert_raw_end (raw);
}

/* The bytes of a frame are these, and no others. */
static void
test_bytes (gconstpointer kind)
{
  guint8 expected[] = { 3, 0, 0, 0, 1, 'a', 'b', 'c', 0, 0, 0, 0, 1 };
  g_autofree guint8 *large = g_malloc (HEADER + 0x10203);
  guint8 buffer[sizeof expected];
  Blocker blocker = { .size = 0x10203 };
  QTaskChannel *channel;
  Raw raw;

  channel = raw_new (KIND, &raw);
  write_string (channel, "abc");
  write_string (channel, "");
  g_assert_cmpuint (raw_read (&raw, buffer, sizeof buffer), ==, sizeof buffer);
  g_assert_cmpmem (buffer, sizeof buffer, expected, sizeof expected);

  blocker_start (&blocker, channel, CALL_WRITE, NULL);
  g_assert_cmpuint (raw_read (&raw, large, HEADER + 0x10203), ==, HEADER + 0x10203);
  g_assert_cmpint (large[0], ==, 3);
  g_assert_cmpint (large[1], ==, 2);
  g_assert_cmpint (large[2], ==, 1);
  g_assert_cmpint (large[3], ==, 0);
  g_assert_cmpint (large[4], ==, 1);
  g_assert_cmpint (large[HEADER], ==, 7);
  blocker_join (&blocker);
  g_assert_no_error (blocker.error);
  blocker_clear (&blocker);

  q_task_channel_close (channel);
  assert_raw_end (&raw);
  raw_close (&raw);
  finalize_channel (channel);
}

/* Cut at each byte of the header and of the payload, after no, one or two whole frames */
static void
test_cut (gconstpointer kind)
{
  static const char payload[] = "payload";
  const gsize whole = HEADER + sizeof payload - 1;

  for (guint n_before = 0; n_before < 3; n_before++)
    for (gsize cut = 0; cut <= whole; cut++)
      for (int hard = 0; hard < 2; hard++)
        {
          g_autoptr (GByteArray) array = g_byte_array_new ();
          QTaskChannel *channel;
          Raw raw;

          channel = raw_new (KIND, &raw);
          for (guint i = 0; i < n_before; i++)
            frame_append (array, "before", 6);
          frame_append (array, payload, sizeof payload - 1);
          raw_write (&raw, array->data, n_before * (HEADER + 6) + cut);
          if (hard)
            raw_close (&raw);
          else
            raw_shut (&raw);

          for (guint i = 0; i < n_before; i++)
            assert_read (channel, "before");
          if (cut == whole)
            {
              assert_read (channel, payload);
              assert_end (channel);
            }
          else if (cut == 0)
            assert_end (channel);
          else
            assert_protocol_error (channel, &raw);
          raw_close (&raw);
          finalize_channel (channel);
        }
}

/* Each way to read tells it, once. */
typedef enum
{
  BY_READ,
  BY_TRY_READ,
  BY_READ_INTO,
  BY_READ_ASYNC,
  BY_MESSAGE_FUNC,
  BY_SOURCE,
  BY_FD,
  N_WAYS
} Way;

static void
count_message_cb (QTaskChannel *channel,
                  GBytes *message,
                  gpointer n_ends)
{
  g_assert_null (message);
  (*(int *) n_ends)++;
}

static gboolean
count_ready_cb (QTaskChannel *channel,
                gpointer n_ready)
{
  (*(int *) n_ready)++;

  return G_SOURCE_REMOVE;
}

static void
test_bad_by_each_way (gconstpointer kind)
{
  for (Way way = 0; way < N_WAYS; way++)
    for (int cut = 0; cut < 2; cut++)
      {
        guint8 header[HEADER];
        g_autoptr (GError) error = NULL;
        QTaskChannel *channel;
        Reply reply = { 0 };
        guint8 buffer[8];
        gsize message_size;
        GSource *source;
        int n = 0, fd;
        Raw raw;

        channel = raw_new (KIND, &raw);
        header_fill (header, 3, cut ? 1 : 9);
        raw_write (&raw, header, HEADER);
        if (cut)
          raw_shut (&raw);

        switch (way)
          {
          case BY_READ:
            g_assert_null (q_task_channel_read (channel, NULL, &error));
            break;
          case BY_TRY_READ:
            g_assert_null (q_task_channel_try_read (channel, &error));
            break;
          case BY_READ_INTO:
            g_assert_false (q_task_channel_read_into (channel, buffer, 8, &message_size, NULL, &error));
            break;
          case BY_READ_ASYNC:
            q_task_channel_read_async (channel, NULL, read_cb, &reply);
            test_run_until (NULL, reply.called);
            error = g_steal_pointer (&reply.error);
            break;
          case BY_MESSAGE_FUNC:
            q_task_channel_set_message_func (channel, count_message_cb, &n, NULL);
            test_run_until (NULL, n == 1);
            g_assert_null (q_task_channel_try_read (channel, &error));
            test_run_pending (NULL);
            g_assert_cmpint (n, ==, 1);
            break;
          case BY_SOURCE:
            source = q_task_channel_create_source (channel, G_IO_IN, NULL);
            g_source_set_callback (source, G_SOURCE_FUNC (count_ready_cb), &n, NULL);
            g_source_attach (source, NULL);
            test_run_until (NULL, n == 1);
            g_source_unref (source);
            g_assert_null (q_task_channel_try_read (channel, &error));
            break;
          case BY_FD:
            fd = q_task_channel_get_fd (channel, &error);
            g_assert_no_error (error);
            g_assert_true (fd_is_readable (fd));
            g_assert_null (q_task_channel_try_read (channel, &error));
            break;
          case N_WAYS:
          default:
            g_assert_not_reached ();
          }

        g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
        g_assert_true (q_task_channel_is_closed (channel));
        assert_reads_fail (channel, G_IO_ERROR, G_IO_ERROR_CLOSED);
        assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_CLOSED);
        assert_raw_end (&raw);
        raw_close (&raw);
        finalize_channel (channel);
      }
}

/* All types but that of a message */
static void
test_types (gconstpointer kind)
{
  for (int type = 0; type < 256; type++)
    for (guint32 size = 0; size < 2; size++)
      {
        guint8 frame[HEADER + 1];
        QTaskChannel *channel;
        Raw raw;

        channel = raw_new (KIND, &raw);
        raw_write_string (&raw, "good");
        header_fill (frame, size, (guint8) type);
        frame[HEADER] = 'x';
        raw_write (&raw, frame, HEADER + size);
        assert_read (channel, "good");
        if (type == 1)
          assert_read (channel, size == 1 ? "x" : "");
        else
          assert_protocol_error (channel, &raw);
        raw_close (&raw);
        finalize_channel (channel);
      }
}

/* At, and over, the limit of what is accepted */
static void
test_lengths (gconstpointer kind)
{
  static const struct
  {
    gsize limit;
    guint32 size;
    gboolean good;
  } cases[] = {
    { 100, 0, TRUE },
    { 100, 99, TRUE },
    { 100, 100, TRUE },
    { 100, 101, FALSE },
    { 100, 0x01000000, FALSE },
    { 100, 0x7fffffff, FALSE },
    { 100, 0x80000000, FALSE },
    { 100, 0xffffffff, FALSE },
    { 1, 1, TRUE },
    { 1, 2, FALSE },
    { 0, 64 * 1024 * 1024 + 1, FALSE },
    { 0, 0xffffffff, FALSE },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      guint8 frame[HEADER + 200] = { 0 };
      QTaskChannel *channel;
      Raw raw;

      channel = raw_new (KIND, &raw);
      if (cases[i].limit != 0)
        q_task_channel_set_max_message_size (channel, cases[i].limit);
      header_fill (frame, cases[i].size, 1);

      /* The header is enough to know. */
      raw_write (&raw, frame, HEADER + (cases[i].good ? cases[i].size : 0));
      if (cases[i].good)
        {
          g_autoptr (GBytes) message = q_task_channel_read (channel, NULL, NULL);

          g_assert_cmpuint (g_bytes_get_size (message), ==, cases[i].size);
          raw_write_string (&raw, "n");
          assert_read (channel, "n");
        }
      else
        assert_protocol_error (channel, &raw);
      raw_close (&raw);
      finalize_channel (channel);
    }
}

/* A peer that claims much and sends little: only what it sends is paid for. */
static gsize
heap_size (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

static void
test_no_memory_for_claims (gconstpointer kind)
{
  const gsize limit = (gsize) 1 << 31;
  QTaskChannel *channels[8];
  guint8 header[HEADER];
  struct rlimit old, lower;
  gsize before, after;
  Raw raws[8];

  if (TEST_IS_SANITIZED || test_is_slow ())
    {
      g_test_skip ("The heap is not that of the C library here");
      return;
    }

  /* Over the limit: nothing at all */
  g_assert_cmpint (getrlimit (RLIMIT_AS, &old), ==, 0);
  lower = old;
  lower.rlim_cur = (rlim_t) 2 * 1024 * 1024 * 1024;
  if (old.rlim_cur == RLIM_INFINITY || old.rlim_cur > lower.rlim_cur)
    g_assert_cmpint (setrlimit (RLIMIT_AS, &lower), ==, 0);
  before = heap_size ();
  for (guint i = 0; i < G_N_ELEMENTS (channels); i++)
    {
      channels[i] = raw_new (KIND, &raws[i]);
      header_fill (header, 0xffffffff - i, 1);
      raw_write (&raws[i], header, HEADER);
      assert_read_fails (channels[i], Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
    }
  after = heap_size ();
  g_test_message ("Eight claims of 4 GiB took %ld KiB", ((long) after - (long) before) / 1024);
  g_assert_cmpint ((gssize) after - (gssize) before, <, 2 * 1024 * 1024);
  for (guint i = 0; i < G_N_ELEMENTS (channels); i++)
    {
      raw_close (&raws[i]);
      finalize_channel (channels[i]);
    }

  /* Within the limit: little more than what came */
  before = heap_size ();
  for (guint i = 0; i < G_N_ELEMENTS (channels); i++)
    {
      channels[i] = raw_new (KIND, &raws[i]);
      q_task_channel_set_max_message_size (channels[i], limit);
      header_fill (header, (guint32) limit, 1);
      raw_write (&raws[i], header, HEADER);
      raw_write (&raws[i], "a little", 8);
      assert_would_block (channels[i]);
      assert_would_block (channels[i]);
    }
  after = heap_size ();
  g_test_message ("Eight claims of 2 GiB took %ld KiB", ((long) after - (long) before) / 1024);
  g_assert_cmpint ((gssize) after - (gssize) before, <, 16 * 1024 * 1024);
  for (guint i = 0; i < G_N_ELEMENTS (channels); i++)
    {
      raw_close (&raws[i]);
      assert_read_fails (channels[i], Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
      finalize_channel (channels[i]);
    }
  g_assert_cmpint (setrlimit (RLIMIT_AS, &old), ==, 0);
}

static const gsize frame_sizes[] = { 0, 1, 4, 5, 6, 0, 0, 250, 256, 1000, 3, 4095, 4096, 2, 9000 };

static GByteArray *
frames_new (void)
{
  GByteArray *array = g_byte_array_new ();

  for (guint i = 0; i < G_N_ELEMENTS (frame_sizes); i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, frame_sizes[i]);

      frame_append (array, g_bytes_get_data (message, NULL), frame_sizes[i]);
    }

  return array;
}

/* Many frames in one write */
static void
test_many_in_one (gconstpointer kind)
{
  g_autoptr (GByteArray) array = frames_new ();
  QTaskChannel *channel;
  Raw raw;

  channel = raw_new (KIND, &raw);
  raw_write (&raw, array->data, array->len);
  for (guint i = 0; i < G_N_ELEMENTS (frame_sizes); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = q_task_channel_try_read (channel, &error);

      g_assert_no_error (error);
      channel_message_check (message, i, frame_sizes[i]);
    }
  assert_would_block (channel);
  raw_close (&raw);
  assert_end (channel);
  finalize_channel (channel);
}

/* In pieces of each small size, beginning with single bytes; between two of them no read
 * blocks, and each message is there as soon as its last byte is. */
static void
test_in_pieces (gconstpointer kind)
{
  g_autoptr (GByteArray) array = frames_new ();

  for (guint piece = 1; piece < 12; piece++)
    {
      guint n_read = 0, written = 0, end = 0;
      QTaskChannel *channel;
      Raw raw;
      int fd;

      channel = raw_new (KIND, &raw);
      fd = q_task_channel_get_fd (channel, NULL);
      g_assert_cmpint (fd, >=, 0);

      while (written < array->len)
        {
          guint n = MIN (piece, array->len - written);

          raw_write (&raw, array->data + written, n);
          written += n;
          while (n_read < G_N_ELEMENTS (frame_sizes) &&
                 written >= end + HEADER + frame_sizes[n_read])
            {
              g_autoptr (GError) error = NULL;
              g_autoptr (GBytes) message = NULL;

              g_assert_true (fd_is_readable (fd));
              message = q_task_channel_try_read (channel, &error);
              g_assert_no_error (error);
              channel_message_check (message, n_read, frame_sizes[n_read]);
              end += HEADER + (guint) frame_sizes[n_read];
              n_read++;
            }

          /* Nothing whole is left: the next read takes in the part, and then there is nothing. */
          assert_would_block (channel);
          g_assert_false (fd_is_readable (fd));
        }

      g_assert_cmpuint (n_read, ==, G_N_ELEMENTS (frame_sizes));
      raw_shut (&raw);
      g_assert_true (fd_is_readable (fd));
      assert_end (channel);
      raw_close (&raw);
      finalize_channel (channel);
    }
}

/* A blocking read, through all pieces */
typedef struct
{
  Raw *raw;
  GByteArray *array;
} Dripper;

static gpointer
drip_thread (gpointer data)
{
  Dripper *dripper = data;

  for (guint i = 0; i < dripper->array->len; i++)
    {
      raw_write (dripper->raw, dripper->array->data + i, 1);
      if (i % 100 == 0)
        g_usleep (200);
    }

  return NULL;
}

static void
count_all_cb (QTaskChannel *channel,
              GBytes *message,
              gpointer data)
{
  guint *n = data;

  if (message != NULL)
    channel_message_check (message, *n, frame_sizes[*n]);
  (*n)++;
}

static void
test_drip (gconstpointer kind)
{
  g_autoptr (GByteArray) array = frames_new ();

  for (int by_func = 0; by_func < 2; by_func++)
    {
      Dripper dripper = { NULL, array };
      QTaskChannel *channel;
      GThread *thread;
      guint n = 0;
      Raw raw;

      channel = raw_new (KIND, &raw);
      dripper.raw = &raw;
      thread = g_thread_new ("drip", drip_thread, &dripper);
      if (by_func)
        {
          q_task_channel_set_message_func (channel, count_all_cb, &n, NULL);
          test_run_until (NULL, n == G_N_ELEMENTS (frame_sizes));
        }
      else
        for (; n < G_N_ELEMENTS (frame_sizes); n++)
          {
            g_autoptr (GError) error = NULL;
            g_autoptr (GBytes) message = q_task_channel_read (channel, NULL, &error);

            g_assert_no_error (error);
            channel_message_check (message, n, frame_sizes[n]);
          }
      g_thread_join (thread);
      raw_close (&raw);
      if (by_func)
        test_run_until (NULL, n == G_N_ELEMENTS (frame_sizes) + 1);
      assert_end (channel);
      finalize_channel (channel);
    }
}

/* A read that is cancelled in the middle of a frame leaves it whole for the next. */
static void
test_cancel_in_frame (gconstpointer kind)
{
  g_autoptr (GByteArray) array = g_byte_array_new ();
  QTaskChannel *channel;
  Raw raw;

  frame_append (array, "in pieces", 9);
  channel = raw_new (KIND, &raw);
  for (guint i = 0; i < array->len - 1; i++)
    {
      GCancellable *cancellable = g_cancellable_new ();
      Blocker blocker = { 0 };

      raw_write (&raw, array->data + i, 1);
      blocker_start (&blocker, channel, i % 2 == 0 ? CALL_READ : CALL_READ_INTO, cancellable);
      g_cancellable_cancel (cancellable);
      blocker_join (&blocker);
      g_assert_error (blocker.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      blocker_clear (&blocker);
      g_assert_finalize_object (cancellable);
    }
  raw_write (&raw, array->data + array->len - 1, 1);
  assert_read (channel, "in pieces");
  raw_close (&raw);
  assert_end (channel);
  finalize_channel (channel);
}

/* Parts of frames that are dropped by read_into: the next is in step. */
static void
test_truncated_in_pieces (gconstpointer kind)
{
  g_autofree guint8 *payload = g_malloc0 (300000);
  guint8 header[HEADER], buffer[4];
  g_autoptr (GError) error = NULL;
  Blocker blocker = { 0 };
  QTaskChannel *channel;
  gsize message_size;
  Raw raw;

  channel = raw_new (KIND, &raw);
  memcpy (payload, "head", 4);
  header_fill (header, 300000, 1);
  blocker_start (&blocker, channel, CALL_READ_INTO, NULL);
  raw_write (&raw, header, HEADER);
  for (gsize i = 0; i < 300000; i += 10000)
    raw_write (&raw, payload + i, 10000);
  raw_write_string (&raw, "next");
  blocker_join (&blocker);
  g_assert_no_error (blocker.error);
  g_assert_cmpuint (blocker.message_size, ==, 300000);
  blocker_clear (&blocker);
  g_assert_true (q_task_channel_read_into (channel, buffer, 2, &message_size, NULL, &error));
  g_assert_cmpuint (message_size, ==, 4);
  g_assert_cmpmem (buffer, 2, "ne", 2);
  assert_would_block (channel);
  raw_close (&raw);
  finalize_channel (channel);
}

/* Dying peers */

/* The peer goes with something of ours unread (a reset, over a socket): what it wrote
 * before is still read, and then there is an end, or an error, but a channel that is over. */
static void
test_peer_dies (gconstpointer kind)
{
  for (int unread = 0; unread < 2; unread++)
    {
      QTaskChannel *channel;
      Raw raw;

      channel = raw_new (KIND, &raw);
      if (unread)
        write_string (channel, "never read");
      raw_write_string (&raw, "last words");
      raw_close (&raw);

      assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
      assert_read (channel, "last words");
      assert_end (channel);
      assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
      finalize_channel (channel);
    }
}

/* It dies while one waits to write, and another to read. */
static void
test_peer_dies_while_blocked (gconstpointer kind)
{
  for (int in_frame = 0; in_frame < 2; in_frame++)
    {
      Blocker reader = { 0 }, writer = { 0 };
      g_autoptr (GBytes) message = channel_message_new (1, 100);
      Reply reply = { 0 };
      QTaskChannel *channel;
      Raw raw;

      channel = raw_new (KIND, &raw);
      q_task_channel_set_capacity (channel, 1);
      channel_fill (channel, 0, 1000);
      blocker_start (&reader, channel, CALL_READ, NULL);
      blocker_start (&writer, channel, CALL_WRITE, NULL);
      q_task_channel_write_async (channel, message, NULL, write_cb, &reply);
      if (in_frame)
        raw_write (&raw, "\5\0\0", 3);
      raw_close (&raw);

      blocker_join (&writer);
      blocker_join (&reader);
      test_run_until (NULL, reply.called);
      if (in_frame)
        {
          /* Who is first to see it, the reader or the writers, is open. */
          g_assert_error (reader.error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
          g_assert_true (g_error_matches (writer.error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE) ||
                         g_error_matches (writer.error, G_IO_ERROR, G_IO_ERROR_CLOSED));
          g_assert_true (g_error_matches (reply.error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE) ||
                         g_error_matches (reply.error, G_IO_ERROR, G_IO_ERROR_CLOSED));
        }
      else
        {
          g_assert_no_error (reader.error);
          g_assert_error (writer.error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
          g_assert_error (reply.error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
        }
      g_assert_null (reader.message);
      blocker_clear (&reader);
      blocker_clear (&writer);
      reply_clear (&reply);
      test_run_pending (NULL);
      finalize_channel (channel);
    }
}

/* It stops reading only: its messages still come. */
static void
test_peer_stops_reading (gconstpointer kind)
{
  QTaskChannel *channel;
  Raw raw;

  channel = raw_new (KIND, &raw);
  if (KIND == CHANNEL_SOCKET)
    g_assert_cmpint (shutdown (raw.in, SHUT_RD), ==, 0);
  else
    {
      close (raw.in);
      raw.in = -1;
    }
  assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  raw_write_string (&raw, "still");
  assert_read (channel, "still");
  raw_write_string (&raw, "there");
  assert_read (channel, "there");
  raw_close (&raw);
  assert_end (channel);
  finalize_channel (channel);
}

/* It stops writing only: that is the end of what is read, and ours still go there. */
static void
test_peer_stops_writing (gconstpointer kind)
{
  guint8 buffer[HEADER + 5];
  QTaskChannel *channel;
  Raw raw;

  channel = raw_new (KIND, &raw);
  raw_write_string (&raw, "last");
  raw_shut (&raw);
  assert_read (channel, "last");
  assert_end (channel);
  write_string (channel, "still");
  g_assert_cmpuint (raw_read (&raw, buffer, sizeof buffer), ==, sizeof buffer);
  g_assert_cmpmem (buffer + HEADER, 5, "still", 5);
  raw_close (&raw);
  assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  finalize_channel (channel);
}

/* SIGPIPE: it has the default disposition here. And one that is pending for another reason
 * is not eaten. */
static void
test_no_sigpipe (gconstpointer kind)
{
  struct sigaction action;
  QTaskChannel *channel;
  sigset_t mask, pending;
  Raw raw;

  g_assert_cmpint (sigaction (SIGPIPE, NULL, &action), ==, 0);
  g_assert_true (action.sa_handler == SIG_DFL);

  for (int i = 0; i < 10; i++)
    {
      channel = raw_new (KIND, &raw);
      write_string (channel, "unread");
      raw_close (&raw);
      assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
      finalize_channel (channel);

      /* Nor when what is queued goes out later, or after the close */
      channel = raw_new (KIND, &raw);
      channel_fill (channel, 0, 1000);
      if (i % 2 == 0)
        {
          q_task_channel_close (channel);
          raw_close (&raw);
        }
      else
        {
          raw_close (&raw);
          q_task_channel_close (channel);
        }
      finalize_channel (channel);
    }

  /* The mask is as it was, and a signal that was pending before still is. */
  sigemptyset (&mask);
  sigaddset (&mask, SIGPIPE);
  g_assert_cmpint (pthread_sigmask (SIG_BLOCK, &mask, NULL), ==, 0);
  g_assert_cmpint (pthread_kill (pthread_self (), SIGPIPE), ==, 0);
  channel = raw_new (KIND, &raw);
  raw_close (&raw);
  assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  finalize_channel (channel);
  sigpending (&pending);
  g_assert_true (sigismember (&pending, SIGPIPE));
  {
    struct timespec none = { 0, 0 };

    g_assert_cmpint (sigtimedwait (&mask, NULL, &none), ==, SIGPIPE);
  }

  channel = raw_new (KIND, &raw);
  raw_close (&raw);
  assert_writes_fail (channel, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE);
  finalize_channel (channel);
  sigpending (&pending);
  g_assert_false (sigismember (&pending, SIGPIPE));
  g_assert_cmpint (pthread_sigmask (SIG_UNBLOCK, &mask, NULL), ==, 0);
  g_assert_cmpint (sigaction (SIGPIPE, NULL, &action), ==, 0);
  g_assert_true (action.sa_handler == SIG_DFL);
}

/* A storm of signals that interrupt each call of the kernel */
static int n_interrupts;

static void
interrupt_cb (int number)
{
  g_atomic_int_inc (&n_interrupts);
}

static gpointer
write_all_thread (gpointer channel)
{
  for (guint i = 0; i < 200; i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, i * 100);
      g_autoptr (GError) error = NULL;

      q_task_channel_write_bytes (channel, message, NULL, &error);
      g_assert_no_error (error);
    }

  return NULL;
}

static void
test_interrupts (gconstpointer kind)
{
  struct sigaction action = { .sa_handler = interrupt_cb }, old;
  struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
  GThread *threads[2];
  QTaskChannel *a, *b;

  if (test_is_slow () || TEST_IS_SANITIZED)
    often = (struct itimerval){ { 0, 5000 }, { 0, 5000 } };

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 1);
  sigemptyset (&action.sa_mask);
  g_assert_cmpint (sigaction (SIGVTALRM, &action, &old), ==, 0);
  g_assert_cmpint (sigaction (SIGPROF, &action, NULL), ==, 0);
  g_assert_cmpint (sigaction (SIGUSR1, &action, NULL), ==, 0);
  n_interrupts = 0;
  g_assert_cmpint (setitimer (ITIMER_PROF, &often, NULL), ==, 0);
  threads[0] = g_thread_new ("write-all", write_all_thread, a);

  for (guint i = 0; i < 200; i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = NULL;

      /* Also while it waits: signals of their own for the writer, which may sleep */
      pthread_kill (pthread_self (), SIGUSR1);
      message = q_task_channel_read (b, NULL, &error);
      g_assert_no_error (error);
      channel_message_check (message, i, i * 100);
    }

  g_thread_join (threads[0]);
  g_assert_cmpint (setitimer (ITIMER_PROF, &never, NULL), ==, 0);
  g_assert_cmpint (sigaction (SIGVTALRM, &old, NULL), ==, 0);
  g_test_message ("%d interrupts", g_atomic_int_get (&n_interrupts));
  g_assert_cmpint (g_atomic_int_get (&n_interrupts), >=, 200);
  finalize_channel (a);
  finalize_channel (b);
}

/* All calls of the kernel are interrupted before they did anything. */
static void
test_all_interrupted (gconstpointer kind)
{
#ifndef CAN_INTERRUPT
  g_test_skip ("The calls of the kernel cannot be made to be interrupted here");
#else
  QTaskChannel *a, *b;
  GThread *thread;

  channel_pair_new (KIND, &a, &b);
  q_task_channel_set_capacity (a, 1000);
  n_interruptible = 0;
  g_atomic_int_set (&wants_interrupts, TRUE);
  thread = g_thread_new ("write-all", write_all_thread, a);

  for (guint i = 0; i < 200; i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);

      g_assert_no_error (error);
      channel_message_check (message, i, i * 100);
    }

  g_thread_join (thread);
  q_task_channel_close (a);
  assert_end (b);
  g_atomic_int_set (&wants_interrupts, FALSE);
  g_assert_cmpint (n_interruptible, >, 400);
  finalize_channel (a);
  finalize_channel (b);
#endif
}

/* Signals for a thread that blocks in each of the calls */
typedef struct
{
  pthread_t thread;
  TestGate begun;
  TestGate done;
  Call call;
  QTaskChannel *channel;
  GError *error;
  gboolean success;
} Interrupted;

static gpointer
interrupted_thread (gpointer data)
{
  Interrupted *interrupted = data;
  g_autoptr (GBytes) message = channel_message_new (7, 100);
  guint8 buffer[16];
  gsize size;

  interrupted->thread = pthread_self ();
  test_gate_open (&interrupted->begun);

  if (interrupted->call == CALL_READ)
    {
      g_autoptr (GBytes) got = q_task_channel_read (interrupted->channel, NULL, &interrupted->error);

      interrupted->success = got != NULL;
    }
  else if (interrupted->call == CALL_READ_INTO)
    interrupted->success = q_task_channel_read_into (interrupted->channel, buffer, sizeof buffer, &size,
                                                     NULL, &interrupted->error);
  else if (interrupted->call == CALL_WRITE)
    interrupted->success = q_task_channel_write (interrupted->channel, "x", 1, NULL, &interrupted->error);
  else
    interrupted->success = q_task_channel_write_bytes (interrupted->channel, message, NULL,
                                                       &interrupted->error);

  /* The thread is there as long as signals are sent to it. */
  test_gate_open (&interrupted->begun);
  test_gate_wait (&interrupted->done);

  return NULL;
}

static void
test_interrupted_while_blocked (gconstpointer kind)
{
  struct sigaction action = { .sa_handler = interrupt_cb };

  sigemptyset (&action.sa_mask);
  g_assert_cmpint (sigaction (SIGUSR1, &action, NULL), ==, 0);

  for (Call call = 0; call < N_CALLS; call++)
    {
      Interrupted interrupted = { .begun = TEST_GATE_INIT, .done = TEST_GATE_INIT, .call = call };
      QTaskChannel *a, *b;
      GThread *thread;
      guint n = 0;

      channel_pair_new (KIND, &a, &b);
      q_task_channel_set_capacity (a, 1);
      if (!call_is_read (call))
        n = channel_fill (a, 0, 1000);
      interrupted.channel = a;
      thread = g_thread_new ("interrupted", interrupted_thread, &interrupted);
      test_gate_wait (&interrupted.begun);
      for (int i = 0; i < 50; i++)
        {
          g_assert_cmpint (pthread_kill (interrupted.thread, SIGUSR1), ==, 0);
          g_usleep (300);
        }
      g_assert_cmpint (test_gate_get_count (&interrupted.begun), ==, 1);
      if (call_is_read (call))
        write_string (b, "done");
      else
        for (guint i = 0; i < n; i++)
          g_bytes_unref (q_task_channel_read (b, NULL, NULL));
      test_gate_wait_for (&interrupted.begun, 2);
      test_gate_open (&interrupted.done);
      g_thread_join (thread);
      g_assert_no_error (interrupted.error);
      g_assert_true (interrupted.success);
      finalize_channel (a);
      finalize_channel (b);
    }
}

/* A peer that reads byte by byte: frames are whole, whatever each write took. */
static gpointer
write_frames_thread (gpointer channel)
{
  for (guint i = 0; i < G_N_ELEMENTS (frame_sizes); i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, frame_sizes[i] * 20);
      g_autoptr (GError) error = NULL;

      q_task_channel_write_bytes (channel, message, NULL, &error);
      g_assert_no_error (error);
    }

  return NULL;
}

static void
test_short_writes (gconstpointer kind)
{
  QTaskChannel *channel;
  GThread *thread;
  Raw raw;

  channel = raw_new (KIND, &raw);
  if (KIND == CHANNEL_PIPE)
    g_assert_cmpint (fcntl (raw.in, F_SETPIPE_SZ, 4096), >, 0);
  q_task_channel_set_capacity (channel, 1);
  thread = g_thread_new ("write-frames", write_frames_thread, channel);

  for (guint i = 0; i < G_N_ELEMENTS (frame_sizes); i++)
    {
      gsize size = frame_sizes[i] * 20;
      g_autoptr (GBytes) message = channel_message_new (i, size);
      const guint8 *expected = g_bytes_get_data (message, NULL);
      guint8 header[HEADER], wanted[HEADER];

      header_fill (wanted, (guint32) size, 1);
      for (gsize j = 0; j < HEADER; j++)
        g_assert_cmpuint (raw_read (&raw, header + j, 1), ==, 1);
      g_assert_cmpmem (header, HEADER, wanted, HEADER);
      for (gsize done = 0; done < size;)
        {
          guint8 part[97];
          gsize n = MIN (sizeof part, size - done);

          g_assert_cmpuint (raw_read (&raw, part, n), ==, n);
          g_assert_cmpmem (part, n, expected + done, n);
          done += n;
        }
    }

  g_thread_join (thread);
  q_task_channel_close (channel);
  assert_raw_end (&raw);
  raw_close (&raw);
  finalize_channel (channel);
}

/* A write that is cancelled when a part of its frame is out: what follows is in step. */
static void
test_cancel_large_write (gconstpointer kind)
{
  for (int i = 0; i < 10; i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      Blocker blocker = { .size = 3000000 };
      QTaskChannel *a, *b;
      gboolean sent;

      channel_pair_new (KIND, &a, &b);
      q_task_channel_set_capacity (a, i % 2 == 0 ? 10 : 1024 * 1024);
      blocker_start (&blocker, a, CALL_WRITE, cancellable);
      g_cancellable_cancel (cancellable);
      blocker_join (&blocker);
      sent = blocker.success;
      if (!sent)
        g_assert_error (blocker.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      blocker_clear (&blocker);

      blocker.size = 10;
      blocker_start (&blocker, a, CALL_WRITE, NULL);
      {
        g_autoptr (GError) error = NULL;
        g_autoptr (GBytes) first = q_task_channel_read (b, NULL, &error);
        gsize size;

        g_assert_no_error (error);
        size = g_bytes_get_size (first);
        g_assert_true (size == 3000000 || size == 10);
        if (sent)
          g_assert_cmpuint (size, ==, 3000000);
        channel_message_check (first, 7, size);
        if (size == 3000000)
          {
            g_autoptr (GBytes) second = q_task_channel_read (b, NULL, &error);

            g_assert_no_error (error);
            channel_message_check (second, 7, 10);
          }
      }
      blocker_join (&blocker);
      g_assert_no_error (blocker.error);
      blocker_clear (&blocker);
      assert_would_block (b);
      finalize_channel (a);
      finalize_channel (b);
    }
}

static void
add (const char *name,
     GTestDataFunc func)
{
  g_autofree char *path = g_strconcat ("frames/", name, NULL);

  channel_test_add (path, CHANNEL_SOCKET, func);
  channel_test_add (path, CHANNEL_PIPE, func);
}

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  /* GSocket ignores SIGPIPE for the whole process when it is first used. A program that undoes
   * that, or uses none, is none the worse off. */
  g_type_class_unref (g_type_class_ref (G_TYPE_SOCKET));
  signal (SIGPIPE, SIG_DFL);

  add ("bytes", test_bytes);
  add ("cut", test_cut);
  add ("bad-by-each-way", test_bad_by_each_way);
  add ("types", test_types);
  add ("lengths", test_lengths);
  add ("no-memory-for-claims", test_no_memory_for_claims);
  add ("many-in-one", test_many_in_one);
  add ("in-pieces", test_in_pieces);
  add ("drip", test_drip);
  add ("cancel-in-frame", test_cancel_in_frame);
  add ("truncated-in-pieces", test_truncated_in_pieces);
  add ("peer-dies", test_peer_dies);
  add ("peer-dies-while-blocked", test_peer_dies_while_blocked);
  add ("peer-stops-reading", test_peer_stops_reading);
  add ("peer-stops-writing", test_peer_stops_writing);
  add ("no-sigpipe", test_no_sigpipe);
  add ("interrupts", test_interrupts);
  add ("all-interrupted", test_all_interrupted);
  add ("interrupted-while-blocked", test_interrupted_while_blocked);
  add ("short-writes", test_short_writes);
  add ("cancel-large-write", test_cancel_large_write);

  return g_test_run ();
}
