"""StudyConfig: what a study is, frozen once it is made; `study.config.loading` reads it and `study.config.validation` judges it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from search_spaces import DEFAULTS, SPACES, Space, parse_domain
from search_spaces.ablations import Comparison, Levels, ablation, changed
from study.config import strict_yaml
from trainables import spelling
from trainables.errors import ConfigError
from trainables.tasks import TASKS
from trainables.trial import TrialConfig

TaskName = Literal["rotation", "context_encoder", "simclr", "context_prediction"]
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Positive = Annotated[int, Field(ge=1)]
DesignName = Literal[
    "leave_one_out",
    "add_one_in",
    "pairs",
    "strength",
    "size_by_strength",
    "steps_by_strength",
    "factorial",
    "screening",
    "cures",
    "together",
]
OpName = Literal["crop_resize", "flip", "translate", "color_jitter", "gray", "blur", "erase", "noise"]

# Fields of a trial that a user may set for all trials of a task, or search over.
TUNABLE = ("optimizer", "lr", "weight_decay", "warmup_fraction", "batch_size", "augmentation_strength")


RENAMED_WITHIN = ("defaults", "task_options", "ablate")  # sections, beside search.space, that name ops and options


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderConfig(_Frozen):
    """The encoder that all tasks share; `width` is conv4's alone."""

    name: Literal["conv4", "resnet18", "resnet50"] = "conv4"
    width: Annotated[int, Field(ge=1, le=1024)] = 24


class SearchConfig(_Frozen):
    """Search, per task.

    num_samples: trials per task; for `grid`, points of each continuous hyperparameter.
    metric: what is searched for, taken at a trial's last report; `auto` is `probe/linear` (probe validation) where the
        data set has labels, the task's primary validation metric otherwise.
    grace_period: steps before a scheduler may stop a trial; null for a quarter of the budget.
    chance_patience: steps after which a trial that is still at chance is stopped; null for half the budget, 0 never.
    space: hyperparameters to search in place of a task's own; `{TASK: {...}}` for one task alone.
    """

    num_samples: Positive = 8
    algorithm: Literal["optuna", "random", "grid"] = "optuna"
    scheduler: Literal["asha", "none", "pbt"] = "asha"
    metric: str = "auto"
    mode: Literal["max", "min"] | None = None
    grace_period: Positive | None = None
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    chance_patience: Annotated[int, Field(ge=0)] | None = None
    space: dict[str, JsonValue] = {}


class ConfirmConfig(_Frozen):
    """The best `top_k` configurations of each task again, each with `seeds` fresh seeds."""

    top_k: Positive = 2
    seeds: Positive = 3


class AblateConfig(_Frozen):
    """Ablations around each task's confirmed configuration, every cell with the same fresh seeds; none by default.

    designs: names of designs of `search_spaces.ablations`.
    margin: a difference of the metric, in its own units, that is too small to matter: the equivalence margin.
    base: values that the confirmed configuration gets first; `{TASK: {...}}` for one task alone.
    strengths, sizes, steps, ops, factors, cures: what the designs vary; null sizes are all images, null ops those of
        the policy, null cures a task's own. `{TASK: {...}}` among the cures is for one task alone.
    """

    designs: list[DesignName] = []
    seeds: Positive = 5
    margin: Annotated[float, Field(gt=0)] = 0.01
    base: dict[str, JsonValue] = {}
    strengths: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)] = [0.0, 0.5, 1.0]
    sizes: Annotated[list[Positive | None], Field(min_length=1)] = [None]
    steps: list[Positive] = []
    ops: list[OpName] | None = None
    factors: dict[str, list[JsonValue]] = {}
    cures: dict[str, JsonValue] | None = None


class EvaluateConfig(_Frozen):
    """The final evaluation of the confirmed encoders.

    datasets: on which they are probed; null for the one trained on, if it has labels or masks.
    probe_layers: `all` probes every stage of the encoder; the last is often not the best of tasks such as rotation
        (Gidaris 2018) and context prediction (Kolesnikov 2019).
    labels_per_class: numbers of labeled images of a class, null for all, from which a probe on frozen features,
        fine-tuning for `fine_tune_steps` and supervised training from scratch are compared; none by default.
    """

    datasets: list[str] | None = None
    probe_layers: Literal["last", "all"] = "last"
    labels_per_class: list[Positive | None] = []
    fine_tune_steps: Positive = 300


class ResourcesConfig(_Frozen):
    """What one worker of a trial takes of its node; a fraction of a GPU is shared by several trials.

    custom: amounts of other resources by Ray's name for them: those of `ray start --resources`, or `memory` in bytes.
    labels: labels that its node must have, as in Ray's label selectors: `VALUE`, `in(A, B)`, or either after `!`.
    """

    cpu: Annotated[int, Field(ge=1)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    custom: dict[str, Annotated[float, Field(gt=0)]] = {}
    labels: dict[str, str] = {}


class StudyConfig(_Frozen):
    """A whole study. Field names are those of YAML, of `--set` and of the code."""

    name: Name
    tasks: Annotated[list[TaskName], Field(min_length=1)] = [*TASK_NAMES]
    dataset: str = "shapes"
    data_root: str | None = None
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    resize: Literal["crop", "squash"] = "crop"  # how a photograph becomes a square
    max_train: Annotated[int, Field(ge=2)] | None = None
    n_images: Positive | None = None
    on_bad_image: Literal["stop", "skip"] = "stop"
    seed: Annotated[int, Field(ge=0, lt=2**20)] = 0
    encoder: EncoderConfig = EncoderConfig()
    budget_steps: Positive = 500
    report_every: Positive = 25
    defaults: dict[TaskName, dict[str, JsonValue]] = {}
    task_options: dict[TaskName, dict[str, JsonValue]] = {}
    search: SearchConfig = SearchConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    ablate: AblateConfig = AblateConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    resources: ResourcesConfig = ResourcesConfig()
    workers: Positive = 1
    max_failures: Annotated[int, Field(ge=0)] = 2
    storage: str | None = None
    tracking_uri: str | None = None
    simulate: bool = False

    def base_trial(self, task: TaskName, phase: str) -> TrialConfig:
        """Return the task's configuration before any search. Raises ConfigError for a value it does not allow."""
        fields = {**DEFAULTS[task], **self.defaults.get(task, {})}
        return TrialConfig(
            phase=phase,
            task=task,
            seed=self.seed,
            dataset=self.dataset,
            n_images=self.n_images,
            data_seed=self.seed,
            encoder=self.encoder.name,
            width=self.encoder.width,
            budget_steps=self.budget_steps,
            report_every=min(self.report_every, self.budget_steps),
            options=self.task_options.get(task, {}),
            workers=self.workers,
            **fields,
        )

    def space(self, task: TaskName) -> Space:
        """Return the task's search space, from the configuration where it names one, else its own."""
        own = for_task(self.search.space, task, "search.space")
        if not own:
            return SPACES[task]
        return {str(name): parse_domain(str(name), value) for name, value in own.items()}

    def ablation(self, confirmed: TrialConfig) -> tuple[list[TrialConfig], list[Comparison]]:
        """Return the cells of the ablations around a confirmed configuration, and what each is compared with.

        Raises ConfigError where a level is none that the task allows.
        """
        settings, task = self.ablate, confirmed.task
        if not settings.designs:
            return [], []
        cures: dict[str, Any] | None = settings.cures
        if cures is not None:
            cures = for_task(cures, task, "ablate.cures")
            for name, values in cures.items():
                if not isinstance(values, list):
                    raise ConfigError(f"ablate.cures.{name} = {values!r}: must be a list of values to try")
        levels = Levels(settings.strengths, settings.sizes, settings.ops, settings.factors, cures, settings.steps)
        try:
            base = changed(confirmed, for_task(settings.base, task, "ablate.base"))
            return ablation(base, settings.designs, levels)
        except ConfigError as error:
            message = str(error)
            raise ConfigError(message if message.startswith("ablate.") else f"ablate, {task}: {message}") from error

    @property
    def grace_period(self) -> int:
        """Steps before a scheduler may stop a trial."""
        return min(self.search.grace_period or max(1, self.budget_steps // 4), self.budget_steps)

    @property
    def chance_patience(self) -> int:
        """Steps after which a trial at chance is stopped; 0 never."""
        patience = self.search.chance_patience
        return self.budget_steps // 2 if patience is None else patience

    @property
    def config_hash(self) -> str:
        """Twelve hex digits over what determines results; where files lie and run does not count."""
        content = self.model_dump(mode="json", exclude={"data_root", "storage", "tracking_uri", "resources"})
        content |= {name: spelling.former(content[name]) for name in RENAMED_WITHIN}
        content["search"]["space"] = spelling.former(content["search"]["space"])
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        """Return the whole configuration as YAML, in the order of the fields."""
        return strict_yaml.dump(self.model_dump(mode="json"))


def for_task(values: Mapping[str, Any], task: str, key: str) -> dict[str, Any]:
    """Return the values for all tasks with those under the task's name over them."""
    inner = values.get(task, {})
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{key}.{task} = {inner!r}: must be a mapping of names to values")
    return {name: value for name, value in values.items() if name not in TASKS} | dict(inner)
