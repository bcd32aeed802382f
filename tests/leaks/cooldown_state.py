"""CooldownState: made, compared, unpacked, shown."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Once, main
from redlane import Cooldown, CooldownState


def cases(url: str) -> Iterator[tuple[str, Once]]:
    cooldown = Cooldown(url, 60)
    state = CooldownState(False, 2.5)
    yield "made", lambda: CooldownState(True)
    yield "given", lambda: cooldown.acquire("a")
    yield "compared", lambda: (state == CooldownState(True), state == 5, hash(state))
    yield "unpacked", lambda: (*state,)
    yield "shown", lambda: repr(state)


if __name__ == "__main__":
    main([CooldownState], cases)
