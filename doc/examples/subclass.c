/* subclass.c: a task that brings its work along
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <string.h>

#include <qtask/qtask.h>

#define COUNT_TYPE_TASK (count_task_get_type ())
G_DECLARE_FINAL_TYPE (CountTask, count_task, COUNT, TASK, QTask)

struct _CountTask
{
  QTask parent_instance;
  char *text;    /* not changed while the task runs */
  guint n_words; /* written by the worker, to be read when it has ended */
};

G_DEFINE_FINAL_TYPE (CountTask, count_task, Q_TYPE_TASK)

/* Called in a thread, where others have a worker called. */
static gboolean
count_task_run (QTask *task,
                GError **error)
{
  CountTask *self = COUNT_TASK (task);
  gboolean in_word = FALSE;

  for (const char *p = self->text; *p != '\0'; p++)
    {
      self->n_words += !in_word && !g_ascii_isspace (*p);
      in_word = !g_ascii_isspace (*p);
    }

  return TRUE;
}

/* Called by the owner, as everything that ends a task. */
static void
count_task_finalize (GObject *object)
{
  g_free (COUNT_TASK (object)->text);

  G_OBJECT_CLASS (count_task_parent_class)->finalize (object);
}

static void
count_task_class_init (CountTaskClass *klass)
{
  Q_TASK_CLASS (klass)->run = count_task_run;
  G_OBJECT_CLASS (klass)->finalize = count_task_finalize;
}

static void
count_task_init (CountTask *self)
{
}

static void
counted_cb (QTask *task,
            gpointer loop)
{
  if (!q_task_had_error (task))
    g_print ("%u words\n", COUNT_TASK (task)->n_words);

  g_main_loop_quit (loop);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (CountTask) task = g_object_new (COUNT_TYPE_TASK, NULL);

  task->text = g_strdup ("Five noble knights went forth");
  q_task_set_func (Q_TASK (task), counted_cb, loop, NULL);

  /* No worker: run() is it. */
  q_task_run_in_thread (Q_TASK (task), NULL, NULL, NULL);
  g_main_loop_run (loop);

  return 0;
}
