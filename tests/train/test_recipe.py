from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fbkit.errors import UserError
from fbkit.train.recipe import OWN_PART, load_recipe, recipe_to_toml


def test_the_shipped_recipe_is_the_papers_setting_on_the_embedded_pictures() -> None:
    recipe = load_recipe()
    assert recipe.training.algorithm == "fedbabu"
    assert (recipe.clients.count, recipe.clients.held_out, recipe.clients.shards_per_client) == (100, 10, 2)
    assert recipe.training.rounds >= 40


def test_a_recipe_survives_being_written(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["training.rounds=7", "clients.shards_per_client=5"])
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_to_toml(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.round=3", "unknown key training.round; did you mean rounds?"),
        ("trainin.rounds=3", "unknown key trainin; did you mean training?"),
        ("training.rounds=0", "training.rounds: "),
        ("training.rounds=many", "training.rounds: "),
        ('training.rounds="7"', "training.rounds: "),
        ("training.rounds=true", "training.rounds: "),
        ("training.rounds=2020-01-01", "training.rounds: "),
        ("training.lr=nan", "training.lr: "),
        ("training.lr=-1", "training.lr: "),
        ("training.algorithm=fedsgd", "training.algorithm: "),
        ("training.lr_milestones=[0.5, 2]", "training.lr_milestones.1: "),
        ("training.cohort=91", "training.cohort = 91 is more than the 90 clients that train"),
        ("clients.held_out=100", "clients.held_out = 100 leaves none"),
        ('personalization=[{part="tail", epochs=1, lr=0.1}]', "personalization.0.part: "),
        ("data.source=cifar", "data.source: "),
        ("seed", "--set seed: expected section.key=value"),
        ("seed.a=1", "seed is not a section"),
        ("data.root=2024", "needs quotes of its own"),
        ("data.root=~nobody-of-this-name/x", "Could not determine home directory"),
        ("data.source=mnist", "data.root is missing"),
        ("data.source=class-folders", "data.root is missing"),
        ("data.mean=[0.5]", "data.mean and data.std need one number for each channel"),
        ("evaluation.statistics=[]", "evaluation.statistics: "),
        ("model.name=conv5", "did you mean conv4?"),
        ("model.init=pretrained", "is for torchvision's models"),
        ("training.calibrate=false", "static statistics need training.calibrate = true"),
    ],
)
def test_what_cannot_be_is_refused_by_name(setting: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(None, [setting])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_held_out_evaluation_needs_held_out_clients() -> None:
    with pytest.raises(UserError, match=r"needs clients\.held_out of at least 1"):
        load_recipe(None, ["clients.held_out=0"])


@pytest.mark.parametrize("algorithm", OWN_PART)
def test_methods_with_parts_of_their_own_are_not_judged_as_one_model(algorithm: str) -> None:
    with pytest.raises(UserError, match=f"training.algorithm = '{algorithm}' every client has its own"):
        load_recipe(None, [f"training.algorithm={algorithm}", "evaluation.pooled=true"])


def test_numbers_may_stand_for_lists_of_one() -> None:
    (how,) = load_recipe(None, ["personalization=[{part='head', epochs=3, lr=[0.1, 0.2]}]"]).personalization
    assert (how.epochs, how.lr) == ((3,), (0.1, 0.2))


def test_files_are_found_again_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(None, ["data.source=mnist", "data.root=here", "model.init=w.pt"])
    assert recipe.data.root == str(tmp_path / "here")
    assert recipe.model.init == str(tmp_path / "w.pt")
    assert load_recipe(None, ["model.name=resnet18", "model.init=pretrained"]).model.init == "pretrained"


def test_a_recipe_may_come_from_windows(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbfseed = 7\r\n")
    assert load_recipe(tmp_path / "r.toml").seed == 7


def test_a_broken_recipe_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    with pytest.raises(UserError, match=r"r\.toml: no recipe can be read"):
        load_recipe(path)
    path.write_text("seed = ")
    with pytest.raises(UserError, match=r"r\.toml: not TOML"):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"r\.toml: not TOML"):
        load_recipe(path)


def test_the_learning_rate_falls_as_torchs_schedule_does() -> None:
    recipe = load_recipe(None, ["training.rounds=37"])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.training.lr)
    milestones = [-(-37 * 1 // 2), -(-37 * 3 // 4)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, recipe.training.lr_gamma)
    for number in range(1, 38):
        assert recipe.learning_rate(number) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
