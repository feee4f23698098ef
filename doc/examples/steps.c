/* steps.c: work that meets its owner at sync points: in a thread of its own, and in steps
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

#define LIMIT 40000
#define STEP 1000
#define SYNC_EVERY 10000

/* Nothing protects this. It is used by the worker; and by the owner while the worker is at
 * a sync point, or has ended. */
typedef struct
{
  guint next;
  guint n_primes;
} Primes;

static gboolean
is_prime (guint n)
{
  for (guint i = 2; i * i <= n; i++)
    if (n % i == 0)
      return FALSE;

  return n > 1;
}

static void
count_some (Primes *primes)
{
  for (guint i = 0; i < STEP; i++)
    primes->n_primes += is_prime (primes->next++);
}

/* One call does it all, and blocks at each sync point. */
static gboolean
primes_worker (QTask *task,
               gpointer data,
               GError **error)
{
  Primes *primes = data;

  while (primes->next < LIMIT)
    {
      count_some (primes);

      /* FALSE says that the task is to stop, and so does the error. */
      if (primes->next % SYNC_EVERY == 0 && !q_task_sync (task, error))
        return FALSE;
    }

  return TRUE;
}

/* The same in steps: called again until it is over. Between two calls it holds no thread. */
static QTaskStep
primes_step (QTask *task,
             gpointer data,
             GError **error)
{
  Primes *primes = data;

  if (q_task_is_cancelled (task))
    return Q_TASK_STEP_STOPPED;

  if (primes->next >= LIMIT)
    return Q_TASK_STEP_FINISHED;

  count_some (primes);

  return primes->next % SYNC_EVERY == 0 ? Q_TASK_STEP_SYNC : Q_TASK_STEP_CHECK_IN;
}

/* Called by the main loop at each sync point. The worker goes on when this has returned. To let it
 * wait longer, call q_task_resume() later. */
static void
sync_cb (QTask *task,
         gpointer data)
{
  Primes *primes = data;

  g_print ("%u primes below %u\n", primes->n_primes, primes->next);

  /* TRUE tells it to stop: below 30000 there are enough. */
  q_task_resume (task, primes->next >= 30000);
}

static void
ended_cb (QTask *task,
          gpointer loop)
{
  g_autoptr (GError) error = NULL;

  if (q_task_propagate_error (task, &error))
    g_print ("Ended: %s\n", error->message);

  g_main_loop_quit (loop);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (QTask) worker = q_task_new (NULL, ended_cb, loop, NULL);
  g_autoptr (QTask) steps = q_task_new (NULL, ended_cb, loop, NULL);
  Primes by_worker = { 0, 0 };
  Primes by_steps = { 0, 0 };

  q_task_set_sync_func (worker, sync_cb, &by_worker, NULL);
  q_task_run_in_thread (worker, primes_worker, &by_worker, NULL);
  g_main_loop_run (loop);

  q_task_set_sync_func (steps, sync_cb, &by_steps, NULL);
  q_task_run_steps_in_thread (steps, primes_step, &by_steps, NULL);
  g_main_loop_run (loop);

  return 0;
}
