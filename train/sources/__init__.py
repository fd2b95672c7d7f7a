"""Where training's pictures come from: one file for each kind of source, behind ``load_dataset``."""

from __future__ import annotations

from fbkit.train.sources.loading import load_dataset

__all__ = ["load_dataset"]
