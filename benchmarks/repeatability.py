"""Fits the noise of the follow-up to copies of one exposure: two files of the same film that differ by editing.

    cxrseg data check COVID-QU-EX -o audit
    python benchmarks/repeatability.py audit/audit.json --dataset COVID-QU-EX [--pairs 150] [--model MODEL.onnx]

Each pair (kind 'near': rescaled, cropped, of other contrast; not mirrored) is measured, and so are the variants of each
film (see cxrseg.hospital.follow_up.repeatability). For lungs, lung, zone and extent score,
floor and scale are fitted so that 95% of the differences lie within the band, with the narrowest mean band. 'held out'
is the fraction within a band that was fitted to the other half of the pairs. Fitted values go into NOISE.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from cxrseg.data.layout import open_dataset
from cxrseg.hospital.follow_up.repeatability import MEASURES, Noise, band, deviations, kind_of
from cxrseg.inference.segmenter import Segmenter

SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
Row = tuple[float, float, float]
"""Absolute difference of two films, and the standard deviation of each over its variants."""


def main() -> None:
    arguments = _arguments()
    samples = {sample.name: sample for sample in open_dataset(arguments.dataset).samples}
    pairs = [
        pair
        for pair in json.loads(arguments.audit.read_text())["pairs"]
        if pair["kind"] == "near"
        and "mirrored" not in pair["change"]
        and {pair["first"], pair["second"]} <= samples.keys()
    ]
    chosen = np.random.default_rng(0).permutation(len(pairs))[: arguments.pairs]
    segmenter = Segmenter(arguments.model)
    measured: dict[str, dict[str, tuple[float | None, float]]] = {}
    for name in {pairs[number][side] for number in chosen for side in ("first", "second")}:
        radiograph = samples[name].read_image()
        severity = segmenter.segment(radiograph).severity
        if severity is None:
            continue
        spread = deviations(segmenter, radiograph, severity)
        measured[name] = {measure: (getattr(severity, measure), spread[measure]) for measure in MEASURES}
    print(f"{len(pairs)} pairs of copies, {len(chosen)} taken, {len(measured)} films measured")
    print(
        f"{'measure':<8}{'rows':>6}{'median |d|':>12}{'95% |d|':>9}{'floor':>8}{'scale':>7}{'held out':>10}{'band':>7}"
    )
    for kind in ("lungs", "lung", "zone", "extent"):
        rows: list[list[Row]] = [[], []]
        for place, number in enumerate(chosen):
            first, second = (measured.get(pairs[number][side]) for side in ("first", "second"))
            for measure in MEASURES if first and second else ():
                (a, noise_a), (b, noise_b) = first[measure], second[measure]
                if kind_of(measure) == kind and a is not None and b is not None:
                    rows[place % 2].append((abs(a - b), noise_a, noise_b))
        _report(kind, rows)


def _report(kind: str, rows: list[list[Row]]) -> None:
    measure = next(name for name in MEASURES if kind_of(name) == kind)
    inside = []
    for fitted_on, judged in (rows, rows[::-1]):
        noise = _best(measure, kind, fitted_on)[0]
        inside += [row[0] <= band(measure, row[1], row[2], {kind: noise}) for row in judged]
    noise, width = _best(measure, kind, rows[0] + rows[1])
    differences = np.array([row[0] for part in rows for row in part])
    middle, high = np.quantile(differences, (0.5, 0.95))
    print(
        f"{kind:<8}{len(differences):>6}{middle:>12.4f}{high:>9.4f}{noise.floor:>8.4f}{noise.scale:>7.1f}"
        f"{np.mean(inside):>10.3f}{width:>7.3f}"
    )


def _best(measure: str, kind: str, rows: list[Row]) -> tuple[Noise, float]:
    """The fit with the narrowest mean band, and that band."""
    return min((_fit(measure, kind, rows, scale) for scale in SCALES), key=lambda one: one[1])


def _fit(measure: str, kind: str, rows: list[Row], scale: float) -> tuple[Noise, float]:
    """The smallest floor with which 95% lie within the band, and the mean band."""
    low, high = 0.0, 8.0 if kind == "extent" else 0.5
    for _ in range(30):
        middle = (low + high) / 2
        widths = [band(measure, a, b, {kind: Noise(middle, scale)}) for _, a, b in rows]
        inside = np.mean([row[0] <= width for row, width in zip(rows, widths, strict=True)])
        low, high = (low, middle) if inside >= 0.95 else (middle, high)
    noise = Noise(high, scale)
    return noise, float(np.mean([band(measure, a, b, {kind: noise}) for _, a, b in rows]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("audit", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--model", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
