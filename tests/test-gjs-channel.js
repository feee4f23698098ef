// test-gjs-channel.js: channels, steps and binding as JavaScript sees them
//
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Prints TAP. Run with gjs -m; with GJS_PATH naming the folder above overrides/ to test
// the override of this tree. What nobody expects ends the program.

import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import GObject from 'gi://GObject';
import QTask from 'gi://QTask?version=1';

import {decode, encode, equal, fails, main, never, test} from './test-util.js';

test('/gjs/channel/iterated', async () => {
    const [a, b] = QTask.TaskChannel.new_pair();
    const seen = [];

    a.write(encode('already there'), null);
    GLib.timeout_add(GLib.PRIORITY_DEFAULT, 5, () => {
        a.write_bytes(new GLib.Bytes([]), null);
        a.try_write(encode('last'));
        a.close();
        return GLib.SOURCE_REMOVE;
    });
    for await (const message of b)
        seen.push(`[${decode(message)}]`);
    equal(seen.join(), '[already there],[],[last]');

    for await (const message of b)
        never(message);
});

test('/gjs/channel/left-and-iterated-again', async () => {
    const [a, b] = QTask.TaskChannel.new_pair();
    const seen = [];

    for (const text of ['1', '2', '3'])
        a.write(encode(text), null);
    a.close();
    for await (const message of b) {
        seen.push(decode(message));
        break;
    }
    for await (const message of b)
        seen.push(decode(message));
    equal(seen.join(), '1,2,3');
});

test('/gjs/channel/read-async', async () => {
    const [a, b] = QTask.TaskChannel.new_pair();
    const read = b.read_async(null);

    equal(await a.write_async(encode('message'), null), true);
    equal(decode((await read).toArray()), 'message');
    await fails(() => b.try_read(), Gio.IOErrorEnum, Gio.IOErrorEnum.WOULD_BLOCK);
    a.close();
    equal(await b.read_async(null), null);
    b.close();
    await fails(() => b.read_async(null), Gio.IOErrorEnum, Gio.IOErrorEnum.CLOSED);
    await fails(async () => {
        for await (const message of b)
            never(message);
    }, Gio.IOErrorEnum, Gio.IOErrorEnum.CLOSED);
});

test('/gjs/channel/write-async-waits', async () => {
    const [a, b] = QTask.TaskChannel.new_pair();
    let written = false;

    a.set_capacity(1);
    await a.write_async(encode('1'), null);
    const write = a.write_async(encode('2'), null).then(() => (written = true));
    await new Promise(resolve => GLib.timeout_add(GLib.PRIORITY_LOW, 5, () => resolve() || false));
    equal(written, false);
    equal(decode(b.read(null).toArray()), '1');
    await write;
    equal(decode(b.read(null).toArray()), '2');
    b.close();
    await fails(() => a.write_async(encode('3'), null), Gio.IOErrorEnum, Gio.IOErrorEnum.BROKEN_PIPE);
});

test('/gjs/channel/message-func', async () => {
    const [a, b] = QTask.TaskChannel.new_pair();
    const seen = [];

    await new Promise(resolve => {
        b.set_message_func((channel, message) => {
            equal(channel, b);
            if (message === null)
                resolve();
            else
                seen.push(decode(message.toArray()));
        });
        a.write(encode('1'), null);
        a.write(encode('2'), null);
        a.close();
    });
    b.set_message_func(null);
    equal(seen.join(), '1,2');
});

test('/gjs/channel/of-a-task', async () => {
    const seen = [];
    const task = QTask.Task.new(null, () => seen.push('callback'));

    equal(task.get_channel(), null);
    equal(task.open_channel(), true);
    await fails(() => task.open_channel(), Gio.IOErrorEnum, Gio.IOErrorEnum.PENDING);
    task.bind_callback((_, message) => seen.push(message && decode(message.toArray())));
    task.get_worker_channel().write(encode('message'), null);
    GLib.idle_add(GLib.PRIORITY_HIGH, () => {
        task.complete();
        return GLib.SOURCE_REMOVE;
    });
    await task.wait_async(null);
    equal(seen.join(), 'message,,callback');
});

test('/gjs/steps-are-an-error', async () => {
    const pool = QTask.TaskPool.new('gjs', 1, 0);

    for (const start of [task => task.run_steps_in_thread(never), task => pool.push_steps(task, never)]) {
        const task = QTask.Task.new(null, null);
        start(task);
        await task.wait_async(null);
        await fails(() => task.propagate_error(), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
    }

    pool.close(QTask.TaskPoolCloseMode.DRAIN, null);
    const task = QTask.Task.new(null, null);
    await fails(() => pool.push_steps(task, never), QTask.TaskError, QTask.TaskError.CLOSED);
    task.complete();
});

test('/gjs/bound-object', async () => {
    const object = new GObject.Object();
    const task = QTask.Task.new(null, never);

    task.set_sync_func(never);
    equal(task.resume(false), false);
    task.bind_object(object, QTask.TaskBindFlags.DEFAULT);

    const outlives = QTask.Task.new(null, never);
    outlives.bind_object(object, QTask.TaskBindFlags.OUTLIVE);

    object.run_dispose();
    equal(task.is_cancelled(), true);
    equal(outlives.is_cancelled(), false);

    for (const over of [task, outlives]) {
        over.complete();
        await over.wait_async(null);
    }
});

main();
