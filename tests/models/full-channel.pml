/* full-channel.pml: how the manager of worker processes learns that a channel has room again
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A model of qtask/q-task-process-read.c: the manager reads what a process sends into the channel of its
 * task; a message that does not fit waits there, and meanwhile nobody polls. The owner may leave off
 * reading, if the task is asked to stop: then all comes through without that. Nothing may be left while
 * the manager sleeps.
 *
 * check.sh removes one thing at a time, and finds a message that is left:
 * BROKEN_CLEAR_FIRST, BROKEN_TELL_ROOM, BROKEN_TELL_STOP, BROKEN_STOP_FIRST
 */

#define N_FRAMES 3
#define CAPACITY 1

byte to_read = N_FRAMES;  /* that the process has sent */
byte under_way;           /* in the channel */
byte n_read;              /* by the owner, or dropped with the channel */
bool is_pending;          /* a message waits in the channel */
bool is_stalled;          /* ... which the manager knows; by the manager */
bool is_stopped;
bool has_more;
bool is_woken;

/* q_task_process_serve(); what is in an atomic happens under the lock of the channel */
inline serve ()
{
#ifndef BROKEN_CLEAR_FIRST
  has_more = false;
#endif
  do
  :: is_stalled && !is_pending -> is_stalled = false
  :: is_stalled && is_pending ->
       if
       :: is_stopped ->
            atomic
              {
                if
                :: is_pending -> is_pending = false; under_way++
                :: else
                fi
              };
            is_stalled = false
       :: else -> break
       fi
  :: !is_stalled && to_read > 0 ->
       to_read--;
       atomic
         {
           if
           :: under_way < CAPACITY || is_stopped -> under_way++
           :: else -> is_pending = true; is_stalled = true
           fi
         }
  :: !is_stalled && to_read == 0 -> break
  od
#ifdef BROKEN_CLEAR_FIRST
  ;
  has_more = false
#endif
}

proctype manager ()
{
  do
  :: has_more -> serve ()
  :: else ->
end_asleep:
       if
       :: is_woken -> is_woken = false
       :: !is_stalled && to_read > 0 -> serve ()
       fi
  od
}

/* Makes room, for what waits first, and tells. */
proctype owner ()
{
  bool was_pending;

  do
  :: under_way > 0 ->
       atomic
         {
           under_way--;
           n_read++;
           was_pending = is_pending;
           if
           :: is_pending -> is_pending = false; under_way++
           :: else
           fi
         };
       if
       :: was_pending ->
#ifndef BROKEN_TELL_ROOM
            has_more = true;
            is_woken = true
#else
            skip
#endif
       :: else
       fi
  :: is_stopped -> break
  :: n_read == N_FRAMES -> break
  od
}

/* q_task_process_cancel_task() */
proctype canceller ()
{
  if
  :: true -> skip /* perhaps */
  :: true ->
#ifdef BROKEN_STOP_FIRST
       has_more = true;
       is_woken = true;
       is_stopped = true
#else
       is_stopped = true;
#ifndef BROKEN_TELL_STOP
       has_more = true;
       is_woken = true
#endif
#endif
  fi
}

init
{
  atomic
    {
      run manager ();
      run owner ();
      run canceller ()
    }

  timeout -> assert (to_read == 0 && !is_pending && n_read + under_way == N_FRAMES)
}
