/* test-soup.c: tasks bound to HTTP requests and WebSockets
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The server is in the main thread. Clients that have to misbehave are plain sockets in a
 * thread of their own, others are libsoup's, in the main thread.
 */

#include <string.h>
#include <sys/ioctl.h>

#include <qtask/soup/q-task-soup.h>

#include "test-util.h"

#define LARGE (64 * 1024)
#define N_LARGE (test_is_slow () ? 256 : 1024)

/* Fixture */

typedef struct _Fixture Fixture;

struct _Fixture
{
  SoupServer *server;
  guint port;
  QTaskPool *pool;

  /* What the handler does */
  QTaskWorker worker;
  QTaskStepWorker step;
  SoupEncoding encoding;
  QTaskBindFlags flags;
  gboolean start_late;
  gboolean is_paced;
  GSocket *socket; /* of the WebSocket connection */

  /* What came of it */
  QTask *task;
  TestFate data;     /* of the function */
  TestFate callback; /* data of the callback */
  TestFate worker_data;
  TestReport report;
  int n_messages;
  int n_completed;
  int n_finished;
  int n_aborted;
  int n_closed;

  /* Of workers */
  TestHold hold;
  int n_written; /* atomic */
  int is_last;   /* atomic */

  /* Of the client */
  int done; /* atomic */
  GString *received;
  gushort close_code;
  int fd; /* atomic; of the slow one, set before it is held */
};

static void
respond (QTask *task,
         SoupServerMessage *request,
         GBytes *message,
         gpointer data)
{
  Fixture *f = data;

  g_assert_true (task == f->task);
  test_assert_alive (&f->data);

  if (message == NULL)
    {
      f->n_completed++;
      g_assert_false (q_task_get_completed (task));
      g_assert_cmpint (f->report.called, ==, 0);
      return;
    }

  g_assert_cmpint (f->n_completed, ==, 0);
  f->n_messages++;
  soup_message_body_append_bytes (soup_server_message_get_response_body (request), message);
}

static void
data_destroyed_cb (gpointer data)
{
  Fixture *f = data;

  test_fate_notify (&f->data);
}

static void
start (Fixture *f)
{
  if (f->step != NULL)
    q_task_pool_push_steps (f->pool, f->task, f->step, f, NULL, NULL);
  else
    q_task_pool_push (f->pool, f->task, f->worker, f, NULL, NULL);
}

static void
make_task (Fixture *f)
{
  g_assert_null (f->task);
  f->task = q_task_new (NULL, test_report_cb, &f->report, NULL);
  g_assert_true (q_task_open_channel (f->task, NULL));
}

static void
handler (SoupServer *server,
         SoupServerMessage *request,
         const char *path,
         GHashTable *query,
         gpointer data)
{
  Fixture *f = data;

  make_task (f);
  soup_message_headers_set_encoding (soup_server_message_get_response_headers (request), f->encoding);
  q_task_soup_bind_request (f->task, request, f->flags, respond, f, data_destroyed_cb);

  if (f->worker != NULL && !f->start_late)
    start (f);
}

static void
websocket_closed_cb (SoupWebsocketConnection *connection,
                     gpointer data)
{
  Fixture *f = data;

  f->n_closed++;
}

static void
websocket_handler (SoupServer *server,
                   SoupServerMessage *request,
                   const char *path,
                   SoupWebsocketConnection *connection,
                   gpointer data)
{
  Fixture *f = data;

  make_task (f);
  g_set_object (&f->socket, soup_server_message_get_socket (request));
  g_signal_connect (connection, "closed", G_CALLBACK (websocket_closed_cb), f);
  q_task_soup_bind_websocket (f->task, connection, SOUP_WEBSOCKET_DATA_BINARY, f->flags);
  start (f);
}

static void
request_finished_cb (SoupServer *server,
                     SoupServerMessage *request,
                     gpointer data)
{
  Fixture *f = data;

  f->n_finished++;
}

static void
request_aborted_cb (SoupServer *server,
                    SoupServerMessage *request,
                    gpointer data)
{
  Fixture *f = data;

  f->n_aborted++;
}

static void
set_up (Fixture *f,
        gconstpointer unused)
{
  g_autoptr (GError) error = NULL;
  GSList *uris;

  f->server = soup_server_new (NULL, NULL);
  f->pool = q_task_pool_new ("soup", 4, 0);
  f->encoding = SOUP_ENCODING_CONTENT_LENGTH;
  f->data = (TestFate) TEST_FATE_INIT;
  f->hold = (TestHold) TEST_HOLD_INIT;
  f->received = g_string_new (NULL);

  soup_server_add_handler (f->server, "/task", handler, f, NULL);
  soup_server_add_websocket_handler (f->server, "/ws", NULL, NULL, websocket_handler, f, NULL);
  g_signal_connect (f->server, "request-finished", G_CALLBACK (request_finished_cb), f);
  g_signal_connect (f->server, "request-aborted", G_CALLBACK (request_aborted_cb), f);

  soup_server_listen_local (f->server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, &error);
  g_assert_no_error (error);
  uris = soup_server_get_uris (f->server);
  f->port = g_uri_get_port (uris->data);
  g_slist_free_full (uris, (GDestroyNotify) g_uri_unref);
}

static void
tear_down (Fixture *f,
           gconstpointer unused)
{
  TestFate task = TEST_FATE_INIT;

  if (f->task != NULL)
    {
      test_run_until (NULL, q_task_get_completed (f->task));
      test_run_pending (NULL);
      test_fate_watch (&task, f->task);
      g_object_unref (f->task);
      test_run_until (NULL, test_fate_get_count (&task) == 1);
    }

  g_clear_object (&f->socket);
  g_clear_object (&f->server);
  g_clear_object (&f->pool);
  g_string_free (f->received, TRUE);
  test_report_clear (&f->report);
}

/* Workers. Their opaque is the fixture. */

static gboolean
write_text (QTask *task,
            const char *text,
            GError **error)
{
  return q_task_channel_write (q_task_get_worker_channel (task), text, strlen (text),
                               q_task_get_stop_cancellable (task), error);
}

static gboolean
hello_worker (QTask *task,
              gpointer data,
              GError **error)
{
  return write_text (task, "Hello, ", error) && write_text (task, "world!", error);
}

static gboolean
failing_worker (QTask *task,
                gpointer data,
                GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "It failed");

  return FALSE;
}

/* Writes, waits for the gate, and writes on */
static gboolean
two_parts_worker (QTask *task,
                  gpointer data,
                  GError **error)
{
  Fixture *f = data;

  if (!write_text (task, "first", error))
    return FALSE;

  test_gate_wait (&f->hold.release);

  return write_text (task, "second", error);
}

static gboolean
one_part_and_failure_worker (QTask *task,
                             gpointer data,
                             GError **error)
{
  Fixture *f = data;

  if (!write_text (task, "first", error))
    return FALSE;

  test_gate_wait (&f->hold.release);

  return failing_worker (task, data, error);
}

static gboolean
until_stopped_worker (QTask *task,
                      gpointer data,
                      GError **error)
{
  Fixture *f = data;

  return test_stoppable_worker (task, &f->hold, error);
}

/* Blocks in the channel, with no cancellable */
static gboolean
endless_worker (QTask *task,
                gpointer data,
                GError **error)
{
  Fixture *f = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);
  g_autoptr (GBytes) large = g_bytes_new_take (g_malloc0 (LARGE), LARGE);

  test_gate_open (&f->hold.entered);

  while (q_task_channel_write_bytes (channel, large, NULL, error))
    g_atomic_int_inc (&f->n_written);

  return FALSE;
}

static gboolean
large_worker (QTask *task,
              gpointer data,
              GError **error)
{
  Fixture *f = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);
  g_autoptr (GBytes) large = g_bytes_new_take (g_malloc0 (LARGE), LARGE);

  test_gate_open (&f->hold.entered);

  for (int i = 0; i < N_LARGE; i++)
    {
      if (!q_task_channel_write_bytes (channel, large, q_task_get_stop_cancellable (task), error))
        return FALSE;
      g_atomic_int_inc (&f->n_written);
    }

  g_atomic_int_set (&f->is_last, 1);
  return TRUE;
}

/* Goes on when the client has left */
static gboolean
outliving_worker (QTask *task,
                  gpointer data,
                  GError **error)
{
  Fixture *f = data;

  test_gate_open (&f->hold.entered);
  test_gate_wait (&f->hold.release);

  return large_worker (task, data, error);
}

static gboolean
syncing_worker (QTask *task,
                gpointer data,
                GError **error)
{
  Fixture *f = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);
  g_autoptr (GBytes) large = g_bytes_new_take (g_malloc0 (LARGE), LARGE);

  for (int i = 0; i < N_LARGE; i++)
    {
      if (!q_task_channel_write_bytes (channel, large, NULL, error) || !q_task_sync (task, error))
        return FALSE;
      g_atomic_int_inc (&f->n_written);
    }

  return TRUE;
}

static QTaskStep
syncing_step (QTask *task,
              gpointer data,
              GError **error)
{
  Fixture *f = data;
  g_autoptr (GBytes) large = NULL;

  if (q_task_is_cancelled (task))
    return Q_TASK_STEP_STOPPED;

  if (g_atomic_int_get (&f->n_written) == N_LARGE)
    return Q_TASK_STEP_FINISHED;

  large = g_bytes_new_take (g_malloc0 (LARGE), LARGE);
  if (!q_task_channel_write_bytes (q_task_get_worker_channel (task), large, NULL, error))
    return Q_TASK_STEP_FAILED;

  g_atomic_int_inc (&f->n_written);
  return Q_TASK_STEP_SYNC;
}

/* Clients of libsoup */

static SoupSession *
new_session (void)
{
  return g_object_new (SOUP_TYPE_SESSION, NULL);
}

typedef struct
{
  GBytes *body;
  GError *error;
  guint status;
  gboolean done;
} Response;

static void
response_cb (GObject *session,
             GAsyncResult *result,
             gpointer data)
{
  Response *response = data;

  response->body = soup_session_send_and_read_finish (SOUP_SESSION (session), result, &response->error);
  response->done = TRUE;
}

/* Gets /task */
static void
get (Fixture *f,
     Response *response)
{
  g_autofree char *uri = g_strdup_printf ("http://127.0.0.1:%u/task", f->port);
  g_autoptr (SoupMessage) message = soup_message_new ("GET", uri);
  g_autoptr (SoupSession) session = new_session ();

  soup_session_send_and_read_async (session, message, G_PRIORITY_DEFAULT, NULL, response_cb, response);
  test_run_until (NULL, response->done);
  response->status = soup_message_get_status (message);
}

static void
assert_response (Response *response,
                 guint status,
                 const char *body)
{
  g_assert_no_error (response->error);
  g_assert_cmpuint (response->status, ==, status);
  g_assert_cmpmem (g_bytes_get_data (response->body, NULL), g_bytes_get_size (response->body),
                   body, strlen (body));
  g_bytes_unref (response->body);
}

static void
assert_completed_here (Fixture *f)
{
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (f->n_completed, ==, 1);
  g_assert_cmpint (f->report.called, ==, 1);
  test_assert_destroyed_here (&f->data);
}

static void
assert_stopped_here (Fixture *f)
{
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (f->n_completed, ==, 0);
  g_assert_cmpint (f->report.called, ==, 0);
  g_assert_cmpint (q_task_poll (f->task), ==, Q_TASK_STATE_STOPPED);
  test_assert_destroyed_here (&f->data);
}

/* Clients that are plain sockets, in a thread */

typedef void (*Client) (Fixture *f, GSocketConnection *connection);

typedef struct
{
  Fixture *f;
  Client client;
} Call;

static gpointer
client_thread (gpointer data)
{
  Call *call = data;
  g_autoptr (GSocketClient) socket_client = g_socket_client_new ();
  g_autoptr (GSocketConnection) connection = NULL;
  g_autoptr (GError) error = NULL;

  connection = g_socket_client_connect_to_host (socket_client, "127.0.0.1", call->f->port, NULL, &error);
  g_assert_no_error (error);
  g_socket_set_timeout (g_socket_connection_get_socket (connection), TEST_TIME_LIMIT);

  call->client (call->f, connection);
  g_io_stream_close (G_IO_STREAM (connection), NULL, NULL);
  g_atomic_int_set (&call->f->done, 1);
  g_main_context_wakeup (NULL);

  return NULL;
}

static void
run_client (Fixture *f,
            Client client)
{
  Call call = { f, client };
  GThread *thread = g_thread_new ("client", client_thread, &call);

  test_run_until (NULL, g_atomic_int_get (&f->done));
  g_thread_join (thread);
}

static void
send_text (GSocketConnection *connection,
           const char *text)
{
  g_autoptr (GError) error = NULL;

  g_output_stream_write_all (g_io_stream_get_output_stream (G_IO_STREAM (connection)),
                             text, strlen (text), NULL, NULL, &error);
  g_assert_no_error (error);
}

static gssize
receive (GSocketConnection *connection,
         GString *received)
{
  static const gsize size = 1024 * 1024;
  g_autofree char *buffer = g_malloc (size);
  gssize n = g_input_stream_read (g_io_stream_get_input_stream (G_IO_STREAM (connection)),
                                  buffer, size, NULL, NULL);

  if (n > 0)
    g_string_append_len (received, buffer, n);

  return n;
}

static void
receive_until (GSocketConnection *connection,
               GString *received,
               const char *text)
{
  while (strstr (received->str, text) == NULL)
    g_assert_cmpint (receive (connection, received), >, 0);
}

#define REQUEST "GET /task HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
#define CLOSING_REQUEST "GET /task HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

/* Requests */

static void
test_request_completed (Fixture *f,
                        gconstpointer unused)
{
  Response response = { 0 };

  f->worker = hello_worker;
  get (f, &response);
  assert_response (&response, SOUP_STATUS_OK, "Hello, world!");
  assert_completed_here (f);
  g_assert_cmpint (f->n_messages, ==, 2);
}

static void
test_request_chunked (Fixture *f,
                      gconstpointer unused)
{
  Response response = { 0 };

  f->worker = hello_worker;
  f->encoding = SOUP_ENCODING_CHUNKED;
  get (f, &response);
  assert_response (&response, SOUP_STATUS_OK, "Hello, world!");
  assert_completed_here (f);
}

static void
test_request_failed (Fixture *f,
                     gconstpointer unused)
{
  Response response = { 0 };

  f->worker = failing_worker;
  get (f, &response);
  assert_response (&response, SOUP_STATUS_INTERNAL_SERVER_ERROR, "");
  assert_completed_here (f);
  g_assert_error (f->report.error, G_IO_ERROR, G_IO_ERROR_FAILED);
}

static gboolean
refuse_cb (gpointer data)
{
  Fixture *f = data;

  if (f->task == NULL)
    return G_SOURCE_CONTINUE;

  q_task_set_new_error (f->task, Q_TASK_ERROR, Q_TASK_ERROR_QUEUE_FULL, "Full");
  q_task_complete (f->task);

  return G_SOURCE_REMOVE;
}

static void
test_request_refused (Fixture *f,
                      gconstpointer unused)
{
  Response response = { 0 };

  g_timeout_add (1, refuse_cb, f);
  get (f, &response);
  assert_response (&response, SOUP_STATUS_SERVICE_UNAVAILABLE, "");
  assert_completed_here (f);
}

static gboolean
start_cb (gpointer data)
{
  Fixture *f = data;

  if (f->task == NULL)
    return G_SOURCE_CONTINUE;

  start (f);

  return G_SOURCE_REMOVE;
}

static void
test_request_bound_before_start (Fixture *f,
                                 gconstpointer unused)
{
  Response response = { 0 };

  f->worker = hello_worker;
  f->start_late = TRUE;
  g_timeout_add (1, start_cb, f);
  get (f, &response);
  assert_response (&response, SOUP_STATUS_OK, "Hello, world!");
  assert_completed_here (f);
}

static void
two_parts_client (Fixture *f,
                  GSocketConnection *connection)
{
  send_text (connection, CLOSING_REQUEST);
  receive_until (connection, f->received, "first");
  g_assert_null (strstr (f->received->str, "second"));

  /* Only now is there a second part. */
  test_gate_open (&f->hold.release);
  while (receive (connection, f->received) > 0)
    ;
}

static void
test_request_streams (Fixture *f,
                      gconstpointer unused)
{
  f->worker = two_parts_worker;
  f->encoding = SOUP_ENCODING_CHUNKED;
  run_client (f, two_parts_client);
  g_assert_true (g_str_has_suffix (f->received->str, "second\r\n0\r\n\r\n"));
  assert_completed_here (f);
  g_assert_cmpint (f->n_finished, ==, 1);
}

static void
test_request_http_1_0_client (Fixture *f,
                              GSocketConnection *connection)
{
  send_text (connection, "GET /task HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
  while (receive (connection, f->received) > 0)
    ;
}

static void
test_request_http_1_0 (Fixture *f,
                       gconstpointer unused)
{
  f->worker = hello_worker;
  f->encoding = SOUP_ENCODING_CHUNKED;
  run_client (f, test_request_http_1_0_client);
  g_assert_true (g_str_has_suffix (f->received->str, "\r\n\r\nHello, world!"));
  assert_completed_here (f);
}

static void
test_request_breaks_off (Fixture *f,
                         gconstpointer unused)
{
  f->worker = one_part_and_failure_worker;
  f->encoding = SOUP_ENCODING_CHUNKED;
  run_client (f, two_parts_client);
  g_assert_null (strstr (f->received->str, "\r\n0\r\n"));
  assert_completed_here (f);
  test_run_until (NULL, f->n_aborted == 1);
}

static void
leaving_client (Fixture *f,
                GSocketConnection *connection)
{
  send_text (connection, REQUEST);
  test_gate_wait (&f->hold.entered);
}

static void
test_request_client_leaves (Fixture *f,
                            gconstpointer unused)
{
  f->worker = until_stopped_worker;
  run_client (f, leaving_client);
  assert_stopped_here (f);
  test_run_until (NULL, f->n_aborted == 1);
}

static void
pipelining_client (Fixture *f,
                   GSocketConnection *connection)
{
  send_text (connection, REQUEST REQUEST);
  test_gate_wait (&f->hold.entered);
}

static void
test_request_client_leaves_with_more (Fixture *f,
                                      gconstpointer unused)
{
  f->worker = until_stopped_worker;
  run_client (f, pipelining_client);
  assert_stopped_here (f);
  test_run_until (NULL, f->n_aborted == 1);
}

/* Who sends on has not left. */
static gboolean
held_hello_worker (QTask *task,
                   gpointer data,
                   GError **error)
{
  Fixture *f = data;

  test_hold_worker (task, &f->hold, NULL);
  g_assert_false (q_task_is_cancelled (task));

  return hello_worker (task, data, error);
}

static void
sending_client (Fixture *f,
                GSocketConnection *connection)
{
  send_text (connection, REQUEST);
  test_gate_wait (&f->hold.entered);
  send_text (connection, "GET /the-next");
  /* Time to be taken for one that has left */
  g_usleep (50 * 1000);
  test_gate_open (&f->hold.release);
  receive_until (connection, f->received, "Hello, world!");
}

static void
test_request_client_sends_on (Fixture *f,
                              gconstpointer unused)
{
  f->worker = held_hello_worker;
  run_client (f, sending_client);
  assert_completed_here (f);
}

static void
test_request_client_leaves_before_start (Fixture *f,
                                         gconstpointer unused)
{
  f->worker = hello_worker;
  f->start_late = TRUE;
  test_gate_open (&f->hold.entered);
  run_client (f, leaving_client);
  test_run_until (NULL, f->n_aborted == 1);
  g_assert_true (q_task_is_cancelled (f->task));
  start (f);
  assert_stopped_here (f);
  g_assert_cmpint (f->n_messages, ==, 0);
}

static void
partial_client (Fixture *f,
                GSocketConnection *connection)
{
  send_text (connection, REQUEST);
  receive_until (connection, f->received, "HTTP/1.1 200");
}

static void
test_request_client_leaves_a_writer (Fixture *f,
                                     gconstpointer unused)
{
  f->worker = endless_worker;
  f->encoding = SOUP_ENCODING_CHUNKED;
  run_client (f, partial_client);
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (f->n_completed, ==, 0);
  g_assert_cmpint (f->report.called, ==, 0);
  test_assert_destroyed_here (&f->data);
  test_run_until (NULL, f->n_aborted == 1);
}

static void
test_request_outlive (Fixture *f,
                      gconstpointer set_by_worker)
{
  f->worker = outliving_worker;
  if (!GPOINTER_TO_INT (set_by_worker))
    f->flags = Q_TASK_BIND_OUTLIVE;

  if (GPOINTER_TO_INT (set_by_worker))
    {
      f->start_late = TRUE;
      test_gate_open (&f->hold.entered);
      f->flags = Q_TASK_BIND_DEFAULT;
    }

  if (f->start_late)
    {
      Call call = { f, leaving_client };
      GThread *thread;

      test_gate_close (&f->hold.entered);
      thread = g_thread_new ("client", client_thread, &call);
      test_run_until (NULL, f->task != NULL);
      q_task_set_outlive (f->task, TRUE);
      start (f);
      test_run_until (NULL, g_atomic_int_get (&f->done));
      g_thread_join (thread);
    }
  else
    {
      run_client (f, leaving_client);
    }

  test_run_until (NULL, f->n_aborted == 1);
  g_assert_false (q_task_is_cancelled (f->task));
  test_gate_open (&f->hold.release);
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (g_atomic_int_get (&f->n_written), ==, N_LARGE);
  g_assert_cmpint (f->n_messages, ==, 0);
  g_assert_cmpint (f->n_completed, ==, 0);
  g_assert_cmpint (f->report.called, ==, 0);
  g_assert_cmpint (q_task_poll (f->task), ==, Q_TASK_STATE_FINISHED);
  test_assert_destroyed_here (&f->data);
}

static void
waiting_client (Fixture *f,
                GSocketConnection *connection)
{
  send_text (connection, REQUEST);
  while (receive (connection, f->received) > 0)
    ;
}

static gboolean
drop_server_cb (gpointer data)
{
  Fixture *f = data;

  if (test_gate_get_count (&f->hold.entered) == 0)
    return G_SOURCE_CONTINUE;

  g_clear_object (&f->server);

  return G_SOURCE_REMOVE;
}

static void
test_request_server_goes_first (Fixture *f,
                                gconstpointer unused)
{
  f->worker = until_stopped_worker;
  g_timeout_add (1, drop_server_cb, f);
  run_client (f, waiting_client);
  assert_stopped_here (f);
  g_assert_cmpuint (f->received->len, ==, 0);
}

static gboolean
abandon_cb (gpointer data)
{
  Fixture *f = data;

  if (f->task == NULL)
    return G_SOURCE_CONTINUE;

  g_test_expect_message (TEST_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*");
  g_object_unref (f->task);

  return G_SOURCE_REMOVE;
}

static void
test_request_abandoned (Fixture *f,
                        gconstpointer unused)
{
  Response response = { 0 };

  g_timeout_add (1, abandon_cb, f);
  get (f, &response);
  g_test_assert_expected_messages ();
  assert_response (&response, SOUP_STATUS_INTERNAL_SERVER_ERROR, "");
  g_assert_cmpint (f->n_completed, ==, 1);
  test_assert_destroyed_here (&f->data);
  f->task = NULL;
}

/* Iterates until nothing was written for a while */
static void
run_until_held (Fixture *f)
{
  gint64 end = test_end_time ();
  int last = -1;
  int n_same = 0;

  while (n_same < 20)
    {
      int n = g_atomic_int_get (&f->n_written);
      gint64 next = g_get_monotonic_time () + 20 * G_TIME_SPAN_MILLISECOND;

      n_same = n == last && n > 0 ? n_same + 1 : 0;
      last = n;
      g_assert_cmpint (g_get_monotonic_time (), <, end);

      while (g_get_monotonic_time () < next)
        {
          if (!g_main_context_iteration (NULL, FALSE))
            g_usleep (200);
        }
    }
}

static void
slow_client (Fixture *f,
             GSocketConnection *connection)
{
  const char *request = f->received->len > 0 ? f->received->str : CLOSING_REQUEST;
  g_autoptr (GString) sent = g_string_new (request);

  send_text (connection, sent->str);
  g_string_truncate (f->received, 0);
  g_atomic_int_set (&f->fd, g_socket_get_fd (g_socket_connection_get_socket (connection)));

  /* Reads nothing before it may. */
  test_gate_wait (&f->hold.release);
  while (receive (connection, f->received) > 0)
    ;
}

/* A worker goes on from a sync when the kernel has taken all that it wrote. */
static void
assert_all_sent (Fixture *f)
{
  int n_sent = 0, n_arrived = 0;
  int n_gone_on = g_atomic_int_get (&f->n_written) - (f->step != NULL ? 1 : 0);

  g_assert_cmpint (ioctl (g_socket_get_fd (f->socket), TIOCOUTQ, &n_sent), ==, 0);
  g_assert_cmpint (ioctl (g_atomic_int_get (&f->fd), FIONREAD, &n_arrived), ==, 0);
  g_test_message ("%d are on their way, %d are here", n_sent, n_arrived);
  g_assert_cmpint (n_gone_on * LARGE, <=, n_sent + n_arrived);
}

static void
run_slow_client (Fixture *f,
                 const char *request)
{
  Call call = { f, slow_client };
  GThread *thread;

  g_string_assign (f->received, request);
  thread = g_thread_new ("client", client_thread, &call);

  run_until_held (f);
  g_test_message ("Held after %d of %d", g_atomic_int_get (&f->n_written), N_LARGE);
  g_assert_cmpint (g_atomic_int_get (&f->n_written), <, N_LARGE / 2);
  if (f->is_paced)
    assert_all_sent (f);

  test_gate_open (&f->hold.release);
  test_run_until (NULL, g_atomic_int_get (&f->done));
  g_thread_join (thread);
  g_assert_cmpint (g_atomic_int_get (&f->n_written), ==, N_LARGE);
  g_assert_cmpuint (f->received->len, >, N_LARGE * LARGE);
  g_assert_cmpuint (f->received->len, <, N_LARGE * (LARGE + 64) + 1024);
}

static void
test_request_slow_client (Fixture *f,
                          gconstpointer unused)
{
  f->worker = large_worker;
  f->encoding = SOUP_ENCODING_CHUNKED;
  run_slow_client (f, CLOSING_REQUEST);
  assert_completed_here (f);
  g_assert_cmpint (f->n_messages, ==, N_LARGE);
}

static gboolean
bind_twice_cb (gpointer data)
{
  g_autoptr (QTask) over = q_task_new (NULL, NULL, NULL, NULL);
  Fixture *f = data;

  if (f->task == NULL)
    return G_SOURCE_CONTINUE;

  test_critical_says ("A task cannot be bound to a second request*; make a task for each",
                      q_task_soup_bind_request (f->task, g_object_get_data (G_OBJECT (f->server), "request"),
                                                Q_TASK_BIND_DEFAULT, respond, f, NULL));

  q_task_complete (over);
  test_critical_says ("A task that has completed cannot be bound*; bind it before it is started",
                      q_task_soup_bind_request (over, g_object_get_data (G_OBJECT (f->server), "request"),
                                                Q_TASK_BIND_DEFAULT, respond, f, NULL));
  start (f);

  return G_SOURCE_REMOVE;
}

static void
keep_request_cb (SoupServer *server,
                 SoupServerMessage *request,
                 gpointer unused)
{
  g_object_set_data (G_OBJECT (server), "request", request);
}

static void
test_request_second (Fixture *f,
                     gconstpointer unused)
{
  Response response = { 0 };

  f->worker = hello_worker;
  f->start_late = TRUE;
  g_signal_connect (f->server, "request-started", G_CALLBACK (keep_request_cb), NULL);
  g_timeout_add (1, bind_twice_cb, f);
  get (f, &response);
  assert_response (&response, SOUP_STATUS_OK, "Hello, world!");
  assert_completed_here (f);
}

/* WebSockets */

typedef struct
{
  Fixture *f;
  SoupWebsocketConnection *connection;
  gboolean leave; /* after the first message */
  gboolean closed;
  gsize n_received;
} WebsocketClient;

static void
client_message_cb (SoupWebsocketConnection *connection,
                   int type,
                   GBytes *message,
                   WebsocketClient *client)
{
  g_assert_cmpint (type, ==, SOUP_WEBSOCKET_DATA_BINARY);
  client->n_received += g_bytes_get_size (message);

  if (client->leave && soup_websocket_connection_get_state (connection) == SOUP_WEBSOCKET_STATE_OPEN)
    soup_websocket_connection_close (connection, SOUP_WEBSOCKET_CLOSE_NORMAL, NULL);
}

static void
client_closed_cb (SoupWebsocketConnection *connection,
                  WebsocketClient *client)
{
  client->closed = TRUE;
}

static void
client_connected_cb (GObject *session,
                     GAsyncResult *result,
                     gpointer data)
{
  WebsocketClient *client = data;
  g_autoptr (GError) error = NULL;

  client->connection = soup_session_websocket_connect_finish (SOUP_SESSION (session), result, &error);
  g_assert_no_error (error);
  g_signal_connect (client->connection, "message", G_CALLBACK (client_message_cb), client);
  g_signal_connect (client->connection, "closed", G_CALLBACK (client_closed_cb), client);
}

/* Connects to /ws, and waits until that is closed by either side. Returns the code. */
static gushort
run_websocket_client (Fixture *f,
                      WebsocketClient *client)
{
  g_autofree char *uri = g_strdup_printf ("ws://127.0.0.1:%u/ws", f->port);
  g_autoptr (SoupMessage) message = soup_message_new ("GET", uri);
  g_autoptr (SoupSession) session = new_session ();
  gushort code;

  soup_session_websocket_connect_async (session, message, NULL, NULL, G_PRIORITY_DEFAULT, NULL,
                                        client_connected_cb, client);
  test_run_until (NULL, client->closed);
  code = soup_websocket_connection_get_close_code (client->connection);
  g_clear_object (&client->connection);
  test_run_until (NULL, f->n_closed == 1);

  return code;
}

static void
test_websocket_completed (Fixture *f,
                          gconstpointer unused)
{
  WebsocketClient client = { .f = f };

  f->worker = hello_worker;
  g_assert_cmpint (run_websocket_client (f, &client), ==, SOUP_WEBSOCKET_CLOSE_NORMAL);
  g_assert_cmpuint (client.n_received, ==, strlen ("Hello, world!"));
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (f->report.called, ==, 1);
  g_assert_no_error (f->report.error);
}

static void
test_websocket_failed (Fixture *f,
                       gconstpointer unused)
{
  WebsocketClient client = { .f = f };

  f->worker = failing_worker;
  g_assert_cmpint (run_websocket_client (f, &client), ==, SOUP_WEBSOCKET_CLOSE_SERVER_ERROR);
  g_assert_cmpint (f->report.called, ==, 1);
}

static gboolean
cancel_cb (gpointer data)
{
  Fixture *f = data;

  if (f->task == NULL)
    return G_SOURCE_CONTINUE;

  q_task_cancel (f->task);

  return G_SOURCE_REMOVE;
}

static void
test_websocket_cancelled (Fixture *f,
                          gconstpointer unused)
{
  WebsocketClient client = { .f = f };

  f->worker = until_stopped_worker;
  g_timeout_add (1, cancel_cb, f);
  g_assert_cmpint (run_websocket_client (f, &client), ==, SOUP_WEBSOCKET_CLOSE_GOING_AWAY);
  g_assert_cmpint (f->report.called, ==, 1);
}

/* All of @f->worker and @f->step go on until they are told to stop. */
static void
test_websocket_client_closes (Fixture *f,
                              gconstpointer how)
{
  WebsocketClient client = { .f = f, .leave = TRUE };

  if (GPOINTER_TO_INT (how) == 0)
    f->worker = endless_worker;
  else if (GPOINTER_TO_INT (how) == 1)
    f->worker = syncing_worker;
  else
    f->step = syncing_step;

  run_websocket_client (f, &client);
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (f->report.called, ==, 0);
  g_assert_cmpint (g_atomic_int_get (&f->n_written), <, N_LARGE);
  g_assert_true (q_task_is_cancelled (f->task));
}

static void
test_websocket_outlive (Fixture *f,
                        gconstpointer with_syncs)
{
  WebsocketClient client = { .f = f, .leave = TRUE };

  f->worker = GPOINTER_TO_INT (with_syncs) ? syncing_worker : large_worker;
  f->flags = Q_TASK_BIND_OUTLIVE;
  run_websocket_client (f, &client);
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (f->report.called, ==, 0);
  g_assert_cmpint (g_atomic_int_get (&f->n_written), ==, N_LARGE);
  g_assert_false (q_task_is_cancelled (f->task));
}

#define HANDSHAKE "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n" \
                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* It does not answer the close, so libsoup waits for it a few seconds. */
static void
test_websocket_slow_client (Fixture *f,
                            gconstpointer how)
{
  if (GPOINTER_TO_INT (how) == 0)
    f->worker = large_worker;
  else if (GPOINTER_TO_INT (how) == 1)
    f->worker = syncing_worker;
  else
    f->step = syncing_step;

  f->is_paced = GPOINTER_TO_INT (how) > 0;
  run_slow_client (f, HANDSHAKE);
  test_run_until (NULL, q_task_get_completed (f->task));
  g_assert_cmpint (f->report.called, ==, 1);
  g_assert_no_error (f->report.error);
  test_run_until (NULL, f->n_closed == 1);
}

static void
dropping_client (Fixture *f,
                 GSocketConnection *connection)
{
  send_text (connection, HANDSHAKE);
  receive_until (connection, f->received, "\r\n\r\n");
}

static void
test_websocket_client_drops (Fixture *f,
                             gconstpointer unused)
{
  f->worker = until_stopped_worker;
  run_client (f, dropping_client);
  test_run_until (NULL, f->task != NULL && q_task_get_completed (f->task));
  g_assert_cmpint (f->report.called, ==, 0);
  test_run_until (NULL, f->n_closed == 1);
}

static void
ignore_log (const char *domain,
            GLogLevelFlags level,
            const char *message,
            gpointer unused)
{
}

int
main (int argc,
      char *argv[])
{
  g_setenv ("GSETTINGS_BACKEND", "memory", TRUE);
  g_setenv ("GIO_USE_PROXY_RESOLVER", "dummy", TRUE);
  g_test_init (&argc, &argv, NULL);
  g_log_set_handler ("libsoup", G_LOG_LEVEL_DEBUG, ignore_log, NULL);

#define ADD(path, data, func) g_test_add (path, Fixture, data, set_up, func, tear_down)

  ADD ("/request/is-answered-when-the-task-has-completed", NULL, test_request_completed);
  ADD ("/request/is-answered-in-chunks", NULL, test_request_chunked);
  ADD ("/request/of-a-task-that-fails-is-an-error", NULL, test_request_failed);
  ADD ("/request/of-a-task-that-is-refused-is-unavailable", NULL, test_request_refused);
  ADD ("/request/is-bound-before-the-start", NULL, test_request_bound_before_start);
  ADD ("/request/is-answered-in-part-before-the-end", NULL, test_request_streams);
  ADD ("/request/of-http-1-0-has-no-chunks", NULL, test_request_http_1_0);
  ADD ("/request/breaks-off-when-the-task-fails-later", NULL, test_request_breaks_off);
  ADD ("/request/of-a-client-that-leaves-stops-the-task", NULL, test_request_client_leaves);
  ADD ("/request/of-a-client-that-leaves-with-pipelined-input", NULL, test_request_client_leaves_with_more);
  ADD ("/request/of-a-client-that-sends-on", NULL, test_request_client_sends_on);
  ADD ("/request/of-a-client-that-leaves-before-the-start", NULL, test_request_client_leaves_before_start);
  ADD ("/request/of-a-client-that-leaves-a-blocked-writer", NULL, test_request_client_leaves_a_writer);
  ADD ("/request/is-outlived", NULL, test_request_outlive);
  ADD ("/request/is-outlived-if-set-later", GINT_TO_POINTER (1), test_request_outlive);
  ADD ("/request/of-a-server-that-goes-first", NULL, test_request_server_goes_first);
  ADD ("/request/of-an-abandoned-task-is-an-error", NULL, test_request_abandoned);
  ADD ("/request/of-a-slow-client-holds-the-worker", NULL, test_request_slow_client);
  ADD ("/request/is-bound-once", NULL, test_request_second);
  ADD ("/websocket/gets-messages-and-is-closed", NULL, test_websocket_completed);
  ADD ("/websocket/of-a-task-that-fails", NULL, test_websocket_failed);
  ADD ("/websocket/of-a-task-that-is-cancelled", NULL, test_websocket_cancelled);
  ADD ("/websocket/that-closes-stops-the-worker", NULL, test_websocket_client_closes);
  ADD ("/websocket/that-closes-stops-a-syncing-worker", GINT_TO_POINTER (1), test_websocket_client_closes);
  ADD ("/websocket/that-closes-stops-a-step-worker", GINT_TO_POINTER (2), test_websocket_client_closes);
  ADD ("/websocket/of-a-client-that-drops-it", NULL, test_websocket_client_drops);
  ADD ("/websocket/is-outlived", NULL, test_websocket_outlive);
  ADD ("/websocket/is-outlived-with-syncs", GINT_TO_POINTER (1), test_websocket_outlive);
  ADD ("/websocket/of-a-slow-client-holds-the-worker", NULL, test_websocket_slow_client);
  ADD ("/websocket/of-a-slow-client-paces-syncs", GINT_TO_POINTER (1), test_websocket_slow_client);
  ADD ("/websocket/of-a-slow-client-paces-steps", GINT_TO_POINTER (2), test_websocket_slow_client);

#undef ADD

  return g_test_run ();
}
