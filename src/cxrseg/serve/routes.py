"""The routes of the REST interface."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Path, Query, Request, UploadFile
from fastapi.responses import Response

from cxrseg._version import __version__
from cxrseg.data.sample import CATEGORIES
from cxrseg.errors import CxrsegError
from cxrseg.inference.tasks import TASKS
from cxrseg.io.read import is_dicom
from cxrseg.io.value_range import parse_value_range
from cxrseg.phantom.generate import make_phantom
from cxrseg.serve.answer import answer_of, png_of
from cxrseg.serve.problems import Problem, documented
from cxrseg.serve.schema import Health, Model, Phantom, Segmented
from cxrseg.serve.service import DICOM, Service, base_name, json_answer

__all__ = ["router"]

router = APIRouter(prefix="/v1")


class Task(StrEnum):
    """A task of the model."""

    OPACITY, INFECTION, COVID19 = TASKS


class Format(StrEnum):
    """What is answered: all, the infection mask on the file's pixels, or a DICOM SEG."""

    JSON, PNG, SEG = "json", "png", "seg"


_PHANTOMS = 12


@router.post(
    "/segment",
    response_model=Segmented,
    responses={
        200: {"content": {"image/png": {}, DICOM: {}}, "description": "The result, also of a refused image"},
        **documented(400, 413, 422, 429, 503, 507),
    },
)
async def segment(
    request: Request,
    file: Annotated[UploadFile, File(description="PNG, JPEG, TIFF, BMP, WebP or DICOM")],
    task: Annotated[Task | None, Query(description="default: the task that the service was started with")] = None,
    format: Annotated[Format, Query(description="seg needs a DICOM file")] = Format.JSON,
    value_range: Annotated[str | None, Query(description="values of black and white, such as 0:4095")] = None,
    window: Annotated[int, Query(ge=0, le=1000, description="which view of a DICOM file that offers several")] = 0,
) -> Response:
    """Segment infection and lungs on one chest radiograph. Nothing is kept."""
    service: Service = request.app.state.service
    name = base_name(file.filename)
    limits = _range_of(value_range)

    def work() -> Response:
        with service.saved(file.file, name) as path, service.held(path, name):
            chosen, segmenter = service.segmenter(task)
            radiograph = service.read(path, name, value_range=limits, window=window)
            if format is Format.SEG and not is_dicom(path):
                raise Problem(422, f"{name} is not a DICOM file, so a SEG would have no study; ask for json or png")
            prediction = segmenter.segment(radiograph)
            service.metrics.images.labels(prediction.status).inc()
            if format is Format.JSON:
                return json_answer(answer_of(name, radiograph, prediction, chosen))
            if prediction.status == "refused":
                raise Problem(422, f"{name} was refused and has no mask: {prediction.reason}")
            if format is Format.PNG:
                mask = radiograph.to_file(prediction.mask("infection"))
                return Response(png_of(mask.astype(np.uint8) * 255), media_type="image/png")
            return service.seg_of(path, name, radiograph, prediction)

    return await service.work.do(work)


@router.get("/model")
async def model(request: Request) -> Model:
    """The weights in use."""
    service: Service = request.app.state.service
    task, segmenter = service.segmenter(None)
    info, mark = segmenter.info, segmenter.mark
    return Model(
        name=mark.name,
        version=mark.version,
        sha256=mark.sha256,
        channels=list(info.channels),
        size=list(info.size),
        tasks=list(service.segmenters),
        task=task,
        thresholds={name: each.thresholds["infection"] for name, each in service.segmenters.items()},
        categories=list(info.categories),
        licence=info.licence,
        disclaimer="Research use only. Not for diagnosis.",
    )


@router.get("/health")
async def health(request: Request) -> Health:
    """That the service is up, and what it was started with. Needs no token."""
    settings = request.app.state.service.settings
    return Health(
        status="ok",
        version=__version__,
        token=settings.token is not None,
        folder=settings.folder is not None,
        keep=settings.keep is not None,
    )


@router.get("/phantoms")
async def phantoms() -> list[Phantom]:
    """Synthetic radiographs to try the service with."""
    return [Phantom(number=n, name=f"phantom {n + 1}", category=_category(n)) for n in range(_PHANTOMS)]


@router.get(
    "/phantoms/{number}",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **documented(422, 429, 503)},
)
async def phantom(request: Request, number: Annotated[int, Path(ge=0, lt=_PHANTOMS)]) -> Response:
    """A synthetic radiograph of 512 x 512 pixels as PNG."""
    service: Service = request.app.state.service
    return Response(await service.work.do(_phantom, number), media_type="image/png")


@lru_cache(_PHANTOMS)
def _phantom(number: int) -> bytes:
    return png_of(make_phantom(number, _category(number), 512).image)


def _category(number: int) -> str:
    return CATEGORIES[number % len(CATEGORIES)]


def _range_of(text: str | None) -> tuple[float, float] | None:
    try:
        return None if text is None else parse_value_range(text)
    except CxrsegError as error:
        raise Problem(422, f"value_range: {error}") from None
