//! Arrivals of requests in the last 24 hours, for what-if comparisons of their cost: without
//! payloads, and with numbers in place of clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Time for which arrivals are kept.
const SPAN: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of arrivals, of 16 bytes each; the oldest are removed first.
const ARRIVALS_MAX: usize = 1 << 20;
/// Number of arrivals that are removed together.
const CHUNK: usize = 1 << 12;
/// Maximum number of model names; requests for further models are not recorded.
const NAMES_MAX: usize = 1 << 10;

/// One recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordedArrival {
    /// Milliseconds since the beginning of its chunk.
    after_ms: u32,
    rows: u32,
    client: u32,
    /// Index into the names of models.
    model: u32,
}

#[derive(Clone, Debug)]
struct Chunk {
    begin: Duration,
    arrivals: Vec<RecordedArrival>,
}

/// The recent arrivals. Clones share full chunks.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    full: VecDeque<Arc<Chunk>>,
    open: Option<Chunk>,
    names: Arc<Vec<String>>,
}

/// One request, as returned to readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Time since the start of the server.
    pub at: Duration,
    pub rows: u32,
    pub client: u32,
    /// Index into [`Arrivals::models`].
    pub model: usize,
}

impl Arrivals {
    /// Records a request that arrived at this time after the start of the server.
    pub fn note(&mut self, at: Duration, (rows, client): (u32, u64), model: &str) {
        let Some(model) = self.number(model) else { return };
        let chunk = self.open.get_or_insert_with(|| Chunk { begin: at, arrivals: Vec::new() });
        let after_ms = at.saturating_sub(chunk.begin).as_millis();
        let after_ms = u32::try_from(after_ms).unwrap_or(u32::MAX);
        // The lower half of the number distinguishes clients well enough.
        chunk.arrivals.push(RecordedArrival { after_ms, rows, client: client as u32, model });
        if chunk.arrivals.len() >= CHUNK {
            self.full.extend(self.open.take().map(Arc::new));
            self.forget(at);
        }
    }

    /// Returns the index of a model's name; `None` if there are too many names.
    fn number(&mut self, model: &str) -> Option<u32> {
        if let Some(at) = self.names.iter().position(|name| name == model) {
            return u32::try_from(at).ok();
        }
        let at = self.names.len();
        if at == NAMES_MAX {
            return None;
        }
        Arc::make_mut(&mut self.names).push(model.to_owned());
        u32::try_from(at).ok()
    }

    fn forget(&mut self, now: Duration) {
        let old = |chunk: &Chunk| {
            let last = chunk.arrivals.last().map_or(0, |last| last.after_ms);
            now.saturating_sub(chunk.begin + Duration::from_millis(last.into())) > SPAN
        };
        while self.full.len() > ARRIVALS_MAX / CHUNK || self.full.front().is_some_and(|it| old(it))
        {
            self.full.pop_front();
        }
    }

    /// Names of models.
    pub fn models(&self) -> &[String] {
        &self.names
    }

    /// The arrivals of the last 24 hours, oldest first.
    pub fn since(&self, now: Duration) -> impl Iterator<Item = Arrived> {
        let chunks = self.full.iter().map(Arc::as_ref).chain(&self.open);
        let all = chunks.flat_map(|chunk| {
            chunk.arrivals.iter().map(|it| Arrived {
                at: chunk.begin + Duration::from_millis(it.after_ms.into()),
                rows: it.rows,
                client: it.client,
                model: it.model as usize,
            })
        });
        all.filter(move |arrived| now.saturating_sub(arrived.at) <= SPAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_of_the_last_day_are_kept_and_older_ones_are_removed() {
        let mut arrivals = Arrivals::default();
        for hour in 0..30 {
            arrivals.note(
                SECOND * 3600 * hour,
                (hour + 1, 7),
                if hour % 2 == 0 { "a" } else { "b" },
            );
        }
        let kept: Vec<Arrived> = arrivals.since(SECOND * 3600 * 29).collect();
        assert_eq!(kept.len(), 25);
        assert_eq!(kept[0], Arrived { at: SECOND * 3600 * 5, rows: 6, client: 7, model: 1 });
        assert_eq!(arrivals.models(), ["a", "b"]);
    }

    #[test]
    fn memory_of_arrivals_is_limited() {
        let mut arrivals = Arrivals::default();
        let count = ARRIVALS_MAX + 3 * CHUNK;
        for n in 0..count {
            arrivals.note(Duration::from_millis(n as u64), (1, 1), "a");
        }
        let kept = arrivals.since(Duration::from_millis(count as u64)).count();
        assert!((ARRIVALS_MAX - CHUNK..=ARRIVALS_MAX + CHUNK).contains(&kept), "{kept}");
        let mut many = Arrivals::default();
        for n in 0..2 * NAMES_MAX {
            many.note(SECOND, (1, 1), &format!("model{n}"));
        }
        assert_eq!((many.models().len(), many.since(SECOND).count()), (NAMES_MAX, NAMES_MAX));
    }
}
