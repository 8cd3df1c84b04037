from __future__ import annotations

import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import torch

from resolute.curvature.hessian import Hessian, cross_entropy, eigenvalues
from resolute.data import load
from resolute.data.dataset import batches, epoch_order
from resolute.models import checkpoint
from resolute.run_folder import Record, locked, write_records, write_sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Call

SMALL = ("--images", 2, "--steps", 3, "--probes", 2, "--top", 2, "--surface", 3, "--device", "cpu")


@pytest.fixture
def cells(saved: Callable[[str, int], Path]) -> list[Path]:
    """Base and R with two seeds each, and what they were evaluated as."""
    folders = []
    for seed in (0, 1):
        for method in ("base", "r"):
            folders.append(saved(method, seed))
            right = 50 + len(folders)
            row = Record("digits", "lenet", method, seed, "clean", "clean", 0.0, right, 100)
            write_records(folders[-1] / "records.jsonl", [row])
    return folders


def test_cells_are_measured_compared_and_reported(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    out = tmp_path / "out"
    words = (*cells, *SMALL, "--out", out)
    answer = resolute("curvature", *words)
    assert answer.code == 0, answer.message
    assert answer.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert "base-seed0: largest eigenvalues done" in answer.message
    assert answer.message.endswith("0:00:00 left")
    result = json.loads((out / "curvature.json").read_text())
    names = [network["name"] for network in result["networks"]]
    assert names == ["base-seed0", "r-seed0", "base-seed1", "r-seed1"]
    assert "base, mean of 2 networks (95 % interval over them)" in answer.out
    assert "r as a multiple of base (over 2 paired seeds; interval and p Holm-corrected)" in answer.out
    assert {(row["method"], row["seeds"]) for row in result["comparisons"]} == {("r", 2)}
    errors = json.loads((out / "errors.json").read_text())
    assert errors["r-seed1"] == {"clean": pytest.approx(0.46)}
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 3 + 2 * 2
    assert "Methods over paired seeds" in page
    written = (out / "networks/r-seed1.json").stat().st_mtime_ns
    assert resolute("curvature", *words)[:2] == (0, answer.out)
    assert (out / "networks/r-seed1.json").stat().st_mtime_ns == written
    answer = resolute("curvature", *words, "--steps", 4)
    assert answer.code == 2
    assert "another curvature run: plan.steps is 3 there and 4 here" in answer.message


def test_networks_are_added_to_a_run(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    out = tmp_path / "out"
    assert resolute("curvature", *cells[1:3], *SMALL, "--out", out).code == 0
    written = (out / "networks/r-seed0.json").stat().st_mtime_ns
    write_sealed(out / "errors.json", {"of-another-process": {"clean": 0.5}})
    assert resolute("curvature", *cells, *SMALL, "--out", out).code == 0
    assert "of-another-process" in json.loads((out / "errors.json").read_text())
    assert (out / "networks/r-seed0.json").stat().st_mtime_ns == written
    assert resolute("curvature", *cells, *SMALL, "--out", tmp_path / "whole").code == 0
    grown, whole = (json.loads((folder / "curvature.json").read_text()) for folder in (out, tmp_path / "whole"))
    for key in ("networks", "comparisons", "correlations"):
        assert grown[key] == whole[key]
    (out / "networks/base-seed1.json").unlink()
    answer = resolute("curvature", *cells[:2], *SMALL, "--out", out)
    assert answer.code == 2
    assert "holds another curvature run: networks is " in answer.message


def test_a_report_shows_what_is_measured(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    out = tmp_path / "out"
    shown = resolute("curvature", *cells[:2], *SMALL, "--out", out).out
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert resolute("report", out)[:2] == (0, shown)
    assert (out / "report.html").read_text() == page
    (out / "networks/r-seed0.json").unlink()
    answer = resolute("report", out)
    assert answer.code == 0
    assert "r-seed0" not in answer.out
    told = "1 of 2 networks are measured"
    assert told in " ".join(answer.out.split())
    assert told in (out / "report.html").read_text()
    assert told not in page
    (out / "networks/base-seed0.json").unlink()
    answer = resolute("report", out)
    assert answer.code == 2
    assert "holds no measured network yet" in answer.message


def test_processes_share_the_networks(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    words = ("curvature", *cells[:2], *SMALL, "--out", out)
    assert resolute(*words[:-1], other).code == 0
    with ThreadPoolExecutor() as pool, locked(out / ".locks", "base-seed0"):
        running = pool.submit(resolute, *words)
        while not (out / "networks/r-seed0.json").exists():
            assert not running.done()
            time.sleep(0.05)
        with pytest.raises(TimeoutError):
            running.result(timeout=0.7)
        shutil.copy2(other / "networks/base-seed0.json", out / "networks/base-seed0.json")
    assert running.result().code == 0
    times = [(folder / "networks/base-seed0.json").stat().st_mtime_ns for folder in (out, other)]
    assert times[0] == times[1], "measured meanwhile, and not again"


def test_what_it_writes_is_what_the_functions_give(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    out = tmp_path / "out"
    answer = resolute("curvature", cells[0], *SMALL, "--surface", 0, "--double", "--out", out)
    assert answer.code == 0, answer.message
    (network,) = json.loads((out / "curvature.json").read_text())["networks"]
    images = load("digits")
    data = list(batches(images, 2, order=epoch_order(len(images), 0, 0)[:2]))
    true = eigenvalues(Hessian(checkpoint.load_network(cells[0]).double(), cross_entropy, data), 2)
    assert network["top"] == pytest.approx(true.values.tolist(), rel=1e-6)
    assert network["surface"] is None
    assert network["quantities"]["parameter-top"]["n"] == 2  # micro-batches
    assert torch.tensor(network["jacobian_norms"]).shape == (2,)


def test_the_time_left_is_that_of_the_networks_left(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    answer = resolute("curvature", *cells, *SMALL, "--surface", 0, "--out", tmp_path / "out")
    found = re.findall(r"all done, (0:\d\d:\d\d), (0:\d\d:\d\d) left", answer.message)
    times = [(_seconds(spent), _seconds(left)) for spent, left in found]
    assert times[-1][1] == 0
    assert [left for _, left in times] == [
        pytest.approx(spent * (4 / k - 1), abs=3) for k, (spent, _) in enumerate(times, start=1)
    ]


def _seconds(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def test_the_noise_sounds_if_it_is_asked_for(cells: list[Path], tmp_path: Path, resolute: Call) -> None:
    found = []
    for words in ((), ("--eps", 0.5, "--where", "both", "--draws", 1)):
        out = tmp_path / f"out{len(words)}"
        answer = resolute("curvature", cells[0], *SMALL, "--surface", 0, *words, "--out", out)
        assert answer.code == 0, answer.message
        found.append(json.loads((out / "curvature.json").read_text())["networks"][0]["quantities"])
    assert found[1]["input-jacobian"]["value"] > 1.05 * found[0]["input-jacobian"]["value"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no network to evaluate"),
        (("--images", 0), "images is 0"),
        (("--surface", 200), "surface is 200"),
        (("--split", "tests"), "did you mean 'test'"),
    ],
)
def test_a_mistake_is_told(words: tuple[object, ...], message: str, resolute: Call) -> None:
    answer = resolute("curvature", *words)
    assert answer.code == 2
    assert message in answer.message
