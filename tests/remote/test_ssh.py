"""Over a real sshd: what is sent, what is not sent again, what ends half way, and names that are code elsewhere."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fbkit.benchmarks.device.result import device_result_from_json
from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER as DEMO
from fbkit.files import sha256_file
from tests.conftest import FBKIT
from tests.remote.conftest import Sshd

PICTURES = DEMO / "pictures"
HOSTILE = 'it\'s "$(touch pwned)" `touch pwned`; touch pwned & \\'


def said(ended: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout)
    return found


def refused(ended: subprocess.CompletedProcess[str]) -> str:
    """The error's line, behind what was being done."""
    assert ended.returncode == 2, ended.stdout + ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("fbkit: ")
    assert "Traceback" not in ended.stderr
    return line


def shipped(ended: subprocess.CompletedProcess[str]) -> dict[str, int]:
    found = said(ended)["shipped"]
    assert isinstance(found, dict)
    return found


def deploy(sshd: Sshd, bundle: Path, native: Path, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = ("--runtime", "native", "--native", native, "--json")
    return sshd.fbkit("deploy", bundle, "--to", sshd.target(place), *given, **environment)


@pytest.fixture(scope="module")
def _deployed(sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed") / "there"
    said(deploy(sshd, pte_bundle, native_here, folder))
    return folder


@pytest.fixture
def there(_deployed: Path, tmp_path: Path) -> Path:
    """A folder to which the bundle was deployed."""
    return Path(shutil.copytree(_deployed, tmp_path / "there", symlinks=True))


def test_a_bundle_is_brought_checked_and_personalized(
    sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path: Path
) -> None:
    there, to = tmp_path / "there", ("--to", sshd.target(tmp_path / "there"))
    first = said(deploy(sshd, pte_bundle, native_here, there))
    assert first["check"]["ok"]  # type: ignore[index]
    assert (there / "bundles").stat().st_mode & 0o077 == 0 or there.stat().st_mode & 0o077 == 0
    sent = first["shipped"]
    assert sent["held"] == 0  # type: ignore[index]
    assert sent["sent"] >= sum(path.stat().st_size for path in native_here.rglob("*") if path.is_file())  # type: ignore[index]
    second = shipped(deploy(sshd, pte_bundle, native_here, there))
    assert second["sent"] == 0
    assert second["held"] > 0

    ran = sshd.fbkit("remote", "personalize", pte_bundle, PICTURES / "train", *to, "--bring", tmp_path / "me", "--json")
    result = said(ran)
    assert result["pictures"] == {"sneaker": 10, "t-shirt": 10}
    here = Personalizer(Bundle.open(pte_bundle), tmp_path / "me")
    evaluated = said(sshd.fbkit("remote", "evaluate", pte_bundle, PICTURES / "test", *to, "--profile", "me", "--json"))
    assert here.evaluate(PICTURES / "test").personal_accuracy == evaluated["personal_accuracy"]
    measured = sshd.fbkit("remote", "bench", pte_bundle, PICTURES, *to, "--turns", 1, "--out", tmp_path / "result.json")
    assert measured.returncode == 0, measured.stderr
    measurement = device_result_from_json(json.loads((tmp_path / "result.json").read_text()), "result")
    assert measurement.subject.name == pte_bundle.name
    assert measurement.learning[0].points[-1].loss == pytest.approx(evaluated["personal_loss"], rel=1e-3)
    assert not measurement.machine.emulated
    assert not list((there / "visits").iterdir())
    assert not any(sha256_file(path) in name for path in PICTURES.glob("*/*/*") for name in files_below(there))
    again = sshd.fbkit("remote", "personalize", pte_bundle, PICTURES / "train", *to, "--bring", tmp_path / "me")
    assert "exists already" in refused(again)


def files_below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*")]


def test_only_what_changed_is_sent(
    sshd: Sshd, there: Path, pte_bundle: Path, native_here: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(pte_bundle, tmp_path / "other"))
    manifest = other / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"epochs": ', b'"epochs":  ', 1))
    more = shipped(deploy(sshd, other, native_here, there))
    assert more["sent"] == manifest.stat().st_size
    assert len(list((there / "bundles").iterdir())) == 4  # two folders, and what runs each


def test_names_are_never_code(sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path: Path) -> None:
    base = tmp_path / HOSTILE.replace("/", "")
    base.mkdir()
    bundle = Path(shutil.copytree(pte_bundle, base / "bundle"))
    from urllib.parse import quote

    to = ("--to", f"ssh://127.0.0.1:{sshd.port}{quote(str(base / 'there'))}")
    given = ("--runtime", "native", "--native", native_here)
    ended = sshd.fbkit("deploy", bundle, *to, *given)
    assert ended.returncode == 0, ended.stderr
    data = Path(shutil.copytree(PICTURES / "train", base / "-data"))
    (data / "sneaker").rename(data / HOSTILE)
    result = said(sshd.fbkit("remote", "personalize", bundle, f"{data}", "--add-classes", *to, "--json"))
    assert result["pictures"] == {HOSTILE: 10, "t-shirt": 10}
    picture = next((data / HOSTILE).iterdir()).rename(base / f"{HOSTILE}.png")
    predicted = said(sshd.fbkit("remote", "predict", bundle, picture, *to, "--profile", "me", "--json"))
    assert predicted["predictions"][0]["label"] == HOSTILE  # type: ignore[index]
    for profile in ("a b", "$(touch pwned)", "../me", "x" * 100):
        assert "--profile" in refused(sshd.fbkit("remote", "predict", bundle, picture, *to, "--profile", profile))
    assert not list(tmp_path.rglob("pwned"))
    assert not (Path.home() / "pwned").exists()
    assert not Path("pwned").exists()


def test_exit_codes_and_errors_come_through(
    sshd: Sshd, pte_bundle: Path, colour_bundle: Path, native_here: Path, tmp_path: Path
) -> None:
    to = ("--to", sshd.target(tmp_path / "there"))
    assert "bring it there with: fbkit deploy" in refused(
        sshd.fbkit("remote", "predict", pte_bundle, "device:/x.png", *to)
    )
    deploy(sshd, pte_bundle, native_here, tmp_path / "there")
    ended = sshd.fbkit("remote", "predict", pte_bundle, "device:/nowhere/x.png", *to)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "fbkit-device: /nowhere/x.png: cannot be read (No such file or directory)"
    assert "bring it there with: fbkit deploy" in refused(
        sshd.fbkit("remote", "evaluate", colour_bundle, PICTURES / "test", *to)
    )
    picture = next(PICTURES.glob("test/*/*"))
    own = said(sshd.fbkit("remote", "predict", pte_bundle, f"device:{picture}", *to, "--json"))
    assert own["predictions"][0]["picture"] == str(picture)  # type: ignore[index]


def test_a_device_that_cannot_be_reached_is_told(
    sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path: Path
) -> None:
    given = ("--runtime", "native", "--native", native_here)
    stranger = sshd.with_a_strangers_key()
    assert "Permission denied" in refused(stranger.fbkit("deploy", pte_bundle, "--to", sshd.target(tmp_path), *given))
    nobody = f"ssh://127.0.0.1:{1}/x"
    assert "Connection refused" in refused(sshd.fbkit("deploy", pte_bundle, "--to", nobody, *given))
    file = tmp_path / "file"
    file.touch()
    message = refused(sshd.fbkit("deploy", pte_bundle, "--to", sshd.target(file / "folder"), *given))
    assert "cannot find out what the device is" in message
    other = Path(shutil.copytree(native_here, tmp_path / "other"))
    program = bytearray((other / "fbkit-device").read_bytes())
    program[18:20] = (183 if program[18] == 62 else 62).to_bytes(2, "little")
    (other / "fbkit-device").write_bytes(program)
    ended = sshd.fbkit(
        "deploy", pte_bundle, "--to", sshd.target(tmp_path / "t"), "--runtime", "native", "--native", other
    )
    assert "is a program for" in refused(ended)


def test_a_transfer_that_breaks_half_way_goes_on_where_it_was(
    sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path: Path
) -> None:
    there, whole = tmp_path / "there", 1_000_000
    message = refused(deploy(sshd, pte_bundle, native_here, there, BREAK_AFTER=str(whole)))
    assert "cannot be reached, or no longer" in message
    assert not (there / "bundles").exists()
    assert not list((there / "runtimes").glob("*")) if (there / "runtimes").exists() else True
    (begun,) = (there / "incoming").iterdir()
    assert begun.stat().st_size == whole
    rest = shipped(deploy(sshd, pte_bundle, native_here, there))
    complete = shipped(deploy(sshd, pte_bundle, native_here, tmp_path / "elsewhere"))
    assert rest["sent"] <= complete["sent"] - whole
    assert not list((there / "incoming").iterdir())


def test_what_an_interrupted_copy_left_is_believed_only_if_it_is_the_start(
    sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    refused(deploy(sshd, pte_bundle, native_here, there, BREAK_AFTER="1000000"))
    (begun,) = (there / "incoming").iterdir()
    begun.write_bytes(b"something else" * 300_000)
    assert said(deploy(sshd, pte_bundle, native_here, there))["check"]["ok"]  # type: ignore[index]


def test_killed_at_any_moment_the_next_one_makes_it_whole(
    sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path: Path, full: bool
) -> None:
    there, rng = tmp_path / "there", random.Random(0)  # noqa: S311  it hides nothing
    command: list[str | Path] = [
        FBKIT,
        "deploy",
        pte_bundle,
        "--to",
        sshd.target(there),
        "--runtime",
        "native",
        "--native",
        native_here,
    ]
    began = time.monotonic()
    assert subprocess.run(command, env=sshd.environment(), capture_output=True, check=False).returncode == 0
    seconds = time.monotonic() - began
    for _ in range(20 if full else 1):
        shutil.rmtree(there)
        process = subprocess.Popen(
            command,
            env=sshd.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)  # with its ssh
        process.wait()
        for bundle in (there / "bundles").glob("*/"):
            if not bundle.name.endswith(".partial"):
                assert Bundle.open(bundle)
        assert said(deploy(sshd, pte_bundle, native_here, there))["check"]["ok"]  # type: ignore[index]
    assert process.returncode in (0, -signal.SIGKILL)


def test_what_was_damaged_there_is_made_whole(sshd: Sshd, there: Path, pte_bundle: Path, native_here: Path) -> None:
    for name in ("bundles/*/manifest.json", "runtimes/*/fbkit-device"):
        (path,) = there.glob(name)
        path.write_bytes(b"x")
        assert said(deploy(sshd, pte_bundle, native_here, there))["check"]["ok"]  # type: ignore[index]
    (path,) = there.glob("bundles/*/manifest.json")
    path.unlink()
    assert said(deploy(sshd, pte_bundle, native_here, there))["check"]["ok"]  # type: ignore[index]


def test_a_full_disk_is_told_and_nothing_counts_until_there_is_room(
    sshd: Sshd, pte_bundle: Path, native_here: Path, tmp_path: Path
) -> None:
    there = tmp_path / "small"
    there.mkdir()

    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "small", str(there)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    if mount("size=4M"):
        pytest.skip("a full disk is a small one in memory, which this system lets nobody mount")
    try:
        assert "bytes are to be sent, and only " in refused(deploy(sshd, pte_bundle, native_here, there))
        assert not list((there / "store").iterdir())
        assert mount("remount", "size=4M", "nr_inodes=9") == 0  # there are bytes, but no place for a file
        assert mount("remount", "size=900M", "nr_inodes=9") == 0
        assert "No space left on device" in refused(deploy(sshd, pte_bundle, native_here, there))
        assert not (there / "bundles").exists()
        assert mount("remount", "size=900M", "nr_inodes=1000") == 0
        assert said(deploy(sshd, pte_bundle, native_here, there))["check"]["ok"]  # type: ignore[index]
    finally:
        subprocess.run(["umount", there], check=True)


def test_a_device_that_vanishes_at_work_is_told(sshd: Sshd, there: Path, pte_bundle: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for number in range(100):
        shutil.copytree(PICTURES / "test" / "sneaker", pictures / "sneaker" / str(number))
        for path in (pictures / "sneaker" / str(number)).iterdir():
            path.rename(pictures / "sneaker" / f"{number}-{path.name}")
    command: list[str | Path] = [
        FBKIT,
        "remote",
        "evaluate",
        pte_bundle,
        f"device:{pictures}",
        "--to",
        sshd.target(there),
    ]
    with subprocess.Popen(
        command, env=sshd.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        at_work = ["pgrep", "-f", f"fbkit-device evaluate {there}"]
        while subprocess.run(at_work, capture_output=True, check=False).returncode and process.poll() is None:
            time.sleep(0.02)
        subprocess.run(["pkill", "-KILL", "-P", str(sshd.process)], check=True)
        out, err = process.communicate()
    assert process.returncode == 2, out + err
    assert "cannot be reached, or no longer" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_options_and_their_values_are_not_taken_for_files(
    sshd: Sshd, there: Path, pte_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sgd").mkdir()
    to = ("--to", sshd.target(there))
    given = ("--solver", "sgd", "--epochs=3", "--dry-run")
    assert "unchanged" not in said(
        sshd.fbkit("remote", "personalize", pte_bundle, PICTURES / "train", *given, *to, "--json")
    )
    assert "no such option: --epoch;" in refused(
        sshd.fbkit("remote", "personalize", pte_bundle, PICTURES / "train", "--epoch", 3, *to)
    )
    assert "nowhere: is not here; for one on the device write device:/PATH" in refused(
        sshd.fbkit("remote", "evaluate", pte_bundle, "nowhere", *to)
    )


def test_python_and_its_packages_are_brought_too(sshd: Sshd, tmp_path: Path, full: bool) -> None:
    """An ONNX bundle, on this machine's own Python; the device needs no network."""
    if not full:
        pytest.skip("long")
    there = tmp_path / "there"
    to = ("--to", sshd.target(there))
    first = said(sshd.fbkit("deploy", DEMO / "bundle", *to, "--json"))
    assert first["check"]["ok"]  # type: ignore[index]
    assert str(first["runtime"]).startswith("python-")
    assert shipped(sshd.fbkit("deploy", DEMO / "bundle", *to, "--json"))["sent"] == 0
    ran = said(sshd.fbkit("remote", "personalize", DEMO / "bundle", PICTURES / "train", *to, "--json"))
    assert ran["verdict"]["verified"]  # type: ignore[index]
    (python,) = (there / "runtimes").glob("*/bin/python")
    listed = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    assert listed.returncode != 0  # an environment of fbkit's own, with nothing that it does not need
