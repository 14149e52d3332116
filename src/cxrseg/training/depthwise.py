"""Faster gradients of depthwise convolutions in bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

__all__ = ["FastDepthwise"]


class FastDepthwise(TorchFunctionMode):
    """While active, depthwise convolutions under bfloat16 autocast on the CPU compute some gradients in float32.

    oneDNN has no fast bfloat16 kernel for the gradient of the input at stride 2, nor for the gradient of kernels larger
    than 3x3: on an EfficientNet-Lite0 they take 40% of a step. In float32 they are 3 to 35 times as fast.
    Other convolutions (with a bias, or on another device) are not changed.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace depthwise `conv2d`; call any other function."""
        kwargs = kwargs or {}
        if func is torch.conv2d and len(args) > 1 and torch.is_autocast_enabled("cpu"):
            return _conv2d(*args, **kwargs)
        return func(*args, **kwargs)


def _conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    depthwise = groups > 1 and groups == images.shape[1] == weight.shape[0]
    dtype = torch.get_autocast_dtype("cpu")
    plain = bias is None and not isinstance(padding, str)
    if not (depthwise and plain and images.device.type == "cpu" and dtype == torch.bfloat16):
        return F.conv2d(images, weight, bias, stride, padding, dilation, groups)
    geometry = tuple(_pair(value) for value in (stride, padding, dilation))
    found: Tensor = _Depthwise.apply(images.to(dtype), weight.to(dtype), *geometry)
    return found


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(images, weight, None, stride, padding, dilation, images.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        images, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry

        def backward(exact: bool, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
            tensors = (tensor.float() if exact else tensor for tensor in (gradient, images, weight))
            found = torch.ops.aten.convolution_backward(
                *tensors, None, stride, padding, dilation, False, (0, 0), images.shape[1], (*wanted, False)
            )
            return found[0], found[1]

        of_images = backward(max(stride) > 1, (True, False))[0]
        of_weight = backward(max(weight.shape[2:]) > 3, (False, True))[1]
        return of_images.to(images.dtype), of_weight.to(weight.dtype), None, None, None
