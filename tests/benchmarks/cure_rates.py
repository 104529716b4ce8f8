"""How often the cures that a verdict proposes help, on real images: the rates that the report prints with its advice.

Configurations that end badly are trained again with each proposed change alone, with the same seeds, and for twice the
steps, which is the cure to beat. A change helps if the interval of the paired difference over seeds and images lies
above 0: in the linear probe, or in the task's own metric, both on images that no trial saw.

    python -m tests.benchmarks.cure_rates make --data-root DIR --to DIR     # resumes
    python -m tests.benchmarks.cure_rates rates --to DIR
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.convergence import cell_verdicts
from analysis.data.frames import FrameBuilder
from analysis.records import FINISHED
from analysis.stats.crossed import crossed_mean
from search_spaces import SPECS
from tests.benchmarks.trial_library import GOLD_IMAGES, Images, images, probe_hits
from trainables.data.table import as_tensor
from trainables.training.loop import Report, build_task, fit
from trainables.training.validation import SampleSizes, Validation
from trainables.trial import TrialConfig

SEEDS = (0, 1, 2)
RECORDED = Path(__file__).parents[1] / "recorded" / "cure_rates.csv"  # what `rates` found, by configuration
MORE_STEPS = "twice the steps"
Changes = dict[str, dict[str, Any]]


def bases() -> Iterator[tuple[str, TrialConfig, Changes]]:
    """Yield a name, a configuration and the changes to try, for kinds of trouble and of images."""
    for dataset in ("cifar10", "fashion_mnist", "shapes"):
        for task in ("rotation", "context_prediction"):
            base = _trial(task, dataset, n_images=100, augmentation_strength=0.0, budget_steps=200)
            changes = {
                "stronger augmentation": {"augmentation_strength": 0.5},
                "more images": {"n_images": 400},
                "a smaller encoder": {"width": 4},
                "fewer steps": {"budget_steps": 80},
            }
            yield f"memorizes/{task}/{dataset}", base, changes
        base = _trial("simclr", dataset, n_images=400, augmentation_strength=0.0, budget_steps=100)
        changes = {
            "augmentation_strength 0.5": {"augmentation_strength": 0.5},
            "a third of the learning rate": {"lr": base.lr / 3},
            "three times the learning rate": {"lr": base.lr * 3},
        }
        yield f"identical-views/{dataset}", base, changes
        base = _trial("rotation", dataset, n_images=400, budget_steps=100, lr=2e-6)
        changes = {"three times the learning rate": {"lr": 6e-6}, "a hundred times the learning rate": {"lr": 2e-4}}
        yield f"too-slow/rotation/{dataset}", base, changes
        for task in SPECS:
            base = _trial(task, dataset, n_images=400, budget_steps=100, optimizer="sgd", lr=30.0)
            changes = {
                "a third of the learning rate": {"lr": 10.0},
                "a hundredth of the learning rate": {"lr": 0.3},
                "a longer warm-up": {"warmup_fraction": 0.4},
            }
            yield f"too-fast/{task}/{dataset}", base, changes
        for task in ("rotation", "simclr"):
            base = _trial(task, dataset, n_images=800, budget_steps=100)
            changes = {
                "stronger augmentation": {"augmentation_strength": 1.0},
                "three times the learning rate": {"lr": 3 * base.lr},
            }
            yield f"usual/{task}/{dataset}", base, changes


def _trial(task: str, dataset: str, **changes: Any) -> TrialConfig:
    settings = {**SPECS[task].defaults, "width": 8, "batch_size": 32, "report_every": 20, **changes}
    return TrialConfig("cures", task, dataset=dataset, **settings)


def cells() -> Iterator[tuple[str, str, TrialConfig]]:
    """Yield name, cell and configuration of every cell: the base, twice its steps, and each change."""
    for name, base, changes in bases():
        everything: Changes = {"base": {}, MORE_STEPS: {"budget_steps": 2 * base.budget_steps}, **changes}
        for cell, change in everything.items():
            yield name, cell, base.replace(cell=cell, **change)


def make(root: Path, to: Path) -> None:
    """Train every cell with every seed that is not there yet."""
    torch.set_num_threads(1)
    cheapest_first = sorted(cells(), key=lambda cell: cell[0].startswith("memorizes"))
    for (name, cell, config), seed in itertools.product(cheapest_first, SEEDS):
        trial = config.replace(seed=seed, data_seed=seed)
        path = to / f"{name.replace('/', '_')}__{cell.replace(' ', '-')}__{seed}.json"
        if path.exists():
            continue
        row = {"name": name, "cell": cell, "seed": seed} | _measure(trial, images(trial.dataset, root))
        part = path.with_suffix(".part")
        part.write_text(json.dumps(row))
        part.rename(path)
        print(path.stem, flush=True)


def _measure(trial: TrialConfig, available: Images) -> dict[str, Any]:
    splits = available.for_trial(trial)
    reports: list[dict[str, float]] = []
    last: list[Report] = []

    def record(report: Report) -> None:
        reports.append({"step": report.step, **report.metrics})
        last[:] = [report]

    fit(trial, splits, record)
    task = build_task(trial, splits.pretext_train.image_size)
    task.fit_to(as_tensor(splits.pretext_train.images))
    task.load_state_dict(last[0].state()["task"])
    chosen = SampleSizes(GOLD_IMAGES // 100 * 100, 100, 1, min(256, len(splits.pretext_train)))
    gold = Validation(task, splits.pretext_train, available.gold, chosen, torch.device("cpu")).per_image()
    primary = task.primary_metric.removeprefix("val/")
    hits = probe_hits(task, splits, available.gold)
    return {
        "trial": trial.to_json(),
        "facts": last[0].facts,
        "reports": reports,
        "own": gold[primary].numpy().astype(np.float16).tobytes().hex(),
        "probe": None if hits is None else hits.hex(),
    }


def rates(to: Path) -> None:
    """Print and record for each verdict and change how many configurations it helped.

    `probe` and `own` are the answers by the linear probe and by the task's own metric.
    """
    rows = [json.loads(path.read_text()) for path in sorted(to.glob("*.json"))]
    verdicts = _verdicts([row for row in rows if row["cell"] == "base"])
    found = []
    for name, verdict in verdicts.items():
        own = [row for row in rows if row["name"] == name]
        for cell in dict.fromkeys(row["cell"] for row in own if row["cell"] != "base"):
            result: dict[str, Any] = {"verdict": verdict, "name": name, "change": cell}
            for measure in ("probe", "own"):
                result |= _compared(own, cell, measure)
            found.append(result)
    table = pd.DataFrame(found)
    table.to_csv(RECORDED, index=False)
    print(table.to_string(index=False))
    helped = table.groupby(["verdict", "change"])[["probe", "own"]].agg(
        lambda answers: (
            f"{(answers == 'better').sum()} better, {(answers == 'worse').sum()} worse of {answers.notna().sum()}"
        )
    )
    print(helped.to_string())


def _verdicts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return the verdict on the base of each configuration, from all its seeds."""
    builder = FrameBuilder()
    for row in rows:
        trial, facts = TrialConfig.from_dict(json.loads(row["trial"])).replace(cell=row["name"]), row["facts"]
        known = {name: value for name, value in facts.items() if name not in ("chance", "parameters")}
        chance = {f"chance/{metric}": level for metric, level in facts["chance"].items()}
        primary = facts["chance"][facts["primary_metric"]]
        builder.trial(trial.trial_id, status=FINISHED, chance=primary, **known, **chance, **trial.to_columns())
        for report in row["reports"]:
            metrics = {metric: value for metric, value in report.items() if metric != "step"}
            builder.report(trial.trial_id, int(report["step"]), metrics)
    found = cell_verdicts(*builder.build())
    return dict(zip(found["cell"], found["verdict"], strict=True))


def _compared(rows: list[dict[str, Any]], cell: str, measure: str) -> dict[str, Any]:
    """Return the answer and the mean difference of a cell and the base by one measure."""
    values = {(row["cell"], row["seed"]): _values(row, measure) for row in rows}
    pairs = [(values[cell, seed], values["base", seed]) for seed in SEEDS if (cell, seed) in values]
    pairs = [(one, base) for one, base in pairs if one is not None and base is not None]
    if len(pairs) < 2:
        return {measure: None, f"{measure}_difference": np.nan}
    differences = np.stack([one - base for one, base in pairs])
    found = crossed_mean(differences.mean(axis=1), differences)
    low, high = (float(end) for end in found.interval(0.95))
    answer = "better" if low > 0 else "worse" if high < 0 else "open"
    return {measure: answer, f"{measure}_difference": round(float(found.mean), 4)}


def _values(row: dict[str, Any], measure: str) -> np.ndarray | None:
    if row[measure] is None:
        return None
    content = bytes.fromhex(row[measure])
    if measure == "probe":
        return np.unpackbits(np.frombuffer(content, np.uint8)).astype(float)
    sign = -1 if row["facts"]["primary_mode"] == "min" else 1
    return sign * np.frombuffer(content, np.float16).astype(float)


def main() -> None:
    """Make the trials or print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "rates"])
    parser.add_argument("--to", type=Path, required=True, help="folder of the trials made so far")
    parser.add_argument("--data-root", type=Path, help="root of cifar10 and FashionMNIST")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    if arguments.command == "make":
        make(arguments.data_root, arguments.to)
    else:
        rates(arguments.to)


if __name__ == "__main__":
    main()
