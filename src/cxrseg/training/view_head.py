"""Fitting a view head, which separates frontal chest radiographs from other pictures: one linear layer on features.

The layer is a linear discriminant (Fisher's, with the covariance shrunk towards a multiple of the identity). It has a
closed form, so that fitting takes minutes, the network itself does not change, and the same pictures always give the
same layer. Cross-validation measures its errors: no layer is evaluated on a film, in any form, that it was fitted on.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import CATEGORIES, Dataset
from cxrseg.errors import DatasetError
from cxrseg.io.read import read_radiograph
from cxrseg.model_file import FRONTAL_VIEWS, INVERTED_VIEW, ModelInfo, load_openvino, read_model, write_model
from cxrseg.phantom.generate import make_phantom
from cxrseg.preprocessing import content_box, to_input
from cxrseg.training.view_graph import with_view_features, with_view_output
from cxrseg.training.view_pictures import Picture, film_pictures, other_pictures

__all__ = ["fit_views"]

_Matrix = npt.NDArray[np.floating[Any]]
_Pixels = npt.NDArray[np.float32]
_Names = npt.NDArray[np.str_]

_SHRINKAGE = 0.05
"""Weight of the identity in the covariance."""

_FOLDS = 5
_PHANTOMS = 100
_STREAMS, _BATCH = 2, 64


class _Layer(NamedTuple):
    """views: K names. weights: (K, D). bias: (K). The logits of the views are weights @ features + bias."""

    views: tuple[str, ...]
    weights: _Matrix
    bias: _Matrix


def fit_views(
    model: Path, dataset: Dataset, not_frontal: Path | None, out: Path, *, films: int = 1500, seed: int = 0
) -> ModelInfo:
    """Write a model file with a view head: an output that tells which view an image shows.

    Args:
        model: a model file; an existing view head is replaced.
        dataset: frontal chest radiographs, upright and not mirrored; its split 'train' is used.
        not_frontal: a folder with a folder of pictures for each other view, such as 'lateral'; with None, only views
            that can be made from frontal films are used.
        out: the new model file; it may be `model`.
        films: largest number of radiographs, drawn at random.
        seed: of the random numbers.

    Returns:
        The metadata of the file; `view_fit` has the counts and the figures of the cross-validation.

    Raises:
        ModelFileError: the model file is missing, damaged, or its network has no skip connections.
        DatasetError: the folder has no folders of pictures.
        ImageError: a picture cannot be read.
    """
    info = read_model(model)[1]
    graph = with_view_features(model)
    random = np.random.default_rng(seed)
    pictures = film_pictures(chain(_films(dataset, films, random), _phantoms()), random)
    for view, paths in _read_folders(not_frontal).items():
        shown = ((f"{view}/{path.name}", read_radiograph(path).pixels) for path in paths)
        pictures = chain(pictures, other_pictures(shown, view, random))
    features, sources = _features(graph.SerializeToString(), pictures, info.size)
    views = np.array([source.view for source in sources])
    margins = _cross_validate(features, views, [source.group for source in sources])
    layer = _fit(features, views)
    info = dataclasses.replace(info, views=layer.views, view_fit=_figures(sources, margins))
    fitted = with_view_output(graph, layer.weights.astype(np.float32), layer.bias.astype(np.float32))
    write_model(out, fitted.SerializeToString(), info)
    return info


def _films(dataset: Dataset, count: int, random: np.random.Generator) -> Iterator[tuple[str, _Pixels]]:
    """Name and pixels of films drawn at random."""
    samples = dataset.select("train").samples
    for index in random.permutation(len(samples))[:count]:
        yield samples[index].name, samples[index].read_image().pixels


def _phantoms() -> Iterator[tuple[str, _Pixels]]:
    """Synthetic films, so that the input check does not refuse them in the demo and in tests."""
    for seed in range(_PHANTOMS):
        image = make_phantom(seed, CATEGORIES[seed % len(CATEGORIES)]).image
        yield f"phantom {seed}", image.astype(np.float32) / np.float32(255)


def _read_folders(folder: Path | None) -> dict[str, list[Path]]:
    """View to its pictures."""
    if folder is None:
        return {}
    found = {
        entry.name: sorted(path for path in entry.iterdir() if path.is_file() and not path.name.startswith("."))
        for entry in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if entry.is_dir()
    }
    if not any(found.values()):
        raise DatasetError(f"expected a folder of pictures for each view, such as {folder / 'lateral'}, found none")
    return {view: paths for view, paths in found.items() if paths}


class _Source(NamedTuple):
    """A `Picture` without its pixels."""

    view: str
    group: str
    plain: bool


def _features(graph: bytes, pictures: Iterable[Picture], size: tuple[int, int]) -> tuple[_Matrix, list[_Source]]:
    """(N, D) features of the pictures, in float32 on the CPU, and their sources. The decoder is not run."""
    openvino = load_openvino()
    core = openvino.Core()
    network = core.read_model(graph, b"")
    output = network.outputs[-1].get_node().input_value(0)
    encoder = openvino.Model([output], network.get_parameters(), "encoder")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": str(_STREAMS)}
    compiled = core.compile_model(encoder, "CPU", settings)

    def run(picture: Picture) -> _Matrix:
        pixels = np.ascontiguousarray(to_input(picture.pixels[content_box(picture.pixels)], size)[None, None])
        found: _Matrix = np.array(compiled.create_infer_request().infer([pixels])[0][0], np.float64)
        return found

    features, sources = list[_Matrix](), list[_Source]()
    waiting = iter(pictures)
    with ThreadPoolExecutor(_STREAMS) as pool:
        while batch := list(islice(waiting, _BATCH)):
            if not features:  # the binding's first call must not be made by two threads at once
                run(batch[0])
            features += pool.map(run, batch)
            sources += [_Source(picture.view, picture.group, picture.plain) for picture in batch]
    return np.stack(features), sources


def _fit(features: _Matrix, views: _Names) -> _Layer:
    """Fisher's discriminant.

    The weight of a view in the covariance is the square root of its number of pictures. With the number itself, frontal
    films would dominate; with equal weights, views with a few dozen pictures would.
    """
    names, index = np.unique(views, return_inverse=True)
    mean, std = features.mean(0), features.std(0) + 1e-4
    standard = (features - mean) / std
    centres = np.stack([standard[index == view].mean(0) for view in range(len(names))])
    weight = 1 / np.sqrt(np.bincount(index))[index]
    spread = standard - centres[index]
    covariance = (spread * (weight / weight.sum())[:, None]).T @ spread
    average = np.trace(covariance) / len(covariance)
    covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * average * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, centres.T).T
    bias = -(weights * centres).sum(1) / 2
    return _Layer(tuple(map(str, names)), weights / std, bias - weights @ (mean / std))


def _cross_validate(features: _Matrix, views: _Names, groups: Sequence[str]) -> _Matrix:
    """(N) margin of each picture, from a layer that was fitted without its group; see `ModelInfo.views`."""
    folds = np.array([zlib.crc32(group.encode()) % _FOLDS for group in groups])
    margins = np.zeros(len(views))
    for fold in range(_FOLDS):
        held_out = folds == fold
        layer = _fit(features[~held_out], views[~held_out])
        logits = features[held_out] @ layer.weights.T + layer.bias
        frontal = np.isin(layer.views, FRONTAL_VIEWS)
        rest = ~frontal & ~np.isin(layer.views, [INVERTED_VIEW])
        margins[held_out] = logits[:, frontal].max(1) - logits[:, rest].max(1)
    return margins


def _figures(sources: Sequence[_Source], margins: _Matrix) -> dict[str, Any]:
    """Counts, and the fraction that the input check would refuse, by view; separately for changed pictures."""
    found: dict[str, Any] = {}
    for plain, name in ((True, "as_they_are"), (False, "changed")):
        shown: dict[str, list[bool]] = {}
        for source, margin in zip(sources, margins, strict=True):
            if source.plain == plain and source.view != INVERTED_VIEW:
                shown.setdefault(source.view, []).append(bool(margin < 0))
        found[name] = {
            view: {"pictures": len(refused), "refused": round(sum(refused) / len(refused), 4)}
            for view, refused in sorted(shown.items())
        }
    return {"folds": _FOLDS, **found}
