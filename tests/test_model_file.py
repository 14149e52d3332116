from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from cxrseg.errors import ModelFileError
from cxrseg.model_file import METADATA_KEY, ModelInfo, has_checksum, model_sha256, read_model, write_model

INFO = ModelInfo(
    name="mine",
    channels=("infection", "lungs"),
    size=(64, 96),
    normalisation={"mean": 0.5, "std": 0.25},
    threshold=0.4,
    temperature=1.5,
    fitted_on={"split": "val"},
    recipe={"network": {"name": "unet"}, "text": "ä \" ' \n \u2028"},
    dataset={"layout": "own", "sha256": "0" * 64},
    figures={"val": {"dice": 0.75, "iou": None}},
    licence="mine alone",
)


@pytest.fixture
def rewritten(tmp_path: Path, bright_model: Path) -> Callable[[str | None], Path]:
    """The model file with other metadata, or without."""

    def write(text: str | None) -> Path:
        model = onnx.load(bright_model)
        del model.metadata_props[:]
        if text is not None:
            onnx.helper.set_model_props(model, {METADATA_KEY: text})
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return write


def message(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_model(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_the_metadata_read_back_equal(tmp_path: Path, bright_model: Path) -> None:
    info = dataclasses.replace(INFO, size=(64, 64))
    write_model(tmp_path / "mine.onnx", bright_model.read_bytes(), info)
    assert read_model(tmp_path / "mine.onnx")[1] == info
    assert ModelInfo.from_json(INFO.to_json(), Path("mine.onnx")) == INFO


def test_the_graph_is_left_as_it_was(tmp_path: Path, bright_model: Path) -> None:
    write_model(tmp_path / "mine.onnx", bright_model.read_bytes(), INFO)
    before, after = onnx.load(bright_model), onnx.load(tmp_path / "mine.onnx")
    assert before.graph == after.graph
    assert after.producer_name == "cxrseg"


def test_a_newer_format_is_refused(rewritten: Callable[[str | None], Path]) -> None:
    values = json.loads(INFO.to_json())
    assert "newer cxrseg" in message(rewritten(json.dumps({**values, "format": values["format"] + 1})))


def test_a_key_of_a_later_writer_is_passed_over(rewritten: Callable[[str | None], Path]) -> None:
    path = rewritten(json.dumps({**json.loads(INFO.to_json()), "size": [64, 64], "mood": "good"}))
    assert read_model(path)[1] == dataclasses.replace(INFO, size=(64, 64))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format": 1, "a":' + "[" * 900 + "]" * 900 + "}",
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": "1"}',
        '{"format": 1, "size": 64, "channels": []}',
    ],
)
def test_damaged_metadata_are_an_error(rewritten: Callable[[str | None], Path], text: str) -> None:
    assert "damaged" in message(rewritten(text)) or text == ""


def test_a_graph_without_metadata_is_an_error(rewritten: Callable[[str | None], Path]) -> None:
    assert "without the metadata of cxrseg" in message(rewritten(None))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "found none" in message(tmp_path / "nothing.onnx")
    assert "found none" in message(tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_an_error(tmp_path: Path, tiny_run: object, bright_model: Path, fraction: float) -> None:
    for source in (bright_model, tiny_run.folder.model):  # type: ignore[attr-defined]
        data = source.read_bytes()
        path = tmp_path / "cut.onnx"
        path.write_bytes(data[: int(fraction * len(data))])
        message(path)


@pytest.mark.parametrize(
    "data", [b"no graph", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(1000), b"<net></net>", b"PK\x03\x04" + bytes(50)]
)
@pytest.mark.parametrize("name", ["model.onnx", "model", "model.xml", "model.pb", "model.ckpt"])
def test_what_is_no_graph_is_an_error(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    message(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", []),
        ("channels", ["x/../../../../tmp/evil", "lungs"]),
        ("channels", ["infection", "infection"]),
        ("channels", ["infection\n", "lungs"]),
        ("channels", "ab"),
        ("channels", ["infection", 3]),
        ("channels", ["infection"]),
        ("size", [64, 0]),
        ("size", [64, True]),
        ("size", [64, 96.0]),
        ("size", [64, 64, 64]),
        ("size", [10**9, 10**9]),
        ("name", "../mine"),
        ("name", 3),
        ("normalisation", {"mean": 0}),
        ("normalisation", {"mean": 0, "std": 0}),
        ("threshold", 1.0),
        ("threshold", "0.5"),
        ("threshold", float("nan")),
        ("opacity_threshold", None),
        ("covid19_threshold", 1.5),
        ("temperature", 0),
        ("temperature", float("inf")),
        ("int8_ranges", [1, 2]),
        ("int8_ranges", {"conv": [1, 0]}),
        ("int8_ranges", {"conv": [0, float("nan")]}),
        ("categories", ["COVID-19", "Normal"]),
        ("views", ["../x"]),
        ("views", ["frontal"]),
        ("dataset", []),
        ("figures", None),
        ("licence", "mine\x1b[2J"),
        ("version", 1),
    ],
)
def test_every_field_is_checked(rewritten: Callable[[str | None], Path], field: str, value: object) -> None:
    values = {**json.loads(INFO.to_json()), "size": [64, 64]}
    assert read_model(rewritten(json.dumps(values)))[1].size == (64, 64)
    told = message(rewritten(json.dumps({**values, field: value})))
    # The graph has two outputs fewer than categories and views would need, so their number is a fault too.
    assert field in told or "as its metadata say" in told
    assert told.isprintable()


def test_a_size_that_the_graph_does_not_take_is_an_error(rewritten: Callable[[str | None], Path]) -> None:
    assert "images of 64x96" in message(rewritten(INFO.to_json()))


def test_every_flipped_byte_is_found(tmp_path: Path, tiny_run: object) -> None:
    data = tiny_run.folder.model.read_bytes()  # type: ignore[attr-defined]
    path = tmp_path / "flipped.onnx"
    end = len(data) - 64 - 19  # a file whose checksum has lost its name is whole, and is read
    for place in [*range(0, end, end // 50), end - 1, len(data) - 1]:
        flipped = bytearray(data)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError, match=r"flipped\.onnx is damaged"):
            model_sha256(path)
        assert "is damaged" in message(path)


def test_a_file_without_checksum_is_read(tmp_path: Path, bright_model: Path) -> None:
    assert has_checksum(bright_model)
    old = tmp_path / "old.onnx"
    model = onnx.load(bright_model)
    del model.metadata_props[1]
    onnx.save(model, old)
    assert not has_checksum(old)
    assert read_model(old)[1] == read_model(bright_model)[1]
    assert model_sha256(old) == hashlib.sha256(old.read_bytes()).hexdigest()
