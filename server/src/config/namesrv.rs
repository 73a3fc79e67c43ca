//! The name server's configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::keys::{self, NAMESRV_TABLES};
use super::machine::Machine;
use super::settings::{Settings, Source, typed};
use super::warning::Warning;

typed! {
    #[derive(Clone, Debug)]
    pub struct NamesrvConfig {
        listen_port: u16 = "listenPort",
        bind_address: String = "bindAddress",
        backlog: u32 = "serverSocketBacklog",
        /// A connection silent for longer is closed.
        idle_max_seconds: u32 = "serverChannelMaxIdleTimeSeconds",
        kv_config_path: PathBuf = "kvConfigPath",
        config_store_path: PathBuf = "configStorePath",
        order_message_enable: bool = "orderMessageEnable",
        return_order_topic_config_to_broker: bool = "returnOrderTopicConfigToBroker",
        scan_not_active_broker_interval_ms: u64 = "scanNotActiveBrokerInterval",
        support_acting_master: bool = "supportActingMaster",
        enable_all_topic_list: bool = "enableAllTopicList",
        enable_topic_list: bool = "enableTopicList",
        notify_min_broker_id_changed: bool = "notifyMinBrokerIdChanged",
        need_wait_for_service: bool = "needWaitForService",
        wait_seconds_for_service: u32 = "waitSecondsForService",
        delete_topic_with_broker_registration: bool = "deleteTopicWithBrokerRegistration",
        config_black_list: String = "configBlackList",
        ..
        /// Every setting in effect, as GET_NAMESRV_CONFIG shows it.
        all: BTreeMap<String, String>,
        /// The same in the order of `-p`, unset keys included.
        lines: Vec<(String, String)>,
    }
}

/// Accepted and met without doing anything.
const MET: &[&str] = &["rocketmqHome", "namesrvAddr"];

impl NamesrvConfig {
    pub fn load(
        file: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let file = file.map(Source::open).transpose()?;
        Self::resolve(&Machine::detect(), file.as_ref(), overrides)
    }

    /// The configuration after UPDATE_NAMESRV_CONFIG. Keys that no name server has are ignored.
    pub fn changed(&self, changes: &[(String, String)]) -> Result<Self, ConfigError> {
        let known = |key: &str| keys::find(NAMESRV_TABLES, key).is_some();
        let kept = self.lines.iter().filter(|(_, value)| !value.is_empty());
        let settings: Vec<(String, String)> =
            kept.chain(changes.iter().filter(|(key, _)| known(key))).cloned().collect();
        Ok(Self::resolve(&Machine::detect(), None, &settings)?.0)
    }

    /// The text of GET_NAMESRV_CONFIG: sorted `key=value` lines without the unset keys.
    pub fn dump(&self) -> String {
        self.all.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    fn resolve(
        machine: &Machine,
        file: Option<&Source>,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut settings = Settings::resolve(NAMESRV_TABLES, machine, file, overrides)?;
        // Runtime updates go to the file that was read.
        if let Some(file) = file {
            settings.set("configStorePath", file.path.to_string_lossy().into_owned());
        }
        if settings.read("enableControllerInNamesrv")? {
            return Err(settings.refuse("enableControllerInNamesrv", "the controller is not built yet"));
        }
        if settings.read::<u64>("scanNotActiveBrokerInterval")? == 0 {
            return Err(settings.wrong("scanNotActiveBrokerInterval", "a period in milliseconds, at least 1"));
        }
        settings.warn_of_missing_features(|key| Self::KEYS.contains(&key) || MET.contains(&key), &[]);
        let lines = settings.lines().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config = Self::bind(&settings, settings.in_effect(), lines)?;
        Ok((config, settings.warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Place;

    fn resolve(text: &str) -> Result<(NamesrvConfig, Vec<Warning>), ConfigError> {
        let file = Source { path: "namesrv.conf".into(), bytes: text.into() };
        NamesrvConfig::resolve(&machine(), Some(&file), &[])
    }

    fn machine() -> Machine {
        Machine { home: "/home/mq".into(), ..Machine::detect() }
    }

    #[test]
    fn defaults_are_javas() {
        let (config, warnings) = NamesrvConfig::resolve(&machine(), None, &[]).unwrap();
        assert_eq!(config.listen_port, 9876);
        assert_eq!(config.kv_config_path, Path::new("/home/mq/namesrv/kvConfig.json"));
        assert_eq!(config.all["configStorePath"], "/home/mq/namesrv/namesrv.properties");
        assert!(config.enable_all_topic_list && !config.order_message_enable);
        assert_eq!(warnings, []);
    }

    #[test]
    fn the_file_is_where_updates_go_and_its_values_count() {
        let (config, warnings) =
            resolve("listenPort = 9877 \norderMessageEnable=TRUE\nserverWorkerThreads=4").unwrap();
        assert_eq!((config.listen_port, config.order_message_enable), (9877, true));
        assert_eq!(config.config_store_path, Path::new("namesrv.conf"));
        assert_eq!(warnings, [Warning::Inert { keys: vec!["serverWorkerThreads"] }]);
    }

    #[test]
    fn a_change_at_run_time_keeps_the_rest() {
        let (config, _) = resolve("listenPort=9877").unwrap();
        let change = |key: &str, value: &str| config.changed(&[(key.to_owned(), value.to_owned())]);
        let changed = change("orderMessageEnable", " true").unwrap();
        assert!(changed.order_message_enable && changed.listen_port == 9877);
        assert_eq!(changed.config_store_path, Path::new("namesrv.conf"));
        assert!(changed.dump().contains("\norderMessageEnable=true\n"));
        assert_eq!(change("nonsense", "1").unwrap().dump(), config.dump());
        assert!(change("listenPort", "many").is_err());
    }

    #[test]
    fn a_wrong_port_names_its_line_and_a_controller_is_refused() {
        let error = resolve("\nlistenPort=98765").unwrap_err();
        assert_eq!(error.to_string(), "namesrv.conf:2: listenPort=98765: expected a port from 1 to 65535");
        let error = resolve("enableControllerInNamesrv=true").unwrap_err();
        let here = Place::File { path: "namesrv.conf".into(), line: 1 };
        assert!(matches!(error, ConfigError::Refused { place, .. } if place == here));
        assert!(resolve("scanNotActiveBrokerInterval=0").is_err());
    }
}
