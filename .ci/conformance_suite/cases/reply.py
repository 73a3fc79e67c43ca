"""Request-reply: a reply sent to the broker, which pushes it to the client that asked, and may store it."""

from ..case import Case
from .send import LETTERS, LONG

TOPIC = "DefaultCluster_REPLY_TOPIC"
PROPERTIES = ("MSG_TYPE\x01reply\x02CORRELATION_ID\x01c-1\x02REPLY_TO_CLIENT\x01%s\x02TTL\x013000\x02"
              "UNIQ_KEY\x017F000001000018B4AAC20000000000BB\x02")
OK = {326: (0, {}, b"")}


def fields(**changes):
    return {**LONG, "topic": TOPIC, "queueId": 0, "properties": PROPERTIES % "requester-1", **changes}


def short(**changes):
    return {LETTERS[key]: value for key, value in fields(**changes).items()}


def cases():
    yield Case("HEART_BEAT/requester", 34, None, {"clientID": "requester-1", "producerDataSet": [
        {"groupName": "requesters"}, {"groupName": "more-requesters"}], "consumerDataSet": []}, connection="requester")
    v2 = Case("SEND_REPLY_MESSAGE_V2", 325, short(), b"reply", connection="requester", answers=OK)
    long = Case("SEND_REPLY_MESSAGE", 324, fields(), b"reply", connection="requester", answers=OK)
    for case in (v2, long):
        for each in case.relatives():
            # Without a queue the broker takes one by chance.
            yield each.with_topic("ReplyAnywhere") if each.name.endswith("=-1") else each
    for what, changes in {
            "flags": {"flag": 3, "sysFlag": 1, "reconsumeTimes": 2, "unitMode": True, "queueId": 1, "topic": "ReplyKept"},
            "own-topic": {"topic": "OwnReplies"}, "no-auto-create": {"topic": "OwnReplies2", "defaultTopic": "none"},
            "schedule": {"topic": "SCHEDULE_TOPIC_XXXX"}, "nobody": {"properties": PROPERTIES % "nobody"},
            "no-client": {"properties": "CORRELATION_ID\x01c-1\x02"}, "delayed": {
                "topic": "ReplyDelayed", "properties": PROPERTIES % "requester-1" + "DELAY\x0117\x02"},
            "unclosed": {"properties": (PROPERTIES % "requester-1")[:-1]}, "batch": {"batch": True}}.items():
        yield v2.but(what, fields=short(**changes))
    yield v2.but("refused", answers={326: (1, {}, b"")})
    yield v2.but("silent", answers={326: None}, limit_s=14)
    yield v2.but("other-connection", connection="replier")
    yield v2.but("one-way", flag=2, limit_s=0.5)
    for topic, queue in (("ReplyKept", 1), ("ReplyDelayed", 0)):
        yield Case(f"PULL_MESSAGE/{topic}", 11, {
            "consumerGroup": "readers", "topic": topic, "queueId": queue, "queueOffset": 0, "maxMsgNums": 1, "sysFlag": 4,
            "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0}, pause_s=0.5)
    leave = Case("UNREGISTER_CLIENT/requester", 35, {"clientID": "requester-1", "producerGroup": "requesters"},
                 connection="requester")
    yield leave
    yield v2.but("after-one-left")
    yield leave.with_field("last", producerGroup="more-requesters")
    yield v2.but("after-all-left")
