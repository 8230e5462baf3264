//! What happens after a container ended: a word, or a table.

use super::Time;
use crate::manifest::form::{Entry, Form, Located, Reader, Value, table, table_form, word_schema};
use crate::model::RestartPolicy;

table! {
    /// What happens after a container ended without being asked to. A word alone is the `policy`. The agent
    /// restarts, not systemd, so that dependencies and health hold for a restart too. A guest that reboots once it has
    /// booted is started again whatever the policy: at once after a run of a minute, else after these waits. One that
    /// reboots before that has failed to start.
    #[foreign(
        "max_attempts" => "write `attempts_max`",
        "max_retries" => "write `attempts_max`",
        "condition" => "write `policy`",
        "window" => "a run of 10 min starts the count anew; that is not configurable",
    )]
    #[short(word_schema::<RestartPolicy>())]
    pub struct Restart {
        /// When it is started again. A job is never started again after a success, so `"always"` is refused there.
        #[key(Means("`\"always\"` for a service, `\"on-failure\"` for a job"), Live, "restart = \"on-failure\"")]
        pub policy: RestartPolicy,

        /// The wait before the first new start; it doubles with each further one. At least 100 ms.
        #[key(Default("\"1s\""), Live, "restart = { delay = \"5s\" }")]
        pub delay: Time,

        /// The longest wait; not shorter than `delay`.
        #[key(Default("\"5min\""), Live, "restart = { delay_max = \"1min\" }")]
        pub delay_max: Time,

        /// New starts in a row after which it is given up; at least 1. A run of 10 min, or reaching health, starts
        /// the count anew.
        #[key(Means("no end for a service, 5 for a job"), Live, "restart = { attempts_max = 10 }")]
        pub attempts_max: u32,
    }
}

table_form!(Restart, "`\"no\"`, `\"on-failure\"`, `\"always\"` or a table such as `{ delay = \"5s\" }`", read_word);

fn read_word(_text: &str, value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Restart> {
    let policy = RestartPolicy::read(value, reader)?;
    let policy = Entry::Read(Located { value: policy, span: value.span() });
    Some(Restart { policy, ..Restart::default() })
}
