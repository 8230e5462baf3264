//! Logging to the journal, with fields named `NIXMOX_*` (systemd.journal-fields(7) reserves none of them).

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging: to the journal, or to standard error where there is none.
///
/// `zlink` and `zbus` trace whole messages, which may hold what is nobody's business: they are held to warnings.
pub fn start() {
    let filter = || {
        Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("zlink", LevelFilter::WARN)
            .with_target("zlink_core", LevelFilter::WARN)
            .with_target("zlink_tokio", LevelFilter::WARN)
            .with_target("zbus", LevelFilter::WARN)
    };
    if let Ok(journal) = tracing_journald::layer() {
        let journal = journal.with_field_prefix(Some("NIXMOX".to_owned())).with_filter(filter());
        tracing_subscriber::registry().with(journal).init();
    } else {
        let standard_error = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter());
        tracing_subscriber::registry().with(standard_error).init();
    }
}
