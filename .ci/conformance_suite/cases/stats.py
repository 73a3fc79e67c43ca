"""What administrators see of topics, groups and the broker."""

from ..case import Case


def cases():
    topic = Case("GET_TOPIC_STATS_INFO", 202, {"topic": "Pulled"})
    yield from topic.relatives()
    for name in ("Empty", "FewReads", "TBW102"):
        yield topic.with_field(name, topic=name)
    consumed = Case("GET_CONSUME_STATS", 208, {"consumerGroup": "pullers", "topic": "Pulled"})
    yield from consumed.relatives()
    for name, fields in {"all-topics": {"consumerGroup": "pullers"}, "offline": {"consumerGroup": "committers"},
                         "offline-topic": {"consumerGroup": "committers", "topic": "Searched"}}.items():
        yield consumed.but(name, fields=fields)
    yield from Case("QUERY_TOPIC_CONSUME_BY_WHO", 300, {"topic": "Pulled"}).relatives()
    yield from Case("QUERY_TOPICS_BY_CONSUMER", 343, {"group": "pullers"}).relatives()
    yield from Case("QUERY_SUBSCRIPTION_BY_CONSUMER", 345, {"group": "pullers", "topic": "Pulled"}).relatives()
    yield Case("GET_ALL_CONSUMER_OFFSET", 43)
    yield Case("GET_ALL_DELAY_OFFSET", 45, names_only=True)
    yield Case("GET_BROKER_RUNTIME_INFO", 28, names_only=True)
