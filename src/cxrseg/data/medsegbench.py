"""MedSegBench's .npz files of images and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import SPLITS, ArrayItem, Sample
from cxrseg.errors import DatasetError

__all__ = ["read_arrays"]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_EXPECTED = (
    "expected the arrays train_images and train_label (and val_..., test_...), "
    "uint8 of shape (N, H, W) or (N, H, W, C), as in MedSegBench's covidquex_256.npz"
)


def read_arrays(path: Path) -> tuple[list[Sample], list[str]]:
    """Read an .npz file in the format of MedSegBench (Kuş and Aydin, Scientific Data 2024), without pickle.

    Images are 8-bit; three channels become luma (ITU-R 601). Labels are 0 and one other value (1 or 255), and are
    used as infection masks. All images of covidquex_*.npz are of COVID-19; in other files the category is unknown.

    Args:
        path: the file.

    Returns:
        The samples, whose pixels are views of the arrays, and one line for each fault.

    Raises:
        DatasetError: the file is damaged or does not have such arrays.
    """
    arrays, names = _load(path)
    category = "COVID-19" if path.name.casefold().startswith("covidquex") else None
    samples: list[Sample] = []
    faults: list[str] = []
    for split in SPLITS:
        keys = (f"{split}_images", f"{split}_label")
        present = [key for key in keys if key in arrays]
        if len(present) == 1:
            missing = next(key for key in keys if key not in arrays)
            faults.append(f"{path.name}: has {present[0]} but no {missing}")
        elif present and not (problems := _problems(arrays[keys[0]], arrays[keys[1]])):
            samples += _samples(path, split, category, _gray(arrays[keys[0]]), _flat(arrays[keys[1]]) != 0)
        elif present:
            faults += [f"{path.name}, {split}: {problem}" for problem in problems]
    if not samples and not faults:
        raise DatasetError(f"{path} has no images; {_EXPECTED}; it holds: {', '.join(names) or 'nothing'}")
    return samples, faults


def _load(path: Path) -> tuple[dict[str, npt.NDArray[np.generic]], list[str]]:
    wanted = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "label")]
    try:
        # NumPy does not close a damaged file that it has opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in wanted if key in stored.files}, list(stored.files)
    except MemoryError as error:
        raise DatasetError(f"{path} does not fit into memory; use the file of a smaller size") from error
    except Exception as error:  # NumPy, zipfile and zlib raise nearly anything on a damaged file
        raise DatasetError(
            f"{path} is damaged, or is not an .npz file of arrays ({error}); download it again"
        ) from error


def _problems(images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> list[str]:
    problems = []
    if images.dtype != np.uint8:
        problems.append(f"expected images of uint8, got {images.dtype}")
    if labels.dtype.kind not in "bui":
        problems.append(f"expected labels of uint8 or bool, got {labels.dtype}")
    for kind, array, channels in (("images", images, (1, 3)), ("label", labels, (1,))):
        if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in channels):
            problems.append(f"expected {kind} of shape (N, H, W) or (N, H, W, C), got {array.shape}")
    if problems:
        return problems
    if images.shape[:3] != labels.shape[:3]:
        problems.append(f"images of (N, H, W) {images.shape[:3]} do not fit labels of {labels.shape[:3]}")
    if labels.size and ((labels != 0) & (labels != labels.max())).any():
        some = ", ".join(str(value) for value in np.unique(labels)[:6])
        problems.append(f"expected labels of 0 and 1, or 0 and 255, got {some}, ...")
    return problems


def _flat(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(N, H, W, 1) without its last axis."""
    return array[..., 0] if array.ndim == 4 else array


def _gray(images: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(N, H, W) uint8; image by image, so that memory never holds all images as floating point numbers."""
    if images.ndim == 3 or images.shape[-1] == 1:
        return _flat(images)
    gray = np.empty(images.shape[:3], dtype=np.uint8)
    for target, image in zip(gray, images, strict=True):
        target[...] = np.rint(image @ _LUMA)
    return gray


def _samples(
    path: Path,
    split: str,
    category: str | None,
    images: npt.NDArray[np.generic],
    labels: npt.NDArray[np.bool_],
) -> list[Sample]:
    return [
        Sample(
            name=f"{split.capitalize()}/{index}",
            split=split,
            category=category,
            image=ArrayItem(path, f"{split}_images", index, image),
            masks={"infection": ArrayItem(path, f"{split}_label", index, label)},
        )
        for index, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
