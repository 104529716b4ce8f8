"""Parameters, gradients and optimizer states of several networks of one architecture, as tensors with a leading axis.

The networks and their optimizers remain usable: their tensors become views of one row each, so a report, a checkpoint
or `load_state_dict` reads and writes the stacked tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.errors import FusionError
from trainables.training.parameter_rows import ParameterRows
from trainables.training.row_updates import RULES


class Stack:
    """K networks and their optimizers, stacked until `release`.

    Args:
        modules: Networks of one architecture, on one device.
        optimizers: Optimizer of each, of one kind, whose numbers may differ.

    Attributes:
        tensors: Parameters and buffers by name, each [K, ...]; the trained ones are leaves with a gradient.

    Raises:
        FusionError: The optimizers are of a kind that has no update for stacked parameters.
    """

    def __init__(self, modules: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        kind = type(optimizers[0])
        if kind not in RULES:
            raise FusionError(f"{kind.__name__}: has no update for several trials at once; train them one at a time")
        self._modules, self._optimizers, self._rule = modules, optimizers, RULES[kind]
        count = len(optimizers[0].param_groups)
        self._groups = [
            ParameterRows(optimizers, index, self._rule.slots, counts_steps=self._rule.counts_steps)
            for index in range(count)
        ]
        trained = {
            id(weight): leaf
            for settings, group in zip(optimizers[0].param_groups, self._groups, strict=True)
            for weight, leaf in zip(settings["params"], group.leaves, strict=True)
        }
        self.tensors: dict[str, Tensor] = {}
        for name, first in _tensors(modules[0]).items():
            leaf = trained.get(id(first))
            self.tensors[name] = self._stacked(name) if leaf is None else leaf

    def clear_gradients(self) -> None:
        """Forget the gradients of the trained tensors."""
        for group in self._groups:
            for leaf in group.leaves:
                leaf.grad = None

    @torch.no_grad()
    def update(self) -> None:
        """Take one step of every optimizer, with the learning rate and weight decay of its own groups."""
        for group in self._groups:
            if group.leaves:
                group.collect_gradients()
                self._rule.update(group)

    def release(self) -> None:
        """Give each network and optimizer tensors of its own again."""
        for module, optimizer in zip(self._modules, self._optimizers, strict=True):
            for tensor in _tensors(module).values():
                tensor.data, tensor.grad = tensor.data.clone(), None
            module.to(memory_format=torch.channels_last)
            for state in optimizer.state.values():
                state.update({name: value.clone() for name, value in state.items() if isinstance(value, Tensor)})

    def _stacked(self, name: str) -> Tensor:
        """Stack a tensor that is not trained, and make each network's own a view of it."""
        own = [_tensors(module)[name] for module in self._modules]
        stacked = torch.stack([tensor.detach() for tensor in own])
        for tensor, row in zip(own, stacked.unbind(), strict=True):
            tensor.data = row
        return stacked


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
