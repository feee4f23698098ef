/* q-task-wire-private.h: frames on file descriptors
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* A frame: the length of the payload, 32 bits, little-endian; its type, 8 bits; the payload. */
#define Q_TASK_WIRE_HEADER_SIZE 5

/* Types; a set of them is a word of bits. */
#define Q_TASK_WIRE_MESSAGE 1
#define Q_TASK_WIRE_TYPE_BIT(type) (1u << (type))

/* What a decoder reads in one call */
#define Q_TASK_WIRE_BUFFER_SIZE (64 * 1024)

/* How much memory a payload gets before its bytes are there */
#define Q_TASK_WIRE_AHEAD_SIZE (1024 * 1024)

typedef enum {
  Q_TASK_WIRE_MORE,
  Q_TASK_WIRE_FRAME,
  Q_TASK_WIRE_BAD
} QTaskWireResult;

typedef struct
{
  guint8        type;
  gsize         size;
  const guint8 *data; /* valid until the frame is popped */
} QTaskWireFrame;

/* To be used by one thread at a time. */
typedef struct
{
  guint32  known_types;
  gsize    max_size;     /* of a payload */
  guint8  *buffer;       /* made when first needed */
  gsize    start;        /* what is in the buffer and not decoded yet */
  gsize    end;
  guint8  *payload;      /* of a frame that is too large for the buffer */
  gsize    payload_size; /* what its header says */
  gsize    payload_allocated;
  gsize    payload_filled;
  guint8   payload_type;
  gboolean in_payload;
} QTaskWireDecoder;

void            q_task_wire_encode_header     (guint8             header[Q_TASK_WIRE_HEADER_SIZE],
                                               gsize              size,
                                               guint8             type);

void            q_task_wire_decoder_init      (QTaskWireDecoder  *decoder,
                                               guint32            known_types,
                                               gsize              max_size);
void            q_task_wire_decoder_clear     (QTaskWireDecoder  *decoder);
void            q_task_wire_decoder_set_max_size
                                              (QTaskWireDecoder  *decoder,
                                               gsize              max_size);
gsize           q_task_wire_decoder_get_space (QTaskWireDecoder  *decoder,
                                               guint8           **space);
void            q_task_wire_decoder_advance   (QTaskWireDecoder  *decoder,
                                               gsize              size);
QTaskWireResult q_task_wire_decoder_peek      (QTaskWireDecoder  *decoder,
                                               QTaskWireFrame    *frame,
                                               GError           **error);
GBytes         *q_task_wire_decoder_pop       (QTaskWireDecoder  *decoder,
                                               gboolean           want_bytes);
gboolean        q_task_wire_decoder_finish    (QTaskWireDecoder  *decoder,
                                               GError           **error);

G_END_DECLS
