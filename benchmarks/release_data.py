"""Write the CSV of the films that the shipped weights learn from, and those of the radiologists' films alone.

    python benchmarks/release_data.py shared -o films.csv

The folder holds covid-qu-ex, other-hospitals and second-reader, each with the `index.csv` that docs/evaluating.md
describes. Taken are: Train and Val of COVID-QU-Ex; healthy films of Montgomery with their lung masks, and half of
Shenzhen's without (the terms of Shenzhen's lung masks do not allow free weights), three times each; and the Train part
of second-reader, whose masks by radiologists are of the target 'opacity', eight times each. Beside it, readers-0.csv to
readers-4.csv hold the Train part of second-reader alone, once each; in each, another fifth, drawn at random, is val.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cxrseg.data.layout import open_dataset
from cxrseg.io.raster import read_size
from cxrseg.io.write import write_csv, write_mask

COLUMNS = ("image", "infection", "opacity", "lungs", "split", "category", "name")
HEALTHY_TIMES, SECOND_READER_TIMES, FIFTHS = 3, 8, 5


def covid_qu_ex(folder: Path) -> Iterator[dict[str, object]]:
    """Every film of Train and Val as it is."""
    for sample in open_dataset(folder).samples:
        masks = {target: str(path) for target, path in sample.masks.items()}
        yield {"image": sample.image, **masks, "split": sample.split, "category": sample.category, "name": sample.name}


def healthy(folder: Path, blank: Path) -> Iterator[dict[str, object]]:
    """Healthy films of a hospital, with an empty mask of infection."""
    for row in index(folder):
        path = folder / "images" / row["file"]
        # Half of Shenzhen's are left to judge by.
        if row["class"] != "normal" or (folder.name == "shenzhen" and not in_half(row["file"])):
            continue
        width, height = read_size(path)
        empty = blank / f"{width}x{height}.png"
        write_mask(empty, np.zeros((height, width), bool))
        lungs = folder / "lung masks" / f"{path.stem}.png" if folder.name == "montgomery" else ""
        for time in range(HEALTHY_TIMES):
            name = f"{folder.name}/{path.stem}-{time}"
            yield {"image": path, "infection": empty, "lungs": lungs, "category": "Normal", "name": name}


def second_reader(folder: Path) -> Iterator[dict[str, object]]:
    """The Train part, drawn by radiologists."""
    for row in index(folder):
        if row["split"] != "Train":
            continue
        image = next((folder / "images").glob(f"{row['name']}.*"))
        mask = folder / "infection masks" / f"{image.stem}.png"
        yield {"image": image, "opacity": mask, "category": "COVID-19", "name": f"second-reader/{image.stem}"}


def fifths(rows: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    """Five tables of the same films, each with another fifth as val."""
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    for fifth in range(FIFTHS):
        yield [{**row, "split": "val" if at % FIFTHS == fifth else "train"} for at, row in enumerate(shuffled)]


def index(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's index.csv."""
    with (folder / "index.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def in_half(name: str) -> bool:
    """The same half of the names everywhere."""
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 0


def main() -> None:
    """Read the command line, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("films.csv"))
    arguments = parser.parse_args()
    folder, blank = arguments.folder.resolve(), arguments.out.resolve().parent / "blank"
    rows = list(covid_qu_ex(folder / "covid-qu-ex"))
    for hospital in ("montgomery", "shenzhen"):
        rows += healthy(folder / "other-hospitals" / hospital, blank)
    drawn = list(second_reader(folder / "second-reader"))
    rows += [{**row, "name": f"{row['name']}-{time}"} for row in drawn for time in range(SECOND_READER_TIMES)]
    write_csv(arguments.out, COLUMNS, [{"split": "train", **row} for row in rows])
    for fifth, part in enumerate(fifths(drawn)):
        write_csv(arguments.out.parent / f"readers-{fifth}.csv", COLUMNS, part)
    print(f"{arguments.out}: {len(rows)} films")


if __name__ == "__main__":
    main()
