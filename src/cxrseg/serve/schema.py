"""What the service answers, for the OpenAPI description and for who reads it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from cxrseg.inference.outputs import CATEGORY_COLUMNS
from cxrseg.metrics.severity import SEVERITY_COLUMNS

__all__ = ["Grid", "Health", "Model", "Picture", "Segmented"]

_Fraction = Annotated[float, Field(ge=0, le=1)]


class Grid(BaseModel):
    """The pixels on which all pictures of an answer lie: the radiograph, upright, at most 2048 on its longest side."""

    width: int
    height: int
    spacing_mm: tuple[float, float] | None = Field(
        None, description="(row, column) distance of the centres of the grid's pixels in mm; null where unknown"
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
    confidence: _Fraction | None = Field(description="the Dice that the infection mask can be expected to have")
    model: str
    model_version: str
    model_sha256: str
    threshold: _Fraction | None = Field(description="probability from which a pixel is infection")
    emptied: bool | None = Field(description="true where the task covid19 emptied the map")


_Severity = create_model(  # type: ignore[call-overload]
    "_Severity",
    __base__=_Row,
    **{
        name: (_Fraction | None if "fraction" in name else Any, None)
        for name in (*SEVERITY_COLUMNS, *CATEGORY_COLUMNS.values())
    },
)


class Segmented(_Severity):
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
    size: tuple[int, int] = Field(description="(height, width) of the network's input in pixels")
    tasks: list[str]
    task: str = Field(description="the task of a request that names none")
    thresholds: dict[str, float] = Field(description="task to the probability from which a pixel is infection")
    categories: list[str]
    licence: str
    disclaimer: str


class Health(BaseModel):
    """That the service is up."""

    status: Literal["ok"]
    version: str
