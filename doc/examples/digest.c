/* digest.c: sums of files, computed in parallel and printed as sha256sum does
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The main thread runs a main loop and owns the whole of Digest. It leaves to tasks
 * what may block, so the bar moves and Ctrl-C works whatever the disks do:
 *
 *   hash_worker()     sums one file; as many run at a time as -j says
 *   feed_worker()     lists a directory, or reads on in a list of sums
 *   measure_worker()  adds up the sizes of all files, for the bar
 *
 * A worker runs in a thread of a pool and uses only what its task was given; so
 * there is no lock in this file. When it has ended, the callback of its task is
 * called in the main thread: it takes the result, and advance() starts what is next.
 *
 * Files are summed in any order but printed in that of their paths: `window` holds
 * the tasks of which nothing has been printed yet. There are never more than
 * MAX_WINDOW of them, be there ten files or a million.
 */

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <glib-unix.h>
#include <qtask/qtask.h>

#include "digest-entry.h"

#define MAX_WINDOW 4096
#define MAX_OUTPUT (64 * 1024)
#define MAX_WRITE 4096 /* a pipe that is ready takes so much without blocking */
#define BLOCK_SIZE (64 * 1024)

typedef struct
{
  GMainLoop *loop;
  GChecksumType algorithm;
  gsize sum_length;       /* in characters; 0 when there is no list */
  const char *check;      /* the name of the list to check, or NULL */
  GDataInputStream *list; /* what is left of it, or NULL */
  QTaskPool *pool;        /* runs hash_worker() and nothing else */
  GPtrArray *pending;     /* of arrays of Entry: what to look at next */
  QTask *feed;            /* the task that gets one more of them, or NULL */
  QTask *measure;         /* the task that finds bar_total, or NULL */
  GQueue window;          /* of QTask, each with its Entry as task data */
  GString *output;        /* not yet written */
  guint output_id;        /* the source that writes it, or 0 */
  guint bar_id;           /* the source that draws the bar, or 0 */
  goffset bar_done;
  goffset bar_total; /* 0 while not known */
  guint n_done;
  guint n_unreadable;
  guint n_mismatched;
  guint n_malformed;
  gboolean failed; /* where no other counter says so */
  gboolean stopping;
} Digest;

static void advance (Digest *self);

/* The workers. To fail, a worker sets the error and returns FALSE, as any function
 * of GLib does. To be stopped promptly, it passes on the task's stop cancellable. */

static gboolean
hash_worker (QTask *task,
             gpointer algorithm,
             GError **error)
{
  const Entry *entry = q_task_get_task_data (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);
  g_autoptr (GChecksum) checksum = g_checksum_new (GPOINTER_TO_INT (algorithm));
  g_autofree guchar *block = NULL;
  g_autoptr (GInputStream) stream = open_stream (entry->path, error);
  goffset done = 0;
  gssize n;

  if (stream == NULL)
    return FALSE;

  block = g_malloc (BLOCK_SIZE);
  while ((n = g_input_stream_read (stream, block, BLOCK_SIZE, stop, error)) > 0)
    {
      g_checksum_update (checksum, block, n);
      done += n;
      if (done < entry->size)
        q_task_set_progress (task, (double) done / entry->size, NULL);
    }

  if (n < 0)
    return FALSE;

  q_task_set_result_pointer (task, g_strdup (g_checksum_get_string (checksum)), g_free);
  return TRUE;
}

/* Only one such task exists at a time, so the list needs no lock either. */
static gboolean
feed_worker (QTask *task,
             gpointer list,
             GError **error)
{
  const Entry *origin = q_task_get_task_data (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);
  GPtrArray *entries;

  if (list != NULL)
    entries = read_list (list, stop, error);
  else
    entries = list_directory (origin->path, stop, error);

  if (entries == NULL)
    return FALSE;

  q_task_set_result_pointer (task, entries, (GDestroyNotify) g_ptr_array_unref);
  return TRUE;
}

static gboolean
measure_worker (QTask *task,
                gpointer paths,
                GError **error)
{
  q_task_set_result_int (task, measure_paths (paths, q_task_get_stop_cancellable (task)));
  return TRUE;
}

/* All that follows runs in the main thread. First, what is shown. */

/* The progress of one task would be followed by its notify::progress. Of thousands,
 * it is asked now and then. */
static gboolean
draw_bar_cb (gpointer data)
{
  Digest *self = data;
  double done = self->bar_done;

  for (GList *l = self->window.head; l != NULL; l = l->next)
    done += q_task_get_progress (l->data) * ((Entry *) q_task_get_task_data (l->data))->size;

  show_bar (self->bar_total > 0 ? MIN (done / self->bar_total, 1.0) : 0.0, self->n_done);
  return G_SOURCE_CONTINUE;
}

static void
complain (Digest *self,
          const char *name,
          const char *message)
{
  if (self->bar_id != 0)
    hide_bar ();
  fprintf (stderr, "digest: %s: %s\n", name, message);
}

/* Called when stdout takes something. Nothing may wait for a reader in write(). */
static gboolean
write_cb (int fd,
          GIOCondition condition,
          gpointer data)
{
  Digest *self = data;
  gboolean over_bar = self->bar_id != 0 && isatty (fd);
  gsize length = MIN (self->output->len, MAX_WRITE);
  const char *newline = g_strrstr_len (self->output->str, length, "\n");
  gssize written;

  if (newline != NULL)
    length = newline + 1 - self->output->str;
  if (over_bar)
    hide_bar ();

  written = write (fd, self->output->str, length);
  if (written < 0 && errno != EAGAIN && errno != EINTR)
    {
      complain (self, "standard output", g_strerror (errno));
      exit (EXIT_FAILURE);
    }

  g_string_erase (self->output, 0, MAX (written, 0));
  if (self->output->len == 0)
    self->output_id = 0;
  if (over_bar)
    draw_bar_cb (self);

  advance (self);
  return self->output->len > 0;
}

static void
report (Digest *self,
        const Entry *entry)
{
  g_autofree char *line = NULL;

  if (entry->error != NULL)
    complain (self, entry->path, entry->error->message);

  if (self->check != NULL)
    line = entry_to_check_line (entry);
  else if (entry->error == NULL)
    line = entry_to_sum_line (entry);

  if (line != NULL)
    g_string_append (self->output, line);
  if (self->output->len > 0 && self->output_id == 0)
    self->output_id = g_unix_fd_add (STDOUT_FILENO, G_IO_OUT, write_cb, self);

  self->bar_done += entry->size;
  if (entry->error != NULL)
    self->n_unreadable++;
  else if (entry->expected != NULL && strcmp (entry->sum, entry->expected) != 0)
    self->n_mismatched++;
  self->n_done += entry->error == NULL;
}

static void
skip (Digest *self,
      Entry *entry)
{
  if (self->check != NULL)
    self->n_malformed++;
  else
    complain (self, entry->path, "skipped, since it is not a regular file");

  self->bar_done += entry->size;
  entry_free (entry);
}

/* Then, what is done. */

static void
hash_cb (QTask *task,
         gpointer data)
{
  Digest *self = data;
  Entry *entry = q_task_get_task_data (task);

  entry->sum = q_task_propagate_pointer (task, &entry->error);

  /* Report the next one, if it is done, and what was done before its turn came. */
  while ((task = g_queue_peek_head (&self->window)) != NULL)
    {
      entry = q_task_get_task_data (task);
      if (entry->sum == NULL && entry->error == NULL)
        break;

      if (!self->stopping)
        report (self, entry);
      g_object_unref (g_queue_pop_head (&self->window));
    }

  advance (self);
}

static void
start_hash (Digest *self,
            Entry *entry)
{
  QTask *task = q_task_new (NULL, hash_cb, self, NULL);
  GError *error = NULL;

  q_task_set_task_data (task, entry, entry_free);
  q_task_set_return_on_cancel (task, TRUE); /* no dead disk keeps us from stopping */
  g_queue_push_tail (&self->window, task);

  if (!q_task_pool_push (self->pool, task, hash_worker, GINT_TO_POINTER (self->algorithm), NULL, &error))
    q_task_return_error (task, error);
}

static void
feed_cb (QTask *task,
         gpointer data)
{
  Digest *self = data;
  g_autoptr (QTask) feed = g_steal_pointer (&self->feed);
  const Entry *origin = q_task_get_task_data (feed);
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) entries = q_task_propagate_pointer (feed, &error);

  if (error != NULL && !self->stopping)
    {
      complain (self, origin->path, error->message);
      self->failed = TRUE;
    }

  if (self->list == NULL)
    self->bar_done += origin->size;
  else if (entries == NULL || entries->len == 0)
    g_clear_object (&self->list);

  if (entries != NULL && entries->len > 0)
    g_ptr_array_add (self->pending, g_steal_pointer (&entries));
  advance (self);
}

static void
start_feed (Digest *self,
            Entry *origin)
{
  self->feed = q_task_new (NULL, feed_cb, self, NULL);
  q_task_set_task_data (self->feed, origin, entry_free);
  q_task_set_return_on_cancel (self->feed, TRUE);

  /* The task has a list of its own: it may outlive ours. */
  if (self->list != NULL)
    q_task_run_in_thread (self->feed, feed_worker, g_object_ref (self->list), g_object_unref);
  else
    q_task_run_in_thread (self->feed, feed_worker, NULL, NULL);
}

static void
measure_cb (QTask *task,
            gpointer data)
{
  Digest *self = data;

  self->bar_total = MAX (q_task_propagate_int (task, NULL), 0);
  g_clear_object (&self->measure);
  advance (self);
}

/* Starts what can be started, and ends the loop when there is nothing left. */
static void
advance (Digest *self)
{
  while (!self->stopping && self->feed == NULL &&
         self->window.length < MAX_WINDOW && self->output->len < MAX_OUTPUT)
    {
      Entry *entry = take_first (self->pending);

      if (entry == NULL && self->list == NULL)
        break;
      else if (entry == NULL)
        start_feed (self, entry_new (self->check, 0, 0));
      else if (S_ISDIR (entry->mode))
        start_feed (self, entry);
      else if (entry_is_special (entry) || entry_is_malformed (entry, self->sum_length))
        skip (self, entry);
      else
        start_hash (self, entry);
    }

  if (self->feed != NULL || self->window.length > 0)
    return;
  if (self->output->len > 0 && (!self->stopping || can_write (STDOUT_FILENO)))
    return;

  if (self->measure != NULL)
    q_task_cancel (self->measure);
  else
    g_main_loop_quit (self->loop);
}

/* What waits for a thread leaves the queue; what runs is asked to stop. All callbacks
 * come, with G_IO_ERROR_CANCELLED, and the last one ends the loop. */
static gboolean
stop_cb (gpointer data)
{
  Digest *self = data;

  if (self->bar_id != 0)
    {
      draw_bar_cb (self); /* to stay on the screen */
      putc ('\n', stderr);
      g_clear_handle_id (&self->bar_id, g_source_remove);
    }
  fprintf (stderr, "digest: interrupted after %u file%s\n", self->n_done, self->n_done == 1 ? "" : "s");

  self->stopping = TRUE;
  for (GList *l = self->window.head; l != NULL; l = l->next)
    q_task_cancel (l->data);
  if (self->feed != NULL)
    q_task_cancel (self->feed);

  advance (self);
  return G_SOURCE_REMOVE; /* the next Ctrl-C has its usual effect */
}

/* Says what is left to be said, and gives the exit status. */
static int
conclude (Digest *self)
{
  if (self->stopping)
    return 130;
  if (self->bar_id != 0)
    hide_bar ();

  if (self->check != NULL)
    {
      if (self->n_done + self->n_unreadable == 0 && !self->failed)
        {
          complain (self, self->check, "no properly formatted checksum lines found");
          return EXIT_FAILURE;
        }
      show_warning (self->n_malformed, "line is improperly formatted", "lines are improperly formatted");
      show_warning (self->n_unreadable, "listed file could not be read", "listed files could not be read");
      show_warning (self->n_mismatched, "computed checksum did NOT match", "computed checksums did NOT match");
    }

  return self->failed || self->n_unreadable + self->n_mismatched > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int
run (Digest *self,
     char **paths)
{
  int status;

  self->loop = g_main_loop_new (NULL, FALSE);
  self->pending = g_ptr_array_new_with_free_func ((GDestroyNotify) g_ptr_array_unref);
  self->output = g_string_new (NULL);

  if (self->list == NULL)
    g_ptr_array_add (self->pending, entries_new_named (paths));

  if (can_show_bar ())
    {
      self->bar_id = g_timeout_add (100, draw_bar_cb, self);
      self->measure = q_task_new (NULL, measure_cb, self, NULL);
      q_task_set_return_on_cancel (self->measure, TRUE);
      q_task_run_in_thread (self->measure, measure_worker, g_strdupv (paths), (GDestroyNotify) g_strfreev);
    }

  g_unix_signal_add (SIGINT, stop_cb, self);
  g_unix_signal_add (SIGTERM, stop_cb, self);
  advance (self);
  g_main_loop_run (self->loop);
  status = conclude (self);

  g_ptr_array_unref (self->pending);
  g_string_free (self->output, TRUE);
  g_main_loop_unref (self->loop);
  g_object_unref (self->pool);
  g_clear_object (&self->list);

  return status;
}

static int
usage_error (GOptionContext *context,
             const char *message)
{
  g_autofree char *help = g_option_context_get_help (context, TRUE, NULL);

  fprintf (stderr, "digest: %s\n%s", message, help);
  return 2;
}

int
main (int argc,
      char **argv)
{
  int jobs = g_get_num_processors ();
  g_autofree char *algorithm = NULL;
  g_auto (GStrv) check = NULL;
  g_auto (GStrv) paths = NULL;
  const GOptionEntry options[] = {
    { "algorithm", 'a', 0, G_OPTION_ARG_STRING, &algorithm, "md5, sha1, sha256 (the default), sha384 or sha512", "NAME" },
    { "check", 'c', 0, G_OPTION_ARG_FILENAME_ARRAY, &check, "Check the sums in FILE; - is the standard input", "FILE" },
    { "jobs", 'j', 0, G_OPTION_ARG_INT, &jobs, "Sum N files at a time (as many as there are processors)", "N" },
    { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &paths, NULL, "PATH…" },
    { NULL },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;
  Digest self = { .algorithm = G_CHECKSUM_SHA256 };

  setlocale (LC_ALL, "");
  g_option_context_set_summary (context, "Sums files in parallel and prints what sha256sum prints.");
  g_option_context_add_main_entries (context, options, NULL);

  if (!g_option_context_parse (context, &argc, &argv, &error))
    return usage_error (context, error->message);
  if (jobs < 1)
    return usage_error (context, "-j needs a number from 1 on");
  if ((check != NULL) == (paths != NULL) || (check != NULL && check[1] != NULL))
    return usage_error (context, "either paths are needed, or one list to check");
  if (algorithm != NULL && !find_algorithm (algorithm, &self.algorithm))
    return usage_error (context, "unknown algorithm");

  if (check != NULL)
    {
      self.check = check[0];
      self.sum_length = 2 * g_checksum_type_get_length (self.algorithm);
      self.list = open_list (self.check, &error);
      if (self.list == NULL)
        {
          complain (&self, self.check, error->message);
          return EXIT_FAILURE;
        }
    }

  self.pool = q_task_pool_new ("digest", jobs, 0);
  return run (&self, check != NULL ? check : paths);
}
