/* pipe.pml: how a writer learns that there is room in a channel again, and a reader of a message
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A model of qtask/q-task-channel-pipe.c: writers append under the lock; the reader takes what there is
 * at once, and consumes without the lock. Nobody may sleep for ever.
 *
 * check.sh removes one thing at a time, and finds somebody who does:
 * BROKEN_LOOK_AGAIN, BROKEN_WAIT_FIRST, BROKEN_TELL_WRITER, BROKEN_TELL_READER
 */

#define N_WRITERS 2
#define N_EACH 3
#define CAPACITY 1

bool locked;
byte written;
byte consumed;
byte inbox;
byte taken;
bool writers_wait;
bool reader_sleeps;
byte n_pending;  /* writers that wait for room */
byte n_accepted; /* of these, that have it, and have yet to go on */
byte n_read;

#define LOCK atomic { !locked -> locked = true }
#define UNLOCK locked = false

inline append_locked ()
{
  inbox++;
  written++;
#ifndef BROKEN_TELL_READER
  reader_sleeps = false
#endif
}

/* admit_locked(): accepts what waits, as far as there is room */
inline admit_locked ()
{
  do
  :: n_pending > 0 && written - consumed < CAPACITY ->
       append_locked ();
       n_pending--;
       n_accepted++
  :: else -> break
  od;
  writers_wait = (n_pending > 0)
}

proctype writer ()
{
  byte n = 0;

  do
  :: n < N_EACH ->
       n++;
       LOCK;
       if
       :: n_pending == 0 && written - consumed < CAPACITY ->
            append_locked ();
            UNLOCK
       :: else ->
            n_pending++;
            writers_wait = true;
#ifndef BROKEN_LOOK_AGAIN
            admit_locked ();
#endif
            UNLOCK;
            atomic { n_accepted > 0 -> n_accepted-- }
       fi
  :: else -> break
  od
}

proctype reader ()
{
  bool wait;

  do
  :: /* pipe_try_read() */
     if
     :: taken == 0 ->
          LOCK;
          taken = inbox;
          inbox = 0;
          if
          :: taken == 0 -> reader_sleeps = true
          :: else
          fi;
          UNLOCK
     :: else
     fi;

     if
     :: taken == 0 ->
end_asleep: !reader_sleeps
     :: else ->
          taken--;
          n_read++;
#ifdef BROKEN_WAIT_FIRST
          wait = writers_wait;
          consumed++;
#else
          consumed++;
          wait = writers_wait;
#endif
#ifndef BROKEN_TELL_WRITER
          if
          :: wait ->
               LOCK;
               admit_locked ();
               UNLOCK
          :: else
          fi
#endif
     fi
  od
}

init
{
  byte i;

  atomic
    {
      for (i : 1 .. N_WRITERS) { run writer () }
      run reader ()
    }

  timeout -> assert (n_read == N_WRITERS * N_EACH && n_pending == 0)
}
