from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cases import tiny_images, tiny_info, tiny_network
from resolute import evaluation
from resolute.errors import InputError
from resolute.evaluation.networks import Subject
from resolute.experiment import evaluation as run
from resolute.experiment.evaluation import Plan, assess, default_folder, device
from resolute.report.evaluation import load_judged, write_judged
from resolute.stats import mcnemar_clustered, wilson

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = tiny_images(60, split="test")
SUITES = ("noise", "fgsm")


def subject(seed: int = 3, name: str = "net") -> Subject:
    return Subject(name, tiny_network(seed=seed), "tiny", f"hash{seed}")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judged") / "out"
    assess([subject(3, "a"), subject(4, "b")], Plan(IMAGES, SUITES, command="resolute evaluate"), out)
    return out


def test_errors_are_those_of_evaluate_with_wilson_s_interval(judged: Path) -> None:
    found = load_judged(judged)
    for name, seed in (("a", 3), ("b", 4)):
        counted = evaluation.evaluate(tiny_network(seed=seed), IMAGES, ("clean", *SUITES))
        assert [(row.suite, row.shift, row.severity) for row in found.details] == [record.key for record in counted]
        for row, record in zip(found.details, counted, strict=True):
            assert row.errors[name] == wilson(record.n - record.correct, record.n)


def test_pairs_are_tested_image_by_image(judged: Path) -> None:
    wrong = [
        ~evaluation.measure(tiny_network(seed=s), IMAGES, ["noise"])["noise", "gaussian-noise", 0.2] for s in (3, 4)
    ]
    [row] = [row for row in load_judged(judged).details if row.severity == 0.2]
    pair = row.pairs["b"]
    assert pair.p == mcnemar_clustered(wrong[1][None, None], wrong[0][None, None])
    assert pair.difference.mean == pytest.approx(wrong[1].mean() - wrong[0].mean())
    assert pair.difference.low < pair.difference.mean < pair.difference.high
    assert pair.p_holm >= pair.p
    assert set(row.pairs) == {"b"}


def test_a_killed_evaluation_goes_on_where_it_stopped(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, calls = evaluation.measure_shift, []

    def counted(*args: Any, **keywords: Any) -> Any:
        calls.append(args[2].key)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return measure(*args, **keywords)

    monkeypatch.setattr(run, "measure_shift", counted)
    arguments: Any = ([subject(3, "a"), subject(4, "b")], Plan(IMAGES, SUITES, command="resolute evaluate"), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        assess(*arguments)
    with pytest.raises(InputError, match="lacks 8 shifts"):
        load_judged(tmp_path)
    assess(*arguments)
    assert len(calls) == 5 + 12 - 4
    assert files(tmp_path) == files(judged)
    assess(*arguments)
    assert len(calls) == 13


@pytest.mark.parametrize(
    ("subjects", "plan", "differing"),
    [
        ([subject(5)], Plan(IMAGES), "networks"),
        ([subject()], Plan(IMAGES, seed=1), "seed"),
        ([subject()], Plan(IMAGES, suites=("noise",)), "suites"),
        ([subject()], Plan(IMAGES, limit=50), r"n is .* there and 50 here; images_sha256"),
        ([subject()], Plan(tiny_images(60, seed=9, split="test")), "images_sha256"),
    ],
)
def test_another_evaluation_gets_another_folder(
    tmp_path: Path, subjects: list[Subject], plan: Plan, differing: str
) -> None:
    assess([subject()], Plan(IMAGES), tmp_path)
    with pytest.raises(InputError, match=f"holds another evaluation: {differing} is "):
        assess(subjects, plan, tmp_path)
    assert default_folder(subjects, plan) != default_folder([subject()], Plan(IMAGES))
    assert default_folder([subject()], Plan(IMAGES, batch_size=7)) == default_folder([subject()], Plan(IMAGES))


def test_a_limit_shows_the_first_images_as_the_whole_set_does(tmp_path: Path) -> None:
    assess([subject()], Plan(IMAGES, ("noise",), limit=20, batch_size=7), tmp_path)
    whole = evaluation.measure(tiny_network(), IMAGES, ["noise"])
    for row in load_judged(tmp_path).details[1:]:
        assert row.errors["net"].mean == pytest.approx(float(np.mean(~whole[row.suite, row.shift, row.severity][:20])))


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty and holds no evaluation"):
        assess([subject()], Plan(IMAGES), tmp_path)
    assert files(tmp_path) == {"mine.txt": b"x"}


def test_tables_for_other_programs_hold_the_counts(judged: Path) -> None:
    lines = list(csv.DictReader((judged / "results.csv").read_text().splitlines()))
    results = json.loads((judged / "results.json").read_text())
    counted = evaluation.evaluate(tiny_network(), IMAGES, ("clean", *SUITES))
    assert all(None not in line.values() for line in lines), "each line has all columns"
    own = [line for line in lines if line["network"] == "a"]
    assert [int(line["wrong"]) for line in own] == [record.n - record.correct for record in counted]
    assert [row["errors"]["a"]["mean"] for row in results["details"]] == [pytest.approx(r.error) for r in counted]
    entry = json.loads((judged / "robustbench/a-Linf-fgsm-0.05.json").read_text())
    [attacked] = [record for record in counted if record.severity == 0.05]
    assert entry["fgsm_acc"] == f"{100 * attacked.correct / 60:.2f}"
    assert entry["clean_acc"] == f"{100 * counted[0].correct / 60:.2f}"
    assert entry["autoattack_acc"] is None


def test_the_page_shows_curves_checks_and_wrong_images(judged: Path) -> None:
    page = (judged / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "no claim of adversarial robustness: run autoattack" in page or "Not an adversarial defence" in page
    groups = json.loads((judged / "examples.json").read_text())
    assert page.count("data:image/png;base64,") == sum(len(group["images"]) for group in groups)
    bits = evaluation.measure(tiny_network(), IMAGES, ("clean", *SUITES))
    for group in groups:
        right = bits[group["suite"], group["shift"], group["severity"]]
        assert [image["index"] for image in group["images"]] == np.flatnonzero(~right)[:4].tolist()
        assert all(image["said"]["a"] != image["truth"] for image in group["images"])
    before = files(judged)
    write_judged(judged)
    assert files(judged) == before


def test_networks_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert assess([subject(3), subject(4)], Plan(IMAGES), tmp_path).networks == ("net-1", "net-2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan(IMAGES, limit=0), "--limit is 0"),
        (lambda: Plan(IMAGES, batch_size=0), "--batch-size is 0"),
        (lambda: Plan(IMAGES, ("nois",)).shifts, "unknown suite 'nois': did you mean 'noise'"),
        (lambda: device("gpu"), "unknown device 'gpu'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device is 'cuda', and torch sees no GPU here"):
        device("cuda")
    assert device("auto").type == "cpu"


def test_a_network_for_other_classes_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    images = tiny_images(20, tiny_info(classes=4))
    with pytest.raises(InputError, match="tells 3 classes apart, and tiny has 4"):
        assess([subject()], Plan(images), tmp_path / "out")
    assert not (tmp_path / "out").exists()
