"""Files per second from image files to mask files: `cxrseg predict` against PyTorch, ONNX Runtime and the machine.

    python benchmarks/prediction.py MODEL.onnx --dataset COVID-QU-EX [--weights RUN] [--count 2000] [--rounds 3]

Every way gets the same PNG files and writes the same infection mask PNG. 'PyTorch, plain loop' is what most published
scripts do: open, resize, run the eager float32 network on one image, resize, threshold, save; 'ONNX Runtime, plain
loop' is that with the model file. Rounds alternate between the ways, so that a machine that slows down slows all of
them; the table gives each way's best round and all of them. With --weights, a run folder or checkpoint, PyTorch's
network has the trained weights, and the masks are compared; without, it has random ones, which take as long.

The fraction of the machine that the network reaches is its arithmetic (counted by PyTorch) times images a second,
divided by the rate of a large matrix product in the same precision, measured here too.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from cxrseg.data.layout import open_dataset
from cxrseg.inference.engine import Engine, Precision
from cxrseg.inference.files import Options, predict_files
from cxrseg.inference.work import processors
from cxrseg.io.masks import read_mask
from cxrseg.metrics.segmentation import count
from cxrseg.model_file import ModelInfo, read_model
from cxrseg.training.checkpoints import load_weights
from cxrseg.training.networks import Network, build_network
from cxrseg.training.recipe import Recipe

Pixels = npt.NDArray[np.float32]
Run = Callable[[Pixels], Pixels]
"""(1, 1, H, W) pixels to (1, C, H, W) logits."""
Way = Callable[[Path, Path], None]
"""From a folder of images to a folder of masks."""

COMMAND, EAGER = "cxrseg predict, the command", "PyTorch eager, plain loop"


def network_of(info: ModelInfo, weights: Path | None) -> Network:
    """The network that the model file was exported from."""
    network = build_network(Recipe.model_validate(dict(info.recipe)).network, info.channels).eval()
    if weights is not None:
        load_weights(network, weights)
    return network


def eager_run(network: Network) -> Run:
    def run(pixels: Pixels) -> Pixels:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)).maps.numpy()

    return run


def onnx_run(model: Path) -> Run:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def plain_loop(run: Run, info: ModelInfo) -> Way:
    """Open, resize, run, threshold, save, one image after the other."""
    place, (height, width) = info.channels.index("infection"), info.size

    def way(images: Path, out: Path) -> None:
        for file in sorted(images.iterdir()):
            image = Image.open(file).convert("L")
            pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
            logits = run(pixels[None, None])[0, place]
            found = Image.fromarray(1 / (1 + np.exp(-logits / info.temperature)))
            mask = np.asarray(found.resize(image.size, Image.Resampling.BILINEAR)) >= info.threshold
            Image.fromarray(np.uint8(255) * mask).save(out / f"{file.stem}_infection.png")

    return way


def command(model: Path, precision: Precision) -> Way:
    """`cxrseg predict` as a user calls it, with its start; it uses processes where there are many files."""
    return lambda images, out: _predict(model, images, out, precision)


def called(model: Path, precision: Precision) -> Way:
    """`predict_files` in threads, without a start, since the plain loops are measured without theirs."""
    options = Options((model,), "infection", precision=precision, force=True)  # the map that the peers threshold
    return lambda images, out: (predict_files(images, out, options), None)[1]


def race(ways: dict[str, Way], images: Path, scratch: Path, rounds: int) -> dict[str, list[float]]:
    """Files a second of each way in each round."""
    count = len(list(images.iterdir()))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            out = scratch / f"{name} {number}"
            out.mkdir()
            seconds = _seconds(lambda: way(images, out))  # noqa: B023
            if number:  # the first round warms up
                rates[name].append(count / seconds)
    return rates


def agreement(scratch: Path) -> Iterator[tuple[str, float]]:
    """(way, mean Dice of its masks with PyTorch's)."""
    folders = {path.name.removesuffix(" 0"): path for path in sorted(scratch.glob("* 0"))}
    for name, folder in folders.items():
        masks = [(read_mask(folder / path.name), read_mask(path)) for path in folders[EAGER].iterdir()]
        values = [count(ours, theirs).dice for ours, theirs in masks]
        yield name, statistics.fmean(1.0 if np.isnan(value) else value for value in values)


def product_rate(kind: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of several."""
    one, other = (torch.randn(2048, 2048).to(kind) for _ in range(2))
    return 2 * 2048**3 / min(_seconds(lambda: one @ other) for _ in range(8))


def inference_rate(run: Callable[[], object], threads: int) -> float:
    """Images a second of the network alone, called from so many threads, the best of several."""
    count = 32 * threads
    with ThreadPoolExecutor(threads) as pool:
        return count / min(_seconds(lambda: list(pool.map(lambda _: run(), range(count)))) for _ in range(4))


def inference_rates(model: Path, info: ModelInfo, network: Network) -> Iterator[tuple[str, str, float]]:
    """(engine, what it computes with, images a second) of the network alone."""
    image = np.random.default_rng(0).random((1, 1, *info.size), dtype=np.float32)
    eager, session = eager_run(network), onnx_run(model)
    yield "PyTorch eager", "float32", inference_rate(lambda: eager(image), 1)
    yield "ONNX Runtime", "float32", inference_rate(lambda: session(image), 1)
    for precision in ("float32", "auto"):
        engine = Engine(model, precision=precision, streams=processors())
        rate = inference_rate(lambda: engine.run(image[0]), processors())  # noqa: B023
        yield "cxrseg", engine.precision, rate


def cold_start(model: Path, image: Path) -> list[float]:
    """Seconds from calling the command to its end for one file; the model has been compiled once before."""
    seconds = []
    for _ in range(11):
        with tempfile.TemporaryDirectory() as out:
            seconds.append(_seconds(lambda: _predict(model, image, Path(out))))
    return seconds[1:]


def _predict(model: Path, source: Path, out: Path, precision: Precision = "auto") -> None:
    places = ["-i", str(source), "-o", str(out), "-m", str(model), "--precision", precision]
    subprocess.run(
        [sys.executable, "-m", "cxrseg", "predict", *places, "-q", "--force", "--task", "infection"], check=True
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _linked(dataset: Path, split: str, count: int, folder: Path) -> Path:
    """A folder of links to so many of the dataset's images, spread over it, and all of them in the page cache."""
    samples = open_dataset(dataset).select(split).samples
    folder.mkdir()
    for place in np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int):
        image = samples[place].image.resolve()
        (folder / f"{place:05}.png").symlink_to(image)
        image.read_bytes()
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--weights", type=Path, help="run folder or checkpoint of the model, for PyTorch")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    info = read_model(given.model)[1]
    network = network_of(info, given.weights)
    ways = {
        COMMAND: command(given.model, "auto"),
        "  in float32": command(given.model, "float32"),
        "in threads, called": called(given.model, "auto"),
        "  in float32, called": called(given.model, "float32"),
        EAGER: plain_loop(eager_run(network), info),
        "ONNX Runtime, plain loop": plain_loop(onnx_run(given.model), info),
    }
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = _linked(given.dataset, given.split, given.count, scratch / "in")
        count = len(list(images.iterdir()))
        print(f"{count} PNG files to mask PNG files; {processors()} processors, {torch.get_num_threads()} in PyTorch")
        _print_race(race(ways, images, scratch, given.rounds))
        if given.weights is not None:
            print("\nmean Dice with PyTorch's masks")
            for name, value in agreement(scratch):
                print(f"{name:<28}{value:>9.4f}")
        start = cold_start(given.model, next(images.iterdir()))
    _print_inference(given.model, info, network)
    print(f"\none file, from a cold start of the command: best {min(start):.2f} s, {_listed(start)}")


def _print_race(rates: dict[str, list[float]]) -> None:
    base = max(rates[EAGER])
    print(f"{'':<28}{'files/s':>9}{'of PyTorch':>12}  rounds")
    for name, found in rates.items():
        print(f"{name:<28}{max(found):>9.1f}{max(found) / base:>11.1f}x  {_listed(found)}")


def _print_inference(model: Path, info: ModelInfo, network: Network) -> None:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, *info.size))
    work = counter.get_total_flops()
    print(f"\nthe network alone: {work / 1e9:.2f} GFLOP an image of {info.size[1]}x{info.size[0]}")
    print(f"{'':<28}{'images/s':>9}{'GFLOP/s':>12}  fraction of a matrix product's rate")
    peaks: dict[str, float] = {}
    for name, precision, rate in inference_rates(model, info, network):
        kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(precision)
        if kind and precision not in peaks:  # a product in a kind that the processor does not have would take minutes
            peaks[precision] = product_rate(kind)
        peak = peaks.get(precision)
        fraction = f"{rate * work / peak:>6.1%} of {peak / 1e9:.0f} GFLOP/s" if peak else ""
        print(f"{f'{name}, {precision}':<28}{rate:>9.1f}{rate * work / 1e9:>12.0f}  {fraction}")


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    main()
