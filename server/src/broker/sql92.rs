//! SQL92 message filters: an expression over a message's properties, with the grammar and the meaning of Java's
//! broker. `sql92/java.tsv` holds what Java answers, and the test below holds this to it.
//!
//! Logic has three values, and unknown does not match. A comparison that cannot be made, such as a word with
//! a number, ends the evaluation: the message does not match, whatever else the expression says.
//!
//! As in Java, what follows a complete expression is not read: `a = 5 garbage` is `a = 5`.

mod evaluation;
mod parser;
mod token;

use rmq_protocol::properties::Properties;

use evaluation::{Node, Value};

/// Longest expression. Java has no bound.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// Deepest nesting of parentheses and signs, so that neither parsing nor evaluating exhausts the stack.
const DEPTH_MAX: u32 = 100;

/// A parsed expression.
#[derive(Debug, PartialEq)]
pub struct Expression {
    root: Node,
    /// How many nodes it has, which is what its evaluation costs at most.
    nodes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at character {position} of the SQL92 expression")]
pub struct SyntaxError {
    /// Counted from 1.
    pub position: usize,
    pub what: String,
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            let what = format!("more than {EXPRESSION_BYTES_MAX} bytes");
            return Err(SyntaxError { position: 1, what });
        }
        parser::parse(text)
    }

    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Whether the message with these properties is wanted. Allocates nothing.
    pub fn matches(&self, properties: Properties<'_>) -> bool {
        matches!(self.root.evaluate(properties), Ok(Value::Bool(true)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(pairs: &str) -> Vec<u8> {
        pairs.split_terminator('\t').flat_map(|pair| [pair.replacen('=', "\u{1}", 1), "\u{2}".into()]).fold(
            Vec::new(),
            |mut all, piece| {
                all.extend_from_slice(piece.as_bytes());
                all
            },
        )
    }

    /// One letter per set of properties: true, false, null, error; or X for a refused expression.
    fn answers(text: &str, sets: &[Vec<u8>]) -> String {
        let Ok(expression) = Expression::parse(text) else { return "X".to_owned() };
        let answer = |set: &Vec<u8>| match expression.root.evaluate(Properties(set)) {
            Ok(Value::Bool(true)) => 'T',
            Ok(Value::Bool(false)) => 'F',
            Ok(Value::Null) => 'N',
            Ok(_) => '?',
            Err(_) => 'E',
        };
        sets.iter().map(answer).collect()
    }

    /// The lines are what the filter of Java's broker 5.3.3 printed.
    #[test]
    fn every_answer_is_javas() {
        let mut sets = Vec::new();
        let mut compared = 0;
        for line in include_str!("sql92/java.tsv").lines() {
            let (first, rest) = line.split_once('\t').unwrap_or((line, ""));
            if first == "P" {
                sets.push(encoded(rest));
                continue;
            }
            let text = rest.replace("\\n", "\n");
            assert_eq!(answers(&text, &sets), first, "{text}");
            compared += 1;
        }
        assert!(sets.len() == 8 && compared > 350, "{compared}");
    }

    #[test]
    fn an_error_says_where_and_what() {
        for (text, expected) in [
            ("a = ", "an operand is missing at character 5 of the SQL92 expression"),
            ("é = 5", "'é' begins nothing known at character 1 of the SQL92 expression"),
            ("'é' = a AND !", "'!' begins nothing known at character 13 of the SQL92 expression"),
            ("a > 'x'", "'>' compares numbers only at character 5 of the SQL92 expression"),
            ("b IN (5)", "IN needs strings at character 7 of the SQL92 expression"),
            ("(a = 5", "')' is missing at character 7 of the SQL92 expression"),
        ] {
            assert_eq!(Expression::parse(text).expect_err(text).to_string(), expected);
        }
    }

    #[test]
    fn length_and_depth_are_bounded() {
        let nested = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Expression::parse(&nested(90)).is_ok());
        assert!(Expression::parse(&nested(200)).is_err());
        assert!(Expression::parse(&format!("{}a", "NOT ".repeat(4_000))).is_err());
        assert!(Expression::parse(&format!("a = {}1", "-".repeat(4_000))).is_err());
        assert!(Expression::parse(&format!("a{}", " = TRUE".repeat(2_000))).is_err());
        assert!(Expression::parse(&format!("a{}", " IS NULL".repeat(2_000))).is_err());
        let wide = format!("a = 0{}", " OR a = 1".repeat(1_500));
        let expression = Expression::parse(&wide).expect("wide is not deep");
        assert!(expression.matches(Properties(b"a\x011\x02")) && expression.nodes() > 4_000);
        assert!(Expression::parse(&" ".repeat(EXPRESSION_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_value_that_is_no_utf8_is_a_value() {
        let properties = Properties(b"a\x01x\xffy\x02");
        for text in ["a IS NOT NULL", "a <> 'x'", "a CONTAINS 'y'", "a STARTSWITH 'x'"] {
            assert!(Expression::parse(text).expect("legal").matches(properties), "{text}");
        }
        assert!(!Expression::parse("a <> 1").expect("legal").matches(properties));
    }

    proptest! {
        #[test]
        fn nothing_panics(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b", "zz", "5", "-", "+", "2.5", "9999999999", "'x'", "''", "(", ")", ",", "=", "<>",
                    ">", ">=", "<", "<=", "AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "IN", "BETWEEN",
                    "CONTAINS", "STARTSWITH", "ENDSWITH", "--", "/*", "*/", "'", ".", "1e", "é", "\n",
                ]),
                0..40,
            ),
            value in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            for text in [words.join(" "), words.concat()] {
                let properties = [b"a\x01", &value[..], b"\x02b\x015\x02"].concat();
                if let Ok(expression) = Expression::parse(&text) {
                    expression.matches(Properties(&properties));
                }
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = Expression::parse(&text);
        }
    }
}
