"""What cached functions and their arguments are, in terms the C core can put in a key.

The core encodes the exact built-in types by itself; this module is asked once for each
decorated function, and for each argument of another type.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

__all__ = [
    "NO_DEFAULT",
    "describe_callable",
    "describe_tags",
    "describe_template",
    "describe_value",
]

NO_DEFAULT = object()

# The slots of `type` itself, so that no metaclass runs code of its own.
_module_of = type.__dict__["__module__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__
_mro_of = type.__dict__["__mro__"].__get__

_BUILTINS = (
    str,
    int,
    float,
    complex,
    bytes,
    bytearray,
    tuple,
    list,
    dict,
    set,
    frozenset,
)

_CO_GENERATOR, _CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200


def _escape(part: str) -> str:
    """`part` without the separator of key parts; with '%', so that it can be undone."""
    return part.replace("%", "%25").replace(":", "%3A")


def _module_tag(module: object) -> str:
    """A module's name; the stem of its file for the program itself."""
    if module == "__main__":
        path = getattr(sys.modules.get("__main__"), "__file__", None)
        if isinstance(path, str) and path:
            name = path.replace("\\", "/").rsplit("/", 1)[-1]
            return _escape(name.rsplit(".", 1)[0] or name)
    return _escape(module) if isinstance(module, str) and module else "-"


# A class or enum made from data may have any name: what the key's grammar uses goes.
_NAME_ESCAPES = {ord(c): f"%{ord(c):02X}" for c in '%:,()[]{}="/*'}


def _escape_name(name: str) -> str:
    return name.translate(_NAME_ESCAPES)


def _type_tag(cls: type) -> str:
    return f"{_module_tag(_module_of(cls))}/{_escape_name(_qualname_of(cls))}"


def _lookup(cls: type, name: str) -> Any:
    """A class attribute as it stands in the class."""
    return next((vars(base)[name] for base in _mro_of(cls) if name in vars(base)), None)


def _kind_of(function: Any) -> str | None:
    """What `function` returns, when it is not a plain value."""
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        function = getattr(function, "func", function)  # functools.partial
        call = _lookup(type(function), "__call__")
        code = getattr(function, "__code__", None) or getattr(call, "__code__", None)
    flags = getattr(code, "co_flags", 0)
    if flags & _CO_COROUTINE:
        return "coroutine functions are"
    if flags & _CO_ASYNC_GENERATOR:
        return "asynchronous generator functions are"
    if flags & _CO_GENERATOR:
        return "generator functions are"
    return None


def _carries_state(function: Any) -> bool:
    """Whether two such callables can differ in what their arguments do not show."""
    kind = type(function)
    if kind in (MethodType, BuiltinFunctionType):
        owner = function.__self__
        return owner is not None and not isinstance(owner, (type, ModuleType))
    if kind is FunctionType or isinstance(function, type):
        return False
    if _module_of(kind) in ("functools", "operator"):
        return kind.__name__ in ("partial", "itemgetter", "attrgetter", "methodcaller")
    # An object of a Python class; but a decorator's wrapper stands for its function.
    return type(_lookup(kind, "__call__")) is FunctionType and not isinstance(
        getattr(function, "__wrapped__", None), FunctionType
    )


def _parameters(
    function: Any,
) -> tuple[tuple[str, ...], int, int, str | None, str | None, tuple[Any, ...]]:
    """Names, how many are positional-only and positional, *name, **name, defaults."""
    if type(function) is FunctionType:
        code = function.__code__
        positional = code.co_argcount
        count = positional + code.co_kwonlyargcount
        names = code.co_varnames[:count]
        values = [NO_DEFAULT] * count
        defaults = function.__defaults__ or ()
        values[positional - len(defaults) : positional] = defaults
        for name, value in (function.__kwdefaults__ or {}).items():
            if name in names[positional:]:
                values[names.index(name, positional)] = value
        rest = iter(code.co_varnames[count:])
        star = next(rest) if code.co_flags & 0x04 else None
        stars = next(rest) if code.co_flags & 0x08 else None
        return names, code.co_posonlyargcount, positional, star, stars, tuple(values)

    import inspect

    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return (), 0, 0, "args", "kwargs", ()
    kinds = inspect.Parameter
    only = [p for p in parameters if p.kind is kinds.POSITIONAL_ONLY]
    both = [p for p in parameters if p.kind is kinds.POSITIONAL_OR_KEYWORD]
    keyword = [p for p in parameters if p.kind is kinds.KEYWORD_ONLY]
    plain = only + both + keyword
    star = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
    stars = next((p.name for p in parameters if p.kind is kinds.VAR_KEYWORD), None)
    values = [NO_DEFAULT if p.default is p.empty else p.default for p in plain]
    return (
        tuple(p.name for p in plain),
        len(only),
        len(only) + len(both),
        star,
        stars,
        tuple(values),
    )


def describe_callable(
    function: Any, name: str | None = None
) -> tuple[
    str, str, tuple[str, ...], int, int, str | None, str | None, tuple[Any, ...]
]:
    """The key's head ``name:module:``, a name for messages, and the parameters."""
    if isinstance(function, (classmethod, staticmethod)):
        raise TypeError(
            f"put @cache below @{type(function).__name__}, next to the function"
        )
    if not callable(function):
        raise TypeError(
            f"only a callable can be cached, not {type(function).__name__!r}"
        )
    shown = getattr(function, "__qualname__", None) or getattr(
        getattr(function, "func", None), "__qualname__", None
    )
    if not isinstance(shown, str):
        shown = type(function).__qualname__
    kind = _kind_of(function)
    if kind is not None:
        raise TypeError(
            f"{shown}(): {kind} not supported by cache yet;"
            " cache the function that makes the value"
        )
    if name is None and _carries_state(function):
        raise TypeError(
            f"{shown}: a bound method, a partial or a callable object carries values"
            " that are no arguments: give name=, which tells it from others of its kind"
        )
    if name is None:
        name = shown.rsplit("<locals>.", 1)[-1]
    elif not isinstance(name, str) or not name:
        raise TypeError("name must be a non-empty str")
    module = getattr(function, "__module__", None) or getattr(
        getattr(function, "func", None), "__module__", None
    )
    head = f"{_escape(name)}:{_module_tag(module)}:"
    return (head, shown, *_parameters(function))


def _describe_enum(value: Any, cls: type, flag: bool) -> tuple[str, tuple[Any, ...]]:
    # A composite flag's name differs between Python versions: its value does not.
    if not flag:
        name = object.__getattribute__(value, "_name_")
        if isinstance(name, str):
            return f"{_type_tag(cls)}.{_escape_name(name)}", ()
    return _type_tag(cls), (None, object.__getattribute__(value, "_value_"))


def _describe_zone(zone: Any) -> Any:
    """A time zone as a value: a fixed offset's repr, or the name of a zone file."""
    from datetime import timezone

    if zone is None:
        return ()
    if type(zone) is timezone:
        return ("tz", repr(zone))
    if type(zone).__name__ == "ZoneInfo" and isinstance(
        getattr(zone, "key", None), str
    ):
        return ("tz", zone.key)
    return ("tz", zone)


def _describe_standard(value: Any, cls: type) -> tuple[str, tuple[Any, ...]] | None:
    """Types of the standard library, by names that do not move between versions."""
    where = _module_of(cls)
    name = cls.__name__
    if where == "uuid" and name == "UUID":
        return "UUID", (None, str(value))
    if where == "decimal" and name == "Decimal":
        return "Decimal", (None, str(value))
    if where == "fractions" and name == "Fraction":
        return "Fraction", (None, value.numerator, None, value.denominator)
    if where == "datetime":
        if name in ("datetime", "time"):
            fold = ("fold", 1) if value.fold else ()
            text = value.replace(tzinfo=None).isoformat()
            return name, (None, text, *fold, *_describe_zone(value.tzinfo))
        if name == "date":
            return name, (None, value.isoformat())
        if name == "timedelta":
            return name, (
                None,
                value.days,
                None,
                value.seconds,
                None,
                value.microseconds,
            )
        if name == "timezone":
            return name, (None, repr(value))
    if where == "zoneinfo" and name == "ZoneInfo" and isinstance(value.key, str):
        return name, (None, value.key)
    if where.split(".", 1)[0] == "pathlib":
        return name, (None, str(value))
    if where == "ipaddress" and name.startswith("IPv"):
        return name, (None, str(value))
    if cls is range:
        return name, (None, value.start, None, value.stop, None, value.step)
    return None


def describe_value(value: Any) -> tuple[str, tuple[Any, ...] | None] | None:
    """A type's tag and what tells its values apart, as (name or None, value, …).

    None instead of the tuple: a subclass of a built-in type, whose content the core
    reads by itself, so that no method of the subclass runs. None for a type whose
    values have no stable text.
    """
    cls = type(value)
    mro = _mro_of(cls)
    if issubclass(cls, type):
        return "type", (None, _type_tag(value))
    enum = sys.modules.get("enum")
    if enum is not None and enum.Enum in mro:
        return _describe_enum(value, cls, enum.Flag in mro)
    if any(base in mro for base in _BUILTINS):
        return _type_tag(cls), None
    own = getattr(cls, "__cache_key__", None)
    if own is not None:
        key = own(value)
        if isinstance(key, (str, bytes, int, tuple)):
            return _type_tag(cls), (None, key)
        raise TypeError(
            f"{cls.__qualname__}.__cache_key__() must return str, bytes, int or tuple,"
            f" not {type(key).__name__!r}"
        )
    standard = _describe_standard(value, cls)
    if standard is not None:
        return standard
    fields: Any = None
    if hasattr(cls, "__dataclass_fields__"):
        import dataclasses

        fields = [field.name for field in dataclasses.fields(value)]
    elif hasattr(cls, "__struct_config__"):
        fields = cls.__struct_fields__
    elif hasattr(cls, "__attrs_attrs__"):
        fields = [field.name for field in cls.__attrs_attrs__]
    if fields is None:
        return None
    parts: list[Any] = []
    for name in fields:
        parts += (name, getattr(value, name))
    return _type_tag(cls), tuple(parts)


def describe_template(
    head: str, template: str
) -> tuple[str, tuple[str, ...], tuple[str | int, ...]]:
    """A counter's template: a glob for its full keys, its fields, and its parts.

    The parts are texts and indices into the fields, in the order of the key.
    """
    from string import Formatter

    def escape(text: str) -> str:
        return "".join("\\" + c if c in "*?[]^-\\" else c for c in text)

    pattern = escape(head)
    fields: list[str] = []
    parts: list[str | int] = []
    for text, field, spec, conversion in Formatter().parse(template):
        pattern += escape(text)
        parts.append(text)
        if field is None:
            continue
        if not field.isidentifier() or spec or conversion:
            raise ValueError(
                "a field of a counter's template is a plain name, as in '{id}':"
                f" {template!r}"
            )
        if field not in fields:
            fields.append(field)
        pattern += "*"
        parts.append(fields.index(field))
    if len(fields) > 8:
        raise ValueError("a counter's template has at most eight fields")
    return pattern, tuple(fields), tuple(parts)


def describe_tags(
    shown: str, names: tuple[str, ...], ignored: tuple[str, ...], tags: object
) -> tuple[object, ...]:
    """What `tags=` of a function names: callables, and templates taken apart.

    A template's parts are texts and indices into the parameters, in order.
    """
    from string import Formatter

    def parse(template: str) -> tuple[str | int, ...]:
        parts: list[str | int] = []
        for text, field, spec, conversion in Formatter().parse(template):
            if text:
                parts.append(text)
            if field is None:
                continue
            if not field.isidentifier() or spec or conversion:
                raise ValueError(
                    f"tags: a field is the plain name of a parameter, as in"
                    f" 'user:{{user_id}}', not as in {template!r}"
                )
            if field not in names:
                raise TypeError(f"tags: {shown}() has no parameter {field!r}")
            if field in ignored:
                raise ValueError(
                    f"tags: {field!r} is ignored: calls that share a key would have"
                    " different tags"
                )
            parts.append(names.index(field))
        if not parts:
            raise ValueError("tags: a tag must not be empty")
        return tuple(parts)

    given = [tags] if isinstance(tags, str) or callable(tags) else tags
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise TypeError(
            "tags must be a str, a callable or a list of them, not"
            f" {type(tags).__name__}"
        )
    rows: list[object] = []
    for tag in given:
        if isinstance(tag, str):
            rows.append(parse(tag))
        elif callable(tag):
            rows.append(tag)
        else:
            raise TypeError(
                f"tags: a tag is a str or a callable, not {type(tag).__name__}"
            )
    if len(rows) > 32:
        raise ValueError("tags: a function has 32 tags at most")
    return tuple(rows)
