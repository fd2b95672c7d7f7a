"""Documents say what the program does: every command in them is one it takes, and its reference is its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fbkit.train import algorithms, load_recipe, train
from fbkit.train.recipe import Recipe
from tests.conftest import SMALL
from tests.docs.commands import PAGES, ROOT, Shown, commands_in, parse, synopses_in, unknown_in


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_that_the_command_line_takes(page: Path) -> None:
    wrong = []
    for shown in commands_in(page):
        try:
            parse(shown.words)
        except Exception as error:  # noqa: BLE001  whatever it is, it is told with its line
            wrong.append(f"{shown}: {getattr(error, 'message', '') or error}")
    for shown in synopses_in(page):
        wrong += [f"{shown}: {word}" for word in unknown_in(shown.words)]
    assert not wrong, "\n".join(wrong)


def test_commands_are_found() -> None:
    found = {page.name: len(list(commands_in(page))) for page in PAGES}
    assert found["getting-started.md"] >= 10
    assert found["device.md"] >= 15
    assert found["cluster.md"] >= 1
    assert sum(found.values()) >= 80
    assert len(list(synopses_in(ROOT / "README.md"))) >= 25


@pytest.mark.parametrize(
    "line",
    [
        "fbkit trian --out run",
        "fbkit train --outt run",
        "fbkit bench convergence --out a --solvers exact",
        "fbkit predict",
        "fbkit train --workers many --out run",
        "torchrun --nproc-per-node 8 -m fbkit train recipe.toml --outt run",
        "~/fbkit/bin/fbkit personalise bundle pictures",
        "fbkit check bundle && fbkit chek bundle",
        "fbkit train \\\n        --outt run",
    ],
)
def test_a_wrong_command_is_noticed(line: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(f"Text\n\n    {line}\n")
    with pytest.raises(Exception, match=r"(?i)no such|missing|valid|is not"):
        for shown in commands_in(tmp_path / "page.md"):
            parse(shown.words)


def test_a_wrong_synopsis_is_noticed() -> None:
    for words in ("train --outt RUN", "profile show|forget BUNDLE", "bench convergances"):
        assert unknown_in(tuple(words.split()))
    assert not unknown_in(("profile", "show|remove", "BUNDLE", "[--class", "NAME]"))


def test_the_reference_is_the_command_lines_own(tmp_path: Path) -> None:
    made = tmp_path / "commands.md"
    command = [sys.executable, "-m", "typer", "fbkit.cli", "utils", "docs", "--name", "fbkit", "--output", str(made)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    assert made.read_text() == (ROOT / "docs" / "commands.md").read_text(), "old; CONTRIBUTING.md says what makes it"


def code_in(heading: str) -> str:
    """The first Python block below a heading of docs/extending.md."""
    text = (ROOT / "docs" / "extending.md").read_text().split(f"## {heading}\n")[1]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


def test_the_algorithm_that_is_shown_trains_the_head_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = ModuleType("fedhead")
    exec(code_in("An algorithm"), shown.__dict__)  # noqa: S102  our own page
    monkeypatch.setitem(algorithms.ALGORITHMS, "fedavg", shown)  # under a name that recipes know
    recipe: Recipe = load_recipe(None, [*SMALL, "training.algorithm=fedavg"])
    run = train(recipe, tmp_path / "run", workers=1)
    start, trained = run.build_model(), run.load_model()
    assert torch.equal(start.body[0].weight, trained.body[0].weight)  # type: ignore[index]
    assert not torch.equal(start.head.weight, trained.head.weight)


def test_the_body_that_is_shown_has_what_a_body_needs() -> None:
    shown = ModuleType("means")
    exec(code_in("A device runtime"), shown.__dict__)  # noqa: S102  our own page
    images = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    features = shown.MeanBody().features(images)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, images.reshape(2, 3, 16).mean(2))
    assert isinstance(shown.MeanBody.runtime, str)


def test_shown_commands_name_their_place() -> None:
    assert str(Shown(ROOT / "README.md", 3, ("train", "--out", "a b"))) == "README.md:3: fbkit train --out 'a b'"


def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").glob("*.html")}
    assert {page.stem for page in PAGES if page.parent.name == "docs"} <= {Path(page).stem for page in pages}
    assert "twelve" in (tmp_path / "site" / "changelog.html").read_text(), "the changelog stands in its page"
    for page in pages:
        text = (tmp_path / "site" / page).read_text()
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]+)"', text)
        assert not loaded, f"{page} loads {loaded}"
