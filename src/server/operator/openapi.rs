//! The description of every route (OpenAPI 3.1). `tests/server/openapi.rs` checks it against the
//! routes and their answers.

use crate::context::ApiState;
use crate::http::guard::Head;
use crate::http::respond::{Outcome, document};
use bytes::Bytes;

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(crate) fn openapi(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    Ok(document("application/json", Bytes::from_static(DOCUMENT.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_of_this_version() {
        let described: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
