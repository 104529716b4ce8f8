"""Library of real trials, each trained with its budget and with twice the budget: the ruler of every verdict.

The rules of `analysis.convergence` are fitted on trials of two data sets and tested on those of the others. A trial is
trained by the product's own loop; a second network of the same configuration is trained for twice the steps, with its
own learning rate schedule. Both, and the untrained network, are then measured on images that the trial never saw.

    python tests/benchmarks/trial_library.py make --data-root DIR --to DIR      # resumes; --share 0/2 for one of two
    python tests/benchmarks/trial_library.py assemble --to DIR

The library is a parquet file with one row per trial: its configuration (`trial`), facts and reports as JSON; `steps`,
int64 [R]; `samples/NAME`, float16 [R, N], the validation values of each image (the product looks at the first
`product_images`); `gold/NAME/{untrained,end,double}`, means over the unseen images, with the standard errors of both
changes; `probe/{untrained,end,double}`, packed bits of the unseen images that a linear probe classifies correctly.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from search_spaces import SPECS
from trainables.data import shapes
from trainables.data.load import load_splits
from trainables.data.table import ImageTable, Splits, as_tensor
from trainables.encoders.calibration import recalibrated
from trainables.probes.features import extract_features
from trainables.probes.linear import fit_linear_probe
from trainables.tasks import PretextTask
from trainables.training import monitor
from trainables.training.loop import Report, build_task, fit
from trainables.training.validation import MOST_DRAWS, SampleSizes, Validation, sample_sizes, standard_error
from trainables.trial import TrialConfig

LIBRARY = Path(__file__).parents[1] / "recorded" / "trial_library.parquet"
TASKS = ("rotation", "simclr", "context_encoder", "context_prediction")
DATASETS = ("cifar10", "fashion_mnist", "shapes", "cifar10", "fashion_mnist", "shapes", "voc2012")
IMAGE_SIZE = 32
KEPT_IMAGES = 256  # validation images whose values are kept; the first ones are those that the product looks at
GOLD_IMAGES = 2500
LONG = range(300, 420)
PROBE_IMAGES = 1000  # labeled images that a probe is fitted to, and as many that it is measured on


def design(count: int) -> list[TrialConfig]:
    """Return the configurations, the same ones whatever `count`; any first part is balanced.

    Those of LONG are long enough, at usual learning rates, for many to converge.
    """
    rng = np.random.default_rng(2026)
    return [_longer(index, trial) if index in LONG else trial for index, trial in _drawn(count, rng)]


def _drawn(count: int, rng: np.random.Generator) -> list[tuple[int, TrialConfig]]:
    return [(index, _draw(index, rng)) for index in range(count)]


def _longer(index: int, trial: TrialConfig) -> TrialConfig:
    rng = np.random.default_rng([2026, index])
    share = 1 if trial.task in ("rotation", "context_prediction") else 2  # the others' steps take longer
    reports = int(rng.choice([5, 12, 20], p=[0.4, 0.4, 0.2]))
    every = round(int(rng.choice([400, 800, 1200], p=[0.4, 0.4, 0.2])) / share / reports)
    lr = SPECS[trial.task].defaults["lr"] * float(rng.choice([0.3, 1, 3]))
    n_images = min(trial.n_images or 1000, 1000)
    return trial.replace(budget_steps=reports * every, report_every=every, lr=lr, n_images=n_images, width=8)


def _draw(index: int, rng: np.random.Generator) -> TrialConfig:
    task, dataset = TASKS[index % len(TASKS)], DATASETS[index // len(TASKS) % len(DATASETS)]
    sizes = (100, 200) if dataset == "voc2012" else (100, 200, 1000, 4000)
    n_images = int(rng.choice(sizes))
    lr = SPECS[task].defaults["lr"] * float(
        rng.choice([3e-4, 0.03, 0.1, 0.3, 1, 3, 10], p=[0.06, 0.1, 0.1, 0.16, 0.33, 0.17, 0.08])
    )
    strength = float(rng.choice([0, 0.5, 1], p=[0.35, 0.4, 0.25]))
    budget = int(rng.choice([50, 100, 200, 400], p=[0.2, 0.35, 0.3, 0.15]))
    reports = int(rng.choice([2, 5, 12, 20], p=[0.1, 0.4, 0.4, 0.1]))
    width = int(rng.choice([4, 8, 16], p=[0.2, 0.65, 0.15]))
    return TrialConfig(
        "library",
        task,
        seed=index,
        data_seed=index,
        dataset=dataset,
        n_images=n_images,
        width=width,
        optimizer=SPECS[task].defaults["optimizer"],
        lr=lr,
        weight_decay=SPECS[task].defaults["weight_decay"],
        batch_size=32,
        augmentation=SPECS[task].defaults["augmentation"],
        augmentation_strength=strength,
        budget_steps=reports * round(budget / reports),
        report_every=round(budget / reports),
    )


class Which(NamedTuple):
    """Which trials one process makes: those of its share, from `first` on and then the others, for some minutes."""

    count: int
    share: int
    of: int
    first: int
    minutes: float


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of one data set: those that trials may use, and those that only the gold answers read."""

    train: ImageTable
    validation: ImageTable
    gold: ImageTable

    def for_trial(self, trial: TrialConfig) -> Splits:
        """Return the splits of a study on `n_images` training images, with a quarter as many for validation."""
        assert trial.n_images is not None
        train = self.train.subset(trial.n_images, trial.data_seed)
        validation = self.validation.subset(min(len(self.validation), max(25, trial.n_images // 4)), trial.data_seed)
        labeled = train.labels is not None
        return Splits(train, validation, train if labeled else None, validation if labeled else None, self.gold)


@functools.cache
def images(dataset: str, root: Path) -> Images:
    """Load a data set; the gold images are the test part and validation images that no trial uses."""
    if dataset == "shapes":
        splits = load_splits(dataset, root=None, image_size=IMAGE_SIZE, max_train=6300)
        return Images(splits.pretext_train, splits.pretext_validation, shapes.generate(GOLD_IMAGES, split="test"))
    splits = load_splits(dataset, root=root, image_size=IMAGE_SIZE)
    held_out, test = splits.pretext_validation, splits.test
    used = 50 if dataset == "voc2012" else 1000
    rest = held_out.take(np.arange(used, len(held_out)))
    gold = dataclasses.replace(
        test,
        images=np.concatenate([test.images, rest.images])[:GOLD_IMAGES],
        labels=None
        if test.labels is None or rest.labels is None
        else np.concatenate([test.labels, rest.labels])[:GOLD_IMAGES],
        masks=None,
        mask_names=(),
    )
    plain = [table.without_masks() for table in (splits.pretext_train, held_out)]
    return Images(plain[0], plain[1].take(np.arange(used)), gold)


def kept_sample_sizes(trial: TrialConfig, n_train: int, n_validation: int) -> SampleSizes:
    """Return sample sizes with up to KEPT_IMAGES validation images; a study itself uses the first of them."""
    chosen = sample_sizes(trial, n_train, n_validation)
    kept = min(KEPT_IMAGES, n_validation) // chosen.batch * chosen.batch
    return dataclasses.replace(chosen, images=max(chosen.images, kept))


def make_trial(trial: TrialConfig, available: Images) -> dict[str, Any]:
    """Train a trial with its budget and with twice the budget, and return its row of the library."""
    splits = available.for_trial(trial)
    monitor.sample_sizes = kept_sample_sizes
    started = time.perf_counter()
    reports: list[dict[str, float]] = []
    states: dict[str, dict[str, Any]] = {}
    facts: dict[str, Any] = {}

    def record(report: Report) -> None:
        reports.append({"step": report.step, **report.metrics})
        facts.update(report.facts)
        states["untrained" if report.step == 0 else "end"] = copy.deepcopy(report.state())

    fit(trial, splits, record)
    double = trial.replace(budget_steps=2 * trial.budget_steps, report_every=2 * trial.budget_steps)
    fit(double, splits, lambda report: states.update(double=copy.deepcopy(report.state())))
    product = sample_sizes(trial, len(splits.pretext_train), len(splits.pretext_validation))
    row: dict[str, Any] = {
        "trial": trial.to_json(),
        "facts": json.dumps(facts),
        "reports": json.dumps(reports),
        "product_images": product.images,
        "predictions_per_image": facts["n_validation"] // facts["n_validation_images"],
    }
    history = states["end"]["validation"]
    row["steps"] = history.pop("steps").tolist()
    for name, values in history.items():
        row[f"samples/{name}"] = values.numpy().astype(np.float16).tobytes()
    row |= _gold(trial, splits, available.gold, {name: states[name]["task"] for name in ("untrained", "end", "double")})
    return row | {"seconds": time.perf_counter() - started}


def _gold(
    trial: TrialConfig, splits: Splits, gold: ImageTable, networks: dict[str, dict[str, Tensor]]
) -> dict[str, Any]:
    """Return each network's gold levels, the errors of their changes, and which gold images its probe gets right."""
    device, levels, row = torch.device("cpu"), {}, {}
    batch = sample_sizes(
        trial, len(splits.pretext_train), len(splits.pretext_validation)
    ).batch  # SimCLR's loss depends on it
    draws = max(1, min(MOST_DRAWS, 1000 // len(gold)))
    calibration = min(256, len(splits.pretext_train))
    for name, state in networks.items():
        task = build_task(trial, splits.pretext_train.image_size)
        task.fit_to(as_tensor(splits.pretext_train.images))
        task.load_state_dict(state)
        chosen = SampleSizes(len(gold) // batch * batch, batch, draws, calibration)
        levels[name] = Validation(task, splits.pretext_train, gold, chosen, device).per_image()
        if gold.labels is not None:
            row[f"probe/{name}"] = probe_hits(task, splits, gold)
    for metric in levels["end"]:
        start, end, double = (levels[name][metric] for name in ("untrained", "end", "double"))
        row |= {f"gold/{metric}/{name}": float(levels[name][metric].mean()) for name in networks}
        row |= {
            f"gold/{metric}/gain_se": standard_error(end - start),
            f"gold/{metric}/more_se": standard_error(double - end),
        }
    return row


def probe_hits(task: PretextTask, splits: Splits, gold: ImageTable) -> bytes | None:
    train, validation = splits.probe_train, splits.probe_validation
    assert train is not None
    assert validation is not None
    encoder = recalibrated(task.encoder, as_tensor(train.images[:512]))
    tables = [train.take(np.arange(min(PROBE_IMAGES, len(train)))), validation, gold.take(np.arange(PROBE_IMAGES))]
    x = [extract_features(encoder, as_tensor(table.images), device=torch.device("cpu")) for table in tables]
    y = [as_tensor(table.labels) for table in tables if table.labels is not None]
    probe = fit_linear_probe(x[0], y[0], x[1], y[1], train.n_classes)
    if probe is None or not torch.isfinite(x[2]).all():
        return None
    return np.packbits((probe(x[2]).argmax(dim=1) == y[2]).numpy()).tobytes()


def make(root: Path, to: Path, library: Path, which: Which) -> None:
    """Make trials that are neither in the folder nor in the library yet."""
    torch.set_num_threads(1)
    deadline = time.time() + 60 * which.minutes
    known = set(pd.read_parquet(library, columns=["index"])["index"]) if library.exists() else set()
    trials = list(enumerate(design(which.count)))
    for index, trial in trials[which.first :] + trials[: which.first]:
        path = to / f"{index:04}.json"
        if index % which.of != which.share or index in known or path.exists() or time.time() > deadline:
            continue
        row = make_trial(trial, images(trial.dataset, root))
        row = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(row))
        part.rename(path)
        print(index, trial.task, trial.dataset, f"{row['seconds']:.0f} s", flush=True)


def assemble(to: Path, library: Path) -> None:
    """Add the trials of the folder to the library, one row per trial."""
    rows = []
    for path in sorted(to.glob("*.json")):
        row = json.loads(path.read_text())
        binary = {name for name in row if name.startswith(("samples/", "probe/")) and row[name] is not None}
        values = {name: bytes.fromhex(value) if name in binary else value for name, value in row.items()}
        rows.append({"index": int(path.stem), **values})
    parts = [pd.read_parquet(library)] if library.exists() else []
    found = pd.concat([*parts, pd.DataFrame(rows)], ignore_index=True).drop_duplicates("index").sort_values("index")
    found.to_parquet(library, compression="zstd", index=False)
    print(f"{len(found)} trials, {library.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "assemble"])
    parser.add_argument("--to", type=Path, required=True, help="folder of the trials made so far")
    parser.add_argument("--data-root", type=Path, help="root of cifar10, FashionMNIST and VOCdevkit")
    parser.add_argument("--library", type=Path, default=LIBRARY, help="parquet file of the trials made before")
    parser.add_argument("--count", type=int, default=520)
    parser.add_argument("--share", default="0/1", help="I/N: this process makes every N-th trial, from I on")
    parser.add_argument("--first", type=int, default=0, help="index of the trial to begin with")
    parser.add_argument("--minutes", type=float, default=1e6)
    arguments = parser.parse_args()
    if arguments.command == "assemble":
        assemble(arguments.to, arguments.library)
        return
    arguments.to.mkdir(parents=True, exist_ok=True)
    share, of = map(int, arguments.share.split("/"))
    which = Which(arguments.count, share, of, arguments.first, arguments.minutes)
    make(arguments.data_root, arguments.to, arguments.library, which)


if __name__ == "__main__":
    main()
