"""The contract of pretext tasks as tests."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from trainables.augmentation import Augmentation
from trainables.data import shapes
from trainables.data.table import as_tensor
from trainables.encoders import build_encoder
from trainables.errors import ConfigError
from trainables.objective import direction
from trainables.rng import generator
from trainables.tasks import TASKS, Batch, PretextTask, build_options
from trainables.tasks.self_test import make_task, overfits_one_batch, starts_at_chance, stays_at_chance_when_shuffled

SIDE = 20  # px
POLICY = Augmentation({"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.5, "noise": 0.5})
SELF_TESTS = (starts_at_chance, overfits_one_batch, stays_at_chance_when_shuffled)


@functools.cache
def images(n: int = 32, side: int = SIDE) -> Tensor:
    """Return scenes of the built-in data set, uint8 [n, 3, side, side]."""
    return as_tensor(shapes.generate(n, split="train", image_size=side).images)


def new_task(name: str, *, seed: int = 0, side: int = SIDE, **options: Any) -> PretextTask:
    """Return a task in training mode on a narrow untrained encoder, fitted to a few images."""
    kind = TASKS[name]
    task = kind(build_encoder("conv4", width=4, image_size=side, seed=seed), build_options(kind, options), side, seed)
    task.fit_to(images(side=side))
    return task


def sample_batch(task: PretextTask, seed: int = 0, policy: Augmentation = POLICY, n: int = 8) -> Batch:
    """Return a batch that a task draws from the first `n` scenes."""
    return task.draw(images(side=task.image_size)[:n], policy, generator("cpu", seed, "conformance"))


def validation_batch(task: PretextTask) -> Batch:
    """Return a validation batch of a task, which is in eval mode from then on."""
    return sample_batch(task.eval(), policy=Augmentation(task.validation_policy))


def same(first: Batch, second: Batch) -> bool:
    """Return whether two batches are equal to the bit."""
    one, other = ({"inputs": each.inputs, "targets": each.targets, **each.extras} for each in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train(task: PretextTask, steps: int = 1) -> None:
    """Take some steps of SGD."""
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        task(sample_batch(task, seed=step)).objective.backward()
        optimizer.step()
        task.after_step()


def running_statistics(task: PretextTask) -> dict[str, Tensor]:
    """Return a copy of the statistics of all BatchNorms."""
    return {name: value.clone() for name, value in task.state_dict().items() if "running" in name}


def option_fields(name: str) -> list[dataclasses.Field[Any]]:
    """Return the fields of a task's options that declare the values they allow, by `one_of` or `in_range`."""
    return [field for field in dataclasses.fields(TASKS[name].Options) if {"choices", "low"} & field.metadata.keys()]


def extremes(field: dataclasses.Field[Any]) -> list[Any]:
    """Return the extreme values that an option allows, without its default."""
    limits = field.metadata
    values = list(limits["choices"]) if "choices" in limits else [limits["low"], limits["high"]]
    if limits.get("exclusive_low"):
        values[0] = values[1] / 1000
    return [value for value in values if value != field.default]


def forbidden(field: dataclasses.Field[Any]) -> list[Any]:
    """Return values that an option must refuse."""
    limits = field.metadata
    if "choices" in limits:
        return [value for value in ("no such choice", None, 1e9) if value not in limits["choices"]]
    values = [limits["low"] - 1, limits["high"] + 1, math.nan, math.inf, True, "1"]
    values += [limits["low"]] if limits["exclusive_low"] else []
    values += [limits["low"] + 0.5] if isinstance(field.default, int) else []
    return values if field.default is None else [*values, None]


class TaskConformance:
    """Tests of the task called `name`.

    Attributes:
        defining: By task, the options that say what the task is (which pixels, which patches) and therefore change what
            validation asks. All other options must leave validation alone.
    """

    defining: ClassVar[Mapping[str, frozenset[str]]] = {}

    @pytest.mark.parametrize("self_test", SELF_TESTS, ids=lambda test: test.__name__)
    def test_passes_the_self_test(self, name: str, self_test: Any) -> None:
        many = images(256)
        outcome = self_test(make_task(name, many), many)
        assert outcome.passed, outcome

    @pytest.mark.parametrize("training", [True, False])
    def test_states_the_chance_level_of_every_metric(self, name: str, training: bool) -> None:
        task = new_task(name).train(training)
        metrics = task(sample_batch(task)).metrics
        chance = task.chance(8, training=training)
        assert chance.keys() == metrics.keys()
        assert all(math.isfinite(level) and level > 0 for level in chance.values())
        declared = {metric.name: metric for metric in task.metrics}
        assert declared.keys() == metrics.keys()
        assert "loss" in metrics
        assert all(chance[name] == 1 for name, metric in declared.items() if metric.normalized)

    def test_declares_directions_that_rankings_derive_from_names_alike(self, name: str) -> None:
        kind = TASKS[name]
        assert all(direction(f"{part}/{each.name}") == each.mode for part in ("train", "val") for each in kind.metrics)
        assert kind.primary_metric == f"val/{kind.metrics[0].name}"
        assert kind.primary_mode == kind.metrics[0].mode

    def test_gives_as_many_values_of_every_metric_as_it_states(self, name: str) -> None:
        task = new_task(name)
        output = task(validation_batch(task))
        assert output.objective.shape == ()
        for samples in output.metrics.values():
            assert samples.shape in {(8 * task.samples_per_image(),), (8,)}
            assert not samples.requires_grad

    def test_draws_by_its_generator_alone(self, name: str) -> None:
        task = new_task(name)
        torch.manual_seed(1)
        first = sample_batch(task)
        torch.manual_seed(2)
        before = torch.get_rng_state()
        again = sample_batch(task)
        assert torch.equal(torch.get_rng_state(), before)
        assert same(again, first)
        assert same(sample_batch(new_task(name, seed=1)), first)  # whatever the weights
        assert not same(sample_batch(task, seed=1), first)

    def test_leaves_the_images_it_draws_from_untouched(self, name: str) -> None:
        before = images().clone()
        task = new_task(name)
        task(sample_batch(task, policy=Augmentation({})))
        assert torch.equal(images(), before)

    def test_gives_the_encoder_images_in_its_range(self, name: str) -> None:
        seen = []
        task = new_task(name)
        task.encoder.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        task(sample_batch(task))
        assert seen
        for normalized in seen:
            assert normalized.dtype == torch.float32
            assert normalized.abs().max() < 10  # [0, 1] becomes [-2, 2]; standardized patches reach a little further

    def test_asks_the_same_of_all_trials_in_validation(self, name: str) -> None:
        expected = validation_batch(new_task(name))
        levels = new_task(name).chance(8, training=False)
        assert same(validation_batch(new_task(name, seed=3)), expected)
        for field in option_fields(name):
            if field.name in self.defining.get(name, ()):
                continue
            for value in extremes(field):
                task = new_task(name, **{field.name: value})
                assert same(validation_batch(task), expected), f"{field.name} = {value}"
                assert task.chance(8, training=False)["loss"] == pytest.approx(levels["loss"]) or field.name == "loss"

    def test_trains_at_both_ends_of_every_option_or_says_why_not(self, name: str) -> None:
        for field in option_fields(name):
            for value in extremes(field):
                try:
                    task = new_task(name, **{field.name: value})
                except ConfigError as error:  # a value that only other image sizes allow
                    assert field.name in str(error)  # noqa: PT017 - most values are allowed
                    continue
                output = task(sample_batch(task))
                output.objective.backward()
                assert torch.isfinite(output.objective), f"{field.name} = {value}"
                assert output.metrics.keys() == task.chance(8, training=True).keys()
                trained = [(key, weight) for key, weight in task.named_parameters() if weight.requires_grad]
                untouched = [key for key, weight in trained if weight.grad is None]
                assert not untouched, "DistributedDataParallel waits for every parameter"

    def test_refuses_what_an_option_does_not_allow(self, name: str) -> None:
        for field in option_fields(name):
            limits = field.metadata
            allowed = limits["choices"] if "choices" in limits else (limits["low"], limits["high"])
            for value in forbidden(field):
                with pytest.raises(ConfigError) as error:
                    build_options(TASKS[name], {field.name: value})
                message = str(error.value)
                assert f"task_options.{name}.{field.name} = {value!r}" in message
                assert all(str(item) in message for item in allowed) or "number" in message

    def test_allows_the_ends_of_every_option(self, name: str) -> None:
        for field in option_fields(name):
            for value in extremes(field):
                assert getattr(build_options(TASKS[name], {field.name: value}), field.name) == value

    def test_names_its_options_where_one_is_unknown(self, name: str) -> None:
        with pytest.raises(ConfigError) as error:
            build_options(TASKS[name], {"no_such_option": 1})
        message = str(error.value)
        assert f"task_options.{name}.no_such_option" in message
        assert all(field.name in message for field in dataclasses.fields(TASKS[name].Options))

    def test_moves_every_parameter_of_the_encoder(self, name: str) -> None:
        task = new_task(name)
        train(task, steps=1)  # a head of zeros, from which training starts, passes no gradient on
        task.zero_grad()
        task(sample_batch(task)).objective.backward()
        gradients = {key: weight.grad for key, weight in task.encoder.named_parameters()}
        still = [key for key, gradient in gradients.items() if gradient is None or not gradient.abs().sum() > 0]
        assert not still

    def test_learns_nothing_about_statistics_in_validation(self, name: str) -> None:
        task = new_task(name)
        train(task, steps=2)
        before = running_statistics(task)
        assert before
        task(validation_batch(task))
        assert all(torch.equal(value, before[key]) for key, value in running_statistics(task).items())
        task.train()
        task(sample_batch(task))
        assert not all(torch.equal(value, before[key]) for key, value in running_statistics(task).items())

    def test_stays_finite_on_images_of_one_color(self, name: str) -> None:
        task = new_task(name)
        mixed = images()[:8].clone()
        mixed[:3] = torch.tensor([0, 128, 255], dtype=torch.uint8).view(3, 1, 1, 1)
        output = task(task.draw(mixed, POLICY, generator("cpu", 0, "plain")))
        output.objective.backward()
        assert all(torch.isfinite(samples).all() for samples in output.metrics.values())
        assert all(torch.isfinite(weight.grad).all() for weight in task.parameters() if weight.grad is not None)

    @pytest.mark.parametrize("side", [16, 33, 64])
    def test_takes_images_of_any_side(self, name: str, side: int) -> None:
        task = new_task(name, side=side)
        assert torch.isfinite(task(sample_batch(task, n=2)).objective)

    def test_is_whole_in_its_state(self, name: str) -> None:
        trained, other = new_task(name), new_task(name, seed=5)
        train(trained, steps=2)
        other.fit_to(255 - images())
        other.load_state_dict(trained.state_dict())
        expected, found = (task(validation_batch(task)).metrics for task in (trained, other))
        assert all(torch.equal(found[metric], expected[metric]) for metric in expected)

    def test_is_initialized_by_its_seed_alone(self, name: str) -> None:
        torch.manual_seed(1)
        first = new_task(name).state_dict()
        torch.manual_seed(2)
        before = torch.get_rng_state()
        again, other = new_task(name).state_dict(), new_task(name, seed=1).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(again[key], first[key]) for key in first)
        assert not torch.equal(other["encoder.blocks.0.0.weight"], first["encoder.blocks.0.0.weight"])

    def test_adds_no_parameters_to_the_encoder(self, name: str) -> None:
        bare = build_encoder("conv4", width=4, image_size=SIDE)
        assert [key for key, _ in new_task(name).encoder.named_parameters()] == [
            key for key, _ in bare.named_parameters()
        ]
        assert isinstance(new_task(name), nn.Module)
