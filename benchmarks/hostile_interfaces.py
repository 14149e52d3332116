"""For hostile_files.py: the corpus through `cxrseg predict`, `cxrseg serve` and `cxrseg node`."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import StoragePresentationContexts

from cxrseg.inference.input_files import find_inputs
from cxrseg.inference.work import processors
from cxrseg.io.dicom_layout import TRANSFER_SYNTAXES
from hostile_corpus import KINDS, TEXT_NAMES, Hostile
from hostile_dicom import CR, EXPLICIT, ROOT
from hostile_process import ANSWERED, FAILED, LONGEST, PATIENCE, REFUSED, Found, Outcome, Running
from node import _free_port as free_port

SOUND = "sound film"
"""Kind of the last file, which must be answered."""

_CLIENTS = 4


def through_predict(files: Sequence[Hostile], folder: Path, *model: str) -> Found:
    """One batch over a folder of all files."""
    films = folder / "predict" / "films"
    places = {kind: f"{number} {kind}" for number, kind in enumerate([*KINDS, SOUND])}
    for file in files:
        (films / places[file.kind]).mkdir(parents=True, exist_ok=True)
        with open(os.fsencode(films / places[file.kind]) + b"/" + file.name, "wb") as opened:  # noqa: PTH123
            opened.write(file.content)
    order = [item.name for item in find_inputs(films, folder / "predict" / "out")[0]]
    command = ("predict", films, "-o", folder / "predict" / "out", "--quiet", *model)
    with Running(folder / "predict", *command) as running:
        rows = _rows(running)
        found = running.end()
    ends = [rows[name][0] if name in rows else running.clock() for name in order]
    for name, seconds in zip(order, _at_most(ends), strict=True):
        row = rows.get(name, (0.0, {"status": "no row", "reason": ""}))[1]
        what = ANSWERED if row["status"] == "ok" else REFUSED if row["reason"] else FAILED
        internal = f"{name}: unexpected" in found.log
        kind = name.partition("/")[0].partition(" ")[2]
        found.outcomes.append(Outcome(kind, FAILED if internal else what, seconds, f"{row['status']}: {row['reason']}"))
    return found


def _rows(running: Running) -> dict[str, tuple[float, dict[str, Any]]]:
    """Name of each file to when its row was there, and the row; until the end, or until no row comes any more."""
    rows: dict[str, tuple[float, dict[str, Any]]] = {}
    journal, place, ended, last = running.out / ".journal.jsonl", 0, False, running.clock()
    while not ended and running.clock() - last < LONGEST:
        ended = running.process.poll() is not None
        for line in _new_lines(journal, place):
            place, value = place + len(line), json.loads(line)
            if "row" in value:
                last = running.clock()
                rows[value["name"]] = last, value["row"]
        time.sleep(0.02)
    return rows


def _new_lines(path: Path, place: int) -> list[bytes]:
    """The whole lines of a file behind a place."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(place)
        return [line for line in file if line.endswith(b"\n")]


def _at_most(finished: Sequence[float]) -> list[float]:
    """Seconds that each file took at most, in the order of the input.

    A file is handed to a thread once all but two for each thread of those before it are done.
    """
    in_order, ahead = sorted(finished), 2 * (processors() + 1)
    return [end - (in_order[place - ahead] if place >= ahead else 0.0) for place, end in enumerate(finished)]


def through_serve(files: Sequence[Hostile], folder: Path, *model: str) -> Found:
    """Each file as an upload to POST /v1/segment, over several connections, with hostile names."""
    names = [file.name if file.kind != "names" else TEXT_NAMES[n % len(TEXT_NAMES)] for n, file in enumerate(files)]
    command = ("serve", "--port", 0, "--no-browser", "--timeout", PATIENCE, *model)
    with Running(folder / "serve", *command) as running:
        port = int(running.wait_for(r"Serving at http://127\.0\.0\.1:(\d+)/")[1])
        with ThreadPoolExecutor(_CLIENTS) as pool:
            outcomes = list(pool.map(lambda file, name: _uploaded(running, port, file, name), files[:-1], names[:-1]))
        outcomes.append(_uploaded(running, port, files[-1], names[-1]))
        found = running.end()
    found.outcomes = outcomes
    return found


def _uploaded(running: Running, port: int, file: Hostile, name: bytes) -> Outcome:
    began = running.clock()
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--b--\r\n' % (
        name,
        file.content,
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        connection.request("POST", "/v1/segment", body, headers)
        answer = connection.getresponse()
        status, value = answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Outcome(file.kind, FAILED, running.clock() - began, f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    seconds = running.clock() - began
    if status == 200 and value["status"] == "ok":
        return Outcome(file.kind, ANSWERED, seconds)
    why = value.get("reason") or value.get("detail") or ""
    return Outcome(file.kind, REFUSED if why and status < 500 else FAILED, seconds, f"{status}: {why}")


def through_node(files: Sequence[Hostile], folder: Path, *model: str) -> Found:
    """Each file's data set by C-STORE, byte for byte; of one that is not DICOM, all of its bytes as the data set.

    An empty one is sent as two bytes of zero: there is no C-STORE without a data set.
    """
    (folder / "node").mkdir(parents=True)
    port = free_port()
    with _archive() as archive:
        command = ("node", "--listen", port, "--folder", folder / "node" / "out", "--send", archive, *model)
        with Running(folder / "node", *command) as running:
            running.wait_for("listening on")
            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(lambda: list(_stored(running, files, port)))
                states = _worked(running, sending.done)
            answers = sending.result()
            found = running.end()
    for number, (file, (status, seconds)) in enumerate(zip(files, answers, strict=True)):
        if status != 0:
            refused = status is not None and "not accepted" in found.log
            why = "no answer" if status is None else f"status 0x{status:04X}"
            found.outcomes.append(Outcome(file.kind, REFUSED if refused else FAILED, seconds, why))
            continue
        state, reason, worked = states.get(_uid(number), ("lost", "", 0.0))
        what = ANSWERED if state == "sent" else REFUSED if state == "refused" and reason else FAILED
        found.outcomes.append(Outcome(file.kind, what, max(seconds, worked), f"{state}: {reason}"))
    return found


def _uid(number: int) -> str:
    return f"{ROOT}.9.{number}"


@contextmanager
def _archive() -> Iterator[str]:
    """A DICOM node that takes all objects; gives its address."""
    entity, port = AE(ae_title="ARCHIVE"), free_port()
    entity.supported_contexts = StoragePresentationContexts
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
    try:
        yield f"ARCHIVE@127.0.0.1:{port}"
    finally:
        server.shutdown()


def _stored(running: Running, files: Iterable[Hostile], port: int) -> Iterator[tuple[int | None, float]]:
    """Status of each file, None where there was no answer, and seconds of the processor until then."""
    entity, association = AE(ae_title="SENDER"), None
    for syntax in TRANSFER_SYNTAXES:
        entity.add_requested_context(CR, syntax)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENCE
    for number, file in enumerate(files):
        began = running.clock()
        if association is None or not association.is_established:
            association = entity.associate("127.0.0.1", port, ae_title="CXRSEG")
        status = _send(association, number, *data_set(file.content)) if association.is_established else None
        yield status, running.clock() - began
    if association is not None and association.is_established:
        association.release()


def _send(association: Association, number: int, syntax: str, content: bytes) -> int | None:
    """C-STORE bytes as the data set; pynetdicom's own sends what pydicom makes of them."""
    request = C_STORE()
    request.MessageID, request.Priority = 1 + number % 65535, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CR, _uid(number)
    request.DataSet = BytesIO(content)
    context = association._get_valid_context(CR, syntax, "scu", allow_conversion=False)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.0001)
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    if answer is None:
        association.abort()
        return None
    status = association._check_received_status(answer)
    return int(status.Status) if isinstance(status, Dataset) and "Status" in status else None


def data_set(content: bytes) -> tuple[str, bytes]:
    """The transfer syntax that a file states, and the data set behind its header; all bytes where it has none."""
    place, syntax = 132, EXPLICIT
    if content[128:132] != b"DICM":
        return EXPLICIT, content + bytes(len(content) % 2) or bytes(2)
    while content[place : place + 2] == b"\2\0" and place + 12 <= len(content):
        long = content[place + 4 : place + 6] in (b"OB", b"UN")
        start = place + (12 if long else 8)
        end = start + int.from_bytes(content[start - (4 if long else 2) : start], "little")
        if content[place + 2 : place + 4] == b"\x10\0":
            syntax = content[start:end].strip(b"\0 ").decode("latin-1")
        place = end
    rest = content[place:]
    return (syntax if syntax in TRANSFER_SYNTAXES else EXPLICIT), rest + bytes(len(rest) % 2) or bytes(2)


def _worked(running: Running, sent: Callable[[], bool]) -> dict[str, tuple[str, str, float]]:
    """Instance to its state, its reason and the seconds of its work, once all is sent and nothing is open.

    One thread works on the images in their order: each takes at most the time from the end of the one before.
    """
    rows: list[Any] = []
    base = sqlite3.connect(f"file:{running.out / 'queue.sqlite'}?mode=ro", uri=True)
    since, began = dict[str, float](), running.clock()
    while running.process.poll() is None:
        last = sent()
        rows = base.execute("SELECT instance, state, reason FROM images ORDER BY id").fetchall()
        for instance, state, _ in rows:
            if state != "waiting" and instance not in since:
                since[instance] = running.clock()  # later changes are of the sending
        if last and all(state not in ("waiting", "made") for _, state, _ in rows):
            break
        time.sleep(0.05)
    base.close()
    found, before = {}, began
    for instance, state, reason in rows:
        end = since.get(instance, running.clock())
        found[instance] = state, reason, end - before
        before = max(before, end)
    return found
