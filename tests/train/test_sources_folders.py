"""People's own folders of pictures, real small files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.sources import load_dataset
from tests.train.picture_folders import by_hand, class_root, files, multiset, recipe, write_pictures

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.mark.parametrize("channels", [0, 1])
@pytest.mark.parametrize("test_name", ["test", "val", "valid", "validation", "TEST"])
def test_folders_that_set_test_pictures_aside(tmp_path: Path, test_name: str, channels: Any) -> None:
    root = tmp_path / "data"
    train_name = "Train" if test_name.isupper() else "train"
    class_root(root / train_name), class_root(root / test_name, (3, 2))
    data = load_dataset(recipe(root, channels=channels))
    assert data.classes == ("a", "b", "c")
    assert np.array_equal(data.train.images.numpy(), by_hand(files(root, f"{train_name}/*/*"), channels or 3))
    assert np.array_equal(data.test.images.numpy(), by_hand(files(root, f"{test_name}/*/*"), channels or 3))
    assert data.train.labels.tolist() == [0] * 10 + [1] * 5 + [2]
    assert data.test.labels.tolist() == [0] * 3 + [1] * 2
    values = data.train.images.double().transpose(0, 1).flatten(1) / 255
    assert data.mean == tuple(round(float(value), 4) for value in values.mean(1))
    assert data.std == tuple(round(float(value), 4) for value in values.std(1, correction=0))
    assert data.owners is None


def test_the_seed_draws_test_pictures_from_each_class(tmp_path: Path) -> None:
    root = class_root(tmp_path / "data")
    data = load_dataset(recipe(root, test_fraction=0.3), seed=1)
    assert torch.bincount(data.test.labels).tolist() == [3, 2]
    assert torch.bincount(data.train.labels).tolist() == [7, 3, 1]
    assert multiset(torch.cat([data.train.images, data.test.images])) == multiset(by_hand(files(root, "*/*")))
    for label, name in enumerate("abc"):
        of_class = multiset(by_hand(files(root, f"{name}/*")))
        assert set(multiset(data.train.images[data.train.labels == label])) <= set(of_class)
    again, other = (load_dataset(recipe(root, test_fraction=0.3), seed=seed) for seed in (1, 2))
    assert torch.equal(again.test.images, data.test.images)
    assert again.fingerprint == data.fingerprint
    assert not torch.equal(other.test.images, data.test.images)
    assert other.fingerprint != data.fingerprint


def test_clients_come_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "clients"
    for client, counts in (("zoe", (6, 0, 4)), ("ann", (5, 3)), ("bob", (0, 7))):
        class_root(root / client, counts)
    data = load_dataset(recipe(root, "client-folders", test_fraction=0.25))
    assert data.owners is not None
    assert data.owners.names == ("ann", "bob", "zoe")
    assert data.classes == ("a", "b", "c")
    for name, train, test in zip(data.owners.names, data.owners.train, data.owners.test, strict=True):
        mine = torch.cat([data.train.images[train], data.test.images[test]])
        assert multiset(mine) == multiset(by_hand(files(root, f"{name}/*/*")))
    counted = [(len(train), len(test)) for train, test in zip(data.owners.train, data.owners.test, strict=True)]
    assert counted == [(6, 2), (5, 2), (7, 3)]
    assert sorted(torch.cat([*data.owners.train]).tolist()) == list(range(len(data.train)))
    assert sorted(torch.cat([*data.owners.test]).tolist()) == list(range(len(data.test)))


def test_clients_that_set_test_pictures_aside(tmp_path: Path) -> None:
    root = tmp_path / "clients"
    for client in ("one", "two"):
        class_root(root / client / "train", (3, 2)), class_root(root / client / "test", (2, 1))
    data = load_dataset(recipe(root, "client-folders"))
    assert data.owners is not None
    assert [part.tolist() for part in data.owners.train] == [list(range(5)), list(range(5, 10))]
    assert [part.tolist() for part in data.owners.test] == [list(range(3)), list(range(3, 6))]
    assert np.array_equal(data.train.images.numpy(), by_hand(files(root, "*/train/*/*")))
    (root / "two").rename(root / "tom")
    assert load_dataset(recipe(root, "client-folders")).fingerprint != data.fingerprint


def test_padding_centres_and_scales_down_only_what_is_too_large(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number, size in enumerate([(10, 6), (32, 20), (16, 16)]):
            Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "data" / name / f"{number}.png")
    data = load_dataset(recipe(tmp_path / "data", fit="pad", test_fraction=0.01))
    shown = {tuple((image[0] > 0).sum(1).tolist()) for image in [*data.train.images, *data.test.images]}
    small, large = [0] * 5 + [10] * 6 + [0] * 5, [0] * 3 + [16] * 10 + [0] * 3
    assert shown == {tuple(small), tuple(large), (16,) * 16}
    assert all(set(image[1].unique().tolist()) <= {0, 100} for image in data.train.images)


def test_a_broken_picture_is_named_and_left_out_only_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], decoded: list[str]
) -> None:
    root = class_root(tmp_path / "data")
    (root / "a" / "004.png").write_bytes((root / "a" / "004.png").read_bytes()[:60])
    (root / "b" / "002.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"data/a/004.png: .*; 1 other broken: .*b/002.png; .*data.skip_broken"):
        load_dataset(recipe(root))
    assert len(decoded) == 16
    data = load_dataset(recipe(root, skip_broken=True), 0, Reporter())
    assert len(decoded) == 16
    assert "left out" in (said := capsys.readouterr().err)
    assert "data/a/004.png" in said and "data/b/002.png" in said
    good = [path for path in files(root, "*/*") if path.parent.name + path.name not in ("a004.png", "b002.png")]
    assert multiset(torch.cat([data.train.images, data.test.images])) == multiset(by_hand(good))
    values = data.train.images.double().transpose(0, 1).flatten(1) / 255
    assert data.mean == tuple(round(float(value), 4) for value in values.mean(1))
    for path in files(root, "*/*"):
        path.write_bytes(b"text")
    with pytest.raises(UserError, match="that is all there are"):
        load_dataset(recipe(root, skip_broken=True))


def test_what_cannot_be_read_is_a_broken_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_root(tmp_path / "data")
    good = multiset(by_hand(files(root, "*/*")))
    (root / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "b" / "round.jpg").symlink_to("round.jpg")
    (root / "b" / "device.jpg").symlink_to("/dev/zero")
    with (root / "c" / "video.jpg").open("wb") as file:
        file.truncate(1 << 34)  # takes no room, and would take long to read
    said = (
        r"data/a/gone.jpg: a link to nothing; 3 other broken: \S*device.jpg, \S*round.jpg, \S*video.jpg; .*skip_broken"
    )
    with pytest.raises(UserError, match=said):
        load_dataset(recipe(root))
    data = load_dataset(recipe(root, skip_broken=True), 0, Reporter())
    assert multiset(torch.cat([data.train.images, data.test.images])) == good
    assert "video.jpg" in capsys.readouterr().err
    for name, reason in (
        ("a/gone.jpg", "b/device.jpg: is no file"),
        ("b/device.jpg", "b/round.jpg: cannot be read"),
        ("b/round.jpg", "c/video.jpg: larger than"),
    ):
        (root / name).unlink()
        with pytest.raises(UserError, match=reason):
            load_dataset(recipe(root))


def test_files_beside_folders_are_passed_over_but_not_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "clients"
    for client in ("one", "two"):
        class_root(root / client / "train", (3, 2)), class_root(root / client / "test", (2, 1))
    load_dataset(recipe(root, "client-folders"), 0, Reporter())
    said = capsys.readouterr().err
    assert f"4 files beside folders, not in a class's folder, such as {root}/one/train/README.txt\n" in said
    for path in root.rglob("README.txt"):
        path.unlink()
    load_dataset(recipe(root, "client-folders"), 0, Reporter())
    assert "passed over" not in capsys.readouterr().err
    for place in (root, root / "one", root / "one" / "train"):
        path = place / "loose.png"
        for name in (".hidden", "Thumbs.db", "desktop.ini", path.name):
            (place / name).write_bytes(b"")
        load_dataset(recipe(root, "client-folders"), 0, Reporter())
        assert (
            f"passed over: 1 file beside folders, not in a class's folder, such as {path}\n" in capsys.readouterr().err
        )
        path.unlink()


def test_test_pictures_that_are_training_pictures_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    class_root(root / "train"), class_root(root / "test", (3, 2))
    for path in root.rglob("README.txt"):
        path.unlink()
    for content, name in ((b"broken", "z.png"), (None, "y.png")):  # a broken picture is no picture
        for part, label in (("train", "a"), ("test", "b")):
            (root / part / label / name).write_bytes(content or (root / "train" / "a" / "000.png").read_bytes())
    # In train and in test, the same seed drew the same first pictures of each class.
    load_dataset(recipe(root, skip_broken=True), 0, Reporter())
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [f"6 test pictures are also training pictures, such as {root}/test/a/000.png"]
    for path in files(root, "test/[ab]/0*"):
        Image.new("L", (9, 9), int(path.stem) + ord(path.parent.name)).save(path)
    load_dataset(recipe(root, skip_broken=True), 0, Reporter())
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [f"1 test picture is also a training picture, such as {root}/test/b/y.png"]


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_root(tmp_path / "data")
    (root / "a" / "\x1b[2Jä猫\n.png").write_bytes(b"text")
    with pytest.raises(UserError) as caught:
        load_dataset(recipe(root))
    assert "?[2Jä猫" in str(caught.value)
    assert str(caught.value).isprintable()
    load_dataset(recipe(root, skip_broken=True), 0, Reporter())
    Reporter().line("\x1b]0;x\x07\udcff ü\nsecond")
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "?]0;x?? ü?second"
    assert all(line.isprintable() for line in said)


@pytest.mark.parametrize(
    ("names", "how"),
    [
        (("Dog", "dog"), "differ only in upper and lower case"),
        (("K\u00e4se", "Ka\u0308se"), r"differ only in how letters are encoded, 'Ka\\u0308se' and 'K\\xe4se'"),
    ],
)
@pytest.mark.parametrize("source", ["class-folders", "client-folders"])
def test_two_classes_that_people_take_for_one_are_refused(
    tmp_path: Path, source: Any, names: tuple[str, str], how: str
) -> None:
    root = tmp_path / "data"
    if source == "class-folders":
        folders = [root / name for name in names]
    else:
        folders = [root / client / name for client, name in zip("xy", names, strict=True)]
    for folder in folders:
        write_pictures(folder, 2)
    if len({path.name for path in root.rglob("*") if path.is_dir()} & set(names)) < 2:
        pytest.skip("this file system takes the names for one")
    with pytest.raises(UserError, match=f"{how}; bring their pictures under one name") as caught:
        load_dataset(recipe(root, source))
    assert all(str(folder) in str(caught.value) for folder in folders)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (9, 9), len(path.name)).save(path)


@pytest.mark.parametrize(
    ("source", "paths", "said"),
    [
        ("class-folders", [], r"data: no such folder; expected CLASS/PICTURE"),
        ("class-folders", ["1.png", "2.png"], r"data: has pictures where folders belong; expected CLASS/PICTURE"),
        ("class-folders", ["a/1.png", "a/2.png"], r"data \(expected .*: has 1 classes; at least 2"),
        ("class-folders", ["x/a/1.png", "x/b/2.png"], r"x/a: is a folder where pictures belong; expected CLASS"),
        ("class-folders", ["a/1.png", "b/.2.png"], r"data/b: holds no pictures"),
        ("class-folders", ["a/1.png", "b/2.png"], r"data: no test pictures"),
        ("class-folders", ["train/a/1.png", "train/b/1.png"], r"train/a: is a folder where pictures belong"),
        ("class-folders", ["train/a/1.png", "train/b/1.png", "test/c/1.png"], r"test/c: is not a class of .*train"),
        ("class-folders", ["train/a/1.png", "train/b/1.png", "test/a/.x.png"], r"data: no test pictures"),
        ("class-folders", ["train/a/1.png", "test/b/1.png", "val/c/1.png"], r"data: has test, val beside train"),
        ("client-folders", [], r"data: no such folder; expected CLIENT/CLASS/PICTURE"),
        ("client-folders", ["1.png"], r"data: holds no clients; expected CLIENT"),
        ("client-folders", ["a/1.png", "b/2.png"], r"data/a: has pictures where folders belong; expected CLIENT"),
        ("client-folders", ["x/a/.1.png"], r"data/x: holds no pictures"),
        (
            "client-folders",
            ["x/train/a/1.png", "x/train/b/1.png", "x/test/c/1.png"],
            r"x/test/c: is a class that no cl",
        ),
        (
            "client-folders",
            ["train/a/1.png", "train/b/2.png", "Validation/a/1.png"],
            r"data: its clients would be called Validation and train; .*'class-folders'.* as CLIENT/train/CLASS/PICT",
        ),
        ("client-folders", ["test/a/1.png", "test/b/2.png"], r"data: its clients would be called test; "),
        ("client-folders", ["x\x1b/a/1.png", "y/b/2.png"], r"data: 'x\\x1b' cannot be a client's name"),
        ("client-folders", ["x\udcff/a/1.png", "y/b/2.png"], r"data: 'x\\udcff' cannot be a client's name"),
        ("class-folders", ["train/a/1.png", "eval/a/1.png"], r"eval/a: .*test/CLASS/PICTURE \(or val, valid, valida"),
        ("client-folders", ["x/a/1.png", "x/a/2.png", "x/a/3.png"], r"has 1 classes"),
        ("client-folders", ["x/a/1.png", "x/b/2.png"], r"data/x: has 2 training and 0 test pictures.*add pictures"),
        (
            "client-folders",
            ["x/train/a/1.png", "x/test/b/2.png", "y/a/1.png"],
            r"data/y: is laid out otherwise than .*data/x",
        ),
        (
            "client-folders",
            ["x/train/a/1.png", "x/train/b/2.png", "x/test/a/.1.png"],
            r"data/x: has 2 training and 0 test",
        ),
    ],
)
def test_a_layout_that_makes_no_sense_is_named(tmp_path: Path, source: Any, paths: list[str], said: str) -> None:
    for path in paths:
        picture(tmp_path / "data" / path)
    with pytest.raises(UserError, match=said):
        load_dataset(recipe(tmp_path / "data", source))
