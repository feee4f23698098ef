#!/usr/bin/env python3
# test-export-ctypes.py: exported tasks, called through ctypes
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-export-ctypes.py LIBSPIN SOURCE-ROOT
#
# Prints TAP. No PyGObject, and no main loop.

import ctypes
import faulthandler
import os
import pathlib
import subprocess
import sys
import threading
import time

TIME_LIMIT = 60

FAILED, PENDING, DONE = -1, 0, 1
IO_ERROR = b'g-io-error-quark'
INVALID_ARGUMENT, CANCELLED = 13, 19
TASK_ERROR = b'q-task-error-quark'
FORKED = 7

LONG = 2 ** 40
TOO_LONG = 2 ** 40 + 1


class Args(ctypes.Structure):
    _fields_ = [('max_spins', ctypes.c_uint64)]


class Result(ctypes.Structure):
    _fields_ = [('n_spins', ctypes.c_uint64), ('seconds', ctypes.c_double)]


class Handle(ctypes.Structure):
    pass


def load(library):
    spin = ctypes.CDLL(library)
    handle, result = ctypes.POINTER(Handle), ctypes.POINTER(Result)
    for name, restype, *argtypes in [
            ('spawn', handle, ctypes.POINTER(Args)),
            ('wait', result, handle),
            ('poll', ctypes.c_int, handle),
            ('cancel', None, handle),
            ('cancelled', ctypes.c_int, handle),
            ('handle_destroy', None, handle),
            ('result_destroy', None, result),
            ('last_error_message', ctypes.c_char_p),
            ('last_error_length', ctypes.c_size_t),
            ('last_error_domain', ctypes.c_char_p),
            ('last_error_code', ctypes.c_int),
            ('last_error_clear', None)]:
        function = getattr(spin, 'spin_' + name)
        function.restype, function.argtypes = restype, argtypes
        setattr(spin, name, function)
    return spin


faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
descriptors = len(os.listdir('/proc/self/fd'))
spin = load(sys.argv[1])


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f'{got!r} and not {wanted!r}')


def take(result):
    if not result:
        return None
    n_spins = result.contents.n_spins
    spin.result_destroy(result)
    return n_spins


def error():
    message = spin.last_error_message()
    equal(spin.last_error_length(), len(message) if message else 0)
    return spin.last_error_domain(), spin.last_error_code()


def until_ended(handle):
    while (status := spin.poll(handle)) == PENDING:
        time.sleep(0.001)
    return status


def the_library_is_plain_c():
    maps = pathlib.Path('/proc/self/maps').read_text()
    equal('libqtask' in maps, True)
    equal('_gi.' in maps, False)


def a_result_is_waited_for():
    equal(take(spin.wait(spin.spawn(Args(1000)))), 1000)


def an_error_says_what_and_why():
    equal(take(spin.wait(spin.spawn(Args(TOO_LONG)))), None)
    equal(error(), (IO_ERROR, INVALID_ARGUMENT))
    equal(spin.last_error_message().decode(), f'Nobody will live to see {TOO_LONG} spins')
    spin.last_error_clear()
    equal((spin.last_error_message(), error()), (None, (None, 0)))


def a_poll_tells_pending_done_and_failed_apart():
    handle = spin.spawn(Args(LONG))
    equal(spin.poll(handle), PENDING)
    spin.cancel(handle)
    equal(until_ended(handle), FAILED)
    equal(error(), (IO_ERROR, CANCELLED))
    spin.handle_destroy(handle)

    handle = spin.spawn(Args(10))
    equal(until_ended(handle), DONE)
    equal(spin.poll(handle), DONE)
    equal(take(spin.wait(handle)), 10)


def a_cancel_ends_it():
    handle = spin.spawn(Args(LONG))
    equal(spin.cancelled(handle), 0)
    spin.cancel(handle)
    equal(spin.cancelled(handle), 1)
    equal(take(spin.wait(handle)), None)
    equal(error(), (IO_ERROR, CANCELLED))


def destroying_does_not_wait():
    for _ in range(100):
        spin.handle_destroy(spin.spawn(Args(LONG)))
    spin.handle_destroy(spin.spawn(Args(1)))


def null_is_safe():
    spin.last_error_clear()
    spin.handle_destroy(None)
    spin.result_destroy(None)
    spin.cancel(None)
    equal(spin.cancelled(None), 0)
    equal(spin.last_error_message(), None)
    equal(bool(spin.spawn(None)), False)
    equal(error(), (IO_ERROR, INVALID_ARGUMENT))
    equal(bool(spin.wait(None)), False)
    equal(spin.poll(None), FAILED)


def in_threads(n, function):
    problems = []

    def run(i):
        try:
            function(i)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for problem in problems:
        raise problem


def a_last_error_is_of_its_thread():
    def fail(i):
        equal(spin.last_error_message(), None)
        equal(take(spin.wait(spin.spawn(Args(TOO_LONG + i)))), None)
        equal(spin.last_error_message().decode(), f'Nobody will live to see {TOO_LONG + i} spins')

    equal(take(spin.wait(spin.spawn(Args(2 ** 50)))), None)
    mine = spin.last_error_message()
    in_threads(4, fail)
    equal(spin.last_error_message(), mine)


def a_thousand_come_from_several_threads():
    def many(i):
        handles = [spin.spawn(Args(1000 * i + j + 1)) for j in range(250)]
        equal([take(spin.wait(handle)) for handle in handles],
              [1000 * i + j + 1 for j in range(250)])

    in_threads(4, many)


def a_forked_child_is_told():
    handle = spin.spawn(Args(LONG))
    child = os.fork()
    if child == 0:
        try:
            equal(bool(spin.spawn(Args(1))), False)
            equal(error(), (TASK_ERROR, FORKED))
            equal(spin.poll(handle), FAILED)
            equal(take(spin.wait(handle)), None)
            equal(error(), (TASK_ERROR, FORKED))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    equal(os.waitpid(child, 0)[1], 0)
    spin.cancel(handle)
    equal(take(spin.wait(handle)), None)
    equal(error(), (IO_ERROR, CANCELLED))


def no_descriptor_is_left():
    equal(len(os.listdir('/proc/self/fd')), descriptors)


def the_example_runs():
    example = pathlib.Path(sys.argv[2]) / 'doc' / 'examples' / 'spin.py'
    ran = subprocess.run([sys.executable, example, sys.argv[1]], stdout=subprocess.PIPE, text=True,
                         timeout=TIME_LIMIT / 2)
    equal((ran.returncode, ran.stdout),
          (0, '1000 spins\n'
              f'Nobody will live to see {2 ** 64 - 1} spins\n'
              'Operation was cancelled\n'))


TESTS = [
    the_library_is_plain_c,
    a_result_is_waited_for,
    an_error_says_what_and_why,
    a_poll_tells_pending_done_and_failed_apart,
    a_cancel_ends_it,
    destroying_does_not_wait,
    null_is_safe,
    a_last_error_is_of_its_thread,
    a_thousand_come_from_several_threads,
    a_forked_child_is_told,
    no_descriptor_is_left,
    the_example_runs,
]

status = 0
print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
    name = test.__name__.replace('_', '-')
    try:
        test()
    except Exception as problem:
        status = 1
        print('#', f'{type(problem).__name__}: {problem}'.replace('\n', '\n# '))
        print('not ok', number, '-', f'/ctypes/{name}', flush=True)
    else:
        print('ok', number, '-', f'/ctypes/{name}', flush=True)
sys.exit(status)
