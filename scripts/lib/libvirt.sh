# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# The laboratory's libvirt. Sourced by scripts/bootstrap, whose functions and variables it uses.

readonly LIBVIRT_OLDEST=11.3

# What nobody looks at in there.
readonly LIBVIRT_WITHOUT=('./usr/share/doc/*' './usr/share/man/*' './usr/share/locale/*' './usr/share/bash-completion/*')

libvirt_version() {
  sed -n 's/^version=//p' "$lab/libvirt/postcopyd-lab" 2>/dev/null | grep .
}

# libvirt from a release's own archive would bring another systemd onto a Debian 12, and nobody wants its services on the
# machine: so it is unpacked with everything that it depends on, as a tree that scripts/lab-libvirt makes the root of a
# session. No package's scripts run; what of them matters is done here.
get_libvirt() {
  local tree=$lab/libvirt.new suites target=() deb
  libvirt_missing=
  ! libvirt_version=$(libvirt_version) || return 0
  case $debian in
    12) target=(--target-release bookworm-backports) ;;
    13) ;;
    *)
      libvirt_missing="only fetched on Debian 12 and 13"
      return
      ;;
  esac
  if [ "$(id -u)" -ne 0 ]; then
    libvirt_missing="not there; run: sudo $root/scripts/bootstrap libvirt"
    return
  fi
  say "fetching libvirt and its QEMU (unpacked to .lab, not installed)"
  suites=("$codename" "$codename-updates")
  [ "$debian" != 12 ] || suites+=(bookworm-backports)
  if ! private_apt "${suites[@]}"; then
    libvirt_missing="the package lists could not be fetched"
    return
  fi
  mkdir -p "$apt_dir/dpkg"
  : >"$apt_dir/dpkg/status"
  if ! apt-get "${apt_options[@]}" -o "Dir::State::status=$apt_dir/dpkg/status" -qq -y --no-install-recommends \
    --download-only "${target[@]}" install libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 \
    bash coreutils util-linux iproute2 >"$apt_dir/install.log" 2>&1; then
    tail -n 20 "$apt_dir/install.log" >&2
    libvirt_missing="libvirt and what it needs could not be had"
    return
  fi
  rm -rf "$tree"
  mkdir -p "$tree"
  for deb in "$apt_dir"/cache/archives/*.deb; do
    # libvirt and its services depend on them; the session does not.
    case ${deb##*/} in
      perl* | libperl* | systemd* | libsystemd-shared* | libpam-systemd* | dbus* | polkitd* | debconf* | ipxe* | gettext*) continue ;;
    esac
    dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-owner -C "$tree" "${LIBVIRT_WITHOUT[@]/#/--exclude=}"
  done
  if ! furnish_libvirt "$tree"; then
    libvirt_missing="what was fetched does not run here"
    return
  fi
  rm -rf "$lab/libvirt"
  mv "$tree" "$lab/libvirt"
  libvirt_version=$(libvirt_version)
}

# What the packages' scripts would have done.
furnish_libvirt() {
  local tree=$1 said
  cat >"$tree/etc/passwd" <<'EOF_'
root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
libvirt-qemu:x:64055:104:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin
EOF_
  cat >"$tree/etc/group" <<'EOF_'
root:x:0:
kvm:x:104:
libvirt:x:109:
libvirt-qemu:x:64055:libvirt-qemu
nogroup:x:65534:
EOF_
  printf '%s\n' 'passwd: files' 'group: files' 'hosts: files' >"$tree/etc/nsswitch.conf"
  printf '%s\n' '127.0.0.1 localhost' >"$tree/etc/hosts"
  [ -e "$tree/bin/sh" ] || ln -s bash "$tree/bin/sh"
  ln -sf mawk "$tree/usr/bin/awk"
  rm -rf "$tree/var/run"
  ln -s /run "$tree/var/run"
  mkdir -p "$tree"/{proc,sys,dev,run,tmp,var/lib/libvirt,var/cache/libvirt,var/log/libvirt}
  ldconfig -r "$tree" || return 1
  said=$(LC_ALL=C chroot "$tree" /usr/sbin/libvirtd --version) || return 1
  [[ $said =~ ([0-9]+\.[0-9]+)(\.[0-9]+)? ]] || return 1
  [ "$(printf '%s\n' "$LIBVIRT_OLDEST" "${BASH_REMATCH[1]}" | sort -V | head -n 1)" = "$LIBVIRT_OLDEST" ] || return 1
  printf 'version=%s\n' "${BASH_REMATCH[0]}" >"$tree/postcopyd-lab"
}

get_lab_libvirt() {
  mkdir -p "$lab"
  get_libvirt
  if [ -n "$libvirt_missing" ]; then
    libvirt_version=''
    say "no libvirt: $libvirt_missing"
  fi
  property libvirt "$([ -n "$libvirt_missing" ] || echo "$lab/libvirt")"
  property libvirt.version "$libvirt_version"
  property libvirt.missing "$libvirt_missing"
}
