"""How well a model's probabilities are calibrated, and the best threshold and temperature.

Dice is the mean over the infected images, over the whole image, as in `cxrseg evaluate`. Reliability, Brier score and
temperature use pixels within the lungs only: the background is most of the image and always certain, so with it any
model would look calibrated (Mehrtash et al. 2020, arXiv:1911.13273, remove it for this reason), and the infected
fractions are fractions of the lungs. For the infection, images of the category Non-COVID are left out: their masks are
empty by the definition of the dataset, whatever their lungs show.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg._version import __version__
from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError, ModelFileError
from cxrseg.evaluation.evaluate import evaluate
from cxrseg.evaluation.image_scores import EvaluatedImage
from cxrseg.evaluation.int8_ranges import with_int8_ranges
from cxrseg.inference.prediction import Prediction
from cxrseg.io.write import write_bytes, write_json
from cxrseg.metadata_exchange import with_metadata
from cxrseg.metrics.calibration import (
    PixelBins,
    average_precision,
    best_threshold,
    bin_pixels,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    marked_fractions,
    pool,
    reliability,
    sweep,
)
from cxrseg.metrics.segmentation import MARKED_LIMIT
from cxrseg.model_file import ModelInfo, read_model

__all__ = ["COVID19_KEPT", "Calibration", "ImageBins", "fit", "write_calibration"]

_Mask = npt.NDArray[np.bool_]

COVID19_KEPT = 0.97
"""The task covid19 keeps the map of more than this fraction of the COVID-19 images that `fit` uses."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageBins:
    """The pixels of one image by their predicted logit.

    Attributes:
        whole: of the whole image.
        region: within the lungs; for the lungs themselves, and where the lungs are unknown, of the whole image.
        where: which region: 'lungs of the dataset', 'lungs of the model' or 'whole image'.
    """

    whole: PixelBins
    region: PixelBins
    where: str


class Calibration:
    """Collects pixels while a model is evaluated: pass `callback` to `evaluate`, then read the summary."""

    def __init__(self) -> None:
        self._images: dict[str, dict[str, ImageBins]] = {}
        self._left_out: dict[str, set[str]] = {}

    def callback(
        self, sample: Sample, prediction: Prediction, truths: Mapping[str, _Mask], lungs: _Mask | None
    ) -> None:
        """Count the pixels of one image; may be called from several threads."""
        for channel, truth in truths.items():
            if channel == "infection" and sample.infection_is_by_definition:
                self._left_out.setdefault(channel, set()).add(sample.name)
                continue
            probability = prediction.probabilities[channel]
            whole = bin_pixels(probability, truth)
            counted = ImageBins(whole, whole, "whole image")
            if channel == "infection" and lungs is not None:
                where = "lungs of the dataset" if "lungs" in sample.masks else "lungs of the model"
                counted = ImageBins(whole, bin_pixels(probability, truth, lungs), where)
            self._images.setdefault(channel, {})[sample.name] = counted

    def images(self, channel: str) -> list[ImageBins]:
        """One entry for each counted image, in the order of their names."""
        return [counted for _, counted in sorted(self._images.get(channel, {}).items())]

    def summary(self, thresholds: Mapping[str, float]) -> dict[str, Any]:
        """The results by channel, as JSON values.

        Args:
            thresholds: channel to the threshold that is used in the evaluation.

        Returns:
            For each channel with images: `threshold`; `sweep`, lists of equal length over thresholds; `best`, the best
            threshold for these images, and its Dice; `average_precision`; and, for the pixels of `where`, `pixels`,
            `reliability`, `expected_calibration_error`, `brier_score`, `log_loss` and `best_temperature`, the best
            divisor of the logits for these images.
        """
        return {channel: self._summary(channel, thresholds[channel]) for channel in sorted(self._images)}

    def _summary(self, channel: str, threshold: float) -> dict[str, Any]:
        images = self.images(channel)
        tried = sweep([image.whole for image in images])
        lungs = [image.region for image in images if image.where != "whole image"]
        pixels = pool(image.region for image in images)
        bins = reliability(pixels)
        best = best_threshold(tried.thresholds, tried.dice) if tried.images else None
        return {
            "images": len(images),
            "left_out": len(self._left_out.get(channel, ())),
            "threshold": threshold,
            "sweep": {
                "images": tried.images,
                "uninfected_images": sum(not image.infected for image in lungs),
                "marked_limit": MARKED_LIMIT,
                "threshold": _listed(tried.thresholds),
                "dice": _listed(tried.dice),
                "precision": _listed(tried.precision),
                "recall": _listed(tried.recall),
                "uninfected_marked": _listed(marked_fractions(lungs)),
            },
            "best": best and {"threshold": best, "dice": _number(np.interp(best, tried.thresholds, tried.dice))},
            "average_precision": _number(average_precision(pool(each.whole for each in images if each.whole.infected))),
            "where": dict(Counter(image.where for image in images)),
            "pixels": sum(each.pixels for each in bins),
            "reliability": [
                {name: _number(value) for name, value in dataclasses.asdict(each).items()} for each in bins
            ],
            "expected_calibration_error": _number(expected_calibration_error(bins)),
            "brier_score": _number(brier_score(pixels)),
            "log_loss": _number(log_loss(pixels)),
            "best_temperature": _number(fit_temperature(pixels)) if _both(pixels) else None,
        }


def write_calibration(calibration: Calibration, thresholds: Mapping[str, float], out: Path) -> None:
    """Write calibration.json into the folder `out`."""
    write_json(out / "calibration.json", calibration.summary(thresholds))


def fit(
    model: Path | str,
    dataset: Dataset,
    out: Path,
    *,
    evaluated: Dataset | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> ModelInfo:
    """Fit the temperature, then the threshold, of a model's infection channel, and write a model file that has them.

    The temperature minimises the negative log-likelihood of the pixels within the lungs. It divides the logits of all
    channels, which does not change masks at a threshold of 0.5. The threshold is the middle of the range in which the
    mean Dice of the infected images is highest, see `best_threshold`. Where the model has a classification head, the
    threshold of the task covid19 is the one with the fewest images on its wrong side, among those that keep the map
    of more than `COVID19_KEPT` of the COVID-19 images. Then the ranges for int8 are measured, see `with_int8_ranges`.

    Args:
        model: a model file.
        dataset: images to fit on: validation images, on which the weights were not trained.
        out: the model file to write; its graph is that of `model`.
        evaluated: the images of the later evaluation, which must not be in `dataset`; None skips this check.
        on_image: called with (finished images, all images).

    Returns:
        The metadata of the new model file; its `fitted_on` has the split, images and layout of `dataset`, its
        fingerprint as `sha256`, and `dice` and `log_loss` there.

    Raises:
        DatasetError: `evaluated` has images of `dataset`; or `dataset` lacks infected pixels in the lungs, or others.
        ModelFileError: the model file cannot be used, or has no infection channel.
    """
    _check_apart(dataset, evaluated)
    _, info = read_model(model)
    if "infection" not in info.channels:
        raise ModelFileError(f"{model} segments {', '.join(info.channels)}, and --fit needs a model of the infection")
    calibration = Calibration()
    found = evaluate(model, dataset, task="infection", on_image=on_image, callback=calibration.callback)
    images = calibration.images("infection")
    pixels = pool(image.region for image in images)
    if not _both(pixels):
        raise DatasetError(
            f"expected infected and uninfected pixels in the lungs to fit on; {dataset.root} has: {dataset.describe()}"
        )
    change = fit_temperature(pixels)
    tried = sweep([image.whole for image in images]).at_temperature(change)
    threshold = best_threshold(tried.thresholds, tried.dice)
    reached = {
        "dice": _number(np.interp(threshold, tried.thresholds, tried.dice)),
        "log_loss": _number(log_loss(pixels, change)),
    }
    fitted = dataclasses.replace(
        info,
        threshold=threshold,
        temperature=round(info.temperature * change, 4),
        covid19_threshold=_covid19_threshold(found.images) or info.covid19_threshold,
        version=__version__,
        fitted_on=_described(dataset) | reached,
    )
    fitted = with_int8_ranges(model, fitted, dataset, on_image)
    write_bytes(out, with_metadata(Path(model).read_bytes(), fitted))
    return fitted


def _described(dataset: Dataset) -> dict[str, Any]:
    """The images of a fit, for the model file."""
    return {
        "split": "+".join(sorted({sample.split for sample in dataset.samples})),
        "layout": dataset.layout,
        "images": dataset.describe(),
        "sha256": dataset.fingerprint,
    }


def _covid19_threshold(images: Iterable[EvaluatedImage]) -> float | None:
    """The middle of the widest gap between probabilities with the fewest images on its wrong side.

    Only gaps with more than `COVID19_KEPT` of the COVID-19 images above them are considered. The middle, so that no
    result depends on the last digit. None where there is no COVID-19 image.
    """
    known = [
        (image.categories["COVID-19"], image.sample.category == "COVID-19")
        for image in images
        if image.categories is not None and image.sample.category is not None
    ]
    covid, others = (np.array([chance for chance, is_covid in known if is_covid == kind]) for kind in (True, False))
    if not covid.size:
        return None
    edges = np.unique([0.0, 1.0, *covid, *others])
    gaps = [(low, high) for low, high in pairwise(edges.tolist()) if np.mean(covid >= high) > COVID19_KEPT]
    low, high = min(gaps, key=lambda gap: (np.sum(covid <= gap[0]) + np.sum(others >= gap[1]), gap[0] - gap[1]))
    return round(float(low + high) / 2, 6)


def _check_apart(dataset: Dataset, evaluated: Dataset | None) -> None:
    names = {sample.name for sample in dataset.samples}
    shared = [sample.name for sample in evaluated.samples if sample.name in names] if evaluated is not None else []
    if shared:
        raise DatasetError(
            f"threshold and temperature would be fitted on {len(shared)} of the images of the evaluation (such as "
            f"{shared[0]}), which makes its figures too good; fit on another split, or give --allow-same-split"
        )


def _both(pixels: PixelBins) -> bool:
    return bool(pixels.positive.any() and pixels.negative.any())


def _listed(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return round(float(value), 6) if math.isfinite(value) else None
