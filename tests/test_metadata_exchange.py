from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from cxrseg.errors import ModelFileError
from cxrseg.metadata_exchange import with_metadata
from cxrseg.model_file import METADATA_KEY, read_model, shipped_model
from made_models import hand_model


@pytest.mark.parametrize("shipped", [True, False], ids=["shipped", "made by hand"])
def test_only_the_metadata_changes(tmp_path: Path, shipped: bool) -> None:
    source = shipped_model() if shipped else hand_model(tmp_path / "hand.onnx")
    info = replace(read_model(source)[1], threshold=0.3125, licence="ä, é and 肺")
    path = tmp_path / "new.onnx"
    path.write_bytes(with_metadata(source.read_bytes(), info))
    assert read_model(path)[1] == info
    before, after = onnx.load(source), onnx.load(path)
    stored = {entry.key: entry.value for entry in after.metadata_props}
    assert stored.pop(METADATA_KEY) == info.to_json() and list(stored) == ["cxrseg_sha256"]
    assert after.producer_name == "cxrseg"
    for model in (before, after):
        for field in ("metadata_props", "producer_name", "producer_version"):
            model.ClearField(field)
    assert after == before


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-100], lambda content: b"\x0f" + content, lambda _: b"\xff"]
)
def test_what_is_not_a_message_is_refused(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    source = hand_model(tmp_path / "hand.onnx")
    with pytest.raises(ModelFileError, match="expected a model file, got"):
        with_metadata(damage(source.read_bytes()), read_model(source)[1])
