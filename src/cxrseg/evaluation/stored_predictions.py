"""The output folder of `cxrseg predict`, read back as predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError, ImageError
from cxrseg.inference.outputs import CATEGORY_COLUMNS
from cxrseg.inference.prediction import Prediction
from cxrseg.io.masks import read_mask
from cxrseg.io.raster import read_probability

__all__ = ["StoredPredictions"]


@dataclass(frozen=True, eq=False)
class _Stored(Prediction):
    """A prediction whose masks were read from files."""

    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    given_expected_dice: float | None = None

    def mask(self, channel: str) -> npt.NDArray[np.bool_]:
        return self.masks[channel]

    @cached_property
    def expected_dice(self) -> float | None:
        return self.given_expected_dice


class StoredPredictions:
    """A folder that `cxrseg predict -o FOLDER` wrote.

    Args:
        folder: with manifest.json, statistics.json and the masks.
        dataset: each of its images must have been predicted.

    Attributes:
        manifest: of the run that wrote the folder.
        channels: of the masks.
        thresholds: channel to the probability from which a pixel was marked.
        task: one of `cxrseg.inference.segmenter.TASKS`.

    Raises:
        DatasetError: it is not such a folder, or images of the dataset have no prediction in it (all are listed).
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = _json(folder / "manifest.json")
        models = self.manifest["models"]
        self.channels = tuple(dict.fromkeys(channel for model in models for channel in model["channels"]))
        self.thresholds: dict[str, float] = self.manifest["thresholds"]
        self.task: str = self.manifest["options"]["task"]
        self._rows = _matched(folder, Path(self.manifest["input"]), _json(folder / "statistics.json"), dataset)

    def predict(self, sample: Sample) -> Prediction:
        """The prediction for an image; its status is 'refused' also where predicting it failed.

        Raises:
            ImageError: a mask is missing or cannot be read.
        """
        row = self._rows[sample.name]
        spacing = _spacing(row.get("spacing_mm"))
        if row["status"] != "ok":
            return _Stored({}, self.thresholds, "refused", row["reason"], spacing_mm=spacing, source=row["path"])
        files = {channel: self._file(row["path"], channel) for channel in self.channels}
        masks = {channel: sample.to_upright(read_mask(path)) for channel, path in files.items()}
        probabilities = {channel: mask.astype(np.float32) for channel, mask in masks.items()}
        if "infection" in files:
            map_ = files["infection"].with_name(files["infection"].name.replace("_infection.png", "_probability.png"))
            if map_.exists():
                probabilities["infection"] = sample.to_upright(read_probability(map_))
        return _Stored(
            probabilities,
            self.thresholds,
            source=row["path"],
            spacing_mm=spacing,
            categories={name: row[column] for name, column in CATEGORY_COLUMNS.items() if row.get(column) is not None}
            or None,
            emptied=bool(row.get("emptied")),
            masks=masks,
            given_expected_dice=row.get("expected_dice"),
        )

    def _file(self, name: str, channel: str) -> Path:
        """The mask of the image `name`, whose suffix is kept where images differ only in the suffix."""
        names = (f"{name}_{channel}.png", f"{PurePath(name).with_suffix('')}_{channel}.png")
        for path in (self.folder / each for each in names):
            if path.exists():
                return path
        raise ImageError(f"expected the mask {names[1]} in {self.folder}, found none; predict again")


def _spacing(value: float | str | None) -> tuple[float, float] | None:
    """(row, column) of what `cxrseg.inference.outputs` writes: None, a number, or 'ROWSxCOLUMNS'."""
    if value is None:
        return None
    rows, _, columns = str(value).partition("x")
    return float(rows), float(columns or rows)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"expected an output folder of 'cxrseg predict', but {path} is missing; predict into it, or name another"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{path} is damaged ({error}); predict again") from error


def _matched(folder: Path, source: Path, rows: list[dict[str, Any]], dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Sample name to the row of its image: the row whose path is the end of the image's path."""
    by_path = {row["path"]: row for row in rows}
    found: dict[str, dict[str, Any]] = {}
    faults = []
    for sample in dataset.samples:
        parts = sample.image.parts if isinstance(sample.image, Path) else ()
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        row = next((by_path[tail] for tail in tails if tail in by_path), None)
        if row is None or not _same(source, row["path"], sample):
            faults.append(f"{sample.name}: no prediction")
        else:
            found[sample.name] = row
    if faults:
        raise DatasetError(
            f"{len(faults)} of {len(dataset.samples)} images of {dataset.root} have no prediction in {folder}, whose "
            f"input was {source}; predict the same images, or choose their --split and --category:",
            faults,
        )
    if len({row["path"] for row in found.values()}) < len(found):
        raise DatasetError(
            f"several images of {dataset.root} match the same prediction in {folder}; use the whole folder of the "
            f"dataset as the input of 'cxrseg predict'"
        )
    return found


def _same(source: Path, name: str, sample: Sample) -> bool:
    """False where the predicted file still exists and is not the sample's file."""
    predicted = source if source.is_file() else source / name
    return not predicted.exists() or (isinstance(sample.image, Path) and predicted.samefile(sample.image))
