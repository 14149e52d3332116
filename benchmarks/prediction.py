"""Files per second from image files to mask files: `cxrseg predict` against PyTorch, ONNX Runtime and the machine.

    python benchmarks/prediction.py MODEL.onnx CHECKPOINT --images FOLDER [--count 400] [--rounds 3]

Every way gets the same PNG files and writes the same infection mask PNG. 'PyTorch, plain loop' is what most published
scripts do: read, resize, run the eager float32 network on one image, threshold, write. Rounds alternate between the
ways, so that a machine that slows down slows all of them; the table gives each way's best round and all of them.

The share of the machine that the network reaches is its arithmetic (counted by PyTorch) times images a second,
divided by the rate of a large matrix product in the same precision, measured here too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from cxrseg.io.raster import read_raster
from cxrseg.io.write import write_mask
from cxrseg.learn.networks import build_network
from cxrseg.learn.recipe import Recipe
from cxrseg.model_file import ModelInfo, read_model
from cxrseg.preprocess import to_input, to_source
from cxrseg.segment.batch import Options, predict_files
from cxrseg.segment.engine import Engine

Way = Callable[[Path, list[Path], Path], None]


def network_of(info: ModelInfo, checkpoint: Path) -> torch.nn.Module:
    """The network with the checkpoint's weights, or with random ones, which cost the same time."""
    network = build_network(Recipe.model_validate(dict(info.recipe)).network, len(info.channels)).eval()
    if checkpoint.name != "random":
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights = state.get("state_dict", state)
        network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items()}, strict=False)
    return network


def plain_loop(run: Callable[[np.ndarray], np.ndarray], info: ModelInfo) -> Way:
    """Read, run, write, one image after the other."""
    place = info.channels.index("infection")

    def way(_: Path, files: list[Path], out: Path) -> None:
        for file in files:
            radiograph = read_raster(file)
            found = run(to_input(radiograph.pixels, info.size)[None, None])[0, place]
            write_mask(out / f"{file.stem}_infection.png", to_source(found, radiograph.shape) >= info.threshold)

    return way


def torch_run(network: torch.nn.Module, temperature: float) -> Callable[[np.ndarray], np.ndarray]:
    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return torch.sigmoid(network(torch.from_numpy(pixels)) / temperature).numpy()

    return run


def onnx_run(model: Path, temperature: float) -> Callable[[np.ndarray], np.ndarray] | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: 1 / (1 + np.exp(-session.run(None, {name: pixels})[0] / temperature))


def ours(model: Path, precision: str) -> Way:
    options = Options((model,), precision=precision, force=True)  # type: ignore[arg-type]
    return lambda folder, files, out: (predict_files(folder, out, options), None)[1]


def product_rate(kind: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of several."""
    one, other = (torch.randn(2048, 2048).to(kind) for _ in range(2))
    best = min(_seconds(lambda: one @ other) for _ in range(8))
    return 2 * 2048**3 / best


def network_rate(model: Path, precision: str, info: ModelInfo, streams: int) -> float:
    """Images a second of the network alone, with as many threads as streams."""
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine(model, precision=precision, streams=streams)  # type: ignore[arg-type]
    pixels = np.random.default_rng(0).random((1, *info.size), dtype=np.float32)
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(engine.run, [pixels] * 4 * streams))
        count = 32 * streams
        return count / min(_seconds(lambda: list(pool.map(engine.run, [pixels] * count))) for _ in range(3))


def cold_start(model: Path, file: Path) -> list[float]:
    """Seconds from calling the command to its end for one file; the model has been compiled once before."""
    seconds = []
    for _ in range(6):
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "cxrseg", "predict", "-i", str(file), "-o", out, "-m", str(model), "-q"]
            seconds.append(_seconds(lambda: subprocess.run([*command, "--force"], check=True)))  # noqa: B023
    return seconds[1:]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("checkpoint", type=Path, help="weights for PyTorch, or 'random': the time is the same")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    info = read_model(given.model)[1]
    network = network_of(info, given.checkpoint)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ways: dict[str, Way] = {
        "cxrseg predict": ours(given.model, "auto"),
        "cxrseg predict, float32": ours(given.model, "float32"),
        "PyTorch, plain loop": plain_loop(torch_run(network, info.temperature), info),
    }
    session = onnx_run(given.model, info.temperature)
    if session is not None:
        ways["ONNX Runtime, plain loop"] = plain_loop(session, info)
    with tempfile.TemporaryDirectory() as scratch:
        folder, files = _chosen(given.images, given.count, Path(scratch) / "in")
        rates = _race(ways, folder, files, Path(scratch), given.rounds)
        start = cold_start(given.model, files[0])
    _print_rates(rates, len(files), processors)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, *info.size))
    work = counter.get_total_flops()
    print(f"\nthe network: {work / 1e9:.2f} billion operations an image of {info.size[1]}x{info.size[0]}")
    for precision, kind in (("float32", torch.float32), ("auto", torch.bfloat16)):
        rate, peak = network_rate(given.model, precision, info, processors), product_rate(kind)
        reached = f"{rate:8.1f} images/s = {rate * work / 1e9:7.0f} GFLOP/s, {rate * work / peak:.0%} of the"
        print(f"  {precision:<8} {reached} {peak / 1e9:.0f} GFLOP/s of a product in {str(kind).removeprefix('torch.')}")
    print(f"\none file, from a cold start: median {statistics.median(start):.2f} s, {_listed(start)}")


def _chosen(images: Path, count: int, into: Path) -> tuple[Path, list[Path]]:
    """Links to the first images found, in one folder, as every way reads them; each name once."""
    into.mkdir()
    found = sorted(path for path in images.rglob("*.png") if "mask" not in path.parent.name)[:count]
    for number, path in enumerate(found):
        (into / f"{number:05}.png").symlink_to(path.resolve())
    if not found:
        raise SystemExit(f"no PNG files in {images}")
    return into, sorted(into.iterdir())


def _race(ways: dict[str, Way], folder: Path, files: list[Path], scratch: Path, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for file in files:  # into the page cache, for all alike
        Image.open(file).load()
    for number in range(rounds + 1):
        for name, way in ways.items():
            out = scratch / f"{name}-{number}"
            out.mkdir()
            seconds = _seconds(lambda: way(folder, files, out))  # noqa: B023
            if number:  # the first round warms up
                rates[name].append(len(files) / seconds)
    return rates


def _print_rates(rates: dict[str, list[float]], count: int, processors: int) -> None:
    base = max(rates["PyTorch, plain loop"])
    print(f"{count} PNG files to mask PNG files, {processors} processors, torch {torch.get_num_threads()} threads")
    print(f"{'':<26}{'files/s':>9}{'of PyTorch':>12}  rounds")
    for name, found in rates.items():
        print(f"{name:<26}{max(found):>9.1f}{max(found) / base:>11.1f}x  {_listed(found)}")


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    main()
