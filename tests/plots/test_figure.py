"""Figures written as PNG and SVG, without pyplot and without traces of when and where."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from cxrseg.plots.figure import new_figure, print_style, save_figure


def test_a_figure_has_the_size_asked_for_and_no_date(tmp_path: Path) -> None:
    with print_style():
        figure = new_figure(50, 25)
        figure.subplots().plot([1, 2])
    png, svg = save_figure(figure, tmp_path / "deep" / "name.with.dots")
    assert (png.name, svg.name) == ("name.with.dots.png", "name.with.dots.svg")
    with Image.open(png) as image:
        assert image.size == (590, 295)
        assert set(image.info) == {"dpi", "Software"} and image.info["Software"] == "cxrseg"
    text = svg.read_text(encoding="utf-8")
    assert "dc:date" not in text and "<dc:creator>" not in text
    assert "<text" in text


def test_a_name_in_another_script_is_no_fault(tmp_path: Path) -> None:
    with print_style():
        figure = new_figure(50, 25)
        figure.subplots().set_title("胸部 $x_1$")
    assert ">胸部 $x_1$<" in save_figure(figure, tmp_path / "f")[1].read_text(encoding="utf-8")


def test_importing_the_room_does_not_load_matplotlib() -> None:
    code = (
        "import sys, cxrseg.plots.cases, cxrseg.plots.curves, cxrseg.plots.overlay\n"
        "sys.exit(any(name.split('.')[0] == 'matplotlib' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawing_does_not_load_pyplot_or_keep_its_settings(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from cxrseg.plots.curves import draw_loss\n"
        "draw_loss([{'epoch': 1, 'train_loss': 1.0}], pathlib.Path(sys.argv[1]))\n"
        "import matplotlib\n"
        "sys.exit('matplotlib.pyplot' in sys.modules or matplotlib.rcParams['svg.fonttype'] == 'none')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], check=False).returncode == 0
