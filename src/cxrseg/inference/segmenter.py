"""From a radiograph to a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.data.sample import PHANTOM_LAYOUT
from cxrseg.errors import ArgumentError, ModelFileError
from cxrseg.inference.engine import Engine, LoadedModel, Precision, Result
from cxrseg.inference.input_check import (
    INVERTED,
    INVERTED_TWICE,
    Verdict,
    check_lungs,
    check_radiograph,
    check_view,
)
from cxrseg.inference.prediction import ModelMark, Prediction
from cxrseg.inference.tasks import Limits, ranking_score
from cxrseg.io.array_input import radiograph_of
from cxrseg.io.radiograph import Radiograph
from cxrseg.metrics.lungs import specks_of
from cxrseg.model_file import ModelInfo, shipped_model
from cxrseg.preprocessing import content_box, to_input, to_source

__all__ = ["NO_LUNGS", "SYNTHETIC", "Prediction", "Segmenter"]

SYNTHETIC = "the model was trained on synthetic X-rays only: its masks mean nothing on a patient's image"
"""The warning on every prediction of a model that was trained on phantoms."""

NO_LUNGS = "the model does not segment lungs, so infected fractions of the lungs are not known"
"""The warning on every prediction of a model without a lung channel."""

_LUNGS_THRESHOLD = 0.5

_Pixels = npt.NDArray[np.float32]


class _Output(NamedTuple):
    """What the models give for one image.

    maps: channel to (H, W) probabilities. categories: category to probability. views: view to logit.
    """

    maps: dict[str, _Pixels]
    categories: dict[str, float] | None
    views: dict[str, float]


class Segmenter:
    """Loaded models: load once, call many times, also from several threads, and in forked child processes.

    A pickled segmenter holds the paths of its model files and the options; unpickling loads them again.

    Args:
        models: a model file, or several: each channel is the mean of the models that have it. None for the weights
            that come with cxrseg. Models that are loaded already are shared, so that several segmenters of different
            tasks need the memory of one; `precision`, `device` and `streams` are then theirs.
        threshold: probability from which a pixel is infection; None takes the mean of the model files' thresholds.
        tta: test-time augmentation: average with the prediction for the mirrored image.
        precision: 'auto' uses int8 or bfloat16 where the processor is faster with it, 'float32' never does; see
            `cxrseg.inference.engine.Precision`.
        force: warn where the input check would refuse the image.
        input_check: False segments every image as it is: the image is never refused or inverted, without warnings.
        task: one of `TASKS`; 'covid19' needs a model with a classification head.
        device: 'cpu', or a GPU: 'gpu' or 'gpu:N'.
        streams: number of images that the processor works on at the same time. More streams give more images a second;
            1 gives the shortest time for one image. 0 uses a single thread, for use beside other processes.

    Raises:
        ArgumentError: there is no model, the threshold is not in (0, 1), or there is no such task, device or precision.
        ModelFileError: a file cannot be used, or does not support the task.
        MissingExtraError: a GPU is requested, and ONNX Runtime is not installed or finds no GPU.
    """

    def __init__(
        self,
        models: Path | str | LoadedModel | Sequence[Path | str | LoadedModel] | None = None,
        threshold: float | None = None,
        *,
        tta: bool = False,
        precision: Precision = "auto",
        force: bool = False,
        input_check: bool = True,
        task: str = "opacity",
        device: str = "cpu",
        streams: int = 1,
    ) -> None:
        options = {
            "tta": tta,
            "precision": precision,
            "force": force,
            "input_check": input_check,
            "task": task,
            "device": device,
            "streams": streams,
        }
        shipped = models is None
        models = shipped_model() if models is None else models
        each = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
        if not each:
            raise ArgumentError("expected at least one model file, got none")
        self.engines: list[LoadedModel] = [
            Engine(one, precision=precision, device=device, streams=streams) if isinstance(one, Path | str) else one
            for one in each
        ]
        self._tta, self._force, self._input_check = tta, force, input_check
        self._limits = Limits.of(task, [engine.info for engine in self.engines])
        self.task = task
        given = sum(self._threshold(engine.info) for engine in self.engines) / len(self.engines)
        infection = given if threshold is None else threshold
        if not 0 < infection < 1:
            raise ArgumentError(f"expected a threshold between 0 and 1, got {infection:g}")
        channels = dict.fromkeys(
            channel for engine in self.engines for channel in engine.info.channels if channel != "opacity"
        )
        self.thresholds = {channel: infection if channel == "infection" else _LUNGS_THRESHOLD for channel in channels}
        synthetic = any(engine.info.dataset.get("layout") == PHANTOM_LAYOUT for engine in self.engines)
        self._model_warnings = (SYNTHETIC,) if synthetic else ()
        self._made_by = None if shipped else [_place(one) for one in each], threshold, options

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (*self._made_by, self.mark.sha256)

    @property
    def info(self) -> ModelInfo:
        """The metadata of the first model file."""
        return self.engines[0].info

    @property
    def mark(self) -> ModelMark:
        """Name, version and hash of the weights."""
        infos = [engine.info for engine in self.engines]
        return ModelMark(
            "+".join(info.name for info in infos),
            "+".join(dict.fromkeys(info.version for info in infos)),
            "+".join(engine.sha256 for engine in self.engines),
        )

    def segment(self, image: Path | str | Radiograph | Image.Image | npt.ArrayLike) -> Prediction:
        """Segment infection and lungs on one radiograph.

        Check the radiograph, run the models in the right polarity, check the lungs, package the result.

        Args:
            image: a radiograph of any size, or what `cxrseg.io.array_input.radiograph_of` makes one of: a file, an
                array, a list of rows or a Pillow image.

        Returns:
            Probabilities on the radiograph's own pixels. Where the input check refuses the radiograph, the reason and
            no probabilities.

        Raises:
            ImageError: the file cannot be read, or the pixels are not of a shape and type for it.
        """
        radiograph = radiograph_of(image)
        if not self._input_check:
            return self._predicted(radiograph, self._run(radiograph.pixels), Verdict())
        verdict = check_radiograph(radiograph)
        if verdict.reason and not self._force:
            return self._refused(radiograph, verdict)
        output, later = self._run_in_right_polarity(radiograph.pixels)
        verdict = verdict.then(later)
        if verdict.reason and not self._force:
            return self._refused(radiograph, verdict)
        return self._predicted(radiograph, output, verdict)

    def _run_in_right_polarity(self, pixels: _Pixels) -> tuple[_Output, Verdict]:
        """The models' output on (H, W) pixels or on their inverse, and the verdict on it."""
        output, verdict = self._run_and_check(pixels)
        if not verdict.inverted:
            return output, verdict
        output, verdict = self._run_and_check(1 - pixels)
        return output, Verdict(INVERTED_TWICE if verdict.inverted else "", (INVERTED,)).then(verdict)

    def _run_and_check(self, pixels: _Pixels) -> tuple[_Output, Verdict]:
        """The models' output on (H, W) pixels, and the verdict on their view and their lungs."""
        output = self._run(pixels)
        verdict = check_view(output.views)
        if verdict.reason or verdict.inverted:
            return output, verdict
        if "lungs" not in output.maps:
            return output, verdict.then(Verdict(warnings=(NO_LUNGS,)))
        return output, verdict.then(check_lungs(output.maps["lungs"], self.thresholds["lungs"]))

    def _run(self, pixels: _Pixels) -> _Output:
        """Run the models on (H, W) float32 in [0, 1], and average what they give."""
        maps: dict[str, list[_Pixels]] = {channel: [] for channel in self.thresholds}
        categories: list[dict[str, float]] = []
        views: dict[str, float] = {}
        box = content_box(pixels)
        for engine in self.engines:
            result = self._run_engine(engine, to_input(pixels[box], engine.info.size))
            found = self._without_specks(self._maps_of_task(engine.info, result.maps))
            for channel, map_ in found.items():
                maps[channel].append(to_source(map_, (pixels.shape[0], pixels.shape[1]), box))
            if result.categories is not None:
                categories.append(dict(zip(engine.info.categories, result.categories.tolist(), strict=True)))
            if result.views is not None and not views:  # models differ in their views: the first that has any decides
                views = dict(zip(engine.info.views, result.views.tolist(), strict=True))
        return _Output(
            {channel: each[0] if len(each) == 1 else np.mean(each, axis=0) for channel, each in maps.items()},
            {name: sum(one[name] for one in categories) / len(categories) for name in categories[0]}
            if categories
            else None,
            views,
        )

    def _threshold(self, info: ModelInfo) -> float:
        return info.opacity_threshold if self.task == "opacity" and "opacity" in info.channels else info.threshold

    def _maps_of_task(self, info: ModelInfo, maps: _Pixels) -> dict[str, _Pixels]:
        """A model's maps by channel; 'infection' is the map that the task asks for."""
        named = dict(zip(info.channels, maps, strict=True))
        opacity = named.pop("opacity", None)
        return named if opacity is None or self.task != "opacity" else named | {"infection": opacity}

    def _without_specks(self, maps: dict[str, _Pixels]) -> dict[str, _Pixels]:
        """A model's maps with 0 where it found specks of lung away from the lungs, such as over the abdomen."""
        specks = specks_of(maps["lungs"] >= self.thresholds["lungs"]) if "lungs" in maps else None
        if specks is None:
            return maps
        return {channel: np.where(specks, np.float32(0), map_) for channel, map_ in maps.items()}

    def _run_engine(self, engine: LoadedModel, pixels: _Pixels) -> Result:
        """Run one model on one image: (C, h, w) maps, (K) categories, and (V) views of the image as it is."""
        maps, categories, views = engine.run(np.stack([pixels, pixels[:, ::-1]]) if self._tta else pixels[None])
        mean: _Pixels = (maps[0] + maps[1][:, :, ::-1]) / 2 if self._tta else maps[0]
        return Result(mean, None if categories is None else categories.mean(0), None if views is None else views[0])

    def _refused(self, radiograph: Radiograph, verdict: Verdict) -> Prediction:
        return Prediction(
            {},
            self.thresholds,
            status="refused",
            reason=verdict.reason,
            warnings=self._model_warnings + radiograph.warnings + verdict.warnings,
            steps=radiograph.steps,
            spacing_mm=radiograph.spacing_mm,
            source=radiograph.source,
            pixels=radiograph.pixels,
            model=self.mark,
        )

    def _predicted(self, radiograph: Radiograph, output: _Output, verdict: Verdict) -> Prediction:
        forced = (f"forced: {verdict.reason}",) if verdict.reason else ()
        emptied = self._why_emptied(output)
        maps = output.maps if emptied is None else output.maps | {"infection": np.zeros_like(output.maps["infection"])}
        why, chance = emptied or ("", None)
        return Prediction(
            maps,
            self.thresholds,
            warnings=self._model_warnings + radiograph.warnings + forced + verdict.warnings + ((why,) if why else ()),
            steps=radiograph.steps,
            spacing_mm=radiograph.spacing_mm,
            source=radiograph.source,
            pixels=radiograph.pixels,
            model=self.mark,
            categories=output.categories,
            emptied=emptied is not None,
            chance_of_more=chance,
            ranking_score=ranking_score(self.task, output.maps, self.thresholds, output.categories),
        )

    def _why_emptied(self, output: _Output) -> tuple[str, float] | None:
        """Why the infection map is emptied, and the probability that this is wrong; None where the map is kept."""
        if "infection" not in output.maps:
            return None
        marked = bool(output.maps["infection"].max(initial=0) >= self.thresholds["infection"])
        return self._limits.why_emptied(marked, output.categories)


def _place(model: Path | str | LoadedModel) -> Path | LoadedModel:
    return Path(model).absolute() if isinstance(model, Path | str) else model


def _rebuilt(
    models: Sequence[Path | LoadedModel] | None, threshold: float | None, options: Mapping[str, Any], sha256: str
) -> Segmenter:
    """A segmenter that was pickled, loaded again."""
    segmenter = Segmenter(models, threshold, **options)
    if segmenter.mark.sha256 != sha256:
        named = "the weights that come with cxrseg" if models is None else " and ".join(map(str, models))
        raise ModelFileError(
            f"expected {named} to be those of the pickled Segmenter (SHA-256 {sha256}), got {segmenter.mark.sha256}; "
            f"use the same file here, or make the Segmenter again"
        )
    return segmenter
