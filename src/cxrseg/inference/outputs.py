"""The row and the files that are written for a prediction."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from PIL import Image

from cxrseg.inference.options import Options
from cxrseg.inference.picture import caption_of, draw
from cxrseg.inference.prediction import ModelMark, Prediction
from cxrseg.io.patient_key import hashed
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.text import printable
from cxrseg.io.write import (
    RESULT_MARK,
    is_whole_png,
    write_atomic,
    write_bytes,
    write_mask,
    write_png,
    write_probability,
)
from cxrseg.metrics.severity import SEVERITY_COLUMNS
from cxrseg.plots.outlines import PictureStyle

__all__ = ["CATEGORY_COLUMNS", "COLUMNS", "are_whole", "empty_row", "outputs_of", "row_of", "write_outputs"]

CATEGORY_COLUMNS = {
    "COVID-19": "probability_covid19",
    "Non-COVID": "probability_non_covid",
    "Normal": "probability_normal",
}
"""Category to the column of its probability."""

COLUMNS = (
    *("path", "status", "reason", "warnings", "steps", "width", "height", "spacing_mm"),
    *SEVERITY_COLUMNS,
    *("ranking_score", "expected_dice", "model", "model_version", "model_sha256", "threshold"),
    *CATEGORY_COLUMNS.values(),
    "emptied",
    *("patient_id", "study_date", "study_uid", "series_uid", "sop_uid"),
)
"""Columns of statistics.csv and keys of statistics.json. `spacing_mm` is a number, or 'ROWSxCOLUMNS' where the two
differ; fractions are 0 to 1; unknown values are empty. `probability_...` are of the whole image, and `emptied` is true
where the infection map was emptied, see `TASKS`. The last five are of DICOM files. In the CSV, `warnings` and
the reader's `steps` are joined by '; '."""

_DIGITS = 6

_THUMBNAIL = 320
"""Longest side of the picture of a film on the page of a run, in pixels."""


def empty_row(name: str, status: str, reason: str, model: ModelMark, threshold: float | None) -> dict[str, Any]:
    """The row of a file without a prediction.

    Args:
        name: of the file.
        status: 'refused' or 'failed'.
        reason: of the status.
        model: the weights.
        threshold: of the infection.
    """
    known: dict[str, Any] = {
        "path": name,
        "status": status,
        "reason": printable(reason),
        "warnings": [],
        "steps": [],
        "model": model.name,
        "model_version": model.version,
        "model_sha256": model.sha256,
        "threshold": threshold,
    }
    return {column: known.get(column) for column in COLUMNS}


def row_of(name: str, radiograph: Radiograph, prediction: Prediction, *, identities: bool = False) -> dict[str, Any]:
    """The row of a file: a JSON value for each of `COLUMNS`.

    Args:
        name: of the file.
        radiograph: that was read from it.
        prediction: for this radiograph.
        identities: give the Patient ID as it is, instead of a key for the patient (see `hashed`).
    """
    known = {key: printable(value) for key, value in radiograph.identifiers.items()}
    if "patient_id" in known and not identities:
        known["patient_id"] = hashed(known["patient_id"])
    found = prediction.severity.as_row() if prediction.severity is not None else {}
    expected_dice = prediction.expected_dice
    height, width = radiograph.file_shape
    return {
        **empty_row(
            name, prediction.status, prediction.reason, prediction.model, prediction.thresholds.get("infection")
        ),
        "warnings": [printable(warning) for warning in prediction.warnings],
        "steps": [printable(step) for step in prediction.steps],
        "width": width,
        "height": height,
        "spacing_mm": _spacing(radiograph.spacing_mm),
        **{column: round(value, _DIGITS) if isinstance(value, float) else value for column, value in found.items()},
        "ranking_score": None if prediction.ranking_score is None else round(prediction.ranking_score, _DIGITS),
        "expected_dice": None if expected_dice is None else round(expected_dice, _DIGITS),
        **{
            CATEGORY_COLUMNS[category]: round(value, _DIGITS)
            for category, value in (prediction.categories or {}).items()
        },
        "emptied": prediction.emptied if prediction.status == "ok" else None,
        **known,
    }


def write_outputs(
    out: Path,
    stem: str,
    radiograph: Radiograph | None,
    prediction: Prediction | None,
    options: Options,
) -> None:
    """Write the masks and optional files; of those that the options may write, others of these names are removed.

    Masks and maps lie on the file's own pixels; the preview is upright. Nobody waits until masks and maps are on the
    disk, which would take longer than making them: see `are_whole`.

    Args:
        out: the output folder.
        stem: the beginning of the files' names, such as 'sub/name'.
        radiograph: the image, or None.
        prediction: for this image, or None. For None nothing is written, for a refused prediction only the pictures.
        options: which files are written.

    Raises:
        DiskFullError: the disk is full.
    """
    found = prediction.probabilities if prediction is not None else {}
    written: list[Path] = []
    for channel in found if "png" in options.output_types else ():
        assert prediction is not None and radiograph is not None
        written.append(out / f"{stem}_{channel}.png")
        write_mask(written[-1], radiograph.to_file(prediction.mask(channel)), sync=False)
    if options.save_probabilities and "infection" in found:
        assert radiograph is not None
        written.append(out / f"{stem}_probability.png")
        write_probability(written[-1], radiograph.to_file(found["infection"]), sync=False)
    if radiograph is not None and prediction is not None:
        if options.preview:
            written.append(out / f"{stem}_preview.{options.picture.kind}")
            _write_preview(written[-1], radiograph, prediction, options.picture)
        if options.page:
            written.append(out / f"{stem}_thumbnail.jpg")
            _write_thumbnail(written[-1], radiograph, prediction)
    for path in outputs_of(out, stem, options):
        if path not in written:
            path.unlink(missing_ok=True)


def outputs_of(out: Path, stem: str, options: Options) -> list[Path]:
    """All that may be written for a file, by its `stem`, such as 'sub/name', in the output folder."""
    return [out / f"{stem}{ending}" for ending in options.endings]


def are_whole(out: Path, stem: str, channels: Collection[str], options: Options) -> bool:
    """Whether the masks and maps of a file are there to their end: a power failure may have cut the latest ones short.

    Args:
        out: the output folder.
        stem: the beginning of the files' names.
        channels: that the models have.
        options: which files are written.
    """
    kinds = [*channels] if "png" in options.output_types else []
    if options.save_probabilities and "infection" in channels:
        kinds.append("probability")
    return all(is_whole_png(out / f"{stem}_{kind}.png") for kind in kinds)


def _write_preview(path: Path, radiograph: Radiograph, prediction: Prediction, style: PictureStyle) -> None:
    from cxrseg.plots.vector_picture import vector_picture  # here, since it loads matplotlib

    if style.kind == "png":
        write_png(path, draw(prediction, style))
        return
    masks = {channel: prediction.mask(channel) for channel in prediction.probabilities}
    drawn, lines = (masks.get("infection"), masks.get("lungs")), caption_of(prediction)
    write_bytes(path, vector_picture(radiograph.pixels, *drawn, lines, style=style, spacing_mm=radiograph.spacing_mm))


def _write_thumbnail(path: Path, radiograph: Radiograph, prediction: Prediction) -> None:
    from cxrseg.plots.overlay import film_with_masks

    masks = {channel: prediction.mask(channel) for channel in prediction.probabilities}
    image = Image.fromarray(film_with_masks(radiograph.pixels, masks, _THUMBNAIL))
    write_atomic(path, lambda file: image.save(file, "JPEG", quality=85, comment=RESULT_MARK))


def _spacing(spacing: tuple[float, float] | None) -> float | str | None:
    if spacing is None:
        return None
    row, column = (round(value, _DIGITS) for value in spacing)
    return row if row == column else f"{row:g}x{column:g}"
