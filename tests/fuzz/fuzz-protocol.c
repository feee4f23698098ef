/* fuzz-protocol.c: what a worker process and its parent say to each other, fed with anything
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The first byte of an input chooses who is listening, the second one the size limit; the rest is a
 * stream of frames. Each is taken apart: what is refused is refused with PROTOCOL and leaves nothing
 * behind; what is accepted is sound, and gives the same bytes when it is put together again.
 *
 * Run with a folder of inputs, as libFuzzer does; `./dev check` does so for some seconds.
 */

#include <math.h>
#include <string.h>

#include "qtask/q-task-protocol-private.h"
#include "qtask/qtask.h"

int LLVMFuzzerTestOneInput (const guint8 *data,
                            gsize size);

static const guint64 limits[] = { 0, 1, 100, 4096, 65536, 1 << 20, 64 << 20, G_MAXUINT32 };

static void
check_refused (const GError *error)
{
  g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
  g_assert_true (g_utf8_validate (error->message, -1, NULL));
}

static void
check_variant (GVariant *variant,
               const QTaskWireFrame *frame)
{
  g_autofree char *text = NULL;

  g_assert_false (g_variant_is_floating (variant));
  g_assert_true (g_variant_is_normal_form (variant));
  g_assert_cmpuint (g_variant_get_size (variant), <=, frame->size);

  /* All of it can be looked at. */
  text = g_variant_print (variant, TRUE);
  g_assert_nonnull (text);
}

/* @head, and the bytes of @variant, if any, are those of the frame. */
static void
check_same (GByteArray *head,
            GVariant *variant,
            const QTaskWireFrame *frame)
{
  if (variant != NULL && g_variant_get_size (variant) > 0)
    {
      g_autoptr (GVariant) native = G_BYTE_ORDER == G_BIG_ENDIAN ? g_variant_byteswap (variant)
                                                                 : g_variant_ref (variant);

      g_byte_array_append (head, g_variant_get_data (native), (guint) g_variant_get_size (native));
    }
  g_assert_cmpmem (head->data, head->len, frame->data, frame->size);
}

static void
take_hello (const QTaskWireFrame *frame)
{
  g_autoptr (GByteArray) head = g_byte_array_new ();
  g_autoptr (GError) error = NULL;
  QTaskHello hello;

  if (!q_task_protocol_get_hello (frame->data, frame->size, &hello, &error))
    {
      check_refused (error);
      return;
    }

  g_assert_no_error (error);
  g_assert_cmpuint (hello.version, ==, Q_TASK_PROTOCOL_VERSION);
  q_task_protocol_put_hello (head, hello.max_message_size);
  check_same (head, NULL, frame);
}

static void
take_request (const QTaskWireFrame *frame)
{
  g_autoptr (GByteArray) head = g_byte_array_new ();
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) request = NULL;
  g_autofree char *name = NULL;
  guint flags;

  if (!q_task_protocol_get_request (frame->data, frame->size, &flags, &name, &request, &error))
    {
      check_refused (error);
      g_assert_null (request);
      return;
    }

  g_assert_no_error (error);
  check_variant (request, frame);
  g_assert_true (name == NULL || g_utf8_validate (name, -1, NULL));
  q_task_protocol_put_request (head, flags, name, request);
  check_same (head, request, frame);
}

static void
take_result (const QTaskWireFrame *frame)
{
  g_autoptr (GByteArray) head = g_byte_array_new ();
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) result = NULL;

  if (!q_task_protocol_get_result (frame->data, frame->size, &result, &error))
    {
      check_refused (error);
      g_assert_null (result);
      return;
    }

  g_assert_no_error (error);
  if (result != NULL)
    check_variant (result, frame);
  q_task_protocol_put_result (head, result);
  check_same (head, result, frame);
}

static void
take_error (const QTaskWireFrame *frame)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GError) task_error = NULL;

  if (!q_task_protocol_get_error (frame->data, frame->size, &task_error, &error))
    {
      check_refused (error);
      g_assert_null (task_error);
      return;
    }

  g_assert_no_error (error);
  g_assert_nonnull (task_error);
  g_assert_cmpuint (task_error->domain, !=, 0);
  g_assert_true (g_utf8_validate (task_error->message, -1, NULL));
}

static void
take_progress (const QTaskWireFrame *frame)
{
  g_autoptr (GByteArray) head = g_byte_array_new ();
  g_autoptr (GError) error = NULL;
  g_autofree char *text = NULL;
  double fraction;

  if (!q_task_protocol_get_progress (frame->data, frame->size, &fraction, &text, &error))
    {
      check_refused (error);
      g_assert_null (text);
      return;
    }

  g_assert_no_error (error);
  g_assert_true (isfinite (fraction));
  g_assert_true (text == NULL || g_utf8_validate (text, -1, NULL));
  q_task_protocol_put_progress (head, fraction, text);
  if (frame->size < Q_TASK_PROTOCOL_OVERHEAD / 4)
    check_same (head, NULL, frame);
}

static void
take_credit (const QTaskWireFrame *frame)
{
  g_autoptr (GByteArray) head = g_byte_array_new ();
  g_autoptr (GError) error = NULL;
  guint32 credit;

  if (!q_task_protocol_get_credit (frame->data, frame->size, &credit, &error))
    {
      check_refused (error);
      return;
    }

  g_assert_no_error (error);
  q_task_protocol_put_credit (head, credit);
  check_same (head, NULL, frame);
}

static void
take (const QTaskWireFrame *frame)
{
  switch (frame->type)
    {
    case Q_TASK_FRAME_HELLO:
      take_hello (frame);
      break;
    case Q_TASK_FRAME_REQUEST:
      take_request (frame);
      break;
    case Q_TASK_FRAME_RESULT:
      take_result (frame);
      break;
    case Q_TASK_FRAME_ERROR:
      take_error (frame);
      break;
    case Q_TASK_FRAME_PROGRESS:
      take_progress (frame);
      break;
    case Q_TASK_FRAME_CREDIT:
      take_credit (frame);
      break;
    default:
      break;
    }
}

int
LLVMFuzzerTestOneInput (const guint8 *data,
                        gsize size)
{
  QTaskWireDecoder decoder;
  guint32 known_types;
  guint64 limit;

  if (size < 2)
    return 0;

  known_types = data[0] % 2 == 0 ? Q_TASK_FRAMES_FROM_WORKER : Q_TASK_FRAMES_TO_WORKER;
  limit = limits[data[1] % G_N_ELEMENTS (limits)];
  data += 2;
  size -= 2;

  q_task_wire_decoder_init (&decoder, known_types, MIN (limit + Q_TASK_PROTOCOL_OVERHEAD, G_MAXUINT32));
  for (;;)
    {
      g_autoptr (GError) error = NULL;
      QTaskWireFrame frame;
      QTaskWireResult result = q_task_wire_decoder_peek (&decoder, &frame, &error);
      guint8 *space;
      gsize n;

      if (result == Q_TASK_WIRE_BAD)
        {
          check_refused (error);
          break;
        }
      g_assert_no_error (error);

      if (result == Q_TASK_WIRE_FRAME)
        {
          g_assert_true (known_types & Q_TASK_WIRE_TYPE_BIT (frame.type));
          take (&frame);
          q_task_wire_decoder_pop (&decoder, FALSE);
          continue;
        }

      if (size == 0)
        break;
      n = MIN (q_task_wire_decoder_get_space (&decoder, &space), size);
      memcpy (space, data, n);
      q_task_wire_decoder_advance (&decoder, n);
      data += n;
      size -= n;
    }
  q_task_wire_decoder_clear (&decoder);

  return 0;
}
