//! History of the last minutes, one sample per second, for the page's timeline.

use super::sample::Sample;
use super::snapshot::{AdapterView, QueueView};
use schedule::Activity;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Time between two samples, in milliseconds.
pub const SAMPLE_MS: u64 = 1000;
/// Number of samples: ten minutes.
const SAMPLES_MAX: usize = 600;

/// States of adapters that a sample can contain, by descending priority.
const STATES: [Activity; 8] = [
    Activity::Busy,
    Activity::Draining,
    Activity::Loading,
    Activity::Starting,
    Activity::Idle,
    Activity::Stopping,
    Activity::Quarantined,
    Activity::Unreaped,
];

/// The samples of the last minutes; clones share them.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Samples>>);

#[derive(Debug, Default)]
struct Samples {
    whole: VecDeque<Arc<Sample>>,
    open: Sample,
}

impl History {
    /// Adds the current state to the sample of this second, and completes the sample when the
    /// second is over.
    pub fn look(&self, now_ms: u64, queue: &QueueView, adapters: &[AdapterView]) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut samples.open;
        open.queued = open.queued.max(queue.queued_requests);
        open.in_flight = open.in_flight.max(queue.in_flight_requests);
        for adapter in adapters {
            open.see(adapter);
        }
        let begun = samples.whole.back().map_or(0, |last| last.at_ms);
        if now_ms >= begun + SAMPLE_MS {
            let whole = Sample { at_ms: now_ms, ..std::mem::take(&mut samples.open) };
            if samples.whole.len() == SAMPLES_MAX {
                samples.whole.pop_front();
            }
            samples.whole.push_back(Arc::new(whole));
        }
    }

    /// Returns the last complete second.
    pub fn newest(&self) -> Option<Arc<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).whole.back().cloned()
    }

    /// Returns all samples, oldest first.
    pub fn samples(&self) -> Vec<Arc<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).whole.iter().cloned().collect()
    }
}

impl Sample {
    fn see(&mut self, adapter: &AdapterView) {
        let Some(activity) = adapter.activity else { return };
        let Some(rank) = rank(activity) else { return };
        let known = self.on.get(&adapter.entry.id).and_then(|known| self::rank(*known));
        if known.is_none_or(|known| rank < known) {
            self.on.insert(adapter.entry.id.clone(), activity);
        }
    }
}

/// Returns the priority of a state; `None` if the adapter is off.
fn rank(activity: Activity) -> Option<usize> {
    STATES.iter().position(|known| *known == activity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn adapters(states: &[(&str, Activity)]) -> Vec<AdapterView> {
        states.iter().map(|(id, state)| AdapterView::example(id, Some(*state))).collect()
    }

    fn queue(queued_requests: u64, in_flight_requests: u64) -> QueueView {
        QueueView { queued_requests, in_flight_requests, ..QueueView::default() }
    }

    #[test]
    fn a_sample_holds_the_most_of_its_second() {
        let history = History::default();
        history.look(
            100,
            &queue(1, 0),
            &adapters(&[("a", Activity::Starting), ("b", Activity::Off)]),
        );
        history.look(500, &queue(9, 4), &adapters(&[("a", Activity::Busy), ("b", Activity::Off)]));
        assert_eq!(history.newest(), None);
        history.look(1000, &queue(0, 1), &adapters(&[("a", Activity::Idle), ("b", Activity::Off)]));
        let on = BTreeMap::from([("a".to_owned(), Activity::Busy)]);
        let first = Sample { at_ms: 1000, queued: 9, in_flight: 4, on };
        assert_eq!(history.newest().as_deref(), Some(&first));
        history.look(
            2100,
            &queue(0, 0),
            &adapters(&[("a", Activity::Off), ("b", Activity::Quarantined)]),
        );
        let on = BTreeMap::from([("b".to_owned(), Activity::Quarantined)]);
        let second = Sample { at_ms: 2100, queued: 0, in_flight: 0, on };
        assert_eq!(history.samples(), [Arc::new(first), Arc::new(second)]);
    }

    #[test]
    fn old_samples_are_removed() {
        let history = History::default();
        for second in 1..=700 {
            history.look(second * 1000, &queue(0, 0), &[]);
        }
        let samples = history.samples();
        assert_eq!(samples.len(), SAMPLES_MAX);
        assert_eq!(samples.first().map(|sample| sample.at_ms), Some(101_000));
    }
}
