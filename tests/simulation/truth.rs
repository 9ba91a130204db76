//! True speeds of adapters and sizes of models, which the scheduler has to estimate.

use crate::rng::Rng;
use crate::world::World;
use schedule::*;
use std::time::Duration;

impl World {
    /// Returns the settings of this world: both policies, small limits.
    pub(crate) fn settings(rng: &mut Rng) -> Settings {
        let policy = if rng.percent(50) {
            Policy::Concurrency {
                target: 1 + rng.below(8),
                scale_down_delay: rng.ms(1, 300),
                scale_to_zero_delay: rng.ms(1, 600),
            }
        } else {
            let starts_per_hour = [1000, 1000, 2 + rng.below(4) as u32][rng.below(3) as usize];
            Policy::Cost {
                goal: [Goal::Latency, Goal::Balanced, Goal::Energy][rng.below(3) as usize],
                price_mj: rng.below(2000),
                late_penalty_mj: [0, 1_000, 1_000_000][rng.below(3) as usize],
                starts_per_hour,
            }
        };
        Settings {
            policy,
            min: rng.below(2) as usize,
            max: 1 + rng.below(6) as usize,
            queue_requests_max: 4 + rng.below(60) as usize,
            queue_rows_max: 8 + rng.below(400),
            retries_max: rng.below(4) as u32,
            backoff: rng.ms(1, 100),
            backoff_max: rng.ms(100, 2000),
            early_starts: rng.percent(50),
            quarantine_wait_max: rng.ms(50, 500),
            timeouts: Timeouts {
                heartbeat: rng.ms(150, 300),
                start: rng.ms(250, 400),
                run: rng.ms(500, 900),
                stop: rng.ms(30, 60),
                kill: rng.ms(30, 60),
            },
        }
    }

    pub(crate) fn model(rng: &mut Rng) -> ModelProfile {
        let max_rows = 1 + rng.below(12) as u32;
        ModelProfile {
            max_rows,
            first_rows: max_rows,
            delay: if rng.percent(60) { Duration::ZERO } else { rng.ms(1, 10) },
            slo: rng.ms(5, 300),
            bytes: 10 + rng.below(50),
            row_bytes: 0,
            decoupled: false,
        }
    }

    pub(crate) fn adapter(rng: &mut Rng, role: Role, slots: u32) -> AdapterProfile {
        AdapterProfile {
            rank: if role != Role::Regular { 9 } else { rng.below(3) as u32 },
            role,
            speed: [5, 100, 1000][rng.below(3) as usize],
            cold_start: rng.ms(1, 200),
            power: Power {
                idle_mw: 500 + rng.below(5000),
                active_mw: 1000 + rng.below(50_000),
                start_mw: rng.below(20_000),
            },
            // Some hold one model, some all.
            memory: if rng.percent(40) { Some(60 + rng.below(80)) } else { None },
            slots,
        }
    }

    /// Returns milliseconds of a batch on this adapter; the same pair always yields the same line.
    pub(crate) fn true_line(&self, adapter: AdapterId, model: ModelId) -> (f64, f64) {
        let pair = self.seed.wrapping_mul(31) + u64::from(adapter.0) * 7 + u64::from(model.0);
        let mut rng = Rng::new(pair + 1);
        rng.below(7);
        let slow = [1.0, 1.0, 4.0, 10.0][rng.below(4) as usize];
        (slow * rng.below(5) as f64 * 0.5, slow * (1 + rng.below(6)) as f64 * 0.1)
    }

    /// Returns the duration of this batch.
    pub(crate) fn batch_time(&mut self, adapter: AdapterId, batch: &Batch) -> Duration {
        let (alpha, beta) = self.true_line(adapter, batch.model);
        let slowdown = if self.rng.percent(self.faults.wrong_values) { 5.0 } else { 1.0 };
        let noise = 0.9 + self.rng.below(20) as f64 / 100.0;
        let ms = (alpha + beta * f64::from(batch.rows())) * noise * slowdown;
        Duration::from_micros(100 + (ms * 1000.0) as u64)
    }

    /// Returns the times that the warm-up reports for a model, true or not.
    pub(crate) fn measured(&mut self, adapter: AdapterId, model: ModelId) -> Vec<(u32, Duration)> {
        let (alpha, beta) = self.true_line(adapter, model);
        let error_factor = if self.rng.percent(self.faults.wrong_values) { 10.0 } else { 1.0 };
        let most = self.models.get(&model).map_or(1, |model| model.max_rows);
        let time = |rows: u32| {
            let ms = (alpha + beta * f64::from(rows)) * error_factor;
            (rows, Duration::from_micros((ms * 1000.0) as u64))
        };
        vec![time(1), time(most)]
    }
}
