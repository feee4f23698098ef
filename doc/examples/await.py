# await.py: tasks that are awaited
#
# SPDX-License-Identifier: LGPL-2.1-or-later

import gi

gi.require_version('QTask', '1')
from gi.repository import GLib, QTask


# Called in a thread of a pool. It finds its task, should it need it.
def count_primes(limit):
    task = QTask.current_task()
    primes = 0
    for n in range(2, limit):
        if task.is_cancelled():
            break
        primes += all(n % m for m in range(2, int(n ** 0.5) + 1))
        task.set_progress(n / limit)
    return primes


async def main():
    # Both run at the same time.
    few = QTask.run(count_primes, 100)
    more = QTask.run(count_primes, 1000)
    print(await few, 'and', await more)

    # What it raises is raised here.
    try:
        await QTask.run(int, 'ten')
    except ValueError as error:
        print(error)

    # A timeout asks the worker to stop, and is an error of GIO.
    try:
        await QTask.run(count_primes, 10 ** 9, timeout=0.01)
    except GLib.Error as error:
        print(error.message)


QTask.run_until_complete(main())
