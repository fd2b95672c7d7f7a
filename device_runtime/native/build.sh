#!/usr/bin/env bash
# Build fbkit-device and put it into a folder with all that it loads.
#
#   build.sh ARCH FOLDER [CMAKE OPTION...]     ARCH is x86_64 or aarch64, this machine's or another
#
# What it is built with is fetched into .cache/native, see fetch.sh, whose exit code 75 is passed on.
set -euo pipefail

[[ $# -ge 2 ]] || { echo "usage: build.sh x86_64|aarch64 FOLDER [CMAKE OPTION...]" >&2; exit 2; }
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
checkout=$(realpath "$here/../..")
arch=$1 folder=$(realpath --canonicalize-missing "$2")
needs=$checkout/.cache/native/$arch
shift 2

# The machine's, or the one that pip installed beside Python.
cmake=$(command -v cmake || command -v "$(dirname "$(command -v "${PYTHON:-python3}")")/cmake") ||
  { echo "build.sh: cmake is missing; install it (apt install cmake, or pip install cmake)" >&2; exit 1; }
"$here/fetch.sh" "$arch" "$needs"

if [[ -e $needs/bin ]]; then
  compiler=$needs/bin/c++ strip=$needs/bin/strip
elif [[ $arch == "$(uname -m)" ]]; then
  compiler=c++ strip=strip
else
  compiler=$arch-linux-gnu-g++ strip=$arch-linux-gnu-strip
fi
options=()
if [[ $arch != "$(uname -m)" ]]; then options=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$arch"); fi
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$checkout/src/fbkit/__init__.py")

# One build folder for each way to build, so that another way does not start anew.
work=$checkout/.cache/native/build-$arch-$(printf '%s' "$*" | sha256sum | cut -c 1-8)
exec {lock}>"$work.lock"
flock "$lock"
"$cmake" -S "$here" -B "$work" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_LIBRARY_ARCHITECTURE="$arch-linux-gnu" \
  -DCMAKE_PREFIX_PATH="$needs/debian/usr" -DEXECUTORCH_SDK="$needs/executorch" -DFBKIT_VERSION="$version" \
  "${options[@]}" "$@"
env -u MAKEFLAGS -u MAKELEVEL "$cmake" --build "$work" --parallel "$(nproc)"

rm -rf "$folder" "$folder.partial"
"$cmake" --install "$work" --prefix "$folder.partial" >/dev/null
"$strip" "$folder.partial/fbkit-device" "$folder.partial"/lib/*.so
mkdir "$folder.partial/licenses"
for file in "$needs"/debian/usr/share/doc/*/copyright; do
  cp "$file" "$folder.partial/licenses/$(basename "$(dirname "$file")")"
done
cp "$needs/executorch/LICENSE" "$folder.partial/licenses/executorch"
cp "$checkout/LICENSE" "$folder.partial/licenses/fbkit"
mv "$folder.partial" "$folder"
du -sh --apparent-size "$folder"
