"""AsyncPubSub, and the tasks that hand messages to handlers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from redlane._core import (
    AsyncClient,
    Client,
    Gap,
    RedlaneError,
    Subscription,
    _publish_async,
    _read_message,
)
from redlane._default import default_client
from redlane._logging import get_logger
from redlane._pubsub import names_of, was_left
from redlane._tasks import keep_task

__all__ = ["AsyncListener", "AsyncPubSub"]

Names = str | bytes | Iterable[str | bytes]
Handler = Callable[[str, Any], object]


class AsyncListener:
    """A task that hands the messages of a subscription to a function.

    What the function raises is logged, and the next message comes. stop() ends it, and
    so does closing the client.
    """

    __module__ = "redlane"

    def __init__(self, subscription: Subscription[Any], handler: Handler) -> None:
        self.subscription = subscription
        self._task = keep_task(self._run(handler))

    async def _run(self, handler: Handler) -> None:
        try:
            await hand_out(self.subscription, handler)
        except RedlaneError as error:  # refused by the server
            get_logger().error("subscription ended: %s", error)
        finally:
            self.subscription.close()

    @property
    def running(self) -> bool:
        """True while messages are handed out."""
        return not self._task.done()

    async def stop(self, timeout: float | None = 5.0) -> bool:
        """Unsubscribe and wait until the function is not called any more.

        timeout: seconds to wait at most; None: without a limit. Whether it has ended;
        from within the function itself it ends after this message.
        """
        self.subscription.close()
        if asyncio.current_task() is not self._task:
            await asyncio.wait({self._task}, timeout=timeout)
        return not self.running

    async def __aenter__(self) -> AsyncListener:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<redlane.AsyncListener {self.subscription!r} {state}>"


async def hand_out(subscription: Subscription[Any], handler: Handler) -> None:
    """Calls the function with each message, one after the other, until the subscription
    is closed."""
    async for message in subscription:
        try:
            result = handler(*_read_message(message))
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001 - whatever it raises, the next one comes
            get_logger().exception(
                "a handler of messages on %r raised", message.channel
            )
        if subscription.closed and was_left(subscription):
            break


class AsyncPubSub:
    """PubSub for event loops: messages in JSON between processes, by channels.

    client: an AsyncClient, a Client, a URL, or None for the default client. A handler
    may be a coroutine function; the next message waits for it.
    """

    __module__ = "redlane"

    def __init__(
        self, client: AsyncClient[Any] | Client[Any] | str | None = None
    ) -> None:
        if client is not None and not isinstance(client, (str, Client, AsyncClient)):
            raise TypeError(
                f"expected a client, a URL or None, not {type(client).__name__}"
            )
        if isinstance(client, Client):
            client = client.aio
        self._client = AsyncClient(client) if isinstance(client, str) else client

    @property
    def client(self) -> AsyncClient[Any]:
        """The client in use."""
        return default_client().aio if self._client is None else self._client

    async def publish(self, channel: str | bytes, obj: object) -> int:
        """Publish an object as JSON, or bytes as they are.

        The number of subscribers that got it: for a server, its connections. While the
        server is away, those of this process. SerializationError for what is no JSON.
        """
        return await _publish_async(self.client, channel, obj)

    async def subscribe(
        self,
        channels: Names,
        handler: Handler,
        patterns: Names = (),
        *,
        on_gap: Callable[[Gap], object] | None = None,
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> None:
        """Call handler(channel, message) for each message, in this task.

        channels, patterns: one, or several. channel is a str, message what was
        published, read from JSON; a str where it is none. on_gap: called with a Gap
        where messages may be missing. It returns when the client is closed.
        """
        subscription = self._open(
            channels, handler, patterns, on_gap, max_messages, max_bytes
        )
        async with subscription:
            await hand_out(subscription, handler)

    async def start(
        self,
        channels: Names,
        handler: Handler,
        patterns: Names = (),
        *,
        on_gap: Callable[[Gap], object] | None = None,
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> AsyncListener:
        """The same in a task of its own: an AsyncListener, with stop()."""
        subscription = self._open(
            channels, handler, patterns, on_gap, max_messages, max_bytes
        )
        try:
            await subscription.__aenter__()
        except BaseException:
            subscription.close()
            raise
        return AsyncListener(subscription, handler)

    def _open(
        self,
        channels: Names,
        handler: Handler,
        patterns: Names,
        on_gap: Callable[[Gap], object] | None,
        max_messages: int,
        max_bytes: int,
    ) -> Subscription[Any]:
        if not callable(handler):
            raise TypeError("handler must be callable")
        subscription: Subscription[Any] = self.client.subscribe(
            *names_of(channels),
            patterns=patterns,
            on_gap=on_gap,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )
        return subscription

    def __repr__(self) -> str:
        shown = "default client" if self._client is None else repr(self._client)
        return f"<redlane.AsyncPubSub {shown}>"
