# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Drives one stock QEMU over QMP on its standard input and output. Sourced; needs common.sh.

qemu_pid=
qemu_event_seconds=120

# shellcheck disable=SC2034 # read through a name reference
# start_qemu ARGS...: starts QEMU and negotiates.
start_qemu() {
  local greeting
  coproc QEMU { exec "$@" -qmp stdio; }
  # shellcheck disable=SC2153 # set by coproc
  qemu_pid=$QEMU_PID
  # Bash forgets the array when the process ends; these descriptors stay.
  exec {qemu_out}<&"${QEMU[0]}" {qemu_in}>&"${QEMU[1]}"
  qmp_line greeting '"QMP"'
  qmp '{"execute":"qmp_capabilities"}' >/dev/null
}

# qmp_line VARIABLE TEXT: reads until a line that contains the text; stops at an error, at the end, and when it takes too long.
qmp_line() {
  local -n into=$1
  while IFS= read -r -t "$qemu_event_seconds" -u "$qemu_out" into; do
    case $into in
      *"$2"*) return 0 ;;
      '{"error"'* | *'"status": "failed"'*)
        die "QEMU says: $into"
        ;;
    esac
  done
  die "QEMU ended, or said nothing for $qemu_event_seconds s, while a line with $2 was awaited"
}

# qmp COMMAND: sends a command and prints what it returns.
qmp() {
  local reply
  printf '%s\n' "$1" >&"$qemu_in"
  qmp_line reply '{"return"'
  reply=${reply%$'\r'}
  reply=${reply#'{"return": '}
  printf '%s\n' "${reply%'}'}"
}

# shellcheck disable=SC2034 # read through a name reference
# Waits for the MIGRATION event of the status.
await_migration() {
  local event
  qmp_line event "\"MIGRATION\", \"data\": {\"status\": \"$1\"}"
}

quit_qemu() {
  printf '{"execute":"quit"}\n' >&"$qemu_in"
  wait "$qemu_pid" || die "QEMU ended with code $?"
  qemu_pid=
}

kill_qemu() { [ -z "$qemu_pid" ] || kill "$qemu_pid" 2>/dev/null || true; }
