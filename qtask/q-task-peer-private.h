/* q-task-peer-private.h: a stream of frames, to a process or from one
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "q-task-wire-private.h"

G_BEGIN_DECLS

/* QTaskPeer: a stream of frames. Reading is for one thread at a time; sending is serialized
 * by its lock. Never blocks, and raises no SIGPIPE. */
typedef struct
{
  int              in_fd;
  int              out_fd;
  gboolean         in_is_socket;
  gboolean         out_is_socket;
  QTaskWireDecoder decoder;
  GMutex           lock;
  GByteArray      *out;       /* accepted, and not sent; with the lock */
  gsize            out_start;
  gboolean         is_broken; /* nothing can be sent any more; with the lock */
  int              is_pending; /* whether there is anything in `out`; also read atomically */
} QTaskPeer;

void      q_task_peer_init               (QTaskPeer     *peer,
                                          int            in_fd,
                                          int            out_fd,
                                          guint32        known_types,
                                          gsize          max_size);
void      q_task_peer_close              (QTaskPeer     *peer);
void      q_task_peer_shut_down          (QTaskPeer     *peer);
void      q_task_peer_clear              (QTaskPeer     *peer);

/* With the lock; FALSE if the peer has gone */
gboolean  q_task_peer_send_locked        (QTaskPeer     *peer,
                                          guint8         type,
                                          gconstpointer  head,
                                          gsize          head_size,
                                          gconstpointer  data,
                                          gsize          data_size);
gboolean  q_task_peer_flush_locked       (QTaskPeer     *peer);

typedef enum {
  Q_TASK_PEER_DATA,
  Q_TASK_PEER_AGAIN,
  Q_TASK_PEER_EOF
} QTaskPeerResult;

QTaskPeerResult q_task_peer_receive      (QTaskPeer     *peer,
                                          gboolean       wait);

G_END_DECLS
