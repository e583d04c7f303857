# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The parts that the container image and the Debian package are put together from. Sourced; needs common.sh and JAVA_HOME.

# What postcopyd and its libraries use of Java.
readonly runtime_modules=java.base,java.logging,java.management,java.xml,jdk.unsupported,java.naming

# Sets version and created, the time that everything in a package has.
read_version() {
  # shellcheck disable=SC2034,SC2154 # for whoever has sourced this; common.sh sets root
  version=$(sed -n 's:^  <version>\(.*\)</version>:\1:p' "$root/pom.xml")
  # shellcheck disable=SC2034
  created=$(sed -n 's:.*<project.build.outputTimestamp>\(.*\)</.*:\1:p' "$root/pom.xml")
}

# Debian's name of this machine's architecture.
this_architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) die "no package for $(uname -m)" ;;
  esac
}

# link_runtime DIRECTORY: a Java runtime of just these modules.
link_runtime() {
  "$JAVA_HOME/bin/jlink" --add-modules "$runtime_modules" --strip-debug --no-man-pages --no-header-files \
    --compress zip-9 --output "$1"
}

# is_for_this_machine FILE: is this jar or library neither for one nor for the other architecture?
is_for_this_machine() {
  case $(this_architecture):${1##*/} in
    amd64:*aarch_64*) return 1 ;;
    arm64:*x86_64*) return 1 ;;
  esac
}

# copy_native DIRECTORY: Netty's library.
copy_native() {
  local library
  mkdir -p "$1"
  for library in "$root/daemon/target/postcopyd/native/"*.so; do
    ! is_for_this_machine "$library" || cp "$library" "$1"
  done
}
