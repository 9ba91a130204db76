use super::*;
use testkit::Folder;

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

fn scan(folder: &Folder) -> Vec<ScanResult> {
    Repository::open(folder.path()).unwrap().scan(&kinds())
}

/// The text of the only entry, which must be an error.
#[track_caller]
fn one_error(folder: &Folder) -> String {
    match scan(folder).as_slice() {
        [ScanResult::Bad(bad)] => bad.error.clone(),
        other => panic!("{other:?}"),
    }
}

fn good_versions(found: &[ScanResult]) -> Vec<String> {
    let version = |found: &ScanResult| match found {
        ScanResult::Good(info) => Some(format!("{}/{}", info.name, info.version)),
        ScanResult::Bad(_) => None,
    };
    found.iter().filter_map(version).collect()
}

#[test]
fn the_embedded_repository_serves_digits() {
    let mut kinds = kinds();
    kinds.push("onnx".to_owned());
    let found = Repository::embedded().scan(&kinds);
    let all = ["digits/1", "filetype/1", "ocr/1", "text-lines/1", "text-regions/1"];
    assert_eq!(good_versions(&found), all, "{found:?}");
    let ScanResult::Good(info) = &found[0] else { panic!("{found:?}") };
    assert_eq!(info.labels.len(), 10);
    assert_eq!(info.files_changed, None);
    assert!(info.files_bytes > 100_000, "{}", info.files_bytes);
    assert!(info.golden.is_some());
    assert!(info.files().unwrap().read("weights.safetensors").unwrap().len() < 500_000);
}

#[test]
fn the_latest_version_is_served_unless_others_are_named() {
    let folder = Folder::new();
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
        machine: false,
    };
    assert_eq!(found[1], ScanResult::Bad(missing));
}

#[test]
fn models_are_served_beside_an_invalid_one() {
    let folder = Folder::new();
    folder.write("good/model.toml", ECHO.as_bytes());
    folder.make_dir("good/1");
    folder.make_dir("empty");
    folder.make_dir("-bad");
    folder.write("broken/model.toml", b"kind = ");
    folder.write("alien/model.toml", ECHO.replace("identity", "tensorflow").as_bytes());
    folder.write("versionless/model.toml", ECHO.as_bytes());
    folder.write("lopsided/model.toml", ECHO.replacen("[2]", "[3]", 1).as_bytes());
    let found = scan(&folder);
    assert_eq!(good_versions(&found), ["good/1"]);
    let error = |name: &str| {
        let is = |found: &&ScanResult| matches!(found, ScanResult::Bad(bad) if bad.name == name);
        match found.iter().find(is) {
            Some(ScanResult::Bad(bad)) => bad.error.clone(),
            _ => panic!("{name} is not among {found:?}"),
        }
    };
    assert!(error("empty").starts_with("empty: does not contain a model"));
    assert!(error("-bad").starts_with("-bad: names have 1 to 200 bytes"));
    assert!(error("broken").starts_with("broken/model.toml: line 1, `kind =`"));
    let alien = "alien/model.toml: kind: 'tensorflow' is unknown; use digits, identity or ensemble";
    assert_eq!(error("alien"), alien);
    assert!(error("versionless").starts_with("versionless: has no version folder"));
    assert!(error("lopsided").contains("input 'x' and output 'y' differ"));
    assert_eq!(found.len(), 7);
}

#[test]
fn scan_of_one_model_equals_the_scan_of_all() {
    let folder = Folder::new();
    folder.write("good/model.toml", format!("versions = \"all\"\n{ECHO}").as_bytes());
    folder.write("good/1/weights", b"12345");
    folder.make_dir("good/2");
    folder.write("broken/model.toml", b"kind = ");
    folder.make_dir("bad name");
    folder.write("file", b"");
    let repository = Repository::open(folder.path().join("good/..")).unwrap();
    let all = repository.scan(&kinds());
    let name = |found: &ScanResult| match found {
        ScanResult::Good(info) => info.name.clone(),
        ScanResult::Bad(bad) => bad.name.clone(),
    };
    for one in ["good", "broken", "bad name", "file", "absent"] {
        let expected: Vec<_> = all.iter().filter(|found| name(found) == one).cloned().collect();
        assert_eq!(repository.scan_one(one, &kinds()), expected, "{one}");
    }
    let size = |found: &ScanResult| match found {
        ScanResult::Good(info) => Some(info.files_bytes),
        ScanResult::Bad(_) => None,
    };
    assert_eq!(all.iter().filter_map(size).collect::<Vec<_>>(), [5, 0]);
}

#[test]
fn names_cannot_lead_out_of_the_repository() {
    let outside = Folder::new();
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
    let folder = Folder::new();
    folder.write("echo/model.toml", format!("{ECHO}[golden]\n").as_bytes());
    folder.make_dir("echo/1");
    assert_eq!(one_error(&folder), "echo/1/golden.json: does not exist");
    folder.write("echo/1/golden.json", br#"{"inputs":[]}"#);
    assert!(one_error(&folder).contains("missing field `outputs`"));
}

#[cfg(unix)]
#[test]
fn broken_link_is_listed() {
    let folder = Folder::new();
    folder.link("lost", "/nowhere/at/all");
    assert_eq!(one_error(&folder), "lost: does not exist");
}

#[test]
fn too_large_manifest_is_not_read() {
    let folder = Folder::new();
    folder.write("m/model.toml", vec![b'#'; (1 << 20) + 1]);
    let error = "m/model.toml: has 1048577 bytes, but at most 1048576 are allowed";
    assert_eq!(one_error(&folder), error);
}

#[test]
fn removed_repository_is_an_error() {
    let folder = Folder::new();
    let repository = Repository::open(folder.path()).unwrap();
    drop(folder);
    let found = repository.scan(&kinds());
    assert!(
        matches!(found.as_slice(), [ScanResult::Bad(bad)] if bad.error.contains("does not exist"))
    );
}
