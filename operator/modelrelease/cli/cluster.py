"""
The cluster, with the kubeconfig and the rights of whoever sits at the terminal.

The client library takes most of a second to import, so this is done when a command talks to a cluster, never for help
or completion of a word.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from modelrelease.api.base import GROUP, VERSION
from modelrelease.api.parse import named_contract

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, ApiException, Configuration
    from multidict import CIMultiDict

Object = dict[str, Any]
Answer = TypeVar("Answer")

RELEASES: Final = "modelreleases"
CONTRACTS: Final = "modelcontracts"
DECISIONS: Final = "releasedecisions"

_TIMEOUT_SECONDS: Final = 15
_WATCH_SECONDS: Final = 45
"""How long one watch lasts. A connection that died in silence is noticed a little later."""
_AGAIN_SECONDS: Final = 1
"""Pause before the next watch."""
_LINE_BYTES: Final = 2**22
"""A watch sends an object as one line, and no object is larger than what etcd stores."""


class ClusterProblem(Exception):  # noqa: N818 - a problem that the person is told of, not a fault of the program
    """The cluster cannot be reached, or says no; one sentence for people."""


class Absent(ClusterProblem):
    """The object is not there."""


class Forbidden(ClusterProblem):
    """Whoever asks may not do this."""


class Outdated(ClusterProblem):
    """What was seen is too old to be told the changes since: look at it anew."""


@dataclass(frozen=True, slots=True)
class Access:
    """
    Which cluster is meant, as kubectl's options say it; None is the kubeconfig's own choice.

    Attributes:
        kubeconfig: File; None for ``$KUBECONFIG``, else the usual one.
        context: Name of the context.
        namespace: Namespace.
        user: In whose name to ask; None for oneself.
        groups: In which groups that user is taken to be.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()


class Cluster:
    """
    Releases and decisions. Every method raises ClusterProblem when the cluster does not do it.

    Attributes:
        namespace: The namespace that is meant.
        default_namespace: The one that is meant when nobody says any.
    """

    def __init__(self, api: "ApiClient", namespace: str, default_namespace: str) -> None:
        """Keep the client; whoever made it closes it."""
        from kubernetes.aio.client import AuthenticationV1Api, CustomObjectsApi

        self._api = api
        self._objects = CustomObjectsApi(api)
        self._authentication = AuthenticationV1Api(api)
        self.namespace = namespace
        self.default_namespace = default_namespace

    def within(self, namespace: str | None) -> "Cluster":
        """Return the same cluster, where *namespace* is meant if it is given."""
        return Cluster(self._api, namespace or self.namespace, self.default_namespace)

    async def release(self, name: str) -> Object:
        """Return the ModelRelease."""
        return await self._get(RELEASES, name)

    async def releases(self, *, everywhere: bool = False) -> list[Object]:
        """Return the ModelReleases of the namespace, or of all of them, by name."""
        if everywhere:
            asked = self._objects.list_custom_object_for_all_namespaces(
                GROUP, VERSION, RELEASES, _request_timeout=_TIMEOUT_SECONDS
            )
        else:
            asked = self._objects.list_namespaced_custom_object(
                GROUP, VERSION, self.namespace, RELEASES, _request_timeout=_TIMEOUT_SECONDS
            )
        items: list[Object] = (await _answered(asked))["items"]
        return sorted(items, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))

    async def follow(self, name: str) -> AsyncIterator["Object | ClusterProblem"]:
        """
        Yield the ModelRelease as it is, then whenever it changes, without end.

        What keeps it from being seen for a while is yielded too, and tried again.

        Raises:
            Absent: It is not there, or is there no more.
            Forbidden: Whoever asks may not watch it.
        """
        while True:
            try:
                async for body in self._watched(name):
                    yield body
            except (Absent, Forbidden):
                raise
            except Outdated:
                pass
            except ClusterProblem as problem:
                yield problem
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _watched(self, name: str) -> AsyncIterator[Object]:
        """Yield the ModelRelease as it is, then its changes for as long as one watch lasts."""
        from kubernetes.aio.watch import Watch

        one = {"field_selector": f"metadata.name={name}"}
        where = (GROUP, VERSION, self.namespace, RELEASES)
        ask = self._objects.list_namespaced_custom_object
        listed = await _answered(ask(*where, **one, _request_timeout=_TIMEOUT_SECONDS))
        if not listed["items"]:
            raise Absent(f'{RELEASES}.{GROUP} "{name}" not found')
        yield listed["items"][0]
        async with Watch() as watch:
            changes = watch.stream(
                ask,
                *where,
                **one,
                resource_version=listed["metadata"]["resourceVersion"],
                timeout_seconds=_WATCH_SECONDS,
                _request_timeout=_WATCH_SECONDS + _TIMEOUT_SECONDS,
            )
            with _told():
                async for change in changes:
                    if change["type"] == "DELETED":
                        raise Absent(f'{RELEASES}.{GROUP} "{name}" was deleted')
                    yield change["object"]

    async def contract_of(self, release: Mapping[str, Any]) -> Object | None:
        """Return the ModelContract that a release refers to; None without one, or when it cannot be read."""
        name = named_contract(release)
        if name is None:
            return None
        try:
            return await self._get(CONTRACTS, name)
        except ClusterProblem:
            return None  # the release is told without it

    async def patch_release(self, name: str, patch: Object) -> Object:
        """Merge *patch* into the ModelRelease, and return it as it is then."""
        return await _answered(
            self._objects.patch_namespaced_custom_object(
                GROUP,
                VERSION,
                self.namespace,
                RELEASES,
                name,
                patch,
                field_manager="kubectl-modelrelease",
                _request_timeout=_TIMEOUT_SECONDS,
            )
        )

    async def create_decision(self, decision: Object) -> Object:
        """Create the ReleaseDecision, and return it as it is stored."""
        return await _answered(
            self._objects.create_namespaced_custom_object(
                GROUP, VERSION, self.namespace, DECISIONS, decision, _request_timeout=_TIMEOUT_SECONDS
            )
        )

    async def decision(self, name: str) -> Object:
        """Return the ReleaseDecision."""
        return await self._get(DECISIONS, name)

    async def user(self) -> str:
        """Return who the API server says we are."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await _answered(
            self._authentication.create_self_subject_review(review, _request_timeout=_TIMEOUT_SECONDS)
        )
        name: str = answer.status.user_info.username
        return name

    async def _get(self, plural: str, name: str) -> Object:
        return await _answered(
            self._objects.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, plural, name, _request_timeout=_TIMEOUT_SECONDS
            )
        )


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Cluster]:
    """
    Give the cluster that *access* means; inside a pod without a kubeconfig, the one around it.

    Raises:
        ClusterProblem: There is no usable kubeconfig, or no such context.
    """
    from kubernetes.aio.client import ApiClient, Configuration

    configuration = Configuration()
    default_namespace = await _configure(configuration, access)
    configuration.client_session_kwargs = {
        # Other traffic's proxy is used as kubectl uses it: not for this machine itself.
        "trust_env": not _is_this_machine(configuration.host),
        "headers": _in_the_name_of(access),
        "read_bufsize": _LINE_BYTES,
    }
    async with ApiClient(configuration) as api:
        yield Cluster(api, access.namespace or default_namespace, default_namespace)


def _in_the_name_of(access: Access) -> "CIMultiDict[str]":
    """Return the headers by which the API server takes us for somebody else."""
    from multidict import CIMultiDict

    user = [("Impersonate-User", access.user)] if access.user else []
    return CIMultiDict([*user, *(("Impersonate-Group", group) for group in access.groups)])


_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def _configure(configuration: "Configuration", access: Access) -> str:
    """Fill in *configuration*, and return the namespace that is meant when nobody says any."""
    from kubernetes.aio.config import (
        KUBE_CONFIG_DEFAULT_LOCATION,
        ConfigException,
        load_incluster_config,
        load_kube_config,
    )

    places = str(access.kubeconfig) if access.kubeconfig else KUBE_CONFIG_DEFAULT_LOCATION
    found = any(_is_file(place) for place in places.split(":") if place)
    if not found and (access.kubeconfig or access.context):
        raise ClusterProblem(f"no kubeconfig at {places}")
    try:
        if not found:
            load_incluster_config(client_configuration=configuration)
            return await asyncio.to_thread(_POD_NAMESPACE.read_text)
        loader = await load_kube_config(
            config_file=places, context=access.context, client_configuration=configuration, persist_config=False
        )
    except ConfigException as error:
        raise ClusterProblem(
            f"{places if found else f'no kubeconfig at {places}, and this is no pod'}: {error}"
        ) from error
    namespace: str = loader.current_context["context"].get("namespace") or "default"
    return namespace


def _is_file(place: str) -> bool:
    return Path(place).expanduser().is_file()


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


async def _answered(asked: Awaitable[Answer]) -> Answer:
    """Return the API server's answer, or raise what it means for people."""
    with _told():
        return await asked


@contextmanager
def _told() -> Iterator[None]:
    """Raise what goes wrong with the API server as what it means for people."""
    import aiohttp
    from kubernetes.aio.client import ApiException

    try:
        yield
    except ApiException as error:
        raise _PROBLEMS.get(error.status, ClusterProblem)(_said(error)) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ClusterProblem(f"the API server cannot be reached: {str(error) or type(error).__name__}") from error


_PROBLEMS: Final = {403: Forbidden, 404: Absent, 410: Outdated}


def _said(error: "ApiException") -> str:
    try:
        message = str(json.loads(str(error.body))["message"])
    except (ValueError, KeyError, TypeError):
        message = ""
    if message:
        return message
    if error.status == 404:
        return "the API server does not know this kind: are the CRDs of modelrelease installed?"
    return f"the API server answers with status {error.status} {error.reason or ''}".rstrip()
