"""The bundled digits, against scikit-learn's own array."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from resolute.data import load


def test_odd_images_are_the_test_set_and_every_tenth_even_one_is_for_validation() -> None:
    bundled = load_digits()
    even = range(0, 1797, 2)
    wanted = {
        "test": list(range(1, 1797, 2)),
        "validation": [i for k, i in enumerate(even) if k % 10 == 9],
        "train": [i for k, i in enumerate(even) if k % 10 != 9],
        "train+validation": list(even),
    }
    assert [len(wanted[s]) for s in ("train", "validation", "test")] == [810, 89, 898]
    for split, index in wanted.items():
        images = load("digits", split=split)
        assert images.y.tolist() == bundled.target[index].tolist()
        assert np.abs(images.x[:, 0].numpy() / 255 - bundled.images[index] / 16).max() <= 0.5 / 255 + 1e-9
        assert images.split == split


def test_mean_and_std_are_those_of_the_training_images() -> None:
    images = load("digits", split="train+validation")
    pixels = images.x.double() / 255
    assert images.info.mean == pytest.approx([pixels.mean().item()], abs=5e-5)
    assert images.info.std == pytest.approx([pixels.std(correction=0).item()], abs=5e-5)
