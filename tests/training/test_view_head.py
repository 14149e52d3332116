"""The view head: what it is fitted on, where its features come from, and what it tells afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from PIL import Image

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError, ModelFileError
from cxrseg.inference.engine import Engine
from cxrseg.model_file import VIEW_OUTPUT, read_model
from cxrseg.phantom.generate import make_phantom, write_phantoms
from cxrseg.training import view_head
from cxrseg.training.export import export_model
from cxrseg.training.fit import Run
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.view_graph import VIEW_FEATURES, with_view_features
from cxrseg.training.view_head import fit_views
from cxrseg.training.view_pictures import MADE_VIEWS, Picture, film_pictures, other_pictures
from made_models import hand_model


def film(seed: int) -> tuple[str, npt.NDArray[np.float32]]:
    image = make_phantom(seed, "Normal", 64).image
    return f"film {seed}", image.astype(np.float32) / np.float32(255)


def made(view: str) -> npt.NDArray[np.float32]:
    """What is made of films that are bright at the top, dark at the bottom, and brightest at the top left."""
    rows, columns = np.mgrid[0:256, 0:256] / 255
    ramp = (0.9 - 0.6 * rows - 0.1 * columns).astype(np.float32)
    pictures = film_pictures([(str(number), ramp) for number in range(len(MADE_VIEWS))], np.random.default_rng(0))
    return next(picture.pixels for picture in pictures if picture.view == view)


def test_each_film_comes_as_it_is_stored_anew_and_changed() -> None:
    pictures = list(film_pictures([film(seed) for seed in range(7)], np.random.default_rng(0)))
    assert [picture.view for picture in pictures[2::3]] == list(MADE_VIEWS)
    assert all(picture.view == "frontal" for index, picture in enumerate(pictures) if index % 3 < 2)
    assert [picture.plain for picture in pictures] == [True, False, False] * 7
    assert [picture.group for picture in pictures[::3]] == [f"film {seed}" for seed in range(7)]
    for picture in pictures:
        assert picture.pixels.shape == (256, 256) and picture.pixels.dtype == np.float32
        assert picture.pixels.min() >= 0 and picture.pixels.max() <= 1


def test_what_is_made_is_what_it_is_called() -> None:
    def halves(pixels: npt.NDArray[np.float32]) -> tuple[float, float]:
        """Brightness that the top has over the bottom, and the left over the right."""
        rows, columns = pixels.mean(1), pixels.mean(0)
        return float(rows[:128].mean() - rows[128:].mean()), float(columns[:128].mean() - columns[128:].mean())

    assert halves(made("turned left"))[1] > 0.1 > abs(halves(made("turned left"))[0])  # the head is on the left
    assert halves(made("turned right"))[1] < -0.1
    assert halves(made("upside down"))[0] < -0.1
    assert halves(made("inverted"))[0] < -0.05
    assert halves(made("mirrored"))[0] > 0.1 and halves(made("mirrored"))[1] < 0


def test_the_same_seed_gives_the_same_pictures() -> None:
    def pictures(seed: int) -> list[Picture]:
        return list(other_pictures([film(0)], "lateral", np.random.default_rng(seed)))

    one, same, other = pictures(0), pictures(0), pictures(1)
    assert all(np.array_equal(first.pixels, second.pixels) for first, second in zip(one, same, strict=True))
    assert not np.array_equal(one[1].pixels, other[1].pixels)
    assert {picture.view for picture in one} == {"lateral"} and one[0].plain and not one[1].plain


def test_features_are_those_of_the_last_skip_connection(tiny_run: Run) -> None:
    model = with_view_features(tiny_run.folder.model)
    pool = next(node for node in model.graph.node if node.op_type == "AveragePool")
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    # Four levels of pooling lead from 64 to 4 pixels: the last map that the decoder gets from the encoder has 8.
    assert [dim.dim_value for dim in shapes[pool.input[0]].type.tensor_type.shape.dim[1:]] == [32, 8, 8]
    assert model.graph.output[-1].name == VIEW_FEATURES
    assert model.graph.output[-1].type.tensor_type.shape.dim[1].dim_value == 4 * 32


def test_a_network_without_skip_connections_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no skip connections"):
        with_view_features(hand_model(tmp_path / "hand.onnx"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures of one view that is easily told: a bright bar on black."""
    folder = tmp_path / "not-frontal" / "limb"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(8):
        bar = np.full((64, 64), 10, np.uint8)
        place = 20 + int(random.integers(0, 12))
        bar[:, place : place + 12] = 200
        Image.fromarray(bar + random.integers(0, 20, bar.shape, dtype=np.uint8)).save(folder / f"{number}.png")
    return folder.parent


@pytest.fixture
def untrained(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> Path:
    """A model file with random weights: those of a training would depend on the processor."""
    recipe = tiny_recipe(network={"features": 8})
    torch.manual_seed(0)
    network = build_network(recipe.network, recipe.data.targets).eval()
    export_model(tmp_path / "untrained.onnx", network, recipe, dataset, {})
    return tmp_path / "untrained.onnx"


def test_fit_adds_an_output_and_leaves_the_rest(
    tmp_path: Path, untrained: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(view_head, "_PHANTOMS", 0)
    films = open_dataset(write_phantoms(tmp_path / "films", {"train": {"Normal": 63}}, size=64))
    plain, once, twice = untrained, tmp_path / "once.onnx", tmp_path / "twice.onnx"
    info = fit_views(plain, films, pictures, once)
    assert set(info.views) == {"frontal", *MADE_VIEWS, "limb"} and read_model(once)[1] == info
    assert info.view_fit["as_they_are"]["limb"] == {"pictures": 8, "refused": 1.0}
    assert info.view_fit["as_they_are"]["frontal"]["pictures"] == 63
    assert "inverted" not in info.view_fit["changed"]

    random = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    before, after = Engine(plain).run(random), Engine(once).run(random)
    assert before.views is None and after.views is not None and after.views.shape == (3, len(info.views))
    assert np.allclose(before.maps, after.maps, atol=1e-5)

    new = np.stack([film(seed)[1] for seed in range(500, 508)])
    bar = np.asarray(Image.open(pictures / "limb" / "0.png"), np.float32)[None] / 255
    logits = Engine(once).run(np.concatenate([new, bar, new[:, ::-1]])).views
    assert logits is not None
    said = [info.views[index] for index in logits.argmax(1)]
    assert said[8] == "limb"
    frontal = [view in ("frontal", "mirrored") for view in said]
    assert sum(frontal[:8]) >= 7 and not any(frontal[9:]) and said[9:].count("upside down") >= 3

    fit_views(once, films, pictures, twice)  # a head that is there is replaced
    assert np.array_equal(Engine(twice).run(random).views, after.views)
    assert [output.name for output in onnx.load(twice).graph.output].count(VIEW_OUTPUT) == 1


def test_a_folder_without_folders_of_pictures_is_named(tmp_path: Path, tiny_run: Run) -> None:
    films = open_dataset(write_phantoms(tmp_path / "films", {"train": {"Normal": 1}}, size=64))
    with pytest.raises(DatasetError, match=r"expected a folder of pictures for each view, such as .*lateral"):
        fit_views(tiny_run.folder.model, films, tmp_path / "nothing", tmp_path / "out.onnx")
