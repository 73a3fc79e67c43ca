//! The broker's own settings: GET_BROKER_CONFIG (26) and UPDATE_BROKER_CONFIG (25).

use std::path::{Path, PathBuf};
use std::rc::Rc;

use rmq_protocol::body::to_vec;
use rmq_protocol::response_code::ResponseCode;

use super::Request;
use crate::config::{parse_properties, properties_with};
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::live_config::Refused;
use crate::control::state::State;
use crate::control::state_file::StateFile;

/// GET_BROKER_CONFIG (26).
pub fn config(state: &State) -> Outcome {
    let config = state.config.borrow();
    let version = String::from_utf8_lossy(&to_vec(&config.version())).into_owned();
    Ok(Answer::body(config.dump().into_bytes()).field("version", version))
}

/// UPDATE_BROKER_CONFIG (25). All of it or nothing; in effect and on disk when it is answered. Java passes wrong
/// values over in silence, here they are named.
pub async fn update(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    if request.body.is_empty() {
        return Ok(Answer::empty());
    }
    let Ok(properties) = parse_properties(request.body) else {
        return Err(Refusal::system_error("string2Properties error"));
    };
    let wishes: Vec<(String, String)> = properties.into_iter().map(|wish| (wish.key, wish.value)).collect();
    for (key, value) in &wishes {
        tracing::info!(peer = %request.peer, key, value, "a setting is to be changed");
    }
    // One change at a time: the next is checked against what this one leaves.
    let _one_writer = state.changing_config.lock().await;
    let change = state.config.borrow().check(wishes).map_err(|refused| match refused {
        Refused::BlackListed => {
            Refusal::new(ResponseCode::NO_PERMISSION, "Can not update config in black list.")
        }
        Refused::Value(remark) => Refusal::invalid(remark),
        Refused::TooMany => {
            Refusal::system_error("the configuration was changed too often; restart the broker")
        }
    })?;
    let path = file(state);
    let file = StateFile::new(&path);
    let former = read(&path).await.map_err(Refusal::system_error)?;
    let content = properties_with(&former, &change.pairs);
    state.save(&file, content.into_bytes()).await.map_err(Refusal::system_error)?;
    for key in &change.waiting {
        tracing::warn!(key, "a changed setting counts after a restart of the broker");
    }
    let asks_for_permission = change.pairs.iter().any(|(key, _)| key == "brokerPermission");
    let running = change.running.clone();
    state.config.borrow_mut().commit(change, state.now_ms());
    state.apply(&running).await;
    state.registrar.aim(state, &running.name_servers.0);
    if asks_for_permission {
        state.topics.borrow_mut().touch(state.now_ms());
        let names: Vec<String> = state.topics.borrow().iter().map(|(name, _)| name.clone()).collect();
        state.registrar.announce(state, names.into_iter());
        state.registrar.settled().await;
    }
    Ok(Answer::empty())
}

/// The file that the broker was started with, or the one beside its state, which Java does not read either.
fn file(state: &State) -> PathBuf {
    let config = state.config.borrow();
    match config.find("brokerConfigPath").filter(|path| !path.is_empty()) {
        Some(path) => Path::new(path).to_owned(),
        None => state.settings.config_dir.join("broker.properties"),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome.map_err(|error| format!("read {}: {error}", path.display())),
    });
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}
