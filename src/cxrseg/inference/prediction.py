"""The result of segmenting one radiograph."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.errors import ImageError
from cxrseg.inference.picture import as_html, as_text, draw, show
from cxrseg.loading import LOADING
from cxrseg.metrics.lungs import Lung, find_lungs
from cxrseg.metrics.severity import Severity, measure_severity

__all__ = ["ModelMark", "Prediction", "soft_dice"]


@dataclass(frozen=True)
class ModelMark:
    """Which weights made a prediction; of several models, names, versions and hashes are joined by '+'.

    Attributes:
        name: the recipe's name.
        version: version of cxrseg that wrote the model file.
        sha256: of the model file's content, in hexadecimal.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result of segmenting one radiograph. Research use only, not for diagnosis.

    A refused prediction has no probabilities, so that an empty mask cannot be mistaken for healthy lungs. In a notebook
    a prediction shows itself as a picture with a table of its figures.

    Attributes:
        probabilities: channel name ('infection', 'lungs') to (H, W) float32 in [0, 1], on the radiograph's pixels.
        thresholds: channel name to the probability from which a pixel is marked.
        status: 'ok', or 'refused' where the image does not look like a frontal chest radiograph.
        reason: why it was refused, '' otherwise.
        warnings: what a reader of the result should know, one sentence each.
        steps: what was done to the file's values before the model saw them, in order, in words.
        spacing_mm: (row, column) distance of pixel centres, of the radiograph.
        source: of the radiograph.
        model: the weights.
        categories: 'COVID-19', 'Non-COVID' and 'Normal' to the probability that the whole image belongs to it; None
            where the model has no classification head.
        emptied: True where the infection map was emptied, because the whole image looks like no COVID-19 (task
            covid19) or normal (task opacity); then a warning says so.
        chance_of_more: where the map was emptied, the probability that it should not have been; None elsewhere.
        ranking_score: 0 to 1, for sorting films by how likely they show much infection, also where nothing is marked:
            the mean probability of infection over the lungs, times the probability that the whole image shows any
            (task 'opacity': is not normal; 'covid19': shows COVID-19), where the model classifies images. It is no
            fraction of the lungs. None where there are no lungs.
        pixels: (H, W) float32 in [0, 1] of the radiograph, upright, for pictures; None where they were not kept.
    """

    probabilities: Mapping[str, npt.NDArray[np.float32]]
    thresholds: Mapping[str, float]
    status: Literal["ok", "refused"] = "ok"
    reason: str = ""
    warnings: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    source: str = "array"
    model: ModelMark = field(default_factory=lambda: ModelMark("", "", ""))
    categories: Mapping[str, float] | None = None
    emptied: bool = False
    chance_of_more: float | None = None
    ranking_score: float | None = None
    pixels: npt.NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        """What Jupyter shows: the picture and a table of the figures, as HTML that needs no other file."""
        return as_html(self)

    def overlay(
        self, *, beside: bool = False, fill: float = 0.35, caption: bool = True, size: int = 2048
    ) -> Image.Image:
        """The film with the outlines of its masks, as `cxrseg predict --preview` draws it.

        `.save("chest.png")` writes it, and `numpy.asarray` makes it (height, width, 3) uint8. The picture is for the
        eye: its film is enlarged or reduced, and a line with 'Research use only' is below it. `mask` has the pixels.

        Args:
            beside: put the plain film on the left.
            fill: strength of the colour in the infection, 0 (outline only) to 1.
            caption: write legend, measurements and warnings below.
            size: longest side of the film in the picture, in pixels; 0 for that of the film. Less than 640 is made 640,
                so that text can be read.

        Returns:
            RGB. Of a refused radiograph: the plain film, with the reason in the caption.

        Raises:
            ImageError: the prediction has no pixels.
            ArgumentError: `fill` or `size` is out of range.
        """
        with LOADING:
            from cxrseg.plots.outlines import PictureStyle  # here, since only pictures need it

        return draw(self, PictureStyle(beside, fill, caption, size))

    def show(self, *, beside: bool = False, fill: float = 0.35, caption: bool = True, size: int = 2048) -> None:
        """Show `overlay` in the notebook; elsewhere, in the system's picture viewer, which gets a temporary file.

        Args:
            beside, fill, caption, size: as for `overlay`.

        Raises:
            ImageError, ArgumentError: as for `overlay`.
            CxrsegError: this is not a notebook, and the system has no picture viewer.
        """
        show(self.overlay(beside=beside, fill=fill, caption=caption, size=size))

    def mask(self, channel: str) -> npt.NDArray[np.bool_]:
        """(H, W) bool, the pixels of `channel` whose probability reaches its threshold.

        Raises:
            ImageError: the radiograph was refused, or the model has no such channel.
        """
        if self.status == "refused":
            raise ImageError(f"{self.source} was refused and has no masks: {self.reason}")
        if channel not in self.probabilities:
            raise ImageError(f"expected one of {', '.join(self.probabilities)}, got {channel!r}")
        return self.probabilities[channel] >= self.thresholds[channel]

    @cached_property
    def severity(self) -> Severity | None:
        """How much of the lungs is infected; None where the image was refused, or the model lacks a channel."""
        if not {"infection", "lungs"} <= self.probabilities.keys():
            return None
        return measure_severity(self.mask("infection"), self.mask("lungs"), self.spacing_mm, sides=self.sides)

    @cached_property
    def sides(self) -> tuple[Lung, Lung] | None:
        """The patient's left and right lung; None where it was refused, or the model finds no lungs."""
        return find_lungs(self.mask("lungs")) if "lungs" in self.probabilities else None

    @cached_property
    def expected_dice(self) -> float | None:
        """The Dice that the infection mask can be expected to have with a reader's, 0 to 1; None without a mask.

        The model's own estimate, see `soft_dice`. It takes for granted that the film is like those of the training data
        and that what is marked is infection: it is not the probability that the mask is right.
        Of a map that was emptied it is 1 - `chance_of_more`: as for every empty mask, the probability that there is
        nothing to mark.
        """
        if "infection" not in self.probabilities:
            return None
        if self.chance_of_more is not None:
            return 1.0 - self.chance_of_more
        return soft_dice(self.probabilities["infection"], self.thresholds["infection"])


def _renew_locks() -> None:
    """In a forked child: Python 3.11 has one lock for a property of all predictions, which another thread may hold."""
    for value in vars(Prediction).values():
        if isinstance(value, cached_property):
            vars(value)["lock"] = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def soft_dice(probability: npt.NDArray[np.float32], threshold: float) -> float:
    """The Dice that a mask can be expected to have, estimated from its own probability map.

    The soft Dice of Borges et al. (arXiv:2402.10665): 2 * sum(p * m) / (sum(p) + sum(m)), where p is the
    probability and m the mask. It is undefined for an empty mask, for which it is here 1 - max(p): the
    probability that the most likely pixel is not infected. It is only as good as the calibration of the probabilities,
    and it is not reliable for images that differ from the training data.

    Args:
        probability: (H, W) float32 in [0, 1].
        threshold: from which a pixel belongs to the mask.

    Returns:
        0 to 1.
    """
    marked = probability >= threshold
    count = int(np.count_nonzero(marked))
    if count == 0:
        return 1.0 - float(probability.max(initial=0.0))
    within = float(probability[marked].sum(dtype=np.float64))
    return 2.0 * within / (float(probability.sum(dtype=np.float64)) + count)
