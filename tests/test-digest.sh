#!/bin/sh
# test-digest.sh: the digest example does what sha256sum does, and more
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: test-digest.sh PATH-OF-DIGEST (or DIGEST in the environment). Prints TAP.

set -u

digest=${1:-${DIGEST:?the path of digest is needed}}
case $digest in
  /*) ;;
  *) digest=$PWD/$digest ;;
esac

LC_ALL=C
export LC_ALL
unset COLUMNS

dir=$(mktemp -d) || exit 99
pids=
trap 'for pid in $pids; do kill -9 "$pid" 2>/dev/null; done; rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM
cd "$dir" || exit 99

n=0

# result STATUS WHAT: one line of TAP; with what was printed, if it failed
result ()
{
  n=$((n + 1))
  if [ "$1" -eq 0 ]
  then
    echo "ok $n - $2"
  else
    echo "not ok $n - $2"
    for file in out err expected
    do
      [ -s "$dir/$file" ] && head -n 20 "$dir/$file" | sed "s/^/# $file: /"
    done
  fi
}

skip ()
{
  n=$((n + 1))
  echo "ok $n - $1 # SKIP $2"
}

# run ARGUMENT…: runs digest; sets $status
run ()
{
  status=0
  timeout 60 "$digest" "$@" > "$dir/out" 2> "$dir/err" || status=$?
}

# sums NAME…: what digest should print for these
sums ()
{
  find "$@" -type f -print0 | sort -z | xargs -0 sha256sum -- > "$dir/expected"
}

# wait_until COMMAND…: waits until it succeeds, 20 seconds at most
wait_until ()
{
  tries=0
  until "$@"
  do
    tries=$((tries + 1))
    [ $tries -lt 400 ] || return 1
    sleep 0.05
  done
}

# ends_promptly PID: whether it ends within two seconds; sets $status
ends_promptly ()
{
  timeout 2 tail --pid="$1" -s 0.05 -f /dev/null
  late=$?
  kill -9 "$1" 2>/dev/null
  status=0
  wait "$1" || status=$?
  [ $late -eq 0 ]
}

has_open ()
{
  find "/proc/$1/fd" -lname "*/$2" 2>/dev/null | grep -q .
}

# A folder with all sorts of names and sizes.

mkdir -p 'tree/a/b/c' 'tree/a.b' 'tree/a b' 'tree/empty' 'tree/-dash'
newline='
'
printf 'plain' > tree/plain
printf 'x' > tree/a/x
printf 'y' > tree/a.b/y
printf 'z' > tree/a/b/c/z
printf 'a-b' > tree/a-b
printf 'spaces' > 'tree/a b/ leading and trailing '
printf 'newline' > "tree/new${newline}line"
printf 'backslash' > 'tree/back\slash'
printf 'both' > "tree/back\\slash${newline}and newline\\n"
printf 'dash' > 'tree/-dash/-n'
printf 'double dash' > 'tree/--check'
printf 'UTF-8' > 'tree/Grüße, Здравствуйте, 您好'
printf 'not UTF-8' > "$(printf 'tree/latin1-\374')"
printf 'quotes' > "tree/it's \"quoted\" \$HOME *"
: > tree/zero
head -c 1 /dev/zero > tree/one
head -c 65535 /dev/urandom > tree/block-less-one
head -c 65536 /dev/urandom > tree/block
head -c 65537 /dev/urandom > tree/block-and-one
head -c 5000000 /dev/urandom > tree/some-mb
i=0
while [ $i -lt 300 ]
do
  echo $i > "tree/a/b/$i"
  i=$((i + 1))
done
ln -s plain tree/link-to-file
ln -s a tree/link-to-directory
ln -s .. tree/a/link-to-parent

{
  find tree -type f -print0
  printf 'tree/link-to-file\0'
} | sort -z | xargs -0 sha256sum -- > expected

run tree
[ $status -eq 0 ] && cmp -s out expected && [ ! -s err ]
result $? "the sums of a folder are those of sha256sum, in the order of paths"
cp out tree.sums

run -j 1 tree
cp out out-1
[ $status -eq 0 ] && run --jobs=8 tree && [ $status -eq 0 ] && cmp -s out out-1 && cmp -s out expected
result $? "one thread and eight threads print the same"

(cd tree && find . -type f -print0 | sort -z | xargs -0 sha256sum --) | grep -v link-to > expected
(cd tree && timeout 60 "$digest" .) 2> err | grep -v link-to > out
cmp -s out expected
result $? "the sums of . are those of sha256sum"

sums tree/a/ tree/-dash tree/plain
run tree/plain tree/-dash tree/a/
[ $status -eq 0 ] && cmp -s out expected
result $? "several paths are printed in one order"

(cd tree && timeout 60 "$digest" -- -dash --check) > out 2> err
(cd tree && sha256sum -- --check -dash/-n) > expected
cmp -s out expected
result $? "names with a leading dash follow --"

printf 'piped' > piped
run - < piped
sha256sum - < piped > expected
[ $status -eq 0 ] && cmp -s out expected
result $? "- is the standard input"

for algorithm in md5 sha1 sha256 sha384 sha512
do
  find tree/a -type f -print0 | sort -z | xargs -0 ${algorithm}sum -- > expected
  run --algorithm $algorithm tree/a
  [ $status -eq 0 ] && cmp -s out expected && cp out $algorithm.sums &&
    run --algorithm $algorithm --check $algorithm.sums && [ $status -eq 0 ]
  result $? "--algorithm $algorithm is ${algorithm}sum, and checks"
done

run tree/link-to-directory
(cd tree/a && find . -type f | wc -l) > expected
[ $status -eq 0 ] && wc -l < out | cmp -s - expected
result $? "a link to a directory is followed when it is named"

# More files than there may be tasks at a time

mkdir many
(cd many && seq 9999 | split -l 1 -a 4 -)
sums many
run many
[ $status -eq 0 ] && cmp -s out expected
result $? "ten thousand files are summed"
cp out many.sums

# What cannot be read

mkdir broken
printf 'good' > broken/a
ln -s nowhere broken/dangling
printf 'good' > broken/z
sha256sum broken/a broken/z > expected
run broken
[ $status -eq 1 ] && cmp -s out expected && grep -q '^digest: broken/dangling: ' err
result $? "a file that cannot be opened is named, and the others are done"

sha256sum broken/a broken/z > expected
run broken/a missing broken/z
[ $status -eq 1 ] && cmp -s out expected && grep -q '^digest: missing: No such file' err
result $? "a path that does not exist is named, and the others are done"

if [ -r /proc/self/mem ]
then
  run broken/a /proc/self/mem broken/z
  [ $status -eq 1 ] && cmp -s out expected && grep -q '^digest: /proc/self/mem: ' err
  result $? "a file that cannot be read is named, and the others are done"
else
  skip "a file that cannot be read is named, and the others are done" "no /proc/self/mem"
fi

mkdir locked
printf 'good' > locked/a
mkdir locked/dir
printf 'hidden' > locked/dir/file
printf 'hidden' > locked/file
chmod 0 locked/dir locked/file
if [ "$(id -u)" -ne 0 ]
then
  sha256sum locked/a > expected
  run locked
  [ $status -eq 1 ] && cmp -s out expected &&
    grep -q '^digest: locked/dir/: Permission denied' err &&
    grep -q '^digest: locked/file: Permission denied' err
  result $? "files and folders without permission are named"
else
  skip "files and folders without permission are named" "root has all permissions"
fi
chmod 700 locked/dir locked/file

mkdir special
mkfifo special/fifo
printf 'good' > special/z
sha256sum special/z > expected
run special
[ $status -eq 0 ] && cmp -s out expected && grep -q '^digest: special/fifo: skipped' err
result $? "a named pipe in a folder is skipped with a message"

# --check

run --check tree.sums
sha256sum --check tree.sums > expected 2>&1
[ $status -eq 0 ] && cmp -s out expected && [ ! -s err ]
result $? "--check finds good files good, in the words of sha256sum"

timeout 60 "$digest" --check - < many.sums > out 2> err
status=$?
sha256sum --check many.sums > expected 2>&1
[ $status -eq 0 ] && cmp -s out expected && [ ! -s err ]
result $? "--check - reads the list from the standard input"

cp -r tree changed
sed 's,  tree/,  changed/,' tree.sums > changed.sums
printf 'other' > changed/plain
printf 'other' > changed/zero
rm changed/a/x "changed/new${newline}line"
{
  echo 'this is no sum'
  echo '# a comment'
  echo
  echo 'abcdef  too short'
  printf '%s  changed/one\r\n' "$(sha256sum < changed/one | cut -c 1-64)"
  printf '%s *changed/one\n' "$(sha256sum < changed/one | cut -c 1-64 | tr a-f A-F)"
  printf '\\%s  bad \\escape\n' "$(sha256sum < changed/one | cut -c 1-64)"
  printf '%s  changed/a\n' "$(sha256sum < changed/one | cut -c 1-64)"
} >> changed.sums
run --check changed.sums
sha256sum --check changed.sums > expected 2> expected-err
[ $status -eq 1 ] && cmp -s out expected
result $? "--check tells of changed and missing files"

grep WARNING expected-err | sed 's/^sha256sum/digest/' > expected
grep WARNING err | cmp -s - expected
result $? "--check ends with the warnings of sha256sum"

grep -q '^digest: changed/a/x: No such file' err && grep -q '^digest: changed/a: ' err
result $? "--check names what it could not read"

run --check /dev/null
[ $status -eq 1 ] && [ ! -s out ] && grep -q 'no properly formatted' err
result $? "--check of a list without sums fails"

run --check missing
[ $status -eq 1 ] && [ ! -s out ] && grep -q '^digest: missing: No such file' err
result $? "--check of a missing list fails"

run --check tree
[ $status -eq 1 ] && [ ! -s out ] && grep -q '^digest: tree: ' err
result $? "--check of a folder fails"

# Usage

for options in '--nonsense tree' '-j 0 tree' '-j -1 tree' '-j many tree' '--algorithm crc32 tree' '' \
               '--check tree.sums tree' '--check tree.sums --check tree.sums'
do
  run $options
  [ $status -eq 2 ] && [ ! -s out ] && grep -q '^digest: ' err && grep -q '^Usage:' err
  result $? "digest $options: prints its usage and exits with 2"
done

run --help
[ $status -eq 0 ] && grep -q '^Usage:' out && grep -q -e '--algorithm' out
result $? "--help prints the usage"

# Interrupted. Each is known to be under way before it gets the signal.

mkdir sparse
printf 'first' > sparse/a
if truncate -s 64G sparse/b 2>/dev/null
then
  for signal in INT TERM
  do
    rm -f out
    "$digest" -j 2 sparse > out 2> err &
    pid=$!
    pids="$pids $pid"
    wait_until has_open $pid sparse/b
    wait_until test -s out
    kill -$signal $pid
    ends_promptly $pid && [ $status -eq 130 ] && grep -q '^digest: interrupted after 1 file$' err &&
      [ "$(cat out)" = "$(sha256sum sparse/a)" ]
    result $? "SIG$signal ends a long job promptly, and digest says how far it came"
  done
else
  skip "SIGINT ends a long job promptly, and digest says how far it came" "no sparse files"
  skip "SIGTERM ends a long job promptly, and digest says how far it came" "no sparse files"
fi
rm -rf sparse

# Its worker waits in open() for a writer, and hears of nothing.
rm -f out
"$digest" -j 1 broken/a special/fifo > out 2> err &
pid=$!
pids="$pids $pid"
wait_until test -s out
kill -INT $pid
ends_promptly $pid && [ $status -eq 130 ] && grep -q '^digest: interrupted after ' err
result $? "SIGINT ends a job whose worker cannot be stopped"

# It fills the pipe and waits; then a little is read, so that it can go on a little.
mkfifo stuck
exec 3<> stuck # all of the sums do not fit in
written=
is_stuck ()
{
  before=$written
  written=$(sed -n 's/^wchar: //p' "/proc/$1/io" 2>/dev/null)
  [ "${written:-0}" -ge 60000 ] && [ "$written" = "$before" ]
}
"$digest" many > stuck 2> err &
pid=$!
pids="$pids $pid"
wait_until is_stuck $pid
head -c 20000 <&3 > out
written=
wait_until is_stuck $pid
kill -INT $pid
ends_promptly $pid && [ $status -eq 130 ] && grep -q '^digest: interrupted after ' err
result $? "SIGINT ends a job that nobody reads from"
exec 3>&-

# The bar. A named pipe keeps the job going for as long as the test likes.

if script -qec true /dev/null > /dev/null 2>&1 < /dev/null
then
  in_terminal ()
  {
    script -qefc "$1" typescript > /dev/null 2>&1 < /dev/null &
    pid=$!
    pids="$pids $pid"
  }

  in_terminal "'$digest' tree special/fifo && printf END"
  wait_until grep -qs '\[[#.]*\]  *[0-9]*%' typescript
  drawn=$?
  timeout 20 sh -c 'printf slow > special/fifo'
  wait $pid && [ $drawn -eq 0 ]
  result $? "a bar is drawn in a terminal"

  tr -d '\r' < typescript | sed "s/.*$(printf '\033')\[K//" | grep -a '^\\\{0,1\}[0-9a-f]\{64\}  ' > out
  printf slow | sha256sum | sed 's,-$,special/fifo,' | cat - tree.sums | sort -k 2 > expected
  sort -k 2 out | cmp -s - expected
  result $? "the bar leaves the sums alone"

  tr '\r\033' '<E' < typescript | grep -aq '<E\[KEND'
  result $? "the bar is wiped away at the end"

  in_terminal "'$digest' special/fifo > out"
  wait_until grep -qs '\[[#.]*\]  *[0-9]*%' typescript
  drawn=$?
  timeout 20 sh -c 'printf slow > special/fifo'
  wait $pid && [ $drawn -eq 0 ] && printf slow | sha256sum | sed 's,-$,special/fifo,' | cmp -s - out
  result $? "a bar is drawn when the sums go to a file"

  # Long enough for several bars
  in_terminal "(sleep 0.5; printf slow > special/fifo) & '$digest' special/fifo | cat"
  wait $pid && ! grep -q '%' typescript && grep -q special/fifo typescript
  result $? "no bar is drawn when the sums are piped"
else
  for what in "a bar is drawn in a terminal" "the bar leaves the sums alone" \
              "the bar is wiped away at the end" "a bar is drawn when the sums go to a file" "no bar is drawn when the sums are piped"
  do
    skip "$what" "no script"
  done
fi

(sleep 0.5; printf slow > special/fifo) &
run special/fifo
[ $status -eq 0 ] && [ ! -s err ]
result $? "no bar is drawn when there is no terminal"

echo "1..$n"
