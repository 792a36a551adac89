"""Write the outputs on the API's pages anew: ``python -m tests.docs.record``."""

from e2e.cluster.apiserver import ApiServer
from tests.apiserver import Cluster
from tests.docs.recorded import PAGES, refilled

if __name__ == "__main__":
    with ApiServer() as server:
        running = Cluster(server)
        running.install_releases()
        for page in PAGES:
            running.kubectl("create", "namespace", page.stem)
            page.write_text(refilled(page.read_text(encoding="utf-8"), running, page.stem), encoding="utf-8")
