"""StudyConfig: the schema of a study, immutable once built.

`study.config.loading` reads it from YAML, and `study.config.validation` makes the checks that types alone cannot.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue

from search_spaces import SPECS, Space
from search_spaces.ablations import Comparison, Levels, ablation, changed
from study.config import strict_yaml
from study.config.names import Name, Positive, TaskName
from study.config.plugins import PluginConfig
from study.config.presets import editor_line
from study.config.sections import (
    FROZEN,
    AblateConfig,
    ConfirmConfig,
    EncoderConfig,
    EvaluateConfig,
    ResourcesConfig,
    SearchConfig,
    WeightsBaseline,
    WeightsFile,
)
from study.config.spaces import for_task, search_space
from trainables import spelling
from trainables.data.request import FORMER
from trainables.errors import ConfigError
from trainables.tasks import TASKS
from trainables.trial import TrialConfig

# Settings added after the first studies. With these values, a study keeps the hash that it had without them.
_HASH_NEUTRAL_DEFAULTS: dict[str, Any] = {
    "plugins": [],
    "stack": "first",
    "window": None,
    "on_small_image": "stop",
    "group_pattern": None,
    "leak": None,
    "baselines": [],
    "init_weights": None,
}
# Settings whose default changed what studies do. A study keeps the rules that it began with, and one from before the
# setting, which has no record of it, keeps the former ones (`study.folder.as_begun`).
FORMER_RULES: dict[str, Any] = {"split_rules": FORMER, "probe_every": None}


class StudyConfig(BaseModel):
    r"""A whole study. YAML, `--set` and the code use the same field names.

    Attributes:
        name: Name of the study, of its folder and of its MLflow experiment.
        plugins: Modules and files that add tasks, encoders, data sets and more: `[package.module, ./my_task.py]`; and
            verdicts and sections of installed packages, by their names.
        tasks: Pretext tasks.
        dataset: Data set to train on, by name or as `folder:PATH`.
        data_root: Folder with the data sets.
        image_size: Side of the images of `dataset` in px; null for its default: 32, or 96 for VOC and folders. Other
            data sets in `evaluate.datasets` are read at their own default.
        resize: Whether a photograph is cropped or squashed to a square.
        stack: Pages that are read of a file with several: the first, all gray ones as channels, or each as an image.
        window: Values that become black and white in images of `dataset` with more than 8 bits, one pair or one per
            channel; null for percentiles of the training images, as in other data sets of `evaluate.datasets`.
        max_train: Training images to load at most; null for all.
        n_images: Images that the pretext tasks train on; null for all that are loaded.
        on_bad_image: Whether a broken image stops the study or is skipped.
        on_small_image: Whether an image smaller than `image_size` counts as broken or is enlarged, as always in a data
            set with masks.
        group_pattern: Regular expression that finds the group of an image of `dataset` in its path, such as `plate\d+`;
            images of one group are never on two sides of a split. null for independent images, or the groups of a
            manifest, as in other data sets of `evaluate.datasets`.
        leak: Near duplicates across splits: `stop` names them and ends, `move` puts them on one side, `allow` counts
            them; null moves them where the test split is drawn here, and allows them where it is given.
        split_rules: Rules by which files become splits: 2, or 1 for those of studies before version 0.2, which keep
            them. By 1, a validation folder joins the training images, and images without labels have a test split.
        seed: Seed of the search and of the data.
        encoder: The encoder that all tasks share.
        budget_steps: Optimizer steps per trial.
        report_every: Steps between two reports of a trial.
        probe_every: Steps between two reports that also measure the features: online probes and health. `auto` is a
            quarter of the budget, or the grace period if shorter, rounded down to a multiple of `report_every`; every
            report if fewer than two reports fit into it. null for every report, as in studies before version 0.2.
        budget_hours: Time that the study may take: when it begins, its seeds, all its steps and its search trials are
            set to what fits, and at the end of the time it stops with a report. Needs `workers: 1`. null for the
            settings as they are.
        defaults: Values per task of hyperparameters that the search does not vary, and of `augmentation`.
        task_options: Options of each task where they differ from its defaults.
        search: The hyperparameter search.
        confirm: The confirmation on fresh seeds.
        ablate: The ablations.
        evaluate: The final evaluation.
        resources: Resources that one worker reserves on its node.
        workers: Workers per trial, which share its batches.
        max_failures: Restarts of a trial after a crash, each from its checkpoint.
        storage: Folder or URI for checkpoints that every node reaches; null for the study's folder.
        tracking_uri: MLflow tracking store; null for MLFLOW_TRACKING_URI or a local default.
        baselines: Pretrained weights, probed like the encoders of the study: `[{weights: FILE, encoder: timm/NAME,
            name: NAME}]`.
        init_weights: File of weights from which pre-training starts; null for random weights.
        simulate: Whether trials are simulated and train nothing.
    """

    model_config = FROZEN

    name: Name
    plugins: list[PluginConfig] = []
    tasks: Annotated[list[TaskName], Field(min_length=1)] = [*TASKS.built_in]
    dataset: str = "shapes"
    data_root: str | None = None
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    resize: Literal["crop", "squash"] = "crop"
    stack: Literal["first", "channels", "pages"] = "first"
    window: tuple[float, ...] | tuple[tuple[float, ...], ...] | None = None
    max_train: Annotated[int, Field(ge=2)] | None = None
    n_images: Positive | None = None
    on_bad_image: Literal["stop", "skip"] = "stop"
    on_small_image: Literal["stop", "enlarge"] = "stop"
    group_pattern: str | None = None
    leak: Literal["stop", "move", "allow"] | None = None
    split_rules: Literal[1, 2] = 2
    seed: Annotated[int, Field(ge=0, lt=2**20)] = 0
    encoder: EncoderConfig = EncoderConfig()
    budget_steps: Positive = 500
    report_every: Positive = 25
    probe_every: Positive | Literal["auto"] | None = "auto"
    budget_hours: Annotated[float, Field(gt=0, le=100_000)] | None = None
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
    baselines: list[WeightsBaseline] = []
    init_weights: WeightsFile | None = None
    simulate: bool = False

    def base_trial(self, task: TaskName, phase: str) -> TrialConfig:
        """Return a task's configuration before any search.

        Raises:
            ConfigError: The configuration sets a value that the task does not allow.
        """
        fields = {**SPECS[task].defaults, **self.defaults.get(task, {})}
        return TrialConfig(
            phase=phase,
            task=task,
            seed=self.seed,
            dataset=self.dataset,
            n_images=self.n_images,
            data_seed=self.seed,
            encoder=self.encoder.name,
            width=self.encoder.width,
            **self.encoder.inputs,
            weights=self.init_weights.sha256 if self.init_weights else "",
            budget_steps=self.budget_steps,
            report_every=min(self.report_every, self.budget_steps),
            probe_every=self.steps_between_probes,
            options=self.task_options.get(task, {}),
            workers=self.workers,
            **fields,
        )

    def space(self, task: TaskName) -> Space:
        """Return a task's search space: its own, or the configured one instead or in addition."""
        return search_space(self.search.space, task)

    def ablation(self, confirmed: TrialConfig) -> tuple[list[TrialConfig], list[Comparison]]:
        """Return the ablation cells around a confirmed configuration, and their comparisons.

        Raises:
            ConfigError: A level is not one that the task allows.
        """
        settings, task = self.ablate, confirmed.task
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
    def steps_between_probes(self) -> int | None:
        """Steps between two reports that measure the features; None for every report."""
        if self.probe_every != "auto":
            return self.probe_every
        report_every = min(self.report_every, self.budget_steps)
        reports = min(self.budget_steps // 4, self.grace_period) // report_every
        return reports * report_every if reports > 1 else None

    @property
    def chance_patience(self) -> int:
        """Steps after which a trial at chance is stopped; 0 for never."""
        patience = self.search.chance_patience
        return self.budget_steps // 2 if patience is None else patience

    @property
    def config_hash(self) -> str:
        """Hash, in twelve hex digits, of every setting that affects results; locations and resources do not."""
        left_out = {"data_root", "storage", "tracking_uri", "resources", "split_rules", "budget_hours"}
        if self.probe_every in ("auto", FORMER_RULES["probe_every"]):
            left_out.add("probe_every")
        content = self.model_dump(mode="json", exclude=left_out)
        content = spelling.with_former_names(content)
        if content["evaluate"]["segmentation"]:
            del content["evaluate"]["segmentation"]  # studies from before this setting keep their hash
        if content["leak"] == "allow":  # as all studies from before this setting, which it can therefore resume
            content["leak"] = None
        for name in [name for name in EncoderConfig.INPUTS if not content["encoder"][name]]:
            del content["encoder"][name]
        for each in filter(None, [*content["baselines"], content["init_weights"]]):
            del each["weights"]  # the path, which may change
        for name, value in _HASH_NEUTRAL_DEFAULTS.items():
            if content[name] == value:
                del content[name]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        """Return the whole configuration as YAML, in the order of the fields, after a line for editors."""
        return editor_line() + strict_yaml.dump(self.model_dump(mode="json"))
