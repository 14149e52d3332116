"""Requests a second, latency and memory of `cxrseg serve`, with 1, 8 and 64 clients at the same time.

    python benchmarks/serving.py [--requests 200] [--steady 2000] [--side 256] [--film F] [-m MODEL]

Starts the service on a free port of this machine, and sends phantoms to POST /v1/segment over connections that are
kept. Each row has `--requests` requests; then 8 clients send `--steady` more while the memory of the service is noted.
The first row, 'in process', reads and segments the same files one after another in this process, without HTTP and
without pictures. 'ideal' is what the median would be if the queue were served in perfect order: clients / throughput.
"""

from __future__ import annotations

import argparse
import http.client
import io
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cxrseg.data.sample import CATEGORIES
from cxrseg.inference.segmenter import Segmenter
from cxrseg.phantom.generate import make_phantom

_BOUNDARY = "films"
_CLIENTS = (1, 8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--steady", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--film", type=Path, help="instead of phantoms")
    parser.add_argument("-m", "--model", type=Path)
    arguments = parser.parse_args()
    films = [arguments.film.read_bytes()] if arguments.film else [phantom_film(n, arguments.side) for n in range(12)]
    print(f"| clients | requests | lost | a second | p50 | p99 | ideal | p50 / ideal |\n|{'---|' * 8}")
    seconds = _in_process(films, arguments.model, arguments.requests // 4)
    rate, times = len(seconds) / sum(seconds), f"{ms(seconds, 50)} | {ms(seconds, 99)}"
    print(f"| in process | {len(seconds)} | | {rate:.1f} | {times} | | |", flush=True)
    command = [sys.executable, "-m", "cxrseg", "serve", "--port", "0", "--no-browser"]
    command += ["-m", str(arguments.model)] if arguments.model else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        found = re.search(r":(\d+)/", service.stdout.readline())
        assert found is not None
        port = int(found[1])
        try:
            bodies = [body_of(film) for film in films]
            send(port, bodies, 4, 24)  # the network is compiled for each size of batch at its first one
            for clients in _CLIENTS:
                print(_row(port, bodies, clients, arguments.requests), flush=True)
            before = megabytes(service.pid)
            memory = []
            for _ in range(4):
                send(port, bodies, 8, arguments.steady // 4)
                memory.append(megabytes(service.pid))
            print(
                f"memory of the service: {before:.0f} MB before {arguments.steady} more requests, then by quarters "
                f"{', '.join(f'{value:.0f}' for value in memory)} MB"
            )
        finally:
            service.terminate()


def _row(port: int, bodies: Sequence[bytes], clients: int, requests: int) -> str:
    began = time.perf_counter()
    seconds, lost = send(port, bodies, clients, requests)
    rate = len(seconds) / (time.perf_counter() - began)
    ideal = clients / rate
    return (
        f"| {clients} | {requests} | {lost} | {rate:.1f} | {ms(seconds, 50)} | {ms(seconds, 99)} | "
        f"{1000 * ideal:.0f} ms | {np.median(seconds) / ideal:.2f} |"
    )


def send(port: int, bodies: Sequence[bytes], clients: int, requests: int) -> tuple[list[float], int]:
    """Seconds of each request that was answered with 200, and the number of others."""
    numbers, seconds, lock = iter(range(requests)), list[float](), threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            began = time.perf_counter()
            connection.request("POST", "/v1/segment", bodies[number % len(bodies)], type_of_body())
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                with lock:
                    seconds.append(time.perf_counter() - began)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, requests - len(seconds)


def _in_process(films: Sequence[bytes], model: Path | None, count: int) -> list[float]:
    segmenter = Segmenter(model)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(films))]
        for path, film in zip(paths, films, strict=True):
            path.write_bytes(film)
        segmenter.segment(paths[0])
        for number in range(count):
            began = time.perf_counter()
            prediction = segmenter.segment(paths[number % len(paths)])
            assert prediction.severity is not None, prediction.reason
            seconds.append(time.perf_counter() - began)
    return seconds


def phantom_film(number: int, side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(make_phantom(number, CATEGORIES[number % len(CATEGORIES)], side).image).save(file, "PNG")
    return file.getvalue()


def body_of(film: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="film.png"\r\n\r\n'
    return head.encode() + film + f"\r\n--{_BOUNDARY}--\r\n".encode()


def type_of_body() -> dict[str, str]:
    """The headers that go with `body_of`."""
    return {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}


def ms(seconds: Sequence[float], percentile: float) -> str:
    return f"{1000 * np.percentile(seconds, percentile):.0f} ms"


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
