#!/usr/bin/env python3
# test-symbols.py: what the library exports is what its headers declare
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-symbols.py LIBRARY HEADER-DIRECTORY…

import pathlib
import re
import subprocess
import sys


def exported(library):
    lines = subprocess.run(['nm', '-D', '--defined-only', '--format=posix', library],
                           check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split()[0].split('@')[0] for line in lines}


def declared(directories):
    names = set()
    for directory in directories:
        for header in sorted(pathlib.Path(directory).glob('q*.h')):
            if header.name.endswith('-private.h'):
                continue
            text = re.sub(r'/\*.*?\*/', '', header.read_text(), flags=re.DOTALL)
            names |= set(re.findall(r'\b(q_task_\w+) *\(', text))
            for name in re.findall(r'G_DECLARE_\w+ \(\w+, (\w+),', text):
                names.add(name + '_get_type')
    return names


def check(number, name, offenders):
    for offender in sorted(offenders):
        print('#', offender)
    print('not ok' if offenders else 'ok', number, '-', name)


symbols = exported(sys.argv[1])
functions = declared(sys.argv[2:])

print('1..3')
check(1, '/symbols/have-the-prefix', {s for s in symbols if not s.startswith('q_task_')})
check(2, '/symbols/exported-and-not-declared', symbols - functions)
check(3, '/symbols/declared-and-not-exported', functions - symbols)
