"""The model file: an ONNX graph whose metadata has all that is needed to use it. Pickle is never used."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cxrseg._version import __version__
from cxrseg.errors import MissingExtraError, ModelFileError
from cxrseg.io.write import write_bytes
from cxrseg.loading import LOADING
from cxrseg.model_checksum import checked_sha256, ends_with_checksum, with_checksum
from cxrseg.model_graph import check_nodes, check_shapes
from cxrseg.model_metadata import parse_metadata

if TYPE_CHECKING:
    import openvino

__all__ = [
    "CATEGORY_OUTPUT",
    "FORMAT",
    "FRONTAL_VIEWS",
    "INPUT",
    "INVERTED_VIEW",
    "METADATA_KEY",
    "OUTPUT",
    "VIEW_OUTPUT",
    "ModelInfo",
    "has_checksum",
    "load_openvino",
    "model_sha256",
    "read_model",
    "shipped_model",
    "write_model",
]

FORMAT = 1
"""Version of the metadata's layout; files with a newer one are refused."""

METADATA_KEY = "cxrseg"
"""Key of the ONNX metadata property that holds the JSON."""

INPUT = "radiograph"
"""Name of the graph's input: (N, 1, H, W) float32 in [0, 1], bright is dense."""

OUTPUT = "logits"
"""Name of the graph's output: (N, C, H, W) float32; probability = sigmoid(logits / temperature)."""

CATEGORY_OUTPUT = "category_logits"
"""Name of the second output of a graph with a classification head: (N, K) float32, probability = softmax."""

VIEW_OUTPUT = "view_logits"
"""Name of the graph's last output, where it tells what an image shows: (N, V) float32, the largest is the likeliest."""

FRONTAL_VIEWS = ("frontal", "mirrored")
"""The views of a frontal chest radiograph that is upright; 'mirrored' has its left and right exchanged."""

INVERTED_VIEW = "inverted"
"""The view of a frontal chest radiograph whose black and white are exchanged."""


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model file.

    Attributes:
        name: the recipe's name.
        channels: names of the output channels, in order.
        size: (height, width) of the input in pixels.
        normalisation: mean and standard deviation, applied inside the graph to pixels in [0, 1].
        threshold: probability from which a pixel is marked.
        opacity_threshold: the same for the channel 'opacity', where there is one.
        temperature: divides the logits.
        fitted_on: split, layout, counts and fingerprint of the images that threshold and temperature were fitted on,
            or None where they are the defaults.
        categories: of the classification head, in the order of its output; () where there is none.
        covid19_threshold: probability of the classification head from which an image counts as COVID-19.
        normal_threshold: probability of the classification head that the image is normal above which the opacity map is
            emptied; 1 never empties it.
        int8_ranges: the lowest and highest value that enters a convolution, by the convolution's name, see
            `cxrseg.inference.int8`; empty where they were not measured.
        views: what the view head tells apart, in the order of its output; () where there is none.
        view_fit: what the view head was fitted on, and its figures by cross-validation.
        recipe: the whole recipe.
        dataset: layout, counts and fingerprint of the training images.
        figures: measured results, by the name of the split.
        licence: of the weights, and what to cite.
        version: version of cxrseg that wrote it.
    """

    name: str
    channels: tuple[str, ...]
    size: tuple[int, int]
    normalisation: Mapping[str, float]
    threshold: float = 0.5
    opacity_threshold: float = 0.5
    temperature: float = 1.0
    fitted_on: Mapping[str, Any] | None = None
    categories: tuple[str, ...] = ()
    covid19_threshold: float = 0.5
    normal_threshold: float = 1.0
    int8_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    views: tuple[str, ...] = ()
    view_fit: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    version: str = __version__

    def to_json(self) -> str:
        """The metadata's JSON."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, source: Path) -> ModelInfo:
        """Read the metadata's JSON.

        Args:
            text: the output of `to_json`.
            source: its file, for messages.

        Raises:
            ModelFileError: it is damaged, a field is out of its range, or it is of a newer format.
        """
        try:
            values = parse_metadata(text)
        except ValueError as error:
            raise ModelFileError(f"the metadata of {source} is damaged ({error}); export it again") from error
        if values.pop("format") > FORMAT:
            raise ModelFileError(f"{source} was written by a newer cxrseg; update with pip install -U cxrseg")
        known = {entry.name for entry in dataclasses.fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        for field_of_names in ("channels", "size", "categories", "views"):
            values[field_of_names] = tuple(values.get(field_of_names, ()))
        values["int8_ranges"] = {name: tuple(pair) for name, pair in values.get("int8_ranges", {}).items()}
        return cls(**values)


def write_model(path: Path, graph: bytes, info: ModelInfo) -> None:
    """Write a model file atomically, with a checksum of all its bytes, which is checked when it is loaded.

    Args:
        path: the file, ending in .onnx.
        graph: a serialised ONNX ModelProto with input `INPUT` and output `OUTPUT`.
        info: the metadata.

    Raises:
        MissingExtraError: the onnx package is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("writing a model file needs onnx: pip install 'cxrseg[train]'") from None
    model = onnx.load_from_string(graph)
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]  # of the exporter: paths of the training machine, and a sixth of the file's size
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    model.producer_name, model.producer_version = "cxrseg", __version__
    write_bytes(path, with_checksum(model.SerializeToString()))


def shipped_model() -> Path:
    """The weights that come with cxrseg.

    Raises:
        ModelFileError: this installation of cxrseg has none.
    """
    with LOADING:  # the first use of resources imports parts of it
        path = Path(str(resources.files("cxrseg") / "weights" / "cxrseg.onnx"))
    if not path.is_file():
        raise ModelFileError(f"this installation of cxrseg has no weights ({path} is missing); name a model file")
    return path


def model_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a model file's content.

    Raises:
        ModelFileError: the file is missing, cannot be read, or does not have the content that its checksum was made of.
    """
    return checked_sha256(path, _content(path))


def has_checksum(path: Path) -> bool:
    """Whether a model file has a checksum; those of early versions of cxrseg have none.

    Raises:
        ModelFileError: the file is missing or cannot be read.
    """
    return ends_with_checksum(_content(path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read as a model file ({error.strerror})") from error


def load_openvino() -> ModuleType:
    """Import OpenVINO without its model converter.

    A plain `import openvino` also imports the converter, which reports the import to a server on the internet and
    takes longer than the rest. Where OpenVINO was imported before, that module is returned unchanged.
    """
    converter = "openvino.tools.ovc"
    with LOADING:
        if "openvino" in sys.modules:
            return importlib.import_module("openvino")  # which waits where another thread is importing it
        sys.modules[converter] = None  # type: ignore[assignment]  # then importing it fails, which openvino tolerates
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[converter]


def read_model(path: Path | str) -> tuple[openvino.Model, ModelInfo]:
    """Read a model file.

    Args:
        path: an .onnx file that cxrseg wrote.

    Returns:
        The graph, not compiled yet, and the metadata.

    Raises:
        ModelFileError: the file is missing, is not an ONNX graph, has no metadata of cxrseg or some that do not fit its
            graph, or has operations that could run for ever or fill the memory.
    """
    path = Path(path)
    data = _content(path)
    checked_sha256(path, data)
    try:
        check_nodes(data)
        # Of the bytes, not of the path: nothing can change in between, and no other file is read.
        model = load_openvino().Core().read_model(data)
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter where OpenVINO quotes damaged bytes
        raise ModelFileError(f"{path} is not an ONNX graph, or is damaged; export or download it again") from error
    except ValueError as error:
        raise ModelFileError(f"{path} cannot be used as a model file: {error}; export or download it again") from error
    info = ModelInfo.from_json(_metadata(model, path), path)
    sizes = [len(names) for names in (info.channels, info.categories, info.views) if names]
    try:
        check_shapes(model, info.size, sizes)
    except ValueError as error:
        raise ModelFileError(f"{path} cannot be used as a model file: {error}; export or download it again") from error
    return model, info


def _metadata(model: openvino.Model, path: Path) -> str:
    place = ["framework", METADATA_KEY]
    if not model.has_rt_info(place):
        raise ModelFileError(
            f"{path} is an ONNX graph without the metadata of cxrseg; use a file that 'cxrseg train' wrote"
        )
    try:
        return str(model.get_rt_info(place).value)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"the metadata of {path} is damaged ({error}); export it again") from error


def _missing(path: Path) -> ModelFileError:
    return ModelFileError(f"expected a model file (.onnx) at {path}, found none; 'cxrseg train' writes one")
