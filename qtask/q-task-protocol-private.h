/* q-task-protocol-private.h: what a launcher and its worker processes say to each other
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <gio/gio.h>

#include "q-task-wire-private.h"

G_BEGIN_DECLS

#define Q_TASK_PROTOCOL_VERSION 1

/* In the environment of a worker process: the number of the socket. */
#define Q_TASK_PROTOCOL_VARIABLE "QTASK_FD"

/* Types of frames. The stream is ordered and one task runs at a time, so none of them says
 * which task it is about. */
enum {
  Q_TASK_FRAME_MESSAGE  = Q_TASK_WIRE_MESSAGE, /* both ways, on the channel of the task */
  Q_TASK_FRAME_HELLO    = 2, /* both ways, first: the version, and the size limit */
  Q_TASK_FRAME_REQUEST  = 3, /* to the worker: a task begins */
  Q_TASK_FRAME_CANCEL   = 4, /* to the worker: it is to stop */
  Q_TASK_FRAME_CREDIT   = 5, /* from the worker: so many bytes of messages were taken in */
  Q_TASK_FRAME_PROGRESS = 6, /* from the worker */
  Q_TASK_FRAME_RESULT   = 7, /* from the worker: the task is over */
  Q_TASK_FRAME_ERROR    = 8, /* the same, with an error */
  Q_TASK_FRAME_END      = 9  /* both ways: this end of the channel is closed */
};

#define Q_TASK_FRAMES_TO_WORKER \
  (Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_MESSAGE) | Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_HELLO) | \
   Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_REQUEST) | Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_CANCEL) | \
   Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_END))
#define Q_TASK_FRAMES_FROM_WORKER \
  (Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_MESSAGE) | Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_HELLO) | \
   Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_CREDIT) | Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_PROGRESS) | \
   Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_RESULT) | Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_ERROR) | \
   Q_TASK_WIRE_TYPE_BIT (Q_TASK_FRAME_END))

/* What a payload may have besides what the size limit counts: the type of a variant, the name
 * of a task, the text of an error */
#define Q_TASK_PROTOCOL_OVERHEAD (64 * 1024)

/* How many bytes of messages may be on their way to a worker, and not taken in */
#define Q_TASK_PROTOCOL_WINDOW (256 * 1024)

/* Of a request */
#define Q_TASK_REQUEST_HAS_CHANNEL (1 << 0)

typedef struct
{
  guint32 version;
  guint64 max_message_size;
} QTaskHello;

/* Payloads: what is small is put into @head; the bytes of a variant follow it in the frame.
 * Whoever reads gets an error of %Q_TASK_ERROR_PROTOCOL for what is not as it must be. */

void      q_task_protocol_put_hello      (GByteArray    *head,
                                          guint64        max_message_size);
gboolean  q_task_protocol_get_hello      (const guint8  *data,
                                          gsize          size,
                                          QTaskHello    *hello,
                                          GError       **error);

GVariant *q_task_protocol_to_wire        (GVariant      *variant);
gboolean  q_task_protocol_check_variant  (GVariant      *variant,
                                          guint64        max_message_size,
                                          GError       **error);

void      q_task_protocol_put_request    (GByteArray    *head,
                                          guint          flags,
                                          const char    *name,
                                          GVariant      *request);
gboolean  q_task_protocol_get_request    (const guint8  *data,
                                          gsize          size,
                                          guint         *flags,
                                          char         **name,
                                          GVariant     **request,
                                          GError       **error);

void      q_task_protocol_put_result     (GByteArray    *head,
                                          GVariant      *result);
gboolean  q_task_protocol_get_result     (const guint8  *data,
                                          gsize          size,
                                          GVariant     **result,
                                          GError       **error);

void      q_task_protocol_put_error      (GByteArray    *head,
                                          const GError  *task_error);
gboolean  q_task_protocol_get_error      (const guint8  *data,
                                          gsize          size,
                                          GError       **task_error,
                                          GError       **error);

void      q_task_protocol_put_progress   (GByteArray    *head,
                                          double         fraction,
                                          const char    *text);
gboolean  q_task_protocol_get_progress   (const guint8  *data,
                                          gsize          size,
                                          double        *fraction,
                                          char         **text,
                                          GError       **error);

void      q_task_protocol_put_credit     (GByteArray    *head,
                                          guint32        credit);
gboolean  q_task_protocol_get_credit     (const guint8  *data,
                                          gsize          size,
                                          guint32       *credit,
                                          GError       **error);

G_END_DECLS
