"""What brokers and operators tell the name server: registrations, permissions, topics taken off its routes."""

from ..case import Case, NO_SUCH

CONFIG = {"topicName": "Elsewhere", "readQueueNums": 2, "writeQueueNums": 2, "perm": 6, "topicFilterType": "SINGLE_TAG",
          "topicSysFlag": 0, "order": False, "attributes": {}}
VERSION = {"counter": 1, "stateVersion": 0, "timestamp": 1}
BROKER = {"brokerName": "broker-x", "brokerAddr": "127.0.0.1:1", "clusterName": "OtherCluster", "brokerId": 0}


def cases():
    def asked(name, code, fields=None, body=b"", **more):
        return Case(name, code, fields, body, at="namesrv", connection="broker-x", **more)

    register = asked("REGISTER_BROKER", 103, {**BROKER, "haServerAddr": "127.0.0.1:2", "bodyCrc32": 0, "compressed": False}, {
        "filterServerList": [], "topicConfigSerializeWrapper": {
            # Two, since one alone is an addition to what was registered before.
            "dataVersion": VERSION, "topicConfigTable": {"Elsewhere": CONFIG, "There": {**CONFIG, "topicName": "There"}}}})
    yield register.but("first")
    yield register.but("again")
    yield register.with_field("slave", brokerId=1, brokerAddr="127.0.0.1:3")
    yield register.with_field("bad-crc", bodyCrc32=7)
    route = asked("GET_ROUTEINFO_BY_TOPIC/Elsewhere", 105, {"topic": "Elsewhere"})
    yield route
    version = asked("QUERY_DATA_VERSION", 322, BROKER, VERSION)
    yield version
    yield version.but("newer", body={**VERSION, "counter": 2})
    yield version.with_field("unknown-broker", brokerName=NO_SUCH, brokerAddr="127.0.0.1:9")
    yield from _permissions(asked, route)
    for topic in ("Registered", ""):
        yield asked(f"REGISTER_TOPIC_IN_NAMESRV/{topic}", 217, {"topic": topic}, {
            "brokerDatas": [{"cluster": "OtherCluster", "brokerName": "broker-x", "brokerAddrs": {"0": "127.0.0.1:1"}}],
            "queueDatas": [{"brokerName": "broker-x", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6, "topicSysFlag": 0}]})
    yield asked("GET_ROUTEINFO_BY_TOPIC/Registered", 105, {"topic": "Registered"})
    for fields in ({"topic": "Registered"}, {"topic": NO_SUCH}, {"topic": "Elsewhere", "clusterName": "OtherCluster"},
                   {"topic": "Elsewhere", "clusterName": NO_SUCH}, {}):
        yield asked(f"DELETE_TOPIC_IN_NAMESRV/{'-'.join(fields.values())}", 216, fields)
        yield route.but(f"after-{'-'.join(fields.values())}")
    for fields in ({**BROKER, "brokerId": 1, "brokerAddr": "127.0.0.1:3"}, {**BROKER, "brokerName": NO_SUCH}, BROKER, BROKER):
        yield asked(f"UNREGISTER_BROKER/{fields['brokerName']}-{fields['brokerId']}", 104, fields)
        # Java answers first and takes it out later.
        yield asked(f"GET_BROKER_CLUSTER_INFO/after-{fields['brokerName']}-{fields['brokerId']}", 106, pause_s=0.5)


def _permissions(asked, route):
    for name, code in (("WIPE_WRITE_PERM_OF_BROKER", 205), ("ADD_WRITE_PERM_OF_BROKER", 327)):
        for broker in ("broker-x", NO_SUCH):
            yield asked(f"{name}/{broker}", code, {"brokerName": broker})
            yield route.but(f"after-{name}-{broker}")
        yield asked(f"{name}/no-brokerName", code, {})
