"""The ledger's page, and the words that it has for a training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolute.paper.ledger import ledger, read_pools
from resolute.paper.page import markdown, training_words
from resolute.paper.rows import TRAINED
from resolute.paper.tables import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def test_the_page_of_tables_is_what_the_command_writes() -> None:
    """If not: resolute reproduce --write docs/tables.md."""
    written = markdown(ledger(read_pools(ROOT / "experiments/results")))
    assert (ROOT / "docs/tables.md").read_text(encoding="utf-8") == written


def rows_of(page: str) -> list[list[str]]:
    return [
        [re.sub(r"\\(.)", r"\1", cell).strip() for cell in line.strip("|").split(" | ")]
        for line in page.splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]


def test_every_row_stands_there_once_with_its_numbers() -> None:
    table = [cells for cells in rows_of(markdown(ledger([]))) if "not measured" in cells[-1] or "quoted" in cells[-1]]
    assert [cells[0] for cells in table] == [row.name for row in ROWS.values()]
    for cells, row in zip(table, ROWS.values(), strict=True):
        for value in row.measures:
            assert any(cell.startswith(f"{value.value:.2f}") for cell in cells)
            assert value.plus_minus is None or any(cell.endswith(f"± {value.plus_minus:.2f}") for cell in cells)


def test_tables_are_rectangular() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", markdown(ledger([])), re.MULTILINE):
        assert len({line.count(" | ") for line in block.splitlines()}) == 1


def test_misprints_stand_beside_what_the_source_has() -> None:
    page = markdown(ledger([]))
    assert "42.4B (misprint: 42.3B)" in page
    assert "10.50 (misprint: 10.20)" in page
    assert "274.0M (misprint: 529.0M)" in page


def test_every_recipe_is_described_with_its_deviations() -> None:
    page = markdown(ledger([])).replace("\\", "")
    for row in TRAINED.values():
        assert f"`{row.row}`" in page
        assert all(text.replace("<", "&lt;") in page for text in row.deviations)


def test_a_measurement_stands_beside_its_claim(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-r-lenet", {"base": [52, 50, 55, 49, 51], "r": [40, 41, 42, 37, 40]})
    rows = rows_of(markdown(ledger(read_pools(tmp_path))))
    [measured, compared] = [cells for cells in rows if cells[0] == "R-LeNet"]
    assert measured == [
        "R-LeNet",
        "MNIST",
        "0.28",
        "0.40 (0.38 to 0.42), n = 5, noise-to-signal 1 at hidden",
        "full recipe",
    ]
    assert compared[2] == "-0.22"
    assert compared[3].startswith("-0.11 (-0.13 to -0.10), n = 5, noise-to-signal 1 at hidden: better, by less")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "5-r-w-resnet-cifar10",
            "`wrn-28-10-drop30`; 300 epochs of batch 128; SGD at 0.1, times 0.1 at epochs 150, 225; weight decay "
            "0.0005; shifts of 4, flips, erasing with probability 0.5; cross-entropy; R: noise-to-signal 0.5 at "
            "hidden.",
        ),
        (
            "4-capsnet",
            "`capsnet`; 641 epochs of batch 128; Adam at 0.001, times 0.96 each 4.27 epochs, smoothly; weight decay 0; "
            "shifts of 2; margin loss.",
        ),
        (
            "4-s-resnet",
            "`resnet110-sd`; 50 epochs of batch 128; Nesterov SGD at 0.1, times 0.1 at epochs 30, 35; weight decay "
            "0.0001; no augmentation; cross-entropy; validation images held out.",
        ),
        (
            "2-nasnet-a",
            "`nasnet-a-large`; 312 epochs of batch 1,600; RMSProp at 1.5, times 0.97 each 2.4 epochs; weight decay "
            "5e-05; crops of 8 to 100 % and flips; average of the weights 0.9999; gradients clipped at 10; "
            "cross-entropy with label smoothing 0.1.",
        ),
    ],
)
def test_a_training_in_a_sentence(row: str, words: str) -> None:
    assert training_words(TRAINED[row].recipe, TRAINED[row].source.loss) == words
