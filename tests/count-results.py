#!/usr/bin/env python3
# count-results.py: how many tests passed, failed and were skipped
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: count-results.py TESTLOG.JSON
#
# Reads what `meson test` left and prints three numbers. A program that speaks
# TAP counts as its single tests; one that ended badly in another way than by a
# failed test counts as a failed test besides.

import json
import re
import sys

passed = failed = skipped = 0

for line in open(sys.argv[1], encoding='utf-8', errors='replace'):
    test = json.loads(line)
    result = test['result']
    points = re.findall(r'^(not ok|ok)\b([^\n]*)', test.get('stdout') or '', flags=re.MULTILINE)
    kinds = ['skip' if re.search(r'#\s*(skip|todo)', rest, flags=re.IGNORECASE) else verdict
             for verdict, rest in points]

    if not points:
        passed += result in ('OK', 'EXPECTEDFAIL')
        skipped += result == 'SKIP'
        failed += result not in ('OK', 'EXPECTEDFAIL', 'SKIP')
        continue

    passed += kinds.count('ok')
    skipped += kinds.count('skip')
    failed += kinds.count('not ok')
    if result not in ('OK', 'SKIP') and 'not ok' not in kinds:
        failed += 1

print(passed, failed, skipped)
