"""Runs a model file. No torch."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrseg.model_file import read_model

__all__ = ["Engine"]


class Engine:
    """A model file, compiled by OpenVINO for this machine's CPU, in float32. May be called from many threads.

    Args:
        path: the model file.

    Raises:
        ModelFileError: the file is missing, damaged or no model file of cxrseg.

    Attributes:
        info: what the model file says about itself.
    """

    def __init__(self, path: Path | str) -> None:
        import openvino
        from openvino import opset13 as ops

        graph, self.info = read_model(path)
        temperature = ops.constant(np.float32(self.info.temperature))
        probability = ops.sigmoid(ops.divide(graph.output(0).get_node().input_value(0), temperature))
        model = openvino.Model([probability], graph.get_parameters(), "cxrseg")
        # Without the hint OpenVINO takes bfloat16 where the processor has it, and the figures change.
        self._compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._local = threading.local()

    def run(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the network.

        Args:
            pixels: (N, H, W) float32 in [0, 1] of the model's input size.

        Returns:
            (N, C, H, W) float32 probabilities in [0, 1], channels in the order of `info.channels`.
        """
        request = getattr(self._local, "request", None)
        if request is None:  # a request holds the buffers of one call, so each thread has its own
            request = self._local.request = self._compiled.create_infer_request()
        result = request.infer([np.ascontiguousarray(pixels[:, None])])
        return np.array(result[0], dtype=np.float32)
