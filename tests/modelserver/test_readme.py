"""The README's two lines run, and its table is what training gives."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from modelserver import train
from modelserver.metrics import SliceMetrics

pytestmark = pytest.mark.slow  # the versions are trained

README = (Path(__file__).resolve().parents[2] / "model-server" / "README.md").read_text()


def test_the_two_lines_run():
    """What the README tells users to write counts a request."""
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1).replace("...\n", "")
    registry = CollectorRegistry()
    exec(code, {"SliceMetrics": lambda **given: SliceMetrics(**given, registry=registry)})
    labels = {"decision": "refer", "country": "FR", "channel": "web"}
    assert 1 == registry.get_sample_value("model_decisions_total", labels)


@pytest.mark.parametrize("version", [train.FIRST, train.GOOD, train.FAULTY])
def test_the_table_of_versions_is_true(version, models, halves):
    """AUC and referrals, overall and of medical loans."""
    from sklearn.metrics import roc_auc_score

    _, traffic = halves
    decided = train.decide_all(models[version], traffic.applications)
    medical = (traffic.applications["loan_purpose"] == "medical").to_numpy()
    auc = roc_auc_score(traffic.bad, decided.scores)
    want = f"| {auc:.3f} | {decided.referred.mean():.1%} | {decided.referred[medical].mean():.1%} |"
    row = next(line for line in README.splitlines() if line.startswith(f"| `{version}`"))
    assert row.endswith(want.replace("%", " %"))
