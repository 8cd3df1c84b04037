"""Runs from the first command to the report, gone on with, and left alone."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from experiment.made_up import made_up
from pictures import flipped
from resolute import cli
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


# Folders of any name


TRAIN = ("--epochs", "1", "--suites", "clean", "--device", "cpu")
TUNE = ("--eps", "0.3", "--where", "hidden", "--trials", "1", "--seeds", "2", *TRAIN)
CURVATURE = ("--images", 2, "--steps", 2, "--probes", 1, "--top", 1, "--surface", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run of each other command that trains or measures: `train` and `curvature`."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(finished, folder / "compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (("train", *TRAIN), ("curvature", folder / "compare/cells/r-seed0", *CURVATURE)):
            patch.setattr(sys, "argv", ["resolute", *map(str, words), "--out", words[0]])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert not stop.value.code
    return folder


@pytest.mark.parametrize("name", ["st?a=1", " ", "a#b", "100%", "[bold]x", "\u00fcn\u00efcode", 200 * "x"])
def test_any_legal_name_is_a_run_folder(
    name: str, resolute: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "train", pytest.fail)
    monkeypatch.setattr("resolute.curvature.survey.measure_network", pytest.fail)
    monkeypatch.setattr("resolute.experiment.tune.fill", made_up(lambda _: 0.1, []))
    monkeypatch.setattr("resolute.report.tuning.draw_tuned", lambda *_: b"")
    commands = {
        "compare": QUICK,
        "train": TRAIN,
        "curvature": (made / "compare/cells/r-seed0", *CURVATURE),
        "tune": TUNE,
    }
    for command, words in commands.items():
        (tmp_path / command).mkdir()
        monkeypatch.chdir(tmp_path / command)
        if command != "tune":
            shutil.copytree(made / command, name)
        answer = resolute(command, *words, f"--out={name}")
        assert answer.code == 0, answer.err
        assert f": {name}{ {'train': '', 'tune': '/curve.png'}.get(command, '/report.html') }\n" in answer.out
        assert [path.name for path in Path().iterdir()] == [name]
        assert resolute(command, *words, f"--out={name}")[:2] == (0, answer.out)
        if command != "train":
            again = resolute("report", name)
            assert again.code == 0, again.err
            assert f"report: {name}/report.html\n" in again.out


def test_a_damaged_folder_is_refused_by_its_report(resolute: Call, finished: Path) -> None:
    run = shutil.copytree(finished, Path("run"))
    for name in ("bits.npz", "records.jsonl", "cost.json", "train.csv", "weights.safetensors", "checksums.json"):
        file = run / "cells/r-seed1" / name
        whole = file.read_bytes()
        file.write_bytes(flipped(whole, len(whole) // 2, 3))
        answer = resolute("report", run)
        assert answer.code == 2
        assert f"cells/r-seed1/{name} is " in answer.message
        file.write_bytes(whole)
    shutil.rmtree(run / "cells/r-seed1")
    shutil.copytree(run / "cells/r-seed0", run / "cells/r-seed1")
    answer = resolute("report", run)
    assert answer.code == 2
    assert "cells/r-seed1 belongs to other work: seed is 0 there and 1 here" in answer.message
