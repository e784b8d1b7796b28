"""The local page of a watched run: a small server on this machine alone, which the page asks once a second."""

import sys
import threading
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dcao_lab.files import jsontext
from dcao_lab.files.plotly_basic import plotly_basic
from dcao_lab.watching.live import LiveRun, Panel

HOST = "127.0.0.1"
MOST_POINTS = 1000  # of a curve: more than a phone or half a desktop has pixels across
JSON = "application/json"
HERE = Path(__file__).parent
STYLE = HERE.parent / "report" / "html" / "page.css"


class PageServer(ThreadingHTTPServer):
    """Serves the page of a run, and what there is to show on it.

    Args:
        run: The run; whoever looks at it calls :meth:`publish` afterwards.
        port: Port of this machine; 0 takes a free one.

    Attributes:
        has_shown_the_end: Set once a page has been told that the run is over.
    """

    daemon_threads = True

    def __init__(self, run: LiveRun, port: int = 0) -> None:
        self.has_shown_the_end = threading.Event()
        self._files = {
            "/": _Answer(content=_page(), kind="text/html"),
            "/plotly.js": _Answer(content=plotly_basic().encode(), kind="text/javascript"),
        }
        self.publish(run)
        super().__init__((HOST, port), _Handler)
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_port}/"

    def publish(self, run: LiveRun) -> None:
        """Show what the run has come to."""
        plain = jsontext.dumps(to_show(run)).encode()
        self._shown = run.version, _Answer(content=plain, kind=JSON, is_the_end=run.is_over)  # at once: threads read it

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in mid-answer is nothing to tell a person; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, path: str, seen: int | None) -> "_Answer":
        """The answer to a request, of a page that has already shown the version ``seen``."""
        if path != "/data":
            return self._files.get(path, _Answer(content=b"not found", status=HTTPStatus.NOT_FOUND))
        version, shown = self._shown
        return replace(shown, content=b"", status=HTTPStatus.NO_CONTENT) if version == seen else shown


@dataclass(frozen=True, kw_only=True)
class _Answer:
    content: bytes
    kind: str = "text/plain"
    status: HTTPStatus = HTTPStatus.OK
    is_the_end: bool = False


def to_show(run: LiveRun) -> dict[str, Any]:
    """What the page shows, as plain data."""
    return {
        "version": run.version,
        "name": run.name,
        "state": run.state,
        "is_over": run.is_over,
        "reason": run.course.reason,
        "notices": run.notices,
        "panels": [_plain(panel) for panel in run.panels(MOST_POINTS)],
    }


def _plain(panel: Panel) -> dict[str, Any]:
    latest = panel.latest
    return {
        "name": panel.name,
        "latest": "-" if latest is None else f"{latest:.3g}",
        "steps": panel.steps.tolist(),
        "values": panel.values.tolist(),
        "low": panel.axis.low,
        "high": panel.axis.high,
        "is_log": panel.axis.is_log,
        "edge": panel.edge,
    }


def _page() -> bytes:
    page = (HERE / "live.html").read_text(encoding="utf-8")
    for mark, file in (("/* style */", STYLE), ("/* script */", HERE / "live.js")):
        page = page.replace(mark, file.read_text(encoding="utf-8"))
    return page.encode()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.names:  # a foreign page that calls its own name this machine
            self._send(_Answer(content=b"this page is for this machine alone", status=HTTPStatus.FORBIDDEN))
            return
        asked = urlsplit(self.path)
        seen = parse_qs(asked.query).get("seen", [""])[0]
        answer = self.server.answer(asked.path, int(seen) if seen.isdecimal() else None)
        self._send(answer)
        if answer.is_the_end:
            self.server.has_shown_the_end.set()

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:
        """A request a second is nothing to tell a person."""
