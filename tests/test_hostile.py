"""A small corpus of bad input through the real `predict`, `serve` and `node`: each file is answered with a reason.

`benchmarks/hostile_files.py` sends thousands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

hostile: Any = pytest.importorskip("hostile_files", reason="needs the repository: benchmarks/ is not installed")

LARGEST = 1000  # MB a worker


@pytest.mark.parametrize("interface", ["predict", "serve", "node"])
def test_bad_input_is_answered_with_a_reason_and_what_follows_is_segmented(tmp_path: Path, interface: str) -> None:
    through, workers = hostile.INTERFACES[interface]
    files = hostile.files_of(60, seed=1, large=False)
    found = through(files, tmp_path)
    assert len(found.outcomes) == len(files) > 130
    assert {one.kind for one in found.outcomes} == {*hostile.KINDS, hostile.SOUND}
    assert [one for one in found.outcomes if one.what == hostile.FAILED] == []
    assert found.outcomes[-1].kind == hostile.SOUND and found.outcomes[-1].what == hostile.ANSWERED
    assert found.ended == ("exit 1" if interface == "predict" else "still ran, then exit 0")
    assert "Traceback" not in found.log
    assert found.outside == []
    assert found.megabytes < LARGEST * workers
