"""One of the two systems under comparison: connections to it by name, and what it answers to a case."""

import socket
from dataclasses import dataclass, field

from . import frame

ANSWER_LIMIT_S = 4
SENDS = {10, 310, 320, 324, 325}


@dataclass
class Answer:
    # "answer", "silence" or "closed"
    outcome: str
    header: dict = field(default_factory=dict)
    body: bytes = b""
    # Requests of the server that came before: (header, body).
    asked: list = field(default_factory=list)

    @property
    def fields(self):
        return self.header.get("extFields") or {}


class Peer:
    def __init__(self, name, server):
        self.name = name
        self.directory = str(server.directory)
        self.ports = {"namesrv": server.namesrv_port, "broker": server.broker_port, "vip": server.broker_port - 2}
        # What earlier cases keep for later ones, such as the place of a message.
        self.kept = {}
        self._connections = {}
        self._opaque = 0
        self._queue_ends = {}

    def names(self):
        """Addresses that differ between two runs, and what to call them."""
        known = {self.directory: "DIRECTORY"}
        known |= {f"127.0.0.1:{port}": name.upper() for name, port in self.ports.items()}
        for (_, name), (connection, _) in self._connections.items():
            known["%s:%d" % connection.getsockname()] = f"CLIENT-{name}"
        return known

    def ask(self, case):
        answer = self._exchange(case)
        if case.last:
            self.hang_up((case.at, case.connection))
        return answer

    def _exchange(self, case):
        fields, body = case.request(self.kept)
        self._opaque += 1
        wire = frame.encode(case.code, self._opaque, fields, body, case.codec, case.flag, case.language, case.version)
        place = (case.at, case.connection)
        if place not in self._connections:
            connection = socket.create_connection(("127.0.0.1", self.ports[case.at]), 5)
            connection.settimeout(case.limit_s or ANSWER_LIMIT_S)
            self._connections[place] = connection, connection.makefile("rb")
        connection, stream = self._connections[place]
        connection.settimeout(case.limit_s or ANSWER_LIMIT_S)
        asked = []
        try:
            connection.sendall(wire)
            # Requests of the server itself, such as "consumers changed", come in between.
            while (found := frame.read(stream)) is not None:
                header, content = found
                if not header["flag"] & frame.RESPONSE and header["code"] in (case.answers or {}):
                    asked.append((header, content))
                    if (reply := case.answers[header["code"]]) is not None:
                        connection.sendall(frame.encode(reply[0], header["opaque"], *reply[1:], flag=frame.RESPONSE))
                if header["opaque"] == self._opaque and header["flag"] & frame.RESPONSE:
                    answer = Answer("answer", header, content, asked)
                    if case.code in SENDS:
                        self._make_relative(fields or {}, answer)
                    if case.keep:
                        case.keep(self.kept, answer)
                    return answer
            outcome = "closed"
        except TimeoutError:
            outcome = "silence"
        except OSError:
            outcome = "closed"
        if outcome == "closed" or not case.flag & frame.ONE_WAY:
            # A stream that timed out cannot be read further.
            self.hang_up(place)
        else:
            self._connections[place] = connection, connection.makefile("rb")
        return Answer(outcome)

    def _make_relative(self, fields, answer):
        """Tells a queue offset as the step from the one before, so that one difference does not become many."""
        if answer.fields.get("queueOffset", "").isdigit():
            queue = fields.get("topic") or fields.get("b"), answer.fields.get("queueId")
            offset = int(answer.fields["queueOffset"])
            if queue in self._queue_ends:
                answer.fields["queueOffset"] = f"+{offset - self._queue_ends[queue]}"
            self._queue_ends[queue] = offset

    def hang_up(self, place):
        if place in self._connections:
            connection, stream = self._connections.pop(place)
            stream.close()
            connection.close()
