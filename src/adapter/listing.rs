//! The listing of adapters as it passes from the process that asks the drivers to the one that
//! started it.

use crate::entry::AdapterEntry;
use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Arguments of the process that asks the drivers; those that choose adapters follow.
pub const ARGUMENTS: [&str; 2] = ["adapters", "--query-drivers"];

#[derive(Serialize, Deserialize)]
struct Listing<T> {
    adapters: T,
}

/// The listing as one line.
///
/// # Errors
/// Never for entries that were found on a machine.
pub fn write(entries: &[AdapterEntry]) -> serde_json::Result<String> {
    serde_json::to_string(&Listing { adapters: entries })
}

/// The listing in what the process printed; drivers may print before and behind it.
///
/// # Errors
/// If there is none.
pub fn read(stdout: &[u8]) -> anyhow::Result<Vec<AdapterEntry>> {
    let text = String::from_utf8_lossy(stdout);
    let json = text.find("{\"adapters\"").or_else(|| text.find('{')).unwrap_or_default();
    let json = text.get(json..).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Listing<_>>();
    let listing = values.next().context("the process that lists adapters printed no list")?;
    Ok(listing.context("the list of adapters does not parse")?.adapters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{Rules, select};
    use crate::test_machines::{hybrid_laptop, with_cpu};

    #[test]
    fn a_listing_is_found_between_the_lines_of_drivers() {
        let entries = select(&with_cpu(hybrid_laptop()), &Rules::default());
        let printed = format!("driver {{1}}\n{}\nbye", write(&entries).unwrap());
        assert_eq!(read(printed.as_bytes()).unwrap(), entries);
        assert!(read(b"").unwrap_err().to_string().contains("printed no list"));
        assert!(read(b"{\"adapters\": 3}").unwrap_err().to_string().contains("does not parse"));
    }
}
