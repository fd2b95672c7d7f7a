"""Several clients at once on one device: their models stacked in memory, their steps taken together.

A small net on small batches leaves most of a GPU idle. Here the parameters of K clients' models are single tensors with
K in front, ``vmap`` runs the net over them, and one optimizer step moves them all. Each client's arithmetic is the same
as alone, up to the order of sums inside the kernels.

``StackedModel`` and ``Cohort`` stand in for a model and a client: an algorithm's ``client_update`` works on either.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from fbkit.errors import describe
from fbkit.train.client_states import ClientStates
from fbkit.train.data import Batcher, Draw, Pictures, joined
from fbkit.train.local_sgd import LocalSGD, Pull
from fbkit.train.models import SplitModel
from fbkit.train.recipe import TrainingRecipe

Index = slice | list[int]  # a slice stands for the whole stack


@dataclass(frozen=True)
class StackedBatch:
    """One batch of each of G clients, all of the same size B.

    index: the clients' places in the stack. images: float32 [G, B, C, H, W]; labels: int64 [G, B].
    """

    index: Index
    images: Tensor
    labels: Tensor


class StackedModel(SplitModel):
    """K models of one kind. Every parameter and buffer has K in front: K equal copies of ``model``'s at first."""

    def __init__(self, model: SplitModel, count: int) -> None:
        stacked = copy.deepcopy(model)
        super().__init__(stacked.body, stacked.head, model.head_name)
        self._one = [model]  # in a list, so that it is no part of this module; says how a single model runs
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(_repeated(parameter.detach(), count))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = _repeated(buffer, count)

    def logits(self, batch: StackedBatch) -> Tensor:
        """float32 [G, B, classes]: of each of the batch's clients with its own model."""
        tensors = itertools.chain(self.named_parameters(), self.named_buffers())
        chosen = {name: value[batch.index] for name, value in tensors}

        def run(values: dict[str, Tensor], images: Tensor) -> Tensor:
            found: Tensor = functional_call(self._one[0], values, (images,))
            return found

        logits: Tensor = torch.vmap(run, randomness="different")(chosen, batch.images)
        if isinstance(batch.index, list):  # copies, in which running statistics may have moved
            for name, buffer in self.named_buffers():
                buffer[batch.index] = chosen[name]
        return logits


def vmap_problem(model: SplitModel, shape: tuple[int, int, int]) -> str:
    """Why the model cannot run side by side, in torch's words; empty where it can. ``shape``: of a picture."""
    device = next(model.parameters()).device
    batch = StackedBatch(slice(None), torch.zeros(2, 2, *shape, device=device), torch.zeros(2, 2))
    models = StackedModel(model, 2)
    try:
        models.logits(batch).sum().backward()
    except Exception as error:  # noqa: BLE001  whatever a user's own module may raise
        return describe(error)
    return ""


def _repeated(values: Tensor, count: int) -> Tensor:
    return values.expand(count, *values.shape).clone()


class StackedSGD:
    """What ``torch.optim.SGD`` does, for each client of a stack on its own: one without a batch does not move."""

    def __init__(self, sgd: LocalSGD, part: nn.Module) -> None:
        self._sgd = sgd
        self.parameters = list(part.parameters())
        self._momenta = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], index: Index, pull: Pull | None) -> None:
        """One step of the clients at ``index``. A gradient is None where nothing depends on the parameter."""
        places = [place for place, gradient in enumerate(gradients) if gradient is not None]
        changes = [gradient[index] for gradient in gradients if gradient is not None]
        values = [self.parameters[place].data[index] for place in places]
        momenta = [self._momenta[place][index] for place in places]
        if pull and pull.strength:
            away = torch._foreach_sub(values, [pull.toward[place][index] for place in places])
            changes = list(torch._foreach_add(changes, away, alpha=pull.strength))
        if self._sgd.weight_decay:
            changes = list(torch._foreach_add(changes, values, alpha=self._sgd.weight_decay))
        torch._foreach_mul_(momenta, self._sgd.momentum)
        torch._foreach_add_(momenta, changes)
        torch._foreach_add_(values, momenta, alpha=-self._sgd.lr)
        if isinstance(index, list):  # these were copies
            for place, value, momentum in zip(places, values, momenta, strict=True):
                self.parameters[place].data[index] = value
                self._momenta[place][index] = momentum


def run_stacked_steps(
    model: StackedModel,
    part: nn.Module,
    batches: Iterable[StackedBatch],
    optimizer: StackedSGD,
    pull: Pull | None = None,
) -> Tensor:
    """``run_steps`` for all clients of the stack; float64 [K], each one's mean cross-entropy."""
    model.requires_grad_(False)
    part.requires_grad_(True)
    parameters = optimizer.parameters
    total = torch.zeros(len(parameters[0]), dtype=torch.float64, device=parameters[0].device)
    seen = torch.zeros_like(total)
    for batch in batches:
        clients, pictures = batch.labels.shape
        logits = model.logits(batch)
        each = cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="none")
        losses = each.view(clients, pictures).mean(1)
        gradients = torch.autograd.grad(losses.sum(), parameters, allow_unused=True)
        optimizer.step(gradients, batch.index, pull)
        total[batch.index] += losses.detach().double() * pictures
        seen[batch.index] += pictures
    return total / seen.clamp_min(1)


@dataclass
class Cohort:
    """Clients that train side by side; what ``LocalClient`` is for one, with the same names and meanings."""

    numbers: list[int]
    round_number: int
    settings: TrainingRecipe
    local_sgd: LocalSGD
    batcher: Batcher
    pictures: Pictures
    indices: list[Tensor]
    streams: list[torch.Generator]
    states: ClientStates
    passes: int = 0

    def sgd(
        self, model: StackedModel, part: nn.Module, batches: Iterable[StackedBatch], pull: Pull | None = None
    ) -> Tensor:
        """``LocalSGD`` for all; float64 [K], each client's mean cross-entropy."""
        return run_stacked_steps(model, part, batches, StackedSGD(self.local_sgd, part), pull)

    def batches(self, epochs: int | None = None) -> Iterator[StackedBatch]:
        """Each client's batches as it would draw them alone, those of equal size together."""
        epochs = epochs or self.settings.local_epochs
        self.passes += epochs
        each = [
            self.batcher.draws(indices, epochs, stream)
            for indices, stream in zip(self.indices, self.streams, strict=True)
        ]
        return stacked_batches(self.batcher, self.pictures, each)

    def restore(self, module: nn.Module) -> None:
        """Load what each client kept; the place of one that trains for the first time stays as it is."""
        for number, own in zip(self.numbers, places(module), strict=True):
            self.states.restore(number, own)

    def keep(self, module: nn.Module) -> None:
        """Keep each client's weights until it is sampled again."""
        for number, own in zip(self.numbers, places(module), strict=True):
            self.states.keep(number, self.round_number, own)


def places(module: nn.Module) -> Iterator[nn.Module]:
    """A stacked module's single ones, in order; they share its memory, and each is good until the next is taken."""
    one = copy.deepcopy(module)
    stacks = [(own, theirs) for own, theirs in zip(one.modules(), module.modules(), strict=True)]
    for place in range(len(next(module.parameters()))):
        for own, theirs in stacks:
            for name, parameter in theirs._parameters.items():
                if parameter is not None:
                    own._parameters[name] = nn.Parameter(parameter.detach()[place])
            for name, buffer in theirs._buffers.items():
                if buffer is not None:
                    own._buffers[name] = buffer[place]
        yield one


def stacked_batches(batcher: Batcher, pictures: Pictures, each: Sequence[Iterator[Draw]]) -> Iterator[StackedBatch]:
    """Take a batch from every client that has one left, and put those of equal size together; again until all are done.

    ``each`` has an iterator for each place of the stack.
    """
    for step in itertools.zip_longest(*each):
        by_size: dict[int, list[int]] = {}
        for place, draw in enumerate(step):
            if draw is not None:
                by_size.setdefault(len(draw), []).append(place)
        for size, members in by_size.items():
            images, labels = batcher.make(pictures, joined([step[place] for place in members]))
            # Inside vmap some layers cannot be asked for their memory format, so it is the plain one.
            index = slice(None) if len(members) == len(each) else members
            yield StackedBatch(index, images.contiguous().unflatten(0, (-1, size)), labels.view(-1, size))
