//! JSON bodies, read as forgivingly as Java brokers read them.
//!
//! Beyond the standard: bare and single-quoted keys, integers and even objects as keys, extra commas, numbers and
//! booleans in quotes, text that is a bare number, enums by ordinal, members named without regard to case and
//! underscores, and nulls, which count as absent.

mod parse;

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};

use parse::Node;

/// The body cannot be understood; the sender has to change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON: {0}")]
pub struct JsonError(String);

impl serde::de::Error for JsonError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Reads a value; nothing but white space may follow it.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    T::deserialize(parse::document(bytes)?)
}

impl Node {
    /// An integer, also from quotes; an empty text is zero, as in Java.
    fn integer(&self) -> Option<i64> {
        match self {
            Node::Null => Some(0),
            Node::Bool(value) => Some(i64::from(*value)),
            Node::Number(text) | Node::String(text) => {
                let text = text.trim();
                if text.is_empty() {
                    return Some(0);
                }
                text.parse().ok().or_else(|| {
                    let value: f64 = text.parse().ok()?;
                    // The cast saturates, so the way back tells whether it was exact.
                    (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
                })
            }
            Node::Array(_) | Node::Object(_) => None,
        }
    }

    fn expect_text(self) -> Result<String, JsonError> {
        Ok(match self {
            Node::Null => String::new(),
            Node::String(text) | Node::Number(text) => text,
            other => other.to_string(),
        })
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, JsonError> {
        let found = match self {
            Node::Null => "null",
            Node::Bool(_) => "a boolean",
            Node::Number(_) => "a number",
            Node::String(_) => "text",
            Node::Array(_) => "an array",
            Node::Object(_) => "an object",
        };
        Err(JsonError::custom(format_args!("{found} where {expected} belongs")))
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            match self.integer() {
                Some(value) => visitor.visit_i64(value),
                None => self.unexpected("an integer"),
            }
        })*
    };
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            visitor.visit_string(self.expect_text()?)
        })*
    };
}

impl<'de> Deserializer<'de> for Node {
    type Error = JsonError;

    integers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
    deserialize_u32 deserialize_u64 }

    texts! { deserialize_str deserialize_string deserialize_identifier deserialize_char }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(value),
            Node::Number(text) => {
                if let Ok(value) = text.parse::<i64>() {
                    visitor.visit_i64(value)
                } else if let Ok(value) = text.parse::<u64>() {
                    visitor.visit_u64(value)
                } else {
                    visitor.visit_f64(text.parse().map_err(JsonError::custom)?)
                }
            }
            Node::String(text) => visitor.visit_string(text),
            Node::Array(_) => self.deserialize_seq(visitor),
            Node::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match &self {
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Null => visitor.visit_bool(false),
            Node::Number(text) | Node::String(text) => {
                visitor.visit_bool(text.eq_ignore_ascii_case("true") || text == "1")
            }
            Node::Array(_) | Node::Object(_) => self.unexpected("a boolean"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match &self {
            Node::Number(text) | Node::String(text) => {
                visitor.visit_f64(text.parse().map_err(JsonError::custom)?)
            }
            other => other.unexpected("a number"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self {
            Node::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self {
            Node::Null => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<Node>())),
            Node::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            other => other.unexpected("an array"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self {
            Node::Null => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(Node, Node)>())),
            Node::Object(members) => visitor.visit_map(MapDeserializer::new(members.into_iter())),
            other => other.unexpected("an object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        let Node::Object(members) = self else {
            return self.deserialize_map(visitor);
        };
        // A member may be there twice, or once as itself and once under a similar name: the first one counts.
        let mut seen = Vec::with_capacity(members.len());
        let mut known = Vec::with_capacity(members.len());
        for (key, value) in members {
            let Node::String(name) = &key else { continue };
            let Some(at) = field_named(fields, name) else { continue };
            if !seen.contains(&at) {
                seen.push(at);
                known.push((Node::String(fields[at].to_owned()), value));
            }
        }
        visitor.visit_map(MapDeserializer::new(known.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        let (Node::String(text) | Node::Number(text)) = &self else {
            return self.unexpected("a name");
        };
        let by_ordinal = text.parse::<usize>().ok().and_then(|ordinal| variants.get(ordinal));
        let by_name = || variants.iter().find(|variant| variant.eq_ignore_ascii_case(text));
        match by_ordinal.or_else(by_name) {
            Some(variant) => visitor.visit_enum((*variant).into_deserializer()),
            None => Err(JsonError::custom(format_args!("{text:?} is no {name}"))),
        }
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf }
}

/// Position of the field that a member stands for.
fn field_named(fields: &[&str], name: &str) -> Option<usize> {
    let letters = |text: &str| {
        let text: Vec<u8> = text.bytes().filter(|&byte| byte != b'_').collect();
        text.to_ascii_lowercase()
    };
    let exact = fields.iter().position(|field| *field == name);
    exact.or_else(|| fields.iter().position(|field| letters(field) == letters(name)))
}

impl IntoDeserializer<'_, JsonError> for Node {
    type Deserializer = Node;

    fn into_deserializer(self) -> Node {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Body {
        queue_id: i32,
        name: String,
        flag: bool,
        tps: f64,
        list: Vec<i64>,
        table: BTreeMap<i64, String>,
        optional: Option<i32>,
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    enum Kind {
        #[default]
        FirstOne,
        SecondOne,
    }

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    struct Queue {
        topic: String,
        id: i32,
    }

    fn read(text: &str) -> Body {
        from_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_coerced() {
        let expected = Body {
            queue_id: 3,
            name: "7".into(),
            flag: true,
            tps: 1.5,
            list: vec![1, 2],
            table: BTreeMap::from([(0, "a".into()), (-1, "b".into())]),
            optional: Some(4),
            kind: Kind::SecondOne,
        };
        let text = r#"{"queueId":"3","name":7,"flag":"TRUE","tps":"1.5","list":["1",2.0],
            "table":{0:"a","-1":'b'},"optional":"4","kind":1,"unknown":{"x":[{}]}}"#;
        assert_eq!(read(text), expected);
        let text = r#"{QUEUE_ID:3,'name':"7",flag:true,tps:1.5,list:[1,,2,],table:{'0':"a",-1:"b",},optional:4,
            kind:"second_one",,} "#;
        assert_eq!(read(text), expected);
    }

    #[test]
    fn nulls_count_as_absent() {
        let text = r#"{"queueId":null,"name":null,"list":null,"table":null,"optional":null,"kind":null}"#;
        assert_eq!(read(text), Body::default());
        assert_eq!(read("{}"), Body::default());
        assert_eq!(read(r#"{"queueId":1,"queueId":2,"queue_id":3}"#).queue_id, 1);
    }

    #[test]
    fn objects_can_be_keys() {
        let table: BTreeMap<Queue, i64> =
            from_slice(br#"{{"topic":"T","id":1}:12,{"id":0,"topic":"T"}:"13"}"#).unwrap();
        let queue = |id| Queue { topic: "T".into(), id };
        assert_eq!(table, BTreeMap::from([(queue(0), 13), (queue(1), 12)]));
        let table: serde_json::Value = from_slice(br#"{"t":{{"topic":"T","id":1}:12}}"#).unwrap();
        assert_eq!(table["t"][r#"{"topic":"T","id":1}"#], 12);
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for bad in
            ["", "{", "[", "{\"a\"}", "{a:}", "nul", "{}{}", "[1 2]", "\"x", "{\"queueId\":\"x\"}", "\u{0}"]
        {
            assert!(from_slice::<Body>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(from_slice::<Body>(br#"{"queueId":99999999999}"#).is_err());
        assert!(from_slice::<Body>(br#"{"kind":"THIRD"}"#).is_err());
        assert!(from_slice::<Body>("[".repeat(100_000).as_bytes()).is_err(), "depth is bounded");
    }
}
