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

from cxrseg.errors import DiskFullError, DownloadError, MissingExtraError

__all__ = ["MEDSEGBENCH_MD5", "fetch_covid_qu_ex", "fetch_medsegbench", "unpack"]

_log = logging.getLogger(__name__)

_HANDLE = "anasmohammedtahir/covidqu"
_PAGE = f"https://www.kaggle.com/datasets/{_HANDLE}"
_FOLDER = "COVID-QU-Ex"
_RETRIES = 3
_TIMEOUT_S = 60
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
    progress: bool = False,
) -> Path:
    """Download MedSegBench's covidquex_SIZE.npz: the COVID-19 images of COVID-QU-Ex with infection masks.

    The file is verified, and one that is there already is not downloaded again. Broken connections are tried again.

    Args:
        destination: the folder for the file.
        size: 128, 256 or 512 pixels a side.
        base_url: of the files; Zenodo record 13358372.
        progress: show a progress bar.

    Returns:
        The .npz file, for `open_dataset`.

    Raises:
        MissingExtraError: pooch is not installed.
        DownloadError: there is no such size, the server cannot be reached, or the checksum is wrong.
        DiskFullError: the disk is full.
    """
    if size not in MEDSEGBENCH_MD5:
        raise DownloadError(f"expected the size 128, 256 or 512 of MedSegBench's COVID-QU-Ex, got {size}")
    try:
        pooch = importlib.import_module("pooch")
    except ImportError as error:
        raise MissingExtraError("downloading from Zenodo needs pooch: pip install 'cxrseg[fetch]'") from error
    name, url = f"covidquex_{size}.npz", base_url.rstrip("/")
    pooch.get_logger().setLevel(logging.WARNING)
    store = pooch.create(
        destination,
        f"{url}/",
        registry={name: f"md5:{MEDSEGBENCH_MD5[size]}"},
        urls={name: f"{url}/{name}?download=1"},
        retry_if_failed=_RETRIES,
    )
    try:
        return Path(store.fetch(name, downloader=pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT_S)))
    except ValueError as error:  # a wrong checksum, or a wrong address
        raise DownloadError(
            f"{url}/{name} cannot be downloaded: {error}. Try again later; if the error stays, a proxy may answer "
            "instead of the server, or the file was changed there"
        ) from error
    except OSError as error:  # the errors of requests, too
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(Path(destination)) from error
        raise DownloadError(
            f"{url}/{name} cannot be downloaded to {destination}: {error}. Check the network (and the proxy settings) "
            "and the folder, then run it again"
        ) from error


def fetch_covid_qu_ex(destination: Path | str, *, archive: Path | str | None = None) -> Path:
    """Download COVID-QU-Ex from Kaggle (anasmohammedtahir/covidqu) with kagglehub, or unpack its archive.

    After an interruption, the next call continues the download. Where the dataset exists already, nothing is
    downloaded. kagglehub shows its own progress bar.

    Args:
        destination: the folder in which the folder 'COVID-QU-Ex' is created.
        archive: the archive, downloaded with a browser; then no connection is made.

    Returns:
        The folder 'COVID-QU-Ex', for `open_dataset`.

    Raises:
        MissingExtraError: kagglehub is not installed.
        DownloadError: Kaggle cannot be reached or refuses, or the download is not COVID-QU-Ex.
        DiskFullError: the disk is full.
    """
    folder = Path(destination) / _FOLDER
    if folder.is_dir():
        _log.info("%s exists already; nothing was downloaded", folder)
        return folder
    if archive is not None:
        return unpack(Path(archive), folder)
    cache = Path(destination) / ".kagglehub"
    try:
        found = _from_kaggle(cache)
        if not any(found.glob("*Segmentation Data")):
            raise DownloadError(
                f"the download from Kaggle is not COVID-QU-Ex: {found} has no 'Infection Segmentation Data'. Delete "
                f"{cache} and run this command again; if the error stays, the dataset was changed at Kaggle"
            )
        if not found.is_relative_to(cache.resolve()):
            return found  # Kaggle's and Google's notebooks have the dataset mounted read-only
        found.replace(folder)
        shutil.rmtree(cache, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(folder.parent) from error
        raise DownloadError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip archive into a new folder, completely or not at all.

    Args:
        archive: the .zip file.
        folder: the folder to create.

    Returns:
        `folder`.

    Raises:
        DownloadError: the archive is missing or damaged, or a path in it leads out of the folder.
        DiskFullError: the disk is full.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as stored:
            needed = sum(_checked(archive, entry).file_size for entry in stored.infolist())
            beside.mkdir(parents=True)
            if needed > (free := shutil.disk_usage(beside).free):
                raise _disk_full(folder.parent, needed - free)
            stored.extractall(beside)
        beside.replace(folder)
    except FileNotFoundError as error:
        raise DownloadError(f"expected an archive at {archive}, found none") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(folder.parent) from error
        raise DownloadError(f"{archive} cannot be unpacked to {folder}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DownloadError(f"{archive} is damaged, or is not a zip file ({error}); download it again") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _disk_full(folder: Path, needed: int | None = None) -> DiskFullError:
    """The error for a full disk; `needed` is in bytes."""
    need = f"free {needed / 1e6:,.0f} MB" if needed else "free some space"
    return DiskFullError(f"no space left on the disk of {folder} for the download; {need}, then run it again")


def _checked(archive: Path, entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    path = PureWindowsPath(entry.filename)  # knows both kinds of slash, and drives
    if path.drive or path.root or ".." in path.parts:
        raise DownloadError(
            f"{archive} contains the path {entry.filename!r}, which leads out of the folder; do not use this archive"
        )
    return entry


def _from_kaggle(cache: Path) -> Path:
    """The folder into which kagglehub downloads and unpacks the dataset."""
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise MissingExtraError(
            "downloading from Kaggle needs kagglehub: pip install 'cxrseg[fetch]'. Or download the archive with a "
            f"browser from {_PAGE}, and name it with --archive"
        ) from error
    cache.mkdir(parents=True, exist_ok=True)
    with _kagglehub_cache(cache):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return Path(kagglehub.dataset_download(_HANDLE)).resolve()
            except Exception as error:  # the errors of kagglehub have no common base class
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                reason = error
                # An answer of Kaggle has a response, and a retry would not help; a broken connection has none.
                if not isinstance(error, OSError) or getattr(error, "response", None) is not None:
                    break
                _log.info("Kaggle, attempt %d of %d: %s", attempt, _ATTEMPTS, error)
                time.sleep(_PAUSE_S)
    raise DownloadError(
        f"COVID-QU-Ex cannot be downloaded from Kaggle: {reason}. Check the network, then run this command again; it "
        f"continues from {cache}. If Kaggle needs a login, set KAGGLE_API_TOKEN; or download the archive with a "
        f"browser from {_PAGE}, and name it with --archive"
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
