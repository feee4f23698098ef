#!/bin/sh
# test-tsan.sh: races are found, and what is ordered is not called a race
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-tsan.sh TSAN-RACE

TSAN_OPTIONS="$TSAN_OPTIONS exitcode=66"
export TSAN_OPTIONS

output=$(mktemp)
trap 'rm -f "$output"' EXIT

n=0
check () # KIND, EXPECTED EXIT STATUS, NAME
{
  n=$((n + 1))
  "$1" "$2" >"$output" 2>&1
  status=$?
  if [ "$status" -eq "$3" ] &&
     { [ "$3" -eq 0 ] || grep -q 'data race .* in \(worker\|main\)' "$output"; }; then
    echo "ok $n - /tsan/$4"
  else
    sed 's/^/# /' "$output"
    echo "# exit status $status instead of $3"
    echo "not ok $n - /tsan/$4"
  fi
}

echo 1..6
check "$1" race 66 race-is-found
check "$1" mutex 0 mutex-orders
check "$1" result 0 completion-orders
check "$1" start 0 start-orders
check "$1" unref 0 last-reference-orders
check "$1" slice 0 slices-are-shared
