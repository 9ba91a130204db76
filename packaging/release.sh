#!/usr/bin/env bash
# Makes the packages of one target from one build: a tarball, and on Linux a .deb and a Python wheel;
# checksums; the bill of materials, where cargo-cyclonedx is installed.
#
# Usage: packaging/release.sh [TARGET]        the default is the target of this machine
#   CONCERTINA_BIN=FILE    package this build of TARGET in place of a new one
#   RELEASE_DIR=DIR        folder for the packages; the default is target/packages
#   RELEASE_VERSION=V      version of the packages; the default is that of Cargo.toml
#   RELEASE_LEVEL=fast     weak compression, for tests
set -eu
cd "$(dirname "$0")/.."

host=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p')
target=${1:-${host:-$(uname -m)-unknown-linux-gnu}}
version=${RELEASE_VERSION:-$(sed -n '/^\[workspace.package\]/,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
out=${RELEASE_DIR:-target/packages}
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

note() { printf 'packaging/release.sh: %s\n' "$*"; }

built=${CARGO_TARGET_DIR:-target}
if [ -n "${CONCERTINA_BIN:-}" ]; then
  bin=$CONCERTINA_BIN
elif [ "$target" = "$host" ]; then
  # Without --target, so that tests and packages share one build.
  cargo build --release --locked --bin concertina
  bin=$built/release/concertina
else
  cargo build --release --locked --bin concertina --target "$target"
  bin=$built/$target/release/concertina
fi
exe=
case $target in *windows*) exe=.exe; [ -e "$bin" ] || bin=$bin.exe ;; esac

# Completions and manual pages are printed by the program itself, so they need one that runs here.
printer=$bin
"$printer" --version >/dev/null 2>&1 || printer=$(command -v concertina || true)

stage=$work/concertina-$version-$target
mkdir -p "$stage/bin" "$stage/share/doc/concertina"
install -m 755 "$bin" "$stage/bin/concertina$exe"
install -m 644 README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$stage/share/doc/concertina/"
install -D -m 644 -t "$stage/share/doc/concertina/examples" examples/seven.json examples/page.png
if [ -n "$printer" ]; then
  share=$stage/share
  mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
  "$printer" completions bash > "$share/bash-completion/completions/concertina"
  "$printer" completions zsh > "$share/zsh/site-functions/_concertina"
  "$printer" completions fish > "$share/fish/vendor_completions.d/concertina.fish"
  "$printer" man "$share/man/man1"
else
  note "no completions and manual pages: no concertina runs on this machine"
fi

level=9
[ "${RELEASE_LEVEL:-}" = fast ] && level=0
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

tarball() {
  case $target in
    *linux*)
      unit=$stage/lib/systemd/system/concertina.service
      mkdir -p "$(dirname "$unit")"
      # docs/install.md unpacks the tarball into /usr/local.
      sed 's|^ExecStart=/usr/bin/|ExecStart=/usr/local/bin/|' packaging/concertina.service > "$unit"
      ;;
  esac
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C "$work" -cf - "$(basename "$stage")" \
    | xz -T0 -"$level" > "$out/concertina-$version-$target.tar.xz"
}

# The newest version of glibc that the symbols of the program need.
glibc() {
  objdump -T "$bin" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -V | tail -1
}

debian() {
  command -v dpkg-deb >/dev/null || { note "no .deb: dpkg-deb is not installed"; return; }
  case $target in x86_64-*) arch=amd64 ;; aarch64-*) arch=arm64 ;; *) note "no .deb for $target"; return ;; esac
  root=$work/deb
  mkdir -p "$root/usr" "$root/etc/concertina" "$root/DEBIAN"
  cp -r "$stage/bin" "$stage/share" "$root/usr/"
  install -D -m 644 packaging/concertina.service "$root/usr/lib/systemd/system/concertina.service"
  install -m 644 packaging/deb/environment "$root/etc/concertina/environment"
  doc=$root/usr/share/doc/concertina
  { printf 'concertina is licensed under MIT or Apache-2.0, at your option.\n\n'; cat LICENSE-MIT; printf '\n'; cat LICENSE-APACHE; } > "$doc/copyright"
  rm "$doc"/LICENSE-*
  gzip -9n "$doc/CHANGELOG.md"
  [ ! -d "$root/usr/share/man" ] || gzip -9n "$root"/usr/share/man/man1/*.1
  echo /etc/concertina/environment > "$root/DEBIAN/conffiles"
  for script in postinst prerm postrm; do
    install -m 755 "packaging/deb/$script" "$root/DEBIAN/$script"
  done
  size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
  sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@GLIBC@/$(glibc)/; s/@SIZE@/$size/" \
    packaging/deb/control > "$root/DEBIAN/control"
  find "$root" -type d -exec chmod 755 {} +
  SOURCE_DATE_EPOCH=$epoch dpkg-deb --root-owner-group -Zxz -z"$level" --build "$root" \
    "$out/concertina_${version}_$arch.deb" >/dev/null
}

wheel() {
  case $target in *linux-gnu) platform=manylinux_$(glibc | tr . _)_${target%%-*} ;; *) note "no wheel for $target"; return ;; esac
  SOURCE_DATE_EPOCH=$epoch python3 packaging/wheel.py "$bin" "$version" "$platform" "$out" "$level"
}

tarball
case $target in *linux*) debian; wheel ;; esac
if command -v cargo-cyclonedx >/dev/null && [ "${RELEASE_LEVEL:-}" != fast ]; then
  packaging/sbom.sh "$out/concertina-$version.cdx.json"
else
  note "no bill of materials: cargo-cyclonedx is not installed, or not wanted"
fi
(cd "$out" && rm -f SHA256SUMS && sha256sum concertina* > SHA256SUMS)
ls -l "$out"
