"""What is not the same in two answers, each difference with the part of the answer it is in."""

import re
from dataclasses import dataclass

from .normal_form import NormalForm

ABSENT = "(absent)"
# A fault that Java did not foresee names a class of its own: any clear words of ours mean the same.
_EXCEPTION = re.compile(r"Exception|Cannot (invoke|read)|^java\.")


@dataclass
class Difference:
    case: str
    part: str
    java: object
    ours: object


def between(case, java, java_names, ours, our_names):
    found = []

    def compare(part, left, right):
        if isinstance(left, dict) and isinstance(right, dict):
            for key in sorted(left.keys() | right.keys()):
                compare(f"{part}.{key}", left.get(key, ABSENT), right.get(key, ABSENT))
        elif _is_set(left) and _is_set(right):
            for item in sorted(left + right):
                if item not in left or item not in right:
                    found.append(Difference(case.name, f"{part}[{item}]", *("there" if item in side else ABSENT
                                                                            for side in (left, right))))
        elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            for at, (one, other) in enumerate(zip(left, right)):
                compare(f"{part}[{at}]", one, other)
        elif left != right:
            found.append(Difference(case.name, part, left, right))

    if java.outcome != ours.outcome:
        describe = lambda answer: answer.outcome if answer.outcome != "answer" else f"code {answer.header['code']}"
        return [Difference(case.name, "outcome", describe(java), describe(ours))]
    if java.outcome != "answer":
        return []

    left, right = NormalForm(java_names), NormalForm(our_names)
    remarks = left.remark(java.header.get("remark")), right.remark(ours.header.get("remark"))
    codes = java.header["code"], ours.header["code"]
    if codes[0] != codes[1]:
        # All else follows from this.
        return [Difference(case.name, "code", *(f"{code} {remark or ''}".strip() for code, remark in zip(codes, remarks)))]
    for part in ("flag", "version", "language", "codec"):
        compare(part, java.header.get(part), ours.header.get(part))
    if not same_meaning(*remarks):
        compare("remark", *remarks)
    if remarks[0] and _EXCEPTION.search(remarks[0]):
        # The fields are what the fault has left of them.
        return found
    compare("field", left.fields(java.fields), right.fields(ours.fields))
    compare("asked", [left.request(*each) for each in java.asked], [right.request(*each) for each in ours.asked])
    bodies = left.body(java.body), right.body(ours.body)
    compare("body", *map(_names_of, bodies) if case.names_only else bodies)
    return found


def _names_of(body):
    if isinstance(body, str):
        # Settings: key=value, one to a line.
        body = dict(line.partition("=")[::2] for line in body.splitlines())
    return _members(body)


def _members(body):
    return {key: _members(value) for key, value in body.items()} if isinstance(body, dict) else "<value>"


def _is_set(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def same_meaning(java, ours):
    return (java or None) == (ours or None) or bool(java and ours and _EXCEPTION.search(java))
