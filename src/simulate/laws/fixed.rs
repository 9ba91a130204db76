//! Laws that never change their decision: the baselines "all on" and "fixed subset".

use super::units::has;
use super::{Law, Sight};

/// Every adapter is on, always.
#[derive(Clone, Debug, Default)]
pub struct AllOn {
    has_decided: bool,
}

/// The adapters of a set are on, always.
#[derive(Clone, Debug)]
pub struct Subset {
    /// Bit `k` stands for adapter `k`.
    mask: u32,
    has_decided: bool,
}

impl Subset {
    /// Bit `k` stands for adapter `k`.
    pub fn new(mask: u32) -> Subset {
        Subset { mask, has_decided: false }
    }
}

impl Law for AllOn {
    fn next(&self) -> f64 {
        if self.has_decided { f64::INFINITY } else { 0.0 }
    }

    fn decide(&mut self, _: &Sight<'_>, wanted: &mut [bool]) {
        self.has_decided = true;
        wanted.fill(true);
    }
}

impl Law for Subset {
    fn next(&self) -> f64 {
        if self.has_decided { f64::INFINITY } else { 0.0 }
    }

    fn decide(&mut self, _: &Sight<'_>, wanted: &mut [bool]) {
        self.has_decided = true;
        for (at, want) in wanted.iter_mut().enumerate() {
            *want = has(self.mask, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    #[test]
    fn decisions_do_not_change() {
        let (machines, doing, mut wanted) = (fleet(), [AdapterActivity::Off; 3], [false; 3]);
        let mut law = Subset::new(0b101);
        assert_eq!(law.next(), 0.0);
        law.decide(&sight(0.0, &machines, &doing, 0), &mut wanted);
        assert_eq!((wanted, law.next()), ([true, false, true], f64::INFINITY));
        AllOn::default().decide(&sight(0.0, &machines, &doing, 0), &mut wanted);
        assert_eq!(wanted, [true; 3]);
    }
}
