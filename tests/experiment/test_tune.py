"""The search, mostly with networks whose errors are made up, so that what it should do is known."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from experiment.made_up import KEY, PLAN, TINY, N, helps_at_input, made_up, quiet
from pictures import CHANGES, OF_TRAINING, flipped, make_pictures
from resolute import data, methods
from resolute.config import Settings
from resolute.data.dataset import fingerprint
from resolute.errors import InputError
from resolute.experiment import cell as one_cell
from resolute.experiment import grid, recipe
from resolute.experiment import tune as search
from resolute.experiment.cell import load_splits
from resolute.experiment.recipe import TUNABLE, TuneConfig
from resolute.experiment.tune import search_folder, tune, variant
from resolute.report.run import load_run
from resolute.report.tuning import strength_of
from resolute.run_folder import (
    cell_name,
    locked,
    read_records,
    read_sealed,
    seal,
    write_bits,
    write_json,
    write_sealed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiment.conftest import Found
    from resolute.data import dataset

optuna = pytest.importorskip("optuna")


def test_a_setting_that_diverged_is_wrong_everywhere(tmp_path: Path) -> None:
    made: list[tuple[str, int]] = []
    splits = one_cell.load_splits(TINY)
    made_up(lambda _: 0.1, made)(replace(TINY, methods=("base", "r"), seeds=(0, 1)), splits, tmp_path)
    (tmp_path / "cells" / cell_name("r", 1) / "records.jsonl").unlink()
    (tmp_path / "cells" / cell_name("r", 1) / "diverged.json").write_text("{}")
    lab = search._Lab(PLAN, TINY, splits, tmp_path)
    base, r = lab.wrong("base"), lab.wrong("r")
    assert r.shape == base.shape
    assert not r[0].all()
    assert r[1].all()
    assert lab.differences("r")[1] == pytest.approx(1 - base[1].mean())


def test_the_setting_that_helps_is_found(found: Found) -> None:
    tuned, _, made = found
    assert tuned.best is not None
    assert tuned.best.settings.where == "input"
    assert strength_of(tuned.best.settings) >= 0.5
    assert tuned.best.found is not None
    assert tuned.best.found.difference.high < -0.02
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
    assert [e.settings for e in tuned.tried[:6]] == PLAN.grid


def test_forms_are_tried_at_every_place_and_the_best_is_named(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda settings: 0.02 if settings.grain == "channel" and settings.where == "input" else 0.1)
    plan = replace(PLAN, where=("input", "hidden"), grain=("element", "channel"), spread=("fixed", "random"), trials=16)
    tuned = tune(plan, tmp_path / "run", console=quiet())
    assert [each.settings for each in tuned.tried] == plan.grid
    assert tuned.best is not None
    assert (tuned.best.settings.where, tuned.best.settings.grain) == ("input", "channel")
    assert "at input, channel signs" in tuned.sentence
    assert "hidden, element signs" not in tuned.places
    assert {"hidden", "input, channel signs, random strength"} <= tuned.places.keys()


def test_shares_and_schedules_are_tried_at_ratios(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda own: 0.02 if (own.share, own.eps_schedule) == (0.5, "off") else 0.1)
    forms: dict[str, Any] = {"share": (1.0, 0.5), "eps_schedule": ("constant", "off")}
    plan = replace(PLAN, eps=(), ratio=(1.0, 2.0), where=("hidden",), trials=8, **forms)
    tuned = tune(plan, tmp_path / "run", console=quiet())
    assert [each.settings for each in tuned.tried] == plan.grid
    assert tuned.best is not None
    assert (tuned.best.settings.share, tuned.best.settings.eps_schedule) == (0.5, "off")
    assert "at hidden, share 0.5, off" in tuned.sentence
    stored = json.loads((tmp_path / "run/tuning.json").read_text())
    assert (stored["share"], stored["eps_schedule"]) == ([1.0, 0.5], ["constant", "off"])
    assert tuned == tune(plan, tmp_path / "run", console=quiet()), "the same when it is continued"


def test_a_control_has_a_schedule_and_no_signs(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda own: 0.02 if own.eps_schedule == "early" else 0.1)
    plan = replace(PLAN, method="gaussian", where=("hidden",), eps_schedule=("constant", "early"), trials=6)
    tuned = tune(plan, tmp_path / "run", console=quiet())
    assert tuned.best is not None
    assert tuned.best.settings.eps_schedule == "early"


def test_it_stops_once_nothing_can_be_gained(tmp_path: Path, trained: Callable[..., Any]) -> None:
    made = trained(lambda _: 0.1)
    tuned = tune(replace(PLAN, margin=1.0, trials=50), tmp_path / "run", console=quiet())
    assert tuned.stopped == (
        "stopped early: at no setting that got every seed does the 95 % interval reach a gain of 1 points"
    )
    assert len(tuned.tried) == len(PLAN.grid)
    assert tuned.best is None
    assert tuned.sentence.startswith("No setting of r is significantly better than base; the lowest error came with")
    assert len(made) <= 5 * 7


def test_bad_settings_do_not_keep_it_from_stopping(tmp_path: Path, trained: Callable[..., Any]) -> None:
    """One place is so bad that it is dropped with an interval as wide as its three seeds differ; one seed diverges."""
    trained(lambda settings: 0.1 if settings.where != "both" else 0.5 + 0.4 * settings.eps)
    lucky, lost = search.fill, cell_name("r@eps=0.5@where=both", 1)  # type: ignore[attr-defined]

    def fill(recipe: Any, splits: Any, out: Path, **given: Any) -> None:
        lucky(recipe, splits, out, **given)
        if (cell := out / "cells" / lost).exists() and not (cell / "diverged.json").exists():
            own = read_sealed(cell / "checksums.json")["identity"]
            shutil.rmtree(cell)
            write_sealed(cell / "diverged.json", {"message": "it diverged", "identity": own})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "fill", fill)
        tuned = tune(replace(PLAN, margin=1.0, trials=50), tmp_path / "run", console=quiet())
    assert (tmp_path / "run/cells" / lost / "diverged.json").exists()
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
            own = read_sealed(cell / "checksums.json")["identity"]
            write_bits(cell / "bits.npz", {KEY: np.arange(N) >= 20})
            seal(cell, own, ("bits.npz", "records.jsonl"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "fill", fill)
        tuned = tune(replace(PLAN, trials=7), tmp_path / "low", console=quiet())
    assert tuned.stopped.endswith("a gain of 0.25 points")


def test_a_folder_of_an_earlier_version_is_refused_and_left_alone(tmp_path: Path, trained: Callable[..., Any]) -> None:
    """It does not say which images it is of, so its networks cannot be taken for those of this search."""
    made = trained(lambda _: 0.1)
    run = tmp_path / "run"
    run.mkdir()
    (run / "study.db").write_bytes(b"SQLite format 3")
    write_json(run / "tuning.json", PLAN.identity | {"data_info": {"classes": 10}})
    with pytest.raises(InputError, match=r"run/tuning.json carries no checksum: an earlier version wrote it.*--out"):
        tune(PLAN, run, console=quiet())
    assert {path.name for path in run.iterdir()} == {"study.db", "tuning.json"}
    assert made == []


def test_two_cannot_go_on_with_one_study(tmp_path: Path, trained: Callable[..., Any]) -> None:
    trained(lambda _: 0.1)
    tune(replace(PLAN, trials=1), tmp_path / "run", console=quiet())
    with (
        locked(tmp_path / "run/.locks", "tune"),
        pytest.raises(InputError, match=r"another `resolute tune` is at work"),
    ):
        tune(PLAN, tmp_path / "run", console=quiet())


@pytest.mark.parametrize("change", OF_TRAINING)
def test_changed_images_are_another_search(tmp_path: Path, trained: Callable[..., Any], change: str) -> None:
    """Neither their numbers nor their names nor their times, only their content differs."""
    made = trained(helps_at_input)
    make_pictures(tmp_path / "pictures")
    plan = replace(PLAN, recipe=replace(TINY, data="pictures"), trials=1)
    tune(plan, tmp_path / "run", console=quiet())
    first, _ = search.run_tuning(plan, console=quiet())
    networks = len(made)
    tune(plan, tmp_path / "run", console=quiet())
    assert search.run_tuning(plan, console=quiet())[0] == first
    assert len(made) == networks
    CHANGES[change](tmp_path / "pictures")
    told = r"run holds another search: .*images\..* is .* there and .* here.*Choose another folder with --out"
    with pytest.raises(InputError, match=told):
        tune(plan, tmp_path / "run", console=quiet())
    assert len(made) == networks
    second, _ = search.run_tuning(plan, console=quiet())
    assert second != first
    assert 2 * (len(made) - networks) == networks, "all of its networks are trained"


def test_a_network_of_other_work_is_refused(tmp_path: Path, found: Found, trained: Callable[..., Any]) -> None:
    made, run = trained(helps_at_input), shutil.copytree(found[1], tmp_path / "run")
    base, r = (run / "cells" / cell_name(method, 0) for method in ("base", "r@eps=0.1@where=hidden"))
    shutil.rmtree(r)
    shutil.copytree(base, r)
    told = r"cells/r@eps=0.1@where=hidden-seed0 belongs to other work: method is 'base' there and 'r@eps=.*--out"
    with pytest.raises(InputError, match=told):
        tune(PLAN, run, console=quiet())
    assert made == []


@pytest.mark.parametrize("name", ["tuning.json", "recipe.json", "cells/base-seed1/bits.npz"])
def test_a_flipped_bit_is_refused_or_changes_nothing(
    tmp_path: Path, found: Found, trained: Callable[..., Any], name: str
) -> None:
    made, run = trained(helps_at_input), shutil.copytree(found[1], tmp_path / "run")
    whole, rng, expected = (run / name).read_bytes(), random.Random(name), ends(found[1])
    refused, flips = 0, 3 if name == "recipe.json" else 12
    for _ in range(flips):
        (run / name).write_bytes(flipped(whole, rng.randrange(len(whole)), rng.randrange(8)))
        try:
            assert tune(PLAN, run, command="resolute tune --seeds 5", console=quiet()) == found[0]
            assert ends(run).items() - expected.items() <= {(name, (run / name).read_bytes())}
            refused += name != "recipe.json"
        except InputError as error:
            refused += Path(name).name in str(error)
    assert refused == (0 if name == "recipe.json" else flips), "recipe.json alone is written anew"
    assert made == []


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


def ends(out: Path) -> dict[str, bytes]:
    """Read all that a search leaves but its description of the machine."""
    names = [*out.glob("cells/*/*"), *out.glob("*.json"), *out.glob("*.jsonl"), *out.glob("tuned.*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in names}


def test_a_search_killed_at_any_moment_tries_the_same_settings_in_the_same_order(
    tmp_path: Path, trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is kept as it is after each training: between the screen and the rest, in the grid and behind it."""
    trained(helps_at_input)
    kept: list[Any] = []
    fill = search.fill  # type: ignore[attr-defined]

    def keeps(recipe: Any, splits: Any, out: Path, **given: Any) -> None:
        before = len(list(out.glob("cells/*")))
        fill(recipe, splits, out, **given)
        if len(list(out.glob("cells/*"))) > before:
            kept.append(tmp_path / f"kept-{len(kept)}")
            shutil.copytree(out, kept[-1], copy_function=os.link)  # a file is replaced, never written again

    monkeypatch.setattr(search, "fill", keeps)
    plan = replace(PLAN, where=("hidden", "input"), trials=7)
    whole = tune(plan, tmp_path / "whole", console=quiet())
    monkeypatch.setattr(search, "fill", fill)
    assert {each.seeds for each in whole.tried} == {3, 5}, "some are dropped, some are not"
    assert len(whole.tried) > len(plan.grid), "the search goes on behind the grid"
    assert len(kept) > len(whole.tried)
    for folder in kept:
        assert tune(plan, folder, console=quiet()) == whole
        assert ends(folder) == ends(tmp_path / "whole")


class One(list[tuple[str, int]]):
    """Lets one network be made, and dies at the next."""

    left = 1

    def append(self, network: tuple[str, int]) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        super().append(network)


def test_a_search_killed_after_each_network_ends_as_an_undisturbed_one(
    tmp_path: Path, trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, killed = trained(helps_at_input), One()
    plan = replace(PLAN, where=("hidden", "input"), trials=6, method="gaussian")
    whole = tune(plan, tmp_path / "whole", console=quiet())
    monkeypatch.setattr(search, "fill", made_up(helps_at_input, killed))
    for _ in made[1:]:
        with pytest.raises(Killed):
            tune(plan, tmp_path / "killed", console=quiet())
        killed.left = 1
    assert tune(plan, tmp_path / "killed", console=quiet()) == whole
    assert ends(tmp_path / "killed") == ends(tmp_path / "whole")
    assert killed == made, "the same networks in the same order, none twice"


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
    with pytest.raises(InputError, match=r"holds another search: eps is \[0.1, 0.5\] there and \[0.2\] here"):
        tune(replace(PLAN, eps=(0.2,)), found[1], console=quiet())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").touch()
    with pytest.raises(InputError, match="not empty and holds no search"):
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

    def spy(name: str, root: Any, split: str, *more: Any) -> dataset.Images:
        splits.append(split)
        return data.load(name, root, split, *more)

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


DIGITS_PLAN = TuneConfig(recipe.digits())


def test_the_test_set_is_out_of_reach() -> None:
    leaky = replace(recipe.digits(), hold_out=False)
    assert (TuneConfig(leaky).held_out.split, TuneConfig(leaky).held_out.hold_out) == ("validation", True)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (method, own)
        for method in TUNABLE
        for own in (Settings(0.1), Settings(1e-05, 0.5, "relu*"), Settings(0.123456789))
    ]
    + [("r", Settings(0.25, 0.7, "input")), ("r", Settings(0.1, grain="channel", spread="random"))]
    + [("r", Settings(0.1, share=0.5)), ("gaussian", Settings(0.1, eps_schedule="early"))]
    + [("gaussian", Settings("auto", 0.5, "both", ratio=0.25))],
)
def test_a_name_is_read_back_as_its_settings(method: str, settings: Settings) -> None:
    name = variant(method, settings)
    assert methods.settings_of(name, Settings()) == settings
    assert methods.find_method(name).name == name


def test_the_grid_has_every_place_at_every_eps() -> None:
    plan = replace(DIGITS_PLAN, eps=(0.1, 0.2), where=("input", "both"))
    whole = [(0.1, "input"), (0.1, "both"), (0.2, "input"), (0.2, "both")]
    assert plan.grid == [Settings(eps=eps, where=place) for eps, place in whole]
    plan = replace(plan, where=("both",), grain=("element", "channel"), spread=("random",))
    forms = [(0.1, "element"), (0.1, "channel"), (0.2, "element"), (0.2, "channel")]
    assert plan.grid == [Settings(eps=e, where="both", grain=g, spread="random") for e, g in forms]  # type: ignore[arg-type]
    by_ratio = replace(DIGITS_PLAN, ratio=(0.5, 2.0), where=("input", "both"))
    assert [(own.ratio, own.where) for own in by_ratio.grid] == [(r, w) for r in (0.5, 2.0) for w in ("input", "both")]
    assert (plan.varied, by_ratio.varied) == ("eps", "ratio")


def test_the_ratio_that_helps_is_found(tmp_path: Path, trained: Callable[..., Any]) -> None:
    made = trained(lambda own: 0.1 - (0.06 - 0.04 * abs(own.ratio - 1)) * (own.where == "input"))
    tuned = tune(replace(PLAN, eps=(), ratio=(0.25, 1.0, 2.0)), tmp_path / "run", console=quiet())
    assert tuned.best is not None
    assert tuned.best.settings.where == "input"
    assert tuned.best.settings.eps == "auto"
    assert tuned.best.settings.ratio is not None
    assert 0.5 < tuned.best.settings.ratio < 1.6
    assert tuned.best.eps == (), "made-up networks have none"
    assert [each.settings.ratio for each in tuned.tried[:9:3]] == [0.25, 1.0, 2.0]
    assert tuned.sentence.startswith(f"r with ratio {tuned.best.settings.ratio:g}, p ")
    assert {name.partition("@")[2].partition("=")[0] for name, _ in made} == {"", "ratio"}
    identity = json.loads((tmp_path / "run/tuning.json").read_text())
    assert (identity["ratio"], identity.get("eps")) == ([0.25, 1.0, 2.0], None)


def folder(plan: TuneConfig) -> Path:
    return search_folder(plan, load_splits(plan.held_out))


def test_more_trials_or_another_disk_is_the_same_study() -> None:
    moved = replace(DIGITS_PLAN.recipe, data_dir="elsewhere")
    same = replace(DIGITS_PLAN, recipe=moved, trials=99, timeout=5.0, jobs=4, margin=0.1)
    others = [
        replace(DIGITS_PLAN, method="dropout"),
        replace(DIGITS_PLAN, eps=(0.1,)),
        replace(DIGITS_PLAN, where=("input",)),
        replace(DIGITS_PLAN, eps=(0.1,), grain=("channel",)),
    ]
    others.append(replace(DIGITS_PLAN, recipe=replace(DIGITS_PLAN.recipe, seeds=(0, 1))))
    splits = load_splits(DIGITS_PLAN.held_out)
    assert search_folder(same, splits) == search_folder(DIGITS_PLAN, splits)
    assert len({search_folder(plan, splits) for plan in [DIGITS_PLAN, *others]}) == 6
    assert search_folder(DIGITS_PLAN, splits).name.startswith("tune-digits-")
    swapped = replace(splits.train, y=9 - splits.train.y)
    other = replace(splits, fingerprints={**splits.fingerprints, "train": fingerprint(swapped)})
    assert search_folder(DIGITS_PLAN, other) != search_folder(DIGITS_PLAN, splits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "gausian"}, "unknown method 'gausian': did you mean 'gaussian'"),
        ({"method": "fgsm"}, "Those have an eps and a site to be tuned"),
        ({"eps": (0.1, 1.0)}, "eps is 1.0; it must be at least 0 and below 1"),
        ({"ratio": ()}, "ratio is empty; there must be at least one"),
        ({"where": ()}, "where is empty; there must be at least one"),
        ({"grain": ("pixel",)}, "grain is \\('pixel',\\); it must be one of element, channel, sample"),
        ({"grain": ()}, "grain is empty; there must be at least one"),
        ({"method": "gaussian", "spread": ("random",)}, "only r has a spread; gaussian has none"),
        ({"method": "dropout", "grain": ("sample",), "share": (0.5,)}, "only r has a grain and a share; dropout has"),
        ({"share": (1.5,)}, "share is .* from 0 to 1"),
        ({"eps_schedule": ("sudden",)}, "eps_schedule is .* one of constant, early, late, ramp, off"),
        ({"trials": 0}, "trials is 0; it must be from 1 to 1,000,000"),
        ({"margin": 0}, "margin is 0; it must be above 0 and below 100"),
        ({"timeout": 0}, "timeout is 0; it must be above 0 and at most 1e\\+30 seconds"),
        ({"jobs": 0}, "jobs is 0; it must be from 1 to 4,096"),
    ],
)
def test_what_cannot_be_tuned_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(DIGITS_PLAN, **change)
