"""The command line called in this process, and checkpoints for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from resolute import cli, models
from resolute.config import TrainConfig
from resolute.data import load
from resolute.experiment import grid
from resolute.experiment.recipe import digits
from resolute.models import checkpoint

if TYPE_CHECKING:
    from pathlib import Path


class Answer(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What was said on standard error, in one line."""
        return " ".join(self.err.split())


Call = Callable[..., Answer]


@pytest.fixture
def resolute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line: ``resolute("compare", "--seeds", 2)``."""

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["resolute", *map(str, words)])
        code: object = 0
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        assert isinstance(code, int)
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, int], Path]:
    """Save a LeNet for digits where `compare` would leave it, untrained, and give its folder."""
    info = load("digits").info
    spec = {"name": "lenet", "classes": 10, "shape": info.shape, "class_names": list(info.class_names)}

    def save(method: str, seed: int) -> Path:
        folder = tmp_path / f"run/cells/{method}-seed{seed}"
        model = models.build("lenet", classes=10, shape=info.shape)
        checkpoint.save_network(model, folder, spec | {"method": method, "seed": seed})
        return folder

    return save


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the run of `QUICK` in test_compare.py, for tests that copy it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train = TrainConfig(epochs=1, batch_size=64, lr=0.05, warmup_epochs=1, device="cpu")
    recipe = replace(digits(), train=train, methods=("base", "r"), seeds=(0, 1), suites=("clean",))
    grid.compare(recipe, out, command="resolute compare")
    return out
