//! Rival laws, tuned in hindsight for each cell: of a few dozen settings, the cheapest that serves
//! 99 % in time there, with and without rows waiting for larger batches.

use crate::cells::{ATTAINMENT, Cell, Way};
use schedule::Goal;
use simulate::laws::{Family, Spec};
use simulate::{Outcome, Worst};

/// The families that are tuned: those in the report's targets first.
pub(crate) const TUNED: &[Family] =
    &[Family::Static, Family::Kpa, Family::Ray, Family::Hpa, Family::Idle, Family::Ski];

/// Returns the cheapest setting of a family for this cell and its outcome, if any serves 99 % in
/// time.
pub(crate) fn tuned(cell: &Cell, family: Family) -> Option<(Way, Outcome)> {
    let mut best: Option<(Way, Outcome)> = None;
    for goal in [Goal::Energy, Goal::Balanced] {
        for spec in Spec::grid(family, cell.machines.len()) {
            let way = Way::Law(spec, goal);
            let joules = best.as_ref().map_or(f64::INFINITY, |(_, best)| best.joules);
            let give_up = Worst { late: cell.late_max(), joules };
            let outcome = cell.outcome(&cell.run_within(&way, None, Some(give_up)));
            if outcome.attainment >= ATTAINMENT && outcome.joules < joules {
                best = Some((way, outcome));
            }
        }
    }
    best
}
