# benchmark-worker.py: sends back what is asked for
#
# SPDX-License-Identifier: LGPL-2.1-or-later

import sys

import gi

gi.require_version('QTask', '1')
from gi.repository import QTask


def serve(task, request):
    task.set_result_variant(request)
    return True


sys.exit(QTask.Task.serve(serve))
