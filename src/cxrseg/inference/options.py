"""Options of predicting files, and the settings that their rows depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.inference.engine import Precision
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.settings import MAX_PIXELS
from cxrseg.plots.outlines import DEFAULT_STYLE, PictureStyle

__all__ = ["DICOM_TYPES", "OUTPUT_TYPES", "Options", "settings_of"]

DICOM_TYPES = ("dicom_seg", "dicom_sr", "dicom_sc")
"""DICOM objects: segmentation, measurement report, and a picture as secondary capture."""

OUTPUT_TYPES = ("png", *DICOM_TYPES)
"""What can be written for each file."""

WriteObjects = Callable[[Path, str, Path, Radiograph, Prediction, Sequence[str]], object]
"""(output folder, stem, source file, what was read from it, what was found on it, which of `DICOM_TYPES`): as
`cxrseg.hospital.objects.write_objects`, which is in a higher layer and is therefore passed down."""

_NOT_IN_ROWS = ("models", "device", "precision")


@dataclass(frozen=True)
class Options:
    """Options of predicting files: the arguments of `Segmenter`, and which files are written.

    Attributes:
        models: the model files; () for the weights that come with cxrseg.
        task: see `cxrseg.inference.segmenter.TASKS`.
        device: 'cpu', 'gpu' or 'gpu:N'.
        threshold: probability from which a pixel is infection; None takes that of the model files.
        tta: average with the prediction for the mirrored image.
        precision: 'auto', 'float32' or 'int8'.
        force: warn where the input check would refuse the image.
        save_probabilities: write the probability map of the infection.
        preview: write a picture.
        picture: how the picture is drawn.
        page: write a small picture for the page of the run.
        output_types: what is written: 'png' for masks, and any of `DICOM_TYPES`.
        window: which view of DICOM files that offer several, from 0.
        value_range: the stored values of black and of white; None: the files say, or it is estimated.
        max_pixels: images with more pixels are refused.
        identities: write the Patient ID of DICOM files instead of a key for the patient.
        write_objects: writes those of `DICOM_TYPES`; needed where there are any.
    """

    models: tuple[Path, ...] = ()
    task: str = "opacity"
    device: str = "cpu"
    threshold: float | None = None
    tta: bool = False
    precision: Precision = "auto"
    force: bool = False
    save_probabilities: bool = False
    preview: bool = False
    picture: PictureStyle = DEFAULT_STYLE
    page: bool = False
    output_types: tuple[str, ...] = ("png",)
    window: int = 0
    value_range: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS
    identities: bool = False
    write_objects: WriteObjects | None = None

    @property
    def endings(self) -> tuple[str, ...]:
        """What follows the stem in the names of all files that may be written for an image."""
        masks = ("_infection.png", "_lungs.png") if "png" in self.output_types else ()
        return (
            *masks,
            *(["_probability.png"] if self.save_probabilities else ()),
            *([f"_preview.{self.picture.kind}"] if self.preview else ()),
            *(["_thumbnail.jpg"] if self.page else ()),
            *(f"_{kind.removeprefix('dicom_')}.dcm" for kind in DICOM_TYPES if kind in self.output_types),
        )

    def segmenter(self, streams: int = 1) -> Segmenter:
        """Load the models; `streams` and errors as for `Segmenter`."""
        return Segmenter(
            self.models or None,
            self.threshold,
            tta=self.tta,
            precision=self.precision,
            force=self.force,
            task=self.task,
            device=self.device,
            streams=streams,
        )

    def as_json(self) -> dict[str, Any]:
        """Name to value of every option that can be written as JSON."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "write_objects"}
        return {
            **values,
            "models": [str(model) for model in self.models],
            "output_types": list(self.output_types),
            "picture": asdict(self.picture),
        }


def settings_of(segmenter: Segmenter, options: Options) -> dict[str, Any]:
    """All settings that a file's row depends on."""
    return {
        "cxrseg": __version__,
        "model_sha256": segmenter.mark.sha256,
        "computes_with": segmenter.engines[0].precision,
        **{key: value for key, value in options.as_json().items() if key not in _NOT_IN_ROWS},
    }
