#!/bin/sh
# test-headers.sh: the headers as a user's compiler sees them
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-headers.sh SOURCE-ROOT BUILD-ROOT COMPILER…

source_root=$1
build_root=$2
shift 2

# Warnings are asked for in our headers, not in GLib's.
glib=$("${PKG_CONFIG:-pkg-config}" --cflags gio-2.0 | sed 's/-I */-isystem /g')
output=$(mktemp)
trap 'rm -f "$output"' EXIT

n=0

result () # STATUS NAME
{
  n=$((n + 1))
  if [ "$1" -eq 0 ]; then
    echo "ok $n - $2"
  else
    sed 's/^/# /' "$output"
    echo "not ok $n - $2"
  fi
}

# The program to compile is read from the standard input.
compile () # OPTION…
{
  # shellcheck disable=SC2086
  $compiler -x c -fsyntax-only -Wall -Wextra -Wpedantic -Wno-unused-parameter -Werror "$@" \
    -I"$source_root" -I"$build_root" $glib - >"$output" 2>&1
}

compiler=$*

for header in "$source_root"/qtask/q*.h "$build_root"/qtask/q*.h; do
  name=$(basename "$header")
  case $name in
    qtask.h | q-task-export.h | *-private.h) continue ;;
  esac
  ! echo "#include <qtask/$name>" | compile -std=c99 &&
    grep -q 'Only <qtask/qtask.h> can be included directly' "$output"
  result $? "/headers/$name-is-not-for-direct-inclusion"
done

for std in c99 c11 gnu17; do
  printf '#include <qtask/qtask.h>\nint main (void) { return Q_TASK_MAJOR_VERSION - 1; }\n' |
    compile -std=$std
  result $? "/headers/compile-as-$std"
done

user='#include <qtask/qtask.h>
int main (void) { g_object_unref (q_task_new (NULL, NULL, NULL, NULL)); return 0; }'

echo "$user" | compile -std=c99
result $? /headers/newest-version-is-allowed-by-default

echo "$user" | compile -std=c99 '-DQ_TASK_VERSION_MAX_ALLOWED=Q_TASK_VERSION_1_0'
result $? /headers/version-that-has-a-function

! echo "$user" | compile -std=c99 '-DQ_TASK_VERSION_MAX_ALLOWED=(G_ENCODE_VERSION (0, 9))' &&
  grep -q 'Not available before 1.0' "$output"
result $? /headers/version-that-lacks-a-function

# What the macros define, with and without a header of the user before
export='#include <qtask/q-task-export.h>
#ifdef WITH_HEADER
typedef struct spin_handle SpinHandle;
SpinHandle *spin_spawn (const int *args);
double *spin_wait (SpinHandle *handle);
int spin_poll (SpinHandle *handle);
void spin_cancel (SpinHandle *handle);
int spin_cancelled (SpinHandle *handle);
void spin_handle_destroy (SpinHandle *handle);
void spin_result_destroy (double *result);
const char *spin_last_error_message (void);
size_t spin_last_error_length (void);
const char *spin_last_error_domain (void);
int spin_last_error_code (void);
void spin_last_error_clear (void);
#endif
static gboolean spin (QTask *task, const int *args, double *result, GError **error)
{ *result = *args; return TRUE; }
static gboolean copy (QTask *task, const char *args, char **result, GError **error)
{ *result = g_strdup (args); return TRUE; }
Q_TASK_EXPORT (spin, int, double, spin)
Q_TASK_EXPORT_FULL (copy, char, char, copy, g_strdup, g_free, g_free)'
strict='-Wmissing-prototypes -Wmissing-declarations -Wredundant-decls -Wshadow -Wstrict-prototypes
  -Wnested-externs -Wundef -Wwrite-strings -Wcast-qual -fvisibility=hidden'

for std in c99 c11 gnu17; do
  # shellcheck disable=SC2086
  echo "$export" | compile -std=$std $strict && echo "$export" | compile -std=$std $strict -DWITH_HEADER
  result $? "/headers/exported-tasks-compile-as-$std"
done

! echo "$export" | sed 's/^double \*spin_wait/int *spin_wait/' | compile -std=c11 -DWITH_HEADER &&
  grep -q 'conflicting types' "$output"
result $? /headers/exported-tasks-are-checked-against-the-header-of-the-user

echo "1..$n"
