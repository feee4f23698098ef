/* test-channel-stress.c: channels, a million messages and all at once
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Nothing is lost, duplicated or reordered; who blocks is woken by whatever ends the
 * waiting; and whoever drops the last reference may do so at any time.
 */

#include <string.h>

#include "test-channel-util.h"

#define KIND ((ChannelKind) GPOINTER_TO_UINT (kind))
#define N_WRITERS 4

static guint
scaled (guint n)
{
  return TEST_IS_SANITIZED || test_is_slow () ? n / 20 : n;
}

/* Four writers at one end */
typedef struct
{
  QTaskChannel *channel;
  guint writer;
  guint n;
} Writer;

typedef struct
{
  guint32 writer;
  guint32 number;
  guint32 check;
} Record;

#define RECORD_CHECK 0x5ca1ab1e

static gpointer
writer_thread (gpointer data)
{
  Writer *writer = data;

  for (guint i = 0; i < writer->n; i++)
    {
      Record record = { writer->writer, i, RECORD_CHECK ^ i };
      g_autoptr (GError) error = NULL;

      if (i % 2 == 0)
        q_task_channel_write (writer->channel, &record, sizeof record, NULL, &error);
      else
        {
          g_autoptr (GBytes) message = g_bytes_new (&record, sizeof record);

          q_task_channel_write_bytes (writer->channel, message, NULL, &error);
        }
      g_assert_no_error (error);
    }

  return NULL;
}

static void
record_check (gconstpointer data,
              gsize size,
              guint next[N_WRITERS])
{
  Record record;

  g_assert_cmpuint (size, ==, sizeof record);
  memcpy (&record, data, sizeof record);
  g_assert_cmpuint (record.writer, <, N_WRITERS);
  g_assert_cmpuint (record.number, ==, next[record.writer]);
  g_assert_cmpuint (record.check, ==, RECORD_CHECK ^ record.number);
  next[record.writer]++;
}

typedef struct
{
  guint next[N_WRITERS];
  guint n;
  gboolean is_over;
} Heard;

static void
heard_cb (QTaskChannel *channel,
          GBytes *message,
          gpointer data)
{
  Heard *heard = data;

  if (message == NULL)
    heard->is_over = TRUE;
  else
    {
      gsize size;
      gconstpointer bytes = g_bytes_get_data (message, &size);

      record_check (bytes, size, heard->next);
      heard->n++;
    }
}

typedef enum
{
  BY_READ,
  BY_READ_INTO,
  BY_MESSAGE_FUNC
} Way;

static void
run_million (ChannelKind kind,
             Way way,
             guint n_each)
{
  GThread *threads[N_WRITERS];
  Writer writers[N_WRITERS];
  QTaskChannel *a, *b;
  Heard heard = { 0 };

  channel_pair_new (kind, &a, &b);
  q_task_channel_set_capacity (a, 64 * 1024);
  if (way == BY_MESSAGE_FUNC)
    q_task_channel_set_message_func (b, heard_cb, &heard, NULL);
  for (guint i = 0; i < N_WRITERS; i++)
    {
      writers[i] = (Writer){ a, i, n_each };
      threads[i] = g_thread_new ("writer", writer_thread, &writers[i]);
    }

  for (guint i = 0; way != BY_MESSAGE_FUNC && i < n_each * N_WRITERS; i++)
    {
      g_autoptr (GError) error = NULL;

      if (way == BY_READ)
        {
          g_autoptr (GBytes) message = q_task_channel_read (b, NULL, &error);
          gconstpointer data;
          gsize size;

          g_assert_no_error (error);
          g_assert_nonnull (message);
          data = g_bytes_get_data (message, &size);
          record_check (data, size, heard.next);
        }
      else
        {
          guint8 buffer[100];
          gsize size;

          g_assert_true (q_task_channel_read_into (b, buffer, sizeof buffer, &size, NULL, &error));
          record_check (buffer, size, heard.next);
        }
      heard.n++;
    }
  if (way == BY_MESSAGE_FUNC)
    test_run_until (NULL, heard.n == n_each * N_WRITERS);

  for (guint i = 0; i < N_WRITERS; i++)
    {
      g_thread_join (threads[i]);
      g_assert_cmpuint (heard.next[i], ==, n_each);
    }
  if (way != BY_MESSAGE_FUNC)
    assert_would_block (b);
  finalize_channel (a);
  if (way == BY_MESSAGE_FUNC)
    test_run_until (NULL, heard.is_over);
  assert_end (b);
  g_assert_cmpuint (heard.n, ==, n_each * N_WRITERS);
  finalize_channel (b);
}

static void
test_million_read (gconstpointer kind)
{
  run_million (KIND, BY_READ, scaled (250000));
}

static void
test_million_heard (gconstpointer kind)
{
  run_million (KIND, BY_MESSAGE_FUNC, scaled (250000));
}

static void
test_read_into (gconstpointer kind)
{
  run_million (KIND, BY_READ_INTO, scaled (50000));
}

/* Both directions at once, echoed by a thread */
static gpointer
echo_thread (gpointer channel)
{
  for (;;)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (channel, NULL, &error);

      g_assert_no_error (error);
      if (message == NULL)
        return NULL;
      q_task_channel_write_bytes (channel, message, NULL, &error);
      g_assert_no_error (error);
    }
}

static void
test_round_trips (gconstpointer kind)
{
  QTaskChannel *a, *b;
  GThread *thread;

  channel_pair_new (KIND, &a, &b);
  thread = g_thread_new ("echo", echo_thread, b);
  for (guint i = 0; i < scaled (20000); i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, i % 1000);
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) back = NULL;

      q_task_channel_write_bytes (a, message, NULL, &error);
      g_assert_no_error (error);
      back = q_task_channel_read (a, NULL, &error);
      g_assert_no_error (error);
      channel_message_check (back, i, i % 1000);
    }
  q_task_channel_close (a);
  g_thread_join (thread);
  finalize_channel (a);
  finalize_channel (b);
}

/* Close, while readers and writers block or are about to: all return. */
typedef struct
{
  QTaskChannel *ends[2];
  pthread_barrier_t barrier;
  guint random;
} Closing;

static void
assert_closing_error (const GError *error)
{
  if (error != NULL && !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CLOSED) &&
      !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_BROKEN_PIPE) &&
      !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) &&
      !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
    g_error ("Another error: %s", error->message);
}

static void
read_to_the_end (QTaskChannel *channel)
{
  for (;;)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (channel, NULL, &error);

      assert_closing_error (error);
      if (message == NULL)
        return;
    }
}

static void
write_to_the_end (QTaskChannel *channel)
{
  for (guint i = 0;; i++)
    {
      g_autoptr (GBytes) message = channel_message_new (i, i % 500);
      g_autoptr (GError) error = NULL;

      if (!q_task_channel_write_bytes (channel, message, NULL, &error))
        {
          g_assert_nonnull (error);
          assert_closing_error (error);
          return;
        }
    }
}

typedef struct
{
  Closing *closing;
  guint number;
} Actor;

static gpointer
actor_thread (gpointer data)
{
  Actor *actor = data;
  QTaskChannel *channel = actor->closing->ends[actor->number % 2];

  pthread_barrier_wait (&actor->closing->barrier);
  if (actor->number / 2 == 0)
    read_to_the_end (channel);
  else
    write_to_the_end (channel);

  return NULL;
}

static void
test_close_races (gconstpointer kind)
{
  for (guint i = 0; i < scaled (1000); i++)
    {
      GThread *threads[4];
      Actor actors[4];
      Closing closing;

      channel_pair_new (KIND, &closing.ends[0], &closing.ends[1]);
      q_task_channel_set_capacity (closing.ends[0], 1 + i % 1000);
      pthread_barrier_init (&closing.barrier, NULL, 5);
      for (guint j = 0; j < 4; j++)
        {
          actors[j] = (Actor){ &closing, j };
          threads[j] = g_thread_new ("actor", actor_thread, &actors[j]);
        }
      pthread_barrier_wait (&closing.barrier);
      if (i % 3 == 0)
        g_usleep (i % 200);
      q_task_channel_close (closing.ends[i % 2]);
      for (guint j = 0; j < 4; j++)
        g_thread_join (threads[j]);
      pthread_barrier_destroy (&closing.barrier);
      finalize_channel (closing.ends[0]);
      finalize_channel (closing.ends[1]);
    }
}

/* Everything at random, from several threads, each with a reference of its own that it drops
 * when it likes. */
#define N_MEDDLERS 4

typedef struct
{
  QTaskChannel *ends[2]; /* each with a reference */
  GCancellable *cancellable;
  guint32 seed;
  pthread_barrier_t *barrier;
  int *n_outstanding; /* what is released in the end */
  GMainContext *context;
  int n_async; /* calls of this thread that have not been answered */
} Meddler;

static void
released_cb (gpointer n_outstanding)
{
  g_assert_cmpint (g_atomic_int_add ((int *) n_outstanding, -1), >, 0);
}

static void
ignore_message_cb (QTaskChannel *channel,
                   GBytes *message,
                   gpointer n_outstanding)
{
}

static void
ignore_read_cb (GObject *source,
                GAsyncResult *result,
                gpointer n_async)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) message = NULL;

  message = q_task_channel_read_finish (Q_TASK_CHANNEL (source), result, &error);
  assert_closing_error (error);
  (*(int *) n_async)--;
}

static void
ignore_write_cb (GObject *source,
                 GAsyncResult *result,
                 gpointer n_async)
{
  g_autoptr (GError) error = NULL;

  q_task_channel_write_finish (Q_TASK_CHANNEL (source), result, &error);
  assert_closing_error (error);
  (*(int *) n_async)--;
}

static gboolean
ignore_ready_cb (QTaskChannel *channel,
                 gpointer data)
{
  return G_SOURCE_REMOVE;
}

static gpointer
meddler_thread (gpointer data)
{
  Meddler *meddler = data;
  GMainContext *context = meddler->context;
  g_autoptr (GRand) random = g_rand_new_with_seed (meddler->seed);
  GSource *sources[30];
  int n_sources = 0;

  g_main_context_push_thread_default (context);
  pthread_barrier_wait (meddler->barrier);

  for (int i = 0; i < 30; i++)
    {
      QTaskChannel *channel = meddler->ends[g_rand_int_range (random, 0, 2)];
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) message = g_bytes_new_with_free_func ("0123456789", 10, released_cb,
                                                               meddler->n_outstanding);
      g_autoptr (GBytes) read = NULL;
      GSource *source;

      g_atomic_int_inc (meddler->n_outstanding);

      switch (g_rand_int_range (random, 0, 14))
        {
        case 0:
          if (g_rand_int_range (random, 0, 4) == 0)
            q_task_channel_close (channel);
          break;
        case 1:
          if (g_rand_int_range (random, 0, 2) == 0)
            g_cancellable_cancel (meddler->cancellable);
          break;
        case 2:
        case 3:
          q_task_channel_write_bytes (channel, message, meddler->cancellable, &error);
          break;
        case 4:
          read = q_task_channel_try_read (channel, &error);
          break;
        case 5:
          q_task_channel_try_write (channel, message, &error);
          break;
        case 6:
          meddler->n_async++;
          q_task_channel_read_async (channel, meddler->cancellable, ignore_read_cb, &meddler->n_async);
          break;
        case 7:
          meddler->n_async++;
          q_task_channel_write_async (channel, message, meddler->cancellable, ignore_write_cb,
                                      &meddler->n_async);
          break;
        case 8:
          g_atomic_int_inc (meddler->n_outstanding);
          q_task_channel_set_message_func (channel, ignore_message_cb, meddler->n_outstanding,
                                           released_cb);
          break;
        case 9:
          q_task_channel_set_message_func (channel, NULL, NULL, NULL);
          break;
        case 10:
          source = q_task_channel_create_source (channel,
                                                 g_rand_int_range (random, 0, 2) ? G_IO_IN : G_IO_OUT,
                                                 meddler->cancellable);
          g_atomic_int_inc (meddler->n_outstanding);
          g_source_set_callback (source, G_SOURCE_FUNC (ignore_ready_cb), meddler->n_outstanding,
                                 released_cb);
          g_source_attach (source, context);
          sources[n_sources++] = source;
          break;
        case 11:
          if (q_task_channel_get_fd (channel, &error) != -1)
            g_assert_no_error (error);
          break;
        case 12:
          q_task_channel_write (channel, "text", 4, meddler->cancellable, &error);
          break;
        default:
          read = q_task_channel_read (channel, meddler->cancellable, &error);
          break;
        }
      assert_closing_error (error);

      if (g_rand_int_range (random, 0, 3) == 0)
        g_main_context_iteration (context, FALSE);
    }

  for (int i = 0; i < 2; i++)
    g_object_unref (meddler->ends[i]);
  test_run_until (context, meddler->n_async == 0);

  /* Some go with the context, while another thread may be cancelling. */
  for (int i = 0; i < n_sources; i++)
    {
      if (i % 2 == 0)
        g_source_destroy (sources[i]);
      g_source_unref (sources[i]);
    }
  g_main_context_pop_thread_default (context);
  g_main_context_unref (context);

  return NULL;
}

static gboolean
cancel_cb (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);

  return G_SOURCE_REMOVE;
}

static gpointer
cancel_later_thread (gpointer cancellable)
{
  g_usleep (3000);
  cancel_cb (cancellable);

  return NULL;
}

static void
test_random (gconstpointer kind)
{
  guint n_rounds = g_test_thorough () ? 20000 : 600;

  for (guint i = 0; i < scaled (n_rounds); i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      GThread *threads[N_MEDDLERS], *canceller;
      Meddler meddlers[N_MEDDLERS];
      pthread_barrier_t barrier;
      int n_outstanding = 0;
      QTaskChannel *ends[2];

      channel_pair_new (KIND, &ends[0], &ends[1]);
      q_task_channel_set_capacity (ends[0], (gsize) g_test_rand_int_range (1, 100));
      q_task_channel_set_capacity (ends[1], (gsize) g_test_rand_int_range (1, 100));
      pthread_barrier_init (&barrier, NULL, N_MEDDLERS + 1);
      for (int j = 0; j < N_MEDDLERS; j++)
        {
          meddlers[j] = (Meddler){ { g_object_ref (ends[0]), g_object_ref (ends[1]) },
                                   cancellable,
                                   (guint32) g_test_rand_int (),
                                   &barrier,
                                   &n_outstanding,
                                   g_main_context_new (),
                                   0 };
          threads[j] = g_thread_new ("meddler", meddler_thread, &meddlers[j]);
        }
      g_object_unref (ends[0]);
      g_object_unref (ends[1]);
      pthread_barrier_wait (&barrier);
      canceller = g_thread_new ("canceller", cancel_later_thread, cancellable);
      for (int j = 0; j < N_MEDDLERS; j++)
        g_thread_join (threads[j]);
      g_thread_join (canceller);
      pthread_barrier_destroy (&barrier);

      /* All contexts are gone: what was in them is released, or on its way. */
      poll_until (g_atomic_int_get (&n_outstanding) == 0);
    }
}

int
main (int argc,
      char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  channel_test_add_all ("stress/million-read", test_million_read);
  channel_test_add_all ("stress/million-heard", test_million_heard);
  channel_test_add_all ("stress/read-into", test_read_into);
  channel_test_add_all ("stress/round-trips", test_round_trips);
  channel_test_add_all ("stress/close-races", test_close_races);
  channel_test_add_all ("stress/random", test_random);

  return g_test_run ();
}
