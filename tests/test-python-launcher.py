#!/usr/bin/env python3
# test-python-launcher.py: worker processes, with a parent in Python
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-python-launcher.py NAME=COMMAND…
#
# Each command runs a worker of doc/examples, but that of the name "mirror" sends back whatever
# comes. Prints TAP.

import gc
import os
import shlex
import signal
import sys
import time

# Before QTask, of which it finds the override of this tree
from test_util import TIME_LIMIT, Skip, equal, iterate_until, main, test, tests

from gi.repository import Gio, GLib, QTask

workers = dict(argument.split('=', 1) for argument in sys.argv[1:])
# One that sends back whatever comes
mirror = workers.pop('mirror')


def test_each(path):
    """A test that is run with a launcher of each worker."""
    def register(func):
        for name in workers:
            def run(name=name):
                with Launcher(name) as launcher:
                    func(launcher)
            tests.append((path.replace('*', name), run))
        return func
    return register


def raises(func, domain, code, text=''):
    try:
        value = func()
    except GLib.Error as error:
        assert error.matches(domain, code), repr(error)
        assert text in error.message, repr(error)
        return error
    raise AssertionError(f'no error raised, got {value!r}')


class Launcher:
    """Has a launcher, and sees to it that no process of it stays."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.launcher = QTask.TaskLauncher.new(shlex.split(workers[self.name]))
        self.launcher.set_max_processes(2)
        return self.launcher

    def __exit__(self, *exception):
        # Others may hold it yet.
        self.launcher.set_idle_timeout(0)
        del self.launcher
        if exception[0] is None:
            await_children()


def has_children():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    except ChildProcessError:
        return False


def await_children():
    while has_children():
        GLib.MainContext.default().iteration(False)
        time.sleep(0.001)


def start(launcher, what, argument, prepare=None):
    task = QTask.Task()
    if prepare is not None:
        prepare(task)
    task.run_in_process(launcher, GLib.Variant('(sv)', (what, argument)))
    return task


def finish(task):
    iterate_until(task.get_completed)
    result = task.propagate_variant()
    return None if result is None else result.unpack()


def call(launcher, what, argument):
    return finish(start(launcher, what, argument))


@test_each('/python-launcher/*/echo')
def _(launcher):
    for value in (GLib.Variant('s', 'Hello – “world”'), GLib.Variant('a{sv}', {'a': GLib.Variant('u', 5)}),
                  GLib.Variant('ay', bytes(range(256)) * 100), GLib.Variant('()', ())):
        task = start(launcher, 'echo', value)
        iterate_until(task.get_completed)
        assert task.propagate_variant().equal(value), value.get_type_string()


@test_each('/python-launcher/*/progress-and-result')
def _(launcher):
    seen = []

    def prepare(task):
        task.connect('notify::progress', lambda task, pspec: seen.append(task.get_progress()))

    equal(finish(start(launcher, 'count-primes', GLib.Variant('u', 50000), prepare)), 5133)
    assert seen and seen == sorted(seen), seen
    equal(seen[-1], 0.98)


@test_each('/python-launcher/*/messages')
def _(launcher):
    task = start(launcher, 'shout', GLib.Variant('()', ()), lambda task: task.open_channel())
    channel = task.get_channel()
    seen = []

    def on_message(channel, message):
        assert not task.get_completed()
        seen.append(None if message is None else message.get_data())
        if len(seen) == 3:
            channel.close()

    channel.set_message_func(on_message)
    for text in (b'one', b'two', b'three'):
        channel.write(text)
    equal(finish(task), 3)
    equal(seen[:3], [b'ONE', b'TWO', b'THREE'])


@test_each('/python-launcher/*/error')
def _(launcher):
    raises(lambda: call(launcher, 'dance', GLib.Variant('()', ())),
           Gio.io_error_quark(), Gio.IOErrorEnum.NOT_SUPPORTED, 'It is not known how to dance')
    # The process is none the worse.
    equal(call(launcher, 'echo', GLib.Variant('s', 'text')), 'text')


@test_each('/python-launcher/*/cancel')
def _(launcher):
    task = start(launcher, 'count-primes', GLib.Variant('u', 1000000000))
    iterate_until(lambda: task.get_progress() > 0)
    task.cancel()
    raises(lambda: finish(task), Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED)
    equal(call(launcher, 'echo', GLib.Variant('s', 'text')), 'text')


@test_each('/python-launcher/*/run-async')
def _(launcher):
    results = []
    launcher.run_async(GLib.Variant('(sv)', ('echo', GLib.Variant('s', 'text'))), None,
                       lambda launcher, result: results.append(launcher.run_finish(result)))
    iterate_until(lambda: results)
    equal(results[0].unpack(), 'text')


@test_each('/python-launcher/*/standard-streams')
def _(launcher):
    launcher.set_transport(QTask.TaskTransport.STDIO)
    equal(call(launcher, 'echo', GLib.Variant('s', 'text')), 'text')
    equal(call(launcher, 'count-primes', GLib.Variant('u', 100)), 25)


@test_each('/python-launcher/*/killed')
def _(launcher):
    task = start(launcher, 'count-primes', GLib.Variant('u', 1000000000))
    iterate_until(lambda: task.get_progress() > 0)
    kill_children()
    raises(lambda: finish(task), QTask.TaskError.quark() if hasattr(QTask.TaskError, 'quark') else
           GLib.quark_from_string('q-task-error-quark'), QTask.TaskError.CRASHED, '9')
    equal(call(launcher, 'echo', GLib.Variant('s', 'text')), 'text')


def kill_children():
    for name in os.listdir('/proc'):
        if name.isdigit() and is_child(int(name)):
            os.kill(int(name), signal.SIGKILL)


def is_child(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return int(file.read().rsplit(')', 1)[1].split()[1]) == os.getpid()
    except OSError:
        return False


@test_each('/python-launcher/*/awaited')
def _(launcher):
    async def main():
        tasks = [start(launcher, 'echo', GLib.Variant('u', n)) for n in range(10)]
        results = []
        for task in tasks:
            await task
            results.append(task.propagate_variant().unpack())
        return results

    equal(QTask.run_until_complete(main()), list(range(10)))


@test('/python-launcher/dropped')
def _():
    for name in workers:
        launcher = QTask.TaskLauncher.new(shlex.split(workers[name]))
        equal(call(launcher, 'echo', GLib.Variant('s', 'text')), 'text')
        task = start(launcher, 'echo', GLib.Variant('s', 'later'))
        del launcher
        gc.collect()
        equal(finish(task), 'later')
        await_children()


@test_each('/python-launcher/*/unexpected')
def _(launcher):
    # Nobody has opened a channel.
    try:
        call(launcher, 'shout', GLib.Variant('()', ()))
    except GLib.Error as error:
        # What was wrong is said.
        assert any(text in error.message for text in
                   ('nobody to talk to', "TypeError: 'NoneType'", 'channel is null')), error.message
    else:
        raise AssertionError('there was no error')
    equal(call(launcher, 'echo', GLib.Variant('s', 'text')), 'text')


@test('/python-launcher/plain-values')
def _():
    async def main():
        for value in ('text', '', 5, -1, 2 ** 40, 0.5, True, False, [], {}, [1, 'two', [3.0]],
                      {'path': '/etc/os-release', 'lines': [1, 2], 'deep': {'a': {'b': False}}}):
            result = await launcher.run(value)
            assert result == value and type(result) is type(value), f'{result!r} != {value!r}'
        equal(bytes(await launcher.run(b'\0bytes')), b'\0bytes')
        equal(await launcher.run((1, 2)), [1, 2])
        equal(await launcher.run(GLib.Variant('(is)', (5, 'text'))), (5, 'text'))
        for value in (None, object(), {1: 2}, 2 ** 70):
            try:
                await launcher.run(value)
            except (TypeError, OverflowError):
                continue
            raise AssertionError(f'{value!r} was sent')

    launcher = QTask.TaskLauncher.new(shlex.split(mirror))
    QTask.run_until_complete(main())
    del launcher, main
    gc.collect()
    await_children()


@test_each('/python-launcher/*/run')
def _(launcher):
    def run(what, argument, **settings):
        return launcher.run(GLib.Variant('(sv)', (what, argument)), **settings)

    async def main():
        # All start before one of them is awaited.
        tasks = [run('echo', GLib.Variant('u', n)) for n in range(10)]
        assert all(task.poll() != QTask.TaskState.NEW for task in tasks)
        equal([await task for task in tasks], list(range(10)))
        # It can be had again.
        equal([task.result() for task in tasks], list(range(10)))
        equal(await tasks[3], 3)

        seen = []
        task = run('count-primes', GLib.Variant('u', 50000), name='primes', priority=GLib.PRIORITY_LOW,
                   progress=seen.append)
        equal((task.get_name(), task.get_priority()), ('primes', GLib.PRIORITY_LOW))
        equal(await task, 5133)
        assert seen == sorted(seen), seen
        equal(seen[-1], 0.98)

        group = QTask.TaskGroup()
        tasks = [run('echo', GLib.Variant('u', n), group=group) for n in range(3)]
        equal(group.get_n_items(), 3)
        await group
        equal([task.result() for task in tasks], [0, 1, 2])

    QTask.run_until_complete(main())


@test_each('/python-launcher/*/run-that-is-stopped')
def _(launcher):
    def stops(code, stop=None, **settings):
        async def main():
            task = launcher.run(GLib.Variant('(sv)', ('count-primes', GLib.Variant('u', 1000000000))), **settings)
            if stop is not None:
                GLib.idle_add(lambda: stop(task))
            return await task

        raises(lambda: QTask.run_until_complete(main()), Gio.io_error_quark(), code)

    cancellable = Gio.Cancellable()
    stops(Gio.IOErrorEnum.CANCELLED, lambda task: task.cancel())
    stops(Gio.IOErrorEnum.CANCELLED, lambda task: cancellable.cancel(), cancellable=cancellable)
    stops(Gio.IOErrorEnum.TIMED_OUT, timeout=0.05)
    equal(call(launcher, 'echo', GLib.Variant('s', 'text')), 'text')


@test('/python-launcher/run-that-returns-on-cancel')
def _():
    async def main():
        # It does not look whether it is to stop, and is killed long after this.
        task = launcher.run(GLib.Variant('(sv)', ('ignore', GLib.Variant('()', ()))), timeout=0.05,
                            return_on_cancel=True, progress=lambda fraction: None)
        await task

    launcher = QTask.TaskLauncher.new(shlex.split(mirror))
    launcher.set_kill_timeout(2 * TIME_LIMIT * 1000000)
    raises(lambda: QTask.run_until_complete(main()), Gio.io_error_quark(), Gio.IOErrorEnum.TIMED_OUT)
    assert has_children()
    kill_children()
    del launcher, main
    gc.collect()
    await_children()


@test('/python-launcher/error-that-nobody-hears-is-reported')
def _():
    def run_and_drop(**settings):
        task = launcher.run('text', **settings)
        iterate_until(task.get_completed)

    reports = []
    hook = sys.unraisablehook
    launcher = QTask.TaskLauncher.new(['/no/such/program'])
    try:
        sys.unraisablehook = lambda report: reports.append(report.exc_value.message)
        run_and_drop()
        gc.collect()
        equal(len(reports), 1)
        assert '/no/such/program' in reports[0], reports

        # Whoever awaits a group hears of its errors.
        run_and_drop(group=QTask.TaskGroup())
        gc.collect()
        equal(len(reports), 1)
    finally:
        sys.unraisablehook = hook


@test('/python-launcher/run-of-a-task')
def _():
    launcher = QTask.TaskLauncher.new(shlex.split(mirror))
    task = QTask.Task()
    task.run_in_process(launcher, {'path': '/etc/os-release', 'lines': [1, 2]})
    equal(finish(task), {'path': '/etc/os-release', 'lines': [1, 2]})
    launcher.set_idle_timeout(0)
    del launcher
    await_children()


@test('/python-launcher/bad-settings')
def _():
    launcher = QTask.TaskLauncher.new(['/no/such/program'])
    for settings in ({'progress': 3}, {'group': 3}, {'cancellable': 3}, {'priority': 'high'}, {'timeout': 'long'},
                     {'pool': None}):
        try:
            launcher.run('text', **settings)
        except TypeError:
            continue
        raise AssertionError(f'{settings} was taken')
    try:
        launcher.run('text', timeout=0)
    except ValueError:
        return
    raise AssertionError('no time was taken')


@test('/python-launcher/run-fails')
def _():
    async def main():
        await QTask.TaskLauncher.new(['/no/such/program']).run('text')

    raises(lambda: QTask.run_until_complete(main()), GLib.SpawnError.quark() if hasattr(GLib.SpawnError, 'quark')
           else GLib.spawn_error_quark(), GLib.SpawnError.NOENT, '/no/such/program')


# Threads of Python take turns; processes do not.

CPUS = len(os.sched_getaffinity(0))
END = 100000


def count_primes(end):
    count = 0
    for n in range(2, end):
        divisor = 2
        while divisor * divisor <= n and n % divisor:
            divisor += 1
        count += divisor * divisor > n
    return count


def time_threads():
    start_time = time.monotonic()
    tasks = [QTask.run(count_primes, END) for n in range(4)]
    for task in tasks:
        iterate_until(task.get_completed)
        equal(task.result(), 9592)
    return time.monotonic() - start_time


def time_processes(launcher):
    start_time = time.monotonic()
    tasks = [start(launcher, 'count-primes', GLib.Variant('u', END)) for n in range(4)]
    for task in tasks:
        equal(finish(task), 9592)
    return time.monotonic() - start_time


@test('/python-launcher/processes-run-at-once')
def _():
    if 'python' not in workers:
        raise Skip('no worker in Python')
    if CPUS < 2:
        raise Skip('there is one processor')
    with Launcher('python') as launcher:
        # The processes are there.
        for task in [start(launcher, 'count-primes', GLib.Variant('u', 20000)) for n in range(2)]:
            finish(task)
        ratios = []
        # Others may use the processors too.
        for n in range(5):
            threads, processes = time_threads(), time_processes(launcher)
            ratios.append(processes / threads)
            print(f'# four tasks: {threads:.3f} s in threads, {processes:.3f} s in processes, '
                  f'{ratios[-1]:.2f} of it', flush=True)
            if ratios[-1] < 0.7:
                return None
        load = os.getloadavg()[0]
        if load > CPUS + 3:
            raise Skip(f'others use the processors, the load is {load}')
        raise AssertionError(f'processes take {min(ratios):.2f} of the time of threads')


if __name__ == '__main__':
    sys.exit(main())
