#!/usr/bin/env bash
# Debian's Chromium and its driver with all that they need, unpacked into a folder; nothing is installed, no privileges
# are needed.
#
#   fetch.sh DIR
#
#   DIR/bin/chromium, DIR/bin/chromedriver
#
# Exit code 75: they could not be fetched; the last line on stderr says what.
set -euo pipefail

readonly UNFETCHABLE=75
packages=(chromium chromium-driver fonts-dejavu-core)

[[ $# -eq 1 ]] || { echo "usage: fetch.sh DIR" >&2; exit 2; }

fetch() {
  local what=$1 log=$work/log
  shift
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "fetch.sh: cannot fetch $what: $( (grep -E '^E:' "$log" || tail -n 1 "$log") | head -n 1)" >&2
    exit $UNFETCHABLE
  fi
}

# This machine's package sources, but a state and a cache of our own.
apt() {
  local state=$work/apt
  mkdir -p "$state"/lists/partial "$state"/archives/partial
  touch "$state/status"
  apt-get -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state" \
    -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@"
}

if ! command -v apt-get >/dev/null || ! grep -qs '^ID=debian' /etc/os-release; then
  echo "fetch.sh: cannot fetch ${packages[*]}: this needs Debian; elsewhere install Chromium and chromedriver" >&2
  exit $UNFETCHABLE
fi
dir=$(realpath --canonicalize-missing "$1")
mkdir -p "$(dirname "$dir")"
exec {lock}>"$dir.lock"
flock "$lock" # a second one waits, and finds it made
stamp=$(sha256sum <"${BASH_SOURCE[0]}" | cut -c 1-64)
if [[ $(cat "$dir/stamp" 2>/dev/null) == "$stamp" ]]; then exit; fi

# Made in a sibling folder that is renamed at the end, so that it is whole or not there.
rm -rf "$dir".partial.* # of a run that was killed
work=$(mktemp -d "$dir.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
fetch "the list of packages" apt update
fetch "${packages[*]}" apt install --yes --no-install-recommends --download-only "${packages[@]}"
mkdir "$work/system" "$work/bin"
for package in "$work"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$work/system"; done
for program in chromium/chromium chromium/chromedriver; do
  found=$work/system/usr/lib/$program
  [[ -e $found ]] || found=$work/system/usr/bin/${program##*/}
  cat >"$work/bin/${program##*/}" <<SCRIPT
#!/bin/sh
system=\$(dirname "\$(dirname "\$(realpath "\$0")")")/system
libraries=\$system/usr/lib/$(uname -m)-linux-gnu
export LD_LIBRARY_PATH="\$libraries:\$libraries/nss:\$libraries/pulseaudio"
export XDG_DATA_DIRS="\$system/usr/share" FONTCONFIG_SYSROOT="\$system"
exec "\$system${found#"$work/system"}" "\$@"
SCRIPT
  chmod 755 "$work/bin/${program##*/}"
done
rm -rf "$work"/{apt,log}
echo "$stamp" >"$work/stamp"
rm -rf "$dir"
mv --no-target-directory "$work" "$dir"
