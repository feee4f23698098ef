// test-gjs-group.js: groups as JavaScript sees them
//
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Prints TAP. Run with gjs -m; with GJS_PATH naming the folder above overrides/ to test
// the override of this tree. What nobody expects ends the program.

import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import QTask from 'gi://QTask?version=1';

import {equal, fails, main, never, test} from './test-util.js';

test('/gjs/group/list', () => {
    const group = QTask.TaskGroup.new(QTask.TaskGroupFlags.DEFAULT);
    const first = new QTask.Task();
    const second = new QTask.Task();
    const changes = [];

    group.connect('items-changed', (model, ...change) => changes.push(change.join()));
    equal(group.get_item_type(), QTask.Task.$gtype);
    group.add(first);
    group.add(second);
    equal(group.get_n_items(), 2);
    equal(group.n_items, 2);
    equal(group.get_item(1), second);
    equal(group.get_item(2), null);

    first.complete();
    second.complete();
    equal(group.get_n_items(), 0);
    equal(changes.join(' '), '0,0,1 1,0,1 0,1,0 0,1,0');
});

test('/gjs/group/clears', () => {
    const group = new QTask.TaskGroup({flags: QTask.TaskGroupFlags.KEEP_COMPLETED});
    const tasks = [1, 2, 3].map(() => new QTask.Task());
    const changes = [];

    for (const task of tasks)
        group.add(task);
    group.connect('items-changed', (model, ...change) => changes.push(change.join()));
    tasks[0].complete();
    tasks[2].complete();
    equal(group.get_n_items(), 3);
    group.clear_completed();
    equal(changes.join(' '), '2,1,0 0,1,0');
    equal(group.get_item(0), tasks[1]);
    tasks[1].complete();
});

test('/gjs/group/refuses', async () => {
    const group = QTask.TaskGroup.new(QTask.TaskGroupFlags.DEFAULT);
    const other = QTask.TaskGroup.new(QTask.TaskGroupFlags.DEFAULT);
    const task = new QTask.Task();

    group.add(task);
    await fails(() => other.add(task), Gio.IOErrorEnum, Gio.IOErrorEnum.EXISTS);
    group.close();
    await fails(() => group.add(new QTask.Task()), QTask.TaskError, QTask.TaskError.CLOSED);
    await fails(() => group.wait(QTask.TaskGroupWaitMode.ALL, null), QTask.TaskError,
        QTask.TaskError.DEADLOCK);
    task.complete();
});

test('/gjs/group/awaited', async () => {
    const group = QTask.TaskGroup.new(QTask.TaskGroupFlags.CANCEL_ON_ERROR);
    const tasks = [1, 2, 3].map(() => new QTask.Task());
    const seen = [];
    const cancelled = [];

    group.connect('notify::is-cancelled', () => cancelled.push(group.isCancelled));
    for (const task of tasks)
        group.add(task);

    GLib.timeout_add(GLib.PRIORITY_DEFAULT, 5, () => {
        tasks[1].return_boolean(true);
        return GLib.SOURCE_REMOVE;
    });
    equal(await group.wait_async(QTask.TaskGroupWaitMode.ANY, null), true);
    equal(group.get_n_items(), 2);

    group.connect('notify::progress', () => seen.push(group.progress));
    GLib.timeout_add(GLib.PRIORITY_DEFAULT, 5, () => {
        tasks[0].return_error(new GLib.Error(Gio.IOErrorEnum, Gio.IOErrorEnum.BUSY, 'busy'));
        return GLib.SOURCE_REMOVE;
    });
    const waited = fails(() => group.wait_async(QTask.TaskGroupWaitMode.ALL, null),
        Gio.IOErrorEnum, Gio.IOErrorEnum.BUSY, 'busy');
    tasks[2].get_stop_cancellable().connect(() => tasks[2].return_error_if_cancelled());
    await waited;
    equal(group.is_cancelled, true);
    equal(cancelled.join(), 'true');
    equal(tasks[2].is_cancelled(), true);
    equal(group.progress, 1);
    equal(seen.at(-1), 1);
});

test('/gjs/group/wait-cancelled', async () => {
    const group = QTask.TaskGroup.new(QTask.TaskGroupFlags.DEFAULT);
    const task = new QTask.Task();
    const cancellable = new Gio.Cancellable();

    group.add(task);
    GLib.timeout_add(GLib.PRIORITY_DEFAULT, 5, () => {
        cancellable.cancel();
        return GLib.SOURCE_REMOVE;
    });
    await fails(() => group.wait_async(QTask.TaskGroupWaitMode.ALL, cancellable), Gio.IOErrorEnum,
        Gio.IOErrorEnum.CANCELLED);
    equal(task.is_cancelled(), false);
    task.complete();
});

test('/gjs/group/no-parallel-for', () => {
    let message = '';
    try {
        QTask.TaskPool.get_default().parallel_for(10, 1, never, null);
    } catch (e) {
        message = e.message;
    }
    equal(message.includes('JavaScript has one thread'), true);
});

main();
