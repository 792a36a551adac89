"""What the demo releases."""

import io
from pathlib import Path

from rich.console import Console

from e2e.demo import farewell
from e2e.world import BAD, Kubectl, World, loans
from modelrelease.api.parse import Release, parse


def _parsed(body) -> Release:
    body["metadata"] |= {"uid": "u", "generation": 1}
    release = parse(body)
    assert isinstance(release, Release), release
    return release


def test_another_attempt_is_another_revision_that_is_measured_like_the_first():
    """A demo once replaced all annotations: nobody scraped the candidate, and the gate waited for ever."""
    first, second = _parsed(loans(BAD)), _parsed(loans(BAD, attempt="2"))
    assert first.desired.name != second.desired.name
    annotations = second.desired.template["metadata"]["annotations"]
    assert annotations == {**first.desired.template["metadata"]["annotations"], "example.com/attempt": "2"}
    assert annotations["prometheus.io/scrape"] == "true"


def test_what_to_type_next_can_be_copied():
    """On a terminal of any width each command is one line."""
    world = World(Kubectl(Path("/var/tmp/modelrelease-cluster/kubeconfig")), gateway="10.96.141.124")
    out = Console(file=io.StringIO(), width=40, highlight=False)
    farewell(out, world)
    _, *commands = out.file.getvalue().splitlines()
    programs = ["export", "kubectl", "kubectl", "kubectl", ".venv/bin/python", "make"]
    assert [command.split()[0] for command in commands] == programs
