/* digest-entry.c: what digest needs to know of files, lists and terminals
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Plain functions that know of no task. They use nothing but their arguments, so
 * they may be called in any thread; those that take a cancellable may block.
 */

#include "digest-entry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gio/gunixinputstream.h>

#define LINES_AT_ONCE 256

G_DEFINE_AUTOPTR_CLEANUP_FUNC (DIR, closedir)

gboolean
find_algorithm (const char *name,
                GChecksumType *algorithm)
{
  static const char *const names[] = {
    [G_CHECKSUM_MD5] = "md5",
    [G_CHECKSUM_SHA1] = "sha1",
    [G_CHECKSUM_SHA256] = "sha256",
    [G_CHECKSUM_SHA384] = "sha384",
    [G_CHECKSUM_SHA512] = "sha512",
  };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      if (strcmp (name, names[i]) == 0)
        {
          *algorithm = i;
          return TRUE;
        }
    }

  return FALSE;
}

static void
set_error_from_errno (GError **error)
{
  int saved_errno = errno;

  g_set_error_literal (error, G_IO_ERROR, g_io_error_from_errno (saved_errno),
                       g_strerror (saved_errno));
}

/* May block until somebody writes, if it is a named pipe. */
GInputStream *
open_stream (const char *path,
             GError **error)
{
  gboolean is_stdin = strcmp (path, "-") == 0;
  int fd = is_stdin ? dup (STDIN_FILENO) : open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

  if (fd < 0)
    {
      set_error_from_errno (error);
      return NULL;
    }

  return g_unix_input_stream_new (fd, TRUE);
}

Entry *
entry_new (const char *path,
           mode_t mode,
           goffset size)
{
  Entry *entry = g_new0 (Entry, 1);
  gboolean add_slash = S_ISDIR (mode) && !g_str_has_suffix (path, "/");

  entry->path = g_strconcat (path, add_slash ? "/" : NULL, NULL);
  entry->mode = mode;
  entry->size = size;

  return entry;
}

void
entry_free (gpointer data)
{
  Entry *entry = data;

  g_free (entry->path);
  g_free (entry->expected);
  g_free (entry->sum);
  g_clear_error (&entry->error);
  g_free (entry);
}

/* Whether it is a socket, a device or the like, and nobody named it. */
gboolean
entry_is_special (const Entry *entry)
{
  return entry->mode != 0 && !S_ISREG (entry->mode) && !S_ISDIR (entry->mode);
}

gboolean
entry_is_malformed (const Entry *entry,
                    gsize sum_length)
{
  return sum_length > 0 && (entry->expected == NULL || strlen (entry->expected) != sum_length);
}

static int
compare_last_first (gconstpointer a,
                    gconstpointer b)
{
  return strcmp ((*(Entry *const *) b)->path, (*(Entry *const *) a)->path);
}

/* Takes the first of all entries in some arrays. A directory comes before what is in
 * it; so if that is added once the directory was taken, all come in order. */
Entry *
take_first (GPtrArray *arrays)
{
  GPtrArray *first = NULL;
  Entry *entry;

  for (guint i = 0; i < arrays->len; i++)
    {
      GPtrArray *array = arrays->pdata[i];

      if (first == NULL ||
          compare_last_first (&array->pdata[array->len - 1], &first->pdata[first->len - 1]) > 0)
        first = array;
    }

  if (first == NULL)
    return NULL;

  entry = g_ptr_array_steal_index (first, first->len - 1);
  if (first->len == 0)
    g_ptr_array_remove_fast (arrays, first);

  return entry;
}

static void
append_escaped (GString *line,
                const char *name)
{
  for (; *name != '\0'; name++)
    {
      if (*name == '\n')
        g_string_append (line, "\\n");
      else if (*name == '\r')
        g_string_append (line, "\\r");
      else if (*name == '\\')
        g_string_append (line, "\\\\");
      else
        g_string_append_c (line, *name);
    }
}

/* Reverses append_escaped(), in place. */
static gboolean
unescape (char *name)
{
  char *end = name;

  for (; *name != '\0'; name++)
    {
      if (*name != '\\')
        *end++ = *name;
      else if (*++name == 'n')
        *end++ = '\n';
      else if (*name == 'r')
        *end++ = '\r';
      else if (*name == '\\')
        *end++ = '\\';
      else
        return FALSE;
    }

  *end = '\0';
  return TRUE;
}

/* As sha256sum prints it: a backslash in front says that the name is escaped. */
char *
entry_to_sum_line (const Entry *entry)
{
  GString *line = g_string_new (strpbrk (entry->path, "\\\n\r") != NULL ? "\\" : NULL);

  g_string_append (line, entry->sum);
  g_string_append (line, "  ");
  append_escaped (line, entry->path);
  g_string_append_c (line, '\n');

  return g_string_free (line, FALSE);
}

/* As sha256sum --check prints it, which escapes only what would break the line. */
char *
entry_to_check_line (const Entry *entry)
{
  gboolean escape = strchr (entry->path, '\n') != NULL;
  GString *line = g_string_new (escape ? "\\" : entry->path);

  if (escape)
    append_escaped (line, entry->path);
  if (entry->error != NULL)
    g_string_append (line, ": FAILED open or read\n");
  else if (strcmp (entry->sum, entry->expected) != 0)
    g_string_append (line, ": FAILED\n");
  else
    g_string_append (line, ": OK\n");

  return g_string_free (line, FALSE);
}

/* What the user named: links are followed, and whatever it is, it is opened. */
GPtrArray *
entries_new_named (char **paths)
{
  GPtrArray *entries = g_ptr_array_new_with_free_func (entry_free);

  for (; *paths != NULL; paths++)
    {
      struct stat st = { 0 };

      if (stat (*paths, &st) != 0 || !S_ISDIR (st.st_mode))
        st.st_mode = 0;

      g_ptr_array_add (entries, entry_new (*paths, st.st_mode, st.st_size));
    }

  g_ptr_array_sort (entries, compare_last_first);
  return entries;
}

/* What is in a directory. Links to directories are left out. */
GPtrArray *
list_directory (const char *path,
                GCancellable *cancellable,
                GError **error)
{
  g_autoptr (GPtrArray) entries = g_ptr_array_new_with_free_func (entry_free);
  g_autoptr (DIR) dir = opendir (path);
  struct dirent *item;

  /* cppcheck-suppress readdirCalled ; no other thread has this DIR */
  while (dir != NULL && (errno = 0, item = readdir (dir)) != NULL)
    {
      g_autofree char *child = g_strconcat (path, item->d_name, NULL);
      struct stat st = { 0 };

      if (g_cancellable_set_error_if_cancelled (cancellable, error))
        return NULL;
      if (strcmp (item->d_name, ".") == 0 || strcmp (item->d_name, "..") == 0)
        continue;

      if (lstat (child, &st) == 0 && S_ISLNK (st.st_mode))
        {
          /* Where a link leads nowhere, opening it will tell. */
          if (stat (child, &st) != 0)
            st.st_mode = 0;
          else if (S_ISDIR (st.st_mode))
            continue;
        }

      g_ptr_array_add (entries, entry_new (child, st.st_mode, st.st_size));
    }

  if (errno != 0)
    {
      set_error_from_errno (error);
      return NULL;
    }

  g_ptr_array_sort (entries, compare_last_first);
  return g_steal_pointer (&entries);
}

static Entry *
entry_new_from_line (char *line)
{
  Entry *entry = g_new0 (Entry, 1);
  gboolean escaped = line[0] == '\\';
  char *sum = escaped ? line + 1 : line;
  gsize sum_length = strspn (sum, "0123456789abcdefABCDEF");
  char *rest = sum + sum_length;

  entry->size = strlen (line) + 1;

  if ((g_str_has_prefix (rest, "  ") || g_str_has_prefix (rest, " *")) &&
      rest[2] != '\0' &&
      (!escaped || unescape (rest + 2)))
    {
      entry->path = g_strdup (rest + 2);
      entry->expected = g_ascii_strdown (sum, sum_length);
    }

  return entry;
}

GDataInputStream *
open_list (const char *path,
           GError **error)
{
  g_autoptr (GInputStream) stream = open_stream (path, error);

  return stream != NULL ? g_data_input_stream_new (stream) : NULL;
}

/* What the next lines of a list name; nothing at its end. */
GPtrArray *
read_list (GDataInputStream *list,
           GCancellable *cancellable,
           GError **error)
{
  g_autoptr (GPtrArray) entries = g_ptr_array_new_with_free_func (entry_free);

  while (entries->len < LINES_AT_ONCE)
    {
      g_autoptr (GError) local_error = NULL;
      g_autofree char *line = g_data_input_stream_read_line (list, NULL, cancellable, &local_error);

      if (local_error != NULL)
        {
          g_propagate_error (error, g_steal_pointer (&local_error));
          return NULL;
        }
      if (line == NULL)
        break;

      if (g_str_has_suffix (line, "\r"))
        line[strlen (line) - 1] = '\0';
      if (line[0] != '\0' && line[0] != '#')
        g_ptr_array_add (entries, entry_new_from_line (line));
    }

  for (guint i = 0, j = entries->len; i + 1 < j; i++, j--)
    {
      gpointer entry = entries->pdata[i];

      entries->pdata[i] = entries->pdata[j - 1];
      entries->pdata[j - 1] = entry;
    }

  return g_steal_pointer (&entries);
}

/* The sum of the sizes of all that list_directory() would find. */
goffset
measure_paths (char **paths,
               GCancellable *cancellable)
{
  goffset total = 0;

  for (; *paths != NULL; paths++)
    {
      g_autofree char *real_path = realpath (*paths, NULL);
      g_autoptr (GFile) file = g_file_new_for_path (real_path != NULL ? real_path : *paths);
      guint64 size;

      if (g_file_measure_disk_usage (file, G_FILE_MEASURE_APPARENT_SIZE, cancellable, NULL, NULL,
                                     &size, NULL, NULL, NULL))
        total += size;
    }

  return total;
}

/* Whether something can be written without waiting. */
gboolean
can_write (int fd)
{
  GPollFD poll_fd = { fd, G_IO_OUT, 0 };

  return g_poll (&poll_fd, 1, 0) > 0;
}

gboolean
can_show_bar (void)
{
  struct stat st;

  return isatty (STDERR_FILENO) && fstat (STDOUT_FILENO, &st) == 0 && !S_ISFIFO (st.st_mode);
}

void
show_bar (double fraction,
          guint n_files)
{
  struct winsize size = { 0 };
  int width;

  ioctl (STDERR_FILENO, TIOCGWINSZ, &size);
  width = CLAMP ((size.ws_col > 0 ? size.ws_col : 80) - 30, 1, 60);

  fputs ("\r[", stderr);
  for (int i = 0; i < width; i++)
    putc (i < (int) (fraction * width) ? '#' : '.', stderr);
  fprintf (stderr, "] %3d%%  %u file%s\033[K", (int) (fraction * 100), n_files, n_files == 1 ? "" : "s");
}

void
hide_bar (void)
{
  fputs ("\r\033[K", stderr);
}

/* Says nothing of nothing. */
void
show_warning (guint n,
              const char *one,
              const char *many)
{
  if (n > 0)
    fprintf (stderr, "digest: WARNING: %u %s\n", n, n == 1 ? one : many);
}
