#!/usr/bin/env python3
# test-python-group.py: groups and parallel loops, as Python sees them
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Prints TAP. Runs all tests, or those whose paths begin with an argument.

import asyncio
import gc
import os
import signal
import sys
import threading
import traceback
import weakref

# Before QTask, of which it finds the override of this tree
from test_util import Gate, equal, finish, in_main, is_error, iterate_until, main, raises, run, same, test

from gi.repository import Gio, GLib, QTask


def new_group(flags=QTask.TaskGroupFlags.DEFAULT):
    return QTask.TaskGroup.new(flags)


@test('/python-group/is-a-list')
def _():
    group = new_group()
    gate = Gate()
    changes = []
    group.connect('items-changed', lambda *change: changes.append((in_main(), *change[1:])))
    assert isinstance(group, Gio.ListModel) and group.get_item_type() == QTask.Task.__gtype__

    first = QTask.run(gate, group=group)
    second = QTask.Task()
    assert group.add(second)
    equal(len(group), 2)
    equal(list(group), [first, second])
    assert group[0] is first and second in group

    gate.set()
    finish(first)
    second.complete()
    equal(len(group), 0)
    equal(changes, [(True, 0, 0, 1), (True, 1, 0, 1), (True, 0, 1, 0), (True, 0, 1, 0)])


@test('/python-group/clears')
def _():
    group = new_group(QTask.TaskGroupFlags.KEEP_COMPLETED)
    for i in range(3):
        finish(QTask.run(int, i, group=group))
    going = QTask.Task()
    group.add(going)
    equal([task.result() for task in group if task is not going], [0, 1, 2])
    group.clear_completed()
    equal(list(group), [going])
    going.complete()


@test('/python-group/refuses')
def _():
    group = new_group()
    task = QTask.Task()
    group.add(task)
    is_error(raises(GLib.Error, new_group().add, task), Gio.IOErrorEnum.EXISTS)
    assert not group.is_closed()
    group.close()
    assert group.props.is_closed and not group.props.is_cancelled
    is_error(raises(GLib.Error, lambda: QTask.run(int, group=group)), QTask.TaskError.CLOSED)
    raises(TypeError, lambda: QTask.run(int, group=[]))
    task.complete()

    # What cannot be started is not in the group, which would wait for it.
    group = new_group()
    raises(TypeError, lambda: QTask.run(int, group=group, priority='high'))
    raises(OverflowError, lambda: QTask.run(int, group=group, timeout=float('inf')))
    equal(len(group), 0)


@test('/python-group/await-all')
def _():
    group = new_group()

    async def wait():
        tasks = [QTask.run(lambda i: i * i, i, group=group) for i in range(10)]
        await group
        return [task.result() for task in tasks]

    equal(QTask.run_until_complete(wait()), [i * i for i in range(10)])
    equal(group.get_progress(), 1)


@test('/python-group/await-an-error')
def _():
    group = new_group(QTask.TaskGroupFlags.CANCEL_ON_ERROR)
    seen = []

    def wait_for_stop():
        task = QTask.current_task()
        gate = Gate()
        task.get_stop_cancellable().connect(lambda *_: gate.set())
        gate()
        task.get_stop_cancellable().set_error_if_cancelled()

    def fail():
        raise ValueError('no such thing')

    async def wait():
        other = QTask.run(wait_for_stop, group=group)
        failing = QTask.run(fail, group=group)
        try:
            await group
        except ValueError as error:
            same(error, raises(ValueError, failing.result))
            # From where it was raised
            equal(traceback.extract_tb(error.__traceback__)[-1].name, 'fail')
            seen.append(str(error))
        is_error(raises(GLib.Error, other.result), Gio.IOErrorEnum.CANCELLED)

    QTask.run_until_complete(wait())
    equal(seen, ['no such thing'])
    assert group.is_cancelled()


@test('/python-group/error-that-was-heard-of')
def _():
    reports = []
    hook = sys.unraisablehook
    sys.unraisablehook = lambda report: reports.append(repr(report.exc_value))

    def fail():
        raise ValueError('no such thing')

    async def fail_here():
        await QTask.run(int)
        fail()

    async def main(start):
        group = new_group()
        start(group)
        try:
            await group
        except ValueError as error:
            return str(error)

    try:
        for start in (lambda group: QTask.run(fail, group=group),
                      # Added when it may have failed already
                      lambda group: group.add(QTask.run(fail)),
                      lambda group: group.add(QTask.spawn(fail_here()))):
            equal(QTask.run_until_complete(main(start)), 'no such thing')
        gc.collect()
        equal(reports, [])
    finally:
        sys.unraisablehook = hook


@test('/python-group/errors-of-each-kind-of-task')
def _():
    class Failing(QTask.Task):
        def do_run(self):
            raise KeyError('subclass')

    def fail(*_):
        raise KeyError('worker')

    def fail_in_gio():
        Gio.File.new_for_path('/nonexistent').query_info('*', Gio.FileQueryInfoFlags.NONE, None)

    def start(task, *args):
        def run(group):
            group.add(task)
            task.run_in_thread(*args)
        return run

    def start_late(group):
        group.add(QTask.run(fail))

    def complete(group):
        task = QTask.Task()
        group.add(task)
        task.set_error(GLib.Error('by itself', 'q-task-error-quark', int(QTask.TaskError.ABANDONED)))
        task.complete()

    async def main(start):
        group = new_group()
        start(group)
        await group

    def error_of(start, kind):
        return raises(kind, run, main(start))

    equal(error_of(start(Failing()), KeyError).args, ('subclass',))
    equal(error_of(start(QTask.Task(), fail), KeyError).args, ('worker',))
    equal(error_of(start_late, KeyError).args, ('worker',))
    error = error_of(lambda group: QTask.run(fail_in_gio, group=group), GLib.Error)
    is_error(error, Gio.IOErrorEnum.NOT_FOUND)
    equal(traceback.extract_tb(error.__traceback__)[-1].name, 'fail_in_gio')

    # Where there is no exception
    is_error(error_of(complete, GLib.Error), QTask.TaskError.ABANDONED)
    is_error(error_of(start(QTask.Task(), lambda task: False), GLib.Error), QTask.TaskError.FAILED)

    # An exception that was not the outcome is none.
    def fail_too_late():
        gate = Gate()
        QTask.current_task().get_stop_cancellable().connect(lambda *_: gate.set())
        gate()
        fail()

    error = error_of(lambda group: QTask.run(fail_too_late, group=group, timeout=0.001), GLib.Error)
    is_error(error, Gio.IOErrorEnum.TIMED_OUT)


@test('/python-group/error-is-that-of-the-first')
def _():
    group = new_group()
    gates = [Gate() for _ in range(3)]

    def fail(i):
        gates[i]()
        raise LookupError(i)

    async def wait(mode):
        try:
            await mode
        except LookupError as error:
            return error.args[0]

    async def wait_all():
        tasks = [QTask.run(fail, i, group=group) for i in range(3)]
        waits = [QTask.spawn(wait(wait_for)) for wait_for in (group, group, group.wait_any())]
        for i in (1, 0, 2):
            gates[i].set()
            while not tasks[i].get_completed():
                try:
                    await tasks[i]
                except LookupError:
                    pass
            # Whether anybody still has them does not matter.
            tasks[i] = QTask.Task()
            tasks[i].complete()
        return [await w for w in waits] + [await wait(group), await wait(group.wait_any())]

    equal(run(wait_all()), [1] * 5)


@test('/python-group/keeps-the-first-exceptions-alone')
def _():
    group = new_group()
    kept = []

    class Loud(Exception):
        pass

    def fail(i):
        error = Loud(i)
        kept.append(weakref.ref(error))
        raise error

    for i in range(5):
        finish(QTask.run(fail, i, group=group))
    equal([ref() is not None for ref in kept], [True] + [False] * 4)
    raises(Loud, run, group)
    group = None
    gc.collect()
    equal([ref() for ref in kept], [None] * 5)


@test('/python-group/error-under-asyncio')
def _():
    results = []
    loop = GLib.MainLoop()

    def fail():
        raise ValueError('no such thing')

    async def wait():
        for wait_for in (lambda group: group, lambda group: group.wait_any()):
            group = new_group()
            QTask.run(fail, group=group)
            try:
                await wait_for(group)
            except ValueError as error:
                results.append(str(error))

    def thread():
        try:
            asyncio.run(wait())
        except BaseException as error:
            results.append(error)
        GLib.idle_add(loop.quit)

    GLib.idle_add(lambda: threading.Thread(target=thread).start())
    loop.run()
    equal(results, ['no such thing'] * 2)


@test('/python-group/await-any')
def _():
    group = new_group()
    gate = Gate()

    async def wait():
        slow = QTask.run(gate, group=group)
        quick = QTask.run(int, '5', group=group)
        await group.wait_any()
        equal(quick.result(), 5)
        assert not slow.get_completed()
        gate.set()
        await group
        assert slow.get_completed()

    QTask.run_until_complete(wait())


@test('/python-group/interrupted-wait-cancels')
def _():
    group = new_group()

    async def wait():
        task = QTask.Task()
        group.add(task)
        GLib.idle_add(interrupt)
        try:
            await group
        except KeyboardInterrupt:
            assert task.is_cancelled() and group.is_cancelled()
            task.complete()
            return 'interrupted'

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    equal(QTask.run_until_complete(wait()), 'interrupted')


@test('/python-group/cancelled-coroutine-cancels')
def _():
    group = new_group()
    task = QTask.Task()
    group.add(task)
    seen = []

    async def wait(wait_for):
        try:
            await wait_for
        except GLib.Error as error:
            seen.append(error)
            raise

    for wait_for, cancels in ((group.wait_any(), False), (group, True)):
        waiting = QTask.spawn(wait(wait_for))
        waiting.cancel()
        finish(waiting)
        is_error(seen.pop(), Gio.IOErrorEnum.CANCELLED)
        equal(group.is_cancelled(), cancels)
    task.complete()


@test('/python-group/wait-blocks')
def _():
    group = new_group()
    seen = []
    for i in range(5):
        task = QTask.run(int, str(i), group=group)
        task.connect('notify::completed', lambda task, _: seen.append(task.result()))
    assert group.wait(QTask.TaskGroupWaitMode.ALL, None)
    equal(sorted(seen), [0, 1, 2, 3, 4])


@test('/python-group/progress')
def _():
    group = new_group()
    tasks = [QTask.Task() for _ in range(2)]
    for task in tasks:
        task.set_progress_interval(0)
        group.add(task)
    heard = []
    group.connect('notify::progress', lambda group, _: heard.append(group.get_progress()))
    tasks[0].set_progress(0.5, None)
    iterate_until(lambda: 0.25 in heard)
    for task in tasks:
        task.complete()
    iterate_until(lambda: 1 in heard)


@test('/python-group/goes')
def _():
    gone = []
    group = new_group()
    weakref.finalize(group, gone.append, True)
    QTask.run(int, group=group)
    iterate_until(lambda: len(group) == 0)
    del group
    gc.collect()
    equal(gone, [True])


@test('/python-group/parallel-for')
def _():
    pool = QTask.TaskPool.new('for', 2, 0)
    lock = threading.Lock()
    seen = []

    def see(begin, end, *data):
        with lock:
            seen.append((begin, end, data))

    pool.parallel_for(10, 3, see, 'data')
    equal(sorted(seen), [(i, min(i + 3, 10), ('data',)) for i in range(0, 10, 3)])
    pool.parallel_for(0, 1, see)
    equal(len(seen), 4)

    def fail(begin, end):
        raise ValueError(begin)

    error = raises(ValueError, pool.parallel_for, 100, 1, fail)
    assert 0 <= error.args[0] < 100
    is_error(raises(GLib.Error, pool.parallel_for, 100, 1, lambda *_: False),
             QTask.TaskError.FAILED)
    raises(TypeError, pool.parallel_for, 1, 1, None)

    cancellable = Gio.Cancellable()
    cancellable.cancel()
    is_error(raises(GLib.Error, lambda: pool.parallel_for(100, 1, see, cancellable=cancellable)),
             Gio.IOErrorEnum.CANCELLED)
    equal(len(seen), 4)


@test('/python-group/parallel-for-in-a-worker')
def _():
    pool = QTask.TaskPool.new('one', 1, 0)

    def sum_up():
        task = QTask.current_task()
        parts = []

        def add(begin, end):
            assert QTask.current_task() is task
            parts.append(sum(range(begin, end)))

        pool.parallel_for(1000, 10, add)
        return sum(parts)

    equal(QTask.run_until_complete(QTask.run(sum_up, pool=pool)), sum(range(1000)))
    equal(QTask.run_until_complete(QTask.run(sum_up)), sum(range(1000)))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
