//! From text to expressions: `errors / total > 0.01 and total > 100`.
//!
//! ```text
//! condition  = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation   = "not" negation | comparison
//! comparison = sum ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum | "known" "(" sum ")" | "(" condition ")"
//! sum        = product { ( "+" | "-" ) product }
//! product    = sign { ( "*" | "/" | "%" ) sign }
//! sign       = "-" sign | atom
//! atom       = NUMBER | INPUT | FUNCTION "(" sum { "," sum } ")" | "(" sum ")"
//! ```
//!
//! Numbers and conditions are different things: `errors and total` and `(a > b) + 1` are mistakes, found here.

use crate::tokens::{Token, tokens};

/// Longer expressions are no one-liners any more; it also bounds the tree.
pub(crate) const TEXT_MAX: usize = 1_000;

/// Brackets, signs and calls inside each other. Each level is some stack frames of the component's one megabyte.
const DEPTH_MAX: u32 = 50;

/// A number that is computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    Constant(f64),
    /// Its column.
    Input(usize),
    Negative(Box<Number>),
    Arithmetic(Operator, Box<(Number, Number)>),
    Call(Function, Vec<Number>),
}

/// Between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Ceil,
    Exp,
    Floor,
    Ln,
    Log10,
    Max,
    Min,
    /// The first argument, or the second where that is not known.
    Or,
    Pow,
    Round,
    Sqrt,
}

/// True, false, or not known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Compare(Comparison, Box<(Number, Number)>),
    Known(Box<Number>),
    Not(Box<Condition>),
    And(Box<(Condition, Condition)>),
    Or(Box<(Condition, Condition)>),
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
    Unequal,
}

/// Where it cannot be read, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Characters before it.
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl Condition {
    /// The two sides of the comparison that stands first in the text.
    pub(crate) fn first_comparison(&self) -> Option<(&Number, &Number)> {
        match self {
            Condition::Compare(_, sides) => Some((&sides.0, &sides.1)),
            Condition::Known(_) => None,
            Condition::Not(inner) => inner.first_comparison(),
            Condition::And(both) | Condition::Or(both) => both
                .0
                .first_comparison()
                .or_else(|| both.1.first_comparison()),
        }
    }
}

/// Functions with their names and how many arguments they take, at least and at most.
const FUNCTIONS: [(&str, Function, usize, usize); 12] = [
    ("abs", Function::Abs, 1, 1),
    ("ceil", Function::Ceil, 1, 1),
    ("exp", Function::Exp, 1, 1),
    ("floor", Function::Floor, 1, 1),
    ("ln", Function::Ln, 1, 1),
    ("log10", Function::Log10, 1, 1),
    ("max", Function::Max, 2, 8),
    ("min", Function::Min, 2, 8),
    ("or_else", Function::Or, 2, 2),
    ("pow", Function::Pow, 2, 2),
    ("round", Function::Round, 1, 1),
    ("sqrt", Function::Sqrt, 1, 1),
];

/// Reads a condition.
pub(crate) fn condition(text: &str, inputs: &[String]) -> Result<Condition, Mistake> {
    let mut parser = Parser::new(text, inputs)?;
    let at = parser.at();
    match parser.whole()? {
        Either::Condition(condition) => Ok(condition),
        Either::Number(_) => Err(mistake(at, "this is a number: compare it, like … > 0.01")),
    }
}

/// Reads a number.
pub(crate) fn number(text: &str, inputs: &[String]) -> Result<Number, Mistake> {
    let mut parser = Parser::new(text, inputs)?;
    let at = parser.at();
    match parser.whole()? {
        Either::Number(number) => Ok(number),
        Either::Condition(_) => Err(mistake(
            at,
            "this is a comparison: write a number, like errors / total",
        )),
    }
}

pub(crate) fn mistake(at: usize, message: impl Into<String>) -> Mistake {
    Mistake {
        at,
        message: message.into(),
    }
}

/// What stands in brackets may be either.
enum Either {
    Number(Number),
    Condition(Condition),
}

struct Parser<'i> {
    tokens: Vec<(usize, Token)>,
    next: usize,
    inputs: &'i [String],
    depth: u32,
}

impl<'i> Parser<'i> {
    fn new(text: &str, inputs: &'i [String]) -> Result<Self, Mistake> {
        if text.len() > TEXT_MAX {
            return Err(mistake(
                TEXT_MAX,
                format!("it is longer than {TEXT_MAX} bytes: split the rule"),
            ));
        }
        Ok(Parser {
            tokens: tokens(text)?,
            next: 0,
            inputs,
            depth: 0,
        })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    fn advance(&mut self) -> Token {
        let token = self.tokens[self.next].1.clone();
        // The end stays.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    /// Takes one of these signs or words, and says which.
    fn accept(&mut self, wanted: &[&'static str]) -> Option<&'static str> {
        let found = wanted.iter().copied().find(|wanted| match self.peek() {
            Token::Sign(sign) => sign == wanted,
            Token::Name(name) => name == wanted,
            _ => false,
        });
        if found.is_some() {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Mistake> {
        match self.accept(&[sign]) {
            Some(_) => Ok(()),
            None => Err(mistake(
                self.at(),
                format!("expected {sign:?}, found {}", self.peek()),
            )),
        }
    }

    fn whole(&mut self) -> Result<Either, Mistake> {
        let found = self.disjunction()?;
        match self.peek() {
            Token::End => Ok(found),
            Token::Sign("=") => Err(mistake(self.at(), "= compares nothing: write ==")),
            Token::Sign("<" | "<=" | ">" | ">=" | "==" | "!=") => Err(mistake(
                self.at(),
                "comparisons cannot be chained: write a < b and b < c",
            )),
            other => Err(mistake(
                self.at(),
                format!("expected an operator, found {other}"),
            )),
        }
    }

    fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(mistake(
                self.at(),
                "too many brackets inside each other: split the rule",
            ));
        }
        let found = inner(self);
        self.depth -= 1;
        found
    }

    fn disjunction(&mut self) -> Result<Either, Mistake> {
        self.logic(&["or", "||"], Self::conjunction, Condition::Or)
    }

    fn conjunction(&mut self) -> Result<Either, Mistake> {
        self.logic(&["and", "&&"], Self::negation, Condition::And)
    }

    fn logic(
        &mut self,
        words: &[&'static str],
        part: fn(&mut Self) -> Result<Either, Mistake>,
        join: fn(Box<(Condition, Condition)>) -> Condition,
    ) -> Result<Either, Mistake> {
        let mut at = self.at();
        let mut left = part(self)?;
        while let Some(word) = self.accept(words) {
            let before = the_condition(left, at, word)?;
            at = self.at();
            let after = the_condition(part(self)?, at, word)?;
            left = Either::Condition(join(Box::new((before, after))));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Either, Mistake> {
        let Some(word) = self.accept(&["not", "!"]) else {
            return self.comparison();
        };
        let at = self.at();
        let inner = self.deeper(Self::negation)?;
        let inner = the_condition(inner, at, word)?;
        Ok(Either::Condition(Condition::Not(Box::new(inner))))
    }

    fn comparison(&mut self) -> Result<Either, Mistake> {
        let at = self.at();
        let left = self.sum()?;
        let sign = self.accept(&["<=", ">=", "==", "!=", "<", ">"]);
        let comparison = match sign {
            Some("<") => Comparison::Less,
            Some("<=") => Comparison::AtMost,
            Some(">") => Comparison::Greater,
            Some(">=") => Comparison::AtLeast,
            Some("==") => Comparison::Equal,
            Some(_) => Comparison::Unequal,
            None => return Ok(left),
        };
        let left = the_number(left, at)?;
        let at = self.at();
        let right = self.sum()?;
        let sides = (left, the_number(right, at)?);
        Ok(Either::Condition(Condition::Compare(
            comparison,
            Box::new(sides),
        )))
    }

    fn sum(&mut self) -> Result<Either, Mistake> {
        self.arithmetic(
            &[("+", Operator::Add), ("-", Operator::Subtract)],
            Self::product,
        )
    }

    fn product(&mut self) -> Result<Either, Mistake> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("%", Operator::Remainder),
        ];
        self.arithmetic(&operators, Self::sign)
    }

    fn arithmetic(
        &mut self,
        operators: &[(&'static str, Operator)],
        part: fn(&mut Self) -> Result<Either, Mistake>,
    ) -> Result<Either, Mistake> {
        let signs: Vec<&'static str> = operators.iter().map(|(sign, _)| *sign).collect();
        let mut at = self.at();
        let mut left = part(self)?;
        while let Some(sign) = self.accept(&signs) {
            let before = the_number(left, at)?;
            at = self.at();
            let after = the_number(part(self)?, at)?;
            let known = operators.iter().find(|(known, _)| *known == sign);
            let operator = known.map_or(Operator::Add, |(_, operator)| *operator);
            left = Either::Number(Number::Arithmetic(operator, Box::new((before, after))));
        }
        Ok(left)
    }

    fn sign(&mut self) -> Result<Either, Mistake> {
        if self.accept(&["-"]).is_none() {
            return self.atom();
        }
        let at = self.at();
        let inner = self.deeper(Self::sign)?;
        Ok(Either::Number(Number::Negative(Box::new(the_number(
            inner, at,
        )?))))
    }

    fn atom(&mut self) -> Result<Either, Mistake> {
        let at = self.at();
        match self.advance() {
            Token::Number(number) => Ok(Either::Number(Number::Constant(number))),
            Token::Sign("(") => {
                let inner = self.deeper(Self::disjunction)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Name(name) => self.name(at, &name),
            other => Err(mistake(
                at,
                format!("expected a number or an input, found {other}"),
            )),
        }
    }

    /// An input, or a function where a bracket follows.
    fn name(&mut self, at: usize, name: &str) -> Result<Either, Mistake> {
        if self.peek() != &Token::Sign("(") {
            let place = self.inputs.iter().position(|input| input == name);
            return match place {
                Some(input) => Ok(Either::Number(Number::Input(input))),
                None => Err(mistake(
                    at,
                    format!(
                        "the rule has no input {name:?}: its inputs are {}",
                        self.inputs.join(", ")
                    ),
                )),
            };
        }
        let arguments = self.deeper(Self::arguments)?;
        if name == "known" {
            return match <[Number; 1]>::try_from(arguments) {
                Ok([one]) => Ok(Either::Condition(Condition::Known(Box::new(one)))),
                Err(several) => Err(mistake(
                    at,
                    format!("known takes one number, not {}", several.len()),
                )),
            };
        }
        let Some((_, function, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name)
        else {
            let names: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
            return Err(mistake(
                at,
                format!(
                    "there is no function {name:?}: there are {} and known",
                    names.join(", ")
                ),
            ));
        };
        if !(*least..=*most).contains(&arguments.len()) {
            let wanted = if least == most {
                least.to_string()
            } else {
                format!("{least} to {most}")
            };
            return Err(mistake(
                at,
                format!("{name} takes {wanted} numbers, not {}", arguments.len()),
            ));
        }
        Ok(Either::Number(Number::Call(*function, arguments)))
    }

    fn arguments(&mut self) -> Result<Vec<Number>, Mistake> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        loop {
            let at = self.at();
            let argument = self.disjunction()?;
            arguments.push(the_number(argument, at)?);
            if self.accept(&[","]).is_none() {
                self.expect(")")?;
                return Ok(arguments);
            }
        }
    }
}

fn the_number(either: Either, at: usize) -> Result<Number, Mistake> {
    match either {
        Either::Number(number) => Ok(number),
        Either::Condition(_) => Err(mistake(
            at,
            "this is a comparison, and a number is wanted here: join comparisons with and, or",
        )),
    }
}

fn the_condition(either: Either, at: usize, word: &str) -> Result<Condition, Mistake> {
    match either {
        Either::Condition(condition) => Ok(condition),
        Either::Number(_) => Err(mistake(
            at,
            format!("this is a number, and {word:?} joins comparisons: write … > 0"),
        )),
    }
}
