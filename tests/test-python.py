#!/usr/bin/env python3
# test-python.py: QTask as Python sees it, through the typelib and the override
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Prints TAP. Runs all tests, or those whose paths begin with an argument.

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
import weakref

import gi

# Before QTask, of which it finds the override of this tree
from test_util import (TIME_LIMIT, Data, Gate, Skip, equal, error_of, in_main, is_error,
                       iterate_until, main, raises, run, same, test)

from gi.repository import Gio, GLib, GObject, QTask


def iterate_pending():
    context = GLib.MainContext.default()
    while context.iteration(False):
        pass


def expect_critical(pattern):
    GLib.test_expect_message('QTask', GLib.LogLevelFlags.LEVEL_CRITICAL, pattern)


def assert_expected(where):
    GLib.test_assert_expected_messages_internal('QTask', __file__, 0, where)


# What is there to see

@test('/python/names')
def _():
    for name in ('new set_func run_in_thread run_in_thread_sync complete poll wait wait_until '
                 'wait_async wait_finish cancel is_cancelled get_cancellable get_stop_cancellable '
                 'set_timeout set_progress get_progress dup_progress_text set_progress_interval '
                 'set_error set_error_if_cancelled set_result_int set_result_boolean '
                 'set_result_value set_result_variant set_result_object set_result_bytes '
                 'had_error get_error propagate_error propagate_int propagate_boolean '
                 'propagate_value propagate_variant propagate_object propagate_bytes '
                 'return_int return_boolean return_value return_error '
                 'return_error_if_cancelled get_source get_name set_name get_priority '
                 'set_priority get_context set_context do_run is_valid').split():
        assert hasattr(QTask.Task, name), name
    for name in ('new new_serial get_default push wait_for_space wait_for_space_async '
                 'wait_for_space_finish get_stats dump list_tasks close close_async close_finish '
                 'is_closed set_thread_initializer').split():
        assert hasattr(QTask.TaskPool, name), name
    for name in ('run', 'run_until_complete', 'spawn', 'current_task', 'TaskState', 'TaskError',
                 'TaskPoolStats', 'TaskPoolCloseMode'):
        assert hasattr(QTask, name), name


@test('/python/names-of-c-only')
def _():
    for name in ('set_result_pointer get_result_pointer propagate_pointer return_pointer '
                 'propagate_boxed_value set_task_data get_task_data set_source_tag '
                 'get_source_tag attach_source set_static_name set_new_error return_new_error '
                 'return_prefixed_error report_error report_new_error').split():
        assert not hasattr(QTask.Task, name), name
    for name in ('push_closure', 'set_thread_funcs'):
        assert not hasattr(QTask.TaskPool, name), name


@test('/python/without-the-library')
def _():
    program = ('import sys, gi, gi.overrides; gi.overrides.__path__.insert(0, sys.argv[1]); '
               'gi.require_version("QTask", "1"); from gi.repository import QTask')
    environment = {name: value for name, value in os.environ.items() if name != 'LD_LIBRARY_PATH'}
    process = subprocess.run([sys.executable, '-c', program, gi.overrides.__path__[0]], env=environment,
                             timeout=TIME_LIMIT, capture_output=True, text=True)
    if process.returncode == 0:
        raise Skip('it is installed')
    assert 'ImportError: The library of QTask is not where' in process.stderr, process.stderr


# Workers

@test('/python/worker-in-a-thread')
def _():
    seen = []

    def worker(task, a, b):
        seen.append((task, in_main(), a, b))
        return True

    def done(task, c):
        seen.append((task, in_main(), c, task.had_error()))

    task = QTask.Task.new(None, done, 'c')
    equal(task.poll(), QTask.TaskState.NEW)
    task.run_in_thread(worker, 'a', 'b')
    task.wait()
    equal(seen, [(task, False, 'a', 'b'), (task, True, 'c', False)])
    equal(task.poll(), QTask.TaskState.FINISHED)
    assert task.get_completed()
    same(task.get_error(), None)
    same(task.exception(), None)


@test('/python/worker-run-synchronously')
def _():
    seen = []

    def worker(task):
        seen.append(in_main())
        task.set_result_int(6)
        return True

    task = QTask.Task.new()
    task.run_in_thread_sync(worker)
    equal(seen, [False])
    equal(task.propagate_int(), 6)


@test('/python/callback-in-the-loop')
def _():
    seen = []
    task = QTask.Task.new(None, lambda task: seen.append(in_main()))
    task.run_in_thread(lambda task: True)
    iterate_until(lambda: seen)
    equal(seen, [True])


@test('/python/exception-is-the-error')
def _():
    boo = ValueError('boo')

    def worker(task):
        raise boo

    task = QTask.Task.new()
    task.run_in_thread(worker)
    task.wait()
    assert task.had_error()
    is_error(task.get_error(), QTask.TaskError.FAILED, 'ValueError: boo')
    is_error(error_of(task), QTask.TaskError.FAILED, 'ValueError: boo')
    same(task.exception(), boo)
    text = ''.join(traceback.format_exception(boo))
    assert 'in worker' in text and 'overrides' not in text, text


@test('/python/exception-that-is-a-gerror')
def _():
    missing = GLib.Error.new_literal(Gio.io_error_quark(), 'missing', Gio.IOErrorEnum.NOT_FOUND)

    def worker(task):
        raise missing

    task = QTask.Task.new()
    task.run_in_thread(worker)
    task.wait()
    is_error(error_of(task), Gio.IOErrorEnum.NOT_FOUND, 'missing')
    same(task.exception(), missing)


@test('/python/exception-that-ends-programs')
def _():
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        def worker(task):
            raise kind('now')

        task = QTask.Task.new()
        task.run_in_thread(worker)
        task.wait()
        is_error(error_of(task), QTask.TaskError.FAILED, f'{kind.__name__}: now')


@test('/python/exception-with-odd-text')
def _():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError('no')

    for exception, text in ((Mute(), 'Mute'), (KeyError(), 'KeyError'),
                            (ValueError('a\0b'), 'ValueError: a\\x00b'),
                            (ValueError('a\udc80b'), 'ValueError: a\\udc80b'),
                            (ValueError('é%s%n'), 'ValueError: é%s%n')):
        def worker(task):
            raise exception

        task = QTask.Task.new()
        task.run_in_thread(worker)
        task.wait()
        error = error_of(task)
        is_error(error, QTask.TaskError.FAILED)
        equal(error.message, text)


@test('/python/forgotten-return-is-an-error')
def _():
    for worker in (lambda task: None, lambda task: False, lambda task: 0):
        task = QTask.Task.new()
        task.run_in_thread(worker)
        task.wait()
        error = error_of(task)
        is_error(error, QTask.TaskError.FAILED)
        assert error.message
        same(task.exception(), None)


@test('/python/error-set-on-the-task')
def _():
    def worker(task):
        task.set_error(GLib.Error.new_literal(Gio.io_error_quark(), 'busy', Gio.IOErrorEnum.BUSY))
        return True

    task = QTask.Task.new()
    task.run_in_thread(worker)
    task.wait()
    is_error(error_of(task), Gio.IOErrorEnum.BUSY, 'busy')


@test('/python/current-task')
def _():
    seen = []

    def worker(task):
        seen.append(QTask.current_task() is task)
        return True

    same(QTask.current_task(), None)
    task = QTask.Task.new()
    task.run_in_thread(worker)
    task.wait()
    equal(seen, [True])
    same(QTask.current_task(), None)


# Subclasses

class Doubler(QTask.Task):
    number = GObject.Property(type=int)

    def do_run(self):
        self.thread_is_main = in_main()
        self.current = QTask.current_task() is self
        if self.number < 0:
            raise ValueError('negative')
        self.set_result_int(2 * self.number)
        return True


class LoudDoubler(Doubler):
    def do_run(self):
        try:
            return super().do_run()
        except ValueError as error:
            raise KeyError('loud') from error


@test('/python/subclass')
def _():
    task = Doubler(number=21)
    task.run_in_thread()
    task.wait()
    same(task.thread_is_main, False)
    same(task.current, True)
    equal(task.propagate_int(), 42)


@test('/python/subclass-that-raises')
def _():
    task = Doubler(number=-1)
    task.run_in_thread()
    task.wait()
    is_error(error_of(task), QTask.TaskError.FAILED, 'ValueError: negative')
    assert isinstance(task.exception(), ValueError)


@test('/python/subclass-of-a-subclass')
def _():
    task = LoudDoubler(number=2)
    task.run_in_thread()
    task.wait()
    equal(task.propagate_int(), 4)

    task = LoudDoubler(number=-1)
    task.run_in_thread()
    task.wait()
    is_error(error_of(task), QTask.TaskError.FAILED, "KeyError: 'loud'")
    assert isinstance(task.exception().__cause__, ValueError)


@test('/python/subclass-in-a-pool')
def _():
    pool = QTask.TaskPool.new('subclass', 1, 0)
    task = Doubler(number=4)
    assert pool.push(task)
    task.wait()
    equal(task.propagate_int(), 8)


@test('/python/no-worker-at-all')
def _():
    task = QTask.Task.new()
    expect_critical('*worker*')
    task.run_in_thread()
    assert_expected('no-worker-at-all')
    equal(task.poll(), QTask.TaskState.NEW)


# Results

def round_trip(set_result, get_result, value):
    def worker(task):
        set_result(task, value)
        return True

    task = QTask.Task.new()
    task.run_in_thread(worker)
    task.wait()
    return get_result(task)


@test('/python/result-int')
def _():
    for value in (0, -1, 1 << 40, -(1 << 40)):
        equal(round_trip(QTask.Task.set_result_int, QTask.Task.propagate_int, value), value)


@test('/python/result-boolean')
def _():
    for value in (True, False):
        same(round_trip(QTask.Task.set_result_boolean, QTask.Task.propagate_boolean, value), value)


@test('/python/result-variant')
def _():
    value = GLib.Variant('(sai)', ('x', [1, 2]))
    equal(round_trip(QTask.Task.set_result_variant, QTask.Task.propagate_variant, value), value)


@test('/python/result-object')
def _():
    value = Gio.SimpleAction.new('name', None)
    same(round_trip(QTask.Task.set_result_object, QTask.Task.propagate_object, value), value)


@test('/python/result-bytes')
def _():
    value = GLib.Bytes.new(b'a\0b')
    equal(round_trip(QTask.Task.set_result_bytes, QTask.Task.propagate_bytes, value).get_data(),
          b'a\0b')


@test('/python/result-value')
def _():
    equal(round_trip(QTask.Task.set_result_value, QTask.Task.propagate_value,
                     GObject.Value(str, 'text')), 'text')
    equal(round_trip(QTask.Task.set_result_value, QTask.Task.propagate_value,
                     GObject.Value(int, 7)), 7)
    thing = object()
    same(round_trip(QTask.Task.set_result_value, QTask.Task.propagate_value,
                    GObject.Value(GObject.TYPE_PYOBJECT, thing)), thing)


@test('/python/result-or-error')
def _():
    for name in ('int', 'boolean', 'variant', 'object', 'bytes', 'value'):
        task = QTask.Task.new()
        task.set_error(GLib.Error('why', 'q-task-error-quark', int(QTask.TaskError.FAILED)))
        task.complete()
        error = raises(GLib.Error, getattr(task, f'propagate_{name}'))
        is_error(error, QTask.TaskError.FAILED, 'why')


@test('/python/completed-by-hand')
def _():
    seen = []
    task = QTask.Task.new(None, lambda task: seen.append(task.propagate_int()))
    task.set_result_int(3)
    task.complete()
    equal(seen, [3])
    assert task.get_completed()

    task = QTask.Task.new(None, lambda task: seen.append(task.propagate_boolean()))
    task.return_boolean(True)
    iterate_until(task.get_completed)
    equal(seen, [3, True])

    task = QTask.Task.new()
    task.return_error(GLib.Error('why', 'q-task-error-quark', int(QTask.TaskError.FAILED)))
    iterate_until(task.get_completed)
    is_error(error_of(task), QTask.TaskError.FAILED, 'why')


# Properties and notifications

@test('/python/properties')
def _():
    cancellable = Gio.Cancellable()
    source = Gio.SimpleAction.new('name', None)
    task = QTask.Task(source_object=source, cancellable=cancellable, name='a task', priority=5)
    same(task.get_source(), source)
    same(task.get_source_object(), source)
    same(task.get_cancellable(), cancellable)
    equal(task.props.name, 'a task')
    equal(task.get_priority(), 5)
    equal(task.props.completion_priority, 5)
    task.props.completion_priority = 7
    equal((task.get_priority(), task.get_completion_priority()), (5, 7))
    for name in ('check_cancellable', 'return_on_cancel', 'run_cancelled'):
        for value in (False, True):
            setattr(task.props, name, value)
            same(getattr(task, f'get_{name}')(), value)
    task.props.timeout = 1000000
    equal(task.get_timeout(), 1000000)
    equal((task.props.progress, task.props.progress_text, task.props.completed),
          (0.0, None, False))
    assert QTask.Task.is_valid(task, source)
    assert not QTask.Task.is_valid(task, None)
    raises(TypeError, QTask.Task.is_valid, source)


@test('/python/completed-is-notified-by-the-owner')
def _():
    seen = []
    task = QTask.Task.new(None, lambda task: seen.append('callback'))
    task.connect('notify::completed', lambda task, _: seen.append((task.get_completed(), in_main())))
    task.run_in_thread(lambda task: True)
    task.wait()
    equal(seen, ['callback', (True, True)])


@test('/python/progress-is-notified-by-the-owner')
def _():
    seen = []
    gate = Gate()

    def worker(task):
        task.set_progress(0.25, 'first')
        gate()
        for i in range(1000):
            task.set_progress(0.25 + i / 2000)
        task.set_progress(0.75, 'last')
        return True

    def notified(task, pspec):
        seen.append((task.get_progress(), task.dup_progress_text(), in_main()))
        gate.set()

    task = QTask.Task.new(None, lambda task: seen.append('callback'))
    task.connect('notify::progress', notified)
    task.run_in_thread(worker)
    iterate_until(task.get_completed)
    equal(seen[0], (0.25, 'first', True))
    equal(seen[-2:], [(0.75, 'last', True), 'callback'])
    assert len(seen) < 1000


@test('/python/loop-is-idle-when-all-is-done')
def _():
    gate = Gate()

    def worker(task):
        task.set_progress(0.1)
        gate()
        # Its notification is put off, and overtaken by the end.
        task.set_progress(0.2)
        return True

    task = QTask.Task.new()
    task.set_progress_interval(5000)
    task.connect('notify::progress', lambda *_: gate.set())
    task.run_in_thread(worker)
    iterate_until(task.get_completed)

    over = []
    GLib.timeout_add(20, lambda: over.append(True))
    iterate_until(lambda: over)
    context = GLib.MainContext.default()
    assert sum(context.iteration(False) for _ in range(100)) < 10


# Waiting

@test('/python/wait-async')
def _():
    seen = []
    gate = Gate()
    task = QTask.Task.new(None, lambda task: seen.append('callback'))
    task.run_in_thread(lambda task: gate.wait(TIME_LIMIT))

    def ready(source, result, n):
        seen.append((n, source is task, source.wait_finish(result), in_main()))

    for n in range(3):
        task.wait_async(None, ready, n)
    gate.set()
    iterate_until(lambda: len(seen) == 4)
    equal(seen, ['callback'] + [(n, True, True, True) for n in range(3)])


@test('/python/wait-that-is-cancelled')
def _():
    gate = Gate()
    cancellable = Gio.Cancellable()
    seen = []
    task = QTask.Task.new()
    task.run_in_thread(lambda task: gate.wait(TIME_LIMIT))
    task.wait_async(cancellable, lambda task, result: seen.append(
        raises(GLib.Error, task.wait_finish, result)))
    cancellable.cancel()
    iterate_until(lambda: seen)
    is_error(seen[0], Gio.IOErrorEnum.CANCELLED)
    is_error(raises(GLib.Error, task.wait, cancellable), Gio.IOErrorEnum.CANCELLED)
    is_error(raises(GLib.Error, task.wait_until, GLib.get_monotonic_time()),
             Gio.IOErrorEnum.TIMED_OUT)
    assert not task.get_completed()
    gate.set()
    task.wait()
    assert task.get_completed()
    assert not task.had_error()


@test('/python/wait-in-a-worker')
def _():
    # Sixteen deep and deeper, in a pool of one thread.
    pool = QTask.TaskPool.new('nested', 1, 0)

    def worker(task, depth):
        if depth > 0:
            inner = QTask.Task.new()
            pool.push(inner, worker, depth - 1)
            inner.wait()
            assert QTask.current_task() is task
            task.set_result_int(inner.propagate_int() + 1)
        else:
            task.set_result_int(0)
        return True

    for depth in (1, 16, 40):
        task = QTask.Task.new()
        pool.push(task, worker, depth)
        task.wait()
        equal(task.propagate_int(), depth)


@test('/python/wait-for-oneself')
def _():
    def worker(task):
        task.wait()
        return True

    task = QTask.Task.new()
    task.run_in_thread(worker)
    task.wait()
    is_error(error_of(task), QTask.TaskError.DEADLOCK)


# Cancelling

@test('/python/cancel-while-running')
def _():
    started, stopped = Gate(), Gate()

    def worker(task):
        started.set()
        cancellable = task.get_stop_cancellable()
        cancellable.connect(lambda *_: stopped.set())
        stopped()
        assert task.is_cancelled()
        cancellable.set_error_if_cancelled()
        return True

    task = QTask.Task.new()
    task.run_in_thread(worker)
    started()
    task.cancel()
    task.wait()
    is_error(error_of(task), Gio.IOErrorEnum.CANCELLED)
    equal(task.poll(), QTask.TaskState.STOPPED)


@test('/python/cancel-while-queued')
def _():
    gate = Gate()
    called = []
    pool = QTask.TaskPool.new('queue', 1, 0)
    first, second = QTask.Task.new(), QTask.Task.new()
    pool.push(first, lambda task: gate.wait(TIME_LIMIT))
    pool.push(second, lambda task: called.append(task))
    second.cancel()
    second.wait()
    is_error(error_of(second), Gio.IOErrorEnum.CANCELLED)
    equal(called, [])
    gate.set()
    first.wait()
    assert not first.had_error()


@test('/python/cancel-through-a-given-cancellable')
def _():
    cancellable = Gio.Cancellable()
    started = Gate()

    def func():
        task = QTask.current_task()
        started.set()
        poll = Gate()
        task.get_stop_cancellable().connect(lambda *_: poll.set())
        poll()
        task.get_stop_cancellable().set_error_if_cancelled()

    task = QTask.run(func, cancellable=cancellable)
    started()
    cancellable.cancel()
    is_error(raises(GLib.Error, run, task), Gio.IOErrorEnum.CANCELLED)


# Pools

@test('/python/pool-with-limits')
def _():
    gate, started = Gate(), Gate()
    pool = QTask.TaskPool.new('small', 1, 1)
    equal((pool.get_name(), pool.get_max_threads(), pool.get_max_queued(), pool.is_serial()),
          ('small', 1, 1, False))

    def worker(task):
        started.set()
        gate()
        return True

    running, queued, refused = (QTask.Task.new() for _ in range(3))
    pool.push(running, worker)
    started()
    pool.push(queued, worker)

    data = Data()
    gone = data.gone
    is_error(raises(GLib.Error, pool.push, refused, worker, data), QTask.TaskError.QUEUE_FULL)
    del data
    equal(gone, [True])

    stats = pool.get_stats()
    equal((stats.threads, stats.running, stats.queued), (1, 1, 1))
    assert set(pool.list_tasks()) == {running, queued}
    assert 'small' in pool.dump()

    seen = []
    pool.wait_for_space_async(None, lambda pool, result: seen.append(
        pool.wait_for_space_finish(result)))
    gate.set()
    iterate_until(lambda: seen)
    equal(seen, [True])
    pool.push(refused, worker)
    for task in (running, queued, refused):
        task.wait()
        assert not task.had_error()
    assert pool.close(QTask.TaskPoolCloseMode.DRAIN)
    equal(pool.get_stats().finished, 3)


@test('/python/pool-that-is-serial')
def _():
    pool = QTask.TaskPool.new_serial('serial')
    gate = Gate()
    order = []
    blocker = QTask.Task.new()
    pool.push(blocker, lambda task: gate.wait(TIME_LIMIT))
    tasks = []
    for n, priority in enumerate((10, 0, -10, 0, 10)):
        task = QTask.Task(priority=priority)
        tasks.append(task)
        pool.push(task, lambda task, n: order.append(n) or True, n)
    gate.set()
    for task in tasks:
        task.wait()
    equal(order, [2, 1, 3, 0, 4])


@test('/python/pool-that-is-closed')
def _():
    pool = QTask.TaskPool.new('closed', 2, 0)
    tasks = [QTask.Task.new() for _ in range(20)]
    for task in tasks:
        pool.push(task, lambda task: True)
    seen = []
    pool.close_async(QTask.TaskPoolCloseMode.DRAIN, None,
                     lambda pool, result: seen.append(pool.close_finish(result)))
    iterate_until(lambda: seen)
    assert pool.is_closed()
    task = QTask.Task.new()
    is_error(raises(GLib.Error, pool.push, task, lambda task: True), QTask.TaskError.CLOSED)
    is_error(raises(GLib.Error, run, QTask.run(len, 'abc', pool=pool)), QTask.TaskError.CLOSED)
    for task in tasks:
        task.wait()
        assert not task.had_error()
    is_error(raises(GLib.Error, QTask.TaskPool.get_default().close, QTask.TaskPoolCloseMode.STOP),
             Gio.IOErrorEnum.NOT_SUPPORTED)


@test('/python/pool-thread-initializer')
def _():
    seen = []
    data = Data()
    gone = data.gone
    pool = QTask.TaskPool.new('initialized', 1, 0)
    pool.set_thread_initializer(lambda data: seen.append((threading.get_ident(), data)), data)
    equal(run(QTask.run(lambda: seen[0] == (threading.get_ident(), data), pool=pool)), True)
    equal(len(seen), 1)
    seen.clear()
    del data
    pool.close(QTask.TaskPoolCloseMode.DRAIN)
    # Threads may hold the pool a little longer, and what belongs to it goes with it.
    pool = None
    gc.collect()
    iterate_pending()


# QTask.run()

@test('/python/run-gives-the-value')
def _():
    thing = object()
    same(run(QTask.run(lambda a, b: (b, a)[0], 1, thing)), thing)
    same(run(QTask.run(lambda: None)), None)
    same(run(QTask.run(in_main)), False)
    same(run(QTask.run(QTask.current_task)).__class__, QTask.Task)

    async def several():
        tasks = [QTask.run(pow, n, 2) for n in range(50)]
        return [await task for task in tasks]

    equal(run(several()), [n * n for n in range(50)])


@test('/python/run-raises-the-exception')
def _():
    class Odd(Exception):
        def __init__(self, a, b):
            self.ab = (a, b)

    odd = Odd(1, 2)

    def innermost():
        raise odd

    def func():
        innermost()

    async def awaits(task):
        try:
            await task
        except Odd as error:
            same(error, odd)
            return ''.join(traceback.format_exception(error))

    task = QTask.run(func)
    first = run(awaits(task))
    for name in ('innermost', 'func', 'awaits'):
        assert f'in {name}\n' in first, first
    # Again, and it has not grown.
    equal(run(awaits(task)), first)
    same(raises(Odd, task.result), odd)
    same(task.exception(), odd)


@test('/python/run-raises-gerror')
def _():
    busy = GLib.Error.new_literal(Gio.io_error_quark(), 'busy', Gio.IOErrorEnum.BUSY)

    def func():
        raise busy

    same(raises(GLib.Error, run, QTask.run(func)), busy)

    # By itself, an error of that name stops nothing and hides nothing.
    stopped = GLib.Error.new_literal(Gio.io_error_quark(), 'no', Gio.IOErrorEnum.CANCELLED)

    def func2():
        raise stopped

    same(raises(GLib.Error, run, QTask.run(func2)), stopped)


@test('/python/run-with-progress')
def _():
    seen = []

    def func():
        for i in range(100):
            QTask.current_task().set_progress((i + 1) / 100)
        return 'value'

    async def awaits():
        seen.append(await QTask.run(func, progress=lambda f: seen.append((f, in_main()))))

    run(awaits())
    equal(seen[-2:], [(1.0, True), 'value'])
    assert seen[:-1] == sorted(seen[:-1])


@test('/python/run-with-a-timeout')
def _():
    cancellable = Gio.Cancellable()
    stopped = Gate()

    def func():
        stop = QTask.current_task().get_stop_cancellable()
        stop.connect(lambda *_: stopped.set())
        stopped()
        raise ValueError('too late')

    task = QTask.run(func, timeout=0.01, cancellable=cancellable)
    error = raises(GLib.Error, run, task)
    is_error(error, Gio.IOErrorEnum.TIMED_OUT)
    assert isinstance(error.__cause__, ValueError)
    assert not cancellable.is_cancelled()


@test('/python/run-that-returns-on-cancel')
def _():
    gate, started, ended = Gate(), Gate(), Gate()

    def func():
        started.set()
        gate()
        ended.set()

    async def stops(stop, code, **settings):
        task = QTask.run(func, return_on_cancel=True, **settings)
        started()
        stop(task)
        try:
            await task
        except GLib.Error as error:
            is_error(error, code)
        else:
            raise AssertionError('it has succeeded')
        # It was not waited for.
        assert not ended.is_set()
        gate.set()
        ended()
        for event in (gate, started, ended):
            event.clear()

    cancellable = Gio.Cancellable()
    run(stops(lambda task: task.cancel(), Gio.IOErrorEnum.CANCELLED))
    run(stops(lambda task: cancellable.cancel(), Gio.IOErrorEnum.CANCELLED, cancellable=cancellable))
    run(stops(lambda task: None, Gio.IOErrorEnum.TIMED_OUT, timeout=0.01))
    assert not QTask.run(int).get_return_on_cancel()


@test('/python/run-is-described')
def _():
    def crunch():
        pass

    task = QTask.run(crunch, priority=GLib.PRIORITY_LOW)
    equal((task.get_name(), task.get_priority()), ('crunch', GLib.PRIORITY_LOW))
    run(task)
    task = QTask.run(crunch, name='other')
    equal(task.get_name(), 'other')
    run(task)


@test('/python/run-in-a-full-pool')
def _():
    gate, started = Gate(), Gate()
    pool = QTask.TaskPool.new('full', 1, 1)

    def func():
        started.set()
        gate()

    running = QTask.run(func, pool=pool)
    started()
    queued = QTask.run(func, pool=pool)
    data = Data()
    gone = data.gone
    refused = QTask.run(func, data, pool=pool, progress=lambda _: data)
    del data
    equal(gone, [True])
    is_error(raises(GLib.Error, run, refused), QTask.TaskError.QUEUE_FULL)
    gate.set()
    run(running)
    run(queued)


@test('/python/run-sees-context-variables')
def _():
    variable = contextvars.ContextVar('variable')
    variable.set('mine')

    def func():
        value = variable.get()
        variable.set('its own')
        return value

    equal(run(QTask.run(func)), 'mine')
    equal(variable.get(), 'mine')


@test('/python/exception-that-nobody-hears-is-reported')
def _():
    reports = []
    hook = sys.unraisablehook

    def func():
        raise ValueError('unheard')

    def wait_and_drop():
        QTask.run(func).wait()
        iterate_pending()

    try:
        sys.unraisablehook = lambda report: reports.append(repr(report.exc_value))
        wait_and_drop()
        equal(reports, ["ValueError('unheard')"])

        # Neither one that was heard, nor one that came of a stop.
        task = QTask.run(func)
        task.wait()
        assert isinstance(task.exception(), ValueError)
        del task
        task = QTask.run(lambda: QTask.current_task().get_stop_cancellable().set_error_if_cancelled())
        task.cancel()
        task.wait()
        del task
        iterate_pending()
        equal(len(reports), 1)
    finally:
        sys.unraisablehook = hook


# Coroutines in a main loop that runs anyway

async def sleep(milliseconds):
    task = QTask.Task()
    GLib.timeout_add(milliseconds, lambda: task.complete())
    await task


@test('/python/spawn-goes-on-with-the-loop')
def _():
    seen = []

    async def coroutine(name, gate):
        seen.append((name, in_main()))
        value = await QTask.run(lambda: gate() or name)
        seen.append((value, in_main()))
        return value

    first_gate, second_gate = Gate(), Gate()
    first = QTask.spawn(coroutine('first', first_gate))
    second = QTask.spawn(coroutine('second', second_gate))
    # Both have come to where they wait, and neither holds up the other.
    equal(seen, [('first', True), ('second', True)])
    equal((first.get_name(), first.poll()), ('coroutine', QTask.TaskState.NEW))
    second_gate.set()
    iterate_until(second.get_completed)
    equal(seen[2:], [('second', True)])
    first_gate.set()
    iterate_until(first.get_completed)
    equal(seen[3:], [('first', True)])
    equal((first.result(), second.result()), ('first', 'second'))
    # It can be awaited as well, by a coroutine of either kind.

    async def both():
        tasks = [QTask.spawn(coroutine(name, second_gate)) for name in ('third', 'fourth')]
        return [await task for task in tasks]

    equal(run(both()), ['third', 'fourth'])
    equal(run(QTask.spawn(both())), ['third', 'fourth'])


@test('/python/spawn-that-need-not-wait')
def _():
    async def coroutine():
        return 'value'

    task = QTask.spawn(coroutine())
    assert task.get_completed()
    equal(task.result(), 'value')
    equal(run(task), 'value')


@test('/python/spawn-that-raises')
def _():
    async def raises_later():
        await sleep(0)
        raise ValueError('mine')

    error = raises(ValueError, run, QTask.spawn(raises_later()))
    equal(str(error), 'mine')
    # If nobody awaits, Python says so.
    reports = []
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = lambda report: reports.append(repr(report.exc_value))
        QTask.spawn(raises_later())
        iterate_until(lambda: reports)
    finally:
        sys.unraisablehook = hook
    equal(reports, ["ValueError('mine')"])


@test('/python/spawn-that-is-cancelled')
def _():
    seen = []
    started, stopped = Gate(), Gate()

    def func():
        QTask.current_task().get_stop_cancellable().connect(lambda *_: stopped.set())
        started.set()
        stopped()

    def start():
        started.clear()
        task = QTask.spawn(coroutine())
        started()
        return task

    async def coroutine():
        try:
            await QTask.run(func)
        except GLib.Error as error:
            is_error(error, Gio.IOErrorEnum.CANCELLED)
            seen.append(in_main())
            raise

    def is_cancelled(task):
        is_error(raises(GLib.Error, run, task), Gio.IOErrorEnum.CANCELLED)
        equal(seen, [True])
        # So was what it awaited.
        stopped()
        stopped.clear()
        seen.clear()

    task = start()
    task.cancel()
    # Not from within: in the loop.
    equal(seen, [])
    is_cancelled(task)

    task = start()
    threading.Thread(target=task.cancel).start()
    is_cancelled(task)

    # When a window closes, say
    window = GObject.Object()
    task = start()
    task.bind_object(window, QTask.TaskBindFlags.DEFAULT)
    window.run_dispose()
    iterate_until(task.get_completed)
    is_cancelled(task)

    # While it iterates the loop itself
    async def iterates():
        await sleep(0)
        task.cancel()
        iterate_pending()
        seen.append('goes on')
        await sleep(TIME_LIMIT * 1000)

    task = QTask.spawn(iterates())
    is_error(raises(GLib.Error, run, task), Gio.IOErrorEnum.CANCELLED)
    equal(seen, ['goes on'])

    # Cancelled when it is over, it hears nothing.
    task = QTask.spawn(sleep(0))
    run(task)
    task.cancel()
    iterate_pending()


@test('/python/spawn-that-ends-the-program')
def _():
    async def coroutine():
        sys.exit(3)

    equal(raises(SystemExit, lambda: QTask.spawn(coroutine())).code, 3)


@test('/python/spawn-leaves-nothing-behind')
def _():
    async def coroutine(data):
        await sleep(0)

    data = Data()
    gone = data.gone
    task = QTask.spawn(coroutine(data))
    ended = weakref.ref(task)
    del data
    run(task)
    del task
    iterate_pending()
    equal(gone, [True])
    same(ended(), None)


# Awaiting without asyncio

@test('/python/await-runs-the-loop')
def _():
    seen = []
    gate = Gate()

    def tick():
        seen.append('tick')
        gate.set()
        return False

    async def awaits():
        GLib.idle_add(tick)
        await QTask.run(gate)
        return 'returned'

    equal(run(awaits()), 'returned')
    equal(seen, ['tick'])


@test('/python/awaited-failure-keeps-no-task')
def _():
    class Loud(Exception):
        pass

    def fail():
        raise Loud()

    # The exception refers to the frames it went through, and so to the task.
    task = QTask.run(fail)
    gone = weakref.ref(raises(Loud, run, task))
    ended = weakref.ref(task)
    task = None
    gc.collect()
    same(gone(), None)
    same(ended(), None)


@test('/python/await-a-task-of-any-kind')
def _():
    async def awaits():
        task = QTask.Task.new()
        task.run_in_thread(lambda task: task.set_result_int(9) or True)
        same(await task, None)
        equal(task.propagate_int(), 9)
        # It is over: nothing is waited for.
        same(await task, None)

        task = QTask.Task.new()
        GLib.idle_add(lambda: task.return_boolean(True))
        await task

        task = QTask.Task.new()
        task.run_in_thread(lambda task: None)
        try:
            await task
        except GLib.Error as error:
            is_error(error, QTask.TaskError.FAILED)
            return True

    same(run(awaits()), True)


@test('/python/await-passes-exceptions-on')
def _():
    async def awaits():
        await QTask.run(int)
        raise ValueError('of the coroutine')

    equal(str(raises(ValueError, run, awaits())), 'of the coroutine')


@test('/python/await-nested')
def _():
    async def inner():
        return await QTask.run(lambda: 1)

    async def outer():
        # A loop in a loop.
        def nested():
            seen.append(run(inner()))
            return False

        seen = []
        GLib.idle_add(nested)
        while not seen:
            await QTask.run(int)
        return await inner() + seen[0]

    equal(run(outer()), 2)


@test('/python/await-of-what-is-not-a-task')
def _():
    class Foreign:
        def __await__(self):
            yield self

    async def awaits():
        try:
            await Foreign()
        except RuntimeError as error:
            return str(error)

    assert 'only QTask.Task' in run(awaits())
    raises(TypeError, run, 3)


@test('/python/await-interrupted')
def _():
    started = Gate()
    state = []

    def func():
        task = QTask.current_task()
        started.set()
        stopped = Gate()
        task.get_stop_cancellable().connect(lambda *_: stopped.set())
        stopped()
        state.append('stopped')

    async def awaits():
        started()
        GLib.idle_add(lambda: signal.raise_signal(signal.SIGINT))
        try:
            await task
        finally:
            state.append('cleanup')

    task = QTask.run(func)
    raises(KeyboardInterrupt, run, awaits())
    task.wait()
    equal(sorted(state), ['cleanup', 'stopped'])
    is_error(raises(GLib.Error, run, task), Gio.IOErrorEnum.CANCELLED)


# Awaiting under asyncio

async def use_asyncio():
    """What must hold under each asyncio loop."""
    def crunch(n):
        QTask.current_task().set_progress(0.5)
        return n * 2

    seen = []
    equal(await QTask.run(crunch, 4, progress=seen.append), 8)
    equal(seen[-1], 0.5)
    equal(await asyncio.gather(*[QTask.run(crunch, n) for n in range(20)]),
          [2 * n for n in range(20)])

    boo = ValueError('boo')

    def bad():
        raise boo

    try:
        await QTask.run(bad)
        assert False, 'nothing was raised'
    except ValueError as error:
        same(error, boo)

    def until_stopped(started):
        stopped = Gate()
        stop = QTask.current_task().get_stop_cancellable()
        stop.connect(lambda *_: stopped.set())
        started.set()
        stopped()
        stop.set_error_if_cancelled()

    # The awaiting task is cancelled: so is what it awaits.
    started = Gate()
    task = QTask.run(until_stopped, started)
    awaiting = asyncio.ensure_future(task)
    await asyncio.sleep(0)
    await QTask.run(started)
    awaiting.cancel()
    try:
        await awaiting
        assert False, 'nothing was raised'
    except asyncio.CancelledError:
        pass
    assert task.is_cancelled(), 'the awaited task was not cancelled'

    # The task is cancelled: the awaiting one is not.
    started = Gate()
    task = QTask.run(until_stopped, started)
    await QTask.run(started)
    task.cancel()
    try:
        await task
        assert False, 'nothing was raised'
    except GLib.Error as error:
        is_error(error, Gio.IOErrorEnum.CANCELLED)

    try:
        await asyncio.wait_for(QTask.run(until_stopped, Gate()), 0.01)
        assert False, 'nothing was raised'
    except asyncio.TimeoutError:
        pass

    raises(RuntimeError, run, None)
    return True


@test('/python/asyncio-loop-of-its-own')
def _():
    # It would wait forever for a context that nobody iterates.
    assert 'does not iterate' in str(raises(RuntimeError, asyncio.run, use_asyncio()))
    iterate_pending()


@test('/python/asyncio-in-another-thread')
def _():
    results = []
    loop = GLib.MainLoop()

    def thread():
        try:
            results.append(asyncio.run(use_asyncio()))
        except BaseException as error:
            results.append(error)
        GLib.idle_add(loop.quit)

    GLib.idle_add(lambda: threading.Thread(target=thread).start())
    loop.run()
    equal(results, [True])


@test('/python/asyncio-of-gi-events')
def _():
    try:
        from gi.events import GLibEventLoopPolicy
    except ImportError:
        raise Skip('this PyGObject has no gi.events')
    old = asyncio.get_event_loop_policy()
    try:
        asyncio.set_event_loop_policy(GLibEventLoopPolicy())
        loop = asyncio.get_event_loop_policy().get_event_loop()
        same(loop.run_until_complete(use_asyncio()), True)

        # Its main loops run asyncio, too, and QTask's own driver uses one.
        async def awaits():
            return [await QTask.run(pow, n, 2) for n in range(3)]

        equal(run(awaits()), [0, 1, 4])
    finally:
        asyncio.set_event_loop_policy(old)


@test('/python/asyncio-of-gbulb')
def _():
    try:
        import gbulb
    except ImportError:
        raise Skip('gbulb is not installed')
    if gi.version_info >= (3, 50):
        raise Skip('gbulb does not work with this PyGObject, which has gi.events')
    old = asyncio.get_event_loop_policy()
    try:
        gbulb.install()
        same(asyncio.get_event_loop_policy().new_event_loop().run_until_complete(use_asyncio()), True)
    finally:
        asyncio.set_event_loop_policy(old)


# Where things are released. No garbage collector helps: nothing may be circular.

def released_by_main(start, with_task=False):
    """Run start(data): it returns a task that was started with the data."""
    gc.collect()
    gc.disable()
    try:
        data = Data()
        gone = data.gone
        task = start(data)
        del data
        task.wait()
        if not with_task:
            iterate_until(lambda: gone)
        task_gone = []
        task.weak_ref(lambda: task_gone.append(in_main()))
        del task
        iterate_until(lambda: task_gone)
        equal((gone, task_gone), ([True], [True]))
    finally:
        gc.enable()


def start_worker(worker):
    def start(data):
        task = QTask.Task.new()
        task.run_in_thread(worker, data)
        return task
    return start


@test('/python/worker-data-is-released-by-the-owner')
def _():
    released_by_main(start_worker(lambda task, data: True))


@test('/python/worker-data-of-one-that-raises-is-released-by-the-owner')
def _():
    def worker(task, data):
        raise ValueError(1)
    released_by_main(start_worker(worker))


@test('/python/worker-that-is-a-closure-is-released-by-the-owner')
def _():
    def start(data):
        task = QTask.Task.new()
        task.run_in_thread(lambda task: data is not None)
        return task
    released_by_main(start)


@test('/python/callback-data-is-released-by-the-owner')
def _():
    def start(data):
        task = QTask.Task.new(None, lambda task, data: None, data)
        task.run_in_thread(lambda task: True)
        return task
    released_by_main(start)


@test('/python/run-releases-by-the-owner')
def _():
    def good(data):
        return 1

    def bad(data):
        raise ValueError(data.gone)

    def circular(data):
        task = QTask.current_task()
        raise ValueError(task.get_name())

    for func in (good, bad, circular):
        def start(data):
            return QTask.run(func, data)

        def start_closure(data):
            return QTask.run(lambda: func(data))

        def start_progress(data):
            return QTask.run(lambda: QTask.current_task().set_progress(1),
                             progress=lambda fraction: data)

        hook = sys.unraisablehook
        try:
            sys.unraisablehook = lambda report: None
            released_by_main(start)
            # An exception keeps the function that raised it, and so its closure.
            released_by_main(start_closure, with_task=func is not good)
            released_by_main(start_progress)
        finally:
            sys.unraisablehook = hook


@test('/python/withdrawn-worker-data-is-released-by-the-owner')
def _():
    gate = Gate()
    pool = QTask.TaskPool.new('withdrawn', 1, 0)
    blocker = QTask.Task.new()
    pool.push(blocker, lambda task: gate.wait(TIME_LIMIT))

    def start(data):
        task = QTask.Task.new()
        pool.push(task, lambda task, data: True, data)
        task.cancel()
        return task

    released_by_main(start)
    gate.set()
    blocker.wait()


@test('/python/data-outlives-an-early-outcome')
def _():
    # The task is over for its caller long before the worker is.
    gate, started = Gate(), Gate()
    alive = []

    def worker(task, data):
        started.set()
        gate()
        alive.append(data.gone)
        return True

    data = Data()
    gone = data.gone
    task = QTask.Task(return_on_cancel=True)
    task.run_in_thread(worker, data)
    del data
    started()
    task.cancel()
    iterate_until(task.get_completed)
    equal(gone, [])
    gate.set()
    iterate_until(lambda: gone)
    equal((alive, gone), ([gone], [True]))


@test('/python/last-reference-dropped-in-a-thread')
def _():
    seen = []
    source = Gio.SimpleAction.new('name', None)
    source.weak_ref(lambda: seen.append(in_main()))
    holder = [QTask.Task(source_object=source)]
    del source
    holder[0].set_result_int(1)
    holder[0].complete()
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    iterate_until(lambda: seen)
    equal(seen, [True])


# Bad input

@test('/python/arguments-of-the-wrong-type')
def _():
    task = QTask.Task.new()
    pool = QTask.TaskPool.get_default()
    for call in (lambda: task.run_in_thread(3),
                 lambda: task.run_in_thread_sync('worker'),
                 lambda: task.set_result_object('not an object'),
                 lambda: task.set_result_variant(3),
                 lambda: task.set_progress('much'),
                 lambda: task.wait(3),
                 lambda: task.set_func(3),
                 lambda: pool.push(Gio.Cancellable(), lambda task: True),
                 lambda: pool.push(task, 3),
                 lambda: QTask.Task.new('source'),
                 lambda: QTask.run(),
                 lambda: QTask.run(3),
                 lambda: QTask.run(use_asyncio),
                 lambda: task.run_in_thread(use_asyncio),
                 lambda: task.run_in_thread_sync(use_asyncio),
                 lambda: task.run_steps_in_thread(use_asyncio),
                 lambda: pool.push(task, use_asyncio),
                 lambda: pool.parallel_for(1, 1, use_asyncio),
                 lambda: QTask.Task.serve(use_asyncio),
                 lambda: type('Coroutine', (QTask.Task,), {'do_run': use_asyncio}),
                 lambda: QTask.run(int, pool=3),
                 lambda: QTask.run(int, cancellable=3),
                 lambda: QTask.run(int, progress=3),
                 lambda: QTask.run(int, timeout='long'),
                 lambda: QTask.run(int, priority='high'),
                 lambda: QTask.spawn(3),
                 lambda: QTask.spawn(int)):
        raises(TypeError, call)
    raises(ValueError, lambda: QTask.run(int, timeout=0))
    raises(ValueError, lambda: QTask.run(int, timeout=-1))
    equal(task.poll(), QTask.TaskState.NEW)


@test('/python/second-start-is-refused')
def _():
    gate = Gate()
    pool = QTask.TaskPool.get_default()
    task = QTask.Task.new()
    data = Data()
    gone = data.gone
    task.run_in_thread(lambda task: gate.wait(TIME_LIMIT) and (task.set_result_int(1) or True))
    is_error(raises(GLib.Error, pool.push, task, lambda task, data: True, data),
             Gio.IOErrorEnum.PENDING)
    expect_critical('*')
    task.run_in_thread(lambda task, data: True, data)
    assert_expected('second-start-is-refused')
    del data
    gate.set()
    task.wait()
    equal(task.propagate_int(), 1)
    iterate_until(lambda: gone)
    equal(gone, [True])


@test('/python/values-out-of-range')
def _():
    task = QTask.Task.new()
    task.set_progress(5.0)
    equal(task.get_progress(), 1.0)
    task.set_progress(-5.0)
    equal(task.get_progress(), 0.0)
    expect_critical('*')
    task.set_progress(float('nan'))
    assert_expected('values-out-of-range')
    equal(task.get_progress(), 0.0)


@test('/python/forked-child-is-told')
def _():
    run(QTask.run(int))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            task = QTask.Task.new()
            task.run_in_thread(lambda task: True)
            is_error(error_of(task), QTask.TaskError.FORKED)
            is_error(raises(GLib.Error, QTask.TaskPool.get_default().push, QTask.Task.new(),
                            lambda task: True), QTask.TaskError.FORKED)
            is_error(raises(GLib.Error, task.wait), QTask.TaskError.FORKED)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    equal(os.waitpid(pid, 0)[1], 0)
    run(QTask.run(int))


# All at once

@test('/python/many-tasks')
def _():
    threshold = gc.get_threshold()
    gc.set_threshold(50)
    try:
        async def awaits():
            total = failed = 0
            for n in range(20):
                def bad():
                    raise ValueError(Data())

                pool = QTask.TaskPool.new('many', 4, 0)
                tasks = [QTask.run(lambda n: n, n, pool=pool, progress=int) for n in range(100)]
                bads = [QTask.run(bad) for _ in range(10)]
                for task in tasks[::7]:
                    task.cancel()
                for task in tasks:
                    try:
                        await task
                        total += 1
                    except GLib.Error as error:
                        is_error(error, Gio.IOErrorEnum.CANCELLED)
                        failed += 1
                for task in bads:
                    try:
                        await task
                    except ValueError:
                        failed += 1
            return total + failed
        equal(run(awaits()), 20 * 110)
    finally:
        gc.set_threshold(*threshold)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
