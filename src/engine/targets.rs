//! Latency targets that no adapter here can meet, in words.

use schedule::{ModelId, Scheduler};
use std::time::Duration;

/// What the page and the log say of a model that no adapter here answers within its target, as far
/// as was measured; `None` where one does.
pub(crate) fn unmet(scheduler: &Scheduler, model: ModelId) -> Option<String> {
    let (target, aim) = (scheduler.target(model)?, scheduler.aim(model));
    let best = scheduler.best(model).filter(|_| aim > target)?;
    Some(words(target, best, aim))
}

fn words(target: Duration, best: Duration, aim: Duration) -> String {
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
        let text = words(ms(100), ms(150), ms(188));
        assert_eq!(
            text,
            "100 ms cannot be met here: the fastest adapter takes 150 ms; aiming at 188 ms"
        );
        assert!(words(ms(100), ms(90), ms(113)).starts_with("100 ms can hardly be met here: "));
    }
}
