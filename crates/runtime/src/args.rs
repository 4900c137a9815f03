//! The command line of a service.

use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

/// The arguments of the three services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Parser)]
#[command(version)]
pub struct ServiceArgs {
    /// Read settings from FILE. It overrides the defaults; variables HOOKLINE__SECTION__KEY override both
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the default settings, with comments, and exit
    #[arg(long)]
    pub print_default_config: bool,
}

impl ServiceArgs {
    /// Bad arguments, `--help` and `--version` end the process.
    pub fn of_process(service: &'static str) -> Self {
        let matches = Self::command().name(service).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}
