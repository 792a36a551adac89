"""The sum of evidence, on the logarithmic scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrelease.core.evidence import log_sum

LOGARITHMS = st.floats(-700, 700) | st.sampled_from([np.inf, -np.inf])


@given(st.lists(LOGARITHMS, min_size=1, max_size=5))
@pytest.mark.filterwarnings("error")
def test_it_is_what_numpy_says(values):
    """Boundless evidence included: were its sum no number, a breach would be none."""
    assert log_sum(np.array(values)) == pytest.approx(np.logaddexp.reduce(values), rel=1e-12, abs=1e-12)
