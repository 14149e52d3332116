"""cxrseg: segment and measure COVID-19 and pneumonia infection on chest X-rays. Research use only, not for diagnosis.

The public names below are imported on first use; `import cxrseg` loads neither torch nor OpenVINO.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cxrseg._version import __version__
from cxrseg.loading import LOADING

if TYPE_CHECKING:
    from cxrseg.data.layout import open_dataset
    from cxrseg.data.sample import Dataset, Sample
    from cxrseg.errors import CxrsegError
    from cxrseg.evaluation.compare import Comparison, compare
    from cxrseg.evaluation.evaluate import Evaluation, evaluate, write_evaluation
    from cxrseg.inference.files import BatchResult, predict_files
    from cxrseg.inference.options import Options
    from cxrseg.inference.prediction import Prediction
    from cxrseg.inference.segment import segment
    from cxrseg.inference.segmenter import Segmenter
    from cxrseg.io.radiograph import Radiograph
    from cxrseg.io.read import read_radiograph
    from cxrseg.phantom.generate import make_phantom, write_phantoms
    from cxrseg.training.fit import Run, train
    from cxrseg.training.recipe import Recipe
    from cxrseg.training.recipe_file import load_recipe

_MODULES = {
    "BatchResult": "inference.files",
    "Comparison": "evaluation.compare",
    "CxrsegError": "errors",
    "Dataset": "data.sample",
    "Evaluation": "evaluation.evaluate",
    "Options": "inference.options",
    "Prediction": "inference.prediction",
    "Radiograph": "io.radiograph",
    "Recipe": "training.recipe",
    "Run": "training.fit",
    "Sample": "data.sample",
    "Segmenter": "inference.segmenter",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.evaluate",
    "load_recipe": "training.recipe_file",
    "make_phantom": "phantom.generate",
    "open_dataset": "data.layout",
    "predict_files": "inference.files",
    "read_radiograph": "io.read",
    "segment": "inference.segment",
    "train": "training.fit",
    "write_evaluation": "evaluation.evaluate",
    "write_phantoms": "phantom.generate",
}
"""Public name to the module that defines it."""

__all__ = [
    "BatchResult",
    "Comparison",
    "CxrsegError",
    "Dataset",
    "Evaluation",
    "Options",
    "Prediction",
    "Radiograph",
    "Recipe",
    "Run",
    "Sample",
    "Segmenter",
    "__version__",
    "compare",
    "evaluate",
    "load_recipe",
    "make_phantom",
    "open_dataset",
    "predict_files",
    "read_radiograph",
    "segment",
    "train",
    "write_evaluation",
    "write_phantoms",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cxrseg' has no attribute {name!r}")
    with LOADING:
        return getattr(import_module(f"cxrseg.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
