"""The command line as a whole."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from fbkit.cli import app
from tests.conftest import FBKIT, Outcome, run_fbkit


def test_version_and_help(fbkit: Callable[..., Outcome]) -> None:
    assert fbkit("--version").out.startswith("fbkit 0.")
    shown = fbkit("--help").out
    for command in (
        "train",
        "export",
        "inspect",
        "check",
        "personalize",
        "predict",
        "evaluate",
        "studio",
        "watch",
        "demo",
        "bench",
    ):
        assert command in shown


def commands_of(app: typer.Typer, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in app.registered_commands:
        assert command.callback
        yield *words, command.name or command.callback.__name__.replace("_", "-")
    for group in app.registered_groups:
        assert group.typer_instance
        assert group.name
        yield from commands_of(group.typer_instance, (*words, group.name))


@pytest.mark.parametrize("command", list(commands_of(app)), ids=" ".join)
def test_every_command_says_what_it_takes(command: tuple[str, ...], fbkit: Callable[..., Outcome]) -> None:
    shown = fbkit(*command, "--help")
    assert shown.code == 0
    assert f"fbkit {' '.join(command)} " in shown.out


def test_a_folder_that_cannot_be_written_ends_in_one_line(onnx_bundle: Path, client: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (
        ("train", "--out", tmp_path / "file" / "run", "--workers", 1),
        ("personalize", onnx_bundle, client / "train", "--profile", tmp_path / "file" / "profile"),
        ("bench", "convergence", onnx_bundle, "--clients", client.parent, "--out", tmp_path / "file" / "out"),
    ):
        result = run_fbkit(*arguments)
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1, result.stderr
        assert str(tmp_path / "file") in result.stderr


def test_a_reader_that_goes_away_is_no_error(onnx_bundle: Path) -> None:
    command = f"{FBKIT} inspect {onnx_bundle} | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout
    assert "Traceback" not in result.stderr
