"""Codes that nobody serves, and codes at the wrong door."""

from ..case import Case

UNKNOWN = (0, -1, 1, 9, 13, 99, 30_000, 999_999, 2**31 - 1, -2**31)


def cases():
    for at in ("broker", "vip", "namesrv"):
        for code in UNKNOWN:
            yield Case(f"unknown/{at}/{code}", code, {"topic": "Work"}, at=at)
        yield Case(f"unknown/{at}/binary", 9, {}, at=at, codec="binary")
        yield Case(f"unknown/{at}/one-way", 9, {}, at=at, flag=2, limit_s=0.5)
        yield Case(f"unknown/{at}/response", 9, {}, at=at, flag=1, limit_s=0.5)
    for code in (105, 106, 206):
        yield Case(f"unknown/broker/{code}", code, {"topic": "Work"})
    for code in (10, 11, 34):
        yield Case(f"unknown/namesrv/{code}", code, {"topic": "Work"}, at="namesrv")
