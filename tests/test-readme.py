#!/usr/bin/env python3
# test-readme.py: what the README and the manual show does what they say
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-readme.py SOURCE-ROOT BUILD-ROOT
#
# Prints TAP. To be run with a Python that has PyGObject.

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TIME_LIMIT = 60

root = pathlib.Path(sys.argv[1]).resolve()
build = pathlib.Path(sys.argv[2]).resolve()
examples = root / 'doc' / 'examples'

# What each example prints. The digest has a test of its own, and so has the library.
PRINTED = {
    'await.py': '25 and 168\n'
                "invalid literal for int() with base 10: 'ten'\n"
                'The task took longer than its timeout\n',
    'bind.c': 'Found 1\n'
              'Found 4\n'
              'Found 9\n'
              'Found 16\n'
              'The window closes\n'
              'The search has ended\n'
              'Written, and saved\n',
    'cancel.c': 'queued: Operation was cancelled\n'
                'running: Operation was cancelled\n'
                'late: The task took longer than its timeout\n',
    'channel.c': 'New: to be or not\n'
                 'New: that is the question\n'
                 'New: sleep\n'
                 'No more answers\n'
                 '9 words\n',
    'channel.py': '6 words\n'
                  '4 words\n',
    'group.c': '1 in the list\n'
               '2 in the list\n'
               '1 in the list\n'
               '0 in the list\n'
               'All is well: 100 %\n'
               '10 words, 0 stopped\n'
               '1 in the list\n'
               '2 in the list\n'
               '1 in the list\n'
               '0 in the list\n'
               'The first error: One of them is empty\n'
               '0 words, 1 stopped\n',
    'gtask-port.c': '6 words\n'
                    'Operation was cancelled\n',
    'hello.c': 'Hello, world!\n',
    'hello.js': 'The task has completed\n'
                'Hello, world!\n',
    'hello.py': 'Hello, world!\n',
    'hello.vala': 'Hello, world!\n',
    'parallel.c': '9592 primes below 100000\n'
                  'There is something wrong with 50000\n',
    'pool.c': '1000 ran\n'
              '0 heard of\n'
              '1000 heard of\n',
    'processes.js': '168 and 135\n'
                    'The task took longer than its timeout\n',
    'processes.py': '168 and 135\n'
                    'The task took longer than its timeout\n',
    'spawn.py': 'The loop goes on\n'
                'to be: 0af1207e\n',
    'steps.c': ('1229 primes below 10000\n'
                '2262 primes below 20000\n'
                '3245 primes below 30000\n'
                'Ended: Operation was cancelled\n') * 2,
    'subclass.c': '5 words\n',
    'thumbnail.c': 'A thumbnail of 4096 bytes\n'
                   'Done: 100 %\n'
                   'No thumbnail: An image of 7 bytes cannot be scaled\n'
                   'Done: 0 %\n',
    'wait.c': 'The sum is 25\n'
              'Waited without blocking\n'
              'Nobody will ever run this one\n',
}

NOT_RUN = {'digest.c', 'digest-entry.c', 'digest-entry.h', 'http-server.c', 'meson.build', 'ws-server.c',
           'spin.c', 'spin.h', 'spin.py', 'worker.c', 'worker.js', 'worker.py'}

number = 0


class Skip(Exception):
    pass


def result(what, problem):
    global number
    number += 1
    if problem:
        print('#', problem.rstrip().replace('\n', '\n# '))
    print('not ok' if problem else 'ok', number, '-', what)


def find(program):
    path = shutil.which(program)
    if path is None:
        raise Skip(f'no {program}')
    return path


def compile_vala(source, directory):
    if not (build / 'qtask' / 'qtask-1.vapi').exists():
        raise Skip('no vapi')
    program = pathlib.Path(directory, source.stem)
    subprocess.run([find('valac'), '--quiet', '--vapidir', build / 'qtask',
                    '--pkg', 'gio-2.0', '--pkg', 'qtask-1',
                    '-X', '-w', '-X', f'-I{root}', '-X', f'-I{build}',
                    '-X', f'-L{build / "qtask"}', '-X', '-lqtask-1',
                    '--directory', directory, '--output', program.name, source],
                   check=True, timeout=TIME_LIMIT)
    return program


def command(source, directory):
    if source.suffix == '.c':
        program = build / 'doc' / source.stem
        return [program if program.exists() else build / 'doc' / 'examples' / source.stem]
    if not (build / 'qtask' / 'QTask-1.typelib').exists():
        raise Skip('no typelib')
    if source.suffix == '.py':
        return [sys.executable, source]
    if source.suffix == '.js':
        return [find('gjs'), '-m', source]
    return [compile_vala(source, directory)]


def environment(source, directory):
    """For Python and what it starts, the override of this tree, before one that is installed;
    hello.py needs none"""
    if source.suffix != '.py' or source.name == 'hello.py':
        return None
    pathlib.Path(directory, 'sitecustomize.py').write_text(
        f'import gi.overrides\ngi.overrides.__path__.insert(0, {str(root / "qtask" / "overrides")!r})\n')
    paths = [directory, *filter(None, [os.environ.get('PYTHONPATH')])]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}


def run(source):
    global number
    with tempfile.TemporaryDirectory() as directory:
        try:
            process = subprocess.run(command(source, directory), timeout=TIME_LIMIT,
                                     env=environment(source, directory), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except Skip as why:
            number += 1
            print(f'ok {number} - {source.name} # SKIP {why}')
            return
        except (OSError, subprocess.SubprocessError) as error:
            result(source.name, str(error))
            return

    problem = ''
    if process.returncode != 0:
        problem = f'ended with {process.returncode}\n{process.stderr}'
    elif process.stderr:
        problem = f'said\n{process.stderr}'
    elif process.stdout != PRINTED[source.name]:
        problem = f'printed\n{process.stdout}and not\n{PRINTED[source.name]}'
    result(f'{source.name} prints what it should', problem)


def readme_shows(name, language):
    readme = (root / 'README.md').read_text()
    shown = re.findall(rf'^```{language}\n(.*?)^```$', readme, flags=re.DOTALL | re.MULTILINE)
    problem = '' if shown == [(examples / name).read_text()] else f'README.md does not show {name}'
    result(f'README.md shows {name}, all of it', problem)


def guarantees_are_tested():
    page = (root / 'doc' / 'guarantees.md').read_text()
    named = re.findall(r'^\*Test:\* `(/guarantee/[^`]+)`', page, flags=re.MULTILINE)
    tests = '\n'.join(path.read_text() for path in (root / 'tests').glob('test-*.c'))
    lost = [path for path in named if f'"{path}' not in tests]
    problem = '' if len(named) == 11 else f'{len(named)} guarantees name a test\n'
    if lost:
        problem += 'no such tests: ' + ' '.join(lost)
    result('the manual names the test of each guarantee', problem)


for variable in ['GI_TYPELIB_PATH', 'LD_LIBRARY_PATH']:
    paths = [str(build / 'qtask'), *filter(None, [os.environ.get(variable)])]
    os.environ[variable] = os.pathsep.join(paths)
os.environ['GJS_PATH'] = str(root / 'qtask')
os.environ['LC_ALL'] = 'C.UTF-8'

readme_shows('hello.c', 'c')
readme_shows('hello.py', 'python')

guarantees_are_tested()

found = {path.name for path in examples.iterdir() if path.is_file()}
unknown = sorted(found - NOT_RUN - set(PRINTED)) + sorted(set(PRINTED) - found)
result('all examples are known here', ' '.join(unknown))

for name in sorted(PRINTED):
    run(examples / name)

print(f'1..{number}')
