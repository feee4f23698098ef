/* dispatch.pml: how a delivery wakes the context of its owner
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A model of qtask/q-task-dispatch.c: threads deliver into the inbox, and move all that is there into
 * the queue now and then; the owner iterates its context. Nothing may be left while the owner sleeps.
 *
 * check.sh removes one thing at a time, and finds a delivery that is lost:
 * BROKEN_LOOK_AGAIN, BROKEN_ARM_LAST, BROKEN_WAKE
 */

#define N_PUSHERS 3
#define N_EACH 2

#define LOCK atomic { !locked -> locked = true }
#define UNLOCK locked = false

bool locked;
byte inbox;    /* how many are in it */
byte queue;
bool armed;
bool is_ready; /* the context was woken, and has yet to iterate */
byte n_run;

/* With the lock held */
inline empty_inbox ()
{
  d_step { queue = queue + inbox; inbox = 0 }
}

/* q_task_dispatch_deliver() */
proctype pusher ()
{
  byte n = 0;
  bool won;

  do
  :: n < N_EACH ->
       n++;
#ifdef BROKEN_ARM_LAST
       won = false;
       if
       :: armed -> d_step { won = armed; armed = false }
       :: else
       fi;
       inbox++;
#else
       inbox++;
       won = false;
       if
       :: armed -> d_step { won = armed; armed = false } /* compare and exchange */
       :: else
       fi;
#endif
#ifndef BROKEN_WAKE
       if
       :: won -> is_ready = true
       :: else
       fi;
#endif
       if
       :: true
       :: true -> LOCK; empty_inbox (); UNLOCK
       fi
  :: else -> break
  od
}

/* order_source_prepare(), the sleep, and the dispatch of what was found */
proctype owner ()
{
  do
  :: LOCK;
     empty_inbox ();
     if
     :: queue == 0 ->
          armed = true;
#ifndef BROKEN_LOOK_AGAIN
          empty_inbox ();
#endif
     :: else
     fi;
     if
     :: queue == 0 ->
          UNLOCK;
end_asleep:    is_ready -> is_ready = false
     :: else ->
          n_run = n_run + queue;
          queue = 0;
          UNLOCK
     fi
  od
}

init
{
  byte i;

  atomic
    {
      for (i : 1 .. N_PUSHERS) { run pusher () }
      run owner ()
    }

  /* Nobody can go on. */
  timeout -> assert (inbox + queue == 0 && n_run == N_PUSHERS * N_EACH)
}
