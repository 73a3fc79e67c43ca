//! What messages carry: the flags that say it, and what they come to.

use std::fmt;

use clap::Args;
use serde::{Serialize, Serializer};

use crate::body::{BodyShape, HEADER_BYTES};
use crate::error::Error;

const BODY_BYTES_MAX: usize = 16 << 20;
/// The length of properties is 16 bits, signed; a broker adds some of its own.
const PROPERTY_BYTES_MAX: usize = 32_000;
/// Tags have one letter or two behind `Tag`.
pub const TAGS_MAX: u32 = 26 * 26;

#[derive(Args, Clone, Debug, Serialize)]
pub struct PayloadArgs {
    /// Bytes in a message body: a number, or a range that sizes are drawn from, such as 128-4096; the smallest
    /// possible body holds just the stamp that `verify` reads
    #[arg(help_heading = "Payload", short = 's', long, default_value = "128", value_parser = parse_body_size, value_name = "BYTES|MIN-MAX")]
    pub body_size: BodySize,
    /// Share of each body that is one repeated byte: 0 cannot be compressed, 1 is the same throughout
    #[arg(help_heading = "Payload", long, default_value_t = 0.0, value_parser = parse_ratio, value_name = "RATIO")]
    pub compressible: f64,
    /// Index keys on each message, distinct from all others
    #[arg(help_heading = "Payload", long, default_value_t = 0, num_args = 0..=1, default_missing_value = "1", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(0..=32))]
    pub keys: u32,
    /// Each message carries one of this many tags, drawn from TagA, TagB, ...
    #[arg(help_heading = "Payload", long, default_value_t = 0, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=TAGS_MAX as i64))]
    pub tags: u32,
    /// A property of each message; may be repeated
    #[arg(help_heading = "Payload", long, value_name = "NAME=VALUE", value_parser = parse_property)]
    pub property: Vec<Property>,
    /// One more property of this many bytes
    #[arg(help_heading = "Payload", long, default_value_t = 0, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=PROPERTY_BYTES_MAX as i64))]
    pub property_bytes: u32,
    /// Leave out the unique key that real clients put on every message
    #[arg(help_heading = "Payload", long)]
    pub no_unique_key: bool,
    /// Chooses sizes, filler, tags and what is rolled back; the same seed makes the same messages [default: the run]
    #[arg(help_heading = "Payload", long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

/// Sizes are drawn evenly from `min..=max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodySize {
    pub min: usize,
    pub max: usize,
}

impl BodySize {
    pub fn mean(self) -> f64 {
        (self.min + self.max) as f64 / 2.0
    }
}

impl fmt::Display for BodySize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(out, "{}", self.min)
        } else {
            write!(out, "{}-{}", self.min, self.max)
        }
    }
}

/// A number where it is one, as in results of tools that knew no ranges.
impl Serialize for BodySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.min == self.max {
            serializer.serialize_u64(self.min as u64)
        } else {
            serializer.collect_str(self)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: String,
}

impl Serialize for Property {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}={}", self.name, self.value))
    }
}

impl PayloadArgs {
    /// `seed` is that of a run for which none was given.
    pub fn body_shape(&self, seed: u64) -> BodyShape {
        BodyShape {
            size_min: self.body_size.min as u32,
            size_max: self.body_size.max as u32,
            compressible_permille: (self.compressible * 1000.0).round() as u32,
            seed: self.seed.unwrap_or(seed),
        }
    }

    /// What all messages have alike, as `name U+0001 value U+0002`.
    pub fn fixed_properties(&self) -> String {
        let mut text = String::new();
        for Property { name, value } in &self.property {
            text.push_str(&format!("{name}\u{1}{value}\u{2}"));
        }
        if self.property_bytes > 0 {
            text.push_str(&format!("filler\u{1}{}\u{2}", "p".repeat(self.property_bytes as usize)));
        }
        text
    }

    pub fn check(&self) -> Result<(), Error> {
        let bytes = self.fixed_properties().len();
        if bytes > PROPERTY_BYTES_MAX {
            return Err(Error::Usage(format!(
                "{bytes} bytes of properties are more than the {PROPERTY_BYTES_MAX} that a message has room for"
            )));
        }
        Ok(())
    }
}

fn parse_body_size(text: &str) -> Result<BodySize, String> {
    let size = |text: &str| match text.parse::<usize>() {
        Ok(size) if (HEADER_BYTES..=BODY_BYTES_MAX).contains(&size) => Ok(size),
        Ok(_) => Err(format!("must be from {HEADER_BYTES} bytes to 16 MiB")),
        Err(_) => Err(String::from("must be a number of bytes or a range such as 128-4096")),
    };
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    let (min, max) = (size(min)?, size(max)?);
    if min <= max { Ok(BodySize { min, max }) } else { Err(String::from("the range ends before it begins")) }
}

pub fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(String::from("must be a number from 0 to 1")),
    }
}

/// What the tool itself writes, or what would end a property early, is not for the command line.
fn parse_property(text: &str) -> Result<Property, String> {
    /// Written by flags of their own, or by the broker.
    const OURS: [&str; 7] = ["UNIQ_KEY", "KEYS", "TAGS", "WAIT", "DELAY", "TRAN_MSG", "PGROUP"];
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    if name.is_empty() || value.is_empty() {
        return Err(String::from("needs a name and a value"));
    }
    if text.contains(['\u{1}', '\u{2}']) {
        return Err(String::from("must not contain the characters 1 and 2, which separate properties"));
    }
    if OURS.contains(&name) {
        return Err(format!("{name} has a flag of its own"));
    }
    Ok(Property { name: name.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_or_ranges() {
        assert_eq!(parse_body_size("128"), Ok(BodySize { min: 128, max: 128 }));
        assert_eq!(parse_body_size("128-4096"), Ok(BodySize { min: 128, max: 4096 }));
        for wrong in ["", "39", "12-128", "4096-128", "128-", "-128", "1-2-3", "99999999999"] {
            assert!(parse_body_size(wrong).is_err(), "{wrong}");
        }
        let shown = |text| serde_json::to_string(&parse_body_size(text).unwrap()).unwrap();
        assert_eq!((shown("128").as_str(), shown("128-4096").as_str()), ("128", "\"128-4096\""));
    }

    #[test]
    fn properties_that_would_confuse_are_refused() {
        let fine = parse_property("color=a=b").unwrap();
        assert_eq!((fine.name.as_str(), fine.value.as_str()), ("color", "a=b"));
        for wrong in ["color", "=red", "color=", "TAGS=A", "a=\u{1}", "a\u{2}=b"] {
            assert!(parse_property(wrong).is_err(), "{wrong:?}");
        }
    }
}
