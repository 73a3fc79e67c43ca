"""One request and its relatives: the same with a field missing, malformed, unknown or illegal."""

import json
import time
from dataclasses import dataclass, replace

from . import frame

NO_SUCH = "no-such-thing"
ILLEGAL_NAMES = {"blank": "", "space": " ", "illegal": "bad name!", "slash": "a/b", "long": "L" * 300}
MALFORMED_NUMBERS = {"letters": "abc", "empty": "", "huge": "99999999999999999999", "fraction": "1.5", "plus": "+1",
                     "space": " 1"}
GROUP_FIELDS = {"consumerGroup", "producerGroup", "groupName", "group", "a"}
TOPIC_FIELDS = {"topic", "b"}
QUEUE_FIELDS = {"queueId", "e"}


@dataclass
class Case:
    name: str
    code: int
    # Values: text, numbers, booleans, or functions of what earlier cases kept. None: no ext fields at all.
    fields: dict = None
    # Bytes, a JSON value, or a function of what earlier cases kept.
    body: object = b""
    at: str = "broker"
    connection: str = "main"
    codec: str = frame.JSON
    flag: int = 0
    language: str = "JAVA"
    version: int = 479
    # Its connection is closed after the answer, and with it what the server knows of the client.
    last: bool = False
    # The values of the body are each program's own, its members are compared by name.
    names_only: bool = False
    keep: object = None
    # What this client answers to requests of the server that come meanwhile: code -> (code, fields, body), or None for
    # no answer. These requests are compared as well.
    answers: dict = None
    limit_s: float = None
    # Time for the servers to do what they do behind an answer, such as announcing a topic.
    pause_s: float = 0

    def request(self, kept):
        if self.pause_s:
            time.sleep(self.pause_s)
        fields = None
        if self.fields is not None:
            fields = {key: _text(value(kept) if callable(value) else value) for key, value in self.fields.items()}
        body = self.body(kept) if callable(self.body) else self.body
        return fields, body if isinstance(body, bytes) else json.dumps(body).encode()

    def but(self, suffix, **changes):
        return replace(self, name=f"{self.name}/{suffix}", keep=None, pause_s=0, **changes)

    def with_field(self, suffix, **fields):
        return self.but(suffix, fields={**(self.fields or {}), **fields})

    def with_topic(self, topic):
        return replace(self, fields={key: topic if key in TOPIC_FIELDS else value for key, value in self.fields.items()})

    def relatives(self):
        """Itself, then all of the wrong ones that its fields and its body allow."""
        yield self
        yield self.but("binary", codec=frame.BINARY)
        if self.fields is not None:
            yield from self._wrong_fields()
        if self.body != b"":
            yield from self._wrong_bodies()

    def _wrong_fields(self):
        yield self.but("no-ext-fields", fields=None)
        yield self.but("binary-no-ext-fields", fields=None, codec=frame.BINARY)
        yield self.but("empty-ext-fields", fields={})
        for key, value in self.fields.items():
            yield self.but(f"no-{key}", fields={k: v for k, v in self.fields.items() if k != key})
            if callable(value) or isinstance(value, int) and not isinstance(value, bool):
                for what, text in MALFORMED_NUMBERS.items():
                    yield self.with_field(f"{key}-{what}", **{key: text})
            if isinstance(value, bool):
                yield self.with_field(f"{key}-word", **{key: "maybe"})
            if key in TOPIC_FIELDS | GROUP_FIELDS:
                yield self.with_field(f"{key}-unknown", **{key: NO_SUCH})
                for what, text in ILLEGAL_NAMES.items():
                    yield self.with_field(f"{key}-{what}", **{key: text})
            if key in QUEUE_FIELDS:
                for number in (-1, 4, 1000, 2**31 - 1):
                    yield self.with_field(f"{key}={number}", **{key: number})

    def _wrong_bodies(self):
        yield self.but("no-body", body=b"")
        if isinstance(self.body, dict):
            for what, body in (("broken", b"{"), ("text", b"nothing of this kind"), ("object", {}), ("array", []),
                               ("null", b"null"), ("number", b"1")):
                yield self.but(f"body-{what}", body=body)
            for key in self.body:
                yield self.but(f"body-no-{key}", body={k: v for k, v in self.body.items() if k != key})
                yield self.but(f"body-{key}-null", body={**self.body, key: None})
                yield self.but(f"body-{key}-number", body={**self.body, key: 7})


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
