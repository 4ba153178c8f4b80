"""A port of this machine on which nothing listens."""

import socket
from contextlib import closing


def free_port() -> int:
    """Its number; whoever is quicker may take it before it is used."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])
