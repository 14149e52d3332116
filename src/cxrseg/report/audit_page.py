"""The data audit as one self-contained HTML page, and as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from PIL import Image

from cxrseg.audit.audit import Audit
from cxrseg.audit.mask_faults import FAULTS
from cxrseg.audit.near_duplicates import Pair
from cxrseg.audit.shortcuts import VIEWS
from cxrseg.data.sample import Sample
from cxrseg.io.write import write_bytes, write_json
from cxrseg.report.pages import page_environment

__all__ = ["audit_lines", "write_audit"]

_SIDE = 256
_SHOWN = 60


def write_audit(audit: Audit, out: Path) -> tuple[Path, Path]:
    """Write audit.html and audit.json.

    The page contains pictures of the pairs: treat it like the dataset.

    Args:
        audit: the result of `audit_dataset`.
        out: the folder; it is created where missing.

    Returns:
        The paths of the page and of the JSON file.

    Raises:
        DiskFullError: the disk is full.
    """
    environment = page_environment()
    page = environment.get_template("audit.html.jinja").render(_content(audit))
    write_bytes(out / "audit.html", page.encode("utf-8", "backslashreplace"))
    write_json(out / "audit.json", audit.to_json())
    return out / "audit.html", out / "audit.json"


def audit_lines(audit: Audit) -> list[str]:
    """The audit in a few lines of text."""
    lines = [f"{count.split:<6}{count.category or '-':<16}{count.images:>6}  {count.remark}" for count in audit.counts]
    lines.append(f"unreadable images {len(audit.unreadable)}, misfits {len(audit.misfits)}")
    lines += [f"{target}: {kind} {count}" for (target, kind), count in sorted(audit.fault_counts().items())]
    lines += [f"{kind} pairs in {splits}: {count}" for (kind, splits), count in sorted(audit.pair_counts().items())]
    lines += [
        f"{row[0]}: AUC from {', '.join(f'{v} {a}' for v, a in zip(VIEWS, row[1:], strict=True))}"
        for row in _shortcuts(audit)
    ]
    lines.append(_verdict(audit))
    return lines


def _verdict(audit: Audit) -> str:
    if audit.leaks:
        names = {exclusion.name for exclusion in audit.exclusions if exclusion.reason == "leak"}
        return f"Leak: {len(audit.leaks)} pairs of copies across splits. To remove it, leave out {len(names)} images."
    return "No leak between splits was found."


def _content(audit: Audit) -> dict[str, Any]:
    similar = [pair for pair in audit.pairs if not pair.is_copy]
    return {
        "title": audit.root.name,
        "layout": audit.layout,
        "images": sum(count.images for count in audit.counts),
        "leaks": len(audit.leaks),
        "verdict": _verdict(audit),
        "counts": [(c.split, c.category or "", c.images, _or_empty(c.published), c.remark) for c in audit.counts],
        "unused": [line.partition(" in ")[::2] for line in audit.unused],
        "forms": list(audit.forms.items()),
        "broken": [*audit.unreadable.items(), *(line.partition(": ")[::2] for line in audit.misfits)],
        "pair_counts": [(*key, count) for key, count in sorted(audit.pair_counts().items())],
        "pairs": [_row(audit, pair) for pair in audit.pairs],
        "agreement": _agreement(audit),
        "exclusions": [(one.name, one.reason, one.copy_of) for one in audit.exclusions],
        "shown_leaks": _pictures(audit.leaks),
        "shown_similar": _pictures(similar),
        "fault_counts": [(*key, count, FAULTS[key[1]]) for key, count in sorted(audit.fault_counts().items())],
        "faults": [
            (one.name, one.target, one.kind, "" if one.value is None else f"{one.value:.3g}", one.detail)
            for one in audit.faults
        ],
        "views": list(VIEWS.values()),
        "shortcuts": _shortcuts(audit),
    }


def _row(audit: Audit, pair: Pair) -> tuple[str, ...]:
    dice = audit.agreement.get((pair.first.name, pair.second.name))
    categories = dict.fromkeys(sample.category or "" for sample in (pair.first, pair.second))
    return (
        pair.first.name,
        pair.second.name,
        pair.kind,
        f"{pair.similarity:.3f}",
        pair.change,
        " / ".join(categories),
        "" if dice is None else f"{dice:.3f}",
    )


def _agreement(audit: Audit) -> str:
    values = list(audit.agreement.values())
    if not values:
        return ""
    return (
        f"Infection masks of {len(values)} pairs of copies: Dice {fmean(values):.3f} on average, median "
        f"{median(values):.3f}, lowest {min(values):.3f}. This is how well the annotation agrees with itself."
    )


def _shortcuts(audit: Audit) -> list[list[str]]:
    auc = {(one.category, one.view): one.auc for one in audit.shortcuts}
    categories = dict.fromkeys(one.category for one in audit.shortcuts)
    return [[category, *(f"{auc[category, view]:.3f}" for view in VIEWS)] for category in categories]


def _or_empty(value: int | None) -> str:
    return "" if value is None else str(value)


def _pictures(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    return [
        {
            "first": pair.first.name,
            "second": pair.second.name,
            "about": ", ".join(word for word in (pair.kind, f"similarity {pair.similarity:.2f}", pair.change) if word),
            "image": _side_by_side(pair.first, pair.second),
        }
        for pair in pairs[:_SHOWN]
    ]


def _side_by_side(first: Sample, second: Sample) -> str:
    """Two images beside each other, as the data URL of a JPEG."""
    both = Image.new("L", (2 * _SIDE, _SIDE))
    for place, sample in enumerate((first, second)):
        gray = Image.fromarray(np.rint(sample.read_image().pixels * 255).astype(np.uint8))
        both.paste(gray.resize((_SIDE, _SIDE)), (place * _SIDE, 0))
    data = io.BytesIO()
    both.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
