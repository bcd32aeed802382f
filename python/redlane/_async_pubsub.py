"""AsyncPubSub, and the tasks that hand messages to handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from redlane._core import (
    AsyncClient,
    Client,
    RedlaneError,
    Subscription,
    _publish_async,
    _read_message,
)
from redlane._logging import get_logger
from redlane._pubsub import Either, Handler, Names, PubSub, names_of, was_left
from redlane._tasks import LISTENER, keep_task

if TYPE_CHECKING:
    from typing import Literal

    from redlane._core import Gap

__all__ = ["AsyncListener", "AsyncPubSub", "twin_of"]


class AsyncListener:
    """A task that hands the messages of a subscription to a function.

    What the function raises is logged, and the next message comes. stop() ends it, and
    so do closing the client and the end of the event loop.
    """

    __module__ = "redlane"

    def __init__(
        self,
        subscription: Subscription[Any],
        handle: Callable[[Any], object],
        client: AsyncClient[Any],
    ) -> None:
        self.subscription = subscription
        self._task = keep_task(self._run(handle), client._link_id, LISTENER)

    async def _run(self, handle: Callable[[Any], object]) -> None:
        try:
            await hand_out(self.subscription, handle)
        except RedlaneError as error:  # refused by the server
            get_logger().error(
                "subscription ended: %s",
                error,
                extra={"event": "redlane.pubsub.ended"},
            )
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


def is_cancelled() -> bool:
    """Whether the running task is being cancelled: Python 3.10 cannot tell that from
    what else raises CancelledError."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0


async def hand_out(
    subscription: Subscription[Any], handle: Callable[[Any], object]
) -> None:
    """Calls the function with each message, one after the other, until the subscription
    is closed."""
    async for message in subscription:
        try:
            result = handle(message)
            if isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as error:
            # That of another task, which it awaited, is the handler's own affair.
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            get_logger().exception(
                "a handler of messages on %r raised",
                message.channel,
                extra={"event": "redlane.pubsub.handler_failed"},
            )
        if subscription.closed and was_left(subscription):
            break


async def open_subscription(
    client: AsyncClient[Any],
    channels: Names,
    handler: Callable[..., object],
    patterns: Names,
    options: Any,
) -> Subscription[Any]:
    """One that stands."""
    if not callable(handler):
        raise TypeError("handler must be callable")
    subscription: Subscription[Any] = client.subscribe(
        *names_of(channels), patterns=patterns, **options
    )
    try:
        await subscription.__aenter__()
    except BaseException:
        subscription.close()
        raise
    return subscription


async def listen(
    client: AsyncClient[Any],
    channels: Names,
    handler: Callable[[Any], object],
    *,
    patterns: Names = (),
    **options: Any,
) -> AsyncListener:
    """What AsyncClient.listen() does."""
    subscription = await open_subscription(client, channels, handler, patterns, options)
    return AsyncListener(subscription, handler, client)


def reader(handler: Handler) -> Callable[[Any], object]:
    """Of messages in JSON."""
    return lambda message: handler(*_read_message(message))


class AsyncPubSub:
    """PubSub for asyncio: its methods, awaited; also ``PubSub.aio``.

    client: an AsyncClient, a Client, a URL, or None for the default client. The methods
    work on the class too, with the default client. A handler, and on_gap, may be a
    coroutine function: the next message waits for it.
    """

    __module__ = "redlane"

    def __init__(
        self, client: AsyncClient[Any] | Client[Any] | str | None = None
    ) -> None:
        self._sync = PubSub(client)

    @property
    def sync(self) -> PubSub:
        """The PubSub that it is the twin of."""
        return self._sync

    @property
    def client(self) -> AsyncClient[Any]:
        """The client in use."""
        return self._sync.client.aio

    if TYPE_CHECKING:

        @classmethod
        async def publish(cls, channel: str | bytes, obj: object) -> int: ...

        @classmethod
        async def subscribe(
            cls,
            channels: Names,
            handler: Handler,
            patterns: Names = (),
            *,
            on_gap: Callable[[Gap], object] | None = None,
            policy: Literal["drop", "wait"] = "drop",
            max_messages: int = 65536,
            max_bytes: int = 67108864,
        ) -> None: ...

        @classmethod
        async def start(
            cls,
            channels: Names,
            handler: Handler,
            patterns: Names = (),
            *,
            on_gap: Callable[[Gap], object] | None = None,
            policy: Literal["drop", "wait"] = "drop",
            max_messages: int = 65536,
            max_bytes: int = 67108864,
        ) -> AsyncListener: ...

    else:

        @Either
        async def publish(self, channel, obj):
            """Publish an object as JSON, or bytes as they are.

            The number of subscribers that got it: for a server, its connections. While
            the server is away, those of this process. SerializationError for what is no
            JSON.
            """
            try:
                return await _publish_async(self.client, channel, obj)
            finally:
                del obj  # what shows tracebacks may show a frame's variables

        @Either
        async def subscribe(self, channels, handler, patterns=(), **options):
            """Call handler(channel, message) for each message, in this task.

            channels, patterns: one, or several. channel is a str, message what was
            published, read from JSON; a str where it is none. on_gap: called with a
            Gap where messages may be missing. It returns when the client is closed,
            and unsubscribes when it is cancelled.
            """
            subscription = await open_subscription(
                self.client, channels, handler, patterns, options
            )
            async with subscription:
                await hand_out(subscription, reader(handler))

        @Either
        async def start(self, channels, handler, patterns=(), **options):
            """The same in a task of its own: an AsyncListener, with stop()."""
            client = self.client
            subscription = await open_subscription(
                client, channels, handler, patterns, options
            )
            return AsyncListener(subscription, reader(handler), client)

    def __repr__(self) -> str:
        return f"{self._sync!r}.aio"


def twin_of(tool: PubSub) -> AsyncPubSub:
    """What PubSub.aio is."""
    twin = AsyncPubSub.__new__(AsyncPubSub)
    twin._sync = tool
    return twin
