//! The command line of a service. All else is a setting.

use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

/// What the three services take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Parser)]
#[command(version)]
pub struct ServiceArgs {
    /// Read settings from FILE, over the defaults; variables HOOKLINE__SECTION__KEY go over both
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the default settings, with comments, and exit
    #[arg(long)]
    pub print_default_config: bool,
}

impl ServiceArgs {
    /// The arguments of this process; bad ones, `--help` and `--version` end it.
    pub fn of_process(service: &'static str) -> Self {
        let matches = Self::command().name(service).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}
