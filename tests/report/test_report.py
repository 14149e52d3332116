from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cxrseg.cli import main
from cxrseg.data.layout import open_dataset
from cxrseg.errors import CxrsegError, DatasetError, ModelFileError
from cxrseg.evaluation.perturbations import ways_named
from cxrseg.evaluation.stress import stress
from cxrseg.evaluation.stress_summary import write_stress
from cxrseg.inference.segmenter import Segmenter
from cxrseg.model_file import read_model, write_model
from cxrseg.report.gallery import choose
from cxrseg.report.report import evaluate_run, write_report
from cxrseg.report.stored_evaluation import read_evaluation
from cxrseg.run_folder import read_run
from made_browser import launched_browser, until
from made_models import chest, hand_model

HOSTILE = "covid_<img src=x onerror=alert(1)>&"
NOTICE = "Research use only. Not for diagnosis."
SIZE = 64


def write_images(root: Path) -> Path:
    """Eight infected chests whose infection is less and less plain, and three that are not infected."""
    random = np.random.default_rng(0)
    names = [HOSTILE, *(f"covid_{number}" for number in range(2, 9)), "Normal (1)", "Normal (2)", "non_COVID (1)"]
    for number, name in enumerate(names):
        infected = name.startswith("covid")
        pixels, truth, lungs = chest((SIZE, SIZE), infected=True)
        spot = truth if infected or "2" in name else truth & False
        graded = 0.92 - 0.02 * number + random.normal(0, 0.04, pixels.shape)
        drawn = np.where(truth, np.where(spot, graded, 0.2), pixels)
        category = "COVID-19" if infected else "Normal" if name.startswith("Normal") else "Non-COVID"
        masks = {"images": drawn * 255, "infection masks": 255 * (truth & infected), "lung masks": 255 * lungs}
        for kind, values in masks.items():
            folder = root / "Val" / category / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a dataset, an evaluation and the report of them."""
    root = tmp_path_factory.mktemp("report")
    dataset = open_dataset(write_images(root / "data"))
    folder = root / "run"
    folder.mkdir()
    hand_model(folder / "model.onnx", SIZE)
    (folder / "recipe.yaml").write_text("name: hand\n", encoding="utf-8")
    hostile = {"command": "</script><script>alert(1)</script>", "best": {"epoch": 2}, "packages": {"numpy": "2"}}
    (folder / "manifest.json").write_text(json.dumps(hostile), encoding="utf-8")
    (folder / "history.csv").write_text("epoch,train_loss,val_loss\n1,0.5,0.6\n2,,0.5\n", encoding="utf-8")
    (root / "ablation.csv").write_text("recipe,Dice\nseed,0.7\n+ flips,0.8\n", encoding="utf-8")
    evaluate_run(read_run(folder), dataset, root / "judged")
    segmenter = Segmenter(folder / "model.onnx", input_check=False, precision="float32")
    write_stress(stress(segmenter, dataset.samples, ways_named(["jpeg-60", "border-white"])), root / "judged")
    judged = read_evaluation(root / "judged")
    write_report(read_run(folder), judged, root / "report.html", dataset=dataset, ablation=root / "ablation.csv")
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched_browser() as launched:
        yield launched


@pytest.fixture
def page(browser: Any, place: Path) -> Iterator[Any]:
    """The report, opened from disk without a network; that it complains of nothing is checked at the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda request: request.url.startswith("data:") or said.append(request.url))
    address = (place / "report.html").as_uri()
    opened.goto(address)
    until(opened, "Number(document.body.dataset.drawn) > 0")
    yield opened
    context.close()
    assert said == [address]


def pixels(page: Any, number: int = 0) -> np.ndarray[Any, Any]:
    """(H, W, 4) of one of the gallery's pictures as it stands."""
    data = page.locator("#gallery canvas").nth(number).evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGBA"))


def press(page: Any, control: str, *keys: str) -> None:
    """Press keys on a control, and wait until the pictures are drawn anew."""
    before = page.evaluate("document.body.dataset.drawn")
    page.locator(control).focus()
    for key in keys:
        page.keyboard.press(key)
    until(page, f"document.body.dataset.drawn !== '{before}'")


def marked(drawn: np.ndarray[Any, Any]) -> int:
    """Pixels that are coloured."""
    return int(np.count_nonzero(drawn[..., 0] != drawn[..., 2]))


def column(page: Any, number: int) -> list[str]:
    script = "(rows, number) => rows.filter(row => !row.hidden).map(row => row.cells[number].textContent)"
    found: list[str] = page.locator("#all tbody tr").evaluate_all(script, number)
    return found


def test_the_threshold_is_moved_by_keyboard(page: Any) -> None:
    press(page, "#truth", "Space")
    press(page, "#threshold", "End")
    few = marked(pixels(page, 5))
    assert page.locator("#threshold-value").text_content() == "0.99"
    press(page, "#threshold", "Home")
    many = marked(pixels(page, 5))
    assert 0 <= few < many
    assert page.locator("#gallery .now").nth(5).text_content().endswith("at 0.01")
    press(page, "#threshold", "ArrowRight")
    assert page.locator("#threshold-value").text_content() == "0.02"
    page.locator("#reset").press("Enter")
    until(page, "document.getElementById('threshold-value').textContent === '0.50'")


def test_the_dice_of_a_picture_is_the_tables(page: Any, place: Path) -> None:
    with (place / "judged" / "scores.csv").open(encoding="utf-8", newline="") as file:
        dices = {row["name"]: row["dice"] for row in csv.DictReader(file) if row["target"] == "infection"}
    figures = page.locator("#gallery figure")
    shown = 0
    for number in range(figures.count()):
        found = re.match(r"Dice ([\d.]+) at 0.50", figures.nth(number).locator(".now").text_content())
        if found:
            shown += 1
            name = figures.nth(number).locator("b").text_content()
            assert float(found[1]) == pytest.approx(float(dices[name]), abs=0.01)
    assert shown == 6
    mean = page.locator("#live").text_content()
    assert mean.startswith(f"Mean Dice of the {shown} infected images shown: 0.")


def test_the_opacity_is_moved_by_keyboard(page: Any) -> None:
    press(page, "#truth", "Space")
    press(page, "#opacity", "Home")
    plain = pixels(page)
    assert marked(plain) == 0
    press(page, "#opacity", "End")
    full = pixels(page)
    assert (full == [213, 94, 0, 255]).all(-1).sum() == marked(full) > 20
    assert page.locator("#opacity").get_attribute("aria-valuetext") == "100%"


def test_truth_and_lungs_are_outlined(page: Any) -> None:
    press(page, "#opacity", "Home")
    with_truth = marked(pixels(page))
    assert with_truth > 20
    press(page, "#lungs", "Space")
    assert marked(pixels(page)) > with_truth
    press(page, "#truth", "Space")
    press(page, "#lungs", "Space")
    assert marked(pixels(page)) == 0


def test_the_table_is_sorted_by_keyboard(page: Any) -> None:
    heads = [text.strip() for text in page.locator("#all thead th").all_text_contents()]
    number = heads.index("Dice")
    button = page.get_by_role("button", name="Dice", exact=True)
    for order, upwards in (("ascending", True), ("descending", False)):
        button.press("Enter")
        assert page.locator("#all th[aria-sort]").evaluate_all("all => all.map(one => one.ariaSort)") == [order]
        values = column(page, number)
        filled = [float(value) for value in values if value]
        assert filled == sorted(filled, reverse=not upwards)
        assert len(filled) < len(values)
        assert values[len(filled) :] == [""] * (len(values) - len(filled))  # undefined ones stand last either way
    page.get_by_role("button", name="image", exact=True).press("Enter")
    names = [name.rpartition("/")[2] for name in column(page, 0)]
    assert [name for name in names if name.startswith("covid_")][:3] == [HOSTILE, "covid_2", "covid_3"]


def test_the_table_is_filtered(page: Any) -> None:
    page.get_by_role("searchbox", name="Show only").fill("normal false")
    assert [name.rpartition("/")[2] for name in column(page, 0)] == ["Normal (2)"]
    assert page.locator("#rows").text_content() == "1 of 11 images."


def test_names_are_text_and_nothing_else(page: Any) -> None:
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.get_by_role("rowheader", name=HOSTILE).count() == 1


def luminance(colour: str) -> float:
    """Relative luminance of 'rgb(r, g, b)', WCAG 2."""
    values = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    card = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert (luminance(paper) > 0.5) is (scheme == "light")
    inks = {
        "h1": ("color", paper),
        ".lead": ("color", paper),
        ".tiles .about": ("color", card),
        "nav a": ("color", paper),
        ".chart text": ("fill", card),
        "#all td": ("color", card),
        "#calibration .chart path[style*='--vermillion']": ("stroke", card),
    }
    for selector, (kind, behind) in inks.items():
        ink = page.locator(selector).first.evaluate(f"one => getComputedStyle(one).{kind}")
        light, dark = sorted((luminance(ink), luminance(behind)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= (3 if kind == "stroke" else 4.5), (selector, ink, behind)


NAMED = {"button", "checkbox", "form", "image", "img", "link", "navigation", "region", "searchbox", "slider"}


def test_everything_has_an_accessible_name(page: Any) -> None:
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")]
    assert [role for role, name in seen if role in NAMED and not name.strip()] == []
    roles = {role for role, _ in seen}
    assert {"slider", "checkbox", "searchbox", "navigation", "main", "table", "contentinfo"} <= roles
    images = [name for role, name in seen if role in ("image", "img")]
    assert len(images) >= 7 + 9  # pictures, then charts
    assert any(name.startswith("Mean Dice by threshold") for name in images)
    headings = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))


def test_the_first_key_leads_to_the_content(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_it_fits_a_narrow_window(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_prints(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("nav").is_hidden()
    assert page.locator("#all").is_hidden()
    assert page.get_by_text("is not printed").is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    folded = page.locator("details:not([open])")
    assert folded.count() > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert folded.count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert folded.count() > 0
    assert page.pdf().startswith(b"%PDF")


def test_the_page_says_what_it_must(place: Path) -> None:
    text = (place / "report.html").read_text(encoding="utf-8")
    assert text.count(NOTICE) >= 2
    assert "stay under the dataset's licence: do not commit it" in text
    assert "onerror=alert(1)&gt;&amp;" in text
    assert "<img" not in text
    assert text.count("<script>") == 1
    for part in ("figures", "training", "ablation", "distribution", "calibration", "severity", "gallery", "manifest"):
        assert f'<section id="{part}"' in text
        assert f'href="#{part}"' in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_the_page_shows_what_other_ways_of_storing_do(tmp_path: Path, place: Path) -> None:
    text = (place / "report.html").read_text(encoding="utf-8")
    section = text.partition('id="stress"')[2].partition("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)[1:]
    assert [re.findall(r">([^<\n]+)\n", row)[0] for row in rows] == ["as it is", "jpeg-60", "border-white"]
    assert "8 COVID-19, 1 Non-COVID, 2 Normal" in section
    shutil.copytree(place / "judged", tmp_path / "judged")
    (tmp_path / "judged" / "stress.json").unlink()
    write_report(read_run(place / "run"), read_evaluation(tmp_path / "judged"), tmp_path / "page.html")
    assert 'id="stress"' not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_without_a_dataset_there_is_no_gallery(tmp_path: Path, place: Path) -> None:
    model = shutil.copy(place / "run" / "model.onnx", tmp_path / "alone.onnx")
    write_report(read_run(model), read_evaluation(place / "judged"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ("gallery", "training", "ablation"):
        assert f'id="{part}"' not in text
    assert "This file holds images" not in text
    assert 'id="images"' in text


def test_an_evaluation_of_another_model_is_refused(tmp_path: Path, place: Path) -> None:
    info = replace(read_model(place / "run" / "model.onnx")[1], name="other")
    write_model(tmp_path / "other.onnx", (place / "run" / "model.onnx").read_bytes(), info)
    with pytest.raises(ModelFileError, match=r"other\.onnx \(other\).*another model \(hand\)"):
        write_report(read_run(tmp_path / "other.onnx"), read_evaluation(place / "judged"), tmp_path / "page.html")


def test_an_evaluation_of_a_model_of_the_same_name_is_refused(tmp_path: Path, place: Path) -> None:
    source = place / "run" / "model.onnx"
    info = read_model(source)[1]
    write_model(tmp_path / "again.onnx", source.read_bytes(), replace(info, recipe={**info.recipe, "seed": 1}))
    with pytest.raises(ModelFileError, match="other weights"):
        write_report(read_run(tmp_path / "again.onnx"), read_evaluation(place / "judged"), tmp_path / "page.html")


def test_the_fitted_model_of_an_evaluation_is_shown(tmp_path: Path, place: Path) -> None:
    source = place / "run" / "model.onnx"
    fit = ["--fit", "val", "--allow-same-split", "-o", tmp_path / "to"]
    given = ["evaluate", source, "--dataset", place / "data", *fit]
    assert CliRunner().invoke(main, list(map(str, given))).exit_code == 0
    write_report(read_run(source), read_evaluation(tmp_path / "to"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "fitted on this split" in text
    fitted = read_model(tmp_path / "to" / "fitted.onnx")[1]
    assert f"<dt>temperature</dt><dd>{fitted.temperature:g}</dd>" in text
    (tmp_path / "to" / "fitted.onnx").unlink()
    with pytest.raises(ModelFileError, match="other weights, threshold or temperature"):
        write_report(read_run(source), read_evaluation(tmp_path / "to"), tmp_path / "page.html")


def test_a_dataset_without_the_judged_images_is_refused(tmp_path: Path, place: Path) -> None:
    dataset = open_dataset(place / "data")
    part = replace(dataset, samples=dataset.samples[:-1])
    with pytest.raises(DatasetError, match="lacks 1 images of the evaluation"):
        write_report(read_run(place / "run"), read_evaluation(place / "judged"), tmp_path / "p.html", dataset=part)


@pytest.mark.parametrize("text", ["", "a,b\n1\n", "a\n" + "1\n" * 201])
def test_an_ablation_that_is_no_table_is_refused(tmp_path: Path, place: Path, text: str) -> None:
    (tmp_path / "bad.csv").write_text(text, encoding="utf-8")
    run, judged = read_run(place / "run"), read_evaluation(place / "judged")
    with pytest.raises(CxrsegError, match=r"expected .*bad\.csv"):
        write_report(run, judged, tmp_path / "p.html", ablation=tmp_path / "bad.csv")


@pytest.mark.parametrize("kind", ["without lungs", "without infected images"])
def test_a_dataset_or_a_model_that_lacks_something_still_has_a_report(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    if kind == "without lungs":
        for folder in (tmp_path / "data").rglob("lung masks"):
            shutil.rmtree(folder)
        for images in list((tmp_path / "data").rglob("images")):  # beside its masks, without published names
            images.parent.rename(tmp_path / images.parent.name)
        data = tmp_path / "COVID-19"
        model = hand_model(tmp_path / "infection.onnx", SIZE, lungs=False)
    else:
        shutil.rmtree(tmp_path / "data" / "Val" / "COVID-19")
        data, model = tmp_path / "data", place / "run" / "model.onnx"
    monkeypatch.chdir(tmp_path)
    split = "train" if kind == "without lungs" else "val"
    done = CliRunner().invoke(main, ["report", str(model), "--dataset", str(data), "--split", split, "-o", "page.html"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'id="images"' in text and 'id="chart-agreement"' not in text


def test_the_shipped_weights_are_reported_beside_the_user(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    shutil.copytree(place / "run", package)
    monkeypatch.setattr("cxrseg.model_file.shipped_model", lambda: package / "model.onnx")
    before = sorted(package.rglob("*"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for model in ([], [str(package / "model.onnx")]):
        done = CliRunner().invoke(main, ["report", *model, "--dataset", str(place / "data")])
        assert done.exit_code == 0, done.output
        assert (tmp_path / "work" / "report.html").is_file() and (tmp_path / "work" / "evaluation-val").is_dir()
    assert sorted(package.rglob("*")) == before


def test_a_run_folder_stands_for_its_model_file(tmp_path: Path, place: Path) -> None:
    run = str(place / "run")
    assert json.loads(CliRunner().invoke(main, ["info", run]).output)["name"] == "hand"
    data = str(place / "data")
    assert CliRunner().invoke(main, ["evaluate", run, "--dataset", data, "-o", str(tmp_path / "e")]).exit_code == 0
    image = next((place / "data").rglob("images/Normal (1).png"))
    predict = ["predict", str(image), "-o", str(tmp_path / "p"), "--force", "-m"]
    assert CliRunner().invoke(main, [*predict, run]).exit_code == 0
    wrong = CliRunner().invoke(main, [*predict, data])
    assert wrong.exit_code == 2 and "run folder that contains model.onnx" in wrong.output


def test_folders_that_are_none_are_refused(tmp_path: Path, place: Path) -> None:
    with pytest.raises(ModelFileError, match="expected a model file, or a run folder"):
        read_run(tmp_path)
    with pytest.raises(DatasetError, match=r"expected summary\.json"):
        read_evaluation(tmp_path)
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_text("epoch,val_dice\n1,high\n", encoding="utf-8")
    with pytest.raises(CxrsegError, match=r"history\.csv.* damaged"):
        read_run(tmp_path / "run")


def row(number: int, dice: str, status: str = "", category: str = "COVID-19") -> dict[str, str]:
    marked = str(number / 100)
    return {"name": str(number), "dice": dice, "status": status, "category": category, "lungs_marked": marked}


def test_the_gallery_shows_best_median_and_worst_once() -> None:
    rows = [row(number, f"{number / 100}") for number in range(40)]
    rows += [row(50, "0.0", "false alarm", "Normal"), row(60, "0.0", "false alarm", "Normal")]
    rows += [row(70, "0.0", "false alarm", "Non-COVID"), row(80, "", "both empty", "Normal")]
    found = {title: [int(each["name"]) for each in chosen] for title, _, chosen in choose(rows)}
    assert found == {
        "Best": [39, 38, 37, 36, 35, 34],
        "Median": [22, 21, 20, 19, 18, 17],
        "Worst": [5, 4, 3, 2, 1, 0],
        "False alarms": [60, 50],
    }
    for few in range(1, 12):
        chosen = [each["name"] for _, _, some in choose(rows[:few]) for each in some]
        assert len(chosen) == len(set(chosen)) > 0
    assert choose(rows[-1:]) == []


def test_the_command_judges_and_shows(tmp_path: Path, place: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    result = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--dataset", str(place / "data")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "evaluation-val" / "summary.json").is_file()
    assert 'id="gallery"' in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    again = ["report", str(tmp_path / "run"), "--evaluation", str(place / "judged"), "-o", str(tmp_path / "two.html")]
    assert CliRunner().invoke(main, again).exit_code == 0
    assert 'id="gallery"' not in (tmp_path / "two.html").read_text(encoding="utf-8")
    assert CliRunner().invoke(main, ["report", str(tmp_path / "run")]).exit_code == 2
