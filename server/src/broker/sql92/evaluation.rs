//! What an expression says about one message.

use std::cmp::Ordering;

use rmq_protocol::properties::Properties;

#[derive(Debug, PartialEq)]
pub enum Node {
    Constant(Constant),
    Property(Box<str>),
    Negate(Box<Node>),
    Not(Box<Node>),
    /// A property where a condition is expected: never true, since its value is text.
    Condition(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Ordered(Order, Box<[Node; 2]>),
    Equal(Box<[Node; 2]>),
    IsNull(Box<Node>),
    /// The value, the lowest and the highest.
    Between {
        parts: Box<[Node; 3]>,
        not: bool,
    },
    In {
        property: Box<str>,
        among: Box<[Box<str>]>,
        not: bool,
    },
    Holds {
        part: Part,
        of: Box<Node>,
        text: Box<str>,
        not: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Null,
    Bool(bool),
    /// What fits 32 bits is compared with properties as such: one beyond them is no number then, as in Java.
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which part of a value a text is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Any,
    Start,
    End,
}

#[derive(Clone, Copy, Debug)]
pub enum Value<'v> {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'v [u8]),
}

/// Two values that cannot be compared. Java throws, and the message does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomparable;

impl Node {
    pub fn evaluate<'v>(&'v self, properties: Properties<'v>) -> Result<Value<'v>, Incomparable> {
        Ok(match self {
            Self::Constant(constant) => constant.value(),
            Self::Property(name) => properties.find_bytes(name).map_or(Value::Null, Value::Text),
            Self::Negate(node) => match node.evaluate(properties)? {
                Value::Int(number) => Value::Int(number.wrapping_neg()),
                Value::Long(number) => Value::Long(number.wrapping_neg()),
                Value::Double(number) => Value::Double(-number),
                _ => Value::Null,
            },
            Self::Not(node) => match node.evaluate(properties)? {
                Value::Bool(is) => Value::Bool(!is),
                _ => Value::Null,
            },
            Self::Condition(node) => match node.evaluate(properties)? {
                Value::Null => Value::Null,
                other => Value::Bool(matches!(other, Value::Bool(true))),
            },
            Self::All(nodes) => all_or_any(nodes, properties, false)?,
            Self::Any(nodes) => all_or_any(nodes, properties, true)?,
            Self::Ordered(order, sides) => {
                let left = sides[0].evaluate(properties)?;
                order.holds(left, &sides[1], properties)?
            }
            Self::Equal(sides) => {
                let (left, right) = (sides[0].evaluate(properties)?, sides[1].evaluate(properties)?);
                match (left, right) {
                    (Value::Null, Value::Null) => Value::Bool(true),
                    (Value::Null, _) => Value::Null,
                    // Not unknown, as in Java: `5 <> missing` matches.
                    (_, Value::Null) => Value::Bool(false),
                    (left, right) => Value::Bool(compare(left, right)?.is_eq()),
                }
            }
            Self::IsNull(node) => Value::Bool(matches!(node.evaluate(properties)?, Value::Null)),
            Self::Between { parts, not } => {
                let [value, low, high] = &**parts;
                let value = value.evaluate(properties)?;
                let (from, to) = if *not {
                    (Order::Less, Order::Greater)
                } else {
                    (Order::GreaterOrEqual, Order::LessOrEqual)
                };
                let first = from.holds(value, low, properties)?;
                if matches!(first, Value::Bool(is) if is == *not) {
                    return Ok(first);
                }
                match to.holds(value, high, properties)? {
                    Value::Bool(is) if is == *not => Value::Bool(is),
                    second if matches!(first, Value::Null) || matches!(second, Value::Null) => Value::Null,
                    second => second,
                }
            }
            Self::In { property, among, not } => match properties.find_bytes(property) {
                None => Value::Null,
                Some(value) => Value::Bool(among.iter().any(|text| text.as_bytes() == value) != *not),
            },
            Self::Holds { part, of, text, not } => match of.evaluate(properties)? {
                // An empty text is in nothing, and nothing is without it, as in Java.
                Value::Text(value) if !text.is_empty() => Value::Bool(part.holds(value, text) != *not),
                _ => Value::Bool(false),
            },
        })
    }

    /// Whether the grammar takes it for a condition.
    pub fn is_condition(&self) -> bool {
        match self {
            Self::Constant(constant) => matches!(constant, Constant::Null | Constant::Bool(_)),
            Self::Property(_) | Self::Negate(_) => false,
            _ => true,
        }
    }
}

/// `decisive` is what decides at once: false for AND, true for OR.
fn all_or_any<'v>(
    nodes: &'v [Node],
    properties: Properties<'v>,
    decisive: bool,
) -> Result<Value<'v>, Incomparable> {
    let mut result = Value::Bool(!decisive);
    for node in nodes {
        match node.evaluate(properties)? {
            Value::Bool(is) if is == decisive => return Ok(Value::Bool(is)),
            Value::Bool(_) => {}
            _ => result = Value::Null,
        }
    }
    Ok(result)
}

impl Constant {
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(is) => Value::Bool(*is),
            Self::Int(number) => Value::Int(*number),
            Self::Long(number) => Value::Long(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Text(text) => Value::Text(text.as_bytes()),
        }
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Long(_) | Self::Double(_))
    }
}

impl Order {
    fn holds<'v>(
        self,
        left: Value<'v>,
        right: &'v Node,
        properties: Properties<'v>,
    ) -> Result<Value<'v>, Incomparable> {
        if matches!(left, Value::Null) {
            return Ok(Value::Null);
        }
        let ordering = match (left, right.evaluate(properties)?) {
            (_, Value::Null) => return Ok(Value::Null),
            (Value::Text(left), Value::Text(right)) => compare_doubles(double(left)?, double(right)?),
            (left, right) => compare(left, right)?,
        };
        Ok(Value::Bool(match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }))
    }
}

impl Part {
    fn holds(self, value: &[u8], text: &str) -> bool {
        match self {
            Self::Any => value.utf8_chunks().any(|chunk| chunk.valid().contains(text)),
            Self::Start => value.starts_with(text.as_bytes()),
            Self::End => value.ends_with(text.as_bytes()),
        }
    }
}

/// How two values that are not null compare; kinds that have nothing in common count as less.
pub fn compare(left: Value<'_>, right: Value<'_>) -> Result<Ordering, Incomparable> {
    use Value::{Bool, Double, Int, Long, Text};
    Ok(match (left, right) {
        (Text(left), Text(right)) => left.cmp(right),
        (Text(left), Bool(right)) => left.eq_ignore_ascii_case(b"true").cmp(&right),
        (Bool(_), Text(_)) => return Err(Incomparable),
        (Bool(left), Bool(right)) => left.cmp(&right),
        (Text(left), Int(right)) => int(left)?.cmp(&right),
        (Int(left), Text(right)) => left.cmp(&int(right)?),
        (Text(left), Long(right)) => long(left)?.cmp(&right),
        (Long(left), Text(right)) => left.cmp(&long(right)?),
        (Text(left), Double(right)) => compare_doubles(double(left)?, right),
        (Double(left), Text(right)) => compare_doubles(left, double(right)?),
        (Int(left), Int(right)) => left.cmp(&right),
        (Int(left), Long(right)) => i64::from(left).cmp(&right),
        (Long(left), Int(right)) => left.cmp(&i64::from(right)),
        (Long(left), Long(right)) => left.cmp(&right),
        (Int(left), Double(right)) => compare_doubles(f64::from(left), right),
        (Double(left), Int(right)) => compare_doubles(left, f64::from(right)),
        (Long(left), Double(right)) => compare_doubles(left as f64, right),
        (Double(left), Long(right)) => compare_doubles(left, right as f64),
        (Double(left), Double(right)) => compare_doubles(left, right),
        (Bool(_) | Value::Null, _) | (_, Bool(_) | Value::Null) => Ordering::Less,
    })
}

/// Java's order: NaN is equal to itself and above everything, -0.0 is below 0.0.
fn compare_doubles(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (false, false) => left.total_cmp(&right),
        (left, right) => left.cmp(&right),
    }
}

fn int(text: &[u8]) -> Result<i32, Incomparable> {
    ascii(text)?.parse().map_err(|_| Incomparable)
}

fn long(text: &[u8]) -> Result<i64, Incomparable> {
    ascii(text)?.parse().map_err(|_| Incomparable)
}

/// Java also reads hexadecimal fractions and the digits of other scripts; here they are no numbers.
fn double(text: &[u8]) -> Result<f64, Incomparable> {
    let text = ascii(text)?.trim_matches(|c| c <= ' ');
    match text.strip_prefix(['+', '-']).unwrap_or(text) {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => return Ok(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => {}
    }
    let number = text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text);
    let is_decimal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if !number.bytes().all(is_decimal) {
        return Err(Incomparable);
    }
    number.parse().map_err(|_| Incomparable)
}

fn ascii(text: &[u8]) -> Result<&str, Incomparable> {
    std::str::from_utf8(text).map_err(|_| Incomparable)
}
