/* q-task-peer.c: a stream of frames, to a process or from one
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What both sides of a worker process have: descriptors, a decoder for what comes, and a buffer for
 * what did not go at once. It knows types of frames, and nothing of what is in them.
 *
 * Reading is for one thread at a time, and whoever has the peer sees to that. Sending is
 * serialized by its lock, and never blocks.
 */

#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "q-task-channel-stream-private.h"
#include "q-task-peer-private.h"

/* What is copied into one piece to be sent */
#define SMALL_SIZE 1024

/* Above what size the buffer of what is to be sent is given back */
#define OUT_COMPACT_SIZE (256 * 1024)

static gboolean
is_socket (int fd)
{
  int type;
  socklen_t length = sizeof type;

  return getsockopt (fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
}

/* Takes over the descriptors, which may be equal, and do not block if they are no sockets. */
void
q_task_peer_init (QTaskPeer *peer,
                  int in_fd,
                  int out_fd,
                  guint32 known_types,
                  gsize max_size)
{
  memset (peer, 0, sizeof *peer);
  peer->in_fd = in_fd;
  peer->out_fd = out_fd;
  peer->in_is_socket = is_socket (in_fd);
  peer->out_is_socket = is_socket (out_fd);
  peer->out = g_byte_array_new ();
  g_mutex_init (&peer->lock);
  q_task_wire_decoder_init (&peer->decoder, known_types,
                            max_size);
}

/* Nobody is to be reading. */
void
q_task_peer_close (QTaskPeer *peer)
{
  g_mutex_lock (&peer->lock);

  if (peer->in_fd >= 0)
    close (peer->in_fd);
  if (peer->out_fd >= 0 && peer->out_fd != peer->in_fd)
    close (peer->out_fd);
  peer->in_fd = peer->out_fd = -1;
  peer->is_broken = TRUE;
  g_atomic_int_set (&peer->is_pending, FALSE);

  g_mutex_unlock (&peer->lock);
}

/* Nothing is sent or comes any more, while the descriptors stay: a context may poll them. */
void
q_task_peer_shut_down (QTaskPeer *peer)
{
  g_mutex_lock (&peer->lock);

  /* The other side is to see the end also where a fork of this process holds the socket. */
  shutdown (peer->in_fd, SHUT_RDWR);
  if (peer->out_fd != peer->in_fd)
    shutdown (peer->out_fd, SHUT_RDWR);
  peer->is_broken = TRUE;
  g_atomic_int_set (&peer->is_pending, FALSE);

  g_mutex_unlock (&peer->lock);
}

void
q_task_peer_clear (QTaskPeer *peer)
{
  q_task_peer_close (peer);
  q_task_wire_decoder_clear (&peer->decoder);
  g_clear_pointer (&peer->out, g_byte_array_unref);
  g_mutex_clear (&peer->lock);
}

/* As writev(), with no SIGPIPE. */
static gssize
write_vectors (QTaskPeer *peer,
               struct iovec *vectors,
               int n_vectors)
{
  struct msghdr message = { .msg_iov = vectors, .msg_iovlen = n_vectors };
  gssize n;

  if (peer->out_is_socket && n_vectors == 1)
    {
      do
        n = send (peer->out_fd, vectors->iov_base, vectors->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
      while (n < 0 && errno == EINTR);

      return n;
    }

  if (peer->out_is_socket)
    {
      do
        n = sendmsg (peer->out_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      while (n < 0 && errno == EINTR);

      return n;
    }

  return q_task_stream_write_to_pipe (peer->out_fd, vectors, n_vectors);
}

static void
set_pending_locked (QTaskPeer *peer)
{
  g_atomic_int_set (&peer->is_pending, peer->out->len > peer->out_start);
}

static gboolean
break_locked (QTaskPeer *peer)
{
  peer->is_broken = TRUE;
  peer->out_start = 0;
  g_byte_array_set_size (peer->out, 0);
  set_pending_locked (peer);

  return FALSE;
}

/* Sends what was accepted before, as far as it goes. */
gboolean
q_task_peer_flush_locked (QTaskPeer *peer)
{
  while (!peer->is_broken && peer->out->len > peer->out_start)
    {
      struct iovec vector = { peer->out->data + peer->out_start, peer->out->len - peer->out_start };
      gssize n = write_vectors (peer, &vector, 1);

      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        break;
      if (n < 0)
        return break_locked (peer);

      peer->out_start += n;
      if (peer->out_start == peer->out->len)
        {
          /* What a large frame took is given back. */
          if (peer->out->len > OUT_COMPACT_SIZE)
            {
              g_byte_array_unref (peer->out);
              peer->out = g_byte_array_new ();
            }
          g_byte_array_set_size (peer->out, 0);
          peer->out_start = 0;
        }
    }

  set_pending_locked (peer);

  return !peer->is_broken;
}

/* Accepts a frame, and sends it as far as it goes. */
gboolean
q_task_peer_send_locked (QTaskPeer *peer,
                         guint8 type,
                         gconstpointer head,
                         gsize head_size,
                         gconstpointer data,
                         gsize data_size)
{
  guint8 header[Q_TASK_WIRE_HEADER_SIZE];
  guint8 small[SMALL_SIZE];
  struct iovec vectors[3] = {
    { header, sizeof header },
    { (gpointer) head, head_size },
    { (gpointer) data, data_size },
  };
  int n_vectors = G_N_ELEMENTS (vectors);
  gsize size = sizeof header + head_size + data_size;
  gsize sent = 0;

  if (peer->is_broken)
    return FALSE;

  q_task_wire_encode_header (header, head_size + data_size, type);

  /* To copy a little costs less than to send parts. */
  if (size <= sizeof small)
    {
      memcpy (small, header, sizeof header);
      if (head_size > 0)
        memcpy (small + sizeof header, head, head_size);
      if (data_size > 0)
        memcpy (small + sizeof header + head_size, data, data_size);
      vectors[0] = (struct iovec){ small, size };
      n_vectors = 1;
    }

  if (peer->out->len == peer->out_start)
    {
      gssize n = write_vectors (peer, vectors, n_vectors);

      if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        return break_locked (peer);

      sent = n > 0 ? (gsize) n : 0;
    }

  if (G_LIKELY (sent == size))
    return TRUE;

  for (int i = 0; i < n_vectors; i++)
    {
      gsize skip = MIN (sent, vectors[i].iov_len);

      sent -= skip;
      if (vectors[i].iov_len > skip)
        g_byte_array_append (peer->out, (const guint8 *) vectors[i].iov_base + skip,
                             vectors[i].iov_len - skip);
    }

  set_pending_locked (peer);

  return TRUE;
}

/* Reads once into the decoder, which has asked for more. With @wait it may block until there is
 * something to read, but does not promise to. */
QTaskPeerResult
q_task_peer_receive (QTaskPeer *peer,
                     gboolean wait)
{
  guint8 *space;
  gsize size = q_task_wire_decoder_get_space (&peer->decoder, &space);
  gssize n;

  do
    {
      if (peer->in_is_socket)
        n = recv (peer->in_fd, space, size, wait ? 0 : MSG_DONTWAIT);
      else
        n = read (peer->in_fd, space, size);
    }
  while (n < 0 && errno == EINTR);

  if (n > 0)
    {
      q_task_wire_decoder_advance (&peer->decoder, n);
      return Q_TASK_PEER_DATA;
    }

  return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? Q_TASK_PEER_AGAIN
                                                            : Q_TASK_PEER_EOF;
}
