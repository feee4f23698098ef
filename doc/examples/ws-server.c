/* ws-server.c: a WebSocket server whose messages are made by tasks, step by step
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For each connection a task counts in steps. Between two steps, which are short, the pool runs
 * the tasks of other connections, so two threads are enough for all of them. Every so
 * many steps a task syncs: it writes where it is and holds no thread until that was sent, so
 * a client that reads slowly has a slow task. When a client leaves, its task stops.
 */

#include <locale.h>
#include <string.h>

#include <glib-unix.h>
#include <qtask/soup/q-task-soup.h>

#define N_THREADS 2
#define STEP 100000 /* counted in one step */
#define STEPS_PER_MESSAGE 10

static int n_messages = 100; /* to each client; 0 for no end */

/* The worker. What it keeps between steps is in its Count. */

typedef struct
{
  guint64 n;
  int n_steps;
  int n_written;
} Count;

static QTaskStep
count_step (QTask *task,
            gpointer data,
            GError **error)
{
  Count *count = data;
  g_autofree char *text = NULL;

  /* Called once more when it is to stop. */
  if (q_task_is_cancelled (task))
    {
      g_printerr ("Stopped after %d messages\n", count->n_written);
      return Q_TASK_STEP_STOPPED;
    }

  for (int i = 0; i < STEP; i++)
    count->n++;

  if (++count->n_steps % STEPS_PER_MESSAGE != 0)
    return Q_TASK_STEP_CHECK_IN;

  text = g_strdup_printf ("%" G_GUINT64_FORMAT, count->n);
  if (!q_task_channel_write (q_task_get_worker_channel (task), text, strlen (text),
                             q_task_get_stop_cancellable (task), error))
    return Q_TASK_STEP_FAILED;

  if (++count->n_written == n_messages)
    return Q_TASK_STEP_FINISHED;

  return Q_TASK_STEP_SYNC;
}

/* The server */

typedef struct
{
  GMainLoop *loop;
  SoupServer *server;
  QTaskPool *pool;
  int n_connections;
  gboolean quitting;
} App;

static void
connection_closed_cb (SoupWebsocketConnection *connection,
                      gpointer data)
{
  App *app = data;

  if (--app->n_connections == 0 && app->quitting)
    g_main_loop_quit (app->loop);
}

static void
connected_handler (SoupServer *server,
                   SoupServerMessage *request,
                   const char *path,
                   SoupWebsocketConnection *connection,
                   gpointer data)
{
  App *app = data;
  g_autoptr (QTask) task = q_task_new (NULL, NULL, NULL, NULL);
  g_autoptr (GError) error = NULL;
  Count *count;

  app->n_connections++;
  g_signal_connect (connection, "closed", G_CALLBACK (connection_closed_cb), app);

  q_task_set_static_name (task, "count");
  q_task_open_channel (task, NULL);
  q_task_soup_bind_websocket (task, connection, SOUP_WEBSOCKET_DATA_TEXT, Q_TASK_BIND_DEFAULT);

  count = g_new0 (Count, 1);
  if (!q_task_pool_push_steps (app->pool, task, count_step, count, g_free, &error))
    {
      /* We are quitting; this closes the connection. */
      g_free (count);
      q_task_set_error (task, g_steal_pointer (&error));
      q_task_complete (task);
    }
}

/* Quitting: the tasks are stopped, which closes their connections. */
static gboolean
quit_cb (gpointer data)
{
  App *app = data;

  app->quitting = TRUE;
  soup_server_disconnect (app->server);
  q_task_pool_close_async (app->pool, Q_TASK_POOL_CLOSE_STOP, NULL, NULL, NULL);

  if (app->n_connections == 0)
    g_main_loop_quit (app->loop);

  return G_SOURCE_REMOVE;
}

int
main (int argc,
      char *argv[])
{
  int port = 8080;
  const GOptionEntry entries[] = {
    { "port", 'p', 0, G_OPTION_ARG_INT, &port, "Port to listen on; 0 for any (default: 8080)", "PORT" },
    { "messages", 'n', 0, G_OPTION_ARG_INT, &n_messages, "Messages to each client; 0 for no end (default: 100)", "N" },
    G_OPTION_ENTRY_NULL
  };
  g_autoptr (GOptionContext) options = g_option_context_new (NULL);
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (SoupServer) server = soup_server_new (NULL, NULL);
  g_autoptr (QTaskPool) pool = q_task_pool_new ("count", N_THREADS, 0);
  g_autoptr (GError) error = NULL;
  App app = { loop, server, pool, 0, FALSE };
  GSList *uris;

  setlocale (LC_ALL, "");

  g_option_context_set_summary (options, "Counts for its clients, who connect to ws://127.0.0.1:PORT/count.");
  g_option_context_add_main_entries (options, entries, NULL);

  if (!g_option_context_parse (options, &argc, &argv, &error) || argc > 1 || port < 0 || port > G_MAXUINT16)
    {
      g_autofree char *help = g_option_context_get_help (options, TRUE, NULL);

      g_printerr ("%s", help);
      return 2;
    }

  soup_server_add_websocket_handler (server, "/count", NULL, NULL, connected_handler, &app, NULL);
  if (!soup_server_listen_local (server, port, SOUP_SERVER_LISTEN_IPV4_ONLY, &error))
    {
      g_printerr ("%s\n", error->message);
      return 1;
    }

  g_unix_signal_add (SIGINT, quit_cb, &app);
  g_unix_signal_add (SIGTERM, quit_cb, &app);

  uris = soup_server_get_uris (server);
  g_print ("Port %d\n", g_uri_get_port (uris->data));
  g_slist_free_full (uris, (GDestroyNotify) g_uri_unref);

  g_main_loop_run (loop);

  return 0;
}
