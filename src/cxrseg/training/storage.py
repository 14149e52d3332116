"""Augmentation that imitates other ways of storing an image: resampled, blurred, sharpened, with noise, as JPEG.

The categories of COVID-QU-Ex come from different sources, whose images were stored in different ways. Without this
augmentation a network learns that blurred images show disease and grainy ones do not.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from PIL import Image
from torch import Tensor, nn

__all__ = ["StorageChanges"]

_MODES = (("bilinear", True), ("bicubic", True), ("area", False), ("nearest", False))
"""Filters that shrink an image: mode of `interpolate`, and whether it avoids aliasing."""

_TOGETHER = 4
"""Images that are resampled in the same way: a call for each one would take a GPU longer than the network does."""


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
        for probability, change in changes:
            chosen = (torch.rand(len(images)) < probability * self.strength).nonzero().flatten().to(images.device)
            if len(chosen):
                images = images.index_copy(0, chosen, change(images[chosen]).clamp(0, 1))
        return images


def _between(low: float, high: float, images: Tensor) -> Tensor:
    """A number for each image, (N, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, device=images.device)


def _resampled(images: Tensor) -> Tensor:
    return torch.cat([_resampled_alike(some) for some in torch.split(images, _TOGETHER)])


def _resampled_alike(images: Tensor) -> Tensor:
    scale = 0.35 + 0.65 * torch.rand(()).item()
    size = [max(1, round(side * scale)) for side in images.shape[2:]]
    mode, antialias = _MODES[int(torch.randint(len(_MODES), ()))]
    small = F.interpolate(images, size, mode=mode, antialias=antialias)
    back = ("bilinear", "bicubic")[int(torch.randint(2, ()))]
    return F.interpolate(small, images.shape[2:], mode=back, align_corners=False)


def _blurred(images: Tensor) -> Tensor:
    return _gaussian(images, _between(0.3, 1.2, images))


def _sharpened(images: Tensor) -> Tensor:
    return images + _between(0.3, 1.5, images) * (images - _gaussian(images, _between(0.5, 1.5, images)))


def _noisy(images: Tensor) -> Tensor:
    white = torch.randn_like(images)
    smooth = _gaussian(white, _between(0.4, 1.0, images))
    smooth = smooth / smooth.std((2, 3), keepdim=True).clamp(min=1e-6)
    noise = torch.where(_between(0.0, 1.0, images) < 0.5, smooth, white)
    return images + _between(0.0, 0.04, images) * noise


def _gaussian(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own sigma, (N, 1, 1, 1), up to 1.5 pixels."""
    return gaussian_blur2d(images, (11, 11), sigma.flatten()[:, None].expand(-1, 2))


def _as_jpeg(images: Tensor) -> Tensor:
    pixels = (images[:, 0] * 255).round().to(torch.uint8).cpu().numpy()
    read = np.stack([_through_jpeg(image, int(torch.randint(20, 96, ()))) for image in pixels])
    return torch.from_numpy(read)[:, None].to(images) / 255


def _through_jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))
