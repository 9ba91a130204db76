//! The model repository: folders, versions, `model.toml`. The serving process reads it too, so
//! nothing here knows of devices.
//!
//! ```text
//! <name>/model.toml           kind, inputs, outputs, batching, labels
//! <name>/<version>/...        files of one version, a positive integer; the kind says which
//! ```

use crate::model::files::{BadFile, Files, is_safe_name};
use crate::model::golden;
use crate::model::identity;
use crate::model::manifest::{self, Manifest, Versions};
use crate::model::signature::Signature;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Compiled into the binary.
    Embedded,
    /// The repository folder on disk.
    Folder(PathBuf),
}

/// One version of one model, validated, as everything outside the worker knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    /// A number, as text.
    pub version: String,
    /// `identity`, `digits` or a kind the user registered.
    pub kind: String,
    pub source: Source,
    pub signature: Signature,
    pub batch: Batching,
    /// The latency that scheduling aims at, admission to answer; late answers are still given.
    pub slo: Option<Duration>,
    /// Labels of the classes, if the model has any.
    pub labels: Vec<String>,
    /// The sample that every replica must answer right before it serves, if the model has one.
    pub golden: Option<GoldenSpec>,
    /// Bytes of all files of this version: an estimate of the memory that it takes, for as long as
    /// no adapter has loaded it.
    pub files_bytes: u64,
}

/// The `[batch]` table of `model.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    pub max_rows: usize,
    /// How long the first request of a batch may wait for company.
    pub delay: Duration,
}

/// The `[golden]` table of `model.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenSpec {
    /// A file in the version's folder, in the JSON form of the V2 protocol.
    pub file: String,
    /// Largest difference allowed between an output's element and the expected one.
    pub tolerance: f64,
}

impl ModelInfo {
    /// The files of this version.
    ///
    /// # Errors
    /// If the repository's folder is gone.
    pub fn files(&self) -> Result<Files, BadFile> {
        let root = match &self.source {
            Source::Embedded => Files::embedded(),
            Source::Folder(folder) => Files::open(folder)?,
        };
        Ok(root.folder(&self.name).folder(&self.version))
    }
}

/// What a scan found under one name.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A version that can be served.
    Good(ModelInfo),
    /// A model or version that cannot.
    Bad(BadModel),
}

/// A model, or one version of it, that cannot be served, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadModel {
    pub name: String,
    /// `None` where no version got as far as being read.
    pub version: Option<String>,
    /// Names the file and what is wrong with it.
    pub error: String,
}

/// A folder of models.
#[derive(Clone, Debug)]
pub struct Repository {
    source: Source,
    root: Files,
}

impl Repository {
    /// The repository in the binary: what is served when no other is named.
    pub fn embedded() -> Repository {
        let root = Files::embedded();
        Repository { source: root.source(), root }
    }

    /// A repository on disk.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Repository, BadFile> {
        let root = Files::open(folder.as_ref())?;
        Ok(Repository { source: root.source(), root })
    }

    /// Where it is; what [`ModelInfo::source`] says of its models.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Names of all models, whether they can be served or not.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, BadFile> {
        self.root.folders()
    }

    /// Reads every model: one entry per version served, and one per model or version that cannot
    /// be, in the order of their names. `kinds` are those that workers can load.
    ///
    /// Weights are not read here: whether they fit shows when a worker loads them.
    pub fn scan(&self, kinds: &[String]) -> Vec<Found> {
        match self.root.folders() {
            Ok(names) => names.iter().flat_map(|name| self.scan_model(name, kinds)).collect(),
            Err(error) => vec![bad("", None, error.to_string())],
        }
    }

    /// Like [`Repository::scan`], for this one name only; empty if there is no such folder.
    ///
    /// The name may come from a client: it becomes a path only if the repository lists it.
    pub fn scan_one(&self, name: &str, kinds: &[String]) -> Vec<Found> {
        match self.root.folders() {
            Ok(names) if names.iter().any(|listed| listed == name) => self.scan_model(name, kinds),
            Ok(_) => Vec::new(),
            Err(error) => vec![bad("", None, error.to_string())],
        }
    }

    fn scan_model(&self, name: &str, kinds: &[String]) -> Vec<Found> {
        if !is_safe_name(name) {
            let rule = "model names have letters, digits, '.', '_' and '-', at most 64";
            return vec![bad(name, None, format!("'{name}': {rule}"))];
        }
        let manifest = match self.manifest(name, kinds) {
            Ok(manifest) => manifest,
            Err(error) => return vec![bad(name, None, error.to_string())],
        };
        match self.versions(name, &manifest.versions) {
            Ok(versions) => versions.iter().map(|v| self.version(name, *v, &manifest)).collect(),
            Err(error) => vec![bad(name, None, error.to_string())],
        }
    }

    fn manifest(&self, name: &str, kinds: &[String]) -> Result<Manifest, BadFile> {
        let folder = self.root.folder(name);
        let data = folder.read_up_to(manifest::FILE, manifest::BYTES_MAX)?;
        let path = folder.path_of(manifest::FILE);
        let manifest = Manifest::parse(&path, &data)?;
        if !kinds.contains(&manifest.kind) {
            let detail =
                format!("kind: '{}' is unknown; known are {}", manifest.kind, kinds.join(", "));
            return Err(BadFile::new(path, detail));
        }
        if manifest.kind == identity::KIND {
            identity::check(&manifest.signature).map_err(|detail| BadFile::new(path, detail))?;
        }
        Ok(manifest)
    }

    /// The versions that the manifest wants served, ascending. Folders that are no positive
    /// integers are the model's own business.
    fn versions(&self, name: &str, wanted: &Versions) -> Result<Vec<u64>, BadFile> {
        if let Versions::These(numbers) = wanted {
            return Ok(numbers.clone());
        }
        let folders = self.root.folder(name).folders()?;
        let mut numbers: Vec<u64> =
            folders.iter().filter_map(|name| version_number(name)).collect();
        numbers.sort_unstable();
        if *wanted == Versions::Latest {
            numbers = numbers.last().copied().into_iter().collect();
        }
        if numbers.is_empty() {
            return Err(BadFile::new(name, "has no version folder (a positive integer such as 1)"));
        }
        Ok(numbers)
    }

    fn version(&self, name: &str, number: u64, manifest: &Manifest) -> Found {
        let version = number.to_string();
        let manifest = manifest.clone();
        let info = ModelInfo {
            name: name.to_owned(),
            version: version.clone(),
            kind: manifest.kind,
            source: self.source.clone(),
            signature: manifest.signature,
            batch: manifest.batch,
            slo: manifest.slo,
            labels: manifest.labels,
            golden: manifest.golden,
            files_bytes: self.root.folder(name).folder(&version).bytes(),
        };
        match self.check_version(&info) {
            Ok(()) => Found::Good(info),
            Err(error) => bad(name, Some(version), error.to_string()),
        }
    }

    fn check_version(&self, info: &ModelInfo) -> Result<(), BadFile> {
        let model = self.root.folder(&info.name);
        if !model.folders()?.contains(&info.version) {
            return Err(BadFile::new(model.path_of(&info.version), "does not exist"));
        }
        if let Some(spec) = &info.golden {
            golden::read(&model.folder(&info.version), spec, &info.signature)?;
        }
        Ok(())
    }
}

fn bad(name: &str, version: Option<String>, error: String) -> Found {
    Found::Bad(BadModel { name: name.to_owned(), version, error })
}

/// The number that a folder's name spells, if it is a positive integer without leading zeros.
fn version_number(name: &str) -> Option<u64> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    if plain { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::test_folder::TestFolder;

    const ECHO: &str = r#"
kind = "identity"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [2]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [2]
"#;

    fn kinds() -> Vec<String> {
        vec!["digits".into(), "identity".into()]
    }

    fn scan(folder: &TestFolder) -> Vec<Found> {
        Repository::open(folder.path()).unwrap().scan(&kinds())
    }

    /// The only entry, which must be bad.
    #[track_caller]
    fn one_error(folder: &TestFolder) -> String {
        match scan(folder).as_slice() {
            [Found::Bad(bad)] => bad.error.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn good_versions(found: &[Found]) -> Vec<String> {
        let version = |found: &Found| match found {
            Found::Good(info) => Some(format!("{}/{}", info.name, info.version)),
            Found::Bad(_) => None,
        };
        found.iter().filter_map(version).collect()
    }

    #[test]
    fn the_embedded_repository_serves_digits() {
        let found = Repository::embedded().scan(&kinds());
        assert_eq!(good_versions(&found), ["digits/1"], "{found:?}");
        let Found::Good(info) = &found[0] else { panic!("{found:?}") };
        assert_eq!(info.labels.len(), 10);
        assert!(info.files_bytes > 100_000, "{}", info.files_bytes);
        assert!(info.golden.is_some());
        assert!(info.files().unwrap().read("weights.safetensors").unwrap().len() < 500_000);
    }

    #[test]
    fn the_latest_version_is_served_unless_others_are_named() {
        let folder = TestFolder::new();
        for version in ["1", "2", "10", "010", "0", "draft", ".hidden"] {
            folder.make_dir(&format!("echo/{version}"));
        }
        folder.write("echo/3", b"a file");
        folder.write("README.md", b"not a model");
        folder.write("echo/model.toml", ECHO.as_bytes());
        assert_eq!(good_versions(&scan(&folder)), ["echo/10"]);
        folder.write("echo/model.toml", format!("versions = \"all\"\n{ECHO}").as_bytes());
        assert_eq!(good_versions(&scan(&folder)), ["echo/1", "echo/2", "echo/10"]);
        folder.write("echo/model.toml", format!("versions = [2, 7]\n{ECHO}").as_bytes());
        let found = scan(&folder);
        assert_eq!(good_versions(&found), ["echo/2"]);
        let missing = BadModel {
            name: "echo".into(),
            version: Some("7".into()),
            error: "echo/7: does not exist".into(),
        };
        assert_eq!(found[1], Found::Bad(missing));
    }

    #[test]
    fn a_bad_model_never_stops_the_others() {
        let folder = TestFolder::new();
        folder.write("good/model.toml", ECHO.as_bytes());
        folder.make_dir("good/1");
        folder.make_dir("empty");
        folder.make_dir("bad name");
        folder.write("broken/model.toml", b"kind = ");
        folder.write("alien/model.toml", ECHO.replace("identity", "onnx").as_bytes());
        folder.write("versionless/model.toml", ECHO.as_bytes());
        folder.write("lopsided/model.toml", ECHO.replacen("[2]", "[3]", 1).as_bytes());
        let found = scan(&folder);
        assert_eq!(good_versions(&found), ["good/1"]);
        let error = |name: &str| {
            let is = |found: &&Found| matches!(found, Found::Bad(bad) if bad.name == name);
            match found.iter().find(is) {
                Some(Found::Bad(bad)) => bad.error.clone(),
                _ => panic!("{name} is not among {found:?}"),
            }
        };
        assert_eq!(error("empty"), "empty/model.toml: does not exist");
        assert!(error("bad name").contains("model names have letters"));
        assert!(error("broken").starts_with("broken/model.toml: line 1, `kind =`"));
        let alien = "alien/model.toml: kind: 'onnx' is unknown; known are digits, identity";
        assert_eq!(error("alien"), alien);
        assert!(error("versionless").starts_with("versionless: has no version folder"));
        assert!(error("lopsided").contains("input 'x' and output 'y' differ"));
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn one_model_is_scanned_as_among_all() {
        let folder = TestFolder::new();
        folder.write("good/model.toml", format!("versions = \"all\"\n{ECHO}").as_bytes());
        folder.write("good/1/weights", b"12345");
        folder.make_dir("good/2");
        folder.write("broken/model.toml", b"kind = ");
        folder.make_dir("bad name");
        folder.write("file", b"");
        let repository = Repository::open(folder.path().join("good/..")).unwrap();
        let all = repository.scan(&kinds());
        let name = |found: &Found| match found {
            Found::Good(info) => info.name.clone(),
            Found::Bad(bad) => bad.name.clone(),
        };
        for one in ["good", "broken", "bad name", "file", "absent"] {
            let expected: Vec<_> = all.iter().filter(|found| name(found) == one).cloned().collect();
            assert_eq!(repository.scan_one(one, &kinds()), expected, "{one}");
        }
        let size = |found: &Found| match found {
            Found::Good(info) => Some(info.files_bytes),
            Found::Bad(_) => None,
        };
        assert_eq!(all.iter().filter_map(size).collect::<Vec<_>>(), [5, 0]);
    }

    #[test]
    fn no_name_leads_out_of_the_repository() {
        let outside = TestFolder::new();
        outside.write("model.toml", ECHO.as_bytes());
        outside.make_dir("1");
        outside.write("repository/inner/model.toml", ECHO.as_bytes());
        outside.make_dir("repository/inner/1");
        let repository = Repository::open(outside.path().join("repository")).unwrap();
        let absolute = outside.path().display().to_string();
        let long = "a".repeat(1 << 20);
        for name in [
            "",
            ".",
            "..",
            "../repository",
            "inner/",
            "inner/.",
            "./inner",
            "inner\0",
            &absolute,
            &long,
        ] {
            assert_eq!(repository.scan_one(name, &kinds()), [], "{name:.40}");
        }
        assert_eq!(good_versions(&repository.scan_one("inner", &kinds())), ["inner/1"]);
    }

    #[test]
    fn a_golden_sample_must_exist_and_fit() {
        let folder = TestFolder::new();
        folder.write("echo/model.toml", format!("{ECHO}[golden]\n").as_bytes());
        folder.make_dir("echo/1");
        assert_eq!(one_error(&folder), "echo/1/golden.json: does not exist");
        folder.write("echo/1/golden.json", br#"{"inputs":[]}"#);
        assert!(one_error(&folder).contains("missing field `outputs`"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_listed() {
        let folder = TestFolder::new();
        folder.link("lost", "/nowhere/at/all");
        assert_eq!(one_error(&folder), "lost/model.toml: does not exist");
    }

    #[test]
    fn a_huge_manifest_is_not_read() {
        let folder = TestFolder::new();
        folder.write("m/model.toml", &vec![b'#'; (1 << 20) + 1]);
        let error = "m/model.toml: has 1048577 bytes, but at most 1048576 are allowed";
        assert_eq!(one_error(&folder), error);
    }

    #[test]
    fn a_repository_that_vanished_is_an_error() {
        let folder = TestFolder::new();
        let repository = Repository::open(folder.path()).unwrap();
        drop(folder);
        let found = repository.scan(&kinds());
        assert!(
            matches!(found.as_slice(), [Found::Bad(bad)] if bad.error.contains("does not exist"))
        );
    }
}
