"""
Commands by which people decide: approve, rollback, retry, promote, suspend, resume.

The first four create a ReleaseDecision: an object that says who asked for what, about which revision, and why. Which
revision and stage are meant is looked up when the command runs, so that it is about what the person has just seen; the
operator calls it Stale when that has passed. Suspending is a field of the release itself.
"""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from modelrelease.cli.completion import complete_release
from modelrelease.cli.live import release_named
from modelrelease.cli.terminal import (
    DONE,
    NOT_FOLLOWED,
    Output,
    OutputForm,
    reaches_cluster,
    show_objects,
    with_cluster,
)

if TYPE_CHECKING:
    from modelrelease.api.decision import Verb
    from modelrelease.cli.cluster import Access, Cluster
    from modelrelease.cli.sight import Sight

Name = Annotated[str, typer.Argument(help="The ModelRelease.", autocompletion=complete_release)]
Why = Annotated[str, typer.Option(help="Why; kept in the history.")]
WhyIfYouLike = Annotated[str | None, typer.Option("--reason", help="Why; kept in the history.")]
RevisionOption = Annotated[
    str | None, typer.Option(help="Only if this is the revision that is meant, such as 7f3c9b1. Default: whichever is.")
]
Wait = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for the operator's answer.")]

WAIT_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.5


@reaches_cluster
def approve(
    asked: "Access",
    name: Name,
    stage: Annotated[str | None, typer.Option(help="The stage whose gate may be left. Default: the open one.")] = None,
    reason: WhyIfYouLike = None,
    revision: RevisionOption = None,
    wait: Wait = WAIT_SECONDS,
    output: OutputForm = Output.TABLE,
) -> None:
    """
    Allow the candidate to leave the open stage: once its gate passes, or in spite of a breach held or a deadline over.

    Exit code: 0 created, 3 the cluster refuses, 4 the operator calls it Stale or Refused.
    """
    _decide(asked, name, "Approve", reason, revision, wait, output, stage=stage)


@reaches_cluster
def rollback(
    asked: "Access",
    name: Name,
    reason: Why,
    revision: RevisionOption = None,
    wait: Wait = WAIT_SECONDS,
    output: OutputForm = Output.TABLE,
) -> None:
    """Return all users to the stable version at once, and reject the candidate."""
    _decide(asked, name, "Rollback", reason, revision, wait, output)


@reaches_cluster
def retry(
    asked: "Access",
    name: Name,
    reason: Why,
    revision: RevisionOption = None,
    wait: Wait = WAIT_SECONDS,
    output: OutputForm = Output.TABLE,
) -> None:
    """Try a rejected revision once more, from the first stage."""
    _decide(asked, name, "Retry", reason, revision, wait, output)


@reaches_cluster
def promote(
    asked: "Access",
    name: Name,
    reason: Why,
    revision: RevisionOption = None,
    wait: Wait = WAIT_SECONDS,
    output: OutputForm = Output.TABLE,
) -> None:
    """Break glass: give the candidate to all users now, and from stage full make it the release, whatever is proved."""
    _decide(asked, name, "Promote", reason, revision, wait, output)


@reaches_cluster
def suspend(
    asked: "Access",
    name: Name,
    reason: Why,
    output: OutputForm = Output.TABLE,
) -> None:
    """
    Let nothing move, not even on a breach: traffic stays as it is.

    It sets spec.suspend, and notes who and why in annotations. Where a Git repository says suspend: false, the next
    synchronisation takes it back: suspend it there.
    """

    said = f"{name} is suspended: nothing moves, not even on a breach"
    with_cluster(asked, lambda cluster: _suspend(cluster, name, reason, output, said))


@reaches_cluster
def resume(
    asked: "Access",
    name: Name,
    output: OutputForm = Output.TABLE,
) -> None:
    """Let a suspended release go on."""

    with_cluster(asked, lambda cluster: _suspend(cluster, name, None, output, f"{name} goes on"))


async def _suspend(cluster: "Cluster", name: str, reason: str | None, output: Output, said: str) -> int:
    """Suspend the release, and note by whom and why; without *reason*, let it go on and forget both."""
    from modelrelease.cli.sight import SUSPEND_REASON, SUSPENDED_BY

    notes = {SUSPENDED_BY: await cluster.user() if reason is not None else None, SUSPEND_REASON: reason}
    patch = {"metadata": {"annotations": notes}, "spec": {"suspend": True if reason is not None else None}}
    body = await cluster.patch_release(name, patch)
    if output is Output.TABLE:
        typer.echo(said)
    else:
        show_objects(body, output)
    return DONE


def _decide(
    asked: "Access",
    name: str,
    verb: str,
    reason: str | None,
    revision: str | None,
    wait: float,
    output: Output,
    *,
    stage: str | None = None,
) -> None:
    """Create the decision, and tell what becomes of it."""

    async def run(cluster: "Cluster") -> int:
        from datetime import UTC, datetime

        from modelrelease.api.decision import Verb
        from modelrelease.cli.sight import Sight

        sight = Sight.of(await release_named(cluster, name), datetime.now(UTC))
        spec = decision_spec(sight, Verb(verb), stage=stage, revision=revision)
        spec |= {"approvedBy": await cluster.user()} | ({"reason": reason} if reason else {})
        body = await cluster.create_decision(decision_body(name, spec))
        if output is Output.TABLE:
            about = f" of stage {spec['stage']}" if "stage" in spec else ""
            typer.echo(f"decision {body['metadata']['name']}: {verb}{about}, {name}, revision {spec['revision']}")
        body, trouble = await _answered(cluster, body, wait)
        return _told(body, trouble, output)

    with_cluster(asked, run)


def decision_spec(sight: "Sight", verb: "Verb", *, stage: str | None, revision: str | None) -> dict[str, Any]:
    """
    Return what a decision of this kind is about, as things stand.

    Raises:
        BadInput: There is nothing that it could be about, or it is not what the person named.
    """
    from modelrelease.api.decision import Verb
    from modelrelease.cli.problems import BadInput

    found = _rejected(sight) if verb is Verb.RETRY else (sight.trial.revision if sight.trial else None)
    if found is None:
        lacking = "no rejected revision is asked for" if verb is Verb.RETRY else "nothing is on trial"
        raise BadInput([f"{sight.name}: {lacking}, so there is nothing to {verb.value.lower()}"])
    if revision is not None and revision != found:
        raise BadInput([f"--revision: it is {found} now, not {revision}: look again"])
    spec: dict[str, Any] = {"release": sight.name, "revision": found, "decision": verb.value}
    if verb is Verb.APPROVE:
        meant = stage or (sight.record.name if sight.record else None)
        if meant is None:
            raise BadInput([f"{sight.name}: no stage is open yet: name one with --stage"])
        names = [planned.name for planned in sight.plan]
        if names and meant not in names:
            raise BadInput([f"--stage: {meant!r} is not in the plan; allowed are {', '.join(names)}"])
        spec["stage"] = meant
    return spec


def _rejected(sight: "Sight") -> str | None:
    """Return the rejected revision that the spec asks for."""
    wanted = sight.desired.name if sight.desired else None
    return next((entry.revision for entry in sight.status.rejected if entry.revision == wanted), None)


def decision_body(release: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the ReleaseDecision to create; the API server completes its name."""
    from modelrelease.api.base import API_VERSION

    metadata = {"generateName": f"{release}-"}
    return {"apiVersion": API_VERSION, "kind": "ReleaseDecision", "metadata": metadata, "spec": spec}


async def _answered(cluster: "Cluster", body: dict[str, Any], wait: float) -> tuple[dict[str, Any], str]:
    """
    Return the decision once the operator has answered it, or as it is after *wait* seconds, and why it cannot be read.

    It is made, whatever keeps it from being read: who is told that it failed decides once more.
    """
    from modelrelease.cli.cluster import Absent, ClusterProblem, Forbidden

    loop = asyncio.get_running_loop()
    until, trouble = loop.time() + wait, ""
    while not (body.get("status") or {}).get("outcome") and loop.time() < until:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            body, trouble = await cluster.decision(body["metadata"]["name"]), ""
        except ClusterProblem as problem:
            trouble = str(problem)
            if isinstance(problem, Absent | Forbidden):
                break  # waiting is no help
    return body, trouble


def _told(body: dict[str, Any], trouble: str, output: Output) -> int:
    status = body.get("status") or {}
    outcome = status.get("outcome")
    if output is not Output.TABLE:
        show_objects(body, output)
    elif outcome:
        typer.echo(f"{outcome}: {status.get('message', '')}")
    elif not trouble:
        typer.echo("the operator has not answered yet; does it run?")
    if trouble:
        typer.echo(f"the decision is made, and what becomes of it cannot be read: {trouble}", err=True)
    return NOT_FOLLOWED if outcome in {"Stale", "Refused"} else DONE
