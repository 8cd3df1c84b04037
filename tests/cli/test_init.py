"""The whole command line: help comes at once, a mistake ends in words and code 2, any legal name is a run folder."""

from __future__ import annotations

import io
import resource
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
import torch
import typer

from cli.test_compare import QUICK
from cli.test_flags import FLAGS
from experiment.made_up import made_up
from resolute import cli
from resolute.config import RANGES
from resolute.experiment import cell, grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.conftest import Answer, Call


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
    "seeds": (["--seeds", "0"], "--seeds got '0', which are 0 seeds; wanted are 1 to 10,000."),
    "seeds-backwards": (["--seeds", "9-5"], "--seeds got '9-5', which are 0 seeds; wanted are 1 to 10,000."),
    "seeds-many": (["--seeds", "100-1190000000"], "which are 1,189,999,901 seeds; wanted are 1 to 10,000."),
    "spaces": (["--methods", "base, rr"], "unknown method 'rr'"),
    "seeds-text": (["--seeds", "1,2"], "--seeds got '1,2'; it takes how many, 5, or from which to which, 100-119."),
    "epochs": (["--epochs", "0"], "epochs is 0; it must be from 1 to 1,000,000."),
    "lr": (["--lr", "nan"], "lr is nan; it must be above 0 and at most 1e+30."),
    "sched": (["--sched", "wave"], "schedule is 'wave'; it must be "),
    "milestones": (["--milestones", "3,x"], "--milestones got 'x'; it takes whole numbers, separated by commas."),
    "milestones-negative": (["--milestones=-3"], "--milestones got '-3'; it takes whole numbers, separated by commas."),
    "split": (["--split", "train"], "split is 'train'; it must be one of test, validation."),
    "leak": (["--split", "validation", "--train-on-all"], "networks evaluated on the validation images must not"),
    "erase": (["--erase", "2"], "erase is 2.0; it must be from 0 to 1."),
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
    "out-below-a-file": (out_below_a_file, "cannot lock file/run/.locks/claim: [Errno 20] Not a directory"),
    "out-with-other-things": (
        out_with_other_things,
        "thesis is not empty and holds no comparison. Choose another folder with",
    ),
}


def check_one_message(answer: Answer, message: str) -> None:
    """It may stand behind the line that says what was found of the data."""
    *before, said = answer.err.splitlines()
    assert said.startswith("error: ")
    assert message in answer.message
    assert len(before) <= 1
    assert all(" test images of " in line for line in before)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_with_one_message(name: str, resolute: Call) -> None:
    given, message = MISTAKES[name]
    answer = resolute("compare", "--epochs", "1", "--device", "cpu", *(given() if callable(given) else given))
    assert answer.code == 2
    assert answer.out == ""
    check_one_message(answer, message)
    assert not Path("runs").exists() or name == "nan-loss"


def test_mnist_without_a_network(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(request: object, *args: object, **kwargs: object) -> NoReturn:
        asked.append(request)
        raise urllib.error.URLError("network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    answer = resolute("compare", "mnist", "--data-dir", "data")
    assert asked
    assert answer.code == 2
    assert "error: MNIST is not in data/MNIST/raw and could not be fetched (" in answer.message
    assert "Put there packed or not: train-images-idx3-ubyte" in answer.message
    assert "--data-dir, or the variable RESOLUTE_DATA" in answer.message
    assert not [path for path in Path("data").rglob("*") if path.is_file()]


def dangling(flag: str) -> list[object]:
    Path("link").symlink_to("nowhere")
    return [flag, "link"]


MORE_MISTAKES: dict[str, tuple[list[object] | Callable[[], list[object]], str]] = {
    "lr-1e300": (["--lr", "1e300"], "lr is 1e+300; it must be above 0 and at most 1e+30."),
    "weight-decay": (["--weight-decay", "inf"], "weight_decay is inf; it must be from 0 to 1e+30."),
    "decay-rate-nan": (["--decay-rate", "nan"], "gamma is nan; it must be above 0 and at most 1."),
    "decay-rate": (["--decay-rate=-1"], "gamma is -1.0; it must be above 0 and at most 1."),
    "epochs": (["--epochs", 30 * "9"], "it must be from 1 to 1,000,000."),
    "milestones": (["--milestones", "\u00b2"], "--milestones got '\u00b2'; it takes whole numbers"),
    "seeds": (["--seeds", 5000 * "9"], "it takes how many, 5, or from which to which"),
    "long-data": (["--data", 300 * "x"], "is no path: it is empty, or a name in it is longer than 255 bytes."),
    "long-out": (["--out", f"a/{300 * 'x'}"], "is no path: it is empty, or a name in it is longer than 255 bytes."),
    "nobody": (["--data", "~nosuchuser/x"], "'~nosuchuser/x' is no path: there is no such user here."),
    "nobody-dir": (["--data-dir", "~nosuchuser/x"], "'~nosuchuser/x' is no path"),
    "no-folder": (["--data", "no/where"], "there is no folder no/where. Give one that is there, or one of cifar10,"),
    "no-data": (["--data", ""], "nothing came after '--data' but an empty text. Is a variable of the shell not set?"),
    "no-data-dir": (["--data-dir="], "nothing came after '--data-dir' but an empty text."),
    "no-recipe": ([""], "but an empty text."),
    "dangling-data": (lambda: dangling("--data"), "link is a link to nowhere, and nothing is there."),
    "dangling-out": (lambda: dangling("--out"), "link is a link to nowhere, and nothing is there."),
    "escape": (["--model", "\x1b[31mred\n"], r"unknown model '\x1b[31mred\n'"),
    "library": (
        ["--model", "resnet18"], "unknown model 'resnet18': did you mean 'timm/resnet18' or 'torchvision/resnet18'?"
    ),
    "one-value": (
        ["--data", "photographs", "--model", "timm/resnet18", "-b", "1", "--methods", "base"], "larger --batch-size"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MORE_MISTAKES)
def test_a_hostile_flag_ends_with_one_message(name: str, resolute: Call) -> None:
    given, message = MORE_MISTAKES[name]
    photographs("photographs", 2)
    answer = resolute("compare", "--epochs", "1", "--device", "cpu", *(given() if callable(given) else given))
    assert (answer.code, answer.out) == (2, "")
    check_one_message(answer, message)


class Reached(Exception):
    """A command has accepted all that it was given."""


HOSTILE = (
    "nan", "inf", "-inf", "-1", "0", "1e300", " ", "\u00b2", "\u0663", "0x10", "1_000", 30 * "9", 5000 * "9", "None",
    300 * "x", "\x1b[31m", "a\nb", "a\tb", "~nosuchuser/x", "[red]", "../..",
)  # fmt: skip
NEVER = ("nan", "inf", "-inf", "1e300", "\u00b2", "0x10", 5000 * "9", "None")
"""What no number may be."""


def valued() -> dict[str, tuple[str, str]]:
    """Each flag that takes a value, once: the commands make theirs from the same dataclasses."""
    group: Any = typer.main.get_command(cli.app)
    return {
        option.opts[0]: (command, option.name)
        for command in ("curvature", "evaluate", "tune", "train", "compare")
        for option in group.commands[command].params
        if not getattr(option, "is_flag", False)
    }


@pytest.mark.parametrize("flag", valued())
def test_no_value_of_any_flag_gives_a_traceback(flag: str, resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(*arguments: object, **more: object) -> NoReturn:
        raise Reached

    for place in ("experiment.grid.run_comparison", "experiment.grid.train_one", "experiment.tune.run_tuning",
                  "experiment.evaluation.evaluate_networks", "curvature.survey.survey"):  # fmt: skip
        monkeypatch.setattr(f"resolute.{place}", reach)
    command, name = valued()[flag]
    numeric = name in {*RANGES, "eps", "p", "radius"}
    for value in HOSTILE:
        try:
            answer = resolute(command, f"{flag}={value}" if flag.startswith("-") else value)
        except Reached:
            assert not (numeric and value in NEVER), f"{name} took {value}"
        else:
            assert answer.code == 2, f"{name} {value}"
            assert answer.err.count("\n") in (1, 4)
            assert "\x1b" not in answer.err


SAID = [("list data > /dev/full", 2, "cannot write what is to be shown: No space left on device"),
        ("--help > /dev/full", 2, "No space left on device"), ("list recipes | head -1", 0, ""),
        ("list data >&-", 0, ""), ("compare nosuch 2> /dev/full", 2, ""), ("compare nosuch 2>&-", 2, ""),
        ("--version", 0, "")]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "message"), SAID)
def test_a_stream_that_takes_nothing_is_no_traceback(words: str, code: int, message: str) -> None:
    line = f"{sys.executable} -m resolute {words}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.count("\n") == bool(message)
    assert words != "--version" or done.stdout == f"resolute {version('resolute')}\n"


def test_an_interrupt_is_one_line(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("resolute.report.page.write_report", interrupt)
    monkeypatch.setattr("resolute.cli.list._entries", interrupt)
    for words in (("report", "."), ("list", "data")):
        assert resolute(*words) == (130, "", "Stopped. Run the same command again to continue.\n")


def test_a_mistake_in_a_process_of_its_own_is_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resolute", "compare", "--eps", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: eps is 1.0;")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["compare", "--seed", "3"], ["report"], ["compere"], ["compare", "--lr", "x"]])
def test_mistyped_commands_and_flags_are_refused(arguments: list[str], resolute: Call) -> None:
    answer = resolute(*arguments)
    assert answer.code == 2
    assert "Usage: resolute" in answer.err
    assert "Traceback" not in answer.err


def test_markup_in_names_is_shown_as_it_stands(resolute: Call) -> None:
    answer = resolute("compare", "--model", "[red]lenet[/red]")
    assert "unknown model '[red]lenet[/red]'" in answer.err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "out of memory (CUDA out of memory. "),
        (MemoryError("Unable to allocate 1 TiB"), "out of memory (Unable to allocate 1 TiB). A smaller --batch-size"),
    ],
)
def test_a_full_memory_is_told_in_a_sentence(
    error: Exception, message: str, resolute: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> NoReturn:
        raise error

    monkeypatch.setattr(grid, "run_comparison", fail)
    answer = resolute("compare")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.message


@pytest.mark.parametrize("words", ["DataLoader worker (pid 7) is killed by signal: Killed. ", "something else"])
def test_a_lost_decoder_is_told_of_wherever_torch_raises(
    words: str, resolute: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> NoReturn:
        raise RuntimeError(words)

    monkeypatch.setattr(grid, "run_comparison", fail)
    if words == "something else":
        with pytest.raises(RuntimeError, match=words):
            resolute("compare")
    else:
        answer = resolute("compare")
        assert answer.code == 2
        assert (
            "was killed (DataLoader worker (pid 7) is killed by signal: Killed. ): is the memory full?"
            in answer.message
        )


COMMANDS = {
    "script": [str(Path(sys.executable).with_name("resolute"))],
    "module": [sys.executable, "-m", "resolute"],
}
HEAVY = {"torch", "numpy", "matplotlib", "torchvision", "timm", "scipy", "sklearn", "lightning_fabric", "pyarrow"}


@pytest.mark.parametrize(("how", "command"), [("script", ""), *(("module", name) for name in ["", *FLAGS])])
def test_help_comes_at_once(how: str, command: str) -> None:
    """Within a second of processor time, so that a busy machine does not matter; once in three times is enough."""

    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        asked = [*COMMANDS[how], *command.split(), "--help"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "Usage: resolute" in done.stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(cost() < 1 for _ in range(3))


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in FLAGS), ["--nonsense"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        f"import sys; sys.argv = ['resolute', *{arguments!r}]\n"
        "from resolute.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split("LOADED")[1].split())


TRAIN = ("--epochs", "1", "--suites", "clean", "--device", "cpu")
TUNE = ("--eps", "0.3", "--where", "hidden", "--trials", "1", "--seeds", "2", *TRAIN)
CURVATURE = ("--images", 2, "--steps", 2, "--probes", 1, "--top", 1, "--surface", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run of each other command that trains or measures: `train` and `curvature`."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(finished, folder / "compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (("train", *TRAIN), ("curvature", folder / "compare/cells/r-seed0", *CURVATURE)):
            patch.setattr(sys, "argv", ["resolute", *map(str, words), "--out", words[0]])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert not stop.value.code
    return folder


@pytest.mark.parametrize("name", ["st?a=1", " ", "a#b", "100%", "[bold]x", "\u00fcn\u00efcode", 200 * "x"])
def test_any_legal_name_is_a_run_folder(
    name: str, resolute: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "train", pytest.fail)
    monkeypatch.setattr("resolute.curvature.survey.measure_network", pytest.fail)
    monkeypatch.setattr("resolute.experiment.tune.fill", made_up(lambda _: 0.1, []))
    monkeypatch.setattr("resolute.report.tuning.draw_tuned", lambda *_: b"")
    commands = {
        "compare": QUICK,
        "train": TRAIN,
        "curvature": (made / "compare/cells/r-seed0", *CURVATURE),
        "tune": TUNE,
    }
    for command, words in commands.items():
        (tmp_path / command).mkdir()
        monkeypatch.chdir(tmp_path / command)
        if command != "tune":
            shutil.copytree(made / command, name)
        answer = resolute(command, *words, f"--out={name}")
        assert answer.code == 0, answer.err
        assert f": {name}{ {'train': '', 'tune': '/curve.png'}.get(command, '/report.html') }\n" in answer.out
        assert [path.name for path in Path().iterdir()] == [name]
        assert resolute(command, *words, f"--out={name}")[:2] == (0, answer.out)
        if command != "train":
            again = resolute("report", name)
            assert again.code == 0, again.err
            assert f"report: {name}/report.html\n" in again.out
