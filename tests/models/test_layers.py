from __future__ import annotations

import pytest
import torch

from resolute.models.layers import Normalize


def test_each_channel_is_centred_and_scaled() -> None:
    x = torch.rand(4, 3, 5, 6)
    mean, std = [0.2, 0.5, 0.9], [0.1, 0.25, 2.0]
    out = Normalize(mean, std)(x)
    for c in range(3):
        torch.testing.assert_close(out[:, c], (x[:, c] - mean[c]) / std[c])


def test_the_moments_are_state_and_not_trained() -> None:
    layer = Normalize([0.2], [0.1])
    assert set(layer.state_dict()) == {"mean", "std"}
    assert list(layer.parameters()) == []
    other = Normalize([0.0], [1.0])
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(torch.ones(1, 1, 1, 1)), layer(torch.ones(1, 1, 1, 1)))


def test_it_prints_its_moments() -> None:
    assert repr(Normalize([0.5, 0.25], [0.5, 0.75])) == "Normalize(mean=[0.5, 0.25], std=[0.5, 0.75])"


def test_moments_for_other_channels_do_not_fit() -> None:
    with pytest.raises(RuntimeError, match="size"):
        Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])(torch.rand(1, 2, 4, 4))
