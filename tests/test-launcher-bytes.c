/* test-launcher-bytes.c: what a worker process may send, and what not
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The bytes of a process are not to be trusted. Whatever they are, the task that it runs has an error
 * of CRASHED or PROTOCOL, and nothing else notices; nothing is allocated because they say so.
 */

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "test-launcher-util.h"

/* These are the bytes, whatever the library makes of them. */
enum
{
  MESSAGE = 1,
  HELLO = 2,
  REQUEST = 3,
  CANCEL = 4,
  CREDIT = 5,
  PROGRESS = 6,
  RESULT = 7,
  ERROR = 8,
  END = 9
};

/* The process sends a hello, the bytes when a request has come, and does no more. Each time it is
 * started, it is the same. */
static QTaskLauncher *
new_sender (const char *hex,
            const char *then)
{
  g_autofree char *hello = fake_hello ();

  return launcher_new_fake (hello, "request", hex, then, NULL);
}

static void
assert_is_protocol_error (const char *hex,
                          gboolean with_channel)
{
  QTaskLauncher *launcher = new_sender (hex, "hang");
  Answer answer = ANSWER_INIT;

  answer_prepare (&answer);
  if (with_channel)
    g_assert_true (q_task_open_channel (answer.task, NULL));
  answer_run (&answer, launcher, "", NULL);
  answer_wait (&answer);
  if (!g_error_matches (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL))
    g_error ("%s gives %s", hex, answer.error != NULL ? answer.error->message : "no error");
  assert_contains (answer.error->message, "launcher-fake");
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* The wire format is fixed: another version of this library is at the other end. */
static void
test_wire_format (void)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *result = fake_result ("('a', true)");
  g_autofree char *no_result = fake_result (NULL);
  g_autofree char *error = fake_error (G_IO_ERROR, 1, "No");
  g_autofree char *progress = fake_progress (0.5, "a");
  g_autofree char *plain_progress = fake_progress (1, NULL);
  g_autofree char *domain = fake_bytes (g_quark_to_string (G_IO_ERROR), strlen (g_quark_to_string (G_IO_ERROR)));
  g_autofree char *whole_error = g_strconcat ("1a00000008", "01000000", "10000000", domain, "4e6f", NULL);

  g_assert_cmpstr (hello, ==, "1400000002"
                              "515441534b0d0a1a"
                              "01000000"
                              "0000000400000000");
  g_assert_cmpstr (result, ==, "0d00000007"
                               "01"
                               "04000000"
                               "28736229"
                               "61000102");
  g_assert_cmpstr (no_result, ==, "0100000007"
                                  "00");
  g_assert_cmpstr (error, ==, whole_error);
  g_assert_cmpstr (progress, ==, "0a00000006"
                                 "000000000000e03f"
                                 "01"
                                 "61");
  g_assert_cmpstr (plain_progress, ==, "0900000006"
                                       "000000000000f03f"
                                       "00");
}

/* Cut */

static void
test_cut (gconstpointer then)
{
  g_autofree char *hello = fake_hello ();
  g_autofree char *message = fake_frame (MESSAGE, "text", 4);
  g_autofree char *progress = fake_progress (0.5, "half");
  g_autofree char *end = fake_frame (END, NULL, 0);
  g_autofree char *result = fake_result ("('done', 5)");
  g_autofree char *all = g_strconcat (hello, message, progress, end, result, NULL);
  gsize size = strlen (all) / 2;
  gsize step = test_is_slow () ? 13 : 1;

  for (gsize i = 0; i <= size; i += i + step > size && i < size ? size - i : step)
    {
      g_autofree char *part = g_strndup (all, 2 * i);
      QTaskLauncher *launcher = launcher_new_fake ("request", part, then, "deaf", NULL);
      Answer answer = ANSWER_INIT;

      q_task_launcher_set_kill_timeout (launcher, 500);
      g_assert_true (q_task_open_channel (answer_prepare (&answer), NULL));
      answer_run (&answer, launcher, "", NULL);
      answer_wait (&answer);
      if (i == size)
        {
          g_assert_no_error (answer.error);
          assert_variant (answer.result, "('done', 5)");
        }
      else
        {
          if (answer.error == NULL || answer.error->domain != Q_TASK_ERROR ||
              (answer.error->code != Q_TASK_ERROR_CRASHED && answer.error->code != Q_TASK_ERROR_PROTOCOL))
            g_error ("%s after %d bytes gives %s", (const char *) then, (int) i,
                     answer.error != NULL ? answer.error->message : "no error");
        }
      answer_clear (&answer);
      g_assert_finalize_object (launcher);
    }
}

/* Sizes */

static void
test_oversize (void)
{
  const guint32 sizes[] = { 64 * 1024 * 1024 + 64 * 1024 + 1, 0x7fffffff, 0x80000000, 0xffffffff };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    for (guint8 type = MESSAGE; type <= END; type += 2)
      {
        guint8 header[] = { sizes[i], sizes[i] >> 8, sizes[i] >> 16, sizes[i] >> 24, type };
        g_autofree char *hex = fake_bytes (header, sizeof header);

        assert_is_protocol_error (hex, TRUE);
      }
}

static gsize
get_size_in_memory (void)
{
  g_autofree char *text = NULL;
  long unused;
  long pages;

  g_assert_true (g_file_get_contents ("/proc/self/statm", &text, NULL, NULL));
  g_assert_cmpint (sscanf (text, "%ld %ld", &unused, &pages), ==, 2);

  return (gsize) pages * (gsize) sysconf (_SC_PAGESIZE);
}

/* It is allowed to be so large, but there is nothing of it yet. */
static void
test_large_and_nothing_in_it (void)
{
  const guint8 header[] = { 0, 0, 0, 4, RESULT, 1, 2 };
  g_autofree char *hex = fake_bytes (header, sizeof header);
  QTaskLauncher *launcher = new_sender (hex, "hang");
  gsize size = get_size_in_memory ();
  Answer answers[4];

  q_task_launcher_set_max_processes (launcher, 4);
  for (int i = 0; i < 4; i++)
    {
      answers[i] = (Answer) ANSWER_INIT;
      q_task_set_timeout (answer_prepare (&answers[i]), 50 * G_TIME_SPAN_MILLISECOND);
      answer_run (&answers[i], launcher, "", NULL);
    }
  for (int i = 0; i < 4; i++)
    {
      answer_wait (&answers[i]);
      g_assert_error (answers[i].error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    }
  g_assert_cmpuint (get_size_in_memory (), <, size + 50000000);
  for (int i = 0; i < 4; i++)
    answer_clear (&answers[i]);
  g_assert_finalize_object (launcher);
}

/* Garbage */

static void
test_garbage (void)
{
  const guint n = test_is_slow () ? 10 : 150;

  for (guint i = 0; i < n; i++)
    {
      guint8 bytes[64];
      guint size = (guint) g_test_rand_int_range (1, sizeof bytes);
      g_autofree char *hex = NULL;
      g_autofree char *hello = fake_hello ();
      QTaskLauncher *launcher;
      g_autoptr (GError) error = NULL;

      for (guint j = 0; j < size; j++)
        bytes[j] = (guint8) g_test_rand_int ();
      /* Half of them have what looks like a frame. */
      if (i % 2 == 0)
        {
          bytes[0] = (guint8) (size > 5 ? size - 5 : 0);
          bytes[1] = bytes[2] = bytes[3] = 0;
          bytes[4] = (guint8) g_test_rand_int_range (0, 12);
        }
      hex = fake_bytes (bytes, size);
      /* A third of them do not say hello before. */
      launcher = launcher_new_fake (i % 3 == 0 ? "request" : hello, i % 3 == 0 ? hex : "request", hex, "exit=0",
                                    NULL);
      error = launcher_call_error (launcher, "", NULL);
      if (error->domain == Q_TASK_ERROR)
        g_assert_true (error->code == Q_TASK_ERROR_CRASHED || error->code == Q_TASK_ERROR_PROTOCOL ||
                       error->code == Q_TASK_ERROR_FAILED);
      g_assert_finalize_object (launcher);
    }
}

/* Frames of types that are unknown, or that only go the other way */
static void
test_types (void)
{
  const guint8 types[] = { 0, REQUEST, CANCEL, 10, 31, 32, 33, 64, 128, 255 };

  for (guint i = 0; i < G_N_ELEMENTS (types); i++)
    {
      g_autofree char *hex = fake_frame (types[i], "\0\0\0\0", 4);

      assert_is_protocol_error (hex, TRUE);
    }
}

static void
test_message_without_channel (void)
{
  g_autofree char *message = fake_frame (MESSAGE, "text", 4);
  g_autofree char *end = fake_frame (END, NULL, 0);

  assert_is_protocol_error (message, FALSE);
  assert_is_protocol_error (end, FALSE);
}

static void
test_message_over_the_limit (void)
{
  guint8 bytes[2000] = { 0 };
  g_autofree char *hex = fake_frame (MESSAGE, bytes, sizeof bytes);
  QTaskLauncher *launcher = new_sender (hex, "hang");
  Answer answer = ANSWER_INIT;

  q_task_launcher_set_max_message_size (launcher, 1000);
  g_assert_true (q_task_open_channel (answer_prepare (&answer), NULL));
  answer_run (&answer, launcher, "", NULL);
  answer_wait (&answer);
  g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

/* Credit for what was never sent */
static void
test_credit (void)
{
  const struct
  {
    const char *bytes;
    gsize size;
  } payloads[] = { { "\1\0\0\0", 4 }, { "\377\377\377\377", 4 }, { "\0\0\0", 3 }, { "\0\0\0\0\0", 5 }, { "", 0 } };

  for (guint i = 0; i < G_N_ELEMENTS (payloads); i++)
    {
      g_autofree char *hex = fake_frame (CREDIT, payloads[i].bytes, payloads[i].size);

      assert_is_protocol_error (hex, TRUE);
    }
}

/* Hellos */

static char *
other_hello (const char *magic,
             guint32 version,
             gsize size)
{
  guint8 payload[64] = { 0 };

  memcpy (payload, magic, 8);
  payload[8] = (guint8) version;
  payload[9] = (guint8) (version >> 8);
  payload[10] = (guint8) (version >> 16);
  payload[11] = (guint8) (version >> 24);

  return fake_frame (HELLO, payload, size);
}

#define MAGIC "QTASK\r\n\032"

static void
test_other_version (void)
{
  const guint32 versions[] = { 0, 2, 17, 4000000000 };
  const gsize sizes[] = { 12, 20, 64 };

  for (guint i = 0; i < G_N_ELEMENTS (versions); i++)
    for (guint j = 0; j < G_N_ELEMENTS (sizes); j++)
      {
        g_autofree char *hello = other_hello (MAGIC, versions[i], sizes[j]);
        g_autofree char *number = g_strdup_printf ("version %u", versions[i]);
        QTaskLauncher *launcher = launcher_new_fake (hello, "hang", NULL);
        g_autoptr (GError) error = launcher_call_error (launcher, "", NULL);

        g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
        assert_contains (error->message, number);
        assert_contains (error->message, "version 1");
        assert_contains (error->message, "launcher-fake");
        g_assert_finalize_object (launcher);
      }
}

static void
test_bad_hello (void)
{
  char *frames[] = {
    other_hello ("QTASK\r\n\033", 1, 20),
    other_hello ("qtask\r\n\032", 1, 20),
    other_hello (MAGIC, 1, 0),
    other_hello (MAGIC, 1, 7),
    other_hello (MAGIC, 1, 8),
    other_hello (MAGIC, 1, 11),
    other_hello (MAGIC, 1, 12),
    other_hello (MAGIC, 1, 19),
    other_hello (MAGIC, 1, 21),
    /* Another one first */
    fake_progress (0.5, NULL),
    fake_result ("5"),
    fake_frame (MESSAGE, "text", 4),
    fake_frame (END, NULL, 0),
  };

  for (guint i = 0; i < G_N_ELEMENTS (frames); i++)
    {
      QTaskLauncher *launcher = launcher_new_fake (frames[i], "hang", NULL);

      assert_call_fails (launcher, "", NULL, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL, "launcher-fake");
      g_assert_finalize_object (launcher);
      g_free (frames[i]);
    }
}

static void
test_second_hello (void)
{
  g_autofree char *hello = fake_hello ();

  assert_is_protocol_error (hello, FALSE);
}

/* Variants */

static char *
result_frame (const char *type,
              gsize type_size,
              const void *data,
              gsize size)
{
  g_autoptr (GByteArray) payload = g_byte_array_new ();
  guint32 length = GUINT32_TO_LE ((guint32) type_size);
  guint8 one = 1;

  g_byte_array_append (payload, &one, 1);
  g_byte_array_append (payload, (guint8 *) &length, sizeof length);
  g_byte_array_append (payload, (const guint8 *) type, (guint) type_size);
  g_byte_array_append (payload, data, (guint) size);

  return fake_frame (RESULT, payload->data, payload->len);
}

static void
test_not_normal (void)
{
  const struct
  {
    const char *type;
    gsize size;
    const char *data;
  } results[] = {
    { "b", 1, "\2" },
    { "b", 0, "" },
    { "u", 3, "\0\0\0" },
    { "u", 5, "\0\0\0\0\0" },
    { "s", 0, "" },
    { "s", 1, "x" },
    { "s", 3, "x\0y" },
    { "s", 3, "\xff\xfe\0" },
    { "o", 2, "x\0" },
    { "g", 2, "!\0" },
    { "as", 4, "ab\0\5" },
    { "as", 6, "a\0b\0\4\2" },
    { "(su)", 4, "a\0\0\0" },
    { "(yu)", 8, "\1\1\0\0\0\0\0\0" },
    { "v", 3, "\0\0x" },
    { "v", 2, "\0z" },
    { "a{sv}", 3, "abc" },
    { "ms", 2, "x\1" },
    { "()", 1, "\1" },
    { "()", 0, "" },
    { "ai", 5, "\0\0\0\0\0" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (results); i++)
    {
      g_autofree char *hex = result_frame (results[i].type, strlen (results[i].type), results[i].data,
                                           results[i].size);

      assert_is_protocol_error (hex, FALSE);
    }
}

static void
test_bad_types_of_variants (void)
{
  const char *types[] = { "", "z", "*", "?", "r", "a*", "a?", "m", "a", "(", "(i", "i)", "{sv}}", "a{vs}", "ii", "s " };
  g_autofree char *deep = g_strnfill (1000, 'a');
  g_autofree char *parentheses = g_strnfill (1000, '(');
  g_autofree char *hex = NULL;

  for (guint i = 0; i < G_N_ELEMENTS (types); i++)
    {
      g_autofree char *frame = result_frame (types[i], strlen (types[i]), "\0\0\0\0", 4);

      assert_is_protocol_error (frame, FALSE);
    }

  deep[999] = 'i';
  for (guint i = 0; i < 2; i++)
    {
      g_autofree char *frame = result_frame (i == 0 ? deep : parentheses, 1000, "", 0);

      assert_is_protocol_error (frame, FALSE);
    }

  hex = result_frame ("i\0i", 3, "\0\0\0\0", 4);
  assert_is_protocol_error (hex, FALSE);
}

/* One in the other, deeper than anybody can look */
static void
test_nested_variants (void)
{
  const guint depth = 100000;
  g_autoptr (GByteArray) data = g_byte_array_new ();
  g_autofree char *hex = NULL;

  g_byte_array_append (data, (const guint8 *) "\1\0y", 3);
  for (guint i = 0; i < depth; i++)
    g_byte_array_append (data, (const guint8 *) "\0v", 2);
  hex = result_frame ("v", 1, data->data, data->len);
  /* It is too long for a command line. */
  hex[2 * 40000] = '\0';
  {
    guint32 size = 40000 - 5;
    guint8 header[] = { size, size >> 8, size >> 16, size >> 24, RESULT };
    g_autofree char *head = fake_bytes (header, sizeof header);

    memcpy (hex, head, 10);
  }
  assert_is_protocol_error (hex, FALSE);
}

/* Payloads of each type, cut at each place */
static void
test_cut_payloads (void)
{
  char *frames[] = {
    fake_result ("('text', uint32 5)"),
    fake_error (G_IO_ERROR, 1, ""),
    fake_progress (0.5, NULL),
  };

  for (guint i = 0; i < G_N_ELEMENTS (frames); i++)
    {
      gsize size = strlen (frames[i]) / 2 - 5;

      for (gsize n = 0; n < size; n += test_is_slow () ? 7 : 1)
        {
          guint8 header[] = { n, n >> 8, 0, 0, 0 };
          g_autofree char *head = fake_bytes (header, 4);
          g_autofree char *part = g_strndup (frames[i] + 8, 2 + 2 * n);
          g_autofree char *hex = g_strconcat (head, part, NULL);

          assert_is_protocol_error (hex, FALSE);
        }
      g_free (frames[i]);
    }
}

/* Other payloads */

static void
test_bad_progress (void)
{
  const struct
  {
    const char *bytes;
    gsize size;
  } payloads[] = {
    { "\0\0\0\0\0\0\370\177\0", 9 },         /* not a number */
    { "\0\0\0\0\0\0\360\177\0", 9 },         /* infinite */
    { "\0\0\0\0\0\0\360\377\0", 9 },         /* the other way */
    { "\0\0\0\0\0\0\340\77\2", 9 },          /* neither with text nor without */
    { "\0\0\0\0\0\0\340\77\0text", 13 },     /* text where there is none */
    { "\0\0\0\0\0\0\340\77\1\377\376", 11 }, /* text of no characters */
    { "\0\0\0\0\0\0\340\77\1a\0b", 12 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (payloads); i++)
    {
      g_autofree char *hex = fake_frame (PROGRESS, payloads[i].bytes, payloads[i].size);

      assert_is_protocol_error (hex, FALSE);
    }
}

/* Beyond both ends: it is a number, and brought between them, as everywhere. */
static void
test_progress_out_of_range (void)
{
  const double values[] = { -1, 1.5, 1e300, -0.0 };

  for (guint i = 0; i < G_N_ELEMENTS (values); i++)
    {
      g_autofree char *progress = fake_progress (values[i], NULL);
      g_autofree char *result = fake_result (NULL);
      g_autofree char *both = g_strconcat (progress, result, NULL);
      QTaskLauncher *launcher = new_sender (both, "eof");
      Answer answer = ANSWER_INIT;

      answer_start (&answer, launcher, "", NULL);
      answer_wait (&answer);
      g_assert_no_error (answer.error);
      g_assert_cmpfloat (q_task_get_progress (answer.task), >=, 0);
      g_assert_cmpfloat (q_task_get_progress (answer.task), <=, 1);
      answer_clear (&answer);
      g_assert_finalize_object (launcher);
    }
}

static void
test_bad_errors (void)
{
  const struct
  {
    const char *bytes;
    gsize size;
  } payloads[] = {
    { "\0\0\0\0\377\377\377\377domain", 14 },
    { "\0\0\0\0\7\0\0\0domain", 14 },
    { "\0\0\0\0\2\0\0\0\377\376text", 14 },
    { "\0\0\0\0\2\0\0\0abte\0t", 14 },
    { "\0\0\0\0\2\0\0\0abtex\377", 14 },
    { "\0\0\0\0\2\0\0\0a\0text", 14 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (payloads); i++)
    {
      g_autofree char *hex = fake_frame (ERROR, payloads[i].bytes, payloads[i].size);

      assert_is_protocol_error (hex, FALSE);
    }
}

static void
test_strange_errors (void)
{
  const struct
  {
    const char *bytes;
    gsize size;
  } payloads[] = {
    { "\0\0\0\0\0\0\0\0", 8 },
    { "\0\0\0\0\0\0\0\0text", 12 },
    { "\377\377\377\377\2\0\0\0xy", 10 },
    { "\0\0\0\0\2\0\0\0xy%s%n%d", 16 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (payloads); i++)
    {
      g_autofree char *hex = fake_frame (ERROR, payloads[i].bytes, payloads[i].size);
      QTaskLauncher *launcher = new_sender (hex, "eof");
      g_autoptr (GError) error = launcher_call_error (launcher, "", NULL);

      g_assert_error (error, Q_TASK_ERROR, Q_TASK_ERROR_FAILED);
      g_assert_nonnull (error->message);
      g_assert_finalize_object (launcher);
    }
}

/* A process cannot have the parent believe that its owner has stopped it, or is lost. */
static void
test_errors_of_the_library (void)
{
  for (int code = Q_TASK_ERROR_FAILED; code <= Q_TASK_ERROR_FORKED; code++)
    {
      g_autofree char *hex = fake_error (Q_TASK_ERROR, code, "text");
      QTaskLauncher *launcher = new_sender (hex, "eof");

      assert_call_fails (launcher, "", NULL, Q_TASK_ERROR, code, "text");
      g_assert_finalize_object (launcher);
    }
}

/* More than one result */

static char *
new_flag (void)
{
  static int n;
  g_autofree char *name = g_strdup_printf ("first-%d", n++);
  g_autofree char *path = g_build_filename (launcher_test_get_folder (), name, NULL);

  return g_strconcat ("first=", path, NULL);
}

/* The first process sends two results; another one answers what comes later. */
static void
test_second_result (gconstpointer data)
{
  const char *pause = data;
  g_autofree char *hello = fake_hello ();
  g_autofree char *first = fake_result ("'first'");
  g_autofree char *stray = fake_result ("'stray'");
  g_autofree char *right = fake_result ("'right'");
  g_autofree char *both = g_strconcat (first, stray, NULL);
  g_autofree char *flag = new_flag ();
  QTaskLauncher *launcher;
  Answer answers[2] = { ANSWER_INIT, ANSWER_INIT };

  if (pause == NULL)
    launcher = launcher_new_fake (hello, "request", flag, both, "request", right, "eof", "then", right, "eof", NULL);
  else
    launcher = launcher_new_fake (hello, "request", flag, first, pause, stray, "eof", "then", right, "eof", NULL);

  answer_start (&answers[0], launcher, "", NULL);
  if (pause == NULL)
    answer_start (&answers[1], launcher, "", NULL);
  answer_wait (&answers[0]);
  assert_variant (answers[0].result, "'first'");

  if (pause != NULL)
    {
      g_usleep (50 * G_TIME_SPAN_MILLISECOND);
      answer_start (&answers[1], launcher, "", NULL);
    }
  answer_wait (&answers[1]);
  g_assert_no_error (answers[1].error);
  assert_variant (answers[1].result, "'right'");

  answer_clear (&answers[0]);
  answer_clear (&answers[1]);
  g_assert_finalize_object (launcher);
}

/* What one of them has done wrong is of no matter to those that wait. */
static void
test_others_go_on (void)
{
  char *faults[] = {
    fake_frame (200, "", 0),
    fake_frame (RESULT, "\1", 1),
    fake_bytes ("\377\377\377\377\7", 5),
    fake_hello (),
    g_strdup ("exit=1"),
    g_strdup ("signal=9"),
  };

  for (guint i = 0; i < G_N_ELEMENTS (faults); i++)
    {
      g_autofree char *hello = fake_hello ();
      g_autofree char *right = fake_result ("'right'");
      g_autofree char *flag = new_flag ();
      QTaskLauncher *launcher = launcher_new_fake (hello, "request", flag, faults[i], "hang", "then", right, "request",
                                                   right, "request", right, "eof", NULL);
      Answer answers[4];

      for (int j = 0; j < 4; j++)
        {
          answers[j] = (Answer) ANSWER_INIT;
          answer_start (&answers[j], launcher, "", NULL);
        }
      for (int j = 0; j < 4; j++)
        {
          answer_wait (&answers[j]);
          if (j == 0)
            {
              g_assert_true (g_error_matches (answers[j].error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL) ||
                             g_error_matches (answers[j].error, Q_TASK_ERROR, Q_TASK_ERROR_CRASHED));
            }
          else
            {
              g_assert_no_error (answers[j].error);
              assert_variant (answers[j].result, "'right'");
            }
          answer_clear (&answers[j]);
        }
      g_assert_finalize_object (launcher);
      g_free (faults[i]);
    }
}

/* What comes after the end of its channel */
static void
test_after_the_end (void)
{
  g_autofree char *end = fake_frame (END, NULL, 0);
  g_autofree char *message = fake_frame (MESSAGE, "text", 4);
  g_autofree char *result = fake_result ("'done'");
  g_autofree char *all = g_strconcat (end, end, message, end, result, NULL);
  QTaskLauncher *launcher = new_sender (all, "eof");
  Answer answer = ANSWER_INIT;

  g_assert_true (q_task_open_channel (answer_prepare (&answer), NULL));
  answer_run (&answer, launcher, "", NULL);
  answer_wait (&answer);
  /* Either of them, but one of them */
  if (answer.error != NULL)
    g_assert_error (answer.error, Q_TASK_ERROR, Q_TASK_ERROR_PROTOCOL);
  answer_clear (&answer);
  g_assert_finalize_object (launcher);
}

int
main (int argc,
      char **argv)
{
  launcher_test_init (&argc, &argv);

  launcher_test_add ("/launcher/bytes/are-these", test_wire_format);
  launcher_test_add_data ("/launcher/bytes/cut-by-exit", "exit=0", test_cut);
  launcher_test_add_data ("/launcher/bytes/cut-by-signal", "signal=9", test_cut);
  launcher_test_add_data ("/launcher/bytes/cut-by-close", "close", test_cut);
  launcher_test_add ("/launcher/bytes/oversize", test_oversize);
  launcher_test_add ("/launcher/bytes/large-and-nothing-in-it", test_large_and_nothing_in_it);
  launcher_test_add ("/launcher/bytes/garbage", test_garbage);
  launcher_test_add ("/launcher/bytes/types", test_types);
  launcher_test_add ("/launcher/bytes/message-without-channel", test_message_without_channel);
  launcher_test_add ("/launcher/bytes/message-over-the-limit", test_message_over_the_limit);
  launcher_test_add ("/launcher/bytes/after-the-end", test_after_the_end);
  launcher_test_add ("/launcher/bytes/credit", test_credit);
  launcher_test_add ("/launcher/bytes/hello-of-another-version", test_other_version);
  launcher_test_add ("/launcher/bytes/hello-bad", test_bad_hello);
  launcher_test_add ("/launcher/bytes/hello-twice", test_second_hello);
  launcher_test_add ("/launcher/bytes/variant-not-normal", test_not_normal);
  launcher_test_add ("/launcher/bytes/variant-of-bad-type", test_bad_types_of_variants);
  launcher_test_add ("/launcher/bytes/variant-nested", test_nested_variants);
  launcher_test_add ("/launcher/bytes/payload-cut", test_cut_payloads);
  launcher_test_add ("/launcher/bytes/progress-bad", test_bad_progress);
  launcher_test_add ("/launcher/bytes/progress-out-of-range", test_progress_out_of_range);
  launcher_test_add ("/launcher/bytes/error-bad", test_bad_errors);
  launcher_test_add ("/launcher/bytes/error-strange", test_strange_errors);
  launcher_test_add ("/launcher/bytes/error-of-the-library", test_errors_of_the_library);
  launcher_test_add_data ("/launcher/bytes/second-result-at-once", NULL, test_second_result);
  launcher_test_add_data ("/launcher/bytes/second-result-later", "usleep=2000", test_second_result);
  launcher_test_add ("/launcher/bytes/others-go-on", test_others_go_on);

  return g_test_run ();
}
