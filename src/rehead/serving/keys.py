"""Who may ask: the keys that are known, and how a client that guesses is slowed down."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from rehead.serving.refusals import Refusal
from rehead.serving.settings import KEYS

# A mistyped key costs nothing; from then on each wrong one doubles the seconds for which no other is looked at.
_FREE, _MOST_SECONDS = 5, 60.0
# Seconds without a wrong key after which a client begins anew.
_FORGIVEN = 600.0
# Clients that are remembered, and pairs of a client and the key that it has used; the oldest are forgotten.
_REMEMBERED = 10_000


class Keys:
    """The keys of one server, and the clients that have sent wrong ones.

    A client is an address, which many may share behind a proxy: a key that has come from there before is let in
    while others are not looked at.

    Args:
        keys: known keys; whoever asks is let in where there are none.
        now: the clock, in seconds.
    """

    def __init__(self, keys: Iterable[str], now: Callable[[], float] = time.monotonic) -> None:
        self._known = [_digest(key) for key in keys]
        self._now = now
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and until when it has to wait
        self._used: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._known)

    def require(self, address: str, key: str) -> None:
        """Check a key that came from an address.

        Raises:
            Refusal: it is none of the known ones (401), or too many wrong ones came from there (429).
        """
        digest = _digest(key)
        # Each is compared, in constant time, so that the time that it takes says nothing.
        is_known = sum(hmac.compare_digest(digest, known) for known in self._known) > 0
        client = _network_of(address)
        if is_known and (client, digest) in self._used:
            return
        wrong, until = self._wrong.get(client, (0, 0.0))
        since = self._now() - until
        if since < 0:
            raise Refusal(429, "too_many_wrong_keys", "too many wrong keys came from there; wait", retry_after=-since)
        if is_known:
            self._wrong.pop(client, None)
            _remember(self._used, (client, digest), None)
            return
        if key:
            wrong = 1 if since > _FORGIVEN else wrong + 1
            seconds = min(2.0 ** (wrong - _FREE), _MOST_SECONDS) if wrong > _FREE else 0.0
            _remember(self._wrong, client, (wrong, self._now() + seconds))
        raise Refusal(401, "unknown_key", f"send one of the server's keys ({KEYS}) as `Authorization: Bearer KEY`")


def _remember(memory: OrderedDict[Any, Any], name: object, value: object) -> None:
    memory[name] = value
    memory.move_to_end(name)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _network_of(address: str) -> str:
    """Return the address; of IPv6 the network that one customer has."""
    try:
        if (parsed := ipaddress.ip_address(address)).version == 6:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
    except ValueError:
        pass
    return address


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
