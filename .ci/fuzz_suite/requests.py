"""Requests that decode as frames and mean anything: the conformance cases with random fields, bodies and flags.

What a connection sends is a function of the seed and the connection's number, so that it can be sent again.
"""

import json
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

from conformance_suite import frame
from conformance_suite.cases import all_cases

CODES = Path(__file__).resolve().parents[2] / "protocol/src/request_code.rs"
# They change settings, which may then rightly change what happens to bystanders: only keys that do not exist.
SETTINGS = {25, 318}
NUMBERS = ("0", "1", "-1", "2", "3", "4", "7", "8", "16", "32", "127", "128", "255", "256", "1000", "65535", "65536",
           "1000000", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "9223372036854775807",
           "9223372036854775808", "-9223372036854775808", "99999999999999999999999", "1795200000000")
ODD = ("", " ", "abc", "null", "true", "false", "1.5", "+1", "0x10", "1e9", "NaN", "%", "%%", "*", "a||b", "||", "a/b",
       "../../etc/passwd", "\0", "\n", "\x01", "\x02", "a\x01b\x02", "%RETRY%", "%DLQ%x", "%RETRY%%DLQ%x", "TBW102",
       "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "rmq_sys_wheel_timer", "SELF_TEST_TOPIC",
       "OFFSET_MOVED_EVENT", "broker-a", "DefaultCluster", "127.0.0.1:1", "@", "a@b", "消息", "😀" * 40, "{", "{}", "[]",
       "\"", "\\", "a" * 127, "a" * 128, "a" * 255, "a" * 256, "(a > 1", "a > 1", "a IS NULL AND b BETWEEN 1 AND 2",
       "'" * 100, "(" * 2000)
# Fields of any request, put where they do not belong as well.
STRANGE_FIELDS = ("topic", "queueId", "consumerGroup", "group", "offset", "bornTimestamp", "sysFlag", "properties",
                  "batch", "a", "b", "e", "i", "k", "lo", "ns", "nsd", "bname", "__proto__", "x" * 300)
WORDS = ("TAGS\x01a\x02", "KEYS\x01k\x02", "DELAY\x013\x02", "DELAY\x01-9\x02", "DELAY\x01999999999999\x02",
         "TIMER_DELAY_MS\x0150\x02", "TIMER_DELIVER_MS\x01-1\x02", "TIMER_DELAY_SEC\x01x\x02",
         "TRAN_MSG\x01true\x02", "CHECK_IMMUNITY_TIME_IN_SECONDS\x01-1\x02", "INNER_NUM\x013\x02",
         "UNIQ_KEY\x01AC11000100002A9F0000000000000001\x02", "PGROUP\x01p\x02", "WAIT\x01false\x02",
         "INNER_MULTI_DISPATCH\x01%LMQ%1,%LMQ%2\x02", "RETRY_TOPIC\x01x\x02", "POP_CK\x011 2 3\x02",
         "MSG_TYPE\x01reply\x02", "CLUSTER\x01x\x02", "CORRELATION_ID\x011\x02", "REPLY_TO_CLIENT\x01x\x02",
         "\x01\x02", "\x02\x02", "a\x01", "a")
# Requests that a server may keep for a while, and the fields that say how long.
HELD = {11, 361, 200050, 200054}
HOLDS = ("suspendTimeoutMillis", "pollTime")
HELD_BRIEFLY_MS = 1000


CASE_WEIGHT = 8


@dataclass
class Request:
    at: str
    code: int
    wire: bytes
    one_way: bool
    # Its client says that it can wait longer than we would, or expects nothing.
    held: bool
    text: str


class Requests:
    def __init__(self, seed, connection, only=()):
        self.random = random.Random(f"{seed}/{connection}")
        self.answering = random.Random(f"{seed}/{connection}/answers")
        self.cases = {}
        for case in all_cases():
            if case.at in ("broker", "namesrv"):
                self.cases.setdefault((case.at, case.code), []).append(case)
        known = [int(code) for code in re.findall(r"^    (\d+) [A-Z]", CODES.read_text(), re.MULTILINE)]
        bare = [("broker", code) for code in known] + [("namesrv", code) for code in known if code < 1000]
        # A code with cases comes more often than one of which only the number is known.
        self.kinds = sorted(set(bare)) + CASE_WEIGHT * sorted(self.cases)
        if only:
            self.kinds = [kind for kind in self.kinds if kind[1] in only]
        names = [value for cases in self.cases.values() for case in cases for value in (case.fields or {}).values()
                 if isinstance(value, str)]
        self.names = sorted(set(names))
        self.at = "broker"

    def begin(self):
        """A connection goes to one of the servers."""
        self.at = "namesrv" if self.random.random() < 0.15 else "broker"
        return self.at

    def next(self, opaque):
        pick = self.random
        at, code = pick.choice(self.kinds)
        while at != self.at and pick.random() < 0.95:
            at, code = pick.choice(self.kinds)
        case = pick.choice(self.cases[at, code]) if (at, code) in self.cases else None
        fields, body = self._base(case)
        if pick.random() < 0.7:
            fields = self._fields(fields)
        if pick.random() < 0.4:
            body = self._body(body)
        if code in SETTINGS:
            body = body.replace(b"=", b"x=")
        if pick.random() < 0.02:
            code = pick.choice((0, -1, 9, 400_000, 32767, 32768, -32768, 2**31 - 1, -2**31))
        flag = pick.choices((0, 2, 4, 0x7FFFFFFC), (90, 8, 1, 1))[0]
        if fields is not None and pick.random() < 0.95:
            fields.update({key: str(pick.choice((0, 10, 200))) for key in HOLDS if key in fields and code in HELD})
        codec = pick.choice((frame.JSON, frame.BINARY))
        language = pick.choice(frame.LANGUAGES)
        version = pick.choice((0, 1, 100, 252, 400, 401, 479, 32767, -1))
        wire = frame.encode(code, opaque, _fit(fields, codec), body, codec, flag, language, version)
        text = (f"{self.at} {code} {codec} flag={flag} version={version} {language} {fields} "
                f"body[{len(body)}]={body[:300]!r}")
        held = code in HELD and _hold_ms(fields) > HELD_BRIEFLY_MS or _is_undecided(code, fields)
        return Request(self.at, code, wire, bool(flag & 2), held, text)

    def answer(self):
        """What to say to a request of the server itself; None: nothing."""
        # When it asks is chance; what we send by ourselves must not depend on that.
        sending, self.random = self.random, self.answering
        try:
            if self.random.random() < 0.5:
                return None
            return self.random.choice((0, 1, 206, -1)), self._fields({}), self._body(b"{}")
        finally:
            self.random = sending

    def _base(self, case):
        if case is None:
            count = self.random.randrange(5)
            return {self.random.choice(STRANGE_FIELDS): self._value() for _ in range(count)}, b""
        fields = None
        if case.fields is not None:
            fields = {key: self._number() if callable(value) else str(value).lower() if isinstance(value, bool)
                      else str(value) for key, value in case.fields.items()}
        body = case.body
        if callable(body):
            body = b"{}"
        return fields, body if isinstance(body, bytes) else json.dumps(body).encode()

    def _fields(self, fields):
        pick = self.random
        if pick.random() < 0.03:
            return None
        fields = dict(fields or {})
        for _ in range(pick.choice((0, 1, 1, 1, 2, 3))):
            key = pick.choice(sorted(fields) or ["topic"])
            kind = pick.random()
            if kind < 0.15:
                fields.pop(key, None)
            elif kind < 0.25:
                fields[pick.choice(STRANGE_FIELDS)] = self._value()
            elif kind < 0.35 and ("properties" in fields or "i" in fields):
                properties = "".join(pick.choice(WORDS) for _ in range(pick.randrange(1, 5)))
                fields["properties" if "properties" in fields else "i"] = properties
            else:
                fields[key] = self._value()
        return fields

    def _value(self):
        pick = self.random
        kind = pick.random()
        if kind < 0.4:
            return self._number()
        if kind < 0.6:
            return pick.choice(ODD)
        if kind < 0.9:
            return pick.choice(self.names)
        if kind < 0.93:
            return pick.choice(("a", "%", "\x01", "消", "1", "-")) * pick.choice((1000, 32767, 32768, 70_000))
        return "".join(chr(pick.choice((pick.randrange(32, 127), pick.randrange(1, 0xD7FF))))
                       for _ in range(pick.randrange(40)))

    def _number(self):
        pick = self.random
        if pick.random() < 0.7:
            return pick.choice(NUMBERS)
        most = 2**pick.randrange(1, 64)
        return str(pick.randrange(-most, most))

    def _body(self, body):
        pick = self.random
        kind = pick.random()
        if kind < 0.1:
            return b""
        if kind < 0.2:
            return pick.randbytes(pick.choice((1, 4, 20, 91, 500, 5000)))
        if kind < 0.25:
            return pick.choice((b"[" * 20_000, b'{"a":' * 20_000, b"{" + b'"k":1,' * 5000, b"null", b"[]", b"{}", b'""',
                                b"0"))
        if kind < 0.253:
            return pick.randbytes(1 << 10) * pick.choice((512, 4096, 5000))
        try:
            value = json.loads(body)
        except ValueError:
            return self._bytes(body)
        return self._bytes(json.dumps(value).encode()) if kind < 0.5 else json.dumps(self._json(value)).encode()

    def _bytes(self, body):
        """The same bytes with a few changes."""
        pick = self.random
        body = bytearray(body)
        for _ in range(pick.randrange(1, 5)):
            at = pick.randrange(len(body) + 1)
            kind = pick.randrange(5)
            if kind == 0:
                del body[at:]
            elif kind == 1:
                body[at:at + 1] = bytes([pick.randrange(256)])
            elif kind == 2:
                body[at:at + 4] = pick.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"))
            elif kind == 3:
                del body[at:at + pick.randrange(20)]
            else:
                body[at:at] = body[:at]
            body = body[:100_000]
        return bytes(body)

    def _json(self, value):
        """The same value with one of its parts replaced, or itself replaced."""
        pick = self.random
        if isinstance(value, dict) and value and pick.random() < 0.8:
            key = pick.choice(sorted(value))
            changed = dict(value)
            if pick.random() < 0.15:
                del changed[key]
            elif pick.random() < 0.1:
                changed[self._value()] = changed.pop(key)
            else:
                changed[key] = self._json(value[key])
            return changed
        if isinstance(value, list) and value and pick.random() < 0.8:
            at = pick.randrange(len(value))
            return value[:at] + [self._json(value[at])] * pick.choice((1, 1, 1, 2, 1000)) + value[at + 1:]
        return pick.choice((None, True, 0, -1, 2**31, 2**63, 2**64, 1e308, 0.5, [], {}, [None], {"": None}, [[[]]],
                            self._value(), self._value(), self._value()))


def _is_undecided(code, fields):
    """END_TRANSACTION of a producer that does not know yet: Java's broker answers nothing."""
    return code == 37 and re.fullmatch(r"[+-]?0+", (fields or {}).get("commitOrRollback", ""), re.ASCII) is not None


def _hold_ms(fields):
    """How long a client lets a request be held; it may give the time from which on it counts."""
    def number(key):
        text = (fields or {}).get(key, "0")
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text, re.ASCII) else 0

    return max(number(key) for key in HOLDS) + max(0, number("bornTime") - int(time.time() * 1000))


def _fit(fields, codec):
    """What the binary header cannot hold is cut: its frames must be valid ones."""
    if fields is None or codec == frame.JSON:
        return fields
    return {key.encode()[:32767].decode(errors="ignore"): value for key, value in fields.items()}
