"""Make the weights that come with the package of a finished run, and print their figures.

    python benchmarks/release.py runs/cxrseg --dataset covid-qu-ex --not-frontal FOLDER [-o OUT.onnx]

The view head of the input check is fitted as by `cxrseg fit-check`. Threshold, temperature and the threshold of the
task covid19 are fitted on Val, both tasks are judged there, and the model file is written with the figures in it. Its
recipe must be the shipped one of the same name.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.evaluation.calibrate import fit
from cxrseg.evaluation.evaluate import evaluate
from cxrseg.model_file import read_model, write_model
from cxrseg.run_folder import RunFolder
from cxrseg.training.recipe_file import load_recipe
from cxrseg.training.view_head import fit_views

OF = (
    "Val of COVID-QU-Ex, on which threshold, temperature and covid19_threshold were fitted; means per image; "
    "`cxrseg evaluate`"
)


def figures(model: Path, val: Dataset) -> dict[str, Any]:
    """What the model card says, by task."""
    opacity, covid19 = (evaluate(model, val, task=task).summary() for task in ("opacity", "covid19"))
    infected = opacity["infection"]["by_category"]["COVID-19"]
    by_category = opacity["infection"]["by_category"], covid19["infection"]["by_category"]
    return {
        "of": OF,
        "opacity": {
            "images": infected["images"],
            **means(infected["infected_per_image"]),
            "rmse": rounded(infected["rmse"]["value"]),
            "normal_marked_over_1_percent": marked(by_category[0], "Normal"),
            "infected_fraction_mean_absolute_error": rounded(
                opacity["severity"]["infected"]["mean_absolute_error"]["mean"]
            ),
        },
        "lungs": {"images": opacity["lungs"]["images"], **means(opacity["lungs"]["infected_per_image"])},
        "covid19": {
            "images": covid19["infection"]["images"],
            **{
                f"{name}_empty_on_empty_1": value
                for name, value in means(covid19["infection"]["all_images_empty_on_empty_is_1"]).items()
            },
            "sensitivity": rounded(covid19["image_level"]["sensitivity"]["fraction"]),
            "non_covid_marked_over_1_percent": marked(by_category[1], "Non-COVID"),
            "normal_marked_over_1_percent": marked(by_category[1], "Normal"),
        },
    }


def means(summary: Mapping[str, Any]) -> dict[str, float]:
    """Dice and IoU."""
    return {name: rounded(summary[name]["mean"]) for name in ("dice", "iou")}


def marked(by_category: Mapping[str, Any], category: str) -> float:
    """Fraction of a category's images with more than 1% of the lungs marked."""
    return rounded(by_category[category]["uninfected_marked"]["fraction"])


def rounded(value: float) -> float:
    """To four digits."""
    return round(value, 4)


def main() -> None:
    """Read the command line, and make the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--not-frontal", type=Path, required=True, help="as for 'cxrseg fit-check'")
    parser.add_argument("-o", "--out", type=Path, default=Path("src/cxrseg/weights/cxrseg.onnx"))
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run)
    recipe = load_recipe(folder.recipe)
    if json.loads(folder.manifest.read_text(encoding="utf-8"))["ended"] != "complete":
        parser.error(f"{arguments.run} is not finished; go on with it with 'cxrseg train --resume'")
    if recipe != load_recipe(recipe.name):
        parser.error(f"{folder.recipe} is not the recipe {recipe.name} that comes with the package")
    dataset = open_dataset(arguments.dataset)
    val = dataset.select("val")
    with tempfile.TemporaryDirectory() as scratch:
        fitted = Path(scratch) / "fitted.onnx"
        fit_views(folder.model, dataset, arguments.not_frontal, fitted)
        fit(fitted, val, fitted)
        info = read_model(fitted)[1]
        found = figures(fitted, val)
        write_model(arguments.out, fitted.read_bytes(), dataclasses.replace(info, figures={"val": found}))
    print(json.dumps({"threshold": info.threshold, "temperature": info.temperature, **found}, indent=1))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB, covid19_threshold {info.covid19_threshold}")


if __name__ == "__main__":
    main()
