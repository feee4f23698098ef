// benchmark-worker.js: sends back what is asked for
//
// SPDX-License-Identifier: LGPL-2.1-or-later

import QTask from 'gi://QTask?version=1';
import System from 'system';

System.exit(QTask.Task.serve((task, request) => {
    task.set_result_variant(request);
    return true;
}));
