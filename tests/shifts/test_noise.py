from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn

from cases import tiny_info
from resolute.shifts import find_shifts
from resolute.shifts.everyday import STRENGTHS


def test_the_severity_is_the_standard_deviation(seeds: torch.Tensor) -> None:
    x, y = torch.full((400, 3, 8, 8), 0.5), torch.zeros(400, dtype=torch.long)
    shifts = find_shifts(["noise"], tiny_info())
    assert [shift.severity for shift in shifts] == list(STRENGTHS)
    for shift in shifts:
        moved = shift.apply(nn.Identity(), x, y, seeds[:400]) - x
        inside = moved.abs() < 0.5
        expected = stats.norm(scale=shift.severity)
        assert inside.double().mean().item() == pytest.approx(1 - 2 * expected.cdf(-0.5), abs=0.005)
        assert moved[inside].std().item() == pytest.approx(
            stats.truncnorm(-0.5 / shift.severity, 0.5 / shift.severity, scale=shift.severity).std(), rel=0.01
        )
