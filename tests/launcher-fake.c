/* launcher-fake.c: a worker process that sends what it is told to
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * usage: launcher-fake STEP…
 *
 *   HEX           sends these bytes
 *   slow=HEX      one after the other
 *   endless=HEX   again and again, until nobody takes them
 *   request       waits until a request has come, and has been read
 *   stderr=TEXT   says so on its standard error
 *   usleep=N      waits so many microseconds
 *   close         closes the connection, and goes on
 *   shut          ends what it sends, and goes on
 *   eof           waits until the parent closes the connection
 *   hang          waits until it is killed
 *   deaf          the same, and signals that can be ignored are
 *   signal=N      dies of it
 *   exit=N        exits so
 *   first=PATH    makes that file; if it is there already, goes on after “then”
 *   then          nothing
 *
 * After the last it exits with 0. It talks over what QTASK_FD names, or over its standard input and
 * output.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Nothing waits for ever. */
#define TIME_LIMIT 120

#define REQUEST_TYPE 3

static int in_fd = STDIN_FILENO;
static int out_fd = STDOUT_FILENO;

static void
send_bytes (const unsigned char *data,
            size_t size)
{
  while (size > 0)
    {
      ssize_t n = write (out_fd, data, size);

      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        exit (0);
      data += n;
      size -= n;
    }
}

static int
receive_bytes (unsigned char *data,
               size_t size)
{
  while (size > 0)
    {
      ssize_t n = read (in_fd, data, size);

      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return 0;
      data += n;
      size -= n;
    }

  return 1;
}

static void
await_request (void)
{
  unsigned char header[5];

  do
    {
      size_t size;
      unsigned char *payload;

      if (!receive_bytes (header, sizeof header))
        exit (0);

      size = header[0] | header[1] << 8 | header[2] << 16 | (size_t) header[3] << 24;
      payload = malloc (size + 1);
      if (payload == NULL || !receive_bytes (payload, size))
        exit (0);
      free (payload);
    }
  while (header[4] != REQUEST_TYPE);
}

static unsigned char *
from_hex (const char *hex,
          size_t *size)
{
  unsigned char *data;

  *size = strlen (hex) / 2;
  data = malloc (*size + 1);
  for (size_t i = 0; data != NULL && i < *size; i++)
    {
      unsigned int value;

      if (sscanf (hex + 2 * i, "%2x", &value) != 1)
        abort ();
      data[i] = value;
    }

  return data;
}

static const char *
after (const char *step,
       const char *prefix)
{
  size_t length = strlen (prefix);

  return strncmp (step, prefix, length) == 0 ? step + length : NULL;
}

static void
do_step (const char *step)
{
  const char *text;
  unsigned char *data;
  size_t size;

  if ((text = after (step, "slow=")) != NULL)
    {
      data = from_hex (text, &size);
      for (size_t i = 0; i < size; i++)
        {
          send_bytes (data + i, 1);
          usleep (100);
        }
      free (data);
    }
  else if ((text = after (step, "endless=")) != NULL)
    {
      data = from_hex (text, &size);
      for (;;)
        send_bytes (data, size);
    }
  else if ((text = after (step, "stderr=")) != NULL)
    {
      fputs (text, stderr);
      fflush (stderr);
    }
  else if ((text = after (step, "usleep=")) != NULL)
    {
      usleep (atoi (text));
    }
  else if ((text = after (step, "signal=")) != NULL)
    {
      signal (atoi (text), SIG_DFL);
      raise (atoi (text));
    }
  else if ((text = after (step, "exit=")) != NULL)
    {
      _exit (atoi (text));
    }
  else if (strcmp (step, "request") == 0)
    {
      await_request ();
    }
  else if (strcmp (step, "close") == 0)
    {
      close (in_fd);
      close (out_fd);
    }
  else if (strcmp (step, "shut") == 0)
    {
      if (in_fd == out_fd)
        shutdown (out_fd, SHUT_WR);
      else
        close (out_fd);
    }
  else if (strcmp (step, "eof") == 0)
    {
      unsigned char byte;

      while (receive_bytes (&byte, 1))
        ;
    }
  else if (strcmp (step, "hang") == 0 || strcmp (step, "deaf") == 0)
    {
      if (step[0] == 'd')
        {
          signal (SIGTERM, SIG_IGN);
          signal (SIGHUP, SIG_IGN);
          signal (SIGINT, SIG_IGN);
        }
      for (;;)
        pause ();
    }
  else
    {
      data = from_hex (step, &size);
      send_bytes (data, size);
      free (data);
    }
}

int
main (int argc,
      char **argv)
{
  const char *number = getenv ("QTASK_FD");

  alarm (TIME_LIMIT);
  signal (SIGPIPE, SIG_IGN);

  if (number != NULL)
    in_fd = out_fd = atoi (number);

  for (int i = 1; i < argc; i++)
    {
      const char *path = after (argv[i], "first=");

      if (path == NULL)
        {
          if (strcmp (argv[i], "then") != 0)
            do_step (argv[i]);
          continue;
        }

      if (open (path, O_CREAT | O_EXCL | O_CLOEXEC, 0600) < 0)
        while (i + 1 < argc && strcmp (argv[i], "then") != 0)
          i++;
    }

  _exit (0);
}
