"""PubSub, and the threads that hand messages to handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from types import MethodType
from typing import TYPE_CHECKING, Any

from redlane._core import (
    AsyncClient,
    Client,
    RedlaneError,
    Subscription,
    _publish,
    _read_message,
)
from redlane._default import default_client
from redlane._logging import get_logger

if TYPE_CHECKING:
    from typing import Literal

    from redlane._async_pubsub import AsyncPubSub
    from redlane._core import BytesMessage, Gap, Message

__all__ = ["Listener", "PubSub", "RedisPubSub", "listen", "pubsub"]

Names = str | bytes | Iterable[str | bytes]
Handler = Callable[[str, Any], object]


def names_of(names: Names) -> tuple[str | bytes, ...]:
    return (names,) if isinstance(names, (str, bytes)) else tuple(names)


def check_plain(**functions: object) -> None:
    """Refuses coroutine functions, which a thread cannot await."""
    for name, function in functions.items():
        call = getattr(type(function), "__call__", None)  # noqa: B004 - an object's
        if iscoroutinefunction(function) or iscoroutinefunction(call):
            raise TypeError(
                f"{name} is a coroutine function, which a thread cannot await:"
                " use AsyncPubSub"
            )


class Listener:
    """A thread that hands the messages of a subscription to a function.

    What the function raises is logged, and the next message comes. stop() ends it, and
    so does closing the client.
    """

    __module__ = "redlane"

    def __init__(
        self,
        subscription: Subscription[Any],
        handle: Callable[[Any], object],
        name: str | None = None,
    ) -> None:
        self.subscription = subscription
        self._handle = handle
        self._thread = threading.Thread(
            target=self._run, name=name or "redlane-listener", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            hand_out(self.subscription, self._handle)
        except RedlaneError as error:  # refused by the server
            get_logger().error(
                "subscription ended: %s",
                error,
                extra={"event": "redlane.pubsub.ended"},
            )
        finally:  # a handler may end its thread
            self.subscription.close()

    @property
    def running(self) -> bool:
        """True while messages are handed out."""
        return self._thread.is_alive()

    def stop(self, timeout: float | None = 5.0) -> bool:
        """Unsubscribe and wait until the function is not called any more.

        timeout: seconds to wait at most; None: without a limit. Whether it has ended;
        from within the function itself it ends after this message.
        """
        self.subscription.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self.running

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<redlane.Listener {self.subscription!r} {state}>"


def hand_out(subscription: Subscription[Any], handle: Callable[[Any], object]) -> None:
    """Calls the function with each message until the subscription is closed."""
    for message in subscription:
        try:
            handle(message)
        except Exception:  # noqa: BLE001 - whatever it raises, the next one comes
            get_logger().exception(
                "a handler of messages on %r raised",
                message.channel,
                extra={"event": "redlane.pubsub.handler_failed"},
            )
        if subscription.closed and was_left(subscription):
            break


def was_left(subscription: Subscription[Any]) -> bool:
    """Whether its owner or the client has closed it; what the server refuses is raised
    after what had come before."""
    try:
        subscription.wait(0)
    except RedlaneError:
        return False
    return True


def listen(
    client: Client[Any],
    channels: Names,
    handler: Callable[[Any], object],
    *,
    patterns: Names = (),
    **options: Any,
) -> Listener:
    """What Client.listen() does."""
    if not callable(handler):
        raise TypeError("handler must be callable")
    check_plain(handler=handler, on_gap=options.get("on_gap"))
    subscription = client.subscribe(*names_of(channels), patterns=patterns, **options)
    subscription.wait()
    return Listener(subscription, handler)


class Either:
    """A method that on the class acts on the default client."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        return MethodType(self.function, owner() if instance is None else instance)


class PubSub:
    """Messages in JSON between processes, by channels.

    client: a Client or AsyncClient, a URL, or None for the default client. The methods
    work on the class too, with the default client. While the server is away, what is
    published reaches the subscriptions of this process. ``aio``: the same for asyncio.
    """

    __module__ = "redlane"

    def __init__(
        self, client: Client[Any] | AsyncClient[Any] | str | None = None
    ) -> None:
        if isinstance(client, AsyncClient):
            client = client.sync
        if client is not None and not isinstance(client, (str, Client)):
            raise TypeError(
                f"expected a Client, a URL or None, not {type(client).__name__}"
            )
        self._client = Client(client) if isinstance(client, str) else client

    @property
    def client(self) -> Client[Any]:
        """The client in use."""
        return default_client() if self._client is None else self._client

    @property
    def aio(self) -> AsyncPubSub:
        """The same for asyncio: an AsyncPubSub."""
        from redlane._async_pubsub import twin_of

        return twin_of(self)

    if TYPE_CHECKING:

        @classmethod
        def publish(cls, channel: str | bytes, obj: object) -> int: ...

        @classmethod
        def subscribe(
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
        def start(
            cls,
            channels: Names,
            handler: Handler,
            patterns: Names = (),
            *,
            on_gap: Callable[[Gap], object] | None = None,
            policy: Literal["drop", "wait"] = "drop",
            max_messages: int = 65536,
            max_bytes: int = 67108864,
        ) -> Listener: ...

    else:

        @Either
        def publish(self, channel, obj):
            """Publish an object as JSON, or bytes as they are.

            The number of subscribers that got it: for a server, its connections.
            SerializationError for what is no JSON.
            """
            try:
                return _publish(self.client, channel, obj)
            finally:
                del obj  # what shows tracebacks may show a frame's variables

        @Either
        def subscribe(self, channels, handler, patterns=(), **options):
            """Call handler(channel, message) for each message, in this thread.

            channels, patterns: one, or several. channel is a str, message what was
            published, read from JSON; a str where it is none. on_gap: called with a
            Gap where messages may be missing. It returns when the client is closed.
            """
            hand_out(*self._prepare(channels, handler, patterns, options))

        @Either
        def start(self, channels, handler, patterns=(), **options):
            """The same in a thread of its own: a Listener, with stop()."""
            return Listener(*self._prepare(channels, handler, patterns, options))

    def _prepare(
        self, channels: Names, handler: Handler, patterns: Names, options: Any
    ) -> tuple[Subscription[Any], Callable[[Message | BytesMessage], object]]:
        if not callable(handler):
            raise TypeError("handler must be callable")
        check_plain(handler=handler, on_gap=options.get("on_gap"))
        subscription: Subscription[Any] = self.client.subscribe(
            *names_of(channels), patterns=patterns, **options
        )
        subscription.wait()
        return subscription, lambda message: handler(*_read_message(message))

    def __repr__(self) -> str:
        shown = "default client" if self._client is None else repr(self._client)
        return f"<redlane.PubSub {shown}>"


RedisPubSub = PubSub
pubsub = PubSub()
