//! Which messages of a queue a subscription wants.

use std::cell::RefCell;
use std::rc::Rc;

use rmq_protocol::record::RecordRef;
use rustc_hash::FxHashMap;

use super::sql92::{EXPRESSION_BYTES_MAX, Expression, SyntaxError};

/// Expressions a shard keeps parsed.
const PARSED_MAX: usize = 128;
/// Nodes evaluated in one pull, so that a large expression does not hold up the shard.
const NODES_PER_PULL_MAX: u32 = 25_600;

const _: () = assert!(NODES_PER_PULL_MAX as usize > EXPRESSION_BYTES_MAX);

#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    All,
    /// Filter codes of tags.
    Tags(Box<[i64]>),
    Sql92(Rc<Expression>),
}

impl Filter {
    /// What the filter code alone tells; a SQL92 filter has to see the record.
    pub fn may_match(&self, filter_code: i64) -> bool {
        match self {
            Self::All | Self::Sql92(_) => true,
            Self::Tags(codes) => codes.contains(&filter_code),
        }
    }
}

/// Whether an expression wants a stored message.
pub fn accepts(expression: &Expression, record: &[u8]) -> bool {
    RecordRef::parse(record).is_ok_and(|record| expression.matches(record.properties()))
}

/// How many messages one pull looks at, at most `scan_max`.
pub fn scan_max(expression: &Expression, scan_max: u32) -> u32 {
    (NODES_PER_PULL_MAX / expression.nodes().max(1)).clamp(1, scan_max)
}

/// Expressions by their text: a consumer pulls with the same one again and again.
#[derive(Default)]
pub struct ParsedExpressions(RefCell<FxHashMap<Box<str>, Parsed>>);

type Parsed = Result<Rc<Expression>, SyntaxError>;

impl ParsedExpressions {
    pub fn parse(&self, text: &str) -> Parsed {
        if let Some(known) = self.0.borrow().get(text) {
            return known.clone();
        }
        let parsed = Expression::parse(text).map(Rc::new);
        let mut known = self.0.borrow_mut();
        // Whoever is still pulling comes back at once; a better choice is not worth its bookkeeping.
        if known.len() >= PARSED_MAX {
            known.clear();
        }
        if text.len() <= EXPRESSION_BYTES_MAX {
            known.insert(text.into(), parsed.clone());
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_parsed_once_and_a_bounded_number_is_kept() {
        let parsed = ParsedExpressions::default();
        let first = parsed.parse("a = 1").expect("legal");
        assert!(Rc::ptr_eq(&first, &parsed.parse("a = 1").expect("legal")));
        assert_eq!(parsed.parse("a ="), parsed.parse("a ="));
        for number in 0..1_000 {
            let _ = parsed.parse(&format!("a = {number}"));
            assert!(parsed.0.borrow().len() <= PARSED_MAX);
        }
        assert!(parsed.parse(&" ".repeat(EXPRESSION_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_large_expression_looks_at_fewer_messages() {
        let parse = |text: &str| Expression::parse(text).expect("legal");
        assert_eq!(scan_max(&parse("a = 1"), 800), 800);
        let large = scan_max(&parse(&format!("a = 0{}", " OR a = 1".repeat(1_000))), 800);
        assert!((1..20).contains(&large), "{large}");
    }
}
