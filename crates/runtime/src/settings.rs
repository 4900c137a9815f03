//! Settings are read once, at the start, and a bad one stops the start. A typo that is ignored would show weeks
//! later, as a limit that never applied.
//!
//! The commented default file is compiled in. It is the schema, too: a setting that it lacks is unknown, and the type
//! of its default says how an environment variable is read.

mod error;
mod key_file;
mod limits;
mod load;
mod schema;
mod secret_url;
mod secrets;
mod sections;
mod server_url;
mod targets;
mod validators;
mod warnings;

pub use error::{InvalidSetting, SettingProblem, SettingsError};
pub use key_file::{read_key_file, warn_of_key_file};
pub use limits::LimitSettings;
pub use secret_url::SecretUrl;
pub use secrets::{GivenKeys, SecretSettings};
pub use sections::{
    AdminSettings, ApiSettings, BrokerSettings, DispatcherSettings, IngestSettings, LogSettings,
    PoisonSettings, ReplaySettings, RetentionSettings, RetrySettings, Settings, StartSettings,
    StopSettings, StoreSettings, TelemetrySettings,
};
pub use targets::TargetSettings;
pub use validators::{ForwardedHeader, LogFormat};
