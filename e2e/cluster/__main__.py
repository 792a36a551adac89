"""``python3 -m e2e.cluster COMMAND``, from the repository root."""

from __future__ import annotations

import argparse
import os
import sys

from e2e.cluster import addons, cluster, images
from e2e.cluster.progress import ClusterError, say

_PASSED_ON = {"kubectl": addons.kubectl, "helm": addons.helm}


def main(words: list[str]) -> int:
    """Run one command and return the exit code."""
    try:
        # Not argparse's business: every word belongs to the other program.
        if words and words[0] in _PASSED_ON:
            cluster.require_up()
            command = _PASSED_ON[words[0]](*words[1:])
            os.execv(command[0], command)
        return _run(_parser().parse_args(words))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next up or down cleans up")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m e2e.cluster", description="A real Kubernetes cluster here.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="install Debian packages, build every binary and image")
    commands.add_parser("up", help="make the cluster, or bring back what is missing of it")
    down = commands.add_parser("down", help="remove every trace of it; binaries, images and logs stay")
    down.add_argument("--logs", action="store_true", help="delete the logs too")
    commands.add_parser("status", help="say what runs; exit code 0 only if all of it is healthy")
    load = commands.add_parser("load", help="build an image from the checkout and import it")
    load.add_argument("name")
    commands.add_parser("images", help="list the images, the name that pods use, the cached archive")
    commands.add_parser("env", help="print export lines for a shell")
    commands.add_parser("kubectl", help="kubectl of this cluster; all further words are kubectl's")
    commands.add_parser("helm", help="helm of this cluster; all further words are helm's")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "build":
            cluster.build()
        case "up":
            cluster.up()
        case "down":
            cluster.down(logs=arguments.logs)
        case "status":
            return 0 if cluster.status() else 1
        case "load":
            cluster.load(arguments.name)
        case "images":
            _print_images()
        case "env":
            print(cluster.environment())
        case _:
            raise AssertionError("unreachable")
    return 0


def _print_images() -> None:
    for image in (*images.SYSTEM, images.PYTHON_BASE, *images.OURS):
        if image.available():
            archive = image.archive()
            print(f"{image.name:<15}{image.reference:<42}{archive if archive.exists() else 'not built'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
