"""Prediction end to end: geometry, formats, one call, several models, precision, cache, no network, no torch."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image

import cxrseg
from cxrseg.cli import main
from cxrseg.data.sample import CATEGORIES
from cxrseg.errors import ArgumentError, ImageError, ModelFileError
from cxrseg.inference.engine import Engine
from cxrseg.inference.outputs import row_of
from cxrseg.inference.prediction import soft_dice
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.masks import read_mask
from cxrseg.io.radiograph import Radiograph
from made_models import chest, hand_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hand_model(tmp_path_factory.mktemp("model") / "hand.onnx")


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.mark.parametrize("shape", [(201, 317), (333, 210), (1203, 999)])
def test_masks_lie_on_their_own_pixels(model: Path, shape: tuple[int, int]) -> None:
    pixels, infection, lungs = chest(shape)
    found = cxrseg.segment(pixels, model)
    assert found.status == "ok" and found.mask("infection").shape == shape
    straight = dice(found.mask("infection"), infection)
    assert straight > 0.93 and dice(found.mask("lungs"), lungs) > 0.93
    # The edge is blurred by the network's small input, but in place: any shift of it fits less well.
    step = max(1, max(shape) // 256)
    for shift, axis in ((step, 0), (-step, 0), (step, 1), (-step, 1)):
        assert dice(np.roll(found.mask("infection"), shift, axis), infection) < straight


def test_arrays_of_every_depth_are_one_image(model: Path, tmp_path: Path) -> None:
    pixels, _, _ = chest((256, 256))
    expected = cxrseg.segment(pixels, model).mask("infection")
    for array in (
        np.rint(pixels * 255).astype(np.uint8),
        np.rint(pixels * 65535).astype(np.uint16),
        pixels.astype("f8"),
    ):
        assert dice(cxrseg.segment(array, model).mask("infection"), expected) > 0.99
    for array in (pixels * 255, np.stack([pixels] * 3, axis=2), pixels.tolist()):
        assert dice(cxrseg.segment(array, model).mask("infection"), expected) > 0.99
    stated = cxrseg.segment(np.rint(pixels * 1000 + 5000).astype(np.uint16), model, value_range=(5000, 6000))
    assert dice(stated.mask("infection"), expected) > 0.99
    assert stated.steps == ("value range 5000 to 6000, as stated",)
    path = tmp_path / "a.png"
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)
    segmenter = cxrseg.Segmenter(model)
    for image in (path, str(path), Image.open(path), pixels):
        assert dice(segmenter.segment(image).mask("infection"), expected) > 0.99
    for wrong in (pixels > 0.5, np.stack([pixels] * 5, axis=2), pixels[:0]):
        with pytest.raises(ImageError, match="expected pixels"):
            cxrseg.segment(wrong, model)


def test_a_refused_image_has_no_masks_but_force_gives_them(model: Path) -> None:
    blank = np.full((256, 256), 0.5, dtype=np.float32)
    found = cxrseg.segment(blank, model)
    assert found.status == "refused" and "blank" in found.reason
    assert not found.probabilities and found.severity is None and found.expected_dice is None
    with pytest.raises(ImageError, match="blank"):
        found.mask("infection")
    forced = cxrseg.segment(blank, model, force=True)
    assert (
        forced.status == "ok"
        and any("blank" in warning for warning in forced.warnings)
        and forced.mask("lungs").shape == (256, 256)
    )
    free = cxrseg.segment(blank, model, input_check=False)
    assert free.status == "ok" and not any("blank" in warning for warning in free.warnings)


def test_several_models_are_averaged(model: Path, tmp_path: Path) -> None:
    other = hand_model(tmp_path / "other.onnx", size=96, infected_above=0.5, threshold=0.7)
    pixels, _, _ = chest((256, 256))
    one, two = (
        Segmenter(path, input_check=False).segment(Radiograph(pixels)).probabilities["infection"]
        for path in (model, other)
    )
    both = Segmenter([model, other], input_check=False)
    assert np.allclose(both.segment(Radiograph(pixels)).probabilities["infection"], (one + two) / 2, atol=1e-6)
    assert np.abs(one - two).max() > 0.2
    assert both.thresholds["infection"] == pytest.approx(0.6)
    assert both.mark.name == "hand+hand" and len(both.mark.sha256) == 129


@pytest.mark.parametrize(
    ("task", "covid19", "threshold", "emptied"),
    [
        ("covid19", 0.6, 0.5, False),
        ("covid19", 0.4, 0.5, True),
        ("covid19", 0.4, 0.3, False),
        ("opacity", 0.01, 0.5, False),
    ],
)
def test_the_task_covid19_empties_the_map_by_the_classification_head(
    tmp_path: Path, task: str, covid19: float, threshold: float, emptied: bool
) -> None:
    judged = (covid19, 0.9 - covid19, 0.1)
    path = hand_model(tmp_path / "judging.onnx", categories=judged, covid19_threshold=threshold)
    pixels, infection, _ = chest((256, 256))
    for tta in (False, True):
        found = cxrseg.segment(pixels, path, task=task, tta=tta)
        assert found.status == "ok" and found.emptied is emptied
        if emptied:  # as sure of nothing as the head is
            assert found.expected_dice == pytest.approx(1 - covid19, abs=1e-5)
        assert found.categories == pytest.approx(dict(zip(CATEGORIES, judged, strict=True)), abs=1e-5)
        assert found.mask("infection").any() == (not emptied) and found.mask("lungs").any()
        assert any("was emptied" in warning for warning in found.warnings) is emptied
    row = row_of("a.png", Radiograph(pixels), found)
    assert (row["probability_covid19"], row["emptied"]) == (pytest.approx(judged[0], abs=1e-5), emptied)
    assert row["infected_fraction"] == (
        0 if emptied else pytest.approx(infection.sum() / found.mask("lungs").sum(), abs=0.01)
    )


def test_the_task_decides_which_map_is_given(tmp_path: Path, model: Path) -> None:
    path = hand_model(tmp_path / "two.onnx", opacity_above=0.99)
    pixels, infection, _ = chest((256, 256))
    drawn = cxrseg.segment(pixels, path, task="infection")
    assert dice(drawn.mask("infection"), infection) > 0.97
    opacity = cxrseg.segment(pixels, path)
    assert not opacity.mask("infection").any() and set(opacity.probabilities) == {"infection", "lungs"}
    plain = cxrseg.segment(pixels, model)  # has no channel of that name: its infection is given for either
    assert np.array_equal(plain.mask("infection"), cxrseg.segment(pixels, model, task="infection").mask("infection"))


@pytest.mark.parametrize(("normal", "emptied"), [(0.3, False), (0.5, True)])
def test_the_opacity_map_of_a_normal_image_is_emptied(tmp_path: Path, normal: float, emptied: bool) -> None:
    judged = (0.1, 0.9 - normal, normal)
    path = hand_model(tmp_path / "normal.onnx", opacity_above=0.77, categories=judged, normal_threshold=0.4)
    kept = cxrseg.segment(chest((256, 256))[0], hand_model(tmp_path / "kept.onnx", opacity_above=0.77))
    mean = kept.probabilities["infection"][kept.mask("lungs")].mean()
    assert kept.ranking_score == pytest.approx(mean, rel=1e-3)  # without a head, the maps are all there is
    for tta in (False, True):
        found = cxrseg.segment(chest((256, 256))[0], path, tta=tta)
        assert found.emptied is emptied and found.mask("infection").any() is not emptied and found.mask("lungs").any()
        assert any("the opacity map was emptied" in warning for warning in found.warnings) is emptied
        assert found.ranking_score == pytest.approx(mean * (1 - normal), rel=1e-3)  # of the map before it was emptied
        if emptied:  # as sure of nothing as the head is
            assert found.expected_dice == pytest.approx(normal, abs=1e-5)
    assert cxrseg.segment(chest((256, 256))[0], path, task="infection").mask("infection").any()
    healthy = cxrseg.segment(chest((256, 256), infected=False)[0], path)
    assert not healthy.emptied and not healthy.warnings  # there was nothing to empty


def test_probabilities_of_several_classification_heads_are_averaged(tmp_path: Path, model: Path) -> None:
    sure = hand_model(tmp_path / "sure.onnx", categories=(0.9, 0.05, 0.05))
    unsure = hand_model(tmp_path / "unsure.onnx", categories=(0.2, 0.75, 0.05), covid19_threshold=0.7)
    pixels = chest((256, 256))[0]
    found = cxrseg.segment(pixels, [sure, unsure, model], task="covid19")
    assert found.categories is not None and found.categories["COVID-19"] == pytest.approx(0.55, abs=1e-5)
    assert found.emptied  # 0.55 is below the mean of 0.5 and 0.7
    assert not cxrseg.segment(pixels, [sure, model], task="covid19").emptied


def test_tta_averages_with_the_mirrored_image(tmp_path: Path) -> None:
    pixels, _, _ = chest((128, 128))
    # A model that shifts to one side: its mirrored half shifts to the other.
    shifting = hand_model(tmp_path / "shift.onnx", size=128, shift=4)
    plain = Segmenter(shifting, input_check=False).segment(Radiograph(pixels)).probabilities["infection"]
    mirrored = (
        Segmenter(shifting, input_check=False).segment(Radiograph(pixels[:, ::-1])).probabilities["infection"][:, ::-1]
    )
    mean = Segmenter(shifting, input_check=False, tta=True).segment(Radiograph(pixels)).probabilities["infection"]
    assert np.abs(plain - mirrored).max() > 0.2
    assert np.allclose(mean, (plain + mirrored) / 2, atol=1e-3)


def test_bfloat16_stays_close_to_float32(model: Path) -> None:
    fast = Engine(model, precision="auto")
    pixels = np.stack([chest((128, 128))[0]])
    difference = np.abs(fast.run(pixels).maps - Engine(model).run(pixels).maps)
    assert Engine(model).precision == "float32"
    if fast.precision == "float32":
        pytest.skip("this processor has no bfloat16")
    assert difference.max() < 0.15 and difference.mean() < 0.01


def test_a_compiled_model_is_cached_and_a_damaged_cache_does_no_harm(model: Path, cache: Path) -> None:
    pixels = np.stack([chest((128, 128))[0]])
    expected = Engine(model).run(pixels).maps
    (blob,) = cache.glob("*.blob")
    whole = blob.read_bytes()
    stamp = blob.stat().st_mtime_ns
    assert np.array_equal(Engine(model).run(pixels).maps, expected)
    assert blob.read_bytes() == whole and blob.stat().st_mtime_ns >= stamp
    blob.write_bytes(whole[: len(whole) // 2])
    assert np.array_equal(Engine(model).run(pixels).maps, expected)
    head, _, compiled = blob.read_bytes().partition(b"\n")
    assert json.loads(head)["bytes"] == len(compiled)  # written anew; OpenVINO does not give the same bytes twice


def test_without_a_cache_folder_all_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path / "file"))
    assert Engine(model).run(np.zeros((2, 128, 128), dtype=np.float32)).maps.shape == (2, 2, 128, 128)


def test_wrong_wishes_are_refused(model: Path, tmp_path: Path) -> None:
    for wrong in ({"threshold": 1.0}, {"task": "flu"}, {"device": "tpu"}, {"precision": "int4"}):
        with pytest.raises(ValueError, match="expected"):
            Segmenter(model, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="classification head"):
        Segmenter(model, task="covid19")
    with pytest.raises(ModelFileError, match=r"cxrseg train"):
        Segmenter(tmp_path / "missing.onnx")
    with pytest.raises(ArgumentError, match="at least one"):
        Segmenter([])


def test_soft_dice_of_sure_unsure_and_empty_masks() -> None:
    probability = np.zeros((10, 10), dtype=np.float32)
    assert soft_dice(probability, 0.5) == 1.0
    probability[:5] = 1.0
    assert soft_dice(probability, 0.5) == 1.0
    probability[:5] = 0.6
    assert soft_dice(probability, 0.5) == pytest.approx(2 * 0.6 / 1.6)
    assert soft_dice(probability, 0.7) == pytest.approx(0.4)


def test_predict_uses_neither_torch_nor_network(model: Path, tmp_path: Path) -> None:
    Image.fromarray(np.rint(chest((200, 240))[0] * 255).astype(np.uint8)).save(tmp_path / "a.png")
    command = ["predict", "-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "-m", str(model), "-p"]
    code = f"""
        import socket, sys
        def refuse(*args, **kwargs):
            raise AssertionError("a connection was tried")
        socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
        import threading
        threading.excepthook = lambda args: print("THREAD", args.exc_value)
        from cxrseg.cli import main
        try:
            main({command!r})
        except SystemExit as end:
            assert end.code == 0, end.code
        heavy = {{"torch", "matplotlib", "onnx", "pydicom", "openvino_telemetry", "scipy.spatial"}} & set(sys.modules)
        assert not heavy, heavy
        print("clean")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("clean\n") and "THREAD" not in done.stdout, done.stdout + done.stderr
    assert read_mask(tmp_path / "out" / "a_infection.png").shape == (200, 240)


def test_exit_codes_of_the_command(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.rint(chest((200, 240))[0] * 255).astype(np.uint8)).save(tmp_path / "in" / "a.png")
    run = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model)]
    good = CliRunner().invoke(main, [*run, "-s"])
    assert good.exit_code == 0 and "1 ok" in good.output and "a.png: infected" in good.output
    assert "Research use only" in good.output
    run.append("--overwrite")
    silent = CliRunner().invoke(main, [*run, "-q"])
    assert silent.exit_code == 0 and silent.output == ""
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    bad = CliRunner().invoke(main, run)
    assert bad.exit_code == 1 and "1 ok, 1 failed" in bad.output and "b.png: failed" in bad.output
    assert CliRunner().invoke(main, [*run, "--threshold", "2"]).exit_code == 2
    assert CliRunner().invoke(main, [*run[:-2], str(tmp_path / "none.onnx")]).exit_code == 2
    covid = CliRunner().invoke(main, [*run, "-ta", "covid19"])
    assert covid.exit_code == 3 and "classification head" in covid.output


def test_the_room_can_be_called_and_entered(model: Path) -> None:
    from cxrseg.inference import engine

    assert engine.Engine is Engine
    assert cxrseg.segment(Radiograph(chest((256, 256))[0]), model).status == "ok"
