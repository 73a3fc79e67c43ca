"""Each code that no other module sends, once as a client or a tool would, after everything else: some change the state."""

from ..case import Case

QUEUE = {"topic": "Work", "queueId": 0}
POP = {"consumerGroup": "poppers", "topic": "Work", "queueId": -1, "maxMsgNums": 1, "invisibleTime": 60_000, "pollTime": 0,
       "bornTime": 0, "initMode": 0, "expType": "TAG", "exp": "*"}
OTHERS = {
    "QUERY_MESSAGE": (12, {"topic": "Stored", "key": "k1", "maxNum": 8, "beginTimestamp": 0, "endTimestamp": 2**62}),
    "GET_ALL_MESSAGE_REQUEST_MODE": (402, None),
    "GET_BROKER_HA_STATUS": (907, None),
    "POP_MESSAGE": (200050, POP),
    "ACK_MESSAGE": (200051, {**QUEUE, "consumerGroup": "poppers", "extraInfo": "0 0 0 0 0 broker-a 0", "offset": 0}),
    "PEEK_MESSAGE": (200052, {**QUEUE, "consumerGroup": "poppers", "maxMsgNums": 1}),
    "CHANGE_MESSAGE_INVISIBLETIME": (200053, {**QUEUE, "consumerGroup": "poppers", "extraInfo": "0 0 0 0 0 broker-a 0",
                                              "offset": 0, "invisibleTime": 1_000}),
    "NOTIFICATION": (200054, {**QUEUE, "consumerGroup": "poppers", "pollTime": 0, "bornTime": 0}),
    "POLLING_INFO": (200055, {**QUEUE, "consumerGroup": "poppers"}),
}
ASSIGNMENT = {"topic": "Work", "consumerGroup": "eaters", "clientId": "client-1", "strategyName": "AVG",
              "messageModel": "CLUSTERING"}


def cases():
    for name, (code, fields) in OTHERS.items():
        yield Case(name, code, fields, connection="others")
    yield Case("QUERY_ASSIGNMENT", 400, None, ASSIGNMENT, connection="others")
    yield Case("SET_MESSAGE_REQUEST_MODE", 401, None, {"topic": "Work", "consumerGroup": "eaters", "mode": "PULL",
                                                       "popShareQueueNum": 0}, connection="others")
    yield Case("BATCH_ACK_MESSAGE", 200151, None, {"brokerName": "broker-a", "acks": []}, connection="others")
    yield Case("GET_BROKER_CONFIG", 26, connection="others", names_only=True)
    yield Case("GET_NAMESRV_CONFIG", 319, at="namesrv", names_only=True)
    for name, code in (("GET_TOPIC_CONFIG_LIST", 22), ("GET_TOPIC_NAME_LIST", 23), ("TRIGGER_DELETE_FILES", 27),
                       ("GET_CLIENT_CONFIG", 47), ("SUSPEND_CONSUMER", 209), ("WHO_CONSUME_THE_MESSAGE", 214),
                       ("REGISTER_FILTER_SERVER", 301), ("POP_ROLLBACK", 200056)):
        yield Case(name, code, {"topic": "Work"}, connection="others")
