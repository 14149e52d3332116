"""What the input check refuses and warns of, by kind of picture.

    python benchmarks/input_check.py [MODEL.onnx] --dataset COVID-QU-EX --frontal NIH/images --frontal FOLLOW-UP/images
    python benchmarks/input_check.py MODEL.onnx --not-frontal NOT-FRONTAL --refit COVID-QU-EX
    python benchmarks/input_check.py MODEL.onnx --dataset COVID-QU-EX --time

The first judges a model file as it is on frontal films (a dataset's split, and folders of pictures), on what is made of
the dataset's (inverted, with and without a black border; turned, mirrored, two side by side), on phantoms, and on
pictures drawn here or carried by the wheels of scikit-image, scikit-learn and matplotlib. The second judges pictures
that are not frontal films: the view head is fitted again on the first half of each of the folder's folders and judges
the second, then the other way round, so that no picture is judged by a head that has seen it. The third measures the
processor time of a film with and without the check.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxrseg.data.layout import open_dataset
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.raster import read_raster
from cxrseg.io.read import read_radiograph
from cxrseg.model_file import shipped_model
from cxrseg.phantom.generate import make_phantom
from cxrseg.training.view_head import fit_views

Pixels = npt.NDArray[np.float32]
Picture = tuple[str, Radiograph]
"""Kind, and what is judged."""

SIZE = 256


class Row(NamedTuple):
    """What the input check says of one picture."""

    kind: str
    refused: bool
    reason: str
    warnings: tuple[str, ...]
    source: str


def drawn(seed: int, count: int) -> Iterator[Picture]:
    """Pictures drawn by program."""
    for kind, pixels in _drawn(seed, count):
        yield kind, Radiograph(pixels)


def _drawn(seed: int, count: int) -> Iterator[tuple[str, Pixels]]:
    random = np.random.default_rng(seed)
    for number in range(count):
        yield "noise", random.random((SIZE, SIZE)).astype(np.float32)
        yield "smooth noise", _stretched(ndimage.gaussian_filter(random.random((SIZE, SIZE)), 2 + 3 * number))
        yield "gradient", _gradient(random)
        yield "blank", np.clip(random.random() + 0.004 * random.standard_normal((SIZE, SIZE)), 0, 1).astype(np.float32)
        yield "text page", _text_page(random)
        yield "mask", make_phantom(seed + number, "Normal", SIZE).lungs.astype(np.float32)


def _stretched(values: npt.NDArray[np.floating]) -> Pixels:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / max(high - low, 1e-6), dtype=np.float32)


def _gradient(random: np.random.Generator) -> Pixels:
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    turn = random.uniform(0, 2 * np.pi)
    return _stretched(rows * np.sin(turn) + columns * np.cos(turn))


def _text_page(random: np.random.Generator) -> Pixels:
    page = Image.new("L", (SIZE * 2, SIZE * 2), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for row in range(20, SIZE * 2 - 20, 20):
        words = ["".join(random.choice(list("etaoinshrdlu"), random.integers(2, 9))) for _ in range(9)]
        draw.text((20, row), " ".join(words), font=font, fill=20)
    return np.asarray(page.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)


def _photos() -> Iterator[Picture]:
    """Sample pictures that wheels carry: in colour as they are, and in gray."""
    for name, folder in (("skimage", "data"), ("sklearn", "datasets/images"), ("matplotlib", "mpl-data/sample_data")):
        package = find_spec(name)
        if package is None or package.origin is None:
            continue
        for path in sorted((Path(package.origin).parent / folder).glob("*.[pj][np]g")):
            radiograph = read_raster(path)
            yield "picture of a wheel", radiograph
            if radiograph.coloured:
                yield "the same in gray", Radiograph(radiograph.pixels)


def changed(films: list[Pixels]) -> Iterator[Picture]:
    """What is made of frontal films of one size."""
    for film, other in zip(films, [*films[1:], films[0]], strict=True):
        framed = np.zeros_like(film)
        framed[16:-16, 16:-16] = 1 - film[16:-16, 16:-16]
        yield "inverted", Radiograph(1 - film)
        yield "inverted, black border", Radiograph(framed)
        yield "mirrored", Radiograph(np.ascontiguousarray(film[:, ::-1]))
        yield "upside down", Radiograph(np.ascontiguousarray(film[::-1, ::-1]))
        yield "turned left", Radiograph(np.ascontiguousarray(np.rot90(film)))
        yield "turned right", Radiograph(np.ascontiguousarray(np.rot90(film, 3)))
        yield "two films", Radiograph(np.concatenate([film, other], 1))


def folder_pictures(kind: str, paths: Sequence[Path]) -> Iterator[Picture]:
    """Pictures of a folder."""
    for path in paths:
        yield kind, read_radiograph(path)


def held_out(model: Path, dataset: Path, folder: Path) -> Iterator[Row]:
    """Rows of all pictures of the folder's folders, each judged by a view head that was fitted on the other half."""
    kinds = {entry.name: sorted(entry.iterdir()) for entry in sorted(folder.iterdir()) if entry.is_dir()}
    for half in range(2):
        with tempfile.TemporaryDirectory() as scratch:
            for kind, paths in kinds.items():
                (Path(scratch) / kind).mkdir()
                for path in paths[1 - half :: 2]:
                    (Path(scratch) / kind / path.name).symlink_to(path.resolve())
            fitted = Path(scratch) / "fitted.onnx"
            fit_views(model, open_dataset(dataset), Path(scratch), fitted)
            segmenter = Segmenter(fitted, precision="float32", streams=2, task="infection")
            for kind, paths in kinds.items():
                yield from judge(segmenter, folder_pictures(f"{kind} (held out)", paths[half::2]))


def judge(segmenter: Segmenter, pictures: Iterable[Picture]) -> Iterator[Row]:
    """What the input check says of each."""
    waiting = iter(pictures)
    with ThreadPoolExecutor(2) as pool:
        while batch := list(islice(waiting, 64)):
            for (kind, radiograph), found in zip(
                batch, pool.map(lambda picture: segmenter.segment(picture[1]), batch), strict=True
            ):
                yield Row(kind, found.status == "refused", found.reason, found.warnings, radiograph.source)


def cost(model: Path, films: Sequence[Radiograph], rounds: int = 5) -> str:
    """Milliseconds of processor time for a film, with and without the check, the least of a few rounds in turn."""
    least = dict.fromkeys((True, False), float("inf"))
    segmenters = {check: Segmenter(model, input_check=check, streams=0, task="infection") for check in least}
    for _ in range(rounds):
        for check, segmenter in segmenters.items():
            began = time.process_time()
            for film in films:
                segmenter.segment(film)
            least[check] = min(least[check], (time.process_time() - began) / len(films) * 1000)
    more = least[True] / least[False] - 1
    return f"segmenting a film: {least[True]:.2f} ms with the check, {least[False]:.2f} ms without ({more:+.1%})"


def main() -> None:
    """Read the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=shipped_model())
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--frontal", type=Path, action="append", default=[], help="a folder of frontal films")
    parser.add_argument("--not-frontal", type=Path, help="a folder with a folder of pictures for each other view")
    parser.add_argument("--refit", type=Path, help="the dataset whose split 'train' the view head is fitted again on")
    parser.add_argument("--phantoms", type=int, default=30)
    parser.add_argument("--drawn", type=int, default=10, help="of each kind")
    parser.add_argument("--changed", type=int, default=100, help="films of the dataset that are changed")
    parser.add_argument("--list", action="store_true", help="name each frontal film that is refused or warned of")
    parser.add_argument("--time", action="store_true", help="only measure the time")
    given = parser.parse_args()
    if given.time:
        samples = open_dataset(given.dataset).select(given.split).samples
        print(cost(given.model, [sample.read_image() for sample in samples[:: max(1, len(samples) // 200)]]))
        return
    if (given.not_frontal is None) != (given.refit is None):
        parser.error("--not-frontal and --refit go together: pictures that a head has seen tell nothing")
    if given.not_frontal:
        rows = list(held_out(given.model, given.refit, given.not_frontal))
    else:
        # The task opacity warns where it empties a map, which the input check does not do.
        segmenter = Segmenter(given.model, precision="float32", streams=2, task="infection")
        rows = list(judge(segmenter, chain(_frontal(given), _others(given))))
    _print(rows)
    if given.list:
        for row in rows:
            if row.kind.startswith("frontal") and (row.refused or row.warnings):
                print(f"{row.source}: {row.reason or '; '.join(row.warnings)}")


def _frontal(given: argparse.Namespace) -> Iterator[Picture]:
    if given.dataset:
        samples = open_dataset(given.dataset).select(given.split).samples
        yield from ((f"frontal: {given.split}", sample.read_image()) for sample in samples)
    for folder in given.frontal:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        yield from folder_pictures(f"frontal: {folder.parent.name}", paths)


def _others(given: argparse.Namespace) -> Iterator[Picture]:
    if given.dataset:
        samples = open_dataset(given.dataset).select(given.split).samples
        yield from changed([sample.read_image().pixels for sample in samples[:: max(1, len(samples) // given.changed)]])
    for seed in range(given.phantoms):
        yield "phantom", Radiograph((make_phantom(1000 + seed, "COVID-19", 256).image / 255).astype(np.float32))
    yield from drawn(0, given.drawn)
    yield from _photos()


def _print(rows: list[Row]) -> None:
    print(f"{'kind':<26}{'images':>7}{'refused':>9}{'warned':>8}{'passed':>8}  reasons and warnings")
    for kind in dict.fromkeys(row.kind for row in rows):
        these = [row for row in rows if row.kind == kind]
        refused = sum(row.refused for row in these)
        warned = sum(bool(row.warnings) and not row.refused for row in these)
        said = Counter(
            text.partition(" (")[0] for row in these for text in ([row.reason] if row.refused else row.warnings)
        )
        texts = "; ".join(f"{count} {text}" for text, count in said.most_common(4))
        print(f"{kind:<26}{len(these):>7}{refused:>9}{warned:>8}{len(these) - refused - warned:>8}  {texts}")


if __name__ == "__main__":
    main()
