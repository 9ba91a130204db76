use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::Setup;

/// The address in the documents.
const ADDRESS: &str = "localhost:8000";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The commands of blocks of a terminal, each with the beginning of its output up to an ellipsis.
fn commands(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("```console\n").skip(1);
    let blocks = blocks.filter_map(|block| Some(block.split_once("```")?.0));
    let commands = blocks.flat_map(|block| block.split("\n$ ").collect::<Vec<_>>());
    let parts = commands.map(|command| command.trim_start_matches("$ ").split_once('\n'));
    let parts = parts.flatten().filter(|(command, _)| command.starts_with("curl"));
    let expected =
        |output: &str| output.trim_end().split('…').next().unwrap_or_default().to_owned();
    parts.map(|(command, output)| (command.to_owned(), expected(output))).collect()
}

#[test]
fn requests_of_the_readme_have_the_answers_that_it_shows() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let server = Setup::cpu().start();
    let mut run = 0;
    for (command, expected) in commands(&text) {
        // Models of the reader.
        if command.contains("resnet50") {
            continue;
        }
        let command = command.replace(ADDRESS, &server.address.to_string());
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &command]).current_dir(root()).output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(answer.starts_with(&expected), "{command}\n{answer}\nis not\n{expected}");
        run += 1;
    }
    assert!(run >= 4, "{run} commands are seen");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "tests/run names a Python with the client")]
fn the_python_client_of_the_readme_gets_an_answer() {
    let Some(python) = std::env::var_os("CONCERTINA_TEST_PYTHON") else {
        return testkit::report(
            "SKIPPED: CONCERTINA_TEST_PYTHON names no Python with tritonclient",
        );
    };
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let block = text.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    let server = Setup::cpu().start();
    let program = block.replace(ADDRESS, &server.address.to_string());
    let output = Command::new(python).args(["-c", &program]).output().unwrap();
    let (answer, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(answer.starts_with("[[") && answer.contains("digits"), "{answer} {errors}");
}
