"""BatchNorm's statistics after training."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cases import as_float, tiny_convolution, tiny_images
from resolute.config import Settings
from resolute.data.dataset import epoch_order
from resolute.noise.robustify import is_robust
from resolute.training.loop import train
from training.watching import CONFIG, changed


@pytest.mark.parametrize("method", ["base", "r", "gaussian"])
def test_statistics_without_noise_are_those_of_one_more_epoch(method: str) -> None:
    """The weights and the noise stay; each batch counts the same, the incomplete one is left out."""
    images, settings = tiny_images(50), Settings(eps=0.5, where="both")
    plain, updated = tiny_convolution(), tiny_convolution()
    train(plain, images, method=method, settings=settings, config=CONFIG, seed=2)
    train(updated, images, method=method, settings=settings, config=changed(update_bn=True), seed=2)
    x = as_float(images)[0][epoch_order(50, 2, CONFIG.epochs)[:48]]
    kernel, bias = list(plain.parameters())[:2]
    with torch.no_grad():
        outs = [F.conv2d((batch - 0.5) / 0.25, kernel, bias, padding=1) for batch in x.split(16)]
    mean = torch.stack([out.mean((0, 2, 3)) for out in outs]).mean(0)
    variance = torch.stack([out.var((0, 2, 3)) for out in outs]).mean(0)
    torch.testing.assert_close(updated[2].running_mean, mean)
    torch.testing.assert_close(updated[2].running_var, variance)
    assert not torch.allclose(plain[2].running_var, variance)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), updated.parameters(), strict=True))
    assert is_robust(updated) == (method != "base")
    assert updated[2].momentum == 0.1
