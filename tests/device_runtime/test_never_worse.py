"""A head is taken into use only if it is no loss, as far as the pictures at hand can tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fbkit.device_runtime import Bundle, Personalizer, Schedule
from fbkit.device_runtime.fitting import Recipe
from fbkit.device_runtime.head import Head
from tests.conftest import Outcome
from tests.device_runtime.conftest import BUNDLE, CLASSES, PICTURES, opened, snapshot, some

SGD = Recipe("sgd", "keep", 0.0, Schedule())
EVERY = [path for label in CLASSES for part in ("train", "test") for path in some(label, 14, part)]


@pytest.fixture
def personalizer(demo: Bundle, tmp_path: Path) -> Personalizer:
    return Personalizer(demo, tmp_path / "profile")


def label_at_random(folder: Path, seed: int) -> Path:
    """All carried pictures, in folders that say nothing about them."""
    rng = np.random.default_rng(seed)
    for path, label in zip(EVERY, rng.permutation(np.resize(CLASSES, len(EVERY))), strict=True):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / path.name).symlink_to(path)
    return folder


def label_truly(folder: Path, paths: list[Path]) -> Path:
    for path in paths:
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).symlink_to(path)
    return folder


def mean_loss(bundle: Bundle, head: Head, paths: list[Path]) -> float:
    features = bundle.features([bundle.decode(path.read_bytes()) for path in paths])
    return head.loss(features, np.array([bundle.classes.index(path.parent.name) for path in paths]))


def test_random_labels_do_not_replace_the_shipped_head(
    demo: Bundle, tmp_path: Path, full: bool, fbkit: Callable[..., Outcome]
) -> None:
    for seed in range(40 if full else 4):
        for name, recipe in (("exact", None), ("sgd", SGD)):
            folder = label_at_random(tmp_path / f"{seed}", seed) if name == "exact" else tmp_path / f"{seed}"
            profile = tmp_path / f"{name}{seed}"
            result = Personalizer(demo, profile).fit(folder, recipe)
            assert result.verdict.verified
            assert result.verdict.chosen == "shipped", (seed, name, result.verdict)
            assert result.head is None
            assert opened(profile, demo).head() is None
            assert Personalizer(demo, profile).predict(EVERY[:1]) == Personalizer(demo).predict(EVERY[:1])
    outcome = fbkit("personalize", BUNDLE, tmp_path / "0", "--profile", tmp_path / "command")
    assert outcome.code == 0
    assert "\nthe new head does no better on held-out pictures than without looking at them\n" in outcome.out
    assert f"the shipped head is in use in {tmp_path / 'command'}\n" in outcome.out


def test_random_labels_do_not_replace_a_personal_head(personalizer: Personalizer, tmp_path: Path) -> None:
    first = personalizer.fit(PICTURES / "train")
    assert first.verdict.chosen == "candidate"
    folder = tmp_path / "random"
    for path, label in zip(EVERY[10:24] + EVERY[34:], np.resize(CLASSES, 28), strict=True):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / path.name).symlink_to(path)
    again = personalizer.fit(folder)
    assert again.verdict.verified
    assert again.verdict.chosen != "candidate"
    assert again.head in (first.head, None)


def test_a_head_that_there_was_no_time_to_judge_replaces_none_that_was_judged(
    personalizer: Personalizer, tmp_path: Path
) -> None:
    first = personalizer.fit(PICTURES / "train")
    assert first.verdict.verified
    again = personalizer.fit(label_at_random(tmp_path / "random", 0), seconds=0)
    assert not again.verdict.verified
    assert again.head == first.head


def test_a_second_better_batch_replaces_the_first_personal_head(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path
) -> None:
    first_batch = label_truly(tmp_path / "first", some("sneaker", 5) + some("t-shirt", 5))
    first = personalizer.fit(first_batch)
    assert (first.verdict.chosen, first.verdict.verified) == ("candidate", True)
    before = opened(tmp_path / "profile", demo).head()
    second = personalizer.fit(PICTURES / "train")
    assert second.computed == 10
    assert (second.verdict.chosen, second.verdict.verified) == ("candidate", True)
    assert second.head != first.head
    assert second.verdict.losses["candidate"] < second.verdict.losses["present"] < second.verdict.losses["shipped"]
    assert second.verdict.reason == "the new head does best on held-out pictures"
    after = opened(tmp_path / "profile", demo).head()
    assert before
    assert after
    others = [path for path in EVERY if "test" in path.parts]
    assert mean_loss(demo, after, others) < mean_loss(demo, before, others) < mean_loss(demo, demo.head, others)
    assert personalizer.roll_back() == first.head


def test_nothing_new_keeps_the_head_in_use(personalizer: Personalizer, demo: Bundle, tmp_path: Path) -> None:
    first = personalizer.fit(PICTURES / "train")
    again = personalizer.fit()
    assert (again.verdict.chosen, again.head) == ("present", first.head)
    assert again.verdict.losses["present"] == again.verdict.losses["candidate"]
    assert again.verdict.reason == "the new head does no better on held-out pictures than the present head"
    profile = opened(tmp_path / "profile", demo)
    assert [entry.file for entry in profile.state.heads] == [first.head]
    assert [(entry["chosen"], entry["head"]) for entry in profile.journal()[1:]] == [
        ("candidate", first.head),
        ("present", first.head),
    ]


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"sneaker": 4, "t-shirt": 5}, "there are fewer than 10 pictures to judge by"),
        ({"sneaker": 10, "t-shirt": 1}, "a class has only one picture to judge by"),
    ],
)
def test_what_cannot_be_judged_is_taken_marked_and_judged_when_more_comes(
    personalizer: Personalizer,
    demo: Bundle,
    tmp_path: Path,
    counts: dict[str, int],
    reason: str,
    fbkit: Callable[..., Outcome],
) -> None:
    folder, profile = tmp_path / "few", tmp_path / "profile"
    label_truly(folder, [path for label, count in counts.items() for path in some(label, count)])
    command = ("personalize", BUNDLE, folder, "--profile", profile)
    told = json.loads(fbkit(*command, "--json").out)
    expected = {"chosen": "candidate", "verified": False, "reason": reason, "losses": {}, "folds": 0}
    assert told["verdict"] == {**expected, "correct": {}}
    entry = opened(profile, demo).journal()[-1]
    assert {name: entry[name] for name in expected} == expected
    assert entry["head"] == told["head"]
    assert f"\n{reason}\n" in fbkit(*command).out

    more = personalizer.fit(PICTURES / "train")
    assert more.verdict.verified
    assert set(more.verdict.losses) == {"candidate", "shipped", "present", "constant"}
    assert opened(profile, demo).journal()[-1]["verified"]


@pytest.mark.parametrize("labels", ["true", "random"])
@pytest.mark.parametrize("known", ["nothing", "some"])
def test_a_dry_run_tells_the_same_and_changes_no_byte(
    personalizer: Personalizer,
    tmp_path: Path,
    labels: str,
    known: str,
    fbkit: Callable[..., Outcome],
) -> None:
    data = PICTURES / "train" if labels == "true" else label_at_random(tmp_path / "random", 0)
    profile = tmp_path / "profile"
    if known == "some":
        personalizer.fit(label_truly(tmp_path / "first", EVERY[:5] + EVERY[24:29]))
    before = snapshot(tmp_path)
    there = profile.exists()
    command = ("personalize", BUNDLE, data, "--profile", profile)
    dry = fbkit(*command, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert "nothing was changed" in fbkit(*command, "--dry-run").out
    assert snapshot(tmp_path) == before
    assert profile.exists() == there
    wet = json.loads(fbkit(*command, "--json").out)
    told = json.loads(dry.out)
    for name in ("verdict", "pictures", "computed", "loss_before", "loss_after", "gap", "finished"):
        assert told[name] == wet[name], name
    assert told["verdict"]["chosen"] == ("candidate" if labels == "true" else told["verdict"]["chosen"])


def test_a_dry_run_needs_no_profile(personalizer: Personalizer, demo: Bundle) -> None:
    dry = Personalizer(demo).fit(PICTURES / "train", dry_run=True)
    wet = personalizer.fit(PICTURES / "train")
    assert (dry.head, dry.verdict, dry.loss_after) == (None, wet.verdict, wet.loss_after)


@pytest.mark.parametrize("solver", ["exact", "sgd"])
def test_a_budget_of_no_time_still_ends_and_is_marked(
    demo: Bundle, tmp_path: Path, solver: str, fbkit: Callable[..., Outcome]
) -> None:
    command = ("personalize", BUNDLE, PICTURES / "train", "--solver", solver, "--seconds")
    outcome = fbkit(*command, 0, "--profile", tmp_path / "none", "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert not told["finished"]
    assert not told["verdict"]["verified"]
    assert told["verdict"]["reason"] == "the time was up before the head was judged"
    entry = opened(tmp_path / "none", demo).journal()[-1]
    assert (entry["verified"], entry["head"]) == (False, told["head"])

    told = json.loads(fbkit(*command, 3600, "--profile", tmp_path / "enough", "--json").out)
    assert told["finished"]
    assert told["verdict"]["verified"]
