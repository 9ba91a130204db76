//! Distinct names of adapters, since drivers give two equal cards the same name.

use crate::entry::AdapterEntry;
use std::collections::BTreeMap;

/// Makes names distinct. Adapters in `given` (by id) get the name there. Equal names of one
/// graphics API get the bus and device of the PCI address as a suffix, or a number in the order of
/// ids if the address is unknown. Other APIs list the same cards again, under the same names.
pub fn distinguish(entries: &mut [AdapterEntry], given: &BTreeMap<String, String>) {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        groups.entry((entry.api, entry.name.clone())).or_default().push(at);
    }
    for mut group in groups.into_values().filter(|group| group.len() > 1) {
        group.sort_by(|a, b| id_of(entries, *a).cmp(id_of(entries, *b)));
        let places: Vec<String> = group.iter().filter_map(|at| place(entries.get(*at)?)).collect();
        let is_distinct = places.len() == group.len()
            && places
                .iter()
                .all(|place| places.iter().filter(|other| *other == place).count() == 1);
        for (number, at) in group.into_iter().enumerate() {
            let Some(entry) = entries.get_mut(at) else { continue };
            match places.get(number).filter(|_| is_distinct) {
                Some(place) => entry.name.push_str(&format!(" · {place}")),
                None => entry.name.push_str(&format!(" #{}", number + 1)),
            }
        }
    }
    for entry in entries {
        if let Some(name) = given.get(&entry.id) {
            entry.name.clone_from(name);
        }
    }
}

fn id_of(entries: &[AdapterEntry], at: usize) -> &str {
    entries.get(at).map_or("", |entry| &entry.id)
}

/// Bus and device of `0000:01:00.0`: `01:00`.
fn place(entry: &AdapterEntry) -> Option<String> {
    let (bus, _function) = entry.pci.as_deref()?.rsplit_once('.')?;
    let (_domain, place) = bus.split_once(':')?;
    Some(place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{Rules, select};
    use crate::test_machines::{hybrid_laptop, with_cpu};

    fn names(entries: &[AdapterEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// Two cards of one kind, with these addresses.
    fn twins(addresses: [Option<&str>; 2]) -> Vec<AdapterEntry> {
        let mut facts = hybrid_laptop();
        for (facts, address) in facts.iter_mut().zip(addresses) {
            facts.name = "RTX 3090".to_owned();
            facts.pci = address.map(str::to_owned);
        }
        facts[1].vendor_id = facts[0].vendor_id;
        facts[1].device_id = facts[0].device_id;
        select(&with_cpu(facts), &Rules::default())
    }

    #[test]
    fn equal_cards_are_distinguished_by_address_or_number() {
        let mut entries = twins([Some("0000:01:00.0"), Some("0000:41:00.0")]);
        distinguish(&mut entries, &BTreeMap::new());
        let text = names(&entries);
        assert!(
            text.contains(&"RTX 3090 · 01:00") && text.contains(&"RTX 3090 · 41:00"),
            "{text:?}"
        );
        let mut entries = twins([None, None]);
        distinguish(&mut entries, &BTreeMap::new());
        let text = names(&entries);
        assert!(text.contains(&"RTX 3090 #1") && text.contains(&"RTX 3090 #2"), "{text:?}");
        // Two functions of one device.
        let mut entries = twins([Some("0000:01:00.0"), Some("0000:01:00.1")]);
        distinguish(&mut entries, &BTreeMap::new());
        assert!(names(&entries).contains(&"RTX 3090 #2"), "{entries:?}");
    }

    #[test]
    fn unique_card_keeps_its_name_unless_the_operator_gives_one() {
        let mut entries = select(&with_cpu(hybrid_laptop()), &Rules::default());
        let before = entries.clone();
        distinguish(&mut entries, &BTreeMap::new());
        assert_eq!(entries, before);
        let given = BTreeMap::from([(entries[0].id.clone(), "left".to_owned())]);
        distinguish(&mut entries, &given);
        assert_eq!(entries[0].name, "left");
        assert_eq!(entries[1..], before[1..]);
    }
}
