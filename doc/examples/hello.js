// hello.js: a task that the main loop drives
//
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// JavaScript has one thread: no function of it can be a worker. What it can do is drive
// tasks by other sources, and await the tasks that others run.

import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import QTask from 'gi://QTask?version=1';

Gio._promisify(QTask.Task.prototype, 'wait_async', 'wait_finish');

const loop = GLib.MainLoop.new(null, false);
const task = QTask.Task.new(null, () => print('The task has completed'));

GLib.timeout_add(GLib.PRIORITY_DEFAULT, 10, () => {
    task.set_result_variant(new GLib.Variant('s', 'Hello, world!'));
    task.complete();
    return GLib.SOURCE_REMOVE;
});

async function main() {
    await task.wait_async(null);
    print(task.propagate_variant().unpack());
    loop.quit();
}

main().catch(error => {
    logError(error);
    loop.quit();
});
loop.run();
