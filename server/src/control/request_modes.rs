//! How groups get the messages of a topic when the broker assigns queues: by pulling or by popping.

use rmq_protocol::body::{MessageRequestMode, MessageRequestModeTable, SetMessageRequestMode};

use super::limits::REQUEST_MODES_MAX;
use super::names::RETRY_PREFIX;
use super::state_json;

#[derive(Default)]
pub struct RequestModes {
    table: MessageRequestModeTable,
    len: usize,
}

impl RequestModes {
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let table: MessageRequestModeTable = state_json::parse(content)?;
        let len = table.message_request_mode_map.values().map(|groups| groups.len()).sum();
        Ok(Self { table, len })
    }

    /// The text of messageRequestMode.json.
    pub fn to_file(&self) -> Vec<u8> {
        state_json::pretty(&self.table)
    }

    pub fn table(&self) -> &MessageRequestModeTable {
        &self.table
    }

    /// False: there are too many.
    pub fn set(&mut self, mode: SetMessageRequestMode) -> bool {
        let groups = self.table.message_request_mode_map.entry(mode.topic.clone()).or_default();
        if !groups.contains_key(&mode.consumer_group) {
            if self.len >= REQUEST_MODES_MAX {
                return false;
            }
            self.len += 1;
        }
        groups.insert(mode.consumer_group.clone(), mode);
        true
    }

    /// What was set, or the broker's default with its number of shares. The group's own retry topic is pulled.
    pub fn mode(
        &self,
        topic: &str,
        group: &str,
        default: (MessageRequestMode, i32),
    ) -> (MessageRequestMode, i32) {
        let known = self.table.message_request_mode_map.get(topic).and_then(|groups| groups.get(group));
        match known {
            Some(set) => (set.mode, set.pop_share_queue_num),
            None if topic.starts_with(RETRY_PREFIX) => (MessageRequestMode::Pull, 0),
            None => default,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_found_after_a_restart() {
        let mut modes = RequestModes::default();
        let pop = SetMessageRequestMode {
            consumer_group: "g".to_owned(),
            mode: MessageRequestMode::Pop,
            pop_share_queue_num: 2,
            topic: "T".to_owned(),
        };
        assert!(modes.set(pop.clone()) && modes.set(pop));
        let again = RequestModes::parse(&modes.to_file()).unwrap();
        assert_eq!(again.len, 1);
        let pull = (MessageRequestMode::Pull, 0);
        assert_eq!(again.mode("T", "g", pull), (MessageRequestMode::Pop, 2));
        assert_eq!(again.mode("T", "other", pull), pull);
        assert_eq!(again.mode("%RETRY%g", "g", (MessageRequestMode::Pop, -1)), pull);
        assert_eq!(again.mode("U", "g", (MessageRequestMode::Pop, -1)), (MessageRequestMode::Pop, -1));
    }
}
