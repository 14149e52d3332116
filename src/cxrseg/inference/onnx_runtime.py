"""Runs a model file with ONNX Runtime, for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from cxrseg.errors import ArgumentError, MissingExtraError, ModelFileError
from cxrseg.model_file import INPUT, VIEW_OUTPUT, read_model

__all__ = ["OnnxRuntimeRunner", "gpu_providers"]

_Pixels = npt.NDArray[np.float32]
_INSTALL = "pip install 'cxrseg[gpu]', with the CUDA libraries of its version"


class OnnxRuntimeRunner:
    """A model file in an ONNX Runtime session. May be called from several threads.

    Args:
        path: the model file.
        providers: ONNX Runtime's execution providers, with their options; see `gpu_providers`.

    Raises:
        ModelFileError: the file cannot be used.
        MissingExtraError: onnxruntime is not installed, or the first provider cannot be loaded.

    Attributes:
        info: the metadata of the model file.
        precision: of the computation, 'float32' or 'tf32'.
    """

    def __init__(self, path: Path, providers: Sequence[tuple[str, dict[str, Any]]]) -> None:
        _, self.info = read_model(path)
        onnxruntime = _onnxruntime()
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # a missing library of a provider is reported below, once
        try:
            self._session = onnxruntime.InferenceSession(str(path), settings, providers=list(providers))
        except Exception as error:  # ONNX Runtime has no common class for its errors
            raise ModelFileError(f"{path} cannot be run by ONNX Runtime ({error}); use the device cpu") from error
        wanted, options = providers[0]
        if self._session.get_providers()[0] != wanted:
            raise MissingExtraError(
                f"ONNX Runtime cannot load {wanted} on this machine; {_INSTALL}, or use the device cpu"
            )
        self.precision = "tf32" if options.get("use_tf32") == "1" else "float32"

    def run(self, pixels: _Pixels) -> tuple[_Pixels, ...]:
        """(N, H, W) float32 pixels to (N, C, H, W) float32 probabilities.

        Then (N, K) probabilities of categories and (N, V) logits of views, where the model has them.
        """
        names = [output.name for output in self._session.get_outputs()]
        logits, *others = self._session.run(names, {INPUT: np.ascontiguousarray(pixels[:, None])})
        maps: _Pixels = expit(logits / np.float32(self.info.temperature))
        named = zip(names[1:], others, strict=True)
        return (maps, *(output if name == VIEW_OUTPUT else softmax(output, axis=1) for name, output in named))


def gpu_providers(device: str, precision: str) -> list[tuple[str, dict[str, Any]]]:
    """The execution providers for a GPU.

    Args:
        device: 'gpu' or 'gpu:N'.
        precision: 'float32', or 'auto' for TF32 products.

    Raises:
        ArgumentError: the name of the device is not valid.
        MissingExtraError: this installation of ONNX Runtime has no support for GPUs.
    """
    kind, _, number = device.partition(":")
    if kind not in ("gpu", "cuda") or (number and not number.isdigit()):
        raise ArgumentError(f"expected the device cpu, gpu or gpu:N, got {device!r}")
    if "CUDAExecutionProvider" not in _onnxruntime().get_available_providers():
        raise MissingExtraError(f"the device {device} needs ONNX Runtime for GPUs: {_INSTALL}; or use the device cpu")
    return [("CUDAExecutionProvider", {"device_id": number or "0", "use_tf32": "1" if precision == "auto" else "0"})]


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(f"a GPU needs onnxruntime: {_INSTALL}; or use the device cpu") from None
    return onnxruntime
