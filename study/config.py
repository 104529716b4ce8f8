"""StudyConfig: what a study is. Loaded from a preset or a YAML file, changed by `--set`, checked, and frozen."""

from __future__ import annotations

import copy
import hashlib
import importlib.resources
import json
import re
from collections.abc import Collection, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from search_spaces import DEFAULTS, SPACES, Space, parse_domain
from search_spaces.ablations import POLICY_DESIGNS, Comparison, Levels, ablation, changed
from study import plain_yaml
from trainables.augmentation import validate_policy
from trainables.errors import ConfigError, printable, suggestion, without_secrets
from trainables.tasks import TASKS, build_options
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
OpName = Literal["crop_resize", "flip", "translate", "color_jitter", "grey", "blur", "erase", "noise"]

PRESETS = importlib.resources.files("study") / "presets"
SERIES = PRESETS / "series"
LONGEST_MESSAGE = 1000  # characters
_NO_KEYS = ("[key]", "dict", "list", "str", "int", "float", "bool")  # what pydantic adds to where a value lies
# Fields of a trial that a user may set for all trials of a task, or search over.
TUNABLE = ("optimizer", "lr", "weight_decay", "warmup_fraction", "batch_size", "augmentation_strength")


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
    """

    datasets: list[str] | None = None
    probe_layers: Literal["last", "all"] = "last"


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
        own = _for_task(self.search.space, task, "search.space")
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
            cures = _for_task(cures, task, "ablate.cures")
            for name, values in cures.items():
                if not isinstance(values, list):
                    raise ConfigError(f"ablate.cures.{name} = {values!r}: must be a list of values to try")
        levels = Levels(settings.strengths, settings.sizes, settings.ops, settings.factors, cures, settings.steps)
        try:
            base = changed(confirmed, _for_task(settings.base, task, "ablate.base"))
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
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        """Return the whole configuration as YAML, in the order of the fields."""
        return plain_yaml.dump(self.model_dump(mode="json"))


def _for_task(values: Mapping[str, Any], task: str, key: str) -> dict[str, Any]:
    """Return the values for all tasks with those under the task's name over them."""
    inner = values.get(task, {})
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{key}.{task} = {inner!r}: must be a mapping of names to values")
    return {name: value for name, value in values.items() if name not in TASKS} | dict(inner)


def preset_names() -> list[str]:
    """Return the names of the built-in presets that are one study."""
    return _names_in(PRESETS)


def series_names() -> list[str]:
    """Return the names of the built-in presets that are a series of studies."""
    return _names_in(SERIES)


def _names_in(folder: Traversable) -> list[str]:
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def load_config(
    source: str, overrides: list[str] | None = None, changes: Mapping[str, Any] | None = None
) -> StudyConfig:
    """Return the StudyConfig of a preset or YAML file, with `KEY=VALUE` overrides and then `changes` applied.

    Raises ConfigError, in one line that names the key, the value and what is allowed.
    """
    return config_of(read_source(source), overrides, changes)


def config_of(
    content: dict[str, Any], overrides: list[str] | None = None, changes: Mapping[str, Any] | None = None
) -> StudyConfig:
    """Return the StudyConfig of plain data, with overrides and then `changes` applied.

    Where these choose among the tasks, what the data set for the others is left out. Raises ConfigError, in one line.
    """
    try:
        chosen = (changes or {}).get("tasks") or _overridden(content, overrides or []).get("tasks")
        if chosen != content.get("tasks") and isinstance(chosen, list):
            content = _without(content, {task for task in TASK_NAMES if task not in chosen})
        content = _overridden(content, overrides or [])
    except ConfigError as error:
        raise _one_line(error) from error
    content.update({key: value for key, value in (changes or {}).items() if value is not None})
    return check_config(content)


def _without(content: dict[str, Any], tasks: Collection[str]) -> dict[str, Any]:
    """Return plain data without the settings of some tasks, at any depth."""
    return {
        key: _without(value, tasks) if isinstance(value, dict) else value
        for key, value in content.items()
        if key not in tasks
    }


def simulated(config: StudyConfig) -> StudyConfig:
    """Return the same study on simulated trials, under a name of its own."""
    return check_config(config.model_dump(mode="json") | {"name": f"{config.name[:53]}-simulated", "simulate": True})


def check_config(content: Mapping[str, Any]) -> StudyConfig:
    """Return the StudyConfig of plain data. Raises ConfigError, in one line, for the first thing wrong with it."""
    try:
        return _checked(content)
    except ConfigError as error:
        raise _one_line(error) from error


def _checked(content: Mapping[str, Any]) -> StudyConfig:
    try:
        config = StudyConfig.model_validate(content)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error)) from error
    for key in ("storage", "tracking_uri"):
        uri = getattr(config, key) or ""
        if without_secrets(uri) != uri:
            raise ConfigError(
                f"{key} = {uri!r}: a password here would be written to the study's files; leave {key} out and set "
                "MLFLOW_TRACKING_URI, or give it to MLflow or to the cloud's client by their own environment variables"
            )
    for name in config.resources.custom:
        if name.lower() in ("cpu", "gpu"):
            raise ConfigError(f"resources.custom.{name}: this is resources.{name.lower()}")
    for task in config.tasks:
        if config.tasks.count(task) > 1:
            raise ConfigError(f"tasks = {config.tasks}: {task!r} is named twice")
        _check_task(config, task)
    mappings = (config.search.space, config.ablate.base, config.ablate.cures or {})
    named = {*config.defaults, *config.task_options, *(key for values in mappings for key in values if key in TASKS)}
    for other in sorted(named - {*config.tasks}):
        raise ConfigError(f"settings for task {other!r}, which is not among tasks = {', '.join(config.tasks)}")
    return config


def _check_task(config: StudyConfig, task: TaskName) -> None:
    """Check a task's defaults, options and search space as its trials will, before anything runs."""
    defaults = config.defaults.get(task, {})
    for name in defaults:
        if name not in (*TUNABLE, "augmentation"):
            raise ConfigError(
                f"defaults.{task}.{name}: no such setting; {suggestion(name, [*TUNABLE, 'augmentation'])}"
            )
    policy = defaults.get("augmentation", {})
    if not isinstance(policy, Mapping) or not all(isinstance(op, str) for op in policy):
        raise ConfigError(f"defaults.{task}.augmentation = {policy!r}: must be a mapping {{OP: MAGNITUDE}}")
    try:
        base = config.base_trial(task, "search")
        validate_policy(dict(base.augmentation))
    except ConfigError as error:
        message = str(error).removeprefix("trial.")
        is_default = re.split(r"[ .]", message, maxsplit=1)[0] in defaults
        raise ConfigError(f"defaults.{task}.{message}" if is_default else message) from error
    build_options(TASKS[task], dict(base.options))
    _check_ablation(config, base)
    for name, domain in config.space(task).items():
        for value in domain.grid(2):
            _check_value(task, base, name, value)


def _check_ablation(config: StudyConfig, base: TrialConfig) -> None:
    """Check the cells that a task's ablations would have around its default configuration, and that there are some."""
    settings, designs = config.ablate, {row.design for row in config.ablation(base)[1]}
    no_strength = _for_task(settings.base, base.task, "ablate.base").get("augmentation_strength") == 0
    for design in settings.designs:
        if design not in designs or (no_strength and design in POLICY_DESIGNS):
            strength = ", at augmentation_strength 0" if no_strength else ""
            raise ConfigError(
                f"ablate.designs: {design} has nothing to vary for {base.task} with the augmentation policy "
                f"{dict(base.augmentation)}{strength}; leave it out, or name other tasks"
            )


def _check_value(task: TaskName, base: TrialConfig, name: str, value: Any) -> None:
    try:
        if name.startswith("option/"):
            build_options(TASKS[task], {**dict(base.options), name.removeprefix("option/"): value})
        elif name.startswith("augmentation/"):
            validate_policy({name.removeprefix("augmentation/"): value})
        elif name in TUNABLE:
            base.replace(**{name: value})
        else:
            allowed = [*TUNABLE, "option/NAME", "augmentation/OP"]
            raise ConfigError(f"no such hyperparameter; {suggestion(name, allowed)}")
    except ConfigError as error:
        raise ConfigError(f"search.space.{name}: {error}") from error


def read_source(source: str) -> dict[str, Any]:
    """Return the plain data of a preset or YAML file. Raises ConfigError, in one line."""
    try:
        return _read(source)
    except ConfigError as error:
        raise _one_line(error) from error


def _read(source: str) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        try:
            if path.exists() and not path.is_file():
                raise ConfigError(f"{source}: not a file")  # a pipe would be waited for without end
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ConfigError(f"{source}: no such file") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{source}: not a text file in UTF-8 that can be read ({error})") from error
    elif source in (presets := [*preset_names(), *series_names()]):
        folder = PRESETS if source in preset_names() else SERIES
        text = (folder / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigError(f"{source!r} is neither a YAML file nor a preset; {suggestion(source, presets)}")
    try:
        content = plain_yaml.load(text)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: must hold `key: value` lines, not {content!r}")
    return content


def _overridden(content: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Return plain data with every `KEY=VALUE` applied."""
    changed = copy.deepcopy(dict(content))
    for override in overrides:
        _override(changed, override)
    return changed


def _override(content: dict[str, Any], override: str) -> None:
    """Apply `a.b.c=VALUE`, the value read as YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: must be KEY=VALUE, for example search.num_samples=8")
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        inner = place.get(parent)
        if inner is None:
            inner = place[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {parent} holds the value {inner!r}, which has no keys below it")
        place = inner
    try:
        place[last] = plain_yaml.load(value)
    except ConfigError as error:
        raise ConfigError(f"--set {key}: {error}") from error


def _explain(error: pydantic.ValidationError) -> str:
    """Return the first problem in one line: key, value, and what is allowed or the closest known key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in _NO_KEYS) or "the configuration"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {suggestion(str(first['loc'][-1]), _keys_beside(first['loc']))}"
    if first["type"] == "missing":
        return f"{key}: is missing"
    return f"{key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    model: Any = StudyConfig
    for part in location[:-1]:
        model = model.model_fields[part].annotation if part in model.model_fields else model
    return list(model.model_fields)


def _one_line(error: ConfigError) -> ConfigError:
    """Return the error in one line of some length; it may quote a key with a line break in it, or a book."""
    text = printable(" ".join(str(error).split()))
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[: LONGEST_MESSAGE // 2]} ... {text[-LONGEST_MESSAGE // 2 :]}"
    return ConfigError(text)
