"""Bounds of queues, search by time, messages by place, and the offsets of groups."""

from ..case import Case
from .send import short

NAMES = {29: "SEARCH_OFFSET_BY_TIMESTAMP", 30: "GET_MAX_OFFSET", 31: "GET_MIN_OFFSET", 32: "GET_EARLIEST_MSG_STORETIME"}
SOON, FAR = 9_999_999_999_999, 1_000


def cases():
    for at in range(3):
        yield Case(f"SEND_MESSAGE_V2/searched-{at}", 310, short(topic="Searched", queueId=0), b"%d" % at)
    for code, name in NAMES.items():
        more = {"timestamp": FAR} if code == 29 else {}
        asked = Case(name, code, {"topic": "Searched", "queueId": 0, **more})
        yield from asked.relatives()
        yield asked.with_field("empty-queue", queueId=1)
        yield asked.with_field("new-topic", topic="Empty")
        yield asked.but("vip", at="vip")
    search = Case(NAMES[29], 29, {"topic": "Searched", "queueId": 0, "timestamp": FAR})
    for when, name in ((FAR, "past"), (SOON, "future"), (0, "zero"), (-1, "minus")):
        for boundary in ("LOWER", "UPPER", "upper", "ODD", ""):
            yield search.with_field(f"{name}-{boundary}", timestamp=when, boundaryType=boundary)
            yield search.with_field(f"{name}-{boundary}-empty", timestamp=when, boundaryType=boundary, queueId=1)
    yield Case("GET_MAX_OFFSET/committed", 30, {"topic": "Searched", "queueId": 0, "committed": False})

    view = Case("VIEW_MESSAGE_BY_ID", 33, {"offset": lambda kept: kept["stored"], "topic": "Stored"})
    yield from view.relatives()
    for what, offset in (("minus", -1), ("beyond", 10**12), ("most", 2**63 - 1)):
        yield view.with_field(what, offset=offset)
    yield view.with_field("inside", offset=lambda kept: kept["stored"] + 1)

    store = Case("UPDATE_CONSUMER_OFFSET", 15,
                 {"consumerGroup": "committers", "topic": "Searched", "queueId": 0, "commitOffset": 2})
    query = Case("QUERY_CONSUMER_OFFSET", 14, {"consumerGroup": "committers", "topic": "Searched", "queueId": 0})
    yield query.but("nothing-yet")
    yield query.but("group-without-heartbeat", fields={**query.fields, "consumerGroup": "first-seen"})
    yield Case("UPDATE_AND_CREATE_SUBSCRIPTIONGROUP/committers", 200, None, {"groupName": "committers"})
    yield from store.relatives()
    yield from query.relatives()
    for what, offset in (("smaller", 1), ("beyond", 1000), ("minus", -1)):
        yield store.with_field(what, commitOffset=offset)
        yield query.but(f"after-{what}")
    for what, fields in {"empty-queue": {"queueId": 1}, "zero-if-none": {"queueId": 2, "setZeroIfNotFound": True},
                         "not-zero": {"topic": "Stored", "queueId": 2, "setZeroIfNotFound": False},
                         "young-queue": {"topic": "Stored", "queueId": 2}, "new-topic": {"topic": "Empty"}}.items():
        yield query.with_field(what, **fields)
    yield store.but("one-way", flag=2, limit_s=0.5)
