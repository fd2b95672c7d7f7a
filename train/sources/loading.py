"""From the recipe's data section to a data set, whatever the source."""

from __future__ import annotations

from pathlib import Path

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.data import Dataset
from fbkit.train.recipe import FOLDERS, GIVEN, DataRecipe
from fbkit.train.sources.assembling import assemble
from fbkit.train.sources.cifar import CIFARS, load_cifar
from fbkit.train.sources.embedded import load_embedded
from fbkit.train.sources.fitting import fit_pictures
from fbkit.train.sources.folder_dataset import load_folders
from fbkit.train.sources.mnist import load_mnist


def load_dataset(recipe: DataRecipe, seed: int = 0, reporter: Reporter | None = None) -> Dataset:
    """Load the recipe's source, fitted to its size and channels.

    Args:
        recipe: the data section of a recipe that was validated as a whole.
        seed: the run's seed; it draws the test pictures of folders that have none.
        reporter: shown the progress where pictures must be decoded, told of broken ones.

    Raises:
        UserError: files are missing, damaged or make no sense; the message names the file or folder.
    """
    root = _expanded(recipe.root)
    if recipe.source == GIVEN:
        raise UserError(
            "data.source = 'given': the data set must be handed over in Python, as dataset=... of train, resume, "
            "evaluate_run or export_run"
        )
    if recipe.source == "fashion-mnist-10k":
        return load_embedded(recipe)
    if recipe.source in FOLDERS:
        return load_folders(recipe, root, seed, reporter or Reporter(quiet=True))
    load = load_cifar if recipe.source in CIFARS else load_mnist
    train, test, classes = load(recipe, root)
    train, test = (fit_pictures(pictures, recipe.size, recipe.channels, recipe.fit) for pictures in (train, test))
    return assemble(train, test, classes, recipe.mean, recipe.std)


def _expanded(root: str) -> Path:
    try:
        return Path(root).expanduser()
    except RuntimeError as error:
        raise UserError(f"data.root = {root!r}: no such home folder is known; write the path in full") from error
