from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from cxrseg.inference.options import Options
from made_models import chest, hand_model
from made_service import png, serving

SHAPE = (200, 160)


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """A model that finds lungs and infection by brightness alone."""
    return Options((hand_model(tmp_path_factory.mktemp("model") / "hand.onnx"),))


@pytest.fixture(scope="session")
def film() -> bytes:
    """A chest with an infected left lung as PNG, 160 x 200 pixels."""
    return png(chest(SHAPE)[0])


@pytest.fixture(scope="module")
def client(options: Options) -> Iterator[httpx.Client]:
    """Of a service that keeps nothing and lists no folder."""
    with serving(options=options) as (client, _):
        yield client
