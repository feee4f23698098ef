/* worker.c: a program whose work is asked for by another one
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A request is what to do, and with what.
 */

#include <qtask/qtask.h>

/* Keeps a processor busy, tells how far it is, and stops when it is asked to. */
static gboolean
count_primes (QTask *task,
              guint32 end,
              GError **error)
{
  guint32 count = 0;

  for (guint32 n = 2; n < end; n++)
    {
      guint32 divisor = 2;

      while (divisor * divisor <= n && n % divisor != 0)
        divisor++;
      if (divisor * divisor > n)
        count++;

      if (n % 1000 != 0)
        continue;

      q_task_set_progress (task, (double) n / end, NULL);
      if (g_cancellable_set_error_if_cancelled (q_task_get_stop_cancellable (task), error))
        return FALSE;
    }

  q_task_set_result_variant (task, g_variant_new_uint32 (count));
  return TRUE;
}

/* Answers each message on the channel of the task, until there are no more. */
static gboolean
shout (QTask *task,
       GError **error)
{
  QTaskChannel *channel = q_task_get_worker_channel (task);
  GCancellable *stop = q_task_get_stop_cancellable (task);
  guint32 n_messages = 0;

  if (channel == NULL)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "There is nobody to talk to");
      return FALSE;
    }

  for (;;)
    {
      g_autoptr (GError) read_error = NULL;
      g_autoptr (GBytes) message = q_task_channel_read (channel, stop, &read_error);
      g_autofree char *answer = NULL;

      if (read_error != NULL)
        {
          g_propagate_error (error, g_steal_pointer (&read_error));
          return FALSE;
        }
      if (message == NULL)
        break;

      answer = g_ascii_strup (g_bytes_get_data (message, NULL), g_bytes_get_size (message));
      if (!q_task_channel_write (channel, answer, g_bytes_get_size (message), stop, error))
        return FALSE;
      n_messages++;
    }

  q_task_set_result_variant (task, g_variant_new_uint32 (n_messages));
  return TRUE;
}

static gboolean
serve (QTask *task,
       GVariant *request,
       gpointer unused,
       GError **error)
{
  g_autofree char *what = NULL;
  g_autoptr (GVariant) with = NULL;

  if (!g_variant_is_of_type (request, G_VARIANT_TYPE ("(sv)")))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "A request is (sv), not %s",
                   g_variant_get_type_string (request));
      return FALSE;
    }

  g_variant_get (request, "(sv)", &what, &with);

  if (g_str_equal (what, "echo"))
    {
      q_task_set_result_variant (task, with);
      return TRUE;
    }
  if (g_str_equal (what, "count-primes") && g_variant_is_of_type (with, G_VARIANT_TYPE_UINT32))
    return count_primes (task, g_variant_get_uint32 (with), error);
  if (g_str_equal (what, "shout"))
    return shout (task, error);

  g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "It is not known how to %s", what);
  return FALSE;
}

int
main (void)
{
  /* Until the parent has no more requests, or has gone */
  return q_task_serve (serve, NULL, NULL);
}
