from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from resolute import transforms


@pytest.mark.parametrize("quality", [7, 40, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_pillow_s_jpeg(photographs: torch.Tensor, quality: int, channels: int) -> None:
    x = photographs[:, :channels, :53, :41]
    for image, found in zip(x, transforms.compress(x.float() / 255, quality), strict=True):
        stream = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy().squeeze()).save(stream, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(stream)).reshape(53, 41, channels).transpose(2, 0, 1)
        assert np.array_equal((255 * found).round().to(torch.uint8).numpy(), theirs)
