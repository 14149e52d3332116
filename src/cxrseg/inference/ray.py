"""Predict files on a Ray cluster: each processor loads the models once, and takes a few files at a time."""

from __future__ import annotations

import json
import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxrseg import errors
from cxrseg.errors import CxrsegError, MissingExtraError
from cxrseg.inference.input_sources import Input
from cxrseg.inference.options import Options, settings_of
from cxrseg.inference.outputs import empty_row, outputs_of, write_outputs
from cxrseg.inference.segmenter import Segmenter
from cxrseg.inference.work import Done, Work, Worker, processors
from cxrseg.io.write import remove_parts

__all__ = ["on_ray"]

_log = logging.getLogger(__name__)

_GROUP = 8
"""Files that a worker takes at a time; they are processed again where it dies."""

_RETRIES = 2
"""How often a group of files is retried after its worker died; then each of its files is tried alone."""

_STORE = 2**28
"""Bytes for Ray's object store where a cluster is started here; only names and rows pass through it."""


def on_ray(address: str | None = None) -> Work:
    """Make `predict_files` use a Ray cluster: pass the result as `work`.

    Each processor of the cluster, or each GPU where one is requested, is a worker. All of them must see the input, the
    output and the model files at the same paths, and must have the same version of cxrseg. Where a worker or its
    machine dies, its files are processed again by another one. Writing is atomic and rows are collected in this
    process, so no file is lost or counted twice. A file on which a worker dies each time gets a row 'failed'.

    Args:
        address: of the cluster, such as 'HOST:6379' or 'auto'; None uses $RAY_ADDRESS, or else starts a cluster on
            this machine for this run. Where `ray.init` was called before, that cluster is used.

    Raises:
        MissingExtraError: Ray is not installed.
        CxrsegError: (during the run) no cluster answers, it has no processor or GPU, or its workers have another
            version of cxrseg or of the models than this process.
    """
    # These must be set before Ray is imported. No usage is reported to Ray's developers.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray's default since 2.60 assigns processors only every 20 seconds.
    os.environ.setdefault("RAY_DATA_CLUSTER_AUTOSCALER", "V2")
    try:
        import ray.data
    except ImportError as error:
        raise MissingExtraError("Ray is not installed: pip install 'cxrseg[ray]', or use --engine local") from error

    def work(todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options) -> Iterator[Done]:
        if not todo:
            return
        with _connected(address):
            try:
                yield from _every(todo, out, segmenter, options)
            except ray.exceptions.RayError as error:
                raise CxrsegError(
                    f"the Ray cluster failed ({_first_line(error)}); finished files are kept, continue with --resume"
                ) from error
        remove_parts(path for item in todo for path in outputs_of(out, item.stem, options))

    return Work("ray", work)


def _every(todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options) -> Iterator[Done]:
    """One result for each file, even where workers die."""
    left = {item.name: item for item in todo}
    for group in (_GROUP, 1):
        for value in _results(list(left.values()), out, segmenter, options, group) if left else ():
            item = left.pop(value["name"], None)
            if item is not None:  # a second result for the same file is equal
                yield item, value["stamp"], value["row"]
        if left:
            _log.warning("%d files were lost with their workers%s", len(left), "; trying again" if group > 1 else "")
    reason = "each worker that processed it died: it ran out of memory, or a decoder crashed"
    for item in left.values():
        write_outputs(out, item.stem, None, None, options)
        row = empty_row(item.name, "failed", reason, segmenter.mark, segmenter.thresholds.get("infection"))
        yield item, None, row


def _results(
    todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options, group: int
) -> Iterator[Mapping[str, Any]]:
    """The workers' answers in the order in which they arrive; files whose workers died too often are missing."""
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    unit = "CPU" if options.device == "cpu" else "GPU"
    groups = -(-len(todo) // group)
    workers = min(_workers(unit), groups)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a group that failed must not stop the run
    with ray.data.DataContext.current(context):
        # JSON text in both directions: names may not be UTF-8, and rows have values of many types.
        files = ray.data.from_items(
            [{"file": json.dumps(_as_json(item))} for item in todo],
            override_num_blocks=groups,
        )
        with warnings.catch_warnings():
            # Ray 2.64 will remove `max_task_retries`; without it, a file that kills its worker is retried forever.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            answers = files.map_batches(
                _Worker,
                batch_size=group,
                # When a file is tried alone, no other file waits in its worker, which would be lost with it.
                compute=ray.data.ActorPoolStrategy(
                    size=workers, max_tasks_in_flight_per_actor=1 if group == 1 else None
                ),
                fn_constructor_args=(out.absolute(), _for_workers(options), settings_of(segmenter, options)),
                num_cpus=1 if unit == "CPU" else 0,
                num_gpus=1 if unit == "GPU" else 0,
                max_restarts=-1,
                max_task_retries=_RETRIES,
            )
        for answer in answers.iter_rows():
            value = json.loads(answer["answer"])
            if "error" in value:
                raise getattr(errors, value["error"])(value["message"])
            yield value


class _Worker(Worker):
    """Runs in a process of the cluster: takes files and returns rows, both as JSON."""

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        return {"answer": [json.dumps(self._answer(*json.loads(file))) for file in batch["file"]]}

    def _answer(
        self, path: str, name: str, stem: str, member: str = "", stated: Sequence[int] | None = None
    ) -> dict[str, Any]:
        item = Input(Path(path), name, stem, member, None if stated is None else (stated[0], stated[1]))
        try:
            _, stamp, row = self.predict(item)
        except CxrsegError as error:  # a full disk, or other models: stops the run
            return {"error": type(error).__name__, "message": f"on {socket.gethostname()}: {error}"}
        return {"name": name, "stamp": stamp, "row": row}


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE, "num_cpus": processors()}
    try:
        _knock(where)
        ray.init(where, log_to_driver=False, logging_level=logging.ERROR, **(here if where == "local" else {}))
    except (OSError, RuntimeError, ValueError) as error:
        raise CxrsegError(
            f"expected a Ray cluster at {where}, but it cannot be used ({_first_line(error)}); see 'ray status'"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError at once where no server listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def _workers(kind: str) -> int:
    import ray

    count = int(ray.cluster_resources().get(kind, 0))  # type: ignore[no-untyped-call, unused-ignore]
    if count == 0:
        raise CxrsegError(f"expected a Ray cluster with a {kind}, found none in it; see 'ray status'")
    return count


def _as_json(item: Input) -> list[Any]:
    """The arguments of `_Worker._answer`."""
    return [os.path.abspath(item.path), item.name, item.stem, item.member, item.stated]  # noqa: PTH100


def _for_workers(options: Options) -> Options:
    """Make paths absolute, and name the GPU without its number: Ray shows each worker only its own GPU."""
    models = tuple(model.absolute() for model in options.models)
    return replace(options, models=models, device="cpu" if options.device == "cpu" else "gpu")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
