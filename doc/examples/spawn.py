# spawn.py: a coroutine in the main loop of an application
#
# SPDX-License-Identifier: LGPL-2.1-or-later

import hashlib

import gi

gi.require_version('QTask', '1')
from gi.repository import Gio, QTask


# Called in a thread of a pool.
def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Application(Gio.Application):
    def __init__(self):
        super().__init__(flags=Gio.ApplicationFlags.NON_UNIQUE)

    # Called by the main loop, as where a button is clicked. The loop goes on while the
    # coroutine awaits.
    def do_activate(self):
        self.hold()
        QTask.spawn(self.show('to be')).bind_object(self, QTask.TaskBindFlags.DEFAULT)
        print('The loop goes on')

    async def show(self, text):
        print(f'{text}: {(await QTask.run(digest, text))[:8]}')
        self.release()


Application().run()
