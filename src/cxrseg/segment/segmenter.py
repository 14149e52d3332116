"""Radiograph to prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import PHANTOM_LAYOUT
from cxrseg.errors import ModelFileError
from cxrseg.io.radiograph import Radiograph
from cxrseg.model_file import ModelInfo
from cxrseg.preprocess import to_input, to_source
from cxrseg.segment.engine import Engine, Precision
from cxrseg.segment.gate import DOUBTFUL, DOUBTFUL_GAIN, TURNED, Verdict, judge_lungs, judge_pixels
from cxrseg.segment.prediction import ModelMark, Prediction, dice_confidence

__all__ = ["TASKS", "Prediction", "Segmenter"]

TASKS = ("opacity", "covid19")
"""What can be asked for: where the lungs are opaque; or, besides, whether the image as a whole looks like COVID-19."""

SYNTHETIC = "the model has learned from synthetic X-rays alone: its masks mean nothing on a patient's"
"""Stands on every prediction of a model that was trained on phantoms."""

_LUNGS_THRESHOLD = 0.5

_Pixels = npt.NDArray[np.float32]


class Segmenter:
    """Loaded models: load once, call many times, from many threads.

    Args:
        models: a model file, or several: each channel is the mean of the models that have it.
        threshold: probability from which a pixel is infection; None takes the model files' mean.
        tta: test-time augmentation: average with the result on the image mirrored left to right.
        precision: 'auto' takes bfloat16 where the processor has it, 'float32' never does.
        force: go on where the gate would refuse, and warn instead.
        gate: False takes every image as it is: nothing is refused, turned or warned of.
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
        models: Path | str | Sequence[Path | str],
        threshold: float | None = None,
        *,
        tta: bool = False,
        precision: Precision = "auto",
        force: bool = False,
        gate: bool = True,
        task: str = "opacity",
        device: str = "cpu",
        streams: int = 1,
    ) -> None:
        paths = [models] if isinstance(models, Path | str) else list(models)
        if not paths:
            raise ModelFileError("expected at least one model file, got none")
        self.engines = [Engine(path, precision=precision, device=device, streams=streams) for path in paths]
        self._tta, self._force, self._gate = tta, force, gate
        _check_task(task, paths)
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
            Probabilities on the radiograph's own pixels; or, where the gate refuses it, the reason and no
            probabilities.
        """
        if not self._gate:
            return self._prediction(radiograph, Verdict(), self.probabilities(radiograph.pixels))
        verdict = judge_pixels(radiograph)
        if verdict.reason and not self._force:
            return self._prediction(radiograph, verdict, {})
        found, later = self._judged(radiograph.pixels)
        if verdict.inverse_gain is not None and "lungs" in found:
            found, later = self._upright(radiograph.pixels, verdict.inverse_gain, found, later)
        verdict = verdict.then(later)
        return self._prediction(radiograph, verdict, {} if verdict.reason and not self._force else found)

    def _prediction(self, radiograph: Radiograph, verdict: Verdict, found: dict[str, _Pixels]) -> Prediction:
        refused = bool(verdict.reason) and not self._force
        forced = (f"forced: {verdict.reason}",) if verdict.reason and self._force else ()
        return Prediction(
            found,
            self.thresholds,
            status="refused" if refused else "ok",
            reason=verdict.reason if refused else "",
            warnings=self._standing + forced + verdict.warnings,
            spacing_mm=radiograph.spacing_mm,
            source=radiograph.source,
            model=self.mark,
        )

    def _upright(
        self, pixels: _Pixels, gain: float, found: dict[str, _Pixels], verdict: Verdict
    ) -> tuple[dict[str, _Pixels], Verdict]:
        """What was found, or what is found on the inverse where the model is surer of the lungs there."""
        turned, turned_verdict = self._judged(1 - pixels)
        sure = [dice_confidence(maps["lungs"], self.thresholds["lungs"]) for maps in (found, turned)]
        if sure[1] - sure[0] > gain and not turned_verdict.reason:
            return turned, Verdict(warnings=(TURNED,)).then(turned_verdict)
        return found, verdict if gain > DOUBTFUL_GAIN else verdict.then(Verdict(warnings=(DOUBTFUL,)))

    def _judged(self, pixels: _Pixels) -> tuple[dict[str, _Pixels], Verdict]:
        found = self.probabilities(pixels)
        if "lungs" not in found:
            return found, Verdict(warnings=("the model finds no lungs, so shares of the lungs are not known",))
        return found, judge_lungs(found["lungs"], pixels, self.thresholds["lungs"])

    def probabilities(self, pixels: _Pixels) -> dict[str, _Pixels]:
        """Run the models, whatever the pixels show.

        Args:
            pixels: (H, W) float32 in [0, 1], bright is dense.

        Returns:
            Channel name to (H, W) float32 in [0, 1], averaged over the models.
        """
        found: dict[str, list[_Pixels]] = {channel: [] for channel in self.thresholds}
        for engine in self.engines:
            given = to_input(pixels, engine.info.size)
            for channel, map_ in zip(engine.info.channels, self._run(engine, given), strict=True):
                found[channel].append(to_source(map_, (pixels.shape[0], pixels.shape[1])))
        return {channel: maps[0] if len(maps) == 1 else np.mean(maps, axis=0) for channel, maps in found.items()}

    def _run(self, engine: Engine, pixels: _Pixels) -> _Pixels:
        """(C, h, w) float32 in [0, 1]."""
        if not self._tta:
            return np.asarray(engine.run(pixels[None])[0])
        straight, mirrored = engine.run(np.stack([pixels, pixels[:, ::-1]]))
        mean: _Pixels = (straight + mirrored[:, :, ::-1]) / 2
        return mean


def _check_task(task: str, paths: Sequence[Path | str]) -> None:
    if task not in TASKS:
        raise ModelFileError(f"expected the task {' or '.join(TASKS)}, got {task!r}")
    if task == "covid19":
        raise ModelFileError(
            f"the task covid19 needs a model with an image-level head, and {paths[0]} has none: it marks opacities, "
            f"and does not say whether they are COVID-19. Use the task opacity"
        )
