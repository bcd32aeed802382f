"""Debian's Chromium, headless, driven over its DevTools protocol: `with browser() as
page`. Nothing else is needed for it than the tests' own WebSocket client; selenium
would want a driver besides, and twenty packages. Nothing here waits without a bound."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from children import started
from websocket_client import WebSocket

# Far above what it takes on a machine that has nothing else to do.
START_SECONDS = 120.0
ANSWER_SECONDS = 60.0
WAIT_SECONDS = 60.0
SWITCHES = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    # A page behind another one is a user all the same.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--mute-audio",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
)


class Connection:
    """One DevTools connection. What the page throws is gathered in `errors`."""

    def __init__(self, port: int, path: str) -> None:
        self.errors: list[str] = []
        self._link = WebSocket(port, path)
        self._number = 0

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._link.send({"id": self._number, "method": method, "params": params})
        end = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                message = self._link.get(end - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"the browser did not answer {method}") from None
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            if message.get("method") == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                what = details.get("exception", {}).get("description")
                self.errors.append(what or details["text"])

    def close(self) -> None:
        self._link.__exit__()


class Page:
    """A tab with cookies and storage of its own: one user."""

    def __init__(self, chromium: Chromium, link: Connection) -> None:
        self._chromium = chromium
        self._link = link
        for domain in ("Page", "Runtime"):
            link.call(f"{domain}.enable")

    def another(self) -> Page:
        """A page of another user, in the same browser."""
        return self._chromium.page()

    def open(self, url: str) -> None:
        """Goes there; returns when the document and what it names are loaded."""
        found = self._link.call("Page.navigate", url=url)
        assert not found.get("errorText"), f"{url}: {found['errorText']}"
        self.wait_for("document.readyState === 'complete' && location.href !== ''")

    @property
    def errors(self) -> list[str]:
        """Exceptions that nothing in the page caught."""
        self.evaluate("0")  # those that are on their way come before its answer
        return self._link.errors

    def evaluate(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        answer = self._link.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, f"{script}: {answer}"
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = WAIT_SECONDS) -> Any:
        """Waits until the expression is true, and returns its value."""
        end = time.monotonic() + seconds
        while True:
            found = self.evaluate(script)
            if found:
                return found
            assert time.monotonic() < end, f"never came: {script}\n{self._link.errors}"
            time.sleep(0.05)

    def text(self, css: str) -> str:
        return str(self.evaluate(f"{find(css)}.textContent")).strip()

    def fill(self, css: str, value: str) -> None:
        """Gives a field its value, as a user who types it would."""
        self.evaluate(
            f"((field) => {{ field.value = {json.dumps(value)};"
            "for (const name of ['input', 'change'])"
            " field.dispatchEvent(new Event(name, {bubbles: true})); })"
            f"({find(css)})"
        )

    def click(self, css: str, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Clicks with the mouse; `at` is where, as parts of width and height."""
        x, y = self.place(css, at)
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def drag(self, css: str, start: tuple[float, float], by: tuple[int, int]) -> None:
        """Drags with the left button from a part of the element, by CSS pixels."""
        x, y = self.place(css, start)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        for step in (0.5, 1.0):
            here = (x + by[0] * step, y + by[1] * step)
            self.mouse("mouseMoved", *here, button="left", buttons=1)
        self.mouse("mouseReleased", x + by[0], y + by[1], button="left", clickCount=1)

    def hover(self, css: str, at: tuple[float, float] = (0.5, 0.5)) -> None:
        self.mouse("mouseMoved", *self.place(css, at))

    def wheel(self, css: str, at: tuple[float, float], by: float) -> None:
        """Turns the wheel over a part of the element; negative is up."""
        x, y = self.place(css, at)
        self.mouse("mouseWheel", x, y, deltaX=0, deltaY=by)

    def place(self, css: str, at: tuple[float, float]) -> tuple[float, float]:
        left, top, width, height = self.evaluate(
            f"((item) => {{ item.scrollIntoView({{block: 'nearest'}});"
            " const box = item.getBoundingClientRect();"
            " return [box.left, box.top, box.width, box.height]; })"
            f"({find(css)})"
        )
        return left + width * at[0], top + height * at[1]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self._link.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def screenshot(self, path: Path) -> None:
        """The visible part, as PNG."""
        answer = self._link.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        self._link.close()


def find(css: str) -> str:
    return f"document.querySelector({json.dumps(css)})"


class Chromium:
    """The browser; a page for each user."""

    def __init__(self, port: int, path: str, stack: ExitStack) -> None:
        self._port = port
        self._stack = stack
        self._link = Connection(port, path)
        stack.callback(self._link.close)

    def page(self) -> Page:
        context = self._link.call("Target.createBrowserContext")["browserContextId"]
        target = self._link.call(
            "Target.createTarget", url="about:blank", browserContextId=context
        )["targetId"]
        page = Page(self, Connection(self._port, f"/devtools/page/{target}"))
        self._stack.callback(page.close)
        return page


@contextmanager
def browser(width: int = 1000, height: int = 900) -> Iterator[Page]:
    """A page of a browser that is started for it; `page.another()` gives more."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, (
        "the tests need Chromium: `make system`, or apt-get install chromium"
    )
    with ExitStack() as stack:
        profile = stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )
        command = [program, *SWITCHES, f"--window-size={width},{height}"]
        if os.getuid() == 0:
            command.append("--no-sandbox")  # it refuses to start as root otherwise
        with Path(profile, "log").open("wb") as log:
            process = stack.enter_context(
                started(
                    [*command, f"--user-data-dir={profile}/user", "about:blank"],
                    env={**os.environ, "HOME": profile},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        port, path = wait_for_port(Path(profile), process)
        yield Chromium(port, path, stack).page()


def wait_for_port(profile: Path, process: subprocess.Popen[str]) -> tuple[int, str]:
    """Port and path, which the browser writes once it listens."""
    told = profile / "user" / "DevToolsActivePort"
    end = time.monotonic() + START_SECONDS
    while True:
        lines = told.read_text().split("\n") if told.exists() else []
        if len(lines) == 2 and lines[1]:
            return int(lines[0]), lines[1]
        log = (profile / "log").read_text(errors="replace")
        assert process.poll() is None, f"Chromium ended:\n{log}"
        assert time.monotonic() < end, f"Chromium did not start:\n{log}"
        time.sleep(0.05)
