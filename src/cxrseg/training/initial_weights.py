"""Loading the weights of model files into a network, so that training can continue from them.

The exporter folds batch norms into the convolutions before them. Here each batch norm gets the statistics of the given
images, and the scale and shift with which it does not change its input: the network computes the same as the file, and
trains like one that was never exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrseg.errors import TrainingError

__all__ = ["load_model_files"]


def load_model_files(network: nn.Module, paths: Sequence[Path], images: Iterable[Tensor]) -> list[str]:
    """Load the weights of a model file, or the mean of several, into a network.

    The mean is taken of what the files compute with, in which no statistics of batch norms are left that would not fit
    it. Between weights and what they became in a short training on other images lie weights that often are better than
    both (Wortsman et al. 2022, arXiv:2109.01903).

    Args:
        network: as `build_network` returns it. Layers whose shapes differ, such as the last one where the targets
            differ, are not changed.
        paths: model files (.onnx) of the same architecture; one that is named twice counts twice.
        images: batches of (N, 1, H, W) float32 in [0, 1] for the statistics of the batch norms.

    Returns:
        Names of the convolutions and linear layers that were not changed.

    Raises:
        TrainingError: a file is of another architecture.
    """
    stored = _mean([_stored(path) for path in paths], paths)
    convolutions = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
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
            f"{paths[0]} is a model file of another architecture ({len(kept)} of {len(convolutions)} layers differ, "
            f"such as {kept[0]}); start from a run folder, or use the recipe of the model file"
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


def _mean(found: Sequence[dict[str, Tensor]], paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of each tensor of the network over several files, which must be of one architecture."""
    first = found[0]
    for one, path in zip(found, paths, strict=True):
        weights = [name for name in first if name.startswith("network.") and name.endswith("weight")]
        other = [name for name in weights if name not in one or one[name].shape != first[name].shape]
        if other:
            raise TrainingError(
                f"{path} is a model file of another architecture than {paths[0]} ({len(other)} of {len(weights)} "
                f"weights differ, such as {other[0]}), so they have no mean; name files of one architecture"
            )
    names = [name for name in first if name.startswith("network.")]
    return {name: torch.stack([one[name] for one in found]).mean(0) for name in names}


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
        layer = made_by.get(id(value))
        shift = stored.get(f"network.{layer}.weight_bias")
        if shift is None and f"network.{layer}.bias" in stored:  # folded into the bias that the layer has
            shift = torch.zeros(value.shape[1])
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
