from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from cxrseg.data.layout import open_dataset
from cxrseg.data.splits import hold_out
from cxrseg.inference.options import Options
from cxrseg.inference.segmenter import Segmenter
from cxrseg.metrics.lungs import find_lungs
from cxrseg.metrics.severity import measure_severity
from cxrseg.phantom.generate import make_phantom
from cxrseg.serve.answer import bytes_of_probability
from made_browser import launched_browser, until
from made_films import make_film
from made_models import chest
from made_service import pixels_of, png, serving

HOSTILE = "<img src=x onerror=alert(1)>&.png"
NOTICE = "Research use only. Not for diagnosis."
SHAPE = (200, 160)


class Site(NamedTuple):
    address: str
    folder: Path
    keep: Path


@pytest.fixture(scope="module")
def site(options: Options, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with a folder of two films, which saves corrections."""
    root = tmp_path_factory.mktemp("site")
    folder, keep = root / "films", root / "corrections"
    folder.mkdir()
    for name, infected in (("one.png", True), ("two.png", False)):
        (folder / name).write_bytes(png(chest((180, 150), infected)[0]))
    with serving(options=options, folder=folder, keep=keep) as (client, _):
        yield Site(str(client.base_url), folder, keep)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched_browser() as launched:
        yield launched


@contextmanager
def opened(browser: Any, address: str, *, expect: tuple[str, ...] = (), **options: Any) -> Iterator[Any]:
    """The page; at the end it has complained of nothing but what is expected, and asked nobody else for anything."""
    given = {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light", "accept_downloads": True}
    context = browser.new_context(**given | options)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: request.url.startswith((address.partition("#")[0], "blob:")) or said.append(request.url),
    )
    page.goto(address)
    until(page, "document.getElementById('model').textContent !== ''")
    yield page
    context.close()
    assert [text for text in said if not any(part in text for part in expect)] == []


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    with opened(browser, site.address) as shown:
        yield shown


def add(page: Any, *files: tuple[str, bytes]) -> None:
    """Choose files, and wait until they are segmented."""
    before = page.locator("#list li").count()
    kind = "application/octet-stream"
    page.set_input_files("#files", [{"name": name, "mimeType": kind, "buffer": content} for name, content in files])
    settle(page, before + len(files))


def settle(page: Any, films: int) -> None:
    until(page, f"document.getElementById('image-count').textContent === '{films}'")
    frame(page)


def frame(page: Any) -> None:
    """Wait until the film is drawn again."""
    before = page.evaluate("Number(document.body.dataset.frames ?? 0)")
    page.evaluate("dispatchEvent(new Event('resize'))")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("Number(document.body.dataset.frames ?? 0)") >= before


def fraction(page: Any) -> float:
    return float(page.locator("#infected-fraction").text_content().removesuffix("%"))


def film_point(page: Any, row: float, column: float, canvas: str = "#canvas-1") -> tuple[float, float]:
    """Where a point of the film (fractions of its height and width) lies in the window, while it is fitted."""
    box = page.locator(canvas).bounding_box()
    scale = min(box["width"] / SHAPE[1], box["height"] / SHAPE[0])
    return (
        box["x"] + box["width"] / 2 + (column - 0.5) * SHAPE[1] * scale,
        box["y"] + box["height"] / 2 + (row - 0.5) * SHAPE[0] * scale,
    )


def stroke(page: Any, *points: tuple[float, float], canvas: str = "#canvas-1") -> None:
    page.mouse.move(*film_point(page, *points[0], canvas))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*film_point(page, *point, canvas), steps=4)
    page.mouse.up()


def downloaded(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.locator(button).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def tool(page: Any, name: str) -> None:
    page.locator(f"#tool [data-value={name}]").click()


def call(page: Any, module: str, script: str, **values: Any) -> Any:
    """Run a script with a module of the page as `m`; arrays arrive as `v`, in bytes."""
    coded = {
        name: base64.b64encode(value.astype(np.uint8).tobytes()).decode() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
    return page.evaluate(
        "async ({module, v}) => { const m = await import(`/static/js/${module}`);"
        "const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));"
        f"return (async () => {{ {script} }})(); }}",
        {"module": module, "v": coded},
    )


def masks_of_lungs() -> Iterator[np.ndarray]:
    """Lungs as models and people draw them: apart, touching, one alone, in pieces, with islands, none."""
    for seed in range(4):
        yield make_phantom(seed, "Normal", (96, 110)).lungs
    lungs = chest(SHAPE)[2]
    yield lungs
    yield lungs & (np.arange(SHAPE[1]) < 80)
    joined = lungs.copy()
    joined[80:100, 40:130] = True
    yield joined
    yield np.ones((40, 60), bool)
    random = np.random.default_rng(1)
    for amount in (0.002, 0.02):
        yield (lungs & (random.random(SHAPE) > 0.05)) | (random.random(SHAPE) < amount)
    cut = lungs.copy()
    cut[70:74] = False
    yield cut
    yield np.zeros((20, 30), bool)


def test_zones_of_the_page_are_those_of_the_library(page: Any) -> None:
    for number, lungs in enumerate(masks_of_lungs()):
        height, width = lungs.shape
        script = "return Array.from(m.labelZones(bytes(v.lungs), v.width, v.height));"
        found = np.reshape(call(page, "lungs.js", script, lungs=lungs, width=width, height=height), lungs.shape)
        expected = np.zeros(lungs.shape, int)
        for first, lung in zip((1, 4), find_lungs(lungs), strict=True):
            for zone, span in enumerate(lung.spans[1:]):
                expected[span][lung.mask[span]] = first + zone
        np.testing.assert_array_equal(found, expected, err_msg=str(number))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.613])
def test_figures_of_the_page_are_those_of_the_library(page: Any, threshold: float) -> None:
    lungs = chest(SHAPE)[2]
    probability = np.random.default_rng(0).random(SHAPE, np.float32) ** 2
    values = bytes_of_probability(probability, threshold)
    script = (
        "const {labelZones} = await import('/static/js/lungs.js');"
        "const zones = labelZones(bytes(v.lungs), v.width, v.height);"
        "return m.measure(m.countValues(bytes(v.values), zones, v.width), v.threshold, 1.5);"
    )
    size = {"width": SHAPE[1], "height": SHAPE[0]}
    found = call(page, "severity.js", script, lungs=lungs, values=values, threshold=threshold, **size)
    zones = found.pop("zones")
    found |= {f"infected_fraction_{name}": value for name, value in zones.items()}
    assert found == pytest.approx(measure_severity(probability >= threshold, lungs, (0.5, 3.0)).as_row())


def test_outlines_are_closed_and_go_round_every_piece_and_hole(page: Any) -> None:
    mask = np.zeros((12, 14), bool)
    mask[0:7, 0:8] = True  # at the border
    mask[2:4, 3:5] = False  # a hole
    mask[9, 12] = mask[10, 11] = True  # two pixels that touch at a corner
    mask[9, 2] = mask[10, 3] = True  # the same, the other way
    loops = call(page, "contour.js", "return m.traceLoops(bytes(v.mask), 14, 12);", mask=mask)
    assert len(loops) == 4
    areas = []
    for loop in loops:
        x, y = np.array(loop[0::2]), np.array(loop[1::2])
        assert np.hypot(x - np.roll(x, 1), y - np.roll(y, 1)).max() <= 1.0
        areas.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
    assert sorted(areas) == pytest.approx([1.5, 1.5, 3.5, 55.5])


def test_a_dropped_film_is_segmented_and_figures_follow_the_threshold(page: Any, film: bytes, options: Options) -> None:
    script = """(text) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "film.png"));
      for (const kind of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
      }
    }"""
    page.evaluate(script, base64.b64encode(film).decode())
    settle(page, 1)
    image = np.asarray(Image.open(io.BytesIO(film)))
    for keys, threshold in (([], 0.5), (["End"], 0.99), (["Home"], 0.01)):
        page.locator("#threshold").focus()
        for key in keys:
            page.keyboard.press(key)
        expected = Segmenter(options.models[0], threshold).segment(image).severity
        assert page.locator("#threshold-value").text_content() == f"{threshold:.2f}"
        assert fraction(page) == pytest.approx(100 * expected.infected_fraction, abs=0.06)
        assert page.locator("#extent-score").text_content() == f"{expected.extent_score} of 8"
    cells = page.locator(".zones tbody td").all_text_contents()
    zones = [
        getattr(expected, f"infected_fraction_{s}_{z}") for z in ("upper", "middle", "lower") for s in ("right", "left")
    ]
    assert [float(cell.removesuffix("%")) for cell in cells[:6]] == pytest.approx(
        [100 * zone for zone in zones], abs=0.06
    )


def test_masks_are_corrected_undone_filled_and_erased(page: Any, film: bytes) -> None:
    add(page, ("film.png", film))
    start = fraction(page)
    tool(page, "brush")
    stroke(page, (0.4, 0.25), (0.5, 0.3))
    assert page.locator("#corrected-tag").is_visible()
    painted = fraction(page)
    assert painted > start + 0.5
    page.keyboard.press("Control+z")
    assert fraction(page) == start
    assert page.locator("#corrected-tag").is_hidden()
    page.locator("#redo").click()
    assert fraction(page) == painted
    page.locator("#threshold").fill("0.99")
    assert fraction(page) > start * 0.5  # the correction does not depend on the threshold
    page.locator("#threshold").fill("0.5")
    tool(page, "fill")
    stroke(page, (0.45, 0.275))  # a click on the marked piece removes it
    assert fraction(page) == start
    stroke(page, (0.1, 0.1))  # outside of everything
    assert "not enclosed" in page.locator("#toast").text_content()
    tool(page, "eraser")
    page.locator("#brush").fill("60")
    stroke(page, (0.5, 0.6), (0.5, 0.8))
    assert fraction(page) < 0.1
    page.locator("#target [data-value=lungs]").click()
    lungs = len(np.flatnonzero(pixels_of(downloaded(page, "#get-lungs")[1])))
    stroke(page, (0.3, 0.3), (0.5, 0.3))
    assert 0 < len(np.flatnonzero(pixels_of(downloaded(page, "#get-lungs")[1]))) < lungs
    page.locator("#reset-corrections").click()
    assert fraction(page) == start


def test_a_mask_is_painted_with_keys_alone(page: Any, film: bytes) -> None:
    add(page, ("film.png", film))
    start = fraction(page)
    page.locator("#canvas-1").focus()
    for key in ("b", "]", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    assert fraction(page) > start
    page.keyboard.press("?")
    assert page.locator("#help-dialog").is_visible()
    page.locator("#single-keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("h")
    assert page.locator("#tool [data-value=brush]").get_attribute("aria-pressed") == "true"
    page.locator("#help").click()
    page.locator("#single-keys").check()


@pytest.mark.timeout(600)  # two trainings on two images
def test_pairs_are_saved_and_a_model_is_fine_tuned_on_them(
    page: Any, film: bytes, site: Site, tiny_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    from cxrseg.training.fit import train

    films = {"to save.png": film, "healthy.png": png(chest(SHAPE, False)[0])}
    add(page, *films.items())
    drawn = {}
    for name in films:
        page.locator("#list button", has_text=name).click()
        tool(page, "brush")
        stroke(page, (0.4, 0.25), (0.5, 0.3))
        page.locator("#save-pair").click()
        until(page, "!document.getElementById('saved-tag').hidden")
        drawn[name] = pixels_of(downloaded(page, "#get-infection")[1]) > 0
    dataset = open_dataset(site.keep)
    for name, mask in drawn.items():
        saved = next(sample for sample in dataset.samples if Path(name).stem in sample.name)
        np.testing.assert_array_equal(saved.read_mask("infection"), mask)
        assert saved.read_mask("lungs").any()
    page.reload()
    until(page, "document.getElementById('model').textContent !== ''")
    assert page.locator("#list li").count() == 0
    add(page, ("to save.png", film))
    assert page.locator("#corrected-tag").is_hidden()
    pairs, recipe = hold_out(dataset, "val", 0.5), tiny_recipe(optimiser={"epochs": 1})
    first = train(recipe, pairs, tmp_path / "first", device="cpu").folder.model
    run = train(recipe, pairs, tmp_path / "run", init_from=[first], device="cpu")
    tuned = Segmenter(run.folder.model, input_check=False).segment(chest(SHAPE)[0])
    assert tuned.probabilities["infection"].shape == SHAPE


def test_the_next_film_of_the_folder_is_corrected(page: Any, site: Site) -> None:
    text = page.locator("#server-folder-text")
    until(page, "document.getElementById('server-folder-text').textContent.includes('2 images')")
    page.locator("#open-all").click()
    settle(page, 2)
    for _ in range(100):  # the service segments its folder while nothing else is asked of it
        page.locator("#next").click()
        page.wait_for_timeout(100)
        if page.locator("#list [aria-current=true]").count():
            break
    name = page.locator("#list [aria-current=true] b").text_content()
    assert name in ("one.png", "two.png")
    page.locator("#save-pair").click()
    until(page, "document.getElementById('server-folder-text').textContent.includes('1 corrected')")
    assert text.is_visible()
    assert any(sample.name.startswith(Path(name).stem) for sample in open_dataset(site.keep).samples)


def test_refused_and_broken_files_say_why(browser: Any, site: Site) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    with opened(browser, site.address, expect=("422",)) as page:
        add(page, (HOSTILE, png(noise)), ("broken.dcm", b"nothing"), ("film.png", png(chest(SHAPE)[0])))
        assert page.locator("#list b").all_text_contents() == [HOSTILE, "broken.dcm", "film.png"]  # problems first
        assert "noise" in page.locator("#findings").text_content()
        assert "Refused" in page.locator("#state").text_content()
        assert page.locator("#infected-fraction").count() == 0
        assert page.locator("#tool [data-value=brush]").is_disabled()
        page.locator("#list button", has_text="broken.dcm").click()
        assert "could not be segmented" in page.locator("#state").text_content()
        assert "broken.dcm" in page.locator("#findings").text_content()
        assert page.locator("img[src=x]").count() == 0


def test_what_is_downloaded(page: Any, film: bytes) -> None:
    add(page, ("film.png", film), ("=1+1.png", png(chest(SHAPE, False)[0])))
    page.locator("#list button", has_text="film.png").click()
    name, content = downloaded(page, "#get-infection")
    mask = Image.open(io.BytesIO(content))
    assert (name, mask.mode, mask.size) == ("film_infection.png", "L", SHAPE[::-1])
    assert set(np.unique(np.asarray(mask))) == {0, 255}
    found = json.loads(downloaded(page, "#get-json")[1])
    assert found["name"] == "film.png"
    assert found["disclaimer"] == NOTICE
    assert found["corrected"] is False
    assert 100 * found["infected_fraction"] == pytest.approx(fraction(page), abs=0.06)
    assert 0 < found["infected_fraction_left_middle"] < 1
    assert found["expected_dice"] > 0.5
    page.locator("#threshold").fill("0.6")
    assert json.loads(downloaded(page, "#get-json")[1])["expected_dice"] is None  # it was that of another mask
    page.locator("#threshold").fill("0.5")
    name, content = downloaded(page, "#get-csv")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row["name"] for row in rows] == ["film.png", "'=1+1.png"]
    assert float(rows[0]["infected_fraction"]) == found["infected_fraction"]
    name, content = downloaded(page, "#get-overlay")
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert picture.shape[0] > picture.shape[1] / SHAPE[1] * SHAPE[0]  # the figures stand below
    assert np.count_nonzero(picture[..., 0] - picture[..., 2] > 60) > 1000


def test_a_seg_of_the_corrected_masks(page: Any, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="needs cxrseg[hospital]")
    import pydicom

    add(page, ("film.dcm", make_film(tmp_path / "film.dcm", chest(SHAPE)[0]).read_bytes()))
    assert "cm²" in page.locator("#findings").text_content()
    tool(page, "brush")
    stroke(page, (0.4, 0.25), (0.5, 0.3))
    name, content = downloaded(page, "#get-seg")
    made = pydicom.dcmread(io.BytesIO(content))
    assert (name, made.Modality) == ("film_seg.dcm", "SEG")
    infection = pixels_of(downloaded(page, "#get-infection")[1]) > 0
    assert any(np.array_equal(plane > 0, infection) for plane in made.pixel_array)


def test_films_beside_each_other(page: Any, film: bytes) -> None:
    add(page, ("first.png", film), ("second.png", png(chest(SHAPE, False)[0])))
    page.locator("#list button", has_text="first.png").click()
    page.keyboard.press("3")
    until(page, "document.getElementById('figures-2').textContent.includes('less than the first')")
    assert page.locator("#other option").all_text_contents() == ["second.png"]
    page.keyboard.press("2")
    tool(page, "brush")
    stroke(page, (0.4, 0.25), (0.5, 0.3), canvas="#canvas-1")  # the model's masks are not painted on
    assert page.locator("#corrected-tag").is_hidden()
    stroke(page, (0.4, 0.25), (0.5, 0.3), canvas="#canvas-2")
    model, corrected = (page.locator(f"#figures-{n}").text_content() for n in (1, 2))
    assert model != corrected
    assert page.locator("#caption-2").text_content() == "Corrected"


def shown(page: Any) -> np.ndarray:
    """(H, W, 4) of the film's canvas."""
    frame(page)
    data = page.locator("#canvas-1").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGBA")).astype(int)


def test_the_film_is_drawn_as_the_controls_say(page: Any, film: bytes) -> None:
    add(page, ("film.png", film))
    coloured = lambda: int(np.count_nonzero(abs(shown(page)[..., 0] - shown(page)[..., 2]) > 20))  # noqa: E731
    full = coloured()
    page.locator("#colour").uncheck()
    outlines = coloured()
    page.locator("#lungs").uncheck()
    infection = coloured()
    assert full > outlines > infection > 0
    page.locator("#masks").uncheck()
    assert coloured() == 0
    plain = shown(page)
    page.locator("#inverted").check()
    inverted = shown(page)
    inside = plain[..., 3] == 255
    np.testing.assert_allclose((plain + inverted)[inside][:, :3], 255, atol=1)
    page.locator("#reset-display").click()
    page.locator("#masks").uncheck()
    page.locator("#canvas-1").focus()
    page.keyboard.press("+")
    page.locator("#zoom-value", has_text="125%").wait_for()
    assert not np.array_equal(shown(page), plain)
    page.keyboard.press("0")
    np.testing.assert_array_equal(shown(page), plain)


def test_it_asks_again_where_the_service_is_busy(browser: Any, site: Site, film: bytes) -> None:
    with opened(browser, site.address, expect=("429",)) as page:
        answers = iter([429, 429])

        def answer(route: Any) -> None:
            status = next(answers, None)
            if status is None:
                route.continue_()
            else:
                route.fulfill(status=status, headers={"Retry-After": "0"}, json={"detail": "busy"})

        page.route("**/v1/segment*", answer)
        add(page, ("film.png", film))
        assert fraction(page) > 0


def test_a_token_is_asked_for_or_taken_from_the_address(browser: Any, options: Options, film: bytes) -> None:
    with serving(options=options, token="a-token") as (client, _):
        address = str(client.base_url)
        with opened(browser, f"{address}/#token=a-token") as page:
            assert "token" not in page.url
            add(page, ("film.png", film))
            assert fraction(page) > 0
            assert page.locator("#save-pair").is_disabled()
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        page.locator("#token").fill("a-token")
        page.locator("#token-dialog button").click()
        until(page, "document.getElementById('model').textContent !== ''")
        context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_window_and_says_what_it_must(browser: Any, site: Site, film: bytes, width: int) -> None:
    small = width < 500
    size = {"viewport": {"width": width, "height": 844}, "has_touch": small, "is_mobile": small}
    with opened(browser, site.address, **size) as page:
        add(page, ("film.png", film))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        notice = page.locator("header .notice")
        assert notice.text_content().strip() == NOTICE
        page.evaluate("scrollTo(0, 100000)")
        box = notice.bounding_box()
        assert 0 <= box["y"] < 844


def test_two_fingers_zoom_and_one_paints(browser: Any, site: Site, film: bytes) -> None:
    size = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with opened(browser, site.address, **size) as page:
        add(page, ("film.png", film))
        start = fraction(page)
        tool(page, "brush")
        touch = page.context.new_cdp_session(page)
        (x, y), (to_x, to_y) = film_point(page, 0.4, 0.25), film_point(page, 0.5, 0.3)

        def send(kind: str, *points: tuple[float, float]) -> None:
            touch.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [{"x": a, "y": b, "id": n} for n, (a, b) in enumerate(points)]},
            )

        send("touchStart", (x, y))
        send("touchMove", (to_x, to_y))
        send("touchEnd")
        frame(page)
        painted = fraction(page)
        assert painted > start
        x, y = film_point(page, 0.65, 0.35)
        send("touchStart", (x, y))
        send("touchStart", (x, y), (x + 40, y + 40))
        send("touchMove", (x, y), (x + 90, y + 90))
        send("touchEnd")
        frame(page)
        assert float(page.locator("#zoom-value").text_content().removesuffix("%")) > 150
        assert fraction(page) == painted  # what the first finger had begun is taken back


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds barriers for people with disabilities."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm: apt-get install npm")
    place = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place), "axe-core@4.10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install axe-core: {done.stderr[-200:]}")
    return (place / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_barrier(browser: Any, site: Site, film: bytes, axe: str, scheme: str, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    with opened(browser, site.address, **options) as page:
        page.evaluate(axe)
        look: Callable[[str], None] = lambda state: no_barrier(page, state)  # noqa: E731
        look("empty")
        add(page, ("film.png", film), ("noise.png", png(noise)))
        look("first film")
        page.locator("#list button", has_text="noise.png").click()
        look("refused")
        page.locator("#list button", has_text="film.png").click()
        page.keyboard.press("3")
        page.locator("summary").click()
        look("two films")
        page.keyboard.press("?")
        look("help")


def no_barrier(page: Any, state: str) -> None:
    page.wait_for_timeout(250)  # until a message has faded
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    faults = [(one["id"], node["html"], node["failureSummary"]) for one in found["violations"] for node in one["nodes"]]
    assert faults == [], state


def test_the_page_needs_nothing_from_elsewhere() -> None:
    from cxrseg.serve.app import PAGE

    texts = {path: path.read_text(encoding="utf-8") for path in PAGE.rglob("*") if path.is_file()}
    assert len(texts) > 15
    for path, text in texts.items():
        assert len(text.splitlines()) < 300, path
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path
