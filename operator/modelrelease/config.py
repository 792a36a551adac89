"""The operator's settings, from environment variables that begin with ``MODELRELEASE_``; read once, at the start."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BeforeValidator, Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from modelrelease.api.quantities import parse_duration

PREFIX = "MODELRELEASE_"

_Port = Annotated[int, Field(ge=1, le=65535)]
_Duration = Annotated[
    timedelta, BeforeValidator(lambda given: parse_duration(given) if isinstance(given, str) else given)
]


def _names(given: object) -> object:
    if not isinstance(given, str):
        return given
    return tuple(name.strip() for name in given.split(",") if name.strip())


class Settings(BaseSettings):
    """What the operator can be told; durations are written as in a ModelRelease: ``5s``, ``10m``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    prometheus_url: AnyHttpUrl
    """Address of Prometheus, such as ``http://prometheus.monitoring:9090``. Required. Everything is judged on it."""

    prometheus_scrape_interval: _Duration = timedelta(seconds=5)
    """Time between two scrapes of the model servers. Default 5s. Gates that are fresh or in doubt are judged as often;
    counts whose newest sample is older than two of it are no evidence."""

    prometheus_token_file: Path | None = None
    """File with a bearer token for Prometheus, read anew for each question. Default: no token."""

    prometheus_ca_file: Path | None = None
    """PEM file with the authorities that Prometheus' certificate is checked against. Default: those of the system."""

    prometheus_concurrency: PositiveInt = 4
    """Most questions to Prometheus at once, over all releases. Default 4."""

    watch_namespaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    """Namespaces that are watched, with commas between them. Default: all, which needs a ClusterRole."""

    concurrency: PositiveInt = 10
    """Most releases that are reconciled at once. Default 10."""

    drain: _Duration = timedelta(seconds=10)
    """How long a revision keeps its pods after traffic has left it, for requests under way. Default 10s."""

    log_format: Literal["json", "text"] = "json"
    """``json``: one object a line. ``text``: for a terminal. Default json."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written. Default info."""

    probe_port: _Port = 8080
    """Port of ``/healthz`` and ``/readyz``. Default 8080."""

    metrics_port: _Port = 9090
    """Port of the operator's own metrics, ``/metrics``. Default 9090."""


def complaint(error: ValidationError) -> str:
    """Return what is wrong with the settings, one variable a line, in the words of the environment."""
    lines = [
        f"{PREFIX}{'_'.join(str(step) for step in problem['loc']).upper()}: "
        + ("required and not set" if problem["type"] == "missing" else f"{problem['msg']} (it is {problem['input']!r})")
        for problem in error.errors()
    ]
    return "\n".join(lines)
