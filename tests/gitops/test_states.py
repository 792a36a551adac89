"""The states that others look at are all there are: every reason, every condition and every event is in one."""

from modelrelease.api.reasons import Reason
from tests.docs.words import announced, reasons_in
from tests.gitops.states import STATES, recorded


def test_every_reason_is_in_a_state() -> None:
    """A reason that is added is looked at by kstatus and by Argo CD."""
    told = {reason for name in STATES for reason in reasons_in(recorded(name).body.get("status"))}
    warned = {said.reason for name in STATES for said in recorded(name).said}
    assert {reason for reason in Reason if reason not in told | warned} == set()


def test_every_event_is_said_on_the_way_to_a_state() -> None:
    """What can be announced, is."""
    said = {said.reason for name in STATES for said in recorded(name).said}
    assert announced() - said == set()


def test_ready_and_the_two_that_are_seldom() -> None:
    """kubernetes-api.md: Reconciling and Stalled are present only while True, never both, and never beside Ready."""
    for name in STATES:
        conditions = recorded(name).body.get("status", {}).get("conditions", [])
        states = {c["type"]: c["status"] for c in conditions}
        seldom = [states[type_] for type_ in ("Reconciling", "Stalled") if type_ in states]
        assert seldom == ["True"] * (states.get("Ready") == "False"), name
        assert all(c["reason"] and c["message"] and c["lastTransitionTime"] for c in conditions), name
