#!/usr/bin/env python3
# test-gir.py: everything public is documented
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-gir.py GIR

import sys
import xml.etree.ElementTree as ET

CORE = '{http://www.gtk.org/introspection/core/1.0}'
GLIB = '{http://www.gtk.org/introspection/glib/1.0}'
C = '{http://www.gtk.org/introspection/c/1.0}'

TYPES = ['class', 'interface', 'record', 'union', 'enumeration', 'bitfield', 'alias']
FUNCTIONS = ['function', 'method', 'constructor', 'callback', 'function-macro', 'virtual-method']
MEMBERS = ['member', 'field', 'property', 'constant']


def tag(element):
    return element.tag.split('}')[1]


def name_of(element):
    return element.get(C + 'identifier') or element.get(C + 'type') or element.get('name')


def is_documented(element):
    doc = element.find(CORE + 'doc')
    return doc is not None and doc.text.strip() != ''


undocumented = []
parameters = []
returns = []
undated = []

namespace = ET.parse(sys.argv[1]).getroot().find(CORE + 'namespace')


def visit(element, path, inside_private):
    for child in element:
        kind = tag(child)
        path_of_child = path + ' ' + name_of(child) if name_of(child) else path
        private = inside_private

        if kind == 'record':
            # The structures behind a type, and the ones that only have padding.
            private = child.get('disguised') == '1' or child.get(C + 'type') == 'QTask' \
                or child.get(GLIB + 'is-gtype-struct-for') is not None
        if kind == 'field' and (child.get('private') == '1' or private or child.get('name') == 'parent_instance'):
            continue
        if kind == 'callback' and tag(element) == 'field':
            continue
        if kind == 'virtual-method' and child.get('invoker') is not None:
            continue

        if kind in TYPES + FUNCTIONS + MEMBERS + ['signal']:
            if not is_documented(child) and not (kind == 'record' and private):
                undocumented.append(path_of_child)
            if kind in TYPES + FUNCTIONS and not private and child.get('version') is None \
               and kind != 'virtual-method' and child.get(GLIB + 'error-domain') is None:
                undated.append(path_of_child)

        if kind in FUNCTIONS + ['signal']:
            for parameter in child.iterfind(f'{CORE}parameters/*'):
                # g-ir-scanner leaves the error out of a function, not of a callback.
                if not is_documented(parameter) and parameter.get('name') != 'error':
                    parameters.append(f'{path_of_child}: {parameter.get("name")}')
            result = child.find(CORE + 'return-value')
            if kind != 'function-macro' and result is not None \
               and result.find(f"{CORE}type[@name='none']") is None and not is_documented(result):
                returns.append(path_of_child)

        if kind in TYPES:
            visit(child, path_of_child, private)


def check(number, name, offenders):
    for offender in offenders:
        print('#', offender)
    print('not ok' if offenders else 'ok', number, '-', name)


visit(namespace, '', False)

print('1..4')
check(1, '/gir/everything-is-documented', undocumented)
check(2, '/gir/every-parameter-is-documented', parameters)
check(3, '/gir/every-result-is-documented', returns)
check(4, '/gir/everything-says-since-when', undated)
