//! The program with the models that come with it.

use concertina::model::Registry;
use std::process::ExitCode;

fn main() -> ExitCode {
    concertina::run(Registry::builtin())
}
