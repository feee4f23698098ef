#!/bin/sh
# test-http-server.sh: the web server example, with curl for a client
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-http-server.sh SERVER

set -u

server=$1
dir=$(mktemp -d) || exit 99
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

n=0

result () # STATUS NAME
{
  n=$((n + 1))
  if [ "$1" -eq 0 ]; then
    echo "ok $n - $2"
  else
    for file in out err body; do
      [ -s "$dir/$file" ] && head -n 20 "$dir/$file" | sed "s/^/# $file: /"
    done
    echo "not ok $n - $2"
  fi
}

# Tries again and again, for no longer than the tests wait for anything.
eventually () # COMMAND…
{
  tries=0
  until "$@" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || return 1
    sleep 0.1
  done
}

start ()
{
  "$server" --port 0 >"$dir/out" 2>"$dir/err" &
  pid=$!
  eventually grep -q '^Port [0-9]' "$dir/out" || {
    echo "Bail out! The server does not start"
    exit 1
  }
  url=http://127.0.0.1:$(sed -n 's/^Port //p' "$dir/out")/count
}

get () # QUERY [OPTION…]
{
  query=$1
  shift
  curl --silent --show-error --noproxy '*' --no-buffer --max-time 30 "$@" "$url?$query"
}

status () # QUERY [OPTION…]: prints the status of the response
{
  get "$@" --output /dev/null --write-out '%{http_code}\n'
}

has_ended ()
{
  ! kill -0 "$pid"
}

ends_on () # SIGNAL
{
  kill -"$1" "$pid" && eventually has_ended && wait "$pid"
  ended=$?
  pid=
  return $ended
}

descriptors ()
{
  find "/proc/$pid/fd" -type l 2>/dev/null | wc -l
}

start

get 'to=3&every=0' >"$dir/body"
printf '1\n2\n3\nCounted to 3\n' | cmp -s - "$dir/body"
result $? /http-server/counts

# What was read first was read before the last could be written.
get 'to=3&every=700' | {
  read -r first && [ "$first" = 1 ] && began=$(date +%s%N)
  while read -r line; do last=$line; done
  echo "$last"
  echo $((($(date +%s%N) - began) / 1000000))
} >"$dir/body"
[ "$(sed -n 1p "$dir/body")" = 'Counted to 3' ] && [ "$(sed -n 2p "$dir/body")" -ge 1500 ]
result $? /http-server/sends-each-line-when-it-is-there

get 'to=2&every=0' --http1.0 >"$dir/body"
printf '1\n2\nCounted to 2\n' | cmp -s - "$dir/body"
result $? /http-server/speaks-http-1-0

[ "$(status 'to=x')" = 400 ]
result $? /http-server/refuses-what-is-no-number

[ "$(status 'to=1' --request POST --data '')" = 405 ]
result $? /http-server/refuses-other-methods

# Leaves midway: curl exits with 28 when its time is up.
get 'to=1000000&every=50' --max-time 1 >"$dir/body" 2>/dev/null
[ $? -eq 28 ] && [ "$(sed -n 1p "$dir/body")" = 1 ] && eventually grep -q '^Stopped at .* of 1000000$' "$dir/err"
result $? /http-server/stops-when-the-client-leaves

# One that hardly reads, and is killed
curl --silent --noproxy '*' --limit-rate 1k "$url?to=1000000&every=0" >/dev/null 2>&1 &
slow=$!
sleep 0.5
kill -9 $slow
wait $slow 2>/dev/null
eventually sh -c '[ "$(grep -c "^Stopped at .* of 1000000$" "$1")" -eq 2 ]' sh "$dir/err"
result $? /http-server/stops-when-a-slow-client-is-killed

# All of them at the same time, and each gets its own.
before=$(descriptors)
clients=
for i in $(seq 32); do
  get "to=$i&every=10" >"$dir/body.$i" &
  clients="$clients $!"
done
failed=0
for client in $clients; do
  wait "$client" || failed=1
done
for i in $(seq 32); do
  { seq "$i"; echo "Counted to $i"; } | cmp -s - "$dir/body.$i" || failed=1
done
result $failed /http-server/serves-many-clients

if [ -d "/proc/$pid/fd" ]; then
  is_as_before () { [ "$(descriptors)" -le "$before" ]; }
  eventually is_as_before
  result $? /http-server/keeps-no-descriptors
else
  result 0 '/http-server/keeps-no-descriptors # SKIP there is no /proc'
fi

# 64 are served, 64 wait for a thread, and others are refused.
clients=
for i in $(seq 140); do
  curl --silent --noproxy '*' --max-time 30 --output /dev/null --write-out '%{http_code}\n' \
    "$url?to=1000000&every=1000" >"$dir/status.$i" 2>/dev/null &
  clients="$clients $!"
done
eventually grep -q '^503$' "$dir"/status.*
result $? /http-server/is-unavailable-when-the-pool-is-full

# While clients are served, and wait
ends_on TERM
result $? /http-server/ends-on-sigterm
for client in $clients; do
  kill "$client" 2>/dev/null
done

start
ends_on INT
result $? /http-server/ends-on-sigint

"$server" --help >"$dir/out" && grep -q '^Usage:' "$dir/out" && ! "$server" --port x 2>"$dir/err"
result $? /http-server/tells-its-usage

echo "1..$n"
