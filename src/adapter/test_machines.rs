//! Machines from bug reports, with their expected ids and selection of adapters.

use crate::entry::{AdapterEntry, Api, Class, MemoryLimits, Usability, unknown_ids};
use crate::identity::{CPU_ID, Facts, Platform, api_of, identify};
use crate::select::{CpuRule, Rules, Software, select};
use proptest::prelude::*;
use std::collections::BTreeSet;

const NVIDIA: u32 = 0x10de;
const INTEL: u32 = 0x8086;
const AMD: u32 = 0x1002;
const MESA: u32 = 0x1_0005;

fn card(api: Api, class: Class, name: &str, vendor_id: u32, device_id: u32) -> Facts {
    let memory = MemoryLimits {
        max_buffer_bytes: 4 << 30,
        max_storage_binding_bytes: 2 << 30,
        max_workgroup_storage_bytes: 32 << 10,
    };
    let name = name.to_owned();
    let (driver, driver_info) = ("driver".to_owned(), "1.0".to_owned());
    let (pci, memory_bytes) = (None, None);
    Facts { api, class, name, vendor_id, device_id, pci, driver, driver_info, memory, memory_bytes }
}

fn at(pci: &str, facts: Facts) -> Facts {
    Facts { pci: Some(pci.to_owned()), ..facts }
}

fn rtx(api: Api) -> Facts {
    card(api, Class::Discrete, "NVIDIA GeForce RTX 4070 Laptop GPU", NVIDIA, 0x2860)
}

fn iris(api: Api) -> Facts {
    card(api, Class::Integrated, "Intel(R) Iris(R) Xe Graphics", INTEL, 0xa7a0)
}

fn mi(api: Api) -> Facts {
    card(api, Class::Discrete, "AMD Radeon RX 7900 XTX (RADV NAVI31)", AMD, 0x744c)
}

fn llvmpipe(api: Api) -> Facts {
    card(api, Class::Software, "llvmpipe (LLVM 15.0.6, 256 bits)", MESA, 0)
}

/// Adds the processor that every machine has.
pub(crate) fn with_cpu(mut facts: Vec<Facts>) -> Vec<Facts> {
    facts.push(card(Api::Cpu, Class::Cpu, "Some CPU", 0, 0));
    facts
}

/// A laptop with an Intel and an NVIDIA GPU, on Linux.
pub(crate) fn hybrid_laptop() -> Vec<Facts> {
    vec![at("0000:00:02.0", iris(Api::Vulkan)), at("0000:01:00.0", rtx(Api::Vulkan))]
}

fn rules(platform: Platform) -> Rules {
    Rules { platform, ..Rules::default() }
}

fn linux() -> Rules {
    rules(Platform::Other)
}

fn windows() -> Rules {
    rules(Platform::Windows)
}

fn used(entries: &[AdapterEntry]) -> Vec<&str> {
    let usable = |entry: &&AdapterEntry| entry.state == Usability::Usable;
    entries.iter().filter(usable).map(|entry| entry.id.as_str()).collect()
}

fn reason<'a>(entries: &'a [AdapterEntry], id: &str) -> &'a str {
    let entry = entries.iter().find(|entry| entry.id == id);
    entry.unwrap_or_else(|| panic!("no {id}")).reason.as_deref().unwrap_or("used")
}

#[test]
fn a_hybrid_laptop_on_linux_uses_both_gpus() {
    let entries = select(&hybrid_laptop(), &linux());
    assert_eq!(used(&entries), ["pci-0000:01:00.0", "pci-0000:00:02.0"]);
}

#[test]
fn a_hybrid_laptop_on_windows_uses_each_gpu_once_over_dx12() {
    // As in bug reports: Vulkan reports no address there and swaps the classes.
    let vulkan_iris = Facts { class: Class::Discrete, ..iris(Api::Vulkan) };
    let vulkan_rtx = Facts { class: Class::Integrated, ..rtx(Api::Vulkan) };
    let dx12 = [at("0000:00:02.0", iris(Api::Dx12)), at("0000:01:00.0", rtx(Api::Dx12))];
    let warp = card(Api::Dx12, Class::Software, "Microsoft Basic Render Driver", 0x1414, 0x8c);
    let facts = [vec![vulkan_iris, vulkan_rtx], dx12.to_vec(), vec![warp]].concat();
    let entries = select(&facts, &windows());
    assert_eq!(used(&entries), ["pci-0000:01:00.0", "pci-0000:00:02.0"]);
    assert_eq!(reason(&entries, "vulkan-10de-2860-0"), "same card as pci-0000:01:00.0");
    assert_eq!(reason(&entries, "vulkan-8086-a7a0-0"), "same card as pci-0000:00:02.0");
    assert!(reason(&entries, "dx12-1414-008c-0").starts_with("software adapter"));
}

#[test]
fn two_equal_cards_are_two_cards() {
    let facts = [at("0000:03:00.0", mi(Api::Vulkan)), at("0000:83:00.0", mi(Api::Vulkan))];
    assert_eq!(used(&select(&facts, &linux())), ["pci-0000:03:00.0", "pci-0000:83:00.0"]);
    let blind = [mi(Api::Vulkan), mi(Api::Vulkan)];
    assert_eq!(used(&select(&blind, &linux())), ["vulkan-1002-744c-0", "vulkan-1002-744c-1"]);
}

#[test]
fn an_address_that_dx12_repeats_does_not_lose_the_second_card() {
    let dx12 = || at("0000:03:00.0", mi(Api::Dx12));
    let vulkan = |pci| at(pci, mi(Api::Vulkan));
    let facts = [vulkan("0000:83:00.0"), dx12(), vulkan("0000:03:00.0"), dx12()];
    let entries = select(&facts, &windows());
    assert_eq!(used(&entries), ["pci-0000:03:00.0", "pci-0000:03:00.0-1"]);
    assert_eq!(reason(&entries, "pci-0000:03:00.0-vulkan"), "same card as pci-0000:03:00.0");
    assert_eq!(reason(&entries, "pci-0000:83:00.0-vulkan"), "same card as pci-0000:03:00.0-1");
}

#[test]
fn a_card_that_dx12_does_not_list_is_used_over_vulkan() {
    let dx12 = at("0000:03:00.0", mi(Api::Dx12));
    let facts = [dx12, at("0000:03:00.0", mi(Api::Vulkan)), at("0000:83:00.0", mi(Api::Vulkan))];
    assert_eq!(used(&select(&facts, &windows())), ["pci-0000:03:00.0", "pci-0000:83:00.0-vulkan"]);
}

#[test]
fn one_card_over_vulkan_and_gl_is_one() {
    let gl = Facts {
        name: "NVIDIA GeForce RTX 4070 Laptop GPU/PCIe/SSE2".to_owned(),
        class: Class::Other,
        device_id: 0,
        ..rtx(Api::Gl)
    };
    let entries = select(&[gl, at("0000:01:00.0", rtx(Api::Vulkan))], &linux());
    assert_eq!(used(&entries), ["pci-0000:01:00.0"]);
    assert_eq!(reason(&entries, "gl-10de-0000-0"), "same card as pci-0000:01:00.0");
}

#[test]
fn dozen_is_merged_with_the_card_that_it_translates_to() {
    let dozen = Facts {
        name: "Microsoft Direct3D12 (NVIDIA GeForce RTX 4070 Laptop GPU)".to_owned(),
        driver: "Dozen".to_owned(),
        ..rtx(Api::Vulkan)
    };
    let windows_box = [dozen.clone(), rtx(Api::Vulkan), at("0000:01:00.0", rtx(Api::Dx12))];
    let entries = select(&windows_box, &windows());
    assert_eq!(used(&entries), ["pci-0000:01:00.0"]);
    // Native Vulkan alone also has precedence over it; without both (WSL) it is used.
    let native = select(&[dozen.clone(), at("0000:01:00.0", rtx(Api::Vulkan))], &linux());
    assert_eq!(used(&native), ["pci-0000:01:00.0"]);
    assert_eq!(reason(&native, "vulkan-10de-2860-0"), "same card as pci-0000:01:00.0");
    assert_eq!(used(&select(&[dozen], &linux())), ["vulkan-10de-2860-0"]);
}

#[test]
fn a_driver_listed_twice_stays_two_adapters_of_its_api() {
    // Not merged on purpose: the adapters look like two equal cards, and hiding a card would be
    // worse.
    let twice = [at("0000:01:00.0", rtx(Api::Vulkan)), at("0000:01:00.0", rtx(Api::Vulkan))];
    assert_eq!(used(&select(&twice, &linux())), ["pci-0000:01:00.0", "pci-0000:01:00.0-1"]);
    // If a preferred API lists the card once, both are that card.
    let facts = [twice.to_vec(), vec![at("0000:01:00.0", rtx(Api::Dx12))]].concat();
    assert_eq!(used(&select(&facts, &windows())), ["pci-0000:01:00.0"]);
    // The operator can also exclude one of them.
    let exclude = vec!["pci-0000:01:00.0-1".to_owned()];
    let entries = select(&twice, &Rules { exclude, ..linux() });
    assert_eq!(used(&entries), ["pci-0000:01:00.0"]);
}

#[test]
fn four_identical_cards_are_four_adapters() {
    let facts = vec![mi(Api::Metal); 4];
    assert_eq!(used(&select(&facts, &rules(Platform::Apple))).len(), 4);
}

#[test]
fn an_apple_gpu_is_not_the_processor_of_the_same_name() {
    let gpu = card(Api::Metal, Class::Integrated, "Apple M2 Max", 0, 0);
    let cpu = card(Api::Cpu, Class::Cpu, "Apple M2 Max", 0, 0);
    let entries = select(&[cpu, gpu], &rules(Platform::Apple));
    assert_eq!(used(&entries), ["metal-0000-0000-0", CPU_ID]);
    assert_eq!(entries[0].vendor, "Apple");
}

#[test]
fn software_alone_is_listed_and_used_only_when_allowed() {
    let gl = Facts { name: "llvmpipe".to_owned(), vendor_id: 0, ..llvmpipe(Api::Gl) };
    let swift = card(Api::Vulkan, Class::Software, "SwiftShader Device (LLVM)", 0x1ae0, 0xc0de);
    let facts = with_cpu(vec![llvmpipe(Api::Vulkan), swift, gl]);
    let denied = select(&facts, &linux());
    assert_eq!(used(&denied), [CPU_ID]);
    assert!(denied[0].fallback);
    let reason_of = reason(&denied, "vulkan-1ae0-c0de-0");
    assert_eq!(reason_of, "software adapter; set adapters.software = \"allow\" to use it");
    assert_eq!(reason(&denied, "gl-0000-0000-0"), "same card as vulkan-10005-0000-0");
    let allowed = select(&facts, &Rules { software: Software::Allow, ..linux() });
    assert_eq!(used(&allowed), ["vulkan-10005-0000-0", "vulkan-1ae0-c0de-0", CPU_ID]);
    assert!(allowed[2].fallback, "the scheduler, not the list, decides when the CPU joins");
}

#[test]
fn the_cpu_follows_its_rule() {
    let entries = |cpu| select(&with_cpu(Vec::new()), &Rules { cpu, ..linux() });
    assert!(entries(CpuRule::Auto)[0].fallback && entries(CpuRule::Auto)[0].bridge);
    assert!(entries(CpuRule::Fallback)[0].fallback && !entries(CpuRule::Fallback)[0].bridge);
    assert!(!entries(CpuRule::Always)[0].fallback);
    assert_eq!(used(&entries(CpuRule::Always)), [CPU_ID]);
    let never = entries(CpuRule::Never);
    assert_eq!(reason(&never, CPU_ID), "the CPU is switched off by config (adapters.cpu)");
}

#[test]
fn config_can_name_what_to_use() {
    let exclude = vec!["pci-0000:00:02.0".to_owned()];
    let entries = select(&hybrid_laptop(), &Rules { exclude, ..linux() });
    assert_eq!(used(&entries), ["pci-0000:01:00.0"]);
    assert!(reason(&entries, "pci-0000:00:02.0").starts_with("excluded by config"));
    let only = vec!["pci-0000:00:02.0".to_owned()];
    let entries = select(&with_cpu(hybrid_laptop()), &Rules { only, ..linux() });
    assert_eq!(used(&entries), ["pci-0000:00:02.0", CPU_ID]);
    assert!(reason(&entries, "pci-0000:01:00.0").starts_with("not named in config"));
}

#[test]
fn an_excluded_card_does_not_come_back_over_another_api() {
    let facts = [at("0000:01:00.0", rtx(Api::Dx12)), rtx(Api::Vulkan)];
    let exclude = vec!["pci-0000:01:00.0".to_owned()];
    assert!(used(&select(&facts, &Rules { exclude, ..windows() })).is_empty());
    // The other API is used if its id is named.
    let only = vec!["vulkan-10de-2860-0".to_owned()];
    let entries = select(&facts, &Rules { only, ..windows() });
    assert_eq!(used(&entries), ["vulkan-10de-2860-0"]);
    assert_eq!(reason(&entries, "pci-0000:01:00.0"), "same card as vulkan-10de-2860-0");
}

#[test]
fn ids_in_config_that_no_adapter_has_are_found() {
    let only = vec!["pci-0000:01:00.0".to_owned(), "pci-0000:09:00.0".to_owned()];
    let rules = Rules { only, ..linux() };
    let entries = select(&hybrid_laptop(), &rules);
    assert_eq!(unknown_ids(&entries, &rules.only), ["pci-0000:09:00.0"]);
}

#[test]
fn an_adapter_with_too_little_memory_is_not_used() {
    let memory = MemoryLimits { max_storage_binding_bytes: 8 << 20, ..rtx(Api::Gl).memory };
    let small = Facts { memory, ..rtx(Api::Vulkan) };
    let entries = select(std::slice::from_ref(&small), &linux());
    let expected = "too little memory: buffers of 8 MiB at most, 32 MiB needed";
    assert_eq!(reason(&entries, "vulkan-10de-2860-0"), expected);
    // The same card over an API that allows enough is used there.
    let entries = select(&[small, rtx(Api::Dx12)], &rules(Platform::Other));
    assert_eq!(used(&entries), ["dx12-10de-2860-0"]);
}

#[test]
fn gl_is_used_only_when_it_is_on() {
    let facts = [card(Api::Gl, Class::Integrated, "V3D 4.2", 0x14e4, 0)];
    let entries = select(&facts, &linux());
    assert!(reason(&entries, "gl-14e4-0000-0").starts_with("OpenGL is off"));
    assert_eq!(used(&select(&facts, &Rules { gl: true, ..linux() })), ["gl-14e4-0000-0"]);
}

/// A random machine with few different values, so that equal adapters are common.
fn any_facts() -> impl Strategy<Value = Facts> {
    let apis = [Api::Vulkan, Api::Vulkan, Api::Metal, Api::Dx12, Api::Gl];
    let names = ["A", "a (x)", "B", "Microsoft Direct3D12 (A)", "llvmpipe"];
    let classes = [Class::Discrete, Class::Integrated, Class::Software];
    let pci = proptest::option::of(prop::sample::select(vec!["0000:01:00.0", "0000:02:00.0"]));
    (
        prop::sample::select(apis.to_vec()),
        prop::sample::select(classes.to_vec()),
        prop::sample::select(names.to_vec()),
        0_u32..3,
        0_u32..2,
        pci,
        prop::sample::select(vec![1_u64 << 20, 4 << 30]),
    )
        .prop_map(|(api, class, name, vendor, device, pci, bytes)| {
            let mut facts = card(api, class, name, vendor, device);
            facts.pci = pci.map(str::to_owned);
            facts.memory.max_buffer_bytes = bytes;
            facts
        })
}

fn any_platform() -> impl Strategy<Value = Platform> {
    prop::sample::select(vec![Platform::Windows, Platform::Apple, Platform::Other])
}

proptest! {
    #[test]
    fn ids_are_unique_and_contain_their_api(
        facts in prop::collection::vec(any_facts(), 0..12), platform in any_platform(),
    ) {
        let ids = identify(&facts, platform);
        prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), facts.len());
        for (id, facts) in ids.iter().zip(&facts) {
            prop_assert_eq!(api_of(id, platform), Some(facts.api));
        }
    }

    #[test]
    fn a_worker_that_enumerates_one_api_finds_the_same_ids(
        facts in prop::collection::vec(any_facts(), 0..12), platform in any_platform(),
    ) {
        let all = identify(&facts, platform);
        for api in [Api::Vulkan, Api::Metal, Api::Dx12, Api::Gl] {
            let of_api = |facts: &&Facts| facts.api == api;
            let alone: Vec<Facts> = facts.iter().filter(of_api).cloned().collect();
            let ids = facts.iter().zip(&all).filter(|(facts, _)| facts.api == api);
            let expected: Vec<String> = ids.map(|(_, id)| id.clone()).collect();
            prop_assert_eq!(identify(&alone, platform), expected);
        }
    }

    #[test]
    fn ids_do_not_depend_on_the_enumeration_order(
        (facts, shuffled) in prop::collection::vec(any_facts(), 0..10)
            .prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle())),
        platform in any_platform(),
    ) {
        let pairs = |facts: &[Facts]| {
            let named = identify(facts, platform).into_iter();
            let mut pairs: Vec<_> = named.zip(facts.iter().map(|f| format!("{f:?}"))).collect();
            pairs.sort();
            pairs
        };
        prop_assert_eq!(pairs(&facts), pairs(&shuffled));
        prop_assert_eq!(select(&facts, &rules(platform)), select(&shuffled, &rules(platform)));
    }

    #[test]
    fn every_adapter_is_listed_once_and_no_card_disappears(
        facts in prop::collection::vec(any_facts(), 0..12), platform in any_platform(),
    ) {
        let rules = Rules {
            software: Software::Allow, gl: true, min_buffer_bytes: 0, ..rules(platform)
        };
        let entries = select(&facts, &rules);
        let listed: BTreeSet<String> = entries.iter().map(|entry| entry.id.clone()).collect();
        prop_assert_eq!(&listed, &identify(&facts, platform).into_iter().collect());
        prop_assert_eq!(entries.len(), facts.len());
        for entry in &entries {
            prop_assert_eq!(entry.reason.is_some(), entry.state == Usability::Unused);
            if let Some(id) = entry.reason.as_deref().and_then(|r| r.strip_prefix("same card as ")) {
                let leader = entries.iter().find(|other| other.id == id);
                prop_assert_eq!(leader.map(|other| other.state), Some(Usability::Usable));
            }
        }
    }
}
