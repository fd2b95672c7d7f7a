"""Federated training of a body: recipe in, run folder out.

The functions behind ``fbkit train``: ``load_recipe``, ``train`` and ``resume``; ``open_run`` reads what they wrote,
``evaluate_run`` judges it further. ``dataset_from_torch`` brings a data set of your own.
They are imported when first used, so that the command line starts without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fbkit.lazy import lazy_names

if TYPE_CHECKING:
    from fbkit.train.checkpoints import CheckpointPolicy
    from fbkit.train.recipe import Recipe, load_recipe
    from fbkit.train.run_evaluation import evaluate_run
    from fbkit.train.run_folder import Run, open_run
    from fbkit.train.sources.torch_dataset import dataset_from_torch
    from fbkit.train.training import resume, train

__getattr__ = lazy_names(
    __name__,
    {
        "CheckpointPolicy": "checkpoints",
        "Recipe": "recipe",
        "load_recipe": "recipe",
        "Run": "run_folder",
        "open_run": "run_folder",
        "evaluate_run": "run_evaluation",
        "dataset_from_torch": "sources.torch_dataset",
        "resume": "training",
        "train": "training",
    },
)

__all__ = [
    "CheckpointPolicy",
    "Recipe",
    "Run",
    "dataset_from_torch",
    "evaluate_run",
    "load_recipe",
    "open_run",
    "resume",
    "train",
]
