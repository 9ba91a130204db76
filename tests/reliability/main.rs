//! What a server makes of workers that go wrong: every fault at every step of a worker's life, and
//! all of them by chance. RELIABILITY.md tells what is promised; `cargo bench --bench reliability`
//! runs more of the same and prints figures.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

#[path = "../common/mod.rs"]
mod common;
/// Servers with faulty workers, and what their clients saw.
mod faulty;

use common::tell;
use concertina::wire::Injected;
use faulty::{Faulty, every_seed, every_step};

/// One worker in a row goes wrong: the next one answers what it left.
#[test]
fn every_fault_at_every_step_of_one_worker_loses_nothing() {
    for fault in Injected::ALL {
        let outcomes = every_step(&Faulty::cpu(), fault, Some(1));
        tell(&format!("{} {outcomes}", fault.as_str()));
        assert_eq!(outcomes.lost, 0, "{}: {outcomes:#?}", fault.as_str());
        assert_eq!(outcomes.miscounted, 0, "{}: {outcomes:#?}", fault.as_str());
        assert_eq!(outcomes.not_recovered, 0, "{}: {outcomes:#?}", fault.as_str());
        // A bit that flips in a batch cannot be seen by anyone; the next check tells. One that
        // flips in the sample of a model that was right nowhere yet is taken for the model's fault.
        if fault != Injected::WrongAnswer {
            assert_eq!((outcomes.failed, outcomes.wrong), (0, 0), "{outcomes:#?}");
        }
    }
}

/// Every worker goes wrong at this step: clients are told so, and the server goes on.
#[test]
fn every_fault_at_every_step_of_all_workers_is_answered_honestly() {
    for fault in Injected::ALL {
        let outcomes = every_step(&Faulty::cpu(), fault, None);
        tell(&format!("{} {outcomes}", fault.as_str()));
        assert_eq!(outcomes.lost, 0, "{}: {outcomes:#?}", fault.as_str());
        assert_eq!(outcomes.miscounted, 0, "{}: {outcomes:#?}", fault.as_str());
        assert!(outcomes.wrong == 0 || fault == Injected::WrongAnswer, "{outcomes:#?}");
    }
}

#[test]
fn faults_by_chance_lose_nothing() {
    let all = every_seed(&Faulty::cpu(), 24, 0.005);
    tell(&format!("by chance {all}"));
    assert_eq!((all.lost, all.wrong, all.miscounted), (0, 0, 0), "{all:#?}");
    assert!(all.right > all.failed, "{all:#?}");
}
