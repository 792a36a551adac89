"""The operator's settings, from environment variables that begin with ``MODELRELEASE_``; read once, at the start."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BeforeValidator, Field, PositiveInt, ValidationError, ValidationInfo, field_validator
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

    lease_namespace: str = "default"
    """Namespace of the Lease that says which replica acts; the chart gives the operator's own. Default ``default``."""

    lease_name: str = "modelrelease-operator"
    """Name of that Lease: replicas that share it elect one of them. Default ``modelrelease-operator``."""

    lease_duration: Annotated[_Duration, Field(ge=timedelta(seconds=1))] = timedelta(seconds=15)
    """How long a standby waits after the last sign of life of the one that acts. Default 15s."""

    lease_renew_deadline: _Duration = timedelta(seconds=10)
    """How long a replica acts after its last renewal that succeeded; then it ends. Less than the duration, at least a
    fifth of it: that is what a write that is under way has left to arrive. Default 10s."""

    lease_retry: _Duration = timedelta(seconds=2)
    """Time between two renewals. At most half of the deadline. Default 2s."""

    log_format: Literal["json", "text"] = "json"
    """``json``: one object a line. ``text``: for a terminal. Default json."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written. Default info."""

    probe_port: _Port = 8080
    """Port of ``/healthz`` and ``/readyz``. Default 8080."""

    metrics_port: _Port = 9090
    """Port of the operator's own metrics, ``/metrics``. Default 9090."""

    @field_validator("lease_renew_deadline")
    @classmethod
    def _ends_before_the_lease(cls, given: timedelta, info: ValidationInfo) -> timedelta:
        duration = info.data.get("lease_duration")
        if duration and not timedelta(0) < given <= 0.8 * duration:
            raise ValueError(f"at most {0.8 * duration.total_seconds():g}s, four fifths of the lease's duration")
        return given

    @field_validator("lease_retry")
    @classmethod
    def _tries_twice(cls, given: timedelta, info: ValidationInfo) -> timedelta:
        deadline = info.data.get("lease_renew_deadline")
        if deadline and not timedelta(0) < given <= deadline / 2:
            raise ValueError(f"at most {deadline.total_seconds() / 2:g}s, half of the renew deadline")
        return given


def complaint(error: ValidationError) -> str:
    """Return what is wrong with the settings, one variable a line, in the words of the environment."""
    lines = [
        f"{PREFIX}{'_'.join(str(step) for step in problem['loc']).upper()}: "
        + ("required and not set" if problem["type"] == "missing" else f"{problem['msg']} (it is {problem['input']!r})")
        for problem in error.errors()
    ]
    return "\n".join(lines)
