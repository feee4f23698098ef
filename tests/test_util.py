# test_util.py: what the tests in Python share
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# To be imported before QTask, of which it finds the typelib and the override.

import faulthandler
import os
import threading
import traceback
import weakref

import gi
import gi.overrides

# The override of this tree, before one that is installed.
gi.overrides.__path__.insert(
    0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'qtask', 'overrides'))
gi.require_version('QTask', '1')
from gi.repository import GLib, QTask  # noqa: E402

TIME_LIMIT = 60
MAIN = threading.get_ident()

tests = []


class Skip(Exception):
    """Raised by a test that cannot be run here, with the reason."""


def test(path):
    def register(func):
        tests.append((path, func))
        return func
    return register


def equal(a, b):
    assert a == b, f'{a!r} != {b!r}'


def same(a, b):
    assert a is b, f'{a!r} is not {b!r}'


def raises(kind, func, *args):
    try:
        value = func(*args)
    except kind as error:
        return error
    raise AssertionError(f'{kind.__name__} not raised, got {value!r}')


def is_error(error, code, text=None):
    """Whether a GLib.Error has a code, of QTask or of GIO."""
    domain = 'q-task-error-quark' if isinstance(code, QTask.TaskError) else 'g-io-error-quark'
    equal((error.domain, error.code), (domain, int(code)))
    if text is not None:
        assert text in error.message, error.message


def error_of(task):
    return raises(GLib.Error, task.propagate_error)


def in_main():
    return threading.get_ident() == MAIN


def iterate_until(condition):
    # The time limit of the test ends this if nothing else does.
    context = GLib.MainContext.default()
    while not condition():
        context.iteration(True)


def finish(task):
    iterate_until(task.get_completed)


def run(awaitable):
    return QTask.run_until_complete(awaitable)


class Gate(threading.Event):
    """Where a worker waits for the test."""

    def __call__(self):
        assert self.wait(TIME_LIMIT), 'the gate was never opened'


class Data:
    """What the caller hands over, and where it goes to."""

    def __init__(self):
        self.gone = gone = []
        weakref.finalize(self, lambda: gone.append(in_main()))


def main(paths=()):
    """Runs all tests, or those whose paths begin with one of these, and prints TAP."""
    faulthandler.enable()
    # What nobody expects ends the program.
    GLib.log_set_always_fatal(GLib.LogLevelFlags.LEVEL_CRITICAL | GLib.LogLevelFlags.LEVEL_WARNING |
                              GLib.LogLevelFlags.LEVEL_ERROR)
    chosen = [(path, func) for path, func in tests if not paths or path.startswith(tuple(paths))]
    failed = 0
    print(f'1..{len(chosen)}', flush=True)
    for n, (path, func) in enumerate(chosen, 1):
        faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
        try:
            func()
            print(f'ok {n} {path}', flush=True)
        except Skip as reason:
            print(f'ok {n} {path} # SKIP {reason}', flush=True)
        except BaseException:
            failed += 1
            for line in traceback.format_exc().splitlines():
                print(f'# {line}')
            print(f'not ok {n} {path}', flush=True)
        faulthandler.cancel_dump_traceback_later()
    return 1 if failed else 0
