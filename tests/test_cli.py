"""The command line: its flags, its answers to mistakes, its speed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resolute import cli

FLAGS = {
    "compare": [
        "--data",
        "--data-dir",
        "--size",
        "--model",
        "--methods",
        "--seeds",
        "--epochs",
        "--batch-size",
        "-b",
        "--lr",
        "--weight-decay",
        "--sched",
        "--milestones",
        "--warmup-epochs",
        "--smoothing",
        "--model-ema",
        "--shift",
        "--flip",
        "--no-flip",
        "--erase",
        "--eps",
        "--p",
        "--where",
        "--radius",
        "--suites",
        "--split",
        "--hold-out",
        "--train-on-all",
        "--device",
        "--devices",
        "--precision",
        "--compile",
        "--no-compile",
        "--channels-last",
        "--no-channels-last",
        "--tensorboard",
        "--no-tensorboard",
        "--out",
    ],
    "report": [],
    "list": [],
}


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process, as `main` does it; give exit code, output and error output."""
    monkeypatch.setattr(sys, "argv", ["resolute", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_flags_are_these() -> None:
    import typer.main

    commands: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    found = {
        name: [flag for p in command.params for flag in [*p.opts, *p.secondary_opts] if flag.startswith("-")]
        for name, command in commands.items()
    }
    assert found == FLAGS


@pytest.mark.parametrize("command", [["-m", "resolute"], ["-c", "from resolute.cli import main; main()"]])
def test_help_answers_within_a_second(command: list[str]) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        shown = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True, check=True)
        assert "compare" in shown.stdout
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


def write_images(folder: Path, classes: int, each: int = 10) -> Path:
    draw = np.random.default_rng(0)
    for k in range(classes):
        (folder / f"class{k}").mkdir(parents=True)
        for i in range(each):
            pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{k}" / f"{i}.png")
    return folder


def truncated(folder: Path) -> Path:
    write_images(folder, 2)
    victim = folder / "class0" / "3.png"
    victim.write_bytes(victim.read_bytes()[:200])
    return folder


def without_labels(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    pq.write_table(pa.table({"image": [b"no picture"] * 3}), folder / "train-0.parquet")
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "lenett"], "unknown model 'lenett': did you mean 'lenet'"),
        (["--data", "digitz"], "unknown data set 'digitz': did you mean 'digits'"),
        (["--methods", "base,fsgm"], "unknown method 'fsgm': did you mean 'fgsm'"),
        (["--suites", "clean,nose"], "unknown suite 'nose': did you mean 'noise'"),
        (["digit"], "unknown recipe 'digit': did you mean 'digits'"),
        (["--eps", "1.0"], "eps is 1.0; it must be at least 0 and below 1"),
        (["--eps", "-0.1"], "eps is -0.1; it must be at least 0 and below 1"),
        (["--eps", "nan"], "eps is nan; it must be at least 0 and below 1"),
        (["--p", "1.5"], "p is 1.5; it is a probability"),
        (["--radius", "8/0"], "radius is '8/0'; it is a number of pixel units"),
        (["--where", "layer9.*"], "where='layer9.*' matches no module of Sequential. Candidates:"),
        (["--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["--milestones", "3,x", "--sched", "step"], "--milestones got 'x'"),
        (["--lr", "1e30", "--epochs", "2", "--seeds", "1"], "the loss became nan in epoch"),
        (["--out", "/dev/null/run", "--epochs", "1"], "cannot write /dev/null/run/recipe.json: Not a directory"),
    ],
)
def test_a_mistake_ends_with_its_message_and_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    code, _, err = run(capsys, monkeypatch, "compare", *arguments)
    assert code == 2
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (empty, "no image"),
        (lambda folder: write_images(folder, 1), "one class"),
        (truncated, "3.png"),
        (without_labels, "label"),
    ],
)
def test_data_that_cannot_be_used_ends_with_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Any, said: str
) -> None:
    code, _, err = run(capsys, monkeypatch, "compare", "--data", str(make(tmp_path / "set")), "--out", "run")
    assert code == 2
    assert said in err.replace("\n", " ")
    assert not Path("run").exists()


def test_a_folder_of_images_is_compared_and_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = str(write_images(tmp_path / "photos", 2, 30))
    flags = [
        "--methods",
        "base,r+fgsm",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "-b",
        "16",
        "--model",
        "wrn-10-1",
        "--where",
        "both",
        "--eps",
        "0.2",
        "--out",
        "run",
    ]
    code, out, err = run(capsys, monkeypatch, "compare", "--data", folder, *flags)
    assert (code, err.count("done")) == (0, 2)
    assert "r+fgsm" in out
    page = Path("run/report.html").read_bytes()
    Path("run/report.html").unlink()
    code, _, _ = run(capsys, monkeypatch, "report", "run")
    assert code == 0
    assert Path("run/report.html").read_bytes() == page

    code, _, err = run(capsys, monkeypatch, "compare", "--data", folder, *flags, "--lr", "0.01")
    assert code == 2
    assert "run holds a run of another recipe: train differ" in err.replace("\n", " ")


def test_report_of_no_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(capsys, monkeypatch, "report", "nowhere")
    assert code == 2
    assert "Is this a run directory" in err.replace("\n", " ")


def test_list_names_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, monkeypatch, "list")
    assert code == 0
    for name in [
        "lenet",
        "wrn-D-K",
        "timm/NAME",
        "torchvision/NAME",
        "digits",
        "mnist",
        "PATH",
        "base",
        "fgsm",
        "r",
        "gaussian",
        "additive",
        "dropout",
    ]:
        assert f"\n{name} " in out
    code, out, _ = run(capsys, monkeypatch, "list", "suites")
    assert code == 0
    assert "clean" in out
    assert "lenet" not in out
