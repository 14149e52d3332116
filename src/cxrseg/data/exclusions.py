"""Images to leave out: the file that lists them, and a dataset without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrseg.data.pairs import natural_key
from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError
from cxrseg.io.csv_file import read_csv
from cxrseg.io.write import write_csv

__all__ = ["Exclusion", "exclude", "read_exclusions", "write_exclusions"]

_COLUMNS = ("name", "reason", "copy_of")
_SHOWN = 20


@dataclass(frozen=True)
class Exclusion:
    """One image to leave out.

    Attributes:
        name: of the sample, such as 'Train/COVID-19/covid_41'.
        reason: 'leak' (a copy of it is in another split) or 'duplicate' (a copy of it is in the same split).
        copy_of: the sample that is kept.
    """

    name: str
    reason: str
    copy_of: str


def write_exclusions(path: Path, exclusions: Sequence[Exclusion]) -> None:
    """Write a CSV with the columns name, reason, copy_of, atomically."""
    write_csv(path, _COLUMNS, [vars(exclusion) for exclusion in exclusions])


def read_exclusions(path: Path) -> list[str]:
    """Read names of samples: the first column of a CSV such as `write_exclusions` writes, or one name a line.

    Empty lines and lines that begin with # are skipped.

    Raises:
        DatasetError: there is no such file, or it is not text.
    """
    rows = [row for row in read_csv(path) if row and row[0].strip()]
    names = [row[0].strip() for row in rows if not row[0].lstrip().startswith("#")]
    return names[1:] if [name.casefold() for name in names[:1]] == ["name"] else names


def exclude(dataset: Dataset, path: Path | str) -> Dataset:
    """A dataset without the samples that a file names.

    Args:
        dataset: the whole dataset, since the file names samples of all its splits.
        path: see `read_exclusions`.

    Raises:
        DatasetError: the file cannot be read, names samples that the dataset does not have, or names all of them.
    """
    path = Path(path)
    names = set(read_exclusions(path))
    unknown = sorted(names - {sample.name for sample in dataset.samples}, key=natural_key)
    if unknown:
        more = [f"and {len(unknown) - _SHOWN} more"] if len(unknown) > _SHOWN else []
        raise DatasetError(
            f"{dataset.root} does not have {len(unknown)} of the {len(names)} images that {path} names (its names are "
            f"like {dataset.samples[0].name}); use the file with the whole dataset that it was made from, or remove:",
            unknown[:_SHOWN] + more,
        )
    kept = tuple(sample for sample in dataset.samples if sample.name not in names)
    if not kept:
        raise DatasetError(f"{path} names all images of {dataset.root}; at least one must be left")
    return replace(dataset, samples=kept)
