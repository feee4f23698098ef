// processes.js: a program that starts itself, to work on several processors
//
// SPDX-License-Identifier: LGPL-2.1-or-later

import GLib from 'gi://GLib';
import QTask from 'gi://QTask?version=1';
import System from 'system';

// Called in a worker process. What it throws becomes the error of the task.
function countPrimes(task, request) {
    const {from, to} = request.recursiveUnpack();
    let primes = 0;
    for (let n = from; n < to; n++) {
        task.get_stop_cancellable().set_error_if_cancelled();
        let divisor = 2;
        while (divisor * divisor <= n && n % divisor !== 0)
            divisor++;
        primes += divisor * divisor > n;
        task.set_progress((n + 1 - from) / (to - from), null);
    }
    task.set_result_variant(new GLib.Variant('x', primes));
    return true;
}

async function main() {
    const [path] = GLib.filename_from_uri(import.meta.url);
    const launcher = QTask.TaskLauncher.new(['gjs', '-m', path, 'worker']);

    // Both run at the same time.
    const few = launcher.run({from: 2, to: 1000});
    const more = launcher.run({from: 1000, to: 2000}, {timeout: 60});
    print(await few, 'and', await more);

    // What it throws is thrown here, as an error of GLib; a timeout is one as well.
    try {
        await launcher.run({from: 2, to: 10 ** 9}, {timeout: 0.1});
    } catch (error) {
        print(error.message);
    }
}

if (System.programArgs.includes('worker')) {
    // Until the parent has no more requests, or has gone
    System.exit(QTask.Task.serve(countPrimes));
}

const loop = GLib.MainLoop.new(null, false);
main().catch(logError).finally(() => loop.quit());
loop.run();
