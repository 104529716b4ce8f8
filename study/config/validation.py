"""Semantic validation of a configuration by itself, before any data is loaded.

`study.plan.feasibility` checks whether the configuration and the data fit together.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Mapping
from typing import Any

import pydantic

from analysis.records.phases import SEARCH
from study.config.names import MOST_TRIALS, MUTATED, TUNABLE, TaskName
from study.config.networks import check_network
from study.config.plugins import with_plugins
from study.config.schema import StudyConfig
from study.config.seeds import check_seeds
from study.config.spaces import for_task
from study.config.weights import with_weights
from trainables.augmentation import validate_policy
from trainables.errors import ConfigError, printable, suggestion, without_secrets
from trainables.spelling import with_current_names
from trainables.tasks import TASKS, build_options, check_ops
from trainables.trial import TrialConfig

MAX_MESSAGE_LENGTH = 1000  # characters
_TYPE_PARTS = (
    "[key]",
    "dict",
    "list",
    "list[int]",
    "str",
    "int",
    "constrained-int",
    "float",
    "bool",
)  # pydantic adds these to an error's location


def check_config(content: Mapping[str, Any]) -> StudyConfig:
    """Validate plain data and return it as a StudyConfig.

    Raises:
        ConfigError: The first problem, in one line that names the key, the value and what is allowed.
    """
    try:
        return _validated(content)
    except ConfigError as error:
        raise one_line(error) from error


def one_line(error: ConfigError) -> ConfigError:
    """Return the error with its message in one printable line of limited length.

    The original message may quote a key with line breaks or a value of any length.
    """
    text = printable(" ".join(str(error).split()))
    if len(text) > MAX_MESSAGE_LENGTH:
        text = f"{text[: MAX_MESSAGE_LENGTH // 2]} ... {text[-MAX_MESSAGE_LENGTH // 2 :]}"
    return ConfigError(text)


def _validated(content: Mapping[str, Any]) -> StudyConfig:
    content = with_weights(with_plugins(content))
    try:
        config = StudyConfig.model_validate(with_current_names(content))
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error)) from error
    _check_secrets(config)
    for name in config.resources.custom:
        if name.lower() in ("cpu", "gpu"):
            raise ConfigError(f"resources.custom.{name}: use resources.{name.lower()}")
    if config.search.scheduler == "pbt" and config.workers > 1:
        raise ConfigError(
            f"search.scheduler = 'pbt': its trials take over states from each other, which needs workers = 1, not "
            f"{config.workers}"
        )
    if config.budget_hours is not None and config.workers > 1:
        raise ConfigError(
            f"budget_hours = {config.budget_hours:g}: the time of trials with several workers, whose groups take long "
            f"to start, is not estimated, so it needs workers = 1, not {config.workers}"
        )
    if config.resources.gpu > 1 and config.resources.gpu % 1:
        raise ConfigError(f"resources.gpu = {config.resources.gpu}: Ray takes fractions of one GPU only; use 1, 2, ...")
    check_seeds(config)
    check_network(config.encoder)
    for task in config.tasks:
        if config.tasks.count(task) > 1:
            raise ConfigError(f"tasks = {config.tasks}: {task!r} occurs twice")
        _check_task(config, task)
    _check_settings_of_other_tasks(config)
    return config


def _check_secrets(config: StudyConfig) -> None:
    for key in ("storage", "tracking_uri"):
        uri = getattr(config, key) or ""
        if without_secrets(uri) != uri:
            raise ConfigError(
                f"{key} = {uri!r}: a password here would be written to the study's files; leave {key} out and set "
                "MLFLOW_TRACKING_URI, or pass it through the environment variables of MLflow or the cloud's client"
            )


def _check_settings_of_other_tasks(config: StudyConfig) -> None:
    """Raise ConfigError for settings of a task that the study does not run."""
    mappings = (config.search.space, config.ablate.base, config.ablate.cures or {})
    named = {*config.defaults, *config.task_options, *(key for values in mappings for key in values if key in TASKS)}
    for other in sorted(named - {*config.tasks}):
        raise ConfigError(f"settings for task {other!r}, which is not among tasks = {', '.join(config.tasks)}")


def _check_task(config: StudyConfig, task: TaskName) -> None:
    """Check a task's defaults, options, ablations and search space by building what its trials will use."""
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
        base = config.base_trial(task, SEARCH)
        validate_policy(dict(base.augmentation))
        check_ops(TASKS[task], dict(base.augmentation))
    except ConfigError as error:
        message = str(error).removeprefix("trial.")
        is_default = re.split(r"[ .]", message, maxsplit=1)[0] in defaults
        raise ConfigError(f"defaults.{task}.{message}" if is_default else message) from error
    build_options(TASKS[task], dict(base.options))
    _check_ablation(config, base)
    for name, domain in config.space(task).items():
        for value in domain.grid(2):
            _check_value(task, base, name, value)
    _check_search(config, task)


def _check_search(config: StudyConfig, task: TaskName) -> None:
    """Check that a task's space suits the algorithm and the scheduler of the search."""
    search, space = config.search, config.space(task)
    if search.scheduler == "pbt" and not space.keys() & set(MUTATED):
        raise ConfigError(
            f"search.scheduler = 'pbt': the search.space of {task} needs one of {', '.join(MUTATED)}, which it changes"
        )
    n_points = math.prod(len(domain.grid(search.num_samples)) for domain in space.values())
    if search.algorithm == "grid" and n_points > MOST_TRIALS:
        raise ConfigError(
            f"search.algorithm = 'grid': {n_points:,} trials of {task}, more than {MOST_TRIALS:,}; use a smaller "
            "search.num_samples or search.space, or the algorithm random"
        )


def _check_ablation(config: StudyConfig, base: TrialConfig) -> None:
    """Check that each ablation design has cells around a task's default configuration, and that they are valid.

    Without designs, the values that are set are checked one by one, as those of cures.
    """
    settings, designs = config.ablate, {row.design for row in config.ablation(base)[1]}
    for values in (settings.factors, settings.cures or {}) if not settings.designs else ():
        alone = settings.model_copy(update={"designs": ["cures"], "cures": values})
        config.model_copy(update={"ablate": alone}).ablation(base)
    no_strength = for_task(settings.base, base.task, "ablate.base").get("augmentation_strength") == 0
    no_cures = settings.cures is not None and not for_task(settings.cures, base.task, "ablate.cures")
    for design in settings.designs:
        if design == "cures" and no_cures:
            continue
        if design not in designs:
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
            policy = {name.removeprefix("augmentation/"): value}
            validate_policy(policy)
            check_ops(TASKS[task], policy)
        elif name in TUNABLE:
            base.replace(**{name: value})
        else:
            allowed = [*TUNABLE, "option/NAME", "augmentation/OP"]
            raise ConfigError(f"no such hyperparameter; {suggestion(name, allowed)}")
    except ConfigError as error:
        raise ConfigError(f"search.space.{name}: {error}") from error


def _explain(error: pydantic.ValidationError) -> str:
    """Return the first problem in one line: the key, the value, and what is allowed or the closest known key.

    A value of several types has one error for each type, and all of them say what is allowed.
    """
    errors = error.errors()
    first, key = errors[0], _key(errors[0]["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {suggestion(str(first['loc'][-1]), _sibling_keys(first['loc']))}"
    if first["type"] == "missing":
        return f"{key}: is missing"
    messages = dict.fromkeys(each["msg"] for each in errors if _key(each["loc"]) == key)
    return f"{key} = {first['input']!r}: {', or '.join(text[0].lower() + text[1:] for text in messages)}"


def _key(location: tuple[int | str, ...]) -> str:
    """Return the dotted key at which pydantic has found an error, without the names of types."""
    parts = [str(part) for part in location]
    named = [part for part in parts if part not in _TYPE_PARTS and not part.startswith(("tuple[", "literal["))]
    return ".".join(named) or "the configuration"


def _sibling_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the known keys of the section in which an unknown key was found."""
    model: Any = StudyConfig
    for part in location[:-1]:
        model = _section(model.model_fields[str(part)].annotation) if part in model.model_fields else model
    return list(model.model_fields)


def _section(annotation: Any) -> Any:
    """Return the model in a field's type: itself, in a list, or beside None."""
    inner = typing.get_args(annotation)
    return inner[0] if inner else annotation
