"""Pops of one queue and of all, what acknowledges them, and the assignment of queues by the broker."""

from dataclasses import replace

from ..case import Case
from .pull import heartbeat
from .send import short

# Long enough that nothing comes back while the cases run.
HIDDEN = 3_600_000
POP = {"consumerGroup": "poppers", "topic": "Popped", "queueId": 0, "maxMsgNums": 1, "invisibleTime": HIDDEN, "pollTime": 0,
       "bornTime": 0, "initMode": 0, "expType": "TAG", "exp": "*"}
QUEUE = {"consumerGroup": "poppers", "topic": "Popped", "queueId": 0}
ASSIGNMENT = {"topic": "Popped", "consumerGroup": "assigned", "clientId": "client-of-assigned", "strategyName": "AVG",
              "messageModel": "CLUSTERING"}
MODE = {"topic": "Popped", "consumerGroup": "assigned", "mode": "POP", "popShareQueueNum": 0}


def remember(kept, answer):
    """The receipt of the first message of an answer, as a client makes it."""
    if "msgOffsetInfo" not in answer.fields:
        return
    flag, queue, offsets = answer.fields["msgOffsetInfo"].split(";")[0].split(" ")
    start = answer.fields["startOffsetInfo"].split(";")[0].split(" ")[2]
    kept["offset"] = offset = offsets.split(",")[0]
    kept["start"], kept["pop_time"], kept["queue"] = start, answer.fields["popTime"], queue
    kept["receipt"] = " ".join((start, answer.fields["popTime"], answer.fields["invisibleTime"], answer.fields["reviveQid"],
                                flag, "broker-a", queue, offset))


def popped(key):
    return lambda kept: kept[key]


def cases():
    for topic, queues in (("Popped", 1), ("PoppedWide", 3)):
        yield Case(f"UPDATE_AND_CREATE_TOPIC/{topic}", 17, {
            "topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues, "perm": 6,
            "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": False})
    for at in range(40):
        yield Case(f"SEND_MESSAGE_V2/popped-{at}", 310, short(
            topic="Popped", queueId=0, properties="UNIQ_KEY\x01p%d\x02TAGS\x01%s\x02" % (at, ("red", "blue")[at % 2])), b"pop %d" % at)
    yield Case("SEND_MESSAGE_V2/popped-wide", 310, short(topic="PoppedWide", queueId=2, properties="UNIQ_KEY\x01w\x02"), b"w",
               pause_s=0.3)
    notification = Case("NOTIFICATION", 200054, {**QUEUE, "pollTime": 0, "bornTime": 0}, connection="pop")
    peek = Case("PEEK_MESSAGE", 200052, {**QUEUE, "maxMsgNums": 2}, connection="pop")
    polling = Case("POLLING_INFO", 200055, QUEUE, connection="pop")
    for case in (notification, peek, polling):
        yield from case.relatives()
        yield case.with_field("no-permission", topic="Unreadable")
        yield case.with_field("disabled", consumerGroup="disabled")
        yield case.with_field("empty", topic="PoppedWide", queueId=0)

    pop = Case("POP_MESSAGE", 200050, POP, connection="pop", pause_s=0.5, keep=remember)
    # Of a group each: what Java makes of a malformed number takes messages, and a refusal takes none.
    for at, each in enumerate(pop.relatives()):
        own = (each.fields or {}).get("consumerGroup") == "poppers" and at
        yield replace(each, fields={**each.fields, "consumerGroup": f"poppers-{at}"}) if own else each
    yield pop.with_field("disabled", consumerGroup="disabled")
    yield pop.with_field("no-permission", topic="Unreadable")
    for count in (0, -1, 32, 33):
        yield pop.with_field(f"count={count}", maxMsgNums=count, consumerGroup=f"count{count}".replace("-", "minus"))
    yield pop.with_field("late", bornTime=1)
    yield pop.with_field("newest", initMode=1, consumerGroup="newest")
    yield pop.with_field("wide", topic="PoppedWide", queueId=-1)
    yield pop.with_field("wide-again", topic="PoppedWide", queueId=-1)
    yield pop.with_field("waits", topic="PoppedWide", queueId=1, pollTime=600)
    for what, kind, text in (("red", "TAG", "red"), ("two", "TAG", "red || blue"), ("none", "TAG", "green"), ("bars", "TAG", "||"),
                             ("empty", "TAG", ""), ("kind-empty", "", "red"), ("kind-unknown", "ODD", "a")):
        yield pop.with_field(f"exp-{what}", expType=kind, exp=text, consumerGroup="filtering", maxMsgNums=2)

    ack = Case("ACK_MESSAGE", 200051, {**QUEUE, "extraInfo": popped("receipt"), "offset": popped("offset")}, connection="pop")
    change = Case("CHANGE_MESSAGE_INVISIBLETIME", 200053, {**ack.fields, "invisibleTime": HIDDEN}, connection="pop")
    for case in (change, ack):
        yield Case(f"POP_MESSAGE/for-{case.name}", 200050, POP, connection="pop", keep=remember)
        yield from case.relatives()
        for what, text in (("empty", ""), ("word", "x"), ("short", "0 1 2"), ("without-broker", "0 1 2 3 0"),
                           ("unknown", "0 1700000000000 1000 0 0 broker-a 0 0")):
            yield case.with_field(f"extraInfo-{what}", extraInfo=text)
        for offset in (-1, 0, 39, 40, 41):
            yield case.with_field(f"offset={offset}", offset=offset)
    batch = {"c": "poppers", "t": "Popped", "r": "0", "so": 0, "q": 0, "rq": 0, "pt": 1_700_000_000_000, "it": 1000, "b": "CQI="}
    yield from Case("BATCH_ACK_MESSAGE", 200151, None, {"brokerName": "broker-a", "acks": [batch]}, connection="pop").relatives()
    yield Case("BATCH_ACK_MESSAGE/none", 200151, None, {"brokerName": "broker-a", "acks": []}, connection="pop")
    for key, value in (("t", "no-such-thing"), ("q", 99), ("q", -1), ("r", "1"), ("r", "2"), ("so", -5), ("b", "")):
        yield Case(f"BATCH_ACK_MESSAGE/{key}={value}", 200151, None, {"brokerName": "broker-a", "acks": [{**batch, key: value}]},
                   connection="pop")

    ordered = {**POP, "order": True, "attemptId": "first", "consumerGroup": "in-order", "maxMsgNums": 2}
    order = Case("POP_MESSAGE/order", 200050, ordered, connection="pop", keep=remember)
    yield order
    yield Case("POP_MESSAGE/order/same-attempt", 200050, ordered, connection="pop", keep=remember)
    yield order.with_field("blocked", attemptId="second")
    own = {"consumerGroup": "in-order"}
    yield Case("CHANGE_MESSAGE_INVISIBLETIME/order", 200053, {**change.fields, **own}, connection="pop")
    yield ack.with_field("order-unknown", **own, offset=30)
    yield ack.with_field("order", **own)
    yield ack.with_field("order-again", **own)
    yield order.with_field("still-blocked", attemptId="third")
    for group in ("poppers", "in-order"):
        yield Case(f"QUERY_CONSUMER_OFFSET/{group}", 14, {"consumerGroup": group, "topic": "Popped", "queueId": 0})

    yield Case("GET_ALL_MESSAGE_REQUEST_MODE", 402, connection="pop")
    query = Case("QUERY_ASSIGNMENT", 400, None, ASSIGNMENT, connection="pop")
    yield query.but("nobody")
    yield Case("HEART_BEAT/assigned", 34, None, heartbeat("assigned", "Popped"), connection="pop", pause_s=0.5)
    yield from query.relatives()
    for key, value in (("strategyName", "AVG_BY_CIRCLE"), ("strategyName", "ODD"), ("topic", "PoppedWide"), ("topic", "never-made"),
                       ("topic", "%RETRY%assigned"), ("clientId", "stranger"), ("clientId", ""), ("messageModel", "BROADCASTING")):
        yield query.but(f"{key}={value}", body={**ASSIGNMENT, key: value})
    mode = Case("SET_MESSAGE_REQUEST_MODE", 401, None, MODE, connection="pop")
    yield from mode.relatives()
    for key, value in (("topic", "no-such-thing"), ("topic", "%RETRY%assigned"), ("consumerGroup", "made-by-mode"), ("mode", "ODD"),
                       ("popShareQueueNum", -7)):
        yield mode.but(f"{key}={value}", body={**MODE, key: value})
    yield mode.but("wide", body={**MODE, "topic": "PoppedWide"})
    yield query.but("pop", body={**ASSIGNMENT, "topic": "PoppedWide"})
    yield query.but("pop/stranger", body={**ASSIGNMENT, "topic": "PoppedWide", "clientId": "stranger"})
    yield Case("GET_ALL_MESSAGE_REQUEST_MODE/after", 402, connection="pop")
