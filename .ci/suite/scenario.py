"""The scenarios: which program, with which client, under which time limit, and which features it shows to work.

A program prints `PASS what` or `FAIL what: why` for each of its checks; other lines are only logged.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import features, process
from .install import HERE, JAVA_CLIENTS, JAVA_TOOLS
from .server import create_topic, route_known

# Seconds for one scenario of a Java client. A client that misses a notice looks again after 20 or 30 s.
JAVA_LIMIT_S = 150
JAVA = ("Send", "Push", "Retry", "Orderly", "Broadcast", "Pull", "LitePull", "Delay", "Rebalance", "Sql92",
         "RetryOrderly", "OrderlyRebalance", "FromWhere", "Shapes", "Namespaces", "Rewind", "Transactions",
         "Requests", "Trace", "Query", "Running")
# Sources that need the API of 5.x.
JAVA_5 = ("Timers", "Pop")
# The 5.x client with the binary header instead of JSON.
JAVA_BINARY = ("Send", "Push", "Retry", "Pull")


@dataclass
class Verdict:
    passed: list = field(default_factory=list)
    failed: list = field(default_factory=list)

    def read(self, status, lines, limit_s):
        for line in lines:
            if line.startswith("PASS "):
                self.passed.append(line[5:])
            elif line.startswith("FAIL "):
                self.failed.append(line[5:])
        if status is None:
            self.failed.append(f"ends within {limit_s} s")
        elif status != 0 and not self.failed:
            self.failed.append(f"exits with 0: {status}")
        elif not self.passed and not self.failed:
            self.failed.append("checks something: no check was printed")
        return self

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        return self


@dataclass
class Scenario:
    name: str
    limit_s: int
    tell: object
    # Restarts the server, so nothing else may run beside it.
    alone: bool = False

    def run(self, bench):
        verdict = self.tell(bench, self)
        if not verdict.failed:
            verdict.failed += features.missing(self.name, verdict.passed)
        return verdict


@dataclass
class Bench:
    """Where scenarios run: the server, the installed clients, a directory for logs."""
    server: object
    cache: object
    logs: Path

    def java(self, version, main, name, binary_header=False):
        flags = ["-Drocketmq.serialize.type=ROCKETMQ"] if binary_header else []
        return ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-Dsun.stdout.encoding=UTF-8",
                "-Dstdout.encoding=UTF-8", f"-Duser.home={self.home(name)}", *flags,
                "-cp", self.cache.java_programs(version), f"interop.{main}", self.server.namesrv]

    def admin(self, name, *words):
        return ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Duser.home={self.home(name)}",
                f"-Drocketmq.home.dir={self.home(name)}", "-cp", self.cache.java_jars("tools", JAVA_TOOLS),
                "org.apache.rocketmq.tools.command.MQAdminStartup", *words]

    def home(self, name):
        """Clients keep logs and offsets below the home directory; each scenario has its own."""
        home = self.logs / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def log(self, name):
        return self.home(name) / "output.log"

    def check(self, scenario, command, env=None, on_line=None):
        """Runs a program of checks. A line `ADMIN word<tab>word` of it is a command for the admin tool: it gets back
        the number of lines, then the lines."""
        def answer(program, line):
            if line.startswith("ADMIN "):
                words = line[6:].split("\t")
                _, output = process.run(["sh", "-c", '"$@" 2>&1', "sh",
                                         *self.admin(scenario.name, *words, "-n", self.server.namesrv)],
                                        self.log(scenario.name), 60)
                program.stdin.write("\n".join([str(len(output)), *output]) + "\n")
                program.stdin.flush()
            elif on_line:
                on_line(program, line)

        status, lines = process.run(command, self.log(scenario.name), scenario.limit_s,
                                    env=dict(os.environ, **(env or {})), cwd=self.home(scenario.name), on_line=answer)
        return Verdict().read(status, lines, scenario.limit_s)

    def node(self, scenario, *arguments):
        return self.check(scenario, ["node", HERE / "node/exchange.js", self.server.namesrv, *arguments],
                          env={"NODE_PATH": str(self.cache.node_project()), "HOME": str(self.home(scenario.name))})

    def wheel(self, scenario, *arguments):
        return self._native(scenario, self.cache.python(), HERE / "python/exchange.py", self.server.namesrv, *arguments)

    def go(self, scenario, *arguments):
        return self._native(scenario, self.cache.go_program(), self.server.namesrv, *arguments)

    def rust(self, scenario, *arguments):
        return self._native(scenario, self.cache.rust_program(), self.server.namesrv, *arguments)

    def _native(self, scenario, *command):
        return self.check(scenario, command, env={"HOME": str(self.home(scenario.name))})

    def create_topic(self, topic):
        """For clients that never create one by sending, known to the name server when this is true."""
        deadline = time.monotonic() + 20
        while not (create_topic(self.server.broker_port, topic) and route_known(self.server.namesrv_port, topic)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def pop(self, scenario, topic, group):
        """The broker shall hand out the topic's messages to the group."""
        where = ["-n", self.server.namesrv, "-c", "DefaultCluster"]
        for words in (["updateSubGroup", *where, "-g", group],
                      ["setConsumeMode", *where, "-t", topic, "-g", group, "-m", "POP", "-q", "0"]):
            process.run(self.admin(scenario.name, *words), self.log(scenario.name), 60)


def all_scenarios():
    found = []
    for version in JAVA_CLIENTS:
        found += [_java(version, main) for main in JAVA]
    found += [_java("5.3.3", main) for main in JAVA_5]
    found += [_java("5.3.3", main, binary_header=True) for main in JAVA_BINARY]
    found.append(Scenario("java-5.3.3 PopRedelivery", JAVA_LIMIT_S, _pop))
    for version in JAVA_CLIENTS:
        found.append(Scenario(f"java-{version} guide", 150, _guide(version)))
    found.append(Scenario("mqadmin", 300, _mqadmin))
    found.append(Scenario("ali-ons", 180, _node))
    found.append(Scenario("cpp-wheel", 180, _wheel))
    found.append(Scenario("go-client", 180, _go))
    found.append(Scenario("rust-client", 180, _rust))
    found.append(Scenario("languages", 120, _languages))
    found.append(Scenario("go-client transactions", 120, _go_part("transactions")))
    for version in JAVA_CLIENTS:
        found += [Scenario(f"java-{version} {main}", 180, _survive(version, main), alone=True)
                  for main in ("Survive", "TransactionSurvive")]
    return found


def _pop(bench, scenario):
    label = "java-533"
    topic = f"PopRedelivery_{label}"
    bench.create_topic(topic)
    for group in ("pop", "pop_ordered"):
        bench.pop(scenario, topic, f"G_{group}_{label}")
    return bench.check(scenario, bench.java("5.3.3", "PopRedelivery", scenario.name) + [label])


def _java(version, main, binary_header=False):
    client = f"java-{version}" + ("-binary" if binary_header else "")
    label = client.replace(".", "")

    def tell(bench, scenario):
        return bench.check(scenario, bench.java(version, main, scenario.name, binary_header) + [label])

    return Scenario(f"{client} {main}", JAVA_LIMIT_S, tell)


def _survive(version, main):
    def tell(bench, scenario):
        def on_line(program, line):
            if line == "READY":
                bench.server.crash()
                program.stdin.write("\n")
                program.stdin.flush()

        label = "java-" + version.replace(".", "")
        return bench.check(scenario, bench.java(version, main, scenario.name) + [label], on_line=on_line)

    return tell


# The guide's group and topic are fixed; two consumers at a time would take each other's messages.
_guide_group = threading.Lock()


def _guide(version):
    """The producer runs before and after the consumer's start; the consumer prints its message each time."""
    def tell(bench, scenario):
        with _guide_group:
            return both_programs(bench, scenario)

    def both_programs(bench, scenario):
        home = bench.home(scenario.name)
        classes = bench.cache.java_guide(version, bench.server.namesrv, home / "classes")
        java = ["java", f"-Duser.home={home}", "-cp", classes]
        verdict = Verdict()
        deadline = time.monotonic() + scenario.limit_s

        def produce():
            status, _ = process.run(java + ["Producer"], bench.log(scenario.name), 30)
            (verdict.passed if status == 0 else verdict.failed).append(f"the producer ends with 0: {status}")

        produce()
        output = home / "consumer.out"
        with open(output, "w") as log:
            consumer = process.start(java + ["Consumer"], log)
        try:
            def more_than(count):
                while (found := output.read_text(errors="replace").splitlines().count("Hello RocketMQ")) <= count:
                    if time.monotonic() > deadline:
                        return 0
                    time.sleep(0.1)
                return found

            first = more_than(0)
            (verdict.passed if first else verdict.failed).append("a message from before its start is printed")
            time.sleep(1)
            printed = more_than(0)
            produce()
            later = more_than(printed)
            (verdict.passed if later else verdict.failed).append("a message from after its start is printed")
        finally:
            process.stop(consumer)
        return verdict

    return tell


def _mqadmin(bench, scenario):
    exchange = bench.check(scenario, bench.java("5.3.3", "Exchange", scenario.name) + ["admin"])
    if exchange.failed:
        return exchange
    checks = HERE / "mqadmin/checks.py"
    return bench.check(scenario, ["python3", checks, bench.server.namesrv, bench.server.broker,
                                  *bench.admin(scenario.name)])


# Topics next to the first one, for clients that never create one by sending.
GO_TOPICS = ("", "-tags", "-sql92", "-delay", "-dead", "-orderly", "-broadcast", "-space")
CPP_TOPICS = ("-tags", "-orderly", "-delay", "-broadcast")


def _created(bench, *topics):
    return Verdict(failed=[f"the suite makes {topic}" for topic in topics if not bench.create_topic(topic)])


def _node(bench, scenario):
    made = _created(bench, "node-topic")
    return made.add(bench.node(scenario, "node-topic"))


def _wheel(bench, scenario):
    made = _created(bench, *("cpp-topic" + each for each in CPP_TOPICS))
    return made.add(bench.wheel(scenario))


def _go(bench, scenario):
    made = _created(bench, *("go-topic" + each for each in GO_TOPICS), "go-one%go-topic-space")
    return made.add(bench.go(scenario, "go-topic"))


def _go_part(part):
    def tell(bench, scenario):
        made = _created(bench, "go-" + part)
        return made.add(bench.go(scenario, "go-" + part, part))

    return tell


def _rust(bench, scenario):
    made = _created(bench, "rust-topic")
    return made.add(bench.rust(scenario, "rust-topic"))


def _languages(bench, scenario):
    """Five clients on one topic at a time: each sends one message and reads the messages of all."""
    verdict = _created(bench, "languages")
    java = bench.java("5.3.3", "Languages", scenario.name) + ["java-533"]
    programs = (lambda: bench.check(scenario, java), lambda: bench.node(scenario, "languages", "languages"),
                lambda: bench.wheel(scenario, "languages"), lambda: bench.go(scenario, "languages", "languages"),
                lambda: bench.rust(scenario, "languages", "languages"))
    with ThreadPoolExecutor(len(programs)) as pool:
        for each in [pool.submit(program) for program in programs]:
            verdict.add(each.result())
    return verdict
