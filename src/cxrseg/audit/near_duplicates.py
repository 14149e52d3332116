"""Images that show the same exposure more than once, and the groups that they form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cxrseg.audit.registration import Match, register
from cxrseg.audit.signatures import Candidate, find_candidates
from cxrseg.data.exclusions import Exclusion
from cxrseg.data.pairs import natural_key
from cxrseg.data.sample import SPLITS, Sample

__all__ = ["NEAR_DUPLICATE", "SIMILAR", "Pair", "Picture", "choose_exclusions", "copy_groups", "find_pairs"]

NEAR_DUPLICATE = 0.85
"""Similarity (see `cxrseg.audit.registration.Match`) from which two images count as copies of one exposure."""

SIMILAR = 0.6
"""Similarity from which a pair should be looked at: mostly one patient twice, sometimes a heavily edited copy."""

_IDENTITY: npt.NDArray[np.float32] = np.eye(2, 3, dtype=np.float32)
_THREADS = 4


@dataclass(frozen=True, eq=False)
class Picture:
    """What the search needs to know about one image.

    Attributes:
        sample: the image.
        thumbnail: (128, 128) uint8, resized to a square.
        digest: hash of the pixels at their original size.
    """

    sample: Sample
    thumbnail: npt.NDArray[np.uint8]
    digest: bytes


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images that show, or may show, the same exposure.

    Attributes:
        first, second: the images, in the order of the dataset.
        kind: 'exact' (equal pixels), 'near' (a copy: rescaled, cropped, of other contrast, mirrored, marked ...) or
            'similar' (to be looked at; not counted as a copy).
        similarity: 1 for exact pairs, else see `cxrseg.audit.registration.Match`.
        mirrored: True where one is mirrored left to right.
        warp: (2, 3) float32, from coordinates (x, y, as fractions of the side) of the first to those of the second;
            where `mirrored`, the second is mirrored first.
    """

    first: Sample
    second: Sample
    kind: str
    similarity: float
    mirrored: bool
    warp: npt.NDArray[np.float32]

    @property
    def is_copy(self) -> bool:
        """True where both show one exposure, as far as the pixels tell."""
        return self.kind != "similar"

    @property
    def is_leak(self) -> bool:
        """True for copies in two splits."""
        return self.is_copy and self.first.split != self.second.split

    @property
    def splits(self) -> str:
        """'train', or 'train-val' for a pair across two."""
        return "-".join(dict.fromkeys((self.first.split, self.second.split)))

    @property
    def change(self) -> str:
        """The geometry between the two in words, such as 'mirrored, 0.93 x 0.95 in size'; empty for none."""
        linear = self.warp[:, :2]
        width, height = np.linalg.norm(linear, axis=0)
        turn = np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))
        shift = np.abs(linear @ [0.5, 0.5] + self.warp[:, 2] - 0.5).max()
        words = ["mirrored"] if self.mirrored else []
        if max(abs(width - 1), abs(height - 1)) > 0.015:
            words.append(f"{width:.2f} x {height:.2f} in size")
        if abs(turn) > 0.75:
            words.append(f"rotated by {abs(turn):.0f} degrees")
        if shift > 0.015:
            words.append(f"shifted by {shift:.0%}")
        return ", ".join(words)


def find_pairs(pictures: Sequence[Picture]) -> list[Pair]:
    """Find images of the same exposure, in three steps: equal pixels, signatures, registration.

    Args:
        pictures: all images of the dataset, in its order.

    Returns:
        Copies and similar pairs, each pair once, the most similar first.
    """
    exact = _exact(pictures)
    thumbnails = (
        np.stack([picture.thumbnail for picture in pictures]) if pictures else np.empty((0, 128, 128), np.uint8)
    )
    wanted = [found for found in find_candidates(thumbnails) if tuple(sorted((found.fixed, found.moving))) not in exact]

    def registered(found: Candidate) -> Match | None:
        moving = thumbnails[found.moving]
        return register(thumbnails[found.fixed], moving[:, ::-1] if found.mirrored else moving, found.warp)

    with ThreadPoolExecutor(_THREADS) as threads:  # OpenCV releases the interpreter's lock
        matches = list(threads.map(registered, wanted))
    best: dict[tuple[int, int], tuple[Candidate, Match]] = {}
    for found, match in zip(wanted, matches, strict=True):
        key = (min(found.fixed, found.moving), max(found.fixed, found.moving))
        if match and match.similarity >= SIMILAR and (key not in best or best[key][1].similarity < match.similarity):
            best[key] = found, match
    pairs = [
        Pair(pictures[first].sample, pictures[second].sample, "exact", 1.0, False, _IDENTITY)
        for first, second in sorted(exact)
    ]
    near = [_pair(pictures, found, match) for found, match in best.values()]
    return pairs + sorted(near, key=lambda pair: -pair.similarity)


def copy_groups(pairs: Sequence[Pair]) -> list[list[Sample]]:
    """Groups of images that are copies of each other, directly or through others, in the order of the pairs."""
    copies = [pair for pair in pairs if pair.is_copy]
    samples = list({sample.name: sample for pair in copies for sample in (pair.first, pair.second)}.values())
    if not samples:
        return []
    place = {sample.name: index for index, sample in enumerate(samples)}
    ends = np.array([(place[pair.first.name], place[pair.second.name]) for pair in copies])
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(samples), len(samples)))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[Sample]] = defaultdict(list)
    for sample, label in zip(samples, labels, strict=True):
        groups[int(label)].append(sample)
    return list(groups.values())


def choose_exclusions(pairs: Sequence[Pair]) -> list[Exclusion]:
    """Choose which images to leave out, so that one of each group of copies is kept.

    The one that is kept is in test, else in val, else in train, and is the first there in natural order of names.

    Args:
        pairs: what `find_pairs` found; similar pairs do not count.
    """
    chosen = []
    for group in copy_groups(pairs):
        kept, *rest = sorted(group, key=_rank)
        chosen += [
            Exclusion(sample.name, "duplicate" if sample.split == kept.split else "leak", kept.name) for sample in rest
        ]
    return sorted(chosen, key=lambda exclusion: natural_key(exclusion.name))


def _rank(sample: Sample) -> tuple[int, object]:
    return -SPLITS.index(sample.split), natural_key(sample.name)


def _exact(pictures: Sequence[Picture]) -> set[tuple[int, int]]:
    """Places of pictures with equal pixels."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        places[picture.digest].append(place)
    return {pair for same in places.values() for pair in combinations(same, 2)}


def _pair(pictures: Sequence[Picture], found: Candidate, match: Match) -> Pair:
    kind = "near" if match.similarity >= NEAR_DUPLICATE else "similar"
    first, second, warp = found.fixed, found.moving, match.warp
    if first > second:
        first, second, warp = second, first, _reversed(warp, found.mirrored)
    return Pair(pictures[first].sample, pictures[second].sample, kind, match.similarity, found.mirrored, warp)


def _reversed(warp: npt.NDArray[np.float32], mirrored: bool) -> npt.NDArray[np.float32]:
    """The warp the other way; where mirrored, it is then the other picture that is mirrored."""
    square = np.linalg.inv(np.vstack([warp, [0, 0, 1]]))
    if mirrored:
        mirror = np.array([[-1, 0, 1], [0, 1, 0], [0, 0, 1]])
        square = mirror @ square @ mirror
    return square[:2].astype(np.float32)
