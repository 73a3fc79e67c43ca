//! Attributes of a topic: `+key=value` adds or alters, `-key` deletes, and only known keys with known values.

use std::collections::BTreeMap;

use super::limits::ATTRIBUTES_PER_TOPIC_MAX;

/// What a key may hold, and whether it may change once the topic exists.
enum Rule {
    OneOf { values: &'static [&'static str], changeable: bool },
    HoursFromMinusOne,
}

fn rule(key: &str) -> Option<Rule> {
    Some(match key {
        "queue.type" => Rule::OneOf { values: &["BatchCQ", "SimpleCQ"], changeable: false },
        "cleanup.policy" => Rule::OneOf { values: &["DELETE", "COMPACTION"], changeable: false },
        "message.type" => Rule::OneOf {
            values: &["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"],
            changeable: true,
        },
        "reserve.time" => Rule::HoursFromMinusOne,
        _ => return None,
    })
}

type Attributes = BTreeMap<String, String>;

/// One wish: a key with its sign, and a value where one is given.
type Wish<'a> = (&'a str, Option<&'a str>);

/// Applies the modification text of request 17 to what the topic has; the error is the remark of the refusal.
pub fn alter(current: Option<&Attributes>, modification: &str) -> Result<Attributes, String> {
    let parts = modification.split(',').map(str::trim).filter(|part| !part.is_empty());
    apply(current, parts.map(wish))
}

fn wish(part: &str) -> Wish<'_> {
    part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)))
}

/// The same for request 18, whose tables have signed keys; a key that is to go has an empty value.
pub fn alter_by_table(current: Option<&Attributes>, modification: &Attributes) -> Result<Attributes, String> {
    let wishes = modification.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    apply(current, wishes.map(|(key, value)| (key, Some(value).filter(|value| !value.is_empty()))))
}

fn apply<'a>(
    current: Option<&Attributes>,
    wishes: impl Iterator<Item = Wish<'a>>,
) -> Result<Attributes, String> {
    let mut next = current.cloned().unwrap_or_default();
    let mut seen: Vec<&str> = Vec::new();
    for (key, value) in wishes {
        if seen.len() == ATTRIBUTES_PER_TOPIC_MAX {
            return Err(format!("more than {ATTRIBUTES_PER_TOPIC_MAX} attributes"));
        }
        let name = key.trim_start_matches(['+', '-']);
        if seen.contains(&name) {
            return Err(format!("alter duplication key. key: {name}"));
        }
        seen.push(name);
        match (key.chars().next(), value) {
            (Some('+'), Some(value)) => {
                admit(current, name, value)?;
                next.insert(name.to_owned(), value.to_owned());
            }
            (Some('+'), None) => return Err(format!("add/alter attribute format is wrong: {key}")),
            (Some('-'), None) if current.is_none() => {
                return Err(format!("only add attribute is supported while creating topic. key: {name}"));
            }
            (Some('-'), None) => {
                if next.remove(name).is_none() {
                    return Err(format!("attempt to delete a nonexistent key: {name}"));
                }
            }
            (Some('-'), Some(_)) => return Err(format!("delete attribute format is wrong: {key}")),
            _ => return Err(format!("wrong format key: {key}")),
        }
    }
    Ok(next)
}

fn admit(current: Option<&Attributes>, key: &str, value: &str) -> Result<(), String> {
    match rule(key) {
        None => Err(format!("unsupported key: {key}")),
        Some(Rule::OneOf { values, changeable }) => {
            if current.is_some() && !changeable {
                Err(format!("attempt to update an unchangeable attribute. key: {key}"))
            } else if values.contains(&value) {
                Ok(())
            } else {
                Err(format!("value is not in set: [{}]", values.join(", ")))
            }
        }
        Some(Rule::HoursFromMinusOne) => match value.parse::<i64>() {
            Ok(hours) if hours >= -1 => Ok(()),
            _ => Err(format!("value is not in range(-1, {})", i64::MAX)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_new_topic_takes_known_attributes_only() {
        assert_eq!(alter(None, "").unwrap(), BTreeMap::new());
        assert_eq!(
            alter(None, "+message.type=FIFO, +reserve.time=-1").unwrap(),
            attributes(&[("message.type", "FIFO"), ("reserve.time", "-1")])
        );
        for wrong in [
            "+colour=red",
            "-message.type",
            "message.type=FIFO",
            "+message.type=SOME",
            "+message.type",
            "+reserve.time=-2",
            "+message.type=FIFO,+message.type=DELAY",
        ] {
            assert!(alter(None, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_of_wishes_has_signed_keys() {
        let made = alter_by_table(None, &attributes(&[("+message.type", "FIFO")])).unwrap();
        assert_eq!(made, attributes(&[("message.type", "FIFO")]));
        assert_eq!(
            alter_by_table(Some(&made), &attributes(&[("-message.type", "")])).unwrap(),
            attributes(&[])
        );
        assert!(alter_by_table(Some(&made), &attributes(&[("message.type", "FIFO")])).is_err());
    }

    #[test]
    fn an_existing_topic_keeps_its_queue_type() {
        let current = attributes(&[("message.type", "FIFO"), ("queue.type", "BatchCQ")]);
        assert!(alter(Some(&current), "+queue.type=SimpleCQ").unwrap_err().contains("unchangeable"));
        assert_eq!(alter(Some(&current), "-message.type").unwrap(), attributes(&[("queue.type", "BatchCQ")]));
        assert!(alter(Some(&current), "-reserve.time").unwrap_err().contains("nonexistent"));
    }
}
