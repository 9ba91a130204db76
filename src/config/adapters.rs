//! Settings of adapters: their selection, their number, and their known properties.

use super::set;
use adapter::entry::Watts;
use adapter::select::{CpuRule, Rules, Software};
use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use schedule::{Goal, Policy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A limit above the power and the energy of any part of a workstation.
const WATTS_MAX: f64 = 1e6;
/// Maximum number of characters of an adapter's name.
const NAME_MAX: usize = 64;

/// The selection of adapters; shared by `serve` and `adapters`.
#[derive(Args, Clone, Debug, Default)]
pub struct AdapterArgs {
    /// Use software adapters such as llvmpipe: `deny` or `allow`
    #[arg(long, env = "CONCERTINA_SOFTWARE_ADAPTERS", value_name = "WHEN")]
    pub software_adapters: Option<Software>,
    /// Use the CPU: `auto` (while other adapters start), `fallback` (while no other adapter is
    /// usable), `always` or `never`
    #[arg(long, env = "CONCERTINA_CPU", value_name = "WHEN")]
    pub cpu: Option<CpuRule>,
    /// Use OpenGL adapters
    #[arg(long, env = "CONCERTINA_GL", value_name = "BOOL")]
    pub gl: Option<bool>,
    /// Use only this adapter; may be given several times
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    /// Do not use this adapter; may be given several times
    #[arg(long, value_name = "ID")]
    pub exclude: Vec<String>,
}

/// The selection of adapters, and the number of them that are on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adapters {
    /// Adapters that stay on without any load; 0 allows all to be turned off.
    pub min: usize,
    /// Adapters that may be on.
    pub max: usize,
    /// The policy that determines how many are on.
    pub policy: PolicyName,
    /// All but `concurrency`: the fixed cost of each start in addition to its energy, in joules.
    pub start_penalty_joules: f64,
    /// All but `concurrency`: the penalty for a request that is late because of a start, in joules.
    /// An idle adapter stays on until idling has cost as much as this and a start.
    pub late_penalty_joules: f64,
    /// All but `concurrency`: true if adapters are started ahead of clients that send requests
    /// regularly.
    pub start_ahead: bool,
    /// All but `concurrency`: starts of one adapter per hour, so that drivers are not cycled
    /// without benefit. If no other adapter is on, one more is always allowed. The default is twice
    /// the maximum of the measured traces (305, at a target of 2 s), and equals ten minutes of
    /// starting in an hour.
    pub starts_per_hour_max: u32,
    /// Policy `concurrency`: outstanding rows that one adapter should carry.
    pub target_rows: u64,
    /// Policy `concurrency`: duration of a surplus before one adapter is turned off.
    #[serde(with = "humantime_serde")]
    pub scale_down_delay: Duration,
    /// Policy `concurrency`: the same for the last adapter that is on.
    #[serde(with = "humantime_serde")]
    pub scale_to_zero_delay: Duration,
    /// Use of software adapters such as llvmpipe: `deny` or `allow`.
    pub software: Software,
    /// Use of the CPU: `auto` (while other adapters start), `fallback` (while no other adapter is
    /// usable), `always` or `never`.
    pub cpu: CpuRule,
    /// Threads of the CPU adapter; 0 means all.
    pub cpu_threads: usize,
    /// Use of OpenGL adapters.
    pub gl: bool,
    /// Ids of the adapters to use; all if empty.
    pub only: Vec<String>,
    /// Ids of adapters not to use.
    pub exclude: Vec<String>,
    /// Names of adapters, by their ids; the driver's name is used for the others.
    pub name: BTreeMap<String, String>,
    /// Power of an adapter above its power when it is off, by its id; estimated by class if it is
    /// not given.
    pub power: BTreeMap<String, Watts>,
    /// Bytes of an adapter's memory that models may use, by its id; if it is not given, four fifths
    /// of the memory that the platform reports.
    pub memory: BTreeMap<String, u64>,
}

/// The elastic policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// Prefers short answer times.
    Latency,
    /// As few adapters as meet the latency targets; those that are on answer at once.
    #[default]
    Balanced,
    /// The least energy that meets the latency targets: rows wait to be batched as long as they
    /// may.
    Energy,
    /// A fixed number of outstanding rows per adapter.
    Concurrency,
}

impl Default for Adapters {
    fn default() -> Adapters {
        Adapters {
            min: 0,
            max: 64,
            policy: PolicyName::Balanced,
            start_penalty_joules: 2.0,
            late_penalty_joules: 750.0,
            start_ahead: true,
            starts_per_hour_max: 600,
            target_rows: 2,
            scale_down_delay: Duration::from_secs(10),
            scale_to_zero_delay: Duration::from_secs(60),
            software: Software::Deny,
            cpu: CpuRule::Auto,
            cpu_threads: 0,
            gl: false,
            only: Vec::new(),
            exclude: Vec::new(),
            name: BTreeMap::new(),
            power: BTreeMap::new(),
            memory: BTreeMap::new(),
        }
    }
}

impl Adapters {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Adapters { min, max, target_rows, ref only, ref exclude, .. } = *self;
        ensure!(max >= 1, "adapters.max is 0, so that no adapter could serve; set it to 1 or more");
        ensure!(min <= max, "adapters.min is {min}, but adapters.max is {max}");
        ensure!(target_rows >= 1, "adapters.target_rows is 0; set it to 1 or more");
        ensure!(
            self.starts_per_hour_max >= 1,
            "adapters.starts_per_hour_max is 0; set it to 1 or more"
        );
        ensure!(
            (0.0..=WATTS_MAX).contains(&self.start_penalty_joules),
            "adapters.start_penalty_joules must be between 0 and {WATTS_MAX} joules"
        );
        ensure!(
            (0.0..=WATTS_MAX).contains(&self.late_penalty_joules),
            "adapters.late_penalty_joules must be between 0 and {WATTS_MAX} joules"
        );
        if let Some(id) = only.iter().find(|id| exclude.contains(id)) {
            bail!("adapter '{id}' is named in both adapters.only and adapters.exclude");
        }
        for (id, name) in &self.name {
            let is_plain = !name.trim().is_empty() && !name.chars().any(char::is_control);
            ensure!(
                is_plain && name.chars().count() <= NAME_MAX,
                "adapters.name.'{id}' must have 1 to {NAME_MAX} printable characters"
            );
        }
        for (id, watts) in &self.power {
            for (name, value) in
                [("idle", watts.idle), ("active", watts.active), ("start", watts.start)]
            {
                ensure!(
                    (0.0..=WATTS_MAX).contains(&value),
                    "adapters.power.'{id}'.{name} must be between 0 and {WATTS_MAX} watts"
                );
            }
        }
        Ok(())
    }

    /// The elastic policy with its numbers.
    pub fn policy(&self) -> Policy {
        // The check ensures that both are neither negative nor too large for the conversion.
        let price_mj = (self.start_penalty_joules * 1000.0) as u64;
        let late_penalty_mj = (self.late_penalty_joules * 1000.0) as u64;
        let starts_per_hour = self.starts_per_hour_max;
        let cost = |goal| Policy::Cost { goal, price_mj, late_penalty_mj, starts_per_hour };
        match self.policy {
            PolicyName::Latency => cost(Goal::Latency),
            PolicyName::Balanced => cost(Goal::Balanced),
            PolicyName::Energy => cost(Goal::Energy),
            PolicyName::Concurrency => Policy::Concurrency {
                target: self.target_rows,
                scale_down_delay: self.scale_down_delay,
                scale_to_zero_delay: self.scale_to_zero_delay,
            },
        }
    }

    /// Applies the values of the command line.
    pub fn apply(&mut self, args: &AdapterArgs) {
        set(&mut self.software, args.software_adapters);
        set(&mut self.cpu, args.cpu);
        set(&mut self.gl, args.gl);
        set(&mut self.only, Some(args.only.clone()).filter(|ids| !ids.is_empty()));
        set(&mut self.exclude, Some(args.exclude.clone()).filter(|ids| !ids.is_empty()));
    }

    /// Returns these settings as rules for the selection among the listed adapters.
    pub fn rules(&self) -> Rules {
        Rules {
            software: self.software,
            gl: self.gl,
            cpu: self.cpu,
            only: self.only.clone(),
            exclude: self.exclude.clone(),
            ..Rules::default()
        }
    }

    /// Returns these settings as arguments of `concertina adapters`.
    pub fn as_arguments(&self) -> Vec<String> {
        let software = if self.software == Software::Allow { "allow" } else { "deny" };
        let cpu = match self.cpu {
            CpuRule::Auto => "auto",
            CpuRule::Fallback => "fallback",
            CpuRule::Always => "always",
            CpuRule::Never => "never",
        };
        let mut arguments = vec![
            format!("--software-adapters={software}"),
            format!("--cpu={cpu}"),
            format!("--gl={}", self.gl),
        ];
        arguments.extend(self.only.iter().map(|id| format!("--only={id}")));
        arguments.extend(self.exclude.iter().map(|id| format!("--exclude={id}")));
        arguments
    }
}
