use serde_json::Value;
use std::process::Output;
use testkit::{Folder, run};

const KEY: &str = "a-very-secret-key";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs doctor with folders of its own, and these lines in the file of settings.
fn doctor(folder: &Folder, lines: &str, arguments: &[&str]) -> Output {
    let path = |name: &str| folder.path().join(name);
    let file = format!(
        "listen = '127.0.0.1:0'\ncache_dir = {:?}\nruntime_dir = {:?}\nlock_dir = {:?}\n{lines}",
        path("cache"),
        path("run"),
        path("locks")
    );
    let file = folder.write("settings.toml", &file);
    let config = format!("--config={}", file.display());
    let arguments = ["doctor", &config].into_iter().chain(arguments.iter().copied());
    run(&arguments.collect::<Vec<_>>(), &[("CONCERTINA_API_KEY", KEY)])
}

#[test]
fn doctor_reports_the_machine_and_the_settings_without_secrets() {
    let folder = Folder::new();
    let output = doctor(&folder, "latency_target = '7s'\napi_key = 'another-secret'", &[]);
    let report = text(&output);
    for expected in
        ["concertina 0.", "kernel", "threads", "open files", "latency_target = \"7s\"", "cpu"]
    {
        assert!(report.contains(expected), "{expected} in {report}");
    }
    assert!(report.contains("CONCERTINA_API_KEY"), "the variable is named: {report}");
    for secret in [KEY, "another-secret"] {
        assert!(!report.contains(secret), "{report}");
    }
}

/// Remedies of the problems of a topic.
fn problems(report: &str, topic: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).expect(report);
    let findings = report["findings"].as_array().unwrap().iter();
    let of_topic = findings.filter(|finding| finding["topic"] == topic);
    of_topic.filter_map(|finding| Some(finding["remedy"].as_str()?.to_owned())).collect()
}

#[test]
fn doctor_names_a_remedy_for_each_problem() {
    let folder = Folder::new();
    folder.write("models/bad/model.toml", "kind = 'none'");
    let blocked = folder.write("file", "");
    for (topic, lines, remedy) in [
        ("models", "models = '/nowhere/at/all'".to_owned(), "set models to a folder"),
        ("models", format!("models = {:?}", folder.path().join("models")), "correct the files"),
        ("address", "allow_remote = true\n[workers]\nslots = 1".to_owned(), ""),
        ("settings", "adapters = 7".to_owned(), "correct the file"),
        ("settings", "slots = 7".to_owned(), "correct the file"),
    ] {
        let output = doctor(&folder, &lines, &["--json"]);
        let found = problems(&text(&output), topic);
        assert_eq!(found.is_empty(), remedy.is_empty(), "{lines}: {}", text(&output));
        if !remedy.is_empty() {
            assert!(found[0].contains(remedy), "{found:?}");
            assert_eq!(output.status.code(), Some(1), "{lines}");
        }
    }
    let other = Folder::new();
    let file = format!("cache_dir = {:?}\nlisten = '127.0.0.1:0'\n", blocked.join("cache"));
    let file = other.write("settings.toml", &file);
    let output = run(&["doctor", "--json", "--config", file.to_str().unwrap()], &[]);
    assert!(problems(&text(&output), "folders")[0].contains("set cache_dir"), "{}", text(&output));
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let help = text(&run(&["--help"], &[]));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .map_while(|line| line.split_whitespace().next())
        .filter(|it| *it != "help")
        .collect();
    assert!(commands.contains(&"serve") && commands.contains(&"doctor"), "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&run(&["completions", shell], &[]));
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    let folder = Folder::new();
    let output = run(&["man", folder.path().to_str().unwrap()], &[]);
    assert!(output.status.success(), "{output:?}");
    for command in commands {
        let page = folder.path().join(format!("concertina-{command}.1"));
        let page = std::fs::read_to_string(&page).expect(command);
        assert!(page.starts_with(".ie") && page.contains(".SH"), "{page}");
    }
}
