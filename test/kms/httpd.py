"""A small threaded HTTP/1.1 server, made for being broken on purpose.

One thread per connection, keep-alive, TCP_NODELAY, optional TLS. The application gets a Request and
returns a Reply; a Reply may ask for a faulty delivery (drop, drip, truncate).
"""
import email.utils
import itertools
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field

HEAD_MAX = 65536
BODY_MAX = 4 * 1024 * 1024
REASONS = {200: "OK", 302: "Found", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized",
           403: "Forbidden", 404: "Not Found", 411: "Length Required", 413: "Content Too Large",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
           504: "Gateway Timeout"}


class BadRequest(Exception):
    pass


@dataclass
class Request:
    method: str
    target: str
    headers: list            # [(name, value)] as received
    body: bytes = b""
    connection: int = 0      # number of the connection at its listener, from 1

    def header(self, name, default=""):
        """The value of the first header of that name, trimmed."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return default


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: list = field(default_factory=list)
    content_type: str = "application/json"
    # for the journal
    action: str = ""
    outcome: str = "ok"
    key_id: str = ""
    request_id: str = ""
    signed_by: str = ""
    # faulty delivery
    delivery: str = ""       # "", "hang", "drop", "reset", "truncate", "drip"
    amount: int = 0          # hang: milliseconds; truncate: bytes of body sent; drip: milliseconds between bytes
    date_offset: float = 0.0
    close: bool = False


class Connection:
    """The server's side of one connection: reads requests, writes replies."""

    def __init__(self, sock):
        self.sock = sock
        self.pending = b""

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.pending += data

    def read_request(self):
        """The next request; EOFError when the client has closed."""
        while b"\r\n\r\n" not in self.pending:
            if len(self.pending) > HEAD_MAX:
                raise BadRequest("head too long")
            self._more()
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        try:
            method, target, version = lines[0].split(" ")
        except ValueError as fault:
            raise BadRequest("request line") from fault
        if version != "HTTP/1.1":
            raise BadRequest("version " + version)
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise BadRequest("header line")
            headers.append((name, value.strip()))
        request = Request(method, target, headers)
        request.body = self._read_body(request)
        return request

    def _read_body(self, request):
        if request.header("transfer-encoding"):
            return self._read_chunks(request)
        length = request.header("content-length", "0")
        if not length.isdigit() or int(length) > BODY_MAX:
            raise BadRequest("content-length")
        if request.header("expect").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self.pending) < int(length):
            self._more()
        body, self.pending = self.pending[:int(length)], self.pending[int(length):]
        return body

    def _read_chunks(self, request):
        """A body whose length is not said before, as some of the vendors' clients have it."""
        if request.header("transfer-encoding").lower() != "chunked" or request.header("content-length"):
            raise BadRequest("transfer-encoding")
        body, size = b"", None
        while size != 0:
            while b"\r\n" not in self.pending:
                self._more()
            line, self.pending = self.pending.split(b"\r\n", 1)
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,6}", line) or len(body) > BODY_MAX:
                raise BadRequest("chunk")
            size = int(line, 16)
            while len(self.pending) < size + 2:
                self._more()
            body, end, self.pending = body + self.pending[:size], self.pending[size:size + 2], self.pending[size + 2:]
            if end != b"\r\n":   # after the last one: a trailer
                raise BadRequest("chunk")
        return body

    def write_reply(self, reply):
        """False if the connection is finished."""
        if reply.delivery == "hang":
            time.sleep(reply.amount / 1000)
        if reply.delivery in ("hang", "drop", "reset"):
            self.close(reply.delivery == "reset")
            return False
        head = ["HTTP/1.1 %d %s" % (reply.status, REASONS.get(reply.status, "Status")),
                "Date: " + email.utils.formatdate(time.time() + reply.date_offset, usegmt=True),
                "Content-Type: " + reply.content_type, "Content-Length: %d" % len(reply.body)]
        head += ["%s: %s" % pair for pair in reply.headers]
        if reply.close:
            head.append("Connection: close")
        data = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
        if reply.delivery == "truncate":
            self.sock.sendall(data + reply.body[:reply.amount])
            self.close(False)
            return False
        if reply.delivery == "drip":
            for byte in data + reply.body:
                self.sock.sendall(bytes([byte]))
                time.sleep(reply.amount / 1000)
            return not reply.close
        self.sock.sendall(data + reply.body)
        return not reply.close

    def close(self, reset):
        try:
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class Listener:
    """A loopback port. tls: None, or a function that gives the SSLContext for the next connection (None = hang up)."""

    def __init__(self, name, application, journal, tls=None, port=0):
        self.name, self.application, self.journal, self.tls = name, application, journal, tls
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", port))
        self.sock.listen(512)
        self.port = self.sock.getsockname()[1]
        self._numbers = itertools.count(1)
        self._open = set()
        self._lock = threading.Lock()

    def start(self):
        threading.Thread(target=self._accept, daemon=True, name="accept-" + self.name).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock, next(self._numbers)), daemon=True).start()

    def close_connections(self):
        """Hangs up on every client, so that the next call needs a new connection."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _handshake(self, sock, number):
        context = self.tls()
        if context is None:
            sock.close()
            return None
        try:
            sock.settimeout(20)
            secure = context.wrap_socket(sock, server_side=True)
            secure.settimeout(None)
        except (OSError, ssl.SSLError) as fault:
            self.journal.connection(self.name, "failed_handshakes", number, why=str(fault)[:120])
            sock.close()
            return None
        self.journal.connection(self.name, "handshakes", number, version=secure.version())
        if secure.session_reused:
            self.journal.connection(self.name, "resumed", number)
        return secure

    def _serve(self, sock, number):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.journal.connection(self.name, "accepted", number)
        if self.tls is not None:
            sock = self._handshake(sock, number)
            if sock is None:
                return
        connection = Connection(sock)
        with self._lock:
            self._open.add(connection)
        try:
            self._converse(connection, number)
        except (EOFError, OSError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            sock.close()

    def _converse(self, connection, number):
        while True:
            try:
                request = connection.read_request()
            except BadRequest as fault:
                connection.write_reply(Reply(400, str(fault).encode(), content_type="text/plain", close=True))
                return
            request.connection = number
            if not connection.write_reply(self.application(request)):
                return
