"""How the results of a cached function are written and read, by its return annotation.

The core asks once for each function that has an annotation of more than plain types. A
result without a codec is written and read as any other value.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Any, get_args, get_type_hints

from msgspec import inspect as ms
from msgspec import json, msgpack

__all__ = ["find_codec"]

Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]

# What JSON gives back as it was, so that nothing needs to be checked or converted.
_PLAIN_TYPES = (
    ms.AnyType(),
    ms.NoneType(),
    ms.BoolType(),
    ms.IntType(),
    ms.FloatType(),
    ms.StrType(),
    ms.CustomType(object),
)

_log = logging.getLogger("redlane")


class _Holder:
    """An object with annotations, for get_type_hints."""

    def __init__(self, annotation: object) -> None:
        self.__annotations__ = {"return": annotation}


def _closure_of(function: FunctionType) -> dict[str, object]:
    """Names of the enclosing functions: a class that was made there, say."""
    found: dict[str, object] = {}
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _resolve_annotation(function: Any) -> object:
    """The return annotation with its strings evaluated. Any exception."""
    inner = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    inner = getattr(inner, "__func__", inner)
    holder = _Holder(function.__annotations__["return"])
    names = _closure_of(inner) if isinstance(inner, FunctionType) else {}
    hints = get_type_hints(
        holder, getattr(inner, "__globals__", {}), names, include_extras=True
    )
    return hints["return"]


def _is_plain(info: ms.Type) -> bool:
    if isinstance(info, ms.ListType):
        return info == ms.ListType(info.item_type) and _is_plain(info.item_type)
    if isinstance(info, ms.DictType):
        return (
            info == ms.DictType(info.key_type, info.value_type)
            and info.key_type in (ms.AnyType(), ms.StrType())
            and _is_plain(info.value_type)
        )
    if isinstance(info, ms.UnionType):
        return all(map(_is_plain, info.types))
    return info in _PLAIN_TYPES


def _parts_of(info: ms.Type, seen: set[int]) -> Iterator[ms.Type]:
    """A type and all that it is made of; classes may hold themselves."""
    if id(info) in seen:
        return
    seen.add(id(info))
    yield info
    for name in info.__struct_fields__:
        value = getattr(info, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, ms.Field):
                part = part.type
            if isinstance(part, ms.Type):
                yield from _parts_of(part, seen)


def _foreign_classes(info: ms.Type) -> set[type]:
    """Classes in it that msgspec knows nothing of."""
    return {
        part.cls
        for part in _parts_of(info, set())
        if isinstance(part, ms.CustomType) and part.cls is not object
    }


def _is_model(candidate: object) -> bool:
    """Whether it is a class of pydantic's, which is never imported for this."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None
        and isinstance(candidate, type)
        and issubclass(candidate, pydantic.BaseModel)
    )


def _mentions_model(annotation: object) -> bool:
    return _is_model(annotation) or any(map(_mentions_model, get_args(annotation)))


def _msgspec_codec(annotation: object, serializer: str) -> Codec:
    if serializer == "json":
        return json.Encoder().encode, json.Decoder(annotation).decode
    return msgpack.Encoder().encode, msgpack.Decoder(annotation).decode


def _pydantic_codec(annotation: object, serializer: str) -> Codec:
    adapter = sys.modules["pydantic"].TypeAdapter(annotation)
    # What it reads is what it wrote: by the same names, and nothing but fields. A value
    # of another type is an error, not a warning.
    options = {"by_alias": True, "round_trip": True, "warnings": "error"}
    if serializer == "json":
        return partial(adapter.dump_json, **options), adapter.validate_json

    def dumps(value: Any) -> bytes:
        return msgpack.encode(adapter.dump_python(value, mode="json", **options))

    def loads(data: bytes) -> Any:
        # as JSON: a strict model takes a date from a str there only
        return adapter.validate_json(json.encode(msgpack.decode(data)))

    return dumps, loads


def _find_codec(annotation: object, serializer: str) -> Codec | None:
    if _mentions_model(annotation):
        return _pydantic_codec(annotation, serializer)
    info = ms.type_info(annotation)
    if _is_plain(info):
        return None
    foreign = _foreign_classes(info)
    if not foreign:
        return _msgspec_codec(annotation, serializer)
    if all(map(_is_model, foreign)):
        return _pydantic_codec(annotation, serializer)
    names = ", ".join(sorted(cls.__qualname__ for cls in foreign))
    raise TypeError(f"no way to read {names}")


def find_codec(function: Any, serializer: str) -> Codec | None:
    """What writes and reads the results of a function.

    Args:
        function: has an annotation for its result.
        serializer: ``"json"`` or ``"msgpack"``.

    Returns:
        Two callables: of a value, giving bytes; of bytes, giving a value of the
        annotated type, else raising. None: results are plain values, or the annotation
        cannot be used, which a DEBUG line then says.
    """
    try:
        return _find_codec(_resolve_annotation(function), serializer)
    except Exception as error:  # noqa: BLE001  an annotation may run anything
        name = getattr(function, "__qualname__", type(function).__qualname__)
        _log.debug(
            "%s: results are not decoded by the return annotation: %s: %s",
            name,
            type(error).__name__,
            error,
            extra={"event": "redlane.cache.undecoded"},
        )
        return None
