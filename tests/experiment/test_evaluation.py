from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

import crossed
from cases import as_float, tiny_images, tiny_info, tiny_network
from resolute.errors import InputError
from resolute.evaluation import measure as engine
from resolute.evaluation import sanity
from resolute.evaluation.measure import measure, sample
from resolute.evaluation.networks import Network, named
from resolute.experiment.evaluation import Plan, device, evaluate, evaluate_networks, evaluation_folder
from resolute.report.evaluation import console_evaluation, load_evaluation, write_evaluation
from resolute.run_folder import write_bits, write_json
from resolute.shifts.imagenet_c import CORRUPTIONS
from resolute.stats import mcnemar, wilson

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = tiny_images(60, split="test")
SUITES = ("noise", "fgsm")


def network(seed: int = 3, name: str = "net") -> Network:
    return named(name, tiny_network(seed=seed), "tiny")


def files(folder: Path) -> dict[str, bytes]:
    """Read all of a folder that is not about locks."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    evaluate_networks([network(3, "a"), network(4, "b")], Plan(IMAGES, SUITES, command="resolute evaluate"), out)
    return out


def test_errors_are_those_of_evaluate_with_wilson_s_interval(evaluated: Path) -> None:
    found = load_evaluation(evaluated)
    for name, seed in (("a", 3), ("b", 4)):
        counted = evaluate(tiny_network(seed=seed), IMAGES, ("clean", *SUITES))
        assert [(row.suite, row.shift, row.severity) for row in found.details] == [record.key for record in counted]
        for row, record in zip(found.details, counted, strict=True):
            assert row.errors[name] == wilson(record.n - record.correct, record.n)


def test_pairs_are_tested_image_by_image(evaluated: Path) -> None:
    wrong = [~measure(tiny_network(seed=s), IMAGES, ["noise"])["noise", "gaussian-noise", 0.2] for s in (3, 4)]
    [row] = [row for row in load_evaluation(evaluated).details if row.severity == 0.2]
    pair = row.pairs["b"]
    assert pair.p == pytest.approx(crossed.p_value(wrong[1][None], wrong[0][None], "images"))
    assert pair.p == pytest.approx(
        mcnemar(int((wrong[1] & ~wrong[0]).sum()), int((wrong[0] & ~wrong[1]).sum())), abs=0.1
    )
    bounds = crossed.interval(wrong[1][None], wrong[0][None], pair.level, "images")
    assert (pair.difference.low, pair.difference.high) == pytest.approx(bounds)
    for own in (own.pairs["b"] for own in (*load_evaluation(evaluated).rows, *load_evaluation(evaluated).details)):
        excluded = own.difference.low > 0 or own.difference.high < 0
        assert excluded == (own.p_holm <= 0.05) == (own.verdict != "no difference seen")
        assert not own.would_tell or re.fullmatch(r"[\d,]+ images", own.would_tell)
    assert pair.difference.mean == pytest.approx(wrong[1].mean() - wrong[0].mean())
    assert pair.difference.low < pair.difference.mean < pair.difference.high
    assert pair.p_holm >= pair.p
    assert set(row.pairs) == {"b"}


def test_results_csv_alone_gives_the_same_comparisons(evaluated: Path, tmp_path: Path) -> None:
    for name in ("results.csv", "environment.json"):
        shutil.copy(evaluated / name, tmp_path / name)
    for whole, alone in zip(load_evaluation(evaluated).details, load_evaluation(tmp_path).details, strict=True):
        one, other = whole.pairs["b"], alone.pairs["b"]
        assert other.p == pytest.approx(one.p, abs=1e-4)
        assert (other.difference.low, other.difference.high) == pytest.approx(
            (one.difference.low, one.difference.high), abs=2e-6
        )
        assert other.level == pytest.approx(one.level)
        assert other.verdict == one.verdict
    text = (tmp_path / "results.csv").read_text()
    level = text.splitlines()[2].rpartition(",")[2]
    (tmp_path / "results.csv").write_text(text.replace(f",{level}\n", ",7\n"))
    with pytest.raises(InputError, match=r"a level of confidence of 7\.0; wanted is 0\.5 to 1"):
        load_evaluation(tmp_path)


@pytest.mark.parametrize("at", [3, 11, 17])
def test_a_killed_evaluation_continues_at_its_batch(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Two networks, six shifts, batches of 40 and 20: 24 in all."""
    predict, shown = engine.predict, list[int]()

    def counted(model: nn.Module, x: Tensor) -> Tensor:
        if len(x) > engine.PROBE:
            if len(shown) == at and killing:
                raise KeyboardInterrupt
            shown.append(len(x))
        return predict(model, x)

    monkeypatch.setattr(engine, "predict", counted)
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(engine, "SAVES_SHARE", 0)
    networks = [network(3, "a"), network(4, "b")]
    whole, out = tmp_path / "whole", tmp_path / "out"
    plan = Plan(IMAGES, SUITES, batch_size=40, command="resolute evaluate")
    killing = False
    expected = evaluate_networks(networks, plan, whole).answers
    assert shown == [40, 20] * 12
    shown.clear()
    killing = True
    with pytest.raises(KeyboardInterrupt):
        evaluate_networks(networks, plan, out)
    with pytest.raises(InputError, match=r"lacks .* shifts|cannot read .*json"):
        load_evaluation(out)
    killing = False
    found = evaluate_networks(networks, plan, out).answers
    assert shown == [40, 20] * 12, "no batch twice"
    assert files(out) == files(whole)
    assert all(np.array_equal(found[n][key], own) for n in ("a", "b") for key, own in expected[n].items())
    evaluate_networks(networks, plan, out)
    assert len(shown) == 24
    assert files(out) == files(whole)
    for key, row in zip(expected["a"], load_evaluation(out).details, strict=True):
        assert row.errors["a"].mean == pytest.approx(np.mean(expected["a"][key] != 1))


@pytest.mark.parametrize(
    ("networks", "plan", "differing"),
    [
        ([network(5)], Plan(IMAGES), "networks"),
        ([network()], Plan(IMAGES, seed=1), "seed"),
        ([network()], Plan(IMAGES, suites=("noise",)), "suites"),
        ([network()], Plan(IMAGES, limit=50), "n"),
        ([network()], Plan(tiny_images(60, seed=9, split="test")), "images_sha256"),
    ],
)
def test_another_evaluation_gets_another_folder(
    tmp_path: Path, networks: list[Network], plan: Plan, differing: str
) -> None:
    evaluate_networks([network()], Plan(IMAGES), tmp_path)
    with pytest.raises(InputError, match=f"holds another evaluation: {differing} is "):
        evaluate_networks(networks, plan, tmp_path)
    assert evaluation_folder(networks, plan) != evaluation_folder([network()], Plan(IMAGES))
    assert evaluation_folder([network()], Plan(IMAGES, batch_size=7)) != evaluation_folder([network()], Plan(IMAGES))


def test_a_limit_shows_images_as_the_whole_set_does(tmp_path: Path) -> None:
    evaluate_networks([network()], Plan(IMAGES, ("noise",), limit=20, batch_size=7), tmp_path)
    whole = measure(tiny_network(), IMAGES, ["noise"])
    chosen = sample(IMAGES.y, 20)
    found = load_evaluation(tmp_path)
    assert found.shown == "20 of 60 images, balanced by class"
    assert found.shown in (tmp_path / "report.html").read_text()
    for row in found.details[1:]:
        right = whole[row.suite, row.shift, row.severity][chosen]
        assert row.errors["net"].mean == pytest.approx(float(np.mean(~right)))
    for group in found.examples:
        assert {image["index"] for image in group["images"]} <= set(chosen.tolist())


@pytest.mark.parametrize("limit", [None, 25])
def test_the_attacks_are_checked_on_images_of_each_class(
    tmp_path: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder the classes lie one after the other: the first images would all be of one."""
    order = IMAGES.y.argsort()
    sorted_ = dataclasses.replace(IMAGES, x=IMAGES.x[order], y=IMAGES.y[order])
    checked: list[Tensor] = []

    def check(model: nn.Module, x: Tensor, y: Tensor, *_: Any, **__: Any) -> list[Any]:
        checked.append(y)
        assert len({tuple(image.flatten().tolist()) for image in x}) == len(x)
        return []

    monkeypatch.setattr(sanity, "check_attacks", check)
    evaluate_networks([network()], Plan(sorted_, ("fgsm",), limit=limit, batch_size=15), tmp_path)
    [found] = checked
    share = sorted_.y.bincount() / len(sorted_) * 15
    assert len(found) == 15
    assert bool(((found.bincount() - share).abs() <= 1).all())


def test_the_function_and_the_folder_have_the_same_records(tmp_path: Path) -> None:
    given: dict[str, Any] = {"suites": SUITES, "seed": 3, "limit": 30, "batch_size": 13, "name": "net", "run_seed": 7}
    at_once = evaluate(tiny_network(), IMAGES, **given)
    assert evaluate(tiny_network(), IMAGES, **given, out=tmp_path / "out") == at_once
    assert evaluate(tiny_network(), IMAGES, **given, out=tmp_path / "out") == at_once
    evaluate_networks([network()], Plan(IMAGES, SUITES, 3, 30, 13), tmp_path / "other")
    assert [(row.suite, row.shift, row.severity) for row in load_evaluation(tmp_path / "other").details[1:]] == [
        record.key for record in at_once
    ]
    for folder in ("out", "other"):
        wrong = [round(30 * row.errors["net"].mean) for row in load_evaluation(tmp_path / folder).details[1:]]
        assert wrong == [record.n - record.correct for record in at_once]


def test_a_loader_has_a_run_folder_of_its_content(tmp_path: Path) -> None:
    x, y = as_float(IMAGES)
    found = evaluate(tiny_network(), [(x, y)], ("noise",), out=tmp_path)
    assert evaluate(tiny_network(), [(x[:25], y[:25]), (x[25:], y[25:])], ("noise",), out=tmp_path) == found
    with pytest.raises(InputError, match="holds another evaluation: images_sha256 is"):
        evaluate(tiny_network(), [(x / 2, y)], ("noise",), out=tmp_path)


def test_the_network_has_its_modes_back(tmp_path: Path) -> None:
    model = tiny_network().train()
    model[3].eval()
    evaluate(model, IMAGES, out=tmp_path)
    assert [module.training for module in model] == [True, True, True, False, True, True]


@pytest.mark.parametrize("other", ["a?b", "a/b", "a_b", "A*B", "a*b ", "x" * 300, ""])
def test_networks_of_other_names_have_files_of_their_own(tmp_path: Path, other: str) -> None:
    evaluate_networks([network(3, "a*b"), network(6, other)], Plan(IMAGES), tmp_path)
    found = load_evaluation(tmp_path)
    assert found.networks == ("a*b", other)
    [row] = found.details
    for name, seed in (("a*b", 3), (other, 6)):
        [record] = evaluate(tiny_network(seed=seed), IMAGES)
        assert row.errors[name] == wilson(record.n - record.correct, record.n)
    assert row.errors["a*b"] != row.errors[other]


@pytest.mark.parametrize("file", ["networks/a.answers", "evaluation.json", "checks.json", "networks/a.checks.json"])
def test_a_changed_byte_is_never_evaluated(evaluated: Path, tmp_path: Path, file: str) -> None:
    plan = Plan(IMAGES, SUITES, command="resolute evaluate")
    before = load_evaluation(evaluated).details
    for at in range(5, (evaluated / file).stat().st_size, 97):
        shutil.copytree(evaluated, out := tmp_path / str(at))
        content = bytearray((out / file).read_bytes())
        content[at] ^= 1
        (out / file).write_bytes(content)
        with contextlib.suppress(InputError):
            write_evaluation(out)
            assert load_evaluation(out).details == before
        with contextlib.suppress(InputError):
            evaluate_networks([network(3, "a"), network(4, "b")], plan, out)
            assert load_evaluation(out).details == before


def test_a_network_that_another_process_is_at_is_waited_for(tmp_path: Path) -> None:
    networks, plan, out = [network(3, "a"), network(4, "b")], Plan(IMAGES), tmp_path / "out"
    (out / ".locks").mkdir(parents=True)
    evaluate_networks(networks, plan, tmp_path / "theirs")
    with ThreadPoolExecutor() as pool, FileLock(out / ".locks/a"):
        running = pool.submit(evaluate_networks, networks, plan, out)
        while not (out / "networks/b.answers").exists():
            assert not running.done()
            time.sleep(0.02)
        with pytest.raises(TimeoutError):
            running.result(timeout=0.7)
        assert not (out / "networks/a.answers").exists()
        shutil.copy(tmp_path / "theirs/networks/a.answers", out / "networks")
        written = (out / "networks/a.answers").stat().st_mtime_ns
    assert list(running.result().networks) == ["a", "b"]
    assert (out / "networks/a.answers").stat().st_mtime_ns == written, "finished meanwhile, and not evaluated again"


def test_answers_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    class Spoilt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = tiny_network()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x)
            return logits.masked_fill((x[:, 0, 0, 0] > 0.5)[:, None], torch.nan)

    bad = int((as_float(IMAGES)[0][:, 0, 0, 0] > 0.5).sum())
    evaluate_networks([network(3, "good"), named("bad", Spoilt(), "spoilt")], Plan(IMAGES), tmp_path)
    found = load_evaluation(tmp_path)
    sentence = f"bad: {bad} of 60 answers on clean images are not finite (NaN or infinity) and count as wrong."
    assert found.warnings == (sentence,)
    assert sentence in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["warnings"] == [sentence]
    assert f"warning: {sentence}" in "".join(map(str, console_evaluation(found)))
    with pytest.warns(UserWarning, match="model: .* of 60 answers on clean images are not finite"):
        evaluate(Spoilt(), IMAGES)
    with pytest.warns(UserWarning, match="model: .* of 60 answers on clean images are not finite"):
        evaluate(Spoilt(), IMAGES, out=tmp_path / "out")


def test_released_files_that_were_changed_make_another_evaluation(tmp_path: Path) -> None:
    images = tiny_images(4, tiny_info(shape=(3, 32, 32)), split="test")
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for name in (*CORRUPTIONS, "labels"):
        array = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        np.save(folder / f"{name}.npy", np.tile(images.y.numpy(), 5) if name == "labels" else array)
    model = tiny_network(shape=(3, 32, 32))
    given: dict[str, Any] = {"suites": ("cifar10-c",), "root": tmp_path, "out": tmp_path / "out"}
    found = evaluate(model, images, **given)
    assert evaluate(model, images, **given) == found
    np.save(folder / "fog.npy", array[::-1])
    with pytest.raises(InputError, match=r"holds another evaluation: released_sha256\.cifar10-c\.fog\.npy is"):
        evaluate(model, images, **given)


def test_a_folder_of_an_earlier_version_is_read_and_not_continued(evaluated: Path, tmp_path: Path) -> None:
    now = load_evaluation(evaluated)
    networks = [{**one, "folder": one["name"]} for one in now.stamp["networks"]]
    for one in now.networks:
        bits = measure(tiny_network(seed={"a": 3, "b": 4}[one]), IMAGES, ("clean", *SUITES))
        for key, right in bits.items():
            write_bits(tmp_path / "networks" / one / f"{key}.npz", {key: right})
    write_json(tmp_path / "evaluation.json", {**now.stamp, "networks": networks})
    for name in ("environment.json", "checks.json"):
        shutil.copy(evaluated / name, tmp_path)
    write_json(tmp_path / "examples.json", now.examples)
    write_evaluation(tmp_path)
    for name in ("results.csv", "report.html"):
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes()
    with pytest.raises(InputError, match="carries no checksum: an earlier version wrote it"):
        evaluate_networks([network(3, "a"), network(4, "b")], Plan(IMAGES, SUITES), tmp_path)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty and holds no evaluation"):
        evaluate_networks([network()], Plan(IMAGES), tmp_path)
    assert files(tmp_path) == {"mine.txt": b"x"}


def test_tables_for_other_programs_hold_the_counts(evaluated: Path) -> None:
    lines = list(csv.DictReader((evaluated / "results.csv").read_text().splitlines()))
    results = json.loads((evaluated / "results.json").read_text())
    counted = evaluate(tiny_network(), IMAGES, ("clean", *SUITES))
    assert all(None not in line.values() for line in lines), "each line has all columns"
    own = [line for line in lines if line["network"] == "a"]
    assert [int(line["wrong"]) for line in own] == [record.n - record.correct for record in counted]
    assert [row["errors"]["a"]["mean"] for row in results["details"]] == [pytest.approx(r.error) for r in counted]
    entry = json.loads((evaluated / "robustbench/a-Linf-fgsm-0.05.json").read_text())
    [attacked] = [record for record in counted if record.severity == 0.05]
    assert entry["fgsm_acc"] == f"{100 * attacked.correct / 60:.2f}"
    assert entry["clean_acc"] == f"{100 * counted[0].correct / 60:.2f}"
    assert entry["autoattack_acc"] is None


def test_the_page_shows_curves_checks_and_wrong_images(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "no claim of adversarial robustness: run autoattack" in page or "Not an adversarial defence" in page
    groups = json.loads((evaluated / "examples.json").read_text())["examples"]
    assert page.count("data:image/png;base64,") == sum(len(group["images"]) for group in groups)
    bits = measure(tiny_network(), IMAGES, ("clean", *SUITES))
    for group in groups:
        right = bits[group["suite"], group["shift"], group["severity"]]
        assert [image["index"] for image in group["images"]] == np.flatnonzero(~right)[:4].tolist()
        assert all(image["said"]["a"] != image["truth"] for image in group["images"])
    before = files(evaluated)
    write_evaluation(evaluated)
    assert files(evaluated) == before


def test_networks_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert evaluate_networks([network(3), network(4)], Plan(IMAGES), tmp_path).answers.keys() == {"net-1", "net-2"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan(IMAGES, limit=0), "limit is 0"),
        (lambda: Plan(IMAGES, batch_size=0), "batch_size is 0"),
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
        evaluate_networks([network()], Plan(images), tmp_path / "out")
    assert not (tmp_path / "out").exists()
