"""The search, mostly with networks whose errors are made up, so that what it should do is known."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from experiment.made_up import KEY, PLAN, TINY, N, helps_at_input, made_up, quiet
from resolute import data
from resolute.errors import InputError
from resolute.experiment import cell as one_cell
from resolute.experiment import grid
from resolute.experiment import tune as search
from resolute.experiment.tune import tune
from resolute.methods import Settings
from resolute.report.run import load_run
from resolute.run_folder import cell_name, locked, read_records, write_bits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from experiment.conftest import Found
    from resolute.data import dataset

optuna = pytest.importorskip("optuna")


def test_a_setting_that_diverged_is_wrong_everywhere(tmp_path: Path) -> None:
    made: list[tuple[str, int]] = []
    made_up(lambda _: 0.1, made)(replace(TINY, methods=("base", "r"), seeds=(0, 1)), None, tmp_path)
    (tmp_path / "cells" / cell_name("r", 1) / "records.jsonl").unlink()
    (tmp_path / "cells" / cell_name("r", 1) / "diverged.json").write_text("{}")
    lab = search._Lab(PLAN, TINY, None, tmp_path)  # type: ignore[arg-type]
    base, r = lab.wrong("base"), lab.wrong("r")
    assert r.shape == base.shape
    assert not r[0].all()
    assert r[1].all()
    assert lab.differences("r")[1] == pytest.approx(1 - base[1].mean())


def test_the_setting_that_helps_is_found(found: Found) -> None:
    tuned, _, made = found
    assert tuned.best is not None
    assert tuned.best.settings.where == "input"
    assert tuned.best.settings.eps >= 0.5
    assert tuned.best.paired.difference.high < -0.02
    assert tuned.stopped == "stopped after 10 settings"
    assert "lowers the validation error of base" in tuned.sentence
    assert len(made) == len(set(made)), "no network is trained twice"


def test_what_is_worse_than_the_median_gets_three_seeds(found: Found) -> None:
    tuned, _, _ = found
    assert {each.seeds for each in tuned.tried} == {3, 5}
    for each in tuned.tried:
        assert each.finalist == (each.seeds == 5)
        if each.settings.where == "input":
            assert each.finalist
    assert [e.settings for e in tuned.tried[:6]] == [Settings(eps, 0.5, place) for eps, place in PLAN.grid]


def test_it_stops_once_nothing_can_be_gained(tmp_path: Path, trained: Callable[..., Any]) -> None:
    made = trained(lambda _: 0.1)
    tuned = tune(replace(PLAN, margin=1.0, trials=50), tmp_path / "run", console=quiet())
    assert tuned.stopped == (
        "stopped early: at no setting that got every seed does the 95 % interval reach a gain of 1 points"
    )
    assert len(tuned.tried) == len(PLAN.grid)
    assert tuned.best is None
    assert tuned.sentence.startswith("No setting of r differs from base for the better; the lowest error came with")
    assert len(made) <= 5 * 7


def test_bad_settings_do_not_keep_it_from_stopping(tmp_path: Path, trained: Callable[..., Any]) -> None:
    """One place is so bad that it is dropped with an interval as wide as its three seeds differ."""
    trained(lambda settings: 0.1 if settings.where != "both" else 0.5 + 0.4 * settings.eps)
    lucky = search.fill  # type: ignore[attr-defined]

    def fill(recipe: Any, splits: Any, out: Path, **given: Any) -> None:
        lucky(recipe, splits, out, **given)
        for cell in (out / "cells").glob("r@eps=0.5@where=both-seed1"):
            (cell / "records.jsonl").unlink(missing_ok=True)
            (cell / "diverged.json").write_text("{}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "fill", fill)
        tuned = tune(replace(PLAN, margin=1.0, trials=50), tmp_path / "run", console=quiet())
    assert tuned.stopped.startswith("stopped early")


def test_the_least_gain_follows_the_baselines_error(tmp_path: Path, trained: Callable[..., Any]) -> None:
    """Half a point would be as much as a baseline of 0.5 % errs in all."""
    trained(lambda _: 0.1)
    tuned = tune(replace(PLAN, trials=7), tmp_path / "high", console=quiet())
    assert tuned.stopped.endswith("a gain of 0.5 points")
    sparse = search.fill  # type: ignore[attr-defined]

    def fill(recipe: Any, splits: Any, out: Path, **given: Any) -> None:
        sparse(recipe, splits, out, **given)
        for cell in out.glob("cells/*"):
            right = np.arange(N) >= 20
            write_bits(cell / "bits.npz", {KEY: right})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "fill", fill)
        tuned = tune(replace(PLAN, trials=7), tmp_path / "low", console=quiet())
    assert tuned.stopped.endswith("a gain of 0.25 points")


def test_what_was_not_queued_when_it_was_killed_is_queued(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda _: 0.1)
    tmp_path.joinpath("run").mkdir()
    study = search._study(optuna, replace(PLAN, eps=(0.1,)), tmp_path / "run")
    assert len(study.trials) == 3
    study = search._study(optuna, PLAN, tmp_path / "run")
    assert [trial.system_attrs["fixed_params"]["eps"] for trial in study.trials] == [0.1] * 3 + [0.5] * 3


def test_two_cannot_go_on_with_one_study(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda _: 0.1)
    tune(replace(PLAN, trials=1), tmp_path / "run", console=quiet())
    with (
        locked(tmp_path / "run/.locks", "tune"),
        pytest.raises(InputError, match=r"another `resolute tune` is at work"),
    ):
        tune(PLAN, tmp_path / "run", console=quiet())


def test_other_images_are_another_study(tmp_path: Path, found: Found) -> None:
    run = shutil.copytree(found[1], tmp_path / "run")
    stored = json.loads((run / "tuning.json").read_text())
    stored["data_info"]["classes"] = 11
    (run / "tuning.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"holds another tuning: data_info.classes is 11 there and 10 here"):
        tune(PLAN, run, console=quiet())


def test_it_says_how_long_it_may_take(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda _: 0.1)
    console = quiet()
    tune(replace(PLAN, trials=2), tmp_path / "run", console=console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 2
    assert re.fullmatch(
        r"1: r@eps=0.1@where=hidden: .* points to base, 5 seeds; 0:00:\d\d, at most 0:00:\d\d left", lines[0]
    )
    assert lines[1].endswith("at most 0:00:00 left")


def test_it_goes_on_while_something_might_be_gained(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda _: 0.1)
    tuned = tune(replace(PLAN, margin=0.01), tmp_path / "run", console=quiet())
    assert tuned.stopped == "stopped after 10 settings"


def test_time_is_kept(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda _: 0.1)
    tuned = tune(replace(PLAN, timeout=1e-9), tmp_path / "run", console=quiet())
    assert len(tuned.tried) == 1
    assert re.fullmatch(r"stopped after \d+ s, as asked", tuned.stopped)


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", [1, 5, 13])
def test_a_study_that_was_killed_goes_on(
    tmp_path: Path, found: Found, trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    trained(helps_at_input)
    fill, calls = search.fill, [0]  # type: ignore[attr-defined]

    def dies(*args: Any, **given: Any) -> None:
        if calls[0] == moment:
            raise Killed
        calls[0] += 1
        fill(*args, **given)

    monkeypatch.setattr(tune, "fill", dies)
    with pytest.raises(Killed):
        tune(PLAN, tmp_path / "killed", console=quiet())
    monkeypatch.setattr(tune, "fill", fill)
    again, whole = tune(PLAN, tmp_path / "killed", console=quiet()), found[0]
    assert {Settings(eps, 0.5, place) for eps, place in PLAN.grid} <= {each.settings for each in again.tried}
    assert again.stopped == whole.stopped
    assert again.best is not None
    assert whole.best is not None
    assert again.best.settings.where == whole.best.settings.where


def test_a_finished_study_is_read_again_and_may_be_extended(
    tmp_path: Path, found: Found, trained: Callable[..., Any]
) -> None:
    made, (first, folder, _) = trained(helps_at_input), found
    run = shutil.copytree(folder, tmp_path / "run")
    assert tune(PLAN, run, console=quiet()).tried == first.tried
    assert made == []
    more = tune(replace(PLAN, trials=14), run, console=quiet())
    assert [e.name for e in more.tried[: len(first.tried)]] == [e.name for e in first.tried]
    assert more.stopped == "stopped after 14 settings"
    assert {method for method, _ in made}.isdisjoint({"base", *(e.name for e in first.tried if e.finalist)})


def test_the_folder_holds_the_finalists_comparison(found: Found) -> None:
    tuned, folder, _ = found
    run = load_run(folder)
    assert tuned.best is not None
    assert run.methods[:2] == ("base", tuned.best.name)
    assert set(run.methods[1:]) == {each.name for each in tuned.tried if each.finalist}
    assert run.missing == ()
    assert run.recipe["split"] == "validation"
    page = (folder / "report.html").read_text()
    assert "resolute tune --seeds 5" in page
    assert tuned.sentence in (folder / "tuned.md").read_text()
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_another_plan_and_other_files_are_kept_out(tmp_path: Path, found: Found) -> None:
    with pytest.raises(InputError, match=r"holds another tuning: eps is \[0.1, 0.5\] there and \[0.2\] here"):
        tune(replace(PLAN, eps=(0.2,)), found[1], console=quiet())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").touch()
    with pytest.raises(InputError, match="not empty and holds no tuning"):
        tune(PLAN, tmp_path / "thesis", console=quiet())


def test_a_place_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="relu9"):
        tune(replace(PLAN, where=("input", "relu9")), tmp_path / "run", console=quiet())
    assert not (tmp_path / "run").exists()


def test_without_optuna_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'resolute\[tune\]'"):
        tune(PLAN, tmp_path / "run", console=quiet())
    assert not (tmp_path / "run").exists()


def test_real_networks_of_a_method_without_p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test images are not loaded, and the records are those of a comparison on the validation images."""
    splits = []

    def spy(name: str, root: Any, split: str, size: Any) -> dataset.Images:
        splits.append(split)
        return data.load(name, root, split, size)

    monkeypatch.setattr(one_cell, "load", spy)
    plan = replace(PLAN, recipe=replace(TINY, seeds=(0, 1)), method="gaussian", eps=(0.3,), where=("input",), trials=1)
    tuned = tune(plan, tmp_path / "run", console=quiet())
    assert set(splits) == {"train", "validation"}
    direct = replace(plan.held_out, methods=("base", "gaussian"), settings=Settings(0.3, 0.5, "input"))
    grid.compare(direct, tmp_path / "direct")
    ours, theirs = (read_records(tmp_path / name / "records.jsonl") for name in ("run", "direct"))
    assert [row.correct for row in ours] == [row.correct for row in theirs]
    assert {row.n for row in ours} == {tuned.n} == {89}
    assert json.loads((tmp_path / "run/tuning.json").read_text())["method"] == "gaussian"
