"""The routes of the folder of images, and of the corrections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Annotated

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, File, Form, Path, Query, Request, UploadFile
from fastapi.responses import FileResponse, Response

from cxrseg.errors import CxrsegError, ImageError
from cxrseg.inference.prediction import Prediction
from cxrseg.io.masks import read_mask
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import is_dicom
from cxrseg.io.system_faults import system_fault
from cxrseg.plots.overlay import resized_mask
from cxrseg.serve import folder, schema
from cxrseg.serve.answer import grid_of
from cxrseg.serve.problems import Problem, documented
from cxrseg.serve.service import DICOM, Service, base_name, json_answer

__all__ = ["router"]

router = APIRouter(prefix="/v1")

_Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="as /v1/images tells it")]
_TYPES = {".png": "image/png", ".bmp": "image/bmp", ".webp": "image/webp", ".tif": "image/tiff", ".tiff": "image/tiff"}


class As(StrEnum):
    """What a correction is answered with."""

    JSON, SEG = "json", "seg"


@router.get("/images", responses=documented(404, 429, 503))
async def images(request: Request) -> schema.Films:
    """The images of the folder that the service was started with."""
    service: Service = request.app.state.service

    def work() -> schema.Films:
        marks = _marks(service)
        return schema.Films(images=[_shown(film, marks) for film in _films(service).list()])

    return await service.work.do(work)


@router.get(
    "/images/{id}",
    response_class=Response,
    responses={200: {"content": {"image/*": {}, DICOM: {}}}, **documented(404, 422, 429, 503)},
)
async def image(request: Request, id: _Id) -> Response:
    """The file of an image of the folder."""
    service: Service = request.app.state.service
    path = await service.work.do(lambda: _readable(_found(service, id)))
    kind = DICOM if is_dicom(path) else _TYPES.get(path.suffix.lower(), "image/jpeg")
    return FileResponse(path, media_type=kind, content_disposition_type="attachment", filename=path.name)


@router.get("/next", responses=documented(404, 429, 503))
async def next_image(request: Request) -> schema.Next:
    """The image of the folder whose correction would teach most.

    It has the highest uncertainty of those that have been segmented, were not refused and are not corrected. The folder
    is segmented while no request is in progress, so that the first answers know a part of it only: see `scored`.
    """
    service: Service = request.app.state.service

    def work() -> schema.Next:
        marks = _marks(service)
        films = _films(service).list()
        scored = sum(film.score is not None for film in films)
        best = _films(service).next(marks)
        if best is None and scored < len(films):
            raise Problem(503, "no image of the folder has been segmented yet; try again", {"Retry-After": "1"})
        if best is None:
            raise Problem(404, "no image of the folder is left to correct")
        return schema.Next(image=_shown(best, marks), scored=scored, images=len(films))

    return await service.work.do(work)


@router.post(
    "/corrections",
    response_model=schema.Corrected,
    responses={
        200: {"content": {DICOM: {}}, "description": "The correction"},
        **documented(400, 403, 404, 408, 413, 422, 429, 501, 503, 507),
    },
)
async def correct(
    request: Request,
    infection: Annotated[UploadFile, File(description="mask, PNG, on the pixels of the answer's grid")],
    lungs: Annotated[UploadFile, File(description="mask, PNG, on the pixels of the answer's grid")],
    image: Annotated[UploadFile | None, File(description="the image, as it was sent to /v1/segment")] = None,
    id: Annotated[str | None, Form(description="of an image of the folder, in place of its file")] = None,
    as_: Annotated[As, Query(alias="as", description="seg: a DICOM SEG of the corrected masks")] = As.JSON,
    save: Annotated[bool, Query(description="false: only answer")] = True,
) -> Response:
    """Save an image with corrected masks as a pair to train on; needs a service that was started with --keep."""
    service: Service = request.app.state.service
    if save and service.corrections is None:
        raise Problem(403, "this service keeps nothing: start it with --keep FOLDER, or ask with save=false")
    if (image is None) == (id is None):
        raise Problem(422, "expected either the file 'image' or the 'id' of an image of the folder")

    def work() -> Response:
        with _source(service, image, id) as (path, name), service.held(path, name):
            radiograph = service.read(path, name)
            masks = {
                kind: _mask(service, file, kind, radiograph)
                for kind, file in {"infection": infection, "lungs": lungs}.items()
            }
            prediction = _as_prediction(service, radiograph, masks)
            # Made first, so that nothing is saved where it cannot be made.
            seg = service.seg_of(path, name, radiograph, prediction, corrected=True) if as_ is As.SEG else None
            saved: dict[str, str | None] = dict.fromkeys(("image", "infection", "lungs"))
            if save and service.corrections is not None:
                try:
                    saved.update(service.corrections.save(name, path, radiograph, **masks)._asdict())
                except CxrsegError as error:
                    raise Problem(507, str(error)) from None
                service.metrics.corrections.inc()
            assert prediction.severity is not None
            return seg or json_answer({"name": name, **saved, **prediction.severity.as_row()})

    return await service.work.do(work)


def _films(service: Service) -> folder.Films:
    if service.films is None:
        raise Problem(404, "this service lists no folder: start it with --folder FOLDER")
    return service.films


def _found(service: Service, wanted: str) -> folder.Film:
    film = _films(service).find(wanted)
    if film is None:
        raise Problem(404, f"the folder has no image with the id {wanted}; ask /v1/images again")
    return film


def _readable(film: folder.Film) -> FilePath:
    """The file of an image, of which at least the beginning can be read."""
    try:
        with film.item.path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise Problem(422, f"{film.item.name} {system_fault(error)}") from None
    return film.item.path


def _marks(service: Service) -> set[str]:
    return set() if service.corrections is None else service.corrections.marks()


def _shown(film: folder.Film, corrected: set[str]) -> schema.Film:
    score = film.score
    return schema.Film(
        id=film.id,
        name=film.item.name,
        bytes=film.stamp[0],
        corrected=score is not None and score.mark in corrected,
        status="waiting" if score is None else score.status,
        reason="" if score is None else score.reason,
        warnings=[] if score is None else list(score.warnings),
        infected_fraction=None if score is None else score.infected_fraction,
        extent_score=None if score is None else score.extent_score,
        uncertainty=None if score is None else score.uncertainty,
    )


@contextmanager
def _source(service: Service, image: UploadFile | None, wanted: str | None) -> Iterator[tuple[FilePath, str]]:
    """The file of the image that is corrected, and its name."""
    if image is None:
        film = _found(service, wanted or "")
        yield film.item.path, base_name(film.item.name)
        return
    name = base_name(image.filename)
    with service.saved(image.file, name) as path:
        yield path, name


def _mask(service: Service, file: UploadFile, kind: str, radiograph: Radiograph) -> npt.NDArray[np.bool_]:
    """(H, W) bool on the radiograph's pixels, of a mask on those or on the grid of its pictures."""
    word = {"infection": "infection mask", "lungs": "lung mask"}[kind]
    with service.saved(file.file, "mask.png") as path:
        service.check_size(path, f"the {word}")
        try:
            mask = read_mask(path)
        except ImageError as error:
            raise Problem(422, f"the {word} {str(error).removeprefix(str(path)).strip()}") from None
    grid = grid_of(radiograph)
    if mask.shape not in (grid, radiograph.shape):
        raise Problem(
            422, f"expected the {word} on the image's {grid[1]}x{grid[0]} pixels, got {mask.shape[1]}x{mask.shape[0]}"
        )
    return resized_mask(mask, radiograph.shape)


def _as_prediction(service: Service, radiograph: Radiograph, masks: dict[str, npt.NDArray[np.bool_]]) -> Prediction:
    """Corrected masks in place of what the model found, so that they are measured and written alike."""
    segmenter = service.segmenter(None)[1]
    return Prediction(
        {kind: mask.astype(np.float32) for kind, mask in masks.items()},
        {"infection": segmenter.thresholds["infection"], "lungs": 0.5},
        spacing_mm=radiograph.spacing_mm,
        source=radiograph.source,
        pixels=radiograph.pixels,
        model=segmenter.mark,
    )
