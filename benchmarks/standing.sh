#!/usr/bin/env bash
# The standing results of this machine, made again: benchmarks/results/{convergence,device}, docs/benchmarks.md and its
# pictures. Let the machine have nothing else to do. About ten minutes on two cores; less where .cache holds the runs.
#
# The emulated Arm device is added where it can be made (x86-64 Debian or Ubuntu, as root); its times are left out.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
fbkit() { "$python" -m fbkit "$@"; }
work=.cache/benchmarks
results=benchmarks/results

fbkit bench convergence --out $work/convergence
mkdir -p $results/convergence $results/device
cp $work/convergence/convergence.json $results/convergence/

# One client of the first seed, on every runtime there is.
client=$(find $work/convergence/clients -path '*/0-*/client-*' -maxdepth 2 | sort | head -n 1)
onnx=$(find $work/convergence/bundles -name 'fedbabu-0-onnx-fp32-*' -maxdepth 1)
pte=$(find $work/convergence/bundles -name 'fedbabu-0-executorch-fp32-*' -maxdepth 1)
machine=$(uname -m)
fbkit bench device "$onnx" "$client" --out "$results/device/$machine-python-onnx.json"
fbkit bench device "$pte" "$client" --out "$results/device/$machine-python-executorch.json"
PYTHON=$python device_runtime/native/build.sh "$machine" "build/native/$machine"
"build/native/$machine/fbkit-device" bench "$pte" "$client" --out "$results/device/$machine-native-executorch.json"

# The emulated device: ONNX in Python as a program that qemu runs; the native runner, which starts processes of its own,
# behind adbd, where every program is qemu's.
arm=tests/arm64/device.sh adbd=tests/remote/adbd.sh
if [ "$machine" = x86_64 ] && [ "$(id -u)" = 0 ] && PYTHON=$python $arm setup .cache/arm64 && $adbd setup .cache/adb; then
  here=$(pwd)
  # shellcheck disable=SC2016
  $arm run .cache/arm64 python3 -c '
import os, sys
sys.executable = os.environ["DEVICE_PYTHON"]  # what measures fresh processes starts
from fbkit.cli import main
main()' bench device "$here/$onnx" "$here/$client" --turns 1 --threads 1 \
    --out "$here/$results/device/emulated-arm64-python-onnx.json"
  PYTHON=$python device_runtime/native/build.sh aarch64 build/native/aarch64
  PATH=$(dirname "$(realpath -s "$python")"):$PATH PTE=$pte CLIENT=$client \
    OUT=$results/device/emulated-arm64-native-executorch.json \
    $adbd with .cache/adb bash -ec '
      fbkit deploy "$PTE" --to "adb:$SERIAL" --runtime native --native build/native/aarch64
      fbkit remote bench "$PTE" "$CLIENT" --to "adb:$SERIAL" --turns 1 --out "$OUT"'
fi

rm -rf $work/report
fbkit bench report $results/convergence/convergence.json $results/device/*.json --out $work/report
"$python" benchmarks/standing_page.py $work/report docs/benchmarks.md
