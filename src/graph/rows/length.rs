//! Symbolic lengths of axes: a number times the lengths of axes that a file leaves open.

use std::collections::BTreeMap;
use std::fmt;

/// The length of an axis that only a request fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Symbol {
    /// The number of rows.
    Rows,
    /// Another open length; equal numbers mean equal lengths.
    Open(u32),
}

/// A product `coefficient * symbol^power * ...`, a monomial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Length {
    coefficient: i64,
    powers: BTreeMap<Symbol, u32>,
}

impl Length {
    pub(super) fn fixed(coefficient: i64) -> Length {
        Length { coefficient, powers: BTreeMap::new() }
    }

    pub(super) fn one() -> Length {
        Length::fixed(1)
    }

    pub(super) fn symbol(symbol: Symbol) -> Length {
        Length { coefficient: 1, powers: [(symbol, 1)].into() }
    }

    pub(super) fn rows() -> Length {
        Length::symbol(Symbol::Rows)
    }

    /// The number, if the length contains no symbol.
    pub(super) fn number(&self) -> Option<i64> {
        self.powers.is_empty().then_some(self.coefficient)
    }

    pub(super) fn is(&self, number: i64) -> bool {
        self.number() == Some(number)
    }

    pub(super) fn has_rows(&self) -> bool {
        self.powers.contains_key(&Symbol::Rows)
    }

    /// The product; `None` where the coefficient overflows.
    pub(super) fn times(&self, other: &Length) -> Option<Length> {
        let coefficient = self.coefficient.checked_mul(other.coefficient)?;
        if coefficient == 0 {
            return Some(Length::fixed(0));
        }
        let mut powers = self.powers.clone();
        for (symbol, power) in &other.powers {
            let sum = powers.entry(*symbol).or_default();
            *sum = sum.checked_add(*power)?;
        }
        Some(Length { coefficient, powers })
    }

    /// The exact quotient; `None` if it is not such a product.
    pub(super) fn over(&self, other: &Length) -> Option<Length> {
        if other.coefficient == 0 || self.coefficient.checked_rem(other.coefficient)? != 0 {
            return None;
        }
        let mut powers = self.powers.clone();
        for (symbol, power) in &other.powers {
            let left = powers.get(symbol)?.checked_sub(*power)?;
            if left == 0 {
                powers.remove(symbol);
            } else {
                powers.insert(*symbol, left);
            }
        }
        Some(Length { coefficient: self.coefficient.checked_div(other.coefficient)?, powers })
    }

    pub(super) fn product<'a>(all: impl IntoIterator<Item = &'a Length>) -> Option<Length> {
        all.into_iter().try_fold(Length::one(), |product, length| product.times(length))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_exact_or_none() {
        let (rows, open) = (Length::rows(), Length::symbol(Symbol::Open(3)));
        let product = Length::fixed(12).times(&rows).unwrap().times(&open).unwrap();
        assert_eq!(product.over(&open), Length::fixed(12).times(&rows));
        assert_eq!(product.over(&Length::fixed(5)), None);
        assert_eq!(product.over(&Length::symbol(Symbol::Open(4))), None);
        assert_eq!(product.over(&product).and_then(|one| one.number()), Some(1));
        assert_eq!(Length::fixed(i64::MAX).times(&Length::fixed(2)), None);
        assert!(product.has_rows() && !open.has_rows());
    }
}
