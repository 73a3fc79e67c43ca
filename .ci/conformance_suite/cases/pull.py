"""Pulls at every kind of offset, every refusal before that, and the hold of a long poll."""

from ..case import Case
from .send import short

COMMIT, SUSPEND, SUBSCRIPTION, LITE = 1, 2, 4, 16
PULL = {"consumerGroup": "pullers", "topic": "Pulled", "queueId": 0, "queueOffset": 0, "maxMsgNums": 32,
        "sysFlag": SUBSCRIPTION, "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0,
        "expressionType": "TAG"}


def heartbeat(group, topic, sub_version=10, **changes):
    return {"clientID": f"client-of-{group}", "producerDataSet": [], "heartbeatFingerprint": 0, "withoutSub": False,
            "consumerDataSet": [{
                "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
                "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": False, "subscriptionDataSet": [
                    {"topic": topic, "subString": "*", "tagsSet": [], "codeSet": [], "subVersion": sub_version,
                     "expressionType": "TAG", "classFilterMode": False}], **changes}]}


def cases():
    yield Case("UPDATE_AND_CREATE_TOPIC/pulled", 17, {
        "topic": "Pulled", "defaultTopic": "TBW102", "readQueueNums": 2, "writeQueueNums": 4, "perm": 6,
        "topicFilterType": "SINGLE_TAG", "topicSysFlag": 1, "order": False})
    for at, tag in enumerate(("red", "green", "red", "", "blue")):
        yield Case(f"SEND_MESSAGE_V2/pulled-{at}", 310, short(
            topic="Pulled", queueId=0, flag=at,
            properties="UNIQ_KEY\x01u%d\x02own\x01%d\x02" % (at, at) + (f"TAGS\x01{tag}\x02" if tag else "")),
            b"body %d" % at)
    yield Case("SEND_BATCH_MESSAGE/work", 320, short(topic="Work", queueId=3, batch=True, properties="own\x01header\x02"),
               b"\0\0\0\x1d" + b"\0" * 12 + b"\0\0\0\x02hi\0\x05a\x01b\x02c", pause_s=0.3)

    pull = Case("PULL_MESSAGE", 11, PULL, pause_s=0.5)
    yield from pull.relatives()
    lite = Case("LITE_PULL_MESSAGE", 361, {**PULL, "sysFlag": SUBSCRIPTION | LITE})
    yield from lite.relatives()
    yield pull.but("vip", at="vip")
    yield lite.but("vip", at="vip")

    def changed(suffix, **fields):
        return pull.with_field(suffix, **fields)

    for offset in (-1, 1, 4, 5, 6, 1000, -2**63, 2**63 - 1):
        yield changed(f"offset={offset}", queueOffset=offset)
    for offset in (0, 1, -1):
        yield changed(f"empty-queue/offset={offset}", queueId=1, queueOffset=offset)
        yield changed(f"new-topic/offset={offset}", topic="Empty", queueOffset=offset)
    yield changed("queue-of-writes", queueId=2)
    yield changed("unreadable", topic="Unreadable")
    yield changed("unwritable", topic="Unwritable")
    yield changed("system", topic="SCHEDULE_TOPIC_XXXX", queueId=2)
    for count in (1, 2, 0, -1, 100_000):
        yield changed(f"count={count}", maxMsgNums=count)
    for what, expression in (("red", "red"), ("two", "red || blue"), ("blanks", " || "), ("none", "purple"),
                             ("empty", ""), ("bars", "||"), ("long", "x" * 2000)):
        yield changed(f"tag-{what}", subscription=expression)
        yield changed(f"tag-{what}/offset=1", subscription=expression, queueOffset=1)
    yield changed("sql", expressionType="SQL92", subscription="own > 1")
    yield changed("sql-broken", expressionType="SQL92", subscription="own >")
    yield changed("expression-unknown", expressionType="ODD", subscription="a")
    yield changed("lite-flag", sysFlag=SUBSCRIPTION | LITE)
    yield changed("class-filter", sysFlag=SUBSCRIPTION | 8)
    yield changed("all-flags", sysFlag=0x7FFFFFFF & ~SUSPEND)
    yield changed("request-source", requestSource=-1, maxMsgBytes=1000, proxyFrowardClientId="x")

    # Without the subscription flag the broker's own knowledge counts.
    yield changed("group-unknown", sysFlag=0, consumerGroup="never-beat")
    yield Case("HEART_BEAT/pullers", 34, None, heartbeat("pullers", "Pulled"))
    yield changed("subscribed", sysFlag=0, subVersion=10)
    yield changed("subscribed-older", sysFlag=0, subVersion=9)
    yield changed("subscribed-newer", sysFlag=0, subVersion=11)
    yield changed("other-topic", sysFlag=0, topic="Work")
    for what, config in (("disabled", {"consumeEnable": False}), ("no-broadcast", {"consumeBroadcastEnable": False}),
                         ("no-retry", {"retryQueueNums": 0}), ("no-dead", {"retryMaxTimes": 0})):
        yield Case(f"UPDATE_AND_CREATE_SUBSCRIPTIONGROUP/{what}", 200, None, {"groupName": what, **config})
    yield changed("disabled", consumerGroup="disabled")
    yield Case("HEART_BEAT/broadcast", 34, None, heartbeat("no-broadcast", "Pulled", messageModel="BROADCASTING"))
    yield changed("no-broadcast", consumerGroup="no-broadcast", sysFlag=0)
    yield changed("no-broadcast-authoritative", consumerGroup="no-broadcast")

    query = Case("QUERY_CONSUMER_OFFSET/after-pull", 14, {"consumerGroup": "pullers", "topic": "Pulled", "queueId": 0})
    yield changed("commits", sysFlag=SUBSCRIPTION | COMMIT, commitOffset=3)
    yield query
    yield changed("commits-beyond", sysFlag=SUBSCRIPTION | COMMIT, commitOffset=77)
    yield query.but("beyond")
    yield changed("commits-minus", sysFlag=SUBSCRIPTION | COMMIT, commitOffset=-1)
    yield query.but("minus")
    yield changed("no-commit", commitOffset=1)
    for key, flag in (("commitOffset", SUBSCRIPTION | COMMIT), ("suspendTimeoutMillis", SUBSCRIPTION | SUSPEND),
                      ("subVersion", 0), ("subscription", SUBSCRIPTION)):
        fields = {**PULL, "sysFlag": flag}
        del fields[key]
        # On a connection of its own: Java leaves the first of these without an answer, which ends the connection.
        yield pull.but(f"flag={flag}-no-{key}", fields=fields, connection="spare", last=True)
    for key in ("maxMsgBytes", "requestSource"):
        for value in ("", "abc"):
            yield changed(f"{key}={value}", **{key: value})
    yield query.but("without-flag")

    # Java looks at what it holds every five seconds.
    yield pull.but("held", limit_s=9, fields={
        **PULL, "sysFlag": SUBSCRIPTION | SUSPEND, "queueOffset": 5, "suspendTimeoutMillis": 500})
    yield changed("held-too-small", sysFlag=SUBSCRIPTION | SUSPEND, queueOffset=-1, suspendTimeoutMillis=500)
    yield changed("held-beyond", sysFlag=SUBSCRIPTION | SUSPEND, queueOffset=99, suspendTimeoutMillis=500)
    yield changed("held-none-matches", sysFlag=SUBSCRIPTION | SUSPEND, subscription="purple", suspendTimeoutMillis=500)

    # What was stored of the batches and of the plain sends, seen through a pull.
    for topic, queue, count in (("Work", 3, 4), ("Batched", 0, 4), ("Stored", 2, 1), ("%RETRY%senders", 0, 3),
                                ("%DLQ%senders", 0, 3), ("Delayed", 0, 5)):
        yield changed(f"stored/{topic}-{queue}", topic=topic, queueId=queue, maxMsgNums=count)
