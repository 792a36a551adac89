"""
A release in every state that a person can find it in, as the operator itself would record it.

Nothing is written by hand: each status is what ``transition`` makes of what ``decide`` decides in a situation of the
builders, with verdicts of the judge on real counts.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, Final

from modelrelease.api.contract import Contract
from modelrelease.api.decision import Verb
from modelrelease.api.parse import InvalidSpec, parse
from modelrelease.api.status import Followed, ReleaseStatus, StageForecast
from modelrelease.core.decide import RollBack, Situation, decide, refuse
from modelrelease.core.judge import judge
from modelrelease.core.observation import GatewayProblem, Observation, Workload
from modelrelease.core.transition import transition, transition_invalid
from modelrelease.core.verdict import Finding
from tests.builders import (
    NO_METRICS,
    NOW,
    a_body,
    a_body_that_refers,
    a_release,
    a_route,
    a_status,
    decided,
    revision_of,
    seen,
)
from tests.core.judging import Arms, a_stage

Body = dict[str, Any]

MINUTE: Final = timedelta(minutes=1)
ROUGH: Final = {"overall": "50%", "slices": "50%"}
HEALTHY: Final[dict[str, Arms]] = {
    "DE": ((5000, 250_000), (560, 27_700)),
    "FR": ((600, 30_000), (66, 3_300)),
    "US": ((1200, 60_000), (130, 6_600)),
}
HARMED: Final[dict[str, Arms]] = {**HEALTHY, "FR": ((600, 30_000), (190, 3_300))}
YOUNG: Final[dict[str, Arms]] = {
    "DE": ((500, 25_000), (52, 2770)),
    "FR": ((60, 3000), (8, 330)),
    "US": ((120, 6000), (12, 660)),
}
ERRORS: Final[Arms] = ((30, 340_000), (2, 37_600))


def a_contract_of(**clause: Any) -> dict[str, Any]:
    """Return the builders' contract with assurances that its traffic can prove; *clause* changes its first clause."""
    contract = a_body()["spec"]["contract"]
    steady, errors = contract["clauses"]
    return {**contract, "clauses": [{**steady, "assure": ROUGH, **clause}, errors]}


def verdict(countries: dict[str, Arms], *, kind: str = "canary", contract: dict[str, Any] | None = None) -> Finding:
    """Return the judge's verdict on counts by country."""
    stage = a_stage(countries=countries, errors=ERRORS, kind=kind)
    return judge(Contract.model_validate(contract or a_contract_of()), [stage], error_budget=0.01, has_baseline=True)


def after(
    status: ReleaseStatus, finding: Finding | None = None, *, observation: Observation | None = None, **spec: Any
) -> Body:
    """Return the object once the operator has looked at *status*, with *finding* and *observation*."""
    spec = {"owner": "fraud-ml", "contract": a_contract_of(), **spec}
    version = spec.pop("version", "2")
    situation = Situation(a_release(version, **spec), status, observation or seen(), finding, NOW)
    decision = decide(situation)
    judged = isinstance(decision, RollBack) and situation.record is not None
    kept = "radar-evidence-1" if judged else None
    return _stored(a_body(version, **spec), transition(situation, decision, kept))


def _stored(body: Body, status: ReleaseStatus) -> Body:
    created = (NOW - timedelta(days=12)).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = {**body["metadata"], "creationTimestamp": created}
    return {**body, "metadata": meta, "status": status.as_json()}


def _unseen() -> Body:
    body = _stored(a_body(), ReleaseStatus())
    return {**body, "status": {"observedGeneration": -1}}


def _pending() -> Body:
    status = a_status("Pending", entered=timedelta(minutes=2), unavailable=timedelta(minutes=2))
    late = StageForecast(
        stage="canary-10",
        in_time=False,
        passes_after="9 h",
        slowest="clause steady country=FR",
        deadline="60 min",
        message="clause steady needs about 9 h in country=FR (and 1 more); the deadline is 60 min",
    )
    status = status.model_copy(update={"forecast": [late]})
    return after(status, observation=_starting())


def _starting() -> Observation:
    found = seen()
    name = revision_of("2").name
    why = "containers with unready status: [server]"
    return replace(found, workloads={**found.workloads, name: Workload(name, 1, available=0, serving=0, message=why)})


def _invalid() -> Body:
    stages = [{"name": "canary-5", "canary": {"percent": 120}}, {"name": "full", "full": {}}]
    body = a_body("2", stages=stages)
    invalid = parse(body)
    assert isinstance(invalid, InvalidSpec), "the state is about a bad spec"
    found = seen()
    return _stored(body, transition_invalid(a_status(), invalid, refuse(invalid, a_status()), found.workloads, NOW))


def _without_contract() -> Body:
    body = a_body_that_refers()
    invalid = parse(body)
    assert isinstance(invalid, InvalidSpec), "the state is about a contract that is not there"
    status = a_status()
    return _stored(body, transition_invalid(status, invalid, refuse(invalid, status), seen().workloads, NOW))


def _suggested() -> Body:
    followed = [Followed(stage="canary-10", in_a_row=6, followed=7, overruled=1)]
    status = a_status(entered=timedelta(minutes=14)).model_copy(update={"followed": followed})
    return after(status, verdict(HEALTHY), approval={"mode": "Suggest"})


def _first() -> Body:
    return after(
        a_status("full", stable=None, entered=timedelta(minutes=3)),
        verdict(HEALTHY, kind="full"),
    )


def _completed() -> Body:
    finished = after(a_status("full", entered=timedelta(hours=2)), verdict(HEALTHY, kind="full"))
    return _next_look(finished, minutes=4)


def _next_look(body: Body, *, minutes: int, version: str = "2", **spec: Any) -> Body:
    """Return *body* as the operator sees it at its next look, that many minutes after the last one."""
    status = ReleaseStatus.model_validate(body["status"])
    moved = replace_times(status, timedelta(minutes=minutes))
    return after(moved, version=version, **spec)


def replace_times(status: ReleaseStatus, by: timedelta) -> ReleaseStatus:
    """Return *status* as if everything in it had happened that much earlier."""

    def earlier(value: Any) -> Any:
        match value:
            case dict():
                return {key: earlier(item) for key, item in value.items()}
            case list():
                return [earlier(item) for item in value]
            case _ if hasattr(value, "strftime"):
                return value - by
            case _:
                return value

    return ReleaseStatus.model_validate(earlier(status.model_dump()))


def _rolled_back(stage: str = "shadow") -> Body:
    kind = "shadow" if stage == "shadow" else "canary"
    broken = after(a_status(stage, entered=timedelta(minutes=4)), verdict(HARMED, kind=kind))
    return _next_look(broken, minutes=2)


def _suspended(**about: str) -> Body:
    body = after(a_status(), verdict(YOUNG), suspend=True)
    return {**body, "metadata": {**body["metadata"], "annotations": about}}


STATES: Final[dict[str, Callable[[], Body]]] = {
    "not seen yet": _unseen,
    "pending": _pending,
    "shadow, not judged yet": lambda: after(
        a_status("Pending", entered=timedelta(seconds=40)), observation=seen(available={"1": 3, "2": 1})
    ),
    "shadow, no copies": lambda: after(
        a_status("shadow", entered=timedelta(minutes=12)),
        replace(
            verdict(YOUNG, kind="shadow"),
            reason="ShadowNotFlowing",
            message="12 of about 37 600 copied requests reached the candidate: the Gateway does not mirror as asked, "
            "or the candidate does not count its requests",
        ),
    ),
    "canary, baking": lambda: after(a_status(entered=timedelta(minutes=4)), verdict(HEALTHY)),
    "canary, baking with gaps": lambda: after(
        a_status(entered=timedelta(minutes=14)),
        verdict(HEALTHY),
        observation=seen(evidence=(replace(a_stage(countries=HEALTHY), covered=240.0),)),
    ),
    "canary, growing": lambda: after(
        a_status("shadow", entered=timedelta(minutes=14), replicas=3),
        verdict(HEALTHY, kind="shadow"),
        observation=seen(available={"1": 3, "2": 2}),
    ),
    "canary, inconclusive with an eta": lambda: after(a_status(entered=timedelta(minutes=12)), verdict(YOUNG)),
    "canary, inconclusive without an eta": lambda: after(
        a_status(entered=timedelta(minutes=12)), verdict({**YOUNG, "FR": ((60, 3000), (0, 0))})
    ),
    "deadline exceeded": lambda: after(a_status(entered=timedelta(hours=2)), verdict(YOUNG)),
    "no metrics": lambda: after(_without_metrics(), NO_METRICS),
    "no metrics, a deadline": lambda: after(_without_metrics(), NO_METRICS, analysis={"onNoMetrics": "Rollback"}),
    "breach, rolled back from shadow": _rolled_back,
    "breach, rolled back from canary": lambda: _rolled_back("canary-10"),
    "breach, held": lambda: after(
        a_status(), verdict(HARMED, contract=a_contract_of(onBreach="Hold")), contract=a_contract_of(onBreach="Hold")
    ),
    "awaiting approval": lambda: after(
        a_status(entered=timedelta(minutes=14)), verdict(HEALTHY), approval={"mode": "Manual"}
    ),
    "suggested": _suggested,
    "approved in spite of a breach": lambda: after(
        a_status(
            entered=timedelta(minutes=4),
            decisions=[decided(Verb.APPROVE, "canary-10", despite="BreachHeld", overruled=["steady"])],
        ),
        verdict(HARMED, contract=a_contract_of(onBreach="Hold")),
        contract=a_contract_of(onBreach="Hold"),
    ),
    "rolled back by a person": lambda: _next_look(
        after(a_status(decisions=[decided(Verb.ROLLBACK, "canary-10", reason="looks odd")]), verdict(YOUNG)),
        minutes=2,
    ),
    "contract not found": _without_contract,
    "breach of a first release": lambda: after(
        a_status("full", stable=None),
        judge(
            Contract.model_validate(a_contract_of()),
            [a_stage(countries=HEALTHY, errors=((0, 0), (900, 37_600)), kind="full")],
            error_budget=0.01,
            has_baseline=False,
        ),
    ),
    "pods never came": lambda: _next_look(
        after(
            a_status("Pending", entered=timedelta(minutes=11), unavailable=timedelta(minutes=11)),
            observation=_starting(),
        ),
        minutes=3,
    ),
    "suspended": lambda: _suspended(
        **{
            "modelrelease.dev/suspended-by": "ana@example.com",
            "modelrelease.dev/suspend-reason": "incident 42: look at the payments first",
        }
    ),
    "suspended by an edit": _suspended,
    "suspended, contract broken": lambda: after(a_status(), verdict(HARMED), suspend=True),
    "invalid spec": _invalid,
    "name conflict": lambda: after(
        a_status("Pending", unavailable=timedelta(minutes=1)), observation=seen(conflict="Service radar-7f3c9b1")
    ),
    "gateway absent": lambda: after(
        a_status("Pending", unavailable=timedelta(minutes=1)),
        observation=seen(
            gateway_problem=GatewayProblem(
                "GatewayNotFound",
                "Gateway fraud/public does not exist: create it, or name another in traffic.gatewayAPI.parentRefs",
            )
        ),
    ),
    "route refused": lambda: after(
        a_status(entered=timedelta(minutes=1)),
        verdict(HEALTHY),
        observation=seen(route=replace(a_route(accepted=False), message="NoMatchingListenerHostname")),
    ),
    "route drifted, users without pods": lambda: _without_pods(minutes=1),
    "pods of users restart": lambda: _without_pods(minutes=0),
    "canary, to be approved": lambda: after(
        a_status(entered=timedelta(minutes=4)), verdict(HEALTHY), approval={"mode": "Manual"}
    ),
    "canary, approved ahead": lambda: after(
        a_status(
            entered=timedelta(minutes=4),
            contract=a_release(contract=a_contract_of()).contract.digest,
            decisions=[
                decided(
                    Verb.APPROVE,
                    "canary-10",
                    time=NOW - MINUTE * 9,
                    ahead=a_release(contract=a_contract_of()).contract.digest,
                )
            ],
        ),
        verdict(HEALTHY),
        approval={"mode": "Manual"},
    ),
    "full, watched": lambda: after(a_status("full", entered=timedelta(minutes=20)), verdict(HEALTHY, kind="full")),
    "first release": _first,
    "completed": _completed,
    "cancelled": lambda: _next_look(after(a_status(), verdict(YOUNG), version="1"), minutes=2, version="1"),
    "a rejected version is wanted again": lambda: after(
        a_status("Completed", candidate=None, rejected=["2"], entered=timedelta(hours=1))
    ),
}


def _without_pods(minutes: int) -> Body:
    """Return a release without a pod of its stable version since that many minutes, and with an edited route."""
    route = replace(a_route(in_sync=False), message="the weights are 50/50 instead of 90/10")
    lost = seen(available={"1": 0, "2": 3}, route=route)
    first = after(a_status(entered=timedelta(minutes=4 - minutes)), verdict(HEALTHY), observation=lost)
    since = replace_times(ReleaseStatus.model_validate(first["status"]), timedelta(minutes=minutes))
    return after(since, verdict(HEALTHY), observation=lost)


def _without_metrics() -> ReleaseStatus:
    judged = replace_times(ReleaseStatus.model_validate(after(a_status(), verdict(YOUNG))["status"]), MINUTE * 7)
    return judged.model_copy(update={"metrics_missing_since": NOW - MINUTE * 6})


@cache
def a_state(name: str) -> Body:
    """Return the object in the state of that name."""
    return STATES[name]()
