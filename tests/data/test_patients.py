"""Images of one patient, and copies of one exposure, as groups that stay together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.data.groups import group_words, independent_groups, with_copies, with_exact_copies
from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset, Sample
from cxrseg.data.splits import hold_out
from cxrseg.errors import DatasetError
from made_dicom import make, saved


def sample(name: str, patient: str | None = None, copies: str | None = None, category: str | None = None) -> Sample:
    return Sample(name, "train", category, Path(f"{name}.png"), {}, patient=patient, copies=copies)


def dataset(samples: Sequence[Sample]) -> Dataset:
    return Dataset(Path("made"), "made", tuple(samples))


def test_patients_and_copies_join_also_through_others() -> None:
    found = independent_groups(
        [sample("a", "p"), sample("b"), sample("c", "q", "a"), sample("d", "p", "a"), sample("e", "r"), sample("f")]
    )
    assert found == [0, 1, 0, 0, 2, 3]
    assert independent_groups([sample("a"), sample("b")]) is None


def test_words() -> None:
    assert group_words([sample("a")]) == ""
    assert group_words([sample("a", "p"), sample("b")]) == "patients"
    assert group_words([sample("a", "p"), sample("b", copies="b")]) == "patients and groups of copies"


def test_hold_out_keeps_patients_together_and_takes_about_the_fraction() -> None:
    samples = [
        sample(f"{patient}-{film}", patient=str(patient)) for patient in range(40) for film in range(1 + patient % 4)
    ]
    held = hold_out(dataset(samples), "val", 0.2)
    patients = {split: {s.patient for s in held.samples if s.split == split} for split in ("train", "val")}
    assert not patients["train"] & patients["val"]
    assert abs(sum(s.split == "val" for s in held.samples) - 20) <= 2


def test_hold_out_takes_no_patient_whole_where_all_images_are_of_one() -> None:
    with pytest.raises(DatasetError, match="of two patients"):
        hold_out(dataset([sample("a", "p"), sample("b", "p")]), "val", 0.5)
    # A large patient is not taken where that leads further from the fraction.
    samples = [sample(f"large{n}", "large") for n in range(30)] + [sample(f"s{n}", f"s{n}") for n in range(10)]
    held = [s.name for s in hold_out(dataset(samples), "val", 0.1).samples if s.split == "val"]
    assert len(held) <= 10 and not any(name.startswith("large") for name in held)


def test_hold_out_keeps_files_of_the_same_content_together(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(12):
        pixels = np.full((40, 40), 10 * (number // 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / f"masks/{number}.png")
    held = hold_out(open_dataset(tmp_path), "val", 0.25)
    assert len({int(s.name) // 3 for s in held.samples if s.split == "val"}) == 1
    assert sum(s.split == "val" for s in held.samples) == 3


def test_exact_copies_do_not_split_a_group_of_the_audit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"same")
    (tmp_path / "b.png").write_bytes(b"same")
    (tmp_path / "c.png").write_bytes(b"else")
    samples = [Sample(n, "train", None, tmp_path / f"{n}.png", {}) for n in "abc"]
    assert [s.copies for s in with_exact_copies(samples)] == ["a", "a", None]


def test_groups_of_the_audit_are_read(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps({"copy_groups": [["b", "c"]]}))
    data = dataset([sample("a"), sample("b"), sample("c")])
    assert [s.copies for s in with_copies(data, tmp_path).samples] == [None, "b", "b"]
    assert with_copies(data, tmp_path / "audit.json") == with_copies(data, tmp_path)
    with pytest.raises(DatasetError, match="1 of the 2 copies") as caught:
        with_copies(dataset([sample("a"), sample("b")]), tmp_path)
    assert caught.value.faults == ("c",)


@pytest.mark.parametrize("content", [None, "no", "[]", '{"copy_groups": 3}'])
def test_what_is_no_audit_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "audit.json").write_text(content)
    with pytest.raises(DatasetError, match=r"expected audit\.json of 'cxrseg data check' at"):
        with_copies(dataset([sample("a")]), tmp_path)


@pytest.mark.parametrize(
    ("stated", "known"),
    [
        (["A1", "A1", "B2"], ["A1", "A1", "B2"]),
        (["A1", "", "anonymous"], ["A1", None, None]),
        (["same", "same", "same"], [None, None, None]),
    ],
)
def test_dicom_files_name_their_patient(tmp_path: Path, stated: list[str], known: list[str | None]) -> None:
    for number, patient in enumerate(stated):
        saved(tmp_path, make(np.arange(1600, dtype=np.uint16).reshape(40, 40), PatientID=patient), f"{number}.dcm")
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / f"{number}_mask.png")
    assert [s.patient for s in open_dataset(tmp_path).samples] == known


def test_a_table_names_the_patient(tmp_path: Path) -> None:
    for name in ("a", "b", "m"):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("image,mask,patient\na.png,m.png,P 1\nb.png,m.png,\n")
    assert [s.patient for s in open_dataset(tmp_path / "pairs.csv").samples] == ["P 1", None]
