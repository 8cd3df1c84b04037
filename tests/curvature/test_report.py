from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resolute.curvature.report import (
    OUTCOMES,
    QUANTITIES,
    batch_effect,
    by_method,
    cell,
    compare_methods,
    curvature_sentence,
    draw_density,
    draw_norms,
    draw_surfaces,
    interval,
    relate,
    write_curvature,
)

if TYPE_CHECKING:
    from pathlib import Path


def network(name: str, scale: float = 1.0) -> dict[str, Any]:
    quantities = {key: {"value": scale * at, "se": 0.1, "n": 5} for at, key in enumerate(QUANTITIES, start=1)}
    quantities["parameter-lowest"]["value"] *= -1
    radii = [-1.0, 0.0, 1.0]
    return {
        "name": name,
        "architecture": "lenet",
        "sha256": "0" * 64,
        "parameters": 10,
        "quantities": quantities,
        "top": [3 * scale, 1.0],
        "top_errors": [0.0, 0.0],
        "nodes": [[-0.5, 0.0, 3 * scale]],
        "weights": [[0.1, 0.8, 0.1]],
        "jacobian_norms": [scale, 2 * scale, 3 * scale],
        "surface": {"radii": radii, "loss": [[1.0, 0.5, None], [0.4, 0.1, 0.4], [1.0, 0.5, 1.0]]},
    }


SCALES = {"base": (1.0, 1.2, 0.9), "r": (0.5, 0.7, 0.4)}
NETWORKS = [network(f"{method}-seed{seed}", s) for method, own in SCALES.items() for seed, s in enumerate(own)]


def test_methods_are_compared_by_ratios_over_paired_seeds() -> None:
    rows = compare_methods([*NETWORKS, network("other")])
    assert [row.quantity for row in rows] == list(OUTCOMES)
    logs = np.log(np.array(SCALES["r"]) / SCALES["base"])
    test = scipy_stats.ttest_1samp(logs, 0)
    low, high = test.confidence_interval(rows[0].level)
    assert rows[0].ratio.mean == pytest.approx(math.exp(logs.mean()))
    assert (rows[0].ratio.low, rows[0].ratio.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert rows[0].p == pytest.approx(test.pvalue)
    assert rows[0].p_holm == pytest.approx(min(1, len(OUTCOMES) * test.pvalue))
    assert {row.seeds for row in rows} == {3}


def test_what_is_no_pair_or_has_two_signs_is_not_compared() -> None:
    assert compare_methods(NETWORKS[:3]) == []
    assert compare_methods([NETWORKS[0], NETWORKS[4]]) == []
    assert compare_methods([network("one"), network("two")]) == []
    turned = [*NETWORKS[:5], network("r-seed2", -1.0)]
    assert compare_methods(turned) == []
    missing = [dict(n, quantities={k: v for k, v in n["quantities"].items() if k != "input-top"}) for n in NETWORKS]
    assert [row.quantity for row in compare_methods(missing)] == [key for key in OUTCOMES if key != "input-top"]


def test_errors_are_correlated_by_rank() -> None:
    errors = {n["name"]: {"clean": 0.01 * at, "same": 0.5} for at, n in enumerate(NETWORKS)}
    rows = relate(NETWORKS, errors)
    assert {row["suite"] for row in rows} == {"clean"}
    values = [n["quantities"]["input-top"]["value"] for n in NETWORKS]
    rho, p = scipy_stats.spearmanr(values, range(6))
    found = next(row for row in rows if row["quantity"] == "input-top")
    assert (found["rho"], found["p"], found["n"]) == pytest.approx((float(rho), float(p), 6))
    assert relate(NETWORKS[:4], errors) == []


def test_names_and_numbers() -> None:
    assert {method: list(cells) for method, cells in by_method([*NETWORKS, network("x")]).items()} == {
        "base": [0, 1, 2],
        "r": [0, 1, 2],
    }
    assert interval({"value": 1.0, "se": 0.5, "n": 3}).high == pytest.approx(1.98)
    assert math.isnan(interval({"value": 1.0, "se": None, "n": 1}).low)
    assert cell(NETWORKS[0], "input-top") == "2.00 (1.80 to 2.20)"
    assert cell({"quantities": {}}, "input-top") == "\N{EM DASH}"
    assert "1.25 times" in batch_effect(NETWORKS)
    assert "not significant at 5 %" in curvature_sentence(
        NETWORKS[:2] + NETWORKS[3:5], compare_methods(NETWORKS[:2] + NETWORKS[3:5])
    )
    assert curvature_sentence([network("a")], []) == "a: largest eigenvalue 4.00"


def test_pictures_show_every_network_and_a_cut_surface() -> None:
    for picture in (draw_density(NETWORKS), draw_norms(NETWORKS)):
        assert all(n["name"] in picture.svg for n in NETWORKS)
    surfaces = draw_surfaces([*NETWORKS[:1], dict(NETWORKS[1], surface=None), NETWORKS[2]])
    assert [picture.title for picture in surfaces] == [
        "base-seed0: contour", "base-seed0: surface", "base-seed2: contour", "base-seed2: surface",
    ]  # fmt: skip
    assert "loss 0.1 at the network, 1 at most" in surfaces[0].svg
    assert draw_surfaces([dict(NETWORKS[0], surface=None)]) == []


def test_the_page_is_rebuilt_from_the_files_and_escaped(tmp_path: Path) -> None:
    evil = network("<b>x</b>")
    stamp = {
        "data": "digits", "split": "train", "n": 3, "plan": {"eps": 0.1, "draws": 2, "surface_images": 3},
        "command": "resolute curvature", "networks": [{"name": evil["name"], "file": "x"}],
    }  # fmt: skip
    (tmp_path / "networks").mkdir()
    for name, content in (("survey", stamp), ("environment", {"cpu": "one"}), ("networks/x", evil)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    write_curvature(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x" in page
    assert "with sign noise, eps 0.1, mean of 2 draws" in page
    assert "Methods over paired seeds" not in page
