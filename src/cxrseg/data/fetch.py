"""Downloading the published datasets."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from cxrseg.data.download import Progress, disk_full, download
from cxrseg.errors import DownloadError, MissingExtraError

__all__ = ["MEDSEGBENCH_MD5", "fetch_covid_qu_ex", "fetch_medsegbench", "unpack"]

_log = logging.getLogger(__name__)

_HANDLE = "anasmohammedtahir/covidqu"
_PAGE = f"https://www.kaggle.com/datasets/{_HANDLE}"
_FOLDER = "COVID-QU-Ex"
_ATTEMPTS = 5
_PAUSE_S = 2.0

MEDSEGBENCH_MD5 = {
    128: "338a3118801d5cbcbb5986bb5178a7a2",
    256: "75861f1f34a4af16f1ab91d93b5518a0",
    512: "ea1a64adbb57ca7a60373c1b244fcff6",
}
"""Size in pixels to MD5 of covidquex_SIZE.npz, as medsegbench/info.py publishes them."""


def fetch_medsegbench(
    destination: Path | str,
    size: int = 256,
    *,
    base_url: str = "https://zenodo.org/records/13358372/files",
    progress: Progress | None = None,
) -> Path:
    """Download MedSegBench's covidquex_SIZE.npz: the COVID-19 images of COVID-QU-Ex with infection masks.

    A broken download is resumed, a complete one verified and left alone.

    Args:
        destination: the folder to put it in.
        size: 128, 256 or 512 pixels a side.
        base_url: where the files are; Zenodo record 13358372.
        progress: called with the bytes that are done and the bytes in all.

    Returns:
        The .npz file, for `open_dataset`.

    Raises:
        DownloadError: no such size, the server cannot be reached, or it sends something else.
        DiskFullError: no room is left.
    """
    if size not in MEDSEGBENCH_MD5:
        raise DownloadError(f"MedSegBench has COVID-QU-Ex in sizes 128, 256 and 512, not {size}")
    name = f"covidquex_{size}.npz"
    url = f"{base_url.rstrip('/')}/{name}?download=1"
    return download(url, Path(destination) / name, MEDSEGBENCH_MD5[size], progress)


def fetch_covid_qu_ex(destination: Path | str, *, archive: Path | str | None = None) -> Path:
    """Download COVID-QU-Ex from Kaggle (anasmohammedtahir/covidqu) with kagglehub, or unpack its archive.

    What kagglehub has downloaded when it is cut off lies in `destination` and is taken up by the next call.
    Where the dataset is there already, nothing is downloaded. kagglehub shows its own progress bar.

    Args:
        destination: the folder to make the folder 'COVID-QU-Ex' in.
        archive: the archive as downloaded with a browser; then no connection is made.

    Returns:
        The folder 'COVID-QU-Ex', for `open_dataset`.

    Raises:
        MissingExtraError: kagglehub is not installed.
        DownloadError: Kaggle cannot be reached or refuses, or what came is not COVID-QU-Ex.
        DiskFullError: no room is left.
    """
    folder = Path(destination) / _FOLDER
    if folder.is_dir():
        _log.info("%s is there already; nothing was downloaded", folder)
        return folder
    if archive is not None:
        return unpack(Path(archive), folder)
    cache = Path(destination) / ".kagglehub"
    try:
        found = _from_kaggle(cache)
        if not any(found.glob("*Segmentation Data")):
            raise DownloadError(
                f"Kaggle sent no COVID-QU-Ex: {found} has no 'Infection Segmentation Data'. Delete {cache} "
                "and run it again; if it stays so, the dataset was changed there"
            )
        if not found.is_relative_to(cache.resolve()):
            return found  # Kaggle's and Google's notebooks have the dataset mounted, to read only
        found.replace(folder)
        shutil.rmtree(cache, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(folder.parent) from error
        raise DownloadError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip archive into a new folder, as a whole or not at all.

    Args:
        archive: the .zip file.
        folder: the folder to make.

    Returns:
        `folder`.

    Raises:
        DownloadError: the archive is missing or damaged, or a name in it leads out of the folder.
        DiskFullError: no room is left.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as stored:
            needed = sum(_checked(archive, entry).file_size for entry in stored.infolist())
            beside.mkdir(parents=True)
            if needed > (free := shutil.disk_usage(beside).free):
                raise disk_full(folder.parent, needed - free)
            stored.extractall(beside)
        beside.replace(folder)
    except FileNotFoundError as error:
        raise DownloadError(f"expected an archive at {archive}, but there is no such file") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(folder.parent) from error
        raise DownloadError(f"{archive} cannot be unpacked to {folder}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DownloadError(f"{archive} is damaged or no zip ({error}); download it anew") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _checked(archive: Path, entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    path = PureWindowsPath(entry.filename)  # knows both kinds of slash, and drives
    if path.drive or path.root or ".." in path.parts:
        raise DownloadError(f"{archive} holds {entry.filename!r}, which leads out of its folder; do not trust it")
    return entry


def _from_kaggle(cache: Path) -> Path:
    """The folder into which kagglehub has downloaded and unpacked the dataset."""
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise MissingExtraError(
            "downloading from Kaggle needs kagglehub: pip install 'cxrseg[fetch]'. Or download the archive "
            f"with a browser from {_PAGE} and name it (archive)"
        ) from error
    cache.mkdir(parents=True, exist_ok=True)
    with _kagglehub_cache(cache):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return Path(kagglehub.dataset_download(_HANDLE)).resolve()
            except Exception as error:  # kagglehub has a dozen kinds of error and no common base
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                reason = error
                # Kaggle's answers carry a response and stay the same; a broken connection carries none.
                if not isinstance(error, OSError) or getattr(error, "response", None) is not None:
                    break
                _log.info("Kaggle, attempt %d of %d: %s", attempt, _ATTEMPTS, error)
                time.sleep(_PAUSE_S)
    raise DownloadError(
        f"COVID-QU-Ex cannot be downloaded from Kaggle: {reason}. Check the network, then run it again: what "
        f"came is kept in {cache}. If Kaggle asks who you are, set KAGGLE_API_TOKEN; or download the archive "
        f"with a browser from {_PAGE} and name it (archive)"
    ) from reason


@contextmanager
def _kagglehub_cache(cache: Path) -> Iterator[None]:
    """Let kagglehub work in `cache`: with its `output_dir` it could not resume a broken download."""
    before = os.environ.get("KAGGLEHUB_CACHE")
    os.environ["KAGGLEHUB_CACHE"] = str(cache.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["KAGGLEHUB_CACHE"]
        else:
            os.environ["KAGGLEHUB_CACHE"] = before
