//! The broker's configuration: what its file, command line and machine come to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Place};
use super::keys::{self, BROKER_TABLES, IMPORTANT};
use super::machine::Machine;
use super::own::OwnConfig;
use super::settings::{Settings, Source, typed};
use super::value::{BrokerRole, DelayLevels, DeleteHours, FlushDiskType, NameServers};
use super::warning::Warning;

typed! {
    #[derive(Clone, Debug)]
    pub struct BrokerConfig {
        // Identity and addresses.
        broker_name: String = "brokerName",
        cluster_name: String = "brokerClusterName",
        broker_id: i64 = "brokerId",
        role: BrokerRole = "brokerRole",
        region_id: String = "regionId",
        bind_address: String = "bindAddress",
        listen_port: u16 = "listenPort",
        ha_listen_port: u16 = "haListenPort",
        /// Advertised to clients and written into message ids; a host name is allowed.
        broker_ip1: String = "brokerIP1",
        /// Advertised to slaves.
        broker_ip2: String = "brokerIP2",
        backlog: u32 = "serverSocketBacklog",
        /// A connection silent for longer is closed.
        idle_max_seconds: u32 = "serverChannelMaxIdleTimeSeconds",

        // Name servers.
        name_servers: NameServers = "namesrvAddr",
        register_name_server_period_ms: u64 = "registerNameServerPeriod",
        register_broker_timeout_ms: u64 = "registerBrokerTimeoutMills",

        // Topics, groups and what clients may do.
        broker_permission: i32 = "brokerPermission",
        default_topic_queue_nums: u32 = "defaultTopicQueueNums",
        auto_create_topic_enable: bool = "autoCreateTopicEnable",
        auto_create_subscription_group: bool = "autoCreateSubscriptionGroup",
        cluster_topic_enable: bool = "clusterTopicEnable",
        broker_topic_enable: bool = "brokerTopicEnable",
        validate_system_topic_when_update_topic: bool = "validateSystemTopicWhenUpdateTopic",
        trace_on: bool = "traceOn",
        trace_topic_enable: bool = "traceTopicEnable",
        msg_trace_topic_name: String = "msgTraceTopicName",
        reject_transaction_message: bool = "rejectTransactionMessage",
        transaction_timeout_ms: i64 = "transactionTimeOut",
        transaction_check_interval_ms: u64 = "transactionCheckInterval",
        transaction_check_max: i32 = "transactionCheckMax",
        store_reply_message_enable: bool = "storeReplyMessageEnable",
        use_server_side_reset_offset: bool = "useServerSideResetOffset",
        disable_consume_if_consumer_read_slowly: bool = "disableConsumeIfConsumerReadSlowly",
        consumer_fallbehind_threshold: i64 = "consumerFallbehindThreshold",
        fast_failure_enable: bool = "brokerFastFailureEnable",
        /// A send that waited longer is refused with SYSTEM_BUSY.
        wait_in_send_queue_ms: u64 = "waitTimeMillsInSendQueue",
        start_accept_send_request_ms: i64 = "startAcceptSendRequestTimeStamp",
        notify_consumer_ids_changed_enable: bool = "notifyConsumerIdsChangedEnable",
        channel_expired_timeout_ms: u64 = "channelExpiredTimeout",
        flush_consumer_offset_interval_ms: u64 = "flushConsumerOffsetInterval",

        // Pulling.
        long_polling_enable: bool = "longPollingEnable",
        short_polling_time_ms: u64 = "shortPollingTimeMills",
        lite_pull_message_enable: bool = "litePullMessageEnable",
        enable_property_filter: bool = "enablePropertyFilter",
        max_transfer_bytes_in_memory: u32 = "maxTransferBytesOnMessageInMemory",
        max_transfer_count_in_memory: u32 = "maxTransferCountOnMessageInMemory",
        max_transfer_bytes_in_disk: u32 = "maxTransferBytesOnMessageInDisk",
        max_transfer_count_in_disk: u32 = "maxTransferCountOnMessageInDisk",

        // Popping.
        pop_polling_size: u32 = "popPollingSize",
        pop_polling_max: u64 = "maxPopPollingSize",
        revive_queue_nums: u32 = "reviveQueueNum",
        retry_topic_v2_enable: bool = "enableRetryTopicV2",
        retry_topic_v1_too: bool = "retrieveMessageFromPopRetryTopicV1",
        pop_from_retry_probability: u32 = "popFromRetryProbability",
        pop_tells_retry_topic: bool = "popResponseReturnActualRetryTopic",
        pop_init_by_memory: bool = "initPopOffsetByCheckMsgInMem",
        pop_threshold_enable: bool = "enablePopMessageThreshold",
        pop_in_flight_max: u32 = "popInflightMessageThreshold",
        pop_wakes_after_order: bool = "enableNotifyAfterPopOrderLockRelease",
        clear_retry_topics: bool = "clearRetryTopicWhenDeleteTopic",
        server_load_balancer_enable: bool = "serverLoadBalancerEnable",
        default_message_request_mode: String = "defaultMessageRequestMode",
        default_pop_share_queue_num: i32 = "defaultPopShareQueueNum",
        load_balance_poll_ms: u64 = "loadBalancePollNameServerInterval",

        // Storing.
        store_root: PathBuf = "storePathRootDir",
        commit_log_dir: PathBuf = "storePathCommitLog",
        segment_bytes: u64 = "mappedFileSizeCommitLog",
        max_message_bytes: u32 = "maxMessageSize",
        flush_disk_type: FlushDiskType = "flushDiskType",
        sync_flush_timeout_ms: u64 = "syncFlushTimeout",
        flush_interval_commit_log_ms: u64 = "flushIntervalCommitLog",
        delay_levels: DelayLevels = "messageDelayLevel",
        message_index_enable: bool = "messageIndexEnable",
        query_messages_max: u32 = "maxMsgsNumBatch",
        unique_query_messages_max: i32 = "defaultQueryMaxNum",
        enable_lmq: bool = "enableLmq",
        enable_multi_dispatch: bool = "enableMultiDispatch",
        lmq_max: u32 = "maxLmqConsumeQueueNum",
        flush_delay_offset_interval_ms: u64 = "flushDelayOffsetInterval",
        timer_wheel_enable: bool = "timerWheelEnable",
        timer_max_delay_seconds: u32 = "timerMaxDelaySec",
        timer_precision_ms: u32 = "timerPrecisionMs",
        timer_roll_window_slots: u32 = "timerRollWindowSlot",
        timer_flush_interval_ms: u32 = "timerFlushIntervalMs",
        recall_message_enable: bool = "recallMessageEnable",
        allow_recall_when_broker_not_writeable: bool = "allowRecallWhenBrokerNotWriteable",

        // Retention.
        delete_when: DeleteHours = "deleteWhen",
        file_reserved_hours: u32 = "fileReservedTime",
        clean_file_forcibly_enable: bool = "cleanFileForciblyEnable",
        disk_max_used_percent: u32 = "diskMaxUsedSpaceRatio",
        disk_clean_forcibly_percent: u32 = "diskSpaceCleanForciblyRatio",
        ..
        /// The fast port: the same services for clients that ask for it, always two below `listen_port`.
        vip_port: u16,
        own: OwnConfig,
        /// Every setting in effect, as GET_BROKER_CONFIG shows it; unknown keys of the file included.
        all: BTreeMap<String, String>,
        /// The same in the order of `-p`, unset keys included.
        lines: Vec<(String, String)>,
    }
}

/// Keys whose promise holds without doing anything: it is always so here, or the start rules use them.
const MET: &[&str] = &[
    "rocketmqHome",
    "brokerConfigPath",
    "flushCommitLogThoroughInterval",
    "checkCRCOnRecover",
    "enableControllerMode",
    "enableDLegerCommitLog",
    "authenticationEnabled",
    "authorizationEnabled",
    "useTLS",
    "inSyncReplicas",
    "minInSyncReplicas",
    "haListenPort",
];

/// Class B, yet an operator who sets them waits for something to happen.
const VISIBLE: &[&str] = &[
    "fetchNameSrvAddrByDnsLookup",
    "fetchNamesrvAddrByAddressServer",
    "messageStorePlugIn",
    "metricsExporterType",
    "readOnlyCommitLogStorePaths",
];

/// Switches that promise protection or copies. Starting without keeping the promise is worse than not starting.
const REFUSED: &[(&str, &str)] = &[
    ("enableDLegerCommitLog", "replication is not built yet"),
    ("enableControllerMode", "replication is not built yet"),
    ("duplicationEnable", "several writers of one log are not supported"),
    ("authenticationEnabled", "access control is not built yet, and the broker would be open to everyone"),
    ("authorizationEnabled", "access control is not built yet, and the broker would be open to everyone"),
    ("aclEnable", "access control is not built yet, and the broker would be open to everyone"),
    ("useTLS", "outgoing TLS is not built yet"),
];

impl BrokerConfig {
    pub fn load(
        file: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::load_on(&Machine::detect(), file, overrides)
    }

    /// As `load`, with the machine's share of the defaults given by the caller.
    pub fn load_on(
        machine: &Machine,
        file: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let file = file.map(Source::open).transpose()?;
        Self::resolve(machine, file.as_ref(), overrides)
    }

    fn resolve(
        machine: &Machine,
        file: Option<&Source>,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut settings = Settings::resolve(BROKER_TABLES, machine, file, overrides)?;
        if let Some(file) = file {
            settings.set("brokerConfigPath", file.path.to_string_lossy().into_owned());
        }
        refuse_broken_promises(&settings)?;
        settle_role(&mut settings)?;
        let vip_port = settle_ports(&mut settings)?;
        settle_store(&mut settings)?;
        settle_ranges(&mut settings)?;
        settle_memory_tail(&mut settings)?;
        let own = OwnConfig::bind(&settings)?;
        let built =
            |key: &str| Self::KEYS.contains(&key) || OwnConfig::KEYS.contains(&key) || MET.contains(&key);
        settings.warn_of_missing_features(built, VISIBLE);
        let lines = settings.lines().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config = Self::bind(&settings, vip_port, own, settings.in_effect(), lines)?;
        Ok((config, settings.warnings))
    }

    /// The configuration after some keys were changed. A value that does not fit its key is refused, whatever the
    /// key's class: nobody reads warnings of a running broker.
    pub fn changed(&self, changes: &[(String, String)]) -> Result<Self, ConfigError> {
        for (name, value) in changes {
            if let Some(key) = keys::find(BROKER_TABLES, name)
                && !key.kind.accepts(value.trim())
            {
                return Err(ConfigError::WrongValue {
                    place: Place::CommandLine,
                    key: name.clone(),
                    value: value.clone(),
                    expected: key.kind.expected(),
                });
            }
        }
        let kept = self.lines.iter().filter(|(_, value)| !value.is_empty()).cloned();
        let is_own_name =
            |name: &str| BROKER_TABLES.iter().copied().flatten().any(|key| keys::dump_name(key.name) == name);
        let unknown = self.all.iter().filter(|(name, _)| !is_own_name(name));
        let unknown = unknown.map(|(name, value)| (name.clone(), value.clone()));
        let settings: Vec<(String, String)> = kept.chain(unknown).chain(changes.iter().cloned()).collect();
        Ok(Self::resolve(&Machine::detect(), None, &settings)?.0)
    }

    /// Whether a change of this key means anything: it is a broker's, or the file had it.
    pub fn has_key(&self, name: &str) -> bool {
        keys::find(BROKER_TABLES, name).is_some() || self.all.contains_key(name)
    }

    /// What clients connect to.
    pub fn advertised_address(&self) -> String {
        format!("{}:{}", self.broker_ip1, self.listen_port)
    }

    /// What slaves connect to.
    pub fn advertised_ha_address(&self) -> String {
        format!("{}:{}", self.broker_ip2, self.ha_listen_port)
    }

    /// The text of GET_BROKER_CONFIG: sorted `key=value` lines without the unset keys.
    pub fn dump(&self) -> String {
        self.all.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    /// What `-m` prints; `-p` prints all `lines`.
    pub fn important_lines(&self) -> impl Iterator<Item = &(String, String)> {
        self.lines.iter().filter(|(key, _)| IMPORTANT.contains(&key.as_str()))
    }
}

fn refuse_broken_promises(settings: &Settings) -> Result<(), ConfigError> {
    for (key, why) in REFUSED {
        if settings.read(key)? {
            return Err(settings.refuse(key, why));
        }
    }
    Ok(())
}

fn settle_role(settings: &mut Settings) -> Result<(), ConfigError> {
    let role: BrokerRole = settings.read("brokerRole")?;
    match role {
        BrokerRole::Slave => return Err(settings.refuse("brokerRole", "slaves are not built yet")),
        BrokerRole::AsyncMaster => {}
        BrokerRole::SyncMaster => {
            for key in ["inSyncReplicas", "minInSyncReplicas"] {
                if settings.read::<i64>(key)? > 1 {
                    let why = "slaves are not built yet, so no second copy could be waited for";
                    return Err(settings.refuse(key, why));
                }
            }
            settings.warnings.push(Warning::Advice(
                "brokerRole=SYNC_MASTER waits for no slave, as in Java unless inSyncReplicas is 2 or more; \
                 one copy of each message is kept"
                    .into(),
            ));
        }
    }
    // A master's id is 0 whatever the file says.
    settings.clamp("brokerId", 0, 0)
}

fn settle_ports(settings: &mut Settings) -> Result<u16, ConfigError> {
    const EXPECTED: &str =
        "a port from 3 to 65534, since the fast port lies two below and the HA port one above";
    let listen_port: u16 = settings.read("listenPort")?;
    if !(3..u16::MAX).contains(&listen_port) {
        return Err(settings.wrong("listenPort", EXPECTED));
    }
    if settings.setting("haListenPort").is_none() {
        settings.set("haListenPort", (listen_port + 1).to_string());
    }
    Ok(listen_port - 2)
}

fn settle_store(settings: &mut Settings) -> Result<(), ConfigError> {
    let root: String = settings.read("storePathRootDir")?;
    if root.is_empty() {
        return Err(settings.wrong("storePathRootDir", "a directory"));
    }
    let commit_log: String = settings.read("storePathCommitLog")?;
    if commit_log.contains(',') {
        return Err(settings.refuse("storePathCommitLog", "one log in several directories is not supported"));
    }
    if commit_log.is_empty() {
        settings.set("storePathCommitLog", Path::new(&root).join("commitlog").to_string_lossy().into_owned());
    }
    Ok(())
}

/// Ranges that Java enforces silently, and those below which nothing works.
fn settle_ranges(settings: &mut Settings) -> Result<(), ConfigError> {
    settings.clamp("registerNameServerPeriod", 10_000, 60_000)?;
    settings.clamp("diskMaxUsedSpaceRatio", 10, 95)?;
    settings.clamp("diskSpaceWarningLevelRatio", 35, 90)?;
    settings.clamp("diskSpaceCleanForciblyRatio", 30, 85)?;
    for key in [
        "flushIntervalCommitLog",
        "flushConsumerOffsetInterval",
        "flushDelayOffsetInterval",
        "cleanResourceInterval",
        "shortPollingTimeMills",
        "waitTimeMillsInSendQueue",
    ] {
        settings.clamp(key, 1, i64::MAX)?;
    }
    for key in
        ["defaultTopicQueueNums", "maxTransferCountOnMessageInMemory", "maxTransferCountOnMessageInDisk"]
    {
        if settings.read::<i64>(key)? < 1 {
            return Err(settings.wrong(key, "a number, at least 1"));
        }
    }
    for key in ["brokerName", "brokerClusterName", "brokerIP1", "brokerIP2"] {
        let name: String = settings.read(key)?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(settings.wrong(key, "a name without blanks"));
        }
    }
    Ok(())
}

/// A store that flushes before it answers has no use for memory that a power cut takes.
fn settle_memory_tail(settings: &mut Settings) -> Result<(), ConfigError> {
    use rmq_engine::limits::{MEMORY_TAIL_BYTES_MAX, MEMORY_TAIL_BYTES_MIN};
    settings.clamp("rmq.memoryTailBytes", MEMORY_TAIL_BYTES_MIN as i64, MEMORY_TAIL_BYTES_MAX as i64)?;
    let Some(dir) = settings.read::<Option<PathBuf>>("rmq.memoryTail")? else { return Ok(()) };
    if settings.read::<FlushDiskType>("flushDiskType")? == FlushDiskType::SyncFlush {
        let why = "it acknowledges before the disk has a message, which flushDiskType=SYNC_FLUSH rules out; \
                   set ASYNC_FLUSH or leave it empty";
        return Err(settings.refuse("rmq.memoryTail", why));
    }
    if !dir.is_absolute() {
        return Err(
            settings.wrong("rmq.memoryTail", "the full path of a directory on tmpfs, such as /dev/shm")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            host_name: "host-1".into(),
            processors: 2,
            home: "/home/mq".into(),
            address: "10.0.0.9".into(),
            namesrv_addr: Some("env:9876".into()),
            rocketmq_home: None,
        }
    }

    fn resolve(text: &str) -> Result<(BrokerConfig, Vec<Warning>), ConfigError> {
        let file = Source { path: "b.conf".into(), bytes: text.into() };
        BrokerConfig::resolve(&machine(), Some(&file), &[])
    }

    fn place(line: u32) -> Place {
        Place::File { path: "b.conf".into(), line }
    }

    fn error(text: &str) -> String {
        resolve(text).unwrap_err().to_string()
    }

    #[test]
    fn without_a_file_everything_has_javas_default() {
        let (config, warnings) = BrokerConfig::resolve(&machine(), None, &[]).unwrap();
        assert_eq!(warnings, []);
        assert_eq!((config.broker_name.as_str(), config.cluster_name.as_str()), ("host-1", "DefaultCluster"));
        assert_eq!((config.vip_port, config.listen_port, config.ha_listen_port), (10909, 10911, 10912));
        assert_eq!(config.advertised_address(), "10.0.0.9:10911");
        assert_eq!(config.store_root, Path::new("/home/mq/store"));
        assert_eq!(config.commit_log_dir, Path::new("/home/mq/store/commitlog"));
        assert_eq!(config.name_servers.0, ["env:9876"]);
        assert_eq!(config.file_reserved_hours, 72);
        assert_eq!(config.delay_levels.0.len(), 18);
        assert_eq!(config.all["endTransactionThreadPoolNums"], "12");
    }

    #[test]
    fn the_command_line_beats_the_file_which_beats_the_environment() {
        let file = Source { path: "b.conf".into(), bytes: b"namesrvAddr=file:9876\nbrokerName=f".to_vec() };
        let with = |overrides: &[(String, String)]| {
            BrokerConfig::resolve(&machine(), Some(&file), overrides).unwrap()
        };
        assert_eq!(with(&[]).0.name_servers.0, ["file:9876"]);
        let (config, warnings) = with(&[("namesrvAddr".into(), "option:9876".into())]);
        assert_eq!(config.name_servers.0, ["option:9876"]);
        let overridden =
            Warning::Overridden { place: place(1), key: "namesrvAddr".into(), by: Place::CommandLine };
        assert_eq!(warnings, [overridden]);
    }

    #[test]
    fn wrong_values_of_observable_keys_name_line_key_and_remedy() {
        assert_eq!(
            error("# x\nflushDiskType=SYNC"),
            "b.conf:2: flushDiskType=SYNC: expected one of SYNC_FLUSH, ASYNC_FLUSH"
        );
        assert_eq!(
            error("fileReservedTime=4x"),
            "b.conf:1: fileReservedTime=4x: expected a whole number within 32 bits"
        );
        for wrong in [
            "listenPort=2",
            "listenPort=65535",
            "listenPort=",
            "autoCreateTopicEnable=yes",
            "deleteWhen=24",
            "messageDelayLevel=1x",
            "namesrvAddr=10.0.0.1",
            "brokerRole=MASTER",
            "fileReservedTime=-1",
            "brokerName=two words",
            "defaultTopicQueueNums=0",
            "rmq.cpus=all",
            "rmq.shards=-1",
            "a=\\u00",
        ] {
            assert!(resolve(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_memory_tail_is_for_async_flush_and_off_by_default() {
        let (config, _) = resolve("").unwrap();
        assert_eq!(config.own.memory_tail, None);
        let (config, warnings) = resolve("rmq.memoryTail=/dev/shm\nrmq.memoryTailBytes=1").unwrap();
        assert_eq!(config.own.memory_tail.as_deref(), Some(Path::new("/dev/shm")));
        assert_eq!(config.own.memory_tail_bytes, rmq_engine::limits::MEMORY_TAIL_BYTES_MIN);
        assert!(matches!(&warnings[..], [Warning::Clamped { .. }]));
        let refused = error("flushDiskType=SYNC_FLUSH\nrmq.memoryTail=/dev/shm");
        assert!(refused.contains("b.conf:2: rmq.memoryTail") && refused.contains("ASYNC_FLUSH"), "{refused}");
        assert!(error("rmq.memoryTail=shm").contains("/dev/shm"));
    }

    #[test]
    fn wrong_values_of_tuning_keys_keep_the_default() {
        let (config, warnings) =
            resolve("sendThreadPoolQueueCapacity=10k\nmappedFileSizeCommitLog=1G").unwrap();
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!(warnings.len(), 2);
        assert!(
            matches!(&warnings[0], Warning::DefaultKept { key, .. } if key == "sendThreadPoolQueueCapacity")
        );
    }

    #[test]
    fn trailing_blanks_and_notes_do_not_harm() {
        let (config, warnings) =
            resolve("brokerName=broker-a  #the only difference\nbrokerId=0 \nautoCreateTopicEnable=false \n")
                .unwrap();
        assert_eq!(config.broker_name, "broker-a");
        assert!(!config.auto_create_topic_enable);
        let [Warning::NoteStripped { value, note, .. }] = &warnings[..] else { panic!("{warnings:?}") };
        assert_eq!((value.as_str(), note.as_str()), ("broker-a", "#the only difference"));
        let (config, _) = resolve("storePathRootDir=/data/a#1").unwrap();
        assert_eq!(config.store_root, Path::new("/data/a#1"));
    }

    #[test]
    fn old_spellings_count_but_the_official_one_wins() {
        let (config, warnings) = resolve("mapedFileSizeCommitLog=1048576\nfileReserverdTime=10").unwrap();
        assert_eq!((config.segment_bytes, config.file_reserved_hours), (1 << 20, 10));
        assert_eq!(warnings.len(), 2);
        let (config, _) = resolve("fileReservedTime=20\nfileReserverdTime=10").unwrap();
        assert_eq!(config.file_reserved_hours, 20);
    }

    #[test]
    fn unknown_keys_are_named_with_a_guess_and_stay_in_the_dump() {
        let (config, warnings) =
            resolve("autoCreateTopicEnabled=false\nstorePathIndex=/x\n<!--\nmine=1").unwrap();
        assert!(config.auto_create_topic_enable);
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(
            texts[0],
            "b.conf:1: unknown key autoCreateTopicEnabled is ignored; did you mean autoCreateTopicEnable?"
        );
        assert!(matches!(&warnings[1], Warning::Ignored { .. }));
        assert_eq!(texts[3], "b.conf:4: unknown key mine is ignored");
        assert!(config.dump().contains("\nmine=1\n") && config.dump().contains("\nstorePathIndex=/x\n"));
    }

    #[test]
    fn what_is_not_built_is_refused_or_named() {
        for text in [
            "brokerRole=SLAVE\nbrokerId=1",
            "enableDLegerCommitLog=true",
            "enableDLedgerCommitLog=true",
            "enableControllerMode=true",
            "aclEnable=true",
            "authenticationEnabled=true",
            "brokerRole=SYNC_MASTER\ninSyncReplicas=2",
            "storePathCommitLog=/a,/b",
        ] {
            assert!(matches!(resolve(text), Err(ConfigError::Refused { .. })), "{text}");
        }
        let (_, warnings) =
            resolve("slaveReadEnable=true\ntimerMaxDelaySec=259200\nmetricsExporterType=PROM").unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.iter().all(|warning| matches!(warning, Warning::NotBuilt { .. })));
    }

    /// Each of these was bound to a field that no code read, and so was taken without a word.
    #[test]
    fn keys_without_effect_are_named() {
        let keys = [
            "slaveReadEnable=true",
            "connectTimeoutMillis=1",
            "forceRegister=false",
            "cleanResourceInterval=1",
            "diskSpaceWarningLevelRatio=80",
            "subscriptionExpiredTimeout=1",
            "autoMessageVersionOnTopicLen=false",
            "maxFilterMessageSize=1",
        ];
        let (_, warnings) = resolve(&keys.join("\n")).unwrap();
        assert_eq!(warnings.len(), keys.len(), "{warnings:?}");
        assert!(warnings.iter().all(|warning| matches!(warning, Warning::NotBuilt { .. })));
    }

    #[test]
    fn ranges_are_enforced_as_in_java() {
        let (config, warnings) =
            resolve("diskMaxUsedSpaceRatio=99\nregisterNameServerPeriod=1000\nbrokerId=3").unwrap();
        assert_eq!((config.disk_max_used_percent, config.register_name_server_period_ms), (95, 10_000));
        assert_eq!(config.broker_id, 0);
        assert_eq!(warnings.iter().filter(|warning| matches!(warning, Warning::Clamped { .. })).count(), 3);
    }

    #[test]
    fn listings_follow_java() {
        let (config, _) = resolve("brokerName=b").unwrap();
        let lines: BTreeMap<&str, &str> =
            config.lines.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!((lines["brokerName"], lines["haMasterAddress"]), ("b", ""));
        assert!(!lines.contains_key("authenticationEnabled"));
        assert!(
            !config.all.contains_key("haMasterAddress") && config.all["isScanAvailableNameSrv"] == "true"
        );
        assert_eq!(config.all["brokerConfigPath"], "b.conf");
        assert!(config.important_lines().any(|(key, _)| key == "flushDiskType"));
        let dump = config.dump();
        assert!(dump.lines().map(|line| line.split_once("=").unwrap().0).is_sorted());
    }
}
