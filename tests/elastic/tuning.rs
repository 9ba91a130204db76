use crate::machine::{Machine, START, TUNING, adapters};
use crate::numbers::INFER;
use std::time::{Duration, Instant};
use testkit::images::{SEVEN, digits};
use testkit::{Folder, Server, report};

/// The predicted time until an adapter is ready, in the reason of the last start.
fn predicted(server: &Server) -> Duration {
    let decisions = server.get("/api/decisions").text();
    let (_, after) = decisions.rsplit_once("ready in about ").expect("a start with a prediction");
    let mut words = after.split(|c: char| c == ' ' || !(c.is_ascii_alphanumeric() || c == '.'));
    let number: f64 = words.next().and_then(|number| number.parse().ok()).expect("a number");
    match words.next() {
        Some("ms") => Duration::from_secs_f64(number / 1e3),
        Some("s") => Duration::from_secs_f64(number),
        unit => panic!("{unit:?} in {after}"),
    }
}

/// A first start tunes kernels for a minute. Its time is not the estimate for later starts.
#[test]
fn start_after_one_that_tuned_kernels_is_predicted_without_the_tuning() {
    let Some(machine) = Machine::get() else { return };
    let cache = Folder::new();
    let mut server = machine.untuned(cache.path()).start();
    let id = adapters(&server).remove(0);
    let begin = Instant::now();
    server.set_mode(&id, "on");
    server.wait_for_state(&id, &["idle"], TUNING);
    let first = begin.elapsed();
    server.set_mode(&id, "off");
    server.wait_for_state(&id, &["off"], START);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let config = format!("[adapters]\nonly = ['{id}']");
    let server = machine.untuned(cache.path()).args(&["--cpu", "never"]).config(&config).start();
    server.wait_until_ready();
    let begin = Instant::now();
    assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
    let (second, predicted) = (begin.elapsed(), predicted(&server));
    report(&format!("first start {first:.1?}, second {second:.1?}, predicted {predicted:.1?}"));
    // Until a load without tuning is measured, its time is estimated as at least 1/40 of the first
    // one, and a machine that is busy with other tests makes each time longer.
    assert!(predicted <= 2 * second + Duration::from_secs(2), "{predicted:?} for {second:?}");
    assert!(2 * predicted < first, "{predicted:?} after {first:?}");
}
