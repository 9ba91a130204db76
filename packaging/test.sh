#!/usr/bin/env bash
# Tests the packages as a user has them: in a copy of this machine's file system that has no Rust, each
# is installed over one with a lower version, serves, and is removed without a trace.
# Usage: packaging/test.sh PROGRAM     a program that was built for this machine
# Needs root and overlayfs; without them it prints a message and ends without an error.
set -eu
cd "$(dirname "$0")/.."
program=$(realpath "$1")
note() { printf 'packaging/test.sh: %s\n' "$*"; }
fail() { note "FAILED: $*"; exit 1; }

if [ "${2:-}" != inside ]; then
  [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null || { note "SKIPPED: needs root and mount namespaces"; exit 0; }
  work=$(mktemp -d)
  trap 'umount "$work" 2>/dev/null || true; rmdir "$work"' EXIT
  # An overlay cannot lie on another one, and a container's root may be one.
  mount -t tmpfs concertina-test "$work"
  mkdir "$work/packages" "$work/older" "$work/upper" "$work/work" "$work/root"
  for packages in "0.0.9 older" "$(sed -n '/^\[workspace.package\]/,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml) packages"; do
    CONCERTINA_BIN=$program RELEASE_LEVEL=fast RELEASE_VERSION=${packages% *} RELEASE_DIR=$work/${packages#* } \
      packaging/release.sh >/dev/null || fail "packages cannot be made"
  done
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root" 2>/dev/null \
    || { note "SKIPPED: no overlayfs here"; exit 0; }
  trap 'umount -R "$work/root" 2>/dev/null || true; umount "$work" 2>/dev/null || true; rmdir "$work"' EXIT
  cp "$0" "$work/root/packaging-test.sh"
  mkdir -p "$work/root/packages" && cp -r "$work/packages" "$work/older" "$work/root/packages/"
  cp examples/seven.json "$work/root/packages/"
  # The new root has its own processes, an empty /root and no toolchain.
  unshare --mount --pid --fork --kill-child env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    sh -ec '
      mount -t proc proc "$1/proc"
      mount -t tmpfs tmpfs "$1/root"; mount -t tmpfs tmpfs "$1/tmp"; mount -t tmpfs tmpfs "$1/run"
      mkdir -p "$1/run/lock"
      for device in null zero urandom random; do mount --bind "/dev/$device" "$1/dev/$device" 2>/dev/null || { touch "$1/dev/$device"; mount --bind "/dev/$device" "$1/dev/$device"; }; done
      exec chroot "$1" bash /packaging-test.sh /bin/true inside
    ' sh "$work/root"
  exit
fi

cd /packages
command -v cargo rustc >/dev/null && fail "there is a toolchain"
cache=/var/tmp/concertina-test-cache

# Starts a server, requests a digit, and stops it again.
serves() { # program
  "$1" serve --listen 127.0.0.1:0 --cache-dir "$cache" 2> /tmp/log &
  server=$!
  for _ in $(seq 300); do
    address=$(sed -n 's|.*on http://\([0-9.:]*\).*|\1|p' /tmp/log | head -1)
    [ -z "$address" ] || break
    sleep 0.1
  done
  [ -n "$address" ] || { cat /tmp/log; fail "$1 does not listen"; }
  answer=$(python3 - "$address" <<'PYTHON'
import sys, urllib.request
request = urllib.request.Request(f"http://{sys.argv[1]}/v2/models/digits/infer", open("/packages/seven.json", "rb").read())
print(urllib.request.urlopen(request, timeout=120).read().decode())
PYTHON
  )
  kill "$server"
  wait "$server" || fail "$1 ended with $?"
  case $answer in *'"data":[7]'*) ;; *) fail "$1 answered $answer" ;; esac
}

named() {
  find / -xdev \( -path /proc -o -path /packages -o -path "$cache" -o -path /tmp -o -path /dev \) -prune -o -iname '*concertina*' -print | sort
}
named > /tmp/before

# Files that the system has and did not have before.
traces() { named | comm -13 /tmp/before -; }

tarball() {
  for version in older packages; do
    mkdir -p /opt/concertina
    tar -xJf "$version"/*.tar.xz --strip-components=1 -C /opt/concertina
    serves /opt/concertina/bin/concertina
  done
  grep -q digits "$cache"/learned.json || fail "nothing was learned"
  man -l /opt/concertina/share/man/man1/concertina-serve.1 >/dev/null 2>&1 || [ -s /opt/concertina/share/man/man1/concertina-serve.1 ] || fail "no manual page"
  rm -r /opt/concertina
  [ -z "$(traces)" ] || fail "the tarball leaves $(traces)"
  note "tarball: installed, upgraded, removed"
}

deb() {
  for version in older packages; do
    dpkg -i "$version"/*.deb >/tmp/dpkg 2>&1 || { cat /tmp/dpkg; fail "dpkg -i $version"; }
    serves /usr/bin/concertina
    echo "#kept" >> /etc/concertina/environment
  done
  [ "$(grep -c kept /etc/concertina/environment)" = 2 ] || fail "the upgrade replaced the settings"
  [ -f /usr/lib/systemd/system/concertina.service ] || fail "no unit"
  bash -n /usr/share/bash-completion/completions/concertina || fail "no completions"
  # The folders that systemd creates for the service.
  mkdir -p /var/cache/private/concertina /var/lib/private/concertina
  ln -s private/concertina /var/cache/concertina
  dpkg --purge concertina >/tmp/dpkg 2>&1 || { cat /tmp/dpkg; fail "dpkg --purge"; }
  [ -z "$(traces)" ] || fail "the package leaves $(traces)"
  note "deb: installed, upgraded, purged"
}

wheel() {
  python3 -m venv /opt/venv >/tmp/venv 2>&1 || { note "SKIPPED: the wheel; python3 has no venv"; return; }
  for version in older packages; do
    /opt/venv/bin/pip install -q --no-index --upgrade "$version"/*.whl || fail "pip install"
    serves /opt/venv/bin/concertina
  done
  [ "$(/opt/venv/bin/pip list --format=freeze | grep -c "^concertina==0\.1")" = 1 ] || fail "not upgraded"
  /opt/venv/bin/pip uninstall -q -y concertina
  [ -z "$(traces)" ] || fail "the wheel leaves $(traces)"
  rm -r /opt/venv
  note "wheel: installed, upgraded, removed"
}

tarball
deb
wheel
