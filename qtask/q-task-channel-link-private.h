/* q-task-channel-link-private.h: what carries the messages of a channel
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <gio/gio.h>

#include "q-task-channel-private.h"

G_BEGIN_DECLS

typedef struct _QTaskLink        QTaskLink;
typedef struct _QTaskLinkFuncs   QTaskLinkFuncs;
typedef struct _QTaskWatch       QTaskWatch;
typedef struct _QTaskPending     QTaskPending;
typedef struct _QTaskReceiver    QTaskReceiver;
typedef struct _QTaskOutgoing    QTaskOutgoing;

#define Q_TASK_CHANNEL_DEFAULT_CAPACITY (1024 * 1024)
#define Q_TASK_CHANNEL_DEFAULT_MAX_MESSAGE_SIZE (64 * 1024 * 1024)

typedef enum {
  Q_TASK_LINK_DONE,
  Q_TASK_LINK_WOULD_BLOCK,
  Q_TASK_LINK_CANCELLED,
  Q_TASK_LINK_END,    /* to a reader: the peer has closed, and all was read */
  Q_TASK_LINK_BROKEN, /* to a writer: the peer has closed */
  Q_TASK_LINK_CLOSED, /* this end is closed */
  Q_TASK_LINK_PENDING,
  Q_TASK_LINK_FAILED  /* an error is set */
} QTaskLinkResult;

/* QTaskWatch: wakes a context, once after each time that it was armed. It is in a list of a link
 * while it is armed, with the lock of that list. May be woken from any thread, and outlives
 * its context. */
struct _QTaskWatch
{
  int            ref_count; /* atomic */
  int            in_flight; /* atomic: the delivery is under way */
  QTaskDelivery  delivery;
  QTaskDispatch *dispatch;
  GList          link;      /* in the list, while armed */
  gboolean       is_armed;
  QTaskWatch    *next_woken;
  void         (*woken) (gpointer data,
                         gboolean lost); /* called by the owner; nullable */
  gpointer       data;
  GDestroyNotify destroy;   /* of data, in any thread */
};

QTaskWatch *q_task_watch_new        (QTaskDispatch *dispatch);
QTaskWatch *q_task_watch_new_for_context (GMainContext *context);
QTaskWatch *q_task_watch_ref        (QTaskWatch    *watch);
void        q_task_watch_unref      (QTaskWatch    *watch);

/* With the lock of the list */
void        q_task_watch_arm        (QTaskWatch    *watch,
                                     GQueue        *list);
void        q_task_watch_disarm     (QTaskWatch    *watch,
                                     GQueue        *list);
void        q_task_watch_collect    (QTaskWatch    *watch,
                                     QTaskWatch   **woken);
void        q_task_watch_collect_all (GQueue       *list,
                                      QTaskWatch  **woken);
/* With no lock */
void        q_task_watch_wake       (QTaskWatch    *watch);
void        q_task_watch_wake_all   (QTaskWatch    *woken);

/* QTaskSleeper: a thread that blocks, on its stack. In a list with the lock of that. */
typedef struct
{
  GCond    cond;
  GList    link;
  gboolean is_listed;
  gboolean is_woken;
  gboolean is_cancelled;
  gboolean is_polling;
  gboolean is_waiting;
} QTaskSleeper;

/* QTaskInterrupt: has a function called when a cancellable is cancelled, in any thread. Who ends it
 * does not wait, as g_cancellable_disconnect() does, for others who are told: they may wait for
 * this thread. */
typedef struct _QTaskInterrupt QTaskInterrupt;

QTaskInterrupt *q_task_interrupt_begin (GCancellable   *cancellable,
                                        void          (*func) (gpointer data),
                                        gpointer        data);
void            q_task_interrupt_end   (QTaskInterrupt *interrupt);

/* What a reader wants, and gets: bytes, or a copy in its buffer. */
struct _QTaskReceiver
{
  gpointer  buffer;
  gsize     size;
  gboolean  into_buffer;
  gboolean  keep_error;  /* for the next read, if there is one */
  gsize     message_size;
  GBytes   *bytes;
};

/* What a writer has: @bytes, or @data. */
struct _QTaskOutgoing
{
  GBytes     *bytes;
  const void *data;
  gsize       size;
};

/* An asynchronous write: until it is accepted it is in a list of the link. */
struct _QTaskPending
{
  GList           link;
  QTaskLinkResult result;  /* PENDING until it is decided; with the lock of the link */
  QTaskWatch     *watch;   /* is woken when it is */
  GBytes         *bytes;
  gsize           weight;
  gpointer        message; /* the link's */
};

typedef enum {
  Q_TASK_LINK_TRY,
  Q_TASK_LINK_WAIT
} QTaskLinkMode;

/* Each function may be called from any thread. */
struct _QTaskLinkFuncs
{
  QTaskLinkResult (*read)           (QTaskLink       *link,
                                     QTaskReceiver   *receiver,
                                     QTaskLinkMode    mode,
                                     GCancellable    *cancellable,
                                     GError         **error);
  QTaskLinkResult (*write)          (QTaskLink       *link,
                                     QTaskOutgoing   *outgoing,
                                     QTaskLinkMode    mode,
                                     GCancellable    *cancellable,
                                     GError         **error);
  /* DONE, or an error, or PENDING. */
  QTaskLinkResult (*write_pending)  (QTaskLink       *link,
                                     QTaskPending    *pending);
  /* Takes it back if it is not decided; returns the result. */
  QTaskLinkResult (*stop_pending)   (QTaskLink       *link,
                                     QTaskPending    *pending);
  QTaskLinkResult (*get_pending)    (QTaskLink       *link,
                                     QTaskPending    *pending);
  /* Whether one would not block; arms @watch if it would. */
  gboolean        (*check)          (QTaskLink       *link,
                                     GIOCondition     condition,
                                     QTaskWatch      *watch);
  void            (*disarm)         (QTaskLink       *link,
                                     GIOCondition     condition,
                                     QTaskWatch      *watch);
  /* The descriptor to poll when that is so, or -1; and what to do when it is ready. */
  int             (*get_poll_fd)    (QTaskLink       *link,
                                     GIOCondition     condition);
  void            (*ready)          (QTaskLink       *link,
                                     GIOCondition     condition);
  int             (*get_fd)         (QTaskLink       *link,
                                     GError         **error);
  void            (*limits_changed) (QTaskLink       *link);
  void            (*close)          (QTaskLink       *link);
  gboolean        (*is_closed)      (QTaskLink       *link);
  void            (*set_notify)     (QTaskLink       *link,
                                     void           (*func) (gpointer data),
                                     gpointer         data);
  void            (*free)           (QTaskLink       *link);
};

struct _QTaskLink
{
  const QTaskLinkFuncs *funcs;
  int                   ref_count;        /* atomic */
  gsize                 capacity;         /* atomic */
  gsize                 max_message_size; /* atomic */
  int                   n_reads;          /* atomic: asynchronous ones that wait */
};

void       q_task_link_init       (QTaskLink            *link,
                                   const QTaskLinkFuncs *funcs);
QTaskLink *q_task_link_ref        (QTaskLink            *link);
void       q_task_link_unref      (QTaskLink            *link);
gsize      q_task_link_get_capacity (QTaskLink          *link);
gsize      q_task_link_get_max_message_size (QTaskLink  *link);
gboolean   q_task_link_set_capacity (QTaskLink          *link,
                                     gsize               capacity);
gboolean   q_task_link_set_max_message_size (QTaskLink  *link,
                                     gsize               max_message_size);

/* For @link NULL as for one that is closed. Errors are set where the result is one. */
QTaskLinkResult q_task_link_read      (QTaskLink        *link,
                                       QTaskReceiver    *receiver,
                                       QTaskLinkMode     mode,
                                       GCancellable     *cancellable,
                                       GError          **error);
gboolean        q_task_link_write     (QTaskLink        *link,
                                       QTaskOutgoing    *outgoing,
                                       QTaskLinkMode     mode,
                                       GCancellable     *cancellable,
                                       GError          **error);
void            q_task_link_set_error (GError          **error,
                                       QTaskLinkResult   result);

void       q_task_link_new_pair   (QTaskLink           **first,
                                   QTaskLink           **second);
QTaskLink *q_task_link_new_stream (GSocket              *socket,
                                   int                   in_fd,
                                   int                   out_fd,
                                   GError              **error);

/* Whether a message of @weight may be added to what is under way. */
static inline gboolean
q_task_link_fits (gsize under_way,
                  gsize weight,
                  gsize capacity)
{
  return capacity == 0 || under_way == 0 || (under_way <= capacity && weight <= capacity - under_way);
}

static inline gsize
q_task_link_weigh (gsize size)
{
  return MAX (size, 1);
}

/* QTaskSignal: a descriptor that is readable while it is set */
typedef struct
{
  int      fds[2];
  gboolean is_set;
} QTaskSignal;

#define Q_TASK_SIGNAL_INIT { { -1, -1 }, FALSE }

gboolean q_task_signal_open  (QTaskSignal  *signal,
                              GError      **error);
void     q_task_signal_set   (QTaskSignal  *signal);
void     q_task_signal_unset (QTaskSignal  *signal);
void     q_task_signal_close (QTaskSignal  *signal);

/* That of a channel; NULL if it was made with g_object_new() */
QTaskLink *q_task_channel_get_link (QTaskChannel *channel);

/* Asynchronous calls */

#define Q_TYPE_TASK_CHANNEL_CALL (q_task_channel_call_get_type ())
G_DECLARE_FINAL_TYPE (QTaskChannelCall, q_task_channel_call, Q, TASK_CHANNEL_CALL, GObject)

QTaskChannelCall *q_task_channel_call_new             (QTaskChannel         *channel,
                                                       GCancellable         *cancellable,
                                                       GAsyncReadyCallback   callback,
                                                       gpointer              user_data,
                                                       gpointer              tag);
QTaskChannel     *q_task_channel_call_get_channel     (QTaskChannelCall     *call);
GMainContext     *q_task_channel_call_get_context     (QTaskChannelCall     *call);
GCancellable     *q_task_channel_call_get_cancellable (QTaskChannelCall     *call);
gboolean          q_task_channel_call_is_returned     (QTaskChannelCall     *call);
void              q_task_channel_call_return          (QTaskChannelCall     *call,
                                                       GBytes               *message,
                                                       GError               *error,
                                                       gboolean              dispatched);
gboolean          q_task_channel_call_is_valid        (gpointer              result,
                                                       QTaskChannel         *channel,
                                                       gpointer              tag);
gboolean          q_task_channel_call_propagate       (QTaskChannelCall     *call,
                                                       GBytes              **message,
                                                       GError              **error);

/* Sources */

GSource *q_task_channel_source_new       (QTaskLink    *link,
                                          QTaskChannel *channel,
                                          GIOCondition  condition,
                                          QTaskPending *pending,
                                          GCancellable *cancellable);
void     q_task_channel_source_set_quiet (GSource      *source,
                                          QTaskWatch   *watch);

/* The message function */

typedef struct _QTaskMessages QTaskMessages;

QTaskMessages *q_task_messages_new    (QTaskChannel            *channel,
                                       QTaskLink               *link,
                                       QTaskDispatch           *dispatch,
                                       guint                    thread_id,
                                       GMainContext            *context,
                                       QTaskChannelMessageFunc  func,
                                       gpointer                 opaque,
                                       GDestroyNotify           destroy);
QTaskMessages *q_task_messages_ref    (QTaskMessages           *messages);
void           q_task_messages_unref  (QTaskMessages           *messages);
QTaskWatch    *q_task_messages_ref_watch (QTaskMessages        *messages);
void           q_task_messages_stop   (QTaskMessages           *messages);
gboolean       q_task_messages_is_of  (QTaskMessages           *messages,
                                       QTaskDispatch           *dispatch);
gboolean       q_task_messages_serve  (QTaskMessages           *messages,
                                       QTaskChannel            *channel,
                                       QTaskDispatch           *dispatch,
                                       gint64                   slice);
void           q_task_channel_drop_messages (QTaskChannel      *channel,
                                             QTaskMessages     *messages);

G_END_DECLS
