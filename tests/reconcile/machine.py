"""
Everything that may happen to a release, as rules that hypothesis combines; promises are checked after every reconcile.

The model keeps nothing of its own about rollouts: what is true is read from the cluster, what is promised is said in
``promises``. At the end of every run all is well again, and the release must come to rest where its spec says.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from modelrelease.adapters.errors import AdapterError
from modelrelease.api.parse import Release
from modelrelease.api.status import ReleaseStatus
from modelrelease.core.elapsed import Jump
from modelrelease.reconcile import World, reconcile
from tests.builders import NOW, a_body, revision_of
from tests.reconcile.fakes import Crash, Object
from tests.reconcile.hostile import FAULTS, FedMetrics, Feed, HostileKube, Tick, TickLog
from tests.reconcile.memory import parsed
from tests.reconcile.promises import check

VERSIONS: Final = ("1", "2", "3", "4")
REVISIONS: Final = tuple(revision_of(version).name for version in VERSIONS)
DRAIN: Final = timedelta(seconds=10)
RESYNC: Final = timedelta(minutes=5)
TO_REST: Final = 400
"""Reconciles within which an undisturbed release has come to rest."""


def _stage(name: str, bake: str, **kind: Object) -> Object:
    return {"name": name, **kind, "bake": bake, "deadline": "20m"}


SHADOW = _stage("shadow", "1m", shadow={"percent": 100})
HALF_SHADOW = _stage("half-shadow", "0s", shadow={"percent": 50})
CANARY_10 = _stage("canary-10", "1m", canary={"percent": 10})
CANARY_50 = _stage("canary-50", "0s", canary={"percent": 50})
FULL = _stage("full", "2m", full={})
PLANS: Final[dict[str, list[Object]]] = {
    "usual": [SHADOW, CANARY_10, CANARY_50, FULL],
    "no shadow": [CANARY_10, FULL],
    "no canary": [SHADOW, FULL],
    "full": [FULL],
    "two shadows": [HALF_SHADOW, SHADOW, CANARY_50, FULL],
    "canary-10 has 30 %": [SHADOW, {**CANARY_10, "canary": {"percent": 30}}, {**FULL, "bake": "5m"}],
    "a person lets it out": [SHADOW, {**CANARY_10, "approval": "Required"}, FULL],
    "canary-10 is the full stage": [SHADOW, {**FULL, "name": "canary-10"}],
}

_CONTRACT: Final = a_body()["spec"]["contract"]
_STEADY = {"name": "steady", "metric": "block-rate", "within": "5%"}
_ERRORS = {"name": "errors", "metric": "error-rate", "atMost": "0.1%"}
CONTRACTS: Final[dict[str, Object]] = {
    "absolute": {**_CONTRACT, "clauses": [_ERRORS]},
    "compared": {**_CONTRACT, "clauses": [_STEADY]},
    "both": {**_CONTRACT, "clauses": [_STEADY, _ERRORS]},
    "a person decides": {**_CONTRACT, "clauses": [{**_ERRORS, "onBreach": "Hold"}]},
}

ANALYSES: Final[dict[str, Object]] = {
    "patient": {"interval": "1m"},
    "trusting": {"interval": "5s", "onInconclusive": "Advance"},
    "strict": {"interval": "1m", "onInconclusive": "Rollback"},
    "afraid of silence": {"interval": "1m", "onNoMetrics": "Rollback", "metricsDeadline": "10m"},
}

_BAD_PROMQL = {"name": "error-rate", "ratio": {"events": "r_total{", "of": "r_total"}}
INVALID: Final[dict[str, Object]] = {
    "what only the operator refuses": {"contract": {**_CONTRACT, "metrics": [_BAD_PROMQL], "clauses": [_ERRORS]}},
    "no template": {"server": {"port": "http"}},
    "no stages": {"stages": []},
}

APPROVALS: Final[dict[str, Object]] = {
    mode: {"mode": mode, "automateAfter": 2} for mode in ("Auto", "Suggest", "Manual")
}

plans = st.sampled_from(sorted(PLANS))
verbs = st.sampled_from(("Approve", "Rollback", "Retry", "Promote"))
contracts = st.sampled_from(sorted(CONTRACTS))
seconds = st.sampled_from((0, 1, 5, 20, 45, 90, 400))
jumps = st.sampled_from((-7200, -600, -30, -1, 0.5, 30, 600, 1500, 7200))
faults = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(FAULTS)), max_size=2).map(dict)


@dataclass
class Tally:
    """What was done, over all runs of a process."""

    steps: int = 0
    reconciles: int = 0
    runs: int = 0
    happened: Counter[str] = field(default_factory=Counter)

    def count(self, tick: Tick) -> None:
        """Count one reconcile, by how it ended and by what was decided."""
        self.reconciles += 1
        ended = "died" if tick.died else type(tick.error).__name__ if tick.error else "ended well"
        self.happened[ended] += 1
        if tick.decision is not None:
            reason = getattr(tick.decision, "reason", "")
            self.happened[f"{type(tick.decision).__name__} {reason}".strip()] += 1

    def __str__(self) -> str:
        happened = "\n".join(f"  {count:8,} {what}" for what, count in sorted(self.happened.items()))
        return f"{self.steps:,} steps in {self.runs:,} runs, {self.reconciles:,} reconciles:\n{happened}"


TALLY: Final = Tally()

AT_REST: Final[dict[tuple[str, str], tuple[datetime, int, Object, dict[tuple[str, str], Object]]]] = {}
"""Clock, cluster and release by plan and contract, once the first version is the release: how most runs begin."""


def step(*conditions: Callable[["Releases"], bool], **draws: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a method a rule where *conditions* hold: counted, followed by a few reconciles, and often by better days."""

    def made(method: Callable[..., None]) -> Any:
        def counted(self: "Releases", then: int, heals: bool, **drawn: Any) -> None:
            TALLY.steps += 1
            method(self, **drawn)
            self.look(then)
            if heals:
                self._heal()

        counted.__name__, counted.__doc__ = method.__name__, method.__doc__
        it = rule(**draws, then=st.integers(0, 4), heals=st.sampled_from((False, True, True)))(counted)
        for condition in conditions:
            it = precondition(condition)(it)
        return it

    return made


class Releases(RuleBasedStateMachine):
    """One release and all that may befall it."""

    def __init__(self) -> None:
        """Begin with an empty cluster."""
        super().__init__()
        TALLY.runs += 1
        self.loop = asyncio.new_event_loop()
        self.now = NOW
        self.lived = timedelta(0)
        self.jumps: tuple[Jump, ...] = ()
        self.whole = True
        self.kube = HostileKube(tick=Tick(NOW))
        self.metrics = FedMetrics(self.kube)
        self.world = World(
            self.kube, self.metrics, TickLog(self.kube), drain=DRAIN, scrape_interval=timedelta(seconds=30)
        )

    # What the operator does.

    def reconcile(self) -> Tick:
        """Reconcile once, whatever goes wrong, and check what was promised."""
        tick = self.kube.tick = Tick(self.now, self.lived, self.jumps)
        self.whole = False
        try:
            tick.again = self.loop.run_until_complete(reconcile("fraud", "radar", self.world, self.now, self.jumps))
        except AdapterError as error:
            tick.error = error
        except Crash:
            tick.died, self.jumps = True, ()
        tick.route_after = self.kube.objects.get(("HTTPRoute", "radar"))
        tick.told = frozenset(self.kube.told)
        self.kube.faults.clear()
        self.kube.edits.clear()
        TALLY.count(tick)
        TALLY.happened.update(call.removeprefix("event ") for call in tick.calls if call.startswith("event "))
        check(tick)
        self.whole = True
        return tick

    def go_on(self, tick: Tick) -> None:
        """Let the time pass that the engine would wait."""
        self._pass(timedelta(seconds=1) if tick.error or tick.died else min(tick.again or RESYNC, RESYNC))

    def look(self, times: int) -> None:
        """Reconcile some times, but not on and on when there is nothing to do."""
        for _ in range(times):
            tick = self.reconcile()
            self.go_on(tick)
            if tick.again is None and not tick.error and not tick.died:
                return

    def _pass(self, time: timedelta) -> None:
        self.now += time
        self.lived += time

    @initialize(plan=plans, contract=contracts, ready=st.booleans())
    def begin(self, plan: str, contract: str, ready: bool) -> None:
        """Create the release; most often, its first version is the release already."""
        self.kube.body = a_body("1", stages=PLANS[plan], contract=CONTRACTS[contract], analysis=ANALYSES["patient"])
        if not ready:
            return
        if (plan, contract) not in AT_REST:
            self._come_to_rest()
            AT_REST[plan, contract] = (self.now, self.kube.version, self.kube.body, dict(self.kube.objects))
        self.now, self.kube.version, self.kube.body, objects = AT_REST[plan, contract]
        self.kube.objects = dict(objects)

    @step(faults=faults)
    def tick(self, faults: dict[int, Any]) -> None:
        self.kube.faults = faults
        self.go_on(self.reconcile())

    @step(ticks=st.integers(2, 20))
    def ticks(self, ticks: int) -> None:
        self.look(ticks)

    @step(at=st.integers(0, 4), version=st.sampled_from(VERSIONS))
    def tick_into_an_edit(self, at: int, version: str) -> None:
        self.kube.edits = {at: lambda: self.kube.edit(model={"version": version})}
        self.go_on(self.reconcile())

    @step(seconds=seconds)
    def wait(self, seconds: float) -> None:
        self._pass(timedelta(seconds=seconds))

    @step(seconds=jumps, noticed=st.booleans())
    def clock_jumps(self, seconds: float, noticed: bool) -> None:
        """Set the clock; the operator may not have been there to notice."""
        by = timedelta(seconds=seconds)
        self.now += by
        self.jumps = (*self.jumps, Jump(self.now, by)) if noticed else ()

    # What people order.

    @step(version=st.sampled_from(VERSIONS))
    def release_version(self, version: str) -> None:
        self.kube.edit(model={"version": version})

    @step(version=st.sampled_from(VERSIONS), feed=st.sampled_from(Feed))
    def release_what_does(self, version: str, feed: Feed) -> None:
        self.metrics.feeds[revision_of(version).name] = feed
        self.kube.edit(model={"version": version})

    @step(lambda self: bool(self.kube.status.get("candidate")), feed=st.sampled_from(Feed))
    def the_candidate_turns(self, feed: Feed) -> None:
        self.metrics.feeds[self.kube.status["candidate"]["revision"]] = feed

    @step(lambda self: bool(self.kube.status.get("stable")))
    def back_to_stable(self) -> None:
        self.kube.edit(model={"version": self.kube.status["stable"]["version"]})

    @step(plan=plans)
    def change_the_plan(self, plan: str) -> None:
        self.kube.edit(stages=PLANS[plan])

    @step(contract=contracts, analysis=st.sampled_from(sorted(ANALYSES)))
    def change_the_contract(self, contract: str, analysis: str) -> None:
        self.kube.edit(contract=CONTRACTS[contract], analysis=ANALYSES[analysis])

    @step(replicas=st.integers(1, 4), shadow=st.integers(1, 4))
    def change_replicas(self, replicas: int, shadow: int) -> None:
        server = self.kube.body["spec"]["server"]
        if "template" in server:
            self.kube.edit(server={**server, "replicas": replicas, "shadowReplicas": min(shadow, replicas)})

    @step(host=st.sampled_from(("radar.example.com", "other.example.com")))
    def change_the_host(self, host: str) -> None:
        self.kube.edit(traffic={"gatewayAPI": {"parentRefs": [{"name": "public"}], "hostnames": [host]}})

    @step(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        self.kube.edit(suspend=suspend)

    @step(wrong=st.sampled_from(sorted(INVALID)))
    def order_nonsense(self, wrong: str) -> None:
        self.kube.edit(**INVALID[wrong])

    @step(lambda self: not isinstance(parsed(self.kube.body), Release))
    def order_sense(self) -> None:
        self._correct_the_spec()

    @step(mode=st.sampled_from(sorted(APPROVALS)))
    def change_who_approves(self, mode: str) -> None:
        self.kube.edit(approval=APPROVALS[mode])

    # What people decide.

    @step(lambda self: bool(self.kube.status.get("candidate")), verb=verbs)
    def decide_about_the_candidate(self, verb: str) -> None:
        """Decide what is to be seen: of an Approve, the stage that is open."""
        candidate, stage = self.kube.status["candidate"], self.kube.status["stage"]
        self._decide(verb, candidate["version"], stage if verb == "Approve" else None)

    @step(lambda self: self._awaits_approval())
    def approve_what_is_asked_for(self) -> None:
        self.approve()

    def approve(self) -> None:
        self._decide("Approve", self.kube.status["candidate"]["version"], self.kube.status["stage"])

    @step(lambda self: bool(self.kube.status.get("rejected")))
    def retry(self) -> None:
        version = self.kube.status["rejected"][-1]["version"]
        self.kube.edit(model={"version": version})
        self._decide("Retry", version, None)

    @step(
        verb=verbs, version=st.sampled_from(VERSIONS), stage=st.sampled_from(("shadow", "canary-10", "full", "other"))
    )
    def decide_anything(self, verb: str, version: str, stage: str) -> None:
        """Decide about what may be past, not begun yet, or not there at all."""
        self._decide(verb, version, stage)

    def _awaits_approval(self) -> bool:
        return any(it["type"] == "AwaitingApproval" for it in self.kube.status.get("conditions", []))

    def _decide(self, verb: str, version: str, stage: str | None) -> None:
        TALLY.happened[f"{verb} asked"] += 1
        self.kube.decide(verb, version, stage if verb == "Approve" else None)

    # What happens to the cluster.

    @step(version=st.sampled_from(VERSIONS), feed=st.sampled_from(Feed))
    def feed(self, version: str, feed: Feed) -> None:
        self.metrics.feeds[revision_of(version).name] = feed

    @step(out=st.booleans())
    def prometheus(self, out: bool) -> None:
        self.metrics.outage = out

    @step(revision=st.sampled_from(REVISIONS), state=st.sampled_from(("fine", "broken", "restarting", "short")))
    def pods(self, revision: str, state: str) -> None:
        for name in ("broken", "restarting", "short"):
            getattr(self.kube, name).discard(revision)
        if state != "fine":
            getattr(self.kube, state).add(revision)

    @step(kind=st.sampled_from(("route", "Deployment", "Service", "ControllerRevision", "delete")))
    def quota(self, kind: str) -> None:
        self.kube.refused ^= {kind}

    @step(says=st.sampled_from((True, None, False)), there=st.booleans(), mirrors=st.booleans())
    def gateway(self, says: bool | None, there: bool, mirrors: bool) -> None:
        self.kube.gateway_says = says
        self.kube.gateway = {"spec": {"gatewayClassName": "envoy"}} if there else None
        names = ["Gateway", *(["HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"] if mirrors else [])]
        self.kube.gateway_class = {"status": {"supportedFeatures": [{"name": name} for name in names]}}

    @step(lambda self: bool(self.kube.weights), revision=st.sampled_from(REVISIONS), weight=st.integers(0, 100))
    def somebody_edits_the_route(self, revision: str, weight: int) -> None:
        def edit(route: Object) -> None:
            (rule_,) = route["spec"]["rules"]
            rule_["backendRefs"] = [{**rule_["backendRefs"][0], "name": f"radar-{revision}", "weight": weight}]

        self.kube.change(("HTTPRoute", "radar"), edit)

    @step(lambda self: bool(self.kube.objects), data=st.data())
    def somebody_deletes(self, data: st.DataObject) -> None:
        self.kube.objects.pop(data.draw(st.sampled_from(sorted(self.kube.objects))))

    @step(lambda self: bool(self.kube.objects), data=st.data())
    def somebody_takes_a_name(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.kube.objects)))
        self.kube.change(key, lambda it: it["metadata"]["ownerReferences"][0].update(uid="somebody"))

    @step(replicas=st.integers(0, 5), data=st.data())
    def somebody_scales(self, replicas: int, data: st.DataObject) -> None:
        if deployments := sorted(key for key in self.kube.objects if key[0] == "Deployment"):
            key = data.draw(st.sampled_from(deployments))
            self.kube.change(key, lambda it: it["spec"].update(replicas=replicas))

    @step()
    def all_is_well(self) -> None:
        self._heal()

    # The end.

    def teardown(self) -> None:
        """Unless a promise was broken: all is well again, and the release comes to rest."""
        try:
            if self.whole:
                self._come_to_rest()
        finally:
            self.loop.close()

    def _heal(self) -> None:
        kube = self.kube
        for troubles in (kube.refused, kube.broken, kube.restarting, kube.short):
            troubles.clear()
        self.gateway_heals()
        self.metrics.outage = False
        if not isinstance(parsed(kube.body), Release):
            self._correct_the_spec()
        if kube.body["spec"].get("suspend"):
            kube.edit(suspend=False)
        uid = kube.body["metadata"]["uid"]
        kube.objects = {
            key: it for key, it in kube.objects.items() if it["metadata"]["ownerReferences"][0]["uid"] == uid
        }

    def gateway_heals(self) -> None:
        self.kube.gateway_says = True
        self.kube.gateway = {"spec": {"gatewayClassName": "envoy"}}
        self.kube.gateway_class = None

    def _correct_the_spec(self) -> None:
        good = a_body(self.kube.body["spec"]["model"]["version"])["spec"]
        self.kube.edit(server=good["server"], contract=CONTRACTS["absolute"], stages=PLANS["usual"])

    def _come_to_rest(self) -> None:
        """Without trouble, what is ordered becomes the release, or it is said that it was rolled back."""
        self._heal()
        self.metrics.feeds.clear()
        self.now, self.jumps = max([self.now, *_times(self.kube.status)]), ()
        for _ in range(TO_REST):
            tick = self.reconcile()
            assert tick.error is None
            if self._awaits_approval():
                self.approve()
            if not tick.effects and (tick.again is None or self._rejected()):
                break
            self.go_on(tick)
        self._is_at_rest()

    def _rejected(self) -> bool:
        release = parsed(self.kube.body)
        assert isinstance(release, Release)
        return any(it["revision"] == release.desired.name for it in self.kube.status.get("rejected", []))

    def _is_at_rest(self) -> None:
        status = ReleaseStatus.model_validate(self.kube.status)
        ready, desired = status.condition("Ready"), parsed(self.kube.body).desired.name
        assert status.stable is not None
        assert (ready.status == "True" and status.stable.revision == desired) or self._rejected(), ready
        assert self.kube.weights == {f"radar-{status.stable.revision}": 100}
        before = dict(self.kube.objects)
        tick = self.reconcile()
        assert tick.effects == []
        assert self.kube.objects == before


def _times(value: Any) -> list[datetime]:
    if isinstance(value, dict):
        texts = [text for key, text in value.items() if isinstance(text, str) and key.endswith(("Time", "ince"))]
        return [datetime.fromisoformat(text) for text in texts] + [
            moment for part in value.values() for moment in _times(part)
        ]
    return [moment for part in value for moment in _times(part)] if isinstance(value, list) else []
