"""All scores of one image: its prediction compared with its true masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import Sample
from cxrseg.inference.outputs import CATEGORY_COLUMNS
from cxrseg.inference.prediction import Prediction
from cxrseg.metrics.intervals import Groups
from cxrseg.metrics.lungs import find_lungs
from cxrseg.metrics.regions import count_regions
from cxrseg.metrics.segmentation import Counts, ImageScore, score
from cxrseg.metrics.severity import Severity, measure_severity

__all__ = ["Callback", "EvaluatedImage", "evaluate_image", "groups_of"]

_Mask = npt.NDArray[np.bool_]

Callback = Callable[[Sample, Prediction, Mapping[str, _Mask], _Mask | None], None]
"""Called with a sample, its prediction, its true masks by channel, and its lungs where they are known."""

_SIDES = ("", "_left", "_right")


@dataclass(frozen=True)
class EvaluatedImage:
    """The scores of one image.

    Attributes:
        sample: the image with its true masks.
        scores: channel name to its score, for each channel that both the model and the dataset have.
        true: the true severity; None where infection or lungs are unknown.
        predicted: the predicted severity, as `cxrseg predict` reports it; None where refused or lungs are unknown.
        lungs: whose lungs the fractions are of: 'each its own', 'dataset' or 'model', or '' where unknown.
        regions: counts within each lung and zone, see `cxrseg.metrics.regions`.
        expected_dice: `Prediction.expected_dice`.
        categories: `Prediction.categories`.
        emptied: `Prediction.emptied`.
        refused: why the input check refused the image, '' otherwise; its masks count as empty.
        group: the number of the group of images of one patient, or of copies, to which it belongs; None where no group
            of the dataset is known.
    """

    sample: Sample
    scores: Mapping[str, ImageScore]
    true: Severity | None = None
    predicted: Severity | None = None
    lungs: str = ""
    regions: Mapping[str, Counts] = field(default_factory=dict)
    expected_dice: float | None = None
    categories: Mapping[str, float] | None = None
    emptied: bool = False
    refused: str = ""
    group: int | None = None

    @property
    def infected(self) -> bool:
        """True where the true infection mask is not empty."""
        found = self.scores.get("infection")
        return found is not None and found.tp + found.fn > 0

    def rows(self, channel: str) -> list[dict[str, Any]]:
        """The row of scores.csv for one kind of mask; no row where the dataset has no such mask."""
        if channel not in self.scores:
            return []
        sample = self.sample
        return [
            {
                "name": sample.name,
                "split": sample.split,
                "category": sample.category,
                "target": channel,
                **self.scores[channel].as_row(),
                **(self._findings() if channel == "infection" else {}),
                "refused": self.refused or None,
                **({} if self.group is None else {"group": self.group}),
            }
        ]

    def region_rows(self) -> list[dict[str, Any]]:
        """The rows of regions.csv, one for each lung and zone that was found."""
        return [
            {
                "name": self.sample.name,
                "category": self.sample.category,
                "region": region,
                "tp": counts.tp,
                "fp": counts.fp,
                "fn": counts.fn,
                "pixels": counts.pixels,
                "dice": None if counts.both_empty else counts.dice,
                "fraction_true": (counts.tp + counts.fn) / counts.pixels,
                "fraction_predicted": (counts.tp + counts.fp) / counts.pixels,
            }
            for region, counts in self.regions.items()
            if counts.pixels
        ]

    def _findings(self) -> dict[str, Any]:
        found: dict[str, Any] = {"expected_dice": self.expected_dice}
        for side in _SIDES:
            found[f"infected_fraction{side}_true"] = getattr(self.true, f"infected_fraction{side}", None)
            found[f"infected_fraction{side}_predicted"] = getattr(self.predicted, f"infected_fraction{side}", None)
        found["extent_score_true"] = getattr(self.true, "extent_score", None)
        found["extent_score_predicted"] = getattr(self.predicted, "extent_score", None)
        for category, name in CATEGORY_COLUMNS.items():
            found[name] = None if self.categories is None else self.categories.get(category)
        return {**found, "emptied": None if self.categories is None else int(self.emptied)}


def groups_of(images: Sequence[EvaluatedImage]) -> Groups:
    """The groups that intervals must draw as a whole, or None where none are known."""
    groups = [image.group for image in images if image.group is not None]
    return groups if len(groups) == len(images) and groups else None


def evaluate_image(
    sample: Sample, prediction: Prediction, channels: tuple[str, ...], callback: Callback | None
) -> EvaluatedImage:
    """Compare the prediction for one image with its true masks.

    Args:
        sample: the image with its true masks.
        prediction: for this image.
        channels: of the model; where the image was refused, these masks count as empty.
        callback: see `Callback`, or None; it is not called where the image was refused.

    Raises:
        ImageError: a mask cannot be read, or prediction and truth differ in shape.
    """
    truths = {channel: truth for channel in channels if (truth := sample.read_mask(channel)) is not None}
    refused = prediction.status == "refused"
    masks = {} if refused else {channel: prediction.mask(channel) for channel in prediction.probabilities}
    own, theirs = masks.get("lungs"), sample.read_mask("lungs")
    lungs = own if theirs is None else theirs
    if callback is not None and not refused:
        callback(sample, prediction, truths, lungs)
    scores = {
        channel: score(
            np.zeros(truth.shape, np.float32) if refused else prediction.probabilities[channel],
            truth,
            lungs if channel == "infection" else None,
            prediction=np.zeros_like(truth) if refused else masks[channel],
            spacing_mm=prediction.spacing_mm,
        )
        for channel, truth in truths.items()
    }
    evaluated = EvaluatedImage(
        sample,
        scores,
        expected_dice=prediction.expected_dice,
        categories=prediction.categories,
        emptied=prediction.emptied,
        refused=prediction.reason if refused else "",
    )
    if "infection" not in scores or lungs is None:
        return evaluated
    ours, sides = theirs if own is None else own, find_lungs(lungs)
    marked = np.zeros_like(truths["infection"]) if refused else masks["infection"]
    return replace(
        evaluated,
        true=measure_severity(truths["infection"], lungs, sides=sides),
        predicted=None
        if refused or ours is None
        else measure_severity(marked, ours, sides=sides if ours is lungs else None),
        lungs="model" if theirs is None else "dataset" if own is None and not refused else "each its own",
        regions=count_regions(marked, truths["infection"], sides),
    )
