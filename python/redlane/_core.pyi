"""Types of the _C core. Public names are those of the package `redlane`."""

import builtins
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from os import PathLike
from types import GenericAlias, TracebackType
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    final,
    overload,
    type_check_only,
)

from _typeshed import structseq
from typing_extensions import Buffer, ParamSpec, Self, TypeVar, disjoint_base

from redlane._async_pubsub import AsyncListener
from redlane._pubsub import Listener

_Key: TypeAlias = str | int | float | Buffer
_Value: TypeAlias = str | int | float | Buffer
_Score: TypeAlias = float | str | bytes
_Period: TypeAlias = float | str | timedelta
_Moment: TypeAlias = float | datetime
_CacheKey: TypeAlias = str | bytes
_Tags: TypeAlias = _CacheKey | Iterable[_CacheKey]
_TagsOf: TypeAlias = str | Callable[..., _Tags | None]
_Fags: TypeAlias = (
    _TagsOf
    | list[_TagsOf]
    | tuple[_TagsOf, ...]
    | set[_TagsOf]
    | frozenset[_TagsOf]
    | list[str]
    | list[Callable[..., _Tags | None]]
)
_SerializerName: TypeAlias = Literal["json", "raw", "msgpack", "pickle"]
_SealKey: TypeAlias = str | bytes
_Fallback: TypeAlias = Literal["raise", "memory", "none"]

_Path: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]

_Name: TypeAlias = str | bytes
_Names: TypeAlias = _Name | Iterable[_Name]

_T = TypeVar("_T", str, bytes, default=bytes)
_M = TypeVar("_M", bound=Message | BytesMessage, default=BytesMessage, covariant=True)
_A = TypeVar("_A")
_S = TypeVar("_S")
_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_C = TypeVar("_C", str, bytes, str | bytes)
# Mapping is invariant in its key, so a dict[str, …] is no Mapping[_Key, …].
_K = TypeVar("_K", bound=_Key)
_V = TypeVar("_V", bound=_Value)
_F = TypeVar("_F", bound=Callable[..., Any])

class RedlaneError(Exception): ...
class ConnectionError(RedlaneError, builtins.ConnectionError): ...
class TimeoutError(RedlaneError, builtins.TimeoutError): ...
class ConfigurationError(RedlaneError, ValueError): ...
class SerializationError(RedlaneError): ...
class ReplyError(RedlaneError): ...
class WrongTypeError(ReplyError): ...
class AuthenticationError(ReplyError): ...
class PermissionDeniedError(ReplyError): ...
class ReadOnlyError(ReplyError): ...
class OutOfMemoryError(ReplyError): ...
class LoadingError(ReplyError): ...
class BusyError(ReplyError): ...
class NoScriptError(ReplyError): ...
class ExecAbortError(ReplyError): ...

@disjoint_base
class Client(Generic[_T]):
    @overload
    def __init__(
        self: Client[bytes],
        url: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[False] = False,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Client[str],
        url: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[True],
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Client[Any],
        url: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: bool,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> None: ...
    @overload
    @classmethod
    def from_env(
        cls,
        default: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[False] = False,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> Client[bytes]: ...
    @overload
    @classmethod
    def from_env(
        cls,
        default: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[True],
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> Client[str]: ...
    @overload
    @classmethod
    def from_env(
        cls,
        default: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: bool,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> Client[Any]: ...
    @property
    def url(self) -> str: ...
    @property
    def aio(self) -> AsyncClient[_T]: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def health(self) -> dict[str, Any]: ...
    def _report(self) -> dict[str, Any]: ...
    def _observe(
        self,
        observer: Callable[
            [str, int, str | None, int, int, BaseException | None], object
        ]
        | None,
        keys: bool,
    ) -> None: ...
    def pipeline(self, transaction: bool = False) -> Pipeline[_T]: ...
    @overload
    def subscribe(
        self: Client[bytes],
        *channels: _Name,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> Subscription[BytesMessage]: ...
    @overload
    def subscribe(
        self: Client[str],
        *channels: _Name,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> Subscription[Message]: ...
    @overload
    def listen(
        self: Client[bytes],
        channels: _Names,
        handler: Callable[[BytesMessage], object],
        *,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> Listener: ...
    @overload
    def listen(
        self: Client[str],
        channels: _Names,
        handler: Callable[[Message], object],
        *,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> Listener: ...
    def scan_iter(
        self,
        match: _Key | None = None,
        count: int | None = None,
        _type: _Key | None = None,
    ) -> Iterator[_T]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: builtins.type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def execute(self, command: str | bytes, *args: _Value) -> Any: ...
    def delete(self, *names: _Key) -> int: ...
    def unlink(self, *names: _Key) -> int: ...
    def exists(self, *names: _Key) -> int: ...
    def expire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    def pexpire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    def expireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    def pexpireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    def persist(self, name: _Key) -> bool: ...
    def ttl(self, name: _Key) -> int: ...
    def pttl(self, name: _Key) -> int: ...
    def type(self, name: _Key) -> _T: ...
    def keys(self, pattern: _Key = "*") -> list[_T]: ...
    def scan(
        self,
        cursor: int = 0,
        match: _Key | None = None,
        count: int | None = None,
        _type: _Key | None = None,
    ) -> tuple[int, list[_T]]: ...
    def get(self, name: _Key) -> _T | None: ...
    @overload
    def set(
        self,
        name: _Key,
        value: _Value,
        ex: _Period | None = None,
        px: _Period | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        get: Literal[False] = False,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
    ) -> bool | None: ...
    @overload
    def set(
        self,
        name: _Key,
        value: _Value,
        ex: _Period | None = None,
        px: _Period | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        *,
        get: Literal[True],
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
    ) -> _T | None: ...
    def getdel(self, name: _Key) -> _T | None: ...
    def getex(
        self,
        name: _Key,
        ex: _Period | None = None,
        px: _Period | None = None,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
        persist: bool = False,
    ) -> _T | None: ...
    def getrange(self, key: _Key, start: int, end: int) -> _T: ...
    def mget(self, keys: _Key | Iterable[_Key], *args: _Key) -> list[_T | None]: ...
    def mset(self, mapping: Mapping[_K, _V]) -> bool: ...
    def append(self, key: _Key, value: _Value) -> int: ...
    def strlen(self, name: _Key) -> int: ...
    def incr(self, name: _Key, amount: int = 1) -> int: ...
    def incrby(self, name: _Key, amount: int = 1) -> int: ...
    def decr(self, name: _Key, amount: int = 1) -> int: ...
    def decrby(self, name: _Key, amount: int = 1) -> int: ...
    def incrbyfloat(self, name: _Key, amount: float = 1.0) -> float: ...
    def hset(
        self,
        name: _Key,
        key: _Key | dict[_K, _V] | None = None,
        value: _Value | None = None,
        mapping: Mapping[_K, _V] | None = None,
        items: Sequence[_Value] | None = None,
    ) -> int: ...
    def hget(self, name: _Key, key: _Key) -> _T | None: ...
    def hmget(
        self,
        name: _Key,
        keys: _Key | Iterable[_Key],
        *args: _Key,
    ) -> list[_T | None]: ...
    def hgetall(self, name: _Key) -> dict[_T, _T]: ...
    def hdel(self, name: _Key, *keys: _Key) -> int: ...
    def hexists(self, name: _Key, key: _Key) -> bool: ...
    def hlen(self, name: _Key) -> int: ...
    def hincrby(self, name: _Key, key: _Key, amount: int = 1) -> int: ...
    def sadd(self, name: _Key, *values: _Value) -> int: ...
    def srem(self, name: _Key, *values: _Value) -> int: ...
    def sismember(self, name: _Key, value: _Value) -> int: ...
    def smismember(
        self,
        name: _Key,
        values: _Value | Iterable[_Value],
        *args: _Value,
    ) -> list[int]: ...
    def smembers(self, name: _Key) -> builtins.set[_T]: ...
    def scard(self, name: _Key) -> int: ...
    @overload
    def zadd(
        self,
        name: _Key,
        mapping: Mapping[_K, _Score],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        incr: Literal[False] = False,
        gt: bool = False,
        lt: bool = False,
    ) -> int: ...
    @overload
    def zadd(
        self,
        name: _Key,
        mapping: Mapping[_K, _Score],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        *,
        incr: Literal[True],
        gt: bool = False,
        lt: bool = False,
    ) -> float | None: ...
    def zrem(self, name: _Key, *values: _Value) -> int: ...
    def zscore(self, name: _Key, value: _Value) -> float | None: ...
    def zcard(self, name: _Key) -> int: ...
    @overload
    def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        withscores: Literal[False] = False,
        score_cast_func: Callable[[Any], Any] | None = None,
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> list[_T]: ...
    @overload
    def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        *,
        withscores: Literal[True],
        score_cast_func: None = None,
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> list[tuple[_T, float]]: ...
    @overload
    def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        *,
        withscores: Literal[True],
        score_cast_func: Callable[[Any], _S],
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> list[tuple[_T, _S]]: ...
    def zremrangebyscore(self, name: _Key, min: _Score, max: _Score) -> int: ...
    def ping(self) -> bool: ...
    def echo(self, value: _Value) -> _T: ...
    def time(self) -> tuple[int, int]: ...
    def info(self, section: _Key | None = None, *args: _Key) -> dict[str, Any]: ...
    def dbsize(self) -> int: ...
    def flushdb(self, asynchronous: bool = False) -> bool: ...
    def flushall(self, asynchronous: bool = False) -> bool: ...
    def publish(self, channel: _Key, message: _Value) -> int: ...
    def eval(self, script: _Key, numkeys: int, *keys_and_args: _Value) -> Any: ...
    def evalsha(self, sha: _Key, numkeys: int, *keys_and_args: _Value) -> Any: ...
    def execute_command(self, command: str | bytes, *args: _Value) -> Any: ...

@final
class Pipeline(Generic[_T]):
    def execute(self, raise_on_error: bool = True) -> list[Any]: ...
    def reset(self) -> None: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> Literal[True]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: builtins.type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def delete(self, *names: _Key) -> Self: ...
    def unlink(self, *names: _Key) -> Self: ...
    def exists(self, *names: _Key) -> Self: ...
    def expire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def pexpire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def expireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def pexpireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def persist(self, name: _Key) -> Self: ...
    def ttl(self, name: _Key) -> Self: ...
    def pttl(self, name: _Key) -> Self: ...
    def type(self, name: _Key) -> Self: ...
    def keys(self, pattern: _Key = "*") -> Self: ...
    def scan(
        self,
        cursor: int = 0,
        match: _Key | None = None,
        count: int | None = None,
        _type: _Key | None = None,
    ) -> Self: ...
    def get(self, name: _Key) -> Self: ...
    def set(
        self,
        name: _Key,
        value: _Value,
        ex: _Period | None = None,
        px: _Period | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        get: bool = False,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
    ) -> Self: ...
    def getdel(self, name: _Key) -> Self: ...
    def getex(
        self,
        name: _Key,
        ex: _Period | None = None,
        px: _Period | None = None,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
        persist: bool = False,
    ) -> Self: ...
    def getrange(self, key: _Key, start: int, end: int) -> Self: ...
    def mget(self, keys: _Key | Iterable[_Key], *args: _Key) -> Self: ...
    def mset(self, mapping: Mapping[_K, _V]) -> Self: ...
    def append(self, key: _Key, value: _Value) -> Self: ...
    def strlen(self, name: _Key) -> Self: ...
    def incr(self, name: _Key, amount: int = 1) -> Self: ...
    def incrby(self, name: _Key, amount: int = 1) -> Self: ...
    def decr(self, name: _Key, amount: int = 1) -> Self: ...
    def decrby(self, name: _Key, amount: int = 1) -> Self: ...
    def incrbyfloat(self, name: _Key, amount: float = 1.0) -> Self: ...
    def hset(
        self,
        name: _Key,
        key: _Key | dict[_K, _V] | None = None,
        value: _Value | None = None,
        mapping: Mapping[_K, _V] | None = None,
        items: Sequence[_Value] | None = None,
    ) -> Self: ...
    def hget(self, name: _Key, key: _Key) -> Self: ...
    def hmget(self, name: _Key, keys: _Key | Iterable[_Key], *args: _Key) -> Self: ...
    def hgetall(self, name: _Key) -> Self: ...
    def hdel(self, name: _Key, *keys: _Key) -> Self: ...
    def hexists(self, name: _Key, key: _Key) -> Self: ...
    def hlen(self, name: _Key) -> Self: ...
    def hincrby(self, name: _Key, key: _Key, amount: int = 1) -> Self: ...
    def sadd(self, name: _Key, *values: _Value) -> Self: ...
    def srem(self, name: _Key, *values: _Value) -> Self: ...
    def sismember(self, name: _Key, value: _Value) -> Self: ...
    def smismember(
        self,
        name: _Key,
        values: _Value | Iterable[_Value],
        *args: _Value,
    ) -> Self: ...
    def smembers(self, name: _Key) -> Self: ...
    def scard(self, name: _Key) -> Self: ...
    def zadd(
        self,
        name: _Key,
        mapping: Mapping[_K, _Score],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        incr: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def zrem(self, name: _Key, *values: _Value) -> Self: ...
    def zscore(self, name: _Key, value: _Value) -> Self: ...
    def zcard(self, name: _Key) -> Self: ...
    def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        withscores: bool = False,
        score_cast_func: Callable[[Any], Any] | None = None,
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> Self: ...
    def zremrangebyscore(self, name: _Key, min: _Score, max: _Score) -> Self: ...
    def ping(self) -> Self: ...
    def echo(self, value: _Value) -> Self: ...
    def time(self) -> Self: ...
    def info(self, section: _Key | None = None, *args: _Key) -> Self: ...
    def dbsize(self) -> Self: ...
    def flushdb(self, asynchronous: bool = False) -> Self: ...
    def flushall(self, asynchronous: bool = False) -> Self: ...
    def publish(self, channel: _Key, message: _Value) -> Self: ...
    def eval(self, script: _Key, numkeys: int, *keys_and_args: _Value) -> Self: ...
    def evalsha(self, sha: _Key, numkeys: int, *keys_and_args: _Value) -> Self: ...
    def execute_command(self, command: str | bytes, *args: _Value) -> Self: ...

@disjoint_base
class AsyncClient(Generic[_T]):
    @overload
    def __init__(
        self: AsyncClient[bytes],
        url: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[False] = False,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncClient[str],
        url: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[True],
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncClient[Any],
        url: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: bool,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> None: ...
    @overload
    @classmethod
    def from_env(
        cls,
        default: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[False] = False,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> AsyncClient[bytes]: ...
    @overload
    @classmethod
    def from_env(
        cls,
        default: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: Literal[True],
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> AsyncClient[str]: ...
    @overload
    @classmethod
    def from_env(
        cls,
        default: str | None = None,
        *,
        token: str | None = None,
        fallback: _Fallback = "raise",
        timeout: float | None = None,
        connect_timeout: float | None = None,
        pool_size: int | None = None,
        decode_responses: bool,
        name: str | None = None,
        max_reply: int | None = None,
        max_memory: int | None = None,
        tls_ca: _Path | None = None,
        tls_cert: _Path | None = None,
        tls_key: _Path | None = None,
        tls_key_password: str | bytes | None = None,
        tls_server_name: str | None = None,
    ) -> AsyncClient[Any]: ...
    @property
    def url(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def sync(self) -> Client[_T]: ...
    @property
    def _link_id(self) -> int: ...
    def _close_link(self) -> None: ...
    async def close(self) -> None: ...
    async def aclose(self) -> None: ...
    async def health(self) -> dict[str, Any]: ...
    def pipeline(self, transaction: bool = False) -> AsyncPipeline[_T]: ...
    @overload
    async def listen(
        self: AsyncClient[bytes],
        channels: _Names,
        handler: Callable[[BytesMessage], object],
        *,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> AsyncListener: ...
    @overload
    async def listen(
        self: AsyncClient[str],
        channels: _Names,
        handler: Callable[[Message], object],
        *,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> AsyncListener: ...
    @overload
    def subscribe(
        self: AsyncClient[bytes],
        *channels: _Name,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> Subscription[BytesMessage]: ...
    @overload
    def subscribe(
        self: AsyncClient[str],
        *channels: _Name,
        patterns: _Names = (),
        on_gap: Callable[[Gap], object] | None = None,
        policy: Literal["drop", "wait"] = "drop",
        max_messages: int = 65536,
        max_bytes: int = 67108864,
    ) -> Subscription[Message]: ...
    def scan_iter(
        self,
        match: _Key | None = None,
        count: int | None = None,
        _type: _Key | None = None,
    ) -> AsyncIterator[_T]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: builtins.type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    async def execute(self, command: str | bytes, *args: _Value) -> Any: ...
    async def delete(self, *names: _Key) -> int: ...
    async def unlink(self, *names: _Key) -> int: ...
    async def exists(self, *names: _Key) -> int: ...
    async def expire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    async def pexpire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    async def expireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    async def pexpireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool: ...
    async def persist(self, name: _Key) -> bool: ...
    async def ttl(self, name: _Key) -> int: ...
    async def pttl(self, name: _Key) -> int: ...
    async def type(self, name: _Key) -> _T: ...
    async def keys(self, pattern: _Key = "*") -> list[_T]: ...
    async def scan(
        self,
        cursor: int = 0,
        match: _Key | None = None,
        count: int | None = None,
        _type: _Key | None = None,
    ) -> tuple[int, list[_T]]: ...
    async def get(self, name: _Key) -> _T | None: ...
    @overload
    async def set(
        self,
        name: _Key,
        value: _Value,
        ex: _Period | None = None,
        px: _Period | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        get: Literal[False] = False,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
    ) -> bool | None: ...
    @overload
    async def set(
        self,
        name: _Key,
        value: _Value,
        ex: _Period | None = None,
        px: _Period | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        *,
        get: Literal[True],
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
    ) -> _T | None: ...
    async def getdel(self, name: _Key) -> _T | None: ...
    async def getex(
        self,
        name: _Key,
        ex: _Period | None = None,
        px: _Period | None = None,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
        persist: bool = False,
    ) -> _T | None: ...
    async def getrange(self, key: _Key, start: int, end: int) -> _T: ...
    async def mget(
        self, keys: _Key | Iterable[_Key], *args: _Key
    ) -> list[_T | None]: ...
    async def mset(self, mapping: Mapping[_K, _V]) -> bool: ...
    async def append(self, key: _Key, value: _Value) -> int: ...
    async def strlen(self, name: _Key) -> int: ...
    async def incr(self, name: _Key, amount: int = 1) -> int: ...
    async def incrby(self, name: _Key, amount: int = 1) -> int: ...
    async def decr(self, name: _Key, amount: int = 1) -> int: ...
    async def decrby(self, name: _Key, amount: int = 1) -> int: ...
    async def incrbyfloat(self, name: _Key, amount: float = 1.0) -> float: ...
    async def hset(
        self,
        name: _Key,
        key: _Key | dict[_K, _V] | None = None,
        value: _Value | None = None,
        mapping: Mapping[_K, _V] | None = None,
        items: Sequence[_Value] | None = None,
    ) -> int: ...
    async def hget(self, name: _Key, key: _Key) -> _T | None: ...
    async def hmget(
        self,
        name: _Key,
        keys: _Key | Iterable[_Key],
        *args: _Key,
    ) -> list[_T | None]: ...
    async def hgetall(self, name: _Key) -> dict[_T, _T]: ...
    async def hdel(self, name: _Key, *keys: _Key) -> int: ...
    async def hexists(self, name: _Key, key: _Key) -> bool: ...
    async def hlen(self, name: _Key) -> int: ...
    async def hincrby(self, name: _Key, key: _Key, amount: int = 1) -> int: ...
    async def sadd(self, name: _Key, *values: _Value) -> int: ...
    async def srem(self, name: _Key, *values: _Value) -> int: ...
    async def sismember(self, name: _Key, value: _Value) -> int: ...
    async def smismember(
        self,
        name: _Key,
        values: _Value | Iterable[_Value],
        *args: _Value,
    ) -> list[int]: ...
    async def smembers(self, name: _Key) -> builtins.set[_T]: ...
    async def scard(self, name: _Key) -> int: ...
    @overload
    async def zadd(
        self,
        name: _Key,
        mapping: Mapping[_K, _Score],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        incr: Literal[False] = False,
        gt: bool = False,
        lt: bool = False,
    ) -> int: ...
    @overload
    async def zadd(
        self,
        name: _Key,
        mapping: Mapping[_K, _Score],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        *,
        incr: Literal[True],
        gt: bool = False,
        lt: bool = False,
    ) -> float | None: ...
    async def zrem(self, name: _Key, *values: _Value) -> int: ...
    async def zscore(self, name: _Key, value: _Value) -> float | None: ...
    async def zcard(self, name: _Key) -> int: ...
    @overload
    async def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        withscores: Literal[False] = False,
        score_cast_func: Callable[[Any], Any] | None = None,
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> list[_T]: ...
    @overload
    async def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        *,
        withscores: Literal[True],
        score_cast_func: None = None,
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> list[tuple[_T, float]]: ...
    @overload
    async def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        *,
        withscores: Literal[True],
        score_cast_func: Callable[[Any], _S],
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> list[tuple[_T, _S]]: ...
    async def zremrangebyscore(self, name: _Key, min: _Score, max: _Score) -> int: ...
    async def ping(self) -> bool: ...
    async def echo(self, value: _Value) -> _T: ...
    async def time(self) -> tuple[int, int]: ...
    async def info(
        self, section: _Key | None = None, *args: _Key
    ) -> dict[str, Any]: ...
    async def dbsize(self) -> int: ...
    async def flushdb(self, asynchronous: bool = False) -> bool: ...
    async def flushall(self, asynchronous: bool = False) -> bool: ...
    async def publish(self, channel: _Key, message: _Value) -> int: ...
    async def eval(self, script: _Key, numkeys: int, *keys_and_args: _Value) -> Any: ...
    async def evalsha(self, sha: _Key, numkeys: int, *keys_and_args: _Value) -> Any: ...
    async def execute_command(self, command: str | bytes, *args: _Value) -> Any: ...

@final
class AsyncPipeline(Generic[_T]):
    async def execute(self, raise_on_error: bool = True) -> list[Any]: ...
    def reset(self) -> None: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> Literal[True]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: builtins.type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def delete(self, *names: _Key) -> Self: ...
    def unlink(self, *names: _Key) -> Self: ...
    def exists(self, *names: _Key) -> Self: ...
    def expire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def pexpire(
        self,
        name: _Key,
        time: _Period,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def expireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def pexpireat(
        self,
        name: _Key,
        when: _Moment,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def persist(self, name: _Key) -> Self: ...
    def ttl(self, name: _Key) -> Self: ...
    def pttl(self, name: _Key) -> Self: ...
    def type(self, name: _Key) -> Self: ...
    def keys(self, pattern: _Key = "*") -> Self: ...
    def scan(
        self,
        cursor: int = 0,
        match: _Key | None = None,
        count: int | None = None,
        _type: _Key | None = None,
    ) -> Self: ...
    def get(self, name: _Key) -> Self: ...
    def set(
        self,
        name: _Key,
        value: _Value,
        ex: _Period | None = None,
        px: _Period | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        get: bool = False,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
    ) -> Self: ...
    def getdel(self, name: _Key) -> Self: ...
    def getex(
        self,
        name: _Key,
        ex: _Period | None = None,
        px: _Period | None = None,
        exat: _Moment | None = None,
        pxat: _Moment | None = None,
        persist: bool = False,
    ) -> Self: ...
    def getrange(self, key: _Key, start: int, end: int) -> Self: ...
    def mget(self, keys: _Key | Iterable[_Key], *args: _Key) -> Self: ...
    def mset(self, mapping: Mapping[_K, _V]) -> Self: ...
    def append(self, key: _Key, value: _Value) -> Self: ...
    def strlen(self, name: _Key) -> Self: ...
    def incr(self, name: _Key, amount: int = 1) -> Self: ...
    def incrby(self, name: _Key, amount: int = 1) -> Self: ...
    def decr(self, name: _Key, amount: int = 1) -> Self: ...
    def decrby(self, name: _Key, amount: int = 1) -> Self: ...
    def incrbyfloat(self, name: _Key, amount: float = 1.0) -> Self: ...
    def hset(
        self,
        name: _Key,
        key: _Key | dict[_K, _V] | None = None,
        value: _Value | None = None,
        mapping: Mapping[_K, _V] | None = None,
        items: Sequence[_Value] | None = None,
    ) -> Self: ...
    def hget(self, name: _Key, key: _Key) -> Self: ...
    def hmget(self, name: _Key, keys: _Key | Iterable[_Key], *args: _Key) -> Self: ...
    def hgetall(self, name: _Key) -> Self: ...
    def hdel(self, name: _Key, *keys: _Key) -> Self: ...
    def hexists(self, name: _Key, key: _Key) -> Self: ...
    def hlen(self, name: _Key) -> Self: ...
    def hincrby(self, name: _Key, key: _Key, amount: int = 1) -> Self: ...
    def sadd(self, name: _Key, *values: _Value) -> Self: ...
    def srem(self, name: _Key, *values: _Value) -> Self: ...
    def sismember(self, name: _Key, value: _Value) -> Self: ...
    def smismember(
        self,
        name: _Key,
        values: _Value | Iterable[_Value],
        *args: _Value,
    ) -> Self: ...
    def smembers(self, name: _Key) -> Self: ...
    def scard(self, name: _Key) -> Self: ...
    def zadd(
        self,
        name: _Key,
        mapping: Mapping[_K, _Score],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        incr: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Self: ...
    def zrem(self, name: _Key, *values: _Value) -> Self: ...
    def zscore(self, name: _Key, value: _Value) -> Self: ...
    def zcard(self, name: _Key) -> Self: ...
    def zrange(
        self,
        name: _Key,
        start: _Score,
        end: _Score,
        desc: bool = False,
        withscores: bool = False,
        score_cast_func: Callable[[Any], Any] | None = None,
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> Self: ...
    def zremrangebyscore(self, name: _Key, min: _Score, max: _Score) -> Self: ...
    def ping(self) -> Self: ...
    def echo(self, value: _Value) -> Self: ...
    def time(self) -> Self: ...
    def info(self, section: _Key | None = None, *args: _Key) -> Self: ...
    def dbsize(self) -> Self: ...
    def flushdb(self, asynchronous: bool = False) -> Self: ...
    def flushall(self, asynchronous: bool = False) -> Self: ...
    def publish(self, channel: _Key, message: _Value) -> Self: ...
    def eval(self, script: _Key, numkeys: int, *keys_and_args: _Value) -> Self: ...
    def evalsha(self, sha: _Key, numkeys: int, *keys_and_args: _Value) -> Self: ...
    def execute_command(self, command: str | bytes, *args: _Value) -> Self: ...

@final
class CacheInfo(
    structseq[int], tuple[int, int, int, int, int, int, int, int, int, int, int, int]
):
    __match_args__: Final = (
        "hits",
        "near_hits",
        "misses",
        "waits",
        "stale",
        "refreshes",
        "sets",
        "errors",
        "corrupted",
        "uncached",
        "bytes_read",
        "bytes_written",
    )
    @property
    def hits(self) -> int: ...
    @property
    def near_hits(self) -> int: ...
    @property
    def misses(self) -> int: ...
    @property
    def waits(self) -> int: ...
    @property
    def stale(self) -> int: ...
    @property
    def refreshes(self) -> int: ...
    @property
    def sets(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def corrupted(self) -> int: ...
    @property
    def uncached(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...

@final
class CachedFunction(Generic[_P, _R]):
    __name__: str
    __qualname__: str
    __wrapped__: Callable[_P, _R]
    @property
    def cache(self) -> Cache: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, _Q], _R],
        instance: object,
        owner: Any = None,
        /,
    ) -> _CachedMethod[_Q, _R]: ...
    def invalidate(self, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    def invalidate_all(self) -> int: ...
    def refresh(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def uncached(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> str: ...
    def cache_info(self) -> CacheInfo: ...

# A cached coroutine function: a CachedFunction too, whose methods are awaited.
@type_check_only
@final
class _AsyncCachedFunction(Generic[_P, _A]):
    __name__: str
    __qualname__: str
    __wrapped__: Callable[_P, Coroutine[Any, Any, _A]]
    @property
    def cache(self) -> Cache: ...
    def __call__(
        self, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _A]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(
        self: _AsyncCachedFunction[Concatenate[Any, _Q], _A],
        instance: object,
        owner: Any = None,
        /,
    ) -> _AsyncCachedMethod[_Q, _A]: ...
    def invalidate(
        self, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, bool]: ...
    def invalidate_all(self) -> Coroutine[Any, Any, int]: ...
    def refresh(
        self, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _A]: ...
    def uncached(
        self, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _A]: ...
    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> str: ...
    def cache_info(self) -> CacheInfo: ...

@disjoint_base
class Cache:
    def __new__(
        cls,
        client_or_url: Client[Any] | str | None = None,
        prefix: str = "cache",
        ttl: _Period | None = None,
        serializer: _SerializerName | _Serializer = "json",
        *,
        fallback: _Fallback = "memory",
        strict: bool = False,
        compress: Literal["zlib"] | None = None,
        compress_above: int | None = 1024,
        seal: _SealKey | list[_SealKey] | tuple[_SealKey, ...] | None = None,
        near: bool = True,
        near_ttl: _Period = 60,
    ) -> Self: ...
    @property
    def prefix(self) -> str: ...
    @property
    def client(self) -> Client[Any]: ...
    @property
    def aio(self) -> AsyncCache: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[_P, Coroutine[Any, Any, _A]], /
    ) -> _AsyncCachedFunction[_P, _A]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> CachedFunction[_P, _R]: ...
    @overload
    def __call__(
        self,
        *,
        ttl: _Period | Callable[[Any], _Period | None] | None = None,
        jitter: float | None = None,
        name: str | None = None,
        key: str | Callable[..., str | bytes] | None = None,
        namespace: str | None = None,
        ignore: Iterable[str] | None = None,
        condition: Callable[..., object] | None = None,
        unless: Callable[..., object] | None = None,
        lock: bool = True,
        cache_exceptions: Mapping[type[Exception], _Period] | None = None,
        soft_timeout: _Period | None = None,
        hard_timeout: _Period | None = None,
        share: bool = False,
        stale: _Period | None = None,
        early: bool = False,
        on_error: Literal["stale"] | None = None,
        max_stale: _Period | None = None,
        tags: _Fags | None = None,
    ) -> _CacheDecorator: ...
    def get(self, key: _CacheKey, default: Any = None) -> Any: ...
    def set(
        self,
        key: _CacheKey,
        value: Any,
        ttl: _Period | None = None,
        durable: bool = False,
        tags: _Tags | None = None,
    ) -> bool: ...
    def add(
        self,
        key: _CacheKey,
        value: Any,
        ttl: _Period | None = None,
        tags: _Tags | None = None,
    ) -> bool: ...
    def delete(self, key: _CacheKey, /) -> bool: ...
    def has(self, key: _CacheKey, /) -> bool: ...
    def ttl(self, key: _CacheKey, /) -> float | None: ...
    def touch(self, key: _CacheKey, ttl: _Period | None = None) -> bool: ...
    def increment(
        self, key: _CacheKey, amount: int = 1, ttl: _Period | None = None
    ) -> int | None: ...
    def decrement(
        self, key: _CacheKey, amount: int = 1, ttl: _Period | None = None
    ) -> int | None: ...
    def get_or_set(
        self,
        key: _CacheKey,
        factory: Callable[[], Any],
        ttl: _Period | None = None,
        tags: _Tags | None = None,
    ) -> Any: ...
    def get_many(self, keys: Iterable[_C], /) -> dict[_C, Any]: ...
    def set_many(
        self,
        mapping: Mapping[_C, Any],
        ttl: _Period | None = None,
        durable: bool = False,
        tags: _Tags | None = None,
    ) -> None: ...
    def delete_many(self, keys: Iterable[_CacheKey], /) -> int: ...
    def invalidate(self, pattern: _CacheKey, /) -> int: ...
    def clear(self) -> int: ...
    def invalidate_tags(self, *tags: _CacheKey) -> int: ...
    def namespace(self, name: str, /) -> Cache: ...
    def counter(
        self,
        template: str,
        ttl: _Period | None = None,
        source: Callable[..., int] | None = None,
    ) -> Counter: ...
    def stats(self) -> dict[str, Any]: ...
    def _counts(self) -> dict[str, int]: ...
    def disabled(self) -> AbstractContextManager[None]: ...

@final
class AsyncCache:
    def __new__(
        cls,
        client_or_url: Client[Any] | str | None = None,
        prefix: str = "cache",
        ttl: _Period | None = None,
        serializer: _SerializerName | _Serializer = "json",
        *,
        fallback: _Fallback = "memory",
        strict: bool = False,
        compress: Literal["zlib"] | None = None,
        compress_above: int | None = 1024,
        seal: _SealKey | list[_SealKey] | tuple[_SealKey, ...] | None = None,
        near: bool = True,
        near_ttl: _Period = 60,
    ) -> Self: ...
    @property
    def client(self) -> AsyncClient[Any]: ...
    @property
    def prefix(self) -> str: ...
    @property
    def sync(self) -> Cache: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[_P, Coroutine[Any, Any, _A]], /
    ) -> _AsyncCachedFunction[_P, _A]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> CachedFunction[_P, _R]: ...
    @overload
    def __call__(
        self,
        *,
        ttl: _Period | Callable[[Any], _Period | None] | None = None,
        jitter: float | None = None,
        name: str | None = None,
        key: str | Callable[..., str | bytes] | None = None,
        namespace: str | None = None,
        ignore: Iterable[str] | None = None,
        condition: Callable[..., object] | None = None,
        unless: Callable[..., object] | None = None,
        lock: bool = True,
        cache_exceptions: Mapping[type[Exception], _Period] | None = None,
        soft_timeout: _Period | None = None,
        hard_timeout: _Period | None = None,
        share: bool = False,
        stale: _Period | None = None,
        early: bool = False,
        on_error: Literal["stale"] | None = None,
        max_stale: _Period | None = None,
        tags: _Fags | None = None,
    ) -> _CacheDecorator: ...
    def get(self, key: _CacheKey, default: Any = None) -> Coroutine[Any, Any, Any]: ...
    def set(
        self,
        key: _CacheKey,
        value: Any,
        ttl: _Period | None = None,
        durable: bool = False,
        tags: _Tags | None = None,
    ) -> Coroutine[Any, Any, bool]: ...
    def add(
        self,
        key: _CacheKey,
        value: Any,
        ttl: _Period | None = None,
        tags: _Tags | None = None,
    ) -> Coroutine[Any, Any, bool]: ...
    def delete(self, key: _CacheKey, /) -> Coroutine[Any, Any, bool]: ...
    def has(self, key: _CacheKey, /) -> Coroutine[Any, Any, bool]: ...
    def ttl(self, key: _CacheKey, /) -> Coroutine[Any, Any, float | None]: ...
    def touch(
        self, key: _CacheKey, ttl: _Period | None = None
    ) -> Coroutine[Any, Any, bool]: ...
    def increment(
        self, key: _CacheKey, amount: int = 1, ttl: _Period | None = None
    ) -> Coroutine[Any, Any, int | None]: ...
    def decrement(
        self, key: _CacheKey, amount: int = 1, ttl: _Period | None = None
    ) -> Coroutine[Any, Any, int | None]: ...
    def get_or_set(
        self,
        key: _CacheKey,
        factory: Callable[[], Any | Coroutine[Any, Any, Any]],
        ttl: _Period | None = None,
        tags: _Tags | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def get_many(self, keys: Iterable[_C], /) -> Coroutine[Any, Any, dict[_C, Any]]: ...
    def set_many(
        self,
        mapping: Mapping[_C, Any],
        ttl: _Period | None = None,
        durable: bool = False,
        tags: _Tags | None = None,
    ) -> Coroutine[Any, Any, None]: ...
    def delete_many(self, keys: Iterable[_CacheKey], /) -> Coroutine[Any, Any, int]: ...
    def invalidate(self, pattern: _CacheKey, /) -> Coroutine[Any, Any, int]: ...
    def clear(self) -> Coroutine[Any, Any, int]: ...
    def invalidate_tags(self, *tags: _CacheKey) -> Coroutine[Any, Any, int]: ...
    def namespace(self, name: str, /) -> AsyncCache: ...
    def counter(
        self,
        template: str,
        ttl: _Period | None = None,
        source: Callable[..., int | Coroutine[Any, Any, int]] | None = None,
    ) -> AsyncCounter: ...
    def stats(self) -> Coroutine[Any, Any, dict[str, Any]]: ...
    def disabled(self) -> AbstractContextManager[None]: ...

@final
class Counter:
    def __new__(
        cls,
        client: Client[Any] | Cache | str | None,
        template: str,
        ttl: _Period | None = None,
        source: Callable[..., int] | None = None,
        *,
        fallback: _Fallback = "memory",
    ) -> Self: ...
    @property
    def template(self) -> str: ...
    @property
    def aio(self) -> AsyncCounter: ...
    def get(self, *ids: object) -> int | None: ...
    def increment(self, *ids: object, amount: int = 1) -> int | None: ...
    def decrement(self, *ids: object, amount: int = 1) -> int | None: ...
    def transfer(self, old: object, new: object) -> tuple[int | None, int | None]: ...
    def delete(self, *ids: object) -> bool: ...
    def reset(self, *ids: object) -> bool: ...
    def key(self, *ids: object) -> str: ...

@final
class AsyncCounter:
    def __new__(
        cls,
        client: Client[Any] | Cache | AsyncCache | str | None,
        template: str,
        ttl: _Period | None = None,
        source: Callable[..., int | Coroutine[Any, Any, int]] | None = None,
        *,
        fallback: _Fallback = "memory",
    ) -> Self: ...
    @property
    def template(self) -> str: ...
    @property
    def sync(self) -> Counter: ...
    def get(self, *ids: object) -> Coroutine[Any, Any, int | None]: ...
    def increment(
        self, *ids: object, amount: int = 1
    ) -> Coroutine[Any, Any, int | None]: ...
    def decrement(
        self, *ids: object, amount: int = 1
    ) -> Coroutine[Any, Any, int | None]: ...
    def transfer(
        self, old: object, new: object
    ) -> Coroutine[Any, Any, tuple[int | None, int | None]]: ...
    def delete(self, *ids: object) -> Coroutine[Any, Any, bool]: ...
    def reset(self, *ids: object) -> Coroutine[Any, Any, bool]: ...
    def key(self, *ids: object) -> str: ...

_Algorithm: TypeAlias = Literal[
    "sliding-window",
    "fixed-window",
    "sliding-log",
    "moving-window",
    "token-bucket",
    "gcra",
]
_OnError: TypeAlias = Literal["memory", "allow", "deny"]
_Rate: TypeAlias = str | tuple[int, int] | tuple[int, int, int]
_Rates: TypeAlias = _Rate | list[_Rate] | list[str]
_Identity: TypeAlias = str | bytes | int

@final
class LimitStatus(structseq[Any], tuple[int, int, int, float, float, bool]):
    __match_args__: Final = (
        "limit",
        "window",
        "remaining",
        "reset_after",
        "retry_after",
        "allowed",
    )
    @property
    def limit(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_after(self) -> float: ...
    @property
    def retry_after(self) -> float: ...
    @property
    def allowed(self) -> bool: ...

@final
class Decision:
    @property
    def allowed(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_after(self) -> float: ...
    @property
    def retry_after(self) -> float: ...
    @property
    def limits(self) -> tuple[LimitStatus, ...]: ...
    def headers(self) -> list[tuple[str, str]]: ...
    def raw_headers(self) -> list[tuple[bytes, bytes]]: ...
    def __bool__(self) -> bool: ...

class _Limit(Protocol):
    def __call__(
        self,
        rates: _Rates | Callable[..., Any] | None = None,
        *,
        key: _Identity | Callable[..., Any] | None = None,
        cost: int | Callable[..., Any] = 1,
        exempt_when: Callable[..., object] | None = None,
        deduct_when: Callable[[Any], object] | None = None,
        scope: str | None = None,
        methods: Iterable[str] | None = None,
        error_message: str | Callable[[Decision], str] | None = None,
        trusted_hops: int | None = None,
        requests_limit: int | None = None,
        time_window: int | None = None,
    ) -> Callable[[_F], _F]: ...

@type_check_only
class _LimitMethod:
    def __get__(self, instance: object, owner: type | None = None) -> _Limit: ...

@final
class RateLimiter:
    def __new__(
        cls,
        client: Client[Any] | AsyncClient[Any] | str | None = None,
        algorithm: _Algorithm = "sliding-window",
        on_error: _OnError = "memory",
        *,
        prefix: str | None = None,
        hashed: bool = False,
        batch: int | None = None,
    ) -> Self: ...
    @property
    def algorithm(self) -> _Algorithm: ...
    @property
    def prefix(self) -> str: ...
    @property
    def on_error(self) -> _OnError: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def aio(self) -> AsyncRateLimiter: ...
    def hit(self, identity: _Identity, rates: _Rates, cost: int = 1) -> Decision: ...
    def peek(self, identity: _Identity, rates: _Rates, cost: int = 1) -> Decision: ...
    def refund(self, identity: _Identity, rates: _Rates, cost: int = 1) -> Decision: ...
    def reset(self, identity: _Identity, rates: _Rates) -> bool: ...
    def stats(self) -> dict[str, int]: ...
    limit: _LimitMethod

@final
class AsyncRateLimiter:
    def __new__(
        cls,
        client: Client[Any] | AsyncClient[Any] | str | None = None,
        algorithm: _Algorithm = "sliding-window",
        on_error: _OnError = "memory",
        *,
        prefix: str | None = None,
        hashed: bool = False,
        batch: int | None = None,
    ) -> Self: ...
    @property
    def algorithm(self) -> _Algorithm: ...
    @property
    def prefix(self) -> str: ...
    @property
    def on_error(self) -> _OnError: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def sync(self) -> RateLimiter: ...
    def hit(
        self, identity: _Identity, rates: _Rates, cost: int = 1
    ) -> Coroutine[Any, Any, Decision]: ...
    def peek(
        self, identity: _Identity, rates: _Rates, cost: int = 1
    ) -> Coroutine[Any, Any, Decision]: ...
    def refund(
        self, identity: _Identity, rates: _Rates, cost: int = 1
    ) -> Coroutine[Any, Any, Decision]: ...
    def reset(
        self, identity: _Identity, rates: _Rates
    ) -> Coroutine[Any, Any, bool]: ...
    def stats(self) -> Coroutine[Any, Any, dict[str, int]]: ...
    limit: _LimitMethod

# A cached function with its object: obj.method. All else is as of the function.
@type_check_only
@final
class _CachedMethod(Generic[_Q, _R]):
    __name__: str
    __qualname__: str
    __self__: object
    __wrapped__: Callable[_Q, _R]
    @property
    def cache(self) -> Cache: ...
    def __call__(self, *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    def invalidate(self, *args: _Q.args, **kwargs: _Q.kwargs) -> bool: ...
    def invalidate_all(self) -> int: ...
    def refresh(self, *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    def uncached(self, *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    def cache_key(self, *args: _Q.args, **kwargs: _Q.kwargs) -> str: ...
    def cache_info(self) -> CacheInfo: ...

@type_check_only
@final
class _AsyncCachedMethod(Generic[_Q, _A]):
    __name__: str
    __qualname__: str
    __self__: object
    __wrapped__: Callable[_Q, Coroutine[Any, Any, _A]]
    @property
    def cache(self) -> Cache: ...
    def __call__(
        self, *args: _Q.args, **kwargs: _Q.kwargs
    ) -> Coroutine[Any, Any, _A]: ...
    def invalidate(
        self, *args: _Q.args, **kwargs: _Q.kwargs
    ) -> Coroutine[Any, Any, bool]: ...
    def invalidate_all(self) -> Coroutine[Any, Any, int]: ...
    def refresh(
        self, *args: _Q.args, **kwargs: _Q.kwargs
    ) -> Coroutine[Any, Any, _A]: ...
    def uncached(
        self, *args: _Q.args, **kwargs: _Q.kwargs
    ) -> Coroutine[Any, Any, _A]: ...
    def cache_key(self, *args: _Q.args, **kwargs: _Q.kwargs) -> str: ...
    def cache_info(self) -> CacheInfo: ...

# What Cache(...)(ttl=…) returns; it is no type of the module.
@type_check_only
class _CacheDecorator(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[_P, Coroutine[Any, Any, _A]], /
    ) -> _AsyncCachedFunction[_P, _A]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> CachedFunction[_P, _R]: ...

@type_check_only
class _Serializer(Protocol):
    def dumps(self, value: Any, /) -> bytes: ...
    def loads(self, data: bytes, /) -> Any: ...

@final
class VideoCache:
    def __new__(
        cls, client: Client[Any] | str | None = None, *, lazy: bool = False
    ) -> Self: ...
    def set(
        self,
        black_card: str,
        white_cards: Sequence[str],
        video_url: str,
        permanent: bool = False,
    ) -> bool: ...
    def get(self, black_card: str, white_cards: Sequence[str]) -> str | None: ...
    def get_stats(self) -> dict[str, Any]: ...
    def startup(self) -> None: ...
    @property
    def aio(self) -> AsyncVideoCache: ...

@final
class AsyncVideoCache:
    def __new__(cls, client: Client[Any] | str | None = None) -> Self: ...
    @property
    def sync(self) -> VideoCache: ...
    def set(
        self,
        black_card: str,
        white_cards: Sequence[str],
        video_url: str,
        permanent: bool = False,
    ) -> Coroutine[Any, Any, bool]: ...
    def get(
        self, black_card: str, white_cards: Sequence[str]
    ) -> Coroutine[Any, Any, str | None]: ...
    def get_stats(self) -> Coroutine[Any, Any, dict[str, Any]]: ...
    def startup(self) -> Coroutine[Any, Any, None]: ...

@final
class CooldownState:
    def __new__(cls, ready: bool, remaining: float = 0.0) -> Self: ...
    @property
    def ready(self) -> bool: ...
    @property
    def remaining(self) -> float: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Cooldown:
    def __new__(
        cls,
        client: Client[Any] | AsyncClient[Any] | str | None,
        seconds: _Period,
        *,
        prefix: str = "cooldown",
        fallback: _Fallback = "memory",
    ) -> Self: ...
    @property
    def seconds(self) -> float: ...
    @property
    def prefix(self) -> str: ...
    @property
    def aio(self) -> AsyncCooldown: ...
    def acquire(self, id: object) -> CooldownState: ...
    def peek(self, id: object) -> CooldownState: ...
    def reset(self, id: object) -> bool: ...
    def key(self, id: object) -> str: ...

@final
class AsyncCooldown:
    def __new__(
        cls,
        client: Client[Any] | AsyncClient[Any] | str | None,
        seconds: _Period,
        *,
        prefix: str = "cooldown",
        fallback: _Fallback = "memory",
    ) -> Self: ...
    @property
    def seconds(self) -> float: ...
    @property
    def prefix(self) -> str: ...
    @property
    def sync(self) -> Cooldown: ...
    def acquire(self, id: object) -> Coroutine[Any, Any, CooldownState]: ...
    def peek(self, id: object) -> Coroutine[Any, Any, CooldownState]: ...
    def reset(self, id: object) -> Coroutine[Any, Any, bool]: ...
    def key(self, id: object) -> str: ...

# What the tools that are written in Python need of a client; its policy is their own.
@final
class ToolHandle:
    def __new__(
        cls,
        client: Client[Any] | AsyncClient[Any] | str | None,
        fallback: _Fallback,
        space: bytes = ...,
    ) -> Self: ...
    @property
    def aio(self) -> AsyncToolHandle: ...
    def script(
        self, name: str, keys: Sequence[_Key], args: Sequence[_Value], /
    ) -> tuple[Any, str]: ...
    def run(self, name: str, /, *args: _Value) -> tuple[Any, str]: ...
    def forget(self, pattern: bytes, answered: str, /) -> None: ...
    @staticmethod
    def milliseconds(duration: _Period, name: str, /) -> int: ...

@final
class AsyncToolHandle:
    @property
    def sync(self) -> ToolHandle: ...
    def script(
        self, name: str, keys: Sequence[_Key], args: Sequence[_Value], /
    ) -> Coroutine[Any, Any, tuple[Any, str]]: ...
    def run(
        self, name: str, /, *args: _Value
    ) -> Coroutine[Any, Any, tuple[Any, str]]: ...
    def forget(self, pattern: bytes, answered: str, /) -> Coroutine[Any, Any, None]: ...

@disjoint_base
class TenantCache:
    def __new__(
        cls,
        client: Client[Any] | AsyncClient[Any] | str | None,
        context_type: type[TenantContext],
    ) -> Self: ...
    @property
    def errors(self) -> int: ...
    def with_context(self, app_id: str, device_id: str) -> TenantContext: ...

@disjoint_base
class TenantContext:
    @property
    def cache(self) -> TenantCache: ...
    @property
    def scope(self) -> bytes: ...
    @property
    def app_id(self) -> str: ...
    @property
    def device_id(self) -> str: ...
    def get(self, key: str) -> tuple[bytes | None, bool]: ...
    def set(self, key: str, value: Buffer, ttl: _Period) -> bool: ...
    def key(self, name: str, /) -> str: ...

@disjoint_base
class AsyncTenantContext:
    def __new__(cls, sync: TenantContext) -> Self: ...
    @property
    def sync(self) -> TenantContext: ...
    @property
    def app_id(self) -> str: ...
    @property
    def device_id(self) -> str: ...
    def get(self, key: str) -> Coroutine[Any, Any, tuple[bytes | None, bool]]: ...
    def set(
        self, key: str, value: Buffer, ttl: _Period
    ) -> Coroutine[Any, Any, bool]: ...
    def key(self, name: str, /) -> str: ...

@final
class Message(str):
    def __new__(
        cls, data: str, channel: str | bytes, pattern: str | bytes | None = None
    ) -> Self: ...
    @property
    def channel(self) -> str: ...
    @property
    def pattern(self) -> str | None: ...
    @property
    def data(self) -> str: ...

@final
class BytesMessage(bytes):
    def __new__(
        cls, data: bytes, channel: str | bytes, pattern: str | bytes | None = None
    ) -> Self: ...
    @property
    def channel(self) -> bytes: ...
    @property
    def pattern(self) -> bytes | None: ...
    @property
    def data(self) -> bytes: ...

@final
class Gap(structseq[Any], tuple[str, float, int]):
    __match_args__: Final = ("reason", "seconds", "dropped")
    @property
    def reason(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def dropped(self) -> int: ...

@final
class Subscription(Generic[_M]):
    @property
    def channels(self) -> tuple[_Name, ...]: ...
    @property
    def patterns(self) -> tuple[_Name, ...]: ...
    @property
    def live(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def waiting(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def gaps(self) -> int: ...
    def get(self, timeout: float | None = None) -> _M | None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def close(self) -> None: ...
    def aclose(self) -> Awaitable[None]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _M: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: builtins.type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[_M]: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(
        self,
        kind: builtins.type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Awaitable[None]: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

@final
class Monitor:
    def __new__(cls, client: Client[Any]) -> Self: ...
    def read(self, seconds: float, /) -> bytes: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...

def content_key(prefix: str, black_card: str, white_cards: Sequence[str], /) -> str: ...
def _check_url(url: str, source: str = "url") -> str: ...
def _default_changed() -> None: ...
def _is_read(name: bytes, /) -> bool: ...
def _look(
    scope: MutableMapping[str, Any], special: frozenset[bytes], /
) -> tuple[str, str, str, str] | None: ...
def _peek(function: CachedFunction[..., Any], reads: bool, /, *args: object) -> Any: ...
def _publish(client: Client[Any], channel: str | bytes, value: object, /) -> int: ...
async def _publish_async(
    client: AsyncClient[Any], channel: str | bytes, value: object, /
) -> int: ...
def _read_message(message: Message | BytesMessage, /) -> tuple[str, Any]: ...
def _read_stored(stored: bytes, /) -> tuple[str, dict[str, Any], bytes]: ...
def _script_text(sha1: bytes, /) -> bytes | None: ...
def _url_db(url: str) -> int | None: ...
