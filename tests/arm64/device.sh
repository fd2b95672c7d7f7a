#!/usr/bin/env bash
# An emulated 64-bit Arm Linux device on an x86-64 machine: Debian trixie with its Python 3.13 and what `pip install
# 'fbkit[pte]'` brings, run by qemu-user. Good for checking results, not times: vector code is hundreds of times slower.
#
#   device.sh setup DIR            make the device, or keep it where it is up to date; needs root, Debian or Ubuntu
#   device.sh run DIR COMMAND...   run a program of the device, or one for it by its path; fbkit comes from this checkout,
#                                  no privileges needed
#
# PYTHON names the interpreter whose pip fetches the packages (default: python3). Exit code 75: something could not be
# fetched; the last line on stderr says what.
set -euo pipefail

readonly UNFETCHABLE=75
checkout=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
python=${PYTHON:-python3}

usage() {
  echo "usage: device.sh setup DIR | device.sh run DIR COMMAND..." >&2
  exit 2
}

# The base install and the torch-free .pte runtime. Markers are dropped: pip would judge them by the host's Python.
requirements() {
  "$python" - "$checkout/pyproject.toml" <<'END'
import pathlib, sys, tomllib
project = tomllib.loads(pathlib.Path(sys.argv[1]).read_text())["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["pte"]:
    print(requirement.partition(";")[0].strip())
END
}

# fetch WHAT COMMAND...: runs quietly; a failure shows everything, and in the last line what it came down to.
fetch() {
  local what=$1 log=$work/log
  shift
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "device.sh: cannot fetch $what: $( (grep -E '^(E:|ERROR)' "$log" || tail -n 1 "$log") | head -n 1)" >&2
    exit $UNFETCHABLE
  fi
}

install_host_tools() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # type, of several names, fails where one is missing; command -v does not.
  if type qemu-aarch64-static mmdebstrap >/dev/null 2>&1 && [[ -e $keyring ]]; then return; fi
  export DEBIAN_FRONTEND=noninteractive
  fetch "the list of host packages" apt-get update
  fetch "the host's emulator and bootstrap tool" \
    apt-get install --yes --no-install-recommends qemu-user-static mmdebstrap debian-archive-keyring
}

# Unpacked, not configured: nothing has to run on the device before Python does.
unpack_system() {
  fetch "Debian for arm64" \
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include=base-files,libstdc++6,python3 trixie "$1"
}

# Downloaded and unzipped, because `pip install` refuses packages that the host's own Python is too old for.
unpack_packages() {
  local packages=$1 tags=() tag wheel
  for tag in manylinux_2_{17..39} manylinux2014; do tags+=(--platform "${tag}_aarch64"); done
  fetch "the Python packages for aarch64" \
    "$python" -m pip download --quiet --disable-pip-version-check --dest "$work/wheels" --only-binary=:all: \
    --implementation cp --python-version 3.13 "${tags[@]}" --constraint "$checkout/constraints.txt" "${@:2}"
  for wheel in "$work"/wheels/*.whl; do "$python" -m zipfile --extract "$wheel" "$packages"; done
  rm -r "$work/wheels"
}

# onnxruntime learns from these files what the processor can do, and dies on a description of the host's. This is a
# Raspberry Pi 4's, the processor that `run` emulates.
describe_processor() {
  local system=$1 core cores=2
  mkdir -p "$system/proc" "$system/sys/devices/system/cpu"
  for core in $(seq 0 $((cores - 1))); do
    printf '%s\t: %s\n' processor "$core" BogoMIPS 108.00 Features "fp asimd evtstrm crc32 cpuid" \
      "CPU implementer" 0x41 "CPU architecture" 8 "CPU variant" 0x0 "CPU part" 0xd08 "CPU revision" 3
    echo
  done >"$system/proc/cpuinfo"
  for list in possible present online; do
    echo "0-$((cores - 1))" >"$system/sys/devices/system/cpu/$list"
  done
}

# Everything is made in a sibling folder that is renamed at the end, so a device is whole or not there.
setup() {
  local device stamp wanted
  device=$(realpath --canonicalize-missing "$1")
  mapfile -t wanted < <(requirements)
  ((${#wanted[@]})) || { echo "device.sh: no requirements found in pyproject.toml" >&2; exit 1; }
  stamp=$( (cat "${BASH_SOURCE[0]}" "$checkout/constraints.txt"; printf '%s\n' "${wanted[@]}") | sha256sum | cut -c 1-64)

  mkdir -p "$(dirname "$device")"
  exec {lock}>"$device.lock"
  flock "$lock" # a second setup of the same device waits, and finds it made
  if [[ $(cat "$device/stamp" 2>/dev/null) == "$stamp" ]]; then return; fi
  if ((EUID != 0)); then
    echo "device.sh: setup needs root" >&2
    exit 1
  fi

  rm -rf "$device".partial.* # of a setup that was killed
  work=$(mktemp -d "$device.partial.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  install_host_tools
  unpack_system "$work/system"
  unpack_packages "$work/packages" "${wanted[@]}"
  describe_processor "$work/system"
  # The host's kernel cannot start a program of the device: whoever wants another Python starts this one.
  printf '#!/bin/sh\nexec %q run %q python3 "$@"\n' "$checkout/tests/arm64/device.sh" "$device" >"$work/python3"
  chmod 755 "$work/python3"
  install -d -m 1777 "$work/home" "$work/bytecode"
  rm -f "$work/log"
  echo "$stamp" >"$work/stamp"
  rm -rf "$device"
  mv --no-target-directory "$work" "$device"
}

# Files that the device's system folder lacks are the host's: the checkout and a test's temporary folders are in reach.
# Of the host's environment nothing comes along.
run() {
  local device program
  device=$(realpath "$1")
  program=$2
  [[ $2 == */* ]] || program=$device/system/usr/bin/$2
  if [[ ! -e $program ]]; then
    echo "device.sh: the device has no program $2" >&2
    exit 127
  fi
  exec env -i PATH=/usr/bin HOME="$device/home" LANG=C.UTF-8 \
    PYTHONPATH="$device/packages:$checkout/src" PYTHONPYCACHEPREFIX="$device/bytecode" PYTHONNOUSERSITE=1 \
    DEVICE_PYTHON="$device/python3" \
    "$(command -v qemu-aarch64-static)" -cpu cortex-a72 -L "$device/system" "$program" "${@:3}"
}

case ${1:-} in
  setup) [[ $# -eq 2 ]] || usage; setup "$2" ;;
  run) [[ $# -ge 3 ]] || usage; run "${@:2}" ;;
  *) usage ;;
esac
