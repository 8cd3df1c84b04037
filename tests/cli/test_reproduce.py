from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from rich.console import Console

from cases import tiny_images, tiny_info, tiny_network
from resolute import models
from resolute.evaluation.measure import measure
from resolute.paper import run as running
from resolute.paper.ledger import ledger, read_pools
from resolute.paper.page import console_ledger
from resolute.paper.tables import ROWS
from resolute.run_folder import read_records

if TYPE_CHECKING:
    from torch import nn

    from cli.conftest import Call

ROOT = Path(__file__).parents[2]


def test_without_arguments_all_rows_are_shown(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    answer = resolute("reproduce")
    assert answer.code == 0
    lines = answer.out.splitlines()
    for row in ROWS.values():
        assert any(line.split()[: len(row.name.split())] == row.name.split() for line in lines)
    assert "42 rows: " in answer.out
    assert max(map(len, lines)) <= 110


def test_a_table_alone(resolute: Call, tmp_path: Path) -> None:
    answer = resolute("reproduce", "--table", 2, "--results", tmp_path)
    assert answer.code == 0
    assert "4 rows: 0 measured, 3 run and are not measured and 1 quoted." in answer.out
    lines = answer.out.splitlines()
    place = next(place for place, line in enumerate(lines) if line.split()[:1] == ["R-NASNet-A"])
    assert lines[place].split()[:3] == ["R-NASNet-A", "83.00", "96.50"]
    assert lines[place + 1].split()[:2] == ["+0.30", "+0.30"]


def test_a_measurement_stands_beside_the_claim(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    answer = resolute("reproduce", "--table", 4)
    lines = answer.out.splitlines()
    [place] = [place for place, line in enumerate(lines) if line.split()[:1] == ["R-LeNet"]]
    claimed, measured = lines[place].split()[2:4]
    assert claimed == "0.28"
    assert 0.2 < float(measured) < 0.8
    seeds = re.search(r" n (\d+) ", lines[place])
    assert seeds
    assert int(seeds[1]) >= 5
    assert lines[place + 1].split()[0] == "-0.22"
    assert "eps 0.1 at hidden; another recipe (2 departures): no" in lines[place + 1]


def test_nothing_is_cut_off_where_the_terminal_is_narrow() -> None:
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=True, color_system=None)
    for part in console_ledger(ledger(read_pools(ROOT / "experiments/results"))):
        console.print(part, highlight=False)
    assert "\N{HORIZONTAL ELLIPSIS}" not in written.getvalue()
    assert max(map(len, written.getvalue().splitlines())) <= 80


def test_a_row_is_run_with_its_base_and_shown_as_no_measurement(resolute: Call, tmp_path: Path) -> None:
    arguments = ("--table", 4, "--row", "R-LeNet", "--scale", "smoke", "--device", "cpu", "--out", tmp_path)
    answer = resolute("reproduce", *arguments)
    assert answer.code == 0, answer.message
    folder = tmp_path / "4-lenet-smoke"
    assert {record.method for record in read_records(folder / "records.jsonl")} == {"base", "r"}
    assert "A smoke run: everything ran, on a few images; nothing was measured." in answer.out
    assert str(folder) in answer.out
    times = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/weights.safetensors")}
    assert resolute("reproduce", *arguments).code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/weights.safetensors")} == times
    assert "42 rows: 0 measured" in resolute("reproduce", "--results", tmp_path).out


def test_rows_of_a_network_share_its_base(resolute: Call, tmp_path: Path) -> None:
    arguments = ("--scale", "smoke", "--device", "cpu", "--out", tmp_path)
    assert resolute("reproduce", "--row", "4-r-lenet", *arguments).code == 0
    folder = tmp_path / "4-lenet-smoke"
    times = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/weights.safetensors")}
    answer = resolute("reproduce", "--row", "4-fgsm-lenet", *arguments)
    assert answer.code == 0, answer.message
    assert {"fgsm", "r"} <= {line.split()[0] for line in answer.out.splitlines() if line.strip()}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {record.method for record in read_records(folder / "records.jsonl")} == {"base", "fgsm", "r"}
    assert resolute("reproduce", "--row", "4-lenet", *arguments).code == 0


def test_the_page_is_written(resolute: Call, tmp_path: Path) -> None:
    page = tmp_path / "new/tables.md"
    answer = resolute("reproduce", "--results", tmp_path, "--write", page)
    assert (answer.code, answer.out) == (0, f"written: {page}\n")
    assert page.read_text().startswith("# The paper's tables")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--table", 4, "--row", "R-LeNett"), "unknown row of table 4 'R-LeNett': did you mean '4-r-lenet'"),
        (("--table", 9), "there is no table 9"),
        (("--row", "W-ResNet"), "W-ResNet stands in several rows: 4-w-resnet, 5-w-resnet-cifar10"),
        (("--row", "R-LeNet", "--scale", "tiny"), "unknown scale 'tiny'"),
        (("--row", "NASNet-B(N=4)"), "row 3-nasnet-b is quoted and not trained: its cell is in a figure"),
        (("--row", "SENet", "--scale", "smoke"), "Its published weights can be evaluated: leave --scale out."),
        (("--row", "R-LeNet", "--pretrained"), "no library has weights of row 4-r-lenet. There are of: 2-senet"),
        (("--table", 4, "--scale", "smoke"), "--scale is for a run: name its row, --row R-LeNet."),
        (("--seeds", 3, "--device", "cpu"), "--seeds is for a run: name its row, --row R-LeNet."),
        (("--row", "SENet", "--pretrained", "--seeds", 3), "--seeds is for training, and --pretrained trains nothing"),
        (("--row", "R-LeNet", "--write", "t.md"), "--write shows the ledger: leave it out, or leave --row out."),
        (("--table", 4, "--write", "t.md"), "--table does not go with --write, which writes all five."),
        (("--table", 5, "--row", "R-LeNet"), "table 5 has no row R-LeNet; table 4 has."),
        (("--row", "R-LeNet", "--scale", "smoke", "--out", __file__), "Not a directory. Choose a folder"),
        (("--results", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_mistakes_end_with_a_message_and_code_2(arguments: tuple[object, ...], message: str, resolute: Call) -> None:
    answer = resolute("reproduce", *arguments)
    assert answer.code == 2
    assert message in answer.message


def test_published_weights_are_evaluated_once(resolute: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def build(name: str, **how: Any) -> nn.Module:
        asked.append({"name": name, **how})
        return tiny_network(classes=9, shape=(3, 8, 8))

    images = tiny_images(20, tiny_info(classes=9, shape=(3, 8, 8)), split="test")
    monkeypatch.setattr(models, "build", build)
    monkeypatch.setattr(running, "load", lambda *_: images)
    measured: list[object] = []

    def counted(*args: Any, **how: Any) -> Any:
        measured.append(args)
        return measure(*args, **how)

    monkeypatch.setattr(running, "measure", counted)
    for _ in range(2):
        answer = resolute("reproduce", "--row", "SENet", "--out", tmp_path)
        assert answer.code == 0, answer.message
    assert asked == 2 * [{"name": "senet-154", "classes": 9, "pretrained": True, "shape": (3, 8, 8)}]
    assert len(measured) == 1
    first, fifth = read_records(tmp_path / "2-senet-weights/records.jsonl")
    with torch.no_grad():
        answers = tiny_network(classes=9, shape=(3, 8, 8)).eval()(images.x / 255).argsort(1, descending=True)
    assert first.correct == int((answers[:, 0] == images.y).sum())
    assert fifth.correct == int((answers[:, :5] == images.y[:, None]).sum())
    said = f"SENet: top-1 error {100 * first.error:.2f} %, top-5 error {100 * fifth.error:.2f} % of 20 images"
    assert said in answer.out
    assert "published weights" in resolute("reproduce", "--table", 2, "--results", tmp_path).out
