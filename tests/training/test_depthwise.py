from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrseg.training.depthwise import FastDepthwise


def gradients(layer: nn.Conv2d, images: Tensor, fast: bool, dtype: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor]:
    """The output and the gradients of images and weight, for a loss that weighs every pixel differently."""
    layer.zero_grad()
    given = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        if fast:
            with FastDepthwise():
                found = layer(given)
        else:
            found = layer(given)
    found = found.float()
    (found * torch.linspace(-1, 1, found.numel()).reshape(found.shape)).sum().backward()
    assert given.grad is not None
    assert layer.weight.grad is not None
    return found.detach(), given.grad, layer.weight.grad.clone()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_and_gradients_are_those_of_the_convolution(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    images = torch.randn(4, 6, 12, 10)
    exact = gradients(layer, images, fast=False, dtype=None)
    fast = gradients(layer, images, fast=True, dtype=torch.bfloat16)
    plain = gradients(layer, images, fast=False, dtype=torch.bfloat16)
    torch.testing.assert_close(fast[0], plain[0])
    for ours, autocast, true in zip(fast, plain, exact, strict=True):
        assert (ours - true).norm() <= 1.1 * (autocast - true).norm() + 1e-6
        assert (ours - true).norm() < 0.01 * true.norm()


def kinds_of(layer: nn.Conv2d, dtype: torch.dtype | None) -> str:
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None), FastDepthwise():
        return type(layer(torch.ones(1, 4, 8, 8)).grad_fn).__name__


def test_only_depthwise_convolutions_under_bfloat16_are_replaced() -> None:
    depthwise, dense, grouped = (nn.Conv2d(4, 4, 3, bias=False, groups=groups) for groups in (4, 1, 2))
    assert "Depthwise" in kinds_of(depthwise, torch.bfloat16)
    assert "Depthwise" not in kinds_of(depthwise, None)
    assert "Depthwise" not in kinds_of(depthwise, torch.float16)
    assert "Depthwise" not in kinds_of(dense, torch.bfloat16)
    assert "Depthwise" not in kinds_of(grouped, torch.bfloat16)
    assert "Depthwise" not in kinds_of(nn.Conv2d(4, 4, 3, groups=4), torch.bfloat16)


def test_other_functions_and_keywords_go_through() -> None:
    images, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), FastDepthwise():
        found = F.conv2d(images, weight, stride=2, padding=1, groups=4)
        same = F.conv2d(images, weight, padding="same", groups=4)
        pooled = F.max_pool2d(images, 2)
    assert found.shape == (1, 4, 4, 4)
    assert same.shape == images.shape
    assert torch.equal(pooled, F.max_pool2d(images, 2))
