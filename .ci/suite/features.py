"""What a client can ask of a broker, feature by feature, and which scenario shows it with which client.

This is the table in protocol/CLIENTS.md (`.ci/interop --table`), and a promise to every run: each scenario named here
must pass a check with the word that stands beside it. A feature that our server does not have yet has `built=False`:
its scenarios run against the Java broker only, and are listed as not built, never as passed.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

CLIENTS = {
    "java-4.9.8": "Java 4.9.8",
    "java-5.3.3": "Java 5.3.3",
    "java-5.3.3-binary": "Java 5.3.3, binary header",
    "go-client": "Go 2.1.2",
    "ali-ons": "Node.js ali-ons 3.12.0",
    "cpp-wheel": "C++ in the Python wheel 0.4.4",
    "rust-client": "Rust 1.0.0",
    "mqadmin": "mqadmin 5.3.3",
}


@dataclass(frozen=True)
class Feature:
    name: str
    title: str
    # Scenarios by pattern, what one of their passed checks must say, and the client unless their name begins with it.
    shown: tuple
    built: bool = True


FEATURES = (
    Feature("send", "synchronous sends", (
        ("java-* Send", "offsets of one queue"), ("go-client", "sync send"), ("ali-ons", "every send"),
        ("cpp-wheel", "sync send"), ("rust-client", "every send"))),
    Feature("async", "asynchronous and one-way sends", (
        ("java-* Send", "async sends"), ("java-* Send", "oneway sends"), ("go-client", "async send"))),
    Feature("batch", "batches", (
        ("java-* Send", "batch of 30"), ("java-* Shapes", "batch:"), ("go-client", "batch"))),
    Feature("compressed", "compressed bodies", (
        ("java-* Shapes", "compressed:"), ("languages", "compressed: go-client", "go-client"),
        ("languages", "compressed: ali-ons", "ali-ons"), ("languages", "compressed: cpp-wheel", "cpp-wheel"),
        ("languages", "compressed: rust-client", "rust-client"))),
    Feature("languages", "compressed bodies of each of the others", (
        ("languages", "compressed: java-5.3.3", "java-5.3.3"), ("languages", "compressed: go-client", "go-client"),
        ("languages", "compressed: ali-ons", "ali-ons"), ("languages", "compressed: cpp-wheel", "cpp-wheel"),
        ("languages", "compressed: rust-client", "rust-client"))),
    Feature("push", "push consumer", (
        ("java-* Push", "successor starts"), ("go-client", "every message is consumed"), ("ali-ons", "are consumed"),
        ("cpp-wheel", "push consumer"), ("rust-client", "every message is consumed"))),
    Feature("long-poll", "new messages at once (long polling)", (("java-* Push", "parked pull is woken"),)),
    Feature("pull", "pull consumer", (("java-* Pull", "pulled in order"), ("cpp-wheel", "pull consumer"))),
    Feature("offsets", "offsets, search by time", (("java-* Pull", "search by time"),)),
    Feature("lite-pull", "lite pull consumer", (("java-* LitePull", "subscription polls"),)),
    Feature("tags", "tag filters, of tags with one hash too", (
        ("java-* Shapes", "tags of one hash: a subscription of BB"), ("go-client", "tags of one hash"),
        ("ali-ons", "tags of one hash"), ("cpp-wheel", "tags of one hash"), ("rust-client", "tags of one hash"))),
    Feature("sql92", "SQL92 filters", (("java-* Sql92", "SQL92: a push consumer"), ("go-client", "SQL92:"))),
    Feature("sql92-all", "SQL92 in pull, lite pull, broadcast and retries", (
        ("java-* Sql92", "SQL92: a pull with colour"), ("java-* Sql92", "SQL92: a lite pull"),
        ("java-* Sql92", "second broadcasting member"), ("java-* Sql92", "passes the filter again"))),
    Feature("retry", "retries", (
        ("java-* Retry", "comes once more"), ("go-client", "comes again"), ("ali-ons", "comes again"),
        ("cpp-wheel", "comes again"))),
    Feature("dead-letters", "dead letters", (("java-* Retry", "dead letter"), ("go-client", "dead letter"))),
    Feature("retry-orderly", "retries in place and dead letters of orderly consumers", (
        ("java-* RetryOrderly", "orderly: one dead letter"),)),
    Feature("delay", "delay levels", (
        ("java-* Delay", "level 2"), ("go-client", "delay level"), ("ali-ons", "delay level"),
        ("cpp-wheel", "delay level"), ("rust-client", "delay level"))),
    Feature("orderly", "orderly consumption", (
        ("java-* Orderly", "in order"), ("go-client", "orderly:"), ("cpp-wheel", "orderly:"))),
    Feature("orderly-rebalance", "orderly consumption while members come and go", (
        ("java-* OrderlyRebalance", "nothing out of order"),)),
    Feature("rebalance", "rebalancing when members come, go and die", (("java-* Rebalance", "survivor of a kill"),)),
    Feature("broadcast", "broadcasting", (
        ("java-* Broadcast", "goes on where it stopped"), ("go-client", "broadcast:"), ("cpp-wheel", "broadcast:"))),
    Feature("from-where", "consume from the first, the last, a time; with and without offsets", (
        ("java-* FromWhere", "from a time"), ("java-* FromWhere", "with offsets"))),
    Feature("namespace", "namespaces", (
        ("java-* Namespaces", "its messages and no others"), ("go-client", "namespace:"))),
    Feature("view", "a message by its id", (("java-* Pull", "view by id shows the body"),)),
    Feature("admin", "topics, groups, routes, progress, statistics", (("mqadmin", "clusterList"),)),
    Feature("guide", "the programs of the vendor's guide", (("java-* guide", "from before its start"),)),
    Feature("survive", "going on across a kill -9 of the server", (
        ("java-* Survive", "every acknowledged message arrives"),)),
    Feature("rewind", "rewinding a group without members", (
        ("java-* Rewind", "an offline group sees again"), ("java-* Rewind", "the tool names", "mqadmin"))),
    Feature("transactions", "transactions: commit, rollback, check-back", (
        ("java-* Transactions", "checked back"), ("go-client transactions", "checked back"))),
    Feature("timer", "timer messages of any time, recall", (("java-5.3.3 Timers", "recalled"),)),
    Feature("pop", "POP with assignment by the broker", (("java-5.3.3 Pop", "POP:"),)),
    Feature("request-reply", "request and reply", (("java-* Requests", "gets its own reply"),)),
    Feature("trace", "message trace", (
        ("java-* Trace", "trace of the consumption"), ("java-* Trace", "queryMsgTraceById", "mqadmin"))),
    Feature("query", "messages by key and by unique id", (
        ("java-* Query", "by key"), ("java-* Query", "queryMsgByKey", "mqadmin"))),
    Feature("online-group", "a running group: what it does, one message by hand, rewinding", (
        ("java-* Running", "running info", "mqadmin"), ("java-* Running", "by hand"), ("java-* Running", "set back"))),
)


def of(scenario):
    """The features that a scenario shows, each with the word that says so."""
    return [(each, word) for each in FEATURES for pattern, word, *_ in each.shown if fnmatchcase(scenario, pattern)]


def pending(scenario):
    """The first feature of a scenario that our server does not have."""
    return next((each for each, _ in of(scenario) if not each.built), None)


def missing(scenario, passed):
    """What the table says of a scenario and its passed checks do not."""
    return [f"shows {each.title}: no passed check says '{word}'" for each, word in of(scenario)
            if not any(word in check for check in passed)]


def table(scenarios):
    """Markdown: a row for each feature, a column for each client."""
    rows = [["feature", *CLIENTS.values()]]
    for feature in FEATURES:
        shown = set()
        for pattern, _, *client in feature.shown:
            matching = [name for name in scenarios if fnmatchcase(name, pattern)]
            assert matching, f"no scenario is called {pattern}"
            shown.update(client[:1] or [name.split()[0] for name in matching])
        mark = "run" if feature.built else "not built"
        rows.append([feature.title] + [mark if client in shown else "" for client in CLIENTS])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
