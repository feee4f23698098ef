/* q-task-soup-client.c: the client of a task
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For its task, a client is a bound object that is disposed when the client leaves. That object
 * is neither the request nor the connection, since others may keep those for longer than the
 * client stays. All is called by the owner of the task.
 */

#include "config.h"

#include "q-task-soup-private.h"

static GQuark
get_quark (void)
{
  return g_quark_from_static_string ("q-task-soup-client");
}

gboolean
q_task_soup_add_client (QTask *task,
                        QTaskBindFlags flags)
{
  GObject *client;

  if (q_task_get_completed (task))
    {
      g_critical ("A task that has completed cannot be bound to a request or connection; bind it "
                  "before it is started");
      return FALSE;
    }

  if (g_object_get_qdata (G_OBJECT (task), get_quark ()) != NULL)
    {
      g_critical ("A task cannot be bound to a second request or connection; make a task for each");
      return FALSE;
    }

  client = g_object_new (G_TYPE_OBJECT, NULL);
  g_object_set_qdata_full (G_OBJECT (task), get_quark (), client, g_object_unref);
  q_task_bind_object (task, client, flags);

  return TRUE;
}

/* For what nobody is to have */
static void
discard_cb (QTaskChannel *channel,
            GBytes *message,
            gpointer unused)
{
}

void
q_task_soup_remove_client (QTask *task,
                           QTaskBindFlags flags)
{
  gboolean outlives = (flags & Q_TASK_BIND_OUTLIVE) != 0 || q_task_get_outlive (task);
  QTaskChannel *channel = q_task_get_channel (task);

  /* Before its channel is closed, which would be an error like others for the worker. */
  if (!outlives)
    q_task_cancel (task);

  g_object_run_dispose (g_object_get_qdata (G_OBJECT (task), get_quark ()));

  /* Messages may not have been read just now; the worker must not wait for that. */
  if (outlives && channel != NULL)
    q_task_channel_set_message_func (channel, discard_cb, NULL, NULL);
}

void
q_task_soup_clear_source (GSource **source)
{
  if (*source == NULL)
    return;

  g_source_destroy (*source);
  g_clear_pointer (source, g_source_unref);
}
