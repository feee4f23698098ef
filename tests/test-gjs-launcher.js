// test-gjs-launcher.js: worker processes, with a parent in JavaScript
//
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// usage: gjs -m test-gjs-launcher.js NAME=COMMAND…
//
// Each command runs a worker of doc/examples, but that of the name "mirror" sends back whatever
// comes. Prints TAP. Run with GJS_PATH naming the folder above overrides/ to test the override of
// this tree.

import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import QTask from 'gi://QTask?version=1';

import {decode, encode, equal, fails, main, test} from './test-util.js';

const commands = ARGV.map(argument => [argument.slice(0, argument.indexOf('=')),
    GLib.shell_parse_argv(argument.slice(argument.indexOf('=') + 1))[1]]);
const workers = commands.filter(([name]) => name !== 'mirror');
// One that sends back whatever comes
const mirror = new Map(commands).get('mirror');

// A test that is run with a launcher of each worker.
function testEach(path, func) {
    for (const [name, argv] of workers) {
        test(path.replace('*', name), () => {
            const launcher = QTask.TaskLauncher.new(argv);
            launcher.set_max_processes(2);
            return Promise.resolve(func(launcher)).finally(() => launcher.set_idle_timeout(0));
        });
    }
}

const request = (what, argument) => new GLib.Variant('(sv)', [what, argument]);

function start(launcher, what, argument, prepare = () => {}) {
    const task = QTask.Task.new(null, null);
    prepare(task);
    task.run_in_process(launcher, request(what, argument));
    return task;
}

async function finish(task) {
    await task.wait_async(null);
    return task.propagate_variant();
}

function sleep(milliseconds) {
    return new Promise(resolve => GLib.timeout_add(GLib.PRIORITY_DEFAULT, milliseconds, () => {
        resolve();
        return GLib.SOURCE_REMOVE;
    }));
}

testEach('/gjs-launcher/*/echo', async launcher => {
    for (const value of [
        new GLib.Variant('s', 'Hello – “world”'),
        new GLib.Variant('a{sv}', {a: new GLib.Variant('u', 5)}),
        GLib.Variant.new_from_bytes(new GLib.VariantType('ay'), new GLib.Bytes(new Uint8Array(100000)), true),
        new GLib.Variant('()', []),
    ]) {
        const result = await finish(start(launcher, 'echo', value));
        equal(result.equal(value), true);
    }
});

testEach('/gjs-launcher/*/run-async', async launcher => {
    const result = await launcher.run_async(request('echo', new GLib.Variant('s', 'text')), null);
    equal(result.unpack(), 'text');

    const all = await Promise.all([1, 2, 3, 4, 5].map(n =>
        launcher.run_async(request('echo', new GLib.Variant('u', n)), null)));
    equal(all.map(value => value.unpack()).join(), '1,2,3,4,5');

    const cancellable = new Gio.Cancellable();
    cancellable.cancel();
    await fails(launcher.run_async(request('echo', new GLib.Variant('u', 1)), cancellable),
        Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED);
});

testEach('/gjs-launcher/*/progress-and-result', async launcher => {
    const seen = [];
    const task = start(launcher, 'count-primes', new GLib.Variant('u', 50000),
        t => t.connect('notify::progress', () => seen.push(t.get_progress())));
    equal((await finish(task)).unpack(), 5133);
    equal(seen.at(-1), 0.98);
    equal(seen.join(), [...seen].sort((a, b) => a - b).join());
});

testEach('/gjs-launcher/*/messages', async launcher => {
    const task = start(launcher, 'shout', new GLib.Variant('()', []), t => t.open_channel());
    const channel = task.get_channel();
    const seen = [];

    for (const text of ['one', 'two', 'three'])
        channel.try_write(encode(text));
    for await (const message of channel) {
        seen.push(decode(message));
        if (seen.length === 3)
            break;
    }
    channel.close();
    equal(seen.join(), 'ONE,TWO,THREE');
    equal((await finish(task)).unpack(), 3);
});

testEach('/gjs-launcher/*/error', async launcher => {
    await fails(finish(start(launcher, 'dance', new GLib.Variant('()', []))),
        Gio.IOErrorEnum, Gio.IOErrorEnum.NOT_SUPPORTED, 'It is not known how to dance');
    equal((await finish(start(launcher, 'echo', new GLib.Variant('s', 'text')))).unpack(), 'text');
});

testEach('/gjs-launcher/*/cancel', async launcher => {
    const task = start(launcher, 'count-primes', new GLib.Variant('u', 1000000000));
    while (task.get_progress() === 0)
        await sleep(1);
    task.cancel();
    await fails(finish(task), Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED);
    equal((await finish(start(launcher, 'echo', new GLib.Variant('s', 'text')))).unpack(), 'text');
});

testEach('/gjs-launcher/*/standard-streams', async launcher => {
    launcher.set_transport(QTask.TaskTransport.STDIO);
    equal((await finish(start(launcher, 'echo', new GLib.Variant('s', 'text')))).unpack(), 'text');
    equal((await finish(start(launcher, 'count-primes', new GLib.Variant('u', 100)))).unpack(), 25);
});

testEach('/gjs-launcher/*/unexpected', async launcher => {
    // Nobody has opened a channel.
    try {
        await finish(start(launcher, 'shout', new GLib.Variant('()', [])));
    } catch (e) {
        // What was wrong is said.
        if (!/nobody to talk to|TypeError: 'NoneType'|channel is null/.test(e.message))
            throw e;
        equal((await finish(start(launcher, 'echo', new GLib.Variant('s', 'text')))).unpack(), 'text');
        return;
    }
    throw new Error('there was no error');
});

test('/gjs-launcher/plain-values', async () => {
    const launcher = QTask.TaskLauncher.new(mirror);

    for (const value of ['text', '', 5, -1, 2 ** 40, 0.5, true, false, [], {}, [1, 'two', [3.5]],
        {path: '/etc/os-release', lines: [1, 2], deep: {a: {b: false}}}])
        equal(JSON.stringify(await launcher.run(value)), JSON.stringify(value));
    equal((await launcher.run(new Uint8Array([0, 1, 255]))).join(), '0,1,255');
    equal((await launcher.run(new GLib.Variant('(is)', [5, 'text']))).join(), '5,text');
    for (const value of [undefined, null, () => 5, Symbol('x')]) {
        let isRefused = false;
        await launcher.run(value).catch(e => (isRefused = e instanceof TypeError));
        equal(isRefused, true);
    }
    launcher.set_idle_timeout(0);
});

testEach('/gjs-launcher/*/run', async launcher => {
    const forever = request('count-primes', new GLib.Variant('u', 1000000000));
    const seen = [];

    // Both start before one of them is awaited.
    const [first, second] = [1, 2].map(n => launcher.run(request('echo', new GLib.Variant('u', n))));
    equal(await first, 1);
    equal(await second, 2);

    const group = QTask.TaskGroup.new(QTask.TaskGroupFlags.KEEP_COMPLETED);
    equal(await launcher.run(request('count-primes', new GLib.Variant('u', 50000)), {
        name: 'primes', priority: GLib.PRIORITY_LOW, group, progress: fraction => seen.push(fraction),
    }), 5133);
    equal(seen.join(), [...seen].sort((a, b) => a - b).join());
    equal(seen.at(-1), 0.98);
    const task = group.get_item(0);
    equal(task.name, 'primes');
    equal(task.priority, GLib.PRIORITY_LOW);

    await fails(launcher.run(forever, {timeout: 0.05}), Gio.IOErrorEnum, Gio.IOErrorEnum.TIMED_OUT);
    for (const wrap of [cancellable => cancellable, cancellable => ({cancellable})]) {
        const cancellable = Gio.Cancellable.new();
        const run = launcher.run(forever, wrap(cancellable));
        cancellable.cancel();
        await fails(run, Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED);
    }

    for (const settings of [{timout: 1}, {progress: 3}, {group: 3}, {cancellable: 3}, {timeout: 0}]) {
        let isRefused = false;
        await launcher.run('text', settings).catch(() => (isRefused = true));
        equal(isRefused, true);
    }
});

test('/gjs-launcher/run-that-returns-on-cancel', async () => {
    // It does not look whether it is to stop, and is killed long after this.
    const launcher = QTask.TaskLauncher.new(mirror);
    const group = QTask.TaskGroup.new(QTask.TaskGroupFlags.KEEP_COMPLETED);
    launcher.set_kill_timeout(2 * GLib.USEC_PER_SEC);
    await fails(launcher.run(request('ignore', new GLib.Variant('()', [])), {timeout: 0.05, returnOnCancel: true, group}),
        Gio.IOErrorEnum, Gio.IOErrorEnum.TIMED_OUT);
    equal(group.get_item(0).poll(), QTask.TaskState.STOPPING);
    launcher.set_idle_timeout(0);
});

// A promise is no success: what is to settle it would come after the task.
test('/gjs-launcher/worker-that-is-asynchronous', async () => {
    const [file, stream] = Gio.File.new_tmp('worker-XXXXXX.js');
    stream.output_stream.write_all(encode(`
        import QTask from 'gi://QTask?version=1';
        import System from 'system';
        System.exit(QTask.Task.serve(async () => true));
    `), null);
    stream.close(null);
    const launcher = QTask.TaskLauncher.new(['gjs', '-m', file.get_path()]);
    let message = '';
    await launcher.run('text').catch(e => (message = e.message));
    equal(message.includes('must not be asynchronous'), true);
    launcher.set_idle_timeout(0);
    file.delete(null);
});

test('/gjs-launcher/run-of-a-task', async () => {
    const launcher = QTask.TaskLauncher.new(mirror);
    const task = QTask.Task.new(null, null);
    task.run_in_process(launcher, {path: '/etc/os-release', lines: [1, 2]});
    await task.wait_async(null);
    equal(JSON.stringify(task.propagate_variant().recursiveUnpack()), '{"path":"/etc/os-release","lines":[1,2]}');
    launcher.set_idle_timeout(0);
});

test('/gjs-launcher/no-such-program', async () => {
    const launcher = QTask.TaskLauncher.new(['/no/such/program']);
    await fails(launcher.run_async(new GLib.Variant('s', ''), null), GLib.SpawnError, GLib.SpawnError.NOENT,
        '/no/such/program');
});

// Two of them run at once, while the main loop goes on.

async function measureLateness(until) {
    const late = [];
    let last = GLib.get_monotonic_time();
    let isOver = false;
    until.finally(() => (isOver = true));

    await new Promise(resolve => GLib.timeout_add(GLib.PRIORITY_DEFAULT, 4, () => {
        const now = GLib.get_monotonic_time();
        late.push((now - last) / 1000 - 4);
        last = now;
        if (!isOver)
            return GLib.SOURCE_CONTINUE;
        resolve();
        return GLib.SOURCE_REMOVE;
    }));
    late.sort((a, b) => a - b);
    return [late[Math.floor((late.length - 1) * 0.99)], late.length];
}

test('/gjs-launcher/two-at-once-and-the-loop-ticks', async () => {
    const argv = new Map(workers).get('javascript');
    if (!argv)
        return 'no worker in JavaScript';
    if (GLib.get_num_processors() < 2)
        return 'there is one processor';

    const launcher = QTask.TaskLauncher.new(argv);
    const end = new GLib.Variant('u', 800000);
    launcher.set_max_processes(2);
    await Promise.all([0, 1].map(() => finish(start(launcher, 'count-primes', new GLib.Variant('u', 2000)))));

    let reason = '';
    for (let i = 0; i < 4; i++) {
        const tasks = [0, 1].map(() => start(launcher, 'count-primes', end));
        const halves = [0, 0];
        tasks.forEach((task, j) => task.connect('notify::progress', () => (halves[j] = Math.max(halves[j],
            tasks[1 - j].get_completed() ? 0 : task.get_progress()))));
        const [late, n] = await measureLateness(Promise.all(tasks.map(finish)));

        print(`# p99 of ${n} ticks is ${late.toFixed(1)} ms late; while the other one ran, they came to ${
            halves.map(value => value.toFixed(2))}`);
        // Each came half of its way, at least, before the other one was over.
        if (late <= 16 && Math.min(...halves) > 0.5 && n > 20) {
            launcher.set_idle_timeout(0);
            return '';
        }
        reason = `late by ${late} ms, overlap ${halves}, ${n} ticks`;
    }
    launcher.set_idle_timeout(0);
    const load = parseFloat(decode(GLib.file_get_contents('/proc/loadavg')[1]));
    if (load > GLib.get_num_processors() + 3)
        return `others use the processors, the load is ${load}`;
    throw new Error(reason);
});

main();
