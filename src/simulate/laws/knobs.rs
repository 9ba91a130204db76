//! Named parameters of laws, written and read as text.

/// Parameters with names.
pub trait Knobs: Copy + Default {
    /// Name, unit and value of each.
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)>;
}

/// Writes the parameters that differ from the default, in brackets.
pub(super) fn write<P: Knobs>(mut params: P) -> String {
    let mut default = P::default();
    let pairs = params.knobs().into_iter().zip(default.knobs());
    let changed = pairs.filter(|(knob, default)| *knob.2 != *default.2);
    let changed: Vec<String> =
        changed.map(|((name, unit, value), _)| format!("{name}={value}{unit}")).collect();
    if changed.is_empty() { String::new() } else { format!("({})", changed.join(",")) }
}

/// Reads the output of `write`, with or without units. `None` for an unknown name, or for a value
/// that is not a number of 0 or more.
pub(super) fn read<P: Knobs>(values: &str) -> Option<P> {
    let mut params = P::default();
    for pair in values.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let knobs = params.knobs();
        let (_, unit, knob) = knobs.into_iter().find(|(known, ..)| *known == name.trim())?;
        let value = value.trim();
        let value: f64 = value.strip_suffix(unit).unwrap_or(value).parse().ok()?;
        *knob = Some(value).filter(|value| value.is_finite() && *value >= 0.0)?;
    }
    Some(params)
}
