from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbkit.train.data import Batcher, Pictures, change, draw_changes, split_batches
from fbkit.train.recipe import DataRecipe
from fbkit.train.sources import load_dataset


def test_the_embedded_pictures_are_fashion_mnist_balanced() -> None:
    data = load_dataset(DataRecipe())
    assert data.shape == (1, 28, 28)
    for pictures in (data.train, data.test):
        assert torch.equal(torch.bincount(pictures.labels), torch.full((10,), 1000))
        assert pictures.images.dtype == torch.uint8
    values = data.train.images.float() / 255
    assert abs(float(values.mean()) - data.mean[0]) < 2e-3
    assert abs(float(values.std()) - data.std[0]) < 2e-3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9), st.integers(0, 4), st.booleans(), st.integers(0, 999))
def test_each_augmented_picture_is_a_window_of_the_padded_original_or_of_its_mirror_image(
    channels: int, height: int, width: int, padding: int, flip: bool, seed: int
) -> None:
    images = torch.from_numpy(
        np.random.default_rng(seed).integers(1, 256, (5, channels, height, width)).astype(np.uint8)
    )
    results = change(images, padding, *draw_changes(5, padding, flip, torch.Generator().manual_seed(seed)))
    assert results.shape == images.shape
    for image, result in zip(images, results, strict=True):
        padded = torch.nn.functional.pad(image, (padding,) * 4)
        windows = [
            candidate
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            for window in [padded[:, top : top + height, left : left + width]]
            for candidate in ([window, window.flip(2)] if flip else [window])
        ]
        assert any(torch.equal(result, window) for window in windows)


def test_augmentation_uses_all_offsets_and_both_sides_equally() -> None:
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4) + 1
    results = change(image.expand(20_000, 1, 4, 4), 1, *draw_changes(20_000, 1, True, torch.Generator().manual_seed(0)))
    _, counts = torch.unique(results.flatten(1), dim=0, return_counts=True)
    assert len(counts) == 18  # 3 x 3 offsets, mirrored or not
    assert counts.min() > 0.8 * counts.float().mean()


def test_a_picture_left_over_joins_the_batch_before_it() -> None:
    assert [len(batch) for batch in split_batches(torch.arange(101), 50)] == [50, 51]
    assert [len(batch) for batch in split_batches(torch.arange(102), 50)] == [50, 50, 2]
    assert [len(batch) for batch in split_batches(torch.arange(1), 50)] == [1]
    assert torch.equal(torch.cat(split_batches(torch.arange(11), 5)), torch.arange(11))


def test_batches_cover_each_epoch_once_in_another_order() -> None:
    pictures = Pictures(torch.arange(70, dtype=torch.uint8).view(70, 1, 1, 1), torch.arange(70))
    batcher = Batcher((0.5,), (0.25,), batch_size=32)
    batches = list(batcher.shuffled(pictures, torch.arange(7, 70), 2, torch.Generator().manual_seed(1)))
    assert [len(labels) for _, labels in batches] == [32, 31, 32, 31]
    first, second = (torch.cat([labels for _, labels in part]) for part in (batches[:2], batches[2:]))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(7, 70))
    assert not torch.equal(first, second)
    for images, labels in batches:
        torch.testing.assert_close(images.flatten(), (labels / 255 - 0.5) / 0.25)
