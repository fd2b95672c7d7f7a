"""Pictures on their way in: files, arrays, streams and folders; twice, turned, too many; and what predictions say."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.looking import Picture
from fbkit.device_runtime.profile import Limits
from fbkit.device_runtime.profile.memory import as_stored
from fbkit.device_runtime.tensors import Bytes, Float
from fbkit.errors import UserError
from fbkit.files import sha256_file
from tests.conftest import Outcome
from tests.device_runtime.conftest import BUNDLE, PICTURES, by_the_body, opened, snapshot, some


@pytest.fixture
def personalizer(demo: Bundle, tmp_path: Path) -> Personalizer:
    return Personalizer(demo, tmp_path / "profile")


# Each gives the picture of a file in another form.
def as_array(path: Path) -> Bytes:
    return np.asarray(Image.open(path))


def as_colours(path: Path) -> Bytes:
    return np.repeat(as_array(path)[:, :, None], 3, axis=2)


def as_a_view(path: Path) -> Bytes:
    """Neither contiguous nor writable."""
    turned = np.ascontiguousarray(as_colours(path)[::-1, :, ::-1])
    turned.flags.writeable = False
    return turned[::-1, :, ::-1]


def as_text(path: Path) -> str:
    return str(path)


def as_stream(path: Path) -> io.BytesIO:
    return io.BytesIO(path.read_bytes())


FILES, ARRAYS = (Path, as_text, as_stream), (as_array, as_colours, as_a_view)


@pytest.mark.parametrize("form", [*FILES, *ARRAYS])
def test_a_picture_may_come_in_any_form(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, form: Callable[[Path], Picture]
) -> None:
    paths = some("sneaker", 3)
    assert personalizer.add([form(path) for path in paths], "sneaker") == 3
    memory = opened(tmp_path / "profile", demo).memory()
    assert np.array_equal(memory.features, by_the_body(demo, paths))
    assert [demo.classes[label] for label in memory.labels] == ["sneaker"] * 3
    if form in FILES:
        assert list(memory.rows_by_digest()) == [sha256_file(path) for path in paths]
    predicted = personalizer.predict([form(path) for path in paths])
    assert [entry.probabilities for entry in predicted] == [
        entry.probabilities for entry in personalizer.predict(paths)
    ]
    assert personalizer.add([form(path) for path in paths], "sneaker") == 3, "equal pictures count once"
    assert personalizer.remove(pictures=[form(path) for path in paths]).left == 0


@pytest.mark.parametrize("form", [*FILES, *ARRAYS])
def test_a_single_picture_needs_no_list(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, form: Callable[[Path], Picture]
) -> None:
    """Not even an array, which would otherwise be taken for as many pictures as it has rows."""
    path = some("t-shirt", 1)[0]
    assert personalizer.add(form(path), "t-shirt") == 1
    assert np.array_equal(opened(tmp_path / "profile", demo).memory().features, by_the_body(demo, [path]))
    assert len(personalizer.predict(form(path))) == 1
    assert personalizer.remove(pictures=form(path)).forgotten == 1


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((28, 28), np.float32), r"is float32 \[28, 28\]"),
        (np.zeros((28, 28, 4), np.uint8), r"is uint8 \[28, 28, 4\]"),
        (np.zeros((28, 28, 1), np.uint8), r"is uint8 \[28, 28, 1\]"),
        (np.zeros((2, 28, 28, 3), np.uint8), r"is uint8 \[2, 28, 28, 3\]"),
        (np.zeros(28, np.uint8), r"is uint8 \[28\]"),
        (np.zeros((0, 28), np.uint8), r"is uint8 \[0, 28\]"),
    ],
)
def test_another_array_is_refused_by_its_place(
    personalizer: Personalizer, tmp_path: Path, array: Bytes, said: str
) -> None:
    with pytest.raises(UserError, match=rf"^picture 2: must be uint8 of shape \[H, W\] or \[H, W, 3\], {said}"):
        personalizer.add([as_array(some("sneaker", 1)[0]), array], "sneaker")
    assert not (tmp_path / "profile").exists()


def test_a_folder_is_the_same_as_its_pictures_in_order(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path
) -> None:
    assert personalizer.add(PICTURES / "train") == 20
    other = Personalizer(demo, tmp_path / "other")
    for label in ("sneaker", "t-shirt"):
        count = other.add(some(label), label)
    assert count == 20
    folder, pictures = (opened(tmp_path / name, demo).memory() for name in ("profile", "other"))
    for name in ("numbers", "digests", "labels", "features"):
        assert np.array_equal(getattr(folder, name), getattr(pictures, name))
    assert abs(folder.times - time.time()).max() < 60


def test_bad_words_for_what_to_add_are_refused(personalizer: Personalizer, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^pictures without a label must be a folder with a folder of pictures for each"
    ):
        personalizer.add(some("sneaker"))
    with pytest.raises(UserError, match=r"^'hat' is no class of this bundle or profile; add it as a new class first"):
        personalizer.add(some("sneaker"), "hat")
    with pytest.raises(UserError, match=r"none.png: cannot be read \(No such file"):
        personalizer.add([*some("sneaker"), tmp_path / "none.png"], "sneaker")
    assert not (tmp_path / "profile").exists()


def test_a_picture_that_comes_twice_counts_once_and_in_two_classes_is_refused(
    personalizer: Personalizer, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    folder = tmp_path / "pictures"
    for name in ("sneaker/a.png", "sneaker/b.png", "t-shirt/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    first, second = (path.read_bytes() for path in some("sneaker", 2))
    (folder / "sneaker/a.png").write_bytes(first)
    (folder / "sneaker/b.png").write_bytes(first)
    (folder / "t-shirt/c.png").write_bytes(second)
    result = personalizer.fit(folder)
    assert result.pictures == {"sneaker": 1, "t-shirt": 1}
    assert result.computed == 2

    before = snapshot(tmp_path / "profile")
    (folder / "t-shirt/c.png").write_bytes(first)
    outcome = fbkit("personalize", BUNDLE, folder, "--profile", tmp_path / "profile")
    assert outcome.code == 2
    assert outcome.err == (
        f"fbkit: {folder}/t-shirt/c.png: is 't-shirt' here, and 'sneaker' as {folder}/sneaker/a.png; "
        "remove one of the two\n"
    )
    assert snapshot(tmp_path / "profile") == before

    (folder / "sneaker/a.png").unlink()
    (folder / "sneaker/b.png").unlink()
    result = personalizer.fit(folder)
    assert result.pictures == {"t-shirt": 2}, "one that comes again with another class is of that class now"
    assert result.computed == 0


# The eight orientations of EXIF: how the upright picture was turned before it was stored.
STORED: dict[int, Callable[[Bytes], Bytes]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].T,
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_seen_upright_as_its_exif_says(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, orientation: int
) -> None:
    upright = as_array(some("sneaker", 1)[0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(file, "PNG", exif=exif.tobytes())
    personalizer.add(io.BytesIO(file.getvalue()), "sneaker")
    expected = as_stored(demo.features([upright[:, :, None]]))
    assert np.array_equal(opened(tmp_path / "profile", demo).memory().features, expected)


def test_values_that_are_no_numbers_are_refused_before_they_are_remembered(demo: Bundle, tmp_path: Path) -> None:
    class Body:
        runtime = "made up"

        def features(self, images: Float) -> Float:
            features = np.ones((len(images), 256), np.float32)
            features[1, 7] = np.inf
            return features

    personalizer = Personalizer(replace(demo, body=Body()), tmp_path / "profile")
    with pytest.raises(UserError, match=rf"^{some('sneaker')[1]}: the body gives values that are not finite"):
        personalizer.add(some("sneaker"), "sneaker")
    assert not (tmp_path / "profile").exists()


# Limits.


def numbers_by_class(folder: Path, bundle: Bundle) -> dict[str, list[int]]:
    profile = opened(folder, bundle)
    memory = profile.memory()
    return {
        name: memory.numbers[memory.labels == place].tolist()
        for place, name in enumerate(profile.classes)
        if place in memory.labels
    }


def test_the_number_of_pictures_is_kept_to_and_the_oldest_of_the_largest_class_goes(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    profile = tmp_path / "profile"
    personalizer.add(some("sneaker", 7), "sneaker")
    personalizer.add(some("t-shirt", 4), "t-shirt")
    assert fbkit("profile", "limit", BUNDLE, profile, "--pictures", 9).code == 0
    assert numbers_by_class(profile, demo) == {"t-shirt": [8, 9, 10, 11], "sneaker": [3, 4, 5, 6, 7]}
    assert personalizer.add(some("t-shirt"), "t-shirt") == 9
    assert numbers_by_class(profile, demo) == {"t-shirt": [14, 15, 16, 17], "sneaker": [3, 4, 5, 6, 7]}
    result = json.loads(fbkit("personalize", BUNDLE, PICTURES / "train", "--profile", profile, "--json").out)
    assert sum(result["pictures"].values()) == 9
    assert fbkit("profile", "limit", BUNDLE, profile, "--pictures", 0).code == 0
    assert personalizer.add(PICTURES / "train") == 20


def test_the_bytes_of_features_are_kept_to(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    profile = tmp_path / "profile"
    personalizer.add(some("sneaker", 1), "sneaker")
    assert fbkit("profile", "limit", BUNDLE, profile, "--megabytes", 0.006).code == 0
    for label in ("sneaker", "t-shirt"):
        for path in some(label):
            personalizer.add([path], label)
            files = list((profile / "memory").iterdir())
            headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in files)
            assert sum(file.stat().st_size for file in files) - headers <= 6000
    assert len(opened(profile, demo).memory()) == 6000 // (2 * 256 + 60) == 10
    for numbers in numbers_by_class(profile, demo).values():
        assert len(numbers) == 5


def test_limits_hold_for_a_fit_that_changes_nothing_too(personalizer: Personalizer) -> None:
    personalizer.set_limits(Limits(pictures=6))
    assert personalizer.fit(PICTURES / "train", dry_run=True).pictures == {"sneaker": 3, "t-shirt": 3}
    assert personalizer.fit(PICTURES / "train").pictures == {"sneaker": 3, "t-shirt": 3}


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_body_gets_as_many_threads_as_it_is_given() -> None:
    def started(threads: int) -> int:
        before = len(os.listdir("/proc/self/task"))  # noqa: PTH208
        bundle = Bundle.open(BUNDLE, threads)
        bundle.features([bundle.decode(some("sneaker", 1)[0].read_bytes())] * 32)
        return len(os.listdir("/proc/self/task")) - before  # noqa: PTH208

    started(1)  # libraries start theirs
    assert [started(1), started(4)] == [0, 3]


def test_pictures_are_no_longer_kept_when_that_is_said(personalizer: Personalizer, tmp_path: Path) -> None:
    personalizer.set_limits(Limits(pictures=3), keep_pictures=True)
    personalizer.add(some("sneaker"), "sneaker")
    assert len(list((tmp_path / "profile" / "kept").iterdir())) == 3
    personalizer.set_limits(Limits(pictures=3))
    assert not list((tmp_path / "profile" / "kept").iterdir())


# Predictions.


def test_below_the_threshold_a_prediction_names_no_class(
    personalizer: Personalizer, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    personalizer.fit(PICTURES / "train")
    paths = some("sneaker", 14, "test")
    plain = personalizer.predict(paths)
    largest = [max(entry.probabilities.values()) for entry in plain]
    middle = sorted(largest)[7]
    unsure = personalizer.predict(paths, middle)
    assert [entry.label for entry in unsure] == [
        entry.label if most >= middle else None for entry, most in zip(plain, largest, strict=True)
    ]
    assert 0 < sum(entry.label is None for entry in unsure) < 14
    assert [entry.probabilities for entry in unsure] == [entry.probabilities for entry in plain]

    command = ("predict", BUNDLE, *paths, "--profile", tmp_path / "profile", "--unsure", middle)
    told = json.loads(fbkit(*command, "--json").out)["predictions"]
    assert [entry["label"] for entry in told] == [entry.label for entry in unsure]
    assert fbkit(*command).out.count(": unsure: ") == sum(entry.label is None for entry in unsure)
    assert fbkit("predict", BUNDLE, paths[0], "--unsure", 1.5).code == 2
