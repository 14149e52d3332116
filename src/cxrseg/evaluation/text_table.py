"""The summary of an evaluation as lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["summary_lines"]

_COLUMNS = {
    "dice": ("Dice", 21),
    "iou": ("IoU", 7),
    "precision": ("precision", 11),
    "recall": ("recall", 8),
    "rmse": ("RMSE", 7),
    "hd95": ("HD95", 7),
    "nsd2": ("NSD 2px", 9),
}
"""Figure to its heading and width."""


def summary_lines(summary: Mapping[str, Any], channels: Sequence[str]) -> Iterator[str]:
    """The means as a table.

    Args:
        summary: of an `Evaluation`.
        channels: the keys of the summary that are kinds of mask.
    """
    for channel in channels:
        yield from _channel(channel, summary[channel], summary["thresholds"][channel])
    if summary["refused"]["images"]:
        yield f"{summary['refused']['images']} images refused; their masks count as empty"
    yield from _severity(summary["severity"])
    yield from _expected_dice(summary["expected_dice"])
    yield from _image_level(summary["image_level"])
    yield _resampled(summary["intervals"])


def _resampled(intervals: Mapping[str, Any]) -> str:
    known = "" if intervals["resampled"] != "images" else "; patients are not known"
    return f"{intervals['level']:.0%} intervals: {intervals['units']} {intervals['resampled']} were resampled{known}"


def _channel(channel: str, values: Mapping[str, Any], threshold: float) -> Iterator[str]:
    yield (
        f"{channel} at {threshold:g}: {values['images']} images, "
        f"{values['infected']} with a mask, {values['missed']} missed, "
        f"{values['false_alarm']} false alarms, {values['both_empty']} empty on both sides"
    )
    per_image, pooled = values["infected_per_image"], values["infected_pooled"]
    every = values["all_images_empty_on_empty_is_1"] | {"rmse": values["rmse"]}
    yield f"  {'':36}" + "".join(f"{head:>{width}}" for head, width in _COLUMNS.values())
    yield _line("images with a mask, per image", per_image)
    if per_image.get("hd95_mm", {}).get("n"):
        hd95, assd, nsd = (per_image[name]["mean"] for name in ("hd95_mm", "assd_mm", "nsd2_mm"))
        yield (
            f"    in mm, {per_image['hd95_mm']['n']} images whose pixel size is known: HD95 {_number(hd95, 1)}, "
            f"ASSD {_number(assd, 1)}, NSD 2 mm {_number(nsd, 3)}"
        )
    yield _line("images with a mask, pixels pooled", pooled)
    yield _line("all images, empty on empty = 1", every)
    for group in values.get("by_size", ()):
        if group["images"]:
            name = f"{100 * group['from']:.0f}-{group['to']:.0%} of the lungs, {group['images']} images"
            yield _line(f"  {name}", group["infected_per_image"])
    regions = values.get("by_region", {})
    dices = [(region.replace("_", " "), found["dice"]["mean"]) for region, found in regions.items()]
    if any(dice is not None for _, dice in dices):
        yield "  Dice by the patient's side and its thirds:"
        for side in ("left", "right"):
            parts = (f"{region} {_number(dice, 3)}" for region, dice in dices if region.startswith(side))
            yield f"    {', '.join(parts)}"
    yield from _marked(values)


def _marked(values: Mapping[str, Any]) -> Iterator[str]:
    marked = values["uninfected_marked"]
    if not marked["n"]:
        return
    parts = {"in all": marked} | {
        category: found["uninfected_marked"]
        for category, found in values["by_category"].items()
        if found["uninfected_marked"]["n"]
    }
    fractions = ", ".join(f"{name} {part['fraction']:.1%} of {part['n']}" for name, part in parts.items())
    yield f"  images without, more than {marked['limit']:.0%} of the lungs marked: {fractions}"


def _severity(found: Mapping[str, Any] | None) -> Iterator[str]:
    for name, values in _populations(found):
        error, bias = (_points(values[key]["mean"], values[key]["interval"]) for key in ("mean_absolute_error", "bias"))
        lower, upper = (_points(values["limits_of_agreement"][end]["value"]) for end in ("lower", "upper"))
        yield f"infected fraction of the lungs in percent, {name}:"
        yield f"  mean absolute error {error}, bias {bias}, limits of agreement {lower} to {upper}"
        yield f"  extent score: weighted kappa {_spanned(values['weighted_kappa'], 'value')}"


def _expected_dice(found: Mapping[str, Any] | None) -> Iterator[str]:
    for name, values in _populations(found):
        yield (
            f"expected Dice, {name}: finds the {values['bad']} with Dice < 0.5 with an AUROC of "
            f"{_spanned(values['auroc'], 'value')}"
        )
    if found is not None and found["infected"].get("bins"):
        bins = [f"{part['from']:g}-{part['to']:g} {part['measured']:.2f}" for part in found["infected"]["bins"]]
        yield f"  measured Dice by expected Dice: {', '.join(bins)}"


def _image_level(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is not None:
        yield (
            f"COVID-19 by the whole image, {found['images']} images: "
            f"sensitivity {_spanned(found['sensitivity'], 'fraction')}, "
            f"specificity {_spanned(found['specificity'], 'fraction')}, AUROC {_spanned(found['auroc'], 'value')}"
        )


def _populations(found: Mapping[str, Any] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The results for the infected images, and for all images where there are others."""
    if found is None:
        return
    infected, every = found["infected"], found["all_images"]
    if infected["images"]:
        yield f"{infected['images']} with infection", infected
    if every["images"] > infected["images"]:
        yield f"all {every['images']} images", every


def _line(name: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    text = f"  {name:<36}"
    for figure, (_, width) in _COLUMNS.items():
        found = figures.get(figure, {"mean": None, "interval": None})
        key = "mean" if "mean" in found else "value"
        cell = _number(found[key], 1) if figure == "hd95" else _number(found[key], 3)
        text += f"{_spanned(found, key) if figure == 'dice' else cell:>{width}}"
    return text


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _spanned(figure: Mapping[str, Any], key: str) -> str:
    span = figure["interval"]
    return _number(figure[key], 3) + (f" ({span[0]:.3f}-{span[1]:.3f})" if span else "")


def _points(fraction: float | None, interval: Sequence[float] | None = None) -> str:
    """A fraction in percent."""
    span = f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    return "-" if fraction is None else f"{100 * fraction:.1f}{span}"
