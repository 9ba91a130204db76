//! Shell completions and manual pages, generated from the declaration of the command line.

use super::help::command_line;
use super::output::print_document;
use anyhow::Context;
use clap::Args;
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;

/// Arguments of `concertina completions`.
#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// Shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `concertina man`.
#[derive(Args)]
pub(super) struct ManArgs {
    /// Folder for one page per command
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completion script of a shell.
///
/// # Errors
/// If stdout cannot be written.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line(), "concertina", &mut script);
    print_document(&String::from_utf8_lossy(&script))
}

/// Writes the manual pages `concertina.1`, `concertina-serve.1` and so on.
///
/// # Errors
/// If the folder or a page cannot be written.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .with_context(|| format!("failed to create the folder {}", folder.display()))?;
    let program = command_line().disable_help_subcommand(true);
    clap_mangen::generate_to(program, folder)
        .with_context(|| format!("failed to write manual pages into {}", folder.display()))
}
