from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from cxrseg.errors import CxrsegError
from cxrseg.inference.options import Options
from cxrseg.serve.settings import ServeSettings
from made_service import serving

TOKEN = "a-token"


@pytest.fixture(scope="module")
def guarded(options: Options) -> Iterator[httpx.Client]:
    """A service with a token and small limits."""
    with serving(options=options, token=TOKEN, max_bytes=2**20, timeout=2.0) as (client, _):
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def raw(client: httpx.Client, text: bytes) -> bytes:
    """The answer to bytes that no client would send."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        connection.sendall(text)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
        return answer


@pytest.mark.parametrize("path", ["/v1/model", "/v1/phantoms", "/metrics", "/v1/images"])
def test_a_token_is_asked_for(guarded: httpx.Client, path: str) -> None:
    for headers in ({}, bearer("wrong"), bearer(TOKEN + "x"), {"Authorization": TOKEN}, {"Authorization": "Bearer"}):
        answer = guarded.get(path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert guarded.get(path, headers=bearer(TOKEN)).status_code != 401


def test_the_page_and_the_health_need_no_token(guarded: httpx.Client) -> None:
    assert guarded.get("/").status_code == 200
    assert guarded.get("/v1/health").json()["token"] is True


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", "[::1", ""]
)
def test_another_name_of_this_machine_is_not_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/model", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_the_names_of_this_machine_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/model", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_cannot_post(client: httpx.Client, film: bytes) -> None:
    own = str(client.base_url).rstrip("/")
    for origin, status in ((own, 200), ("https://evil.example", 403), ("null", 403), (own + "0", 403)):
        answer = client.post("/v1/segment", files={"file": ("film.png", film)}, headers={"Origin": origin})
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers


def test_every_answer_has_the_headers_of_safety(client: httpx.Client, guarded: httpx.Client) -> None:
    for answer in (client.get("/"), client.get("/v1/model"), client.get("/none"), guarded.get("/v1/model")):
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == ("no-cache" if answer.url.path == "/" else "no-store")


def test_a_body_that_is_too_large_is_refused(guarded: httpx.Client) -> None:
    head = f"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    told = raw(guarded, head + b"Content-Length: 1048577\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 413 ")
    kind = b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (part, b"a" * 2**19, b"a" * 2**19))
    told = raw(guarded, head + kind + body)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in told
    assert b"more than 1 MiB" in told


def test_a_body_that_does_not_arrive_is_given_up(guarded: httpx.Client) -> None:
    head = f"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    rest = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n--b"
    assert raw(guarded, head + rest).startswith(b"HTTP/1.1 408 ")


def test_an_error_inside_is_not_shown(options: Options, film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(options=options) as (client, service):

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("secret of the inside")

        monkeypatch.setattr(service.segmenters["opacity"], "segment", fail)
        answer = client.post("/v1/segment", files={"file": ("film.png", film)})
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text


def test_too_many_requests_are_told_when_to_come_back(
    options: Options, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(options=options, max_waiting=2, workers=1) as (client, service):
        segmenter, go = service.segmenters["opacity"], threading.Event()
        segment = segmenter.segment
        monkeypatch.setattr(segmenter, "segment", lambda image: go.wait(60) and segment(image))
        answers: list[httpx.Response] = []

        def post() -> None:
            answers.append(httpx.post(client.base_url.join("/v1/segment"), files={"file": film}, timeout=60))

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        while service.work.open < 2:
            go.wait(0.01)
        late = client.post("/v1/segment", files={"file": film})
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) >= 1
        assert late.headers["content-type"] == "application/problem+json"
        unread = client.post("/v1/segment", content=bytes(2**20))
        assert unread.status_code == 429  # not 422: it is turned away before its body is parsed
        assert client.get("/v1/model").status_code == 200
        go.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert client.post("/v1/segment", files={"file": film}).status_code == 200


def test_a_request_that_takes_too_long_is_given_up(
    options: Options, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(options=options, timeout=0.3) as (client, service):
        segmenter, go = service.segmenters["opacity"], threading.Event()
        segment = segmenter.segment
        monkeypatch.setattr(segmenter, "segment", lambda image: go.wait(60) and segment(image))
        answer = client.post("/v1/segment", files={"file": film})
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        go.set()


def test_wrong_settings_are_refused_where_they_are_made(tmp_path) -> None:
    for settings, said in (
        ({"host": "0.0.0.0"}, "--token"),
        ({"token": "with space"}, "without spaces"),
        ({"token": ""}, "without spaces"),
        ({"folder": tmp_path / "none"}, "--folder"),
        ({"folder": tmp_path, "keep": tmp_path}, "--keep"),
    ):
        with pytest.raises(CxrsegError, match=said):
            ServeSettings(**settings)
    assert ServeSettings(host="0.0.0.0", token="x").token == "x"
