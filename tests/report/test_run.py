from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resolute.errors import InputError
from resolute.report.run import load_run
from resolute.run_folder import read_bits, read_records, write_bits, write_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeRun = Callable[..., Path]


def test_a_run_is_read_as_it_was_written(make_run: MakeRun) -> None:
    folder = make_run()
    run = load_run(folder)
    assert (run.methods, run.baseline, run.seeds) == (("base", "fgsm", "r"), "base", (0, 1, 2, 3, 4))
    assert run.suites == ("clean", "noise", "fgsm")
    assert run.missing == ()
    assert run.n == 360
    assert run.sha256 == hashlib.sha256((folder / "records.jsonl").read_bytes()).hexdigest()
    key = ("noise", "gaussian-noise", 0.2)
    stored = read_bits(folder / "cells" / "r-seed3" / "bits.npz")[key]
    assert 0 < stored.sum() < 360
    np.testing.assert_array_equal(run.wrong("r", (3,), (key,))[0, 0], ~stored)
    assert run.wrong("r", (0, 1), run.keys).shape == (2, 6, 360)


def test_curves_and_costs_are_numbers(make_run: MakeRun) -> None:
    folder = make_run()
    cell = load_run(folder).cells["fgsm", 2]
    assert np.isfinite(cell.curves["loss"]).all()
    assert np.isnan(cell.curves["validation_error"]).tolist() == [True, False] * 6
    assert cell.passes == 3
    assert cell.parameters == 431080


def test_optional_files_may_be_missing(make_run: MakeRun) -> None:
    folder = make_run()
    for name in ("train.csv", "cost.json"):
        (folder / "cells" / "r-seed0" / name).unlink()
    (folder / "records.jsonl").unlink()
    run = load_run(folder)
    assert run.cells["r", 0].curves["loss"].size == 0
    assert np.isnan(run.cells["r", 0].passes)
    assert run.sha256 == ""


def test_an_unfinished_cell_is_missing(make_run: MakeRun) -> None:
    run = load_run(make_run(unfinished=(("r", 3), ("base", 4))))
    assert run.missing == (("base", 4), ("r", 3))
    assert run.finished("r") == (0, 1, 2, 4)
    assert run.finished("fgsm") == (0, 1, 2, 3, 4)
    assert ("r", 3) not in run.cells


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe\.json.*Is this a run folder"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", r"recipe\.json: its content is \[\]; wanted is an object"),
        ('{"methods": ["base"]}', r"recipe\.json: seeds is missing"),
        ('{"methods": 3, "seeds": [0]}', r"recipe\.json: methods is 3; wanted is a list"),
        ('{"methods": ["base"], "seeds": [-1]}', r"seeds\[0\] is -1; wanted is at least 0"),
        ('{"methods": ["base", "base"], "seeds": [0]}', "names a method or a seed twice"),
        ('{"methods": ["r"], "seeds": [0], "baseline": "base"}', "its baseline 'base' is not in its methods"),
    ],
)
def test_a_recipe_that_is_none(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(InputError, match=told):
        load_run(tmp_path)


def test_nothing_finished(make_run: MakeRun) -> None:
    folder = make_run(seeds=(0,), unfinished=(("base", 0), ("fgsm", 0), ("r", 0)))
    with pytest.raises(InputError, match="none of 3 cells"):
        load_run(folder)


def test_records_that_contradict_the_bits(make_run: MakeRun) -> None:
    cell = make_run(seeds=(0,)) / "cells" / "r-seed0"
    bits = read_bits(cell / "bits.npz")
    bits["clean", "clean", 0.0] = ~bits["clean", "clean", 0.0]
    write_bits(cell / "bits.npz", bits)
    with pytest.raises(InputError, match="count differently"):
        load_run(cell.parent.parent)


def test_cells_that_met_different_suites(make_run: MakeRun) -> None:
    cell = make_run(seeds=(0,)) / "cells" / "r-seed0"
    write_bits(cell / "bits.npz", dict(list(read_bits(cell / "bits.npz").items())[:3]))
    write_records(cell / "records.jsonl", read_records(cell / "records.jsonl")[:3])
    with pytest.raises(InputError, match="different suites"):
        load_run(cell.parent.parent)


def test_a_curve_that_is_no_number(make_run: MakeRun) -> None:
    folder = make_run(seeds=(0,))
    (folder / "cells" / "r-seed0" / "train.csv").write_text("epoch,loss\n1,low\n")
    with pytest.raises(InputError, match="loss is 'low'; wanted is a number"):
        load_run(folder)
