"""How a decorated function gets the request of FastAPI that it does not ask for.

FastAPI gives an endpoint, or a dependency, what it finds in its signature. So that of a
decorated function has a connection and a response more than the function, which the
decorator takes out of each call. OpenAPI shows neither.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["OpenSignature", "Opened"]

CONNECTION = "redlane_connection"
RESPONSE = "redlane_response"


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """An annotation that is written as text, as what it says.

    FastAPI's older versions look its names up where the decorator was written, not
    where the function was.
    """
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)
    except Exception:  # noqa: BLE001 - names that are not there, as under TYPE_CHECKING
        return annotation


class Opened:
    """A function's signature as FastAPI sees it, made when it is first looked at."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.connection = CONNECTION
        self.response = RESPONSE
        self.added: tuple[str, ...] = ()  # what the function itself does not take
        self._signature: inspect.Signature | None = None

    def signature(self, declared: inspect.Signature) -> inspect.Signature:
        if self._signature is None:
            self._signature = self._made(declared)
        return self._signature

    def take(self, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The connection and the response of a call, or None; what is not the
        function's goes out of `kwargs`."""
        connection, response = kwargs.get(self.connection), kwargs.get(self.response)
        for name in self.added:
            kwargs.pop(name, None)
        return connection, response

    def _made(self, declared: inspect.Signature) -> inspect.Signature:
        from starlette.requests import HTTPConnection
        from starlette.responses import Response

        names = getattr(inspect.unwrap(self.function), "__globals__", {})
        parameters = [
            part.replace(annotation=_resolved(part.annotation, names))
            for part in declared.parameters.values()
        ]
        kinds = {
            part.name: part.annotation
            for part in parameters
            if inspect.isclass(part.annotation)
        }
        last = []
        if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
            last.append(parameters.pop())

        def added(name: str, kind: type) -> str:
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind
                )
            )
            self.added += (name,)
            return name

        # FastAPI gives each of these once: what is asked for already is shared. A
        # connection is a request or a WebSocket, and another thing than either.
        own = [name for name, kind in kinds.items() if kind is HTTPConnection]
        self.connection = own[0] if own else added(CONNECTION, HTTPConnection)
        own = [name for name, kind in kinds.items() if issubclass(kind, Response)]
        self.response = own[0] if own else added(RESPONSE, Response)
        returned = _resolved(declared.return_annotation, names)
        return inspect.Signature([*parameters, *last], return_annotation=returned)


class OpenSignature(inspect.Signature):
    """The signature of a decorated function: its own one, until Starlette is there.

    The module of a function may well be imported before FastAPI is.
    """

    _opened: Opened | None = None

    @classmethod
    def of(cls, opened: Opened) -> OpenSignature:
        own = inspect.signature(opened.function)
        made = cls(
            list(own.parameters.values()), return_annotation=own.return_annotation
        )
        made._opened = opened
        return made

    def _seen(self) -> inspect.Signature | None:
        if self._opened is None or "starlette.requests" not in sys.modules:
            return None
        declared = inspect.signature(self._opened.function)
        return self._opened.signature(declared)

    @property
    def parameters(self) -> Any:
        seen = self._seen()
        return super().parameters if seen is None else seen.parameters

    @property
    def return_annotation(self) -> Any:
        seen = self._seen()
        return super().return_annotation if seen is None else seen.return_annotation
