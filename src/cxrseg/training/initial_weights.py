"""Loading the weights of a model file into a network, so that training can continue from them.

The exporter folds batch norms into the convolutions before them. Here each batch norm gets the statistics of the given
images, and the scale and shift with which it does not change its input: the network computes the same as the file, and
trains like one that was never exported.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrseg.errors import TrainingError

__all__ = ["load_model_file"]


def load_model_file(network: nn.Module, path: Path, images: Iterable[Tensor]) -> list[str]:
    """Load the weights of a model file into a network.

    Args:
        network: as `build_network` returns it. Layers whose shapes differ, such as the last one where the targets
            differ, are not changed.
        path: a model file (.onnx) of the same architecture.
        images: batches of (N, 1, H, W) float32 in [0, 1] for the statistics of the batch norms.

    Returns:
        Names of the convolutions and linear layers that were not changed.

    Raises:
        TrainingError: the file is of another architecture.
    """
    stored = _stored(path)
    convolutions = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    kept = []
    for name, module in convolutions.items():
        weight = stored.get(f"network.{name}.weight")
        if weight is None or weight.shape != module.weight.shape:
            kept.append(name)
            continue
        module.weight.data.copy_(weight)
        bias = stored.get(f"network.{name}.bias")
        if module.bias is not None and bias is not None:
            module.bias.data.copy_(bias)
    if len(kept) > len(convolutions) // 2:
        raise TrainingError(
            f"{path} is a model file of another architecture ({len(kept)} of {len(convolutions)} layers differ, such "
            f"as {kept[0]}); start from a run folder, or use the recipe of the model file"
        )
    _set_norms(network, convolutions, stored, images)
    return kept


def _stored(path: Path) -> dict[str, Tensor]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError) as error:
        raise TrainingError(f"{path} cannot be read as a model file ({error})") from error
    return {
        entry.name.removesuffix(".float16"): torch.from_numpy(onnx.numpy_helper.to_array(entry).astype(np.float32))
        for entry in model.graph.initializer
    }


@torch.no_grad()
def _set_norms(
    network: nn.Module, convolutions: dict[str, Any], stored: dict[str, Tensor], images: Iterable[Tensor]
) -> None:
    """Set each batch norm at its first input in one pass over the images, with the statistics of all batches."""
    made_by: dict[int, str] = {}
    outputs: list[Tensor] = []  # kept alive during a batch, so that no two of them have the same id
    sums: dict[nn.Module, list[Any]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Tensor) -> None:
            made_by[id(output)] = name
            outputs.append(output)

        return hook

    def measure(norm: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        value = given[0]
        shift = stored.get(f"network.{made_by.get(id(value))}.weight_bias")
        if shift is None:  # the norm was not folded into a layer of the file
            return
        if norm not in sums:
            sums[norm] = [0, 0.0, 0.0, shift]
            _set_norm(norm, torch.zeros_like(shift), torch.ones_like(shift), shift)
        entry = sums[norm]
        entry[0] += value.numel() // value.shape[1]
        entry[1] = entry[1] + value.double().sum((0, 2, 3))
        entry[2] = entry[2] + value.double().square().sum((0, 2, 3))

    hooks = [module.register_forward_hook(note(name)) for name, module in convolutions.items()]
    hooks += [
        module.register_forward_pre_hook(measure) for module in network.modules() if isinstance(module, nn.BatchNorm2d)
    ]
    training = network.training
    network.eval()
    try:
        for batch in images:
            network(batch)
            made_by.clear()
            outputs.clear()
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    for norm, (count, total, squares, shift) in sums.items():
        mean = total / count
        _set_norm(norm, mean, (squares / count - mean.square()).clamp(min=1e-8), shift)


def _set_norm(norm: Any, mean: Tensor, variance: Tensor, shift: Tensor) -> None:
    """Statistics, and the scale and bias with which the norm only adds `shift`."""
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(shift + mean)
