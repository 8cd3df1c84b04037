"""Every command's flags: none may go, and help names each."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pytest
import typer

from resolute import cli
from resolute.cli.flags import as_words, of
from resolute.config import Augment, CurvatureConfig, EvaluateConfig, Settings, TrainConfig
from resolute.errors import InputError
from resolute.experiment.recipe import Recipe, TuneConfig

if TYPE_CHECKING:
    from cli.conftest import Call

DATA = ["--data", "--data-dir", "--size", "--interpolation"]
START = ["--model", "--pretrained", "--no-pretrained", "--weights"]
NETWORKS = ["[NETWORK]...", "--model", "--weights", "--factory", "--device"]
TRAIN = [
    "--epochs", "--batch-size", "-b", "--lr", "--optimizer", "--opt", "--momentum", "--nesterov", "--no-nesterov",
    "--backbone-lr-scale", "--freeze",
    "--damping", "--opt-eps", "--weight-decay", "--clip-norm", "--clip-grad", "--schedule", "--sched", "--milestones",
    "--gamma", "--decay-rate", "--decay-epochs", "--lr-floor", "--min-lr", "--warmup-epochs", "--label-smoothing",
    "--smoothing", "--ema", "--model-ema", "--update-bn", "--no-update-bn", "--device", "--devices", "--strategy",
    "--global-noise", "--no-global-noise", "--sync-bn", "--no-sync-bn", "--precision", "--compile", "--no-compile",
    "--channels-last", "--no-channels-last", "--tensorboard", "--no-tensorboard", "--shift", "--padding", "--flip",
    "--no-flip", "--erase", "--crop", "--rotation",
]  # fmt: skip
FORMS = ["--grain", "--spread", "--share"]
SETTINGS = ["--eps", "--ratio", "--p", "--where", *FORMS, "--radius", "--eps-schedule"]
FLAGS = {
    "compare": [
        "[RECIPE]", *DATA, *START, "--methods", "--seeds", "--suites", "--split", "--hold-out", "--no-hold-out",
        "--train-on-all", "--train-fraction", *SETTINGS, *TRAIN, "--jobs", "--on", "--out",
    ],
    "train": [
        *DATA, *START, "--method", "--seed", "--suites", "--train-fraction", *SETTINGS, *TRAIN, "--nodes",
        "--out",
    ],
    "evaluate": [*NETWORKS, *DATA, "--suites", "--seed", "--batch-size", "-b", "--limit", "--out"],
    "curvature": [
        *NETWORKS, *DATA, "--split", "--images", "--top", "--steps", "--probes", "--surface", "--surface-images",
        "--eps", "--where", "--draws", "--batch-size", "-b", "--double", "--no-double", "--seed", "--out",
    ],
    "report": ["DIR"],
    "reproduce": [
        "--table", "--row", "--scale", "--pretrained", "--data-dir", "--seeds", "--device", "--precision", "--compile",
        "--no-compile", "--out", "--results", "--write",
    ],
    "tune": [
        "[RECIPE]", *DATA, *START, "--method", "--train-fraction", "--suites", "--ratio", "--eps", "--where",
        *FORMS, "--eps-schedule", "--trials", "--seeds", "--margin", "--timeout", *TRAIN, "--jobs", "--out",
    ],
    "disturb": [*DATA, "--suites", "--images", "--levels", "--seed", "--out"],
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


CONFIGS = (Recipe, Settings, TrainConfig, Augment, TuneConfig, EvaluateConfig, CurvatureConfig)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_field_is_a_flag_with_its_name_default_and_help(config: type) -> None:
    documented = _letters(config.__doc__ or "")
    flags = {flag.parameter.name: flag for flag in of(config)}
    assert set(flags) == {each.name for each in dataclasses.fields(config)} - {"settings", "train", "augment", "recipe"}
    for name, flag in flags.items():
        [option] = flag.parameter.annotation.__metadata__
        assert option.default.split("/")[0] == "--" + name.replace("_", "-")
        assert option.help.endswith(".")
        assert _letters(f"{name}: {option.help}") in documented
        default = config.__dataclass_fields__[name].default  # type: ignore[attr-defined]
        if flag.parameter.default not in (None, dataclasses.MISSING) and name != "seeds":
            assert flag.read(flag.parameter.default) == default


def _letters(text: str) -> str:
    return re.sub(r"\W", "", text)


def test_no_name_means_two_settings_of_a_recipe() -> None:
    names = [each.name for config in (Recipe, Settings, TrainConfig, Augment) for each in dataclasses.fields(config)]
    assert sorted(names) == sorted(set(names))


def test_flags_are_written_as_they_are_read() -> None:
    given = {"eps": (0.05, 1e-05), "where": ("input", "both"), "jobs": 2, "update_bn": False, "milestones": (3, 5)}
    assert as_words(given) == (
        ["--eps", "0.05,1e-05", "--where", "input,both", "--jobs", "2", "--no-update-bn", "--milestones", "3,5"]
    )
    flags = {flag.parameter.name: flag for config in (TuneConfig, TrainConfig) for flag in of(config)}
    for name in ("eps", "where", "milestones"):
        assert flags[name].read(as_words({name: given[name]})[1]) == given[name]


def test_eps_is_a_number_or_auto() -> None:
    [eps] = of(Settings, "eps")
    assert [eps.read(text) for text in ("0.25", "1e-2", "auto")] == [0.25, 0.01, "auto"]
    with pytest.raises(InputError, match="--eps got 'much'; it takes a number, or auto"):
        eps.read("much")


def test_help_names_every_command_and_flag(resolute: Call) -> None:
    for name, flags in FLAGS.items():
        answer = resolute(name, "--help")
        assert answer.code == 0
        for flag in flags:
            assert flag in answer.out
        assert name in resolute("--help").out
