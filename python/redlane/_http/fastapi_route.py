"""What FastAPI knows of a route: which fields its parameters and those of its
dependencies read, and how what it returns becomes a response."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Declared", "declared_by", "renderer_of", "route_of"]

_MODEL_OPTIONS = (
    *("response_model", "status_code", "response_class"),
    *("response_model_include", "response_model_exclude", "response_model_by_alias"),
    *("response_model_exclude_unset", "response_model_exclude_defaults"),
    "response_model_exclude_none",
)
_RESULT = "redlane.result"


class Declared:
    """What of a request the route reads by declaration."""

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.cookies: list[str] = []
        self.queries: list[str] = []  # of security schemes
        self.secured = False
        self.boundless = False  # it may read any field
        self.calls: set[Any] = set()  # dependencies, which may be overridden

    def vary(self) -> list[str]:
        return [*self.headers, *(f"cookie:{name}" for name in self.cookies)]


def route_of(scope: Mapping[str, Any]) -> Any | None:
    """The route with what the routers that include it add; None: FastAPI's own is not
    to be found, and nothing is known of it."""
    route = scope.get("route")
    # Newer versions keep the route as it was declared, and beside it the one that the
    # inclusion of its router makes of it.
    inner = scope.get("fastapi")
    if isinstance(inner, Mapping):
        for value in inner.values():
            if (
                getattr(value, "original_route", None) is route
                and getattr(value, "dependant", None) is not None
            ):
                return value
    return route if getattr(route, "dependant", None) is not None else None


def _walk(dependant: Any) -> Iterator[Any]:
    yield dependant
    for part in dependant.dependencies:
        yield from _walk(part)


def _models(kind: Any) -> Iterator[Any]:
    """The models of an annotation, which may be optional or annotated."""
    if inspect.isclass(kind) and isinstance(getattr(kind, "model_fields", None), dict):
        yield kind
    for part in get_args(kind):
        yield from _models(part)


def _spelled(alias: Any) -> list[str]:
    """The names of an alias: a text, or a choice or a path of Pydantic's."""
    if isinstance(alias, str):
        return [alias]
    choices = getattr(alias, "choices", None)
    if choices is not None:
        return [name for choice in choices for name in _spelled(choice)]
    path = getattr(alias, "path", None)
    return [path[0]] if path and isinstance(path[0], str) else []


def _names_of(name: str, info: Any, dashes: bool) -> list[str]:
    """What a field of a model reads, by any of its names."""
    spelled = [
        *_spelled(getattr(info, "validation_alias", None)),
        *_spelled(getattr(info, "alias", None)),
    ]
    return [*spelled, name.replace("_", "-") if dashes else name]


def _names(field: Any, header: bool) -> list[str]:
    """The names that a parameter reads; a model's are those of its fields."""
    info = getattr(field, "field_info", None)
    kind = getattr(info, "annotation", None) or getattr(field, "type_", None)
    models = list(_models(kind))
    if not models:
        return [str(field.alias), *_spelled(getattr(info, "validation_alias", None))]
    dashes = header and bool(getattr(info, "convert_underscores", True))
    return [
        found
        for model in models
        for name, part in model.model_fields.items()
        for found in _names_of(
            name, part, header and bool(getattr(part, "convert_underscores", dashes))
        )
    ]


def _takes_any(field: Any) -> bool:
    """Whether a parameter's model is given fields that it does not name."""
    info = getattr(field, "field_info", None)
    for model in _models(getattr(info, "annotation", None)):
        if model.model_config.get("extra") == "allow":
            return True
        known = getattr(model, "__pydantic_decorators__", None)
        for part in getattr(known, "model_validators", {}).values():
            if part.info.mode in ("before", "wrap"):
                return True
    return False


def declared_by(route: Any) -> Declared:
    """What a route and its dependencies declare."""
    from fastapi.security.base import SecurityBase

    found = Declared()
    for part in _walk(route.dependant):
        for field in part.header_params:
            found.headers += [name.lower() for name in _names(field, True)]
            found.boundless |= _takes_any(field)
        for field in part.cookie_params:
            found.cookies += _names(field, False)
        if part.call is not None:
            found.calls.add(part.call)
        schemes = [
            requirement.security_scheme
            for requirement in getattr(part, "security_requirements", None) or ()
        ]
        call = inspect.unwrap(part.call) if callable(part.call) else None
        if isinstance(call, SecurityBase):
            schemes.append(call)
        for scheme in schemes:
            found.secured = True
            model = getattr(scheme, "model", None)
            where = getattr(getattr(model, "in_", None), "value", None)
            name = getattr(model, "name", None)
            if where == "header" and name:
                found.headers.append(str(name).lower())
            elif where == "cookie" and name:
                found.cookies.append(str(name))
            elif where == "query" and name:
                found.queries.append(str(name))
            else:
                found.headers.append("authorization")
    found.headers = list(dict.fromkeys(found.headers))
    found.cookies = list(dict.fromkeys(found.cookies))
    return found


def renderer_of(route: Any) -> Callable[[Request, Any], Awaitable[Response]]:
    """FastAPI's own way from what the route's function returns to a response: a route
    with the same options, whose function returns what it is given."""
    from fastapi.routing import APIRoute

    async def given(request: Request) -> Any:
        return request.scope[_RESULT]

    options = {name: getattr(route, name) for name in _MODEL_OPTIONS}
    handler = APIRoute("/", given, **options).get_route_handler()

    async def render(request: Request, result: Any) -> Response:
        scope = dict(request.scope)
        scope[_RESULT] = result
        return await handler(Request(scope, request.receive))

    return render
