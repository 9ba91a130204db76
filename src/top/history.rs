//! History of the last minutes, one sample a second, divided into as many pieces as there are
//! columns.

use super::view::{Id, ReceivedSample};
use std::collections::VecDeque;

/// The number that the server keeps: ten minutes.
const SAMPLES_MAX: usize = 600;

/// States by descending priority, in the same order as in the server's samples.
const RANKS: &[&str] =
    &["busy", "draining", "loading", "starting", "idle", "stopping", "quarantined", "unreaped"];

/// Samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Past(VecDeque<ReceivedSample>);

impl Past {
    /// Adds a newer sample; an older one indicates that the server was restarted.
    pub(crate) fn push(&mut self, sample: ReceivedSample) {
        let at = sample.at_ms.or_zero();
        match self.0.back().map(|last| last.at_ms.or_zero()) {
            // The same second again, now complete.
            Some(last) if last == at => drop(self.0.pop_back()),
            Some(last) if last > at => self.0.clear(),
            _ => {}
        }
        self.0.push_back(sample);
        while self.0.len() > SAMPLES_MAX {
            self.0.pop_front();
        }
    }

    /// Replaces all samples by the server's history.
    pub(crate) fn replace(&mut self, samples: Vec<ReceivedSample>) {
        if !samples.is_empty() {
            self.0.clear();
            samples.into_iter().for_each(|sample| self.push(sample));
        }
    }

    /// Returns the maximum of outstanding requests in each of `pieces` of the last `window_ms`,
    /// oldest first; `None` without a sample.
    pub(crate) fn outstanding(
        &self,
        pieces: usize,
        window_ms: f64,
        now_ms: f64,
    ) -> Vec<Option<f64>> {
        let outstanding =
            |sample: &ReceivedSample| sample.queued.or_zero() + sample.in_flight.or_zero();
        self.pieces(pieces, window_ms, now_ms, |most: Option<f64>, sample| {
            most.unwrap_or_default().max(outstanding(sample))
        })
    }

    /// Returns the state of highest priority of an adapter in each piece; empty where it was off.
    pub(crate) fn states(
        &self,
        id: &Id,
        pieces: usize,
        window_ms: f64,
        now_ms: f64,
    ) -> Vec<Option<&str>> {
        let rank = |state: &str| RANKS.iter().position(|of| *of == state).unwrap_or(RANKS.len());
        self.pieces(pieces, window_ms, now_ms, |most: Option<&str>, sample| {
            let state = sample.on.get(id.raw()).map_or("", |state| state);
            most.filter(|most| rank(most) <= rank(state)).unwrap_or(state)
        })
    }

    fn pieces<'a, T: Clone>(
        &'a self,
        pieces: usize,
        window_ms: f64,
        now_ms: f64,
        join: impl Fn(Option<T>, &'a ReceivedSample) -> T,
    ) -> Vec<Option<T>> {
        let mut joined = vec![None; pieces];
        let piece_ms = window_ms / pieces.max(1) as f64;
        for sample in &self.0 {
            // Pieces have fixed bounds, otherwise the whole picture would flicker as time passes.
            let back = (now_ms / piece_ms).floor() - (sample.at_ms.or_zero() / piece_ms).floor();
            if back >= 0.0
                && let Some(at) = pieces.checked_sub((back as usize).saturating_add(1))
                && let Some(piece) = joined.get_mut(at)
            {
                *piece = Some(join(piece.take(), sample));
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn sample(at_ms: u32, queued: u32, state: Option<&str>) -> ReceivedSample {
        let on = state.map_or(json!({}), |state| json!({ "a": state }));
        from_value(json!({"at_ms": at_ms, "queued": queued, "in_flight": 1, "on": on})).unwrap()
    }

    fn past() -> Past {
        let mut past = Past::default();
        past.push(sample(1000, 2, Some("idle")));
        past.push(sample(2000, 5, Some("busy")));
        past.push(sample(3000, 1, None));
        past
    }

    #[test]
    fn pieces_contain_the_maximum_or_unknown() {
        let outstanding = past().outstanding(4, 8000.0, 3999.0);
        assert_eq!(outstanding, [None, None, Some(3.0), Some(6.0)]);
        let id: Id = from_value(json!("a")).unwrap();
        let past = past();
        assert_eq!(past.states(&id, 2, 2000.0, 3500.0), [Some("busy"), Some("")]);
        assert_eq!(past.states(&id, 1, 60_000.0, 3500.0), [Some("busy")]);
        assert!(past.outstanding(0, 1000.0, 0.0).is_empty());
    }

    #[test]
    fn same_second_is_replaced_and_a_new_server_clears_the_history() {
        let mut past = past();
        past.push(sample(3000, 9, None));
        assert_eq!(past.outstanding(1, 1000.0, 3000.0), [Some(10.0)]);
        past.push(sample(10, 1, None));
        assert_eq!(past.0.len(), 1);
        (0..2000).for_each(|second| past.push(sample(second * 1000, 0, None)));
        assert_eq!(past.0.len(), SAMPLES_MAX);
        past.replace(Vec::new());
        assert_eq!(past.0.len(), SAMPLES_MAX);
        past.replace(vec![sample(1, 1, None)]);
        assert_eq!(past.0.len(), 1);
    }
}
