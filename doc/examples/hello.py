# hello.py: a task that runs in a thread
#
# SPDX-License-Identifier: LGPL-2.1-or-later

import gi

gi.require_version('QTask', '1')
from gi.repository import GLib, QTask


# Called in a thread of a pool. What it raises becomes the task's error.
def greet(task, name):
    task.set_result_variant(GLib.Variant('s', f'Hello, {name}!'))
    return True


# Called by the main loop when the worker has ended.
def on_greeted(task):
    try:
        print(task.propagate_variant().unpack())
    except GLib.Error as error:
        print(f'No greeting: {error.message}')
    loop.quit()


loop = GLib.MainLoop()
task = QTask.Task.new(None, on_greeted)
task.run_in_thread(greet, 'world')
loop.run()
