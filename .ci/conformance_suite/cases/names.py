"""The name server: routes, the cluster, topics and the key-value table."""

from ..case import Case, NO_SUCH


def cases():
    # Routes follow what earlier cases made.
    route = Case("GET_ROUTEINFO_BY_TOPIC", 105, {"topic": "Work", "acceptStandardJsonOnly": True}, at="namesrv", pause_s=2)
    yield from route.relatives()
    for topic in ("FewReads", "Unwritable", "Pulled", "TBW102", "made-1", "%RETRY%eaters", "%DLQ%eaters", "DefaultCluster",
                  "broker-a", "BenchmarkTest", "SELF_TEST_TOPIC", "SCHEDULE_TOPIC_XXXX", "unit"):
        yield route.with_field(topic, topic=topic)
    for version in (0, 317, 400, 401, 9999):
        yield route.but(f"version={version}", fields={"topic": "Work"}, version=version)
    for fields in ({"__ZONE_MODE": "true", "__ZONE_NAME": "z"}, {"__ZONE_MODE": "true"}):
        yield route.with_field(f"zone-{len(fields)}", **fields)

    cluster = Case("GET_BROKER_CLUSTER_INFO", 106, at="namesrv")
    yield cluster
    yield cluster.but("empty-ext-fields", fields={})
    topics = Case("GET_ALL_TOPIC_LIST_FROM_NAMESERVER", 206, at="namesrv")
    yield topics
    yield topics.but("binary", codec="binary")

    entry = {"namespace": "ns", "key": "k"}
    put = Case("PUT_KV_CONFIG", 100, {**entry, "value": "v"}, at="namesrv")
    get = Case("GET_KV_CONFIG", 101, entry, at="namesrv")
    of_namespace = Case("GET_KVLIST_BY_NAMESPACE", 219, {"namespace": "ns"}, at="namesrv")
    delete = Case("DELETE_KV_CONFIG", 102, entry, at="namesrv")
    for asked in (get, of_namespace, delete):
        yield asked.but("before")
    yield from put.relatives()
    for suffix, fields in {"unicode": {"value": "ключ"}, "empty-value": {"key": "e", "value": ""},
                           "empty-key": {"key": ""}}.items():
        yield put.with_field(suffix, **fields)
        yield get.with_field(suffix, key=fields.get("key", "k"))
    yield from get.relatives()
    yield get.with_field("other-key", key=NO_SUCH)
    yield get.with_field("other-namespace", namespace=NO_SUCH)
    yield from of_namespace.relatives()
    yield from delete.relatives()
    yield get.but("after-deletion")
    yield of_namespace.but("after-deletion")

    for name, code in (("GET_SYSTEM_TOPIC_LIST_FROM_NS", 304), ("GET_UNIT_TOPIC_LIST", 311),
                       ("GET_HAS_UNIT_SUB_TOPIC_LIST", 312), ("GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST", 313)):
        yield Case(name, code, at="namesrv")
    yield from Case("GET_TOPICS_BY_CLUSTER", 224, {"cluster": "DefaultCluster"}, at="namesrv").relatives()
    yield from Case("GET_BROKER_MEMBER_GROUP", 901, {"clusterName": "DefaultCluster", "brokerName": "broker-a"},
                    at="namesrv").relatives()
    yield Case("GET_BROKER_MEMBER_GROUP/unknown", 901, {"clusterName": NO_SUCH, "brokerName": NO_SUCH}, at="namesrv")
