"""A model file and a dataset to scores: a row for each image, and the means that say what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import CxrsegError, DatasetError
from cxrseg.io.write import write_csv, write_json
from cxrseg.measure.metrics import ImageScore, score, summarise
from cxrseg.model_file import ModelInfo
from cxrseg.segment.segmenter import Segmenter

__all__ = ["Evaluation", "evaluate", "summary_table", "write_evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on a dataset.

    Attributes:
        model: what the model file says about itself.
        dataset: the images it was judged on.
        thresholds: channel name to the probability from which a pixel is marked.
        scores: channel name to one score for each image that has such a mask, with its sample.
    """

    model: ModelInfo
    dataset: Dataset
    thresholds: Mapping[str, float]
    scores: Mapping[str, list[tuple[Sample, ImageScore]]]

    def summary(self) -> dict[str, Any]:
        """Every mean, over all images and by category, ready for JSON."""
        return {
            "cxrseg": __version__,
            "note": "Research use only. Not for diagnosis.",
            "model": {
                "name": self.model.name,
                "trained_on": dict(self.model.dataset),
                "version": self.model.version,
            },
            "dataset": {
                "layout": self.dataset.layout,
                "images": self.dataset.describe(),
                "sha256": self.dataset.fingerprint,
            },
            "thresholds": dict(self.thresholds),
            "empty_masks": "both empty: undefined, counted apart; missed or false alarm: Dice, IoU and NSD 0, HD95 and "
            "ASSD the image's diagonal. Distances in pixels of the image. NSD at a tolerance of 2 pixels.",
            **{
                channel: {
                    **summarise([found for _, found in scored]),
                    "by_category": {
                        category: summarise([found for sample, found in scored if sample.category == category])
                        for category in sorted({sample.category for sample, _ in scored if sample.category})
                    },
                }
                for channel, scored in self.scores.items()
            },
        }


def evaluate(
    model: Path | str,
    dataset: Dataset,
    *,
    threshold: float | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Judge a model file on every image of a dataset, at the images' own size.

    The share of the lungs that is marked is taken of the dataset's lung masks; where it has none, of the lungs that
    the model finds.

    Args:
        model: a model file.
        dataset: what to judge on; see `Dataset.select` for splits and categories.
        threshold: probability from which a pixel is infection; None takes the model file's.
        on_image: called with (images done, images in all).

    Raises:
        DatasetError: images cannot be read (all of them are listed), or have none of the model's masks.
        ModelFileError: the model file cannot be used.
    """
    # Every image of the dataset is judged, and in float32: figures must not depend on the machine.
    segmenter = Segmenter(model, threshold, gate=False, precision="float32")
    scores: dict[str, list[tuple[Sample, ImageScore]]] = {channel: [] for channel in segmenter.info.channels}
    faults: list[str] = []

    def judge(sample: Sample) -> dict[str, ImageScore] | CxrsegError:
        try:
            return _score(segmenter, sample)
        except CxrsegError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for done, (sample, found) in enumerate(zip(dataset.samples, pool.map(judge, dataset.samples), strict=True)):
            if isinstance(found, CxrsegError):
                faults.append(str(found))
            else:
                for channel, one in found.items():
                    scores[channel].append((sample, one))
            if on_image is not None:
                on_image(done + 1, len(dataset.samples))
    if faults:
        raise DatasetError(f"{len(faults)} of {len(dataset.samples)} images cannot be judged:", faults)
    judged = {channel: scored for channel, scored in scores.items() if scored}
    if not judged:
        raise DatasetError(
            f"{dataset.root} has none of the masks that the model finds ({', '.join(segmenter.info.channels)})"
        )
    return Evaluation(segmenter.info, dataset, segmenter.thresholds, judged)


def write_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write scores.csv (a row for each image and kind of mask) and summary.json into the folder `out`."""
    rows = [
        {
            "name": sample.name,
            "split": sample.split,
            "category": sample.category,
            "target": channel,
            **found.as_row(),
        }
        for channel, scored in evaluation.scores.items()
        for sample, found in scored
    ]
    write_csv(out / "scores.csv", list(rows[0]), rows)
    write_json(out / "summary.json", evaluation.summary())


def summary_table(evaluation: Evaluation) -> list[str]:
    """The means side by side, as lines of text for a terminal."""
    lines = []
    for channel, values in evaluation.summary().items():
        if channel not in evaluation.scores:
            continue
        lines += [
            f"{channel} at {evaluation.thresholds[channel]:g}: {values['images']} images, "
            f"{values['infected']} with a mask, {values['missed']} missed, "
            f"{values['false_alarm']} false alarms, {values['both_empty']} empty on both sides"
        ]
        per_image, pooled = values["infected_per_image"], values["infected_pooled"]
        every, marked = values["all_images_empty_on_empty_is_1"], values["uninfected_marked"]
        lines += [
            f"  {'':34}{'Dice':>8}{'IoU':>8}{'precision':>11}{'recall':>8}{'RMSE':>8}{'HD95':>8}{'NSD 2px':>9}",
            _line("images with a mask, per image", per_image, "mean"),
            _line("images with a mask, pixels pooled", pooled, "value"),
            _line("all images, empty on empty = 1", every | {"rmse": values["rmse"]}, "mean"),
        ]
        if marked["n"]:
            parts = {"in all": marked} | {
                category: found["uninfected_marked"]
                for category, found in values["by_category"].items()
                if found["uninfected_marked"]["n"]
            }
            shares = ", ".join(f"{name} {part['share']:.1%} of {part['n']}" for name, part in parts.items())
            lines.append(f"  images without, more than {marked['limit']:.0%} of the lungs marked: {shares}")
    return lines


def _line(name: str, figures: Mapping[str, Mapping[str, Any]], key: str) -> str:
    widths = {"dice": 8, "iou": 8, "precision": 11, "recall": 8, "rmse": 8, "hd95": 8, "nsd2": 9}
    text = f"  {name:<34}"
    for figure, width in widths.items():
        cell = figures.get(figure, {})
        value = cell.get(key, cell.get("value"))
        text += f"{'-':>{width}}" if value is None else f"{value:>{width}.{1 if figure == 'hd95' else 4}f}"
    return text


def _score(segmenter: Segmenter, sample: Sample) -> dict[str, ImageScore]:
    """Score every channel of which the sample has a mask."""
    prediction = segmenter.segment(sample.read_image())
    lungs = sample.read_mask("lungs")
    if lungs is None and "lungs" in prediction.probabilities:
        lungs = prediction.mask("lungs")
    found = {}
    for channel, probability in prediction.probabilities.items():
        truth = sample.read_mask(channel)
        if truth is not None:
            found[channel] = score(
                probability, truth, lungs if channel == "infection" else None, prediction.thresholds[channel]
            )
    return found
