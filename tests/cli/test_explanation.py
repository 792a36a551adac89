"""``explain``: in every state, what happened, why, what comes next, what would unblock it, and how to stop it."""

import copy
import io
import json
from datetime import timedelta

import pytest
from rich.console import Console

from modelrelease.cli.explanation import Command, Invocation, explain
from modelrelease.cli.explanation_view import as_json, as_text
from modelrelease.cli.sight import Sight
from tests.builders import NOW, a_body_that_refers, a_contract
from tests.cli.states import STATES, a_state
from tests.gitops.states import recorded

BY = Invocation("kubectl modelrelease", "-n fraud")


def told(name: str, width: int = 200) -> str:
    """Return what is told of the state of that name."""
    out = Console(file=io.StringIO(), width=width, highlight=False)
    out.print(as_text(explain(Sight.of(a_state(name), NOW), BY)))
    return out.file.getvalue()


def section(name: str, label: str) -> str:
    """Return the texts of one section, a line each."""
    found = next((it for it in explain(Sight.of(a_state(name), NOW), BY).sections if it.label == label), None)
    return "\n".join(str(item) for item in found.items) if found else ""


HEADLINES = {
    "not seen yet": "radar: the operator has not looked at it yet. It serves no user.",
    "pending": "radar: version 2 is starting (for 7 min) and gets no requests yet. Users are served by version 1 "
    "(100 %).",
    "shadow, no copies": "radar: version 2 is in stage shadow for 12 min and gets copies of 100 % of requests; no user "
    "sees it. Users are served by version 1 (100 %).",
    "canary, baking": "radar: version 2 is in stage canary-10 for 4 min. Users are served by version 1 (90 %) and "
    "version 2 (10 %).",
    "breach, rolled back from shadow": "radar: version 2 was rolled back 2 min ago in stage shadow. No user was ever "
    "served by it. Users are served by version 1 (100 %).",
    "breach, rolled back from canary": "radar: version 2 was rolled back 2 min ago in stage canary-10. Users are "
    "served by version 1 (100 %).",
    "pods never came": "radar: version 2 was rolled back 3 min ago before its first stage. No user was ever served by "
    "it. Users are served by version 1 (100 %).",
    "breach, held": "radar: A PERSON MUST DECIDE; version 2 is in stage canary-10 for 20 min. Users are served by "
    "version 1 (90 %) and version 2 (10 %).",
    "breach of a first release": "radar: STUCK; version 2 is in stage full for 20 min and is watched. Users are "
    "served by version 2 (100 %).",
    "deadline exceeded": "radar: PAST ITS DEADLINE; version 2 is in stage canary-10 for 2 h. Users are served by "
    "version 1 (90 %) and version 2 (10 %).",
    "suspended": "radar: SUSPENDED; version 2 is in stage canary-10 for 20 min. Users are served by version 1 (90 %) "
    "and version 2 (10 %).",
    "gateway absent": "radar: STUCK; version 2 is starting (for 25 min) and gets no requests yet. Users are served by "
    "version 1 (100 %).",
    "route drifted, users without pods": "radar: version 2 is in stage canary-10 for 4 min. ALARM: users are sent to "
    "version 1 (90 %) and version 2 (10 %), but no pod of version 1 is available, for 60 s.",
    "pods of users restart": "radar: version 2 is in stage canary-10 for 4 min. Users are sent to version 1 (90 %) and "
    "version 2 (10 %); no pod of version 1 is available since 0 s, as while pods restart.",
    "full, watched": "radar: version 2 is in stage full for 20 min and is watched. Users are served by version 2 "
    "(100 %).",
    "completed": "radar: version 2 is the release, since 4 min. Users are served by version 2 (100 %).",
    "cancelled": "radar: version 1 is the release, since 22 min. Users are served by version 1 (100 %).",
    "a rejected version is wanted again": "radar: the spec asks for version 2, which was rolled back before. Users are "
    "served by version 1 (100 %).",
}


@pytest.mark.parametrize("name", HEADLINES)
def test_the_first_line_says_what_happened_and_who_serves_users(name):
    assert explain(Sight.of(a_state(name), NOW), BY).headline == HEADLINES[name]


@pytest.mark.parametrize(
    ("name", "label", "says"),
    [
        ("not seen yet", "Next", "does the operator run, and does it watch this namespace?"),
        ("pending", "Why", "0 of 1 pods of the candidate are available (containers with unready status: [server])"),
        ("pending", "Next", "stage shadow (copies of 100 % of requests, no user sees it) as soon as its pods"),
        ("pending", "Next", "if they are not by 12:08:00 UTC (in 8 min): rolled back (server.progressDeadline)"),
        ("pending", "Ahead", "stage canary-10 may not conclude before its deadline: clause steady needs about 9 h"),
        ("shadow, not judged yet", "Why", "has not been judged yet"),
        ("shadow, not judged yet", "Next", "at 12:10:00 UTC (in 10 min), if the gate passes then"),
        ("shadow, not judged yet", "Next", "version 2 is rejected at once; users stay with version 1"),
        ("shadow, no copies", "Why", "12 of about 37 600 copied requests reached the candidate"),
        ("shadow, no copies", "Needs", "a Gateway that mirrors requests"),
        ("canary, baking", "Why", "the gate passes: every clause holds: errors, steady; worst slice: error-rate"),
        ("canary, baking", "Next", "stage canary-50 (50 % of requests) at 12:06:00 UTC (in 6 min)"),
        ("canary, baking", "Next", "a breach before that: all users back to version 1 at once"),
        ("canary, baking with gaps", "Why", "it bakes until 2026-11-23 12:06:00 UTC; 600 s of it have no samples"),
        (
            "canary, baking with gaps",
            "Next",
            "as soon as it has baked; time without samples or requests does not count",
        ),
        ("canary, growing", "Why", "2 of 3 pods that stage canary-10 needs are available"),
        ("canary, growing", "Next", "stage canary-10 (10 % of requests), as soon as its pods are available"),
        ("canary, inconclusive with an eta", "Next", "when the gate passes: in about 4 h at the present rates"),
        (
            "canary, inconclusive with an eta",
            "Next",
            "deadline, 12:48:00 UTC (in 48 min): it goes on waiting here, and asks a person",
        ),
        ("canary, inconclusive with an eta", "Needs", "more requests, or a promise that this traffic can prove"),
        ("route refused", "Needs", "a Gateway that takes the HTTPRoute"),
        ("canary, inconclusive without an eta", "Next", "that is not in sight"),
        ("canary, inconclusive without an eta", "Needs", "samples of that metric in Prometheus"),
        (
            "deadline exceeded",
            "Next",
            "the stage's deadline was 11:00:00 UTC (60 min ago): it goes on waiting here, and asks a person",
        ),
        ("no metrics", "Why", "Prometheus refused the connection"),
        ("no metrics", "Next", "Prometheus has been missing for 6 min; nobody is rolled back for it"),
        ("no metrics, a deadline", "Next", "if it does not by 12:24:00 UTC (in 24 min): rolled back"),
        ("breach, rolled back from shadow", "When", "2026-11-23 11:58:00 UTC, 9 min after the rollout began"),
        ("breach, rolled back from shadow", "Next", "is rejected and never retried by itself"),
        ("breach, held", "Next", "nothing until a person decides: a clause with onBreach Hold is broken"),
        ("breach, held", "You can", "approve radar --reason"),
        ("deadline exceeded", "You can", "approve radar --reason"),
        ("awaiting approval", "Why", "the gate passes: every clause holds"),
        ("awaiting approval", "Next", "nothing until a person approves; a breach meanwhile is acted on at once"),
        ("suggested", "Why", "go on to stage canary-50; its suggestions here were followed 6 times in a row"),
        ("suggested", "Ahead", "approval: Auto can be written for canary-10"),
        (
            "breach, rolled back from canary",
            "You can",
            "kubectl get configmap radar-evidence-1 -o yaml -n fraud",
        ),
        (
            "approved in spite of a breach",
            "Why",
            "ana approved stage canary-10 in spite of BreachHeld at 2026-11-23 11:59:00 UTC: checked",
        ),
        ("approved in spite of a breach", "Next", "at 12:06:00 UTC (in 6 min), as a person approved"),
        ("rolled back by a person", "Why", "asked for by ana: looks odd (Requested)"),
        ("contract not found", "Why", "there is no ModelContract 'promise' in namespace fraud"),
        ("breach of a first release", "Next", "there is no earlier revision for users to return to"),
        ("suspended", "Why", "spec.suspend is true, set by ana@example.com: incident 42: look at the payments first"),
        ("suspended", "Next", "nothing moves, not even on a breach, until it is resumed"),
        ("suspended, contract broken", "Next", "when it is resumed: the contract is broken, which is"),
        ("invalid spec", "Why", "spec.stages[0].canary.percent: 120 is outside 1..100 (InvalidSpec)"),
        ("invalid spec", "Next", "it goes on where it stopped as soon as the spec is valid"),
        ("name conflict", "Why", "Service radar-7f3c9b1 exists and does not belong to this release"),
        ("gateway absent", "Why", "Gateway fraud/public does not exist"),
        ("gateway absent", "Next", "the operator looks again every half minute and goes on once this is repaired"),
        ("route refused", "Why", "NoMatchingListenerHostname (RouteRejected)"),
        ("route drifted, users without pods", "Route", "the weights are 50/50 instead of 90/10; it is written again"),
        ("route drifted, users without pods", "Needs", "their events say what keeps them away"),
        (
            "route drifted, users without pods",
            "You can",
            "kubectl get pods -l modelrelease.dev/release=radar -n fraud",
        ),
        ("canary, to be approved", "Next", "not before a person has approved it, which can be done now or then"),
        ("canary, to be approved", "You can", "the stage is left as soon as its gate passes"),
        ("canary, approved ahead", "Why", "ana approved stage canary-10, before it began, at 2026-11-23 11:51:00 UTC"),
        ("full, watched", "Next", "version 2 becomes the release and the old pods go at 12:40:00 UTC (in 40 min)"),
        ("first release", "Next", "version 2 becomes the release at 12:57:00 UTC"),
        ("completed", "Why", "version 2 completed its rollout 4 min ago, after 2 h"),
        ("completed", "Next", "nothing, until the spec asks for another version, image or port"),
        ("cancelled", "Why", "the last rollout, of version 2, was cancelled 2 min ago"),
        ("canary, baking", "Owner", "fraud-ml"),
    ],
)
def test_each_question_has_its_answer(name, label, says):
    assert says in section(name, label)


def test_a_gate_that_is_decided_in_time_needs_nothing():
    """Whoever is woken is not to widen a margin that would have been proved in a minute."""
    body = a_state("canary, inconclusive with an eta")
    labels = [section.label for section in explained(body, eta="46 min").sections]
    assert "Next" in labels
    assert "Needs" not in labels
    for late in ("49 min", "soon", "1.5 h", "2 fortnights"):
        assert "Needs" in [section.label for section in explained(body, eta=late).sections]


def test_a_stage_that_has_just_begun_needs_nothing():
    """Its first look finds no data, as every first look does."""
    body = a_state("canary, inconclusive without an eta")
    assert "Needs" in [section.label for section in explained(body).sections]
    begun = {**body, "status": {**body["status"], "gate": None}}
    assert "Needs" not in [section.label for section in explained(begun).sections]


def explained(body, **gate):
    """Explain a release, with fields of its gate changed."""
    body = copy.deepcopy(body)
    if gate:
        body["status"]["gate"].update(gate)
    return explain(Sight.of(body, NOW), BY)


def test_two_builds_of_one_version_are_told_apart():
    """The same model in another image: "all users to version 2; version 2 is rejected" helps nobody."""
    body = a_state("canary, baking")
    stable = {**body["status"]["stable"], "version": "2"}
    sight = Sight.of({**body, "status": {**body["status"], "stable": stable}}, NOW)
    found = explain(sight, BY)
    old, new = (f"version 2, revision {part.revision}" for part in (sight.status.stable, sight.status.candidate))
    assert found.headline == (
        f"radar: {new} is in stage canary-10 for 4 min. Users are served by {old} (90 %) and {new} (10 %)."
    )
    (back,) = (it for part in found.sections for it in part.items if isinstance(it, Command) and "rollback" in it.text)
    assert back.does == f"all users to {old}; {new} is rejected"


def test_a_breach_is_told_with_its_numbers():
    """As in the design page: slice, both values, change, interval, limit, counts; and all traffic below it."""
    lines = [line.strip() for line in told("breach, rolled back from shadow").splitlines()]
    assert "Why      clause steady is broken in 1 of 3 slices" in lines
    broken = next(line for line in lines if line.startswith("country=FR"))
    assert broken.split("   ")[0] == "country=FR"
    for part in ("2.0 % -> 5.8 %", "+188 %", "[+94 %, +316 %]", "limit 5 %", "190 of 3 300 requests", "broken"):
        assert part in broken
    overall = next(line for line in lines if line.startswith("all traffic"))
    assert overall.endswith("880 of 37 600 requests   not proved")


COMMANDS = {
    "pending": {"rollback", "suspend", "watch"},
    "canary, baking": {"rollback", "promote", "suspend", "watch"},
    "full, watched": {"rollback", "promote", "suspend", "watch"},
    "breach, held": {"rollback", "approve", "promote", "suspend", "watch"},
    "canary, to be approved": {"rollback", "approve", "promote", "suspend", "watch"},
    "canary, approved ahead": {"rollback", "promote", "suspend", "watch"},
    "awaiting approval": {"rollback", "approve", "promote", "suspend", "watch"},
    "invalid spec": {"rollback", "suspend", "watch"},
    "suspended": {"resume", "rollback", "watch"},
    "breach, rolled back from shadow": {"retry", "history"},
    "a rejected version is wanted again": {"retry", "history"},
    "completed": {"history"},
    "first release": {"promote", "suspend", "watch"},
}


def test_programs_are_told_the_same_in_fields():
    """Numbers of a slice by name, commands apart from sentences."""
    found = as_json(explain(Sight.of(a_state("breach, rolled back from shadow"), NOW), BY))
    items = {it["label"]: it["items"] for it in found["sections"]}
    assert found["headline"] == HEADLINES["breach, rolled back from shadow"]
    broken = items["Why"][0]
    assert broken["verdict"] == "Breach"
    worst = broken["slices"][0]
    assert (worst["slice"], worst["limit"], worst["verdict"]) == ("country=FR", "limit 5 %", "broken")
    commands = [it["command"] for it in items["You can"]]
    assert 'kubectl modelrelease retry radar --reason "..." -n fraud' in commands


@pytest.mark.parametrize("name", STATES)
def test_every_state_can_be_told_to_programs(name):
    """All that people read is in there: every label, every item."""
    explanation = explain(Sight.of(a_state(name), NOW), BY)
    told = json.loads(json.dumps(as_json(explanation)))
    assert [(it["label"], len(it["items"])) for it in told["sections"]] == [
        (it.label, len(it.items)) for it in explanation.sections
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_are_those_that_make_sense(name):
    sections = {it.label: it.items for it in explain(Sight.of(a_state(name), NOW), BY).sections}
    commands = [item for item in sections["You can"] if isinstance(item, Command)]
    assert {command.text.split()[2] for command in commands if "modelrelease" in command.text} == COMMANDS[name]
    assert all(command.text.endswith("-n fraud") for command in commands)


@pytest.mark.parametrize("name", STATES)
def test_every_state_has_a_reason_and_a_next_step(name):
    """And nothing of the program shows through."""
    found = explain(Sight.of(a_state(name), NOW), BY)
    labels = [it.label for it in found.sections]
    assert labels[0] == "Why" or name == "completed"
    assert "Next" in labels
    text = told(name)
    for leak in ("None", "Reason.", "{", "()", "datetime"):
        assert leak not in text
    assert len(text.splitlines()) <= 24


def test_evidence_that_cannot_be_kept_is_explained():
    """Why the stage is not left, what happens next, and what would help."""
    sections = {it.label: it.items for it in explain(Sight.of(recorded("not-kept").body, NOW), BY).sections}
    texts = "\n".join(str(item) for label in sections for item in sections[label])
    assert "exceeded quota" in texts
    assert "tried again until a ConfigMap can be written; a rollback does not wait" in texts
    assert "room for another ConfigMap in the namespace: is there a quota?" in texts


@pytest.mark.parametrize("name", ["nothing-judged", "no-baseline"])
def test_a_stage_in_which_nothing_is_judged_is_left_for_that(name):
    """Nobody approved it, and nothing can be breached in it."""
    sections = {it.label: it.items for it in explain(Sight.of(recorded(name).body, NOW), BY).sections}
    (comes,) = sections["Next"]
    assert "for nothing is judged in this stage" in str(comes)


def test_a_suspension_is_said_once():
    """Also where nothing is on trial."""
    sections = {it.label: it.items for it in explain(Sight.of(recorded("suspended-at-rest").body, NOW), BY).sections}
    assert sections["Why"] == ("spec.suspend is true",)


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_it_can_be_read_at_any_width(width):
    """A number that is cut off tells nothing: there are fewer columns instead."""
    text = told("breach, rolled back from canary", width)
    assert "…" not in text
    for cell in ("country=FR", "2.0 % -> 5.8 %", "+188 %", "broken"):
        assert cell in text


@pytest.mark.parametrize("name", STATES)
def test_a_spec_that_this_program_cannot_read_is_told_from_status_alone(name):
    """An operator that is newer knows fields that are unknown here."""
    body = a_state(name)
    body = {**body, "spec": {**body["spec"], "fromTheFuture": True}}
    found = explain(Sight.of(body, NOW), BY)
    assert found.headline.startswith("radar: ")
    assert "Next" in [it.label for it in found.sections]


def test_an_edit_that_the_operator_has_not_seen_is_said():
    body = a_state("canary, baking")
    body = {**body, "metadata": {**body["metadata"], "generation": 9}}
    first = explain(Sight.of(body, NOW), BY).sections[0].items[0]
    assert first == (
        "the operator has not looked at the latest edit yet (generation 9; what follows is of generation 3)"
    )


def test_the_counts_are_named_by_a_contract_that_is_referred_to():
    body = a_state("breach, held")
    referring = {**a_body_that_refers(), "status": body["status"], "metadata": body["metadata"]}
    with_it = explain(Sight.of(referring, NOW, a_contract()), BY).sections[0].items[0]
    without = explain(Sight.of(referring, NOW), BY).sections[0].items[0]
    assert with_it.rows[0].cells[5] == "190 of 3 300 requests"
    assert without.rows[0].cells[5] == "190 of 3 300"


def test_the_deadline_is_later_by_what_is_no_time_of_it():
    """Prometheus has been silent for 6 minutes; and a stage whose route is not in place has all of its time."""
    sight = Sight.of(a_state("no metrics"), NOW)
    begun, planned = sight.record.counts_from, sight.stage.deadline_time
    assert sight.deadline == begun + planned + timedelta(minutes=6)
    body = a_state("canary, inconclusive with an eta")
    assert Sight.of(body, NOW).deadline < NOW + planned
    body["status"]["candidate"]["stages"][-1]["routed"] = False
    assert Sight.of(body, NOW).deadline == NOW + planned
