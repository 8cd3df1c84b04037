"""What the flags of `compare` mean, and runs from the first command to the report, continued, and left alone."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from resolute.config import Augment, Settings, TrainConfig
from resolute.experiment import cell, grid
from resolute.experiment import recipe as recipes
from resolute.experiment.cell import load_splits
from resolute.experiment.recipe import Recipe
from resolute.paper import sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.conftest import Call


class Seen(Exception):
    def __init__(self, recipe: Recipe, out: Path | None, command: str, jobs: int, on: str) -> None:
        super().__init__("seen")
        self.recipe, self.out, self.command, self.jobs, self.on = recipe, out, command, jobs, on


@pytest.fixture
def asked(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Seen]:
    """Call compare on the command line and see what it would be called with in Python."""

    def see(recipe: Recipe, out: Path | None, *, jobs: int, on: str, command: str) -> NoReturn:
        raise Seen(recipe, out, command, jobs, on)

    monkeypatch.setattr(grid, "run_comparison", see)

    def call(*arguments: object) -> Seen:
        with pytest.raises(Seen) as caught:
            resolute("compare", *arguments)
        return caught.value

    return call


def test_without_arguments_digits_are_compared(asked: Callable[..., Seen]) -> None:
    seen = asked()
    assert seen.recipe == recipes.digits()
    assert seen.out is None
    assert seen.command == "resolute compare"


def test_every_flag_reaches_the_recipe(asked: Callable[..., Seen]) -> None:
    flags = (
        "--data digits --data-dir there --model wrn-10-1 --methods base,r+fgsm@eps=0.2 --seeds 2 --epochs 4 -b 32 "
        "--optimizer rmsprop --momentum 0.8 --no-nesterov --damping 0.5 --clip-norm 2 --gamma 0.3 --decay-epochs 1.5 "
        "--lr 0.2 --lr-floor 0.01 --padding reflect --crop 0.5 --rotation 7 "
        "--weight-decay 0.01 --schedule step --milestones 2,3 --warmup-epochs 0.5 --label-smoothing 0.1 --ema 0.9 "
        "--shift 2 --flip --erase 0.25 --eps 0.3 --p 0.4 --where input --radius 8/255 --suites clean,fgsm "
        "--split validation --device cpu --devices 2 --precision bf16-mixed --compile --channels-last --tensorboard "
        "--train-fraction 0.5 --update-bn --global-noise --sync-bn --jobs 3 --on ray --out here"
    )
    seen = asked(*flags.split())
    assert (seen.out, seen.jobs, seen.on) == (Path("here"), 3, "ray")
    assert seen.command == f"resolute compare {flags}"
    assert seen.recipe == Recipe(
        name="digits",
        data="digits",
        data_dir="there",
        model="wrn-10-1",
        methods=("base", "r+fgsm@eps=0.2"),
        seeds=(0, 1),
        settings=Settings(eps=0.3, p=0.4, where="input", radius=8 / 255),
        suites=("clean", "fgsm"),
        split="validation",
        train_fraction=0.5,
        train=TrainConfig(
            optimizer="rmsprop", momentum=0.8, nesterov=False, damping=0.5, clip_norm=2, gamma=0.3, decay_epochs=1.5,
            lr_floor=0.01, epochs=4, batch_size=32, lr=0.2, weight_decay=0.01, schedule="step", milestones=(2, 3),
            warmup_epochs=0.5, label_smoothing=0.1, ema=0.9, update_bn=True, device="cpu", devices=2,
            augment=Augment(shift=2, padding="reflect", flip=True, erase=0.25, crop=0.5, rotation=7),
            precision="bf16-mixed", compile=True, channels_last=True, tensorboard=True, global_noise=True, sync_bn=True,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--opt adam", "--optimizer adam"),
        ("--opt rmsprop --opt-eps 0.5", "--optimizer rmsprop --damping 0.5"),
        ("--clip-grad 2", "--clip-norm 2"),
        ("--sched step --milestones 2 --decay-rate 0.5", "--schedule step --milestones 2 --gamma 0.5"),
        ("--min-lr 0.01", "--lr-floor 0.01"),
        ("--smoothing 0.1", "--label-smoothing 0.1"),
        ("--model-ema 0.9", "--ema 0.9"),
        ("--train-on-all", "--no-hold-out"),
        ("-b 32", "--batch-size 32"),
    ],
)
def test_a_second_name_is_the_same_setting(old: str, new: str, asked: Callable[..., Seen]) -> None:
    recipe = asked(*old.split()).recipe
    assert recipe == asked(*new.split()).recipe != recipes.digits()


def test_a_folder_is_a_set_of_images(asked: Callable[..., Seen]) -> None:
    seen = asked("--data", "some/flowers", "--size", "48", "--train-on-all")
    assert (seen.recipe.name, seen.recipe.data, seen.recipe.size) == ("flowers", "some/flowers", 48)
    assert seen.recipe.model == recipes.images().model
    assert not seen.recipe.hold_out


def test_pretrained_weights_are_fine_tuned_unless_a_recipe_is_named(asked: Callable[..., Seen]) -> None:
    seen = asked("--data", "some/flowers", "--model", "timm/resnet18", "--weights", "~/w.pth", "--epochs", "3").recipe
    tuned = recipes.finetune()
    assert (seen.name, seen.model, seen.weights) == ("flowers", "timm/resnet18", str(Path("~/w.pth").expanduser()))
    assert seen.pretrained
    assert seen.train == replace(tuned.train, epochs=3)
    assert asked("--data", "mnist", "--model", "timm/resnet18", "--pretrained").recipe.train == tuned.train
    assert asked("--model", "hf-hub:some/one").recipe.pretrained
    assert asked("images", "--pretrained").recipe == replace(recipes.images(), pretrained=True)
    flags = ("--weights", "w.pth", "--freeze", "bn", "--backbone-lr-scale", "0.5", "--optimizer", "adamw")
    train = asked(*flags).recipe.train
    assert (train.freeze, train.backbone_lr_scale, train.optimizer) == ("bn", 0.5, "adamw")


def test_a_recipe_is_named_or_follows_the_data(asked: Callable[..., Seen]) -> None:
    assert asked("mnist").recipe == recipes.mnist()
    assert asked("--data", "mnist").recipe == recipes.mnist()
    for name, source in sources.SOURCES.items():
        assert asked(name, "--seeds", "5").recipe == source.recipe
    assert asked("mnist", "--data", "digits").recipe.train == recipes.mnist().train


def test_seeds_are_a_number_or_from_one_to_another(asked: Callable[..., Seen]) -> None:
    assert asked("--seeds", "3").recipe.seeds == (0, 1, 2)
    assert asked("--seeds", "100-102").recipe.seeds == (100, 101, 102)
    assert asked("--seeds", "7-7").recipe.seeds == (7,)


def test_another_setting_is_another_folder(asked: Callable[..., Seen]) -> None:
    asked_for = [asked(*flags).recipe for flags in ([], ["--eps", "0.2"], ["--seeds", "2"], ["--data-dir", "x"])]
    folders = {grid.comparison_folder(recipe, load_splits(recipe)) for recipe in asked_for}
    assert len(folders) == 3


def test_the_command_can_be_pasted_into_a_shell(asked: Callable[..., Seen]) -> None:
    assert asked("--where", "layer?.*", "--seeds", "1").command == "resolute compare --where 'layer?.*' --seeds 1"


QUICK = ("--epochs", "1", "--seeds", "2", "--methods", "base,r", "--suites", "clean", "--device", "cpu")


def test_compare_then_report_rebuilds_the_same_page(resolute: Call) -> None:
    answer = resolute("compare", *QUICK, "--out", "run")
    page, text = Path("run/report.html").read_bytes(), Path("run/report.md").read_bytes()
    assert answer.code == 0
    assert "report: run/report.html" in answer.out
    assert re.search(r"^r at eps .* did not help: |^Use r|^r .* helps, ", answer.out, re.MULTILINE)
    assert re.search(r"r seed 1 done, 0:00:\d\d, 0:00:00 left", answer.err)
    assert b"resolute compare --epochs 1 --seeds 2" in page
    Path("run/report.html").unlink()
    Path("run/report.md").unlink()
    again = resolute("report", "run")
    assert again.code == 0
    assert again.out == answer.out
    assert Path("run/report.html").read_bytes() == page
    assert Path("run/report.md").read_bytes() == text


def test_the_same_command_goes_on_with_a_finished_run(
    resolute: Call, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, Path("run"))
    before = {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()}
    monkeypatch.setattr(cell, "train", None)
    answer = resolute("compare", *QUICK, "--out", run)
    assert answer.code == 0
    assert {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()} == before


def test_an_interrupted_run_says_how_to_continue(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(grid, "run_comparison", interrupt)
    answer = resolute("compare")
    assert answer.code == 130
    assert answer.message == "Stopped. Run the same command again to continue."


def test_a_run_of_another_recipe_is_left_alone(resolute: Call, finished: Path) -> None:
    run = shutil.copytree(finished, Path("run"))
    answer = resolute("compare", *QUICK, "--out", run, "--seeds", "1")
    assert answer.code == 2
    assert answer.message == (
        "error: run holds another comparison: seeds is [0, 1] there and [0] here. "
        "Methods and seeds can be added, nothing else changed. Choose another folder with --out."
    )
    answer = resolute("compare", *QUICK, "--out", run, "--eps", "0.2", "--lr", "0.1")
    told = "train.lr is 0.05 there and 0.1 here; settings.eps is 'auto' there and 0.2 here; settings.ratio is 2.5 there"
    assert told in answer.message


def test_a_report_needs_a_run(resolute: Call) -> None:
    answer = resolute("report", "nowhere")
    assert answer.code == 2
    assert answer.message.startswith("error: there is no folder nowhere.")


def test_only_cells_that_were_run_are_told_of(finished: Path, tmp_path: Path, resolute: Call) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    answer = resolute("compare", *QUICK, "--out", run, "--methods", "base,r,gaussian")
    assert answer.code == 0, answer.err
    assert re.findall(r"(\w+) seed (\d) done", answer.err) == [("gaussian", "0"), ("gaussian", "1")]
