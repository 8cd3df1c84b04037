from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from resolute.config import Settings
from resolute.report.tuning import Tuned, console_tuned, draw_tuned, markdown_tuned, sum_up
from resolute.stats import compare_paired, holm, mean_t, wilson

N, SEEDS = 2000, 5


def erring(error: float, seeds: int = SEEDS, number: int = 0) -> np.ndarray:
    rng = np.random.default_rng([number, seeds])
    return rng.random((seeds, 1, N)) < error


SETTINGS = {
    "r@eps=0.1@where=hidden": Settings(0.1, 0.5, "hidden"),
    "r@eps=0.4@where=hidden": Settings(0.4, 0.5, "hidden"),
    "r@eps=0.2@where=hidden@p=0.7": Settings(0.2, 0.7, "hidden"),
    "r@eps=0.1@where=input": Settings(0.1, 0.5, "input"),
    "r@eps=0.4@where=input": Settings(0.4, 0.5, "input"),
}
ERRORS = (0.1, 0.13, 0.05, 0.1, 0.02)


def tuned(errors: tuple[float, ...] = ERRORS, dropped: int = 4) -> Tuned:
    """The fifth setting has the lowest error, and fewer seeds."""
    own = zip(SETTINGS, errors, strict=True)
    wrong = {n: erring(e, 3 if k == dropped else SEEDS, k + 1) for k, (n, e) in enumerate(own)}
    return sum_up("r", {"base": erring(0.1)} | wrong, SETTINGS, stopped="stopped after 5 settings")


def test_only_finalists_are_tested_and_chosen() -> None:
    found = tuned()
    assert found.best is not None
    assert found.best.name == found.nearest.name == "r@eps=0.2@where=hidden@p=0.7"
    assert [each.finalist for each in found.tried] == [True, True, True, True, False]
    paired = [compare_paired(erring(e, SEEDS, k + 1), erring(0.1)) for k, e in enumerate(ERRORS[:4])]
    assert [each.paired for each in found.tried[:4]] == paired
    dropped = 1.0  # it was looked at too
    adjusted = holm([*[pair.p() for pair in paired], dropped])
    own = [each.found for each in found.tried[:4] if each.found]
    assert [each.p_holm for each in own] == list(adjusted[:4])
    for each in own:
        excluded = each.difference.low > 0 or each.difference.high < 0
        assert excluded == (each.p_holm <= 0.05) == (each.verdict != "no difference seen")
    assert found.tried[4].found is None
    assert found.tried[4].paired == compare_paired(erring(0.02, 3, 5), erring(0.1)[:3])
    assert found.tried[1].error == mean_t(erring(0.13, SEEDS, 2).mean(axis=(1, 2)))
    assert (found.n, found.seeds, found.base) == (N, SEEDS, mean_t(erring(0.1).mean(axis=(1, 2))))


def test_the_sentence_says_what_was_found() -> None:
    found = tuned()
    number = r"[+-]\d+\.\d\d"
    assert re.fullmatch(
        r"r with eps 0\.2, p 0\.7 at hidden lowers the validation error of base to \d\.\d\d % "
        rf"\({number} points, 9[\d.]+ % interval {number} to {number}, 5 paired seeds; significant at 5 %: p < 0\.001, "
        r"Holm-corrected for 5 settings\)\. It was chosen on these images, so expect a smaller gain on others\.",
        found.sentence,
    )


@pytest.mark.parametrize("error", [0.1, 0.3])
def test_no_better_setting_is_said_to_be_none(error: float) -> None:
    """Also where settings differ for the worse."""
    found = tuned((error,) * 5)
    assert found.best is None
    assert found.sentence.startswith(
        "No setting of r is significantly better than base; the lowest error came with eps "
    )


def test_these_validation_images_are_told_from_new_ones() -> None:
    """In every seed the setting is right on four images that base gets wrong, and on one of the others it errs."""
    images, name = np.arange(N), "r@eps=0.1@where=hidden"
    base = np.array([[images < 40]] * SEEDS)
    ours = np.array([[(images < 36) | (images == 50 + 7 * seed) & (seed % 2 == 0)] for seed in range(SEEDS)])
    found = sum_up("r", {"base": base, name: ours}, {name: Settings(0.1)})
    assert found.best is None
    assert re.search(
        r"On these 2,000 validation images it is better \(p < 0\.001\); for new images they are too few to tell: "
        r"about [\d,]+ images would do\.$",
        found.sentence,
    )
    assert "no difference seen (on these images: better)" in markdown_tuned(found)


def test_one_seed_claims_nothing() -> None:
    wrong = {"base": erring(0.1, 1), "r@eps=0.1@where=hidden": erring(0.01, 1, 1)}
    found = sum_up("r", wrong, {"r@eps=0.1@where=hidden": Settings(0.1)})
    assert found.best is None
    assert found.base == wilson(int(erring(0.1, 1).sum()), N)
    assert "points, 1 paired seed)." in found.sentence
    assert draw_tuned(found, "png").startswith(b"\x89PNG")


def test_the_tables_show_every_setting() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(*console_tuned(tuned()))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line.split() for line in shown.splitlines() if re.search(r"0\.[57] +[35] ", line)]
    assert [row[0] for row in rows if row[0].isalpha()] == ["hidden", "input"]
    assert [row[-1] for row in rows] == ["seen", "better", "worse", "seen", "dropped"]
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert sum("*" in row for row in rows) == 1
    page = markdown_tuned(tuned())
    assert page.count("| r@") == len(SETTINGS)
    assert "2,000 validation images; stopped after 5 settings." in page


def test_the_figure_names_each_place_once_and_is_the_same_each_time() -> None:
    picture = draw_tuned(tuned(), "svg")
    assert picture == draw_tuned(tuned(), "svg")
    words = [text.text for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert [words.count(name) for name in ("hidden", "input", "base", "eps")] == [1, 1, 1, 1]
    assert {"0.1", "0.4"} <= set(words)
    assert "0.2" not in words, "a setting with another p is on no line"
    assert any("open: p other than 0.5" in (word or "") for word in words)


def test_eps_of_zero_is_drawn() -> None:
    settings = {f"r@eps={eps}@where=input": Settings(eps, 0.5, "input") for eps in (0, 0.5)}
    wrong = {name: erring(0.1, SEEDS, k) for k, name in enumerate(["base", *settings])}
    assert b"<svg" in draw_tuned(sum_up("r", wrong, settings), "svg")
