"""Evaluate a model or stored predictions on a dataset: a row for each image, and named means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.data.groups import group_words, independent_groups
from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import CxrsegError, DatasetError
from cxrseg.evaluation.classification import summarise_image_level
from cxrseg.evaluation.expected_dice import summarise_expected_dice
from cxrseg.evaluation.groups import by_region, by_size
from cxrseg.evaluation.image_scores import Callback, EvaluatedImage, evaluate_image, groups_of
from cxrseg.evaluation.severity_agreement import summarise_severity
from cxrseg.evaluation.stored_predictions import StoredPredictions
from cxrseg.evaluation.text_table import summary_lines
from cxrseg.inference.pixel_budget import PixelBudget, pixels_of
from cxrseg.inference.segmenter import Segmenter
from cxrseg.inference.work import processors
from cxrseg.io.write import write_csv, write_json
from cxrseg.metrics.intervals import LEVEL, RESAMPLES, SEED
from cxrseg.metrics.segmentation import ImageScore
from cxrseg.metrics.summary import summarise
from cxrseg.model_file import ModelInfo

__all__ = ["Evaluation", "evaluate", "evaluate_predictions", "summary_table", "write_evaluation"]

_EMPTY = (
    "Both masks empty: undefined, counted separately. Missed or false alarm: Dice, IoU and NSD are 0, HD95 and ASSD "
    "are the image's diagonal. Distances are in pixels of the image, "
    "and in mm where the size of a pixel is known. NSD has tolerances of 2 and 4 pixels, and of 2 and 4 mm."
)

_INTERVALS = {
    "level": LEVEL,
    "resamples": RESAMPLES,
    "seed": SEED,
    "method": "means and values: percentile bootstrap; fractions: Wilson",
}


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        model: the metadata of the model file; None where stored predictions were evaluated.
        dataset: the images of the evaluation.
        thresholds: channel name to the probability from which a pixel is marked.
        images: the scores of each image.
        task: one of `cxrseg.inference.segmenter.TASKS`.
        predictions: where stored predictions were evaluated: their folder, and models and options of their manifest.
        sha256: of the model file's content, in hexadecimal; None where stored predictions were evaluated.
    """

    model: ModelInfo | None
    dataset: Dataset
    thresholds: Mapping[str, float]
    images: Sequence[EvaluatedImage]
    task: str = "opacity"
    predictions: Mapping[str, Any] | None = None
    sha256: str | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """The kinds of mask that were evaluated."""
        return tuple(channel for channel in self.thresholds if any(channel in image.scores for image in self.images))

    @property
    def scores(self) -> dict[str, list[tuple[Sample, ImageScore]]]:
        """Channel name to one score for each image that has such a mask, with its sample."""
        return {
            channel: [(image.sample, image.scores[channel]) for image in self.images if channel in image.scores]
            for channel in self.channels
        }

    @property
    def fitted_here(self) -> bool:
        """True where threshold and temperature were fitted on these images, or on this split of the same layout."""
        fitted = self.model.fitted_on if self.model is not None else None
        if fitted is None:
            return False
        splits = {sample.split for sample in self.dataset.samples}
        same_split = fitted.get("layout") == self.dataset.layout and not splits.isdisjoint(fitted["split"].split("+"))
        return same_split or fitted.get("sha256") == self.dataset.fingerprint

    def summary(self) -> dict[str, Any]:
        """Every mean with its number of images and interval, as JSON values; docs/evaluating.md explains each key."""
        return self._summary

    @cached_property
    def _summary(self) -> dict[str, Any]:
        refused = [image.sample.name for image in self.images if image.refused]
        return {
            "cxrseg": __version__,
            "note": "Research use only. Not for diagnosis.",
            "model": self._model(),
            "predictions": self.predictions,
            "dataset": {
                "layout": self.dataset.layout,
                "images": self.dataset.describe(),
                "sha256": self.dataset.fingerprint,
            },
            "task": self.task,
            "thresholds": dict(self.thresholds),
            "refused": {"images": len(refused), "names": refused},
            "empty_masks": _EMPTY,
            "intervals": {**_INTERVALS, **self._resampled()},
            **{channel: self._channel(channel) for channel in self.channels},
            "severity": summarise_severity(self.images),
            "expected_dice": summarise_expected_dice(self.images),
            "image_level": summarise_image_level(self.images, self.task),
        }

    def _resampled(self) -> dict[str, Any]:
        """By what the intervals resample."""
        groups = groups_of(self.images)
        if groups is None:
            about = "patients are not known: where several images are of one patient, intervals are too narrow"
            return {"resampled": "images", "units": len(self.images), "about": about}
        about = "all images of a group are drawn together"
        words = group_words(image.sample for image in self.images)
        return {"resampled": words, "units": len(set(groups)), "about": about}

    def _model(self) -> dict[str, Any] | None:
        if self.model is None:
            return None
        return {
            "name": self.model.name,
            "sha256": self.sha256,
            "trained_on": dict(self.model.dataset),
            "version": self.model.version,
            "fitted_on": self.model.fitted_on,
            "fitted_here": self.fitted_here,
        }

    def _channel(self, channel: str) -> dict[str, Any]:
        images = [image for image in self.images if channel in image.scores]
        categories = sorted({image.sample.category for image in images if image.sample.category})
        found = {
            **_summarised(images, channel),
            "by_category": {
                category: _summarised([image for image in images if image.sample.category == category], channel)
                for category in categories
            },
        }
        if channel == "infection":
            found |= {"by_size": by_size(images), "by_region": by_region(images)}
        return found


def evaluate(
    model: Path | str,
    dataset: Dataset,
    *,
    threshold: float | None = None,
    task: str = "opacity",
    on_image: Callable[[int, int], None] | None = None,
    callback: Callback | None = None,
) -> Evaluation:
    """Evaluate a model file on every image of a dataset, at the images' own size.

    Regions and marked fractions use the lung masks of the dataset; where it has none, the lungs that the model finds.
    Only the predicted infected fraction uses the model's own lungs, as in `cxrseg predict`.

    Args:
        model: a model file.
        dataset: the images; see `Dataset.select` for splits and categories.
        threshold: probability from which a pixel is infection; None takes the model file's.
        task: one of `TASKS`; see `Segmenter`.
        on_image: called with (finished images, all images).
        callback: called, from several threads, with each sample, its prediction, its true masks by channel, and the
            lungs of the dataset, or else of the model.

    Raises:
        DatasetError: images cannot be read (all of them are listed), or have no mask of the model's channels.
        ModelFileError: the model file cannot be used, or not for this task.
    """
    # No image is left out, and in float32: figures must not depend on the machine.
    segmenter = Segmenter(model, threshold, input_check=False, precision="float32", task=task)

    def evaluate_one(sample: Sample) -> EvaluatedImage:
        prediction = segmenter.segment(sample.read_image())
        return evaluate_image(sample, prediction, tuple(segmenter.thresholds), callback)

    images = _evaluated(dataset, evaluate_one, tuple(segmenter.thresholds), on_image)
    return Evaluation(segmenter.info, dataset, segmenter.thresholds, images, task, sha256=segmenter.mark.sha256)


def evaluate_predictions(
    folder: Path, dataset: Dataset, *, on_image: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Evaluate the mask files that `cxrseg predict -o FOLDER` wrote, as its users get them.

    Where the input check refused an image, or predicting failed, there is no mask; it counts as an empty mask and is
    counted as refused. Where no probability maps were saved, RMSE is that of the masks.

    Args:
        folder: the output folder of `cxrseg predict`.
        dataset: the images; all of them must have been predicted.
        on_image: called with (finished images, all images).

    Raises:
        DatasetError: images were not predicted or cannot be read (all of them are listed), or have no masks.
    """
    stored = StoredPredictions(folder, dataset)

    def evaluate_one(sample: Sample) -> EvaluatedImage:
        return evaluate_image(sample, stored.predict(sample), stored.channels, None)

    images = _evaluated(dataset, evaluate_one, stored.channels, on_image)
    about = {"folder": str(folder), **{key: stored.manifest[key] for key in ("models", "options", "versions")}}
    return Evaluation(None, dataset, stored.thresholds, images, stored.task, about)


def _evaluated(
    dataset: Dataset,
    evaluate_one: Callable[[Sample], EvaluatedImage],
    channels: Sequence[str],
    on_image: Callable[[int, int], None] | None,
) -> list[EvaluatedImage]:
    images: list[EvaluatedImage] = []
    faults: list[str] = []
    one = partial(_or_error, evaluate_one, PixelBudget(processors()))
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(one, dataset.samples), 1):
            if isinstance(found, CxrsegError):
                faults.append(str(found))
            else:
                images.append(found)
            if on_image is not None:
                on_image(done, len(dataset.samples))
    if faults:
        raise DatasetError(f"{len(faults)} of {len(dataset.samples)} images cannot be evaluated:", faults)
    if not any(image.scores for image in images):
        raise DatasetError(f"{dataset.root} has no mask of the model's channels ({', '.join(channels)})")
    groups = independent_groups([image.sample for image in images])
    return images if groups is None else [replace(i, group=g) for i, g in zip(images, groups, strict=True)]


def _summarised(images: Sequence[EvaluatedImage], channel: str) -> dict[str, Any]:
    return summarise([image.scores[channel] for image in images], groups_of(images))


def _or_error(
    evaluate_one: Callable[[Sample], EvaluatedImage], budget: PixelBudget, sample: Sample
) -> EvaluatedImage | CxrsegError:
    try:
        with budget.hold(pixels_of(sample.image) if isinstance(sample.image, Path) else 0):
            return evaluate_one(sample)
    except CxrsegError as error:
        return error


def write_evaluation(evaluation: Evaluation, out: Path | str) -> None:
    """Write scores.csv, regions.csv and summary.json into the folder `out`; docs/evaluating.md explains them.

    Other files of an earlier evaluation are removed.
    """
    out = Path(out)
    for name in ("regions.csv", "calibration.json", "stress.csv", "stress.json"):
        (out / name).unlink(missing_ok=True)
    rows = [row for channel in evaluation.channels for image in evaluation.images for row in image.rows(channel)]
    columns = dict.fromkeys(column for row in rows for column in row)
    write_csv(out / "scores.csv", list(columns), rows)
    regions = [row for image in evaluation.images for row in image.region_rows()]
    if regions:
        write_csv(out / "regions.csv", list(regions[0]), regions)
    write_json(out / "summary.json", evaluation.summary())


def summary_table(evaluation: Evaluation) -> list[str]:
    """The means as lines of text for a terminal."""
    lines = []
    if evaluation.fitted_here and evaluation.model is not None and evaluation.model.fitted_on is not None:
        fitted = evaluation.model.fitted_on
        lines.append(
            f"threshold and temperature were fitted on this split ({fitted['split']}: {fitted.get('images')}): "
            f"the figures are better than on other images"
        )
    return [*lines, *summary_lines(evaluation.summary(), evaluation.channels)]
