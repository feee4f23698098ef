# QTask.py: what Python has besides the introspected QTask
#
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Background tasks whose workers are Python functions.

    total = await QTask.run(crunch, data, progress=bar.set_fraction)

Under asyncio this needs a loop that iterates the GLib main context
(``gi.events``, gbulb), or a GLib main loop that runs in another thread. With no
asyncio at all, ``QTask.spawn()`` awaits in a main loop that runs, and
``QTask.run_until_complete()`` runs one.

What is to use another processor runs in worker processes:

    launcher = QTask.TaskLauncher.new([sys.executable, 'worker.py'])
    total = await launcher.run({'path': '/etc/os-release'})

A task and its owner talk over a channel, whose messages are bytes:

    async for message in task.get_channel(): ...       # in the owner's loop
    for message in task.get_worker_channel(): ...      # in the worker

Threads: a worker runs in a thread of a pool, everything else in the thread
that owns the task's context. What a worker was given belongs to the task's
worker data alone: the library drops that in the owner's thread after the worker
has ended. What a worker gave (value, exception) belongs to an _Outcome, which
the interpreter's lock protects.

PyGObject attaches a thread to the interpreter for one call at a time, so what is
kept in a threading.local() does not last from one worker to the next.
"""

import contextvars
import functools
import inspect
import sys
import threading
import time
import traceback
import weakref

from gi.module import get_introspection_module
from gi.overrides import override
from gi.repository import Gio, GLib, GObject

QTask = get_introspection_module('QTask')

if QTask.Task.__gtype__ == GObject.TYPE_NONE:
    raise ImportError('The library of QTask is not where libraries are looked for: set LD_LIBRARY_PATH, '
                      'or run ldconfig')

__all__ = []

_ERROR_DOMAIN = 'q-task-error-quark'
_CANCELLED = ('g-io-error-quark', int(Gio.IOErrorEnum.CANCELLED))

# Seconds of receiving one message after the other, and milliseconds in between
_SLICE = 0.002
_REST = 1

_GENERATOR_FLAGS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_thread = threading.local()


def _check_func(name, func):
    """Whether something can be called where the library calls it, and ends there."""
    if not callable(func):
        raise TypeError(f'{name} must be callable, not {type(func).__qualname__}')
    if inspect.iscoroutinefunction(func):
        raise TypeError(f'{name} must be a plain function: a coroutine function runs in the loop')


def _describe(exception):
    """One line about an exception, whatever its __str__ does, as UTF-8 that a
    GError can hold."""
    name = type(exception).__name__
    try:
        text = str(exception)
    except Exception:
        text = ''
    text = f'{name}: {text}' if text else name
    text = text.encode('utf-8', 'backslashreplace').decode('utf-8')
    return text.replace('\0', '\\x00')


def _identify(error):
    return (error.domain, error.code, error.message)


def _release_frames(exception, seen):
    """Clear the frames of an exception's traceback, and of those it came from.

    What a worker has in its variables goes at its end in its thread, whether it
    returns or raises. An exception would carry it elsewhere, in a circle through
    the task perhaps, to be released wherever a garbage collection happens.
    """
    if exception is None or id(exception) in seen:
        return
    seen.add(id(exception))
    tb = exception.__traceback__
    while tb is not None:
        # A generator's frame may be merely suspended, and to clear it closes it.
        if not tb.tb_frame.f_code.co_flags & _GENERATOR_FLAGS:
            try:
                tb.tb_frame.clear()
            except RuntimeError:
                # Still running: this one's callers.
                pass
        tb = tb.tb_next
    _release_frames(exception.__cause__, seen)
    _release_frames(exception.__context__, seen)
    # An exception group has more.
    for inner in getattr(exception, 'exceptions', ()):
        if isinstance(inner, BaseException):
            _release_frames(inner, seen)


class _Failures:
    """What the functions of the tasks of a group raised, for whoever awaits the group.

    A wait ends with the error of the task that was the first to fail, or to complete. A
    task goes after it has completed; once one has gone that failed, whatever fails after
    that is not the first, and not kept.
    """

    __slots__ = ('raised', 'is_decided')

    def __init__(self):
        # By what it is for C, the first of those that are alike: exception and traceback
        self.raised = {}
        self.is_decided = False

    def note(self, outcome):
        if not self.is_decided:
            self.raised.setdefault(outcome.identity, (outcome.exception, outcome.traceback))

    def find(self, error):
        """What an error of C was in Python, or the error."""
        exception, tb = self.raised.get(_identify(error), (error, None))
        return exception.with_traceback(tb)


class _Outcome:
    """What a Python worker gave."""

    __slots__ = ('value', 'exception', 'traceback', 'identity', 'report', 'failures')

    def __init__(self, report=False):
        self.value = None
        self.exception = None
        self.traceback = None
        # What self.exception is for C: domain, code and message.
        self.identity = None
        # Whether somebody has yet to hear of self.exception.
        self.report = report
        # Those of the group of the task
        self.failures = None

    def fail(self, exception):
        """Keep an exception; returns it as a GLib.Error for the library."""
        if isinstance(exception, GLib.Error):
            error = GLib.Error(exception.message, exception.domain, exception.code)
        else:
            error = GLib.Error(_describe(exception), _ERROR_DOMAIN, int(QTask.TaskError.FAILED))
        _release_frames(exception, set())
        tb = exception.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
            tb = tb.tb_next
        self.identity = _identify(error)
        self.traceback = tb
        self.exception = exception.with_traceback(tb)
        if self.failures is not None:
            self.failures.note(self)
        return error

    def join(self, failures):
        """The task is in a group now, and whoever awaits that hears of its exception."""
        self.report = False
        self.failures = failures
        # Which is set last
        if self.exception is not None:
            failures.note(self)

    def get(self, task):
        return self.value

    def __del__(self):
        if self.failures is not None and self.exception is not None:
            self.failures.is_decided = True
        # Python prints what a finalizer raises, with its traceback. Nobody is
        # told of a stop that somebody asked for.
        if self.report and self.exception is not None and self.identity[:2] != _CANCELLED:
            exception = self.exception.with_traceback(self.traceback)
            try:
                raise exception
            finally:
                # The exception refers to this frame now.
                del self, exception


class _Answer(_Outcome):
    """What a worker process gave. Used by the owner of the task."""

    __slots__ = ('is_read',)

    def __init__(self, report):
        super().__init__(report)
        self.is_read = False

    def get(self, task):
        if not self.is_read:
            self.is_read = True
            variant = task.propagate_variant()
            self.value = None if variant is None else variant.unpack()
        return self.value

    def keep_error(self, task):
        error = task.get_error()
        if error is not None:
            self.identity = _identify(error)
            self.exception = error


def _call(keep, outcome, func, task, *data):
    """Call a worker, in its thread. An exception is raised as a GLib.Error.

    The exception's traceback has a way back to this frame: nothing stays in it.
    """
    outer = current_task()
    if outer is task:
        # do_run() called the do_run() of its parent class.
        return func(task, *data)

    _thread.task = task
    try:
        if keep:
            outcome.value = func()
            return True
        return func(task, *data)
    except BaseException as exception:
        error = outcome.fail(exception)
    finally:
        # A worker that waits may be running another one: outer is that one's.
        _thread.task = outer
        del outcome, func, task, data, outer
    try:
        raise error
    finally:
        del error


def _call_step(worker, task, *data):
    try:
        step = worker(task, *data)
        if not isinstance(step, QTask.TaskStep):
            raise TypeError(f'a step returns a QTask.TaskStep, not {type(step).__qualname__}')
        return step
    finally:
        del worker, task, data


class _Waiter:
    """What a coroutine yields to run_until_complete() while it awaits an
    asynchronous call: start(callback) makes it."""

    __slots__ = ('result', 'ready', 'resume')

    def __init__(self, start):
        self.result = None
        self.ready = False
        self.resume = None
        start(self._on_ready)

    def _on_ready(self, source, result):
        self.result = result
        self.ready = True
        resume = self.resume
        # What the coroutine raises has a way back to this frame, and the result one to
        # the source, which nobody would find who collects garbage.
        del self, source, result
        if resume is not None:
            resume()


class _Driver:
    """Takes a coroutine through its waits, in callbacks of a main loop; calls ended()
    when it is over."""

    __slots__ = ('coroutine', 'ended', 'waiter', 'interruption', 'done', 'value', 'exception',
                 'asyncio_loop', '__weakref__')

    def __init__(self, coroutine, ended):
        self.coroutine = coroutine
        self.ended = ended
        # None while the coroutine runs
        self.waiter = None
        # What is to be raised in the coroutine as soon as it waits
        self.interruption = None
        self.done = False
        self.value = None
        self.exception = None

    def step(self, exception=None):
        outer = getattr(_thread, 'driver', None)
        _thread.driver = self
        # gi.events has one running in each main loop, which is not to be awaited with.
        self.asyncio_loop = _get_running_loop()
        self.waiter = None
        try:
            while True:
                if exception is None:
                    waiter = self.coroutine.send(None)
                else:
                    waiter = self.coroutine.throw(exception)
                if self.interruption is not None:
                    exception, self.interruption = self.interruption, None
                    continue
                if isinstance(waiter, _Waiter):
                    self.waiter = waiter
                    waiter.resume = self.step
                    return
                exception = RuntimeError('only QTask.Task and QTask.TaskChannel can be awaited on here, '
                                         f'asyncio needs its own loop (got {waiter!r})')
        except StopIteration as stop:
            self.value = stop.value
        except BaseException as e:
            self.exception = e
        finally:
            _thread.driver = outer
            del exception
        self.done = True
        self.ended(self)

    def interrupt(self, exception):
        """Raise something where the coroutine waits."""
        if self.done:
            return
        if self.waiter is None:
            self.interruption = exception
        else:
            self.waiter.resume = None
            self.step(exception)

    def run(self, loop):
        self.step()
        while not self.done:
            try:
                loop.run()
            except BaseException as interrupt:
                if self.done:
                    raise
                self.interrupt(interrupt)
        if self.exception is not None:
            try:
                raise self.exception
            finally:
                # It refers to this frame now.
                del self
        return self.value


def _get_running_loop():
    # Whoever runs a loop has imported asyncio; nobody else needs it.
    asyncio = sys.modules.get('asyncio')
    return None if asyncio is None else asyncio._get_running_loop()


def _get_asyncio_loop():
    """The asyncio loop that the calling coroutine belongs to, or None."""
    loop = _get_running_loop()
    driver = getattr(_thread, 'driver', None)
    return None if driver is not None and loop is driver.asyncio_loop else loop


def _check_iterated():
    """Refuse to wait for a context that nobody can be iterating.

    Called in a callback of an asyncio loop. A loop that iterates the context
    owns it now; else another thread may. If this thread can have it, and is the
    one that would have to iterate it, nobody will.
    """
    context = GLib.MainContext.ref_thread_default()
    if context.is_owner() or threading.current_thread() is not threading.main_thread():
        return
    if context.acquire():
        context.release()
        raise RuntimeError('This asyncio loop does not iterate the GLib main context that the task '
                           'reports to: use the loop of gi.events or of gbulb, or '
                           'QTask.run_until_complete(), or run a GLib.MainLoop in another thread')


def _wait_in_asyncio(start, finish, loop):
    _check_iterated()
    future = loop.create_future()
    thread = threading.get_ident()

    def settle(value, error):
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def on_ready(source, result):
        value = error = None
        try:
            value = finish(result)
        except GLib.Error as e:
            error = e
        if threading.get_ident() == thread:
            settle(value, error)
        else:
            try:
                loop.call_soon_threadsafe(settle, value, error)
            except RuntimeError:
                # The loop was closed: nobody awaits any more.
                pass

    start(on_ready)
    return (yield from future)


def _wait_in_glib(start, finish):
    waiter = _Waiter(start)
    while not waiter.ready:
        yield waiter
    return finish(waiter.result)


def _wait(start, finish):
    """Wait for an asynchronous call, in whatever loop there is: start(callback) makes
    it, finish(result) gives its value."""
    loop = _get_asyncio_loop()
    if loop is None:
        return (yield from _wait_in_glib(start, finish))
    return (yield from _wait_in_asyncio(start, finish, loop))


def _to_bytes(message):
    """What can be written to a channel, as GLib.Bytes."""
    if isinstance(message, GLib.Bytes):
        return message
    if not isinstance(message, bytes):
        # bytes(5) would be five zeros.
        message = bytes(memoryview(message))
    return GLib.Bytes.new(message)


def _from_bytes(message):
    return None if message is None else message.get_data()


def _watch(source):
    """Wait until a GLib.Source of the thread's context is dispatched."""
    def start(callback):
        source.set_callback(lambda *_: bool(callback(None, None)))
        source.attach(GLib.MainContext.ref_thread_default())

    try:
        yield from _wait(start, lambda _: None)
    finally:
        source.destroy()


class _Send:
    """A message on its way into a channel, to be awaited."""

    __slots__ = ('channel', 'message', 'cancellable')

    def __init__(self, channel, message, cancellable):
        self.channel = channel
        self.message = _to_bytes(message)
        self.cancellable = cancellable

    def __await__(self):
        cancellable = self.cancellable or Gio.Cancellable()
        try:
            return (yield from _wait(
                lambda callback: self.channel.write_async(self.message, cancellable, callback),
                self.channel.write_finish))
        except BaseException:
            if self.cancellable is None:
                cancellable.cancel()
            raise


class _Receive:
    """The next message of a channel, to be awaited.

    It is read when there is one and somebody still waits, so that an interrupted
    wait loses none.
    """

    __slots__ = ('channel', 'cancellable')

    def __init__(self, channel, cancellable):
        self.channel = channel
        self.cancellable = cancellable

    def __await__(self):
        # Whoever awaits one message after the other gives way to other sources of the
        # context, whatever their priority, after a while.
        now = time.monotonic()
        if now - self.channel.__dict__.setdefault('_rested', now) > _SLICE:
            yield from _watch(GLib.timeout_source_new(_REST))
            self.channel._rested = time.monotonic()

        while True:
            if self.cancellable is not None:
                self.cancellable.set_error_if_cancelled()
            try:
                return _from_bytes(self.channel.try_read())
            except GLib.Error as error:
                if not error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.WOULD_BLOCK):
                    raise
            yield from _watch(self.channel.create_source(GLib.IOCondition.IN, self.cancellable))
            self.channel._rested = time.monotonic()


class TaskChannel(QTask.TaskChannel):
    """A channel to which bytes can be written, and whose messages can be iterated
    over.

    send(), receive() and the iterators are of this override, and their messages are
    bytes. All else gives GLib.Bytes, as the library does: get_data() makes bytes
    of them.
    """

    def write(self, message, cancellable=None):
        """Write a message, bytes or GLib.Bytes, and block while the channel is full."""
        return super().write_bytes(_to_bytes(message), cancellable)

    def write_bytes(self, message, cancellable=None):
        """The same as write()."""
        return super().write_bytes(_to_bytes(message), cancellable)

    def try_write(self, message):
        """Write a message, bytes or GLib.Bytes, if there is room for it; else raises
        GLib.Error with Gio.IOErrorEnum.WOULD_BLOCK."""
        return super().try_write(_to_bytes(message))

    def write_async(self, message, cancellable=None, callback=None, *data):
        """Write a message, bytes or GLib.Bytes, when there is room for it."""
        super().write_async(_to_bytes(message), cancellable, callback, *data)

    def send(self, message, cancellable=None):
        """Awaited, it writes a message, bytes or GLib.Bytes, when there is room for
        it."""
        return _Send(self, message, cancellable)

    def receive(self, cancellable=None):
        """Awaited, it reads the next message, as bytes; None at the end.

        No message is lost when the wait is interrupted (by asyncio.wait_for(), say).
        """
        return _Receive(self, cancellable)

    def __aiter__(self):
        """The messages that come, as bytes, until the end."""
        return self

    async def __anext__(self):
        message = await self.receive()
        if message is None:
            raise StopAsyncIteration
        return message

    def __iter__(self):
        """The messages that come, as bytes, until the end. It blocks, so it is for
        workers; a worker whose task is to stop gets a GLib.Error with
        Gio.IOErrorEnum.CANCELLED."""
        return self

    def __next__(self):
        task = current_task()
        message = self.read(None if task is None else task.get_stop_cancellable())
        if message is None:
            raise StopIteration
        return message.get_data()


TaskChannel = override(TaskChannel)
__all__.append('TaskChannel')


_serve = QTask.Task.serve


class Task(QTask.Task):
    """A task that can be awaited, and that keeps the exception of its worker."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        do_run = cls.__dict__.get('do_run')
        if callable(do_run):
            _check_func('do_run()', do_run)

            @functools.wraps(do_run)
            def run(self):
                try:
                    return _call(False, self._get_outcome(), do_run, self)
                finally:
                    del self
            cls.do_run = run

    def _get_outcome(self):
        # Made once: a second start is refused, and the first one goes on.
        outcome = self.__dict__.get('_outcome')
        if outcome is None:
            outcome = self._outcome = _Outcome()
        return outcome

    def _wrap_worker(self, worker):
        if worker is None:
            return None
        _check_func('the worker', worker)
        return functools.partial(_call, False, self._get_outcome(), worker)

    def run_in_thread(self, worker=None, *data):
        """Call worker(task, *data) in a thread of the default pool.

        It succeeds by returning True. An exception becomes the task's error, with
        the exception's name and text, and is kept for exception(). A subclass with
        a do_run() needs no worker.
        """
        super().run_in_thread(self._wrap_worker(worker), *data)

    def run_in_thread_sync(self, worker=None, *data):
        """Call worker(task, *data) in a thread of the default pool, and wait."""
        super().run_in_thread_sync(self._wrap_worker(worker), *data)

    def _wrap_step_worker(self, worker):
        _check_func('the worker', worker)
        return self._wrap_worker(functools.partial(_call_step, worker))

    def run_steps_in_thread(self, worker, *data):
        """Call worker(task, *data) in a thread of the default pool, again and again
        until it returns QTask.TaskStep.FINISHED or raises an exception, which becomes
        the task's error, as with run_in_thread()."""
        super().run_steps_in_thread(self._wrap_step_worker(worker), *data)

    def run_in_process(self, launcher, request):
        """Run a request, a GLib.Variant or plain values, in a worker process of a
        launcher. The result is a GLib.Variant: propagate_variant() gives it. See
        TaskLauncher.run() for the same in one call."""
        super().run_in_process(launcher, _pack(request))

    @staticmethod
    def serve(func, *data):
        """Serve the launcher that has started this process: call
        func(task, request, *data) for each request. Returns an exit status.

        It succeeds by returning True. An exception becomes the task's error, with
        the exception's name and text, and its traceback is printed.
        """
        _check_func('the function', func)

        def call(task, request, *data):
            outcome = _Outcome()
            try:
                return _call(False, outcome, func, task, request, *data)
            finally:
                if outcome.exception is not None and not isinstance(outcome.exception, GLib.Error):
                    traceback.print_exception(type(outcome.exception), outcome.exception,
                                              outcome.traceback)
                del outcome, task, request, data

        return _serve(call, *data)

    def exception(self):
        """The exception that the task's Python worker raised, or None."""
        outcome = self.__dict__.get('_outcome')
        if outcome is None:
            return None
        outcome.report = False
        return outcome.exception

    def result(self):
        """What awaiting the task gives, once it has an outcome: the value that the
        function given to QTask.run() returned, or the result of the request given
        to TaskLauncher.run() (None for other tasks, whose result is read with
        propagate_value() and the like); or the exception or GLib.Error that the task
        failed with, raised."""
        error = self.get_error()
        outcome = self.__dict__.get('_outcome')
        if error is None:
            if self.poll() not in (QTask.TaskState.FINISHED, QTask.TaskState.STOPPED):
                raise RuntimeError('the task has no outcome yet')
            return None if outcome is None else outcome.get(self)

        exception = self.exception()
        try:
            if exception is None:
                raise error
            if _identify(error) == outcome.identity:
                raise exception.with_traceback(outcome.traceback)
            # Stopped, or too late; what the worker then met with may say more.
            raise error from exception
        finally:
            # The exception refers to this frame now.
            del self, error, exception, outcome

    def __await__(self):
        """Wait for the outcome; gives or raises what result() does.

        An interrupted wait (the awaiting asyncio task is cancelled: it gets its
        asyncio.CancelledError; or Control-C) asks the task to stop. A task that is
        stopped by anything else raises GLib.Error with Gio.IOErrorEnum.CANCELLED.
        """
        if not self.get_completed():
            cancellable = Gio.Cancellable()
            try:
                yield from _wait(functools.partial(self.wait_async, cancellable), self.wait_finish)
            except BaseException:
                cancellable.cancel()
                self.cancel()
                raise
        try:
            return self.result()
        finally:
            del self


Task = override(Task)
__all__.append('Task')


class TaskPool(QTask.TaskPool):
    def push(self, task, worker=None, *data):
        """Call worker(task, *data) in a thread of the pool, as
        Task.run_in_thread() does. Raises GLib.Error when the queue is full or the
        pool closed."""
        if not isinstance(task, Task):
            raise TypeError(f'the task must be a QTask.Task, not {type(task).__qualname__}')
        return super().push(task, task._wrap_worker(worker), *data)

    def push_steps(self, task, worker, *data):
        """Call worker(task, *data) in a thread of the pool, again and again, as
        Task.run_steps_in_thread() does. Raises GLib.Error when the queue is full or
        the pool closed."""
        if not isinstance(task, Task):
            raise TypeError(f'the task must be a QTask.Task, not {type(task).__qualname__}')
        return super().push_steps(task, task._wrap_step_worker(worker), *data)

    def parallel_for(self, n, grain, func, *data, cancellable=None):
        """Call func(begin, end, *data) for parts of range(n), in the calling thread and
        in threads of the pool at once, and return when all is done. What it raises first
        ends the loop, and is raised here.

        What runs in Python takes turns, whatever the threads: this is for functions
        that leave the interpreter, as those of NumPy and of GLib do.
        """
        _check_func('func', func)

        failures = []
        task = current_task()

        def call(begin, end, *_):
            outer = current_task()
            _thread.task = task
            try:
                return func(begin, end, *data) is not False
            except BaseException as exception:
                failures.append(exception)
                return False
            finally:
                _thread.task = outer

        try:
            return super().parallel_for(n, grain, call, None, cancellable)
        except GLib.Error:
            if failures:
                raise failures[0] from None
            raise
        finally:
            # The exception refers to this frame now.
            failures.clear()


TaskPool = override(TaskPool)
__all__.append('TaskPool')


def _pack(value):
    """A request of plain values: lists are av, dictionaries a{sv}."""
    if isinstance(value, GLib.Variant):
        return value
    if isinstance(value, bool):
        return GLib.Variant('b', value)
    if isinstance(value, int):
        return GLib.Variant('x', value)
    if isinstance(value, float):
        return GLib.Variant('d', value)
    if isinstance(value, str):
        return GLib.Variant('s', value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return GLib.Variant.new_from_bytes(GLib.VariantType('ay'), _to_bytes(value), True)
    if isinstance(value, (list, tuple)):
        return GLib.Variant('av', [_pack(member) for member in value])
    if isinstance(value, dict):
        return GLib.Variant('a{sv}', {key: _pack(member) for key, member in value.items()})
    raise TypeError(f'{type(value).__qualname__} cannot be sent to another process')


class TaskLauncher(QTask.TaskLauncher):
    def run(self, request, *, name=None, priority=None, cancellable=None, timeout=None,
            return_on_cancel=False, progress=None, group=None):
        """Run a request, a GLib.Variant or plain values, in a worker process; returns a
        task, to be awaited for the result: as plain values, or None if the worker
        has set none.

        What the worker fails with is raised where the task is awaited, as GLib.Error;
        if nobody ever awaits, Python reports it, as with QTask.run(). All else is as
        there, too: an interrupted wait asks the worker to stop, and the settings, but
        for the pool, mean the same. With return_on_cancel the process is still asked
        to stop, and killed in time.
        """
        request = _pack(request)
        answer = _Answer(report=group is None)
        task = _new_task(name, priority, cancellable, timeout, return_on_cancel, progress, group,
                         answer.keep_error)
        task._outcome = answer
        super(Task, task).run_in_process(self, request)
        return task


TaskLauncher = override(TaskLauncher)
__all__.append('TaskLauncher')


class TaskGroup(QTask.TaskGroup):
    """A group of tasks that can be awaited, and is a list of them.

        group = QTask.TaskGroup(flags=QTask.TaskGroupFlags.CANCEL_ON_ERROR)
        tasks = [QTask.run(load, path, group=group) for path in paths]
        await group
        print([task.result() for task in tasks])
    """

    def _get_failures(self):
        return self.__dict__.setdefault('_failures', _Failures())

    def add(self, task):
        """Add a task, best before it is started; raises GLib.Error if the group does not
        take it. Whoever awaits the group hears of what the task fails with."""
        added = super().add(task)
        task._get_outcome().join(self._get_failures())
        return added

    def _wait(self, mode, cancels):
        def finish(result):
            # Not raised, as what interrupts the wait is
            try:
                self.wait_finish(result)
            except GLib.Error as error:
                return error

        cancellable = Gio.Cancellable()
        try:
            error = yield from _wait(functools.partial(self.wait_async, mode, cancellable), finish)
        except BaseException:
            cancellable.cancel()
            if cancels:
                self.cancel()
            raise
        if error is None:
            return
        try:
            raise self._get_failures().find(error)
        finally:
            # The exception refers to this frame now.
            del self, error, finish

    def __await__(self):
        """Wait until all tasks have completed, those that are added meanwhile as well;
        raises what the first of them that failed did: the exception of its function, with
        its traceback, or GLib.Error if there is none.

        An interrupted wait (the awaiting asyncio task is cancelled, or that of spawn();
        or Control-C) cancels the group.
        """
        return self._wait(QTask.TaskGroupWaitMode.ALL, True)

    async def wait_any(self):
        """Wait until one task has completed, which may have been before; raises what it
        failed with, as awaiting the group does. The others go on, whatever becomes of
        the wait."""
        await _Any(self)


TaskGroup = override(TaskGroup)
__all__.append('TaskGroup')


class _Any:
    """The first task of a group to complete, to be awaited."""

    __slots__ = ('group',)

    def __init__(self, group):
        self.group = group

    def __await__(self):
        return self.group._wait(QTask.TaskGroupWaitMode.ANY, False)


def current_task():
    """The task whose Python worker runs in the calling thread, or None."""
    return getattr(_thread, 'task', None)


__all__.append('current_task')


def _new_task(name, priority, cancellable, timeout, return_on_cancel, progress, group, ended=None):
    """A task with the settings that run() and TaskLauncher.run() take. ended is called
    by the owner with the task, when that has its outcome."""
    if progress is not None and not callable(progress):
        raise TypeError(f'progress must be callable, not {type(progress).__qualname__}')
    if group is not None and not isinstance(group, TaskGroup):
        raise TypeError(f'group must be a QTask.TaskGroup, not {type(group).__qualname__}')
    if timeout is not None and not timeout > 0:
        raise ValueError('timeout must be more than 0 seconds')

    task = Task(cancellable=cancellable)
    task.set_name(name)
    if priority is not None:
        task.set_priority(priority)
    if timeout is not None:
        task.set_timeout(max(1, int(timeout * 1000000)))
    if return_on_cancel:
        task.set_return_on_cancel(True)
    # Once nothing can fail: who awaits the group would wait for a task that never starts.
    if group is not None:
        group.add(task)
    if progress is not None:
        # Disconnected at the end, so that it goes where it came from.
        handler = task.connect('notify::progress', lambda task, _: progress(task.get_progress()))
        task.set_func(functools.partial(_disconnect, handler, ended))
    elif ended is not None:
        task.set_func(ended)
    return task


def _disconnect(handler, ended, task):
    task.disconnect(handler)
    if ended is not None:
        ended(task)


def run(func, *args, pool=None, name=None, priority=None, cancellable=None, timeout=None,
        return_on_cancel=False, progress=None, group=None):
    """Call func(*args) in a thread; returns a task, to be awaited for the value.

    What func raises is raised where the task is awaited, traceback and all (but for
    the variables of func, which go when it ends); if nobody ever awaits, Python
    reports it when the task goes, unless it is in a group, which is awaited. The
    context variables of the caller are seen by func. It finds its task, to look
    whether it is asked to stop or to tell how far it is, with QTask.current_task().

    pool: a QTask.TaskPool; without one, the default pool. If it takes no more
        tasks (QUEUE_FULL, CLOSED), the task fails so.
    name: names the task, and its thread meanwhile; without one, func's name
    priority: one of GLib.PRIORITY_…
    cancellable: a Gio.Cancellable that stops the task
    timeout: seconds after which the task is asked to stop; it has failed then, with
        Gio.IOErrorEnum.TIMED_OUT, and completes when func has returned
    return_on_cancel: completes the task as soon as it is cancelled or has timed out;
        func goes on, and nobody hears of what it returns: for one that cannot look
        whether it is to stop
    progress: called with the fraction that is done, between 0 and 1, in the loop
        of the thread that called run()
    group: a QTask.TaskGroup that the task is added to; raises GLib.Error if that takes
        no more tasks
    """
    _check_func('func', func)
    if pool is not None and not isinstance(pool, TaskPool):
        raise TypeError(f'pool must be a QTask.TaskPool, not {type(pool).__qualname__}')

    task = _new_task(getattr(func, '__name__', None) if name is None else name,
                     priority, cancellable, timeout, return_on_cancel, progress, group)

    # An error of a task in a group is heard of by whoever awaits that.
    outcome = task._get_outcome()
    outcome.report = group is None
    job = functools.partial(_call, True, outcome,
                            functools.partial(contextvars.copy_context().run, func, *args))
    if pool is None:
        super(Task, task).run_in_thread(job)
    else:
        try:
            super(TaskPool, pool).push(task, job)
        except GLib.Error as error:
            task.set_error(outcome.fail(error))
            task.complete()
    return task


__all__.append('run')


def _get_coroutine(awaitable):
    if _get_asyncio_loop() is not None:
        raise RuntimeError('An asyncio loop is running in this thread: await there, or use create_task()')
    if hasattr(awaitable, 'send'):
        return awaitable
    if hasattr(awaitable, '__await__'):
        return awaitable.__await__()
    raise TypeError(f'an awaitable is needed, not {type(awaitable).__qualname__}')


def run_until_complete(awaitable):
    """Run a coroutine that awaits tasks, iterating the GLib main context of this
    thread; returns what it returns. It knows nothing of asyncio: only tasks can be
    awaited in it. Several tasks that are started before the first of them is
    awaited run at the same time."""
    coroutine = _get_coroutine(awaitable)
    loop = GLib.MainLoop(GLib.MainContext.ref_thread_default())
    try:
        return _Driver(coroutine, lambda driver: loop.quit()).run(loop)
    finally:
        coroutine.close()


__all__.append('run_until_complete')


class _Interrupter:
    """Interrupts a driver in its loop when a cancellable is cancelled, by any thread."""

    __slots__ = ('driver', 'context')

    def __init__(self, driver):
        self.driver = weakref.ref(driver)
        self.context = GLib.MainContext.ref_thread_default()

    def __call__(self, *_):
        source = GLib.Idle(GLib.PRIORITY_DEFAULT)
        source.set_callback(self._interrupt)
        source.attach(self.context)

    def _interrupt(self, *_):
        driver = self.driver()
        if driver is not None:
            driver.interrupt(GLib.Error('Operation was cancelled', *_CANCELLED))
        return GLib.SOURCE_REMOVE


def spawn(awaitable):
    """Run a coroutine that awaits tasks in the GLib main loop of this thread, which
    goes on meanwhile; as where a button is clicked:

        button.connect('clicked', lambda button: QTask.spawn(load(button)))

    It starts at once, and runs until it awaits something. Returns a task, to be
    awaited for what the coroutine returns or raises; if nobody ever awaits, Python
    reports what it raised. Cancelling the task, or the end of an object that it is
    bound to, raises GLib.Error with Gio.IOErrorEnum.CANCELLED where the coroutine
    awaits, and so stops what it awaits. It knows nothing of asyncio, which has
    create_task().
    """
    coroutine = _get_coroutine(awaitable)
    task = Task()
    task.set_name(getattr(awaitable, '__name__', None))
    outcome = task._outcome = _Outcome(report=True)
    stop = task.get_stop_cancellable()

    def ended(driver):
        GObject.Object.disconnect(stop, handler)
        exception, driver.exception = driver.exception, None
        if exception is None:
            outcome.value = driver.value
        else:
            task.set_error(outcome.fail(exception))
        # What ends the program does so, here.
        ends = isinstance(exception, (SystemExit, KeyboardInterrupt))
        if ends:
            outcome.report = False
        task.complete()
        try:
            if ends:
                raise exception
        finally:
            del driver, exception

    driver = _Driver(coroutine, ended)
    handler = GObject.Object.connect(stop, 'cancelled', _Interrupter(driver))
    driver.step()
    return task


__all__.append('spawn')
