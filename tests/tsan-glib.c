/* tsan-glib.c: makes what GLib orders visible to thread sanitizer
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Thread sanitizer sees pthread calls, atomics of instrumented code, and reads
 * and writes of descriptors. GLib as distributions build it is not
 * instrumented, and its GMutex and GCond are futexes: what they order looks
 * like a race. The functions here stand before GLib's own (they are linked
 * into each test program of such a build, and the dynamic linker finds them
 * first, also for libgobject and libgio), call them, and tell the sanitizer.
 *
 * Said here is only what GLib promises: that a mutex orders, that what is
 * pushed happens before it is popped, that a source is dispatched after it was
 * attached, that what is done with a reference happens before the last one is
 * dropped. Nothing orders accesses that GLib would not: tests/tsan-race.c
 * checks that a race is still found.
 *
 * GRecMutex, GRWLock, g_thread_new() and g_thread_join() are pthread calls,
 * and the wake-ups of a main context are reads and writes of a descriptor:
 * the sanitizer follows these by itself.
 *
 * This file is compiled without instrumentation, and silent until the program
 * itself is initialized: libraries call in here while they are being loaded,
 * before the sanitizer is ready, and there is one thread then.
 */

#include <dlfcn.h>
#include <gio/gio.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/tsan_interface.h>
#include <stdlib.h>

/* Most of these are macros, too. */
#undef g_once
#undef g_once_init_enter
#undef g_once_init_leave
#undef g_idle_add
#undef g_timeout_add
#undef g_timeout_add_seconds
#undef g_atomic_ref_count_dec

static int ready;

__attribute__ ((constructor)) static void
become_ready (void)
{
  char where[64];

  /* Makes the sanitizer read the tables of symbols now: a test that leaves no
   * descriptor to open them with would else have reports without names, which no
   * suppression matches. */
  __sanitizer_symbolize_pc ((void *) g_slice_alloc0, "%f", where, sizeof (where));

  ready = 1;
}

static inline void
acquire (gconstpointer address)
{
  if (ready && address != NULL)
    __tsan_acquire ((void *) address);
}

static inline void
release (gconstpointer address)
{
  if (ready && address != NULL)
    __tsan_release ((void *) address);
}

/* What is allocated between these two may be freed in any thread */

void AnnotateIgnoreWritesBegin (const char *file,
                                int line);
void AnnotateIgnoreWritesEnd (const char *file,
                              int line);

static inline void
hide_begin (void)
{
  if (ready)
    AnnotateIgnoreWritesBegin (__FILE__, __LINE__);
}

static inline void
hide_end (void)
{
  if (ready)
    AnnotateIgnoreWritesEnd (__FILE__, __LINE__);
}

/* The function of GLib that NAME stands before */
#define REAL(name) \
  ({ \
    static __typeof__ (&name) real; \
    __typeof__ (&name) found = __atomic_load_n (&real, __ATOMIC_RELAXED); \
    if (found == NULL) \
      { \
        found = (__typeof__ (&name)) dlsym (RTLD_NEXT, #name); \
        __atomic_store_n (&real, found, __ATOMIC_RELAXED); \
      } \
    found; \
  })

/* GMutex and GCond. Told as mutexes, so that locking in different orders is
 * reported too.
 */

static inline void
mutex_pre_lock (GMutex *mutex,
                unsigned flags)
{
  if (ready)
    __tsan_mutex_pre_lock (mutex, flags);
}

static inline void
mutex_post_lock (GMutex *mutex,
                 unsigned flags)
{
  if (ready)
    __tsan_mutex_post_lock (mutex, flags, 0);
}

static inline void
mutex_pre_unlock (GMutex *mutex)
{
  if (ready)
    __tsan_mutex_pre_unlock (mutex, 0);
}

static inline void
mutex_post_unlock (GMutex *mutex)
{
  if (ready)
    __tsan_mutex_post_unlock (mutex, 0);
}

void
g_mutex_lock (GMutex *mutex)
{
  mutex_pre_lock (mutex, 0);
  REAL (g_mutex_lock)
  (mutex);
  mutex_post_lock (mutex, 0);
}

gboolean
g_mutex_trylock (GMutex *mutex)
{
  gboolean locked;

  mutex_pre_lock (mutex, __tsan_mutex_try_lock);
  locked = REAL (g_mutex_trylock) (mutex);
  mutex_post_lock (mutex, locked ? __tsan_mutex_try_lock
                                 : __tsan_mutex_try_lock | __tsan_mutex_try_lock_failed);

  return locked;
}

void
g_mutex_unlock (GMutex *mutex)
{
  mutex_pre_unlock (mutex);
  REAL (g_mutex_unlock)
  (mutex);
  mutex_post_unlock (mutex);
}

void
g_mutex_clear (GMutex *mutex)
{
  REAL (g_mutex_clear)
  (mutex);
  if (ready)
    __tsan_mutex_destroy (mutex, 0);
}

void
g_cond_wait (GCond *cond,
             GMutex *mutex)
{
  mutex_pre_unlock (mutex);
  mutex_post_unlock (mutex);
  REAL (g_cond_wait)
  (cond, mutex);
  mutex_pre_lock (mutex, 0);
  mutex_post_lock (mutex, 0);
}

gboolean
g_cond_wait_until (GCond *cond,
                   GMutex *mutex,
                   gint64 end_time)
{
  gboolean signalled;

  mutex_pre_unlock (mutex);
  mutex_post_unlock (mutex);
  signalled = REAL (g_cond_wait_until) (cond, mutex, end_time);
  mutex_pre_lock (mutex, 0);
  mutex_post_lock (mutex, 0);

  return signalled;
}

/* GOnce. The fast path of the macros is an atomic read of the same address by
 * instrumented code: it acquires what is released here.
 */

gpointer
g_once_impl (GOnce *once,
             GThreadFunc func,
             gpointer arg)
{
  gpointer result = REAL (g_once_impl) (once, func, arg);

  release ((gconstpointer) &once->status);
  acquire ((gconstpointer) &once->status);

  return result;
}

gboolean (g_once_init_enter) (volatile void *location)
{
  gboolean entered = REAL (g_once_init_enter) (location);

  acquire ((gconstpointer) location);

  return entered;
}

void (g_once_init_leave) (volatile void *location,
                          gsize result)
{
  release ((gconstpointer) location);
  REAL (g_once_init_leave)
  (location, result);
}

/* Slices. What comes from them goes from thread to thread unseen; the C library's
 * memory is followed. Only what libgobject, libgio and programs take is changed:
 * the links of lists and queues inside GLib stay where the sanitizer sees neither
 * their making nor their end, as it does not see the locks that order these.
 */

gpointer
g_slice_alloc (gsize size)
{
  return g_malloc (size);
}

gpointer
g_slice_alloc0 (gsize size)
{
  return g_malloc0 (size);
}

gpointer
g_slice_copy (gsize size,
              gconstpointer memory)
{
  return g_memdup2 (memory, size);
}

void
g_slice_free1 (gsize size,
               gpointer memory)
{
  g_free (memory);
}

/* Where the slices inside GLib come from: pages are taken, and given back, unseen by
 * the sanitizer, as what orders the threads that share a page is. Whoever gives one
 * back need not have seen those who had a slice of it. In a program that clang
 * links, the sanitizer's functions are not the next ones: there it stays as it is.
 */

#ifndef __clang__
#define N_PAGES (1 << 14)
#define N_PLACES 16 /* for each page; one that finds no place is seen */

/* Those that are taken, atomic */
static void *pages[N_PAGES];

/* Puts @new where @old is among the places of @page */
static gboolean
replace_page (void *page,
              void *old,
              void *new)
{
  gsize first = ((gsize) page >> 7) * 2654435761u;

  for (gsize i = 0; i < N_PLACES; i++)
    {
      void **place = &pages[(first + i) % N_PAGES];
      void *expected = old;

      if (__atomic_load_n (place, __ATOMIC_RELAXED) == old &&
          __atomic_compare_exchange_n (place, &expected, new, FALSE, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED))
        return TRUE;
    }

  return FALSE;
}

int
posix_memalign (void **memory,
                size_t alignment,
                size_t size)
{
  int result;

  hide_begin ();
  result = REAL (posix_memalign) (memory, alignment, size);
  hide_end ();

  if (result == 0 && ready)
    replace_page (*memory, NULL, *memory);

  return result;
}

/* The sanitizer's own. To look for it by name would call this here. */
extern void __interceptor_free (void *memory);

void
free (void *memory)
{
  gboolean is_page = memory != NULL && (gsize) memory % 128 == 0 &&
                     replace_page (memory, memory, NULL);

  if (is_page)
    hide_begin ();
  __interceptor_free (memory);
  if (is_page)
    hide_end ();
}
#endif

/* GAsyncQueue */

void
g_async_queue_push (GAsyncQueue *queue,
                    gpointer data)
{
  release (queue);
  REAL (g_async_queue_push)
  (queue, data);
}

gpointer
g_async_queue_pop (GAsyncQueue *queue)
{
  gpointer data = REAL (g_async_queue_pop) (queue);

  acquire (queue);

  return data;
}

gpointer
g_async_queue_try_pop (GAsyncQueue *queue)
{
  gpointer data = REAL (g_async_queue_try_pop) (queue);

  acquire (queue);

  return data;
}

gpointer
g_async_queue_timeout_pop (GAsyncQueue *queue,
                           guint64 timeout)
{
  gpointer data = REAL (g_async_queue_timeout_pop) (queue, timeout);

  acquire (queue);

  return data;
}

/* GThreadPool: from g_thread_pool_push() to the function of the pool. What
 * stands before that function is never freed: a pool says not when its last
 * thread has left. The pool itself is freed by that thread.
 */

typedef struct
{
  GFunc func;
  gpointer user_data;
} PoolFunc;

static void
call_pool_func (gpointer data,
                gpointer user_data)
{
  PoolFunc *pool_func = user_data;

  acquire (pool_func);
  pool_func->func (data, pool_func->user_data);
}

static PoolFunc *
pool_func_new (GFunc func,
               gpointer user_data)
{
  PoolFunc *pool_func = g_new (PoolFunc, 1);

  pool_func->func = func;
  pool_func->user_data = user_data;

  return pool_func;
}

GThreadPool *
g_thread_pool_new (GFunc func,
                   gpointer user_data,
                   gint max_threads,
                   gboolean exclusive,
                   GError **error)
{
  GThreadPool *pool;

  hide_begin ();
  pool = REAL (g_thread_pool_new) (call_pool_func, pool_func_new (func, user_data),
                                   max_threads, exclusive, error);
  hide_end ();

  return pool;
}

GThreadPool *
g_thread_pool_new_full (GFunc func,
                        gpointer user_data,
                        GDestroyNotify item_free_func,
                        gint max_threads,
                        gboolean exclusive,
                        GError **error)
{
  GThreadPool *pool;

  hide_begin ();
  pool = REAL (g_thread_pool_new_full) (call_pool_func, pool_func_new (func, user_data),
                                        item_free_func, max_threads, exclusive, error);
  hide_end ();

  return pool;
}

gboolean
g_thread_pool_push (GThreadPool *pool,
                    gpointer data,
                    GError **error)
{
  release (pool->user_data);

  return REAL (g_thread_pool_push) (pool, data, error);
}

/* GMainContext. Something attached while a thread holds the context wakes that
 * thread through a descriptor, which the sanitizer sees; while nobody holds it,
 * whoever takes the context next sees it.
 */

static GMainContext *
or_default (GMainContext *context)
{
  return context != NULL ? context : g_main_context_default ();
}

gboolean
g_main_context_acquire (GMainContext *context)
{
  gboolean acquired = REAL (g_main_context_acquire) (context);

  if (acquired)
    acquire (or_default (context));

  return acquired;
}

void
g_main_context_release (GMainContext *context)
{
  release (or_default (context));
  REAL (g_main_context_release)
  (context);
}

gboolean
g_main_context_iteration (GMainContext *context,
                          gboolean may_block)
{
  gboolean dispatched;

  acquire (or_default (context));
  dispatched = REAL (g_main_context_iteration) (context, may_block);
  release (or_default (context));

  return dispatched;
}

void
g_main_context_unref (GMainContext *context)
{
  release (context);
  acquire (context);
  REAL (g_main_context_unref)
  (context);
}

void
g_main_loop_run (GMainLoop *loop)
{
  GMainContext *context = g_main_loop_get_context (loop);

  acquire (context);
  REAL (g_main_loop_run)
  (loop);
  acquire (loop);
  release (context);
}

void
g_main_loop_quit (GMainLoop *loop)
{
  release (loop);
  REAL (g_main_loop_quit)
  (loop);
}

gboolean
g_main_loop_is_running (GMainLoop *loop)
{
  gboolean running = REAL (g_main_loop_is_running) (loop);

  acquire (loop);

  return running;
}

void
g_main_context_invoke (GMainContext *context,
                       GSourceFunc function,
                       gpointer data)
{
  release (or_default (context));
  REAL (g_main_context_invoke)
  (context, function, data);
}

void
g_main_context_invoke_full (GMainContext *context,
                            gint priority,
                            GSourceFunc function,
                            gpointer data,
                            GDestroyNotify notify)
{
  release (or_default (context));
  REAL (g_main_context_invoke_full)
  (context, priority, function, data, notify);
}

guint
g_source_attach (GSource *source,
                 GMainContext *context)
{
  release (or_default (context));

  return REAL (g_source_attach) (source, context);
}

void
g_source_unref (GSource *source)
{
  release (source);
  acquire (source);
  REAL (g_source_unref)
  (source);
}

guint
g_idle_add (GSourceFunc function,
            gpointer data)
{
  release (g_main_context_default ());

  return REAL (g_idle_add) (function, data);
}

guint
g_idle_add_full (gint priority,
                 GSourceFunc function,
                 gpointer data,
                 GDestroyNotify notify)
{
  release (g_main_context_default ());

  return REAL (g_idle_add_full) (priority, function, data, notify);
}

/* References: whatever anybody did before dropping one happens before the end.
 *
 * It has happened once the own reference is the last one, and not before: who drops
 * another may come in between. So where it can be told which is the last one, as it
 * can for objects and bytes, the others are dropped here. (That leaves out toggle
 * references, which programs that are linked with this do not use.) Those of closures,
 * variants, sources and contexts cannot be told apart.
 */

/* Drops a reference if it is not the last one. */
static gboolean
drop_another (int *ref_count)
{
  int count = __atomic_load_n (ref_count, __ATOMIC_SEQ_CST);

  while (count > 1)
    if (__atomic_compare_exchange_n (ref_count, &count, count - 1, FALSE, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
      return TRUE;

  return FALSE;
}

void (g_object_unref) (gpointer object)
{
  release (object);
  if (drop_another ((int *) &((GObject *) object)->ref_count))
    return;

  acquire (object);
  REAL (g_object_unref)
  (object);
}

/* How GBytes begins, which GLib keeps to itself: to be relied on only where it proves right */
typedef struct
{
  gconstpointer data;
  gsize size;
  int ref_count;
} BytesHead;

static gboolean
knows_bytes (void)
{
  static int knows; /* 0 if not looked yet, else 1 or 2; atomic */

  if (__atomic_load_n (&knows, __ATOMIC_RELAXED) == 0)
    {
      GBytes *bytes = g_bytes_new ("bytes", 5);
      BytesHead *head = (BytesHead *) bytes;
      gboolean is_right = head->size == 5 && head->ref_count == 1;

      g_bytes_ref (bytes);
      is_right = is_right && head->ref_count == 2;
      REAL (g_bytes_unref)
      (bytes);
      is_right = is_right && head->ref_count == 1;
      REAL (g_bytes_unref)
      (bytes);

      __atomic_store_n (&knows, is_right ? 2 : 1, __ATOMIC_RELAXED);
    }

  return __atomic_load_n (&knows, __ATOMIC_RELAXED) == 2;
}

void
g_closure_unref (GClosure *closure)
{
  release (closure);
  acquire (closure);
  REAL (g_closure_unref)
  (closure);
}

void
g_bytes_unref (GBytes *bytes)
{
  if (bytes == NULL)
    return;

  release (bytes);
  if (knows_bytes () && drop_another (&((BytesHead *) bytes)->ref_count))
    return;

  acquire (bytes);
  REAL (g_bytes_unref)
  (bytes);
}

void
g_variant_unref (GVariant *value)
{
  release (value);
  acquire (value);
  REAL (g_variant_unref)
  (value);
}

gboolean (g_atomic_ref_count_dec) (gatomicrefcount *count)
{
  gboolean is_last;

  release (count);
  is_last = REAL (g_atomic_ref_count_dec) (count);
  if (is_last)
    acquire (count);

  return is_last;
}

/* What the box that the thread releases is cleared with */
static __thread GDestroyNotify box_clear_func;

static void
clear_box (gpointer box)
{
  acquire (box);
  if (box_clear_func != NULL)
    box_clear_func (box);
}

void
g_atomic_rc_box_release_full (gpointer box,
                              GDestroyNotify clear_func)
{
  GDestroyNotify outer = box_clear_func;

  release (box);
  box_clear_func = clear_func;
  REAL (g_atomic_rc_box_release_full)
  (box, clear_box);
  box_clear_func = outer;
}

/* GCancellable: who sees that it has been cancelled sees what came before */

void
g_cancellable_cancel (GCancellable *cancellable)
{
  release (cancellable);
  REAL (g_cancellable_cancel)
  (cancellable);
}

gboolean
g_cancellable_is_cancelled (GCancellable *cancellable)
{
  gboolean cancelled = REAL (g_cancellable_is_cancelled) (cancellable);

  if (cancelled)
    acquire (cancellable);

  return cancelled;
}

gboolean
g_cancellable_set_error_if_cancelled (GCancellable *cancellable,
                                      GError **error)
{
  gboolean cancelled = REAL (g_cancellable_set_error_if_cancelled) (cancellable, error);

  if (cancelled)
    acquire (cancellable);

  return cancelled;
}
