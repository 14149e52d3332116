"""The application: routes, errors, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from cxrseg._version import __version__
from cxrseg.serve.folder_routes import router as folder_router
from cxrseg.serve.guard import Guard
from cxrseg.serve.problems import ProblemAnswer, add_handlers
from cxrseg.serve.routes import router
from cxrseg.serve.service import Service

__all__ = ["PAGE", "create_app"]

PAGE = Path(__file__).parent / "page"
"""The files of the page."""


def create_app(service: Service) -> FastAPI:
    """The application for a service."""
    app = FastAPI(
        title="cxrseg",
        version=__version__,
        description="Segment and measure infection on chest X-rays. Research use only. Not for diagnosis.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    add_handlers(app)
    app.include_router(router)
    app.include_router(folder_router)
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics, admit=service.work.check)
    if PAGE.is_dir():
        app.mount("/static", StaticFiles(directory=PAGE), name="static")

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(service.metrics.as_text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        page = PAGE / "index.html"
        if page.is_file():
            return FileResponse(page)
        return PlainTextResponse("The cxrseg service is running. Its interface is described at /openapi.json.\n")

    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description; `documented` refers to the schema of problems."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        made["components"]["schemas"]["ProblemAnswer"] = ProblemAnswer.model_json_schema()
        app.openapi_schema = made
    return app.openapi_schema
