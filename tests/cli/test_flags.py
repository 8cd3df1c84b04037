"""Every command's flags: none may go, and help names each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from resolute import cli

if TYPE_CHECKING:
    from cli.conftest import Call

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


def test_help_names_every_command_and_flag(resolute: Call) -> None:
    for name, flags in FLAGS.items():
        answer = resolute(name, "--help")
        assert answer.code == 0
        for flag in flags:
            assert flag in answer.out
        assert name in resolute("--help").out
