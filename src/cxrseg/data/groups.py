"""Images that are not independent of each other: of one patient, or copies of one exposure.

A split must keep them together, and intervals must resample them together.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError
from cxrseg.io.raster import RASTER_SUFFIXES
from cxrseg.io.read import is_dicom

__all__ = ["group_words", "independent_groups", "with_copies", "with_exact_copies", "with_patients"]

_SHOWN = 20
_THREADS = 8
_NOBODY = frozenset({"", "0", "anon", "anonymous", "anonymized", "anonymised", "none", "unknown", "na", "n/a"})


def independent_groups(samples: Sequence[Sample]) -> list[int] | None:
    """Number the groups of samples that share a patient or an exposure, also through others; 0 comes first.

    Returns:
        The group of each sample, or None where no patient and no copy is known. A sample of which neither is known is
        a group of its own.
    """
    keys: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        for kind, value in (("patient", sample.patient), ("copies", sample.copies)):
            if value is not None:
                keys[kind, value].append(place)
    if not keys:
        return None
    joined = [(places[0], other) for places in keys.values() for other in places[1:]]
    ends = tuple([pair[side] for pair in joined] for side in (0, 1))
    graph = coo_array(([1] * len(joined), ends), shape=(len(samples), len(samples)))
    labels = connected_components(graph, directed=False)[1]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(label), len(numbers)) for label in labels]


def group_words(samples: Iterable[Sample]) -> str:
    """What the groups are: 'patients', 'groups of copies', 'patients and groups of copies', or '' where unknown."""
    samples = list(samples)
    words = ["patients"] if any(sample.patient is not None for sample in samples) else []
    words += ["groups of copies"] if any(sample.copies is not None for sample in samples) else []
    return " and ".join(words)


def with_copies(dataset: Dataset, path: Path | str) -> Dataset:
    """A dataset whose samples know the groups of copies that an audit found.

    Args:
        dataset: the whole dataset that was audited.
        path: audit.json of 'cxrseg data check', or the folder that holds it.

    Raises:
        DatasetError: it is not such a file, or names images that the dataset does not have.
    """
    file = Path(path) / "audit.json" if Path(path).is_dir() else Path(path)
    try:
        groups = json.loads(file.read_text(encoding="utf-8"))["copy_groups"]
        group_of = {name: names[0] for names in groups for name in names}
    except OSError as error:
        raise DatasetError(
            f"expected audit.json of 'cxrseg data check' at {file}, but it cannot be read ({error.strerror}); "
            "write it with 'cxrseg data check DATASET -o FOLDER', and name FOLDER"
        ) from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DatasetError(
            f"expected audit.json of 'cxrseg data check' at {file}, got something else ({type(error).__name__})"
        ) from None
    unknown = sorted(group_of.keys() - {sample.name for sample in dataset.samples})
    if unknown:
        more = [f"and {len(unknown) - _SHOWN} more"] if len(unknown) > _SHOWN else []
        raise DatasetError(
            f"{dataset.root} does not have {len(unknown)} of the {len(group_of)} copies that {file} names; run 'cxrseg "
            "data check' on this dataset again. They are:",
            unknown[:_SHOWN] + more,
        )
    samples = tuple(replace(sample, copies=group_of.get(sample.name, sample.copies)) for sample in dataset.samples)
    return replace(dataset, samples=samples)


def with_exact_copies(samples: Sequence[Sample]) -> list[Sample]:
    """Samples that know which image files have the same content; only files of the same size are read.

    Files that cannot be read are left out. Images of arrays are left as they are.
    """
    sizes: dict[int, list[Path]] = defaultdict(list)
    for sample in samples:
        if isinstance(sample.image, Path):
            try:
                sizes[sample.image.stat().st_size].append(sample.image)
            except OSError:
                continue
    doubtful = [path for paths in sizes.values() if len(paths) > 1 for path in paths]
    with ThreadPoolExecutor(_THREADS) as threads:
        digests = dict(zip(doubtful, threads.map(_digest, doubtful), strict=True))
    same: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if digest := digests.get(sample.image) if isinstance(sample.image, Path) else None:
            same[digest].append(sample.name)
    group_of = {name: names[0] for names in same.values() if len(names) > 1 for name in names}
    # A group that the audit found is larger, or the same.
    return [s if s.copies is not None else replace(s, copies=group_of.get(s.name)) for s in samples]


def with_patients(samples: Sequence[Sample]) -> list[Sample]:
    """Samples of DICOM files with the Patient ID of their file, where the dataset itself does not name the patient.

    An ID that says nothing ('anonymous', '0'), or that all files share, is left out.
    """
    unknown = [
        sample.image
        for sample in samples
        if sample.patient is None
        and isinstance(sample.image, Path)
        and sample.image.suffix.casefold() not in RASTER_SUFFIXES
        and is_dicom(sample.image)
    ]
    if not unknown:
        return list(samples)
    from cxrseg.io.dicom_patient_id import read_patient_id  # here, since importing pydicom takes long

    with ThreadPoolExecutor(_THREADS) as threads:
        stated = dict(zip(unknown, threads.map(read_patient_id, unknown), strict=True))
    found = {path: patient for path, patient in stated.items() if patient.casefold() not in _NOBODY}
    if len(set(found.values())) == 1 and len(found) > 1:
        return list(samples)
    return [
        replace(sample, patient=found.get(sample.image))
        if sample.patient is None and isinstance(sample.image, Path)
        else sample
        for sample in samples
    ]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
