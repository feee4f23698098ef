#!/usr/bin/env python3
# test-tree.py: the tree is in order
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-tree.py SOURCE-ROOT

import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])

SOURCES = ['qtask/**/*', 'tests/**/*', 'doc/examples/*', 'dev', '.ci/run', 'meson.build',
           'doc/meson.build', 'po/meson.build']
SUFFIXES = ['.c', '.h', '.in', '.cpp', '.py', '.js', '.vala', '.sh', '.build', '']


def sources():
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            if (path.is_file() and path.suffix in SUFFIXES and '__pycache__' not in path.parts
                    and not path.parent.name.startswith('corpus')):
                yield path


def relative(paths):
    return {str(path.relative_to(root)) for path in paths}


def without_license():
    return relative(path for path in sources()
                    if not re.search('SPDX-License-Identifier: LGPL-2.1-or-later',
                                     path.read_text()[:600]))


def listed(path):
    lines = (line.split('#')[0].strip() for line in path.read_text().splitlines())
    return {line for line in lines if line}


def translatable():
    call = re.compile(r'\b(_|N_|C_|NC_|ngettext|g_dngettext) ?\(')
    return relative(path for path in (root / 'qtask').glob('*.c')
                    if call.search(re.sub(r'/\*.*?\*/', '', path.read_text(), flags=re.DOTALL)))


def example(name):
    path = root / name
    return path.read_text() if path.is_file() else ''


def blocks(path):
    """The code in a page, with the example that is named above it, if any"""
    pattern = r'(?:^<!-- (\S+) -->\n)?^```\w*\n(.*?)^```'
    for name, code in re.findall(pattern, path.read_text(), flags=re.DOTALL | re.MULTILINE):
        yield name, code


def not_as_in_the_example():
    return {f'{path.name}: {name}: {code.splitlines()[0]}'
            for path in [root / 'README.md', *root.glob('doc/*.md')]
            for name, code in blocks(path)
            if name and code not in example(name)}


def dead_links():
    pages = {f'{path.stem}.html' for path in root.glob('doc/*.md')}
    return {f'{path.name}: {link}' for path in root.glob('doc/*.md')
            for link in re.findall(r'\]\(([\w-]+\.html)', path.read_text()) if link not in pages}


def check(number, name, offenders):
    for offender in sorted(offenders):
        print('#', offender)
    print('not ok' if offenders else 'ok', number, '-', name)


potfiles = listed(root / 'po' / 'POTFILES.in')

print('1..6')
check(1, '/tree/sources-name-their-license', without_license())
check(2, '/tree/translatable-and-not-in-potfiles', translatable() - potfiles)
check(3, '/tree/in-potfiles-and-not-translatable', potfiles - translatable())
check(4, '/tree/listed-languages-exist',
      {name for name in listed(root / 'po' / 'LINGUAS') if not (root / 'po' / f'{name}.po').exists()})
check(5, '/tree/pages-show-the-examples-as-they-are', not_as_in_the_example())
check(6, '/tree/pages-link-to-pages', dead_links())
