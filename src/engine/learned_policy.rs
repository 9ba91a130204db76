//! Learned values of the policy about requests and clients, in the form that the file of
//! `learned_profiles.rs` contains: with times of day, and with names of models instead of numbers.

use schedule::{ClientId, LearnedClient, LearnedPolicy, ModelId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Age after which clients are dropped. If the clock gives a greater age, it was set wrongly.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Maximum number of clients in the file, as in the policy.
const CLIENTS_MAX: usize = 128;
const MODELS_MAX: usize = 1024;
/// Maximum difference in milliseconds between two readings of the same time.
const SAME_MS: u64 = 100;

/// Times are in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoredPolicy {
    /// The time at which the file was written.
    pub(crate) written_ms: u64,
    misses: Option<(i64, u64)>,
    /// By name.
    models: BTreeMap<String, StoredDemand>,
    clients: Vec<StoredClient>,
}

/// The frequency of requests for a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct StoredDemand {
    count_permille: u64,
    at_ms: u64,
}

/// The rhythm of a client; see [`LearnedClient`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct StoredClient {
    /// A number for its key or network; `None` for all clients together.
    client: Option<u64>,
    model: String,
    began_ms: Option<u64>,
    worked_ms: u64,
    pauses_ms: Vec<u64>,
    periods_ms: Vec<u64>,
    lulls_ms: Vec<u64>,
    late_permille: u32,
}

/// The time of day, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps the time from the previous file if both denote the same time.
fn settle(ms: &mut u64, old: Option<u64>) {
    if let Some(old) = old.filter(|old| old.abs_diff(*ms) <= SAME_MS) {
        // Times are computed from durations: without this, a different reading of the clock would
        // cause a write although nothing was learned.
        *ms = old;
    }
}

impl StoredPolicy {
    /// Converts learned values for a file that is written at this time of day.
    pub(crate) fn keep(
        learned: &LearnedPolicy,
        now_ms: u64,
        name: impl Fn(ModelId) -> Option<String>,
    ) -> StoredPolicy {
        let at = |ago: Duration| now_ms.saturating_sub(millis(ago));
        let gaps = |all: &[Duration]| all.iter().copied().map(millis).collect();
        let client = |client: &LearnedClient| {
            Some(StoredClient {
                client: client.client.map(|client| client.0),
                model: name(client.model)?,
                began_ms: client.began.map(at),
                worked_ms: at(client.ended),
                pauses_ms: gaps(&client.pauses),
                periods_ms: gaps(&client.periods),
                lulls_ms: gaps(&client.inner_pauses),
                late_permille: client.late_permille,
            })
        };
        let model = |(model, count, ago): &(ModelId, u64, Duration)| {
            Some((name(*model)?, StoredDemand { count_permille: *count, at_ms: at(*ago) }))
        };
        StoredPolicy {
            written_ms: now_ms,
            misses: learned.late_price,
            models: learned.models.iter().filter_map(model).collect(),
            clients: learned.clients.iter().filter_map(client).collect(),
        }
    }

    /// Copies values from the previous file: those of models that are not served now, and times
    /// that differ only by the reading of the clock.
    pub(crate) fn merge(&mut self, old: &StoredPolicy, is_served: impl Fn(&str) -> bool) {
        for (name, asked) in &old.models {
            if self.models.len() < MODELS_MAX && !is_served(name) {
                self.models.entry(name.clone()).or_insert_with(|| asked.clone());
            }
        }
        for (name, asked) in &mut self.models {
            settle(&mut asked.at_ms, old.models.get(name).map(|old| old.at_ms));
        }
        for client in &mut self.clients {
            let same =
                |old: &&StoredClient| (old.client, &old.model) == (client.client, &client.model);
            let Some(old) = old.clients.iter().find(same) else { continue };
            settle(&mut client.worked_ms, Some(old.worked_ms));
            if let Some(began) = &mut client.began_ms {
                settle(began, old.began_ms);
            }
        }
        let absent = old.clients.iter().filter(|old| !is_served(&old.model));
        let room = CLIENTS_MAX.saturating_sub(self.clients.len());
        self.clients.extend(absent.take(room).cloned());
    }

    /// The values in the file, with times relative to its writing, and the age of the file. Times
    /// of clients are omitted if the clock places them too long ago or in the future.
    pub(crate) fn recall(
        &self,
        now_ms: u64,
        number: impl Fn(&str) -> Option<ModelId>,
    ) -> (LearnedPolicy, Duration) {
        let down = now_ms.checked_sub(self.written_ms).map(Duration::from_millis);
        let down = down.filter(|down| *down < AGE_MAX);
        let ago = |at_ms: u64| {
            let ago = self.written_ms.checked_sub(at_ms).map(Duration::from_millis);
            // With a clock that was set back, or an old file, the times in it have no meaning.
            ago.filter(|ago| down.is_some() && *ago < AGE_MAX)
        };
        let gaps = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect();
        let client = |client: &StoredClient| {
            let (began, worked) = (client.began_ms.and_then(ago), ago(client.worked_ms));
            Some(LearnedClient {
                client: client.client.map(ClientId),
                model: number(&client.model)?,
                // A period of work cannot end before it begins.
                began: began.filter(|began| worked.is_some_and(|worked| worked <= *began)),
                ended: worked.unwrap_or_default(),
                pauses: gaps(&client.pauses_ms),
                periods: gaps(&client.periods_ms),
                inner_pauses: gaps(&client.lulls_ms),
                late_permille: client.late_permille,
            })
        };
        let model = |(name, asked): (&String, &StoredDemand)| {
            Some((number(name)?, asked.count_permille, ago(asked.at_ms)?))
        };
        let policy = LearnedPolicy {
            late_price: self.misses,
            models: self.models.iter().take(MODELS_MAX).filter_map(model).collect(),
            clients: self.clients.iter().take(CLIENTS_MAX).filter_map(client).collect(),
        };
        (policy, down.unwrap_or_default())
    }
}

/// The part for one model, which is served from now on, with the time for which the server was
/// down: an event for the model and one for each client. If the model was not served before, no
/// client was observed since its last request, so its gap must not be learned.
pub(crate) fn of_model(
    (policy, down): (LearnedPolicy, Duration),
    was_served: bool,
) -> Vec<(LearnedPolicy, Duration)> {
    let model = LearnedPolicy { models: policy.models, ..LearnedPolicy::default() };
    // The values for all clients together have been learned in this run.
    let clients = policy.clients.into_iter().filter(|client| client.client.is_some());
    let alone = |client: LearnedClient| {
        let (client, down) = if was_served { (client, down) } else { unobserved(client, down) };
        (LearnedPolicy { clients: vec![client], ..LearnedPolicy::default() }, down)
    };
    std::iter::once((model, down)).chain(clients.map(alone)).collect()
}

/// Counts the time since the client's last work as time in which the server was down.
fn unobserved(client: LearnedClient, down: Duration) -> (LearnedClient, Duration) {
    let began = client.began.map(|began| began.saturating_sub(client.ended));
    let down = down.saturating_add(client.ended);
    (LearnedClient { began, ended: Duration::ZERO, ..client }, down)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn learned() -> LearnedPolicy {
        let seconds = Duration::from_secs;
        let client = LearnedClient {
            client: Some(ClientId(7)),
            model: ModelId(1),
            began: Some(seconds(60)),
            ended: seconds(50),
            pauses: vec![seconds(590)],
            periods: vec![seconds(600)],
            inner_pauses: vec![seconds(1)],
            late_permille: 1500,
        };
        let all = LearnedClient { client: None, ..client.clone() };
        LearnedPolicy {
            late_price: Some((1_500_000, 200)),
            models: vec![(ModelId(1), 2500, seconds(50))],
            clients: vec![all, client],
        }
    }

    fn kept() -> StoredPolicy {
        StoredPolicy::keep(&learned(), NOW, |model| Some(format!("m{}", model.0)))
    }

    fn number(name: &str) -> Option<ModelId> {
        (name == "m1").then_some(ModelId(9))
    }

    #[test]
    fn learned_values_are_restored_under_the_new_model_numbers() {
        let text = serde_json::to_vec(&kept()).unwrap();
        let read: StoredPolicy = serde_json::from_slice(&text).unwrap();
        let (recalled, down) = read.recall(NOW + 3000, number);
        assert_eq!(down, Duration::from_secs(3));
        let mut expected = learned();
        expected.models[0].0 = ModelId(9);
        expected.clients.iter_mut().for_each(|client| client.model = ModelId(9));
        assert_eq!(recalled, expected);
        assert_eq!(read.recall(NOW, |_| None).0.clients, []);
    }

    #[test]
    fn unchanged_values_are_equal_and_absent_models_are_kept() {
        let old = kept();
        let name = |model: ModelId| Some(format!("m{}", model.0));
        let mut same = StoredPolicy::keep(&learned(), NOW + 1, name);
        same.written_ms = old.written_ms;
        assert_ne!(same, old);
        same.merge(&old, |name| name == "m1");
        assert_eq!(same, old);
        // The values of a model that is not served are kept.
        let mut without = StoredPolicy::keep(&LearnedPolicy::default(), NOW, name);
        without.merge(&old, |_| false);
        assert_eq!((&without.clients, &without.models), (&old.clients, &old.models));
        let mut served = StoredPolicy::keep(&LearnedPolicy::default(), NOW, name);
        served.merge(&old, |_| true);
        assert!(served.clients.is_empty() && served.models.is_empty());
    }

    #[test]
    fn model_that_is_added_later_gets_its_own_part() {
        let seconds = Duration::from_secs;
        let recalled = || kept().recall(NOW + 3000, number);
        let [(model, down), (client, unseen)] = &of_model(recalled(), false)[..] else { panic!() };
        assert_eq!((&model.models, *down), (&vec![(ModelId(9), 2500, seconds(50))], seconds(3)));
        assert_eq!(
            (model.late_price, &client.models, client.late_price),
            (None, &Vec::new(), None)
        );
        // Its last request was 53 s ago; later ones would not have been observed.
        assert_eq!(*unseen, seconds(53));
        let [client] = &client.clients[..] else { panic!("{client:?}") };
        assert_eq!((client.client, client.model), (Some(ClientId(7)), ModelId(9)));
        assert_eq!((client.began, client.ended), (Some(seconds(10)), seconds(0)));
        // Another version of the model was served all the time.
        let [_, (client, down)] = &of_model(recalled(), true)[..] else { panic!() };
        assert_eq!((client.clients[0].ended, *down), (seconds(50), seconds(3)));
    }

    #[test]
    fn clock_jump_makes_times_unknown_but_not_gaps() {
        let year = 365 * 24 * 3600 * 1000;
        for now in [NOW - 1, NOW - year, 0, NOW + year, u64::MAX] {
            let (recalled, down) = kept().recall(now, number);
            assert_eq!(down, Duration::ZERO, "{now}");
            assert_eq!(recalled.clients[1].began, None, "{now}");
            assert_eq!(recalled.clients[1].pauses, learned().clients[1].pauses, "{now}");
            assert_eq!(recalled.models, [], "{now}");
        }
        let mut absurd = kept();
        absurd.clients[0].worked_ms = NOW + 1;
        absurd.clients[1].began_ms = Some(NOW - 49_000);
        let (recalled, _) = absurd.recall(NOW, number);
        assert!(recalled.clients.iter().all(|client| client.began.is_none()));
    }
}
