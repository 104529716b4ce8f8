"""TrialConfig, the complete description of one trial: columns of `runs` and params of an MLflow run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables import spelling
from trainables.errors import ConfigError
from trainables.options import check_fields, in_range, one_of

RANDOM_INIT = "random_init"
RAW_PIXELS = "raw_pixels"
BASELINES = (RANDOM_INIT, RAW_PIXELS)
WEIGHTS = "weights:"  # before the name of a baseline with pretrained weights
# Scores on probe validation at every report; configurations are chosen by the first.
ONLINE_PROBES = ("probe/linear", "probe/knn")
CLASS_AVERAGES = ("balanced_accuracy", "macro_f1")  # each probe reports them as `PROBE_AVERAGE`, beside its accuracy
ONLINE_SCORES = (*ONLINE_PROBES, *(f"{probe}_{average}" for probe in ONLINE_PROBES for average in CLASS_AVERAGES))

# Fields that describe the purpose and the evaluation of a trial rather than its training.
NON_TRAINING_FIELDS = (
    *("phase", "task", "cell", "seed", "data_seed", "init_from"),
    *("probe_datasets", "probe_split", "probe_layers", "labels_per_class", "fine_tune_steps", "probe_every"),
)

# Fields that journals and frames contain only where they are set.
WRITTEN_IF_SET: tuple[tuple[str, Any], ...] = (
    *(("weights", ""), ("input_size", None), ("mean", []), ("std", [])),
    ("probe_every", None),
)

# Fields added after the first studies. With these values, a trial keeps the id that it had without the field.
ID_NEUTRAL_DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("probe_layers", "last"),
    ("labels_per_class", []),
    ("fine_tune_steps", 300),
    *WRITTEN_IF_SET,
)

# Fields that are not part of the id: neither the network nor the final results depend on them.
NOT_IN_ID = ("probe_every",)

_LISTS = ("probe_datasets", "labels_per_class", "mean", "std")  # tuples, which are lists in JSON

Pairs = tuple[tuple[str, Any], ...] | Mapping[str, Any]  # accepted as either, stored as sorted pairs


@dataclass(frozen=True)
class TrialConfig:
    """One trial: frozen and hashable, with a JSON round trip. `trial_id` is a hash of its content.

    Attributes:
        phase: Phase of the study.
        task: A pretext task, or a baseline, which trains nothing and is only probed: one of BASELINES, or WEIGHTS and a
            name.
        cell: Name of the trial's cell in an ablation.
        seed: Seed of initialization, order, augmentation and dropout.
        dataset: Data set that the task trains on.
        n_images: Number of images to train on, None for all; drawn by `data_seed`, nested.
        data_seed: Seed of the choice of images.
        encoder: Architecture of the encoder.
        width: Channels of the first stage of `conv4`.
        optimizer: Optimizer.
        lr: Peak learning rate.
        weight_decay: Weight decay.
        warmup_fraction: Share of the steps with linear warm-up.
        batch_size: Images per optimizer step; a task may make several samples of one image.
        augmentation: Magnitude in [0, 1] of each op.
        augmentation_strength: Factor on all magnitudes.
        options: The task's own options where they differ from its defaults.
        budget_steps: Optimizer steps.
        report_every: Steps between reports.
        workers: Workers that share each batch.
        init_from: Id of the trial whose encoder is probed without further training; empty for a trial that trains.
        probe_datasets: Data sets that the frozen features are probed on at the end.
        probe_split: `validation` while choices are still made, `test` for the final evaluation only.
        probe_layers: `last` probes the encoder's features, `all` also each of its stages.
        labels_per_class: Numbers of labeled images per class, None for all, with which the encoder is also probed and
            fine-tuned; the images are drawn by `seed`, nested.
        fine_tune_steps: Steps of each fine-tuning.
        weights: Hash of the file whose weights the encoder has from the beginning; empty for random weights.
        input_size: Side in px to which the encoder scales whole images; None for as they are.
        mean: Mean per channel by which the encoder normalizes images; empty for its own.
        std: Standard deviation per channel; empty for its own.
        probe_every: Steps between reports that measure the features; None for every report, with online probes on more
            training images. See `measures_features`.

    Raises:
        ConfigError: A value is out of range.
    """

    phase: str
    task: str
    cell: str = ""
    seed: int = in_range(0, 0, 2**31 - 1)
    dataset: str = "shapes"
    n_images: int | None = in_range(None, 1, 10**9)
    data_seed: int = in_range(0, 0, 2**31 - 1)
    encoder: str = "conv4"
    width: int = in_range(24, 1, 1024)
    optimizer: str = one_of("adamw", "adamw", "sgd", "lars")
    lr: float = in_range(1e-3, 0.0, 100.0, exclusive_low=True)
    weight_decay: float = in_range(1e-4, 0.0, 1.0)
    warmup_fraction: float = in_range(0.1, 0.0, 1.0)
    batch_size: int = in_range(128, 1, 65536)
    augmentation: Pairs = ()
    augmentation_strength: float = in_range(1.0, 0.0, 1.0)
    options: Pairs = ()
    budget_steps: int = in_range(500, 0, 10**9)
    report_every: int = in_range(25, 1, 10**9)
    workers: int = in_range(1, 1, 1024)
    init_from: str = ""
    probe_datasets: tuple[str, ...] = ()
    probe_split: str = one_of("validation", "validation", "test")
    probe_layers: str = one_of("last", "last", "all")
    labels_per_class: tuple[int | None, ...] = ()
    fine_tune_steps: int = in_range(300, 1, 10**9)
    weights: str = ""
    input_size: int | None = in_range(None, 8, 4096)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    probe_every: int | None = in_range(None, 1, 10**9)

    def __post_init__(self) -> None:
        for name in ("augmentation", "options"):
            value = getattr(self, name)
            pairs = value.items() if isinstance(value, Mapping) else value
            named = ((spelling.current(str(key)), _hashable(item)) for key, item in pairs)
            object.__setattr__(self, name, tuple(sorted(named)))
        object.__setattr__(self, "cell", spelling.current(self.cell))
        for name in _LISTS:
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        # 1 and 1.0 are the same value, so their JSON must be the same, too.
        policy = tuple((op, _as_float(magnitude)) for op, magnitude in dict(self.augmentation).items())
        object.__setattr__(self, "augmentation", policy)
        for name in (field.name for field in dataclasses.fields(self) if field.type == "float"):
            object.__setattr__(self, name, _as_float(getattr(self, name)))
        check_fields(self, "trial")

    @functools.cached_property
    def trial_id(self) -> str:
        """Key of the trial in journal, frames and MLflow: twelve hex digits of SHA-256 over the canonical JSON."""
        known = {
            name: value
            for name, value in self.identity().items()
            if (name, value) not in ID_NEUTRAL_DEFAULTS and name not in NOT_IN_ID
        }
        return hashlib.sha256(_canonical(known).encode()).hexdigest()[:12]

    @property
    def trains(self) -> bool:
        """Whether the trial trains an encoder; all others only probe one."""
        return not is_baseline(self.task) and not self.init_from

    def measures_features(self, step: int) -> bool:
        """Return whether the report at a step has `probe/*` and `health/*`, besides the losses that every report has.

        These are the reports at step 0, at the end of the budget and, in between, the first one at or after each
        multiple of `probe_every`.
        """
        if self.probe_every is None or step == 0 or step >= self.budget_steps:
            return True
        last_report = (step - 1) // self.report_every * self.report_every
        return step // self.probe_every > last_report // self.probe_every

    def replace(self, **changes: Any) -> TrialConfig:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def with_values(self, values: Mapping[str, Any]) -> TrialConfig:
        """Return a copy with fields changed by name, including `option/NAME` and `augmentation/OP`."""
        fields, options, policy = {}, dict(self.options), dict(self.augmentation)
        for name, value in values.items():
            kind, _, inner = name.partition("/")
            if kind == "option":
                options[inner] = value
            elif kind == "augmentation":
                policy[inner] = value
            else:
                fields[name] = value
        return self.replace(**fields, options=options, augmentation=policy)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` is the inverse. Fields of `WRITTEN_IF_SET` are left out by default."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["augmentation"] = dict(self.augmentation)
        values["options"] = {name: _listed(value) for name, value in dict(self.options).items()}
        values |= {name: list(getattr(self, name)) for name in _LISTS}
        return {name: value for name, value in values.items() if (name, value) not in WRITTEN_IF_SET}

    def identity(self) -> dict[str, Any]:
        """Return `to_dict` with the original spelling of every name, from which `trial_id` is computed."""
        return dict(spelling.with_former_names(self.to_dict()))

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no white space, no NaN."""
        return _canonical(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialConfig:
        """Return the TrialConfig of a dict from `to_dict`.

        Raises:
            ConfigError: A field is unknown or a required one is missing.
        """
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ConfigError(f"unknown field of a trial: {', '.join(sorted(unknown))}")
        if missing := {"phase", "task"} - set(values):
            raise ConfigError(f"a trial needs {' and '.join(sorted(missing))}")
        return cls(**values)

    def to_columns(self) -> dict[str, Any]:
        """Return a flat row with `option/NAME` for task options and `augmentation/OP` for the policy."""
        columns = self.to_dict()
        options, policy = columns.pop("options"), columns.pop("augmentation")
        columns["probe_datasets"] = ",".join(self.probe_datasets)
        columns["labels_per_class"] = ",".join(map(labels_name, self.labels_per_class))
        columns |= {name: ",".join(map(str, columns[name])) for name in ("mean", "std") if name in columns}
        columns.update({f"option/{name}": value for name, value in options.items()})
        columns.update({f"augmentation/{name}": value for name, value in policy.items()})
        return columns


def is_baseline(task: str) -> bool:
    """Return whether trials of a task train nothing and are only probed."""
    return task in BASELINES or task.startswith(WEIGHTS)


def labels_name(per_class: int | None) -> str:
    """Return a number of labeled images per class as in result names and columns: `10`, or `all`."""
    return "all" if per_class is None else str(per_class)


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hashable(value: Any) -> Any:
    """Return a list as a tuple, with the lists in it."""
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _listed(value: Any) -> Any:
    """Return a tuple as a list, as in JSON, with the tuples in it."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _as_float(value: Any) -> Any:
    """Return an int as a float if the conversion is exact; leave anything else to `check_fields`."""
    return float(value) if type(value) is int and abs(value) < 2**53 else value
