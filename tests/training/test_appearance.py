"""Giving a film the look of another: what is taken over, what stays, and that a seed decides."""

import pytest
import torch
from torch import Tensor

from cxrseg.training.appearance import LARGEST_GAIN, AppearanceExchange, match_histograms, match_spectra
from cxrseg.training.augment import Augment
from cxrseg.training.recipe import AugmentRecipe


def noise(seed: int, width: int = 48) -> Tensor:
    """Two grainy images."""
    return torch.rand(2, 1, 64, width, generator=torch.Generator().manual_seed(seed))


def smooth(width: int = 48) -> Tensor:
    """Two images without detail: few cycles over their sides."""
    down, across = torch.linspace(0, 6.3, 65)[:-1, None], torch.linspace(0, 6.3, width + 1)[:-1]
    image = 0.5 + 0.2 * torch.sin(2 * down) + 0.1 * torch.cos(3 * across)
    return image.expand(2, 1, 64, width).contiguous()


def energy(images: Tensor) -> Tensor:
    """(N), of what changes from one pixel to the next."""
    return (images[..., 1:] - images[..., :-1]).square().mean((1, 2, 3))


def test_a_histogram_is_taken_over_and_the_order_of_gray_values_kept() -> None:
    images, others = noise(0), 0.2 + 0.5 * noise(1)
    found = match_histograms(images, others)
    assert torch.equal(found.flatten(1).sort(1).values, others.flatten(1).sort(1).values)
    assert (found.flatten(1).gather(1, images.flatten(1).argsort(1)).diff(dim=1) >= 0).all()


@pytest.mark.parametrize("width", [48, 63, 64])  # odd and even sides have other frequencies
def test_a_spectrum_is_taken_over_and_the_picture_kept(width: int) -> None:
    grainy, plain = 0.3 + 0.4 * noise(0, width), smooth(width)
    sharpened, blurred = match_spectra(plain + 0.02 * noise(2, width), grainy), match_spectra(grainy, plain)
    assert sharpened.shape == plain.shape and sharpened.min() >= 0 and sharpened.max() <= 1
    assert (energy(sharpened) > 1.2 * energy(plain + 0.02 * noise(2, width))).all()
    assert (energy(blurred) < 0.2 * energy(grainy)).all()
    assert torch.allclose(blurred.mean((2, 3)), grainy.mean((2, 3)), atol=1e-4)
    for after, before in ((sharpened, plain), (blurred, grainy)):
        assert torch.corrcoef(torch.stack([after[0].flatten(), before[0].flatten()]))[0, 1] > 0.5


def test_an_image_with_its_own_spectrum_stays() -> None:
    assert torch.allclose(match_spectra(noise(0), noise(0)), noise(0), atol=1e-5)


def test_the_change_of_a_frequency_is_limited() -> None:
    images = 0.5 + 0.001 * (noise(0) - 0.5)
    found = match_spectra(images, noise(1))
    assert (energy(found) <= LARGEST_GAIN**2 * energy(images) * 1.001).all()
    assert (energy(found) > 0.9 * LARGEST_GAIN**2 * energy(images)).all()


def test_gray_images_of_one_value_give_no_nan() -> None:
    even = torch.full((2, 1, 64, 48), 0.5)
    for images, others in ((even, noise(0)), (noise(0), even), (even, even)):
        assert match_spectra(images, others).isfinite().all()


def test_looks_are_exchanged_within_the_batch_and_masks_stay() -> None:
    images = torch.cat([noise(0), smooth()])
    masks = (torch.rand(4, 1, 64, 48) > 0.5).float()
    augment, drawn = Augment(AugmentRecipe(appearance=0.5)), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment(images, masks))
    assert torch.equal(drawn[0][0], drawn[1][0]) and not torch.equal(drawn[0][0], drawn[2][0])
    assert torch.equal(drawn[0][1], masks)
    assert not torch.equal(drawn[0][0], images)
    torch.manual_seed(0)
    assert torch.equal(AppearanceExchange(0.0)(images), images)
    assert torch.equal(images, torch.cat([noise(0), smooth()]))  # the cached films themselves are not changed
