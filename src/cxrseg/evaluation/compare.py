"""Compare two evaluations of the same images, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg._version import __version__
from cxrseg.errors import DatasetError
from cxrseg.io.csv_file import read_csv_rows
from cxrseg.io.write import write_json
from cxrseg.metrics.intervals import (
    LEVEL,
    RESAMPLES,
    SEED,
    Estimate,
    Groups,
    chosen_groups,
    estimate,
    estimate_fraction,
    estimate_means,
)

__all__ = ["DIFFER_MOST", "Comparison", "compare", "comparison_lines", "write_comparison"]

DIFFER_MOST = 10
"""Number of listed images, those whose Dice differs most."""

_Row = Mapping[str, str]
_Values = npt.NDArray[np.float64]

_FEWER_IS_BETTER = frozenset({"rmse", "rmse_pooled", "hd95", "assd", "fraction_error"})
_INFECTED = ("dice", "iou", "precision", "recall", "rmse", "hd95", "assd", "nsd2", "nsd4", "fraction_error")
_EVERY = ("dice", "iou", "nsd2", "nsd4", "rmse", "fraction_error")
_EMPTY_IS_1 = frozenset({"dice", "iou", "nsd2", "nsd4"})
_HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "rmse_pooled": "RMSE, pooled",
    "rmse": "RMSE per image",
    "hd95": "HD95",
    "assd": "ASSD",
    "nsd2": "NSD 2px",
    "nsd4": "NSD 4px",
    "fraction_error": "fraction error",
}


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two evaluations.

    Attributes:
        first, second: their folders.
        targets: kind of mask to its results, as JSON values; docs/evaluating.md explains each key.
    """

    first: Path
    second: Path
    targets: Mapping[str, Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """All results, as JSON values."""
        return {
            "cxrseg": __version__,
            "note": "Research use only. Not for diagnosis.",
            "first": str(self.first),
            "second": str(self.second),
            "intervals": {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED},
            **self.targets,
        }


def compare(first: Path | str, second: Path | str) -> Comparison:
    """Compare two evaluations of the same images.

    Differences are second - first. Means and differences have bootstrap intervals over images; the test is Wilcoxon's
    signed-rank test (1945), two-sided, images without a difference left out.

    Args:
        first, second: folders that `cxrseg evaluate -o` wrote.

    Raises:
        DatasetError: a folder has no scores, or the two are of different images or of different true masks.
    """
    first, second = Path(first), Path(second)
    ours, theirs = _read(first), _read(second)
    shared = [target for target in ours if target in theirs]
    if not shared:
        raise DatasetError(
            f"expected evaluations with at least one common kind of mask, got {', '.join(ours)} in {first} "
            f"and {', '.join(theirs)} in {second}"
        )
    for target in shared:
        _check_same(target, ours[target], theirs[target], first, second)
    return Comparison(first, second, {target: _compared(ours[target], theirs[target]) for target in shared})


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the comparison as JSON."""
    write_json(path, comparison.as_json())


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """The comparison as lines of text for a terminal."""
    yield f"first   {comparison.first}\nsecond  {comparison.second}"
    for target, found in comparison.targets.items():
        for key, name in (("infected", "with a mask"), ("all_images", "in all, empty on empty = 1")):
            images = found[key]["images"]
            if images and (key == "infected" or images > found["infected"]["images"]):
                yield f"\n{target}, {images} images {name}"
                yield from _table(found[key]["figures"])
        if found["resampled"] == "groups":
            yield "\nintervals: groups of images (patients, copies) were resampled; p treats images as independent"
        yield f"\n{target}, the images whose Dice differs most"
        for row in found["differ_most"]:
            yield f"  {row['first']:.3f} -> {row['second']:.3f}  {row['difference']:+.3f}  {row['name']}"


def _table(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"  {'':<15}{'first':>9}{'second':>9}   {'difference (95% interval)':<31}{'better':>7}{'equal':>7}{'p':>9}"
    for name, row in figures.items():
        if row["difference"]["mean"] is None:
            continue
        digits = 1 if name in ("hd95", "assd") else 3
        low, high = row["difference"]["interval"] or (math.nan, math.nan)
        difference = f"{row['difference']['mean']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
        text = f"  {_HEADINGS.get(name, name):<15}{row['first']:>9.{digits}f}{row['second']:>9.{digits}f}   "
        if "better" not in row:
            yield f"{text}{difference}"
            continue
        p = "-" if row["wilcoxon_p"] is None else f"{row['wilcoxon_p']:.2g}"
        equal = row["equal"] / row["difference"]["n"]
        yield f"{text}{difference:<31}{row['better']['fraction']:>7.0%}{equal:>7.0%}{p:>9}"


def _read(folder: Path) -> dict[str, dict[str, _Row]]:
    """Kind of mask to image name to row."""
    path = folder / "scores.csv"
    if not path.is_file():
        raise DatasetError(f"expected an output folder of 'cxrseg evaluate', but {path} is missing")
    try:
        rows = read_csv_rows(path)
        found: dict[str, dict[str, _Row]] = {}
        for row in rows:
            found.setdefault(row["target"], {})[row["name"]] = row
    except KeyError as error:
        raise DatasetError(
            f"{path} is not a table that 'cxrseg evaluate' wrote, or is damaged ({error!r}); evaluate again"
        ) from error
    if not found:
        raise DatasetError(f"{path} has no rows; evaluate again")
    return found


def _check_same(target: str, ours: Mapping[str, _Row], theirs: Mapping[str, _Row], first: Path, second: Path) -> None:
    faults = [f"only in {first}: {name}" for name in ours if name not in theirs]
    faults += [f"only in {second}: {name}" for name in theirs if name not in ours]
    if faults:
        raise DatasetError(
            f"expected evaluations of the same images, but {len(faults)} images of {target} are in only one of them "
            f"({first} has {len(ours)}, {second} {len(theirs)}); evaluate both on the same split and categories:",
            _few(faults),
        )
    sizes = ("tp", "fn"), ("fp", "tn")
    faults = [
        name
        for name, row in ours.items()
        if any(sum(int(row[part]) for part in pair) != sum(int(theirs[name][part]) for part in pair) for pair in sizes)
    ]
    if faults:
        raise DatasetError(
            f"expected evaluations against the same masks, but {len(faults)} masks of {target} differ in size between "
            f"{first} and {second}; evaluate both on the same version of the dataset:",
            _few(faults),
        )


def _few(faults: Sequence[str], limit: int = 20) -> list[str]:
    rest = len(faults) - limit
    return [*faults[:limit], *([f"and {rest} more"] if rest > 0 else [])]


def _compared(ours: Mapping[str, _Row], theirs: Mapping[str, _Row]) -> dict[str, Any]:
    pairs = [(row, theirs[name]) for name, row in ours.items()]
    infected = [pair for pair in pairs if int(pair[0]["tp"]) + int(pair[0]["fn"])]
    return {
        "resampled": "images" if _groups(pairs) is None else "groups",
        "infected": {"images": len(infected), "figures": _figures(infected, _INFECTED, _value)},
        "all_images": {"images": len(pairs), "figures": _figures(pairs, _EVERY, _value_with_empty)},
        "differ_most": _differ_most(pairs),
    }


def _figures(
    pairs: Sequence[tuple[_Row, _Row]], names: Sequence[str], value: Callable[[_Row, str], float]
) -> dict[str, dict[str, Any]]:
    found = {}
    groups = _groups(pairs)
    for name in names:
        values = np.array([[value(row, name) for row in pair] for pair in pairs]).reshape(-1, 2)
        both = values[~np.isnan(values).any(axis=1)]
        if len(both):
            of_both = chosen_groups(groups, ~np.isnan(values).any(axis=1))
            found[name] = _paired(both, -1 if name in _FEWER_IS_BETTER else 1, of_both)
    if pairs:
        first, second, difference = _pooled_rmse(pairs, groups)
        found["rmse_pooled"] = {"first": first.value, "second": second.value, "difference": difference.as_json()}
    return {name: found[name] for name in (*_HEADINGS, *names) if name in found}


def _groups(pairs: Sequence[tuple[_Row, _Row]]) -> Groups:
    """The groups that intervals draw as a whole, where one of the two evaluations knew them."""
    for side in (0, 1):
        named = [pair[side].get("group") for pair in pairs]
        if named and all(named):
            return [int(name) for name in named if name]
    return None


def _paired(values: _Values, sign: int, groups: Groups) -> dict[str, Any]:
    """Of (n, 2) values of the first and the second."""
    difference = values[:, 1] - values[:, 0]
    better = int(np.count_nonzero(sign * difference > 0))
    equal = int(np.count_nonzero(difference == 0))
    return {
        "first": float(values[:, 0].mean()),
        "second": float(values[:, 1].mean()),
        "difference": estimate_means({"difference": difference}, groups=groups)["difference"].as_json(),
        "better": estimate_fraction(better, len(difference), groups).as_json("fraction"),
        "equal": equal,
        "wilcoxon_p": _wilcoxon(difference),
    }


def _wilcoxon(difference: _Values) -> float | None:
    if not np.any(difference):
        return None
    from scipy.stats import wilcoxon  # here, since it takes long to import

    return float(wilcoxon(difference[difference != 0]).pvalue)


def _pooled_rmse(pairs: Sequence[tuple[_Row, _Row]], groups: Groups) -> list[Estimate]:
    """RMSE over all pixels of all images: the first's, the second's, and their difference."""
    pixels = np.array([sum(int(row[part]) for part in ("tp", "fp", "fn", "tn")) for row, _ in pairs], np.float64)
    squares = np.array([[float(row["rmse"]) ** 2 for row in pair] for pair in pairs]) * pixels[:, None]

    def statistic(weights: _Values) -> _Values:
        both = np.sqrt(weights @ squares / (weights @ pixels)[:, None])
        return np.concatenate([both, np.diff(both, axis=1)], axis=1)

    return estimate(statistic, len(pairs), groups=groups)


def _value(row: _Row, name: str) -> float:
    if name == "fraction_error":
        return abs(_value(row, "infected_fraction_predicted") - _value(row, "infected_fraction_true"))
    text = row.get(name)
    return float(text) if text else math.nan


def _value_with_empty(row: _Row, name: str) -> float:
    return 1.0 if name in _EMPTY_IS_1 and row["status"] == "both empty" and name in row else _value(row, name)


def _differ_most(pairs: Sequence[tuple[_Row, _Row]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for ours, theirs in pairs:
        first, second = (_value_with_empty(row, "dice") for row in (ours, theirs))
        rows.append(
            {
                "name": ours["name"],
                "category": ours["category"] or None,
                "first": first,
                "second": second,
                "difference": second - first,
            }
        )
    return sorted(rows, key=lambda row: -abs(row["difference"]))[:DIFFER_MOST]
