// QTask.js: what JavaScript has besides the introspected QTask
//
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// JavaScript has one thread. What it can do is await what others run, and drive tasks
// from the main loop:
//
//     await task.wait_async(null);
//     const sum = task.propagate_int();
//
// It reads what a worker writes to the channel of its task, as Uint8Array:
//
//     for await (const message of task.get_channel())
//         print(new TextDecoder().decode(message));
//
// What is to run beside the main loop runs in worker processes:
//
//     const launcher = QTask.TaskLauncher.new(['gjs', '-m', 'worker.js']);
//     const sum = await launcher.run({path: '/etc/os-release'});
//
// A JavaScript function that is given as a worker, or is the vfunc_run() of a subclass, is
// never called: the task fails with QTask.TaskError.FAILED. It is not left to GJS to block
// the call in the other thread: some versions crash then (1.82), others when a garbage
// collection is going on meanwhile (1.74).

'use strict';

const {Gio, GLib} = imports.gi;

function _init() {
    const QTask = this;
    const taskPrototype = QTask.Task.prototype;
    const poolPrototype = QTask.TaskPool.prototype;
    const runInThread = taskPrototype.run_in_thread;
    const runInThreadSync = taskPrototype.run_in_thread_sync;
    const runStepsInThread = taskPrototype.run_steps_in_thread;
    const serve = QTask.Task.serve;
    const runInProcess = taskPrototype.run_in_process;
    const push = poolPrototype.push;
    const pushSteps = poolPrototype.push_steps;
    const channelPrototype = QTask.TaskChannel.prototype;
    const launcherPrototype = QTask.TaskLauncher.prototype;
    const refused = new WeakSet();

    Gio._promisify(taskPrototype, 'wait_async', 'wait_finish');
    Gio._promisify(poolPrototype, 'wait_for_space_async', 'wait_for_space_finish');
    Gio._promisify(poolPrototype, 'close_async', 'close_finish');
    Gio._promisify(QTask.TaskGroup.prototype, 'wait_async', 'wait_finish');
    Gio._promisify(launcherPrototype, 'run_async', 'run_finish');
    Gio._promisify(channelPrototype, 'read_async', 'read_finish');
    Gio._promisify(channelPrototype, 'write_async', 'write_finish');

    channelPrototype[Symbol.asyncIterator] = async function* () {
        let message;
        while ((message = await this.read_async(null)) !== null)
            yield message.toArray();
    };

    // A request of plain values: arrays are av, objects a{sv}.
    function pack(value) {
        if (value instanceof GLib.Variant)
            return value;
        if (typeof value === 'boolean')
            return new GLib.Variant('b', value);
        if (typeof value === 'string')
            return new GLib.Variant('s', value);
        if (typeof value === 'number')
            return new GLib.Variant(Number.isSafeInteger(value) ? 'x' : 'd', value);
        if (value instanceof Uint8Array)
            return new GLib.Variant('ay', value);
        if (Array.isArray(value))
            return new GLib.Variant('av', value.map(pack));
        if (typeof value === 'object' && value !== null) {
            return new GLib.Variant('a{sv}',
                Object.fromEntries(Object.entries(value).map(([key, member]) => [key, pack(member)])));
        }
        throw new TypeError(`${value} cannot be sent to another process`);
    }

    taskPrototype.run_in_process = function (launcher, request) {
        runInProcess.call(this, launcher, pack(request));
    };

    // Where GJS takes any object for true, a promise would be a success before it is settled.
    QTask.Task.serve = function (func) {
        return serve.call(this, (task, request) => {
            const success = func(task, request);
            if (typeof success?.then === 'function')
                throw new TypeError('The function of a worker must not be asynchronous: its task ends when it returns');
            return success;
        });
    };

    // Gives the result as plain values, or null if the worker has set none. The settings are
    // a cancellable, or an object with any of these:
    //
    // name: names the task
    // priority: one of GLib.PRIORITY_…
    // cancellable: a Gio.Cancellable that stops the task
    // timeout: seconds after which the task is asked to stop, and has failed
    // returnOnCancel: whether the promise is settled as soon as the task is cancelled or has
    //     timed out, and not when its process has ended it
    // progress: called with the fraction that is done, between 0 and 1
    // group: a QTask.TaskGroup that the task is added to
    launcherPrototype.run = async function (request, settings = null) {
        if (settings === null || settings instanceof Gio.Cancellable)
            settings = {cancellable: settings};

        const {
            name = null, priority = GLib.PRIORITY_DEFAULT, cancellable = null, timeout = null,
            returnOnCancel = false, progress = null, group = null, ...unknown
        } = settings;
        if (Object.keys(unknown).length > 0)
            throw new TypeError(`There is no such setting: ${Object.keys(unknown).join(', ')}`);
        if (timeout !== null && !(timeout > 0))
            throw new RangeError('A timeout must be more than 0 seconds');
        if (progress !== null && typeof progress !== 'function')
            throw new TypeError('progress must be a function');

        const variant = pack(request);
        const task = new QTask.Task({name, priority, cancellable});
        group?.add(task);
        if (timeout !== null)
            task.set_timeout(Math.max(1, Math.floor(timeout * 1000000)));
        if (returnOnCancel)
            task.set_return_on_cancel(true);

        const handler = progress && task.connect('notify::progress', () => progress(task.get_progress()));
        try {
            runInProcess.call(task, this, variant);
            await task.wait_async(null);
        } finally {
            if (handler)
                task.disconnect(handler);
        }

        const result = task.propagate_variant();
        return result === null ? null : result.recursiveUnpack();
    };

    function isJavaScript(task, worker) {
        if (typeof worker === 'function')
            return true;

        // The nearest implementation is the one that runs; that of a class in C is a
        // function of another kind.
        for (let p = Object.getPrototypeOf(task); p && p !== taskPrototype; p = Object.getPrototypeOf(p)) {
            const run = Object.getOwnPropertyDescriptor(p, 'vfunc_run')?.value;
            if (run)
                return Object.prototype.toString.call(run) === '[object Function]';
        }

        return false;
    }

    // Whether the worker of a task would be called, and must not be.
    function isRefused(task, worker) {
        if (!(task instanceof QTask.Task) || !isJavaScript(task, worker))
            return false;

        // A second start, and one that is withdrawn: the library has the answers.
        if (refused.has(task) || task.poll() !== QTask.TaskState.NEW ||
            task.is_cancelled() && !task.get_run_cancelled())
            return false;

        refused.add(task);
        return true;
    }

    function newError() {
        return new GLib.Error(QTask.TaskError, QTask.TaskError.FAILED,
            'A JavaScript function cannot be the worker of a task, since JavaScript has one thread');
    }

    taskPrototype.run_in_thread = function (worker = null) {
        if (isRefused(this, worker))
            this.return_error(newError());
        else
            runInThread.call(this, worker);
    };

    taskPrototype.run_in_thread_sync = function (worker = null) {
        if (isRefused(this, worker)) {
            // The outcome can be read at once, and no callback is called.
            this.set_func(null);
            this.set_error(newError());
            this.complete();
        } else {
            runInThreadSync.call(this, worker);
        }
    };

    poolPrototype.push = function (task, worker = null) {
        if (this.is_closed() || !isRefused(task, worker))
            return push.call(this, task, worker);

        task.return_error(newError());
        return true;
    };

    taskPrototype.run_steps_in_thread = function (worker) {
        if (isRefused(this, worker))
            this.return_error(newError());
        else
            runStepsInThread.call(this, worker);
    };

    poolPrototype.push_steps = function (task, worker) {
        if (this.is_closed() || !isRefused(task, worker))
            return pushSteps.call(this, task, worker);

        task.return_error(newError());
        return true;
    };

    poolPrototype.parallel_for = function () {
        throw new Error('JavaScript has one thread: a loop cannot run in others');
    };

    poolPrototype.set_thread_initializer = function () {
        throw new Error('JavaScript has one thread: it cannot initialize others');
    };
}
