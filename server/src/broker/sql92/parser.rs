//! From words to an expression, loosest binding first: OR, AND, equality, order, signs, operands.

use super::evaluation::{Constant, Node, Order, Part, compare};
use super::token::{Keyword, Token, Tokens, error_at};
use super::{DEPTH_MAX, Expression, SyntaxError};

pub fn parse(text: &str) -> Result<Expression, SyntaxError> {
    let mut tokens = Tokens::new(text);
    let (at, token) = tokens.next()?;
    let mut parser = Parser { text, tokens, at, token, depth: 0, links: 0, nodes: 0 };
    let root = parser.alternatives()?;
    let root = parser.condition(root, 0)?;
    Ok(Expression { root, nodes: parser.nodes })
}

struct Parser<'t> {
    text: &'t str,
    tokens: Tokens<'t>,
    /// Where `token` begins.
    at: usize,
    token: Token<'t>,
    depth: u32,
    /// Operators that follow another one, as in `a = 1 = TRUE`: each makes the expression deeper.
    links: u32,
    nodes: u32,
}

type Parsed<T = Node> = Result<T, SyntaxError>;

impl Parser<'_> {
    fn alternatives(&mut self) -> Parsed {
        self.joined(Keyword::Or, Self::conjunction, Node::Any)
    }

    fn conjunction(&mut self) -> Parsed {
        self.joined(Keyword::And, Self::equality, Node::All)
    }

    fn joined(
        &mut self,
        by: Keyword,
        part: impl Fn(&mut Self) -> Parsed,
        whole: impl Fn(Vec<Node>) -> Node,
    ) -> Parsed {
        let start = self.at;
        let first = part(self)?;
        if self.token != Token::Keyword(by) {
            return Ok(first);
        }
        let mut parts = vec![self.condition(first, start)?];
        while self.take_keyword(by)? {
            let start = self.at;
            let next = part(self)?;
            parts.push(self.condition(next, start)?);
        }
        Ok(self.node(whole(parts)))
    }

    fn equality(&mut self) -> Parsed {
        let start = self.at;
        let mut left = self.comparison()?;
        let mut is_first = true;
        loop {
            let not = match self.token {
                Token::Symbol("=") => false,
                Token::Symbol("<>") => true,
                Token::Keyword(Keyword::Is) => {
                    self.link(&mut is_first)?;
                    self.advance()?;
                    let not = self.take_keyword(Keyword::Not)?;
                    if !self.take_keyword(Keyword::Null)? {
                        return Err(self.error("NULL is missing"));
                    }
                    left = self.negated(Node::IsNull(Box::new(left)), not);
                    continue;
                }
                _ => return Ok(left),
            };
            self.link(&mut is_first)?;
            self.advance()?;
            let right_at = self.at;
            let right = self.comparison()?;
            for (side, at) in [(&left, start), (&right, right_at)] {
                if matches!(side, Node::Constant(Constant::Null)) {
                    return Err(self.error_at(at, "NULL is compared by IS only"));
                }
            }
            if let (Node::Constant(Constant::Bool(_)), Node::Constant(other)) = (&left, &right)
                && !matches!(other, Constant::Bool(_))
            {
                return Err(self.error_at(right_at, "a truth value is compared with something else"));
            }
            left = self.negated(Node::Equal(Box::new([left, right])), not);
        }
    }

    fn comparison(&mut self) -> Parsed {
        let start = self.at;
        let mut left = self.signed()?;
        let mut is_first = true;
        loop {
            let order = match self.token {
                Token::Symbol(">") => Some((">", Order::Greater)),
                Token::Symbol(">=") => Some((">=", Order::GreaterOrEqual)),
                Token::Symbol("<") => Some(("<", Order::Less)),
                Token::Symbol("<=") => Some(("<=", Order::LessOrEqual)),
                _ => None,
            };
            if let Some((name, order)) = order {
                self.link(&mut is_first)?;
                self.advance()?;
                let right_at = self.at;
                let right = self.signed()?;
                self.check_number(&left, start, name)?;
                self.check_number(&right, right_at, name)?;
                left = self.node(Node::Ordered(order, Box::new([left, right])));
                continue;
            }
            use Keyword::{Between, Contains, EndsWith, In, Not, StartsWith};
            let Token::Keyword(Between | Contains | EndsWith | In | Not | StartsWith) = self.token else {
                return Ok(left);
            };
            self.link(&mut is_first)?;
            let not = self.take_keyword(Not)?;
            let operator_at = self.at;
            left = match self.token {
                Token::Keyword(Between) => self.between(left, start, not)?,
                Token::Keyword(In) => self.among(left, start, not)?,
                Token::Keyword(operator @ (Contains | StartsWith | EndsWith)) => {
                    self.advance()?;
                    let (part, what) = match operator {
                        StartsWith => (Part::Start, "STARTSWITH needs a string"),
                        EndsWith => (Part::End, "ENDSWITH needs a string"),
                        _ => (Part::Any, "CONTAINS needs a string"),
                    };
                    let text = self.string(what)?;
                    self.node(Node::Holds { part, of: Box::new(left), text, not })
                }
                _ => return Err(self.error_at(operator_at, "BETWEEN, IN or CONTAINS is missing after NOT")),
            };
        }
    }

    fn between(&mut self, value: Node, start: usize, not: bool) -> Parsed {
        self.advance()?;
        let low_at = self.at;
        let low = self.signed()?;
        if !self.take_keyword(Keyword::And)? {
            return Err(self.error("AND is missing"));
        }
        let high_at = self.at;
        let high = self.signed()?;
        self.check_number(&value, start, "BETWEEN")?;
        self.check_number(&low, low_at, "BETWEEN")?;
        self.check_number(&high, high_at, "BETWEEN")?;
        // Only what is written as a plain number is checked, as in Java.
        if let (false, Node::Constant(from), Node::Constant(to)) = (not, &low, &high)
            && compare(to.value(), from.value()).is_ok_and(|ordering| ordering.is_lt())
        {
            return Err(self.error_at(low_at, "BETWEEN begins above its end"));
        }
        Ok(self.node(Node::Between { parts: Box::new([value, low, high]), not }))
    }

    fn among(&mut self, left: Node, start: usize, not: bool) -> Parsed {
        let Node::Property(property) = left else {
            return Err(self.error_at(start, "IN needs a property"));
        };
        self.advance()?;
        self.expect("(", "'(' is missing")?;
        let mut among = vec![self.string("IN needs strings")?];
        while self.token == Token::Symbol(",") {
            self.advance()?;
            among.push(self.string("IN needs strings")?);
        }
        self.expect(")", "')' is missing")?;
        self.nodes += among.len() as u32;
        Ok(self.node(Node::In { property, among: among.into(), not }))
    }

    fn signed(&mut self) -> Parsed {
        let is_sign = matches!(self.token, Token::Symbol("+" | "-") | Token::Keyword(Keyword::Not));
        if !is_sign {
            return self.operand();
        }
        self.deeper(|parser| {
            let sign = parser.token.clone();
            parser.advance()?;
            let start = parser.at;
            let of = parser.signed()?;
            Ok(match sign {
                Token::Symbol("+") => of,
                Token::Symbol(_) => parser.node(Node::Negate(Box::new(of))),
                _ => {
                    let of = parser.condition(of, start)?;
                    parser.node(Node::Not(Box::new(of)))
                }
            })
        })
    }

    fn operand(&mut self) -> Parsed {
        let constant = match &self.token {
            Token::Symbol("(") => {
                self.advance()?;
                let inner = self.deeper(Self::alternatives)?;
                self.expect(")", "')' is missing")?;
                return Ok(inner);
            }
            Token::Name(name) => {
                let node = Node::Property((*name).into());
                self.advance()?;
                return Ok(self.node(node));
            }
            Token::Text(text) => Constant::Text(text.as_str().into()),
            Token::Whole(digits) => match digits.parse::<i64>() {
                Ok(number) => i32::try_from(number).map_or(Constant::Long(number), Constant::Int),
                Err(_) => return Err(self.error("a number beyond 64 bits")),
            },
            Token::Decimal(text) => match text.parse::<f64>() {
                // Java takes no zero for a fraction; `d = 0` is compared as a whole number.
                Ok(number) if number > 0.0 && number.is_finite() => Constant::Double(number),
                _ => return Err(self.error("a fraction that is zero or beyond 64 bits")),
            },
            Token::Keyword(Keyword::True) => Constant::Bool(true),
            Token::Keyword(Keyword::False) => Constant::Bool(false),
            Token::Keyword(Keyword::Null) => Constant::Null,
            _ => return Err(self.error("an operand is missing")),
        };
        self.advance()?;
        Ok(self.node(Node::Constant(constant)))
    }

    fn string(&mut self, otherwise: &str) -> Parsed<Box<str>> {
        let Token::Text(text) = &self.token else { return Err(self.error(otherwise)) };
        let text = text.as_str().into();
        self.advance()?;
        Ok(text)
    }

    /// A node used as a condition. Properties may be, numbers and strings may not.
    fn condition(&mut self, node: Node, at: usize) -> Parsed {
        match node {
            node if node.is_condition() => Ok(node),
            Node::Property(_) => Ok(self.node(Node::Condition(Box::new(node)))),
            _ => Err(self.error_at(at, "a value where a condition is needed")),
        }
    }

    fn check_number(&self, node: &Node, at: usize, operator: &str) -> Parsed<()> {
        let is_legal = match node {
            Node::Constant(constant) => constant.is_number(),
            other => !other.is_condition(),
        };
        if is_legal { Ok(()) } else { Err(self.error_at(at, &format!("'{operator}' compares numbers only"))) }
    }

    fn negated(&mut self, node: Node, not: bool) -> Node {
        let node = self.node(node);
        if not { self.node(Node::Not(Box::new(node))) } else { node }
    }

    fn node(&mut self, node: Node) -> Node {
        self.nodes += 1;
        node
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("too deeply nested"));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn link(&mut self, is_first: &mut bool) -> Parsed<()> {
        self.links += u32::from(!std::mem::replace(is_first, false));
        if self.links > DEPTH_MAX { Err(self.error("too many operators in a row")) } else { Ok(()) }
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Parsed<bool> {
        let is_it = self.token == Token::Keyword(keyword);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn expect(&mut self, symbol: &'static str, otherwise: &str) -> Parsed<()> {
        if self.token == Token::Symbol(symbol) { self.advance() } else { Err(self.error(otherwise)) }
    }

    fn advance(&mut self) -> Parsed<()> {
        (self.at, self.token) = self.tokens.next()?;
        Ok(())
    }

    fn error(&self, what: &str) -> SyntaxError {
        self.error_at(self.at, what)
    }

    fn error_at(&self, at: usize, what: &str) -> SyntaxError {
        error_at(self.text, at, what.to_owned())
    }
}
