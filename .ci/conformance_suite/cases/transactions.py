"""Half messages, how they end, and what is then in the queues."""

import time

from ..case import Case
from .send import physical_offset, short

KEY = "7F000001000018B4AAC2000000%06X"
COMMIT, ROLLBACK = 8, 12


def half(name, number=0, more="", properties=None, age_s=0, **changes):
    """In a topic of its own, so that its place in the half queue is told as it is."""
    if properties is None:
        properties = f"TRAN_MSG\x01true\x02PGROUP\x01senders\x02UNIQ_KEY\x01{KEY % number}\x02{more}"

    def keep(kept, answer):
        stored = answer.header["code"] == 0
        kept[name] = (answer.fields["queueOffset"], physical_offset(answer)) if stored else (0, 0)

    born = lambda kept: int((time.time() - age_s) * 1000)
    fields = short(**{"topic": f"tx-{name}", "queueId": 0, "sysFlag": 4, "properties": properties, "bornTimestamp": born,
                      **changes})
    return Case(f"SEND_MESSAGE_V2/half-{name}", 310, fields, name.encode(), connection="transactions", keep=keep)


def end(suffix, name, outcome, **changes):
    fields = {"producerGroup": "senders", "tranStateTableOffset": lambda kept: kept[name][0],
              "commitLogOffset": lambda kept: kept[name][1], "commitOrRollback": outcome, "fromTransactionCheck": False,
              "msgId": "x", "transactionId": "x", **changes}
    return Case(f"END_TRANSACTION/{suffix}" if suffix else "END_TRANSACTION", 37, fields, connection="transactions")


def cases():
    yield half("committed", 1, "TAGS\x01red\x02KEYS\x01k1\x02own\x01value\x02", flag=5)
    yield half("rolled-back", 2)
    yield half("asked", 3)
    yield half("other", 4)
    yield half("in-time", 5, "CHECK_IMMUNITY_TIME_IN_SECONDS\x01100\x02", age_s=50)
    yield half("too-late", 6, "CHECK_IMMUNITY_TIME_IN_SECONDS\x011\x02", age_s=50)
    yield half("no-number", 7, "CHECK_IMMUNITY_TIME_IN_SECONDS\x01soon\x02", age_s=50)
    yield half("compressed", 8, sysFlag=5)
    yield half("flag-only", properties="")
    yield half("reconsumed", 10, reconsumeTimes=2)
    yield half("old-retry", 11, "DELAY\x011\x02", reconsumeTimes=2, sysFlag=0)
    yield half("delayed", 12, "DELAY\x011\x02")
    yield half("word", properties="TRAN_MSG\x01yes\x02", sysFlag=0)
    yield half("upper", properties="TRAN_MSG\x01TRUE\x02PGROUP\x01senders\x02", sysFlag=0)

    for suffix, outcome in (("unknown", 0), ("prepared", 4), ("nonsense", 99)):
        yield end(suffix, "asked", outcome).but("one", limit_s=0.5)
    yield end("wrong-group", "committed", COMMIT, producerGroup="thieves")
    yield end("wrong-place", "committed", COMMIT, tranStateTableOffset=lambda kept: kept["other"][0])
    yield end("wrong-log-place", "committed", COMMIT, commitLogOffset=lambda kept: kept["other"][1])
    yield end("nowhere", "committed", COMMIT, commitLogOffset=10**12)
    yield end("before-the-log", "committed", COMMIT, commitLogOffset=-1)
    yield end("no-half-message", "committed", COMMIT, commitLogOffset=lambda kept: kept["stored"])
    yield end("commit", "committed", COMMIT)
    yield end("commit-with-topic", "compressed", COMMIT, topic="tx-compressed", bname="broker-a")
    yield end("rollback-one-way", "other", ROLLBACK).but("sent", flag=2, limit_s=0.5)
    yield from end("", "rolled-back", ROLLBACK).relatives()
    yield end("commit-checked", "asked", COMMIT, fromTransactionCheck=True)
    yield end("commit-in-time", "in-time", COMMIT)
    yield end("commit-no-number", "no-number", COMMIT)
    yield end("too-late", "too-late", COMMIT)
    yield end("too-late-rollback", "too-late", ROLLBACK)
    yield end("too-late-checked", "too-late", ROLLBACK, fromTransactionCheck=True)
    yield end("reconsumed", "reconsumed", COMMIT)
    yield end("upper", "upper", ROLLBACK)
    for name in ("committed", "rolled-back", "asked", "other", "in-time", "too-late", "no-number", "compressed",
                 "flag-only", "reconsumed", "old-retry", "word"):
        yield Case(f"PULL_MESSAGE/after-ends/tx-{name}", 11, {
            "consumerGroup": "readers", "topic": f"tx-{name}", "queueId": 0, "queueOffset": 0, "maxMsgNums": 2,
            "sysFlag": 4, "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0},
            connection="transactions", pause_s=1.5 if name == "committed" else 0)
    yield Case("RESUME_CHECK_HALF_MESSAGE", 323, {"topic": "Work", "msgId": "x"}, connection="transactions")
    yield Case("RESUME_CHECK_HALF_MESSAGE/no-msgId", 323, {"topic": "Work"}, connection="transactions")
    yield Case("RESUME_CHECK_HALF_MESSAGE/nowhere", 323, {"topic": "Work", "msgId": "7F00000100002A9F000000E8D4A51000"},
               connection="transactions")
