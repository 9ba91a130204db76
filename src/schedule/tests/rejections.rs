//! Rejections if no adapter can serve, the time to retry, and readiness.

use super::*;

impl Bench {
    /// Sends a request; returns the reason of its rejection.
    fn rejection(&mut self) -> Option<Reject> {
        self.requests += 1;
        let arrival = arrival(RequestId(self.requests));
        self.scheduler.handle(self.now, Event::Arrived(arrival));
        let mut actions = std::iter::from_fn(|| self.scheduler.poll_action());
        actions.find_map(|action| match action {
            Action::Reject { reason, .. } => Some(reason),
            _ => None,
        })
    }
}

/// The rejection if the next attempt to start an adapter is in `wait` milliseconds.
fn after(wait: u64) -> Option<Reject> {
    Some(Reject::NoAdapter { retry_after: Some(ms(wait)) })
}

/// Limits the wait for a quarantine to 100 ms.
fn impatient(mut bench: Bench) -> Bench {
    bench.scheduler.world.settings.quarantine_wait_max = ms(100);
    bench
}

/// The first adapter had one fault, the second two in a row.
fn after_fault() -> Bench {
    let mut bench = impatient(Bench::two());
    bench
        .set_mode(TWO, AdapterMode::On)
        .faulted(TWO)
        .exited(TWO)
        .after(ms(500))
        .set_mode(ONE, AdapterMode::On);
    bench.faulted(ONE).exited(ONE).faulted(TWO).exited(TWO);
    bench
}

#[test]
fn request_before_the_first_discovery_waits() {
    let mut bench = Bench::one();
    let settings = bench.scheduler.world.settings.clone();
    bench.scheduler = Scheduler::new(settings, [(MODEL, profile(2))].into());
    bench.request();
    assert!(bench.actions.is_empty(), "{:?}", bench.actions);
    bench.listed(&[(ONE, adapter(0, false))]).check(ONE, "starting", &["start 1"]);
}

#[test]
fn request_during_a_long_quarantine_is_rejected_with_its_rest() {
    let mut bench = impatient(Bench::busy());
    bench.faulted(ONE).check(ONE, "stopping", &["kill 1", "reject"]);
    assert_eq!(bench.rejection(), after(500));
    bench.exited(ONE).after(ms(100));
    assert_eq!(bench.rejection(), after(400));
    bench.after(ms(300));
    assert_eq!(bench.rejection(), None);
}

#[test]
fn retry_after_is_the_end_of_the_first_quarantine() {
    assert_eq!(after_fault().rejection(), after(500));
    let mut bench = after_fault();
    bench.set_mode(ONE, AdapterMode::Off);
    assert_eq!(bench.rejection(), after(1000));
    let mut bench = after_fault();
    bench.listed(&[(TWO, adapter(1, false))]);
    assert_eq!(bench.rejection(), after(1000));
}

#[test]
fn requests_do_not_wait_for_an_unreaped_worker() {
    let mut bench = Bench::idle();
    bench.after(ms(1000)).after(ms(300)).after(ms(300)).check(ONE, "unreaped", &[]);
    assert_eq!(bench.rejection(), Some(Reject::NoAdapter { retry_after: None }));
}

#[test]
fn requests_do_not_wait_for_an_absent_adapter() {
    let mut bench = Bench::one();
    bench.listed(&[]);
    assert_eq!(bench.rejection(), Some(Reject::NoAdapter { retry_after: None }));
}

#[test]
fn requests_do_not_wait_for_a_fallback_that_will_not_start() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 9, true)]);
    bench.request().opened(ONE).load_failed(ONE).check(ONE, "idle", &["reject"]);
    assert_eq!(bench.rejection(), Some(Reject::ModelFailed));
}

#[test]
fn model_with_wrong_files_is_not_loaded_again_before_it_is_replaced() {
    let mut bench = Bench::one();
    bench.request().opened(ONE).load_failed_until(ONE, LoadRetry::Never);
    bench.check(ONE, "idle", &["reject"]);
    bench.after(ms(3_600_000));
    assert_eq!(bench.rejection(), Some(Reject::ModelFailed));
    assert!(!bench.scheduler.is_model_ready(bench.now, MODEL));
    assert!(bench.scheduler.next_timeout() < Some(Time::NEVER), "no wait is endless");
    bench.on(Event::ModelRemoved { model: MODEL }).serve(profile(2));
    assert!(bench.scheduler.is_model_ready(bench.now, MODEL));
}

#[test]
fn a_load_that_reads_other_files_now_is_tried_again_at_once() {
    let mut bench = Bench::one();
    bench.request().opened(ONE).check(ONE, "loading", &["load 1 0"]);
    bench.load_failed_until(ONE, LoadRetry::Now).check(ONE, "loading", &["load 1 0"]);
}

#[test]
fn ready_is_what_can_be_served() {
    let mut bench = Bench::one();
    let ready = |bench: &Bench| {
        let scheduler = &bench.scheduler;
        (scheduler.is_ready(bench.now), scheduler.is_model_ready(bench.now, MODEL))
    };
    assert_eq!(ready(&bench), (true, true));
    assert!(!bench.scheduler.is_model_ready(bench.now, ModelId(9)));
    bench.request().opened(ONE).load_failed(ONE);
    assert_eq!(ready(&bench), (true, false));
    bench.after(ms(4000));
    assert_eq!(ready(&bench), (true, true));
    let deadline = bench.now + ms(60_000);
    bench.on(Event::Shutdown { deadline });
    assert_eq!(ready(&bench), (false, false));
}

#[test]
fn shutdown_ends_at_its_deadline() {
    let mut bench = Bench::busy();
    let deadline = bench.now + ms(100);
    bench.request().on(Event::Shutdown { deadline }).check(ONE, "busy", &[]);
    assert_eq!(bench.scheduler.next_timeout(), Some(deadline));
    // The same for batches with workers: they are not waited for after the deadline.
    bench.after(ms(100)).check(ONE, "stopping", &["reject", "reject", "stop 1"]);
    assert!(bench.scheduler.next_timeout() > Some(bench.now), "and nothing else is due");
}

#[test]
fn down_is_when_every_worker_is_gone_or_cannot_be_made_to_go() {
    let mut bench = Bench::idle();
    let deadline = bench.now + ms(60_000);
    bench.on(Event::Shutdown { deadline }).check(ONE, "stopping", &["stop 1"]);
    assert!(!bench.scheduler.is_down());
    bench.after(ms(300)).after(ms(300)).check(ONE, "unreaped", &[]);
    assert!(bench.scheduler.is_down());
}
