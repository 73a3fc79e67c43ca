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
    follow(&mut root, &source);
    body::from_slice(&body::to_vec(&root)).map_err(malformed)
}

/// A reference to something that holds a reference again is left alone: nothing refers in circles then.
fn follow(value: &mut Value, root: &Value) {
    if let Some(target) = value.get("$ref").and_then(Value::as_str).and_then(|path| find(root, path)) {
        *value = target.clone();
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| follow(item, root)),
        Value::Object(members) => members.values_mut().for_each(|member| follow(member, root)),
        _ => {}
    }
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
    fn a_reference_to_the_whole_does_not_grow_without_end() {
        let heartbeat = parse(br#"{"clientID":"c","consumerDataSet":[{"$ref":"$"}]}"#).unwrap();
        assert_eq!(heartbeat.consumer_data_set.len(), 1);
        assert!(parse(b"[").is_err());
        assert!(parse(b"{\"$ref\":").is_err());
    }
}
