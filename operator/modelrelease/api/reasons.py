"""
Reasons: every word that a condition, an event or a verdict may carry, each with its meaning.

They are part of the API: tools match on them, so none is renamed silently.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The three verdicts. No evidence is never Pass and never Breach."""

    PASS = "Pass"  # noqa: S105 - a verdict, no password
    INCONCLUSIVE = "Inconclusive"
    BREACH = "Breach"


class Reason(StrEnum):
    """Why a condition, a verdict or a decision is what it is."""

    # Where a rollout stands.
    PENDING = "Pending"
    """The candidate's pods are starting; it gets no traffic."""
    PROGRESSING = "Progressing"
    """A rollout is under way."""
    BAKING = "Baking"
    """The gate passes; the stage's shortest time is not over."""
    SCALING_UP = "ScalingUp"
    """The gate passed; the candidate grows to the size that the next stage needs."""
    READY = "Ready"
    """The desired revision is the release; nothing to do."""
    COMPLETED = "Completed"
    """The candidate has become the release."""
    SUSPENDED = "Suspended"
    """spec.suspend is true: nothing moves, traffic stays where it is."""

    # What stops or reverses one.
    CONTRACT_BREACHED = "ContractBreached"
    """A clause of the contract is proved broken."""
    CANDIDATE_UNAVAILABLE = "CandidateUnavailable"
    """The candidate's pods are not available."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """The candidate did not become available within server.progressDeadline."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The stage's deadline passed without a verdict."""
    REJECTED = "Rejected"
    """The desired revision was rolled back before; it is not retried by itself."""
    ROLLED_BACK = "RolledBack"
    """All traffic was returned to the stable revision."""
    CANCELLED = "Cancelled"
    """The spec went back to the stable revision; the rollout ended without blame."""
    SUPERSEDED = "Superseded"
    """A newer revision replaced the candidate."""

    # What is wrong with the spec or with what it names.
    INVALID_SPEC = "InvalidSpec"
    """The spec says something that the operator cannot carry out."""
    GATEWAY_NOT_FOUND = "GatewayNotFound"
    """A Gateway named in traffic.gatewayAPI.parentRefs does not exist."""
    MIRROR_UNSUPPORTED = "MirrorUnsupported"
    """The Gateway's class says that it cannot mirror requests, which a shadow stage needs."""
    ROUTE_REJECTED = "RouteRejected"
    """The Gateway refused the HTTPRoute."""
    NAME_CONFLICT = "NameConflict"
    """An object of the same name exists that this release does not own."""

    # Why a verdict is Inconclusive.
    NO_DATA = "NoData"
    """A metric has no samples in an arm."""
    LOW_TRAFFIC = "LowTraffic"
    """Too few events yet to prove anything."""
    UNDECIDED = "Undecided"
    """The evidence proves neither a breach nor its absence."""
    SILENT_SLICE = "SilentSlice"
    """An expected slice sends nothing."""
    SHADOW_NOT_FLOWING = "ShadowNotFlowing"
    """Fewer copies of requests reach the candidate than the stage asks for."""
    SPLIT_MISMATCH = "SplitMismatch"
    """The share of requests that reaches the candidate is not the one that the route asks for."""
    NOISY = "Noisy"
    """Two halves of the baseline's own pods differ as much: the traffic is too uneven to blame the candidate."""
    HISTOGRAM_TOO_COARSE = "HistogramTooCoarse"
    """The histogram has no bucket bound where the clause needs one."""
    NO_BASELINE = "NoBaseline"
    """There is no stable revision to compare with."""
    NOT_JUDGED = "NotJudged"
    """No clause is judged in this stage."""
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    """Prometheus cannot be read, or its answer cannot be trusted."""
    WITHIN_CONTRACT = "WithinContract"
    """Every clause holds and what was to be assured is assured."""

    # States of single conditions.
    VALID = "Valid"
    """The spec can be carried out."""
    SERVING = "Serving"
    """Users are served by the stable revision, or by the candidate in its stage."""
    NO_AVAILABLE_PODS = "NoAvailablePods"
    """No pod that should answer users is available."""
    IN_SYNC = "InSync"
    """The live route is what status says."""
    DRIFTED = "Drifted"
    """The live route was changed by somebody else; it is being repaired."""
    NOT_WRITTEN = "NotWritten"
    """The route is about to be written: what it should say has just changed, or the write has failed so far."""
    NOT_ACCEPTED = "NotAccepted"
    """The Gateway has not accepted the route (yet)."""
    FLOWING = "Flowing"
    """Copies of requests reach the candidate as asked."""
    METRICS_READ = "MetricsRead"
    """The last question to Prometheus was answered."""
    STAGE_MAY_NOT_CONCLUDE = "StageMayNotConclude"
    """By the baseline's own traffic, a stage of the plan cannot pass before its deadline."""
    BREACH_HELD = "BreachHeld"
    """A clause with onBreach Hold is broken; a person must decide."""
