"""Shared parts of the tests: one small run, its bundles, a client's pictures, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from fbkit.benchmarks.clients import write_clients
from fbkit.cli import main
from fbkit.export import Options, export_model
from fbkit.export.exporting import export_run
from fbkit.train.partition import partition
from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run
from fbkit.train.sources import load_dataset
from fbkit.train.training import train
from tests.export.own_nets import CLASSES, make_own
from tests.native.pictures import draw_pictures

# A narrow net, few rounds: the smallest run in which every stage does real work.
SMALL = (
    "model.width=12",
    "training.rounds=3",
    "training.cohort=4",
    "evaluation.every=2",
    'personalization=[{part="head", epochs=2, lr=0.01, statistics="static"}]',
)
FBKIT = Path(sys.executable).with_name("fbkit")

# A sample that fails once fails always; a session that runs everything looks in new places each time.
settings.register_profile("sample", derandomize=True)
settings.register_profile("full", print_blob=True)

# As in a worker: the same kernels in every test, whatever ran before.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the long tests in full instead of a sample of them")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--all") else "sample")


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether long tests run in full."""
    return bool(pytestconfig.getoption("--all"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of the tests' own, in which verdicts on bundles are remembered for the session."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(load_recipe(None, SMALL), tmp_path_factory.mktemp("run") / "small", workers=1)


@pytest.fixture(scope="session")
def onnx_bundle(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "small-onnx"
    export_run(small_run.folder, "onnx", folder)
    return folder


@pytest.fixture(scope="session")
def pte_bundle(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "small-executorch"
    export_run(small_run.folder, "executorch", folder)
    return folder


@pytest.fixture(scope="session")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pte bundle in int8 for small RGB pictures, with body and head in one beside them."""
    folder = tmp_path_factory.mktemp("colour")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "0")
        return export_model(
            make_own(folder).model, "executorch", folder / "bundle", Options("int8", with_model=True)
        ).folder


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures of every kind in folders named as the classes of the colour bundle."""
    folder = tmp_path_factory.mktemp("mixed")
    for number, (kind, content) in enumerate(draw_pictures(200)):
        target = folder / CLASSES[number % len(CLASSES)] / f"{number:03d}-{kind}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    return folder


@pytest.fixture(scope="session", params=["onnx", "executorch"])
def bundle_folder(request: pytest.FixtureRequest) -> Path:
    """A bundle of each target in turn."""
    folder: Path = request.getfixturevalue({"onnx": "onnx_bundle", "executorch": "pte_bundle"}[request.param])
    return folder


@pytest.fixture(scope="session")
def clients(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two held-out clients as folders client/{train,test}/class/picture."""
    folder = tmp_path_factory.mktemp("clients") / "clients"
    dataset = load_dataset(small_run.recipe.data)
    dealt = partition(dataset, small_run.recipe.clients, small_run.recipe.seed)
    write_clients(dataset, dealt, dealt.held_out[:2], folder)
    return folder


@pytest.fixture(scope="session")
def client(clients: Path) -> Path:
    return sorted(clients.iterdir())[0]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def fbkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process, through the same door as the installed program."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fbkit", *map(str, arguments)])
        monkeypatch.delenv("FBKIT_DEBUG", raising=False)
        capsys.readouterr()
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def run_fbkit(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the installed program in a process of its own."""
    command = [str(FBKIT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]
