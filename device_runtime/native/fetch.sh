#!/usr/bin/env bash
# What the native runner is built with, unpacked into a folder; nothing is installed, no privileges are needed.
#
#   fetch.sh ARCH DIR      ARCH is x86_64 or aarch64
#
#   DIR/debian/      headers and static libraries of this machine's Debian or Ubuntu, for ARCH
#   DIR/executorch/  the C++ SDK in ExecuTorch's wheel for ARCH
#   DIR/bin/         compilers, where this machine has none for ARCH: c++, ar, ranlib, strip
#
# PYTHON names the interpreter whose pip fetches the wheel (default: python3). Exit code 75: something could not be
# fetched; the last line on stderr says what.
set -euo pipefail

readonly UNFETCHABLE=75
libraries=(libcli11-dev libeigen3-dev libjpeg62-turbo-dev libpng-dev libsodium-dev nlohmann-json3-dev zlib1g-dev)
if grep -qs '^ID=ubuntu' /etc/os-release; then libraries=("${libraries[@]/libjpeg62-turbo-dev/libjpeg-turbo8-dev}"); fi
checkout=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
python=${PYTHON:-python3}

[[ $# -eq 2 && $1 =~ ^(x86_64|aarch64)$ ]] || { echo "usage: fetch.sh x86_64|aarch64 DIR" >&2; exit 2; }
arch=$1
declare -A debian_arch=([x86_64]=amd64 [aarch64]=arm64)

# fetch WHAT COMMAND...: runs quietly; a failure shows everything, and in the last line what it came down to.
fetch() {
  local what=$1 log=$work/log
  shift
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "fetch.sh: cannot fetch $what: $( (grep -E '^(E:|ERROR)' "$log" || tail -n 1 "$log") | head -n 1)" >&2
    exit $UNFETCHABLE
  fi
}

# apt ARCH ARGUMENTS...: this machine's package sources, but an architecture, a state and a cache of our own.
apt() {
  local state=$work/apt-$1
  mkdir -p "$state"/lists/partial "$state"/archives/partial
  touch "$state/status"
  apt-get -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state" \
    -o APT::Architecture="$1" -o APT::Architectures="$1" -o APT::Sandbox::User= -o Debug::NoLocking=1 "${@:2}"
}

unpack() {
  local package
  for package in "$@"; do dpkg-deb --extract "$package" "$into"; done
}

fetch_libraries() {
  local into=$work/debian arch=${debian_arch[$arch]}
  fetch "the list of packages for $arch" apt "$arch" update
  mkdir "$work/packages" "$into"
  (cd "$work/packages" && fetch "${libraries[*]} for $arch" apt "$arch" download "${libraries[@]}")
  unpack "$work"/packages/*.deb
}

# A compiler with all that it needs, behind scripts that show it where that is.
fetch_compiler() {
  local package=$1 prefix=$2 host into=$work/toolchain tool
  host=$(dpkg --print-architecture)
  fetch "the list of packages for $host" apt "$host" update
  fetch "$package" apt "$host" install --yes --no-install-recommends --download-only "$package"
  mkdir "$into" "$work/bin"
  unpack "$work/apt-$host"/archives/*.deb
  for tool in c++ ar ranlib strip; do
    local program=$prefix${tool/c++/g++} flags=()
    [[ $tool != c++ ]] || flags=(--sysroot="\$dir/toolchain")
    cat >"$work/bin/$tool" <<SCRIPT
#!/bin/sh
dir=\$(dirname "\$(dirname "\$(realpath "\$0")")")
export PATH="\$dir/toolchain/usr/bin:\$PATH" LD_LIBRARY_PATH="\$dir/toolchain/usr/lib/$(uname -m)-linux-gnu"
exec "\$dir/toolchain/usr/bin/$program" ${flags[@]:+"${flags[@]}"} "\$@"
SCRIPT
    chmod 755 "$work/bin/$tool"
  done
}

fetch_compiler_if_missing() {
  if [[ $arch == "$(uname -m)" ]]; then
    if command -v c++ >/dev/null && command -v strip >/dev/null; then return; fi
    fetch_compiler g++ ""
  elif ! { command -v "$arch-linux-gnu-g++" && command -v "$arch-linux-gnu-strip"; } >/dev/null; then
    fetch_compiler "g++-${arch/_/-}-linux-gnu" "$arch-linux-gnu-"
  fi
}

# The version that this checkout's constraints name; of the wheel only the SDK.
fetch_executorch() {
  local tags=() tag requirement
  requirement=$(grep -E '^executorch==' "$checkout/constraints.txt")
  for tag in manylinux_2_{17..39}; do tags+=(--platform "${tag}_$arch"); done
  fetch "$requirement for $arch" \
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work/wheels" --only-binary=:all: \
    --implementation cp --python-version 3.11 "${tags[@]}" "$requirement"
  "$python" - "$work" "${requirement#*==}" <<'END'
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = (work / "wheels").glob("executorch-*.whl")
with zipfile.ZipFile(wheel) as file:
    file.extractall(work, [name for name in file.namelist() if name.startswith(("executorch/include/", "executorch/lib/"))])
    (work / "executorch" / "LICENSE").write_bytes(file.read(next(n for n in file.namelist() if n.endswith("/LICENSE"))))
(work / "executorch" / "VERSION").write_text(sys.argv[2])
END
}

if ! command -v apt-get >/dev/null; then
  echo "fetch.sh: cannot fetch libraries: this needs Debian or Ubuntu; elsewhere give CMake their places" >&2
  exit $UNFETCHABLE
fi
dir=$(realpath --canonicalize-missing "$2")
mkdir -p "$(dirname "$dir")"
exec {lock}>"$dir.lock"
flock "$lock" # a second one waits, and finds it made
stamp=$( (cat "${BASH_SOURCE[0]}"; grep -E '^executorch==' "$checkout/constraints.txt") | sha256sum | cut -c 1-64)
if [[ $(cat "$dir/stamp" 2>/dev/null) == "$stamp" ]]; then exit; fi

# Made in a sibling folder that is renamed at the end, so that it is whole or not there.
rm -rf "$dir".partial.* # of a run that was killed
work=$(mktemp -d "$dir.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
fetch_libraries
fetch_compiler_if_missing
fetch_executorch
rm -rf "$work"/{apt-*,packages,wheels,log}
echo "$stamp" >"$work/stamp"
rm -rf "$dir"
mv --no-target-directory "$work" "$dir"
