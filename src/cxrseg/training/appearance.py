"""Augmentation that gives a film the look of another film of its batch, and leaves its anatomy alone.

The categories of COVID-QU-Ex come from different sources, each with its own gray values and its own grain. Where looks
are exchanged among categories, they say nothing about disease any more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AppearanceExchange", "match_histograms", "match_spectra"]

LARGEST_GAIN = 4.0
"""Largest change of the amplitude of one frequency in `match_spectra`: more of it would show mostly noise."""


class AppearanceExchange(nn.Module):
    """Gives images of a batch the look of others; random numbers come from torch's global generator.

    Args:
        probability: of `match_histograms`, and then again of `match_spectra`, for each image.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) float32 in [0, 1] to the same shape and range."""
        count, device = len(images), images.device
        for change in (match_histograms, match_spectra):
            others = images[torch.randperm(count, device=device)]
            chosen = torch.rand(count, 1, 1, 1, device=device) < self.probability
            images = torch.where(chosen, change(images, others), images)
        return images


def match_histograms(images: Tensor, others: Tensor) -> Tensor:
    """Replace gray values, in their order, by those of other images: an increasing curve for each image.

    Args:
        images: (N, 1, H, W) float32.
        others: the same shape.

    Returns:
        The same shape, with the histograms of `others`.
    """
    order = images.flatten(1).argsort(dim=1, stable=True)
    values = others.flatten(1).sort(dim=1).values
    return torch.empty_like(values).scatter_(1, order, values).view_as(images)


def match_spectra(images: Tensor, others: Tensor) -> Tensor:
    """Give each spatial frequency the mean amplitude that it has in other images: their sharpness and their grain.

    As Xu et al. 2021, arXiv:2105.11120, the phases are kept, which hold the anatomy; only means over all directions are
    exchanged, so that no ghost of the other image appears. The mean gray value stays.

    Args:
        images: (N, 1, H, W) float32 in [0, 1].
        others: the same shape.

    Returns:
        The same shape, clipped to [0, 1]. No frequency is changed by more than `LARGEST_GAIN`, up or down.
    """
    height, width = images.shape[2:]
    across, down = torch.fft.rfftfreq(width), torch.fft.fftfreq(height)
    # In steps of one cycle over the longer side.
    radius = (torch.hypot(down[:, None], across) * max(height, width)).round().long().flatten().to(images.device)
    ours = torch.fft.rfft2(images)
    gain = _mean_at(radius, torch.fft.rfft2(others)) / _mean_at(radius, ours).clamp(min=1e-6)
    gain = gain.clamp(1 / LARGEST_GAIN, LARGEST_GAIN)
    gain[:, 0] = 1
    changed: Tensor = torch.fft.irfft2(ours * gain[:, radius].view_as(ours), s=(height, width))
    return changed.clamp(0, 1)


def _mean_at(radius: Tensor, spectrum: Tensor) -> Tensor:
    """Mean amplitude at each radius: (N, 1, H, W) complex to (N, R)."""
    amplitudes = spectrum.abs().flatten(1)
    sums = amplitudes.new_zeros(len(amplitudes), int(radius.max()) + 1).index_add_(1, radius, amplitudes)
    return sums / torch.bincount(radius).clamp(min=1)
