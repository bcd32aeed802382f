"""The server that the environment names.

No file is read. An empty variable is unset. No message holds a URL or a password.
"""

from __future__ import annotations

import os

from redlane import _core

__all__ = ["DEFAULT_URL", "find_url"]

DEFAULT_URL = "redis://localhost:6379"

_UNRESERVED = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
)
_UPSTASH = ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN")
_REDIS_PY = {
    "tls_ca": "ssl_ca_certs",
    "tls_cert": "ssl_certfile",
    "tls_key": "ssl_keyfile",
    "tls_key_password": "ssl_keyfile_password",
}
_MAX_DB = 2**31 - 1

_warned: set[tuple[int, int]] = set()


def find_url(default: str | None = None) -> str:
    """The URL of the server to use.

    REDIS_URL (with REDIS_DB and, on rediss://, REDIS_TLS_CA, REDIS_TLS_CERT,
    REDIS_TLS_KEY, REDIS_TLS_KEY_PASSWORD, REDIS_TLS_SERVER_NAME), else REDIS_ADDR with
    REDIS_PASSWORD and REDIS_DB, else UPSTASH_REDIS_REST_URL with
    UPSTASH_REDIS_REST_TOKEN, else ``default``, else redis://localhost:6379. A password
    or a database number alone applies to the default server of that address.

    :raises ConfigurationError: which names the variable, for a value that is not usable
    """
    try:
        return _find(default)
    except Exception as error:  # noqa: BLE001 - raised again
        # Without the frames within: what shows a traceback may show a frame's
        # variables, and theirs are passwords.
        del default
        raise error.with_traceback(None) from None


def _find(default: str | None) -> str:
    url = _variable("REDIS_URL")
    if url is not None:
        _core._check_url(url, "REDIS_URL")
        return _with_tls(_with_db(url, _database()), "REDIS_URL")
    address = _variable("REDIS_ADDR")
    if address is not None:
        return _from_address(address)
    if any(_variable(name) is not None for name in _UPSTASH):
        return _from_upstash()
    if default is not None:
        return default
    return _from_address("localhost:6379", source=None)


def _from_upstash() -> str:
    url, token = (_variable(name) for name in _UPSTASH)
    if url is None or token is None:
        given, missing = _UPSTASH if token is None else reversed(_UPSTASH)
        raise _core.ConfigurationError(f"{given}: it goes with {missing}")
    if not all("!" <= character <= "~" for character in token):
        raise _core.ConfigurationError(f"{_UPSTASH[1]}: must be printable ASCII")
    if not url.lower().startswith(("https://", "http://")) or "?" in url:
        raise _core.ConfigurationError(
            f"{_UPSTASH[0]}: must be an https:// URL without a query"
        )
    whole = f"{url}?token={_quote(token)}"
    _core._check_url(whole, _UPSTASH[0])
    return whole


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None


def _database() -> int | None:
    text = _variable("REDIS_DB")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > _MAX_DB:
        raise _core.ConfigurationError("REDIS_DB: must be a database number, such as 0")
    return int(text)


def _quote(text: str) -> str:
    """Percent-encoding, without the 5 ms that urllib.parse takes to import."""
    try:
        data = text.encode()
    except UnicodeEncodeError:  # its message would hold the password
        data = os.fsencode(text)
    return "".join(
        chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data
    )


def _from_address(
    address: str,
    source: str | None = "REDIS_ADDR",
    password: str | None = None,
    database: int | None = None,
) -> str:
    """redis:// with the address, and what is None by REDIS_PASSWORD and REDIS_DB."""
    if password is None:
        password = _variable("REDIS_PASSWORD")
    if database is None:
        database = _database()
    if any(character in address for character in "/@?#%") or address != address.strip():
        raise _core.ConfigurationError(f"{source}: must be host:port")
    if source is not None:
        _core._check_url(f"redis://{address}", source)
    user = f":{_quote(password)}@" if password else ""
    path = f"/{database}" if database is not None else ""
    return _with_tls(f"redis://{user}{address}{path}", source)


def _with_tls(url: str, source: str | None) -> str:
    """The URL with the REDIS_TLS_ variables, but those that it names itself."""
    given = {
        "tls_ca": _variable("REDIS_TLS_CA"),
        "tls_cert": _variable("REDIS_TLS_CERT"),
        "tls_key": _variable("REDIS_TLS_KEY"),
        "tls_key_password": _variable("REDIS_TLS_KEY_PASSWORD"),
        "tls_server_name": _variable("REDIS_TLS_SERVER_NAME"),
    }
    query = url.partition("?")[2]
    named = {option.partition("=")[0] for option in query.split("&")}
    added = [
        (name, value)
        for name, value in given.items()
        if value is not None and not named & {name, _REDIS_PY.get(name)}
    ]
    if not added:
        return url
    variables = ", ".join(f"REDIS_{name.upper()}" for name, _ in added)
    if not url.lower().startswith("rediss://"):
        where = f"{source} is not" if source else "there is no REDIS_URL that is"
        raise _core.ConfigurationError(f"{variables}: {where} a rediss:// URL")
    options = "&".join(f"{name}={_quote(value)}" for name, value in added)
    url = f"{url}{'&' if query else '' if url.endswith('?') else '?'}{options}"
    _core._check_url(url, f"{source} with {variables}")
    return url


def _with_db(url: str, database: int | None) -> str:
    """The URL with REDIS_DB, unless it names a database itself."""
    if database is None:
        return url
    named = _core._url_db(url)
    if named is None:
        return _append_db(url, database)
    if named != database and (named, database) not in _warned:
        _warned.add((named, database))
        from redlane._logging import get_logger

        get_logger().warning(
            "REDIS_URL names database %d and REDIS_DB %d: the URL's is used",
            named,
            database,
            extra={"event": "redlane.config.database"},
        )
    return url


def _append_db(url: str, database: int) -> str:
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in {"redis", "rediss", "unix"}:
        return url
    base, mark, query = rest.partition("?")
    if scheme.lower() == "unix":
        return f"{url}{'&' if mark else '?'}db={database}"
    return f"{scheme}://{base.rstrip('/')}/{database}{mark}{query}"
