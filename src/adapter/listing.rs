//! The format of the listing that the process which queries the drivers prints for its parent.

use crate::entry::AdapterEntry;
use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Arguments of the process that queries the drivers; those that select adapters follow.
pub const ARGUMENTS: [&str; 2] = ["adapters", "--query-drivers"];

#[derive(Serialize, Deserialize)]
struct Listing<T> {
    adapters: T,
}

/// The listing as one line.
///
/// # Errors
/// Never for entries of a real machine.
pub fn write(entries: &[AdapterEntry]) -> serde_json::Result<String> {
    serde_json::to_string(&Listing { adapters: entries })
}

/// Parses the listing in the output of the process; drivers may print before and after it.
///
/// # Errors
/// If the output contains no valid list.
pub fn read(stdout: &[u8]) -> anyhow::Result<Vec<AdapterEntry>> {
    let text = String::from_utf8_lossy(stdout);
    let json = text.find("{\"adapters\"").or_else(|| text.find('{')).unwrap_or_default();
    let json = text.get(json..).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Listing<_>>();
    let listing = values.next().context("the process that lists adapters printed no list")?;
    Ok(listing.context("failed to parse the list of adapters")?.adapters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{Rules, select};
    use crate::test_machines::{hybrid_laptop, with_cpu};

    #[test]
    fn listing_is_found_between_output_of_drivers() {
        let entries = select(&with_cpu(hybrid_laptop()), &Rules::default());
        let printed = format!("driver {{1}}\n{}\nbye", write(&entries).unwrap());
        assert_eq!(read(printed.as_bytes()).unwrap(), entries);
        assert!(read(b"").unwrap_err().to_string().contains("printed no list"));
        assert!(read(b"{\"adapters\": 3}").unwrap_err().to_string().contains("failed to parse"));
    }
}
