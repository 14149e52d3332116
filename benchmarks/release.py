"""Make the weights that come with the package of runs, and print their figures.

    python benchmarks/release.py runs/cxrseg runs/readers-0 runs/readers-1 --dataset covid-qu-ex --films films.csv \
        --not-frontal not-frontal

Of several runs, their model files' mean is made; a run that is named twice counts twice. The metadata are those of the
first, whose recipe must be the shipped one of the same name, but for the precision, which depends on the processor.
Threshold, temperature and the threshold of the task covid19 are fitted on Val; the view head on the films of the CSV
that benchmarks/release_data.py writes and on pictures that are not frontal films. All tasks are evaluated on Val, and
the model file is written with the figures in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.evaluation.calibrate import fit
from cxrseg.evaluation.evaluate import evaluate
from cxrseg.model_file import read_model, write_model
from cxrseg.run_folder import RunFolder
from cxrseg.training.export import COVID_QU_EX_LICENCE, export_model
from cxrseg.training.initial_weights import load_model_files
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe
from cxrseg.training.view_head import fit_views

OF = (
    "Val of COVID-QU-Ex, on which threshold, temperature and covid19_threshold were fitted; means per image; "
    "`cxrseg evaluate`"
)
FILMS = "COVID-QU-Ex, other-hospitals (healthy), second-reader (Train)"
OPACITY_THRESHOLD, NORMAL_THRESHOLD = 0.62, 0.15
"""Chosen with benchmarks/opacity_limits.py on second-reader, nih-rsna, brixia and Val; see docs/results.md."""


def figures(model: Path, val: Dataset) -> dict[str, Any]:
    """What the model card says, by task."""
    found = {task: evaluate(model, val, task=task).summary() for task in ("opacity", "infection", "covid19")}
    covid19 = found["covid19"]
    return {
        "of": OF,
        "opacity": drawn(found["opacity"]),
        "infection": drawn(found["infection"]),
        "lungs": {
            "images": found["opacity"]["lungs"]["images"],
            **means(found["opacity"]["lungs"]["infected_per_image"]),
        },
        "covid19": {
            "images": covid19["infection"]["images"],
            **{
                f"{name}_empty_on_empty_1": value
                for name, value in means(covid19["infection"]["all_images_empty_on_empty_is_1"]).items()
            },
            "sensitivity": rounded(covid19["image_level"]["sensitivity"]["fraction"]),
            "non_covid_marked_over_1_percent": marked(covid19, "Non-COVID"),
            "normal_marked_over_1_percent": marked(covid19, "Normal"),
        },
    }


def drawn(summary: Mapping[str, Any]) -> dict[str, float]:
    """How well the masks of COVID-19 images agree, and how often others are marked."""
    covid = summary["infection"]["by_category"]["COVID-19"]
    return {
        "images": covid["images"],
        **means(covid["infected_per_image"]),
        "rmse": rounded(covid["rmse"]["value"]),
        "normal_marked_over_1_percent": marked(summary, "Normal"),
        "non_covid_marked_over_1_percent": marked(summary, "Non-COVID"),
        "infected_fraction_mean_absolute_error": rounded(
            summary["severity"]["infected"]["mean_absolute_error"]["mean"]
        ),
    }


def means(summary: Mapping[str, Any]) -> dict[str, float]:
    """Dice and IoU."""
    return {name: rounded(summary[name]["mean"]) for name in ("dice", "iou")}


def marked(summary: Mapping[str, Any], category: str) -> float:
    """Fraction of a category's images with more than 1% of the lungs marked."""
    return rounded(summary["infection"]["by_category"][category]["uninfected_marked"]["fraction"])


def write_mean(out: Path, models: Sequence[Path], recipe: Recipe, dataset: Dataset) -> None:
    """Write the mean of model files, with the recipe and the dataset's description of the first."""
    network = build_network(recipe.network.model_copy(update={"pretrained": False}), recipe.data.targets)
    # The exporter folds the batch norms again, so it does not matter of which images their statistics are.
    load_model_files(network, models, [torch.rand(4, 1, *recipe.data.size)])
    export_model(out, network, recipe, dataset, {})
    info, of_first = read_model(out)[1], read_model(models[0])[1]
    write_model(out, out.read_bytes(), dataclasses.replace(info, dataset=of_first.dataset))


def rounded(value: float) -> float:
    """To four digits."""
    return round(value, 4)


def main() -> None:
    """Read the command line, and make the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--not-frontal", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, default=Path("src/cxrseg/weights/cxrseg.onnx"))
    arguments = parser.parse_args()
    folders = [RunFolder(run) for run in arguments.runs]
    recipe = load_recipe(folders[0].recipe)
    if recipe != load_recipe(recipe.name, [f"optimiser.precision={recipe.optimiser.precision}"]):
        parser.error(f"{folders[0].recipe} is not the recipe {recipe.name} that comes with the package")
    val = open_dataset(arguments.dataset).select("val")
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.onnx"
        write_mean(model, [folder.model for folder in folders], recipe, val)
        fit(model, val, model)
        fit_views(model, open_dataset(arguments.films), arguments.not_frontal, model)
        info = read_model(model)[1]
        info = dataclasses.replace(
            info,
            recipe=recipe.model_dump(mode="json"),
            dataset={**info.dataset, "layout": FILMS},
            licence=COVID_QU_EX_LICENCE,
            opacity_threshold=OPACITY_THRESHOLD,
            normal_threshold=NORMAL_THRESHOLD,
        )
        write_model(model, model.read_bytes(), info)
        found = figures(model, val)
        write_model(arguments.out, model.read_bytes(), dataclasses.replace(info, figures={"val": found}))
    print(json.dumps({"threshold": info.threshold, "temperature": info.temperature, **found}, indent=1))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB, covid19_threshold {info.covid19_threshold}")


if __name__ == "__main__":
    main()
