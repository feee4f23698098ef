/* digest-entry.h: what digest needs to know of files, lists and terminals
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <sys/stat.h>

#include <gio/gio.h>

typedef struct
{
  char   *path;     /* that of a directory ends in a slash; NULL for a bad line */
  char   *expected; /* the sum that the list gives, or NULL */
  mode_t  mode;     /* 0 for what is to be opened, whatever it is */
  goffset size;     /* what it adds to the bar */
  char   *sum;      /* once known: the sum, … */
  GError *error;    /* … or why there is none */
} Entry;

Entry            *entry_new           (const char       *path,
                                       mode_t            mode,
                                       goffset           size);
void              entry_free          (gpointer          entry);
gboolean          entry_is_special    (const Entry      *entry);
gboolean          entry_is_malformed  (const Entry      *entry,
                                       gsize             sum_length);
char             *entry_to_sum_line   (const Entry      *entry);
char             *entry_to_check_line (const Entry      *entry);

gboolean          find_algorithm      (const char       *name,
                                       GChecksumType    *algorithm);
GDataInputStream *open_list           (const char       *path,
                                       GError          **error);
GInputStream     *open_stream         (const char       *path,
                                       GError          **error);

/* Arrays of Entry, the next one last: to be taken from the end */
GPtrArray        *entries_new_named   (char            **paths);
GPtrArray        *list_directory      (const char       *path,
                                       GCancellable     *cancellable,
                                       GError          **error);
GPtrArray        *read_list           (GDataInputStream *list,
                                       GCancellable     *cancellable,
                                       GError          **error);
Entry            *take_first          (GPtrArray        *arrays);

goffset           measure_paths       (char            **paths,
                                       GCancellable     *cancellable);

gboolean          can_write           (int               fd);
gboolean          can_show_bar        (void);
void              show_bar            (double            fraction,
                                       guint             n_files);
void              hide_bar            (void);
void              show_warning        (guint             n,
                                       const char       *one,
                                       const char       *many);
