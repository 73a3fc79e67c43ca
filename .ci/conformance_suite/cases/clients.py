"""Membership: heartbeats, who is in a group, leaving it, and messages that a consumer sends back."""

from dataclasses import replace

from ..case import Case
from .pull import heartbeat

DOCUMENT = {"clientID": "client-1", "heartbeatFingerprint": 0, "withoutSub": False,
            "producerDataSet": [{"groupName": "makers"}], "consumerDataSet": heartbeat("eaters", "Work")["consumerDataSet"]}


def cases():
    # In groups of their own: Java never forgets a client without an id.
    odd = Case("HEART_BEAT", 34, None, {
        **DOCUMENT, "producerDataSet": [{"groupName": "odd-makers"}],
        "consumerDataSet": heartbeat("odd-eaters", "Work")["consumerDataSet"]})
    for case in (*odd.relatives(), *_odd_consumers(odd)):
        yield replace(case, connection="spare", last=True)
    beat = Case("HEART_BEAT", 34, None, DOCUMENT)
    yield beat.but("first")
    yield beat.but("ext-fields", fields={"anything": "x"})
    consumer = DOCUMENT["consumerDataSet"][0]
    yield beat.but("fingerprint", body={**DOCUMENT, "heartbeatFingerprint": 5})
    yield beat.but("other-fingerprint", body={**DOCUMENT, "heartbeatFingerprint": 6})
    yield beat.but("without-subscriptions", body={**DOCUMENT, "heartbeatFingerprint": 6, "withoutSub": True,
                                                  "consumerDataSet": [{**consumer, "subscriptionDataSet": []}]})
    yield beat.but("again")
    yield Case("HEART_BEAT/second-client", 34, None, {**DOCUMENT, "clientID": "client-2"}, connection="second")
    yield Case("GET_TOPIC_CONFIG/retry-of-heartbeat", 351, {"topic": "%RETRY%eaters"})

    members = Case("GET_CONSUMER_LIST_BY_GROUP", 38, {"consumerGroup": "eaters"})
    yield from members.relatives()
    consumers = Case("GET_CONSUMER_CONNECTION_LIST", 203, {"consumerGroup": "eaters"})
    yield from consumers.relatives()
    yield consumers.with_field("broadcast", consumerGroup="no-broadcast")
    producers = Case("GET_PRODUCER_CONNECTION_LIST", 204, {"producerGroup": "makers"})
    yield from producers.relatives()
    yield Case("GET_ALL_PRODUCER_INFO", 328)

    leave = Case("UNREGISTER_CLIENT", 35, {"clientID": "client-2", "producerGroup": "makers", "consumerGroup": "eaters"},
                 connection="second")
    yield from leave.relatives()
    yield leave.with_field("of-another", clientID="client-1")
    for asked in (members, consumers, producers):
        yield asked.but("after-leaving")
    yield Case("UNREGISTER_CLIENT/blank-groups", 35, {"clientID": "client-1", "producerGroup": "", "consumerGroup": ""})
    yield members.but("after-blank")
    yield Case("UNREGISTER_CLIENT/last", 35, {"clientID": "client-1", "producerGroup": "makers",
                                              "consumerGroup": "eaters"})
    for asked in (members, consumers, producers):
        yield asked.but("after-the-last")
    yield beat.but("back")

    check = Case("CHECK_CLIENT_CONFIG", 46, None, {"clientId": "client-1", "group": "eaters", "subscriptionData": {
        "topic": "Work", "subString": "*", "subVersion": 1, "expressionType": "TAG"}})
    yield from check.relatives()
    for kind, text in (("SQL92", "a > 1"), ("SQL92", "a >"), ("ODD", "x")):
        yield check.but(f"{kind}-{text[-1]}", body={**check.body, "subscriptionData": {
            "topic": "Work", "subString": text, "subVersion": 1, "expressionType": kind}})

    back = Case("CONSUMER_SEND_MSG_BACK", 36, {
        "offset": lambda kept: kept["stored"], "group": "eaters", "delayLevel": 18, "originMsgId": "id",
        "originTopic": "Stored", "unitMode": False, "maxReconsumeTimes": 16})
    yield from back.relatives()
    for what, fields in {"no-retry": {"group": "no-retry"}, "no-dead": {"group": "no-dead", "maxReconsumeTimes": 0},
                         "to-dead": {"delayLevel": -1}, "max-0": {"maxReconsumeTimes": 0}, "level-99": {"delayLevel": 99},
                         "level-0": {"delayLevel": 0}, "beyond": {"offset": 10**12}, "minus": {"offset": -1},
                         "inside": {"offset": lambda kept: kept["stored"] + 3}}.items():
        yield back.with_field(what, **fields)
    yield Case("GET_TOPIC_CONFIG/dead-of-eaters", 351, {"topic": "%DLQ%eaters"})
    yield Case("PULL_MESSAGE/dead-of-eaters", 11, {
        "consumerGroup": "readers", "topic": "%DLQ%eaters", "queueId": 0, "queueOffset": 0, "maxMsgNums": 2, "sysFlag": 4,
        "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0}, pause_s=0.5)


def _odd_consumers(beat):
    for key, value in (("no-groupName", {}), ("groupName-null", {"groupName": None}), ("groupName-blank", {"groupName": ""})):
        yield beat.but(f"producer-{key}", body={**beat.body, "producerDataSet": [value]})
    consumer = beat.body["consumerDataSet"][0]
    for key in consumer:
        rest = {k: v for k, v in consumer.items() if k != key}
        yield beat.but(f"consumer-no-{key}", body={**beat.body, "consumerDataSet": [rest]})
        yield beat.but(f"consumer-{key}-null", body={**beat.body, "consumerDataSet": [{**consumer, key: None}]})
    numbers = {**consumer, "consumeType": 1, "messageModel": 1, "consumeFromWhere": 0}
    yield beat.but("enums-as-numbers", body={**beat.body, "consumerDataSet": [numbers]})
    yield beat.but("enums-unknown", body={**beat.body, "consumerDataSet": [{**consumer, "messageModel": "ODD"}]})
    yield beat.but("illegal-group", body={**beat.body, "consumerDataSet": [{**consumer, "groupName": "a b"}]})
    yield beat.but("long-group", body={**beat.body, "consumerDataSet": [{**consumer, "groupName": "g" * 121}]})
    yield beat.but("cpp", language="CPP", version=333, body={**beat.body, "consumerDataSet": [{
        **numbers, "subscriptionDataSet": [{"topic": "Work", "subString": "a", "tagsSet": ["a"], "codeSet": ["97"],
                                            "subVersion": "20"}]}]})
