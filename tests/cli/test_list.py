from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from resolute.cli import app
from resolute.data import DATASETS
from resolute.experiment.recipe import RECIPES
from resolute.methods import METHODS
from resolute.models import ABSENT, MODELS
from resolute.paper import sizes
from resolute.paper.sources import SOURCES
from resolute.paper.tables import ROWS
from resolute.shifts import SUITES

if TYPE_CHECKING:
    from cli.conftest import Call

NAMES = ("lenet", "capsnet-decoder", "shufflenet-v1-2x", "condensenet-g8-condensed")


@pytest.fixture(scope="module")
def shown() -> list[list[str]]:
    """The words of each line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "SIZES", {name: sizes.SIZES[name] for name in NAMES})
        answer = CliRunner().invoke(app, ["list", "models"], env={"COLUMNS": "80"})
    assert answer.exit_code == 0
    lines = answer.output.splitlines()
    assert max(map(len, lines)) <= 80
    return [line.split() for line in lines[lines.index(next(line for line in lines if line.startswith("sizes"))) :]]


@pytest.mark.parametrize(
    "row",
    [
        "lenet parameters 431,080",
        "mult-adds 2.29M",
        "capsnet-decoder parameters 8,215,728 8.2M +0.2 %",
        "shufflenet-v1-2x parameters 5,450,776 5.3M 5.4M +2.8 %",
        "mult-adds 524.05M 524M 524M +0.0 %",
        "condensenet-g8-condensed parameters 2,935,416 2.9M 2.9M +1.2 %",
        "mult-adds 261.55M 274M 274M -4.5 %",
    ],
)
def test_counts_stand_beside_print_and_source_with_the_deviation(row: str, shown: list[list[str]]) -> None:
    assert row.split() in shown


def test_every_size_says_where_it_is_from(shown: list[list[str]]) -> None:
    words = " ".join(word for line in shown for word in line)
    assert "README of ShichenLiu/CondenseNet@833a91d" in words
    assert "off: from the paper, else from the source" in words


def test_absent_networks_say_why() -> None:
    answer = CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"})
    for name, figure in (("nasnet-b", "Figure 8"), ("nasnet-c", "Figure 9")):
        [line] = [line for line in answer.output.splitlines() if line.startswith(name)]
        assert "not built" in line
        assert figure in line


def test_recipes_of_the_papers_rows_are_listed() -> None:
    answer = CliRunner().invoke(app, ["list", "recipes"], env={"COLUMNS": "200"})
    lines = {line.split()[0]: line for line in answer.output.splitlines() if line}
    assert set(ROWS) <= lines.keys()
    assert "base and r: wrn-28-10-drop30 on cifar10, 300 epochs of batch 128, sgd" in lines["5-r-w-resnet-cifar10"]
    assert "quoted: no FGSM- or R- row" in lines["2-senet"]


def test_list_shows_everything(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "SIZES", {})
    tables: dict[str, list[str]] = {
        "models": [*MODELS, *ABSENT],
        "data": [*DATASETS, "PATH"],
        "methods": [*METHODS, "A+B"],
        "suites": list(SUITES),
        "recipes": [*RECIPES, *SOURCES],
    }
    everything = resolute("list")
    assert everything.code == 0
    for kind, names in tables.items():
        answer = resolute("list", kind)
        assert answer.code == 0
        assert answer.out.partition("\n\n")[0] in everything.out
        rows = answer.out.partition("\n\n")[0].splitlines()
        assert rows[0].strip() == kind
        for name in names:
            [row] = [row for row in rows if row.split(" ")[0] == name]
            assert len(row.split()) >= 3


def test_every_deviation_from_a_source_is_listed(resolute: Call) -> None:
    words = " ".join(resolute("list", "recipes").out.split())
    for source in SOURCES.values():
        for text in (source.where, *source.deviations):
            assert all(word in words for word in text.split())
    assert resolute("list", "recipes").out.count("No deviation is known.") == sum(
        not source.deviations for source in SOURCES.values()
    )


def test_list_refuses_what_it_does_not_know(resolute: Call) -> None:
    answer = resolute("list", "modles")
    assert answer.code == 2
    assert "modles" in answer.err
    assert "Traceback" not in answer.err
