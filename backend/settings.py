"""Every setting of the service, in one table: name, default, what it means.

The environment is read here and nowhere else (a secret's file by ``backend/secret_files.py``);
everything below is passed the ``Settings`` object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, cast

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from backend.secret_files import SecretFile, SecretFiles


def _split(value: object) -> object:
    """Take ``a, b`` from the environment."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]

PREFIX: Final = "RAREFIRST_"
#: Who may set a field: the environment only, a project too, or a project but by a name that we
#: know (what else the environment takes there is code or a file, and any member of a project
#: writes its extra params).
Scope = Literal["service", "project", "project, by name"]
_MARK: Final = "scope"
_PROJECT: Final[JsonDict] = {_MARK: "project"}
_PROJECT_BY_NAME: Final[JsonDict] = {_MARK: "project, by name"}


def scope_of(info: FieldInfo) -> Scope:
    """Who may set a field."""
    extra = info.json_schema_extra
    return cast(Scope, extra[_MARK]) if isinstance(extra, dict) and _MARK in extra else "service"


def _named(*names: str) -> AliasChoices:
    """Environment names that users of Label Studio's ML backends already know."""
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Settings of one service, read from the environment (prefix ``RAREFIRST_``)."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        # gunicorn prints what a wrong setting raises: without the passwords beside it.
        hide_input_in_errors=True,
        # A compose file hands variables on that nobody set.
        env_ignore_empty=True,
    )

    # Label Studio and who may talk to us.
    label_studio_url: str = Field(
        "",
        validation_alias=_named("LABEL_STUDIO_URL", "RAREFIRST_LABEL_STUDIO_URL"),
        description="Address of Label Studio as this backend reaches it.",
    )
    label_studio_api_key: str = Field(
        "",
        validation_alias=_named("LABEL_STUDIO_API_KEY", "RAREFIRST_LABEL_STUDIO_API_KEY"),
        description="Personal access token, or a legacy token where those are enabled; or "
        "LABEL_STUDIO_API_KEY_FILE: a file that holds it.",
        repr=False,
    )
    basic_auth_user: str = Field(
        "",
        validation_alias=_named("BASIC_AUTH_USER", "RAREFIRST_BASIC_AUTH_USER"),
        description="User name asked for on everything but /health; empty: no authentication.",
    )
    basic_auth_pass: str = Field(
        "",
        validation_alias=_named("BASIC_AUTH_PASS", "RAREFIRST_BASIC_AUTH_PASS"),
        description="Password that goes with it; or BASIC_AUTH_PASS_FILE: a file that holds it.",
        repr=False,
    )

    # The service.
    host: str = Field("0.0.0.0", description="Address to listen on.")
    port: int = Field(
        9090,
        ge=1,
        le=65535,
        validation_alias=_named("PORT", "RAREFIRST_PORT"),
        description="Port to listen on.",
    )
    own_url: str = Field(
        "",
        description="Address of this backend as Label Studio reaches it; "
        "empty: http://localhost:PORT.",
    )
    workers: int = Field(
        1,
        ge=1,
        validation_alias=_named("WORKERS", "RAREFIRST_WORKERS"),
        description="Web processes.",
    )
    threads: int = Field(
        8,
        ge=1,
        validation_alias=_named("THREADS", "RAREFIRST_THREADS"),
        description="Threads of each web process.",
    )
    worker_threads: int = Field(
        16, ge=1, description="Projects that the worker brings up to date at the same time."
    )
    torch_threads: int = Field(
        0, ge=0, description="Threads of torch in the worker; 0: one a core that may be used."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        validation_alias=_named("LOG_LEVEL", "RAREFIRST_LOG_LEVEL"),
        description="Least severe message that is logged: DEBUG, INFO, WARNING or ERROR.",
    )
    data_dir: Path = Field(
        Path("var"),
        validation_alias=_named("RAREFIRST_DATA_DIR", "MODEL_DIR"),
        description="Folder of everything that is kept: mirror, versions, queue, images.",
    )
    max_body_mb: int = Field(250, ge=1, description="Largest request body taken, in MiB.")
    predict_budget_s: float = Field(
        50.0,
        gt=0,
        description="Seconds that one /predict may spend on tasks that are not embedded yet; "
        "the rest get the last place and are queued.",
    )

    # The loop.
    debounce_s: float = Field(
        1.0, ge=0, description="Seconds without a further hint before a round starts."
    )
    debounce_max_s: float = Field(
        5.0, ge=0, description="Longest that hints may put a round off, in seconds."
    )
    timer_s: float = Field(30.0, gt=0, description="Seconds between rounds that no hint asked for.")
    discover_s: float = Field(
        300.0,
        gt=0,
        description="Seconds between searches of Label Studio for projects connected to us.",
    )
    check_ids_s: float = Field(
        600.0, gt=0, description="Seconds between full comparisons of task ids (deleted tasks)."
    )
    backoff_max_s: float = Field(
        120.0, gt=0, description="Longest pause between tries while Label Studio is away."
    )
    fit_every_labels: int = Field(
        10,
        ge=1,
        description="New labels that make a new fit due at once.",
        json_schema_extra=_PROJECT,
    )
    fit_idle_s: float = Field(
        20.0,
        ge=0,
        description="With fewer new labels than that, a fit is due once this many seconds passed "
        "without a further label.",
        json_schema_extra=_PROJECT,
    )
    first_queue_images: int = Field(
        2000,
        ge=1,
        description="Embedded images that are enough for a first queue; the rest follow after it.",
        json_schema_extra=_PROJECT,
    )

    # The queue.
    top_k: int = Field(
        300,
        ge=1,
        le=100_000,
        description="Tasks whose scores are published.",
        json_schema_extra=_PROJECT,
    )
    top_up_below: float = Field(
        0.34,
        ge=0,
        lt=1,
        description="Publish again when less than this share of the published tasks is unlabeled.",
        json_schema_extra=_PROJECT,
    )
    control_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of the queue drawn at random, for an unbiased estimate of prevalence.",
        json_schema_extra=_PROJECT,
    )
    preannotate: bool = Field(
        False,
        description="Publish the predicted class, or boxes, with each score as a pre-annotation.",
        json_schema_extra=_PROJECT,
    )
    tail_threshold: float = Field(
        0.30,
        gt=0,
        lt=1,
        description="A class whose skewness ratio is below this is a tail class.",
        json_schema_extra=_PROJECT,
    )
    tail_min_labels: int | None = Field(
        None,
        ge=0,
        description="Labels not chosen by our queue that are needed before a class can enter the "
        "tail; empty: 10 for each class, at most 500.",
        json_schema_extra=_PROJECT,
    )
    tail_classes: Names = Field(
        (), description="Classes always in the tail, comma-separated.", json_schema_extra=_PROJECT
    )
    not_tail_classes: Names = Field(
        (), description="Classes never in the tail, comma-separated.", json_schema_extra=_PROJECT
    )
    tail_quota: int | None = Field(
        None,
        ge=1,
        description="Labels of a tail class after which it is no longer mined.",
        json_schema_extra=_PROJECT,
    )
    scorer: str = Field(
        "rarefirst",
        description="What orders the queue (models/scorers); auto: what a quick backtest on the "
        "labels finds better than the default beyond chance.",
        json_schema_extra=_PROJECT,
    )
    recalibration: Literal["regularised", "paper", "released"] = Field(
        "regularised",
        description="How the re-calibration layer is trained (METHODS section 2).",
        json_schema_extra=_PROJECT,
    )
    seed: int = Field(
        0, ge=0, le=2**32 - 1, description="Seed of everything random.", json_schema_extra=_PROJECT
    )

    # The frozen model.
    backbone: str = Field(
        "cnn4",
        description="torchvision architecture, efficientnet_lite0 (extra efficientnet-lite), cnn4, "
        "resnet32, trunk5, or module:factory of your own; of "
        "a detector its trunk.",
        json_schema_extra=_PROJECT_BY_NAME,
    )
    weights: str = Field(
        "none",
        description="DEFAULT (torchvision's), a file, or none: trained on your labels. A "
        "detector's head always is, unless this is the folder of a whole one.",
        json_schema_extra=_PROJECT_BY_NAME,
    )
    feature_layer: str = Field(
        "",
        description="Name of the penultimate layer; empty: the input of the last Linear.",
        json_schema_extra=_PROJECT,
    )
    device: str = Field("auto", description="auto, cpu, or cuda[:N].")
    bootstrap_min_labels: int = Field(
        40,
        ge=2,
        description="Labels before a first model is trained on them.",
        json_schema_extra=_PROJECT,
    )
    bootstrap_steps: int = Field(
        1500,
        ge=1,
        le=100_000,
        description="Optimiser steps of that training.",
        json_schema_extra=_PROJECT,
    )
    detector_size_px: int = Field(
        320,
        ge=64,
        le=1024,
        description="Side of a detector's square input, in pixels; a picture is fitted into it.",
        json_schema_extra=_PROJECT,
    )
    detector_steps: int = Field(
        800,
        ge=1,
        le=100_000,
        description="Optimiser steps of a detector's training on your labels.",
        json_schema_extra=_PROJECT,
    )
    top_detections: int = Field(
        10,
        ge=1,
        le=100,
        description="Surest detections of an image by which it is judged, and that are shown as "
        "pre-annotations.",
        json_schema_extra=_PROJECT,
    )
    empty_images: Literal["last", "first"] = Field(
        "last",
        description="Where images stand in which a detector finds nothing; first: what it was "
        "never taught may be in them.",
        json_schema_extra=_PROJECT,
    )
    embed_batch: int = Field(64, ge=1, description="Images in one forward pass.")
    embed_chunk: int = Field(
        512, ge=1, description="Images embedded before the loop looks whether labels came."
    )

    # Fine-tuning of the frozen model.
    finetune: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether the frozen model is fine-tuned on the labels, and a fifth of them is "
        "held out to judge by: auto (where there is a CUDA device), on, off.",
        json_schema_extra=_PROJECT,
    )
    finetune_strategy: str = Field(
        "auto",
        description="How it is trained on skewed labels (models/rebalancing); auto: "
        "balanced_softmax, of boxes repeat_factor.",
        json_schema_extra=_PROJECT,
    )
    finetune_layers: Literal["auto", "head", "last_block", "all"] = Field(
        "auto",
        description="What is trained: head, last_block, all, or auto: all of a network that was "
        "trained on your labels, the last block of given weights (of a detector all but its "
        "trunk).",
        json_schema_extra=_PROJECT,
    )
    finetune_epochs: int = Field(
        20, ge=1, le=10_000, description="Passes over the labels.", json_schema_extra=_PROJECT
    )
    finetune_min_steps: int = Field(
        400,
        ge=0,
        le=1_000_000,
        description="Fewest optimiser steps, however few the labels: epochs are added until then.",
        json_schema_extra=_PROJECT,
    )
    finetune_learning_rate: float = Field(
        1e-3, gt=0, description="Largest step size of that training.", json_schema_extra=_PROJECT
    )
    finetune_patience: int = Field(
        0,
        ge=0,
        description="Epochs without progress on a part of the labels kept aside for that, before "
        "the training stops; 0: all epochs, and no label is kept aside.",
        json_schema_extra=_PROJECT,
    )
    finetune_every_labels: int = Field(
        100,
        ge=1,
        description="Labels that are new since the last fine-tune before another is due.",
        json_schema_extra=_PROJECT,
    )
    finetune_min_tail_labels: int = Field(
        10,
        ge=0,
        description="Labels that each tail class needs before; those without any are left out of "
        "account.",
        json_schema_extra=_PROJECT,
    )
    finetune_budget_h: float = Field(
        0.0,
        ge=0,
        description="Hours of fine-tuning a day, all projects together, after which none is begun; "
        "0: no limit.",
    )
    finetune_quiet_hours: str = Field(
        "",
        description="Local hours in which none is begun, such as 8-18 or 22-6,12-13; empty: any.",
    )
    finetune_device: str = Field(
        "", description="Where fine-tunes run: auto, cpu, or cuda[:N]; empty: as the device above."
    )

    # Images.
    allowed_hosts: Names = Field(
        (), description="Hosts that images may come from besides Label Studio, comma-separated."
    )
    fetch_threads: int = Field(4, ge=1, description="Images fetched at the same time.")
    fetch_timeout_s: float = Field(10.0, gt=0, description="Seconds before a fetch is given up.")
    max_image_mb: int = Field(50, ge=1, description="Largest image file taken, in MiB.")
    max_image_megapixels: int = Field(100, ge=1, description="Largest image taken, in megapixels.")
    image_cache_mb: int = Field(2048, ge=0, description="Size of the image cache, in MiB.")

    # Keeping.
    keep_versions: int = Field(
        10, ge=2, le=1000, description="Model versions kept.", json_schema_extra=_PROJECT
    )
    delete_pause_s: float = Field(
        0.2,
        ge=0,
        le=60,
        description="Pause between deletions of old predictions, in seconds.",
        json_schema_extra=_PROJECT,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files before variables, so that both at once are noticed."""
        return init_settings, SecretFiles(settings_cls), env_settings

    @field_validator("label_studio_api_key", "basic_auth_pass", mode="before")
    @classmethod
    def _secret(cls, value: object) -> object:
        return value.read() if isinstance(value, SecretFile) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _as_other_backends_write_it(cls, value: object) -> object:
        """``warn`` and ``debug`` as well as ``WARNING`` and ``DEBUG``."""
        if not isinstance(value, str):
            return value
        level = value.strip().upper()
        return "WARNING" if level == "WARN" else level

    @field_validator("label_studio_url", "own_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if "@" in value:  # addresses are logged and shown: what is found is not repeated
            raise ValueError(
                "found an address with a user or password in it (before '@'), expected one such "
                "as http://localhost:8080; passwords have settings of their own"
            )
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"found {value!r}, expected an address such as http://localhost:8080")
        return value

    @field_validator("finetune_quiet_hours")
    @classmethod
    def _hours(cls, value: str) -> str:
        read_hours(value)
        return value.strip()

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass):
            raise ValueError("set both BASIC_AUTH_USER and BASIC_AUTH_PASS, or neither")
        problem, _ = contradiction(self)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def url(self) -> str:
        """Our own address as Label Studio reaches it."""
        return self.own_url or f"http://localhost:{self.port}"

    @property
    def basic_auth(self) -> tuple[str, str] | None:
        """User and password, or None where no authentication is asked for."""
        return (self.basic_auth_user, self.basic_auth_pass) if self.basic_auth_user else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what must be set before the loop can run."""
        return tuple(
            name
            for name, value in (
                ("LABEL_STUDIO_URL", self.label_studio_url),
                ("LABEL_STUDIO_API_KEY", self.label_studio_api_key),
            )
            if not value
        )


def contradiction(settings: Settings) -> tuple[str, frozenset[str]]:
    """What a project's settings say against each other, and which fields do; empty if nothing."""
    both = set(settings.tail_classes) & set(settings.not_tail_classes)
    if both:
        fields = frozenset({"tail_classes", "not_tail_classes"})
        return f"in both tail_classes and not_tail_classes: {sorted(both)}", fields
    return "", frozenset()


def read_hours(text: str) -> frozenset[int]:
    """The hours of the day in ``8-18`` (from 8 until 18 o'clock) or ``22-6,12-13``.

    Raises: ValueError: saying what was found and what was expected.
    """
    hours: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        begin, dash, end = (piece.strip() for piece in part.partition("-"))
        if not (dash and begin.isdecimal() and end.isdecimal()):
            raise ValueError(f"found {part!r}, expected hours such as 8-18")
        first, last = int(begin), int(end)
        if first > 24 or last > 24 or first == last:
            raise ValueError(f"found {part!r}, expected two different hours from 0 to 24")
        hours |= {(first + k) % 24 for k in range((last - first) % 24 or 24)}
    return frozenset(hours)
