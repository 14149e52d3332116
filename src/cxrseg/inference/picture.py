"""The picture of a prediction, its caption, and its short forms for a Python prompt and for a notebook."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING

from PIL import Image

from cxrseg.errors import CxrsegError, ImageError
from cxrseg.io.text import printable, shortened
from cxrseg.loading import LOADING
from cxrseg.metrics.severity import Severity

if TYPE_CHECKING:
    from cxrseg.inference.prediction import Prediction
    from cxrseg.plots.outlines import PictureStyle

__all__ = ["as_html", "as_text", "caption_of", "draw", "show"]

_SIDE = 400
"""Longest side of the picture in a notebook, in pixels."""

_CELL = "text-align:left;vertical-align:top;font-weight:normal;padding:2px 0"


def draw(prediction: Prediction, style: PictureStyle) -> Image.Image:
    """The film with the outlines of its masks, as `cxrseg predict --preview` draws it.

    Args:
        prediction: of any status; a refused one gives the plain film, with the reason in the caption.
        style: how it is drawn; its `kind` does not matter here.

    Returns:
        RGB. The film is enlarged or reduced, and the notice stands below it.

    Raises:
        ImageError: the prediction has no pixels.
    """
    with LOADING:
        from cxrseg.plots.overlay import preview  # here, since only pictures need it

    if prediction.pixels is None:
        raise ImageError(
            f"expected a prediction with its pixels, got one of {prediction.source} without; "
            f"make it with cxrseg.segment or Segmenter.segment, or give the pixels to Prediction"
        )
    masks = {channel: prediction.mask(channel) for channel in prediction.probabilities}
    return Image.fromarray(
        preview(
            prediction.pixels,
            masks.get("infection"),
            masks.get("lungs"),
            caption_of(prediction),
            style=style,
            spacing_mm=prediction.spacing_mm,
        )
    )


def show(picture: Image.Image) -> None:
    """Show a picture in the notebook, or else in the picture viewer of the system.

    Raises:
        CxrsegError: there is neither.
    """
    ipython = sys.modules.get("IPython")  # Jupyter has loaded it; elsewhere it is not needed
    shell = None if ipython is None else ipython.get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        import_module("IPython.display").display(picture)
        return
    from PIL import ImageShow  # here, since it loads IPython where that is installed

    if not ImageShow.show(picture):
        raise CxrsegError("found no viewer for pictures on this system; write a file instead: .overlay().save('a.png')")


def caption_of(prediction: Prediction) -> Sequence[str]:
    """The lines below a picture: measurements, model, threshold, expected Dice, warnings; or why it was refused."""
    if prediction.status == "refused":
        return [f"Refused: {printable(prediction.reason)}", *_warnings(prediction)]
    lines = _numbers(prediction.severity) if prediction.severity is not None else []
    how = [f"model {prediction.model.name} {prediction.model.version}"]
    if "infection" in prediction.thresholds:
        how.append(f"threshold {prediction.thresholds['infection']:g}")
    if prediction.expected_dice is not None:
        how.append(f"expected Dice {prediction.expected_dice:.2f}, the model's own estimate")
    return [*lines, ", ".join(how), *_warnings(prediction)]


def as_text(prediction: Prediction) -> str:
    """A prediction in one line, for a Python prompt."""
    parts = [prediction.status, shortened(printable(prediction.source))]
    shapes = {map_.shape for map_ in prediction.probabilities.values()}
    parts += [f"{height} x {width} pixels" for height, width in shapes]
    if prediction.status == "refused":
        parts.append(printable(prediction.reason))
    elif prediction.severity is not None:
        parts.append(f"infected {_percent(prediction.severity.infected_fraction)} of the lungs")
        parts.append(f"extent score {_score(prediction.severity)}")
    if prediction.warnings:
        parts.append(f"{len(prediction.warnings)} warning{'s' * (len(prediction.warnings) > 1)}")
    return f"Prediction({', '.join(parts)})"


def as_html(prediction: Prediction) -> str:
    """A prediction as a picture beside a table of its figures, for a notebook. It needs no other file.

    Text from files is escaped: a file's name cannot become part of the page.
    """
    with LOADING:
        from cxrseg.plots.style import NOTICE

    cells = "".join(
        f'<tr><th scope="row" style="{_CELL};white-space:nowrap;padding-right:14px">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(text)}</td></tr>'
        for name, text in _figures(prediction)
    )
    warnings = "".join(f"<li>{escape(printable(warning))}</li>" for warning in prediction.warnings)
    listed = f'<div>Warnings<ul style="margin:2px 0;padding-left:20px">{warnings}</ul></div>' if warnings else ""
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start;line-height:1.4">'
        f"{_image(prediction)}"
        '<div style="flex:1 1 260px;max-width:460px;overflow-wrap:anywhere">'
        f'<div style="font-weight:bold;margin-bottom:6px">{escape(printable(prediction.source))}</div>'
        f'<table style="border-collapse:collapse;margin:0 0 8px;font:inherit;color:inherit">{cells}</table>{listed}'
        f'<div style="margin-top:8px;font-weight:bold">{NOTICE}</div></div></div>'
    )


def _image(prediction: Prediction) -> str:
    """The film with its masks as an <img> with the picture inside; '' where there are no pixels."""
    with LOADING:
        from cxrseg.plots.overlay import film_with_masks
        from cxrseg.plots.style import COLOURS, hex_colour

    if prediction.pixels is None:
        return ""
    masks = {channel: prediction.mask(channel) for channel in prediction.probabilities}
    data = io.BytesIO()
    Image.fromarray(film_with_masks(prediction.pixels, masks, _SIDE)).save(data, "JPEG", quality=88, subsampling=0)
    squares = "".join(
        f'<span style="display:inline-block;width:0.8em;height:0.8em;background:{hex_colour(COLOURS[name])};'
        f'margin-right:5px"></span><span style="margin-right:14px">{name}</span>'
        for name in masks
    )
    described = f"The film with the outlines of {' and '.join(masks)}" if masks else "The film, without masks"
    return (
        f'<div><img alt="{described}" style="max-width:100%;display:block" '
        f'src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'
        f'<div style="margin-top:4px">{squares}</div></div>'
    )


def _figures(prediction: Prediction) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = [("status", prediction.status)]
    if prediction.status == "refused":
        return [*rows, ("reason", printable(prediction.reason))]
    severity = prediction.severity
    if severity is not None:
        rows.append(("infected", f"{_percent(severity.infected_fraction)} of the lungs"))
        rows.append(("patient's right lung", _percent(severity.infected_fraction_right)))
        rows.append(("patient's left lung", _percent(severity.infected_fraction_left)))
        if severity.infected_area_mm2 is not None:
            rows.append(("infected area", f"{severity.infected_area_mm2 / 100:.1f} square cm"))
        rows.append(("extent score", _score(severity)))
    if prediction.expected_dice is not None:
        rows.append(("expected Dice", f"{prediction.expected_dice:.2f}, the model's own estimate"))
    if prediction.model.name:
        rows.append(("model", f"{prediction.model.name} {prediction.model.version}"))
    return rows


def _warnings(prediction: Prediction) -> list[str]:
    return [f"Warning: {printable(warning)}" for warning in prediction.warnings]


def _numbers(severity: Severity) -> list[str]:
    left, right = _percent(severity.infected_fraction_left), _percent(severity.infected_fraction_right)
    first = f"Infected: {_percent(severity.infected_fraction)} of the lungs (patient's right {right}, left {left})"
    if severity.infected_area_mm2 is not None:
        first += f", {severity.infected_area_mm2 / 100:.1f} square cm"
    if severity.extent_score is None:
        return [first, "Extent score: unknown, since the two lungs were not found"]
    return [first, f"Extent score: {_score(severity)}"]


def _score(severity: Severity) -> str:
    return "unknown" if severity.extent_score is None else f"{severity.extent_score} of 8 ({severity.grade})"


def _percent(fraction: float | None) -> str:
    return "unknown" if fraction is None else f"{100 * fraction:.1f}%"
