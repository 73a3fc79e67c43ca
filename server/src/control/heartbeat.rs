//! The body of a heartbeat. Java's serializer writes an object that it has written before as
//! `{"$ref":"$.path[0]"}`; only heartbeats are known to hold such references, so they are followed here.

use rmq_protocol::body::{self, HeartbeatData};
use serde_json::Value;

pub fn parse(bytes: &[u8]) -> Result<HeartbeatData, String> {
    let malformed = |error: body::JsonError| error.to_string();
    if !bytes.windows(6).any(|window| window == b"\"$ref\"") {
        return body::from_slice(bytes).map_err(malformed);
    }
    let mut root: Value = body::from_slice(bytes).map_err(malformed)?;
    let source = root.clone();
    let mut budget = EXPANDED_BYTES_MAX;
    follow(&mut root, &source, &mut budget)?;
    body::from_slice(&body::to_vec(&root)).map_err(malformed)
}

/// What following references may add: no more than a heartbeat without references could hold.
const EXPANDED_BYTES_MAX: usize = rmq_protocol::FRAME_SIZE_MAX;

/// A reference to something that holds a reference again is left alone: nothing refers in circles then.
fn follow(value: &mut Value, root: &Value, budget: &mut usize) -> Result<(), String> {
    if let Some(target) = value.get("$ref").and_then(Value::as_str).and_then(|path| find(root, path)) {
        *budget = budget.checked_sub(size(target)).ok_or("the heartbeat's references hold too much")?;
        *value = target.clone();
        return Ok(());
    }
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| follow(item, root, budget)),
        Value::Object(members) => members.values_mut().try_for_each(|member| follow(member, root, budget)),
        _ => Ok(()),
    }
}

/// About as many bytes as the value takes in memory.
fn size(value: &Value) -> usize {
    let below = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.iter().map(|(name, member)| name.len() + size(member)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    below + std::mem::size_of::<Value>()
}

/// `$.name[index].name`; other forms point to nothing.
fn find<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    let mut steps = path.strip_prefix('$')?.split(['.', '[', ']']).filter(|step| !step.is_empty());
    steps.try_fold(root, |at, step| match step.parse::<usize>() {
        Ok(index) => at.get(index),
        Err(_) => at.get(step),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_what_was_written_before() {
        let heartbeat = parse(
            br#"{"clientID":"c","consumerDataSet":[
                {"groupName":"a","subscriptionDataSet":[{"topic":"T","subVersion":"7"}]},
                {"groupName":"b","subscriptionDataSet":[{"$ref":"$.consumerDataSet[0].subscriptionDataSet[0]"}]},
                {"groupName":"c","subscriptionDataSet":[{"$ref":"$.nowhere[9]"}]}]}"#,
        )
        .unwrap();
        let data = &heartbeat.consumer_data_set[1].subscription_data_set[0];
        assert_eq!((data.topic.as_str(), data.sub_version), ("T", 7));
        assert_eq!(heartbeat.consumer_data_set[2].subscription_data_set[0].topic, "");
    }

    #[test]
    fn references_do_not_multiply_a_frame_into_terabytes() {
        let references = vec![r#"{"$ref":"$.x"}"#; 10_000].join(",");
        let body = format!(r#"{{"clientID":"c","x":"{}","y":[{references}]}}"#, "v".repeat(100_000));
        assert!(parse(body.as_bytes()).unwrap_err().contains("references"));
    }

    #[test]
    fn a_reference_to_the_whole_does_not_grow_without_end() {
        let heartbeat = parse(br#"{"clientID":"c","consumerDataSet":[{"$ref":"$"}]}"#).unwrap();
        assert_eq!(heartbeat.consumer_data_set.len(), 1);
        assert!(parse(b"[").is_err());
        assert!(parse(b"{\"$ref\":").is_err());
    }
}
