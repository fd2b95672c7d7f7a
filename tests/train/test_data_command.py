from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from fbkit.train.client_plot import save_clients
from fbkit.train.client_table import clients_for_people, describe_clients, tabulate, write_table
from fbkit.train.data import Dataset, Owners, Pictures
from fbkit.train.evaluation_report import to_csv
from fbkit.train.partition import Clients, partition
from fbkit.train.recipe import load_recipe
from fbkit.train.records import Accuracies, ByStatistics, CalibrationRecord, Evaluation
from fbkit.train.sources import load_dataset
from tests.conftest import Outcome

Run = Callable[..., Outcome]


def two_clients(
    names: tuple[str, str] = ("ann", "bob"), classes: tuple[str, str] = ("cat", "dog")
) -> tuple[Dataset, Clients]:
    """Ann has 3 cats and 1 dog, Bob, who is held out, has 4 dogs; each has one test picture, a dog."""
    train = Pictures(torch.zeros(8, 3, 4, 5, dtype=torch.uint8), torch.tensor([0, 1, 0, 1, 0, 1, 1, 1]))
    test = Pictures(torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.tensor([1, 1]))
    owners = Owners(
        names, (torch.tensor([0, 1, 2, 4]), torch.tensor([3, 5, 6, 7])), (torch.tensor([1]), torch.tensor([0]))
    )
    data = Dataset(train, test, classes, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "none", owners)
    return data, Clients(owners.train, owners.test, (0,), (1,), names)


def test_counts_and_unevenness_by_hand() -> None:
    table = tabulate(*two_clients())
    assert table.train.tolist() == [[3, 1], [0, 4]]
    assert table.test.tolist() == [[0, 1], [0, 1]]
    assert [table.role(0), table.role(1)] == ["training", "held out"]
    # Everybody: 3/8 cats. Ann is off by 3/4 - 3/8, Bob by 3/8.
    assert table.unevenness() == pytest.approx(3 / 8)
    assert describe_clients(table)[:4] == [
        "clients: 2, of which 1 train and 1 are held out",
        "training pictures a client: 4 to 4, median 4",
        "test pictures a client: 1 to 1, median 1",
        "classes a client: 1 to 2, median 1.5",
    ]


def test_the_command_shows_the_partition_that_the_recipe_trains_with(fbkit: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    settings = ("--set", "clients.held_out=10", "--set", "seed=5")
    shown = fbkit("data", *settings, "--out", out)
    assert shown.code == 0, shown.err
    assert "data: fashion-mnist-10k, 10000 training and 10000 test pictures, 10 classes" in shown.out
    assert "clients: 100, of which 90 train and 10 are held out" in shown.out
    assert "the first 20 of 100 clients; --all lists all" in shown.out
    assert "next: fbkit train --set clients.held_out=10 --set seed=5 --out RUN" in shown.out
    assert sorted(path.name for path in out.iterdir()) == ["clients.csv", "clients.png", "clients.svg"]

    recipe = load_recipe(None, settings[1::2])
    data = load_dataset(recipe.data, recipe.seed)
    dealt = partition(data, recipe.clients, recipe.seed)
    rows = list(csv.DictReader((out / "clients.csv").open()))
    expected = []
    for number in range(100):
        role = "held out" if number in dealt.held_out else "training"
        for split, pictures, owned in (("train", data.train, dealt.train), ("test", data.test, dealt.test)):
            for label, count in enumerate(torch.bincount(pictures.labels[owned[number]], minlength=10).tolist()):
                if count:
                    cell = (str(number), f"client-{number:03d}", role, split, data.classes[label], str(count))
                    expected.append(
                        dict(zip(("client", "name", "role", "split", "class", "pictures"), cell, strict=True))
                    )
    assert rows == expected
    assert Image.open(out / "clients.png").size[0] > 1000
    ElementTree.parse(out / "clients.svg")  # noqa: S314 (our own file)


def test_all_lists_every_client(fbkit: Run) -> None:
    few, everyone = (fbkit("data", *arguments).out for arguments in ((), ("--all",)))
    assert len(everyone.splitlines()) - len(few.splitlines()) == 80 - 1  # no line that says there are more
    assert "│     99 │" in everyone
    assert "│     20 │" not in few


def test_folders_of_clients_are_shown_by_their_names(
    fbkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for client in ("ann", "[bob]", "cem"):
        for label in ("cat", "dog"):
            folder = tmp_path / "clients" / client / label
            folder.mkdir(parents=True)
            for number in range(5):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    settings = (
        "data.source=client-folders", f"data.root={tmp_path / 'clients'}", "data.size=8", "clients.held_out=1",
        "evaluation.clients=all",
    )  # fmt: skip
    arguments = [word for setting in settings for word in ("--set", setting)]
    shown = fbkit("data", *arguments)
    assert shown.code == 0, shown.err
    for words in ("│ ann ", "│ [bob] ", "cat 4, dog 4", "clients: 3, of which 2 train and 1 are held out"):
        assert words in shown.out
    # It is shown, but could not be trained as it stands.
    assert "training.cohort = 10 is more than the 2 clients that train" in shown.err
    assert "next:" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "clients.count=11", "--set", "training.cohort=1"), "cannot be dealt evenly over 10 classes"),
        (("--set", "clients.alfa=1"), "did you mean alpha?"),
        (("missing.toml",), "no recipe can be read there"),
        (("--out", "."), "exists already"),
    ],
)
def test_what_cannot_be_shown_ends_in_one_line_and_leaves_nothing(
    fbkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = fbkit("data", *(arguments if "--out" in arguments else (*arguments, "--out", "out")))
    assert (shown.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert said in shown.err
    assert not list(tmp_path.iterdir())


def test_names_that_no_screen_no_formula_and_no_xml_can_hold(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    names, classes = ("a\x1b[31m\x01", "\udcff" + "b" * 50), ("$x^$ &<", '猫, "日本"\n')
    table = tabulate(*two_clients(names, classes))
    save_clients(table, tmp_path)
    ElementTree.parse(tmp_path / "clients.svg")  # noqa: S314 (our own file)
    assert not list(recwarn)
    write_table(table, tmp_path / "clients.csv")
    with (tmp_path / "clients.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["class"], row["pictures"]) for row in rows if row["split"] == "train"] == [
        (names[0], classes[0], "3"),
        (names[0], classes[1], "1"),
        (names[1], classes[1], "4"),
    ]
    cells = [cell for column in clients_for_people(table, 20, 80).columns for cell in column.cells]
    assert all(str(cell).isprintable() for cell in cells)


def test_no_name_is_a_formula_to_a_spreadsheet(tmp_path: Path) -> None:
    names = ("=1+1", "@x")
    write_table(tabulate(*two_clients(names, ("+cat", "-dog"))), tmp_path / "clients.csv")
    rows = list(csv.DictReader((tmp_path / "clients.csv").open(newline="")))
    assert {(row["name"], row["class"]) for row in rows} == {("'=1+1", "'+cat"), ("'=1+1", "'-dog"), ("'@x", "'-dog")}
    found = Accuracies(mean=50, std=0, worst_decile=50, per_client=[50, 50])
    evaluation = Evaluation(
        clients=[0, 1],
        own_part="none",
        without_own=[],
        calibration=CalibrationRecord(kept="none", losses={}),
        initial=ByStatistics(batch=found, static=None),
        templates=None,
        pooled=None,
        personalized=[],
    )
    for given in (names, ("\tx", "\ry")):
        assert [f",'{name},none,initial," in to_csv(evaluation, given) for name in given] == [True, True]


def test_long_names_leave_a_table_of_80_columns_whole() -> None:
    names, classes = ("a-client-of-length", "name-of-18-letters"), ("a-class-of-some-length", "another-class")
    text = io.StringIO()
    Console(width=80, file=text).print(clients_for_people(tabulate(*two_clients(names, classes)), 20, 80))
    lines = text.getvalue().splitlines()
    assert len(lines) == 6
    assert {len(line) for line in lines} == {80}
    assert [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[3:5]] == [
        ["0", names[0], "training", "4", "1", "a-class-o… 3, 1 more"],
        ["1", names[1], "held out", "4", "1", "another-class 4"],
    ]


@pytest.mark.parametrize(("clients", "classes"), [(1, 1), (250, 3), (30, 300)])
def test_any_number_of_clients_and_classes_can_be_drawn(clients: int, classes: int, tmp_path: Path) -> None:
    labels = torch.arange(classes).repeat(clients)
    pictures = Pictures(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)
    data = Dataset(pictures, pictures, tuple(f"number {k}" for k in range(classes)), (0.0,), (1.0,), "none")
    owned = tuple(torch.arange(len(labels)).split(classes))
    table = tabulate(data, Clients(owned, owned, tuple(range(clients)), ()))
    save_clients(table, tmp_path)
    text = (tmp_path / "clients.svg").read_text()
    assert ("first 200 of 250 clients" in text) == (clients == 250)
