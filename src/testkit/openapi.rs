//! Access of tests to the served OpenAPI description.

use super::{Response, Server};
use serde_json::Value;

/// One method of one path.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: String,
    /// The path with its parameters in braces.
    pub path: String,
    /// The scopes of which a key needs one; empty if no key is required.
    pub scopes: Vec<String>,
    pub described: Value,
}

/// Returns the served description.
#[track_caller]
pub fn document(server: &Server, headers: &[(&str, &str)]) -> Value {
    server.send("GET", "/openapi.json", headers, b"").json()
}

/// Returns every operation, in the order of the paths.
pub fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let methods = item.as_object().expect("an object").iter();
        for (method, described) in methods.filter(|(method, _)| *method != "parameters") {
            let (method, path) = (method.to_uppercase(), path.clone());
            let scopes = scopes(described);
            found.push(Operation { method, path, scopes, described: described.clone() });
        }
    }
    found
}

/// Returns the accepted scopes, which are the same for every way to send a key.
fn scopes(described: &Value) -> Vec<String> {
    let ways = described["security"].as_array().expect("each operation states its security");
    let of = |name: &str| {
        let scopes = ways.iter().filter_map(|way| way[name][0].as_str());
        scopes.map(str::to_owned).collect::<Vec<_>>()
    };
    let (bearer, header) = (of("bearer"), of("apiKey"));
    assert_eq!(bearer, header, "{described}");
    assert_eq!(bearer.len() + header.len(), ways.len(), "{described}");
    bearer
}

impl Operation {
    /// Returns the path with its parameters replaced.
    pub fn filled(&self, model: &str, version: &str, adapter: &str) -> String {
        let path = self.path.replace("{model}", model).replace("{version}", version);
        path.replace("{adapter}", adapter)
    }

    pub fn has(&self, parameter: &str) -> bool {
        self.path.contains(&format!("{{{parameter}}}"))
    }

    /// Fails unless the description contains this answer.
    #[track_caller]
    pub fn check(&self, document: &Value, response: &Response) {
        let exchange = format!("{} {}: {}", self.method, self.path, response.status);
        let answer = &self.described["responses"][response.status.to_string()];
        assert!(!answer.is_null(), "{exchange} is not described: {}", response.text());
        let answer = super::schema::resolve(document, answer);
        for (name, header) in answer["headers"].as_object().into_iter().flatten() {
            let is_sent = response.header(&name.to_lowercase()).is_some();
            assert!(is_sent || header["required"] != true, "{exchange}: no header {name}");
        }
        let given = response.header("content-type");
        let essence = given.map(|given| given.split(';').next().unwrap_or_default().trim());
        let Some(content) = answer["content"].as_object() else {
            return assert!(essence.is_none() && response.body.is_empty(), "{exchange}: {given:?}");
        };
        let content = essence.and_then(|essence| content.get(essence));
        let content = content.unwrap_or_else(|| panic!("{exchange}: {given:?} is not described"));
        if essence == Some("application/json") {
            let checked = super::schema::check(document, &content["schema"], &response.json());
            checked.unwrap_or_else(|wrong| panic!("{exchange}: {wrong}\n{}", response.text()));
        }
    }
}
