"""What every request must pass before it is read, and what every answer carries."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxrseg.serve.metrics import ServeMetrics
from cxrseg.serve.problems import Problem, problem_answer
from cxrseg.serve.settings import LOOPBACK, ServeSettings

__all__ = ["Guard"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_OPEN = ("/v1/health",)
"""Routes below /v1 that need no token."""

_CLOSE = {"Connection": "close"}
"""Header of an answer to a body that was not read to its end."""

_SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Checks the host, the origin, the token and the size of each request, and sets the headers of each answer.

    Args:
        app: what answers the requests that pass.
        settings: of the service.
        metrics: where requests are counted.
        admit: raises a Problem where nothing more can be worked on; it is called before the body of a request is
            parsed, so that a request that is turned away costs little.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: ServeMetrics, admit: Callable[[], None]) -> None:
        self._app, self._settings, self._metrics, self._admit = app, settings, metrics, admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _set_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        try:
            self._check(scope)
            limited = self._limited(receive)
            if scope["method"] not in _SAFE:
                await self._check_admitted(limited)
            await self._app(scope, limited, answer)
        except Problem as problem:
            await problem_answer(problem.status, problem.detail, problem.headers)(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", None) or "other"
            method = scope["method"] if scope["method"] in (*_SAFE, "POST") else "other"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] not in _SAFE:
            _check_origin(headers)
        self._check_token(scope["path"], headers)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._settings.max_bytes:
            raise Problem(413, self._too_large(), _CLOSE)

    async def _check_admitted(self, receive: Receive) -> None:
        try:
            self._admit()
        except Problem as problem:
            try:
                while (await receive()).get("more_body", False):  # a client sends all before it reads the answer
                    pass
            except HTTPException:
                problem.headers.update(_CLOSE)
            raise

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere whose name leads to this machine must not reach the service (DNS rebinding)."""
        if self._settings.host not in LOOPBACK:
            return  # the token protects
        if _hostname(headers.get("host", "")) not in LOOPBACK:
            raise Problem(421, f"this service answers on this machine only: use one of {', '.join(LOOPBACK)}")

    def _check_token(self, path: str, headers: Headers) -> None:
        token = self._settings.token
        if token is None or path in _OPEN or not (path.startswith("/v1/") or path == "/metrics"):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), token.encode()):
            raise Problem(
                401, "this service asks for its token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    def _limited(self, receive: Receive) -> Receive:
        """`receive` that gives up on a body that is too large or too slow."""
        seen, whole = 0, False
        end = time.monotonic() + self._settings.timeout

        async def limited() -> Message:
            nonlocal seen, whole
            if whole:  # then the wait is for the client's leaving
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise HTTPException(
                    408, f"the request has not arrived within {self._settings.timeout:g} s", _CLOSE
                ) from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self._settings.max_bytes:
                raise HTTPException(413, self._too_large(), _CLOSE)
            return message

        return limited

    def _too_large(self) -> str:
        return f"the request has more than {self._settings.max_bytes // 2**20} MiB; send a smaller file"


def _check_origin(headers: Headers) -> None:
    """A page of another origin may not change anything here, even where it cannot read the answer."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise Problem(403, "requests from the pages of other sites are not answered")


def _hostname(host: str) -> str | None:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # a bracket that is not closed
        return None


def _set_headers(headers: MutableHeaders, path: str) -> None:
    for name, value in _HEADERS.items():
        headers[name] = value
    headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") or path == "/" else "no-store")
