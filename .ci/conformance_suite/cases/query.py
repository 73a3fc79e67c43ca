"""Messages by key: each of a message's keys, times, numbers, and what is stored of messages with odd keys."""

from ..case import Case
from ..record import batch_entry
from .send import short

QUERY = {"topic": "Asked", "key": "k1", "maxNum": 8, "beginTimestamp": 0, "endTimestamp": 2**62}
UNIQUE = "7F000001000018B4AAC2000000000%03d"


def keyed(keys, n, **fields):
    properties = f"UNIQ_KEY\x01{UNIQUE % n}\x02" + (f"KEYS\x01{keys}\x02" if keys else "")
    return Case(f"SEND_MESSAGE_V2/asked-{n}", 310,
                short(**{"topic": "Asked", "queueId": 0, "properties": properties, **fields}), b"asked %d" % n)


def cases():
    for n, keys in enumerate(("k1 k2", "k2", "", " k3  k3 ", "k1#k2", "kéy", "x" * 300, "k2\tk4", "Aa", "BB")):
        yield keyed(keys, n)
    for n in range(10, 14):
        yield keyed("elsewhere k2", n, queueId=n % 4)
    for n in range(20, 90):
        yield keyed("many", n)
    yield keyed("k1", 90, topic="AskedToo")
    yield Case("SEND_BATCH_MESSAGE/asked", 320, short(topic="Asked", queueId=1, batch=True, properties=""),
               b"".join(batch_entry(b"batched %d" % n, f"KEYS\x01batch b{n}\x02UNIQ_KEY\x01{UNIQUE % (100 + n)}\x02")
                        for n in range(3)))

    query = Case("QUERY_MESSAGE", 12, QUERY, pause_s=1)
    yield from query.relatives()
    yield query.but("vip", at="vip")
    for key in ("k2", "k3", "k4", "k1#k2", "kéy", "x" * 300, "k2\tk4", "Aa", "BB", "", " ", "k1 k2", "K1", "elsewhere", "batch",
                "b1", "asked", UNIQUE % 0, UNIQUE % 2, UNIQUE % 101, UNIQUE % 999):
        yield query.with_field(f"key={key[:40]}", key=key)
    yield query.with_field("topic=AskedToo", topic="AskedToo")
    yield query.with_field("topic=a#b", topic="Asked#k1", key="k2")
    for count in (0, 1, 2, 32, 64, 65, 10_000, -1, -2**31):
        yield query.with_field(f"many/count={count}", key="many", maxNum=count)
        yield query.with_field(f"unique/count={count}", key="many", maxNum=count, **{"_UNIQUE_KEY_QUERY": "true"})
    for what, flag in (("false", "false"), ("word", "yes"), ("upper", "TRUE")):
        yield query.with_field(f"unique-{what}", key="many", maxNum=5, **{"_UNIQUE_KEY_QUERY": flag})
    for what, begin, end in (("before", 0, 1_000_000), ("after", 2**61, 2**62), ("backwards", 2**62, 0), ("minus", -5, -1),
                             ("all", -2**63, 2**63 - 1)):
        yield query.with_field(f"times-{what}", beginTimestamp=begin, endTimestamp=end)
