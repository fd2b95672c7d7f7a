from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fbkit.train.calibration import calibrate
from fbkit.train.federation import Federation
from fbkit.train.models import norm_layers
from fbkit.train.norm_statistics import pooled_statistics
from fbkit.train.rounds import run_round
from fbkit.train.seeds import Purpose, torch_stream
from tests.train.small import static_statistics, two_clients


@pytest.fixture
def trained() -> Federation:
    federation = two_clients("fedbabu")
    run_round(federation, 1)
    return federation


def inputs_of(federation: Federation, layer: str, clients: Sequence[int]) -> np.ndarray:
    """What reaches ``layer`` while the model is in the mode it is in, by channel: float64 [channels, values]."""
    seen: list[np.ndarray] = []
    module = norm_layers(federation.model)[layer]
    handle = module.register_forward_pre_hook(
        lambda _layer, inputs: seen.append(inputs[0].transpose(0, 1).flatten(1).double().numpy())
    )
    batcher = federation.batcher(augmented=False)
    with torch.no_grad():
        for client in clients:
            indices = federation.clients.train[client]
            stream = torch_stream(federation.recipe.seed, Purpose.CALIBRATION_ORDER, client)
            mixed = indices[torch.randperm(len(indices), generator=stream)]
            for images, _ in batcher.plain(federation.dataset.train, mixed):
                federation.model(images)
    handle.remove()
    return np.concatenate(seen, axis=1)


def test_pooled_statistics_are_those_of_all_training_clients_values_at_once(trained: Federation) -> None:
    layers = list(norm_layers(trained.model))
    found = pooled_statistics(trained, layers, static=())
    trained.model.train()
    for layer in layers:
        values = inputs_of(trained, layer, trained.clients.training)
        mean, variance = found[layer]
        np.testing.assert_allclose(mean, values.mean(1), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(variance, values.var(1), rtol=1e-5)


def test_layer_by_layer_is_a_fixed_point(trained: Federation) -> None:
    """With every layer static, each layer's input has exactly the statistics that the layer holds."""
    layers = list(norm_layers(trained.model))
    collected: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for layer in layers:
        collected |= pooled_statistics(trained, [layer], static=tuple(collected))
        module = norm_layers(trained.model)[layer]
        module.running_mean, module.running_var = collected[layer]
    trained.model.eval()
    for layer in layers:
        values = inputs_of(trained, layer, trained.clients.training)
        np.testing.assert_allclose(collected[layer][0], values.mean(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(collected[layer][1], values.var(1), rtol=1e-4)


def test_the_better_way_is_kept_and_held_out_pictures_change_nothing(trained: Federation) -> None:
    calibration = calibrate(trained)
    assert set(calibration.losses) == {"one-pass", "layer-by-layer"}
    assert calibration.losses[calibration.kept] == min(calibration.losses.values())
    kept = static_statistics(trained.model)

    other = two_clients("fedbabu")
    other.dataset.train.images[other.clients.train[2]] = 255
    run_round(other, 1)
    assert calibrate(other) == calibration
    for layer, (mean, variance) in static_statistics(other.model).items():
        assert torch.equal(mean, kept[layer][0])
        assert torch.equal(variance, kept[layer][1])


def test_a_static_body_gives_a_picture_the_same_features_alone_and_in_any_batch(trained: Federation) -> None:
    calibrate(trained)
    trained.model.eval()
    images = torch.randn(33, *trained.dataset.shape)
    with torch.no_grad():
        together = trained.model.body(images)
        for size in (1, 2, 7, 32):
            parts = torch.cat([trained.model.body(part) for part in images.split(size)])
            assert (parts - together).abs().max() <= 1e-5 * together.abs().max()
