"""Schedules of eps: by hand, on networks with several places, and taken up from a checkpoint."""

from __future__ import annotations

import functools
import json
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import nn

from networks import small
from resolute.config import Settings
from resolute.errors import InputError
from resolute.noise.baselines import gaussian
from resolute.noise.robustify import attach, robustify
from resolute.noise.schedule import SHARES, EpsSchedule, Kind
from resolute.noise.sites import sites

BY_HAND = {
    "constant": [0.5, 0.5, 0.5, 0.5, 0.5],
    "early": [0.5, 0.25, 0.0, 0.0, 0.0],
    "late": [0.0, 0.0, 0.5, 0.5, 0.5],
    "ramp": [0.0, 0.125, 0.25, 0.375, 0.5],
    "off": [0.5, 0.5, 0.5, 0.0, 0.0],
}
"""Over four steps, and one more; the last quarter is off."""


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_kind_over_training(kind: Kind) -> None:
    model = robustify(nn.ReLU(), eps=0.5)
    schedule = EpsSchedule(model, kind, 4, share=0.25 if kind == "off" else None)
    seen = []
    for _ in range(5):
        seen.append(sites(model)[0].eps)
        assert schedule.get_last_eps() == seen[-1:]
        schedule.step()
    assert seen == BY_HAND[kind]
    assert set(SHARES) == set(get_args(Kind)) == set(get_args(get_type_hints(Settings)["eps_schedule"]))


def test_each_place_keeps_its_own_part_and_its_noise() -> None:
    model = robustify(robustify(small(), 0.5, where="input"), 0.25, p=0.75)
    EpsSchedule(model, "ramp", 2).step()
    assert [(site.eps, site.p) for site in sites(model)] == [(0.25, 0.5), *[(0.125, 0.75)] * 2]
    control = attach(nn.ReLU(), functools.partial(gaussian, eps=0.5))
    schedule = EpsSchedule(control, "early", 4, share=1.0)
    schedule.step()
    assert (sites(control)[0].eps, sites(control)[0].form) == (0.375, "gaussian")
    assert schedule.get_last_eps() == [0.375]


def test_it_is_taken_up_from_a_checkpoint() -> None:
    first = EpsSchedule(robustify(small(), 0.5), "early", 8)
    for _ in range(3):
        first.step()
    stored = json.loads(json.dumps(first.state_dict()))
    model = robustify(small(), 0.1)
    again = EpsSchedule(model, "late", 2)
    again.load_state_dict(stored)
    assert sites(model)[0].eps == 0.125
    for schedule in (first, again):
        schedule.step()
    assert again.state_dict() == first.state_dict()
    with pytest.raises(InputError, match="noise at other places"):
        EpsSchedule(robustify(nn.ReLU()), "late", 2).load_state_dict(stored)


@pytest.mark.usefixtures("compiler")
def test_a_schedule_compiles_nothing_again() -> None:
    from torch._dynamo.testing import CompileCounter

    graphs, model = CompileCounter(), robustify(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), 0.5)
    compiled: Any = torch.compile(model, backend=graphs, fullgraph=True)
    schedule = EpsSchedule(model, "early", 8)
    for _ in range(8):
        compiled(torch.rand(3, 4))
        schedule.step()
    assert graphs.frame_count == 1


@pytest.mark.parametrize(
    ("kind", "steps", "share", "message"),
    [
        ("erly", 4, None, "unknown schedule of eps 'erly': did you mean 'early'"),
        ("early", 0, None, "steps is 0 and share 0.5; wanted are at least 1"),
        ("early", 4, 0.0, "share 0.0; wanted"),
        ("early", 4, 1.5, "share 1.5"),
        ("early", 4, float("nan"), "share nan"),
    ],
)
def test_what_is_no_schedule_is_refused(kind: Any, steps: int, share: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EpsSchedule(robustify(nn.ReLU()), kind, steps, share=share)
    with pytest.raises(InputError, match=r"a ReLU that carries no noise\. Call robustify\(model\) first"):
        EpsSchedule(nn.ReLU(), "early", 4)
