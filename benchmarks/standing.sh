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

arm=tests/arm64/device.sh
if [ "$machine" = x86_64 ] && [ "$(id -u)" = 0 ] && PYTHON=$python $arm setup .cache/arm64; then
  here=$(pwd)
  # Relative paths would be those of the device.
  on_arm() { $arm run .cache/arm64 "$@"; }
  on_arm python3 -m fbkit bench device "$here/$onnx" "$here/$client" --turns 1 --threads 1 \
    --out "$here/$results/device/emulated-arm64-python-onnx.json"
  PYTHON=$python device_runtime/native/build.sh aarch64 build/native/aarch64
  on_arm "$here/build/native/aarch64/fbkit-device" bench "$here/$pte" "$here/$client" --turns 1 \
    --out "$here/$results/device/emulated-arm64-native-executorch.json"
fi

rm -rf $work/report
fbkit bench report $results/convergence/convergence.json $results/device/*.json --out $work/report
"$python" benchmarks/standing_page.py $work/report docs/benchmarks.md
