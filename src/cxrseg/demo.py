"""A small complete example: make phantoms, train, evaluate, draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrseg.data.layout import open_dataset
from cxrseg.evaluation.baseline import threshold_baseline
from cxrseg.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from cxrseg.phantom.generate import write_phantoms
from cxrseg.training.fit import Run, train
from cxrseg.training.recipe_file import load_recipe

__all__ = ["Demo", "run_demo"]

PHANTOM_SIZE = 128
"""Side of the demo's phantoms in pixels: the size at which the recipe 'quick' trains."""


@dataclass(frozen=True)
class Demo:
    """The result of the demo.

    Attributes:
        run: the training run.
        evaluation: on the test phantoms.
        baseline: the best threshold on the brightness, and its Dice on the same images.
    """

    run: Run
    evaluation: Evaluation
    baseline: tuple[float, float]

    def table(self) -> list[tuple[str, str]]:
        """The figures as rows of (name, value)."""
        summary = self.evaluation.summary()
        infection: Mapping[str, Any] = summary["infection"]
        infected = infection["infected_per_image"]
        marked = infection["by_category"]["Normal"]["uninfected_marked"]
        return [
            (f"infection Dice, {infected['dice']['n']} infected images", f"{infected['dice']['mean']:.3f}"),
            ("infection IoU", f"{infected['iou']['mean']:.3f}"),
            ("infection RMSE, all images", f"{infection['rmse']['value']:.3f}"),
            ("lungs Dice", f"{summary['lungs']['infected_per_image']['dice']['mean']:.3f}"),
            (f"normal images marked over 1%, of {marked['n']}", f"{marked['fraction']:.0%}"),
            (f"threshold baseline Dice (pixels >= {self.baseline[0]:.2f})", f"{self.baseline[1]:.3f}"),
        ]


def run_demo(out: Path, *, progress: bool = False, on_step: Callable[[str], None] = lambda _: None) -> Demo:
    """Make phantoms, train the recipe 'quick' on them, evaluate it on others, and draw.

    Args:
        out: the output folder; a demo that was interrupted there continues.
        progress: show progress bars.
        on_step: called with a line of text at the start of each step.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM ended the training.
    """
    on_step("making synthetic chest X-rays")
    dataset = open_dataset(write_phantoms(out / "phantoms", size=PHANTOM_SIZE))
    on_step(f"training on {dataset.describe()}")
    run = train(load_recipe("quick"), dataset, out / "run", resume=(out / "run").exists(), progress=progress)
    if run.interrupted:
        raise KeyboardInterrupt("stopped while it trained; run the same command again to continue")
    on_step("evaluating on the test images")
    test = dataset.select("test")
    evaluation = evaluate(run.folder.model, test)
    write_evaluation(evaluation, out / "evaluation")
    baseline = threshold_baseline(dataset.select("train", ["COVID-19"]), test)
    return Demo(run, evaluation, baseline)
