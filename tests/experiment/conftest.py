from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from experiment.made_up import PLAN, helps_at_input, made_up, quiet
from resolute.experiment import tune as search
from resolute.experiment.tune import tune
from resolute.report import tuning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.config import Settings
    from resolute.report.tuning import Tuned

    Found = tuple[Tuned, Path, list[tuple[str, int]]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int]]]:
    """Search among made-up networks, and draw nothing."""

    def set_up(error: Callable[[Settings], float]) -> list[tuple[str, int]]:
        made: list[tuple[str, int]] = []
        monkeypatch.setattr(search, "fill", made_up(error, made))
        monkeypatch.setattr(tuning, "draw_tuned", lambda *_: b"")
        monkeypatch.setattr(search, "write_report", lambda *_: None)
        monkeypatch.setattr(os, "fsync", lambda _: None)
        return made

    return set_up


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Finish a study with all that it draws and writes."""
    made: list[tuple[str, int]] = []
    out = tmp_path_factory.mktemp("tuning") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "fill", made_up(helps_at_input, made))
        return tune(PLAN, out, command="resolute tune --seeds 5", console=quiet()), out, made
