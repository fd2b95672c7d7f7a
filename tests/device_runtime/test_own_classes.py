"""Classes as people have them: few of the bundle's, one picture of some, and some that the model never saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from fbkit.device_runtime import Bundle, Head, Personalizer
from fbkit.device_runtime.fitting import Recipe, default_recipe, fit
from fbkit.device_runtime.profile import Limits
from fbkit.errors import UserError
from tests.conftest import Outcome
from tests.device_runtime.conftest import BUNDLE, PICTURES, opened, snapshot, some

EXACT, MASKING = Recipe("exact", "keep", 1.0), Recipe("exact", "mask", 1.0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with the carried pictures, sneakers under a name that the bundle does not know."""
    folder = tmp_path / "pictures"
    shutil.copytree(PICTURES / "train" / "t-shirt", folder / "t-shirt")
    shutil.copytree(PICTURES / "train" / "sneaker", folder / "clog")
    return folder


@pytest.fixture
def personalizer(demo: Bundle, tmp_path: Path) -> Personalizer:
    return Personalizer(demo, tmp_path / "profile")


@pytest.mark.parametrize("solver", ["exact", "sgd"])
@pytest.mark.parametrize("counts", [{"sneaker": 1}, {"sneaker": 1, "t-shirt": 1}, {"sneaker": 10, "t-shirt": 1}])
def test_one_picture_of_a_class_is_enough(
    personalizer: Personalizer, demo: Bundle, solver: str, counts: dict[str, int]
) -> None:
    for label, count in counts.items():
        personalizer.add(some(label, count), label)
    result = personalizer.fit(recipe=default_recipe(demo.manifest.personalization, solver))  # type: ignore[arg-type]
    assert result.head
    assert result.pictures == counts
    assert not result.verdict.verified
    assert result.loss_after < result.loss_before
    for label in counts:
        assert personalizer.predict(some(label, 1))[0].label == label


def test_absent_classes_keep_their_logits_or_are_left_out(
    demo: Bundle, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    image = some("sneaker", 1, "test")[0]
    features = demo.features([demo.decode(image.read_bytes())])
    for absent in ("keep", "mask"):
        profile = tmp_path / absent
        command = ("personalize", BUNDLE, PICTURES / "train", "--profile", profile, "--absent", absent)
        assert fbkit(*command).code == 0
        (entry,) = json.loads(fbkit("predict", BUNDLE, image, "--profile", profile, "--json").out)["predictions"]
        zero = {name for name, value in entry["probabilities"].items() if value == 0}
        assert zero == (set() if absent == "keep" else set(demo.classes) - {"sneaker", "t-shirt"})
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        head = opened(profile, demo).head()
        assert head
        others = [place for place, name in enumerate(demo.classes) if name not in ("sneaker", "t-shirt")]
        if absent == "mask":
            assert np.array_equal(head.weight[others], demo.head.weight[others]), "their rows do not move"
        else:
            alike = head.logits(features)[0, others] - demo.head.logits(features)[0, others]
            assert np.abs(alike).max() < 5


def test_an_unknown_folder_is_refused_and_nothing_changes_unless_it_may_add_a_class(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, pictures: Path, fbkit: Callable[..., Outcome]
) -> None:
    fresh, used = tmp_path / "fresh", tmp_path / "profile"
    personalizer.fit(PICTURES / "train")
    before = snapshot(used)
    for profile in (fresh, used):
        outcome = fbkit("personalize", BUNDLE, pictures, "--profile", profile)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
        assert "'clog' is not a class of this bundle; its classes: t-shirt" in outcome.err
    assert not fresh.exists()
    assert snapshot(used) == before

    outcome = fbkit("personalize", BUNDLE, pictures, "--profile", fresh, "--add-classes", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["pictures"] == {"t-shirt": 10, "clog": 10}
    assert opened(fresh, demo).classes == (*demo.classes, "clog")
    again = fbkit("personalize", BUNDLE, pictures, "--profile", fresh, "--json")
    assert again.code == 0, "now the profile knows it"


def test_a_new_class_is_learned_beside_the_others(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, pictures: Path, fbkit: Callable[..., Outcome]
) -> None:
    """As well as one that the bundle knows: both start from a head that was never trained."""
    result = personalizer.fit(pictures, new_classes=True)
    assert result.verdict.chosen == "candidate"
    test = tmp_path / "test"
    shutil.copytree(PICTURES / "test" / "t-shirt", test / "t-shirt")
    shutil.copytree(PICTURES / "test" / "sneaker", test / "clog")
    profile = tmp_path / "profile"
    found = json.loads(fbkit("evaluate", BUNDLE, test, "--profile", profile, "--json").out)
    assert found["personal_accuracy"] > 90
    assert found["shipped_accuracy"] <= 50, "the shipped head does not know the half of them"
    assert found["shipped_loss"] < 20.0
    assert "not a class" in fbkit("evaluate", BUNDLE, test).err
    clog = personalizer.predict(some("sneaker", 14, "test"))
    assert sum(entry.label == "clog" for entry in clog) >= 12
    assert set(clog[0].probabilities) == {*demo.classes, "clog"}


def test_a_grown_head_is_the_minimum_over_all_its_rows(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, pictures: Path
) -> None:
    """The new row starts as the mean of the others, which changes no odds between them."""
    personalizer.fit(pictures, EXACT, new_classes=True)
    memory = opened(tmp_path / "profile", demo).memory()
    shipped = demo.head
    start = Head(
        np.vstack([shipped.weight, shipped.weight.mean(0, keepdims=True)]),
        np.append(shipped.bias, shipped.bias.mean()).astype(np.float32),
    )
    expected = fit(start, memory.features, memory.labels, EXACT).head
    found = opened(tmp_path / "profile", demo).head()
    assert found
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.bias, expected.bias)
    before, after = (head.probabilities(memory.features) for head in (shipped, start))
    np.testing.assert_allclose(after[:, :10] / after[:, :10].sum(1, keepdims=True), before, rtol=1e-4)


@pytest.mark.parametrize("solver", ["exact", "sgd"])
def test_a_class_without_pictures_changes_nothing_and_has_no_chance(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, solver: str
) -> None:
    recipe = default_recipe(demo.manifest.personalization, solver)  # type: ignore[arg-type]
    images = some("sneaker", 5, "test")
    personalizer.add_class("hat")
    for entry in personalizer.predict(images):
        assert entry.probabilities["hat"] == 0, "the shipped head knows no hat"
    personalizer.fit(PICTURES / "train", recipe)
    other = Personalizer(demo, tmp_path / "other")
    other.fit(PICTURES / "train", recipe)
    for with_hat, without in zip(personalizer.predict(images), other.predict(images), strict=True):
        assert with_hat.probabilities.pop("hat") == 0
        assert with_hat.probabilities == pytest.approx(without.probabilities, abs=1e-5)
    before = personalizer.predict(images)
    personalizer.add_class("scarf")
    for now, then in zip(personalizer.predict(images), before, strict=True):
        assert now.probabilities.pop("scarf") == 0, "a head from before the class was there"
        assert now.probabilities == pytest.approx(then.probabilities, rel=1e-5)  # a larger product may round otherwise


@pytest.mark.parametrize("name", ["sneaker", "hat", "../hat", "", ".hat", "h\nat", "x" * 300])
def test_a_class_must_be_new_and_able_to_name_a_folder(
    personalizer: Personalizer, tmp_path: Path, name: str, fbkit: Callable[..., Outcome]
) -> None:
    assert fbkit("profile", "add-class", BUNDLE, tmp_path / "profile", "hat").code == 0
    before = snapshot(tmp_path / "profile")
    outcome = fbkit("profile", "add-class", BUNDLE, tmp_path / "profile", name)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("fbkit: class ")
    with pytest.raises(UserError, match=r"^class "):
        personalizer.add_class(name)
    if name != "sneaker" and name != "hat":
        with pytest.raises(UserError, match=r"^class "):
            personalizer.add(some("sneaker"), name, new_classes=True)
    assert snapshot(tmp_path / "profile") == before


def test_the_last_picture_of_an_added_class_takes_it_and_its_heads_along(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    personalizer.fit(PICTURES / "train")
    personalizer.add(some("t-shirt", 2, "test"), "hat", new_classes=True)
    personalizer.add(some("sneaker", 1, "test"), "scarf", new_classes=True)
    personalizer.add_class("glove")
    personalizer.fit()
    files = [entry.file for entry in opened(profile, demo).state.heads]
    assert len(files) == 2

    personalizer.remove(pictures=some("t-shirt", 1, "test"))
    assert opened(profile, demo).classes == (*demo.classes, "hat", "scarf", "glove"), "one hat is left"
    personalizer.remove("hat")
    found = opened(profile, demo)
    assert found.classes == (*demo.classes, "scarf", "glove"), "one that never had a picture may still get one"
    assert [found.classes[label] for label in found.memory().labels[-1:]] == ["scarf"]
    assert [entry.classes for entry in found.state.heads] == [10, 12]
    assert found.state.heads[0].file == files[0], "it has no row for a hat"
    assert "hat" not in personalizer.predict(some("sneaker", 1))[0].probabilities
    assert personalizer.predict(some("sneaker", 1, "test"))[0].probabilities["scarf"] > 0
    assert b"hat" not in b"".join(path.read_bytes() for path in profile.glob("*.js*"))


def test_a_class_that_was_added_by_mistake_can_be_removed(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path
) -> None:
    first = personalizer.fit(PICTURES / "train").head
    personalizer.add_class("hat")
    personalizer.add_class("scraf")
    removal = personalizer.remove("scraf")
    assert (removal.forgotten, removal.head) == (0, first)
    assert opened(tmp_path / "profile", demo).classes == (*demo.classes, "hat"), "only what was named goes"
    personalizer.add_class("scraf")
    with pytest.raises(UserError, match="'scarf': is no class of this bundle or profile"):
        personalizer.remove("scarf")


def test_a_head_with_a_row_for_a_class_goes_with_it_even_if_it_saw_no_picture_of_it(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path
) -> None:
    personalizer.fit(PICTURES / "train")
    personalizer.add_class("hat")
    personalizer.fit(recipe=Recipe("exact", "keep", 0.5))
    personalizer.add(some("t-shirt", 1, "test"), "hat")
    before = opened(tmp_path / "profile", demo)
    assert [entry.classes for entry in before.state.heads] == [10, 11]
    personalizer.roll_back()
    personalizer.remove("hat")
    after = opened(tmp_path / "profile", demo)
    assert after.classes == demo.classes
    assert after.state.heads == before.state.heads[:1]
    assert after.state.in_use == before.state.heads[0].file


def test_limits_do_not_take_a_class_away(personalizer: Personalizer, demo: Bundle, tmp_path: Path) -> None:
    personalizer.add(some("t-shirt"), "t-shirt")
    personalizer.add(some("sneaker", 1), "clog", new_classes=True)
    personalizer.set_limits(Limits(pictures=1))
    assert opened(tmp_path / "profile", demo).classes[-1] == "clog"


VERSION_1 = Path(__file__).parent / "fixtures" / "bundle-v1"


def test_a_step_graph_without_spare_rows_says_what_to_do(
    tmp_path: Path, pictures: Path, fbkit: Callable[..., Outcome]
) -> None:
    command = (
        "personalize",
        VERSION_1,
        pictures,
        "--profile",
        tmp_path / "profile",
        "--add-classes",
        "--solver",
        "sgd",
    )
    outcome = fbkit(*command, "--step", "graph")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "10 classes, the head has 11; compute the step with --step numpy" in outcome.err
    assert fbkit(*command, "--step", "numpy").code == 0


def test_the_personal_head_is_exported_with_its_classes(
    personalizer: Personalizer, demo: Bundle, tmp_path: Path, pictures: Path, fbkit: Callable[..., Outcome]
) -> None:
    out, profile = tmp_path / "head.safetensors", tmp_path / "profile"
    command = ("profile", "export-head", BUNDLE, profile, "--out", out)
    assert "no profile there" in fbkit(*command).err
    personalizer.add_class("hat")
    outcome = fbkit(*command)
    assert (outcome.code, outcome.err) == (2, "fbkit: the shipped head is in use; personalize first\n")
    personalizer.fit(pictures, new_classes=True)
    personalizer.add_class("scarf")
    assert fbkit(*command).code == 0
    tensors = load_file(out)
    with safe_open(out, "numpy") as file:
        classes = json.loads(file.metadata()["classes"])
    assert classes == [*demo.classes, "hat", "clog"], "those that it has a row for"
    assert out.stat().st_mode & 0o777 == 0o600
    image = some("sneaker", 1, "test")[0]
    features = demo.features([demo.decode(image.read_bytes())])
    logits = (features @ tensors["weight"].T + tensors["bias"])[0].astype(np.float64)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found = personalizer.predict(image)[0].probabilities
    assert [found[name] for name in classes] == pytest.approx(expected.tolist(), abs=1e-6)
    outcome = fbkit(*command)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"{out}: exists already" in outcome.err
    assert load_file(out).keys() == tensors.keys()
