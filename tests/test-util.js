// test-util.js: what the tests in JavaScript share
//
// SPDX-License-Identifier: LGPL-2.1-or-later

import GLib from 'gi://GLib';
import System from 'system';

const TIME_LIMIT = 60;

export const tests = [];

export function test(path, func) {
    tests.push([path, func]);
}

export function equal(a, b) {
    if (a !== b)
        throw new Error(`${a} !== ${b}`);
}

// What fails may be a promise, or a function that throws or returns one.
export async function fails(what, domain, code, text = '') {
    try {
        await (typeof what === 'function' ? what() : what);
    } catch (e) {
        if (e instanceof GLib.Error && e.matches(domain, code) && e.message.includes(text))
            return;
        throw new Error(`another error: ${e}`);
    }
    throw new Error('there was no error');
}

export function never() {
    throw new Error('this must not be called');
}

export const encode = text => new TextEncoder().encode(text);
export const decode = bytes => new TextDecoder().decode(bytes);

async function runAll() {
    let failed = 0;

    print(`1..${tests.length}`);
    for (const [i, [path, func]] of tests.entries()) {
        const watchdog = GLib.timeout_add_seconds(GLib.PRIORITY_HIGH, TIME_LIMIT, () => {
            print(`Bail out! ${path} takes too long`);
            System.exit(1);
        });
        try {
            const reason = await func();
            print(`ok ${i + 1} ${path}${reason ? ` # SKIP ${reason}` : ''}`);
        } catch (e) {
            failed++;
            for (const line of `${e}\n${e.stack}`.trim().split('\n'))
                print(`# ${line}`);
            print(`not ok ${i + 1} ${path}`);
        }
        GLib.source_remove(watchdog);
        System.gc();
    }
    return failed;
}

// Runs all tests, one after the other, prints TAP, and exits. A test that returns something is
// skipped, for that reason. What nobody expects ends the program.
export function main() {
    GLib.log_set_always_fatal(GLib.LogLevelFlags.LEVEL_CRITICAL | GLib.LogLevelFlags.LEVEL_WARNING |
        GLib.LogLevelFlags.LEVEL_ERROR);

    const loop = new GLib.MainLoop(null, false);
    let failed = 1;
    runAll().then(n => (failed = n)).catch(logError).finally(() => loop.quit());
    loop.run();
    System.exit(failed ? 1 : 0);
}
