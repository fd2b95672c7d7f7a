#!/usr/bin/env bash
# A 64-bit Arm device behind a real adbd, on an x86-64 machine: Debian trixie's adbd, shell, tools and Python, with every
# program run by qemu through proot. It lives in a network namespace of its own, as adbd listens on all interfaces.
#
#   adbd.sh setup DIR            make the device, or keep it where it is up to date; needs root, Debian or Ubuntu
#   adbd.sh with DIR COMMAND...  start adbd, run a command of this machine for which `adb -s $SERIAL` is the device, end
#                                adbd; needs root
#
# Exit code 75: something could not be fetched; the last line on stderr says what.
set -euo pipefail

readonly UNFETCHABLE=75 PORT=6555 # outside of where adb looks for emulators by itself
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")

fetch() {
  local what=$1 log=$work/log
  shift
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "adbd.sh: cannot fetch $what: $( (grep -E '^E:' "$log" || tail -n 1 "$log") | head -n 1)" >&2
    exit $UNFETCHABLE
  fi
}

install_host_tools() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # type, of several names, fails where one is missing; command -v does not.
  if type qemu-aarch64-static mmdebstrap proot adb ip >/dev/null 2>&1 && [[ -e $keyring ]]; then return; fi
  export DEBIAN_FRONTEND=noninteractive
  fetch "the list of host packages" apt-get update
  fetch "the host's emulator, proot and adb" apt-get install --yes --no-install-recommends \
    qemu-user-static mmdebstrap debian-archive-keyring proot adb iproute2
}

setup() {
  local device stamp
  device=$(realpath --canonicalize-missing "$1")
  work=$(mktemp -d) # for the log of what is fetched
  install_host_tools
  rm -r "$work"
  stamp=$(sha256sum <"${BASH_SOURCE[0]}" | cut -c 1-64)
  mkdir -p "$(dirname "$device")"
  exec {lock}>"$device.lock"
  flock "$lock"
  if [[ $(cat "$device/stamp" 2>/dev/null) == "$stamp" ]]; then return; fi
  rm -rf "$device".partial.*
  work=$(mktemp -d "$device.partial.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  local system=$work/system
  fetch "Debian for arm64" mmdebstrap --quiet --variant=extract --architectures=arm64 \
    --include=base-files,libstdc++6,python3,dash,coreutils,tar,adbd trixie "$system"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$system/etc/passwd"
  mkdir -p "$system/data/local/tmp"
  # proot passes a system call by which Python asks for access on to the machine outside.
  rm "$system/usr/lib/python3.13/sitecustomize.py" # a link
  cat >"$system/usr/lib/python3.13/sitecustomize.py" <<'END'
import os
os.access = lambda path, mode, **options: os.path.lexists(path)
END
  # ExecuTorch learns from these files what the processor can do: a Raspberry Pi 4's, as tests/arm64/device.sh has it.
  mkdir -p "$work/cpu"
  for list in possible present online; do echo 0-1 >"$work/cpu/$list"; done
  for core in 0 1; do
    printf '%s\t: %s\n' processor $core BogoMIPS 108.00 Features "fp asimd evtstrm crc32 cpuid" \
      "CPU implementer" 0x41 "CPU architecture" 8 "CPU variant" 0x0 "CPU part" 0xd08 "CPU revision" 3
    echo
  done >"$work/cpuinfo"
  rm -f "$work/log"
  echo "$stamp" >"$work/stamp"
  rm -rf "$device"
  mv --no-target-directory "$work" "$device"
}

# Runs in the namespace.
with() {
  local device
  device=$(realpath "$1")
  home=$(mktemp -d)
  shift
  ip link set lo up
  env -i PATH=/usr/bin:/usr/sbin HOME=/root ADBD_PORT=$PORT proot -q "qemu-aarch64-static -cpu cortex-a72" \
    -r "$device/system" -b /dev -b /proc -b "$device/cpuinfo:/proc/cpuinfo" \
    -b "$device/cpu:/sys/devices/system/cpu" -w / /usr/lib/android-sdk/platform-tools/adbd >"$home/log" 2>&1 &
  trap 'code=$?; HOME=$home adb kill-server >/dev/null 2>&1 || true; rm -rf "$home"; exit $code' EXIT # --kill-child ends adbd
  export HOME=$home SERIAL=127.0.0.1:$PORT
  for _ in {1..60}; do
    if adb connect "$SERIAL" 2>&1 | grep -q '^connected' && [[ $(adb -s "$SERIAL" get-state 2>/dev/null) == device ]]; then
      "$@"
      return
    fi
    sleep 0.5
  done
  cat "$home/log" >&2
  echo "adbd.sh: adbd did not start" >&2
  exit 1
}

case ${1:-} in
  setup) setup "$2" ;;
  with) exec unshare --net --pid --fork --kill-child --mount-proc "$here/adbd.sh" inside "${@:2}" ;;
  inside) with "${@:2}" ;;
  *) echo "usage: adbd.sh setup DIR | adbd.sh with DIR COMMAND..." >&2; exit 2 ;;
esac
