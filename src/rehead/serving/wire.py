"""The bodies of requests and answers, as they go over the wire and as the API's description has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rehead.serving.jobs import State

Name = Annotated[str, Field(max_length=64, description="of a model; may be left out where one is served")]

Several = Annotated[list[str], Field(min_length=1)]


class PredictRequest(BaseModel):
    """Texts, or images, to classify."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"texts": ["WINNER! Call now to claim your prize"], "explain": True}]},
    )

    texts: str | Several | None = Field(None, description="one text, or several; for a model of texts")
    images: str | Several | None = Field(None, description="the bytes of files in base64; for a model of images")
    model: Name | None = None
    explain: bool = Field(False, description="say what each word, or part of an image, contributes")


class PieceReply(BaseModel):
    """A word of a text, or a run of words.

    `start` and `end` count characters (Unicode code points); `weight` is what the word's absence takes from the log
    odds of the most probable label.
    """

    start: int
    end: int
    weight: float


class Prediction(BaseModel):
    """The model's answer to one text or image."""

    label: str | None = Field(None, description="null where the model abstains, or may give several labels")
    labels: list[str] | None = Field(None, description="where a text may have several")
    possible: list[str] | None = Field(None, description="labels one of which is right with the promised probability")
    probabilities: dict[str, float]
    tokens_cut: int = Field(description="tokens at the end of the text that the model did not see")
    pieces: list[PieceReply] | None = Field(None, description="with explain, for a text")
    weights: list[list[float]] | None = Field(None, description="with explain, for an image: its parts, row by row")
    heat_map: str | None = Field(None, description="with explain, for an image: a coloured PNG as a data URL")


class PredictionsReply(BaseModel):
    """Answers in the order of the request."""

    model: str
    version: str = Field(description="the beginning of the SHA-256 of the weights")
    predictions: list[Prediction]


class ServedModel(BaseModel):
    """A model that is served."""

    name: str
    version: str
    weight: float = Field(description="share in the requests of its name; 0 for a shadow")
    kind: Literal["texts", "images"]
    labels: list[str]
    several_labels: bool
    base: str
    tune: str
    depth: int | None = Field(description="null, as the two below, for n-grams without a network")
    pool: str | None
    max_length: int | None
    has_report: bool
    test: dict[str, Any] | None = Field(description="accuracy and other measures, with intervals")
    baselines: dict[str, Any] | None
    drift: dict[str, Any] | None = Field(
        description="of what it was asked lately; null for a model without a reference profile"
    )


class ModelList(BaseModel):
    models: list[ServedModel]


class ModelCard(ServedModel):
    card: str = Field(description="Markdown")


class FileJob(BaseModel):
    """A file that is being scored."""

    id: str
    state: State
    model: str
    name: str = Field(description="of the file")
    created: float = Field(description="seconds since 1970")
    ended: float | None
    progress: float = Field(description="from 0 to 1")
    result: str | None = Field(description="path of the download, when it is done")
    bad_rows: str | None = Field(description="path of the rows that could not be read, if there are any")
    facts: dict[str, Any] | None
    error: str | None


class Reloaded(BaseModel):
    """Versions that are served now, by model."""

    versions: dict[str, list[str]]


class Health(BaseModel):
    status: Literal["ok"]
