"""Runs a model file: OpenVINO on the CPU, ONNX Runtime on a GPU where one is asked for."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ArgumentError, ModelFileError
from cxrseg.inference.compiled_cache import read_compiled, write_compiled
from cxrseg.inference.int8 import has_exact_int8, quantised
from cxrseg.loading import LOADING, computing
from cxrseg.model_file import VIEW_OUTPUT, ModelInfo, load_openvino, model_sha256, read_model

__all__ = ["Engine", "LoadedModel", "Precision", "Result"]

Precision = Literal["auto", "float32", "int8"]
"""Number format on the CPU: 'auto' is int8 where the processor computes it exactly and the model file has ranges for
it; else bfloat16 where the processor supports it; else float32. With the shipped weights, int8 is faster than bfloat16
and closer to float32, see docs/results.md."""

_Pixels = npt.NDArray[np.float32]


class Result(NamedTuple):
    """The output of a model for a batch of images.

    maps: (N, C, H, W) float32 probabilities in [0, 1], channels in the order of `ModelInfo.channels`. categories:
    (N, K) float32 probabilities that sum to 1, in the order of `ModelInfo.categories`; None where the model has no
    classification head. views: (N, V) float32 logits in the order of `ModelInfo.views`; None where the model has no
    view head.
    """

    maps: _Pixels
    categories: _Pixels | None = None
    views: _Pixels | None = None


class LoadedModel(Protocol):
    """A model file that is ready to run: an `Engine`, or what passes calls on to one. Attributes as for `Engine`."""

    sha256: str
    info: ModelInfo
    precision: str

    def run(self, pixels: _Pixels) -> Result:
        """(N, H, W) float32 in [0, 1] of the model's input size to its output."""
        ...


class _Runner(Protocol):
    info: ModelInfo
    precision: str

    def run(self, pixels: _Pixels) -> tuple[_Pixels, ...]: ...


class Engine:
    """A model file, ready to run on this machine. May be called from many threads, in forked child processes,
    and pickled.

    On the CPU the model is compiled by OpenVINO; what it compiled is kept in a cache folder, see
    `cxrseg.inference.compiled_cache`. On a GPU it is run by ONNX Runtime.

    Args:
        path: the model file.
        precision: see `Precision`. On a GPU, 'auto' is float32 with TF32 products.
        device: 'cpu', 'gpu' or 'gpu:N'.
        streams: how many images the processor works on at the same time; 0 is one image on a single thread.

    Raises:
        ArgumentError: there is no such precision or device, or this processor or a GPU cannot use int8.
        ModelFileError: the file is missing, damaged or no model file of cxrseg, or has no ranges for int8.
        MissingExtraError: a GPU is asked for, and ONNX Runtime is not installed or cannot use one.

    Attributes:
        info: what the model file says about itself.
        precision: what it computes with, 'float32', 'bfloat16', 'int8' or 'tf32'.
        sha256: of the model file's content, in hexadecimal.
    """

    def __init__(
        self, path: Path | str, *, precision: Precision = "float32", device: str = "cpu", streams: int = 1
    ) -> None:
        if precision not in get_args(Precision):
            raise ArgumentError(f"expected the precision {', '.join(get_args(Precision))}; got {precision!r}")
        if precision == "int8" and device != "cpu":
            raise ArgumentError(f"int8 is for the CPU, and the device is {device}; use the precision auto or float32")
        self._path, self._device, self._streams = Path(path), device, streams
        self._wanted = precision
        self.sha256 = model_sha256(self._path)
        self._runner = self._load()
        self._process = os.getpid()
        self._of_parent: list[_Runner] = []
        self.info, self.precision = self._runner.info, self._runner.precision

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded_again, (self._path.absolute(), self._wanted, self._device, self._streams, self.sha256)

    def _load(self) -> _Runner:
        with LOADING:
            if self._device == "cpu":
                return _OpenVino(self._path, self.sha256, self._wanted, self._streams)
            from cxrseg.inference.onnx_runtime import OnnxRuntimeRunner, gpu_providers

            return OnnxRuntimeRunner(self._path, gpu_providers(self._device, self._wanted))

    def _load_after_fork(self) -> None:
        """Load the model again in a child process: the threads of the runner exist in the parent only."""
        if self._device != "cpu":
            raise ModelFileError(
                f"{self._path} was loaded on {self._device} before this process was forked, and a GPU cannot be used "
                f"after a fork; load the model in the child, or start the child with multiprocessing's method spawn"
            )
        with LOADING:
            if self._process == os.getpid():  # another thread was here first
                return
            if model_sha256(self._path) != self.sha256:
                raise ModelFileError(f"{self._path} has changed since it was loaded; load it again in this process")
            self._of_parent.append(self._runner)  # kept: freeing it would wait for threads that do not exist here
            self._runner, self._process = self._load(), os.getpid()

    def run(self, pixels: _Pixels) -> Result:
        """Run the network.

        Args:
            pixels: (N, H, W) float32 in [0, 1] of the model's input size.

        Raises:
            ModelFileError: this is a child process, and the model cannot be loaded again in it.
        """
        if self._process != os.getpid():
            self._load_after_fork()
        with computing():
            maps, *others = self._runner.run(pixels)
        categories = others.pop(0) if self.info.categories else None
        return Result(maps, categories, others.pop(0) if self.info.views else None)


def _loaded_again(path: Path, precision: Precision, device: str, streams: int, sha256: str) -> Engine:
    """A model that was pickled, loaded again."""
    engine = Engine(path, precision=precision, device=device, streams=streams)
    if engine.sha256 != sha256:
        raise ModelFileError(
            f"{path} has changed since the model was pickled; use the same file here, or load it again"
        )
    return engine


class _OpenVino:
    """A model compiled for this machine's CPU."""

    def __init__(self, path: Path, sha256: str, precision: Precision, streams: int) -> None:
        self._compiled, self.info, self.precision = _compiled(path, sha256, precision, streams)
        self._local = threading.local()
        # OpenVINO's binding initialises itself at the first array it is handed, and two threads that do so at once wait
        # for each other for ever: one for the interpreter's lock, one for the initialisation.
        self.run(np.zeros((1, *self.info.size), np.float32))

    def run(self, pixels: _Pixels) -> tuple[_Pixels, ...]:
        request = getattr(self._local, "request", None)
        if request is None:  # a request holds the buffers of one call, so each thread has its own
            request = self._local.request = self._compiled.create_infer_request()
        result = request.infer([np.ascontiguousarray(pixels[:, None])])
        return tuple(np.array(output, dtype=np.float32) for output in result.values())


def _compiled(path: Path, sha256: str, precision: Precision, streams: int) -> tuple[Any, ModelInfo, str]:
    """The compiled model, the metadata of its file, and what it computes with; from the cache, or made now."""
    openvino = load_openvino()
    core = openvino.Core()
    # The variable hides instructions of the processor.
    machine = core.get_property("CPU", "FULL_DEVICE_NAME"), os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    settings = {name: _settings(name, streams) for name in _formats(core, precision)}
    made_by = {
        name: (sha256, openvino.__version__, *machine, name, *map("=".join, chosen.items()))
        for name, chosen in settings.items()
    }
    for name, chosen in settings.items():
        found = read_compiled(made_by[name], partial(core.import_model, device_name="CPU", config=chosen))
        if found is not None:
            return *found, name
    graph, info = read_model(path)
    usable = [name for name in settings if name != "int8" or info.int8_ranges]
    if not usable:
        raise ModelFileError(
            f"{path} has no ranges for int8; 'cxrseg evaluate {path} --dataset DATASET --fit SPLIT' writes a "
            f"file that has them"
        )
    name = usable[0]
    graph = _with_probabilities(quantised(graph, info.int8_ranges) if name == "int8" else graph, info.temperature)
    compiled = core.compile_model(graph, "CPU", settings[name])
    write_compiled(made_by[name], info, compiled.export_model)
    return compiled, info, name


def _settings(name: str, streams: int) -> dict[str, str]:
    """OpenVINO's settings for a number format. Without the hint it takes bfloat16 where the processor has it."""
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if name == "bfloat16" else "f32",
        "NUM_STREAMS": str(streams or 1),
        "ENABLE_CPU_PINNING": "NO",  # or every process binds its threads to the first processors
    }
    return settings if streams else settings | {"INFERENCE_NUM_THREADS": "1"}


def _formats(core: Any, precision: Precision) -> list[str]:
    """What a network may be computed with on this processor, the best first; int8 needs ranges in the file too."""
    if precision == "float32":
        return ["float32"]
    exact = ["int8"] if has_exact_int8() else []
    if precision == "int8":
        if not exact:
            raise ArgumentError("this processor has no exact int8 (VNNI or AMX); use the precision auto or float32")
        return exact
    return [*exact, "bfloat16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "float32"]


def _with_probabilities(graph: Any, temperature: float) -> Any:
    """The graph with probabilities as its outputs: sigmoid(logits / temperature), then softmax over the categories.

    The view head's logits stay as they are.
    """
    openvino = load_openvino()
    from openvino import opset13 as ops

    logits, *others = (output.get_node().input_value(0) for output in graph.outputs)
    probability = ops.sigmoid(ops.divide(logits, ops.constant(np.float32(temperature))))
    names = [output.get_names() for output in graph.outputs[1:]]
    judged = [
        value if VIEW_OUTPUT in name else ops.softmax(value, 1) for value, name in zip(others, names, strict=True)
    ]
    results = [ops.result(value) for value in (probability, *judged)]
    return openvino.Model(results, graph.get_parameters(), "cxrseg")
