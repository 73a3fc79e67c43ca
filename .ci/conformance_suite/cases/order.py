"""Locks of queues for orderly consumers."""

from ..case import Case

QUEUES = [{"topic": "Work", "brokerName": "broker-a", "queueId": queue} for queue in (0, 1)]


def cases():
    lock = Case("LOCK_BATCH_MQ", 41, None, {"consumerGroup": "orderly", "clientId": "one", "mqSet": QUEUES,
                                            "onlyThisBroker": False})
    unlock = Case("UNLOCK_BATCH_MQ", 42, None, {"consumerGroup": "orderly", "clientId": "one", "mqSet": QUEUES[:1],
                                                "onlyThisBroker": False})
    other = {**lock.body, "clientId": "two"}
    yield from lock.relatives()
    yield lock.but("other-client", body=other)
    yield lock.but("other-group", body={**other, "consumerGroup": "orderly-2"})
    yield lock.but("empty-set", body={**lock.body, "mqSet": []})
    yield lock.but("unknown-topic", body={**lock.body, "mqSet": [{**QUEUES[0], "topic": "no-such-thing"}]})
    yield lock.but("other-broker", body={**lock.body, "mqSet": [{**QUEUES[0], "brokerName": "broker-z"}]})
    yield lock.but("queue-minus", body={**lock.body, "mqSet": [{**QUEUES[0], "queueId": -1}]})
    yield lock.but("queue-without-topic", body={**lock.body, "mqSet": [{"brokerName": "broker-a", "queueId": 0}]})
    yield unlock.but("not-the-owner", body={**unlock.body, "clientId": "two"})
    yield lock.but("still-owned", body=other)
    yield from unlock.relatives()
    yield lock.but("freed", body=other)
