"""JPEG by libjpeg, many images at a time in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def compress(x: Tensor, quality: int) -> Tensor:
    """Encode every image as JPEG and decode it, with the defaults that Pillow has too (colour at half resolution).

    The codec runs on the CPU: images of another device travel there and back.

    Args:
        x: float [n, C, H, W] in [0, 1]; rounded to bytes first.
        quality: 1 to 100, as Pillow's.

    Returns:
        float32 like x, whole multiples of 1/255.
    """
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    mode = ImageReadMode.GRAY if x.shape[1] == 1 else ImageReadMode.RGB
    pixels = (255 * x).round().to(torch.uint8).cpu()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        decoded = list(threads.map(lambda image: decode_jpeg(encode_jpeg(image, quality), mode), pixels))
    return torch.stack(decoded).to(x.device, torch.float32) / 255
