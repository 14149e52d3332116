"""What `cxrseg serve` does with twice the requests that it can answer: answers, refusals, losses, latency and memory.

    python benchmarks/overload.py [--minutes 10] [--times 2] [--side 256] [--film F] [-m MODEL] [-- OPTIONS OF SERVE]

First 8 clients that wait for their answers measure the capacity (`--requests`). Then requests begin on a clock, at
`--times` the capacity, whether or not earlier ones are answered, each over a connection of its own. Each tenth of the
time is one row: 'answered' is 200, 'turned away' 429 or 503 with Retry-After, 'lost' all else, also no answer. The
latency is that of the answered requests; the memory is that of the service. At the end, when nothing waits any more,
single requests are timed as before the load, and files of uploads that are left are counted.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving import body_of, megabytes, ms, phantom_film, send, type_of_body

_CLIENTS, _SINGLE = 8, 10


@dataclass(frozen=True)
class Answer:
    """How a request ended: when, after how many seconds, and its status; 0 where there was no answer."""

    ended: float
    seconds: float
    status: int
    told_when: bool

    @property
    def turned_away(self) -> bool:
        return self.status in (429, 503) and self.told_when


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--times", type=float, default=2)
    parser.add_argument("--requests", type=int, default=100, help="by which the capacity is measured")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--film", type=Path, help="instead of phantoms")
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("options", nargs="*", help="of cxrseg serve, after --")
    arguments = parser.parse_args()
    films = [arguments.film.read_bytes()] if arguments.film else [phantom_film(n, arguments.side) for n in range(12)]
    bodies = [body_of(film) for film in films]
    command = [sys.executable, "-m", "cxrseg", "serve", "--port", "0", "--no-browser", *arguments.options]
    command += ["-m", str(arguments.model)] if arguments.model else []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as service:
            assert service.stdout is not None
            found = re.search(r":(\d+)/", service.stdout.readline())
            assert found is not None
            try:
                _measure(int(found[1]), service.pid, bodies, arguments)
                left = [path for path in Path(folder).rglob("*") if path.is_file()]
                print(f"files of uploads that are left: {len(left)}")
            finally:
                service.terminate()


def _measure(port: int, pid: int, bodies: Sequence[bytes], arguments: argparse.Namespace) -> None:
    send(port, bodies, 4, 12)  # the network is compiled for each size of batch at its first one
    before, _ = send(port, bodies, 1, _SINGLE)
    began = time.perf_counter()
    seconds, lost = send(port, bodies, _CLIENTS, arguments.requests)
    capacity = len(seconds) / (time.perf_counter() - began)
    print(f"capacity: {capacity:.1f} requests a second with {_CLIENTS} clients, {lost} lost, p50 {ms(seconds, 50)}")
    rate = arguments.times * capacity
    print(f"{arguments.minutes:g} minutes at {rate:.1f} a second; memory before: {megabytes(pid):.0f} MB\n")
    print(f"| minutes | ended | answered | turned away | lost | p50 | p99 | p99 of a refusal | MB |\n|{'---|' * 9}")
    answers, late = _open_loop(port, pid, bodies, rate, 60 * arguments.minutes)
    _row("all", answers, megabytes(pid))
    print(f"\nlargest delay of the clock: {1000 * late:.0f} ms; load average {os.getloadavg()[0]:.1f}")
    statuses = sorted({answer.status for answer in answers})
    print("statuses:", ", ".join(f"{one}: {sum(a.status == one for a in answers)}" for one in statuses))
    after, lost = send(port, bodies, 1, _SINGLE)
    single = [f"{1000 * statistics.median(part):.0f} ms" for part in (before, after)]
    print(f"a single request: {single[0]} before, {single[1]} after the load, {lost} of {_SINGLE} lost")


def _open_loop(port: int, pid: int, bodies: Sequence[bytes], rate: float, length: float) -> tuple[list[Answer], float]:
    """The answers to requests that begin on a clock, and by how many seconds the clock was late at most."""
    answers, lock, threads, late = list[Answer](), threading.Lock(), list[threading.Thread](), 0.0
    start, rows = time.perf_counter(), 0

    def one(number: int) -> None:
        answer = _request(port, bodies[number % len(bodies)], start)
        with lock:
            answers.append(answer)

    for number in range(round(rate * length)):
        due = start + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        late = max(late, time.perf_counter() - due)
        thread = threading.Thread(target=one, args=(number,))
        thread.start()
        threads = [*(each for each in threads if each.is_alive()), thread]
        if due - start >= (rows + 1) * length / 10:
            with lock:
                part = [each for each in answers if rows * length / 10 <= each.ended < (rows + 1) * length / 10]
            rows += 1
            _row(f"{rows * length / 600:.1f}", part, megabytes(pid))
    for thread in threads:
        thread.join()
    return answers, late


def _request(port: int, body: bytes, start: float) -> Answer:
    began = time.perf_counter()
    status, told_when = 0, False
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST", "/v1/segment", body, type_of_body())
        answer = connection.getresponse()
        answer.read()
        status, told_when = answer.status, answer.getheader("Retry-After") is not None
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    ended = time.perf_counter()
    return Answer(ended - start, ended - began, status, told_when)


def _row(name: str, answers: Sequence[Answer], memory: float) -> None:
    good = [each.seconds for each in answers if each.status == 200]
    away = [each.seconds for each in answers if each.turned_away]
    times = [ms(good, 50), ms(good, 99)] if good else ["", ""]
    cells = [name, len(answers), len(good), len(away), len(answers) - len(good) - len(away), *times]
    print(f"| {' | '.join(map(str, cells))} | {ms(away, 99) if away else ''} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
