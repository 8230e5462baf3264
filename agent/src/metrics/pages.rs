//! Pages, of which at most one of a form is made in a while, whoever asks how often.
//!
//! Reading the figures of many containers costs some milliseconds. Everybody on the machine may ask, so what it costs
//! must not depend on how many do: who asks within that while is given the page that is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::families;
use super::own::{self, Own};
use super::serve::Source;
use super::text::Form;

/// Pages as they are made.
pub(super) struct Pages<S> {
    source: S,
    fresh: Duration,
    /// When the agent started, in microseconds since 1970; `None`: the clock is off.
    started_usec: Option<u64>,
    /// The last page of each form. Held while one is made, so that all who ask meanwhile wait for that one; who holds it
    /// lets go when its connection ends, in a bounded time.
    kept: Mutex<[Option<Kept>; 2]>,
}

/// A page that is there.
struct Kept {
    page: Arc<str>,
    until: Instant,
}

impl<S: Source> Pages<S> {
    pub(super) fn new(source: S, fresh: Duration) -> Self {
        Self { source, fresh, started_usec: own::now_usec(), kept: Mutex::default() }
    }

    /// Returns a page; `None` when the runtime shuts down.
    pub(super) async fn get(&self, form: Form) -> Option<Arc<str>> {
        let mut kept = self.kept.lock().await;
        let [plain, open] = &mut *kept;
        let kept = if form == Form::OpenMetrics { open } else { plain };
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until > Instant::now()) {
            return Some(Arc::clone(&kept.page));
        }
        let (page, started) = (self.source.page().await, self.started_usec);
        // Not on the thread of the reconcile task.
        let written = spawn_blocking(move || families::write(&page, &Own::read(started), form)).await;
        let page: Arc<str> = written.ok()?.into();
        *kept = Some(Kept { page: Arc::clone(&page), until: Instant::now() + self.fresh });
        Some(page)
    }
}
