"""Specs for tests: one that is good, a way to change it, and a table of changes that must be refused."""

import copy
import re
from dataclasses import dataclass
from typing import Any, Final

ABSENT: Final = object()
"""The value of a change that removes a field."""

GOOD: Final[dict[str, Any]] = {
    "apiVersion": "modelrelease.dev/v1alpha1",
    "kind": "ModelRelease",
    "metadata": {"name": "radar", "namespace": "default"},
    "spec": {
        "model": {"version": "2026-11-20"},
        "server": {
            "replicas": 3,
            "port": 3000,
            "template": {
                "metadata": {"labels": {"team": "fraud"}},
                "spec": {
                    "containers": [
                        {
                            "name": "server",
                            "image": "registry.example.com/radar:2026-11-20",
                            "env": [{"name": "WORKERS", "value": "2"}],
                        }
                    ]
                },
            },
        },
        "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}], "hostnames": ["radar.example.com"]}},
        "contract": {
            "slices": [
                {"name": "country", "labels": ["country"]},
                {"name": "market", "labels": ["country", "channel"]},
            ],
            "metrics": [
                {"name": "block-rate", "ratio": {"events": 'd_total{decision="block"}', "of": "d_total"}},
                {"name": "error-rate", "ratio": {"events": 'r_total{code=~"5.."}', "of": "r_total"}},
                {"name": "latency", "better": "Lower", "quantile": {"histogram": "latency_seconds", "q": "0.99"}},
                {"name": "score", "distribution": {"histogram": 'score{model="radar"}'}},
                {"name": "fallbacks", "rate": {"events": "fallbacks_total"}},
            ],
            "clauses": [
                {"name": "steady", "metric": "block-rate", "per": ["country"], "within": "5%"},
                {"name": "errors", "metric": "error-rate", "atMost": "0.1%"},
                {"name": "no-more-errors", "metric": "error-rate", "noWorse": "0.5pp"},
                {"name": "fast", "metric": "latency", "noWorse": "10%"},
                {"name": "never-slow", "metric": "latency", "per": ["country"], "atMost": "0.5"},
                {"name": "same-scores", "metric": "score", "similar": {"psi": "0.2"}},
                {"name": "few-fallbacks", "metric": "fallbacks", "atMost": "5"},
                {"name": "steady-fallbacks", "metric": "fallbacks", "within": "20%"},
            ],
        },
        "stages": [
            {"name": "shadow", "shadow": {"percent": 100}, "bake": "30m", "deadline": "2h"},
            {"name": "canary-5", "canary": {"percent": 5}, "bake": "10m", "deadline": "2h"},
            {"name": "canary-50", "canary": {"percent": 50}, "bake": "30m", "deadline": "4h"},
            {"name": "full", "full": {}, "bake": "7d"},
        ],
        "analysis": {"interval": "30s", "errorBudget": "1%", "metricsDeadline": "30m"},
    },
}


@dataclass(frozen=True, slots=True)
class Bad:
    """
    One spec that must be refused.

    Attributes:
        id: The mistake, as a sentence.
        change: Values by path; ABSENT removes.
        where: The field that the message names.
        says: What the message says, to admission and by the parser.
        parsed: What the parser says where the API server speaks in its own words.
        parsed_where: The field that the parser names, where the API server names its parent.
        admitted: Only the operator can know it: the API server takes the spec.
    """

    id: str
    change: dict[str, Any]
    where: str
    says: str
    parsed: str | None = None
    parsed_where: str | None = None
    admitted: bool = False

    @property
    def body(self) -> dict[str, Any]:
        """The whole object."""
        return changed(self.change)


def changed(change: dict[str, Any]) -> dict[str, Any]:
    """Return the good object with values replaced, by path such as ``spec.stages[1].canary.percent``."""
    body = copy.deepcopy(GOOD)
    for path, value in change.items():
        *parents, last = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
        target: Any = body
        for step in parents:
            target = target[step]
        if value is ABSENT:
            del target[last]
        else:
            target[last] = value
    return body


CLAUSES = "spec.contract.clauses"
METRICS = "spec.contract.metrics"
CLAUSE = f"{CLAUSES}[0]"
FAST, NEVER_SLOW, SAME_SCORES, FEW_FALLBACKS, STEADY_FALLBACKS = (f"{CLAUSES}[{index}]" for index in range(3, 8))
STAGES = "spec.stages"
EVENTS = "spec.contract.metrics[0].ratio.events"
OF = "spec.contract.metrics[0].ratio.of"
LATENCY = "spec.contract.metrics[2].quantile.histogram"
SCORE = "spec.contract.metrics[3].distribution.histogram"
FALLBACKS = "spec.contract.metrics[4].rate.events"
CONTAINER = "spec.server.template.spec.containers[0]"
SHADOW = {"name": "shadow", "shadow": {}}
CANARY = {"name": "canary-5", "canary": {"percent": 5}}
FULL = {"name": "full", "full": {}}

BAD: Final[tuple[Bad, ...]] = (
    # Spelling.
    Bad("a margin with a space", {f"{CLAUSE}.within": "5 %"}, f"{CLAUSE}.within",
        "'5 %' is not a margin: write 5% (relative), 0.5pp (percentage points) or a decimal such as 0.05, no spaces"),
    Bad("a margin with a sign", {f"{CLAUSE}.within": "-5%"}, f"{CLAUSE}.within", "'-5%' is not a margin: write 5%"),
    Bad("a margin with a comma", {f"{CLAUSE}.within": "0,5%"}, f"{CLAUSE}.within", "'0,5%' is not a margin"),
    Bad("a margin as a number", {f"{CLAUSE}.within": 0.05}, f"{CLAUSE}.within",
        "must be of type string", "0.05 is not a string: write it in quotes"),
    Bad("an empty margin", {f"{CLAUSE}.within": ""}, f"{CLAUSE}.within", "'' is not a margin"),
    Bad("an assurance that is no margin", {f"{CLAUSE}.assure": {"slices": "None"}}, f"{CLAUSE}.assure.slices",
        "'None' is not none or a margin: write none, 5%"),
    Bad("a duration with a space", {f"{STAGES}[0].bake": "30 m"}, f"{STAGES}[0].bake", "'30 m' is not a duration"),
    Bad("a duration without a unit", {f"{STAGES}[0].bake": "30"}, f"{STAGES}[0].bake", "'30' is not a duration"),
    Bad("a duration with a fraction", {f"{STAGES}[0].bake": "1.5h"}, f"{STAGES}[0].bake", "'1.5h' is not a duration"),
    Bad("a duration in the wrong order", {f"{STAGES}[0].bake": "30m1h"}, f"{STAGES}[0].bake", "from large to small"),
    Bad("a duration beyond the calendar", {f"{STAGES}[3].bake": "999999w"}, f"{STAGES}[3].bake", "is not a duration"),
    Bad("a duration as a number", {f"{STAGES}[0].bake": 30}, f"{STAGES}[0].bake",
        "must be of type string", "30 is not a string"),
    Bad("no time to become available", {"spec.server.progressDeadline": "0s"}, "spec.server.progressDeadline",
        "'0s' is not longer than 0: write such as 30s"),
    Bad("a metrics deadline of nothing", {"spec.analysis.metricsDeadline": "0h0m"}, "spec.analysis.metricsDeadline",
        "'0h0m' is not longer than 0"),
    Bad("a quantile in percent", {f"{METRICS}[2].quantile.q": "99%"}, f"{METRICS}[2].quantile.q",
        "'99%' is not a quantile: write a decimal between 0 and 1, such as 0.99"),
    Bad("the largest value", {f"{METRICS}[2].quantile.q": "1.0"}, f"{METRICS}[2].quantile.q",
        "'1.0' is not a quantile"),
    Bad("the smallest value", {f"{METRICS}[2].quantile.q": "0.00"}, f"{METRICS}[2].quantile.q",
        "'0.00' is not a quantile"),
    Bad("a distance in percent", {f"{SAME_SCORES}.similar.psi": "20%"}, f"{SAME_SCORES}.similar.psi",
        "'20%' is not a decimal: write such as 0.2, no sign and no unit"),
    Bad("an error budget without %", {"spec.analysis.errorBudget": "0.01"}, "spec.analysis.errorBudget",
        "'0.01' is not a percentage: write a number and %"),
    Bad("a capitalised stage", {f"{STAGES}[3].name": "Completed"}, f"{STAGES}[3].name",
        "'Completed' is not a name: use lower-case letters, digits and inner dashes"),
    Bad("a name with a space", {f"{CLAUSE}.name": "few errors"}, f"{CLAUSE}.name", "'few errors' is not a name"),
    Bad("an empty name", {f"{CLAUSE}.name": ""}, f"{CLAUSE}.name", "'' is not a name"),
    Bad("a label with a dash", {"spec.contract.slices[0].labels": ["home-country"]},
        "spec.contract.slices[0].labels[0]",
        "'home-country' is not a Prometheus label name: use letters, digits and underscores"),
    Bad("a host name with a scheme", {"spec.traffic.gatewayAPI.hostnames": ["https://radar.example.com"]},
        "spec.traffic.gatewayAPI.hostnames[0]", "'https://radar.example.com' is not a host name: write lower case"),
    Bad("a Gateway's name in capitals", {"spec.traffic.gatewayAPI.parentRefs[0].name": "Public"},
        "spec.traffic.gatewayAPI.parentRefs[0].name", "'Public' is not an object's name: use lower-case"),
    Bad("a version with a space", {"spec.model.version": "1 0"}, "spec.model.version",
        "'1 0' is not a version: use printable ASCII characters and no spaces"),
    Bad("an empty version", {"spec.model.version": ""}, "spec.model.version",
        "at least 1 chars long", '"" is too short, at least 1 is allowed'),
    Bad("a version as a number", {"spec.model.version": 1.1}, "spec.model.version",
        "must be of type string", "1.1 is not a string: write it in quotes"),
    Bad("a release whose Services could not be named", {"metadata.name": "radar.eu"}, "metadata.name",
        "'radar.eu' is not a release's name: use at most 55 lower-case letters, digits and inner dashes"),
    Bad("a release's name too long for its Services", {"metadata.name": "r" * 56}, "metadata.name",
        "use at most 55 lower-case letters"),
    # Unknown, missing, of another type, out of bounds.
    Bad("a misspelt field of the spec", {"spec.stagess": []}, "spec.stagess",
        'unknown field "spec.stagess"', "'stagess' does not exist, allowed: owner, suspend, model, server", "spec"),
    Bad("a misspelt verb", {f"{CLAUSE}.noworse": "5%"}, f"{CLAUSE}.noworse",
        f'unknown field "{CLAUSE}.noworse"', "'noworse' does not exist, allowed: name, metric, per, within", CLAUSE),
    Bad("a field where none is allowed", {"spec.stages[3].full": {"holdback": 2}}, "spec.stages[3].full.holdback",
        'unknown field "spec.stages[3].full.holdback"', "'holdback' does not exist, no field is allowed here",
        "spec.stages[3].full"),
    Bad("a metric kind that does not exist", {"spec.contract.metrics[0].gauge": "g"}, "spec.contract.metrics[0].gauge",
        'unknown field "spec.contract.metrics[0].gauge"',
        "'gauge' does not exist, allowed: name, better, ratio, quantile, distribution, rate", f"{METRICS}[0]"),
    Bad("no version", {"spec.model.version": ABSENT}, "spec.model.version", "Required value", "is required"),
    Bad("no traffic", {"spec.traffic": ABSENT}, "spec.traffic", "Required value", "is required"),
    Bad("no contract", {"spec.contract": ABSENT}, "spec",
        "has 0 contracts, allowed is exactly one of contract, contractRef"),
    Bad("a contract and a reference to one", {"spec.contractRef": {"name": "radar"}}, "spec",
        "has 2 contracts, allowed is exactly one of contract, contractRef"),
    Bad("a contract of another namespace", {"spec.contract": ABSENT,
        "spec.contractRef": {"name": "radar", "namespace": "other"}}, "spec.contractRef.namespace",
        'unknown field "spec.contractRef.namespace"', "'namespace' does not exist, allowed: name", "spec.contractRef"),
    Bad("a path to another namespace's contract", {"spec.contract": ABSENT,
        "spec.contractRef": {"name": "other/radar"}}, "spec.contractRef.name", "'other/radar' is not an object's name"),
    Bad("no spec", {"spec": ABSENT}, "spec", "Required value", "is required"),
    Bad("a ratio of nothing", {OF: ABSENT}, OF, "Required value", "is required"),
    Bad("a quantile without saying which", {f"{METRICS}[2].quantile.q": ABSENT}, f"{METRICS}[2].quantile.q",
        "Required value", "is required"),
    Bad("a distance without a number", {f"{SAME_SCORES}.similar": {}}, f"{SAME_SCORES}.similar.psi",
        "Required value", "is required"),
    Bad("no Gateway", {"spec.traffic.gatewayAPI.parentRefs": []}, "spec.traffic.gatewayAPI.parentRefs",
        "should have at least 1 items", "[] is too short, at least 1 is allowed"),
    Bad("a contract without clauses", {"spec.contract.clauses": []}, "spec.contract.clauses",
        "should have at least 1 items", "[] is too short, at least 1 is allowed"),
    Bad("an empty plan", {STAGES: []}, STAGES,
        "should have at least 1 items", "[] is too short, at least 1 is allowed"),
    Bad("a dimension without labels", {"spec.contract.slices[0].labels": []}, "spec.contract.slices[0].labels",
        "should have at least 1 items", "[] is too short, at least 1 is allowed"),
    Bad("a percent above 100", {f"{STAGES}[1].canary.percent": 120}, f"{STAGES}[1].canary.percent",
        "should be less than or equal to 100", "120 is outside 1..100"),
    Bad("a percent of 0", {f"{STAGES}[0].shadow.percent": 0}, f"{STAGES}[0].shadow.percent",
        "should be greater than or equal to 1", "0 is outside 1..100"),
    Bad("a percent as text", {f"{STAGES}[1].canary.percent": "5%"}, f"{STAGES}[1].canary.percent",
        "must be of type integer", '"5%" is not a whole number'),
    Bad("a fraction of a percent", {f"{STAGES}[1].canary.percent": 0.5}, f"{STAGES}[1].canary.percent",
        "must be of type integer", "0.5 is not a whole number"),
    Bad("a port out of range", {"spec.server.port": 70000}, "spec.server.port",
        "should be less than or equal to 65535", "70000 is outside 1..65535"),
    Bad("no replicas", {"spec.server.replicas": 0}, "spec.server.replicas",
        "should be greater than or equal to 1", "0 is outside 1..1000"),
    Bad("a longer history than is kept", {"spec.history": 51}, "spec.history",
        "should be less than or equal to 50", "51 is outside 1..50"),
    Bad("suspend as text", {"spec.suspend": "yes"}, "spec.suspend",
        "must be of type boolean", '"yes" is not true or false'),
    Bad("an effect that does not exist", {f"{CLAUSE}.onBreach": "Abort"}, f"{CLAUSE}.onBreach",
        'supported values: "Rollback", "Hold", "Warn"', "\"Abort\" is not one of 'Rollback', 'Hold' or 'Warn'"),
    Bad("a direction that does not exist", {"spec.contract.metrics[0].better": "lower"},
        "spec.contract.metrics[0].better", 'supported values: "Higher", "Lower"',
        "\"lower\" is not one of 'Higher' or 'Lower'"),
    Bad("a kind of stage that does not exist", {f"{CLAUSE}.stages": ["blue"]}, f"{CLAUSE}.stages[0]",
        'supported values: "shadow", "canary", "full"', "\"blue\" is not one of 'shadow', 'canary' or 'full'"),
    Bad("an answer to silence that does not exist", {"spec.analysis.onNoMetrics": "Advance"},
        "spec.analysis.onNoMetrics", 'supported values: "Hold", "Rollback"',
        "\"Advance\" is not one of 'Hold' or 'Rollback'"),
    # The plan.
    Bad("a stage of two kinds", {f"{STAGES}[0].canary": {"percent": 1}}, f"{STAGES}[0]",
        "has 2 kinds, allowed is exactly one of shadow, canary, full"),
    Bad("a stage of no kind", {f"{STAGES}[0].shadow": ABSENT}, f"{STAGES}[0]",
        "has 0 kinds, allowed is exactly one of shadow, canary, full"),
    Bad("canary before shadow", {STAGES: [CANARY, SHADOW, FULL]}, STAGES,
        'the order is ["canary", "shadow", "full"], allowed is shadow stages, then canary stages, then full'),
    Bad("full in the middle", {STAGES: [SHADOW, FULL, CANARY]}, STAGES, "the last stage is not full: a plan ends with"),
    Bad("a plan that never is full", {STAGES: [SHADOW, CANARY]}, STAGES, "such as {name: full, full: {}}"),
    Bad("full twice", {STAGES: [FULL, {"name": "again", "full": {}}]}, STAGES,
        "several stages are full, allowed is one, the last"),
    Bad("percents that fall", {f"{STAGES}[1].canary.percent": 60}, STAGES,
        "canary percents [60, 50] do not rise: write them from small to large, each once"),
    Bad("percents that stay", {f"{STAGES}[1].canary.percent": 50}, STAGES, "canary percents [50, 50] do not rise"),
    Bad("a canary of everybody", {f"{STAGES}[2].canary.percent": 100}, f"{STAGES}[2].canary.percent",
        "100 leaves no baseline to compare with: write 1..99, or a full stage"),
    Bad("two stages of one name", {f"{STAGES}[2].name": "canary-5"}, f"{STAGES}[2]", "Duplicate value",
        "duplicate value 'canary-5', allowed is once"),
    Bad("a deadline before the bake", {f"{STAGES}[0].deadline": "29m"}, f"{STAGES}[0].deadline",
        "'29m' is shorter than the stage's bake, 30m: write 30m or longer"),
    Bad("a deadline before the default bake", {f"{STAGES}[3].bake": ABSENT, f"{STAGES}[3].deadline": "23h59m59s999ms"},
        f"{STAGES}[3].deadline", "'23h59m59s999ms' is shorter than the stage's bake, 24h"),
    Bad("a deadline in other units before the bake", {f"{STAGES}[3].bake": "1w", f"{STAGES}[3].deadline": "6d23h"},
        f"{STAGES}[3].deadline", "'6d23h' is shorter than the stage's bake, 1w"),
    # The contract.
    Bad("two verbs", {f"{CLAUSE}.noWorse": "5%"}, CLAUSE,
        "has 2 verbs, allowed is exactly one of within, noWorse, improves, atMost, atLeast, similar"),
    Bad("a second verb for a distribution", {f"{SAME_SCORES}.within": "5%"}, SAME_SCORES, "has 2 verbs"),
    Bad("a verb that promises nothing", {f"{CLAUSE}.within": ABSENT, f"{CLAUSE}.improves": False},
        f"{CLAUSE}.improves", "false promises nothing, allowed is true"),
    Bad("no verb", {f"{CLAUSE}.within": ABSENT}, CLAUSE, "has 0 verbs, allowed is exactly one of within"),
    Bad("a metric of no kind", {f"{METRICS}[0].ratio": ABSENT}, f"{METRICS}[0]",
        "has 0 kinds, allowed is exactly one of ratio, quantile, distribution, rate"),
    Bad("a metric of two kinds", {f"{METRICS}[0].rate": {"events": "d_total"}}, f"{METRICS}[0]", "has 2 kinds"),
    Bad("nothing but rates", {METRICS: [{"name": "fallbacks", "rate": {"events": "fallbacks_total"}}],
        CLAUSES: [{"name": "few-fallbacks", "metric": "fallbacks", "atMost": "5"}]}, METRICS,
        "only rates, which do not tell how many requests there were: add a ratio, a quantile or a distribution"),
    Bad("a metric that does not exist", {f"{CLAUSE}.metric": "blockrate"}, CLAUSES, 'clauses ["steady"] judge metrics '
        'that do not exist, allowed: ["block-rate", "error-rate", "latency", "score", "fallbacks"]'),
    Bad("the distance of two ratios", {f"{SAME_SCORES}.metric": "block-rate"}, CLAUSES,
        'clauses ["same-scores"] judge by similar what is no distribution, allowed: ["score"]'),
    Bad("a distribution that is no worse", {f"{FAST}.metric": "score"}, CLAUSES,
        'clauses ["fast"] judge distributions without similar, their only verb: write such as similar: {psi: "0.2"}'),
    Bad("a distribution that improves", {SAME_SCORES: {"name": "s", "metric": "score", "improves": True}}, CLAUSES,
        'clauses ["s"] judge distributions without similar'),
    Bad("no distance at all", {f"{SAME_SCORES}.similar.psi": "0.00"}, f"{SAME_SCORES}.similar.psi",
        "'0.00' forbids every difference, which no two samples keep: write more than 0, such as 0.2"),
    Bad("a dimension that does not exist", {f"{CLAUSE}.per": ["region"]}, "spec.contract.clauses",
        'clauses ["steady"] judge per slices that do not exist, allowed: ["country", "market"]'),
    Bad("a dimension where there are none", {"spec.contract.slices": ABSENT}, "spec.contract.clauses",
        'clauses ["steady", "never-slow"] judge per slices that do not exist, allowed: []'),
    Bad("two clauses of one name", {f"{CLAUSE}.name": "errors"}, "spec.contract.clauses[1]", "Duplicate value",
        "duplicate value 'errors'"),
    Bad("two metrics of one name", {"spec.contract.metrics[1].name": "block-rate"}, "spec.contract.metrics[1]",
        "Duplicate value", "duplicate value 'block-rate'"),
    Bad("two dimensions of one name", {"spec.contract.slices[1].name": "country"}, "spec.contract.slices[1]",
        "Duplicate value", "duplicate value 'country'"),
    Bad("a label twice", {"spec.contract.slices[1].labels": ["country", "country"]},
        "spec.contract.slices[1].labels[1]", "Duplicate value", "duplicate value 'country'"),
    Bad("per twice", {f"{CLAUSE}.per": ["country", "country"]}, f"{CLAUSE}.per[1]", "Duplicate value",
        "duplicate value 'country'"),
    # What a margin means depends on the metric.
    Bad("points against no baseline", {f"{CLAUSES}[1].atMost": "0.5pp"}, CLAUSES, 'clauses ["errors"] limit a ratio to '
        '["0.5pp"]: write a share of events up to 100% or 1, such as 0.1% or 0.001'),
    Bad("points against no baseline, from below", {f"{CLAUSES}[1]": {"name": "e", "metric": "error-rate",
        "atLeast": "1pp"}}, CLAUSES, 'clauses ["e"] limit a ratio to ["1pp"]: write a share'),
    Bad("a share above all", {f"{CLAUSES}[1].atMost": "5"}, CLAUSES, 'clauses ["errors"] limit a ratio to ["5"]'),
    Bad("a share just above all", {f"{CLAUSES}[1].atMost": "1.0000000000001"}, CLAUSES, 'to ["1.0000000000001"]'),
    Bad("a share above all, in percent", {f"{CLAUSES}[1]": {"name": "e", "metric": "error-rate",
        "atLeast": "100.1%"}}, CLAUSES, 'clauses ["e"] limit a ratio to ["100.1%"]'),
    Bad("a change above all", {f"{CLAUSE}.within": "5"}, CLAUSES, 'clauses ["steady"] let a ratio change by ["5"]: '
        "write 5% (of the baseline), or a share of events below 100pp or 1, such as 0.5pp or 0.005"),
    Bad("worse by more than all", {f"{CLAUSES}[2].noWorse": "101pp"}, CLAUSES,
        'clauses ["no-more-errors"] let a ratio change by ["101pp"]'),
    Bad("several changes above all", {f"{CLAUSE}.within": "1000pp", f"{CLAUSES}[2].noWorse": "1.5"}, CLAUSES,
        'clauses ["steady", "no-more-errors"] let a ratio change by ["1000pp", "1.5"]'),
    Bad("a change of all", {f"{CLAUSE}.within": "100.0pp", f"{CLAUSES}[2].noWorse": "01"}, CLAUSES,
        'clauses ["steady", "no-more-errors"] let a ratio change by ["100.0pp", "01"]'),
    Bad("more than all assured of a change", {f"{CLAUSE}.assure": {"overall": "20%", "slices": "50"}}, CLAUSES,
        """clauses ["steady"] compare a ratio with the baseline's and assure ["50"]: write none, or 5% (of the """),
    Bad("all assured of an improvement", {CLAUSE: {"name": "i", "metric": "block-rate", "improves": True,
        "assure": {"overall": "100pp"}}}, CLAUSES, """with the baseline's and assure ["100pp"]"""),
    Bad("more than all assured of a limit", {f"{CLAUSES}[1].assure": {"overall": "20"}}, CLAUSES,
        'clauses ["errors"] limit a ratio and assure ["20"]: write none, or a share of events up to 100% or 1'),
    Bad("points of a quantile", {f"{FAST}.noWorse": "10pp"}, CLAUSES, 'clauses ["fast"] let a quantile change by '
        """["10pp"]: write 10% (of the baseline), or a decimal in the histogram's unit, such as 0.05"""),
    Bad("a quantile within points", {FAST: {"name": "f", "metric": "latency", "within": "1pp"}}, CLAUSES,
        'clauses ["f"] let a quantile change by ["1pp"]'),
    Bad("a quantile below a percentage", {f"{NEVER_SLOW}.atMost": "10%"}, CLAUSES, 'clauses ["never-slow"] limit a '
        """quantile to ["10%"]: write a decimal in the histogram's unit, such as 0.5"""),
    Bad("a quantile above points", {NEVER_SLOW: {"name": "s", "metric": "latency", "atLeast": "1pp"}}, CLAUSES,
        'clauses ["s"] limit a quantile to ["1pp"]'),
    Bad("a rate that changes by events per second", {f"{STEADY_FALLBACKS}.within": "2"}, CLAUSES,
        'clauses ["steady-fallbacks"] let a rate change by ["2"]: write 20% (of the baseline)'),
    Bad("points of a rate", {STEADY_FALLBACKS: {"name": "r", "metric": "fallbacks", "noWorse": "2pp"}}, CLAUSES,
        'clauses ["r"] let a rate change by ["2pp"]'),
    Bad("a rate below a percentage", {f"{FEW_FALLBACKS}.atMost": "5%"}, CLAUSES,
        'clauses ["few-fallbacks"] limit a rate to ["5%"]: write a decimal, events per second, such as 5'),
    Bad("a rate above points", {FEW_FALLBACKS: {"name": "r", "metric": "fallbacks", "atLeast": "1pp"}}, CLAUSES,
        'clauses ["r"] limit a rate to ["1pp"]'),
    Bad("points assured of a quantile", {f"{FAST}.assure": {"overall": "5pp"}}, CLAUSES, 'clauses ["fast"] compare a '
        """quantile with the baseline's and assure ["5pp"]: write none, or 10% (of the baseline), or a decimal in"""),
    Bad("points assured of a quantile that improves", {FAST: {"name": "f", "metric": "latency", "improves": True,
        "assure": {"overall": "5%", "slices": "50pp"}}}, CLAUSES, """with the baseline's and assure ["50pp"]"""),
    Bad("a percentage assured of a limited quantile", {f"{NEVER_SLOW}.assure": {"overall": "none", "slices": "50%"}},
        CLAUSES, """clauses ["never-slow"] limit a quantile and assure ["50%"]: write none, or a decimal in the """),
    Bad("events per second assured of a change", {f"{STEADY_FALLBACKS}.assure": {"overall": "2", "slices": "2"}},
        CLAUSES, """clauses ["steady-fallbacks"] compare a rate with the baseline's and assure ["2"]: write none, or """
        "20% (of the baseline)"),
    Bad("a percentage assured of a limited rate", {f"{FEW_FALLBACKS}.assure": {"slices": "50%"}}, CLAUSES,
        'clauses ["few-fallbacks"] limit a rate and assure ["50%"]: write none, or a decimal, events per second'),
    Bad("a percentage assured of a distance", {f"{SAME_SCORES}.assure": {"slices": "50%"}}, CLAUSES, 'clauses '
        """["same-scores"] compare a distribution with the baseline's and assure ["50%"]: write none, or a"""),
    Bad("a histogram by its buckets", {LATENCY: 'latency_seconds_bucket{route="/"}'}, LATENCY,
        """'latency_seconds_bucket{route="/"}' names a series of a histogram and not the histogram: write it without """
        "_bucket, _count or _sum"),
    Bad("a histogram by its count", {SCORE: "score_count"}, SCORE, "'score_count' names a series of a histogram"),
    Bad("a histogram by its sum", {LATENCY: "latency_seconds_sum "}, LATENCY, "'latency_seconds_sum ' names a series"),
    Bad("a change of nothing", {f"{CLAUSE}.within": "0.0%"}, f"{CLAUSE}.within",
        "'0.0%' forbids every change, which no new model keeps: write more than 0, such as 5%"),
    Bad("a cross with half a value", {"spec.contract.slices[1].expected": ["FR,web", "DE"]},
        "spec.contract.slices[1].expected", '["DE"] need one value, joined by commas, for each of the labels '
        '["country", "channel"]'),
    Bad("more expected values than are judged", {"spec.contract.slices[0].expected": ["FR", "DE"],
        "spec.contract.slices[0].atMost": 1}, "spec.contract.slices[0].atMost",
        "1 is fewer than the 2 expected values: write at least as many"),
    Bad("a slice by revision", {"spec.contract.slices[1].labels": ["country", "revision"]},
        "spec.contract.slices[1].labels", '["revision"] cannot cut the traffic: namespace, release, revision, le and'),
    Bad("a slice by the metric's name", {"spec.contract.slices[0].labels": ["__name__"]},
        "spec.contract.slices[0].labels", '["__name__"] cannot cut the traffic'),
    Bad("a ratio of itself", {"spec.contract.metrics[0].ratio.events": "d_total"}, "spec.contract.metrics[0].ratio",
        "events and of are the same selector: of must count more than events"),
    Bad("an interval of milliseconds", {"spec.analysis.interval": "500ms"}, "spec.analysis.interval",
        "'500ms' is outside 1s..1h"),
    Bad("an interval of a day", {"spec.analysis.interval": "1d"}, "spec.analysis.interval", "'1d' is outside 1s..1h"),
    Bad("no error budget", {"spec.analysis.errorBudget": "0%"}, "spec.analysis.errorBudget",
        "'0%' is outside 0%..20%, 0% excluded: no evidence would ever be enough"),
    Bad("an error budget of half", {"spec.analysis.errorBudget": "50%"}, "spec.analysis.errorBudget",
        "'50%' is outside 0%..20%"),
    # The pods and the route.
    Bad("more pods in shadow than at full size", {"spec.server.shadowReplicas": 4}, "spec.server.shadowReplicas",
        "4 is more than replicas, 3: write at most as many"),
    Bad("more pods in shadow than the default size", {"spec.server.replicas": ABSENT, "spec.server.shadowReplicas": 2},
        "spec.server.shadowReplicas", "2 is more than replicas, 1"),
    Bad("an empty template", {"spec.server.template": {}}, "spec.server.template.spec",
        "Required value", "is required"),
    Bad("a template without containers", {"spec.server.template.spec.containers": []},
        "spec.server.template.spec.containers", "should have at least 1 items", "[] is too short"),
    Bad("a container without an image", {f"{CONTAINER}.image": ABSENT}, f"{CONTAINER}.image", "Required value",
        "is required"),
    Bad("a template that is text", {"spec.server.template": "radar:1"}, "spec.server.template",
        "must be of type object", '"radar:1" is not an object'),
    Bad("two containers of one name", {"spec.server.template.spec.containers": 2 * [{"name": "a", "image": "b"}]},
        "spec.server.template.spec.containers[1]", "Duplicate value", "duplicate value 'a'"),
    Bad("pods that end", {"spec.server.template.spec.restartPolicy": "Never"},
        "spec.server.template.spec.restartPolicy", 'supported values: "Always"', "\"Never\" is not one of 'Always'"),
    Bad("a label of ours", {"spec.server.template.metadata.labels": {"modelrelease.dev/revision": "1"}},
        "spec.server.template.metadata.labels", "the operator sets the labels that start with modelrelease.dev/"),
    Bad("a variable of ours", {f"{CONTAINER}.env[0].name": "MODELRELEASE_VERSION"}, f"{CONTAINER}.env[0].name",
        "'MODELRELEASE_VERSION' is the operator's: use a name that does not start with MODELRELEASE_"),
    Bad("a Gateway twice", {"spec.traffic.gatewayAPI.parentRefs": 2 * [{"name": "public"}]},
        "spec.traffic.gatewayAPI.parentRefs", "two parentRefs are equal: write each once"),
    # What no schema knows: PromQL.
    Bad("PromQL that does not parse", {EVENTS: 'd_total{decision="block"'}, EVENTS, "is not PromQL", admitted=True),
    Bad("a rate instead of a counter", {EVENTS: "rate(d_total[5m])"}, EVENTS,
        'is a function call, allowed is one selector such as requests_total{code=~"5.."}', admitted=True),
    Bad("a window of the user's", {EVENTS: "d_total[5m]"}, EVENTS, "is a selector with a range", admitted=True),
    Bad("an aggregation", {OF: "sum(d_total)"}, OF, "is an aggregation, allowed is one selector", admitted=True),
    Bad("an offset", {OF: "d_total offset 5m"}, OF, "has an offset or @, allowed is one selector", admitted=True),
    Bad("a quotient", {OF: "d_total / r_total"}, OF, "is an operation on two expressions", admitted=True),
    Bad("a selector of two metrics", {OF: '{__name__=~"d_total|r_total"}'}, OF, "does not name one", admitted=True),
    Bad("a selector that pins the revision", {EVENTS: 'd_total{revision="7f3c9b1"}'}, EVENTS,
        "matches the label revision, which the operator matches itself or which names slices", admitted=True),
    Bad("a histogram by its buckets, as a label", {SCORE: '{__name__="score_bucket"}'}, SCORE,
        """'{__name__="score_bucket"}' names a series of a histogram and not the histogram""", admitted=True),
    Bad("a bucket of a histogram", {LATENCY: 'latency_seconds{le="0.5"}'}, LATENCY,
        "matches the label le, which names the buckets, and all of them are needed: leave it out", admitted=True),
    Bad("a histogram that does not parse", {SCORE: "score{"}, SCORE, "is not PromQL", admitted=True),
    Bad("a rate of a rate", {FALLBACKS: "rate(fallbacks_total[5m])"}, FALLBACKS, "is a function call", admitted=True),
    Bad("a histogram that pins a slice", {SCORE: 'score{country="FR"}'}, SCORE, "the label country", admitted=True),
    Bad("a selector that pins a slice", {OF: 'd_total{country="FR"}'}, OF, "matches the label country", admitted=True),
)  # fmt: skip

FINE: Final[dict[str, dict[str, Any]]] = {
    "as it stands": {},
    "no stages: the default plan": {STAGES: ABSENT},
    "no analysis, no slices, one clause": {"spec.analysis": ABSENT, "spec.contract.slices": ABSENT,
        "spec.contract.clauses": [{"name": "errors", "metric": "error-rate", "atMost": "0.1%"}]},
    "no canary, no shadow": {STAGES: [FULL]},
    "two shadow stages": {STAGES: [{"name": "a-tenth", "shadow": {"percent": 10}}, SHADOW, CANARY, FULL]},
    "a canary of 99 %": {f"{STAGES}[2].canary.percent": 99},
    "a deadline equal to the bake": {f"{STAGES}[0].deadline": "30m"},
    "the same time in other units": {f"{STAGES}[3].bake": "1w", f"{STAGES}[3].deadline": "6d23h59m60s"},
    "no bake": {f"{STAGES}[0].bake": "0s"},
    "milliseconds": {f"{STAGES}[0].bake": "1500ms", f"{STAGES}[0].deadline": "1s500ms"},
    "the longest time": {f"{STAGES}[3].bake": "99999w"},
    "the longest name": {"metadata.name": "r" * 55},
    "a name of one letter": {"metadata.name": "r"},
    "the shortest interval": {"spec.analysis.interval": "1s"},
    "the longest interval": {"spec.analysis.interval": "60m"},
    "the largest error budget": {"spec.analysis.errorBudget": "20.0%"},
    "every way to write a margin": {"spec.contract.clauses": [
        {"name": "a", "metric": "block-rate", "within": "250%"},
        {"name": "b", "metric": "block-rate", "noWorse": "0.5pp"},
        {"name": "c", "metric": "block-rate", "noWorse": "0"},
        {"name": "d", "metric": "block-rate", "atLeast": "0.05"},
        {"name": "e", "metric": "block-rate", "atMost": "100%"},
        {"name": "f", "metric": "block-rate", "atMost": "1"},
        {"name": "g", "metric": "block-rate", "within": "099.99pp"},
        {"name": "h", "metric": "block-rate", "within": "00.99"},
        {"name": "i", "metric": "block-rate", "atMost": "00.5", "assure": {"overall": "0.5pp", "slices": "50%"}},
    ]},
    "every way to write a margin of a quantile": {CLAUSES: [
        {"name": "a", "metric": "latency", "within": "250%", "assure": {"overall": "50%", "slices": "0.5"}},
        {"name": "b", "metric": "latency", "noWorse": "200.5", "assure": {"overall": "none", "slices": "none"}},
        {"name": "c", "metric": "latency", "improves": True, "assure": {"overall": "5%", "slices": "0.05"}},
        {"name": "d", "metric": "latency", "atMost": "1500", "assure": {"overall": "2000", "slices": "2000"}},
        {"name": "e", "metric": "latency", "atLeast": "0.001", "assure": {"slices": "none"}},
    ]},
    "every way to write a margin of a rate": {CLAUSES: [
        {"name": "a", "metric": "fallbacks", "within": "120%", "assure": {"overall": "50.5%", "slices": "none"}},
        {"name": "b", "metric": "fallbacks", "noWorse": "0%", "assure": {"slices": "50%"}},
        {"name": "c", "metric": "fallbacks", "improves": True, "assure": {"overall": "5%"}},
        {"name": "d", "metric": "fallbacks", "atMost": "1500", "assure": {"overall": "2000"}},
        {"name": "e", "metric": "fallbacks", "atLeast": "0.5", "assure": {"slices": "0.4"}},
    ]},
    "distances": {CLAUSES: [
        {"name": "a", "metric": "score", "similar": {"psi": "0.001"}, "assure": {"overall": "0.25", "slices": "none"}},
        {"name": "b", "metric": "score", "per": ["country"], "similar": {"psi": "10"}, "assure": {"slices": "12"}},
    ]},
    "quantiles at the edges": {f"{METRICS}[2].quantile.q": "0.00000000000001", f"{METRICS}[3]": {
        "name": "score", "quantile": {"histogram": "score", "q": "0.500"}}, f"{SAME_SCORES}": {
        "name": "higher-scores", "metric": "score", "improves": True}},
    "one distribution and rates": {METRICS: [{"name": "a", "rate": {"events": "a_total"}},
        {"name": "b", "distribution": {"histogram": "b"}}, {"name": "c", "rate": {"events": "c_total"}}],
        CLAUSES: [{"name": "few", "metric": "a", "atMost": "5"}]},
    "histograms whose names only look like a series": {LATENCY: "bucket_latency_sum_seconds",
        SCORE: 'score{series=~".*_bucket"}'},
    "a rate of observations": {FALLBACKS: 'latency_seconds_count{le=""}'},
    "the largest contract": {METRICS: [{"name": f"{'m' * 60}-{index}", "quantile": {"histogram": f"{'h' * 1020}{index}",
        "q": "0.99"}} for index in range(32)], CLAUSES: [{"name": f"{'c' * 60}-{index}", "metric": f"{'m' * 60}-31",
        "per": ["country", "market"], "noWorse": "10.000000000000", "assure": {"overall": "50.000000000000",
        "slices": "50.000000000000"}} for index in range(64)]},
    "every field of a clause": {CLAUSE: {"name": "steady", "metric": "block-rate", "per": ["country", "market"],
        "within": "5%", "stages": ["canary", "full"], "onBreach": "Hold",
        "assure": {"overall": "none", "slices": "50%"}}},
    "values that must be seen": {"spec.contract.slices[0].expected": ["FR", "DE, as text"],
        "spec.contract.slices[0].atMost": 2, "spec.contract.slices[1].expected": ["FR,web", ",app"]},
    "a histogram's bucket as the events": {EVENTS: 'latency_bucket{le="0.5"}', OF: "latency_count"},
    "as many pods in shadow as at full size": {"spec.server.shadowReplicas": 3},
    "two listeners of one Gateway": {"spec.traffic.gatewayAPI.parentRefs": [
        {"name": "public", "sectionName": "http"}, {"name": "public", "sectionName": "https", "namespace": "edge"}]},
    "a wildcard host, and matches": {"spec.traffic.gatewayAPI.hostnames": ["*.example.com"],
        "spec.traffic.gatewayAPI.matches": [{"path": {"type": "PathPrefix", "value": "/v1"}, "method": "POST"}]},
    "a whole pod": {"spec.server.template.spec": {
        "serviceAccountName": "radar", "restartPolicy": "Always", "nodeSelector": {"gpu": "a100"},
        "initContainers": [{"name": "weights", "image": "weights:1", "env": [{"name": "MODELRELEASE_X"}]}],
        "containers": [
            {"name": "server", "image": "radar:1", "ports": [{"containerPort": 3000}],
             "resources": {"limits": {"cpu": 1}},
             "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            {"name": "sidecar", "image": "sidecar:1"}],
        "volumes": [{"name": "tmp", "emptyDir": {}}]}},
    "everything else": {"spec.owner": "fraud-ml", "spec.suspend": True, "spec.history": 50,
        "spec.server.progressDeadline": "10m", "spec.analysis.onInconclusive": "Advance",
        "spec.analysis.onNoMetrics": "Rollback", "spec.contract.metrics[0].better": "Higher"},
}  # fmt: skip
"""Changes of the good spec that leave it good: what stands at the edge of a rule."""
