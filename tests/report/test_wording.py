from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resolute.report.comparison import summarise
from resolute.report.run import load_run
from resolute.run_folder import read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeRun = Callable[..., Path]

NOISE = tuple(("noise", "gaussian-noise", severity) for severity in (0.1, 0.2, 0.3))
SIGNED = r"[+-]\d+\.\d\d"
NUMBERS = rf"\({SIGNED} points, 95 % interval {SIGNED} to {SIGNED}, 5 paired seeds; "
COST = r"Holm-corrected\); a training step takes \d\.\d\d times as long as with"


def sentence(folder: Path) -> str:
    return summarise(load_run(folder)).sentence


def errors(folder: Path, suite: str) -> dict[str, float]:
    """Mean errors in percent, from the records alone."""
    records = [r for r in read_records(folder / "records.jsonl") if r.suite == suite]
    return {m: 100 * float(np.mean([r.error for r in records if r.method == m])) for m in {r.method for r in records}}


def test_no_difference_is_said_with_its_interval(make_run: MakeRun) -> None:
    folder = make_run()
    error = errors(folder, "clean")
    start = f"No significant difference between r and base in the clean error: {error['r']:.2f} against "
    said = rf"{start}{error['base']:.2f} % {NUMBERS}not significant at 5 %: p = [\d.]+, {COST} base\."
    assert re.fullmatch(said, sentence(folder))


def test_better_and_worse(make_run: MakeRun) -> None:
    folder = make_run("better", keys=NOISE)
    better = sentence(folder)
    worse = sentence(make_run("worse", keys=NOISE, methods=("r", "base"), baseline="r"))
    error = errors(folder, "noise")
    r, base, change = f"{error['r']:.2f}", f"{error['base']:.2f}", f"{error['base'] - error['r']:.2f}"
    said = rf"R lowers the noise error from {base} to {r} % {NUMBERS}significant at 5 %: p [=<] [\d.]+, {COST} base\."
    assert re.fullmatch(said, better)
    said = rf"Base raises the noise error from {r} to {base} % {NUMBERS}significant at 5 %: p [=<] [\d.]+, {COST} r\."
    assert re.fullmatch(said, worse)
    assert f"(-{change} points" in better
    assert f"(+{change} points" in worse


def test_without_step_times_no_cost_is_claimed(make_run: MakeRun) -> None:
    folder = make_run()
    for path in folder.glob("cells/*/cost.json"):
        path.unlink()
    assert sentence(folder).endswith("Holm-corrected).")


def test_one_seed_and_no_pair(make_run: MakeRun) -> None:
    assert "with 1 seed, which says nothing about other seeds" in sentence(make_run("one", seeds=(0,)))
    alone = make_run("alone", methods=("base",))
    assert sentence(alone) == (
        f"base has a clean error of {errors(alone, 'clean')['base']:.2f} %; there is nothing to compare it with."
    )
    unpaired = make_run("unpaired", seeds=(0,), unfinished=(("base", 0),))
    assert sentence(unpaired).endswith("; no seed of base is finished to compare it with.")
    nothing = make_run("nothing", seeds=(0,), unfinished=(("r", 0),))
    assert sentence(nothing) == "No result yet: no seed of r is finished."


def limits(folder: Path) -> str:
    return "\n".join(summarise(load_run(folder)).limits)


def test_limits_name_what_was_not_run(make_run: MakeRun) -> None:
    text = limits(make_run())
    for part in (
        "One data set (digits, 360 images of its test split) and one network (lenet)",
        "Student's t over 5 seeds) cover new seeds on the same images",
        "Holm-corrected for the 6 comparisons",
        "cannot fall below 0.0625",
        "Of attacks only FGSM was run",
        "Not run: PGD, AutoAttack and black-box attacks",
        "everyday disturbances",
        "the corruption benchmark",
        "No control of equal power",
    ):
        assert part in text
    assert "not finished" not in text


def test_limits_follow_what_was_run(make_run: MakeRun) -> None:
    keys = (("clean", "clean", 0.0), ("corruptions", "fog", 1.0), ("attacks", "autoattack", 0.03))
    text = limits(make_run("more", keys=keys, methods=("base", "r", "gaussian")))
    assert "Not run: everyday disturbances" in text
    for part in ("corruption benchmark", "attack", "No control"):
        assert part not in text
    assert "No attack was run. Not run: FGSM, PGD" in limits(make_run("none", keys=NOISE))


def test_limits_of_one_seed(make_run: MakeRun) -> None:
    text = limits(make_run(seeds=(0,)))
    assert "cover new images, not new seeds" in text
    assert "Holm" not in text
    assert "paired t test" not in text


@pytest.mark.parametrize(("gone", "said"), [(1, "1 of 15 cells"), (2, "2 of 15 cells")])
def test_limits_of_a_partial_run_come_first(make_run: MakeRun, gone: int, said: str) -> None:
    first = summarise(load_run(make_run(unfinished=(("r", 3), ("r", 4))[:gone]))).limits[0]
    assert first.startswith("The run is not finished")
    assert said in first
    assert "r seed 3" in first


def test_a_method_with_one_finished_seed_is_named(make_run: MakeRun) -> None:
    text = limits(make_run(unfinished=tuple(("r", seed) for seed in range(1, 5))))
    assert "r: one seed only, so its interval (Wilson) covers new images" in text


def test_a_variant_speaks_for_its_method(make_run: MakeRun) -> None:
    folder = make_run(methods=("base", "dropout", "r@eps=0.3"))
    assert "between r@eps=0.3 and base" in sentence(folder)
    assert "No control of equal power" not in " ".join(summarise(load_run(folder)).limits)
    alone = make_run("alone", methods=("base", "r@eps=0.3"))
    assert "No control of equal power" in " ".join(summarise(load_run(alone)).limits)
