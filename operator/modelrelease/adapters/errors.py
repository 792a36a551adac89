"""Every way in which the outside can fail a reconcile: one tree, so that a caller names what it can handle."""


class AdapterError(Exception):
    """Something outside could not be read or written; the next tick tries again."""


class Conflict(AdapterError):  # noqa: N818 - reads as what happened
    """The object has changed since it was read, or one of its name exists already: read again and decide anew."""


class Exists(Conflict):
    """There is an object of that name: nothing was created."""


class Overtaken(Conflict):
    """Somebody wrote the object after it was read and before our write came: the next tick decides anew."""


class NotLeading(AdapterError):  # noqa: N818 - reads as what happened
    """Nothing was sent: another replica may act by now."""


class NotFound(AdapterError):  # noqa: N818 - reads as what happened
    """The object does not exist (any more)."""


class UnknownKind(NotFound):
    """The API server does not know the kind: no CRD, or one that it has not loaded yet. It says nothing of objects."""


class Unreachable(AdapterError):  # noqa: N818 - reads as what happened
    """No usable answer: no connection, a timeout, a failing server. Whether a write happened is unknown."""


class Refused(AdapterError):  # noqa: N818 - reads as what happened
    """The server understood and said no: not allowed, or not valid. Trying the same again will not help."""


class Forbidden(Refused):
    """We have not been given the right to do that."""
