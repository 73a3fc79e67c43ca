//! What the broker says of its own settings.

use rmq_protocol::body::{DataVersion, to_vec};

use crate::control::answer::{Answer, Outcome};
use crate::control::state::State;

/// GET_BROKER_CONFIG (26). The version stays at zero: settings do not change while the broker runs.
pub fn config(state: &State) -> Outcome {
    let text: String =
        state.settings.all_keys.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let version = String::from_utf8_lossy(&to_vec(&DataVersion::default())).into_owned();
    Ok(Answer::body(text.into_bytes()).field("version", version))
}
