"""Names of images to leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrseg.data.exclusions import Exclusion, exclude, read_exclusions, write_exclusions
from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    write_exclusions(file, [Exclusion("Train/Normal/a, b", "leak", "Val/Normal/c"), Exclusion("d", "duplicate", "e")])
    assert read_exclusions(file) == ["Train/Normal/a, b", "d"]


def test_plain_names_and_comments_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("# why\n\nTrain/Normal/a (1)\nVal/b\n")
    assert read_exclusions(file) == ["Train/Normal/a (1)", "Val/b"]


def test_the_others_stay_in_order(dataset: Dataset, tmp_path: Path) -> None:
    gone = dataset.samples[3].name
    (tmp_path / "names.txt").write_text(gone)
    left = exclude(dataset, tmp_path / "names.txt")
    assert [sample.name for sample in left.samples] == [s.name for s in dataset.samples if s.name != gone]
    assert left.fingerprint != dataset.fingerprint


def test_unknown_names_are_named(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(f"{dataset.samples[0].name}\nTrain/COVID-19/nonesuch\n")
    with pytest.raises(DatasetError, match=r"does not have 1 of the 2 images that .* names") as caught:
        exclude(dataset, tmp_path / "names.txt")
    assert caught.value.faults == ("Train/COVID-19/nonesuch",)


def test_not_everything_may_go(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(sample.name for sample in dataset.samples))
    with pytest.raises(DatasetError, match="names all images"):
        exclude(dataset, tmp_path / "names.txt")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.csv cannot be read"):
        read_exclusions(tmp_path / "none.csv")


def test_the_header_of_a_table_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Name;Reason\nVal/a;copy\n")
    assert read_exclusions(tmp_path / "a.csv") == ["Val/a"]
