//! Costs of the last requests under other settings: the trace of them is simulated again under the
//! present settings, with a latency target that leaves time for a start, with or without the CPU,
//! and with every adapter on.

use super::laws::Spec;
use super::mix::{AdapterInMix, Mix};
use super::outcome::Outcome;
use super::trace::{Trace, TraceRequest};
use super::world::{Options, simulate};
use schedule::{Goal, Policy, Role};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;
use telemetry::Arrivals;

/// A longer target is a start's duration times this factor, rounded up to a multiple of `STEP`
/// seconds.
const START_CAUTION: f64 = 1.2;
const STEP: f64 = 0.1;
/// Limit of longer targets in seconds: a user would not set more to leave time for a start.
const TARGET_MAX: f64 = 60.0;
/// A case is suggested if it takes at most this share of the energy and answers at least as many
/// requests in time.
const WORTH: f64 = 0.7;
const JOULES_PER_WH: f64 = 3600.0;

/// The requests, the adapters and the settings to compare.
#[derive(Clone, Debug)]
pub struct Situation {
    pub trace: Trace,
    pub mix: Mix,
    pub policy: Policy,
    /// Latency target of models without their own, in seconds.
    pub slo: f64,
    pub ahead: bool,
    /// Adapters that stay on without load.
    pub min: usize,
    pub cpu: Role,
}

/// One way to serve the trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// Description for users.
    pub what: String,
    /// The line of the settings that has this effect; none for the present settings.
    pub setting: Option<String>,
    /// Share of the requests that were answered within their target.
    pub attainment: f64,
    /// Watt-hours above those of adapters that are off.
    pub watt_hours: f64,
    /// Seconds; `null` if that request was never answered.
    pub p99_s: f64,
    /// It takes much less energy and answers as many requests in time.
    pub suggested: bool,
    /// It answers more requests in time, or as many with less energy.
    pub better: bool,
}

impl Case {
    /// Compares the case with that of the present settings.
    fn compare(&mut self, now: &Case) {
        let as_good = self.attainment >= now.attainment;
        let less = as_good && self.watt_hours < now.watt_hours;
        self.better = self.attainment > now.attainment || less;
        self.suggested = less && self.watt_hours <= WORTH * now.watt_hours;
    }

    /// Returns the number of the best of the cases that are better than the present settings.
    pub fn best(cases: &[Case]) -> Option<usize> {
        let better = cases.iter().enumerate().filter(|(_, case)| case.better);
        better.min_by(|(_, a), (_, b)| a.rank(b)).map(|(at, _)| at)
    }

    /// The order of better cases: suggested ones first, then attainment, then energy.
    fn rank(&self, other: &Case) -> Ordering {
        let one = (self.suggested, self.attainment);
        let two = (other.suggested, other.attainment);
        let good = one.0.cmp(&two.0).then(one.1.total_cmp(&two.1));
        good.reverse().then(self.watt_hours.total_cmp(&other.watt_hours))
    }
}

impl Trace {
    /// Returns the arrivals of the last day, counted from the first. Clients are numbered in the
    /// order of their first requests, so that the trace does not contain their addresses.
    pub fn of(arrivals: &Arrivals, now: Duration) -> Trace {
        let mut clients: HashMap<u32, u32> = HashMap::new();
        let first = arrivals.since(now).next().map_or(Duration::ZERO, |first| first.at);
        let requests = arrivals.since(now).map(|arrived| TraceRequest {
            at: arrived.at.saturating_sub(first).as_secs_f64(),
            rows: arrived.rows.max(1),
            model: arrived.model,
            client: {
                let next = clients.len() as u32;
                *clients.entry(arrived.client).or_insert(next)
            },
        });
        Trace { requests: requests.collect(), models: arrivals.models().to_vec() }
    }
}

impl Situation {
    /// Fills gaps in the measurements: an adapter that was not measured with a model is assumed to
    /// be as fast as the slowest one that was. Requests for models without any measurement are left
    /// out. Models with the server's target get no target of their own, so that another one applies
    /// to them.
    #[must_use]
    pub fn completed(mut self) -> Situation {
        for model in self.mix.models.values_mut() {
            model.slo_s = model.slo_s.filter(|own| (own - self.slo).abs() > 1e-9);
        }
        let mut numbers: Vec<Option<usize>> = Vec::new();
        let mut names = Vec::new();
        for name in std::mem::take(&mut self.trace.models) {
            let all = self.mix.adapters.iter().filter_map(|adapter| adapter.models.get(&name));
            let slowest = all.max_by(|a, b| a.row_seconds().total_cmp(&b.row_seconds())).copied();
            let Some(times) = slowest else {
                numbers.push(None);
                continue;
            };
            for adapter in &mut self.mix.adapters {
                adapter.models.entry(name.clone()).or_insert(times);
            }
            numbers.push(Some(names.len()));
            names.push(name);
        }
        self.trace.models = names;
        self.trace.requests.retain_mut(|request| {
            let number = numbers.get(request.model).copied().flatten();
            request.model = number.unwrap_or(request.model);
            number.is_some()
        });
        self
    }

    /// Returns all cases, the present settings first; none without requests or measured adapters.
    ///
    /// # Errors
    /// If an adapter was not measured with one of the models.
    pub fn cases(&self) -> anyhow::Result<Vec<Case>> {
        if self.trace.requests.is_empty() || self.mix.adapters.is_empty() {
            return Ok(Vec::new());
        }
        let mut cases = vec![self.case("with the present settings", None)?];
        if let Some(target) = self.longer_target() {
            let longer = Situation { slo: target, ..self.clone() };
            let what = format!("with a target of {target:.1} s, longer than a start");
            cases.push(longer.case(&what, Some(format!("latency_target = \"{target:.1}s\"")))?);
        }
        cases.extend(self.other_cpu()?);
        cases.extend(self.other_min()?);
        let (first, others) = cases.split_at_mut(1);
        if let Some(first) = first.first() {
            others.iter_mut().for_each(|case| case.compare(first));
        }
        Ok(cases)
    }

    fn options(&self) -> Options {
        let Situation { cpu, ahead, min, .. } = *self;
        Options { cpu, ahead, min, ..Options::new(self.policy, self.slo) }
    }

    fn case(&self, what: &str, setting: Option<String>) -> anyhow::Result<Case> {
        let run = simulate(&self.trace, &self.mix, &self.options(), None)?;
        self.sum(what, setting, &run)
    }

    fn sum(
        &self,
        what: &str,
        setting: Option<String>,
        run: &super::world::Run,
    ) -> anyhow::Result<Case> {
        let machines = self.mix.machines(self.trace.main_model())?;
        let outcome = Outcome::of(run, &machines);
        Ok(Case {
            what: what.to_owned(),
            setting,
            attainment: outcome.attainment,
            watt_hours: outcome.joules / JOULES_PER_WH,
            p99_s: outcome.p99_s,
            suggested: false,
            better: false,
        })
    }

    /// Returns the least target that leaves time for a start of some adapter, if it is longer than
    /// the present one.
    fn longer_target(&self) -> Option<f64> {
        let model = self.trace.main_model();
        let starts = self.mix.adapters.iter().enumerate().filter(|(_, adapter)| !adapter.cpu);
        let starts = starts.filter_map(|(at, adapter): (usize, &AdapterInMix)| {
            let times = self.mix.times(at, model).ok()?;
            Some(adapter.cold_start_s + times.load_s + times.row_seconds())
        });
        let least = starts.min_by(f64::total_cmp)? * START_CAUTION;
        let target = (least / STEP).ceil() * STEP;
        (target > self.slo && target <= TARGET_MAX).then_some(target)
    }

    /// Returns the case with the CPU as a bridge if it is not one, or the case without it.
    fn other_cpu(&self) -> anyhow::Result<Option<Case>> {
        let regular = self.mix.adapters.iter().any(|adapter| !adapter.cpu);
        if !regular || !self.mix.adapters.iter().any(|adapter| adapter.cpu) {
            return Ok(None);
        }
        let case = if self.cpu == Role::Bridge {
            let mut without = self.clone();
            without.mix.adapters.retain(|adapter| !adapter.cpu);
            without.case("without the CPU", Some("adapters.cpu = \"never\"".to_owned()))
        } else {
            let bridge = Situation { cpu: Role::Bridge, ..self.clone() };
            bridge.case("with the CPU as a bridge", Some("adapters.cpu = \"auto\"".to_owned()))
        };
        case.map(Some)
    }

    /// Returns the case with every adapter on, and the case with `min` at 0 if some adapters are
    /// kept on.
    fn other_min(&self) -> anyhow::Result<Vec<Case>> {
        let mut cases = Vec::new();
        if self.min > 0 {
            let free = Situation { min: 0, ..self.clone() };
            let setting = Some("adapters.min = 0".to_owned());
            cases.push(free.case("without adapters that are always on", setting)?);
        }
        if self.min < self.mix.adapters.len() {
            cases.push(self.all_on()?);
        }
        Ok(cases)
    }

    fn all_on(&self) -> anyhow::Result<Case> {
        let policy = Policy::Manual { goal: Goal::Balanced };
        let options = Options { policy, min: 0, ..self.options() };
        let machines = self.mix.machines(self.trace.main_model())?;
        let mut law = Spec::AllOn.build(&machines, self.slo, &self.trace.times());
        let run = simulate(&self.trace, &self.mix, &options, Some(law.as_mut()))?;
        let setting = format!("adapters.min = {}", self.mix.adapters.len());
        self.sum("with every adapter on", Some(setting), &run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{ANY_MODEL, Times};
    use std::collections::BTreeMap;

    fn adapter(name: &str, row_s: f64, cpu: bool) -> AdapterInMix {
        let times = Times { alpha_s: row_s / 2.0, beta_s: row_s / 2.0, load_s: 0.0, bytes: 0 };
        AdapterInMix {
            name: name.to_owned(),
            cold_start_s: if cpu { 0.06 } else { 1.0 },
            idle_w: if cpu { 0.0 } else { 20.0 },
            active_w: 200.0,
            start_w: 60.0,
            stop_s: 0.0,
            cpu,
            slowed_by_starts: 1.0,
            memory_bytes: None,
            models: BTreeMap::from([(ANY_MODEL.to_owned(), times)]),
        }
    }

    /// Returns one request per 200 s for some hours.
    fn situation(cpu: Role) -> Situation {
        let trace = Trace::at((0..100).map(|n| f64::from(n) * 200.0));
        let adapters = vec![adapter("card", 0.004, false), adapter("cpu", 0.04, true)];
        let mix = Mix { models: BTreeMap::new(), adapters };
        let policy = Policy::Cost {
            goal: Goal::Balanced,
            price_mj: 2_000,
            late_penalty_mj: 750_000,
            starts_per_hour: 600,
        };
        Situation { trace, mix, policy, slo: 0.1, ahead: false, min: 0, cpu }
    }

    fn summary(cases: &[Case]) -> Vec<(&str, Option<&str>, bool)> {
        cases.iter().map(|case| (&*case.what, case.setting.as_deref(), case.suggested)).collect()
    }

    #[test]
    fn a_longer_target_and_a_bridge_are_suggested_where_they_save_energy() {
        let cases = situation(Role::Fallback).cases().unwrap();
        assert_eq!(
            summary(&cases),
            [
                ("with the present settings", None, false),
                (
                    "with a target of 1.3 s, longer than a start",
                    Some("latency_target = \"1.3s\""),
                    true,
                ),
                ("with the CPU as a bridge", Some("adapters.cpu = \"auto\""), true),
                ("with every adapter on", Some("adapters.min = 2"), false),
            ]
        );
        let [now, longer, bridge, all] = &cases[..] else { panic!("{cases:?}") };
        assert!(now.attainment < 0.1, "{now:?}");
        assert!(longer.attainment == 1.0 && longer.watt_hours < 0.5 * now.watt_hours, "{longer:?}");
        assert!(bridge.attainment == 1.0 && bridge.watt_hours < 0.1 * now.watt_hours, "{bridge:?}");
        assert!(all.attainment == 1.0 && all.watt_hours > 2.0 * now.watt_hours, "{all:?}");
        let better: Vec<_> = cases.iter().map(|case| case.better).collect();
        assert_eq!((better, Case::best(&cases)), (vec![false, true, true, true], Some(2)));
    }

    #[test]
    fn every_setting_of_a_case_can_be_applied_while_the_server_runs() {
        let mut kept_on = situation(Role::Bridge);
        kept_on.min = 1;
        let lines = [situation(Role::Fallback), kept_on].map(|it| it.cases().unwrap()).concat();
        let lines: Vec<_> = lines.into_iter().filter_map(|case| case.setting).collect();
        assert_eq!(lines.len(), 7, "{lines:?}");
        for line in lines {
            let applied = config::Config::default().with_line(&line);
            assert!(applied.is_ok(), "{line}: {:#}", applied.unwrap_err());
        }
    }

    #[test]
    fn adapters_that_are_always_on_are_simulated_and_turned_off_in_a_case() {
        let mut kept_on = situation(Role::Fallback);
        kept_on.min = 1;
        let cases = kept_on.cases().unwrap();
        // The first request of the trace arrives while the adapter starts.
        assert!(cases[0].attainment >= 0.99, "{:?}", cases[0]);
        let free = cases.iter().find(|case| case.setting.as_deref() == Some("adapters.min = 0"));
        assert!(free.is_some_and(|free| free.watt_hours < cases[0].watt_hours), "{cases:#?}");
        kept_on.min = 2;
        let cases = kept_on.cases().unwrap();
        assert!(cases.iter().all(|case| case.what != "with every adapter on"), "{cases:#?}");
    }

    #[test]
    fn where_the_cpu_is_a_bridge_the_case_is_without_it() {
        let cases = situation(Role::Bridge).cases().unwrap();
        let without = cases.iter().find(|case| case.what == "without the CPU").unwrap();
        assert!(without.attainment < 0.1 && !without.suggested, "{without:?}");
    }

    #[test]
    fn clients_are_numbered_and_not_named() {
        let mut arrivals = Arrivals::default();
        for client in [3_232_235_777, 9, 3_232_235_777] {
            arrivals.note(Duration::from_secs(5), (0, client), "a");
        }
        let trace = Trace::of(&arrivals, Duration::from_secs(6));
        let seen: Vec<_> = trace.requests.iter().map(|it| (it.at, it.rows, it.client)).collect();
        assert_eq!(seen, [(0.0, 1, 0), (0.0, 1, 1), (0.0, 1, 0)]);
    }

    #[test]
    fn models_with_their_own_targets_keep_them() {
        let mut own = situation(Role::Bridge);
        let model = |slo_s| crate::ModelInMix { slo_s, ..Default::default() };
        own.mix.models = [("a", Some(0.1)), ("b", Some(0.3)), ("c", None)]
            .map(|(name, slo)| (name.to_owned(), model(slo)))
            .into();
        let whole = own.completed();
        let targets: Vec<_> = whole.mix.models.values().map(|model| model.slo_s).collect();
        assert_eq!(targets, [None, Some(0.3), None]);
    }

    #[test]
    fn an_adapter_that_was_not_measured_with_a_model_is_as_fast_as_the_slowest_that_was() {
        let mut some = situation(Role::Bridge);
        let times = |row_s: f64| Times { alpha_s: 0.0, beta_s: row_s, load_s: 0.0, bytes: 0 };
        some.trace.models = ["a", "b", "gone"].map(str::to_owned).to_vec();
        for (at, request) in some.trace.requests.iter_mut().enumerate() {
            request.model = at % 3;
        }
        some.mix.adapters[0].models = BTreeMap::from([("a".to_owned(), times(0.002))]);
        some.mix.adapters[1].models =
            [("a", 0.04), ("b", 0.05)].map(|(name, row)| (name.to_owned(), times(row))).into();
        let whole = some.completed();
        assert_eq!(whole.trace.requests.len(), 67);
        assert_eq!(whole.mix.adapters[0].models["b"], times(0.05));
        assert_eq!(whole.mix.adapters[0].models["a"], times(0.002));
        assert_eq!(whole.trace.models, ["a", "b"]);
        assert!(whole.cases().is_ok());
        // The written form of the mix can be read.
        let text = toml::to_string(&whole.mix).unwrap();
        assert_eq!(Mix::parse(&text).unwrap(), whole.mix);
        assert_eq!(Trace::read(whole.trace.to_csv().as_bytes()).unwrap(), whole.trace);
    }

    #[test]
    fn without_requests_or_measured_adapters_there_are_no_cases() {
        let idle = Situation { trace: Trace::default(), ..situation(Role::Bridge) };
        assert_eq!(idle.cases().unwrap(), []);
        let mut unknown = situation(Role::Bridge);
        unknown.mix.adapters.clear();
        assert_eq!(unknown.cases().unwrap(), []);
        // The other model was not measured on an adapter.
        let mut other = situation(Role::Bridge);
        other.mix.adapters[0].models.clear();
        assert!(other.cases().is_err());
    }
}
