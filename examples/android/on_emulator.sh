#!/usr/bin/env bash
# Personalize on the emulator or phone that adb finds, and bring the profile back; what ci.yml runs.
# Expects the folders bundle and fbkit-device, as docs/android.md makes them, and fbkit's checkout as working folder.
set -euo pipefail

there=/data/local/tmp/fbkit
adb shell "rm -rf $there && mkdir -p $there"
adb push fbkit-device/fbkit-device bundle device_runtime/demo/pictures "$there/"
run="cd $there && chmod 755 fbkit-device && HOME=$there ./fbkit-device"
adb shell "$run check bundle"
adb shell "$run personalize bundle pictures/train --profile profile"
adb shell "$run predict bundle pictures/test/sneaker/00365.png --profile profile"
adb shell "$run evaluate bundle pictures/test --profile profile"
rm -rf profile
adb pull "$there/profile" profile
