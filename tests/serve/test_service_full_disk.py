"""A service whose disks are full: it says so, keeps what it has, and goes on once there is room."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from cxrseg.inference.options import Options
from made_disk import fill, small_disk
from made_models import chest
from made_service import png, serving

PIXELS, INFECTION, LUNGS = chest((200, 160))
EACH = {"image": PIXELS, "infection": INFECTION, "lungs": LUNGS}


def test_corrections_on_a_full_disk_are_saved_whole_or_not_at_all(options: Options, tmp_path: Path) -> None:
    files = {name: (f"{name}.png", png(values)) for name, values in EACH.items()}
    with small_disk(tmp_path / "disk", 512) as disk, serving(options=options, keep=disk / "keep") as (client, _):
        assert client.post("/v1/corrections", files=files).status_code == 200
        before = {path: path.read_bytes() for path in (disk / "keep").rglob("*") if path.is_file()}
        filler = fill(disk)
        files["image"] = ("another.png", png(PIXELS))
        answer = client.post("/v1/corrections", files=files)
        assert (answer.status_code, str(disk) in answer.json()["detail"]) == (507, True)
        assert "free some space" in answer.json()["detail"]
        assert {path: path.read_bytes() for path in (disk / "keep").rglob("*") if path.is_file()} == before
        filler.unlink()
        assert client.post("/v1/corrections", files=files).status_code == 200


def test_uploads_on_a_full_disk_are_a_problem_of_the_service(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 512) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with serving(options=options) as (client, service):
            filler = fill(disk)
            files = {"file": ("film.png", png(PIXELS))}
            answer = client.post("/v1/segment", files=files)
            assert answer.status_code == 507, answer.text
            assert "free some space" in answer.json()["detail"] and str(disk) in answer.json()["detail"]
            assert list(service.uploads.iterdir()) == []
            filler.unlink()
            assert client.post("/v1/segment", files=files).json()["status"] == "ok"
