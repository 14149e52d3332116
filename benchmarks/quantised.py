"""What int8 and smaller inputs gain in speed and cost in Dice, against float32 and bfloat16, in one run.

    python benchmarks/quantised.py MODEL.onnx --dataset COVID-QU-EX [--size 224 --size 192 --weights RUN]

int8 is that of cxrseg.inference.int8: ranges are measured on images of the train split, and no weight is trained. A
smaller input is the same network with the same weights, exported again, which needs
--weights (the run folder or a checkpoint); it was not trained at that size. Dice is the mean over the images of the
evaluated split with infection, at the map's threshold, on the images' own pixels, of the infection map and, where there
is one, of the opacity map, which is not emptied here; false alarms are the fraction of those without infection that
have more than 1% of their pixels marked in the infection map. Speed is of the network alone, on all processors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset, Sample
from cxrseg.inference.int8 import measure_ranges, quantised
from cxrseg.inference.work import processors
from cxrseg.metrics.segmentation import MARKED_LIMIT, count
from cxrseg.model_file import ModelInfo, load_openvino, read_model
from cxrseg.preprocessing import content_box, to_input, to_source
from cxrseg.training.checkpoints import load_weights
from cxrseg.training.export import export_model
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe

Pixels = npt.NDArray[np.float32]


class Way(NamedTuple):
    """A compiled graph, and the (height, width) that it takes."""

    name: str
    compiled: Any
    size: tuple[int, int]


def ways(model: Path, calibration: list[Pixels], streams: int) -> Iterator[Way]:
    """The model file in float32, in bfloat16 where the processor has it, and in int8."""
    openvino = load_openvino()
    core = openvino.Core()
    graph, info = read_model(model)
    size = f"{info.size[1]}x{info.size[0]}"

    def compiled(graph: Any, precision: str) -> Any:
        settings = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": str(streams)}
        return core.compile_model(graph, "CPU", settings)

    yield Way(f"float32 {size}", compiled(graph, "f32"), info.size)
    fast = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if fast:
        yield Way(f"bfloat16 {size}", compiled(graph, "bf16"), info.size)
    inputs = [to_input(pixels[content_box(pixels)], info.size) for pixels in calibration]
    yield Way(f"int8 {size}", compiled(quantised(graph, measure_ranges(graph, inputs)), "f32"), info.size)


def smaller(model: Path, weights: Path, side: int, path: Path) -> Path:
    """The model file's network and weights for a smaller input, as a model file."""
    info = read_model(model)[1]
    recipe = Recipe.model_validate(dict(info.recipe))
    recipe = Recipe.model_validate(recipe.model_dump() | {"data": recipe.data.model_dump() | {"size": side}})
    network = build_network(recipe.network, recipe.data.targets)
    load_weights(network, weights)
    export_model(path, network, recipe, Dataset(weights, "", ()), {})
    return path


def judged(way: Way, info: ModelInfo, samples: list[Sample]) -> tuple[dict[str, float], float]:
    """Mean Dice by map where there is infection, and the fraction of false alarms where there is none."""
    request = way.compiled.create_infer_request()
    thresholds = {"infection": info.threshold, "opacity": info.opacity_threshold}
    scores: dict[str, list[float]] = {name: [] for name in thresholds if name in info.channels}
    alarms = []
    for sample in samples:
        pixels, truth = sample.read_image().pixels, sample.read_mask("infection")
        box = content_box(pixels)
        logits = request.infer([to_input(pixels[box], way.size)[None, None]])[0][0]
        for name, values in scores.items():
            probability = 1 / (1 + np.exp(-logits[info.channels.index(name)] / info.temperature))
            found = count(to_source(probability, truth.shape, box) >= thresholds[name], truth)
            if truth.any():
                values.append(found.dice)
            elif name == "infection":
                alarms.append(found.fp > MARKED_LIMIT * truth.size)
    dice = {name: statistics.fmean(values) if values else np.nan for name, values in scores.items()}
    return dice, statistics.fmean(alarms) if alarms else np.nan


def rates(made: list[Way], rounds: int) -> dict[str, list[float]]:
    """Images a second of each way, in rounds that alternate."""
    threads, found = processors(), {way.name: [] for way in made}
    for number in range(rounds + 1):
        for way in made:
            requests = [way.compiled.create_infer_request() for _ in range(threads)]
            image = np.random.default_rng(0).random((1, 1, *way.size), dtype=np.float32)
            with ThreadPoolExecutor(threads) as pool:
                start = time.perf_counter()
                list(pool.map(_infer, requests, [image] * threads))
            if number:  # the first round warms up
                found[way.name].append(32 * threads / (time.perf_counter() - start))
    return found


def _infer(request: Any, image: Pixels) -> None:
    for _ in range(32):
        request.infer([image])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--count", type=int, help="judge on so many images; all by default")
    parser.add_argument("--calibrate", type=int, default=300, help="images of the train split")
    parser.add_argument("--weights", type=Path, help="run folder or checkpoint of the model, for --size")
    parser.add_argument("--size", type=int, action="append", default=[], help="side of a smaller input")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    dataset, info = open_dataset(given.dataset), read_model(given.model)[1]
    samples = _spread(dataset.select(given.split).samples, given.count)
    train = _spread(dataset.select("train").samples, given.calibrate)
    calibration = [sample.read_image().pixels for sample in train]
    streams = processors()
    with tempfile.TemporaryDirectory() as scratch:
        models = [given.model]
        if given.size and given.weights is None:
            parser.error("--size needs --weights")
        models += [smaller(given.model, given.weights, side, Path(scratch) / f"{side}.onnx") for side in given.size]
        made = [way for model in models for way in ways(model, calibration, streams)]
    speed = rates(made, given.rounds)
    print(f"{len(samples)} images of {given.split}; calibrated on {len(calibration)} of train; {streams} processors")
    print(f"{'':<20}{'images/s':>9}  Dice, and what is lost of it; alarms; rounds")
    base: dict[str, float] = {}
    for way in made:
        dice, alarms = judged(way, info, samples)
        base = base or dice
        told = "; ".join(f"{name} {value:.4f}, {base[name] - value:+.4f}" for name, value in dice.items())
        rounds = ", ".join(f"{rate:.0f}" for rate in speed[way.name])
        print(f"{way.name:<20}{max(speed[way.name]):>9.1f}  {told}; {alarms:.1%}; {rounds}")


def _spread(samples: Sequence[Sample], most: int | None) -> list[Sample]:
    """So many of those with infection masks, from first to last."""
    known = [sample for sample in samples if "infection" in sample.masks]
    places = np.linspace(0, len(known) - 1, min(most or len(known), len(known))).astype(int)
    return [known[place] for place in places]


if __name__ == "__main__":
    main()
