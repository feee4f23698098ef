#!/usr/bin/env python3
# test-python-overrides-channel.py: what the override adds to channels and steps
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Prints TAP. Runs all tests, or those whose paths begin with an argument.

import asyncio
import os
import sys
import threading
import time

# Before QTask, of which it finds the override of this tree
from test_util import TIME_LIMIT, Gate, equal, error_of, in_main, is_error, main, raises, run, test

from gi.repository import Gio, GLib, QTask


def pair():
    return QTask.TaskChannel.new_pair()


def start(worker, *data):
    task = QTask.Task.new()
    task.open_channel()
    task.run_in_thread(worker, *data)
    return task


def in_asyncio(coroutine):
    """Runs a coroutine in asyncio, with the main context iterated by another thread."""
    loop = GLib.MainLoop()
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        while not loop.is_running():
            time.sleep(0.001)
        return asyncio.run(asyncio.wait_for(coroutine, TIME_LIMIT))
    finally:
        loop.quit()
        thread.join()


# Messages

@test('/python/channel/bytes')
def _():
    a, b = pair()
    for message in (b'bytes', bytearray(b'array'), memoryview(b'view'), GLib.Bytes.new(b'GLib'), b''):
        content = message.get_data() if isinstance(message, GLib.Bytes) else bytes(message)
        a.write(message)
        equal(b.read().get_data(), content)
        a.write_bytes(message)
        equal(b.try_read().get_data(), content)
        a.try_write(message)
        equal(b.read().get_data(), content)
        a.write_async(message)
        equal(b.read().get_data(), content)


@test('/python/channel/not-bytes')
def _():
    a, b = pair()
    for message in ('text', 5, None, [1, 2]):
        for write in (a.write, a.write_bytes, a.try_write, a.write_async, a.send):
            raises(TypeError, write, message)
    is_error(raises(GLib.Error, b.try_read), Gio.IOErrorEnum.WOULD_BLOCK)


@test('/python/channel/zeros-are-not-the-end')
def _():
    a, b = pair()
    for message in (b'', b'\0', b'a\0b'):
        a.write(message)
    a.close()
    equal(list(b), [b'', b'\0', b'a\0b'])
    equal(list(b), [])


# Iterating in a worker

@test('/python/channel/worker-iterates')
def _():
    def worker(task):
        channel = task.get_worker_channel()
        for message in channel:
            if not message:
                break
            channel.write(message.upper())
        return True

    async def main():
        task = start(worker)
        channel = task.get_channel()
        for message in (b'one', b'two', b''):
            await channel.send(message)
        answers = [message async for message in channel]
        await task
        return answers

    equal(run(main()), [b'ONE', b'TWO'])
    equal(in_asyncio(main()), [b'ONE', b'TWO'])


@test('/python/channel/worker-that-iterates-is-stopped')
def _():
    seen = []
    gate = Gate()

    def worker(task):
        gate.set()
        for message in task.get_worker_channel():
            seen.append(message)
        return True

    task = start(worker)
    gate()
    task.cancel()
    task.wait()
    is_error(error_of(task), Gio.IOErrorEnum.CANCELLED)
    assert task.exception() is not None, 'the iteration ended as at the end'
    equal(seen, [])


# Awaiting

@test('/python/channel/receive')
def _():
    async def main():
        a, b = pair()
        a.write(b'there already')
        first = await b.receive()
        GLib.timeout_add(5, lambda: a.write(b'later') and False)
        second = await b.receive()
        GLib.timeout_add(5, lambda: bool(a.close()))
        return first, second, await b.receive(), await b.receive()

    equal(run(main()), (b'there already', b'later', None, None))
    equal(in_asyncio(main()), (b'there already', b'later', None, None))


@test('/python/channel/receive-from-closed')
def _():
    async def main(when):
        a, b = pair()
        if when:
            GLib.timeout_add(5, lambda: bool(b.close()))
        else:
            b.close()
        await b.receive()

    for when in (False, True):
        is_error(raises(GLib.Error, run, main(when)), Gio.IOErrorEnum.CLOSED)


@test('/python/channel/receive-cancelled')
def _():
    async def main(when):
        a, b = pair()
        stop = Gio.Cancellable()
        if when:
            GLib.timeout_add(5, lambda: bool(stop.cancel()))
        else:
            stop.cancel()
        try:
            await b.receive(stop)
        except GLib.Error as error:
            is_error(error, Gio.IOErrorEnum.CANCELLED)
        else:
            raise AssertionError('not cancelled')
        a.write(b'next')
        return await b.receive()

    for when in (False, True):
        equal(run(main(when)), b'next')


@test('/python/channel/receive-interrupted')
def _():
    # A message that comes just then is not lost.
    async def main():
        a, b = pair()
        sent = [b'%d' % n for n in range(200)]
        received = []
        n_interrupted = 0
        for n, message in enumerate(sent):
            wait = asyncio.ensure_future(b.receive())
            await asyncio.sleep(0)
            a.write(message)
            await asyncio.sleep(n % 3 / 10000)
            wait.cancel()
            try:
                received.append(await wait)
            except asyncio.CancelledError:
                n_interrupted += 1
        a.close()
        received += [message async for message in b]
        equal(received, sent)
        return n_interrupted

    assert in_asyncio(main()) > 0


@test('/python/channel/receive-gives-way')
def _():
    # A source of low priority has its turn while messages abound.
    async def main():
        a, b = pair()
        turns = []
        end = time.monotonic() + 0.2
        GLib.timeout_add(10, lambda: turns.append(1) or time.monotonic() < end,
                         priority=GLib.PRIORITY_DEFAULT_IDLE)
        while time.monotonic() < end:
            a.write(b'message')
            await b.receive()
        return len(turns)

    n = run(main())
    assert n >= 5, n


@test('/python/channel/several-receive')
def _():
    async def main():
        a, b = pair()
        waits = [asyncio.ensure_future(b.receive()) for _ in range(10)]
        await asyncio.sleep(0)
        for n in range(10):
            await a.send(b'%d' % n)
        return sorted(await asyncio.gather(*waits))

    equal(in_asyncio(main()), [b'%d' % n for n in range(10)])


@test('/python/channel/send-waits-for-room')
def _():
    async def main():
        a, b = pair()
        a.set_capacity(1)
        order = []

        def read():
            order.append(b.read().get_data())
            return GLib.SOURCE_REMOVE

        await a.send(b'1')
        is_error(raises(GLib.Error, a.try_write, b'2'), Gio.IOErrorEnum.WOULD_BLOCK)
        GLib.timeout_add(5, read)
        await a.send(b'2')
        order.append('sent')
        order.append(await b.receive())
        b.close()
        try:
            await a.send(b'3')
        except GLib.Error as error:
            is_error(error, Gio.IOErrorEnum.BROKEN_PIPE)
            return order

    equal(run(main()), [b'1', 'sent', b'2'])


@test('/python/channel/over-descriptors')
def _():
    async def main():
        r, w = os.pipe()
        r2, w2 = os.pipe()
        a = QTask.TaskChannel.new_from_fds(r, w2)
        b = QTask.TaskChannel.new_from_fds(r2, w)
        await a.send(b'there' * 100000)
        b.close if await b.receive() == b'there' * 100000 else equal('another', 'message')
        await b.send(b'and back')
        b.close()
        return [message async for message in a]

    equal(run(main()), [b'and back'])


# Steps

@test('/python/steps')
def _():
    seen = []

    def step(task, data):
        data.append(QTask.current_task() is task)
        return (QTask.TaskStep.CHECK_IN, QTask.TaskStep.SYNC, QTask.TaskStep.FINISHED)[len(data) - 1]

    def sync(task):
        seen.append((in_main(), task.poll()))
        task.resume(False)

    for start_steps in (QTask.Task.run_steps_in_thread,
                        lambda *args: QTask.TaskPool.new('steps', 1, 0).push_steps(*args)):
        data = []
        seen.clear()
        task = QTask.Task.new()
        task.set_sync_func(sync)
        start_steps(task, step, data)
        task.wait()
        equal(data, [True, True, True])
        equal(seen, [(True, QTask.TaskState.SYNCING)])
        equal(task.had_error(), False)


@test('/python/steps-exception')
def _():
    boo = ValueError('boo')
    n = []

    def step(task):
        n.append(1)
        if len(n) == 3:
            raise boo
        return QTask.TaskStep.CHECK_IN

    task = QTask.Task.new()
    task.run_steps_in_thread(step)
    task.wait()
    equal(len(n), 3)
    is_error(task.get_error(), QTask.TaskError.FAILED, 'ValueError: boo')
    assert task.exception() is boo


@test('/python/steps-that-return-something-else')
def _():
    for value in (None, True, 1, 'finished'):
        task = QTask.Task.new()
        task.run_steps_in_thread(lambda task: value)
        task.wait()
        is_error(task.get_error(), QTask.TaskError.FAILED, 'a step returns a QTask.TaskStep')
    task = QTask.Task.new()
    raises(TypeError, task.run_steps_in_thread, None)
    raises(TypeError, QTask.TaskPool.new('steps', 1, 0).push_steps, task, 5)
    task.complete()


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
