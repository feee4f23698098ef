/* q-task-wire.c: frames on file descriptors
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How messages look where they are bytes, and the limits that bytes from a peer are held to.
 * There is no I/O here: whoever reads asks the decoder where the next bytes are to go
 * (get_space), tells how many came (advance), and takes frames out (peek, pop) until it asks for
 * more.
 *
 * Bytes go into one buffer, which holds many small frames. A frame that is too large for it has
 * memory of its own: what has come of it is copied there, the rest is read there directly, and
 * that memory becomes the message. It grows as the bytes arrive, so a header alone makes nobody
 * allocate what it claims.
 *
 * A decoder has no lock: whoever has it sees to it that one thread uses it at a time.
 */

#include "config.h"

#include <glib/gi18n-lib.h>
#include <gio/gio.h>
#include <string.h>

#include "q-task-error.h"
#include "q-task-wire-private.h"

/* @size fits into 32 bits. */
void
q_task_wire_encode_header (guint8 header[Q_TASK_WIRE_HEADER_SIZE],
                           gsize size,
                           guint8 type)
{
  header[0] = size & 0xff;
  header[1] = (size >> 8) & 0xff;
  header[2] = (size >> 16) & 0xff;
  header[3] = (size >> 24) & 0xff;
  header[4] = type;
}

/* Decodes frames of @known_types, with a payload of at most @max_size. */
void
q_task_wire_decoder_init (QTaskWireDecoder *decoder,
                          guint32 known_types,
                          gsize max_size)
{
  memset (decoder, 0, sizeof *decoder);
  decoder->known_types = known_types;
  decoder->max_size = max_size;
}

void
q_task_wire_decoder_clear (QTaskWireDecoder *decoder)
{
  g_clear_pointer (&decoder->buffer, g_free);
  g_clear_pointer (&decoder->payload, g_free);
  decoder->start = 0;
  decoder->end = 0;
  decoder->in_payload = FALSE;
}

/* Holds from the next header on. */
void
q_task_wire_decoder_set_max_size (QTaskWireDecoder *decoder,
                                  gsize max_size)
{
  decoder->max_size = max_size;
}

/* Where the next bytes are to go, and how many may. To be called when peek has asked for
 * more; it is never 0 then. */
gsize
q_task_wire_decoder_get_space (QTaskWireDecoder *decoder,
                               guint8 **space)
{
  if (decoder->in_payload)
    {
      *space = decoder->payload + decoder->payload_filled;
      return decoder->payload_allocated - decoder->payload_filled;
    }

  if (decoder->buffer == NULL)
    decoder->buffer = g_malloc (Q_TASK_WIRE_BUFFER_SIZE);

  /* What is left is part of one frame, for which there is room when it is at the start. */
  if (decoder->start > 0)
    {
      memmove (decoder->buffer, decoder->buffer + decoder->start, decoder->end - decoder->start);
      decoder->end -= decoder->start;
      decoder->start = 0;
    }

  *space = decoder->buffer + decoder->end;
  return Q_TASK_WIRE_BUFFER_SIZE - decoder->end;
}

void
q_task_wire_decoder_advance (QTaskWireDecoder *decoder,
                             gsize size)
{
  if (decoder->in_payload)
    {
      decoder->payload_filled += size;
      g_assert (decoder->payload_filled <= decoder->payload_allocated);
    }
  else
    {
      decoder->end += size;
      g_assert (decoder->end <= Q_TASK_WIRE_BUFFER_SIZE);
    }
}

static gboolean
grow_payload (QTaskWireDecoder *decoder,
              GError **error)
{
  gsize allocated = MIN (decoder->payload_size, decoder->payload_filled + Q_TASK_WIRE_AHEAD_SIZE);
  guint8 *payload;

  if (allocated <= decoder->payload_allocated)
    return TRUE;

  payload = g_try_realloc (decoder->payload, allocated);
  if (payload == NULL)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                   _ ("There is no memory for a message of %" G_GSIZE_FORMAT " bytes"),
                      decoder->payload_size);
      return FALSE;
    }

  decoder->payload = payload;
  decoder->payload_allocated = allocated;

  return TRUE;
}

/* Looks at the next frame, without taking it: the same again and again until it is popped.
 * After %Q_TASK_WIRE_BAD, the decoder can only be cleared. */
QTaskWireResult
q_task_wire_decoder_peek (QTaskWireDecoder *decoder,
                          QTaskWireFrame *frame,
                          GError **error)
{
  const guint8 *header;
  gsize available;
  gsize size;
  guint8 type;

  if (decoder->in_payload)
    {
      if (decoder->payload_filled < decoder->payload_size)
        {
          if (decoder->payload_filled == decoder->payload_allocated && !grow_payload (decoder, error))
            return Q_TASK_WIRE_BAD;

          return Q_TASK_WIRE_MORE;
        }

      frame->type = decoder->payload_type;
      frame->size = decoder->payload_size;
      frame->data = decoder->payload;
      return Q_TASK_WIRE_FRAME;
    }

  available = decoder->end - decoder->start;
  if (available < Q_TASK_WIRE_HEADER_SIZE)
    return Q_TASK_WIRE_MORE;

  header = decoder->buffer + decoder->start;
  size = (gsize) header[0] | (gsize) header[1] << 8 | (gsize) header[2] << 16 | (gsize) header[3] << 24;
  type = header[4];

  if (type >= 32 || (decoder->known_types & Q_TASK_WIRE_TYPE_BIT (type)) == 0)
    {
      g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
                   _ ("The peer sent a frame of the unknown type %u"), type);
      return Q_TASK_WIRE_BAD;
    }

  if (size > decoder->max_size)
    {
      g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
                   _ ("The peer sent a frame of %" G_GSIZE_FORMAT " bytes, which is more than the limit of %" G_GSIZE_FORMAT),
                      size, decoder->max_size);
      return Q_TASK_WIRE_BAD;
    }

  available -= Q_TASK_WIRE_HEADER_SIZE;

  if (available >= size)
    {
      frame->type = type;
      frame->size = size;
      frame->data = header + Q_TASK_WIRE_HEADER_SIZE;
      return Q_TASK_WIRE_FRAME;
    }

  if (size > Q_TASK_WIRE_BUFFER_SIZE - Q_TASK_WIRE_HEADER_SIZE)
    {
      decoder->payload_size = size;
      decoder->payload_type = type;
      decoder->payload_allocated = 0;
      decoder->payload_filled = available;

      if (!grow_payload (decoder, error))
        return Q_TASK_WIRE_BAD;

      memcpy (decoder->payload, header + Q_TASK_WIRE_HEADER_SIZE, available);
      decoder->in_payload = TRUE;
      decoder->start = 0;
      decoder->end = 0;
    }

  return Q_TASK_WIRE_MORE;
}

/* Takes the frame that peek has shown. Returns its payload if that is asked for. */
GBytes *
q_task_wire_decoder_pop (QTaskWireDecoder *decoder,
                         gboolean want_bytes)
{
  GBytes *bytes = NULL;
  const guint8 *header;
  gsize size;

  if (decoder->in_payload)
    {
      g_assert (decoder->payload_filled == decoder->payload_size);

      decoder->in_payload = FALSE;
      if (want_bytes)
        bytes = g_bytes_new_take (g_steal_pointer (&decoder->payload), decoder->payload_size);
      else
        g_clear_pointer (&decoder->payload, g_free);

      return bytes;
    }

  header = decoder->buffer + decoder->start;
  size = (gsize) header[0] | (gsize) header[1] << 8 | (gsize) header[2] << 16 | (gsize) header[3] << 24;

  g_assert (decoder->end - decoder->start >= Q_TASK_WIRE_HEADER_SIZE + size);

  if (want_bytes)
    bytes = g_bytes_new (header + Q_TASK_WIRE_HEADER_SIZE, size);

  decoder->start += Q_TASK_WIRE_HEADER_SIZE + size;
  if (decoder->start == decoder->end)
    decoder->start = decoder->end = 0;

  return bytes;
}

/* There will be no more bytes: FALSE if a frame has begun and is not whole. */
gboolean
q_task_wire_decoder_finish (QTaskWireDecoder *decoder,
                            GError **error)
{
  if (!decoder->in_payload && decoder->start == decoder->end)
    return TRUE;

  g_set_error_literal (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
                       _ ("The peer has gone in the middle of a frame"));
  return FALSE;
}
