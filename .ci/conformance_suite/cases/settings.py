"""Settings of a running broker: what is refused, and what a change does at once."""

from ..case import Case
from .pull import PULL
from .send import short


def cases():
    change = Case("UPDATE_BROKER_CONFIG", 25, None, b"traceOn=true\n", connection="settings")
    yield change
    yield change.but("binary", codec="binary")
    yield change.but("ext-fields", fields={"anything": "x"})
    for what, body in {
            "no-body": b"", "blank": b"\n", "comment": b"# x\n", "broken": b"a=\\u12\n", "unknown": b"mine=1\n",
            "no-value": b"mine\n", "path": b"brokerConfigPath=/x\n", "home": b"rocketmqHome=/x\n",
            "black-list": b"configBlackList=\n", "path-and-more": b"traceOn=false\nbrokerConfigPath=/x\n",
            "inert": b"transferMsgByHeap=true\n", "bad-bool": b"traceOn=yes\n", "bad-number": b"fileReservedTime=4x\n",
            "several": b"traceOn=true\nregionId=DefaultRegion\n"}.items():
        yield change.but(what, body=body)
    send = Case("SEND_MESSAGE_V2/settings", 310, short(topic="Settings", queueId=0), b"0123456789")
    pull = Case("PULL_MESSAGE/settings", 11, {**PULL, "consumerGroup": "readers", "topic": "Settings"})
    reply = Case("SEND_REPLY_MESSAGE_V2/settings", 325, short(topic="SettingsReplies", queueId=0), b"reply")
    fresh = send.with_field("new-topic", b="SettingsNew")
    group = pull.with_field("new-group", consumerGroup="settings-new")
    sql = pull.with_field("sql", expressionType="SQL92", subscription="own is null")
    held = pull.with_field("held", sysFlag=6, queueOffset=1, suspendTimeoutMillis=2000)
    yield send
    for setting, usual, cases in (
            ("traceOn=false", "true", [send, reply]), ("regionId=Other", "DefaultRegion", [send, reply]),
            ("autoCreateTopicEnable=false", "true", [fresh]),
            ("autoCreateSubscriptionGroup=false", "true", [group]), ("enablePropertyFilter=true", "false", [sql]),
            ("brokerPermission=2", "6", [pull, send]), ("brokerPermission=4", "6", [pull, send]),
            ("startAcceptSendRequestTimeStamp=9999999999999", "0", [send, reply]),
            ("longPollingEnable=false", "true", [held]), ("shortPollingTimeMills=10", "1000", []),
            ("maxTransferCountOnMessageInMemory=1", "32", [pull]), ("storeReplyMessageEnable=false", "true", [reply])):
        yield change.but(setting, body=setting.encode())
        for case in cases:
            yield case.but(setting)
        yield change.but(f"{setting}-back", body=f"{setting.partition('=')[0]}={usual}\n".encode())
        for case in cases:
            yield case.but(f"{setting}-back")
