//! What an expression comes to, where some of its inputs may not be known.
//!
//! NaN is not known, and so is whatever is computed from it, 0/0 included. A comparison with it is neither true nor false;
//! `and`, `or` and `not` follow Kleene: false and unknown is false, true or unknown is true.

use crate::parse::{Comparison, Condition, Function, Number, Operator};

/// The number; NaN: not known.
pub(crate) fn number_of(number: &Number, inputs: &dyn Fn(usize) -> f64) -> f64 {
    match number {
        Number::Constant(constant) => *constant,
        Number::Input(input) => inputs(*input),
        Number::Negative(inner) => -number_of(inner, inputs),
        Number::Arithmetic(operator, sides) => {
            let (left, right) = (number_of(&sides.0, inputs), number_of(&sides.1, inputs));
            match operator {
                Operator::Add => left + right,
                Operator::Subtract => left - right,
                Operator::Multiply => left * right,
                Operator::Divide => left / right,
                Operator::Remainder => left % right,
            }
        }
        Number::Call(function, arguments) => {
            let mut numbers = arguments.iter().map(|argument| number_of(argument, inputs));
            let first = numbers.next().unwrap_or(f64::NAN);
            match function {
                Function::Abs => first.abs(),
                Function::Ceil => first.ceil(),
                Function::Exp => first.exp(),
                Function::Floor => first.floor(),
                Function::Ln => first.ln(),
                Function::Log10 => first.log10(),
                Function::Round => first.round(),
                Function::Sqrt => first.sqrt(),
                Function::Pow => first.powf(numbers.next().unwrap_or(f64::NAN)),
                Function::Or if first.is_nan() => numbers.next().unwrap_or(f64::NAN),
                Function::Or => first,
                // Not f64::max: that one passes over what is not known.
                Function::Max => numbers.fold(first, |most, n| pick(most, n, n > most)),
                Function::Min => numbers.fold(first, |least, n| pick(least, n, n < least)),
            }
        }
    }
}

fn pick(before: f64, next: f64, better: bool) -> f64 {
    if before.is_nan() || next.is_nan() {
        f64::NAN
    } else if better {
        next
    } else {
        before
    }
}

/// Whether it holds; none: not known.
pub(crate) fn truth_of(condition: &Condition, inputs: &dyn Fn(usize) -> f64) -> Option<bool> {
    match condition {
        Condition::Compare(comparison, sides) => {
            let (left, right) = (number_of(&sides.0, inputs), number_of(&sides.1, inputs));
            if left.is_nan() || right.is_nan() {
                return None;
            }
            Some(match comparison {
                Comparison::Less => left < right,
                Comparison::AtMost => left <= right,
                Comparison::Greater => left > right,
                Comparison::AtLeast => left >= right,
                Comparison::Equal => left == right,
                Comparison::Unequal => left != right,
            })
        }
        Condition::Known(number) => Some(!number_of(number, inputs).is_nan()),
        Condition::Not(inner) => truth_of(inner, inputs).map(|truth| !truth),
        Condition::And(both) => match (truth_of(&both.0, inputs), truth_of(&both.1, inputs)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Condition::Or(both) => match (truth_of(&both.0, inputs), truth_of(&both.1, inputs)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
    }
}
