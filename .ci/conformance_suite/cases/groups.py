"""Configurations of consumer groups."""

from ..case import Case, ILLEGAL_NAMES

CONFIG = {"groupName": "configured", "consumeEnable": True, "consumeFromMinEnable": True, "consumeBroadcastEnable": True,
          "consumeMessageOrderly": False, "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0,
          "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": True, "groupSysFlag": 0,
          "consumeTimeoutMinute": 15, "attributes": {}}


def cases():
    make = Case("UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", 200, None, CONFIG)
    yield from make.relatives()
    for what, name in ILLEGAL_NAMES.items():
        yield make.but(what, body={**CONFIG, "groupName": name})
    yield make.but("system", body={**CONFIG, "groupName": "CID_RMQ_SYS_TRANS"})
    yield make.but("retry-queues-minus", body={**CONFIG, "groupName": "minus", "retryQueueNums": -1})
    yield make.but("unknown-member", body={**CONFIG, "colour": "red"})
    yield make.but("attributes-unknown", body={**CONFIG, "groupName": "attributed", "attributes": {"+colour": "red"}})
    yield make.but("numbers-as-text", body={**CONFIG, "retryMaxTimes": "7"})
    many = Case("UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST", 225, None, {"groupConfigList": [
        {**CONFIG, "groupName": "listed"}]})
    yield from many.relatives()

    one = Case("GET_SUBSCRIPTIONGROUP_CONFIG", 352, {"group": "configured"})
    yield from one.relatives()
    for group in ("listed", "committers", "disabled", "eaters", "minus", "CID_RMQ_SYS_TRANS", "DEFAULT_CONSUMER",
                  "TOOLS_CONSUMER", "SELF_TEST_C_GROUP", "CID_ONSAPI_PULL", "CID_ONS-HTTP-PROXY", "__MONITOR_CONSUMER",
                  "FILTERSRV_CONSUMER", "SCHEDULE_CONSUMER", "L" * 300, "g" * 121, "a/b", "bad name!"):
        yield one.with_field(group, group=group)
    every = Case("GET_ALL_SUBSCRIPTIONGROUP_CONFIG", 201)
    yield every
    yield every.but("empty-ext-fields", fields={})
    yield every.but("first-page", fields={"groupSeq": 0, "maxGroupNum": 3})
    yield every.but("letters", fields={"groupSeq": "abc", "maxGroupNum": "abc"})
