"""Augmentation that imitates other ways of storing an image: resampled, blurred, sharpened, with noise, as JPEG.

The categories of COVID-QU-Ex come from different sources, whose images were stored in different ways. Without this
augmentation a network learns that blurred images show disease and grainy ones do not.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from PIL import Image
from torch import Tensor, nn

__all__ = ["StorageChanges"]

_MODES = (("bilinear", True), ("bicubic", True), ("area", False), ("nearest", False))
"""Filters that shrink an image: mode of `interpolate`, and whether it avoids aliasing."""


class StorageChanges(nn.Module):
    """Changes each image of a batch at random; random numbers come from torch's global generator.

    Args:
        strength: 0 to 1, multiplies the probability of each change: resampling to 0.35 to 1.0 of the size and back
            (0.5), Gaussian blur of 0.3 to 1.2 pixels (0.25), sharpening (0.2), white or smooth noise with a standard
            deviation up to 0.04 (0.35), JPEG of quality 20 to 95 (0.3).
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) float32 in [0, 1] to the same shape and range."""
        changes: tuple[tuple[float, Callable[[Tensor], Tensor]], ...] = (
            (0.5, _resampled),
            (0.25, _blurred),
            (0.2, _sharpened),
            (0.35, _noisy),
            (0.3, _as_jpeg),
        )
        stored = []
        for image in torch.split(images, 1):
            for probability, change in changes:
                if torch.rand(()).item() < probability * self.strength:
                    image = change(image).clamp(0, 1)  # noqa: PLW2901
            stored.append(image)
        return torch.cat(stored)


def _between(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _resampled(image: Tensor) -> Tensor:
    scale = _between(0.35, 1.0)
    size = [max(1, round(side * scale)) for side in image.shape[2:]]
    mode, antialias = _MODES[int(torch.randint(len(_MODES), ()))]
    small = F.interpolate(image, size, mode=mode, antialias=antialias)
    back = ("bilinear", "bicubic")[int(torch.randint(2, ()))]
    return F.interpolate(small, image.shape[2:], mode=back, align_corners=False)


def _blurred(image: Tensor) -> Tensor:
    return _gaussian(image, _between(0.3, 1.2))


def _sharpened(image: Tensor) -> Tensor:
    return image + _between(0.3, 1.5) * (image - _gaussian(image, _between(0.5, 1.5)))


def _noisy(image: Tensor) -> Tensor:
    noise = torch.randn_like(image)
    if torch.rand(()).item() < 0.5:
        noise = _gaussian(noise, _between(0.4, 1.0))
        noise = noise / noise.std().clamp(min=1e-6)
    return image + _between(0.0, 0.04) * noise


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    side = 2 * int(3 * sigma + 0.5) + 1
    return gaussian_blur2d(image, (side, side), (sigma, sigma))


def _as_jpeg(image: Tensor) -> Tensor:
    pixels = (image[0, 0] * 255).round().to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=round(_between(20, 95)))
    read = np.asarray(Image.open(file), dtype=np.float32) / np.float32(255)
    return torch.from_numpy(read)[None, None].to(image)
