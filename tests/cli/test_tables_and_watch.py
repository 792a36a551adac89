"""``get``, ``watch`` and ``history`` on paper, in every state."""

import copy
import io
from dataclasses import replace

import pytest
from rich.console import Console

from modelrelease.cli.explanation import Invocation, explain
from modelrelease.cli.explanation_view import as_text
from modelrelease.cli.live import is_done, view
from modelrelease.cli.sight import Sight
from modelrelease.cli.tables import coming, forecasts, history, releases
from modelrelease.cli.watch_view import as_line, as_live, milestone, progress
from tests.builders import NOW
from tests.cli.states import STATES, a_state
from tests.gitops.states import recorded

BY = Invocation("kubectl modelrelease")


def sight(name: str) -> Sight:
    return Sight.of(a_state(name), NOW)


def text(found, width: int = 200) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    out.print(found)
    return out.file.getvalue()


@pytest.mark.parametrize(
    ("name", "next_"),
    [
        ("not seen yet", "not looked at yet"),
        ("pending", "shadow, waits for pods"),
        ("canary, baking", "canary-50 in 6 min"),
        ("canary, inconclusive with an eta", "canary-50 in about 4 h"),
        ("canary, inconclusive without an eta", "canary-50, not in sight"),
        ("canary, to be approved", "canary-50 in 6 min if approved"),
        ("canary, approved ahead", "canary-50 in 6 min"),
        ("no metrics", "waits for Prometheus"),
        ("breach, held", "a person decides"),
        ("awaiting approval", "canary-50, awaits approval"),
        ("breach, rolled back from shadow", "another version, or retry"),
        ("suspended", "suspended"),
        ("gateway absent", "stuck: GatewayNotFound"),
        ("full, watched", "release in 40 min"),
        ("deadline exceeded", "canary-50, past its deadline"),
        ("route drifted, users without pods", "ALARM: no pod of version 1 is available"),
        ("pods of users restart", "canary-50 in 6 min"),
        ("completed", ""),
    ],
)
def test_what_comes_next_in_a_few_words(name, next_):
    assert coming(sight(name)) == next_


def test_a_release_is_one_line_however_long():
    lines = text(releases([sight(name) for name in STATES], namespaces=True), width=1000).splitlines()
    assert len(lines) == 1 + len(STATES)
    head = "NAMESPACE NAME STAGE STABLE CANDIDATE WEIGHT VERDICT WORST NEXT READY AGE"
    assert " ".join(lines[0].split()) == head
    row = next(line for line in lines if "canary-50 in 6 min" in line)
    for cell in ("fraud", "radar", "canary-10", "10 %", "Pass", "error-rate 0.0053% (limit 0.1%)", "12 days"):
        assert cell in row


@pytest.mark.parametrize("name", ["invalid-spec", "no-contract"])
def test_a_value_judged_alone_has_no_change_also_where_the_contract_is_not_known(name):
    """A row without a baseline compares with nothing."""
    shown = text(as_live(Sight.of(recorded(name).body, NOW), BY))
    (row,) = (line for line in shown.splitlines() if line.startswith("Worst"))
    assert " ".join(row.split()) == "Worst errors all traffic 0.0 % limit 0.1 % 0 of 134 500 holds"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pending", "○ shadow   ○ canary-10   ○ canary-50   ○ full"),
        ("canary, baking", "● canary-10 4 min of 10 min   ○ shadow   ○ canary-50   ○ full"),
        ("full, watched", "● full 20 min of 60 min   ○ shadow   ○ canary-10   ○ canary-50"),
        ("breach, rolled back from shadow", "✗ shadow 4 min   ○ canary-10   ○ canary-50   ○ full"),
    ],
)
def test_the_stages_are_one_line(name, line):
    """The builders enter a stage without those before it; so the order is that of the record, then of the plan."""
    assert progress(sight(name)).plain.strip() == line


@pytest.mark.parametrize("name", STATES)
def test_the_screen_holds_every_state(name):
    """At the width of a small terminal, in one screen, and a lost connection is said."""
    for width in (80, 140):
        screen = text(as_live(sight(name), BY), width)
        assert len(screen.splitlines()) <= 30
        assert "12:00:00 UTC; Ctrl-C ends the view, not the rollout;" in screen
    assert "cannot be read since then: no route to host" in text(as_live(sight(name), BY, "no route to host"))
    assert as_line(sight(name)).startswith("2026-11-23T12:00:00Z  ")


def test_a_breach_is_on_the_screen_with_its_slice():
    screen = text(as_live(sight("breach, held"), BY))
    assert "Gate     Breach (ContractBreached)" in screen
    worst = next(line for line in screen.splitlines() if line.startswith("Worst"))
    assert worst.split()[1:3] == ["steady", "country=FR"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no metrics", "Prometheus refused the connection"),
        ("route refused", "NoMatchingListenerHostname (RouteRejected)"),
        ("suspended", "set by ana@example.com: incident 42"),
        ("rolled back by a person", "asked for by ana: looks odd"),
        ("suggested", "the operator suggests since"),
    ],
)
def test_the_screen_says_why_it_stands_where_numbers_do_not(name, says):
    assert says in text(as_live(sight(name), BY))


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("breach, held", ["approve", "rollback"]),
        ("awaiting approval", ["approve", "rollback"]),
        ("deadline exceeded", ["approve", "rollback"]),
        ("suspended", ["resume"]),
        ("route drifted, users without pods", ["rollback", "get pods"]),
        ("canary, baking", []),
    ],
)
def test_the_screen_has_the_commands_where_somebody_has_to_act(name, commands):
    screen = text(as_live(sight(name), BY))
    assert [command for command in commands if command not in screen] == []
    assert ("You can" in screen) is bool(commands)


@pytest.mark.parametrize("term", ["dumb", "", None])
def test_a_terminal_that_cannot_draw_gets_a_line_a_change(monkeypatch, capsys, term):
    """Such as that of an editor; what it cannot draw it would not show at all until the end."""
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    screen = io.StringIO()
    with view(BY, Console(file=screen, force_terminal=True)) as shown:
        for name in ("canary, baking", "canary, baking", "breach, held"):
            shown(sight(name), None)
        shown(sight("breach, held"), "no route to host")
    told = capsys.readouterr()
    assert ["Pass" in told.out.splitlines()[0], "Breach" in told.out.splitlines()[1]] == [True, True]
    assert len(told.out.splitlines()) == 2
    assert told.err == "radar cannot be read: no route to host\n"
    assert screen.getvalue() == ""


@pytest.mark.parametrize("view_of", [as_live, lambda it, by: as_text(explain(it, by)), lambda it, _: history(it)])
def test_what_others_have_written_commands_no_terminal(view_of):
    """A label value comes from users of the model, a reason from any approver."""
    body = copy.deepcopy(a_state("breach, held"))
    text_of_others = "looks odd \x1b]0;title\x07\x1b[2J\x9b2J"
    (condition,) = (it for it in body["status"]["conditions"] if it["type"] == "Ready")
    condition["message"] = f"{text_of_others}\nsecond line"
    for clause in body["status"]["gate"]["clauses"]:
        clause["message"] = text_of_others
        for part in clause["worst"]:
            part["slice"] = f"agent={text_of_others}"
    body = {**body, "spec": {**body["spec"], "owner": text_of_others}}
    shown = text(view_of(Sight.of(body, NOW), BY))
    assert "looks odd \\x1b]0;title" in " ".join(shown.split())
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)


def test_a_line_a_change_where_there_is_no_screen():
    assert milestone(sight("canary, baking")) != milestone(sight("breach, held"))
    body = copy.deepcopy(a_state("invalid spec"))
    for condition in body["status"]["conditions"]:
        condition["message"] = "spec.server.port: is required\nspec.stages: [] is too short"
    body["status"].pop("gate", None)
    assert as_line(Sight.of(body, NOW)).endswith("spec.server.port: is required; spec.stages: [] is too short")
    later = Sight.of(a_state("canary, baking"), NOW.replace(second=30))
    assert milestone(sight("canary, baking")) == milestone(later)


@pytest.mark.parametrize(
    ("name", "done"),
    [
        ("completed", True),
        ("breach, rolled back from shadow", True),
        ("gateway absent", True),
        ("not seen yet", False),
        ("canary, baking", False),
        ("breach, held", False),
    ],
)
def test_when_nothing_moves_any_more(name, done):
    assert is_done(sight(name)) is done


def test_history_tells_outcome_reason_and_what_is_under_way():
    ended = text(history(sight("breach, rolled back from shadow")))
    assert [cell in ended for cell in ("RolledBack", "ContractBreached", "9 min", "country=FR")] == [True] * 4
    assert "in canary-10" in text(history(sight("canary, baking")))


def test_history_tells_who_decided_what():
    told = "ana rolled it back in stage canary-10 at 2026-11-23 11:57:00 UTC: looks odd"
    assert told in text(history(sight("rolled back by a person")))


@pytest.mark.parametrize("name", STATES)
def test_nothing_is_cut_off_on_a_narrow_terminal(name):
    """Of a slice, its name and its numbers; of history, why it ended and who decided."""
    for width in (40, 60, 80):
        for found in (as_text(explain(sight(name), BY)), as_live(sight(name), BY), history(sight(name))):
            shown = text(found, width)
            assert "…" not in shown
            assert max(map(len, shown.splitlines()), default=0) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_history_tells_why_on_a_narrow_terminal(width):
    """The message is what people look for; it stands below where there is no room beside."""
    words = text(history(sight("rolled back by a person")), width).split()
    told = "ana rolled it back in stage canary-10 at 2026-11-23 11:57:00 UTC: looks odd"
    assert told in " ".join(words)
    assert " ".join(words).count("RolledBack Requested") == 1
    late = " ".join(text(forecasts(sight("pending").status.forecast), width).split())
    assert "clause steady needs about 9 h in country=FR" in late


def test_a_forecast_by_name():
    assert "clause steady needs about 9 h in country=FR" in text(forecasts(sight("pending").status.forecast))


def test_a_bar_is_full_only_of_users():
    """Of a first release that has not begun, no share is anybody's."""
    first = sight("first release")
    waits = first.status.candidate.model_copy(update={"weight": 0})
    nobody = replace(first, status=first.status.model_copy(update={"candidate": waits}))
    for it, bar in [(first, "█" * 40), (sight("canary, baking"), "█" * 40), (nobody, "░" * 40)]:
        assert bar in text(as_live(it, BY))
