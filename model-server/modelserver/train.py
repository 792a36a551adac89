"""
Train the demo's three versions and say how they differ: ``python -m modelserver.train --out DIR``.

| Version    | What it is                                                                                      |
|------------|-------------------------------------------------------------------------------------------------|
| 2026-10-01 | the first release: trained on 70 % of the training half                                         |
| 2026-11-05 | a good new version: all of the training half                                                    |
| 2026-11-20 | the same trees behind a new intake form that sends the term of medical loans in the wrong unit: |
|            | fine on average, wrong for 1.5 % of the applications                                            |

Each version's threshold is set on recent applications without their outcome, so that 18.5 % are referred: what the
people who read the referrals can bear. The faulty version inherits the good one's threshold, since nobody knew.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelserver import loans
from modelserver.loans import FEATURES, Loans
from modelserver.model import REFER, IntakeFault, Model, Node

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from sklearn.ensemble import HistGradientBoostingClassifier

FIRST, GOOD, FAULTY = "2026-10-01", "2026-11-05", "2026-11-20"
REFER_FRACTION = 0.185
FAULT = IntakeFault(loan_purpose="medical", field="term", factor=12)

_FIRST_ROWS_FRACTION = 0.7
_SMALLEST_SLICE_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Decided:
    """What one version does with the traffic half: scores and referrals, one per application."""

    version: str
    scores: "NDArray[np.float64]"
    referred: "NDArray[np.bool_]"


def train_versions(train: Loans, recent: Loans) -> list[Model]:
    """Return the three versions, oldest first; *recent* sets the thresholds."""
    first_rows = int(len(train.applications) * _FIRST_ROWS_FRACTION)
    first = Loans(train.applications[:first_rows], train.bad[:first_rows])
    good = _train(GOOD, train, recent)
    return [_train(FIRST, first, recent), good, replace(good, version=FAULTY, fault=FAULT)]


def _train(version: str, train: Loans, recent: Loans) -> Model:
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    learner = HistGradientBoostingClassifier(max_depth=4, max_iter=120, learning_rate=0.06, random_state=0)
    learner.fit(train.applications[list(FEATURES)].to_numpy(), train.bad.to_numpy())
    scores = learner.predict_proba(recent.applications[list(FEATURES)].to_numpy())[:, 1]
    model = Model(
        version=version,
        baseline=float(learner._baseline_prediction.item()),  # noqa: SLF001 (no public way; compared below)
        trees=tuple(_exported_trees(learner)),
        threshold=float(np.quantile(scores, 1 - REFER_FRACTION)),
    )
    _refuse_other_scores(model, recent, scores)
    return model


def _exported_trees(learner: "HistGradientBoostingClassifier") -> Iterable[Node]:
    for (predictor,) in learner._predictors:  # noqa: SLF001 (no public way; compared below)
        yield _exported_node(predictor.nodes, 0)


def _exported_node(nodes: "NDArray[np.void]", index: int) -> Node:
    node = nodes[index]
    if node["is_leaf"]:
        return float(node["value"])
    return (
        int(node["feature_idx"]),
        float(node["num_threshold"]),
        bool(node["missing_go_to_left"]),
        _exported_node(nodes, node["left"]),
        _exported_node(nodes, node["right"]),
    )


def _refuse_other_scores(model: Model, recent: Loans, expected: "NDArray[np.float64]") -> None:
    """Raise when the exported trees do not score as scikit-learn does: its private layout may have changed."""
    import numpy as np

    scores = [model.score(request) for request in loans.as_requests(recent.applications)]
    if not np.allclose(scores, expected, rtol=0, atol=1e-12):
        worst = float(np.abs(np.asarray(scores) - expected).max())
        raise RuntimeError(f"model {model.version}: exported trees differ from scikit-learn's scores by {worst:.3g}")


def decide_all(model: Model, applications: "pd.DataFrame") -> Decided:
    """Return what the version decides for every application."""
    import numpy as np

    scores = [model.score(request) for request in loans.as_requests(applications)]
    return Decided(model.version, np.array(scores), np.array([model.decide(score) == REFER for score in scores]))


def summary(traffic: Loans, decided: Sequence[Decided]) -> Iterable[str]:
    """Yield a table: AUC and referrals per version, overall and for each slice of at least 20 applications."""
    from sklearn.metrics import roc_auc_score

    yield f"{'':34}{'n':>6}" + "".join(f"{one.version:>24}" for one in decided)
    yield _row("AUC", len(traffic.bad), [f"{roc_auc_score(traffic.bad, one.scores):.3f}" for one in decided])
    yield _row("overall", len(traffic.bad), _rates(decided, traffic.bad.to_numpy() | True))
    for dimension in loans.SLICES:
        column = traffic.applications[dimension]
        for value, count in column.value_counts().items():
            if count >= _SMALLEST_SLICE_SHOWN:
                yield _row(f"{dimension}={value}", int(count), _rates(decided, (column == value).to_numpy()))


def _row(name: str, count: int, cells: Iterable[str]) -> str:
    return f"{name:34}{count:>6}" + "".join(f"{cell:>24}" for cell in cells)


def _rates(decided: Sequence[Decided], chosen: "NDArray[np.bool_]") -> Iterable[str]:
    """Yield each version's referrals of the chosen applications: count, share, change against the version before."""
    before: int | None = None
    for one in decided:
        referred = int(one.referred[chosen].sum())
        change = "" if not before else f" {referred / before - 1:+.1%}"
        yield f"{referred} {referred / chosen.sum():.1%}{change}"
        before = referred


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the artifacts and print the table."""
    parser = argparse.ArgumentParser(prog="python -m modelserver.train", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write VERSION.json files to")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    train, traffic = loans.split(loans.read())
    models = train_versions(train, traffic)
    for model in models:
        print(f"wrote {model.save(out)}")
    for line in summary(traffic, [decide_all(model, traffic.applications) for model in models]):
        print(line)


if __name__ == "__main__":
    main()
