#!/bin/sh
# check.sh: goes through all that can happen in the models
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: check.sh FOLDER
#
# Each model holds as it is, and fails when any of the things is removed that a BROKEN_… in it
# stands for. What is generated goes into FOLDER.

set -eu

models=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$1"
cd "$1"

holds () # MODEL OPTION…
{
  model=$1
  shift
  rm -f pan*
  spin "$@" -a "$models/$model.pml" >spin.log
  ${CC-cc} -O1 -DSAFETY -w -o pan pan.c
  ./pan -m1000000 >pan.log
  ! grep -q '^error: max search depth' pan.log && grep -q 'errors: 0$' pan.log
}

wrong=0
for path in "$models"/*.pml; do
  model=$(basename "$path" .pml)

  holds "$model" || {
    echo "$model.pml fails:"
    cat pan.log
    wrong=1
  }

  for broken in $(grep -o '^#if.* BROKEN_[A-Z_]*' "$path" | sed 's/.* //' | sort -u); do
    ! holds "$model" "-D$broken" || {
      echo "$model.pml does not fail with $broken"
      wrong=1
    }
  done
done

exit $wrong
