"""Over a real adbd, onto an emulated 64-bit Arm device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fbkit.benchmarks.device.measure import measure_device
from fbkit.benchmarks.device.result import device_result_from_json
from fbkit.console import Reporter
from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER as DEMO
from fbkit.device_runtime.remote.survey import DevicePython, Survey
from fbkit.device_runtime.remote.wheels import gather_wheels
from tests.remote.conftest import AdbDevice

PICTURES = DEMO / "pictures"

STORY = """
to=adb:$SERIAL
fbkit deploy "$BUNDLE" --to $to --json $HOW
fbkit deploy "$BUNDLE" --to $to --json $HOW
fbkit remote personalize "$BUNDLE" "$PICTURES/train" --to $to --json --bring "$OUT"
fbkit remote evaluate "$BUNDLE" "$PICTURES/test" --to $to --profile me --json
[ -z "$MEASURE" ] || fbkit remote bench "$BUNDLE" "$PICTURES" --to $to --turns 1 --out "$MEASURE" >&2
code=0; fbkit remote predict "$BUNDLE" "device:/no/it's \\"\\$(touch pwned)\\".png" --to $to >&2 || code=$?
echo $code
pkill -KILL -f '[p]latform-tools/adbd'
code=0; fbkit remote evaluate "$BUNDLE" "$PICTURES/test" --to $to >&2 || code=$?
echo $code
"""


def assert_same_curves(measured: Any, bundle: Path) -> None:
    """Accuracy and loss against steps, there and on this machine."""
    there = device_result_from_json(measured, "there")
    assert there.machine.emulated
    assert there.machine.architecture == "aarch64"
    here = measure_device(bundle, PICTURES, [None], 1, Reporter(quiet=True))
    for own, other in zip(there.learning, here.learning, strict=True):
        assert own.solver == other.solver
        for point, expected in zip(own.points, other.points, strict=True):
            assert (point.round, point.steps) == (expected.round, expected.steps)
            assert point.accuracy == pytest.approx(expected.accuracy)
            assert point.loss == pytest.approx(expected.loss, rel=1e-3)


@pytest.mark.parametrize("runtime", ["native", "python"])
def test_the_whole_story(
    runtime: str, pte_bundle: Path, tmp_path: Path, full: bool, request: pytest.FixtureRequest
) -> None:
    if not full:
        pytest.skip("a device is made and emulated: in full only (make test-all)")
    adb_device: AdbDevice = request.getfixturevalue("adb_device")
    how, measure = "--runtime python", str(tmp_path / "measured.json") if full else ""
    if runtime == "python":  # downloaded here, as where the device is there is no network
        device = DevicePython((3, 13), 64, (2, 41), "/usr/bin/python3")
        survey = Survey("", "Linux", "aarch64", 64, None, 0, (device,))
        gather_wheels(survey, device, "executorch", print)
    else:
        how = f"--runtime native --native {request.getfixturevalue('native_arm')}"
    ended = adb_device.run(
        STORY, BUNDLE=str(pte_bundle), PICTURES=str(PICTURES), OUT=str(tmp_path / "me"), HOW=how, MEASURE=measure
    )
    assert ended.returncode == 0, ended.stderr
    first, second, personalized, evaluated, missing, gone = map(json.loads, ended.stdout.splitlines())
    assert first["check"]["ok"]
    assert first["device"].startswith("Linux aarch64, Python 3.13")
    assert first["runtime"].startswith(runtime)
    assert first["shipped"]["sent"] > 10**6
    assert second["shipped"]["sent"] == 0
    here = Personalizer(Bundle.open(pte_bundle), tmp_path / "alone")
    expected = here.fit(PICTURES / "train")
    assert personalized["pictures"] == expected.pictures
    assert personalized["loss_after"] == pytest.approx(expected.loss_after, rel=1e-4)
    assert (
        Personalizer(Bundle.open(pte_bundle), tmp_path / "me").evaluate(PICTURES / "test").personal_accuracy
        == (evaluated["personal_accuracy"])
    )
    assert evaluated["personal_accuracy"] == here.evaluate(PICTURES / "test").personal_accuracy
    if full:  # it takes minutes where everything is emulated
        assert_same_curves(json.loads(Path(measure).read_text()), pte_bundle)
    assert (missing, gone) == (2, 2)
    assert 'pwned".png: cannot be read' in ended.stderr.replace("$(touch pwned)", "pwned")
    assert "cannot be reached, or no longer" in ended.stderr
    assert not Path("pwned").exists()
    assert not list((adb_device.folder / "system").glob("**/pwned"))
