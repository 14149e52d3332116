"""How well a model's classification head separates COVID-19 from other images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrseg.evaluation.expected_dice import auroc
from cxrseg.evaluation.image_scores import EvaluatedImage, groups_of
from cxrseg.metrics.intervals import Estimate, estimate_fraction

__all__ = ["summarise_image_level"]


def summarise_image_level(images: Sequence[EvaluatedImage], task: str) -> dict[str, Any] | None:
    """Sensitivity and specificity for COVID-19: an image is positive where the task covid19 kept its infection map.

    Returns:
        None where the task is not 'covid19', the model has no classification head, or no category is known. Else
        `images`; `sensitivity`, the fraction of COVID-19 images whose map was kept; `specificity`, the fraction of the
        others whose map was emptied; `kept_by_category`; and `auroc` of the probability of COVID-19.
    """
    known = [image for image in images if image.categories is not None and image.sample.category is not None]
    if task != "covid19" or not known:
        return None
    found = [image for image in known if image.sample.category == "COVID-19"]
    others = [image for image in known if image.sample.category != "COVID-19"]
    kept = {
        category: _fraction([not one.emptied for one in chosen], chosen).as_json("fraction")
        for category in sorted({image.sample.category or "" for image in known})
        if (chosen := [image for image in known if image.sample.category == category])
    }
    return {
        "images": len(known),
        "sensitivity": _fraction([not image.emptied for image in found], found).as_json("fraction"),
        "specificity": _fraction([image.emptied for image in others], others).as_json("fraction"),
        "kept_by_category": kept,
        "auroc": auroc(
            [(image.categories or {}).get("COVID-19", 0.0) for image in known],
            [image.sample.category == "COVID-19" for image in known],
            groups_of(known),
        ).as_json("value"),
    }


def _fraction(counts: Sequence[bool], images: Sequence[EvaluatedImage]) -> Estimate:
    return estimate_fraction(sum(counts), len(images), groups_of(images))
