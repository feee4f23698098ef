/* test-channel-util.h: what the tests of channels share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "test-util.h"

G_BEGIN_DECLS

/* What lies between the two ends */
typedef enum
{
  CHANNEL_MEMORY,
  CHANNEL_SOCKET,
  CHANNEL_PIPE,
  N_CHANNEL_KINDS
} ChannelKind;

extern const char *const channel_kind_names[N_CHANNEL_KINDS];

/* Two ends; the memory of the kernel between those over descriptors is small. */
void    channel_pair_new     (ChannelKind     kind,
                              QTaskChannel  **first,
                              QTaskChannel  **second);

/* Adds a test to which its kind is given */
void    channel_test_add     (const char     *name,
                              ChannelKind     kind,
                              GTestDataFunc   func);
/* Adds it for each kind */
void    channel_test_add_all (const char     *name,
                              GTestDataFunc   func);
/* Adds one that has no kind: @path is the whole of it */
void    channel_test_add_one (const char     *path,
                              GTestFunc       func);

/* A message of @size bytes, which tell @number when there are any */
GBytes *channel_message_new  (guint           number,
                              gsize           size);
void    channel_message_check (GBytes        *message,
                               guint          number,
                               gsize          size);

/* Writes with try_write until that would block: how many there are, each of @size, numbered on
 * from @number */
guint   channel_fill         (QTaskChannel   *channel,
                              guint           number,
                              gsize           size);

/* Reads with the context iterated, where over descriptors what waits for room is sent */
GBytes *channel_read_iterating (QTaskChannel  *channel);

/* How many descriptors the process has */
guint   count_descriptors    (void);

/* Whether poll() finds @fd readable, without waiting */
gboolean fd_is_readable      (int             fd);

/* Blocker: a thread that makes a call which blocks */
typedef enum
{
  CALL_READ,
  CALL_READ_INTO,
  CALL_WRITE,
  CALL_WRITE_BYTES,
  N_CALLS
} Call;

#define call_is_read(call) ((call) <= CALL_READ_INTO)

typedef struct
{
  QTaskChannel *channel;
  Call          call;
  GCancellable *cancellable;
  gsize         size; /* of what is written */
  GThread      *thread;
  TestGate      entered;
  TestGate      done;
  pid_t         tid;

  gboolean      success; /* or that there is a message */
  GBytes       *message;
  gsize         message_size;
  GError       *error;
} Blocker;

/* Returns when the thread sleeps, as far as the kernel tells */
void blocker_start (Blocker      *blocker,
                    QTaskChannel *channel,
                    Call          call,
                    GCancellable *cancellable);
void blocker_join  (Blocker      *blocker);
void blocker_clear (Blocker      *blocker);

/* A GAsyncReadyCallback for reads and writes, and what it saw */
typedef struct
{
  int      called;
  int      serial;
  GThread *thread;
  GBytes  *message;
  gboolean success;
  GError  *error;
} Reply;

void read_cb     (GObject      *source,
                  GAsyncResult *result,
                  gpointer      reply);
void write_cb    (GObject      *source,
                  GAsyncResult *result,
                  gpointer      reply);
void reply_clear (Reply        *reply);

#define write_string(channel, string) \
  G_STMT_START { \
    GError *error_ = NULL; \
    gboolean success_ = q_task_channel_write (channel, string, strlen (string), NULL, &error_); \
    g_assert_no_error (error_); \
    g_assert_true (success_); \
  } G_STMT_END

#define assert_bytes(bytes, string) \
  g_assert_cmpmem (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), string, strlen (string))

#define assert_read(channel, string) \
  G_STMT_START { \
    GError *error_ = NULL; \
    GBytes *message_ = q_task_channel_read (channel, NULL, &error_); \
    g_assert_no_error (error_); \
    g_assert_nonnull (message_); \
    assert_bytes (message_, string); \
    g_bytes_unref (message_); \
  } G_STMT_END

#define assert_try_read_fails(channel, domain, code) \
  G_STMT_START { \
    GError *error_ = NULL; \
    g_assert_null (q_task_channel_try_read (channel, &error_)); \
    g_assert_error (error_, domain, code); \
    g_clear_error (&error_); \
  } G_STMT_END

#define assert_read_fails(channel, domain, code) \
  G_STMT_START { \
    GError *error_ = NULL; \
    g_assert_null (q_task_channel_read (channel, NULL, &error_)); \
    g_assert_error (error_, domain, code); \
    g_clear_error (&error_); \
  } G_STMT_END

#define assert_would_block(channel) \
  assert_try_read_fails (channel, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)

/* All was read and the peer is closed: so say all calls, again and again. */
void assert_end (QTaskChannel *channel);

/* What all writes say */
void assert_writes_fail (QTaskChannel *channel,
                         GQuark        domain,
                         int           code);
/* What all reads say */
void assert_reads_fail  (QTaskChannel *channel,
                         GQuark        domain,
                         int           code);

/* Drops the last reference */
#define finalize_channel(channel) g_assert_finalize_object (channel)

/* Polls what changes in other threads, or by the kernel, and wakes nobody */
#define poll_until(condition) \
  G_STMT_START \
  { \
    gint64 end_time_ = test_end_time (); \
    while (!(condition)) \
      { \
        if (g_get_monotonic_time () > end_time_) \
          g_error ("%s:%d: not so in time: %s", __FILE__, __LINE__, #condition); \
        g_usleep (500); \
      } \
  } \
  G_STMT_END

G_END_DECLS
