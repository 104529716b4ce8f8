"""Parameters, gradients and moments of one group of several optimizers, as matrices with a row per optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import FusionError


class ParameterRows:
    """One parameter group of K optimizers as matrices with a row per optimizer and a column per number.

    Args:
        optimizers: Optimizers with the same groups.
        index: Index of the group.
        slots: Names of the moments in the optimizers' states.
        counts_steps: Whether the optimizers' states have the number of steps.

    Attributes:
        leaves: The parameters one by one, views of `weights`, each [K, ...].
        weights: Parameters, float32 [K, P].
        gradients: Their gradients, float32 [K, P].
        states: Moments by the name that the optimizer gives them, float32 [K, P].
        steps: Steps taken, float32 [K, n], on the CPU; AdamW counts them for each of the n parameters.
        sizes: Numbers of each parameter; they sum to P.
    """

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], index: int, slots: Sequence[str], *, counts_steps: bool
    ) -> None:
        self._counts_steps = counts_steps
        self._settings = [optimizer.param_groups[index] for optimizer in optimizers]
        self._members: list[list[nn.Parameter]] = [settings["params"] for settings in self._settings]
        self.sizes = [weight.numel() for weight in self._members[0]]
        self.weights = self._matrix(self._members)
        self.leaves = [
            values.view(-1, *weight.shape).requires_grad_()
            for weight, values in zip(self._members[0], self.weights.split(self.sizes, dim=1), strict=True)
        ]
        self.gradients = torch.zeros_like(self.weights)
        known = [
            [optimizer.state[weight] for weight in member]
            for optimizer, member in zip(optimizers, self._members, strict=True)
        ]
        self.states = {slot: self._matrix(self._state(slot, known)) for slot in slots}
        self.steps = torch.tensor([[float(state.get("step", 0)) for state in states] for states in known])
        for row, member in enumerate(self._members):
            self._bind(row, member, known[row])

    def collect_gradients(self) -> None:
        """Copy the gradients of the leaves to `gradients`.

        Raises:
            FusionError: A parameter has none; alone, its optimizer would leave it as it is.
        """
        count = len(self.weights)
        found = [leaf.grad.reshape(count, -1) for leaf in self.leaves if leaf.grad is not None]
        if len(found) < len(self.leaves):
            raise FusionError(
                "a trained parameter takes no part in the task's objective, and has no gradient; set its "
                "`requires_grad` to False, or train the trials one at a time"
            )
        torch.cat(found, dim=1, out=self.gradients)

    def setting(self, name: str) -> Any:
        """Return a setting that all optimizers share."""
        return self._settings[0][name]

    def numbers(self, name: str) -> list[float]:
        """Return a setting of each optimizer."""
        return [settings[name] for settings in self._settings]

    def columns(self, *numbers: Sequence[float]) -> tuple[Tensor, ...]:
        """Return numbers of each optimizer as columns [K, 1] on the device, sent to it at once."""
        return torch.tensor(numbers).unsqueeze(2).to(self.weights.device, non_blocking=True).unbind()

    def _matrix(self, rows: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return the tensors of each row side by side, [K, P]."""
        if not self.sizes:
            return torch.empty(len(rows), 0)
        return torch.stack([torch.cat([tensor.detach().reshape(-1) for tensor in row]) for row in rows])

    def _state(self, slot: str, known: list[list[dict[str, Any]]]) -> list[list[Tensor]]:
        """Return a moment of every parameter; it is zero before the first step."""
        return [
            [state.get(slot, torch.zeros_like(weight)) for weight, state in zip(member, states, strict=True)]
            for member, states in zip(self._members, known, strict=True)
        ]

    def _bind(self, row: int, member: list[nn.Parameter], states: list[dict[str, Any]]) -> None:
        """Make the tensors of one optimizer views of its row."""
        matrices = {"data": self.weights, "grad": self.gradients, **self.states}
        parts = {name: matrix[row].split(self.sizes) for name, matrix in matrices.items()}
        for i, (weight, state) in enumerate(zip(member, states, strict=True)):
            views = {name: part[i].view(weight.shape) for name, part in parts.items()}
            weight.data, weight.grad = views.pop("data"), views.pop("grad")
            state.update(views)
            if self._counts_steps:
                state["step"] = self.steps[row, i]
