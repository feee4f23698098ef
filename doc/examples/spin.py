#!/usr/bin/env python3
# spin.py: a task of a shared library, driven with ctypes
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: spin.py LIBSPIN

import ctypes
import sys


class SpinArgs(ctypes.Structure):
    _fields_ = [('max_spins', ctypes.c_uint64)]


class SpinResult(ctypes.Structure):
    _fields_ = [('n_spins', ctypes.c_uint64), ('seconds', ctypes.c_double)]


class SpinHandle(ctypes.Structure):
    pass


spin = ctypes.CDLL(sys.argv[1])
spin.spin_spawn.argtypes = [ctypes.POINTER(SpinArgs)]
spin.spin_spawn.restype = ctypes.POINTER(SpinHandle)
spin.spin_wait.argtypes = [ctypes.POINTER(SpinHandle)]
spin.spin_wait.restype = ctypes.POINTER(SpinResult)
spin.spin_cancel.argtypes = [ctypes.POINTER(SpinHandle)]
spin.spin_cancel.restype = None
spin.spin_result_destroy.argtypes = [ctypes.POINTER(SpinResult)]
spin.spin_result_destroy.restype = None
spin.spin_last_error_message.argtypes = []
spin.spin_last_error_message.restype = ctypes.c_char_p


def wait(handle):
    result = spin.spin_wait(handle)
    if not result:
        return spin.spin_last_error_message().decode()
    n_spins = result.contents.n_spins
    spin.spin_result_destroy(result)
    return f'{n_spins} spins'


print(wait(spin.spin_spawn(SpinArgs(1000))))
print(wait(spin.spin_spawn(SpinArgs(2 ** 64 - 1))))

handle = spin.spin_spawn(SpinArgs(2 ** 40))
spin.spin_cancel(handle)
print(wait(handle))
