"""Each code that no other module sends, once as a client or a tool would, after everything else: some change the state."""

from ..case import Case

OTHERS = {
    "GET_BROKER_HA_STATUS": (907, None),
}


def cases():
    for name, (code, fields) in OTHERS.items():
        yield Case(name, code, fields, connection="others")
    yield Case("GET_BROKER_CONFIG", 26, connection="others", names_only=True)
    yield Case("GET_NAMESRV_CONFIG", 319, at="namesrv", names_only=True)
    for name, code in (("GET_TOPIC_CONFIG_LIST", 22), ("GET_TOPIC_NAME_LIST", 23), ("TRIGGER_DELETE_FILES", 27),
                       ("GET_CLIENT_CONFIG", 47), ("SUSPEND_CONSUMER", 209), ("WHO_CONSUME_THE_MESSAGE", 214),
                       ("REGISTER_FILTER_SERVER", 301), ("POP_ROLLBACK", 200056)):
        yield Case(name, code, {"topic": "Work"}, connection="others")
