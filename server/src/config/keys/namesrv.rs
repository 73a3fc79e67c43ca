//! Keys of the name server, and of the controller that may share its file.

use super::Kind::{Bool, Int, Long, Text};
use super::{Key, a, b, c};

pub const NAMESRV: &[Key] = &[
    a("listenPort", Int, "9876"),
    a("namesrvAddr", Text, "?"),
    a("rocketmqHome", Text, "?"),
    a("kvConfigPath", Text, "?"),
    a("configStorePath", Text, "?"),
    c("productEnvName", Text, "center"),
    b("clusterTest", Bool, "false"),
    a("orderMessageEnable", Bool, "false"),
    a("returnOrderTopicConfigToBroker", Bool, "true"),
    c("clientRequestThreadPoolNums", Int, "8"),
    c("defaultThreadPoolNums", Int, "16"),
    b("clientRequestThreadPoolQueueCapacity", Int, "50000"),
    b("defaultThreadPoolQueueCapacity", Int, "10000"),
    a("scanNotActiveBrokerInterval", Long, "5000"),
    b("unRegisterBrokerQueueCapacity", Int, "3000"),
    a("supportActingMaster", Bool, "false"),
    a("enableAllTopicList", Bool, "true"),
    a("enableTopicList", Bool, "true"),
    a("notifyMinBrokerIdChanged", Bool, "false"),
    a("enableControllerInNamesrv", Bool, "false"),
    a("needWaitForService", Bool, "false"),
    a("waitSecondsForService", Int, "45"),
    a("deleteTopicWithBrokerRegistration", Bool, "false"),
    a("configBlackList", Text, "configBlackList;configStorePath;kvConfigPath"),
];

pub const CONTROLLER: &[Key] = &[
    b("controllerType", Text, "DLedger"),
    a("controllerDLegerGroup", Text, "?"),
    a("controllerDLegerPeers", Text, "?"),
    a("controllerDLegerSelfId", Text, "?"),
    a("controllerStorePath", Text, ""),
    c("mappedFileSize", Int, "1073741824"),
    a("scanInactiveMasterInterval", Long, "5000"),
    c("controllerThreadPoolNums", Int, "16"),
    b("controllerRequestThreadPoolQueueCapacity", Int, "50000"),
    a("electMasterMaxRetryCount", Int, "3"),
    a("enableElectUncleanMaster", Bool, "false"),
    b("processReadEvent", Bool, "false"),
    a("notifyBrokerRoleChanged", Bool, "true"),
    b("jRaftElectionTimeoutMs", Int, "1000"),
    b("jRaftScanWaitTimeoutMs", Int, "1000"),
    b("jRaftSnapshotIntervalSecs", Int, "3600"),
    b("jRaftGroupId", Text, "jRaft-Controller"),
    a("jRaftServerId", Text, "localhost:9880"),
    a("jRaftInitConf", Text, "localhost:9880,localhost:9881,localhost:9882"),
    a("jRaftControllerRPCAddr", Text, "localhost:9770,localhost:9771,localhost:9772"),
];
