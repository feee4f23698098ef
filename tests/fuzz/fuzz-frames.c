/* fuzz-frames.c: the decoder of frames, fed with anything
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The first two bytes of an input choose the largest message and the size of the pieces; the
 * rest is what a peer sends. It is decoded at once, in pieces of one size, and in pieces of many: what
 * comes out must not depend on that. Nothing of a claimed size is allocated before it is there.
 *
 * Run with a folder of inputs, as libFuzzer does; `./dev check` does so for some seconds.
 */

#include <string.h>

#include "qtask/q-task-wire-private.h"
#include "qtask/qtask.h"

int LLVMFuzzerTestOneInput (const guint8 *data,
                            gsize size);

static const gsize limits[] = { 1, 2, 5, 16, 100, 255, 256, 4096, 65535, 65536, 65537, 1 << 20, 1 << 26, 0xffffffff };

/* What came out: of each frame its type, its size and its bytes; and how it ended. */
typedef struct
{
  GByteArray *frames;
  guint n_frames;
  QTaskWireResult last;
  gboolean is_whole;
} Outcome;

static void
outcome_clear (Outcome *outcome)
{
  g_byte_array_unref (outcome->frames);
}

/* Takes out all frames there are. FALSE when there can be no more. */
static gboolean
take_frames (QTaskWireDecoder *decoder,
             gsize limit,
             Outcome *outcome)
{
  for (;;)
    {
      g_autoptr (GError) error = NULL;
      QTaskWireFrame frame;

      outcome->last = q_task_wire_decoder_peek (decoder, &frame, &error);

      if (outcome->last == Q_TASK_WIRE_BAD)
        {
          g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
          return FALSE;
        }
      g_assert_no_error (error);
      if (outcome->last == Q_TASK_WIRE_MORE)
        return TRUE;

      g_assert_cmpuint (frame.size, <=, limit);
      g_assert_cmpuint (frame.type, ==, Q_TASK_WIRE_MESSAGE);
      g_byte_array_append (outcome->frames, &frame.type, 1);
      g_byte_array_append (outcome->frames, (const guint8 *) &frame.size, sizeof frame.size);
      if (frame.size > 0)
        g_byte_array_append (outcome->frames, frame.data, (guint) frame.size);

      if (outcome->n_frames % 3 == 2)
        g_assert_null (q_task_wire_decoder_pop (decoder, FALSE));
      else
        {
          g_autoptr (GBytes) bytes = q_task_wire_decoder_pop (decoder, TRUE);
          gsize bytes_size;
          const guint8 *bytes_data = g_bytes_get_data (bytes, &bytes_size);

          g_assert_cmpuint (bytes_size, ==, frame.size);
          if (bytes_size > 0)
            g_assert_true (memcmp (bytes_data, outcome->frames->data + outcome->frames->len - bytes_size,
                                   bytes_size) == 0);
        }
      outcome->n_frames++;
    }
}

/* @piece: how much comes at once; 0 for all that there is space for; -1 for pieces of many sizes */
static void
decode (const guint8 *data,
        gsize size,
        gsize limit,
        int piece,
        Outcome *outcome)
{
  QTaskWireDecoder decoder;
  guint n = 0;

  *outcome = (Outcome){ g_byte_array_new (), 0, Q_TASK_WIRE_MORE, FALSE };
  q_task_wire_decoder_init (&decoder, Q_TASK_WIRE_TYPE_BIT (Q_TASK_WIRE_MESSAGE), limit);

  while (take_frames (&decoder, limit, outcome) && size > 0)
    {
      guint8 *space;
      gsize n_space = q_task_wire_decoder_get_space (&decoder, &space);
      gsize n_now = piece > 0 ? (gsize) piece : piece == 0 ? n_space
                                                           : 1 + (n * 7) % 13;

      g_assert_cmpuint (n_space, >, 0);
      g_assert_cmpuint (n_space, <=, Q_TASK_WIRE_AHEAD_SIZE + size + Q_TASK_WIRE_BUFFER_SIZE);
      n_now = MIN (MIN (n_now, n_space), size);
      memcpy (space, data, n_now);
      q_task_wire_decoder_advance (&decoder, n_now);
      data += n_now;
      size -= n_now;
      n++;
    }

  if (outcome->last != Q_TASK_WIRE_BAD)
    {
      g_autoptr (GError) error = NULL;

      outcome->is_whole = q_task_wire_decoder_finish (&decoder, &error);
      if (!outcome->is_whole)
        g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
    }
  q_task_wire_decoder_clear (&decoder);
}

static void
assert_equal (const Outcome *a,
              const Outcome *b)
{
  g_assert_cmpuint (a->n_frames, ==, b->n_frames);
  g_assert_cmpmem (a->frames->data, a->frames->len, b->frames->data, b->frames->len);
  g_assert_cmpint (a->last, ==, b->last);
  g_assert_cmpint (a->is_whole, ==, b->is_whole);
}

int
LLVMFuzzerTestOneInput (const guint8 *data,
                        gsize size)
{
  Outcome outcomes[4];
  gsize limit;
  int piece;

  if (size < 2)
    return 0;

  limit = limits[data[0] % G_N_ELEMENTS (limits)];
  piece = 1 + data[1];
  decode (data + 2, size - 2, limit, 0, &outcomes[0]);
  decode (data + 2, size - 2, limit, 1, &outcomes[1]);
  decode (data + 2, size - 2, limit, piece, &outcomes[2]);
  decode (data + 2, size - 2, limit, -1, &outcomes[3]);
  for (int i = 1; i < 4; i++)
    assert_equal (&outcomes[0], &outcomes[i]);
  for (int i = 0; i < 4; i++)
    outcome_clear (&outcomes[i]);

  return 0;
}
