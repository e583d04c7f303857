# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A container engine: the one that is there, or a Docker engine of this project's own. Sourced; needs common.sh.

# shellcheck disable=SC2034,SC2154 # common.sh sets lab; engine is for whoever has sourced this
readonly engine_directory=$lab/engine
engine_started=

# The engine's answer is what counts: a client without an engine is no engine.
engine_answers() { "$1" version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# find_engine CLIENT...: prints the first of these clients that has an engine.
find_engine() {
  local candidate
  for candidate; do
    if command -v "$candidate" >/dev/null && engine_answers "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  return 1
}

# use_engine CLIENT...: sets engine to the first of docker and podman that answers, if it is named; 1 with a message where there
# is none. Where none answers, starts a Docker engine (root only) that keeps its data in .lab, gives containers no network but their own loopback and the host's, and is ended by stop_engine.
# DOCKER_HOST says where it is.
use_engine() {
  local socket deadline=$((SECONDS + 60))
  if engine=$(find_engine "$@"); then
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    say "no container engine answers, and only root can start one"
    return 1
  fi
  if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    say "no container engine: run scripts/bootstrap engine"
    return 1
  fi
  mkdir -p "$engine_directory"
  # shellcheck disable=SC2154 # common.sh sets root
  # A short path: the name of a socket has 107 bytes at most. Whoever kept the engine of an earlier run finds it again.
  socket=/tmp/postcopyd-engine-$(cksum <<<"$root" | cut -d ' ' -f 1).sock
  export DOCKER_HOST=unix://$socket
  engine=docker
  if engine_answers docker; then
    return
  fi
  say "starting a container engine; its log is $engine_directory/log"
  rm -f "$engine_directory/pid"
  # In a session of its own, so that the end of a test's process group is not its end.
  setsid dockerd --host "$DOCKER_HOST" --data-root "$engine_directory/data" --exec-root "${socket%.sock}" \
    --pidfile "$engine_directory/pid" --bridge=none --iptables=false --ip6tables=false >"$engine_directory/log" 2>&1 </dev/null &
  engine_started=$!
  until engine_answers docker; do
    if ! kill -0 "$engine_started" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      tail -n 20 "$engine_directory/log" >&2
      stop_engine
      say "the container engine does not start; its log is $engine_directory/log"
      return 1
    fi
    sleep 0.2
  done
}

# Ends the engine that use_engine has started, and the containers in it.
stop_engine() {
  local containers patience=100
  [ -n "$engine_started" ] || return 0
  mapfile -t containers < <(docker ps --quiet 2>/dev/null)
  [ ${#containers[@]} -eq 0 ] || docker rm --force --volumes "${containers[@]}" >/dev/null 2>&1 || true
  kill "$engine_started" 2>/dev/null || true
  while [ "$patience" -gt 0 ] && kill -0 "$engine_started" 2>/dev/null; do
    patience=$((patience - 1))
    sleep 0.1
  done
  kill -KILL "$engine_started" 2>/dev/null || true
  engine_started=
}
