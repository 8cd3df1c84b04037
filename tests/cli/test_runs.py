"""Runs from the first command to the report, gone on with, and left alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from resolute.config import TrainConfig
from resolute.experiment import cell, grid
from resolute.experiment.recipe import Recipe

if TYPE_CHECKING:
    from cli.conftest import Call

QUICK = ("--epochs", "1", "--seeds", "2", "--methods", "base,r", "--suites", "clean", "--device", "cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the run that two tests copy."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train = TrainConfig(epochs=1, batch_size=64, lr=0.05, warmup_epochs=1, device="cpu")
    recipe = Recipe("digits", "digits", "lenet", train, methods=("base", "r"), seeds=(0, 1), suites=("clean",))
    grid.compare(recipe, out, command="resolute compare")
    return out


def test_compare_then_report_rebuilds_the_same_page(resolute: Call) -> None:
    answer = resolute("compare", *QUICK, "--out", "run")
    page, text = Path("run/report.html").read_bytes(), Path("run/report.md").read_bytes()
    assert answer.code == 0
    assert "report: run/report.html" in answer.out
    assert "No significant difference between r and base" in answer.out
    assert re.search(r"r seed 1 done, 0:00:\d\d, 0:00:00 left", answer.err)
    assert b"resolute compare --epochs 1 --seeds 2" in page
    Path("run/report.html").unlink()
    Path("run/report.md").unlink()
    again = resolute("report", "run")
    assert again.code == 0
    assert again.out == answer.out
    assert Path("run/report.html").read_bytes() == page
    assert Path("run/report.md").read_bytes() == text


def test_the_same_command_goes_on_with_a_finished_run(
    resolute: Call, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, Path("run"))
    before = {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()}
    monkeypatch.setattr(cell, "train", None)
    answer = resolute("compare", *QUICK, "--out", run)
    assert answer.code == 0
    assert {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()} == before


def test_an_interrupted_run_says_how_to_continue(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(grid, "run_comparison", interrupt)
    answer = resolute("compare")
    assert answer.code == 130
    assert answer.message == "Stopped. Run the same command again to continue."


def test_a_run_of_another_recipe_is_left_alone(resolute: Call, finished: Path) -> None:
    run = shutil.copytree(finished, Path("run"))
    answer = resolute("compare", *QUICK, "--out", run, "--seeds", "1")
    assert answer.code == 2
    assert answer.message == (
        "error: run holds another comparison: seeds is [0, 1] there and [0] here. "
        "Methods and seeds can be added, nothing else changed. Choose another folder with --out."
    )
    answer = resolute("compare", *QUICK, "--out", run, "--eps", "0.2", "--lr", "0.1")
    assert (
        "another comparison: train.lr is 0.05 there and 0.1 here; settings.eps is 0.1 there and 0.2 here"
        in answer.message
    )


def test_a_report_needs_a_run(resolute: Call) -> None:
    answer = resolute("report", "nowhere")
    assert answer.code == 2
    assert answer.message.startswith("error: cannot read nowhere/recipe.json: No such file or directory.")


def test_only_cells_that_were_run_are_told_of(finished: Path, tmp_path: Path, resolute: Call) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    answer = resolute("compare", *QUICK, "--out", run, "--methods", "base,r,gaussian")
    assert answer.code == 0, answer.err
    assert re.findall(r"(\w+) seed (\d) done", answer.err) == [("gaussian", "0"), ("gaussian", "1")]
