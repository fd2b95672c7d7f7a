"""The run folder, the contract between training and export. docs/run-format.md describes it.

recipe.toml            the recipe as used
run.json               format version, classes, input, seed, data fingerprint, environment
metrics.jsonl          one object a round
tensorboard/           the same for TensorBoard
checkpoints/           round-NNNNN.safetensors, the newest ones
clients/               what stays with clients, where the algorithm leaves something there
body.safetensors       the trained body with its static statistics    } when training is complete
head.safetensors       the head: at its random start for FedBABU      }
evaluation.json        accuracies per client; written last            }
"""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

import fbkit
from fbkit.errors import UserError
from fbkit.files import read_json, sha256_bytes, whole_folder, write_atomic, write_json
from fbkit.train.federation import Federation
from fbkit.train.models import SplitModel, build_model, model_size, norm_layers, set_static_statistics
from fbkit.train.recipe import OWN_PART, Recipe, parse_recipe, recipe_to_toml
from fbkit.train.records import Description, Evaluation, InputRecord, ModelRecord, check_record, read_record
from fbkit.train.weights import load_into, read_weights, save_weights
from fbkit.train.workers import Workers

SCHEMA: Final = "fbkit.run"
VERSION: Final = 2


@dataclass(frozen=True)
class Run:
    """A run folder that was opened: its recipe and its description (run.json, checked)."""

    folder: Path
    recipe: Recipe
    description: Description

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.description.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        size = self.description.input
        return size.channels, size.height, size.width

    @property
    def is_complete(self) -> bool:
        return (self.folder / "evaluation.json").exists()

    @property
    def evaluation(self) -> Evaluation:
        """What training measured.

        Raises:
            UserError: the run is not complete, or the file is damaged.
        """
        return read_record(Evaluation, self.folder / "evaluation.json")

    def build_model(self) -> SplitModel:
        """The recipe's model at a random start, for weights to be loaded into."""
        return build_model(self.recipe.without_init().model, self.shape, len(self.classes), self.recipe.seed)

    def load_model(self) -> SplitModel:
        """The trained model, in eval mode, normalising by its static statistics where it has any.

        Raises:
            UserError: training is not complete, or the weights do not fit the recipe.
        """
        self.refuse_incomplete()
        model = self.build_model()
        self.load_weights(model)
        return model.eval()

    def refuse_incomplete(self) -> None:
        """Raise UserError where training has not ended."""
        if not self.is_complete:
            raise UserError(f"{self.folder}: this run is not complete; finish it with: {resume_command(self.folder)}")

    def refuse_another(self, recipe: Recipe) -> None:
        """Raise UserError where the run was not begun by this recipe."""
        asked, used = (_values(each.model_dump(mode="json")) for each in (recipe, self.recipe))
        for key in used | asked:
            if asked.get(key) != used.get(key):
                raise UserError(
                    f"{self.folder}: was begun with {key} = {used.get(key)}, not {asked.get(key)}; to go on with it "
                    "leave RECIPE and --set away, or give the same"
                )

    def load_weights(self, model: SplitModel) -> None:
        """Load the trained weights, and the static statistics where the run has any.

        Raises:
            UserError: the weights do not fit the recipe.
        """
        body_path, head_path = self.folder / "body.safetensors", self.folder / "head.safetensors"
        body, head = read_weights(body_path)[0], read_weights(head_path)[0]
        blank = {
            f"body.{name}": (torch.zeros(layer.num_features), torch.ones(layer.num_features))
            for name, layer in norm_layers(model.body).items()
            if f"{name}.running_mean" in body
        }
        set_static_statistics(model, blank)
        load_into(model.body, body, body_path)
        load_into(model.head, head, head_path)

    @property
    def has_statistics(self) -> bool:
        """Whether the body can normalise a single picture."""
        return self.recipe.model.norm != "batch" or self.evaluation.calibration.kept != "none"

    def check_data(self, federation: Federation) -> None:
        """Raise UserError where the federation's pictures, their normalisation or clients are not the run's."""
        dataset, described = federation.dataset, self.description
        found = (dataset.fingerprint, len(federation.clients.train), dataset.classes, dataset.mean, dataset.std)
        size = described.input
        if found != (described.data_fingerprint, described.clients, self.classes, tuple(size.mean), tuple(size.std)):
            raise UserError(
                f"{self.folder}: was trained on other pictures than {self.recipe.data.source} holds now "
                f"({self.recipe.data.root or 'no data.root'})"
            )

    def save_model(self, model: SplitModel) -> None:
        save_weights(self.folder / "body.safetensors", model.body.state_dict())
        save_weights(self.folder / "head.safetensors", model.head.state_dict())


def resume_command(folder: Path) -> str:
    """What to type to go on with a run."""
    return shlex.join(["fbkit", "train", "--out", str(folder), "--resume"])


def create_run(folder: Path, federation: Federation) -> Run:
    """Make a run folder that holds its recipe and description.

    Raises:
        UserError: the folder exists and is not empty, or cannot be made.
    """
    recipe, dataset = federation.recipe, federation.dataset
    channels, height, width = dataset.shape
    body, head, features = model_size(federation.model)
    description = Description(
        schema=SCHEMA,
        version=VERSION,
        classes=list(dataset.classes),
        input=InputRecord(
            channels=channels, height=height, width=width, mean=list(dataset.mean), std=list(dataset.std)
        ),
        model=ModelRecord(body_parameters=body, head_parameters=head, features=features),
        clients=len(federation.clients.train),
        client_names=list(dataset.owners.names) if dataset.owners else [],
        seed=recipe.seed,
        recipe_sha256=sha256_bytes(recipe_to_toml(recipe).encode()),
        data_fingerprint=dataset.fingerprint,
        environment=environment(federation.workers),
    )
    try:
        with whole_folder(folder) as partial:
            (partial / "checkpoints").mkdir()
            if recipe.training.algorithm in OWN_PART:
                (partial / "clients").mkdir()
            write_atomic(partial / "recipe.toml", recipe_to_toml(recipe).encode())
            write_json(partial / "run.json", description.model_dump(by_alias=True))
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); make room or choose another folder") from error
    return Run(folder, recipe, description)


def open_run(folder: Path) -> Run:
    """Open a run folder, complete or not.

    Raises:
        UserError: it is not a run folder of a version that this fbkit reads.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    path = folder / "run.json"
    values = read_json(path)
    version = values.get("version")
    if values.get("schema") == SCHEMA and (type(version) is not int or version != VERSION):
        older = type(version) is int and version < VERSION
        advice = "train again, or use the fbkit that wrote it" if older else "upgrade fbkit"
        raise UserError(f"{path}: format version {version}, this fbkit reads {VERSION}; {advice}")
    description = check_record(Description, values, path)
    recipe_path = folder / "recipe.toml"
    try:
        text = recipe_path.read_bytes()
    except OSError as error:
        raise UserError(f"{recipe_path}: cannot be read ({error.strerror})") from error
    if sha256_bytes(text) != description.recipe_sha256:
        raise UserError(f"{recipe_path}: was changed after training began; train by a new recipe into a new folder")
    try:
        values = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{recipe_path}: not TOML ({error})") from error
    return Run(folder, parse_recipe(values, str(recipe_path)), description)


def _values(section: dict[str, Any]) -> dict[str, Any]:
    """A recipe's single values by their whole keys, such as ``training.rounds``."""
    values: dict[str, Any] = {}
    for key, value in section.items():
        inner = _values(value) if isinstance(value, dict) else {"": value}
        values.update({f"{key}.{name}".rstrip("."): each for name, each in inner.items()})
    return values


def environment(workers: Workers) -> dict[str, str | int]:
    """What the run was computed with."""
    packages = ("torch", "numpy")
    return {
        "fbkit": fbkit.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(workers.device) if workers.device.type == "cuda" else "cpu",
        "workers": workers.count,
        **{name: importlib.metadata.version(name) for name in packages},
    }
