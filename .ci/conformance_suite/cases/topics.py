"""Topics made and altered by hand, and what the broker tells of them."""

from ..case import Case

TOPIC = {"topic": "Made", "defaultTopic": "TBW102", "readQueueNums": 4, "writeQueueNums": 4, "perm": 6,
         "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": False}


def created(topic, **changes):
    return Case(f"UPDATE_AND_CREATE_TOPIC/{topic}", 17, {**TOPIC, "topic": topic, **changes})


def cases():
    # Used by the other modules.
    for topic in ("Work", "Empty", "Searched", "Stored", "Batched"):
        yield created(topic)
    yield created("Unreadable", perm=2)
    yield created("Unwritable", perm=4)
    yield created("FewReads", readQueueNums=2)
    yield created("FewWrites", writeQueueNums=2)

    make = Case("UPDATE_AND_CREATE_TOPIC", 17, TOPIC)
    yield from make.relatives()
    yield make.but("again")
    for suffix, fields in {
            "order": {"order": True}, "perm=7": {"perm": 7}, "perm=0": {"perm": 0}, "perm=8": {"perm": 8},
            "perm=-1": {"perm": -1}, "queues=0": {"readQueueNums": 0, "writeQueueNums": 0},
            "queues=-1": {"readQueueNums": -1}, "queues=100000": {"readQueueNums": 100_000, "writeQueueNums": 1},
            "filter": {"topicFilterType": "MULTI_TAG"}, "filter-unknown": {"topicFilterType": "NONE"},
            "sysFlag=3": {"topicSysFlag": 3}, "system": {"topic": "SCHEDULE_TOPIC_XXXX"},
            "default": {"topic": "TBW102"}, "cluster": {"topic": "DefaultCluster"}, "broker": {"topic": "broker-a"},
            "retry": {"topic": "%RETRY%hand"}, "dead": {"topic": "%DLQ%hand"}, "127": {"topic": "M" * 127},
            "128": {"topic": "M" * 128}, "255-retry": {"topic": "%RETRY%" + "M" * 248},
            "attributes": {"topic": "Attributed", "attributes": "+message.type=FIFO"},
            "attributes-unknown": {"topic": "Attributed2", "attributes": "+colour=red"},
            "attributes-illegal-value": {"topic": "Attributed3", "attributes": "+message.type=ODD"},
            "attributes-no-sign": {"topic": "Attributed4", "attributes": "message.type=FIFO"},
            "attributes-removed": {"topic": "Attributed", "attributes": "-message.type"},
            "attributes-immutable": {"topic": "Attributed", "attributes": "+queue.type=BatchCQ"},
    }.items():
        yield make.with_field(suffix, **fields)

    many = Case("UPDATE_AND_CREATE_TOPIC_LIST", 18, {}, {"topicConfigList": [
        {"topicName": "Listed", "readQueueNums": 2, "writeQueueNums": 2, "perm": 6, "topicFilterType": "SINGLE_TAG",
         "topicSysFlag": 0, "order": False, "attributes": {}}]})
    yield from many.relatives()
    yield many.but("empty", body={"topicConfigList": []})
    yield many.but("illegal", body={"topicConfigList": [{"topicName": "a b"}]})
    listed = many.body["topicConfigList"][0]
    for suffix, attributes in {"attributes": {"+message.type": "FIFO"}, "attributes-removed": {"-message.type": ""},
                               "attributes-unknown": {"+colour": "red"}, "attributes-no-sign": {"message.type": "FIFO"},
                               "attributes-illegal-value": {"+message.type": "ODD"}}.items():
        name = "ListedAttributed" if suffix in ("attributes", "attributes-removed") else f"Listed-{suffix}"
        yield many.but(suffix, body={"topicConfigList": [{**listed, "topicName": name, "attributes": attributes}]})
        yield Case(f"GET_TOPIC_CONFIG/listed-{suffix}", 351, {"topic": name})

    one = Case("GET_TOPIC_CONFIG", 351, {"topic": "Made"})
    yield from one.relatives()
    for topic in ("Work", "FewReads", "Listed", "Attributed", "TBW102", "SCHEDULE_TOPIC_XXXX", "%RETRY%hand",
                  "SELF_TEST_TOPIC", "BenchmarkTest", "DefaultCluster", "broker-a", "OFFSET_MOVED_EVENT",
                  "DefaultCluster_REPLY_TOPIC", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC",
                  "RMQ_SYS_TRACE_TOPIC", "rmq_sys_wheel_timer"):
        yield one.with_field(topic, topic=topic)

    every = Case("GET_ALL_TOPIC_CONFIG", 21)
    yield every
    yield every.but("empty-ext-fields", fields={})
    yield every.but("first-page", fields={"topicSeq": 0, "maxTopicNum": 3})
    yield every.but("beyond", fields={"topicSeq": 100_000, "maxTopicNum": 3})
    yield every.but("letters", fields={"topicSeq": "abc", "maxTopicNum": "abc"})
    yield Case("GET_SYSTEM_TOPIC_LIST_FROM_BROKER", 305)
