"""The Hub on a socket: HTTP/1.1, one thread a connection, errors and faults as they travel."""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.hub import (  # noqa: F401 - importing a module adds its routes
    routes_account,
    routes_admin,
    routes_lfs,
    routes_pulls,
    routes_read,
    routes_write,
)
from tests.hub.answers import Answer, Part, Refusal
from tests.hub.calls import Call, Route, find
from tests.hub.faults import Fault
from tests.hub.state import Request, State

STREAMED = ("lfs-upload", "lfs-part", "lfs-complete")
"""Routes that take long and change one file: they do not hold up the others."""


class Hub(State):
    """A Hub whose state lies in `folder`; a later one on the same folder goes on with it.

    `port` is a number (0: any free one) or a socket that is bound and not yet listening.
    """

    def __init__(self, folder: Path, port: int | socket.socket = 0) -> None:
        self._socket = port if isinstance(port, socket.socket) else bind(port)
        number = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{number}"
        self.storage_url = f"http://localhost:{number}"
        self._server: _Server | None = None
        self._busy, self._idle = 0, threading.Condition()
        super().__init__(folder)

    def start(self) -> None:
        """Requests are answered."""
        self._server = _Server(self, self._socket)
        # Polls often, since stopping waits for one poll.
        serve = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        serve.start()

    up = start

    @property
    def is_up(self) -> bool:
        """Whether requests are answered."""
        return self._server is not None

    def stop(self) -> None:
        """Nothing is answered, nothing stalls, every connection is closed and the port free."""
        self.faults.abandon()
        if self._server:
            self._server.shutdown()
            self._server.close_connections()
            self._server = None
        self._socket.close()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """One request more is being answered."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def settle(self) -> None:
        """Every request that has come is answered or given up, and is in the log."""
        with self._idle:
            assert self._idle.wait_for(lambda: not self._busy, timeout=30)

    def down(self) -> None:
        """As after a crash: connections break and new ones are refused, until `up`."""
        number = self._socket.getsockname()[1]
        self.stop()
        self._socket = bind(number)


def bind(port: int = 0) -> socket.socket:
    """A socket that has a port of 127.0.0.1 and refuses connections, because none listens."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: Hub, bound: socket.socket) -> None:
        super().__init__(bound.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.hub = bound, hub
        self.connections: set[socket.socket] = set()
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's mistake; all else is one in the server."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            self.hub.crashes.append("".join(traceback.format_exception(error)))

    def close_connections(self) -> None:
        """Every client sees the end of its connection."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it was closed just now
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a small answer would wait for an acknowledgement
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """The Hub keeps its own log."""

    def serve(self) -> None:
        """Answers one request, or fails it as was asked."""
        with self.server.hub.at_work():
            self._serve()

    def _serve(self) -> None:
        hub = self.server.hub
        call = Call.of(self.command, self.path, self.headers, self.rfile)
        route, fields = find(call)
        if route.name not in STREAMED:
            call.body.load()  # nobody is kept waiting later by this client's connection
        fault = hub.faults.due(route.name)
        kind = fault.kind if fault else ""
        if kind == "reset" or (fault and kind == "stall" and not self._held(fault)):
            return self._reset(call, route)
        if fault and fault.meanwhile:
            fault.meanwhile()
        answer = _failed(fault) if kind.isdigit() and fault else _worked(hub, call, route, fields)
        if kind == "lose" or (fault and kind == "stall-answer" and not self._held(fault)):
            return self._reset(call, route)
        call.body.drain()
        self._note(call, route, answer.status)
        self._send(answer, kind == "half")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def _held(self, fault: Fault) -> bool:
        """Waits until the fault is released; False where it is dropped or the client went away."""
        self.server.hub.faults.stalls()
        while not fault.gate.opened.wait(0.01):
            if self._left():
                return False
        return fault.gate.goes_on and not self._left()

    def _left(self) -> bool:
        """Whether the client closed its end; a body that waits to be read says that it did not."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _reset(self, call: Call, route: Route) -> None:
        """The client sees its connection reset rather than closed."""
        self._note(call, route, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    def _note(self, call: Call, route: Route, status: int) -> None:
        agent, authorized = call.headers["User-Agent"] or "", "Authorization" in call.headers
        request = Request(call.method, route.name, self.path, status, agent, authorized)
        self.server.hub.note(request)

    def _send(self, answer: Answer, half: bool) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, " ".join(value.split()))
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        body = answer.body
        if half:
            body = body.first_half() if isinstance(body, Part) else body[: len(body) // 2]
            self.close_connection = True
        if self.command != "HEAD":
            self._send_body(body)

    def _send_body(self, body: bytes | Part) -> None:
        if isinstance(body, bytes):
            self.wfile.write(body)
        elif len(body):
            with open(body.path, "rb") as file:
                self.connection.sendfile(file, body.start, len(body))


def _worked(hub: Hub, call: Call, route: Route, fields: dict[str, str]) -> Answer:
    try:
        if route.name in STREAMED:
            return route.act(hub, call, **fields)
        with hub.lock:
            return route.act(hub, call, **fields)
    except Refusal as refusal:
        return refusal.answer()


def _failed(fault: Fault) -> Answer:
    headers = {"Retry-After": str(fault.retry_after)} if fault.kind == "429" else {}
    return Refusal(int(fault.kind), "It was asked to fail", headers=headers).answer()
