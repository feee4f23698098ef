/* http-server.c: a web server whose responses are made by tasks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 *   curl --no-buffer 'http://127.0.0.1:PORT/count?to=5&every=500'
 *
 * The main thread runs the server and never blocks: each request is put to sleep and bound to a
 * task, whose worker counts in a thread, and writes as it goes. When a client leaves, its task
 * stops. There are never more than MAX_THREADS workers nor more than MAX_QUEUED requests that
 * wait for one; what comes in beyond that is told to come later.
 */

#include <locale.h>
#include <string.h>

#include <glib-unix.h>
#include <qtask/soup/q-task-soup.h>

#define MAX_THREADS 64
#define MAX_QUEUED 64
#define MAX_COUNT 1000000

typedef struct
{
  guint to;
  guint every; /* milliseconds */
} Count;

/* The worker */

/* Returns early, and FALSE, if the task is stopped. */
static gboolean
rest (guint milliseconds,
      GCancellable *stop,
      GError **error)
{
  GPollFD fd;

  if (milliseconds > 0 && g_cancellable_make_pollfd (stop, &fd))
    {
      g_poll (&fd, 1, milliseconds);
      g_cancellable_release_fd (stop);
    }

  return !g_cancellable_set_error_if_cancelled (stop, error);
}

static gboolean
count_worker (QTask *task,
              gpointer data,
              GError **error)
{
  const Count *count = data;
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);

  for (guint i = 1; i <= count->to; i++)
    {
      g_autofree char *line = g_strdup_printf ("%u\n", i);

      /* Blocks while the client is slow. */
      if (!q_task_channel_write (channel, line, strlen (line), stop, error) ||
          !rest (count->every, stop, error))
        {
          g_printerr ("Stopped at %u of %u\n", i, count->to);
          return FALSE;
        }
    }

  q_task_set_result_int (task, count->to);
  return TRUE;
}

/* The server */

/* Called for each message of the worker, and when the task has completed. */
static void
respond (QTask *task,
         SoupServerMessage *request,
         GBytes *message,
         gpointer unused)
{
  SoupMessageBody *body = soup_server_message_get_response_body (request);

  if (message != NULL)
    {
      soup_message_body_append_bytes (body, message);
    }
  else if (!q_task_had_error (task))
    {
      char *line = g_strdup_printf ("Counted to %d\n", (int) q_task_propagate_int (task, NULL));

      soup_message_body_append (body, SOUP_MEMORY_TAKE, line, strlen (line));
    }
}

static gboolean
parse (GHashTable *query,
       const char *name,
       guint *value)
{
  const char *text = query != NULL ? g_hash_table_lookup (query, name) : NULL;
  guint64 number;

  if (text == NULL)
    return TRUE;

  if (!g_ascii_string_to_unsigned (text, 10, 0, MAX_COUNT, &number, NULL))
    return FALSE;

  *value = number;
  return TRUE;
}

static void
count_handler (SoupServer *server,
               SoupServerMessage *request,
               const char *path,
               GHashTable *query,
               gpointer pool)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (request);
  Count count = { .to = 10, .every = 100 };
  g_autoptr (QTask) task = NULL;
  g_autoptr (GError) error = NULL;
  Count *data;

  if (strcmp (soup_server_message_get_method (request), "GET") != 0)
    {
      soup_server_message_set_status (request, SOUP_STATUS_METHOD_NOT_ALLOWED, NULL);
      return;
    }

  if (!parse (query, "to", &count.to) || !parse (query, "every", &count.every))
    {
      soup_server_message_set_status (request, SOUP_STATUS_BAD_REQUEST, NULL);
      return;
    }

  /* Each line is sent as soon as it is there. */
  soup_message_headers_set_encoding (headers, SOUP_ENCODING_CHUNKED);
  soup_message_headers_set_content_type (headers, "text/plain", NULL);

  /* Before 3.4 libsoup keeps a connection that its client closed while it was idle. */
  if (!soup_check_version (3, 4, 0))
    soup_message_headers_append (headers, "Connection", "close");

  task = q_task_new (NULL, NULL, NULL, NULL);
  q_task_set_static_name (task, "count");
  q_task_open_channel (task, NULL);
  q_task_soup_bind_request (task, request, Q_TASK_BIND_DEFAULT, respond, NULL, NULL);

  data = g_memdup2 (&count, sizeof count);
  if (!q_task_pool_push (pool, task, count_worker, data, g_free, &error))
    {
      /* The pool is full: the response is 503 Service Unavailable. */
      g_free (data);
      q_task_set_error (task, g_steal_pointer (&error));
      q_task_complete (task);
    }
}

/* Quitting: the clients are disconnected, which stops their tasks. */

static void
pool_closed_cb (GObject *pool,
                GAsyncResult *result,
                gpointer loop)
{
  q_task_pool_close_finish (Q_TASK_POOL (pool), result, NULL);
  g_main_loop_quit (loop);
}

typedef struct
{
  SoupServer *server;
  QTaskPool *pool;
  GMainLoop *loop;
} Quit;

static gboolean
quit_cb (gpointer data)
{
  Quit *quit = data;

  soup_server_disconnect (quit->server);
  q_task_pool_close_async (quit->pool, Q_TASK_POOL_CLOSE_STOP, NULL, pool_closed_cb, quit->loop);

  return G_SOURCE_REMOVE;
}

int
main (int argc,
      char *argv[])
{
  int port = 8080;
  const GOptionEntry entries[] = {
    { "port", 'p', 0, G_OPTION_ARG_INT, &port, "Port to listen on; 0 for any (default: 8080)", "PORT" },
    G_OPTION_ENTRY_NULL
  };
  g_autoptr (GOptionContext) options = g_option_context_new (NULL);
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (SoupServer) server = soup_server_new (NULL, NULL);
  g_autoptr (QTaskPool) pool = q_task_pool_new ("count", MAX_THREADS, MAX_QUEUED);
  g_autoptr (GError) error = NULL;
  Quit quit = { server, pool, loop };
  GSList *uris;

  setlocale (LC_ALL, "");

  g_option_context_set_summary (options, "Counts for its clients, at /count?to=N&every=MILLISECONDS.");
  g_option_context_add_main_entries (options, entries, NULL);

  if (!g_option_context_parse (options, &argc, &argv, &error) || argc > 1 || port < 0 || port > G_MAXUINT16)
    {
      g_autofree char *help = g_option_context_get_help (options, TRUE, NULL);

      g_printerr ("%s", help);
      return 2;
    }

  g_unix_signal_add (SIGINT, quit_cb, &quit);
  g_unix_signal_add (SIGTERM, quit_cb, &quit);

  soup_server_add_handler (server, "/count", count_handler, pool, NULL);
  if (!soup_server_listen_local (server, port, SOUP_SERVER_LISTEN_IPV4_ONLY, &error))
    {
      g_printerr ("%s\n", error->message);
      return 1;
    }

  uris = soup_server_get_uris (server);
  g_print ("Port %d\n", g_uri_get_port (uris->data));
  g_slist_free_full (uris, (GDestroyNotify) g_uri_unref);

  g_main_loop_run (loop);

  return 0;
}
