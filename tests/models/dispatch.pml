/* dispatch.pml: how a delivery wakes the context of its owner
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A model of qtask/q-task-dispatch.c: threads deliver into the inbox, the owner iterates its
 * context. Nothing may be left in the inbox while the owner sleeps.
 *
 * check.sh removes one thing at a time, and finds a delivery that is lost:
 * BROKEN_LOOK_AGAIN, BROKEN_ARM_LAST, BROKEN_WAKE
 */

#define N_PUSHERS 3
#define N_EACH 2

byte inbox;    /* how many are in it */
bool armed;
bool is_ready; /* the context was woken, and has yet to iterate */
byte n_run;

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
       fi
#endif
  :: else -> break
  od
}

inline take_inbox ()
{
  d_step { n_run = n_run + inbox; found = found + inbox; inbox = 0 }
}

/* order_source_prepare(), the sleep, and the dispatch of what was found */
proctype owner ()
{
  byte found;

  do
  :: found = 0;
     take_inbox ();
     if
     :: found == 0 ->
          armed = true;
#ifndef BROKEN_LOOK_AGAIN
          take_inbox ();
#endif
          if
          :: found == 0 ->
end_asleep:    is_ready -> is_ready = false
          :: else
          fi
     :: else
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
  timeout -> assert (inbox == 0 && n_run == N_PUSHERS * N_EACH)
}
