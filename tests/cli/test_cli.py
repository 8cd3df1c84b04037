from __future__ import annotations

import io
import re
import resource
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import pytest
import typer

from resolute import cli, comparison, recipes
from resolute.data import DATASETS, Augment
from resolute.methods import METHODS, Settings
from resolute.models import ABSENT, MODELS, facts
from resolute.recipes import RECIPES, SOURCES, Recipe
from resolute.suites import SUITES
from resolute.training import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable

FLAGS = {
    "compare": [
        "[RECIPE]", "--data", "--data-dir", "--size", "--model", "--methods", "--seeds", "--epochs", "--batch-size",
        "-b", "--lr", "--opt", "--momentum", "--nesterov", "--no-nesterov", "--opt-eps", "--clip-grad",
        "--weight-decay", "--sched", "--milestones", "--decay-rate", "--decay-epochs", "--min-lr", "--warmup-epochs",
        "--smoothing", "--model-ema", "--padding", "--crop", "--rotation",
        "--shift", "--flip", "--no-flip", "--erase", "--eps", "--p", "--where", "--radius", "--suites", "--split",
        "--hold-out", "--train-on-all", "--device", "--devices", "--precision", "--compile", "--no-compile",
        "--channels-last", "--no-channels-last", "--tensorboard", "--no-tensorboard", "--out",
        "--train-fraction", "--update-bn", "--no-update-bn", "--jobs", "--on",
    ],
    "train": [
        "--data", "--data-dir", "--size", "--model", "--method", "--seed", "--epochs", "--batch-size", "-b", "--lr",
        "--eps", "--where", "--suites", "--device", "--devices", "--nodes", "--strategy",
        "--global-noise", "--no-global-noise", "--sync-bn", "--no-sync-bn",
        "--precision", "--out",
    ],
    "evaluate": [
        "[CHECKPOINT]...", "--data", "--data-dir", "--size", "--suites", "--model", "--weights", "--factory", "--seed",
        "--batch-size", "-b", "--limit", "--device", "--out",
    ],
    "curvature": [
        "[CHECKPOINT]...", "--data", "--data-dir", "--size", "--split", "--images", "--model", "--weights", "--factory",
        "--top", "--steps", "--probes", "--surface", "--surface-images", "--eps", "--where", "--draws", "--batch-size",
        "-b", "--double", "--seed", "--device", "--out",
    ],
    "report": ["DIR"],
    "reproduce": [
        "--table", "--row", "--scale", "--pretrained", "--data-dir", "--seeds", "--device", "--precision", "--compile",
        "--no-compile", "--out", "--results", "--write",
    ],
    "tune": [
        "[RECIPE]", "--method", "--data", "--data-dir", "--size", "--model", "--epochs", "--batch-size", "-b", "--lr",
        "--weight-decay", "--train-fraction", "--update-bn", "--no-update-bn", "--suites", "--eps", "--where",
        "--trials", "--seeds", "--margin", "--timeout", "--device", "--precision", "--jobs", "--out",
    ],
    "disturb": ["--data", "--data-dir", "--size", "--suites", "--images", "--levels", "--seed", "--out"],
    "list": ["[WHAT]"],
}  # fmt: skip
"""Every command's arguments and flags. People's scripts rely on them: a name may be added, and none may go."""

COMMANDS = {
    "script": [str(Path(sys.executable).with_name("resolute"))],
    "module": [sys.executable, "-m", "resolute"],
}
HEAVY = {"torch", "numpy", "matplotlib", "torchvision", "timm", "scipy", "sklearn", "lightning_fabric", "pyarrow"}
QUICK = ("--epochs", "1", "--seeds", "2", "--methods", "base,r", "--suites", "clean", "--device", "cpu")


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What was said on standard error, in one line."""
        return " ".join(self.err.split())


@pytest.fixture
def resolute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call the command line in this process."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["resolute", *map(str, arguments)])
        code: object = 0
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        assert isinstance(code, int)
        return Answer(code, *capsys.readouterr())

    return call


class Seen(Exception):
    def __init__(self, recipe: Recipe, out: Path, command: str, jobs: int, on: str) -> None:
        super().__init__("seen")
        self.recipe, self.out, self.command, self.jobs, self.on = recipe, out, command, jobs, on


@pytest.fixture
def asked(resolute: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Seen]:
    """Call compare on the command line and see what it would be called with in Python."""

    def see(recipe: Recipe, out: Path, *, jobs: int, on: str, command: str) -> NoReturn:
        raise Seen(recipe, out, command, jobs, on)

    monkeypatch.setattr(comparison, "compare", see)

    def call(*arguments: object) -> Seen:
        with pytest.raises(Seen) as caught:
            resolute("compare", *arguments)
        return caught.value

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the run that many tests copy."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train = TrainConfig(epochs=1, batch_size=64, lr=0.05, warmup_epochs=1, device="cpu")
    recipe = Recipe("digits", "digits", "lenet", train, methods=("base", "r"), seeds=(0, 1), suites=("clean",))
    comparison.compare(recipe, out, command="resolute compare")
    return out


# What the flags mean


def test_flags_are_frozen() -> None:
    group: Any = typer.main.get_command(cli.app)
    found = {
        name: [
            word
            for parameter in command.params
            for word in (
                [*parameter.opts, *parameter.secondary_opts]
                if parameter.param_type_name == "option"
                else [parameter.metavar]
            )
        ]
        for name, command in group.commands.items()
    }
    assert {name: sorted(words) for name, words in found.items()} == {
        name: sorted(words) for name, words in FLAGS.items()
    }


def test_without_arguments_digits_are_compared(asked: Callable[..., Seen]) -> None:
    seen = asked()
    assert seen.recipe == recipes.digits()
    assert seen.out == comparison.default_folder(recipes.digits())
    assert seen.command == "resolute compare"


def test_every_flag_reaches_the_recipe(asked: Callable[..., Seen]) -> None:
    flags = (
        "--data digits --data-dir there --model wrn-10-1 --methods base,r+fgsm@eps=0.2 --seeds 2 --epochs 4 -b 32 "
        "--opt rmsprop --momentum 0.8 --no-nesterov --opt-eps 0.5 --clip-grad 2 --decay-rate 0.3 --decay-epochs 1.5 "
        "--lr 0.2 --min-lr 0.01 --padding reflect --crop 0.5 --rotation 7 "
        "--weight-decay 0.01 --sched step --milestones 2,3 --warmup-epochs 0.5 --smoothing 0.1 --model-ema 0.9 "
        "--shift 2 --flip --erase 0.25 --eps 0.3 --p 0.4 --where input --radius 8/255 --suites clean,fgsm "
        "--split validation --device cpu --devices 2 --precision bf16-mixed --compile --channels-last --tensorboard "
        "--train-fraction 0.5 --update-bn --jobs 3 --on ray --out here"
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
            precision="bf16-mixed", compile=True, channels_last=True, tensorboard=True,
        ),
    )  # fmt: skip


def test_the_flags_of_train_reach_its_recipe(resolute: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Recipe] = []

    def see(recipe: Recipe, _out: Path, *, command: str) -> list[Any]:
        assert command.startswith("resolute train")
        seen.append(recipe)
        return []

    monkeypatch.setattr(comparison, "train_one", see)
    flags = "--method fgsm --seed 3 -b 32 --devices 2 --nodes 2 --sync-bn --suites clean,noise --device cpu"
    assert resolute("train", *flags.split()).code == 0
    [recipe] = seen
    assert (recipe.cells, recipe.baseline, recipe.suites) == ([("fgsm", 3)], "fgsm", ("clean", "noise"))
    assert (recipe.train.devices, recipe.train.nodes, recipe.train.sync_bn, recipe.train.batch_size) == (2, 2, True, 32)


def test_a_folder_is_a_set_of_images(asked: Callable[..., Seen]) -> None:
    seen = asked("--data", "some/flowers", "--size", "48", "--train-on-all")
    assert (seen.recipe.name, seen.recipe.data, seen.recipe.size) == ("flowers", "some/flowers", 48)
    assert seen.recipe.model == recipes.images().model
    assert not seen.recipe.hold_out
    assert seen.out.name.startswith("flowers-")


def test_a_recipe_is_named_or_follows_the_data(asked: Callable[..., Seen]) -> None:
    assert asked("mnist").recipe == recipes.mnist()
    assert asked("--data", "mnist").recipe == recipes.mnist()
    for name, source in recipes.SOURCES.items():
        assert asked(name, "--seeds", "5").recipe == source.recipe
    assert asked("mnist", "--data", "digits").recipe.train == recipes.mnist().train


def test_another_setting_is_another_folder(asked: Callable[..., Seen]) -> None:
    folders = {asked(*flags).out for flags in ([], ["--eps", "0.2"], ["--seeds", "2"], ["--data-dir", "x"])}
    assert len(folders) == 3


def test_the_command_can_be_pasted_into_a_shell(asked: Callable[..., Seen]) -> None:
    assert asked("--where", "layer?.*", "--seeds", "1").command == "resolute compare --where 'layer?.*' --seeds 1"


# Help, at once


@pytest.mark.parametrize("how", COMMANDS)
@pytest.mark.parametrize("command", ["", "compare"])
def test_help_comes_at_once(how: str, command: str) -> None:
    """Within a second of processor time, so that a busy machine does not matter; the best of three."""

    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        asked = [*COMMANDS[how], *command.split(), "--help"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "Usage: resolute" in done.stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cost() for _ in range(3)) < 1


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["--nonsense"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        f"import sys; sys.argv = ['resolute', *{arguments!r}]\n"
        "from resolute.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split("LOADED")[1].split())


def test_help_names_every_command_and_flag(resolute: Callable[..., Answer]) -> None:
    for name, flags in FLAGS.items():
        answer = resolute(name, "--help")
        assert answer.code == 0
        for flag in flags:
            assert flag in answer.out
        assert name in resolute("--help").out


# list


def test_list_shows_everything(resolute: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "SIZES", {})
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


def test_every_deviation_from_a_source_is_listed(resolute: Callable[..., Answer]) -> None:
    words = " ".join(resolute("list", "recipes").out.split())
    for source in SOURCES.values():
        for text in (source.where, *source.deviations):
            assert all(word in words for word in text.split())
    assert resolute("list", "recipes").out.count("No deviation is known.") == sum(
        not source.deviations for source in SOURCES.values()
    )


def test_list_refuses_what_it_does_not_know(resolute: Callable[..., Answer]) -> None:
    answer = resolute("list", "modles")
    assert answer.code == 2
    assert "modles" in answer.err
    assert "Traceback" not in answer.err


# compare and report


def test_compare_then_report_rebuilds_the_same_page(resolute: Callable[..., Answer]) -> None:
    answer = resolute("compare", *QUICK, "--out", "run")
    page, text = Path("run/report.html").read_bytes(), Path("run/report.md").read_bytes()
    assert answer.code == 0
    assert "report: run/report.html" in answer.out
    assert "no difference seen" in answer.out
    assert re.search(r"r seed 1 done, \d+ s, 0 s left", answer.err)
    assert b"resolute compare --epochs 1 --seeds 2" in page
    Path("run/report.html").unlink()
    Path("run/report.md").unlink()
    again = resolute("report", "run")
    assert again.code == 0
    assert again.out == answer.out
    assert Path("run/report.html").read_bytes() == page
    assert Path("run/report.md").read_bytes() == text


def test_the_same_command_goes_on_with_a_finished_run(
    resolute: Callable[..., Answer], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, Path("run"))
    before = {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()}
    monkeypatch.setattr(comparison.cell, "train", None)
    answer = resolute("compare", *QUICK, "--out", run)
    assert answer.code == 0
    assert {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()} == before


def test_an_interrupted_run_says_how_it_goes_on(
    resolute: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "compare", interrupt)
    answer = resolute("compare")
    assert answer.code == 130
    assert answer.message == "stopped; the same command goes on from here."


# Mistakes


def png(seed: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png")
    return stream.getvalue()


def photographs(folder: str, classes: int) -> Path:
    for k in range(classes):
        Path(folder, f"class{k}").mkdir(parents=True)
        for i in range(12):
            Path(folder, f"class{k}", f"{i:02}.png").write_bytes(png(100 * k + i))
    return Path(folder)


def empty_folder() -> list[object]:
    Path("empty").mkdir()
    return ["--data", "empty"]


def one_class() -> list[object]:
    return ["--data", photographs("lonely", 1)]


def truncated_image() -> list[object]:
    folder = photographs("pictures", 2)
    (folder / "class1/03.png").write_bytes(png(3)[:-60])
    return ["--data", folder]


def parquet_without_labels() -> list[object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path("tables").mkdir()
    images = pa.array([png(i) for i in range(12)], pa.binary())
    pq.write_table(pa.table({"image": images}), "tables/train-0.parquet")
    return ["--data", "tables"]


def out_below_a_file() -> list[object]:
    Path("file").touch()
    return ["--out", "file/run"]


def out_with_other_things() -> list[object]:
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").touch()
    return ["--out", "thesis"]


MISTAKES: dict[str, tuple[list[object] | Callable[[], list[object]], str]] = {
    "model": (["--model", "lenett"], "unknown model 'lenett': did you mean 'lenet'?"),
    "wide": (["--model", "wrn-17-2"], "wrn-17-2: the depth must be 6n + 4 (10, 16, 22, 28, 40) and the width >= 1."),
    "data": (["--data", "minst"], "unknown data set 'minst': did you mean 'mnist'? There is no folder minst either"),
    "method": (["--methods", "base,fsgm"], "unknown method 'fsgm': did you mean 'fgsm'?"),
    "suite": (["--suites", "clean,nosie"], "unknown suite 'nosie': did you mean 'noise'?"),
    "recipe": (["mnits"], "unknown recipe 'mnits': did you mean 'mnist'?"),
    "eps-1": (["--eps", "1.0"], "eps is 1.0; it must be at least 0 and below 1. 0.1 is the default, 0 is no noise."),
    "eps-negative": (["--eps", "-0.1"], "eps is -0.1; it must be at least 0 and below 1."),
    "eps-nan": (["--eps", "nan"], "eps is nan; it must be at least 0 and below 1."),
    "p": (["--p", "1.5"], "p is 1.5; it is a probability, from 0 to 1."),
    "where": (["--where", "relu9"], "where='relu9' matches no module of Sequential. Candidates: "),
    "radius": (["--radius", "8/0"], "radius is '8/0'; it is a number of pixel units from 0 to 1"),
    "seeds": (["--seeds", "0"], "seeds are (); there must be at least one"),
    "epochs": (["--epochs", "0"], "epochs is 0; it must be at least 1."),
    "lr": (["--lr", "nan"], "lr is nan; it must be a positive number."),
    "sched": (["--sched", "wave"], "schedule is 'wave'; it must be "),
    "milestones": (["--milestones", "3,x"], "--milestones got 'x'; it takes whole numbers, separated by commas."),
    "split": (["--split", "train"], "split is 'train'; it is 'test' or 'validation'."),
    "leak": (["--split", "validation", "--train-on-all"], "networks that are judged on the validation images must not"),
    "erase": (["--erase", "2"], "erase is 2.0: it is a probability, from 0 to 1"),
    "size": (["--size", "16"], "size 16 came with 'digits', whose images have one size: leave it out"),
    "images": (["images"], "unknown data set 'images': did you mean 'imagenet'? There is no folder images either"),
    "nan-loss": (["--lr", "1e30"], "the loss became nan in epoch 1 (base, lr "),
    "empty-folder": (empty_folder, "empty: there are no images in it. Wanted is a sub-folder for each class"),
    "one-class": (one_class, "lonely has one class, 'class0': a classifier needs two or more."),
    "truncated-png": (truncated_image, "1 of 24 images in pictures cannot be read: class1/03.png ("),
    "parquet-without-labels": (
        parquet_without_labels,
        "tables/train-0.parquet has no label column: wanted is a column",
    ),
    "out-below-a-file": (out_below_a_file, "cannot write file/run/recipe.json: Not a directory. Choose a folder that"),
    "out-with-other-things": (
        out_with_other_things,
        "thesis is not empty and holds no run. Choose another folder with",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_with_one_message(name: str, resolute: Callable[..., Answer]) -> None:
    given, message = MISTAKES[name]
    answer = resolute("compare", "--epochs", "1", "--device", "cpu", *(given() if callable(given) else given))
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert message in answer.message
    assert answer.err.count("\n") == 1
    assert not Path("runs").exists() or name == "nan-loss"


def test_mnist_without_a_network(resolute: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(request: object, *args: object, **kwargs: object) -> NoReturn:
        asked.append(request)
        raise urllib.error.URLError("network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    answer = resolute("compare", "mnist", "--data-dir", "data")
    assert asked
    assert answer.code == 2
    assert "error: MNIST is not in data/MNIST/raw and could not be fetched (" in answer.message
    assert "Put there packed (.gz) or unpacked: train-images-idx3-ubyte" in answer.message
    assert "--data-dir, or the variable RESOLUTE_DATA" in answer.message
    assert not [path for path in Path("data").rglob("*") if path.is_file()]


def test_a_run_of_another_recipe_is_left_alone(resolute: Callable[..., Answer], finished: Path) -> None:
    run = shutil.copytree(finished, Path("run"))
    answer = resolute("compare", *QUICK, "--out", run, "--seeds", "3")
    assert answer.code == 2
    assert answer.message == (
        "error: run holds a run of another recipe: seeds differ (seeds there: [0, 1], here: [0, 1, 2]). "
        "Choose another folder with --out."
    )
    answer = resolute("compare", *QUICK, "--out", run, "--eps", "0.2", "--lr", "0.1")
    assert "another recipe: train, settings differ (train there: {'epochs': 1," in answer.message


def test_a_report_needs_a_run(resolute: Callable[..., Answer]) -> None:
    answer = resolute("report", "nowhere")
    assert answer.code == 2
    assert answer.message.startswith("error: cannot read nowhere/recipe.json: No such file or directory.")


def test_a_mistake_in_a_process_of_its_own_is_no_traceback() -> None:
    done = subprocess.run([*COMMANDS["module"], "compare", "--eps", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: eps is 1.0;")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["compare", "--seed", "3"], ["report"], ["compere"], ["compare", "--lr", "x"]])
def test_mistyped_commands_and_flags_are_refused(arguments: list[str], resolute: Callable[..., Answer]) -> None:
    answer = resolute(*arguments)
    assert answer.code == 2
    assert "Usage: resolute" in answer.err
    assert "Traceback" not in answer.err


def test_markup_in_names_is_shown_as_it_stands(resolute: Callable[..., Answer]) -> None:
    answer = resolute("compare", "--model", "[red]lenet[/red]")
    assert "unknown model '[red]lenet[/red]'" in answer.err
