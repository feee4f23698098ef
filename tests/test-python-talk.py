#!/usr/bin/env python3
# test-python-talk.py: channels, sync points, steps and binding, as Python sees them
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Prints TAP. Runs all tests, or those whose paths begin with an argument.

import gc
import sys
import threading

# Before QTask, of which it finds the override of this tree
from test_util import (MAIN, Data, Gate, equal, error_of, finish, in_main, is_error, iterate_until,
                       main, raises, test)

from gi.repository import Gio, GLib, GObject, QTask


class Window(GObject.Object):
    """Something that a task is bound to."""


# What is there to see

@test('/python-talk/names')
def _():
    for name in ('open_channel get_channel get_worker_channel set_sync_func sync resume '
                 'get_outlive set_outlive run_steps_in_thread bind_object bind_callback').split():
        assert hasattr(QTask.Task, name), name
    for name in ('new_pair new_from_socket new_from_fds write write_bytes try_write write_async '
                 'write_finish read try_read read_async read_finish set_message_func create_source '
                 'get_fd close is_closed get_capacity set_capacity get_max_message_size '
                 'set_max_message_size').split():
        assert hasattr(QTask.TaskChannel, name), name
    # A buffer to read into is for C only.
    assert not hasattr(QTask.TaskChannel, 'read_into')
    assert hasattr(QTask.TaskPool, 'push_steps')
    assert not hasattr(QTask.TaskPool, 'push_steps_closure')
    equal(int(QTask.TaskStep.FAILED), 0)
    for name in ('FAILED', 'CHECK_IN', 'SYNC', 'FINISHED', 'STOPPED'):
        assert hasattr(QTask.TaskStep, name), name
    assert hasattr(QTask.TaskBindFlags, 'OUTLIVE')


# Channels

@test('/python-talk/pair')
def _():
    first, second = QTask.TaskChannel.new_pair()
    assert first.write(b'one', None)
    assert first.write_bytes(GLib.Bytes.new(b'two'), None)
    assert first.try_write(GLib.Bytes.new(b'\0'))
    equal([second.read(None).get_data() for _ in range(3)], [b'one', b'two', b'\0'])
    is_error(raises(GLib.Error, second.try_read), Gio.IOErrorEnum.WOULD_BLOCK)
    first.close()
    equal(second.read(None), None)
    equal(second.try_read(), None)
    is_error(raises(GLib.Error, second.write, b'late', None), Gio.IOErrorEnum.BROKEN_PIPE)
    is_error(raises(GLib.Error, first.read, None), Gio.IOErrorEnum.CLOSED)
    assert first.is_closed() and not second.is_closed()


@test('/python-talk/async')
def _():
    first, second = QTask.TaskChannel.new_pair()
    first.set_capacity(1)
    seen = []

    def written(channel, result):
        assert channel.write_finish(result)
        seen.append('written')

    def read(channel, result):
        seen.append(channel.read_finish(result).get_data())

    for text in (b'a', b'b'):
        first.write_async(GLib.Bytes.new(text), None, written)
        second.read_async(None, read)
    iterate_until(lambda: len(seen) == 4)
    equal(seen.count('written'), 2)
    equal([text for text in seen if text != 'written'], [b'a', b'b'])


def message_test(waits):
    seen = []
    task = QTask.Task.new(None, lambda task: seen.append('completed'))
    task.open_channel()
    data = Data()
    gone = data.gone

    def on_message(channel, message, data):
        assert in_main()
        assert isinstance(data, Data)
        seen.append(None if message is None else int(message.get_data()))

    def worker(task):
        channel = task.get_worker_channel()
        for i in range(500):
            channel.write(b'%d' % i, None)
        return True

    task.get_channel().set_message_func(on_message, data)
    del data, on_message
    task.set_completion_priority(GLib.PRIORITY_HIGH)
    task.run_in_thread(worker)
    if waits:
        task.wait(None)
    finish(task)
    equal(seen, [*range(500), None, 'completed'])
    del task
    gc.collect()
    iterate_until(lambda: gone)
    equal(gone, [True])


@test('/python-talk/messages')
def _():
    message_test(False)


@test('/python-talk/messages-owner-waits')
def _():
    message_test(True)


@test('/python-talk/open-twice')
def _():
    task = QTask.Task()
    equal(task.get_channel(), None)
    assert task.open_channel()
    is_error(raises(GLib.Error, task.open_channel), Gio.IOErrorEnum.PENDING)
    task.complete()


@test('/python-talk/both-directions')
def _():
    task = QTask.Task()
    task.open_channel()

    def worker(task):
        channel = task.get_worker_channel()
        while (message := channel.read(None)) is not None:
            channel.write_bytes(message, None)
        return True

    task.run_in_thread(worker)
    channel = task.get_channel()
    for i in range(100):
        channel.write(b'%d' % i, None)
        equal(channel.read(None).get_data(), b'%d' % i)
    channel.close()
    finish(task)
    assert not task.had_error()


# Sync points

@test('/python-talk/sync')
def _():
    seen = []
    task = QTask.Task()
    data = Data()
    gone = data.gone

    def on_sync(task, data):
        assert in_main() and isinstance(data, Data)
        equal(task.poll(), QTask.TaskState.SYNCING)
        seen.append('sync')
        assert task.resume(False)
        assert not task.resume(False)

    def worker(task):
        for i in range(10):
            seen.append(i)
            assert task.sync()
        return True

    task.set_sync_func(on_sync, data)
    del data, on_sync
    assert not task.resume(False)
    task.run_in_thread(worker)
    finish(task)
    assert not task.had_error()
    equal(seen, [item for i in range(10) for item in (i, 'sync')])
    del task
    gc.collect()
    iterate_until(lambda: gone)
    equal(gone, [True])


@test('/python-talk/sync-stopped')
def _():
    seen = []
    task = QTask.Task()
    task.set_sync_func(lambda task: task.resume(True))

    def worker(task):
        try:
            task.sync()
        except GLib.Error as error:
            seen.append(error)
            raise
        return True

    task.run_in_thread(worker)
    finish(task)
    is_error(seen[0], Gio.IOErrorEnum.CANCELLED)
    is_error(error_of(task), Gio.IOErrorEnum.CANCELLED)
    equal(task.poll(), QTask.TaskState.STOPPED)


# Steps

class Walk:
    def __init__(self, *steps):
        self.steps = list(steps)
        self.threads = set()

    def __call__(self, task):
        self.threads.add(threading.get_ident())
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step


def walk(*steps, pool=None):
    task = QTask.Task()
    task.set_sync_func(lambda task: task.resume(False))
    walk = Walk(*steps)
    if pool is None:
        task.run_steps_in_thread(walk)
    else:
        assert pool.push_steps(task, walk)
    finish(task)
    equal(walk.steps, [])
    assert MAIN not in walk.threads
    return task


@test('/python-talk/steps')
def _():
    Step = QTask.TaskStep
    assert not walk(Step.CHECK_IN, Step.SYNC, Step.CHECK_IN, Step.FINISHED).had_error()
    pool = QTask.TaskPool.new('steps', 1, 0)
    assert not walk(Step.SYNC, Step.SYNC, Step.FINISHED, pool=pool).had_error()
    is_error(error_of(walk(Step.CHECK_IN, Step.FAILED)), QTask.TaskError.FAILED)
    is_error(error_of(walk(Step.CHECK_IN, Step.STOPPED)), Gio.IOErrorEnum.CANCELLED)
    pool.close(QTask.TaskPoolCloseMode.DRAIN, None)


@test('/python-talk/step-that-raises')
def _():
    task = walk(QTask.TaskStep.CHECK_IN, ValueError('no good'))
    error = error_of(task)
    is_error(error, QTask.TaskError.FAILED)
    assert 'no good' in error.message, error.message
    assert isinstance(task.exception(), ValueError)
    not_found = GLib.Error.new_literal(Gio.io_error_quark(), 'Gone', Gio.IOErrorEnum.NOT_FOUND)
    is_error(error_of(walk(not_found)), Gio.IOErrorEnum.NOT_FOUND)


@test('/python-talk/steps-refused')
def _():
    pool = QTask.TaskPool.new('closed', 1, 0)
    pool.close(QTask.TaskPoolCloseMode.DRAIN, None)
    task = QTask.Task()
    data = Data()
    gone = data.gone
    error = raises(GLib.Error, pool.push_steps, task, lambda task, data: QTask.TaskStep.FINISHED, data)
    is_error(error, QTask.TaskError.CLOSED)
    del data, error
    gc.collect()
    equal(gone, [True])
    task.complete()


@test('/python-talk/steps-released')
def _():
    data = Data()
    gone = data.gone
    task = QTask.Task()
    seen = []

    def step(task, data):
        seen.append(data)
        return QTask.TaskStep.CHECK_IN if len(seen) < 5 else QTask.TaskStep.FINISHED

    task.run_steps_in_thread(step, data)
    del data, step
    finish(task)
    equal(len(seen), 5)
    seen.clear()
    gc.collect()
    iterate_until(lambda: gone)
    equal(gone, [True])


# Binding

@test('/python-talk/bind-object')
def _():
    for flags, asked in ((QTask.TaskBindFlags.DEFAULT, True), (QTask.TaskBindFlags.OUTLIVE, False)):
        window = Window()
        called, seen = [], []
        entered, release = Gate(), Gate()
        data = Data()
        gone = data.gone
        task = QTask.Task.new(None, lambda task, data: called.append(task), data)
        del data

        def worker(task):
            entered.set()
            release()
            seen.append(task.is_cancelled())
            return True

        task.bind_object(window, flags)
        task.run_in_thread(worker)
        entered()
        del window
        gc.collect()
        equal(task.is_cancelled(), asked)
        release.set()
        iterate_until(lambda: gone)
        equal((called, seen, gone), ([], [asked], [True]))


@test('/python-talk/outlive')
def _():
    task = QTask.Task()
    assert not task.props.outlive
    task.set_outlive(True)
    assert task.props.outlive and task.get_outlive()
    task.complete()


@test('/python-talk/bind-callback')
def _():
    seen = []
    data = Data()
    gone = data.gone
    task = QTask.Task.new(None, lambda task: seen.append('completed'))

    def on_message(task, message, data):
        assert in_main() and isinstance(data, Data)
        seen.append(None if message is None else message.get_data())

    def worker(task):
        task.get_worker_channel().write(b'one', None)
        task.get_worker_channel().write(b'two', None)
        return True

    task.bind_callback(on_message, data)
    del data, on_message
    task.open_channel()
    task.run_in_thread(worker)
    finish(task)
    equal(seen, [b'one', b'two', None, 'completed'])
    del task
    gc.collect()
    iterate_until(lambda: gone)
    equal(gone, [True])


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
