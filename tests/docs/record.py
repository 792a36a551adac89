"""Write the outputs on the API's pages anew: ``python -m tests.docs.record``."""

from tests.docs.recorded import PAGES, as_written, refilled

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(refilled(page.read_text(encoding="utf-8"), as_written), encoding="utf-8")
