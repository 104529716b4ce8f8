"""Settings without effect are named before a study runs; all others are not."""

from __future__ import annotations

from typing import Any

import pytest

from study.plan.feasibility import check_plan
from study.plan.without_effect import lines_without_effect
from tests.study.studies import plan_of, tiny


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"ablate": {"designs": ["strength"], "sizes": [50, 100]}},
            "ablate.sizes has no effect with ablate.designs = [strength]; add size_by_strength to them, or leave",
        ),
        ({"ablate": {"designs": ["strength"], "steps": [100]}}, "ablate.steps has no effect"),
        ({"ablate": {"designs": ["leave_one_out"], "ops": ["flip"]}}, "add add_one_in or pairs to them"),
        ({"ablate": {"designs": ["strength"], "factors": {"lr": [0.1, 0.2]}}}, "add factorial or screening to them"),
        ({"ablate": {"designs": ["strength"], "cures": {"lr": [0.1]}}}, "add cures or together to them"),
        ({"ablate": {"designs": ["pairs"], "strengths": [0.0, 1.0]}}, "ablate.strengths has no effect"),
        (
            {"search": {"mode": "max"}},
            "search.mode = 'max' has no effect: the metric auto has a direction of its own; name the search.metric, or "
            "leave it out",
        ),
        ({"search": {"scheduler": "pbt"}}, "search.algorithm = 'optuna' has no effect with the scheduler pbt"),
    ],
)
def test_a_setting_without_effect_is_named_with_its_remedy(
    changes: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
):
    check_plan(plan_of(tiny(**changes)))
    (found,) = caplog.messages
    assert line in found


@pytest.mark.parametrize(
    "changes",
    [
        {
            "ablate": {"cures": {"lr": [0.1]}, "factors": {"lr": [0.1]}, "sizes": [100], "strengths": [0.5]}
        },  # no designs
        {"ablate": {"designs": ["strength", "cures"], "cures": {"lr": [0.1]}, "strengths": [0.0, 1.0], "seeds": 3}},
        {"ablate": {"designs": ["cures"], "sizes": [None]}},  # the default, as in a study.yaml
        {"search": {"metric": "val/loss", "mode": "min"}},
        {"search": {"scheduler": "pbt", "algorithm": "random"}},
        {"search": {"scheduler": "pbt", "algorithm": "grid"}},
    ],
    ids=str,
)
def test_nothing_is_said_where_settings_have_an_effect_or_an_ablation_is_switched_off(changes: dict[str, Any]):
    assert list(lines_without_effect(tiny(**changes))) == []
