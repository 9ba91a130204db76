//! Conversion of errors of graphs to those of models and of files: the kind states the origin of
//! the fault.

use crate::ModelError;
use crate::files::Detail;
use graph::{FailureKind, OnnxError};

/// Converts the error of a run for a request.
impl From<OnnxError> for ModelError {
    fn from(error: OnnxError) -> ModelError {
        let text = error.to_string();
        match error.kind {
            FailureKind::Internal => ModelError::Broken(text),
            // The load passed without this error, so the shapes of the request caused it.
            FailureKind::Unsupported | FailureKind::Invalid => ModelError::Input(text),
            FailureKind::Input | FailureKind::Limit => ModelError::Input(text),
            FailureKind::Device => ModelError::Device(text),
            FailureKind::Memory => ModelError::Memory(text),
            FailureKind::Machine => ModelError::Machine(text),
        }
    }
}

/// Converts the error of a load, which no request can have caused.
pub fn of_load(error: OnnxError) -> ModelError {
    match error.into() {
        ModelError::Input(text) => ModelError::Broken(text),
        other => other,
    }
}

impl From<OnnxError> for Detail {
    fn from(error: OnnxError) -> Detail {
        match error.kind {
            FailureKind::Machine => Detail::machine(error.to_string()),
            _ => error.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn kind_of_an_error_states_the_origin_of_the_fault() {
        let text = || "why".to_owned();
        for (error, at_load, for_request) in [
            (OnnxError::unsupported("why"), ModelError::Broken(text()), ModelError::Input(text())),
            (OnnxError::invalid("why"), ModelError::Broken(text()), ModelError::Input(text())),
            (OnnxError::internal("why"), ModelError::Broken(text()), ModelError::Broken(text())),
            (OnnxError::input("why"), ModelError::Broken(text()), ModelError::Input(text())),
            (OnnxError::limit("why"), ModelError::Broken(text()), ModelError::Input(text())),
            (OnnxError::device("why"), ModelError::Device(text()), ModelError::Device(text())),
            (OnnxError::machine("why"), ModelError::Machine(text()), ModelError::Machine(text())),
        ] {
            assert_eq!(ModelError::from(error.clone()), for_request, "{error:?}");
            assert_eq!(of_load(error.clone()), at_load, "{error:?}");
        }
        let full = OnnxError::device("out of device memory");
        let memory = ModelError::Memory("out of device memory".to_owned());
        assert_eq!(ModelError::from(full.clone()), memory);
        assert_eq!(of_load(full), memory);
    }
}
