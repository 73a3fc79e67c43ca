"""What a tool asks of a client through the broker: running info, direct consumption, status."""

from dataclasses import replace

from ..case import Case
from .pull import heartbeat
from .send import kept_as, short

MESSAGE_ID = "7F00000100002A9F"
INFO = b'{"properties":{"PROP_CLIENT_VERSION":"V4_9_8"},"mqTable":{{"topic":"T","brokerName":"b","queueId":0}:{}}}'
RESULT = b'{"order":false,"autoCommit":true,"consumeResult":"CR_SUCCESS","spentTimeMills":3}'
STATUS = b'{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"Called"}:7},"consumerTable":{}}'


def cases():
    yield Case("SEND_MESSAGE_V2/called", 310, short(topic="Called", queueId=0, properties="TAGS\x01red\x02UNIQ_KEY\x01u\x02"),
               b"called", keep=kept_as("called"), pause_s=0)
    beat = Case("HEART_BEAT/callee", 34, None, heartbeat("callees", "Called"), connection="callee")
    yield replace(beat, body={**beat.body, "clientID": "callee-1"})
    yield beat.but("old", connection="old-callee", version=27, body={**heartbeat("old-callees", "Called"), "clientID": "old"})

    info = Case("GET_CONSUMER_RUNNING_INFO", 307, {"consumerGroup": "callees", "clientId": "callee-1", "jstackEnable": False},
                connection="callee", answers={307: (0, {}, INFO)})
    yield from info.relatives()
    yield info.but("refused", answers={307: (1, {"why": "x"}, b"")})
    yield info.but("of-another", connection="tool", answers={307: (0, {}, INFO)})
    yield info.with_field("more-fields", jstackEnable=True, other="x")
    yield info.with_field("client-unknown", clientId="none")
    yield info.with_field("old", consumerGroup="old-callees", clientId="old")
    yield info.but("silent", answers={307: None}, limit_s=14)

    directly = Case("CONSUME_MESSAGE_DIRECTLY", 309, {
        "consumerGroup": "callees", "clientId": "callee-1", "msgId": lambda kept: f"{MESSAGE_ID}{kept['called']:016X}",
        "topic": "Called"}, connection="callee", answers={309: (0, {}, RESULT)})
    yield from directly.relatives()
    yield directly.with_field("no-such-message", msgId=MESSAGE_ID + "0000000000FFFFFF")
    yield directly.with_field("word", msgId="x")
    yield directly.with_field("own-names", brokerName="mine", topicSysFlag=9, groupSysFlag=9)
    yield directly.but("without-topic", fields={key: directly.fields[key] for key in ("consumerGroup", "clientId", "msgId")})

    status = Case("INVOKE_BROKER_TO_GET_CONSUMER_STATUS", 223, {"topic": "Called", "group": "callees"}, connection="callee",
                  answers={221: (0, {}, STATUS)})
    yield from status.relatives()
    yield status.with_field("one", clientAddr="callee-1")
    yield status.with_field("another", clientAddr="none")
    yield status.with_field("blank", clientAddr=" ")
    yield status.with_field("old", group="old-callees")
    yield status.but("refused", answers={221: (1, {}, b"")})
    yield status.but("garbage", answers={221: (0, {}, b"{")})
    yield status.but("silent", answers={221: None}, limit_s=8)
