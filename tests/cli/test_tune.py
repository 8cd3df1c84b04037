from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from resolute.experiment import recipe, tune
from resolute.experiment.recipe import TuneConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.conftest import Call

pytest.importorskip("optuna")


class Seen(Exception):
    pass


@pytest.fixture
def asked(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[TuneConfig, Path | None]]:
    """See what tune would be called with in Python."""

    def see(plan: TuneConfig, out: Path | None, *, command: str) -> NoReturn:
        raise Seen(plan, out, command)

    monkeypatch.setattr(tune, "run_tuning", see)

    def ask(line: str) -> tuple[TuneConfig, Path | None]:
        with pytest.raises(Seen) as caught:
            resolute(*line.split())
        plan, out, command = caught.value.args
        assert command == f"resolute {line}"
        return plan, out

    return ask


def test_without_arguments_r_is_tuned_on_digits(asked: Callable[[str], tuple[TuneConfig, Path | None]]) -> None:
    plan, out = asked("tune")
    assert plan == TuneConfig(replace(recipe.digits(), suites=("clean",), seeds=(0, 1, 2, 3, 4)))
    assert out is None


def test_every_flag_arrives(asked: Callable[[str], tuple[TuneConfig, Path | None]]) -> None:
    plan, out = asked(
        "tune mnist --method dropout --data digits --data-dir there --model wrn-10-1 --epochs 3 -b 32 --lr 0.2 "
        "--weight-decay 0.01 --train-fraction 0.5 --update-bn --suites clean,noise --eps 0.2,0.4 --where input,both "
        "--trials 7 --seeds 4 --margin 0.2 --timeout 90 --device cpu --precision bf16-mixed --jobs 2 --out here"
    )
    recipe, train = plan.recipe, plan.recipe.train
    assert (recipe.name, recipe.data, recipe.data_dir, recipe.model) == ("mnist", "digits", "there", "wrn-10-1")
    assert (recipe.seeds, recipe.suites, recipe.train_fraction) == ((0, 1, 2, 3), ("clean", "noise"), 0.5)
    assert (train.epochs, train.batch_size, train.lr, train.weight_decay) == (3, 32, 0.2, 0.01)
    assert (train.update_bn, train.device, train.precision) == (True, "cpu", "bf16-mixed")
    assert (plan.method, plan.eps, plan.where) == ("dropout", (0.2, 0.4), ("input", "both"))
    assert (plan.trials, plan.margin, plan.timeout, plan.jobs) == (7, 0.2, 90, 2)
    assert out == Path("here")


def test_the_command_for_the_test_set_can_be_run(resolute: Call) -> None:
    shared = "--epochs 1 --device cpu --train-fraction 0.9 --no-update-bn"
    answer = resolute(*f"tune {shared} --trials 1 --seeds 1 --eps 0.3 --where both --out run".split())
    assert answer.code == 0
    assert "eps 0.3, p 0.5 at both" in " ".join(answer.out.split())
    assert "curve: run/curve.png" in answer.out
    final = answer.out.split("on the test set: ")[1].strip()
    assert final.startswith("resolute compare --train-fraction 0.9 --epochs 1 --no-update-bn --device cpu --methods ")
    assert resolute(*shlex.split(final)[1:], "--suites", "clean", "--out", "final").code == 0
    assert Path("final/report.html").exists()


def test_a_search_over_ratios_shows_the_eps_of_its_networks(resolute: Call) -> None:
    line = "tune --epochs 1 --device cpu --trials 2 --seeds 2 --ratio 0.4,1 --where hidden --out run"
    answer = resolute(*line.split())
    assert answer.code == 0, answer.message
    cells = {name: Path("run/cells").glob(f"r@ratio={name}@*/cost.json") for name in ("0.4", "1")}
    found = {name: sorted(json.loads(file.read_text())["eps"] for file in files) for name, files in cells.items()}
    assert found["0.4"][-1] < found["1"][0], "the eps follows from the ratio"
    said = " ".join(answer.out.split())
    assert "where ratio eps p seeds" in said
    for name, own in found.items():
        low, high = (f"{value:.2g}" for value in own)
        assert f"{name} {low}-{high} 0.5 2" in said or f"{name} {low} 0.5 2" in said
    final = answer.out.split("on the test set: ")[1].strip()
    assert re.search(r"--methods base,r --seeds 2-3 --eps auto --ratio (0.4|1) --where hidden$", final)
    assert resolute(*shlex.split(final)[1:], "--suites", "clean", "--out", "final").code == 0
    assert "| setting | eps | seeds |" in Path("run/tuned.md").read_text()
    assert "Error against ratio" in Path("run/tuned.md").read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tune --method fgsm", "unknown method 'fgsm'"),
        ("tune --eps 0.1,x", "--eps got 'x'; it takes numbers, separated by commas."),
        ("tune --eps 2", "eps is 2.0"),
        ("tune --ratio 0", "ratio is (0.0,); it must be above 0"),
        ("tune --trials 0", "trials is 0"),
        ("tune --model lenett", "did you mean 'lenet'"),
    ],
)
def test_a_mistake_ends_with_one_message(resolute: Call, line: str, message: str) -> None:
    answer = resolute(*line.split())
    assert answer.code == 2
    assert message in answer.message


def test_without_optuna_it_is_said_how_to_get_it(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    answer = resolute("tune")
    assert answer.code == 2
    assert "pip install 'resolute[tune]'" in answer.message
