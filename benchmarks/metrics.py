"""Processor time for the figures of `cxrseg evaluate` beside MONAI, and seconds for all of an evaluation.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--images 932] [--peer 64] [--rounds 3] [--size 256]

Masks are blobs of random noise within two drawn lungs. Both get the same masks, in one run, their rounds alternating;
the best round counts. MONAI is given one image at a time, as most scripts do, and ours is timed in one thread for that.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from monai import metrics as monai
from scipy import ndimage

from cxrseg.data.sample import Dataset, Sample
from cxrseg.evaluation.evaluate import Evaluation
from cxrseg.evaluation.image_scores import evaluate_image
from cxrseg.inference.prediction import Prediction
from cxrseg.metrics.segmentation import count, rmse, score
from cxrseg.metrics.surface import surface_distances

THRESHOLDS = {"infection": 0.5, "lungs": 0.5}


class Drawn(Sample):
    """A sample whose masks are in memory."""

    drawn: dict[str, np.ndarray]

    def read_mask(self, target: str) -> np.ndarray:
        return self.drawn[target]


def draw(number: int, size: int) -> tuple[Sample, Prediction]:
    """Lungs with an infection, or every other image without, and a prediction that is near it."""
    random = np.random.default_rng(number)
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    lungs = np.zeros((size, size), bool)
    for column in (0.3, 0.7):
        lungs |= ((rows - 0.5) / 0.36) ** 2 + ((columns - column) / random.uniform(0.11, 0.17)) ** 2 <= 1
    true, other = (ndimage.gaussian_filter(random.normal(size=lungs.shape), size / 16) for _ in range(2))
    true, other = true / true.std(), other / other.std()
    infection = (true > random.normal(0, 0.5)) & lungs if number % 2 else np.zeros_like(lungs)
    found = 1 / (1 + np.exp(-4 * (true + 0.4 * other))) * lungs
    sample = Drawn(str(number), "val", "COVID-19" if number % 2 else "Normal", Path("none"), {})
    object.__setattr__(sample, "drawn", {"infection": infection, "lungs": lungs})
    probabilities = {"infection": found, "lungs": np.roll(lungs, 2, axis=1)}
    return sample, Prediction({key: value.astype(np.float32) for key, value in probabilities.items()}, THRESHOLDS)


def ways() -> dict[str, tuple[Callable[..., object], Callable[..., object]]]:
    """Name to ours and MONAI's; ours get arrays, MONAI tensors of one image, probability first, then masks."""

    def distances(_: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> object:
        found = surface_distances(mask, truth)
        return found.hd95, found.assd, found.nsd(2.0), found.nsd(4.0)

    def ratios(_: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> object:
        found = count(mask, truth)
        return found.dice, found.iou, found.precision, found.recall, found.specificity

    def their_distances(_: torch.Tensor, mask: torch.Tensor, truth: torch.Tensor) -> object:
        return (
            monai.compute_hausdorff_distance(mask, truth, include_background=True, percentile=95),
            monai.compute_average_surface_distance(mask, truth, include_background=True, symmetric=True),
            monai.compute_surface_dice(mask, truth, [2.0], include_background=True),
            monai.compute_surface_dice(mask, truth, [4.0], include_background=True),
        )

    def their_ratios(_: torch.Tensor, mask: torch.Tensor, truth: torch.Tensor) -> object:
        table = monai.get_confusion_matrix(mask, truth)
        names = ("precision", "sensitivity", "specificity")
        others = [monai.compute_confusion_matrix_metric(name, table) for name in names]
        return monai.compute_dice(mask, truth), monai.compute_iou(mask, truth), *others

    def their_rmse(found: torch.Tensor, _: torch.Tensor, truth: torch.Tensor) -> object:
        return monai.RMSEMetric()(found, truth)

    return {
        "Dice, IoU, precision, recall, specificity": (ratios, their_ratios),
        "RMSE": (lambda found, _, truth: rmse(found, truth), their_rmse),
        "HD95, ASSD, NSD at 2 and 4 pixels": (distances, their_distances),
        "all of a row": (
            lambda found, _, truth: score(found, truth),
            lambda *given: (their_ratios(*given), their_rmse(*given), their_distances(*given)),
        ),
    }


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(pairs: list[tuple[Sample, Prediction]], rounds: int) -> None:
    arrays = [
        (found.probabilities["infection"], found.mask("infection"), sample.read_mask("infection"))
        for sample, found in pairs
        if sample.category == "COVID-19"  # MONAI warns of empty masks, and skips their work
    ]
    tensors = [tuple(torch.from_numpy(array.astype(np.float32))[None, None] for array in given) for given in arrays]
    print(f"{len(arrays)} infected images of {arrays[0][0].shape}, processor ms an image, best of {rounds} rounds")
    print(f"{'':<44}{'cxrseg':>8}{'MONAI':>8}{'ratio':>8}")
    for name, (ours, theirs) in ways().items():
        taken: list[list[float]] = [[], []]
        for _ in range(rounds):
            for times, way, given in zip(taken, (ours, theirs), (arrays, tensors), strict=True):
                start = time.process_time()
                for one in given:
                    way(*one)
                times.append((time.process_time() - start) / len(arrays) * 1000)
        mine, other = map(min, taken)
        print(f"{name:<44}{mine:>8.2f}{other:>8.2f}{other / mine:>7.1f}x")


def whole(pairs: list[tuple[Sample, Prediction]]) -> None:
    """All that `evaluate` does but for reading files and running the network."""

    def judge(pair: tuple[Sample, Prediction]) -> object:
        return evaluate_image(*pair, tuple(THRESHOLDS), None)

    start = time.process_time()
    with ThreadPoolExecutor() as pool:
        images: list = []
        rows = seconds(lambda: images.extend(pool.map(judge, pairs)))
    dataset = Dataset(Path("none"), "drawn", tuple(sample for sample, _ in pairs))
    dataset.__dict__["fingerprint"] = ""  # reads the files
    evaluation = Evaluation(None, dataset, THRESHOLDS, images)
    means = seconds(evaluation.summary)
    print(f"\n{len(pairs)} images, infection and lungs, as `cxrseg evaluate` has them once they are predicted:")
    print(f"rows {rows:.1f} s, means and intervals {means:.1f} s, {rows + means:.1f} s in all", end="")
    print(f" ({time.process_time() - start:.1f} s of processor time)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=932, help="for the whole evaluation")
    parser.add_argument("--peer", type=int, default=64, help="images for the comparison with MONAI")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of MONAI, by MONAI
    pairs = [draw(number, given.size) for number in range(max(given.images, 2 * given.peer))]
    compare(pairs[: 2 * given.peer], given.rounds)
    whole(pairs[: given.images])


if __name__ == "__main__":
    main()
