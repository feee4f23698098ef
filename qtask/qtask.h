/* qtask.h: background tasks for GLib applications
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#define __QTASK_INSIDE__

#include <qtask/q-task-version.h>

#include <qtask/q-task-error.h>

#include <qtask/q-task-channel.h>

#include <qtask/q-task.h>

#include <qtask/q-task-pool.h>

#include <qtask/q-task-launcher.h>

#include <qtask/q-task-group.h>

#include <qtask/q-task-run.h>

#include <qtask/q-task-enums.h>

#undef __QTASK_INSIDE__
