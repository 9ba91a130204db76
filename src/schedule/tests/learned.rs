//! Values that are kept between two runs of the server.

use super::*;

impl Bench {
    /// Restarts the server after `down` seconds, with one adapter like this.
    fn restarted(&self, down: u64) -> Bench {
        let mut next = super::early_start::bench();
        next.scheduler.world.settings = self.scheduler.world.settings.clone();
        let memory = self.scheduler.learned_profile(self.now, ONE).expect("it is known");
        let policy = self.scheduler.learned(self.now);
        let down = Duration::from_secs(down);
        next.on(Event::ProfileRestored { adapter: ONE, profile: memory })
            .on(Event::PolicyRestored { policy, down });
        next
    }
}

#[test]
fn regular_client_is_expected_after_a_restart() {
    let mut bench = super::early_start::bench();
    bench.regular(600, 12);
    // It came 600 s ago and is due now; the server was off for the last 10 s.
    bench.request().pass(500);
    let mut bench = bench.restarted(10);
    assert_eq!(bench.state(ONE), "off");
    bench.pass(85);
    assert_eq!(bench.state(ONE), "idle", "it is started 10 s before");
    assert_eq!(bench.pass(5).regular(600, 6), 6);
}

#[test]
fn learned_values_of_a_model_are_restored_when_it_is_added() {
    use super::memory::OTHER;
    let mut bench = super::early_start::bench();
    bench.regular(600, 12);
    let mut policy = bench.scheduler.learned(bench.now);
    policy.clients.retain(|client| client.client.is_some());
    policy.clients.iter_mut().for_each(|client| client.model = OTHER);
    policy.models.iter_mut().for_each(|(model, ..)| *model = OTHER);
    let mut next = super::early_start::bench();
    let learned = Event::PolicyRestored { policy, down: ms(0) };
    let known = |bench: &Bench| {
        let clients = bench.scheduler.learned(bench.now).clients;
        clients.iter().filter(|client| client.model == OTHER && client.pauses.len() == 11).count()
    };
    next.on(learned.clone());
    assert_eq!(known(&next), 0, "it is not there yet");
    next.add(OTHER, profile(4)).on(learned);
    assert_eq!(known(&next), 1);
    assert!(next.scheduler.world.popularity.rate(next.now, OTHER) > 0.0);
}

#[test]
fn pauses_with_server_downtime_are_not_learned() {
    for (down, known) in [(30, 11), (200, 10)] {
        let mut bench = super::early_start::bench();
        bench.regular(600, 11);
        bench.request().pass(300);
        let mut bench = bench.restarted(down);
        let gaps = |bench: &Bench| bench.scheduler.learned(bench.now).clients[1].pauses.len();
        assert_eq!(gaps(&bench), 11);
        bench.pass(270).request();
        assert_eq!(gaps(&bench), known + 1, "{down}");
    }
}

fn memory() -> LearnedProfile {
    LearnedProfile {
        cold_start: Some(ms(1000)),
        late_permille: Some(4000),
        idle_periods: vec![(ms(3000), ms(50_000)), (ms(7000), ms(50_000))],
        helped: Some((ms(60_000), ms(600_000))),
        starts: vec![ms(1_000_000), ms(2_000_000)],
        ..LearnedProfile::default()
    }
}

#[test]
fn values_of_starts_are_restored_until_the_first_start() {
    let mut bench = super::early_start::bench();
    bench.on(Event::ProfileRestored { adapter: ONE, profile: memory() });
    assert_eq!(bench.scheduler.learned_profile(bench.now, ONE), Some(memory()));
    assert!(energy_rank::needed_help(&bench.scheduler.world, bench.now, ONE));
    // They are restored again when a model is added; values of this run stay.
    bench.request().after(ms(1000)).opened(ONE);
    let learned = bench.scheduler.learned_profile(bench.now, ONE);
    let other = LearnedProfile { late_permille: Some(9000), idle_periods: Vec::new(), ..memory() };
    bench.on(Event::ProfileRestored { adapter: ONE, profile: other });
    assert_eq!(bench.scheduler.learned_profile(bench.now, ONE), learned);
    assert_ne!(learned, Some(memory()));
}

#[test]
fn the_cap_on_starts_outlives_a_restart() {
    let mut bench = super::idling::bench(&[(ONE, super::idling::plain())]);
    // With the next one there were as many within an hour as may be.
    let starts = (1..30).map(|n| ms(100_000 * n)).collect();
    bench.on(Event::ProfileRestored {
        adapter: ONE,
        profile: LearnedProfile { starts, ..memory() },
    });
    bench.brought(&[ONE]).after(ms(90_000));
    assert_eq!(bench.state(ONE), "idle", "without a start left it stays on");
    bench.after(ms(20_000));
    assert_eq!(bench.state(ONE), "stopping");
}

#[test]
fn the_price_of_late_requests_and_the_rates_of_models_are_kept() {
    let mut bench = super::early_start::bench();
    bench.scheduler.world.late_price.theta = 3.5;
    for _ in 0..5 {
        bench.after(ms(10_000)).request();
    }
    let before = bench.scheduler.world.popularity.rate(bench.now + ms(20_000), MODEL);
    bench.after(ms(10_000));
    let next = bench.restarted(10);
    assert!((next.scheduler.world.late_price.theta - 3.5).abs() < 1e-3);
    let after = next.scheduler.world.popularity.rate(next.now, MODEL);
    assert!((after - before).abs() < 0.01 * before, "{before} {after}");
}

#[test]
fn absurd_values_in_the_file_are_tolerated() {
    let long = Duration::MAX;
    let client = LearnedClient {
        client: Some(ClientId(1)),
        model: MODEL,
        began: Some(long),
        ended: long,
        pauses: vec![long; 100],
        periods: vec![Duration::ZERO; 100],
        inner_pauses: vec![long; 100],
        late_permille: u32::MAX,
    };
    let mut clients: Vec<_> =
        (0..1000).map(|n| LearnedClient { client: Some(ClientId(n)), ..client.clone() }).collect();
    clients.push(LearnedClient { model: ModelId(99), ..client });
    let late_price = Some((i64::MAX, u64::MAX));
    let models = vec![(MODEL, u64::MAX, long), (ModelId(99), 1, long)];
    let policy = LearnedPolicy { late_price, models, clients };
    let mut bench = super::early_start::bench();
    bench.on(Event::PolicyRestored { policy: policy.clone(), down: long });
    let memory = LearnedProfile {
        late_permille: Some(u32::MAX),
        idle_periods: vec![(long, long), (Duration::ZERO, Duration::ZERO)],
        helped: Some((long, long)),
        starts: vec![long; 10_000],
        ..LearnedProfile::default()
    };
    bench.on(Event::ProfileRestored { adapter: ONE, profile: memory });
    bench.regular(600, 3);
    let learned = bench.scheduler.learned(bench.now);
    assert!(learned.clients.len() <= 65, "{}", learned.clients.len());
    assert!(learned.clients.iter().all(|client| client.model == MODEL));
    assert!(bench.scheduler.world.late_price.theta.is_finite());
}

#[test]
fn earlier_run_teaches_nothing_of_starts_once_this_one_has_started_the_adapter() {
    let late = |bench: &Bench| {
        let adapter = bench.scheduler.world.adapters.get(&ONE);
        adapter.map(|adapter| adapter.economy.late_requests())
    };
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).opened(ONE);
    let before = late(&bench);
    bench.on(Event::ProfileRestored { adapter: ONE, profile: memory() });
    assert_eq!(late(&bench), before);
    // The values that were restored first stay.
    let mut bench = Bench::one();
    bench.on(Event::ProfileRestored { adapter: ONE, profile: memory() });
    let before = late(&bench);
    let other = LearnedProfile { late_permille: Some(77_000), ..memory() };
    bench.on(Event::ProfileRestored { adapter: ONE, profile: other });
    assert_eq!(late(&bench), before);
}
