"""Sends in all three codes, and what is then in the queues."""

from ..case import Case, NO_SUCH
from ..record import batch_entry

LONG = {"producerGroup": "senders", "topic": "Work", "defaultTopic": "TBW102", "defaultTopicQueueNums": 4,
        "queueId": 1, "sysFlag": 0, "bornTimestamp": 1_700_000_000_000, "flag": 0, "properties": "", "reconsumeTimes": 0,
        "unitMode": False, "maxReconsumeTimes": 16, "batch": False}
LETTERS = dict(zip(LONG, "abcdefghijklm"))
UNIQUE = "UNIQ_KEY\x017F000001000018B4AAC20000000000AA\x02"


def short(**changes):
    return {LETTERS[key]: value for key, value in {**LONG, **changes}.items()}


def physical_offset(answer):
    return int(answer.fields["msgId"].split(",")[0][16:], 16)


def kept_as(name):
    def keep(kept, answer):
        kept[name] = physical_offset(answer) if answer.header["code"] == 0 else 0
    return keep


def relatives(send):
    """Those without a queue get one by chance, so in a topic where no one else looks."""
    for case in send.relatives():
        yield case.with_topic("Anywhere") if case.name.endswith("=-1") else case


def cases():
    own_topics = []
    # One message in a queue of its own, for lookups.
    yield Case("SEND_MESSAGE_V2/stored", 310, short(topic="Stored", queueId=2, flag=5,
               properties=UNIQUE + "KEYS\x01k1 k2\x02TAGS\x01red\x02own\x01value\x02"), b"stored", keep=kept_as("stored"))
    yield Case("SEND_MESSAGE", 10, LONG, b"hello").but("first")
    yield from relatives(Case("SEND_MESSAGE", 10, LONG, b"hello"))
    v2 = Case("SEND_MESSAGE_V2", 310, short(queueId=0), b"hello")
    yield from relatives(v2)

    def changed(suffix, body=b"hello", **changes):
        """In a topic of its own unless told, where a pull finds what was stored of it."""
        if "topic" not in changes:
            own_topics.append(f"sent-{suffix}")
        return v2.but(suffix, fields=short(**{"queueId": 0, "topic": f"sent-{suffix}", **changes}), body=body)

    yield changed("unwritable", topic="Unwritable")
    yield changed("unreadable", topic="Unreadable")
    yield changed("queue-of-reads", topic="FewWrites", queueId=3)
    yield changed("queue-of-writes", topic="FewReads", queueId=3)
    for topic in ("SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC",
                  "TRANS_CHECK_MAX_TIME_TOPIC", "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "TBW102", "BenchmarkTest",
                  "DefaultCluster", "broker-a", "RMQ_SYS_TRACE_TOPIC", "%DLQ%senders"):
        yield changed(topic, topic=topic)
    for what, default, queues in (("made-of-nothing", NO_SUCH, 4), ("made-of-plain", "Work", 4), ("made-0", "TBW102", 0),
                                  ("made-minus", "TBW102", -1), ("made-1", "TBW102", 1), ("made-100", "TBW102", 100)):
        yield changed(what, topic=what, defaultTopic=default, defaultTopicQueueNums=queues)
        yield Case(f"GET_TOPIC_CONFIG/{what}", 351, {"topic": what})
    for key in "acd":
        fields = short(topic=f"made-without-{key}", queueId=0)
        del fields[key]
        yield v2.but(f"made-without-{key}", fields=fields)
        yield Case(f"GET_TOPIC_CONFIG/made-without-{key}", 351, {"topic": f"made-without-{key}"})
    yield changed("unit", topic="unit", unitMode=True)
    yield Case("GET_TOPIC_CONFIG/unit", 351, {"topic": "unit"})
    yield changed("topic-127", topic="M" * 127)
    yield changed("topic-128", topic="N" * 128)
    yield changed("retry-unknown-group", topic="%RETRY%never-seen", queueId=0)
    yield changed("retry-too-often", topic="%RETRY%senders", queueId=0, reconsumeTimes=17)
    yield changed("retry-blank-group", topic="%RETRY%", queueId=0)
    yield Case("GET_TOPIC_CONFIG/retry-made", 351, {"topic": "%RETRY%senders"})
    yield Case("GET_TOPIC_CONFIG/dead-made", 351, {"topic": "%DLQ%senders"})
    yield changed("body-4MiB", body=b"x" * (4 << 20))
    yield changed("body-over-4MiB", body=b"x" * ((4 << 20) + 1))
    yield changed("properties-32767", properties="p\x01" + "v" * 32_000 + "\x02")
    yield changed("properties-over", properties="p\x01" + "v" * 32_800 + "\x02")
    yield changed("properties-odd", properties="no separator")
    yield changed("properties-unfinished", properties="k\x01v")
    yield changed("properties-empty-value", properties="k\x01\x02m\x01n\x02")
    yield changed("properties-empty-key", properties="\x01v\x02m\x01n\x02")
    yield changed("properties-empty-pairs", properties="\x02\x02m\x01n\x02\x02")
    yield changed("unique-empty", properties="UNIQ_KEY\x01\x02m\x01n\x02")
    yield changed("delay-level-space", topic="Delayed", properties="DELAY\x01 3\x02")
    yield changed("properties-twice", properties="k\x01v\x02k\x01w\x02")
    yield changed("pop-check", properties="POP_CK\x01x\x02")
    yield changed("unique", properties=UNIQUE)
    yield changed("wait-false", properties="WAIT\x01false\x02")
    yield changed("delay-level", topic="Delayed", properties="DELAY\x013\x02")
    yield changed("delay-level-0", topic="Delayed", properties="DELAY\x010\x02")
    yield changed("delay-level-99", topic="Delayed", properties="DELAY\x0199\x02")
    yield changed("delay-level-word", topic="Delayed", properties="DELAY\x01abc\x02")
    yield changed("timer-due", topic="Delayed", properties="TIMER_DELIVER_MS\x011000\x02")
    yield changed("timer-word", topic="Delayed", properties="TIMER_DELAY_SEC\x01abc\x02")
    yield changed("timer-too-far", topic="Delayed", properties="TIMER_DELAY_SEC\x01999999\x02")
    yield changed("compressed-flag", sysFlag=1)
    yield changed("sys-flag-v6", sysFlag=0x30)
    yield changed("sys-flag-all", sysFlag=0x701)
    yield changed("reconsumed", reconsumeTimes=3)
    yield changed("flag-minus", flag=-1)
    yield changed("born-minus", bornTimestamp=-1)
    yield changed("broker-name", topic="Work").with_field("other", n="broker-z")
    yield v2.but("one-way", flag=2, limit_s=0.5)
    yield v2.but("bad-one-way", flag=2, fields=short(topic="a b"), limit_s=0.5)
    yield v2.but("vip", at="vip")
    yield v2.but("cpp", language="CPP", version=333)

    two = batch_entry(b"one", "TAGS\x01red\x02") + batch_entry(b"two")
    batch = Case("SEND_BATCH_MESSAGE", 320, short(topic="Batched", queueId=0, batch=True), two)
    yield from relatives(batch)
    for what, body in (("one", batch_entry(b"only")), ("cut", two[:-3]), ("garbage", b"\xff" * 40), ("short", b"\0\0\0"),
                       ("empty-message", batch_entry(b"")), ("size-0", b"\0" * 40),
                       ("over-4MiB", batch_entry(b"x" * (4 << 20)))):
        yield batch.but(what, body=body)
    yield batch.but("without-flag", fields=short(topic="Batched", queueId=0))
    yield v2.but("with-batch-flag", fields=short(topic="Batched", queueId=1, batch=True), body=two)
    yield batch.but("retry", fields=short(topic="%RETRY%senders", queueId=0, batch=True))
    yield batch.but("long-topic", fields=short(topic="B" * 128, queueId=0, batch=True))
    for what, properties in {"own-tags": "TAGS\x01blue\x02", "unfinished": "k\x01v", "pop-check": "POP_CK\x01x\x02k\x01v\x02",
                             "region": "MSG_REGION\x01mine\x02", "delay-0": "DELAY\x010\x02",
                             "delay-word": "DELAY\x01abc\x02"}.items():
        own_topics.append(f"batched-{what}")
        yield batch.but(what, fields=short(topic=f"batched-{what}", queueId=0, batch=True, properties=properties))
    own_topics.append("batched-loose")
    yield batch.but("entries-unfinished", body=batch_entry(b"one", "TAGS\x01red") + batch_entry(b"two", "noise"),
                    fields=short(topic="batched-loose", queueId=0, batch=True))
    yield batch.but("transaction", fields=short(topic="Batched", queueId=0, batch=True, sysFlag=4))
    yield batch.but("delay", fields=short(topic="Batched", queueId=0, batch=True, properties="DELAY\x011\x02"))

    # What all this has left in the queues.
    for topic in own_topics:
        yield Case(f"PULL_MESSAGE/after-sends/{topic}", 11, {
            "consumerGroup": "readers", "topic": topic, "queueId": 0, "queueOffset": 0, "maxMsgNums": 2, "sysFlag": 4,
            "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0},
            pause_s=1 if topic == own_topics[0] else 0)
    for topic, queues in (("Stored", 4), ("FewWrites", 4), ("made-1", 1), ("Delayed", 1),
                          ("TBW102", 1), ("%RETRY%senders", 1), ("%DLQ%senders", 1), (NO_SUCH, 4)):
        for queue in range(queues):
            yield Case(f"GET_MAX_OFFSET/after-sends/{topic}-{queue}", 30, {"topic": topic, "queueId": queue},
                       pause_s=0.5 if (topic, queue) == ("Stored", 0) else 0)
