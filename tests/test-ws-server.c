/* test-ws-server.c: the WebSocket server example, with libsoup for a client
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The server is run with an output and an error stream that are pipes.
 */

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <libsoup/soup.h>

#include "test-util.h"

static const char *server_path;

typedef struct
{
  GSubprocess *server;
  GDataInputStream *errors;
  int port;
} Fixture;

typedef struct
{
  SoupWebsocketConnection *connection;
  int leave_after; /* so many messages, or 0 */
  int n_messages;
  guint64 last;
  gboolean closed;
  gushort code;
} Client;

static void
set_up (Fixture *f,
        gconstpointer n_messages)
{
  g_autoptr (GDataInputStream) output = NULL;
  g_autofree char *line = NULL;
  g_autoptr (GError) error = NULL;

  f->server = g_subprocess_new (G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &error,
                                server_path, "--port", "0", "--messages", n_messages, NULL);
  g_assert_no_error (error);
  output = g_data_input_stream_new (g_subprocess_get_stdout_pipe (f->server));
  f->errors = g_data_input_stream_new (g_subprocess_get_stderr_pipe (f->server));

  line = g_data_input_stream_read_line (output, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_true (g_str_has_prefix (line, "Port "));
  f->port = atoi (line + strlen ("Port "));
}

/* The next line that the server prints to its error stream; ends with the alarm of the test */
static char *
read_error (Fixture *f)
{
  return g_data_input_stream_read_line (f->errors, NULL, NULL, NULL);
}

static void
stop_server (Fixture *f,
             int signal)
{
  g_subprocess_send_signal (f->server, signal);
}

static void
exited_cb (GObject *server,
           GAsyncResult *result,
           gpointer exited)
{
  g_subprocess_wait_finish (G_SUBPROCESS (server), result, NULL);
  *(gboolean *) exited = TRUE;
}

static void
assert_exits (Fixture *f)
{
  gboolean exited = FALSE;

  g_subprocess_wait_async (f->server, NULL, exited_cb, &exited);
  test_run_until (NULL, exited);
  g_assert_true (g_subprocess_get_successful (f->server));
}

static void
tear_down (Fixture *f,
           gconstpointer unused)
{
  g_clear_object (&f->errors);
  g_clear_object (&f->server);
}

static void
message_cb (SoupWebsocketConnection *connection,
            int type,
            GBytes *message,
            gpointer data)
{
  Client *client = data;
  g_autofree char *text = g_strndup (g_bytes_get_data (message, NULL), g_bytes_get_size (message));
  guint64 n = g_ascii_strtoull (text, NULL, 10);

  g_assert_cmpint (type, ==, SOUP_WEBSOCKET_DATA_TEXT);
  g_assert_cmpuint (n, >, client->last);
  client->last = n;

  if (++client->n_messages == client->leave_after)
    soup_websocket_connection_close (connection, SOUP_WEBSOCKET_CLOSE_NORMAL, NULL);
}

static void
closed_cb (SoupWebsocketConnection *connection,
           gpointer data)
{
  Client *client = data;

  client->code = soup_websocket_connection_get_close_code (connection);
  client->closed = TRUE;
}

static void
connected_cb (GObject *session,
              GAsyncResult *result,
              gpointer data)
{
  Client *client = data;
  g_autoptr (GError) error = NULL;

  client->connection = soup_session_websocket_connect_finish (SOUP_SESSION (session), result, &error);
  g_assert_no_error (error);
  g_signal_connect (client->connection, "message", G_CALLBACK (message_cb), client);
  g_signal_connect (client->connection, "closed", G_CALLBACK (closed_cb), client);
}

static void
connect_client (Fixture *f,
                SoupSession *session,
                Client *client)
{
  g_autofree char *uri = g_strdup_printf ("ws://127.0.0.1:%d/count", f->port);
  g_autoptr (SoupMessage) message = soup_message_new ("GET", uri);

  soup_session_websocket_connect_async (session, message, NULL, NULL, G_PRIORITY_DEFAULT, NULL,
                                        connected_cb, client);
}

static void
test_reads_all (Fixture *f,
                gconstpointer n_messages)
{
  g_autoptr (SoupSession) session = soup_session_new ();
  Client client = { 0 };

  connect_client (f, session, &client);
  test_run_until (NULL, client.closed);
  g_assert_cmpint (client.n_messages, ==, atoi (n_messages));
  g_assert_cmpint (client.code, ==, SOUP_WEBSOCKET_CLOSE_NORMAL);
  g_object_unref (client.connection);

  stop_server (f, SIGINT);
  assert_exits (f);
}

static void
test_leaves (Fixture *f,
             gconstpointer unused)
{
  g_autoptr (SoupSession) session = soup_session_new ();
  g_autofree char *line = NULL;
  Client client = { .leave_after = 5 };

  connect_client (f, session, &client);
  test_run_until (NULL, client.closed);
  g_assert_cmpint (client.n_messages, >=, 5);
  g_object_unref (client.connection);

  line = read_error (f);
  g_assert_true (g_str_has_prefix (line, "Stopped after "));

  stop_server (f, SIGTERM);
  assert_exits (f);
}

#define N_CLIENTS 16

static void
test_many (Fixture *f,
           gconstpointer n_messages)
{
  g_autoptr (SoupSession) session = g_object_new (SOUP_TYPE_SESSION, "max-conns", 2 * N_CLIENTS,
                                                  "max-conns-per-host", 2 * N_CLIENTS, NULL);
  Client clients[N_CLIENTS] = { 0 };

  for (int i = 0; i < N_CLIENTS; i++)
    connect_client (f, session, &clients[i]);

  for (int i = 0; i < N_CLIENTS; i++)
    {
      test_run_until (NULL, clients[i].closed);
      g_assert_cmpint (clients[i].n_messages, ==, atoi (n_messages));
      g_assert_cmpint (clients[i].code, ==, SOUP_WEBSOCKET_CLOSE_NORMAL);
      g_object_unref (clients[i].connection);
    }

  stop_server (f, SIGTERM);
  assert_exits (f);
}

static void
test_server_quits (Fixture *f,
                   gconstpointer unused)
{
  g_autoptr (SoupSession) session = soup_session_new ();
  Client client = { 0 };

  connect_client (f, session, &client);
  test_run_until (NULL, client.n_messages > 0);
  stop_server (f, SIGTERM);
  test_run_until (NULL, client.closed);
  g_assert_cmpint (client.code, ==, SOUP_WEBSOCKET_CLOSE_GOING_AWAY);
  g_object_unref (client.connection);

  assert_exits (f);
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
  g_setenv ("GIO_USE_PROXY_RESOLVER", "dummy", TRUE);
  g_test_init (&argc, &argv, NULL);
  g_log_set_handler ("libsoup", G_LOG_LEVEL_DEBUG, ignore_log, NULL);

  if (argc != 2)
    {
      g_printerr ("usage: test-ws-server [OPTION…] SERVER\n");
      return 2;
    }
  server_path = argv[1];

  g_test_add ("/ws-server/counts-to-the-end", Fixture, "30", set_up, test_reads_all, tear_down);
  g_test_add ("/ws-server/stops-when-the-client-leaves", Fixture, "0", set_up, test_leaves, tear_down);
  g_test_add ("/ws-server/serves-many-clients", Fixture, "20", set_up, test_many, tear_down);
  g_test_add ("/ws-server/closes-connections-when-it-quits", Fixture, "0", set_up, test_server_quits, tear_down);

  return g_test_run ();
}
