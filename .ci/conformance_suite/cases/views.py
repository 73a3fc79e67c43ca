"""Rarer views for administrators, what a group may not read, and housekeeping by request."""

from ..case import Case
from .pull import PULL, heartbeat
from .send import short

TOPIC, GROUP = "Viewed", "viewers"


def cases():
    for at in range(5):
        yield Case(f"SEND_MESSAGE_V2/viewed-{at}", 310, short(
            topic=TOPIC, queueId=at // 4, properties=f"UNIQ_KEY\x01u{at}\x02" + ("TAGS\x01red\x02" if at % 2 else "")),
            b"%d" % at)
    yield Case("UPDATE_AND_CREATE_SUBSCRIPTIONGROUP/viewers", 200, None, {"groupName": GROUP})
    commit = Case("UPDATE_CONSUMER_OFFSET/viewed", 15, {
        "consumerGroup": GROUP, "topic": TOPIC, "queueId": 0, "commitOffset": 3}, pause_s=0.3)
    yield commit
    yield commit.with_field("end", queueId=1, commitOffset=1)

    span = Case("QUERY_CONSUME_TIME_SPAN", 303, {"topic": TOPIC, "group": GROUP}, names_only=True)
    yield from span.relatives()
    yield span.with_field("system", topic="TBW102")

    yield commit.with_field("another", consumerGroup="committers", commitOffset=2)
    correction = Case("QUERY_CORRECTION_OFFSET", 308, {"compareGroup": GROUP, "topic": TOPIC})
    yield from correction.relatives()
    yield correction.with_field("smallest", compareGroup="committers")

    yield from Case("VIEW_BROKER_STATS_DATA", 315, {"statsName": "no-such-thing", "statsKey": "x"}).relatives()
    known = Case("VIEW_BROKER_STATS_DATA/topic", 315, {"statsName": "TOPIC_PUT_NUMS", "statsKey": TOPIC}, names_only=True,
                 pause_s=11)
    yield known
    for name, key in (("TOPIC_PUT_SIZE", TOPIC), ("BROKER_PUT_NUMS", "DefaultCluster"), ("TOPIC_PUT_NUMS", "nowhere"),
                      ("GROUP_GET_NUMS", f"{TOPIC}@nobody"), ("GROUP_GET_NUMS", "x"), ("BROKER_PUT_NUMS", "x")):
        yield known.with_field(f"{name}-{key}", statsName=name, statsKey=key)

    yield from Case("GET_BROKER_CONSUME_STATS", 317, {"isOrder": True}).relatives()

    entries = Case("QUERY_CONSUME_QUEUE", 321, {"topic": TOPIC, "queueId": 0, "index": 0, "count": 10,
                                                "consumerGroup": GROUP})
    yield from entries.relatives()
    for what, fields in {"from-2": {"index": 2}, "one": {"count": 1}, "none": {"count": 0}, "minus": {"count": -1},
                         "end": {"index": 4}, "beyond": {"index": 9}, "before": {"index": -1},
                         "empty-queue": {"queueId": 2}}.items():
        yield entries.with_field(what, **fields)

    yield Case("HEART_BEAT/viewer", 34, None, heartbeat(GROUP, TOPIC), connection="viewer")
    yield entries.but("online")
    pull = Case("PULL_MESSAGE/forbidden", 11, {**PULL, "consumerGroup": GROUP, "topic": TOPIC, "sysFlag": 0,
                                               "subVersion": 10, "queueOffset": 4})
    yield pull.but("not-yet")
    forbid = Case("UPDATE_AND_GET_GROUP_FORBIDDEN", 353, {"group": GROUP, "topic": TOPIC})
    yield from forbid.relatives()
    yield forbid.with_field("close", readable=False)
    yield pull
    yield forbid.but("closed")
    yield forbid.with_field("word", readable="maybe")
    yield forbid.with_field("open", readable=True)
    yield pull.but("open-again")

    for name, code in (("CLEAN_EXPIRED_CONSUMEQUEUE", 306), ("CLEAN_UNUSED_TOPIC", 316), ("DELETE_EXPIRED_COMMITLOG", 329)):
        yield Case(name, code)
        yield Case(f"{name}/ext-fields", code, {"anything": "x"}, b"body")
    yield entries.but("after-housekeeping")
