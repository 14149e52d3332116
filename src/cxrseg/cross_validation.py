"""Cross-validation: a model for each fold, and figures of all images by the model that did not learn from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.data.groups import independent_groups
from cxrseg.data.sample import Dataset
from cxrseg.data.splits import in_folds
from cxrseg.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from cxrseg.run_folder import RunFolder
from cxrseg.training.fit import train
from cxrseg.training.plan import Plan
from cxrseg.training.recipe import Recipe

__all__ = ["CrossValidation", "cross_validate"]


@dataclass(frozen=True)
class CrossValidation:
    """The result of a cross-validation.

    Attributes:
        runs: the run folder of each fold.
        evaluation: of all images, each by the model that did not learn from it; None where Ctrl-C or SIGTERM ended it
            before.
    """

    runs: Sequence[RunFolder]
    evaluation: Evaluation | None


def cross_validate(
    plan: Plan,
    out: Path,
    *,
    resume: bool = False,
    on_fold: Callable[[int, Dataset], None] = lambda *_: None,
    **options: Any,
) -> CrossValidation:
    """Train a model for each fold in `out`/fold-K, and evaluate it on the fold; figures go to `out`/evaluation.

    All models have the threshold 0.5, so no figure was fitted. The best epoch of a fold was chosen on the images that
    it is evaluated on, as in any run: figures are slightly too good where runs have many epochs.

    Args:
        plan: recipe, dataset and the number of folds.
        out: the output folder.
        resume: leave out folds that are complete, and continue the one that is not.
        on_fold: called before each fold with its number, from 1, and its dataset.
        options: of `cxrseg.training.fit.train`.

    Raises:
        DatasetError: too few images for the folds.
        CxrsegError: as `train` and `evaluate`.
    """
    assert plan.folds is not None
    divided = in_folds(plan.dataset, plan.folds, plan.recipe.seed)
    runs: list[RunFolder] = []
    evaluations: list[Evaluation] = []
    for number, dataset in enumerate(divided, 1):
        runs.append(RunFolder(out / f"fold-{number}"))
        on_fold(number, dataset)
        if not _trained(plan.recipe, dataset, runs[-1], resume, options):
            return CrossValidation(runs, None)
        evaluations.append(evaluate(runs[-1].model, dataset.select("val")))
    pooled = _pooled(evaluations, plan, out)
    write_evaluation(pooled, out / "evaluation")
    return CrossValidation(runs, pooled)


def _trained(recipe: Recipe, dataset: Dataset, run: RunFolder, resume: bool, options: dict[str, Any]) -> bool:
    """Train a fold, or find it trained; False where Ctrl-C or SIGTERM ended it."""
    begun = resume and run.recipe.exists()
    if begun and run.manifest.exists() and json.loads(run.manifest.read_text(encoding="utf-8"))["ended"] == "complete":
        return True
    return not train(recipe, dataset, run.root, resume=begun, **options).interrupted


def _pooled(evaluations: Sequence[Evaluation], plan: Plan, out: Path) -> Evaluation:
    """One evaluation of all images, whose intervals resample groups over all folds."""
    images = [image for evaluation in evaluations for image in evaluation.images]
    groups = independent_groups([image.sample for image in images])
    if groups is not None:
        images = [replace(image, group=group) for image, group in zip(images, groups, strict=True)]
    about = {
        "folder": str(out),
        "models": [evaluation.sha256 for evaluation in evaluations],
        "options": {"folds": plan.folds},
        "versions": {"cxrseg": __version__},
    }
    used = replace(plan.dataset, samples=tuple(image.sample for image in images))
    return Evaluation(None, used, evaluations[0].thresholds, images, evaluations[0].task, about)
