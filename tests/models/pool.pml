/* pool.pml: how a push finds a thread for its task
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A model of qtask/q-task-pool-threads.c, with two threads that are there already, and workers that are not
 * quick: threads push into the inbox without the lock, and take it only where the pool is armed. No task
 * may be left while a thread idles.
 *
 * check.sh removes one thing at a time, and finds a task that is left:
 * BROKEN_LOOK_AFTER_ARMING, BROKEN_LOOK_BEFORE_IDLING, BROKEN_ARM_WHILE_WORKING, BROKEN_ARM_BEFORE_IDLING,
 * BROKEN_PUSH_FIRST
 */

#define N_PUSHERS 3
#define N_THREADS 2

bool locked;
byte inbox;
byte queue;
bool armed = true;
bool is_spinning;
bool is_idle[N_THREADS];
bool is_signalled[N_THREADS];
byte n_idle;
byte n_signalled;
byte n_working;
byte n_done;

#define LOCK atomic { !locked -> locked = true }
#define UNLOCK locked = false

/* With the lock held */

#define N_ACTIVE (N_THREADS - n_idle)
#define IS_COVERED (is_spinning || n_signalled > 0 || N_ACTIVE >= N_THREADS)

inline sort ()
{
  d_step { queue = queue + inbox; inbox = 0 }
}

inline wake_if_needed ()
{
  sort ();
  if
  :: queue > 0 && !IS_COVERED ->
       if
       :: is_idle[0] -> is_idle[0] = false; is_signalled[0] = true
       :: else -> is_idle[1] = false; is_signalled[1] = true
       fi;
       n_idle--;
       n_signalled++
  :: else
  fi
}

inline arm ()
{
  if
  :: armed == !IS_COVERED
  :: else ->
       armed = !IS_COVERED;
#ifndef BROKEN_LOOK_AFTER_ARMING
       if
       :: armed && inbox > 0 -> wake_if_needed ()
       :: else
       fi
#endif
  fi
}

/* q_task_pool_core_push() */
proctype pusher ()
{
  bool was_armed;

#ifdef BROKEN_PUSH_FIRST
  was_armed = armed;
  inbox++;
#else
  inbox++;
  was_armed = armed;
#endif
  if
  :: was_armed ->
       LOCK;
       wake_if_needed ();
       arm ();
       UNLOCK
  :: else
  fi
}

/* thread_main(), with work(), spin() and idle() */
proctype thread (byte id)
{
  bool sleeps;

  LOCK;
  do
  :: sort ();
     if
     :: queue > 0 ->
          queue--;
          wake_if_needed ();
#ifndef BROKEN_ARM_WHILE_WORKING
          arm ();
#endif
          UNLOCK;
          n_working++;

          /* A worker may wait for another task to run: for ever, if it has the only thread. */
          (N_ACTIVE >= N_THREADS || inbox + queue == 0 || n_signalled > 0);

          atomic { n_working--; n_done++ };
          LOCK

     :: queue == 0 && !is_spinning && n_signalled == 0 -> /* if work came quickly of late */
          is_spinning = true;
          armed = false;
          UNLOCK;
          /* Until there is something, or in vain */
          LOCK;
          is_spinning = false;
          sort ();
          if
          :: queue == 0 -> goto idles
          :: else
          fi

     :: queue == 0 ->
idles:    is_idle[id] = true;
          n_idle++;
          sleeps = true;
#ifndef BROKEN_ARM_BEFORE_IDLING
          armed = true;
#endif
#ifndef BROKEN_LOOK_BEFORE_IDLING
          if
          :: inbox > 0 && !IS_COVERED -> sleeps = false
          :: else
          fi;
#endif
          if
          :: sleeps ->
               UNLOCK;
end_asleep:    is_signalled[id];
               LOCK;
               is_signalled[id] = false;
               n_signalled--
          :: else ->
               is_idle[id] = false;
               n_idle--
          fi
     fi
  od
}

init
{
  byte i;

  atomic
    {
      for (i : 1 .. N_PUSHERS) { run pusher () }
      for (i : 0 .. N_THREADS - 1) { run thread (i) }
    }

  timeout -> assert (inbox + queue == 0 && n_done == N_PUSHERS)
}
