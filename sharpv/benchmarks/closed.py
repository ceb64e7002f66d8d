"""A closed network for foreign scoring code: what would ask a server fails at once instead of sending answers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

EVENTS = (
    *("socket.connect", "socket.sendto", "socket.sendmsg"),
    *("socket.getaddrinfo", "socket.getnameinfo", "socket.gethostbyname", "socket.gethostbyaddr"),
)


class NetworkClosedError(BaseException):
    """Code asked for the network. No Exception, since code that retries would catch one, wait and try again."""


@contextmanager
def network_closed(error: type[BaseException] = NetworkClosedError) -> Iterator[None]:
    """No connection leaves this process, whichever thread asks for one: `error` is raised where one is asked for.

    OSError is what a machine without a network raises, which code that only tries its luck passes over.
    """
    raised = _raised()
    raised.append(error)
    try:
        yield
    finally:
        raised.pop()


@cache
def _raised() -> list[type[BaseException]]:
    """What is raised, the last first; empty while the network is open. Python cannot take an audit hook away again."""
    raised: list[type[BaseException]] = []

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        # A message without an address goes on along a connection that is there, as between processes of one machine.
        if raised and event in EVENTS and not (event == "socket.sendmsg" and arguments[-1] is None):
            raise raised[-1](f"the network is closed to tasks: {event} {arguments[-1:]}")

    sys.addaudithook(refuse)
    return raised
