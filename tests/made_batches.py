"""Images for `predict_files`, and what its runs leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cxrseg.inference.files import JOURNAL
from made_models import chest


def draw(path: Path, infected: bool = True, shape: tuple[int, int] = (180, 200)) -> Path:
    """Write a chest as a PNG; its folder is made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(chest(shape, infected)[0] * 255).astype(np.uint8)).save(path)
    return path


def everything(out: Path) -> dict[str, bytes]:
    """All that a run leaves, hidden files too, but for its times."""
    kept = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name not in (JOURNAL, "manifest.json"))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in kept}
