"""Groups sent back or forth: by time, by offset, by copying another group."""

from ..case import Case
from .pull import PULL, heartbeat
from .send import short

TOPIC, GROUP, OLD_GROUP = "Rewound", "rewinders", "old-rewinders"


def cases():
    for at in range(6):
        yield Case(f"SEND_MESSAGE_V2/rewound-{at}", 310, short(topic=TOPIC, queueId=at // 4), b"%d" % at)
    yield Case("UPDATE_AND_CREATE_SUBSCRIPTIONGROUP/rewinders", 200, None, {"groupName": GROUP})
    commit = Case("UPDATE_CONSUMER_OFFSET/rewind", 15, {
        "consumerGroup": GROUP, "topic": TOPIC, "queueId": 0, "commitOffset": 3}, pause_s=0.3)
    query = Case("QUERY_CONSUMER_OFFSET/rewind", 14, {"consumerGroup": GROUP, "topic": TOPIC, "queueId": 0})
    pull = Case("PULL_MESSAGE/rewind", 11, {**PULL, "consumerGroup": GROUP, "topic": TOPIC, "queueOffset": 3})
    yield commit
    reset = Case("INVOKE_BROKER_TO_RESET_OFFSET", 222, {"group": GROUP, "topic": TOPIC, "timestamp": 0, "isForce": True})

    def seen(after):
        yield commit.but(f"after-{after}")
        yield query.but(f"after-{after}")
        yield pull.but(f"after-{after}")
        yield pull.but(f"after-{after}-again")
        yield commit.but(f"after-{after}-and-pull")

    yield from reset.relatives()
    yield from seen("zero")
    for what, fields in {
            "end": {"timestamp": -1}, "minus": {"timestamp": -7}, "future": {"timestamp": 2**62},
            "queue": {"queueId": 0}, "queue-end": {"queueId": 0, "timestamp": -1}, "all": {"queueId": -1},
            "queue-9": {"queueId": 9}, "offset-2": {"queueId": 0, "offset": 2}, "offset-1": {"queueId": 0, "offset": -1},
            "offset-minus": {"queueId": 0, "offset": -2}, "offset-end": {"queueId": 0, "offset": 4},
            "offset-after-end": {"queueId": 0, "offset": 5}, "offset-beyond": {"queueId": 0, "offset": 6},
            "offset-without-queue": {"offset": 2},
            "queue-9-offset": {"queueId": 9, "offset": 1},
            "empty-queue": {"queueId": 2}, "not-forced": {"isForce": False}, "cpp": {}}.items():
        case = reset.with_field(what, **fields)
        case.language = "CPP" if what == "cpp" else case.language
        yield case
        yield from seen(what)
    yield reset.with_field("offset-word", queueId=0, offset="x")
    yield reset.with_field("queue-word", queueId="x")
    yield Case("HEART_BEAT/rewinder", 34, None, heartbeat(GROUP, TOPIC), connection="rewinder")
    yield reset.but("online", connection="rewinder", answers={220: None})
    yield from seen("online")
    yield reset.with_field("retry-topic", topic=f"%RETRY%{GROUP}")

    clone = Case("CLONE_GROUP_OFFSET", 314, {"srcGroup": GROUP, "destGroup": "cloned", "topic": TOPIC, "offline": True})
    copied = Case("QUERY_CONSUMER_OFFSET/cloned", 14, {"consumerGroup": "cloned", "topic": TOPIC, "queueId": 0})
    yield copied.but("before")
    yield from clone.relatives()
    yield copied
    yield copied.with_field("queue-1", queueId=1)
    for what, fields in {"online": {"offline": False}, "not-subscribed": {"offline": False, "topic": "Called"},
                         "src-unknown": {"srcGroup": "nobody-knows"}, "dest-blank": {"destGroup": ""}}.items():
        yield clone.with_field(what, **fields)
    yield Case("QUERY_TOPICS_BY_CONSUMER/cloned", 343, {"group": "cloned"})

    # The way of 4.x.
    switch = Case("UPDATE_BROKER_CONFIG/client-side-reset", 25, None, b"useServerSideResetOffset=false\n")
    yield switch
    yield Case("UPDATE_AND_CREATE_SUBSCRIPTIONGROUP/old-rewinders", 200, None, {"groupName": OLD_GROUP})
    yield Case("HEART_BEAT/old-rewinder", 34, None, heartbeat(OLD_GROUP, TOPIC), connection="old-rewinder")
    commit = commit.with_field("client-side", consumerGroup=OLD_GROUP, commitOffset=2)
    reset = reset.with_field("client-side", group=OLD_GROUP)
    reset.connection, reset.answers = "old-rewinder", {220: None}
    yield commit
    yield commit.with_field("1", queueId=1, commitOffset=1)
    yield reset.with_field("no-offset", timestamp=-1)
    for queue in (2, 3):
        yield commit.with_field(f"{queue}", queueId=queue, commitOffset=1)
    yield from reset.relatives()
    for what, fields in {"end": {"timestamp": -1}, "not-forced": {"timestamp": -1, "isForce": False},
                         "offline": {"group": "cloned"}}.items():
        yield reset.with_field(what, **fields)
    yield reset.but("cpp", language="CPP")
    yield switch.but("back", body=b"useServerSideResetOffset=true\n")
