"""The operator's settings, as the environment gives them."""

import subprocess
import sys
from datetime import timedelta

import pytest
from pydantic import ValidationError

from modelrelease.config import Settings, complaint


@pytest.fixture
def environment(monkeypatch):
    """Set variables of the environment; without any, only the required one is set."""

    def change(**variables):
        for name, value in {"PROMETHEUS_URL": "http://prometheus:9090", **variables}.items():
            if value is None:
                monkeypatch.delenv(f"MODELRELEASE_{name}", raising=False)
            else:
                monkeypatch.setenv(f"MODELRELEASE_{name}", value)

    return change


def test_defaults(environment):
    """Only the address of Prometheus must be given."""
    environment()
    settings = Settings()
    assert str(settings.prometheus_url) == "http://prometheus:9090/"
    assert settings.prometheus_scrape_interval == timedelta(seconds=5)
    assert settings.watch_namespaces == ()
    assert settings.drain == timedelta(seconds=10)
    lease = (settings.lease_duration, settings.lease_renew_deadline, settings.lease_retry)
    assert lease == tuple(timedelta(seconds=seconds) for seconds in (15, 10, 2))
    assert (settings.probe_port, settings.metrics_port, settings.concurrency) == (8080, 9090, 10)


@pytest.mark.parametrize(
    ("variable", "text", "want"),
    [
        pytest.param("WATCH_NAMESPACES", "fraud, ads,,", ("fraud", "ads"), id="namespaces"),
        pytest.param("DRAIN", "1m30s", timedelta(seconds=90), id="duration"),
        pytest.param("PROMETHEUS_SCRAPE_INTERVAL", "500ms", timedelta(milliseconds=500), id="milliseconds"),
        pytest.param("LOG_FORMAT", "text", "text", id="log format"),
        pytest.param("CONCURRENCY", "3", 3, id="number"),
        pytest.param(
            "PROMETHEUS_HEADERS",
            "X-Scope-OrgID: fraud\n\nX-A:b: c\n",
            {"X-Scope-OrgID": "fraud", "X-A": "b: c"},
            id="headers",
        ),
    ],
)
def test_values(environment, variable, text, want):
    """Each setting in the form that people write."""
    environment(**{variable: text})
    assert getattr(Settings(), variable.lower()) == want


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        pytest.param("PROMETHEUS_URL", None, "MODELRELEASE_PROMETHEUS_URL: required and not set", id="missing"),
        pytest.param("PROMETHEUS_URL", "prometheus", "MODELRELEASE_PROMETHEUS_URL: ", id="no URL"),
        pytest.param("DRAIN", "10", "MODELRELEASE_DRAIN: Value error, '10' is not a duration", id="no unit"),
        pytest.param("PROMETHEUS_SCRAPE_INTERVAL", "0s", "MODELRELEASE_PROMETHEUS_SCRAPE_INTERVAL: ", id="a busy loop"),
        pytest.param("CONCURRENCY", "0", "MODELRELEASE_CONCURRENCY: Input should be greater than 0", id="zero"),
        pytest.param("LOG_FORMAT", "yaml", "MODELRELEASE_LOG_FORMAT: Input should be 'json' or 'text'", id="choice"),
        pytest.param(
            "LEASE_RENEW_DEADLINE", "13s", "MODELRELEASE_LEASE_RENEW_DEADLINE: Value error, at most 12s", id="too late"
        ),
        pytest.param("LEASE_RETRY", "6s", "MODELRELEASE_LEASE_RETRY: Value error, at most 5s", id="one try"),
        pytest.param("LEASE_DURATION", "500ms", "MODELRELEASE_LEASE_DURATION: ", id="too short a lease"),
        pytest.param(
            "PROMETHEUS_HEADERS",
            "X-Scope-OrgID",
            "MODELRELEASE_PROMETHEUS_HEADERS: Value error, one header",
            id="header",
        ),
        pytest.param("PROBE_PORT", "99999", "MODELRELEASE_PROBE_PORT: ", id="port"),
    ],
)
def test_bad_values_are_named(environment, variable, text, message):
    """The variable, what is wrong, what it was."""
    environment(**{variable: text})
    with pytest.raises(ValidationError) as raised:
        Settings()
    said = complaint(raised.value)
    assert message in said
    assert text is None or repr(text) in said


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param(
            {"PROMETHEUS_USERNAME_FILE": "/u"},
            "MODELRELEASE_PROMETHEUS_USERNAME_FILE and PROMETHEUS_PASSWORD_FILE are given together",
            id="a user without a password",
        ),
        pytest.param(
            {"PROMETHEUS_CLIENT_KEY_FILE": "/k"},
            "MODELRELEASE_PROMETHEUS_CLIENT_CERTIFICATE_FILE and PROMETHEUS_CLIENT_KEY_FILE are given together",
            id="a key without its certificate",
        ),
        pytest.param(
            {"PROMETHEUS_TOKEN_FILE": "/t", "PROMETHEUS_USERNAME_FILE": "/u", "PROMETHEUS_PASSWORD_FILE": "/p"},
            "MODELRELEASE_PROMETHEUS_TOKEN_FILE and PROMETHEUS_USERNAME_FILE: one of the two can be sent",
            id="two ways to say who asks",
        ),
    ],
)
def test_settings_that_do_not_fit_together(environment, variables, message):
    environment(**variables)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert complaint(raised.value).startswith(message)


def test_a_password_in_the_address_is_refused_and_not_shown(environment):
    """Every status that tells of an outage shows the address, to whoever may read a release."""
    environment(PROMETHEUS_URL="http://ana:secret@prometheus:9090")
    with pytest.raises(ValidationError) as raised:
        Settings()
    said = complaint(raised.value)
    assert "MODELRELEASE_PROMETHEUS_URL: " in said
    assert "MODELRELEASE_PROMETHEUS_USERNAME_FILE" in said
    assert "secret" not in said


@pytest.mark.slow
def test_the_process_ends_with_code_2_and_no_traceback(environment):
    """A pod with bad settings says so in one message."""
    environment(DRAIN="soon")
    ended = subprocess.run([sys.executable, "-m", "modelrelease"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("modelrelease: bad settings\nMODELRELEASE_DRAIN: ")
    assert "Traceback" not in ended.stderr
