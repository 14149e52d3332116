"""Radiograph to prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import PHANTOM_LAYOUT
from cxrseg.errors import ModelFileError
from cxrseg.inference.engine import Engine, Precision, Result
from cxrseg.inference.input_check import DOUBTFUL, DOUBTFUL_GAIN, INVERTED, Verdict, judge_lungs, judge_pixels
from cxrseg.inference.prediction import ModelMark, Prediction, dice_confidence
from cxrseg.io.radiograph import Radiograph
from cxrseg.model_file import ModelInfo, shipped_model
from cxrseg.preprocessing import to_input, to_source

__all__ = ["TASKS", "Prediction", "Segmenter"]

TASKS = ("opacity", "covid19")
"""What can be asked for. 'opacity' marks infection wherever it is seen. 'covid19' is the definition of COVID-QU-Ex: the
map is emptied where the classification head's probability of COVID-19 is below the model file's `covid19_threshold`."""

SYNTHETIC = "the model has learned from synthetic X-rays alone: its masks mean nothing on a patient's"
"""Stands on every prediction of a model that was trained on phantoms."""

_LUNGS_THRESHOLD = 0.5

_Pixels = npt.NDArray[np.float32]


class _Found(NamedTuple):
    """Channel name to (H, W) probabilities, and category name to probability."""

    maps: dict[str, _Pixels]
    categories: dict[str, float] | None


_NOTHING = _Found({}, None)


class Segmenter:
    """Loaded models: load once, call many times, from many threads.

    Args:
        models: a model file, or several: each channel is the mean of the models that have it. None takes the weights
            that come with cxrseg.
        threshold: probability from which a pixel is infection; None takes the model files' mean.
        tta: test-time augmentation: average with the result on the image mirrored left to right.
        precision: 'auto' takes bfloat16 where the processor has it, 'float32' never does.
        force: go on where the input check would refuse, and warn instead.
        input_check: False takes every image as it is: nothing is refused, turned or warned of.
        task: 'opacity', or 'covid19' where the model has a head that judges the whole image.
        device: 'cpu', or a GPU: 'gpu' or 'gpu:N'.
        streams: how many images the processor works on at the same time; more gives more images a second, one the
            shortest time for a single image. 0 takes a single thread, for where other processes have the rest.

    Raises:
        ModelFileError: a file cannot be used, lacks what the task needs, or the threshold is not in (0, 1).
        MissingExtraError: a GPU is asked for, and PyTorch is not installed or sees none.
    """

    def __init__(
        self,
        models: Path | str | Sequence[Path | str] | None = None,
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
        models = shipped_model() if models is None else models
        paths = [models] if isinstance(models, Path | str) else list(models)
        if not paths:
            raise ModelFileError("expected at least one model file, got none")
        self.engines = [Engine(path, precision=precision, device=device, streams=streams) for path in paths]
        self._tta, self._force, self._input_check = tta, force, input_check
        self._covid19_threshold = _covid19_threshold(task, paths, [engine.info for engine in self.engines])
        given = sum(engine.info.threshold for engine in self.engines) / len(self.engines)
        infection = given if threshold is None else threshold
        if not 0 < infection < 1:
            raise ModelFileError(f"expected a threshold between 0 and 1, got {infection:g}")
        channels = dict.fromkeys(channel for engine in self.engines for channel in engine.info.channels)
        self.thresholds = {channel: infection if channel == "infection" else _LUNGS_THRESHOLD for channel in channels}

        synthetic = any(engine.info.dataset.get("layout") == PHANTOM_LAYOUT for engine in self.engines)
        self._standing = (SYNTHETIC,) if synthetic else ()

    @property
    def info(self) -> ModelInfo:
        """What the first model file says about itself."""
        return self.engines[0].info

    @property
    def mark(self) -> ModelMark:
        """Which weights these are."""
        infos = [engine.info for engine in self.engines]
        return ModelMark(
            "+".join(info.name for info in infos),
            "+".join(dict.fromkeys(info.version for info in infos)),
            "+".join(engine.sha256 for engine in self.engines),
        )

    def segment(self, radiograph: Radiograph) -> Prediction:
        """Find infection and lungs on one radiograph.

        Args:
            radiograph: of any size.

        Returns:
            Probabilities on the radiograph's own pixels; or, where the input check refuses it, the reason and no
            probabilities.
        """
        if not self._input_check:
            return self._prediction(radiograph, Verdict(), self._find(radiograph.pixels))
        verdict = judge_pixels(radiograph)
        if verdict.reason and not self._force:
            return self._prediction(radiograph, verdict, _NOTHING)
        found, later = self._judged(radiograph.pixels)
        if verdict.inverse_gain is not None and "lungs" in found.maps:
            found, later = self._upright(radiograph.pixels, verdict.inverse_gain, found, later)
        verdict = verdict.then(later)
        return self._prediction(radiograph, verdict, _NOTHING if verdict.reason and not self._force else found)

    def _prediction(self, radiograph: Radiograph, verdict: Verdict, found: _Found) -> Prediction:
        refused = bool(verdict.reason) and not self._force
        forced = (f"forced: {verdict.reason}",) if verdict.reason and self._force else ()
        maps, emptied = self._kept(found)
        return Prediction(
            maps,
            self.thresholds,
            status="refused" if refused else "ok",
            reason=verdict.reason if refused else "",
            warnings=self._standing + radiograph.warnings + forced + verdict.warnings + emptied,
            steps=radiograph.steps,
            spacing_mm=radiograph.spacing_mm,
            source=radiograph.source,
            model=self.mark,
            categories=found.categories,
            emptied=bool(emptied),
        )

    def _kept(self, found: _Found) -> tuple[dict[str, _Pixels], tuple[str, ...]]:
        """The maps, the infection's empty where the whole image does not show what is asked for, and the warning."""
        limit = self._covid19_threshold
        if limit is None or found.categories is None or "infection" not in found.maps:
            return found.maps, ()
        seen = found.categories["COVID-19"]
        if seen >= limit:
            return found.maps, ()
        why = f"the infection map was emptied: the image as a whole shows COVID-19 with a probability of {seen:.2f}"
        return found.maps | {"infection": np.zeros_like(found.maps["infection"])}, (f"{why}, below {limit:.2f}",)

    def _upright(self, pixels: _Pixels, gain: float, found: _Found, verdict: Verdict) -> tuple[_Found, Verdict]:
        """What was found, or what is found on the inverse where the model is surer of the lungs there."""
        turned, turned_verdict = self._judged(1 - pixels)
        sure = [dice_confidence(one.maps["lungs"], self.thresholds["lungs"]) for one in (found, turned)]
        if sure[1] - sure[0] > gain and not turned_verdict.reason:
            return turned, Verdict(warnings=(INVERTED,)).then(turned_verdict)
        return found, verdict if gain > DOUBTFUL_GAIN else verdict.then(Verdict(warnings=(DOUBTFUL,)))

    def _judged(self, pixels: _Pixels) -> tuple[_Found, Verdict]:
        found = self._find(pixels)
        if "lungs" not in found.maps:
            return found, Verdict(warnings=("the model finds no lungs, so fractions of the lungs are not known",))
        return found, judge_lungs(found.maps["lungs"], pixels, self.thresholds["lungs"])

    def _find(self, pixels: _Pixels) -> _Found:
        """Run the models on (H, W) float32 in [0, 1], whatever it shows, and average what they find."""
        found: dict[str, list[_Pixels]] = {channel: [] for channel in self.thresholds}
        judged: list[dict[str, float]] = []
        for engine in self.engines:
            maps, categories = self._run(engine, to_input(pixels, engine.info.size))
            for channel, map_ in zip(engine.info.channels, maps, strict=True):
                found[channel].append(to_source(map_, (pixels.shape[0], pixels.shape[1])))
            if categories is not None:
                judged.append(dict(zip(engine.info.categories, categories.tolist(), strict=True)))
        return _Found(
            {channel: maps[0] if len(maps) == 1 else np.mean(maps, axis=0) for channel, maps in found.items()},
            {name: sum(one[name] for one in judged) / len(judged) for name in judged[0]} if judged else None,
        )

    def _run(self, engine: Engine, pixels: _Pixels) -> Result:
        """What one model gives for one image: (C, h, w) maps and (K) categories."""
        if not self._tta:
            maps, categories = engine.run(pixels[None])
            return Result(maps[0], None if categories is None else categories[0])
        (straight, mirrored), categories = engine.run(np.stack([pixels, pixels[:, ::-1]]))
        mean: _Pixels = (straight + mirrored[:, :, ::-1]) / 2
        return Result(mean, None if categories is None else categories.mean(0))


def _covid19_threshold(task: str, paths: Sequence[Path | str], infos: Sequence[ModelInfo]) -> float | None:
    """The mean of the models that judge the whole image; None where the task keeps every map."""
    if task not in TASKS:
        raise ModelFileError(f"expected the task {' or '.join(TASKS)}, got {task!r}")
    if task == "opacity":
        return None
    limits = [info.covid19_threshold for info in infos if info.categories]
    if not limits:
        raise ModelFileError(
            f"the task covid19 needs a model with an image-level head, and {paths[0]} has none: it marks opacities, "
            f"and does not say whether they are COVID-19. Use the task opacity"
        )
    return sum(limits) / len(limits)
