# processes.py: a program that starts itself, to work on several processors
#
# SPDX-License-Identifier: LGPL-2.1-or-later

import sys

import gi

gi.require_version('QTask', '1')
from gi.repository import GLib, QTask


# Called in a worker process. What it raises becomes the error of the task.
def count_primes(task, request):
    part = request.unpack()
    primes = 0
    for n in range(part['from'], part['to']):
        task.get_stop_cancellable().set_error_if_cancelled()
        primes += all(n % m for m in range(2, int(n ** 0.5) + 1))
        task.set_progress((n + 1 - part['from']) / (part['to'] - part['from']))
    task.set_result_variant(GLib.Variant('x', primes))
    return True


async def main():
    launcher = QTask.TaskLauncher.new([sys.executable, __file__, 'worker'])

    # Both run at the same time.
    few = launcher.run({'from': 2, 'to': 1000})
    more = launcher.run({'from': 1000, 'to': 2000}, timeout=60)
    print(await few, 'and', await more)

    # What it raises is raised here, as an error of GLib; a timeout is one as well.
    try:
        await launcher.run({'from': 2, 'to': 10 ** 9}, timeout=0.1)
    except GLib.Error as error:
        print(error.message)


if sys.argv[1:] == ['worker']:
    # Until the parent has no more requests, or has gone
    sys.exit(QTask.Task.serve(count_primes))

QTask.run_until_complete(main())
