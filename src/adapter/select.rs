//! Selection of the adapters to use, each card once, with reasons for the others. Pure.

use crate::entry::{AdapterEntry, Api, Class, Usability};
use crate::identity::{
    Facts, Platform, by_content, identify, is_dozen, normalised_name, vendor_of,
};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Default of the smallest buffer that an adapter must allow: burn keeps each tensor in
/// one buffer, and below this not even a small network's weights fit.
pub const MIN_BUFFER_BYTES_DEFAULT: u64 = 32 << 20;

/// Permission to use software rasterizers (lavapipe, SwiftShader, WARP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Software {
    #[default]
    Deny,
    Allow,
}

/// The rule for the use of burn's CPU backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CpuRule {
    /// While other adapters start, for the models that it answers within their targets; for other
    /// models only while no other adapter can serve.
    #[default]
    Auto,
    /// Only while no other adapter can serve, as decided by the scheduler.
    Fallback,
    Always,
    Never,
}

/// The validated rules of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub platform: Platform,
    pub software: Software,
    /// True if OpenGL adapters may be used.
    pub gl: bool,
    pub cpu: CpuRule,
    /// Ids of the only graphics adapters to use; empty means all. `cpu` applies to the CPU.
    pub only: Vec<String>,
    /// Ids of adapters not to use. An excluded card is not used over another API either.
    pub exclude: Vec<String>,
    /// Smallest buffer and storage binding that an adapter must allow.
    pub min_buffer_bytes: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            platform: Platform::current(),
            software: Software::default(),
            gl: false,
            cpu: CpuRule::default(),
            only: Vec::new(),
            exclude: Vec::new(),
            min_buffer_bytes: MIN_BUFFER_BYTES_DEFAULT,
        }
    }
}

/// One entry per given adapter: the used ones first, then those not used, with their reasons.
///
/// Within both halves the order is by class (discrete first), then by id. The fallback flag of the
/// CPU under [`CpuRule::Auto`] and [`CpuRule::Fallback`] does not depend on what else there is: the
/// scheduler decides when it joins.
pub fn select(facts: &[Facts], rules: &Rules) -> Vec<AdapterEntry> {
    let ids = identify(facts, rules.platform);
    let leaders = leaders(facts, &ids, rules);
    let mut entries: Vec<AdapterEntry> = (0..facts.len())
        .map(|index| {
            let leader = leaders[index];
            let reason = if leader == index {
                unused_reason(&facts[index], &ids[index], rules)
            } else {
                Some(format!("same card as {}", ids[leader]))
            };
            entry(&facts[index], &ids[index], reason, rules)
        })
        .collect();
    entries.sort_by(|a, b| {
        let key = |e: &AdapterEntry| (e.state == Usability::Unused, e.class);
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    entries
}

fn entry(facts: &Facts, id: &str, reason: Option<String>, rules: &Rules) -> AdapterEntry {
    AdapterEntry {
        id: id.to_owned(),
        name: facts.name.clone(),
        api: facts.api,
        class: facts.class,
        vendor: vendor_of(facts),
        vendor_id: facts.vendor_id,
        device_id: facts.device_id,
        pci: facts.pci.clone(),
        driver: facts.driver.clone(),
        driver_info: facts.driver_info.clone(),
        memory: facts.memory,
        memory_bytes: facts.memory_bytes,
        state: if reason.is_none() { Usability::Usable } else { Usability::Unused },
        reason,
        fallback: facts.api == Api::Cpu && matches!(rules.cpu, CpuRule::Auto | CpuRule::Fallback),
        bridge: facts.api == Api::Cpu && rules.cpu == CpuRule::Auto,
        unreachable: false,
        probe: None,
    }
}

/// The reason why the adapter that represents its card is not used; `None` if it is used.
fn unused_reason(facts: &Facts, id: &str, rules: &Rules) -> Option<String> {
    let named = |ids: &[String]| ids.iter().any(|other| other == id);
    if named(&rules.exclude) {
        return Some("excluded by config (adapters.exclude)".to_owned());
    }
    if facts.api == Api::Cpu {
        let never = rules.cpu == CpuRule::Never;
        return never.then(|| "the CPU is switched off by config (adapters.cpu)".to_owned());
    }
    if !rules.only.is_empty() && !named(&rules.only) {
        return Some("not named in config (adapters.only)".to_owned());
    }
    if facts.class == Class::Software && rules.software == Software::Deny {
        return Some("software adapter; set adapters.software = \"allow\" to use it".to_owned());
    }
    unfit(facts, rules)
}

/// The reason why an adapter cannot serve even if the rules allow it.
fn unfit(facts: &Facts, rules: &Rules) -> Option<String> {
    if facts.api == Api::Gl && !rules.gl {
        return Some("OpenGL is off; set adapters.gl = true to use it".to_owned());
    }
    let largest = facts.memory.max_buffer_bytes.min(facts.memory.max_storage_binding_bytes);
    (largest < rules.min_buffer_bytes).then(|| {
        let (have, need) = (mib(largest), mib(rules.min_buffer_bytes));
        format!("too little memory: buffers of {have} MiB at most, {need} MiB needed")
    })
}

fn mib(bytes: u64) -> String {
    let value = bytes as f64 / f64::from(1 << 20);
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// For each adapter the one that represents its card: one that the operator named, else one that
/// can serve, else the one over the best API.
fn leaders(facts: &[Facts], ids: &[String], rules: &Rules) -> Vec<usize> {
    let mut leaders = vec![0; facts.len()];
    for card in cards(facts, rules.platform) {
        let best = card.iter().copied().min_by_key(|&index| {
            let chosen = rules.only.contains(&ids[index]);
            let unfit = unfit(&facts[index], rules).is_some();
            (Reverse(chosen), unfit, rank(&facts[index], rules.platform))
        });
        for &index in &card {
            leaders[index] = best.unwrap_or(index);
        }
    }
    leaders
}

/// Preference of an adapter's API; a translation layer comes after every native API but GL.
fn rank(facts: &Facts, platform: Platform) -> u8 {
    const DOZEN: u8 = 4;
    if is_dozen(facts) { DOZEN } else { platform.rank(facts.api) }
}

/// Groups adapters into cards, from the best API to the worst. Adapters of one API are never
/// merged: two equal cards look exactly like one card that is listed twice.
fn cards(facts: &[Facts], platform: Platform) -> Vec<Vec<usize>> {
    let mut cards: Vec<Vec<usize>> = Vec::new();
    let mut rest = by_content(facts);
    rest.sort_by_key(|&index| rank(&facts[index], platform));
    for layer in rest.chunk_by(|&a, &b| rank(&facts[a], platform) == rank(&facts[b], platform)) {
        add_layer(facts, layer, &mut cards);
    }
    cards
}

/// Adds one API's adapters to the cards of better APIs, by address first, then by likeness.
fn add_layer(facts: &[Facts], layer: &[usize], cards: &mut Vec<Vec<usize>>) {
    let older = cards.len();
    let mut homes: Vec<Option<usize>> = vec![None; layer.len()];
    for (slot, &index) in layer.iter().enumerate() {
        let same = |card: usize| same_address(&facts[cards[card][0]], &facts[index]);
        let free = |card: usize| !homes.contains(&Some(card));
        // If two cards have the same address (DX12 repeats one), each is assigned to another card
        // first.
        homes[slot] = (0..older)
            .find(|&card| same(card) && free(card))
            .or_else(|| (0..older).find(|&card| same(card)));
    }
    for (slot, &index) in layer.iter().enumerate() {
        if homes[slot].is_none() {
            let free = |card: usize| !homes.contains(&Some(card));
            let alike = |card: usize| likely_same(facts, cards[card][0], index);
            homes[slot] = (0..older).find(|&card| free(card) && alike(card));
        }
    }
    for (&index, home) in layer.iter().zip(homes) {
        match home {
            Some(card) => cards[card].push(index),
            None => cards.push(vec![index]),
        }
    }
}

fn same_address(a: &Facts, b: &Facts) -> bool {
    a.pci.is_some() && a.pci == b.pci
}

/// True for equal models, unless their addresses prove that they are different cards.
fn likely_same(facts: &[Facts], a: usize, b: usize) -> bool {
    let proven = |index: usize| facts[index].pci.is_some() && !address_repeated(facts, index);
    let different = proven(a) && proven(b) && facts[a].pci != facts[b].pci;
    !different && same_model(&facts[a], &facts[b])
}

/// True if another adapter of the same API has the same address, which proves nothing then.
fn address_repeated(facts: &[Facts], index: usize) -> bool {
    let claims = |other: &&Facts| {
        other.api == facts[index].api && other.pci == facts[index].pci && !is_dozen(other)
    };
    facts.iter().filter(claims).count() > 1
}

/// True for equal normalised name, vendor and device; a number that the API does not report matches
/// any.
///
/// The processor is not a card, although an Apple processor has the same name as its GPU.
fn same_model(a: &Facts, b: &Facts) -> bool {
    let name = normalised_name(&a.name);
    let graphics = a.api != Api::Cpu && b.api != Api::Cpu;
    let unknown = |facts: &Facts, id: u32| id == 0 && matches!(facts.api, Api::Gl | Api::Metal);
    let agree = |x: u32, y: u32| x == y || unknown(a, x) || unknown(b, y);
    graphics
        && !name.is_empty()
        && name == normalised_name(&b.name)
        && agree(a.vendor_id, b.vendor_id)
        && agree(a.device_id, b.device_id)
}
