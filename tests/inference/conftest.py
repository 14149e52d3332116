from __future__ import annotations

import pytest

from cxrseg.inference.files import Options
from made_models import hand_model


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Of a hand-made model."""
    return Options((hand_model(tmp_path_factory.mktemp("model") / "hand.onnx"),))
