"""What a run has shown, as Markdown."""

import json

SHOWN_CHARS_MAX = 160


def line(difference):
    return f"{difference.case}: {difference.part}: {shown(difference.java)} | {shown(difference.ours)}"


def shown(value):
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = text.replace("\n", " ").replace("\r", "")
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "..."


def markdown(case_count, settled, justifications, command):
    open_ones = [difference for difference, reason in settled if not reason]
    names = {difference.case for difference, _ in settled}
    lines = [
        "# Conformance with the Java 5.3.3 name server and broker", "",
        f"Made with `{command}`. {case_count} requests were sent to both: {case_count - len(names)} answered alike, "
        f"{len(settled) - len(open_ones)} differences justified, {len(open_ones)} not.", "",
        "## Differences not justified", ""]
    lines += _table(open_ones) if open_ones else ["None."]
    lines += ["", "## Justified", "", "| cases | part | differences | reason |", "|---|---|---|---|"]
    lines += [f"| {_cell(each.case)} | {_cell(each.part)} | {each.uses} | {_cell(each.reason)} |"
              for each in justifications if each.uses]
    return "\n".join(lines) + "\n"


def _table(differences):
    rows = ["| case | part | Java | ours |", "|---|---|---|---|"]
    return rows + [f"| {_cell(each.case)} | {_cell(each.part)} | {_cell(shown(each.java))} | {_cell(shown(each.ours))} |"
                   for each in differences]


def _cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")
