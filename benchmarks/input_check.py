"""How the input check does: what it refuses of phantoms, of a dataset's radiographs, of their inverse, of other things.

    python benchmarks/input_check.py MODEL.onnx [--dataset COVID-QU-EX --split val] [--measures measures.csv] [--save
    folder]

The other things are drawn here (noise, gradients, blank and text pages, discs like CT slices, hands, lateral views)
or are the sample photos of scikit-image, where that is installed.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxrseg.data.layout import open_dataset
from cxrseg.inference.input_check import measure_lungs, measure_pixels
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.phantom.generate import make_phantom

Pixels = npt.NDArray[np.float32]
SIZE = 256


def others(seed: int, count: int) -> Iterator[tuple[str, Pixels]]:
    """(kind, (H, W) float32 in [0, 1]) of things that are no frontal chest radiograph."""
    random = np.random.default_rng(seed)
    for number in range(count):
        yield "noise", random.random((SIZE, SIZE)).astype(np.float32)
        yield "smooth noise", _stretched(ndimage.gaussian_filter(random.random((SIZE, SIZE)), 2 + 3 * number))
        yield "gradient", _gradient(random)
        yield "blank", np.clip(random.random() + 0.004 * random.standard_normal((SIZE, SIZE)), 0, 1).astype(np.float32)
        yield "text page", _text_page(random)
        yield "CT-like", _ct(random)
        yield "hand-like", _hand(random)
        yield "lateral-like", _lateral(random)
        yield "limb-like", _limb(random)
        yield "mask", make_phantom(seed + number, "Normal", SIZE).lungs.astype(np.float32)
    yield from _photos()


def _stretched(values: npt.NDArray[np.floating]) -> Pixels:
    low, high = values.min(), values.max()
    return ((values - low) / max(high - low, 1e-6)).astype(np.float32)


def _grid() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Row and column of each pixel, from -1 to 1."""
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    return rows, columns


def _ellipse(row: float, column: float, height: float, width: float, turn: float = 0.0) -> npt.NDArray[np.bool_]:
    rows, columns = _grid()
    y, x = rows - row, columns - column
    y, x = y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)
    return (y / height) ** 2 + (x / width) ** 2 <= 1


def _finished(values: npt.NDArray[np.floating], random: np.random.Generator, blur: float = 1.5) -> Pixels:
    soft = ndimage.gaussian_filter(values, blur) + 0.02 * random.standard_normal(values.shape)
    return np.clip(soft, 0, 1).astype(np.float32)


def _gradient(random: np.random.Generator) -> Pixels:
    rows, columns = _grid()
    turn = random.uniform(0, 2 * np.pi)
    return _stretched(rows * np.sin(turn) + columns * np.cos(turn))


def _text_page(random: np.random.Generator) -> Pixels:
    page = Image.new("L", (SIZE * 2, SIZE * 2), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for row in range(20, SIZE * 2 - 20, 20):
        words = ["".join(random.choice(list("etaoinshrdlu"), random.integers(2, 9))) for _ in range(9)]
        draw.text((20, row), " ".join(words), font=font, fill=20)
    return np.asarray(page.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32) / 255


def _ct(random: np.random.Generator) -> Pixels:
    """An axial slice: a body wider than tall on black, two lungs, heart, spine."""
    shift = random.uniform(-0.08, 0.08, 4)
    values = np.zeros((SIZE, SIZE))
    values[_ellipse(0, 0, 0.62 + shift[0], 0.88 + shift[1])] = 0.75
    values[_ellipse(0, 0, 0.54 + shift[0], 0.8 + shift[1])] = 0.55
    for side in (-1, 1):
        values[_ellipse(0.02, side * (0.4 + shift[2]), 0.4 + shift[3], 0.26, side * 0.2)] = 0.12
    values[_ellipse(-0.08, 0.08, 0.24, 0.22)] = 0.6
    values[_ellipse(0.4, 0, 0.12, 0.1)] = 0.95
    return _finished(values, random)


def _hand(random: np.random.Generator) -> Pixels:
    values = np.zeros((SIZE, SIZE))
    values[_ellipse(0.45, 0, 0.4, 0.36)] = 0.4
    for number in range(5):
        place = -0.5 + 0.25 * number + random.uniform(-0.03, 0.03)
        values[_ellipse(-0.25 + 0.12 * abs(number - 2), place, 0.55, 0.1, 0.25 * (number - 2))] = 0.4
        values[_ellipse(-0.25 + 0.12 * abs(number - 2), place, 0.5, 0.045, 0.25 * (number - 2))] = 0.8
    return _finished(values, random)


def _limb(random: np.random.Generator) -> Pixels:
    rows, columns = _grid()
    lean = random.uniform(-0.15, 0.15) * rows
    values = np.where(np.abs(columns - lean) < 0.5, 0.35, 0.0)
    for place in (-0.17, 0.2):
        values[np.abs(columns - lean - place) < 0.11 + 0.06 * rows**2] = 0.85
    values[_ellipse(0.0, 0.0, 0.05, 0.5)] = 0.3
    return _finished(values, random)


def _lateral(random: np.random.Generator) -> Pixels:
    """A lateral chest: one lung field between spine and sternum, over the heart."""
    shift = random.uniform(-0.05, 0.05, 4)
    values = np.zeros((SIZE, SIZE))
    values[_ellipse(0.1, 0, 1.1, 0.75 + shift[0])] = 0.65
    values[_ellipse(-0.05, 0.05, 0.65 + shift[1], 0.45 + shift[2])] = 0.2
    values[_ellipse(0.25, -0.2 + shift[3], 0.35, 0.25)] = 0.6
    values[_ellipse(0.0, 0.5, 1.0, 0.1, 0.1)] = 0.85
    values[_grid()[0] > 0.55] = np.maximum(values[_grid()[0] > 0.55], 0.7 * (values[_grid()[0] > 0.55] > 0))
    return _finished(values, random)


def _photos() -> Iterator[tuple[str, Pixels]]:
    """The sample photos that the scikit-image wheel carries."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        return
    for path in sorted((Path(package.origin).parent / "data").glob("*.[pj][np]g")):
        if path.stem != "phantom":  # a CT phantom of Shepp and Logan, which the CT-like discs stand for
            yield "photo", np.asarray(Image.open(path).convert("RGB").convert("L"), dtype=np.float32) / 255


def judge(segmenter: Segmenter, free: Segmenter, kind: str, pixels: Pixels) -> dict[str, object]:
    """A row: what the input check says, and what it measured on what the segmenter without the input check finds."""
    found = segmenter.segment(Radiograph(pixels))
    lungs = free.segment(Radiograph(pixels)).probabilities["lungs"]
    return {
        "kind": kind,
        "status": found.status,
        "reason": found.reason,
        "warnings": "; ".join(found.warnings),
        **measure_pixels(pixels),
        **measure_lungs(lungs, pixels, segmenter.thresholds["lungs"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--phantoms", type=int, default=30)
    parser.add_argument("--others", type=int, default=10, help="of each kind")
    parser.add_argument("--measures", type=Path, help="write what was measured as CSV")
    parser.add_argument("--save", type=Path, help="write the other things as PNG, to look at")
    given = parser.parse_args()
    segmenter, free = (
        Segmenter(given.model, precision="float32", streams=2, input_check=gate) for gate in (True, False)
    )
    tasks = [
        ("phantom", make_phantom(1000 + seed, "COVID-19", 256).image / np.float32(255))
        for seed in range(given.phantoms)
    ]
    tasks += list(others(0, given.others))
    if given.save:
        given.save.mkdir(parents=True, exist_ok=True)
        for number, (kind, pixels) in enumerate(tasks):
            Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(given.save / f"{kind}-{number}.png")
    if given.dataset:
        images = [sample.read_image().pixels for sample in open_dataset(given.dataset).select(given.split).samples]
        tasks += [("dataset", pixels) for pixels in images] + [("inverted", 1 - pixels) for pixels in images]
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda task: judge(segmenter, free, *task), tasks))
    _print(rows)
    if given.measures:
        with given.measures.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def _print(rows: list[dict[str, object]]) -> None:
    print(f"{'kind':<16}{'images':>7}{'refused':>9}{'warned':>8}  reasons and warnings")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        these = [row for row in rows if row["kind"] == kind]
        refused = [row for row in these if row["status"] == "refused"]
        warned = [row for row in these if row["status"] == "ok" and row["warnings"]]
        said = Counter(str(row["reason"] or row["warnings"]).partition(" (")[0] for row in (*refused, *warned))
        texts = "; ".join(f"{count} {text}" for text, count in said.most_common(4))
        print(f"{kind:<16}{len(these):>7}{len(refused):>9}{len(warned):>8}  {texts}")


if __name__ == "__main__":
    main()
