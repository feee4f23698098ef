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


def documented():
    """Each public function of C, and where its comment says it may be called from"""
    for path in [*root.glob('qtask/*.c'), *root.glob('qtask/soup/*.c')]:
        for name, comment in re.findall(r'/\*\*\n \* (q_task_\w+):(.*?)\*/', path.read_text(), flags=re.DOTALL):
            comment = ' '.join(line.lstrip(' *') for line in comment.splitlines())
            place = re.search(r'May be called from ([^.]*)', comment)
            yield name, place[1] if place else 'where its comment does not tell'


def table_of_places():
    """The patterns of names, and the place, of each row in the manual's table of the same"""
    page = (root / 'doc' / 'tasks-and-threads.md').read_text()
    table = page.split('## What may be called where')[1].split('\n## ')[0]
    for names, place in re.findall(r'^\| (.*?`) \| (.*) \|$', table, flags=re.MULTILINE):
        for name in re.findall(r'`([\w…]+)`', names):
            if not name.startswith('q_task_'):
                name = 'q_task_' + name
            yield re.compile(re.escape(name).replace('…', r'\w*')), '…' not in name, place


def not_in_the_table_of_places():
    rows = list(table_of_places())
    functions = dict(documented())

    for name, place in functions.items():
        matching = [(is_exact, where) for pattern, is_exact, where in rows if pattern.fullmatch(name)]
        # Who is named is not meant by a pattern.
        exact = [where for is_exact, where in matching if is_exact] or [where for _, where in matching]
        if not any(place.startswith(re.split('[,;:]', where)[0]) for where in exact) \
           and not name.endswith('_quark'):
            yield f'{name}: from {place}'

    for pattern, _, _ in rows:
        if not any(pattern.fullmatch(name) for name in functions):
            yield f'{pattern.pattern}: is no function'


def check(number, name, offenders):
    for offender in sorted(offenders):
        print('#', offender)
    print('not ok' if offenders else 'ok', number, '-', name)


potfiles = listed(root / 'po' / 'POTFILES.in')

print('1..7')
check(1, '/tree/sources-name-their-license', without_license())
check(2, '/tree/translatable-and-not-in-potfiles', translatable() - potfiles)
check(3, '/tree/in-potfiles-and-not-translatable', potfiles - translatable())
check(4, '/tree/listed-languages-exist',
      {name for name in listed(root / 'po' / 'LINGUAS') if not (root / 'po' / f'{name}.po').exists()})
check(5, '/tree/pages-show-the-examples-as-they-are', not_as_in_the_example())
check(6, '/tree/pages-link-to-pages', dead_links())
check(7, '/tree/the-manual-tells-what-may-be-called-where', set(not_in_the_table_of_places()))
