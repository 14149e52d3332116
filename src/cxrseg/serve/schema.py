"""What the service answers, for the OpenAPI description and for who reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from cxrseg.inference.outputs import CATEGORY_COLUMNS
from cxrseg.metrics.severity import SEVERITY_COLUMNS

__all__ = ["Corrected", "Film", "Films", "Grid", "Health", "Model", "Next", "Phantom", "Picture", "Segmented"]

_Fraction = Annotated[float, Field(ge=0, le=1)]


class Grid(BaseModel):
    """The pixels on which all pictures of an answer lie: the radiograph, upright, at most 2048 on its longest side."""

    width: int
    height: int
    spacing_mm: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        description="[row, column] distance of the centres of the grid's pixels in mm; null where unknown"
    )


class Picture(BaseModel):
    """A gray 8-bit PNG file of the grid's size."""

    png: str = Field(description="the file in base64")


class _Row(BaseModel):
    """The columns of statistics.csv, except for those of the severity."""

    name: str = Field(description="of the image, as the client named it")
    status: Literal["ok", "refused"] = Field(description="refused: not a frontal chest radiograph; no mask was made")
    reason: str = Field(description="why it was refused")
    warnings: list[str] = Field(description="what a reader of the result should know, one sentence each")
    steps: list[str] = Field(description="what was done to the stored values, in order, in words")
    width: int = Field(description="of the file's own pixels")
    height: int
    spacing_mm: float | str | None = Field(description="of the radiograph, in mm; ROWSxCOLUMNS where the two differ")
    ranking_score: _Fraction | None = Field(
        description="for sorting films by how likely they show much infection, also where nothing is marked; it is no "
        "fraction of the lungs"
    )
    expected_dice: _Fraction | None = Field(
        description="the Dice that the infection mask can be expected to have, the model's own estimate; not the "
        "probability that the mask is right"
    )
    model: str
    model_version: str
    model_sha256: str
    threshold: _Fraction | None = Field(description="probability from which a pixel is infection")
    emptied: bool | None = Field(
        description="true where the probabilities of the categories emptied the infection map, as a warning says"
    )


def _fractions(base: type[BaseModel], columns: Iterable[str]) -> Any:
    """`base` with a field for each column: a fraction where its name says so, else whatever the row has."""
    fields: dict[str, Any] = {name: (_column(name), Field()) for name in columns}
    return create_model(f"{base.__name__}WithMeasurements", __base__=base, **fields)


def _column(name: str) -> Any:
    known = {"extent_score": int | None, "grade": str | None, "infected_area_mm2": float | None}
    return known.get(name, _Fraction | None)


class Segmented(_fractions(_Row, (*SEVERITY_COLUMNS, *CATEGORY_COLUMNS.values()))):  # type: ignore[misc]
    """A segmented radiograph: the row of `cxrseg predict` for it, and pictures from which a page can draw."""

    task: str
    disclaimer: str
    grid: Grid
    image: Picture = Field(description="the radiograph, bright is dense")
    probability: Picture | None = Field(
        description="of infection: a byte b is the probability b / 255, and a pixel belongs to the mask at the "
        "threshold t where b >= ceil(255 * t)"
    )
    lungs: Picture | None = Field(description="255 within the lungs, 0 elsewhere")
    regions: Picture | None = Field(
        description="1 to 6: left upper, middle, lower, right upper, middle, lower third of the patient's lungs; 0 "
        "outside of the lungs"
    )


class Model(BaseModel):
    """The weights in use."""

    name: str
    version: str
    sha256: str = Field(description="of the model file")
    channels: list[str]
    size: list[int] = Field(min_length=2, max_length=2, description="(height, width) of the network's input in pixels")
    tasks: list[str]
    task: str = Field(description="the task of a request that names none")
    thresholds: dict[str, float] = Field(description="task to the probability from which a pixel is infection")
    categories: list[str]
    licence: str
    disclaimer: str


class Health(BaseModel):
    """That the service is up, and what it was started with."""

    status: Literal["ok"]
    version: str
    token: bool = Field(description="whether other routes ask for a token")
    folder: bool = Field(description="whether a folder of images is listed at /v1/images")
    keep: bool = Field(description="whether corrections are saved")


class Film(BaseModel):
    """An image of the folder; measurements are those of the task that the service was started with."""

    id: str
    name: str = Field(description="its path below the folder")
    bytes: int
    corrected: bool = Field(description="whether a correction of this image is saved")
    status: Literal["waiting", "ok", "refused", "failed"] = Field(description="waiting: it has not been segmented yet")
    reason: str
    warnings: list[str]
    infected_fraction: _Fraction | None
    extent_score: int | None
    uncertainty: _Fraction | None = Field(
        description="mean binary entropy of the probabilities of infection in the lungs, in bits"
    )


class Films(BaseModel):
    """The images of the folder, in natural order of their names."""

    images: list[Film]


class Next(BaseModel):
    """The image whose correction would teach most, of those that have been segmented."""

    image: Film
    scored: int = Field(description="number of images that have been segmented")
    images: int = Field(description="number of images in the folder")


class Phantom(BaseModel):
    """A synthetic radiograph."""

    number: int
    name: str
    category: str


class _Saved(BaseModel):
    """Where a correction was saved: paths below the folder of corrections, null where it was not."""

    name: str
    image: str | None
    infection: str | None
    lungs: str | None


class Corrected(_fractions(_Saved, SEVERITY_COLUMNS)):  # type: ignore[misc]
    """A correction, with the measurements of the corrected masks."""
