use crate::machine::{DriverWatch, Machine, START, adapters, more_answers, on};
use crate::numbers::{INFER, compare, expected};
use std::collections::BTreeSet;
use testkit::http::request;
use testkit::images::{as_uint8, variants};
use testkit::load::Load;
use testkit::process::{is_worker, workers_of};
use testkit::{Server, wait_for};

/// Clients that each send an image of their own and know its answer.
pub fn clients(server: &Server, count: usize) -> Load {
    let images = variants(count);
    let expected = expected(&images);
    let make = |n: usize| request("POST", INFER, &[], as_uint8(&images[n]).as_bytes());
    Load::start(server.address, count, make, move |n, response| compare(response, &expected[n]))
}

#[test]
fn one_client_keeps_one_adapter_on() {
    let Some(machine) = Machine::get() else { return };
    let server = machine.setup().start();
    adapters(&server);
    let load = clients(&server, 1);
    let mut most = 0;
    for _ in 0..20 {
        more_answers(&load, 2);
        most = most.max(on(&server).len());
    }
    let seen = load.stop();
    assert_eq!(seen.wrong, [""; 0]);
    assert_eq!((most, seen.adapters.len()), (1, 1), "{:?}", seen.adapters);
    let starts: u64 =
        adapters(&server).iter().map(|id| server.adapter(id)["starts"].as_u64().unwrap()).sum();
    assert_eq!(starts, 1);
}

/// Every adapter is slowed equally: at full speed the fastest may serve eight clients alone.
const QUICK: &str = "[adapters]\npolicy = 'concurrency'\n\
    scale_down_delay = '500ms'\nscale_to_zero_delay = '1s'\n\
    [test.slow.vulkan-10005-0000-0]\nrow = '20ms'\n\
    [test.slow.vulkan-10005-0000-1]\nrow = '20ms'\n\
    [test.slow.vulkan-1ae0-c0de-0]\nrow = '20ms'";

#[test]
fn eight_clients_turn_all_adapters_on_and_all_turn_off_afterwards() {
    let Some(machine) = Machine::get() else { return };
    let server = machine.setup().config(QUICK).start();
    let ids = adapters(&server);
    let watch = DriverWatch::start(&server);
    assert_eq!(workers_of(server.pid()), [0u32; 0]);
    let load = clients(&server, 8);
    wait_for("all three are on and work", START, || {
        ids.iter().all(|id| server.adapter(id)["requests"].as_u64() > Some(5))
    });
    more_answers(&load, 50);
    let pids: Vec<_> = on(&server).into_iter().filter_map(|(_, pid)| pid).collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| is_worker(*pid)), "{pids:?}");
    let seen = load.stop();
    eprintln!("{} answers, by adapter: {:?}", seen.answers, seen.adapters);
    assert_eq!(seen.wrong, [""; 0]);
    let answered: BTreeSet<_> = seen.adapters.keys().cloned().collect();
    assert!(ids.iter().all(|id| answered.contains(id)), "{answered:?}");
    for id in &ids {
        server.wait_for_state(id, &["off"], START);
    }
    assert_eq!(pids.iter().filter(|pid| is_worker(**pid)).count(), 0, "off, but still there");
    assert_eq!(workers_of(server.pid()), [0u32; 0]);
    watch.check();
    let decisions = server.get("/api/decisions").text();
    for reason in ["\"backlog\"", "\"idle_surplus\""] {
        assert!(decisions.contains(reason), "{decisions}");
    }
    // And on again from zero adapters.
    let load = clients(&server, 1);
    more_answers(&load, 3);
    assert_eq!(load.stop().wrong, [""; 0]);
}

/// Eight clients miss this target on one adapter, and a start pays off within seconds.
const TARGET: &str = "latency_target = '100ms'\n[adapters]\nstart_penalty_joules = 0.1\n\
    [adapters.power.vulkan-10005-0000-0]\nidle = 50.0\nactive = 100.0\nstart = 1.0\n\
    [adapters.power.vulkan-10005-0000-1]\nidle = 50.0\nactive = 100.0\nstart = 1.0\n\
    [adapters.power.vulkan-1ae0-c0de-0]\nidle = 50.0\nactive = 100.0\nstart = 1.0\n\
    [test.slow.vulkan-10005-0000-0]\nrow = '40ms'\n\
    [test.slow.vulkan-10005-0000-1]\nrow = '40ms'\n\
    [test.slow.vulkan-1ae0-c0de-0]\nrow = '40ms'";

#[test]
fn default_policy_turns_adapters_on_for_the_target_and_off_when_idling_cost_too_much() {
    let Some(machine) = Machine::get() else { return };
    let server = machine.setup().config(TARGET).start();
    let ids = adapters(&server);
    let load = clients(&server, 8);
    wait_for("a second adapter helps", START, || {
        let answers = |id: &&String| server.adapter(id)["requests"].as_u64() > Some(5);
        ids.iter().filter(answers).count() >= 2
    });
    let seen = load.stop();
    eprintln!("{} answers, by adapter: {:?}", seen.answers, seen.adapters);
    assert_eq!(seen.wrong, [""; 0]);
    for id in &ids {
        server.wait_for_state(id, &["off"], START);
    }
    assert_eq!(workers_of(server.pid()), [0u32; 0]);
    let decisions = server.get("/api/decisions").text();
    for reason in ["\"latency_target\"", "\"break_even\""] {
        assert!(decisions.contains(reason), "{decisions}");
    }
    for id in &ids {
        assert_eq!(server.adapter(id)["fault"], serde_json::Value::Null);
    }
}
