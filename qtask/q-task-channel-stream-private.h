/* q-task-channel-stream-private.h: channels over file descriptors
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <poll.h>
#include <sys/uio.h>

#include "q-task-channel-link-private.h"
#include "q-task-wire-private.h"

G_BEGIN_DECLS

/* How long a closed link may go on to send */
#define Q_TASK_STREAM_LINGER_USEC (10 * G_USEC_PER_SEC)

/* How often a thread looks at a descriptor before it sleeps on it: with a peer at work this costs
 * less. When it was in vain it is done more seldom. */
#define Q_TASK_STREAM_LOOK_ROUNDS 16

/* A frame to be sent */
typedef struct
{
  GList link;
  guint8 header[Q_TASK_WIRE_HEADER_SIZE];
  const guint8 *data;
  gsize size;
  gsize sent;            /* of the header and the data */
  GBytes *bytes;         /* owned; NULL if the frame is on the stack of a writer */
  QTaskSleeper *sleeper; /* that writer */
  QTaskPending *pending; /* not accepted yet */
  gboolean is_behind;    /* a writer's, and one that is not accepted is ahead of it */
  QTaskLinkResult result;
} QTaskOutFrame;

typedef struct
{
  QTaskLink link;
  QTaskDispatch *dispatch; /* of the context where it was made */
  GSocket *socket;         /* or NULL */
  gboolean in_is_socket;
  gboolean out_is_socket;
  int is_closed; /* also read atomically without a lock */
  int in_fd;
  int out_fd;

  GMutex in_lock;
  QTaskWireDecoder decoder;
  gboolean at_end;
  gboolean is_drained; /* the last read took all there was */
  guint n_vain_looks;
  guint n_looks_to_skip;
  GError *error;           /* of the peer, for the next read */
  GQueue readers;          /* QTaskSleeper */
  QTaskSleeper *in_poller; /* also read atomically without */
  QTaskSignal in_signal;   /* wakes that */
  GQueue message_watches;
  int poll_fd;             /* for get_fd, readable when in_fd or poll_signal is */
  QTaskSignal poll_signal; /* set while the decoder has a frame */

  GMutex out_lock;
  GQueue frames;   /* QTaskOutFrame */
  int has_frames;  /* also read atomically without */
  gsize under_way; /* weight of what was accepted, or is of a blocked writer, and is not sent */
  gsize behind;    /* of this, what is behind the first that is not accepted */
  GList *first_pending;
  guint n_pending;
  gboolean is_broken;
  guint n_vain_looks_out;
  guint n_looks_to_skip_out;
  QTaskSleeper *out_poller;
  QTaskSignal out_signal;
  GQueue room_watches;
  gboolean flush_is_scheduled;
  QTaskDelivery flush;   /* holds a reference while it is under way */
  GSource *flush_source; /* by the owner */
  gint64 linger_end;
} QTaskStreamLink;

/* A thread that blocks and can be cancelled */
typedef struct
{
  GMutex *mutex;
  QTaskSleeper *sleeper;
  QTaskSignal *signal;
} QTaskStreamCancel;

void            q_task_stream_wake_sleeper               (QTaskSleeper     *sleeper,
                                                          QTaskSignal      *signal);
gboolean        q_task_stream_may_look                   (guint            *n_looks_to_skip);
void            q_task_stream_has_looked                 (gboolean          in_vain,
                                                          guint            *n_vain_looks,
                                                          guint            *n_looks_to_skip);
void            q_task_stream_poll                       (GMutex           *mutex,
                                                          QTaskSignal      *signal,
                                                          struct pollfd    *fds,
                                                          int               n_fds);
gssize          q_task_stream_write_to_pipe              (int               fd,
                                                          const struct iovec *vectors,
                                                          int               n_vectors);
void            q_task_stream_close_fds                  (QTaskStreamLink  *self);
void            q_task_stream_cancelled                  (gpointer          data);
void            q_task_stream_end_frame_locked           (QTaskStreamLink  *self,
                                                          QTaskOutFrame    *frame,
                                                          QTaskLinkResult   result,
                                                          QTaskWatch      **woken);
void            q_task_stream_orphan_frame_locked        (QTaskStreamLink  *self,
                                                          QTaskOutFrame    *frame);
void            q_task_stream_admit_locked               (QTaskStreamLink  *self,
                                                          QTaskWatch      **woken);
void            q_task_stream_break_locked               (QTaskStreamLink  *self,
                                                          QTaskWatch      **woken);
void            q_task_stream_flush_locked               (QTaskStreamLink  *self,
                                                          QTaskWatch      **woken);
void            q_task_stream_flush_delivered            (QTaskDelivery    *delivery,
                                                          gboolean          lost);
gboolean        q_task_stream_must_schedule_flush_locked (QTaskStreamLink  *self);
void            q_task_stream_drop_flush_source          (gpointer          data);
QTaskLinkResult q_task_stream_may_write_locked           (QTaskStreamLink  *self);
QTaskLinkResult q_task_stream_write                      (QTaskLink        *link,
                                                          QTaskOutgoing    *outgoing,
                                                          QTaskLinkMode     mode,
                                                          GCancellable     *cancellable,
                                                          GError          **error);
QTaskLinkResult q_task_stream_write_pending              (QTaskLink        *link,
                                                          QTaskPending     *pending);
QTaskLinkResult q_task_stream_stop_pending               (QTaskLink        *link,
                                                          QTaskPending     *pending);
QTaskLinkResult q_task_stream_get_pending                (QTaskLink        *link,
                                                          QTaskPending     *pending);

G_END_DECLS
