"""The OHIF viewer on one origin with an Orthanc, and a Chromium that looks at it."""

from __future__ import annotations

import contextlib
import http.client
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright
from support.services import require, skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPOSITORY = Path(__file__).resolve().parents[2]
_DIST = _REPOSITORY / ".cache" / "ohif" / "dist"
_APP_CONFIG = _REPOSITORY / "docker" / "ohif" / "app-config.js"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
]
# OHIF offers a tour of each mode to a new user.
_SEEN_TOURS = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"


class _OhifHandler(SimpleHTTPRequestHandler):
    """Serves the viewer's files and hands /dicom-web to Orthanc."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, orthanc_port: int, **options: object) -> None:
        self._orthanc_port = orthanc_port
        super().__init__(*arguments, directory=str(_DIST), **options)

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web"):
            self._forward()
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self._forward()

    def translate_path(self, path: str) -> str:
        if urlsplit(path).path == "/app-config.js":
            return str(_APP_CONFIG)
        found = Path(super().translate_path(path))
        # Paths such as /viewer are routes inside the application.
        return str(found if found.is_file() else _DIST / "index.html")

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Stay silent: the test itself looks at every answer."""

    def _forward(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        headers = {key: value for key, value in self.headers.items() if key != "Connection"}
        upstream = http.client.HTTPConnection("127.0.0.1", self._orthanc_port, timeout=120)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, self.rfile.read(length), headers)
            answer = upstream.getresponse()
            body = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP_BY_HOP:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _OhifServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        # The browser leaves in the middle of an answer when its page is closed.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve_ohif(orthanc_port: int) -> Iterator[str]:
    """Serve the viewer in front of an Orthanc; yields the root URL."""
    if not (_DIST / "index.html").is_file():
        skip_or_fail("the OHIF viewer is missing: make .cache/ohif/.ready")
    handler = partial(_OhifHandler, orthanc_port=orthanc_port)
    with _OhifServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Browser:
    """One page of a headless Chromium, and everything that went wrong on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("requestfailed", self._note_failure)
        page.on("response", self._note_response)

    def keep_screenshot(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self.page.screenshot(path=path)

    def _note_response(self, response: object) -> None:
        if response.status >= HTTPStatus.BAD_REQUEST:
            self.problems.append(f"HTTP {response.status}: {response.url}")

    def _note_failure(self, request: object) -> None:
        # The page itself cancels requests for images it no longer wants.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"{request.failure}: {request.url}")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A fresh Chromium without cache, service workers or tours."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=require("chromium"), args=_CHROMIUM_OPTIONS
        )
        context = chromium.new_context(
            viewport={"width": 1200, "height": 760}, service_workers="block"
        )
        context.add_init_script(_SEEN_TOURS)
        context.set_default_timeout(120_000)
        yield Browser(context.new_page())
        context.close()
        chromium.close()
