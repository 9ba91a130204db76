//! Learned values of the scheduler, kept on disk between runs of the server.
//!
//! One file, `learned.json` in the cache folder, is written completely and renamed into place. It
//! has a format version. Without it only estimates are lost, so a file that does not parse is
//! ignored. Entries of absent adapters and models are kept, since an eGPU may be connected again.

use crate::calls::requests::ShapeKey;
use crate::learned_policy::{StoredPolicy, millis, now_ms};
use crate::models::catalogue::Catalogue;
use adapter::entry::AdapterEntry;
use model::info::ModelInfo;
use schedule::{
    LearnedDuration, LearnedPolicy, LearnedProfile, LearnedReplica, ModelId, ServiceTime, Time,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "learned.json";
/// Format version of the file. Files without a version have format 1; all of its fields still
/// exist.
const VERSION: u32 = 2;
/// A longer file was not written by this program.
const BYTES_MAX: u64 = 16 << 20;
/// Maximum number of adapters, of models of one adapter, and of models with shapes.
const ENTRIES_MAX: usize = 256;
/// Maximum number of idle periods and of starts of an adapter that are read.
const TIMES_MAX: usize = 4096;
/// The clock counts as set anew if it differs by more than this from the expected time, in
/// milliseconds.
const CLOCK_STEP_MS: u64 = 1000;
/// Maximum number of elements, over all inputs, of a row with shapes to keep: a larger row would
/// make each start of a worker slow, or exhaust the memory.
const ROW_ELEMENTS_MAX: usize = 1 << 23;

/// Shapes of inputs by their names, without the batch axis.
pub(crate) type InputShapes = BTreeMap<String, Vec<usize>>;

/// The number of elements of all inputs in a batch of `rows` rows.
pub(crate) fn elements(shapes: &InputShapes, rows: usize) -> usize {
    let of = |shape: &Vec<usize>| {
        shape.iter().fold(rows, |product, length| product.saturating_mul(*length))
    };
    shapes.values().map(of).fold(0, usize::saturating_add)
}

/// The contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct StoredProfiles {
    /// Format version of the file; a file of a later version is ignored.
    version: u32,
    policy: StoredPolicy,
    /// By adapter id.
    adapters: BTreeMap<String, StoredAdapter>,
    /// Shapes of the last answered request, by the model's name and version.
    shapes: BTreeMap<String, InputShapes>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct StoredAdapter {
    /// The versions of driver and program of these values; other versions tune kernels anew.
    driver: String,
    cold_start_us: Option<u64>,
    /// By name and version.
    models: BTreeMap<String, StoredReplica>,
    /// Average number of requests that a start makes late, in thousandths.
    late_permille: Option<u32>,
    /// The last idle periods, each with the time after which idling costs as much as a start.
    spells_ms: Vec<(u64, u64)>,
    /// The time at which a more expensive adapter had to help it, and for how long that counts, in
    /// milliseconds.
    helped_ms: Option<(u64, u64)>,
    /// The times at which the starts of the last hour will be an hour ago, in milliseconds since
    /// 1970.
    starts_until_ms: Vec<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct StoredReplica {
    load_us: Option<u64>,
    /// True if that was estimated from a load that tuned kernels.
    estimated: bool,
    /// The time of a load that tuned kernels.
    first_load_us: Option<u64>,
    bytes: Option<u64>,
    /// By the binary logarithm of a row's bytes.
    service: BTreeMap<u8, StoredService>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct StoredService {
    alpha_ns: u64,
    beta_ns: u64,
    spread_permille: u32,
}

/// The file and its contents.
#[derive(Debug)]
pub(crate) struct LearnedProfiles {
    path: PathBuf,
    learned: StoredProfiles,
    written: StoredProfiles,
    /// Shapes of the last answered requests, not yet entered under the model's name, so that an
    /// answer costs only one insertion.
    answered: HashMap<ModelId, ShapeKey>,
    clock: Clock,
}

/// The time of day at which the server's time began. A new reading counts only if it differs by
/// more than a second, so that unchanged values are not written again.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    began_ms: Option<u64>,
}

impl Clock {
    /// The time of day in milliseconds since 1970 at the server's time `time`.
    fn at(&mut self, time: Time) -> u64 {
        let (now, uptime) = (now_ms(), millis(time.0));
        let began = now.saturating_sub(uptime);
        let near = self.began_ms.filter(|known| known.abs_diff(began) <= CLOCK_STEP_MS);
        let began = *self.began_ms.insert(near.unwrap_or(began));
        began.saturating_add(uptime)
    }
}

impl LearnedProfiles {
    /// Reads the file of an earlier run.
    pub(crate) fn read(cache_dir: &Path) -> LearnedProfiles {
        let path = cache_dir.join(FILE);
        let short = std::fs::metadata(&path).is_ok_and(|file| file.len() <= BYTES_MAX);
        let text = if short { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let learned: StoredProfiles = serde_json::from_slice(&text).unwrap_or_default();
        let mut learned =
            if learned.version <= VERSION { learned } else { StoredProfiles::default() };
        learned.version = VERSION;
        let (written, answered) = (learned.clone(), HashMap::new());
        LearnedProfiles { path, written, learned, answered, clock: Clock::default() }
    }

    /// The learned values of an adapter for the served models.
    pub(crate) fn of(
        &self,
        adapter: &AdapterEntry,
        models: impl Iterator<Item = (ModelId, String)>,
    ) -> Option<LearnedProfile> {
        let known = self.learned.adapters.get(&adapter.id)?;
        let same = known.driver == driver(adapter);
        let replicas = models.filter_map(|(id, model)| {
            let mut replica = known.models.get(&model)?.recall();
            // Another driver tunes the kernels anew.
            replica.load = replica.load.filter(|_| same);
            Some((id, replica))
        });
        let cold_start = known.cold_start_us.map(Duration::from_micros);
        let spell = |(spell, even): &(u64, u64)| {
            (Duration::from_millis(*spell), Duration::from_millis(*even))
        };
        let now = now_ms();
        let helped = known.helped_ms.and_then(|(at, counts)| {
            Some((Duration::from_millis(now.checked_sub(at)?), Duration::from_millis(counts)))
        });
        let left = known.starts_until_ms.iter().filter_map(|until| until.checked_sub(now));
        Some(LearnedProfile {
            cold_start,
            replicas: replicas.collect(),
            late_permille: known.late_permille,
            idle_periods: known.spells_ms.iter().take(TIMES_MAX).map(spell).collect(),
            helped,
            starts: left.take(TIMES_MAX).map(Duration::from_millis).collect(),
        })
    }

    /// Stores the scheduler's current values of an adapter.
    pub(crate) fn update(
        &mut self,
        time: Time,
        adapter: &AdapterEntry,
        profile: LearnedProfile,
        name: impl Fn(ModelId) -> Option<String>,
    ) {
        let now_ms = self.clock.at(time);
        let adapters = &mut self.learned.adapters;
        if adapters.len() >= ENTRIES_MAX && !adapters.contains_key(&adapter.id) {
            return;
        }
        let known = adapters.entry(adapter.id.clone()).or_default();
        let driver = driver(adapter);
        if known.driver != driver {
            // `first_load_us` stays: after an update of driver or program the next load tunes
            // kernels again, and takes as long as the first one did.
            known.models.values_mut().for_each(|replica| replica.load_us = None);
            known.driver = driver;
        }
        known.cold_start_us = profile.cold_start.map(micros).or(known.cold_start_us);
        known.late_permille = profile.late_permille.or(known.late_permille);
        let spell = |(spell, even): &(Duration, Duration)| (millis(*spell), millis(*even));
        known.spells_ms = profile.idle_periods.iter().map(spell).collect();
        known.helped_ms = profile
            .helped
            .map(|(ago, counts)| (now_ms.saturating_sub(millis(ago)), millis(counts)));
        let until = |left: &Duration| now_ms.saturating_add(millis(*left));
        known.starts_until_ms = profile.starts.iter().map(until).collect();
        for (id, replica) in profile.replicas {
            let Some(model) = name(id) else { continue };
            if known.models.len() < ENTRIES_MAX || known.models.contains_key(&model) {
                known.models.insert(model, StoredReplica::keep(&replica));
            }
        }
    }

    /// Learned values of the policy from an earlier run, and the time for which the server was
    /// down.
    pub(crate) fn policy(
        &self,
        number: impl Fn(&str) -> Option<ModelId>,
    ) -> (LearnedPolicy, Duration) {
        self.learned.policy.recall(now_ms(), number)
    }

    /// Stores the learned values of the policy.
    pub(crate) fn update_policy(
        &mut self,
        time: Time,
        policy: &LearnedPolicy,
        (name, is_served): (impl Fn(ModelId) -> Option<String>, impl Fn(&str) -> bool),
    ) {
        let now_ms = self.clock.at(time);
        let mut new = StoredPolicy::keep(policy, now_ms, name);
        new.merge(&self.learned.policy, is_served);
        self.learned.policy = new;
    }

    /// Records the shape of an answered request.
    pub(crate) fn answered(&mut self, model: ModelId, shape: ShapeKey) {
        self.answered.insert(model, shape);
    }

    /// Enters the shapes of answered requests under the names of their models.
    pub(crate) fn enter_shapes(&mut self, models: &Catalogue) {
        for (model, shape) in std::mem::take(&mut self.answered) {
            let Some(info) = models.get(model) else { continue };
            let inputs = info.signature.inputs.iter().zip(shape);
            let given = inputs.filter_map(|(spec, given)| Some((spec.name.clone(), given?.1)));
            self.keep_shapes(key(info), given.collect());
        }
    }

    fn keep_shapes(&mut self, model: String, shapes: InputShapes) {
        let known = &mut self.learned.shapes;
        let has_space = known.len() < ENTRIES_MAX || known.contains_key(&model);
        if has_space && elements(&shapes, 1) <= ROW_ELEMENTS_MAX {
            known.insert(model, shapes);
        }
    }

    /// Shapes of the last answered request to this model.
    pub(crate) fn shapes(&self, model: &str) -> Option<&InputShapes> {
        self.learned.shapes.get(model)
    }

    /// Removes the shapes after a failed load, so that the next load does not use them.
    pub(crate) fn forget_shapes(&mut self, model: &str) {
        self.learned.shapes.remove(model);
    }

    /// The path and text of the file, if it has to be rewritten. At the end it always has, to
    /// record when the server stopped.
    pub(crate) fn changed(&mut self, at_end: bool) -> Option<(PathBuf, Vec<u8>)> {
        // A new time of writing alone must not cause a write.
        self.written.policy.written_ms = self.learned.policy.written_ms;
        if self.learned == self.written && !at_end {
            return None;
        }
        self.written.clone_from(&self.learned);
        let text = serde_json::to_vec_pretty(&self.learned).ok()?;
        Some((self.path.clone(), text))
    }
}

/// Replaces the file atomically.
pub(crate) fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let draft = path.with_extension("json.new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // The file contains the times of clients' requests, so only this user may read it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(&draft)?, text)?;
    std::fs::rename(&draft, path)
}

impl StoredReplica {
    fn recall(&self) -> LearnedReplica {
        let line = |(size, service): (&u8, &StoredService)| {
            let StoredService { alpha_ns, beta_ns, spread_permille } = *service;
            (*size, ServiceTime { alpha_ns, beta_ns, spread_permille })
        };
        LearnedReplica {
            load: self.load_us.map(|us| LearnedDuration {
                time: Duration::from_micros(us),
                estimated: self.estimated,
            }),
            first_load: self.first_load_us.map(Duration::from_micros),
            bytes: self.bytes,
            service_times: self.service.iter().map(line).collect(),
        }
    }

    fn keep(memory: &LearnedReplica) -> StoredReplica {
        let service = |(size, line): &(u8, ServiceTime)| {
            let ServiceTime { alpha_ns, beta_ns, spread_permille } = *line;
            (*size, StoredService { alpha_ns, beta_ns, spread_permille })
        };
        StoredReplica {
            load_us: memory.load.map(|took| micros(took.time)),
            estimated: memory.load.is_some_and(|took| took.estimated),
            first_load_us: memory.first_load.map(micros),
            bytes: memory.bytes,
            service: memory.service_times.iter().map(service).collect(),
        }
    }
}

/// The driver of an adapter and the version of this program: tuned kernels depend on both.
fn driver(adapter: &AdapterEntry) -> String {
    format!("{} {}, concertina {}", adapter.driver, adapter.driver_info, env!("CARGO_PKG_VERSION"))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The key of a served version in the file.
pub(crate) fn key(info: &ModelInfo) -> String {
    format!("{}/{}", info.name, info.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> StoredProfiles {
        StoredProfiles { version: VERSION, ..StoredProfiles::default() }
    }

    fn memory() -> LearnedProfile {
        let line = ServiceTime { alpha_ns: 5, beta_ns: 7, spread_permille: 30 };
        let load = Some(LearnedDuration { time: Duration::from_millis(3), estimated: true });
        let first_load = Some(Duration::from_millis(90));
        let replica =
            LearnedReplica { load, first_load, bytes: Some(9), service_times: vec![(10, line)] };
        let cold_start = Some(Duration::from_millis(800));
        let spell = (Duration::from_secs(3), Duration::from_secs(50));
        LearnedProfile {
            cold_start,
            replicas: vec![(ModelId(4), replica)],
            late_permille: Some(2500),
            idle_periods: vec![spell],
            helped: None,
            starts: Vec::new(),
        }
    }

    fn adapter(id: &str, driver: &str) -> AdapterEntry {
        let example = telemetry::AdapterView::example(id, None).entry;
        AdapterEntry { driver_info: driver.to_owned(), ..example }
    }

    #[test]
    fn another_driver_is_expected_to_tune_again() {
        let mut learned = LearnedProfiles::read(&folder("driver"));
        let name = |_| Some("digits/1".to_owned());
        learned.update(Time::default(), &adapter("pci-1", "1.0"), memory(), name);
        let models = || std::iter::once((ModelId(4), "digits/1".to_owned()));
        let of = |driver: &str| learned.of(&adapter("pci-1", driver), models()).unwrap();
        assert_eq!(of("1.0"), memory());
        let updated = of("1.1").replicas.remove(0).1;
        assert_eq!((updated.load, updated.first_load), (None, Some(Duration::from_millis(90))));
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("concertina-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn learned_values_are_restored_after_a_restart() {
        let folder = folder("learned");
        let mut first = LearnedProfiles::read(&folder);
        assert!(first.changed(false).is_none());
        first.update(Time::default(), &adapter("pci-1", "1.0"), memory(), |id| {
            (id == ModelId(4)).then(|| "digits/1".to_owned())
        });
        let (path, text) = first.changed(false).unwrap();
        assert!(first.changed(false).is_none());
        write(&path, &text).unwrap();
        let second = LearnedProfiles::read(&folder);
        let models = || [(ModelId(0), "digits/1".to_owned()), (ModelId(1), "other/1".to_owned())];
        let mut expected = memory();
        expected.replicas[0].0 = ModelId(0);
        assert_eq!(second.of(&adapter("pci-1", "1.0"), models().into_iter()), Some(expected));
        assert_eq!(second.of(&adapter("pci-2", "1.0"), models().into_iter()), None);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn shapes_of_a_row_that_is_too_large_are_not_kept() {
        let mut learned = LearnedProfiles::read(&folder("shapes"));
        let shapes = |length| InputShapes::from([("x".to_owned(), vec![2, length])]);
        learned.keep_shapes("a/1".into(), shapes(7));
        learned.keep_shapes("a/1".into(), shapes(ROW_ELEMENTS_MAX));
        learned.keep_shapes("a/1".into(), shapes(usize::MAX));
        assert_eq!(learned.shapes("a/1"), Some(&shapes(7)));
        learned.forget_shapes("a/1");
        assert_eq!(learned.shapes("a/1"), None);
    }

    #[test]
    fn a_broken_file_is_ignored() {
        let folder = folder("broken");
        std::fs::write(folder.join(FILE), b"{\"pci\": [1, 2").unwrap();
        assert_eq!(LearnedProfiles::read(&folder).learned, nothing());
        let text = br#"{"adapters": {"pci": {"cold_start_us": 5, "new": 1}}}"#;
        std::fs::write(folder.join(FILE), text).unwrap();
        assert_eq!(LearnedProfiles::read(&folder).learned.adapters["pci"].cold_start_us, Some(5));
        let text = br#"{"version": 3, "adapters": {"pci": {"cold_start_us": 5}}}"#;
        std::fs::write(folder.join(FILE), text).unwrap();
        assert_eq!(LearnedProfiles::read(&folder).learned, nothing());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn starts_count_until_they_are_an_hour_old() {
        let mut learned = LearnedProfiles::read(&folder("starts"));
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let memory = LearnedProfile { starts: vec![Duration::ZERO, hour], ..memory() };
        learned.update(Time(minute), &adapter("pci-1", "1.0"), memory, |_| None);
        let recalled = learned.of(&adapter("pci-1", "1.0"), std::iter::empty()).unwrap().starts;
        let last = recalled.last().copied().unwrap();
        assert!(recalled.len() <= 2 && last <= hour && last > hour - minute, "{recalled:?}");
    }

    #[test]
    fn unchanged_values_are_written_only_at_the_end() {
        let mut learned = LearnedProfiles::read(&folder("end"));
        let policy = LearnedPolicy { late_price: Some((5, 7)), ..LearnedPolicy::default() };
        learned.update_policy(Time::default(), &policy, (|_| None, |_: &str| true));
        assert!(learned.changed(false).is_some());
        learned.update_policy(Time(Duration::from_millis(1)), &policy, (|_| None, |_: &str| true));
        assert!(learned.changed(false).is_none());
        assert!(learned.changed(true).is_some());
        assert_eq!(learned.policy(|_| None).0, policy);
    }

    #[test]
    fn the_file_stays_small() {
        let folder = folder("many");
        let mut learned = LearnedProfiles::read(&folder);
        for adapter in 0..2 * ENTRIES_MAX {
            let adapter = self::adapter(&format!("pci-{adapter}"), "1.0");
            learned.update(Time::default(), &adapter, memory(), |_| None);
        }
        assert_eq!(learned.learned.adapters.len(), ENTRIES_MAX);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
