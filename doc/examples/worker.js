// worker.js: a program whose work is asked for by another one
//
// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A request is what to do, and with what.

import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import QTask from 'gi://QTask?version=1';
import System from 'system';

// Keeps a processor busy, tells how far it is, and stops when it is asked to.
function countPrimes(task, end) {
    let count = 0;
    for (let n = 2; n < end; n++) {
        let divisor = 2;
        while (divisor * divisor <= n && n % divisor !== 0)
            divisor++;
        if (divisor * divisor > n)
            count++;
        if (n % 1000 === 0) {
            task.set_progress(n / end, null);
            task.get_stop_cancellable().set_error_if_cancelled();
        }
    }
    return new GLib.Variant('u', count);
}

// Answers each message on the channel of the task, until there are no more.
function shout(task) {
    const channel = task.get_worker_channel();
    const stop = task.get_stop_cancellable();
    let messages = 0;
    let message;
    while ((message = channel.read(stop)) !== null) {
        const text = new TextDecoder().decode(message.toArray());
        channel.write(new TextEncoder().encode(text.toUpperCase()), stop);
        messages++;
    }
    return new GLib.Variant('u', messages);
}

// What it throws becomes the error of the task.
function serve(task, request) {
    const [what, argument] = request.deepUnpack();
    let result;
    if (what === 'echo')
        result = argument;
    else if (what === 'count-primes')
        result = countPrimes(task, argument.unpack());
    else if (what === 'shout')
        result = shout(task);
    else
        throw new GLib.Error(Gio.IOErrorEnum, Gio.IOErrorEnum.NOT_SUPPORTED, `It is not known how to ${what}`);
    task.set_result_variant(result);
    return true;
}

// Until the parent has no more requests, or has gone
System.exit(QTask.Task.serve(serve));
