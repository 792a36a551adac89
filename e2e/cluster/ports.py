"""Find loopback ports that stay ours between a server's stop and its start again."""

from __future__ import annotations

import random
import socket

# Below the kernel's default range for outgoing connections (32768 on), so that no client takes the port while a
# server is down.
_CANDIDATES = range(20_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port of *host* on which nobody listens, at random so that parallel test runs rarely meet."""
    chooser = random.SystemRandom()
    while True:
        port = chooser.choice(_CANDIDATES)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return port
