/* parallel.c: a loop on all processors
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <qtask/qtask.h>

#define N 100000

static gboolean
is_prime (gsize n)
{
  for (gsize i = 2; i * i <= n; i++)
    if (n % i == 0)
      return FALSE;

  return n > 1;
}

/* Called for some indexes at a time, in several threads at once: each writes to places of its
 * own, and what is common to all is atomic. */
static gboolean
find_primes (gsize begin,
             gsize end,
             gpointer n_primes,
             GError **error)
{
  int n = 0;

  for (gsize i = begin; i < end; i++)
    n += is_prime (i) ? 1 : 0;

  g_atomic_int_add ((int *) n_primes, n);
  return TRUE;
}

/* Fails at some index: what was not begun by then never is. */
static gboolean
fail_late (gsize begin,
           gsize end,
           gpointer unused,
           GError **error)
{
  if (begin <= N / 2 && N / 2 < end)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "There is something wrong with %d", N / 2);
      return FALSE;
    }

  return TRUE;
}

int
main (void)
{
  QTaskPool *pool = q_task_pool_get_default ();
  g_autoptr (GError) error = NULL;
  int n_primes = 0;

  if (q_task_pool_parallel_for (pool, N, 1000, find_primes, &n_primes, NULL, &error))
    g_print ("%d primes below %d\n", n_primes, N);

  if (!q_task_pool_parallel_for (pool, N, 1000, fail_late, NULL, NULL, &error))
    g_print ("%s\n", error->message);

  return 0;
}
