"""Which threshold the opacity map needs, and above which probability of 'Normal' it is emptied: one table over both.

    python benchmarks/opacity_limits.py MODEL --folder shared

Sources: nih-rsna, second-reader, brixia and Val of covid-qu-ex, as benchmarks/elsewhere.py and benchmarks/release.py
read them. The network runs once for each film; every pair of limits is then measured on its map, at the
network's size. `ModelInfo.opacity_threshold` and `ModelInfo.normal_threshold` say what they do.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.data.layout import open_dataset
from cxrseg.evaluation.expected_dice import auroc
from cxrseg.inference.engine import Engine
from cxrseg.io.masks import read_mask
from cxrseg.io.read import read_radiograph
from cxrseg.metrics.segmentation import MARKED_LIMIT, count
from cxrseg.metrics.severity import infected_fraction, measure_severity
from cxrseg.preprocessing import content_box, mask_to_input, to_input
from elsewhere_films import read_index
from elsewhere_sources import ZONES

Mask = npt.NDArray[np.bool_]


@dataclass
class Film:
    """What the network found on a film, and what others did.

    group: source and class. opacity, lungs: (h, w) of the network. truth: what a reader drew or boxed, or None.
    fraction: the reader's infected fraction. clear: Brixia's zones that both readers call clear.
    """

    group: str
    opacity: npt.NDArray[np.float32]
    lungs: Mask
    normal: float
    truth: Mask | None = None
    clear: tuple[str, ...] = ()

    def marked(self, threshold: float, normal: float) -> Mask:
        """The opacity mask, empty where the image is too likely to be normal."""
        return (self.opacity >= threshold) & (self.normal <= normal)

    def fraction(self, mask: Mask) -> float:
        return infected_fraction(mask, self.lungs) or 0.0


class Films:
    """Reads films and runs the network on them."""

    def __init__(self, model: Path) -> None:
        self.engine = Engine(model, precision="float32", streams=2)
        self.channels = self.engine.info.channels

    def film(self, group: str, path: Path, truth: Mask | None = None, clear: tuple[str, ...] = ()) -> Film:
        pixels = read_radiograph(path).pixels
        box, size = content_box(pixels), self.engine.info.size
        result = self.engine.run(to_input(pixels[box], size)[None])
        maps = result.maps[0]
        assert result.categories is not None
        normal = float(result.categories[0, self.engine.info.categories.index("Normal")])
        opacity = maps[self.channels.index("opacity")]
        lungs = maps[self.channels.index("lungs")] >= 0.5
        drawn = None if truth is None else mask_to_input(truth[box], size)
        return Film(group, opacity, lungs, normal, drawn, clear)

    def nih(self, folder: Path) -> Iterator[Any]:
        for row in read_index(folder):
            boxes = np.zeros((int(row["height"]), int(row["width"])), dtype=bool)
            for x, y, width, height in json.loads(row["boxes"]):
                boxes[round(y) : round(y + height), round(x) : round(x + width)] = True
            yield "nih/" + row["class"], folder / "images" / row["file"], boxes

    def readers(self, folder: Path) -> Iterator[Any]:
        for row in read_index(folder):
            image = next((folder / "images").glob(f"{row['name']}.*"))
            yield "reader/" + row["split"], image, read_mask(folder / "infection masks" / f"{row['name']}.png")

    def brixia(self, folder: Path) -> Iterator[Any]:
        films = {path.name: path for path in (folder.parent / "covid-qu-ex").rglob("images/*.png")}
        for row in read_index(folder):
            scores = zip(*(row[f"{name}_A_to_F"].split("|") for name in ("senior", "junior")), strict=True)
            clear = tuple(zone for zone, pair in zip(ZONES, scores, strict=True) if pair == ("0", "0"))
            yield "brixia", films[row["file"]], None, clear

    def val(self, folder: Path) -> Iterator[Any]:
        for sample in open_dataset(folder).select("val").samples:
            yield f"val/{sample.category}", sample.image, sample.read_mask("infection")

    def all(self, folder: Path) -> list[Film]:
        """Every film of the sources in `folder`."""
        known = itertools.chain(
            self.nih(folder / "nih-rsna"),
            self.readers(folder / "second-reader"),
            self.brixia(folder / "brixia"),
            self.val(folder / "covid-qu-ex"),
        )
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda each: self.film(*each), known))


def figures(films: Sequence[Film], threshold: float, normal: float) -> dict[str, float]:
    """The figures of one pair of limits."""
    masks = [film.marked(threshold, normal) for film in films]
    fractions = np.array([film.fraction(mask) for film, mask in zip(films, masks, strict=True)])
    groups = np.array([film.group for film in films])
    opaque = groups == "nih/Lung Opacity"

    def marked(group: str) -> float:
        return float(np.mean(fractions[groups == group] > MARKED_LIMIT))

    def area_under(others: Mask) -> float:
        both = opaque | others
        return auroc(fractions[both], opaque[both]).value

    boxes = [count(masks[i], _drawn(films[i])) for i in np.flatnonzero(opaque)]
    covid = [count(masks[i], _drawn(films[i])).dice for i in np.flatnonzero(groups == "val/COVID-19")]
    found = {
        "nih Normal marked": marked("nih/Normal"),
        "nih Opacity marked": marked("nih/Lung Opacity"),
        "AUROC Normal": area_under(groups == "nih/Normal"),
        "AUROC others": area_under(np.char.startswith(groups, "nih/") & ~opaque),
        "box recall": float(np.nanmean([one.recall for one in boxes])),
        "box precision": float(np.nanmean([one.precision for one in boxes])),
        "clear zones": _clear_zones(films, masks),
        "val Normal": marked("val/Normal"),
        "val Non-COVID": marked("val/Non-COVID"),
        "val Dice": float(np.nanmean(covid)),
    }
    for name, chosen in (("all", np.char.startswith(groups, "reader/")), ("Val", groups == "reader/Val")):
        places = np.flatnonzero(chosen)
        dice = [count(masks[i], _drawn(films[i])).dice for i in places]
        true = np.array([films[i].fraction(_drawn(films[i])) for i in places])
        found[f"reader Dice {name}"] = float(np.mean(np.nan_to_num(dice, nan=1.0)))
        found[f"bias {name}"] = float(np.mean(fractions[places] - true))
    return found


def _drawn(film: Film) -> Mask:
    assert film.truth is not None
    return film.truth


def _clear_zones(films: Sequence[Film], masks: Iterable[Mask]) -> float:
    """The share of the zones that both readers call clear with more than 1% marked."""
    hits = zones = 0
    for film, mask in zip(films, masks, strict=True):
        if not film.clear:
            continue
        severity = measure_severity(mask, film.lungs)
        found = [getattr(severity, f"infected_fraction_{zone}") for zone in film.clear]
        zones += sum(value is not None for value in found)
        hits += sum(value is not None and value > MARKED_LIMIT for value in found)
    return hits / zones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where nih-rsna and the others lie")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.4, 0.45, 0.5, 0.55, 0.6, 0.65])
    parser.add_argument("--normal", type=float, nargs="+", default=[0.15, 0.21, 0.3, 0.4, 1.0])
    given = parser.parse_args()
    films = Films(given.model).all(given.folder)
    titles: list[str] = []
    for threshold, normal in itertools.product(given.thresholds, given.normal):
        found = figures(films, threshold, normal)
        if not titles:
            titles = list(found)
            print("threshold    normal  " + "  ".join(titles))
        cells = "  ".join(f"{found[title]:>{len(title)}.3f}" for title in titles)
        print(f"{threshold:>9.2f}  {normal:>8.2f}  {cells}")


if __name__ == "__main__":
    main()
