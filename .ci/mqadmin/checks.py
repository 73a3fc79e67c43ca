"""The admin tool's commands, judged by what an operator reads in their output.

Arguments: name server, broker address, then the command line that starts the tool. The group of the Java `Exchange`
program must have consumed its ten messages before.
"""

import re
import subprocess
import sys
import time

NAMESRV, BROKER, TOOL = sys.argv[1], sys.argv[2], sys.argv[3:]
TOPIC = "admin-topic"
EXCHANGE_TOPIC, EXCHANGE_GROUP = "Exchange_admin", "G_exchange_admin"
failed = 0


def mqadmin(*words):
    """Output of one command. The tool exits with 0 whatever happens and prints what went wrong."""
    return subprocess.run([*TOOL, *words, "-n", NAMESRV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=60).stdout


def check(what, output, *patterns):
    global failed
    absent = [pattern for pattern in patterns if not re.search(pattern, output, re.MULTILINE)]
    if absent:
        failed += 1
        print(f"FAIL {what}: no '{absent[0]}' in {' / '.join(output.splitlines()[-12:])}")
    else:
        print(f"PASS {what}")
    sys.stdout.flush()


def check_eventually(what, words, *patterns):
    """The broker tells its name server and the tool's figures settle a moment after the change."""
    deadline = time.monotonic() + 20
    output = mqadmin(*words)
    while not all(re.search(pattern, output, re.MULTILINE) for pattern in patterns) and time.monotonic() < deadline:
        output = mqadmin(*words)
    check(what, output, *patterns)


check("updateTopic creates a topic on one broker",
      mqadmin("updateTopic", "-b", BROKER, "-t", TOPIC, "-r", "6", "-w", "6"), rf"create topic to {BROKER} success")
check_eventually("topicRoute shows its queues", ["topicRoute", "-t", TOPIC],
                 r'"readQueueNums":\s*6', r'"writeQueueNums":\s*6', r'"perm":\s*6', re.escape(BROKER))
check("updateTopic changes it on the cluster",
      mqadmin("updateTopic", "-c", "DefaultCluster", "-t", TOPIC, "-r", "8", "-w", "8", "-p", "4"), r"success")
check_eventually("topicRoute shows the change", ["topicRoute", "-t", TOPIC],
                 r'"readQueueNums":\s*8', r'"writeQueueNums":\s*8', r'"perm":\s*4')
check("topicRoute of an unknown topic says so", mqadmin("topicRoute", "-t", "no-such-topic"),
      r"No topic route info in name server for the topic: no-such-topic")
check("topicList lists topics", mqadmin("topicList"), rf"^{TOPIC}$", rf"^{EXCHANGE_TOPIC}$", r"^TBW102$",
      rf"^%RETRY%{EXCHANGE_GROUP}$")
check("topicList -c adds cluster and group", mqadmin("topicList", "-c"),
      rf"DefaultCluster\s+{EXCHANGE_TOPIC}\s+{EXCHANGE_GROUP}")
check("topicStatus shows offsets of each queue", mqadmin("topicStatus", "-t", EXCHANGE_TOPIC),
      r"#Broker Name\s+#QID\s+#Min Offset\s+#Max Offset\s+#Last Updated", r"^broker-a\s+0\s+0\s+[1-9]\d*\s+\d{4}-")
check("clusterList shows the broker", mqadmin("clusterList"),
      rf"DefaultCluster\s+broker-a\s+0\s+{BROKER}\s+V5_3_3\S*")
check("clusterList -m shows its counts", mqadmin("clusterList", "-m"), r"#InTotalYest.*#OutTotalYest",
      r"DefaultCluster\s+broker-a\s+\d+\s+\d+\s+\d+\s+\d+")
check("updateSubGroup creates a group", mqadmin("updateSubGroup", "-b", BROKER, "-g", "admin-group", "-r", "3"),
      rf"create subscription group to {BROKER} success", r"retryMaxTimes=3")
check("updateSubGroup on the cluster", mqadmin("updateSubGroup", "-c", "DefaultCluster", "-g", "admin-group"),
      r"success")
check_eventually("consumerProgress shows a group that is done", ["consumerProgress", "-g", EXCHANGE_GROUP],
                 rf"^{EXCHANGE_TOPIC}\s+broker-a\s+0\s+\d+\s+\d+", r"Consume Diff Total: 0", r"Consume TPS: \d")
check("consumerProgress lists the groups", mqadmin("consumerProgress"), rf"^{EXCHANGE_GROUP}\s+")
check("brokerStatus shows what dashboards read", mqadmin("brokerStatus", "-b", BROKER),
      r"^brokerVersionDesc\s+:\s+V5_3_3", r"^putTps\s+:\s+[\d.]+", r"^getTotalTps\s+:", r"^runtime\s+:",
      r"^msgPutTotalTodayNow\s+:\s+[1-9]\d*", r"^commitLogDiskRatio\s+:", r"^bootTimestamp\s+:\s+\d{13}",
      r"^sendThreadPoolQueueSize\s+:\s+\d+")
check("updateBrokerConfig changes the running broker",
      mqadmin("updateBrokerConfig", "-b", BROKER, "-k", "shortPollingTimeMills", "-v", "999"),
      rf"update broker config success, {BROKER}")
check("getBrokerConfig shows the change", mqadmin("getBrokerConfig", "-b", BROKER), rf"=+{BROKER}=+",
      r"^shortPollingTimeMills\s+=\s+999$", r"^brokerName\s+=\s+broker-a$")
check("updateBrokerConfig keeps off what is black-listed",
      mqadmin("updateBrokerConfig", "-b", BROKER, "-k", "brokerConfigPath", "-v", "/x"), r"CODE: 16")
check("queryCq shows the index of a queue", mqadmin("queryCq", "-t", EXCHANGE_TOPIC, "-q", "0", "-i", "0", "-c", "1", "-b", BROKER),
      r"physicOffset=\d+, physicSize=\d+, tagsCode=")
check("brokerConsumeStats shows offsets of all groups", mqadmin("brokerConsumeStats", "-b", BROKER),
      rf"^{EXCHANGE_TOPIC}\s+{EXCHANGE_GROUP}\s+broker-a\s+0\s+\d+", r"Diff Total: \d+")
check_eventually("statsAll shows what went through a topic", ["statsAll", "-t", EXCHANGE_TOPIC],
                 rf"^{EXCHANGE_TOPIC}\s+{EXCHANGE_GROUP}\s+0\s+[\d.]+\s+[\d.]+\s+\d+\s+\d+")
check("resetOffsetByTime sends an offline group back",
      mqadmin("resetOffsetByTime", "-g", EXCHANGE_GROUP, "-t", EXCHANGE_TOPIC, "-s", "0"),
      r"#brokerName\s+#queueId\s+#offset", r"^broker-a\s+0\s+0\s*$")
check_eventually("consumerProgress shows that it is back", ["consumerProgress", "-g", EXCHANGE_GROUP],
                 r"Consume Diff Total: 10")
for command in ("cleanExpiredCQ", "cleanUnusedTopic", "deleteExpiredCommitLog"):
    check(f"{command} succeeds", mqadmin(command, "-b", BROKER), r"^success")
check("deleteTopic removes the topic", mqadmin("deleteTopic", "-c", "DefaultCluster", "-t", TOPIC),
      rf"delete topic \[{TOPIC}\] from cluster \[DefaultCluster\] success",
      rf"delete topic \[{TOPIC}\] from NameServer success")
check("topicRoute no longer knows it", mqadmin("topicRoute", "-t", TOPIC), r"No topic route info")
sys.exit(1 if failed else 0)
