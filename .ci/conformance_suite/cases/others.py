"""Each code that no other module sends, once as a client or a tool would, after everything else: some change the state."""

from ..case import Case

QUEUE = {"topic": "Work", "queueId": 0}
POP = {"consumerGroup": "poppers", "topic": "Work", "queueId": -1, "maxMsgNums": 1, "invisibleTime": 60_000, "pollTime": 0,
       "bornTime": 0, "initMode": 0, "expType": "TAG", "exp": "*"}
SEND = {"a": "senders", "b": "DefaultCluster_REPLY_TOPIC", "c": "TBW102", "d": 4, "e": 0, "f": 0, "g": 1_700_000_000_000, "h": 0,
        "i": "MSG_TYPE\x01reply\x02CORRELATION_ID\x01c\x02REPLY_TO_CLIENT\x01nobody\x02TTL\x013000\x02", "j": 0}
LONG_SEND = dict(zip(("producerGroup", "topic", "defaultTopic", "defaultTopicQueueNums", "queueId", "sysFlag", "bornTimestamp",
                      "flag", "properties", "reconsumeTimes"), SEND.values()))
OTHERS = {
    "END_TRANSACTION": (37, {"producerGroup": "senders", "tranStateTableOffset": 0, "commitLogOffset": 10**12,
                             "commitOrRollback": 8, "msgId": "x"}),
    "QUERY_CORRECTION_OFFSET": (308, {"compareGroup": "pullers", "topic": "Work"}),
    "INVOKE_BROKER_TO_RESET_OFFSET": (222, {"group": "pullers", "topic": "Work", "timestamp": 0, "isForce": True}),
    "INVOKE_BROKER_TO_GET_CONSUMER_STATUS": (223, {"group": "pullers", "topic": "Work"}),
    "QUERY_CONSUME_TIME_SPAN": (303, {"group": "pullers", "topic": "Work"}),
    "GET_CONSUMER_RUNNING_INFO": (307, {"consumerGroup": "nobody", "clientId": "none", "jstackEnable": False}),
    "CONSUME_MESSAGE_DIRECTLY": (309, {"consumerGroup": "nobody", "clientId": "none", "msgId": "x"}),
    "CLONE_GROUP_OFFSET": (314, {"srcGroup": "pullers", "destGroup": "cloned", "topic": "Work", "offline": True}),
    "VIEW_BROKER_STATS_DATA": (315, {"statsName": "no-such-thing", "statsKey": "x"}),
    "GET_BROKER_CONSUME_STATS": (317, {"isOrder": False}),
    "QUERY_CONSUME_QUEUE": (321, {**QUEUE, "index": 0, "count": 1, "consumerGroup": "pullers"}),
    "SEND_REPLY_MESSAGE": (324, LONG_SEND),
    "SEND_REPLY_MESSAGE_V2": (325, SEND),
    "UPDATE_AND_GET_GROUP_FORBIDDEN": (353, {"group": "pullers", "topic": "Work"}),
    "RECALL_MESSAGE": (370, {"topic": "Work", "recallHandle": "x"}),
    "GET_ALL_MESSAGE_REQUEST_MODE": (402, None),
    "GET_BROKER_HA_STATUS": (907, None),
    "POP_MESSAGE": (200050, POP),
    "ACK_MESSAGE": (200051, {**QUEUE, "consumerGroup": "poppers", "extraInfo": "0 0 0 0 0 broker-a 0", "offset": 0}),
    "PEEK_MESSAGE": (200052, {**QUEUE, "consumerGroup": "poppers", "maxMsgNums": 1}),
    "CHANGE_MESSAGE_INVISIBLETIME": (200053, {**QUEUE, "consumerGroup": "poppers", "extraInfo": "0 0 0 0 0 broker-a 0",
                                              "offset": 0, "invisibleTime": 1_000}),
    "NOTIFICATION": (200054, {**QUEUE, "consumerGroup": "poppers", "pollTime": 0, "bornTime": 0}),
    "POLLING_INFO": (200055, {**QUEUE, "consumerGroup": "poppers"}),
    "GET_TIMER_CHECK_POINT": (60, None),
    "GET_TIMER_METRICS": (61, None),
    "CLEAN_EXPIRED_CONSUMEQUEUE": (306, None),
    "CLEAN_UNUSED_TOPIC": (316, None),
    "DELETE_EXPIRED_COMMITLOG": (329, None),
    "RESUME_CHECK_HALF_MESSAGE": (323, {"topic": "Work", "msgId": "x"}),
}
BODIES = {"SEND_REPLY_MESSAGE": b"reply", "SEND_REPLY_MESSAGE_V2": b"reply"}
ASSIGNMENT = {"topic": "Work", "consumerGroup": "eaters", "clientId": "client-1", "strategyName": "AVG",
              "messageModel": "CLUSTERING"}


def cases():
    for name, (code, fields) in OTHERS.items():
        yield Case(name, code, fields, BODIES.get(name, b""), connection="others")
    yield Case("QUERY_ASSIGNMENT", 400, None, ASSIGNMENT, connection="others")
    yield Case("SET_MESSAGE_REQUEST_MODE", 401, None, {"topic": "Work", "consumerGroup": "eaters", "mode": "PULL",
                                                       "popShareQueueNum": 0}, connection="others")
    yield Case("BATCH_ACK_MESSAGE", 200151, None, {"brokerName": "broker-a", "acks": []}, connection="others")
    yield Case("UPDATE_BROKER_CONFIG", 25, None, b"traceOn=true\n", connection="others")
    yield Case("GET_BROKER_CONFIG", 26, connection="others", names_only=True)
    yield Case("GET_NAMESRV_CONFIG", 319, at="namesrv", names_only=True)
    for name, code in (("GET_TOPIC_CONFIG_LIST", 22), ("GET_TOPIC_NAME_LIST", 23), ("TRIGGER_DELETE_FILES", 27),
                       ("GET_CLIENT_CONFIG", 47), ("SUSPEND_CONSUMER", 209), ("WHO_CONSUME_THE_MESSAGE", 214),
                       ("REGISTER_FILTER_SERVER", 301), ("POP_ROLLBACK", 200056)):
        yield Case(name, code, {"topic": "Work"}, connection="others")
