"""The soak driver's reckoning: what counts as right, which losses are whose, and what it may kill."""

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from e2e.soak import (
    _KILL,
    FAULTS,
    Fault,
    Loss,
    Soak,
    Trial,
    changes_of,
    clean,
    ended,
    explained,
    read_client,
    report,
    truths,
    victims,
)

NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_loss(sent: float, lasted: float = 0.01) -> Loss:
    return Loss(at(sent), at(sent + lasted), "503")


def a_soak(**changed: Any) -> Soak:
    trials = [Trial(1, True, "Completed", "", 200), Trial(2, False, "RolledBack", "ContractBreached in shadow", 90)]
    return Soak(**{"trials": trials, "changes": [at(0)], "total": "sent=9 ok=9", **changed})


class TestLosses:
    @pytest.mark.parametrize(
        ("loss", "cause"),
        [
            pytest.param(a_loss(0.5), "a change of the route", id="just after the route changed"),
            pytest.param(a_loss(-4, lasted=5), "a change of the route", id="under way while it changed"),
            pytest.param(a_loss(110), "a pod that was killed", id="after a pod was killed"),
            pytest.param(a_loss(30), "nothing that we did", id="out of the blue"),
            pytest.param(a_loss(-30, lasted=5), "nothing that we did", id="given up before"),
        ],
    )
    def test_a_loss_is_put_down_to_what_happened_while_it_was_under_way(self, loss, cause):
        """The route changes at 0 s, a pod is killed at 100 s."""
        assert explained([loss], [at(0)], [at(100)]) == {cause: 1}

    def test_a_killed_pod_explains_more_than_a_route(self):
        """So changes near a killed pod prove nothing, and are not counted as proof."""
        assert explained([a_loss(1)], [at(0)], [at(-5)]) == {"a pod that was killed": 1}
        assert clean([at(0), at(50)], [at(-5)]) == [at(50)]
        assert clean([at(0)], [at(2)]) == []

    def test_only_other_shares_are_a_change(self):
        """A route is seen again whenever its status is written."""
        seen = [(at(0), {"a": 100}), (at(1), {"a": 100}), (at(2), {"a": 90, "b": 10}), (at(3), {"a": 90, "b": 10})]
        assert changes_of(seen) == [at(2)]
        assert changes_of([]) == []

    def test_the_client_s_log_is_read(self):
        """Losses with their times, and the last line; reports in between are for people."""
        log = f"t=5s sent=9\nlost {at(1).isoformat()} {at(2).isoformat()} not a decision\ntotal sent=9 ok=8 errors=1\n"
        assert read_client(log) == ([Loss(at(1), at(2), "not a decision")], "sent=9 ok=8 errors=1")


class TestPromises:
    def test_all_is_well(self):
        """Good ones completed, bad ones came back, and the route changed where nothing else explains a loss."""
        assert a_soak().problems() == []

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            pytest.param({"losses": [a_loss(0)]}, "1 requests were lost by a change of the route", id="route"),
            pytest.param({"losses": [a_loss(70)]}, "lost by nothing that we did", id="unexplained"),
            pytest.param({"total": ""}, "the client ended early", id="no client"),
            pytest.param({"changes": []}, "nothing is proved", id="no route change"),
            pytest.param({"faults": [Fault("model", "p", at(0))]}, "nothing is proved", id="only beside a killed pod"),
            pytest.param({"trials": []}, "not both a good and a bad release", id="nothing tried"),
        ],
    )
    def test_what_is_not_as_promised(self, changed, says):
        """One sentence each."""
        [problem] = a_soak(**changed).problems()
        assert says in problem

    @pytest.mark.parametrize(
        "trial",
        [
            pytest.param(Trial(3, True, "RolledBack", "ContractBreached in shadow", 90), id="good, rolled back"),
            pytest.param(Trial(3, True, "stuck in canary-10", "", 900), id="good, stuck"),
            pytest.param(Trial(3, False, "Completed", "", 300), id="bad, completed"),
            pytest.param(Trial(3, False, "RolledBack", "CandidateUnavailable in shadow", 90), id="bad, for luck"),
        ],
    )
    def test_a_wrong_end_is_a_failure(self, trial, capsys):
        """The command fails and names the release."""
        soak = a_soak()
        soak.trials.append(trial)
        assert report(soak, Console()) == 1
        assert "release 3 is" in capsys.readouterr().out
        assert report(a_soak(), Console()) == 0

    def test_losses_by_killed_pods_are_told_and_are_no_failure(self, capsys):
        """Without a second try somewhere, a request dies with its pod."""
        soak = a_soak(faults=[Fault("model", "p", at(200))], losses=[a_loss(201)])
        assert report(soak, Console(width=200)) == 0
        assert "1 by a pod that was killed" in capsys.readouterr().out

    def test_the_operator_and_prometheus_explain_no_loss(self):
        """Users are served without them."""
        soak = a_soak(faults=[Fault("operator", "p", at(200)), Fault("prometheus", "q", at(200))], losses=[a_loss(201)])
        assert soak.problems() == ["1 requests were lost by nothing that we did"]


class TestDriving:
    def test_the_seed_tells_which_releases_are_bad(self):
        """One of each first, then a mixture; the same seed, the same releases."""
        first = list(itertools.islice(truths(1), 30))
        assert first == list(itertools.islice(truths(1), 30))
        assert first[:2] == [True, False]
        assert 10 < sum(first) < 30

    def test_everything_is_killed_in_the_end(self):
        """Each kind of fault has its way of killing."""
        chance = random.Random(0)
        assert {chance.choice(FAULTS) for _ in range(50)} == _KILL.keys()

    @pytest.mark.parametrize(
        ("observed", "stage", "want"),
        [
            pytest.param(2, "Completed", "Completed", id="completed"),
            pytest.param(2, "RolledBack", "RolledBack", id="rolled back"),
            pytest.param(1, "Completed", None, id="the status is of the release before"),
            pytest.param(2, "canary-10", None, id="under way"),
            pytest.param(None, None, None, id="not seen yet"),
        ],
    )
    def test_how_it_ended(self, observed, stage, want):
        """Only a status of what was applied counts."""
        status = {"observedGeneration": observed, "stage": stage} if observed else {}
        assert ended({"metadata": {"generation": 2}, "status": status}) == want

    def test_only_a_pod_whose_revision_goes_on_serving_is_killed(self):
        """Two ready pods of a revision, or none of it is touched."""

        def pod(name, revision, *, ready=True, going=False):
            meta = {"name": name, "labels": {"modelrelease.dev/revision": revision}}
            meta |= {"deletionTimestamp": "now"} if going else {}
            return {
                "metadata": meta,
                "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
            }

        pods = [
            *(pod("a-1", "a"), pod("a-2", "a")),
            *(pod("b-1", "b"), pod("b-2", "b", ready=False)),
            *(pod("c-1", "c"), pod("c-2", "c", going=True)),
            {"metadata": {"name": "d-1", "labels": {"modelrelease.dev/revision": "d"}}},
        ]
        assert victims(pods) == ["a-1", "a-2"]
