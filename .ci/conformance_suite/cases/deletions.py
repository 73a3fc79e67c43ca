"""Topics and groups taken away, and what is left of them; last, since others need them."""

from ..case import Case


def cases():
    for group in ("configured", "committers"):
        # What clients have sent back comes after ten seconds, and not to a topic that is gone.
        yield from Case(f"DELETE_SUBSCRIPTIONGROUP/{group}", 207, {"groupName": group, "cleanOffset": True},
                        pause_s=6 if group == "configured" else 0).relatives()
        yield Case(f"GET_SUBSCRIPTIONGROUP_CONFIG/deleted-{group}", 352, {"group": group})
    yield Case("QUERY_CONSUMER_OFFSET/deleted", 14, {"consumerGroup": "committers", "topic": "Searched", "queueId": 0})

    yield from Case("DELETE_TOPIC_IN_BROKER", 215, {"topic": "Searched"}).relatives()
    for topic in ("SCHEDULE_TOPIC_XXXX", "TBW102", "DefaultCluster", "%RETRY%eaters", "Pulled"):
        yield Case(f"DELETE_TOPIC_IN_BROKER/{topic}", 215, {"topic": topic})
    for topic in ("Searched", "Pulled", "%RETRY%eaters"):
        yield Case(f"GET_TOPIC_CONFIG/deleted-{topic}", 351, {"topic": topic}, pause_s=0.3)
        yield Case(f"GET_MAX_OFFSET/deleted-{topic}", 30, {"topic": topic, "queueId": 0})
        yield Case(f"GET_ROUTEINFO_BY_TOPIC/deleted-{topic}", 105, {"topic": topic}, at="namesrv")
    yield Case("QUERY_CONSUMER_OFFSET/deleted-topic", 14, {"consumerGroup": "pullers", "topic": "Pulled", "queueId": 0})
    yield Case("PULL_MESSAGE/deleted-topic", 11, {
        "consumerGroup": "pullers", "topic": "Pulled", "queueId": 0, "queueOffset": 0, "maxMsgNums": 2, "sysFlag": 4,
        "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0})
    yield Case("GET_ALL_CONSUMER_OFFSET/after-deletions", 43)
