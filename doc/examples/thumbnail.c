/* thumbnail.c: an image is made small in a thread, and a bar would follow
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

#define IMAGE_SIZE 1024
#define THUMBNAIL_SIZE 64
#define SCALE (IMAGE_SIZE / THUMBNAIL_SIZE)

/* Called in a thread. It owns nothing of the caller's: the image is its data. */
static gboolean
thumbnail_worker (QTask *task,
                  gpointer image,
                  GError **error)
{
  const guint8 *pixels = g_bytes_get_data (image, NULL);
  g_autofree guint8 *small = NULL;
  g_autoptr (GBytes) thumbnail = NULL;

  if (g_bytes_get_size (image) != IMAGE_SIZE * IMAGE_SIZE)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                   "An image of %" G_GSIZE_FORMAT " bytes cannot be scaled", g_bytes_get_size (image));
      return FALSE;
    }

  small = g_malloc (THUMBNAIL_SIZE * THUMBNAIL_SIZE);
  for (int y = 0; y < THUMBNAIL_SIZE; y++)
    {
      for (int x = 0; x < THUMBNAIL_SIZE; x++)
        {
          guint sum = 0;

          for (int i = 0; i < SCALE * SCALE; i++)
            sum += pixels[(y * SCALE + i / SCALE) * IMAGE_SIZE + x * SCALE + i % SCALE];

          small[y * THUMBNAIL_SIZE + x] = sum / (SCALE * SCALE);
        }

      /* Costs next to nothing; the owner hears of it once in a while. */
      q_task_set_progress (task, (y + 1.0) / THUMBNAIL_SIZE, NULL);
    }

  thumbnail = g_bytes_new_take (g_steal_pointer (&small), THUMBNAIL_SIZE * THUMBNAIL_SIZE);
  q_task_set_result_bytes (task, thumbnail);
  return TRUE;
}

/* Called by the main loop, as is thumbnail_ready_cb(): widgets may be touched here. */
static void
progress_cb (QTask *task,
             GParamSpec *pspec,
             gpointer last)
{
  *(double *) last = q_task_get_progress (task);
}

static void
thumbnail_ready_cb (QTask *task,
                    gpointer loop)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) thumbnail = q_task_propagate_bytes (task, &error);

  if (thumbnail != NULL)
    g_print ("A thumbnail of %" G_GSIZE_FORMAT " bytes\n", g_bytes_get_size (thumbnail));
  else
    g_print ("No thumbnail: %s\n", error->message);

  g_main_loop_quit (loop);
}

static void
make_thumbnail (gsize size)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (QTask) task = q_task_new (NULL, thumbnail_ready_cb, loop, NULL);
  GBytes *image = g_bytes_new_take (g_malloc0 (size), size);
  double progress = 0.0;

  q_task_set_name (task, "thumbnail");
  q_task_set_priority (task, G_PRIORITY_LOW);
  g_signal_connect (task, "notify::progress", G_CALLBACK (progress_cb), &progress);

  q_task_run_in_thread (task, thumbnail_worker, image, (GDestroyNotify) g_bytes_unref);
  g_main_loop_run (loop);

  g_print ("Done: %.0f %%\n", progress * 100);
}

int
main (void)
{
  make_thumbnail (IMAGE_SIZE * IMAGE_SIZE);
  make_thumbnail (7);

  return 0;
}
