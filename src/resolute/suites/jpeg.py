"""JPEG by Pillow's libjpeg, image by image in threads: no codec of PyTorch gives the same bytes on every device."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def compress(x: Tensor, quality: int) -> Tensor:
    """Encode every image as JPEG and decode it, with Pillow's defaults (colour at half resolution).

    The codec runs on the CPU: images of another device travel there and back.

    Args:
        x: float [n, C, H, W] in [0, 1]; rounded to bytes first.
        quality: 1 to 100.

    Returns:
        float32 like x, whole multiples of 1/255.
    """
    pixels = (255 * x).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        decoded = np.stack(list(threads.map(lambda image: _coded(image, quality), pixels)))
    return torch.from_numpy(decoded).movedim(-1, 1).to(x.device, torch.float32).contiguous() / 255


def _coded(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream)).reshape(image.shape)
