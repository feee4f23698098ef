# with-overrides.py: runs a program in Python with the overrides of this tree
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: with-overrides.py PROGRAM

import os
import runpy
import sys

import gi.overrides

gi.overrides.__path__.insert(
    0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'qtask', 'overrides'))

del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
