//! API keys: what each of them may do. A file holds their SHA-256 alone, so that nobody who reads
//! it, or a backup of it, can use them.
//!
//! Keys are random (`concertina key` makes them), so that a plain hash is enough: a slow one only
//! helps where keys can be guessed.

use crate::operator::current::Current;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::num::NonZero;
use std::path::Path;

/// Bytes of a hash.
const HASH: usize = 32;
/// Random bytes of a key that is made here.
const RANDOM: usize = 32;

/// What a key may do. `infer` includes the description of the models that it may ask, which clients
/// look at first; `admin` includes `read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Ask models, and see their metadata, configuration and readiness.
    Infer,
    /// See metadata, adapters, decisions, metrics and the repository.
    Read,
    /// Turn adapters on and off, change settings, load and unload models, make load, and all of
    /// `read`.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Infer, Scope::Read, Scope::Admin];

    /// True if a key with this scope may do what `other` allows.
    fn includes(self, other: Scope) -> bool {
        self == other || (self == Scope::Admin && other == Scope::Read)
    }

    /// As the file calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Infer => "infer",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

/// A key as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    sha256: String,
    scopes: Vec<Scope>,
    /// The most urgent priority that it may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<NonZero<u32>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<KeyEntry>,
}

#[derive(Debug)]
struct Key {
    hash: [u8; HASH],
    scopes: Vec<Scope>,
    priority: u32,
}

/// Who may come in: everybody, or who has one of these keys.
#[derive(Debug, Default)]
pub struct Keys(Option<Vec<Key>>);

/// Why a key opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// None was sent, and one is needed.
    Missing,
    /// It is none of ours.
    Wrong,
    /// It is, but may not do this.
    Scope,
}

impl Keys {
    /// One key that may do everything, if there is one at all.
    pub fn one(key: Option<&str>) -> Keys {
        let all = |key: &str| Key {
            hash: hash(key.as_bytes()),
            scopes: Scope::ALL.to_vec(),
            priority: 0,
        };
        Keys(key.map(|key| vec![all(key)]))
    }

    /// The keys of a file, and one that may do everything, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read or says something that means nothing.
    pub fn read(path: &Path, key: Option<&str>) -> anyhow::Result<Keys> {
        use anyhow::Context;
        let name = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read the file of API keys {name}"))?;
        let keys = parse(&text).with_context(|| format!("in the file of API keys {name}"))?;
        let one = Keys::one(key).0.unwrap_or_default();
        Ok(Keys(Some(keys.into_iter().chain(one).collect())))
    }

    /// Whether a key is needed.
    pub(crate) fn are_needed(&self) -> bool {
        self.0.is_some()
    }

    /// Checks that this key has one of these scopes. Takes the same time whichever key it is, if any.
    pub(crate) fn check(&self, given: Option<&[u8]>, scopes: &[Scope]) -> Result<(), Denied> {
        let Some(keys) = &self.0 else { return Ok(()) };
        let key = find(keys, given.ok_or(Denied::Missing)?).ok_or(Denied::Wrong)?;
        let is_enough = |scope: &Scope| key.scopes.iter().any(|own| own.includes(*scope));
        if scopes.iter().any(is_enough) { Ok(()) } else { Err(Denied::Scope) }
    }

    /// The most urgent priority that this key may ask for; 0 if it may ask for any.
    pub(crate) fn priority(&self, given: Option<&[u8]>) -> u32 {
        let keys = self.0.as_deref().unwrap_or_default();
        given.and_then(|given| find(keys, given)).map_or(0, |key| key.priority)
    }
}

/// Takes the same time whichever key it is, if any.
fn find<'a>(keys: &'a [Key], given: &[u8]) -> Option<&'a Key> {
    let given = hash(given);
    let mut found = None;
    for key in keys {
        if equal(&given, &key.hash) {
            found = Some(key);
        }
    }
    found
}

fn parse(text: &str) -> anyhow::Result<Vec<Key>> {
    let file: File = toml::from_str(text)?;
    let key = |entry: KeyEntry| {
        let wrong = || anyhow::anyhow!("sha256 of key '{}' is not 64 hex digits", entry.name);
        let hash = unhex(&entry.sha256).ok_or_else(wrong)?;
        anyhow::ensure!(!entry.scopes.is_empty(), "key '{}' has no scopes", entry.name);
        Ok(Key { hash, scopes: entry.scopes, priority: entry.priority.map_or(0, NonZero::get) })
    };
    file.key.into_iter().map(key).collect()
}

/// The keys in force.
pub type KeyRing = Current<Keys>;

/// A new random key, and what to put into the file of keys for it.
///
/// # Errors
/// If the system has no random numbers.
pub fn make(name: &str, scopes: &[Scope]) -> anyhow::Result<(String, String)> {
    let mut bytes = [0; RANDOM];
    getrandom::fill(&mut bytes)?;
    let key = format!("cnc_{}", hex(&bytes));
    let sha256 = hex(&hash(key.as_bytes()));
    let entry = KeyEntry { name: name.to_owned(), sha256, scopes: scopes.to_vec(), priority: None };
    Ok((key, toml::to_string(&File { key: vec![entry] })?))
}

/// A number that stands for this key and tells nothing of it.
pub(crate) fn number(key: &[u8]) -> u64 {
    hash(key).first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn hash(key: &[u8]) -> [u8; HASH] {
    Sha256::digest(key).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; HASH]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    let pairs: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |sum, d| sum << 4 | d)).collect();
    pairs.try_into().ok().filter(|_| text.len() == 2 * HASH)
}

/// Compares in a time that does not depend on where the first difference is.
fn equal(given: &[u8; HASH], key: &[u8; HASH]) -> bool {
    let differ = given.iter().zip(key).fold(0, |differ, (a, b)| differ | (a ^ b));
    std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys, String> {
        parse(text).map(|keys| Keys(Some(keys))).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_key_opens_what_its_scopes_say() {
        let (key, entry) = make("ci", &[Scope::Infer, Scope::Read]).unwrap();
        let (other, _) = make("other", &Scope::ALL).unwrap();
        assert!(!entry.contains(&key[4..]), "{entry}");
        let keys = keys(&entry).unwrap();
        let check = |given: Option<&str>, scope| keys.check(given.map(str::as_bytes), &[scope]);
        assert_eq!(check(Some(&key), Scope::Infer), Ok(()));
        assert_eq!(check(Some(&key), Scope::Read), Ok(()));
        assert_eq!(check(Some(&key), Scope::Admin), Err(Denied::Scope));
        assert_eq!(check(Some(&other), Scope::Infer), Err(Denied::Wrong));
        assert_eq!(check(Some(""), Scope::Infer), Err(Denied::Wrong));
        assert_eq!(check(None, Scope::Read), Err(Denied::Missing));
    }

    #[test]
    fn admin_includes_read_and_one_of_several_scopes_is_enough() {
        let (key, entry) = make("admin", &[Scope::Admin]).unwrap();
        let (client, other) = make("client", &[Scope::Infer]).unwrap();
        let keys = keys(&(entry + &other)).unwrap();
        let check = |key: &str, scopes: &[Scope]| keys.check(Some(key.as_bytes()), scopes);
        assert_eq!(check(&key, &[Scope::Read]), Ok(()));
        assert_eq!(check(&key, &[Scope::Infer]), Err(Denied::Scope));
        assert_eq!(check(&key, &[Scope::Infer, Scope::Read]), Ok(()));
        assert_eq!(check(&client, &[Scope::Read]), Err(Denied::Scope));
        assert_eq!(check(&client, &[Scope::Infer, Scope::Read]), Ok(()));
        assert_eq!(check(&client, &[Scope::Admin]), Err(Denied::Scope));
    }

    #[test]
    fn without_keys_everybody_may_come_and_with_an_empty_file_nobody() {
        assert_eq!(Keys::default().check(None, &[Scope::Admin]), Ok(()));
        assert_eq!(keys("").unwrap().check(Some(b"x"), &[Scope::Read]), Err(Denied::Wrong));
        assert_eq!(Keys::one(Some("k")).check(Some(b"k"), &[Scope::Admin]), Ok(()));
    }

    #[test]
    fn a_key_may_be_less_urgent_than_others() {
        let (key, entry) = make("batch", &[Scope::Infer]).unwrap();
        let (free, other) = make("free", &[Scope::Infer]).unwrap();
        let keys = keys(&format!("{entry}priority = 200\n{other}")).unwrap();
        assert_eq!(keys.priority(Some(key.as_bytes())), 200);
        assert_eq!(keys.priority(Some(free.as_bytes())), 0);
        assert_eq!((keys.priority(Some(b"x")), keys.priority(None)), (0, 0));
        assert_eq!(Keys::default().priority(Some(b"x")), 0);
    }

    #[test]
    fn keys_are_replaced_for_all() {
        let ring = KeyRing::new(Keys::one(Some("old")));
        let guard = ring.clone();
        ring.replace(Keys::one(Some("new")));
        assert_eq!(guard.current().check(Some(b"old"), &[Scope::Read]), Err(Denied::Wrong));
        assert_eq!(guard.current().check(Some(b"new"), &[Scope::Read]), Ok(()));
    }

    #[test]
    fn files_that_mean_nothing_are_refused() {
        let zeros = "0".repeat(64);
        for (text, words) in [
            ("[[key]]\nname = 'a'".to_owned(), "missing field `sha256`"),
            ("[[key]]\nname = 'a'\nsha256 = 'ab'\nscopes = ['read']".to_owned(), "64 hex digits"),
            (format!("[[key]]\nname = 'a'\nsha256 = '{zeros}'\nscopes = []"), "has no scopes"),
            (
                format!("[[key]]\nname='a'\nsha256='{zeros}'\nscopes=['read']\npriority=0"),
                "priority",
            ),
            (format!("[[key]]\nname = 'a'\nsha256 = '{zeros}'\nscopes = ['root']"), "`root`"),
            (
                format!("[[key]]\nname = 'a'\nsha256 = '{}'\nscopes = ['read']", "é".repeat(32)),
                "64 hex",
            ),
        ] {
            let error = keys(&text).expect_err(&text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
