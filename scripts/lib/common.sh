# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share. Sourced, never run; sets root and lab, and defines functions only.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=$root/.lab

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit 1
}

# Is this directory a JDK (not a runtime) of release 25? Reads its release file: starting a JVM takes too long here.
is_jdk_25() {
  [ -x "$1/bin/javac" ] && grep -qs '^JAVA_VERSION="25[".]' "$1/release"
}

# Prints the home of a JDK 25: JAVA_HOME, then what is installed, then the java on PATH.
find_jdk() {
  local candidate
  if [ -n "${JAVA_HOME-}" ] && is_jdk_25 "$JAVA_HOME"; then
    printf '%s\n' "$JAVA_HOME"
    return
  fi
  for candidate in /usr/lib/jvm/* /usr/local/lib/jvm/* /opt/java/* /opt/jdk*; do
    if is_jdk_25 "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  if candidate=$(command -v javac) && candidate=$(readlink -f "$candidate"); then
    candidate=${candidate%/bin/javac}
    if is_jdk_25 "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  fi
  return 1
}

# Sets JAVA_HOME and Maven's options for it.
use_jdk() {
  JAVA_HOME=$(find_jdk) || die "no JDK 25 here: run scripts/bootstrap"
  export JAVA_HOME
  # Maven's own libraries still do what this JDK warns of.
  export MAVEN_OPTS="${MAVEN_OPTS-} --sun-misc-unsafe-memory-access=allow --enable-native-access=ALL-UNNAMED"
}

# Runs Maven: the wrapper's own, or the installed one where the wrapper's cannot be had.
maven() {
  if [ -z "${maven_command-}" ]; then
    if (cd "$root" && ./mvnw --version) >/dev/null 2>&1; then
      maven_command=$root/mvnw
    elif maven_command=$(command -v mvn); then
      say "Maven's wrapper could not get its Maven: using $maven_command"
    else
      (cd "$root" && ./mvnw --version >/dev/null) || true
      die "no Maven: its download failed (see above), and no mvn is installed"
    fi
  fi
  (cd "$root" && "$maven_command" --batch-mode --no-transfer-progress "$@")
}

# lab_property NAME: what scripts/bootstrap found out about the laboratory; empty if it is not known.
lab_property() {
  [ ! -e "$lab/lab.properties" ] || sed -n "s/^$1=//p" "$lab/lab.properties"
}

# Is there a source that the built program is older than? The AOT cache is what the build makes last.
program_is_stale() {
  local program=$root/daemon/target/postcopyd/postcopyd.aot
  [ -e "$program" ] || return 0
  [ -n "$(find "$root"/pom.xml "$root"/{uffd-native,qmp-protocol,daemon}/{pom.xml,src/main} "$root"/daemon/src/{packaging,test/native} \
    -newer "$program" -print -quit)" ]
}

# Builds the program where it is missing or stale. The sources' format and the tests are scripts/test's business.
build_program() {
  program_is_stale || return 0
  use_jdk
  mkdir -p "$root/target"
  # One build at a time: two would write the same files.
  exec {build_lock}>"$root/target/build.lock"
  flock "$build_lock"
  if program_is_stale; then
    say "building postcopyd"
    maven --quiet --projects daemon --also-make -Dmaven.test.skip=true -Dspotless.check.skip=true package >&2 ||
      die "the build failed"
  fi
  exec {build_lock}>&-
}
