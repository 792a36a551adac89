"""
The example service: a loan application in, ``approve`` or ``refer`` out, every answer counted by slice.

Environment
- ``MODELRELEASE_VERSION``: the version to serve; the operator sets it in each pod. A version without an artifact ends
  the process at start with the known ones named.
- ``MODELSERVER_MODELS``: folder with the artifacts (default ``models``; the image sets its own).
- ``MODELSERVER_WORKERS``: processes that answer (default 1).
- ``DEMO_FAIL_READINESS=1``, ``DEMO_ERROR_FRACTION=0.5``: for demonstrations and end-to-end tests only: never become
  ready; answer this fraction of the requests with 500.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

import bentoml
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelserver import loans
from modelserver import model as models
from modelserver.metrics import SliceMetrics

# Read once, at import: BentoML's supervisor imports this module too and so ends at once when the version is unknown,
# instead of restarting workers that can never start.
MODEL = models.load(Path(os.environ.get("MODELSERVER_MODELS", "models")), os.environ.get("MODELRELEASE_VERSION"))
WORKERS = int(os.environ.get("MODELSERVER_WORKERS", "1"))
DEMO_FAIL_READINESS = os.environ.get("DEMO_FAIL_READINESS") == "1"
DEMO_ERROR_FRACTION = float(os.environ.get("DEMO_ERROR_FRACTION", "0"))

DECIDE_PATH = "/decide"

metrics = SliceMetrics(
    slices=loans.CROSSED_SLICES, wide=loans.WIDE_SLICES, decisions=(models.APPROVE, models.REFER), codes=(200, 400, 500)
)


class Application(BaseModel):
    """One loan application; a slice that is left out or unknown is counted as ``other``."""

    annual_income: float
    debt_to_income: float | None = None
    delinq_2y: float
    inquiries_last_12m: float
    total_credit_limit: float
    total_credit_utilized: float
    public_record_bankrupt: float
    accounts_opened_24m: float
    num_mort_accounts: float
    total_debit_limit: float
    loan_amount: float
    term: float
    account_never_delinq_percent: float
    num_historical_failed_to_pay: float
    homeownership: str | None = None
    application_type: str | None = None
    loan_purpose: str | None = None
    state: str | None = None


class Decision(BaseModel):
    """What happens to the application, the chance that the loan is bad, and which version said so."""

    decision: str
    score: float
    version: str


class CountRequests:
    """
    ASGI middleware that counts every request to `DECIDE_PATH`, those that never reach the endpoint included.

    The endpoint leaves what it decided in the request's state; a request refused before that has only a code. What a
    client has in hand has been counted: a process that is killed just then takes nothing with it.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap *app*."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its answer."""
        if scope["type"] != "http" or scope["path"] != DECIDE_PATH:
            await self._app(scope, receive, send)
            return

        started = time.perf_counter()
        code = 500  # what the client sees when no answer is ever started
        state = scope.setdefault("state", {})

        counted = False

        def count() -> None:
            nonlocal counted
            if not counted:
                counted = True
                seen = state.get("seen", {"slices": {}})
                metrics.observe(**seen, code=code, seconds=time.perf_counter() - started)

        async def note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                count()
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            count()


@bentoml.service(
    name="loans",
    workers=WORKERS,
    traffic={"timeout": 10},
    tracing={"excluded_urls": ".*"},  # spans that nobody collects are half of a request's processor time
    logging={"access": {"enabled": False}},
)
class LoanDecisions:
    """Decides on loan applications with `MODEL`."""

    @bentoml.api(route=DECIDE_PATH)  # type: ignore[untyped-decorator]
    async def decide(self, application: Application, /, ctx: bentoml.Context) -> Decision:
        """Return the decision on one application."""
        given = application.model_dump()
        seen: dict[str, Any] = {"slices": {name: given[name] for name in loans.SLICES}}
        ctx.request.state.seen = seen
        score = MODEL.score(given)
        decision = MODEL.decide(score)
        if random.random() < DEMO_ERROR_FRACTION:
            ctx.response.status_code = 500
        else:
            seen.update(decision=decision, score=score)
        return Decision(decision=decision, score=score, version=MODEL.version)

    def __is_ready__(self) -> bool:
        """Tell BentoML's ``/readyz`` whether traffic may come."""
        return not DEMO_FAIL_READINESS


LoanDecisions.add_asgi_middleware(CountRequests)  # type: ignore[attr-defined]
