from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from cxrseg.inference.options import Options
from made_models import chest
from made_service import png, serving

ROUTES = [
    ("/v1/segment", "POST"),
    ("/v1/model", "GET"),
    ("/v1/health", "GET"),
    ("/v1/phantoms", "GET"),
    ("/v1/phantoms/{number}", "GET"),
    ("/v1/images", "GET"),
    ("/v1/images/{id}", "GET"),
    ("/v1/next", "GET"),
    ("/v1/corrections", "POST"),
]


@pytest.fixture(scope="module")
def description(options: Options, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The OpenAPI description of a service with all its parts, with its address."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "a.png").write_bytes(png(chest((90, 80))[0]))
    with serving(options=options, folder=folder, keep=tmp_path_factory.mktemp("keep")) as (client, _):
        yield schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")


@pytest.mark.parametrize(
    ("route", "mode"),
    [(route, GenerationMode.POSITIVE) for route in ROUTES]
    + [(route, GenerationMode.NEGATIVE) for route in ROUTES if route[1] == "POST" or "{" in route[0]],
    ids=str,
)
def test_requests_made_from_the_description_are_answered_as_it_says(
    description: Any, route: tuple[str, str], mode: GenerationMode
) -> None:
    path, method = route

    # Not schemathesis.parametrize(), whose plugin does not know pytest 9.
    @given(case=description[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        # The description cannot say which bytes are an image.
        case.call_and_validate(excluded_checks=[positive_data_acceptance] if method == "POST" else None)

    check()


def test_every_route_is_described(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert [(path, method.upper()) for path, item in described["paths"].items() for method in item] == ROUTES
    assert described["paths"]["/v1/segment"]["post"]["responses"]["429"]["content"].keys() == {
        "application/problem+json"
    }
