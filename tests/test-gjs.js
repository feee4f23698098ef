// test-gjs.js: QTask as JavaScript sees it, through the typelib and the override
//
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Prints TAP. Run with gjs -m; with GJS_PATH naming the folder above overrides/ to test
// the override of this tree. The tests run in a child process: a crash is one test that
// fails, and the parent sees to it that nothing is told on stderr but what must be.

import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import GObject from 'gi://GObject';
import QTask from 'gi://QTask?version=1';
import System from 'system';

import {equal, test, tests} from './test-util.js';

function raises(func) {
    let value;
    try {
        value = func();
    } catch (e) {
        return e;
    }
    throw new Error(`nothing was thrown, got ${value}`);
}

async function rejects(promise) {
    try {
        await promise;
    } catch (e) {
        return e;
    }
    throw new Error('the promise was not rejected');
}

function isError(error, domain, code, text = '') {
    if (!(error instanceof GLib.Error) || !error.matches(domain, code))
        throw new Error(`another error: ${error}`);
    if (!error.message.includes(text))
        throw new Error(`another message: ${error.message}`);
}

// A callback for worker threads: if it is ever called, that is what must not be.
function never() {
    throw new Error('JavaScript ran off the main thread');
}

function iterated() {
    return new Promise(resolve => GLib.idle_add(GLib.PRIORITY_LOW, () => {
        resolve();
        return GLib.SOURCE_REMOVE;
    }));
}

// What is there to see

test('/gjs/names', () => {
    for (const name of ['set_func', 'run_in_thread', 'run_in_thread_sync', 'complete', 'poll', 'wait',
        'wait_until', 'wait_async', 'wait_finish', 'cancel', 'is_cancelled', 'get_cancellable',
        'get_stop_cancellable', 'set_timeout', 'set_progress', 'get_progress', 'dup_progress_text',
        'set_error', 'set_result_int', 'set_result_boolean', 'set_result_value', 'set_result_variant',
        'set_result_object', 'set_result_bytes', 'had_error', 'get_error', 'propagate_error',
        'propagate_int', 'propagate_boolean', 'propagate_value', 'propagate_variant',
        'propagate_object', 'propagate_bytes', 'return_int', 'return_boolean', 'return_value',
        'return_error', 'get_source'])
        equal(`${name} ${typeof QTask.Task.prototype[name]}`, `${name} function`);
    for (const name of ['push', 'wait_for_space_async', 'get_stats', 'dump', 'list_tasks', 'close_async',
        'set_thread_initializer'])
        equal(`${name} ${typeof QTask.TaskPool.prototype[name]}`, `${name} function`);
});

test('/gjs/names-of-c-only', () => {
    for (const name of ['set_result_pointer', 'get_result_pointer', 'propagate_pointer', 'return_pointer',
        'propagate_boxed_value', 'set_task_data', 'get_task_data', 'set_source_tag', 'get_source_tag',
        'attach_source', 'set_static_name', 'set_new_error', 'return_new_error',
        'return_prefixed_error'])
        equal(`${name} ${typeof QTask.Task.prototype[name]}`, `${name} undefined`);
    for (const name of ['push_closure', 'set_thread_funcs'])
        equal(`${name} ${typeof QTask.TaskPool.prototype[name]}`, `${name} undefined`);
});

// Workers: JavaScript has none

test('/gjs/worker-is-an-error', async () => {
    let called = 0;
    const task = QTask.Task.new(null, t => {
        called++;
        equal(t.had_error(), true);
    });
    task.run_in_thread(never);
    equal(await task.wait_async(null), true);
    equal(called, 1);
    equal(task.poll(), QTask.TaskState.FINISHED);
    isError(task.get_error(), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
    isError(raises(() => task.propagate_value()), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
});

test('/gjs/worker-run-synchronously-is-an-error', () => {
    const task = QTask.Task.new(null, never);
    task.run_in_thread_sync(never);
    equal(task.get_completed(), true);
    isError(raises(() => task.propagate_int()), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
});

const Subclass = GObject.registerClass(class Subclass extends QTask.Task {
    vfunc_run() {
        never();
        return true;
    }
});

const SubSubclass = GObject.registerClass(class SubSubclass extends Subclass {});

test('/gjs/vfunc-is-an-error', async () => {
    for (const task of [new Subclass(), new SubSubclass()]) {
        task.run_in_thread(null);
        await task.wait_async(null);
        isError(raises(() => task.propagate_error()), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
    }
    const task = new Subclass();
    task.run_in_thread_sync(null);
    isError(raises(() => task.propagate_error()), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
});

test('/gjs/worker-in-a-pool-is-an-error', async () => {
    const pool = QTask.TaskPool.new('gjs', 2, 0);
    const tasks = [QTask.Task.new(null, null), new Subclass()];
    pool.push(tasks[0], never);
    pool.push(tasks[1], null);
    await Promise.all(tasks.map(task => task.wait_async(null)));
    for (const task of tasks)
        isError(task.get_error(), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
    equal(await pool.close_async(QTask.TaskPoolCloseMode.DRAIN, null), true);
    isError(raises(() => pool.push(QTask.Task.new(null, null), never)),
        QTask.TaskError, QTask.TaskError.CLOSED);
});

test('/gjs/thread-initializer-is-refused', () => {
    const pool = QTask.TaskPool.new('initialized', 1, 0);
    raises(() => pool.set_thread_initializer(never));
});

// Tasks that the main loop drives

test('/gjs/completed-by-hand', async () => {
    const seen = [];
    const task = QTask.Task.new(null, t => seen.push(t.propagate_int()));
    task.connect('notify::completed', t => seen.push(t.completed));
    GLib.timeout_add(GLib.PRIORITY_DEFAULT, 1, () => {
        task.set_result_int(42);
        task.complete();
        return GLib.SOURCE_REMOVE;
    });
    await task.wait_async(null);
    equal(seen.join(), '42,true');
});

test('/gjs/returned', async () => {
    const task = QTask.Task.new(null, null);
    task.return_boolean(true);
    equal(task.get_completed(), false);
    await task.wait_async(null);
    equal(task.propagate_boolean(), true);

    const failing = QTask.Task.new(null, null);
    failing.return_error(new GLib.Error(Gio.IOErrorEnum, Gio.IOErrorEnum.BUSY, 'busy'));
    await failing.wait_async(null);
    isError(raises(() => failing.propagate_error()), Gio.IOErrorEnum, Gio.IOErrorEnum.BUSY, 'busy');
});

test('/gjs/waiters', async () => {
    const task = QTask.Task.new(null, null);
    const cancellable = new Gio.Cancellable();
    const waits = [task.wait_async(null), task.wait_async(null)];
    const cancelled = rejects(task.wait_async(cancellable));
    cancellable.cancel();
    isError(await cancelled, Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED);
    equal(task.get_completed(), false);
    task.complete();
    equal((await Promise.all(waits)).join(), 'true,true');
    equal(task.wait(null), true);
});

test('/gjs/wait-with-a-callback', async () => {
    const task = QTask.Task.new(null, null);
    const done = new Promise((resolve, reject) => task.wait_async(null, (source, result) => {
        try {
            equal(source, task);
            resolve(source.wait_finish(result));
        } catch (e) {
            reject(e);
        }
    }));
    task.complete();
    equal(await done, true);
});

test('/gjs/wait-for-a-task-never-started', () => {
    const task = QTask.Task.new(null, null);
    isError(raises(() => task.wait(null)), QTask.TaskError, QTask.TaskError.DEADLOCK);
});

test('/gjs/progress', async () => {
    const seen = [];
    const task = QTask.Task.new(null, () => seen.push('callback'));
    task.connect('notify::progress', t => seen.push(t.progress));
    task.connect('notify::progress-text', t => seen.push(t.progress_text));
    task.set_progress(0.25, 'a quarter');
    task.set_progress(0.5, null);
    equal(task.get_progress(), 0.5);
    equal(task.dup_progress_text(), 'a quarter');
    task.complete();
    await task.wait_async(null);
    equal(seen[seen.length - 1], 'callback');
    if (!seen.includes(0.5) || !seen.includes('a quarter'))
        throw new Error(seen.join());
});

test('/gjs/cancel', async () => {
    const cancellable = new Gio.Cancellable();
    const task = new QTask.Task({cancellable});
    equal(task.get_cancellable(), cancellable);
    task.cancel();
    equal(task.is_cancelled(), true);
    // It belongs to the caller, who may share it.
    equal(cancellable.is_cancelled(), false);
    equal(task.get_stop_cancellable().is_cancelled(), true);
    task.run_in_thread(never);
    await task.wait_async(null);
    equal(task.poll(), QTask.TaskState.STOPPED);
    isError(raises(() => task.propagate_error()), Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED);
});

test('/gjs/cancelled-handler', () => {
    const task = QTask.Task.new(null, null);
    let called = 0;
    // Its own connect() is another one.
    GObject.Object.prototype.connect.call(task.get_stop_cancellable(), 'cancelled', () => called++);
    task.cancel();
    task.cancel();
    equal(called, 1);
});

// Results

function roundTrip(kind, value) {
    const task = QTask.Task.new(null, null);
    task[`set_result_${kind}`](value);
    task.complete();
    return task[`propagate_${kind}`]();
}

test('/gjs/results', () => {
    for (const n of [0, -1, 2 ** 40, -(2 ** 40)])
        equal(roundTrip('int', n), n);
    equal(roundTrip('boolean', true), true);
    equal(roundTrip('boolean', false), false);
    const object = new Gio.SimpleAction({name: 'name'});
    equal(roundTrip('object', object), object);
    const variant = new GLib.Variant('(sai)', ['x', [1, 2]]);
    equal(roundTrip('variant', variant).equal(variant), true);
    equal(roundTrip('bytes', new GLib.Bytes([1, 0, 2])).toArray().join(), '1,0,2');
    const value = new GObject.Value();
    value.init(GObject.TYPE_STRING);
    value.set_string('text');
    equal(roundTrip('value', value), 'text');
});

test('/gjs/result-or-error', () => {
    for (const kind of ['int', 'boolean', 'variant', 'object', 'bytes', 'value']) {
        const task = QTask.Task.new(null, null);
        task.set_error(new GLib.Error(QTask.TaskError, QTask.TaskError.CRASHED, 'why'));
        task.complete();
        isError(raises(() => task[`propagate_${kind}`]()), QTask.TaskError, QTask.TaskError.CRASHED, 'why');
    }
});

test('/gjs/properties', () => {
    const source = new Gio.SimpleAction({name: 'name'});
    const task = new QTask.Task({
        source_object: source, name: 'a task', priority: 5,
        check_cancellable: false, run_cancelled: true,
    });
    equal(task.get_source(), source);
    equal(task.get_source_object(), source);
    equal(task.name, 'a task');
    equal(task.priority, 5);
    equal(task.completion_priority, 5);
    equal(task.check_cancellable, false);
    equal(task.run_cancelled, true);
    equal(task.return_on_cancel, false);
    equal(QTask.Task.is_valid(task, source), true);
    equal(QTask.Task.is_valid(task, null), false);
});

test('/gjs/pool', async () => {
    const pool = QTask.TaskPool.new('small', 3, 7);
    equal(pool.get_name(), 'small');
    equal(pool.get_max_threads(), 3);
    equal(pool.get_max_queued(), 7);
    equal(pool.is_serial(), false);
    equal(QTask.TaskPool.new_serial(null).is_serial(), true);
    equal(pool.get_stats().queued, 0);
    equal(pool.list_tasks().length, 0);
    equal(await pool.wait_for_space_async(null), true);
    isError(await rejects(QTask.TaskPool.get_default().close_async(QTask.TaskPoolCloseMode.STOP, null)),
        Gio.IOErrorEnum, Gio.IOErrorEnum.NOT_SUPPORTED);
});

// Bad input

test('/gjs/arguments-of-the-wrong-type', () => {
    const task = QTask.Task.new(null, null);
    const pool = QTask.TaskPool.get_default();
    for (const call of [
        () => task.run_in_thread(3),
        () => task.set_func('func'),
        () => task.set_result_object({}),
        () => task.set_result_variant(3),
        () => task.wait({}),
        () => pool.push({}, never),
        () => pool.push(task, 3),
        () => QTask.Task.new('source', null),
    ])
        raises(call);
    equal(task.poll(), QTask.TaskState.NEW);
});

test('/gjs/second-start-is-refused', async () => {
    const task = QTask.Task.new(null, null);
    const pool = QTask.TaskPool.get_default();
    task.run_in_thread(never);
    isError(raises(() => pool.push(task, never)), Gio.IOErrorEnum, Gio.IOErrorEnum.PENDING);
    await task.wait_async(null);
    isError(raises(() => pool.push(task, never)), Gio.IOErrorEnum, Gio.IOErrorEnum.PENDING);
    isError(task.get_error(), QTask.TaskError, QTask.TaskError.FAILED);
});

// Closures, tasks and the collector

test('/gjs/many-tasks', async () => {
    const pool = QTask.TaskPool.new('many', 4, 0);
    let callbacks = 0;
    for (let round = 0; round < 20; round++) {
        const waits = [];
        for (let i = 0; i < 100; i++) {
            const task = i % 4 === 0 ? new Subclass() : new QTask.Task();
            task.set_func(() => callbacks++);
            task.connect('notify::completed', () => {});
            task.mine = {round, i};
            if (i % 7 === 0)
                task.cancel();
            if (i % 4 === 0)
                pool.push(task, null);
            else if (i % 4 === 1)
                pool.push(task, () => never(task));
            else if (i % 4 === 2)
                task.run_in_thread(() => never(round));
            else
                task.return_boolean(true);
            // Most go unreferenced, some are awaited.
            if (i % 2 === 0)
                waits.push(task.wait_async(null));
            if (i % 25 === 0)
                System.gc();
        }
        await Promise.all(waits);
        System.gc();
    }
    while (callbacks < 2000)
        await iterated();
    equal(callbacks, 2000);
    await pool.close_async(QTask.TaskPoolCloseMode.DRAIN, null);
    System.gc();
    await iterated();
    System.gc();
});

// Channels, sync points, steps and binding

function textOf(message) {
    return message === null ? null : new TextDecoder().decode(message.get_data());
}

test('/gjs/channel', async () => {
    const [first, second] = QTask.TaskChannel.new_pair();
    first.write('one', null);
    first.write_bytes(new GLib.Bytes('two'), null);
    equal(textOf(second.read(null)), 'one');
    equal(textOf(second.try_read()), 'two');
    isError(raises(() => second.try_read()), Gio.IOErrorEnum, Gio.IOErrorEnum.WOULD_BLOCK);

    Gio._promisify(QTask.TaskChannel.prototype, 'read_async', 'read_finish');
    Gio._promisify(QTask.TaskChannel.prototype, 'write_async', 'write_finish');
    const reading = second.read_async(null);
    await first.write_async(new GLib.Bytes('three'), null);
    equal(textOf(await reading), 'three');

    first.close();
    equal(await second.read_async(null), null);
    isError(raises(() => second.write('late', null)), Gio.IOErrorEnum, Gio.IOErrorEnum.BROKEN_PIPE);
});

test('/gjs/messages', async () => {
    const seen = [];
    const task = QTask.Task.new(null, () => seen.push('completed'));
    task.open_channel();
    isError(raises(() => task.open_channel()), Gio.IOErrorEnum, Gio.IOErrorEnum.PENDING);
    task.get_channel().set_message_func((channel, message) => seen.push(textOf(message)));
    for (let i = 0; i < 100; i++)
        task.get_worker_channel().write(`${i}`, null);
    task.return_boolean(true);
    while (!task.get_completed())
        await iterated(); // eslint-disable-line no-await-in-loop
    equal(seen.length, 102);
    equal(seen.slice(98).join(), '98,99,,completed');
});

test('/gjs/bind-callback', async () => {
    const seen = [];
    const task = QTask.Task.new(null, () => seen.push('completed'));
    task.bind_callback((bound, message) => {
        equal(bound, task);
        seen.push(textOf(message));
    });
    task.open_channel();
    task.get_worker_channel().write('one', null);
    task.return_boolean(true);
    while (!task.get_completed())
        await iterated(); // eslint-disable-line no-await-in-loop
    equal(seen.join(), 'one,,completed');
});

test('/gjs/bind-object', async () => {
    const window = new Gio.SimpleAction({name: 'window'});
    const task = QTask.Task.new(null, () => {
        throw new Error('the callback was not dropped');
    });
    task.bind_object(window, QTask.TaskBindFlags.DEFAULT);
    task.set_sync_func(never);
    equal(task.resume(false), false);
    window.run_dispose();
    equal(task.is_cancelled(), true);
    task.return_boolean(true);
    await iterated();

    const other = new Gio.SimpleAction({name: 'window'});
    const outlives = new QTask.Task({outlive: true});
    outlives.bind_object(other, QTask.TaskBindFlags.DEFAULT);
    other.run_dispose();
    equal(outlives.is_cancelled(), false);
    outlives.complete();
});

test('/gjs/steps-are-refused', async () => {
    const task = QTask.Task.new(null, null);
    task.run_steps_in_thread(never);
    while (!task.get_completed())
        await iterated(); // eslint-disable-line no-await-in-loop
    isError(task.get_error(), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');

    const pool = QTask.TaskPool.new('steps', 1, 0);
    const other = QTask.Task.new(null, null);
    equal(pool.push_steps(other, never), true);
    while (!other.get_completed())
        await iterated(); // eslint-disable-line no-await-in-loop
    isError(other.get_error(), QTask.TaskError, QTask.TaskError.FAILED, 'JavaScript');
});

async function runTests() {
    for (const [path, func] of tests) {
        try {
            await func();
            print(`ok ${path}`);
        } catch (e) {
            for (const line of `${e}\n${e.stack}`.trim().split('\n'))
                print(`# ${line}`);
            print(`not ok ${path}`);
        }
    }
}

// With no override, GJS itself blocks the call, and the library sees a worker that fails.
async function runWithoutOverride() {
    const task = QTask.Task.new(null, null);
    const completed = new Promise(resolve => task.connect('notify::completed', resolve));
    task.run_in_thread(never);
    await completed;
    isError(task.get_error(), QTask.TaskError, QTask.TaskError.FAILED);
}

// The child

function runChild(func) {
    const loop = new GLib.MainLoop(null, false);
    let status = 0;
    func().catch(e => {
        printerr(`${e}\n${e.stack}`);
        status = 1;
    }).finally(() => loop.quit());
    loop.run();
    System.exit(status);
}

// The parent

function spawn(mode) {
    const launcher = new Gio.SubprocessLauncher({
        flags: Gio.SubprocessFlags.STDOUT_PIPE | Gio.SubprocessFlags.STDERR_PIPE,
    });
    launcher.setenv('QTASK_TEST_CHILD', mode, true);
    // What GJS blocks is a critical warning.
    launcher.unsetenv('G_DEBUG');
    if (mode === 'bare')
        launcher.unsetenv('GJS_PATH');

    const child = launcher.spawnv([GLib.file_read_link('/proc/self/exe'), '-m', System.programPath]);
    const [, output, log] = child.communicate_utf8(null, null);
    const ended = child.get_if_exited() && child.get_exit_status() === 0;
    if (!ended)
        print(`# ${child.get_if_signaled() ? `signal ${child.get_term_sig()}` : 'another exit status'}`);
    return [output, log, ended];
}

function runParent() {
    const [output, log, ended] = spawn('tests');
    let failed = !ended || /^not ok /m.test(output);
    print(output.trim());
    print(`${ended ? 'ok' : 'not ok'} /gjs/ends-well`);

    const unexpected = log.split('\n').filter(line => /-(CRITICAL|WARNING|ERROR) \*\*/.test(line));
    for (const line of unexpected.slice(0, 20))
        print(`# ${line}`);
    print(`${unexpected.length === 0 ? 'ok' : 'not ok'} /gjs/no-warnings`);
    failed ||= unexpected.length > 0;

    if (System.version < 17600) {
        const [, bareLog, bareEnded] = spawn('bare');
        print(`${bareEnded ? 'ok' : 'not ok'} /gjs/blocked-worker-is-an-error`);
        if (!bareEnded)
            printerr(bareLog);
        failed ||= !bareEnded;
    } else {
        print('ok /gjs/blocked-worker-is-an-error # SKIP this GJS crashes where older ones block');
    }

    print(`1..${tests.length + 3}`);
    if (failed)
        printerr(log.slice(-10000));
    return failed ? 1 : 0;
}

switch (GLib.getenv('QTASK_TEST_CHILD')) {
case 'tests':
    runChild(runTests);
    break;

case 'bare':
    runChild(runWithoutOverride);
    break;

default:
    System.exit(runParent());
}
