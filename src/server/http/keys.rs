//! API keys and their scopes. The file contains only their SHA-256, so that a reader of the file,
//! or of a backup of it, cannot use them.
//!
//! Keys are random (`concertina key` generates them), so that a plain hash is sufficient: a slow
//! one is only useful if keys can be guessed.

use crate::operator::current::Current;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::num::NonZero;
use std::path::Path;

/// Bytes of a hash.
const HASH: usize = 32;
/// Number of random bytes of a generated key.
const RANDOM: usize = 32;

/// The permissions of a key. `infer` includes the description of models, which clients read first;
/// `admin` includes `read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send requests to models, and read their metadata, configuration and readiness.
    Infer,
    /// Read metadata, adapters, decisions, metrics and the repository.
    Read,
    /// Turn adapters on and off, change settings, load and unload models, generate load, and all of
    /// `read`.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Infer, Scope::Read, Scope::Admin];

    /// Returns true if a key with this scope may do what `other` allows.
    fn includes(self, other: Scope) -> bool {
        self == other || (self == Scope::Admin && other == Scope::Read)
    }

    /// Returns the name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Infer => "infer",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

/// The entry of a key in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    sha256: String,
    scopes: Vec<Scope>,
    /// The most urgent priority that a request with this key may have.
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

/// The accepted keys; `None` if no key is needed.
#[derive(Debug, Default)]
pub struct Keys(Option<Vec<Key>>);

/// The reason why a key is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key was sent, and one is needed.
    Missing,
    /// The key is not one of the server's.
    Wrong,
    /// The key lacks the scope.
    Scope,
}

impl Keys {
    /// Returns a set with at most one key, which has every permission.
    pub fn one(key: Option<&str>) -> Keys {
        let all = |key: &str| Key {
            hash: hash(key.as_bytes()),
            scopes: Scope::ALL.to_vec(),
            priority: 0,
        };
        Keys(key.map(|key| vec![all(key)]))
    }

    /// Returns the keys of a file, and optionally one that has every permission.
    ///
    /// # Errors
    /// If the file cannot be read or has invalid content.
    pub fn read(path: &Path, key: Option<&str>) -> anyhow::Result<Keys> {
        use anyhow::Context;
        let name = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("failed to read the file of API keys {name}"))?;
        let keys = parse(&text).with_context(|| format!("in the file of API keys {name}"))?;
        let one = Keys::one(key).0.unwrap_or_default();
        Ok(Keys(Some(keys.into_iter().chain(one).collect())))
    }

    /// Returns true if a key is needed.
    pub(crate) fn are_needed(&self) -> bool {
        self.0.is_some()
    }

    /// Checks that this key has one of these scopes, in a time that does not depend on the key.
    pub(crate) fn check(&self, given: Option<&[u8]>, scopes: &[Scope]) -> Result<(), Denied> {
        let Some(keys) = &self.0 else { return Ok(()) };
        let key = find(keys, given.ok_or(Denied::Missing)?).ok_or(Denied::Wrong)?;
        let is_enough = |scope: &Scope| key.scopes.iter().any(|own| own.includes(*scope));
        if scopes.iter().any(is_enough) { Ok(()) } else { Err(Denied::Scope) }
    }

    /// Returns the most urgent priority that this key allows; 0 if it allows all.
    pub(crate) fn priority(&self, given: Option<&[u8]>) -> u32 {
        let keys = self.0.as_deref().unwrap_or_default();
        given.and_then(|given| find(keys, given)).map_or(0, |key| key.priority)
    }
}

/// Finds a key in a time that does not depend on the key.
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

/// Returns a new random key, and its entry for the file of keys.
///
/// # Errors
/// If the system provides no random numbers.
pub fn make(name: &str, scopes: &[Scope]) -> anyhow::Result<(String, String)> {
    let mut bytes = [0; RANDOM];
    getrandom::fill(&mut bytes)?;
    let key = format!("cnc_{}", hex(&bytes));
    let sha256 = hex(&hash(key.as_bytes()));
    let entry = KeyEntry { name: name.to_owned(), sha256, scopes: scopes.to_vec(), priority: None };
    Ok((key, toml::to_string(&File { key: vec![entry] })?))
}

/// Returns a number that identifies this key and reveals nothing about it.
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
    fn key_allows_what_its_scopes_include() {
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
    fn without_keys_all_requests_are_accepted_and_with_an_empty_file_none() {
        assert_eq!(Keys::default().check(None, &[Scope::Admin]), Ok(()));
        assert_eq!(keys("").unwrap().check(Some(b"x"), &[Scope::Read]), Err(Denied::Wrong));
        assert_eq!(Keys::one(Some("k")).check(Some(b"k"), &[Scope::Admin]), Ok(()));
    }

    #[test]
    fn key_may_have_a_lower_priority_than_others() {
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
    fn invalid_key_files_are_rejected() {
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
