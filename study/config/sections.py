"""Sections of a study's schema, each immutable."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from study.config.names import DesignName, EncoderName, Name, OpName, Positive, TrialCount

AUTO = "auto"
FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Frozen(BaseModel):
    model_config = FROZEN


class _HasInputs(_Frozen):
    INPUTS: ClassVar[tuple[str, ...]] = ("input_size", "mean", "std")

    @property
    def inputs(self) -> dict[str, Any]:
        """The fields of a trial that say how the encoder prepares its images."""
        return {name: getattr(self, name) for name in self.INPUTS}


class EncoderConfig(_HasInputs):
    """The encoder that all tasks share.

    Attributes:
        name: Architecture: one of this package or of a plug-in, any model of the library timm, or a class.
        width: Channels of the first stage; `conv4` only.
        input_size: Side in px to which a model of timm scales whole images, and patches by the same factor; null for as
            they are.
        mean: Mean per channel by which a model of timm normalizes images in [0, 1]; empty for timm's.
        std: Standard deviation per channel; empty for timm's.
    """

    name: EncoderName = "conv4"
    width: Annotated[int, Field(ge=1, le=1024)] = 24
    input_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    mean: list[float] = []
    std: list[Annotated[float, Field(gt=0)]] = []


class SearchConfig(_Frozen):
    """The hyperparameter search of each task.

    Attributes:
        num_samples: Trials per task; with `grid`, points per continuous hyperparameter.
        algorithm: `optuna` is TPE; `random` and `grid` list all trials before the first one starts. With the
            scheduler `pbt`, `optuna` draws at random, too.
        scheduler: Early stopping (`asha`), none, or population based training (`pbt`), which confirms the values that
            the best trials ended with.
        metric: Metric to optimize, taken at a trial's last report, for example `probe/linear_balanced_accuracy` or
            `probe/linear_macro_f1`. `auto` is `probe/linear` (probe validation) where the data set has labels, or its
            balanced accuracy if the classes are clearly imbalanced (`trainables.objective.is_imbalanced`), and the
            task's primary validation metric otherwise.
        mode: Direction of `metric`; null for the direction that the metric has by itself.
        grace_period: Steps before a scheduler may stop a trial; null for a quarter of the budget.
        reduction_factor: ASHA promotes one in this many trials from each rung to the next.
        chance_patience: Steps after which a trial is stopped that is shown to have learned nothing; null for half the
            budget, 0 for never.
        space: Hyperparameters to search instead of the task's default space, or in addition to it with `extend: true`;
            `{TASK: {...}}` applies to one task.
    """

    num_samples: TrialCount = 8
    algorithm: Literal["optuna", "random", "grid"] = "optuna"
    scheduler: Literal["asha", "none", "pbt"] = "asha"
    metric: str = "auto"
    mode: Literal["max", "min"] | None = None
    grace_period: Positive | None = None
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    chance_patience: Annotated[int, Field(ge=0)] | None = None
    space: dict[str, JsonValue] = {}


class ConfirmConfig(_Frozen):
    """The confirmation of the best configurations on seeds that the search has not used.

    Attributes:
        top_k: Configurations per task.
        seeds: Number of fresh seeds per configuration, or a list of them, such as `[5, 6, 7]`, to use the same seeds as
            another study.
    """

    top_k: TrialCount = 2
    seeds: TrialCount | list[int] = 3

    @property
    def n_seeds(self) -> int:
        """Number of fresh seeds."""
        return len(self.seeds) if isinstance(self.seeds, list) else self.seeds


class AblateConfig(_Frozen):
    """Ablations around each task's confirmed configuration; every cell runs with the same fresh seeds.

    Attributes:
        designs: Names of designs in `search_spaces.ablations`; empty for no ablation.
        seeds: Fresh seeds per cell.
        margin: Equivalence margin: the largest difference of the metric, in its own units, that is too small to
            matter.
        base: Values that override the confirmed configuration; `{TASK: {...}}` applies to one task.
        strengths: Augmentation strengths; the first is the reference.
        sizes: Numbers of training images; null for all.
        steps: Budgets of optimizer steps.
        ops: Augmentation ops; null for the ops in the base's policy.
        factors: Values of each factor of the factorial and screening designs.
        cures: Values of each candidate cure; null for the task's default cures. `{TASK: {...}}` applies to one
            task, and `{TASK: {}}` is none for it.
    """

    designs: list[DesignName] = []
    seeds: TrialCount = 5
    margin: Annotated[float, Field(gt=0)] = 0.01
    base: dict[str, JsonValue] = {}
    strengths: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)] = [0.0, 0.5, 1.0]
    sizes: Annotated[list[Positive | None], Field(min_length=1)] = [None]
    steps: list[Positive] = []
    ops: list[OpName] | None = None
    factors: dict[str, list[JsonValue]] = {}
    cures: dict[str, JsonValue] | None = None


class EvaluateConfig(_Frozen):
    """The final evaluation of the confirmed encoders on the test split.

    Attributes:
        datasets: Data sets to probe on; null for the training data set, if it has labels or masks.
        probe_layers: `all` probes every stage of the encoder; the last stage is often not the best one for tasks such
            as rotation (Gidaris 2018) and context prediction (Kolesnikov 2019).
        labels_per_class: Numbers of labeled images per class, null for all. With each number, a probe on frozen
            features, fine-tuning and supervised training from scratch are compared; empty for no comparison.
        fine_tune_steps: Optimizer steps of fine-tuning and of supervised training.
        segmentation: Whether data sets with masks are probed for segmentation, which takes several times as long
            as the other probes.
    """

    datasets: list[str] | None = None
    probe_layers: Literal["last", "all"] = "last"
    labels_per_class: list[Positive | None] = []
    fine_tune_steps: Positive = 300
    segmentation: bool = True


class ResourcesConfig(_Frozen):
    """Resources that one worker of a trial reserves on its node.

    Attributes:
        cpu: CPU cores.
        gpu: GPUs; a fraction lets several trials share one.
        custom: Amounts of other resources by Ray's names: custom ones of `ray start --resources`, or `memory` in bytes.
        labels: Labels that the node must have, as Ray label selectors: `VALUE`, `in(A, B)`, or either after `!`.
        fuse: Largest number of confirmation or ablation trials that a worker trains as one network, if they differ
            only in numbers such as the seed; `auto` does so on a GPU if a step is measured to be faster that way.
    """

    cpu: Annotated[int, Field(ge=1)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    custom: dict[str, Annotated[float, Field(gt=0)]] = {}
    labels: dict[str, str] = {}
    fuse: Positive | Literal["auto"] = 1


class WeightsFile(_Frozen):
    """A file of weights, as a study records it; YAML names the file alone.

    Attributes:
        weights: Path of the file: safetensors, or a state dict of PyTorch.
        sha256: Hash of its content, 16 hex digits.
    """

    weights: str
    sha256: str


class WeightsBaseline(_HasInputs):
    """An encoder with pretrained weights, which is probed like the study's own ones.

    Attributes:
        weights: Path of the file: safetensors, or a state dict of PyTorch.
        sha256: Hash of its content, which is added.
        encoder: Architecture.
        name: Name in results; null for the name of the file.
        width: Channels of the first stage; `conv4` only.
        input_size: Side in px to which a model of timm scales images; null for as they are. If it is left out, the side
            that timm names for the model.
        mean: Mean per channel by which a model of timm normalizes images in [0, 1]; empty for timm's.
        std: Standard deviation per channel; empty for timm's.
    """

    weights: str
    sha256: str
    encoder: EncoderName
    name: Name
    width: Annotated[int, Field(ge=1, le=1024)] = 24
    input_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    mean: list[float] = []
    std: list[Annotated[float, Field(gt=0)]] = []
