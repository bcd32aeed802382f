"""What cached functions and their arguments are, in terms the C core can put in a key.

The core encodes the exact built-in types by itself; this module is asked once for each
decorated function, and for each argument of another type.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

__all__ = [
    "NO_DEFAULT",
    "describe_callable",
    "describe_key",
    "describe_tags",
    "describe_template",
    "describe_value",
]

NO_DEFAULT = object()

# The slots of `type` itself, so that no metaclass runs code of its own.
_module_of = type.__dict__["__module__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__
_mro_of = type.__dict__["__mro__"].__get__
_is_derived = type.__subclasscheck__  # (base, cls)

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


# A class or enum made from data may have any name, and its module too: what the key's
# grammar uses goes. A module's tag has ':' and '%' escaped already.
_NAME_ESCAPES = {ord(c): f"%{ord(c):02X}" for c in '%:,()[]{}="/*'}
_TAG_ESCAPES = {ord(c): f"%{ord(c):02X}" for c in ',()[]{}="/*'}


def _escape_name(name: str) -> str:
    return name.translate(_NAME_ESCAPES)


# The same for exact str, which many calls ask again and again.
_escape_known_name = lru_cache(maxsize=1024)(_escape_name)


@lru_cache(maxsize=1024)
def _module_in_tag(module: str) -> str:
    return _module_tag(module).translate(_TAG_ESCAPES)


def _type_tag(cls: type) -> str:
    module = _module_of(cls)
    if type(module) is not str or module == "__main__":  # whose file may change
        tag = _module_tag(module).translate(_TAG_ESCAPES)
    else:
        tag = _module_in_tag(module)
    name = _qualname_of(cls)
    escape = _escape_known_name if type(name) is str else _escape_name
    return f"{tag}/{escape(name)}"


def _lookup(cls: type, name: str) -> Any:
    """A class attribute as it stands in the class."""
    return next((vars(base)[name] for base in _mro_of(cls) if name in vars(base)), None)


def _code_of(function: Any) -> Any:
    """The code that a call of `function` runs first, where that is known."""
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        while _is_partial(function):
            function = function.func
        call = _lookup(type(function), "__call__")
        code = getattr(function, "__code__", None) or getattr(call, "__code__", None)
    return code


def _refuse_generators(shown: str, flags: int) -> None:
    if flags & _CO_ASYNC_GENERATOR:
        kind, better = "an asynchronous generator", "async def"
    elif flags & _CO_GENERATOR:
        kind, better = "a generator", "def"
    else:
        return
    raise TypeError(
        f"{shown}() is {kind} function: what it yields can be taken only once, so"
        f" there is nothing to cache; let cache have a function ({better}) that"
        " returns a list"
    )


def _is_instance_of_python_class(function: Any) -> bool:
    """A callable object; but a decorator's wrapper stands for its function."""
    kind = type(function)
    return (
        kind is not FunctionType
        and not isinstance(function, type)
        and type(_lookup(kind, "__call__")) is FunctionType
        and not isinstance(getattr(function, "__wrapped__", None), FunctionType)
    )


def _is_partial(function: Any) -> bool:
    kind = type(function)
    return _module_of(kind) == "functools" and kind.__name__ == "partial"


def _unwrap(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """What a bound method, a partial or a callable object calls in the end, and the
    arguments that it brings along."""
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while True:
        kind = type(function)
        if kind is MethodType:
            args = (function.__self__, *args)
            function = function.__func__
        elif _is_partial(function):
            args = (*function.args, *args)
            keywords = {**function.keywords, **keywords}
            function = function.func
        elif _is_instance_of_python_class(function):
            args = (function, *args)
            function = _lookup(kind, "__call__")
        else:
            return function, args, keywords


def _hides_state(function: Any) -> bool:
    """Whether two such callables can differ in what nothing here can tell."""
    kind = type(function)
    if kind is BuiltinFunctionType:
        owner = function.__self__
        return owner is not None and not isinstance(owner, (type, ModuleType))
    if _module_of(kind) == "operator":
        return kind.__name__ in ("itemgetter", "attrgetter", "methodcaller")
    # A Python class whose __call__ is no plain function, such as a cached one.
    return (
        kind is not FunctionType
        and not isinstance(function, type)
        and not isinstance(_lookup(kind, "__call__"), WrapperDescriptorType)
        and not isinstance(getattr(function, "__wrapped__", None), FunctionType)
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


def _shown(function: Any) -> str:
    """The qualified name, for keys and messages."""
    while _is_partial(function):
        function = function.func
    shown = getattr(function, "__qualname__", None)
    return shown if isinstance(shown, str) else type(function).__qualname__


def _head(function: Any, shown: str, name: str | None) -> str:
    """``name:module:``, what the default keys of a function begin with."""
    if name is None:
        name = shown.rsplit("<locals>.", 1)[-1]
    elif not isinstance(name, str) or not name:
        raise TypeError("name must be a non-empty str")
    while _is_partial(function):
        function = function.func
    module = getattr(function, "__module__", None)
    return f"{_escape(name)}:{_module_tag(module)}:"


def describe_callable(
    function: Any,
    name: str | None = None,
    namespace: str | None = None,
    key: Any = None,
) -> tuple[
    str,
    str,
    tuple[str, ...],
    int,
    int,
    str | None,
    str | None,
    tuple[Any, ...],
    tuple[Any, ...],
    dict[str, Any],
    CodeType | None,
]:
    """The key's head, a name for messages, the parameters, what the callable brings
    along for them, and, of a coroutine function, its code.

    The head is ``namespace:name:module:``; with a key of its own, ``namespace:``.
    """
    if not callable(function):
        raise TypeError(
            f"only a callable can be cached, not {type(function).__name__!r}"
        )
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise TypeError("namespace must be a non-empty str")
    shown = _shown(function)
    code = _code_of(function)
    flags = getattr(code, "co_flags", 0)
    _refuse_generators(shown, flags)
    if key is not None and name is not None:
        raise TypeError("key= says the whole key: name= has no place in it")
    head = f"{_escape(namespace)}:" if namespace else ""
    inner: Any = function
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    if key is None:
        head += _head(function, shown, name)
    if name is None and (key is None or isinstance(key, str)):
        inner, args, keywords = _unwrap(function)
        if key is None and _hides_state(inner):
            raise TypeError(needs_name(shown))
    return (
        head,
        shown,
        *_parameters(inner),
        args,
        keywords,
        code if flags & _CO_COROUTINE else None,
    )


def needs_name(shown: str) -> str:
    return (
        f"{shown}: it carries a value that has no text for a key: give name=, which"
        " tells it from others of its kind, or ignore= that parameter"
    )


def _parse_template(template: str) -> tuple[list[str], list[str]]:
    """The texts and the fields of "text{field}text"; one text more than fields."""
    from string import Formatter

    texts, fields = [""], []
    try:
        for text, field, spec, conversion in Formatter().parse(template):
            texts[-1] += text
            if field is None:
                continue
            if not field.isidentifier() or spec or conversion:
                raise ValueError(
                    f"a field is a parameter's plain name, not {{{field}}};"
                    " for more give a callable"
                )
            fields.append(field)
            texts.append("")
    except ValueError as error:
        raise ValueError(f"key={template!r}: {error}") from None
    return texts, fields


def describe_key(
    template: str,
    shown: str,
    parameters: tuple[str | None, ...],
    ignored: tuple[bool, ...],
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """A key's template: its texts, and which parameter each field between them is.

    Every parameter is a field or ignored, so that no two calls share a key by mistake.
    The last two of the parameters are *args and **kwargs, None where there are none.
    """
    texts, fields = _parse_template(template)
    if not template:
        raise ValueError("key must not be empty")
    for field in fields:
        if field not in parameters:
            raise TypeError(f"key={template!r}: {shown}() has no parameter {field!r}")
    if "" in texts[1:-1]:
        raise ValueError(
            f"key={template!r}: two fields need a text between them, such as ':'"
        )
    for parameter, skip in zip(parameters, ignored, strict=True):
        if parameter is None:
            continue
        if skip and parameter in fields:
            raise TypeError(f"key={template!r}: {parameter!r} is in ignore= too")
        if not skip and parameter not in fields:
            raise TypeError(
                f"key={template!r}: calls of {shown}() that differ in {parameter!r}"
                f" would share a key: write {{{parameter}}} into it, or leave the"
                f" argument out with ignore=[{parameter!r}]"
            )
    return tuple(texts), tuple(parameters.index(field) for field in fields)


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
    if issubclass(cls, type):
        return "type", (None, _type_tag(value))
    enum = sys.modules.get("enum")
    if enum is not None and _is_derived(enum.Enum, cls):
        return _describe_enum(value, cls, _is_derived(enum.Flag, cls))
    if issubclass(cls, _BUILTINS):
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
