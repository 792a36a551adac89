"""The operator's settings, from environment variables that begin with ``MODELRELEASE_``; read once, at the start."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
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


def _without_password(given: AnyHttpUrl) -> AnyHttpUrl:
    if given.username or given.password:
        raise ValueError(
            "has a user name: every status would show it, give it as MODELRELEASE_PROMETHEUS_USERNAME_FILE"
        )
    return given


_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")


def _headers(given: object) -> object:
    if not isinstance(given, str):
        return given
    headers = {}
    for line in filter(None, map(str.strip, given.splitlines())):
        found = _HEADER.fullmatch(line)
        if found is None:
            raise ValueError("one header a line, such as X-Scope-OrgID: fraud")
        headers[found[1]] = found[2]
    return headers


class Settings(BaseSettings):
    """What the operator can be told; durations are written as in a ModelRelease: ``5s``, ``10m``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    prometheus_url: Annotated[AnyHttpUrl, AfterValidator(_without_password)]
    """Address of Prometheus, such as ``http://prometheus.monitoring:9090``; of one behind a path or prefix, with it.
    Required. Everything is judged on it. Who asks is told by other settings: messages show the address."""

    prometheus_scrape_interval: Annotated[_Duration, Field(ge=timedelta(milliseconds=100))] = timedelta(seconds=5)
    """Time between two scrapes of the model servers. Default 5s. Gates that are fresh or in doubt are judged as often;
    counts whose newest sample is older than two of it are no evidence."""

    prometheus_lag: _Duration = timedelta(0)
    """Evidence younger than this is not asked for. Default 0s: right for a Prometheus that scrapes by itself, where
    a late sample has the counts read again. For stores that are written to from elsewhere: how late samples arrive."""

    prometheus_headers: Annotated[dict[str, str], NoDecode, BeforeValidator(_headers)] = {}
    """Headers of each question, one a line: ``X-Scope-OrgID: fraud``, the tenant of a Mimir. No secrets: they are
    readable in the Deployment. Default: none."""

    prometheus_token_file: Path | None = None
    """File with a bearer token for Prometheus, read anew for each question. Default: no token."""

    prometheus_username_file: Path | None = None
    """File with a user's name for Prometheus (basic authentication), read anew for each question. Default: none."""

    prometheus_password_file: Path | None = None
    """File with that user's password. Default: none."""

    prometheus_client_certificate_file: Path | None = None
    """PEM file with the certificate by which the operator identifies itself to Prometheus. Default: none."""

    prometheus_client_key_file: Path | None = None
    """PEM file with the key of that certificate. Default: none."""

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

    @model_validator(mode="after")
    def _one_way_to_say_who_asks(self) -> Self:
        pairs = {
            "PROMETHEUS_USERNAME_FILE and PROMETHEUS_PASSWORD_FILE": (
                self.prometheus_username_file,
                self.prometheus_password_file,
            ),
            "PROMETHEUS_CLIENT_CERTIFICATE_FILE and PROMETHEUS_CLIENT_KEY_FILE": (
                self.prometheus_client_certificate_file,
                self.prometheus_client_key_file,
            ),
        }
        for names, (first, second) in pairs.items():
            if (first is None) != (second is None):
                raise ValueError(f"{names} are given together or not at all")
        if self.prometheus_token_file and self.prometheus_username_file:
            raise ValueError("PROMETHEUS_TOKEN_FILE and PROMETHEUS_USERNAME_FILE: one of the two can be sent")
        return self

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
    return "\n".join(map(_line, error.errors()))


def _line(problem: ErrorDetails) -> str:
    variable = f"{PREFIX}{'_'.join(str(step) for step in problem['loc']).upper()}"
    if problem["type"] == "missing":
        return f"{variable}: required and not set"
    if not problem["loc"]:  # of several variables, which the message names
        return f"{PREFIX}{problem['msg'].removeprefix('Value error, ')}"
    if "USERNAME_FILE" in problem["msg"]:  # the address has a password in it
        return f"{variable}: {problem['msg']}"
    return f"{variable}: {problem['msg']} (it is {problem['input']!r})"
