"""Errors as RFC 9457 describes them: a status, and a JSON object that says what was wrong and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

__all__ = ["PROBLEM_TYPE", "Problem", "ProblemAnswer", "add_handlers", "documented", "problem_answer"]

PROBLEM_TYPE = "application/problem+json"
"""The media type of every error."""


class ProblemAnswer(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Problem(Exception):  # noqa: N818  # the word of RFC 9457
    """Answers a request with an error.

    Args:
        status: of HTTP, from 400.
        detail: what was expected, what came, and what to do, in words.
        headers: that the answer has too, such as Retry-After.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def problem_answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error; arguments as for `Problem`."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Response(json.dumps(content, ensure_ascii=False), status, dict(headers or {}), PROBLEM_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an application with a problem; what is unexpected says nothing of the program's inside."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_answer(error.status, error.detail, error.headers)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_answer(error.status_code, str(error.detail), error.headers)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_answer(422, "; ".join(_fault(one) for one in error.errors()))

    async def on_unexpected(request: Request, error: Exception) -> Response:
        return problem_answer(500, "the service has failed at this request; its log says why")

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_unexpected)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these errors, for the OpenAPI description."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def _fault(error: Mapping[str, Any]) -> str:
    """One fault of a request: where, and what."""
    place = " ".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}"
