#!/bin/sh
# test-consumer.sh: the library as a subproject, and installed
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-consumer.sh SOURCE-ROOT BUILD-ROOT

source_root=$1
build_root=$2

directory=$(mktemp -d)
output=$directory/output
trap 'rm -rf "$directory"' EXIT
trap 'exit 1' HUP INT TERM

# A consumer chooses its own flags; sanitizers and the like do not reach it.
unset CFLAGS LDFLAGS MESON_ARGS

n=0

check () # NAME COMMAND…
{
  n=$((n + 1))
  name=$1
  shift
  if "$@" >"$output" 2>&1; then
    echo "ok $n - $name"
  else
    tail -n 50 "$output" | sed 's/^/# /'
    echo "not ok $n - $name"
  fi
}

as_subproject ()
{
  cp -r "$source_root/tests/consumer" "$directory/super" &&
    mkdir "$directory/super/subprojects" &&
    ln -s "$source_root" "$directory/super/subprojects/qtask" &&
    meson setup --fatal-meson-warnings --force-fallback-for=qtask-1 \
      -Dqtask:introspection=disabled -Dqtask:tests=disabled -Dqtask:docs=disabled \
      -Dqtask:examples=disabled -Dqtask:benchmark=disabled \
      "$directory/super/build" "$directory/super" &&
    meson test -C "$directory/super/build"
}

install_to_prefix ()
{
  meson setup --prefix="$directory/prefix" --libdir=lib \
    -Dintrospection=disabled -Dtests=disabled -Ddocs=disabled \
    -Dexamples=disabled -Dbenchmark=disabled "$directory/build" "$source_root" &&
    meson install -C "$directory/build"
}

with_meson ()
{
  meson setup --wrap-mode=nofallback "$directory/meson" "$source_root/tests/consumer" &&
    meson test -C "$directory/meson"
}

with_pkg_config ()
{
  # shellcheck disable=SC2046
  cc -o "$directory/program" "$source_root/tests/consumer/main.c" \
    $(pkg-config --cflags --libs qtask-1) &&
    "$directory/program"
}

as_the_readme_says ()
(
  line=$(sed -n 's/^    \(cc hello\.c .*\)/\1/p' "$source_root/README.md")
  cp "$source_root/doc/examples/hello.c" "$directory" &&
    cd "$directory" &&
    eval "$line" &&
    [ "$(./hello)" = 'Hello, world!' ]
)

is_installed () # FILE-NAME-PATTERN…
{
  meson introspect --installed "$build_root" >"$directory/installed" || return
  for pattern; do
    if ! grep -q "$pattern\"" "$directory/installed"; then
      echo "not installed: $pattern"
      return 1
    fi
  done
}

check /consumer/subproject as_subproject
check /consumer/install install_to_prefix

export PKG_CONFIG_PATH="$directory/prefix/lib/pkgconfig"
export LD_LIBRARY_PATH="$directory/prefix/lib"

check /consumer/meson-and-installed-library with_meson
check /consumer/pkg-config-and-installed-library with_pkg_config
check /consumer/as-the-readme-says as_the_readme_says
check /consumer/all-is-installed is_installed \
  'include/qtask-1/qtask/qtask\.h' 'include/qtask-1/qtask/q-task\.h' \
  'include/qtask-1/qtask/q-task-version\.h' 'include/qtask-1/qtask/q-task-enums\.h' \
  'pkgconfig/qtask-1\.pc' 'libqtask-1\.so\.0'

if grep -q '"name": "introspection", "value": "enabled"' "$build_root/meson-info/intro-buildoptions.json"; then
  check /consumer/bindings-are-installed is_installed \
    'gir-1\.0/QTask-1\.gir' 'girepository-1\.0/QTask-1\.typelib' 'vapi/qtask-1\.vapi' \
    'gi/overrides/QTask\.py' 'gjs-1\.0/overrides/QTask\.js'
else
  n=$((n + 1))
  echo "ok $n - /consumer/bindings-are-installed # SKIP introspection is not enabled"
fi

echo "1..$n"
