/* q-task-protocol.c: what a launcher and its worker processes say to each other
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Each side first sends a hello, without waiting for that of the other, so a request can
 * follow at once. Then the parent sends a request, and messages and a cancel while the task
 * runs; the worker sends messages and progress, and in the end a result or an error, after
 * which the next request may come. What the parent sent too late for one task comes before the
 * next request, and is dropped.
 *
 * The bytes of a worker are not to be trusted: whatever comes is checked here, type, size and
 * normal form, before anybody else sees it. Numbers are little-endian, and so are variants.
 *
 * There is no I/O here.
 */

#include "config.h"

#include <glib/gi18n-lib.h>
#include <math.h>
#include <string.h>

#include "q-task-error.h"
#include "q-task-protocol-private.h"

static const char magic[8] = "QTASK\r\n\032";

/* Numbers */

static void
put_u32 (GByteArray *head,
         guint32 value)
{
  guint32 wire = GUINT32_TO_LE (value);

  g_byte_array_append (head, (const guint8 *) &wire, sizeof wire);
}

static void
put_u64 (GByteArray *head,
         guint64 value)
{
  guint64 wire = GUINT64_TO_LE (value);

  g_byte_array_append (head, (const guint8 *) &wire, sizeof wire);
}

/* What is read yet; a read beyond it fails. */
typedef struct
{
  const guint8 *data;
  gsize size;
} Reader;

static const guint8 *
take (Reader *reader,
      gsize size)
{
  const guint8 *data = reader->data;

  if (size > reader->size)
    return NULL;

  reader->data += size;
  reader->size -= size;

  return data;
}

static gboolean
take_u8 (Reader *reader,
         guint8 *value)
{
  const guint8 *data = take (reader, 1);

  if (data == NULL)
    return FALSE;

  *value = *data;

  return TRUE;
}

static gboolean
take_u32 (Reader *reader,
          guint32 *value)
{
  const guint8 *data = take (reader, sizeof *value);

  if (data == NULL)
    return FALSE;

  memcpy (value, data, sizeof *value);
  *value = GUINT32_FROM_LE (*value);

  return TRUE;
}

static gboolean
take_u64 (Reader *reader,
          guint64 *value)
{
  const guint8 *data = take (reader, sizeof *value);

  if (data == NULL)
    return FALSE;

  memcpy (value, data, sizeof *value);
  *value = GUINT64_FROM_LE (*value);

  return TRUE;
}

/* A string of @size bytes with no nul in it, and of UTF-8. */
static char *
take_string (Reader *reader,
             gsize size)
{
  const guint8 *data = take (reader, size);

  if (data == NULL || !g_utf8_validate_len ((const char *) data, size, NULL))
    return NULL;

  return g_strndup ((const char *) data, size);
}

static gboolean
set_malformed (GError **error,
               const char *what)
{
  g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
               _("The peer sent a malformed frame: %s"), what);

  return FALSE;
}

/* Hello */

void
q_task_protocol_put_hello (GByteArray *head,
                           guint64 max_message_size)
{
  g_byte_array_append (head, (const guint8 *) magic, sizeof magic);
  put_u32 (head, Q_TASK_PROTOCOL_VERSION);
  put_u64 (head, max_message_size);
}

/* What another version has after the number is not looked at. */
gboolean
q_task_protocol_get_hello (const guint8 *data,
                           gsize size,
                           QTaskHello *hello,
                           GError **error)
{
  Reader reader = { data, size };
  const guint8 *start = take (&reader, sizeof magic);

  if (start == NULL || memcmp (start, magic, sizeof magic) != 0 ||
      !take_u32 (&reader, &hello->version))
    return set_malformed (error, "hello");

  if (hello->version != Q_TASK_PROTOCOL_VERSION)
    {
      g_set_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL,
                   _("The peer speaks version %u of the protocol, and this program version %u; "
                     "use the same QTask on both sides"),
                      hello->version, (guint) Q_TASK_PROTOCOL_VERSION);
      return FALSE;
    }

  if (!take_u64 (&reader, &hello->max_message_size) || reader.size > 0)
    return set_malformed (error, "hello");

  return TRUE;
}

/* Variants */

/* Whether any bytes of the right size make a value of @type: an array of numbers, which is where
 * there may be many. */
static gboolean
is_always_normal (const GVariantType *type,
                  gsize size)
{
  if (!g_variant_type_is_array (type))
    return FALSE;

  switch (g_variant_type_peek_string (g_variant_type_element (type))[0])
    {
    case 'y':
      return TRUE;
    case 'n':
    case 'q':
      return size % 2 == 0;
    case 'i':
    case 'u':
    case 'h':
      return size % 4 == 0;
    case 'x':
    case 't':
    case 'd':
      return size % 8 == 0;
    default:
      return FALSE;
    }
}

/* What is sent for @variant: a new reference to it, or to one that says the same. */
GVariant *
q_task_protocol_to_wire (GVariant *variant)
{
  g_autoptr (GVariant) normal = NULL;

  if (is_always_normal (g_variant_get_type (variant), g_variant_get_size (variant)))
    normal = g_variant_ref (variant);
  else
    normal = g_variant_get_normal_form (variant);

  if (G_BYTE_ORDER == G_BIG_ENDIAN)
    return g_variant_byteswap (normal);

  return g_steal_pointer (&normal);
}

/* Whether @variant can be sent. */
gboolean
q_task_protocol_check_variant (GVariant *variant,
                               guint64 max_message_size,
                               GError **error)
{
  gsize size = variant != NULL ? g_variant_get_size (variant) : 0;

  if (size > max_message_size)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
                   _("The value has %" G_GSIZE_FORMAT " bytes, which is more than the limit "
                     "of %" G_GUINT64_FORMAT),
                      size, max_message_size);
      return FALSE;
    }

  if (variant != NULL && strlen (g_variant_get_type_string (variant)) > Q_TASK_PROTOCOL_OVERHEAD / 4)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_MESSAGE_TOO_LARGE,
                           _("The type of the value is too long"));
      return FALSE;
    }

  return TRUE;
}

/* All but the bytes of the variant itself. */
static void
put_variant_type (GByteArray *head,
                  GVariant *variant)
{
  const char *type = g_variant_get_type_string (variant);
  gsize length = strlen (type);

  put_u32 (head, length);
  g_byte_array_append (head, (const guint8 *) type, length);
}

/* A type of @size bytes, which need not end with a nul, or NULL. */
static const GVariantType *
take_type (Reader *reader,
           gsize size)
{
  const char *type = (const char *) take (reader, size);
  const char *end;

  if (type == NULL || !g_variant_type_string_scan (type, type + size, &end) || end != type + size ||
      !g_variant_type_is_definite ((const GVariantType *) type))
    return NULL;

  return (const GVariantType *) type;
}

/* The rest of the payload. */
static GVariant *
take_variant (Reader *reader)
{
  g_autoptr (GVariant) variant = NULL;
  g_autoptr (GBytes) bytes = NULL;
  const GVariantType *type;
  guint32 length;
  gboolean is_normal;
  gsize size;

  if (!take_u32 (reader, &length) || length > Q_TASK_PROTOCOL_OVERHEAD / 4)
    return NULL;

  type = take_type (reader, length);
  if (type == NULL)
    return NULL;

  /* The copy also aligns it. */
  size = reader->size;
  bytes = g_bytes_new (take (reader, size), size);
  is_normal = is_always_normal (type, size);
  variant = g_variant_ref_sink (g_variant_new_from_bytes (type, bytes, is_normal));

  if (!is_normal && !g_variant_is_normal_form (variant))
    return NULL;

  if (G_BYTE_ORDER == G_BIG_ENDIAN)
    return g_variant_byteswap (variant);

  return g_steal_pointer (&variant);
}

/* Request */

void
q_task_protocol_put_request (GByteArray *head,
                             guint flags,
                             const char *name,
                             GVariant *request)
{
  /* A name is for people: one that is no UTF-8, or longer than a page, is not sent. */
  gsize length = name != NULL ? strnlen (name, 4096) : 0;

  if (length == 4096 || (name != NULL && !g_utf8_validate_len (name, length, NULL)))
    length = 0;

  put_u32 (head, flags);
  put_u32 (head, length);
  if (length > 0)
    g_byte_array_append (head, (const guint8 *) name, length);
  put_variant_type (head, request);
}

gboolean
q_task_protocol_get_request (const guint8 *data,
                             gsize size,
                             guint *flags,
                             char **name,
                             GVariant **request,
                             GError **error)
{
  Reader reader = { data, size };
  g_autofree char *text = NULL;
  guint32 length;

  if (!take_u32 (&reader, flags) || !take_u32 (&reader, &length))
    return set_malformed (error, "request");

  if (length > 0 && (text = take_string (&reader, length)) == NULL)
    return set_malformed (error, "request");

  *request = take_variant (&reader);
  if (*request == NULL)
    return set_malformed (error, "request");

  *name = g_steal_pointer (&text);

  return TRUE;
}

/* Result */

/* @result may be NULL. */
void
q_task_protocol_put_result (GByteArray *head,
                            GVariant *result)
{
  guint8 has_result = result != NULL;

  g_byte_array_append (head, &has_result, 1);
  if (result != NULL)
    put_variant_type (head, result);
}

gboolean
q_task_protocol_get_result (const guint8 *data,
                            gsize size,
                            GVariant **result,
                            GError **error)
{
  Reader reader = { data, size };
  guint8 has_result;

  *result = NULL;

  if (!take_u8 (&reader, &has_result) || has_result > 1)
    return set_malformed (error, "result");

  if (!has_result)
    return reader.size == 0 || set_malformed (error, "result");

  *result = take_variant (&reader);

  return *result != NULL || set_malformed (error, "result");
}

/* Error */

/* The domain goes as text: its number is that of one process. */
void
q_task_protocol_put_error (GByteArray *head,
                           const GError *task_error)
{
  const char *domain = g_quark_to_string (task_error->domain);
  g_autofree char *message = g_utf8_make_valid (task_error->message, -1);
  gsize length;

  if (domain == NULL)
    domain = "";
  length = MIN (strlen (domain), 1024);

  put_u32 (head, (guint32) task_error->code);
  put_u32 (head, length);
  g_byte_array_append (head, (const guint8 *) domain, length);

  /* No message needs more; cut between characters. */
  length = strlen (message);
  if (length > Q_TASK_PROTOCOL_OVERHEAD / 2)
    {
      const char *end = g_utf8_find_prev_char (message, message + Q_TASK_PROTOCOL_OVERHEAD / 2);

      length = end != NULL ? (gsize) (end - message) : 0;
    }
  g_byte_array_append (head, (const guint8 *) message, length);
}

/* A domain is known by its text only once it was used in this process: here those of the
 * libraries that any has. */
static void
ensure_domains (void)
{
  static gsize once;
  static GQuark (*const domains[]) (void) = {
    g_io_error_quark,
    q_task_error_quark,
    g_convert_error_quark,
    g_dbus_error_quark,
    g_file_error_quark,
    g_key_file_error_quark,
    g_markup_error_quark,
    g_number_parser_error_quark,
    g_option_error_quark,
    g_regex_error_quark,
    g_resolver_error_quark,
    g_resource_error_quark,
    g_shell_error_quark,
    g_spawn_error_quark,
    g_spawn_exit_error_quark,
    g_thread_error_quark,
    g_tls_error_quark,
    g_uri_error_quark,
    g_variant_parse_error_quark,
  };

  if (!g_once_init_enter (&once))
    return;

  for (guint i = 0; i < G_N_ELEMENTS (domains); i++)
    domains[i]();

  g_once_init_leave (&once, 1);
}

gboolean
q_task_protocol_get_error (const guint8 *data,
                           gsize size,
                           GError **task_error,
                           GError **error)
{
  Reader reader = { data, size };
  g_autofree char *domain = NULL;
  g_autofree char *message = NULL;
  guint32 code;
  guint32 length;
  GQuark quark;

  if (!take_u32 (&reader, &code) || !take_u32 (&reader, &length))
    return set_malformed (error, "error");

  domain = take_string (&reader, length);
  if (domain == NULL)
    return set_malformed (error, "error");

  message = take_string (&reader, reader.size);
  if (message == NULL)
    return set_malformed (error, "error");

  ensure_domains ();
  quark = length > 0 ? g_quark_try_string (domain) : 0;

  /* A worker does not make quarks here, which are never freed. */
  if (quark != 0)
    *task_error = g_error_new_literal (quark, (int) code, message);
  else
    *task_error = g_error_new (Q_TASK_ERROR, Q_TASK_ERROR_FAILED, "%s (%s, %d)", message, domain,
                               (int) code);

  return TRUE;
}

/* Progress */

void
q_task_protocol_put_progress (GByteArray *head,
                              double fraction,
                              const char *text)
{
  guint64 bits;
  guint8 has_text = text != NULL && strlen (text) < Q_TASK_PROTOCOL_OVERHEAD / 2 &&
                    g_utf8_validate (text, -1, NULL);

  memcpy (&bits, &fraction, sizeof bits);
  put_u64 (head, bits);
  g_byte_array_append (head, &has_text, 1);
  if (has_text)
    g_byte_array_append (head, (const guint8 *) text, strlen (text));
}

gboolean
q_task_protocol_get_progress (const guint8 *data,
                              gsize size,
                              double *fraction,
                              char **text,
                              GError **error)
{
  Reader reader = { data, size };
  guint64 bits;
  guint8 has_text;

  if (!take_u64 (&reader, &bits) || !take_u8 (&reader, &has_text) || has_text > 1 ||
      (!has_text && reader.size > 0))
    return set_malformed (error, "progress");

  memcpy (fraction, &bits, sizeof bits);
  if (!isfinite (*fraction))
    return set_malformed (error, "progress");

  *text = NULL;
  if (has_text)
    {
      *text = take_string (&reader, reader.size);
      if (*text == NULL)
        return set_malformed (error, "progress");
    }

  return TRUE;
}

/* Credit */

void
q_task_protocol_put_credit (GByteArray *head,
                            guint32 credit)
{
  put_u32 (head, credit);
}

gboolean
q_task_protocol_get_credit (const guint8 *data,
                            gsize size,
                            guint32 *credit,
                            GError **error)
{
  Reader reader = { data, size };

  if (!take_u32 (&reader, credit) || reader.size > 0)
    return set_malformed (error, "credit");

  return TRUE;
}
