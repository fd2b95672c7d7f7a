"""A static int8 body for XNNPACK, calibrated on pictures."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from fbkit.export.capture import capture
from fbkit.export.keep_float import is_kept

CALIBRATION_BATCH = 32

_aten = torch.ops.aten
_MEANS = (_aten.mean.dim, _aten.mean.default, _aten.adaptive_avg_pool2d.default)
_CLAMPS = (_aten.hardtanh.default, _aten.hardtanh_.default)  # as which ReLU6 is exported


def quantize(body: nn.Module, images: Tensor, keep_float: tuple[str, ...]) -> nn.Module:
    """An int8 copy of ``body`` for any batch, still as a torch module, to be exported and given to XNNPACK.

    Weights are signed, with a scale for each output channel; activations signed, with a scale and a zero point for each
    tensor, from the least and the largest value seen.

    Args:
        images: float32 [N, channels, height, width].
        keep_float: names of modules whose layers stay fp32.
    """
    channels, height, width = images.shape[1:]
    graph = capture(body, (channels, height, width)).module()
    _give_calls_weights_of_their_own(graph)
    observed = prepare_pt2e(graph, _Quantizer(keep_float))
    with torch.no_grad():
        for batch in images.split(CALIBRATION_BATCH):
            observed(batch)
    quantized: nn.Module = convert_pt2e(observed)
    return quantized


class _Quantizer(XNNPACKQuantizer):  # type: ignore[misc]  # executorch has no types
    """XNNPACK's, which leaves alone what is to stay fp32 and knows ReLU6 as a part of the convolution before it."""

    def __init__(self, keep_float: tuple[str, ...]) -> None:
        super().__init__()
        config = get_symmetric_quantization_config(is_per_channel=True)
        # The default, a histogram that cuts off what is rare, takes longer and is no better.
        observer = MinMaxObserver.with_args(eps=2**-12)
        self._values = replace(config.input_activation, observer_or_fake_quant_ctr=observer)
        self._weights = config.weight
        self._keep_float = keep_float
        self.set_global(replace(config, input_activation=self._values, output_activation=self._values))

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            # A mean over a map would have to take the range of the map's values, and features would get few of the 256
            # steps.
            if node.target in _MEANS or any(is_kept(name, self._keep_float) for name in _modules(node)):
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(_annotated=True)
        for node in model.graph.nodes:
            if node.target in _CLAMPS:
                self._join_to_convolution(node)
        annotated: GraphModule = super().annotate(model)
        return annotated

    def _join_to_convolution(self, clamp: Node) -> None:
        """Round once, after the clamp: before it, the range would be that of values which the clamp cuts off."""
        convolution = clamp.args[0]
        if (
            not isinstance(convolution, Node)
            or convolution.target is not _aten.conv2d.default
            or len(convolution.users) > 1
            or any(Q_ANNOTATION_KEY in node.meta for node in (clamp, convolution))
        ):
            return
        values, weight = convolution.args[:2]
        convolution.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
            input_qspec_map={values: self._values, weight: self._weights}, _annotated=True
        )
        clamp.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=self._values, _annotated=True)


def _give_calls_weights_of_their_own(graph: GraphModule) -> None:
    """Where a convolution is called twice: preparing folds normalisation into weights in place, at each call."""
    taken: set[str] = set()
    for node in graph.graph.find_nodes(op="call_function", target=_aten.conv2d.default):
        for place, values in enumerate(node.args[1:3], 1):
            if not isinstance(values, Node) or values.op != "get_attr":
                continue  # no bias, or computed
            name = str(values.target)
            if name in taken:
                copy = attrgetter(name)(graph).detach().clone()
                name = f"of_call_{len(taken)}"
                graph.register_parameter(name, nn.Parameter(copy))
                with graph.graph.inserting_before(node):
                    own = graph.graph.get_attr(name)
                own.meta = dict(values.meta)
                node.update_arg(place, own)
            taken.add(name)
    graph.recompile()


def _modules(node: Node) -> list[str]:
    """The names of the modules that a node lies in."""
    return [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
