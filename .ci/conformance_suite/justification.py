"""Differences that are right, one to a line: `CASE PART | reason`.

In a case or a part {a,b} stands for one of the words between the braces, and * for anything.
"""

from dataclasses import dataclass
import re


@dataclass
class Justification:
    case: str
    part: str
    reason: str
    uses: int = 0

    def covers(self, difference):
        return _matches(self.case, difference.case) and _matches(self.part, difference.part)


def read(path):
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, bar, reason = line.partition(" | ")
        if not bar or len(pattern.split()) != 2 or not reason.strip():
            raise ValueError(f"{path}:{number}: not of the form 'CASE PART | reason'")
        found.append(Justification(*pattern.split(), reason.strip()))
    return found


def settle(differences, justifications):
    """Pairs each difference with the first line that covers it, or None."""
    settled = []
    for difference in differences:
        reason = next((each for each in justifications if each.covers(difference)), None)
        if reason:
            reason.uses += 1
        settled.append((difference, reason))
    return settled


def _matches(pattern, text):
    # Not fnmatch, to which the brackets of parts are special. A blank in a part is written as *.
    expression = "".join(_piece(piece) for piece in re.split(r"(\*|\{[^{}\"]*\})", pattern))
    return re.fullmatch(expression, text, re.DOTALL)


def _piece(piece):
    if piece == "*":
        return ".*"
    if piece.startswith("{"):
        return "(?:%s)" % "|".join(map(re.escape, piece[1:-1].split(",")))
    return re.escape(piece)
