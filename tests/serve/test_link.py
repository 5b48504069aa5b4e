"""Calls between the server's own processes, when the other side has just ended."""

from __future__ import annotations

import asyncio
import socket

import pytest

from cascade.errors import UnavailableError
from cascade.serve.link import Link


@pytest.mark.parametrize("noticed", [False, True])
async def test_a_side_that_has_ended_is_told_as_unavailable(noticed: bool) -> None:
    own, its = socket.socketpair()
    link = Link(own, {})
    await link.open()
    its.close()
    if noticed:
        await asyncio.wait_for(link.closed.wait(), 60)
    with pytest.raises(UnavailableError):
        await link.call("anything", b"x" * 10_000_000)
    await link.close()
