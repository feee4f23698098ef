# worker.py: a program whose work is asked for by another one
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A request is what to do, and with what.

import sys

import gi

gi.require_version('QTask', '1')
from gi.repository import Gio, GLib, QTask


# Keeps a processor busy, tells how far it is, and stops when it is asked to.
def count_primes(task, end):
    count = 0
    for n in range(2, end):
        divisor = 2
        while divisor * divisor <= n and n % divisor:
            divisor += 1
        count += divisor * divisor > n
        if n % 1000 == 0:
            task.set_progress(n / end)
            task.get_stop_cancellable().set_error_if_cancelled()
    return GLib.Variant('u', count)


# Answers each message on the channel of the task, until there are no more.
def shout(task):
    channel = task.get_worker_channel()
    n_messages = 0
    for message in channel:
        channel.write(message.upper())
        n_messages += 1
    return GLib.Variant('u', n_messages)


# What it raises becomes the error of the task.
def serve(task, request):
    what = request.get_child_value(0).get_string()
    argument = request.get_child_value(1).get_variant()
    if what == 'echo':
        result = argument
    elif what == 'count-primes':
        result = count_primes(task, argument.unpack())
    elif what == 'shout':
        result = shout(task)
    else:
        raise GLib.Error.new_literal(Gio.io_error_quark(), f'It is not known how to {what}',
                                     Gio.IOErrorEnum.NOT_SUPPORTED)
    task.set_result_variant(result)
    return True


# Until the parent has no more requests, or has gone
sys.exit(QTask.Task.serve(serve))
