"""Connections that send anything, and insist on one answer to each request, or an end of the connection."""

import collections
import json
import select
import socket
import struct
import time

from conformance_suite import frame

from .requests import Requests

WINDOW = 16
WINDOW_BYTES = 1 << 20
# Java's broker asks a client on behalf of an operator for 10 s.
ANSWER_LIMIT_S = 20
LAST = 40


class Fault(Exception):
    """Not what a server may do, with the last requests of its connection."""


class Stranger:
    def __init__(self, ports, seed, connection, only=()):
        self.number = connection
        self.requests = Requests(seed, connection, only)
        self.ports = ports
        self.sent = self.answered = self.unanswered = 0
        self.closed_by_server = False
        self.codes = collections.Counter()
        self.answers = collections.Counter()
        self.succeeded = set()
        self.last = collections.deque(maxlen=LAST)

    def run(self, count, until):
        """Sends up to `count` requests. Raises a Fault that names what the server owes."""
        at = self.requests.begin()
        pending = {}
        out = bytearray()
        inbox = bytearray()
        with socket.create_connection(("127.0.0.1", self.ports[at]), ANSWER_LIMIT_S) as connection:
            connection.setblocking(False)
            progressed = time.monotonic()
            while True:
                now = time.monotonic()
                more = self.sent < count and now < until
                owed = sum(not request.held for request, _ in pending.values())
                if not more and not out and not owed:
                    self.unanswered = len(pending)
                    return
                while more and len(out) < WINDOW_BYTES and owed < WINDOW:
                    self.sent += 1
                    request = self.requests.next(self.sent)
                    self.last.append(request)
                    self.codes[request.code] += 1
                    if not request.one_way:
                        pending[self.sent] = request, now + ANSWER_LIMIT_S
                        owed += not request.held
                    out += request.wire
                    more = self.sent < count
                overdue = [request for request, deadline in pending.values() if deadline < now and not request.held]
                if overdue:
                    raise Fault(f"no answer in {ANSWER_LIMIT_S} s to: {overdue[0].text}\n"
                                f"{overdue[0].wire[:2000].hex()}")
                if out and now - progressed > ANSWER_LIMIT_S:
                    raise Fault(f"the server does not read for {ANSWER_LIMIT_S} s")
                readable, writable, _ = select.select([connection], [connection] if out else [], [], 0.1)
                try:
                    if writable:
                        del out[:connection.send(out)]
                        progressed = time.monotonic()
                    if readable:
                        piece = connection.recv(1 << 18)
                        if not piece:
                            self.closed_by_server = True
                            return
                        inbox += piece
                        progressed = time.monotonic()
                except OSError:
                    self.closed_by_server = True
                    return
                self._read(inbox, pending, out)

    def _read(self, inbox, pending, out):
        while len(inbox) >= 4:
            length, = struct.unpack_from(">I", inbox)
            if len(inbox) < 4 + length:
                return
            header = _header(bytes(inbox[4:4 + length]))
            del inbox[:4 + length]
            if not header["flag"] & frame.RESPONSE:
                reply = None if header["flag"] & frame.ONE_WAY else self.requests.answer()
                if reply:
                    code, fields, body = reply
                    out += frame.encode(code, header["opaque"], fields, body, flag=frame.RESPONSE)
                continue
            if header["opaque"] not in pending:
                asked = [request.text for request in self.last if request.one_way]
                raise Fault(f"an answer nobody waits for: {header}; one-way requests before: {asked}")
            request, _ = pending.pop(header["opaque"])
            if header["code"] == 0:
                self.succeeded.add(request.code)
            self.answers[header["code"]] += 1
            self.answered += 1


def _header(raw):
    mark, = struct.unpack_from(">I", raw)
    header = raw[4:4 + (mark & 0xFFFFFF)]
    if mark >> 24 == frame.BINARY_MARK:
        code, _, _, opaque, flag, _ = struct.unpack_from(">hBhiii", header)
        return {"code": code, "opaque": opaque, "flag": flag}
    return json.loads(header)
