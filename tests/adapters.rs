//! Adapters of real drivers: listed, opened, checked, probed and passed to burn.
//!
//! Uses the drivers of the environment (`VK_ICD_FILENAMES` selects those of Vulkan). Without
//! drivers the tests are skipped with a message.
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

use adapter::entry::{AdapterEntry, Api, Usability};
use adapter::select::{Rules, Software};
use burn::tensor::Tensor;
use device::check::{CheckError, check};
use device::list::list;
use device::open::{OpenError, open, open_id, register};
use device::probe::probe;
use std::io::Write;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Set in the child that [`listing_without_drivers_finds_only_the_cpu`] starts.
const CHILD: &str = "CONCERTINA_TEST_WITHOUT_DRIVERS";

/// Two Vulkan instances created at the same time crash some loaders, so that one test runs at a
/// time.
fn driver() -> MutexGuard<'static, ()> {
    static DRIVER: Mutex<()> = Mutex::new(());
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The adapters to test, software ones included. GL stays off, as it is by default: the code that
/// naga 30 generates there for a signed remainder is undefined, and the check detects that.
fn adapters() -> Vec<AdapterEntry> {
    let rules = Rules { software: Software::Allow, ..Rules::default() };
    let mut entries = list(&rules);
    entries.retain(|entry| entry.api != Api::Cpu && entry.state == Usability::Usable);
    if entries.is_empty() {
        // Written directly to stderr: the test runner captures the output of tests that pass.
        let skipped = "SKIPPED: no graphics driver found; set VK_ICD_FILENAMES or install one";
        let _ = writeln!(std::io::stderr(), "{skipped}");
    }
    entries
}

#[test]
fn every_adapter_opens_passes_its_check_and_has_a_speed() {
    let _one = driver();
    for entry in adapters() {
        let start = Instant::now();
        let opened = open(&entry).unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        let open_time = start.elapsed();
        check(&opened.device, &opened.queue)
            .unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        let check_time = start.elapsed() - open_time;
        let probe = probe(&opened.device, &opened.queue)
            .unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        let probe_time = start.elapsed() - open_time - check_time;
        eprintln!(
            "{} ({}): open {open_time:.0?}, check {check_time:.0?}, probe {probe_time:.0?}: {probe:?}",
            entry.id, entry.name
        );
        assert!(probe.gflops > 0.01 && probe.gflops < 1e6, "{probe:?}");
        assert!(probe.copy_gbytes_per_s > 0.01 && probe.copy_gbytes_per_s < 1e5, "{probe:?}");
        // A bound against runaway growth, far above the expected time.
        assert!(probe_time < Duration::from_secs(20), "{probe_time:?}");
    }
}

#[test]
fn opened_adapter_has_the_requested_id() {
    let _one = driver();
    for entry in adapters() {
        let info = open_id(&entry.id).map(|opened| opened.adapter.get_info());
        let info = info.unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        assert_eq!(info.name, entry.name);
        assert_eq!((info.vendor, info.device), (entry.vendor_id, entry.device_id));
    }
}

#[test]
fn burn_computes_on_an_opened_device() {
    let _one = driver();
    for entry in adapters() {
        let device = register(open(&entry).unwrap_or_else(|error| panic!("{}: {error}", entry.id)))
            .unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        let data = Tensor::<1>::from_floats([1.5, -2.0, 4.0], &device) * 2.0 + 1.0;
        let values = data.into_data().try_to_vec::<f32>().expect("the data are floats");
        assert_eq!(values, [4.0, -3.0, 9.0], "{}", entry.id);
    }
}

#[test]
fn lost_device_is_an_error_and_not_a_panic() {
    let _one = driver();
    for entry in adapters() {
        let opened = open(&entry).unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        opened.device.destroy();
        let checked = check(&opened.device, &opened.queue);
        assert!(matches!(checked, Err(CheckError::Failed { .. })), "{}: {checked:?}", entry.id);
        let probed = probe(&opened.device, &opened.queue);
        assert!(probed.is_err(), "{}: {probed:?}", entry.id);
    }
}

#[test]
fn device_that_rejects_buffers_is_an_error_and_not_a_panic() {
    let _one = driver();
    for entry in adapters() {
        let opened = open(&entry).unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        let small =
            wgpu::Limits { max_storage_buffer_binding_size: 1024, ..opened.device.limits() };
        let descriptor = wgpu::DeviceDescriptor { required_limits: small, ..Default::default() };
        let (device, queue) = pollster::block_on(opened.adapter.request_device(&descriptor))
            .unwrap_or_else(|error| panic!("{}: {error}", entry.id));
        let error = check(&device, &queue).expect_err("the input is larger than a binding");
        assert!(error.to_string().contains("the device reported"), "{error}");
        assert!(probe(&device, &queue).is_err());
    }
}

#[test]
fn missing_adapter_is_an_error() {
    let _one = driver();
    let error = open_id("vulkan-dead-beef-7").expect_err("no such card");
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
}

#[test]
fn listing_without_drivers_finds_only_the_cpu() {
    if std::env::var_os(CHILD).is_some() {
        let entries = list(&Rules::default());
        assert!(entries.iter().all(|entry| entry.api != Api::Vulkan), "{entries:?}");
        assert!(entries.iter().any(|entry| entry.id == "cpu"), "{entries:?}");
        return;
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let status = Command::new(test)
        .args(["--exact", "listing_without_drivers_finds_only_the_cpu"])
        .env(CHILD, "1")
        .env("VK_ICD_FILENAMES", "/nonexistent/driver.json")
        .env("VK_DRIVER_FILES", "/nonexistent/driver.json")
        .status()
        .expect("the test starts itself");
    assert!(status.success(), "{status}");
}
