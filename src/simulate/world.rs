//! The world around the scheduler in virtual time: adapters start, load, run and stop according to
//! their description.

mod introduce;
mod restarts;

use super::calendar::Calendar;
use super::fleet::{Machine, bucket};
use super::laws::{self, Law, Sight};
use super::meter::{Doing, Meter};
use super::mix::{Mix, Times};
use super::trace::Trace;
use introduce::settings;
pub use restarts::{RestartState, simulate_restarts};
use schedule::{
    Action, AdapterId, AdapterMode, Arrival, BatchId, ClientId, Event, Incarnation, ModelId,
    ModelProfile, Policy, RequestId, Role, Scheduler, Shape, Time,
};
use std::collections::BTreeMap;
use std::time::Duration;
use types::random::SplitMix64;

/// Longer than any trace: for timeouts of workers, which never fail here.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Noise: standard deviation of batch times and half-width of start times, as shares.
const RUN_NOISE: f64 = 0.05;
const START_NOISE: f64 = 0.2;

/// Options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The policy; `Manual` if a law decides.
    pub policy: Policy,
    /// Latency target in seconds, of models without their own.
    pub slo: f64,
    /// The role of adapters that are a CPU.
    pub cpu: Role,
    /// Adapters are started in advance of clients with regular requests.
    pub ahead: bool,
    /// Adapters that stay on without load.
    pub min: usize,
    /// Seed of the noise on batch and start times; no noise without one.
    pub seed: Option<u64>,
    /// Keeps the times of all changes, for a picture.
    pub keep_changes: bool,
    /// Limit beyond which a run is of no use: it ends there, with requests unanswered.
    pub give_up: Option<Worst>,
    /// Estimates of an earlier run.
    pub learned: Option<RestartState>,
    /// The server stops this many seconds after the beginning of the trace, or once all requests
    /// are answered; [`Run::learned`] is its knowledge at that time.
    pub ends_at: f64,
}

impl Options {
    /// Options for a run without noise to the end of the trace; the CPU is a bridge.
    pub fn new(policy: Policy, slo: f64) -> Options {
        Options {
            policy,
            slo,
            cpu: Role::Bridge,
            ahead: true,
            min: 0,
            seed: None,
            keep_changes: false,
            give_up: None,
            learned: None,
            ends_at: 0.0,
        }
    }
}

/// Limits of a useful run.
#[derive(Clone, Copy, Debug)]
pub struct Worst {
    /// Requests answered later than the target.
    pub late: u64,
    pub joules: f64,
}

/// Raw results of a run.
#[derive(Debug)]
pub struct Run {
    /// Seconds from arrival to answer; infinite without one. In the order of the trace.
    pub latencies: Vec<f64>,
    /// Requests that were answered later than the target of their model.
    pub late: u64,
    pub meters: Vec<Meter>,
    /// Rows and requests that each adapter finished.
    pub served: Vec<(u64, u64)>,
    /// Models loaded and unloaded.
    pub loads: u64,
    pub unloads: u64,
    /// Seconds until the last answer. Later events are not counted, because they serve no request.
    pub span: f64,
    /// Events that the scheduler handled, and the real time that it took for all of them.
    pub events: u64,
    pub deciding: Duration,
    pub learned: RestartState,
}

/// One adapter of the world.
struct Plant {
    /// Seconds from off to an open device, and from the request to stop to off.
    cold_start: f64,
    stop: f64,
    /// Factor for batches that begin while another adapter starts.
    slowed: f64,
    /// Times by model.
    times: Vec<Times>,
    /// Expected end of its present start.
    ready: f64,
    /// Time since which it is idle.
    idle_since: f64,
    running: usize,
}

struct SimulatedWorld<'a> {
    trace: &'a Trace,
    scheduler: Scheduler,
    machines: Vec<Machine>,
    plants: Vec<Plant>,
    /// Limits by model.
    max_rows: Vec<u32>,
    slos: Vec<f64>,
    calendar: Calendar,
    noise: Option<SplitMix64>,
    /// Target of models without their own.
    slo: f64,
    ends_at: f64,
    arrived: usize,
    answered: usize,
    give_up: Option<Worst>,
    /// The present, in seconds.
    now: f64,
    wanted: Vec<bool>,
    doing: Vec<laws::AdapterActivity>,
    run: Run,
}

/// Runs a trace on a mix under a policy; if there is a `law`, it turns adapters on and off instead.
///
/// # Errors
/// If the mix has no times for a model of the trace.
pub fn simulate(
    trace: &Trace,
    mix: &Mix,
    options: &Options,
    law: Option<&mut dyn Law>,
) -> anyhow::Result<Run> {
    let mut world = SimulatedWorld::new(trace, mix, options)?;
    world.introduce(mix, options);
    world.live(law);
    Ok(world.end())
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(FOREVER)
}

fn time(seconds: f64) -> Time {
    Time(duration(seconds))
}

impl<'a> SimulatedWorld<'a> {
    fn new(trace: &'a Trace, mix: &Mix, options: &Options) -> anyhow::Result<SimulatedWorld<'a>> {
        let first = trace.models.first().map_or("", String::as_str);
        let machines = mix.machines(first)?;
        let plant = |(at, machine): (usize, &Machine)| {
            let times = trace.models.iter().map(|model| mix.times(at, model));
            let times = times.collect::<anyhow::Result<Vec<_>>>()?;
            let adapter = mix.adapters.get(at);
            let cold_start = adapter.map_or(machine.start, |a| a.cold_start_s);
            let (stop, slowed) = adapter.map_or((0.0, 1.0), |a| (a.stop_s, a.slowed_by_starts));
            Ok(Plant { cold_start, stop, slowed, times, ready: 0.0, idle_since: 0.0, running: 0 })
        };
        let plants = machines.iter().enumerate().map(plant);
        let plants = plants.collect::<anyhow::Result<Vec<_>>>()?;
        let models: BTreeMap<_, _> = trace
            .models
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let model = mix.model(name);
                let slo = duration(model.slo_s.unwrap_or(options.slo));
                let bytes = plants.iter().filter_map(|p| p.times.get(at)).map(|t| t.bytes).max();
                let (max_rows, delay) = (model.max_rows, duration(model.delay_s));
                let (bytes, row_bytes, decoupled) = (bytes.unwrap_or(0), 0, false);
                let first_rows = max_rows;
                let id = ModelId(at as u32);
                (id, ModelProfile { max_rows, first_rows, delay, slo, bytes, row_bytes, decoupled })
            })
            .collect();
        let count = plants.len();
        Ok(SimulatedWorld {
            trace,
            max_rows: models.values().map(|model| model.max_rows).collect(),
            slos: models.values().map(|model| model.slo.as_secs_f64()).collect(),
            scheduler: Scheduler::new(settings(options), models),
            calendar: Calendar::default(),
            noise: options.seed.map(SplitMix64::new),
            slo: options.slo,
            arrived: 0,
            answered: 0,
            give_up: options.give_up,
            now: 0.0,
            wanted: vec![false; count],
            doing: vec![laws::AdapterActivity::Off; count],
            machines,
            run: Run {
                latencies: vec![f64::INFINITY; trace.requests.len()],
                late: 0,
                meters: vec![Meter::new(options.keep_changes); count],
                served: vec![(0, 0); count],
                loads: 0,
                unloads: 0,
                span: 0.0,
                events: 0,
                deciding: Duration::ZERO,
                learned: RestartState::default(),
            },
            ends_at: options.ends_at,
            plants,
        })
    }

    fn live(&mut self, mut law: Option<&mut dyn Law>) {
        if let Some(law) = law.as_deref_mut() {
            self.apply_law(Time::default(), law);
        }
        while self.answered < self.trace.requests.len() && !self.is_hopeless() {
            let arrival = self.trace.requests.get(self.arrived).map(|request| time(request.at));
            let later = self.calendar.next();
            let asked = self.scheduler.next_timeout();
            // A tick that is not in the future is dropped: a law must not stop the clock.
            let tick = law.as_ref().map(|law| law.next()).filter(|tick| *tick > self.now);
            let tick = tick.filter(|tick| tick.is_finite()).map(time);
            // Without any of these, no further event can happen.
            let Some(now) = [arrival, later, asked, tick].into_iter().flatten().min() else {
                return;
            };
            self.now = now.0.as_secs_f64();
            let event = if later == Some(now) {
                self.calendar.pop()
            } else if arrival == Some(now) {
                Some(self.arrive())
            } else {
                (asked == Some(now)).then_some(Event::Timeout)
            };
            if let Some(event) = event {
                self.happen(now, event);
            }
            if let Some(law) = law.as_deref_mut() {
                self.apply_law(now, law);
            }
        }
    }

    fn is_hopeless(&self) -> bool {
        let Some(worst) = self.give_up else { return false };
        let meters = self.run.meters.iter().zip(&self.machines);
        let joules = || meters.map(|(meter, machine)| meter.joules(machine)).sum::<f64>();
        self.run.late > worst.late || joules() > worst.joules
    }

    fn arrive(&mut self) -> Event {
        let number = self.arrived;
        self.arrived += 1;
        let request = self.trace.requests.get(number);
        let (rows, model) = request.map_or((1, 0), |request| (request.rows, request.model));
        let client = request.map_or(0, |request| u64::from(request.client));
        Event::Arrived(Arrival {
            request: RequestId(number as u64),
            model: ModelId(model as u32),
            client: ClientId(client),
            shape: Shape::default(),
            rows,
            priority: 0,
            deadline: None,
            continues: false,
        })
    }

    /// Handles an event of the world: passes it to the scheduler and performs its actions.
    fn happen(&mut self, now: Time, event: Event) {
        self.note(now.0.as_secs_f64(), &event);
        self.handle(now, event);
        while let Some(action) = self.scheduler.poll_action() {
            self.perform(now, action);
        }
    }

    fn handle(&mut self, now: Time, event: Event) {
        let begin = types::clock::now();
        self.scheduler.handle(now, event);
        self.run.deciding += begin.elapsed();
        self.run.events += 1;
    }

    fn note(&mut self, now: f64, event: &Event) {
        match event {
            Event::Ready { adapter, .. } | Event::Loaded { adapter, .. } => {
                self.set(now, *adapter, Doing::Idle);
            }
            Event::Done { adapter, .. } => {
                if let Some(plant) = self.plants.get_mut(adapter.0 as usize) {
                    plant.running = 0;
                }
                self.set(now, *adapter, Doing::Idle);
            }
            Event::Exited { adapter, .. } => self.set(now, *adapter, Doing::Off),
            _ => {}
        }
    }

    fn set(&mut self, now: f64, adapter: AdapterId, doing: Doing) {
        let at = adapter.0 as usize;
        if let Some(plant) = self.plants.get_mut(at) {
            plant.idle_since = now;
        }
        if let (Some(meter), Some(machine)) = (self.run.meters.get_mut(at), self.machines.get(at)) {
            meter.set(now, doing, machine);
        }
    }

    fn perform(&mut self, now: Time, action: Action) {
        let seconds = now.0.as_secs_f64();
        match action {
            Action::Start { adapter, incarnation } => {
                self.set(seconds, adapter, Doing::Starting);
                let noise = self.start_noise();
                let at = adapter.0 as usize;
                let took = self.plants.get(at).map_or(0.0, |plant| plant.cold_start * noise);
                let speed = self.machines.get(at).map_or(0, speed);
                if let Some(plant) = self.plants.get_mut(adapter.0 as usize) {
                    plant.ready = seconds + took;
                }
                self.post(now, took, Event::Ready { adapter, incarnation, speed });
            }
            Action::Load { adapter, incarnation, model, .. } => {
                self.run.loads += 1;
                self.set(seconds, adapter, Doing::Starting);
                let Some(times) = self.times(adapter, model) else { return };
                let took = times.load_s * self.start_noise();
                let (bytes, measured) = (times.bytes, Vec::new());
                let event =
                    Event::Loaded { adapter, incarnation, model, bytes, measured, tuning: None };
                self.post(now, took, event);
            }
            Action::Unload { .. } => self.run.unloads += 1,
            Action::Run { adapter, incarnation, batch } => {
                self.set(seconds, adapter, Doing::Busy);
                self.execute(now, adapter, incarnation, &batch);
            }
            Action::Stop { adapter, incarnation } | Action::Kill { adapter, incarnation } => {
                let stop = self.plants.get(adapter.0 as usize).map_or(0.0, |plant| plant.stop);
                self.post(now, stop, Event::Exited { adapter, incarnation });
            }
            Action::Answer { request } => self.answer(seconds, request),
            Action::Reject { .. } => self.answered += 1,
            Action::Collect { .. } | Action::Discard { .. } | Action::Decided(_) => {}
        }
    }

    fn execute(
        &mut self,
        now: Time,
        adapter: AdapterId,
        incarnation: Incarnation,
        batch: &schedule::Batch,
    ) {
        let rows = batch.rows();
        let slowed = self.slowed(adapter);
        let took = self.batch_seconds(adapter, batch.model, rows) * slowed * self.run_noise();
        if let Some(plant) = self.plants.get_mut(adapter.0 as usize) {
            plant.running = batch.parts.len();
        }
        if let Some(served) = self.run.served.get_mut(adapter.0 as usize) {
            served.0 += u64::from(rows);
            served.1 += batch.parts.len() as u64;
        }
        let batch: BatchId = batch.id;
        self.post(now, took, Event::Done { adapter, incarnation, batch });
    }

    fn times(&self, adapter: AdapterId, model: ModelId) -> Option<Times> {
        self.plants.get(adapter.0 as usize)?.times.get(model.0 as usize).copied()
    }

    fn batch_seconds(&self, adapter: AdapterId, model: ModelId, rows: u32) -> f64 {
        let Some(times) = self.times(adapter, model) else { return 0.0 };
        let max_rows = self.max_rows.get(model.0 as usize).copied().unwrap_or(1);
        let bucket = bucket(rows, max_rows);
        times.alpha_s + times.beta_s * f64::from(bucket)
    }

    /// Returns the factor for the duration of a batch that begins now on this adapter.
    fn slowed(&self, adapter: AdapterId) -> f64 {
        let at = adapter.0 as usize;
        let starts =
            |(other, meter): (usize, &Meter)| other != at && meter.doing() == Doing::Starting;
        let any = self.run.meters.iter().enumerate().any(starts);
        self.plants.get(at).filter(|_| any).map_or(1.0, |plant| plant.slowed)
    }

    fn run_noise(&mut self) -> f64 {
        self.noise.as_mut().map_or(1.0, |noise| (1.0 + RUN_NOISE * noise.normal()).max(0.5))
    }

    fn start_noise(&mut self) -> f64 {
        let spread = |noise: &mut SplitMix64| 1.0 + START_NOISE * (2.0 * noise.uniform() - 1.0);
        self.noise.as_mut().map_or(1.0, spread)
    }

    fn post(&mut self, now: Time, seconds: f64, event: Event) {
        self.calendar.post(now + duration(seconds), event);
    }

    fn answer(&mut self, now: f64, request: RequestId) {
        let at = request.0 as usize;
        let (arrived, model) = self.trace.requests.get(at).map_or((0.0, 0), |r| (r.at, r.model));
        let slo = self.slos.get(model).copied().unwrap_or(self.slo);
        if let Some(latency) = self.run.latencies.get_mut(at) {
            *latency = now - arrived;
            self.run.late += u64::from(*latency > slo + 1e-9);
        }
        self.answered += 1;
    }

    /// Lets the law decide which adapters should be on.
    fn apply_law(&mut self, now: Time, law: &mut dyn Law) {
        self.update_activities();
        let before = self.wanted.clone();
        let running: usize = self.plants.iter().map(|plant| plant.running).sum();
        let sight = Sight {
            now: self.now,
            machines: &self.machines,
            doing: &self.doing,
            waiting: (self.arrived - self.answered).saturating_sub(running),
            running,
            arrived: self.arrived,
            unmet: self.scheduler.unmet_rows(now) as usize,
            slo: self.slo,
        };
        law.decide(&sight, &mut self.wanted);
        for (at, before) in before.into_iter().enumerate() {
            let wanted = self.wanted.get(at).copied().unwrap_or(before);
            if wanted != before {
                let adapter = AdapterId(at as u32);
                let mode = if wanted { AdapterMode::On } else { AdapterMode::Off };
                self.happen(now, Event::ModeSet { adapter, mode });
                if !wanted {
                    // Auto, not Off: requests may wait until the law wants the adapter again.
                    self.happen(now, Event::ModeSet { adapter, mode: AdapterMode::Auto });
                }
            }
        }
    }

    /// Updates `doing`.
    fn update_activities(&mut self) {
        let each = self.doing.iter_mut().zip(&self.plants).zip(&self.run.meters).zip(&self.wanted);
        for (((doing, plant), meter), wanted) in each {
            *doing = match meter.doing() {
                Doing::Off => laws::AdapterActivity::Off,
                Doing::Starting => laws::AdapterActivity::Starting { until: plant.ready },
                Doing::Idle => laws::AdapterActivity::Idle { since: plant.idle_since },
                Doing::Busy if *wanted => laws::AdapterActivity::Busy,
                Doing::Busy => laws::AdapterActivity::Draining,
            };
        }
    }

    fn end(mut self) -> Run {
        self.run.span = self.now;
        let end = time(self.now.max(self.ends_at));
        let adapters = (0..self.plants.len()).map(|at| AdapterId(at as u32));
        let known = |id| self.scheduler.learned_profile(end, id).unwrap_or_default();
        self.run.learned = RestartState {
            policy: self.scheduler.learned(end),
            adapters: adapters.map(known).collect(),
            down: Duration::ZERO,
        };
        for meter in &mut self.run.meters {
            meter.settle(self.now);
        }
        self.run
    }
}

/// Speed in rows per 1000 seconds, which orders adapters.
fn speed(machine: &Machine) -> u64 {
    (machine.rate(f64::INFINITY) * 1e3) as u64 + 1
}
