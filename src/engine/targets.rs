//! Texts about latency targets that no adapter can meet.

use schedule::{ModelId, Scheduler};
use std::time::Duration;

/// The text for page and log about a model that no adapter answers within its target, according to
/// the measurements; `None` if an adapter does.
pub(crate) fn unmet(scheduler: &Scheduler, model: ModelId) -> Option<String> {
    let (target, aim) = (scheduler.target(model)?, scheduler.effective_target(model));
    let best = scheduler.best(model).filter(|_| aim > target)?;
    Some(text(target, best, aim))
}

fn text(target: Duration, best: Duration, aim: Duration) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let begin = if best > target {
        format!(
            "{:.0} ms cannot be met here: the fastest adapter takes {:.0} ms",
            ms(target),
            ms(best)
        )
    } else {
        format!(
            "{:.0} ms can hardly be met here: the fastest adapter takes {:.0} ms",
            ms(target),
            ms(best)
        )
    };
    format!("{begin}; aiming at {:.0} ms", ms(aim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_the_fastest_adapter_and_the_aim_are_named() {
        let ms = Duration::from_millis;
        let message = text(ms(100), ms(150), ms(188));
        assert_eq!(
            message,
            "100 ms cannot be met here: the fastest adapter takes 150 ms; aiming at 188 ms"
        );
        assert!(text(ms(100), ms(90), ms(113)).starts_with("100 ms can hardly be met here: "));
    }
}
