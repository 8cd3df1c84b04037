"""What settings refuse. How they become flags is in tests/cli/test_flags.py."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from resolute.config import Augment, CurvatureConfig, EvaluateConfig, Settings, TrainConfig
from resolute.errors import InputError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 1.0}, "eps is 1.0"),
        ({"eps": -0.1}, "eps is -0.1"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"p": 1.5}, "p is 1.5"),
        ({"radius": 2.0}, "radius is 2.0"),
        ({"radius": float("nan")}, "radius is nan"),
        ({"eps": "much"}, "eps is 'much', a str; it must be a number such as 0.1"),
        ({"eps": "auto", "p": 2.0}, "p is 2.0"),
        ({"eps": "auto", "ratio": 0.0}, "ratio is 0.0; it must be above 0"),
        ({"eps": 0.3, "ratio": 0.5}, "ratio is 0.5 and eps 0.3: a ratio is what eps 'auto' is chosen by"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**settings)


def test_the_radius_follows_the_data_unless_it_is_given() -> None:
    assert Settings(eps=0.2).resolved(0.03) == Settings(eps=0.2, radius=0.03)
    assert Settings(radius=0.2).resolved(0.03).radius == 0.2
    assert Settings(radius=0.0).resolved(0.03).radius == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shift": -1}, "shift is -1"),
        ({"padding": "mirror"}, "padding is 'mirror'; it must be one of zeros, reflect."),
        ({"erase": 1.5}, "erase is 1.5"),
        ({"erase": float("nan")}, "erase is nan"),
    ],
)
def test_augmentation_out_of_range_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augment(**values)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs is 0; it must be from 1 to 1,000,000."),
        ("batch_size", 0, "batch_size is 0; it must be from 1 to 1,000,000,000 images."),
        ("lr", 0.0, "lr is 0.0; it must be above 0 and at most 1e+30."),
        ("lr", -0.1, "lr is -0.1; it must be above 0 and at most 1e+30."),
        ("lr", math.nan, "lr is nan; it must be above 0 and at most 1e+30."),
        ("lr", math.inf, "lr is inf; it must be above 0 and at most 1e+30."),
        ("momentum", 0.0, "momentum is 0.0; it must be above 0 and below 1."),
        ("momentum", 1.0, "momentum is 1.0; it must be above 0 and below 1."),
        ("weight_decay", -1e-4, "weight_decay is -0.0001; it must be from 0 to 1e+30."),
        ("weight_decay", math.nan, "weight_decay is nan; it must be from 0 to 1e+30."),
        ("optimizer", "lion", "optimizer is 'lion'; it must be one of sgd, adam, adamw, rmsprop."),
        ("freeze", "all", "freeze is 'all'; it must be one of none, bn, backbone."),
        ("backbone_lr_scale", 0.0, "backbone_lr_scale is 0.0; it must be above 0 and at most 1."),
        ("damping", 0.0, "damping is 0.0; it must be above 0 and at most 1e+30."),
        ("clip_norm", -1.0, "clip_norm is -1.0; it must be from 0 to 1e+30."),
        ("clip_norm", math.nan, "clip_norm is nan; it must be from 0 to 1e+30."),
        ("schedule", "poly", "schedule is 'poly'; it must be one of cosine, linear, step, exponential, staircase."),
        ("decay_epochs", 0.0, "decay_epochs is 0.0; it must be above 0 and at most 1e+30."),
        ("lr_floor", 0.06, "lr_floor is 0.06; it must be from 0 to lr."),
        ("warmup_epochs", -1.0, "warmup_epochs is -1.0; it must be from 0 to 1e+30."),
        ("warmup_epochs", 20.5, "warmup_epochs is 20.5; it must be from 0 to epochs."),
        ("label_smoothing", 1.0, "label_smoothing is 1.0; it must be at least 0 and below 1."),
        ("label_smoothing", math.nan, "label_smoothing is nan; it must be at least 0 and below 1."),
        ("ema", 1.0, "ema is 1.0; it must be at least 0 and below 1."),
        ("ema", -0.5, "ema is -0.5; it must be at least 0 and below 1."),
        ("device", "tpu", "device is 'tpu'; it must be one of auto, cpu, cuda."),
        ("devices", 0, "devices is 0; it must be from 1 to 4,096."),
        ("devices", 3, "devices is 3; it must be such that batch_size is a multiple of devices times nodes."),
        ("nodes", 0, "nodes is 0; it must be from 1 to 4,096."),
        (
            "strategy",
            "fsdp",
            "strategy is 'fsdp'; it must be ddp, or fsdp over several devices and without a moving "
            "average of the weights.",
        ),
        ("precision", "16-true", "precision is '16-true'; it must be one of 32-true, bf16-mixed."),
    ],
)
def test_training_out_of_range_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        TrainConfig(**{field: value})
    assert str(caught.value) == message


CONFIGS = (Settings, Augment, TrainConfig, EvaluateConfig, CurvatureConfig)
NUMBERS = [
    (config, each.name)
    for config in CONFIGS
    for each in dataclasses.fields(config)
    if isinstance(each.default, (int, float)) or each.name in ("limit", "radius")
]
"""Every field that takes a number, or yes and no."""
USELESS = (math.nan, math.inf, -math.inf, 1e300, -1e300, 10**400, "x", "\u00b2", b"1", [1], 1j, (), object())


@pytest.mark.parametrize(("config", "field"), NUMBERS, ids=[f"{config.__name__}-{name}" for config, name in NUMBERS])
def test_every_setting_refuses_what_no_setting_takes(config: type, field: str) -> None:
    for value in USELESS:
        with pytest.raises(InputError, match=rf"^{field} is "):
            config(**{field: value})


@pytest.mark.parametrize("field", ["epochs", "batch_size", "devices", "shift"])
def test_a_count_is_a_whole_number(field: str) -> None:
    config: Any = Augment if field == "shift" else TrainConfig
    for value in (1.5, True, "3", None):
        with pytest.raises(InputError, match=rf"^{field} is .*; it must be a whole number, from "):
            config(**{field: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": -1.0}, "gamma is -1.0; it must be above 0 and at most 1."),
        ({"gamma": math.nan}, "gamma is nan"),
        ({"milestones": (1, -3)}, r"milestones is \(1, -3\); it must be from 0 to 1,000,000."),
        ({"milestones": 3}, "milestones is 3; it must be a tuple."),
        ({"flip": 1}, "flip is 1; it must be True or False."),
    ],
)
def test_what_looks_like_a_setting_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        (Augment if "flip" in values else TrainConfig)(**values)


def test_what_is_frozen_has_no_rate() -> None:
    with pytest.raises(InputError, match=r"backbone_lr_scale is 0.1; it must be 1 where freeze is 'backbone'\.$"):
        TrainConfig(freeze="backbone", backbone_lr_scale=0.1)


def test_numbers_of_numpy_are_numbers() -> None:
    assert TrainConfig(epochs=np.int64(3), lr=np.float32(0.5), milestones=[1, 2]).epochs == 3  # type: ignore[arg-type]


def test_a_radius_in_text_is_the_number() -> None:
    assert Settings(radius="51/255").radius == 0.2  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"torch sees no GPU here. Use device 'cpu'"):
        TrainConfig(device="cuda")


def test_the_limits_themselves_are_allowed() -> None:
    config = TrainConfig(
        epochs=1, batch_size=2, weight_decay=0, warmup_epochs=1, label_smoothing=0.0, ema=0.0, devices=2
    )
    assert dataclasses.replace(config, ema=0.999).ema == 0.999


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("images", 0, "images is 0; it must be from 1 to 1,000,000,000 images."),
        ("probes", -1, "probes is -1; it must be from 1 to 1,000,000,000."),
        ("surface", 102, "surface is 102; it must be from 0 to 101 points (0: no surface)."),
    ],
)
def test_curvature_out_of_range_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        CurvatureConfig(**{field: value})
    assert str(caught.value) == message


@pytest.mark.parametrize("field", ["limit", "batch_size"])
def test_an_evaluation_of_no_images_is_refused(field: str) -> None:
    for value in (0, -1):
        with pytest.raises(InputError, match=rf"^{field} is {value}; it must be from 1 to 1,000,000,000 images\.$"):
            EvaluateConfig(**{field: value})  # type: ignore[arg-type]
    assert EvaluateConfig(**{field: 1}) != EvaluateConfig()  # type: ignore[arg-type]
