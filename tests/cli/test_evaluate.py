from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.conftest import Call

ANSWERS = """
import torch
from torch import nn

class Answers(nn.Module):
    def __init__(self, change, pixels=64, classes=10):
        super().__init__()
        self.network, self.change = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)), change

    def forward(self, x):
        return self.change(self.network(x))

def pair(): return Answers(lambda logits: (logits, logits))
def sure(): return Answers(lambda logits: logits.softmax(1))
def wide(): return Answers(lambda logits: logits, classes=11)
def flat(): return Answers(lambda logits: logits, pixels=192)
"""
"""A user's own networks, none of which can be evaluated."""


@pytest.fixture
def cells(saved: Callable[[str, int], Path]) -> list[Path]:
    return [saved("base", seed) for seed in (0, 1)]


def test_two_checkpoints_are_evaluated_and_compared(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    out = tmp_path / "out"
    words = (*cells, "--suites", "clean,disturbances,fgsm", "--limit", 50, "--device", "cpu", "--out", out)
    answer = resolute("evaluate", *words)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"report: {out / 'report.html'}"
    assert {"base-seed0", "base-seed1", "random-crop", "fgsm"} <= set(answer.out.split())
    assert "0:00:00 left" in answer.message
    assert "passed" in answer.out
    results = json.loads((out / "results.json").read_text())
    assert results["command"].startswith("resolute evaluate ")
    assert results["n"] == 50
    assert set(results["details"][0]["pairs"]) == {"base-seed1"}
    written = (out / "report.html").read_bytes()
    assert resolute("evaluate", *words)[:2] == (0, answer.out)
    assert (out / "report.html").read_bytes() == written
    (out / "report.html").unlink()
    (out / "results.csv").unlink()
    assert resolute("report", out)[:2] == (0, answer.out)
    assert (out / "report.html").read_bytes() == written
    assert (out / "results.csv").exists()


def test_fifteen_corruptions_have_their_mean(cells: list[Path], resolute: Call) -> None:
    words = (cells[0], "--suites", "corruptions", "--limit", 20, "--device", "cpu", "--out", "out")
    answer = resolute("evaluate", *words)
    assert answer.code == 0
    results = json.loads(Path("out/results.json").read_text())
    [benchmark] = results["benchmarks"]
    [mean] = [row for row in results["table"] if (row["suite"], row["shift"]) == ("corruptions", "mean")]
    figure = benchmark["figures"]["base-seed0"]["mean error"]["mean"]
    assert figure == pytest.approx(mean["errors"]["base-seed0"]["mean"])
    assert f"base-seed0: mean error {100 * figure:.2f} %" in " ".join(answer.out.split())
    assert f"mean error {100 * figure:.2f} %" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no network to evaluate: give a NETWORK"),
        (["--model", "lenet"], "--model NAME and --weights FILE belong together"),
        (["CELL", "--suites", "clean,atacks"], "unknown suite 'atacks': did you mean 'attacks'"),
        (["CELL", "--device", "gpu"], "unknown device 'gpu'"),
        (["CELL", "--limit", "0"], "limit is 0; it must be from 1 to 1,000,000,000 images."),
        (["CELL", "--data", "nowhere"], "unknown data set 'nowhere'"),
        (["--factory", "nothing"], "it is package.module:function"),
        (["/nowhere"], "there is no folder /nowhere."),
        (["."], "holds no model.json"),
        (["--factory", "answers:pair"], "the model returns a tuple of 2; wanted is one tensor of logits"),
        (["--factory", "answers:sure"], "the model returns probabilities; wanted are logits"),
        (["--factory", "answers:wide"], "tells 11 classes apart, and digits has 10"),
        (["--factory", "answers:flat"], "the model cannot take images of 1x8x8 pixels"),
        (["CELL", "--device", "cuda"], "device is 'cuda', and torch sees no GPU here"),
    ],
)
def test_a_mistake_ends_with_its_message_and_code_2(
    cells: list[Path], words: list[str], message: str, resolute: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("answers.py").write_text(ANSWERS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "answers", raising=False)
    answer = resolute("evaluate", *[cells[0] if word == "CELL" else word for word in words])
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert message in answer.message
