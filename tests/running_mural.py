"""The Mural of examples/mural, served over real HTTP by a thread of the test, which so
has the application's own object; running_example serves it as people do."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

from mural.app import create_app
from mural.canvas import Mural
from mural.settings import Settings
from running_example import Answer
from websocket_client import WebSocket
from werkzeug.serving import ThreadedWSGIServer, make_server


class RunningMural:
    """A context manager; `mural` is the application's own object."""

    def __init__(self, url: str, folder: Path, **settings: Any) -> None:
        database = str(folder / "mural.db")
        self.app = create_app(Settings(redis_url=url, database=database, **settings))
        self.mural: Mural = self.app.extensions["mural"]
        self._server = make_server("127.0.0.1", 0, self.app, threaded=True)
        assert isinstance(self._server, ThreadedWSGIServer)
        # Requests that are still running are waited for when the server is closed.
        self._server.daemon_threads = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self) -> RunningMural:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mural.live.leave()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.mural.close()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        link = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=300)
        try:
            link.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                link.putheader(name.replace("_", "-"), value)
            if body is not None:
                link.putheader("Content-Length", str(len(body)))
            link.endheaders(body)
            response = link.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            link.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def get_json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status == 200, answer
        return answer.json

    def post(self, body: Any) -> Answer:
        """A placement; `body` is sent as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask(
            "POST", "/api/place-pixel", data, Content_Type="application/json"
        )

    def place(self, x: int, y: int, user: str, color: str = "#FF0000") -> None:
        answer = self.post({"x": x, "y": y, "color": color, "user_id": user})
        assert answer.status == 200, answer

    def watch(
        self, since: int | None = None, path: str = "/api/placements"
    ) -> WebSocket:
        """A WebSocket client."""
        query = "" if since is None else f"?since={since}"
        return WebSocket(self._server.port, path + query)

    def counted(self, user: str) -> int:
        pixels: int = self.get_json(f"/api/user-stats/{user}")["user_pixels"]
        return pixels

    def truth(self, user: str) -> int:
        cells = list(self.mural.canvas_data.values())
        return sum(1 for cell in cells if cell["user_id"] == user)
