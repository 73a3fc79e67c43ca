"""An ordinary producer and an ordinary consumer: what was acknowledged arrives once, whole, in order, and soon."""

import itertools
import socket
import threading
import time

from conformance_suite import frame, record

TOPIC, GROUP, QUEUES = "innocent-topic", "innocent-group", 4
SEND, PULL, CREATE_TOPIC, MAX_OFFSET = 310, 11, 17, 30
FOUND, BUSY, NOTHING_NEW, RETRY = 0, 2, 19, 20
# A bystander waits longer when a machine is busy, never this long.
SLOW_S = 10


class Link:
    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), SLOW_S)
        self.stream = self.connection.makefile("rb")
        self.opaque = itertools.count(1)

    def ask(self, code, fields, body=b""):
        opaque = next(self.opaque)
        self.connection.sendall(frame.encode(code, opaque, {key: str(value) for key, value in fields.items()}, body))
        while (found := frame.read(self.stream)) is not None:
            header, content = found
            if header["opaque"] == opaque and header["flag"] & frame.RESPONSE:
                return header, content
        raise OSError("the connection was closed")

    def close(self):
        self.stream.close()
        self.connection.close()


class Innocents:
    def __init__(self, port):
        self.port = port
        self.acknowledged = [[] for _ in range(QUEUES)]
        self.consumed = [0] * QUEUES
        self.problems = []
        self.slowest_ms = 0.0
        self.refused = 0
        self.stopping = threading.Event()
        self.done = threading.Event()
        link = Link(port)
        header, _ = link.ask(CREATE_TOPIC, {
            "topic": TOPIC, "defaultTopic": "TBW102", "readQueueNums": QUEUES, "writeQueueNums": QUEUES, "perm": 6,
            "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false"})
        link.close()
        if header["code"]:
            raise OSError(f"the topic cannot be made: {header}")
        self.threads = [threading.Thread(target=self._guard, args=(part,), daemon=True)
                        for part in (self._produce, self._consume)]

    def start(self):
        for each in self.threads:
            each.start()

    def stop(self):
        """Waits until everything that was acknowledged has been consumed."""
        self.stopping.set()
        for each in self.threads:
            each.join(4 * SLOW_S)
            if each.is_alive():
                self.problems.append("the innocent pair does not come to its end")
        return sum(len(queue) for queue in self.acknowledged)

    def read_again(self, port):
        """After a restart: all of it is there, from the beginning."""
        self.port = port
        self.consumed = [0] * QUEUES
        self._guard(self._consume)

    def _guard(self, part):
        try:
            part()
        except Exception as error:
            self.problems.append(f"the innocent {part.__name__.strip('_')}r fails: {error!r}")
            self.stopping.set()

    def _produce(self):
        link = Link(self.port)
        for number in itertools.count():
            if self.stopping.is_set():
                break
            queue = number % QUEUES
            body = b"innocent %d " % number + b"x" * (number % 700)
            began = time.monotonic()
            header, _ = link.ask(SEND, {
                "a": GROUP + "-producer", "b": TOPIC, "c": "TBW102", "d": 4, "e": queue, "f": 0,
                "g": int(time.time() * 1000), "h": 0, "i": f"KEYS\x01k{number}\x02", "j": 0, "k": "false", "l": 0,
                "m": "false"}, body)
            self.slowest_ms = max(self.slowest_ms, (time.monotonic() - began) * 1000)
            if header["code"] == BUSY:
                # Flow control is no loss; the message was not acknowledged.
                self.refused += 1
                continue
            if header["code"]:
                self.problems.append(f"an innocent send is refused: {header}")
                break
            self.acknowledged[queue].append((int(header["extFields"]["queueOffset"]), body))
            time.sleep(0.001)
        link.close()

    def _consume(self):
        link = Link(self.port)
        while True:
            last = self.stopping.is_set()
            behind = False
            for queue in range(QUEUES):
                header, body = link.ask(PULL, {
                    "consumerGroup": GROUP, "topic": TOPIC, "queueId": queue, "queueOffset": self.consumed[queue],
                    "maxMsgNums": 32, "sysFlag": 4, "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*",
                    "subVersion": 0})
                if header["code"] == FOUND:
                    behind = True
                    self._compare(queue, record.decode_all(body))
                elif header["code"] not in (NOTHING_NEW, RETRY):
                    raise OSError(f"an innocent pull is refused: {header}")
            if last and not behind:
                break
            time.sleep(0.02)
        link.close()
        for queue in range(QUEUES):
            if self.consumed[queue] != len(self.acknowledged[queue]):
                self.problems.append(f"queue {queue}: {len(self.acknowledged[queue])} messages were acknowledged, "
                                     f"{self.consumed[queue]} came")

    def _compare(self, queue, records):
        for found in records:
            at = self.consumed[queue]
            # A message may be pulled before its sender has read the answer.
            deadline = time.monotonic() + SLOW_S
            while len(self.acknowledged[queue]) <= at and time.monotonic() < deadline:
                time.sleep(0.001)
            offset, body = self.acknowledged[queue][at]
            if (found["queueOffset"], found["body"].encode("latin1"), found["topic"]) != (offset, body, TOPIC) \
                    or not found["crcIsRight"]:
                raise OSError(f"queue {queue}: expected {offset} {body[:40]!r}, found {found}")
            self.consumed[queue] = at + 1
