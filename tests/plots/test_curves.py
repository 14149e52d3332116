"""Curves by epoch: files, labels, gaps and the best epoch."""

import math
from pathlib import Path

import pytest
from PIL import Image

from cxrseg.plots.curves import draw_dice, draw_loss, draw_rmse

KEYS = ("loss", "rmse", "dice", "iou")


def history(epochs: int = 5) -> list[dict[str, float | None]]:
    rows: list[dict[str, float | None]] = []
    for epoch in range(1, epochs + 1):
        row: dict[str, float | None] = {"epoch": epoch}
        for key in KEYS:
            row[f"train_{key}"] = 1 / (epoch + 1)
            row[f"val_{key}"] = abs(epoch - 3) / 10 + 0.25
        rows.append(row)
    return rows


def svg(files: list[Path]) -> str:
    return files[1].read_text(encoding="utf-8")


def test_png_and_svg_are_written_with_text_as_text(tmp_path: Path) -> None:
    files = draw_loss(history(), tmp_path / "figures" / "loss.v1")
    assert [file.name for file in files] == ["loss.v1.png", "loss.v1.svg"]
    with Image.open(files[0]) as image:
        assert image.width == pytest.approx(85 / 25.4 * 300, abs=2)  # one column at 300 dpi
    for word in ("epoch", "loss", "training", "validation"):
        assert f">{word}<" in svg(files)
    assert sorted(file.name for file in files[0].parent.iterdir()) == ["loss.v1.png", "loss.v1.svg"]


def test_the_best_epoch_is_the_lowest_loss_and_the_highest_dice(tmp_path: Path) -> None:
    assert "best 0.25 (epoch 3)" in svg(draw_loss(history(), tmp_path / "loss"))
    assert "best 0.25 (epoch 3)" in svg(draw_rmse(history(), tmp_path / "rmse"))
    assert "best 0.45 (epoch 1)" in svg(draw_dice(history(), tmp_path / "dice"))
    assert "best 0.35 (epoch 4)" in svg(draw_loss(history(), tmp_path / "given", best_epoch=4))
    assert "best" not in svg(draw_loss(history(), tmp_path / "unknown", best_epoch=99))


def test_axes_say_what_they_show(tmp_path: Path) -> None:
    assert "RMSE of the probability (0 to 1)" in svg(draw_rmse(history(), tmp_path / "rmse"))
    both = svg(draw_dice(history(), tmp_path / "dice"))
    assert "Dice (0 to 1)" in both and "IoU (0 to 1)" in both


def test_dice_alone_makes_one_panel(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if not key.endswith("iou")} for row in history()]
    files = draw_dice(rows, tmp_path / "dice")
    assert "IoU" not in svg(files)
    with Image.open(files[0]) as image:
        assert image.width < 1100


@pytest.mark.parametrize("gap", [None, math.nan, math.inf])
def test_gaps_and_a_single_row(tmp_path: Path, gap: float | None) -> None:
    rows = history()
    rows[2]["val_loss"] = gap
    assert "best 0.35 (epoch 2)" in svg(draw_loss(rows, tmp_path / "gap"))
    assert "best 0.45 (epoch 1)" in svg(draw_loss(rows[:1], tmp_path / "single"))
    rows[2]["val_dice"] = gap
    assert svg(draw_dice(rows, tmp_path / "dice")).count(">best 0.45 (epoch 1)<") == 2  # Dice and IoU


def test_without_validation_only_training_is_drawn(tmp_path: Path) -> None:
    rows = [{"epoch": row["epoch"], "train_loss": row["train_loss"], "val_loss": None} for row in history()]
    drawn = svg(draw_loss(rows, tmp_path / "loss"))
    assert "training" in drawn and "validation" not in drawn and "best" not in drawn


@pytest.mark.parametrize("rows", [[], [{"epoch": 1}]])
def test_nothing_recorded_is_said(tmp_path: Path, rows: list[dict[str, float | None]]) -> None:
    assert "no values recorded" in svg(draw_dice(rows, tmp_path / "dice"))


def test_the_same_history_gives_the_same_files(tmp_path: Path) -> None:
    first, second = (draw_dice(history(), tmp_path / name / "dice") for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
