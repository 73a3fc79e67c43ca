//! Files as operators write them: every habit of the deployment guides starts the broker or says why not.

use std::fs;
use std::path::{Path, PathBuf};

use rmq_server::config::{BrokerConfig, BrokerRole, ConfigError, FlushDiskType, NamesrvConfig, Warning};

/// A file in a directory of its own, gone with the test.
struct ConfFile(PathBuf);

impl ConfFile {
    fn new(test: &str, bytes: &[u8]) -> Self {
        let directory = std::env::temp_dir().join(format!("rmq-config-{}-{test}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("broker.conf");
        fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn load(&self) -> (BrokerConfig, Vec<Warning>) {
        BrokerConfig::load(Some(&self.0), &[]).unwrap()
    }
}

impl Drop for ConfFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// Chinese comments, a blank after nearly every value, a note behind one, the spellings of 4.5 and older.
const BARE_METAL: &str = "\
#\u{6240}\u{5c5e}\u{96c6}\u{7fa4}\u{540d}\u{5b57} \n\
brokerClusterName=rocketmq-cluster \n\
brokerName=broker-a  #\u{552f}\u{4e00}\u{533a}\u{522b}\n\
#0 means master, >0 slave brokerId=0 #name servers\n\
brokerId=0 \n\
namesrvAddr=10.0.16.195:9876;10.0.16.196:9876\n\
defaultTopicQueueNums=4 \n\
autoCreateTopicEnable=true \n\
autoCreateSubscriptionGroup=true \n\
listenPort=10911\n\
deleteWhen=04 \n\
fileReservedTime=120 \n\
mapedFileSizeCommitLog=1073741824 \n\
mapedFileSizeConsumeQueue=300000 \n\
#destroyMapedFileIntervalForcibly=120000 \n\
diskMaxUsedSpaceRatio=88 \n\
storePathRootDir=/srv/rocketmq/store\n\
storePathCommitLog=/srv/rocketmq/store/commitlog \n\
storePathConsumeQueue=/srv/rocketmq/store/consumequeue \n\
storePathIndex=/srv/rocketmq/store/index \n\
storeCheckpoint=/srv/rocketmq/store/checkpoint \n\
abortFile=/srv/rocketmq/store/abort \n\
maxMessageSize=65536 \n\
brokerRole=ASYNC_MASTER \n\
flushDiskType=ASYNC_FLUSH \n\
checkTransactionMessageEnable=false \n\
sendMessageThreadPoolNums=128 \n\
pullMessageThreadPoolNums=128";

#[test]
fn a_bare_metal_guide_starts_with_every_value_as_meant() {
    let file = ConfFile::new("bare-metal", BARE_METAL.as_bytes());
    let (config, warnings) = file.load();
    assert_eq!((config.broker_name.as_str(), config.cluster_name.as_str()), ("broker-a", "rocketmq-cluster"));
    assert_eq!(config.name_servers.0, ["10.0.16.195:9876", "10.0.16.196:9876"]);
    assert_eq!((config.broker_id, config.default_topic_queue_nums, config.listen_port), (0, 4, 10911));
    assert!(config.auto_create_topic_enable && config.auto_create_subscription_group);
    assert_eq!((config.delete_when.0.as_slice(), config.file_reserved_hours), ([4].as_slice(), 120));
    assert_eq!((config.segment_bytes, config.max_message_bytes), (1 << 30, 65_536));
    assert_eq!(config.disk_max_used_percent, 88);
    assert_eq!(config.commit_log_dir, Path::new("/srv/rocketmq/store/commitlog"));
    assert_eq!((config.role, config.flush_disk_type), (BrokerRole::AsyncMaster, FlushDiskType::AsyncFlush));

    let count = |wanted: fn(&Warning) -> bool| warnings.iter().filter(|warning| wanted(warning)).count();
    assert_eq!(count(|warning| matches!(warning, Warning::Spelling { .. })), 2);
    assert_eq!(count(|warning| matches!(warning, Warning::Ignored { .. })), 5);
    assert_eq!(count(|warning| matches!(warning, Warning::NoteStripped { .. })), 1);
    assert_eq!(count(|warning| matches!(warning, Warning::Inert { keys } if keys.len() == 2)), 1);
    assert_eq!(warnings.len(), 9, "{warnings:#?}");
}

#[test]
fn the_same_file_saved_by_a_windows_editor_means_the_same() {
    let text = format!("\u{feff}{}", BARE_METAL.replace('\n', "\r\n"));
    let (unix, _) = ConfFile::new("unix", BARE_METAL.as_bytes()).load();
    let (windows, _) = ConfFile::new("windows", text.as_bytes()).load();
    let lines = |config: &BrokerConfig| {
        config.lines.iter().filter(|(key, _)| key != "brokerConfigPath").cloned().collect::<Vec<_>>()
    };
    assert_eq!(lines(&unix), lines(&windows));
}

#[test]
fn a_container_guide_with_a_synchronous_master() {
    let text = "\nlistenPort=10921\nbrokerIP1=192.0.2.21\nbrokerClusterName=DefaultCluster\nbrokerName=broker-a\n\
        brokerRole=SYNC_MASTER\nbrokerId=0\ndeleteWhen=04\nfileReservedTime=48\nflushDiskType=ASYNC_FLUSH\n\
        namesrvAddr=192.0.2.21:9876;192.0.2.22:9876\n";
    let (config, warnings) = ConfFile::new("container", text.as_bytes()).load();
    assert_eq!(config.advertised_address(), "192.0.2.21:10921");
    assert_eq!((config.vip_port, config.ha_listen_port), (10919, 10922));
    assert_eq!(config.role, BrokerRole::SyncMaster);
    assert!(matches!(&warnings[..], [Warning::Advice(text)] if text.contains("SYNC_MASTER")), "{warnings:?}");
}

#[test]
fn its_slave_is_refused_with_the_line() {
    let text = "listenPort=11911\nbrokerName=broker-b\nbrokerRole=SLAVE\nbrokerId=1\n";
    let file = ConfFile::new("slave", text.as_bytes());
    let error = BrokerConfig::load(Some(&file.0), &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Refused { .. }));
    assert_eq!(
        error.to_string(),
        format!("{}:3: brokerRole=SLAVE: slaves are not built yet", file.0.display())
    );
}

#[test]
fn the_shipped_sample_and_a_dashboard_guide_write_blanks_around_the_equals_sign() {
    let text = "# Licensed ...\nbrokerClusterName = DefaultCluster\nbrokerName = broker-a\nbrokerId = 0\n\
        brokerIP1 = 192.0.2.16\ndeleteWhen = 04\nfileReservedTime = 48\nbrokerRole = ASYNC_MASTER\n\
        flushDiskType = SYNC_FLUSH\nnamesrvAddr = 192.0.2.16:9876\n";
    let (config, warnings) = ConfFile::new("sample", text.as_bytes()).load();
    assert_eq!((config.broker_name.as_str(), config.file_reserved_hours), ("broker-a", 48));
    assert_eq!(config.flush_disk_type, FlushDiskType::SyncFlush);
    assert_eq!(warnings, []);
}

#[test]
fn our_own_keys_live_in_the_same_file() {
    let text = "brokerName=b\nrmq.shards=2\nrmq.cpus=0-1\nrmq.tailCacheBytes=1048576\nrmq.shard=3\n";
    let (config, warnings) = ConfFile::new("own", text.as_bytes()).load();
    assert_eq!((config.own.shards, config.own.tail_cache_bytes), (2, 1 << 20));
    assert_eq!(config.own.cpus.0, [0, 1]);
    assert!(matches!(&warnings[..], [Warning::Unknown { meant: Some("rmq.shards"), .. }]), "{warnings:?}");
}

#[test]
fn a_missing_file_is_named() {
    let missing = Path::new("/nonexistent/broker.conf");
    let broker = BrokerConfig::load(Some(missing), &[]).unwrap_err().to_string();
    let namesrv = NamesrvConfig::load(Some(missing), &[]).unwrap_err().to_string();
    assert!(broker.contains("/nonexistent/broker.conf"), "{broker}");
    assert_eq!(broker, namesrv);
}
