use super::*;
use testkit::Folder;

const LINEAR: &[u8] = include_bytes!("../../tests/data/linear.onnx");

struct Bench {
    models: Folder,
    cache: Folder,
}

fn kinds() -> Vec<String> {
    vec!["onnx".into()]
}

impl Bench {
    fn new() -> Bench {
        Bench { models: Folder::new(), cache: Folder::new() }
    }

    fn repository(&self) -> Repository {
        Repository::open(self.models.path()).unwrap()
    }

    fn kept(&self, bytes_max: u64) -> RepositoryCopies {
        RepositoryCopies::new(self.cache.path(), &self.repository(), bytes_max).unwrap()
    }

    /// The versions of a model that can be served.
    fn good(&self, name: &str) -> Vec<ModelInfo> {
        let found = self.repository().scan_one(name, &kinds());
        let good = |found| match found {
            ScanResult::Good(info) => Some(info),
            ScanResult::Bad(_) => None,
        };
        found.into_iter().filter_map(good).collect()
    }

    fn keep(&self, name: &str, bytes_max: u64) -> Result<(), CopyError> {
        let good = self.good(name);
        let versions = ["1", "2", "3"].map(str::to_owned);
        let keep = |info| self.kept(bytes_max).keep(&self.repository(), info, &versions);
        good.iter().try_for_each(keep)
    }

    fn found(&self, name: &str) -> Vec<String> {
        let found = self.kept(1 << 30).find(name, &kinds());
        found.iter().map(|kept| kept.info.version.clone()).collect()
    }
}

#[test]
fn copies_are_unchanged_when_their_files_are_overwritten() {
    for file in ["m.onnx", "m/model.onnx", "m/onnx/model.onnx", "m/3/model.onnx"] {
        let bench = Bench::new();
        bench.models.write(file, LINEAR);
        let stamp = bench.good("m")[0].graph.stamp;
        bench.keep("m", 1 << 30).unwrap();
        bench.models.write(file, b"no graph");
        assert!(bench.good("m").is_empty(), "{file}");
        let found = bench.kept(1 << 30).find("m", &kinds());
        assert_eq!(found.len(), 1, "{file}");
        assert_eq!(found[0].stamp, stamp, "{file}");
        let info = &found[0].info;
        assert_eq!(info.files().unwrap().read(&info.graph_file()).unwrap(), LINEAR, "{file}");
    }
}

#[test]
fn files_that_changed_since_the_load_are_not_copied() {
    let bench = Bench::new();
    bench.models.write("m.onnx", LINEAR);
    let info = bench.good("m").remove(0);
    bench.models.write("m.onnx", b"no graph");
    let kept = bench.kept(1 << 30);
    let error = kept.keep(&bench.repository(), &info, &["1".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("changed while"), "{error}");
    assert!(bench.found("m").is_empty());
    assert!(list(&bench.kept(1 << 30).own).is_empty(), "no draft is left");
}

#[test]
fn newer_version_replaces_the_copies() {
    let bench = Bench::new();
    bench.models.write("m/1/model.onnx", LINEAR);
    bench.keep("m", 1 << 30).unwrap();
    let before = list(&bench.kept(1 << 30).own)[0].path.clone();
    bench.models.write("m/1/more", b"1");
    bench.keep("m", 1 << 30).unwrap();
    let after = list(&bench.kept(1 << 30).own);
    assert!(after.len() == 1 && after[0].path != before, "{after:?}");
    bench.models.write("m/2/model.onnx", LINEAR);
    bench.keep("m", 1 << 30).unwrap();
    assert_eq!(bench.found("m").len(), 2);
    let newest = bench.good("m").remove(0);
    bench.kept(1 << 30).keep(&bench.repository(), &newest, &["2".to_owned()]).unwrap();
    assert_eq!(bench.found("m"), ["2"]);
    bench.kept(1 << 30).retain_models(&["m".to_owned()]);
    assert_eq!(bench.found("m"), ["2"]);
    bench.kept(1 << 30).retain_models(&[]);
    assert!(bench.found("m").is_empty());
}

#[test]
fn bytes_of_copies_are_limited() {
    let bench = Bench::new();
    let size = LINEAR.len() as u64;
    for name in ["a", "b"] {
        bench.models.write(&format!("{name}.onnx"), LINEAR);
    }
    bench.keep("a", 2 * size - 1).unwrap();
    let error = bench.keep("b", 2 * size - 1).unwrap_err().to_string();
    assert!(error.contains("cache.models_bytes"), "{error}");
    assert_eq!((bench.found("a").len(), bench.found("b").len()), (1, 0));
    // Copies for other repositories are removed first.
    let other = Bench { models: Folder::new(), cache: bench.cache };
    other.models.write("c.onnx", LINEAR);
    other.keep("c", 2 * size - 1).unwrap();
    assert_eq!(other.found("c").len(), 1);
    let bench = Bench { models: bench.models, cache: other.cache };
    assert!(bench.found("a").is_empty());
    assert!(RepositoryCopies::new(bench.cache.path(), &bench.repository(), 0).is_none());
}

#[test]
fn a_draft_is_removed_unless_a_copy_is_made() {
    let bench = Bench::new();
    bench.models.write("m.onnx", LINEAR);
    bench.keep("m", 1 << 30).unwrap();
    let kept = bench.kept(1 << 30);
    let draft = kept.own.join("0123-1.new-1");
    fs::create_dir(&draft).unwrap();
    let lock = kept.lock().unwrap();
    kept.retain_models(&["m".to_owned()]);
    assert!(draft.exists(), "another server may be making it");
    drop(lock);
    kept.retain_models(&["m".to_owned()]);
    assert!(!draft.exists());
    assert_eq!(bench.found("m"), ["1"]);
}

#[test]
fn graphs_other_than_the_served_one_are_not_copied() {
    let bench = Bench::new();
    for file in ["model.onnx", "model_fp16.onnx", "model_fp16.onnx_data", "vocab.txt"] {
        bench.models.write(&format!("m/onnx/{file}"), LINEAR);
    }
    bench.models.write("m/config.json", b"{}");
    bench.keep("m", 1 << 30).unwrap();
    let copied = list(&bench.kept(1 << 30).own)[0].path.join("m");
    let has = |file: &str| copied.join(file).is_file();
    assert!(has("onnx/model.onnx") && has("onnx/vocab.txt") && has("config.json"));
    assert!(!has("onnx/model_fp16.onnx") && !has("onnx/model_fp16.onnx_data"));
    assert_eq!(bench.found("m"), ["1"]);
}

#[test]
fn files_outside_the_repository_are_not_copied() {
    let (bench, outside) = (Bench::new(), Folder::new());
    outside.write("secret", b"x");
    bench.models.write("m/model.onnx", LINEAR);
    bench.models.link("m/leak", outside.path().join("secret"));
    bench.keep("m", 1 << 30).unwrap();
    let copied = list(&bench.kept(1 << 30).own)[0].path.join("m");
    assert!(copied.join("model.onnx").is_file() && !copied.join("leak").exists());
}
