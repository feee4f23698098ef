# channel.py: a task that is talked to while it runs
#
# SPDX-License-Identifier: LGPL-2.1-or-later

import gi

gi.require_version('QTask', '1')
from gi.repository import QTask


# Called in a thread of a pool. Iterating blocks until there is a message; when the task is
# to stop, it raises, and that ends the worker.
def count_words(task):
    channel = task.get_worker_channel()
    for line in channel:
        if not line:
            break
        channel.write(b'%d words' % len(line.split()))
    return True


async def main():
    task = QTask.Task.new()
    task.open_channel()
    task.run_in_thread(count_words)

    channel = task.get_channel()
    for line in b'to be or not to be', b'that is the question', b'':
        await channel.send(line)

    # Until the worker has ended, and all it wrote was read.
    async for answer in channel:
        print(answer.decode())

    # What it raised would be raised here.
    await task


QTask.run_until_complete(main())
