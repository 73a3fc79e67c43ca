"""Timer messages: what asks for a time, what is refused, what comes of it, and how it is taken back."""

import base64
import time

from ..case import ILLEGAL_NAMES, NO_SUCH, Case
from ..record import batch_entry
from .send import UNIQUE, short

SECOND_MS = 1000


def ahead(seconds):
    """A time in so many seconds, as each server is asked."""
    return str(int(time.time() + seconds) * SECOND_MS + 500)


def encode(*words):
    return base64.urlsafe_b64encode(" ".join(words).encode()).decode()


def keep_handle(name):
    def keep(kept, answer):
        kept[name] = answer.fields.get("recallHandle", "")
    return keep


def changed_handle(name, at, word):
    """The handle with one of its five words replaced."""
    def handle(kept):
        words = base64.urlsafe_b64decode(kept[name]).decode().split(" ") if kept[name] else ["v1", "t", "b", "1", "k"]
        words[at] = word
        return encode(*words)
    return handle


def cases():
    topics = []

    def send(suffix, properties, keep=None, topic=None, **changes):
        topic = topic or f"timer-{suffix}"
        topics.append(topic)
        fields = {**short(topic=topic, queueId=0, **changes), "i": properties}
        return Case(f"SEND_MESSAGE_V2/timer/{suffix}", 310, fields, b"timed", keep=keep)

    second = "TIMER_DELAY_SEC\x011\x02"
    yield send("seconds", second + UNIQUE)
    yield send("milliseconds", "TIMER_DELAY_MS\x011500\x02" + UNIQUE)
    yield send("clock", lambda _: f"TIMER_DELIVER_MS\x01{ahead(2)}\x02" + UNIQUE)
    yield send("all-three", lambda _: f"TIMER_DELIVER_MS\x01{ahead(60)}\x02TIMER_DELAY_MS\x0160000\x02" + second)
    yield send("two", lambda _: f"TIMER_DELIVER_MS\x01{ahead(60)}\x02TIMER_DELAY_MS\x011000\x02")
    yield send("tags-and-keys", second + "TAGS\x01red\x02KEYS\x01k1 k2\x02own\x01value\x02")
    yield send("level", second + "DELAY\x011\x02")
    yield send("level-0", second + "DELAY\x010\x02")
    yield send("level-minus", second + "DELAY\x01-1\x02")
    yield send("past", "TIMER_DELIVER_MS\x011000\x02")
    yield send("zero-seconds", "TIMER_DELAY_SEC\x010\x02")
    yield send("minus-seconds", "TIMER_DELAY_SEC\x01-5\x02")
    yield send("minus-milliseconds", "TIMER_DELAY_MS\x01-5\x02")
    yield send("overflow", "TIMER_DELAY_SEC\x019223372036854775807\x02")
    yield send("out-ms", second + "TIMER_OUT_MS\x011000\x02")
    yield send("real-topic", second + "REAL_TOPIC\x01elsewhere\x02REAL_QID\x017\x02")
    yield send("start-deliver-time", lambda _: f"__STARTDELIVERTIME\x01{ahead(60)}\x02")
    yield send("reconsumed", second, reconsumeTimes=2)
    yield send("compressed", second, sysFlag=1)
    # Whether it is stored is a matter of transactions.
    yield send("half-flag", second, sysFlag=4)
    topics.pop()
    for key in ("TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"):
        for what, word in {"word": "abc", "space": " 1", "fraction": "1.5", "huge": "9" * 20, "plus": "+1", "empty": ""}.items():
            yield send(f"{key}-{what}", f"{key}\x01{word}\x02")
    yield send("too-far-seconds", "TIMER_DELAY_SEC\x01259201\x02")
    yield send("too-far-milliseconds", "TIMER_DELAY_MS\x01259205000\x02")
    yield send("too-far-clock", lambda _: f"TIMER_DELIVER_MS\x01{ahead(259_300)}\x02")
    yield send("retry", second, topic="%RETRY%senders")
    yield send("del-past", "TIMER_DEL_UNIQKEY\x01timer-del-past+K\x02TIMER_DELIVER_MS\x011000\x02")
    yield send("one-way", second).but("no-answer", flag=2, limit_s=0.5)
    batch = Case("SEND_BATCH_MESSAGE/timer", 320, short(topic="timer-batch", queueId=0, batch=True),
                 batch_entry(b"one", second) + batch_entry(b"two"))
    topics.append("timer-batch")
    yield batch

    yield send("recalled", "TIMER_DELAY_SEC\x016\x02" + UNIQUE, keep=keep_handle("recalled"))
    yield send("kept", "TIMER_DELAY_SEC\x016\x02" + UNIQUE, keep=keep_handle("kept"))
    recall = Case("RECALL_MESSAGE/timer", 370, {"producerGroup": "senders", "topic": "timer-recalled",
                                                "recallHandle": lambda kept: kept["recalled"]}, connection="recalls")
    yield recall
    yield recall.but("again")
    yield recall.but("binary", codec="binary")
    yield recall.but("no-ext-fields", fields=None)
    for key in ("producerGroup", "topic", "recallHandle"):
        yield recall.but(f"no-{key}", fields={k: v for k, v in recall.fields.items() if k != key})
    yield recall.with_field("topic-unknown", topic=NO_SUCH)
    yield recall.with_field("topic-other", topic="timer-seconds")
    for what, name in ILLEGAL_NAMES.items():
        yield recall.with_field(f"topic-{what}", topic=name)
    for what, text in {"empty": "", "text": "no handle!", "padding": "====", "short": encode("v1", "timer-recalled", "broker-a"),
                       "version": encode("v2", "timer-recalled", "broker-a", "1", "k"), "unpadded": "djE"}.items():
        yield recall.with_field(f"handle-{what}", recallHandle=text)
    for what, at, word in (("other-topic", 1, "timer-seconds"), ("other-broker", 2, "broker-z"), ("word", 3, "soon"),
                           ("past", 3, "1000"), ("minus", 3, "-1"), ("far", 3, "9" * 13), ("unknown-key", 4, "nobody")):
        yield recall.with_field(f"handle-{what}", recallHandle=changed_handle("recalled", at, word))

    # Java's timer counts what has reached its wheel, some moments later.
    yield Case("GET_TIMER_CHECK_POINT/fields", 60, {"topic": "Work"}, names_only=True, pause_s=1.5)
    yield Case("GET_TIMER_METRICS/fields", 61, {"topic": "Work"}, names_only=True)
    # What all this has come to.
    for topic in topics:
        yield Case(f"PULL_MESSAGE/timer/{topic}", 11, {
            "consumerGroup": "readers", "topic": topic, "queueId": 0, "queueOffset": 0, "maxMsgNums": 4, "sysFlag": 4,
            "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0},
            pause_s=9 if topic == topics[0] else 0)
    # After these, the timer of Java's broker takes up nothing any more.
    yield batch.but("of-all", fields=short(topic="timer-batch-of-all", queueId=0, batch=True, properties=second))
    yield Case("SEND_MESSAGE_V2/timer/to-the-wheel", 310, short(topic="rmq_sys_wheel_timer", queueId=0), b"x")
